"""Checkers of chapter 12, past one machine."""

from __future__ import annotations

import math

import numpy as np
import torch

from . import Answer, accept, array, close, hint, returned


def _speedup(answer: Answer) -> str | None:
    """A sweep on several workers against one, from the seconds of what comes first and of a point."""
    for shared, point, points, workers in ((30.0, 10.0, 22, 4), (5.0, 8.0, 22, 64), (0.0, 2.0, 6, 3)):
        one, many = shared + points * point, shared + math.ceil(points / workers) * point
        out = float(array(returned(answer, shared, point, points, workers), ()))
        if close(out, one / many):
            continue
        hint(close(out, many), "those are the seconds with several workers. How many times longer does one worker take?")
        hint(close(out, many / one), "that is upside down: more workers have to give a larger number.")
        if close(out, one / (shared + points * point / workers)):
            return f"almost: {workers} workers cannot share {points} points evenly. How many points does the busiest worker get?"
        if close(out, one / (shared + points // workers * point) if shared + points // workers * point else math.inf):
            return f"{points} points on {workers} workers: what about those left over when all workers have had the same number?"
        if close(out, one / (shared / workers + points * point / workers)) or close(out, workers):
            return "that is what it would be if everything could be shared. Who works while the shared stages are trained?"
        hint(close(out, points / math.ceil(points / workers)), "right for the points alone; the shared stages take time on both sides.")
        return f"with {shared:g} s of shared stages and {points} points of {point:g} s: how long on one worker, how long on {workers}?"


def _exponent(answer: Answer) -> str | None:
    """The exponent b of seconds = a N^b."""
    counts = np.array([1e3, 3e3, 1e4, 5e4, 2e5])
    noise = np.exp([0.1, -0.2, 0.15, -0.1, 0.05])
    for b, a in ((1.3, 2e-3), (0.8, 0.1)):
        seconds = a * counts**b * noise
        right = np.polyfit(np.log(counts), np.log(seconds), 1)
        out = returned(answer, counts.copy(), seconds.copy())
        hint(np.shape(out) == (2,), "those are both coefficients of the line; asked for is the exponent, one number. Which one is it?")
        out = float(array(out, ()))
        if close(out, right[0], 1e-6):
            continue
        if close(out, np.polyfit(np.log(seconds), np.log(counts), 1)[0], 1e-6):
            return "the axes are exchanged: that is how the images grow with the seconds."
        hint(close(out, right[1]) or close(out, math.exp(right[1])), "that is the line's height, not its slope.")
        if close(out, np.polyfit(counts, seconds, 1)[0]):
            return "that is the slope in the plain numbers, in seconds an image. On which axes does a N^b become a straight line?"
        if close(out, np.polyfit(np.log(counts), seconds, 1)[0]) or close(out, np.polyfit(counts, np.log(seconds), 1)[0]):
            return "you took the logarithm of one of the two only."
        if close(out, np.log(seconds[-1] / seconds[0]) / np.log(counts[-1] / counts[0]), 1e-6):
            return "right from the first point to the last; a fit uses all points, so that one bad measurement does not decide."
        return "take the logarithm of both, lay a straight line through the points, and return its slope."


def _gradients(answer: Answer) -> str | None:
    """Each model's own gradient, out of one backward pass for all."""
    generator = torch.Generator().manual_seed(0)
    weights, x = torch.randn(4, 3, generator=generator), torch.randn(10, 3, generator=generator)
    y = (torch.rand(10, generator=generator) > 0.4).float()
    right = torch.sigmoid(weights @ x.T).sub(y) @ x / len(x)  # (P, k)
    out = answer(weights.clone(), x.clone(), y.clone())
    hint(out is None or out is ..., "your function returns nothing yet; if it ends in `weights.grad`, did `weights` require a gradient?")
    out = np.asarray(out.detach() if isinstance(out, torch.Tensor) else out, dtype=np.float32)
    accept(close(out, right))
    if close(out, right / len(weights)):
        return "each is too small by the number of models: you took the mean over them too. Which reduction leaves each its own?"
    hint(close(out, right * len(x)), "each is too large by the number of images: the loss of a model is a mean over its images.")
    hint(close(out, right.T), "right, but transposed: one row a model is asked for.")
    hint(close(out, right.sum(0)) or close(out, right.mean(0)), "that is one gradient for all models together. Keep the models' axis.")
    hint(close(out, -right), "the sign is wrong: asked for is the gradient of the loss, not the step down it.")
    hint(out.shape != right.shape, f"asked for is an array of shape {tuple(right.shape)}, models x weights; yours is {out.shape}.")
    return "the loss of model p is the mean cross entropy of the logits x @ weights[p]; sum the losses, and go backwards once."


def _devices_needed(answer: Answer) -> str | None:
    """The smallest number of devices with which the hours are at most `limit`; infinity where none of 1 to `most` does."""

    def hours(devices: int) -> float:
        if devices != int(devices) or devices < 1:
            raise ValueError(f"there is no sweep on {devices} devices")
        return 2.0 + math.ceil(60 / int(devices)) * 1.5

    cases = ((17.0, 100, 6), (16.9, 100, 7), (92.0, 100, 1), (3.4, 100, math.inf), (5.0, 29, math.inf), (3.5, 100, 60))
    for limit, most, right in cases:
        out = answer(hours, limit, most)
        if out is None or out is ...:
            hint(right == math.inf, f"with a limit of {limit:g} h and {most} devices at most none is enough; then math.inf is asked for.")
            return "your function returns nothing yet."
        out = float(array(out, ()))
        if out == right:
            continue
        hint(right == math.inf, f"a limit of {limit:g} h, {most} devices at most: you say {out:g}, which does not do; return math.inf.")
        if out == math.ceil(hours(1) / limit):
            return "you divide the hours of one device by the limit. Some of the work does not get quicker: ask the function itself."
        if out == math.inf or hours(int(out)) > limit:
            return f"for a limit of {limit:g} h you say {out:g}, which is not enough. Note that *at most* the limit is allowed."
        return f"for a limit of {limit:g} h you say {out:g}, and fewer would do: is every number tried?"
