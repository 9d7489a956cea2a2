"""Claims: what an audit's figures support, what they do not, and what was not tested."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import norm

from ..machine.files import UserError, with_interval
from ..report.ledger import percent
from ..statistics import Scored, bootstrap_auc
from ..statistics import limits as interval_of
from .levels import LEVELS

if TYPE_CHECKING:
    from . import AuditReport


SUPPORTED, NOT_SUPPORTED, NOT_TESTED = "supported", "not supported", "not tested"

MARKS = {SUPPORTED: "✔", NOT_SUPPORTED: "✘", NOT_TESTED: "○"}
"""Set before each verdict, so that it can be seen without colours."""


@dataclass(frozen=True)
class Limits:
    """Where the claims' lines are drawn.

    Attributes:
        hidden: up to this AUC an attribute, or an identity, counts as hidden; 0.5 is chance.
        slack: a gain or loss of AUC up to this counts as none.
    """

    hidden: float = 0.55
    slack: float = 0.02

    def __post_init__(self) -> None:
        if not 0.5 <= self.hidden <= 1:
            raise UserError(f"Limits.hidden is an AUC from 0.5 (chance) to 1, not {self.hidden!r}.")
        if not 0 <= self.slack <= 0.5:
            raise UserError(f"Limits.slack is a difference of AUCs from 0 to 0.5, not {self.slack!r}.")


@dataclass(frozen=True)
class Claim:
    """One claim with its verdict.

    Attributes:
        key: a short name that stays the same from card to card.
        text: the claim.
        verdict: "supported", "not supported" or "not tested".
        reason: the figures with their intervals and the line, or what is missing.
    """

    key: str
    text: str
    verdict: str
    reason: str


def claims(report: AuditReport, original: AuditReport | None = None, limits: Limits | None = None) -> tuple[Claim, ...]:
    """What may be claimed from an audit.

    Args:
        report: of the method.
        original: of what it is compared with, on the same faces and attribute.
        limits: where the lines are drawn; None takes `Limits()`.

    Raises:
        UserError: the two audits are of different faces or attributes.
    """
    if original is not None and (original.attribute, original.data) != (report.attribute, report.data):
        raise UserError(
            f"The audits of {report.name} and {original.name} are of different faces or attributes, so they cannot be compared; "
            "audit both on the same faces."
        )
    name = f"{spaced(report.attribute)} as labelled"
    names = {"attribute": name, "Attribute": name[:1].upper() + name[1:], "original": original.name if original else "without protection"}
    limits = limits or Limits()
    at_hand = {"original": original, **(report.deep or {})}
    judged = []
    for key, (text, judge, needs) in _CLAIMS.items():
        needed = at_hand.get(needs)
        verdict = (NOT_TESTED, _MISSING[needs]) if needed is None and needs in _MISSING else judge(report, needed, limits)
        judged.append(Claim(key, text.format(**names), *verdict))
    return tuple(judged)


def claim_lines(judged: Sequence[Claim], width: int = 118) -> list[str]:
    """Claims as lines of text for a terminal, verdict first."""
    lines = []
    for claim in judged:
        lines.append(f"  {MARKS[claim.verdict]} {claim.verdict:<15}{claim.text}")
        lines += textwrap.wrap(claim.reason, width, initial_indent=" " * 19, subsequent_indent=" " * 19)
    return lines


Verdict = tuple[str, str]
"""A verdict and its reason."""


def _below(interval: Sequence[float], line: float, reason: str, strictly: bool = False) -> Verdict:
    """Supported where the whole interval is at or below the line; where the line lies inside, the reason says so."""
    low, high = interval
    if high < line or (high == line and not strictly):
        return SUPPORTED, reason
    return NOT_SUPPORTED, reason if low > line else f"{reason}; the interval is too wide to tell"


def _sound(report: AuditReport, _: None, limits: Limits) -> Verdict:
    auc = report.controls.get("shuffled_labels_auc")
    if auc is None:
        return NOT_TESTED, "the control with shuffled labels was left out"
    first = report.scores[0]
    people = [len(np.unique(first.people[first.labels == value])) for value in (False, True)]
    # The standard deviation of an AUC without a difference (Mann and Whitney), as if each person had one image: images of one person agree.
    scatter = float(1.96 * np.sqrt((sum(people) + 1) / (12 * people[0] * people[1])))
    reason = f"labels shuffled between people: AUC {auc:.3f}, where chance scatters by {scatter:.3f} around 0.5"
    if abs(auc - 0.5) <= scatter:
        return SUPPORTED, reason
    return NOT_SUPPORTED, f"{reason}; look for one person under two names"


def _hidden(report: AuditReport, _: None, limits: Limits) -> Verdict:
    r = report.retrained
    families = len(r["attackers"])
    reason = (
        f"the worst of {families} attacker{'s' * (families != 1)} trained afresh, {spaced(r['worst_attacker'])}, reaches "
        f"AUC {with_interval(r['leak_auc'], r['leak_auc_ci'])}"
    )
    levels, intervals = (report.deep or {}).get("levels", {}), [r["leak_auc_ci"]]
    for level, words in LEVELS.items():
        if level in levels:
            intervals.append(levels[level]["leak_auc_ci"])
            reason += f", from {words} {spaced(levels[level]['strongest'])} {with_interval(levels[level]['leak_auc'], intervals[-1])}"
    reason += f"; hidden is at most {limits.hidden:.2f}, chance 0.5"
    return _below(max(intervals, key=lambda interval: (interval[0] > limits.hidden, interval[1])), limits.hidden, reason)


def _own_adversary(report: AuditReport, _: None, limits: Limits) -> Verdict:
    if report.paper is None or any(seed.adversary is None for seed in report.scores):
        return NOT_TESTED, "no co-trained adversary was given"
    fresh, trained = zip(*((seed.leak, Scored(seed.adversary, seed.labels, seed.people)) for seed in report.scores), strict=True)
    gap = float(np.mean([a.auc - b.auc for a, b in zip(fresh, trained, strict=True)]))
    low_high = interval_of(bootstrap_auc(fresh, report.bootstrap) - bootstrap_auc(trained, report.bootstrap))
    reason = (
        f"AUC {report.paper['privacy_auc']:.3f} by that adversary, {report.retrained['leak_auc']:.3f} by the worst fresh attacker: "
        f"{change(gap, low_high)}; as much is up to {limits.slack:+.2f}"
    )
    return _below(low_high, limits.slack, reason)


def _less(report: AuditReport, original: AuditReport, limits: Limits) -> Verdict:
    interval, reason = _compared(report, original, "leak", "leak_auc", lambda x, o: (o - x) / (o - 0.5), "of the leak removed")
    return _below(interval, 0.0, reason, strictly=True)


def _verifies(report: AuditReport, _: None, limits: Limits) -> Verdict:
    r = report.retrained
    low, high = r["utility_auc_same_ci"]
    reason = (
        f"a fresh verifier reaches AUC {with_interval(r['utility_auc_same'], (low, high))} against impostors with the same label, "
        f"{with_interval(r['utility_auc'], r['utility_auc_ci'])} against any; chance is 0.5"
    )
    return _below((-high, -low), -0.5, reason, strictly=True)


def _keeps(report: AuditReport, original: AuditReport, limits: Limits) -> Verdict:
    key, kept = "utility_auc_same", lambda x, o: (x - 0.5) / (o - 0.5)
    (low, high), reason = _compared(report, original, "same", key, kept, "of the utility kept")
    return _below((-high, -low), limits.slack, f"{reason}; as well is down to {-limits.slack:+.2f}")


def _no_information(report: AuditReport, measured: Mapping[str, Any] | None, limits: Limits) -> Verdict:
    low, reasons = report.retrained["leak_auc_ci"][0], []
    if measured is not None:
        bits = with_interval(measured["information_bits"], measured["information_bits_ci"])
        reasons = [f"at least {bits} of {measured['entropy_bits']:.3f} bits an image, by {spaced(measured['attacker'])}"]
    if low > 0.5:
        reasons.append("the worst attacker's interval is above 0.5")
    elif measured is None or measured["information_bits_ci"][0] <= 0:
        return NOT_TESTED, "; ".join([*reasons, "no attacker found any, and attackers cannot show that there is none"])
    return NOT_SUPPORTED, "; ".join(reasons)


def _more_data(report: AuditReport, curve: Mapping[str, Any], limits: Limits) -> Verdict:
    before, last = curve["points"][-2:]
    words = f"AUC {before['leak_auc']:.3f} after {before['people']:,} people, {last['leak_auc']:.3f} after {last['people']:,}:"
    return _no_gain(curve, words, limits)


def _creep(report: AuditReport, creep: Mapping[str, Any], limits: Limits) -> Verdict:
    others = {name: read for name, read in creep["attributes"].items() if name != creep["private"]}
    if not others:
        return NOT_TESTED, "there is no other attribute with enough people"
    # So many intervals at once: each is widened (Bonferroni) until all hold together with 95 %.
    z = float(norm.ppf(1 - 0.025 / len(others)))
    worse = [name for name, read in others.items() if read["change"] - z * read["change_sd"] > 0]
    wide = [name for name, read in others.items() if read["change"] + z * read["change_sd"] > limits.slack and name not in worse]
    name, top = max(others.items(), key=lambda item: item[1]["change"])
    reason = (
        f"of {len(others)}, against {creep['original']}; most changed {spaced(name)}, AUC {top['before']:.3f} to {top['after']:.3f}: "
        f"{change(top['change'], top['change_ci'])}"
    )
    if worse:
        reason += f"; easier beyond chance: {', '.join(map(spaced, worse))}"
    elif wide:
        reason += f"; for {len(wide)} the interval reaches beyond {limits.slack:+.2f}, too wide to tell"
    return NOT_SUPPORTED if worse or wide else SUPPORTED, reason


def _rebuilt(report: AuditReport, faces: Mapping[str, Any], limits: Limits) -> Verdict:
    reason = (
        f"rebuilt by {faces['attacker']}: {faces['psnr']:.1f} dB (the mean face {faces['mean_face_psnr']:.1f}), SSIM {faces['ssim']:.2f} "
        f"({faces['mean_face_ssim']:.2f}); against real images of the same label AUC "
        f"{with_interval(faces['match_auc_same'], faces['match_auc_same_ci'])}, real against real {faces['real_auc_same']:.3f}; "
        f"not recognised is at most {limits.hidden:.2f}"
    )
    return _below(faces["match_auc_same_ci"], limits.hidden, reason)


def _knowing(report: AuditReport, adaptive: Mapping[str, Any], limits: Limits) -> Verdict:
    if "leak_auc" not in adaptive:
        why = "; ".join(f"{name}: {reason}" for name, reason in adaptive["left_out"].items())
        return NOT_TESTED, f"nothing that such an attacker could do applies ({why})"
    leak = with_interval(adaptive["leak_auc"], adaptive["leak_auc_ci"])
    words = f"{spaced(adaptive['worst_attacker'])} reaches AUC {leak}, against one who does not know it"
    return _no_gain(adaptive, words, limits)


_MISSING = {
    "original": "no audit without protection was given to compare with",
    "curve": "the learning curve was not measured; ask with deep=True",
    "creep": "the other attributes were not read; ask with deep=True",
    "reconstruction": "faces were not rebuilt; ask with deep=True",
    "adaptive": "no attacker that knows the defence was tried; ask with deep=True",
    "proof": "an audit tries attackers; that none is left out takes a proof, such as that of calibrated noise",
}
"""Why a claim was not tested, by what it lacks: an audit of the original, an answer of `report.deep`."""

_CLAIMS: dict[str, tuple[str, Callable[[AuditReport, Any, Limits], Verdict] | None, str]] = {
    "sound": ("The audit finds nothing where nothing is", _sound, ""),
    "hidden": ("{Attribute} is hidden from the attackers tried", _hidden, ""),
    "own_adversary": ("The adversary it was trained against tells the whole leak", _own_adversary, ""),
    "less": ("It leaks less than {original}", _less, "original"),
    "verifies": ("People can be verified by it", _verifies, ""),
    "keeps": ("It verifies as well as {original}", _keeps, "original"),
    "no_information": ("It carries no information on {attribute}", _no_information, "information"),
    "more_data": ("More data would not help the attackers", _more_data, "curve"),
    "creep": ("No other attribute became easier to read", _creep, "creep"),
    "rebuilt": ("Nobody is recognised from faces rebuilt from it", _rebuilt, "reconstruction"),
    "knowing": ("Knowing the defence does not help the attackers", _knowing, "adaptive"),
    "guarantee": ("No attacker whatever can read more than this", None, "proof"),
}
"""Each claim by its key, in the order of the card: its words, what judges it, and what that needs besides the report."""


def _no_gain(measured: Mapping[str, Any], words: str, limits: Limits) -> Verdict:
    reason = f"{words} {change(measured['gain'], measured['gain_ci'])}; none is up to {limits.slack:+.2f}"
    return _below(measured["gain_ci"], limits.slack, reason)


def _compared(
    report: AuditReport, original: AuditReport, kind: str, key: str, share: Callable[[Any, Any], Any], words: str
) -> tuple[tuple[float, float], str]:
    """95 % interval of this less `original`, the same people drawn for both, and the reason, with the share that `words` name."""
    after, before = report.retrained[key], original.retrained[key]
    drawn, drawn_before = (bootstrap_auc([getattr(seed, kind) for seed in r.scores], report.bootstrap) for r in (report, original))
    interval = interval_of(drawn - drawn_before)
    reason = f"AUC {before:.3f} by {original.name}, {after:.3f} by this: {change(after - before, interval)}"
    if before > 0.5:
        with np.errstate(divide="ignore", invalid="ignore"):
            low, high = interval_of(np.where(drawn_before > 0.5, share(drawn, drawn_before), np.nan))
        reason += f"; {percent(share(after, before))} [{percent(low)}, {percent(high)}] {words}"
    return interval, reason


def change(value: float, interval: Sequence[float]) -> str:
    """A difference with its sign and its interval: "-0.104 [-0.121, -0.088]"."""
    return f"{value:+.3f} [{interval[0]:+.3f}, {interval[1]:+.3f}]"


def spaced(name: str) -> str:
    """The name of an attribute or an attacker as words."""
    return name.replace("_", " ")
