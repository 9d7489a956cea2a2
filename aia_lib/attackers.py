"""The fresh attackers: eight families of classifiers that try to read the private attribute off a representation.

One audit takes your own beside them: names, scikit-learn classifiers, torch modules and attackers, mixed::

    audit(anonymizer, faces, attackers=["logistic", "mlp", RandomForestClassifier(300), nn.Sequential(nn.Linear(768, 64), nn.ReLU(), …)])

An attacker is anything with `fit(train, val, seed)` and `score(data)`. Put a function that makes one from an `AuditConfig` into
`ATTACKERS` under a name, and every audit uses it::

    ATTACKERS["my_forest"] = lambda config: SklearnAttacker(RandomForestClassifier(300))

All choices (regularisation, when to stop, how many neighbours) are made by the AUC on val.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from .config import AuditConfig
from .machine.device import autocast, pick_device, seeded
from .models import CNNAdversary


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
        arrays = {name: getattr(self, name) for name in ("g", "features", "components", "labels", "images", "embeddings")}
        return replace(self, **{name: None if array is None else array[rows] for name, array in arrays.items()})


class Attacker(Protocol):
    """A family of attackers. `needs` names the fields of `AttackSet` without which it does not apply."""

    needs: tuple[str, ...]

    def fit(self, train: AttackSet, val: AttackSet, seed: int) -> None:
        """Train on `train`, choose on `val`; the same seed gives the same attacker on the CPU."""
        ...

    def score(self, data: AttackSet) -> np.ndarray:
        """One number an image, higher for label 1, float (N,)."""
        ...


def val_auc(val: AttackSet, scores: np.ndarray) -> float:
    """AUC on val, the figure that every choice maximises; scores that are not finite count as none.

    The sum of ranks (Mann and Whitney): scikit-learn's roc_auc_score gives the same, but checks its input for longer than a
    small network's epoch takes.
    """
    if not np.isfinite(scores).all():
        return 0.0
    positive = val.labels == 1
    ones, zeros = int(positive.sum()), int((~positive).sum())
    return float((rankdata(scores)[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


# scikit-learn ---------------------------------------------------------------------------------------------------------


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

    needs = ()
    STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)

    def fit(self, train: AttackSet, val: AttackSet, seed: int) -> None:
        model = LogisticRegression(max_iter=200, tol=1e-3, warm_start=True)

        def with_strength(c: float) -> LogisticRegression:
            return copy.deepcopy(model.set_params(C=c).fit(train.features, train.labels))  # starts from the one before

        with threadpool_limits(1):  # the solver multiplies one vector at a time: on two threads it takes twice as long
            self.model = _strongest(with_strength, self.STRENGTHS, val, val.features)

    def score(self, data: AttackSet) -> np.ndarray:
        return self.model.decision_function(data.features)


class RBFSVM:
    """A support vector machine with Gaussian kernel, by Nyström's approximation with up to 1,000 landmarks.

    The kernel is exp(-d^2 / (2 m)) with m the median squared distance of two images; the penalty is chosen on val.
    """

    needs = ()
    LANDMARKS = 1000
    STRENGTHS = (0.1, 1.0, 10.0, 100.0)

    def fit(self, train: AttackSet, val: AttackSet, seed: int) -> None:
        rng = np.random.default_rng(seed)
        some = train.features[rng.choice(len(train), min(1000, len(train)), replace=False)].astype(np.float64)
        squares = (some**2).sum(1)
        distances = squares[:, None] + squares - 2 * some @ some.T
        median = float(np.median(distances[np.triu_indices(len(some), 1)]))
        self.kernel = Nystroem(gamma=0.5 / max(median, 1e-12), n_components=min(self.LANDMARKS, len(train)), random_state=seed)
        inputs, val_inputs = self.kernel.fit_transform(train.features), self.kernel.transform(val.features)

        def with_strength(c: float) -> LinearSVC:
            return LinearSVC(C=c, dual=False, tol=1e-3).fit(inputs, train.labels)

        self.model = _strongest(with_strength, self.STRENGTHS, val, val_inputs)

    def score(self, data: AttackSet) -> np.ndarray:
        return self.model.decision_function(self.kernel.transform(data.features))


def _strongest(with_strength: Callable[[float], Any], strengths: tuple[float, ...], val: AttackSet, val_inputs: np.ndarray) -> Any:
    """The model with the best AUC on val, from strong to weak regularisation, until it falls clearly."""
    best, chosen = -1.0, None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # an early stop is one more regulariser, and val judges it
        for strength in strengths:
            model = with_strength(strength)
            auc = val_auc(val, model.decision_function(val_inputs))
            if auc > best:
                best, chosen = auc, model
            elif auc < best - 0.003:
                break
    return chosen


class Boosting:
    """Histogram gradient boosting on the first 100 principal components; the number of trees is chosen on val."""

    needs = ()
    COMPONENTS = 100

    def fit(self, train: AttackSet, val: AttackSet, seed: int) -> None:
        self.model = HistGradientBoostingClassifier(
            learning_rate=0.1,
            max_iter=200,
            max_leaf_nodes=15,
            l2_regularization=1.0,
            max_features=0.3,
            early_stopping=False,
            random_state=seed,
        ).fit(train.components[:, : self.COMPONENTS], train.labels)
        aucs = [val_auc(val, scores.ravel()) for scores in self._staged(val)]
        self.trees = int(np.argmax(aucs)) + 1

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
        self.k = max(tried, key=lambda k: val_auc(val, self._vote(nearest, k)))

    def score(self, data: AttackSet) -> np.ndarray:
        return self._vote(self._nearest(data, self.k), self.k)

    def _vote(self, nearest: np.ndarray, k: int) -> np.ndarray:
        weights = np.arange(k, 0, -1.0)
        return self.labels[nearest[:, :k]] @ (weights / weights.sum())

    def _nearest(self, data: AttackSet, k: int) -> np.ndarray:
        """Gallery rows by rising distance, (N, k)."""
        squares = (self.gallery**2).sum(1)
        found = []
        for start in range(0, len(data), 512):
            distances = squares - 2 * data.embeddings[start : start + 512] @ self.gallery.T  # up to each image's own square
            some = np.argpartition(distances, k - 1, axis=1)[:, :k]
            order = np.take_along_axis(distances, some, axis=1).argsort(axis=1, kind="stable")
            found.append(np.take_along_axis(some, order, axis=1))
        return np.concatenate(found)


# torch ----------------------------------------------------------------------------------------------------------------


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

    def __init__(
        self,
        make: Callable[[AttackSet], nn.Module],
        reads: str = "features",
        epochs: int = 20,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
        min_steps: int = AuditConfig.min_steps,
        needs: tuple[str, ...] = (),
    ) -> None:
        self.make, self.reads, self.epochs = make, reads, epochs
        self.learning_rate, self.weight_decay, self.min_steps = learning_rate, weight_decay, min_steps
        self.needs = (reads, *needs)

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
        best, state, since = -1.0, None, 0
        for _ in range(epochs):
            network.train()
            rows = rng.permutation(images) + images * rng.integers(train.repeats, size=images)  # each image once, mirrored or not
            for batch in np.split(rows[: steps * batch_size], steps):
                batch = torch.from_numpy(batch)
                with autocast(self.device):
                    logits = network(inputs[batch].to(self.device))
                loss = F.binary_cross_entropy_with_logits(logits.float(), labels[batch.to(self.device)])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
            auc = val_auc(val, self.score(val))
            if auc > best:
                best, since = auc, 0
                state = {key: value.detach().clone() for key, value in network.state_dict().items()}
            else:
                since += 1
                if since > epochs // 3:
                    break
        network.load_state_dict(state)

    def score(self, data: AttackSet) -> np.ndarray:
        self.network.eval()
        inputs = torch.from_numpy(getattr(data, self.reads))
        with torch.no_grad():  # in float32: bfloat16 would tie scores that differ by less than a hundredth
            return np.concatenate([self.network(block.to(self.device)).float().cpu().numpy() for block in inputs.split(512)])


class MLP(nn.Module):
    """Linear, batch norm, ReLU and dropout for each hidden layer, then one logit.

    Args:
        features: numbers an image.
        hidden: units of the hidden layers.
        dropout: share of the units that are dropped in training.
    """

    def __init__(self, features: int, hidden: tuple[int, ...], dropout: float = 0.5) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for units in hidden:
            layers += [nn.Linear(features, units), nn.BatchNorm1d(units), nn.ReLU(), nn.Dropout(dropout)]
            features = units
        self.layers = nn.Sequential(*layers, nn.Linear(features, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        """Features (N, k) to one logit an image (N,)."""
        return self.layers(inputs).squeeze(1)


class StandardisedCNN(nn.Module):
    """`CNNAdversary` behind a standardisation of each channel: unlike that of each feature it keeps the map's spatial contrast.

    Args:
        inputs: what it will be trained on, (N, ...), each row a flattened map.
        shape: (channels, height, width) of the map.
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


