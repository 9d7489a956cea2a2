"""The project's frame: what its files say about one another holds."""

from __future__ import annotations

import ast
import functools
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

import aia_lib

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ADDRESS = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]
PROSE = ("README.md", "CONTRIBUTING.md")


def tracked() -> list[Path]:
    """The files of the project: git's, or, where this is no checkout (an unpacked sdist), all that are not built."""
    git = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if git.returncode == 0 and (ROOT / ".git").exists():
        return [ROOT / name for name in sorted(set(git.stdout.split("\0"))) if name and (ROOT / name).is_file()]
    built = {".venv", "runs", "build", "dist", "_build", "__pycache__", ".pytest_cache", ".ruff_cache", ".hypothesis"}
    return [path for path in sorted(ROOT.rglob("*")) if path.is_file() and not built & set(path.relative_to(ROOT).parts)]


def texts() -> dict[str, str]:
    """The tracked text files by name."""
    found = {}
    for path in tracked():
        content = path.read_bytes()
        if b"\0" not in content:
            found[path.relative_to(ROOT).as_posix()] = content.decode("utf-8")
    return found


def fenced(name: str, language: str) -> list[str]:
    """The blocks of code in `language` in the Markdown file `name`."""
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def run(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, **options)


# What is derived ------------------------------------------------------------------------------------------------------


def test_derived_text_and_picture_are_up_to_date():
    result = run("tools/sync.py", "--check")
    assert result.returncode == 0, result.stdout + result.stderr


