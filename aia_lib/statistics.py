"""Every metric and every resampling: ROC, error rates, thresholds, and 95 % intervals by a bootstrap clustered on people."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.integrate import trapezoid
from scipy.sparse import coo_matrix
from scipy.stats import norm, rankdata
from sklearn.metrics import balanced_accuracy_score, roc_curve

from .machine.files import UserError

MIN_PEOPLE = 10
"""People of each label that an interval needs. With fewer, resampling people says little about people who were not drawn."""

_CHUNK = 4_000_000
"""Weights that the bootstrap holds at a time; five arrays of this size are alive, 160 MB."""


def roc_auc(scores: ArrayLike, positive: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting one half.

    Args:
        scores: higher speaks for positive, shape (N,).
        positive: 1 or True where positive, shape (N,).

    Raises:
        UserError: only one class is there.
    """
    scores, positive = checked(scores, positive)
    # scikit-learn's roc_auc_score to the last bit, without its checks: they take ten times as long, and an audit asks hundreds of times.
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # of each group of ties
    won = np.cumsum(positive[order], dtype=np.float64)[last]  # positives accepted at each threshold
    lost = 1 + last - won
    corner = np.ones(len(last), dtype=bool)
    corner[1:-1] = (np.diff(lost, 2) != 0) | (np.diff(won, 2) != 0)
    tpr, fpr = (np.append(0, accepted[corner] / accepted[-1]) for accepted in (won, lost))
    return float(trapezoid(tpr, fpr))


