"""The head, the views and the renderer of the embedded faces."""

import importlib.util

import numpy as np
import pytest

pytest.importorskip("anny")
pytest.importorskip("warp")

from aia_lib.faces import REGIONS
from aia_lib.machine.files import UserError
from aia_render import mesh, reduce, require_extra, scene
from aia_render.mesh import BROWS, EYES, HAIR_REGION, JAW, MOUTH_REGION, NOSE, SKIN_REGION, Part, join
from aia_render.people import SHAPE_NAMES, SUN, sample_people
from aia_render.reduce import load_head
from aia_render.scene import Renderer, develop
from aia_render.views import Views, sample_views

PLAIN = {
    **dict.fromkeys(("yaw", "pitch", "roll", "shift_x", "shift_y", "smile", "lip_part", "jaw_open", "brow_raise", "frown", "squint"), 0.0),
    **dict.fromkeys(("blink", "gaze_x", "gaze_y", "rim", "vignette", "background", "light_azimuth", "open_collar", "noise"), 0.0),
    **{"scale": 1.0, "distance": 1.2, "neck": 0.5, "light_elevation": 0.3, "light_softness": 0.3, "ambient": 0.35, "exposure": 0.8},
    **{"contrast": 1.1, "blur": 0.3, "background_level": 0.5, "background_contrast": 0.1, "background_angle": 0.0},
    **{"cloth": 0.3, "collar": 0.56, "noise_seed": 77.0},
}


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.fixture(scope="module")
def renderer(head):
    return Renderer(size=64)


@pytest.fixture(scope="module")
def bald(head):
    return Renderer(size=96, parts=lambda head, traits: [])


def views_of(**changes):
    """One view a value in the longest of `changes`, plain otherwise, of one person."""
    count = max((np.size(value) for value in changes.values()), default=1)
    values = {name: np.broadcast_to(np.asarray(value, np.float32), count).copy() for name, value in {**PLAIN, **changes}.items()}
    return Views(values, count)


def somebody(**changes):
    """A young person without glasses or beard, with these traits."""
    person = sample_people(1, seed=3)
    plain = dict.fromkeys(("glasses", "beard", "beard_cheeks", "moustache", "stubble", "makeup"), 0.0)
    for name, value in {**plain, "age_years": 30.0, "age": 0.68, "skin": 0.5, "hair_style": 2.0, **changes}.items():
        person.traits[name][:] = value
    return person


def test_the_reduced_head_is_annys(head):
    """People and expressions, evaluated on the head alone, are Anny's own rest vertices."""
    import torch

    model = reduce.load_anny()
    rng = np.random.default_rng(0)
    names = tuple(rng.choice(head.change_names, 40, replace=False))
    shape = rng.uniform(-1, 1, (3, 40))
    ancestry = rng.dirichlet((1, 1, 1), 3)
    phenotypes = {"gender": rng.random(3), "age": rng.uniform(0.4, 1, 3), "muscle": rng.random(3), "weight": rng.random(3)}
    phenotypes |= dict(zip(("african", "asian", "caucasian"), ancestry.T, strict=True))
    actions = {name: rng.random(3) for name in ("mouthSmileLeft", "jawOpen", "eyeBlinkRight", "browInnerUp")}

    reduced = head.people(phenotypes, names, shape) + head.express(actions)
    tensors = {name: torch.as_tensor(value, dtype=torch.float32) for name, value in phenotypes.items()}
    tensors["gender"] = 1 - tensors["gender"]  # Anny's 0 is the male end
    full = model(
        pose_parameters=torch.eye(4)[None, None].repeat(3, model.bone_count, 1, 1),
        phenotype_kwargs=tensors,
        local_changes_kwargs={name: torch.as_tensor(shape[:, i], dtype=torch.float32) for i, name in enumerate(names)},
        facial_actions={name: torch.as_tensor(value, dtype=torch.float32) for name, value in actions.items()},
    )["rest_vertices"].numpy()

    template = model.template_vertices.numpy().astype(np.float32)
    rows = {place.tobytes(): row for row, place in enumerate(template)}
    used = [rows[place.tobytes()] for place in head.vertices]
    full = full[:, used]
    balls = head.eyes.ravel()
    full += (reduced[:, balls].mean(1) - full[:, balls].mean(1))[:, None]  # the reduced head stays where the eyes are
    assert np.abs(reduced - full).max() < 1e-5
    assert np.abs(reduced - head.vertices).max() > 0.005  # and these are other faces than the template


