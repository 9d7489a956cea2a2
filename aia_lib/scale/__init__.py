"""Engines: where the jobs of a sweep are done, and what they would cost elsewhere."""

from __future__ import annotations

from collections.abc import Callable

from ..machine.files import UserError
from .engines import Engine
from .local import LocalEngine


def _ray_engine(workers: int | None = None, address: str | None = None) -> Engine:
    from .ray_engine import RayEngine

    return RayEngine(workers, address)


ENGINES: dict[str, Callable[..., Engine]] = {"local": LocalEngine, "ray": _ray_engine}
"""Name -> function of the number of workers (None: the engine's choice) that makes an engine."""


def get_engine(name: str, workers: int | None = None, address: str | None = None) -> Engine:
    """The engine called `name`; `address` is that of a Ray cluster. UserError where there is none, or an argument does not suit it."""
    if name not in ENGINES:
        raise UserError(f"There is no engine {name!r}; choose one of {', '.join(ENGINES)}.")
    if address is not None and name != "ray":
        raise UserError(f"The engine {name!r} takes no address ({address!r}); only the engine 'ray' does.")
    return ENGINES[name](workers) if address is None else ENGINES[name](workers, address)
