"""Attackers with one answer for each attribute of a data set; `poster` shows what they read off photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .audit import represent
from .faces import Faces, Splits
from .losses import adversary_loss
from .machine.device import adam, derive_seed, pick_device, seeded
from .machine.files import UserError
from .machine.fit_best import fit_best
from .machine.stage import Checkpoint, load_module
from .statistics import roc_auc

HIDDEN = 256

EPOCHS = 20

BATCH = 64


class AttributeReader(nn.Module):
    """An attacker with one answer for each attribute of a data set: standardised g, one hidden layer, one logit an attribute.

    Args:
        features: k, the length of g.
        attributes: the attributes' names, in the order of the logits.
    """

    def __init__(self, features: int, attributes: tuple[str, ...]) -> None:
        super().__init__()
        self.attributes = tuple(attributes)
        self.test_auc: dict[str, float] = {}
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.layers = nn.Sequential(nn.Linear(features, HIDDEN), nn.ReLU(), nn.Dropout(0.5), nn.Linear(HIDDEN, len(self.attributes)))

    def forward(self, g: Tensor) -> Tensor:
        """g (N, k) to logits (N, attributes)."""
        return self.layers((g - self.mean) * self.scale)

    def probabilities(self, g: Tensor) -> np.ndarray:
        """g (N, k) to the probability of each attribute, float32 (N, attributes)."""
        with torch.no_grad():
            return torch.sigmoid(self.eval()(g.to(self.mean.device, torch.float32))).cpu().numpy()

    def save(self, folder: str | Path, name: str) -> None:
        """Write `<name>.json` and the weights (safetensors) into `folder`, atomically."""
        Checkpoint(folder, name).save(
            {f"reader.{key}": value for key, value in self.state_dict().items()},
            features=len(self.mean),
            attributes=list(self.attributes),
            test_auc=self.test_auc,
        )

    @classmethod
    def load(cls, folder: str | Path, name: str) -> AttributeReader:
        """The reader that `save` wrote. UserError where there is none or its files are damaged."""
        checkpoint = Checkpoint(folder, name)
        loaded = checkpoint.load()
        if loaded is None:
            raise UserError(
                f"There are no attribute readers in {folder} ({name}.json is missing); give the folder of a finished `aia run`."
            )
        tensors, state = loaded
        try:
            reader = cls(state["features"], tuple(state["attributes"]))
            reader.test_auc = dict(state["test_auc"])
        except (KeyError, TypeError) as error:
            raise UserError(f"{checkpoint.index} is not an attribute reader that this version of aia_lib can read ({error!r}).") from error
        load_module(reader, tensors, "reader", checkpoint.index)
        return reader.eval()


def train_reader(anonymizer: object, faces: Faces, seed: int = 0, splits: Splits | None = None) -> AttributeReader:
    """Train a reader on the people of the split `attack`, keep its best epoch on `val`, and note its AUC for each attribute on `test`.

    Attributes that have only one value in one of these splits are left out: nothing can be learned or said about them.

    Args:
        anonymizer: images to g; see `anonymizers`.
        faces: all of them; the split is the audit's.
        seed: of the weights and batches.
        splits: as for `audit`.
    """
    splits = splits or faces.split()
    parts = {name: getattr(splits, name) for name in ("attack", "val", "test")}
    names = tuple(
        name
        for name in sorted(faces.attributes, key=lambda name: (name != faces.attribute, name))
        if all({0, 1} <= set(np.unique(part.attributes[name])) for part in parts.values())
    )
    device = pick_device()
    g = {name: torch.from_numpy(represent(anonymizer, part.images)).to(device) for name, part in parts.items()}  # (N, k) each
    labels = {name: np.stack([part.attributes[a] for a in names], axis=1) for name, part in parts.items()}  # (N, attributes) each

    with seeded(seed, "reader"):
        reader = AttributeReader(g["attack"].shape[1], names).to(device)
        reader.mean.copy_(g["attack"].mean(0))
        reader.scale.copy_(1 / (g["attack"].std(0) + 1e-4))
        optimizer = adam(reader.parameters(), 1e-3, device)
        targets = torch.from_numpy(labels["attack"].astype(np.float32)).to(device)

        def learn(epoch: int) -> None:
            order = np.random.default_rng(derive_seed(seed, "reader", epoch)).permutation(len(targets))
            for start in range(0, len(order), BATCH):
                rows = order[start : start + BATCH]
                loss = adversary_loss(reader(g["attack"][rows]), targets[rows])  # mean over images and attributes
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

        fit_best(reader, learn, lambda: float(np.mean(list(_auc_by_attribute(reader, g["val"], labels["val"]).values()))), EPOCHS)
    reader.test_auc = _auc_by_attribute(reader, g["test"], labels["test"])
    return reader.eval()


def _auc_by_attribute(reader: AttributeReader, g: Tensor, labels: np.ndarray) -> dict[str, float]:
    scores = reader.probabilities(g)
    known = labels >= 0
    return {name: roc_auc(scores[known[:, i], i], labels[known[:, i], i] == 1) for i, name in enumerate(reader.attributes)}
