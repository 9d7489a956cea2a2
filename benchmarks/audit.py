"""How long an audit takes, over the number of images N and the length k of the representation; a complete one, and two deep ones.

The grid is measured with a sweep's audit (three attackers, one seed, no controls), the complete one has all attackers and the controls, the
deep ones, of all images with a short and with the longest representation, ask all questions besides.
The encoder is untrained: it is as slow as a trained one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from aia_lib.audit import DeepConfig, audit
from aia_lib.config import AuditConfig
from aia_lib.datasets import load_faces
from aia_lib.faces import Faces
from aia_lib.sweep import SWEEP_AUDIT

from .common import Untrained, clock

COUNTS = (1_250, 2_500, 5_000, 10_000)
"""The different N. The different k, and the complete audit, are measured on the second of them."""

PARTS = (8, 4, 2, 1)
"""The encoder's map is averaged down to so many times fewer rows and columns, for the different k; N varies with a half of each."""

HALF = 2

SHORT = 4
"""The part of the short representation that is audited deeply; the long one is the whole map."""


def measure(
    data: str = "embedded",
    root: str | None = None,
    size: int = 64,
    images: int = COUNTS[-1],
    counts: Sequence[int] = COUNTS,
    parts: Sequence[int] = PARTS,
    config: AuditConfig = SWEEP_AUDIT,
    complete: AuditConfig | None = None,
    deep: DeepConfig | None = None,
) -> dict:
    """Seconds of an audit by N and k.

    Args:
        data, root, size: the faces.
        images: the largest N.
        counts: the N's; those beyond `images` are left out.
        parts: divisors of the map's side.
        config: the audit of the grid.
        complete: that of the complete one and of the deep ones; None takes `AuditConfig()`.
        deep: the questions of the deep ones; None takes `DeepConfig()`.
    """
    faces = load_faces(data, root, size=size, limit=images, progress=False)
    counts = [count for count in counts if count <= len(faces)] or [len(faces)]
    fixed = counts[:2][-1]
    side = size // 4
    seconds(faces, counts[0], Untrained(size), config)  # libraries are loaded
    usual = Untrained(size, side // HALF)
    others = [Untrained(size, side // part) for part in parts if part != HALF]
    rows = [seconds(faces, count, usual, config) for count in counts]
    rows += [seconds(faces, fixed, other, config) for other in others]
    complete, deep = complete or AuditConfig(), deep or DeepConfig()
    everything = seconds(faces, fixed, Untrained(size), complete)
    return {
        "size": size,
        "threads": torch.get_num_threads(),
        "attackers": list(config.attackers),
        "rows": rows,
        "complete": everything,
        "deep": [seconds(faces, counts[-1], Untrained(size, side // part), complete, deep) for part in (SHORT, 1)],
    }


def seconds(faces: Faces, count: int, anonymizer: Untrained, config: AuditConfig, deep: DeepConfig | None = None) -> dict:
    """One audit of the first `count` images."""
    part = faces.subset(np.arange(count))
    taken, report = clock(lambda: audit(anonymizer, part, seeds=1, config=config, deep=deep, progress=False))
    return {
        "images": len(part),
        "k": anonymizer.k,
        "seconds": round(taken, 2),
        "leak_auc": report.retrained["leak_auc"],
        "attackers": len(report.retrained["attackers"]),
    }
