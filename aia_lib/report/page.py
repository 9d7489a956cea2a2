"""A run's report for people: report.json, table.md, and an index.html that needs no network and no script."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image, UnidentifiedImageError

from ..machine.files import UserError, write_json, write_text
from . import ledger

Figure = tuple[str, str, str, str]
"""A figure of the page: title, file name in figures/, caption, alternative text."""


def write_report(
    report: Mapping,
    out: str | os.PathLike,
    figures: Sequence[Figure] = (),
    *,
    title: str = "Does the representation hide it?",
    paper: str | None = None,
    links: Sequence[tuple[str, str]] = (),
) -> Path:
    """Write report.json, table.md and index.html into the folder `out`, each of them whole or not at all.

    Absolute paths in the report's provenance and settings are reduced to their last component first.

    Args:
        report: in the ledger's format (see `ledger`).
        out: the folder; made where it is missing.
        figures: of each its title, its file's name in `out`/figures/ (already there), its caption and its alternative text.
        title: the page's heading.
        paper: "celeba" or "vggface" sets the paper's own Table 1 beside ours; by default whichever the data's source names.
        links: words and relative address of more files to point at, such as checkpoints.

    Returns:
        The path of index.html.

    Raises:
        UserError: the report is not in the format (its numbers are then kept in report-unchecked.json), or a figure is
            missing, has no alternative text, or does not lie in figures/.
    """
    out = Path(out)
    report = ledger.clean(report)
    try:
        ledger.check(report)
    except UserError as error:
        kept = out / "report-unchecked.json"  # a long run must not lose its numbers to a wrong key
        write_text(kept, json.dumps(report, indent=1, default=str) + "\n")
        raise UserError(f"The report is not in the ledger's format: {error} Its numbers are kept in {kept}.") from error
    write_json(out / "report.json", report)
    paper = paper or _published_for(report)
    write_text(out / "table.md", markdown(report, paper))
    index = out / "index.html"
    write_text(index, page(report, [_checked(figure, out) for figure in figures], title=title, paper=paper, links=links))
    return index


def markdown(report: Mapping, paper: str | None = None) -> str:
    """The table of both regimes with its explanation and where it comes from, as Markdown: the content of table.md."""
    origin = report["provenance"]
    note = ledger.TABLE_NOTE + (f" In parentheses: {ledger.PAPER_SOURCE}." if paper else "")
    lines = [ledger.table(report, paper), note, ""]
    seeds = ", ".join(map(str, origin["seeds"]))
    lines += [f"Data: {_data_line(report)}. Seeds: {seeds}. Made with `{origin['command']}` at {origin['date']}."]
    return "\n".join(lines) + "\n"


def _published_for(report: Mapping) -> str | None:
    data = report["provenance"]["data"]
    source = str(data.get("source", "") if isinstance(data, Mapping) else data).lower()
    return next((name for name in ledger.PAPER_TABLE1 if source == name or source.startswith(f"{name} ")), None)


def _checked(figure: Figure, out: Path) -> tuple[str, str, str, str, tuple[int, int] | None]:
    """The figure with the size at which it is shown, in CSS pixels: a page that knows it does not jump while loading.

    An image that states its resolution is shown as large as on 100 dpi, so that 200 dpi look sharp on fine screens.
    """
    title, name, caption, alt = figure
    if PurePosixPath(name).name != name or name in ("", ".", ".."):
        raise UserError(f"A figure is given by its file's name in figures/, not by {name!r}.")
    path = out / "figures" / name
    if not path.is_file():
        raise UserError(f"{path}: no such figure; write it before the page that shows it.")
    if not alt.strip():
        raise UserError(f"The figure {name} has no alternative text; plots.alt_text(figure) gives that of a picture made here.")
    try:
        with Image.open(path) as image:
            scale = 100 / (image.info.get("dpi") or (100, 100))[0]
            size = round(image.width * scale), round(image.height * scale)
    except (UnidentifiedImageError, ZeroDivisionError):  # an SVG, say: the browser knows better
        size = None
    return title, name, caption, alt, size


# The page -------------------------------------------------------------------------------------------------------------

_STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1b1f24; --soft: #57606a; --line: #d5dae0; --back: #ffffff; --panel: #f5f7f9; --shade: #00000030; --link: #0b5cad;
}
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7eb; --soft: #a3acb6; --line: #3a424c; --back: #15191e; --panel: #1e242b; --shade: #ffffff38; --link: #7ab8f5; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 1.0625rem/1.6 system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
p, li, dl, summary { max-width: 48rem; }
h1 { font-size: clamp(1.6rem, 5vw, 2.2rem); line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.35rem; line-height: 1.3; margin: 2.8rem 0 .6rem; padding-top: 1rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.1rem; margin: 1.8rem 0 .4rem; }
a { color: var(--link); }
.lead, figcaption, .note, caption { color: var(--soft); }
.note { font-size: .95rem; }
code { font-family: ui-monospace, "SF Mono", Consolas, monospace; font-size: .9em; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: 1rem 0; border: 1px solid var(--line); border-radius: .4rem;
  background: linear-gradient(to left, var(--back) 1.2rem, transparent 3rem) right / 3rem 100% no-repeat local,
    linear-gradient(to left, var(--shade), transparent) right / 1rem 100% no-repeat scroll; }
.scroll:focus-visible { outline: 2px solid var(--link); }
table { border-collapse: collapse; width: 100%; font-size: .95rem; font-variant-numeric: tabular-nums; }
th, td { padding: .45rem .7rem; text-align: right; border-bottom: 1px solid var(--line); vertical-align: top; white-space: nowrap; }
tbody tr:last-child > * { border-bottom: 0; }
thead th { background: var(--panel); vertical-align: bottom; font-weight: 600; white-space: normal; min-width: 4.8rem; }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--panel); white-space: nowrap; }
td.text, th.text { text-align: left; } td.text { white-space: normal; overflow-wrap: break-word; min-width: 6rem; }
td .ci { display: block; color: var(--soft); font-size: .85em; }
figure { margin: 1rem 0 2rem; }
figure img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figure .sheet { display: block; background: #fff; padding: .6rem; border: 1px solid var(--line); border-radius: .4rem; }
figcaption { margin-top: .5rem; font-size: .95rem; max-width: 48rem; }
dl { display: grid; grid-template-columns: minmax(6rem, max-content) 1fr; gap: .25rem 1rem; margin: 1rem 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
dl.terms { display: block; } dl.terms dt { color: var(--ink); font-weight: 600; margin-top: .8rem; }
details { margin: 1rem 0; } summary { cursor: pointer; font-weight: 600; }
@media (max-width: 34rem) {
  body { font-size: 1rem; } th, td { padding: .4rem .5rem; } table { font-size: .875rem; }
  figure { margin-inline: -.5rem; } figure .sheet { padding: .25rem; }
  dl { grid-template-columns: 1fr; gap: 0; } dt { margin-top: .5rem; }
}
@media print { .scroll { overflow: visible; } h2 { break-after: avoid; } figure { break-inside: avoid; } }
"""


