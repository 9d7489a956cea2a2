"""The sweep: its grid, its engines, what a kill, a failure and a full disk leave, stacks of points, and what the whole is worth."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import json
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from conftest import draw_faces
from jobs import halve, placed
from tiny import TINY

from aia_lib import cli, ledger, sweep
from aia_lib.anonymizers import AIA, Networks
from aia_lib.audit import AuditReport
from aia_lib.config import PROFILES, AdversaryConfig, AutoencoderConfig, FinetuneConfig, SiameseConfig
from aia_lib.faces import Faces, with_attribute
from aia_lib.machine.files import UserError, locked
from aia_lib.machine.rows import RowView
from aia_lib.report import tradeoff_plots
from aia_lib.scale import engines, get_engine
from aia_lib.scale.pool import Failure, in_processes, pack
from aia_lib.sweep import LocalEngine, Point, SweepConfig, SweepResult, finetune_stack, parse_range, run_sweep, runner
from aia_lib.sweep.tradeoff import hypervolume, pareto_front, recommend
from aia_lib.training import finetune, train_autoencoder

CPU = torch.device("cpu")

CONFIG = SweepConfig(alpha=(0.5,), beta=(0.5, 1.0), seeds=(0, 1), profile=TINY, audit=TINY.audit)
"""A seed's points: Original, and AIA with beta 0.5 and 1."""


