"""Labeled Faces in the Wild (Huang et al. 2007) as scikit-learn lays it out: `lfw_home/lfw_funneled/<Name>/<Name>_0001.jpg`.

Gender comes from the lists `male_names.txt` and `female_names.txt`, one image a line (Afifi and Abdelhamed 2019).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..machine.files import UserError
from .common import Crop, Index, Layout, find_file, some, subfolders, wrong_layout
from .label_files import line_error, majority_of_people, people_of, read_lines

CROP = Crop(side=0.5, x=0.5, y=0.53)
"""125 of the 250 pixels, where scikit-learn crops too (rows 70 to 195, columns 78 to 172), but square."""

LICENCE = "LFW: for research; each image belongs to its owner (Huang et al. 2007)"


def locate(root: Path) -> Layout:
    """Find the people's folders and the two gender lists, beside, above or among them."""
    for base in (root / "lfw_home" / "lfw_funneled", *(root / name for name in ("lfw_funneled", "lfw-deepfunneled", "lfw")), root):
        if any((base / name / f"{name}_0001.jpg").is_file() for name in subfolders(base)[:50]):
            break
    else:
        raise wrong_layout("lfw", root, "it has no folders like lfw_funneled/<Name>/<Name>_0001.jpg")
    missing = f"is missing. LFW itself has no gender; put male_names.txt and female_names.txt beside {base.name}."
    files = {gender: f"{gender}_names.txt" for gender in ("male", "female")}
    places = [base, base.parent, root]
    labels = {gender: find_file(places, name, missing=f"{root}: {name} {missing}") for gender, name in files.items()}
    return Layout("lfw", base, labels, LICENCE, crop=CROP)


def read_names(path: Path) -> set[str]:
    """Read a gender list: its images, without `.jpg`. Blank lines and repeated names, which the published lists have, are passed over.

    A `UserError` names file, line number and text of a line that is no image of LFW.
    """
    names = set()
    for number, text in enumerate(map(str.strip, read_lines(path)), start=1):
        if text and not re.fullmatch(r"\S+_\d{4}(\.jpg)?", text):
            raise line_error(path, number, text, "expected an image such as Aaron_Eckhart_0001.jpg")
        names.add(text.removesuffix(".jpg"))
    return names - {""}


def index(layout: Layout, paths: Sequence[str]) -> Index:
    """Read the two lists. A person's gender is the majority of their images; an image in both lists says nothing.

    People without a label are missing (-1); how many is in a note.
    """
    male, female = read_names(layout.labels["male"]), read_names(layout.labels["female"])
    images = [path.rsplit("/", 1)[-1].rsplit(".", 1)[0] for path in paths]
    names, identity = people_of(paths)
    labels = np.array([(image in male) if (image in male) != (image in female) else -1 for image in images], dtype=np.int8)
    if not (labels >= 0).any():
        raise UserError(f"None of the {len(images):,} images in {layout.base} is in {layout.labels['male']} or {layout.labels['female']}.")
    gender, both = majority_of_people(identity, labels)
    here = set(images)
    doubled = [image for image in images if image in male and image in female]
    counts = {
        f"Images in both gender lists, which say nothing ({some(doubled)})": len(doubled),
        "People with images in either gender list, whose gender is the majority": both,
        "Images in neither gender list, which take the gender of the person's other images": len(here - male - female),
        "People without an image in the gender lists, whose gender is missing": len(names) - len(np.unique(identity[gender >= 0])),
        "Images in the gender lists but not here": len((male | female) - here),
    }
    notes = [f"{what}: {count:,}." for what, count in counts.items() if count]
    return Index(list(paths), identity, names, {"gender": gender}, {}, tuple(notes))
