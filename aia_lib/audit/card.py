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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..biometrics import linkability, pic, suppression_rate
from ..machine.files import UserError, with_interval, write_json, write_text
from ..report import page as pages
from ..report.ledger import FMRS, fnmr, markdown_table, with_fnmr
from .claims import MARKS, NOT_SUPPORTED, NOT_TESTED, SUPPORTED, Claim, Limits, claims, spaced

if TYPE_CHECKING:
    from . import AuditReport


_CLAIMED = "What may be claimed"

_VERDICTS = {verdict: f"{mark} {verdict}" for verdict, mark in MARKS.items()}

FORMATS = (".md", ".html", ".json")
"""What `PrivacyCard.save` writes, by the file's ending."""


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
        biometrics: {metric, value, low, high, unit, source, note}: what biometrics measures, `value` None where `note` says why not.
        protection: {property, finding} of ISO/IEC 24745: what the audit measured of it, or why it did not.
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
    biometrics: tuple[Mapping[str, Any], ...]
    protection: tuple[Mapping[str, Any], ...]
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
        lines = [f"# {_md(self.title)}", "", *(line for text in self._lead() for line in (_md(text), ""))]
        for heading, words, head, rows in self._parts():
            lines += [f"## {heading}", "", *([_md(words), ""] if words else [])]
            cells = [[_md(cell) for cell in row] for row in rows]
            lines += markdown_table(head, cells, range(len(head))).splitlines() if head else [f"* {cell}" for (cell,) in cells]
            lines.append("")
        lines += ["## Where this comes from", "", *(f"* {_md(term)}: {_md(text)}" for term, text in self._origin()), ""]
        return "\n".join(lines)

    def to_html(self) -> str:
        """The card as a page that stands by itself: no script, nothing loaded, light and dark."""
        parts = [f"<h1>{escape(self.title)}</h1>"]
        parts += [f'<p class="lead">{escape(text)}</p>' if i == 0 else f"<p>{escape(text)}</p>" for i, text in enumerate(self._lead())]
        shown = {text: f'<span class="verdict {verdict.replace(" ", "-")}">{text}</span>' for verdict, text in _VERDICTS.items()}
        for heading, words, head, rows in self._parts():
            parts += [f"<h2>{escape(heading)}</h2>", f"<p>{escape(words)}</p>" if words else ""]
            cells = [[shown.get(cell, escape(cell)) for cell in row] for row in rows]
            texts = (1, 2) if heading in (_CLAIMED, "Template protection") else ()
            items = "\n".join(f"<li>{row[0]}</li>" for row in cells)
            parts.append(pages.html_table([*map(escape, head)], cells, heading, texts) if head else f"<ul>\n{items}\n</ul>")
        origin = "\n".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in self._origin())
        parts += ["<h2>Where this comes from</h2>", f"<dl>\n{origin}\n</dl>"]
        style = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
        return pages.document(self.title, "\n".join(part for part in parts if part), style)

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
            f"How well {spaced(self.attribute)} as labelled in the data set can be read from what {self.method} releases, by attackers "
            f"trained afresh on people of {self.data['source']}. Of {len(self.claims)} claims "
            f"{count[SUPPORTED]} are supported, {count[NOT_SUPPORTED]} are not, {count[NOT_TESTED]} were not tested."
        )
        return [words, *([self.description] if self.description else []), *([f"Contact: {self.contact}"] if self.contact else [])]

    def _parts(self) -> list[tuple[str, str, list[str], list[list[str]]]]:
        """Heading, words, head and rows of each part that is not empty, as plain text; one without a head is a list."""
        parts = [
            (_CLAIMED, "", ["Claim", "Verdict", "Why"], [[c.text, _VERDICTS[c.verdict], c.reason] for c in self.claims]),
            (
                "Figures",
                "Means over seeds; 95 % intervals by a bootstrap that draws people, not images.",
                ["Figure", "Value", "95 % interval", "Unit"],
                [[row["figure"], f"{row['value']:.3f}", _range(row["low"], row["high"]), row["unit"]] for row in self.figures],
            ),
            (
                "Biometric performance",
                "Error rates as in ISO/IEC 19795-1; the other figures are the literature's. ISO/IEC 30136 asks for accuracy, "
                "irreversibility and unlinkability.",
                ["Metric", "Value", "95 % interval", "Unit", "Source"],
                [
                    [row["metric"], row["note"] or f"{row['value']:.3f}", _range(row["low"], row["high"]), row["unit"], row["source"]]
                    for row in self.biometrics
                ],
            ),
            (
                "Template protection",
                "The properties that ISO/IEC 24745 asks of a protected template.",
                ["Property", "Finding"],
                [[row["property"], row["finding"]] for row in self.protection],
            ),
            (
                "Controls",
                "What the figures are to be held against.",
                ["Control", "Value"],
                [[spaced(row["control"]).replace(" auc", ", AUC"), f"{row['value']:.3f}"] for row in self.controls],
            ),
            (
                "Attackers",
                "Chosen by the AUC on validation people, reported on test people. A leak is as large as the first row says, or larger.",
                ["Attacker", "AUC, validation", "AUC, test"],
                [[spaced(row["attacker"]), f"{row['val_auc']:.3f}", f"{row['test_auc']:.3f}"] for row in self.attackers],
            ),
            (
                "Other attributes",
                "Every attribute with enough people, by one pair of attackers; the private one first. "
                "Intervals are not widened for number.",
                ["Attribute", "AUC before", "AUC after", "Change", "95 % interval"],
                [
                    [spaced(row["attribute"]), *(f"{row[key]:{sign}.3f}" for key, sign in (("before", ""), ("after", ""), ("change", "+")))]
                    + [_range(row["low"], row["high"], "+")]
                    for row in self.attributes
                ],
            ),
            (
                "Data",
                f"{self.data['source']}, {self.data.get('kind') or self.data['size']}. No person is in two splits of a deal.",
                ["Split", "Images", "People", "Use"],
                [[part, f"{self.data[f'{part}_images']:,}", f"{self.data[f'{part}_people']:,}", use] for part, use in _SPLITS.items()],
            ),
            ("Limits", "", [], [[sentence] for sentence in self.limits]),
            ("What the audit left out", "", [], [[note] for note in self.notes]),
        ]
        return [part for part in parts if part[3]]

    def _origin(self) -> list[tuple[str, str]]:
        origin = self.provenance or {}
        git = origin.get("git")
        commit = "" if git is None else git["commit"] + (" with uncommitted changes" if git["dirty"] else "")
        versions = ", ".join(f"{name} {version}" for name, version in origin.get("versions", {}).items() if version)
        entries = [("Seeds", ", ".join(map(str, self.seeds))), ("Command", origin.get("command")), ("Commit", commit)]
        entries += [("Versions", versions), ("Device", origin.get("device")), ("Date", origin.get("date"))]
        return [(term, str(text)) for term, text in entries if text]


