"""The student's and the instructor's version of every chapter."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

import classroom
from aia_lib.checks import exercises, questions
from aia_lib.machine.files import UserError

ROOT = Path(__file__).parents[2]

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
BOOKS = classroom.parse_file(str(ROOT / "book" / "references.bib"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("classroom")
    assert classroom.main(["--out", str(out)]) == 0
    return out


def read(path):
    return nbformat.read(path, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def solutions(path):
    return [cell for cell, inside in classroom.in_solutions(read(path).cells) if inside]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_students_get_no_solution_and_no_output(path, made):
    student = read(made / "student" / path.name)
    text = "\n".join(cell.source for cell in student.cells)
    hidden = [cell for cell in solutions(path) if cell.cell_type == "code"]
    assert len(hidden) >= 3
    for cell in hidden:
        assert cell.source not in text
        assert "assert check(" in cell.source and "assert check(" not in text
    assert not any(cell.outputs or cell.execution_count for cell in code(student))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_students_keep_the_exercises_and_instructors_have_it_all(path, made):
    student, instructor = (read(made / name / path.name) for name in ("student", "instructor"))
    for number in exercises(path.stem[:2]):
        for version in (student, instructor):
            assert any(f"### Exercise {number}: " in cell.source for cell in version.cells)
            assert any(re.search(rf"^check\(\"{number}\"", cell.source, re.MULTILINE) for cell in code(version)), number
        assert any(f'assert check("{number}"' in cell.source for cell in code(instructor))
    assert [cell.source for cell in code(instructor)] == [cell.source for cell in code(read(path))]
    key = next(cell.source for cell in instructor.cells if cell.source.startswith("**Answers to the quiz**"))
    for question in questions(path.stem[:2]):
        assert question["question"] in key
    assert any(cell.outputs for cell in code(instructor))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_nothing_needs_what_only_a_solution_defines(path):
    """Else a student's version would stop where the book's does not."""

    def names(cells, store):
        context = ast.Store if store else ast.Load
        found = set()
        for cell in cells:
            source = re.sub(r"^( *)%pip.*$", r"\1pass", cell.source, flags=re.MULTILINE)
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.Name) and isinstance(node.ctx, context):
                    found.add(node.id)
                if store and isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                    found.add(node.name)
                if store and isinstance(node, ast.arg):
                    found.add(node.arg)
                if store and isinstance(node, (ast.Import, ast.ImportFrom)):
                    found.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
        return found

    cells = [(cell, inside) for cell, inside in classroom.in_solutions(read(path).cells) if cell.cell_type == "code"]
    inside, outside = [cell for cell, solution in cells if solution], [cell for cell, solution in cells if not solution]
    needed = (names(inside, True) - names(outside, True)) & names(outside, False)
    assert not needed


def test_plain_markdown_is_left(made):
    for path in made.rglob("*.ipynb"):
        for cell in read(path).cells:
            if cell.cell_type == "markdown":
                assert not re.search(r"\{[a-z][\w:-]*\}`|^(`{3,}|:{3,})\{|^:\w+:", cell.source, re.MULTILINE), (path.name, cell.source)


def test_links_lead_somewhere(made):
    for path in made.rglob("*.ipynb"):
        for cell in read(path).cells:
            for link in re.findall(r"\]\(([^)#\s]+)", cell.source) if cell.cell_type == "markdown" else []:
                if link.endswith(".ipynb") and "://" not in link:
                    assert (path.parent / link).is_file(), (path.name, link)
                elif "/blob/" in link and link.startswith(
                    classroom.yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
                ):
                    assert (ROOT / link.split("/blob/", 1)[1].split("/", 1)[1]).is_file(), (path.name, link)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("```{margin}\nThe paper is silent.\nSo we choose.\n```", "> **Margin note.**\n> The paper is silent.\n> So we choose."),
        ("````{solution-start} ex-05-1\n:class: dropdown\n````\n\nBecause.", "#### Solution\n\nBecause."),
        ("```{exercise-start} Three gains\n:label: ex-05-2\n```\n\nWrite.", "### Exercise 05.2: Three gains\n\nWrite."),
        ("```{exercise-start} 05.2: Three gains\n:label: ex-05-2\n:nonumber:\n```", "### Exercise 05.2: Three gains"),
        ("```{exercise-end}\n```", ""),
        ("See {doc}`how <../book/ethics>`.", "See [how](https://x/blob/main/book/ethics.md)."),
        ("See {doc}`the results <../book/results>`.", "See [the results](https://x/blob/main/book/results.ipynb)."),
        ("See [results](../book/results.ipynb#regimes).", "See [results](https://x/blob/main/book/results.ipynb#regimes)."),
        ("See [3](03_adversary.ipynb).", "See [3](03_adversary.ipynb)."),
        ("```python\nx = {1: 2}\n```", "```python\nx = {1: 2}\n```"),
    ],
)
def test_directives_and_roles_in_plain_words(text, plain):
    assert classroom.without_myst(text, BOOKS, "https://x/blob/main") == plain


def test_citations_in_words():
    assert re.match(r"\[?Roy & Boddeti \(2019\)", classroom.without_myst("{cite:t}`roy2019mitigating` say", BOOKS, ""))
    assert re.search(
        r"\(\[?Roy & Boddeti 2019.*; \[?Elazar & Goldberg 2018",
        classroom.without_myst("x {cite:p}`roy2019mitigating,elazar2018adversarial`", BOOKS, ""),
    )


@pytest.mark.parametrize(
    ("text", "word"),
    [("{cite}`nobody1999`", "nobody1999"), ("{strange}`x`", "strange"), ("```{tableau}\nx\n```", "tableau"), ("{doc}`nowhere`", "nowhere")],
)
def test_what_it_does_not_know_is_named(text, word):
    with pytest.raises(UserError, match=word):
        classroom.without_myst(text, BOOKS, "")


def test_a_solution_must_be_closed():
    cell = nbformat.v4.new_markdown_cell("```{solution-start} ex-01-1\n```")
    with pytest.raises(UserError, match="never closed"):
        list(classroom.in_solutions([cell]))
