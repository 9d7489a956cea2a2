"""The checkers of chapter 00."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from aia_lib.checks import check, exercises

LABELS = np.repeat([1, 0, -1], [30, 70, 10]).astype(np.int8)


def hint(number, *answer):
    return exercises("00")[number](*answer)


@pytest.mark.parametrize(
    "wrong, words",
    [
        (0.3, "rarer"),
        (0.5, "a coin"),
        (70, "per cent"),
        (-0.7, "between 0 and 1"),
        (70 / 110, "count how many"),
    ],
)
def test_majority(wrong, words):
    assert hint("00.1", 0.7, LABELS) is None
    assert words in str(hint("00.1", wrong, LABELS))


def leak_removed(original, method):
    return (original - method) / (original - 0.5)


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda o, x: (o - x) / o, "count from 0"),
        (lambda o, x: o - x, "Divide"),
        (lambda o, x: -leak_removed(o, x), "sign"),
        (lambda o, x: 1 - leak_removed(o, x), "left"),
        (lambda o, x: (x - 0.5) / o, "changes nothing"),
        (lambda o, x: 100 * leak_removed(o, x), "has to be 1"),
        (lambda o, x: (0.9 - x) / 0.4, "both arguments"),
        (lambda o, x: max(0.0, leak_removed(o, x)), "the leak has grown"),
        (lambda o, x: ..., "nothing yet"),
        (0.5, "the function itself"),
    ],
)
def test_leak_removed(wrong, words):
    assert hint("00.2", leak_removed) is None
    assert words in str(hint("00.2", wrong))


def pixelate(images):
    return F.avg_pool2d(images, 4).flatten(1)


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda x: F.avg_pool2d(x, 4), "flatten all but the first"),
        (lambda x: F.avg_pool2d(x, 4).flatten(), "Keep the first axis"),
        (lambda x: F.avg_pool2d(x, 8).flatten(1), "How many blocks"),
        (lambda x: F.max_pool2d(x, 4).flatten(1), "brightest"),
        (lambda x: x[:, 0, ::4, ::4].flatten(1), "one pixel"),
        (lambda x: 16 * pixelate(x), "sum"),
        (lambda x: 1 - pixelate(x), "the values are not"),
        (lambda x: None, "nothing yet"),
        (torch.zeros(3, 64), "the function itself"),
    ],
)
def test_pixelate(wrong, words):
    assert hint("00.3", pixelate) is None
    assert hint("00.3", lambda images: pixelate(images).numpy()) is None
    assert words in str(hint("00.3", wrong))


def test_every_exercise_can_be_checked_from_the_notebook(capsys):
    assert check("00.1", 0.7, LABELS) and check("00.2", leak_removed) and check("00.3", pixelate)
    assert not check("00.1", ..., LABELS)
    assert "not yet: replace the ..." in capsys.readouterr().out
