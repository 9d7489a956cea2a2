"""The sources: every layout that is read, every label file and image that is refused, the cache, and the downloads without a network."""

from __future__ import annotations

import builtins
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from PIL import Image

from aia_lib.datasets import SOURCES, cache, celeba, choose_people, download, label_files, lfw, load_faces, summarise
from aia_lib.datasets.common import Crop
from aia_lib.datasets.label_files import Table, binary_column, read_lines, read_table
from aia_lib.machine.files import UserError


def load(source, root, **changes):
    return load_faces(source, root, **(dict(size=16, progress=False) | changes))


def picture(seed: int = 0, width: int = 24, height: int = 30) -> Image.Image:
    """A smooth picture in colour: a ramp with a bright blob whose place depends on `seed`."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    blob = np.exp(-((x - 0.3 - 0.4 * (seed % 5) / 4) ** 2 + (y - 0.5) ** 2) * 20)
    return Image.fromarray((np.stack([0.2 + 0.6 * blob, 0.1 + 0.5 * x, 0.3 + 0.4 * y], -1) * 255).astype(np.uint8))


def write_people(root: Path, people: dict[str, int], suffix: str = ".jpg", name: str = "{i}") -> Path:
    """`people` -> number of images, each in a folder of its own."""
    for n, (person, count) in enumerate(people.items()):
        (root / person).mkdir(parents=True, exist_ok=True)
        for i in range(1, count + 1):
            picture(n + i).save(root / person / (name.format(person=person, i=i) + suffix))
    return root


def write_folder(root: Path, people: int = 30, images: int = 2, labels: str | None = None) -> Path:
    names = [f"p{i:02d}" for i in range(people)]
    write_people(root, dict.fromkeys(names, images))
    (root / "labels.csv").write_text(labels or "identity,gender\n" + "".join(f"{name},{'mf'[i % 2]}\n" for i, name in enumerate(names)))
    return root


def refused(pattern: str, source: str, root, **changes) -> str:
    """Loading fails with one line that matches `pattern`."""
    with pytest.raises(UserError, match=pattern) as caught:
        load(source, root, **changes)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def replace_line(path: Path, number: int, new: str | None) -> None:
    """Replace line `number` of a file, or delete it."""
    lines = path.read_text().splitlines()
    lines[number - 1 : number] = [] if new is None else new.split("\n")
    path.write_text("\n".join(lines) + "\n")


# ------------------------------------------------------------------------------------------------------------------ CelebA


def test_celeba_in_its_original_layout(celeba_like, toy_faces):
    faces = load("celeba", celeba_like(people=12, images=4), size=32)
    assert (len(faces), faces.people, faces.size) == (48, 12, 32)
    assert len(faces.attributes) == 41 and {"gender", "Male", "Eyeglasses", "5_o_Clock_Shadow"} <= set(faces.attributes)
    assert_array_equal(faces.labels("gender"), faces.labels("Male"))
    assert faces.source == "celeba" and "non-commercial" in faces.licence and len(faces.fingerprint) == 64
    drawn = toy_faces(12, 4, 64, 0)
    order = np.random.default_rng(48).permutation(48)  # as the fixture numbers them
    assert [faces.names[code] for code in faces.identity] == [str(code + 1) for code in drawn.identity[order]]
    assert_array_equal(faces.labels("Eyeglasses"), drawn.labels("glasses")[order])
    halved = np.stack([np.asarray(Image.fromarray(image[0]).resize((32, 32), Image.Resampling.BOX)) for image in drawn.images[order]])
    assert np.abs(faces.images[:, 0].astype(int) - halved).mean() < 4  # the crop is where the face is


def test_celeba_in_every_layout_gives_the_same_faces(celeba_like, tmp_path):
    root = celeba_like(people=12, images=3)
    base = root / "celeba"
    expected = load("celeba", root)

    def same(place):
        faces = load("celeba", place)
        assert_array_equal(faces.images, expected.images)
        assert_array_equal(faces.identity, expected.identity)
        assert faces.names == expected.names
        assert faces.attributes.keys() == expected.attributes.keys()
        assert all((faces.attributes[name] == expected.attributes[name]).all() for name in faces.attributes)

    same(base)
    same(base / "img_align_celeba")

    header = tmp_path / "header"
    shutil.copytree(root, header)
    identity = header / "celeba" / "identity_CelebA.txt"
    identity.write_text("image identity\n" + identity.read_text())
    same(header)

    windows = tmp_path / "windows"  # byte order mark, CRLF, blank lines at the end
    shutil.copytree(root, windows)
    for path in (windows / "celeba").glob("*.txt"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n\r\n")
    same(windows)

    kaggle = tmp_path / "kaggle"
    shutil.copytree(base / "img_align_celeba", kaggle / "img_align_celeba" / "img_align_celeba")
    lines = (base / "list_attr_celeba.txt").read_text().splitlines()[1:]
    (kaggle / "list_attr_celeba.csv").write_text("image_id," + "\n".join(",".join(line.split()) for line in lines) + "\n")
    for name, column in (("identity_CelebA", "identity"), ("list_eval_partition", "partition")):
        text = (base / f"{name}.txt").read_text().replace(" ", ",")
        (kaggle / f"{name}.csv").write_text(f"image_id,{column}\n{text}")
    same(kaggle)
    same(kaggle / "img_align_celeba")
    same(kaggle / "img_align_celeba" / "img_align_celeba")
    shutil.copy(base / "identity_CelebA.txt", kaggle)
    (kaggle / "identity_CelebA.csv").unlink()
    same(kaggle)

    drive = tmp_path / "drive"
    shutil.copytree(base / "img_align_celeba", drive / "Img" / "img_align_celeba")
    for name, place in (("list_attr_celeba", "Anno"), ("identity_CelebA", "Anno"), ("list_eval_partition", "Eval")):
        (drive / place).mkdir(exist_ok=True)
        shutil.copy(base / f"{name}.txt", drive / place)
    same(drive)


def test_celeba_at_half_size_shows_the_same_crop(celeba_like, tmp_path):
    root = celeba_like(people=6, images=2)
    half = tmp_path / "half"
    shutil.copytree(root, half)
    for path in (half / "celeba" / "img_align_celeba").iterdir():
        with Image.open(path) as image:
            image.resize((89, 109), Image.Resampling.BOX).save(path, quality=95)
    full, halved = load("celeba", root), load("celeba", half)
    assert np.abs(full.images.astype(int) - halved.images).mean() < 4


def test_gender_of_celeba_is_the_majority_of_the_person(celeba_like):
    root = celeba_like(people=10, images=3)
    expected = load("celeba", root)
    labels = root / "celeba" / "list_attr_celeba.txt"
    row = 5
    names = labels.read_text().splitlines()[1].split()
    fields = labels.read_text().splitlines()[2 + row].split()
    fields[1 + names.index("Male")] = str(-int(fields[1 + names.index("Male")]))
    replace_line(labels, 3 + row, " ".join(fields))
    faces = load("celeba", root)
    assert faces.labels("Male")[row] != expected.labels("Male")[row]
    assert_array_equal(faces.labels("gender"), expected.labels("gender"))
    assert any(note.startswith("People with images labelled Male and images that are not: 1;") for note in faces.notes)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-1, 1)), min_size=1, max_size=30))
def test_majority_is_a_plain_count(images):
    identity, labels = (np.array(column) for column in zip(*images, strict=True))
    value, both = label_files.majority_of_people(identity, labels.astype(np.int8))
    mixed = 0
    for person in set(identity.tolist()):
        own = [label for label in labels[identity == person].tolist() if label >= 0]
        wins = own.count(1) - own.count(0)
        expected = -1 if not own else own[0] if wins == 0 else int(wins > 0)
        assert (value[identity == person] == expected).all()
        mixed += len(set(own)) == 2
    assert both == mixed


def test_celeba_may_be_a_part_but_must_be_listed(celeba_like):
    root = celeba_like(people=10, images=3)
    images = root / "celeba" / "img_align_celeba"
    for name in ("000003.jpg", "000030.jpg"):
        (images / name).unlink()
    faces = load("celeba", root)
    assert len(faces) == 28 and "Images listed in list_attr_celeba.txt but not here: 2 of 30." in faces.notes
    for i in range(31, 36):
        picture().save(images / f"{i:06d}.jpg")
    message = refused("no line for 5 of the images on the disk: 000031.jpg, 000032.jpg, 000033.jpg, …", "celeba", root)
    assert "list_attr_celeba.txt" in message
    for path in images.iterdir():
        path.rename(images / f"other{path.name}")
    refused("None of the 33 images in .*img_align_celeba is listed in .*list_attr_celeba.txt", "celeba", root)


@pytest.mark.parametrize(
    "file, number, new, pattern",
    [
        (
            "list_attr_celeba.txt",
            1,
            "29",
            r"list_attr_celeba.txt, line 1: this number of images does not match the 30 lines that follow: '29'",
        ),
        ("list_attr_celeba.txt", 1, None, r"line 1: expected the number of images: '5_o_Clock_Shadow"),
        ("list_attr_celeba.txt", 1, "9" * 5000, r"line 1: expected the number of images"),
        ("list_attr_celeba.txt", 2, "Male Male", r"line 2: expected the attributes' names, each once: 'Male Male'"),
        ("list_attr_celeba.txt", 9, None, r"line 1: this number of images does not match the 29 lines that follow: '30'"),
        ("list_attr_celeba.txt", 9, "000007.jpg 1 -1", r"line 9: expected an image and 40 values, not 3 fields: '000007.jpg 1 -1'"),
        ("list_attr_celeba.txt", 9, "", r"line 9: expected an image and 40 values, not 0 fields: ''"),
        ("list_attr_celeba.txt", 9, "000006.jpg" + " 1" * 40, r"line 9: the image 000006.jpg is listed a second time \(first on line 8\)"),
        ("list_attr_celeba.txt", 9, "000007.jpg" + " 1" * 39 + " 7", r"line 9: a label must be 1 or -1, not '7': '000007.jpg 1"),
        ("identity_CelebA.txt", 4, "000004.jpg", r"identity_CelebA.txt, line 4: expected an image and a whole number: '000004.jpg'"),
        ("identity_CelebA.txt", 4, "000004.jpg -3", r"line 4: expected an image and a whole number"),
        ("identity_CelebA.txt", 4, "000004.jpg 1 2", r"line 4: expected an image and a whole number"),
        ("identity_CelebA.txt", 4, "000003.jpg 7", r"line 4: the image 000003.jpg is listed a second time \(first on line 3\)"),
        ("identity_CelebA.txt", 4, None, r"identity_CelebA.txt has no line for 1 of the images on the disk: 000004.jpg"),
        ("list_eval_partition.txt", 4, "000004.jpg train", r"list_eval_partition.txt, line 4: expected an image and a whole number"),
    ],
)
def test_a_wrong_label_file_of_celeba_is_named_with_its_line(celeba_like, file, number, new, pattern):
    root = celeba_like(people=10, images=3)
    replace_line(root / "celeba" / file, number, new)
    refused(pattern, "celeba", root)


def test_celeba_without_its_label_files(celeba_like):
    root = celeba_like(people=10, images=2)
    (root / "celeba" / "identity_CelebA.txt").rename(root / "identity")
    refused("identity_CelebA.txt is missing, and without identities", "celeba", root)
    (root / "identity").rename(root / "celeba" / "identity_CelebA.txt")
    path = root / "celeba" / "identity_CelebA.txt"
    path.write_text("")
    refused("identity_CelebA.txt is empty", "celeba", root)
    path.write_bytes(b"000001.jpg 1\n000002.jpg \xff\n")
    refused("identity_CelebA.txt, line 2: not UTF-8 text", "celeba", root)
    (root / "celeba" / "list_attr_celeba.txt").unlink()
    refused(r"list_attr_celeba.txt \(or .csv\) is missing", "celeba", root)


names_of_images = st.text("abc0123456789_.", min_size=1, max_size=8)


@given(
    images=st.lists(names_of_images, min_size=1, max_size=8, unique=True),
    attributes=st.lists(st.from_regex(r"[A-Za-z_]{1,6}", fullmatch=True), min_size=1, max_size=4, unique=True),
    data=st.data(),
    end=st.sampled_from(["\n", "\r\n"]),
    csv_form=st.booleans(),
)
@settings(deadline=None)
def test_attributes_of_celeba_survive_being_written_and_read(tmp_path_factory, images, attributes, data, end, csv_form):
    signs = [[data.draw(st.sampled_from([1, -1])) for _ in attributes] for _ in images]
    separator = "," if csv_form else " "
    first = ["image_id," + ",".join(attributes)] if csv_form else [str(len(images)), " ".join(attributes)]
    lines = first + [separator.join([image, *map(str, row)]) for image, row in zip(images, signs, strict=True)]
    path = tmp_path_factory.getbasetemp() / "attributes"
    path.write_bytes((end.join(lines) + end).encode())
    row, table = celeba.read_attribute_table(path)
    assert list(table) == attributes and row == {image: i for i, image in enumerate(images)}
    assert_array_equal(list(table.values()), (np.array(signs) > 0).reshape(len(images), -1).T)


near_tables = st.lists(
    st.lists(
        st.sampled_from(
            ["1", "-1", "0", "2", "a.jpg", "b.jpg", "name", "identity", "gender", "m", "f", '"', "x_0001", "x", "y", "", "é", "\x00"]
        ),
        max_size=5,
    ),
    max_size=6,
)
"""Lines that are nearly right: the tokens of the formats, in any order."""


@given(
    content=st.one_of(
        st.binary(max_size=200),
        st.tuples(near_tables, st.sampled_from([" ", ",", ", ", "\t", ";"]), st.sampled_from(["\n", "\r\n", "\n\n"])).map(
            lambda drawn: drawn[2].join(drawn[1].join(line) for line in drawn[0]).encode()
        ),
    )
)
@settings(max_examples=300, deadline=None)
def test_no_label_file_brings_anything_but_a_value_or_a_user_error(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "labels"
    path.write_bytes(content)
    readers = [
        celeba.read_attribute_table,
        celeba.read_numbers,
        lfw.read_names,
        lambda path: read_table(path, "identity"),
        lambda path: read_table(path, "name"),
        read_lines,
    ]
    for reader in readers:
        try:
            value = reader(path)
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error)
        else:
            assert value
            if isinstance(value, Table):
                for column in value.columns:
                    values, note = binary_column(value, column)
                    assert (values is None and note) or set(values.values()) <= {-1, 0, 1}


@pytest.mark.celeba
def test_the_first_ten_thousand_images_of_celeba(celeba_root):
    faces = load_faces("celeba", celeba_root, size=32, progress=False)
    assert (len(faces), faces.people) == (10_000, 5_429)
    assert any(note.startswith("People with images labelled Male and images that are not: 48;") for note in faces.notes)
    assert (np.bincount(faces.identity) > 1).sum() == 2854
    assert abs(1 - faces.labels("Male").mean() - 0.58) < 0.01
    assert not any("skipped" in note for note in faces.notes)
    parts = faces.split()
    assert sum(map(len, parts)) == 10_000
    for part in parts:
        assert abs(part.person_labels().mean() - faces.person_labels().mean()) < 0.01
        assert (part.pairs(1000, "same").different == 1).sum() == min(500, part.pairs(10**6).different.sum())
    assert 100 < faces.images[:].mean() < 150 and faces.images[:].std() > 40


# ------------------------------------------------------------------------------------------------------- the other sources


def test_vggface_reads_a_users_images_with_a_table(tmp_path):
    root = write_people(tmp_path / "vgg", {"A.J._Buckley": 3, "Abby Elliott": 2, "Zoë_Kravitz": 2})
    (root / "gender.csv").write_text(
        "name;gender;glasses\nA.J._Buckley;m;1\nAbby_Elliott;F;0\nZoe\u0308 Kravitz;f;\nNobody;m;1\n", encoding="utf-8"
    )
    faces = load("vggface", root)
    assert faces.names == ("A.J._Buckley", "Abby Elliott", "Zoë_Kravitz")
    assert faces.labels().tolist() == [1, 1, 1, 0, 0, 0, 0]
    assert faces.labels("glasses").tolist() == [1, 1, 1, 0, 0, -1, -1]
    assert "People listed in gender.csv without images here: 1." in faces.notes
    shutil.move(root / "gender.csv", tmp_path / "gender.csv")
    (tmp_path / "moved").mkdir()
    shutil.move(root, tmp_path / "moved" / "images")
    shutil.move(tmp_path / "gender.csv", tmp_path / "moved")
    assert_array_equal(load("vggface", tmp_path / "moved").images, faces.images)


def test_vggface_says_what_is_missing(tmp_path):
    root = write_people(tmp_path / "vgg", {"A": 2, "B": 2})
    refused("no CSV with the header name,gender", "vggface", root)
    (root / "one.csv").write_text("name,gender\nA,m\n")
    refused("one.csv has no line for 1 of the people on the disk: B", "vggface", root)
    (root / "two.csv").write_text("name,gender\nA,m\nB,f\n")
    refused(r"has 2 CSV files with the columns name,gender \(one.csv, two.csv\); leave one", "vggface", root)
    lists = tmp_path / "vgg_face_dataset" / "files"
    lists.mkdir(parents=True)
    (lists / "A.J._Buckley.txt").write_text("00000001 http://example.org/a.jpg 1 2 3 4 0.5 1 1\n")
    refused("lists of URLs, not its images", "vggface", lists.parent)


VGGFACE2_META = """Class_ID, Name, Sample_Num, Flag, Gender
n000002, "Smith, A.", 2, 0, f
n000003, "B_C", 2, 1,  m,,
n000004,D,9,1,m
"""


@pytest.mark.parametrize("layout", ["train and test", "train", "root", "data", "meta"])
def test_vggface2_in_every_layout(tmp_path, layout):
    root = tmp_path / "VGGFace2"
    place = {
        "train and test": root / "test",
        "train": root / "train",
        "root": root,
        "data": root / "data" / "train",
        "meta": root / "train",
    }[layout]
    write_people(place, {"n000003": 2}, name="{i:04d}_01")
    write_people(root / "train" if layout == "train and test" else place, {"n000002": 2}, name="{i:04d}_01")
    meta = root / "meta" if layout == "meta" else root
    meta.mkdir(exist_ok=True)
    (meta / "identity_meta.csv").write_text(VGGFACE2_META)
    faces = load("vggface2", place if layout == "train" else root)
    assert faces.names == ("n000002", "n000003")
    assert faces.labels().tolist() == [0, 0, 1, 1]
    assert "People listed in identity_meta.csv without images here: 1." in faces.notes


def test_vggface2_says_what_is_wrong(tmp_path):
    root = tmp_path / "VGGFace2"
    write_people(root / "train", {"n000002": 2, "n000009": 1})
    refused("identity_meta.csv is missing", "vggface2", root)
    meta = root / "identity_meta.csv"
    meta.write_text(VGGFACE2_META)
    refused("no line for 1 of the people on the disk: n000009", "vggface2", root)
    meta.write_text(VGGFACE2_META.replace("Gender", "Sex"))
    refused("identity_meta.csv, line 1: there is no column Gender; there are: Class_ID, Name", "vggface2", root)
    meta.write_text(VGGFACE2_META.replace('"B_C"', '"B_C'))
    refused("identity_meta.csv, line 3: malformed .*: 'n000003, \"B_C, 2, 1,  m,,'", "vggface2", root)
    meta.write_text(VGGFACE2_META.replace("n000003", "n000002"))
    refused("line 3: 'n000002' is listed a second time", "vggface2", root)


def write_lfw(root: Path) -> Path:
    people = {"Ann_B": 3, "Bob_C": 2, "Cy_D": 2, "Di_E": 1}
    write_people(root / "lfw_funneled", people, name="{person}_{i:04d}")
    (root / "male_names.txt").write_text("Bob_C_0001.jpg\n\nCy_D_0001.jpg\nBob_C_0001.jpg\nAnn_B_0002.jpg\n")
    (root / "female_names.txt").write_text("Ann_B_0001.jpg\nAnn_B_0003.jpg\n\n\nCy_D_0001.jpg\nGone_X_0001.jpg\n")
    return root


def test_lfw_with_its_gender_lists(tmp_path):
    root = write_lfw(tmp_path / "lfw_home")
    faces = load("lfw", root)
    assert faces.names == ("Ann_B", "Bob_C", "Cy_D", "Di_E")
    # Ann: two of three female; Bob: one listed; Cy: only an image that is in both lists; Di: in none
    assert faces.labels().tolist() == [0, 0, 0, 1, 1, -1, -1, -1]
    assert [note.rsplit(":", 1)[1] for note in faces.notes] == [" 1.", " 1.", " 3.", " 2.", " 1."]
    assert "Images in both gender lists, which say nothing (Cy_D_0001): 1." in faces.notes
    assert_array_equal(load("lfw", tmp_path / "lfw_home" / "lfw_funneled").images, faces.images)
    assert_array_equal(load("lfw", write_lfw(tmp_path / "home" / "lfw_home").parent / "lfw_home").images, faces.images)


def test_lfw_says_what_is_wrong(tmp_path):
    root = write_lfw(tmp_path / "lfw_home")
    (root / "male_names.txt").write_text("Bob_C_0001.jpg\nBob C\n")
    refused("male_names.txt, line 2: expected an image such as Aaron_Eckhart_0001.jpg: 'Bob C'", "lfw", root)
    (root / "male_names.txt").write_text("Gone_X_0001.jpg\n")
    (root / "female_names.txt").write_text("Gone_Y_0001.jpg\n")
    refused("None of the 8 images in .*lfw_funneled is in", "lfw", root)
    (root / "female_names.txt").unlink()
    refused("female_names.txt is missing", "lfw", root)


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".png", ".pgm", ".webp"])
def test_a_folder_of_ones_own(tmp_path, suffix):
    root = tmp_path / "own"
    for n, person in enumerate(["x y", "z"]):
        (root / person).mkdir(parents=True)
        for i in range(2):
            picture(n + i).convert("L").save(root / person / f"{i}{suffix}")
    (root / "labels.csv").write_text('identity,gender,hat\n"x y",male,no\nz,female,\n')
    faces = load("folder", root)
    assert faces.names == ("x y", "z")
    assert faces.labels().tolist() == [1, 1, 0, 0] and faces.labels("hat").tolist() == [0, 0, -1, -1]
    expected = cache.decode(root / "x y" / f"0{suffix}", 16)[0]
    assert_array_equal(faces.images[0, 0], expected)


@pytest.mark.parametrize(
    "texts, expected",
    [
        ("1 0 1", [1, 0, 1]),
        ("-1 1", [0, 1]),
        ("Yes no", [1, 0]),
        ("n Y", [0, 1]),
        ("TRUE false", [1, 0]),
        ("t f", [1, 0]),
        ("m f", [1, 0]),
        ("Male FEMALE", [1, 0]),
        ("man woman", [1, 0]),
        ("m m", [1, 1]),
        ("young old", [1, 0]),
        ("blond blond", [0, 0]),
        ("1 yes", [0, 1]),
    ],
)
def test_two_values_of_a_column(tmp_path, texts, expected):
    path = tmp_path / "labels.csv"
    path.write_text("identity,what\n" + "".join(f"p{i},{text}\n" for i, text in enumerate(texts.split())) + "none,\n")
    values, note = binary_column(read_table(path, "identity"), "what")
    assert list(values.values()) == [*expected, -1]
    if texts in ("young old", "blond blond", "1 yes"):
        assert "alphabetical order" in note


@given(
    rows=st.dictionaries(
        st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=8).map(label_files.match_name),
        st.sampled_from(["m", "f", ""]),
        min_size=1,
        max_size=6,
    )
)
def test_a_table_survives_being_written_and_read(tmp_path_factory, rows):
    import csv

    path = tmp_path_factory.getbasetemp() / "labels.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["identity", "gender"])
        writer.writerows(rows.items())
    table = read_table(path, "identity")
    assert {name: fields[0] for name, fields in table.rows.items()} == rows
    values, _ = binary_column(table, "gender")
    assert values == {name: {"m": 1, "f": 0, "": -1}[text] for name, text in rows.items()}


def test_a_column_with_more_values_is_left_out_unless_it_is_asked_for(tmp_path):
    root = write_folder(tmp_path / "own", 4, 2, "identity,gender,hair\np00,m,red\np01,f,blond\np02,m,brown\np03,f,\n")
    faces = load("folder", root)
    assert set(faces.attributes) == {"gender"}
    assert "The column 'hair' of labels.csv has 3 values (blond, brown, red), not two and was left out." in faces.notes
    for _ in range(2):  # with and without a cache
        refused("attribute 'hair' cannot be used.*has 3 values", "folder", root, attribute="hair")
    refused("There is no attribute 'age' in folder; there are: gender", "folder", root, attribute="age")
    (root / "labels.csv").write_text("identity,hair\np00,red\np01,blond\np02,brown\np03,\n")
    refused("labels.csv has no column that can be used as an attribute. The column 'hair'", "folder", root)


def test_numbers_as_gender_are_read_as_one_for_male_and_said_so(tmp_path):
    faces = load("folder", write_folder(tmp_path / "own", 2, 2, "identity,Gender\np00,1\np01,0\n"))
    assert faces.labels("gender").tolist() == [1, 1, 0, 0]
    assert "The numbers in the column 'Gender' of labels.csv are read as 1 = male." in faces.notes


@pytest.mark.parametrize(
    "labels, pattern",
    [
        ("name,gender\np00,m\n", "labels.csv, line 1: the header must name a column 'identity': 'name,gender'"),
        ("identity,gender,gender\np00,m,m\n", "line 1: the header names a column twice"),
        ("identity,gender\n", "has a header and no lines below it"),
        ("identity,gender\np00,m\np01\n", "labels.csv, line 3: 1 fields where the header has 2: 'p01'"),
        ("identity,gender\np00,m,f\np01,f\n", "labels.csv, line 2: 3 fields where the header has 2"),
        ("identity,gender\np00,m\n\np01,f\n", "labels.csv, line 3: 0 fields where the header has 2: ''"),
        ("identity,gender\np00,m\np01,f\np00,m\n", r"line 4: 'p00' is listed a second time \(first on line 2\): 'p00,m'"),
        ("identity,gender\np00,m\n,f\n", "line 3: no identity: ',f'"),
        ("identity,gender\np00,m\n", "labels.csv has no line for 1 of the people on the disk: p01"),
        ("identity,gender\nx,m\n", "labels.csv has no line for 2 of the people on the disk: p00, p01"),
    ],
)
def test_a_wrong_table_is_named_with_its_line(tmp_path, labels, pattern):
    refused(pattern, "folder", write_folder(tmp_path / "own", 2, 2, labels))


def test_files_that_are_not_images_by_their_name_are_counted(tmp_path):
    root = write_folder(tmp_path / "own", 3)
    (root / "p00" / "notes.txt").write_text("x")
    (root / "p00" / ".DS_Store").write_text("x")
    (root / "p00" / "._1.jpg").write_text("x")
    (root / "p01" / "deeper").mkdir()
    picture().save(root / "stray.jpg")
    faces = load("folder", root)
    assert len(faces) == 6
    assert faces.notes == (
        "Files ignored because their names are not those of images: 1.",
        "Images ignored because they lie beside the people's folders: 1.",
    )


# ------------------------------------------------------------------------------------------------------- roots and layouts


@pytest.mark.parametrize("source", [name for name in SOURCES if name not in ("embedded", "templates")])
def test_a_root_that_is_no_data_set(tmp_path, source):
    refused(f"The source '{source}' needs root=", source, None)
    refused("there is no such folder", source, tmp_path / "nowhere")
    file = tmp_path / "file"
    file.write_text("x")
    refused("is a file, not a folder", source, file)
    empty = tmp_path / "empty"
    empty.mkdir()
    refused("empty does not hold the layout of", source, empty)
    with zipfile.ZipFile(empty / "faces.zip", "w") as archive:
        archive.writestr("a", "b")
    refused("Unpack faces.zip first", source, empty)
    refused("faces.zip is an archive; unpack it", source, empty / "faces.zip")
    (empty / "faces.zip").write_text("<!DOCTYPE html><html><title>Google Drive - Quota exceeded</title></html>")
    refused("faces.zip is a web page, not an archive: the server answered with its quota", source, empty)


def test_the_layout_of_another_data_set_is_recognised(tmp_path, celeba_like):
    roots = {
        "celeba": celeba_like(people=3, images=1),
        "vggface": write_people(tmp_path / "vggface", {"Ann_B": 1}),
        "vggface2": write_people(tmp_path / "VGGFace2" / "train", {"n000002": 1}).parent,
        "lfw": write_lfw(tmp_path / "lfw_home"),
        "folder": write_folder(tmp_path / "own", 2),
    }
    (roots["vggface"] / "people.csv").write_text("name,gender\nAnn_B,f\n")
    for actual, root in roots.items():
        for source in roots:
            if source not in (actual, "vggface" if actual == "folder" else ""):
                assert f"It looks like '{actual}': choose that source." in refused("does not hold the layout of", source, root)
    assert "It looks like 'folder'" in refused("name,gender", "vggface", roots["folder"])


def test_images_in_no_persons_folder_and_folders_without_images(tmp_path, celeba_like):
    root = write_folder(tmp_path / "own", 2)
    for path in root.glob("*/*.jpg"):
        path.unlink()
    refused(r"No images in .*own: expected one folder a person with images \(.jpg, .jpeg, .png, .pgm, .webp\)", "folder", root)
    root = celeba_like(people=2, images=1)
    for path in root.glob("celeba/*/*.jpg"):
        path.unlink()
    refused("No images in .*img_align_celeba: expected images", "celeba", root)


def test_the_sources_and_settings_that_exist(tmp_path):
    with pytest.raises(UserError, match="no source 'utkface'; choose one of embedded, celeba, vggface, vggface2, lfw, folder"):
        load_faces("utkface", tmp_path)
    root = write_folder(tmp_path / "own", 2)
    for size in (30, 0, -64, 64.0, "64"):
        refused("size must be a multiple of 4", "folder", root, size=size)
    for limit in (0, -1, 2.5, True, "10"):
        refused("limit must be a positive number of images", "folder", root, limit=limit)
    for seed in (-1, 1.5, None):
        refused("seed must be a whole number", "folder", root, seed=seed)


# ------------------------------------------------------------------------------------------------------------------- limit


@given(counts=st.lists(st.integers(1, 6), min_size=1, max_size=20), limit=st.integers(1, 60), seed=st.integers(0, 100))
def test_a_limit_keeps_people_whole(counts, limit, seed):
    identity = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    rows = choose_people(identity, limit, seed)
    assert len(rows) == min(limit, len(identity)) and (np.diff(rows) > 0).all()
    kept = np.bincount(identity[rows], minlength=len(counts))
    cut = np.flatnonzero((kept > 0) & (kept < np.array(counts)))
    assert len(cut) <= 1
    assert_array_equal(rows, choose_people(identity, limit, seed))


def test_load_faces_with_a_limit(celeba_like):
    root = celeba_like(people=20, images=4)
    everything = load("celeba", root)
    faces = load("celeba", root, limit=30)
    assert len(faces) == 30 and faces.people == 8 and faces.identity.max() == 7
    assert sorted(np.bincount(faces.identity)) == [2] + 7 * [4]
    by_pixels = {everything.images[i].tobytes(): everything.names[everything.identity[i]] for i in range(80)}
    assert [by_pixels[faces.images[i].tobytes()] for i in range(30)] == [faces.names[code] for code in faces.identity]
    other = load("celeba", root, limit=30, seed=1)
    assert other.names != faces.names and other.split_seed == 1
    assert len(load("celeba", root, limit=10**6)) == 80


# ------------------------------------------------------------------------------------------------------------------ images


def grey_of(image: Image.Image, size: int = 16) -> np.ndarray:
    return np.asarray(image.convert("L").resize((size, size), Image.Resampling.BICUBIC, box=Crop().box(*image.size))).astype(int)


def test_what_is_peculiar_is_read_right(tmp_path):
    plain = picture(width=40, height=48)
    expected = grey_of(plain)

    def difference(name, image=None, **options):
        if image is not None:
            image.save(tmp_path / name, **options)
        pixels, remarks = cache.decode(tmp_path / name, 16)
        assert pixels.dtype == np.uint8 and pixels.shape == (16, 16)
        return np.abs(pixels.astype(int) - expected).max(), " ".join(remarks)

    grey = np.asarray(plain.convert("L"))
    assert difference("rgb.png", plain) == (0, "")
    assert difference("rgb.jpg", plain, quality=100)[0] <= 3
    assert difference("l.pgm", plain.convert("L")) == (0, "")
    assert difference("rgb.webp", plain, lossless=True) == (0, "")
    assert difference("palette.png", plain.quantize(256))[0] <= 8
    error, remark = difference("cmyk.jpg", plain.convert("CMYK"), quality=100)
    assert error <= 4 and "CMYK" in remark
    error, remark = difference("sixteen.png", Image.fromarray(grey.astype(np.uint16) * 257))
    assert error <= 1 and "16 bits" in remark
    (tmp_path / "sixteen.pgm").write_bytes(b"P5 40 48 65535\n" + (grey.astype(">u2") * 257).tobytes())
    error, remark = difference("sixteen.pgm")
    assert error <= 1 and "16 bits" in remark
    for name in ("animated.webp", "animated.png"):
        error, remark = difference(name, plain, save_all=True, append_images=[plain.transpose(Image.Transpose.ROTATE_180)], lossless=True)
        assert error <= 1 and "several frames" in remark
    plain.convert("RGB").save(tmp_path / "gif", format="GIF", save_all=True, append_images=[Image.new("RGB", plain.size)])
    (tmp_path / "gif").rename(tmp_path / "animated.jpg")
    error, remark = difference("animated.jpg")
    assert error <= 12 and "several frames" in remark
    opaque = plain.convert("RGBA")
    assert difference("opaque.png", opaque) == (0, "")
    for orientation, turned in [
        (3, Image.Transpose.ROTATE_180),
        (6, Image.Transpose.ROTATE_90),
        (8, Image.Transpose.ROTATE_270),
        (2, Image.Transpose.FLIP_LEFT_RIGHT),
    ]:
        exif = Image.Exif()
        exif[274] = orientation
        error, remark = difference("turned.jpg", plain.transpose(turned), exif=exif, quality=100)
        assert error <= 4 and "upright" in remark
    cut_out = plain.convert("RGBA")
    cut_out.putalpha(Image.new("L", plain.size, 0))
    cut_out.save(tmp_path / "clear.png")
    pixels, remarks = cache.decode(tmp_path / "clear.png", 16)
    assert (pixels == 128).all() and "transparent" in remarks[0]


def test_a_large_jpeg_is_scaled_while_it_is_decoded_and_looks_the_same(tmp_path):
    plain = picture(width=1000, height=1200)
    plain.save(tmp_path / "large.jpg", quality=95)
    plain.convert("L").save(tmp_path / "large.png")
    for crop in (Crop(), Crop(0.5, 0.5, 0.55)):
        scaled, whole = (cache.decode(tmp_path / name, 32, crop)[0].astype(int) for name in ("large.jpg", "large.png"))
        assert np.abs(scaled - whole).max() <= 3


BAD = {
    "empty": lambda path: path.write_bytes(b""),
    "not images": lambda path: path.write_text("not an image at all"),
    "truncated or damaged": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "smaller than 8 pixels": lambda path: Image.new("L", (1, 1)).save(path),
    "deeper than 16 bits a pixel": None,
    "CMYK without Adobe's marker (ink or light, nothing says which)": None,
    "not readable": lambda path: (path.unlink(), path.symlink_to("nowhere")),
    "too large (more pixels than Pillow accepts)": None,
}


@pytest.mark.parametrize("reason", [reason for reason, spoil in BAD.items() if spoil])
def test_an_unusable_image_is_skipped_and_counted(tmp_path, reason):
    root = write_folder(tmp_path / "own", 20)
    expected = load("folder", root)
    BAD[reason](root / "p03" / "1.jpg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        faces = load("folder", root)
    assert len(faces) == 39 and faces.people == 20
    assert f"Images skipped because they are {reason}: 1 (p03/1.jpg)." in faces.notes
    rest = np.delete(np.arange(40), 6)
    assert_array_equal(faces.images, expected.images[rest])
    assert_array_equal(faces.identity, expected.identity[rest])
    assert load("folder", root).notes == faces.notes  # from the cache too


def test_a_person_without_usable_images_is_dropped(tmp_path):
    root = write_folder(tmp_path / "own", 40, 1)
    (root / "p03" / "1.jpg").write_bytes(b"")
    faces = load("folder", root)
    assert faces.people == 39 == faces.identity.max() + 1 and "p03" not in faces.names


def test_more_than_one_in_twenty_unusable_images_are_refused(tmp_path):
    root = write_folder(tmp_path / "own", 20)
    (root / "p00" / "1.jpg").write_bytes(b"")
    (root / "p07" / "2.jpg").write_text("x")
    assert len(load("folder", root)) == 38  # exactly 5 %
    (root / "p09" / "2.jpg").write_bytes(b"")
    message = refused("3 of the first 40 of 40 images cannot be used, more than 5%", "folder", root)
    assert "2 empty (p00/1.jpg, p09/2.jpg); 1 not images (p07/2.jpg)" in message
    assert not list(cache.cache_folder().glob(".*"))


def test_bombs_and_deep_pixels_are_skipped(tmp_path, monkeypatch):
    picture(width=64, height=64).save(tmp_path / "large.png")
    for limit in (1000, 3000):  # Pillow raises above twice the limit, and warns above it
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with warnings.catch_warnings(), pytest.raises(cache.SkippedImage, match="too large"):
            warnings.simplefilter("error")
            cache.decode(tmp_path / "large.png", 16)
    monkeypatch.undo()
    with pytest.raises(cache.SkippedImage, match="deeper than 16 bits"):
        cache._flat(Image.fromarray(np.full((9, 9), 70000, np.int32)), "L", [])
    with pytest.raises(cache.SkippedImage, match="CMYK without Adobe's marker"):
        cache._flat(Image.new("CMYK", (9, 9)), "L", [])
    with pytest.raises(cache.SkippedImage, match="colour mode HSV"):
        cache._flat(Image.new("HSV", (9, 9)), "L", [])


@given(
    st.binary(max_size=400), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"P5 9 9 255\n", b"GIF89a", b"RIFF0000WEBPVP8 "])
)
@settings(deadline=None, max_examples=150)
def test_no_bytes_bring_anything_but_pixels_or_a_reason(tmp_path_factory, content, start):
    path = tmp_path_factory.getbasetemp() / "any.jpg"
    path.write_bytes(start + content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            pixels, _ = cache.decode(path, 16)
        except cache.SkippedImage as reason:
            assert str(reason)
        else:
            assert pixels.shape == (16, 16)


@given(width=st.integers(1, 3000), height=st.integers(1, 3000), side=st.floats(0.01, 1), x=st.floats(0, 1), y=st.floats(0, 1))
def test_a_crop_is_a_square_inside_the_image(width, height, side, x, y):
    left, top, right, bottom = Crop(side, x, y).box(width, height)
    assert 0 <= left < right <= width and 0 <= top < bottom <= height
    assert right - left == pytest.approx(bottom - top, abs=1e-6) == pytest.approx(side * min(width, height), abs=1e-6)


# ------------------------------------------------------------------------------------------------------------------- cache


def entries():
    return sorted(path.name for path in cache.cache_folder().glob("folder-*"))


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder of faces, and a cache of its own."""
    monkeypatch.setenv("AIA_CACHE", str(tmp_path / "cache"))
    return write_folder(tmp_path / "own", 30)