def page(
    report: Mapping,
    figures: Sequence[tuple[str, str, str, str, tuple[int, int] | None]] = (),
    *,
    title: str,
    paper: str | None = None,
    links: Sequence[tuple[str, str]] = (),
) -> str:
    """The page index.html as text. `figures` carry their size in pixels, or None, as their fifth entry."""
    attribute = _attribute(report)
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="lead">{escape(_data_line(report))}. Private attribute: {escape(attribute)}. '
        f"{_count(len(report['provenance']['seeds']), 'seed')}, {escape(report['provenance']['date'][:10])}.</p>",
        "<h2>In short</h2>",
        _short_answers(report, attribute),
        "<h2>How to read this</h2>",
        _explanation(attribute),
        "<h2>Table 1, twice</h2>",
        "<h3>Paper regime: against the adversary it was trained with</h3>",
        _paper_table(report, paper),
        "<h3>Retrained regime: against attackers trained afresh</h3>",
        _retrained_table(report),
    ]
    if figures:
        parts += ["<h2>Pictures</h2>", *map(_figure, figures)]
    parts += ["<h2>All attackers</h2>", _attackers_table(report), _seeds_table(report), _controls(report)]
    parts += ["<h2>Where this comes from</h2>", _provenance(report), _settings(report), _files(links)]
    return document(title, "\n".join(part for part in parts if part))


