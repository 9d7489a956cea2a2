"""Engines: where the jobs of a sweep are done."""

from __future__ import annotations

from ..machine.files import UserError
from .engines import Engine, LocalEngine

ENGINES = ("local", "ray")


def get_engine(name: str, workers: int | None = None, address: str | None = None) -> Engine:
    """The engine called `name`; `address` is that of a Ray cluster. UserError where there is none, or an argument does not suit it."""
    if name not in ENGINES:
        raise UserError(f"There is no engine {name!r}; choose one of {', '.join(ENGINES)}.")
    if name == "ray":
        from .ray_engine import RayEngine

        return RayEngine(workers, address)
    if address is not None:
        raise UserError(f"The engine {name!r} takes no address ({address!r}); only the engine 'ray' does.")
    return LocalEngine(workers)
