"""Several attributes together: what each leaks alone, what it leaks to those who know another one, and how well all are named at once.

Hiding one attribute can expose another, and a leak that is small on average can be large among some people. All attackers are trained
afresh, chosen on val and read on test once, as in `audit`.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from ..attackers import AttackSet
from ..config import AuditConfig
from ..faces import Faces, Splits
from ..machine.files import UserError, whole_number
from ..statistics import MIN_PEOPLE, Scored, best_threshold, interval, limits, paired_draws, rate_draws
from .information import FEWEST, platt
from .makers import as_makers, read_images
from .released import Released, name_of
from .trial import attack

INTERACTION_ATTACKERS = ("logistic", "svm_rbf", "mlp")
"""Who attacks where nothing else is asked for: quick ones, as there are many questions; one linear, one with a kernel, one network."""


@dataclass(frozen=True, eq=False)
class Leak:
    """What the worst attacker reached on one question, over all seeds.

    Attributes:
        kind: "alone" (one attribute among all), "given" (one among those with a value of another) or "cell" (one combination of values
            against all others).
        auc, auc_ci: mean over seeds of the test AUC, and its 95 % interval over people.
        advantage, advantage_ci: true positive less false positive rate on test at the threshold chosen on val, which is twice the balanced
            accuracy less 1: no decision that this attacker could make has a larger demographic parity gap, see `fairness`.
        attacker: who was the worst, most often.
        images, people: of the question in test, people of the rarer side.
        scores: of each seed.
    """

    kind: str
    auc: float
    auc_ci: tuple[float, float]
    advantage: float
    advantage_ci: tuple[float, float]
    attacker: str
    images: int
    people: int
    scores: tuple[Scored, ...] = field(repr=False)


@dataclass(frozen=True, eq=False)
class InteractionReport:
    """What `interaction_audit` found.

    Attributes:
        name: of the anonymizer.
        attributes: those that were read.
        leaks: by question: "gender", "gender | young = 1", "gender = 1, young = 0".
        joint: naming all attributes at once: cells (how many combinations), chance (1 / cells), balanced_accuracy, the mean over the
            cells of the share that is named rightly, and balanced_accuracy_ci; None where a combination has too few people.
        left_out: questions that could not be asked, with the reason.
        missing: images without a label of each attribute, in attack, val and test; they take no part where that label is needed.
        seeds: their numbers.
        bootstrap: resamples behind the intervals.
    """

    name: str
    attributes: tuple[str, ...]
    leaks: dict[str, Leak]
    joint: dict[str, Any] | None
    left_out: dict[str, str]
    missing: dict[str, int]
    seeds: tuple[int, ...]
    bootstrap: int

    def change(self, before: InteractionReport) -> dict[str, tuple[float, float, float]]:
        """This report's AUCs less those of `before`, an audit of the same faces and seeds: question to (change, low, high).

        The interval is of the change itself: both are resampled with the same people. A change above 0 is an exposure.

        Raises:
            UserError: the two do not belong together.
        """
        result = {}
        for what, leak in self.leaks.items():
            if what not in before.leaks:
                continue
            other = before.leaks[what]
            if [s.people.tolist() for s in leak.scores] != [s.people.tolist() for s in other.scores]:
                raise UserError(f"The audits of {self.name} and {before.name} are of other faces or seeds: their change has no meaning.")
            draws = np.subtract(*paired_draws(leak.scores, other.scores, resamples=self.bootstrap))
            result[what] = (leak.auc - other.auc, *limits(draws))
        return result

    def __str__(self) -> str:
        title = f"{self.name}: {', '.join(self.attributes)} together; worst fresh attacker on people never seen, 95 % intervals over people"
        lines = [title, "=" * len(title), f"{'question':<40}{'AUC':>6}{'':>17}{'advantage':>11}   attacker"]
        heads = {"alone": "among all", "given": "among those with a value of another", "cell": "one combination against all others"}
        for kind, head in heads.items():
            chosen = {what: leak for what, leak in self.leaks.items() if leak.kind == kind}
            lines += [head] if chosen else []
            for what, leak in chosen.items():
                low, high = leak.auc_ci
                lines.append(f"  {what:<38}{leak.auc:>6.3f} [{low:.3f}, {high:.3f}]{leak.advantage:>11.3f}   {leak.attacker}")
        if self.joint is not None:
            low, high = self.joint["balanced_accuracy_ci"]
            words = f"{self.joint['balanced_accuracy']:.1%} [{low:.1%}, {high:.1%}]; chance {self.joint['chance']:.1%}"
            lines += [f"all named at once, balanced accuracy {words}"]
        lines += [f"not asked: {what} ({reason})" for what, reason in self.left_out.items()]
        lines += [f"{count} images have no label of {name!r}" for name, count in self.missing.items() if count]
        return "\n".join(lines)


def interaction_audit(
    anonymizer: Callable[[Tensor], Tensor | np.ndarray],
    faces: Faces,
    attributes: Sequence[str],
    seeds: int = 3,
    config: AuditConfig | None = None,
    attackers: Sequence[Any] | Mapping[str, Any] = INTERACTION_ATTACKERS,
    splits: Splits | None = None,
    progress: bool = True,
) -> InteractionReport:
    """Attack several attributes of what an anonymizer releases: each alone, each given each other, and every combination of their values.

    With m attributes there are m questions of the first kind, 2 m (m - 1) of the second and 2^m of the third, and each is a training of
    all `attackers`: take few of both. The people are split by the faces' own attribute.

    Args:
        attributes: two or more names.
        attackers: see `makers.as_makers`. The gallery attack needs a verifier and is left out.
        anonymizer, faces, seeds, config, splits, progress: as for `audit`.

    Raises:
        UserError: fewer than two attributes, or one that does not exist; too few people for an interval of any question beyond the
            attributes alone; the anonymizer fails; no attacker can be trained.
    """
    config = config or AuditConfig()
    names = tuple(attributes) if not isinstance(attributes, str) else (attributes,)
    if len(names) < 2 or len(set(names)) < len(names):
        raise UserError(f"An interaction audit needs two or more different attributes, not {attributes!r}; `audit` is for one.")
    numbers = tuple(range(whole_number("seeds", seeds)))
    makers = as_makers(attackers if isinstance(attackers, Mapping) else list(attackers))
    splits = splits or faces.split()
    tables = {part: getattr(splits, part).label_table(names) for part in ("attack", "val", "test")}
    questions, left_out = _questions(names, tables, splits)
    if not any(kind != "alone" for kind, _ in questions.values()):
        what, reason = next(iter(left_out.items()))
        raise UserError(
            f"Too few people to ask how {' and '.join(names)} interact: {what}: {reason}. "
            "Load more people, take fewer attributes, or those whose combinations are not so rare."
        )
    released = Released.of(anonymizer, splits, progress=progress, decoded=read_images(makers, config))
    reached: dict[str, list[tuple[str, Scored, np.ndarray]]] = {what: [] for what in questions}
    odds: list[dict[str, np.ndarray]] = []  # of each seed, by cell: how much the scores speak for it, (T',)
    for seed in numbers:
        odds.append({})
        for what, (kind, labels) in questions.items():
            sets = {part: _labelled(released.sets[part], labels[part]) for part in tables}
            done = attack(sets, makers, config, seed, released.missing, f"  seed {seed}: {what}: ", progress)
            worst = done.worst
            threshold = best_threshold(done.val_scores[worst], sets["val"].labels, balanced=True)
            people = splits.test.identity[labels["test"] >= 0]
            scored = Scored(done.test_scores[worst], sets["test"].labels == 1, people)
            reached[what].append((worst, scored, scored.scores > threshold))
            if kind == "cell":  # over its frequency, so that rare combinations are named as readily as frequent ones
                probable = platt(done.val_scores[worst], sets["val"].labels)(scored.scores)
                odds[-1][what] = probable / sets["attack"].labels.mean()

    leaks = {what: _leak(questions[what][0], of_seeds, config.bootstrap) for what, of_seeds in reached.items()}
    cells = [what for what, (kind, _) in questions.items() if kind == "cell"]
    joint = None
    if len(cells) == 2 ** len(names):
        joint = _joint(cells, odds, {what: reached[what][0][1] for what in cells}, config.bootstrap)
    missing = {what: int(sum((table[:, i] < 0).sum() for table in tables.values())) for i, what in enumerate(names)}
    return InteractionReport(name_of(anonymizer), names, leaks, joint, left_out, missing, numbers, config.bootstrap)


def _ask(names: tuple[str, ...], table: np.ndarray) -> dict[str, tuple[str, np.ndarray]]:
    """All questions with their kind and labels 1, 0 and -1 (takes no part), (N,), from the attributes' labels (N, m)."""
    asked = {name: ("alone", table[:, i]) for i, name in enumerate(names)}
    for (i, name), (j, other) in itertools.permutations(enumerate(names), 2):
        for value in (0, 1):
            asked[f"{name} | {other} = {value}"] = ("given", np.where(table[:, j] == value, table[:, i], -1))
    for values in itertools.product((0, 1), repeat=len(names)):
        what = ", ".join(f"{name} = {value}" for name, value in zip(names, values, strict=True))
        asked[what] = ("cell", np.where((table >= 0).all(1), (table == values).all(1), -1).astype(np.int8))
    return asked