def rank_auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """`roc_auc` by the sum of ranks (Mann and Whitney), for training loops: scores that are not finite count as none, 0.

    Args:
        scores: (N,).
        positive: bool (N,), both classes there.
    """
    if not np.isfinite(scores).all():
        return 0.0
    ones, zeros = int(positive.sum()), int((~positive).sum())
    return float((rankdata(scores)[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def eer(distances: ArrayLike, different: ArrayLike) -> float:
    """Equal error rate: where impostors accepted (FAR) and genuine pairs rejected (FRR) are the same share, in [0, 1]; less is better.

    The ROC's corners are joined by straight lines, so a distance that is the same for all pairs has an EER of 0.5.
    Arguments and errors as for `roc_auc`.
    """
    distances, different = checked(distances, different)
    far, tar, _ = roc_curve(~different, -distances, drop_intermediate=False)
    gap = far - (1 - tar)  # from -1 (nobody accepted) to 1 (everybody)
    after = int(np.argmax(gap >= 0))
    before = max(after - 1, 0)
    step = gap[after] - gap[before]
    share = -gap[before] / step if step > 0 else 0.0
    return float(far[before] + share * (far[after] - far[before]))


def tar_at_far(distances: ArrayLike, different: ArrayLike, far: float) -> float:
    """Share of the genuine pairs accepted (TAR) at the loosest threshold that accepts at most `far` of the impostor pairs.

    No interpolation: it is a threshold one could use. With fewer than 1/far impostor pairs none of them may be accepted, and the
    figure is then a lower bound. Arguments and errors as for `roc_auc`; `far` is a share in (0, 1).
    """
    if not 0 < far < 1:
        raise UserError(f"FAR must be a share between 0 and 1, not {far!r}.")
    distances, different = checked(distances, different)
    accepted, tar, _ = roc_curve(~different, -distances, drop_intermediate=False)
    return float(tar[accepted <= far * (1 + 1e-9)].max())  # the margin is for rounding in the curve's cumulative sums


def fnmr_at_fmr(distances: ArrayLike, different: ArrayLike, fmr: float) -> float:
    """Share of the genuine pairs rejected (FNMR) at the loosest threshold that accepts at most `fmr` of the impostor pairs.

    It is 1 - `tar_at_far`; arguments and errors as there.
    """
    return 1 - tar_at_far(distances, different, fmr)


MIN_ACCEPTED = 30
"""Impostor pairs that must be accepted at a rate before an error rate there is reported."""


def carried(fmr: float, impostors: int) -> bool:
    """Whether so many impostor pairs carry this FMR: at least `MIN_ACCEPTED` of them would be accepted.

    Doddington's rule of 30, as ISO/IEC 19795-1 has it: after 30 errors the true rate lies within 30 % of the measured one, with 90 %
    confidence and independent trials. Pairs of the same people are not independent, so it is the least one may ask for.
    """
    return round(fmr * impostors, 6) >= MIN_ACCEPTED  # 0.001 * 30000 is 30 but for rounding


def best_threshold(scores: ArrayLike, positive: ArrayLike, balanced: bool = False) -> float:
    """The threshold t for which "positive where score > t" is most accurate; choose it on val and apply it to test.

    It lies midway between two neighbouring scores; of several that are equally good the middle one is taken.

    Args:
        scores, positive: as for `roc_auc`.
        balanced: maximise the mean of both classes' accuracies instead.
    """
    scores, positive = checked(scores, positive)
    weights = np.where(positive, 1 / positive.sum(), 1 / (~positive).sum()) if balanced else np.ones(len(scores))
    values, group = np.unique(scores, return_inverse=True)
    below_positive = np.concatenate([[0.0], np.cumsum(np.bincount(group, weights * positive))])  # lost when t is above them
    below_negative = np.concatenate([[0.0], np.cumsum(np.bincount(group, weights * ~positive))])  # won when t is above them
    won = below_negative - below_positive  # up to a constant, for t below all values, between neighbours, above all
    best = np.flatnonzero(won >= won.max() - 1e-12 * len(scores))
    borders = [np.nextafter(values[:1], -np.inf), values[:-1] + np.diff(values) / 2, values[-1:]]
    return float(np.concatenate(borders)[best[len(best) // 2]])


def accuracy(scores: ArrayLike, positive: ArrayLike, threshold: float, balanced: bool = False) -> float:
    """Share of the rows for which "score > threshold" equals `positive`; `balanced` takes the mean of both classes' shares."""
    scores, positive = checked(scores, positive)
    guess = scores > threshold
    return float(balanced_accuracy_score(positive, guess) if balanced else (guess == positive).mean())


def checked(scores: ArrayLike, positive: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Scores as float64 (N,) and classes as bool (N,). UserError where they differ in length, are not finite, or of one class only."""
    scores, positive = np.asarray(scores, dtype=np.float64), np.asarray(positive).astype(bool)
    if scores.ndim != 1 or scores.shape != positive.shape:
        raise UserError(f"Scores and classes must be of one length, not of shapes {scores.shape} and {positive.shape}.")
    if not np.isfinite(scores).all():
        raise UserError(f"{(~np.isfinite(scores)).sum()} of {len(scores)} scores are NaN or infinite.")
    if positive.all() or not positive.any():
        raise UserError(f"All {len(positive)} rows are of one class: there is nothing to tell apart.")
    return scores, positive


@dataclass(frozen=True)
class Scored:
    """Scores with their truth and the people they are of: what a bootstrap over people needs.

    Attributes:
        scores: higher speaks for positive, float (N,).
        positive: bool (N,).
        people: the person's code, int (N,); for pairs both people's codes, (N, 2).
    """

    scores: np.ndarray
    positive: np.ndarray
    people: np.ndarray

    @property
    def auc(self) -> float:
        """`roc_auc` of these scores."""
        return roc_auc(self.scores, self.positive)


def bootstrap_auc(measurements: Sequence[Scored], resamples: int = 1000, seed: int = 0, everybody: np.ndarray | None = None) -> np.ndarray:
    """The mean AUC of `measurements` in each bootstrap resample of the people, shape (resamples,).

    Images of one person are not independent, so whole people are drawn with replacement, the same draw for all measurements.
    An image counts as often as its person was drawn, a genuine pair likewise, an impostor pair as often as the product of
    its two people's draws (Owen's pigeonhole bootstrap). Each draw sorts nothing: scores are sorted once, and the AUC of a resample is a
    cumulative sum of its weights. A resample in which a class is missing gives NaN.

    `everybody` are the codes of all people to draw from, (P,), repeats do not matter; None takes those of the measurements.
    """
    return _bootstrap(measurements, _auc_of, resamples, seed, everybody)


def bootstrap_fnmr(measurements: Sequence[Scored], fmrs: Sequence[float], resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """The mean FNMR of `measurements` at each of `fmrs` in each bootstrap resample of the people, shape (resamples, len(fmrs)).

    `measurements` are distances of pairs, impostors positive, people (N, 2). People are drawn as for `bootstrap_auc`; each resample has
    its own threshold for each rate, as `fnmr_at_fmr` chooses it.
    """
    return _bootstrap(measurements, lambda m, codes: _fnmr_of(m, codes, fmrs), resamples, seed)


def det_points(measurements: Sequence[Scored], points: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """The detection error tradeoff, FMR (points,) and the mean FNMR of `measurements` (points,), evenly spaced in probits of FMR.

    From the least rate that the impostor pairs carry, see `carried`, up to one half.

    Raises:
        UserError: the impostor pairs carry no rate up to one half.
    """
    impostors = min(int(np.sum(m.positive)) for m in measurements)
    if impostors < 2 * MIN_ACCEPTED:
        raise UserError(f"A DET curve needs at least {2 * MIN_ACCEPTED} impostor pairs, not {impostors}. Load more people.")
    fmr = norm.cdf(np.linspace(norm.ppf(MIN_ACCEPTED / impostors), 0, points))
    once = [_fnmr_of(m, codes, fmr)(np.ones((1, len(codes))))[0] for m in measurements for codes in [np.unique(m.people)]]
    return fmr, np.mean(once, axis=0)


def _bootstrap(
    measurements: Sequence[Scored], figure: Callable, resamples: int, seed: int, everybody: np.ndarray | None = None
) -> np.ndarray:
    """The mean over `measurements` of a figure in each resample; `figure(m, codes)` gives a function of draws (b, P), (b,) or (b, F)."""
    codes = np.unique(np.concatenate([m.people.ravel() for m in measurements]) if everybody is None else everybody)
    rng = np.random.default_rng(seed)
    functions = [figure(m, codes) for m in measurements]
    step = max(1, _CHUNK // max(len(codes), *(len(m.scores) for m in measurements)))
    total = []
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        draws = np.stack([np.bincount(rng.integers(len(codes), size=len(codes)), minlength=len(codes)) for _ in range(size)])  # (b, P)
        total.append(sum(function(draws) for function in functions))
    return np.concatenate(total) / len(measurements)


def paired_draws(*groups: Sequence[Scored], resamples: int = 1000, seed: int = 0) -> list[np.ndarray]:
    """`bootstrap_auc` of several groups of measurements, each (resamples,), with the same people drawn for all of them.

    So their differences are *paired*: what is due to who was drawn falls on all groups alike, and of a difference only what the groups
    do not share scatters. Intervals of each by itself hold that common part too; where they overlap, a difference may still be certain.
    """
    everybody = np.concatenate([m.people.ravel() for group in groups for m in group])
    return [bootstrap_auc(group, resamples, seed, everybody) for group in groups]


def _weights(draws: np.ndarray, people: np.ndarray) -> np.ndarray:
    """How often each row counts in each draw, float64 (b, N), from the positions (N, 1) or (N, 2) of its people in `draws` (b, P)."""
    weights = draws[:, people[:, 0]].astype(np.float64)
    if people.shape[1] == 2:  # a genuine pair's two people are one: it counts once, not squared
        weights *= np.where(people[:, 0] == people[:, 1], 1, draws[:, people[:, 1]])
    return weights


def _sorted(m: Scored, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores (N,) in rising order, whether positive (N,), and the positions of their people in `codes`, (N, 1) or (N, 2)."""
    order = np.argsort(m.scores, kind="stable")
    people = np.searchsorted(codes, m.people[order]).reshape(len(order), -1)
    return np.asarray(m.scores)[order], np.asarray(m.positive, dtype=bool)[order], people


def _running(weights: np.ndarray) -> np.ndarray:
    """Cumulative sums of (b, N) along the rows, beginning with 0: (b, N + 1)."""
    sums = np.zeros((len(weights), weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


def _auc_of(m: Scored, codes: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    scores, positive, people = _sorted(m, codes)
    chosen = np.flatnonzero(positive)
    below = np.searchsorted(scores, scores[chosen], side="left")  # rows with a lower score
    up_to = np.searchsorted(scores, scores[chosen], side="right")  # ... and with the same

    def auc(draws: np.ndarray) -> np.ndarray:
        weights = _weights(draws, people)  # (b, N)
        negatives = _running(np.where(positive, 0, weights))
        won = weights[:, chosen]
        beaten = (won * (negatives[:, below] + negatives[:, up_to])).sum(1) / 2
        with np.errstate(invalid="ignore"):
            return beaten / (won.sum(1) * negatives[:, -1])

    return auc


def _fnmr_of(m: Scored, codes: np.ndarray, fmrs: Sequence[float]) -> Callable[[np.ndarray], np.ndarray]:
    scores, positive, people = _sorted(m, codes)
    impostors = people[positive]
    # Genuine pairs nearer than each impostor pair: so many are accepted where that impostor pair is the first to be refused.
    nearer = np.searchsorted(scores[~positive], scores[positive], side="left")  # (I,)
    pairs = coo_matrix((np.ones(len(impostors)), impostors.T), shape=(len(codes), len(codes))).tocsr()
    few = min(len(nearer), 100 + int(3 * max(fmrs) * len(nearer)))  # the nearest ones decide: three times as many as are accepted

    def fnmr(draws: np.ndarray) -> np.ndarray:
        most = ((pairs @ draws.T) * draws.T).sum(0)[:, None] * np.asarray(fmrs) * (1 + 1e-9)  # (b, F) impostors that may be accepted
        for looked_at in (few, len(nearer)):
            accepted = np.cumsum(_weights(draws, impostors[:looked_at]), axis=1)  # up to the distance of each
            if (accepted[:, -1] > most.max(1)).all():
                break
        first = np.stack([(accepted <= limit[:, None]).sum(1) for limit in most.T], axis=1).clip(max=len(nearer) - 1)  # (b, F)
        genuine = _running(_weights(draws, people[~positive]))
        with np.errstate(invalid="ignore"):
            share = np.take_along_axis(genuine, nearer[first], axis=1) / genuine[:, -1:]
        return np.where(most > 0, 1 - share, np.nan)

    return fnmr


def interval(measurements: Sequence[Scored], resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """95 % percentile interval of the mean AUC of `measurements` under `bootstrap_auc`.

    It holds for other people seen by the same attacker or verifier; that these were trained on other people is in the spread over seeds.

    Raises:
        UserError: a class rests on fewer than `MIN_PEOPLE` people.
    """
    for m in measurements:
        for value, name in ((True, "positive"), (False, "negative")):
            people = len(np.unique(m.people[np.asarray(m.positive, dtype=bool) == value]))
            if people < MIN_PEOPLE:
                raise UserError(f"Too few people for an interval: {people} in the {name} class, {MIN_PEOPLE} are needed. Load more people.")
    return limits(bootstrap_auc(measurements, resamples, seed))


def limits(draws: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile interval of bootstrap draws (R,); those that are NaN, for want of anybody of a group, do not count."""
    low, high = np.nanquantile(draws, [(1 - 0.95) / 2, 0.975])  # as the recorded intervals were rounded
    return float(low), float(high)


def rate_draws(values: ArrayLike, people: np.ndarray, everybody: np.ndarray, resamples: int) -> np.ndarray:
    """The mean of `values` in each bootstrap resample of the people, (resamples,); the same people are drawn for the same `everybody`.

    Args:
        values: of each row, shape (N,).
        people: codes of the row's person (N,), or of a pair's two (N, 2): a pair counts as often as both were drawn, and one person's pair
            as often as that person.
        everybody: codes of all people to draw from; repeats do not matter.
    """
    values = np.asarray(values, dtype=np.float64)
    codes = np.unique(everybody)
    draws = np.random.default_rng(0).multinomial(len(codes), np.full(len(codes), 1 / len(codes)), size=resamples)  # (R, P)
    person = np.searchsorted(codes, people)
    with np.errstate(invalid="ignore"):
        if person.ndim == 1:
            sums, counts = np.bincount(person, values, minlength=len(codes)), np.bincount(person, minlength=len(codes))
            return (draws @ sums) / (draws @ counts)
        one = person[:, 0] == person[:, 1]
        blocks = (draws[start : start + 100] for start in range(0, resamples, 100))
        weights = (block[:, person[:, 0]] * np.where(one, 1, block[:, person[:, 1]]) for block in blocks)  # (100, N) each
        return np.concatenate([(w @ values) / w.sum(1) for w in weights])


def mean_limits(values: Sequence[np.ndarray], people: Sequence[np.ndarray], resamples: int) -> list[float]:
    """95 % interval of the mean over rows, then over seeds, by a bootstrap over people: values (N,) and people (N,) of each seed."""
    everybody = np.concatenate(people)  # in other folds there are other people, and who is in two of them is drawn once
    return list(limits(sum(rate_draws(v, codes, everybody, resamples) for v, codes in zip(values, people, strict=True)) / len(values)))
