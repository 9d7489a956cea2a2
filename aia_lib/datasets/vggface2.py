"""VGGFace2 (Cao et al. 2018): 3.31 M images of 9,131 people, gender of each in `identity_meta.csv`."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from ..machine.files import UserError
from .common import WHOLE, Index, Layout, check_root, find_file, subfolders, wrong_layout
from .label_files import index_people, read_table

LICENCE = "VGGFace2: non-commercial research only; each image belongs to its owner (Cao et al. 2018)"


def _has_classes(folder: Path) -> bool:
    return any(re.fullmatch(r"n\d{6}", name) for name in subfolders(folder))


def locate(root: str | os.PathLike | None) -> Layout:
    """Find `train/n000002/…`, `test/…` or `n000002/…` in `root` or `root/data`, and `identity_meta.csv` in, beside or above them.

    Raises:
        UserError: there is no such folder, it holds something else, or `identity_meta.csv` is missing.
    """
    root = check_root("vggface2", root)
    for base in (root, root / "data"):
        folders = tuple(name for name in ("train", "test") if _has_classes(base / name)) or (("",) if _has_classes(base) else ())
        if folders:
            break
    else:
        raise wrong_layout("vggface2", root, "it has no folders like train/n000002")
    meta = find_file([base, base / "meta", base.parent, base.parent / "meta"], ["identity_meta.csv"])
    if meta is None:
        raise UserError(f"{root}: identity_meta.csv is missing. It comes with VGGFace2 and holds the gender; put it into this folder.")
    return Layout("vggface2", base, folders, True, {"meta": meta}, WHOLE, LICENCE)


def index(layout: Layout, paths: Sequence[str]) -> Index:
    """Read `identity_meta.csv` (`Class_ID, Name, Sample_Num, Flag, Gender`: spaces, quotes and commas at a line's end as they come).

    A class with a folder must have a line; an empty gender is missing.

    Raises:
        UserError: the file is malformed, has no column Gender, or lacks a class that is there.
    """
    table = read_table(layout.labels["meta"], "Class_ID")
    gender = [column for column in table.columns if column.casefold() == "gender"]
    if not gender:
        raise UserError(f"{table.path}, line 1: there is no column Gender; there are: Class_ID, {', '.join(table.columns)}.")
    return index_people(layout, list(paths), table, gender)
