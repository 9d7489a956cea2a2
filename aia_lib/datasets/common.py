"""What the sources share: where files lie, how label files are read, and what is said when they are wrong.

A source is a module with two functions. `locate(root)` finds the folders and label files and reads none of them, so that a second load
costs no parsing; `index(layout, paths)` reads the label files and says who is on each image.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import unicodedata
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..machine.files import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".pgm", ".webp")


@dataclass(frozen=True)
class Crop:
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


@dataclass(frozen=True)
class Layout:
    """Where a source's files lie.

    Attributes:
        source: its name in `SOURCES`.
        base: the folder that image paths are relative to.
        folders: image folders, relative to `base` ("" is `base` itself).
        nested: True where each image folder holds one folder a person, False where it holds the images.
        labels: label files by what they say ("attributes", "identity", …).
        crop: the square that is cut out of each image.
        licence: the terms of the data, in words.
    """

    source: str
    base: Path
    folders: tuple[str, ...]
    nested: bool
    labels: dict[str, Path]
    crop: Crop
    licence: str


@dataclass(frozen=True)
class Listing:
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


@dataclass(frozen=True)
class Index:
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
    left_out: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def subset(self, rows: np.ndarray) -> Index:
        """The images in `rows`; people who have none left are dropped and the others numbered again."""
        codes, identity = np.unique(self.identity[rows], return_inverse=True)
        return Index(
            [self.paths[i] for i in rows],
            identity.astype(np.int64),
            tuple(self.names[code] for code in codes),
            {name: values[rows] for name, values in self.attributes.items()},
            self.left_out,
            self.notes,
        )


# ---------------------------------------------------------------------------------------------------------------- folders


def check_root(source: str, root: str | os.PathLike | None) -> Path:
    """`root` as a path, if it is a folder that can be listed; else a `UserError`."""
    if root is None:
        raise UserError(f"The source {source!r} needs root=, the folder that holds its images.")
    try:
        root = Path(root).expanduser()
        exists = root.exists()
    except (OSError, RuntimeError) as error:  # a folder above it is closed, or there is no such home
        raise UserError(f"{root} cannot be opened ({error}). Give the folder that holds the data set {source!r}.") from error
    if not exists:
        raise UserError(f"{root}: there is no such folder. Give the folder that holds the data set {source!r}.")
    if not root.is_dir():
        if root.suffix.lower() == ".zip":
            check_zip(root)
            raise UserError(f"{root} is an archive; unpack it and give the folder.")
        raise UserError(f"{root} is a file, not a folder. Give the folder that holds the data set {source!r}.")
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
        raise UserError(f"{folder} cannot be listed ({error.strerror}). Make the folder readable, or give another one.") from error


def find_file(folders: Iterable[Path], names: Sequence[str]) -> Path | None:
    """The first of `names` that exists as a file in one of `folders`; earlier folders first."""
    for folder in folders:
        for name in names:
            if (folder / name).is_file():
                return folder / name
    return None


def looks_like(root: Path) -> str | None:
    """The source whose layout `root` seems to have, judged by names alone; None where it resembles none."""
    folders = subfolders(root)

    def has(*names: str) -> bool:
        return any((root / name).exists() for name in names)

    if has("img_align_celeba", "celeba/img_align_celeba", "list_attr_celeba.txt", "list_attr_celeba.csv", "Img/img_align_celeba"):
        return "celeba"
    classes = [folder for place in ("", "train", "test") for folder in subfolders(root / place)[:50]]
    if has("identity_meta.csv", "meta/identity_meta.csv") or any(re.fullmatch(r"n\d{6}", folder) for folder in classes):
        return "vggface2"
    if has("lfw_funneled", "lfw-deepfunneled", "male_names.txt", "pairs.txt") or any(
        (root / folder / f"{folder}_0001.jpg").exists() for folder in folders[:50]
    ):
        return "lfw"
    if has("labels.csv"):
        return "folder"
    if (root / "files").is_dir() or (folders and any(is_name_gender(path) for path in root.glob("*.csv"))):
        return "vggface"
    return None


def is_name_gender(path: Path) -> bool:
    """Whether `path` is a CSV whose header has the columns name and gender."""
    try:
        with open(path, "rb") as file:
            header = file.readline(1000).decode("utf-8-sig", "replace").lower()
    except OSError:  # a folder or an unreadable file: not the table that is looked for
        return False
    fields = {name.strip(' "\r\n') for name in re.split("[,;\t]", header)}
    return {"name", "gender"} <= fields


def wrong_layout(source: str, root: Path, expected: str) -> UserError:
    """The error for a root that does not have the layout of `source`; names the source it resembles, or an archive to unpack."""
    message = f"{root} does not hold the layout of {source!r}: {expected}."
    other = looks_like(root)
    archives = sorted(path.name for path in root.glob("*.zip"))
    if other and other != source:
        message += f" It looks like {other!r}: choose that source."
    elif archives:
        check_zip(root / archives[0])
        message += f" Unpack {archives[0]} first."
    return UserError(message)


def scan(layout: Layout) -> Listing:
    """List the image files, sorted by folder and name; a file that changes its size or time changes the digest.

    Raises:
        UserError: there are no images, or a folder cannot be read.
    """
    lines: list[str] = []
    other = stray = 0
    for top in layout.folders:
        people = [""]
        if layout.nested:
            people = subfolders(layout.base / top)
            stray += len(_files(layout.base / top, "")[0])
        for person in people:
            prefix = "/".join(part for part in (top, person) if part)
            images, others = _files(layout.base / prefix, f"{prefix}/" if prefix else "")
            lines += images
            other += others if prefix else 0  # label files lie beside the folders
    if not lines:
        places = ", ".join(str(layout.base / folder) for folder in layout.folders)
        inside = "one folder a person with images" if layout.nested else "images"
        raise UserError(f"No images in {places}: expected {inside} ({', '.join(IMAGE_SUFFIXES)}).")
    notes = []
    if other:
        notes.append(f"Files ignored because their names are not those of images: {other:,}.")
    if stray:
        notes.append(f"Images ignored because they lie beside the people's folders: {stray:,}.")
    return Listing(lines, hashlib.sha256(os.fsencode("".join(lines))).hexdigest(), tuple(notes))


def _files(folder: Path, prefix: str) -> tuple[list[str], int]:
    """The images in `folder`, sorted, as a `Listing`'s lines whose paths start with `prefix`; how many other files, hidden ones aside."""
    lines, other = [], 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:  # entries are not kept: each would hold its whole status, half a kilobyte
                name = entry.name
                if name.startswith(".") or entry.is_dir():
                    continue
                if not name.lower().endswith(IMAGE_SUFFIXES):
                    other += 1
                    continue
                try:
                    status = entry.stat()
                    lines.append(f"{prefix}{name}\0{status.st_size} {status.st_mtime_ns}\n")
                except FileNotFoundError:  # a link to nowhere: decoding will count it as unreadable
                    lines.append(f"{prefix}{name}\0-\n")
    except OSError as error:
        raise UserError(f"{folder} cannot be listed ({error.strerror}). Make the folder readable, or give another one.") from error
    return sorted(lines), other


