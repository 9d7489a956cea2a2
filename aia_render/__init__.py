"""The generator of the embedded faces: heads of real geometry, nobody's face. Needs the extra `render` of aia-book.

`store.render_set` writes a set of rendered faces; `aia_lib.datasets.embedded` reads it, without the extra.
"""

from __future__ import annotations

import importlib.util

from aia_lib.files import UserError

GENERATOR_VERSION = 1
"""Written into every set: raise it when the same seed gives other faces than before."""


def require_extra() -> None:
    """Raise the `UserError` that tells how to install the generator's libraries, where one is missing."""
    missing = [name for name, module in (("anny", "anny"), ("warp-lang", "warp")) if importlib.util.find_spec(module) is None]
    if missing:
        raise UserError(f'Rendering faces needs {" and ".join(missing)}, not installed here: pip install "aia-book[render]".')
