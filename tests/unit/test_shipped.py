"""The embedded faces that ship: whole, light, made again bit for bit, and as hard as their data card says."""

import hashlib
import importlib.metadata
import io
import json

import numpy as np
import pytest
from PIL import Image

from aia_lib import ledger, load_faces
from aia_lib.datasets import embedded
from aia_lib.faces import REGIONS

ABOUT = embedded.manifest()


@pytest.fixture(scope="module")
def faces():
    return load_faces("embedded", progress=False)


@pytest.fixture(scope="module")
def difficulty() -> dict:
    path = ledger.results_root() / "benchmarks" / "difficulty-embedded.json"
    if not path.exists():
        pytest.skip("the difficulty of the shipped set is not recorded yet")
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_thousand_people_in_twenty_megabytes(faces):
    assert faces.people >= 1000 and len(faces) == 10 * faces.people and faces.size == 64 and faces.licence == "CC BY 4.0"
    assert (np.bincount(faces.identity) == 10).all()
    assert sum(path.stat().st_size for path in embedded.SHIPPED.iterdir()) < 20_000_000
    assert {path.suffix for path in embedded.SHIPPED.iterdir()} == {".npz", ".json"}


def test_its_content_has_the_digests_of_the_manifest(faces):
    assert hashlib.sha256(np.ascontiguousarray(faces.images).tobytes()).hexdigest() == ABOUT["sha256"]["images"]
    assert hashlib.sha256(np.ascontiguousarray(faces.regions).tobytes()).hexdigest() == ABOUT["sha256"]["regions"]


def test_labels_are_balanced_and_every_region_is_there(faces):
    assert 0.45 < (faces.labels() == 1).mean() < 0.55
    assert set(np.unique(faces.regions)) == set(range(len(REGIONS)))
    for name, values in faces.attributes.items():
        assert 0.03 < (values == 1).mean() < 0.97, name
    faces.split()  # each part has both labels and genuine pairs


def test_the_generator_makes_the_same_faces_again(faces):
    """To the last bit on a processor of the kind that rendered them; others round some rays otherwise, at the edges of hairs."""
    pytest.importorskip("anny", reason="needs the extra `render`")
    versions = {name: importlib.metadata.version(name) for name in ABOUT["versions"]}
    if versions != ABOUT["versions"]:
        pytest.skip(f"made with {ABOUT['versions']}, here are {versions}")
    from aia_render import GENERATOR_VERSION
    from aia_render.people import sample_people
    from aia_render.scene import Renderer
    from aia_render.shards import encode_strip
    from aia_render.views import sample_views

    assert ABOUT["generator"] == GENERATOR_VERSION
    renderer = Renderer(size=64, device="cpu")
    for person in (0, 501, 999):
        people = sample_people(1, ABOUT["seed"], first=person)
        views = sample_views(range(person, person + 1), ABOUT["images"], ABOUT["seed"])
        images, regions = renderer.render(people, views)
        strip = np.asarray(Image.open(io.BytesIO(encode_strip(images))))
        again = strip.reshape(64, ABOUT["images"], 64).transpose(1, 0, 2)
        rows = faces.identity == person
        shipped, stranger = faces.images[rows][:, 0], faces.images[faces.identity == (person + 1) % 1000][:, 0]
        assert (again != shipped).mean() < 0.02 and np.abs(again.astype(int) - shipped).mean() < 0.05, person
        assert (regions != faces.regions[rows]).mean() < 0.002, person
        assert (again != stranger).mean() > 0.5, "the control: another person's pictures are others"


def test_the_recorded_difficulty_is_of_this_set(difficulty):
    assert difficulty["figures"]["source"] == "embedded" and difficulty["figures"]["images"] == ABOUT["identities"] * ABOUT["images"]
    assert difficulty["figures"]["sha256"] == ABOUT["sha256"]["images"]


def test_gender_is_readable_but_from_no_single_feature(difficulty):
    """The aims of the set. Skin is no feature: what is left when the others are cut out traces all of them, and its outline tells them."""
    auc = {name: {reader: values[0] for reader, values in of.items()} for name, of in difficulty["figures"]["attribute_auc"].items()}
    assert 0.92 < auc["all"]["cnn"] < 0.98
    for name in set(REGIONS) - {"skin"}:
        assert max(auc[name].values()) < 0.86, name
        assert max(auc[name].values()) < auc["all, region_size"]["cnn"] - 0.04, name
    assert auc["skin, outline"]["cnn"] > auc["skin"]["cnn"] - 0.02
    assert auc["background"]["logistic"] < 0.6


def test_people_can_be_told_apart_but_not_easily(difficulty):
    for impostors, values in difficulty["figures"]["verification_auc"]["siamese"].items():
        assert 0.8 < values[0] < 0.95, impostors
