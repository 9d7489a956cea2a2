"""Verification: do two images show one person? The fresh verifier, and the distances that the figures of `statistics` are made of.

One convention everywhere: a *score* is higher for what is called positive. For verification the score is the distance of two embeddings
and positive are the impostor pairs (`different` = 1, as in Eq. 7), so `roc_auc(distances, different)` is the verification AUC.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from sklearn.utils.extmath import randomized_svd

from .faces import Pairs
from .losses import contrastive_loss
from .machine.choices import best, choosing
from .machine.device import adam, pick_device, seeded
from .machine.files import UserError
from .machine.fit_best import fit_best
from .models import SiameseNetwork
from .statistics import roc_auc


def pair_distances(embeddings: np.ndarray, pairs: Pairs) -> np.ndarray:
    """Euclidean distance of the two embeddings of each pair, float64 (M,)."""
    return np.linalg.norm(embeddings[pairs.a].astype(np.float64) - embeddings[pairs.b], axis=1)


class Verifier:
    """What `fit_verifier` returns: `embed` takes features float32 (N, k) to embeddings (N, d) whose Euclidean distance tells people apart.

    Attributes:
        name: "lda" or "siamese".
        val_auc: mean of its AUCs on val, over the sets of pairs.
        candidates: the same figure of each kind that was tried.
    """

    name: str
    val_auc: float
    candidates: dict[str, float]
    embed: Callable[[np.ndarray], np.ndarray]


class LDAVerifier(Verifier):
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
        repeats: rows that show one and the same image (2 with mirror images); W rests on people with more rows than these.
        dimensions: how many components to use.
    """

    name = "lda"
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


class SiameseVerifier(Verifier):
    """The paper's Siamese network and contrastive loss (Eq. 7), trained afresh by Adam."""

    name = "siamese"

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
    min_steps: int = 100,
    seed: int = 0,
    kinds: Sequence[str] = ("lda", "siamese"),
    principal: tuple[np.ndarray, np.ndarray] | None = None,
) -> Verifier:
    """Train a verifier on people it will not be tested on, and keep the kind that does best on val.

    Args:
        features: standardised representations, float32 (N, k).
        identity: their people, int (N,).
        val_features: float32 (V, k).
        val_pairs: sets of pairs of rows of `val_features`; the mean AUC over the sets decides.
        map_shape: the map that features flatten, or None: the Siamese network then skips its convolutions.
        repeats: how many rows show one and the same image, see `LDAVerifier`.
        epochs: of the Siamese network, at most; it stops when val no longer improves.
        min_steps: steps that it may take even where so few images make more epochs of them.
        seed: of its weights and pairs.
        kinds: what to try: "lda", "siamese".
        principal: mean (k,) and basis (d, k) of the features' principal components where they are known already.

    Raises:
        UserError: nobody has two images.
    """
    _, counts = np.unique(identity, return_counts=True)
    if counts.max(initial=0) <= repeats:
        raise UserError("A verifier cannot be trained: nobody in the attack split has two images. Load more images a person.")

    def judge(verifier: Verifier) -> float:
        embeddings = verifier.embed(val_features)
        return float(np.mean([roc_auc(pair_distances(embeddings, pairs), pairs.different) for pairs in val_pairs]))

    makers = {
        "lda": lambda: _fit_lda(features, identity, judge, repeats, principal),
        "siamese": lambda: _fit_siamese(features, identity, judge, map_shape, repeats, epochs, min_steps, seed),
    }
    fitted: dict[str, Verifier] = {}
    for kind in kinds:
        with choosing(kind):
            fitted[kind] = makers[kind]()
    candidates = {kind: verifier.val_auc for kind, verifier in fitted.items()}
    chosen = fitted[best("verifier", candidates)]
    chosen.candidates = candidates
    return chosen


def principal_components(features: np.ndarray, count: int = 256, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Mean (k,) and the first `count` principal directions (d, k) of the rows of `features` (N, k), d <= count; randomised SVD."""
    mean = features.mean(0)
    count = min(count, *features.shape)
    _, values, basis = randomized_svd(features - mean, count, random_state=seed)
    return mean, basis[values > 1e-6 * max(values.max(initial=0.0), 1e-12)]


def _fit_lda(features: np.ndarray, identity: np.ndarray, judge: Callable, repeats: int, principal: tuple | None) -> LDAVerifier:
    mean, basis = principal or principal_components(features)
    scores = (features - mean) @ basis.T
    scales = scores.std(0)
    # Half as many dimensions as people with several images at most: the within-person covariance has to be estimated.
    _, counts = np.unique(identity, return_counts=True)
    most = max(2, min(len(basis), int((counts // repeats - 1).sum()) // 2))
    tried = sorted({min(d, most, len(basis)) for d in (16, 50, 100, 150, 200, 256)})
    fits = {d: LDAVerifier(mean, basis, scales, scores, identity, repeats, d) for d in tried}
    for fit in fits.values():
        fit.val_auc = judge(fit)
    return fits[best("dimensions", {d: fit.val_auc for d, fit in fits.items()})]


def _fit_siamese(
    features: np.ndarray,
    identity: np.ndarray,
    judge: Callable,
    map_shape: tuple | None,
    repeats: int,
    epochs: int,
    min_steps: int,
    seed: int,
) -> SiameseVerifier:
    device, rng, batch_size = pick_device(), np.random.default_rng(seed), 64
    with seeded(seed, "fresh siamese"):
        network = SiameseNetwork(map_shape or (features.shape[1],)).to(device)
    optimizer = adam(network.parameters(), 1e-3, device)
    verifier = SiameseVerifier(network, device)
    inputs = torch.from_numpy(features).to(device)
    pairs = max(2, len(features) // repeats // 2)  # an epoch shows as many images as there are
    epochs = max(epochs, -(-min_steps * batch_size // pairs))

    def learn(_: int) -> None:
        drawn = _draw_pairs(identity, repeats, pairs, rng)
        for rows_a, rows_b, target in zip(*(_blocks(part, batch_size) for part in drawn), strict=True):
            z_a, z_b = network(inputs[np.concatenate([rows_a, rows_b])]).chunk(2)
            loss = contrastive_loss(z_a, z_b, torch.from_numpy(target).to(device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    verifier.val_auc = fit_best(network, learn, lambda: judge(verifier), epochs, patience=max(3, epochs // 4))
    return verifier


def _draw_pairs(identity: np.ndarray, repeats: int, pairs: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training pairs, half genuine and half impostors; a mirror image is never paired with its original."""
    order = np.argsort(identity, kind="stable")
    _, start, count = np.unique(identity[order], return_index=True, return_counts=True)
    images = len(identity) // repeats  # row i and row i + images show the same image
    several = np.flatnonzero(count > repeats)
    person = rng.choice(several, pairs // 2, p=count[several] / count[several].sum())
    a, b = (order[start[person] + rng.integers(count[person])] for _ in range(2))
    genuine = np.stack([a, b])[:, a % images != b % images]
    impostors = rng.integers(len(identity), size=(2, pairs - pairs // 2))
    impostors = impostors[:, identity[impostors[0]] != identity[impostors[1]]][:, : genuine.shape[1]]
    both = np.concatenate([genuine, impostors], axis=1)
    different = np.repeat(np.array([0, 1], dtype=np.float32), [genuine.shape[1], impostors.shape[1]])
    shuffled = rng.permutation(len(different))
    return both[0, shuffled], both[1, shuffled], different[shuffled]


def _blocks(rows: np.ndarray, size: int) -> Iterable[np.ndarray]:
    return (rows[start : start + size] for start in range(0, len(rows), size))
