"""Faces: splits by identity, verification pairs, and rows that are read late."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from aia_lib.config import SPLIT_FRACTIONS
from aia_lib.faces import Faces
from aia_lib.machine.files import UserError
from aia_lib.machine.rows import RowView


def faces_of(identity, labels=None, **changes) -> Faces:
    """Blank faces of the people `identity`; without `labels`, people with an even code are labelled 1."""
    identity = np.asarray(identity, dtype=np.int64)
    labels = (identity % 2 == 0) if labels is None else np.asarray(labels)
    settings = dict(attribute="gender", source="test", licence="none") | changes
    return Faces(np.zeros((len(identity), 1, 4, 4), np.uint8), identity, {"gender": labels.astype(np.int8)}, **settings)


people_counts = st.lists(st.integers(1, 9), min_size=1, max_size=40)
"""Images of each person."""


# ------------------------------------------------------------------------------------------------------------------ Faces


def test_faces_tell_what_does_not_fit():
    good = faces_of([0, 0, 1])
    with pytest.raises(UserError, match=r"uint8 \(N, 1, H, H\), or templates float32 \(N, d\), not float64"):
        Faces(np.zeros((3, 1, 4, 4)), good.identity, good.attributes, "gender", "test", "none")
    with pytest.raises(UserError, match="must hold 3 integers"):
        Faces(good.images, np.array([0, 1]), good.attributes, "gender", "test", "none")
    with pytest.raises(UserError, match="none negative"):
        faces_of([0, -1, 1])
    with pytest.raises(UserError, match=r"\['gender'\] must hold 1, 0 and -1"):
        faces_of([0, 0, 1], labels=[0, 1, 2])
    with pytest.raises(UserError, match=r"\['gender'\] must have shape \(3,\), not \(2,\)"):
        faces_of([0, 0, 1], labels=[0, 1])
    with pytest.raises(UserError, match="no attribute 'age' in test; there are: gender"):
        faces_of([0, 0, 1], attribute="age")
    with pytest.raises(UserError, match="has 1 names, but the identity codes go up to 1"):
        faces_of([0, 0, 1], names=("a",))
    with pytest.raises(UserError, match="no attribute 'age'"):
        good.labels("age")
    with pytest.raises(UserError, match=r"regions must be uint8 of shape \(3, 4, 4\), not int64 of shape \(3, 4, 4\)"):
        faces_of([0, 0, 1], regions=np.zeros((3, 4, 4), np.int64))
    with pytest.raises(UserError, match=r"regions must be uint8 of shape \(3, 4, 4\), not uint8 of shape \(2, 4, 4\)"):
        faces_of([0, 0, 1], regions=np.zeros((2, 4, 4), np.uint8))
    with pytest.raises(UserError, match=r"nuisance\['yaw'\] must have shape \(3,\), not \(2,\)"):
        faces_of([0, 0, 1], nuisance={"yaw": np.zeros(2)})
    with pytest.raises(UserError, match=r"traits\['skin'\] must hold one number a person, up to the identity code 1; its shape is \(1,\)"):
        faces_of([0, 0, 1], traits={"skin": np.zeros(1)})


def test_faces_count_and_describe_themselves(toy_faces):
    faces = toy_faces(people=10, images=3)
    assert (len(faces), faces.people, faces.size) == (30, 10, 32)
    assert repr(faces) == "Faces(30 images of 10 people, 32 x 32, 'gender', from drawn faces)"
    assert faces.labels().dtype == np.int8 and faces.identity.dtype == np.int64


def test_subset_keeps_identity_codes_and_order(toy_faces):
    faces = toy_faces(people=10, images=3)
    rows = [29, 3, 4]
    part = faces.subset(rows)
    assert_array_equal(part.identity, faces.identity[rows])
    assert_array_equal(part.images, faces.images[rows])
    assert_array_equal(part.labels("glasses"), faces.labels("glasses")[rows])
    assert part.people == 2
    assert_array_equal(faces.subset(faces.identity == 3).identity, [3, 3, 3])
    assert_array_equal(faces.subset([i == 5 for i in range(30)]).images, faces.images[5:6])
    assert len(faces.subset([])) == 0 and faces.subset([]).people == 0
    assert len(faces.subset(slice(0, 7))) == 7


def test_subset_carries_what_is_known_of_images_and_people():
    regions = np.arange(5 * 16, dtype=np.uint8).reshape(5, 4, 4) % 11
    faces = faces_of([0, 0, 1, 2, 2], regions=regions, nuisance={"yaw": np.arange(5)}, traits={"skin": [0.2, 0.4, 0.6]})
    part = faces.subset([4, 2])
    assert_array_equal(part.regions, regions[[4, 2]])
    assert_array_equal(part.nuisance["yaw"], [4, 2])
    assert_array_equal(part.traits["skin"][part.identity], np.array([0.6, 0.4], np.float32))
    assert part.nuisance["yaw"].dtype == part.traits["skin"].dtype == np.float32
    plain = faces_of([0, 0, 1])
    assert plain.regions is None and plain.nuisance == {} and plain.subset([1]).regions is None and plain.subset([1]).traits == {}


def test_fingerprint_names_what_is_known_too():
    regions = np.zeros((3, 4, 4), np.uint8)
    known = [{}, {"regions": regions}, {"regions": regions + 1}, {"nuisance": {"yaw": np.zeros(3)}}, {"traits": {"yaw": np.zeros(3)}}]
    prints = [faces_of([0, 0, 1], **each).fingerprint for each in known]
    assert len(set(prints[:4])) == 4 and prints[3] == faces_of([0, 0, 1], nuisance={"yaw": np.zeros(3)}).fingerprint


def test_fingerprint_names_the_content(toy_faces):
    faces, same, other = toy_faces(people=5, images=2), toy_faces(people=5, images=2), toy_faces(people=5, images=2, seed=1)
    assert faces.fingerprint == same.fingerprint != other.fingerprint
    assert faces.subset([0, 1]).fingerprint != faces.subset([1, 0]).fingerprint
    loaded = faces_of([0, 0, 1], cache_key="ab" * 32)
    assert loaded.fingerprint == "ab" * 32
    assert loaded.subset([0]).fingerprint not in ("ab" * 32, loaded.subset([1]).fingerprint)


def test_person_labels_are_majorities_with_ties_to_the_first_labelled_image():
    identity = [7, 7, 7, 2, 2, 2, 5, 5, 5]
    labels = [1, 1, 0, -1, 0, 1, -1, -1, -1]
    assert_array_equal(faces_of(identity, labels).person_labels(), [0, -1, 1])  # of the people 2, 5, 7


# ----------------------------------------------------------------------------------------------------------------- splits


@given(counts=st.lists(st.integers(1, 4), min_size=60, max_size=120), seed=st.integers(0, 2**32), unlabelled=st.booleans())
@settings(max_examples=40, deadline=None)
def test_splits_are_disjoint_complete_stratified_and_reproducible(counts, seed, unlabelled):
    identity = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    labels = np.where(identity % 7 == 0, -1 if unlabelled else 0, identity % 2)
    if max(counts) < 2 or sum(count > 1 for count in counts) < 20:
        return
    faces = faces_of(identity, labels, split_seed=seed)
    splits = faces.split()
    people = [set(part.identity) for part in splits]
    assert sum(map(len, people)) == len(set().union(*people)) == len(counts)
    assert sum(map(len, splits)) == len(faces)
    truth = np.array([labels[identity == person][0] for person in range(len(counts))])
    several = np.array(counts) > 1
    for value in (-1, 0, 1):
        for group in (several, ~several):
            mine = np.flatnonzero((truth == value) & group)
            for share, members in zip(SPLIT_FRACTIONS, people, strict=True):
                assert abs(len(members.intersection(mine)) - share * len(mine)) <= 2
    again = faces.split()
    assert all(set(a.identity) == set(b.identity) for a, b in zip(splits, again, strict=True))


def test_another_seed_is_another_split(toy_faces):
    from dataclasses import replace

    faces = toy_faces()
    assert set(faces.split().test.identity) != set(replace(faces, split_seed=1).split().test.identity)


def test_a_fold_deals_the_people_out_anew_and_the_first_is_the_split_there_always_was(toy_faces):
    faces = toy_faces()
    first, again, other = faces.split(), faces.split(fold=0, sealed=0), faces.split(fold=1)
    assert sorted(set(first.test.identity)) == [7, 8, 17, 24, 34, 36, 37, 43, 50, 56, 58, 59], "recorded figures rest on these people"
    assert all(np.array_equal(a.identity, b.identity) for a, b in zip(first, again, strict=True)) and first.sealed is None
    assert [part.people for part in other] == [part.people for part in first] and other.fold == 1
    assert all(set(a.identity) != set(b.identity) for a, b in zip(first, other, strict=True))
    assert all(np.array_equal(a.identity, b.identity) for a, b in zip(other, faces.split(fold=1), strict=True))


@pytest.mark.parametrize("share", [0.1, 0.25])
def test_sealed_people_are_the_same_in_every_fold_and_in_no_other_part(toy_faces, share):
    faces = toy_faces(people=120, images=2, size=16)
    sealed = set(faces.split(sealed=share).sealed.identity)
    assert len(sealed) == pytest.approx(share * 120, abs=1) and faces.split(sealed=share).sealed.person_labels().mean() == 0.5
    for fold in range(4):
        splits = faces.split(fold=fold, sealed=share)
        people = [set(part.identity) for part in (*splits, splits.sealed)]
        assert people[4] == sealed and sum(map(len, people)) == len(set().union(*people)) == 120
        assert [len(part) / (120 - len(sealed)) for part in people[:4]] == pytest.approx(SPLIT_FRACTIONS, abs=0.02)
        assert splits.opened().test is splits.sealed and splits.opened().val is splits.val and splits.opened().fold == fold
    assert pickle.loads(pickle.dumps(splits)).sealed.people == len(sealed)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fold": -1}, "The fold must be a whole number of at least 0, not -1"),
        ({"sealed": 1.0}, "sealed must be at least 0 and less than 1, not 1.0"),
        ({"sealed": float("nan")}, "less than 1, not nan"),
        ({"sealed": 0.01}, "60 people .* a share of 0.01 sealed.* leave 'sealed' without people with both labels"),
        ({"sealed": 0.9}, "a share of 0.9 sealed.* leave 'train' without"),
    ],
)
def test_folds_and_shares_that_cannot_be_are_named(toy_faces, settings, message):
    with pytest.raises(UserError, match=message):
        toy_faces().split(**settings)


def test_splits_can_be_stratified_by_another_attribute(toy_faces):
    faces = toy_faces(people=80)
    for part in faces.split(attribute="glasses"):
        share = part.person_labels("glasses").mean()
        assert abs(share - faces.person_labels("glasses").mean()) < 0.1
        assert part.attribute == "gender"


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.4, 0.3, 0.1, 0.3), (1.0, 0.0, 0.0, 0.0), (0.6, 0.5, -0.2, 0.1), (float("nan"),) * 4])
def test_split_refuses_shares_that_are_none(fractions, toy_faces):
    with pytest.raises(UserError, match="four positive shares that sum to 1"):
        toy_faces().split(fractions)


def test_split_refuses_what_it_cannot_split():
    with pytest.raises(UserError, match="Nobody of the 30 people in test has 'gender' = 1.*one class"):
        faces_of(np.repeat(np.arange(30), 2), np.zeros(60)).split()
    with pytest.raises(UserError, match="All 30 people in test have a single image"):
        faces_of(np.arange(30)).split()
    with pytest.raises(UserError, match=r"Too few people to split: 4 people.*leave 'train' without two people.*Load more people"):
        faces_of(np.repeat(np.arange(4), 2)).split()
    with pytest.raises(
        UserError, match=r"\(2 with 'gender' = 1, 38 with 0, 40 with two images or more\) leave .* without people with both labels"
    ):
        faces_of(np.repeat(np.arange(40), 2), np.repeat(np.arange(40) < 2, 2)).split()
    with pytest.raises(UserError, match="without a person with two images"):
        faces_of([*np.arange(40), 0, 1]).split()


# ------------------------------------------------------------------------------------------------------------------ pairs


@given(counts=people_counts, count=st.integers(2, 300), seed=st.integers(0, 2**32), impostors=st.sampled_from(["free", "same"]))
@settings(max_examples=150, deadline=None)
def test_pairs_are_what_they_say(counts, count, seed, impostors):
    rng = np.random.default_rng(seed)
    identity = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    labels = rng.integers(-1, 2, len(counts))[identity]
    faces = faces_of(identity, labels)
    try:
        pairs = faces.pairs(count, impostors, seed=seed)
    except UserError as error:
        possible = max(counts) > 1 and len(counts) > 1
        if impostors == "same":
            possible = possible and any(len(set(identity[labels == value])) > 1 for value in (0, 1))
        assert not possible, error
        return
    a, b, different = pairs
    assert (a.dtype, b.dtype, different.dtype) == (np.int64, np.int64, np.int8)
    assert_array_equal(identity[a] != identity[b], different == 1)
    assert (a != b).all()
    assert 2 * different.sum() == len(different) <= count
    assert len({frozenset(pair) for pair in zip(a, b, strict=True)}) == len(a)  # none twice
    if impostors == "same":
        chosen = different == 1
        assert (labels[a[chosen]] == labels[b[chosen]]).all() and (labels[a[chosen]] >= 0).all()
    elif len(a) < 2 * (count // 2):  # fewer than asked for: all that exist of one kind
        genuine = sum(n * (n - 1) // 2 for n in counts)
        assert len(a) == 2 * min(genuine, (len(identity) ** 2 - sum(n * n for n in counts)) // 2)
    again = faces.pairs(count, impostors, seed=seed)
    assert all((x == y).all() for x, y in zip(pairs, again, strict=True))
    more = faces.pairs(count, impostors, seed=seed, impostor_pairs=len(identity) ** 2)  # all there are, and the same genuine ones
    genuine, same = ({frozenset(pair) for pair in zip(p.a[p.different == 0], p.b[p.different == 0], strict=True)} for p in (pairs, more))
    assert genuine == same and len({frozenset(pair) for pair in zip(more.a, more.b, strict=True)}) == len(more.a)
    x, y = np.triu_indices(len(identity), 1)
    alike = (labels[x] == labels[y]) & (labels[x] >= 0) if impostors == "same" else True
    assert more.different.sum() == ((identity[x] != identity[y]) & alike).sum()


def test_pairs_spread_over_people_and_are_uniform_within_a_person():
    identity = np.repeat([0, 1, 2, 3], [100, 5, 5, 2])
    pairs = faces_of(identity).pairs(2 * 22)
    own = np.bincount(identity[pairs.a[pairs.different == 0]], minlength=4)
    assert own.sum() == 22 and own[3] == 1 and own[:3].tolist() == [7, 7, 7]
    # a person's pairs are equally likely: 10 pairs of 5 images, 4 drawn each time
    seen = np.zeros((5, 5))
    five = faces_of(np.repeat([0, 1], [5, 5]))
    for seed in range(3000):
        a, b, different = five.pairs(2 * 8, seed=seed)
        mine = (different == 0) & (a < 5)
        np.add.at(seen, (np.minimum(a[mine], b[mine]), np.maximum(a[mine], b[mine])), 1)
    frequency = seen[np.triu_indices(5, 1)] / 3000
    assert np.abs(frequency - 0.4).max() < 0.05


def test_same_attribute_impostors_have_the_labels_of_the_genuine_pairs(toy_faces):
    faces = toy_faces(people=80, images=4)
    rows = np.flatnonzero((faces.labels() == 1) | (faces.identity % 4 == 0))  # an uneven share
    faces = faces.subset(rows)
    a, b, different = faces.pairs(400, "same")
    labels = faces.labels()
    assert abs(labels[a[different == 0]].mean() - labels[a[different == 1]].mean()) < 0.01
    free = faces.pairs(400, "free")
    told_apart = (labels[free.a] != labels[free.b]) == (free.different == 1)
    assert told_apart.mean() > 0.6 > 0.51 > ((labels[a] != labels[b]) == (different == 1)).mean()  # what gender alone gives away


def test_pairs_refuse_what_they_cannot_draw():
    with pytest.raises(UserError, match="none of the 5 people has two images"):
        faces_of(np.arange(5)).pairs(10)
    with pytest.raises(UserError, match="no two people among the 1"):
        faces_of([0, 0, 0]).pairs(10)
    with pytest.raises(UserError, match="no two people with the same label of 'gender' among the 2"):
        faces_of([0, 0, 1, 1]).pairs(10, "same")
    with pytest.raises(UserError, match="'free' or 'same', not 'any'"):
        faces_of([0, 0, 1]).pairs(10, "any")
    for count in (1, 0, -4, 2.5, True):
        with pytest.raises(UserError, match="number of pairs"):
            faces_of([0, 0, 1]).pairs(count)
    with pytest.raises(UserError, match="no attribute 'age'"):
        faces_of([0, 0, 1]).pairs(4, "same", attribute="age")


def test_pairs_of_millions_of_images_need_no_table_of_all_pairs():
    identity = np.random.default_rng(0).integers(0, 9000, 1_000_000)
    images = np.broadcast_to(np.uint8(0), (len(identity), 1, 4, 4))
    faces = Faces(images, identity, {"gender": (identity % 2).astype(np.int8)}, "gender", "test", "none")
    for impostors in ("free", "same"):
        a, b, different = faces.pairs(200_000, impostors)
        assert len(a) == 200_000
        assert ((identity[a] != identity[b]) == different).all()


# ---------------------------------------------------------------------------------------------------------------- RowView


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "images.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (20, 1, 6, 6), dtype=np.uint8))
    return np.load(path, mmap_mode="r")


ROWS = [3, 19, 0, 0, 7, 12]


@pytest.mark.parametrize(
    "key",
    [
        0,
        -1,
        np.int64(2),
        slice(None),
        slice(1, 5, 2),
        slice(None, None, -1),
        [0, 2],
        [],
        np.array([5, 5, 1]),
        np.array([[0, 1], [2, 3]]),
        np.array([True, False, True, False, False, True]),
        [True, False, True, False, False, True],
        (0, 0),
        (slice(0, 3), 0),
        (slice(0, 3), slice(None), 2),
        (slice(0, 3), slice(None), [1, 2]),
        ([0, 1, 2], 0, [3, 4, 5]),
        (0, slice(None), [1, 2]),
        (np.array([True, False, True, False, False, True]), 0),
        ...,
        (..., 2),
        None,
        (None, 0),
        (),
        True,
    ],
    ids=repr,
)
def test_a_row_view_is_indexed_as_the_array_it_stands_for(mapped, key):
    view, array = RowView(mapped, ROWS), np.asarray(mapped)[ROWS]
    assert_array_equal(view[key], array[key])
    assert np.shape(view[key]) == np.shape(array[key])
    assert not isinstance(view[key], np.memmap)


def test_a_row_view_has_the_form_of_an_array(mapped):
    view, array = RowView(mapped, ROWS), np.asarray(mapped)[ROWS]
    for name in ("shape", "dtype", "ndim"):
        assert getattr(view, name) == getattr(array, name)
    assert len(view) == 6 and repr(view) == "RowView(shape=(6, 1, 6, 6), dtype=uint8)"
    assert_array_equal(np.asarray(view), array)
    assert np.asarray(view, dtype=np.float32).dtype == np.float32
    assert_array_equal(np.stack(list(view)), array)
    with pytest.raises(IndexError):
        view[6]
    with pytest.raises(ValueError, match="without a copy"):
        view.__array__(copy=False)
    with pytest.raises(TypeError):
        view[0] = 1


def test_a_view_of_a_view_reads_from_the_array_below(mapped):
    view = RowView(RowView(mapped, ROWS), [5, 1])
    assert view.base is mapped
    assert_array_equal(view.rows, [12, 19])


def test_splits_of_mapped_faces_copy_no_images(mapped):
    identity = np.repeat(np.arange(10), 2)
    faces = Faces(mapped, identity, {"gender": (identity % 2).astype(np.int8)}, "gender", "test", "none")
    part = faces.subset(np.arange(3, 9)).subset([0, 5])
    assert isinstance(part.images, RowView) and part.images.base is mapped
    assert_array_equal(part.images[:], np.asarray(mapped)[[3, 8]])
    in_memory = Faces(np.array(mapped), identity, faces.attributes, "gender", "test", "none")
    assert part.fingerprint == in_memory.subset([3, 8]).fingerprint


# --------------------------------------------------------------------------------------------------------- the drawn faces


def test_drawn_faces_show_gender_and_identity(toy_faces):
    """What other tests rely on: an attacker of other people reads gender at AUC > 0.9, and distances of pixels tell people apart."""
    faces = toy_faces(people=100)
    train, attack, val, test = faces.split()

    def pixels(part):
        return np.asarray(part.images).reshape(len(part), -1) / 255

    attacker = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    attacker.fit(np.concatenate([pixels(train), pixels(attack)]), np.concatenate([train.labels(), attack.labels()]))
    assert roc_auc_score(test.labels(), attacker.decision_function(pixels(test))) > 0.9
    a, b, different = faces.pairs(2000, "same")
    flat = pixels(faces)
    assert roc_auc_score(different, np.linalg.norm(flat[a] - flat[b], axis=1)) > 0.6
    assert_array_equal(toy_faces(people=100).images, faces.images)
