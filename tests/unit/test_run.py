"""A run of the paper: everything in one folder, resumed wherever it was killed."""

from __future__ import annotations

import dataclasses
import functools
import json
import multiprocessing
import re
import shutil
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import TINY

from aia_lib import cli, ledger, run
from aia_lib.anonymizers import AIA, Original, RandomMask
from aia_lib.audit import AuditReport, released
from aia_lib.defences import HardenedAIA
from aia_lib.defences.settings import CompactConfig, HardenedConfig
from aia_lib.faces import Faces
from aia_lib.machine import stage
from aia_lib.machine.device import to_images
from aia_lib.machine.files import UserError, locked
from aia_lib.machine.stage import Stage
from aia_lib.poster import before_and_after, finished_report
from aia_lib.run import FOLDERS, run_paper, unseal
from aia_lib.saving import load_anonymizer

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
QUICK_VERIFIER = functools.partial(released.fit_verifier, kinds=("lda",))
"""The fresh Siamese network would take most of the time of a tiny audit."""


@pytest.fixture(scope="module", autouse=True)
def _quick_verifier():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(released, "fit_verifier", QUICK_VERIFIER)
        yield


@pytest.fixture(scope="module")
def faces(toy_faces) -> Faces:
    """Just enough people for an audit."""
    return toy_faces(people=104, images=2, size=16)


def paper(faces: Faces, out: Path, **settings) -> tuple[dict, list[str]]:
    """The report of a tiny run, and what it said."""
    said: list[str] = []
    settings = {"seeds": (0,), "profile": TINY, "device": CPU, "progress": False, "say": said.append, **settings}
    return run_paper(faces, settings.pop("profile"), out, **settings), said


@pytest.fixture(scope="module")
def finished(faces, tmp_path_factory) -> tuple[Path, dict, list[str]]:
    """A run that nobody disturbed: its folder, its report and what it said."""
    out = tmp_path_factory.mktemp("runs") / "paper"
    return out, *paper(faces, out)


DEAL = {"folds": 2, "sealed": 0.2}


@pytest.fixture(scope="module")
def more_faces(toy_faces) -> Faces:
    """Just enough people to seal a share of them, too."""
    return toy_faces(people=130, images=2, size=16)


@pytest.fixture(scope="module")
def folded(more_faces, tmp_path_factory) -> tuple[Path, dict]:
    """A run of two folds with sealed people that nobody disturbed, without pictures: its folder and its report."""
    out = tmp_path_factory.mktemp("runs") / "folded"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run._Run, "figures", lambda *_: {})
        patch.setattr(run.plots, "save_picture", blank)
        return out, paper(more_faces, out, **DEAL)[0]


@pytest.fixture
def without_pictures(monkeypatch):
    """The pictures take most of the time of a tiny run, and are looked at once, in `finished`."""
    monkeypatch.setattr(run._Run, "figures", lambda *_: {})
    monkeypatch.setattr(run.plots, "save_picture", blank)


