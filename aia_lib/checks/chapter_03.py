"""Chapter 03: the adversary, and how to read its figures."""

from __future__ import annotations

import numpy as np

from . import Answer, accept, close, hint, numbers


def _one_logit(answer: Answer) -> str | None:
    """`one_logit(two)`: logits of a two-way softmax (N, 2) to the one logit (N,) whose sigmoid is the probability of class 1."""
    two = np.array([[0.0, 0.0], [1.0, 3.0], [2.0, -1.0], [-4.0, -4.5], [800.0, 802.0]])
    truth = two[:, 1] - two[:, 0]
    with np.errstate(all="ignore"):  # what overflows is told below
        out = np.asarray(answer(two), dtype=float)
        softmax = np.exp(two)[:, 1] / np.exp(two).sum(1)
    hint(out.shape != (5,), f"one number an image, shape (5,) for these five; yours has shape {out.shape}.")
    hint(not np.isfinite(out).all(), "a logit of 800 makes exp overflow. Divide numerator and denominator by the same thing first.")
    accept(close(out, truth))
    hint(close(out, -truth), "the sign: which of the two classes should a positive logit speak for?")
    hint(close(out, two[:, 1]), "adding one number to both logits changes no probability. Does it change your answer?")
    hint(close(out[:4], softmax[:4]), "that is the probability; the logit is what goes into the sigmoid.")
    hint(close(out, truth / 2), "twice or half matters: put your answer into 1 / (1 + exp(-a)) and compare for one image.")
    return "write e^a1 / (e^a0 + e^a1), divide by e^a1, and compare with 1 / (1 + e^-a)."


def _sign_free(answer: Answer) -> str | None:
    """`sign_free_auc(scores, labels)`: max(A, 1 - A), ties counting one half."""
    up, labels = np.array([0.1, 0.4, 0.35, 0.8, 0.9]), np.array([0, 0, 1, 1, 1])
    ties = np.array([1.0, 1.0, 1.0, 0.0, 1.0]), np.array([1, 1, 1, 0, 0])
    flat = np.zeros(6), np.array([1, 0, 1, 0, 0, 0])
    out = np.array([float(answer(*case)) for case in ((up, labels), (-up, labels), ties, flat)])
    truth = np.array([5 / 6, 5 / 6, 0.75, 0.5])
    accept(close(out, truth))
    hint(close(out[1], 1 / 6), "scores turned round give you less than 0.5: is that attacker harmless? It can turn its answers.")
    hint(close(out, truth - 0.5), "that is the distance from chance. The sign-free AUC lies between 0.5 and 1.")
    hint(close(out[:2], truth[:2]), "right as long as no two scores are equal. A tie is neither won nor lost: how much does it count?")
    hint(close(out[0], truth[0]), "right for scores that point the right way only; try the negative scores.")
    return "compare every positive with every negative: the share of these pairs in which the positive scores higher is the AUC."


def _accuracies(answer: Answer) -> str | None:
    """`accuracies(guess, labels)`: accuracy, majority rate and balanced accuracy over the labelled images (-1 is missing)."""
    labels = np.array([0] * 16 + [1] * 4 + [-1] * 5)
    guess = np.array([0] * 14 + [1] * 2 + [1] * 1 + [0] * 3 + [1] * 5)
    truth = np.array([15 / 20, 16 / 20, (14 / 16 + 1 / 4) / 2])
    out = numbers(answer(guess, labels), 3, "numbers (accuracy, majority rate, balanced accuracy)")
    other = np.ravel(np.asarray(answer(1 - guess, np.where(labels >= 0, 1 - labels, -1)), dtype=float))
    accept(close(out, truth) and close(other, truth))
    if close(out[0], 15 / 25) or close(out[1], 16 / 25):
        return "you count images without a label (-1). Nobody knows whether such an answer is right."
    hint(close(out[0], 20 / 25), "an image without a label counts as right in your accuracy.")
    hint(not close(out[0], truth[0]), "begin with the accuracy: of the labelled images, the share with guess equal to label.")
    if not close(out[1], truth[1]) or not close(other[1], truth[1]):
        hint(close(out[1], 4 / 20) or close(other[1], 4 / 20), "the majority rate is that of the *more frequent* label, whichever it is.")
        return "majority rate: the accuracy of always giving the more frequent label."
    hint(close(out[2], 14 / 16) or close(out[2], 1 / 4), "that is the accuracy within one label; take the mean over both.")
    return "balanced accuracy: the accuracy within label 0, the accuracy within label 1, and their mean."


def _person_interval(answer: Answer) -> str | None:
    """`person_interval(scores, labels, people, resamples, seed)`: 95 % interval of the AUC, people resampled."""
    from ..statistics import Scored, interval, roc_auc

    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(40), 10)
    labels = (people % 2).astype(int)
    scores = rng.normal(size=40)[people] + 0.8 * labels + 0.1 * rng.normal(size=400)  # images of a person say nearly the same
    low, high = (float(value) for value in answer(scores, labels, people, 150, 0))
    auc, reference = roc_auc(scores, labels), interval([Scored(scores, labels == 1, people)], 2000)
    width, wanted = high - low, reference[1] - reference[0]
    hint(low > high, "low comes before high.")
    if not 0 <= low <= auc <= high <= 1:
        return f"the AUC itself, {auc:.3f}, is not inside your interval [{low:.3f}, {high:.3f}], or the interval leaves [0, 1]."
    hint(width < 0.55 * wanted, "much too narrow: are you drawing images? Ten images of a person are not ten witnesses; draw whole people.")
    if not 0.78 * wanted < width < 1.22 * wanted:
        return "the width is not that of 95 %: which quantiles do you take, and do people who are drawn twice count twice?"
    again = tuple(float(value) for value in answer(scores, labels, people, 150, 0))
    hint(again != (low, high), "the same seed must give the same interval.")
    lopsided = np.array([1, 0, 0, 0])  # a resample without the person labelled 1 has no AUC
    pair = answer(np.array([0.9, 0.1, 0.2, 0.3]), lopsided, np.arange(4), 50, 0)
    if not np.isfinite(np.asarray(pair, dtype=float)).all():
        return "some draws hold people of one label only; they have no AUC: leave them out."
