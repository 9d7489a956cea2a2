"""A sweep against the same points one by one, and points trained as one program against points trained by themselves.

*One by one* is what a loop around `aia_lib` does: for each point the three shared stages, the fine-tuning and the audit, one after the
other in one process with all cores. The audits are the sweep's own, so that the ratio is not that of a lighter audit; the sweep does
one more, Original's.
"""

from __future__ import annotations

import copy
import dataclasses
import tempfile
from collections.abc import Sequence

import pandas as pd
import torch

from aia_lib.anonymizers import AIA, Networks
from aia_lib.audit import audit
from aia_lib.config import PROFILES, AuditConfig, Profile
from aia_lib.datasets import load_faces
from aia_lib.faces import Faces
from aia_lib.machine.device import pick_device
from aia_lib.machine.files import cores
from aia_lib.sweep import SWEEP_AUDIT, LocalEngine, SweepConfig, finetune_stack, run_sweep
from aia_lib.training import finetune

from .common import clock, devices, in_turn, ratio

BETAS = (0.0, 0.5, 1.0)
STACKS = {"cpu": (4,), "cuda": (4, 22)}
"""Points in a stack, by kind of device. 22 are the paper's Fig. 2."""

ALONE = "alone"


def measure(
    data: str = "embedded",
    root: str | None = None,
    size: int = 32,
    images: int = 1500,
    betas: Sequence[float] = BETAS,
    config: AuditConfig = SWEEP_AUDIT,
    rounds: int = 3,
    profile: Profile = PROFILES["fast"],
) -> dict:
    """Seconds of a sweep over `betas` and of its points one by one, once each; seconds a point of `finetune_stack` and `finetune`.

    Args:
        data, root, size, images: the faces.
        betas: the points, all with alpha = 0.5.
        config: the audit of a point.
        rounds: how often stacks and single fine-tunings take their turns.
        profile: the settings of all stages; its image size gives way to `size`.
    """
    faces = load_faces(data, root, size=size, limit=images, progress=False)
    profile = dataclasses.replace(profile, size=size)
    sweep = SweepConfig(alpha=(0.5,), beta=tuple(betas), grid="full", seeds=(0,), profile=profile, audit=config)
    device = pick_device()

    def together() -> pd.Series:
        with tempfile.TemporaryDirectory() as folder:
            result = run_sweep(faces, sweep, folder, engine=LocalEngine(), device=device, progress=False, say=lambda line: None)
            return result.settings().set_index("beta")["leak"]

    def one_by_one() -> dict[float, float]:
        leaks = {}
        for beta in sweep.beta:
            method = AIA(profile, 0, device, alpha=0.5, beta=beta).fit(faces.split().train, progress=False)
            report = audit(method, faces, seeds=[0], config=config, progress=False)
            leaks[beta] = report.retrained["leak_auc"]
        return leaks

    seconds, leaks = in_turn({"sweep": together, "one by one": one_by_one}, 1)
    return {
        "images": len(faces),
        "size": size,
        "points": len(sweep.beta),
        "cores": cores(),
        "device": device.type,
        "sweep_seconds": seconds["sweep"][0],
        "one_by_one_seconds": seconds["one by one"][0],
        "ratio": ratio(seconds, "one by one", "sweep"),
        "leak_auc_of_the_sweep": [round(float(leaks["sweep"][beta]), 4) for beta in sweep.beta],
        "leak_auc_one_by_one": [round(leaks["one by one"][beta], 4) for beta in sweep.beta],
        "finetuning": {place.type: stacked(faces.split().train, profile, place, rounds) for place in devices()},
    }


def stacked(train: Faces, profile: Profile, device: torch.device, rounds: int) -> dict:
    """Seconds a point of an epoch of stage 4: of one point by itself, and of stacks."""
    nets, short = Networks(profile.size, device=device), dataclasses.replace(profile.finetune, epochs=1)

    def alone() -> None:
        finetune(train, *copy.deepcopy(nets).modules().values(), short, profile.adversary, profile.siamese, progress=False)

    def stack(points: int) -> None:
        configs = [dataclasses.replace(short, beta=index / points) for index in range(points)]
        finetune_stack(train, nets, configs, profile.adversary, profile.siamese, progress=False)

    ways = {ALONE: alone} | {f"{points} in a stack": lambda points=points: stack(points) for points in STACKS.get(device.type, (4,))}
    for way in ways.values():  # memory is taken, kernels are chosen
        clock(way)
    seconds, _ = in_turn(ways, rounds)
    for way in list(seconds)[1:]:
        seconds[way] = [round(value / int(way.split()[0]), 4) for value in seconds[way]]
    return {"seconds_a_point": seconds, "ratio": {way: ratio(seconds, ALONE, way) for way in list(seconds)[1:]}}
