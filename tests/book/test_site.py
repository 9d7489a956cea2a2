"""The book builds without a warning from what is committed, and reads without a network."""

import functools
import gzip
import re
import shutil
import subprocess
import sys
import threading
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
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


def test_tables_are_for_readers(site):
    """No NaN, no hyphen for a minus, no interval that breaks between its ends, no names with underscores."""
    sweep, gap = ((site / "notebooks" / name).read_text(encoding="utf-8") for name in ("07_tradeoff_sweep.html", "10_closing_the_gap.html"))
    assert ">–</td>" in sweep and ">NaN</td>" not in sweep
    assert re.search(r"<td[^>]*>−0\.\d+", sweep) and not re.search(r"<td[^>]*>-\d", sweep)
    assert re.search(r"\[−0\.\d+,\xa0\+0\.\d+\]", sweep) and not re.search(r"<td>[^<]*\[[^<\]]*, ", sweep)
    assert ">leak removed</th>" in gap and "leak_removed</th>" not in gap


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


@pytest.fixture(scope="module")
def browser():
    """Chromium, driven by Playwright. Skips where either is missing."""
    api = pytest.importorskip("playwright.sync_api", reason="needs the extra `dev`: Playwright drives the browser")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("needs a browser: Chromium or Chrome on the PATH (Debian: apt install chromium)")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium)
        yield opened
        opened.close()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def address(site):
    """Where a server of this machine has the site, until the module's tests end."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def visit(browser, address):
    """visit(name, width=1280, scheme="light") opens a page as a reader has it; none may report an error to the console."""
    contexts, errors = [], []

    def open_page(name, width=1280, scheme="light"):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme))
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto(f"{address}/{name}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not errors


CHAPTER = "notebooks/00_quickstart.html"


@pytest.mark.parametrize("width, scheme", [(390, "light"), (820, "dark"), (1000, "light"), (1280, "dark")])
def test_navigation_and_contents_open_and_close(visit, width, scheme):
    page = visit(CHAPTER, width, scheme)
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width, "the page scrolls sideways"

    navigation, contents = page.locator("nav.bd-links").first, page.locator("#pst-page-toc-nav a").first
    toggle = page.locator(".primary-toggle:visible")
    if width < 992:  # a sheet over the page
        navigation.wait_for(state="hidden")
        toggle.click()
        navigation.wait_for(state="visible")
        page.keyboard.press("Escape")
        navigation.wait_for(state="hidden")
        toggle.click()
        page.get_by_role("link", name="Glossary", exact=True).click()
        page.wait_for_url("**/glossary.html")
        page.go_back()
    else:  # a column beside it, which slides out
        shown = "() => document.querySelector('nav.bd-links').getBoundingClientRect().left >= 0"
        page.wait_for_function(shown)
        toggle.click()
        page.wait_for_function(shown.replace("=> ", "=> !(") + ")")
        toggle.click()
        page.wait_for_function(shown)
    if width < 1200:
        contents.wait_for(state="hidden")
        page.locator(".secondary-toggle:visible").click()
        contents.wait_for(state="visible")
        page.keyboard.press("Escape")
        contents.wait_for(state="hidden")
    else:
        contents.wait_for(state="visible")


@pytest.mark.parametrize("width", [1280, 390])
def test_search_finds_a_page(visit, width):
    page = visit("book/glossary.html", width)
    page.locator(".search-button__button:visible").click()
    page.locator("input[name=q]:visible").fill("siamese")
    page.keyboard.press("Enter")
    found = page.locator("ul.search li a").first
    found.wait_for()
    found.click()
    page.locator("article.bd-article h1").wait_for()
    assert "siamese" in page.locator("article.bd-article").inner_text().lower()


@pytest.mark.parametrize("width", [1280, 390])
def test_solutions_open_and_quizzes_answer(visit, width):
    page = visit(CHAPTER, width)
    solution = page.locator("div.solution").first
    code = solution.locator("pre").first
    assert not code.is_visible()
    solution.locator("button.toggle-button").click()
    code.wait_for(state="visible")

    one, several = page.locator(".Quiz").first, page.locator(".Quiz:has(.ManyChoiceQn)").first
    assert one.get_attribute("role") == "group" and one.locator(".Feedback").get_attribute("role") == "status"
    answers = one.locator("button.MCButton")
    answers.nth(1).click()
    assert "incorrectButton" in answers.nth(1).get_attribute("class") and "this page could" in one.locator(".Feedback").inner_text()
    page.keyboard.press("ArrowUp")  # moves nothing and answers nothing
    assert "correctButton" not in answers.nth(0).get_attribute("class")
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", "the focus is seen"
    page.keyboard.press("Enter")
    assert [answers.nth(i).get_attribute("class") for i in (0, 1)] == ["MCButton correctButton", "MCButton"]

    answers, verdict = several.locator("button.MCButton"), several.locator(".Feedback")
    for row, found in ((0, 1), (1, 1), (3, 2)):  # right, wrong, right
        answers.nth(row).click()
        assert f"({found} of 2 found)" in verdict.inner_text()
    assert several.locator(".correctButton").count() == 2, "right answers stay after a wrong one"


@pytest.mark.parametrize(
    "name, width, scheme",
    [
        ("book/intro.html", 390, "dark"),
        ("book/teaching.html", 1280, "light"),
        ("book/bibliography.html", 1280, "light"),
        (CHAPTER, 390, "light"),
    ],
)
def test_axe_finds_no_barrier(visit, name, width, scheme):
    """axe-core's rules, contrast and names for screen readers among them, on one page of each kind."""
    source = Path(pytest.importorskip("axe_playwright_python").__file__).with_name("axe.min.js")
    page = visit(name, width, scheme)
    page.add_script_tag(path=source)
    found = page.evaluate("axe.run({resultTypes: ['violations'], preload: false})")["violations"]
    assert not [(rule["id"], node["html"][:200]) for rule in found for node in rule["nodes"]]