@pytest.fixture(autouse=True, scope="module")
def _one_core(one_thread):
    """As on a machine with one core: one thread, and the local engine's one worker is this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "cores", lambda: 1)
        yield


@pytest.fixture(scope="module")
def faces(toy_faces) -> Faces:
    """Just enough people for an audit."""
    return toy_faces(people=104, images=2, size=16)


def swept(faces: Faces, out: Path, config: SweepConfig = CONFIG, **settings) -> tuple[SweepResult, list[str]]:
    """The result of a tiny sweep, and what it said."""
    said: list[str] = []
    return run_sweep(faces, config, out, **{"device": CPU, "progress": False, "say": said.append, **settings}), said


@pytest.fixture(scope="module")
def finished(faces, tmp_path_factory) -> tuple[SweepResult, list[str]]:
    """A sweep that nobody disturbed, and what it said."""
    return swept(faces, tmp_path_factory.mktemp("sweeps") / "sweep")


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    """A copy of its folder."""
    return Path(shutil.copytree(finished[0].folder, tmp_path / "copy"))


@pytest.fixture
def measured(monkeypatch) -> list[Point]:
    """The points that are measured from here on."""
    points: list[Point] = []

    def noted(shared, job):
        points.append(job.point)
        return measure(shared, job)

    measure = runner.measure_point
    monkeypatch.setattr(runner, "measure_point", noted)
    return points


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def remove(out: Path, *points: Point) -> None:
    for point in points:
        (out / "points" / f"{point.name}.npz").unlink()


# -------------------------------------------------------------------------------------------------------------------- the grid


def test_ranges_are_parsed():
    assert parse_range("0:1:0.1") == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    assert parse_range("0:1:0.3") == (0.0, 0.3, 0.6, 0.9), "a stop between two steps is not included"
    assert parse_range(" 2 : 2 : 5 ") == (2.0,) and parse_range("1e-3") == (0.001,)
    assert parse_range("1,0.5,0,0.5") == (0.0, 0.5, 1.0), "rising, each once"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must not be empty"),
        ("  ", "must not be empty"),
        ("a:b:c", "'a:b:c' is no range"),
        ("0:1", "'0:1' is no range"),
        ("0:1:0.1:2", "is no range"),
        ("0,,1", "is no range"),
        ("0:inf:1", "is no range"),
        ("nan", "is no range"),
        ("0:1:0", "has the step 0; it must be above 0"),
        ("0:1:-0.1", "has the step -0.1"),
        ("1:0:0.1", "ends below its start"),
        ("-1:1:0.5", "not negative"),
        ("0.5,-0.5", "not negative"),
        ("0:1:1e-6", "more than 1,000 values"),
    ],
)
def test_malformed_ranges_are_refused_in_one_sentence(text, words):
    with pytest.raises(UserError, match=words) as raised:
        parse_range(text)
    assert "\n" not in str(raised.value)


def test_the_cross_is_the_papers_figure_2_and_the_full_grid_is_all():
    cross = SweepConfig(seeds=(0,), profile=TINY)
    assert len(cross.settings) == 21 and set(cross.settings) == {(0.5, b / 10) for b in range(11)} | {(a / 10, 0.5) for a in range(11)}
    assert cross.held == (0.5, 0.5) and len(SweepConfig(grid="full", profile=TINY).settings) == 121
    points = SweepConfig(alpha=(0, 1), beta=(0.25,), grid="full", seeds=(0, 3), profile=TINY).points()
    assert points == [Point(0), Point(0, 0, 0.25), Point(0, 1, 0.25), Point(3), Point(3, 0, 0.25), Point(3, 1, 0.25)]
    assert [point.method for point in points[:3]] == ["Original", "AIA\\T", "AIA"] and len({point.name for point in points}) == 6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"grid": "star"}, "must be one of cross, full, not 'star'"),
        ({"alpha": ()}, "at least one"),
        ({"beta": (0.5, float("nan"))}, "finite"),
        ({"beta": ("x",)}, "Weights must be numbers"),
        ({"alpha": None}, "Weights must be numbers"),
        ({"seeds": ()}, "seeds must be different whole numbers"),
        ({"seeds": (1, 1)}, "seeds must be"),
        ({"seeds": (-1,)}, "seeds must be"),
    ],
)
def test_a_contradictory_sweep_is_refused(change, words):
    with pytest.raises(UserError, match=words):
        SweepConfig(**change)


# ------------------------------------------------------------------------------------------------------------- what a sweep gives


def test_a_sweep_writes_one_tidy_table(finished):
    result, said = finished
    table = result.table
    assert tuple(table.columns) == sweep.result.COLUMNS
    assert not table.duplicated(["method", "alpha", "beta", "seed", "regime", "metric"]).any(), "a row a figure"
    points = table[["method", "alpha", "beta", "seed"]].drop_duplicates()
    assert len(points) == len(CONFIG.points()) == 6 and sum(point in line for line in said for point in ("Original", "AIA alpha")) == 6
    for point in CONFIG.points():
        audit = AuditReport.load(result.folder / "points" / f"{point.name}.npz")
        own = table[(table["seed"] == point.seed) & (table["alpha"].isna() if point.alpha is None else table["beta"] == point.beta)]
        figure = own.set_index(["regime", "metric"])
        leak = figure.loc[("retrained", "leak_auc")]
        assert leak["value"] == audit.retrained["leak_auc"] and [leak["low"], leak["high"]] == audit.retrained["leak_auc_ci"]
        assert figure.loc[("paper", "leak_auc"), "value"] == audit.paper["privacy_auc"]
        assert figure.loc[("paper", "leak_auc"), "low"] <= audit.paper["privacy_auc"] <= figure.loc[("paper", "leak_auc"), "high"]
        assert figure.loc[("retrained", "leak_auc_val"), "value"] == audit.retrained["attackers_val"]["logistic"]
        assert figure.loc[("retrained", "utility_auc_same"), "value"] == audit.retrained["utility_auc_same"]
    values = table.pivot_table(index="seed", columns=["method", "beta", "regime", "metric"], values="value")
    assert values.loc[0].ne(values.loc[1]).any(), "seeds differ"


def test_a_sweep_is_in_the_ledgers_format_merged_over_seeds(finished):
    result, _ = finished
    report = ledger.read(result.folder / "report.json")
    assert report == json.loads(json.dumps(result.report)), "in memory as in the file"
    assert list(report["methods"]) == ["Original", "AIA alpha=0.5 beta=0.5", "AIA alpha=0.5 beta=1"]
    for entry in report["methods"].values():
        leaks = [own["retrained"]["leak_auc"] for own in entry["seeds"]]
        assert [own["seed"] for own in entry["seeds"]] == [0, 1] and entry["retrained"]["leak_auc"] == pytest.approx(np.mean(leaks))
        assert entry["paper"]["privacy_auc"] > 0
    assert report["methods"]["AIA alpha=0.5 beta=1"]["beta"] == 1.0 and report["methods"]["Original"]["alpha"] is None
    assert report["settings"]["grid"] == "cross" and report["settings"]["audit"]["attackers"] == ["logistic"]
    assert report["provenance"]["seeds"] == [0, 1] and report["provenance"]["seconds"] > 0
    for name in ("AIA alpha=0.5 beta=1", "Hypervolume"):
        assert name in (result.folder / "table.md").read_text()


def test_a_result_reads_back(finished, tmp_path):
    result, _ = finished
    again = SweepResult.load(result.folder)
    pd.testing.assert_frame_equal(again.table, result.table)
    assert again.report == json.loads(json.dumps(result.report)) and not again.failed
    assert again.recommend(1.0) == result.recommend(1.0) and again.hypervolume() == result.hypervolume()
    with pytest.raises(UserError, match="holds no finished sweep .sweep.parquet is missing.; make one with: aia sweep"):
        SweepResult.load(tmp_path)
    shutil.copytree(result.folder, tmp_path / "copy")
    (tmp_path / "copy" / "sweep.parquet").write_bytes(b"half")
    with pytest.raises(UserError, match="sweep.parquet is damaged"):
        SweepResult.load(tmp_path / "copy")


def test_recorded_sweeps_are_found_by_name(finished, tmp_path, monkeypatch):
    result, _ = finished
    monkeypatch.setattr(ledger, "results_root", lambda: tmp_path)
    assert sweep.recorded() == {}
    for name in ("b", "a"):
        (tmp_path / "sweeps" / name).mkdir(parents=True)
        for file in ("sweep.parquet", "report.json"):
            shutil.copy(result.folder / file, tmp_path / "sweeps" / name)
    (tmp_path / "sweeps" / "unfinished").mkdir()
    found = sweep.recorded()
    assert list(found) == ["a", "b"] and found["a"].folder == tmp_path / "sweeps" / "a"
    pd.testing.assert_frame_equal(found["b"].table, result.table)
    (tmp_path / "sweeps" / "b" / "report.json").unlink()
    with pytest.raises(UserError, match="b/report.json: no such file"):
        sweep.recorded()


def test_the_sweeps_in_results_can_be_read():
    found = sweep.recorded()
    assert set(found) == {path.name for path in (ledger.results_root() / "sweeps").iterdir()}
    for name, result in found.items():
        assert not result.failed and len(result.settings()) >= 21, name
        assert result.figures().keys() >= {"figure-2", "front"}, name


def test_figures_show_the_tables_values(finished):
    result, _ = finished
    pictures = result.figures(max_leak=1.0)
    assert set(pictures) == {"figure-2", "front"} and {path.stem for path in (result.folder / "figures").iterdir()} == set(pictures)
    (axes,) = pictures["figure-2"].axes
    lines = {line.get_label(): line for line in axes.get_lines()}
    for key, label in ((("retrained", "leak_auc"), "attribute, worst fresh attacker"), (("paper", "utility_auc"), None)):
        line = lines[label or "verification, co-trained Siamese"]
        cut = result.table[(result.table["regime"] == key[0]) & (result.table["metric"] == key[1]) & result.table["alpha"].notna()]
        np.testing.assert_allclose(line.get_ydata(), cut.groupby("beta")["value"].mean())
        np.testing.assert_allclose(line.get_xdata(), [0.5, 1.0])
    for axes, regime in zip(pictures["front"].axes, ("paper", "retrained"), strict=False):
        settings = result.settings(regime)
        drawn = np.sort(np.asarray(axes.collections[1].get_offsets()), axis=0)
        np.testing.assert_allclose(drawn, np.sort(settings[["leak", "utility"]].to_numpy(), axis=0))
        assert settings["front"].any() and settings["leak_low"].notna().all() == (regime == "retrained")


def test_maps_show_the_means_of_a_full_grid_in_both_regimes():
    rows = pd.DataFrame(
        [
            {"alpha": a, "beta": b, "seed": seed, "regime": regime, "metric": metric, "value": value + 0.02 * seed}
            for a in (0.0, 0.5, 1.0)
            for b in (0.0, 1.0)
            for seed in (0, 1)
            for regime, metric, value in (
                ("paper", "leak_auc", 0.8 - 0.2 * b),
                ("retrained", "leak_auc", 0.9 - 0.01 * b),
                ("paper", "utility_auc", 0.6 + 0.1 * a),
                ("retrained", "utility_auc_same", 0.7 + 0.1 * a),
            )
            if (a, b) != (1.0, 1.0)
        ]
    )
    picture = tradeoff_plots.tradeoff_maps(rows)
    maps = [np.asarray(axes.images[0].get_array(), dtype=float) for axes in picture.axes if axes.images and axes.get_title("left")]
    leak = np.array([[0.81, 0.61], [0.81, 0.61], [0.81, np.nan]])  # rising alpha by rising beta
    np.testing.assert_allclose(maps[0], leak)
    np.testing.assert_allclose(maps[1], [[0.91, 0.90], [0.91, 0.90], [0.91, np.nan]])
    np.testing.assert_allclose(maps[3][:2], [[0.71, 0.71], [0.76, 0.76]])
    assert [text.get_text() for text in picture.axes[0].texts] == ["81", "61", "81", "61", "81"]
    assert "0.61 to 0.81" in picture.alt


# ------------------------------------------------------------------------------------------------------- stopping and going on


SCRIPT = """
import sys, pickle
sys.path[:] = pickle.loads(bytes.fromhex(sys.argv[1]))
import test_sweep as t
t.engines.cores = lambda: 1  # one thread each, as in this file's process
from aia_lib.sweep import LocalEngine, run_sweep
faces, config, out = t.draw_faces(104, 2, 16, 0), t.dataclasses.replace(t.CONFIG, seeds=(0,)), sys.argv[2]
run_sweep(faces, config, out, engine=LocalEngine(2), device=t.CPU, progress=False, say=lambda line: print(line, flush=True))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_sweep_killed_in_the_middle_goes_on_and_ends_with_the_same_table(finished, faces, tmp_path, measured):
    assert draw_faces(104, 2, 16, 0).fingerprint == faces.fingerprint
    out = tmp_path / "out"
    sweeping = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, pickle.dumps(sys.path).hex(), str(out)], stdout=subprocess.PIPE, text=True, stderr=subprocess.PIPE
    )
    for line in sweeping.stdout:
        if " AIA " in line or " Original " in line:  # the first point is finished; two others may be under way
            break
    else:
        pytest.fail(sweeping.stderr.read())
    children = psutil.Process(sweeping.pid).children(recursive=True)  # the workers, and trackers of their queues
    assert sum("popen_loky" in " ".join(child.cmdline()) for child in children) == 2
    sweeping.send_signal(signal.SIGKILL)
    assert sweeping.wait() == -signal.SIGKILL
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive, "what it was doing ends with it"
    kept = {name: data for name, data in content(out / "points").items() if name.endswith(".npz")}
    assert 1 <= len(kept) < 3 and not (out / "sweep.parquet").exists()

    result, said = swept(faces, out, dataclasses.replace(CONFIG, seeds=(0,)))
    assert f"3 points, {len(kept)} of them finished before" in said, "the lock of the dead sweep does not bar it"
    assert {f"{point.name}.npz" for point in measured} == {f"{point.name}.npz" for point in CONFIG.points()[:3]} - set(kept)
    assert kept.items() <= content(out / "points").items(), "finished points stay as they are"
    undisturbed = finished[0].table[finished[0].table["seed"] == 0].reset_index(drop=True)
    pd.testing.assert_frame_equal(result.table, undisturbed)
    assert not list(out.rglob("*.part")) and not (out / "unfinished").exists()


