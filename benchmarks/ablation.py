"""What each part of the recommended method buys: every variant of `ablation` trained and audited on the same people.

And how many people it needs: all parts, with the same settings, fitted on a half, an eighth and a thirty-second of the people of train.

Variants that differ in what comes after the training share it. "Original" is the paper's auto-encoder, the reference of "leak removed"
and "utility kept". So that sixteen trainings take half an hour, each is trained for half of the recommended epochs, without
the decoder, which hides nothing, and attacked by four families: compare the figures with each other, not with those of a full run.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aia_lib.anonymizers import Original
from aia_lib.audit import AuditReport, audit
from aia_lib.config import AuditConfig, as_dict, get_profile
from aia_lib.datasets import load_faces
from aia_lib.defences import HardenedAIA
from aia_lib.defences.settings import CompactConfig, HardenedConfig
from aia_lib.report.ledger import leak_removed, utility_kept

from .common import rounded

SEED = 0
SHARES = (2, 8, 32)
"""It is also fitted on a half, an eighth and a thirty-second of the people."""
SHORT = HardenedConfig(CompactConfig(epochs=15, decoder_epochs=0))
QUICK = AuditConfig(attackers=("logistic", "svm_rbf", "mlp_deep", "gallery_knn"), controls=False)


def ablation(config: HardenedConfig, seed: int = 0) -> dict[str, HardenedAIA]:
    """The recommended method and, for each of its parts, the method without it: untrained anonymizers by name, to fit and audit.

    "no privacy" has none of them but the bottleneck: what the compact representation alone keeps and leaks.
    """
    compact = config.compact

    def variant(erasers: tuple[str, ...] = config.erasers, mu: float = config.mu, **settings: float | str | bool | tuple) -> HardenedAIA:
        changed = dataclasses.replace(config, compact=dataclasses.replace(compact, **settings), erasers=erasers, mu=mu)
        return HardenedAIA(changed, seed=seed)

    def spared(*kinds: str) -> tuple[str, ...]:
        return tuple(name for name in config.erasers if name not in kinds)

    made = {
        "all parts": variant(),
        "without noise": variant(mu=0.0),
        "without discriminants": variant(spared("discriminants")),
        "without score erasure": variant(spared("score")),
        "without LEACE": variant(spared("leace")),
        "without erasure": variant(spared("score", "leace")),
        "the training alone": variant((), 0.0),
        "without adversaries": variant(privacy="none"),
        "one adversary, never renewed": variant(adversaries=compact.adversaries[:1], renew_every=0),
        "without matching": variant(matching=0.0),
        "without matched impostors": variant(impostors="free"),
        "without augmentation": variant(augment=False),
        "no privacy": variant((), 0.0, privacy="none", matching=0.0, impostors="free"),
    }
    for name, method in made.items():
        method.name = f"HardenedAIA, {name}"
    return made


def measure(
    data: str = "celeba",
    root: str | None = None,
    size: int = 32,
    images: int | None = None,
    config: HardenedConfig | None = None,
    audits: AuditConfig | None = None,
    shares: Sequence[int] = SHARES,
) -> dict:
    """Of Original, each variant and each number of people: leak and utility with 95 % intervals, the worst attacker, and the shares.

    Variants also have "leak_change" and "utility_change", less "all parts", with paired 95 % intervals.

    Args:
        data, root, size, images: the faces; None takes all.
        config: the method; None takes `SHORT`.
        audits: who attacks, and how long they learn; None takes `QUICK`.
        shares: which parts of the people it is fitted on besides, as denominators.
    """
    faces = load_faces(data, root, size=size, limit=images, progress=False)
    train = faces.split().train
    config, audits = config or SHORT, audits or QUICK
    figures: dict = {"source": faces.source, "images": len(faces), "people": faces.people, "size": size, "settings": as_dict(config)}
    reports: dict = {"methods": {}}
    audited: dict[str, AuditReport] = {}

    def look(name: str, method: object) -> dict:
        audited[name] = audit(method, faces, seeds=[SEED], config=audits, progress=False)
        retrained = audited[name].retrained
        reports["methods"][name] = {"retrained": retrained}
        row = {
            "leak": rounded(retrained["leak_auc"], *retrained["leak_auc_ci"]),
            "worst_attacker": retrained["worst_attacker"],
            "utility": rounded(retrained["utility_auc_same"], *retrained["utility_auc_same_ci"]),
        }
        if name != "Original":
            row |= {"leak_removed": round(leak_removed(reports, name), 4), "utility_kept": round(utility_kept(reports, name), 4)}
        if "all parts" in audited and name != "all parts":
            change = audited[name].compare(audited["all parts"])
            for part, key in (("leak", "leak_auc"), ("utility", "utility_auc_same")):
                row[f"{part}_change"] = rounded(change[key]["change"], *change[key]["change_ci"])
        print(name, row, file=sys.stderr, flush=True)
        return row

    figures["methods"] = {
        "Original": look("Original", Original(dataclasses.replace(get_profile(), size=size), seed=SEED).fit(train, progress=False))
    }
    with tempfile.TemporaryDirectory(prefix="ablation-") as scratch:
        folders: dict[str, Path] = {}
        for name, method in ablation(config, seed=SEED).items():
            trained = str(as_dict(method.config.compact))
            folder = folders.setdefault(trained, Path(scratch) / str(len(folders)))
            figures["methods"][name] = look(name, method.fit(train, folder=folder, progress=False))
    rows = [{"people": train.people, "images": len(train), **figures["methods"]["all parts"]}]
    order = np.random.default_rng(SEED).permutation(np.unique(train.identity))
    for share in shares:
        some = train.subset(np.isin(train.identity, order[: train.people // share]))
        method = HardenedAIA(config, seed=SEED).fit(some, progress=False)
        rows.append({"people": some.people, "images": len(some), **look(f"{some.people} people", method)})
    figures["fewer_people"] = rows
    return figures
