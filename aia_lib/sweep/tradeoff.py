"""What a trade-off is worth: the Pareto front, the hypervolume that it dominates, and the setting to take under a constraint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ..machine.files import UserError, with_interval

if TYPE_CHECKING:
    import pandas as pd


REFERENCE = (1.0, 0.5)
"""The worst that can be had, as (leak, utility): the attribute is read off every face, and no two people are told apart."""


def pareto_front(leak: ArrayLike, utility: ArrayLike) -> np.ndarray:
    """Which of N settings no other one beats: with no more leak and no less utility, and better in one of them. Bool (N,).

    Settings with the same figures are on the front together.

    Raises:
        UserError: the two differ in length, or hold something that is not finite.
    """
    leak, utility = _checked(leak, utility)
    better = (leak[:, None] <= leak) & (utility[:, None] >= utility) & ((leak[:, None] < leak) | (utility[:, None] > utility))  # (by, N)
    return ~better.any(0)


def hypervolume(leak: ArrayLike, utility: ArrayLike, reference: tuple[float, float] = REFERENCE) -> float:
    """The area between the front and the reference: the share of (leak, utility) pairs that some setting is at least as good as.

    From the reference (1, 0.5) a method that leaves attackers at chance (leak 0.5) and verifies without a fault (utility 1) has 0.25,
    and a useless one 0. A leak below chance is noise of the test and counts as chance.

    Raises:
        UserError: as for `pareto_front`.
    """
    leak, utility = _checked(leak, utility)
    worst_leak, reached = reference
    area = 0.0
    for x, y in sorted(zip(np.maximum(leak, 0.5), utility, strict=True), key=lambda point: (point[0], -point[1])):
        if y > reached and x < worst_leak:
            area += (worst_leak - x) * (y - reached)
            reached = y
    return float(area)


def _checked(leak: ArrayLike, utility: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    leak, utility = np.asarray(leak, dtype=np.float64), np.asarray(utility, dtype=np.float64)
    if leak.ndim != 1 or leak.shape != utility.shape:
        raise UserError(f"Leak and utility must be of one length, not of shapes {leak.shape} and {utility.shape}.")
    if not (np.isfinite(leak).all() and np.isfinite(utility).all()):
        raise UserError("Leak and utility must be finite numbers.")
    return leak, utility


@dataclass(frozen=True)
class Recommendation:
    """The setting to take under a constraint; `str` says it in words.

    Attributes:
        max_leak: the constraint.
        met: a setting keeps it; otherwise this is the one that comes nearest.
        setting: its name. alpha, beta: its weights.
        leak, leak_interval: AUC of the worst fresh attacker on the test people, mean over seeds, and its 95 % interval.
        utility, utility_interval: the same of the fresh verifier, impostors with the same label.
        leak_val: what it was chosen by: the leak on the people of val.
    """

    max_leak: float
    met: bool
    setting: str
    alpha: float
    beta: float
    leak: float
    leak_interval: tuple[float, float]
    utility: float
    utility_interval: tuple[float, float]
    leak_val: float

    def __str__(self) -> str:
        leak, utility = with_interval(self.leak, self.leak_interval), with_interval(self.utility, self.utility_interval)
        figures = f"{self.setting}: on the test people leak {leak}, utility {utility}"
        if not self.met:
            return (
                f"No setting leaks at most {self.max_leak:g} (worst fresh attacker, on val). Nearest is {figures}. "
                "Try larger weights of the adversary, or another method."
            )
        text = f"The most utility for a leak of at most {self.max_leak:g}: {figures}."
        if self.leak > self.max_leak:
            return f"{text} That is above {self.max_leak:g}: settings are chosen on val, where it leaks {self.leak_val:.3f}."
        return text + (f" Its interval reaches beyond {self.max_leak:g}." if self.leak_interval[1] > self.max_leak else "")


def check_max_leak(max_leak: float) -> None:
    """Raise a UserError where a constraint on the leak is no AUC in (0, 1]."""
    if not (isinstance(max_leak, (int, float)) and 0 < max_leak <= 1):
        raise UserError(f"The largest leak allowed is an AUC above 0 and at most 1 (0.5 is chance), not {max_leak!r}.")


def recommend(settings: pd.DataFrame, max_leak: float) -> Recommendation:
    """Of the settings that leak at most `max_leak`, the one with the most utility; where there is none, the one that leaks least.

    It is a choice, and so made on val like every other: to pick the best of many test figures would flatter it. Reported are the
    figures on test.

    Args:
        settings: `SweepResult.settings()`; one at least.
        max_leak: AUC in (0, 1].

    Raises:
        UserError: `max_leak` is out of its range.
    """
    check_max_leak(max_leak)
    allowed = settings[settings["leak_val"] <= max_leak]
    ranked = settings.sort_values("leak_val") if allowed.empty else allowed.sort_values("utility_val", ascending=False)
    best = ranked.iloc[0]
    intervals = {f"{name}_interval": (float(best[f"{name}_low"]), float(best[f"{name}_high"])) for name in ("leak", "utility")}
    figures = {name: float(best[name]) for name in ("alpha", "beta", "leak", "utility", "leak_val")}
    return Recommendation(max_leak=float(max_leak), met=not allowed.empty, setting=str(best["setting"]), **figures, **intervals)
