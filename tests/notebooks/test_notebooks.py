"""The notebooks run from top to bottom, in an empty folder, and hold nothing that nbval cannot see."""

import os
import re
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest

from aia_lib.machine.files import cores

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return request.param


def code(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_no_shell_lines_and_no_unknown_magics(notebook):
    """nbval passes `!command` whatever it does, and skips the rest of a cell after a magic that it does not know."""
    for cell in code(notebook):
        lines = [line.strip() for line in cell.source.splitlines() if re.match(r"\s*(!|%)", line)]
        allowed = cell.metadata.get("sync") == "install"
        assert all(allowed and line.startswith("%pip install ") for line in lines), lines


def test_it_ends_in_assertions(notebook):
    assert code(notebook)[-1].source.count("assert ") >= 3


def test_figures_have_alt_text(notebook):
    for cell in code(notebook):
        if any("image/png" in output.get("data", {}) for output in cell.outputs):
            assert cell.metadata["mystnb"]["image"]["alt"]


def test_it_was_committed_with_its_outputs(notebook):
    cells = code(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """A folder that holds aia_lib as its wheel installs it, and nothing else of the repository."""
    folder = tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, capture_output=True, check=True, timeout=600)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


def run_alone(notebook: Path, installed: Path, folder: Path, threads: int | None) -> subprocess.CompletedProcess:
    """nbval on one notebook in the empty `folder`, with the installed package and with so many threads (None: as many as it likes)."""
    environment = {**os.environ, "AIA_PROFILE": "fast", "PYTHONPATH": str(installed), "AIA_CACHE": str(folder / "cache")}
    environment |= {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    environment.pop("AIA_CELEBA_ROOT", None)
    where = [sys.executable, "-c", "import aia_lib; print(aia_lib.__file__)"]
    assert subprocess.run(where, cwd=folder, env=environment, capture_output=True, text=True).stdout.startswith(str(installed))
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "-p", "no:cacheprovider", "-q", "--rootdir", str(folder), str(notebook)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=1500)


@pytest.fixture(scope="module")
def running(request, installed, tmp_path_factory):
    """The notebooks that are to be tested, each under way or waiting for its turn: one for each core at a time, with one thread each.

    Two threads in one kernel wait for each other after every operation of networks this small; two kernels wait for nobody.
    """
    wanted = [item.callspec.params["notebook"] for item in request.session.items if item.name.startswith("test_it_runs_alone[")]
    at_once = min(cores(), len(wanted))
    threads = None if at_once == 1 else 1
    pool = ThreadPoolExecutor(at_once)
    try:
        yield {path: pool.submit(run_alone, path, installed, tmp_path_factory.mktemp(path.stem), threads) for path in wanted}
    finally:
        pool.shutdown(cancel_futures=True)


def test_it_runs_alone(notebook, running):
    """From top to bottom in a fresh kernel, in an empty folder, with the installed package: as a reader on Colab has it."""
    result = running[notebook].result()
    assert result.returncode == 0, result.stdout[-4000:]
