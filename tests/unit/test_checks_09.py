"""Chapter 09's checkers: the right answer passes, each typical mistake gets the hint that fits; its quiz is whole."""

import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from aia_lib.checks import check, exercises
from aia_lib.statistics import roc_auc


def entropy(rate):
    return -rate * np.log2(rate) - (1 - rate) * np.log2(1 - rate)


def cross_entropy(p, labels, log=np.log2):
    return -log(np.where(labels == 1, p, 1 - p)).mean()


def bits(p, labels):
    return entropy(labels.mean()) - cross_entropy(p, labels)


def many(chosen_on_val, worlds=1500, tried=20, oriented=False):
    """By simulation with real rankings, not by the formula that the checker uses."""
    rng = np.random.default_rng(3)
    labels = np.arange(100) % 2 == 1
    ranks = rankdata(rng.normal(size=(worlds, 2, tried, 100)), axis=-1)
    aucs = (ranks[..., labels].sum(-1) - 50 * 51 / 2) / 2500  # (worlds, val or test, attackers)
    if oriented:
        aucs = np.maximum(aucs, 1 - aucs)
    val, test = aucs[:, 0], aucs[:, 1]
    reported = test[np.arange(worlds), val.argmax(1)] if chosen_on_val else test.max(1)
    return (reported > 0.6).mean()


@pytest.fixture(scope="module")
def shares():
    return {"test": many(False), "val": many(True), "one": many(False, tried=1), "oriented": many(False, oriented=True)}


def halves(order):
    return order[: len(order) // 2], order[len(order) // 2 :]


def audited(g, labels, train, test, model=None):
    model = model or KNeighborsClassifier(5)
    return roc_auc(model.fit(g[train], labels[train]).predict_proba(g[test])[:, 1], labels[test])


def by_images(g, labels, identity, **how):
    return audited(g, labels, *halves(np.random.default_rng(0).permutation(len(g))), **how)


def by_people(g, labels, identity, **how):
    first, second = halves(np.random.default_rng(0).permutation(np.unique(identity)))
    return audited(g, labels, np.isin(identity, first), np.isin(identity, second), **how)


def two_audits(g, labels, identity):
    return by_images(g, labels, identity), by_people(g, labels, identity)


def two_audits_linear(g, labels, identity):
    return tuple(one(g, labels, identity, model=LogisticRegression(max_iter=300)) for one in (by_images, by_people))


def cheat(labels, rng, noise=0.3):
    first = rng.choice([-1.0, 1.0], len(labels))
    return np.stack([first, first * (2 * labels - 1)], axis=1) + rng.normal(0, noise, (len(labels), 2))


def ring(labels, rng):
    angle = rng.uniform(0, 2 * np.pi, len(labels))
    return (1 + labels)[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)


@pytest.mark.parametrize(
    ("number", "answer"),
    [("09.1", bits), ("09.3", two_audits), ("09.3", two_audits_linear), ("09.4", cheat), ("09.4", ring)],
    ids=["bits", "neighbours", "linear", "exclusive or", "rings"],
)
def test_the_right_answer_passes(number, answer, capsys):
    assert check(number, answer)
    assert capsys.readouterr().out == f"Exercise {number}: right.\n"


def test_the_right_shares_pass(shares):
    assert check("09.2", (shares["test"], shares["val"])) and check("09.2", [0.58, 0.04])


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda p, s: bits(p, s) * np.log(2), "these are nats"),
        (lambda p, s: -bits(p, s), "the sign"),
        (cross_entropy, "what is left open"),
        (lambda p, s: entropy(s.mean()), "labels alone"),
        (lambda p, s: 1 - cross_entropy(p, s), "one bit for the entropy"),
        (lambda p, s: max(0.0, bits(p, s)), "below 0: leave it so"),
        (lambda p, s: 0.5, "mean of -log2"),
    ],
)
def test_bits_hints(answer, hint):
    assert hint in exercises("09")["09.1"](answer)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda s: (s["val"], s["test"]), "wrong order"),
        (lambda s: (s["one"], s["val"]), "that of a single attacker"),
        (lambda s: (s["test"], s["test"]), "is a maximum"),
        (lambda s: (s["oriented"], s["val"]), "both orientations"),
        (lambda s: (20 * s["one"] + 0.3, s["val"]), "not the share of the worlds"),
        (lambda s: (0.3, s["val"]), "largest of the twenty"),
        (lambda s: (s["test"], 0.2), "np.argmax over the val AUCs"),
        (lambda s: (0.2, 0.3), "count the worlds"),
        (lambda s: s["test"], "two shares"),
    ],
)
def test_best_of_many_hints(answer, hint, shares):
    assert hint in exercises("09")["09.2"](answer(shares))


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda *given: (by_images(*given), by_images(*given)), "people in both of its halves"),
        (lambda *given: two_audits(*given)[::-1], "wrong order"),
        (lambda *given: (by_people(*given), by_people(*given)), "does not see it"),
        (lambda g, labels, identity: two_audits(g, np.random.default_rng(1).permutation(labels), identity), "does not see it"),
        (lambda *given: (by_images(*given), 1 - by_people(*given)), "same rows"),
        (lambda *given: (by_images(*given), 0.1), "far below chance"),
        (lambda *given: (np.nan, 0.5), "not a number"),
        (lambda *given: by_images(*given), "two AUCs"),
    ],
)
def test_two_audits_hints(answer, hint):
    assert hint in exercises("09")["09.3"](answer)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda labels, rng: labels[:, None] + rng.normal(0, 0.3, (len(labels), 2)), "logistic regression reads it"),
        (lambda labels, rng: rng.normal(size=(len(labels), 2)), "no cheat"),
        (lambda labels, rng: cheat(labels, rng, noise=0.75), "less noise"),
        (lambda labels, rng: cheat(labels, rng)[:, 0], "shape (N, k)"),
        (lambda labels, rng: np.full((len(labels), 1), np.nan), "NaN"),
    ],
)
def test_cheat_hints(answer, hint):
    assert hint in exercises("09")["09.4"](answer)


def test_what_is_not_there_yet(capsys):
    assert not check("09.4", ...)
    assert "not yet: replace the ..." in capsys.readouterr().out
