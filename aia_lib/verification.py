"""Verification: do two images show one person? Distances to AUC, EER, TAR@FAR and accuracy, their intervals, and the fresh verifier.

One convention everywhere: a *score* is higher for what is called positive. For verification the score is the distance of two embeddings
and positive are the impostor pairs (`different` = 1, as in Eq. 7), so `roc_auc(distances, different)` is the verification AUC.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, roc_curve
from sklearn.utils.extmath import randomized_svd

from .faces import Pairs
from .files import UserError
from .losses import contrastive_loss
from .models import SiameseNetwork
from .training import adam, pick_device, seeded

MIN_PEOPLE = 10
"""People of each label that an interval needs. With fewer, resampling people says little about people who were not drawn."""

_CHUNK = 4_000_000
"""Weights that the bootstrap holds at a time; five arrays of this size are alive, 160 MB."""


# Figures --------------------------------------------------------------------------------------------------------------


def roc_auc(scores: ArrayLike, positive: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting one half.

    Args:
        scores: higher speaks for positive, shape (N,).
        positive: 1 or True where positive, shape (N,).
        weights: how often each row counts, shape (N,); None counts each once.

    Raises:
        UserError: only one class is there.
    """
    scores, positive, weights = _checked(scores, positive, weights)
    return float(roc_auc_score(positive, scores, sample_weight=weights))


