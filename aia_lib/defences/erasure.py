"""An anonymizer with erasers behind it: closed forms that take an attribute out of finished representations. No gradient, seconds.

Each is fitted on the train split's g and labels, and is then a function of g (and of the image, where it says so) alone: whoever
releases g does not know the label. Each states which attackers it defeats on the data it was fitted on; on other people it is
what was estimated from a finite sample, and the audit says how far that carries.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from ..anonymizers import Anonymizer
from ..faces import Faces
from ..machine.files import UserError
from .base import Defence, fitted, from_settings
from .erasers import ERASERS, Eraser, Sample, moving
from .labels import batches, both_labels


class Erased(Defence):
    """Any anonymizer, and what an eraser leaves of its g. Several erasers work one after another, each fitted on what the last one left.

    `fit` takes one attribute or several. A base that hides one attribute only (the paper's AIA) is fitted to hide the first.

    Args:
        base: an anonymizer with `fit`, or a fitted one, or any function of images.
        erasers: erasers, or names in `ERASERS`.
        seed: of the attribute score's random features.
    """

    wraps = True

    def __init__(self, base: Anonymizer, erasers: tuple[Eraser | str, ...] = ("leace",), seed: int = 0) -> None:
        super().__init__(seed, base)
        if unknown := [name for name in erasers if isinstance(name, str) and name not in ERASERS]:
            raise UserError(f"There is no eraser {unknown[0]!r}; there are {', '.join(ERASERS)}.")
        self.erasers: tuple[Eraser, ...] = tuple(ERASERS[e]() if isinstance(e, str) else e for e in erasers)

    @property
    def name(self) -> str:
        """The base's name and the erasers'."""
        return " + ".join([getattr(self.base, "name", type(self.base).__name__), *(eraser.kind for eraser in self.erasers)])

    def _fit(self, faces: Faces, names: tuple[str, ...], folder: str | Path | None, progress: bool) -> None:
        both_labels(faces, names, 2, "an eraser needs two images of each label")
        sample = Sample.of(self.base, faces, self.seed, names)
        for eraser in self.erasers:
            eraser.fit(sample)
            g = [eraser(part.float(), images).double() for part, images in zip(sample.g.split(512), batches(sample.faces), strict=True)]
            sample = dataclasses.replace(sample, g=torch.cat(g))

    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, 1, H, W) in [0, 1] to what is left of g, (N, k')."""
        g = self.base(images)
        for eraser in self.erasers:
            fitted(self, eraser.tensors)
            g = eraser(g, images)
        return g

    @property
    def decode(self):
        """The base's decoder, where there is one and the erasers left g its shape."""
        if moved := moving(self.erasers):
            raise AttributeError(f"this anonymizer has no decoder: the eraser {moved[0]!r} gave g other axes")
        return self.base.decode

    def parts(self) -> dict[str, dict[str, Tensor]]:
        return {f"eraser{i}": eraser.tensors for i, eraser in enumerate(self.erasers)}

    def describe(self) -> dict:
        return {"erasers": [{"kind": eraser.kind, **eraser.settings} for eraser in self.erasers]}

    @classmethod
    def restore(cls, state: dict, base: Anonymizer | None, device: torch.device | None, key: bytes | None) -> Erased:
        made = [from_settings(ERASERS[saved["kind"]], {k: v for k, v in saved.items() if k != "kind"}) for saved in state["erasers"]]
        return cls(base, tuple(made), state["seed"])
