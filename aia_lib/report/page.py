"""A run's report for people: report.json, table.md, and an index.html that needs no network and no script."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..machine.files import write_json, write_text
from . import ledger

if TYPE_CHECKING:
    from .plots import Picture

TITLE = "Does the representation hide it?"

TERMS = """\
Paper regime: The attacker is the adversary that was trained together with the method, and the verifier is the Siamese network trained
with it. The method could adapt to exactly these two. This is how the paper reports its Table 1.

Retrained regime: The method is frozen. Attackers of several kinds and a new verifier are then trained from nothing on people whom the
method never saw, chosen on other people, and tested once on yet others. Anybody who holds labelled faces can do the same, so this is the
figure that a claim of privacy has to face. Reported is the worst attacker.

Privacy and leak, lower is better ↓: How well {attribute} can be read: accuracy, or AUC, where 0.5 is a coin and 1 reads every face. An
accuracy says little by itself: naming the larger class every time already gets its share.

Utility, higher is better ↑: How well two images of one person are told from two of different people. In the retrained regime both people
of an impostor pair carry the same label: else “same label, so same person” would pass for face recognition, and removing the attribute
would look like losing identity.

Leak removed, utility kept: Both compare with Original, with chance counting as zero: a method that removes 100 % leaves the worst
attacker a coin, one that keeps 100 % verifies as well as Original. They are worth something only together.

Intervals: Brackets hold 95 % intervals from a bootstrap that draws people, not images, since images of one person are alike. All methods
are tested on the same people, so that overlapping intervals do not decide whether two of them differ: the interval of their paired
difference does, for which the same people are drawn for both. report.json holds these, under “differences”.

