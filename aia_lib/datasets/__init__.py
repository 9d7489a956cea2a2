"""`load_faces`: every source of faces in one form, decoded once and then memory-mapped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..config import check_size
from ..faces import SPLIT_NAMES, Faces
from ..machine.files import UserError
from . import celeba, embedded, folder, lfw, templates, vggface, vggface2
from .cache import cache_folder, cache_key, cached, read_entry, write_entry
from .common import Layout, WrongLayout, check_root, check_zip, choose_people, scan
from .download import download_celeba

__all__ = ["SOURCES", "Summary", "download_celeba", "load_faces", "locate", "summarise"]

SOURCES = {
    "embedded": embedded,
    "celeba": celeba,
    "vggface": vggface,
    "vggface2": vggface2,
    "lfw": lfw,
    "folder": folder,
    "templates": templates,
}
"""The module that reads each source."""


def load_faces(
    source: str,
    root: str | os.PathLike | None = None,
    *,
    size: int = 64,
    attribute: str = "gender",
    limit: int | None = None,
    seed: int = 0,
    cache: str | os.PathLike | None = None,
    progress: bool = True,
) -> Faces:
    """Load faces, or their templates, from a data set on the disk; `root` is only read.

    The first call decodes the images into a cache, later ones map it into memory. The cache is keyed by the label files' content, the
    images' names, sizes and times, and the settings, so a changed data set is decoded again. "embedded" is quick and needs no cache, unless
    the root has a rendered set of more than 20,000 images.

    Args:
        source: a key of `SOURCES`.
        root: the folder of the data set, or the file of "templates"; its module's docstring tells what is read. "embedded" and
            "templates" without one are the sets that ship with the package.
        size: height and width of the images, in pixels, a multiple of 4; templates have their own.
        attribute: the private attribute. "gender" is 1 for male and 0 for female *as labelled in the data set*.
        limit: at most this many images: whole people in a random order (from `seed`), the last one cut.
        seed: seeds `limit`, and becomes the faces' `split_seed`.
        cache: folder of the cache; default AIA_CACHE, else XDG_CACHE_HOME/aia, else ~/.cache/aia.
        progress: show a progress bar while decoding.

    Returns:
        Faces in the order of their file names; `notes` tells what was skipped and decided.

    Raises:
        UserError: the root is missing or holds another data set; a label file is malformed; there is no such attribute; more than 5 % of
            the images cannot be used; a setting is out of range; the disk is full.
    """
    if source not in SOURCES:
        raise UserError(f"There is no source {source!r}; choose one of {', '.join(SOURCES)}.")
    check_size(size)
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, (int, np.integer)) or limit < 1):
        raise UserError(f"The limit must be a positive number of images, not {limit!r}.")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise UserError(f"The seed must be a whole number that is not negative, not {seed!r}.")
    limit, seed = limit if limit is None else int(limit), int(seed)
    module, layout = SOURCES[source], locate(source, root)
    place = cache_folder(cache)
    if place.resolve().is_relative_to(layout.base.resolve()):
        raise UserError(
            f"The cache {place} lies inside the data set {layout.base}, which is only read. Name another folder with cache= or AIA_CACHE."
        )
    if module is templates:
        return templates.load_templates(layout, attribute, limit, seed)
    if module is embedded:  # no image files: shards, which are decoded anew unless there are many
        return embedded.load_rendered(layout, size, attribute, limit, seed, place, progress)
    listing = scan(layout)
    key = cache_key(layout, listing, size, limit, seed)

    def write(folder: Path) -> None:
        index = module.index(layout, listing.paths)
        _check_attribute(attribute, index.attributes, index.left_out, source)  # before decoding, which may take long
        if limit is not None and limit < len(index.paths):
            index = index.subset(choose_people(index.identity, limit, seed))
        write_entry(folder, layout, index, size, progress)

    content, left_out = cached(place / f"{source}-{size}-{key[:20]}", read_entry, write)
    _check_attribute(attribute, content["attributes"], left_out, source)
    content["notes"] = (*listing.notes, *content["notes"])
    return Faces(**content, attribute=attribute, source=source, licence=layout.licence, split_seed=seed)


def locate(source: str, root: str | os.PathLike | None) -> Layout:
    """The layout of `root`; the error of a wrong one names the source that it resembles, or an archive to unpack."""
    if source == "templates" or (source == "embedded" and root is None):
        return SOURCES[source].locate(root)
    root = check_root(source, root)
    try:
        return SOURCES[source].locate(root)
    except WrongLayout as error:
        other = next((name for name in SOURCES if name != source and _resembles(name, root)), None)
        archives = sorted(root.glob("*.zip"))
        if other:
            raise UserError(f"{error} It looks like {other!r}: choose that source.") from error
        if archives:
            check_zip(archives[0])
            raise UserError(f"{error} Unpack {archives[0].name} first.") from error
        raise


def _resembles(source: str, root: Path) -> bool:
    try:
        SOURCES[source].locate(root)
    except UserError as error:  # another one than WrongLayout says what is missing from this source's layout
        return not isinstance(error, WrongLayout)
    return True


def _check_attribute(attribute: str, attributes: dict[str, np.ndarray], left_out: dict[str, str], source: str) -> None:
    if attribute in left_out:
        raise UserError(f"The attribute {attribute!r} cannot be used. {left_out[attribute]}")
    if attribute not in attributes:
        raise UserError(f"There is no attribute {attribute!r} in {source}; there are: {', '.join(sorted(attributes)) or 'none'}.")


class Summary(NamedTuple):
    """What a data set holds, as `text`, for a reader to check before training on it; and the `problem` why it cannot be split, or ""."""

    text: str
    problem: str

    def __str__(self) -> str:
        return self.text


def summarise(source: str, root: str | os.PathLike | None = None, **settings) -> Summary:
    """Load a data set as `load_faces` does, with the same settings, and sum up what it holds; `print` it.

    Raises:
        UserError: as `load_faces`. That the faces cannot be split is no error here but the summary's `problem`.
    """
    faces = load_faces(source, root, **settings)
    several = (np.bincount(faces.identity) > 1).sum()
    lines = [
        f"{source}: {len(faces):,} images of {faces.people:,} people, {several:,} of them with two images or more",
        f"licence: {faces.licence}",
        f"templates: {faces.size} numbers each" if faces.templates else f"images: grey, {faces.size} x {faces.size} pixels",
        "",
        f"{'attribute (as labelled in the data set)':<42}{'1':>8}{'missing':>10}",
    ]
    for name in sorted(faces.attributes, key=lambda name: (name != faces.attribute, name)):
        labels = faces.labels(name)
        ones = f"{(labels == 1).sum() / (labels >= 0).sum():.1%}" if (labels >= 0).any() else "-"
        mark = " (private)" if name == faces.attribute else ""
        lines.append(f"{name + mark:<42}{ones:>8}{1 - (labels >= 0).sum() / len(faces):>10.1%}")
    lines += ["", f"{'split by identity':<42}{'images':>8}{'people':>10}"]
    problem = ""
    try:
        lines += [f"{name:<42}{len(part):>8,}{part.people:>10,}" for name, part in zip(SPLIT_NAMES, faces.split(), strict=True)]
    except UserError as error:
        problem = str(error)
        lines.append(f"not possible: {problem}")
    if faces.notes:
        lines += ["", "notes", *(f"- {note}" for note in faces.notes)]
    return Summary("\n".join(lines), problem)
