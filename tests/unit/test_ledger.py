"""The ledger keeps what it is given, refuses what is not a report, tells two runs apart and names no machine."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
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
    assert ledger.results_root() == Path(ledger.__file__).parents[2] / "results"
    installed = tmp_path / "site-packages" / "aia_lib"
    (installed / "report").mkdir(parents=True)
    monkeypatch.setattr(ledger, "__file__", str(installed / "report" / "ledger.py"))
    assert ledger.results_root() == installed / "results"
    (installed.parent / "pyproject.toml").write_text("")
    assert ledger.results_root() == installed.parent / "results"


def texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts(item)


def assert_no_path_of_a_machine(report: dict) -> None:
    for text in texts(report):
        words = text.split()
        assert not any(word.lstrip("'\"=").startswith("/") for word in words) and str(Path.home()) not in text and "/home/" not in text, (
            text
        )


def test_every_recorded_run_is_a_report_that_names_no_folder_of_a_machine() -> None:
    for name in ledger.names():
        ledger.load(name)
    for path in ledger.results_root().rglob("*.json"):
        assert_no_path_of_a_machine(json.loads(path.read_text(encoding="utf-8")))


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
    ("methods", {}, "methods cannot be"),
    *(
        (f"provenance/{key}", ..., f"provenance.{key} is missing")
        for key in ("command", "versions", "device", "seconds", "seeds", "date", "data")
    ),
    ("provenance/git", "abc", "provenance.git cannot be 'abc'"),
    ("provenance/seeds", [], "provenance.seeds"),
    ("methods/AIA", 3, "methods.AIA cannot be '3'"),
    ("methods/AIA/paper", [1], "methods.AIA.paper"),
    ("methods/AIA/seeds", [], "methods.AIA.seeds"),
    ("methods/AIA/seeds/0/seed", "x", "methods.AIA.seeds.0.seed"),
    ("methods/AIA/seeds/1/retrained/leak_auc", 2.0, "methods.AIA.seeds.1.retrained: leak_auc is 2.0"),
    *((f"methods/AIA/retrained/{key}", ..., f"methods.AIA.retrained.{key} is missing") for key in ledger.RETRAINED_FIGURES),
    ("methods/AIA/paper/privacy_auc", 63.1, "methods.AIA.paper: privacy_auc is 63.1; it must be a number between 0 and 1"),
    ("methods/AIA/retrained/leak_auc", 1.2, "methods.AIA.retrained: leak_auc is 1.2; it must be a number between 0 and 1"),
    ("methods/AIA/retrained/leak_auc", math.nan, "methods.AIA.retrained: leak_auc is nan"),
    ("methods/AIA/retrained/eer", True, "methods.AIA.retrained.eer"),
    ("methods/AIA/retrained/eer", "0.2", "methods.AIA.retrained.eer"),
    ("methods/AIA/retrained/leak_auc_ci", [0.9, 1.8], "leak_auc_ci.1 is 1.8"),
    ("methods/AIA/retrained/attackers/cnn", 7, "attackers.cnn is 7"),
    ("methods/AIA/retrained/worst_attacker", "oracle", "none of its attackers"),
]


@pytest.mark.parametrize(("path", "value", "words"), BROKEN, ids=[f"{path}={value!r}"[:60] for path, value, _ in BROKEN])
def test_what_could_not_be_shown_is_named(path: str, value: object, words: str) -> None:
    with pytest.raises(UserError, match=words):
        ledger.validated(change(made_up_report(), path, value))


def test_what_is_right_and_more_is_taken() -> None:
    report = made_up_report()
    report["claims"] = {"anything": [1, 2]}
    report["methods"]["AIA"]["retrained"]["mdl_bits"] = 1234.5
    report["methods"]["AIA"]["paper"] = None
    for entry in report["methods"]["AIA"]["seeds"]:
        entry["paper"] = None
    random = report["methods"]["Random"]["paper"]
    report["methods"]["Random"]["paper"] = {key: random[key] for key in ("utility_accuracy", "utility_auc")}
    report["provenance"].update(git=None, data="celeba")
    assert ledger.validated(report) is report
    for wrong in (None, [], "report", 3):
        with pytest.raises(UserError, match="the report "):
            ledger.validated(wrong)


# Provenance -----------------------------------------------------------------------------------------------------------


def test_provenance_is_complete_and_names_no_folder(tmp_path: Path) -> None:
    home = Path.home()
    command = ["/usr/somewhere/bin/aia", "run", "--root", str(home / "secret place" / "my faces"), f"--out={tmp_path}/out/"]
    command += ["--more", str(home), f"../..{home}/x", "/srv/y/method.py:make", "../data/celeba10k", "--seeds", "2", "1 / 2", "a/b"]
    report = made_up_report()
    origin = report["provenance"] = ledger.provenance(command, range(3), {"source": "celeba", "images": 10}, 12.345)
    ledger.validated(report)
    words = "aia run --root 'my faces' --out=out --more '~' x method.py:make ../data/celeba10k --seeds 2 '1 / 2' a/b"
    assert origin["command"] == words
    assert_no_path_of_a_machine({**origin, "command": origin["command"].replace(" / ", "")})
    assert origin["data"] == {"source": "celeba", "images": 10}
    assert origin["seconds"] == 12.3 and origin["seeds"] == [0, 1, 2]
    assert origin["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert origin["versions"]["numpy"] and origin["device"].startswith("cpu (")
    assert ledger.provenance(f"aia run --root {tmp_path}/faces", [0], "y", 1, "mps")["command"] == "aia run --root faces"
    assert ledger.provenance("x", [0], "y", 1, "mps")["device"].startswith("mps")
    assert ledger.provenance("x", [0], "y", 1, "one large machine")["device"] == "one large machine"


def test_git_tells_commit_and_changes_and_is_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)  # a hook of git that runs these tests sets them

    def git(*words: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    package = tmp_path / "aia_lib" / "report"
    package.mkdir(parents=True)
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
    inner = tmp_path / "venv" / "aia_lib" / "report"  # installed inside somebody's repository: their commit is not ours
    inner.mkdir(parents=True)
    monkeypatch.setattr(ledger, "__file__", str(inner / "ledger.py"))
    assert ledger._git() is None
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(ledger, "__file__", str(package / "ledger.py"))
    assert ledger._git() is None  # no git


# Comparing ------------------------------------------------------------------------------------------------------------


def test_differences_agrees_with_itself_and_names_what_differs() -> None:
    a, b = made_up_report(), made_up_report()
    assert ledger.differences(a, b) == []
    b["methods"]["AIA"]["retrained"]["leak_auc"] -= 0.05
    b["methods"]["AIA"]["retrained"]["attackers"]["cnn"] -= 0.02
    assert ledger.differences(a, b) == [
        "AIA: retrained.leak_auc is 0.9170 in the first report and 0.8670 in the second; they differ by 0.0500, and 0.03 is allowed."
    ]
    b["methods"]["AIA"]["retrained"]["leak_auc_ci"] = [0.5, 0.6]  # intervals do not count
    b["methods"]["AIA"]["retrained"]["tar_at_far_1e-2"] += 0.09
    assert len(ledger.differences(a, b)) == 1
    b["methods"]["AIA"]["retrained"]["tar_at_far_1e-2"] += 0.02
    assert len(ledger.differences(a, b)) == 2
    new = b["methods"]["AIA"]["retrained"]  # a record that has the error rate is compared with one that has its complement
    new |= {"fnmr_at_fmr_1e-2": 1 - new.pop("tar_at_far_1e-2") + 0.11, "impostor_pairs": 30_000}
    assert len(ledger.differences(a, b)) == 1


def test_an_error_rate_is_read_from_old_and_new_records_and_says_why_it_is_missing() -> None:
    old = {"tar_at_far_1e-2_same": 0.25}
    new = {"fnmr_at_fmr_1e-2_same": 0.75, "fnmr_at_fmr_1e-2_same_ci": [0.7, 0.81], "impostor_pairs_same": 4000}
    assert ledger.fnmr(old, "1e-2", "_same") == "75.0 %" and ledger.fnmr(new, "1e-2", "_same") == "75.0 % [70.0 %, 81.0 %]"
    assert ledger.fnmr(old, "1e-3", "_same") == "–"
    assert ledger.fnmr(new, "1e-3", "_same") == "not measured: only 4 impostor pairs carry it"


def test_differences_names_what_is_missing_on_either_side() -> None:
    a, b = made_up_report(), made_up_report()
    del b["methods"]["Random"], a["methods"]["AIA"]["retrained"]["attackers"]["mlp"]
    b["methods"]["New"] = b["methods"]["AIA"]
    b["methods"]["AIA\\T"]["paper"] = None
    assert ledger.differences(a, b) == [
        "Random: only the first report has the paper regime.",
        "Random: only the first report has the retrained regime.",
        "AIA\\T: only the first report has the paper regime.",
        "AIA: only the second report has retrained.attackers.mlp.",
        "New: only the second report has the paper regime.",
        "New: only the second report has the retrained regime.",
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
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(ledger.__file__).parents[2])
    assert done.stdout.strip() == "[]"
