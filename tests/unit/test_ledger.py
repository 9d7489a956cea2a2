"""The ledger keeps what it is given, refuses what is not a report, tells two runs apart and names no machine."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from reports import made_up_report

from aia_lib import ledger
from aia_lib.machine.files import UserError


def test_record_and_load_give_back_the_report(tmp_path: Path) -> None:
    report = made_up_report()
    path = ledger.record(report, "celeba-64", tmp_path)
    assert path == tmp_path / "celeba-64.json"
    assert ledger.load("celeba-64", tmp_path) == report == made_up_report()  # and the caller's dict is untouched
    ledger.record(report, "another", tmp_path)
    assert ledger.names(tmp_path) == ["another", "celeba-64"]
    with pytest.raises(UserError, match="another, celeba-64"):
        ledger.load("missing", tmp_path)
    for bad in ("../x", "", "a b", ".hidden", "a/b"):
        with pytest.raises(UserError, match="named by letters"):
            ledger.record(report, bad, tmp_path)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "torn.json").write_text('{"provenance": ')
    (tmp_path / "other.json").write_text('{"a": 1}')
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    for name, words in (("torn", "not valid JSON"), ("other", "provenance is missing"), ("bytes", "not valid JSON")):
        with pytest.raises(UserError, match=f"{name}.json: .*{words}"):
            ledger.load(name, tmp_path)
    with pytest.raises(UserError, match="no such file"):
        ledger.read(tmp_path / "none.json")


def test_results_lie_in_the_checkout_or_in_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Path(ledger.__file__).parent
    assert ledger.results_root() == package.parent / "results"
    installed = tmp_path / "site-packages" / "aia_lib"
    installed.mkdir(parents=True)
    monkeypatch.setattr(ledger, "__file__", str(installed / "ledger.py"))
    assert ledger.results_root() == installed / "results"
    (installed.parent / "pyproject.toml").write_text("")
    assert ledger.results_root() == installed.parent / "results"


def test_every_recorded_run_is_a_report() -> None:
    for name in ledger.names():
        ledger.load(name)


# The format -----------------------------------------------------------------------------------------------------------


def change(report: dict, path: str, value: object) -> dict:
    """Set the entry at `path` ("provenance/seconds"), or delete it where `value` is ..."""
    *folders, last = path.split("/")
    target = report
    for key in folders:
        target = target[int(key) if isinstance(target, list) else key]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return report


BROKEN = [
    ("provenance", ..., "provenance is missing"),
    ("methods", ..., "methods is missing"),
    ("methods", {}, "methods is empty"),
    ("settings", [1], "settings must be an object"),
    *((f"provenance/{key}", ..., f"provenance.{key} is missing") for key in ledger.PROVENANCE),
    *((f"provenance/versions/{key}", ..., f"provenance.versions.{key} is missing") for key in ledger.VERSIONS),
    ("provenance/versions/torch", 2, "provenance.versions.torch must be a text"),
    ("provenance/command", " ", "provenance.command must be a text"),
    ("provenance/git", "abc", "provenance.git must be an object"),
    ("provenance/git/commit", "not hex", "provenance.git.commit"),
    ("provenance/git/dirty", 1, "provenance.git.dirty"),
    ("provenance/seconds", -1, "provenance.seconds"),
    ("provenance/seconds", math.nan, "provenance.seconds"),
    ("provenance/seeds", [], "provenance.seeds"),
    ("provenance/seeds", [0, 1.5], "provenance.seeds"),
    ("provenance/date", "yesterday", "provenance.date"),
    ("provenance/date", "2030-01-31T12:00:00", "provenance.date"),
    ("provenance/data", "", "provenance.data"),
    ("provenance/data/root", "/home/someone/celeba", "provenance.data.root holds an absolute path"),
    ("methods/AIA", 3, "methods.AIA must be an object"),
    ("methods/AIA/paper", ..., "methods.AIA.paper is missing"),
    ("methods/AIA/paper", {}, "methods.AIA.paper.privacy_accuracy is missing"),
    ("methods/AIA/seeds", [], "methods.AIA.seeds"),
    ("methods/AIA/seeds/0/seed", 99, r"methods.AIA.seeds\[0\].seed is 99"),
    ("methods/AIA/seeds/1/retrained/leak_auc", 2.0, r"methods.AIA.seeds\[1\].retrained.leak_auc"),
    *((f"methods/AIA/paper/{key}", ..., f"methods.AIA.paper.{key} is missing") for key in ledger.PAPER_FIGURES),
    *((f"methods/AIA/retrained/{key}", ..., f"methods.AIA.retrained.{key} is missing") for key in ledger.RETRAINED_FIGURES),
    ("methods/AIA/retrained/leak_auc", 1.2, "methods.AIA.retrained.leak_auc must be a number between 0 and 1, not 1.2"),
    ("methods/AIA/retrained/leak_auc", math.nan, "methods.AIA.retrained.leak_auc"),
    ("methods/AIA/retrained/eer", True, "methods.AIA.retrained.eer"),
    ("methods/AIA/retrained/eer", "0.2", "methods.AIA.retrained.eer"),
    ("methods/AIA/retrained/leak_auc_ci", [0.9], "interval"),
    ("methods/AIA/retrained/leak_auc_ci", [0.9, 0.8], "0.9 is above 0.8"),
    ("methods/AIA/retrained/attackers/cnn", None, "methods.AIA.retrained.attackers.cnn"),
    ("methods/AIA/retrained/worst_attacker", "oracle", "none of its attackers"),
]


@pytest.mark.parametrize(("path", "value", "words"), BROKEN, ids=[f"{path}={value!r}"[:60] for path, value, _ in BROKEN])
def test_check_names_the_broken_key(path: str, value: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        ledger.check(change(made_up_report(), path, value))


def test_check_takes_what_is_right_and_more() -> None:
    report = made_up_report()
    report["claims"] = {"anything": [1, 2]}
    report["methods"]["AIA"]["retrained"]["mdl_bits"] = 1234.5
    report["methods"]["AIA"]["paper"] = None
    for entry in report["methods"]["AIA"]["seeds"]:
        entry["paper"] = None
    random = report["methods"]["Random"]["paper"]
    report["methods"]["Random"]["paper"] = {key: random[key] for key in ("utility_accuracy", "utility_auc")}
    report["provenance"]["git"] = None
    report["provenance"]["versions"]["torchvision"] = None
    report["provenance"]["date"] = "2030-01-31T12:00:00Z"
    report["provenance"]["data"] = "celeba"
    assert ledger.check(report) is report
    for wrong in (None, [], "report", 3):
        with pytest.raises(UserError, match="the report must be an object"):
            ledger.check(wrong)


# Provenance -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("/home/x/celeba", "celeba"),
        ("aia run --root /home/x/celeba --out=/srv/a/b/", "aia run --root celeba --out=b"),
        ("aia run --root ../shared/data/celeba10k", "aia run --root ../shared/data/celeba10k"),
        ("aia run --root '/home/x/my faces' --seeds 1", "aia run --root 'my faces' --seeds 1"),
        ("aia audit /srv/y/method.py:make", "aia audit method.py:make"),
        (r"C:\Users\anna\celeba", "celeba"),
        (r"\\server\share\faces", "faces"),
        ("~/faces/lfw", "lfw"),
        ("/home/anna", "~"),
        ("/" + "root", "~"),
        ("file:///home/x/faces", "faces"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("and/or, AIA\\T, 1 / 2, ./a/b", "and/or, AIA\\T, 1 / 2, ./a/b"),
    ],
)
def test_paths_are_reduced(text: str, kept: str) -> None:
    assert ledger.strip_paths(text) == kept


@given(st.text(alphabet="abcé /\\:='\"~.-,()CD", max_size=40))
@example("/home/x y/z")
def test_reducing_paths_ends(text: str) -> None:
    """It never fails, and what it leaves holds no absolute path of two components."""
    once = ledger.strip_paths(text)
    assert len(once) <= len(text)
    assert not re.search(r"(?:^|\s)/\w+/\w+", once)


def test_provenance_is_complete_and_names_no_folder(tmp_path: Path) -> None:
    home = Path.home() / "secret place"
    command = ["/usr/somewhere/bin/aia", "run", "--root", str(home / "my faces"), f"--out={tmp_path}/out", "--seeds", "2"]
    data = {"source": "celeba", "root": home / "my faces", "files": [str(tmp_path / "labels.csv")], "images": 10}
    report = made_up_report()
    origin = report["provenance"] = ledger.provenance(command, range(3), data, 12.345)
    ledger.check(report)
    assert origin["command"] == "aia run --root 'my faces' --out=out --seeds 2"
    assert origin["data"] == {"source": "celeba", "root": "my faces", "files": ["labels.csv"], "images": 10}
    assert origin["seconds"] == 12.3 and origin["seeds"] == [0, 1, 2]
    assert origin["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert origin["versions"]["numpy"] and origin["device"].startswith("cpu (")
    assert "secret" not in json.dumps(origin) and str(tmp_path) not in json.dumps(origin)
    assert ledger.provenance("x", [0], "y", 1, "mps")["device"].startswith("mps")
    assert ledger.provenance("x", [0], "y", 1, "one large machine")["device"] == "one large machine"


def test_record_reduces_paths_rather_than_refuse_them(tmp_path: Path) -> None:
    report = made_up_report()
    report["provenance"]["command"] = "aia run --root /home/someone/celeba"
    report["settings"]["out"] = "/home/someone/runs/first"
    ledger.record(report, "run", tmp_path)
    kept = ledger.load("run", tmp_path)
    assert kept["provenance"]["command"] == "aia run --root celeba" and kept["settings"]["out"] == "first"


def test_git_tells_commit_and_changes_and_is_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)  # a hook of git that runs these tests sets them

    def git(*words: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    package = tmp_path / "aia_lib"
    package.mkdir()
    (package / "ledger.py").write_text("1")
    monkeypatch.setattr(ledger, "__file__", str(package / "ledger.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert ledger._git() is None  # no repository
    git("init", "-q")
    assert ledger._git() is None  # no commit
    git("add", ".")
    git("commit", "-q", "-m", "first", "--no-verify")
    clean = ledger._git()
    assert re.fullmatch("[0-9a-f]{40,64}", clean["commit"]) and clean["dirty"] is False
    (package / "ledger.py").write_text("2")
    assert ledger._git() == {"commit": clean["commit"], "dirty": True}
    inner = tmp_path / "venv" / "aia_lib"  # installed inside somebody's repository: their commit is not ours
    inner.mkdir(parents=True)
    monkeypatch.setattr(ledger, "__file__", str(inner / "ledger.py"))
    assert ledger._git() is None
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(ledger, "__file__", str(package / "ledger.py"))
    assert ledger._git() is None  # no git


# Comparing ------------------------------------------------------------------------------------------------------------


def test_compare_agrees_with_itself_and_names_what_differs() -> None:
    a, b = made_up_report(), made_up_report()
    assert ledger.compare(a, b) == []
    b["methods"]["AIA"]["retrained"]["leak_auc"] -= 0.05
    b["methods"]["AIA"]["retrained"]["attackers"]["cnn"] -= 0.02
    assert ledger.compare(a, b) == [
        "AIA: retrained.leak_auc is 0.9170 in the first report and 0.8670 in the second; they differ by 0.0500, and 0.03 is allowed."
    ]
    assert ledger.compare(a, b, 0.06) == []
    assert ledger.compare(a, b, {"leak_auc": 0.06}) == [] == ledger.compare(a, b, {"retrained.leak_auc": None})
    assert len(ledger.compare(a, b, {"attackers.*": 0.01})) == 2
    b["methods"]["AIA"]["retrained"]["leak_auc_ci"] = [0.5, 0.6]  # intervals count where asked for
    assert len(ledger.compare(a, b)) == 1 and len(ledger.compare(a, b, {"leak_auc_ci*": 0.01})) == 3


def test_compare_names_what_is_missing_on_either_side() -> None:
    a, b = made_up_report(), made_up_report()
    del b["methods"]["Random"], a["methods"]["AIA"]["retrained"]["attackers"]["mlp"]
    b["methods"]["New"] = b["methods"]["AIA"]
    b["methods"]["AIA\\T"]["paper"] = None
    assert ledger.compare(a, b) == [
        "Random: only the first report has this method.",
        "AIA\\T: only the first report has the paper regime.",
        "AIA: only the second report has retrained.attackers.mlp.",
        "New: only the second report has this method.",
    ]


# Tables ---------------------------------------------------------------------------------------------------------------


def test_derived_figures_follow_their_definitions() -> None:
    report = made_up_report()
    assert ledger.leak_removed(report, "AIA") == pytest.approx((0.931 - 0.917) / (0.931 - 0.5))
    assert ledger.utility_kept(report, "AIA") == pytest.approx((0.711 - 0.5) / (0.742 - 0.5))
    assert ledger.leak_removed(report, "Original") == 0 and ledger.utility_kept(report, "Original") == 1
    report["methods"]["Original"]["retrained"].update(leak_auc=0.5, utility_auc_same=0.5)
    assert math.isnan(ledger.leak_removed(report, "AIA")) and math.isnan(ledger.utility_kept(report, "AIA"))
    with pytest.raises(UserError, match="'LEACE'.*Original, Random"):
        ledger.leak_removed(report, "LEACE")


def test_the_papers_numbers_give_the_exchange_that_is_quoted_of_it() -> None:
    """46.6 % of the leak above chance for 26.3 % of the utility, on CelebA."""
    original, aia = ledger.PAPER_TABLE1["celeba"]["Original"], ledger.PAPER_TABLE1["celeba"]["AIA"]
    removed = (original["privacy_accuracy"] - aia["privacy_accuracy"]) / (original["privacy_accuracy"] - 0.5)
    lost = (original["utility_accuracy"] - aia["utility_accuracy"]) / (original["utility_accuracy"] - 0.5)
    assert round(removed, 3) == 0.466 and round(lost, 3) == 0.263


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()]


def test_table_holds_both_regimes_with_intervals_and_the_papers_numbers() -> None:
    report = made_up_report()
    rows = cells(ledger.table(report, paper="celeba"))
    assert len({len(row) for row in rows}) == 1 and [row[0] for row in rows[2:]] == ["Original", "Random", "AIA\\T", "AIA"]
    assert rows[-1][1:] == ["60.2 % (65.0 %)", "71.9 % (78.6 %)", "0.917 [0.903, 0.930]", "cnn", "0.711 [0.691, 0.731]", "3 %", "87 %"]
    assert "(" not in ledger.table(report).split("---", 1)[1]
    report["methods"]["a|b"] = report["methods"].pop("AIA")
    report["methods"]["a|b"]["paper"] = None
    last = ledger.table(report, paper="vggface").splitlines()[-1]
    assert last.startswith("| a\\|b | – (–) | – (–) |")
    del report["methods"]["Original"]
    assert "removed" not in ledger.table(report)
    with pytest.raises(UserError, match="celeba, vggface"):
        ledger.table(report, paper="lfw")


def test_the_ledger_imports_nothing_heavy() -> None:
    """`aia --help` and sync tools use it."""
    code = "import sys, aia_lib.report.ledger; print([m for m in ('torch', 'matplotlib', 'pandas', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(ledger.__file__).parent.parent)
    assert done.stdout.strip() == "[]"
