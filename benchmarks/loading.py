"""Loading 200,000 images a second time: seconds and resident memory, in a process that does nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

IMAGES = 200_000

_SECOND_LOAD = """
import json, resource, sys, time
from aia_lib.datasets import load_faces
start = time.perf_counter()
faces = load_faces("celeba", sys.argv[1], size=int(sys.argv[2]), progress=False)
faces.images[len(faces) // 2]
seconds = time.perf_counter() - start
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 10 if sys.platform != "darwin" else 1 << 20)
print(json.dumps({"images": len(faces), "second_load_seconds": round(seconds, 2), "resident_megabytes": round(memory)}))
"""


def measure(root: str | None, size: int, images: int | None) -> dict:
    """Make a data set in CelebA's layout out of hard links, load it twice, measure the second time."""
    count = images or IMAGES
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "celeba"
        pictures = base / "img_align_celeba"
        pictures.mkdir(parents=True)
        first = pictures / "000001.jpg"
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (109, 89), dtype=np.uint8)).save(first)
        names = [f"{i:06d}.jpg" for i in range(1, count + 1)]
        source = first
        for i, name in enumerate(names[1:], start=1):
            if i % 30_000 == 0:  # file systems limit the links to one file
                source = pictures / name
                source.write_bytes(first.read_bytes())
            else:
                os.link(source, pictures / name)
        attributes = " ".join(["Male", *(f"A{i}" for i in range(1, 40))])
        lines = [f"{name} {' '.join('1' if (i // 20 + j) % 2 else '-1' for j in range(40))}" for i, name in enumerate(names)]
        (base / "list_attr_celeba.txt").write_text("\n".join([str(count), attributes, *lines]) + "\n")
        (base / "identity_CelebA.txt").write_text("\n".join(f"{name} {i // 20 + 1}" for i, name in enumerate(names)) + "\n")
        environment = {**os.environ, "AIA_CACHE": str(Path(folder) / "cache")}
        for _ in range(2):
            command = [sys.executable, "-c", _SECOND_LOAD, str(base), str(size)]
            result = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return {"size": size, **json.loads(result.stdout)}
