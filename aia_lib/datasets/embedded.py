"""Rendered faces: the set that ships with the package, and sets that `aia data render` wrote.

Nobody's faces: heads of real geometry whose shape, hair, pose and light are drawn at random (`aia_render`). So everything is known
about them: a region mask of every image, how each was taken, what each person looks like. A set is a folder, whose form is told at
`aia_render.store`; reading one needs numpy and Pillow only.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import lzma
import os
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..faces import REGIONS, Faces
from ..machine.files import UserError, cores, explain_os_errors
from .cache import cached, write_header
from .common import Layout, check_root, choose_people, read_bytes, wrong_layout

LICENCE = "CC BY 4.0"

FORMAT = 1
"""The form of the folder: raise it when an older reader would misunderstand a new set."""

SHIPPED = Path(__file__).parents[1] / "embedded"
"""The set that comes with the package."""

SHIPPED_COMMAND = "aia data render --identities 1000 --images 10 --size 64 --seed 0 --out FOLDER"
"""What makes the shipped set again, bit for bit."""

IMAGE_ATTRIBUTES = {
    "smiling": {"smile": 0.25},
    "mouth_open": {"jaw_open": 0.1, "lip_part": 0.3},
}
"""Attributes of an image: 1 where one of these nuisance parameters reaches its threshold. Those of a person (gender, young, eyeglasses,
beard, long_hair) come with the set: `aia_render.people.People.attributes` defines them."""

IN_MEMORY = 20_000
"""Of more images than this, a memory-mapped cache is made; fewer are decoded anew each time, which takes a second."""

ONE_HEADER_AT_A_TIME = threading.Lock()
"""Around numpy's reading of arrays in threads: it parses a header with `ast.literal_eval`, whose depth counter threads share in
CPython 3.11, so that once in a great while two of them raise "AST constructor recursion depth mismatch"."""

_CODE_VERSION = 1
"""Part of the cache's key: raise it when decoding or shrinking changes what it gives."""


def locate(root: Path | None) -> Layout:
    """The folder of the set, `root`, or where that is None of the one that ships (a `UserError` where this copy comes without one)."""
    path = (root or SHIPPED) / "manifest.json"
    if root is not None and not path.is_file():
        raise wrong_layout("embedded", root, "it has no manifest.json as `aia data render` writes it")
    if not path.is_file():
        raise UserError(
            f"This copy of aia-book comes without its embedded faces. Render them (needs the extra `render`): {SHIPPED_COMMAND}, "
            "and give that folder as root."
        )
    return Layout("embedded", path.parent, {"manifest": path}, LICENCE)


def shard_name(number: int) -> str:
    """The file name of a set's shard `number`, from 0."""
    return f"faces-{number:05d}.npz"


def manifest(root: str | os.PathLike | None = None) -> dict[str, Any]:
    """What a set says about itself: its settings, the versions that made it, its columns, the SHA-256 of its shards and of their content.

    Args:
        root: the folder of a rendered set; None is the one that ships.

    Raises:
        UserError: there is none, its manifest is damaged, or it is of another version.
    """
    path = locate(None if root is None else check_root("embedded", root)).labels["manifest"]
    content = read_bytes(path)
    try:
        about = json.loads(content)
        form = about["format"]
        sound = form != FORMAT or _is_sound(about)
    except (ValueError, KeyError, TypeError):
        sound = False
    if not sound:
        raise UserError(f"{path} is damaged or not of a rendered set. Choose another folder, or render one with aia data render.")
    if form != FORMAT:
        raise UserError(f"{path} has the format {form!r}, and this version of aia-book reads {FORMAT}. Update it, or render the set again.")
    return about


