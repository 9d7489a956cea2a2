"""Rivals that drop or shuffle numbers: Multi-IVE and PE-MIU; and the attack of record on the second."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.svm import SVC
from torch import Tensor

from aia_lib.audit import represent
from aia_lib.faces import Faces, Pairs, Splits
from aia_lib.machine.files import UserError
from aia_lib.statistics import accuracy, best_threshold, roc_auc

from .rival import Rival


class MultiIVE(Rival):
    """Incremental variable elimination on principal components (Melzi et al. 2023; Terhörst et al. 2019, for one attribute).

    In each step an ensemble of decision trees learns to read the label, and the components that matter most to it are dropped.

    Args:
        steps: steps.
        share: of the components, dropped in each; the papers vary it. As set, half of them go.
    """

    name = "Multi-IVE"

    def __init__(self, steps: int = 16, share: float = 1 / 32) -> None:
        self.steps, self.share = steps, share

    def fit(self, vectors: NDArray, labels: NDArray, identity: NDArray, seed: int) -> MultiIVE:
        self.mean = vectors.mean(0)
        axes = np.linalg.svd(vectors - self.mean, full_matrices=False)[2].T
        left, each = np.arange(axes.shape[1]), max(1, round(self.share * axes.shape[1]))
        for step in range(self.steps):
            trees = ExtraTreesClassifier(100, min_samples_leaf=5, max_features="sqrt", random_state=seed + step)
            trees.fit((vectors - self.mean) @ axes[:, left], labels)
            left = left[np.sort(np.argsort(trees.feature_importances_)[: len(left) - each])]
        self.axes = axes[:, left]
        return self

    def __call__(self, vectors: Tensor) -> Tensor:
        return (vectors - torch.from_numpy(self.mean)) @ torch.from_numpy(self.axes)


class PEMIU(Rival):
    """Minimum information units (Terhörst et al. 2020): a template's blocks in an order drawn anew for each template. Nothing is trained.

    Two templates are compared by `distances`: the blocks of one are assigned to those of the other so that the distances of the
    blocks add up to the least, and then the cosine counts.

    Args:
        size: numbers in a block. The fewer, the less is left to a classifier.
    """

    name = "PE-MIU"

    def __init__(self, size: int = 4) -> None:
        self.size = size

    def fit(self, vectors: NDArray, labels: NDArray, identity: NDArray, seed: int) -> PEMIU:
        if vectors.shape[1] % self.size:
            raise UserError(f"{vectors.shape[1]} numbers cannot be cut into blocks of {self.size}; choose another size.")
        self.generator = torch.Generator().manual_seed(seed)
        return self

    def __call__(self, vectors: Tensor) -> Tensor:
        blocks = vectors.unflatten(1, (-1, self.size))
        order = torch.rand(blocks.shape[:2], generator=self.generator).argsort(1)
        return blocks.gather(1, order[:, :, None].expand_as(blocks)).flatten(1)

    def distances(self, a: NDArray, b: NDArray) -> NDArray:
        """1 - cosine of the rows of a and b, (N, d) each or one of them (1, d), after the assignment: (N,)."""
        x, y = (rows.reshape(len(rows), -1, self.size).astype(np.float64) for rows in (a, b))
        inner = np.einsum("nik,njk->nij", *np.broadcast_arrays(x, y))
        costs = np.sqrt(np.maximum((x**2).sum(2)[:, :, None] + (y**2).sum(2)[:, None] - 2 * inner, 0))
        matched = np.array([inner[row][linear_sum_assignment(cost)].sum() for row, cost in enumerate(costs)])
        return 1 - matched / (np.linalg.norm(x, axis=(1, 2)) * np.linalg.norm(y, axis=(1, 2)))


NEIGHBOURS = (1, 5, 10, 50, 100)


def gallery_attack(method: PEMIU, splits: Splits, seed: int, probes: int = 500) -> dict[str, NDArray | float]:
    """The attack of record (Osorio-Roig et al. 2021) and, beside it, a support vector machine: who reads the label off shuffled templates?

    The gallery are the people of `attack` with their labels, none of whom is probed. A probe is compared with all of them, by the method's
    own comparison, and the label whose k best scores have the higher mean wins; k and the threshold are chosen on `val`. The machine, with
    a Gaussian kernel, learns from the same gallery as numbers.

    Args:
        probes: of val and of test, at most: each takes a comparison with everybody in the gallery.

    Returns:
        "gallery" and "svm", scores of the test probes (N,), "labels" and "people" of them, "…_accuracy", balanced, and "neighbours".
    """
    rng = np.random.default_rng(seed)
    gallery, known = represent(method, splits.attack.images), splits.attack.labels()
    parts = {}
    for part in ("val", "test"):
        faces: Faces = getattr(splits, part)
        rows = np.sort(rng.permutation(np.flatnonzero(faces.labels() >= 0))[:probes])
        parts[part] = (faces.subset(rows), represent(method, faces.images[rows]))
    labels = {part: faces.labels() for part, (faces, _) in parts.items()}
    best = {part: _best_scores(method, gallery, known, g) for part, (_, g) in parts.items()}
    k = max(NEIGHBOURS, key=lambda k: roc_auc(best["val"][k], labels["val"]))
    scale = gallery.std()
    machines = [SVC(C=c).fit(gallery[known >= 0] / scale, known[known >= 0]) for c in (1.0, 10.0)]
    read = {part: [machine.decision_function(g / scale) for machine in machines] for part, (_, g) in parts.items()}
    chosen = int(np.argmax([roc_auc(scores, labels["val"]) for scores in read["val"]]))
    result = {"labels": labels["test"], "people": parts["test"][0].identity, "neighbours": float(k)}
    for name, scores in (("gallery", {part: best[part][k] for part in best}), ("svm", {part: read[part][chosen] for part in read})):
        threshold = best_threshold(scores["val"], labels["val"], balanced=True)
        result |= {name: scores["test"], f"{name}_accuracy": accuracy(scores["test"], labels["test"], threshold, balanced=True)}
    return result


def _best_scores(method: PEMIU, gallery: NDArray, known: NDArray, probes: NDArray) -> dict[int, NDArray]:
    """For each k: the mean of a probe's k best scores with label 1, less that with label 0."""
    scores = -np.stack([method.distances(probe[None], gallery) for probe in probes])  # (probes, gallery)
    ranked = [-np.sort(-scores[:, known == label], axis=1) for label in (1, 0)]
    return {k: ranked[0][:, :k].mean(1) - ranked[1][:, :k].mean(1) for k in NEIGHBOURS}


def own_distances(method: PEMIU, released: NDArray, pairs: Pairs) -> NDArray:
    """The method's own distances of pairs of rows of what it released, (P,)."""
    starts = range(0, len(pairs.a), 4096)
    return np.concatenate([method.distances(released[pairs.a[i : i + 4096]], released[pairs.b[i : i + 4096]]) for i in starts])
