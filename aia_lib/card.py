"""The privacy card: what an audit lets one claim of a released representation, to be handed over with it.

    card = report.card(original=report_of_original)
    card.save("card.html")        # or card.md, card.json

A claim is *supported* only where its whole 95 % interval lies on the right side of its line; *not supported* covers refuted claims and
intervals too wide to tell, and says which; *not tested* says what would test it. An audit tries attackers, so it can show a leak and never
its absence: no card claims a guarantee.
"""

from __future__ import annotations

import dataclasses
import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import norm

from . import report as pages
from .files import UserError, write_json, write_text
from .ledger import clean_paths, percent
from .verification import Scored, bootstrap_auc, limits

if TYPE_CHECKING:
    from .audit import AuditReport

SUPPORTED, NOT_SUPPORTED, NOT_TESTED = "supported", "not supported", "not tested"

MARKS = {SUPPORTED: "✔", NOT_SUPPORTED: "✘", NOT_TESTED: "○"}
"""Set before each verdict, so that it can be seen without colours."""

FORMATS = (".md", ".html", ".json")
"""What `PrivacyCard.save` writes, by the file's ending."""


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
        return Claim("more_data", text, NOT_TESTED, "the learning curve was not measured; deep_audit does it")
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
            "the other attributes were not read; deep_audit does it" if found is None else "there is no other attribute with enough people"
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
        return Claim("rebuilt", text, NOT_TESTED, "faces were not rebuilt; deep_audit does it")
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
        return Claim("knowing", text, NOT_TESTED, "no attacker that knows the defence was tried; deep_audit does it")
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


