"""Speed, memory and growth, as ratios measured within one run: `python -m benchmarks [NAME]`, or `make bench`.

A ratio survives a change of machine better than seconds do. Each benchmark prints its figures and, with --out, writes them
with their provenance; results/benchmarks/ holds the recorded ones. Without a name all run, one after the other, each in a process of
its own, and --out is a folder; all but `difficulty`, `ablation`, `attributes`, `matched`, `front` and `rivals`, which measure a data
set and methods, and take half an hour and more.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from aia_lib.machine.files import UserError

from .common import ROOT, record

ALL = ("autoencoder", "training", "loading", "audit", "memory", "growth", "sweep")
"""What `make bench` runs."""

BENCHMARKS = (*ALL, "difficulty", "ablation", "attributes", "matched", "front", "rivals")
"""The last six measure a data set and methods, not the machine, and take half an hour and more."""

OF_FILES = ("autoencoder", "loading")
"""They read image files: CelebA's where it is at hand."""

OF_TEMPLATES = ("front", "rivals")
"""They read templates, those that ship where no file is named."""


def main(words: Sequence[str] | None = None) -> int:
    """Run one benchmark, or all. Returns the exit status."""
    words = sys.argv[1:] if words is None else list(words)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("benchmark", nargs="?", choices=BENCHMARKS, help=f"default: {', '.join(ALL)}")
    which = "faces (default: embedded; celeba for those that read files, where its folder is known; templates for front and rivals)"
    parser.add_argument("--data", choices=("celeba", "embedded", "templates"), help=which)
    parser.add_argument("--root", help="a CelebA folder (default: AIA_CELEBA_ROOT), a rendered set, or a file of templates")
    parser.add_argument("--size", type=int, help="side of the images in pixels (default: the benchmark's)")
    parser.add_argument("--images", type=int, help="how many images to work on (default: the benchmark's)")
    parser.add_argument("--out", help="write the figures here, as JSON; a folder where all benchmarks run")
    options = parser.parse_args(words)
    try:
        return _all(options) if options.benchmark is None else _one(options, words)
    except UserError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2


def _one(options: argparse.Namespace, words: Sequence[str]) -> int:
    measure = importlib.import_module(f".{options.benchmark}", __package__).measure
    root = options.root or os.environ.get("AIA_CELEBA_ROOT")
    if options.data and (options.data == "templates") != (options.benchmark in OF_TEMPLATES):
        raise UserError(f"The benchmark {options.benchmark!r} takes no --data {options.data}.")
    usual = "templates" if options.benchmark in OF_TEMPLATES else "celeba" if options.benchmark in OF_FILES and root else "embedded"
    data = options.data or usual
    if data == "celeba" and not root:
        raise UserError("Say where CelebA lies: --root FOLDER or AIA_CELEBA_ROOT.")
    if data != "celeba":
        root = options.root
    asked = {"data": data, "root": root, "size": options.size, "images": options.images}
    known = inspect.signature(measure).parameters
    for name in ("data", "root", "size", "images"):
        if name not in known and getattr(options, name) is not None:
            raise UserError(f"The benchmark {options.benchmark!r} takes no --{name}.")
    for name in ("size", "images"):
        if asked[name] is not None and asked[name] < 1:
            raise UserError(f"--{name} must be a positive number, not {asked[name]}.")
    start = time.monotonic()
    figures = measure(**{name: value for name, value in asked.items() if name in known and value is not None})
    for name, value in figures.items():
        print(f"{name:<36} {value}" if not isinstance(value, list) else "\n".join([f"{name}:", *(f"    {item}" for item in value)]))
    if options.out:
        record(options.out, words, data, time.monotonic() - start, figures)
    return 0


def _all(options: argparse.Namespace) -> int:
    """Each in a process of its own: what one leaves in memory must not help or hinder the next. 1 where one failed."""
    for name in ("data", "root", "size", "images"):
        if getattr(options, name) is not None:
            raise UserError(f"--{name} goes with the name of a benchmark.")
    failed = []
    for name in ALL:
        print(f"\n=== {name}", flush=True)
        out = [] if options.out is None else ["--out", str(Path(options.out) / f"{name}.json")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
        if subprocess.run([sys.executable, "-m", "benchmarks", name, *out], env=environment).returncode:
            failed.append(name)
    if failed:
        print(f"benchmarks: failed: {', '.join(failed)}.", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
