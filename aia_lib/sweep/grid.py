"""What a sweep is: the weights of Eq. 8 that are tried, how they are combined, with which seeds, and how each point is audited."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field

from ..config import AuditConfig, Profile, get_profile
from ..machine.files import UserError

MAX_WEIGHTS = 1000
"""Values of one weight, at most: a range with more of them is a slip of the pen."""

SWEEP_AUDIT = AuditConfig(attackers=("logistic", "mlp", "cnn"), epochs=8, pairs=2000, bootstrap=200, controls=False)
"""The audit of a sweep's points. The protocol is that of every audit: other people, choices on val, test read once.

It is lighter where a sweep can bear it, and takes a quarter of the time: three attackers (a linear one, one on all of g, one on its map),
fewer epochs and pairs, no controls, which do not depend on the weights. In the recorded runs at 64 px (results/, 18 audits of encoders
with all eight) the worst of these three reaches the worst of all within 0.005 AUC 16 times, and stays 0.03 below it twice. A leak is a
lower bound, here more so: audit the setting that you settle for with `aia audit`, or with `aia run`, which takes all attackers."""


def parse_range(text: str) -> tuple[float, ...]:
    """The weights that `text` names, rising: "0:1:0.1" (start:stop:step, stop included), "0,0.5,1", or one number.

    A stop that no whole number of steps reaches is not included. Values are rounded to 10 decimals: 0.3 is 0.3.

    Raises:
        UserError: the text is empty or malformed, a number is negative or not finite, the step is not positive, the stop lies
            below the start, or there are more than `MAX_WEIGHTS` values.
    """
    form = "write start:stop:step as 0:1:0.1, a list as 0,0.5,1, or one number"
    if not text.strip():
        raise UserError(f"A range of weights must not be empty: {form}.")
    try:
        numbers = [float(part) for part in text.split(":" if ":" in text else ",")]
    except ValueError:
        numbers = [math.nan]
    if not all(map(math.isfinite, numbers)) or (":" in text and len(numbers) != 3):
        raise UserError(f"{text!r} is no range of weights: {form}.")
    if ":" in text:
        start, stop, step = numbers
        if step <= 0:
            raise UserError(f"The range {text!r} has the step {step:g}; it must be above 0, as in 0:1:0.1.")
        if stop < start:
            raise UserError(f"The range {text!r} ends below its start; write the smaller number first.")
        steps = (stop - start) / step
        if steps >= MAX_WEIGHTS:
            raise UserError(f"The range {text!r} has more than {MAX_WEIGHTS:,} values; take a larger step.")
        numbers = [start + index * step for index in range(math.floor(steps + 1e-9) + 1)]
    return _weights(numbers, text)


def _weights(numbers: object, shown: object) -> tuple[float, ...]:
    """Rising, without repetitions, rounded. UserError where there are none, or one is no weight; `shown` is what the user wrote."""
    try:
        values = [float(number) for number in numbers]
    except (TypeError, ValueError):
        raise UserError(f"Weights must be numbers, not {shown!r}.") from None
    if not values or not all(math.isfinite(value) and value >= 0 for value in values):
        raise UserError(f"Weights must be finite numbers that are not negative, at least one; {shown!r} holds others.")
    return tuple(sorted({round(value, 10) + 0.0 for value in values}))


@dataclass(frozen=True, order=True)
class Point:
    """One training and its audit: AIA with the weights alpha and beta, or, where these are None, Original, once a seed."""

    seed: int
    alpha: float | None = None
    beta: float | None = None

    @property
    def method(self) -> str:
        """ "Original", "AIA", or "AIA\\T" where the task has no weight."""
        if self.alpha is None:
            return "Original"
        return "AIA" if self.alpha > 0 else "AIA\\T"

    @property
    def setting(self) -> str:
        """The method and its weights, the same for all seeds: the name of its entry in the ledger."""
        return self.method if self.alpha is None else f"{self.method} alpha={self.alpha:.10g} beta={self.beta:.10g}"

    @property
    def name(self) -> str:
        """The point's files are called so."""
        weights = "original" if self.alpha is None else f"alpha-{self.alpha:.10g}-beta-{self.beta:.10g}"
        return f"seed-{self.seed}-{weights}"

    def __str__(self) -> str:
        return f"seed {self.seed}: {self.setting}"


@dataclass(frozen=True)
class SweepConfig:
    """A sweep.

    Attributes:
        alpha, beta: the weights of Eq. 8 to try, none negative: weights of the task and of the adversary.
        grid: "cross", the paper's Fig. 2: alpha varies while beta has the profile's value, and the other way round; or "full",
            every alpha with every beta.
        seeds: whole numbers that are not negative; each trains and audits all points.
        profile: the settings of all stages; alpha and beta in its `finetune` are what the cross holds.
        audit: of every point, in the place of the profile's.
    """

    alpha: tuple[float, ...] = parse_range("0:1:0.1")
    beta: tuple[float, ...] = parse_range("0:1:0.1")
    grid: str = "cross"
    seeds: tuple[int, ...] = (0, 1, 2)
    profile: Profile = field(default_factory=get_profile)
    audit: AuditConfig = SWEEP_AUDIT

    def __post_init__(self) -> None:
        for name in ("alpha", "beta"):
            object.__setattr__(self, name, _weights(getattr(self, name), getattr(self, name)))
        if self.grid not in ("cross", "full"):
            raise UserError(f"SweepConfig.grid must be one of cross, full, not {self.grid!r}.")
        seeds = tuple(self.seeds) if isinstance(self.seeds, (tuple, list, range)) else ()
        if not seeds or len(set(seeds)) < len(seeds) or not all(type(seed) is int and seed >= 0 for seed in seeds):
            raise UserError(f"SweepConfig.seeds must be different whole numbers that are not negative, not {self.seeds!r}.")
        object.__setattr__(self, "seeds", seeds)
        object.__setattr__(self, "profile", dataclasses.replace(self.profile, audit=self.audit))  # so that it tells the truth

    @property
    def held(self) -> tuple[float, float]:
        """(alpha, beta) that stay fixed in the cross while the other one varies; the paper's are (0.5, 0.5)."""
        return self.profile.finetune.alpha, self.profile.finetune.beta

    @property
    def settings(self) -> list[tuple[float, float]]:
        """The (alpha, beta) to try. In the cross first beta varies (Fig. 2a), then alpha (Fig. 2b); what is in both comes once."""
        if self.grid == "full":
            return [(alpha, beta) for alpha in self.alpha for beta in self.beta]
        alpha, beta = self.held
        return list(dict.fromkeys([*((alpha, b) for b in self.beta), *((a, beta) for a in self.alpha)]))

    def points(self) -> list[Point]:
        """All points: seed after seed, so that a sweep that is stopped early has whole curves; Original first."""
        return [point for seed in self.seeds for point in (Point(seed), *(Point(seed, *weights) for weights in self.settings))]
