"""Erasers: closed forms that take an attribute out of finished representations. No adversary, no gradient, seconds.

Each is fitted on the train split's g and labels, and is then a function of g (and of the image, where it says so) alone: whoever
releases g does not know the label. Each states which attackers it defeats on the data it was fitted on; on other people it is
what was estimated from a finite sample, and the audit says how far that carries.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..anonymizers import Anonymizer
from ..faces import Faces
from ..machine.files import UserError
from ..machine.stage import save_parts
from .erasers import ERASERS, Eraser, Sample, moving
from .labels import _batches, as_attribute, fit_wrapped, private, unlabelled
from .settings import ERASERS as NAMES

assert tuple(ERASERS) == NAMES  # the settings name them without importing this


class Erased:
    """Any anonymizer, and what an eraser leaves of its g. Several erasers work one after another, each fitted on what the last one left.

    `fit` takes one attribute or several. A base that hides one attribute only (the paper's AIA) is fitted to hide the first.

    Args:
        base: an anonymizer with `fit`, or a fitted one, or any function of images.
        erasers: erasers, or names in `ERASERS`.
        seed: of the erasers' random features.
    """

    def __init__(self, base: Anonymizer, erasers: tuple[Eraser | str, ...] = ("leace",), seed: int = 0) -> None:
        if unknown := [name for name in erasers if isinstance(name, str) and name not in ERASERS]:
            raise UserError(f"There is no eraser {unknown[0]!r}; there are {', '.join(ERASERS)}.")
        self.base, self.seed = base, seed
        self.erasers: tuple[Eraser, ...] = tuple(ERASERS[e]() if isinstance(e, str) else e for e in erasers)
        self.attribute: str | tuple[str, ...] | None = None
        self.missing: dict[str, int] = {}

    several_attributes = True

    @property
    def name(self) -> str:
        """The base's name and the erasers'."""
        return " + ".join([getattr(self.base, "name", type(self.base).__name__), *(eraser.kind for eraser in self.erasers)])

    def fit(
        self,
        faces: Faces,
        attribute: str | Sequence[str] | None = None,
        *,
        fit_base: bool = True,
        folder: str | Path | None = None,
        progress: bool = True,
    ) -> Erased:
        """Fit the base where it has a `fit` (unless `fit_base` is False), then the erasers, all on `faces` (pass the train split)."""
        faces, names = private(faces, attribute)
        if fit_base:
            fit_wrapped(self.base, faces, names, folder=folder, progress=progress)
        sample = Sample.of(self.base, faces, self.seed, names)
        for name, labels in zip(names, sample.columns, strict=True):
            if min((labels == 0).sum(), (labels == 1).sum()) < 2:
                raise UserError(f"An eraser needs at least two images of each label of {name!r}; {faces.source} has fewer.")
        for eraser in self.erasers:
            eraser.fit(sample)
            g = [eraser(part.float(), images).double() for part, images in zip(sample.g.split(512), _batches(sample.faces), strict=True)]
            sample = dataclasses.replace(sample, g=torch.cat(g))
        self.attribute, self.missing = as_attribute(names), unlabelled(faces, names)
        return self

    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, 1, H, W) in [0, 1] to what is left of g, (N, k')."""
        g = self.base(images)
        for eraser in self.erasers:
            if not eraser.tensors:
                raise UserError("This eraser has not been fitted: call fit(faces) first, or load_anonymizer(folder).")
            g = eraser(g, images)
        return g

    @property
    def decode(self):
        """The base's decoder, where there is one and the erasers left g its shape."""
        if moved := moving(self.erasers):
            raise AttributeError(f"this anonymizer has no decoder: the eraser {moved[0]!r} gave g other axes")
        return self.base.decode

    def save(self, folder: str | Path) -> None:
        """Write base and erasers (safetensors) into `folder`, each file atomically."""
        save_parts(self, folder)

    def parts(self) -> dict[str, dict[str, Tensor]]:
        """What is saved, by name."""
        return {f"eraser{i}": eraser.tensors for i, eraser in enumerate(self.erasers)}

    def describe(self) -> dict:
        """The arguments that make the erasers again."""
        return {"erasers": [{"kind": eraser.kind, **eraser.settings} for eraser in self.erasers]}
