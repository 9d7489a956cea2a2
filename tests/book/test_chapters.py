"""`make book`: the chapters are executed, their figures held against the recorded ones, and nothing is done twice."""

import json
import os
import re
from pathlib import Path

import nbformat
import pytest

import chapters
from aia_lib import ledger
from aia_lib.checks import FIGURES
from aia_lib.machine.files import UserError

ROOT = Path(__file__).parents[2]

CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
COMPARE = 'from aia_lib.checks import compare\ncompare("{}", {{"leak": {}}}, tolerance=0.05)'


@pytest.fixture
def book(tmp_path, monkeypatch):
    """A book of its own: `book(name, *cells)` adds a chapter, `book.record(chapter, **figures)` a record."""
    folders = {name: tmp_path / name for name in ("notebooks", "executed", "results")}
    for folder in folders.values():
        folder.mkdir()
    monkeypatch.setenv("AIA_PROFILE", "book")
    monkeypatch.setattr(chapters, "NOTEBOOKS", folders["notebooks"])
    monkeypatch.setattr(chapters, "EXECUTED", folders["executed"])
    monkeypatch.setattr(ledger, "results_root", lambda: folders["results"])

    def add(name, *cells):
        made = [nbformat.v4.new_code_cell(source) for source in cells]
        nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title"), *made]), folders["notebooks"] / name)

    def record(chapter, profile="book", **figures):
        (folders["results"] / "chapters").mkdir(exist_ok=True)
        text = json.dumps({"provenance": {}, "profile": profile, "figures": figures})
        (folders["results"] / "chapters" / f"{chapter}.json").write_text(text)

    add.record, add.folders = record, folders
    return add


