"""The audit's claims: it finds what leaks, nothing where nothing does, keeps its two regimes apart, and refuses what cannot be audited."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.ensemble import RandomForestClassifier
from torch import Tensor, nn

from aia_lib import ledger
from aia_lib.attackers import ATTACKERS, Logistic
from aia_lib.audit import AuditReport, DeepConfig, audit, represent
from aia_lib.config import AuditConfig
from aia_lib.faces import Faces
from aia_lib.machine.files import UserError
from aia_lib.statistics import roc_auc

QUICK = AuditConfig(attackers=("logistic", "svm_rbf"), epochs=2, min_steps=40, pairs=400, bootstrap=200, controls=False)


def pixels(images: Tensor) -> Tensor:
    return images.flatten(1)


def with_networks(adversary: Callable | None = None, siamese: Callable | None = None, **more: object) -> Callable:
    """`pixels` with the networks that were trained with it."""

    def shown(images: Tensor) -> Tensor:
        return images.flatten(1)

    vars(shown).update(adversary=adversary, siamese=siamese, **more)
    return shown


@pytest.fixture(scope="module")
def faces(toy_faces: Callable[..., Faces]) -> Faces:
    return toy_faces(people=150, images=3, size=16)


@pytest.fixture(scope="module")
def report(faces: Faces) -> AuditReport:
    return audit(pixels, faces, seeds=2, config=QUICK, progress=False)


def coded_faces(people: int = 300, images: int = 4, missing: int = 0) -> Faces:
    """Images that say outright what a face would show: pixel 0 the label, 1 and 2 the person's number, 3 and 4 the image's."""
    rng = np.random.default_rng(0)
    n = people * images
    identity = np.repeat(np.arange(people), images)
    label = (rng.permutation(people) % 2)[identity]
    pixel = np.zeros((n, 256), dtype=np.uint8)
    row = np.arange(n)
    for column, value in enumerate((label * 255, identity // 256, identity % 256, row // 256, row % 256)):
        pixel[:, column] = value
    label = np.where(np.arange(n) < missing, -1, label).astype(np.int8)
    return Faces(pixel.reshape(n, 1, 16, 16), identity, {"gender": label}, "gender", "coded faces", "CC0")


def decoded(images: Tensor) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Label (N,), person and image numbers of coded images, mirrored or not."""
    code = (images.flatten(2)[:, 0] * 255).round().long()
    mirrored = (code[:, :5] == 0).all(1) & (code.sum(1) > 0)
    first = torch.where(mirrored[:, None], images.flip(3).flatten(2)[:, 0].mul(255).round().long()[:, :5], code[:, :5])
    return (first[:, 0] > 0).float(), (first[:, 1] * 256 + first[:, 2]).numpy(), (first[:, 3] * 256 + first[:, 4]).numpy()


# What it finds --------------------------------------------------------------------------------------------------------


def test_pixels_leak_the_attribute_and_verify_people(report: AuditReport) -> None:
    retrained = report.retrained
    assert retrained["leak_auc"] > 0.85 and retrained["leak_balanced_accuracy"] > 0.75
    assert retrained["utility_auc"] > 0.7 and retrained["utility_accuracy"] > 0.6
    for figure in ("leak_auc", "utility_auc", "utility_auc_same"):
        low, high = retrained[f"{figure}_ci"]
        assert 0 <= low < retrained[figure] < high <= 1 and high - low < 0.3
    assert retrained["impostor_pairs"] > 300 and not any(key.startswith("tar_at_far") for key in retrained)
    low, high = retrained["fnmr_at_fmr_1e-1_ci"]
    assert 0 < low < retrained["fnmr_at_fmr_1e-1"] < high < 0.9 and retrained["fnmr_at_fmr_1e-1"] < retrained["fnmr_at_fmr_1e-1_same"]
    assert retrained["fnmr_at_fmr_1e-1"] <= retrained["fnmr_at_fmr_1e-2"] <= 1
    assert "fnmr_at_fmr_1e-4" not in retrained  # fewer than 300,000 pairs
    words = f"not measured: only {int(retrained['impostor_pairs'] / 10_000)} impostor pairs carry it"
    assert words in next(line for line in str(report).splitlines() if "genuine refused at FMR 0.01 %" in line)
    assert report.paper is None and report.controls["majority_accuracy"] == pytest.approx(0.5, abs=0.1)


