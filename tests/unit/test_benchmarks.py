"""Every benchmark runs in a tiny setting and gives what it promises. Times are not judged."""

import dataclasses
import importlib
import inspect
import itertools
import json
import math
import sys

import numpy as np
import pytest
import torch
from tiny import TINY

from aia_lib.audit import DeepConfig
from aia_lib.config import PROFILES, AdversaryConfig, AuditConfig, AutoencoderConfig
from aia_lib.datasets import load_faces
from aia_lib.defences import HardenedAIA
from aia_lib.defences.settings import CompactConfig, HardenedConfig
from aia_lib.machine.files import UserError
from aia_lib.report.ledger import provenance
from aia_lib.training import train_adversary
from benchmarks import __main__ as command
from benchmarks import ablation, attributes, audit, autoencoder, common, difficulty, growth, loading, matched, memory, sweep, training

QUICK = AuditConfig(attackers=("logistic",), epochs=1, min_steps=1, pairs=100, bootstrap=20, controls=False)


def three_each(*arguments, **settings):
    """As `load_faces`, of the ten embedded images of each person three: an audit counts people."""
    faces = load_faces(*arguments, **settings)
    return faces.subset(np.arange(len(faces)) % 10 < 3)


def positive(*values):
    return all(isinstance(value, (int, float)) and math.isfinite(value) and value > 0 for value in values)


def test_the_plain_way_trains_what_the_library_trains():
    """A comparison of speeds is fair only where both ways learn the same: in float32 the losses of all stages agree."""
    figures = training.measure(size=16, images=160, epochs=2, warm_epochs=2, rounds=1)
    assert list(figures["stages"]) == ["adversary", "siamese", "finetune"]
    for stage in figures["stages"].values():
        own = stage["cpu"]
        assert len(own["loss_by_epoch"][training.PLAIN]) == 2
        np.testing.assert_allclose(own["loss_by_epoch"][training.PLAIN], own["loss_by_epoch"][training.FLOAT32], rtol=5e-3)
        assert max(own["relative_difference_of_loss"][training.FLOAT32]) < 5e-3
        assert positive(own["ratio"], own["ratio_float32"], *own["images_per_second"].values())
        first, second = own["loss_by_epoch"][training.PLAIN]
        assert abs(first / second - 1) > 5e-3, "curves that did not move would agree whatever the two ways did"


def test_autoencoder():
    figures = autoencoder.measure(size=16, images=64, epochs=1, warm_epochs=1)
    assert figures["images"] == 64 and len(figures["loss_by_epoch"]) == len(figures["plain_loss_by_epoch"]) == 1
    assert figures["relative_difference_of_float32_loss"][0] < 5e-3
    assert positive(figures["ratio"], figures["ratio_float32"])


def test_loading():
    figures = loading.measure(size=16, images=40, rounds=2)
    assert figures["images"] == 40 and figures["second_load"]["images"] == 800
    assert set(figures["seconds"]) == {"raw", "cached", "torchvision"} and all(len(own) == 2 for own in figures["seconds"].values())
    assert positive(*(figures[name] for name in figures if name.startswith("ratio_")), figures["second_load"]["peak_megabytes"])


def test_torchvision_reads_the_same_faces(tmp_path):
    """The two ways that `loading` compares give the same pixels (up to the library's rounding to a byte) and the same people."""
    base = common.as_celeba(tmp_path, 24, common.draw(tmp_path / "drawn", 20))
    faces = load_faces("celeba", base, size=16, cache=tmp_path / "cache", progress=False)
    layout = loading.locate("celeba", base)
    theirs = loading.Unchecked(
        loading.as_torchvision_wants(layout, tmp_path / "torchvision"),
        split="all",
        target_type="identity",
        transform=lambda image: loading.grey_square(image, 16),
    )
    assert len(theirs) == len(faces) == 24
    for row, (image, identity) in enumerate(theirs):
        # the library lets the JPEG decoder shrink a large picture by whole factors first, which smooths otherwise
        assert np.abs(image.numpy() - faces.images[row] / 255).mean() < 0.04
        assert np.abs(image.numpy() - faces.images[row - 1] / 255).mean() > 0.06
        assert faces.names[faces.identity[row]] == str(int(identity))


