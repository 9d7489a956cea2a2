"""The book builds without a warning from what is committed, and reads without a network."""

import functools
import gzip
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import yaml

pytest.importorskip("jupyter_book", reason="needs the extra `book`")

ROOT = Path(__file__).parents[2]
LIMIT = 3_000_000
"""Bytes that a page may load, all its scripts, styles, fonts and pictures included, compressed as web servers send them."""


class Page(HTMLParser):
    """What a page loads, what it links to, its pictures' alternative texts, the names of its places, its scripts and its formulas."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded, self.links, self.alts, self.ids, self.inline, self.formulas = [], [], [], set(), [], []
        self._within = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list) -> None:
        of = dict(attributes)
        self.ids.add(of.get("id"))
        if tag in ("script", "img", "source", "iframe") and of.get("src"):
            self.loaded.append(of["src"])
        if tag == "link" and of.get("rel") in ("stylesheet", "preload", "icon", "shortcut icon"):
            self.loaded.append(of["href"])
        if tag == "img":
            self.alts.append(of.get("alt"))
        if tag == "a" and of.get("href"):
            self.links.append(of["href"])
        formula = tag in ("span", "div") and "math" in (of.get("class") or "").split()
        self._within = "script" if tag == "script" and not of.get("src") else "math" if formula else ""

    def handle_data(self, data: str) -> None:
        if self._within == "script":
            self.inline.append(data)
        elif self._within == "math":
            self.formulas.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("site")
    program = Path(sys.executable).parent / "jupyter-book"
    command = [str(program), "build", "-W", "-n", "--keep-going", "-q", "--path-output", str(out), str(ROOT)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return out / "_build" / "html"


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html") if "_static" not in path.parts}


def test_every_page_of_the_contents_is_there(site):
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    files = [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]
    assert len(files) > 10 and all((site / f"{name}.html").exists() for name in files)
    shown = {path.stem for folder in ("notebooks", "book") for path in (ROOT / folder).iterdir() if path.suffix in (".md", ".ipynb")}
    assert shown <= {Path(name).name for name in files}, "a notebook or page that the contents do not name"


def test_nothing_is_loaded_from_elsewhere(pages):
    for path, page in pages.items():
        assert not [address for address in page.loaded if urlsplit(address).netloc], path.name


def test_links_within_the_book_lead_somewhere(site, pages):
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.exists(), f"{path.name} links to {link}"
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].ids, f"{path.name} links to {link}"


def test_pictures_have_alternative_texts(pages):
    for path, page in pages.items():
        assert all(page.alts), path.name


def test_formulas_are_set_by_the_sites_own_mathjax(site):
    page = (site / "book" / "reading_the_paper.html").read_text(encoding="utf-8")
    assert 'src="../_static/mathjax/tex-chtml.js' in page and (site / "_static" / "mathjax" / "tex-chtml.js").exists()


def test_formulas_use_no_macro_for_which_mathjax_would_fetch_a_file_that_is_not_there(site, pages):
    folder = site / "_static" / "mathjax"
    known = re.search(r"expandable\)\(\{(action:.*?)\}\)\}", (folder / "tex-chtml.js").read_text(encoding="utf-8"))[1]
    fetched = {}
    for extension, macros in re.findall(r"(\w+):\[((?:\"\w+\",?|\[[^\]]*\],?)*)\]", known):
        if not (folder / "input" / "tex" / "extensions" / f"{extension}.js").exists():
            fetched |= dict.fromkeys(re.findall(r"\w+", macros.split("[")[0]), extension)
    assert fetched["boldsymbol"] == "boldsymbol" and "mathbf" not in fetched
    formulas = [(path.name, formula) for path, page in pages.items() for formula in page.formulas]
    assert len(formulas) > 500
    used = {(name, macro) for name, formula in formulas for macro in re.findall(r"\\([A-Za-z]+)", formula) if macro in fetched}
    assert not used, used


def test_no_script_stands_twice_on_a_page(pages):
    """A constant that is declared twice is an error in every reader's console."""
    for path, page in pages.items():
        constants = [name for script in page.inline for name in re.findall(r"^\s*const (\w+)", script)]
        assert len(constants) == len(set(constants)), (path.name, constants)
        assert not any("THEBE" in script for script in page.inline), path.name


def sent(path: Path) -> int:
    """Bytes that a server sends for a file."""
    content = path.read_bytes()
    return len(gzip.compress(content)) if path.suffix in (".html", ".js", ".css", ".svg") else len(content)


def test_pages_are_light(site, pages):
    fonts = sum(sent(path) for path in (site / "_static" / "mathjax").rglob("*.woff"))
    size = functools.cache(sent)
    for path, page in pages.items():
        own = {(path.parent / unquote(urlsplit(address).path)).resolve() for address in page.loaded}
        weight = sent(path) + sum(size(file) for file in own if file.exists()) + fonts
        assert weight < LIMIT, f"{path.name}: {weight:,} bytes"
