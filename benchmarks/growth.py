"""How the time of each job grows with the number of images N, from 1,000 to 200,000: data for a plot with logarithmic axes.

The images are the rendered ones, repeated as people of their own (`common.as_celeba`), so the audit's figures mean nothing here, and
only its time counts. An epoch of more than `STEPS` steps is not run to its end: what comes before its first step, and the first, are
timed, and the mean of the following steps is taken for each of the others. `measured_steps` beside `steps` says where.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from aia_lib.anonymizers import Networks
from aia_lib.audit import audit
from aia_lib.config import PROFILES, SPLIT_FRACTIONS, AuditConfig, Profile
from aia_lib.datasets import load_faces
from aia_lib.faces import Faces
from aia_lib.machine.device import pick_device
from aia_lib.machine.files import cores
from aia_lib.machine.stage import Stage
from aia_lib.sweep import SWEEP_AUDIT
from aia_lib.training import finetune, train_adversary, train_autoencoder, train_siamese

from .common import Untrained, as_celeba, clock, devices, draw, now

COUNTS = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000)
STAGES = ("autoencoder", "adversary", "siamese", "finetune")
FIRST_LOAD, SECOND_LOAD, AUDIT = "load, first time", "load, from the cache", "audit"

STEPS = 60

AUDITED = 20_000
"""So many images are audited at most: with 200,000 it would take as long as all the rest ten times over."""


def measure(
    size: int = 32,
    images: int = COUNTS[-1],
    counts: Sequence[int] = COUNTS,
    steps: int = STEPS,
    config: AuditConfig = SWEEP_AUDIT,
) -> dict:
    """One row for each job, device and N, and the slopes.

    Args:
        size: of the images.
        images: the largest N.
        counts: the N's; those beyond `images` are left out.
        steps: an epoch is timed over so many steps at most.
        config: of the audit.

    Returns:
        `rows`: {"job", "device", "images": N of the whole set, "seconds", and of a stage "steps" and "measured_steps"}, where an epoch
        is one over the split train, 0.4 N images; `slopes`: job -> device -> exponent of N, fitted over the last decade of the N's.
    """
    profile = dataclasses.replace(PROFILES["book"], size=size)
    counts = [count for count in counts if count <= images] or [images]
    rows: list[dict] = []
    with tempfile.TemporaryDirectory() as scratch:
        drawn = draw(Path(scratch) / "drawn", max(counts))
        for number, count in enumerate(counts):
            base = as_celeba(Path(scratch) / str(count), count, drawn)
            place = {"size": size, "cache": Path(scratch) / "cache", "progress": False}
            for job in (FIRST_LOAD, SECOND_LOAD):
                taken, faces = clock(lambda base=base, place=place: load_faces("celeba", base, **place))
                rows.append({"job": job, "device": "cpu", "images": count, "seconds": round(taken, 4)})
            train = faces.split().train
            for device in devices():
                for stage in STAGES:
                    if number == 0:
                        part_of_an_epoch(stage, train, profile, device, 3)  # memory is taken, kernels are chosen
                    taken = part_of_an_epoch(stage, train, profile, device, steps)
                    rows.append({"job": stage, "device": device.type, "images": count, **taken})
            if count <= AUDITED:
                taken, _ = clock(lambda faces=faces: audit(Untrained(size), faces, seeds=1, config=config, progress=False))
                rows.append({"job": AUDIT, "device": pick_device().type, "images": count, "seconds": round(taken, 4)})
    return {
        "size": size,
        "threads": torch.get_num_threads(),
        "cores": cores(),
        "train_share": SPLIT_FRACTIONS[0],
        "batch_sizes": {stage: getattr(profile, stage).batch_size for stage in STAGES},
        "attackers": list(config.attackers),
        "rows": rows,
        "slopes": slopes(rows),
    }


class _Enough(Exception):
    """The steps that were to be timed are done."""


def part_of_an_epoch(stage: str, train: Faces, profile: Profile, device: torch.device, steps: int) -> dict:
    """The seconds of one epoch of a stage with untrained networks, measured over `steps` of its steps where it has more."""
    nets = Networks(train.size, device=device)
    own = {name: dataclasses.replace(getattr(profile, name), epochs=1) for name in STAGES}
    run = {
        "autoencoder": lambda: train_autoencoder(train, nets.encoder, nets.decoder, own["autoencoder"], progress=False),
        "adversary": lambda: train_adversary(train, nets.adversary, nets.encode, own["adversary"], progress=False),
        "siamese": lambda: train_siamese(train, nets.siamese, nets.encode, own["siamese"], progress=False),
        "finetune": lambda: finetune(train, *nets.modules().values(), own["finetune"], own["adversary"], own["siamese"], progress=False),
    }[stage]
    ends: list[float] = []
    whole = 0

    def log(self: Stage, **values: object) -> None:
        nonlocal whole
        whole = self.steps_per_epoch
        ends.append(now() if len(ends) in (0, steps - 1) else time.perf_counter())
        if len(ends) == steps < whole:
            raise _Enough

    start = now()
    with mock.patch.object(Stage, "log", log):
        try:
            run()
        except _Enough:
            a_step = (ends[-1] - ends[0]) / max(1, len(ends) - 1)
            taken = ends[0] - start + (whole - 1) * a_step
        else:
            taken = now() - start
    return {"seconds": round(taken, 4), "steps": whole, "measured_steps": len(ends)}


def slopes(rows: Sequence[dict]) -> dict[str, dict[str, float]]:
    """By job and device: b of seconds = a N^b, by least squares of the logarithms, over the N's from a tenth of the largest on."""
    found: dict[str, dict[str, float]] = {}
    for job, device in dict.fromkeys((row["job"], row["device"]) for row in rows):
        own = {row["images"]: row["seconds"] for row in rows if (row["job"], row["device"]) == (job, device)}
        last = {count: seconds for count, seconds in own.items() if 10 * count >= max(own)}
        if len(last) > 1:
            found.setdefault(job, {})[device] = round(float(np.polyfit(np.log(list(last)), np.log(list(last.values())), 1)[0]), 3)
    return found
