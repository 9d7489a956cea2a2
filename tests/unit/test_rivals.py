"""Each rival keeps what its paper promises, beside a control that does not; and the table says what was measured."""

import json

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import cross_val_predict
from sklearn.svm import SVC

from aia_lib.audit import represent
from aia_lib.config import AuditConfig
from aia_lib.faces import Faces
from aia_lib.machine.files import UserError
from aia_lib.statistics import roc_auc
from benchmarks import __main__ as command
from benchmarks import rivals
from benchmarks.rivals import blocks, kernels, linear, networks

QUICK = AuditConfig(attackers=("logistic",), epochs=1, min_steps=5, pairs=400, impostor_pairs=4000, bootstrap=20, controls=False)


def templates(people: int = 500, images: int = 4, numbers: int = 16, apart: float = 1.0, seed: int = 0) -> Faces:
    """People whose label moves all numbers a little; "young" moves the second axis, and is as frequent under both labels."""
    rng = np.random.default_rng(seed)
    gender, young = rng.integers(0, 2, (2, people))
    place = rng.normal(size=(people, numbers)) * np.linspace(1.5, 0.5, numbers)
    place += apart * gender[:, None] * rng.choice([-1, 1], numbers)
    place[:, 1] += 2 * young
    person = np.repeat(np.arange(people), images)
    vectors = (place[person] + 0.25 * rng.normal(size=(len(person), numbers))).astype(np.float32)
    return Faces(vectors, person, {"gender": gender[person], "young": young[person]}, "gender", "a trial", "none")


def ring(people: int = 600, images: int = 3, seed: int = 0) -> Faces:
    """People on two circles: no line tells the label, a kernel does."""
    rng = np.random.default_rng(seed)
    gender, angle = rng.integers(0, 2, people), rng.uniform(0, 2 * np.pi, people)
    place = np.stack([np.cos(angle), np.sin(angle)], axis=1) * np.where(gender, 2.5, 1.0)[:, None]
    place = np.hstack([place, 0.7 * rng.normal(size=(people, 3))])
    person = np.repeat(np.arange(people), images)
    vectors = (place[person] + 0.1 * rng.normal(size=(len(person), 5))).astype(np.float32)
    return Faces(vectors, person, {"gender": gender[person]}, "gender", "a trial", "none")


def fitted(rival, faces):
    return rival.fit(np.asarray(faces.images), faces.labels(), faces.identity, 0)


def read(g, labels, model=None):
    """The balanced accuracy of a reader of rows that it was fitted on."""
    g = (g - g.mean(0)) / g.std()
    return balanced_accuracy_score(labels, (model or LogisticRegression(max_iter=500, class_weight="balanced")).fit(g, labels).predict(g))


def recognised(g, faces):
    """The AUC of plain distances of one person's images and of people's with the same label."""
    pairs = faces.pairs(4000, "same")
    return roc_auc(np.linalg.norm(g[pairs.a] - g[pairs.b], axis=1), pairs.different == 1)


@pytest.fixture(scope="module")
def faces():
    return templates()


def test_leace_and_inlp_leave_nothing_to_a_line_and_leace_moves_least(faces):
    x, labels = np.asarray(faces.images), faces.labels()
    assert read(x, labels) > 0.9
    moved = {}
    for rival in (linear.LEACE(), linear.INLP()):
        g = represent(fitted(rival, faces), x)
        assert read(g, labels) < 0.56, rival.name
        white = np.linalg.inv(np.linalg.cholesky(np.cov(x.T)))
        moved[rival.name] = np.square((g - x) @ white.T).sum()
    assert moved["LEACE"] < moved["INLP"]


def test_inlp_without_enough_rounds_leaves_a_line(faces):
    spread = templates(apart=0.7)
    spread.images[:, 8:] = spread.images[:, :8] + 0.5 * np.random.default_rng(1).normal(size=(len(spread), 8))  # the label, twice over
    x, labels = np.asarray(spread.images), spread.labels()
    one, all_of_them = (represent(fitted(linear.INLP(rounds), spread), x) for rounds in (1, 15))
    assert read(all_of_them, labels) <= read(one, labels) + 1e-9
    p = linear.INLP(3).fit(x, labels, spread.identity, 0).matrix
    np.testing.assert_allclose(p @ p, p, atol=1e-10)
    assert round(np.trace(p)) >= 13


