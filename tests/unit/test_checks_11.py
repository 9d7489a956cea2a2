"""The checkers of chapter 11: right answers pass, typical wrong ones get the hint that fits."""

from __future__ import annotations

import numpy as np
import pytest

from aia_lib.checks import check, exercises


def hint(number, answer):
    return exercises("11")[number](answer)


def cells(a, b):
    return np.where((a >= 0) & (b >= 0), 2 * a + b, -1)


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda a, b: 2 * a + b, "lacks one"),
        (lambda a, b: np.where((a >= 0) & (b >= 0), 2 * a + b, 0), "lacks one"),
        (lambda a, b: np.where((a >= 0) & (b >= 0), a + 2 * b, -1), "exchanged"),
        (lambda a, b: np.where((a >= 0) & (b >= 0), a + b, -1), "two different cells"),
        (lambda a, b: np.where((a >= 0) & (b >= 0), a ^ b, -1), "not which"),
        (lambda a, b: np.full(len(a), 7), "multiplied by two"),
        (lambda a, b: cells(a, b)[:3], "shape"),
    ],
)
def test_cells(wrong, words):
    assert hint("11.1", cells) is None
    assert words in str(hint("11.1", wrong))


def gap(decisions, labels):
    return abs(decisions[labels == 1].mean() - decisions[labels == 0].mean())


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda d, y: d[y == 1].mean() - d[y == 0].mean(), "no sign"),
        (lambda d, y: abs(d[y != 0].mean() - d[y == 0].mean()), "neither group"),
        (lambda d, y: abs(d[y == 1].mean() - d[y != 1].mean()), "neither group"),
        (lambda d, y: abs((y[d == 1] == 1).mean() - (y[d == 1] == 0).mean()), "positive decisions"),
        (lambda d, y: abs(d[y == 1].sum() - d[y == 0].sum()), "rates"),
        (lambda d, y: 0.9, "mean of the decisions"),
    ],
)
def test_gap(wrong, words):
    assert hint("11.2", gap) is None
    assert words in str(hint("11.2", wrong))


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda p0, p1: p1 > p1.mean(), "frequent values"),
        (lambda p0, p1: np.ones(len(p0), bool), "no gap"),
        (lambda p0, p1: p1 - p0 == (p1 - p0).max(), "one value"),
        (lambda p0, p1: p1 > 2 * p0, "leave out"),
        (lambda p0, p1: np.arange(len(p0)) % 2 == 0, "sum over the chosen"),
        (lambda p0, p1: p1 - p0, "true or false"),
        (lambda p0, p1: 0.5 * np.abs(p1 - p0).sum(), "shape"),
    ],
)
def test_most_unequal(wrong, words):
    for right in (lambda p0, p1: p1 > p0, lambda p0, p1: p0 >= p1, lambda p0, p1: (p1 > p0).astype(int)):
        assert hint("11.3", right) is None, "which group is preferred makes no difference to the gap"
    assert words in str(hint("11.3", wrong))


def group_errors(distances, different, group, threshold, out_of=lambda one, kind: one & kind, accept=lambda d, t: d <= t):
    accepted, rows = accept(distances, threshold), []
    for value in (0, 1):
        one = group == value
        fmr = (accepted & one & (different == 1)).sum() / out_of(one, different == 1).sum()
        fnmr = (~accepted & one & (different == 0)).sum() / out_of(one, different == 0).sum()
        rows.append([fmr, fnmr])
    return np.array(rows)


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda *args: group_errors(*args)[:, ::-1], "columns"),
        (lambda *args: group_errors(*args).T, "a row is a group"),
        (lambda *args: group_errors(*args)[::-1], "group 0 comes first"),
        (lambda *args: group_errors(*args, accept=lambda d, t: d > t), "Small distances"),
        (lambda *args: group_errors(*args, out_of=lambda one, kind: one), "all pairs of the group"),
        (lambda d, y, g, t: group_errors(d, y, g, t, out_of=lambda one, kind: one & (d <= t)), "accepted"),
        (lambda d, y, g, t: group_errors(d, y, np.abs(g), t), "no group"),
        (lambda *args: group_errors(*args) + 0.1, "one group at a time"),
        (lambda *args: group_errors(*args).ravel(), "shape"),
    ],
)
def test_group_errors(wrong, words):
    assert hint("11.4", group_errors) is None
    assert words in str(hint("11.4", wrong))


def test_starters_are_not_judged_and_errors_do_not_break_the_notebook(capsys):
    for number in exercises("11"):
        assert not check(number, ...)
        assert not check(number, lambda *inputs: ...), "the starter's function"
    assert not check("11.2", lambda decisions, labels: decisions["text"])
    out = capsys.readouterr().out
    assert out.count("not yet: replace the ...") == 4 == out.count("returns nothing yet") and "could not be used" in out
