"""Chapter 05's checkers: the right answer passes, each typical mistake gets the hint that fits."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from aia_lib.checks import check, exercises
from aia_lib.losses import privacy_gain
from aia_lib.statistics import roc_auc


def leak(val_scores, val_labels, test_scores, test_labels):
    sign = 1 if roc_auc(val_scores, val_labels) >= 0.5 else -1
    return roc_auc(sign * np.asarray(test_scores), test_labels)


def reverse(g, beta):
    return (1 + beta) * g.detach() - beta * g


class Reversal(torch.autograd.Function):
    @staticmethod
    def forward(context, g, beta):
        context.beta = beta
        return g.clone()

    @staticmethod
    def backward(context, gradient):
        return -context.beta * gradient, None


@pytest.mark.parametrize(
    ("number", "answer"),
    [("05.1", leak), ("05.2", privacy_gain), ("05.3", reverse), ("05.3", Reversal.apply)],
    ids=["05.1", "05.2", "05.3 in a line", "05.3 as a function"],
)
def test_the_right_answer_passes(number, answer, capsys):
    assert check(number, answer)
    assert capsys.readouterr().out == f"Exercise {number}: right.\n"


def best_on_test(val_scores, val_labels, test_scores, test_labels):
    auc = roc_auc(test_scores, test_labels)
    return max(auc, 1 - auc)


def on_val(val_scores, val_labels, test_scores, test_labels):
    auc = roc_auc(val_scores, val_labels)
    return max(auc, 1 - auc)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda v, vl, t, tl: roc_auc(t, tl), "calls it private"),
        (best_on_test, "you orient on test"),
        (lambda *given: 1 - leak(*given), "turned round"),
        (on_val, "AUC on val"),
        (lambda *given: 0.7, "two steps"),
    ],
)
def test_leak_hints(answer, hint):
    assert hint in exercises("05")["05.1"](answer)


def changed(**kinds):
    return lambda logits, labels, kind: kinds.get(kind, privacy_gain)(logits, labels, kind)


def mean_capped(logits, labels, kind):
    return F.binary_cross_entropy_with_logits(logits, labels).clamp(max=math.log(2))


def entropy(logits, labels, kind):
    return (F.softplus(-logits) * torch.sigmoid(logits) + F.softplus(logits) * torch.sigmoid(-logits)).mean()


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (changed(literal=lambda *given: -privacy_gain(*given)), "maximises it"),
        (changed(literal=lambda logits, labels, kind: logits.mean()), "binary cross entropy of the logits"),
        (changed(capped=mean_capped), "you cap the mean"),
        (changed(capped=lambda logits, labels, kind: privacy_gain(logits, labels, "literal")), "has no cap"),
        (changed(capped=lambda logits, labels, kind: logits.mean()), "that of a coin"),
        (changed(maxent=lambda *given: -privacy_gain(*given)), "sign of maxent"),
        (changed(maxent=entropy), "gradient dies"),
        (changed(maxent=lambda logits, labels, kind: logits.mean()), "in the place of the label"),
        (lambda *given: privacy_gain(*given).detach(), "no gradient flows"),
        (lambda *given: privacy_gain(*given).item(), "one torch number"),
        (lambda logits, labels, kind: logits, "one torch number"),
    ],
)
def test_gain_hints(answer, hint):
    assert hint in exercises("05")["05.2"](answer)


@pytest.mark.parametrize(
    ("answer", "hint"),
    [
        (lambda g, beta: -beta * g, "forwards the layer must change nothing"),
        (lambda g, beta: 1.0 * g, "help the adversary"),
        (lambda g, beta: g.detach(), "no gradient comes back"),
        (lambda g, beta: 2 * g.detach() - g, "where does beta go"),
        (lambda g, beta: (1 - beta) * g.detach() + beta * g, "not turned round"),
        (lambda g, beta: 4 * g.detach() - 3 * g, "must arrive before it"),
        (lambda g, beta: g.sum(), "g's shape"),
    ],
)
def test_reverse_hints(answer, hint):
    assert hint in exercises("05")["05.3"](answer)


def test_an_answer_that_fails_is_the_readers_to_see(capsys):
    assert not check("05.2", lambda logits: logits)
    assert "could not be used" in capsys.readouterr().out
    assert not check("05.3", ...)
    assert "not yet: replace the ..." in capsys.readouterr().out
