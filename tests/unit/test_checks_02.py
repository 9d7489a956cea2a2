"""The checkers of chapter 02."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from aia_lib.checks import check, exercises
from aia_lib.models import Encoder


def hint(number, answer):
    return exercises("02")[number](answer)


def latent_length(height, width):
    return 12 * (height // 4) * (width // 4)


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda h, w: 0.75 * h * w, "odd row"),
        (lambda h, w: 12 * h * w, "height and width"),
        (lambda h, w: 12 * (h // 2) * (w // 2), "How many blocks"),
        (lambda h, w: 8 * (h // 4) * (w // 4), "the second one"),
        (lambda h, w: (h // 4) * (w // 4), "last block"),
        (lambda h, w: 0.75, "share of the pixels"),
        (lambda h, w: 128, "after each line"),
    ],
)
def test_latent_length(wrong, words):
    assert hint("02.1", latent_length) is None
    for size in ((64, 64), (66, 50)):
        assert latent_length(*size) == Encoder()(torch.rand(1, 1, *size)).shape[1]
    assert words in str(hint("02.1", wrong))


@pytest.mark.parametrize(
    "wrong, words", [(4, "overlap"), (6, "one block"), (7, "two pixels"), (100, "area"), (64, "whole picture"), (5, "backwards")]
)
def test_receptive_field(wrong, words):
    images = torch.rand(1, 1, 64, 64, requires_grad=True)
    Encoder()(images).reshape(12, 16, 16)[:, 8, 8].sum().backward()
    rows = images.grad[0, 0].abs().sum(1).nonzero()
    assert hint("02.2", int(rows.max() - rows.min()) + 1) is None
    assert words in str(hint("02.2", wrong))


def psnr(images, rebuilt):
    return -10 * np.log10(((images - rebuilt) ** 2).mean((1, 2, 3)))


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda a, b: -10 * np.log10(((a - b) ** 2).mean()), "all images together"),
        (lambda a, b: psnr(a, b).mean(), "averaged at the end"),
        (lambda a, b: -psnr(a, b), "sign"),
        (lambda a, b: psnr(a, b) * np.log(10), "logarithm"),
        (lambda a, b: psnr(a, b) / 2, "root"),
        (lambda a, b: psnr(a, b) * 2, "20 log10"),
        (lambda a, b: psnr(a, b) / 10, "bel"),
        (lambda a, b: psnr(a, b) + 20 * np.log10(255), "255"),
        (lambda a, b: np.abs(a - b).mean((1, 2, 3)), "begin with"),
        (lambda a, b: a, "shape"),
    ],
)
def test_psnr(wrong, words):
    assert hint("02.3", psnr) is None
    assert words in str(hint("02.3", wrong))


def linear_attack(g, images, ridge):
    mean_g, mean_image = g.mean(0), images.mean(0)
    centred = g - mean_g
    weights = np.linalg.solve(centred.T @ centred + ridge * np.eye(g.shape[1]), centred.T @ (images - mean_image))
    return weights, mean_image - mean_g @ weights


def penalised_offset(g, images, ridge):
    ones = np.c_[g, np.ones(len(g))]
    both = np.linalg.solve(ones.T @ ones + ridge * np.eye(ones.shape[1]), ones.T @ images)
    return both[:-1], both[-1]


@pytest.mark.parametrize(
    "wrong, words",
    [
        (lambda g, x, r: linear_attack(g, x, r)[0], "two arrays"),
        (lambda g, x, r: (linear_attack(g, x, r)[0].T, linear_attack(g, x, r)[1]), "turned round"),
        (lambda g, x, r: (np.linalg.solve(g.T @ g + r * np.eye(g.shape[1]), g.T @ x), np.zeros(x.shape[1])), "without an offset"),
        (lambda g, x, r: (linear_attack(g, x, r)[0], x.mean(0)), "mean g to the mean image"),
        (lambda g, x, r: linear_attack(g, x, 1e-9), "ignores"),
        (penalised_offset, "penalised"),
    ],
)
def test_linear_attack(wrong, words):
    assert hint("02.4", linear_attack) is None
    assert words in str(hint("02.4", wrong))


def test_an_answer_that_breaks_is_told_and_does_not_break_the_notebook(capsys):
    assert not check("02.3", lambda images, rebuilt: images @ "text")
    assert "could not be used" in capsys.readouterr().out
    assert not check("02.2", ...)
    assert "not yet: replace the ..." in capsys.readouterr().out
