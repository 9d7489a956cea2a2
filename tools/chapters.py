"""Execute the book's chapters, and build the site from what they gave.

Each chapter runs from top to bottom in a fresh kernel and an empty folder. Its figures (the output of `aia_lib.checks.compare`) are held
against results/chapters/; what it printed and drew goes into _build/chapters, from which `site` builds. A chapter whose text and library
have not changed since it was executed there is not run again.

    python tools/chapters.py run [NAME ...]            execute all chapters, or those named ("05" or "05_adversarial_finetuning")
    python tools/chapters.py run --write [NAME ...]    also put the outputs into notebooks/ and the figures into results/chapters/
    python tools/chapters.py site                      build the site from the executed chapters into _build/html
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError

from aia_lib import ledger
from aia_lib.checks import FIGURES, beside
from aia_lib.config import get_profile
from aia_lib.machine.device import pick_device
from aia_lib.machine.files import UserError, write_json, write_text

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
EXECUTED = ROOT / "_build" / "chapters"
SOURCE = ROOT / "_build" / "source"
DOCUMENTS = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "LICENSE-CONTENT")
PARTS = ("_config.yml", "_toc.yml", "book", "results", "tools", *DOCUMENTS)
"""What a page may link to, include or run, beside the chapters."""


def chosen(names: list[str]) -> list[Path]:
    """The chapters whose file names begin with one of `names`; all of them where none is given.

    Raises:
        UserError: a name fits no chapter.
    """
    paths = sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))
    for name in names:
        if not any(path.stem.startswith(name) for path in paths):
            raise UserError(f"There is no chapter {name!r}; there are {', '.join(path.stem for path in paths)}.")
    return [path for path in paths if not names or any(path.stem.startswith(name) for name in names)]


def library() -> str:
    """A hash of all that a chapter's outputs depend on beside its own cells: the package's code, faces and checkpoints, and the ledger."""
    digest = hashlib.sha256(get_profile().name.encode())
    files = [path for folder in ("aia_lib", "results") for path in sorted((ROOT / folder).rglob("*")) if path.is_file()]
    for path in files:
        if path.suffix != ".pyc" and path.parent != ROOT / "results" / "chapters":
            digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def fingerprint(notebook: nbformat.NotebookNode, of_library: str) -> str:
    """A hash of a chapter's code cells and of `library()`."""
    sources = [cell.source for cell in code(notebook)]
    return hashlib.sha256((of_library + json.dumps(sources)).encode()).hexdigest()


