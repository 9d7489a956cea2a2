"""What the benchmarks share: clocks, peak memory, processes of their own, data of any size, and how a result is written.

A ratio is taken within one run: what is compared takes its turns, round after round, so that a machine that grows slower meanwhile is
slow for all, and medians are divided.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image

from aia_lib.anonymizers import Networks
from aia_lib.datasets import load_faces
from aia_lib.datasets.celeba import CROP
from aia_lib.faces import Faces
from aia_lib.machine.device import pick_device
from aia_lib.machine.files import write_json
from aia_lib.report.ledger import provenance

ROOT = Path(__file__).resolve().parent.parent


def record(path: str | os.PathLike, words: Sequence[str], data: str, seconds: float, figures: Mapping[str, Any]) -> None:
    """Write figures with where they come from: `python -m benchmarks <words>` on the faces of `data`, in so many seconds."""
    origin = provenance(["python", "-m", "benchmarks", *words], [0], data, seconds, pick_device())
    write_json(path, {"provenance": origin, "figures": dict(figures)})


def rounded(*values: float) -> list[float]:
    """A figure and the ends of its interval, as they are recorded."""
    return [round(float(value), 4) for value in values]


# --- time and memory --------------------------------------------------------------------------------------------------


def devices() -> list[torch.device]:
    """The CPU and, where there is one, the GPU: what is measured on both gets a row for each."""
    best = pick_device()
    return [torch.device("cpu")] if best.type == "cpu" else [torch.device("cpu"), best]


def now() -> float:
    """Seconds, when all that an accelerator was told to do is done."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def clock(work: Callable[[], Any]) -> tuple[float, Any]:
    """The seconds that `work()` takes, and what it returns."""
    start = now()
    result = work()
    return now() - start, result


def in_turn(ways: Mapping[str, Callable[[], Any]], rounds: int) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Seconds of each way by round, and what each returned last. A round goes once through all ways, the next one backwards."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    results = {}
    for number in range(rounds):
        for name in list(ways)[:: -1 if number % 2 else 1]:
            taken, results[name] = clock(ways[name])
            seconds[name].append(round(taken, 4))
    return seconds, results


def ratio(seconds: Mapping[str, Sequence[float]], slow: str, fast: str) -> float:
    """How many times as long `slow` takes as `fast`, by their medians over the rounds."""
    return round(median(seconds[slow]) / median(seconds[fast]), 2)


_CHILD = """
import importlib, json, sys
module, name, arguments = json.loads(sys.argv[1])
result = getattr(importlib.import_module(module), name)(*arguments)
print()
print(json.dumps(result))
"""


def in_a_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)` in a new process that does nothing else. The function is a module's; what goes in and out is JSON.

    Raises:
        RuntimeError: the process failed, with the end of what it said.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    command = [sys.executable, "-c", _CHILD, json.dumps([function.__module__, function.__qualname__, arguments])]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{function.__qualname__}{arguments} ended with status {done.returncode}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


# --- what is worked on ------------------------------------------------------------------------------------------------


class Untrained:
    """The paper's encoder and decoder with their first weights: as large as a trained one, and as slow.

    Args:
        size: of the images, in pixels.
        side: of the map that g flattens, (12, side, side): the encoder's is averaged down to it. None leaves it as it is; only then is
            there a `decode`.
    """

    name = "untrained"

    def __init__(self, size: int, side: int | None = None) -> None:
        self.networks = Networks(size)
        channels, height, _ = self.networks.map_shape
        self.side = side or height
        self.map_shape = (channels, self.side, self.side)
        self.k = channels * self.side**2
        if self.side == height:
            self.decode = self.networks.decode

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        g = self.networks.encode(images)  # (N, k of the encoder)
        if self.side == self.networks.map_shape[1]:
            return g
        return torch.nn.functional.adaptive_avg_pool2d(g.unflatten(1, self.networks.map_shape), self.side).flatten(1)  # (N, k)


@functools.cache
def _rendered() -> Faces:
    return load_faces("embedded", progress=False)


def draw(folder: Path, count: int = 10_000) -> Path:
    """`folder` with the first `count` rendered faces as JPEGs of CelebA's 178 x 218 pixels, where its crop finds the face again."""
    folder.mkdir(parents=True)
    faces = _rendered()
    left, top, right, bottom = map(round, CROP.box(178, 218))

    def write(row: int) -> None:
        whole = Image.new("L", (178, 218), 128)
        whole.paste(Image.fromarray(faces.images[row, 0]).resize((right - left, bottom - top), Image.Resampling.BICUBIC), (left, top))
        whole.convert("RGB").save(folder / _picture(row), quality=90)

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, range(min(count, len(faces)))))
    return folder


def as_celeba(folder: Path, images: int, drawn: Path) -> Path:
    """A folder in CelebA's original layout with so many image files: the faces in `drawn`, with their people and labels.

    Files are hard links (copies, where the file system has none). When the drawn faces have been used up they come again, as new people.
    Boxes, landmarks and CelebA's partition, which decide nothing here, are 0.
    """
    base = folder / "celeba"
    place = base / "img_align_celeba"
    place.mkdir(parents=True)
    faces, pictures = _rendered(), len(os.listdir(drawn))
    for row in range(images):
        source = drawn / _picture(row % pictures)
        try:
            os.link(source, place / _picture(row))
        except OSError:
            shutil.copyfile(source, place / _picture(row))
    rows = np.arange(images) % pictures
    male = np.where(faces.labels()[rows] == 1, "1", "-1")
    people = faces.identity[rows] + np.arange(images) // pictures * faces.people + 1
    _table(base / "list_attr_celeba.txt", images, ["Male", *(f"A{i}" for i in range(1, 40))], (f"{own}{' -1' * 39}" for own in male))
    _table(base / "identity_CelebA.txt", images, None, map(str, people))
    add_unread_labels(base, [_picture(row) for row in range(images)])
    return base


_LANDMARKS = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
UNREAD_LABELS = {
    "list_eval_partition.txt": None,
    "list_bbox_celeba.txt": ["x_1", "y_1", "width", "height"],
    "list_landmarks_align_celeba.txt": [f"{part}_{axis}" for part in _LANDMARKS for axis in "xy"],
}
"""CelebA's files that torchvision insists on and that decide nothing here, with the columns that their heads name."""


def add_unread_labels(base: Path, names: Sequence[str]) -> None:
    """Write those of `UNREAD_LABELS` that are missing in `base`, all 0."""
    for file, columns in UNREAD_LABELS.items():
        if not (base / file).exists():
            _table(base / file, len(names), columns, (" ".join("0" * len(columns or "0")) for _ in names), names)


def _picture(row: int) -> str:
    return f"{row + 1:06d}.jpg"


def _table(path: Path, images: int, columns: Sequence[str] | None, values: Any, names: Sequence[str] | None = None) -> None:
    """A label file of CelebA: with `columns`, the number of images and these come first."""
    names = names or [_picture(row) for row in range(images)]
    head = [] if columns is None else [str(images), " ".join(columns)]
    path.write_text("\n".join([*head, *(f"{name} {value}" for name, value in zip(names, values, strict=True))]) + "\n")
