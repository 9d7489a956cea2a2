"""VGG-Face (Parkhi et al. 2015). It exists as lists of URLs, most of them dead, and has no gender.

The user brings the images that they have, as `root/<Name>/<id>.jpg` (or `root/images/<Name>/…`), and a CSV with the columns `name,gender`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..machine.files import UserError
from .common import WHOLE, Index, Layout, check_root, is_name_gender, subfolders, wrong_layout
from .label_files import index_people, match_name, read_table

LICENCE = "VGG-Face: non-commercial research only; each image belongs to its owner (Parkhi et al. 2015)"


def locate(root: str | os.PathLike | None) -> Layout:
    """Find the people's folders and the one CSV whose header has `name` and `gender`.

    Raises:
        UserError: there is no such folder; it holds the URL lists only; there is no such CSV, or more than one.
    """
    root = check_root("vggface", root)
    base = root / "images" if subfolders(root / "images") else root
    people = [name for name in subfolders(base) if name not in ("files", "images")]
    if not people:
        if next((root / "files").glob("*.txt"), None) or next(root.glob("*.txt"), None):
            raise UserError(
                f"{root} holds VGG-Face's lists of URLs, not its images, and most of the URLs are dead. "
                "Bring images as <root>/<Name>/<id>.jpg with a CSV name,gender, or use 'vggface2'."
            )
        raise wrong_layout("vggface", root, "it has no folder a person (root/<Name>/<id>.jpg)")
    tables = sorted(path for place in {root, base} for path in place.glob("*.csv") if is_name_gender(path))
    if not tables:
        raise wrong_layout("vggface", root, "it has no CSV with the header name,gender (VGG-Face itself says nothing about gender)")
    if len(tables) > 1:
        raise UserError(
            f"{root} has {len(tables)} CSV files with the columns name,gender ({', '.join(path.name for path in tables)}); leave one."
        )
    return Layout("vggface", base, ("",), True, {"gender": tables[0]}, WHOLE, LICENCE)


def _name(name: str) -> str:
    """VGG-Face writes names with underscores; tables of them often with spaces."""
    return match_name(name).replace(" ", "_")


def index(layout: Layout, paths: Sequence[str]) -> Index:
    """Read the CSV of people; further columns with two values are attributes too.

    Raises:
        UserError: the table is malformed or lacks a person whose folder is there.
    """
    return index_people(layout, list(paths), read_table(layout.labels["gender"], "name", _name), normalise=_name)
