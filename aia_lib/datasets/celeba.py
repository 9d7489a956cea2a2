"""CelebA (Liu et al. 2015): 202,599 images of 10,177 people, 40 attributes.

Read are the original layout (`img_align_celeba/`, `list_attr_celeba.txt`, `identity_CelebA.txt`), the layout of its drive (`Img/`, `Anno/`,
`Eval/`), the CSV files of Kaggle with their doubled `img_align_celeba/img_align_celeba/`, copies at any size, and copies of a part of the
images.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..machine.files import UserError
from .common import IMAGE_SUFFIXES, Crop, Index, Layout, check_root, find_file, wrong_layout
from .label_files import check_all_listed, is_number, line_error, majority, read_lines

CROP = Crop(side=148 / 178, x=0.5, y=121 / 218)
"""148 of the 178 pixels of the width; centred between the eyes' line (y = 111) and the nose (y = 135) of the aligned images."""

LICENCE = "CelebA: non-commercial research only, no redistribution (Liu et al. 2015)"

_LABELS = {
    "attributes": ("list_attr_celeba.txt", "list_attr_celeba.csv"),
    "identity": ("identity_CelebA.txt", "identity_CelebA.csv", "identity_celeba.txt", "identity_celeba.csv"),
    "partition": ("list_eval_partition.txt", "list_eval_partition.csv"),
}


def locate(root: str | os.PathLike | None) -> Layout:
    """Find CelebA in `root`: the folder with the label files, its parent, or `img_align_celeba` itself.

    Raises:
        UserError: there is no such folder, it holds something else, or a label file is missing.
    """
    root = check_root("celeba", root)
    inside = root
    while inside.name in ("img_align_celeba", "Img"):
        inside = inside.parent
    for base in (root, root / "celeba", root / "CelebA") if inside == root else (inside,):
        for folder in ("img_align_celeba/img_align_celeba", "img_align_celeba", "Img/img_align_celeba"):
            if (base / folder).is_dir():
                return _layout(base, folder)
    raise wrong_layout("celeba", root, "it has no folder img_align_celeba")


def _layout(base: Path, folder: str) -> Layout:
    labels = {what: find_file([base, base / "Anno", base / "Eval"], names) for what, names in _LABELS.items()}
    if labels["attributes"] is None:
        raise UserError(f"{base}: list_attr_celeba.txt (or .csv) is missing. It comes with CelebA; put it beside img_align_celeba.")
    if labels["identity"] is None:
        raise UserError(
            f"{base}: identity_CelebA.txt is missing, and without identities faces can neither be verified nor split. "
            "CelebA gives it on request and with its drive; Kaggle's copy leaves it out. Put it beside img_align_celeba."
        )
    return Layout("celeba", base, (folder,), False, {what: path for what, path in labels.items() if path}, CROP, LICENCE)


@dataclass(frozen=True)
class AttributeTable:
    """`names` of A attributes, `row` of each image, `values` int8 (rows, A): 1 or 0."""

    names: tuple[str, ...]
    row: dict[str, int]
    values: np.ndarray


def read_attributes(path: Path) -> AttributeTable:
    """Read `list_attr_celeba`: line 1 the number of images, line 2 the names, then `image ±1 ±1 …`; or CSV with a header.

    The CSV may write 0 for -1.

    Raises:
        UserError: naming file, line number and text of what is wrong: a count that is not the number of lines, a line with too few, too
            many or other values, a blank line, an image or a name twice.
    """
    lines = read_lines(path)
    if "," in lines[0]:
        names, start, separator, code = [name.strip() for name in lines[0].split(",")][1:], 1, ",", {"1": 1, "-1": 0, "0": 0}
    else:
        if not is_number(lines[0].strip()):
            raise line_error(path, 1, lines[0], "expected the number of images")
        if len(lines) < 2:
            raise line_error(path, 1, lines[0], "the line with the attributes' names must follow")
        names, start, separator, code = lines[1].split(), 2, None, {"1": 1, "-1": 0}
    if not names or "" in names or len(set(names)) < len(names):
        raise line_error(path, start, lines[start - 1], "expected the attributes' names, each once")
    row: dict[str, int] = {}
    values = bytearray()
    for number, text in enumerate(lines[start:], start=start + 1):
        fields = [value.strip() for value in text.split(",")] if separator else text.split()
        if len(fields) != len(names) + 1 or not fields[0]:
            raise line_error(path, number, text, f"expected an image and {len(names)} values, not {len(fields)} fields")
        if fields[0] in row:
            raise line_error(
                path, number, text, f"the image {fields[0]} is listed a second time (first on line {row[fields[0]] + start + 1})"
            )
        row[fields[0]] = len(row)
        try:
            values += bytes([code[value] for value in fields[1:]])
        except KeyError as error:
            raise line_error(path, number, text, f"a label must be 1 or -1, not {error.args[0]!r}") from error
    if separator is None and int(lines[0]) != len(row):
        raise line_error(path, 1, lines[0], f"this number of images does not match the {len(row):,} lines that follow")
    if not row:
        raise UserError(f"{path} lists no images.")
    return AttributeTable(tuple(names), row, np.frombuffer(values, dtype=np.int8).reshape(len(row), len(names)))


