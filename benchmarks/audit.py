"""The audit of one representation, one seed, everything in it."""

from __future__ import annotations

import resource
import sys
import time

import torch

from aia_lib.anonymizers import Networks
from aia_lib.audit import audit
from aia_lib.datasets import load_faces


class Untrained:
    """The paper's encoder and decoder with their first weights: as large as a trained one, and as slow."""

    name = "untrained"

    def __init__(self, size: int) -> None:
        self.networks = Networks(size)
        self.map_shape = self.networks.map_shape
        self.decode = self.networks.decode

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return self.networks.encode(images)


def measure(root: str, size: int, images: int | None) -> dict:
    """Seconds and peak memory of `audit(…, seeds=1)`."""
    faces = load_faces("celeba", root, size=size, limit=images)
    anonymizer = Untrained(size)
    start = time.perf_counter()
    report = audit(anonymizer, faces, seeds=1, progress=False)
    seconds = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 10 if sys.platform != "darwin" else 1 << 20)
    return {
        "images": len(faces),
        "k": int(torch.tensor(anonymizer.map_shape).prod()),
        "seconds": round(seconds, 1),
        "peak_resident_megabytes": round(memory),
        "leak_auc": report.retrained["leak_auc"],
        "attackers": report.retrained["attackers"],
        "threads": torch.get_num_threads(),
    }
