"""What all defences share: `fit` for one attribute or several, and saving and loading by their parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from ..anonymizers import Anonymizer
from ..faces import Faces
from ..machine.files import UserError
from ..machine.stage import History, save_parts
from .labels import as_attribute, private

AnyDefence = TypeVar("AnyDefence", bound="Defence")


class Defence:
    """An anonymizer that is fitted to hide one attribute or several, and is saved and loaded by its parts.

    A subclass has `_fit`, and for saving: `parts()`, modules or dictionaries of tensors by name, which loading fills; `describe()`, the
    arguments that make an anonymizer with parts of these shapes again, as JSON; and `restore(state, base, device, key)`, which makes one
    of what `describe` gave, around `base`, with fresh parts for `saving.load_anonymizer` to fill.

    Attributes:
        attribute: what it was fitted to hide: a name, or several.
        missing: how many images had no label of each: these take no part in hiding that one.
        history: of its trainings, by stage.
    """

    several_attributes = True
    wraps = False
    """Whether `base` is somebody else's anonymizer, which `fit` fits first."""

    def __init__(self, seed: int, base: Anonymizer | None = None) -> None:
        self.seed, self.base = seed, base
        self.attribute: str | tuple[str, ...] | None = None
        self.missing: dict[str, int] = {}
        self.history: dict[str, History] = {}

    def fit(
        self: AnyDefence,
        faces: Faces,
        attribute: str | Sequence[str] | None = None,
        *,
        fit_base: bool = True,
        folder: str | Path | None = None,
        progress: bool = True,
    ) -> AnyDefence:
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
            several = (names,) if len(names) > 1 and getattr(self.base, "several_attributes", False) else ()
            self.base.fit(faces, *several, folder=folder, progress=progress)
        self._fit(faces, names, folder, progress)
        self.attribute, self.missing = as_attribute(names), {name: int((faces.labels(name) < 0).sum()) for name in names}
        return self

    def _fit(self, faces: Faces, names: tuple[str, ...], folder: str | Path | None, progress: bool) -> None:
        raise NotImplementedError

    @property
    def decode(self):
        """The decoder of what is wrapped, where it has one."""
        return self.base.decode

    def save(self, folder: str | Path) -> None:
        """Write everything (safetensors) into `folder`, each file atomically. Secret keys are not written."""
        fitted(self, self.attribute)
        save_parts(self, folder)


def fitted(defence: Defence, part: object) -> object:
    """`part`, which `fit` or loading made. UserError where neither has happened."""
    if part is None or (isinstance(part, dict) and not part):
        raise UserError(f"This {type(defence).__name__} has not been fitted: call fit(faces) first, or load_anonymizer(folder).")
    return part


def with_settings(config: object, settings: dict) -> object:
    """`config` with `settings` in the place of its fields. UserError where it has none of such a name."""
    try:
        return dataclasses.replace(config, **settings)
    except TypeError as error:
        fields = ", ".join(field.name for field in dataclasses.fields(config))
        raise UserError(f"{type(config).__name__} has no setting of that name ({error}); its settings are {fields}.") from error


def from_settings(made: type, settings: dict) -> object:
    """`made(**settings)` of settings that may be an older version's: those in `made.REMOVED` count only with the value that did nothing.

    Raises:
        UserError: a removed setting had an effect.
    """
    removed = getattr(made, "REMOVED", {})
    for name, neutral in removed.items():
        if settings.get(name, neutral) != neutral:
            raise UserError(
                f"{made.__name__}.{name} = {settings[name]!r} is of an older version of aia_lib; this one knows {neutral!r} only. "
                "Load it with that version, or train it again."
            )
    return made(**{name: value for name, value in settings.items() if name not in removed})
