"""VGGFace2 (Cao et al. 2018): 3.31 M images of 9,131 people, gender of each in `identity_meta.csv`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..machine.files import UserError
from .common import Index, Layout, find_file, subfolders, wrong_layout
from .label_files import index_people, read_table

LICENCE = "VGGFace2: non-commercial research only; each image belongs to its owner (Cao et al. 2018)"


def locate(root: Path) -> Layout:
    """Find `train/n000002/…`, `test/…` or `n000002/…` in `root` or `root/data`, and `identity_meta.csv` in, beside or above them."""
    for base in (root, root / "data"):
        classes = [place for place in ("train", "test", "") if any(re.fullmatch(r"n\d{6}", name) for name in subfolders(base / place))]
        if classes:
            break
    else:
        raise wrong_layout("vggface2", root, "it has no folders like train/n000002")
    missing = f"{root}: identity_meta.csv is missing. It comes with VGGFace2 and holds the gender; put it into this folder."
    meta = find_file([base, base / "meta", base.parent, base.parent / "meta"], "identity_meta.csv", missing=missing)
    folders = tuple(place for place in classes if place) or ("",)
    return Layout("vggface2", base, {"meta": meta}, LICENCE, folders)


def index(layout: Layout, paths: Sequence[str]) -> Index:
    """Read `identity_meta.csv` (`Class_ID, Name, Sample_Num, Flag, Gender`: spaces, quotes and commas at a line's end as they come).

    A class with a folder must have a line; an empty gender is missing.
    """
    table = read_table(layout.labels["meta"], "Class_ID")
    gender = [column for column in table.columns if column.casefold() == "gender"]
    if not gender:
        raise UserError(f"{table.path}, line 1: there is no column Gender; there are: Class_ID, {', '.join(table.columns)}.")
    return index_people(paths, table, gender)