# ------------------------------------------------------------------------------------------------------------ label files


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file, with or without a byte order mark, LF or CRLF; blank lines at the end are dropped.

    Raises:
        UserError: it cannot be read, is not UTF-8, or is empty.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from error
    content = content.removeprefix(b"\xef\xbb\xbf")
    try:
        lines = content.decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {number}: not UTF-8 text. Save the file as UTF-8.") from error
    lines = [line.removesuffix("\r") for line in lines]
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise UserError(f"{path} is empty.")
    return lines


def line_error(path: Path, number: int, text: str, problem: str) -> UserError:
    """The error for a line of a label file: names the file, the line's number and its text."""
    text = text if len(text) <= 80 else text[:77] + "…"
    return UserError(f"{path}, line {number}: {problem}: {text!r}")


def some(names: Sequence[str], count: int = 3) -> str:
    """The first few names, for a message."""
    return ", ".join(names[:count]) + (", …" if len(names) > count else "")


def check_all_listed(path: Path, missing: Sequence[str], what: str) -> None:
    """Raise a `UserError` where images or people on the disk, `missing`, have no line in the label file `path`."""
    if missing:
        raise UserError(
            f"{path} has no line for {len(missing):,} of the {what} on the disk: {some(missing)}. Add the lines, or move them away."
        )


