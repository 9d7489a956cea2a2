"""The template of “Audit your own method” runs as a reader finds it: copied elsewhere, on a small part of the embedded faces."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "book" / "template_audit"


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """The template in a folder of its own, with faces small and few enough for a test."""
    folder = tmp_path_factory.mktemp("mine") / "audit"
    shutil.copytree(TEMPLATE, folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    method = folder / "my_method.py"
    text = method.read_text(encoding="utf-8")
    smaller = text.replace('"size": 32, "limit": 2500,', '"size": 16, "limit": 1200,')
    assert smaller != text
    method.write_text(smaller, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run(copy, tmp_path_factory):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "AIA_CACHE": str(tmp_path_factory.mktemp("cache"))}

    def command(*words):
        return subprocess.run([sys.executable, *words], cwd=copy, env=environment, capture_output=True, text=True, timeout=600)

    return command


def test_its_tests_pass_and_catch_a_method_that_learned_from_everybody(copy, run):
    passed = run("-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert passed.returncode == 0 and "5 passed" in passed.stdout, passed.stdout + passed.stderr
    method = copy / "my_method.py"
    text = method.read_text(encoding="utf-8")
    cheating = text.replace(".split().train", "")
    assert cheating != text
    method.write_text(cheating, encoding="utf-8")
    try:
        failed = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "learned_from_train")
    finally:
        method.write_text(text, encoding="utf-8")
    assert failed.returncode == 1 and "1 failed" in failed.stdout and "test_it_learned_from_train_alone" in failed.stdout, failed.stdout


def test_it_audits_and_writes_a_card(copy, run):
    done = run("audit_my_method.py", "--quick")
    assert done.returncode == 0, done.stderr[-3000:]
    figures = json.loads((copy / "audit.json").read_text(encoding="utf-8"))
    assert figures["name"] == "my method" and set(figures["retrained"]["attackers"]) == {"logistic", "mlp", "trees"}
    assert set(figures["deep"]) == {"information", "curve", "code", "creep", "reconstruction", "adaptive", "others", "levels"}
    assert "its own decoder" not in "".join(figures["notes"]), "decode works"
    card = (copy / "card.html").read_text(encoding="utf-8")
    assert "Privacy card: my method" in card and "It leaks less than no protection" in card
    assert str(copy) not in card


def test_the_page_and_the_template_speak_of_the_same_things():
    page = (ROOT / "book" / "audit_your_own.md").read_text(encoding="utf-8")
    for name in re.findall(r"<(template_audit/[^>]+)>", page):
        assert (ROOT / "book" / name).is_file(), name
    assert {path.name for path in TEMPLATE.iterdir() if path.is_file()} == set(re.findall(r"<template_audit/([^>]+)>", page))
    method = (TEMPLATE / "my_method.py").read_text(encoding="utf-8")
    for name in re.findall(r"my_method:([A-Z]\w+)", page + (TEMPLATE / "README.md").read_text(encoding="utf-8")):
        assert f"class {name}" in method, name


def test_the_messages_that_the_page_explains_are_the_librarys():
    page = (ROOT / "book" / "audit_your_own.md").read_text(encoding="utf-8").split("## When it refuses")[1]
    source = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "aia_lib").rglob("*.py")))
    messages = re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)
    assert len(messages) >= 6 and [message for message in messages if message not in source] == []
