"""The networks of the compact representation (encoder, conditional decoder, adversaries), and what they see in a step of its training."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models import _he_init, upsample_conv


class CompactEncoder(nn.Module):
    """Images to k numbers: the bottleneck head that replaces the 0.75 H W near-pixels of `Encoder`.

    Each image is first standardised (brightness and contrast carry nothing worth telling), and a second channel shows it with
    its local mean removed. Blocks of convolution, batch norm, ReLU and pooling follow until the map is 4 to 7 pixels high, then
    dropout and one linear layer. From 64 pixels on the first convolution has 5 x 5 weights and stride 2, so that the cost grows
    with the detail, not with the pixels. z is centred over the training set (batch norm without weights) and scaled to length k^1/2:
    its coordinates have about unit size, and its length tells nothing. Outside training it is the mean over the image and its mirror
    image, so that both give the same z.

    Args:
        size: height and width of the images, in pixels.
        k: numbers in z.
        width: channels of the first block; the next ones have 2, 3 and 4 times as many.
        dropout: share of the last map's numbers that are dropped in training.
    """

    def __init__(self, size: int, k: int, width: int = 32, dropout: float = 0.2) -> None:
        super().__init__()
        self.size, self.k = size, k
        layers: list[nn.Module] = []
        channels, side, block = 2, size, 1
        if size >= 64:
            layers += [nn.Conv2d(channels, width, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            channels, side = width, (size + 1) // 2
        while side >= 8:
            out = width * min(block, 4)
            layers += [nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.ReLU(), nn.MaxPool2d(2)]
            channels, side, block = out, side // 2, block + 1
        self.trunk = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels * side * side, k, bias=False)
        self.centre = nn.BatchNorm1d(k, affine=False)
        _he_init(self.trunk)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 1, H, W) in [0, 1] to z (N, k)."""
        z = self._embed(images).float()
        if not self.training:
            z = (z + self._embed(images.flip(3)).float()) / 2
        return F.normalize(z) * self.k**0.5

    def _embed(self, images: Tensor) -> Tensor:
        mean, deviation = images.mean((2, 3), keepdim=True), images.std((2, 3), keepdim=True)
        x = (images - mean) / (deviation + 1e-3)  # (N, 1, H, W)
        local = x - F.interpolate(F.adaptive_avg_pool2d(x, 8), x.shape[2:], mode="bilinear", align_corners=False)
        h = self.trunk(torch.cat([x, local], dim=1))  # (N, C, 4, 4) or a little larger
        return self.centre(self.head(self.dropout(h.flatten(1))))  # (N, k)


class ConditionalDecoder(nn.Module):
    """Dec(z, s): representations and the private attribute to images (Moyer et al. 2018).

    A decoder that is told s has no use for an s in z: its reconstruction loss then gives the encoder no reason to keep it.
    The condition is 1 or -1 for the two labels and 0 for "unknown", which is what `decode` of a released z assumes.

    Args:
        size: height and width of the images, in pixels.
        k: numbers in z.
        conditions: private attributes that it is told.
    """

    CHANNELS = 32

    def __init__(self, size: int, k: int, conditions: int = 1) -> None:
        super().__init__()
        self.size, self.conditions = size, conditions
        self.expand = nn.Linear(k + conditions, self.CHANNELS * (size // 4) ** 2)
        self.conv1 = nn.Conv2d(self.CHANNELS, self.CHANNELS, 3, padding=1)
        self.conv2 = nn.Conv2d(self.CHANNELS, 1, 3, padding=1)
        _he_init(self)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        """z (N, k) and conditions (N, conditions), or (N,) for one, to the logits of the images (N, 1, H, W). None: all unknown."""
        condition = z.new_zeros(len(z), self.conditions) if condition is None else condition.to(z).reshape(len(z), self.conditions)
        h = F.leaky_relu(self.expand(torch.cat([z, condition], dim=1))).unflatten(1, (self.CHANNELS, self.size // 4, self.size // 4))
        h = F.leaky_relu(upsample_conv(h, self.conv1))  # (N, C, H/2, W/2)
        return upsample_conv(h, self.conv2)  # (N, 1, H, W)


class VectorAdversary(nn.Module):
    """An adversary that reads a compact z, of one of several kinds: an encoder that fools them all fools no kind's weak spot.

    Args:
        features: numbers in z, of about unit size.
        kind: "linear"; "quadratic" (all products of two coordinates); "rbf" (a linear layer on 512 random cosines, a Gaussian kernel
            of the width of z's typical distance); "mlp" (one hidden layer of 256); "deep" (256, 128 and 64).
    """

    KINDS = ("linear", "quadratic", "rbf", "mlp", "deep")

    def __init__(self, features: int, kind: str = "mlp") -> None:
        super().__init__()
        self.kind = kind
        inputs = features
        if kind == "quadratic":
            rows, columns = torch.triu_indices(features, features)
            self.register_buffer("rows", rows)
            self.register_buffer("columns", columns)
            inputs = features + len(rows)
        elif kind == "rbf":
            inputs = 512  # two z's of length k^1/2 are (2 k)^1/2 apart on average: the median heuristic's width
            self.register_buffer("frequencies", torch.randn(features, inputs) / (2 * features) ** 0.5)
            self.register_buffer("phases", 2 * torch.pi * torch.rand(inputs))
        layers: list[nn.Module] = []
        for units in {"mlp": (256,), "deep": (256, 128, 64)}.get(kind, ()):
            layers += [nn.Linear(inputs, units), nn.ReLU()]
            inputs = units
        self.layers = nn.Sequential(*layers)
        self.output = nn.Linear(inputs, 1)
        _he_init(self.layers)

    def forward(self, z: Tensor) -> Tensor:
        """z (N, k) to one logit an image (N,); positive speaks for label 1."""
        if self.kind == "quadratic":
            z = torch.cat([z, z[:, self.rows] * z[:, self.columns]], dim=1)
        elif self.kind == "rbf":
            z = 2**0.5 * torch.cos(z @ self.frequencies + self.phases)  # (N, 512), of unit size
        return self.output(self.layers(z)).squeeze(1)


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
        _, person, count = np.unique(identity, return_inverse=True, return_counts=True)
        self.start, self.count = (np.cumsum(count) - count)[person], count[person]  # of each row's person, in that order
        self.place = np.argsort(self.order)

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
