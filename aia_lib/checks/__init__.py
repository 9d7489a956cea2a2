"""The book's exercises check themselves, and its quizzes: `check("03.1", answer)`, `quiz("03")`.

Each chapter has a module of its own here, `chapter_NN`, with one function for each exercise, in their order, that takes the reader's
answer. It stops at the first line that knows the answer: `accept(condition)` where it is right, `hint(condition, words)` where it is not,
or a hint that it returns; at the end without one the answer is right. A hint says what to look at next; it never says the answer. The
quizzes are JSON files beside them, in jupyterquiz's format.
"""

from __future__ import annotations

import functools
import inspect
import json
import math
from collections.abc import Callable, Mapping
from importlib import import_module, resources
from typing import Any

import numpy as np

from ..machine.files import UserError

FIGURES = "application/vnd.aia.figures+json"
"""Media type of the output in which `compare` leaves a chapter's figures, for programs that execute it."""

Answer = Any
"""What a reader hands in: a number, an array, a text, or a function."""


class Verdict(Exception):
    """The end of a check: with a hint, or with None where the answer is right."""


def hint(condition: object, words: str | None) -> None:
    """End the check with these words where the condition is true."""
    if condition:
        raise Verdict(words)


accept = functools.partial(hint, words=None)
"""End the check where the condition is true: the answer is right."""


def matcher(value: Any, atol: float = 1e-8) -> Callable[..., None]:
    """`like(other, words)`, which ends the check with these words where `value` is close to `other`; without words, as right."""
    return lambda other, words=None: hint(close(value, other, atol), words)


def returned(answer: Answer, *arguments: object) -> Any:
    """What the reader's function returns for these arguments; a hint where it is no function, or returns nothing."""
    hint(not callable(answer), "pass the function itself, not a value of it.")
    value = answer(*arguments)
    hint(value is None or value is ..., "your function returns nothing yet.")
    return value


