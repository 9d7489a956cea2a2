"""What is measured in a process of its own that has not imported torch: loading faces needs numpy and Pillow only."""

from __future__ import annotations

import re
import resource
import sys
import time
from pathlib import Path

from aia_lib.datasets import load_faces


def peak_megabytes() -> float:
    """The most memory that this process had resident so far, pages of mapped files included, in MB of 2^20 bytes.

    Not `ru_maxrss` where it can be helped: on Linux a new process begins with that of the one it was started by.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) / (1 << 10)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 10 if sys.platform != "darwin" else 1 << 20)


def load(base: str, cache: str, size: int) -> dict:
    """Seconds and memory of loading the faces in `base` from their cache, and reading one."""
    before, start = peak_megabytes(), time.perf_counter()
    faces = load_faces("celeba", base, size=size, cache=cache, progress=False)
    faces.images[len(faces) // 2]
    seconds = time.perf_counter() - start
    return {
        "images": len(faces),
        "seconds": round(seconds, 3),
        "peak_megabytes": round(peak_megabytes()),
        "before_megabytes": round(before),
    }
