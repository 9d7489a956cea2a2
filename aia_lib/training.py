"""Training: the paper's three stages and its adversarial fine-tuning, each a loop over a `Stage` that can be killed and resumed.

Everything random in step i is drawn from a generator seeded with (seed, stage, i): a resumed run needs no more than the
weights, the optimisers' state and the number of the step to go on exactly where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .config import AdversaryConfig, AutoencoderConfig, FinetuneConfig, SiameseConfig, as_dict
from .faces import Faces
from .losses import adversary_loss, contrastive_loss, privacy_gain, reconstruction_loss, total_loss
from .machine.device import _device_of, adam, autocast, keep_freed_memory, to_images
from .machine.stage import History, Stage
from .models import CNNAdversary, Decoder, Encoder, MLPAdversary, SiameseNetwork

Read = Callable[[Tensor], Tensor]
"""What an adversary or a Siamese network reads of a batch of images (N, 1, H, W): g, or the reconstruction of g."""

ON_DEVICE_BYTES = 2 << 30
"""Image sets up to this size live on the accelerator as a whole; larger ones are read batch by batch."""


class FaceBatches:
    """Batches of one set of faces as the networks read them; on the accelerator as a whole where that fits."""

    def __init__(self, faces: Faces, device: torch.device) -> None:
        self.faces, self.device = faces, device
        if device.type == "cpu":
            keep_freed_memory()
        self.pixels = faces.images
        if isinstance(faces.images, np.ndarray) and not isinstance(faces.images, np.memmap):
            self.pixels = torch.from_numpy(faces.images)
        if device.type != "cpu" and len(faces) * faces.images[:1].nbytes <= ON_DEVICE_BYTES:
            self.pixels = torch.from_numpy(np.asarray(faces.images)).to(device)
        self.labels = torch.from_numpy(np.asarray(faces.labels(), dtype=np.float32)).to(device)

    def __len__(self) -> int:
        return len(self.faces)

    def images(self, rows: np.ndarray) -> Tensor:
        """The images in `rows`: float32 in [0, 1], (len(rows), 1, H, W)."""
        return to_images(self.pixels[rows], self.device)


def stage_settings(faces: Faces, config: object) -> dict:
    """What a stage's checkpoint must have been made with to be taken up again, for `Stage`: the faces and the stage's settings.

    Args:
        faces: what the stage learns from.
        config: the stage's settings, a dataclass.

    Returns:
        The source ("data"), 16 digits of the faces' fingerprint ("faces"), the images' side in pixels ("size"), and each field of
        `config`. Which attribute is the private one is not told: a stage that learns it adds ``"attribute": faces.attribute``.
    """
    return {"data": faces.source, "faces": faces.fingerprint[:16], "size": faces.size, **as_dict(config)}


def train_autoencoder(
    faces: Faces,
    encoder: Encoder,
    decoder: Decoder,
    config: AutoencoderConfig,
    *,
    seed: int = 0,
    folder: str | Path | None = None,
    progress: bool = True,
) -> History:
    """Stage 1, Eq. 5: encoder and decoder learn to reproduce the images. No label is used."""
    device = _device_of(encoder)
    data = FaceBatches(faces, device)
    optimizer = adam([*encoder.parameters(), *decoder.parameters()], config.learning_rate, device)
    stage = Stage(
        "autoencoder",
        {"encoder": encoder, "decoder": decoder},
        {"adam": optimizer},
        images=len(data),
        batch_size=config.batch_size,
        epochs=config.epochs,
        seed=seed,
        settings=stage_settings(faces, config),
        folder=folder,
        progress=progress,
    )
    for step in stage:
        images = data.images(stage.rows(step))  # (B, 1, H, W)
        with autocast(device):
            logits = decoder(encoder(images))  # (B, 1, H, W)
        loss = reconstruction_loss(logits.float(), images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        stage.log(reconstruction=loss)
    return stage.history


def train_adversary(
    faces: Faces,
    adversary: CNNAdversary | MLPAdversary,
    read: Read,
    config: AdversaryConfig,
    *,
    seed: int = 0,
    folder: str | Path | None = None,
    name: str = "adversary",
    progress: bool = True,
) -> History:
    """Stage 2, Eq. 6: the adversary learns the private attribute from what it reads. What it reads does not move."""
    device = _device_of(adversary)
    adversary.requires_grad_(True)  # a fine-tuning that was interrupted leaves it frozen
    data = FaceBatches(faces, device)
    optimizer = adam(adversary.parameters(), config.learning_rate, device)
    stage = Stage(
        name,
        {"adversary": adversary},
        {"adam": optimizer},
        images=len(data),
        batch_size=config.batch_size,
        epochs=config.epochs,
        seed=seed,
        settings={**stage_settings(faces, config), "attribute": faces.attribute},
        folder=folder,
        progress=progress,
    )
    for step in stage:
        rows = stage.rows(step)
        labels = data.labels[rows]  # (B,)
        with torch.no_grad():
            g = read(data.images(rows))  # (B, k)
        with autocast(device):
            logits = adversary(g)  # (B,)
        loss = adversary_loss(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        stage.log(adversary=loss, accuracy=_accuracy(logits, labels))
    return stage.history


def train_siamese(
    faces: Faces,
    siamese: SiameseNetwork,
    read: Read,
    config: SiameseConfig,
    *,
    seed: int = 0,
    folder: str | Path | None = None,
    name: str = "siamese",
    progress: bool = True,
) -> History:
    """Stage 3, Eq. 7: the Siamese network learns from pairs whether two images show one person."""
    device = _device_of(siamese)
    siamese.requires_grad_(True)
    data = FaceBatches(faces, device)
    optimizer = adam(siamese.parameters(), config.learning_rate, device)
    stage = Stage(
        name,
        {"siamese": siamese},
        {"adam": optimizer},
        images=len(data),
        batch_size=config.batch_size,
        epochs=config.epochs,
        seed=seed,
        settings=stage_settings(faces, config),
        folder=folder,
        progress=progress,
    )
    draw = PairBatches(faces, stage, stage.batch_size, config.impostors)
    siamese.train()
    for step in stage:
        a, b, different = draw(step)
        with torch.no_grad():
            g = read(data.images(np.concatenate([a, b])))  # (2B, k)
        with autocast(device):
            z = siamese(g)  # (2B, 128)
        z_a, z_b = z.float().chunk(2)  # (B, 128) each
        loss = contrastive_loss(z_a, z_b, torch.from_numpy(different).to(z_a), config.margin)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        stage.log(siamese=loss)
    return stage.history


def finetune(
    faces: Faces,
    encoder: Encoder,
    decoder: Decoder,
    adversary: nn.Module,
    siamese: SiameseNetwork,
    config: FinetuneConfig,
    adversary_config: AdversaryConfig,
    siamese_config: SiameseConfig,
    *,
    seed: int = 0,
    folder: str | Path | None = None,
    name: str = "finetune",
    progress: bool = True,
) -> History:
    """Stage 4, Eq. 8: min over encoder, decoder (and Siamese), max over the adversary, of gamma L_AE + alpha L_Siamese - beta L_Adv.

    "alternating": each step the adversary first takes `adversary_steps` steps on g as it is now, then encoder, decoder and
    Siamese take one step down L_Total. "frozen": adversary and Siamese stay as stages 2 and 3 left them.
    With alpha = 0 the Siamese takes no part: AIA\\T.
    """
    device = _device_of(encoder)
    data = FaceBatches(faces, device)
    alternating, latent, task = config.adversary == "alternating", config.attach == "latent", config.alpha > 0

    learners = [{"params": [*encoder.parameters(), *decoder.parameters()], "lr": config.learning_rate}]
    if alternating and task:
        learners.append({"params": siamese.parameters(), "lr": siamese_config.learning_rate})
    optimizer = adam(learners, config.learning_rate, device)
    adversary_optimizer = adam(adversary.parameters(), adversary_config.learning_rate, device)
    stage = Stage(
        name,
        {"encoder": encoder, "decoder": decoder, "adversary": adversary, "siamese": siamese},
        {"adam": optimizer, "adversary": adversary_optimizer},
        images=len(data),
        batch_size=2 * config.batch_size,
        epochs=config.epochs,
        seed=seed,
        settings={**stage_settings(faces, config), "attribute": faces.attribute, "margin": siamese_config.margin},
        folder=folder,
        progress=progress,
    )
    draw = PairBatches(faces, stage, stage.batch_size // 2, siamese_config.impostors)
    for module in (encoder, decoder):
        module.train()
    for module in (adversary, siamese):
        module.train(alternating).requires_grad_(alternating)

    for step in stage:
        a, b, different = draw(step)
        rows = np.concatenate([a, b])
        images, labels = data.images(rows), data.labels[rows]  # (2B, 1, H, W), (2B,)
        with autocast(device):
            g = encoder(images)  # (2B, k)
            logits = decoder(g)  # (2B, 1, H, W)
        logits = logits.float()
        seen = g.float() if latent else torch.sigmoid(logits)  # what adversary and Siamese read

        if alternating:
            adversary.requires_grad_(True)
            for extra in range(config.adversary_steps):
                if extra == 0:
                    target, target_labels = seen.detach(), labels
                else:
                    more = stage.generator("adversary", step, extra).integers(len(data), size=len(rows))
                    with torch.no_grad(), autocast(device):
                        target = encoder(data.images(more))
                        target = target if latent else torch.sigmoid(decoder(target).float())
                    target, target_labels = target.float(), data.labels[more]
                with autocast(device):
                    answer = adversary(target)  # (2B,)
                adversary_optimizer.zero_grad()
                adversary_loss(answer.float(), target_labels).backward()
                adversary_optimizer.step()
            adversary.requires_grad_(False)  # below, the gradient only passes through it on its way to the encoder

        reconstruction = reconstruction_loss(logits, images)
        with autocast(device):
            answer = adversary(seen)  # (2B,)
        answer = answer.float()
        gain = privacy_gain(answer, labels, config.adversary_loss)
        match = torch.zeros((), device=device)
        if task:
            with autocast(device):
                z = siamese(seen)  # (2B, 128)
            z_a, z_b = z.float().chunk(2)  # (B, 128) each
            match = contrastive_loss(z_a, z_b, torch.from_numpy(different).to(z_a), siamese_config.margin)
        loss = total_loss(reconstruction, match, gain, config.alpha, config.beta, config.gamma)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()  # the adversary's weights are not among its parameters: they only move in the loop above
        stage.log(
            total=loss,
            reconstruction=reconstruction,
            siamese=match,
            adversary=adversary_loss(answer.detach(), labels),
            accuracy=_accuracy(answer, labels),
        )
    for module in (adversary, siamese):
        module.requires_grad_(True)
    return stage.history


class PairBatches:
    """The training pairs of a stage, `per_step` a step, half of an epoch's genuine, drawn anew each epoch."""

    def __init__(self, faces: Faces, stage: Stage, per_step: int, impostors: str) -> None:
        self.faces, self.stage, self.per_step, self.impostors, self.epoch = faces, stage, per_step, impostors, -1

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows a (B,) and b (B,), and `different` float32 (B,): 1 for two people."""
        epoch, position = divmod(step, self.stage.steps_per_epoch)
        if epoch != self.epoch:
            count = self.stage.steps_per_epoch * self.per_step
            self.epoch, self.pairs = epoch, _draw_pairs(self.faces, count, self.impostors, self.stage.generator("pairs", epoch))
        cut = slice(position * self.per_step, (position + 1) * self.per_step)
        a, b, different = self.pairs
        return a[cut], b[cut], different[cut]


def _draw_pairs(faces: Faces, count: int, impostors: str, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exactly `count` pairs in random order: where fewer genuine pairs exist than half of that, they come round again."""
    pairs = faces.pairs(count + count % 2, impostors=impostors, seed=int(generator.integers(2**31)))
    halves = [np.flatnonzero(pairs.different == value) for value in (0, 1)]
    rows = np.concatenate([np.resize(generator.permutation(half), (count + 1) // 2) for half in halves])
    rows = generator.permutation(rows)[:count]
    return pairs.a[rows], pairs.b[rows], pairs.different[rows].astype(np.float32)


def _accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    known = labels >= 0
    right = ((logits.detach() > 0) == (labels > 0.5)) & known
    return right.sum() / known.sum().clamp(min=1)
