"""Chapter 11: several attributes, parity, and errors by group."""

from __future__ import annotations

import numpy as np

from . import Answer, accept, close, hint, returned


def _cells(answer: Answer) -> str | None:
    """`cells(a, b)`: 2 a + b of two labels, int (N,); -1 where one of them is missing."""
    a, b = np.array([0, 0, 1, 1, -1, 0, -1, 1, 1]), np.array([0, 1, 0, 1, 1, -1, -1, -1, 0])
    truth = np.array([0, 1, 2, 3, -1, -1, -1, -1, 2])
    out = np.asarray(returned(answer, a.copy(), b.copy()))
    hint(out.shape != a.shape, f"one number an image, shape {a.shape} for these; yours has shape {out.shape}.")
    known = truth >= 0
    accept(close(out, truth))
    hint(close(out[known], truth[known]), "right where both labels are there. An image that lacks one is in no cell: which number says so?")
    hint(close(out[known], (a + 2 * b)[known]), "the two attributes are exchanged: the first one is the one that counts double.")
    hint(close(out[known], (a + b)[known]), "a sum puts two different cells into one. Four combinations need four numbers.")
    if close(out[known], (a * b)[known]) or close(out[known], (a ^ b)[known]):
        return "that says whether a combination is there, and not which: four combinations need four numbers."
    return "number the four combinations 0 to 3: what has to be multiplied by two?"


def _gap(answer: Answer) -> str | None:
    """`gap(decisions, labels)`: the demographic parity gap, unlabelled images left out."""
    labels = np.array([0] * 10 + [1] * 20 + [-1] * 5)
    decisions = np.array([1] * 4 + [0] * 6 + [1] * 3 + [0] * 17 + [1] * 5)
    out, turned = (float(returned(answer, decisions, s)) for s in (labels, np.where(labels < 0, -1, 1 - labels)))
    accept(close(out, 0.25) and close(turned, 0.25))
    hint(close(abs(out), 0.25), "the size is right; a gap has no sign, whichever group is preferred.")
    if close(abs(out), 0.4 - 8 / 25) or close(abs(out), 9 / 15 - 3 / 20):
        return "images without a label (-1) are in neither group, and you count them in one."
    if close(abs(out), 4 / 7 - 3 / 7) or close(abs(out), 4 / 12 - 3 / 12):
        return "you divide by the positive decisions. The question is which share of each *group* is decided upon positively."
    hint(close(abs(out), 1 / 30) or close(abs(out), 1), "numbers are not rates: the groups are of different size.")
    return "take the mean of the decisions over the images with label 1, and over those with label 0."


def _most_unequal(answer: Answer) -> str | None:
    """`most_unequal(p0, p1)`: for which of V values of g to decide positively, so that the parity gap is largest, bool (V,)."""
    rng = np.random.default_rng(0)
    p0, p1 = (p / p.sum() for p in rng.random((2, 8)) + 0.02)
    p0[3], p1[3] = p0[3] + p1[3], 0.0  # a value that one group never has
    p1 /= p1.sum()
    p0 /= p0.sum()
    out = np.asarray(returned(answer, p0.copy(), p1.copy()))
    hint(out.shape != p0.shape, f"one decision for each value of g, shape {p0.shape} for these; yours has shape {out.shape}.")
    hint(out.dtype != bool and not np.isin(out, (0, 1)).all(), "a decision is true or false (or 1 and 0) for each value.")
    out = out.astype(bool)
    most, gap = 0.5 * np.abs(p1 - p0).sum(), abs(p1[out].sum() - p0[out].sum())
    accept(close(gap, most))
    hint(out.all() or not out.any(), "the same decision for everybody has no gap at all.")
    hint(out.sum() == 1, "one value is not all that can be gained: every further one adds to the gap or takes from it. When does it add?")
    if (out == (p1 > p1.mean())).all() or (out == (p0 > p0.mean())).all() or (out == (p1 + p0 > (p1 + p0).mean())).all():
        return "frequent values are not what is wanted, but those that are more frequent in one group than in the other."
    if (out == (p1 > 2 * p0)).all() or (out == (p1 > 1.5 * p0)).all():
        return "you leave out values that still help: how large has the difference of the two probabilities to be?"
    return "the gap is a sum over the chosen values of p1 - p0. Which values make it larger?"


def _group_errors(answer: Answer) -> str | None:
    """`group_errors(distances, different, group, threshold)`: FMR and FNMR of groups 0 and 1, shape (2, 2), rows the groups."""
    rng = np.random.default_rng(1)
    group = np.repeat([0, 1, -1], [200, 100, 60])
    different = rng.integers(0, 2, 360)
    distances = rng.random(360) + 0.6 * different - 0.2 * group * different
    threshold = 0.8
    accepted = distances <= threshold

    def rates(one: np.ndarray, out_of: np.ndarray | None = None) -> list[float]:
        impostor, genuine = one & (different == 1), one & (different == 0)
        fmr, fnmr = (accepted & impostor).sum(), (~accepted & genuine).sum()
        if out_of is not None:
            return [fmr / out_of.sum(), fnmr / out_of.sum()]
        return [fmr / impostor.sum(), fnmr / genuine.sum()]

    truth = np.array([rates(group == value) for value in (0, 1)])
    out = np.asarray(returned(answer, distances.copy(), different.copy(), group.copy(), threshold), dtype=float)
    hint(out.shape != (2, 2), f"two groups with two rates each, shape (2, 2); yours has shape {out.shape}.")
    accept(close(out, truth))
    hint(close(out, truth[:, ::-1]), "the columns are exchanged: false matches come first.")
    hint(close(out, truth.T), "rows and columns are exchanged: a row is a group.")
    hint(close(out, truth[::-1]), "the rows are exchanged: group 0 comes first.")
    if close(out, 1 - truth) or close(out, 1 - truth[:, ::-1]):
        return "those are the shares that were judged rightly, or you accept large distances. Small distances mean one person."
    if close(out, [rates(group == value, group == value) for value in (0, 1)]):
        return (
            "you divide by all pairs of the group. False matches are a share of the impostor pairs, false non-matches of the genuine ones."
        )
    if close(out, [rates(group == value, accepted & (group == value)) for value in (0, 1)]):
        return "you divide by the pairs that were accepted. Of whom is a false match a share?"
    if close(out, [rates(group == 0), rates(group != 0)]) or close(out, [rates(group != 1), rates(group == 1)]):
        return "pairs of no group (-1) went into one of the groups."
    return "for one group at a time: of its impostor pairs, the share with distance <= threshold; of its genuine pairs, the share above it."
