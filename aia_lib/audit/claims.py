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
from ..statistics import Scored, paired_draws
from ..statistics import limits as interval_of
from .comparison import KINDS, check_comparable, kinds_tried, leak_difference, utility_difference
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
    if original is not None:
        check_comparable(report, original)
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
    r, deep = report.retrained, report.deep or {}
    families = len(r["attackers"])
    reason = (
        f"the worst of {families} attacker{'s' * (families != 1)} trained afresh, {spaced(r['worst_attacker'])}, reaches "
        f"AUC {with_interval(r['leak_auc'], r['leak_auc_ci'])}"
    )
    levels, intervals = deep.get("levels", {}), [r["leak_auc_ci"], r.get("strongest_auc_ci", r["leak_auc_ci"])]
    for part, words in (("adaptive", "knowing the defence"), ("others", "learning from other people too")):
        if "leak_auc" in (knowing := deep.get(part, {})):
            intervals.append(knowing["leak_auc_ci"])
            reason += f", {words} {spaced(knowing['worst_attacker'])} {with_interval(knowing['leak_auc'], intervals[-1])}"
    for level, words in LEVELS.items():
        if level in levels:
            intervals.append(levels[level]["leak_auc_ci"])
            reason += f", from {words} {spaced(levels[level]['strongest'])} {with_interval(levels[level]['leak_auc'], intervals[-1])}"
    reason += f"; hidden is at most {limits.hidden:.2f}, chance 0.5"
    return _below(max(intervals, key=lambda interval: (interval[0] > limits.hidden, interval[1])), limits.hidden, reason)


def _own_adversary(report: AuditReport, _: None, limits: Limits) -> Verdict:
    if report.paper is None or any(seed.adversary is None for seed in report.scores):
        return NOT_TESTED, "no co-trained adversary was given"
    whole, trained = report.strongest, [Scored(seed.adversary, seed.labels, seed.people) for seed in report.scores]
    low_high = interval_of(np.subtract(*paired_draws(whole.scored, trained, resamples=report.bootstrap)))
    told = report.paper["privacy_auc"]
    reason = (
        f"AUC {told:.3f} by that adversary, {whole.auc:.3f} by the strongest attacker, {spaced(whole.attacker)}: "
        f"{change(whole.auc - told, low_high)}; as much is up to {limits.slack:+.2f}"
    )
    return _below(low_high, limits.slack, reason)


def _less(report: AuditReport, original: AuditReport, limits: Limits) -> Verdict:
    alike = leak_difference(report, original)
    reason = f"by {' and '.join(KINDS[kind] for kind in alike['kinds'])}: {_compared(alike, original, 'of the leak removed')}"
    verdict = _below(alike["change_ci"], 0.0, reason, strictly=True)
    if verdict[0] == SUPPORTED and set(kinds_tried(report.seeds)) > set(alike["kinds"]):
        # This was attacked by more kinds than the original, whose leak they could only raise: less by all of them is less all the same.
        every = leak_difference(report, original, same_kinds=False)
        reason += f"; of this {spaced(every['attacker'])} reads {every['after']:.3f}"
        if every["change_ci"][1] >= 0:
            return NOT_TESTED, f"{reason}, and such attackers were not tried on {original.name}: audit it with the same"
        return SUPPORTED, f"{reason}, still less: {change(every['change'], every['change_ci'])}"
    return verdict


def _verifies(report: AuditReport, _: None, limits: Limits) -> Verdict:
    r = report.retrained
    low, high = r["utility_auc_same_ci"]
    reason = (
        f"a fresh verifier reaches AUC {with_interval(r['utility_auc_same'], (low, high))} against impostors with the same label, "
        f"{with_interval(r['utility_auc'], r['utility_auc_ci'])} against any; chance is 0.5"
    )
    return _below((-high, -low), -0.5, reason, strictly=True)


def _keeps(report: AuditReport, original: AuditReport, limits: Limits) -> Verdict:
    figures = utility_difference(report, original, "same")
    low, high = figures["change_ci"]
    reason = f"{_compared(figures, original, 'of the utility kept')}; as well is down to {-limits.slack:+.2f}"
    return _below((-high, -low), limits.slack, reason)


def _no_information(report: AuditReport, measured: Mapping[str, Any] | None, limits: Limits) -> Verdict:
    low, reasons = report.retrained.get("strongest_auc_ci", report.retrained["leak_auc_ci"])[0], []
    if measured is not None:
        bits = with_interval(measured["information_bits"], measured["information_bits_ci"])
        reasons = [f"at least {bits} of {measured['entropy_bits']:.3f} bits an image, by {spaced(measured['attacker'])}"]
    if low > 0.5:
        reasons.append("the strongest attacker's interval is above 0.5")
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


def _compared(figures: Mapping[str, Any], original: AuditReport, words: str) -> str:
    """A difference of `comparison` in words, with the share that `words` name."""
    changed = change(figures["change"], figures["change_ci"])
    reason = f"AUC {figures['before']:.3f} by {original.name}, {figures['after']:.3f} by this: {changed}"
    if figures["share"] is None:
        return reason
    low, high = figures["share_ci"]
    return f"{reason}; {percent(figures['share'])} [{percent(low)}, {percent(high)}] {words}"


def change(value: float, interval: Sequence[float]) -> str:
    """A difference with its sign and its interval: "-0.104 [-0.121, -0.088]"."""
    return f"{value:+.3f} [{interval[0]:+.3f}, {interval[1]:+.3f}]"


def spaced(name: str) -> str:
    """The name of an attribute or an attacker as words."""
    return name.replace("_", " ")
