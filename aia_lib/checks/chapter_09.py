"""Chapter 09: bits, the best of many attackers, people in two splits, an anonymizer that cheats one attacker."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from ..statistics import roc_auc
from . import Answer, accept, close, hint, numbers


def _bits(answer: Answer) -> str | None:
    """`bits(probabilities, labels)`: H(S) - CE in bits, from the probabilities of label 1."""
    rng = np.random.default_rng(0)
    labels = (rng.random(4000) < 0.3).astype(int)
    logits = np.log(0.3 / 0.7) + 1.5 * (labels - 0.3) + rng.normal(0, 1, len(labels))
    probabilities = 1 / (1 + np.exp(-logits))

    def parts(p: np.ndarray) -> tuple[float, float]:
        rate = labels.mean()
        cross_entropy = -np.log2(np.where(labels == 1, p, 1 - p)).mean()
        return float(-rate * np.log2(rate) - (1 - rate) * np.log2(1 - rate)), float(cross_entropy)

    value = float(answer(probabilities, labels))
    prior, cross_entropy = parts(probabilities)
    right = prior - cross_entropy

    hint(close(value, right * np.log(2)), "these are nats. Which logarithm gives bits?")
    hint(close(value, -right), "the sign: what is known before, less what is left open afterwards.")
    hint(close(value, cross_entropy), "this is the cross entropy: what is left open. How much was open before?")
    hint(close(value, prior), "this is the entropy of the labels alone; the probabilities play no part in it.")
    hint(close(value, 1 - cross_entropy), "you take one bit for the entropy of the labels, and here one label is more frequent.")
    if not close(value, right):
        return "entropy of the labels (from their share of ones), less the mean of -log2 of the probability that was given to what came."
    wrong = np.where(labels == 1, 0.1, 0.6)  # an attacker who is sure, and wrong
    prior, cross_entropy = parts(wrong)
    if abs(float(answer(wrong, labels)) - (prior - cross_entropy)) > 1e-4:
        return "right where the attacker is of use. For one who is worse than a guess the difference is below 0: leave it so."


def _best_of_many(answer: Answer) -> str | None:
    """Shares of the worlds in which the best of useless attackers looks good on test, chosen on test and on val."""
    values = numbers(answer, 2, "shares, chosen on test and chosen on val,")
    tried, of_each_label, looks_good = 20, 50, 0.6  # useless attackers, test people (one image each), the AUC from which one looks good
    deviation = np.sqrt((2 * of_each_label + 1) / (12 * of_each_label**2))  # of an AUC without a difference, Mann and Whitney
    one = float(norm.sf((looks_good - 0.5) / deviation))
    best = 1 - (1 - one) ** tried

    def near(first: float, second: float) -> list[bool]:
        return [abs(values[0] - first) < (0.06 if first == best else 0.025), abs(values[1] - second) < (0.06 if second == best else 0.025)]

    (first_right, second_right), (first_single, second_best) = near(best, one), near(one, best)
    accept(first_right and second_right)
    hint(values.max() > 1, "shares lie between 0 and 1. (A sum over twenty attackers may be above 1; it is not the share of the worlds.)")
    hint(first_single and second_best, "the two are in the wrong order: chosen on test comes first.")
    if first_single and second_right:
        return "the first share is that of a single attacker. What if twenty are tried, and the best of them on test is reported?"
    hint(first_right and second_best, "your second share, too, is a maximum. The attacker is chosen on val; which AUC is reported?")
    if second_right and values[0] > best:
        return "the second is right. The first is too large: take the AUC as it is, not the better of both orientations, and do not add up."
    hint(second_right, "the second is right. In how many worlds is the largest of the twenty test AUCs above the line?")
    hint(first_right, "the first is right. For the second: np.argmax over the val AUCs, then that attacker's AUC on test.")
    return "in each world, draw twenty AUCs on val and twenty on test; count the worlds in which the reported one is above the line."


def _dealt(answer: Answer) -> str | None:
    """`two_audits(g, labels, identity)`: the AUC with the images dealt out, and with the people dealt out."""
    aucs = {}
    for kind in ("person", "label"):
        values = []
        for world in range(4):
            rng = np.random.default_rng(world)
            identity = np.repeat(np.arange(60), 8)
            labels = rng.permutation(np.arange(60) % 2)[identity]
            if kind == "person":  # who it is, and nothing of the label
                g = rng.normal(size=(60, 64))[identity] + rng.normal(0, 0.3, (len(identity), 64))
            else:  # the label, and nothing of who it is
                g = 1.0 * (2 * labels[:, None] - 1) + rng.normal(size=(len(identity), 1))
            order = rng.permutation(len(identity))
            values.append(numbers(answer(g[order], labels[order], identity[order]), 2, "AUCs, images dealt and people dealt,"))
        aucs[kind] = np.mean(values, axis=0)
    images, people = aucs["person"]
    hint(not (np.isfinite(aucs["person"]).all() and np.isfinite(aucs["label"]).all()), "one of your AUCs is not a number.")
    hint(people > 0.75 and images < 0.7, "the two are in the wrong order: images dealt out comes first.")
    if people > 0.7:
        return (
            "where g tells who it is and nothing else, your second audit still finds a leak: are there people in both of its halves, "
            "or is the attacker tested on what it was trained on?"
        )
    hint(images < 0.75, "with the images dealt out, each person is in both halves and can be recognised; your first audit does not see it.")
    hint(people < 0.3, "the second AUC is far below chance on people who tell nothing: are scores and labels of the same rows?")
    hint(min(aucs["label"]) < 0.8, "where g does tell the label, both audits should find it: are scores and labels of the same rows?")


def _cheat(answer: Answer) -> str | None:
    """`cheat(labels, rng)`: representations of which a linear attacker reads nothing and another nearly all."""
    rng = np.random.default_rng(5)
    labels = rng.permutation(np.arange(1200) % 2)
    g = np.asarray(answer(labels.copy(), rng), dtype=float)
    if g.ndim != 2 or len(g) != len(labels):
        return f"g must have a row for each of the {len(labels)} labels, shape (N, k); yours has the shape {g.shape}."
    hint(not np.isfinite(g).all(), "g holds NaN or infinite values.")
    g = (g - g.mean(0)) / np.maximum(g.std(0), 1e-9)
    half = len(labels) // 2
    linear = LogisticRegression(max_iter=500).fit(g[:half], labels[:half])
    nearest = KNeighborsClassifier(15).fit(g[:half], labels[:half])
    by_line = roc_auc(linear.decision_function(g[half:]), labels[half:])
    by_neighbours = roc_auc(nearest.predict_proba(g[half:])[:, 1], labels[half:])
    if max(by_line, 1 - by_line) > 0.6:
        return f"logistic regression reads it (AUC {max(by_line, 1 - by_line):.2f}). No single direction may tell the label."
    if by_neighbours < 0.6:
        return "neither of the two reads anything. Then it is no cheat: is the label still in there, and within reach of neighbours?"
    hint(by_neighbours < 0.9, f"the line reads nothing, the neighbours only a part (AUC {by_neighbours:.2f}): there should be less noise.")
