"""What all defences share: the attributes that they hide, `fit` for one or several, and saving and loading by their parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..anonymizers import Anonymizer
from ..faces import Faces, with_attribute
from ..machine.device import to_images
from ..machine.files import UserError, sha256
from ..machine.stage import Checkpoint, History

ENOUGH = 20_000
"""Images that the closed forms are fitted on, at most."""


class Defence:
    """An anonymizer that is fitted to hide one attribute or several, and is saved and loaded by its parts.

    A subclass has `_fit`, and for saving: `parts()`, modules or dictionaries of tensors by name, which loading fills; `describe()`, the
    arguments that make an anonymizer with parts of these shapes again, as JSON; and `restore(state, base, device)`, which makes one
    of what `describe` gave, around `base`, with fresh parts for `saving.load_anonymizer` to fill.

    Attributes:
        attribute: what it was fitted to hide: a name, or several.
        history: of its trainings, by stage.
    """

    wraps = False
    """Whether `base` is somebody else's anonymizer, which `fit` fits first."""

    def __init__(self, seed: int, base: Anonymizer | None = None) -> None:
        self.seed, self.base = seed, base
        self.attribute: str | tuple[str, ...] | None = None
        self.history: dict[str, History] = {}

    def fit(
        self,
        faces: Faces,
        attribute: str | Sequence[str] | None = None,
        *,
        fit_base: bool = True,
        folder: str | Path | None = None,
        progress: bool = True,
    ) -> Defence:
        """Fit on all of `faces` (pass the train split), with checkpoints in `folder` that a later call resumes from.

        Args:
            faces: the images.
            attribute: what to hide, one name or several; None takes the private attribute of `faces`.
            fit_base: first fit what is wrapped, where that has a `fit`. A defence hides all attributes, anything else the first.
            folder: where checkpoints go; None keeps none.
            progress: show progress bars.
        """
        faces, names = private(faces, attribute)
        if fit_base and self.wraps and hasattr(self.base, "fit"):
            several = (names,) if len(names) > 1 and isinstance(self.base, Defence) else ()
            self.base.fit(faces, *several, folder=folder, progress=progress)
        self._fit(faces, names, folder, progress)
        self.attribute = as_attribute(names)
        return self

    def _fit(self, faces: Faces, names: tuple[str, ...], folder: str | Path | None, progress: bool) -> None:
        raise NotImplementedError

    @property
    def unprotected(self) -> Anonymizer:
        """What lies under all that erases and adds noise, for the audit to compare with.

        An encoder that was itself trained to hide, such as `Compact` in `HardenedAIA`, stays as it is: trained without that, it would be
        another method.
        """
        inner = self.base
        while isinstance(inner, Defence) and inner.base is not None:
            inner = inner.base
        if inner is None:
            raise AttributeError("this anonymizer lays no protection over another, or it has not been fitted")
        return inner

    @property
    def decode(self):
        """The decoder of what is wrapped, where it has one."""
        return self.base.decode

    def save(self, folder: str | Path) -> None:
        """Write what is wrapped, then the tensors (safetensors), last the index that names both, each file atomically.

        Raises:
            UserError: it is not fitted, it wraps something that cannot be saved, or the folder cannot be written.
        """
        fitted(self, self.attribute)
        state, base = {}, self.base
        if base is not None:
            if not hasattr(base, "save"):
                raise UserError(
                    f"{type(base).__name__} has no save(folder), so what wraps it cannot be saved either; save it your own way."
                )
            base.save(Path(folder) / "base")
            state["base"] = sha256(Path(folder) / "base" / "anonymizer.json")
        tensors: dict[str, Tensor] = {}
        for name, part in self.parts().items():
            values = part.state_dict() if isinstance(part, nn.Module) else part
            tensors |= {f"{name}.{key}": value for key, value in values.items()}
        state |= {"kind": type(self).__name__, "attribute": self.attribute, "seed": self.seed, "history": self.history}
        Checkpoint(folder, "anonymizer").save(tensors, **state, **self.describe())


def fitted(defence: Defence, part: object) -> object:
    """`part`, which `fit` or loading made. UserError where neither has happened."""
    if part is None or (isinstance(part, dict) and not part):
        raise UserError(f"This {type(defence).__name__} has not been fitted: call fit(faces) first, or load_anonymizer(folder).")
    return part


def from_record(made: type, settings: dict) -> object:
    """`made(**settings)` of settings that may be an older version's. UserError where one in `made.REMOVED` had an effect."""
    removed = getattr(made, "REMOVED", {})
    for name, neutral in removed.items():
        if settings.get(name, neutral) != neutral:
            raise UserError(
                f"{made.__name__}.{name} = {settings[name]!r} is of an older version of aia_lib; this one knows {neutral!r} only. "
                "Load it with that version, or train it again."
            )
    return made(**{name: value for name, value in settings.items() if name not in removed})


def private(faces: Faces, attribute: str | Sequence[str] | None) -> tuple[Faces, tuple[str, ...]]:
    """`faces` with the first of the attributes to hide as its private one, and the names of all. UserError where there are none such."""
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
