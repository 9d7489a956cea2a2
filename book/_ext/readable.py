"""What pandas, myst-nb and docutils leave in a page that readers or screen readers stumble over, put right in the finished HTML."""

import re

from sphinx.application import Sphinx

from aia_lib.attackers import ATTACKERS

UNTOUCHED = re.compile(r"(<(pre|script|style)\b.*?</\2>|\\\(.*?\\\)|\\\[.*?\\\])", re.DOTALL)
"""Code, what was printed, and formulas."""


def words(match: re.Match) -> str:
    """A column's or row's name in words: `leak_removed` is "leak removed"; attackers keep the names that code calls them by."""
    return match[0] if match[2] in ATTACKERS else match[1] + match[2].replace("_", " ")


CHANGES = [
    (re.compile(r"(<th\b[^>]*>)([a-z]+(?:_[a-z]+)+)(?=</th>)"), words),
    (re.compile(r"(<td\b[^>]*>)(?:NaN|nan)(?=</td>)"), r"\1–"),
    (re.compile(r"((?:<td\b[^>]*>|\[|,\s| )\s*)-(?=\d+(?:\.\d+)?[%,\]<\s])"), r"\1−"),
    (re.compile(r"\[([−+]?[\d.]+), (?=[−+]?[\d.]+\])"), "[\\1,\u00a0"),  # an interval breaks before its bracket only
    (re.compile(r"<th\b([^>]*)>(?:\s|&nbsp;|\xa0|<p></p>)*</th>"), r"<td\1></td>"),  # a table's corner heads nothing
    (re.compile(r'(<summary) aria-label="[^"]*"'), r"\1"),  # the text within says what opens
    (re.compile(r'<div role="list" class="citation-list">'), '<div class="citation-list">'),  # what is in it are no list items
    (re.compile(r' role="doc-biblioentry"'), ""),  # deprecated in ARIA
]


def put_right(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    if "body" in context and not page.endswith("book/api"):
        parts = UNTOUCHED.split(context["body"])  # text, code, its tag, text, …
        for index in range(0, len(parts), 3):
            for pattern, replacement in CHANGES:
                parts[index] = pattern.sub(replacement, parts[index])
        context["body"] = "".join(part for index, part in enumerate(parts) if index % 3 != 2)


def setup(app: Sphinx) -> dict:
    app.connect("html-page-context", put_right)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