def no_decoding(monkeypatch):
    monkeypatch.setattr(cache, "decode", lambda *_: pytest.fail("decoded again"))


def test_the_second_load_maps_what_the_first_decoded(own, tmp_path, monkeypatch):
    first = load("folder", own)
    no_decoding(monkeypatch)
    monkeypatch.setattr(SOURCES["folder"], "index", lambda *_: pytest.fail("label files parsed again"))
    second = load("folder", own)
    assert isinstance(second.images, np.memmap) and second.images.mode == "r"
    for name in ("images", "identity"):
        assert_array_equal(getattr(first, name), getattr(second, name))
    assert_array_equal(first.labels(), second.labels())
    assert (first.names, first.notes, first.fingerprint) == (second.names, second.notes, second.fingerprint)
    monkeypatch.undo()
    fresh = np.stack([cache.decode(own / path, 16)[0] for path in sorted(str(path.relative_to(own)) for path in own.glob("*/*.jpg"))])
    assert_array_equal(second.images[:, 0], fresh)
    moved = own.with_name("moved")
    own.rename(moved)
    assert load("folder", moved, cache=tmp_path / "cache").fingerprint == first.fingerprint  # the place does not matter


def test_what_changes_the_content_or_the_settings_changes_key_and_fingerprint(own):
    seen = {load("folder", own).fingerprint}

    def is_new(**changes):
        fingerprint = load("folder", own, **changes).fingerprint
        assert fingerprint not in seen
        seen.add(fingerprint)
        assert len(entries()) == len(seen)

    is_new(size=32)
    is_new(limit=20)
    is_new(limit=20, seed=1)
    assert load("folder", own, seed=1).fingerprint in seen  # nothing was drawn
    picture(99).save(own / "p00" / "1.jpg")
    is_new()
    (own / "p00" / "1.jpg").rename(own / "p00" / "9.jpg")  # it comes in another order
    is_new()
    (own / "p00" / "9.jpg").unlink()
    is_new()
    labels = own / "labels.csv"
    labels.write_text(labels.read_text().replace(",m", ",x").replace(",f", ",m").replace(",x", ",f"))
    is_new()


