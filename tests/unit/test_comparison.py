"""The leak by the strongest attacker of any kind, and paired differences: made-up scores whose truth is known."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from aia_lib.audit import AuditReport
from aia_lib.audit.audit_report import combine
from aia_lib.audit.comparison import kinds_tried, paired_differences
from aia_lib.audit.trial import SeedScores
from aia_lib.machine.files import UserError
from aia_lib.statistics import Scored, bootstrap_auc, interval, limits, paired_draws, roc_auc

PEOPLE, IMAGES = 120, 3
PERSON = np.repeat(np.arange(PEOPLE), IMAGES)
LABELS = PERSON % 2 == 1


def scores(distance: float, seed: int, shared: float = 1.0) -> np.ndarray:
    """Scores of all images; what a person adds, `shared`, is the same for every attacker and every method."""
    person = np.random.default_rng(0).normal(size=PEOPLE)[PERSON]
    return distance * LABELS + shared * person + 0.3 * np.random.default_rng(seed).normal(size=len(PERSON))


def made(name: str, fresh: dict[str, float], adaptive: dict[str, float] | None = None, seeds: int = 2) -> AuditReport:
    """A report of attackers by name and by the distance that their scores have on val and test."""
    entries, measured = [], []
    for seed in range(seeds):
        kinds, val = {"fresh": fresh} | ({} if adaptive is None else {"adaptive": adaptive}), {}
        test = {kind: {who: scores(d, 10 * seed + i + 1) for i, (who, d) in enumerate(of.items())} for kind, of in kinds.items()}
        for kind, of in test.items():
            aucs = {who: roc_auc(values, LABELS) for who, values in of.items()}
            val[kind] = {"attackers": aucs, "attackers_val": aucs}
            if aucs:
                worst = max(aucs, key=aucs.get)
                val[kind] |= {"worst_attacker": worst, "leak_auc": aucs[worst]}
        pairs = np.random.default_rng(seed).integers(PEOPLE, size=(300, 2))
        pairs[:100, 1] = pairs[:100, 0]
        different = pairs[:, 0] != pairs[:, 1]
        verified = Scored(2 * different + np.random.default_rng(seed).normal(size=300), different, pairs)
        retrained = val["fresh"] | {
            f"{key}{kind}": value for key, value in (("utility_auc", verified.auc), ("eer", 0.3)) for kind in ("", "_same")
        }
        entries.append({"seed": seed, "paper": None, "retrained": retrained, "controls": {}})
        if adaptive is not None:
            entries[-1]["deep"] = {"adaptive": {"left_out": {"warm start": "no adversary"}} | (val["adaptive"] if adaptive else {})}
        more = {f"adaptive/scores/{who}": values for who, values in test.get("adaptive", {}).items()}
        measured.append(SeedScores(LABELS, PERSON, test["fresh"], retrained["worst_attacker"], verified, verified, more=more))
    data = {"source": "made up", "size": 32} | {f"{part}_{of}": PEOPLE for part in ("attack", "val", "test") for of in ("images", "people")}
    return combine(name, "gender", data, (), entries, measured, 400)


@pytest.fixture(scope="module")
def original() -> AuditReport:
    return made("Original", {"logistic": 1.2, "mlp": 1.1}, adaptive={})


def verdict(report: AuditReport, original: AuditReport) -> tuple[str, str]:
    (less,) = (claim for claim in report.claims(original) if claim.key == "less")
    return less.verdict, less.reason


def test_intervals_overlap_where_the_paired_difference_is_certain(original):
    """The people who are easy to read are so by both methods: that scatter is in both intervals, and not in the difference."""
    method = made("mine", {"logistic": 0.9, "mlp": 0.7})
    after, before = (r.retrained["leak_auc_ci"] for r in (method, original))
    assert after[1] > before[0], "the intervals overlap"
    leak = method.compare(original)["leak_auc"]
    assert leak["supported"] and leak["change_ci"][1] < 0
    assert leak["change"] == pytest.approx(method.retrained["strongest_auc"] - original.retrained["strongest_auc"])
    assert verdict(method, original)[0] == "supported"
    assert leak["share_ci"][0] < leak["share"] < leak["share_ci"][1] < 1


def test_where_nothing_differs_nothing_is_supported(original):
    same = made("same", {"logistic": 1.2, "mlp": 1.1}, adaptive={})
    for figures in same.compare(original).values():
        assert figures["change"] == 0 and not figures["supported"]
    hits = 0
    for seed in range(20):  # two attackers of equal strength, with noise of their own
        groups = [[Scored(scores(1.0, 100 + 2 * seed + i), LABELS, PERSON)] for i in range(2)]
        low, high = limits(np.subtract(*paired_draws(*groups, resamples=300)))
        hits += low <= 0 <= high
    assert hits >= 16


def test_a_pair_of_groups_draws_the_same_people_even_where_one_has_fewer():
    everyone, few = Scored(scores(1.0, 1), LABELS, PERSON), np.flatnonzero(PERSON >= 10)
    some = Scored(everyone.scores[few], LABELS[few], PERSON[few])
    drawn = paired_draws([everyone], [some], resamples=200)
    assert (drawn[0] == bootstrap_auc([everyone], 200)).all()
    apart = bootstrap_auc([some], 200)
    assert np.corrcoef(*drawn)[0, 1] > 0.9 > 0.5 > abs(np.corrcoef(drawn[0], apart)[0, 1])


def test_the_strongest_attacker_of_any_kind_is_the_leak(original):
    method = made("mine", {"logistic": 0.6, "mlp": 0.5}, adaptive={"warm start": 1.6, "its own: other": 0.2})
    r = method.retrained
    assert r["strongest"] == "warm start, knowing the defence" and r["strongest_auc"] > r["leak_auc"] + 0.1
    assert r["strongest_auc_ci"] == list(interval(method.strongest.scored, 400))
    row = next(row for row in method.card().figures if "strongest attacker" in row["figure"])
    assert row["value"] == r["strongest_auc"]
    assert verdict(method, original)[0] == "not supported", "by fresh attackers alone it would leak less"
    assert method.compare(original)["leak_auc"]["change"] > 0
    (hidden,) = (claim for claim in method.claims() if claim.key == "hidden")
    assert "knowing the defence warm start" in hidden.reason


def test_attackers_that_were_tried_on_one_side_only(original):
    plain = made("Original", {"logistic": 1.2, "mlp": 1.1})  # nobody who knows the defence was tried on it
    assert kinds_tried(plain.seeds) == ("fresh",) and kinds_tried(original.seeds) == ("fresh", "adaptive")
    for distance, wanted in ((1.6, "not tested"), (0.5, "supported")):
        method = made("mine", {"logistic": 0.4, "mlp": 0.3}, adaptive={"warm start": distance})
        assert method.compare(plain)["leak_auc"]["kinds"] == ["fresh"]
        found, reason = verdict(method, plain)
        assert found == wanted and "by fresh attackers: " in reason and "of this warm start, knowing the defence" in reason
    worse = made("mine", {"logistic": 1.5, "mlp": 0.3}, adaptive={"warm start": 0.1})
    assert verdict(worse, plain)[0] == "not supported"


def test_the_choice_is_made_over_all_seeds_together():
    report = made("mine", {"logistic": 1.0, "mlp": 0.99}, seeds=3)
    val = {name: np.mean([entry["retrained"]["attackers_val"][name] for entry in report.seeds]) for name in ("logistic", "mlp")}
    assert report.retrained["strongest"] == max(val, key=val.get)
    assert report.strongest.val == pytest.approx(max(val.values()))


def test_an_attacker_that_failed_in_a_seed_does_not_stand_for_all():
    report = made("mine", {"logistic": 0.5, "mlp": 1.5})
    del report.seeds[1]["retrained"]["attackers_val"]["mlp"]
    assert report.strongest.attacker == "logistic" and len(report.strongest.scored) == 2


def test_every_method_is_compared_with_the_first_and_with_the_one_before(original):
    methods = {name: dataclasses.replace(original, name=name) for name in ("Original", "A", "B")}
    found = paired_differences(methods)
    assert {name: list(others) for name, others in found.items()} == {"A": ["Original"], "B": ["Original", "A"]}
    assert set(found["B"]["A"]) == {"leak_auc", "utility_auc_same", "utility_auc"}
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    with pytest.raises(UserError, match="different faces or attributes"):
        original.compare(dataclasses.replace(original, attribute="glasses"))
    moved = tuple(dataclasses.replace(seed, people=seed.people + 1) for seed in original.scores)
    with pytest.raises(UserError, match="different faces or attributes"):
        original.compare(dataclasses.replace(original, scores=moved))
