"""The checkers of chapter 08."""

from __future__ import annotations

import numpy as np
import pytest

from aia_lib.checks import check, exercises


def hint(number, *answer):
    return exercises("08")[number](*answer)


def stretch(maps):
    least, most = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    return (maps - least) / np.where(most > least, most - least, 1)


def no_guard(maps):
    least, most = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    return (maps - least) / (most - least)


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda m: (m - m.min()) / (m.max() - m.min()), "all maps together"),
        (lambda m: m / m.max((1, 2), keepdims=True), "the least are not 0"),
        (lambda m: m - m.min((1, 2), keepdims=True), "the greatest are not 1"),
        (lambda m: (m - m.min((1, 2), keepdims=True)) / m.max((1, 2), keepdims=True), "below 1"),
        (no_guard, "NaN"),
        (lambda m: 1 - stretch(m), "keep their order"),
        (lambda m: stretch(m) + (m.max() == m.min()), "has to become 0"),
        (lambda m: stretch(m)[0], "in that shape"),
        (lambda m: ..., "nothing yet"),
        (np.zeros((2, 3, 3)), "the function itself"),
    ],
)
def test_stretch(wrong, words):
    assert hint("08.1", stretch) is None
    assert words in str(hint("08.1", wrong))


def density(evidence, regions, code):
    inside = regions == code
    return evidence[inside].sum() / evidence.sum() / inside.mean()


def density_of_images(evidence, regions, code):
    inside = regions == code
    return ((evidence * inside).sum((1, 2)) / evidence.sum((1, 2)) / inside.mean((1, 2))).mean()


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda e, r, c: e[r == c].sum() / e.sum(), "divide by its share"),
        (lambda e, r, c: 1 / density(e, r, c), "upside down"),
        (density_of_images, "Sum over all images first"),
        (lambda e, r, c: e[r == c].mean(), "Against which pixels"),
        (lambda e, r, c: e[r == c].mean() / e[r != c].mean(), "outside the region"),
        (lambda e, r, c: e[r == c].sum() / (r == c).sum() / e.sum(), "a share of all pixels"),
        (lambda e, r, c: density(e, r, 2), "the argument `code`"),
        (lambda e, r, c: np.ones(len(e)), "one number"),
        (lambda e, r, c: 17.0, "inside over all"),
        (lambda e, r, c: None, "nothing yet"),
    ],
)
def test_density(wrong, words):
    assert hint("08.2", density) is None
    assert words in str(hint("08.2", wrong))


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda m, s: m, "for each image"),
        (lambda m, s: m.mean(), "one hole"),
        (lambda m, s: m.mean(0), "compare with `share`"),
        (lambda m, s: m.mean(0) > s, "at least"),
        (lambda m, s: m.any(0), "any image"),
        (lambda m, s: m.all(0), "every image"),
        (lambda m, s: m.mean(0) < s, "exchanged"),
        (lambda m, s: m.mean(0) >= 0.5, "the argument `share`"),
        (lambda m, s: np.zeros(m.shape[1:], bool), "in which share of the N images"),
        (lambda m, s: None, "nothing yet"),
    ],
)
def test_common_hole(wrong, words):
    assert hint("08.3", lambda mask, share: mask.mean(0) >= share) is None
    assert words in str(hint("08.3", wrong))


def test_every_exercise_can_be_checked_from_the_notebook(capsys):
    assert check("08.1", stretch) and check("08.2", density) and check("08.3", lambda mask, share: mask.mean(0) >= share)
    assert not check("08.1", ...)
    assert "not yet: replace the ..." in capsys.readouterr().out
