"""What every chapter uses of `aia_lib.checks`: a chapter's figures beside the recorded ones, and its quiz."""

from importlib import resources

import pytest

from aia_lib import checks
from aia_lib.checks import beside, compare, questions
from aia_lib.machine.files import UserError


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


QUIZZES = sorted(path.name.removeprefix("quiz_").removesuffix(".json") for path in resources.files(checks).glob("quiz_*.json"))


@pytest.mark.parametrize("chapter", QUIZZES)
def test_a_quiz_answers_every_answer(chapter):
    asked = questions(chapter)
    assert 4 <= len(asked) <= 6
    for question in asked:
        words, answers = question["question"], question["answers"]
        right = [answer["correct"] for answer in answers]
        assert words.strip() and len(answers) >= 3, words
        assert all(answer["answer"].strip() and answer["feedback"].strip() for answer in answers), words
        assert len({answer["answer"] for answer in answers}) == len(answers), words
        assert question["type"] in ("multiple_choice", "many_choice"), words
        assert sum(right) == 1 if question["type"] == "multiple_choice" else 1 <= sum(right) < len(right), words
    single = [question["answers"] for question in asked if question["type"] == "multiple_choice"]
    places = {next(i for i, answer in enumerate(answers) if answer["correct"]) for answers in single}
    assert len(places) > 1 or len(single) < 2, "the right answer is always at the same place"


def test_there_are_quizzes_and_one_that_is_not_there_is_named():
    assert {"00", "05"} <= set(QUIZZES)
    with pytest.raises(UserError, match="Chapter '99' has no quiz"):
        questions("99")