def document(title: str, body: str, style: str = "") -> str:
    """An HTML page that stands by itself, light and dark: `body` between its frame, `style` after the common one."""
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{escape(title)}</title>\n'
        f"<style>{_STYLE}{style}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _attribute(report: Mapping) -> str:
    data = report["provenance"]["data"]
    name = report.get("settings", {}).get("attribute") or (data.get("attribute") if isinstance(data, Mapping) else None)
    if not name:
        return "the private attribute"
    return f"{str(name).replace('_', ' ')} as labelled in the data set"


def _data_line(report: Mapping) -> str:
    data = report["provenance"]["data"]
    if not isinstance(data, Mapping):
        return str(data)
    words = [str(data["source"])] if "source" in data else []
    for key, unit in (("images", "images"), ("people", "people"), ("size", "pixels")):
        if isinstance(data.get(key), int):
            words.append(f"{data[key]} × {data[key]} {unit}" if key == "size" else f"{data[key]:,} {unit}")
    return ", ".join(words) or ", ".join(f"{key}: {value}" for key, value in data.items())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _short_answers(report: Mapping, attribute: str) -> str:
    methods = report["methods"]
    items = []
    for name, method in methods.items():
        paper, retrained = method["paper"] or {}, method["retrained"]
        own = f"{paper['privacy_auc']:.3f} → " if "privacy_auc" in paper else ""
        text = f"{own}<strong>{retrained['leak_auc']:.3f}</strong> [{retrained['leak_auc_ci'][0]:.3f}, {retrained['leak_auc_ci'][1]:.3f}]"
        text += f", by {escape(_plain(retrained['worst_attacker']))}."
        if name != "Original" and "Original" in methods:
            removed, kept = (ledger.percent(f(report, name)) for f in (ledger.leak_removed, ledger.utility_kept))
            text += f" Removes {removed} of Original’s leak, keeps {kept} of its utility.".replace(" %", "\u00a0%")
        items.append(f"<li><strong>{escape(name)}</strong>: {text}</li>")
    families = max(len(method["retrained"]["attackers"]) for method in methods.values())
    both = any("privacy_auc" in (method["paper"] or {}) for method in methods.values())
    lead = f"How well {escape(attribute)} is read, as AUC (0.5 is chance): "
    lead += "by the adversary that the method was trained against → " if both else ""
    lead += f"by <strong>the worst of {_count(families, 'attacker')} trained afresh</strong>, with its 95 % interval."
    return f"<p>{lead}</p>\n<ul>\n" + "\n".join(items) + "\n</ul>"


def _explanation(attribute: str) -> str:
    terms = (
        (
            "Paper regime",
            "The attacker is the adversary that was trained together with the method, and the verifier is the Siamese network "
            "trained with it. The method could adapt to exactly these two. This is how the paper reports its Table 1.",
        ),
        (
            "Retrained regime",
            "The method is frozen. Attackers of several kinds and a new verifier are then trained from nothing on people whom the "
            "method never saw, chosen on other people, and tested once on yet others. Anybody who holds labelled faces can do the "
            "same, so this is the figure that a claim of privacy has to face. Reported is the worst attacker.",
        ),
        (
            "Privacy and leak, lower is better ↓",
            f"How well {attribute} can be read: accuracy, or AUC, where 0.5 is a coin and 1 reads every face. An accuracy says "
            "little by itself: naming the larger class every time already gets its share.",
        ),
        (
            "Utility, higher is better ↑",
            "How well two images of one person are told from two of different people. In the retrained regime both people of an "
            "impostor pair carry the same label: else “same label, so same person” would pass for face recognition, and "
            "removing the attribute would look like losing identity.",
        ),
        (
            "Leak removed, utility kept",
            "Both compare with Original, with chance counting as zero: a method that removes 100 % leaves the worst attacker a coin, "
            "one that keeps 100 % verifies as well as Original. They are worth something only together.",
        ),
        (
            "Intervals",
            "Brackets hold 95 % intervals from a bootstrap that draws people, not images, since images of one person are alike. "
            "Methods whose intervals overlap widely are not shown to differ.",
        ),
        (
            "What is not shown",
            "A leak is a lower bound: an attacker outside this list, or with more data, may read more.",
        ),
    )
    return '<dl class="terms">\n' + "\n".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in terms) + "\n</dl>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], label: str, text_columns: Sequence[int] = ()) -> str:
    """An HTML table whose cells are HTML already; the first column holds the rows' headings. It scrolls in a box of its own."""

    def kind(index: int) -> str:
        return ' class="text"' if index in text_columns else ""

    lines = [f'<div class="scroll" role="region" aria-label="{escape(label)}" tabindex="0"><table>', "<thead><tr>"]
    for index, cell in enumerate(head):  # an arrow stays beside its word
        lines.append(f'<th scope="col"{kind(index)}>{cell.replace(" ↓", "&nbsp;↓").replace(" ↑", "&nbsp;↑")}</th>')
    lines += ["</tr></thead>", "<tbody>"]
    for first, *rest in rows:
        cells = "".join(f"<td{kind(i)}>{cell}</td>" for i, cell in enumerate(rest, start=1))
        lines.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
    return "\n".join([*lines, "</tbody></table></div>"])


