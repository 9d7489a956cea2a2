"""Engines: where the jobs of a sweep are done."""

from __future__ import annotations

from ..machine.files import UserError
from .engines import Engine, LocalEngine


def get_engine(name: str, workers: int | None = None, address: str | None = None) -> Engine:
    """The engine called `name`; `address` is that of a Ray cluster. UserError where there is none, or an argument does not suit it."""
    if name not in ("local", "ray"):
        raise UserError(f"There is no engine {name!r}; choose one of local, ray.")
    if name == "ray":
        from .ray_engine import RayEngine

        return RayEngine(workers, address)
    if address is not None:
        raise UserError(f"The engine {name!r} takes no address ({address!r}); only the engine 'ray' does.")
    return LocalEngine(workers)
