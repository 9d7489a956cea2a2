"""Metrics that biometrics reads a protected template by, as functions of scores: PIC, suppression rate, D_sys and ZEBRA."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logit
from sklearn.isotonic import IsotonicRegression

from .machine.files import UserError
from .statistics import checked


def pic(error: float, error_before: float, eer: float, eer_before: float) -> float:
    """PIC = (AE' - AE)/AE - (EER' - EER)/EER: relative gain of privacy less relative loss of identity (Terhörst et al. 2019).

    Above 0 the attacker's error grew by a larger factor than the verifier's. It is a difference of two ratios of small numbers: where AE or
    EER is near 0 it says little.

    Args:
        error, error_before: balanced errors of the attribute's attacker after and before protection, AE' and AE, in (0, 1].
        eer, eer_before: equal error rates of the verifier after and before, in (0, 1].

    Raises:
        UserError: an error before protection is 0, so that nothing is relative to it.
    """
    if min(error_before, eer_before) <= 0:
        raise UserError(f"PIC is relative to the errors before protection, and one is 0: AE {error_before:g}, EER {eer_before:g}.")
    return (error - error_before) / error_before - (eer - eer_before) / eer_before


def suppression_rate(accuracy: float, accuracy_before: float) -> float:
    """(a - a')/a: the share of the attacker's accuracy that protection takes away (Terhörst et al. 2019).

    Args:
        accuracy, accuracy_before: balanced accuracies after and before, a' and a, in (0, 1]. Chance has 0.5: more than 1 - 0.5/a is luck.
    """
    return (accuracy_before - accuracy) / accuracy_before


def log_likelihood_ratio(scores: ArrayLike, positive: ArrayLike) -> Callable[[ArrayLike], np.ndarray]:
    """Calibrate scores: a function from scores to log p(score | positive)/p(score | negative), natural logarithm.

    The posterior is the isotonic regression of the classes on the scores (pool adjacent violators); the classes' log odds are taken off.
    One row of each class is added beyond either end (Laplace's rule of succession), which keeps all ratios finite.

    Args:
        scores: higher speaks for positive, shape (N,).
        positive: 1 or True where positive, shape (N,).
    """
    scores, positive = checked(scores, positive)
    ends = np.repeat([scores.min() - 1, scores.max() + 1], 2)
    fit = IsotonicRegression(out_of_bounds="clip").fit(np.concatenate([scores, ends]), np.concatenate([positive, [0, 1, 0, 1]]))
    prior = math.log((positive.sum() + 2) / ((~positive).sum() + 2))
    return lambda values: logit(fit.predict(np.asarray(values, dtype=np.float64))) - prior


def linkability(distances: ArrayLike, different: ArrayLike) -> float:
    """D_sys, the global linkability of two releases, in [0, 1] (Gomez-Barrero et al. 2018, mated and non-mated equally likely).

    The mean over mated scores s of D(s) = max(0, 2 LR/(1 + LR) - 1), where LR(s) = p(s | mated)/p(s | non-mated): 0 where mated and
    non-mated scores are distributed alike, 1 where they never meet. LR comes from `log_likelihood_ratio`: nearer releases are mated more
    likely. Fitted to the scores that it is read at, a little above 0 without any difference.

    Args:
        distances: of two releases, shape (N,).
        different: 1 where they are of two people (non-mated), 0 where of one (mated), shape (N,).
    """
    mated = np.asarray(different) == 0
    ratios = log_likelihood_ratio(-np.asarray(distances, dtype=np.float64), mated)(-np.asarray(distances)[mated])
    return float(np.maximum(0, np.tanh(ratios / 2)).mean())


def disclosure_bits(ratios: ArrayLike, positive: ArrayLike) -> np.ndarray:
    """What each score discloses of its class, in bits, averaged over all priors (ZEBRA, Nautsch et al. 2020, arXiv 2005.09413), shape (N,).

    The mean over the positives plus the mean over the negatives is the expected disclosure: the drop of the empirical cross-entropy from a
    system that knows the prior alone, integrated over the prior from 0 to 1. 0 is perfect privacy, 1/(2 ln 2) = 0.72 full disclosure;
    below 0 the ratios mislead. With r the ratio for the true class, the integral is 1/4 - (r - 1 - ln r)/(2 (r - 1)^2), in nats.

    Args:
        ratios: natural logarithms of the likelihood ratios for positive, calibrated on other people, shape (N,).
        positive: bool (N,).
    """
    log_r = np.where(np.asarray(positive, dtype=bool), 1, -1) * np.asarray(ratios, dtype=np.float64)
    near = np.abs(log_r) < 1e-4  # where the formula loses all digits, its first-order expansion: 1/4 - ln(r)/6
    c = np.expm1(np.where(near, 1.0, log_r))
    return np.where(near, log_r / 6, 0.25 - (c - log_r) / (2 * c**2)) / math.log(2)


ZEBRA = {1: "A", 2: "B", 4: "C", 5: "D", 6: "E", math.inf: "F"}
"""Categories of the worst-case disclosure, by the power of ten that its odds stay below."""


def worst_disclosure(ratios: ArrayLike) -> tuple[float, str]:
    """The largest abs(log10 LR), and ZEBRA's category: "0" where no score says anything, "A" (odds below 10) to "F" (from 10^6 on).

    Arguments as for `disclosure_bits`.
    """
    worst = float(np.abs(ratios).max() / math.log(10))
    return worst, "0" if worst == 0 else next(tag for power, tag in ZEBRA.items() if worst < power)
