"""What one seed's audit is made of: attackers that are trained on one split, chosen on a second and tested on a third, and verification."""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from ..attackers import LIBRARY, Attacker, AttackSet
from ..config import AuditConfig
from ..faces import Pairs, Splits
from ..machine.choices import choosing
from ..machine.files import UserError, one_line
from ..report.ledger import FMRS
from ..statistics import MIN_PEOPLE, Scored, accuracy, best_threshold, carried, eer, fnmr_at_fmr, roc_auc
from ..verification import pair_distances

IMPOSTORS = {"free": "", "same": "_same"}
"""Impostors drawn freely and with the person's own label, and how the keys of their figures end."""

Makers = Mapping[str, Callable[[AuditConfig], Attacker]]
"""Attackers by name, each as a function that makes one; `makers.as_makers` gives it."""


@dataclass
class Attacks:
    """AUC on val and oriented scores on val, test and, where one was asked for, one more set of each attacker; why others did not run."""

    val: dict[str, float] = field(default_factory=dict)
    val_scores: dict[str, np.ndarray] = field(default_factory=dict)
    test_scores: dict[str, np.ndarray] = field(default_factory=dict)
    extra: dict[str, np.ndarray] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def worst(self) -> str:
        """The attacker that was best on val."""
        return max(self.val, key=self.val.get)


Trial = Callable[..., Attacks]
"""Trains attackers on such sets and scores them: sets, makers and, optionally, words for the progress bar and one more set to score."""


def attack(
    sets: Mapping[str, AttackSet],
    makers: Makers,
    config: AuditConfig,
    seed: int,
    missing: Mapping[str, str],
    prefix: str,
    progress: bool,
    extra: AttackSet | None = None,
) -> Attacks:
    """Train the attackers on sets["attack"] and score val, test and, where there is one, `extra`.

    A reader's attacker that breaks down is noted, and the others go on; what one of the library raises is raised. `missing` says why a
    field of the sets is None; `prefix` is of the progress bars' text. UserError where not one could be trained.
    """
    done = Attacks()
    parts = {"val": sets["val"], "test": sets["test"]} | ({} if extra is None else {"extra": extra})
    for name, make in makers.items():
        with choosing(name), tqdm(total=1, desc=f"{prefix}{name}", disable=not progress) as bar:
            try:
                attacker = make(config)
                lacks = [need for need in getattr(attacker, "needs", ()) if getattr(sets["attack"], need) is None]
                if lacks:
                    done.left_out[name] = missing.get(lacks[0], f"there are no {lacks[0]}")
                    bar.set_postfix_str("does not apply")
                    continue
                attacker.fit(sets["attack"], sets["val"], seed)
                scores = {part: _score(attacker.score, data) for part, data in parts.items()}
            except Exception as error:
                if make in LIBRARY:
                    raise
                done.failed[name] = one_line(error)
                bar.set_postfix_str(done.failed[name])
                continue
            auc = roc_auc(scores["val"], sets["val"].labels)
            sign = 1.0 if auc >= 0.5 else -1.0
            done.val[name] = max(auc, 1 - auc)
            for part, values in zip(parts, (done.val_scores, done.test_scores, done.extra), strict=False):
                values[name] = sign * scores[part]
            bar.set_postfix_str(f"val AUC {done.val[name]:.3f}")
            bar.update()
    if not done.val:
        why = "; ".join(f"{name}: {reason}" for name, reason in (done.failed | done.left_out).items())
        raise UserError(f"No attacker could be trained, so nothing can be said about the leak. {why}")
    return done


def _score(score: Callable[[AttackSet], Any], data: AttackSet) -> np.ndarray:
    scores = np.asarray(score(data), dtype=np.float64)
    if scores.shape != (len(data),) or not np.isfinite(scores).all():
        raise ValueError(f"an attacker's scores must be {len(data)} finite numbers, not of shape {scores.shape} or not finite")
    return scores