def array(value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """A value as a float array of this shape; a hint where it has another one."""
    value = np.asarray(value, dtype=float)
    wanted = f"an array of shape {shape}" if shape else "one number"
    hint(value.shape != shape, f"{wanted} is asked for; yours has the shape {value.shape}.")
    return value


def numbers(value: Any, count: int, words: str) -> np.ndarray:
    """A value as `count` floats; a hint, which names what they are, where it holds more or fewer."""
    value = np.ravel(np.asarray(value, dtype=float))
    hint(len(value) != count, f"{('two', 'three')[count - 2]} {words} are asked for; yours are {len(value)}.")
    return value


def close(a: Any, b: Any, atol: float = 1e-8) -> bool:
    """Whether two arrays or numbers have one shape and agree, up to `atol` and a relative 1e-5."""
    return np.shape(a) == np.shape(b) and bool(np.allclose(a, b, atol=atol))


def check(number: str, *answer: object) -> bool:
    """Say whether the answer to an exercise is right, with a hint where it is not.

    Args:
        number: chapter and exercise, as in "03.1".
        answer: what the exercise asks for: numbers, arrays or the reader's function.

    Returns:
        Whether it is right, so that a solution can end in `assert check(...)`.

    Raises:
        UserError: there is no such exercise.
    """
    checkers = exercises(number[:2])
    if number not in checkers:
        known = ", ".join(checkers) or "none in that chapter"
        raise UserError(f"There is no exercise {number!r} with a checker; there are {known}.")
    if any(value is None or value is ... for value in answer):
        words = "replace the ... by your answer."
    else:
        try:
            words = checkers[number](*answer)
        except Exception as error:  # the reader's function, or an answer of another shape: theirs to see, not a failure of the book
            words = f"your answer could not be used ({type(error).__name__}: {error})."
    print(f"Exercise {number}: {'right.' if words is None else 'not yet: ' + words}")
    return words is None


def exercises(chapter: str) -> dict[str, Callable[..., str | None]]:
    """The checkers of a chapter ("03") by number, each returning a hint or None; empty where the chapter has none."""
    if not (resources.files(__name__) / f"chapter_{chapter}.py").is_file():
        return {}

    def judge(checker: Callable[..., str | None], *answer: Answer) -> str | None:
        try:
            return checker(*answer)
        except Verdict as verdict:
            return verdict.args[0]

    module = import_module(f".chapter_{chapter}", __name__)
    checkers = [part for part in vars(module).values() if inspect.isfunction(part) and part.__module__ == module.__name__]
    return {f"{chapter}.{number}": functools.partial(judge, checker) for number, checker in enumerate(checkers, start=1)}


def questions(chapter: str) -> list[dict]:
    """The quiz of a chapter ("03") in jupyterquiz's format. UserError where it has none."""
    path = resources.files(__name__) / f"quiz_{chapter}.json"
    if not path.is_file():
        raise UserError(f"Chapter {chapter!r} has no quiz.")
    return json.loads(path.read_text(encoding="utf-8"))


def quiz(chapter: str) -> None:
    """Show the quiz of a chapter in the notebook; without jupyterquiz its questions as text."""
    asked = questions(chapter)
    try:
        from jupyterquiz import display_quiz
    except ModuleNotFoundError:
        for number, question in enumerate(asked, start=1):
            print(f"{number}. {question['question']}")
            for answer in question.get("answers", []):
                if "answer" in answer:
                    print(f"   - {answer['answer']}")
        print('(pip install "aia-book[book]" shows it as a quiz that answers.)')
        return
    display_quiz(asked, shuffle_questions=False, shuffle_answers=False)


def compare(chapter: str, figures: Mapping[str, float], tolerance: float = 0.05) -> None:
    """Set a chapter's figures beside those that were recorded when the book was made.

    Two runs differ a little: another processor or another version adds in another order, and training enlarges that. The figures are
    also left in the notebook as an output of the type `FIGURES`, where `tools/chapters.py` reads them.

    Args:
        chapter: its number, as in "05".
        figures: name to value; numbers that do not depend on the machine's speed.
        tolerance: a difference up to this is said to agree.

    Raises:
        UserError: a figure is not a finite number.
    """
    from IPython.display import display

    from ..config import get_profile
    from ..report.ledger import side_record

    here = {name: float(value) for name, value in figures.items()}
    for name, value in here.items():
        if not math.isfinite(value):
            raise UserError(f"The figure {name!r} of chapter {chapter} is {value}; it must be a finite number.")
    profile, record = get_profile().name, side_record("chapters", chapter)
    known = record["figures"] if record is not None and record["profile"] == profile else None
    left = {"chapter": chapter, "profile": profile, "tolerance": tolerance, "figures": here}
    display({"text/plain": beside(here, known, tolerance), FIGURES: left}, raw=True)


def beside(here: Mapping[str, float], known: Mapping[str, float] | None, tolerance: float) -> str:
    """The figures of a run as text, with the recorded ones (None: there are none for this profile) and a word where they differ."""
    width = max(map(len, here), default=0)
    if known is None:
        lines = [f"{name:<{width}}  {value:8.3f}" for name, value in here.items()]
        return "\n".join([*lines, "(nothing is recorded for this profile, so nothing is compared)"])
    lines = [f"{'':<{width}}  {'here':>8}  {'recorded':>8}"]
    for name, value in here.items():
        line = f"{name:<{width}}  {value:8.3f}  " + (f"{known[name]:8.3f}" if name in known else f"{'–':>8}")
        lines.append(line + ("" if abs(value - known.get(name, value)) <= tolerance else f"  differs by more than {tolerance:g}"))
    return "\n".join(lines)


def about() -> None:
    """One line on what a notebook runs with: aia_lib, Python, torch, the device and the profile."""
    import platform

    import torch

    from .. import __version__
    from ..config import get_profile
    from ..machine.device import pick_device

    device, threads = pick_device(), torch.get_num_threads()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{threads} thread{'s' * (threads != 1)}"
    print(
        f"aia_lib {__version__}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"{device.type} ({name}), profile {get_profile().name!r}"
    )