def test_a_copy_is_decoded_anew_and_gives_the_same_fingerprint(own, tmp_path):
    """Runs are resumed with it: another day's copy of the data set must fit, whatever its modification times."""
    first = load("folder", own)
    copied = tmp_path / "copy"
    shutil.copytree(own, copied, copy_function=shutil.copyfile)
    for path in copied.rglob("*.jpg"):
        os.utime(path, ns=(0, 0))
    assert load("folder", copied).fingerprint == first.fingerprint
    (copied / "labels.csv").write_text((copied / "labels.csv").read_text() + "extra,m\n")  # somebody without images
    assert load("folder", copied).fingerprint == first.fingerprint
    assert len(entries()) == 3


@pytest.mark.parametrize("file", ["images.npy", "identity.npy", "attributes.npy", "meta.json"])
@pytest.mark.parametrize("harm", ["truncated", "empty", "gone", "other bytes"])
def test_a_damaged_cache_is_made_again(own, file, harm):
    expected = load("folder", own)
    images, labels = np.array(expected.images), expected.labels().copy()
    path = cache.cache_folder() / entries()[0] / file
    content = path.read_bytes()
    path.unlink()
    if harm == "truncated":
        path.write_bytes(content[:-100])
    elif harm == "empty":
        path.write_bytes(b"")
    elif harm == "other bytes":
        path.write_bytes(b"{}" + content[2:])
    faces = load("folder", own)
    assert_array_equal(faces.images, images)
    assert_array_equal(faces.labels(), labels)
    assert path.read_bytes() == content and len(os.listdir(cache.cache_folder())) == 1


