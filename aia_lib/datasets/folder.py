"""A folder of one's own.

`root/<identity>/<image>.(jpg|jpeg|png|pgm|webp)` and `root/labels.csv` with the header `identity,<attribute>,…`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from .common import WHOLE, Index, Layout, check_root, subfolders, wrong_layout
from .label_files import index_people, read_table

LICENCE = "the user's own"


def locate(root: str | os.PathLike | None) -> Layout:
    """Find `labels.csv` and the people's folders.

    Raises:
        UserError: there is no such folder, or it lacks either.
    """
    root = check_root("folder", root)
    if not (root / "labels.csv").is_file():
        raise wrong_layout("folder", root, "it has no labels.csv with the header identity,<attribute>,…")
    if not subfolders(root):
        raise wrong_layout("folder", root, "it has labels.csv but no folder a person (root/<identity>/<image>.jpg)")
    return Layout("folder", root, ("",), True, {"labels": root / "labels.csv"}, WHOLE, LICENCE)


def index(layout: Layout, paths: Sequence[str]) -> Index:
    """Read `labels.csv`; what its values mean is said at `common.binary_column`.

    A person's folder must have a line (with an empty field where the label is not known); people without a folder are counted in a note.

    Raises:
        UserError: the table is malformed, lacks a person, or has no column with two values.
    """
    return index_people(layout, list(paths), read_table(layout.labels["labels"], "identity"))
