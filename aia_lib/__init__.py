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
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .anonymizers import AIA, AIAWithoutTask, Original, RandomMask
    from .audit import AuditReport, DeepConfig, audit, group_rates, interaction_audit, parity_gap
    from .config import PROFILES, AuditConfig, Profile, get_profile
    from .datasets import SOURCES, load_faces
    from .defences import CertifiedNoise, Compact, Erased, HardenedAIA
    from .faces import Faces
    from .machine.files import UserError
    from .report import ledger, plots
    from .saving import load_anonymizer, load_pretrained
    from .sweep import SweepConfig, SweepResult, parse_range, run_sweep


__version__ = "0.1.0"

# Public name: the submodule that defines it; of the package `report` the names are modules.
_HOME = {
    "AIA": "anonymizers",
    "AIAWithoutTask": "anonymizers",
    "AuditConfig": "config",
    "AuditReport": "audit",
    "CertifiedNoise": "defences",
    "Compact": "defences",
    "DeepConfig": "audit",
    "Erased": "defences",
    "Faces": "faces",
    "HardenedAIA": "defences",
    "Original": "anonymizers",
    "PROFILES": "config",
    "Profile": "config",
    "RandomMask": "anonymizers",
    "SOURCES": "datasets",
    "SweepConfig": "sweep",
    "SweepResult": "sweep",
    "UserError": "machine.files",
    "audit": "audit",
    "get_profile": "config",
    "group_rates": "audit",
    "interaction_audit": "audit",
    "ledger": "report",
    "load_anonymizer": "saving",
    "load_faces": "datasets",
    "load_pretrained": "saving",
    "parity_gap": "audit",
    "parse_range": "sweep",
    "plots": "report",
    "run_sweep": "sweep",
}

__all__ = [
    "AIA",
    "AIAWithoutTask",
    "AuditConfig",
    "AuditReport",
    "CertifiedNoise",
    "Compact",
    "DeepConfig",
    "Erased",
    "Faces",
    "HardenedAIA",
    "Original",
    "PROFILES",
    "Profile",
    "RandomMask",
    "SOURCES",
    "SweepConfig",
    "SweepResult",
    "UserError",
    "audit",
    "get_profile",
    "group_rates",
    "interaction_audit",
    "ledger",
    "load_anonymizer",
    "load_faces",
    "load_pretrained",
    "parity_gap",
    "parse_range",
    "plots",
    "run_sweep",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOME[name]
    value = import_module(f".{home}.{name}", __name__) if home == "report" else getattr(import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps `aia_lib.audit` the function: importing the submodule of that name would otherwise put the module in its place."""

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, ModuleType) and _HOME.get(name) == name:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