def test_independent_noise_leaks_and_verifies_nothing(faces: Faces) -> None:
    rng = np.random.default_rng(0)

    def noise(images: Tensor) -> np.ndarray:  # numpy in float64 is welcome
        return rng.normal(size=(len(images), 20))

    retrained = audit(noise, faces, seeds=2, config=dataclasses.replace(QUICK, attackers=()), progress=False).retrained
    for figure in ("leak_auc", "utility_auc", "utility_auc_same"):
        low, high = retrained[f"{figure}_ci"]
        assert low - 0.03 < 0.5 < high + 0.03, figure
    assert "cnn" not in retrained["attackers"] and len(retrained["attackers"]) == 6


def test_known_auc_lies_in_the_interval() -> None:
    """Two Gaussian classes with d' = 1.5 have AUC = Phi(1.5 / 2^1/2) = 0.856, whatever the attacker; the noise clusters by person."""
    faces = coded_faces()
    own = np.random.default_rng(1).normal(0, 0.6**0.5, len(faces))

    def gaussian(images: Tensor) -> np.ndarray:
        label, person, image = decoded(images)
        noise = np.array([np.random.default_rng(int(i)).normal(0, 0.4**0.5) for i in image])
        return (1.5 * label.numpy() + own[person] + noise)[:, None]

    retrained = audit(gaussian, faces, seeds=1, config=QUICK, progress=False).retrained
    low, high = retrained["leak_auc_ci"]
    assert low < norm.cdf(1.5 / 2**0.5) < high
    assert high - low < 0.2


def test_a_representation_of_the_label_alone_verifies_free_impostors_only() -> None:
    """The paper's utility can be earned by the attribute: 75 % accuracy for free impostors, a coin for those of the same label."""

    def label_only(images: Tensor) -> Tensor:
        label, _, image = decoded(images)
        jitter = torch.tensor([np.random.default_rng(int(i)).normal(0, 0.05) for i in image])
        return torch.stack([label, jitter.float()], dim=1)

    report = audit(label_only, coded_faces(), seeds=1, config=QUICK, progress=False)
    assert report.retrained["utility_auc"] > 0.68
    assert abs(report.retrained["utility_auc_same"] - 0.5) < 0.08
    assert report.controls["gender_only_verification_accuracy"] == pytest.approx(0.75, abs=0.04)
    assert report.retrained["leak_auc"] > 0.99


def test_controls_find_nothing_in_shuffled_labels_and_much_in_an_untrained_encoder(faces: Faces) -> None:
    report = audit(pixels, faces, seeds=1, config=dataclasses.replace(QUICK, controls=True), progress=False)
    assert abs(report.controls["shuffled_labels_auc"] - 0.5) < 0.2  # 30 people: chance alone scatters by 0.1
    assert report.controls["untrained_encoder_auc"] > 0.8


def test_every_family_runs_where_there_are_a_map_and_a_decoder(faces: Faces) -> None:
    class Pooled:
        name = "pooled"
        map_shape = (1, 8, 8)

        def __call__(self, images: Tensor) -> Tensor:
            return nn.functional.avg_pool2d(images, 2).flatten(1)

        def decode(self, g: Tensor) -> Tensor:
            return nn.functional.interpolate(g.unflatten(1, self.map_shape), scale_factor=8)  # larger than the images: averaged down

    report = audit(Pooled(), faces, seeds=1, config=dataclasses.replace(QUICK, attackers=(), min_steps=20), progress=False)
    assert report.name == "pooled" and set(report.retrained["attackers"]) == set(ATTACKERS) and not report.notes


# The two regimes ------------------------------------------------------------------------------------------------------


def test_a_flipped_adversary_does_not_look_private() -> None:
    """At the threshold 0.5 its accuracy is near 0; turned round it knows everything, and the sign-free AUC says so."""
    faces = coded_faces()

    def flipped(g: Tensor) -> Tensor:
        return -(g[:, :1] - 0.5) + 0.01 * g[:, 1:2]

    def siamese(g: Tensor) -> Tensor:
        return g[:, 1:3]

    report = audit(with_networks(flipped, siamese), faces, seeds=1, config=QUICK, progress=False)
    assert report.paper["privacy_accuracy"] < 0.05
    assert report.paper["privacy_auc"] > 0.95 and report.paper["privacy_balanced_accuracy"] < 0.05
    assert report.paper["utility_auc"] > 0.95  # the person's number is in the pixels
    own = report.scores[0]
    assert roc_auc(own.adversary, own.labels) == pytest.approx(report.paper["privacy_auc"])