def test_the_gender_trait_runs_from_female_to_male(head):
    """Anny's male end has the longer jaw and the wider neck; here that end is gender = 1."""
    ends = head.people({"gender": np.array([0.0, 1.0]), "age": np.full(2, 0.7)}, (), np.zeros((2, 0)))
    chin = np.argmin(np.where(head.vertices[:, 1] < -0.12, head.vertices[:, 2], np.inf))
    neck = np.abs(head.vertices[:, 2] - 0.60) < 0.01
    assert ends[1, chin, 2] < ends[0, chin, 2] - 0.005
    assert np.abs(ends[1, neck, 0]).max() > np.abs(ends[0, neck, 0]).max() + 0.005


def test_unknown_shape_changes_are_named(head):
    with pytest.raises(ValueError, match="l-foot-trans-out"):
        head.people({}, ("l-foot-trans-out",), np.zeros((1, 1)))
    assert set(SHAPE_NAMES) <= set(head.change_names)


def test_lids_stay_outside_the_eyeballs(head):
    """Half-way down a blink too, where the straight path of a lid's vertex would cut through the ball."""
    blinks = np.linspace(0, 1, 9)
    person = somebody()
    shaped = head.express_views(head.people(person.traits, person.shape_names, person.shape), views_of(blink=blinks).values)
    for eye, lid in zip(head.eyes, head._lids, strict=True):
        centre = shaped[:, eye].mean(1, keepdims=True)
        radius = np.linalg.norm(shaped[:, eye] - centre, axis=2).max(1)
        assert (np.linalg.norm(shaped[:, lid] - centre, axis=2).min(1) > radius).all()


def test_a_damaged_cache_is_not_read(tmp_path):
    path = tmp_path / "head.npz"
    assert reduce._read(path) is None
    np.savez(path, corners=np.zeros((2, 9), np.float32))
    assert reduce._read(path) is not None
    path.write_bytes(path.read_bytes()[:-40])
    assert reduce._read(path) is None


def test_without_the_extra_the_way_out_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'anny and warp-lang.*pip install "aia-book\[render\]"'):
        require_extra()


def test_the_same_seed_gives_the_same_bits_whatever_the_batch(renderer, monkeypatch):
    people, views = sample_people(4, seed=5), sample_views(range(4), 3, seed=5)
    images, regions = renderer.render(people, views)
    assert images.shape == regions.shape == (12, 64, 64) and images.dtype == regions.dtype == np.uint8
    again = Renderer(size=64).render(people, views)
    np.testing.assert_array_equal(images, again[0])
    monkeypatch.setitem(scene.BATCH, "cpu", 3)
    for first in range(4):
        alone = renderer.render(sample_people(1, seed=5, first=first), sample_views(range(first, first + 1), 3, seed=5))
        np.testing.assert_array_equal(images[3 * first : 3 * first + 3], alone[0])
        np.testing.assert_array_equal(regions[3 * first : 3 * first + 3], alone[1])
    fewer = renderer.render(sample_people(1, seed=5), sample_views(range(1), 2, seed=5))
    np.testing.assert_array_equal(images[:2], fewer[0])
    assert (images[0] != images[3]).mean() > 0.5
    assert renderer.render(sample_people(0, seed=5), sample_views(range(0), 3, seed=5))[0].shape == (0, 64, 64)


def test_people_and_views_must_fit(renderer):
    with pytest.raises(ValueError, match="6 views are not 3 of each of 1 people"):
        renderer.render(sample_people(1, seed=5), sample_views(range(2), 3, seed=5))