def test_where_the_cache_lies(own, tmp_path, monkeypatch):
    assert cache.cache_folder() == tmp_path / "cache"
    assert cache.cache_folder(tmp_path / "x") == tmp_path / "x"
    monkeypatch.delenv("AIA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_folder() == tmp_path / "xdg" / "aia"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache.cache_folder() == tmp_path / "home" / ".cache" / "aia"
    refused("lies inside the data set", "folder", own, cache=own / "cache")
    file = tmp_path / "file"
    file.write_text("x")
    refused("there is a file in the place of a folder", "folder", own, cache=file / "cache")


def test_loading_writes_nothing_into_the_root(own):
    def state():
        return {path: path.stat().st_mtime_ns for path in [own, *own.rglob("*")]}

    before = state()
    load("folder", own)
    load("folder", own)
    assert state() == before


def test_loaders_at_the_same_time_do_not_disturb_each_other(own):
    results: list = []

    def loader():
        results.append(load("folder", own))

    threads = [threading.Thread(target=loader) for _ in range(6)]
    with warnings.catch_warnings():  # what decoding does to the filters of its thread is not what this test is about
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(results) == 6
    assert all((faces.images[:] == results[0].images[:]).all() and len(faces) == 60 for faces in results)
    assert len(os.listdir(cache.cache_folder())) == 1


def run_python(code: str, *arguments) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)], capture_output=True, text=True, timeout=60)


