"""Rivals that are one affine map: LEACE, INLP, R-LACE, SPLINCE. Each blinds readers that draw a line, and promises nothing of others."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, log_loss
from torch import Tensor

from aia_lib.defences import Leace, Sample
from aia_lib.machine.device import seeded

from .rival import Rival, person_means


class Affine(Rival):
    """x -> m + P (x - m), with the mean m (d,) and the matrix P (d, d), float64, that a subclass finds."""

    mean: NDArray
    matrix: NDArray

    def __call__(self, vectors: Tensor) -> Tensor:
        mean, matrix = (torch.from_numpy(part).float() for part in (self.mean, self.matrix))
        return mean + (vectors - mean) @ matrix.T

    def _centred(self, vectors: NDArray) -> NDArray:
        """Float64, mean 0, and mean variance 1: one factor for all numbers, so that a direction stays one."""
        self.mean = vectors.mean(0, dtype=np.float64)
        centred = vectors - self.mean
        return centred / centred.std()


class LEACE(Rival):
    """Least-squares concept erasure (Belrose et al. 2023, Theorem 4.3), by the library's eraser."""

    name = "LEACE"

    def fit(self, vectors: NDArray, labels: NDArray, identity: NDArray, seed: int) -> LEACE:
        self.eraser = Leace().fit(Sample(torch.from_numpy(vectors).double(), labels[:, None], identity, None, seed))
        return self

    def __call__(self, vectors: Tensor) -> Tensor:
        return self.eraser(vectors, vectors)


class INLP(Affine):
    """Iterative null-space projection (Ravfogel et al. 2020, Algorithm 1).

    A linear classifier w is fitted to what is left, and the whole is projected on the null space of all w so far,
    P = I - B B^T with B an orthonormal basis of their span, until people that no w was fitted on are classified no better than by chance.

    Args:
        rounds: directions at most.
        chance: balanced accuracy on a fifth of the people at which it stops.
    """

    name = "INLP"

    def __init__(self, rounds: int = 100, chance: float = 0.51) -> None:
        self.rounds, self.chance = rounds, chance

    def fit(self, vectors: NDArray, labels: NDArray, identity: NDArray, seed: int) -> INLP:
        x, d = self._centred(vectors), vectors.shape[1]
        people = np.random.default_rng(seed).permutation(np.unique(identity))
        held = np.isin(identity, people[: len(people) // 5])
        basis = np.zeros((d, 0))
        for _ in range(min(self.rounds, d - 1)):
            left = x - x @ basis @ basis.T
            model = LogisticRegression(class_weight="balanced", max_iter=200).fit(left[~held], labels[~held])
            if balanced_accuracy_score(labels[held], model.predict(left[held])) <= self.chance:
                break
            basis = np.linalg.qr(np.hstack([basis, model.coef_.T]))[0]
        self.matrix = np.eye(d) - basis @ basis.T
        return self


class RLACE(Affine):
    """Relaxed linear adversarial concept erasure (Ravfogel et al. 2022), the relaxed game.

    The game is min over a classifier w, max over A in the Fantope {A: 0 <= A <= I, tr A = rank}, of the cross-entropy of w^T (I - A) x.
    A goes up its gradient and is then projected on the Fantope, its eigenvalues shifted and cut to [0, 1]. What is kept is the projection
    I - V V^T, V the `rank` leading eigenvectors of an A, that a freshly fitted classifier fails at most.

    Args:
        rank: directions taken out.
        rounds: steps of A; w takes four between two of them, all on the whole sample.
    """

    name = "R-LACE"

    def __init__(self, rank: int = 1, rounds: int = 300) -> None:
        self.rank, self.rounds = rank, rounds

    def fit(self, vectors: NDArray, labels: NDArray, identity: NDArray, seed: int) -> RLACE:
        numbers, d = self._centred(vectors), vectors.shape[1]
        x, y = torch.from_numpy(numbers).float(), torch.from_numpy(labels).float()
        with seeded(seed, "R-LACE"):
            a = self._onto_fantope(0.1 * torch.randn(d, d))
            w, offset = (0.01 * torch.randn(d)).requires_grad_(), torch.zeros(1, requires_grad=True)
        a.requires_grad_()
        learner, player = torch.optim.Adam([w, offset], lr=0.02), torch.optim.SGD([a], lr=0.5)
        hardest = -np.inf

        def loss() -> Tensor:
            return F.binary_cross_entropy_with_logits(x @ (w - a @ w) + offset, y)

        for step in range(self.rounds):
            for _ in range(4):
                learner.zero_grad()
                loss().backward()
                learner.step()
            player.zero_grad()
            (-loss()).backward()
            player.step()
            with torch.no_grad():
                a.copy_(self._onto_fantope(a))
            if step % 20 == 19:
                v = torch.linalg.eigh(a.detach().double())[1][:, -self.rank :].numpy()
                matrix = np.eye(d) - v @ v.T
                fresh = LogisticRegression(max_iter=200).fit(numbers @ matrix, labels)
                left = log_loss(labels, expit(fresh.decision_function(numbers @ matrix)))
                if left > hardest:
                    hardest, self.matrix = left, matrix
        return self

    def _onto_fantope(self, a: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh((a + a.T) / 2)
        low, high = values[0] - 1, values[-1]  # of the shift: with `low` all eigenvalues become 1, with `high` 0
        for _ in range(40):
            shift = (low + high) / 2
            low, high = (shift, high) if (values - shift).clamp(0, 1).sum() > self.rank else (low, shift)
        return (vectors * (values - shift).clamp(0, 1)) @ vectors.T


class SPLINCE(Affine):
    """Linear concept removal that keeps a covariance (Holstege, Ravfogel & Wouters 2025, closed form P*).

    With W = Cov(x)^-1/2, the oblique projection P = W^-1 V (U^T V)^-1 U^T W with the kernel span(W Cov(x, z)) and a range that holds
    W Cov(x, y) is the smallest change of x after which the concept z has no covariance with x, and the target y all that it had. Here z is
    one label, and so W P W^-1 = I - a v^T / v^T a, with a = W Cov(x, z) and v the part of a outside the span of W Cov(x, y).

    Verification has no target. In its place stands where a person lies among those of the same label, along `kept` principal directions.
    """

    name = "SPLINCE"

    def __init__(self, kept: int = 16) -> None:
        self.kept = kept

    def fit(self, vectors: NDArray, labels: NDArray, identity: NDArray, seed: int, targets: NDArray | None = None) -> SPLINCE:
        self.mean = vectors.mean(0, dtype=np.float64)
        x = vectors - self.mean
        if targets is None:
            places = person_means(x, labels, identity)
            targets = places @ np.linalg.svd(places, full_matrices=False)[2][: self.kept].T
        values, axes = np.linalg.eigh(x.T @ x / len(x))
        root = np.sqrt(np.maximum(values, 1e-8 * values[-1]))
        white, back = (axes / root) @ axes.T, (axes * root) @ axes.T
        a, b = (white @ x.T @ (part - part.mean(0)) / len(x) for part in (labels.astype(np.float64), targets))
        v = a - b @ np.linalg.lstsq(b, a, rcond=None)[0]
        self.matrix = back @ (np.eye(len(a)) - np.outer(a, v) / (v @ a)) @ white
        return self