_SPLITS = {
    "attack": "attackers and verifier learn from them",
    "val": "choices: the worst attacker, when training stops, thresholds",
    "test": "read once",
}

_FIGURES = (
    ("retrained", "leak_auc", "leak, worst fresh attacker", "AUC"),
    ("retrained", "strongest_auc", "leak, strongest attacker of all kinds, over all seeds", "AUC"),
    ("retrained", "leak_balanced_accuracy", "leak, balanced accuracy", "share"),
    ("retrained", "utility_auc_same", "verification, impostors with the same label", "AUC"),
    ("retrained", "utility_auc", "verification, any impostors", "AUC"),
    ("retrained", "kept_of_unprotected_same", "utility kept of its own unprotected representation, same label", "share"),
    ("paper", "privacy_auc", "leak, co-trained adversary (paper regime)", "AUC"),
    ("information", "information_bits", "information on the attribute, at least", "bits an image"),
    ("code", "bits_per_label", "online code of the labels, those of val among them", "bits a label"),
    ("code", "saved_bits_per_label", "saved against not looking", "bits a label"),
    ("reconstruction", "psnr", "rebuilt faces, PSNR", "dB"),
    ("reconstruction", "ssim", "rebuilt faces, SSIM", "at most 1"),
    ("reconstruction", "match_auc_same", "rebuilt faces recognised, same label", "AUC"),
    ("adaptive", "leak_auc", "leak, attacker who knows the defence", "AUC"),
    ("others", "leak_auc", "leak, attacker who learns from other people too", "AUC"),
)
"""Part of the audit, key there, words on the card and unit of each figure, in the card's order; those that an audit lacks are left out."""


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
        provenance: from `ledger.provenance`.

    Raises:
        UserError: the two audits are of different faces or attributes.
    """
    r, deep = report.retrained, report.deep or {}
    parts = {"retrained": r, "paper": report.paper or {}, **deep}
    figures = []
    for part, key, words, unit in _FIGURES:
        if key in (values := parts.get(part, {})):
            low, high = values.get(f"{key}_ci", (None, None))
            figures.append({"figure": words, "value": values[key], "low": low, "high": high, "unit": unit})
    attackers = sorted(r["attackers"], key=r["attackers_val"].get, reverse=True)
    attributes = []
    for name, read in deep.get("creep", {}).get("attributes", {}).items():
        changes = {key: read[key] for key in ("before", "after", "change")}
        attributes.append({"attribute": name, **changes, **dict(zip(("low", "high"), read["change_ci"], strict=True))})
    return PrivacyCard(
        method=report.name,
        attribute=report.attribute,
        description=description.strip(),
        contact=contact.strip(),
        data=dict(report.data),
        seeds=tuple(dict.fromkeys(entry["seed"] for entry in report.seeds)),
        claims=claims(report, original, limits),
        figures=tuple(figures),
        biometrics=tuple(_biometrics(report, original)),
        protection=tuple(_protection(report)),
        controls=tuple({"control": key, "value": value} for key, value in report.controls.items()),
        attackers=tuple({"attacker": name, "val_auc": r["attackers_val"][name], "test_auc": r["attackers"][name]} for name in attackers),
        attributes=tuple(attributes),
        limits=_limits(report),
        notes=(*report.notes, *_left_out(deep)),
        provenance=None if provenance is None else dict(provenance),
    )


def _biometrics(report: AuditReport, original: AuditReport | None) -> list[dict[str, Any]]:
    """The rows of the card's biometric section; PIC and suppression rate compare with `original` and are left out without one."""
    r, rows = report.retrained, []

    def row(metric: str, unit: str, source: str, value: float | None, interval: Sequence[float] = (), note: str = "") -> None:
        low, high = interval or (None, None)
        rows.append({"metric": metric, "value": value, "low": low, "high": high, "unit": unit, "source": source, "note": note})

    figures, kinds = with_fnmr(r), {"_same": "impostors with the same label", "": "any impostors"}
    for kind, words in kinds.items():
        for fmr, rate in FMRS.items():
            value, interval = (figures.get(f"fnmr_at_fmr_{fmr}{kind}{end}") for end in ("", "_ci"))
            refused = "" if value is not None else fnmr(r, fmr, kind)
            if refused != "–":
                row(f"FNMR at FMR {rate}, {words}", "share", "ISO/IEC 19795-1", value, interval or (), refused)
        row(f"equal error rate, {words}", "share", "ISO/IEC 19795-1", r[f"eer{kind}"])
    if original is not None:
        accuracies, errors = ([of.retrained[key] for of in (report, original)] for key in ("leak_balanced_accuracy", "eer_same"))
        row("suppression rate of the attacker's accuracy", "share", "Terhörst et al. 2019", suppression_rate(*accuracies))
        try:
            ratio, note = pic(*(1 - a for a in accuracies), *errors), ""
        except UserError as error:
            ratio, note = None, f"not measured: {error}"
        row("privacy gain less identity loss (PIC)", "ratio", "Terhörst et al. 2019", ratio, note=note)
    linked = float(np.mean([linkability(seed.same.scores, seed.same.positive) for seed in report.scores]))
    row("linkability of two releases, same label (D_sys)", "0 to 1", "Gomez-Barrero et al. 2018", linked)
    if "disclosure_bits" in r:
        source, interval = "ZEBRA, Nautsch et al. 2020", r["disclosure_bits_ci"]
        row("expected disclosure, of 0.721 in all", "bits", source, r["disclosure_bits"], interval)
        row(f"worst disclosure, category {r['worst_disclosure_category']}", "log10 odds", source, r["worst_disclosure"])
    return rows


