"""Sets of rendered faces on the disk: rendered in shards, by several processes, stopped and gone on with at will.

A set is a folder:

* `manifest.json`: the settings, the versions that made it, the names of all columns, the shards with their SHA-256, and once it is complete
  the SHA-256 of all decoded images, of all regions and of all parameters, which do not depend on the shards.
* `faces-00000.npz` …: some people each, in numpy's form without pickles. With P people of K images of S x S pixels:
    `strips` uint8: one grey JPEG a person, K * S wide and S high, one after the other; `offsets` int64 (P + 1,) tells where each begins.
        The images are what the JPEGs decode to. S is a multiple of 8, the side of JPEG's blocks: a strip decodes to the same pixels as K
        files would.
    `regions` uint8: the masks (P * K, S, S), codes of `aia_lib.faces.REGIONS`, compressed by LZMA.
    `nuisance` float32 (P * K, C), `traits` float32 (P, T + L), traits and then shape changes, `attributes` int8 (P, A).

All that is random about a person depends on the seed and the person's number, so neither the size of the shards nor the number of processes
changes a pixel. On the CPU people are rendered one at a time with one thread, so that sums are added up in the same order everywhere.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from aia_lib.datasets.embedded import FORMAT, LICENCE, command, manifest, read_shards, shard_name
from aia_lib.faces import REGIONS
from aia_lib.machine.files import UserError, cores, explain_os_errors, write_json
from aia_lib.machine.workfolder import WorkFolder
from aia_lib.scale.pool import Failure, in_processes, threads_limited

from . import GENERATOR_VERSION, require_extra
from .people import sample_people
from .shards import Settings, write_shard
from .views import sample_views

SIZES = range(32, 257, 8)
"""Sides of an image in pixels: the blocks of a JPEG are 8 x 8."""

MAX_STRIP = 65_500
"""Pixels that a JPEG can be wide."""

SHARD_IMAGES = 1000
"""At most about as many images are in a shard where nobody says: each process loses that much when it is killed."""

BYTES_PER_PIXEL = 0.5
"""A rough upper bound of what a set takes on the disk."""

PACKAGES = ("anny", "warp-lang", "torch", "numpy", "pillow")
"""Their versions are part of a set's settings: another one may change a pixel."""


@dataclass(frozen=True)
class Rendered:
    """What `render_set` did: the set's folder, its settings, how many images were rendered now, in how many seconds, bytes on the disk."""

    folder: Path
    settings: Settings
    images: int
    seconds: float
    bytes: int


