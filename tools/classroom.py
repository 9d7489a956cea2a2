"""Write two plain versions of every chapter: one for students, without solutions, and one for whoever teaches.

Both come from notebooks/, and both are plain Jupyter notebooks: what MyST writes as directives and roles (margin notes, exercises,
citations) becomes Markdown that Jupyter and Colab show.

* student/: no solutions, no outputs. Exercises keep their starter code and their checker.
* instructor/: everything, with the outputs; solutions are marked, and the quiz's right answers follow it with their reasons.

    python tools/classroom.py [--out FOLDER]      default: _build/classroom
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import yaml
from nbformat import NotebookNode
from pybtex.database import BibliographyData, parse_file

from aia_lib.checks import questions
from aia_lib.machine.files import UserError, write_text

ROOT = Path(__file__).resolve().parents[1]

FENCE = re.compile(
    r"^(?P<fence>`{3,}|:{3,})\{(?P<name>[\w-]+)\}[ ]*(?P<title>[^\n]*)\n(?P<body>.*?)^(?P=fence)[ ]*$", re.MULTILINE | re.DOTALL
)
OPTION = re.compile(r"^:[\w-]+:[^\n]*\n", re.MULTILINE)
ROLE = re.compile(r"\{(?P<name>[\w:]+)\}`(?P<text>[^`]+)`")
PAGE = re.compile(r"\]\((?P<path>(?!https?:|#|mailto:)[^)#\s]+)(?P<place>#[^)\s]*)?\)")
NOTES = {"margin": "Margin note", "note": "Note", "warning": "Warning", "tip": "Tip", "admonition": ""}


def versions(notebook: NotebookNode, chapter: str, books: BibliographyData, blob: str) -> tuple[NotebookNode, NotebookNode]:
    """The student's and the instructor's version of a chapter ("05").

    Raises:
        UserError: a directive or role that this program does not know, a citation that is not in the bibliography, or a solution
            that is never closed.
    """
    student, instructor = [], []
    for cell, solution in in_solutions(notebook.cells):
        if cell.cell_type == "markdown":
            text = without_myst(cell.source, books, blob)
            if not text.strip():
                continue
            cell = nbformat.v4.new_markdown_cell(text, id=cell.id)
            instructor.append(cell)
            if not solution:
                student.append(nbformat.v4.new_markdown_cell(text, id=cell.id))
            continue
        shown = nbformat.from_dict({**cell, "metadata": kept(cell, solution)})
        instructor.append(shown)
        if not solution:
            student.append(nbformat.from_dict({**cell, "metadata": kept(cell, False), "outputs": [], "execution_count": None}))
        if re.match(r"quiz\(", cell.source.strip()):
            instructor.append(nbformat.v4.new_markdown_cell(answers(chapter), id=f"{cell.id}-answers"))
    made = []
    for cells in (student, instructor):
        metadata = {key: value for key, value in notebook.metadata.items() if key in ("kernelspec", "language_info")}
        made.append(nbformat.v4.new_notebook(cells=cells, metadata=metadata))
        nbformat.validate(made[-1])
    return made[0], made[1]


def kept(cell: NotebookNode, solution: bool) -> dict:
    """A cell's metadata without what only the book's builder reads."""
    metadata = {key: value for key, value in cell.metadata.items() if key not in ("mystnb", "tags", "sync")}
    return {**metadata, "tags": ["solution"]} if solution else metadata


def in_solutions(cells: list[NotebookNode]) -> Iterator[tuple[NotebookNode, bool]]:
    """Each cell, and whether it is of a solution: the cells from one with `solution-start` to one with `solution-end`."""
    inside = False
    for cell in cells:
        begins = cell.cell_type == "markdown" and "{solution-start}" in cell.source
        ends = cell.cell_type == "markdown" and "{solution-end}" in cell.source
        if begins and inside:
            raise UserError("a solution begins inside a solution")
        inside = inside or begins
        yield cell, inside
        inside = inside and not ends
    if inside:
        raise UserError("a solution is never closed")


def without_myst(text: str, books: BibliographyData, blob: str) -> str:
    """MyST Markdown as plain Markdown. `blob` is the address of the repository's files, for links to pages that are not notebooks."""
    text = FENCE.sub(directive, text)

    def role(match: re.Match) -> str:
        name, inner = match["name"], match["text"]
        if name.startswith("cite"):
            return cite(inner, books, textual=name == "cite:t")
        if name in ("doc", "ref", "numref", "eq"):
            titled = re.fullmatch(r"(.*?)\s*<(.+)>", inner, re.DOTALL)
            words, target = (titled[1], titled[2]) if titled else (None, inner)
            if name != "doc":
                return words or f"“{target}”"
            return f"[{words or title_of(target)}]({target}{page_file(target).suffix})"
        if name in ("math", "kbd", "term", "abbr"):
            return f"${inner}$" if name == "math" else inner
        raise UserError(f"the role {{{name}}} has no plain form here")

    text = ROLE.sub(role, text)
    return PAGE.sub(lambda match: f"]({address(match['path'], blob)}{match['place'] or ''})", text)


