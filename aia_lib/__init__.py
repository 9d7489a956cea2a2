"""Hide an attribute in face representations, then measure what still leaks.

An anonymizer is any function from images (N, 1, H, W) in [0, 1] to representations g (N, k). An audit freezes it, trains fresh attackers
and a fresh verifier on g, and reports what they find on people whom nobody has trained on:

    import torch.nn.functional as F
    from aia_lib import AIA, audit, load_faces

    def pixelate(images):
        return F.avg_pool2d(images, 4).flatten(1)

    faces = load_faces("celeba", root="CelebA", size=64, limit=5000)  # gender as labelled in the data set
    print(audit(pixelate, faces, seeds=1))

    aia = AIA(alpha=0.5, beta=0.5).fit(faces.split().train)
    print(audit(aia, faces, seeds=1))

`aia run` on the command line makes the paper's whole table.
Names are loaded when they are first used, so that `import aia_lib` needs neither torch nor matplotlib.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

_HOME = {  # public name: the submodule that defines it
    **dict.fromkeys(("AIA", "AIAWithoutTask", "Original", "RandomMask"), "anonymizers"),
    **dict.fromkeys(("AuditReport", "DeepConfig", "audit", "group_rates"), "audit"),
    **dict.fromkeys(("interaction_audit", "parity_gap"), "audit"),
    **dict.fromkeys(("AuditConfig", "PROFILES", "Profile", "get_profile"), "config"),
    **dict.fromkeys(("SOURCES", "load_faces"), "datasets"),
    **dict.fromkeys(("CertifiedNoise", "Compact", "Erased", "HardenedAIA"), "defences"),
    **dict.fromkeys(("load_anonymizer", "load_pretrained"), "saving"),
    **dict.fromkeys(("SweepConfig", "SweepResult", "parse_range", "run_sweep"), "sweep"),
    **{"Faces": "faces", "UserError": "machine.files", "ledger": "report", "plots": "report"},
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = f"{__name__}.{_HOME[name]}"
    value = import_module(f"{home}.{name}") if _HOME[name] == "report" else getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps `aia_lib.audit` the function: importing the submodule of that name would otherwise put the module in its place."""

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, getattr(value, name) if isinstance(value, ModuleType) and _HOME.get(name) == name else value)


sys.modules[__name__].__class__ = _Package
