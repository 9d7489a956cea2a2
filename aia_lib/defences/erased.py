"""An anonymizer, or the templates as they are stored, and erasers behind it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from ..anonymizers import Anonymizer
from ..audit.creep import stored
from ..faces import Faces
from ..machine.files import UserError
from . import base
from .base import Defence, fitted, from_record
from .erasers import Discriminants, Eraser, Leace, Sample, ScoreErasure
from .transport import Transport

ERASERS: dict[str, type[Eraser]] = {eraser.kind: eraser for eraser in (ScoreErasure, Leace, Discriminants, Transport)}
"""Kind -> eraser."""


class Erased(Defence):
    """Any anonymizer, or templates as they are stored, and what erasers leave of them.

    Several erasers work one after another, each fitted on what the last one left.
    `fit` takes one attribute or several. A base that hides one attribute only (the paper's AIA) is fitted to hide the first.

    Args:
        base: an anonymizer with `fit`, or a fitted one, or any function of images; None takes what comes in, templates.
        erasers: erasers, or names in `ERASERS`.
        seed: of the attribute score's random features.
    """

    wraps = True

    def __init__(self, base: Anonymizer | None, erasers: tuple[Eraser | str, ...] = ("leace",), seed: int = 0) -> None:
        super().__init__(seed, base)
        if unknown := [name for name in erasers if isinstance(name, str) and name not in ERASERS]:
            raise UserError(f"There is no eraser {unknown[0]!r}; there are {', '.join(ERASERS)}.")
        self.numbers = 0  # of a template, where there is no base
        self.erasers: tuple[Eraser, ...] = tuple(ERASERS[e]() if isinstance(e, str) else e for e in erasers)

    @property
    def name(self) -> str:
        """The base's name and the erasers'."""
        start = "templates" if self.base is None else getattr(self.base, "name", type(self.base).__name__)
        return " + ".join([start, *(eraser.kind for eraser in self.erasers)])

    def _fit(self, faces: Faces, names: tuple[str, ...], folder: str | Path | None, progress: bool) -> None:
        self.numbers = faces.size if self.base is None else 0
        base.both_labels(faces, names, 2, "an eraser needs two images of each label")
        sample = Sample.of(self._start, faces, self.seed, names)
        for eraser in self.erasers:
            eraser.fit(sample)
            parts = zip(sample.g.split(512), base.batches(sample.faces), strict=True)
            sample = dataclasses.replace(sample, g=torch.cat([eraser(g.float(), images).double() for g, images in parts]))

    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, 1, H, W) in [0, 1], or templates (N, d), to what is left of g, (N, k')."""
        if self.base is None and images.shape[1:] != (self.numbers,):
            what = f"templates of {self.numbers} numbers, not for inputs of shape {tuple(images.shape[1:])}"
            raise UserError(f"This model was fitted for {what}. Fit one for these.")
        g = self._start(images)
        for eraser in self.erasers:
            fitted(self, eraser.tensors)
            g = eraser(g, images)
        return g

    @property
    def _start(self) -> Anonymizer:
        return stored if self.base is None else self.base

    @property
    def unprotected(self) -> Anonymizer:
        return stored if self.base is None else super().unprotected

    @property
    def decode(self):
        """The base's decoder, where there is one and the erasers left g its shape."""
        for eraser in self.erasers:
            if eraser.moves_axes:
                raise AttributeError(f"this anonymizer has no decoder: the eraser {eraser.kind!r} gave g other axes")
        return self._start.decode

    def parts(self) -> dict[str, dict[str, Tensor]]:
        return {f"eraser{i}": eraser.tensors for i, eraser in enumerate(self.erasers)}

    def describe(self) -> dict:
        return {"erasers": [{"kind": eraser.kind, **eraser.settings} for eraser in self.erasers], "numbers": self.numbers}

    @classmethod
    def restore(cls, state: dict, base: Anonymizer | None, device: torch.device | None) -> Erased:
        made = [from_record(ERASERS[saved.pop("kind")], saved) for saved in map(dict, state["erasers"])]
        erased = cls(base, tuple(made), state["seed"])
        erased.numbers = state.get("numbers", 0)
        return erased


def template_protection(components: int = 24, amount: float = 1.0, seed: int = 0) -> Erased:
    """What this library recommends for templates: the discriminants that tell people apart, and the attribute transported away.

    Args:
        components: numbers that are kept: more recognise better and leak more.
        amount: how far to move, see `Transport`.
        seed: of everything random.
    """
    # Templates come with so few images of a person that what varies within people is hardly known: hence the great ridge.
    return Erased(None, (Discriminants(components, ridge=10.0, within_labels=True), Transport(amount)), seed)
