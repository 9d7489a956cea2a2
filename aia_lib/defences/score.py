"""The attribute's score: what a cross-fitted classifier says of the label, without the label."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..faces import Faces
from ..machine.device import seeded
from . import base


def located(values: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
    """Where values (..., N) lie in rising grids (..., q): the point to their left, and the share of the way to the next, in [0, 1]."""
    right = torch.searchsorted(grid, values.contiguous()).clamp(1, grid.shape[-1] - 1)
    low, high = grid.gather(-1, right - 1), grid.gather(-1, right)
    return right - 1, ((values - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)


class AttributeScore:
    """How an image looks to a classifier of the attribute: ridge regression on its pixels and random cosines of them, in closed form.

    A template is read as it is. An image is brought to at most 32 pixels, standardised, and averaged with its mirror image. Five models are
    fitted, each without a fifth of the people, and the training images are scored by the one that does not know them; other images by the
    mean of all five.
    """

    FOLDS = 5
    FEATURES = 1024
    SIDE = 32
    PENALTIES = (1e-3, 1e-2, 1e-1)

    def __init__(self, tensors: dict[str, Tensor] | None = None) -> None:
        self.tensors = tensors or {}
        self.train_scores: np.ndarray | None = None

    def fit(self, faces: Faces, seed: int = 0) -> AttributeScore:
        """Learn from `faces` (the train split), from at most `base.ENOUGH` images of it. Sets `train_scores`, float64 (N,)."""
        if len(faces) > base.ENOUGH:
            people, count = np.unique(faces.identity, return_counts=True)
            order = np.random.default_rng(seed).permutation(len(people))
            rows = np.isin(faces.identity, people[order[np.cumsum(count[order]) <= base.ENOUGH]])
            out_of_fold = self.fit(faces.subset(rows), seed).train_scores
            self.train_scores = torch.cat([self(images) for images in base.batches(faces)]).double().numpy()
            self.train_scores[rows] = out_of_fold
            return self
        pixels = torch.cat([self._pixels(images) for images in base.batches(faces)]).double()  # (N, p)
        mean, scale = pixels.mean(0), pixels.std(0).clamp(min=1e-6)
        standard = (pixels - mean) / scale
        with seeded(seed, "attribute score"):
            some = standard[torch.randperm(len(standard))[:1000]]
            width = torch.pdist(some).median().clamp(min=1e-6) if len(some) > 1 else torch.tensor(1.0)
            features = min(self.FEATURES, len(standard))
            frequencies = torch.randn(pixels.shape[1], features, dtype=torch.float64) / width
            phases = 2 * math.pi * torch.rand(features, dtype=torch.float64)
        self.tensors = {"mean": mean.float(), "scale": scale.float(), "frequencies": frequencies.float(), "phases": phases.float()}
        phi = torch.cat([self._features(standard.float()).double(), torch.ones(len(standard), 1, dtype=torch.float64)], dim=1)  # (N, D)
        label = torch.from_numpy(np.asarray(faces.labels()))
        target = torch.where(label == 1, 1.0, -1.0).double()
        alike = [(label == value).double() for value in (0, 1)]  # both labels count alike, and no label nothing
        weight = sum(0.5 * len(label) / max(1.0, float(rows.sum())) * rows for rows in alike)
        people, person = np.unique(faces.identity, return_inverse=True)
        folds = range(min(self.FOLDS, len(people)))
        fold = (np.random.default_rng(seed).permutation(len(people)) % len(folds))[person]  # all of a person's rows in one, (N,)
        grams = [(phi[fold == f] * weight[fold == f, None]).T @ phi[fold == f] for f in folds]
        rights = [phi[fold == f].T @ (weight * target)[fold == f] for f in folds]
        gram, right = sum(grams), sum(rights)
        ridge = float(gram.diagonal().mean())
        best = None
        for penalty in self.PENALTIES:
            extra = penalty * ridge * torch.eye(len(gram), dtype=torch.float64)
            betas = [torch.linalg.solve(gram - grams[f] + extra, right - rights[f]) for f in folds]
            scores = torch.empty(len(phi), dtype=torch.float64)
            for f in folds:
                scores[fold == f] = phi[fold == f] @ betas[f]
            error = float((weight * (scores - target).square()).sum() / weight.sum())
            if best is None or error < best[0]:
                best = (error, scores, torch.stack(betas).mean(0))
        _, scores, beta = best
        self.tensors |= {"beta": beta[:-1].float(), "offset": beta[-1:].float()}
        self.train_scores = scores.numpy()
        self.tensors["quantiles"] = torch.quantile(scores, torch.linspace(0, 1, 201, dtype=torch.float64)).float()
        return self

    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, 1, H, W), or templates (N, d), to scores (N,), higher for label 1."""
        t = {name: value.to(images.device) for name, value in self.tensors.items()}
        phi = self._features((self._pixels(images) - t["mean"]) / t["scale"])
        return phi @ t["beta"] + t["offset"]

    def quantile(self, scores: Tensor) -> Tensor:
        """Scores (N,) as their place in [0, 1] among the training images' scores."""
        quantiles = self.tensors["quantiles"].to(scores.device)
        left, share = located(scores, quantiles)
        return (left + share) / (len(quantiles) - 1)

    @property
    def train_quantiles(self) -> np.ndarray:
        """The training images' places among themselves, float64 (N,), in [0, 1]."""
        return self.quantile(torch.from_numpy(self.train_scores).float()).double().numpy()

    def _pixels(self, images: Tensor) -> Tensor:
        if images.ndim == 2:
            return images.float()
        side = min(self.SIDE, images.shape[2])
        x = F.adaptive_avg_pool2d(images.float(), side)
        x = (x + x.flip(3))[..., : (side + 1) // 2].flatten(1)  # the left half says all: (N, side * side / 2)
        return (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1e-3)

    def _features(self, standard: Tensor) -> Tensor:
        frequencies, phases = (self.tensors[name].to(standard.device) for name in ("frequencies", "phases"))
        cosines = torch.cos(standard @ frequencies + phases) * (2 / len(phases)) ** 0.5
        return torch.cat([standard / standard.shape[1] ** 0.5, cosines], dim=1)
