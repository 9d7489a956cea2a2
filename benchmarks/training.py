"""Stages 2 to 4, the library against what one would write from the paper: same weights at the start, same images, same batches.

The plain way is float32 in torch's own layout, Adam and DataLoader as they come, and each formula as it is printed; its images are
decoded once and kept, which a first script often does not. The library sets how this process keeps freed memory
(`training.keep_freed_memory`), and both ways have that: by itself the plain one is slower than here.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from statistics import median
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import ToTensor

from aia_lib.anonymizers import Networks, Original
from aia_lib.config import PROFILES, AdversaryConfig, FinetuneConfig, Profile, SiameseConfig
from aia_lib.datasets import load_faces
from aia_lib.faces import Faces
from aia_lib.machine.stage import Stage
from aia_lib.models import Decoder
from aia_lib.training import PairBatches, finetune, train_adversary, train_siamese

from .common import devices, in_turn, ratio

LIBRARY, FLOAT32, PLAIN = "library", "library, float32", "plain"


def measure(
    data: str = "embedded",
    root: str | None = None,
    size: int = 32,
    images: int = 768,
    epochs: int = 3,
    warm_epochs: int = 7,
    rounds: int = 3,
) -> dict:
    """Seconds and loss by epoch of each stage, on the CPU and on a GPU where there is one.

    Args:
        data, root, size, images: the faces; all of them are trained on.
        epochs: of each stage.
        warm_epochs: of the auto-encoder before, by the library.
        rounds: how often each way takes its turn.
    """
    faces = load_faces(data, root, size=size, limit=images, progress=False)
    base = PROFILES["book"]
    profile = dataclasses.replace(
        base,
        size=size,
        autoencoder=dataclasses.replace(base.autoencoder, epochs=warm_epochs),
        **{stage: dataclasses.replace(getattr(base, stage), epochs=epochs) for stage in ("adversary", "siamese", "finetune")},
    )
    figures: dict = {
        "images": len(faces),
        "size": size,
        "epochs": epochs,
        "rounds": rounds,
        "threads": torch.get_num_threads(),
        "stages": {},
    }
    for device in devices():
        trained = Original(profile, 0, device).fit(faces, progress=False).networks
        fresh = Networks(size, device=device)
        fresh.encoder, fresh.decoder = trained.encoder, trained.decoder
        for stage, shown in (("adversary", len(faces)), ("siamese", 2 * len(faces)), ("finetune", len(faces))):
            start = trained if stage == "finetune" else fresh
            figures["stages"].setdefault(stage, {})[device.type] = _compare(stage, faces, start, profile, epochs * shown, rounds)
    return figures


def _compare(stage: str, faces: Faces, start: Networks, profile: Profile, shown: int, rounds: int) -> dict:
    """The ways of one stage on one device. `shown`: images that the networks see in all."""
    plain = {"adversary": plain_adversary, "siamese": plain_siamese, "finetune": plain_finetune}[stage]
    own = {"adversary": _adversary, "siamese": _siamese, "finetune": _finetune}[stage]
    pictures = [Image.fromarray(image[0]) for image in np.asarray(faces.images)]

    def library() -> list[float]:
        return own(faces, copy.deepcopy(start), profile)

    def in_float32() -> list[float]:
        with mock.patch("aia_lib.training.autocast", lambda device: contextlib.nullcontext()):
            return library()

    def by_hand() -> list[float]:
        return plain(faces, pictures, out_of_the_box(start), profile)

    library()  # memory is taken, kernels are chosen
    seconds, curves = in_turn({PLAIN: by_hand, LIBRARY: library, FLOAT32: in_float32}, rounds)
    return {
        "seconds": seconds,
        "images_per_second": {way: round(shown / median(values), 1) for way, values in seconds.items()},
        "ratio": ratio(seconds, PLAIN, LIBRARY),
        "ratio_float32": ratio(seconds, PLAIN, FLOAT32),
        "loss_by_epoch": curves,
        "relative_difference_of_loss": {
            way: [round(abs(a / b - 1), 5) for a, b in zip(curves[way], curves[PLAIN], strict=True)] for way in (LIBRARY, FLOAT32)
        },
    }


# --- the library ------------------------------------------------------------------------------------------------------


def _adversary(faces: Faces, nets: Networks, profile: Profile) -> list[float]:
    return train_adversary(faces, nets.adversary, nets.encode, profile.adversary, progress=False)["adversary"]


def _siamese(faces: Faces, nets: Networks, profile: Profile) -> list[float]:
    return train_siamese(faces, nets.siamese, nets.encode, profile.siamese, progress=False)["siamese"]


def _finetune(faces: Faces, nets: Networks, profile: Profile) -> list[float]:
    return finetune(faces, *nets.modules().values(), profile.finetune, profile.adversary, profile.siamese, progress=False)["total"]


# --- as one would write it --------------------------------------------------------------------------------------------


class Pictures(Dataset):
    """Images and labels."""

    def __init__(self, images: list[Image.Image], labels: np.ndarray) -> None:
        self.images, self.labels, self.to_tensor = images, labels.astype(np.float32), ToTensor()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, np.float32]:
        return self.to_tensor(self.images[row]), self.labels[row]


class PicturePairs(Dataset):
    """Two images, their labels, and whether they show different people."""

    def __init__(self, pictures: Pictures, a: np.ndarray, b: np.ndarray, different: np.ndarray) -> None:
        self.pictures, self.a, self.b, self.different = pictures, a, b, different

    def __len__(self) -> int:
        return len(self.a)

    def __getitem__(self, row: int) -> tuple:
        return *self.pictures[self.a[row]], *self.pictures[self.b[row]], self.different[row]


def out_of_the_box(start: Networks) -> Networks:
    """A copy of the networks in torch's own memory layout, the decoder as Eq. 4 prints it."""
    nets = copy.deepcopy(start)
    decoder = Decoder(nets.map_shape, plain=True).to(nets.device)
    decoder.load_state_dict(nets.decoder.state_dict())
    nets.decoder = decoder
    for name, module in nets.modules().items():
        setattr(nets, name, module.to(memory_format=torch.contiguous_format).train())
    return nets


