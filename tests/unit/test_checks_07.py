"""Chapter 07's checkers: the right answer passes, each typical mistake gets the hint that fits."""

import numpy as np
import pytest

from aia_lib.checks import check, exercises
from aia_lib.sweep import hypervolume


def staircase(leak, utility):
    area, reached = 0.0, 0.5
    for x, y in sorted(zip(leak, utility, strict=True)):
        area += (1 - x) * max(0.0, y - reached)
        reached = max(reached, y)
    return area


def choice(leak, utility, margin, limit):
    kept = np.flatnonzero(leak + margin <= limit)
    return kept[np.argmax(utility[kept])] if len(kept) else None


@pytest.mark.parametrize(
    ("number", "answer"),
    [
        ("07.1", "ABFG"),
        ("07.1", "g, f, b, a"),
        ("07.1", {"A", "B", "F", "G"}),
        ("07.2", staircase),
        ("07.2", hypervolume),
        ("07.3", choice),
    ],
    ids=["07.1", "07.1 another order", "07.1 a set", "07.2 by hand", "07.2 the library's", "07.3"],
)
def test_the_right_answer_passes(number, answer, capsys):
    assert check(number, answer)
    assert capsys.readouterr().out == f"Exercise {number}: right.\n"


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        ("ABCDFG", "equal in one figure"),
        ("ABFGH", "H is beaten"),
        ("ABEFG", "E is beaten"),
        ("GH", "which way is better"),
        ("AG", "the two ends"),
        ("ABG", "by rising leak"),
        ("BFG", "the least leak is on the front"),
        ("ABF", "And the best verifier"),
        ("", "name settings"),
        ("ABX", "name settings"),
    ],
)
def test_front_hints(answer, hint):
    assert hint in exercises("07")["07.1"](answer)


def boxes(leak, utility, low=0.5):
    return (1 - leak) * (utility - low)


def slabs_in_the_given_order(leak, utility):
    area, reached = 0.0, 0.5
    for x, y in zip(leak, utility, strict=True):
        area += (1 - x) * (y - reached)
        reached = y
    return area


def slabs_without_beaten(leak, utility):
    area, reached = 0.0, 0.5
    for x, y in sorted(zip(leak, utility, strict=True)):
        area += (1 - x) * (y - reached)
        reached = y
    return area


def straight_lines(leak, utility):
    order = np.argsort(leak)
    x, y = np.append(leak[order], 1), np.append(utility[order], utility[order][-1]) - 0.5
    return ((y[1:] + y[:-1]) / 2 * np.diff(x)).sum()


def below_chance(leak, utility):
    area, reached = 0.0, utility[np.argmin(leak)]
    area += (1 - leak.min()) * (reached - 0.5)
    for x, y in sorted(zip(leak, utility, strict=True)):
        area += (1 - x) * max(0.0, y - reached)
        reached = max(reached, y)
    return area


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda leak, utility: boxes(leak, utility).sum(), "lie on top of each other"),
        (lambda leak, utility: boxes(leak, utility).max(), "largest single"),
        (lambda leak, utility: (1 - leak.min()) * (utility.max() - 0.5), "different settings"),
        (lambda leak, utility: boxes(leak, utility, 0.0).max(), "down to a utility of 0"),
        (lambda leak, utility: (leak * (utility - 0.5)).max(), "to the left"),
        (lambda leak, utility: utility.max() - leak.min(), "a single setting"),
        (straight_lines, "straight lines"),
        (lambda leak, utility: boxes(leak, utility).mean(), "slabs"),
        (slabs_in_the_given_order, "must not depend on their order"),
        (slabs_without_beaten, "take nothing away"),
        (below_chance, "worse than chance"),
        (boxes, "one number"),
    ],
)
def test_hypervolume_hints(answer, hint):
    assert hint in exercises("07")["07.2"](answer)


def least_leak(leak, utility, margin, limit):
    index = np.argmin(leak + margin)
    return index if (leak + margin)[index] <= limit else None


def place_among_the_kept(leak, utility, margin, limit):
    kept = leak + margin <= limit
    return int(np.argmax(utility[kept])) if kept.any() else None


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda leak, utility, margin, limit: choice(leak, utility, 0 * margin, limit), "plays no part"),
        (lambda leak, utility, margin, limit: choice(leak, utility, -margin, limit), "wrong sign"),
        (lambda leak, utility, margin, limit: choice(leak, utility, margin[0], limit), "margin of its own"),
        (lambda *given: 0 if choice(*given) is None else choice(*given), "What should be recommended then"),
        (least_leak, "the most useful"),
        (place_among_the_kept, "in the arrays that came in"),
        (lambda leak, utility, margin, limit: utility.max(), "one whole number"),
        (lambda leak, utility, margin, limit: leak <= limit, "one whole number"),
        (lambda leak, utility, margin, limit: 1, "two steps"),
    ],
)
def test_choice_hints(answer, hint):
    assert hint in exercises("07")["07.3"](answer)


def test_an_answer_that_fails_is_the_readers_to_see(capsys):
    assert not check("07.2", lambda leak: 0.0)
    assert "could not be used" in capsys.readouterr().out
    assert not check("07.1", ...)
    assert "not yet: replace the ..." in capsys.readouterr().out
