"""Sets of rendered faces whose pixels are drawn in place of the renderer: for tests of what is around it, quick and without the extra."""

from __future__ import annotations

import contextlib
import importlib.metadata
from pathlib import Path

import numpy as np
import pytest

from aia_lib.faces import REGIONS
from aia_lib.machine.workfolder import WorkFolder
from aia_render import GENERATOR_VERSION, shards, store
from aia_render.people import People
from aia_render.views import Views


class Drawing:
    """Has the renderer's one method. An image is a ramp with a disc and noise, its regions are squares; all follow from the views."""

    def __init__(self, size: int) -> None:
        self.size = size

    def render(self, people: People, views: Views) -> tuple[np.ndarray, np.ndarray]:
        axis = np.linspace(-1, 1, self.size)
        x, y = np.meshgrid(axis, axis)
        images, regions = [], []
        for row in range(len(views)):
            values = {name: column[row] for name, column in views.values.items()}
            rng = np.random.default_rng(int(values["noise_seed"]))
            disc = (x - values["yaw"]) ** 2 + (y - values["pitch"]) ** 2 < people.traits["skin"][row // views.images]
            image = 128 + 60 * values["contrast"] * (x + y) / 2 + 40 * disc + rng.normal(0, 4, x.shape)
            images.append(np.clip(image, 0, 255).astype(np.uint8))
            blocks = rng.integers(0, len(REGIONS), (self.size // 8, self.size // 8))
            regions.append(blocks.repeat(8, 0).repeat(8, 1).astype(np.uint8))
        return np.stack(images), np.stack(regions)


def write_set(folder: Path, identities: int = 7, images: int = 3, size: int = 32, seed: int = 0, shard: int = 3) -> Path:
    """Write a whole set as `render_set` does, of drawings, with the versions that are installed; returns `folder`."""

    folder.mkdir(parents=True)
    versions = {}
    for name in store.PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    settings = shards.Settings(identities, images, size, seed, shard, "cpu", GENERATOR_VERSION, versions)
    settings, about = store._begin(WorkFolder(folder, "rendered set", "manifest.json"), settings, any_shard=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "_renderer", lambda size, device: Drawing(size))
        store._fill(folder, settings, about, workers=1, progress=False)
    return folder