def is_number(text: str) -> bool:
    """Whether `text` is a whole number, not negative, of at most nine digits."""
    return text.isascii() and text.isdecimal() and len(text) < 10


def match_name(name: str) -> str:
    """`name` as it is compared: one Unicode form, since file systems and tables write accents differently."""
    return unicodedata.normalize("NFC", name)


@dataclass(frozen=True)
class Table:
    """A CSV of people: `columns` beside the key column; `rows` by key, one text a column; `line` of each key."""

    path: Path
    columns: tuple[str, ...]
    rows: dict[str, list[str]]
    line: dict[str, int]


def read_table(path: Path, key: str, normalise: Callable[[str], str] = match_name) -> Table:
    """Read a CSV with a header; `key` names the column that identifies a row (upper or lower case).

    Comma, semicolon or tab separate; spaces around fields and empty fields at a line's end are dropped; fields may be quoted.

    Raises:
        UserError: naming file, line number and text of a malformed line, a repeated key, or a header that lacks `key` or repeats a name.
    """
    lines = read_lines(path)
    delimiter = max(",;\t", key=lines[0].count)

    def fields_of(number: int, text: str) -> list[str]:
        try:
            fields = next(csv.reader([text], delimiter=delimiter, skipinitialspace=True, strict=True), [])
        except csv.Error as error:
            raise line_error(path, number, text, f"malformed ({error})") from error
        return [value.strip() for value in fields]

    header = fields_of(1, lines[0])
    while header and not header[-1]:
        header.pop()
    lowered = [name.casefold() for name in header]
    if key.casefold() not in lowered:
        raise line_error(path, 1, lines[0], f"the header must name a column {key!r}")
    if "" in lowered or len(set(lowered)) < len(lowered):
        raise line_error(path, 1, lines[0], "the header names a column twice or not at all")
    position = lowered.index(key.casefold())
    rows: dict[str, list[str]] = {}
    line: dict[str, int] = {}
    for number, text in enumerate(lines[1:], start=2):
        fields = fields_of(number, text)
        while len(fields) > len(header) and not fields[-1]:
            fields.pop()
        if len(fields) != len(header):
            raise line_error(path, number, text, f"{len(fields)} fields where the header has {len(header)}")
        name = normalise(fields.pop(position))
        if not name:
            raise line_error(path, number, text, f"no {key}")
        if name in rows:
            raise line_error(path, number, text, f"{name!r} is listed a second time (first on line {line[name]})")
        rows[name], line[name] = fields, number
    if not rows:
        raise UserError(f"{path} has a header and no lines below it.")
    columns = tuple(name for i, name in enumerate(header) if i != position)
    return Table(path, columns, rows, line)


_VOCABULARIES = (
    {"0": 0, "1": 1},
    {"-1": 0, "1": 1},
    {"no": 0, "yes": 1},
    {"n": 0, "y": 1},
    {"false": 0, "true": 1},
    {"f": 0, "m": 1},
    {"f": 0, "t": 1},
    {"female": 0, "male": 1},
    {"woman": 0, "man": 1},
)