# The card -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PrivacyCard:
    """What is handed over with a released representation. All rows are texts or numbers; `to_dict` is the card as JSON.

    Attributes:
        method, attribute: what was audited, and the attribute that is to be hidden.
        description, contact: in the words of whoever releases it; empty where nothing was said.
        data: source, images and people of each split.
        seeds: of the attackers and the verifier.
        claims: with their verdicts.
        figures: {figure, value, low, high, unit} with 95 % intervals (None where there is none).
        controls: {control, value}.
        attackers: {attacker, val_auc, test_auc}, the worst on val first.
        attributes: {attribute, before, after, change, low, high} of all attributes, where they were read.
        limits: what the card does not say, one sentence each.
        notes: what the audit left out or what failed.
        provenance: command, commit, versions, date, see `ledger.provenance`; None where nothing was given.
    """

    method: str
    attribute: str
    description: str
    contact: str
    data: Mapping[str, Any]
    seeds: tuple[int, ...]
    claims: tuple[Claim, ...]
    figures: tuple[Mapping[str, Any], ...]
    controls: tuple[Mapping[str, Any], ...]
    attackers: tuple[Mapping[str, Any], ...]
    attributes: tuple[Mapping[str, Any], ...]
    limits: tuple[str, ...]
    notes: tuple[str, ...]
    provenance: Mapping[str, Any] | None

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, texts, lists and dictionaries."""
        return {"kind": "privacy card", "version": 1, **dataclasses.asdict(self)}

    def to_markdown(self) -> str:
        """The card as Markdown."""
        lines = [f"# {self.title}", "", *(line for text in self._lead() for line in (_md(text), ""))]
        lines += ["## What may be claimed", ""]
        lines += _md_table(["Claim", "Verdict", "Why"], [[c.text, f"{MARKS[c.verdict]} {c.verdict}", c.reason] for c in self.claims])
        for heading, words, head, rows in self._tables():
            lines += [f"## {heading}", "", *([_md(words), ""] if words else []), *_md_table(head, rows)]
        lines += ["## Limits", "", *(f"* {_md(sentence)}" for sentence in self.limits), ""]
        if self.notes:
            lines += ["## What the audit left out", "", *(f"* {_md(note)}" for note in self.notes), ""]
        lines += ["## Where this comes from", "", *(f"* {_md(term)}: {_md(text)}" for term, text in self._origin()), ""]
        return "\n".join(lines)

    def to_html(self) -> str:
        """The card as a page that stands by itself: no script, nothing loaded, light and dark."""
        parts = [f"<h1>{escape(self.title)}</h1>"]
        parts += [f'<p class="lead">{escape(text)}</p>' if i == 0 else f"<p>{escape(text)}</p>" for i, text in enumerate(self._lead())]
        rows = [
            [escape(c.text), f'<span class="verdict {c.verdict.replace(" ", "-")}">{MARKS[c.verdict]} {c.verdict}</span>', escape(c.reason)]
            for c in self.claims
        ]
        parts += [
            "<h2>What may be claimed</h2>",
            pages.table(["Claim", "Verdict", "Why"], rows, "Claims and verdicts", text_columns=(1, 2)),
        ]
        for heading, words, head, rows in self._tables():
            parts += [f"<h2>{escape(heading)}</h2>", f"<p>{escape(words)}</p>" if words else ""]
            parts.append(pages.table([escape(cell) for cell in head], [[escape(cell) for cell in row] for row in rows], heading))
        parts += ["<h2>Limits</h2>", _html_list(self.limits)]
        if self.notes:
            parts += ["<h2>What the audit left out</h2>", _html_list(self.notes)]
        origin = "\n".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in self._origin())
        parts += ["<h2>Where this comes from</h2>", f"<dl>\n{origin}\n</dl>"]
        return pages.document(self.title, "\n".join(part for part in parts if part), style=_STYLE)

    def save(self, path: str | os.PathLike) -> Path:
        """Write the card, atomically: as Markdown, HTML or JSON, by the ending of `path`. UserError for another ending."""
        path = Path(path)
        kind = check_name(path)
        if kind == ".json":
            write_json(path, self.to_dict())
        else:
            write_text(path, self.to_markdown() if kind == ".md" else self.to_html())
        return path

    @property
    def title(self) -> str:
        """The heading."""
        return f"Privacy card: {self.method}"

    def _lead(self) -> list[str]:
        count = {verdict: sum(claim.verdict == verdict for claim in self.claims) for verdict in MARKS}
        words = (
            f"How well {_plain(self.attribute)} as labelled in the data set can be read from what {self.method} releases, by attackers "
            f"trained afresh on people of {self.data['source']}. Of {len(self.claims)} claims "
            f"{count[SUPPORTED]} are supported, {count[NOT_SUPPORTED]} are not, {count[NOT_TESTED]} were not tested."
        )
        return [words, *([self.description] if self.description else []), *([f"Contact: {self.contact}"] if self.contact else [])]

    def _tables(self) -> list[tuple[str, str, list[str], list[list[str]]]]:
        """Heading, words, head and rows of each table after the claims, as plain text."""
        tables = []
        rows = [[_named(row["figure"]), _number(row["value"]), _range(row["low"], row["high"]), row["unit"]] for row in self.figures]
        words = "Means over seeds; 95 % intervals by a bootstrap that draws people, not images."
        tables.append(("Figures", words, ["Figure", "Value", "95 % interval", "Unit"], rows))
        words = "What the figures are to be held against."
        rows = [[_named(row["control"]), _number(row["value"])] for row in self.controls]
        tables.append(("Controls", words, ["Control", "Value"], rows))
        words = "Chosen by the AUC on validation people, reported on test people. A leak is as large as the first row says, or larger."
        rows = [[_plain(row["attacker"]), _number(row["val_auc"]), _number(row["test_auc"])] for row in self.attackers]
        tables.append(("Attackers", words, ["Attacker", "AUC, validation", "AUC, test"], rows))
        if self.attributes:
            words = (
                "Every attribute with enough people, by one pair of attackers; the private one first. Intervals are not widened for number."
            )
            rows = [
                [
                    _plain(row["attribute"]),
                    _number(row["before"]),
                    _number(row["after"]),
                    f"{row['change']:+.3f}",
                    f"[{row['low']:+.3f}, {row['high']:+.3f}]",
                ]
                for row in self.attributes
            ]
            tables.append(("Other attributes", words, ["Attribute", "AUC before", "AUC after", "Change", "95 % interval"], rows))
        splits = [[part, f"{self.data[f'{part}_images']:,}", f"{self.data[f'{part}_people']:,}", use] for part, use in _SPLITS.items()]
        words = f"{self.data['source']}, {self.data['size']} x {self.data['size']} pixels. No person is in two splits."
        tables.append(("Data", words, ["Split", "Images", "People", "Use"], splits))
        return tables

    def _origin(self) -> list[tuple[str, str]]:
        entries = [("Seeds", ", ".join(map(str, self.seeds)))]
        origin = self.provenance
        if origin is None:
            return entries
        git = origin.get("git")
        commit = "" if git is None else git["commit"] + (" with uncommitted changes" if git["dirty"] else "")
        versions = ", ".join(f"{name} {version}" for name, version in origin.get("versions", {}).items() if version)
        found = [("Command", origin.get("command")), ("Commit", commit), ("Versions", versions), ("Device", origin.get("device"))]
        return entries + [(term, str(text)) for term, text in [*found, ("Date", origin.get("date"))] if text]


_SPLITS = {
    "attack": "attackers and verifier learn from them",
    "val": "choices: the worst attacker, when training stops, thresholds",
    "test": "read once",
}

_STYLE = """
:root { --yes: #17663a; --no: #a3211b; --open: #57606a; }
@media (prefers-color-scheme: dark) { :root { --yes: #7fd6a2; --no: #ff9d93; --open: #b3bcc6; } }
.verdict { font-weight: 600; white-space: nowrap; }
.supported { color: var(--yes); } .not-supported { color: var(--no); } .not-tested { color: var(--open); }
tbody th[scope="row"] { white-space: normal; min-width: 9rem; max-width: 16rem; font-weight: 600; }
td.text { min-width: 14rem; } td.text:has(.verdict) { min-width: 9rem; }
@media (max-width: 34rem) {
  th:first-child { position: static; } tbody th[scope="row"] { min-width: 6rem; } .verdict { white-space: normal; }
  td.text { min-width: 9rem; } td.text:has(.verdict) { min-width: 5rem; }
}
"""


def check_name(path: str | os.PathLike) -> str:
    """The ending of a card's file, one of `FORMATS`. UserError for any other."""
    ending = Path(path).suffix.lower()
    if ending not in FORMATS:
        raise UserError(f"{path}: a privacy card is written as {', '.join(FORMATS)}; choose a name with one of these endings.")
    return ending


def privacy_card(
    report: AuditReport,
    original: AuditReport | None = None,
    limits: Limits | None = None,
    *,
    description: str = "",
    contact: str = "",
    provenance: Mapping[str, Any] | None = None,
) -> PrivacyCard:
    """The privacy card of an audit.

    Args:
        report: of the method.
        original: of what it is compared with, on the same faces; None leaves two claims untested.
        limits: where the claims' lines are drawn; None takes `Limits()`.
        description, contact: what the method is, and whom to ask, in the releaser's words.
        provenance: from `ledger.provenance`; absolute paths in it are reduced to their last component.

    Raises:
        UserError: the two audits are of different faces or attributes.
    """
    found = claims(report, original, limits)
    r, deep = report.retrained, report.deep or {}
    figures = [
        _figure("leak, worst fresh attacker", r, "leak_auc", "AUC"),
        _figure("leak, balanced accuracy", r, "leak_balanced_accuracy", "share"),
        _figure("verification, impostors with the same label", r, "utility_auc_same", "AUC"),
        _figure("verification, any impostors", r, "utility_auc", "AUC"),
        _figure("equal error rate, same label", r, "eer_same", "share"),
        _figure("true accepts at 1 % false accepts, same label", r, "tar_at_far_1e-2_same", "share"),
    ]
    if report.paper is not None and "privacy_auc" in report.paper:
        figures.append(_figure("leak, co-trained adversary (paper regime)", report.paper, "privacy_auc", "AUC"))
    if "information" in deep:
        figures.append(_figure("information on the attribute, at least", deep["information"], "information_bits", "bits an image"))
    if "code" in deep:
        figures.append(_figure("online code of the attack labels", deep["code"], "bits_per_label", "bits a label"))
        figures.append(_figure("saved against not looking", deep["code"], "saved_bits_per_label", "bits a label"))
    if "reconstruction" in deep:
        figures.append(_figure("rebuilt faces, PSNR", deep["reconstruction"], "psnr", "dB"))
        figures.append(_figure("rebuilt faces, SSIM", deep["reconstruction"], "ssim", "at most 1"))
        figures.append(_figure("rebuilt faces recognised, same label", deep["reconstruction"], "match_auc_same", "AUC"))
    if "leak_auc" in deep.get("adaptive", {}):
        figures.append(_figure("leak, attacker who knows the defence", deep["adaptive"], "leak_auc", "AUC"))
    attackers = sorted(r["attackers"], key=r["attackers_val"].get, reverse=True)
    attributes = []
    if creep := deep.get("creep"):
        attributes = [
            {
                "attribute": name,
                "before": own["before"],
                "after": own["after"],
                "change": own["change"],
                "low": own["change_ci"][0],
                "high": own["change_ci"][1],
            }
            for name, own in creep["attributes"].items()
        ]
    return PrivacyCard(
        method=report.name,
        attribute=report.attribute,
        description=description.strip(),
        contact=contact.strip(),
        data=dict(report.data),
        seeds=tuple(entry["seed"] for entry in report.seeds),
        claims=found,
        figures=tuple(figures),
        controls=tuple({"control": key, "value": value} for key, value in report.controls.items()),
        attackers=tuple({"attacker": name, "val_auc": r["attackers_val"][name], "test_auc": r["attackers"][name]} for name in attackers),
        attributes=tuple(attributes),
        limits=_limits(report),
        notes=(*report.notes, *_left_out(deep)),
        provenance=None if provenance is None else clean_paths(dict(provenance)),
    )


def _limits(report: AuditReport) -> tuple[str, ...]:
    name, data = _plain(report.attribute), report.data
    sentences = [
        "A leak is a lower bound: an attacker who is not in the list, or who has more data or other knowledge, may read more.",
        f"The attackers learned from {data['attack_images']:,} images of {data['attack_people']:,} people of {data['source']}. "
        "The intervals hold for other people of this source, not for another source.",
        f"{name[:1].upper()}{name[1:]} is what the data set's labels say about pictures. It is not what anybody is.",
        "The card is about the method as it was audited, at this image size. Training it again, or other preprocessing, needs a new audit.",
    ]
    return tuple(sentences)


def _left_out(deep: Mapping[str, Any]) -> list[str]:
    notes = [f"The attribute {_plain(name)} was not read: {reason}." for name, reason in deep.get("creep", {}).get("left_out", {}).items()]
    tried = deep.get("adaptive", {}).get("left_out", {})
    return notes + [f"Of an attacker who knows the defence, {name} was not tried: {reason}." for name, reason in tried.items()]


def _figure(figure: str, values: Mapping[str, Any], key: str, unit: str) -> dict[str, Any]:
    low, high = values.get(f"{key}_ci", (None, None))
    return {"figure": figure, "value": values[key], "low": low, "high": high, "unit": unit}


def _named(text: str) -> str:
    return _plain(text).replace(" auc", ", AUC")


def _number(value: float) -> str:
    return f"{value:.3f}"


def _range(low: float | None, high: float | None) -> str:
    return "–" if low is None else f"[{low:.3f}, {high:.3f}]"


def _md(text: str) -> str:
    """Text that Markdown shows as it is."""
    for sign in "\\`*_[]<>|#":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def _md_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [list(head), ["---"] * len(head), *([_md(cell) for cell in row] for row in rows)]
    return [*("| " + " | ".join(line) + " |" for line in lines), ""]


def _html_list(items: Sequence[str]) -> str:
    return "<ul>\n" + "\n".join(f"<li>{escape(item)}</li>" for item in items) + "\n</ul>"
