"""Attribute readers: one attacker for every attribute of a data set."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from aia_lib import attributes
from aia_lib.attributes import AttributeReader, train_reader
from aia_lib.faces import Faces
from aia_lib.machine.device import to_images
from aia_lib.machine.files import UserError
from aia_lib.machine.stage import signed
from aia_lib.statistics import roc_auc

CPU = torch.device("cpu")


def pixels(images: torch.Tensor) -> torch.Tensor:
    """An anonymizer that hides nothing."""
    return images.flatten(1)


def with_attributes(faces: Faces, **values) -> Faces:
    return dataclasses.replace(faces, attributes={**faces.attributes, **{k: np.asarray(v, dtype=np.int8) for k, v in values.items()}})


@pytest.fixture(scope="module")
def faces(toy_faces) -> Faces:
    """Drawn faces with an attribute that cannot be seen, one that is always the same, and one that only a few people have."""
    faces = toy_faces(people=90, images=6, size=32)
    n, rng = len(faces), np.random.default_rng(0)
    in_train = faces.split().train.identity[0]
    return with_attributes(faces, coin=rng.integers(0, 2, n), one=np.ones(n), rare=faces.identity == in_train)


@pytest.fixture(scope="module")
def reader(faces) -> AttributeReader:
    return train_reader(pixels, faces)


def test_a_reader_reads_what_can_be_seen_and_nothing_else(reader, faces):
    assert reader.test_auc["gender"] > 0.8 and reader.test_auc["glasses"] > 0.8
    assert reader.test_auc["coin"] < 0.65, "the control: a coin tossed for each image"
    test = faces.split().test
    probabilities = reader.probabilities(pixels(to_images(test.images, CPU)))
    assert probabilities.shape == (len(test), 3) and probabilities.dtype == np.float32
    assert probabilities.min() >= 0 and probabilities.max() <= 1
    for i, name in enumerate(reader.attributes):
        assert roc_auc(probabilities[:, i], test.labels(name) == 1) == pytest.approx(reader.test_auc[name]), "on people never seen"


def test_attributes_with_one_value_in_a_split_are_left_out(reader):
    assert reader.attributes == ("gender", "coin", "glasses"), "the private one first, then by name"


def test_what_is_trained_is_the_same_for_a_seed_and_does_not_move_again(reader, faces):
    again = train_reader(pixels, faces)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in reader.state_dict().items())
    assert not again.training
    g = pixels(to_images(faces.images[:4], CPU))
    assert (reader.probabilities(g) == reader.probabilities(g)).all(), "no dropout when it is asked"


def test_the_epoch_that_is_best_on_val_is_kept(faces, monkeypatch):
    measured, measure = [], attributes._auc_by_attribute

    def noted(*arguments):
        measured.append(measure(*arguments))
        return measured[-1]

    monkeypatch.setattr(attributes, "_auc_by_attribute", noted)
    reader = train_reader(pixels, faces)
    *on_val, on_test = (np.mean(list(aucs.values())) for aucs in measured)
    assert len(on_val) == attributes.EPOCHS and np.mean(list(reader.test_auc.values())) == on_test
    val = faces.split().val
    probabilities = reader.probabilities(pixels(to_images(val.images, CPU)))
    kept = [roc_auc(probabilities[:, i], val.labels(name) == 1) for i, name in enumerate(reader.attributes)]
    assert np.mean(kept) == pytest.approx(max(on_val)) and max(on_val) > on_val[0]


def test_a_saved_reader_reads_the_same(reader, faces, tmp_path):
    reader.save(tmp_path, "before")
    loaded = AttributeReader.load(tmp_path, "before")
    g = pixels(to_images(faces.images[:7], CPU))
    assert (loaded.probabilities(g) == reader.probabilities(g)).all()
    assert loaded.attributes == reader.attributes and loaded.test_auc == reader.test_auc


def test_readers_that_are_not_there_or_damaged_are_named(reader, tmp_path):
    with pytest.raises(UserError, match=r"There are no attribute readers in .* \(before.json is missing\); give the folder of a finished"):
        AttributeReader.load(tmp_path, "before")
    reader.save(tmp_path, "before")
    index = json.loads((tmp_path / "before.json").read_text())
    index["feature"] = index.pop("features")
    (tmp_path / "before.json").write_text(json.dumps(signed(index)))
    with pytest.raises(UserError, match="before.json is not an attribute reader that this version of aia_lib can read .*features"):
        AttributeReader.load(tmp_path, "before")
    reader.save(tmp_path, "before")
    (weights,) = tmp_path.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(UserError, match="before.json is damaged"):
        AttributeReader.load(tmp_path, "before")


def test_missing_labels_do_not_count(faces):
    hidden = faces.labels("glasses").copy()
    hidden[np.random.default_rng(1).random(len(hidden)) < 0.3] = -1
    reader = train_reader(pixels, with_attributes(faces, glasses=hidden))
    assert reader.test_auc["glasses"] > 0.8 and reader.test_auc["gender"] > 0.8
