"""Templates: the vectors that a recogniser stores of faces (or voices, or anything), whose they are, and what is labelled about them.

`root` is one file without pickled objects:

* `.npz`: `vectors`, float (N, d); `identity`, whole numbers or text, (N,); every other array of N numbers is an attribute: 1, 0, and -1 or
  NaN where the label is missing. `source` and `licence`, one text each, may say where they come from.
* `.parquet`: a column `vectors` of lists of d numbers, `identity`, and a column an attribute; null is a missing label, too.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..faces import Faces
from ..machine.files import UserError, atomic_write, one_line
from .common import Layout, choose_people, some, wrong_layout

SHIPPED = Path(__file__).parents[1] / "templates" / "embedded.npz"
"""The templates of the embedded faces, which ship with the package."""

FORMATS = (".npz", ".parquet")

WORDS = ("source", "licence")
"""Texts about the whole file."""


def locate(root: str | os.PathLike | None) -> Layout:
    """`root` as a file of templates, `SHIPPED` where it is None; UserError where it is none."""
    path = SHIPPED if root is None else Path(root).expanduser()
    if path.is_dir():
        raise wrong_layout("templates", path, f"it is a folder, not one file ({' or '.join(FORMATS)})")
    if not path.is_file():
        raise UserError(f"{path}: there is no such file. Give the .npz or .parquet that holds the templates.")
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"{path} is neither .npz nor .parquet. Save templates with numpy.savez(path, vectors=…, identity=…, gender=…).")
    return Layout("templates", path, {}, licence="the user's own")


def load_templates(layout: Layout, attribute: str, limit: int | None = None, seed: int = 0) -> Faces:
    """Read and check a file of templates; arguments as of `load_faces`.

    Returns:
        `Faces` whose `images` are the vectors, float32 (N, d). A row that repeats an earlier one of its person is left out, and noted.

    Raises:
        UserError: the file cannot be read or holds pickled objects; vectors are not float (N, d), finite and longer than zero; identity or
            labels are missing, of another length, or not of their kind; two people have the same vector; there is no such attribute.
    """
    path, columns = layout.base, read_columns(layout)
    if "identity" not in columns:
        raise UserError(f"{path} has no 'identity', which says whose each vector is; it has {', '.join(sorted(columns))}.")
    texts = {name: str(columns.pop(name).item()) for name in WORDS if name in columns and columns[name].size == 1}
    vectors = columns.pop("vectors")
    people = columns.pop("identity")
    if people.shape != vectors.shape[:1] or people.dtype.kind not in "iuU":
        kind = f"{people.dtype} of shape {people.shape}"
        raise UserError(f"{path}: identity must hold a whole number or a text for each of {len(vectors):,} vectors, not {kind}.")
    names, identity = np.unique(people, return_inverse=True)
    notes, attributes = [], {}
    for name, column in sorted(columns.items()):
        if column.dtype.kind in "SUO":
            notes.append(f"The column {name!r} holds text, which is no attribute, and was left out.")
        else:
            attributes[name] = _labels(path, name, column, len(vectors))
    rows = _different(path, vectors, identity, names)
    if len(rows) < len(vectors):
        notes.append(f"{len(vectors) - len(rows):,} templates that repeat an earlier one of the same person were left out.")
    if limit is not None and limit < len(rows):
        rows = rows[choose_people(identity[rows], limit, seed)]
    kept, identity = np.unique(identity[rows], return_inverse=True)
    source = f"templates of {texts['source']}" if texts.get("source") else f"templates of {path.name}"
    return Faces(
        images=vectors[rows],
        identity=identity,
        attributes={name: labels[rows] for name, labels in attributes.items()},
        attribute=attribute,
        source=source,
        licence=texts.get("licence") or layout.licence,
        split_seed=seed,
        notes=tuple(notes),
        names=tuple(map(str, names[kept])),
    )


def read_columns(layout: Layout) -> dict[str, np.ndarray]:
    """All arrays of a file of templates by name, and `vectors`, checked, float32 (N, d). UserError as of `load_templates`."""
    path = layout.base
    columns = _npz(path) if path.suffix.lower() == ".npz" else _parquet(path)
    if "vectors" not in columns:
        raise UserError(f"{path} has no 'vectors'; it has {', '.join(sorted(columns)) or 'nothing'}.")
    return columns | {"vectors": _vectors(path, columns["vectors"])}


def check_target(out: str | os.PathLike) -> None:
    """Raise a UserError where a file of templates cannot be written to `out`: it exists or is no .npz."""
    if Path(out).suffix != ".npz":
        raise UserError(f"The templates are written to an .npz file; {out} has another name. Call it {Path(out).name}.npz.")
    if Path(out).exists():
        raise UserError(f"{out} exists. Remove it, or choose another --out.")


def write_templates(path: str | os.PathLike, columns: Mapping[str, np.ndarray]) -> None:
    """Write a file of templates, whole or not at all; the same arrays give the same bytes."""
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, values in columns.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:  # np.savez would take some attributes' names for arguments
                np.lib.format.write_array(member, np.asarray(values, order="C"), allow_pickle=False)


def _npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        why = "it holds pickled objects, which are never opened" if "pickle" in str(error) else one_line(error)
        raise UserError(f"{path} cannot be read as .npz: {why}. Save plain arrays with numpy.savez.") from error


def _parquet(path: Path) -> dict[str, np.ndarray]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} cannot be read as parquet: {one_line(error)}.") from error
    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if name == "vectors":
            column = column.combine_chunks()
            if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or pa.types.is_fixed_size_list(column.type)):
                raise UserError(f"{path}: vectors must hold a list of numbers in each row, not {column.type}.")
            lengths = np.unique([0 if row is None else len(row) for row in column])
            if len(lengths) != 1 or column.flatten().null_count:
                raise UserError(f"{path}: vectors must be of one length and whole; there are lengths {some(list(map(str, lengths)))}.")
            columns[name] = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), lengths[0])
        else:
            values = column.to_pandas()
            columns[name] = values.to_numpy(str if values.dtype.kind == "O" and not values.isna().any() else None)
    return columns


def _vectors(path: Path, vectors: np.ndarray) -> np.ndarray:
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or not vectors.size:
        raise UserError(f"{path}: vectors must be floating-point numbers of shape (N, d), not {vectors.dtype} of shape {vectors.shape}.")
    with np.errstate(over="ignore"):
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    for wrong, what in ((~np.isfinite(vectors).all(1), "NaN or infinite numbers"), (~vectors.any(1), "zeros only")):
        if wrong.any():
            raise UserError(f"{path}: {wrong.sum():,} vectors hold {what}, the first in row {wrong.argmax()}. Leave them out.")
    return vectors


def _labels(path: Path, name: str, column: np.ndarray, count: int) -> np.ndarray:
    if column.shape != (count,):
        raise UserError(f"{path}: the attribute {name!r} must hold {count:,} labels, one a vector; its shape is {column.shape}.")
    labels = np.where(np.isnan(column), -1, column) if column.dtype.kind == "f" else column.astype(np.int64)
    if (wrong := ~np.isin(labels, (-1, 0, 1))).any():
        row = wrong.argmax()
        raise UserError(
            f"{path}: the attribute {name!r} is {labels[row]:g} in row {row}; a label is 1, 0, or -1 or NaN where it is missing."
        )
    return labels.astype(np.int8)


def _different(path: Path, vectors: np.ndarray, identity: np.ndarray, names: np.ndarray) -> np.ndarray:
    """The first row of each different vector, sorted. UserError where two people have the same one."""
    bytes_of = vectors.view([("", np.void, vectors.shape[1] * 4)]).ravel()
    _, first, same = np.unique(bytes_of, return_index=True, return_inverse=True)
    if (other := identity[first][same.ravel()] != identity).any():
        row = other.argmax()
        before = first[same.ravel()[row]]
        raise UserError(
            f"{path}: rows {before} and {row} hold the same vector for two people, {names[identity[before]]} and {names[identity[row]]}. "
            "Say whose it is, or leave both out."
        )
    return np.sort(first)
