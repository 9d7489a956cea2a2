"""Several private attributes: the recommended method told to hide none, one, two and more of them, each time audited for all.

"Original" is the paper's auto-encoder, which hides nothing. Settings are those of `ablation`: half of the recommended epochs, one seed,
the same attackers without the gallery. Each attribute is audited by itself, with impostors who have the same label of it; the first two are
also read given each other and in combination; and a fresh verifier's two errors are counted in the groups of the first.
"""

from __future__ import annotations

import dataclasses
import sys

from aia_lib.anonymizers import Original
from aia_lib.audit import DeepConfig, audit, group_rates, interaction_audit
from aia_lib.audit.interaction import INTERACTION_ATTACKERS
from aia_lib.config import AuditConfig, as_dict, get_profile
from aia_lib.datasets import load_faces
from aia_lib.defences import HardenedAIA
from aia_lib.defences.settings import HardenedConfig

from .ablation import QUICK, SEED, SHORT
from .common import rounded

ATTRIBUTES = {"celeba": ("gender", "Young", "Smiling", "Eyeglasses"), "embedded": ("gender", "young", "smiling", "eyeglasses")}
"""The attributes of each set of faces, in the order in which they are hidden; its own private one comes first."""

READERS = ("logistic", "svm_rbf", "mlp_deep")


def measure(
    data: str = "celeba",
    root: str | None = None,
    size: int = 32,
    images: int | None = None,
    config: HardenedConfig | None = None,
    audits: AuditConfig | None = None,
) -> dict:
    """Leak of each attribute, utility, interaction and errors by group of Original and of the method told to hide 1, 2 and all.

    Args:
        data, root, size, images: the faces; None takes all.
        config: the method; None takes `ablation.SHORT`.
        audits: who attacks, and how long attackers and verifiers learn; None takes `ablation.QUICK`, with `READERS` as attackers, and
            `INTERACTION_ATTACKERS` for several attributes together.
    """
    faces = load_faces(data, root, size=size, limit=images, progress=False)
    train, names = faces.split().train, ATTRIBUTES[data]
    attackers = INTERACTION_ATTACKERS if audits is None else audits.attackers
    config, audits = config or SHORT, audits or dataclasses.replace(QUICK, attackers=READERS)
    original = Original(dataclasses.replace(get_profile(), size=size), seed=SEED).fit(train, progress=False)
    methods: list[tuple[object, tuple[str, ...]]] = [(original, ())]
    for hidden in (names[:1], names[:2], names):
        method = HardenedAIA(config, seed=SEED).fit(train, hidden, progress=False)
        method.name = f"hide {', '.join(hidden)}"
        methods.append((method, hidden))
    figures: dict = {"source": faces.source, "images": len(faces), "people": faces.people, "size": size, "attributes": list(names)}
    figures |= {"settings": as_dict(config), "methods": {}}
    others = {}
    only_creep, light = DeepConfig(parts=("creep",)), dataclasses.replace(audits, attackers=("logistic",))
    for method, hidden in methods:
        row: dict = {"hidden": list(hidden), "attributes": {}}
        for name in names:
            retrained = audit(method, faces, seeds=[SEED], config=audits, attribute=name, progress=False).retrained
            row["attributes"][name] = {
                "leak": rounded(retrained["leak_auc"], *retrained["leak_auc_ci"]),
                "worst_attacker": retrained["worst_attacker"],
                "utility_same": rounded(retrained["utility_auc_same"], *retrained["utility_auc_same_ci"]),
            }
            if name == names[0]:
                row["utility"] = rounded(retrained["utility_auc"], *retrained["utility_auc_ci"])
        together = interaction_audit(method, faces, names[:2], seeds=1, config=audits, attackers=attackers, progress=False)
        row["together"] = _together(together)
        row["errors"] = group_rates(method, faces, names[0], seeds=1, config=audits, progress=False).to_dict()
        if method is not original:
            deep = audit(method, faces, seeds=[SEED], config=light, original=original, deep=only_creep, progress=False).deep["creep"]
            others[method.name] = {
                name: {
                    **{key: round(creep[key], 4) for key in ("before", "after", "change")},
                    "change_ci": rounded(*creep["change_ci"]),
                }
                for name, creep in deep["attributes"].items()
            }
        figures["methods"][method.name] = row
        print(method.name, row["attributes"], row["utility"], file=sys.stderr, flush=True)
    figures["all_attributes"] = others
    return figures


def _together(report: object) -> dict:
    leaks = {what: rounded(leak.auc, *leak.auc_ci) for what, leak in report.leaks.items()}
    joint = report.joint and {key: report.joint[key] for key in ("cells", "chance", "balanced_accuracy", "balanced_accuracy_ci")}
    return {"leaks": leaks, "joint": joint, "left_out": report.left_out, "missing": report.missing}
