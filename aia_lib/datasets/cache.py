"""Decoding, once: image files to grey squares in a memory-mapped cache.

An entry of the cache is a folder of four files: `images.npy` uint8 (N, 1, S, S), `identity.npy` int64 (N,), `attributes.npy` int8 (A, N)
and `meta.json`. It is written under a temporary name and renamed when it is whole.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import math
import os
import shutil
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
import PIL
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from ..machine.files import UserError, cores, explain_os_errors, sha256
from .common import WHOLE, Crop, Index, Layout, Listing, read_bytes, some

T = TypeVar("T")

CODE_VERSION = 1
"""Part of every key: raise it when decoding or indexing changes what it gives."""

MAX_SKIPPED = 0.05
"""A data set with more unusable images than this share is refused."""

MIN_SIDE = 8
"""Images with a shorter side below this many pixels are skipped: there is no face on them."""

_WINDOW = 256
"""Images a thread decodes before what they all did is written: only so many wait in memory."""

_TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a picture upright, by the value of its EXIF tag Orientation (274)."""


class SkippedImage(Exception):
    """An image that cannot be read right; its text is the reason, the same for all images of a kind."""


def decode(path: str | os.PathLike, size: int, crop: Crop = WHOLE) -> tuple[np.ndarray, tuple[str, ...]]:
    """Read one image as a grey square.

    Grey is Pillow's "L" (ITU-R 601 luma); a JPEG's luma is read directly. A JPEG much larger than `size` is scaled by whole factors while
    it is decoded, down to twice `size` at the smallest. The resize is bicubic with Pillow's antialiasing: close to Lanczos without its
    ringing at the outline of a face.

    Args:
        size: side of the square returned, in pixels.
        crop: what to cut out, relative to the upright image.

    Returns:
        uint8 (size, size), and what was peculiar about the file.

    Raises:
        SkippedImage: it cannot be read right, with the reason.
    """
    grey, remarks = read_picture(path, "L", size / crop.side)
    return square(grey, size, crop), remarks


def square(picture: Image.Image, size: int, crop: Crop) -> np.ndarray:
    """The crop of a picture, resized: uint8 (size, size) of a grey one, (size, size, 3) of a coloured one."""
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC, box=crop.box(*picture.size)))