def test_a_finished_sweep_does_nothing_again_and_can_grow(finished, faces, copied, measured):
    before = content(copied / "points")
    again, _ = swept(faces, copied)
    assert not measured
    pd.testing.assert_frame_equal(again.table, finished[0].table)
    more, said = swept(faces, copied, dataclasses.replace(CONFIG, beta=(0.25, 0.5, 1.0), seeds=(0,)))
    assert measured == [Point(0, 0.5, 0.25)] and "4 points, 3 of them finished before" in said
    assert before.items() <= content(copied / "points").items()
    old = finished[0].table[finished[0].table["seed"] == 0]
    kept = more.table[more.table["beta"] != 0.25].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, old.reset_index(drop=True))


def test_changed_settings_are_refused_by_name(faces, toy_faces, copied, measured):
    before = content(copied)
    finetuned = dataclasses.replace(TINY, finetune=dataclasses.replace(TINY.finetune, learning_rate=0.01))
    for change, words in (
        ({"config": dataclasses.replace(CONFIG, profile=finetuned)}, r"holds another sweep \(finetune.learning_rate was 0.001, is 0.01\)"),
        ({"config": dataclasses.replace(CONFIG, audit=dataclasses.replace(TINY.audit, pairs=300))}, r"\(audit.pairs was 200, is 300\)"),
        ({"faces": with_attribute(faces, "glasses")}, r"\(attribute was 'gender', is 'glasses'\)"),
        ({"faces": toy_faces(people=104, images=2, size=16, seed=1)}, "other faces: another data set"),
    ):
        with pytest.raises(UserError, match=words):
            swept(**{"faces": faces, "out": copied, **change})
    assert content(copied) == before and not measured


