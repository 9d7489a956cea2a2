"""Checkers of chapter 08, visualization."""

from __future__ import annotations

import numpy as np

from . import Answer, close, hint, matcher, returned


def _stretch(answer: Answer) -> str | None:
    """Each map (H, W) of (N, H, W) from its least value to its greatest, to [0, 1]."""
    maps = np.random.default_rng(0).random((4, 5, 6)) * np.array([1, 3, 0.1, 2])[:, None, None] + 0.2
    out = np.asarray(returned(answer, maps.copy()), dtype=float)
    hint(out.shape != maps.shape, f"maps of shape {maps.shape} have to come back in that shape, not as {out.shape}.")
    least, most = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    if close(out, (maps - maps.min()) / (maps.max() - maps.min())):
        return "you stretch all maps together. Each map has a least and a greatest value of its own: which axes belong to one map?"
    like = matcher(out)
    like(maps / most, "the greatest values are 1, but the least are not 0: what is subtracted first?")
    like(maps - least, "the least values are 0, but the greatest are not 1: what remains to be divided by?")
    like((maps - least) / most, "the greatest values come out below 1. By what has a map to be divided whose least value was moved to 0?")
    if not close(out, (maps - least) / (most - least)):
        return "the least value of each map has to become 0, its greatest 1, and all between keep their order."
    with np.errstate(all="ignore"):
        flat = np.asarray(answer(np.full((2, 3, 3), 0.7)), dtype=float)
    if not np.isfinite(flat).all():
        return "right for most maps; one that is the same everywhere gives NaN. What is its greatest value less its least?"
    hint(not close(flat, np.zeros((2, 3, 3))), "right for most maps; one that is the same everywhere has to become 0.")


def _density(answer: Answer) -> str | None:
    """Share of the evidence over share of the pixels, of all images together."""
    rng = np.random.default_rng(0)  # evidence and regions, unevenly spread over images and regions
    regions = (rng.random((5, 6, 7)) < np.linspace(0.1, 0.6, 5)[:, None, None]).astype(np.uint8) * 2
    evidence = rng.random((5, 6, 7)) * np.linspace(1, 4, 5)[:, None, None] + 0.5 * (regions == 2)
    out = returned(answer, evidence.copy(), regions.copy(), 2)
    hint(np.ndim(out) != 0, f"one number is asked for, over all images together; yours has the shape {np.shape(out)}.")
    inside = regions == 2
    share, area = evidence[inside].sum() / evidence.sum(), inside.mean()
    densities = (evidence * inside).sum((1, 2)) / evidence.sum((1, 2)) / inside.mean((1, 2))
    if close(out, share / area):
        with np.errstate(all="ignore"):
            other = answer(evidence, 3 - regions, 1)  # what was code 2 is code 1 now
        return None if close(other, share / area) else "right for one code, and wrong for another: use the argument `code`."
    if close(out, share):
        return "that is the share of the evidence. A large region has a large share for its size alone: divide by its share of the pixels."
    hint(close(out, area / share), "that is upside down: more evidence has to give a larger density.")
    hint(close(out, densities.mean()), "that is the mean of the images' own densities. Sum over all images first, then divide.")
    hint(close(out, evidence[inside].mean()), "that is the evidence of a pixel inside. Against which pixels does the density compare it?")
    if close(out, evidence[inside].mean() / evidence[~inside].mean()):
        return "you compare with the pixels outside the region. The share of the pixels is taken of all of them."
    if close(out, evidence[inside].sum() / inside.sum() / evidence.sum()):
        return "almost: the region's pixels are counted as a number, and they have to be a share of all pixels."
    return "take the evidence inside over all evidence, and divide by the pixels inside over all pixels."


def _common_hole(answer: Answer) -> str | None:
    """Pixels where at least `share` of the masks are true, (H, W)."""
    mask = np.zeros((10, 3, 4), dtype=bool)
    for pixel, count in enumerate((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 5)):
        mask[:count, pixel // 4, pixel % 4] = True
    often = mask.mean(0)
    out = np.asarray(returned(answer, mask.copy(), 0.5))
    hint(out.shape == mask.shape, "that is still a hole for each image. All images have to get the same one, of shape (H, W).")
    hint(out.shape != mask.shape[1:], f"masks of shape (N, H, W) have to give one hole of shape (H, W), not {out.shape}.")
    hint(out.dtype != bool, f"a hole is true or false at each pixel, and yours holds {out.dtype}: compare with `share`.")
    if (out == (often >= 0.5)).all():
        other = np.asarray(answer(mask, 0.2))
        return None if (other == (often >= 0.2)).all() else "right for a share of 0.5, and wrong for 0.2: use the argument `share`."
    hint((out == (often > 0.5)).all(), "almost: *at least* that share of the images.")
    hint((out == mask.any(0)).all(), "that is true where any image has the region. Count in which share of the images it is there.")
    hint((out == mask.all(0)).all(), "that is true only where every image has the region. Count in which share of the images it is there.")
    if (out == (often < 0.5)).all() or (out == (often <= 0.5)).all():
        return "true and false are exchanged: the hole is where the region is often."
    return "for each pixel: in which share of the N images does the region cover it?"