def _protection(report: AuditReport) -> list[dict[str, str]]:
    rebuilt = (report.deep or {}).get("reconstruction")
    irreversible = "not measured: faces were not rebuilt; ask with deep=True"
    if rebuilt is not None:
        irreversible = (
            "measured by a fresh decoder: its faces are recognised among people of the same label with AUC "
            f"{with_interval(rebuilt['match_auc_same'], rebuilt['match_auc_same_ci'])}, real ones with {rebuilt['real_auc_same']:.3f}"
        )
    findings = {
        "Irreversibility": irreversible,
        "Unlinkability": "not measured: it is about releases under different keys, and the audit knows of none. D_sys above is of one "
        "function: mated are the genuine pairs, non-mated the impostors with the same label, scored by the fresh verifier. What verifies "
        "people links them, so a large one is no fault, but it says that two databases of these releases can be joined.",
        "Renewability": "not measured: it takes a key that can be changed, and the audit knows of none",
    }
    return [{"property": name, "finding": finding} for name, finding in findings.items()]


def _limits(report: AuditReport) -> tuple[str, ...]:
    name, data = spaced(report.attribute), report.data
    return (
        "A leak is a lower bound: an attacker who is not in the list, or who has more data or other knowledge, may read more.",
        f"The attackers learned from {data['attack_images']:,} images of {data['attack_people']:,} people of {data['source']}. "
        "The intervals hold for other people of this source, not for another source.",
        f"{name[:1].upper()}{name[1:]} is what the data set's labels say about pictures. It is not what anybody is.",
        "The card is about the method as it was audited, at this image size. Training it again, or other preprocessing, needs a new audit.",
    )


def _left_out(deep: Mapping[str, Any]) -> list[str]:
    notes = [f"The attribute {spaced(name)} was not read: {reason}." for name, reason in deep.get("creep", {}).get("left_out", {}).items()]
    tried = deep.get("adaptive", {}).get("left_out", {})
    return notes + [f"Of an attacker who knows the defence, {name} was not tried: {reason}." for name, reason in tried.items()]


def _range(low: float | None, high: float | None, sign: str = "") -> str:
    return "–" if low is None else f"[{low:{sign}.3f}, {high:{sign}.3f}]"


def _md(text: str) -> str:
    """Text that Markdown shows as it is."""
    for sign in "\\`*_[]<>|#":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
