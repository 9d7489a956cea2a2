"""Chapter 01: faces, identities, pairs."""

from __future__ import annotations

import numpy as np

from . import Answer, accept, close, hint, matcher, numbers


def _count_pairs(answer: Answer) -> str | None:
    """`count_pairs(identity)`: how many unordered pairs of images show one person, and how many two."""

    def truth(identity: np.ndarray) -> tuple[int, int]:
        n = np.bincount(identity)
        genuine = int((n * (n - 1) // 2).sum())
        return genuine, len(identity) * (len(identity) - 1) // 2 - genuine

    even, uneven = np.repeat(np.arange(4), 3), np.array([0, 0, 0, 1, 1, 2])
    out_even, out = (tuple(numbers(answer(identity), 2, "numbers, genuine and impostor,")) for identity in (even, uneven))
    genuine, impostors = truth(uneven)
    n, total = np.bincount(uneven), len(uneven)
    accept(out_even == truth(even) and out == (genuine, impostors))
    hint(out == (impostors, genuine), "these are the right numbers in the wrong order: genuine comes first.")
    if out[0] in (float((n**2).sum()), float((n * (n + 1) // 2).sum())):
        return "your genuine pairs hold pairs of an image with itself. Of how many different images can the second one be chosen?"
    hint(out[0] == 2 * genuine or out[1] == 2 * impostors, "you count (a, b) and (b, a) as two pairs; a verifier gives them one distance.")
    hint(out_even == truth(even), "right where everybody has as many images as the next, and only there: look at one person at a time.")
    hint(out[0] == genuine, "your genuine pairs are right. How many pairs are there in all, whoever they show?")
    if sum(out) == total * (total - 1) / 2:
        return (
            "genuine and impostor add up to all pairs, as they should, but the border between them is wrong: take one person with n images."
        )
    return "try it by hand on the identities 0 0 0 1 1 2, and write the pairs down."


def _share_seen(answer: Answer) -> str | None:
    """`share_seen(train_identity, test_identity)`: the share of the test images whose person is in train."""
    train, test = np.array([0, 0, 1, 3, 3, 3]), np.array([1, 1, 1, 2, 4])
    value = float(answer(train, test))
    if close(value, 3 / 5):
        other = float(answer(test[-2:], test[:3]))
        return None if other == 0 else "two sets that share nobody must give 0; yours does not."
    like = matcher(value)
    like(60, "a share lies between 0 and 1, not between 0 and 100.")
    like(1 / 3, "this is the share of the test *people*. A person with many images spoils more of the test than one with one.")
    like(1 / 5, "you compare sets of people, and of both sides. What is asked for is a share of the test images.")
    like(1 / 6, "this is the share of the *train* images whose person is in test; it is asked the other way round.")
    like(2 / 5, "this is the share of the test images that are clean.")
    like(3, "this is a number of images; divide it by how many test images there are.")
    return "for each test image, ask whether its person is anywhere in train, and take the mean of the answers."


def _label_accuracy(answer: Answer) -> str | None:
    """`label_accuracy(shares)`: accuracy of "same value, same person" on balanced pairs with free impostors."""
    cases = [np.array([0.5, 0.5]), np.array([0.7, 0.3]), np.full(4, 0.25), np.array([0.5, 0.3, 0.2]), np.array([1.0])]
    out = np.array([float(answer(shares)) for shares in cases])
    collide = np.array([float((shares**2).sum()) for shares in cases])
    like = matcher(out)
    like(1 - collide / 2)
    like(1 - collide, "this is how often the rule is right on impostors. And on genuine pairs, and how many of the pairs are those?")
    like(0.5 + collide / 2, "you let the rule be right on impostors whose values agree. Which ones does it accept by mistake?")
    like(collide, "this is the chance that two people drawn freely have the same value. What does the rule say of them, and is it right?")
    if close(out[:2], 1 - collide[:2] / 2):
        return "right for two values, not for more. Write p(1 - p) as a sum over values first: with which chance do two people agree?"
    like(100 * (1 - collide / 2), "give it as a share between 0 and 1.")
    return "begin with the chance that two people, drawn freely, have the same value: add up over the values."


def _same_label_impostors(answer: Answer) -> str | None:
    """`same_label_impostors(identity, labels, count, seed)`: `count` pairs of rows: two people, one label, no pair twice."""
    identity = np.repeat(np.arange(30), 4)
    labels = np.repeat(np.tile([0, 1, 0, 1, -1], 6), 4)
    pairs = answer(identity, labels, 200, 0)
    hint(pairs is None or len(pairs) != 2, "return two arrays of rows, a and b.")
    a, b = (np.asarray(side) for side in pairs)
    if a.shape != b.shape or a.ndim != 1 or a.dtype.kind not in "iu" or b.dtype.kind not in "iu":
        return f"a and b must be whole numbers, one each for every pair; yours are {a.dtype} {a.shape} and {b.dtype} {b.shape}."
    hint(len(a) != 200, f"200 pairs were asked for, and {len(a)} came. Where you throw pairs away, draw more of them first.")
    if a.min() < 0 or b.min() < 0 or max(a.max(), b.max()) >= len(identity):
        return "a and b are numbers of rows: from 0 to the number of images, not identities or labels."
    hint((identity[a] == identity[b]).any(), f"{(identity[a] == identity[b]).sum()} of your pairs show one person: they are genuine.")
    hint((labels[a] < 0).any() or (labels[b] < 0).any(), "-1 is a missing label. Two people without a label need not have the same one.")
    hint((labels[a] != labels[b]).any(), f"{(labels[a] != labels[b]).sum()} of your pairs carry two different labels.")
    if len(set(zip(np.minimum(a, b).tolist(), np.maximum(a, b).tolist(), strict=True))) < 200:
        return "a pair comes twice. Remember that (a, b) and (b, a) are one pair."
    hint(set(labels[a].tolist()) != {0, 1}, f"all your pairs carry the label {labels[a][0]}; both labels must occur.")
    if len(np.unique(np.concatenate([a, b]))) < 0.7 * (labels >= 0).sum():
        return "many images never occur in your pairs. Draw from all that have a label."
    again = answer(identity, labels, 200, 0)
    if not all(np.array_equal(one, two) for one, two in zip((a, b), again, strict=True)):
        return "the same seed must give the same pairs: make a generator from the seed and draw from nothing else."
    other = answer(identity, labels, 200, 1)
    hint(all(np.array_equal(one, two) for one, two in zip((a, b), other, strict=True)), "another seed must give other pairs: where is it?")
