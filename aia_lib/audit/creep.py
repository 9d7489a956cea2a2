"""Attribute creep: what else a representation tells. Hiding one attribute can expose another, so all are read, before and after.

One pair of attackers reads all attributes of a data set at once: a ridge regression, and a network with one hidden layer and one answer an
attribute. For each attribute that of the two counts which is better on val, at the penalty and epoch that are best there. Both
representations meet the same attackers and the same people, so that the change of an attribute's AUC has an interval of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.linalg import LinAlgWarning
from sklearn.linear_model import Ridge
from torch import Tensor, nn

from ..config import AuditConfig
from ..faces import Splits
from ..machine.device import pick_device, seeded
from ..statistics import MIN_PEOPLE, roc_auc
from .released import Released

HIDDEN = 512  # units of the network's hidden layer

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Of the ridge regression, in units of the images' number (features are standardised)."""

WIDEST = 4096
"""Longer representations are read by their principal components: a ridge regression's cost grows with the cube of the length."""


def pixels(images: Tensor) -> Tensor:
    """The photographs themselves, averaged down to at most 32 pixels a side: what is compared with where no original is given."""
    side = min(32, images.shape[-1])
    return F.adaptive_avg_pool2d(images, side).flatten(1)


pixels.name = "the images"


def stored(templates: Tensor) -> Tensor:
    """Templates (N, d) as they are: the anonymizer that protects nothing."""
    return templates


stored.name = "the templates"


def readable(splits: Splits, names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Which attributes can be audited, and why the others cannot: attack and val need both labels, test enough people of each."""
    able, left_out, faces = [], {}, splits.test
    for name in names:
        labels = faces.labels(name)
        people = min(len(np.unique(faces.identity[labels == value])) for value in (0, 1))
        if people < MIN_PEOPLE:
            left_out[name] = f"too few people for an interval: {people} of a label in test, {MIN_PEOPLE} are needed"
        elif not all({0, 1} <= set(np.unique(part.labels(name)).tolist()) for part in (splits.attack, splits.val)):
            left_out[name] = "one label only in attack or val"
        else:
            able.append(name)
    return able, left_out


def read_all(released: Released, splits: Splits, names: Sequence[str], config: AuditConfig, seed: int) -> tuple[np.ndarray, list[str]]:
    """Read every attribute off one representation.

    Returns:
        scores on test of each attribute's better reader, oriented on val, float32 (T, A), and that reader's name.
    """
    tables = {part: getattr(splits, part).label_table(names) for part in ("attack", "val", "test")}
    inputs, repeats = narrow(released), released.sets["attack"].repeats
    best, readers, scores = np.zeros(len(names)), [""] * len(names), np.zeros(tables["test"].shape, dtype=np.float32)

    def offer(reader: str, val: np.ndarray, test: np.ndarray) -> int:
        """Takes scores on val (V, A) and test (T, A) where they are the best on val so far; for how many attributes that is."""
        better = 0
        for i, labels in enumerate(tables["val"].T):
            auc = roc_auc(val[labels >= 0, i], labels[labels >= 0] == 1)
            if max(auc, 1 - auc) > best[i]:
                best[i], readers[i] = max(auc, 1 - auc), reader
                scores[:, i] = test[:, i] if auc >= 0.5 else -test[:, i]  # what orders val backwards is turned round
                better += 1
        return better

    _ridge(inputs, np.tile(tables["attack"], (repeats, 1)), offer)
    _network(inputs, tables["attack"], repeats, config, seed, offer)
    return scores, readers


def narrow(released: Released) -> dict[str, np.ndarray]:
    """The features of each split, (N, k); the principal components' scores where k is above `WIDEST`."""
    return {part: data.features if data.features.shape[1] <= WIDEST else data.components for part, data in released.sets.items()}


def ridge(penalty: float, inputs: np.ndarray, targets: np.ndarray) -> Ridge:
    """A ridge regression from standardised inputs (N, k) to targets (N, m), its penalty in units of N."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LinAlgWarning)  # features that say the same: the penalty keeps it solvable, and val judges it
        return Ridge(alpha=penalty * len(inputs), solver="cholesky").fit(inputs, targets)


def _ridge(inputs: dict[str, np.ndarray], labels: np.ndarray, offer: Callable) -> None:
    known = labels >= 0
    rate = (labels * known).sum(0) / known.sum(0)
    targets = np.where(known, labels - rate, 0).astype(np.float32)  # a missing label pulls to neither side
    for penalty in PENALTIES:
        model = ridge(penalty, inputs["attack"], targets)
        val, test = (model.predict(inputs[part]).reshape(len(inputs[part]), -1) for part in ("val", "test"))
        offer("ridge", val, test)


def _network(inputs: dict[str, np.ndarray], labels: np.ndarray, repeats: int, config: AuditConfig, seed: int, offer: Callable) -> None:
    device, rng = pick_device(), np.random.default_rng(seed)
    images, width = len(labels), inputs["attack"].shape[1]
    batch_size = min(64 if images < 20_000 else 256, images)
    steps = max(1, images // batch_size)
    epochs = max(config.epochs, -(-config.min_steps // steps))
    with seeded(seed, "creep"):
        network = nn.Sequential(
            nn.Linear(width, HIDDEN), nn.BatchNorm1d(HIDDEN), nn.ReLU(), nn.Dropout(0.5), nn.Linear(HIDDEN, labels.shape[1])
        ).to(device)
        optimizer = torch.optim.AdamW(network.parameters(), 1e-3, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=epochs * steps)
        tensors = {part: torch.from_numpy(values) for part, values in inputs.items()}
        targets = torch.from_numpy(labels.astype(np.float32)).to(device)
        since = 0
        for _ in range(epochs):
            network.train()
            order = rng.permutation(images)
            for rows in np.split(order[: steps * batch_size], steps):
                shown = rows + images * rng.integers(repeats, size=len(rows))  # mirrored or not
                target = targets[torch.from_numpy(rows).to(device)]
                known = (target >= 0).float()
                logits = network(tensors["attack"][torch.from_numpy(shown)].to(device))  # (B, A)
                losses = F.binary_cross_entropy_with_logits(logits, target.clamp(min=0), reduction="none") * known
                loss = losses.sum() / known.sum().clamp(min=1) * labels.shape[1]  # each attribute weighs as if it were alone
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
            network.eval()
            with torch.no_grad():
                val, test = (
                    np.concatenate([network(block.to(device)).float().cpu().numpy() for block in tensors[part].split(512)])
                    for part in ("val", "test")
                )
            since = 0 if offer("network", val, test) else since + 1
            if since > epochs // 3:
                break
