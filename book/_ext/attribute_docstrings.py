"""Docstrings of attributes are sentences; napoleon alone would take the words before a colon for a type."""

from sphinx.application import Sphinx

KINDS = ("attribute", "data", "property")


def as_sentences(app: Sphinx, what: str, name: str, of: object, options: object, lines: list[str]) -> None:
    if what in KINDS and lines:
        if lines[0].startswith("Alias for field number"):  # what Python says of a field of a NamedTuple; the class says more
            lines.clear()
        else:
            lines.insert(0, "")  # napoleon looks at the first line only


def setup(app: Sphinx) -> dict:
    app.connect("autodoc-process-docstring", as_sentences, priority=400)  # before napoleon
    return {"parallel_read_safe": True, "parallel_write_safe": True}
