"""Claims: what an audit's figures support, what they do not, and what was not tested."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import norm

from ..machine.files import UserError
from ..report.ledger import percent
from ..statistics import Scored, bootstrap_auc, limits

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


# Claims ---------------------------------------------------------------------------------------------------------------


def claims(report: AuditReport, original: AuditReport | None = None, limits: Limits | None = None) -> tuple[Claim, ...]:
    """What may be claimed from an audit.

    Args:
        report: of the method.
        original: of what it is compared with, on the same faces and attribute.
        limits: where the lines are drawn; None takes `Limits()`.

    Raises:
        UserError: the two audits are of different faces or attributes.
    """
    limits = limits or Limits()
    if original is not None and (original.attribute, original.data) != (report.attribute, report.data):
        raise UserError(
            f"The audits of {report.name} and {original.name} are of different faces or attributes, so they cannot be compared; "
            "audit both on the same faces."
        )
    found = [_sound(report), _hidden(report, limits)]
    found += [_own_adversary(report, limits), _less(report, original), _verifies(report), _keeps(report, original, limits)]
    found += [_no_information(report), _more_data(report, limits), _creep(report, limits), _rebuilt(report, limits)]
    found += [_knowing(report, limits)]
    reason = "an audit tries attackers; that none is left out takes a proof, such as that of calibrated noise"
    found.append(Claim("guarantee", "No attacker whatever can read more than this", NOT_TESTED, reason))
    return tuple(found)


def claim_lines(found: Sequence[Claim], width: int = 118) -> list[str]:
    """Claims as lines of text for a terminal, verdict first."""
    lines = []
    for claim in found:
        lines.append(f"  {MARKS[claim.verdict]} {claim.verdict:<15}{claim.text}")
        lines += textwrap.wrap(claim.reason, width, initial_indent=" " * 19, subsequent_indent=" " * 19)
    return lines


def _sound(report: AuditReport) -> Claim:
    text = "The audit finds nothing where nothing is"
    auc = report.controls.get("shuffled_labels_auc")
    if auc is None:
        return Claim("sound", text, NOT_TESTED, "the control with shuffled labels was left out")
    own = report.scores[0]
    people = [len(np.unique(own.people[own.labels == value])) for value in (False, True)]
    # The standard deviation of an AUC without a difference (Mann and Whitney), as if each person had one image: images of one person agree.
    scatter = float(1.96 * np.sqrt((sum(people) + 1) / (12 * people[0] * people[1])))
    reason = f"labels shuffled between people: AUC {auc:.3f}, where chance scatters by {scatter:.3f} around 0.5"
    if abs(auc - 0.5) <= scatter:
        return Claim("sound", text, SUPPORTED, reason)
    return Claim("sound", text, NOT_SUPPORTED, f"{reason}; look for one person under two names")


def _hidden(report: AuditReport, limits: Limits) -> Claim:
    r = report.retrained
    families = len(r["attackers"])
    reason = (
        f"the worst of {families} attacker{'s' * (families != 1)} trained afresh, {_plain(r['worst_attacker'])}, reaches "
        f"AUC {_with(r['leak_auc'], r['leak_auc_ci'])}; hidden is at most {limits.hidden:.2f}, chance 0.5"
    )
    name = _attribute(report)
    return _below("hidden", f"{name[:1].upper()}{name[1:]} is hidden from the attackers tried", r["leak_auc_ci"], limits.hidden, reason)


def _own_adversary(report: AuditReport, limits: Limits) -> Claim:
    text = "The adversary it was trained against tells the whole leak"
    scores = [own.adversary for own in report.scores]
    if report.paper is None or any(own is None for own in scores):
        return Claim("own_adversary", text, NOT_TESTED, "no co-trained adversary was given")
    theirs = [Scored(own.adversary, own.labels, own.people) for own in report.scores]
    gap = [fresh.auc - trained.auc for fresh, trained in zip(_leaks(report), theirs, strict=True)]
    low_high = _difference(_leaks(report), theirs, report.bootstrap)
    reason = (
        f"AUC {report.paper['privacy_auc']:.3f} by that adversary, {report.retrained['leak_auc']:.3f} by the worst fresh attacker: "
        f"{_change(float(np.mean(gap)), low_high)}; as much is up to {limits.slack:+.2f}"
    )
    return _below("own_adversary", text, low_high, limits.slack, reason)


def _less(report: AuditReport, original: AuditReport | None) -> Claim:
    if original is None:
        return Claim("less", "It leaks less than without protection", NOT_TESTED, "no audit without protection was given to compare with")
    before, after = original.retrained["leak_auc"], report.retrained["leak_auc"]
    low_high, removed = _compared(_leaks(report), _leaks(original), report.bootstrap)
    reason = f"AUC {before:.3f} by {original.name}, {after:.3f} by this: {_change(after - before, low_high)}"
    if before > 0.5:
        reason += f"; {percent((before - after) / (before - 0.5))} [{percent(removed[0])}, {percent(removed[1])}] of the leak removed"
    return _below("less", f"It leaks less than {original.name}", low_high, 0.0, reason, strictly=True)


def _verifies(report: AuditReport) -> Claim:
    r = report.retrained
    low, high = r["utility_auc_same_ci"]
    reason = (
        f"a fresh verifier reaches AUC {_with(r['utility_auc_same'], (low, high))} against impostors with the same label, "
        f"{_with(r['utility_auc'], r['utility_auc_ci'])} against any; chance is 0.5"
    )
    if low <= 0.5 < high:
        reason += "; the interval is too wide to tell"
    return Claim("verifies", "People can be verified by it", SUPPORTED if low > 0.5 else NOT_SUPPORTED, reason)


def _keeps(report: AuditReport, original: AuditReport | None, limits: Limits) -> Claim:
    if original is None:
        return Claim(
            "keeps", "It verifies as well as without protection", NOT_TESTED, "no audit without protection was given to compare with"
        )
    before, after = original.retrained["utility_auc_same"], report.retrained["utility_auc_same"]
    ours, theirs = ([own.same for own in one.scores] for one in (report, original))
    (low, high), lost = _compared(ours, theirs, report.bootstrap)
    reason = f"AUC {before:.3f} by {original.name}, {after:.3f} by this: {_change(after - before, (low, high))}"
    if before > 0.5:
        kept = (after - 0.5) / (before - 0.5)
        reason += f"; {percent(kept)} [{percent(1 - lost[1])}, {percent(1 - lost[0])}] of the utility kept"
    reason += f"; as well is down to {-limits.slack:+.2f}"
    if low < -limits.slack <= high:
        reason += "; the interval is too wide to tell"
    return Claim("keeps", f"It verifies as well as {original.name}", SUPPORTED if low >= -limits.slack else NOT_SUPPORTED, reason)


def _no_information(report: AuditReport) -> Claim:
    text = f"It carries no information on {_attribute(report)}"
    found = (report.deep or {}).get("information")
    bits = ""
    if found is not None:
        bits = f"at least {_with(found['information_bits'], found['information_bits_ci'])} of {found['entropy_bits']:.3f} bits an image"
        bits += f", by {_plain(found['attacker'])}"
    low = report.retrained["leak_auc_ci"][0]
    if low > 0.5 or (found is not None and found["information_bits_ci"][0] > 0):
        words = "the worst attacker's interval is above 0.5" if low > 0.5 else ""
        return Claim("no_information", text, NOT_SUPPORTED, "; ".join(filter(None, (bits, words))))
    words = "no attacker found any, and attackers cannot show that there is none"
    return Claim("no_information", text, NOT_TESTED, "; ".join(filter(None, (bits, words))))


def _more_data(report: AuditReport, limits: Limits) -> Claim:
    text = "More data would not help the attackers"
    found = (report.deep or {}).get("curve")
    if found is None:
        return Claim("more_data", text, NOT_TESTED, "the learning curve was not measured; ask with deep=True")
    last, before = found["points"][-1], found["points"][-2]
    reason = (
        f"AUC {before['leak_auc']:.3f} after {before['people']:,} people, {last['leak_auc']:.3f} after {last['people']:,}: "
        f"{_change(found['gain'], found['gain_ci'])}; none is up to {limits.slack:+.2f}"
    )
    return _below("more_data", text, found["gain_ci"], limits.slack, reason)


def _creep(report: AuditReport, limits: Limits) -> Claim:
    text = "No other attribute became easier to read"
    found = (report.deep or {}).get("creep")
    others = {} if found is None else {name: own for name, own in found["attributes"].items() if name != found["private"]}
    if not others:
        why = (
            "the other attributes were not read; ask with deep=True" if found is None else "there is no other attribute with enough people"
        )
        return Claim("creep", text, NOT_TESTED, why)
    # So many intervals at once: each is widened (Bonferroni) until all hold together with 95 %.
    z = float(norm.ppf(1 - 0.025 / len(others)))
    worse = [name for name, own in others.items() if own["change"] - z * own["change_sd"] > 0]
    wide = [name for name, own in others.items() if own["change"] + z * own["change_sd"] > limits.slack and name not in worse]
    top = max(others, key=lambda name: others[name]["change"])
    reason = (
        f"of {len(others)}, against {found['original']}; most changed {_plain(top)}, AUC {others[top]['before']:.3f} to "
        f"{others[top]['after']:.3f}: {_change(others[top]['change'], others[top]['change_ci'])}"
    )
    if worse:
        reason += f"; easier beyond chance: {', '.join(map(_plain, worse))}"
    elif wide:
        reason += f"; for {len(wide)} the interval reaches beyond {limits.slack:+.2f}, too wide to tell"
    return Claim("creep", text, NOT_SUPPORTED if worse or wide else SUPPORTED, reason)


def _rebuilt(report: AuditReport, limits: Limits) -> Claim:
    text = "Nobody is recognised from faces rebuilt from it"
    found = (report.deep or {}).get("reconstruction")
    if found is None:
        return Claim("rebuilt", text, NOT_TESTED, "faces were not rebuilt; ask with deep=True")
    reason = (
        f"rebuilt by {found['attacker']}: {found['psnr']:.1f} dB (the mean face {found['mean_face_psnr']:.1f}), SSIM {found['ssim']:.2f} "
        f"({found['mean_face_ssim']:.2f}); against real images of the same label AUC "
        f"{_with(found['match_auc_same'], found['match_auc_same_ci'])}, real against real {found['real_auc_same']:.3f}; "
        f"not recognised is at most {limits.hidden:.2f}"
    )
    return _below("rebuilt", text, found["match_auc_same_ci"], limits.hidden, reason)


def _knowing(report: AuditReport, limits: Limits) -> Claim:
    text = "Knowing the defence does not help the attackers"
    found = (report.deep or {}).get("adaptive")
    if found is None:
        return Claim("knowing", text, NOT_TESTED, "no attacker that knows the defence was tried; ask with deep=True")
    if "leak_auc" not in found:
        why = "; ".join(f"{name}: {reason}" for name, reason in found["left_out"].items())
        return Claim("knowing", text, NOT_TESTED, f"nothing that such an attacker could do applies ({why})")
    reason = (
        f"{_plain(found['worst_attacker'])} reaches AUC {_with(found['leak_auc'], found['leak_auc_ci'])}, against one who does not know it "
        f"{_change(found['gain'], found['gain_ci'])}; none is up to {limits.slack:+.2f}"
    )
    return _below("knowing", text, found["gain_ci"], limits.slack, reason)


def _below(key: str, text: str, interval: Sequence[float], line: float, reason: str, strictly: bool = False) -> Claim:
    """Supported where the whole interval is at or below the line; where the line lies inside, the reason says so."""
    low, high = interval
    if high < line or (high == line and not strictly):
        return Claim(key, text, SUPPORTED, reason)
    return Claim(key, text, NOT_SUPPORTED, reason if low > line else f"{reason}; the interval is too wide to tell")


def _leaks(report: AuditReport) -> list[Scored]:
    return [own.leak for own in report.scores]


def _difference(ours: Sequence[Scored], theirs: Sequence[Scored], resamples: int) -> tuple[float, float]:
    """95 % interval of the difference of two mean AUCs, the same people drawn for both."""
    return limits(bootstrap_auc(ours, resamples) - bootstrap_auc(theirs, resamples))


def _compared(ours: Sequence[Scored], theirs: Sequence[Scored], resamples: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """95 % intervals of ours - theirs and of (theirs - ours) / (theirs - 0.5), the same people drawn for both."""
    own, other = bootstrap_auc(ours, resamples), bootstrap_auc(theirs, resamples)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(other > 0.5, (other - own) / (other - 0.5), np.nan)
    return limits(own - other), limits(share)


def _with(value: float, interval: Sequence[float]) -> str:
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def _change(value: float, interval: Sequence[float]) -> str:
    return f"{value:+.3f} [{interval[0]:+.3f}, {interval[1]:+.3f}]"


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _attribute(report: AuditReport) -> str:
    return f"{_plain(report.attribute)} as labelled"