def _interval(value: float, interval: Sequence[float] | None) -> str:
    return f"{value:.3f}" if interval is None else f'{value:.3f} <span class="ci">[{interval[0]:.3f}, {interval[1]:.3f}]</span>'


def _plain(name: str) -> str:
    return re.sub(r"\bauc\b", "AUC", name.replace("_", " "))


def _paper_table(report: Mapping, paper: str | None) -> str:
    methods = {name: method["paper"] for name, method in report["methods"].items() if method["paper"] is not None}
    if not methods:
        return "<p>No co-trained adversary belongs to these methods, so there is no paper regime.</p>"
    theirs = ledger.published(paper) if paper else {}
    rows = []
    for name, own in methods.items():
        row = [escape(name)]
        for key in ("privacy_accuracy", "utility_accuracy"):
            beside = f'<span class="ci">paper: {ledger.percent(theirs.get(name, {}).get(key), 1)}</span>' if paper else ""
            row.append(f"{ledger.percent(own.get(key), 1)} {beside}")
        rows.append([*row, _value(own.get("privacy_auc")), _value(own.get("utility_auc"))])
    text = table(["Method", "Privacy ↓", "Utility ↑", "Privacy, AUC ↓", "Utility, AUC ↑"], rows, "Table 1 in the paper regime")
    if paper:
        text += f'\n<p class="note">Paper: {escape(ledger.PAPER_SOURCE)}. Other images and other training: compare the order.</p>'
    return text


def _retrained_table(report: Mapping) -> str:
    derived = "Original" in report["methods"]
    head = ["Method", "Leak, AUC ↓", "Worst attacker", "Utility, AUC ↑"] + (["Leak removed ↑", "Utility kept ↑"] if derived else [])
    head += ["EER ↓", "TAR at FAR 1 % ↑"]
    rows = []
    for name, method in report["methods"].items():
        r = method["retrained"]
        row = [escape(name), _interval(r["leak_auc"], r["leak_auc_ci"]), escape(_plain(r["worst_attacker"]))]
        row.append(_interval(r["utility_auc_same"], r["utility_auc_same_ci"]))
        if derived:
            functions = (ledger.leak_removed, ledger.utility_kept)
            row += ["–", "–"] if name == "Original" else [ledger.percent(function(report, name)) for function in functions]
        rows.append([*row, ledger.percent(r["eer"], 1), ledger.percent(r["tar_at_far_1e-2"], 1)])
    note = '<p class="note">EER and TAR at FAR 1 % with impostors drawn freely.</p>'
    return table(head, rows, "Table 1 in the retrained regime", text_columns=(2,)) + note


def _attackers_table(report: Mapping) -> str:
    methods = report["methods"]
    families = list(dict.fromkeys(family for method in methods.values() for family in method["retrained"]["attackers"]))
    rows = []
    for family in families:
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
    note = f'<p class="note">{words}</p>'
    return table(["Attacker", *map(escape, methods)], rows, "AUC of every attacker") + note


