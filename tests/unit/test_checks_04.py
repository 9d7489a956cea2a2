"""Chapter 04's checkers: the right answer passes, each typical mistake gets the hint that fits."""

import numpy as np
import pytest

from aia_lib import UserError
from aia_lib.checks import check, exercises
from aia_lib.statistics import roc_auc, tar_at_far

DISTANCES, TWO = np.array([0.4, 1.5, 1.2, 2.6]), np.array([0, 1, 0, 1])


def mean_loss(y, half=0.5, stop=True, power=2):
    short = np.maximum(0, 2 - DISTANCES) if stop else 2 - DISTANCES
    return float(np.mean(half * ((1 - y) * DISTANCES**2 + y * short**power)))


def mixture(distances, different, agree):
    rows = [(different == 0) | ((different == 1) & (agree == kind)) for kind in (True, False)]
    return agree[different == 1].mean(), *(roc_auc(distances[r], different[r]) for r in rows)


@pytest.mark.parametrize(
    ("number", "answer"),
    [("04.1", mean_loss(TWO)), ("04.2", tar_at_far), ("04.3", mixture)],
    ids=["04.1", "04.2", "04.3"],
)
def test_the_right_answer_passes(number, answer, capsys):
    assert check(number, answer)
    assert capsys.readouterr().out == f"Exercise {number}: right.\n"


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (mean_loss(1 - TWO), "scikit-learn's 1"),
        (4 * mean_loss(TWO), "a mean is asked for"),
        (mean_loss(TWO, half=1), "factors in front"),
        (mean_loss(TWO, stop=False), "the max in Eq. 7"),
        (mean_loss(TWO, power=1), "squared"),
        (0.1, "which of the two terms"),
        (np.array([0.08, 0.125, 0.72, 0.0]), "one number"),
    ],
)
def test_loss_hints(answer, hint):
    assert hint in exercises("04")["04.1"](answer)


def turned_away(distances, different, far):
    return 1 - tar_at_far(distances, different, far)


def accepts_the_far_ones(distances, different, far):
    return (distances[different == 0] >= np.quantile(distances[different == 1], 1 - far)).mean()


def turns_far_away(distances, different, far):
    return (distances[different == 0] <= np.quantile(distances[different == 1], 1 - far)).mean()


def exchanged(distances, different, far):
    return (distances[different == 1] <= np.quantile(distances[different == 0], far)).mean()


def far_itself(distances, different, far):
    threshold = np.quantile(distances[different == 1], far)
    return (distances[different == 1] <= threshold).mean()


def one_too_many(distances, different, far):
    impostors = np.sort(distances[different == 1])
    threshold = impostors[int(far * len(impostors))]
    return (distances[different == 0] <= threshold).mean()


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (turned_away, "turned away"),
        (accepts_the_far_ones, "far apart"),
        (turns_far_away, "let that share in"),
        (exchanged, "exchanged the two kinds"),
        (far_itself, "sets the threshold"),
        (one_too_many, "how many may pass"),
        (lambda distances, different, far: 0.123, "from the impostor pairs alone"),
    ],
)
def test_tar_hints(answer, hint):
    assert hint in exercises("04")["04.2"](answer)


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda q, a, b, agree: (agree.mean(), a, b), "genuine pairs too"),
        (lambda q, a, b, agree: (1 - q, a, b), "labels differ"),
        (lambda q, a, b, agree: (0.2, a, b), "share of the impostor pairs"),
        (lambda q, a, b, agree: (q, b, a), "wrong order"),
        (lambda q, a, b, agree: (q, 1 - a, 1 - b), "below 0.5"),
        (lambda q, a, b, agree: (q, 0.7, 0.7), "which rows"),
        (lambda q, a, b, agree: (q, a), "three numbers"),
    ],
)
def test_mixture_hints(change, hint):
    def answer(distances, different, agree):
        return change(*mixture(distances, different, agree), agree)

    assert hint in exercises("04")["04.3"](answer)


def test_what_is_not_there_yet_and_what_does_not_exist(capsys):
    assert not check("04.2", ...)
    assert "not yet: replace the ..." in capsys.readouterr().out
    with pytest.raises(UserError, match="04.1, 04.2, 04.3"):
        check("04.9", 1)


def test_no_hint_gives_the_answer_away():
    assert str(mean_loss(TWO)) not in exercises("04")["04.1"](1.0)
