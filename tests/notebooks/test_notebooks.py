"""The notebooks run from top to bottom, in an empty folder, and hold nothing that nbval cannot see."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


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


@pytest.mark.celeba
def test_it_runs(notebook, celeba_root, tmp_path):
    environment = {**os.environ, "AIA_CELEBA_ROOT": str(celeba_root), "AIA_PROFILE": "fast"}
    command = [sys.executable, "-m", "pytest", "--nbval-lax", "-p", "no:cacheprovider", "-q", "--rootdir", str(tmp_path), str(notebook)]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stdout[-4000:]
