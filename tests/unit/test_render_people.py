"""The people of the embedded faces, their hair and their glasses."""

import numpy as np
import pytest

from aia_render import people as people_module
from aia_render.people import BALD, BOB, CURLY, SHAPE_NAMES, STRAIGHT, STYLE_NAMES, SUN, TIED, WAVY, sample_people

COUNT = 2000


@pytest.fixture(scope="module")
def people():
    return sample_people(COUNT, seed=7)


def test_a_person_depends_on_seed_and_index_only(people):
    for first, count in ((0, 3), (5, 4), (1990, 10), (17, 1)):
        part = sample_people(count, seed=7, first=first)
        rows = slice(first, first + count)
        assert part.first == first and len(part) == count
        np.testing.assert_array_equal(part.shape, people.shape[rows])
        for name, value in part.traits.items():
            np.testing.assert_array_equal(value, people.traits[name][rows], err_msg=name)
    other = sample_people(3, seed=8)
    assert (other.shape != people.shape[:3]).mean() > 0.9
    assert len(sample_people(0, seed=7)) == 0


@pytest.mark.parametrize("wrong", [{"count": -1, "seed": 0}, {"count": 1, "seed": -2}, {"count": 1, "seed": 0, "first": -3}])
def test_negative_numbers_are_refused(wrong):
    with pytest.raises(ValueError, match="negative: -"):
        sample_people(**wrong)


def test_traits_stay_in_their_ranges(people):
    ranges = {
        "label": (0, 1),
        "gender": (0, 1),
        "age": (0.63, 0.95),
        "age_years": (20, 75),
        "weight": (0.15, 0.9),
        "muscle": (0.2, 0.8),
        "skin": (0.07, 0.80),
        "skin_texture": (0, 1),
        "lips": (0, 0.6),
        "makeup": (0, 1),
        "brow": (0.03, 0.5),
        "brow_thickness": (0.001, 0.006),
        "brow_darkness": (0, 1),
        "brow_height": (-0.005, 0.005),
        "brow_arch": (0, 1),
        "eye": (0.03, 0.35),
        "hair": (0.03, 0.6),
        "grey": (0, 1),
        "hair_style": (0, len(STYLE_NAMES) - 1),
        "hair_length": (0, 0.42),
        "hair_volume": (0, 1),
        "hair_wave": (0, 1),
        "hairline": (0, 1),
        "baldness": (0, 1),
        "parting": (-1, 1),
        "fringe": (0, 1),
        "beard": (0, 1),
        "beard_cheeks": (0, 1),
        "moustache": (0, 1),
        "beard_length": (0, 0.03),
        "stubble": (0, 1),
        "glasses": (0, 5),
        "glasses_size": (0.85, 1.15),
        "glasses_dark": (0, 1),
    }
    assert set(people.traits) == set(ranges) | {"african", "asian", "caucasian"}
    for name, (low, high) in ranges.items():
        value = people.traits[name]
        assert value.dtype == np.float32 and value.shape == (COUNT,)
        assert np.isfinite(value).all() and value.min() >= low - 1e-6 and value.max() <= high + 1e-6, name
    np.testing.assert_allclose(sum(people.traits[name] for name in ("african", "asian", "caucasian")), 1, atol=1e-5)
    assert people.shape.shape == (COUNT, len(SHAPE_NAMES)) and np.abs(people.shape).max() <= 1
    assert len(set(SHAPE_NAMES)) == len(SHAPE_NAMES) > 120
    women = people.traits["label"] == 0
    for name in ("beard", "moustache", "stubble"):
        assert not people.traits[name][women].any()
        assert 0.03 < (people.traits[name][~women] > 0).mean() < 0.25
    facial_hair = np.maximum.reduce([people.traits[name] for name in ("beard", "moustache", "stubble")]) > 0
    assert 0.15 < facial_hair[~women].mean() < 0.25


