"""Speed and memory, as ratios measured within one run: `python -m benchmarks autoencoder --root CelebA`.

A ratio survives a change of machine better than seconds do. Each benchmark prints its figures and, with --out, writes them
with their provenance; results/benchmarks/ holds the recorded ones.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from aia_lib.files import UserError, write_json
from aia_lib.ledger import provenance
from aia_lib.training import pick_device

from . import audit, autoencoder, difficulty, loading, sweep

BENCHMARKS = {"autoencoder": autoencoder, "loading": loading, "audit": audit, "difficulty": difficulty, "sweep": sweep}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("benchmark", nargs="?", choices=tuple(BENCHMARKS), default="autoencoder", help="default: autoencoder")
    parser.add_argument("--root", help="a CelebA folder (default: AIA_CELEBA_ROOT), or a rendered set for --data embedded")
    parser.add_argument(
        "--data", default="celeba", choices=("celeba", "embedded"), help="faces of `difficulty` and `sweep` (default: celeba)"
    )
    parser.add_argument("--size", type=int, default=64, help="side of the images in pixels (default 64)")
    parser.add_argument("--images", type=int, default=None, help="how many images to work on (default: the benchmark's)")
    parser.add_argument("--out", help="write the figures here, as JSON")
    options = parser.parse_args()
    try:
        named = {"data": options.data} if options.benchmark in ("difficulty", "sweep") else {}
        root = options.root or (os.environ.get("AIA_CELEBA_ROOT") if options.data == "celeba" else None)
        if root is None and options.benchmark != "loading" and options.data == "celeba":
            raise UserError("Say where CelebA lies: --root FOLDER or AIA_CELEBA_ROOT.")
        start = time.monotonic()
        figures = BENCHMARKS[options.benchmark].measure(root, options.size, options.images, **named)
        for name, value in figures.items():
            print(f"{name:<44} {value}")
        if options.out:
            command = ["python", "-m", "benchmarks", *sys.argv[1:]]
            seconds = time.monotonic() - start
            write_json(options.out, {"provenance": provenance(command, [0], options.data, seconds, pick_device()), "figures": figures})
    except UserError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