def test_every_region_is_where_it_belongs(renderer):
    people = sample_people(8, seed=11)
    people.traits["glasses"][:] = [SUN, 0, 0, 0, 0, 0, 0, 0]
    for name in ("beard", "beard_cheeks", "moustache"):
        people.traits[name][:] = [0, 0.9, 0, 0, 0, 0, 0, 0]
    people.traits["hair_style"][:] = 2
    values = {name: np.full(8, value, np.float32) for name, value in PLAIN.items()}
    _, regions = renderer.render(people, Views(values, 1))
    assert set(np.unique(regions)) == set(range(len(REGIONS)))

    def middle(region, rows=slice(2, 8)):
        _, y, x = np.nonzero(regions[rows] == region)
        return y.mean() / 64, x.mean() / 64

    assert middle(HAIR_REGION)[0] < middle(BROWS)[0] < middle(EYES)[0] < middle(NOSE)[0] < middle(MOUTH_REGION)[0] < middle(JAW)[0]
    assert all(abs(middle(region)[1] - 0.5) < 0.03 for region in (BROWS, EYES, NOSE, MOUTH_REGION, JAW))
    assert abs(middle(EYES)[0] - 0.43) < 0.03 and abs(middle(MOUTH_REGION)[0] - 0.74) < 0.04
    for mask in regions[2:]:  # eyes lie inside the face: skin, brows or nose all round
        y, x = np.nonzero(mask == EYES)
        border = np.concatenate([mask[y.min() - 2, x.min() : x.max()], mask[y.max() + 2, x.min() : x.max()]])
        assert np.isin(border, (SKIN_REGION, BROWS, NOSE, HAIR_REGION)).all()


def test_light_brightens_the_side_it_comes_from(bald):
    views = views_of(light_azimuth=[-1.2, 1.2], light_softness=0.1, ambient=0.2)
    images, regions = bald.render(somebody(), views)
    face = np.isin(regions, (SKIN_REGION, NOSE))
    left, right = (slice(None, 48), slice(48, None))
    bright = [[images[i, :, half][face[i, :, half]].mean() for half in (left, right)] for i in range(2)]
    assert bright[0][0] > bright[0][1] + 30 and bright[1][1] > bright[1][0] + 30


def test_turning_and_nodding_move_the_nose(bald):
    _, regions = bald.render(somebody(), views_of(yaw=[-0.5, 0.5, 0, 0], pitch=[0, 0, -0.3, 0.3]))

    def place(region, axis):
        return np.array([np.nonzero(mask == region)[axis].mean() - np.nonzero(mask == EYES)[axis].mean() for mask in regions])

    x, y = place(NOSE, 1), place(NOSE, 0) / place(MOUTH_REGION, 0)
    assert x[0] < -2 and x[1] > 2  # to the person's left is to the image's right
    assert y[3] < y[2] - 0.01  # looking up brings the nose's tip closer to the eyes than to the mouth


def test_an_open_jaw_shows_a_dark_mouth(bald):
    images, regions = bald.render(somebody(), views_of(jaw_open=[0, 0.5]))
    mouth = [(mask == MOUTH_REGION).sum() for mask in regions]
    dark = [(image[mask == MOUTH_REGION] < 45).sum() for image, mask in zip(images, regions, strict=True)]
    assert mouth[1] > 1.4 * mouth[0] and dark[1] > dark[0] + 20


def test_a_smile_with_parted_lips_shows_teeth(bald):
    images, regions = bald.render(somebody(lips=0.3), views_of(smile=0.8, lip_part=[0, 1]))
    skin = np.median(images[regions == SKIN_REGION])
    bright = [(image[mask == MOUTH_REGION] > skin + 8).sum() for image, mask in zip(images, regions, strict=True)]
    assert bright[1] > bright[0] + 15


def test_a_blink_hides_the_iris(bald):
    images, regions = bald.render(somebody(eye=0.03), views_of(blink=[0, 1]))
    skin = np.median(images[regions == SKIN_REGION])
    dark = [(image[mask == EYES] < 0.4 * skin).sum() for image, mask in zip(images, regions, strict=True)]
    assert dark[0] > 15 and dark[1] < 0.5 * dark[0]