def test_a_copy_of_a_part_of_celeba_can_be_read_by_torchvision(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = common.as_celeba(tmp_path, 12, common.draw(tmp_path / "drawn", 12))
    for name in ("000003.jpg", "000007.jpg"):
        (base / "img_align_celeba" / name).unlink()
    (base / "list_bbox_celeba.txt").unlink()
    layout = loading.locate("celeba", base.relative_to(tmp_path))  # the links must hold wherever they lie
    theirs = loading.Unchecked(loading.as_torchvision_wants(layout, tmp_path / "torchvision"), split="all")
    assert len(theirs) == 10 and theirs[9][0].size == (178, 218)


def test_a_made_celeba_folder_holds_the_rendered_faces(tmp_path):
    """Its pictures are the faces, its labels theirs, and repeated faces are other people."""
    faces = load_faces("embedded", size=64, progress=False)
    base = common.as_celeba(tmp_path, 50, common.draw(tmp_path / "drawn", 20))
    made = load_faces("celeba", base, size=64, cache=tmp_path / "cache", progress=False)
    rows = np.arange(50) % 20
    assert np.abs(made.images.astype(float) - faces.images[rows]).mean() < 3
    assert np.abs(made.images.astype(float) - faces.images[rows[::-1]]).mean() > 10
    assert np.array_equal(made.labels(), faces.labels()[rows])
    assert made.people == 5  # faces 0-19 show two people; 20-39 two more; 40-49 one


def test_audit():
    figures = audit.measure(
        size=16, images=1000, counts=(1000,), parts=(4,), config=QUICK, complete=QUICK, deep=DeepConfig(parts=("levels",))
    )
    assert [(row["images"], row["k"]) for row in figures["rows"]] == [(1000, 48), (1000, 12)]
    assert figures["complete"]["k"] == 192 and positive(*(row["seconds"] for row in figures["rows"]))
    assert [row["k"] for row in figures["deep"]] == [12, 192] and positive(*(row["seconds"] for row in figures["deep"]))


def test_memory(monkeypatch):
    """Loading in a process of its own, as measured; a stage in this one, which holds torch already."""
    (load,) = memory.measure(size=16, counts=(500,), jobs=("load",))["rows"]
    monkeypatch.setattr(memory, "in_a_process", lambda function, *arguments: function(*arguments))
    (stage,) = memory.measure(size=16, counts=(500,), jobs=("finetune",))["rows"]
    assert (load["job"], load["images"], stage["job"], stage["images"]) == ("load", 500, "finetune", 500)
    assert 10 < load["peak_megabytes"] < stage["peak_megabytes"], "loading needs neither torch nor the networks"


def test_growth(monkeypatch):
    monkeypatch.setattr(growth, "AUDITED", 1000)
    figures = growth.measure(size=16, counts=(1000, 1200), steps=2, config=QUICK)
    rows = figures["rows"]
    assert {row["job"] for row in rows} == {growth.FIRST_LOAD, growth.SECOND_LOAD, growth.AUDIT, *growth.STAGES}
    assert all(positive(row["seconds"]) and row["images"] in (1000, 1200) for row in rows)
    for row in rows:
        if row["job"] in growth.STAGES:
            batch = figures["batch_sizes"][row["job"]] * (2 if row["job"] == "finetune" else 1)
            assert row["steps"] == figures["train_share"] * row["images"] // batch and row["measured_steps"] == 2
    assert set(figures["slopes"]) == {row["job"] for row in rows} - {growth.AUDIT}, "a slope needs two points"


def test_an_epoch_that_is_cut_short_is_counted_in_full():
    """Where an epoch has no more steps than are timed, it runs to its end; the networks that are timed are the caller's own no more."""
    faces = load_faces("embedded", size=16, limit=160, progress=False)
    profile = dataclasses.replace(PROFILES["book"], size=16)
    whole = growth.part_of_an_epoch("adversary", faces, profile, torch.device("cpu"), 100)
    cut = growth.part_of_an_epoch("adversary", faces, profile, torch.device("cpu"), 1)
    assert whole["steps"] == whole["measured_steps"] == cut["steps"] == 160 // profile.adversary.batch_size
    assert cut["measured_steps"] == 1 and positive(cut["seconds"], whole["seconds"])
    nets = common.Networks(16)
    history = train_adversary(faces, nets.adversary, nets.encode, dataclasses.replace(profile.adversary, epochs=1), progress=False)
    assert len(history["adversary"]) == 1, "the stages log again"


def test_slopes_are_those_of_the_last_decade():
    counts = (10, 100, 1000, 4000, 10000)
    rows = [{"job": "a", "device": "cpu", "images": n, "seconds": 5.0 if n < 1000 else 1e-3 * n**1.5} for n in counts]
    assert growth.slopes(rows) == {"a": {"cpu": 1.5}}


def test_sweep(monkeypatch):
    monkeypatch.setattr("aia_lib.scale.engines.cores", lambda: 1)  # in this process, on one thread, as one by one
    monkeypatch.setattr(sweep, "STACKS", {"cpu": (2,)})
    stacked = sweep.stacked
    monkeypatch.setattr(sweep, "stacked", lambda train, *rest: stacked(train.subset(np.arange(128)), *rest))
    fast = PROFILES["fast"]
    stages = ("autoencoder", "adversary", "siamese", "finetune")
    short = {stage: dataclasses.replace(getattr(fast, stage), epochs=1, batch_size=64) for stage in stages}
    profile = dataclasses.replace(fast, **short)
    figures = sweep.measure(size=16, images=1000, betas=(0.5,), config=QUICK, rounds=1, profile=profile)
    assert figures["points"] == len(figures["leak_auc_of_the_sweep"]) == len(figures["leak_auc_one_by_one"]) == 1
    assert figures["leak_auc_of_the_sweep"] == pytest.approx(figures["leak_auc_one_by_one"], abs=0.02), "the same training and audit"
    assert positive(figures["ratio"], *figures["finetuning"]["cpu"]["ratio"].values())


def test_difficulty(monkeypatch):
    monkeypatch.setattr(difficulty, "REGIONS", difficulty.REGIONS[:2])
    figures = difficulty.measure(size=16, images=1000, readers=("logistic",), config=QUICK)
    value, low, high = figures["attribute_auc"]["all"]["logistic"]
    assert 0 <= low <= value <= high <= 1 and set(figures["verification_auc"]) == {"lda", "siamese"}


def test_rounds_go_back_and_forth():
    order = []
    seconds, results = common.in_turn({name: lambda name=name: order.append(name) or name for name in "ab"}, 3)
    assert "".join(order) == "abbaab" and results == {"a": "a", "b": "b"} and [len(own) for own in seconds.values()] == [3, 3]
    assert common.ratio({"slow": [8.0, 2.0, 4.0], "fast": [1.0, 2.0, 100.0]}, "slow", "fast") == 2.0


def test_a_process_that_fails_says_why():
    with pytest.raises(RuntimeError, match="no_such_file"):
        common.in_a_process(memory.load, "no_such_file", "cache", 16)


def test_the_command_writes_figures_with_their_provenance(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("AIA_CELEBA_ROOT", raising=False)
    monkeypatch.setattr(sys, "argv", ["benchmarks"])
    out = tmp_path / "loading.json"
    assert command.main(["loading", "--images", "30", "--size", "16", "--out", str(out)]) == 0
    written = json.loads(out.read_text())
    assert set(written) == {"provenance", "figures"} and set(written["provenance"]) == set(provenance("", [0], "", 0))
    assert written["provenance"]["command"] == "python -m benchmarks loading --images 30 --size 16 --out loading.json"
    assert written["provenance"]["data"] == "embedded" and written["figures"]["images"] == 30
    assert str(tmp_path) not in out.read_text()
    assert "ratio_torchvision_to_cached" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, said",
    [
        (["growth", "--data", "embedded"], "takes no --data"),
        (["autoencoder", "--data", "celeba"], "Say where CelebA lies"),
        (["loading", "--images", "0"], "positive number"),
        (["--images", "10"], "name of a benchmark"),
        (["loading", "--root", "nowhere"], "there is no such folder"),
    ],
)
def test_what_the_command_refuses(words, said, monkeypatch, capsys):
    monkeypatch.delenv("AIA_CELEBA_ROOT", raising=False)
    assert command.main(words) == 2
    assert said in capsys.readouterr().err


def test_every_name_is_a_benchmark():
    for name in command.BENCHMARKS:
        known = inspect.signature(importlib.import_module(f"benchmarks.{name}").measure).parameters
        options = {"images"} if name in command.OF_TEMPLATES else {"size", "images"}  # templates have no size
        assert options <= set(known) and all(known[option].default is not inspect.Parameter.empty for option in known)


def test_make_bench_runs_all_and_names_those_that_fail(tmp_path, monkeypatch, capfd):
    ran = []

    class Ended:
        returncode = 0

    def run(words, **options):
        ran.append(words[3:])
        ended = Ended()
        ended.returncode = int(words[3] == "audit")
        return ended

    monkeypatch.setattr(command.subprocess, "run", run)
    assert command.main(["--out", str(tmp_path)]) == 1
    assert [words[0] for words in ran] == ["autoencoder", "training", "loading", "audit", "memory", "growth", "sweep"]
    assert all(words[1:] == ["--out", str(tmp_path / f"{words[0]}.json")] for words in ran)
    assert "failed: audit." in capfd.readouterr().err


def test_the_ablation_switches_off_one_part_at_a_time():
    config = HardenedConfig(CompactConfig(k=8))
    methods = ablation.ablation(config)
    full = methods["all parts"].config
    assert full == config
    for name, method in methods.items():
        assert method.name == f"HardenedAIA, {name}"
        changed = {
            f.name for f in dataclasses.fields(CompactConfig) if getattr(method.config.compact, f.name) != getattr(full.compact, f.name)
        }
        changed |= {name for name in ("erasers", "mu") if getattr(method.config, name) != getattr(full, name)}
        if name.startswith("without"):
            assert len(changed) == 1, (name, changed)
        assert bool(changed) == (name != "all parts")
    assert HardenedAIA().name == "HardenedAIA" and len({repr(m.config) for m in methods.values()}) == len(methods)


def test_ablation_gives_every_variant_a_leak_and_a_utility_on_the_same_people(monkeypatch):
    monkeypatch.setattr(ablation, "get_profile", lambda: TINY)
    monkeypatch.setattr(ablation, "load_faces", three_each)
    small = HardenedConfig(CompactConfig(k=8, width=4, epochs=1, min_steps=2, decoder_epochs=0, batch_size=32))
    light = AuditConfig(attackers=("logistic",), epochs=1, min_steps=1, pairs=200, bootstrap=20, controls=False)
    figures = ablation.measure("embedded", size=16, images=1200, config=small, audits=light, shares=(2, 4))
    methods = figures["methods"]
    assert list(methods) == ["Original", *ablation.ablation(small)] and figures["settings"]["compact"]["k"] == 8
    for name, row in methods.items():
        for low, middle, high in ((row[key][1], row[key][0], row[key][2]) for key in ("leak", "utility")):
            assert 0 <= low <= middle <= high <= 1, name
        assert row["worst_attacker"] == "logistic" and ("leak_removed" in row) == (name != "Original")
        assert ("leak_change" in row) == (name not in ("Original", "all parts"))
        if "leak_change" in row:
            assert row["leak_change"][0] == pytest.approx(row["leak"][0] - methods["all parts"]["leak"][0], abs=2e-4)
    rows = figures["fewer_people"]
    everybody = rows[0]["people"]
    assert [row["people"] for row in rows] == [everybody, everybody // 2, everybody // 4]
    assert rows[0]["leak"] == methods["all parts"]["leak"] and all(a["images"] > b["images"] for a, b in itertools.pairwise(rows))
    expected = (methods["Original"]["utility"][0] - 0.5, methods["all parts"]["utility"][0] - 0.5)
    assert methods["all parts"]["utility_kept"] == pytest.approx(expected[1] / expected[0], abs=0.01)


def test_readings_of_the_paper_are_matched_by_what_their_own_adversary_loses(tmp_path, monkeypatch):
    monkeypatch.setattr(matched, "READINGS", (("latent", "frozen"), ("latent", "alternating")))
    light = AuditConfig(attackers=("logistic",), epochs=1, min_steps=1, pairs=200, bootstrap=20, controls=False)
    longer = {"autoencoder": AutoencoderConfig(3, 16, 3e-3), "adversary": AdversaryConfig("mlp", 8, 16)}
    quick = dataclasses.replace(TINY, **longer)
    settings = {"size": 16, "images": 1200, "profile": quick, "audits": light, "betas": (0.0, 2.0), "seeds": (0,), "folder": tmp_path}
    figures = matched.measure("embedded", **settings)
    assert figures["wanted"] == pytest.approx(0.4659, abs=1e-4)
    assert list(figures["readings"]) == ["latent, frozen", "latent, alternating"]
    for row in figures["readings"].values():
        falls = {float(beta): fall for beta, fall in row["falls_on_val"].items()}
        assert row["beta"] == min(falls, key=lambda beta: abs(falls[beta] - figures["wanted"]))
        assert all(0 <= low <= middle <= high <= 1 for release in ("g", "rebuilt") for middle, low, high in [row[release]["leak"]])
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert matched.measure("embedded", **settings) == figures
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}, "nothing is trained or audited again"
    monkeypatch.setattr(matched, "READINGS", (("image", "frozen"),))
    with pytest.raises(UserError, match="'image, frozen' reads nothing"):  # this auto-encoder rebuilds too little to read
        matched.measure("embedded", **settings)


def test_attributes_are_each_audited_for_every_set_that_is_hidden(monkeypatch):
    monkeypatch.setattr(attributes, "get_profile", lambda: TINY)
    monkeypatch.setattr(attributes, "load_faces", three_each)
    monkeypatch.setattr(attributes, "ATTRIBUTES", {"embedded": ("gender", "young", "smiling")})
    small = HardenedConfig(CompactConfig(k=8, width=4, epochs=1, min_steps=2, decoder_epochs=0, batch_size=32))
    light = AuditConfig(attackers=("logistic",), epochs=1, min_steps=1, pairs=400, bootstrap=20, controls=False)
    figures = attributes.measure("embedded", size=16, images=2400, config=small, audits=light)
    names = attributes.ATTRIBUTES["embedded"]
    assert [row["hidden"] for row in figures["methods"].values()] == [[], ["gender"], ["gender", "young"], list(names)]
    for row in figures["methods"].values():
        assert list(row["attributes"]) == list(names) and {"gender", "young", "gender | young = 1"} <= set(row["together"]["leaks"])
        for own in (*(row["attributes"][name]["leak"] for name in names), row["utility"]):
            assert 0 <= own[1] <= own[0] <= own[2] <= 1
        assert set(row["errors"]["rates"]) == {"0", "1"}
    original = figures["methods"]["Original"]["attributes"]
    assert original["gender"]["leak"][0] > 0.6, "what nobody hides can be read"
    assert list(figures["all_attributes"]) == [name for name in figures["methods"] if name != "Original"]
    assert all(set(names) <= set(own) for own in figures["all_attributes"].values())