def test_the_regimes_are_kept_apart(faces: Faces, report: AuditReport) -> None:
    networks = {"adversary": lambda g: g.new_zeros(len(g)), "siamese": lambda g: g[:, :2]}
    constant = audit(with_networks(**networks), faces, seeds=2, config=QUICK, progress=False)
    assert constant.paper["privacy_auc"] == 0.5 and constant.retrained == report.retrained
    text = str(constant)
    assert text.index("PAPER REGIME") < text.index("RETRAINED REGIME") < text.index("CONTROLS")
    assert f"AUC {report.retrained['leak_auc']:.3f}" in text and "co-trained adversary" in text
    assert "no co-trained networks" in str(report)
    assert max(map(len, text.splitlines())) <= 120
    other = audit(with_networks(**networks, attribute="age"), faces, seeds=[0], config=QUICK, progress=False)
    assert set(other.paper) == {key for key in constant.paper if key.startswith("utility")}, "its adversary reads another attribute"


# Attackers that fail --------------------------------------------------------------------------------------------------


class Broken(Logistic):
    def fit(self, *_: object) -> None:
        raise ValueError("boom\nand more")


def test_a_crashing_attacker_of_the_readers_is_reported_and_the_audit_goes_on(faces: Faces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ATTACKERS, "broken", lambda config: Broken())
    config = dataclasses.replace(QUICK, attackers=("broken", "logistic", "cnn"))
    report = audit(pixels, faces, seeds=1, config=config, progress=False)
    assert report.retrained["worst_attacker"] == "logistic" and set(report.retrained["attackers"]) == {"logistic"}
    assert "broken failed: ValueError: boom." in report.notes
    assert any(note.startswith("cnn was left out: the representation is not a map") for note in report.notes)
    assert "boom" in str(report)


