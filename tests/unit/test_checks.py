"""What every chapter uses of `aia_lib.checks`: a chapter's figures beside the recorded ones."""

import pytest

from aia_lib.checks import beside, compare
from aia_lib.files import UserError


def test_figures_beside_the_recorded_ones():
    text = beside({"leak": 0.91, "utility": 0.75, "new": 1.0}, {"leak": 0.84, "utility": 0.74}, 0.05)
    lines = text.splitlines()
    assert lines[1].split() == ["leak", "0.910", "0.840", *"differs by more than 0.05".split()]
    assert lines[2].split() == ["utility", "0.750", "0.740"]
    assert lines[3].split() == ["new", "1.000", "–"]


def test_without_a_record_nothing_is_compared():
    assert "nothing is compared" in beside({"leak": 0.91}, None, 0.05)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_figure_is_a_finite_number(value):
    with pytest.raises(UserError, match="'leak' of chapter 00.*finite"):
        compare("00", {"leak": value})