def test_a_failed_point_is_reported_the_others_finish_and_it_is_tried_again(finished, faces, copied, monkeypatch):
    remove(copied, Point(0, 0.5, 0.5), Point(0, 0.5, 1.0))
    fit = AIA.fit

    def fails(method, *arguments, **settings):
        if method.profile.finetune.beta == 1.0:
            raise ZeroDivisionError("an unlucky point")
        return fit(method, *arguments, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(AIA, "fit", fails)
        result, said = swept(faces, copied)
    assert result.failed == {"seed 0: AIA alpha=0.5 beta=1": "ZeroDivisionError: an unlucky point"}
    assert any("FAILED: ZeroDivisionError: an unlucky point" in line for line in said)
    assert "Traceback" in json.loads((copied / "failed.json").read_text())["seed 0: AIA alpha=0.5 beta=1"]["details"]
    assert SweepResult.load(copied).failed == result.failed
    entry = result.report["methods"]["AIA alpha=0.5 beta=1"]
    assert [own["seed"] for own in entry["seeds"]] == [1] and len(result.table) < len(finished[0].table)
    again, _ = swept(faces, copied)
    pd.testing.assert_frame_equal(again.table, finished[0].table)
    assert not again.failed and not (copied / "failed.json").exists()


def test_a_seed_that_cannot_start_costs_its_own_points_only(faces, copied, monkeypatch, tmp_path):
    shutil.rmtree(copied / "seed-1")
    remove(copied, Point(1, 0.5, 1.0))

    def fails(shared, job):
        raise UserError(f"seed {job.point.seed} is unlucky")

    monkeypatch.setattr(runner, "train_shared", fails)
    result, _ = swept(faces, copied)
    assert result.failed == {"seed 1: AIA alpha=0.5 beta=1": "seed 1 is unlucky"} and set(result.table["seed"]) == {0, 1}
    with pytest.raises(UserError, match="No point of the sweep could be finished. The first reason: seed 0 is unlucky"):
        swept(faces, tmp_path / "new")


def test_two_sweeps_do_not_write_into_one_folder(faces, copied):
    with (
        locked(copied, "held"),
        pytest.raises(UserError, match=f"Another process is writing its sweep into {copied}. Wait until it ends, stop it, or"),
    ):
        swept(faces, copied)
    swept(faces, copied)  # the lock went with its holder


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"seconds": 1}'])
def test_a_foreign_or_damaged_folder_is_left_alone(faces, tmp_path, damage):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="is not empty and holds no sweep. Choose another --out"):
        swept(faces, tmp_path)
    (tmp_path / "sweep.json").write_text(damage)
    with pytest.raises(UserError, match="sweep.json is damaged .*; choose another --out, or remove that folder"):
        swept(faces, tmp_path)
    assert content(tmp_path) == {"thesis.tex": b"precious", "sweep.json": damage.encode()}


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
def test_a_full_disk_keeps_the_finished_points(finished, faces, copied):
    import resource

    remove(copied, Point(0))
    before = content(copied / "points")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(UserError, match="no space left on the device .* what was finished before is kept"):
            swept(faces, copied)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert content(copied / "points") == before
    again, _ = swept(faces, copied)
    pd.testing.assert_frame_equal(again.table, finished[0].table)