def test_left_and_right_are_nearly_equal(people):
    left = [i for i, name in enumerate(SHAPE_NAMES) if name.startswith("l-")]
    right = [SHAPE_NAMES.index("r-" + SHAPE_NAMES[i][2:]) for i in left]
    difference = people.shape[:, left] - people.shape[:, right]
    assert 0.05 < difference.std() < 0.15
    for a, b in zip(left, right, strict=True):
        deviation = people_module.SHAPE["*" + SHAPE_NAMES[a][1:]][0]
        if deviation >= 0.2:
            assert np.corrcoef(people.shape[:, a], people.shape[:, b])[0, 1] > 0.8


def test_attributes_follow_the_traits(people):
    attributes = people.attributes()
    assert set(attributes) == {"gender", "young", "eyeglasses", "beard", "long_hair"}
    for name, value in attributes.items():
        assert value.dtype == np.int8 and set(np.unique(value)) == {0, 1}
        assert value.mean() > 0.05, name
    np.testing.assert_array_equal(attributes["gender"], people.traits["label"])
    np.testing.assert_array_equal(attributes["young"], people.traits["age_years"] < 40)
    long = np.isin(people.traits["hair_style"], (STRAIGHT, WAVY))
    assert attributes["long_hair"][long].all()
    assert people.person(3)["hair"] == pytest.approx(float(people.traits["hair"][3]))


def features(people):
    """Groups of numbers about each person, as somebody who sees one region only could know them."""
    t = people.traits

    def traits(*names):
        return np.stack([t[name] for name in names], 1)

    def shape(*words):
        return people.shape[:, [any(word in name for word in words) for name in people.shape_names]]

    style = np.eye(len(STYLE_NAMES))[t["hair_style"].astype(int)]
    groups = {
        "hair": [style, traits("hair_length", "hair_volume", "hair_wave", "hairline", "baldness", "parting", "fringe", "hair", "grey")],
        "brows": [traits("brow_thickness", "brow_darkness", "brow_height", "brow_arch", "brow"), shape("eyebrows")],
        "jaw and beard": [traits("beard", "beard_cheeks", "moustache", "stubble", "beard_length"), shape("chin", "neck", "cheek")],
        "lips": [traits("lips", "makeup"), shape("mouth")],
        "eyes": [traits("makeup", "eye"), shape("-eye-")],
        "nose": [shape("nose")],
        "phenotype": [traits("gender", "muscle", "weight")],
    }
    return {name: np.concatenate(columns, 1) for name, columns in groups.items()}


