"""A report's folder: numbers, table and a page that stands by itself."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest
from reports import made_up_report

from aia_lib import ledger, plots
from aia_lib.machine.files import UserError
from aia_lib.report.page import table_file, write_report


class Page(HTMLParser):
    """The page's elements, with a check that every one is closed."""

    VOID = {"meta", "img", "br", "link", "hr"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.words = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words += data

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]


FIGURES = {"regimes": ("Both regimes", plots.regimes(made_up_report()), "The line's length & what it <means>")}


def test_folder_holds_numbers_table_and_page(tmp_path: Path) -> None:
    report = made_up_report()
    index = write_report(report, tmp_path, FIGURES, links=[("Weights & all", "checkpoints/aia.safetensors")])
    assert index == tmp_path / "index.html"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figures", "index.html", "report.json", "table.md"]
    assert ledger.read(tmp_path / "report.json") == report
    table = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert table.startswith(ledger.table(report, paper="celeba")) and ledger.TABLE_NOTE in table

    page = Page(index.read_text(encoding="utf-8"))
    assert "what it <means>" in page.words and "Weights & all" in page.words
    (image,) = page.all("img")
    assert image["src"] == "figures/regimes.png" and image["alt"] == FIGURES["regimes"][1].alt
    assert image["width"] == "960" and int(image["height"]) > 300  # 9.6 inches, whatever the file's resolution
    for name, method in report["methods"].items():
        assert name in page.words and f"{method['retrained']['leak_auc']:.3f}" in page.words
    for words in ("Paper regime", "Retrained regime", "gender as labelled in the data set", "lower bound", "paper: 65.0 %", "25 min 12 s"):
        assert words in page.words
    assert "gender only verification accuracy" in page.words and "there is no decoder" in page.words
    for value in (report["provenance"]["command"], report["provenance"]["git"]["commit"], "scikit-learn 1.5.0", "cpu (x86_64, 2 cores)"):
        assert value in page.words
    assert len(page.all("tr")) > 4 * 3 + 8  # both regimes, the attackers, the seeds


def test_page_needs_no_network_and_no_script(tmp_path: Path) -> None:
    text = write_report(made_up_report(), tmp_path, FIGURES).read_text(encoding="utf-8")
    page = Page(text)
    assert not page.all("script") and not page.all("link") and "@import" not in text and "url(" not in text
    addresses = [a[key] for _, a in page.tags for key in ("src", "href") if key in a]
    assert addresses and all("//" not in address and (tmp_path / address).is_file() for address in addresses)
    assert page.all("html") == [{"lang": "en"}]
    assert any(meta.get("name") == "viewport" for meta in page.all("meta"))
    assert "prefers-color-scheme: dark" in text
    assert len(page.all("table")) == sum(div.get("class") == "scroll" for div in page.all("div"))  # none can widen the page


def test_without_paper_regime_original_figures_or_settings(tmp_path: Path) -> None:
    report = made_up_report()
    report["methods"] = {"<mine>": {**report["methods"]["AIA"], "paper": None, "controls": None, "notes": []}}
    report["provenance"].update(data="my faces", git=None, seconds=3.21, seeds=[0, 1, 2])
    del report["settings"]
    page = Page(write_report(report, tmp_path, {}).read_text(encoding="utf-8"))
    assert "<mine>" in page.words and "no paper regime" in page.words and "not run from a checkout" in page.words
    assert (
        "Leak removed ↑" not in page.words.replace("\xa0", " ")
        and "Controls" not in page.words
        and "left out" not in page.words
        and "Pictures" not in page.words
    )
    assert "paper: " not in page.words and "(the paper" not in table_file(report)


def test_a_broken_report_is_refused(tmp_path: Path) -> None:
    report = made_up_report()
    report["methods"]["AIA"]["retrained"]["eer"] = float("nan")
    with pytest.raises(UserError, match=r"methods\.AIA\.retrained: eer is nan"):
        write_report(report, tmp_path, {})
    assert not list(tmp_path.iterdir())


def test_a_paper_regime_of_one_half_only(tmp_path: Path) -> None:
    """An audit may be given the co-trained adversary without a Siamese network, or the other way round."""
    report = made_up_report()
    for name, side in (("AIA", "privacy"), ("Random", "utility")):
        entry = report["methods"][name]
        entry["paper"] = {key: value for key, value in entry["paper"].items() if key.startswith(side)}
    page = Page(write_report(report, tmp_path, {}).read_text(encoding="utf-8"))
    assert "0.631 → 0.917" in page.words and "Random: 0.872" in page.words
    assert "60.2 % (65.0 %) | – (78.6 %)" in table_file(report)
    assert "Random: 0.87 for the worst" in plots.regimes(report).alt