def test_rlace_finds_one_orthogonal_direction_that_a_line_needs(faces):
    x, labels = np.asarray(faces.images), faces.labels()
    p = fitted(linear.RLACE(), faces).matrix
    np.testing.assert_allclose(p, p.T, atol=1e-10)
    np.testing.assert_allclose(p @ p, p, atol=1e-10)
    assert round(np.trace(p)) == 15
    random = np.random.default_rng(0).normal(size=16)
    control = np.eye(16) - np.outer(random, random) / (random @ random)
    accuracies = [read(x @ matrix, labels) for matrix in (p, control)]
    assert accuracies[0] < 0.6 and accuracies[1] > 0.85


def test_the_fantope_is_what_a_step_comes_back_to():
    a = linear.RLACE(rank=2)._onto_fantope(torch.randn(6, 6, generator=torch.Generator().manual_seed(0)))
    values = torch.linalg.eigvalsh(a)
    assert values.min() > -1e-5 and values.max() < 1 + 1e-5 and float(values.sum()) == pytest.approx(2, abs=1e-4)


def test_splince_keeps_the_targets_covariance_and_takes_the_labels(faces):
    x, labels = np.asarray(faces.images, dtype=np.float64), faces.labels()
    rng = np.random.default_rng(0)
    young = (faces.labels("young") ^ ((rng.random(len(labels)) < 0.3) & (labels == 1))).astype(np.float64)[:, None]  # correlated

    def covariance(g, target):
        return (g - g.mean(0)).T @ (target - target.mean()) / len(g)

    p = linear.SPLINCE().fit(x, labels, faces.identity, 0, targets=young).matrix
    leace = represent(fitted(linear.LEACE(), faces), faces.images).astype(np.float64)
    g = (x - x.mean(0)) @ p.T
    size = np.linalg.norm(covariance(x, labels))
    assert np.linalg.norm(covariance(g, labels)) < 1e-8 * size
    np.testing.assert_allclose(covariance(g, young[:, 0]), covariance(x, young[:, 0]), atol=1e-8)
    assert np.linalg.norm(covariance(leace, young[:, 0]) - covariance(x, young[:, 0])) > 0.01
    np.testing.assert_allclose(p @ p, p, atol=1e-8)


def test_the_kernel_trade_off_has_no_covariance_with_the_label_where_invariance_weighs_all():
    some = ring()
    labels, x = some.labels(), np.asarray(some.images)
    strict, free = (represent(fitted(kernels.KernelTradeOff(tau, 16, 300), some), x) for tau in (0.99999, 0.0))
    assert read(free, labels) > 0.8, "the circles are told apart by a line among the kernel's functions"
    assert read(strict, labels) < 0.56
    assert recognised(strict, some) > 0.8


def test_obliviator_blinds_a_kernel_where_leace_does_not():
    some = ring()
    labels, x = some.labels(), np.asarray(some.images)

    def machine(g):
        g = (g - g.mean(0)) / g.std(0)
        rows = cross_val_predict(
            SVC(), g, labels, cv=[(np.flatnonzero(some.identity % 2 == i), np.flatnonzero(some.identity % 2 != i)) for i in (0, 1)]
        )
        return balanced_accuracy_score(labels, rows)

    assert machine(represent(fitted(linear.LEACE(), some), x)) > 0.85
    g = represent(fitted(kernels.Obliviator(rounds=4, epochs=10, features=256), some), x)
    assert machine(g) < 0.72 and recognised(g, some) > 0.8


def test_multi_ive_drops_the_components_that_tell_the_label():
    some = templates(apart=0.0)
    some.images[:, 3] += 6 * some.labels()  # one number tells all
    labels, x = some.labels(), np.asarray(some.images)
    method = fitted(blocks.MultiIVE(steps=4, share=1 / 16), some)
    g = represent(method, x)
    assert g.shape[1] == 12 and read(x, labels) > 0.95 > 0.7 > read(g, labels)
    assert recognised(g, some) > 0.9


def structured(people: int = 400, seed: int = 0) -> Faces:
    """Templates of 128 numbers; the label moves each of them its own way, so that a shuffled block says little by itself."""
    rng = np.random.default_rng(seed)
    gender = rng.integers(0, 2, people)
    place = 1.5 * rng.normal(size=128) + rng.normal(size=(people, 128)) + 0.7 * (gender[:, None] - 0.5) * rng.choice([-1, 1], 128)
    person = np.repeat(np.arange(people), 3)
    vectors = (place[person] + 0.2 * rng.normal(size=(len(person), 128))).astype(np.float32)
    return Faces(vectors, person, {"gender": gender[person]}, "gender", "a trial", "none")


