"""VGG-Face (Parkhi et al. 2015). It exists as lists of URLs, most of them dead, and has no gender.

The user brings the images that they have, as `root/<Name>/<id>.jpg` (or `root/images/<Name>/…`), and a CSV with the columns `name,gender`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..machine.files import UserError
from .common import Index, Layout, subfolders, wrong_layout
from .label_files import index_people, match_name, read_table

LICENCE = "VGG-Face: non-commercial research only; each image belongs to its owner (Parkhi et al. 2015)"

_URL_LISTS = (
    "it has VGG-Face's lists of URLs, not its images, and most of the URLs are dead. "
    "Bring images as <root>/<Name>/<id>.jpg with a CSV name,gender, or use 'vggface2'"
)


def locate(root: Path) -> Layout:
    """Find the people's folders and the one CSV whose header has `name` and `gender`."""
    base = root / "images" if subfolders(root / "images") else root
    if not set(subfolders(base)) - {"files", "images"}:
        lists = any(root.glob("files/*.txt")) or any(root.glob("*.txt"))
        raise wrong_layout("vggface", root, _URL_LISTS if lists else "it has no folder a person (root/<Name>/<id>.jpg)")
    tables = sorted(path for place in {root, base} for path in place.glob("*.csv") if _is_name_gender(path))
    if not tables:
        raise wrong_layout("vggface", root, "it has no CSV with the header name,gender (VGG-Face itself says nothing about gender)")
    if len(tables) > 1:
        raise UserError(
            f"{root} has {len(tables)} CSV files with the columns name,gender ({', '.join(path.name for path in tables)}); leave one."
        )
    return Layout("vggface", base, {"gender": tables[0]}, LICENCE)


def _is_name_gender(path: Path) -> bool:
    """Whether `path` is a CSV whose header has the columns name and gender."""
    try:
        with open(path, "rb") as file:
            header = file.readline(1000).decode("utf-8-sig", "replace").lower()
    except OSError:  # a folder or an unreadable file: not the table that is looked for
        return False
    return {"name", "gender"} <= {name.strip(' "\r\n') for name in re.split("[,;\t]", header)}


def _name(name: str) -> str:
    """VGG-Face writes names with underscores; tables of them often with spaces."""
    return match_name(name).replace(" ", "_")


def index(layout: Layout, paths: Sequence[str]) -> Index:
    """Read the CSV of people; further columns with two values are attributes too."""
    return index_people(paths, read_table(layout.labels["gender"], "name", _name), normalise=_name)