# --------------------------------------------------------------------------------------------------------------------- engines


def test_workers_yield_every_job_with_its_result_or_its_failure(tmp_path):
    np.save(tmp_path / "images.npy", np.ones((4, 8), dtype=np.uint8))
    mapped = RowView(np.load(tmp_path / "images.npy", mmap_mode="r"), np.arange(2))
    assert b"images.npy" in pack(mapped)[1] and sum(part.nbytes for part in pack(mapped)[2]) < 32, "a mapped file is sent by name"
    shared = {"kills": 4, "unpicklable": 8, "images": mapped}
    drawn: list[int] = []

    def jobs():
        for job in range(12):
            drawn.append(job)
            yield job

    outcomes = {}
    for job, outcome in LocalEngine(2).run(halve, shared, jobs()):
        outcomes[job] = outcome
        assert len(drawn) <= len(outcomes) + 2, "drawn no sooner than they can be started"
    assert set(outcomes) == set(range(12))
    for job, outcome in outcomes.items():
        if job == 4:
            assert outcome.reason == "its process ended (SIGKILL(-9)), mostly for want of memory; take fewer workers"
        elif job == 8:
            assert "its result cannot be sent" in outcome.reason and "pickle" in outcome.details
        elif job % 2:
            assert outcome == Failure(f"{job} is odd")
        else:
            assert outcome == 8 + job / 2
    here = dict(LocalEngine(1).run(halve, {**shared, "kills": -1}, range(8)))
    assert here == {job: outcomes[job] if job != 4 else 10.0 for job in range(8)}, "one worker: the same in this process"