def _seeds_table(report: Mapping) -> str:
    rows = []
    for name, method in report["methods"].items():
        for entry in method["seeds"]:
            paper, retrained = entry.get("paper") or {}, entry["retrained"]
            figures = (paper.get("privacy_auc"), retrained.get("leak_auc"), paper.get("utility_auc"), retrained.get("utility_auc_same"))
            rows.append([escape(name), str(entry["seed"]), *map(_value, figures)])
    head = ["Method", "Seed", "Co-trained adversary, AUC", "Worst fresh attacker, AUC", "Co-trained Siamese, AUC", "Fresh verifier, AUC"]
    return f"<details><summary>Seed by seed</summary>{table(head, rows, 'Figures of each seed')}</details>"


def _controls(report: Mapping) -> str:
    """One row a control, one column a method; then what each audit has left out, in its own words."""
    methods = report["methods"]
    controls = {name: dict(_flat(method.get("controls") or {})) for name, method in methods.items()}
    parts = []
    if keys := list(dict.fromkeys(key for values in controls.values() for key in values)):
        rows = [[escape(_plain(key)), *(_value(values.get(key)) for values in controls.values())] for key in keys]
        words = (
            "What to hold the figures against: what an attacker reaches who knows nothing (the majority's label, shuffled labels), "
            "what is read off an encoder that learned nothing, and how well the attribute alone passes for face verification."
        )
        parts += ["<h2>Controls</h2>", f"<p>{words}</p>", table(["Control", *map(escape, methods)], rows, "Controls")]
    if notes := [(name, note) for name, method in methods.items() for note in method.get("notes") or ()]:
        items = "".join(f"<li><strong>{escape(name)}</strong>: {escape(str(note))}</li>" for name, note in notes)
        parts += ["<h3>What the audits left out</h3>", f"<ul>{items}</ul>"]
    return "\n".join(parts)


def _value(value: Any) -> str:
    return "–" if value is None else f"{value:.3f}" if isinstance(value, float) else escape(str(value))


def _flat(value: Mapping, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _flat(item, f"{prefix}{key}, ")
        elif isinstance(item, (list, tuple)):
            yield f"{prefix}{key}", ", ".join(f"{x:.3f}" if isinstance(x, float) else str(x) for x in item)
        else:
            yield f"{prefix}{key}", item


def _figure(figure: tuple[str, str, str, str, tuple[int, int] | None]) -> str:
    title, name, caption, alt, size = figure
    address = f"figures/{escape(name)}"
    dimensions = f' width="{size[0]}" height="{size[1]}"' if size else ""
    return (
        f'<h3>{escape(title)}</h3>\n<figure><a class="sheet" href="{address}"><img src="{address}" alt="{escape(alt)}"{dimensions}></a>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _provenance(report: Mapping) -> str:
    origin = report["provenance"]
    git = origin["git"]
    commit = "not run from a checkout" if git is None else git["commit"] + (" with uncommitted changes" if git["dirty"] else "")
    minutes, seconds = divmod(round(origin["seconds"]), 60)
    entries = [
        ("Command", f"<code>{escape(origin['command'])}</code>"),
        ("Commit", f"<code>{escape(commit)}</code>" if git else escape(commit)),
        ("Versions", escape(", ".join(f"{name} {version or '(not installed)'}" for name, version in origin["versions"].items()))),
        ("Device", escape(origin["device"])),
        ("Time taken", f"{minutes} min {seconds} s" if minutes else f"{origin['seconds']:.3g} s"),
        ("Seeds", ", ".join(map(str, origin["seeds"]))),
        ("Date", escape(origin["date"])),
    ]
    data = origin["data"]
    entries += [("Data", escape(data))] if isinstance(data, str) else [(f"Data: {key}", escape(str(value))) for key, value in _flat(data)]
    return "<dl>\n" + "\n".join(f"<dt>{escape(_plain(term))}</dt><dd>{text}</dd>" for term, text in entries) + "\n</dl>"


def _settings(report: Mapping) -> str:
    rows = [[escape(_plain(key)), escape(str(value))] for key, value in _flat(report.get("settings", {}))]
    if not rows:
        return ""
    return f"<details><summary>Settings</summary>{table(['Setting', 'Value'], rows, 'Settings', text_columns=(1,))}</details>"


def _files(links: Sequence[tuple[str, str]]) -> str:
    own = [("The numbers", "report.json"), ("The table as Markdown", "table.md")]
    items = "".join(f'<li><a href="{escape(address)}">{escape(words)}</a></li>' for words, address in [*own, *links])
    return f"<h3>Files</h3>\n<ul>{items}</ul>"
