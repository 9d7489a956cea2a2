"""Chapter 06's checkers: the right answer passes, each typical mistake gets the hint that fits."""

import numpy as np
import pytest

from aia_lib.checks import check, exercises
from aia_lib.report.ledger import published
from aia_lib.statistics import Scored, interval, roc_auc

PRIVACY, UTILITY = "privacy_accuracy", "utility_accuracy"


def shares(which="vggface", method="AIA", chance=0.5):
    o, x = published(which)["Original"], published(which)[method]
    return np.array([(o[key] - x[key]) / (o[key] - chance) for key in (PRIVACY, UTILITY)])


def figures(original, method):
    removed = (original["leak_auc"] - method["leak_auc"]) / (original["leak_auc"] - 0.5)
    return removed, (method["utility_auc_same"] - 0.5) / (original["utility_auc_same"] - 0.5)


def by_people(scores, positive, people, resamples=300, level=0.95, share=1.0):
    rng = np.random.default_rng(3)
    codes = np.unique(people)
    aucs = []
    for _ in range(resamples):
        drawn = rng.choice(codes, int(share * len(codes)))
        rows = np.concatenate([np.flatnonzero(people == code) for code in drawn])
        aucs.append(roc_auc(scores[rows], positive[rows]))
    return np.quantile(aucs, [(1 - level) / 2, (1 + level) / 2])


def by_library(scores, positive, people, resamples):
    return interval([Scored(scores, positive, people)], resamples)


@pytest.mark.parametrize(
    ("number", "answer"),
    [("06.1", tuple(shares())), ("06.1", (0.419, 0.323)), ("06.2", figures), ("06.3", by_people), ("06.3", by_library)],
    ids=["06.1", "06.1 rounded", "06.2", "06.3 by hand", "06.3 by the library"],
)
def test_the_right_answer_passes(number, answer, capsys):
    assert check(number, answer)
    assert capsys.readouterr().out == f"Exercise {number}: right.\n"


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (100 * shares(), "per cent"),
        (shares()[::-1], "wrong order"),
        (shares() * (1, -1) + (0, 1), "what is paid"),
        (shares(chance=0.0), "from where should one count"),
        ((0.1308, 0.1335), "at most"),
        (shares("celeba"), "CelebA columns"),
        (shares(method="AIA\\T"), "the row AIA"),
        ((0.5, 0.5), "subtract 0.5"),
        (0.419, "two numbers"),
    ],
)
def test_exchange_hints(answer, hint):
    assert hint in exercises("06")["06.1"](answer)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda o, x: figures(o, x)[::-1], "wrong order"),
        (lambda o, x: (1 - figures(o, x)[0], figures(o, x)[1]), "that is left"),
        (lambda o, x: ((o["leak_auc"] - x["leak_auc"]) / o["leak_auc"], 1.0), "the leak: an attacker that knows nothing"),
        (lambda o, x: (0.9, 0.9), "how far it could come down"),
        (lambda o, x: (figures(o, x)[0], 1 - figures(o, x)[1]), "what is kept"),
        (lambda o, x: (figures(o, x)[0], (x["utility_auc"] - 0.5) / (o["utility_auc"] - 0.5)), "free impostors"),
        (lambda o, x: (figures(o, x)[0], x["utility_auc_same"] / o["utility_auc_same"]), "a verifier that knows nothing"),
        (
            lambda o, x: (figures(o, x)[0], (x["utility_accuracy_same"] - 0.5) / (o["utility_accuracy_same"] - 0.5)),
            "by AUC, not by the accuracy",
        ),
        (lambda o, x: (figures(o, x)[0], 0.123), "own label"),
        (lambda o, x: figures(o, x)[0], "two numbers"),
    ],
)
def test_figures_hints(answer, hint):
    assert hint in exercises("06")["06.2"](answer)


def without_replacement(scores, positive, people, resamples):
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(scores)) for _ in range(20)]
    return np.quantile([roc_auc(scores[rows], positive[rows]) for rows in orders], [0.025, 0.975])


def labels_left_alone(scores, positive, people, resamples):
    low, high = by_people(scores, positive, people, resamples)
    middle = (low + high) / 2
    return low - middle + 0.5, high - middle + 0.5


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda s, p, people, n: interval([Scored(s, p, np.arange(len(s)))], n), "rows, or people"),
        (without_replacement, "with replacement"),
        (lambda s, p, people, n: by_people(s, p, people, n, level=0.8), "too narrow"),
        (lambda s, p, people, n: by_people(s, p, people, n, share=0.3), "too wide"),
        (labels_left_alone, "place is not"),
        (lambda *given: by_library(*given)[::-1], "lower end"),
        (lambda *given: 0.9, "two ends"),
    ],
)
def test_interval_hints(answer, hint):
    assert hint in exercises("06")["06.3"](answer)


def test_what_is_not_there_yet(capsys):
    assert not check("06.3", ...)
    assert "not yet: replace the ..." in capsys.readouterr().out
