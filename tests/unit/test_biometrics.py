"""Error rates at a gate and the metrics of biometrics against closed-form Gaussians, with the control that no difference gives 0."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad, trapezoid
from scipy.stats import norm

from aia_lib.biometrics import disclosure_bits, linkability, log_likelihood_ratio, pic, suppression_rate, worst_disclosure
from aia_lib.machine.files import UserError
from aia_lib.statistics import Scored, bootstrap_fnmr, carried, det_points, eer, fnmr_at_fmr, limits, roc_auc, tar_at_far


def gaussians(d: float, n: int = 20_000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores (2n,), N(0, 1) and N(d, 1), and which are of the second."""
    positive = np.repeat([False, True], n)
    return np.random.default_rng(seed).normal(size=2 * n) + d * positive, positive


def clustered(people: int, seed: int, d: float = 1.5, pairs: int = 900) -> Scored:
    """Distances of genuine pairs, a third, each person's shifted, and of impostor pairs, d farther on average; rounded to tie."""
    rng = np.random.default_rng(seed)
    a, b = rng.integers(people, size=(2, pairs))
    b = np.where(np.arange(pairs) < pairs // 3, a, b)
    shift = np.where(a == b, rng.normal(size=people)[a], d)
    return Scored(np.round(rng.normal(size=pairs) + shift, 1), a != b, np.stack([a, b], axis=1))


# At the gate ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [0.0, 1.0, 2.5])
def test_error_rates_of_gaussians_are_the_closed_forms(d: float) -> None:
    distances, different = gaussians(d)
    assert roc_auc(distances, different) == pytest.approx(norm.cdf(d / math.sqrt(2)), abs=0.01)
    assert eer(distances, different) == pytest.approx(norm.cdf(-d / 2), abs=0.01)
    for fmr in (0.1, 0.01):
        truth = norm.sf(norm.ppf(fmr, loc=d))  # genuine pairs beyond the threshold; 1 - FMR where there is no difference
        assert fnmr_at_fmr(distances, different, fmr) == pytest.approx(truth, abs=0.015)
    people = np.arange(2 * len(distances)).reshape(-1, 2)
    fmr, fnmr = det_points([Scored(distances, different, people)])
    assert fmr[0] == pytest.approx(30 / 20_000) and np.abs(fnmr - norm.sf(norm.ppf(fmr, loc=d))).max() < 0.03


def test_a_rate_is_carried_by_thirty_impostor_pairs() -> None:
    assert carried(0.01, 3000) and not carried(0.01, 2999)
    assert carried(0.001, 30_000) and carried(0.0001, 300_000) and not carried(0.0001, 30_000)


@pytest.mark.parametrize("people", [8, 60])
def test_the_bootstrap_chooses_its_threshold_anew_in_each_resample(people: int) -> None:
    """The same draws, done the long way: each pair as often as its people were drawn, then the figure. Eight people are drawn so unevenly
    that the nearest impostors do not do."""
    m, rng = clustered(people, 0), np.random.default_rng(4)
    for figures in bootstrap_fnmr([m], [0.2, 0.01], 30, seed=4):
        count = np.bincount(rng.integers(people, size=people), minlength=people)
        first, second = count[m.people.T]
        rows = np.repeat(np.arange(len(m.scores)), np.where(m.positive, first * second, first))
        one_kind = not 0 < m.positive[rows].sum() < len(rows)
        expected = [math.nan if one_kind else 1 - tar_at_far(m.scores[rows], m.positive[rows], fmr) for fmr in (0.2, 0.01)]
        assert figures == pytest.approx(expected, nan_ok=True)


def test_its_interval_covers_the_truth_where_people_differ_and_is_wider_than_that_of_independent_pairs() -> None:
    truth = fnmr_at_fmr(*_pooled(), 0.1)
    covered, widths = 0, []
    for trial in range(40):
        m, row = clustered(30, 100 + trial), np.arange(900)
        naive = Scored(m.scores, m.positive, np.stack([row, row + 900 * m.positive], axis=1))
        (low, high), (below, above) = (limits(bootstrap_fnmr([pairs], [0.1], 100, seed=trial)[:, 0]) for pairs in (m, naive))
        covered += low <= truth <= high
        widths.append(((high - low), (above - below)))
    clustered_width, naive_width = np.mean(widths, axis=0)
    assert covered >= 34 and clustered_width > 1.3 * naive_width


def _pooled() -> tuple[np.ndarray, np.ndarray]:
    parts = [clustered(400, seed, pairs=9000) for seed in range(20)]
    return np.concatenate([m.scores for m in parts]), np.concatenate([m.positive for m in parts])


# What is disclosed ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [0.0, 1.0, 2.0])
def test_linkability_of_gaussians_is_its_integral(d: float) -> None:
    def integrand(s: float) -> float:
        return norm.pdf(s) * max(0.0, 2 / (1 + math.exp(d * s - d * d / 2)) - 1)  # mated N(0, 1), non-mated N(d, 1)

    assert linkability(*gaussians(d)) == pytest.approx(quad(integrand, -9, 9)[0], abs=0.015)


def test_two_releases_that_never_meet_are_linked_wholly() -> None:
    assert linkability(*gaussians(40.0)) > 0.99


@pytest.mark.parametrize("d", [0.0, 1.0, 2.0])
def test_disclosure_of_gaussians_is_its_integral(d: float) -> None:
    s = np.linspace(-9, 9 + d, 3001)
    ratio = d * s - d * d / 2

    def saved(prior: float) -> float:
        odds = math.log(prior / (1 - prior))
        cost = prior * norm.pdf(s, d) * np.logaddexp(0, -ratio - odds) + (1 - prior) * norm.pdf(s) * np.logaddexp(0, ratio + odds)
        return -prior * math.log(prior) - (1 - prior) * math.log(1 - prior) - trapezoid(cost, s)

    truth = quad(saved, 0, 1)[0] / math.log(2)
    (val, val_labels), (test, labels) = gaussians(d, seed=1), gaussians(d, seed=2)
    for ratios in (log_likelihood_ratio(val, val_labels)(test), d * test - d * d / 2):
        bits = disclosure_bits(ratios, labels)
        assert bits[labels].mean() + bits[~labels].mean() == pytest.approx(truth, abs=0.012)


def test_the_ends_of_disclosure_and_its_categories() -> None:
    assert disclosure_bits([0.0, 1e-9, -1e-9], [1, 1, 0]) == pytest.approx(0, abs=1e-9)
    assert disclosure_bits([50.0, -50.0], [1, 0]).sum() == pytest.approx(1 / (2 * math.log(2)))
    assert disclosure_bits([-3.0], [1])[0] < 0  # a ratio that misleads
    around = disclosure_bits([0.9999e-4, 1.0001e-4], [1, 1])
    assert around[0] == pytest.approx(around[1], rel=1e-2)  # the expansion meets the formula
    tags = {1.0: "0", 9.9: "A", 10.1: "B", 99.0: "B", 101.0: "C", 9_900.0: "C", 2e4: "D", 2e5: "E", 2e6: "F"}
    for odds, tag in tags.items():
        assert worst_disclosure(np.array([0.0, -math.log(odds)])) == (pytest.approx(math.log10(odds)), tag)


def test_relative_gains_and_losses() -> None:
    assert pic(0.1, 0.1, 0.2, 0.2) == 0 == suppression_rate(0.9, 0.9)  # no difference
    assert pic(0.4, 0.1, 0.3, 0.2) == pytest.approx(3 - 0.5)
    assert suppression_rate(0.5, 0.9) == pytest.approx(1 - 0.5 / 0.9)  # chance is the most that can be taken away
    with pytest.raises(UserError, match="one is 0: AE 0, EER 0.2"):
        pic(0.1, 0.0, 0.2, 0.2)
