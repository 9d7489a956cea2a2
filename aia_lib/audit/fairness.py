"""What a leak means for decisions: demographic parity, and who is falsely matched or falsely rejected.

**Parity and the attacker are one thing.** Let a decision d in {0, 1} be made from g alone, by any rule, at random or not, and let s be the
attribute. A decision is an attacker: it answers "s = 1" where d = 1, with the balanced accuracy (1 + P(d=1|s=1) - P(d=1|s=0)) / 2. So with
BA* the greatest balanced accuracy that any function of g reaches::

    |P(d=1 | s=1) - P(d=1 | s=0)|  <=  TV(P(g|s=1), P(g|s=0))  =  2 BA* - 1,

since P(g in A | s=1) - P(g in A | s=0) is at most the total variation distance for every set A, and the set where the likelihood ratio is
above 1 attains it (Feldman et al. 2015, where the balanced *error* rate is used; Madras et al. 2018 and McNamara et al. 2019 for learned
representations). It holds with equality for one decision, so a leak is exactly the room for unequal treatment. The other way round it says
nothing: parity does not make a decision right, nor equal in its errors.

BA* is not known. A trained attacker gives a *lower* estimate of it, and so an estimate of the bound that a better decision maker may
exceed; only a certificate (`defences.CertifiedNoise`) bounds it from above.
"""

from __future__ import annotations

import collections
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor

from ..config import AuditConfig
from ..faces import Faces, Pairs, Splits
from ..machine.files import UserError, whole_number
from ..statistics import MIN_PEOPLE, limits, rate_draws
from ..verification import pair_distances
from .released import Released, name_of

VALUES, FIGURES = (0, 1), ("fmr", "fnmr")


@dataclass(frozen=True)
class ParityGap:
    """How differently a decision falls on the two values of an attribute.

    Attributes:
        rates: share of positive decisions among images with label 0, and with label 1.
        difference, difference_ci: the second less the first, and its 95 % interval over people.
        gap, gap_ci: its size, the demographic parity gap; the interval begins at 0 where that of the difference has both signs.
    """

    rates: tuple[float, float]
    difference: float
    difference_ci: tuple[float, float]
    gap: float
    gap_ci: tuple[float, float]


def parity_gap(decisions: ArrayLike, labels: ArrayLike, people: ArrayLike, resamples: int = 1000) -> ParityGap:
    """The demographic parity gap of decisions, ``|P(d=1|s=1) - P(d=1|s=0)|``, with an interval by a bootstrap over people.

    Args:
        decisions: 1 or True where the decision is positive; or its probability in [0, 1], where it is drawn. Shape (N,).
        labels: the attribute, 1, 0 or -1 (unknown), shape (N,).
        people: the people's codes, shape (N,): images of one person are not independent.
        resamples: of the bootstrap.

    Raises:
        UserError: shapes or values do not fit, or there are fewer than `statistics.MIN_PEOPLE` people of a label.
    """
    decisions, labels, people = np.asarray(decisions, dtype=np.float64), np.asarray(labels), np.asarray(people)
    if decisions.ndim != 1 or not decisions.shape == labels.shape == people.shape:
        shapes = f"{decisions.shape}, {labels.shape}, {people.shape}"
        raise UserError(f"decisions, labels and people must be of one length, not of shapes {shapes}.")
    if not ((decisions >= 0) & (decisions <= 1)).all():
        raise UserError("Decisions must be 0, 1 or a probability in between; turn scores into decisions by a threshold that val chose.")
    rows = [labels == value for value in VALUES]
    _enough(people, rows, "an interval of the parity gap")
    draws = [rate_draws(decisions[group], people[group], people[labels >= 0], resamples) for group in rows]
    rates = tuple(float(decisions[group].mean()) for group in rows)
    difference, (low, high) = rates[1] - rates[0], limits(draws[1] - draws[0])
    ends = sorted((abs(low), abs(high)))
    return ParityGap(rates, difference, (low, high), abs(difference), (0.0 if low <= 0 <= high else ends[0], ends[1]))


