"""Verification figures against hand-computed cases and scikit-learn, the bootstrap against direct resampling, and the fresh verifier."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from aia_lib.faces import Pairs
from aia_lib.machine.files import UserError
from aia_lib.statistics import MIN_PEOPLE, Scored, accuracy, best_threshold, bootstrap_auc, eer, interval, rank_auc, roc_auc, tar_at_far
from aia_lib.verification import fit_verifier, pair_distances


def test_auc_counts_the_pairs_in_order_and_ties_half() -> None:
    scores, positive = np.array([1, 2, 2, 3]), np.array([0, 0, 1, 1])
    assert roc_auc(scores, positive) == (1 + 1 + 0.5 + 1) / 4
    assert roc_auc(np.zeros(4), positive) == 0.5
    assert roc_auc(-scores, positive) == pytest.approx(1 - roc_auc(scores, positive))


def test_the_auc_is_scikit_learns_to_the_last_bit() -> None:
    rng = np.random.default_rng(0)
    for decimals in (0, 1, 12):  # many ties, some, none
        for n in (2, 3, 50, 2000):
            positive = rng.permutation(np.arange(n) < max(1, n // 3))
            scores = np.round(rng.normal(size=n) + positive, decimals)
            assert roc_auc(scores, positive) == float(roc_auc_score(positive, scores))


@pytest.mark.parametrize(
    ("genuine", "impostor", "expected"),
    [
        ([1, 2], [3, 4], 0.0),  # told apart without error
        ([3, 4], [1, 2], 1.0),  # and the wrong way round
        ([1, 1], [1, 1], 0.5),  # one distance for all: a coin
        ([1, 2, 3, 6], [4, 5, 7, 8], 0.25),  # one of four wrong on each side
        ([1, 3], [2, 4], 0.5),
        ([1, 2, 2], [2, 3, 3], 2 / 9),  # the tie at 2 joins (FAR, TAR) = (0, 1/3) to (1/3, 1): 1/3 + 2 FAR = 1 - FAR
    ],
)
def test_eer_of_small_cases(genuine: list[int], impostor: list[int], expected: float) -> None:
    distances = np.array(genuine + impostor)
    different = np.repeat([0, 1], [len(genuine), len(impostor)])
    assert eer(distances, different) == pytest.approx(expected)


def test_tar_at_far_is_a_threshold_one_could_use() -> None:
    genuine, impostor = np.array([0.1, 0.2, 0.3, 0.9]), np.linspace(0.25, 1.2, 10)  # impostors at 0.25, 0.356, ...
    distances, different = np.concatenate([genuine, impostor]), np.repeat([0, 1], [4, 10])
    assert tar_at_far(distances, different, 0.1) == 0.75  # one impostor of ten may pass: any threshold in [0.3, 0.356)
    assert tar_at_far(distances, different, 0.09) == 0.5  # none may: up to 0.25
    tied = np.concatenate([[0.1, 0.5, 0.5, 0.5], np.full(10, 0.5)])
    assert tar_at_far(tied, different, 0.1) == 0.25  # the tie at 0.5 would let all ten in: it is not split
    with pytest.raises(UserError, match="FAR"):
        tar_at_far(distances, different, 1.0)


def test_threshold_is_the_most_accurate_one_and_carries_over() -> None:
    scores, positive = np.array([0.0, 1.0, 2.0, 3.0, 4.0]), np.array([0, 0, 1, 0, 1])
    threshold = best_threshold(scores, positive)
    assert accuracy(scores, positive, threshold) == 0.8
    rng = np.random.default_rng(0)
    positive = rng.random(400) < 0.1
    scores = np.round(positive + rng.normal(size=400), 1)  # ties
    grid = np.unique(np.concatenate([scores - 0.05, scores + 0.05]))
    for balanced in (False, True):
        best = max(accuracy(scores, positive, t, balanced) for t in grid)
        assert accuracy(scores, positive, best_threshold(scores, positive, balanced), balanced) == pytest.approx(best)


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
@settings(max_examples=60, deadline=None)
def test_the_quick_auc_is_the_auc(rows: list[tuple[int, bool]]) -> None:
    scores, positive = (np.array(column) for column in zip(*rows, strict=True))
    if len(set(positive)) == 2:
        assert rank_auc(scores, positive) == pytest.approx(roc_auc(scores, positive))
        assert rank_auc(np.where(positive, np.nan, scores), positive) == 0


@pytest.mark.parametrize(
    ("scores", "positive", "message"),
    [([1.0, 2.0], [1, 1], "one class"), ([1.0, np.nan], [0, 1], "NaN"), ([1.0, 2.0, 3.0], [0, 1], "length")],
)
def test_what_has_no_figure_is_refused(scores: list[float], positive: list[int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        roc_auc(scores, positive)


# The bootstrap --------------------------------------------------------------------------------------------------------


def _clustered(people: int, images: int, seed: int, shared: float = 0.7) -> Scored:
    """Images of two classes of people, d' = 1 in all, a share of the variance common to a person's images; scores rounded to tie."""
    rng = np.random.default_rng(seed)
    label, person = np.repeat([0, 1], people), np.repeat(np.arange(2 * people), images)
    scores = (label + rng.normal(0, shared**0.5, 2 * people))[person] + rng.normal(0, (1 - shared) ** 0.5, len(person))
    return Scored(np.round(scores, 1), label[person] == 1, 100 + 3 * person)


def _pairs(people: int, seed: int) -> Scored:
    rng = np.random.default_rng(seed)
    level = rng.normal(0, 0.5, people)
    a, b = rng.integers(people, size=(2, 300))
    a, b = np.where(np.arange(300) < 100, a, a), np.where(np.arange(300) < 100, a, b)
    distances = np.round(rng.normal(1, 0.5, 300) + level[a] + level[b] + (a != b), 1)
    return Scored(distances, a != b, np.stack([a, b], axis=1))


def test_bootstrap_equals_drawing_people_and_repeating_their_rows() -> None:
    """The same draws, done the long way: each image or pair as often as its people were drawn, then scikit-learn's AUC."""
    for m in (_clustered(12, 3, 0), _pairs(25, 0)):
        fast = bootstrap_auc([m], resamples=40, seed=5)
        codes = np.unique(m.people)
        rng = np.random.default_rng(5)
        for auc in fast:
            draws = np.bincount(rng.integers(len(codes), size=len(codes)), minlength=len(codes))
            times = draws[np.searchsorted(codes, m.people)]
            if times.ndim == 2:
                times = np.where(m.people[:, 0] == m.people[:, 1], times[:, 0], times.prod(1))
            rows = np.repeat(np.arange(len(times)), times)
            assert auc == pytest.approx(roc_auc_score(m.positive[rows], m.scores[rows]))
            assert auc == pytest.approx(roc_auc_score(m.positive, m.scores, sample_weight=times))


