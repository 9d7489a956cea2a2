"""Training: the paper's three stages and its adversarial fine-tuning, each a loop over a `Stage` that can be killed and resumed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .config import AdversaryConfig, AutoencoderConfig, FinetuneConfig, SiameseConfig, as_dict
from .faces import Faces, images_only
from .losses import adversary_loss, contrastive_loss, privacy_gain, reconstruction_loss, total_loss
from .machine.device import adam, autocast, device_of, keep_freed_memory, to_images
from .machine.stage import History, Stage
from .models import Decoder, Encoder, SiameseNetwork

Read = Callable[[Tensor], Tensor]
"""What an adversary or a Siamese network reads of a batch of images (N, 1, H, W): g, or the reconstruction of g."""

Folder = str | Path | None
"""Where a stage keeps its checkpoints, from which a later call goes on; None keeps none."""

ON_DEVICE_BYTES = 2 << 30
"""Image sets up to this size live on the accelerator as a whole; larger ones are read batch by batch."""


class FaceBatches:
    """Batches of one set of faces as the networks read them; on the accelerator as a whole where that fits."""

    def __init__(self, faces: Faces, device: torch.device) -> None:
        images_only(faces, "Training a network on faces")
        self.faces, self.device, self.pixels = faces, device, faces.images
        if device.type == "cpu":
            keep_freed_memory()
        elif len(faces) * faces.images[:1].nbytes <= ON_DEVICE_BYTES:
            self.pixels = torch.from_numpy(np.asarray(faces.images)).to(device)
        self.labels = torch.from_numpy(np.asarray(faces.labels(), dtype=np.float32)).to(device)

    def __len__(self) -> int:
        return len(self.faces)

    def images(self, rows: np.ndarray) -> Tensor:
        """The images in `rows`: float32 in [0, 1], (len(rows), 1, H, W)."""
        return to_images(self.pixels[rows], self.device)


def stage_of(
    name: str,
    modules: dict[str, nn.Module],
    optimizers: dict[str, torch.optim.Optimizer],
    data: FaceBatches,
    config: Any,
    seed: int,
    folder: Folder,
    progress: bool,
    epochs: int | None = None,
    pairs: bool = False,
    **settings: object,
) -> Stage:
    """The `Stage` of all images of `data`, with the batch size and, where no other number is named, the epochs of `config`, a dataclass.

    Its checkpoint is taken up again for the same source ("data"), faces, image size, fields of `config` and `settings`. Which attribute
    is private is not among them: a stage that learns it adds `attribute`. Batches of `pairs` have twice as many images.
    """
    faces = data.faces
    return Stage(
        name,
        modules,
        optimizers,
        images=len(data),
        batch_size=(1 + pairs) * config.batch_size,
        epochs=epochs or config.epochs,
        seed=seed,
        settings={"data": faces.source, "faces": faces.fingerprint[:16], "size": faces.size, **as_dict(config), **settings},
        folder=folder,
        progress=progress,
    )


def train_autoencoder(
    faces: Faces, encoder: Encoder, decoder: Decoder, config: AutoencoderConfig, seed: int = 0, folder: Folder = None, progress: bool = True
) -> History:
    """Stage 1, Eq. 5: encoder and decoder learn to reproduce the images. No label is used."""
    device = device_of(encoder)
    data = FaceBatches(faces, device)
    optimizer = adam([*encoder.parameters(), *decoder.parameters()], config.learning_rate, device)
    modules = {"encoder": encoder, "decoder": decoder}
    stage = stage_of("autoencoder", modules, {"adam": optimizer}, data, config, seed, folder, progress)
    for step in stage:
        images = data.images(stage.rows(step))  # (B, 1, H, W)
        with autocast(device):
            logits = decoder(encoder(images))  # (B, 1, H, W)
        loss = reconstruction_loss(logits.float(), images)
        descend(loss, optimizer)
        stage.log(reconstruction=loss)
    return stage.history


def train_adversary(
    faces: Faces,
    adversary: nn.Module,
    read: Read,
    config: AdversaryConfig,
    *,
    seed: int = 0,
    folder: Folder = None,
    name: str = "adversary",
    progress: bool = True,
) -> History:
    """Stage 2, Eq. 6: the adversary learns the private attribute from what it reads. What it reads does not move."""
    device = device_of(adversary)
    adversary.requires_grad_(True)  # a fine-tuning that was interrupted leaves it frozen
    data = FaceBatches(faces, device)
    optimizer = adam(adversary.parameters(), config.learning_rate, device)
    modules, attribute = {"adversary": adversary}, faces.attribute
    stage = stage_of(name, modules, {"adam": optimizer}, data, config, seed, folder, progress, attribute=attribute)
    for step in stage:
        rows = stage.rows(step)
        labels = data.labels[rows]  # (B,)
        with torch.no_grad():
            g = read(data.images(rows))  # (B, k)
        with autocast(device):
            logits = adversary(g)  # (B,)
        loss = adversary_loss(logits.float(), labels)
        descend(loss, optimizer)
        stage.log(adversary=loss, accuracy=_accuracy(logits, labels))
    return stage.history


def train_siamese(
    faces: Faces,
    siamese: SiameseNetwork,
    read: Read,
    config: SiameseConfig,
    *,
    seed: int = 0,
    folder: Folder = None,
    name: str = "siamese",
    progress: bool = True,
) -> History:
    """Stage 3, Eq. 7: the Siamese network learns from pairs whether two images show one person."""
    device = device_of(siamese)
    siamese.requires_grad_(True)
    data = FaceBatches(faces, device)
    optimizer = adam(siamese.parameters(), config.learning_rate, device)
    stage = stage_of(name, {"siamese": siamese}, {"adam": optimizer}, data, config, seed, folder, progress)
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
        descend(loss, optimizer)
        stage.log(siamese=loss)
    return stage.history


def finetune(
    faces: Faces,
    encoder: nn.Module,
    decoder: nn.Module,
    adversary: nn.Module,
    siamese: nn.Module,
    config: FinetuneConfig,
    adversary_config: AdversaryConfig,
    siamese_config: SiameseConfig,
    *,
    seed: int = 0,
    folder: Folder = None,
    name: str = "finetune",
    progress: bool = True,
    take: FinetuneStep | None = None,
) -> History:
    """Stage 4, Eq. 8: min over encoder, decoder (and Siamese), max over the adversary, of gamma L_AE + alpha L_Siamese - beta L_Adv.

    `take` is what does a step; None makes a `FinetuneStep` of the networks and settings.
    """
    networks = {"encoder": encoder, "decoder": decoder, "adversary": adversary, "siamese": siamese}
    take = take or FinetuneStep(*networks.values(), config, adversary_config, siamese_config)
    data = FaceBatches(faces, take.device)
    optimizers = {"adam": take.optimizer, "adversary": take.adversary_optimizer}
    settings = {"attribute": faces.attribute, **take.settings}
    stage = stage_of(name, networks, optimizers, data, config, seed, folder, progress, pairs=True, **settings)
    draw = PairBatches(faces, stage, stage.batch_size // 2, siamese_config.impostors)
    for step in stage:
        a, b, different = draw(step)
        rows = np.concatenate([a, b])
        inputs = [data.images(rows), data.labels[rows], torch.from_numpy(different).to(take.device)]  # (2B, 1, H, W), (2B,), (B,)
        for extra in range(1, config.adversary_steps if take.alternating else 1):
            more = stage.generator("adversary", step, extra).integers(len(data), size=len(rows))
            inputs += [data.images(more), data.labels[more]]
        stage.log(**take(*inputs))
    for module in (adversary, siamese):
        module.requires_grad_(True)
    return stage.history


class FinetuneStep:
    """One step of Eq. 8 on one batch. The networks' weights and the two optimisers are its only state.

    "alternating": the adversary first takes `adversary_steps` steps on g as it is now, then encoder, decoder and Siamese take one
    step down L_Total. "frozen": adversary and Siamese stay as stages 2 and 3 left them. With alpha = 0 the Siamese takes no part: AIA\\T.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        adversary: nn.Module,
        siamese: nn.Module,
        config: FinetuneConfig,
        adversary_config: AdversaryConfig,
        siamese_config: SiameseConfig,
    ) -> None:
        self.encoder, self.decoder, self.adversary, self.siamese = encoder, decoder, adversary, siamese
        self.config, self.margin, self.device = config, siamese_config.margin, device_of(encoder)
        self.weights = config.alpha, config.beta, config.gamma
        self.alternating, self.latent, self.task = config.adversary == "alternating", config.attach == "latent", config.alpha > 0
        self.settings = {"margin": self.margin}
        learners = [{"params": [*encoder.parameters(), *decoder.parameters()], "lr": config.learning_rate}]
        if self.alternating and self.task:
            learners.append({"params": siamese.parameters(), "lr": siamese_config.learning_rate})
        self.optimizer = adam(learners, config.learning_rate, self.device)
        self.adversary_optimizer = adam(adversary.parameters(), adversary_config.learning_rate, self.device)
        for module in (encoder, decoder):
            module.train().requires_grad_(True)
        for module in (adversary, siamese):
            module.train(self.alternating).requires_grad_(self.alternating)

    def __call__(self, images: Tensor, labels: Tensor, different: Tensor, *more: Tensor) -> dict[str, Tensor]:
        """Take the step.

        Args:
            images, labels: of B pairs, first all a, then all b: (2B, 1, H, W) in [0, 1], and (2B,).
            different: 1 where the two images of a pair show two people, (B,).
            more: images and labels of the further adversary steps, in turn.

        Returns:
            The losses before the step, and the adversary's accuracy.
        """
        with autocast(self.device):
            g = self.encoder(images)  # (2B, k)
            logits = self.decoder(g)  # (2B, 1, H, W)
        logits = logits.float()
        seen = g.float() if self.latent else torch.sigmoid(logits)  # what adversary and Siamese read

        if self.alternating:
            self.adversary.requires_grad_(True)
            self._teach_adversary(seen.detach(), labels)
            for extra_images, extra_labels in zip(more[::2], more[1::2], strict=True):
                with torch.no_grad(), autocast(self.device):
                    extra = self.encoder(extra_images)
                    extra = extra if self.latent else torch.sigmoid(self.decoder(extra).float())
                self._teach_adversary(extra.float(), extra_labels)
            self.adversary.requires_grad_(False)  # below, the gradient only passes through it on its way to the encoder

        reconstruction = self.each(lambda x: reconstruction_loss(x, images), logits)
        with autocast(self.device):
            answer = self.adversary(seen)  # (2B,)
        answer = answer.float()
        gain = self.each(lambda o: privacy_gain(o, labels, self.config.adversary_loss), answer)
        match = torch.zeros((), device=self.device)
        if self.task:
            with autocast(self.device):
                z = self.siamese(seen)  # (2B, 128)
            z_a, z_b = z.float().chunk(2, dim=-2)  # (B, 128) each
            match = self.each(lambda a, b: contrastive_loss(a, b, different.to(a), self.margin), z_a, z_b)
        loss = total_loss(reconstruction, match, gain, *self.weights)
        descend(loss, self.optimizer)  # the adversary's weights are not among its parameters: they only move above
        with torch.no_grad():
            known = self.each(lambda o: adversary_loss(o, labels), answer)
            accuracy = self.each(lambda o: _accuracy(o, labels), answer)
        return {"total": loss, "reconstruction": reconstruction, "siamese": match, "adversary": known, "accuracy": accuracy}

    def each(self, loss: Callable[..., Tensor], *values: Tensor) -> Tensor:
        """`loss(*values)`; where many models are trained as one, that of each (see `sweep.stack`)."""
        return loss(*values)

    def _teach_adversary(self, seen: Tensor, labels: Tensor) -> None:
        with autocast(self.device):
            answer = self.adversary(seen)  # (2B,)
        descend(self.each(lambda o: adversary_loss(o, labels), answer.float()), self.adversary_optimizer)