def _questions(
    names: tuple[str, ...], tables: Mapping[str, np.ndarray], splits: Splits
) -> tuple[dict[str, tuple[str, dict[str, np.ndarray]]], dict[str, str]]:
    """What can be asked: question to its kind and, by split, labels 1, 0 and -1 (takes no part); and why the rest cannot."""
    asked = {part: _ask(names, table) for part, table in tables.items()}
    questions, left_out = {}, {}
    for what, (kind, _) in asked["test"].items():
        labels = {part: of_part[what][1] for part, of_part in asked.items()}
        for part, needed in (("attack", FEWEST), ("val", 2), ("test", MIN_PEOPLE)):
            identity = getattr(splits, part).identity
            people = min(len(np.unique(identity[labels[part] == value])) for value in (0, 1))
            if people < needed:
                left_out[what] = f"{people} people of the rarer side in {part}, {needed} are needed"
                break
        else:
            questions[what] = (kind, labels)
    return questions, left_out


def _labelled(data: AttackSet, labels: np.ndarray) -> AttackSet:
    """The rows of a split that take part, with these labels (N,) in the place of their own."""
    labels = np.tile(labels, data.repeats)
    return dataclasses.replace(data, labels=labels).take(np.flatnonzero(labels >= 0))


def _leak(kind: str, seeds: Sequence[tuple[str, Scored, np.ndarray]], resamples: int) -> Leak:
    attackers, scores, _ = zip(*seeds, strict=True)
    rates, draws = [], []
    for _, scored, decided in seeds:
        groups = [scored.positive == value for value in (True, False)]
        rates.append(decided[groups[0]].mean() - decided[groups[1]].mean())
        positive, negative = (rate_draws(decided[group], scored.people[group], scored.people, resamples) for group in groups)
        draws.append(positive - negative)
    people = scores[0].people
    return Leak(
        kind=kind,
        auc=float(np.mean([s.auc for s in scores])),
        auc_ci=interval(scores, resamples),
        advantage=float(np.mean(rates)),
        advantage_ci=limits(np.mean(draws, axis=0)),
        attacker=max(dict.fromkeys(attackers), key=attackers.count),
        images=len(people),
        people=min(len(np.unique(people[scores[0].positive == value])) for value in (True, False)),
        scores=scores,
    )


def _joint(cells: list[str], odds: Sequence[Mapping[str, np.ndarray]], truth: Mapping[str, Scored], resamples: int) -> dict[str, Any]:
    """Naming the combination: the cell that the scores speak for most, judged by the mean over cells of the share that is right."""
    cell = np.argmax([truth[what].positive for what in cells], axis=0)  # (T',)
    people = truth[cells[0]].people
    rates, draws = [], []
    for of_seed in odds:
        right = np.argmax([of_seed[what] for what in cells], axis=0) == cell
        rates.append(np.mean([right[cell == c].mean() for c in range(len(cells))]))
        draws.append(np.mean([rate_draws(right[cell == c], people[cell == c], people, resamples) for c in range(len(cells))], axis=0))
    return {
        "cells": len(cells),
        "chance": 1 / len(cells),
        "balanced_accuracy": float(np.mean(rates)),
        "balanced_accuracy_ci": list(limits(np.mean(draws, axis=0))),
    }