def eer(distances: ArrayLike, different: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Equal error rate: where impostors accepted (FAR) and genuine pairs rejected (FRR) are the same share, in [0, 1]; less is better.

    The ROC's corners are joined by straight lines, so a distance that is the same for all pairs has an EER of 0.5.
    Arguments and errors as for `roc_auc`.
    """
    distances, different, weights = _checked(distances, different, weights)
    far, tar, _ = roc_curve(~different, -distances, sample_weight=weights, drop_intermediate=False)
    gap = far - (1 - tar)  # from -1 (nobody accepted) to 1 (everybody)
    after = int(np.argmax(gap >= 0))
    before = max(after - 1, 0)
    step = gap[after] - gap[before]
    share = -gap[before] / step if step > 0 else 0.0
    return float(far[before] + share * (far[after] - far[before]))


def tar_at_far(distances: ArrayLike, different: ArrayLike, far: float, weights: ArrayLike | None = None) -> float:
    """Share of the genuine pairs accepted (TAR) at the loosest threshold that accepts at most `far` of the impostor pairs.

    No interpolation: it is a threshold one could use. With fewer than 1/far impostor pairs none of them may be accepted, and the
    figure is then a lower bound. Arguments and errors as for `roc_auc`; `far` is a share in (0, 1).
    """
    if not 0 < far < 1:
        raise UserError(f"FAR must be a share between 0 and 1, not {far!r}.")
    distances, different, weights = _checked(distances, different, weights)
    accepted, tar, _ = roc_curve(~different, -distances, sample_weight=weights, drop_intermediate=False)
    return float(tar[accepted <= far * (1 + 1e-9)].max())  # the margin is for rounding in the curve's cumulative sums


def best_threshold(scores: ArrayLike, positive: ArrayLike, balanced: bool = False) -> float:
    """The threshold t for which "positive where score > t" is most accurate; choose it on val and apply it to test.

    It lies midway between two neighbouring scores; of several that are equally good the middle one is taken.

    Args:
        scores, positive: as for `roc_auc`.
        balanced: maximise the mean of both classes' accuracies instead.
    """
    scores, positive, _ = _checked(scores, positive, None)
    weights = np.where(positive, 1 / positive.sum(), 1 / (~positive).sum()) if balanced else np.ones(len(scores))
    values, group = np.unique(scores, return_inverse=True)
    below_positive = np.concatenate([[0.0], np.cumsum(np.bincount(group, weights * positive))])  # lost when t is above them
    below_negative = np.concatenate([[0.0], np.cumsum(np.bincount(group, weights * ~positive))])  # won when t is above them
    won = below_negative - below_positive  # up to a constant, for t below all values, between neighbours, above all
    best = np.flatnonzero(won >= won.max() - 1e-12 * len(scores))
    i = int(best[len(best) // 2])
    if i == 0:
        return float(np.nextafter(values[0], -np.inf))
    return float(values[-1]) if i == len(values) else float(values[i - 1] + (values[i] - values[i - 1]) / 2)


def accuracy(scores: ArrayLike, positive: ArrayLike, threshold: float, balanced: bool = False) -> float:
    """Share of the rows for which "score > threshold" equals `positive`; `balanced` takes the mean of both classes' shares."""
    scores, positive, _ = _checked(scores, positive, None)
    guess = scores > threshold
    return float(balanced_accuracy_score(positive, guess) if balanced else (guess == positive).mean())


def _checked(scores: ArrayLike, positive: ArrayLike, weights: ArrayLike | None) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    scores, positive = np.asarray(scores, dtype=np.float64), np.asarray(positive).astype(bool)
    weights = None if weights is None else np.asarray(weights, dtype=np.float64)
    if scores.ndim != 1 or scores.shape != positive.shape or (weights is not None and weights.shape != scores.shape):
        raise UserError(f"Scores, classes and weights must be of one length, not of shapes {scores.shape} and {positive.shape}.")
    if not np.isfinite(scores).all():
        raise UserError(f"{(~np.isfinite(scores)).sum()} of {len(scores)} scores are NaN or infinite.")
    if positive.all() or not positive.any():
        raise UserError(f"All {len(positive)} rows are of one class: there is nothing to tell apart.")
    return scores, positive, weights


# Intervals ------------------------------------------------------------------------------------------------------------


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


def bootstrap_auc(measurements: Sequence[Scored], resamples: int = 1000, seed: int = 0) -> np.ndarray:
    """The mean AUC of `measurements` in each bootstrap resample of the people, shape (resamples,).

    Images of one person are not independent, so whole people are drawn with replacement, the same draw for all measurements.
    An image counts as often as its person was drawn, a genuine pair likewise, an impostor pair as often as the product of
    its two people's draws (Owen's pigeonhole bootstrap). Each draw sorts nothing: scores are sorted once, and the AUC of a resample is a
    cumulative sum of its weights. A resample in which a class is missing gives NaN.
    """
    codes = np.unique(np.concatenate([m.people.ravel() for m in measurements]))
    rng = np.random.default_rng(seed)
    total = np.zeros(resamples)
    prepared = [_prepare(m, codes) for m in measurements]
    step = max(1, _CHUNK // max(len(codes), *(len(m.scores) for m in measurements)))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        draws = np.stack([np.bincount(rng.integers(len(codes), size=len(codes)), minlength=len(codes)) for _ in range(size)])  # (b, P)
        total[start : start + size] = sum(_weighted_auc(draws, *item) for item in prepared)
    return total / len(measurements)


def _prepare(m: Scored, codes: np.ndarray) -> tuple[np.ndarray, ...]:
    order = np.argsort(m.scores, kind="stable")
    scores, positive = np.asarray(m.scores)[order], np.asarray(m.positive, dtype=bool)[order]
    people = np.searchsorted(codes, m.people[order])
    if people.ndim == 1:
        people = people[:, None]
    chosen = np.flatnonzero(positive)
    below = np.searchsorted(scores, scores[chosen], side="left")  # rows with a lower score
    up_to = np.searchsorted(scores, scores[chosen], side="right")  # ... and with the same
    return positive, people, chosen, below, up_to


def _weighted_auc(
    draws: np.ndarray, positive: np.ndarray, people: np.ndarray, chosen: np.ndarray, below: np.ndarray, up_to: np.ndarray
) -> np.ndarray:
    """AUCs (b,) of rows sorted by score, one for each row of `draws` (b, P)."""
    weights = draws[:, people[:, 0]].astype(np.float64)  # (b, N)
    if people.shape[1] == 2:  # a genuine pair's two people are one: it counts once, not squared
        weights *= np.where(people[:, 0] == people[:, 1], 1, draws[:, people[:, 1]])
    negatives = np.zeros((len(draws), len(positive) + 1))
    np.cumsum(np.where(positive, 0, weights), axis=1, out=negatives[:, 1:])
    own = weights[:, chosen]
    beaten = (own * (negatives[:, below] + negatives[:, up_to])).sum(1) / 2
    with np.errstate(invalid="ignore"):
        return beaten / (own.sum(1) * negatives[:, -1])


def interval(measurements: Sequence[Scored], resamples: int = 1000, seed: int = 0, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of the mean AUC of `measurements` under `bootstrap_auc`.

    It holds for other people seen by the same attacker or verifier; that these were trained on other people is in the spread over seeds.

    Raises:
        UserError: a class rests on fewer than `MIN_PEOPLE` people.
    """
    for m in measurements:
        for value, name in ((True, "positive"), (False, "negative")):
            people = len(np.unique(m.people[np.asarray(m.positive, dtype=bool) == value]))
            if people < MIN_PEOPLE:
                raise UserError(f"Too few people for an interval: {people} in the {name} class, {MIN_PEOPLE} are needed. Load more people.")
    aucs = bootstrap_auc(measurements, resamples, seed)
    return limits(aucs, level)


def limits(draws: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of bootstrap draws (R,); those that are NaN, for want of anybody of a group, do not count."""
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


# The fresh verifier ---------------------------------------------------------------------------------------------------


class Verifier(Protocol):
    """Features to embeddings whose Euclidean distance tells people apart."""

    def embed(self, features: np.ndarray) -> np.ndarray:
        """Features float32 (N, k) to embeddings float32 (N, d)."""
        ...


@dataclass(frozen=True)
class FittedVerifier:
    """The verifier that was best on val.

    Attributes:
        name: "lda" or "siamese".
        verifier: it.
        val_auc: mean of its AUCs on val, over free and same-attribute impostors.
        candidates: the same figure of each kind that was tried.
        failed: kinds that broke down, with the reason.
    """

    name: str
    verifier: Verifier
    val_auc: float
    candidates: dict[str, float]
    failed: dict[str, str] = field(default_factory=dict)

    def embed(self, features: np.ndarray) -> np.ndarray:
        """Features float32 (N, k) to embeddings float32 (N, d)."""
        return self.verifier.embed(features)


def pair_distances(embeddings: np.ndarray, pairs: Pairs) -> np.ndarray:
    """Euclidean distance of the two embeddings of each pair, float64 (M,)."""
    return np.concatenate(
        [
            np.linalg.norm(embeddings[a].astype(np.float64) - embeddings[b], axis=1)
            for a, b in zip(_blocks(pairs.a, 8192), _blocks(pairs.b, 8192), strict=True)
        ]
    )


class LDAVerifier:
    """A closed-form metric: linear discriminant analysis on principal components, then the cosine.

    The components are whitened, so their total covariance is I. With the within-person covariance W = Q diag(w) Q^T the
    between-person variance along q_i is b_i = 1 - w_i, and direction i is weighted by (b_i / w_i)^1/2, its ratio of signal to
    noise. Embeddings have length 1: Euclidean distance and cosine order pairs alike. On few images of many people this
    beats the paper's network clearly.

    Args:
        mean, basis: of the principal components: scores are (features - mean) @ basis.T, shapes (k,) and (d, k).
        scales: standard deviation of each score, shape (d,).
        scores: those of the images to fit on, shape (N, d).
        identity: their people, shape (N,).
        repeats: how many rows show one and the same image (2 with mirror images); W rests on people with more rows than these.
        dimensions: how many components to use.
    """

    SHRINKAGE = 0.02

    def __init__(
        self,
        mean: np.ndarray,
        basis: np.ndarray,
        scales: np.ndarray,
        scores: np.ndarray,
        identity: np.ndarray,
        repeats: int,
        dimensions: int,
    ) -> None:
        white = (scores[:, :dimensions] / scales[:dimensions]).astype(np.float64)  # (N, d)
        _, person, count = np.unique(identity, return_inverse=True, return_counts=True)
        means = np.zeros((len(count), dimensions))
        np.add.at(means, person, white)
        residual = white - (means / count[:, None])[person]
        images = count[person] / repeats
        several = images > 1
        residual = residual[several] * np.sqrt(images[several] / (images[several] - 1))[:, None]  # a mean of n images hides 1/n
        within = residual.T @ residual / max(1, len(residual))  # (d, d)
        within = (1 - self.SHRINKAGE) * within + self.SHRINKAGE * np.trace(within) / dimensions * np.eye(dimensions)
        w, directions = np.linalg.eigh(within)
        w = w.clip(1e-3)
        signal = np.sqrt((1 - w).clip(1e-3) / w)
        self.mean = mean
        self.projection = ((basis[:dimensions].T / scales[:dimensions]) @ (directions * signal)).astype(np.float32)  # (k, d)

    def embed(self, features: np.ndarray) -> np.ndarray:
        z = np.concatenate([(block - self.mean) @ self.projection for block in _blocks(features, 4096)])  # (N, d)
        return z / np.linalg.norm(z, axis=1, keepdims=True).clip(1e-12)


class SiameseVerifier:
    """The paper's Siamese network and contrastive loss (Eq. 7), trained afresh by Adam."""

    def __init__(self, network: SiameseNetwork, device: torch.device) -> None:
        self.network, self.device = network, device

    def embed(self, features: np.ndarray) -> np.ndarray:
        self.network.eval()
        with torch.no_grad():
            return np.concatenate([self.network(torch.from_numpy(b).to(self.device)).float().cpu().numpy() for b in _blocks(features, 512)])


def fit_verifier(
    features: np.ndarray,
    identity: np.ndarray,
    val_features: np.ndarray,
    val_pairs: Sequence[Pairs],
    *,
    map_shape: tuple[int, int, int] | None = None,
    repeats: int = 1,
    epochs: int = 20,
    seed: int = 0,
    kinds: Sequence[str] = ("lda", "siamese"),
    principal: tuple[np.ndarray, np.ndarray] | None = None,
) -> FittedVerifier:
    """Train a verifier on people it will not be tested on, and keep the kind that does best on val.

    Args:
        features: standardised representations, float32 (N, k).
        identity: their people, int (N,).
        val_features: float32 (V, k).
        val_pairs: sets of pairs of rows of `val_features`; the mean AUC over the sets decides.
        map_shape: the map that features flatten, or None: the Siamese network then skips its convolutions.
        repeats: how many rows show one and the same image, see `LDAVerifier`.
        epochs: of the Siamese network, at most; it stops when val no longer improves.
        seed: of its weights and pairs.
        kinds: what to try: "lda", "siamese".
        principal: mean (k,) and basis (d, k) of the features' principal components where they are known already.

    Raises:
        UserError: nobody has two images, or all kinds broke down.
    """
    _, counts = np.unique(identity, return_counts=True)
    if counts.max(initial=0) <= repeats:
        raise UserError("A verifier cannot be trained: nobody in the attack split has two images. Load more images a person.")

    def judge(verifier: Verifier) -> float:
        embeddings = verifier.embed(val_features)
        return float(np.mean([roc_auc(pair_distances(embeddings, pairs), pairs.different) for pairs in val_pairs]))

    makers: dict[str, Callable[[], tuple[float, Verifier]]] = {
        "lda": lambda: _fit_lda(features, identity, judge, repeats, principal),
        "siamese": lambda: _fit_siamese(features, identity, judge, map_shape, repeats, epochs, seed),
    }
    fitted: dict[str, tuple[float, Verifier]] = {}
    failed: dict[str, str] = {}
    for kind in kinds:
        try:
            fitted[kind] = makers[kind]()
        except Exception as error:  # one kind that breaks down on unusual features must not cost the audit
            failed[kind] = one_line(error)
    if not fitted:
        raise UserError("No verifier could be trained on this representation: " + "; ".join(f"{k}: {v}" for k, v in failed.items()))
    best = max(fitted, key=lambda kind: fitted[kind][0])
    return FittedVerifier(best, fitted[best][1], fitted[best][0], {kind: auc for kind, (auc, _) in fitted.items()}, failed)


def one_line(error: BaseException) -> str:
    """An exception as one line: its type and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__


def principal_components(features: np.ndarray, count: int = 256, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Mean (k,) and the first `count` principal directions (d, k) of the rows of `features` (N, k), d <= count; randomised SVD."""
    mean = features.mean(0)
    count = min(count, *features.shape)
    _, values, basis = randomized_svd(features - mean, count, random_state=seed)
    return mean, basis[values > 1e-6 * max(values.max(initial=0.0), 1e-12)]


def _fit_lda(
    features: np.ndarray,
    identity: np.ndarray,
    judge: Callable[[Verifier], float],
    repeats: int,
    principal: tuple[np.ndarray, np.ndarray] | None,
) -> tuple[float, Verifier]:
    mean, basis = principal or principal_components(features)
    scores = (features - mean) @ basis.T
    scales = scores.std(0)
    # Half as many dimensions as people with several images at most: the within-person covariance has to be estimated.
    _, counts = np.unique(identity, return_counts=True)
    most = max(2, min(len(basis), int((counts // repeats - 1).sum()) // 2))
    tried = sorted({min(d, most, len(basis)) for d in (16, 50, 100, 150, 200, 256)})
    fits = [LDAVerifier(mean, basis, scales, scores, identity, repeats, d) for d in tried]
    return max(((judge(fit), fit) for fit in fits), key=lambda item: item[0])


def _fit_siamese(
    features: np.ndarray,
    identity: np.ndarray,
    judge: Callable[[Verifier], float],
    map_shape: tuple[int, int, int] | None,
    repeats: int,
    epochs: int,
    seed: int,
    batch_size: int = 64,
) -> tuple[float, Verifier]:
    device = pick_device()
    rng = np.random.default_rng(seed)
    with seeded(seed, "fresh siamese"):
        network = SiameseNetwork(map_shape or (features.shape[1],)).to(device)
    optimizer = adam(network.parameters(), 1e-3, device)
    verifier = SiameseVerifier(network, device)
    inputs = torch.from_numpy(features).to(device)
    draw = _PairSampler(identity, repeats)
    pairs = max(2, len(features) // repeats // 2)  # an epoch shows as many images as there are
    best, state, since = -1.0, None, 0
    epochs = max(epochs, -(-100 * batch_size // pairs))  # few images: a hundred steps all the same
    for _ in range(epochs):
        network.train()
        a, b, different = draw(pairs, rng)
        for rows_a, rows_b, target in zip(_blocks(a, batch_size), _blocks(b, batch_size), _blocks(different, batch_size), strict=True):
            z_a, z_b = network(inputs[np.concatenate([rows_a, rows_b])]).chunk(2)
            loss = contrastive_loss(z_a, z_b, torch.from_numpy(target).to(device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        auc = judge(verifier)
        if auc > best:
            best, since = auc, 0
            state = {key: value.detach().clone() for key, value in network.state_dict().items()}
        else:
            since += 1
            if since > max(3, epochs // 4):
                break
    network.load_state_dict(state)
    return best, verifier


class _PairSampler:
    """Training pairs, half genuine and half impostors, drawn anew each epoch; a mirror image is never paired with its original."""

    def __init__(self, identity: np.ndarray, repeats: int) -> None:
        self.identity = identity
        self.order = np.argsort(identity, kind="stable")
        _, self.start, self.count = np.unique(identity[self.order], return_index=True, return_counts=True)
        self.images = len(identity) // repeats  # row i and row i + images show the same image
        self.several = np.flatnonzero(self.count > repeats)

    def __call__(self, pairs: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        share = self.count[self.several] / self.count[self.several].sum()
        person = rng.choice(self.several, pairs // 2, p=share)
        a, b = (self.order[self.start[person] + rng.integers(self.count[person])] for _ in range(2))
        genuine = np.stack([a, b])[:, a % self.images != b % self.images]
        impostors = rng.integers(len(self.identity), size=(2, pairs - pairs // 2))
        impostors = impostors[:, self.identity[impostors[0]] != self.identity[impostors[1]]][:, : genuine.shape[1]]
        both = np.concatenate([genuine, impostors], axis=1)
        different = np.repeat(np.array([0, 1], dtype=np.float32), [genuine.shape[1], impostors.shape[1]])
        shuffled = rng.permutation(len(different))
        return both[0, shuffled], both[1, shuffled], different[shuffled]


def _blocks(rows: np.ndarray, size: int) -> Iterable[np.ndarray]:
    return (rows[start : start + size] for start in range(0, len(rows), size))
