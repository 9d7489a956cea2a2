"""The trade-off sweep: AIA at many weights and seeds, each audited in both regimes, with what the whole is worth.

from aia_lib import load_faces
from aia_lib.sweep import SweepConfig, parse_range, run_sweep

config = SweepConfig(alpha=parse_range("0:1:0.25"), beta=parse_range("0:1:0.25"), seeds=(0,))
result = run_sweep(load_faces("embedded", size=32, limit=3000), config, "runs/sweep")
result.figures()["figure-2"]
print(result.recommend(max_leak=0.6))
"""

from __future__ import annotations

from ..scale import LocalEngine
from .grid import SWEEP_AUDIT, Point, SweepConfig, parse_range
from .result import SweepResult, recorded
from .runner import run_sweep
from .stack import finetune_stack
from .tradeoff import hypervolume, pareto_front, recommend

__all__ = [
    "LocalEngine",
    "Point",
    "SWEEP_AUDIT",
    "SweepConfig",
    "SweepResult",
    "finetune_stack",
    "hypervolume",
    "parse_range",
    "pareto_front",
    "recommend",
    "recorded",
    "run_sweep",
]