def read_picture(path: str | os.PathLike, mode: str, side: float = math.inf) -> tuple[Image.Image, tuple[str, ...]]:
    """Read one image whole and upright.

    CMYK with Adobe's marker goes through RGB; 16-bit grey is scaled by its full range, not clipped; of several frames the first is taken;
    what is transparent shows mid-grey (128); EXIF turns are undone.

    Args:
        mode: what is returned, "L" or "RGB".
        side: pixels wanted of its shorter side: a JPEG with many more is scaled by whole factors, to twice as many at the smallest.

    Returns:
        The picture, and what was peculiar about the file.

    Raises:
        SkippedImage: it cannot be read right, with the reason.
    """
    remarks = []
    try:
        with Image.open(path, formats=_formats()) as image:
            if min(image.size) < MIN_SIDE:
                raise SkippedImage(f"smaller than {MIN_SIDE} pixels")
            if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise SkippedImage("too large (more pixels than Pillow accepts)")
            if getattr(image, "is_animated", False):
                remarks.append("have several frames (the first is read)")
            turn = _TURN.get(image.getexif().get(274, 1))
            if image.format in ("JPEG", "MPO") and image.mode == "RGB":
                image.draft(mode, tuple(max(1, round(length * min(2 * side / min(image.size), 1))) for length in image.size))
            picture = _flat(image, mode, remarks)
    except (SkippedImage, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise SkippedImage("too large (more pixels than Pillow accepts)") from error
    except UnidentifiedImageError as error:
        raise SkippedImage("empty" if os.path.getsize(path) == 0 else "not images") from error
    except (FileNotFoundError, PermissionError) as error:
        raise SkippedImage("not readable") from error
    except Exception as error:  # Pillow's readers raise nearly any exception on damaged files
        raise SkippedImage("truncated or damaged") from error
    if turn is not None:
        picture = picture.transpose(turn)
        remarks.append("were turned upright by their EXIF data")
    return picture, tuple(remarks)


def _flat(image: Image.Image, mode: str, remarks: list[str]) -> Image.Image:
    """An opened image in `mode`, full size; what was peculiar is added to `remarks`."""
    if image.mode == "CMYK":
        if "adobe" not in image.info:
            raise SkippedImage("CMYK without Adobe's marker (ink or light, nothing says which)")
        remarks.append("are CMYK (read through RGB)")
        return image.convert("RGB").convert(mode)
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise SkippedImage("deeper than 16 bits a pixel")
        remarks.append("have 16 bits a pixel (scaled to 8)")
        return Image.fromarray(np.round(values / 257).astype(np.uint8)).convert(mode)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        colour = image.convert("RGBA")
        alpha = colour.getchannel("A")
        if alpha.getextrema()[0] < 255:
            remarks.append("are transparent in places (shown mid-grey)")
        flat = Image.new(mode, image.size, "#808080")
        flat.paste(colour.convert(mode), mask=alpha)
        return flat
    if image.mode not in ("1", "L", "P", "RGB", "YCbCr"):
        raise SkippedImage(f"of the colour mode {image.mode}")
    return image.convert(mode)


@functools.cache
def _formats() -> tuple[str, ...]:
    """The formats that are read: those of photographs that this Pillow was built with, none that runs other programs."""
    Image.init()
    return tuple(name for name in ("JPEG", "PNG", "PPM", "WEBP", "GIF", "BMP") if name in Image.OPEN)


def cache_folder(cache: str | os.PathLike | None = None) -> Path:
    """`cache`, or AIA_CACHE, or XDG_CACHE_HOME/aia, or ~/.cache/aia."""
    if cache or os.environ.get("AIA_CACHE"):
        return Path(cache or os.environ["AIA_CACHE"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aia"


def cache_key(layout: Layout, listing: Listing, size: int, limit: int | None, seed: int) -> str:
    """64 hexadecimal digits that name the source's files and the settings, and with them an entry of the cache.

    From the SHA-256 of the label files, the images' paths, sizes and modification times, and all that decides what decoding gives. The
    place of the root is not part of it, nor is the seed where nothing is drawn.
    """
    content = {
        "code": CODE_VERSION,
        "pillow": PIL.__version__,
        "source": layout.source,
        "crop": [layout.crop.side, layout.crop.x, layout.crop.y],
        "size": size,
        "limit": None if limit is None else [limit, seed],
        "labels": {what: hashlib.sha256(read_bytes(path)).hexdigest() for what, path in sorted(layout.labels.items())},
        "images": listing.digest,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def cached(folder: Path, read: Callable[[Path], T | None], write: Callable[[Path], None]) -> T:
    """What `read` makes of the cache's entry `folder`. Where that is None, there is none or it is damaged, and it is made first.

    `write` fills the empty folder that it is given, which is renamed to `folder` when it is whole. A `UserError` where the disk is full or
    the cache cannot be written; nothing is left behind.
    """
    if (content := read(folder)) is not None:
        return content
    try:
        with explain_os_errors(folder), _temporary(folder) as temporary:
            write(temporary)
            if read(folder) is None:  # a damaged entry gives way; a sound one, just made by another loader, stays
                shutil.rmtree(folder, ignore_errors=True)
            try:
                os.rename(temporary, folder)
            except OSError:
                if not folder.exists():
                    raise
    except OSError as error:
        raise UserError(
            f"{folder}: the cache cannot be written ({error.strerror}). Name another folder with cache= or AIA_CACHE."
        ) from error
    for _ in range(20):
        if (content := read(folder)) is not None:
            return content
        time.sleep(0.05)  # another loader may be replacing a damaged entry at this moment
    raise UserError(
        f"{folder}: the cache was written but cannot be read back. Is the disk sound? Name another folder with cache= or AIA_CACHE."
    )


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder`, removed at the end unless it was renamed. Old ones of killed processes are removed too."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in folder.parent.glob(".*.part"):
        with contextlib.suppress(OSError):
            if time.time() - max(path.stat().st_mtime for path in (left, *left.iterdir())) > 86400:  # nobody has written to it for a day
                shutil.rmtree(left, ignore_errors=True)
    temporary = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:12]}.part"
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_entry(folder: Path) -> tuple[dict[str, Any], dict[str, str]] | None:
    """The cache's entry in `folder`, None where there is none or it is damaged.

    Returns:
        Arguments of `Faces`: the images as a read-only memory map, and a `cache_key` of the arrays and the attributes' names: wherever the
        same faces are decoded, it is the same. And the attributes left out, with the reason.
    """
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        if (folder / "images.npy").stat().st_size != meta["bytes"]:
            return None
        images = np.load(folder / "images.npy", mmap_mode="r", allow_pickle=False)
        identity = np.load(folder / "identity.npy", allow_pickle=False)
        attributes = np.load(folder / "attributes.npy", allow_pickle=False)
        named = dict(zip(meta["attributes"], attributes, strict=True))
        faces = {"images": images, "identity": identity, "attributes": named, "names": tuple(meta["names"])}
        return faces | {"notes": tuple(meta["notes"]), "cache_key": meta["content"]}, meta["left_out"]
    except PermissionError as error:
        raise UserError(f"{folder}: the cache cannot be read (permission denied). Name another folder with cache= or AIA_CACHE.") from error
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None


def write_entry(folder: Path, layout: Layout, index: Index, size: int, progress: bool) -> None:
    """Decode the images of `index` into a new entry in the empty `folder`.

    Unusable ones are skipped; how many, and why, is in the notes. A `UserError` where they are more than `MAX_SKIPPED`.
    """
    if shutil.disk_usage(folder).free < len(index.paths) * size * size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with open(folder / "images.npy", "wb") as file:
        # Plain writes: on a full disk they fail with an error, where writing to a memory map would kill the process.
        write_header(file, (len(index.paths), 1, size, size))
        kept, notes = _decode_all(file, layout, index, size, progress)
        file.seek(0)
        write_header(file, (len(kept), 1, size, size))
        file.flush()
        os.fsync(file.fileno())
    if len(kept) < len(index.paths):
        index = index.subset(kept)
    np.save(folder / "identity.npy", index.identity)
    np.save(folder / "attributes.npy", np.array(list(index.attributes.values()), dtype=np.int8).reshape(-1, len(kept)))
    arrays = [sha256(folder / f"{name}.npy") for name in ("images", "identity", "attributes")]
    meta = {
        "content": hashlib.sha256(json.dumps([*arrays, *index.attributes]).encode()).hexdigest(),
        "count": len(kept),
        "size": size,
        "bytes": (folder / "images.npy").stat().st_size,
        "source": layout.source,
        "licence": layout.licence,
        "attributes": list(index.attributes),
        "left_out": index.left_out,
        "notes": [*index.notes, *notes],
        "names": index.names,
    }
    (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")


def write_header(file: IO[bytes], shape: tuple[int, ...]) -> None:
    """Begin an .npy file of uint8 in `shape`."""
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _decode_all(file: IO[bytes], layout: Layout, index: Index, size: int, progress: bool) -> tuple[np.ndarray, list[str]]:
    """Decode all images of `index` in threads and append them to `file`; the rows kept, int64, and the notes, a sentence each."""
    skipped: dict[str, list[str]] = {}  # reason -> paths
    peculiar: Counter[str] = Counter()
    kept: list[int] = []
    total = len(index.paths)
    workers = min(32, cores())
    window = _WINDOW * workers

    def read(path: str) -> tuple[np.ndarray, tuple[str, ...]] | str:
        try:
            return decode(layout.base / path, size, layout.crop)
        except SkippedImage as reason:
            return str(reason)

    _formats()  # before any threads: Pillow loads its readers without a lock
    bar = tqdm(total=total, desc=f"Decoding {layout.source}", unit="image", disable=not progress)
    with warnings.catch_warnings(), bar, ThreadPoolExecutor(workers) as pool:
        warnings.simplefilter("ignore")  # Pillow's remarks on odd metadata; `decode` refuses a huge image
        for start in range(0, total, window):
            batch = index.paths[start : start + window]
            for row, result in enumerate(pool.map(read, batch), start=start):
                if isinstance(result, str):
                    skipped.setdefault(result, []).append(index.paths[row])
                else:
                    pixels, remarks = result
                    file.write(pixels.data)
                    kept.append(row)
                    peculiar.update(remarks)
            bar.update(len(batch))
            seen, bad = start + len(batch), sum(map(len, skipped.values()))
            if bad > MAX_SKIPPED * total:
                kinds = "; ".join(f"{len(paths):,} {reason} ({some(paths)})" for reason, paths in sorted(skipped.items()))
                raise UserError(
                    f"{layout.base}: {bad:,} of the first {seen:,} of {total:,} images cannot be used, more than {MAX_SKIPPED:.0%}: "
                    f"{kinds}. Mend or remove them."
                )
    notes = [f"Images that {remark}: {count:,}." for remark, count in sorted(peculiar.items())]
    notes += [f"Images skipped because they are {reason}: {len(paths):,} ({some(paths)})." for reason, paths in sorted(skipped.items())]
    return np.array(kept, dtype=np.int64), notes
