"""Write what is derived from one place into the files that show it.

The repository's address comes from _config.yml, the version from aia_lib/__init__.py, the table and the picture of the README from the
recorded run in results/. Derived text stands between two lines that hold `sync: NAME begin` and `sync: NAME end`; in notebooks it is
the cell whose metadata say {"sync": "install"}.

    python sync.py            write what is stale
    python sync.py --check    write nothing; name what is stale and exit with status 1
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

import yaml

from aia_lib import __version__, ledger
from aia_lib.files import UserError, atomic_write, sha256, write_text

ROOT = Path(__file__).resolve().parent
RUN = "celeba10k-64"
PICTURE = "book/static/regimes.svg"


def repository() -> tuple[str, str]:
    """The repository's address and branch, as _config.yml states them."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]
    return config["url"].rstrip("/"), config["branch"]


def blocks() -> dict[str, dict[str, str]]:
    """The derived text of each file, by block."""
    url, branch = repository()
    name = url.rsplit("/", 1)[1]
    slug = url.split("://", 1)[1].split("/", 1)[1]
    clone = f"```bash\ngit clone {url}\ncd {name}\n"
    return {
        "README.md": {
            "links": f"[Try it on Colab](https://colab.research.google.com/github/{slug}/blob/{branch}/notebooks/00_quickstart.ipynb)\n"
            f"· [Source]({url}) · [Report a problem]({url}/issues)\n",
            "results": results(),
            "commands": clone + "make test                                     # sets up .venv, then runs all tests\n"
            "make book AIA_CELEBA_ROOT=/path/to/celeba     # runs the whole paper on CelebA, into runs/celeba\n```\n",
            "install": f'```bash\npip install "aia-book @ git+{url}"\n```\n',
        },
        "CONTRIBUTING.md": {"clone": clone + "make setup\nmake test\n.venv/bin/pre-commit install\n```\n"},
        "CITATION.cff": {"address": f'version: {__version__}\nrepository-code: "{url}"\n'},
        "pyproject.toml": {
            "urls": f'Homepage = "{url}"\nIssues = "{url}/issues"\nChangelog = "{url}/blob/{branch}/CHANGELOG.md"\n',
        },
    }


def results() -> str:
    """The README's picture and table, from the recorded run."""
    if RUN not in ledger.names():
        return f"No run is recorded yet. `make sync` draws the picture and the table here from `results/{RUN}.json`.\n"
    report = ledger.load(RUN)
    origin = report["provenance"]
    seeds = ", ".join(str(seed) for seed in origin["seeds"])
    return (
        "![For each method: what its own adversary and the worst fresh attacker read of gender, beside what is left of verification.]"
        f"({PICTURE})\n\n"
        f"{ledger.table(report, paper='celeba')}\n"
        f"{ledger.TABLE_NOTE}\n\n"
        f"Made by `{origin['command']}` (seeds {seeds}) in {origin['seconds'] / 60:.0f} minutes on {origin['device']};\n"
        f"every figure is in [results/{RUN}.json](results/{RUN}.json).\n"
    )


def fill(text: str, block: str, content: str) -> str:
    """`text` with `content` between the lines that mark the beginning and the end of `block`."""
    pattern = rf"(^[^\n]*\bsync: {block} begin\b[^\n]*\n).*?(^[^\n]*\bsync: {block} end\b)"
    filled, count = re.subn(pattern, lambda match: match[1] + content + match[2], text, flags=re.DOTALL | re.MULTILINE)
    if count != 1:
        raise UserError(f"there must be one pair of lines `sync: {block} begin` and `sync: {block} end`, not {count}")
    return filled


def fill_notebook(text: str) -> str:
    """The notebook `text` with the cells written that install the library where it is missing."""
    notebook = json.loads(text)
    lines = (
        "import importlib.util\n",
        "\n",
        'if importlib.util.find_spec("aia_lib") is None:  # as on Colab\n',
        f'    %pip install --quiet "aia-book @ git+{repository()[0]}"',
    )
    for cell in notebook["cells"]:
        if cell["metadata"].get("sync") == "install":
            cell["source"] = list(lines)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def derived() -> dict[Path, str]:
    """What each file with derived text should hold, whole."""
    files = {}
    for name, contents in blocks().items():
        text = (ROOT / name).read_text(encoding="utf-8")
        for block, content in contents.items():
            try:
                text = fill(text, block, content)
            except UserError as error:
                raise UserError(f"{name}: {error}") from error
        files[ROOT / name] = text
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        files[path] = fill_notebook(path.read_text(encoding="utf-8"))
    return files


def picture_source() -> str | None:
    """What the picture was drawn from, as it says in its own metadata; None while no run is recorded."""
    path = ledger.results_root() / f"{RUN}.json"
    return f"drawn from results/{RUN}.json, sha256 {sha256(path)}" if path.is_file() else None


def draw(source: str) -> None:
    """Draw the README's picture. The same run gives the same bytes, except with another matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = RUN
    from aia_lib import plots

    figure = plots.regimes(ledger.load(RUN))
    with atomic_write(ROOT / PICTURE) as file:
        figure.savefig(file, format="svg", bbox_inches="tight", facecolor="white", metadata={"Date": None, "Description": source})


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; name what is stale and exit with status 1")
    check = parser.parse_args(arguments).check
    stale = []
    for path, text in derived().items():
        if path.read_text(encoding="utf-8") != text:
            stale.append(str(path.relative_to(ROOT)))
            if not check:
                write_text(path, text)
    source, picture = picture_source(), ROOT / PICTURE
    if source and not (picture.is_file() and source in picture.read_text(encoding="utf-8")):
        stale.append(PICTURE)
        if not check:
            draw(source)
    for name in stale:
        print(f"{name} is stale: run `make sync`" if check else f"wrote {name}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"sync: {error}")
