"""Checkers of chapter 10, closing the gap: LEACE by hand, optimal transport of Gaussians, people an eraser has not seen, and noise."""

from __future__ import annotations

import math

import numpy as np
from scipy.linalg import fractional_matrix_power as power
from scipy.stats import norm

from . import Answer, accept, array, close, hint, returned


def _erased(answer: Answer) -> str | None:
    """`leace(g, s)`, the erased g (N, k)."""
    rng = np.random.default_rng(3)
    s = (rng.random(400) < 0.4).astype(float)
    g = rng.normal(size=(400, 5)) @ rng.normal(size=(5, 5)) + np.outer(s, [1.0, -2.0, 0.5, 0.0, 1.0]) + 3.0
    out = array(returned(answer, g.copy(), s.copy()), g.shape)
    centred = g - g.mean(0)
    white, cross = power(centred.T @ centred / len(g), -0.5), centred.T @ (s - s.mean())
    u, flat = white @ cross / np.linalg.norm(white @ cross), centred @ white
    right = g - np.outer(flat @ u, np.linalg.inv(white) @ u)  # Belrose et al. 2023, theorem 4.3
    accept(close(out, right, 1e-6))
    hint(close(out, g), "g came back as it went in.")
    hint(close(out, right - g.mean(0), 1e-6), "almost: the mean of g is lost. LEACE moves an image at the mean by nothing.")
    if close(out, g - np.outer(centred @ cross, cross) / (cross @ cross), 1e-6):
        return "the labels' means are equal now, and more was changed than need be. In which coordinates is that projection orthogonal?"
    if any(close(out, flat - np.outer(flat @ u, u) + shift, 1e-6) for shift in (0, g.mean(0), white @ g.mean(0))):
        return "right in whitened coordinates: the way back is missing."
    gap = out[s == 1].mean(0) - out[s == 0].mean(0)
    hint(np.abs(gap).max() > 1e-6, f"the labels' means still differ, by {np.abs(gap).max():.3f} at most. Which direction has to go?")
    if np.abs(out - out.mean(0)).max() < 1e-6 or np.linalg.matrix_rank(out - out.mean(0), tol=1e-6) < 4:
        return "the labels' means are equal, but more than one direction is gone: LEACE gives up one."
    return "the labels' means are equal; but a smaller change of g would have done. What does whitening do to lengths?"


def _optimal_map(answer: Answer) -> str | None:
    """`transport(source, target)`, the matrix (k, k) of the optimal transport map."""
    rng = np.random.default_rng(4)
    for _ in range(3):
        source, target = (m @ m.T / 4 + 0.2 * np.eye(4) for m in rng.normal(size=(2, 4, 4)))
        out = array(returned(answer, source.copy(), target.copy()), (4, 4))
        root, inverse = power(source, 0.5), power(source, -0.5)
        right = inverse @ power(root @ target @ root, 0.5) @ inverse
        if close(out, right, 1e-6):
            continue
        hint(close(out, np.linalg.inv(right), 1e-6), "that is the way back, from the target to the source.")
        if close(out @ source @ out.T, target, 1e-6):
            return (
                "N(0, source) becomes N(0, target), but by a longer way than need be: among all A with A S A^T = T "
                "the shortest is the symmetric one."
            )
        hint(close(out, right @ right, 1e-6), "that is the square of the map: variances have squared units, lengths have not.")
        hint(close(out, np.sqrt(np.abs(target / source)), 1e-6), "a root of each entry is no root of the matrix: take the eigenvalues'.")
        off = np.abs(out @ source @ out.T - target).max()
        return f"A S A^T should be T; yours is off by {off:.3f}. Check first that S^1/2 times S^1/2 gives S, by the matrix product."


def _new_people(answer: Answer) -> str | None:
    """`my_trial(k, n, rng)`, the AUCs of a linear attacker (on the people LEACE was fitted on, on new ones)."""
    for k, n in ((20, 200), (4, 200), (20, 1000)):
        trials = [array(returned(answer, k, n, np.random.default_rng(seed)), (2,)) for seed in range(4)]
        seen, new = np.mean(trials, axis=0)
        where, expected = f"k = {k}, n = {n}: ", float(norm.cdf(math.sqrt(2 * (k - 1) / n)))
        if not (0 <= seen <= 1 and 0 <= new <= 1):
            return where + f"AUCs lie between 0 and 1, not at {seen:.3f} and {new:.3f}."
        if seen > 0.75 and new > 0.75:
            return where + f"both attackers read it ({seen:.3f}, {new:.3f}): do they get the erased g?"
        if seen > 0.56 and abs(new - 0.5) < 0.03:
            return where + f"the first AUC ({seen:.3f}) is above the second ({new:.3f}). The people it was fitted on come first."
        if abs(seen - 0.5) > 0.06:
            return where + (
                f"on its own people a linear attacker should be at chance; yours has {seen:.3f}. Is the eraser fitted on the same rows?"
            )
        if expected > 0.6 and new < 0.55:
            return where + f"on new people yours is at chance ({new:.3f}). Was the eraser fitted again, on the new rows?"
        if new > expected + 0.05:
            return where + f"too much is read on new people ({new:.3f}): is the attacker tested on rows that it has not learned from?"
        if new < expected - 0.06:
            return where + (
                f"too little is read on new people ({new:.3f}): give the attacker many more of them than the eraser had, "
                "so that only the eraser's error is seen."
            )


def _sigma(answer: Answer) -> str | None:
    """`my_sigma(bound, clip, releases)`, the noise under which no attacker's AUC exceeds `bound` after so many releases."""
    for bound, clip, releases in ((0.6, 1.0, 1), (0.75, 2.5, 1), (0.6, 1.0, 9)):
        out = float(array(returned(answer, bound, clip, releases), ()))
        mu = math.sqrt(2) * float(norm.ppf(bound))
        sigma = 2 * clip / mu
        if close(out, sigma * math.sqrt(releases)):
            continue
        hint(close(out, mu) or close(out, mu / math.sqrt(releases)), "that is mu. How much noise makes it so, for g of length at most C?")
        hint(close(out, sigma / 2 * math.sqrt(releases)), "half of it: two clipped g, one on each side of the ball, are how far apart?")
        if close(out, clip / float(norm.ppf(bound)) * math.sqrt(releases)):
            return "that mu bounds the balanced accuracy, Phi(mu / 2). Asked for is the AUC."
        if close(out, sigma * math.sqrt(releases) * math.sqrt(2)):
            return "a factor of the square root of 2 is missing in mu: two draws are compared, each with its own noise."
        hint(close(out, sigma), f"right for one release. With {releases} of one person the attacker takes their mean.")
        if close(out, sigma * releases):
            return f"{releases} releases do not need {releases} times the noise: how does the noise of a mean of m numbers fall?"
        hint(close(out, sigma / math.sqrt(releases)), "more releases tell more, so each of them needs more noise, not less.")
        return f"bound {bound}, C = {clip}, {releases} release(s): solve Phi(mu / 2^1/2) = bound for mu, then mu = 2 C / sigma for sigma."