def test_sync_names_what_is_stale_and_mends_it(tmp_path):
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "pyproject.toml", "_config.yml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    for folder in ("notebooks", "results"):
        (tmp_path / folder).mkdir()
    (tmp_path / "results" / "README.md").write_bytes((ROOT / "results" / "README.md").read_bytes())
    for folder in ("book", "tools"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    notebook = {"cells": [{"cell_type": "code", "metadata": {"sync": "install"}, "source": []}], "metadata": {}}
    (tmp_path / "notebooks" / "00_quickstart.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    config = (tmp_path / "_config.yml").read_text(encoding="utf-8")
    (tmp_path / "_config.yml").write_text(config.replace(ADDRESS, "https://example.org/else/where"), encoding="utf-8")
    quoting, quoted = tmp_path / "book" / "related_systems.md", "0.867<!-- celeba10k-32 · AIA · paper.privacy_auc -->"
    text = quoting.read_text(encoding="utf-8")
    assert quoted in text
    quoting.write_text(text.replace(quoted, quoted.replace("0.867", "0.768")), encoding="utf-8")
    sync = [sys.executable, str(tmp_path / "tools" / "sync.py")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    check = subprocess.run([*sync, "--check"], capture_output=True, text=True, env=environment, check=False)
    assert check.returncode == 1
    shown = ("README.md", "CONTRIBUTING.md", "CITATION.cff", "pyproject.toml", "book/how_to_use.md", "notebooks/00_quickstart.ipynb")
    for name in shown:
        assert f"{name} is stale" in check.stdout
        assert "example.org" not in (tmp_path / name).read_text(encoding="utf-8")  # --check writes nothing

    assert "book/related_systems.md is stale" in check.stdout and "book/glossary.md" not in check.stdout

    written = subprocess.run(sync, capture_output=True, text=True, env=environment, check=False)
    assert written.returncode == 0, written.stderr
    for name in shown:
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "https://example.org/else/where" in text and ADDRESS not in text
    assert quoting.read_text(encoding="utf-8") == (ROOT / "book" / "related_systems.md").read_text(encoding="utf-8")


def test_the_address_stands_only_where_sync_writes_it():
    slug = ADDRESS.split("://", 1)[1].split("/", 1)[1]
    for name, text in texts().items():
        if name == "_config.yml":
            continue
        if name.endswith(".ipynb"):
            cells = [cell for cell in json.loads(text)["cells"] if cell["metadata"].get("sync") != "install"]
            text = json.dumps([cell["source"] for cell in cells])
        else:
            text = re.sub(r"\bsync: (\w+) begin\b.*?\bsync: \1 end\b", "", text, flags=re.DOTALL)
        assert slug not in text, f"{name} holds the repository's address outside the parts that sync.py writes"


def test_the_version_stands_in_one_place():
    assert PROJECT["dynamic"] == ["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## \[(.+?)\]", changelog, flags=re.MULTILINE)[1] == aia_lib.__version__
    assert str(citation()["version"]) == aia_lib.__version__


# What must not be there -----------------------------------------------------------------------------------------------


def test_no_file_names_a_machine_or_a_registry():
    # Put together here, so that this file passes its own test.
    hosts = [rf"\b{name}\.{end}\b" for name, end in (("pypi", "org"), ("pythonhosted", "org"), ("anaconda", "org"), ("npmjs", "(org|com)"))]
    found = []
    for name, text in texts().items():
        folders = ["work", "root"]
        if not name.startswith("tests/"):  # tests may invent paths, and examples may use the home of x
            folders += ["tmp", r"home/(?!x/)\w+", r"Users/\w+"]
        pattern = "|".join([rf"(?<![\w.])/{folder}/" for folder in folders] + hosts)
        found += [f"{name}: {match[0]}" for match in re.finditer(pattern, text)]
    assert not found


def test_no_photographs():
    assert not [path.name for path in tracked() if path.suffix.lower() in {".jpg", ".jpeg"}]


def test_the_code_is_python_3_10():
    for name, text in texts().items():
        if name.endswith(".py"):
            ast.parse(text, name, feature_version=(3, 10))


# Packages -------------------------------------------------------------------------------------------------------------


def requirement_names(requirements: list[str]) -> set[str]:
    return {re.match(r"[\w.-]+", requirement)[0].lower() for requirement in requirements}


def test_no_two_modules_or_public_functions_share_a_name():
    """A name means one thing in the whole house; each data source answers to `locate` and `index`, each script to `main`."""
    modules, definitions = {}, {}
    for path in (path for root in ("aia_lib", "aia_render", "tools") for path in (ROOT / root).rglob("*.py")):
        modules.setdefault(path.parent.name if path.stem == "__init__" else path.stem, []).append(path)
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
                definitions.setdefault(node.name, []).append(path.relative_to(ROOT).as_posix())
    assert len(modules) > 80 and len(definitions) > 400
    assert {name: paths for name, paths in modules.items() if len(paths) > 1} == {}
    shared = {name for name, paths in definitions.items() if len(paths) > 1}
    assert shared <= {"locate", "index", "main"}, {name: definitions[name] for name in shared}


def test_dependencies_have_lower_bounds_only():
    assert PROJECT["requires-python"] == ">=3.10"
    for requirement in PROJECT["dependencies"]:
        assert re.fullmatch(r"[a-z0-9-]+>=[\d.]+", requirement), requirement
    for extra in PROJECT["optional-dependencies"].values():  # Jupyter Book 2 is another program: the one upper bound
        assert not [name for name in extra if "==" in name or ("<" in name and not name.startswith("jupyter-book"))]


def test_pins_are_exact_and_free_of_addresses():
    lines = (ROOT / "requirements" / "book.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    for pin in pins:
        assert re.fullmatch(r"[a-z0-9.-]+==[\w.]+( ; .+)?", pin), pin
        assert not re.search(r"://|--|@|/", pin), pin
    extras = PROJECT["optional-dependencies"]
    needed = requirement_names([*PROJECT["dependencies"], *extras["dev"], *extras["book"]])
    assert needed <= requirement_names(pins), "make lock"


def test_conda_environment_has_the_same_bounds():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    conda = [item for item in environment if isinstance(item, str)]
    pip = next(item["pip"] for item in environment if isinstance(item, dict))
    called = {"torch": "pytorch", "matplotlib": "matplotlib-base", "seaborn": "seaborn-base"}
    for requirement in PROJECT["dependencies"]:
        name, bound = requirement.split(">=")
        assert f"{called.get(name, name)}>={bound}" in conda + pip


def test_extras_named_in_the_docs_exist():
    named = {extra for name in PROSE for extra in re.findall(r"aia-book\[(\w+)\]", (ROOT / name).read_text(encoding="utf-8"))}
    assert named == set(PROJECT["optional-dependencies"])


def test_every_import_is_declared():
    """A module that the library imports at its top level belongs to Python, to itself or to a dependency."""
    called = {"pillow": "PIL", "scikit-learn": "sklearn", "grad-cam": "pytorch_grad_cam", "warp-lang": "warp"}
    for path in sorted([*(ROOT / "aia_lib").rglob("*.py"), *(ROOT / "aia_render").rglob("*.py")]):
        needs = [*PROJECT["dependencies"]]
        if path.is_relative_to(ROOT / "aia_render"):  # the generator, an extra
            needs += PROJECT["optional-dependencies"]["render"]
        declared = {called.get(name, name) for name in requirement_names(needs)}
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = [node.module]
            for module in modules:
                top = module.split(".")[0]
                assert top in declared | set(sys.stdlib_module_names) | {"aia_lib"}, f"{path.name} imports {module}"


@pytest.fixture(scope="module")
def distributions(tmp_path_factory) -> tuple[set[str], set[str]]:
    """The names of the files in the sdist, and of those in the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    result = run("-m", "build", "--no-isolation", "--outdir", str(folder))
    assert result.returncode == 0, result.stdout + result.stderr
    with tarfile.open(next(folder.glob("*.tar.gz"))) as sdist, zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        files = {member.name.split("/", 1)[1] for member in sdist.getmembers() if member.isfile()}
        return files, set(wheel.namelist())


def test_the_sdist_is_complete(distributions):
    missing = {path.relative_to(ROOT).as_posix() for path in tracked()} - distributions[0]
    assert not missing


def test_the_wheel_holds_the_library_and_the_recorded_runs_and_nothing_else(distributions):
    files = {path.relative_to(ROOT).as_posix() for path in tracked()}
    library = {name for name in files if name.startswith(("aia_lib/", "aia_render/"))}
    runs = {f"aia_lib/{name}" for name in files if name.startswith("results/")}
    assert {"aia_lib/py.typed", "aia_render/py.typed", "aia_render/store.py"} <= library
    assert {name for name in distributions[1] if ".dist-info/" not in name} == library | runs


# The package ----------------------------------------------------------------------------------------------------------


def test_importing_the_package_is_light():
    heavy = "('torch', 'sklearn', 'matplotlib', 'pandas', 'numpy', 'PIL')"
    result = run("-c", f"import aia_lib, sys; dir(aia_lib); print(*[m for m in {heavy} if m in sys.modules])")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == ""


def test_loading_faces_needs_no_torch():
    result = run("-c", "import sys; from aia_lib import Faces, load_faces; print(*[m for m in ('torch', 'sklearn') if m in sys.modules])")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == ""


def test_public_names_exist():
    for name in aia_lib.__all__:
        assert getattr(aia_lib, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        aia_lib.nothing  # noqa: B018


def test_audit_stays_the_function_when_its_module_is_imported():
    importlib.import_module("aia_lib.audit")
    assert callable(aia_lib.audit)
    assert aia_lib.audit is sys.modules["aia_lib.audit"].audit


# What the documents promise -------------------------------------------------------------------------------------------


def citation() -> dict:
    return yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def test_the_citation_is_complete():
    cited = citation()
    assert {"cff-version", "message", "title", "authors", "version", "repository-code", "license", "references"} <= cited.keys()
    assert cited["cff-version"] == "1.2.0"
    paper = cited["references"][0]
    assert {"type", "title", "authors", "year", "url"} <= paper.keys()
    assert [author["family-names"] for author in paper["authors"]] == ["Mosallanezhad", "Silva", "Mancenido", "Liu"]


def test_the_licences_are_there():
    assert PROJECT["license-files"] == ["LICENSE", "LICENSE-CONTENT"]
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")
    assert "Creative Commons Attribution 4.0 International Public License" in (ROOT / "LICENSE-CONTENT").read_text(encoding="utf-8")


def test_relative_links_lead_somewhere():
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        for target in re.findall(r"\]\(([^)#]+)", (ROOT / name).read_text(encoding="utf-8")):
            if "://" not in target:
                assert (ROOT / target).exists(), f"{name} links to {target}"
    notebook = re.search(r"colab\.research\.google\.com/github/\S+?/blob/\w+/(\S+?)\)", (ROOT / "README.md").read_text(encoding="utf-8"))[1]
    assert (ROOT / notebook).is_file(), f"the Colab link leads to {notebook}"


def test_the_readme_code_runs(tmp_path, monkeypatch, capsys, toy_faces):
    """The README's Python, in order, on a folder of drawn faces. Only the audit's settings are made small."""
    from PIL import Image

    from aia_lib import AuditConfig, audit

    drawn = toy_faces(people=120, images=4, size=32, seed=0)
    folder = tmp_path / "my_faces"
    lines = {}
    for row in range(len(drawn)):
        person = f"p{drawn.identity[row]:03d}"
        (folder / person).mkdir(parents=True, exist_ok=True)
        Image.fromarray(drawn.images[row, 0]).save(folder / person / f"{row:04d}.png")
        lines[person] = f"{person},{('female', 'male')[drawn.attributes['gender'][row]]}\n"
    (folder / "labels.csv").write_text("identity,gender\n" + "".join(lines.values()), encoding="utf-8")

    small = AuditConfig(attackers=("logistic",), epochs=1, pairs=200, bootstrap=20, controls=False)
    monkeypatch.setattr(aia_lib, "audit", functools.partial(audit, config=small, progress=False))
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    blocks = fenced("README.md", "python")
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert f"{len(drawn)} images of 120 people" in capsys.readouterr().out
    assert 0.5 <= names["report"].retrained["leak_auc"] <= 1
