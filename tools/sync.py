"""Write what is derived from one place into the files that show it.

The repository's address comes from _config.yml, the version from aia_lib/__init__.py, pictures, tables and quoted numbers from the recorded
runs in results/. Derived blocks stand between two lines that hold `sync: NAME begin` and `sync: NAME end`; in notebooks it is the cell
whose metadata say {"sync": "install"}. A quoted number has its key behind it (tools/quotes.py says how).

    python tools/sync.py            write what is stale
    python tools/sync.py --check    write nothing; name what is stale and exit with status 1
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import yaml

import quotes
import results_page
from aia_lib import __version__, ledger
from aia_lib.machine.files import UserError, atomic_write, sha256, write_text

ROOT = Path(__file__).resolve().parents[1]
RUN, HARDENED = "celeba10k-64", "celeba10k-32"
"""The runs on photographs that the README shows: the paper's methods, and the recommended one beside them."""
REGIMES = {"regimes": RUN, "hardened": HARDENED}
"""Pictures of both regimes in book/static, and the run that each shows."""
SHEET_PEOPLE, SHEET_IMAGES, CARD_PEOPLE = 12, 10, 8


SETUP = "make setup      # .venv with the pinned packages and the library\nmake test       # everything works here\n```\n"


def config() -> dict:
    return yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))


def repository() -> tuple[str, str]:
    """The repository's address and branch, as _config.yml states them."""
    of = config()["repository"]
    return of["url"].rstrip("/"), of["branch"]


def blocks() -> dict[str, dict[str, str]]:
    """The derived text of each file, by block."""
    url, branch = repository()
    slug = url.split("://", 1)[1].split("/", 1)[1]
    owner, name = slug.split("/")
    clone = f"```bash\ngit clone {url}\ncd {name}\n"
    install = f'```bash\npip install "aia-book @ git+{url}"\n```\n'
    pages = f"https://{owner}.github.io/{name}/"
    colab = f"https://colab.research.google.com/github/{slug}/blob/{branch}/notebooks/00_quickstart.ipynb"
    return {
        "_config.yml": {"pages": f'    ogp_site_url: "{pages}"\n    ogp_image: "{pages}_static/social.png"\n'},
        "README.md": {
            "links": f"[Try it on Colab]({colab})\n· [Source]({url}) · [Report a problem]({url}/issues)\n",
            "results": readme_table(RUN, paper="celeba", note=f"\n{ledger.TABLE_NOTE}\n"),
            "hardened": readme_table(HARDENED),
            "commands": clone + "make test                                     # sets up .venv, then runs all tests\n"
            "make book                                     # executes every chapter on the embedded faces, then builds the book\n```\n",
            "install": install,
        },
        "book/intro.md": {"install": install},
        "book/how_to_use.md": {"install": install, "clone": f"{clone}{SETUP}"},
        "book/data_card_embedded.md": {
            "facts": results_page.embedded_facts(),
            "difficulty": results_page.difficulty().data,
            "regions": results_page.regions().data,
        },
        "CONTRIBUTING.md": {"clone": clone + "make setup\nmake test\n.venv/bin/pre-commit install\n```\n"},
        "CITATION.cff": {"address": f'version: {__version__}\nrepository-code: "{url}"\n'},
        "pyproject.toml": {
            "urls": f'Homepage = "{url}"\nIssues = "{url}/issues"\nChangelog = "{url}/blob/{branch}/CHANGELOG.md"\n',
        },
    }


def readme_table(run: str, paper: str | None = None, note: str = "") -> str:
    """A recorded run's table for the README, `note` below it, and how it was made."""
    report = ledger.load(run)
    origin = report["provenance"]
    how = f"(seeds {', '.join(map(str, origin['seeds']))}) in {origin['seconds'] / 60:.0f} minutes on {origin['device']}"
    made = f"Made by `{origin['command']}` {how};\nevery figure is in [results/{run}.json](results/{run}.json).\n"
    return f"{ledger.table(report, paper=paper)}{note}\n{made}"


def fill_block(text: str, block: str, content: str) -> str:
    """`text` with `content` between the lines that mark the beginning and the end of `block`."""
    pattern = rf"(^[^\n]*\bsync: {block} begin\b[^\n]*\n).*?(^[^\n]*\bsync: {block} end\b)"
    filled, count = re.subn(pattern, lambda match: match[1] + content + match[2], text, flags=re.DOTALL | re.MULTILINE)
    if count != 1:
        raise UserError(f"there must be one pair of lines `sync: {block} begin` and `sync: {block} end`, not {count}")
    return filled


def fill_notebook(text: str) -> str:
    """The notebook `text` with its quoted numbers, and with the cells written that install the library where it is missing."""
    notebook = json.loads(text)
    install = (
        "import importlib.util\n",
        "\n",
        'if importlib.util.find_spec("aia_lib") is None:  # as on Colab\n',
        f'    %pip install --quiet "aia-book @ git+{repository()[0]}"',
    )
    for cell in notebook["cells"]:
        if cell["metadata"].get("sync") == "install":
            cell["source"] = list(install)
        elif cell["cell_type"] == "markdown":
            cell["source"] = quotes.fill("".join(cell["source"])).splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def derived() -> dict[Path, str]:
    """What each file with derived text should hold, whole."""
    of_blocks = {ROOT / name: contents for name, contents in blocks().items()}
    files = {}
    for path in dict.fromkeys([*of_blocks, *quotes.pages()]):
        text = path.read_text(encoding="utf-8")
        try:
            for block, content in of_blocks.get(path, {}).items():
                text = fill_block(text, block, content)
            files[path] = fill_notebook(text) if path.suffix == ".ipynb" else quotes.fill(text) if path.suffix == ".md" else text
        except UserError as error:
            raise UserError(f"{path.relative_to(ROOT)}: {error}") from error
    return files


