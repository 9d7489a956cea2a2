"""A folder of one's own.

`root/<identity>/<image>.(jpg|jpeg|png|pgm|webp)` and `root/labels.csv` with the header `identity,<attribute>,…`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .common import Index, Layout, subfolders, wrong_layout
from .label_files import index_people, read_table


def locate(root: Path) -> Layout:
    """Find `labels.csv` and the people's folders."""
    if not (root / "labels.csv").is_file():
        raise wrong_layout("folder", root, "it has no labels.csv with the header identity,<attribute>,…")
    if not subfolders(root):
        raise wrong_layout("folder", root, "it has labels.csv but no folder a person (root/<identity>/<image>.jpg)")
    return Layout("folder", root, {"labels": root / "labels.csv"}, licence="the user's own")


def index(layout: Layout, paths: Sequence[str]) -> Index:
    """Read `labels.csv`; what its values mean is said at `label_files.binary_column`.

    A person's folder must have a line (with an empty field where the label is not known); people without a folder are counted in a note.
    """
    return index_people(paths, read_table(layout.labels["labels"], "identity"))
