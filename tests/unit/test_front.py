"""The benchmark `front`: its rows are audits, kept and found again, and the setting is chosen on val."""

import pytest

from aia_lib.config import AuditConfig
from aia_lib.datasets.templates import write_templates
from benchmarks import front
from tests.unit.test_transport import templates

QUICK = AuditConfig(epochs=1, min_steps=20, bootstrap=50, pairs=1000, attackers=("logistic",), controls=False)


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("front")
    faces = templates(people=600)
    write_templates(folder / "my.npz", {"vectors": faces.images, "identity": faces.identity, **faces.attributes})
    others = templates(people=600, seed=1)
    write_templates(folder / "other.npz", {"vectors": others.images, "identity": others.identity, "gender": others.labels()})
    how = {"elsewhere": str(folder / "other.npz"), "audits": QUICK, "folder": folder / "audits"}
    how |= {"settings": ((4, 1.0), (12, 1.0)), "shares": (0.25, 0.5), "seeds": (0,), "folds": 1}
    return folder, how, front.measure(root=str(folder / "my.npz"), images=1200, **how)


def test_the_front_is_measured_with_its_controls(measured):
    _, _, figures = measured
    assert figures["stored"]["leak_of_all"][0] > 0.9 and len(figures["front"]) == 2
    few, many = figures["front"]
    assert max(few["image"][0], many["image"][0]) < 0.75 and few["accepted_on_val"] < many["accepted_on_val"]
    least = min(figures["front"], key=lambda row: row["leak_on_val"])
    assert figures["chosen"]["components"] == least["components"] and figures["chosen"]["accepts_enough_on_val"]
    assert [row["fitted_on"] for row in figures["people"]] == [60, 120, 240]
    ahead = figures["ten_times_the_people"]
    assert ahead["people"] == 2400 and 0.5 <= ahead["leak"][1] <= ahead["leak"][0] <= min(
        row["leak_of_all"][0] for row in figures["people"]
    )
    assert figures["transfer"]["from"]["learned_from"] == "templates of other.npz" and "second" not in figures


def test_a_later_call_goes_on_from_the_audits(measured, monkeypatch):
    folder, how, figures = measured
    monkeypatch.setattr(front, "audit", None)  # all are there
    assert front.measure(root=str(folder / "my.npz"), images=1200, **how) == figures
