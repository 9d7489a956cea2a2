"""Every command that a page, a chapter, a docstring or a help text prints is one that its program's parser takes."""

import argparse
import contextlib
import io
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

import chapters
import checkpoints
import classroom
import recogniser_files
import sync
from aia_lib import cli
from benchmarks import __main__ as benchmarks

ROOT = Path(__file__).parents[2]
PROGRAMS = {
    "python -m benchmarks": benchmarks.main,
    "python tools/chapters.py": chapters.main,
    "python tools/checkpoints.py": checkpoints.main,
    "python tools/classroom.py": classroom.main,
    "python tools/recogniser_files.py": recogniser_files.main,
    "python tools/sync.py": sync.main,
}
PROGRAM = r"(?:\.venv/bin/)?(aia|make|python -m benchmarks|python tools/\w+\.py)"
SKIPPED = ("tests/", "results/", "CHANGELOG.md", "requirements/")
"""Tests try wrong commands, and records and the changelog keep what once was."""
PLACES = {"COMMAND": "run", "ACTION": "check", "NAME": "sweep", "TARGET": "test"}
"""Placeholders for one of several names. Other words in capitals stand for files and folders, and are taken as they are."""


class Parsed(Exception):
    """Raised in the place of running."""


def commands(text, lines=True):
    """The commands that a text prints, (words, whole): whole on a line of its own, else within backticks, where an end may be left out."""
    for code in re.findall(rf"(?<!`)`({PROGRAM}(?: [^`\n]+)?)`", text):
        yield code[0], False
    for line in re.sub(r" *\\\n\s*", " ", text).splitlines() if lines else []:
        found = re.match(rf"\s*(?:# )?({PROGRAM} (?!= )[^`]+)$", line.removesuffix('"""'))
        if found and not found[1].startswith("make "):
            yield found[1], True


def words_of(line):
    """(program, words): without what explains it behind three blanks or a #, with placeholders filled in."""
    line = line.partition('"""')[0]  # the last line of a text in the code
    line = re.split(r" {3,}|  #|;", line.removeprefix(".venv/bin/"))[0]
    program = re.match(PROGRAM, line)[1]
    words = shlex.split(re.sub(r"\{[^}]*\}", "X", line.removeprefix(program)), comments=True)
    words = [word.strip("[]") for word in words if not re.fullmatch(r"…|\.\.\.\]?|<.*>|\[?\.\.\.\]?", word)]
    return program, [PLACES.get(word, word) if program != "python tools/chapters.py" else word for word in words]


def takes(program, words):
    """Whether the program's own parser takes these words; nothing runs."""
    if program == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        known = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE)) | {"PYTHON=", "ARGS="}
        return all(re.sub("=.*", "=", word) in known for word in words)
    parse = argparse.ArgumentParser.parse_args

    def stop(parser, arguments=None, namespace=None):
        parse(parser, arguments, namespace)
        raise Parsed

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        try:
            cli.parser().parse_args(words) if program == "aia" else PROGRAMS[program](words)
        except Parsed:
            return True
        except SystemExit as end:
            return end.code == 0  # --help


def right(line, whole):
    """Whether a printed command is right. In backticks two words may be missing at its end, or it may be the name of a command."""
    program, words = words_of(line)
    ways = [words] if whole else [words, [*words, "--help"], [*words, "X"], [*words, "X", "X"]]
    if not whole and any(word.startswith("-") for word in words):
        ways.remove([*words, "--help"])  # it would hide a wrong option
    return any(takes(program, way) for way in ways)


def printed():
    """(file, command, whole) of every command in the project's text files."""
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    for name in names:
        path = ROOT / name
        if name.startswith(SKIPPED) or path.suffix not in (".md", ".py", ".ipynb", ".yml", ".yaml", ".toml") or not path.is_file():
            continue
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
        elif path.suffix == ".md":
            text = re.sub(r"<!-- [^\n]*? -->", "", text)
        for command, whole in commands(text):
            yield name, command, whole


def test_every_printed_command_is_taken_by_its_program():
    found = list(printed())
    assert len(found) >= 120 and len({command for _, command, _ in found}) >= 70
    assert {words_of(command)[0] for _, command, _ in found} >= {"aia", "make", *PROGRAMS}
    assert len({name for name, _, _ in found if name.startswith("notebooks/")}) >= 5
    in_readme = [words_of(command)[1][0] for name, command, whole in found if name == "README.md" and whole and command.startswith("aia ")]
    assert set(in_readme) == {"run", "audit", "data", "templates", "harden", "attributes"}
    assert [(name, command) for name, command, whole in found if not right(command, whole)] == []


def test_make_has_the_projects_commands():
    assert takes("make", ["setup", "test", "book", "bench", "lint", "format", "sync", "lock", "clean", "help"])


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("`aia sweep --engine ray --ray-address head:6379`", True),
        ("`aia sweep --engine ray --address head:6379`", False),
        ("`aia audit`, `aia audit --deep … --out`, `aia data ACTION --help`", True),
        ("`aia audit --deeper`", False),
        ("`aia fly`", False),
        ("    aia run --data celeba --root CelebA     what it does", True),
        ("    aia audit --deep", False),
        ("    aia run --data celeba \\\n        --rooot CelebA", False),
        ('`python -m benchmarks NAME`, `python tools/sync.py --check`, `make test ARGS="-k x"`', True),
        ("`python -m benchmarks nothing`", False),
        ("`python tools/chapters.py write`", False),
        ("`make cake`", False),
    ],
)
def test_a_wrong_command_is_seen(text, taken):
    found = list(commands(text))
    assert found and all(right(*command) for command in found) == taken
