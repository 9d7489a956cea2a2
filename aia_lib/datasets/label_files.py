"""Label files: lines, numbers and tables of people, read so that every error names its line."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..faces import majority_labels
from ..machine.files import UserError
from .common import Index, read_bytes, some


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file, byte order mark or not, LF or CRLF, without blank ones at its end; a `UserError` if none is left."""
    content = read_bytes(path).removeprefix(b"\xef\xbb\xbf")
    try:
        lines = [line.removesuffix("\r") for line in content.decode("utf-8").split("\n")]
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {number}: not UTF-8 text. Save the file as UTF-8.") from error
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise UserError(f"{path} is empty.")
    return lines


def line_error(path: Path, number: int, text: str, problem: str) -> UserError:
    """The error for a line of a label file: names the file, the line's number and its text."""
    text = text if len(text) <= 80 else text[:77] + "…"
    return UserError(f"{path}, line {number}: {problem}: {text!r}")


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


class Table(NamedTuple):
    """A CSV of people: `columns` beside the key column; `rows` by key, one text a column."""

    path: Path
    columns: list[str]
    rows: dict[str, list[str]]


def read_table(path: Path, key: str, normalise: Callable[[str], str] = match_name) -> Table:
    """Read a CSV with a header; `key` names the column that identifies a row (upper or lower case).

    Comma, semicolon or tab separate; spaces around fields and empty fields at a line's end are dropped; fields may be quoted. A `UserError`
    names file, line number and text of a malformed line, a repeated key, or a header that lacks `key` or repeats a name.
    """
    lines = read_lines(path)
    delimiter = max(",;\t", key=lines[0].count)

    def fields_of(number: int, text: str, count: int) -> list[str]:
        """The fields of a line; past `count`, the empty ones at its end are dropped."""
        try:
            fields = next(csv.reader([text], delimiter=delimiter, skipinitialspace=True, strict=True), [])
        except csv.Error as error:
            raise line_error(path, number, text, f"malformed ({error})") from error
        while len(fields) > count and not fields[-1].strip():
            fields.pop()
        return [value.strip() for value in fields]

    header = fields_of(1, lines[0], 0)
    lowered = [name.casefold() for name in header]
    if key.casefold() not in lowered:
        raise line_error(path, 1, lines[0], f"the header must name a column {key!r}")
    if "" in lowered or len(set(lowered)) < len(lowered):
        raise line_error(path, 1, lines[0], "the header names a column twice or not at all")
    position = lowered.index(key.casefold())
    rows: dict[str, list[str]] = {}
    for number, text in enumerate(lines[1:], start=2):
        fields = fields_of(number, text, len(header))
        if len(fields) != len(header):
            raise line_error(path, number, text, f"{len(fields)} fields where the header has {len(header)}")
        name = normalise(fields.pop(position))
        if not name:
            raise line_error(path, number, text, f"no {key}")
        if name in rows:
            raise line_error(path, number, text, f"{name!r} is listed a second time (first on line {list(rows).index(name) + 2})")
        rows[name] = fields
    if not rows:
        raise UserError(f"{path} has a header and no lines below it.")
    return Table(path, header[:position] + header[position + 1 :], rows)


_VOCABULARIES = ("0 1", "-1 1", "no yes", "n y", "false true", "f m", "f t", "female male", "woman man")


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
    what = f"The column {column!r} of {table.path.name}"
    if len(values) > 2:
        return None, f"{what} has {len(values)} values ({some(values)}), not two."
    words = next((pair.split() for pair in _VOCABULARIES if set(values) <= set(pair.split())), None)
    note = ""
    if words is None:
        words = values
        note = f"{what} is read in alphabetical order: {', '.join(f'{value!r} is {i}' for i, value in enumerate(values))}."
    elif not values:
        note = f"{what} is empty: all its labels are missing."
    elif column.casefold() in ("gender", "sex") and set(values) <= {"-1", "0", "1"}:
        note = f"The numbers in the column {column!r} of {table.path.name} are read as 1 = male."
    return {name: words.index(text) if text else -1 for name, text in texts.items()}, note


def people_of(paths: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """The people of a nested layout, whose folders carry their names: the names, sorted, and each image's code into them, int64 (N,)."""
    folders = [path.rsplit("/", 2)[-2] for path in paths]
    code = {name: i for i, name in enumerate(sorted(set(folders)))}
    return tuple(code), np.array([code[name] for name in folders], dtype=np.int64)


def index_people(
    paths: Sequence[str], table: Table, columns: Sequence[str] | None = None, normalise: Callable[[str], str] = match_name
) -> Index:
    """The index of a nested layout whose table says things about *people*: the folder is the person, looked up in the table by `normalise`.

    Attributes are the `columns` (default all) that have two values, a `UserError` if none has; "gender" keeps its name in lower case.
    """
    names, identity = people_of(paths)
    keys = [normalise(name) for name in names]
    check_all_listed(table.path, [name for name, key in zip(names, keys, strict=True) if key not in table.rows], "people")
    notes = []
    if absent := len(table.rows) - len(set(keys)):
        notes.append(f"People listed in {table.path.name} without images here: {absent:,}.")
    attributes, left_out = {}, {}
    for column in table.columns if columns is None else columns:
        values, note = binary_column(table, column)
        name = "gender" if column.casefold() == "gender" else column
        if values is None:
            left_out[name] = note
            note = note.removesuffix(".") + " and was left out."
        else:
            attributes[name] = np.array([values[key] for key in keys], dtype=np.int8)[identity]
        notes += [note] if note else []
    if not attributes:
        raise UserError(f"{table.path} has no column that can be used as an attribute. " + " ".join(left_out.values()))
    return Index(list(paths), identity, names, attributes, left_out, tuple(notes))


def majority_of_people(identity: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, int]:
    """Give all images of a person the label of most of them, see `majority_labels`: int8 (N,); and how many people had both."""
    majority = majority_labels(identity, labels)[identity]
    return majority, len(np.unique(identity[(labels >= 0) & (labels != majority)]))
