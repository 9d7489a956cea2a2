"""The checkers of chapter 10: the right answers pass, typical wrong ones get the hint that fits."""

import numpy as np
import pytest
import scipy.linalg
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from aia_lib.checks import check, exercises
from aia_lib.statistics import roc_auc


def hint(number, *answer):
    return exercises("10")[number](*answer)


def power(matrix, exponent):
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * values**exponent) @ vectors.T


def fitted_leace(g, s):
    mean = g.mean(0)
    white = power(np.cov(g.T, bias=True), -0.5)
    u = white @ ((g - mean).T @ (s - s.mean()))
    u = u / np.linalg.norm(u)
    return lambda x: x - np.outer((x - mean) @ white @ u, np.linalg.inv(white) @ u)


def leace(g, s):
    return fitted_leace(g, s)(g)


def orthogonal(g, s, share=1.0):
    d = g[s == 1].mean(0) - g[s == 0].mean(0)
    return g - share * np.outer((g - g.mean(0)) @ d, d) / (d @ d)


def in_white(g, s):
    white = power(np.cov(g.T, bias=True), -0.5)
    flat = (g - g.mean(0)) @ white
    u = flat.T @ (s - s.mean())
    return flat - np.outer(flat @ u, u) / (u @ u)


def another_oblique(g, s):
    d = g[s == 1].mean(0) - g[s == 0].mean(0)
    a = d + 0.4 * np.abs(d).max() * np.array([1, -1, 0, 1, -1])
    return g - np.outer((g - g.mean(0)) @ a, d) / (a @ d)


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda g, s: g, "as it went in"),
        (lambda g, s: leace(g, s) - g.mean(0), "mean of g is lost"),
        (orthogonal, "In which coordinates"),
        (in_white, "the way back"),
        (lambda g, s: in_white(g, s) + g.mean(0), "the way back"),
        (another_oblique, "smaller change"),
        (lambda g, s: orthogonal(g, s, 0.5), "still differ"),
        (lambda g, s: np.tile(g.mean(0), (len(g), 1)), "more than one direction"),
        (lambda g, s: None, "nothing yet"),
        (np.zeros(3), "pass the function"),
    ],
)
def test_leace(wrong, words):
    assert hint("10.1", leace) is None
    assert words in str(hint("10.1", wrong))


def test_leace_is_the_packages():
    """What 10.1 asks for is what the package concept-erasure does without its shrinkage of the covariance: the same g, to rounding."""
    import torch
    from concept_erasure import LeaceFitter

    rng = np.random.default_rng(0)
    s = np.repeat([0, 1], 60)
    g = rng.normal(size=(120, 4)) @ rng.normal(size=(4, 4)) + np.outer(s, [1, 2, 0, -1])
    fitter = LeaceFitter(4, 1, dtype=torch.float64, shrinkage=False, constrain_cov_trace=False)
    theirs = fitter.update(torch.from_numpy(g), torch.from_numpy(s[:, None].astype(float))).eraser(torch.from_numpy(g))
    assert np.allclose(leace(g, s), theirs.numpy(), atol=1e-8)


def transport(source, target):
    root, inverse = power(source, 0.5), power(source, -0.5)
    return inverse @ power(root @ target @ root, 0.5) @ inverse


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda s, t: transport(t, s), "way back"),
        (lambda s, t: power(t, 0.5) @ power(s, -0.5), "symmetric"),
        (lambda s, t: np.linalg.cholesky(t) @ np.linalg.inv(np.linalg.cholesky(s)), "symmetric"),
        (lambda s, t: transport(s, t) @ transport(s, t), "square of the map"),
        (lambda s, t: np.sqrt(np.abs(t / s)), "eigenvalues"),
        (lambda s, t: np.eye(4), "off by"),
        (lambda s, t: None, "nothing yet"),
    ],
)
def test_transport(wrong, words):
    assert hint("10.2", transport) is None
    assert hint("10.2", lambda s, t: scipy.linalg.sqrtm(t @ s).real @ np.linalg.inv(s)) is None  # another formula, the same map
    assert words in str(hint("10.2", wrong))


def world(k, n, rng, shift=2.0):
    s = np.arange(n) % 2
    g = rng.normal(size=(n, k))
    g[:, 0] += shift * s
    return g, s


def trial(k, n, rng, new_rows=4000, refit=False, erase=True, own_eraser=True):
    g, s = world(k, n, rng)
    eraser = fitted_leace(*(g, s) if own_eraser else world(k, n, rng)) if erase else lambda x: x
    aucs = [roc_auc(LogisticRegression().fit(eraser(g), s).decision_function(eraser(g)), s)]
    (learn, s_learn), (test, s_test) = world(k, new_rows, rng), world(k, 4000, rng)
    if refit:
        eraser = fitted_leace(np.concatenate([learn, test]), np.concatenate([s_learn, s_test]))
    aucs.append(roc_auc(LogisticRegression().fit(eraser(learn), s_learn).decision_function(eraser(test)), s_test))
    return aucs


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda k, n, rng: trial(k, n, rng, erase=False), "get the erased g"),
        (lambda k, n, rng: trial(k, n, rng)[::-1], "come first"),
        (lambda k, n, rng: trial(k, n, rng, refit=True), "fitted again"),
        (lambda k, n, rng: trial(k, n, rng, own_eraser=False), "fitted on the same rows"),
        (lambda k, n, rng: (0.5, 0.9), "too much is read"),
        (lambda k, n, rng: trial(k, n, rng, new_rows=60), "many more of them"),
        (lambda k, n, rng: (50, 60), "between 0 and 1"),
        (lambda k, n, rng: None, "nothing yet"),
    ],
)
def test_new_people(wrong, words):
    assert words in str(hint("10.3", wrong))


def test_new_people_right():
    assert hint("10.3", trial) is None


def sigma(bound, clip, releases):
    return np.sqrt(2 * releases) * clip / norm.ppf(bound)


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda b, c, m: np.sqrt(2) * norm.ppf(b), "that is mu"),
        (lambda b, c, m: sigma(b, c, m) / 2, "how far apart"),
        (lambda b, c, m: 2 * c * np.sqrt(m) / (2 * norm.ppf(b)), "balanced accuracy"),
        (lambda b, c, m: 2 * c * np.sqrt(m) / norm.ppf(b), "square root of 2"),
        (lambda b, c, m: sigma(b, c, 1), "right for one release"),
        (lambda b, c, m: m * sigma(b, c, 1), "times the noise"),
        (lambda b, c, m: sigma(b, c, 1) / np.sqrt(m), "not less"),
        (lambda b, c, m: 1.0, "solve Phi"),
        (lambda b, c, m: None, "nothing yet"),
    ],
)
def test_noise(wrong, words):
    assert hint("10.4", sigma) is None
    assert words in str(hint("10.4", wrong))


def test_noise_is_the_librarys():
    from aia_lib.defences import auc_bound

    assert np.isclose(auc_bound(2 * 1.5 / sigma(0.7, 1.5, 1)), 0.7)


def test_every_exercise_can_be_checked_from_the_notebook(capsys):
    assert check("10.1", leace) and check("10.2", transport) and check("10.4", sigma)
    assert not check("10.3", ...)
    assert "not yet: replace the ..." in capsys.readouterr().out
    assert not check("10.1", lambda g, s: g[:3])
    assert "not yet: an array of shape (400, 5) is asked for" in capsys.readouterr().out
