"""The notebooks run from top to bottom, in an empty folder, and hold nothing that nbval cannot see."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest

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


def test_it_runs_alone(notebook, installed, cache, tmp_path):
    """From top to bottom in a fresh kernel, in an empty folder, with the installed package: as a reader on Colab has it."""
    environment = {**os.environ, "AIA_PROFILE": "fast", "PYTHONPATH": str(installed), "AIA_CACHE": str(cache)}
    for name in ("AIA_CELEBA_ROOT", "PYTEST_XDIST_WORKER"):
        environment.pop(name, None)
    where = [sys.executable, "-c", "import aia_lib; print(aia_lib.__file__)"]
    assert subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True).stdout.startswith(str(installed))
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "-p", "no:cacheprovider", "-q", "--rootdir", str(tmp_path), str(notebook)]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=1500)
    assert result.returncode == 0, result.stdout[-4000:]
