"""The results page shows what the ledger holds now."""

import copy

import nbformat
import pytest

import chapters
import results_page
from aia_lib import ledger


@pytest.fixture(scope="module")
def committed():
    return nbformat.read(results_page.PAGE, as_version=4)


def test_the_committed_outputs_are_those_of_a_fresh_execution(committed):
    fresh = copy.deepcopy(committed)
    for cell in chapters.code(fresh):
        cell.outputs = []
    assert chapters.execute(fresh, folder=results_page.PAGE.parent) < 60
    shown, now = list(results_page.page_outputs(committed)), list(results_page.page_outputs(fresh))
    assert shown == now, "run `make sync`"
    assert len(now) >= 30 and sum("| --- |" in text or "| ---: |" in text for text in now) >= 25
    assert [text for text in now if text.startswith("drawn from")] == [
        results_page.source(name) for name in ("celeba10k-64", "celeba10k-32")
    ]


def test_the_site_executes_the_page_and_pictures_have_words(committed):
    assert committed.metadata.mystnb.execution_mode == "force"
    drawn = [cell for cell in chapters.code(committed) if "picture(" in cell.source]
    assert len(drawn) == 2
    for cell in drawn:
        assert len(cell.metadata.mystnb.image.alt) > 80 and cell.metadata.mystnb.figure.caption


def test_the_table_comes_before_what_it_was_made_with(committed):
    assert sum(cell.source.startswith("# ") for cell in committed.cells if cell.cell_type == "markdown") == 1
    order = [cell.source for cell in chapters.code(committed)]
    for name, run in (("celeba", "celeba10k-64"), ("hardened", "celeba10k-32"), ("embedded", "embedded-64")):
        table = next(index for index, source in enumerate(order) if source.startswith(f"page.regimes_table({name}"))
        assert table < order.index(f'page.facts("{run}")')


def test_tables_change_with_the_record_and_keep_numbers_together():
    report = copy.deepcopy(ledger.load("celeba10k-64"))
    before = results_page.attackers_table(report).data
    report["methods"]["AIA"]["retrained"]["attackers"]["mlp"] = 0.5
    after = results_page.attackers_table(report).data
    assert after != before and "| `mlp` | 0.967 | 0.612 | 0.961 | 0.500 |" in after
    printed = results_page.set_for_print("| -6 % | 0.015 [-0.011, 0.041] | 9.6 % [6.2 %, 13.2 %] | `--size 64` | celeba10k-64 |")
    assert printed.replace("\N{NO-BREAK SPACE}", "~") == (
        "| −6~% | 0.015 [−0.011,~0.041] | 9.6~% [6.2~%,~13.2~%] | `--size 64` | celeba10k-64 |"
    )


def test_a_difference_is_claimed_only_where_a_paired_one_was_recorded():
    report = copy.deepcopy(ledger.load("celeba10k-64"))
    report.pop("differences", None)
    assert results_page.reading(report).data.count("(no paired difference was recorded)") == 3
    leak = {"before": 0.943, "after": 0.937, "change": -0.006, "change_ci": [-0.009, -0.003], "supported": True}
    report["differences"] = {"AIA": {"Original": {"leak_auc": leak}}}
    assert (
        "from 0.943 to 0.937 (strongest of all; paired difference −0.006 [−0.009,\N{NO-BREAK SPACE}−0.003], supported)"
        in results_page.reading(report).data
    )