def _order(name: str, faces: Faces, batch_size: int, epochs: int) -> Stage:
    """The library's stage of that name, which knows the order of the images."""
    return Stage(name, {}, {}, images=len(faces), batch_size=batch_size, epochs=epochs, seed=0, settings={}, progress=False)


def _pairs(faces: Faces, pictures: Pictures, stage: Stage, per_step: int, impostors: str) -> DataLoader:
    """The library's pairs of all epochs, one after the other."""
    draw = PairBatches(faces, stage, per_step, impostors)
    drawn = [draw(step) for step in range(stage.epochs * stage.steps_per_epoch)]
    return DataLoader(PicturePairs(pictures, *(np.concatenate(part) for part in zip(*drawn, strict=True))), batch_size=per_step)


def _by_epoch(losses: list[float], epochs: int) -> list[float]:
    return np.mean(np.reshape(losses, (epochs, -1)), axis=1).tolist()


def contrastive(z_a: torch.Tensor, z_b: torch.Tensor, different: torch.Tensor, margin: float) -> torch.Tensor:
    """Eq. 7."""
    distance = F.pairwise_distance(z_a, z_b)
    return 0.5 * ((1 - different) * distance**2 + different * torch.clamp(margin - distance, min=0) ** 2).mean()


def plain_adversary(faces: Faces, images: list[Image.Image], nets: Networks, profile: Profile) -> list[float]:
    """Stage 2: the six convolutions of section 5.2 on a frozen encoder's g."""
    config: AdversaryConfig = profile.adversary
    order = _order("adversary", faces, config.batch_size, config.epochs)
    batches = [order.rows(step).tolist() for step in range(config.epochs * order.steps_per_epoch)]
    encoder, adversary, device = nets.encoder, nets.adversary, nets.device
    optimizer = torch.optim.Adam(adversary.parameters(), lr=config.learning_rate)
    losses = []
    for x, label in DataLoader(Pictures(images, faces.labels()), batch_sampler=batches):
        x, label = x.to(device), label.to(device)
        with torch.no_grad():
            g = encoder(x)
        loss = F.binary_cross_entropy_with_logits(adversary(g), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return _by_epoch(losses, config.epochs)


def plain_siamese(faces: Faces, images: list[Image.Image], nets: Networks, profile: Profile) -> list[float]:
    """Stage 3, Eq. 7, on a frozen encoder's g."""
    config: SiameseConfig = profile.siamese
    order = _order("siamese", faces, config.batch_size, config.epochs)
    encoder, siamese, device = nets.encoder, nets.siamese, nets.device
    optimizer = torch.optim.Adam(siamese.parameters(), lr=config.learning_rate)
    losses = []
    for a, _, b, _, different in _pairs(faces, Pictures(images, faces.labels()), order, order.batch_size, config.impostors):
        x, different = torch.cat([a, b]).to(device), different.to(device)
        with torch.no_grad():
            g = encoder(x)
        z_a, z_b = siamese(g).chunk(2)
        loss = contrastive(z_a, z_b, different, config.margin)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return _by_epoch(losses, config.epochs)


def plain_finetune(faces: Faces, images: list[Image.Image], nets: Networks, profile: Profile) -> list[float]:
    """Stage 4, Eq. 8, with an adversary and a Siamese network that keep learning."""
    config: FinetuneConfig = profile.finetune
    order = _order("finetune", faces, 2 * config.batch_size, config.epochs)
    encoder, decoder, adversary, siamese = nets.modules().values()
    device = nets.device
    optimizer = torch.optim.Adam(
        [
            {"params": [*encoder.parameters(), *decoder.parameters()], "lr": config.learning_rate},
            {"params": siamese.parameters(), "lr": profile.siamese.learning_rate},
        ]
    )
    adversary_optimizer = torch.optim.Adam(adversary.parameters(), lr=profile.adversary.learning_rate)
    losses = []
    for a, label_a, b, label_b, different in _pairs(
        faces, Pictures(images, faces.labels()), order, order.batch_size // 2, profile.siamese.impostors
    ):
        x, label, different = torch.cat([a, b]).to(device), torch.cat([label_a, label_b]).to(device), different.to(device)
        g = encoder(x)
        logits = decoder(g)

        adversary_loss = F.binary_cross_entropy_with_logits(adversary(g.detach()), label)
        adversary_optimizer.zero_grad()
        adversary_loss.backward()
        adversary_optimizer.step()

        z_a, z_b = siamese(g).chunk(2)
        reconstruction = F.binary_cross_entropy_with_logits(logits, x)
        match = contrastive(z_a, z_b, different, profile.siamese.margin)
        loss = reconstruction + config.alpha * match - config.beta * F.binary_cross_entropy_with_logits(adversary(g), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return _by_epoch(losses, config.epochs)
