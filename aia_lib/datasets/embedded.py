"""The faces that ship with the package. They are not part of this version."""

from __future__ import annotations

import os
from typing import NoReturn

from ..files import UserError


def locate(root: str | os.PathLike | None) -> NoReturn:
    """Raise the `UserError` that says so."""
    raise UserError(
        "The embedded faces are not part of this version yet. "
        "Use images on your disk: 'celeba', 'vggface', 'vggface2', 'lfw' or 'folder' with root=."
    )