def _is_sound(about: dict[str, Any]) -> bool:
    """Whether the entries of a manifest fit together; one that is missing or of another type may raise instead."""
    people, shard = about["identities"], about["shard"]
    whole = [(shard_name(i), first, min(shard, people - first)) for i, first in enumerate(range(0, people, shard))]
    listed = [(entry["file"], entry["first"], entry["identities"]) for entry in about["shards"] if type(entry["sha256"]) is str]
    if about["complete"]:
        fits = listed == whole and {"images", "regions", "parameters"} <= set(about["sha256"])
    else:
        fits = set(listed) <= set(whole) and len(listed) == len(about["shards"])
    return (
        fits
        and all(type(about[name]) is int and about[name] >= (name != "seed") for name in ("identities", "images", "size", "seed"))
        and all(type(name) is str for column in ("nuisance", "traits", "shape", "attributes") for name in about[column])
        and about["regions"] == list(REGIONS)
    )


class Shard(NamedTuple):
    """Images of a set, decoded: N images of S x S pixels of P people, in order of person and image.

    Attributes:
        images, regions: uint8 (N, S, S).
        nuisance: float32 (N, C), columns as the manifest's `nuisance`.
        traits: float32 (P, T), columns as the manifest's `traits` and then its `shape`.
        attributes: int8 (P, A), 0 or 1, columns as the manifest's `attributes`.
    """

    images: np.ndarray
    regions: np.ndarray
    nuisance: np.ndarray
    traits: np.ndarray
    attributes: np.ndarray


def read_shard(folder: Path, about: dict[str, Any], position: int, rows: np.ndarray) -> Shard:
    """Read the shard at `position` of the manifest `about`. A `UserError` where it is missing or not the one whose SHA-256 is there.

    `rows` are those of its images that are wanted, from 0, ascending, int64. The pictures of other people are not decoded.
    """
    entry, size, images = about["shards"][position], about["size"], about["images"]
    path = folder / entry["file"]
    mend = "Fetch the set again, or delete the file and repeat the `aia data render` that made the set."
    if not path.exists():
        raise UserError(f"{path} is missing from the set of rendered faces. {mend}")
    content = read_bytes(path)
    digest = hashlib.sha256(content).hexdigest()
    if digest != entry["sha256"]:
        raise UserError(f"{path} is damaged or altered: its SHA-256 is {digest[:12]}…, the manifest has {entry['sha256'][:12]}…. {mend}")
    count = entry["identities"]
    people, person = np.unique(rows // images, return_inverse=True)
    try:
        with ONE_HEADER_AT_A_TIME, np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("strips", "offsets", "regions", "nuisance", "traits", "attributes")}
        strips, offsets = arrays["strips"].tobytes(), arrays["offsets"]
        pixels = np.empty((len(people), images, size, size), dtype=np.uint8)
        for row, i in zip(pixels, people, strict=True):
            with Image.open(io.BytesIO(strips[offsets[i] : offsets[i + 1]]), formats=["JPEG"]) as strip:
                row[:] = np.asarray(strip).reshape(size, images, size).transpose(1, 0, 2)
        return Shard(
            pixels[person, rows % images],
            np.frombuffer(lzma.decompress(arrays["regions"].tobytes()), dtype=np.uint8).reshape(count * images, size, size)[rows],
            arrays["nuisance"].reshape(count * images, len(about["nuisance"]))[rows],
            arrays["traits"].reshape(count, len(about["traits"]) + len(about["shape"]))[people],
            arrays["attributes"].reshape(count, len(about["attributes"]))[people],
        )
    except (ValueError, KeyError, IndexError, OSError, EOFError, lzma.LZMAError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} does not hold what its manifest says ({error}). {mend}") from error