def read_numbers(path: Path) -> dict[str, int]:
    """Read `identity_CelebA` or `list_eval_partition`: an image and a whole number a line, space or comma between; a header is passed over.

    Raises:
        UserError: naming file, line number and text of a malformed line or a doubled image.
    """
    numbers: dict[str, int] = {}
    line: dict[str, int] = {}
    for number, text in enumerate(read_lines(path), start=1):
        fields = [value.strip() for value in text.split(",")] if "," in text else text.split()
        if number == 1 and len(fields) == 2 and not is_number(fields[1]) and not fields[0].lower().endswith(IMAGE_SUFFIXES):
            continue
        if len(fields) != 2 or not fields[0] or not is_number(fields[1]):
            raise line_error(path, number, text, "expected an image and a whole number")
        if fields[0] in numbers:
            raise line_error(path, number, text, f"the image {fields[0]} is listed a second time (first on line {line[fields[0]]})")
        numbers[fields[0]], line[fields[0]] = int(fields[1]), number
    if not numbers:
        raise UserError(f"{path} lists no images.")
    return numbers


def index(layout: Layout, paths: Sequence[str]) -> Index:
    """Read the label files. "gender" is Male by the majority of the person's images; the 40 attributes are kept as they are.

    An image on the disk must be listed; images that are listed but not there are counted in a note, since copies of a part are usual. The
    official partition is checked and noted, not used: splits here are stratified and by identity.

    Raises:
        UserError: a label file is malformed or lacks an image that is there.
    """
    table = read_attributes(layout.labels["attributes"])
    numbers = read_numbers(layout.labels["identity"])
    images = [path.rsplit("/", 1)[-1] for path in paths]
    notes = []
    for path, listed in ((layout.labels["attributes"], table.row), (layout.labels["identity"], numbers)):
        missing = [image for image in images if image not in listed]
        if len(missing) == len(images):
            raise UserError(
                f"None of the {len(images):,} images in {layout.base / layout.folders[0]} is listed in {path}: is it another copy's file?"
            )
        check_all_listed(path, missing, "images")
    absent = len(table.row) - len(images)
    if absent:
        notes.append(f"Images listed in {layout.labels['attributes'].name} but not here: {absent:,} of {len(table.row):,}.")
    people = [numbers[image] for image in images]
    codes = sorted(set(people))
    position = {code: i for i, code in enumerate(codes)}
    identity = np.fromiter((position[person] for person in people), dtype=np.int64, count=len(people))
    values = table.values[[table.row[image] for image in images]]  # (N, A)
    attributes = {name: np.ascontiguousarray(values[:, i]) for i, name in enumerate(table.names)}
    if "Male" in attributes:
        attributes["gender"], both = majority(identity, attributes["Male"], len(codes))
        if both:
            notes.append(f"People with images labelled Male and images that are not: {both:,}; 'gender' is their majority.")
    if "partition" in layout.labels:
        parts = read_numbers(layout.labels["partition"])
        counts = np.bincount([min(parts[image], 3) for image in images if image in parts], minlength=4)
        notes.append(f"CelebA's own partition ({counts[0]:,} train, {counts[1]:,} valid, {counts[2]:,} test images here) is not used.")
    return Index(list(paths), identity, tuple(str(code) for code in codes), attributes, {}, tuple(notes))
