"""The checkers of chapter 01."""

from __future__ import annotations

import numpy as np
import pytest

from aia_lib.checks import check, exercises


def hint(number, answer):
    return exercises("01")[number](answer)


def count_pairs(identity):
    n = np.bincount(identity)
    genuine = int((n * (n - 1) // 2).sum())
    return genuine, len(identity) * (len(identity) - 1) // 2 - genuine


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda i: count_pairs(i)[::-1], "wrong order"),
        (lambda i: ((np.bincount(i) ** 2).sum(), 0), "with itself"),
        (lambda i: (2 * count_pairs(i)[0], 2 * count_pairs(i)[1]), "(b, a)"),
        (lambda i: (len(i) * (len(i) / (i.max() + 1) - 1) / 2, len(i) * (len(i) - len(i) / (i.max() + 1)) / 2), "one person at a time"),
        (lambda i: (count_pairs(i)[0], len(i)), "in all"),
        (lambda i: count_pairs(i)[0], "two numbers"),
        (lambda i: (1, 2), "by hand"),
    ],
)
def test_count_pairs(wrong, words):
    assert hint("01.1", count_pairs) is None
    assert words in str(hint("01.1", wrong))


def share_seen(train, test):
    return np.isin(test, train).mean()


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda train, test: np.isin(np.unique(test), train).mean(), "people"),
        (lambda train, test: share_seen(test, train), "the other way round"),
        (lambda train, test: 100 * share_seen(train, test), "between 0 and 1"),
        (lambda train, test: 1 - share_seen(train, test), "clean"),
        (lambda train, test: len(set(train) & set(test)) / len(set(train) | set(test)), "sets of people"),
        (lambda train, test: 0.1, "for each test image"),
        (lambda train, test: 0.6, "share nobody"),
    ],
)
def test_share_seen(wrong, words):
    assert hint("01.2", share_seen) is None
    assert words in str(hint("01.2", wrong))


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda q: 1 - (q**2).sum(), "on genuine pairs"),
        (lambda q: (q**2).sum(), "same value"),
        (lambda q: 0.5 + (q**2).sum() / 2, "by mistake"),
        (lambda q: 0.5 + q[0] * (1 - q[0]), "for two values"),
        (lambda q: 100 - 50 * (q**2).sum(), "a share"),
        (lambda q: 0.5, "begin with"),
    ],
)
def test_label_accuracy(wrong, words):
    assert hint("01.3", lambda q: 1 - (q**2).sum() / 2) is None
    assert words in str(hint("01.3", wrong))


def impostors(identity, labels, count, seed, same_person=False, missing=False, other_label=False, twice=False, one_label=False):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(len(identity), size=(2, 40 * count))
    keep = a < b if not twice else a != b
    if not same_person:
        keep &= identity[a] != identity[b]
    if not other_label:
        keep &= labels[a] == labels[b]
    if not missing:
        keep &= (labels[a] >= 0) & (labels[b] >= 0)
    if one_label:
        keep &= labels[a] == 1
    pairs = np.stack([a[keep], b[keep]], axis=1)
    pairs = np.repeat(pairs, 2, axis=0) if twice else np.unique(pairs, axis=0)
    pairs = pairs if twice else rng.permutation(pairs)
    return pairs[:count, 0], pairs[:count, 1]


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda *args: impostors(*args, same_person=True), "genuine"),
        (lambda *args: impostors(*args, missing=True), "missing"),
        (lambda *args: impostors(*args, other_label=True), "different labels"),
        (lambda *args: impostors(*args, twice=True), "comes twice"),
        (lambda *args: impostors(*args, one_label=True), "both labels"),
        (lambda i, y, count, seed: impostors(i, y, count, 5), "another seed"),
        (lambda i, y, count, seed: impostors(i, y, count, np.random.SeedSequence().entropy), "same seed"),
        (lambda i, y, count, seed: impostors(i, y, count // 2, seed), "draw more"),
        (lambda *args: impostors(*args)[0], "two arrays"),
        (lambda *args: np.float64(impostors(*args)), "whole numbers"),
    ],
)
def test_same_label_impostors(wrong, words):
    assert hint("01.4", impostors) is None
    assert words in str(hint("01.4", wrong))


def test_an_answer_that_breaks_is_told_and_does_not_break_the_notebook(capsys):
    assert not check("01.1", lambda identity: identity.no_such_thing)
    assert "could not be used" in capsys.readouterr().out
    assert not check("01.3", ...)
    assert "not yet: replace the ..." in capsys.readouterr().out
