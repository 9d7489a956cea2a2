"""Figures in prose, quoted by key.

A measured number in a page, a chapter or the README is followed by a comment that says where it is recorded; readers do not see it:

    the adversary's accuracy falls to 85.0<!-- celeba10k-64 · AIA · paper.privacy_accuracy · % --> %

In a formula, where no comment can stand, the keys of its numbers follow it in their order: ``$0.42 + 0.58$<!-- KEY; KEY -->``.
`tools/sync.py` writes the numbers, with the digits that are shown; tests/book/test_quotes.py finds those without a key.

A key is ``RECORD · STEP · ... [· %]``. RECORD is a file below results/ without its ending, `paper` (the paper's Table 1) or `stated`
(`STATED` below). STEPs lead from a run's methods, or from the figures of another record, to a number; dots join several into one. A key
that begins with provenance, settings or another part of the record starts there. The last step may be one of `DERIVED`, computed of the
method before it. ``A minus B`` and ``A over B`` are computed, "over" last; ``%`` multiplies by 100. A number with its interval,
``0.961 [0.953, 0.968]``, has one key; the interval is at the key with `_ci` behind it. The key `example` marks a number that was made up
to explain something, and is compared with nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from aia_lib import ledger
from aia_lib.machine.files import UserError

ROOT = Path(__file__).resolve().parents[1]

STATED = {
    "labelled female": (0.583, "share of CelebA's images that are labelled female; of the labels that its authors publish"),
    "labelled male": (0.42, "share of CelebA's images that are labelled male, to two digits"),
    "chance": (0.5, "accuracy of a coin"),
    "guessing, CelebA": (0.583**2 + 0.417**2, "accuracy of answers drawn at random, each label as often as CelebA's labels have it"),
    "same label, CelebA": (0.5 + 0.42 * 0.58, "accuracy of “same label, same person” by its formula, free impostors, for p = 0.42"),
    "same label, balanced": (0.75, "accuracy of “same label, same person” by its formula, free impostors, for p = 0.5"),
    "numbers per pixel": (0.75, "of g: 12 channels of a map of a quarter of the height and of the width, by construction"),
    "log 2": (0.6931471805599453, "nats of a fair coin"),
    "2.5 % quantile": (0.025, "lower end of a 95 % interval"),
    "97.5 % quantile": (0.975, "upper end of a 95 % interval"),
    "DeepObfuscator": (0.9736, "accuracy of an attacker on gender before protection, as its authors report it; cited beside the number"),
    "largest area": (0.25, "hypervolume of a leak of 0.5 and a utility of 1, by its definition"),
    "match width": (0.15, "MATCH_WIDTH of aia_lib.defences.compact, a setting"),
    "hidden": (0.55, "Limits.hidden of aia_lib.audit.claims, a setting: up to this AUC a card calls an attribute hidden"),
    "smallest FAR": (0.001, "a false accept rate at which tables here are read"),
}
"""Numbers that are stated, not measured: name -> value and what it is."""


def _paper(rows: Mapping, method: str, key: str) -> float:
    """The share of the distance from chance that `method` of the paper's Table 1 lost against Original."""
    return (rows["Original"][key] - rows[method][key]) / (rows["Original"][key] - 0.5)


DERIVED: dict[str, Callable[[Mapping, str], float]] = {
    "leak_removed": lambda of, name: ledger.leak_removed(of, name) if "methods" in of else _paper(of, name, "privacy_accuracy"),
    "utility_kept": lambda of, name: ledger.utility_kept(of, name),
    "utility_paid": lambda of, name: _paper(of, name, "utility_accuracy"),
}
"""Last steps that are computed, from a recorded run or from rows of the paper's table, of the method that the step before names."""

NUMBER = r"[−-]?\d[\d,]*(?:\.\d+)?"
QUOTE = re.compile(rf"(?P<number>{NUMBER})(?P<interval>\s\[{NUMBER},\s{NUMBER}\])?<!-- (?P<key>example|[^<>;]+ · [^<>;]+) -->")
FORMULA = re.compile(r"(?P<formula>\$\$(?:(?!\$\$).)+\$\$\n|\$[^$\n]+\$)<!-- (?P<keys>[^<>]+) -->", re.DOTALL)
MEASURED = re.compile(r"(?<![\w.§])(?!3\.1[0-3]\b)(?:\d+\.\d{2,}(?![\d.]*\w)|\d+\.\d+(?=\s*\\?,?\s*\\?%))")
"""What looks measured: two decimals or more, or a percentage with one; versions of Python are not meant."""