def reader_auc(values, label):
    """AUC of a logistic regression, trained on one half of the people and tested on the other."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    values = (values - values.mean(0)) / (values.std(0) + 1e-9)
    half = len(label) // 2
    model = LogisticRegression(C=0.1, max_iter=500).fit(values[:half], label[:half])
    return roc_auc_score(label[half:], model.decision_function(values[half:]))


def test_no_group_of_traits_decides_gender_but_all_together_do():
    """Of the traits, known exactly. An image shows them through pose, light and 64 pixels: see the recorded difficulty."""
    people = sample_people(4000, seed=1)
    label = people.traits["label"]
    groups = features(people)
    for name, values in groups.items():
        assert 0.75 < reader_auc(values, label) < 0.985, name
    everything = reader_auc(np.concatenate(list(groups.values()), 1), label)
    assert everything > 0.99
    # The positive and the negative control: the label itself, and a shuffled one.
    assert reader_auc(label[:, None], label) == 1
    shuffled = np.random.default_rng(0).permutation(label)
    assert abs(reader_auc(np.concatenate(list(groups.values()), 1), shuffled) - 0.5) < 0.06


def test_separation_moves_every_cue(monkeypatch):
    monkeypatch.setattr(people_module, "SEPARATION", 0.0)
    people = sample_people(3000, seed=1)
    assert abs(reader_auc(np.concatenate(list(features(people).values()), 1), people.traits["label"]) - 0.5) < 0.06


def test_hair_goes_with_age_and_ancestry(people):
    t = people.traits
    old, young = t["age_years"] > 65, t["age_years"] < 35
    assert t["grey"][old].mean() > 0.5 > 0.1 > t["grey"][young].mean()
    men = t["label"] == 1
    assert t["hairline"][old & men].mean() > t["hairline"][young & men].mean() + 0.2
    dark = t["african"] > 0.7
    assert t["skin"][dark].mean() < t["skin"][t["caucasian"] > 0.7].mean() - 0.2
    assert t["hair_wave"][dark].mean() > 0.7 > 0.4 > t["hair_wave"][t["asian"] > 0.7].mean()


# ---- parts ----


@pytest.fixture(scope="module")
def head():
    pytest.importorskip("anny")
    pytest.importorskip("warp")
    from aia_render.reduce import load_head

    return load_head()


@pytest.fixture(scope="module")
def outside(head):
    """Signed distances of points to the skin of a head with the given vertices, positive outside, 1 beyond the reach of 0.3 m."""
    import warp as wp

    from aia_render.mesh import SKIN

    def measure(vertices, places):
        points = wp.array(np.ascontiguousarray(vertices), dtype=wp.vec3, device="cpu")
        mesh = wp.Mesh(points=points, indices=wp.array(head.faces[head.material == SKIN].ravel(), dtype=wp.int32, device="cpu"))
        result = wp.zeros(len(places), dtype=wp.float32, device="cpu")
        wp.launch(signed_distance, dim=len(places), inputs=[mesh.id, wp.array(places, dtype=wp.vec3, device="cpu"), result], device="cpu")
        return result.numpy()

    return measure


try:
    import warp as wp

    @wp.kernel
    def signed_distance(mesh: wp.uint64, points: wp.array(dtype=wp.vec3), result: wp.array(dtype=wp.float32)):
        i = wp.tid()
        query = wp.mesh_query_point_sign_normal(mesh, points[i], 0.3)
        if query.result:
            nearest = wp.mesh_eval_position(mesh, query.face, query.u, query.v)
            result[i] = query.sign * wp.length(points[i] - nearest)
        else:
            result[i] = 1.0
except ImportError:  # the tests that need it are skipped
    signed_distance = None


def one_of_each_style(people, count=3):
    style = people.traits["hair_style"].astype(int)
    return [i for s in range(len(STYLE_NAMES)) for i in np.flatnonzero(style == s)[:count]]


def check_anchors(part, head):
    assert part.anchor.dtype == np.int32 and part.anchor.min() >= 0 and part.anchor.max() < len(head.vertices)
    assert part.weight.min() >= 0
    np.testing.assert_allclose(part.weight.sum(1), 1, atol=1e-5)


def test_hair_is_sound(people, head, outside):
    from aia_render.hair import hair_part
    from aia_render.mesh import HAIR

    for i in one_of_each_style(people):
        traits = people.person(i)
        part = hair_part(head, traits)
        name = STYLE_NAMES[int(traits["hair_style"])]
        if traits["hair_style"] == BALD and traits["baldness"] < 0.15:
            assert len(part.faces) == 0
            continue
        assert np.isfinite(part.vertices).all() and np.isfinite(part.uv).all()
        assert 500 < len(part.faces) <= 6100, name
        assert (part.material == HAIR).all()
        assert -1e-6 <= part.uv[:, 1].min() and part.uv[:, 1].max() <= 1.6
        check_anchors(part, head)
        edges = part.vertices[part.faces]
        assert np.linalg.norm(edges - np.roll(edges, 1, 1), axis=2).max() < 0.09, name  # no triangle flies off
        # Nothing but roots and what hangs down into the shoulders is inside the skin.
        tested = part.vertices[part.vertices[:, 2] > 0.62]
        depth = outside(head.vertices, tested)
        assert (depth < -0.002).mean() < 0.01, (name, (depth < -0.002).mean())
        assert depth.max() < 0.075, name  # and nothing floats


def test_the_face_is_free_unless_there_is_a_fringe(people, head):
    from aia_render.hair import hair_part

    for i in one_of_each_style(people, 6):
        traits = people.person(i)
        vertices = hair_part(head, traits).vertices
        low = vertices[(vertices[:, 2] < 0.762) & (vertices[:, 1] < -0.105)]  # from the brows down, in front of the temples
        if traits["fringe"] > 0.05 or traits["hair_style"] in (BOB, CURLY):
            low = low[low[:, 2] < 0.74]
        assert not (np.abs(low[:, 0]) < 0.045).any(), (i, STYLE_NAMES[int(traits["hair_style"])])


def test_hair_is_the_same_for_the_same_person_and_differs_between_people(people, head):
    from aia_render.hair import hair_part

    first, again = hair_part(head, people.person(1)), hair_part(head, people.person(1))
    np.testing.assert_array_equal(first.vertices, again.vertices)
    np.testing.assert_array_equal(first.faces, again.faces)
    longest = np.argsort(people.traits["hair_length"] * (people.traits["hair_style"] == STRAIGHT))[-2:]
    a, b = (hair_part(head, people.person(i)).vertices for i in longest)
    assert a.shape != b.shape or np.abs(a - b).max() > 0.003
    # Long hair reaches further down than cropped hair.
    cropped = int(np.flatnonzero(people.traits["hair_style"] == 2)[0])
    assert a[:, 2].min() < hair_part(head, people.person(cropped)).vertices[:, 2].min() - 0.05


def test_hair_fits_every_head_and_does_not_follow_the_jaw(people, head, outside):
    from aia_render.hair import hair_part

    rows = [i for i in one_of_each_style(people, 2) if people.traits["hair_style"][i] not in (BALD, TIED)]
    shaped = head.people({name: value[rows] for name, value in people.traits.items()}, people.shape_names, people.shape[rows])
    laughing = head.express({"jawOpen": np.array([1.0], np.float32), "mouthSmileLeft": np.array([1.0], np.float32)})
    for row, i in enumerate(rows):
        part = hair_part(head, people.person(i))
        moved = part.attach((shaped[row] - head.vertices)[None])[0]
        depth = outside(shaped[row], moved[part.vertices[:, 2] > 0.72])
        assert (depth < -0.003).mean() < 0.03, i
        assert depth.max() < 0.085, i
        swing = np.linalg.norm(part.attach(laughing)[0] - part.vertices, axis=1)
        assert swing.max() < 0.002


def test_glasses_sit_on_the_nose_and_the_ears(people, head):
    from aia_render.glasses import glasses_part
    from aia_render.mesh import GLASSES, LENS

    extreme = np.sign(people.shape[:40]) * 0.6  # far beyond what is drawn, in all changes at once
    for name in ("forehead-nubian-incr", "forehead-scale-vert-incr", "head-scale-vert-incr", "nose-point-up"):
        extreme[:, SHAPE_NAMES.index(name)] *= 0.3
    shapes = np.concatenate([people.shape[:60], extreme])
    traits = {name: value[np.r_[0:60, 0:40]] for name, value in people.traits.items()}
    displacement = head.people(traits, people.shape_names, shapes) - head.vertices
    bridge = np.argmin(np.linalg.norm(head.vertices - (0.0, -0.151, 0.729), axis=1))
    for style in range(1, 6):
        part = glasses_part(head, people.person(0) | {"glasses": style, "glasses_size": 1.0, "glasses_dark": 0.5})
        check_anchors(part, head)
        assert set(part.material) == ({GLASSES, LENS} if style == SUN else {GLASSES})
        assert len(part.faces) < 1500
        moved = part.attach(displacement)
        middle = np.abs(part.vertices[:, 0]) < 0.004
        gap = moved[:, middle] - (head.vertices + displacement)[:, bridge][:, None]
        assert np.abs(gap[..., 1]).min(1).max() < 0.008  # the bridge of the glasses is within millimetres of the nose's
        assert (gap[..., 1].min(1) < -0.001).all()  # and in front of it
        assert np.abs(gap[..., 2]).min(1).max() < 0.010
        for side in (1, -1):
            end = part.vertices[:, 1] > part.vertices[:, 1].max() - 0.02
            end &= part.vertices[:, 0] * side > 0
            ear = (head.vertices[:, 0] * side > 0) & (head.masks["ears"] > 0.3)
            place = (head.vertices + displacement)[:, ear]
            for face in range(len(shapes)):
                nearest = np.linalg.norm(moved[face, end][:, None] - place[face][None], axis=2).min()
                assert nearest < 0.012, (style, face)
    assert glasses_part(head, people.person(0) | {"glasses": 0}) is None
