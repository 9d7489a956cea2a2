"""One shard of a rendered set: some people, rendered and packed into the bytes of its file, whose layout `store` describes."""

from __future__ import annotations

import hashlib
import io
import lzma
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from aia_lib.datasets.embedded import shard_name
from aia_lib.machine.files import atomic_write

from .people import sample_people
from .views import sample_views

QUALITY = 90
"""Of the JPEGs: what photo collections have."""

_GPU_BATCH = 1 << 22
"""Pixels that a GPU renders at once."""


@dataclass(frozen=True)
class Settings:
    """What a set holds: all that decides its content, and how many people are in a shard."""

    identities: int
    images: int
    size: int
    seed: int
    shard: int
    device: str
    generator: int
    versions: dict[str, str]

    @property
    def shards(self) -> int:
        return -(-self.identities // self.shard)

    def people(self, number: int) -> range:
        """The people of shard `number`."""
        return range(number * self.shard, min((number + 1) * self.shard, self.identities))


def encode_strip(images: np.ndarray) -> bytes:
    """Images uint8 (K, S, S) side by side as one grey JPEG."""
    file = io.BytesIO()
    Image.fromarray(np.concatenate(list(images), axis=1)).save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()


def render_shard(settings: Settings, renderer: Any, number: int, tell: Callable[[int], Any]) -> bytes:
    """The content of shard `number`; `tell` is called with the number of images each time that some are rendered."""
    wanted = settings.people(number)
    step = 1 if settings.device == "cpu" else max(1, _GPU_BATCH // (settings.size**2 * settings.images))
    strips: list[bytes] = []
    columns: dict[str, list[np.ndarray]] = {"regions": [], "nuisance": [], "traits": [], "attributes": []}
    for first in range(wanted.start, wanted.stop, step):
        part = range(first, min(first + step, wanted.stop))
        people, views = sample_people(len(part), settings.seed, part.start), sample_views(part, settings.images, settings.seed)
        images, regions = renderer.render(people, views)
        strips += [encode_strip(person) for person in images.reshape(len(part), settings.images, settings.size, settings.size)]
        columns["regions"].append(regions)
        columns["nuisance"].append(np.stack(list(views.values.values()), axis=1).astype(np.float32))
        columns["traits"].append(np.concatenate([np.stack(list(people.traits.values()), axis=1), people.shape], axis=1).astype(np.float32))
        columns["attributes"].append(np.stack(list(people.attributes().values()), axis=1).astype(np.int8))
        tell(len(images))
    arrays = {name: np.concatenate(parts) for name, parts in columns.items()}
    regions = lzma.compress(np.ascontiguousarray(arrays["regions"]).tobytes(), preset=9 | lzma.PRESET_EXTREME)
    arrays["regions"] = np.frombuffer(regions, dtype=np.uint8)
    arrays["strips"] = np.frombuffer(b"".join(strips), dtype=np.uint8)
    arrays["offsets"] = np.cumsum([0, *map(len, strips)], dtype=np.int64)
    file = io.BytesIO()
    np.savez(file, **dict(sorted(arrays.items())))
    return file.getvalue()


def write_shard(folder: Path, settings: Settings, renderer: Any, number: int, tell: Callable[[int], Any]) -> str:
    """Render shard `number` into its file; its SHA-256."""
    content = render_shard(settings, renderer, number, tell)
    with atomic_write(folder / shard_name(number)) as file:
        file.write(content)
    return hashlib.sha256(content).hexdigest()
