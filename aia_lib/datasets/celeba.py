"""CelebA (Liu et al. 2015): 202,599 images of 10,177 people, 40 attributes.

Read are the original layout (`img_align_celeba/`, `list_attr_celeba.txt`, `identity_CelebA.txt`), the layout of its drive (`Img/`, `Anno/`,
`Eval/`), the CSV files of Kaggle with their doubled `img_align_celeba/img_align_celeba/`, copies at any size, and copies of a part of the
images.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..machine.files import UserError
from .common import IMAGE_SUFFIXES, Crop, Index, Layout, find_file, wrong_layout
from .label_files import check_all_listed, is_number, line_error, majority_of_people, read_lines

CROP = Crop(side=148 / 178, x=0.5, y=121 / 218)
"""148 of the 178 pixels of the width; centred between the eyes' line (y = 111) and the nose (y = 135) of the aligned images."""

LICENCE = "CelebA: non-commercial research only, no redistribution (Liu et al. 2015)"

_LABELS = {
    "attributes": ("list_attr_celeba.txt", "list_attr_celeba.csv"),
    "identity": ("identity_CelebA.txt", "identity_CelebA.csv", "identity_celeba.txt", "identity_celeba.csv"),
    "partition": ("list_eval_partition.txt", "list_eval_partition.csv"),
}


def locate(root: Path) -> Layout:
    """Find CelebA in `root`: the folder with the label files, its parent, or `img_align_celeba` itself."""
    inside = root
    while inside.name in ("img_align_celeba", "Img"):
        inside = inside.parent
    bases = (root, root / "celeba", root / "CelebA") if inside == root else (inside,)
    places = ("img_align_celeba/img_align_celeba", "img_align_celeba", "Img/img_align_celeba")
    base, folder = next(((base, place) for base in bases for place in places if (base / place).is_dir()), (None, None))
    if base is None:
        raise wrong_layout("celeba", root, "it has no folder img_align_celeba")
    labels = {what: find_file([base, base / "Anno", base / "Eval"], *names) for what, names in _LABELS.items()}
    if labels["attributes"] is None:
        raise UserError(f"{base}: list_attr_celeba.txt (or .csv) is missing. It comes with CelebA; put it beside img_align_celeba.")
    if labels["identity"] is None:
        raise UserError(
            f"{base}: identity_CelebA.txt is missing, and without identities faces can neither be verified nor split. "
            "CelebA gives it on request and with its drive; Kaggle's copy leaves it out. Put it beside img_align_celeba."
        )
    return Layout("celeba", base, {what: path for what, path in labels.items() if path}, LICENCE, (folder,), nested=False, crop=CROP)


def read_attribute_table(path: Path) -> tuple[dict[str, int], dict[str, np.ndarray]]:
    """Read `list_attr_celeba`: line 1 the number of images, line 2 the names, then `image ±1 ±1 …`; or CSV with a header.

    The CSV may write 0 for -1. A `UserError` names file, line number and text of what is wrong: a count that is not the number of lines, a
    line with too few, too many or other values, a blank line, an image or a name twice.

    Returns:
        The row of each image, and the attributes by name, int8 (rows,): 1 or 0.
    """
    lines = read_lines(path)
    as_csv = "," in lines[0]
    if as_csv:
        names, start, code = _fields(lines[0])[1:], 1, {"1": 1, "-1": 0, "0": 0}
    else:
        if not is_number(lines[0].strip()):
            raise line_error(path, 1, lines[0], "expected the number of images")
        if len(lines) < 2:
            raise line_error(path, 1, lines[0], "the line with the attributes' names must follow")
        names, start, code = lines[1].split(), 2, {"1": 1, "-1": 0}
    if not names or "" in names or len(set(names)) < len(names):
        raise line_error(path, start, lines[start - 1], "expected the attributes' names, each once")
    row: dict[str, int] = {}
    values = bytearray()
    for number, text in enumerate(lines[start:], start=start + 1):
        fields = _fields(text)
        if len(fields) != len(names) + 1 or not fields[0]:
            raise line_error(path, number, text, f"expected an image and {len(names)} values, not {len(fields)} fields")
        if fields[0] in row:
            first = row[fields[0]] + start + 1
            raise line_error(path, number, text, f"the image {fields[0]} is listed a second time (first on line {first})")
        row[fields[0]] = len(row)
        try:
            values += bytes([code[value] for value in fields[1:]])
        except KeyError as error:
            raise line_error(path, number, text, f"a label must be 1 or -1, not {error.args[0]!r}") from error
    if not as_csv and int(lines[0]) != len(row):
        raise line_error(path, 1, lines[0], f"this number of images does not match the {len(row):,} lines that follow")
    if not row:
        raise UserError(f"{path} lists no images.")
    columns = np.frombuffer(values, dtype=np.int8).reshape(len(row), len(names)).T
    return row, dict(zip(names, columns, strict=True))