def mean_figures(dicts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Key by key: the mean of numbers, over those that have the key; the most frequent text; the same inside dictionaries."""
    result: dict[str, Any] = {}
    for key in dict.fromkeys(key for values in dicts for key in values):
        entries = [values[key] for values in dicts if key in values]
        if isinstance(entries[0], Mapping):
            result[key] = mean_figures(entries)
        elif isinstance(entries[0], str):
            result[key] = collections.Counter(entries).most_common(1)[0][0]
        else:
            result[key] = float(np.mean(entries))
    return result


def draw_pairs(splits: Splits, config: AuditConfig, seed: int) -> dict[str, dict[str, Pairs]]:
    """Verification pairs of val and test, with free and with same-attribute impostors; "gate": test's genuine ones with more impostors."""
    count, more = config.pairs, config.impostor_pairs
    if count < 2 * MIN_PEOPLE:
        raise UserError(f"AuditConfig.pairs is {count}, and an interval needs at least {2 * MIN_PEOPLE}: half of them genuine.")
    pairs = {part: {kind: getattr(splits, part).pairs(count, kind, seed=seed) for kind in IMPOSTORS} for part in ("val", "test")}
    return pairs | {"gate": {kind: splits.test.pairs(count, kind, seed=seed, impostor_pairs=more) for kind in IMPOSTORS}}


def utility(
    embeddings: Mapping[str, np.ndarray], identity: np.ndarray, pairs: dict[str, dict[str, Pairs]]
) -> tuple[dict[str, float], dict[str, Scored]]:
    """Verification figures on test pairs, with thresholds from val pairs, for free and same-attribute impostors."""
    figures, scored = {}, {}
    for kind, suffix in IMPOSTORS.items():
        val, test = pairs["val"][kind], pairs["test"][kind]
        threshold = best_threshold(pair_distances(embeddings["val"], val), val.different)
        scored[kind] = _scored(embeddings["test"], identity, test)
        distances = scored[kind].scores
        figures[f"utility_auc{suffix}"] = scored[kind].auc
        figures[f"utility_accuracy{suffix}"] = accuracy(distances, test.different, threshold)
        figures[f"eer{suffix}"] = eer(distances, test.different)
    return figures, scored


def at_the_gate(
    embeddings: Mapping[str, np.ndarray], identity: np.ndarray, pairs: dict[str, dict[str, Pairs]]
) -> tuple[dict[str, float], dict[str, Scored]]:
    """FNMR at those of `FMRS` that the impostor pairs carry, and how many pairs there are; a gate refuses nearly all impostors."""
    figures, scored = {}, {}
    for kind, suffix in IMPOSTORS.items():
        scored[kind] = gate = _scored(embeddings["test"], identity, pairs["gate"][kind])
        figures[f"impostor_pairs{suffix}"] = impostors = int(gate.positive.sum())
        rates = [fmr for fmr in FMRS if carried(float(fmr), impostors)]
        figures |= {f"fnmr_at_fmr_{fmr}{suffix}": fnmr_at_fmr(gate.scores, gate.positive, float(fmr)) for fmr in rates}
    return figures, scored


def _scored(embeddings: np.ndarray, identity: np.ndarray, pairs: Pairs) -> Scored:
    return Scored(pair_distances(embeddings, pairs), pairs.different == 1, np.stack([identity[pairs.a], identity[pairs.b]], axis=1))


@dataclass(frozen=True, eq=False)
class SeedScores:
    """What one seed's attackers and verifier said about the test people; intervals, ROC curves and histograms come from it.

    Attributes:
        labels: the attribute of the T labelled test images, bool (T,).
        people: their people's identity codes, int (T,).
        attackers: each attacker's scores, oriented on val so that higher speaks for label 1, float (T,).
        worst: the attacker that was best on val.
        free, same: distances of the test pairs with free and with same-attribute impostors.
        gate: the genuine ones of both with many more impostors, for error rates at a fixed FMR; empty in older records.
        adversary: scores of the co-trained adversary, oriented on val, or None.
        more: what further intervals need, by name: "leak/llr", the worst attacker's log likelihood ratios (Platt's fit on val) (T,),
            distances by the unprotected representation, what the deep questions ask for.
        choices: what was chosen on val, in the order of choosing, see `machine.choices.logged`.
    """

    labels: np.ndarray
    people: np.ndarray
    attackers: dict[str, np.ndarray]
    worst: str
    free: Scored
    same: Scored
    adversary: np.ndarray | None = None
    gate: Mapping[str, Scored] = field(default_factory=dict)
    more: Mapping[str, np.ndarray] = field(default_factory=dict)
    choices: Sequence[Mapping[str, Any]] = ()

    @property
    def leak(self) -> Scored:
        """The worst attacker's scores."""
        return self.scored("fresh", self.worst)

    def scored(self, kind: str, attacker: str) -> Scored:
        """Scores of one attacker: of the kind "fresh", "adaptive" or "others", or of a level of `levels.LEVELS`."""
        if kind in ("fresh", "adaptive", "others"):
            scores = self.attackers[attacker] if kind == "fresh" else self.more[f"{kind}/scores/{attacker}"]
            return Scored(scores, self.labels, self.people)
        return Scored(*(self.more[f"levels/{kind}/{array}"] for array in (f"scores/{attacker}", "labels", "people")))
