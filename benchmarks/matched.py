"""Which reading of the paper reproduces what: its adversary reads g or the rebuilt image x', and stands still or goes on learning.

For each of the four readings the weight beta is chosen on val, with the first seed, so that the reading's *own* adversary loses as large a
share of its lead over a coin as in the paper (Table 1 on CelebA: 46.6 %). Each reading is then trained with every seed and audited twice:
as one who releases g, and as one who releases x'. "Original" is the auto-encoder before the fine-tuning, audited in the same way.

Four weights and three seeds make 24 fine-tunings; what is trained and audited stays in `folder`, from which a later call goes on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from aia_lib.anonymizers import AIA, Original
from aia_lib.audit import AuditReport, audit, represent
from aia_lib.config import PROFILES, AuditConfig, Profile, as_dict
from aia_lib.datasets import load_faces
from aia_lib.faces import Faces
from aia_lib.machine.files import UserError
from aia_lib.report.ledger import published
from aia_lib.statistics import accuracy

from .common import rounded

READINGS = tuple(itertools.product(("latent", "image"), ("frozen", "alternating")))
"""What the adversary reads, and whether it stands still."""

BETAS = (0.25, 0.5, 1.0, 2.0)

SEEDS = (0, 1, 2)


class Rebuilt:
    """An anonymizer that releases the image that a method rebuilds, x' (N, size^2), in the place of g."""

    def __init__(self, method: Original | AIA) -> None:
        self.method, self.name = method, f"{method.name}, rebuilt"
        self.map_shape = (1, method.networks.size, method.networks.size)

    def __call__(self, images: Tensor) -> Tensor:
        return self.method.decode(self.method(images)).flatten(1)


def measure(
    data: str = "celeba",
    root: str | None = None,
    size: int = 32,
    images: int | None = None,
    profile: Profile | None = None,
    audits: AuditConfig | None = None,
    betas: Sequence[float] = BETAS,
    seeds: Sequence[int] = SEEDS,
    folder: str | Path = "runs/matched",
) -> dict:
    """Of each reading: the chosen beta, its own adversary before and after, and what fresh attackers and a fresh verifier find.

    Args:
        data, root, size, images: the faces; None takes all.
        profile: how long everything trains; None takes "fast".
        audits: who attacks; None takes the profile's, with all attackers.
        betas: the weights to choose from.
        seeds: of networks, batches and attackers.
        folder: where checkpoints and audits go.
    """
    faces = load_faces(data, root, size=size, limit=images, progress=False)
    splits, profile, folder = faces.split(), dataclasses.replace(profile or PROFILES["fast"], size=size), Path(folder)
    audits, table = audits or profile.audit, published("celeba")
    before, after = (table[name]["privacy_accuracy"] for name in ("Original", "AIA"))
    wanted = (before - after) / (before - 0.5)
    settings = hashlib.sha256(json.dumps(as_dict(audits), sort_keys=True).encode()).hexdigest()[:8]
    merged: dict[str, dict[str, AuditReport]] = {}
    figures: dict = {"source": faces.source, "images": len(faces), "people": faces.people, "size": size, "seeds": list(seeds)}
    figures["wanted"] = round(wanted, 4)

    def looked_at(name: str, make: Callable[[int], Original | AIA]) -> dict:
        row = {}
        for release, view in (("g", lambda method: method), ("rebuilt", Rebuilt)):
            reports = []
            for seed in seeds:
                saved = folder / name / f"{release}-{seed}-{settings}.npz"
                if not saved.exists():
                    audit(view(make(seed)), faces, seeds=[seed], config=audits, progress=False).save(saved)
                reports.append(AuditReport.load(saved))
            report = merged.setdefault(name, {})[release] = AuditReport.merge(reports)
            r = report.retrained
            leak, utility = ((r[key], *r[f"{key}_ci"]) for key in ("leak_auc", "utility_auc_same"))
            row[release] = {"leak": rounded(*leak), "worst_attacker": r["worst_attacker"], "utility": rounded(*utility)}
            if name != "Original":
                change = report.compare(merged["Original"][release])["leak_auc"]
                row[release]["leak_change"] = rounded(change["change"], *change["change_ci"])
        print(name, row, file=sys.stderr, flush=True)
        return row

    plain = {seed: Original(profile, seed).fit(splits.train, folder=folder / f"original-{seed}", progress=False) for seed in seeds}
    figures["Original"] = looked_at("Original", lambda seed: plain[seed])

    def reading(attach: str, adversary: str) -> dict:
        name, starts = f"{attach}, {adversary}", plain
        config = dataclasses.replace(profile, finetune=dataclasses.replace(profile.finetune, attach=attach))
        if attach == "image":  # the same auto-encoder, with an adversary and a Siamese network that read what it rebuilds
            places = {seed: folder / f"original-image-{seed}" for seed in seeds}
            starts = {
                seed: Original(config, seed).fit(splits.train, start=plain[seed], folder=places[seed], progress=False) for seed in seeds
            }

        def trained(seed: int, beta: float) -> AIA:
            method = AIA(config, seed, adversary=adversary, beta=beta)
            return method.fit(splits.train, start=starts[seed], folder=folder / name / f"beta-{beta:g}-{seed}", progress=False)

        leads = {beta: lead(trained(seeds[0], beta), splits.val) for beta in betas}
        start = lead(starts[seeds[0]], splits.val)
        if start <= 0:
            raise UserError(f"The adversary of the reading {name!r} reads nothing before the fine-tuning; take more images.")
        falls = {beta: (start - left) / start for beta, left in leads.items()}
        chosen = min(betas, key=lambda beta: abs(falls[beta] - wanted))
        methods = {seed: trained(seed, chosen) for seed in seeds}
        own = {when: [0.5 + lead(some[seed], splits.test) for seed in seeds] for when, some in (("before", starts), ("after", methods))}
        return {
            "beta": chosen,
            "falls_on_val": {f"{beta:g}": round(fall, 4) for beta, fall in falls.items()},
            "own_adversary": {when: round(float(np.mean(values)), 4) for when, values in own.items()},
            **looked_at(f"{name}, beta {chosen:g}", methods.__getitem__),
        }

    figures["readings"] = {", ".join(which): reading(*which) for which in READINGS}
    return figures


def lead(method: Original | AIA, faces: Faces) -> float:
    """By how much the balanced accuracy of a method's own adversary on `faces` exceeds a coin's, at its own threshold."""
    logits = represent(lambda images: method.adversary(method(images))[:, None], faces.images)[:, 0]
    return accuracy(logits, faces.labels(), 0.0, balanced=True) - 0.5