def test_a_beard_is_dark_and_marked(bald):
    images, regions = bald.render(somebody(beard=0.9, beard_cheeks=0.9, moustache=0.9, brow=0.05), views_of())
    beard = regions == REGIONS.index("beard")
    assert beard.sum() > 400 and images[beard].mean() < 0.6 * images[regions == SKIN_REGION].mean()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"size": 8}, "16 to 256 pixels wide, not 8"), ({"supersample": 0}, "from 1 to 8.*not 0"), ({"device": "tpu"}, "no device 'tpu'")],
)
def test_what_cannot_be_had_is_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        Renderer(**wrong)


def test_larger_images_show_the_same_scene(head, renderer):
    people, views = sample_people(1, seed=5), views_of(blur=0.01)
    small, _ = renderer.render(people, views)
    large, _ = Renderer(size=128, supersample=2).render(people, views)
    halved = large.reshape(1, 64, 2, 64, 2).mean((2, 4))
    assert np.abs(halved - small).mean() < 6


def test_views_depend_on_seed_person_and_image_only():
    views = sample_views(range(6), 4, seed=9)
    assert len(views) == 24 and views.images == 4
    part = sample_views(range(2, 5), 4, seed=9)
    short = sample_views(range(2, 5), 2, seed=9)
    for name, value in views.values.items():
        assert value.dtype == np.float32 and np.isfinite(value).all()
        np.testing.assert_array_equal(part.values[name], value[8:20], err_msg=name)
        np.testing.assert_array_equal(short.values[name], value[8:20].reshape(3, 4)[:, :2].ravel(), err_msg=name)
    assert (sample_views(range(6), 4, seed=10).values["yaw"] != views.values["yaw"]).all()


def test_views_are_those_of_photographs():
    v = sample_views(range(300), 10, seed=1).values
    assert 0.2 < v["yaw"].std() < 0.38 and abs(v["yaw"].mean()) < 0.03
    assert np.corrcoef(v["smile"], v["squint"])[0, 1] > 0.3
    assert np.corrcoef(v["yaw"], v["gaze_x"])[0, 1] < -0.5  # most look into the camera
    for name in (
        "smile",
        "lip_part",
        "jaw_open",
        "brow_raise",
        "frown",
        "squint",
        "blink",
        "light_softness",
        "ambient",
        "background_level",
    ):
        assert v[name].min() >= 0 and v[name].max() <= 1, name
    assert len(np.unique(v["noise_seed"])) > 2990


def test_developing_keeps_the_range_and_blurs():
    grey = np.zeros((2, 32, 32), np.float32)
    grey[:, 16:] = 2.0
    values = {name: np.full(2, value, np.float32) for name, value in {**PLAIN, "contrast": 1.0}.items()}
    values["blur"] = np.array([0.05, 4.0], np.float32)
    images = develop(grey, values)
    assert images.dtype == np.uint8 and images.min() == 0 and images.max() > 240
    assert len(np.unique(images[0])) == 2 and len(np.unique(images[1])) > 5


def test_a_part_follows_its_anchors_and_joins():
    triangle = Part(
        vertices=np.eye(3, dtype=np.float32),
        faces=np.array([[0, 1, 2]], np.int32),
        uv=np.zeros((3, 2), np.float32),
        material=np.array([mesh.HAIR], np.int8),
        anchor=np.array([[0, 1], [1, 1], [2, 0]], np.int32),
        weight=np.array([[0.5, 0.5], [1, 0], [1, 0]], np.float32),
    )
    displacement = np.array([[[2, 0, 0], [4, 0, 0], [0, 0, 6]]], np.float32)
    np.testing.assert_allclose(triangle.attach(displacement)[0], np.eye(3) + [[3, 0, 0], [4, 0, 0], [0, 0, 6]])
    both = join([triangle, triangle])
    np.testing.assert_array_equal(both.faces, [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(both.attach(displacement)[0, 3:], triangle.attach(displacement)[0])
    assert len(join([]).vertices) == 0 and join([]).attach(displacement).shape == (1, 0, 3)
