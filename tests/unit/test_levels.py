"""The leak of one image, of two images of a person and of all: what only several images tell is found, and nothing where nothing is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from test_audit_validation import Given, numbered_faces, numbers

from aia_lib.attackers import AttackSet, ExactSVM, Quadratic
from aia_lib.audit import AuditReport, DeepConfig, audit
from aia_lib.audit.claims import NOT_SUPPORTED
from aia_lib.audit.levels import LEVELS, SetNetwork
from aia_lib.config import AuditConfig
from aia_lib.faces import Faces
from aia_lib.statistics import roc_auc

pytestmark = pytest.mark.usefixtures("one_thread")
QUICK = AuditConfig(attackers=("logistic", "mlp"), epochs=6, min_steps=60, pairs=600, bootstrap=200, controls=False)
ONLY_LEVELS = DeepConfig(parts=("levels",))


def leaks(faces: Faces, features: np.ndarray, **settings) -> AuditReport:
    return audit(Given(features), faces, **{"seeds": 1, "config": QUICK, "deep": ONLY_LEVELS, "progress": False, **settings})


def agreeing(faces: Faces, seed: int, weights: tuple[float, float] = (0.4, 0.9), k: int = 8) -> np.ndarray:
    """g_i = (1 - w)^1/2 u + w^1/2 e_i with w by label: each is N(0, I) for either, and only two of a person tell them apart."""
    rng = np.random.default_rng(seed)
    person, own = rng.normal(size=(faces.people, k))[faces.identity], rng.normal(size=(len(faces), k))
    w = np.where(faces.labels() == 1, weights[1], weights[0])[:, None]
    return np.sqrt(1 - w) * person + np.sqrt(w) * own


@pytest.fixture(scope="module")
def faces() -> Faces:
    return numbered_faces(people=500, images=4)


@pytest.fixture(scope="module")
def report(faces) -> AuditReport:
    return leaks(faces, agreeing(faces, seed=1), seeds=2)


def test_what_one_image_hides_and_two_tell_is_found(report):
    found = report.deep["levels"]
    low, high = found["image"]["leak_auc_ci"]
    assert low - 0.03 < 0.5 < high + 0.03, "each image is N(0, I) for both labels"
    assert found["pair"]["leak_auc"] > 0.83 and found["person"]["leak_auc"] > 0.9
    assert found["level"] == "person" and found["leak_auc"] == found["person"]["leak_auc"]
    assert found["pair"]["rows"] == 6 * found["pair"]["people"] and found["person"]["rows"] == found["person"]["people"]
    hidden = next(claim for claim in report.claims() if claim.key == "hidden")
    assert hidden.verdict == NOT_SUPPORTED and "all images of a person" in hidden.reason and "too wide" not in hidden.reason
    assert report.retrained["leak_auc_ci"][0] < 0.55, "by the image alone it would not have been refuted"
    assert "read from two images of a person" in str(report)
    r = report.retrained
    assert r["strongest"].endswith(", from all images of a person") and r["strongest_auc"] == found["person"]["leak_auc"]
    assert r["strongest_auc_ci"] == found["person"]["leak_auc_ci"] and "strongest of all, over all seeds" in str(report)


def test_nothing_is_found_where_images_of_both_labels_agree_alike(faces):
    found = leaks(faces, agreeing(faces, seed=2, weights=(0.6, 0.6))).deep["levels"]
    for level in LEVELS:
        low, high = found[level]["leak_auc_ci"]
        assert low - 0.03 < 0.5 < high + 0.03, level


def test_a_weak_sign_in_each_image_adds_up_over_a_person(faces):
    """Four images of independent noise carry twice the distance of one; nobody does better than the sum along the true direction."""
    signal = faces.labels() - 0.5 + np.random.default_rng(3).normal(size=len(faces))
    found = leaks(faces, np.stack([signal, np.random.default_rng(4).normal(size=len(faces))], axis=1)).deep["levels"]
    test = faces.split().test
    best = signal[numbers(torch.from_numpy(test.images / 255.0))]
    sums, labels = np.bincount(test.identity, best), np.bincount(test.identity, test.labels()) > 0
    there = np.bincount(test.identity) > 0
    ideal = {"image": roc_auc(best, test.labels()), "person": roc_auc(sums[there], labels[there])}
    assert ideal["person"] > ideal["image"] + 0.08
    for level, auc in ideal.items():
        assert found[level]["leak_auc"] == pytest.approx(auc, abs=0.04)
    assert any(name.startswith("mean of ") for name in found["person"]["attackers"])


def test_the_strongest_attacker_is_chosen_on_val_over_all_seeds(report):
    for level in LEVELS:
        figures = report.deep["levels"][level]
        per_seed = [entry["deep"]["levels"][level] for entry in report.seeds]
        val = {name: np.mean([seed["attackers_val"][name] for seed in per_seed]) for name in per_seed[0]["attackers"]}
        assert figures["strongest"] == max(val, key=val.get)
        test = {name: np.mean([seed["attackers"][name] for seed in per_seed]) for name in val}
        assert figures["leak_auc"] == pytest.approx(test[figures["strongest"]])
        second = max((name for name in val if name != figures["strongest"]), key=val.get)
        assert figures["regret"] == pytest.approx(max(0.0, figures["leak_auc"] - test[second]))
        assert figures["leak_auc_ci"][0] <= figures["leak_auc"] <= figures["leak_auc_ci"][1]
    assert {"stack", "quadratic", "svm_exact"} <= set(report.deep["levels"]["image"]["attackers"])


def test_levels_survive_saving_and_merging(report, tmp_path):
    report.save(tmp_path / "audit.npz")
    loaded = AuditReport.load(tmp_path / "audit.npz")
    assert loaded.deep["levels"] == report.deep["levels"]
    one = [dataclasses.replace(loaded, seeds=loaded.seeds[i : i + 1], scores=loaded.scores[i : i + 1]) for i in range(2)]
    assert AuditReport.merge(one).deep["levels"] == report.deep["levels"]


def test_too_few_people_with_two_images_are_said_and_not_measured():
    faces = numbered_faces(people=300, images=2)
    once = np.flatnonzero((faces.identity % 4 > 0) & (np.arange(len(faces)) % 2 == 1))  # a second image for one person in four
    few = faces.subset(np.setdiff1d(np.arange(len(faces)), once))
    found = leaks(few, np.random.default_rng(0).normal(size=(len(faces), 4)))
    levels = found.deep["levels"]
    assert "pair" not in levels and "of a label for the level 'pair'" in levels["left_out"]["pair"] and "person" in levels
    assert "not measured" in str(found)


def test_a_label_that_changes_within_every_person_is_read_from_one_image_only():
    faces = numbered_faces(people=120, images=3)
    last = np.arange(len(faces)) % 3 == 2
    faces = dataclasses.replace(faces, attributes={"gender": ((faces.identity + last) % 2).astype(np.int8)})
    levels = leaks(faces, np.random.default_rng(0).normal(size=(len(faces), 4))).deep["levels"]
    assert levels["level"] == "image" and set(levels["left_out"]) == {"pair", "person"}
    assert levels["left_out"]["pair"] == "nobody in the attack split has the same label in all images"


def test_stronger_attackers_of_one_image_read_what_a_line_cannot():
    rng = np.random.default_rng(0)
    sets = []
    for n in (1500, 500, 1000):
        labels = rng.integers(0, 2, n)
        g = (rng.normal(size=(n, 6)) * np.where(labels == 1, 1.5, 1.0)[:, None]).astype(np.float32)
        sets.append(AttackSet(g, g, g, labels.astype(np.int8)))
    train, val, test = sets
    best = roc_auc((test.g**2).sum(1), test.labels)
    for attacker in (Quadratic(), ExactSVM()):
        attacker.fit(train, val, 0)
        assert test.auc(attacker.score(test)) > best - 0.05 > 0.75


def test_the_order_of_a_set_does_not_matter():
    network, sets = SetNetwork(3, 4).eval(), torch.randn(5, 3, 4)
    assert torch.allclose(network(sets.flatten(1)), network(sets[:, [2, 0, 1]].flatten(1)), atol=1e-6)
