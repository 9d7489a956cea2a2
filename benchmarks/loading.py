"""Reading all images once: decoded anew, from the cache, and by torchvision's CelebA with a DataLoader; and a large set's second load.

All three give batches of grey squares, float32 in [0, 1]. *Raw* is the library's first load, which writes the cache besides.
torchvision compares the label files with the MD5 of CelebA's own, which neither a copy of a part nor a made set can pass: `Unchecked`
leaves out that test and nothing else. Everything is read once before the clock runs, so that no way pays for a cold disk.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import CelebA
from torchvision.transforms import functional

from aia_lib.datasets import load_faces, locate
from aia_lib.datasets.celeba import CROP
from aia_lib.datasets.common import Layout, scan
from aia_lib.machine.device import to_images
from aia_lib.machine.files import UserError, cores

from .alone import load
from .common import add_unread_labels, as_celeba, clock, draw, in_a_process, in_turn, ratio

BATCH = 64
RAW, CACHED, TORCHVISION = "raw", "cached", "torchvision"


LABELS = {"attributes": "list_attr_celeba.txt", "identity": "identity_CelebA.txt", "partition": "list_eval_partition.txt"}


class Unchecked(CelebA):
    """torchvision's CelebA that takes the label files as they are."""

    def _check_integrity(self) -> bool:
        return True


def measure(data: str = "embedded", root: str | None = None, size: int = 64, images: int = 10_000, rounds: int = 3) -> dict:
    """Seconds of a pass over the images in each of the three ways, and the seconds and memory of a second load.

    Args:
        data, root: a CelebA folder; with "embedded" one is made of the rendered faces, see `common.as_celeba`.
        size: what images are scaled to.
        images: of the made folder; a CelebA folder is read as it is. The second load is of a made folder with 20 times as many.
        rounds: how often each way takes its turn.
    """
    layout = locate("celeba", root) if data == "celeba" else None
    with tempfile.TemporaryDirectory() as scratch:
        drawn = draw(Path(scratch) / "drawn", images)
        layout = layout or locate("celeba", as_celeba(Path(scratch) / "made", images, drawn))
        theirs = as_torchvision_wants(layout, Path(scratch) / "torchvision")
        number = iter(range(10 * rounds))

        def raw() -> int:
            return one_pass(layout, size, Path(scratch) / f"cache-{next(number)}")

        def cached() -> int:
            return one_pass(layout, size, Path(scratch) / "cache-0")

        def torchvision() -> int:
            faces = Unchecked(theirs, split="all", target_type=["attr", "identity"], transform=lambda image: grey_square(image, size))
            return sum(len(batch) for batch, _ in DataLoader(faces, batch_size=BATCH, num_workers=cores()))

        raw()  # the cache that `cached` reads, and all files once
        seconds, read = in_turn({RAW: raw, CACHED: cached, TORCHVISION: torchvision}, rounds)
        if len(set(read.values())) > 1:
            raise RuntimeError(f"the ways read different numbers of images: {read}")
        count = read[RAW]
        listed = median(clock(lambda: load_faces("celeba", layout.base, size=size, cache=f"{scratch}/cache-0"))[0] for _ in range(rounds))
        second = second_load(Path(scratch) / "large", 20 * images, drawn, size)
    return {
        "pictures": "CelebA" if data == "celeba" else "rendered faces, 178 x 218 pixels",
        "images": count,
        "size": size,
        "rounds": rounds,
        "cores": cores(),
        "seconds": seconds,
        "images_per_second": {way: round(count / median(values)) for way, values in seconds.items()},
        "decoded_per_second_and_core": round(count / (median(seconds[RAW]) - median(seconds[CACHED])) / cores()),
        "cached_without_reading_seconds": round(listed, 4),
        "ratio_torchvision_to_cached": ratio(seconds, TORCHVISION, CACHED),
        "ratio_torchvision_to_raw": ratio(seconds, TORCHVISION, RAW),
        "ratio_raw_to_cached": ratio(seconds, RAW, CACHED),
        "second_load": second,
    }


def one_pass(layout: Layout, size: int, cache: Path) -> int:
    """Load the faces and read all of them in batches, shuffled, as a training stage does; how many there were."""
    faces = load_faces("celeba", layout.base, size=size, cache=cache, progress=False)
    order = np.random.default_rng(0).permutation(len(faces))
    device = torch.device("cpu")
    return sum(len(to_images(faces.images[order[start : start + BATCH]], device)) for start in range(0, len(faces), BATCH))


def grey_square(image: Image.Image, size: int) -> torch.Tensor:
    """The same cut and scaling as the library's, by Pillow and torchvision: float32 (1, size, size)."""
    grey = image.convert("L")
    return functional.to_tensor(grey.resize((size, size), Image.Resampling.BICUBIC, box=CROP.box(*grey.size)))


def as_torchvision_wants(layout: Layout, folder: Path) -> Path:
    """A folder with links to the files of `layout` under the names that torchvision wants, and with what it wants besides."""
    base = folder / "celeba"
    base.mkdir(parents=True)
    os.symlink((layout.base / layout.folders[0]).resolve(), base / "img_align_celeba")
    names = [path.rsplit("/", 1)[-1] for path in scan(layout).paths]
    for what, name in LABELS.items():
        if what in layout.labels:
            _only(layout.labels[what], set(names), base / name)
    add_unread_labels(base, names)
    return folder


def _only(labels: Path, names: set[str], copy: Path) -> None:
    """Those lines of a label file that are about the images in `names`; its head, where it has one, goes along."""
    if labels.suffix != ".txt":
        raise UserError(f"{labels} is no original file of CelebA, and torchvision reads no other; use a folder with {copy.name}.")
    lines = labels.read_text(encoding="utf-8").splitlines()
    head = [] if len(lines[0].split()) > 1 else [str(len(names)), lines[1]]
    copy.write_text("\n".join([*head, *(line for line in lines[len(head) :] if line.split()[0] in names)]) + "\n", encoding="utf-8")


def second_load(folder: Path, images: int, drawn: Path, size: int) -> dict:
    """Seconds and resident memory of loading so many images for the second time, in a process that does nothing else."""
    base, cache = as_celeba(folder, images, drawn), folder / "cache"
    load_faces("celeba", base, size=size, cache=cache, progress=False)
    return in_a_process(load, str(base), str(cache), size)
