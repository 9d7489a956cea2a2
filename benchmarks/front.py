"""How much a protected template still tells, against how many genuine pairs are still accepted: `defences.Transport` in figures.

* `stored`, `leace`: templates as they are, and without their linear trace of the attribute;
* `front`: how many components are kept, and how far they are moved; `chosen` is the setting that leaks least on val among those that accept
  `ACCEPTED` of the genuine pairs there;
* `people`: the chosen one, fitted on a part of the people; `ten_times_the_people` goes on from there;
* `second`: the chosen one for two attributes at once; `transfer`: fitted on these templates and released for others, and the
  reverse.

A row holds the leak by the strongest attacker of each level, and the genuine pairs that a fresh verifier refuses at some false match rates
among impostors with the same label, with intervals over the people of all folds and seeds. Every audit stays in `folder`, from which a
later call goes on.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from aia_lib.audit import AuditReport, DeepConfig, audit, represent, stored
from aia_lib.audit.information import extrapolated
from aia_lib.audit.levels import LEVELS
from aia_lib.config import AuditConfig, as_dict
from aia_lib.datasets import load_faces
from aia_lib.defences import Erased, template_protection
from aia_lib.faces import Faces
from aia_lib.machine.files import write_json
from aia_lib.statistics import fnmr_at_fmr, limits, paired_draws
from aia_lib.verification import pair_distances

from .common import rounded

SETTINGS = ((12, 1.0), (16, 1.0), (24, 1.0), (32, 1.0), (48, 1.0), (24, 0.9), (24, 0.8), (24, 0.5))
"""Components that are kept, and how far they are moved."""

ACCEPTED = 0.70

SHARES = (1 / 8, 1 / 4, 1 / 2)
"""Of the people to fit on."""

RATES = ("1e-1", "1e-2", "1e-3")

Make = Callable[[Faces, int], Callable]
"""What makes a method of a train split and a seed."""


def measure(
    data: str = "templates",
    root: str | None = None,
    images: int | None = None,
    elsewhere: str | None = None,
    audits: AuditConfig | None = None,
    settings: Sequence[tuple[int, float]] = SETTINGS,
    shares: Sequence[float] = SHARES,
    second: str | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    folds: int = 3,
    folder: str | Path = "runs/front",
) -> dict:
    """The figures, see above.

    Args:
        data, root, images: the templates; without a root those that ship, without a number all of them.
        elsewhere: the other templates for `transfer`; None takes those that ship.
        audits: who attacks; None takes `AuditConfig()`.
        settings: (components, amount) of each.
        shares: of the people to fit on.
        second: another attribute to hide; None takes "Young" where it is labelled, else none.
        seeds: of the transport and the audits of `stored` and `chosen`; all else has 0.
        folds: how often the people are dealt out.
        folder: where audits go.
    """
    faces, other = (load_faces(data, place, limit=images, progress=False) for place in (root, elsewhere))
    second = second or ("Young" if "Young" in faces.attributes else None)
    rows = _Rows(audits or AuditConfig(), folds, Path(folder))
    figures: dict = {"source": faces.source, "images": len(faces), "people": faces.people, "seeds": list(seeds), "folds": folds}
    figures["stored"] = rows.row("stored", faces, lambda train, seed: stored, seeds=seeds)
    figures["leace"] = rows.row("leace", faces, lambda train, seed: Erased(None, ("leace",), seed).fit(train))
    front = {(k, amount): rows.row(f"front-{k}-{amount:g}", faces, transported(k, amount)) for k, amount in settings}
    figures["front"] = [{"components": k, "amount": amount, **row} for (k, amount), row in front.items()]
    enough = {setting: row for setting, row in front.items() if row["accepted_on_val"] >= ACCEPTED}
    chosen = min(enough or front, key=lambda setting: front[setting]["leak_on_val"])
    place = {"components": chosen[0], "amount": chosen[1], "accepts_enough_on_val": bool(enough)}
    figures["chosen"] = place | rows.row(f"front-{chosen[0]}-{chosen[1]:g}", faces, transported(*chosen), seeds=seeds)
    parts = [(f"people-{share:g}", share) for share in shares]
    figures["people"] = [rows.row(name, faces, transported(*chosen), share=share) for name, share in parts] + [front[chosen]]
    figures["ten_times_the_people"] = rows.with_more_people([*(name for name, _ in parts), f"front-{chosen[0]}-{chosen[1]:g}"])
    if second:
        both = (faces.attribute, second)
        figures["second"] = {
            name: rows.row(f"second-{name}", faces, transported(*chosen, attributes=both), attribute=name) for name in both
        }
    if faces.source != other.source and faces.size == other.size:
        both_ways = {"to": (faces, other), "from": (other, faces)}
        figures["transfer"] = {
            way: {"learned_from": fit_on.source, "released": released.source}
            | rows.row(f"transfer-{way}", released, transported(*chosen), fit_on=fit_on)
            for way, (fit_on, released) in both_ways.items()
        }
    return figures


def transported(components: int, amount: float, attributes: tuple[str, ...] | None = None) -> Make:
    """The method with a setting, for one attribute or several."""

    def make(train: Faces, seed: int) -> Erased:
        return template_protection(components, amount, seed).fit(train, attributes)

    return make


class _Rows:
    """Audits of methods over all folds and seeds, which are kept, as rows of figures."""

    def __init__(self, audits: AuditConfig, folds: int, folder: Path) -> None:
        self.audits, self.folds, self.folder = audits, folds, folder
        self.reports: dict[str, tuple[int, AuditReport]] = {}
        self.settings = hashlib.sha256(json.dumps(as_dict(audits), sort_keys=True).encode()).hexdigest()[:8]

    def row(
        self,
        name: str,
        faces: Faces,
        make: Make,
        *,
        seeds: Sequence[int] = (0,),
        share: float = 1.0,
        attribute: str | None = None,
        fit_on: Faces | None = None,
    ) -> dict:
        """The row of a method that is fitted on `share` of the train people of `fit_on` (default: of `faces`) and audited on `faces`."""
        reports, more = [], []
        for fold in range(self.folds):
            splits, train = faces.split(fold=fold), (fit_on or faces).split(fold=fold).train
            for seed in seeds:
                place = self.folder / name / f"{faces.fingerprint[:8]}-{self.settings}-fold-{fold}-seed-{seed}"
                audited, known = place.with_suffix(".npz"), place.with_suffix(".json")
                if not known.exists():
                    everybody = np.random.default_rng(seed).permutation(np.unique(train.identity))
                    some = everybody[: round(share * len(everybody))]
                    method = make(train.subset(np.isin(train.identity, some)), seed)
                    questions = DeepConfig(("levels",))
                    report = audit(
                        method, faces, attribute, seeds=[seed], config=self.audits, deep=questions, splits=splits, progress=False
                    )
                    place.parent.mkdir(parents=True, exist_ok=True)
                    report.save(audited)
                    write_json(known, {"accepted_on_val": accepted(method, splits.val, seed), "fitted_on": len(some)})
                reports.append(AuditReport.load(audited))
                more.append(json.loads(known.read_text()))
        merged = AuditReport.merge(reports)
        row = figures_of(merged) | {key: float(np.mean([one[key] for one in more])) for key in more[0]}
        row["fitted_on"] = round(row["fitted_on"])
        self.reports.setdefault(name, (row["fitted_on"], merged))  # of the first seeds, where a row is asked for again with more
        print(name, row, file=sys.stderr, flush=True)
        return row

    def with_more_people(self, names: Sequence[str]) -> dict:
        """The leak if it went on falling over the people that rows were fitted on, at ten times the most, with its interval."""
        people, reports = zip(*(self.reports[name] for name in names), strict=True)
        points = np.array([[report.strongest.auc for report in reports]])
        draws = np.stack(paired_draws(*(report.strongest.scored for report in reports), resamples=self.audits.bootstrap), axis=1)
        many = 10 * people[-1]
        ahead, spread = (np.maximum(0.5, 1 - extrapolated(people, 1 - curve, many)) for curve in (points, draws))  # it falls
        return {"people": many, "leak": rounded(ahead[0], *limits(spread))}


def accepted(method: Callable, faces: Faces, seed: int) -> float:
    """The share of genuine pairs of `faces` accepted at a false match rate of 1 % among impostors with the same label, by the distance."""
    pairs = faces.pairs(20_000, "same", seed=seed, impostor_pairs=30_000)
    return 1 - fnmr_at_fmr(pair_distances(represent(method, faces.images), pairs), pairs.different == 1, 0.01)


def figures_of(report: AuditReport) -> dict:
    """The leak at each level and over all, and FNMR at the false match rates that the pairs carry, each with its interval."""
    r, levels = report.retrained, report.deep["levels"]
    row: dict = {"leak_of_all": rounded(r["strongest_auc"], *r["strongest_auc_ci"]), "strongest": r["strongest"]}
    row["leak_on_val"] = round(max(r["attackers_val"].values()), 4)
    for level in (level for level in LEVELS if level in levels):
        row[level] = rounded(levels[level]["leak_auc"], *levels[level]["leak_auc_ci"])
    row["utility_auc_same"] = rounded(r["utility_auc_same"], *r["utility_auc_same_ci"])
    for rate in RATES:
        if (key := f"fnmr_at_fmr_{rate}_same") in r:
            row[f"refused_at_{rate}"] = rounded(r[key], *r[f"{key}_ci"])
    return row