What is not shown: A leak is a lower bound: an attacker outside this list, or with more data, may read more."""
"""How to read the page: terms, and what they mean."""


def write_report(
    report: Mapping, out: str | os.PathLike, figures: Mapping[str, tuple[str, Picture, str]], links: Sequence[tuple[str, str]] = ()
) -> Path:
    """Write report.json, table.md, figures and index.html into the folder `out`, each of them whole or not at all.

    Where the data's source is one of the paper's, its own Table 1 stands beside ours.

    Args:
        report: in the ledger's format (see `ledger`); a UserError where it is not.
        out: the folder; made where it is missing.
        figures: file name without its ending to title, picture and caption.
        links: words and relative address of more files to point at, such as checkpoints.

    Returns:
        The path of index.html.
    """
    from . import plots

    out = Path(out)
    write_json(out / "report.json", ledger.validated(report))
    write_text(out / "table.md", table_file(report))
    for name, (_, picture, _) in figures.items():
        plots.save_picture(picture, out / "figures" / f"{name}.png")
    write_text(out / "index.html", page(report, figures, links))
    return out / "index.html"


def table_file(report: Mapping) -> str:
    """The table of both regimes with its explanation and where it comes from, as Markdown: the content of table.md."""
    origin, paper = report["provenance"], _published_for(report)
    note = ledger.TABLE_NOTE + (f" In parentheses: {ledger.PAPER_SOURCE}." if paper else "")
    seeds = ", ".join(map(str, origin["seeds"]))
    made = f"Data: {_data_line(report)}. Seeds: {seeds}. Made with `{origin['command']}` at {origin['date']}."
    return f"{ledger.table(report, paper)}\n{note}\n\n{made}\n"


def _published_for(report: Mapping) -> str | None:
    """The paper's data set that the report's faces are of, if any."""
    source = str(_data(report).get("source", "")).lower()
    return next((name for name in ledger.PAPER_TABLE1 if source == name or source.startswith(f"{name} ")), None)


def page(report: Mapping, figures: Mapping[str, tuple[str, Picture, str]], links: Sequence[tuple[str, str]] = ()) -> str:
    """The page index.html as text; for its arguments see `write_report`."""
    origin = report["provenance"]
    name = report.get("settings", {}).get("attribute") or _data(report).get("attribute")
    attribute = f"{str(name).replace('_', ' ')} as labelled in the data set" if name else "the private attribute"
    made = f"{len(origin['seeds'])} seed{'s' * (len(origin['seeds']) != 1)}, {origin['date'][:10]}."
    parts = [
        f"<h1>{TITLE}</h1>",
        f'<p class="lead">{escape(_data_line(report))}. Private attribute: {escape(attribute)}. {escape(made)}</p>',
        "<h2>In short</h2>",
        _short_answers(report, attribute),
        "<h2>How to read this</h2>",
        _explanation(attribute),
        "<h2>Table 1, twice</h2>",
        "<h3>Paper regime: against the adversary it was trained with</h3>",
        _paper_table(report),
        "<h3>Retrained regime: against attackers trained afresh</h3>",
        _retrained_table(report),
    ]
    parts += ["<h2>Pictures</h2>", *(_figure(name, *figure) for name, figure in figures.items())] if figures else []
    parts += ["<h2>All attackers</h2>", _attackers_table(report), _seeds_table(report), *_controls(report)]
    parts += ["<h2>Where this comes from</h2>", _provenance(report)]
    if rows := [[escape(_plain(key)), escape(str(value))] for key, value in _flat(report.get("settings", {}))]:
        table = html_table(["Setting", "Value"], rows, "Settings", text_columns=(1,))
        parts.append(f"<details><summary>Settings</summary>{table}</details>")
    files = [("The numbers", "report.json"), ("The table as Markdown", "table.md"), *links]
    items = "".join(f'<li><a href="{escape(address)}">{escape(words)}</a></li>' for words, address in files)
    return document(TITLE, "\n".join([*parts, f"<h3>Files</h3>\n<ul>{items}</ul>"]))


def document(title: str, body: str, style: str = "") -> str:
    """An HTML page that stands by itself, light and dark: `body` between its frame, `style` after the common one."""
    common = (Path(__file__).parent / "page.css").read_text(encoding="utf-8")
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>\n{common}{style}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def html_table(head: Sequence[str], rows: Sequence[Sequence[str]], label: str, text_columns: Sequence[int] = ()) -> str:
    """An HTML table whose cells are HTML already; the first column holds the rows' headings. It scrolls in a box of its own."""
    kinds = [' class="text"' if index in text_columns else "" for index in range(len(head))]
    lines = [f'<div class="scroll" role="region" aria-label="{escape(label)}" tabindex="0"><table>', "<thead><tr>"]
    for cell, kind in zip(head, kinds, strict=True):  # an arrow stays beside its word
        lines.append(f'<th scope="col"{kind}>{cell.replace(" ↓", "&nbsp;↓").replace(" ↑", "&nbsp;↑")}</th>')
    lines += ["</tr></thead>", "<tbody>"]
    for first, *rest in rows:
        cells = "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(rest, kinds[1:], strict=True))
        lines.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
    return "\n".join([*lines, "</tbody></table></div>"])


def _data(report: Mapping) -> Mapping:
    """What the report says of its data, of which it may name nothing but the source."""
    data = report["provenance"]["data"]
    return data if isinstance(data, Mapping) else {"source": data}


def _data_line(report: Mapping) -> str:
    shown = {"source": "{}", "images": "{:,} images", "people": "{:,} people", "size": "{0} × {0} pixels"}
    return ", ".join(words.format(_data(report)[key]) for key, words in shown.items() if key in _data(report))


def _plain(name: str) -> str:
    return re.sub(r"\bauc\b", "AUC", name.replace("_", " "))


def _value(value: Any) -> str:
    return "–" if value is None else f"{value:.3f}" if isinstance(value, float) else escape(str(value))


def _interval(value: float, interval: Sequence[float]) -> str:
    return ledger.with_interval(value, interval).replace(" [", ' <span class="ci">[') + "</span>"