def _mlp(config: AuditConfig) -> Attacker:
    return TorchAttacker(lambda train: MLP(train.features.shape[1], (256,)), epochs=config.epochs, min_steps=config.min_steps)


def _mlp_deep(config: AuditConfig) -> Attacker:
    return TorchAttacker(
        lambda train: MLP(train.features.shape[1], (512, 256, 128), dropout=0.3), epochs=config.epochs, min_steps=config.min_steps
    )


# The convolutional ones get fewer epochs: all places of a map share their weights, so they need fewer, and theirs cost the most.


def _cnn(config: AuditConfig) -> Attacker:
    return TorchAttacker(
        lambda train: StandardisedCNN(train.g, train.map_shape),
        reads="g",
        epochs=-(-3 * config.epochs // 4),
        learning_rate=2e-3,
        min_steps=-(-config.min_steps // 2),
        needs=("map_shape",),
    )


def _cnn_reconstruction(config: AuditConfig) -> Attacker:
    return TorchAttacker(
        lambda train: StandardisedCNN(train.images, train.images.shape[1:]),
        reads="images",
        epochs=-(-config.epochs // 2),
        learning_rate=2e-3,
        min_steps=-(-config.min_steps // 2),
    )


ATTACKERS: dict[str, Callable[[AuditConfig], Attacker]] = {
    "logistic": lambda config: Logistic(),
    "svm_rbf": lambda config: RBFSVM(),
    "mlp": _mlp,
    "mlp_deep": _mlp_deep,
    "cnn": _cnn,
    "boosting": lambda config: Boosting(),
    "gallery_knn": lambda config: GalleryKNN(),
    "cnn_reconstruction": _cnn_reconstruction,
}
"""Name -> function of an `AuditConfig` that makes an attacker: the eight families of the protocol. Add your own."""