def blank(picture: object, path: Path) -> None:
    """Instead of `plots.save_picture`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8)).save(path)


@pytest.fixture
def without_training(monkeypatch):
    """Nothing may be trained or audited: what is asked for must be there."""
    for owner, name in ((Stage, "log"), (run, "audit"), (run, "train_reader")):
        monkeypatch.setattr(owner, name, lambda *_, _name=name, **__: pytest.fail(f"{_name} was called"))


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ------------------------------------------------------------------------------------------------------------ what a run writes


def test_a_run_writes_its_report_as_the_ledger_takes_it(finished, faces):
    out, report, _ = finished
    assert ledger.validated(report) and ledger.read(out / "report.json") == report, "in memory as in the file"
    assert list(report["methods"]) == ["Original", "Random", "AIA\\T", "AIA"]
    assert {name: list(others) for name, others in report["differences"].items()} == {
        "Random": ["Original"],
        "AIA\\T": ["Original", "Random"],
        "AIA": ["Original", "AIA\\T"],
    }
    for name, method in report["methods"].items():
        assert method["name"] == name and [entry["seed"] for entry in method["seeds"]] == [0]
        assert list(method["retrained"]["attackers"]) == ["logistic"] and method["paper"]["privacy_auc"] >= 0
    data = report["provenance"]["data"]
    assert (data["images"], data["people"], data["size"], data["attribute"]) == (208, 104, 16, "gender")
    assert report["provenance"]["seeds"] == [0] and report["provenance"]["seconds"] > 0
    assert report["settings"]["finetune"]["beta"] == 0.5 and report["settings"]["attribute"] == "gender"
    table = (out / "table.md").read_text()
    for name, method in report["methods"].items():
        assert re.search(rf"\| {re.escape(name)} \|.*{method['retrained']['leak_auc']:.3f}", table)


def test_a_run_writes_a_page_that_shows_its_figures(finished):
    out, _, said = finished
    page = (out / "index.html").read_text()
    figures = {path.name for path in (out / "figures").glob("*.png")}
    assert figures >= {"regimes.png", "attackers.png", "faces.png", "gradcam.png", "roc-attackers.png", "training.png", "distances.png"}
    assert {Path(source).name for source in re.findall(r'<img[^>]*src="([^"]+)"', page)} >= figures
    assert all(len(alt) > 20 for alt in re.findall(r'<img[^>]*alt="([^"]*)"', page))
    for name in figures:
        with Image.open(out / "figures" / name) as picture:
            assert min(picture.size) > 100 and len(picture.convert("L").getcolors(1 << 16)) > 5, f"{name} is empty"
    assert "seed-0/" in page and said[-1] == str(out / "index.html")


def test_a_run_keeps_its_models_and_audits(finished, faces):
    out, report, _ = finished
    images = to_images(faces.images[:6], CPU)
    kinds = {"Original": Original, "Random": RandomMask, "AIA\\T": AIA, "AIA": AIA}
    g = {}
    for name, folder in FOLDERS.items():
        method = load_anonymizer(out / "seed-0" / folder, CPU)
        assert type(method) is kinds[name] and method.name == name
        g[name] = method(images)
        audit = AuditReport.load(out / "seed-0" / f"audit-{folder}.npz")
        assert audit.to_dict() == report["methods"][name]
    names = list(g)
    assert not any(torch.equal(g[a], g[b]) for i, a in enumerate(names) for b in names[i + 1 :])
    checkpoints = {path.stem for path in (out / "seed-0" / "checkpoints").glob("*.json")}
    assert checkpoints == {
        "autoencoder",
        "adversary",
        "siamese",
        "finetune",
        "finetune-without-task",
        "siamese-without-task",
        "image-classifier",
    }


def test_a_finished_run_takes_up_the_recommended_method_as_a_fifth(finished, faces, tmp_path, without_pictures):
    out = tmp_path / "paper"
    shutil.copytree(finished[0], out)
    small = HardenedConfig(CompactConfig(k=8, width=8, epochs=1, min_steps=3, decoder_epochs=1, batch_size=16))
    report, said = paper(faces, out, harden=small, resume=True)
    assert list(report["methods"]) == [*FOLDERS, "HardenedAIA"] and ledger.validated(report)
    assert [line for line in said if "training " in line] == ["seed 0: training HardenedAIA"], "nothing else is done again"
    people = faces.split().train.people
    assert any(f"{people} people to learn from" in line for line in said), "so few that the method says so"
    assert {name: report["methods"][name] for name in FOLDERS} == finished[1]["methods"]
    fifth = report["methods"]["HardenedAIA"]
    assert fifth["paper"] is None and list(fifth["retrained"]["attackers"]) == ["logistic"], "it has no adversary of its own to fool"
    assert report["settings"]["hardened"]["compact"]["k"] == 8
    loaded = load_anonymizer(out / "seed-0" / "HardenedAIA", CPU)
    assert isinstance(loaded, HardenedAIA) and loaded.config == small
    with pytest.raises(UserError, match="other settings .*mu was 24"):
        paper(faces, out, harden=dataclasses.replace(small, mu=1.0), resume=True)


def test_only_the_split_train_is_trained_on(faces, tmp_path, monkeypatch):
    def stop(part: Faces, *_, **__) -> None:
        seen.append(part)
        raise InterruptedError

    seen: list[Faces] = []
    monkeypatch.setattr("aia_lib.anonymizers.train_autoencoder", stop)
    with pytest.raises(InterruptedError):
        paper(faces, tmp_path / "out")
    splits = faces.split()
    assert seen[0].fingerprint == splits.train.fingerprint
    assert not set(seen[0].identity) & {*splits.attack.identity, *splits.val.identity, *splits.test.identity}


# ------------------------------------------------------------------------------------------------- folds, sealed people, choices


def test_each_fold_trains_and_audits_anew_on_its_own_people(folded, more_faces):
    out, report = folded
    assert ledger.validated(report) and report["settings"].items() >= DEAL.items()
    sealed = set(more_faces.split(**{"sealed": DEAL["sealed"]}).sealed.identity)
    for name, folder in FOLDERS.items():
        method = report["methods"][name]
        assert [(entry["seed"], entry["fold"]) for entry in method["seeds"]] == [(0, 0), (0, 1)]
        assert method["data"]["sealed_people"] == len(sealed)
        for fold, place in enumerate((out / "seed-0", out / "fold-1" / "seed-0")):
            tested = set(AuditReport.load(place / f"audit-{folder}.npz").scores[0].people)
            assert tested == set(more_faces.split(fold=fold, sealed=DEAL["sealed"]).test.identity) and not tested & sealed
            assert len((place / folder / "anonymizer.json").read_bytes())
    hashes = [(place / "AIA" / "anonymizer.json").read_bytes() for place in (out / "seed-0", out / "fold-1" / "seed-0")]
    assert hashes[0] != hashes[1]
    assert "0, fold 1" in (out / "index.html").read_text() and 'href="fold-1/seed-0/"' in (out / "index.html").read_text()


def test_a_run_of_one_fold_says_nothing_of_folds(finished):
    out, report, _ = finished
    assert "fold" not in json.dumps(report) and "sealed" not in json.dumps(report)
    assert "fold" not in (out / "run.json").read_text() and not list(out.glob("fold-*"))


def test_every_choice_on_val_stands_beside_the_run(folded):
    out, report = folded
    choices = json.loads((out / "choices.json").read_text())["choices"]
    for choice in choices:
        assert choice["chosen"] == max(choice["candidates"], key=choice["candidates"].get)
    for name, method in report["methods"].items():
        for entry in method["seeds"]:
            mine = [c for c in choices if (c["method"], c.get("seed"), c.get("fold")) == (name, entry["seed"], entry["fold"])]
            assert [c["choice"] for c in mine] == ["lda: dimensions", "verifier", "logistic: strength C", "attacker"]
            assert mine[-1]["chosen"] == entry["retrained"]["worst_attacker"]
        over_all = [c for c in choices if c["method"] == name][-1]
        assert over_all["candidates"] == method["retrained"]["attackers_val"] and "seed" not in over_all


def test_sealed_people_are_opened_by_one_command_that_counts(folded, more_faces, tmp_path, monkeypatch, capsys):
    out = tmp_path / "paper"
    shutil.copytree(folded[0], out)
    before = content(out)
    real = run.audit
    monkeypatch.setattr(run, "audit", lambda *_, **__: pytest.fail("killed"))
    with pytest.raises(pytest.fail.Exception):
        unseal(out, more_faces, device=CPU, progress=False)
    monkeypatch.setattr(run, "audit", real)
    monkeypatch.setattr(cli, "_load", lambda *_: more_faces)
    assert cli.main(["unseal", str(out), "--device", "cpu", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "THE SEAL IS BROKEN: these 26 people were opened 2 times so far" in said and "| AIA\\T |" in said
    killed, opening = json.loads((out / "sealed.json").read_text())["openings"]
    assert (killed["opened_before"], killed["methods"]) == (0, None), "one that was stopped counts, too"
    assert opening["opened_before"] == 1 and opening["provenance"]["date"] and "git" in opening["provenance"]
    assert opening["provenance"]["command"] == f"aia unseal {out.name} --device cpu --quiet"
    for name, method in opening["methods"].items():
        assert method["data"]["test_people"] == 26
        for entry, of_run in zip(method["seeds"], folded[1]["methods"][name]["seeds"], strict=True):
            assert entry["fold"] == of_run["fold"]
            assert entry["retrained"]["attackers_val"] == of_run["retrained"]["attackers_val"], "the same attackers ..."
            assert entry["retrained"]["attackers"] != of_run["retrained"]["attackers"], "... on other people"
    assert content(out) == before | {"sealed.json": (out / "sealed.json").read_bytes()}, "the run is as it was"


def test_what_cannot_be_unsealed(finished, folded, faces, more_faces, tmp_path, without_training):
    with pytest.raises(UserError, match="Nobody is sealed in the run .* aia run --sealed 0.1"):
        unseal(finished[0], faces)
    out = tmp_path / "paper"
    shutil.copytree(folded[0], out)
    with pytest.raises(UserError, match=r"\(other faces: another data set"):
        unseal(out, faces)
    with pytest.raises(UserError, match=r"\(split_seed was 0, is 2\)"):
        unseal(out, dataclasses.replace(more_faces, split_seed=2))
    (out / "sealed.json").write_text("{")
    with pytest.raises(UserError, match="sealed.json is damaged .* how often the sealed people were opened"):
        unseal(out, more_faces)
    with pytest.raises(UserError, match="holds no finished run"):
        unseal(tmp_path, more_faces)


def test_a_method_of_a_fold_is_not_audited_on_another_deal_of_the_people(folded, capsys):
    method = str(folded[0] / "fold-1" / "seed-0" / "AIA")
    for deal in ([], ["--fold", "1"], ["--sealed", "0.2"]):
        assert cli.main(["audit", method, "--size", "16", *deal]) == 2
        assert "was trained in fold 1 with a share of 0.2 of the people sealed" in (error := capsys.readouterr().err)
        assert error.endswith("give --fold 1 --sealed 0.2.\n")


@pytest.mark.parametrize(
    ("deal", "message"),
    [
        ({"folds": 0}, "The number of folds must be a whole number of at least 1, not 0"),
        ({"sealed": 0.1}, "Too few people for an audit: the sealed share of 0.1 has"),
        ({"sealed": 2}, "less than 1, not 2"),
    ],
)
def test_deals_that_cannot_be_are_refused_before_anything_is_written(more_faces, tmp_path, deal, message, without_training):
    with pytest.raises(UserError, match=message):
        paper(more_faces, tmp_path / "out", **deal)
    assert not (tmp_path / "out").exists()


# -------------------------------------------------------------------------------------------------------------------- resuming


def test_resuming_a_finished_run_gives_its_figures_without_training(finished, faces, monkeypatch, without_training):
    out, report, _ = finished
    monkeypatch.setattr(run.plots, "save_picture", lambda *_: None)  # leaves those that there are
    again, said = paper(faces, out, resume=True)
    assert again["methods"] == report["methods"] and again["settings"] == report["settings"]
    assert again["provenance"]["seconds"] >= report["provenance"]["seconds"], "the time of all its sessions"
    assert not any("training" in line and "classifier" not in line or "auditing" in line for line in said)


def test_more_seeds_are_added_to_those_there_are(finished, faces, tmp_path, without_pictures):
    first, report, _ = finished
    out = tmp_path / "paper"
    shutil.copytree(first, out)
    both, said = paper(faces, out, seeds=(0, 1), resume=True)
    trained = [line for line in said if ": training" in line or ": auditing" in line]
    assert len(trained) == 8 and all(line.startswith("seed 1: ") for line in trained)
    assert both["provenance"]["seeds"] == [0, 1]
    for name, method in both["methods"].items():
        assert method["seeds"][0] == report["methods"][name]["seeds"][0] and method["seeds"][1]["seed"] == 1
        leaks = [entry["retrained"]["leak_auc"] for entry in method["seeds"]]
        assert method["retrained"]["leak_auc"] == pytest.approx(np.mean(leaks))
    assert both["methods"]["Original"]["seeds"][0]["retrained"] != both["methods"]["Original"]["seeds"][1]["retrained"]

    images = to_images(faces.images[:3], CPU)
    before = before_and_after(out, images)[0]
    paper(faces, out, seeds=(1,), resume=True)
    _, readers, rebuilt = before_and_after(out, images)
    assert torch.equal(rebuilt, decoded(out / "seed-1" / "AIA", images)), "of another first seed, other models ..."
    g = load_anonymizer(out / "seed-1" / "AIA", CPU)(images)
    assert np.array_equal(before_and_after(out, images)[0]["after"], readers["after"].probabilities(g))
    assert readers["after"].test_auc["glasses"] != 0 and not np.array_equal(before["after"], readers["after"].probabilities(g))
    assert (out / "seed-1" / "readers" / "after.json").exists(), "... and the readers that were trained on what they release"


def decoded(folder: Path, images: torch.Tensor) -> torch.Tensor:
    anonymizer = load_anonymizer(folder, CPU)
    return anonymizer.decode(anonymizer(images))


FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["pytest", "aia_lib.run"])


def run_in_a_process(connection: Connection, faces: Faces, out: Path) -> None:
    torch.set_num_threads(1)
    stage.SAVE_EVERY = 0
    run._Run.figures = lambda *_: {}
    run.plots.save_picture = blank
    released.fit_verifier = QUICK_VERIFIER
    connection.send("ready")
    paper(faces, out, resume=True, **DEAL)


def test_a_run_killed_at_random_moments_ends_with_the_same_figures(folded, more_faces, tmp_path):
    out, rng, killed = tmp_path / "paper", np.random.default_rng(), 0
    while True:
        ours, theirs = FORKS.Pipe()
        process = FORKS.Process(target=run_in_a_process, args=(theirs, more_faces, out))
        process.start()
        theirs.close()
        assert ours.poll(600) and ours.recv() == "ready"
        process.join(rng.uniform(0.02, 0.3 + killed) if killed < 3 else 600)
        if process.exitcode is None:
            process.kill()
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        killed += 1
    assert killed >= 2
    report = ledger.read(out / "report.json")
    assert report["methods"] == folded[1]["methods"]
    assert (out / "choices.json").read_bytes() == (folded[0] / "choices.json").read_bytes()
    for fold in ("", "fold-1"):
        assert_same_weights(out / fold, folded[0] / fold)


def assert_same_weights(out: Path, other: Path) -> None:
    """Bit for bit: anonymizer.json holds their hash."""
    for folder in FOLDERS.values():
        name = f"seed-0/{folder}/anonymizer.json"
        assert (out / name).read_bytes() == (other / name).read_bytes()


def test_ctrl_c_is_passed_on_and_the_run_goes_on_from_there(finished, faces, tmp_path, monkeypatch, without_pictures):
    out, log, steps = tmp_path / "paper", Stage.log, []

    def interrupted(stage: Stage, **values) -> None:
        log(stage, **values)
        steps.append(stage.name)
        if len(steps) < 99 and steps.count("finetune-without-task") == 1:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Stage, "log", interrupted)
    # what an audit finds is seen in the test above; here it may be had from the other run
    monkeypatch.setattr(
        run, "audit", lambda method, *_, **__: AuditReport.load(finished[0] / "seed-0" / f"audit-{FOLDERS[method.name]}.npz")
    )
    with pytest.raises(KeyboardInterrupt):
        paper(faces, out)
    assert set(steps) == {"autoencoder", "adversary", "siamese", "finetune-without-task"} and steps[-2] == "siamese"
    steps[:] = ["siamese"] * 99  # no further interruption
    paper(faces, out, resume=True)
    assert set(steps[99:]) == {"finetune-without-task", "siamese-without-task", "finetune"}, "what was finished was not trained again"
    assert_same_weights(out, finished[0])


# ------------------------------------------------------------------------------------------------------------------- refusals


def test_a_run_is_not_written_over(finished, faces, without_training):
    out = finished[0]
    before = content(out)
    with pytest.raises(UserError, match="already holds a run. Add --resume to go on with it, or choose another --out"):
        paper(faces, out)
    assert content(out) == before


def test_another_run_is_not_mixed_into_it(finished, folded, faces, more_faces, toy_faces, without_training):
    out = finished[0]
    before = content(out)
    other = dataclasses.replace(TINY, finetune=dataclasses.replace(TINY.finetune, beta=0.7))
    with pytest.raises(UserError, match=r"holds another run \(finetune.beta was 0.5, is 0.7\). Use its settings, or choose another --out"):
        paper(faces, out, resume=True, profile=other)
    with pytest.raises(UserError, match=r"\(attribute was 'gender', is 'glasses'\)"):
        paper(faces, out, resume=True, attribute="glasses")
    with pytest.raises(UserError, match=r"\(audit.attackers was \['logistic'\], is \['logistic', 'mlp'\]\)"):
        two = dataclasses.replace(TINY.audit, attackers=("logistic", "mlp"))
        paper(faces, out, resume=True, profile=dataclasses.replace(TINY, audit=two))
    with pytest.raises(UserError, match=r"holds another run \(other faces: another data set"):
        paper(toy_faces(people=104, images=2, size=16, seed=1), out, resume=True)
    with pytest.raises(UserError, match=r"\(split_seed was 0, is 2\)"):
        paper(dataclasses.replace(faces, split_seed=2), out, resume=True)
    with pytest.raises(UserError, match=r"\(folds was None, is 2"):
        paper(faces, out, resume=True, folds=2)
    with pytest.raises(UserError, match=r"\(folds was 2, is 3; sealed was 0.2, is 0.25\)"):
        paper(more_faces, folded[0], resume=True, folds=3, sealed=0.25)
    assert content(out) == before


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX locks")
def test_two_runs_do_not_write_one_folder(finished, faces, without_training):
    out = finished[0]
    before = content(out)
    with locked(out, "held"), pytest.raises(UserError, match=f"Another process is writing its run into {out}. Wait until it ends, stop it"):
        paper(faces, out, resume=True)
    assert content(out) == before


@pytest.mark.parametrize("resume", [False, True])
def test_a_foreign_folder_is_left_alone(faces, tmp_path, resume, without_training):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UserError, match="is not empty and holds no run. Choose another --out"):
        paper(faces, tmp_path, resume=resume)
    with pytest.raises(UserError, match="a file in the place of a folder"):
        paper(faces, tmp_path / "thesis.tex", resume=resume)
    assert content(tmp_path) == {"thesis.tex": b"precious"}


def test_an_empty_folder_and_what_a_kill_in_the_first_moment_left_are_no_obstacle(faces, tmp_path, monkeypatch):
    def stop(*_) -> None:
        raise InterruptedError

    monkeypatch.setattr(run._Run, "seed", stop)
    (tmp_path / ".run.json.abc.part").write_text("{")
    with pytest.raises(InterruptedError):
        paper(faces, tmp_path, attribute="glasses", profile=dataclasses.replace(TINY, size=64))
    saved = json.loads((tmp_path / "run.json").read_text())["run"]
    assert saved["attribute"] == "glasses" and saved["size"] == 16, "the faces say of which size they are"


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"seconds": 1}'])
def test_a_damaged_run_is_named(faces, tmp_path, damage, without_training):
    (tmp_path / "run.json").write_text(damage)
    with pytest.raises(UserError, match=r"run.json is damaged .*; choose another --out, or remove that folder"):
        paper(faces, tmp_path, resume=True)
    assert content(tmp_path) == {"run.json": damage.encode()}


def test_a_damaged_part_of_a_run_is_named(finished, faces, tmp_path, without_training):
    out = tmp_path / "paper"
    shutil.copytree(finished[0], out)
    (out / "seed-0" / "audit-AIA.npz").write_bytes(b"half")
    with pytest.raises(UserError, match="audit-AIA.npz is not a saved audit report .* Remove it to audit again"):
        paper(faces, out, resume=True)
    (weights,) = (out / "seed-0" / "AIA").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(UserError, match="AIA/anonymizer.json is damaged"):
        paper(faces, out, resume=True)


def test_too_few_people_are_refused_before_anything_is_written(toy_faces, tmp_path, without_training):
    with pytest.raises(UserError, match="Too few people for an audit"):
        paper(toy_faces(people=40, images=2, size=16), tmp_path / "out")
    with pytest.raises(UserError, match="no attribute 'age'"):
        paper(toy_faces(people=40, images=2, size=16), tmp_path / "out", attribute="age")
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------------------------------ what attackers read


def test_attributes_are_read_with_the_models_of_a_finished_run(finished, faces):
    out = finished[0]
    assert finished_report(out)["settings"]["size"] == 16
    images = to_images(faces.images[:5], CPU)
    probabilities, readers, rebuilt = before_and_after(out, images)
    assert list(probabilities) == list(readers) == ["before", "after"]
    for which, reader in readers.items():
        assert reader.attributes == ("gender", "glasses") and set(reader.test_auc) == {"gender", "glasses"}
        g = load_anonymizer(out / "seed-0" / {"before": "Original", "after": "AIA"}[which], CPU)(images)
        assert np.array_equal(probabilities[which], reader.probabilities(g)) and probabilities[which].shape == (5, 2)
    assert torch.equal(rebuilt, decoded(out / "seed-0" / "AIA", images)) and rebuilt.shape == images.shape


def test_attributes_are_not_read_without_a_finished_run(finished, tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match="holds no finished run .no report.json.; make one with: aia run"):
            before_and_after(folder, torch.zeros(1, 1, 16, 16))
    shutil.copy(finished[0] / "run.json", tmp_path)
    with pytest.raises(UserError, match="is not finished .no report.json.; go on with it"):
        finished_report(tmp_path)
    shutil.copy(finished[0] / "report.json", tmp_path)
    with pytest.raises(UserError, match="There is no saved anonymizer"):
        before_and_after(tmp_path, torch.zeros(1, 1, 16, 16))
    with pytest.raises(UserError, match=r"images of shape \(N, 1, 16, 16\)"):
        before_and_after(finished[0], torch.zeros(1, 1, 32, 32))