def execute(notebook: nbformat.NotebookNode, threads: int | None = None, folder: Path | None = None) -> float:
    """Run a chapter in place, in a fresh kernel and `folder` (None: an empty one); returns its seconds. threads None: as many as it likes.

    Raises:
        UserError: a cell failed; the message holds the cell and the error.
    """
    with tempfile.TemporaryDirectory(prefix="chapter-") as empty:
        quiet = ["--IPKernelApp.log_level=40"]  # a kernel of this very machine need not warn of its unencrypted port
        where = {"metadata": {"path": str(folder or empty)}}
        client = NotebookClient(notebook, timeout=None, kernel_name="python3", resources=where, extra_arguments=quiet)
        path, start = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])), time.monotonic()
        try:
            client.execute(env={**os.environ, "PYTHONPATH": path} | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)}))
        except CellExecutionError as error:
            raise UserError(str(error)) from error
        except DeadKernelError as error:
            raise UserError("its kernel died; often the memory did not suffice.") from error
        seconds = time.monotonic() - start
    for cell in code(notebook):
        cell.outputs = joined([output for output in cell.outputs if output.get("name") != "stderr"])
        cell.metadata.pop("execution", None)  # the kernel's clock: another one each time
    notebook.metadata.pop("widgets", None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    return seconds


def joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Outputs in which printed lines that came in a row are one: how often a kernel sends what it printed depends on its speed."""
    made: list[nbformat.NotebookNode] = []
    for output in outputs:
        if made and output.output_type == made[-1].output_type == "stream" and output.name == made[-1].name:
            made[-1].text += output.text
        else:
            made.append(output)
    return made


def code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """The code cells."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def figures(notebook: nbformat.NotebookNode) -> dict | None:
    """The data of the output that the chapter's `compare` left, by media type. None where it left none."""
    found = [output.data for cell in code(notebook) for output in cell.outputs if FIGURES in output.get("data", {})]
    return found[-1] if found else None


def kept_from(left: dict) -> list[str]:
    """How a chapter's figures differ from the recorded ones, a sentence each; empty where they agree or were recorded in another profile.

    Raises:
        UserError: no figures of this chapter are recorded.
    """
    record = ledger.side_record("chapters", left["chapter"])
    if record is None:
        number = left["chapter"]
        raise UserError(f"results/chapters/{number}.json is missing; `python tools/chapters.py run --write {number}` makes it.")
    if record["profile"] != left["profile"]:
        return []
    here, known = left["figures"], record["figures"]
    lines = [f"“{name}” is only {'here' if name in here else 'recorded'}." for name in sorted(here.keys() ^ known.keys())]
    for name in here.keys() & known.keys():
        if not abs(here[name] - known[name]) <= left["tolerance"] + 1e-12:
            lines.append(f"“{name}” is {here[name]:.3f}, recorded {known[name]:.3f}; {left['tolerance']:g} is allowed.")
    return lines


def run(names: list[str], write: bool, jobs: int = 1) -> int:
    """Execute the chapters, `jobs` at a time, which share the processor's cores; returns how many failed."""
    of_library = library()
    threads = max(1, (os.cpu_count() or 1) // jobs) if jobs > 1 else None
    start = time.monotonic()
    with ThreadPoolExecutor(jobs) as pool:  # each waits for a kernel, which is a process
        done = list(pool.map(lambda path: chapter(path, of_library, write, threads), chosen(names)))
    print("Nothing had to be executed." if done.count(0.0) == len(done) else f"Executed in {(time.monotonic() - start) / 60:.1f} minutes.")
    return done.count(None)


def chapter(path: Path, of_library: str, write: bool, threads: int | None) -> float | None:
    """Execute a chapter, unless it was executed as it is; hold its figures against the record, or write them. Seconds; None: it failed."""
    notebook, seconds, how = nbformat.read(path, as_version=4), 0.0, "as executed before"
    mark, out = fingerprint(notebook, of_library), EXECUTED / path.name
    try:
        done = nbformat.read(out, as_version=4) if out.is_file() else None
        if done is not None and done.metadata.get("aia", {}).get("fingerprint") == mark:
            for new, old in zip(code(notebook), code(done), strict=True):  # the words between them may have changed since
                new.outputs, new.execution_count = old.outputs, old.execution_count
            took = done.metadata["aia"]["seconds"]
        else:
            print(f"{path.stem} …", flush=True)
            took = seconds = execute(notebook, threads)
            how = f"{seconds:.0f} s"
        shown = figures(notebook)
        left = None if shown is None else shown[FIGURES]
        if left is not None:
            known = {"figures": left["figures"], "profile": left["profile"]} if write else ledger.side_record("chapters", left["chapter"])
            if known is not None and known["profile"] == left["profile"]:
                shown["text/plain"] = beside(left["figures"], known["figures"], left["tolerance"])
        if write:
            if left is not None:
                command = f"python tools/chapters.py run --write {path.stem[:2]}"
                origin = ledger.provenance(command, [0], "embedded", took, pick_device())
                record = {"provenance": origin, "profile": left["profile"], "figures": left["figures"]}
                write_json(ledger.results_root() / "chapters" / f"{left['chapter']}.json", record)
            write_text(path, nbformat.writes(notebook) + "\n")
        notebook.metadata["aia"] = {"fingerprint": mark, "seconds": round(took, 1)}
        write_text(out, nbformat.writes(notebook) + "\n")
        wrong = [] if left is None else kept_from(left)
        if wrong:
            raise UserError("\n    ".join(["its figures are not those recorded:", *wrong]))
        said = "" if left is None else f"; {len(left['figures'])} figures agree with those recorded"
        print(f"{path.stem}: {how}{said}", flush=True)
    except UserError as error:
        print(f"{path.stem} failed: {error}", file=sys.stderr, flush=True)
        return None
    return seconds


def site() -> int:
    """Build the site from the executed chapters; returns the builder's status."""
    missing = [path.stem for path in chosen([]) if not (EXECUTED / path.name).is_file()]
    if missing:
        raise UserError(
            f"Not executed yet: {', '.join(missing)}. `python tools/chapters.py run` executes them; `make site` builds the site without."
        )
    shutil.rmtree(SOURCE, ignore_errors=True)
    SOURCE.mkdir(parents=True)
    for name in PARTS:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, SOURCE / name)
    (SOURCE / "notebooks").mkdir()
    for path in chosen([]):
        shutil.copy2(EXECUTED / path.name, SOURCE / "notebooks" / path.name)
    builder = Path(sys.executable).parent / "jupyter-book"
    command = [str(builder), "build", "-W", "-n", "--keep-going", "-q", "--path-output", str(ROOT), str(SOURCE)]
    return subprocess.run(command, check=False).returncode


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="chapters.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    runner = commands.add_parser("run", help="execute the chapters and hold their figures against the recorded ones")
    runner.add_argument("names", nargs="*", metavar="NAME", help='chapters, as in "05"; default: all')
    runner.add_argument("--write", action="store_true", help="put outputs into notebooks/ and figures into results/chapters/")
    runner.add_argument("--jobs", type=int, default=1, choices=range(1, 17), metavar="N", help="chapters at a time (default 1)")
    commands.add_parser("site", help="build the site from the executed chapters")
    options = parser.parse_args(arguments)
    return site() if options.command == "site" else min(run(options.names, options.write, options.jobs), 1)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"chapters: {error}")
