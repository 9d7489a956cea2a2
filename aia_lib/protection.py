"""Protecting a file of templates: fit on those that are labelled, then apply to any others, without labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .audit import represent
from .datasets.common import Layout
from .datasets.templates import check_target, read_columns, write_templates
from .defences import Erased, template_protection
from .defences.base import Defence
from .faces import Faces
from .machine.files import UserError


def harden(
    faces: Faces,
    attributes: Sequence[str],
    model: str | Path,
    components: int = 24,
    amount: float = 1.0,
    seed: int = 0,
    everybody: bool = False,
) -> Erased:
    """Fit `template_protection` on the train split of templates and save it.

    Args:
        faces: labelled templates.
        attributes: what to hide, one name or several.
        model: a folder that does not exist.
        components, amount, seed: see `template_protection`.
        everybody: fit on all people, for use: an audit then has nobody left who is new to the model.

    Raises:
        UserError: the faces are images, too few, or lack an attribute; a setting is out of range; `model` exists.
    """
    if not faces.templates:
        raise UserError(f"This protects templates, and {faces.source} has images: extract templates, or use HardenedAIA.")
    if Path(model).exists():
        raise UserError(f"--model {model} exists. Remove it, or choose another folder.")
    method = template_protection(components, amount, seed)
    method.fit(faces if everybody else faces.split().train, list(attributes), progress=False)
    method.save(model)
    return method


def protect(method: Defence, layout: Layout, out: str | Path) -> int:
    """Write the protected form of all templates of a file to the .npz `out`, all else in it as it was; how many they are.

    Raises:
        UserError: the file cannot be read, or holds templates of another length; `out` exists or is no .npz.
    """
    check_target(out)
    columns = read_columns(layout)
    write_templates(out, columns | {"vectors": np.asarray(represent(method, columns["vectors"]))})
    return len(columns["vectors"])