def binary_column(table: Table, column: str) -> tuple[dict[str, int] | None, str]:
    """Read a column of a table as 1, 0 and -1 (missing, an empty field), in upper or lower case.

    0/1, -1/1, no/yes, n/y, false/true, f/t, f/m, female/male, woman/man are read as 0/1. Any other two values are read in alphabetical
    order, the first as 0; a single other value is read as 0.

    Returns:
        The values by the table's key, or None where there are more than two values; and a note on what was decided, or "".
    """
    position = table.columns.index(column)
    texts = {name: fields[position].casefold() for name, fields in table.rows.items()}
    values = sorted(set(texts.values()) - {""})
    if len(values) > 2:
        return None, f"The column {column!r} of {table.path.name} has {len(values)} values ({some(values)}), not two."
    code = next((words for words in _VOCABULARIES if set(values) <= set(words)), None)
    note = ""
    if code is None:
        code = {value: i for i, value in enumerate(values)}
        note = (
            f"The column {column!r} of {table.path.name} is read in alphabetical order: "
            + ", ".join(f"{v!r} is {i}" for v, i in code.items())
            + "."
        )
    elif column.casefold() in ("gender", "sex") and values and set(values) <= {"-1", "0", "1"}:
        note = f"The numbers in the column {column!r} of {table.path.name} are read as 1 = male."
    elif not values:
        note = f"The column {column!r} of {table.path.name} is empty: all its labels are missing."
    return {name: code[text] if text else -1 for name, text in texts.items()}, note


def index_people(
    layout: Layout, paths: list[str], table: Table, columns: Sequence[str] | None = None, normalise: Callable[[str], str] = match_name
) -> Index:
    """The index of a nested layout whose table says things about *people*: the folder is the person.

    Args:
        columns: which columns to read as attributes; default all. "gender" keeps its name in lower case.
        normalise: applied to folder names before they are looked up in the table.

    Raises:
        UserError: a person's folder has no line, or no column can be used.
    """
    folders = [path.rsplit("/", 2)[-2] for path in paths]
    names = tuple(sorted(set(folders)))
    code = {name: i for i, name in enumerate(names)}
    identity = np.fromiter((code[name] for name in folders), dtype=np.int64, count=len(paths))
    keys = [normalise(name) for name in names]
    check_all_listed(table.path, [name for name, key in zip(names, keys, strict=True) if key not in table.rows], "people")
    notes = []
    absent = len(table.rows) - len(set(keys))
    if absent:
        notes.append(f"People listed in {table.path.name} without images here: {absent:,}.")
    attributes, left_out = {}, {}
    for column in table.columns if columns is None else columns:
        values, note = binary_column(table, column)
        name = "gender" if column.casefold() == "gender" else column
        if note:
            notes.append(note if values is not None else note.removesuffix(".") + " and was left out.")
        if values is None:
            left_out[name] = note
        else:
            attributes[name] = np.array([values[key] for key in keys], dtype=np.int8)[identity]
    if not attributes:
        raise UserError(f"{table.path} has no column that can be used as an attribute. " + " ".join(left_out.values()))
    return Index(paths, identity, names, attributes, left_out, tuple(notes))


def majority(identity: np.ndarray, labels: np.ndarray, people: int) -> tuple[np.ndarray, int]:
    """Give all images of a person the label that most of them have; a tie goes to the person's first labelled image.

    Args:
        identity: codes 0 .. people-1, int64 (N,).
        labels: 1, 0 or -1 (missing), int8 (N,).

    Returns:
        labels int8 (N,), and how many people had both.
    """
    ones = np.bincount(identity[labels == 1], minlength=people)
    zeros = np.bincount(identity[labels == 0], minlength=people)
    first = np.full(people, -1, dtype=np.int8)
    known = np.flatnonzero(labels >= 0)[::-1]  # backwards, so that the first image is written last
    first[identity[known]] = labels[known]
    value = np.where(ones > zeros, 1, np.where(zeros > ones, 0, first)).astype(np.int8)
    return value[identity], int(((ones > 0) & (zeros > 0)).sum())