def render_set(
    identities: int,
    images: int = 10,
    size: int = 64,
    seed: int = 0,
    *,
    out: str | os.PathLike,
    shard: int | None = None,
    workers: int | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Rendered:
    """Render a set of faces into the folder `out`, or go on with the one that is there. Load it with load_faces("embedded", root=out).

    Finished shards of a set with the same settings are kept, if their SHA-256 is right. A kill at any moment costs the shards that are in
    work at most. On the CPU the same settings give the same bytes.

    Args:
        identities: how many people.
        images: of each person, at least 2, since verification needs pairs.
        size: side of an image in pixels, a multiple of 8 from 32 to 256.
        seed: not negative. Sets of one seed have the same first people.
        out: a new or empty folder, or one that holds the beginning of this set.
        shard: people in a file; default what the folder has, else an eighth of all, and at most about 1000 images.
        workers: processes on the CPU; default one for each core, at most one for each shard. A GPU has one.
        device: "cpu", "cuda", or "auto", the GPU where there is one.
        progress: show a bar.

    Raises:
        UserError: a setting is out of range; the extra `render` is not installed; `out` holds something else, is in use by another
            process, or cannot be written; the disk is full; a process was killed.
    """
    for name, value, least in (("identities", identities, 1), ("images", images, 2), ("seed", seed, 0)):
        _check_number(name, value, least)
    for name, value in (("shard", shard), ("workers", workers)):
        if value is not None:
            _check_number(name, value, 1)
    if isinstance(size, bool) or size not in SIZES:
        raise UserError(f"The size must be a multiple of 8 from {SIZES[0]} to {SIZES[-1]} pixels, not {size!r}; 64 is usual.")
    if images * size > MAX_STRIP:
        raise UserError(f"The images of a person must not be more than {MAX_STRIP // size} at {size} pixels, not {images}.")
    folder = Path(out).expanduser()
    work = WorkFolder(folder, "rendered set", "manifest.json")
    _check_folder(work)
    require_extra()
    device = _pick_device(device)
    if device != "cpu" and workers not in (None, 1):
        raise UserError(f"Several workers are for the CPU; on a GPU one process renders, not {workers}. Leave workers out.")
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    settings = Settings(identities, images, size, seed, shard or 0, device, GENERATOR_VERSION, versions)
    with work.alone():
        settings, about = _begin(work, settings, shard is None)
        return _fill(folder, settings, about, workers, progress)


def _check_number(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least or value > 10**9:
        raise UserError(f"{name} must be a whole number of at least {least}, not {value!r}.")


def _check_folder(work: WorkFolder) -> None:
    """Raise a UserError where the folder is a file or holds anything but a rendered set and hidden files."""
    work.check()
    if work.file.exists():
        about = manifest(work.path)
        known = {work.file.name, *(shard_name(number) for number in range(-(-about["identities"] // max(about["shard"], 1))))}
        foreign = sorted(path.name for path in work.path.iterdir() if path.name not in known and not path.name.startswith("."))
        if foreign:
            few = ", ".join(foreign[:3]) + (", …" if len(foreign) > 3 else "")
            raise UserError(f"{work.path} holds files that are not of its set ({few}). Move them away, or choose another folder.")


def _pick_device(name: str) -> str:
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"The device must be auto, cpu or cuda, not {name!r}.")
    if name == "cpu":
        return name
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if name == "cuda":
        raise UserError("There is no CUDA GPU that torch can use here. Render on the CPU: device cpu.")
    return "cpu"


def _begin(work: WorkFolder, settings: Settings, any_shard: bool) -> tuple[Settings, dict[str, Any]]:
    """The settings with the shard filled in, and the manifest: the one in `folder`, or a new one, which is written."""
    if work.file.exists():
        about = manifest(work.path)
        if any_shard:
            settings = Settings(**asdict(settings) | {"shard": about["shard"]})
        work.compare({name: about.get(name) for name in asdict(settings)}, asdict(settings))
        return settings, about
    if any_shard:
        settings = Settings(**asdict(settings) | {"shard": _usual_shard(settings)})
    people, views = sample_people(1, settings.seed), sample_views(range(1), settings.images, settings.seed)
    about = {
        "format": FORMAT,
        "complete": False,
        **asdict(settings),
        "licence": LICENCE,
        "command": command(asdict(settings)),
        "regions": list(REGIONS),
        "nuisance": list(views.values),
        "traits": list(people.traits),
        "shape": list(people.shape_names),
        "attributes": list(people.attributes()),
        "sha256": {},
        "shards": [],
    }
    write_json(work.file, about)
    return settings, about


def _usual_shard(settings: Settings) -> int:
    """People in a shard where nobody says: few enough for eight processes."""
    return max(1, min(SHARD_IMAGES // settings.images, -(-settings.identities // 8)))


def _fill(folder: Path, settings: Settings, about: dict[str, Any], workers: int | None, progress: bool) -> Rendered:
    """Render the shards that `folder` lacks, and complete its manifest."""
    for left in (*folder.glob(".faces-*.part"), *folder.glob(".manifest.json.*.part")):  # of killed processes: we hold the lock
        left.unlink(missing_ok=True)
    sound = [shard for shard in about["shards"] if _is_sound(folder / shard["file"], shard["sha256"])]
    done = {shard["first"] // settings.shard: shard for shard in sound}
    pending = [number for number in range(settings.shards) if number not in done]
    if not pending and about["complete"]:
        return Rendered(folder, settings, 0, 0.0, _bytes(folder))
    missing = sum(len(settings.people(number)) for number in pending) * settings.images
    _check_space(folder, round(missing * settings.size**2 * BYTES_PER_PIXEL))

    def publish(number: int, digest: str) -> None:
        people = settings.people(number)
        done[number] = {"file": shard_name(number), "first": people.start, "identities": len(people), "sha256": digest}
        write_json(folder / "manifest.json", about | {"complete": False, "sha256": {}, "shards": [done[i] for i in sorted(done)]})

    start = time.perf_counter()
    workers = min(workers or (cores() if settings.device == "cpu" else 1), len(pending))
    total = settings.identities * settings.images
    with tqdm(total=total, initial=total - missing, desc="Rendering faces", unit="image", disable=not progress) as bar:
        for number, digest in _rendered(folder, settings, pending, workers):
            publish(number, digest)
            bar.update(len(settings.people(number)) * settings.images)
    seconds = time.perf_counter() - start
    about = about | {"complete": True, "shards": [done[number] for number in sorted(done)]}
    write_json(folder / "manifest.json", about | {"sha256": _content_digests(folder, about)})
    return Rendered(folder, settings, missing, seconds, _bytes(folder))


def _rendered(folder: Path, settings: Settings, pending: list[int], workers: int) -> Iterator[tuple[int, str]]:
    """Render the shards; the number and the SHA-256 of each that is finished."""
    if workers <= 1:
        with threads_limited(1):
            for number in pending:
                yield number, _render((folder, settings), number)
        return
    # What the first has to build, in the cache of heads and kernels, the others find there.
    for some in (pending[:1], pending[1:]):
        with contextlib.closing(in_processes(_render, (folder.absolute(), settings), some, workers)) as results:
            for number, result in results:
                if isinstance(result, Failure):
                    raise (
                        RuntimeError(result.details) if result.details else UserError(f"{shard_name(number)}: {result.reason.rstrip('.')}.")
                    )
                yield number, result


def _render(shared: tuple[Path, Settings], number: int) -> str:
    """Render one shard; its SHA-256."""
    folder, settings = shared
    with explain_os_errors(folder):
        return write_shard(folder, settings, _renderer(settings.size, settings.device), number)


@functools.cache
def _renderer(size: int, device: str) -> Any:
    from .scene import Renderer

    return Renderer(size=size, device=device)


def _is_sound(path: Path, digest: str) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == digest
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from error


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if not path.name.startswith("."))


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"{folder}: {needed / 1e6:,.0f} MB are needed and {free / 1e6:,.0f} MB are free. Free some, or choose another folder; what was "
            "finished before is kept."
        )


def _content_digests(folder: Path, about: dict[str, Any]) -> dict[str, str]:
    """SHA-256 of all decoded images, of all regions, and of nuisance, traits and attributes; persons and images in order."""
    digests = {name: hashlib.sha256() for name in ("images", "regions", "nuisance", "traits", "attributes")}
    for shard in read_shards(folder, about):
        for name, digest in digests.items():
            digest.update(np.ascontiguousarray(getattr(shard, name)).data)
    parameters = "".join(digests[name].hexdigest() for name in ("nuisance", "traits", "attributes"))
    return {
        "images": digests["images"].hexdigest(),
        "regions": digests["regions"].hexdigest(),
        "parameters": hashlib.sha256(parameters.encode()).hexdigest(),
    }
