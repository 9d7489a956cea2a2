"""The private attributes of a defence: their labels as arrays, and the pass over the faces that fits a wrapper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..anonymizers import Anonymizer
from ..faces import Faces, with_attribute
from ..machine.device import to_images
from ..machine.files import UserError

CPU = torch.device("cpu")

ENOUGH = 20_000
"""Images that the closed forms are fitted on, at most."""


def private(faces: Faces, attribute: str | Sequence[str] | None) -> tuple[Faces, tuple[str, ...]]:
    """The attributes to hide: `faces` with the first of them as its private one, and the names of all.

    Args:
        attribute: a name, several names, or None for the faces' own.

    Raises:
        UserError: there is no such attribute, none is named, or one twice.
    """
    if attribute is None or isinstance(attribute, str):
        faces = with_attribute(faces, attribute)
        return faces, (faces.attribute,)
    names = tuple(attribute)
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise UserError(f"attribute must be a name or several different names, not {attribute!r}.")
    for name in names:
        faces.labels(name)  # says which there are
    return with_attribute(faces, names[0]), names


def as_attribute(names: tuple[str, ...]) -> str | tuple[str, ...]:
    """What an anonymizer's `attribute` says: the name, where it hides one, else all of them."""
    return names[0] if len(names) == 1 else names


def labels_of(faces: Faces, names: tuple[str, ...]) -> np.ndarray:
    """Labels 1, 0 or -1 (unknown): int8 (N,) for one attribute, (N, m) for m of them."""
    return faces.labels(names[0]) if len(names) == 1 else faces.label_table(names)


def unlabelled(faces: Faces, names: tuple[str, ...]) -> dict[str, int]:
    """How many images have no label of each attribute: they take no part in hiding that one."""
    return {name: int((faces.labels(name) < 0).sum()) for name in names}


def fit_wrapped(base: Anonymizer, faces: Faces, names: tuple[str, ...], *, folder: str | Path | None, progress: bool) -> None:
    """Fit what a wrapper wraps, where it can be fitted. A defence of this package hides all of `names`, anything else the first."""
    if not hasattr(base, "fit"):
        return
    if len(names) == 1 or not getattr(base, "several_attributes", False):
        base.fit(faces, folder=folder, progress=progress)
    else:
        base.fit(faces, names, folder=folder, progress=progress)


def release(anonymizer: Anonymizer, faces: Faces) -> Tensor:
    """What `anonymizer` makes of all `faces`, in batches, float32 (N, k) on the CPU."""
    return torch.cat([anonymizer(images).detach().cpu().float() for images in _batches(faces)])


# --------------------------------------------------------------------------------------------------------------------------


def _batches(faces: Faces, size: int = 512):
    """All images as float (512, 1, H, W) in [0, 1], on the CPU."""
    for start in range(0, len(faces), size):
        yield to_images(np.asarray(faces.images[start : start + size]), CPU)
