"""Splits: the people dealt out into disjoint parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from .faces import Faces

SPLIT_NAMES = ("train", "attack", "val", "test")


class _Parts(NamedTuple):
    train: Faces
    attack: Faces
    val: Faces
    test: Faces


class Splits(_Parts):
    """Four disjoint sets of people: `train` for the encoder, `attack` for fresh attackers, `val` for every choice, `test` read once.

    Attributes:
        sealed: the people put aside, or None. They are none of the four, so that nothing that goes through them sees the sealed.
        fold: which deal of the people this is.
    """

    sealed: Faces | None = None
    fold: int = 0

    def __new__(cls, train: Faces, attack: Faces, val: Faces, test: Faces, sealed: Faces | None = None, fold: int = 0) -> Splits:
        made = super().__new__(cls, train, attack, val, test)
        made.sealed, made.fold = sealed, fold
        return made

    def opened(self) -> Splits:
        """The same with the sealed people in the place of `test`."""
        return Splits(self.train, self.attack, self.val, self.sealed, fold=self.fold)


def deal(group: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Deal people out in a random order, group by group, each to the part that is furthest behind its share: their parts, int64 (P,).

    Args:
        group: of each person, int (P,).
        shares: of each part, summing to 1.
    """
    shuffled = rng.permutation(len(group))
    part, dealt = np.empty(len(group), dtype=np.int64), np.zeros(len(shares))
    for turn, person in enumerate(shuffled[np.argsort(group[shuffled], kind="stable")], start=1):
        part[person] = np.argmax(shares * turn - dealt)
        dealt[part[person]] += 1
    return part
