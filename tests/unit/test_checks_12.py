"""The checkers and the quiz of chapter 12: the right answers pass, typical wrong ones get the hint that fits."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from aia_lib.checks import check, exercises


def hint(number, *answer):
    return exercises("12")[number](*answer)


def speedup(shared, point, points, workers):
    return (shared + points * point) / (shared + math.ceil(points / workers) * point)


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda s, p, n, w: s + math.ceil(n / w) * p, "seconds with several workers"),
        (lambda s, p, n, w: 1 / speedup(s, p, n, w), "upside down"),
        (lambda s, p, n, w: (s + n * p) / (s + n * p / w), "busiest worker"),
        (lambda s, p, n, w: (s + n * p) / (s + n // w * p), "left over"),
        (lambda s, p, n, w: w, "if everything could be shared"),
        (lambda s, p, n, w: n / math.ceil(n / w), "right for the points alone"),
        (lambda s, p, n, w: 17.0, "how long on one worker"),
        (lambda s, p, n, w: None, "nothing yet"),
        (3.0, "pass the function"),
    ],
)
def test_speedup(wrong, words):
    assert hint("12.1", speedup) is None
    assert words in str(hint("12.1", wrong))


def exponent(images, seconds):
    return np.polyfit(np.log(images), np.log(seconds), 1)[0]


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda n, s: np.polyfit(np.log(n), np.log(s), 1), "both coefficients"),
        (lambda n, s: np.polyfit(np.log(s), np.log(n), 1)[0], "exchanged"),
        (lambda n, s: np.polyfit(np.log(n), np.log(s), 1)[1], "height, not its slope"),
        (lambda n, s: np.polyfit(n, s, 1)[0], "On which axes"),
        (lambda n, s: np.polyfit(np.log(n), s, 1)[0], "one of the two only"),
        (lambda n, s: np.log(s[-1] / s[0]) / np.log(n[-1] / n[0]), "one bad measurement"),
        (lambda n, s: 1.0, "logarithm of both"),
        (lambda n, s: None, "nothing yet"),
    ],
)
def test_exponent(wrong, words):
    assert hint("12.2", exponent) is None
    assert hint("12.2", lambda n, s: np.polyfit(np.log10(n), np.log10(s), 1)[0]) is None
    assert words in str(hint("12.2", wrong))


def backward(reduce, across=lambda losses: losses.sum()):
    def gradients(weights, x, y):
        weights.requires_grad_(True)
        logits = weights @ x.T  # (P, N)
        losses = reduce(F.binary_cross_entropy_with_logits(logits, y.expand_as(logits), reduction="none"))  # (P,)
        across(losses).backward()
        return weights.grad

    return gradients


gradients = backward(lambda each: each.mean(1))


@pytest.mark.parametrize(
    "wrong, words",
    [
        (backward(lambda each: each.mean(1), lambda losses: losses.mean()), "mean over them too"),
        (backward(lambda each: each.sum(1)), "too large by the number of images"),
        (lambda w, x, y: gradients(w, x, y).T, "transposed"),
        (lambda w, x, y: gradients(w, x, y).sum(0), "one gradient for all"),
        (lambda w, x, y: -gradients(w, x, y), "sign is wrong"),
        (lambda w, x, y: np.zeros((4, 5)), "models x weights"),
        (lambda w, x, y: torch.zeros(4, 3), "go backwards once"),
        (lambda w, x, y: w.grad, "require a gradient"),
    ],
)
def test_gradients(wrong, words):
    assert hint("12.3", gradients) is None
    assert words in str(hint("12.3", wrong))


def devices_needed(hours, limit, most):
    return next((devices for devices in range(1, most + 1) if hours(devices) <= limit), math.inf)


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda hours, limit, most: math.ceil(hours(1) / limit) if limit > 5 else devices_needed(hours, limit, most), "Some of the work"),
        (lambda hours, limit, most: next((n for n in range(1, most + 1) if hours(n) < limit), math.inf), "fewer would do"),
        (lambda hours, limit, most: next((2**n for n in range(7) if hours(2**n) <= limit), math.inf), "fewer would do"),
        (lambda hours, limit, most: devices_needed(hours, limit, most) - 1, "hours of one device|is not enough"),
        (lambda hours, limit, most: next((n for n in itertools.count(1) if hours(n) <= limit or n > 999), math.inf), "does not do"),
        (lambda hours, limit, most: next((n for n in range(1, most + 1) if hours(n) <= limit), None), "math.inf is asked for"),
        (lambda hours, limit, most: None, "nothing yet"),
    ],
)
def test_devices_needed(wrong, words):
    assert hint("12.4", devices_needed) is None
    assert any(part in str(hint("12.4", wrong)) for part in words.split("|"))


def test_every_exercise_can_be_checked_from_the_notebook(capsys):
    assert check("12.1", speedup) and check("12.2", exponent) and check("12.3", gradients) and check("12.4", devices_needed)
    assert not check("12.1", ...)
    assert "not yet: replace the ..." in capsys.readouterr().out
    assert not check("12.2", lambda images, seconds: "fast")
    assert "could not be used" in capsys.readouterr().out
