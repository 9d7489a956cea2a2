"""The reconstruction attack: a fresh decoder rebuilds the faces from g, and a verifier of real images says whether they are recognised.

The decoder is trained on the attack people, whose images an attacker has and can have anonymized. Three rivals are compared on val by
their squared error: a ridge regression from g to pixels, a convolutional network, and, where there is one, the anonymizer's own `decode`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from ..faces import Pairs, Splits, images_only
from ..machine.device import pick_device, seeded
from ..machine.files import UserError
from ..machine.fit_best import fit_best
from ..models import upsample_conv
from ..statistics import roc_auc
from ..verification import fit_verifier
from .creep import narrow, ridge
from .released import Released, reconstruct, standardiser

LARGEST = 64  # larger images are averaged down to this many pixels a side before they are rebuilt

MOST_IMAGES = 20_000  # attack images, mirrored ones included, that a decoder is trained on, at most

VERIFIED_AT = 32  # side in pixels at which the verifier compares rebuilt with real images: what it needs, and quick

PENALTIES = (1e-2, 1e-1, 1.0)


def psnr(images: np.ndarray, rebuilt: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio of each image in decibels, 10 log10(1 / mean squared error), (N,); 100 for equal images.

    Args:
        images, rebuilt: values in [0, 1], (N, 1, H, W).
    """
    error = ((images.astype(np.float64) - rebuilt) ** 2).mean((1, 2, 3))
    return 10 * np.log10(1 / np.maximum(error, 1e-10))


def ssim(images: np.ndarray, rebuilt: np.ndarray) -> np.ndarray:
    """Structural similarity of each image, the mean over all windows that lie inside, at most 1, (N,) (Wang et al. 2004, Eq. 13).

    Args:
        images, rebuilt: values in [0, 1], (N, 1, H, W), H and W at least 11.
    """
    if min(images.shape[2:]) < 11 or images.shape != rebuilt.shape:
        raise UserError(f"SSIM compares images of one shape, at least 11 x 11 pixels, not {images.shape} and {rebuilt.shape}.")
    offset = torch.arange(11, dtype=torch.float64) - 5  # a Gaussian window, 11 x 11, of standard deviation 1.5 pixels
    line = torch.exp(-(offset**2) / (2 * 1.5**2))
    window = (line / line.sum()).outer(line / line.sum())[None, None]  # (1, 1, 11, 11)
    values = []
    for start in range(0, len(images), 256):
        x, y = (torch.from_numpy(a[start : start + 256].astype(np.float64)) for a in (images, rebuilt))

        def mean(of: Tensor) -> Tensor:
            return F.conv2d(of, window)  # (B, 1, H - 10, W - 10)

        mx, my = mean(x), mean(y)
        vx, vy, cxy = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
        c1, c2 = 0.01**2, 0.03**2
        similarity = ((2 * mx * my + c1) * (2 * cxy + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))
        values.append(similarity.mean((1, 2, 3)).numpy())
    return np.concatenate(values)


class _Doubled(nn.Conv2d):
    """Twice the sides, then the convolution."""

    def forward(self, maps: Tensor) -> Tensor:
        return upsample_conv(maps, self)


