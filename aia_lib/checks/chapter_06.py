"""Chapter 06: the arithmetic of Table 1, two derived figures, a bootstrap over people."""

from __future__ import annotations

import numpy as np

from ..report.ledger import published
from ..statistics import Scored, interval
from . import Answer, accept, close, hint, numbers


def _exchange(answer: Answer) -> str | None:
    """Leak removed and utility paid by AIA in the VGG-Face columns of the paper's Table 1."""
    original, aia, celeba = published("vggface")["Original"], published("vggface")["AIA"], published("celeba")

    def share(o: dict, x: dict, key: str, chance: float = 0.5) -> float:
        return (o[key] - x[key]) / (o[key] - chance)

    values = numbers(answer, 2, "numbers, leak removed and utility paid,")
    keys = ("privacy_accuracy", "utility_accuracy")
    right = np.array([share(original, aia, key) for key in keys])

    accept(close(values, right, 0.002))
    hint(close(values, 100 * right, 0.2), "shares lie between 0 and 1; these are per cent.")
    hint(close(values, right[::-1], 0.002), "the right two numbers in the wrong order: leak removed comes first.")
    hint(close(values, [right[0], 1 - right[1]], 0.002), "your second number is the utility that is kept; asked for is what is paid.")
    if close(values, [share(original, aia, key, chance=0.0) for key in keys], 0.002):
        return "you divide by Original's accuracy. A coin has half of that for nothing: from where should one count?"
    hint(close(values, [original[key] - aia[key] for key in keys], 0.002), "these are differences. How large could they have been at most?")
    hint(close(values, [share(celeba["Original"], celeba["AIA"], key) for key in keys], 0.002), "these are shares of the CelebA columns.")
    task = published("vggface")["AIA\\T"]
    hint(close(values, [share(original, task, key) for key in keys], 0.002), "this is the row AIA\\T.")
    return "take Original and AIA from the VGG-Face columns, subtract 0.5 from each accuracy, and compare what remains."


def _figures(answer: Answer) -> str | None:
    """`figures(original, method)`: leak removed and utility kept, from the retrained figures of an audit."""

    def made(leak: float, same: float, free: float) -> dict:
        utility = {"utility_auc_same": same, "utility_accuracy_same": same - 0.05, "utility_auc": free, "utility_accuracy": free - 0.06}
        return {"leak_auc": leak, "leak_balanced_accuracy": leak - 0.07, **utility}

    o, x = made(0.9, 0.8, 0.86), made(0.78, 0.71, 0.82)
    removed, kept = numbers(answer(o, x), 2, "numbers, leak removed and utility kept,")
    right = (o["leak_auc"] - x["leak_auc"]) / (o["leak_auc"] - 0.5), (x["utility_auc_same"] - 0.5) / (o["utility_auc_same"] - 0.5)

    hint(close(removed, right[1]) and close(kept, right[0]), "the two are in the wrong order: leak removed comes first.")
    hint(close(removed, 1 - right[0]), "your first number is the share of the leak that is left.")
    if close(removed, (o["leak_auc"] - x["leak_auc"]) / o["leak_auc"]):
        return "the leak: an attacker that knows nothing has an AUC above zero. From where do you count?"
    hint(not close(removed, right[0]), "leak removed: how far has leak_auc come down, as a share of how far it could come down?")
    hint(close(kept, 1 - right[1]), "your second number is what is paid; asked for is what is kept.")
    if close(kept, (x["utility_auc"] - 0.5) / (o["utility_auc"] - 0.5)):
        return "utility kept: that is the AUC with free impostors, and gender helps against those."
    if close(kept, x["utility_auc_same"] / o["utility_auc_same"]):
        return "the utility: a verifier that knows nothing has an AUC above zero. From where do you count?"
    if close(kept, (x["utility_accuracy_same"] - 0.5) / (o["utility_accuracy_same"] - 0.5)):
        return "utility kept: by AUC, not by the accuracy at a threshold."
    hint(not close(kept, right[1]), "leak removed is right. Utility kept: which of the figures has impostors with the person's own label?")
    if not close(numbers(answer(o, o), 2, "numbers, leak removed and utility kept,"), (0, 1)):
        return "a method that changes nothing removes 0 and keeps 1; yours says otherwise."


def _people_interval(answer: Answer) -> str | None:
    """`interval(scores, positive, people, resamples)`: 95 % interval of the AUC, people resampled."""
    rng = np.random.default_rng(7)
    people = np.repeat(np.arange(60), 12)
    positive = (people % 2).astype(bool)
    scores = 0.9 * positive + rng.normal(size=60)[people] + 0.4 * rng.normal(size=len(people))
    right = np.array(interval([Scored(scores, positive, people)], 1000))
    by_image = np.array(interval([Scored(scores, positive, np.arange(len(people)))], 1000))
    low, high = numbers(answer(scores, positive, people, 300), 2, "numbers, the two ends of the interval,")
    hint(low > high, "the lower end comes first.")
    width, wanted = high - low, right[1] - right[0]
    hint(width < 1e-9, "both ends are the same: every resample held the same rows. Draw with replacement.")
    if abs(width / (by_image[1] - by_image[0]) - 1) < 0.25:
        return "about as narrow as if every image were of another person. What is drawn: rows, or people with all their rows?"
    hint(width < 0.8 * wanted, "too narrow for 95 %: as many people are drawn as there are, and 2.5 % are cut off at each end.")
    hint(width > 1.2 * wanted, "too wide for 95 %: which two quantiles leave 2.5 % on each side?")
    if max(abs(low - right[0]), abs(high - right[1])) > 0.35 * wanted:
        return "the width is right, the place is not: is the AUC of each resample computed on the resampled scores *and* labels?"