# Pictures -------------------------------------------------------------------------------------------------------------


def embedded_source() -> str:
    """What the contact sheet is drawn from."""
    from aia_lib.datasets.embedded import manifest

    return f"the first {SHEET_PEOPLE} people of the embedded faces, sha256 {manifest()['sha256']['images']}"


def card_source() -> str:
    """What the social card is drawn from."""
    return f"“{config()['title']}”; {embedded_source()}; results/{RUN}.json, sha256 {sha256(ledger.results_root() / f'{RUN}.json')}"


def draw_sheet(path: Path) -> None:
    """Write the contact sheet: a row a person. Rendered heads, so it may be shown."""
    import numpy as np
    from PIL import Image, PngImagePlugin

    from aia_lib import load_faces

    faces = load_faces("embedded", progress=False)
    rows = np.concatenate([np.flatnonzero(faces.identity == person)[:SHEET_IMAGES] for person in range(SHEET_PEOPLE)])
    tiles = np.asarray(faces.images)[rows, 0].reshape(SHEET_PEOPLE, SHEET_IMAGES, faces.size, faces.size)
    sheet = tiles.transpose(0, 2, 1, 3).reshape(SHEET_PEOPLE * faces.size, SHEET_IMAGES * faces.size)
    about = PngImagePlugin.PngInfo()
    about.add_text("Description", embedded_source())
    with atomic_write(path) as file:
        Image.fromarray(sheet).save(file, format="PNG", optimize=True, pnginfo=about)


def draw_card(path: Path) -> None:
    """Write the social card, 1200 x 630: the book's title, rendered people, and the result in two bars a method."""
    import matplotlib
    import numpy as np
    from matplotlib.figure import Figure

    from aia_lib import load_faces, plots

    faces = load_faces("embedded", progress=False)
    first = [np.flatnonzero(faces.identity == person)[0] for person in range(CARD_PEOPLE)]
    methods = [ledger.load(RUN)["methods"][name] for name in ("Original", "AIA")]
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(12, 6.3), dpi=100, facecolor="white")
        figure.text(0.05, 0.87, config()["title"], fontsize=26, fontweight="bold")
        figure.text(0.05, 0.80, "A hands-on book on privacy-preserving face representations", fontsize=18, color=plots.GREY)
        picture = figure.add_axes((0.05, 0.52, 0.9, 0.24))
        strip = np.concatenate(list(np.asarray(faces.images)[first, 0]), axis=1)
        picture.imshow(strip, cmap="gray", vmin=0, vmax=255, aspect="auto", interpolation="bicubic")
        picture.set_axis_off()
        bars, rows = figure.add_axes((0.27, 0.15, 0.68, 0.31)), np.arange(2)
        own, fresh = [of["paper"]["privacy_auc"] for of in methods], [of["retrained"]["leak_auc"] for of in methods]
        bars.barh(rows - 0.19, own, 0.36, color=plots.BLUE, label="its own adversary")
        bars.barh(rows + 0.19, fresh, 0.36, color=plots.VERMILLION, label="attackers trained afterwards")
        bars.set(xlim=(0.5, 1), ylim=(1.5, -0.5), yticks=rows)
        bars.set_yticklabels(["no protection", "AIA"], fontsize=18)
        bars.tick_params(axis="x", labelsize=14)
        bars.set_xlabel("AUC of gender, as labelled, on 10,000 CelebA images", fontsize=16)
        figure.legend(loc="lower left", bbox_to_anchor=(0.02, 0.01), fontsize=14, ncols=1, frameon=False)
        with atomic_write(path) as file:
            figure.savefig(file, format="png", metadata={"Software": None, "Description": card_source()})


def draw_regimes(path: Path) -> None:
    write_text(path, results_page.picture(REGIMES[path.stem]).data)


def pictures() -> dict[Path, tuple[str, Callable[[Path], None]]]:
    """Each picture, with what its own metadata must say that it was drawn from, and what draws it."""
    static = ROOT / "book" / "static"
    drawn = {static / f"{name}.svg": (results_page.source(run), draw_regimes) for name, run in REGIMES.items()}
    sheet, card = static / "contact_sheet.png", ROOT / "book" / "_static" / "social.png"
    return drawn | {sheet: (embedded_source(), draw_sheet), card: (card_source(), draw_card)}


def says(path: Path, source: str) -> bool:
    """Whether a picture's metadata name `source`."""
    from PIL import Image

    if not path.is_file():
        return False
    if path.suffix == ".svg":
        return source in path.read_text(encoding="utf-8")
    with Image.open(path) as image:
        return image.info.get("Description") == source


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="sync.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; name what is stale and exit with status 1")
    check = parser.parse_args(arguments).check
    stale = {}
    for path, text in derived().items():
        if path.read_text(encoding="utf-8") != text:
            stale[path] = lambda path, text=text: write_text(path, text)
    stale |= {path: draw for path, (source, draw) in pictures().items() if not says(path, source)}
    for path, write in stale.items():
        name = path.relative_to(ROOT)
        if not check:
            write(path)
        print(f"{name} is stale: run `make sync`" if check else f"wrote {name}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"sync: {error}")
