"""Several attributes together, parity and errors by group: what is known beforehand is found, and what is too little is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.stats import norm
from test_audit_validation import Given, numbered_faces

from aia_lib.audit import group_rates, interaction_audit, parity_gap
from aia_lib.audit.fairness import threshold_at
from aia_lib.config import AuditConfig
from aia_lib.faces import Faces
from aia_lib.machine.files import UserError
from aia_lib.statistics import rate_draws

QUICK = AuditConfig(epochs=1, min_steps=20, pairs=1200, bootstrap=300)
LINEAR = ("logistic",)


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def world(people: int = 500, images: int = 3, seed: int = 0) -> Faces:
    """Numbered images of people whose gender and youth are independent coins."""
    rng = np.random.default_rng(seed)
    rng.permutation(people)  # gender's draw
    young = (rng.permutation(people) % 2)[np.repeat(np.arange(people), images)].astype(np.int8)
    return numbered_faces(people, images, seed, young=young)


def sign(faces: Faces, name: str) -> np.ndarray:
    return 2.0 * faces.labels(name) - 1


# ------------------------------------------------------------------------------------------------------------------ interaction


@pytest.fixture(scope="module")
def exclusive() -> tuple[Faces, Given]:
    """g tells whether gender and young agree, with classes 2 standard deviations apart, and neither of the two."""
    faces = world()
    g = sign(faces, "gender") * sign(faces, "young") + np.random.default_rng(1).normal(size=len(faces))
    return faces, Given(g[:, None], "exclusive")


@pytest.fixture(scope="module")
def exclusive_report(exclusive):
    return interaction_audit(exclusive[1], exclusive[0], ("gender", "young"), seeds=2, config=QUICK, attackers=LINEAR, progress=False)


def inside(value: float, ends: tuple[float, float], margin: float = 0.02) -> bool:
    return ends[0] - margin <= value <= ends[1] + margin


def test_a_leak_that_only_shows_when_the_other_attribute_is_known_is_found(exclusive_report):
    report = exclusive_report
    assert len(report.leaks) == 10 and not report.left_out and report.missing == {"gender": 0, "young": 0}
    known = norm.cdf(2 / 2**0.5)  # the AUC of two Gaussians two standard deviations apart
    for what, leak in report.leaks.items():
        if leak.kind == "alone":
            assert inside(0.5, leak.auc_ci) and abs(leak.auc - 0.5) < 0.1, what
        elif leak.kind == "given":
            assert inside(known, leak.auc_ci) and leak.auc > 0.85, (what, leak)
            assert inside(2 * norm.cdf(1) - 1, leak.advantage_ci, 0.05), "2 BA - 1, and BA = Phi(d / 2)"
    half = norm.cdf(1) / 2  # which two of the four cells it is, is seen; between the two there is only a coin
    assert inside(half, report.joint["balanced_accuracy_ci"]) and report.joint["chance"] == 0.25, report.joint
    assert len({len(leak.scores) for leak in report.leaks.values()}) == 1 and len(report.leaks["gender"].scores) == 2
    assert report.leaks["gender | young = 1"].kind == "given"
    assert "gender | young = 1" in str(report) and "chance 25.0%" in str(report)


def test_what_hiding_one_attribute_exposes_in_another_has_an_interval_of_its_own(exclusive):
    faces, _ = exclusive
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(len(faces), 2))
    before = Given(np.stack([sign(faces, "gender"), 0.2 * sign(faces, "young")], 1) + noise, "before")
    after = Given(np.stack([0 * sign(faces, "gender"), 1.2 * sign(faces, "young")], 1) + noise, "after")
    reports = [
        interaction_audit(method, faces, ("gender", "young"), seeds=1, config=QUICK, attackers=LINEAR, progress=False)
        for method in (before, after)
    ]
    change = reports[1].change(reports[0])
    assert change["gender"][2] < -0.25, "hidden"
    assert change["young"][1] > 0.15 and change["young | gender = 1"][1] > 0.1, "exposed"
    own = reports[0].change(reports[0])
    assert own["young"] == (0, 0, 0), "nothing changes against itself: both are resampled with the same people"
    other = interaction_audit(after, faces, ("gender", "young"), seeds=2, config=QUICK, attackers=LINEAR, progress=False)
    with pytest.raises(UserError, match="other faces or seeds"):
        other.change(reports[0])


def test_images_without_a_label_take_no_part_where_it_is_needed_and_are_counted(exclusive):
    faces, given = exclusive
    young = faces.labels("young").copy()
    young[::4] = -1
    partly = dataclasses.replace(faces, attributes={**faces.attributes, "young": young})
    report = interaction_audit(given, partly, ("gender", "young"), seeds=1, config=QUICK, attackers=LINEAR, progress=False)
    splits = partly.split()
    assert report.missing == {"gender": 0, "young": sum(int((part.labels("young") < 0).sum()) for part in splits[1:])}
    assert report.leaks["gender"].images == len(splits.test)
    assert report.leaks["young"].images == int((splits.test.labels("young") >= 0).sum()) < len(splits.test)
    both = int(((splits.test.labels("young") == 1) & (splits.test.labels() >= 0)).sum())
    assert report.leaks["gender | young = 1"].images == both
    assert report.leaks["gender | young = 1"].auc > 0.85
    assert f"{report.missing['young']} images have no label of 'young'" in str(report)


def test_combinations_of_too_few_people_are_left_out_and_said(exclusive):
    faces, given = exclusive
    few = world(people=60)
    with pytest.raises(
        UserError, match=r"Too few people to ask how gender and young interact: gender: \d people of the rarer side in test"
    ):
        interaction_audit(given, few, ("gender", "young"), seeds=1, config=QUICK, attackers=LINEAR, progress=False)
    rare = ((faces.identity % 10 == 0) & (faces.labels("gender") == 1)).astype(np.int8)  # 5 % of the people, of one gender only
    some = dataclasses.replace(faces, attributes={**faces.attributes, "rare": rare})
    report = interaction_audit(given, some, ("gender", "young", "rare"), seeds=1, config=QUICK, attackers=LINEAR, progress=False)
    assert "gender | rare = 1" in report.left_out and "gender | rare = 1" not in report.leaks
    assert "needed" in report.left_out["gender | rare = 1"] and report.joint is None
    assert "gender | young = 1" in report.leaks and "not asked: gender | rare = 1" in str(report)


@pytest.mark.parametrize(
    ("attributes", "options", "message"),
    [
        (("gender",), {}, "two or more different attributes"),
        ("gender", {}, "two or more different attributes"),
        (("gender", "gender"), {}, "two or more different attributes"),
        (("gender", "age"), {}, "no attribute 'age'"),
        (("gender", "young"), {"seeds": 0}, "seeds must be a whole number of at least 1, not 0"),
        (("gender", "young"), {"attackers": ("oracle",)}, "no attacker 'oracle'"),
    ],
)
def test_bad_questions_are_refused(exclusive, attributes, options, message):
    with pytest.raises(UserError, match=message):
        interaction_audit(exclusive[1], exclusive[0], attributes, config=QUICK, progress=False, **options)


# ----------------------------------------------------------------------------------------------------------------------- parity


def test_the_parity_gap_is_the_difference_of_two_rates():
    labels = np.array([0] * 40 + [1] * 60 + [-1] * 5)
    decisions = np.array([1] * 10 + [0] * 30 + [1] * 45 + [0] * 15 + [1] * 5)
    found = parity_gap(decisions, labels, np.arange(105))
    assert found.rates == (0.25, 0.75) and found.difference == 0.5 and found.gap == 0.5
    assert found.gap_ci == found.difference_ci
    other = parity_gap(decisions, 1 - np.clip(labels, 0, 1), np.arange(105))
    assert other.difference < 0 < other.gap and other.gap_ci[0] > 0
    drawn = parity_gap(0.3 + 0.2 * (labels == 1), labels, np.arange(105))
    assert drawn.gap == pytest.approx(0.2) and drawn.gap_ci == pytest.approx((0.2, 0.2)), "a probability is a decision that is drawn"


def test_its_interval_covers_the_truth_and_counts_people_not_images():
    rng = np.random.default_rng(0)
    hits, worlds = 0, 150
    for _ in range(worlds):
        label = np.arange(80) % 2
        choice = rng.random(80) < np.where(label == 1, 0.7, 0.5)  # one choice a person, the same on all of its five images
        found = parity_gap(np.repeat(choice, 5), np.repeat(label, 5), np.repeat(np.arange(80), 5), resamples=200)
        hits += found.difference_ci[0] <= 0.2 <= found.difference_ci[1]
    assert hits >= 0.88 * worlds, hits
    naive = parity_gap(np.repeat(choice, 5), np.repeat(label, 5), np.arange(400), resamples=200)
    assert np.ptp(found.difference_ci) > 1.7 * np.ptp(naive.difference_ci), "five copies of a person are not five people"
    even = parity_gap(label * 0 + (np.arange(80) % 4 < 2), label, np.arange(80), resamples=200)
    assert even.gap == 0 and even.gap_ci[0] == 0 < even.gap_ci[1]


def test_no_decision_has_a_larger_gap_than_the_bound_and_one_attains_it():
    rng = np.random.default_rng(0)
    n, distance = 20_000, 1.0
    labels = np.arange(n) % 2
    g = distance * labels[:, None] * np.array([0.6, 0.8]) + rng.normal(size=(n, 2))
    ratio = g @ np.array([0.6, 0.8])  # the likelihood ratio rises with it
    true = 2 * norm.cdf(distance / 2) - 1  # total variation of two Gaussians
    error = 3 * (0.5 / (n / 4)) ** 0.5
    for name, decision in {
        "likelihood ratio": ratio > distance / 2,
        "a threshold": g[:, 0] > 0.9,
        "a ball": (g**2).sum(1) < 1,
        "drawn": 1 / (1 + np.exp(-3 * ratio)),
        "a coin": rng.random(n) < 0.4,
    }.items():
        gap = parity_gap(decision, labels, np.arange(n), resamples=10).gap
        assert gap < true + error, name
        assert (gap > true - error) == (name == "likelihood ratio"), "only the best attacker's own decision attains it"


def test_decisions_that_cannot_be_judged_are_refused():
    labels, people = np.arange(40) % 2, np.arange(40)
    for make, message in [
        (lambda: parity_gap(np.arange(40), labels, people), "must be 0, 1 or a probability"),
        (lambda: parity_gap(np.full(40, np.nan), labels, people), "must be 0, 1 or a probability"),
        (lambda: parity_gap(labels[:20], labels, people), "one length"),
        (lambda: parity_gap(labels, labels, people // 20), "Too few people for an interval of the parity gap: 2 with label 0"),
    ]:
        with pytest.raises(UserError, match=message):
            make()


# -------------------------------------------------------------------------------------------------------------- errors by group


def test_one_threshold_errs_where_faces_of_a_group_look_alike():
    faces = world(people=300, images=4)
    rng = np.random.default_rng(3)
    own = rng.normal(size=(faces.people, 6))
    own[faces.person_labels() == 1] *= 0.0  # everybody of this group looks the same
    look = np.concatenate([own[faces.identity], 2 * sign(faces, "gender")[:, None]], axis=1)
    same = Given(look + 0.15 * rng.normal(size=look.shape), "alike")
    found = group_rates(same, faces, seeds=2, config=QUICK, progress=False)
    zero, one = found.rates[0], found.rates[1]
    assert zero["fmr"] < 0.01 and inside(0.2, one["fmr_ci"]), "all of the 10 % of val's impostor pairs are of the group that looks alike"
    assert zero["fnmr"] < one["fnmr"] - 0.2
    assert inside(1.0, (one["fmr_ci"][0] + one["fnmr_ci"][0], one["fmr_ci"][1] + one["fnmr_ci"][1])), "pairs of a kind: one distribution"
    assert found.difference["fmr_ci"][0] > 0.05 and found.difference["fmr"] == one["fmr"] - zero["fmr"]
    assert len(found.thresholds) == 2 and found.missing == 0 and zero["impostors"] == zero["genuine"] == 180
    assert "alike" in str(found) and found.to_dict()["rates"]["1"]["people"] == one["people"]

    fair = Given(rng.normal(size=(faces.people, 6))[faces.identity] + 0.15 * rng.normal(size=(len(faces), 6)), "fair")
    other = group_rates(fair, faces, seeds=2, config=QUICK, progress=False)
    for figure in ("fmr", "fnmr"):
        assert inside(0, other.difference[f"{figure}_ci"]), figure
    change = other.change(found)
    assert change["fmr 1"][2] < 0 and set(change) == {"fmr 0", "fmr 1", "fnmr 0", "fnmr 1"}
    assert found.change(found)["fmr 1"] == (0, 0, 0)
    with pytest.raises(UserError, match="other faces, seeds or settings"):
        other.change(group_rates(fair, faces, seeds=1, config=QUICK, progress=False))
    with pytest.raises(UserError, match="other faces, seeds or settings"):
        other.change(group_rates(fair, faces, "young", seeds=2, config=QUICK, progress=False))


def test_groups_without_labels_or_people(exclusive):
    faces, given = exclusive
    young = faces.labels("young").copy()
    young[faces.identity % 5 == 0] = -1
    some = dataclasses.replace(
        faces, attributes={**faces.attributes, "young": young, "once": (np.arange(len(faces)) % 3 == 0).astype(np.int8)}
    )
    found = group_rates(given, some, "young", seeds=1, config=QUICK, progress=False)
    test = some.split().test
    assert found.missing == int((test.labels("young") < 0).sum()) > 0
    assert found.rates[0]["people"] + found.rates[1]["people"] == len(np.unique(test.identity[test.labels("young") >= 0]))
    for options, message in [
        ({"attribute": "once"}, "Too few people for the errors by 'once': 0 with label 1 have two images or more"),
        ({"attribute": "age"}, "no attribute 'age'"),
        ({"target": 0.0}, "must lie between 0 and 1, not at 0.0"),
        ({"target": 1e-6}, "too few for a false match rate of 1e-06"),
        ({"seeds": True}, "seeds must be"),
    ]:
        with pytest.raises(UserError, match=message):
            group_rates(given, some, **{"seeds": 1, "config": QUICK, "progress": False, **options})


def test_thresholds_and_resampled_rates():
    distances = np.arange(100.0)
    for target, accepted in ((0.1, 10), (0.105, 10), (0.999, 99), (0.5, 50)):
        assert (distances <= threshold_at(distances, target)).sum() == accepted
    assert (np.zeros(9) <= threshold_at(np.zeros(9), 0.5)).sum() == 0, "equal distances are accepted all or none"
    people = np.repeat(np.arange(50), 4)
    values = np.repeat(np.random.default_rng(0).random(50), 4)
    draws = rate_draws(values, people, people, 2000)
    assert draws.mean() == pytest.approx(values.mean(), abs=0.01) and draws.std() == pytest.approx(values.std() / 50**0.5, rel=0.1)
    pairs = np.stack([people, people], axis=1)
    assert np.allclose(rate_draws(values, pairs, people, 200), rate_draws(values, people, people, 200)), "one person's pair is one person"