def test_bootstrap_of_a_mean_uses_the_same_people_for_all() -> None:
    first, second = _clustered(15, 2, 0), _clustered(15, 2, 1)
    mean = bootstrap_auc([first, second], 30, seed=2)
    assert mean == pytest.approx((bootstrap_auc([first], 30, seed=2) + bootstrap_auc([second], 30, seed=2)) / 2)


def test_interval_covers_the_truth_where_images_cluster_and_a_naive_one_does_not() -> None:
    truth = norm.cdf(1 / np.sqrt(2))
    covered = naive = 0
    for trial in range(100):
        m = _clustered(30, 6, trial)
        low, high = interval([m], 200, seed=trial)
        covered += low <= truth <= high
        low, high = interval([Scored(m.scores, m.positive, np.arange(len(m.scores)))], 200, seed=trial)
        naive += low <= truth <= high
    assert covered >= 86  # 95 expected; the naive interval takes a person's six images for independent
    assert naive <= 75


def test_too_few_people_have_no_interval() -> None:
    with pytest.raises(UserError, match=f"4 in the .* class, {MIN_PEOPLE} are needed"):
        interval([_clustered(4, 30, 0)])


# The verifier ---------------------------------------------------------------------------------------------------------


def _people(count: int, images: int, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Representations in which a quarter of the features tell people apart, and the rest is louder noise."""
    rng = np.random.default_rng(seed)
    identity = np.repeat(np.arange(count), images)
    own = rng.normal(size=(count, k)) * (np.arange(k) < k // 4)
    return (own[identity] + rng.normal(size=(len(identity), k)) * np.where(np.arange(k) < k // 4, 0.5, 2.0)).astype(np.float32), identity


def _all_pairs(identity: np.ndarray, seed: int = 0) -> Pairs:
    rng = np.random.default_rng(seed)
    a, b = np.triu_indices(len(identity), 1)
    genuine = np.flatnonzero(identity[a] == identity[b])
    impostor = rng.choice(np.flatnonzero(identity[a] != identity[b]), len(genuine), replace=False)
    rows = np.concatenate([genuine, impostor])
    return Pairs(a[rows], b[rows], (identity[a] != identity[b])[rows].astype(np.int8))


def test_closed_form_verifier_weighs_directions_by_what_they_tell() -> None:
    train, identity = _people(120, 4, 32, seed=0)
    val, val_identity = _people(40, 4, 32, seed=1)
    pairs = _all_pairs(val_identity)
    fitted = fit_verifier(train, identity, val, [pairs], epochs=2)
    assert fitted.name == "lda" and fitted.val_auc > 0.95
    assert roc_auc(pair_distances(val, pairs), pairs.different) < 0.65  # unweighted, the louder noise decides
    assert fitted.val_auc == pytest.approx(roc_auc(pair_distances(fitted.embed(val), pairs), pairs.different))


def test_siamese_verifier_finds_identity_that_no_linear_map_shows() -> None:
    """Each image shows its person's vector or its negative: a person's mean is zero, and discriminant analysis sees nothing."""

    def turned(people: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        identity = np.repeat(np.arange(people), 4)
        own = rng.normal(size=(people, 6))[identity]
        g = rng.choice([-1, 1], (len(identity), 1)) * own + rng.normal(0, 0.2, own.shape)
        return g.astype(np.float32), identity

    train, identity = turned(400, seed=0)
    val, val_identity = turned(60, seed=1)
    pairs = _all_pairs(val_identity)
    fitted, again = (fit_verifier(train, identity, val, [pairs], epochs=8, seed=3) for _ in range(2))
    assert fitted.name == "siamese" and fitted.val_auc > 0.8 and fitted.candidates["lda"] < 0.6
    assert np.array_equal(fitted.embed(val), again.embed(val))


def test_verifier_is_the_best_kind_on_val_and_at_chance_on_noise() -> None:
    rng = np.random.default_rng(0)
    train, identity = rng.normal(size=(400, 20)).astype(np.float32), np.repeat(np.arange(100), 4)
    val, test = rng.normal(size=(2, 400, 20)).astype(np.float32)
    pairs = _all_pairs(identity)
    fitted = fit_verifier(train, identity, val, [pairs], epochs=3, map_shape=(5, 2, 2))
    assert set(fitted.candidates) == {"lda", "siamese"} and fitted.val_auc == max(fitted.candidates.values())
    assert abs(roc_auc(pair_distances(fitted.embed(test), pairs), pairs.different) - 0.5) < 0.06


def test_verifier_works_on_few_or_dead_features() -> None:
    train, identity = _people(60, 3, 4, seed=0)
    for features in (train[:, :1], np.hstack([train, np.zeros((len(train), 6), np.float32)])):
        fitted = fit_verifier(features, identity, features, [_all_pairs(identity)], kinds=["lda"])
        assert np.isfinite(fitted.embed(features)).all()


def test_verifier_needs_two_images_of_somebody() -> None:
    train, _ = _people(30, 1, 8, seed=0)
    with pytest.raises(UserError, match="two images"):
        fit_verifier(train, np.arange(30), train, [])
