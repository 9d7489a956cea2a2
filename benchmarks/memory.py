"""The most memory that the main jobs have resident, over the number of images: each job in a process of its own.

The images are the rendered ones, as often as needed, behind a cache on the disk. Pages of the cache that a job has read count as
resident, though the system can take them back at any moment. A training stage takes so few steps that its memory has settled.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from aia_lib.audit import audit
from aia_lib.config import PROFILES
from aia_lib.datasets import load_faces
from aia_lib.machine.device import pick_device
from aia_lib.sweep import SWEEP_AUDIT

from .alone import load, peak_megabytes
from .common import Untrained, as_celeba, draw, in_a_process
from .growth import STAGES, part_of_an_epoch

COUNTS = (1_000, 10_000, 30_000, 100_000)
JOBS = ("nothing", "load", *STAGES, "audit")
STEPS = 12

AUDITED = 30_000
"""So many images an audit is given at most: it holds all representations, those of its attackers twice."""


def measure(size: int = 32, images: int = COUNTS[-1], counts: Sequence[int] = COUNTS, jobs: Sequence[str] = JOBS) -> dict:
    """Peak memory of each job at each N.

    Args:
        size: of the images.
        images: the largest N.
        counts: the N's; those beyond `images` are left out.
        jobs: which; "nothing" imports what training and audits need, "load" is done without that.
    """
    rows = []
    counts = [count for count in counts if count <= images] or [images]
    with tempfile.TemporaryDirectory() as scratch:
        drawn = draw(Path(scratch) / "drawn", max(counts))
        for count in counts:
            base, cache = as_celeba(Path(scratch) / str(count), count, drawn), Path(scratch) / "cache"
            load_faces("celeba", base, size=size, cache=cache, progress=False)
            for job in jobs:
                if job != "audit" or count <= AUDITED:
                    arguments = str(base), str(cache), size
                    found = in_a_process(load, *arguments) if job == "load" else in_a_process(work, job, *arguments)
                    rows.append({"job": job, "images": count} | {name: value for name, value in found.items() if name.startswith("peak_")})
    return {"size": size, "threads": torch.get_num_threads(), "device": pick_device().type, "rows": rows}


def work(job: str, base: str, cache: str, size: int) -> dict:
    """In a process of its own: do the job, say what it took. Training is on the best device, as a reader's is."""
    if job != "nothing":
        faces = load_faces("celeba", base, size=size, cache=cache, progress=False)
        faces.images[len(faces) // 2]
    if job in STAGES:
        part_of_an_epoch(job, faces.split().train, dataclasses.replace(PROFILES["book"], size=size), pick_device(), STEPS)
    elif job == "audit":  # what it holds does not depend on how long its attackers learn
        audit(Untrained(size), faces, seeds=1, config=dataclasses.replace(SWEEP_AUDIT, epochs=1, min_steps=1), progress=False)
    taken = {"peak_megabytes": round(peak_megabytes())}
    if torch.cuda.is_available():
        taken["peak_gpu_megabytes"] = round(torch.cuda.max_memory_allocated() / (1 << 20))
    return taken