def directive(match: re.Match) -> str:
    """A fenced directive as plain Markdown; those that end an exercise or a solution disappear."""
    name, title, body = match["name"], match["title"].strip(), OPTION.sub("", match["body"]).strip()
    if name == "exercise-start":
        label = re.search(r"^:label: ex-(\d\d)-(\d+)\s*$", match["body"], re.MULTILINE)
        if label is None:
            raise UserError(f"the exercise “{title}” has no label such as ex-05-1")
        number = f"{label[1]}.{label[2]}"
        return f"### Exercise {number}: {re.sub(rf'^(Exercise )?{re.escape(number)}[:.]? *', '', title)}"
    if name == "solution-start":
        return "#### Solution"
    if name in ("exercise-end", "solution-end", "bibliography"):
        return ""
    if name in NOTES:
        head = title if name == "admonition" else NOTES[name]
        return "\n".join(f"> {line}".rstrip() for line in [f"**{head}.**", *body.splitlines()])
    if name == "code-block":
        return f"```{title}\n{body}\n```"
    if name == "math":
        return f"$$\n{body}\n$$"
    raise UserError(f"the directive {{{name}}} has no plain form here")


def page_file(target: str) -> Path:
    """The file that a document role names, as seen from notebooks/.

    Raises:
        UserError: there is none.
    """
    for suffix in (".ipynb", ".md"):
        path = (ROOT / "notebooks" / f"{target}{suffix}").resolve()
        if path.is_file():
            return path
    raise UserError(f"there is no page {target!r}")


def title_of(target: str) -> str:
    """The first heading of the page that a document role names."""
    path = page_file(target)
    text = path.read_text(encoding="utf-8")
    source = nbformat.reads(text, as_version=4).cells[0].source if path.suffix == ".ipynb" else text
    return re.search(r"^# (.+)$", source, re.MULTILINE)[1].strip()


def address(path: str, blob: str) -> str:
    """A link's address: a chapter lies beside this one; of other pages only the repository is sure to have a copy."""
    if path.endswith(".ipynb") and "/" not in path.removeprefix("../notebooks/"):
        return path.rsplit("/", 1)[-1]
    return f"{blob}/{(Path('notebooks') / path).as_posix()}".replace("/notebooks/../", "/")


def cite(keys: str, books: BibliographyData, textual: bool) -> str:
    """Citations in words: "Roy & Boddeti (2019)" where the sentence names them, "(Roy & Boddeti 2019)" elsewhere."""
    found = []
    for key in (key.strip() for key in keys.split(",")):
        if key not in books.entries:
            raise UserError(f"the bibliography has no {key!r}")
        entry = books.entries[key]
        people = [" ".join(person.prelast_names + person.last_names) for person in entry.persons.get("author") or entry.persons["editor"]]
        names = people[0] if len(people) == 1 else " & ".join(people) if len(people) == 2 else f"{people[0]} et al."
        names, year = re.sub(r"[{}]", "", names), entry.fields["year"]
        link = entry.fields.get("url") or (f"https://doi.org/{entry.fields['doi']}" if "doi" in entry.fields else None)
        words = f"{names} ({year})" if textual else f"{names} {year}"
        found.append(f"[{words}]({link})" if link else words)
    return ", ".join(found) if textual else f"({'; '.join(found)})"


def answers(chapter: str) -> str:
    """The quiz's right answers, with the reason that each gives."""
    lines = ["**Answers to the quiz**", ""]
    for number, question in enumerate(questions(chapter), start=1):
        right = [answer for answer in question["answers"] if answer.get("correct")]
        lines.append(f"{number}. {question['question']}")
        lines += [f"   * **{answer.get('answer', answer.get('value'))}** {answer.get('feedback', '')}".rstrip() for answer in right]
    return "\n".join(lines)


def write(out: Path) -> list[Path]:
    """Write both versions of every chapter below `out`; returns the files.

    Raises:
        UserError: a chapter cannot be converted (the message names it), or the folder cannot be written.
    """
    repository = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]
    blob = f"{repository['url'].rstrip('/')}/blob/{repository['branch']}"
    books = parse_file(str(ROOT / "book" / "references.bib"))
    written = []
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        try:
            made = versions(nbformat.read(path, as_version=4), path.stem[:2], books, blob)
        except UserError as error:
            raise UserError(f"{path.name}: {error}.") from error
        for name, notebook in zip(("student", "instructor"), made, strict=True):
            written.append(out / name / path.name)
            write_text(written[-1], nbformat.writes(notebook) + "\n")
    return written


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="classroom.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "_build" / "classroom", help="where to (default: _build/classroom)")
    options = parser.parse_args(arguments)
    written = write(options.out)
    print(f"{len(written)} notebooks in {options.out}: student/ and instructor/.")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"classroom: {error}")