@cache
def _record(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _step(value: Any, step: str, key: str) -> Any:
    """`value[step]`, or, where it has no such entry, one dot-separated name after another."""
    for name in [step] if isinstance(value, dict) and step in value else step.split("."):
        try:
            value = value[int(name)] if isinstance(value, list) else value[name]
        except (KeyError, IndexError, TypeError, ValueError):
            has = f"; there is {', '.join(map(str, value))}" if isinstance(value, dict) else ""
            raise UserError(f"the key “{key}” leads nowhere at “{name}”{has}.") from None
    return value


def _look_up(key: str) -> float:
    record, *steps = (part.strip() for part in key.split("·"))
    if record == "stated":
        return float(_step({name: value for name, (value, _) in STATED.items()}, " · ".join(steps), key))
    if record == "paper":
        whole = inner = _step(ledger.PAPER_TABLE1, steps.pop(0), key)
    else:
        path = ledger.results_root() / f"{record}.json"
        if not path.is_file():
            raise UserError(f"the key “{key}” names no file below results/.")
        whole = _record(path)
        inner = whole["methods"] if "methods" in whole else whole.get("figures", whole)
    if steps[-1:] and steps[-1] in DERIVED and len(steps) > 1 and steps[-1] not in _step(inner, " · ".join(steps[:1]), key):
        return DERIVED[steps[-1]](whole, steps[0])
    value = whole if steps and steps[0].split(".")[0] in whole and steps[0].split(".")[0] not in inner else inner
    for step in steps:
        value = _step(value, step, key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UserError(f"the key “{key}” leads to {str(value)[:60]!r}, which is no number.")
    return float(value)


def number_at(key: str) -> float:
    """The number that a key names.

    Raises:
        UserError: a record, a step or a name that is not there, or something else than a number in the end.
    """
    bare = re.sub(r"\s*·\s*%$", "", key.strip())
    above, *below = (_difference(part) for part in bare.split(" over "))
    for value in below:
        above /= value
    return above * (100 if bare != key.strip() else 1)


def _difference(key: str) -> float:
    first, *rest = (_look_up(part) for part in key.split(" minus "))
    return first - sum(rest)


def as_written(number: str, key: str) -> str:
    """The number that `key` names, written with the digits, the commas and the kind of minus that `number` has."""
    if key == "example":
        return number
    text = f"{number_at(key):{',' if ',' in number else ''}.{len(number.partition('.')[2])}f}"
    return text if number.startswith("-") else text.replace("-", "−")


def _quote(match: re.Match) -> str:
    """A quoted number, and its interval where it shows one, as the record has them."""
    number, key, interval = match["number"], match["key"], match["interval"] or ""
    if interval:
        ends = iter((f"{key}_ci.0", f"{key}_ci.1"))
        interval = re.sub(NUMBER, lambda end: as_written(end[0], next(ends)), interval)
    return f"{as_written(number, key)}{interval}<!-- {key} -->"


def fill(text: str) -> str:
    """Markdown with every quoted number as its record has it; code blocks stay as they are.

    Raises:
        UserError: a key leads nowhere, or a formula has not as many keys as numbers that look measured.
    """

    def formula(match: re.Match) -> str:
        keys = iter([key.strip() for key in match["keys"].split(";")])
        if len(MEASURED.findall(match["formula"])) != match["keys"].count(";") + 1:
            raise UserError(f"the formula {match['formula']!r} needs a key for each number with two decimals.")
        written = MEASURED.sub(lambda number: as_written(number[0], next(keys)), match["formula"])
        return f"{written}<!-- {match['keys']} -->"

    parts = []
    for part, code in _parts(text):
        if not code:
            part = QUOTE.sub(_quote, FORMULA.sub(formula, part))
        parts.append(part)
    return "".join(parts)


def unquoted(text: str) -> list[str]:
    """The numbers of Markdown that look measured and have no key; those in code, links and parts that `sync` writes do not count."""
    text = re.sub(r"<!-- sync: (\w+) begin -->.*?<!-- sync: \1 end -->", "", text, flags=re.DOTALL)
    prose = "".join(part for part, code in _parts(text) if not code)
    prose = QUOTE.sub("", FORMULA.sub("", prose))
    return MEASURED.findall(re.sub(r"`[^`\n]+`|\]\([^)]*\)|https?://\S+", "", prose))


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    """The text in parts, each with whether it is code: what stands between fences that open no directive other than a code block."""
    open_fences: list[tuple[str, bool]] = []
    lines = []
    for line in text.splitlines(keepends=True):
        mark = re.match(r"\s*(`{3,}|~{3,})\s*(.*)$", line)
        inside = bool(open_fences) and open_fences[-1][1]
        if mark and open_fences and mark[1].startswith(open_fences[-1][0]) and not mark[2].strip():
            open_fences.pop()
        elif mark and not inside:
            inside = not re.match(r"\{(?!code)", mark[2])
            open_fences.append((mark[1], inside))
        lines.append((line, inside))
    for inside, group in groupby(lines, key=lambda pair: pair[1]):
        yield "".join(line for line, _ in group), inside


def pages() -> list[Path]:
    """All pages with prose: those of the book, the chapters, and the documents beside the code."""
    loose = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "results/README.md")]
    return [*loose, *sorted((ROOT / "book").rglob("*.md")), *sorted((ROOT / "book").glob("*.ipynb")), *chapters()]


def chapters() -> list[Path]:
    return sorted((ROOT / "notebooks").glob("*.ipynb"))


def prose(path: Path) -> Iterator[str]:
    """The Markdown of a page: the whole of it, or each Markdown cell of a notebook."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        yield text
    else:
        yield from ("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "markdown")
