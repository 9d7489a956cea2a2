"""Templates as a source: what is read, what is refused, and that the audit takes them."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aia_lib.anonymizers import Original
from aia_lib.audit import audit, stored
from aia_lib.cli import main
from aia_lib.config import PROFILES, AuditConfig
from aia_lib.datasets import load_faces, summarise
from aia_lib.machine.files import UserError

QUICK = AuditConfig(epochs=1, min_steps=20, bootstrap=50, pairs=400, attackers=("logistic", "mlp"))


def columns(people: int = 200, images: int = 4, numbers: int = 12, told: float = 3.0) -> dict:
    """People at random places, their images near them; `told` is how far the label moves the first number."""
    rng = np.random.default_rng(0)
    gender = rng.integers(0, 2, people)
    place = rng.normal(size=(people, numbers))
    place[:, 0] += told * gender
    person = np.repeat(np.arange(people), images)
    vectors = (place[person] + 0.3 * rng.normal(size=(len(person), numbers))).astype(np.float32)
    young = np.where(rng.random(len(person)) < 0.1, np.nan, person % 2)
    return {"vectors": vectors, "identity": person, "gender": gender[person], "young": young}


@pytest.fixture(scope="module")
def made() -> dict:
    return columns()


def saved(folder, columns: dict, name: str = "my.npz"):
    path = folder / name
    if name.endswith(".npz"):
        np.savez(path, **columns)
    else:
        pd.DataFrame({**columns, "vectors": list(columns["vectors"])}).to_parquet(path)
    return path


@pytest.mark.parametrize("name", ["my.npz", "my.parquet"])
def test_a_file_of_templates_is_a_source(tmp_path, made, name):
    faces = load_faces("templates", saved(tmp_path, made, name))
    assert faces.templates and faces.size == 12 and faces.people == 200 and len(faces) == 800
    assert np.array_equal(faces.images, made["vectors"]) and faces.images.dtype == np.float32
    assert np.array_equal(faces.labels("gender"), made["gender"])
    assert np.array_equal(faces.labels("young") == -1, np.isnan(made["young"]))
    assert faces.source == f"templates of {name}" and "templates of 200 people, 12 numbers" in repr(faces)
    splits = faces.split()
    assert splits.train.templates and not set(splits.train.identity) & set(splits.test.identity)


def test_names_texts_and_limit(tmp_path, made):
    names = np.array([f"person {i}" for i in made["identity"]])
    path = saved(tmp_path, {**made, "identity": names, "source": np.array("a trial"), "picture": np.array(["x.jpg"] * 800)})
    faces = load_faces("templates", path, limit=40)
    assert faces.source == "templates of a trial" and len(faces) == 40 and faces.people == 10
    first = faces.names[faces.identity[0]]
    assert np.array_equal(faces.images[0], made["vectors"][np.flatnonzero(names == first)[0]])
    assert "'picture' holds text" in faces.notes[0]
    assert "templates: 12 numbers each" in str(summarise("templates", path))


def test_a_repeated_template_counts_once(tmp_path, made):
    twice = {name: np.concatenate([values, values[:3]]) for name, values in made.items()}
    faces = load_faces("templates", saved(tmp_path, twice))
    assert len(faces) == 800 and faces.notes == ("3 templates that repeat an earlier one of the same person were left out.",)


def broken(what: str, made: dict) -> dict:
    """`made` with one thing wrong."""
    vectors, changed = made["vectors"].copy(), dict(made)
    if what in ("nan", "zero"):
        vectors[5] = np.nan if what == "nan" else 0
        changed["vectors"] = vectors
    elif what == "two people":
        vectors[10] = vectors[0]
        changed["vectors"] = vectors
    elif what in ("integer", "complex"):
        changed["vectors"] = vectors.astype(int if what == "integer" else complex)
    elif what == "one row":
        changed["vectors"] = vectors[0]
    elif what == "pickled":
        changed["vectors"] = np.array([*map(list, vectors[:-1]), [1.0]], dtype=object)
    elif what in ("no identity", "no vectors"):
        del changed[what.removeprefix("no ")]
    elif what == "short identity":
        changed["identity"] = made["identity"][1:]
    elif what == "short labels":
        changed["gender"] = made["gender"][1:]
    elif what == "odd label":
        changed["gender"] = made["gender"] + 1
    elif what == "one label":
        changed["gender"] = np.zeros_like(made["gender"])
    elif what == "other attribute":
        del changed["gender"]
    return changed


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("nan", "1 vectors hold NaN or infinite numbers, the first in row 5"),
        ("zero", "1 vectors hold zeros only, the first in row 5"),
        ("two people", "rows 0 and 10 hold the same vector for two people, 0 and 2"),
        ("integer", "vectors must be floating-point numbers"),
        ("complex", "vectors must be floating-point numbers"),
        ("one row", "vectors must be floating-point numbers of shape (N, d)"),
        ("pickled", "pickled objects, which are never opened"),
        ("no identity", "has no 'identity', which says whose each vector is; it has gender, vectors, young"),
        ("no vectors", "has no 'vectors'"),
        ("short identity", "identity must hold a whole number or a text for each of 800 vectors"),
        ("short labels", "the attribute 'gender' must hold 800 labels"),
        ("odd label", "the attribute 'gender' is 2 in row"),
        ("one label", "Nobody of the 200 people"),
        ("other attribute", "There is no attribute 'gender'"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(tmp_path, made, capsys, what, words):
    path = saved(tmp_path, broken(what, made))
    assert main(["data", "check", "--data", "templates", "--root", str(path)]) == 2
    line = capsys.readouterr().err.strip()
    assert words in line and "\n" not in line


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.npz", b"not a zip", "cannot be read as .npz"),
        ("a.parquet", b"not a table", "cannot be read as parquet"),
        ("a.csv", b"1,2", "is neither .npz nor .parquet"),
        ("missing.npz", None, "there is no such file"),
        ("", None, "is a folder, not one file"),
    ],
)
def test_a_file_that_is_none_is_one_line(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words.replace(".", r"\.")):
        load_faces("templates", tmp_path / name)


def test_lists_of_different_lengths_are_refused(tmp_path, made):
    rows = [*map(list, made["vectors"][:-1]), [1.0]]
    pd.DataFrame({**made, "vectors": rows}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(UserError, match="vectors must be of one length and whole; there are lengths 1, 12"):
        load_faces("templates", tmp_path / "a.parquet")


def test_the_audit_reads_templates_and_what_an_eraser_of_the_label_leaves(tmp_path, made):
    faces = load_faces("templates", saved(tmp_path, made))
    raw = audit(stored, faces, seeds=1, config=QUICK, progress=False)
    assert raw.retrained["leak_auc"] > 0.9 and raw.retrained["utility_auc_same"] > 0.9
    assert "untrained_encoder_auc" not in raw.controls and abs(raw.controls["shuffled_labels_auc"] - 0.5) < 0.2
    without = audit(lambda vectors: vectors[:, 1:], faces, seeds=1, config=QUICK, progress=False)
    assert without.retrained["leak_auc"] < 0.65 < raw.retrained["leak_auc"] and without.retrained["utility_auc_same"] > 0.9


def test_a_command_audits_a_file_of_templates(tmp_path, made, capsys, monkeypatch):
    path, out = saved(tmp_path, made), tmp_path / "audit.json"
    monkeypatch.setitem(PROFILES, "fast", dataclasses.replace(PROFILES["fast"], audit=QUICK))
    words = ["audit", "aia_lib.audit:stored", "--data", "templates", "--root", str(path), "--profile", "fast"]
    assert main([*words, "--quiet", "--out", str(out), "--card", str(tmp_path / "card.md")]) == 0
    assert json.loads(out.read_text())["data"]["kind"] == "templates, 12 numbers"
    assert "templates of my.npz, templates, 12 numbers" in (tmp_path / "card.md").read_text()


@pytest.mark.parametrize("command", ["run", "sweep"])
def test_the_papers_method_asks_for_images(tmp_path, made, capsys, command):
    path = saved(tmp_path, made)
    assert main([command, "--data", "templates", "--root", str(path), "--out", str(tmp_path / "out"), "--quiet"]) == 2
    assert "needs images, and templates of my.npz hold templates" in capsys.readouterr().err


def test_a_network_on_faces_asks_for_images(tmp_path, made):
    with pytest.raises(UserError, match="needs images"):
        Original().fit(load_faces("templates", saved(tmp_path, made)), progress=False)


def test_the_example_of_the_page_makes_a_file_that_is_read(tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "book" / "protect_your_templates.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    exec(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1], {})
    faces = load_faces("templates", "my.npz")
    assert faces.people == 400 and faces.size == 512 and not faces.notes
