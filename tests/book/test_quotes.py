"""Every figure that prose quotes has a key, and shows what the record has there."""

import json
import re

import pytest

import quotes
from aia_lib import ledger
from aia_lib.machine.files import UserError

PAGES = quotes.pages()
RIGHT = "an AUC of 0.961<!-- celeba10k-64 · AIA · retrained.leak_auc -->"
MADE_UP = {"book/how_to_use.md": 3, "notebooks/07_tradeoff_sweep.ipynb": 8, "notebooks/10_closing_the_gap.ipynb": 3}
"""Pages with numbers that were made up as examples, and how many."""


def keys(text):
    """All keys that Markdown quotes by."""
    found = [match["key"] for match in quotes.QUOTE.finditer(text)]
    return found + [key.strip() for match in quotes.FORMULA.finditer(text) for key in match["keys"].split(";")]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_quoted_figures_have_a_key_and_are_what_the_record_says(path):
    for text in quotes.prose(path):
        assert quotes.unquoted(text) == []
        assert quotes.fill(text) == text, "run `make sync`"


def test_quotes_are_found():
    """The tests above would pass on pages in which nothing is recognised as a quote."""
    used = {path.relative_to(quotes.ROOT).as_posix(): [key for text in quotes.prose(path) for key in keys(text)] for path in PAGES}
    assert sum(map(len, used.values())) >= 160
    assert len([key for key in used["book/reading_the_paper.md"] if key.startswith("paper · ")]) >= 40
    assert {name: of.count("example") for name, of in used.items() if "example" in of} == MADE_UP
    named = {key.removesuffix(" · %") for of in used.values() for key in of}
    assert {f"stated · {name}" for name in quotes.STATED} <= {part for key in named for part in re.split(" minus | over ", key)}
    comments = sum(len(re.findall(r"<!-- [^>]+ · [^>]+ -->", text)) for path in PAGES for text in quotes.prose(path))
    blocks = sum(len(quotes.QUOTE.findall(text)) + len(quotes.FORMULA.findall(text)) for path in PAGES for text in quotes.prose(path))
    assert blocks - sum(MADE_UP.values()) == comments, "a key stands where it is not read, not right behind its number"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (RIGHT, "0.961"),
        ("96.1<!-- celeba10k-64 · AIA · retrained.leak_auc · % --> %", "96.1"),
        ("0.961 [0.953, 0.968]<!-- celeba10k-64 · AIA · retrained.leak_auc -->", "0.961 [0.953, 0.968]"),
        ("46.6<!-- paper · celeba · AIA · leak_removed · % -->", "46.6"),
        ("10,000<!-- celeba10k-64 · provenance.data.images -->", "10,000"),
        ("0.870<!-- chapters/04 · Siamese network, free impostors minus chapters/04 · LDA, same impostors -->", "0.009"),
        ("−7.9<!-- celeba10k-64 · AIA\\T · paper.privacy_accuracy minus celeba10k-64 · Original · paper.privacy_accuracy · % -->", "−7.9"),
        ("2,171<!-- benchmarks/ablation-celeba · fewer_people.0.people -->", "2,171"),
        ("$0.42 + 0.58$<!-- stated · labelled male; stated · labelled female -->", "$0.42 + 0.58$"),
    ],
)
def test_every_form_of_a_quote_is_written_from_the_record(text, shown):
    assert quotes.fill(text).split("<!--")[0].removeprefix("an AUC of ") == shown
    assert quotes.unquoted(text) == [], "quoted"
    changed = re.sub(r"\d", lambda digit: str(9 - int(digit[0])), text, count=1)
    assert quotes.fill(changed) == quotes.fill(text) != changed


def test_a_wrong_number_a_missing_key_and_unknown_keys_fail():
    wrong = RIGHT.replace("0.961", "0.916")
    assert quotes.fill(wrong) == RIGHT != wrong
    assert quotes.unquoted(RIGHT.split("<!--")[0]) == ["0.961"]
    assert quotes.unquoted("```{margin}\nIt is 0.1234.\n```\nIt is 0.4321.\n\n```python\nx = 0.777\n```\nIt is 98.7 %.") == [
        "0.1234",
        "0.4321",
        "98.7",
    ]
    assert quotes.unquoted("See §5.25, Python 3.10, `0.777`, [a](b-0.55.md) and version 1.25.3.") == []
    for key in ("nowhere · AIA · x", "celeba10k-64 · AIB · retrained.leak_auc", "celeba10k-64 · AIA · retrained.leak", "stated · luck"):
        with pytest.raises(UserError, match=f"“{key}”"):
            quotes.fill(f"0.50<!-- {key} -->")
    with pytest.raises(UserError, match="no number"):
        quotes.fill("0.50<!-- celeba10k-64 · AIA · retrained.worst_attacker -->")
    with pytest.raises(UserError, match="a key for each number"):
        quotes.fill("$0.42 + 0.58$<!-- stated · labelled male -->")


def test_formulas_of_keys_are_those_of_the_glossary():
    rows, report = ledger.PAPER_TABLE1["celeba"], ledger.load("celeba10k-64")
    lost = rows["Original"]["utility_accuracy"] - rows["AIA"]["utility_accuracy"]
    assert quotes.number_at("paper · celeba · AIA · utility_paid") == pytest.approx(lost / (rows["Original"]["utility_accuracy"] - 0.5))
    assert quotes.number_at("celeba10k-64 · AIA · leak_removed · %") == 100 * ledger.leak_removed(report, "AIA")
    recorded = json.loads((ledger.results_root() / "chapters" / "05.json").read_text(encoding="utf-8"))["figures"]
    for name, value in recorded.items():  # names with commas and dots are names
        assert quotes.number_at(f"chapters/05 · {name}") == value


def test_prose_does_not_argue_with_intervals_that_overlap():
    """All methods are tested on the same people: who speaks of overlap says that a paired difference decides."""
    texts = [text for path in PAGES for text in quotes.prose(path) if re.search(r"intervals?\b[^.]*\boverlap", text)]
    assert len(texts) >= 3 and all("paired" in text for text in texts)