@dataclass(frozen=True, eq=False)
class GroupRates:
    """Errors of a fresh verifier at one threshold, for each value of an attribute.

    Attributes:
        name: of the anonymizer.
        attribute: whose values make the groups.
        target: the false match rate on val that the threshold allows.
        rates: {0: …, 1: …}, each with "fmr" (share of impostor pairs, both of the group, that are accepted), "fnmr" (share of the group's
            genuine pairs that are rejected), their 95 % intervals over people "fmr_ci" and "fnmr_ci", and what they rest on: "impostors"
            and "genuine" (pairs), "people".
        difference: value 1 less value 0: "fmr", "fnmr" and their intervals.
        thresholds: of each seed, on the verifier's distance.
        missing: test images without a label, which are in no group.
        seeds: their numbers.
        draws: the bootstrap's rates by (figure, value), for `change`; the same people are drawn for the same faces.
    """

    name: str
    attribute: str
    target: float
    rates: dict[int, dict[str, Any]]
    difference: dict[str, Any]
    thresholds: tuple[float, ...]
    missing: int
    seeds: tuple[int, ...]
    draws: dict[tuple[str, int], np.ndarray] = field(repr=False)

    def change(self, before: GroupRates) -> dict[str, tuple[float, float, float]]:
        """These rates less those of `before`, of the same faces and seeds: "fmr 0", "fmr 1", "fnmr 0", "fnmr 1" to (change, low, high).

        Raises:
            UserError: the two do not belong together.
        """
        keys = ("impostors", "genuine", "people")
        mine, theirs = (
            (r.attribute, r.seeds, len(r.draws["fmr", 0]), [[rates[key] for key in keys] for rates in r.rates.values()])
            for r in (self, before)
        )
        if mine != theirs:
            raise UserError(
                f"The rates of {self.name} and {before.name} are of other faces, seeds or settings: their change has no meaning."
            )
        return {
            f"{figure} {value}": (
                self.rates[value][figure] - before.rates[value][figure],
                *limits(self.draws[figure, value] - before.draws[figure, value]),
            )
            for figure, value in self.draws
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dictionaries, without the draws."""
        keys = ("name", "attribute", "target", "rates", "difference", "thresholds", "missing", "seeds")
        return json.loads(json.dumps({key: getattr(self, key) for key in keys}, allow_nan=False))

    def __str__(self) -> str:
        title = (
            f"{self.name}: one threshold, set for a false match rate of {self.target:.1%} on val; errors by {self.attribute!r} as labelled"
        )
        lines = [title, "=" * len(title), f"{'':<16}{'false matches':<26}{'false non-matches':<26}pairs (impostors, genuine)"]
        rows = [(f"{self.attribute} = {value}"[:15], "", rates) for value, rates in self.rates.items()]
        for head, sign, rates in [*rows, ("1 less 0", "+", self.difference)]:
            cells = [f"{rates[key]:{sign}.1%} [{', '.join(f'{end:{sign}.1%}' for end in rates[f'{key}_ci'])}]" for key in FIGURES]
            words = f"{rates['impostors']:,}, {rates['genuine']:,} of {rates['people']:,} people" if "people" in rates else ""
            lines.append(f"{head:<16}{cells[0]:<26}{cells[1]:<26}{words}".rstrip())
        return "\n".join(lines)


def group_rates(
    anonymizer: Callable[[Tensor], Tensor | np.ndarray],
    faces: Faces,
    attribute: str | None = None,
    seeds: int = 3,
    target: float = 0.1,
    config: AuditConfig | None = None,
    splits: Splits | None = None,
    progress: bool = True,
) -> GroupRates:
    """False match and false non-match rates of a fresh verifier for each value of an attribute, at one threshold for everybody.

    The threshold is the loosest that accepts at most `target` of val's impostor pairs whose two people share the attribute. On test each
    group is measured by itself, with impostors out of the same group: others are easier to reject, and would hide what happens inside.
    One threshold for all is what is deployed; a threshold for each group would need the attribute at the gate.

    Args:
        attribute: whose values make the groups; None takes the faces' own, by which the people are split.
        target: the false match rate that the threshold allows on val, in (0, 1).
        config: epochs, pairs (half of `pairs` for each group) and resamples; None takes `AuditConfig()`.
        anonymizer, faces, seeds, splits, progress: as for `audit`; each seed trains a verifier and draws pairs afresh.

    Raises:
        UserError: there is no such attribute; a group has too few people in test; `target` is no share, or so small that val has no
            impostor pair to allow; the anonymizer fails.
    """
    config = config or AuditConfig()
    attribute = faces.attribute if attribute is None else attribute
    faces.labels(attribute)  # says which there are
    if not 0 < target < 1:
        raise UserError(f"target, a false match rate, must lie between 0 and 1, not at {target!r}.")
    numbers = tuple(range(whole_number("seeds", seeds)))
    splits = splits or faces.split()
    labels, identity = splits.test.labels(attribute), splits.test.identity
    _enough(identity, [_several(identity, labels == value) for value in VALUES], f"the errors by {attribute!r}", "two images or more")
    val_pairs = {
        seed: [splits.val.pairs(config.pairs, kind, attribute=attribute, seed=seed) for kind in ("free", "same")] for seed in numbers
    }
    fewest = min(int(pairs[1].different.sum()) for pairs in val_pairs.values())
    if fewest * target < 1:
        raise UserError(f"Val has {fewest} impostor pairs, too few for a false match rate of {target:g}; raise target or load more people.")
    groups = {value: np.flatnonzero(labels == value) for value in VALUES}
    test_pairs: dict[tuple[int, int], Pairs] = {}
    for seed, (value, rows) in itertools.product(numbers, groups.items()):
        pairs = splits.test.subset(rows).pairs(max(2, config.pairs // 2), "free", seed=seed)
        test_pairs[seed, value] = Pairs(rows[pairs.a], rows[pairs.b], pairs.different)
    released = Released.of(anonymizer, splits, control=True, progress=progress)
    thresholds: list[float] = []
    rates, draws = collections.defaultdict(list), collections.defaultdict(list)  # by figure and value, of each seed
    for seed in numbers:
        verifier = released.verifier(val_pairs[seed], config, seed, progress)
        embeddings = {part: verifier.embed(released.sets[part].features) for part in ("val", "test")}
        same = val_pairs[seed][1]
        thresholds.append(threshold_at(pair_distances(embeddings["val"], same)[same.different == 1], target))
        for value, (figure, kind) in itertools.product(VALUES, (("fmr", 1), ("fnmr", 0))):
            pairs = test_pairs[seed, value]
            chosen = pairs.different == kind
            wrong = (pair_distances(embeddings["test"], pairs) <= thresholds[-1])[chosen] == bool(kind)
            people = np.stack([identity[pairs.a[chosen]], identity[pairs.b[chosen]]], axis=1)
            rates[figure, value].append(wrong.mean())
            draws[figure, value].append(rate_draws(wrong, people, identity, config.bootstrap))
    mean = {key: np.mean(of_seeds, axis=0) for key, of_seeds in draws.items()}
    result: dict[int, dict[str, Any]] = {}
    for value in VALUES:
        result[value] = {figure: float(np.mean(rates[figure, value])) for figure in FIGURES}
        result[value] |= {f"{figure}_ci": limits(mean[figure, value]) for figure in FIGURES}
        different = test_pairs[numbers[0], value].different
        result[value] |= {"impostors": int(different.sum()), "genuine": int((different == 0).sum())}
        result[value]["people"] = len(np.unique(identity[groups[value]]))
    difference = {figure: result[1][figure] - result[0][figure] for figure in FIGURES}
    difference |= {f"{figure}_ci": limits(mean[figure, 1] - mean[figure, 0]) for figure in FIGURES}
    name, missing = name_of(anonymizer), int((labels < 0).sum())
    return GroupRates(name, attribute, target, result, difference, tuple(thresholds), missing, numbers, mean)


def threshold_at(distances: ArrayLike, target: float) -> float:
    """The loosest distance at which "accept where distance <= threshold" accepts at most a share `target` of these impostor pairs (M,)."""
    ordered = np.sort(np.asarray(distances, dtype=np.float64))
    allowed = int(np.floor(target * len(ordered) * (1 + 1e-12)))
    return float(np.nextafter(ordered[allowed], -np.inf)) if allowed < len(ordered) else float(ordered[-1])


def _several(identity: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The rows of a group (N,) whose person has another image in it, bool (N,)."""
    codes, counts = np.unique(identity[group], return_counts=True)
    return group & np.isin(identity, codes[counts > 1])


def _enough(people: np.ndarray, rows: Sequence[np.ndarray], what: str, of: str = "an image") -> None:
    for value, group in zip(VALUES, rows, strict=True):
        count = len(np.unique(people[group]))
        if count < MIN_PEOPLE:
            raise UserError(f"Too few people for {what}: {count} with label {value} have {of}, {MIN_PEOPLE} are needed. Load more people.")
