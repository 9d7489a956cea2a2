"""What the sources share: where files lie, who is on them, and what is said when they are wrong.

A source is a module with two functions. `locate(root)` finds the folders and label files in a folder and reads none of them, so that a
second load costs no parsing. `index(layout, paths)` reads the label files and says who is on each image. Both raise `UserError`:
`WrongLayout` where the folder holds something else, others where a label file is missing, malformed, or lacks what is on the disk.
"""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..machine.files import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".pgm", ".webp")


class Crop(NamedTuple):
    """The square that is cut out, relative to the image, so that a half-size copy of a data set gives the same faces.

    Attributes:
        side: its side, as a share of the image's shorter side, in (0, 1].
        x, y: its centre, as shares of the image's width and height. The square is moved inside where it would stick out.
    """

    side: float = 1.0
    x: float = 0.5
    y: float = 0.5

    def box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in pixels, within an image of `width` x `height`."""
        side = self.side * min(width, height)
        left = min(max(self.x * width - side / 2, 0.0), width - side)
        top = min(max(self.y * height - side / 2, 0.0), height - side)
        return left, top, min(left + side, width), min(top + side, height)


WHOLE = Crop()
"""The largest square in the middle."""


class Layout(NamedTuple):
    """Where a source's files lie.

    Attributes:
        source: its name in `SOURCES`.
        base: the folder that image paths are relative to.
        labels: label files by what they say ("attributes", "identity", …).
        licence: the terms of the data, in words.
        folders: image folders, relative to `base` ("" is `base` itself).
        nested: True where each image folder holds one folder a person, False where it holds the images.
        crop: the square that is cut out of each image.
    """

    source: str
    base: Path
    labels: dict[str, Path]
    licence: str
    folders: tuple[str, ...] = ("",)
    nested: bool = True
    crop: Crop = WHOLE


class Listing(NamedTuple):
    """The image files of a layout.

    Attributes:
        lines: for each file, in order, its path relative to the layout's base, NUL, size and time of modification in ns, newline.
        digest: SHA-256 of the lines, as hexadecimal digits.
        notes: files that were passed over, one sentence each.
    """

    lines: list[str]
    digest: str
    notes: tuple[str, ...]

    @property
    def paths(self) -> list[str]:
        """The files' paths, made when they are needed: a load from the cache does not."""
        return [line[: line.index("\0")] for line in self.lines]


class Index(NamedTuple):
    """Who is on each image and what is labelled.

    Attributes:
        paths: N image paths, relative to the layout's base.
        identity: int64 (N,), codes into `names`.
        names: the people's names, sorted.
        attributes: name -> int8 (N,): 1, 0, -1 = missing.
        left_out: attributes that could not be used, with the reason.
        notes: what was decided, one sentence each.
    """

    paths: list[str]
    identity: np.ndarray
    names: tuple[str, ...]
    attributes: dict[str, np.ndarray]
    left_out: dict[str, str]
    notes: tuple[str, ...]

    def subset(self, rows: np.ndarray) -> Index:
        """The images in `rows`; people who have none left are dropped and the others numbered again."""
        codes, identity = np.unique(self.identity[rows], return_inverse=True)
        attributes = {name: values[rows] for name, values in self.attributes.items()}
        names = tuple(self.names[code] for code in codes)
        return self._replace(paths=[self.paths[i] for i in rows], identity=identity.astype(np.int64), names=names, attributes=attributes)


def choose_people(identity: np.ndarray, limit: int, seed: int) -> np.ndarray:
    """Rows of whole people, in a random order until there are `limit` images; the last person is cut. int64 (limit,), sorted."""
    people = int(identity.max()) + 1
    turn = np.empty(people, dtype=np.int64)
    turn[np.random.default_rng(seed).permutation(people)] = np.arange(people)
    return np.sort(np.argsort(turn[identity], kind="stable")[:limit])


def some(names: Sequence[str], count: int = 3) -> str:
    """The first few names, for a message."""
    return ", ".join(names[:count]) + (", …" if len(names) > count else "")


