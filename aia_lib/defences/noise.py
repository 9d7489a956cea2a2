"""Certified noise: the one defence with a guarantee against every attacker, and what it costs.

Two Gaussians N(a, sigma^2 I) and N(b, sigma^2 I) whose centres are at most 2 C apart can be told apart no better than N(0, 1) and N(mu, 1),
mu = 2 C / sigma (Dong, Roth & Su 2022: mu-Gaussian differential privacy). That holds for mixtures of such Gaussians too, and so for the
representations of any two groups of people, whatever the attacker knows and computes.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor

from ..anonymizers import Anonymizer
from ..faces import Faces
from ..machine.files import UserError
from .base import Defence, fitted, from_record
from .erasers import Sample


def auc_bound(mu: float) -> float:
    """The greatest AUC any attacker can have against a mu-certificate: Phi(mu / 2^1/2)."""
    return float(norm.cdf(_positive(mu) / math.sqrt(2)))


def balanced_accuracy_bound(mu: float) -> float:
    """The greatest balanced accuracy any attacker can have against a mu-certificate: Phi(mu / 2)."""
    return float(norm.cdf(_positive(mu) / 2))


def mu_for_auc(auc: float) -> float:
    """The mu whose `auc_bound` is `auc`, in (0.5, 1)."""
    if not 0.5 < auc < 1:
        raise UserError(f"An AUC bound lies between 0.5 and 1, not at {auc!r}; a certificate of 0.5 would need infinite noise.")
    return math.sqrt(2) * float(norm.ppf(auc))


class CertifiedNoise(Defence):
    """Any anonymizer, its g clipped to a ball and blurred by Gaussian noise: no attacker's AUC exceeds `auc_bound(mu)`.

    g is centred (on the train split's mean c), shortened to ``|g - c| <= C``, and N(0, sigma^2 I) with sigma = 2 C / mu is added.

    What the guarantee covers: *one* released representation of *one* image, for any attribute, or all of them together, and any attacker,
    the one who knows this class, c, C and sigma included. It does not depend on c and C being well chosen; only the utility does. What it
    does not cover:

    * m images of one person, which are correlated: together they have mu m^1/2. Each more image is a query more.
    * Somebody who knows the seed. The noise follows from it and the image's pixels, so that asking again for the same image returns the
      same g and averages nothing out. Where the guarantee is to count, draw a large seed (`secrets.randbits(128)`) and keep it, and the
      folder that `save` writes, to yourself. It then rests on the generator (NumPy's PCG64, seeded by a keyed hash) looking random to the
      attacker, who gets one query more with each pixel he changes.
    * The weights. They were learned from the train split, and the certificate says nothing of the people in it.

    What it costs: a genuine pair (x, x') and an impostor pair (x, y) differ in one release, and the releases of any two images are told
    apart with an AUC of at most Phi(mu / 2^1/2). Given the release of x, no comparison of two releases does better; nor does it on average
    over x, x' and y, since a mixture of pairs that are mu-indistinguishable is mu-indistinguishable (Dong et al. 2022, joint convexity).
    So *verification* has the same bound: what certifies a leak of 0.55 certifies that nobody is verified with more than 0.55.

    Args:
        base: an anonymizer with `fit`, or a fitted one, or any function of images.
        mu: the certificate; smaller is more private. `mu_for_auc` turns a bound into it.
        clip: C; 0 takes the median distance from the mean on the train split.
        seed: of the noise; who knows it can subtract the noise.
    """

    wraps = True
    REMOVED = {"fresh": False, "own_key": True}  # settings of older versions, with the values that did nothing

    def __init__(self, base: Anonymizer, mu: float = 1.0, clip: float = 0.0, seed: int = 0) -> None:
        super().__init__(seed, base)
        if not math.isfinite(clip) or clip < 0:
            raise UserError(f"clip must be a finite number that is not negative, not {clip!r}.")
        self.mu, self.clip = _positive(mu), float(clip)
        self.key = hashlib.sha256(f"certified noise:{seed}".encode()).digest()
        self.tensors: dict[str, Tensor] = {}

    @property
    def name(self) -> str:
        """The base's name and the certificate."""
        return f"{getattr(self.base, 'name', type(self.base).__name__)} + noise (mu = {self.mu:g})"

    @property
    def sigma(self) -> float:
        """Standard deviation of the noise in each coordinate: 2 C / mu."""
        return 2 * self.clip / self.mu

    def _fit(self, faces: Faces, names: tuple[str, ...], folder: str | Path | None, progress: bool) -> None:
        g = Sample.of(self.base, faces).g
        self.tensors["centre"] = g.mean(0).float()
        if not self.clip:
            self.clip = float((g - g.mean(0)).norm(dim=1).median())
            if not self.clip:
                raise UserError("The base gives more than half of the images one and the same g: there is nothing to clip. Give clip=.")

    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, 1, H, W) in [0, 1] to clipped and noisy g (N, k)."""
        centre = fitted(self, self.tensors)["centre"]  # (k,)
        g = self.base(images)
        centre = centre.to(g.device)
        g = g - centre
        g = g * (self.clip / g.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(max=1)
        return centre + g + self.sigma * self._noise(images, g.shape[1]).to(g.device)

    def _noise(self, images: Tensor, k: int) -> Tensor:
        pixels = (images.detach().cpu() * 255).round().to(torch.uint8).contiguous().numpy()
        rows = np.zeros((len(pixels), k), dtype=np.float32)
        for row, image in zip(rows, pixels, strict=True):
            digest = hashlib.blake2b(image.tobytes(), key=self.key, digest_size=32).digest()
            row[:] = np.random.default_rng(np.frombuffer(digest, dtype=np.uint32)).standard_normal(k, dtype=np.float32)
        return torch.from_numpy(rows)

    def parts(self) -> dict[str, dict[str, Tensor]]:
        return {"noise": self.tensors}

    def describe(self) -> dict:
        return {"mu": self.mu, "clip": self.clip}

    @classmethod
    def restore(cls, state: dict, base: Anonymizer | None, device: torch.device | None) -> CertifiedNoise:
        settings = {name: state[name] for name in ("mu", "clip", "fresh", "own_key", "seed") if name in state}
        return from_record(cls, {"base": base, **settings})


def _positive(mu: float) -> float:
    if not (isinstance(mu, (int, float)) and math.isfinite(mu) and mu > 0):
        raise UserError(f"mu must be a positive number, not {mu!r}: 2 C / sigma, the smaller the more private.")
    return float(mu)