def read_shards(folder: Path, about: dict[str, Any], rows: np.ndarray | None = None, size: int | None = None) -> Iterator[Shard]:
    """The shards of a complete set in order, decoded in threads, a few of them in memory at a time.

    Args:
        folder, about: the set and its manifest.
        rows: which images, ascending, int64; of the other people nothing is read. Default all.
        size: side that images and regions are shrunk to, in pixels, at most the set's.
    """
    rows = np.arange(about["identities"] * about["images"]) if rows is None else rows
    firsts = np.array([shard["first"] for shard in about["shards"]]) * about["images"]
    parts = np.split(rows, np.searchsorted(rows, firsts[1:]))
    wanted = [(position, part - first) for position, (part, first) in enumerate(zip(parts, firsts, strict=True)) if len(part)]

    def read(part: tuple[int, np.ndarray]) -> Shard:
        shard = read_shard(folder, about, *part)
        if size is None or size == about["size"]:
            return shard
        return shard._replace(images=shrink_images(shard.images, size), regions=shrink_regions(shard.regions, size))

    workers = min(8, cores())
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(wanted), workers):
            yield from pool.map(read, wanted[start : start + workers])


def shrink_images(images: np.ndarray, size: int) -> np.ndarray:
    """Images uint8 (N, S, S) by area averaging to (N, size, size)."""
    old = images.shape[1]
    shrunk = np.empty((len(images), size, size), dtype=np.uint8)
    for image, small in zip(images, shrunk, strict=True):
        picture = Image.fromarray(image)
        small[:] = picture.reduce(old // size) if old % size == 0 else picture.resize((size, size), Image.Resampling.BOX)
    return shrunk


def shrink_regions(regions: np.ndarray, size: int) -> np.ndarray:
    """Masks uint8 (N, S, S) to (N, size, size): the region most frequent in each block of pixels, of equals the one with the higher code.

    Brows and glasses are thin and have high codes: they outlive the skin. Where S is no multiple of `size`, the nearest pixel.
    """
    old = regions.shape[1]
    if old % size:
        nearest = ((np.arange(size) + 0.5) * old / size).astype(np.int64)
        return regions[:, nearest[:, None], nearest]
    step = old // size
    corners = [regions[:, y::step, x::step] for y in range(step) for x in range(step)]  # step² views (N, size, size)
    best = np.zeros((len(regions), size, size), dtype=np.uint16)  # 16 times the count of a code, plus the code
    for code in range(len(REGIONS)):
        count = np.zeros(best.shape, dtype=np.uint16)
        for corner in corners:
            count += corner == code
        np.maximum(best, 16 * count + np.uint16(code), out=best)
    return (best & 15).astype(np.uint8)


def load_rendered(layout: Layout, size: int, attribute: str, limit: int | None, seed: int, place: Path, progress: bool) -> Faces:
    """The work of `load_faces` for this source; arguments as there, checked. `place` is the cache's folder.

    A `UserError` where the set is incomplete or damaged, smaller than `size`, or has no such attribute.
    """
    folder, about = layout.base, manifest(layout.base)
    people, images = about["identities"], about["images"]
    if not about["complete"]:
        done = sum(shard["identities"] for shard in about["shards"])
        raise UserError(f"{folder} is not finished: it has {done:,} of its {people:,} people. Go on with: {command(about)} --out {folder}")
    names = [*about["attributes"], *IMAGE_ATTRIBUTES]
    if attribute not in names:
        raise UserError(f"There is no attribute {attribute!r} in embedded; there are: {', '.join(sorted(names))}.")
    if size > about["size"]:
        larger = -(-size // 8) * 8
        way = f"Render a larger one: {command(about | {'size': larger})} --out FOLDER" if larger <= 256 else "256 pixels are the most"
        raise UserError(f"The faces in {folder} have {about['size']} x {about['size']} pixels and cannot be loaded at {size}. {way}.")
    rows, drawn = np.arange(people * images), None
    if limit is not None and limit < len(rows):
        rows, drawn = choose_people(rows // images, limit, seed), [limit, seed]
    settings = {"code": _CODE_VERSION, "set": about["sha256"], "size": size, "limit": drawn}
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    shapes = {"images": (len(rows), 1, size, size), "regions": (len(rows), size, size)}
    mapped = len(rows) > IN_MEMORY
    decode = functools.partial(_decode, folder, about, rows, size, progress and mapped)
    if mapped:
        content = cached(place / f"embedded-{size}-{key[:20]}", _read_entry, lambda entry: _write_entry(entry, shapes, decode))
    else:
        pixels = {name: io.BytesIO() for name in shapes}
        content = decode(pixels)
        content |= {name: np.frombuffer(pixels[name].getbuffer(), dtype=np.uint8).reshape(shape) for name, shape in shapes.items()}
    notes = []
    if size < about["size"]:
        notes.append(f"Images of {about['size']} x {about['size']} pixels, averaged to {size} x {size}.")
    elif drawn is None and not mapped and hashlib.sha256(content["images"].data).hexdigest() != about["sha256"]["images"]:
        notes.append("This Pillow decodes the images slightly differently from the one that the set was made with.")
    identity = np.unique(rows // images, return_inverse=True)[1]
    nuisance = dict(zip(about["nuisance"], content["nuisance"], strict=True))
    attributes = {name: values[identity] for name, values in zip(about["attributes"], content["attributes"], strict=True)}
    for name, thresholds in IMAGE_ATTRIBUTES.items():
        attributes[name] = np.any([nuisance[column] >= least for column, least in thresholds.items()], axis=0).astype(np.int8)
    return Faces(
        images=content["images"],
        identity=identity,
        attributes=attributes,
        attribute=attribute,
        source="embedded",
        licence=about["licence"],
        split_seed=seed,
        notes=tuple(notes),
        cache_key=key,
        regions=content["regions"],
        nuisance=nuisance,
        traits=dict(zip([*about["traits"], *about["shape"]], content["traits"], strict=True)),
    )


def command(about: dict[str, Any]) -> str:
    """The command that renders a set with these settings, without its --out."""
    return "aia data render " + " ".join(f"--{name} {about[name]}" for name in ("identities", "images", "size", "seed"))


def _decode(
    folder: Path, about: dict[str, Any], rows: np.ndarray, size: int, progress: bool, pixels: dict[str, IO[bytes]]
) -> dict[str, np.ndarray]:
    """Append images and regions to the files in `pixels`; nuisance float32 (C, N), traits float32 (T, P), attributes int8 (A, P)."""
    columns: dict[str, list[np.ndarray]] = {"nuisance": [], "traits": [], "attributes": []}
    with tqdm(total=len(rows), desc="Decoding embedded", unit="image", disable=not progress) as bar:
        for shard in read_shards(folder, about, rows, size):
            for name, file in pixels.items():
                file.write(np.ascontiguousarray(getattr(shard, name)).data)
            for name, parts in columns.items():
                parts.append(getattr(shard, name))
            bar.update(len(shard.images))
    return {name: np.ascontiguousarray(np.concatenate(parts).T) for name, parts in columns.items()}


def _write_entry(entry: Path, shapes: dict[str, tuple[int, ...]], decode: Callable[[dict[str, IO[bytes]]], dict[str, np.ndarray]]) -> None:
    """Fill an entry of the cache with five .npy files, of what `decode` gives and of the images and regions in `shapes`."""
    with contextlib.ExitStack() as stack:
        # Plain writes: on a full disk they fail with an error, where writing to a memory map would kill the process.
        pixels = {name: stack.enter_context(open(entry / f"{name}.npy", "wb")) for name in shapes}
        for name, shape in shapes.items():
            write_header(pixels[name], shape)
        columns = decode(pixels)
    for name, values in columns.items():
        np.save(entry / f"{name}.npy", values)


def _read_entry(entry: Path) -> dict[str, np.ndarray] | None:
    """The cache's entry as read-only memory maps; None where there is none or it is damaged."""
    try:
        with explain_os_errors(entry):
            return {
                name: np.load(entry / f"{name}.npy", mmap_mode="r") for name in ("images", "regions", "nuisance", "traits", "attributes")
            }
    except (FileNotFoundError, ValueError, EOFError):
        return None
