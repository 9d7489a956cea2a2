"""The fresh attackers: eight families of classifiers that try to read the private attribute off a representation.

An attacker is anything with `fit(train, val, seed)` and `score(data)`. All choices (regularisation, when to stop, how many neighbours) are
made by the AUC on val. An audit takes a reader's beside them: `audit(…, attackers=["mlp", RandomForestClassifier(99), nn.Linear(768, 1)])`.
A function that makes one from an `AuditConfig` takes part in every audit once it is in `ATTACKERS`::

    ATTACKERS["my_forest"] = lambda config: SklearnAttacker(RandomForestClassifier(300))
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC, LinearSVC
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from .config import AuditConfig
from .machine.choices import best
from .machine.device import autocast, pick_device, seeded
from .machine.fit_best import fit_best
from .models import CNNAdversary
from .statistics import rank_auc


@dataclass(frozen=True, eq=False)
class AttackSet:
    """What an attacker knows of N images, and their labels. Rows agree in all arrays.

    Attributes:
        g: the representation as released, float32 (N, k).
        features: g standardised, each feature by the attack split's mean and deviation, clipped to [-10, 10], float32 (N, k).
        components: principal component scores of `features`, float32 (N, d).
        labels: the private attribute, 0 or 1, int8 (N,).
        map_shape: the map (channels, height, width) that g flattens, or None.
        images: what the decoder makes of g, float32 (N, 1, h, w), or None.
        embeddings: the fresh verifier's embeddings of g, float32 (N, e), or None.
        repeats: how many rows show one and the same image (2: the second half of the rows are mirror images), or 1.
    """

    g: np.ndarray
    features: np.ndarray
    components: np.ndarray
    labels: np.ndarray
    map_shape: tuple[int, int, int] | None = None
    images: np.ndarray | None = None
    embeddings: np.ndarray | None = None
    repeats: int = 1

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: np.ndarray) -> AttackSet:
        """Only `rows` (a mask or row numbers). They must keep the halves of `repeats` together."""
        return replace(self, **{name: array[rows] for name, array in vars(self).items() if isinstance(array, np.ndarray)})

    def auc(self, scores: np.ndarray) -> float:
        """AUC of scores (N,) against the labels; on val it is the figure that every choice maximises."""
        return rank_auc(scores, self.labels == 1)


class Attacker(Protocol):
    """A family of attackers. A tuple `needs`, where it has one, names the fields of `AttackSet` without which it does not apply."""

    def fit(self, train: AttackSet, val: AttackSet, seed: int) -> None:
        """Train on `train`, choose on `val`; the same seed gives the same attacker on the CPU."""

    def score(self, data: AttackSet) -> np.ndarray:
        """One number an image, higher for label 1, float (N,)."""


class SklearnAttacker:
    """Any scikit-learn classifier as an attacker.

    Args:
        estimator: with `fit` and `decision_function` or `predict_proba`; cloned for each fit, `random_state` set to the seed.
        reads: the field of `AttackSet` that it reads.
    """

    def __init__(self, estimator: Any, reads: str = "features") -> None:
        self.estimator, self.reads = estimator, reads
        self.needs = (reads,)

    def fit(self, train: AttackSet, val: AttackSet, seed: int) -> None:
        self.fitted = clone(self.estimator)
        if "random_state" in self.fitted.get_params():
            self.fitted.set_params(random_state=seed)
        self.fitted.fit(getattr(train, self.reads).reshape(len(train), -1), train.labels)

    def score(self, data: AttackSet) -> np.ndarray:
        inputs = getattr(data, self.reads).reshape(len(data), -1)
        if hasattr(self.fitted, "decision_function"):
            return self.fitted.decision_function(inputs)
        return self.fitted.predict_proba(inputs)[:, 1]


class Logistic:
    """Logistic regression on all features, ridge penalty. Its strength is lowered as long as val gains from it."""

    STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)

    def fit(self, train: AttackSet, val: AttackSet, seed: int) -> None:
        model, x, y = LogisticRegression(max_iter=200, tol=1e-3, warm_start=True), train.features, train.labels
        with threadpool_limits(1):  # the solver multiplies one vector at a time: on two threads it takes twice as long
            # Each strength starts from the weights of the one before.
            self.model = _strongest(lambda c: copy.deepcopy(model.set_params(C=c).fit(x, y)), self.STRENGTHS, val, val.features)

    def score(self, data: AttackSet) -> np.ndarray:
        return self.model.decision_function(data.features)


class RBFSVM:
    """A support vector machine with Gaussian kernel, by Nyström's approximation with up to 1,000 landmarks.

    The kernel is exp(-d^2 / (2 m)) with m the median squared distance of two images; the penalty is chosen on val.
    """

    LANDMARKS = 1000
    STRENGTHS = (0.1, 1.0, 10.0, 100.0)

    def fit(self, train: AttackSet, val: AttackSet, seed: int) -> None:
        gamma = _median_gamma(train.features, np.random.default_rng(seed))
        self.kernel = Nystroem(gamma=gamma, n_components=min(self.LANDMARKS, len(train)), random_state=seed)
        inputs, val_inputs = self.kernel.fit_transform(train.features), self.kernel.transform(val.features)
        self.model = _strongest(lambda c: LinearSVC(C=c, dual=False, tol=1e-3).fit(inputs, train.labels), self.STRENGTHS, val, val_inputs)

    def score(self, data: AttackSet) -> np.ndarray:
        return self.model.decision_function(self.kernel.transform(data.features))


class Quadratic(Logistic):
    """Logistic regression on the first 32 principal components and their products: it reads what only the spread of directions tells."""

    COMPONENTS = 32
    needs = ("components",)

    def fit(self, train: AttackSet, val: AttackSet, seed: int) -> None:
        self.scale = train.components[:, : self.COMPONENTS].std(0).clip(1e-12)
        super().fit(self._products(train), self._products(val), seed)

    def score(self, data: AttackSet) -> np.ndarray:
        return super().score(self._products(data))

    def _products(self, data: AttackSet) -> AttackSet:
        z = data.components[:, : self.COMPONENTS] / self.scale
        i, j = np.triu_indices(z.shape[1])
        return replace(data, features=np.concatenate([z, z[:, i] * z[:, j]], axis=1))


class ExactSVM:
    """A support vector machine with Gaussian kernel, fitted exactly on the principal components; for up to some 10,000 rows.

    The kernel is that of `RBFSVM`; the penalty is chosen on val.
    """

    STRENGTHS = (1.0, 10.0)

    def fit(self, train: AttackSet, val: AttackSet, seed: int) -> None:
        gamma = _median_gamma(train.components, np.random.default_rng(seed))
        self.model = _strongest(
            lambda c: SVC(C=c, gamma=gamma, cache_size=1000).fit(train.components, train.labels), self.STRENGTHS, val, val.components
        )

    def score(self, data: AttackSet) -> np.ndarray:
        return self.model.decision_function(data.components)


def _median_gamma(features: np.ndarray, rng: np.random.Generator) -> float:
    """1 / (2 m) with m the median squared distance of two of up to 1,000 rows."""
    some = features[rng.choice(len(features), min(1000, len(features)), replace=False)].astype(np.float64)
    squares = (some**2).sum(1)
    distances = squares[:, None] + squares - 2 * some @ some.T
    return 0.5 / max(float(np.median(distances[np.triu_indices(len(some), 1)])), 1e-12)


def _strongest(with_strength: Callable[[float], Any], strengths: tuple[float, ...], val: AttackSet, val_inputs: np.ndarray) -> Any:
    """The model with the best AUC on val, from strong to weak regularisation, until it falls clearly."""
    models, figures = {}, {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # an early stop is one more regulariser, and val judges it
        for strength in strengths:
            models[strength] = with_strength(strength)
            figures[strength] = val.auc(models[strength].decision_function(val_inputs))
            if figures[strength] < max(figures.values()) - 0.003:
                break
    return models[best("strength C", figures)]


class Boosting:
    """Histogram gradient boosting on the first 100 principal components; the number of trees is chosen on val."""

    COMPONENTS = 100

    def fit(self, train: AttackSet, val: AttackSet, seed: int) -> None:
        settings = {"learning_rate": 0.1, "max_iter": 200, "max_leaf_nodes": 15, "l2_regularization": 1.0, "max_features": 0.3}
        self.model = HistGradientBoostingClassifier(**settings, early_stopping=False, random_state=seed)
        self.model.fit(train.components[:, : self.COMPONENTS], train.labels)
        self.trees = best("trees", {trees: val.auc(scores.ravel()) for trees, scores in enumerate(self._staged(val), start=1)})

    def score(self, data: AttackSet) -> np.ndarray:
        return next(scores for trees, scores in enumerate(self._staged(data), start=1) if trees == self.trees).ravel()

    def _staged(self, data: AttackSet) -> Iterator[np.ndarray]:
        return self.model.staged_decision_function(data.components[:, : self.COMPONENTS])


class GalleryKNN:
    """The gallery attack: the verifier itself finds the labelled faces most alike, and these vote (Osorio-Roig et al.).

    The nearest neighbour's vote counts most, the k-th's least, linearly in between; k is chosen on val.
    """

    needs = ("embeddings",)
    NEIGHBOURS = (1, 3, 5, 11, 21, 51, 101, 201)

    def fit(self, train: AttackSet, val: AttackSet, seed: int) -> None:
        self.gallery = train.embeddings
        self.labels = train.labels.astype(np.float64)
        tried = [k for k in self.NEIGHBOURS if k <= len(train)]
        nearest = self._nearest(val, tried[-1])
        self.k = best("neighbours", {k: val.auc(self._vote(nearest, k)) for k in tried})

    def score(self, data: AttackSet) -> np.ndarray:
        return self._vote(self._nearest(data, self.k), self.k)

    def _vote(self, nearest: np.ndarray, k: int) -> np.ndarray:
        weights = np.arange(k, 0, -1.0)
        return self.labels[nearest[:, :k]] @ (weights / weights.sum())

    def _nearest(self, data: AttackSet, k: int) -> np.ndarray:
        """Gallery rows by rising distance, (N, k)."""
        squares = (self.gallery**2).sum(1)
        rows = []
        for start in range(0, len(data), 512):
            distances = squares - 2 * data.embeddings[start : start + 512] @ self.gallery.T  # up to each image's own square
            some = np.argpartition(distances, k - 1, axis=1)[:, :k]
            order = np.take_along_axis(distances, some, axis=1).argsort(axis=1, kind="stable")
            rows.append(np.take_along_axis(some, order, axis=1))
        return np.concatenate(rows)


@dataclass(eq=False)
class TorchAttacker:
    """Any torch network with one logit an image as an attacker: AdamW, one-cycle learning rate, the epoch that is best on val.

    Args:
        make: builds the network from the training set; called under the seed.
        reads: the field of `AttackSet` that the network reads, as float32 (B, ...).
        epochs: at most; training stops when val has not improved for a third of them.
        learning_rate, weight_decay: of AdamW; the rate is the cycle's highest.
        min_steps: steps that the epochs must hold at least; with few images there are more epochs.
        needs: fields of `AttackSet` that `make` reads besides.
    """

    make: Callable[[AttackSet], nn.Module]
    reads: str = "features"
    epochs: int = 20
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    min_steps: int = AuditConfig.min_steps
    needs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.needs = (self.reads, *self.needs)

    def fit(self, train: AttackSet, val: AttackSet, seed: int) -> None:
        self.device = pick_device()
        with seeded(seed, "attacker"):  # initial weights, dropout
            self.network = self.make(train).to(self.device, memory_format=torch.channels_last)
            self._train(train, val, np.random.default_rng(seed))

    def _train(self, train: AttackSet, val: AttackSet, rng: np.random.Generator) -> None:
        network, images = self.network, len(train) // train.repeats
        batch_size = 64 if images < 20_000 else 256
        steps = max(1, images // batch_size)  # a batch that is not full is left to the next epoch: a batch norm needs company
        batch_size = min(batch_size, images)
        epochs = max(self.epochs, -(-self.min_steps // steps))
        optimizer = torch.optim.AdamW(
            network.parameters(), self.learning_rate, weight_decay=self.weight_decay, fused=self.device.type in ("cpu", "cuda") or None
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.learning_rate, total_steps=epochs * steps)
        inputs, labels = torch.from_numpy(getattr(train, self.reads)), torch.from_numpy(train.labels.astype(np.float32)).to(self.device)

        def learn(_: int) -> None:
            rows = rng.permutation(images) + images * rng.integers(train.repeats, size=images)  # each image once, mirrored or not
            for batch in torch.from_numpy(rows[: steps * batch_size]).split(batch_size):
                with autocast(self.device):
                    logits = network(inputs[batch].to(self.device))
                loss = F.binary_cross_entropy_with_logits(logits.float(), labels[batch.to(self.device)])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()

        fit_best(network, learn, lambda: val.auc(self.score(val)), epochs, patience=epochs // 3)

    def score(self, data: AttackSet) -> np.ndarray:
        self.network.eval()
        inputs = torch.from_numpy(getattr(data, self.reads))
        with torch.no_grad():  # in float32: bfloat16 would tie scores that differ by less than a hundredth
            return np.concatenate([self.network(block.to(self.device)).float().cpu().numpy() for block in inputs.split(512)])


def mlp(features: int, hidden: tuple[int, ...], dropout: float) -> nn.Sequential:
    """Features (N, k) to one logit a row (N,): linear, batch norm, ReLU and dropout for each hidden layer of so many units."""
    layers: list[nn.Module] = []
    for units in hidden:
        layers += [nn.Linear(features, units), nn.BatchNorm1d(units), nn.ReLU(), nn.Dropout(dropout)]
        features = units
    return nn.Sequential(*layers, nn.Linear(features, 1), nn.Flatten(0))


class StandardisedCNN(nn.Module):
    """`CNNAdversary` behind a standardisation of each channel of `inputs` (N, ...), each row a map of `shape` (channels, height, width).

    Unlike the standardisation of each feature it keeps the map's spatial contrast.
    """

    def __init__(self, inputs: np.ndarray, shape: tuple[int, int, int]) -> None:
        super().__init__()
        maps = torch.from_numpy(inputs[:20_000]).reshape(-1, *shape)
        self.register_buffer("mean", maps.mean((0, 2, 3))[:, None, None])  # (C, 1, 1)
        self.register_buffer("scale", maps.std((0, 2, 3))[:, None, None].clamp(min=1e-8))
        self.shape = shape
        self.cnn = CNNAdversary(shape)

    def forward(self, inputs: Tensor) -> Tensor:
        """Rows that flatten to maps, (N, ...), to one logit an image (N,)."""
        maps = (inputs.reshape(-1, *self.shape) - self.mean) / self.scale  # (N, C, h, w)
        return self.cnn(maps.clamp(-10, 10))


def _mlp(hidden: tuple[int, ...], dropout: float) -> Callable[[AuditConfig], Attacker]:
    return lambda config: TorchAttacker(
        lambda train: mlp(train.features.shape[1], hidden, dropout), epochs=config.epochs, min_steps=config.min_steps
    )


def _cnn(reads: str, shape: Callable[[AttackSet], tuple], share: float, needs: tuple[str, ...] = ()) -> Callable[[AuditConfig], Attacker]:
    """A `share` of the epochs: all places of a map share their weights, so that it needs fewer, and an epoch costs the most."""
    return lambda config: TorchAttacker(
        lambda train: StandardisedCNN(getattr(train, reads), shape(train)),
        reads,
        epochs=math.ceil(share * config.epochs),
        learning_rate=2e-3,
        min_steps=math.ceil(config.min_steps / 2),
        needs=needs,
    )


ATTACKERS: dict[str, Callable[[AuditConfig], Attacker]] = {
    "logistic": lambda config: Logistic(),
    "svm_rbf": lambda config: RBFSVM(),
    "mlp": _mlp((256,), 0.5),
    "mlp_deep": _mlp((512, 256, 128), 0.3),
    "cnn": _cnn("g", lambda train: train.map_shape, 0.75, needs=("map_shape",)),
    "boosting": lambda config: Boosting(),
    "gallery_knn": lambda config: GalleryKNN(),
    "cnn_reconstruction": _cnn("images", lambda train: train.images.shape[1:], 0.5),
}
"""Name -> function of an `AuditConfig` that makes an attacker: the eight families of the protocol. Add your own."""

LIBRARY = tuple(ATTACKERS.values())
"""The library's makers. Where an attacker of theirs crashes, the audit fails: noted and passed over, a defect would look like privacy."""