def descend(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    """One step of `optimizer` down the gradient of `loss`; of several models' losses, of their sum: each moves its own weights alone."""
    optimizer.zero_grad()
    loss.sum().backward()
    optimizer.step()


class PairBatches:
    """The training pairs of a stage, `per_step` a step, half of an epoch's genuine, drawn anew each epoch."""

    def __init__(self, faces: Faces, stage: Stage, per_step: int, impostors: str) -> None:
        self.faces, self.stage, self.per_step, self.impostors, self.epoch = faces, stage, per_step, impostors, -1

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows a (B,) and b (B,), and `different` float32 (B,): 1 for two people."""
        epoch, position = divmod(step, self.stage.steps_per_epoch)
        if epoch != self.epoch:
            count = self.stage.steps_per_epoch * self.per_step
            generator = self.stage.generator("pairs", epoch)
            pairs = self.faces.pairs(count + count % 2, impostors=self.impostors, seed=int(generator.integers(2**31)))
            halves = [np.flatnonzero(pairs.different == value) for value in (0, 1)]  # where genuine pairs are few, they come round again
            rows = np.concatenate([np.resize(generator.permutation(half), (count + 1) // 2) for half in halves])
            self.epoch, self.pairs, self.order = epoch, pairs, generator.permutation(rows)[:count]
        rows = self.order[position * self.per_step : (position + 1) * self.per_step]
        return self.pairs.a[rows], self.pairs.b[rows], self.pairs.different[rows].astype(np.float32)


def _accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    known = labels >= 0
    right = ((logits.detach() > 0) == (labels > 0.5)) & known
    return right.sum() / known.sum().clamp(min=1)
