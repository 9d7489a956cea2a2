"""Every figure that prose quotes is recorded: in the ledger, or in the paper's own table, or follows from it."""

import itertools
import json
import re
from pathlib import Path

import nbformat
import pytest

from aia_lib import ledger

ROOT = Path(__file__).parents[2]
PAGES = [*sorted((ROOT / "book").glob("*.md")), ROOT / "README.md", *sorted((ROOT / "notebooks").glob("*.ipynb"))]

STATED = {
    "58.3": "share of CelebA's images labelled female",
    "52.12": "the paper's Table 1, CelebA, Random",
    "97.5": "upper end of a 95 % interval",
    "2.5": "lower end of a 95 % interval",
    "0.75": "numbers of g for each pixel (3/4), and half plus a quarter in formulas",
    "0.69": "log 2",
    "97.36": "per cent, reported by DeepObfuscator, which is cited beside it",
    "0.05": "a width that one may expect, in words",
}
"""Numbers that are stated, not measured, and what they are."""


def prose(path):
    """The words of a page without code, formulas, addresses and the parts that sync.py writes."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "\n\n".join(cell.source for cell in nbformat.reads(text, as_version=4).cells if cell.cell_type == "markdown")
    text = re.sub(r"<!-- sync: (\w+) begin -->.*?<!-- sync: \1 end -->", "", text, flags=re.DOTALL)
    text = re.sub(r"^(`{3,})(?!`*\{).*?^\1", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]+`|\]\([^)]*\)|https?://\S+", "", text)


def figures(text):
    """Numbers that look measured: two decimals or more, or a percentage with one."""
    found = re.findall(r"(?<![\w.§])(\d+\.\d{2,})(?![\d.]*\w)|(?<![\w.])(\d+\.\d+)(?=\s*\\?,?\s*\\?%)", text)
    return [a or b for a, b in found if (a or b) not in ("3.10", "3.11", "3.12", "3.13")]


def numbers(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield float(value)


@pytest.fixture(scope="module")
def recorded():
    """All numbers of results/, the paper's table, and what is computed of its rows: differences, leak removed, utility paid."""
    known = {number for path in (ROOT / "results").rglob("*.json") for number in numbers(json.loads(path.read_text(encoding="utf-8")))}
    for rows in ledger.PAPER_TABLE1.values():
        known.update(numbers(rows))
        for key in ("privacy_accuracy", "utility_accuracy"):
            values = [row[key] for row in rows.values()]
            known.update(abs(a - b) for a, b in itertools.permutations(values, 2))
            known.update(value - 0.5 for value in values)
            known.update(abs(rows["Original"][key] - value) / (rows["Original"][key] - 0.5) for value in values)
        known.update(value - 0.583 for value in numbers(rows))  # beyond the majority class
    return known


def is_recorded(text, known):
    value, digits = float(text), len(text.split(".")[1])
    return any(abs(round(scale * number, digits) - value) < 1e-9 for number in known for scale in (1, 100))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_quoted_figures_are_recorded(path, recorded):
    assert [text for text in figures(prose(path)) if text not in STATED and not is_recorded(text, recorded)] == []


def test_the_test_sees_a_figure_that_is_not_recorded(recorded):
    text = "Its leak is 0.12345, which is 98.7654 % of nothing; see §5.25, Python 3.10, `0.777` and 78.01 %."
    found = figures(re.sub(r"`[^`]+`", "", text))
    assert found == ["0.12345", "98.7654", "78.01"]
    assert [is_recorded(number, recorded) for number in found] == [False, False, True]
