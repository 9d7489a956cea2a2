"""The leak of a method by its strongest attacker of any kind, and the differences of two audits, paired over people.

Two audits of the same faces test the same people, so that much of what moves the one figure moves the other too. Each one's interval by
itself says little about the difference: both may overlap while the difference is certain. Here the same people are drawn for both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..machine.files import UserError
from ..statistics import Scored, limits, paired_draws
from .levels import LEVELS
from .trial import SeedScores

if TYPE_CHECKING:
    from . import AuditReport

KINDS = {
    "fresh": "fresh attackers",
    "adaptive": "attackers who know the defence",
    "others": "attackers who learn from other people too",
    "levels": "attackers of one, two and all images of a person",
}
"""Kinds of attackers, each tried or not by an audit as a whole: by `retrained` and by these parts of `deep`."""


@dataclass(frozen=True)
class Strongest:
    """The strongest attacker of an audit.

    Attributes:
        attacker: its name, with what it has where that is not one image alone.
        val: its mean AUC on val.
        scored: its test scores, one a seed.
    """

    attacker: str
    val: float
    scored: tuple[Scored, ...]

    @property
    def auc(self) -> float:
        """The mean over seeds of its AUC on test."""
        return float(np.mean([scored.auc for scored in self.scored]))


def kinds_tried(seeds: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The `KINDS` that every one of an audit's seeds tried, whether or not such an attacker applied."""
    return ("fresh", *(kind for kind in KINDS if kind != "fresh" and all(kind in entry.get("deep", {}) for entry in seeds)))


def strongest(seeds: Sequence[Mapping[str, Any]], scores: Sequence[SeedScores], kinds: Sequence[str]) -> Strongest:
    """The attacker that is best on val over all seeds together, of all that belong to `kinds`.

    Args:
        seeds, scores: of an `AuditReport`; an attacker that did not run in one of the seeds does not count.
        kinds: some of `KINDS`.
    """
    val = [_aucs_on_val(entry, kinds) for entry in seeds]
    means = {key: float(np.mean([aucs[key] for aucs in val])) for key in val[0] if all(key in aucs for aucs in val)}
    kind, name = max(means, key=means.get)
    words = {"fresh": "", "adaptive": ", knowing the defence", "others": ""} | {level: f", from {words}" for level, words in LEVELS.items()}
    measured = tuple(seed.scored(kind, name) for seed in scores)
    return Strongest(f"{name}{words[kind]}", means[kind, name], measured)


def _teachers(report: AuditReport) -> set[str]:
    """Whom the attackers of the kind "others" learned from, and who they were."""
    return {name for entry in report.seeds for name in entry["deep"]["others"]["attackers"]}


def _aucs_on_val(entry: Mapping[str, Any], kinds: Sequence[str]) -> dict[tuple[str, str], float]:
    """One seed's AUC on val by kind, or level, and attacker; fresh ones first, for a tie goes to the plainest."""
    deep = entry.get("deep", {})
    parts = {"fresh": entry["retrained"]}
    parts |= {kind: deep.get(kind, {}) for kind in ("adaptive", "others") if kind in kinds}
    parts |= deep.get("levels", {}) if "levels" in kinds else {}
    of = {kind: parts.get(kind, {}).get("attackers_val", {}) for kind in ("fresh", "adaptive", "others", *LEVELS)}
    return {(kind, name): auc for kind, aucs in of.items() for name, auc in aucs.items()}


def check_comparable(report: AuditReport, other: AuditReport) -> None:
    """Raise a UserError where two audits are of different faces, test people or attributes."""
    people = [np.unique(np.concatenate([seed.people for seed in r.scores])) for r in (report, other)]
    if (other.attribute, other.data) != (report.attribute, report.data) or not np.array_equal(*people):
        raise UserError(
            f"The audits of {report.name} and {other.name} are of different faces or attributes, so they cannot be compared; "
            "audit both on the same faces."
        )


def leak_difference(report: AuditReport, other: AuditReport, same_kinds: bool = True) -> dict[str, Any]:
    """The leak of `report` less that of `other`, as in `compare_audits`; without `same_kinds` all attackers of `report` count."""
    tried, theirs = (kinds_tried(r.seeds) for r in (report, other))
    common = tuple(kind for kind in tried if kind in theirs and (kind != "others" or _teachers(report) == _teachers(other)))
    tried = [common if same_kinds else tried, common]
    after, before = (strongest(r.seeds, r.scores, kinds) for r, kinds in zip((report, other), tried, strict=True))
    figures = auc_difference(after.scored, before.scored, report.bootstrap, lambda x, o: (o - x) / (o - 0.5))
    return figures | {"attacker": after.attacker, "attacker_before": before.attacker, "kinds": list(tried[0])}


def utility_difference(report: AuditReport, other: AuditReport, impostors: str) -> dict[str, Any]:
    """The utility of `report` less that of `other`, as in `compare_audits`; impostors are "free" or of the "same" label."""
    after, before = ([getattr(seed, impostors) for seed in r.scores] for r in (report, other))
    return auc_difference(after, before, report.bootstrap, utility_share)


def compare_audits(report: AuditReport, other: AuditReport) -> dict[str, dict[str, Any]]:
    """How an audit differs from another of the same faces and attribute: leak, and utility with both kinds of impostors.

    Returns:
        "leak_auc" (of the strongest attacker, among the kinds of `KINDS` that both audits tried), "utility_auc_same" and "utility_auc",
        each {before (of `other`), after, change, change_ci, share, share_ci, supported}: mean AUCs over seeds, their difference, and what
        share of `other`'s leak is removed, or of its utility kept, with chance as zero (None where `other` is at chance). Intervals are
        of 95 %, by a bootstrap over people that draws the same people for both. `supported`: the interval of the change leaves 0 out.
        The leak also has `attacker`, `attacker_before` and `kinds`.

    Raises:
        UserError: the two audits are of different faces or attributes.
    """
    check_comparable(report, other)
    utilities = {f"utility_auc{suffix}": utility_difference(report, other, kind) for kind, suffix in (("same", "_same"), ("free", ""))}
    return {"leak_auc": leak_difference(report, other), **utilities}


def paired_differences(reports: Mapping[str, AuditReport]) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
    """`compare_audits` of each method with the first one and with the one before it: by method, by what it is compared with, by figure."""
    names = list(reports)
    others = {name: dict.fromkeys([names[0], names[i]]) for i, name in enumerate(names[1:])}
    return {name: {other: compare_audits(reports[name], reports[other]) for other in them} for name, them in others.items()}


def utility_share(x: Any, o: Any) -> Any:
    """The share of an AUC `o` that `x` keeps, chance counting as zero; of numbers or arrays."""
    return (x - 0.5) / (o - 0.5)


def auc_difference(after: Sequence[Scored], before: Sequence[Scored], resamples: int, share: Callable[[Any, Any], Any]) -> dict[str, Any]:
    """The mean AUC of `after` less that of `before`, and what `share` makes of both, paired: see `compare_audits`."""
    aucs = [float(np.mean([scored.auc for scored in group])) for group in (after, before)]
    drawn = paired_draws(after, before, resamples=resamples)
    low, high = limits(drawn[0] - drawn[1])
    figures = {"before": aucs[1], "after": aucs[0], "change": aucs[0] - aucs[1], "change_ci": [low, high], "share": None, "share_ci": None}
    if aucs[1] > 0.5:
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = np.where(drawn[1] > 0.5, share(*drawn), np.nan)
        figures |= {"share": share(*aucs), "share_ci": list(limits(shares))}
    return figures | {"supported": low > 0 or high < 0}
