"""What the encoder and the adversaries of a compact representation see in a step: changed images, partners, remembered rows."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


def augment(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Images (N, 1, H, W) in [0, 1], each mirrored (every second), moved, turned, scaled, lit from a side, noisy, a patch of it hidden.

    What stays is what two photographs of one person share. Sizes are relative to the image: 3 % moves, 5 degrees, 5 % scale.
    """
    n, _, height, width = images.shape

    def tensor(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(images.device)

    def draw(scale: float, *shape: int) -> Tensor:
        return tensor(rng.normal(0, scale, (n, *shape)))

    angle, scale = draw(np.radians(5)), draw(0.05).exp()
    flip = tensor(np.where(rng.random(n) < 0.5, -1.0, 1.0))
    move = draw(0.06, 2)
    rows = [
        torch.stack([flip * scale * angle.cos(), -scale * angle.sin(), move[:, 0]], dim=1),
        torch.stack([flip * scale * angle.sin(), scale * angle.cos(), move[:, 1]], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), [n, 1, height, width], align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    axes = torch.linspace(-1, 1, height), torch.linspace(-1, 1, width)
    y, x = (place.to(images.device) for place in torch.meshgrid(*axes, indexing="ij"))  # (H, W)
    slope = draw(0.12, 2)[:, :, None, None]
    light = 1 + slope[:, :1] * x + slope[:, 1:] * y  # (N, 1, H, W)
    noisy = moved * light + draw(1.0, 1, height, width) * tensor(rng.uniform(0, 0.04, (n, 1, 1, 1)))
    centre = tensor(rng.uniform(-1, 1, (n, 2, 1, 1)))
    half = tensor(np.where(rng.random(n) < 0.5, rng.uniform(0.1, 0.3, n), 0.0))[:, None, None]
    hidden = ((x - centre[:, 0]).abs() < half) & ((y - centre[:, 1]).abs() < half)  # (N, H, W)
    noisy = torch.where(hidden[:, None], moved.mean((2, 3), keepdim=True), noisy)
    return noisy.clamp(0, 1).contiguous(memory_format=torch.channels_last)


class Partners:
    """For each image another one of the same person, or itself where there is no other."""

    def __init__(self, identity: np.ndarray) -> None:
        self.order = np.argsort(identity, kind="stable")
        _, start, count = np.unique(identity[self.order], return_index=True, return_counts=True)
        person = np.empty(len(identity), dtype=np.int64)
        person[self.order] = np.repeat(np.arange(len(count)), count)
        self.start, self.count = start[person], count[person]  # of each row's person
        self.place = np.empty(len(identity), dtype=np.int64)
        self.place[self.order] = np.arange(len(identity))

    def __call__(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        start, count = self.start[rows], self.count[rows]
        step = 1 + (rng.random(len(rows)) * (count - 1)).astype(np.int64)  # 1 .. count - 1; 1 where there is one image
        return self.order[start + (self.place[rows] - start + step) % count]


class Memory(nn.Module):
    """The latest representations and their labels, so that adversaries learn from more than the batch without another pass of the encoder.

    Buffers, so that a checkpoint holds them.
    """

    def __init__(self, rows: int, k: int, attributes: int = 1) -> None:
        super().__init__()
        self.register_buffer("z", torch.zeros(rows, k))
        self.register_buffer("labels", torch.full((rows, attributes), -1.0))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def add(self, z: Tensor, labels: Tensor) -> None:
        """Put z (B, k) with labels (B, m) in the place of the oldest."""
        rows = (int(self.seen) + torch.arange(len(z), device=z.device)) % len(self.z)
        self.z[rows], self.labels[rows] = z.detach().float(), labels
        self.seen += len(z)

    def draw(self, count: int, rng: np.random.Generator, attribute: int = 0) -> tuple[Tensor, Tensor]:
        """`count` remembered rows, as many of one label as of the other (so that an adversary gains nothing from the frequencies).

        z (count, k) and the labels (count,) of the attribute of that number; rows without one do not come.
        """
        labels = self.labels[:, attribute]
        values = labels.cpu().numpy()
        known = [np.flatnonzero(values == value) for value in (0, 1)]
        halves = [rng.choice(rows, count // 2) for rows in known if len(rows)]
        rows = torch.from_numpy(np.concatenate(halves) if halves else np.zeros(0, dtype=np.int64)).to(self.z.device)
        return self.z[rows], labels[rows]