def read_bytes(path: Path) -> bytes:
    """The content of a file; a `UserError` where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from error


def check_root(source: str, root: str | os.PathLike | None) -> Path:
    """`root` as a path, if it is a folder that can be listed; else a `UserError`."""
    if root is None:
        raise UserError(f"The source {source!r} needs root=, the folder that holds its images.")
    way_out = f"Give the folder that holds the data set {source!r}."
    try:
        root = Path(root).expanduser()
        exists = root.exists()
    except (OSError, RuntimeError) as error:  # a folder above it is closed, or there is no such home
        raise UserError(f"{root} cannot be opened ({error}). {way_out}") from error
    if root.is_file() and root.suffix.lower() == ".zip":
        check_zip(root)
        raise UserError(f"{root} is an archive; unpack it and give the folder.")
    if not root.is_dir():
        raise UserError(f"{root}{' is a file, not a folder' if exists else ': there is no such folder'}. {way_out}")
    subfolders(root)  # says so if it cannot be listed
    return root


def check_zip(path: Path) -> None:
    """Raise a `UserError` where `path` is not a ZIP archive; a download's quota page saved under that name is recognised."""
    if zipfile.is_zipfile(path):
        return
    with open(path, "rb") as file:
        start = file.read(1024).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        raise UserError(
            f"{path} is a web page, not an archive: the server answered with its quota or warning page. Delete the file and try again "
            "tomorrow, fetch the archive with a browser, or use another mirror."
        )
    raise UserError(f"{path} is not a complete ZIP archive. Delete it and fetch it again.")


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in `folder`, sorted, without hidden ones; [] where `folder` does not exist."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _cannot_list(folder, error) from error


def _cannot_list(folder: Path, error: OSError) -> UserError:
    return UserError(f"{folder} cannot be listed ({error.strerror}). Make the folder readable, or give another one.")


def find_file(folders: Iterable[Path], *names: str, missing: str = "") -> Path | None:
    """The first of `names` that is a file in one of `folders`, earlier folders first; else None, or a `UserError` if `missing` says one."""
    path = next((path for folder in folders for name in names if (path := folder / name).is_file()), None)
    if path is None and missing:
        raise UserError(missing)
    return path


class WrongLayout(UserError):
    """A folder that does not have the layout of the source that it was given for."""


def wrong_layout(source: str, root: Path, expected: str) -> WrongLayout:
    """The error of a `root` where something that is `expected` of `source` is missing."""
    return WrongLayout(f"{root} does not hold the layout of {source!r}: {expected}.")


def scan(layout: Layout) -> Listing:
    """List the image files, sorted by folder and name; a `UserError` where there are none or a folder cannot be listed."""
    folders, stray = layout.folders, 0
    if layout.nested:
        stray = sum(len(_files(layout.base, top)[0]) for top in layout.folders)
        folders = [f"{top}/{person}".lstrip("/") for top in layout.folders for person in subfolders(layout.base / top)]
    listed = [_files(layout.base, folder) for folder in folders]
    lines = [line for images, _ in listed for line in images]
    if not lines:
        places = ", ".join(str(layout.base / folder) for folder in layout.folders)
        inside = "one folder a person with images" if layout.nested else "images"
        raise UserError(f"No images in {places}: expected {inside} ({', '.join(IMAGE_SUFFIXES)}).")
    notes = {
        "Files ignored because their names are not those of images": sum(other for _, other in listed),
        "Images ignored because they lie beside the people's folders": stray,
    }
    digest = hashlib.sha256(os.fsencode("".join(lines))).hexdigest()
    return Listing(lines, digest, tuple(f"{what}: {count:,}." for what, count in notes.items() if count))


def _files(base: Path, folder: str) -> tuple[list[str], int]:
    """The images in `base`/`folder`, sorted, as a `Listing`'s lines; how many other files there are, hidden ones aside."""
    lines, other = [], 0
    try:
        with os.scandir(base / folder) as entries:
            for entry in entries:  # entries are not kept: each would hold its whole status, half a kilobyte
                if entry.name.startswith(".") or entry.is_dir():
                    continue
                if not entry.name.lower().endswith(IMAGE_SUFFIXES):
                    other += 1
                    continue
                try:
                    status = entry.stat()
                    lines.append(f"{folder}/{entry.name}\0{status.st_size} {status.st_mtime_ns}\n")
                except FileNotFoundError:  # a link to nowhere: decoding will count it as unreadable
                    lines.append(f"{folder}/{entry.name}\0-\n")
    except OSError as error:
        raise _cannot_list(base / folder, error) from error
    return sorted(lines), other