class FreshDecoder(nn.Module):
    """Standardised representations (N, k) to images (N, 1, size, size) in [0, 1]: upsampling convolutions from a small map.

    Args:
        features: k.
        size: side of the images in pixels.
        shape: the map (channels, height, width) that the features flatten; without it, a linear layer makes one.
        width: channels of the first map; each doubling of the sides halves them, down to 16.
    """

    def __init__(self, features: int, size: int, shape: tuple[int, int, int] | None = None, width: int = 64) -> None:
        super().__init__()
        self.size = size
        if shape is None:
            side = max(2, size // 8)
            self.start = nn.Sequential(nn.Linear(features, width * side * side), nn.Unflatten(1, (width, side, side)))
        else:
            side = min(shape[1:])
            self.start = nn.Sequential(nn.Unflatten(1, tuple(shape)), nn.Conv2d(shape[0], width, 3, padding=1))
        layers: list[nn.Module] = [nn.BatchNorm2d(width), nn.LeakyReLU(0.1)]
        while 2 * side <= size:
            narrower = max(16, width // 2)
            layers += [_Doubled(width, narrower, 3, padding=1), nn.BatchNorm2d(narrower), nn.LeakyReLU(0.1)]
            width, side = narrower, 2 * side
        self.blocks = nn.Sequential(*layers, nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, features: Tensor) -> Tensor:
        """Features (N, k) to images (N, 1, size, size)."""
        images = self.blocks(self.start(features))
        if images.shape[2:] != (self.size, self.size):
            images = F.interpolate(images, (self.size, self.size), mode="bilinear")
        return torch.sigmoid(images)


def shrunk(images: np.ndarray, side: int) -> np.ndarray:
    """Images (N, 1, S, S), uint8 or float32 in [0, 1], as float32 (N, 1, s, s) in [0, 1], averaged down to at most `side` pixels."""
    parts = []
    for start in range(0, len(images), 1024):
        block = torch.from_numpy(np.ascontiguousarray(images[start : start + 1024]))
        block = block.float() / 255 if block.dtype == torch.uint8 else block
        parts.append((F.adaptive_avg_pool2d(block, side) if side < block.shape[-1] else block).numpy())
    return np.concatenate(parts)


def rebuild(
    released: Released, splits: Splits, decode: Callable | None, steps: int, seed: int
) -> tuple[str, dict[str, np.ndarray], dict[str, float], dict[str, np.ndarray], str]:
    """Train the decoders and keep the one with the least squared error on val.

    Returns: its name; its images of val and test, float32 (N, 1, S, S); the errors on val; the real images of attack, val and test at
    that size; and why the anonymizer's `decode` was refused, or "".
    """
    images_only(splits.test, "Rebuilding faces")
    size = min(splits.test.size, LARGEST)
    real = {part: shrunk(getattr(splits, part).images, size) for part in ("attack", "val", "test")}
    attack = released.sets["attack"]
    images = real["attack"] if attack.repeats == 1 else np.concatenate([real["attack"], real["attack"][..., ::-1]])
    some = np.random.default_rng(seed).permutation(len(images))[:MOST_IMAGES]
    features = {part: data.features for part, data in released.sets.items()}
    made = {
        "ridge regression": _ridge(narrow(released), images, some, real["val"]),
        "convolutional decoder": _convolutional(features, images, some, real["val"], attack.map_shape, steps, seed),
    }
    refused = ""
    if callable(decode):
        try:
            decoded = {part: reconstruct(decode, released.sets[part].g, size).clip(0, 1) for part in ("val", "test")}
            if (shape := decoded["val"].shape[2:]) == (size, size):
                made["its own decoder"] = decoded
            else:
                refused = f"its images are {shape[1]} x {shape[0]} pixels, the faces {size} x {size}"
        except UserError as error:
            refused = str(error)
    errors = {name: float(((result["val"] - real["val"]) ** 2).mean()) for name, result in made.items()}
    best = min(errors, key=errors.get)
    return best, made[best], errors, real, refused


def _ridge(inputs: dict[str, np.ndarray], images: np.ndarray, some: np.ndarray, real_val: np.ndarray) -> dict[str, np.ndarray]:
    def make(model: Ridge, part: str) -> np.ndarray:
        return model.predict(inputs[part]).clip(0, 1).reshape(-1, *images.shape[1:])

    models = [ridge(penalty, inputs["attack"][some], images[some].reshape(len(some), -1)) for penalty in PENALTIES]
    best = min(models, key=lambda model: float(((make(model, "val") - real_val) ** 2).mean()))
    return {part: make(best, part).astype(np.float32) for part in ("val", "test")}


def _convolutional(
    features: dict, images: np.ndarray, some: np.ndarray, real_val: np.ndarray, map_shape: tuple | None, steps: int, seed: int
) -> dict[str, np.ndarray]:
    device, rng, size = pick_device(), np.random.default_rng(seed), min(64, len(some))
    with seeded(seed, "fresh decoder"):
        network = FreshDecoder(features["attack"].shape[1], images.shape[-1], map_shape).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    inputs, targets = torch.from_numpy(features["attack"]), torch.from_numpy(np.ascontiguousarray(images))

    def make(part: str) -> np.ndarray:
        network.eval()
        with torch.no_grad():
            return np.concatenate([network(block.to(device)).cpu().numpy() for block in torch.from_numpy(features[part]).split(256)])

    blocks = [range(steps)[start : start + max(1, steps // 8)] for start in range(0, steps, max(1, steps // 8))]

    def learn(block: int) -> None:
        for _ in blocks[block]:
            rows = torch.from_numpy(rng.choice(some, size, replace=False))
            loss = F.mse_loss(network(inputs[rows].to(device)), targets[rows].to(device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()

    fit_best(network, learn, lambda: -float(((make("val") - real_val) ** 2).mean()), len(blocks))
    return {part: make(part) for part in ("val", "test")}


def reconstruction(
    released: Released, splits: Splits, pairs: dict[str, dict[str, Pairs]], decode: Callable | None, epochs: int, steps: int, seed: int
) -> tuple[dict[str, Any], dict[str, np.ndarray], str]:
    """Rebuild the test faces from g, and verify the rebuilt against the real ones by a verifier that was trained on real images.

    A pair's first image is the rebuilt one; `epochs` are the verifier's, `steps` the convolutional decoder's.

    Returns:
        figures: attacker, size, val_error of each rival; psnr (dB), ssim, and the same of the mean face, a control; match_auc
            and match_auc_same, verification of rebuilt against real images; real_auc and real_auc_same, of real against real ones.
        arrays: "rebuilt/psnr", "rebuilt/ssim" (T,) and "rebuilt/free", "rebuilt/same" (M,), distances of the test pairs.
        refused: why `decode` was refused, or "".
    """
    name, made, errors, real, refused = rebuild(released, splits, decode, steps, seed)
    mean_face = np.broadcast_to(real["attack"].mean(0), real["test"].shape)
    arrays: dict[str, np.ndarray] = {}
    figures: dict[str, Any] = {"attacker": name, "size": int(real["test"].shape[-1]), "val_error": errors}
    for key, measure in (("psnr", psnr), ("ssim", ssim)):
        arrays[f"rebuilt/{key}"] = measure(real["test"], made["test"])
        figures |= {key: float(arrays[f"rebuilt/{key}"].mean()), f"mean_face_{key}": float(measure(real["test"], mean_face).mean())}
    side = min(VERIFIED_AT, figures["size"])
    flat = {part: shrunk(values, side).reshape(len(values), -1) for part, values in real.items()}
    standardise = standardiser(flat["attack"])
    seen = {part: standardise(values) for part, values in flat.items()}
    rebuilt = {part: standardise(shrunk(values, side).reshape(len(values), -1)) for part, values in made.items()}
    # The verifier is chosen by how it tells rebuilt from real people and real from real: where nothing was rebuilt, the second decides.
    offset = len(seen["val"])
    crossed = [Pairs(p.a, p.b + offset, p.different) for p in pairs["val"].values()]
    crossed += [Pairs(p.a + offset, p.b + offset, p.different) for p in pairs["val"].values()]
    val = np.concatenate([rebuilt["val"], seen["val"]])
    verifier = fit_verifier(seen["attack"], splits.attack.identity, val, crossed, map_shape=(1, side, side), epochs=epochs, seed=seed)
    ours, theirs = (verifier.embed(part["test"]).astype(np.float64) for part in (rebuilt, seen))
    for kind, suffix in (("free", ""), ("same", "_same")):
        test = pairs["test"][kind]
        arrays[f"rebuilt/{kind}"] = np.linalg.norm(ours[test.a] - theirs[test.b], axis=1)
        figures[f"match_auc{suffix}"] = roc_auc(arrays[f"rebuilt/{kind}"], test.different)
        figures[f"real_auc{suffix}"] = roc_auc(np.linalg.norm(theirs[test.a] - theirs[test.b], axis=1), test.different)
    figures["verifier"] = verifier.name
    return figures, arrays, refused