def outputs(path):
    return [output for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code" for output in cell.outputs]


def test_figures_within_the_tolerance_pass_and_others_are_named(book, capsys):
    book("00_near.ipynb", "import os, sys\nprint(os.listdir('.'), file=sys.stderr)\nprint(os.listdir('.'))", COMPARE.format("00", 0.84))
    book("01_far.ipynb", COMPARE.format("01", 0.7))
    book.record("00", leak=0.80)
    book.record("01", leak=0.80)
    assert chapters.main(["run"]) == 1
    said = capsys.readouterr()
    assert "00_near" in said.out and "1 figures agree" in said.out
    assert "01_far failed" in said.err and "“leak” is 0.700, recorded 0.800; 0.05 is allowed" in said.err and "00_near" not in said.err
    first = outputs(book.folders["executed"] / "00_near.ipynb")
    assert [output.get("name") for output in first] == ["stdout", None], "what went to stderr is not shown"
    assert first[0].text == "[]\n", "a chapter starts in an empty folder"
    assert "0.840" in first[1].data["text/plain"] and "0.800" in first[1].data["text/plain"]
    assert outputs(book.folders["notebooks"] / "00_near.ipynb") == [], "without --write the committed chapters stay as they are"


def test_two_chapters_at_a_time_share_the_cores_and_fail_one_by_one(book, capsys):
    for number in range(3):
        book(
            f"0{number}_part.ipynb", "import os\nprint(os.environ['OMP_NUM_THREADS'], os.listdir('.'))", *(["1 / 0"] if number == 1 else [])
        )
    assert chapters.main(["run", "--jobs", "2"]) == 1
    said = capsys.readouterr()
    assert "01_part failed" in said.err and "ZeroDivisionError" in said.err and "02_part" not in said.err
    for name in ("00_part", "02_part"):
        (shown,) = outputs(book.folders["executed"] / f"{name}.ipynb")
        assert shown.text == f"{max(1, os.cpu_count() // 2)} []\n", "a share of the cores, and a folder of its own"
        assert name in said.out
    assert not (book.folders["executed"] / "01_part.ipynb").exists()


@pytest.mark.parametrize("before", [None, "somewhere else"])
def test_a_chapter_runs_with_this_library_and_the_environment_of_the_caller(book, monkeypatch, before):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if before is not None:
        monkeypatch.setenv("PYTHONPATH", before)
    book(
        "00_where.ipynb",
        "import os\nimport aia_lib\nprint(aia_lib.__file__, os.environ['PYTHONPATH'], os.environ['AIA_PROFILE'], sep='\\n')",
    )
    assert chapters.main(["run"]) == 0
    (shown,) = outputs(book.folders["executed"] / "00_where.ipynb")
    path = str(ROOT) if before is None else os.pathsep.join([str(ROOT), before])
    assert shown.text.splitlines() == [str(ROOT / "aia_lib" / "__init__.py"), path, "book"]
    assert os.environ.get("PYTHONPATH") == before


def test_a_failing_cell_is_reported_and_the_rest_goes_on(book, capsys):
    book("00_broken.ipynb", "x = 1", "raise ValueError('no such luck')")
    book("01_fine.ipynb", "print(2)")
    assert chapters.main(["run"]) == 1
    said = capsys.readouterr()
    assert "00_broken failed" in said.err and "no such luck" in said.err
    assert outputs(book.folders["executed"] / "01_fine.ipynb")[0].text == "2\n"
    assert not (book.folders["executed"] / "00_broken.ipynb").exists()


def test_what_has_not_changed_is_not_executed_again(book, tmp_path, capsys):
    count = tmp_path / "count"
    book("00_once.ipynb", f"with open({str(count)!r}, 'a') as file:\n    _ = file.write('x')")
    assert chapters.main(["run"]) == 0 and chapters.main(["run"]) == 0
    assert count.read_text() == "x" and "Nothing had to be executed" in capsys.readouterr().out
    book("00_once.ipynb", f"with open({str(count)!r}, 'a') as file:\n    _ = file.write('y')")
    assert chapters.main(["run"]) == 0
    assert count.read_text() == "xy"


def test_writing_records_figures_with_their_origin(book):
    book("00_new.ipynb", COMPARE.format("00", 0.84))
    assert chapters.main(["run", "--write", "00"]) == 0
    record = ledger.side_record("chapters", "00", book.folders["results"])
    assert record["figures"] == {"leak": 0.84} and record["profile"] == "book"
    assert record["provenance"]["command"] == "python tools/chapters.py run --write 00" and record["provenance"]["versions"]["torch"]
    shown = outputs(book.folders["notebooks"] / "00_new.ipynb")[0].data
    assert shown[FIGURES]["figures"] == {"leak": 0.84} and shown["text/plain"].count("0.840") == 2


def test_a_chapter_without_a_record_says_how_to_make_one(book, capsys):
    book("00_new.ipynb", COMPARE.format("00", 0.84))
    assert chapters.main(["run"]) == 1
    assert "python tools/chapters.py run --write 00" in capsys.readouterr().err


def test_other_profiles_are_not_compared(book, monkeypatch):
    monkeypatch.setenv("AIA_PROFILE", "fast")
    book("00_far.ipynb", COMPARE.format("00", 0.1))
    book.record("00", leak=0.9)
    assert chapters.main(["run"]) == 0
    assert "nothing is compared" in outputs(book.folders["executed"] / "00_far.ipynb")[0].data["text/plain"]


def test_an_unknown_chapter_is_named(book):
    book("00_new.ipynb", "1")
    with pytest.raises(UserError, match="no chapter '7'.*00_new"):
        chapters.main(["run", "7"])


def test_the_site_needs_executed_chapters(book):
    book("00_new.ipynb", "1")
    with pytest.raises(UserError, match="Not executed yet: 00_new"):
        chapters.main(["site"])


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_the_committed_chapters_show_the_recorded_figures(path):
    shown = chapters.figures(nbformat.read(path, as_version=4))
    assert shown is not None, "the chapter compares no figures"
    left, record = shown[FIGURES], ledger.side_record("chapters", path.stem[:2], ROOT / "results")
    assert left["chapter"] == path.stem[:2] and len(left["figures"]) >= 4
    assert left["figures"] == record["figures"] and left["profile"] == record["profile"] == "book"
    assert record["provenance"]["device"] and record["provenance"]["seconds"] > 0
    text = shown["text/plain"]
    assert all(f"{value:8.3f}" in text for value in left["figures"].values()) and "differs" not in text


WORDS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen".split()
NUMBERS = {"half a": 0.5, "a": 1} | {word: number for number, word in enumerate(WORDS)}


def stated(text):
    """("about" or "less than", seconds) of a text with "it runs in about two and a half minutes on two CPU cores"; None without."""
    found = re.search(r"it runs in (about|less than) ([\w. ]+?) (second|minute)s? on two CPU cores", " ".join(text.split()))
    if not found:
        return None
    words, halves = re.subn(" and a half$", "", found[2])
    number = NUMBERS[words] if words in NUMBERS else float(words)
    return found[1], (number + halves / 2) * (60 if found[3] == "minute" else 1)


def test_what_a_header_states_is_understood():
    assert stated("it runs in about two and\na half minutes on two CPU cores (on a GPU") == ("about", 150)
    assert stated("it runs in less than half a minute on two CPU cores.") == ("less than", 30)
    assert stated("it runs in about 40 seconds on two CPU cores") == ("about", 40) and stated("it takes two minutes") is None


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_the_stated_time_is_the_recorded_one(path):
    """To half a minute: headers round to that, and another run of the same machine differs by as much."""
    told = stated(" ".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"))
    assert told, "the header does not say how long the chapter runs on two CPU cores"
    how, seconds = told
    taken = ledger.side_record("chapters", path.stem[:2], ROOT / "results")["provenance"]["seconds"]
    assert taken < seconds if how == "less than" else abs(taken - seconds) <= 30, f"the header says {seconds:.0f} s, it took {taken:.0f} s"