@pytest.mark.skipif(sys.platform == "win32" or sys.version_info < (3, 11), reason="POSIX signals; PYTHONSAFEPATH")
def test_workers_have_their_threads_run_nothing_of_the_current_folder_and_end_when_the_iterator_is_closed(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    for name in ("json", "re", "types"):
        (tmp_path / "here" / f"{name}.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    (tmp_path / "pids").mkdir()
    with contextlib.closing(in_processes(placed, tmp_path / "pids", [0, 1], workers=2, threads=2)) as results:
        job, (pid, threads, deaf) = next(results)
        assert (job, threads, deaf) == (0, 2, True), "Ctrl-C is this process's"
        while len(pids := {int(path.name) for path in (tmp_path / "pids").iterdir()}) < 2:
            time.sleep(0.1)
    assert pid in pids and not (tmp_path / "executed").exists()
    subprocess.run([sys.executable, "-c", "import json"])
    assert (tmp_path / "executed").exists(), "another process started here runs it"
    for left in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(left).wait(timeout=60)


def test_engines_are_named_and_refused():
    assert isinstance(get_engine("local", 3), LocalEngine) and get_engine("local", 3).workers == 3
    with pytest.raises(UserError, match="There is no engine 'slurm'; choose one of local"):
        get_engine("slurm")
    for workers in (0, -1, 1.5, True):
        with pytest.raises(UserError, match="workers must be a whole number of at least 1"):
            LocalEngine(workers)


# --------------------------------------------------------------------------------------------------------------------- stacks


@pytest.fixture(scope="module")
def start(toy_faces) -> tuple[Faces, Networks]:
    faces = toy_faces(people=12, images=4, size=16)
    nets = Networks(16, device=CPU)
    train_autoencoder(faces, nets.encoder, nets.decoder, AutoencoderConfig(epochs=1), progress=False)
    return faces, nets


def distance(a: Networks, b: Networks, start: Networks) -> dict[str, float]:
    """How far the weights of each network are apart, relative to how far training moved them."""
    found = {}
    for name in a.modules():
        states = [{key: value.double() for key, value in nets.modules()[name].state_dict().items()} for nets in (a, b, start)]
        apart, moved = (sum(((states[i][key] - states[1][key]) ** 2).sum() for key in states[0]) for i in (0, 2))
        found[name] = float((apart / moved) ** 0.5) if moved else float(apart)
    return found


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"adversary": "frozen", "adversary_loss": "capped"},
        {"attach": "image", "adversary_steps": 2, "adversary_loss": "maxent"},
    ],
    ids=str,
)
def test_a_stack_trains_each_point_as_it_would_be_by_itself(start, monkeypatch, changes):
    """Exactly, as far as float32 can tell: the same batches and the same steps, with sums in another order.

    How far rounding alone leads is measured beside it, by a training whose first weights differ in their last bits. The first step leaves
    a wrong formula nowhere to hide; after six, rounding has had time to grow.
    """
    monkeypatch.setattr("aia_lib.training.autocast", lambda *_: contextlib.nullcontext())
    faces, nets = start
    if changes.get("attach") == "image":
        nets = Networks(16, attach="image", device=CPU)
    for batch_size, bound in ((24, 1e-3), (4, 0.03)):  # one step, six steps
        config = FinetuneConfig(epochs=1, batch_size=batch_size, **changes)
        configs = [dataclasses.replace(config, alpha=alpha, beta=beta) for alpha, beta in ((0.2, 0.9), (0.5, 0.4), (0.0, 0.3))]
        others = AdversaryConfig(), SiameseConfig()

        def separate(begin: Networks, config: FinetuneConfig = configs[1], others: tuple = others) -> Networks:
            own = copy.deepcopy(begin)
            finetune(faces, *own.modules().values(), config, *others, progress=False)
            return own

        alone = separate(nets)
        shaken = copy.deepcopy(nets)
        with torch.no_grad():
            for parameter in (parameter for module in shaken.modules().values() for parameter in module.parameters()):
                parameter.mul_(1 + 1e-7 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
        rounding = distance(separate(shaken), alone, nets)
        (one,), _ = finetune_stack(faces, nets, [configs[1]], *others, progress=False)
        three, history = finetune_stack(faces, nets, configs, *others, progress=False)
        for stacked in (one, three[1]):
            for name, apart in distance(stacked, alone, nets).items():
                # The Siamese network's last bias cancels in every distance: its gradient is rounding, which Adam takes for a direction.
                assert apart < max(bound * (5 if name == "siamese" else 1), 5 * rounding[name]), (name, apart, rounding[name])
        without_task = separate(nets, configs[2])
        rounding, apart = distance(separate(shaken, configs[2]), without_task, nets), distance(three[2], without_task, nets)
        for name in ("encoder", "decoder"):
            assert apart[name] < max(bound, 5 * rounding[name]), (name, apart[name], rounding[name])
        apart = distance(three[0], alone, nets)
        assert apart["encoder"] > 5 * bound or batch_size == 24, "other weights, other networks"
        assert set(history) == {"total", "reconstruction", "siamese", "adversary", "accuracy"} and len(history["total"]) == 1


def test_a_sweep_in_stacks_gives_what_separate_trainings_give(finished, faces, tmp_path):
    """Within the spread of seeds; here the batches are the same, so it is much closer."""
    shutil.copytree(finished[0].folder / "seed-0", tmp_path / "out" / "seed-0")
    shutil.copy(finished[0].folder / "sweep.json", tmp_path / "out")
    result, said = swept(faces, tmp_path / "out", dataclasses.replace(CONFIG, seeds=(0,)), stack=2)
    assert "seed 0: 2 points trained as one program" in said and not (tmp_path / "out" / "unfinished").exists()
    keys = ["method", "alpha", "beta", "regime", "metric"]
    tables = {"a": result.table, "b": finished[0].table}
    value = {name: table.set_index([*keys, "seed"])["value"].unstack("seed") for name, table in tables.items()}
    metrics = ["leak_auc", "utility_auc", "utility_auc_same"]
    ours, theirs = (value[name][value[name].index.get_level_values("metric").isin(metrics)] for name in "ab")
    assert (ours[0] - theirs[0]).abs().mean() < 0.5 * (theirs[0] - theirs[1]).abs().mean()


def test_a_stack_goes_on_from_its_checkpoint_and_refuses_a_mixture(start, tmp_path):
    faces, nets = start
    configs = [FinetuneConfig(epochs=2, batch_size=8, beta=beta) for beta in (0.0, 1.0)]
    whole, _ = finetune_stack(faces, nets, configs, AdversaryConfig(), SiameseConfig(), progress=False)
    finetune_stack(faces, nets, configs, AdversaryConfig(), SiameseConfig(), folder=tmp_path, progress=False)
    (tmp_path / "finetune.json").stat()
    again, _ = finetune_stack(faces, nets, configs, AdversaryConfig(), SiameseConfig(), folder=tmp_path, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(whole[1].tensors().values(), again[1].tensors().values(), strict=True))
    with pytest.raises(UserError, match="must share epochs; it is 2 for one and 1 for another"):
        finetune_stack(faces, nets, [configs[0], FinetuneConfig(epochs=1, batch_size=8)], AdversaryConfig(), SiameseConfig())
    with pytest.raises(UserError, match="no setting"):
        finetune_stack(faces, nets, [], AdversaryConfig(), SiameseConfig())


# ------------------------------------------------------------------------------------------------------------ what it is worth


def test_hypervolume_and_front_of_known_settings():
    assert hypervolume([0.6], [0.8]) == pytest.approx(0.4 * 0.3)
    assert hypervolume([0.5], [1.0]) == pytest.approx(0.25), "perfect"
    assert hypervolume([1.0], [0.9]) == hypervolume([0.7], [0.5]) == hypervolume([], []) == 0, "useless"
    assert hypervolume([0.6, 0.8], [0.7, 0.9]) == pytest.approx(0.4 * 0.2 + 0.2 * 0.2)
    assert hypervolume([0.8, 0.6, 0.7, 0.9], [0.9, 0.7, 0.65, 0.9]) == pytest.approx(0.12), "what is dominated adds nothing, nor does order"
    assert hypervolume([0.45], [0.8]) == hypervolume([0.5], [0.8]), "below chance is noise"
    assert hypervolume([0.2], [0.8], reference=(0.9, 0.7)) == pytest.approx(0.4 * 0.1)
    front = pareto_front([0.8, 0.6, 0.7, 0.9, 0.6], [0.9, 0.7, 0.65, 0.9, 0.7])
    assert front.tolist() == [True, True, False, False, True], "equals stay together"
    with pytest.raises(UserError, match="one length"):
        pareto_front([0.5], [0.5, 0.6])
    with pytest.raises(UserError, match="finite"):
        hypervolume([float("nan")], [0.5])


def settings(*rows: tuple[float, float, float, float]) -> pd.DataFrame:
    """(leak_val, utility_val, leak, utility) of each setting; intervals reach 0.02 to both sides."""
    frame = pd.DataFrame(rows, columns=["leak_val", "utility_val", "leak", "utility"])
    for name in ("leak", "utility"):
        frame[f"{name}_low"], frame[f"{name}_high"] = frame[name] - 0.02, frame[name] + 0.02
    frame["alpha"], frame["beta"] = 0.5, np.arange(len(frame)) / 10
    return frame.assign(setting=[f"AIA beta={beta:g}" for beta in frame["beta"]])


def test_the_recommended_setting_has_the_most_utility_within_the_constraint_on_val():
    frame = settings((0.9, 0.9, 0.9, 0.9), (0.59, 0.7, 0.55, 0.71), (0.58, 0.8, 0.57, 0.79), (0.61, 0.85, 0.56, 0.86))
    best = recommend(frame, 0.6)
    assert best.met and best.beta == 0.2 and (best.leak, best.utility) == (0.57, 0.79)
    assert best.leak_interval == pytest.approx((0.55, 0.59)) and best.utility_interval == pytest.approx((0.77, 0.81))
    figures = "leak 0.570 [0.550, 0.590], utility 0.790 [0.770, 0.810]"
    assert str(best) == f"The most utility for a leak of at most 0.6: AIA beta=0.2: on the test people {figures}."
    assert "Its interval reaches beyond 0.58" in str(recommend(frame, 0.58))
    assert "That is above 0.6: settings are chosen on val, where it leaks 0.580" in str(recommend(settings((0.58, 0.8, 0.62, 0.8)), 0.6))
    none = recommend(frame, 0.55)
    assert not none.met and none.beta == 0.2
    assert str(none).startswith("No setting leaks at most 0.55 (worst fresh attacker, on val). Nearest is AIA beta=0.2: ")
    for bad in (0, 1.1, -0.5, float("nan"), "0.6"):
        with pytest.raises(UserError, match="an AUC above 0 and at most 1"):
            recommend(frame, bad)


# ------------------------------------------------------------------------------------------------------------ the command line


@pytest.fixture
def aia_sweep(faces, monkeypatch, capsys):
    """aia_sweep("--alpha", …) calls `aia sweep` with the faces, profile and audit of this file: status, stdout, stderr."""
    monkeypatch.setitem(PROFILES, "fast", TINY)
    monkeypatch.setattr(cli, "_load", lambda options, size: faces)
    monkeypatch.setattr(sweep, "SweepConfig", functools.partial(SweepConfig, audit=TINY.audit))

    def call(*arguments: object) -> tuple[int, str, str]:
        call_it = ["sweep", "--profile", "fast", "--device", "cpu", "--quiet", "--alpha", "0.5", "--beta", "0.5:1:0.5", "--seeds", "2"]
        try:
            status = cli.main([*call_it, *map(str, arguments)])
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return call


def test_the_command_line_sweeps_and_recommends(aia_sweep, finished, copied, measured, monkeypatch):
    status, out, err = aia_sweep("--out", copied, "--max-leak", 0.99)
    assert (status, err) == (0, "") and not measured
    assert "6 points, 6 of them finished before" in out and "The most utility for a leak of at most 0.99: AIA alpha=0.5" in out
    assert "Hypervolume" in out and "sweep.parquet" in out
    assert ledger.read(copied / "report.json")["provenance"]["command"].startswith("aia sweep --profile fast")

    remove(copied, Point(0, 0.5, 1.0))

    def fails(shared, job):
        raise UserError("no luck today.")

    monkeypatch.setattr(runner, "measure_point", fails)
    status, out, err = aia_sweep("--out", copied)
    assert status == 2 and "FAILED: no luck today" in out and err.count("\n") == 1
    assert err.startswith(
        "aia: 1 of 6 points failed, the first of them seed 0: AIA alpha=0.5 beta=1: no luck today. All others are finished"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--alpha", "1:0:0.1"], "ends below its start"),
        (["--beta", ""], "must not be empty"),
        (["--engine", "slurm"], "There is no engine 'slurm'; choose one of local"),
        (["--grid", "star"], "invalid choice: 'star'"),
        (["--workers", "0"], "workers must be a whole number"),
        (["--stack", "0"], "stack must be a whole number"),
        (["--max-leak", "2"], "an AUC above 0 and at most 1"),
    ],
)
def test_the_command_line_refuses_in_one_line_before_it_trains(aia_sweep, tmp_path, measured, arguments, words):
    status, out, err = aia_sweep(*arguments, "--out", tmp_path / "out")
    assert status == 2 and err.count("\n") == 1 and words in err and not measured
    assert not (tmp_path / "out").exists()