@pytest.mark.parametrize(
    ("module", "name", "part"),
    [
        ("attackers", "RBFSVM.fit", None),
        ("attackers", "TorchAttacker.score", "controls"),
        ("verification", "_fit_lda", None),
        ("verification", "_fit_siamese", None),
        ("audit.information", "_cheapest", "curve"),
        ("audit.creep", "_network", "creep"),
        ("audit.reconstruction", "_convolutional", "reconstruction"),
        ("attackers", "GalleryKNN.score", "adaptive"),
    ],
)
def test_what_crashes_in_the_library_fails_the_audit(
    faces: Faces, monkeypatch: pytest.MonkeyPatch, module: str, name: str, part: str | None
) -> None:
    """Noted and passed over, a defect of an attacker, of a verifier or of a further question would look like privacy."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a defect")

    *owner, attribute = name.split(".")
    home = importlib.import_module(f"aia_lib.{module}")
    monkeypatch.setattr(getattr(home, owner[0]) if owner else home, attribute, broken)
    config = dataclasses.replace(QUICK, controls=part == "controls")
    deep = None if part in (None, "controls") else DeepConfig(parts=(part,), attackers=("logistic",), decoder_steps=4, queries=2)
    with pytest.raises(ZeroDivisionError, match="a defect"):
        audit(with_networks(siamese=lambda g: g[:, :2]), faces, seeds=1, config=config, deep=deep, progress=False)


def test_attackers_of_ones_own_join_the_audit_and_one_that_fails_is_noted(faces: Faces) -> None:
    mixed = ["logistic", RandomForestClassifier(30), nn.Linear(7, 1), nn.Linear(256, 3)]
    report = audit(pixels, faces, seeds=2, config=QUICK, attackers=mixed, progress=False)
    assert set(report.retrained["attackers"]) == {"logistic", "RandomForestClassifier"}
    assert report.retrained["attackers"]["RandomForestClassifier"] > 0.75
    assert any(note.startswith("Linear failed: RuntimeError") for note in report.notes)
    assert any(note.startswith("Linear 2 failed: ValueError: the module must give one logit an image") for note in report.notes)
    with pytest.raises(UserError, match="no attacker 'psychic'"):
        audit(pixels, faces, attackers=["psychic"])


def test_an_audit_without_a_single_attacker_is_refused(faces: Faces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ATTACKERS, "broken", lambda config: Broken())
    with pytest.raises(UserError, match="No attacker could be trained.*broken: ValueError: boom"):
        audit(pixels, faces, seeds=1, config=dataclasses.replace(QUICK, attackers=("broken", "cnn")), progress=False)


def test_a_decoder_that_fails_costs_only_the_attack_on_it(faces: Faces) -> None:
    asked = []

    def decode(g: Tensor) -> Tensor:
        asked.append(len(g))
        raise RuntimeError("no weights")

    config = dataclasses.replace(QUICK, attackers=("logistic", "cnn_reconstruction"))
    report = audit(with_networks(decode=decode), faces, seeds=1, config=config, progress=False)
    assert any("cnn_reconstruction" in note and "no weights" in note for note in report.notes)
    for attackers, reads in ((["logistic", "cnn"], False), (["logistic", RandomForestClassifier(5)], True)):
        asked.clear()
        audit(with_networks(decode=decode), faces, seeds=1, config=QUICK, attackers=attackers, progress=False)
        assert bool(asked) == reads, "a reader's attacker may read the decoder's images; of the library's only one does"


# What it refuses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda x: x, r"shape \(N, k\), not \(\d+, 1, 16, 16\)"),
        (lambda x: x.flatten(1)[:-1], "one row for each of the"),
        (lambda x: x.flatten(1) / 0, "NaN or infinite"),
        (lambda x: x.double().flatten(1) * 1e300, "NaN or infinite"),
        (lambda x: (x.flatten(1) * 255).long(), "float tensor or numpy array, not a int64"),
        (lambda x: [1.0] * len(x), "not a list"),
        (lambda x: x.new_ones(len(x), 5), "the same representation for all"),
        (lambda x: 1 + 1e-7 * x.flatten(1).round(), "one representation for all images, but for rounding"),
        (lambda x: x.new_ones(len(x), 0), r"shape \(N, k\)"),
        (lambda x: x @ x.new_ones(3, 3), "failed on a batch of shape.*RuntimeError"),
        (lambda x: 1 / 0, "ZeroDivisionError: division by zero"),
        (with_networks(map_shape=(12, 8, 9)), r"map_shape \(12, 8, 9\).*256"),
        (with_networks(lambda g: g[:, :2]), "one logit an image"),
        (with_networks(lambda g: g[:, 0] / 0), "NaN or infinite"),
        (with_networks(lambda g: g @ g), "co-trained adversary failed"),
    ],
)
def test_what_an_anonymizer_must_not_return(faces: Faces, bad: Callable, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        audit(bad, faces, seeds=1, config=QUICK, progress=False)
    assert "\n" not in str(caught.value)


def test_a_module_is_run_in_eval_mode_and_given_back_as_it_was(faces: Faces) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Dropout(0.5))
    g = represent(module, faces.images[:10])
    assert module.training and np.allclose(g, faces.images[:10].reshape(10, -1) / np.float32(255))


def test_too_few_people_and_wrong_arguments_are_refused(faces: Faces, toy_faces: Callable[..., Faces]) -> None:
    with pytest.raises(UserError, match="Too few people for an audit: the test split has"):
        audit(pixels, toy_faces(people=40, images=3), seeds=1, config=QUICK, progress=False)
    tested = np.isin(faces.identity, faces.split().test.identity)
    one = dataclasses.replace(faces, attributes={**faces.attributes, "one": np.where(tested, faces.labels(), 0).astype(np.int8)})
    with pytest.raises(UserError, match="the attack split has one label of 'one' only"):
        audit(pixels, one, "one", seeds=1, config=QUICK, progress=False)
    with pytest.raises(UserError, match="no attribute 'age'.*gender"):
        audit(pixels, faces, attribute="age", config=QUICK)
    with pytest.raises(UserError, match="no attacker 'psychic'.*logistic"):
        audit(pixels, faces, config=dataclasses.replace(QUICK, attackers=("psychic",)))
    with pytest.raises(UserError, match="AuditConfig.pairs is 10.*at least 20"):
        audit(pixels, faces, config=dataclasses.replace(QUICK, pairs=10))
    for seeds in (0, [], [1, 1], [-1], "x"):
        with pytest.raises(UserError, match="seeds must be"):
            audit(pixels, faces, seeds=seeds, config=QUICK)


def test_reading_another_attribute_keeps_the_split_and_meets_nobody_of_train(faces: Faces) -> None:
    rng = np.random.default_rng(3)
    mirrored = rng.integers(0, 2, faces.identity.max() + 1)[faces.identity].astype(np.int8)  # of the person, and not gender
    both = dataclasses.replace(faces, attributes={**faces.attributes, "other": mirrored})
    shown: set[bytes] = set()

    def watching(images: Tensor) -> Tensor:
        shown.update((255 * image).round().to(torch.uint8).numpy().tobytes() for image in images)
        return images.flatten(1)

    report = audit(watching, both, "other", seeds=1, config=QUICK, progress=False)
    assert report.attribute == "other" and report.data["test_people"] == both.split().test.people
    splits = both.split()
    assert {image.tobytes() for image in splits.test.images} <= shown
    assert not {image.tobytes() for image in splits.train.images} & shown, "split by what is read, they would be among the tested"
    assert not {image.tobytes() for image in dataclasses.replace(both, attribute="other").split().test.images} <= shown


def test_images_without_a_label_are_left_out_of_the_attack_and_counted() -> None:
    faces = coded_faces(missing=100)
    report = audit(pixels, faces, seeds=1, config=QUICK, progress=False)
    unlabelled = {name: int((part.labels() < 0).sum()) for name, part in faces.split()._asdict().items()}
    for name in ("attack", "val", "test"):
        assert (f"{unlabelled[name]} images of {name} without a label" in " ".join(report.notes)) == (unlabelled[name] > 0)
    assert len(report.scores[0].labels) == report.data["test_images"] - unlabelled["test"]


# Reports --------------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_report(faces: Faces, report: AuditReport) -> None:
    again = audit(pixels, faces, seeds=[0, 1], config=QUICK, attackers=list(QUICK.attackers), progress=False)
    assert again.to_dict() == report.to_dict()


def test_merged_reports_are_means_over_seeds(faces: Faces, report: AuditReport) -> None:
    single = [audit(pixels, faces, seeds=[seed], config=QUICK, progress=False) for seed in (0, 1)]
    merged = AuditReport.merge(single)
    assert merged.to_dict() == report.to_dict()
    for figure in ("leak_auc", "utility_auc_same", "eer", "fnmr_at_fmr_1e-1"):
        values = [own.retrained[figure] for own in single]
        assert merged.retrained[figure] == pytest.approx(np.mean(values))
        assert [entry["retrained"][figure] for entry in merged.seeds] == values
    frame = merged.to_frame().set_index(["regime", "figure"])
    assert frame.loc[("retrained", "leak_auc"), "low"] == merged.retrained["leak_auc_ci"][0]
    assert frame.loc[("retrained", "eer"), "sd"] == pytest.approx(np.std([own.retrained["eer"] for own in single], ddof=1))
    with pytest.raises(UserError, match="different attribute"):
        AuditReport.merge([report, dataclasses.replace(report, attribute="glasses")])
    with pytest.raises(UserError, match="no audit reports"):
        AuditReport.merge([])


def test_folds_are_pooled_and_a_person_in_two_of_them_is_drawn_as_one(faces: Faces, report: AuditReport) -> None:
    other = audit(pixels, faces, seeds=[0], config=QUICK, splits=faces.split(fold=1), progress=False)
    merged = AuditReport.merge([report, other])
    assert [(entry["seed"], entry["fold"]) for entry in merged.seeds] == [(0, 0), (1, 0), (0, 1)]
    assert merged.retrained["leak_auc"] == pytest.approx(np.mean([entry["retrained"]["leak_auc"] for entry in merged.seeds]))
    assert "seeds 0, 1 of folds 0, 1" in str(merged) and "dealt out 2 times" in merged.notes[-1]
    assert set(other.scores[0].people) == set(faces.split(fold=1).test.identity) != set(report.scores[0].people)

    alone = AuditReport.merge([report])
    twin = dataclasses.replace(report, seeds=tuple({**entry, "fold": 2} for entry in report.seeds))
    assert AuditReport.merge([report, twin]).retrained["leak_auc_ci"] == pytest.approx(alone.retrained["leak_auc_ci"])
    strangers = tuple(dataclasses.replace(seed, people=seed.people + 10**6) for seed in report.scores)
    low, high = AuditReport.merge([report, dataclasses.replace(twin, scores=strangers)]).retrained["leak_auc_ci"]
    assert high - low < 0.9 * np.diff(alone.retrained["leak_auc_ci"]), "twice the people would be a narrower interval"

    for wrong in ({"people": 9}, {"source": "elsewhere"}):
        with pytest.raises(UserError, match="Audits of different data"):
            AuditReport.merge([report, dataclasses.replace(other, data={**other.data, **wrong})])
    with pytest.raises(UserError, match="Audits of different data"):
        AuditReport.merge([report, dataclasses.replace(report, data={**report.data, "test_people": 9})])


def test_an_audit_does_not_read_the_sealed_people(faces: Faces) -> None:
    def leaks(people: Faces) -> dict:
        rows = np.isin(faces.identity, people.identity)
        noise = np.random.default_rng(0).integers(0, 256, faces.images.shape).astype(np.uint8)
        noisy = dataclasses.replace(faces, images=np.where(rows[:, None, None, None], noise, faces.images))
        return audit(pixels, noisy, seeds=1, config=quick, splits=noisy.split(sealed=0.2), progress=False).to_dict()

    quick = dataclasses.replace(QUICK, attackers=("logistic",))
    splits = faces.split(sealed=0.2)
    untouched = audit(pixels, faces, seeds=1, config=quick, splits=splits, progress=False).to_dict()
    assert untouched["data"]["sealed_people"] == splits.sealed.people
    assert leaks(splits.sealed) == untouched != leaks(splits.test)


def test_every_choice_on_val_is_logged_and_is_the_best_candidate(report: AuditReport) -> None:
    choices = report.choices()
    for choice in choices:
        assert choice["chosen"] == max(choice["candidates"], key=choice["candidates"].get) and choice["method"] == report.name
    for entry, seed in zip(report.seeds, report.scores, strict=True):
        mine = {choice["choice"]: choice for choice in choices if choice.get("seed") == entry["seed"]}
        assert mine["attacker"]["candidates"] == entry["retrained"]["attackers_val"] and mine["attacker"]["chosen"] == seed.worst
        assert mine["verifier"]["candidates"] == entry["retrained"]["verifiers_val"]
        assert mine["verifier"]["chosen"] == entry["retrained"]["verifier"]
        assert {"logistic: strength C", "svm_rbf: strength C", "lda: dimensions", "siamese: epoch"} <= set(mine)
    assert choices[-1]["chosen"] == report.retrained["worst_attacker"] and "seed" not in choices[-1]


def test_a_saved_report_comes_back_whole(report: AuditReport, tmp_path) -> None:
    path = tmp_path / "audits" / "pixels.npz"
    report.save(path)
    loaded = AuditReport.load(path)
    assert loaded.to_dict() == report.to_dict() and str(loaded) == str(report)
    assert AuditReport.merge([loaded]).retrained == report.retrained and loaded.choices() == report.choices()
    for one, other in zip(loaded.scores, report.scores, strict=True):
        assert one.worst == other.worst and np.array_equal(one.leak.scores, other.leak.scores)
        assert np.array_equal(one.same.people, other.same.people)
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"{}"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="not a saved audit report"):
            AuditReport.load(path)
    with pytest.raises(UserError, match="no such file"):
        AuditReport.load(tmp_path / "none.npz")


def test_a_report_fits_the_ledger(faces: Faces, report: AuditReport) -> None:
    entry = report.to_dict()
    whole = {"provenance": ledger.provenance("aia audit", [0, 1], "drawn faces", 1.0), "settings": {}, "methods": {"pixels": entry}}
    assert ledger.validated(whole) is whole
    assert [seed["seed"] for seed in entry["seeds"]] == [0, 1]


@pytest.mark.celeba
def test_real_pixels_leak_gender(celeba_root) -> None:
    from aia_lib.datasets import load_faces

    faces = load_faces("celeba", root=celeba_root, size=32, limit=2000, progress=False)
    report = audit(pixels, faces, seeds=1, config=QUICK, progress=False)
    assert report.retrained["leak_auc"] > 0.85 and report.retrained["utility_auc"] > report.retrained["utility_auc_same"] - 0.02 > 0.55
    assert 0.7 < report.controls["gender_only_verification_accuracy"] < 0.8
