"""Each family of attackers finds what it should find, and nothing where nothing is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from aia_lib.attackers import ATTACKERS, AttackSet, GalleryKNN, SklearnAttacker, TorchAttacker
from aia_lib.audit.makers import as_makers
from aia_lib.config import AuditConfig
from aia_lib.machine.files import UserError

CONFIG = AuditConfig(epochs=8)
SHAPE = (2, 8, 8)


def _sets(n: int, kind: str, seed: int = 0, repeats: int = 1) -> tuple[AttackSet, AttackSet, AttackSet]:
    """Train, val and test of one world, n images in train. `kind` says how the label is in g; g is a 2 x 8 x 8 map."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(128, 128)))[0].astype(np.float32)
    sets = []
    for part, size in enumerate((n, n // 2, n)):
        labels = rng.integers(0, 2, size).astype(np.int8)
        g = rng.normal(size=(size, 128)).astype(np.float32)
        sign = 2.0 * labels - 1
        if kind == "linear":
            g[:, 0] += sign
        elif kind == "xor":
            a = rng.choice([-1, 1], size)
            g[:, :2] = 4 * np.stack([a, a * sign], axis=1) + 0.5 * g[:, :2]
        elif kind == "bar":  # an upright or a lying bar, anywhere on the map, bright or dark
            maps = g.reshape(-1, *SHAPE)
            for i, (row, column) in enumerate(rng.integers(0, 5, (size, 2))):
                upright = (slice(row, row + 4), column) if labels[i] else (row, slice(column, column + 4))
                maps[(i, 0, *upright)] += rng.choice([-4, 4])
        times = repeats if part == 0 else 1
        g, labels = np.tile(g, (times, 1)), np.tile(labels, times)
        components = g if kind in ("linear", "xor") else g @ basis
        sets.append(
            AttackSet(
                g=g,
                features=g,
                components=components,
                labels=labels,
                map_shape=SHAPE,
                images=g[:, :64].reshape(-1, 1, 8, 8).copy(),
                embeddings=g[:, :4].copy(),
                repeats=times,
            )
        )
    return tuple(sets)


def _test_auc(name: str, sets: tuple[AttackSet, AttackSet, AttackSet], config: AuditConfig = CONFIG) -> float:
    attacker = ATTACKERS[name](config)
    attacker.fit(*sets[:2], 0)
    scores = attacker.score(sets[2])
    assert scores.shape == (len(sets[2]),) and np.isfinite(scores).all()
    return roc_auc_score(sets[2].labels, scores)


def test_the_eight_families_are_there() -> None:
    assert list(ATTACKERS) == ["logistic", "svm_rbf", "mlp", "mlp_deep", "cnn", "boosting", "gallery_knn", "cnn_reconstruction"]


@pytest.mark.parametrize("name", ["logistic", "svm_rbf", "mlp", "mlp_deep", "boosting", "gallery_knn"])
def test_linear_leak_is_found_and_pure_noise_is_not(name: str) -> None:
    assert _test_auc(name, _sets(600, "linear")) > 0.8  # the Bayes attacker reaches 0.92
    assert abs(_test_auc(name, _sets(600, "noise")) - 0.5) < 0.08


@pytest.mark.parametrize("name", ["cnn", "cnn_reconstruction"])
def test_convolutions_find_a_shape_anywhere_on_a_map_and_nothing_in_noise(name: str) -> None:
    sets = _sets(600, "bar")
    assert _test_auc(name, sets) > 0.85
    assert abs(_test_auc("logistic", sets) - 0.5) < 0.1
    assert abs(_test_auc(name, _sets(600, "noise"), AuditConfig(epochs=4, min_steps=50)) - 0.5) < 0.08


def test_exclusive_or_is_found_by_non_linear_attackers_only() -> None:
    sets = _sets(600, "xor")
    assert abs(_test_auc("logistic", sets) - 0.5) < 0.1
    for name in ("svm_rbf", "mlp", "gallery_knn"):
        assert _test_auc(name, sets) > 0.85, name


@pytest.mark.parametrize("name", list(ATTACKERS))
def test_one_seed_gives_one_attacker(name: str) -> None:
    train, val, test = _sets(300, "linear", repeats=2)
    scores = []
    for _ in range(2):
        before = torch.get_rng_state()
        attacker = ATTACKERS[name](AuditConfig(epochs=2, min_steps=10))
        attacker.fit(train, val, 7)
        scores.append(attacker.score(test))
        assert torch.equal(torch.get_rng_state(), before)  # the caller's random numbers are left alone
    assert np.array_equal(*scores)


def test_one_image_more_than_a_batch_and_very_few_images() -> None:
    for n in (65, 20):
        sets = _sets(n, "linear")
        for name in ("mlp", "cnn", "svm_rbf", "boosting", "gallery_knn"):
            _test_auc(name, sets, AuditConfig(epochs=2, min_steps=10))


def test_any_scikit_learn_estimator_and_any_torch_module_is_an_attacker() -> None:
    train, val, test = _sets(600, "linear")
    for attacker in (
        SklearnAttacker(RandomForestClassifier(60)),
        TorchAttacker(lambda data: nn.Sequential(nn.Linear(data.features.shape[1], 1), nn.Flatten(0)), epochs=8, learning_rate=1e-2),
    ):
        attacker.fit(train, val, 0)
        assert attacker.needs == ("features",)
        assert roc_auc_score(test.labels, attacker.score(test)) > 0.7


def test_a_set_without_labels_missing_keeps_its_mirror_halves() -> None:
    train, _, _ = _sets(10, "linear", repeats=2)
    kept = train.take(np.flatnonzero(np.tile(np.arange(10) % 2 == 0, 2)))
    assert len(kept) == 10 and kept.images.shape == (10, 1, 8, 8) and np.array_equal(kept.g[:5], kept.g[5:])


# Attackers of one's own -----------------------------------------------------------------------------------------------


class Pluggable:
    """The protocol, by hand: the first coordinate of g."""

    needs = ()

    def fit(self, train: AttackSet, val: AttackSet, seed: int) -> None:
        self.fitted = True

    def score(self, data: AttackSet) -> np.ndarray:
        return data.g[:, 0]


class Demanding(nn.Linear):
    """A module that reads g itself."""

    reads = "g"


def test_names_estimators_modules_and_attackers_mix() -> None:
    train, val, test = _sets(600, "linear")
    torch.manual_seed(0)  # the modules' own weights
    own, module = Pluggable(), nn.Linear(128, 1)
    makers = as_makers(
        ["logistic", RandomForestClassifier(60), module, nn.Linear(128, 2), Demanding(128, 1), own, GalleryKNN(), _made_by_function]
        + [make_pipeline(StandardScaler(), LogisticRegression()), RandomForestClassifier(5, max_depth=2)]
    )
    assert list(makers) == [
        "logistic",
        "RandomForestClassifier",
        "Linear",
        "Linear 2",
        "Demanding",
        "Pluggable",
        "GalleryKNN",
        "_made_by_function",
        "Pipeline",
        "RandomForestClassifier 2",
    ]
    before = module.weight.detach().clone()
    for name, make in makers.items():
        attacker = make(AuditConfig(epochs=8, min_steps=1000))
        attacker.fit(train, val, 0)
        assert roc_auc_score(test.labels, attacker.score(test)) > (0.6 if name == "GalleryKNN" else 0.65), name
    assert torch.equal(module.weight, before) and not hasattr(own, "fitted")  # copies are trained, never the originals
    assert makers["Demanding"](CONFIG).reads == "g" and list(as_makers({"mine": "mlp", "yours": own})) == ["mine", "yours"]


def _made_by_function(config: AuditConfig) -> SklearnAttacker:
    return SklearnAttacker(LogisticRegression(max_iter=10 * config.epochs))


def test_a_module_goes_on_from_the_weights_that_it_has() -> None:
    train, val, test = _sets(60, "xor")  # far too few images to find it

    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return self.scale * features[:, 0] * features[:, 1]

    attacker = as_makers([Product()])["Product"](AuditConfig(epochs=2, min_steps=4))
    attacker.fit(train, val, 0)
    assert roc_auc_score(test.labels, attacker.score(test)) > 0.95


@pytest.mark.parametrize(
    ("attackers", "message"),
    [
        ("mlp", r"must be a list.*\['mlp'\]"),
        (nn.Linear(2, 1), "must be a list"),
        ([], "is empty.*logistic"),
        (["psychic"], "no attacker 'psychic'.*gallery_knn"),
        (["mlp", "mlp"], "'mlp' is named twice"),
        ([RandomForestClassifier], r"RandomForestClassifier is a class.*RandomForestClassifier\(\)"),
        ([nn.Linear], "Linear is a class"),
        ([LinearRegression()], "LinearRegression gives no scores.*predict_proba"),
        ([3], "3 is no attacker.*torch module"),
        ([None], "None is no attacker"),
        ([SklearnAttacker(LogisticRegression(), reads="pixels")], "SklearnAttacker reads 'pixels'; there are g, features"),
        ({3: "mlp"}, "name must be a text, not 3"),
        ({" ": "mlp"}, "name must be a text"),
    ],
)
def test_what_is_no_attacker_is_named(attackers: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        as_makers(attackers)


def test_an_answer_of_the_wrong_shape_is_named() -> None:
    train, val, _ = _sets(60, "linear")
    attacker = as_makers([nn.Linear(128, 3)])["Linear"](AuditConfig(epochs=1, min_steps=1))
    with pytest.raises(ValueError, match=r"one logit an image, shape \(60,\), not \(60, 3\)"):
        attacker.fit(train, val, 0)
