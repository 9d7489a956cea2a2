"""What attackers read off a face, attribute by attribute: the example on the paper's poster, before and after anonymization."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .audit import represent
from .faces import Faces, value_words
from .losses import adversary_loss
from .machine.device import adam, derive_seed, pick_device, seeded
from .machine.files import UserError
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


def train_reader(anonymizer: object, faces: Faces, seed: int = 0) -> AttributeReader:
    """Train a reader on the people of the split `attack`, keep its best epoch on `val`, and note its AUC for each attribute on `test`.

    Attributes that have only one value in one of these splits are left out: nothing can be learned or said about them.

    Args:
        anonymizer: images to g; see `anonymizers`.
        faces: all of them; the split is the audit's.
        seed: of the weights and batches.
    """
    splits = faces.split()
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
        best, best_auc = None, -1.0
        for epoch in range(EPOCHS):
            reader.train()
            order = np.random.default_rng(derive_seed(seed, "reader", epoch)).permutation(len(targets))
            for start in range(0, len(order), BATCH):
                rows = order[start : start + BATCH]
                loss = adversary_loss(reader(g["attack"][rows]), targets[rows])  # mean over images and attributes
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            auc = float(np.mean(list(_auc_by_attribute(reader, g["val"], labels["val"]).values())))
            if auc > best_auc:
                best, best_auc = {key: value.clone() for key, value in reader.state_dict().items()}, auc
    reader.load_state_dict(best)
    reader.test_auc = _auc_by_attribute(reader, g["test"], labels["test"])
    return reader.eval()


def _auc_by_attribute(reader: AttributeReader, g: Tensor, labels: np.ndarray) -> dict[str, float]:
    scores = reader.probabilities(g)
    known = labels >= 0
    return {name: roc_auc(scores[known[:, i], i], labels[known[:, i], i] == 1) for i, name in enumerate(reader.attributes)}


SHOWN = 12
"""Attributes that `aia attributes` shows unless --only names some."""

READABLE = 0.6
"""It shows those alone that the attacker reads off the auto-encoder's g with at least this AUC."""

SURE = 0.6
"""An answer less certain than this counts as none, as does one of an attacker whose AUC is below `READABLE`."""

PICTURED = 8
"""Faces in the picture of `aia attributes`; the text has all."""


def _face(names: Sequence[str], before: Sequence[float], after: Sequence[float], aucs: Sequence[tuple[float, float]]) -> str:
    """What is read off one face: in the poster's words, and attribute by attribute."""
    lines = [
        f"  before  {_poster(names, before, [auc for auc, _ in aucs])}",
        f"  after   {_poster(names, after, [auc for _, auc in aucs])}",
    ]
    labels = ["gender as labelled" if name == "gender" else _words(name) for name in names]
    width = max(len("attribute"), *map(len, labels))
    lines += ["", f"  {'attribute':<{width}}   {'before':<15}{'after':<15}attacker's AUC before, after"]
    for name, label, *values, (auc_before, auc_after) in zip(names, labels, before, after, aucs, strict=True):
        answers = "".join(f"{f'{word} {100 * share:.0f} %':<15}" for word, share in (_answer(name, value) for value in values))
        lines.append(f"  {label:<{width}}   {answers}{auc_before:.2f}, {auc_after:.2f}")
    return "\n".join(lines)


def _poster(names: Sequence[str], values: Sequence[float], aucs: Sequence[float]) -> str:
    """The poster's line: "gender as labelled: male; has Smiling, Young; lacks Eyeglasses; not sure: Bald"."""
    said: dict[str, list[str]] = {"gender as labelled:": [], "has": [], "lacks": [], "not sure:": []}
    for name, value, auc in zip(names, values, aucs, strict=True):
        word, share = _answer(name, value)
        if share < SURE or auc < READABLE:
            said["not sure:"].append(_words(name))
        elif name == "gender":
            said["gender as labelled:"].append(word)
        else:
            said["has" if word == "yes" else "lacks"].append(_words(name))
    return "; ".join(f"{key} {', '.join(found)}" for key, found in said.items() if found)


def _answer(name: str, probability: float) -> tuple[str, float]:
    """The attacker's answer as a word, and how sure it is of it, in [0.5, 1]."""
    no, yes = value_words(name)
    return (yes, float(probability)) if probability >= 0.5 else (no, 1 - float(probability))


def _words(name: str) -> str:
    return name.replace("_", " ")


def _shortened(name: str, most: int = 36) -> str:
    return name if len(name) <= most else f"{name[: most // 2]}…{name[1 - most // 2 :]}"


def _photograph(path: str, size: int, source: str):
    """The grey square that the run's networks read, uint8 (size, size); of an image like those of the run's `source`, the same part."""
    from PIL import Image

    from .datasets import celeba
    from .datasets.cache import SkippedImage, decode
    from .datasets.common import WHOLE

    crop = WHOLE
    try:
        if source == "celeba":
            with contextlib.suppress(Exception), Image.open(path) as image:  # what is wrong with it, decode says
                if abs(image.width / image.height - 178 / 218) < 0.005:
                    crop = celeba.CROP
        pixels, remarks = decode(path, size, crop)
    except SkippedImage as error:
        reason = {"not images": "not an image"}.get(str(error), str(error))
        raise UserError(f"{path} cannot be used: {reason}.") from error
    for remark in remarks:
        print(f"note: images that {remark}: {path}")
    return pixels


def _chosen(only: str | None, reader) -> list[str]:
    """The attributes to show: those asked for, or the private one and those that the attacker reads best."""
    if only is None:
        private, *others = reader.attributes
        doubled = {"gender", "Male"} - {private}  # in CelebA two names of nearly the same labels
        others = [
            name for name in others if reader.test_auc[name] >= READABLE and (private not in ("gender", "Male") or name not in doubled)
        ]
        return [private, *sorted(others, key=lambda name: -reader.test_auc[name])[: SHOWN - 1]]
    known = {_words(name).casefold(): name for name in reader.attributes}
    names = [name for part in only.split(",") if (name := _words(part).strip())]
    for name in names:
        if name.casefold() not in known:
            raise UserError(f"There is no attribute {name!r}; the run's attackers know {', '.join(reader.attributes)}.")
    if not names:
        raise UserError(f"--only {only!r} names no attribute; the run's attackers know {', '.join(reader.attributes)}.")
    return list(dict.fromkeys(known[name.casefold()] for name in names))
