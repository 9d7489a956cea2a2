"""Every rival in one table: published methods on the templates, splits, attackers and operating points that ours meets.

Each is fitted on the people of `train`, and then audited as a function of templates: fresh attackers on one image, and those who have two
or all images of a person; a fresh verifier, with impostors of the same label. PE-MIU compares templates in a way of its own, so that its
verification is measured with that, and so is the attack of record on it.

The rivals' settings are one choice each, mostly ours and not their papers'; no front of settings is searched for them, so that a row says
what a method does as set here. PE-MIU's block size is the one of five at which, on CelebA's templates, a support vector machine failed
and the gallery attack did not: its row shows that attack, not what blocks of another size would leave.

What was measured stays in `folder`, a file for a method and a seed, from which a later call goes on; delete the folder when a method has
changed.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from aia_lib.audit import AuditReport, DeepConfig, audit, represent, stored
from aia_lib.audit.trial import draw_pairs
from aia_lib.config import AuditConfig, as_dict
from aia_lib.datasets import load_faces
from aia_lib.defences import template_protection
from aia_lib.faces import Faces
from aia_lib.machine.files import UserError
from aia_lib.statistics import Scored, bootstrap_fnmr, fnmr_at_fmr, interval, limits

from ..common import clock, rounded
from .blocks import PEMIU, MultiIVE, gallery_attack, own_distances
from .kernels import KernelTradeOff, Obliviator
from .linear import INLP, LEACE, RLACE, SPLINCE
from .networks import MaximumEntropy, PrivacyFunnel
from .rival import Rival

RIVALS: tuple[type[Rival], ...] = (
    *(LEACE, INLP, RLACE, SPLINCE, KernelTradeOff, Obliviator),
    *(MultiIVE, PEMIU, PrivacyFunnel, MaximumEntropy),
)

OURS = {"ours": (24, 1.0), "ours, amount 0.8": (24, 0.8), "ours, amount 0.9": (24, 0.9), "ours, 16 numbers": (16, 1.0)}
OURS |= {"ours, 32 numbers": (32, 1.0)}
"""Name -> discriminants kept, and how far they are transported."""

SEEDS = (0,)
FMR = 0.01
Method = Callable[[Tensor], Tensor]


def methods() -> dict[str, Callable[[Faces, int], Method]]:
    """By name, what makes a method of the faces of `train` and a seed."""

    def fitted(rival: type[Rival]) -> Callable[[Faces, int], Method]:
        return lambda train, seed: rival().fit(np.asarray(train.images), train.labels(), train.identity, seed)

    def ours(components: int, amount: float) -> Callable[[Faces, int], Method]:
        return lambda train, seed: template_protection(components, amount, seed).fit(train)

    made = {"raw": lambda train, seed: stored} | {rival.name: fitted(rival) for rival in RIVALS}
    return made | {name: ours(*settings) for name, settings in OURS.items()}


def measure(
    data: str = "templates",
    root: str | None = None,
    images: int | None = None,
    audits: AuditConfig | None = None,
    seeds: Sequence[int] = SEEDS,
    names: Sequence[str] | None = None,
    folder: str | Path = "runs/rivals",
) -> dict:
    """Of each method: the leak by one image, the strongest leak of all levels, utility, FNMR at 1 % FMR, and the seconds that fitting took.

    Intervals are 95 %, over people. Utility and FNMR are those of impostors with the same label. PE-MIU has "gallery_attack", too: the
    AUC of the gallery attack on it and of a support vector machine, and their balanced accuracies; its `strongest` is the gallery where
    that reads more.

    Args:
        data: "templates".
        root: the file of templates; None takes those that ship.
        images: how many, at most; None takes all.
        audits: who attacks, and how long they learn; None takes the full audit.
        seeds: of what is fitted at random, and of the attackers.
        names: which of `methods()`; None takes all.
        folder: where audits go.
    """
    made = methods()
    if unknown := [name for name in names or () if name not in made]:
        raise UserError(f"There is no method {unknown[0]!r}; there are {', '.join(made)}.")
    faces = load_faces(data, root, limit=images, progress=False)
    splits, audits = faces.split(), audits or AuditConfig()
    known = splits.train.subset(np.flatnonzero(splits.train.labels() >= 0))
    about = json.dumps(as_dict(audits), sort_keys=True).encode() + np.asarray(faces.images).tobytes() + faces.labels().tobytes()
    place = Path(folder) / hashlib.sha256(about).hexdigest()[:8]
    figures: dict[str, Any] = {"source": faces.source, "images": len(faces), "people": faces.people, "numbers": faces.images.shape[1]}
    figures |= {"fitted_on": {"people": known.people, "images": len(known)}, "seeds": list(seeds), "methods": {}}

    def measured(name: str, seed: int) -> tuple[AuditReport, dict[str, np.ndarray]]:
        saved = place / re.sub(r"\W+", "-", name) / f"{seed}.npz"
        beside = saved.with_suffix(".more.npz")  # written last
        if not beside.exists():
            seconds, method = clock(lambda: made[name](known, seed))
            audit(method, faces, seeds=[seed], config=audits, deep=DeepConfig(("levels",)), progress=False).save(saved)
            np.savez(beside, seconds=seconds, **(_own(method, faces, audits, seed) if isinstance(method, PEMIU) else {}))
        with np.load(beside) as more:
            return AuditReport.load(saved), dict(more)

    for name in names or made:
        reports, more = zip(*(measured(name, seed) for seed in seeds), strict=True)
        row = _row(AuditReport.merge(reports), audits.bootstrap) | {
            "seconds_to_fit": round(float(np.mean([m["seconds"] for m in more])), 1)
        }
        if name == PEMIU.name:
            row |= _own_row(more, row, audits.bootstrap)
        print(name, row, file=sys.stderr, flush=True)
        figures["methods"][name] = row
    return figures


def _row(report: AuditReport, bootstrap: int) -> dict:
    r, image = report.retrained, report.deep["levels"]["image"]
    fnmr = "fnmr_at_fmr_1e-2_same"
    row = {
        "leak": rounded(image["leak_auc"], *image["leak_auc_ci"]),
        "worst_attacker": image["strongest"],
        "strongest_leak": rounded(r["strongest_auc"], *r["strongest_auc_ci"]),
        "strongest": r["strongest"],
        "utility": rounded(r["utility_auc_same"], *r["utility_auc_same_ci"]),
    }
    return row | ({"fnmr_at_fmr_1_percent": rounded(r[fnmr], *r[f"{fnmr}_ci"])} if fnmr in r else {})


def _own(method: PEMIU, faces: Faces, audits: AuditConfig, seed: int) -> dict[str, np.ndarray]:
    """PE-MIU's own comparison: distances of test's pairs, of templates as they are released and in their order, and the gallery attack."""
    splits = faces.split()
    pairs, test = draw_pairs(splits, audits, seed), splits.test
    arrays = {f"attack/{key}": value for key, value in gallery_attack(method, splits, seed).items()}
    for what, g in (("shuffled", represent(method, test.images)), ("plain", np.asarray(test.images))):
        for kind, drawn in (("same", pairs["test"]["same"]), ("gate", pairs["gate"]["same"])):
            distances = own_distances(method, g, drawn) if what == "shuffled" else _cosine(g[drawn.a], g[drawn.b])
            arrays[f"{what}/{kind}"] = distances
            arrays |= {f"{kind}/different": drawn.different == 1, f"{kind}/people": test.identity[np.stack([drawn.a, drawn.b], axis=1)]}
    return arrays


def _cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return 1 - (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


def _own_row(more: Sequence[dict[str, np.ndarray]], row: dict, bootstrap: int) -> dict:
    """What replaces `row` for PE-MIU: its own comparison ("plain": the cosine of templates in their order), and the attack."""

    def verified(what: str) -> dict:
        same, gate = ([Scored(m[f"{what}/{kind}"], m[f"{kind}/different"], m[f"{kind}/people"]) for m in more] for kind in ("same", "gate"))
        rate = float(np.mean([fnmr_at_fmr(one.scores, one.positive, FMR) for one in gate]))
        return {
            "utility": rounded(np.mean([one.auc for one in same]), *interval(same, bootstrap)),
            "fnmr_at_fmr_1_percent": rounded(rate, *limits(bootstrap_fnmr(gate, [FMR], bootstrap)[:, 0])),
        }

    attack: dict[str, Any] = {"neighbours": [int(m["attack/neighbours"]) for m in more]}
    for name in ("gallery", "svm"):
        scored = [Scored(m[f"attack/{name}"], m["attack/labels"] == 1, m["attack/people"]) for m in more]
        attack[name] = rounded(np.mean([one.auc for one in scored]), *interval(scored, bootstrap))
        attack[f"{name}_accuracy"] = round(float(np.mean([m[f"attack/{name}_accuracy"] for m in more])), 4)
    result = verified("shuffled") | {"plain": verified("plain"), "gallery_attack": attack}
    if attack["gallery"][0] > row["strongest_leak"][0]:
        result |= {"strongest_leak": attack["gallery"], "strongest": "the gallery attack"}
    return result
