"""What an audit takes for granted. Run `pytest` here after each change."""

import dataclasses

import numpy as np
import pytest
import torch
from my_method import FACES, MyMethod, Original

from aia_lib import load_faces


@pytest.fixture(scope="module")
def faces():
    return load_faces(**FACES, progress=False)


@pytest.fixture(scope="module", params=[MyMethod, Original])
def method(request, faces):
    return MyMethod(faces=faces) if request.param is MyMethod else Original()


def test_one_finite_row_an_image(method, faces):
    images = torch.from_numpy(faces.images[:5]).float() / 255
    g = method(images)
    assert g.ndim == 2 and len(g) == 5 and torch.isfinite(g).all()
    assert len(method(images[:1])) == 1, "one image is a batch, too"


def test_an_image_does_not_depend_on_its_batch(method, faces):
    images = torch.from_numpy(faces.images[:5]).float() / 255
    assert torch.allclose(method(images)[:2], method(images[:2]), atol=1e-4)


def test_it_learned_from_train_alone(faces):
    """Faces whose other people are blacked out give the same method."""
    train = faces.split().train
    pixels = faces.images[:].copy()
    pixels[~np.isin(faces.identity, train.identity)] = 0
    images = torch.from_numpy(train.images[:5]).float() / 255
    again = MyMethod(faces=dataclasses.replace(faces, images=pixels, cache_key=""))
    assert torch.allclose(MyMethod(faces=faces)(images), again(images), atol=1e-4)