def test_a_full_disk_is_one_line_and_leaves_nothing_behind(own):
    pytest.importorskip("resource")
    done = run_python(
        """
        import resource, sys
        from aia_lib.datasets import load_faces
        from aia_lib.machine.files import UserError
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            load_faces("folder", sys.argv[1], size=32, progress=False)
        except UserError as error:
            sys.exit(str(error))
        """,
        own,
    )
    assert done.returncode == 1 and "no space left on the device" in done.stderr and done.stderr.count("\n") == 1
    assert os.listdir(cache.cache_folder()) == []


def test_a_disk_too_small_is_known_before_decoding(own, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 100, 0))
    no_decoding(monkeypatch)
    refused("no space left on the device", "folder", own)
    assert os.listdir(cache.cache_folder()) == []


def test_an_interrupt_leaves_no_half_cache(own, monkeypatch):
    count = iter(range(100))

    def interrupted(*arguments):
        if next(count) == 20:
            raise KeyboardInterrupt
        return decode(*arguments)

    decode = cache.decode
    monkeypatch.setattr(cache, "decode", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load("folder", own)
    assert os.listdir(cache.cache_folder()) == []
    monkeypatch.undo()


def test_what_a_killed_process_left_is_cleared_after_a_day(own):
    place = cache.cache_folder()
    old, young = place / ".folder-16-x.1.part", place / ".folder-16-x.2.part"
    for left in (old, young):
        left.mkdir(parents=True)
        (left / "images.npy").write_bytes(b"x")
    for path in (old / "images.npy", old):
        os.utime(path, (0, 0))
    load("folder", own)
    assert not old.exists() and young.exists()


def test_importing_the_data_sets_needs_no_torch():
    done = run_python(
        "import sys, aia_lib.datasets; sys.exit(any(name in sys.modules for name in ('torch', 'sklearn', 'matplotlib', 'pandas')))"
    )
    assert done.returncode == 0, done.stderr


def test_ctrl_c_while_decoding_ends_promptly(own):
    """A real SIGINT, sent by the process to itself while its threads decode."""
    done = run_python(
        """
        import os, signal, sys
        from aia_lib.datasets import cache, load_faces
        decode, sent = cache.decode, []
        def slow(*arguments):
            if not sent:
                sent.append(True)
                os.kill(os.getpid(), signal.SIGINT)
            return decode(*arguments)
        cache.decode = slow
        try:
            load_faces("folder", sys.argv[1], size=32, progress=False)
        except KeyboardInterrupt:
            sys.exit(130)
        """,
        own,
    )
    assert done.returncode in (130, -signal.SIGINT), done.stderr
    assert os.listdir(cache.cache_folder()) == []


# ------------------------------------------------------------------------------------------------------------------- check


def test_check_sums_up_what_a_data_set_holds(tmp_path):
    root = write_folder(
        tmp_path / "own", 40, 2, "identity,gender,hat\n" + "".join(f"p{i:02d},{'mf'[i % 2]},{'1' if i < 4 else ''}\n" for i in range(40))
    )
    picture().save(root / "stray.jpg")
    summary = summarise("folder", root, size=16, progress=False)
    text = str(summary)
    rows = {line.split()[0]: line.split()[-2:] for line in text.splitlines() if line.strip()}
    assert (rows["gender"], rows["hat"]) == (["50.0%", "0.0%"], ["100.0%", "90.0%"])
    assert sum(int(rows[part][1]) for part in ("train", "attack", "val", "test")) == 40 and summary.problem == ""
    for part in (
        "folder: 80 images of 40 people, 40 of them with two images",
        "gender (private)",
        "- Images ignored",
    ):
        assert part in text
    assert "not possible: Nobody of the 40 people in folder has 'hat' = 0" in str(
        summarise("folder", root, size=16, attribute="hat", progress=False)
    )


# ---------------------------------------------------------------------------------------------------------------- downloads


def celeba_archive(path: Path, names=("img_align_celeba/000001.jpg", "img_align_celeba/000002.jpg"), link: bool = False) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("img_align_celeba/", "")
        for name in names:
            info = zipfile.ZipInfo(name)
            if link:
                info.external_attr = 0o120777 << 16
            archive.writestr(info, b"\xff\xd8\xff" + name.encode())
    return path


def test_the_archive_of_celeba_is_unpacked_whole(tmp_path):
    archive = celeba_archive(tmp_path / "img_align_celeba.zip")
    download.unpack_images(archive, tmp_path / "celeba" / "img_align_celeba")
    assert sorted(os.listdir(tmp_path / "celeba" / "img_align_celeba")) == ["000001.jpg", "000002.jpg"]
    assert os.listdir(tmp_path / "celeba") == ["img_align_celeba"]


@pytest.mark.parametrize(
    "name", ["../000003.jpg", "/000003.jpg", "img_align_celeba/../../x.jpg", "img_align_celeba/run.sh", "img_align_celeba\\..\\x.jpg"]
)
def test_an_unsafe_archive_is_refused(tmp_path, name):
    archive = celeba_archive(tmp_path / "in" / "a.zip", ["img_align_celeba/000001.jpg", name])
    with pytest.raises(UserError, match="which is no image of CelebA"):
        download.unpack_images(archive, tmp_path / "in" / "img_align_celeba")
    assert os.listdir(tmp_path) == ["in"] and os.listdir(tmp_path / "in") == ["a.zip"]


def test_a_damaged_archive_is_refused(tmp_path):
    archive = celeba_archive(tmp_path / "a.zip", link=True)
    with pytest.raises(UserError, match="which is no image"):
        download.unpack_images(archive, tmp_path / "img")
    archive = celeba_archive(tmp_path / "a.zip")
    content = bytearray(archive.read_bytes())
    content[content.index(b"\xff\xd8\xff")] ^= 1  # the check sum no longer holds
    archive.write_bytes(content)
    with pytest.raises(UserError, match="is damaged .*Delete it and fetch it again"):
        download.unpack_images(archive, tmp_path / "img")
    archive.write_bytes(content[:40])
    with pytest.raises(UserError, match="is not a complete ZIP archive"):
        download.unpack_images(archive, tmp_path / "img")
    archive.write_text("\n<!DOCTYPE html><html>quota</html>")
    with pytest.raises(UserError, match="is a web page, not an archive"):
        download.unpack_images(archive, tmp_path / "img")
    assert os.listdir(tmp_path) == ["a.zip"]


@pytest.fixture
def drive(monkeypatch):
    """Stands in for the network: what torchvision's download does with (folder, name)."""
    utils = pytest.importorskip("torchvision.datasets.utils")
    behaviour = {}
    asked = []

    def fetch(file_id, folder, name, md5):
        asked.append(name)
        behaviour["do"](Path(folder), name)

    monkeypatch.setattr(utils, "download_file_from_google_drive", fetch)
    return behaviour, asked


def test_a_download_from_the_drive(drive, tmp_path):
    behaviour, asked = drive
    behaviour["do"] = lambda folder, name: celeba_archive(folder / name) if name.endswith(".zip") else (folder / name).write_text("x")
    assert download.download_celeba(tmp_path) == tmp_path / "celeba"
    assert asked == ["img_align_celeba.zip", "list_attr_celeba.txt", "identity_CelebA.txt", "list_eval_partition.txt"]
    assert len(os.listdir(tmp_path / "celeba" / "img_align_celeba")) == 2
    asked.clear()
    download.download_celeba(tmp_path)
    assert "img_align_celeba.zip" not in asked  # what is there is not fetched again


def test_a_download_from_the_drive_that_fails_names_the_other_ways(drive, tmp_path):
    behaviour, _ = drive

    def fail(error, content=None):
        def do(folder, name):
            if content:
                (folder / name).write_text(content)
            raise error

        behaviour["do"] = do
        with pytest.raises(UserError) as caught:
            download.download_celeba(tmp_path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    message = fail(RuntimeError("To download files from GDrive, 'gdown' is required. You can install it with 'pip install gdown'."))
    assert "pip install gdown" in message and "the other source ('hub')" in message and "with a browser" in message
    message = fail(ConnectionError("HTTPSConnectionPool(host='drive.google.com', port=443):\nMax retries exceeded"))
    assert "could not be downloaded from CelebA's drive (HTTPSConnectionPool" in message and "'hub'" in message
    assert "could not be downloaded" in fail(TimeoutError(110, "Connection timed out"))
    message = fail(RuntimeError("File not found or corrupted."), "<!DOCTYPE html><html>Google Drive - Quota exceeded</html>")
    assert "is a web page, not an archive" in message
    assert "no space left on the device" in fail(OSError(28, "No space left on device"))


def rows(count: int, name: bool = True):
    for i in range(count):
        attributes = {"Male": i % 2 == 0, "Smiling": i % 3 == 0}
        yield download.HubRow(f"{i + 1:06d}.jpg" if name else None, b"\xff\xd8\xff" + bytes([i]), i // 2, attributes, i % 3)


def test_the_hubs_rows_are_written_in_the_original_layout(tmp_path):
    download._write_rows(tmp_path, lambda: rows(6), progress=False)
    assert sorted(os.listdir(tmp_path)) == ["identity_CelebA.txt", "img_align_celeba", "list_attr_celeba.txt", "list_eval_partition.txt"]
    _, table = celeba.read_attribute_table(tmp_path / "list_attr_celeba.txt")
    assert list(table) == ["Male", "Smiling"] and table["Male"].tolist() == [1, 0, 1, 0, 1, 0]
    assert celeba.read_numbers(tmp_path / "identity_CelebA.txt")["000006.jpg"] == 2
    assert (tmp_path / "img_align_celeba" / "000003.jpg").read_bytes() == b"\xff\xd8\xff\x02"
    download._write_rows(tmp_path, lambda: pytest.fail("fetched again"), progress=False)


def test_an_interrupted_download_goes_on_where_it_stopped(tmp_path):
    whole = tmp_path / "whole"
    whole.mkdir()
    download._write_rows(whole, lambda: rows(6), progress=False)

    def broken():
        yield from rows(4)
        raise ConnectionError("network is unreachable")

    part = tmp_path / "part"
    part.mkdir()
    with pytest.raises(UserError, match="hub's mirror .network is unreachable.*Run it again later.*'torchvision'"):
        download._write_rows(part, broken, progress=False)
    assert not (part / "list_attr_celeba.txt").exists()
    images = part / "img_align_celeba"
    os.truncate(images / "000002.jpg", 1)  # a kill in the middle of an image
    written = {name: os.stat(images / name).st_mtime_ns for name in os.listdir(images)}
    download._write_rows(part, lambda: rows(6), progress=False)
    assert {name for name, time in written.items() if os.stat(images / name).st_mtime_ns == time} == written.keys() - {"000002.jpg"}
    for name in ("identity_CelebA.txt", "list_attr_celeba.txt", "list_eval_partition.txt"):
        assert (part / name).read_text() == (whole / name).read_text()
    for name in os.listdir(whole / "img_align_celeba"):
        assert (images / name).read_bytes() == (whole / "img_align_celeba" / name).read_bytes()


def test_png_rows_keep_their_bytes_and_get_their_suffix(tmp_path):
    row = next(rows(1, name=False))._replace(content=b"\x89PNG\r\n")
    download._write_rows(tmp_path, lambda: [row], progress=False)
    assert os.listdir(tmp_path / "img_align_celeba") == ["000001.png"]
    assert "000001.png" in (tmp_path / "identity_CelebA.txt").read_text()


def test_the_hub_needs_its_package_and_sources_have_names(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name in ("datasets", "torchvision.datasets"):
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match="pip install datasets"):
        download.download_celeba(tmp_path, "hub", progress=False)
    with pytest.raises(UserError, match="pip install torchvision gdown"):
        download.download_celeba(tmp_path)
    with pytest.raises(UserError, match="'torchvision' or 'hub', not 'ftp'"):
        download.download_celeba(tmp_path, "ftp")
