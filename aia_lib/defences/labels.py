"""The private attributes of a defence: their names, their labels, and what an anonymizer makes of all faces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from ..anonymizers import Anonymizer
from ..faces import Faces, with_attribute
from ..machine.device import to_images
from ..machine.files import UserError

ENOUGH = 20_000
"""Images that the closed forms are fitted on, at most."""


def private(faces: Faces, attribute: str | Sequence[str] | None) -> tuple[Faces, tuple[str, ...]]:
    """The attributes to hide: `faces` with the first of them as its private one, and the names of all.

    Args:
        attribute: a name, several names, or None for the private attribute of `faces`.

    Raises:
        UserError: there is no such attribute, none is named, or one twice.
    """
    if attribute is None or isinstance(attribute, str):
        faces = with_attribute(faces, attribute)
        return faces, (faces.attribute,)
    names = tuple(attribute)
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise UserError(f"attribute must be a name or several different names, not {attribute!r}.")
    faces.label_table(names)  # says which there are
    return with_attribute(faces, names[0]), names


def as_attribute(names: Sequence[str]) -> str | tuple[str, ...]:
    """What an anonymizer's `attribute` says: the name, where it hides one, else all of them."""
    return names[0] if len(names) == 1 else tuple(names)


def as_names(attribute: str | Sequence[str] | None) -> tuple[str, ...]:
    """The names in an anonymizer's `attribute`; () where it has none."""
    return (attribute,) if isinstance(attribute, str) else tuple(attribute or ())


def both_labels(faces: Faces, names: tuple[str, ...], images: int, need: str) -> None:
    """UserError, with what there is `need` of, where fewer than `images` of `faces` have one of the two labels of an attribute."""
    for name in names:
        for value in (0, 1):
            if (faces.labels(name) == value).sum() < images:
                raise UserError(
                    f"Too few images of {faces.source} have {name!r} = {value}: {need}. Choose another attribute, or load more people."
                )


def batches(faces: Faces, size: int = 512) -> Iterator[Tensor]:
    """All images as float32 (512, 1, H, W) in [0, 1], on the CPU."""
    for start in range(0, len(faces), size):
        yield to_images(np.asarray(faces.images[start : start + size]), torch.device("cpu"))


def release(anonymizer: Anonymizer, faces: Faces) -> Tensor:
    """What `anonymizer` makes of all `faces`, in batches, float32 (N, k) on the CPU."""
    return torch.cat([anonymizer(images).detach().cpu().float() for images in batches(faces)])
