"""Chapter 04: Eq. 7, a rate at a threshold, and what free impostors mix."""

from __future__ import annotations

import numpy as np

from ..statistics import roc_auc, tar_at_far
from . import Answer, accept, close, hint, numbers


def _loss_of_lfw_pairs(answer: float) -> str | None:
    """The mean loss of Eq. 7 for four pairs whose labels are 1 for one person, margin 2."""
    distance, two = np.array([0.4, 1.5, 1.2, 2.6]), np.array([0.0, 1.0, 0.0, 1.0])

    def mean_loss(different: np.ndarray, half: float = 0.5, beyond: bool = False, power: int = 2) -> float:
        short = 2 - distance if beyond else np.maximum(0, 2 - distance)
        return float((half * ((1 - different) * distance**2 + different * short**power)).mean())

    right = mean_loss(two)
    hint(np.ndim(answer), "one number is asked for, the mean over the four pairs.")
    value = float(answer)
    accept(close(value, right))
    hint(close(value, mean_loss(1 - two)), "which value of y pulls a pair together in Eq. 7? Compare it with what scikit-learn's 1 means.")
    hint(close(value, 4 * right), "this is the sum over the pairs; a mean is asked for.")
    hint(close(value, mean_loss(two, half=1)), "look at the factors in front of both squares of Eq. 7.")
    if close(value, mean_loss(two, beyond=True)):
        return "one of the pairs shows two people who are already farther apart than the margin. What does the max in Eq. 7 do to it?"
    hint(close(value, mean_loss(two, power=1)), "the shortfall from the margin enters squared.")
    return "write down, for each of the four pairs, whether it shows one person or two, and which of the two terms of Eq. 7 it pays."


def _tar(answer: Answer) -> str | None:
    """`tar(distances, different, far)`: genuine pairs accepted where at most `far` of the impostors are."""
    rng = np.random.default_rng(4)
    distances = np.concatenate([rng.gamma(16, 1 / 16, 500), rng.gamma(4, 0.5, 900)])
    different = np.repeat([0, 1], [500, 900])
    fars = (0.1, 0.05, 0.3)
    out = [float(answer(distances, different, far)) for far in fars]

    right = [tar_at_far(distances, different, far) for far in fars]
    genuine, impostor = distances[different == 0], distances[different == 1]
    if not close(out, right, 0.005):
        hint(close(out, [1 - value for value in right], 0.005), "this is the share of the genuine pairs that is turned away.")
        thresholds = np.quantile(impostor, 1 - np.array(fars))
        if close(out, [(genuine >= threshold).mean() for threshold in thresholds], 0.01):
            return "you accept the pairs that are far apart. Which pairs are more likely to show one person?"
        if close(out, [(genuine <= threshold).mean() for threshold in thresholds], 0.01):
            return "your threshold turns a share `far` of the impostors away; it should let that share in."
        if close(out, [(impostor <= np.quantile(genuine, far)).mean() for far in fars], 0.01):
            return "you have exchanged the two kinds of pairs: from which of them does FAR speak?"
        hint(close(out, fars, 0.02), "this is the share of the pairs that sets the threshold; report that of the other kind there.")
        return "first find the threshold from the impostor pairs alone, then count the genuine pairs below it."
    few = np.array([0.1, 0.2, 0.3, 0.5, 0.5, 0.5, 0.7, 0.8, 0.9, 1.0, *np.linspace(0.5, 2.0, 15)]), np.repeat([0, 1], [10, 15])
    if abs(float(answer(*few, 0.01)) - tar_at_far(*few, 0.01)) > 1e-6:
        return (
            "right where there are many impostor pairs. With 15 of them, letting a single one pass is already a FAR of 6.7 %: "
            "how many may pass when 1 % is allowed?"
        )


def _mixture(answer: Answer) -> str | None:
    """`mixture(distances, different, agree)`: share of agreeing impostors, and the AUCs against the two kinds."""
    rng = np.random.default_rng(5)
    genuine, agreeing, differing = rng.gamma(4, 0.25, 400), rng.gamma(6, 0.25, 280), rng.gamma(9, 0.25, 120)
    distances = np.concatenate([genuine, agreeing, differing])
    different = np.repeat([0, 1], [400, 400])
    agree = np.repeat([True, False], [680, 120])
    order = rng.permutation(800)
    distances, different, agree = distances[order], different[order], agree[order]

    def auc(kind: bool) -> float:
        rows = (different == 0) | (agree == kind)
        return roc_auc(distances[rows], different[rows])

    values = q, first, second = numbers(answer(distances, different, agree), 3, "numbers, q and two AUCs,")
    right = 280 / 400, auc(True), auc(False)
    accept(close(values, right, 1e-6))
    hint(close(q, agree.mean()), "your q counts genuine pairs too, whose labels always agree. It is a share of the impostor pairs.")
    hint(close(q, 1 - right[0]), "your q is the share whose labels differ.")
    hint(not close(q, right[0]), "q is the share of the impostor pairs whose labels agree.")
    hint(close([first, second], [right[2], right[1]], 1e-6), "the two AUCs are in the wrong order: where the labels agree comes first.")
    if close([first, second], [1 - right[1], 1 - right[2]], 1e-6):
        return "below 0.5: which pairs should have the higher score, if the score is a distance?"
    return "q is right. Each AUC compares *all* genuine pairs with one of the two kinds of impostors: which rows does it need?"
