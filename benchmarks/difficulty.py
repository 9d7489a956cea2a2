"""How hard a set of faces is, before anybody anonymizes it: who can read the attribute, off what, and who can tell people apart.

Every reader is trained on the people of train and attack, its best epoch is chosen on val, and the figure is from test: no person is
in two of them. Where the set has region masks (the embedded faces), readers are also given one region's pixels alone, the rest grey.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

import numpy as np

from aia_lib.attackers import ATTACKERS, AttackSet
from aia_lib.config import AuditConfig
from aia_lib.datasets import load_faces
from aia_lib.datasets.embedded import manifest
from aia_lib.faces import REGIONS, Faces
from aia_lib.statistics import MIN_PEOPLE, Scored, interval
from aia_lib.verification import fit_verifier, pair_distances

REGION_SIZE = 32
"""Side of the images that the readers of single regions see: ten convolutional networks at full size would take an hour."""

OUTLINED = ("skin", "hair")
"""Regions of which the outline alone is read too: skin is what is left when all others are cut out, and tells their shapes."""

PAIRS = 6000
GREY = 128


def measure(
    data: str = "embedded",
    root: str | None = None,
    size: int = 64,
    images: int | None = None,
    readers: Sequence[str] = ("logistic", "cnn"),
    config: AuditConfig | None = None,
) -> dict:
    """AUC, with its 95 % interval over people, of each reader on each view of the faces, and of the verifiers.

    Args:
        data, root, size, images: the faces; None takes all.
        readers: names in `attackers.ATTACKERS`.
        config: how long they learn; None takes `AuditConfig()`.
    """
    faces = load_faces(data, root, size=size, limit=images, progress=False)
    config = config or AuditConfig()
    figures: dict = {"source": faces.source, "images": len(faces), "people": faces.people, "size": size, "region_size": REGION_SIZE}
    figures["labelled_1"] = round(float((faces.labels() == 1).mean()), 4)
    figures["attribute_auc"] = {"all": read(faces, readers, config)}
    for name in faces.attributes:
        other = dataclasses.replace(faces, attribute=name)
        if name != faces.attribute and people_of_a_class(other) >= MIN_PEOPLE:
            figures.setdefault("other_attributes_auc", {})[name] = read(other, ["logistic"], config)
    if faces.regions is not None:
        figures["sha256"] = manifest(root)["sha256"]["images"]
        small = load_faces(data, root, size=REGION_SIZE, limit=images, progress=False)
        figures["attribute_auc"]["all, region_size"] = read(small, readers, config)
        regions, pixels = np.asarray(small.regions)[:, None], np.asarray(small.images)  # (N, 1, h, w)
        figures["share_of_pixels"] = {name: round(float((regions == code).mean()), 4) for code, name in enumerate(REGIONS)}
        for code, name in enumerate(REGIONS):
            views = {name: np.where(regions == code, pixels, GREY)}
            if name in OUTLINED:
                views[f"{name}, outline"] = np.where(regions == code, 255, GREY)
            for view, shown in views.items():
                alone = dataclasses.replace(small, images=shown.astype(np.uint8), cache_key="")
                figures["attribute_auc"][view] = read(alone, readers, config)
                print(view, figures["attribute_auc"][view], file=sys.stderr)
    figures["verification_auc"] = verify(faces, config)
    return figures


def people_of_a_class(faces: Faces) -> int:
    """The smaller class's people in val or test, whichever has fewer."""
    splits = faces.split()
    return min(len(np.unique(part.identity[part.labels() == value])) for part in (splits.val, splits.test) for value in (0, 1))


def attack_sets(faces: Faces) -> tuple[dict[str, AttackSet], dict[str, Faces]]:
    """The pixels of fit (train and attack), val and test as attackers take them, mirror images added to fit; and the faces themselves."""
    splits = faces.split()
    fit = [splits.train, splits.attack]
    parts = {"val": splits.val, "test": splits.test}
    pixels = {name: _pixels([part.images]) for name, part in parts.items()}
    straight = _pixels([part.images for part in fit])
    pixels["fit"] = np.concatenate([straight, straight.reshape(-1, faces.size, faces.size)[:, :, ::-1].reshape(straight.shape)])
    labels = {name: part.labels() for name, part in parts.items()}
    labels["fit"] = np.tile(np.concatenate([part.labels() for part in fit]), 2)
    mean, deviation = pixels["fit"].mean(0), pixels["fit"].std(0)
    scale = np.where(deviation > 1e-4, 1 / deviation.clip(1e-4), 0)  # a pixel that never changes says nothing
    sets = {}
    for name, values in pixels.items():
        features = ((values - mean) * scale).clip(-10, 10).astype(np.float32)
        shape = (1, faces.size, faces.size)
        sets[name] = AttackSet(values, features, features[:, :1], labels[name], map_shape=shape, repeats=2 if name == "fit" else 1)
    return sets, parts


def _pixels(images: Sequence) -> np.ndarray:
    rows = np.concatenate([np.asarray(part) for part in images])
    return rows.reshape(len(rows), -1).astype(np.float32) / 255


def read(faces: Faces, readers: Sequence[str], config: AuditConfig) -> dict[str, list[float]]:
    """Test AUC and its interval by reader; the orientation of the scores is val's."""
    sets, parts = attack_sets(faces)
    known = {name: data if (data.labels >= 0).all() else data.take(np.flatnonzero(data.labels >= 0)) for name, data in sets.items()}
    people = parts["test"].identity[parts["test"].labels() >= 0]
    result = {}
    for name in readers:
        reader = ATTACKERS[name](config)
        reader.fit(known["fit"], known["val"], seed=0)
        scored = Scored(reader.score(known["test"]), known["test"].labels == 1, people)
        result[name] = [round(float(value), 4) for value in (scored.auc, *interval([scored], config.bootstrap))]
    return result


def verify(faces: Faces, config: AuditConfig) -> dict[str, dict[str, list[float]]]:
    """Test AUC and its interval by verifier and kind of impostors: the paper's Siamese network and the closed-form LDA, on pixels."""
    sets, parts = attack_sets(faces)
    splits = faces.split()
    identity = np.tile(np.concatenate([splits.train.identity, splits.attack.identity]), 2)
    pairs = {name: {kind: part.pairs(PAIRS, kind, seed=0) for kind in ("free", "same")} for name, part in parts.items()}
    result: dict = {}
    for kind in ("lda", "siamese"):
        fitted = fit_verifier(
            sets["fit"].features,
            identity,
            sets["val"].features,
            list(pairs["val"].values()),
            map_shape=sets["fit"].map_shape,
            repeats=2,
            epochs=config.epochs,
            kinds=(kind,),
        )
        embeddings = fitted.embed(sets["test"].features)
        for impostors, drawn in pairs["test"].items():
            people = parts["test"].identity[np.stack([drawn.a, drawn.b], axis=1)]
            scored = Scored(pair_distances(embeddings, drawn), drawn.different == 1, people)
            values = (scored.auc, *interval([scored], config.bootstrap))
            result.setdefault(kind, {})[impostors] = [round(float(value), 4) for value in values]
    return result
