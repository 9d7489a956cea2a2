"""The embedded faces: what was rendered is what is loaded, with all that is known about it, and a set that is not sound is named."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from PIL import Image
from rendered import Drawing, write_set

from aia_lib import load_faces
from aia_lib.datasets import choose_people, embedded, summarise
from aia_lib.faces import REGIONS
from aia_lib.machine.files import UserError
from aia_lib.machine.rows import RowView
from aia_render.people import sample_people
from aia_render.shards import encode_strip
from aia_render.views import sample_views


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven people, three images each of 32 pixels, in three shards."""
    return write_set(tmp_path_factory.mktemp("sets") / "faces")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty people, two images each of 64 pixels."""
    return write_set(tmp_path_factory.mktemp("sets") / "many", identities=40, images=2, size=64, shard=11)


@pytest.fixture
def copy(rendered: Path, tmp_path: Path) -> Path:
    """A copy of the set to harm."""
    return shutil.copytree(rendered, tmp_path / "copy")


def load(root: Path, **settings):
    return load_faces("embedded", root, **{"size": 32, "progress": False} | settings)


def refused(pattern: str, root: Path, **settings) -> str:
    with pytest.raises(UserError, match=pattern) as error:
        load(root, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


def rewrite(root: Path, **changes) -> None:
    path = root / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# -------------------------------------------------------------------------------------------------------- what is loaded


def test_what_was_rendered_is_loaded_person_by_person(rendered):
    faces = load(rendered)
    people, views = sample_people(7, 0), sample_views(range(7), 3, 0)
    pixels, regions = Drawing(32).render(people, views)
    decoded = [np.asarray(Image.open(_file(encode_strip(image[None])))) for image in pixels]
    assert_array_equal(faces.images[:, 0], decoded)
    assert np.abs(faces.images[:, 0].astype(int) - pixels).mean() < 3, "JPEG changes little"
    assert_array_equal(faces.regions, regions)
    assert_array_equal(faces.identity, np.repeat(np.arange(7), 3))
    assert list(faces.nuisance) == list(views.values)
    for name, values in views.values.items():
        assert_array_equal(faces.nuisance[name], values)
    assert list(faces.traits) == [*people.traits, *people.shape_names]
    for name, values in people.traits.items():
        assert_array_equal(faces.traits[name], values)
    for i, name in enumerate(people.shape_names):
        assert_array_equal(faces.traits[name], people.shape[:, i])
    assert (faces.source, faces.licence, faces.names, faces.notes) == ("embedded", "CC BY 4.0", (), ())


def _file(content: bytes):
    import io

    return io.BytesIO(content)


def test_attributes_are_those_of_the_people_and_thresholds_of_the_images(many):
    faces = load(many)
    people = sample_people(40, 0)
    for name, values in people.attributes().items():
        assert_array_equal(faces.attributes[name], values[faces.identity])
    assert_array_equal(faces.labels("gender"), faces.traits["label"][faces.identity])
    assert_array_equal(faces.labels("smiling"), faces.nuisance["smile"] >= 0.25)
    assert_array_equal(faces.labels("mouth_open"), (faces.nuisance["jaw_open"] >= 0.1) | (faces.nuisance["lip_part"] >= 0.3))
    for name in ("gender", "young", "smiling", "mouth_open"):
        assert 0.1 < faces.labels(name).mean() < 0.9
    assert load(many, attribute="smiling").attribute == "smiling"
    refused(
        "no attribute 'Smiling' in embedded; there are: beard, eyeglasses, gender, long_hair, mouth_open, smiling, young",
        many,
        attribute="Smiling",
    )


def test_parts_of_the_faces_carry_what_is_known(many):
    faces = load(many)
    part = faces.subset([70, 3, 4])
    assert_array_equal(part.regions, faces.regions[[70, 3, 4]])
    for name, values in faces.nuisance.items():
        assert_array_equal(part.nuisance[name], values[[70, 3, 4]])
    assert_array_equal(part.traits["skin"][part.identity], faces.traits["skin"][[35, 1, 2]])
    for split in faces.split():
        rows = np.searchsorted(faces.identity, split.identity, side="left") + np.tile([0, 1], split.people)
        assert_array_equal(split.images, faces.images[rows])
        assert_array_equal(split.regions, faces.regions[rows])
        assert_array_equal(split.nuisance["yaw"], faces.nuisance["yaw"][rows])
        assert_array_equal(split.traits["label"][split.identity], split.labels("gender"))


def test_a_smaller_size_is_an_average_and_regions_a_majority(many):
    large, small = load(many, size=64), load(many, size=32)
    blocks = large.images.reshape(-1, 32, 2, 32, 2).astype(float).mean((2, 4))
    assert np.abs(small.images[:, 0] - blocks).max() <= 0.5
    assert_array_equal(small.regions, large.regions[:, ::2, ::2])  # the squares are of 8 pixels: all four agree
    assert small.notes == ("Images of 64 x 64 pixels, averaged to 32 x 32.",)
    assert small.fingerprint != large.fingerprint
    other = load(many, size=48)
    assert other.images.shape == (80, 1, 48, 48) and other.regions.shape == (80, 48, 48)
    assert abs(other.images.mean() - large.images.mean()) < 1
    quarter = load(many, size=16)
    assert np.abs(quarter.images[:, 0] - large.images.reshape(-1, 16, 4, 16, 4).mean((2, 4))).max() <= 0.5


def test_the_most_frequent_region_of_a_block_wins_and_the_higher_code_of_equals():
    blocks = np.array([[[1, 1], [1, 10]], [[1, 1], [2, 2]], [[0, 3], [5, 4]], [[8, 0], [0, 0]]], dtype=np.uint8)
    assert_array_equal(embedded.shrink_regions(blocks, 1).ravel(), [1, 2, 5, 0])
    rng = np.random.default_rng(0)
    regions = rng.integers(0, len(REGIONS), (5, 12, 12)).astype(np.uint8)
    counts = [
        [np.bincount(r[4 * y : 4 * y + 4, 4 * x : 4 * x + 4].ravel(), minlength=11) for y in range(3) for x in range(3)] for r in regions
    ]
    assert_array_equal(embedded.shrink_regions(regions, 3).ravel(), (10 - np.argmax(np.array(counts)[..., ::-1], -1)).ravel())


def test_a_larger_size_names_the_command_that_renders_it(rendered):
    message = refused("have 32 x 32 pixels and cannot be loaded at 68", rendered, size=68)
    assert "aia data render --identities 7 --images 3 --size 72 --seed 0 --out FOLDER" in message
    refused("cannot be loaded at 512. 256 pixels are the most", rendered, size=512)


@pytest.mark.parametrize("limit", [1, 7, 30, 79])
def test_a_limit_draws_people_as_for_other_sources_and_reads_no_others(many, tmp_path, limit):
    faces = load(many)
    rows = choose_people(faces.identity, limit, 3)
    root = shutil.copytree(many, tmp_path / "copy")
    needed = {int(person) // 11 for person in faces.identity[rows]}
    for number in {0, 1, 2, 3} - needed:
        (root / f"faces-{number:05d}.npz").unlink()
    some = load(root, limit=limit, seed=3)
    assert_array_equal(some.images, faces.images[rows])
    assert_array_equal(some.regions, faces.regions[rows])
    assert_array_equal(some.nuisance["yaw"], faces.nuisance["yaw"][rows])
    assert_array_equal(some.identity, np.unique(faces.identity[rows], return_inverse=True)[1])
    assert_array_equal(some.traits["skin"][some.identity], faces.traits["skin"][faces.identity[rows]])
    assert_array_equal(some.labels("young"), faces.labels("young")[rows])
    assert len(some.traits["skin"]) == some.people and some.split_seed == 3
    assert some.fingerprint not in (faces.fingerprint, load(many, limit=limit, seed=4).fingerprint)


def test_a_limit_above_the_number_of_images_changes_nothing(many):
    assert load(many, limit=10**6).fingerprint == load(many, limit=80, seed=9).fingerprint == load(many).fingerprint


def test_loading_needs_neither_torch_nor_the_extra(rendered):
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['torch', 'anny', 'warp']))\n"  # importing one fails
        "from aia_lib import load_faces\n"
        f"print(load_faces('embedded', {str(rendered)!r}, size=32))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "Faces(21 images of 7 people, 32 x 32, 'gender', from embedded)\n"


def test_other_decoders_are_noted(copy):
    about = embedded.manifest(copy)
    rewrite(copy, sha256=about["sha256"] | {"images": "0" * 64})
    assert load(copy).notes == ("This Pillow decodes the images slightly differently from the one that the set was made with.",)


def test_the_summary_of_a_set(many):
    text = str(summarise("embedded", many, size=64))
    assert "embedded: 80 images of 40 people, 40 of them with two images or more\nlicence: CC BY 4.0" in text
    assert "gender (private)" in text and "not possible" not in text


# ------------------------------------------------------------------------------------------------------ the shipped set


def test_the_shipped_set_needs_no_root(rendered, monkeypatch):
    monkeypatch.setattr(embedded, "SHIPPED", rendered)
    assert load_faces("embedded", size=32).fingerprint == load(rendered).fingerprint
    assert embedded.manifest() == embedded.manifest(rendered) == json.loads((rendered / "manifest.json").read_text())


def test_a_copy_without_the_shipped_set_says_how_to_make_it(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "SHIPPED", tmp_path)
    with pytest.raises(
        UserError, match="comes without its embedded faces.*aia data render --identities 1000 --images 10 --size 64 --seed 0"
    ):
        load_faces("embedded")
    with pytest.raises(UserError, match="comes without its embedded faces"):
        embedded.manifest()


# --------------------------------------------------------------------------------------------------------- memory-mapped


def test_big_sets_are_mapped_from_the_cache(many, tmp_path, monkeypatch):
    memory = load(many, size=32)
    monkeypatch.setattr(embedded, "IN_MEMORY", 20)
    cache = tmp_path / "cache"
    first = load(many, size=32, cache=cache)
    (entry,) = cache.iterdir()
    assert isinstance(first.images, np.memmap) and isinstance(first.regions, np.memmap) and first.images.dtype == np.uint8
    monkeypatch.setattr(embedded, "read_shard", None)  # from now on nothing is decoded
    for faces in (first, load(many, size=32, cache=cache)):
        assert faces.fingerprint == memory.fingerprint
        assert_array_equal(faces.images, memory.images)
        assert_array_equal(faces.regions, memory.regions)
        for mapping in ("nuisance", "traits", "attributes"):
            for name, values in getattr(memory, mapping).items():
                assert_array_equal(getattr(faces, mapping)[name], values)
    part = faces.split().test
    assert isinstance(part.images, RowView) and isinstance(part.regions, RowView)
    assert_array_equal(np.asarray(part.regions), memory.regions[np.isin(memory.identity, part.identity)])
    assert sorted(path.name for path in entry.iterdir()) == ["attributes.npy", "images.npy", "nuisance.npy", "regions.npy", "traits.npy"]


@pytest.mark.parametrize("name", ["images", "regions", "traits"])
def test_a_damaged_entry_of_the_cache_is_made_again(many, tmp_path, monkeypatch, name):
    monkeypatch.setattr(embedded, "IN_MEMORY", 20)
    expected = load(many, limit=30, cache=tmp_path / "cache")
    pixels = np.array(expected.images)
    (entry,) = (tmp_path / "cache").iterdir()
    content = (entry / f"{name}.npy").read_bytes()
    (entry / f"{name}.npy").unlink()
    (entry / f"{name}.npy").write_bytes(content[: len(content) // 2])
    assert_array_equal(load(many, limit=30, cache=tmp_path / "cache").images, pixels)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [entry.name]


def test_the_cache_never_lies_in_the_set(rendered):
    refused("lies inside the data set", rendered, cache=rendered / "cache")


# -------------------------------------------------------------------------------------------------------- what is unsound


def test_a_root_that_is_no_set(tmp_path, own_folder):
    refused("there is no such folder", tmp_path / "nowhere")
    refused("is a file, not a folder", own_folder / "labels.csv")
    refused("no manifest.json as `aia data render` writes it. It looks like 'folder': choose that source", own_folder)


@pytest.fixture
def own_folder(tmp_path: Path) -> Path:
    (tmp_path / "own" / "ada").mkdir(parents=True)
    (tmp_path / "own" / "labels.csv").write_text("identity,gender\nada,f\n")
    return tmp_path / "own"


def test_a_missing_altered_or_cut_shard_is_named_with_its_sha256(copy):
    path = copy / "faces-00001.npz"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    message = refused("faces-00001.npz is damaged or altered: its SHA-256 is ", copy)
    about = embedded.manifest(copy)
    assert about["shards"][1]["sha256"][:12] in message and hashlib.sha256(path.read_bytes()).hexdigest()[:12] in message
    assert "repeat the `aia data render`" in message
    path.write_bytes(content[:1000])
    refused("faces-00001.npz is damaged or altered", copy)
    path.unlink()
    refused("faces-00001.npz is missing from the set of rendered faces. Fetch the set again", copy)


def replace_shard(root: Path, **arrays) -> None:
    """Put other arrays into the first shard, and its SHA-256 into the manifest."""
    path = root / "faces-00000.npz"
    with np.load(path) as old:
        np.savez(path, **{name: old[name] for name in old.files} | arrays)
    about = embedded.manifest(root)
    about["shards"][0]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    rewrite(root, shards=about["shards"])


@pytest.mark.parametrize(
    "arrays",
    [
        {"traits": np.zeros(3, np.float32)},
        {"strips": np.zeros(5000, np.uint8)},
        {"regions": np.zeros(100, np.uint8)},
        {"offsets": np.zeros(1, np.int64)},
        {"nuisance": np.array([print], dtype=object)},
    ],
    ids=lambda arrays: next(iter(arrays)),
)
def test_a_shard_that_is_not_what_the_manifest_says(copy, arrays):
    replace_shard(copy, **arrays)
    refused("faces-00000.npz does not hold what its manifest says", copy)


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"format": 2}, "has the format 2, and this version of aia-book reads 1. Update it, or render the set again"),
        ({"format": None}, "has the format None"),
        ({"identities": 8}, "manifest.json is damaged"),
        ({"identities": "7"}, "manifest.json is damaged"),
        ({"size": 0}, "manifest.json is damaged"),
        ({"shard": 0}, "manifest.json is damaged"),
        ({"regions": ["skin"]}, "manifest.json is damaged"),
        ({"sha256": {}}, "manifest.json is damaged"),
        ({"shards": []}, "manifest.json is damaged"),
        ({"shards": [{"file": "../faces-00000.npz", "first": 0, "identities": 7, "sha256": ""}]}, "manifest.json is damaged"),
        ({"nuisance": ["yaw"]}, "faces-00000.npz does not hold what its manifest says"),
        (
            {"complete": False, "shards": []},
            "is not finished: it has 0 of its 7 people. Go on with: aia data render --identities 7 --images 3",
        ),
    ],
)
def test_a_manifest_that_is_not_sound(copy, changes, pattern):
    rewrite(copy, **changes)
    refused(pattern, copy)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"7", b"{}", b"\xff\xfe"])
def test_a_manifest_that_is_none(copy, content):
    (copy / "manifest.json").write_bytes(content)
    refused("manifest.json is damaged or not of a rendered set", copy)