def test_pe_miu_matches_as_before_and_falls_to_the_gallery_attack():
    some = structured()
    method = fitted(blocks.PEMIU(16), some)
    g = represent(method, some.images)
    np.testing.assert_allclose(np.sort(g, 1), np.sort(some.images, 1))
    assert not np.allclose(g, represent(method, some.images)), "the order is drawn anew"
    pairs = some.pairs(600, "same")
    own = roc_auc(blocks.own_distances(method, g, pairs), pairs.different == 1)
    assert own > 0.99 and own > recognised(g, some) + 0.1
    attack = blocks.gallery_attack(method, some.split(), 0, probes=120)
    assert attack["gallery_accuracy"] > 0.95 > 0.92 > attack["svm_accuracy"]


def test_pe_miu_assigns_blocks_as_trying_all_orders_does():
    import itertools

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5, 8))
    x, y = a.reshape(5, 4, 2), b.reshape(5, 4, 2)
    found = blocks.PEMIU(2).distances(a, b)
    for row in range(5):
        costs = {order: np.linalg.norm(x[row] - y[row][list(order)], axis=1).sum() for order in itertools.permutations(range(4))}
        best = y[row][list(min(costs, key=costs.get))].ravel()
        assert found[row] == pytest.approx(1 - a[row] @ best / np.linalg.norm(a[row]) / np.linalg.norm(best))
    with pytest.raises(UserError, match="cannot be cut into blocks of 3"):
        blocks.PEMIU(3).fit(a, np.zeros(5), np.arange(5), 0)


def test_the_own_reader_of_maximum_entropy_falls(faces):
    x = torch.from_numpy(np.asarray(faces.images))

    def says(method):
        with torch.no_grad():
            return balanced_accuracy_score(faces.labels(), method.reader(method(x)).argmax(1))

    blinded, control = (fitted(networks.MaximumEntropy(weight, 16, 400), faces) for weight in (50.0, 0.0))
    assert says(control) > 0.9 > 0.7 > says(blinded)
    assert recognised(blinded(x).numpy(), faces) > 0.8


def test_the_funnels_bound_takes_the_label_out_of_what_is_drawn(faces):
    x, labels = np.asarray(faces.images), faces.labels()
    narrow, wide = (represent(fitted(networks.PrivacyFunnel(weight, 8, 800), faces), x) for weight in (0.3, 0.0))
    assert read(wide, labels) > 0.85 and read(narrow, labels) < 0.65
    assert recognised(narrow, faces) > 0.7


def test_the_table_goes_on_where_it_stopped(tmp_path):
    some = structured(people=600)
    path = tmp_path / "templates.npz"
    np.savez(path, vectors=some.images, identity=some.identity, gender=some.labels())
    settings = {"root": path, "audits": QUICK, "names": ("raw", "LEACE", "PE-MIU", "ours, 16 numbers"), "folder": tmp_path / "runs"}
    figures = rivals.measure(**settings)
    assert list(figures["methods"]) == list(settings["names"])
    for name, row in figures["methods"].items():
        for key in ("leak", "strongest_leak", "utility", "fnmr_at_fmr_1_percent"):
            middle, low, high = row[key]
            assert 0 <= low <= middle <= high <= 1, (name, key)
    shuffled = figures["methods"]["PE-MIU"]
    assert set(shuffled["gallery_attack"]) == {"neighbours", "gallery", "gallery_accuracy", "svm", "svm_accuracy"}
    assert shuffled["utility"][0] == pytest.approx(shuffled["plain"]["utility"][0], abs=0.02)
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").rglob("*.npz")}
    assert len(files) == 8 and rivals.measure(**settings) == figures
    assert files == {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").rglob("*.npz")}
    json.dumps(figures)


def test_what_the_table_refuses(tmp_path, capsys):
    assert command.main(["rivals", "--root", "none.npz"]) == 2 and "there is no such file" in capsys.readouterr().err
    assert command.main(["rivals", "--data", "embedded"]) == 2 and "takes no --data embedded" in capsys.readouterr().err
    assert command.main(["audit", "--data", "templates"]) == 2 and "takes no --data templates" in capsys.readouterr().err
    with pytest.raises(UserError, match="There is no method 'magic'"):
        rivals.measure(root=tmp_path / "none.npz", names=["magic"])
