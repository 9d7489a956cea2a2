"""What all rivals share: a sample to fit, a map of templates, and the persons' means."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


class Rival:
    """A published method, from its paper's equations: fitted on templates of `train`, then a function of templates alone."""

    name: ClassVar[str]

    def fit(self, vectors: NDArray, labels: NDArray, identity: NDArray, seed: int) -> Rival:
        """Learn from templates, float32 (N, d), their labels, int8 (N,) of 0 and 1, and whose they are, int64 (N,)."""
        raise NotImplementedError

    def __call__(self, vectors: Tensor) -> Tensor:
        """Templates, float32 (N, d), to what is released of them, float32 (N, k)."""
        raise NotImplementedError


def person_means(x: NDArray, labels: NDArray, identity: NDArray) -> NDArray:
    """For each row of x (N, d) the mean of its person's rows of its label, less the mean of all rows of that label."""
    result = np.empty_like(x)
    for label in np.unique(labels):
        rows = labels == label
        _, person, count = np.unique(identity[rows], return_inverse=True, return_counts=True)
        sums = np.zeros((len(count), x.shape[1]))
        np.add.at(sums, person, x[rows])
        result[rows] = (sums / count[:, None])[person] - x[rows].mean(0)
    return result


def numbered(identity: NDArray) -> tuple[NDArray, int]:
    """People's codes as numbers from 0, and how many people there are."""
    people, person = np.unique(identity, return_inverse=True)
    return person, len(people)
