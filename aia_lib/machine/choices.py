"""A log of choices: what was chosen, among which candidates, by which figure. `best` chooses, on val, and notes it."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, TypeVar

Candidate = TypeVar("Candidate", bound=Hashable)

_LOG: ContextVar[list[dict[str, Any]] | None] = ContextVar("log", default=None)
_ABOUT: ContextVar[str] = ContextVar("choosing", default="")


@contextlib.contextmanager
def logged() -> Iterator[list[dict[str, Any]]]:
    """Inside, every choice is appended to this list: {"choice": what it is about, "chosen": a candidate, "candidates": {name: figure}}."""
    log: list[dict[str, Any]] = []
    token = _LOG.set(log)
    try:
        yield log
    finally:
        _LOG.reset(token)


@contextlib.contextmanager
def choosing(what: str) -> Iterator[None]:
    """Inside, choices are logged as being about `what`, say an attacker; nested ones are joined by colons."""
    token = _ABOUT.set(_ABOUT.get() + (what and f"{what}: "))
    try:
        yield
    finally:
        _ABOUT.reset(token)


def best(choice: str, figures: Mapping[Candidate, float]) -> Candidate:
    """The candidate with the highest figure, the first of equals; logged as `choice` where a log is kept."""
    chosen = max(figures, key=figures.__getitem__)
    if (log := _LOG.get()) is not None:
        candidates = {str(name): float(figure) for name, figure in figures.items()}
        log.append({"choice": _ABOUT.get() + choice, "chosen": str(chosen), "candidates": candidates})
    return chosen
