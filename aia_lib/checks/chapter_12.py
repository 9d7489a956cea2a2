"""Checkers of chapter 12, past one machine."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch


def _number(given: object) -> float:
    """One number. TypeError or ValueError where it is none, which `check` passes on to the reader."""
    value = np.asarray(given, dtype=float)
    if value.shape != ():
        raise ValueError(f"one number is asked for, not an array of shape {value.shape}")
    return float(value)


def _is(given: float, right: float) -> bool:
    return math.isclose(given, right, rel_tol=1e-6)


def speedup(answer: object) -> str | None:
    """12.1: a sweep on several workers against one, from the seconds of what comes first and of a point."""
    if not callable(answer):
        return "pass the function itself, not a value of it."
    for shared, point, points, workers in ((30.0, 10.0, 22, 4), (5.0, 8.0, 22, 64), (0.0, 2.0, 6, 3)):
        one, many = shared + points * point, shared + math.ceil(points / workers) * point
        given = answer(shared, point, points, workers)
        if given is None or given is ...:
            return "your function returns nothing yet."
        given = _number(given)
        if _is(given, one / many):
            continue
        if _is(given, many):
            return "those are the seconds with several workers. How many times longer does one worker take?"
        if _is(given, many / one):
            return "that is upside down: more workers have to give a larger number."
        if _is(given, one / (shared + points * point / workers)):
            return f"almost: {workers} workers cannot share {points} points evenly. How many points does the busiest worker get?"
        if _is(given, one / (shared + points // workers * point) if shared + points // workers * point else math.inf):
            return f"{points} points on {workers} workers: what about those left over when all workers have had the same number?"
        if _is(given, one / (shared / workers + points * point / workers)) or _is(given, workers):
            return "that is what it would be if everything could be shared. Who works while the shared stages are trained?"
        if _is(given, points / math.ceil(points / workers)):
            return "right for the points alone; the shared stages take their time on both sides."
        return f"with {shared:g} s of shared stages and {points} points of {point:g} s: how long on one worker, how long on {workers}?"
    return None


def exponent(answer: object) -> str | None:
    """12.2: b of seconds = a N^b."""
    if not callable(answer):
        return "pass the function itself, not a value of it."
    counts = np.array([1e3, 3e3, 1e4, 5e4, 2e5])
    noise = np.exp([0.1, -0.2, 0.15, -0.1, 0.05])
    for b, a in ((1.3, 2e-3), (0.8, 0.1)):
        seconds = a * counts**b * noise
        right = np.polyfit(np.log(counts), np.log(seconds), 1)
        given = answer(counts.copy(), seconds.copy())
        if given is None or given is ...:
            return "your function returns nothing yet."
        if np.shape(given) == (2,):
            return "those are both coefficients of the line; asked for is the exponent, one number. Which of the two is it?"
        given = _number(given)
        if math.isclose(given, right[0], abs_tol=1e-6):
            continue
        if math.isclose(given, np.polyfit(np.log(seconds), np.log(counts), 1)[0], abs_tol=1e-6):
            return "the axes are exchanged: that is how the images grow with the seconds."
        if _is(given, right[1]) or _is(given, math.exp(right[1])):
            return "that is the line's height, not its slope."
        if _is(given, np.polyfit(counts, seconds, 1)[0]):
            return "that is the slope in the plain numbers, in seconds an image. On which axes does a N^b become a straight line?"
        if _is(given, np.polyfit(np.log(counts), seconds, 1)[0]) or _is(given, np.polyfit(counts, np.log(seconds), 1)[0]):
            return "you took the logarithm of one of the two only."
        if math.isclose(given, np.log(seconds[-1] / seconds[0]) / np.log(counts[-1] / counts[0]), abs_tol=1e-6):
            return "right from the first point to the last; a fit uses all points, so that one bad measurement does not decide."
        return "take the logarithm of both, lay a straight line through the points, and return its slope."
    return None


def gradients(answer: object) -> str | None:
    """12.3: each model's own gradient, out of one backward pass for all."""
    if not callable(answer):
        return "pass the function itself, not a value of it."
    generator = torch.Generator().manual_seed(0)
    weights, x = torch.randn(4, 3, generator=generator), torch.randn(10, 3, generator=generator)
    y = (torch.rand(10, generator=generator) > 0.4).float()
    right = torch.sigmoid(weights @ x.T).sub(y) @ x / len(x)  # (P, k)
    given = answer(weights.clone(), x.clone(), y.clone())
    if given is None or given is ...:
        return "your function returns nothing yet; if it ends in `weights.grad`, did `weights` require a gradient?"
    given = torch.as_tensor(np.asarray(given.detach() if isinstance(given, torch.Tensor) else given), dtype=torch.float32)

    def close(other: torch.Tensor) -> bool:
        return given.shape == other.shape and torch.allclose(given, other, atol=1e-5)

    if close(right):
        return None
    if close(right / len(weights)):
        return "each is too small by the number of models: you took the mean over them too. Which reduction leaves each its own?"
    if close(right * len(x)):
        return "each is too large by the number of images: the loss of a model is a mean over its images."
    if close(right.T):
        return "right, but transposed: one row a model is asked for."
    if close(right.sum(0)) or close(right.mean(0)):
        return "that is one gradient for all models together. Keep the axis of the models."
    if close(-right):
        return "the sign is wrong: asked for is the gradient of the loss, not the step down it."
    if given.shape != right.shape:
        return f"asked for is an array of shape {tuple(right.shape)}, models x weights; yours is {tuple(given.shape)}."
    return "the loss of model p is the mean cross entropy of the logits x @ weights[p]; sum the losses, and go backwards once."


def devices_needed(answer: object) -> str | None:
    """12.4: the smallest number of devices with which the hours are at most `limit`; infinity where none of 1 to `most` does."""
    if not callable(answer):
        return "pass the function itself, not a value of it."

    def hours(devices: int) -> float:
        if devices != int(devices) or devices < 1:
            raise ValueError(f"there is no sweep on {devices} devices")
        return 2.0 + math.ceil(60 / int(devices)) * 1.5

    cases: tuple[tuple[Callable[[int], float], float, int, float], ...] = (
        (hours, 17.0, 100, 6),
        (hours, 16.9, 100, 7),
        (hours, 92.0, 100, 1),
        (hours, 3.4, 100, math.inf),
        (hours, 5.0, 29, math.inf),
        (hours, 3.5, 100, 60),
    )
    for function, limit, most, right in cases:
        given = answer(function, limit, most)
        if given is None or given is ...:
            if right == math.inf:
                return f"with a limit of {limit:g} h and {most} devices at most none is enough; then math.inf is asked for."
            return "your function returns nothing yet."
        given = _number(given)
        if given == right:
            continue
        if right == math.inf:
            return f"a limit of {limit:g} h, {most} devices at most: you say {given:g}, which does not do; then math.inf is asked for."
        if given == math.ceil(function(1) / limit):
            return "you divide the hours of one device by the limit. Some of the work does not get quicker: ask the function itself."
        if given == math.inf or function(int(given)) > limit:
            return f"for a limit of {limit:g} h you say {given:g}, which is not enough. Note that *at most* the limit is allowed."
        return f"for a limit of {limit:g} h you say {given:g}, and fewer would do: is every number tried?"
    return None


EXERCISES = {"12.1": speedup, "12.2": exponent, "12.3": gradients, "12.4": devices_needed}