def _flat(value: Mapping, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{key}, ")
        elif isinstance(item, (list, tuple)):
            yield f"{prefix}{key}", ", ".join(f"{x:.3f}" if isinstance(x, float) else str(x) for x in item)
        else:
            yield f"{prefix}{key}", item


def _short_answers(report: Mapping, attribute: str) -> str:
    methods, items = report["methods"], []
    for name, method in methods.items():
        paper, retrained = method["paper"] or {}, method["retrained"]
        before = f"{paper['privacy_auc']:.3f} → " if "privacy_auc" in paper else ""
        figure, interval = ledger.with_interval(retrained["leak_auc"], retrained["leak_auc_ci"]).split(" ", 1)
        text = f"{before}<strong>{figure}</strong> {interval}, by {escape(_plain(retrained['worst_attacker']))}."
        if name != "Original" and "Original" in methods:
            removed, kept = ledger.shares(report, name)
            text += f" Removes {removed} of Original’s leak, keeps {kept} of its utility.".replace(" %", "\u00a0%")
        items.append(f"<li><strong>{escape(name)}</strong>: {text}</li>")
    families = max(len(method["retrained"]["attackers"]) for method in methods.values())
    both = any("privacy_auc" in (method["paper"] or {}) for method in methods.values())
    lead = f"How well {escape(attribute)} is read, as AUC (0.5 is chance): "
    lead += "by the adversary that the method was trained against → " if both else ""
    lead += f"by <strong>the worst of {families} attacker{'s' * (families != 1)} trained afresh</strong>, with its 95 % interval."
    return f"<p>{lead}</p>\n<ul>\n" + "\n".join(items) + "\n</ul>"


def _explanation(attribute: str) -> str:
    terms = (paragraph.replace("\n", " ").split(": ", 1) for paragraph in TERMS.format(attribute=attribute).split("\n\n"))
    return _definitions(((term, escape(text)) for term, text in terms), ' class="terms"')


def _definitions(entries: Iterable[tuple[str, str]], kind: str = "") -> str:
    """A list of terms and texts; the texts are HTML already."""
    return f"<dl{kind}>\n" + "\n".join(f"<dt>{escape(term)}</dt><dd>{text}</dd>" for term, text in entries) + "\n</dl>"


def _paper_table(report: Mapping) -> str:
    methods = {name: method["paper"] for name, method in report["methods"].items() if method["paper"] is not None}
    if not methods:
        return "<p>No co-trained adversary belongs to these methods, so there is no paper regime.</p>"
    paper = _published_for(report)
    theirs, rows = ledger.published(paper) if paper else {}, []
    for name, figures in methods.items():
        row = [escape(name)]
        for key in ("privacy_accuracy", "utility_accuracy"):
            beside = f'<span class="ci">paper: {ledger.percent(theirs.get(name, {}).get(key), 1)}</span>' if paper else ""
            row.append(f"{ledger.percent(figures.get(key), 1)} {beside}")
        rows.append([*row, _value(figures.get("privacy_auc")), _value(figures.get("utility_auc"))])
    text = html_table(["Method", "Privacy ↓", "Utility ↑", "Privacy, AUC ↓", "Utility, AUC ↑"], rows, "Table 1 in the paper regime")
    if paper:
        text += f'\n<p class="note">Paper: {escape(ledger.PAPER_SOURCE)}. Other images and other training: compare the order.</p>'
    return text


def _retrained_table(report: Mapping) -> str:
    derived = "Original" in report["methods"]
    head = ["Method", "Leak, AUC ↓", "Worst attacker", "Utility, AUC ↑"] + (["Leak removed ↑", "Utility kept ↑"] if derived else [])
    rows = []
    for name, method in report["methods"].items():
        r = method["retrained"]
        row = [escape(name), _interval(r["leak_auc"], r["leak_auc_ci"]), escape(_plain(r["worst_attacker"]))]
        row += [_interval(r["utility_auc_same"], r["utility_auc_same_ci"]), *(ledger.shares(report, name) if derived else [])]
        rows.append([*row, ledger.percent(r["eer"], 1), escape(ledger.fnmr(r, "1e-2"))])
    text = html_table([*head, "EER ↓", "FNMR at FMR 1 % ↓"], rows, "Table 1 in the retrained regime", text_columns=(2,))
    return text + '<p class="note">EER and FNMR at FMR 1 % with impostors drawn freely.</p>'


def _attackers_table(report: Mapping) -> str:
    methods, rows = report["methods"], []
    for family in dict.fromkeys(family for method in methods.values() for family in method["retrained"]["attackers"]):
        row = [escape(_plain(family))]
        for method in methods.values():
            auc = method["retrained"]["attackers"].get(family)
            worst = family == method["retrained"]["worst_attacker"]
            row.append("–" if auc is None else f"<strong>{auc:.3f} ◂</strong>" if worst else f"{auc:.3f}")
        rows.append(row)
    words = (
        "AUC of each fresh attacker, means over seeds. Bold and ◂ mark the worst for the method, chosen on validation people; "
        "where seeds differ in it, the leak above is the mean over each seed’s own."
    )
    return html_table(["Attacker", *map(escape, methods)], rows, "AUC of every attacker") + f'<p class="note">{words}</p>'


def _seeds_table(report: Mapping) -> str:
    rows = []
    for name, method in report["methods"].items():
        for entry in method["seeds"]:
            paper, retrained = entry.get("paper") or {}, entry["retrained"]
            figures = (paper.get("privacy_auc"), retrained.get("leak_auc"), paper.get("utility_auc"), retrained.get("utility_auc_same"))
            seed = f"{entry['seed']}, fold {entry['fold']}" if "fold" in entry else str(entry["seed"])
            rows.append([escape(name), seed, *map(_value, figures)])
    head = ["Method", "Seed", "Co-trained adversary, AUC", "Worst fresh attacker, AUC", "Co-trained Siamese, AUC", "Fresh verifier, AUC"]
    return f"<details><summary>Seed by seed</summary>{html_table(head, rows, 'Figures of each seed')}</details>"


def _controls(report: Mapping) -> list[str]:
    """One row a control, one column a method; then what each audit has left out, in its words."""
    methods = report["methods"]
    controls = {name: dict(_flat(method.get("controls") or {})) for name, method in methods.items()}
    parts = []
    if keys := list(dict.fromkeys(key for values in controls.values() for key in values)):
        rows = [[escape(_plain(key)), *(_value(values.get(key)) for values in controls.values())] for key in keys]
        words = (
            "What to hold the figures against: what an attacker reaches who knows nothing (the majority's label, shuffled labels), "
            "what is read off an encoder that learned nothing, and how well the attribute alone passes for face verification."
        )
        parts += ["<h2>Controls</h2>", f"<p>{words}</p>", html_table(["Control", *map(escape, methods)], rows, "Controls")]
    if notes := [(name, note) for name, method in methods.items() for note in method.get("notes") or ()]:
        items = "".join(f"<li><strong>{escape(name)}</strong>: {escape(str(note))}</li>" for name, note in notes)
        parts += ["<h3>What the audits left out</h3>", f"<ul>{items}</ul>"]
    return parts


def _figure(name: str, title: str, picture: Picture, caption: str) -> str:
    """A page that knows the size at which a picture is shown, in CSS pixels, does not jump while loading."""
    address, (width, height) = f"figures/{escape(name)}.png", (round(100 * inches) for inches in picture.get_size_inches())
    return (
        f'<h3>{escape(title)}</h3>\n<figure><a class="sheet" href="{address}"><img src="{address}" alt="{escape(picture.alt)}" '
        f'width="{width}" height="{height}"></a><figcaption>{escape(caption)}</figcaption></figure>'
    )


def _provenance(report: Mapping) -> str:
    origin, git = report["provenance"], report["provenance"]["git"]
    minutes, seconds = divmod(round(origin["seconds"]), 60)
    changed = " with uncommitted changes" if git and git["dirty"] else ""
    entries = [
        ("Command", f"<code>{escape(origin['command'])}</code>"),
        ("Commit", f"<code>{escape(git['commit'] + changed)}</code>" if git else "not run from a checkout"),
        ("Versions", escape(", ".join(f"{name} {version or '(not installed)'}" for name, version in origin["versions"].items()))),
        ("Device", escape(origin["device"])),
        ("Time taken", f"{minutes} min {seconds} s" if minutes else f"{origin['seconds']:.3g} s"),
        ("Seeds", ", ".join(map(str, origin["seeds"]))),
        ("Date", escape(origin["date"])),
        *((_plain(f"Data: {key}"), escape(str(value))) for key, value in _flat(_data(report))),
    ]
    return _definitions(entries)
