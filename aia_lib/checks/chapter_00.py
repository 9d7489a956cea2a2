"""Checkers of chapter 00, the quickstart."""

from __future__ import annotations

import numpy as np

from . import Answer, accept, close, hint, returned


def _majority_rate(answer: float, labels: np.ndarray) -> str | None:
    """The accuracy of always saying the more frequent label of `labels` (1, 0; -1 is unknown)."""
    labels = np.asarray(labels)
    labels = labels[labels >= 0]
    ones = float((labels == 1).mean())
    right, value = max(ones, 1 - ones), float(answer)
    accept(abs(value - right) < 0.002)
    hint(abs(value / 100 - right) < 0.002, "that is in per cent; give a share between 0 and 1.")
    hint(abs(value - (1 - right)) < 0.002, "that is how often the rarer label comes. The attacker may choose which label it always says.")
    hint(abs(value - 0.5) < 0.002, "one half is what a coin reaches. This attacker knows which label is more frequent: count the labels.")
    hint(value > 1 or value < 0, "an accuracy is a share of the images, between 0 and 1.")
    return "count how many labels are 1 and how many are 0: which share does a constant answer get right?"


def _leak_removed(answer: Answer) -> str | None:
    """`(original, method)` to (o - x) / (o - 0.5)."""
    nothing, all_of_it, half = (returned(answer, 0.9, x) for x in (0.9, 0.5, 0.7))
    hint(abs(nothing - 1) < 1e-6 and abs(all_of_it) < 1e-6, "that is the share of the leak that is left. What is the share that is gone?")
    hint(abs(nothing) > 1e-6, "a method that changes nothing (0.9 to 0.9) has removed 0, and yours says otherwise.")
    hint(abs(half - 0.2 / 0.9) < 1e-6, "you count from 0, but an attacker that knows nothing has an AUC of 0.5: where does the leak begin?")
    hint(abs(half - 0.2) < 1e-6, "that is a difference of AUCs. Divide it by what there was to remove.")
    hint(abs(half + 0.5) < 1e-6, "the size is right and the sign is not: a lower AUC of the method must give a positive number.")
    hint(abs(all_of_it - 1) > 1e-6, "at chance (0.9 to 0.5) everything is removed, and the answer has to be 1.")
    if any(abs(answer(o, x) - (o - x) / (o - 0.5)) > 1e-6 for o, x in ((0.8, 0.6), (0.75, 0.8), (0.97, 0.96))):
        return "right for 0.9, and wrong for other values: use both arguments, also where the leak has grown."


def _block_means(answer: Answer) -> str | None:
    """The means of 4 x 4 blocks, (N, 64)."""
    import torch
    import torch.nn.functional as F

    images = torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    g = np.asarray(returned(answer, images))
    hint(g.shape == (3, 1, 8, 8), "these are small pictures. A representation is one row an image: flatten all but the first axis.")
    hint(g.ndim == 1 or len(g) != 3, f"three images have to give three rows; yours has the shape {g.shape}. Keep the first axis.")
    if g.shape != (3, 64):
        return f"three images have to give the shape (3, 64), not {g.shape}. How many blocks of 4 x 4 has an image of 32 x 32?"
    right = F.avg_pool2d(images, 4).flatten(1)
    accept(close(g, right, 1e-5))
    hint(close(g, F.max_pool2d(images, 4).flatten(1), 1e-5), "that is the brightest pixel of each block. Take the mean.")
    hint(close(g, images[:, 0, ::4, ::4].flatten(1), 1e-5), "that is one pixel of each block. Take the mean of all sixteen.")
    hint(close(g, 16 * right, 1e-4), "that is the sum of each block. Take the mean.")
    return "the shape is right and the values are not: each number has to be the mean of a block of 4 x 4 pixels, row by row."
