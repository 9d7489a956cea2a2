"""The checkers of chapter 03."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from aia_lib.checks import check, exercises
from aia_lib.statistics import roc_auc


def hint(number, answer):
    return exercises("03")[number](answer)


def softmax(two):
    return np.exp(two)[:, 1] / np.exp(two).sum(1)


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda two: two[:, 0] - two[:, 1], "sign"),
        (lambda two: two[:, 1], "both logits"),
        (lambda two: softmax(two.clip(max=50)), "probability"),
        (softmax, "overflow"),
        (lambda two: (two[:, 1] - two[:, 0]) / 2, "half"),
        (lambda two: two, "shape"),
        (lambda two: two.sum(1), "divide by"),
    ],
)
def test_one_logit(wrong, words):
    assert hint("03.1", lambda two: two[:, 1] - two[:, 0]) is None
    assert words in str(hint("03.1", wrong))


def auc(scores, labels):
    return roc_auc_score(labels, scores)


def wins(scores, labels, ties):
    positive, negative = scores[labels == 1][:, None], scores[labels == 0]
    return ((positive > negative) + ties * (positive == negative)).mean()


@pytest.mark.parametrize(
    "wrong, words",
    [
        (auc, "turned round"),
        (lambda s, y: abs(auc(s, y) - 0.5), "distance from chance"),
        (lambda s, y: max(wins(s, y, 0), wins(-s, y, 0)), "tie"),
        (lambda s, y: auc(s, y) if auc(s, y) > 0.5 else 0.5, "negative scores"),
        (lambda s, y: 1.0, "every negative"),
    ],
)
def test_sign_free(wrong, words):
    assert hint("03.2", lambda s, y: max(auc(s, y), 1 - auc(s, y))) is None
    assert hint("03.2", lambda s, y: max(wins(s, y, 0.5), 1 - wins(s, y, 0.5))) is None
    assert words in str(hint("03.2", wrong))


def accuracies(guess, labels):
    guess, labels = guess[labels >= 0], labels[labels >= 0]
    rate = labels.mean()
    return (guess == labels).mean(), max(rate, 1 - rate), balanced_accuracy_score(labels, guess)


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda g, y: ((g == y).mean(), (y == 0).mean(), 0.5), "without a label"),
        (lambda g, y: ((g == np.where(y < 0, g, y)).mean(), 0.8, 0.5), "counts as right"),
        (lambda g, y: (accuracies(g, y)[0], y[y >= 0].mean(), accuracies(g, y)[2]), "more frequent"),
        (lambda g, y: (accuracies(g, y)[0], 1 - y[y >= 0].mean(), accuracies(g, y)[2]), "more frequent"),
        (lambda g, y: (*accuracies(g, y)[:2], (g[y == 1] == 1).mean()), "mean over both"),
        (lambda g, y: (*accuracies(g, y)[:2], 0.5), "within label 0"),
        (lambda g, y: (0.1, 0.8, 0.5), "begin with"),
        (lambda g, y: accuracies(g, y)[0], "three numbers"),
    ],
)
def test_accuracies(wrong, words):
    assert hint("03.3", accuracies) is None
    assert words in str(hint("03.3", wrong))


def person_interval(scores, labels, people, resamples, seed, level=0.95, units=None, skip=True):
    rng = np.random.default_rng(seed)
    rows = [np.flatnonzero((people if units is None else units) == unit) for unit in np.unique(people if units is None else units)]
    aucs = []
    for _ in range(resamples):
        drawn = np.concatenate([rows[i] for i in rng.integers(len(rows), size=len(rows))])
        if len(np.unique(labels[drawn])) == 2:
            aucs.append(roc_auc(scores[drawn], labels[drawn]))
        elif not skip:
            aucs.append(np.nan)
    return tuple(np.quantile(aucs, [(1 - level) / 2, (1 + level) / 2]))


OTHER_SEEDS = itertools.count(1)
"""Another one each time, and always the same ones: a width of 150 resamples is off by chance once in some hundred."""


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda *args: person_interval(*args, units=np.arange(len(args[0]))), "images"),
        (lambda *args: person_interval(*args)[::-1], "before high"),
        (lambda *args: person_interval(*args, level=0.8), "quantiles"),
        (lambda s, y, p, n, seed: person_interval(s, y, p, n, next(OTHER_SEEDS)), "same seed"),
        (lambda *args: person_interval(*args, skip=False), "one label only"),
        (lambda *args: (0.9, 0.95), "not inside"),
    ],
)
def test_person_interval(wrong, words):
    assert hint("03.4", person_interval) is None
    assert words in str(hint("03.4", wrong))


def test_an_answer_that_breaks_is_told_and_does_not_break_the_notebook(capsys):
    assert not check("03.2", lambda scores, labels: scores["text"])
    assert "could not be used" in capsys.readouterr().out
    assert not check("03.1", ...)
    assert "not yet: replace the ..." in capsys.readouterr().out