def _fields(text: str) -> list[str]:
    return [value.strip() for value in text.split(",")] if "," in text else text.split()


def read_numbers(path: Path) -> dict[str, int]:
    """Read `identity_CelebA` or `list_eval_partition`: an image and a whole number a line, space or comma between; a header is passed over.

    A `UserError` names file, line number and text of a malformed line or a doubled image.
    """
    numbers: dict[str, int] = {}
    header = 0
    for number, text in enumerate(read_lines(path), start=1):
        fields = _fields(text)
        if number == 1 and len(fields) == 2 and not is_number(fields[1]) and not fields[0].lower().endswith(IMAGE_SUFFIXES):
            header = 1
            continue
        if len(fields) != 2 or not fields[0] or not is_number(fields[1]):
            raise line_error(path, number, text, "expected an image and a whole number")
        if fields[0] in numbers:
            first = list(numbers).index(fields[0]) + header + 1
            raise line_error(path, number, text, f"the image {fields[0]} is listed a second time (first on line {first})")
        numbers[fields[0]] = int(fields[1])
    if not numbers:
        raise UserError(f"{path} lists no images.")
    return numbers


def index(layout: Layout, paths: Sequence[str]) -> Index:
    """Read the label files. "gender" is Male by the majority of the person's images; the 40 attributes are kept as they are.

    An image on the disk must be listed; images that are listed but not there are counted in a note, since copies of a part are usual. The
    official partition is checked and noted, not used: splits here are stratified and by identity.
    """
    row, table = read_attribute_table(layout.labels["attributes"])
    numbers = read_numbers(layout.labels["identity"])
    images = [path.rsplit("/", 1)[-1] for path in paths]
    notes = []
    for path, listed in ((layout.labels["attributes"], row), (layout.labels["identity"], numbers)):
        missing = [image for image in images if image not in listed]
        if len(missing) == len(images):
            raise UserError(
                f"None of the {len(images):,} images in {layout.base / layout.folders[0]} is listed in {path}: is it another copy's file?"
            )
        check_all_listed(path, missing, "images")
    if absent := len(row) - len(images):
        notes.append(f"Images listed in {layout.labels['attributes'].name} but not here: {absent:,} of {len(row):,}.")
    codes, identity = np.unique([numbers[image] for image in images], return_inverse=True)
    rows = [row[image] for image in images]
    attributes = {name: values[rows] for name, values in table.items()}
    if "Male" in attributes:
        attributes["gender"], both = majority_of_people(identity, attributes["Male"])
        if both:
            notes.append(f"People with images labelled Male and images that are not: {both:,}; 'gender' is their majority.")
    if "partition" in layout.labels:
        parts = read_numbers(layout.labels["partition"])
        counts = np.bincount([min(parts[image], 3) for image in images if image in parts], minlength=4)
        notes.append(f"CelebA's own partition ({counts[0]:,} train, {counts[1]:,} valid, {counts[2]:,} test images here) is not used.")
    return Index(list(paths), identity, tuple(map(str, codes)), attributes, {}, tuple(notes))
