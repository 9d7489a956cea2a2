"""Training the auto-encoder: the library against what one would write from the paper. Same weights at the start, same batches.

Both start from weights that the library has trained for some epochs. From fresh weights the loss rests on a plateau, and the step at
which it leaves it hangs on the last bits: there even an exact rewrite in float32 differs by several per cent for an epoch or two.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from aia_lib.config import AutoencoderConfig
from aia_lib.datasets import load_faces, locate
from aia_lib.datasets.celeba import CROP
from aia_lib.datasets.common import scan
from aia_lib.faces import Faces
from aia_lib.machine.device import build, pick_device
from aia_lib.machine.stage import Stage
from aia_lib.models import Decoder, Encoder, latent_shape
from aia_lib.training import train_autoencoder

from .common import as_celeba, clock, draw

BATCH = 32

Weights = tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]


class JPEGs(Dataset):
    """The images as a first script would read them: open, cut, scale, to a tensor, each time anew."""

    def __init__(self, paths: list[Path], size: int) -> None:
        self.paths, self.size = paths, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> torch.Tensor:
        with Image.open(self.paths[row]) as image:
            grey = image.convert("L")
            grey = grey.resize((self.size, self.size), Image.Resampling.BICUBIC, box=CROP.box(*grey.size))
        return torch.from_numpy(np.asarray(grey, dtype=np.float32) / 255)[None]


def measure(
    data: str = "embedded",
    root: str | None = None,
    size: int = 64,
    images: int = 768,
    epochs: int = 4,
    warm_epochs: int = 10,
) -> dict:
    """Images a second of both ways, their ratio, and how far the loss curves are apart.

    Args:
        data, root: a CelebA folder; with "embedded" one is made of the rendered faces, see `common.as_celeba`.
        size, images: of the faces that are trained on.
        epochs: of both ways.
        warm_epochs: before, by the library.
    """
    with tempfile.TemporaryDirectory() as scratch:
        if data == "embedded":
            root = as_celeba(Path(scratch), images, draw(Path(scratch) / "drawn", images))
            return _measure(root, size, images, epochs, warm_epochs, Path(scratch) / "cache")
        return _measure(root, size, images, epochs, warm_epochs, None)


def _measure(root: str | Path, size: int, images: int, epochs: int, warm_epochs: int, cache: Path | None) -> dict:
    faces = load_faces("celeba", root, size=size, cache=cache, progress=False)
    rows = np.random.default_rng(0).permutation(len(faces))[:images]
    faces = faces.subset(np.sort(rows))
    layout = locate("celeba", root)
    names = scan(layout).paths  # in the order of the faces
    paths = [layout.base / names[row] for row in np.sort(rows)]
    device = pick_device()
    config = AutoencoderConfig(epochs=epochs, batch_size=BATCH)

    encoder, decoder = networks(faces.size, device)
    with mock.patch("aia_lib.training.keep_freed_memory"):  # not before the plain way has run: it is for the whole process
        train_autoencoder(faces, encoder, decoder, AutoencoderConfig(epochs=warm_epochs, batch_size=BATCH), progress=False)
    weights = encoder.state_dict(), decoder.state_dict()
    plain_seconds, plain_curve = plain(paths, faces, config, device, weights)
    ours(faces.subset(np.arange(min(4 * BATCH, len(faces)))), AutoencoderConfig(epochs=1, batch_size=BATCH), device, weights)  # allocations
    seconds, curve = ours(faces, config, device, weights)
    with mock.patch("aia_lib.training.autocast", lambda device: contextlib.nullcontext()):
        float32_seconds, float32_curve = ours(faces, config, device, weights)
    again, _ = ours(faces, config, device, weights)
    shown = len(faces) // BATCH * BATCH * epochs
    return {
        "images": len(faces),
        "size": size,
        "warm_epochs": warm_epochs,
        "epochs": epochs,
        "batch_size": BATCH,
        "threads": torch.get_num_threads(),
        "library_images_per_second": [round(shown / s, 1) for s in (seconds, again)],
        "library_float32_images_per_second": round(shown / float32_seconds, 1),
        "plain_images_per_second": round(shown / plain_seconds, 1),
        "ratio": round(plain_seconds / max(seconds, again), 2),
        "ratio_float32": round(plain_seconds / float32_seconds, 2),
        "loss_by_epoch": curve,
        "float32_loss_by_epoch": float32_curve,
        "plain_loss_by_epoch": plain_curve,
        "relative_difference_of_loss": [round(abs(a / b - 1), 5) for a, b in zip(curve, plain_curve, strict=True)],
        "relative_difference_of_float32_loss": [round(abs(a / b - 1), 5) for a, b in zip(float32_curve, plain_curve, strict=True)],
    }


def networks(size: int, device: torch.device, weights: Weights | None = None, plain: bool = False) -> tuple[Encoder, Decoder]:
    """Encoder and decoder, fresh or with copies of `weights`."""
    encoder = build(Encoder, device, 0, "encoder")
    decoder = build(lambda: Decoder(latent_shape(size), plain=plain), device, 0, "decoder")
    if weights:
        encoder.load_state_dict(weights[0])
        decoder.load_state_dict(weights[1])
    return encoder, decoder


def ours(faces: Faces, config: AutoencoderConfig, device: torch.device, weights: Weights) -> tuple[float, list[float]]:
    """Seconds and loss by epoch of the library."""
    encoder, decoder = networks(faces.size, device, weights)
    seconds, history = clock(lambda: train_autoencoder(faces, encoder, decoder, config, progress=False))
    return seconds, history["reconstruction"]


def plain(paths: list[Path], faces: Faces, config: AutoencoderConfig, device: torch.device, weights: Weights) -> tuple[float, list[float]]:
    """The same of a plain loop: float32, contiguous, Eq. 4 step by step, a DataLoader over the JPEG files."""
    encoder, decoder = (network.to(memory_format=torch.contiguous_format) for network in networks(faces.size, device, weights, plain=True))
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=config.learning_rate)
    order = Stage("autoencoder", {}, {}, images=len(paths), batch_size=BATCH, epochs=config.epochs, seed=0, settings={})
    steps = order.steps_per_epoch * config.epochs
    batches = [order.rows(step).tolist() for step in range(steps)]

    def train() -> list[float]:
        losses = []
        for images in DataLoader(JPEGs(paths, faces.size), batch_sampler=batches, num_workers=2):
            images = images.to(device)
            loss = F.binary_cross_entropy_with_logits(decoder(encoder(images)), images)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    seconds, losses = clock(train)
    return seconds, np.mean(np.reshape(losses, (config.epochs, -1)), axis=1).tolist()
