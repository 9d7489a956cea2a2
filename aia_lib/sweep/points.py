"""The jobs of a sweep: functions of what all jobs share and of one job, for an engine to do. They write no results."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from ..anonymizers import AIA, Original, fitted_networks, siamese_without_task
from ..attackers import ATTACKERS
from ..audit import AuditReport, audit
from ..faces import Faces
from .grid import Point, SweepConfig
from .stack import finetune_stack


@dataclass(frozen=True)
class Shared:
    """What all jobs of a sweep share: all faces, the sweep, and where the networks of the method live."""

    faces: Faces
    config: SweepConfig
    device: torch.device

    @cached_property
    def train(self) -> Faces:
        """The people that the method may learn from."""
        return self.faces.split().train


@dataclass(frozen=True)
class Job:
    """One thing to do for some points of one seed.

    Attributes:
        points: which; of `train_shared` and `measure_point` one.
        folder: for checkpoints; None keeps none.
        start: what `train_shared` gave.
        trained: the point's method, where `train_stack` has trained it.
    """

    points: tuple[Point, ...]
    folder: Path | None
    start: Original | None = None
    trained: AIA | None = None

    @property
    def point(self) -> Point:
        """The only point, or the first; its seed is that of all."""
        return self.points[0]


def train_shared(shared: Shared, job: Job) -> Original:
    """What all points of one seed start from: auto-encoder, adversary, Siamese network; stages 1 to 3."""
    return Original(shared.config.profile, job.point.seed, shared.device).fit(shared.train, folder=job.folder, progress=False)


def train_stack(shared: Shared, job: Job) -> list[AIA]:
    """Stage 4 of several points as one program, without their audits; AIA\\T's Siamese networks afterwards, as `AIA.fit` does."""
    profile, train, seed = shared.config.profile, shared.train, job.point.seed
    made = [AIA(profile, seed, shared.device, alpha=point.alpha, beta=point.beta) for point in job.points]
    configs = [method.profile.finetune for method in made]
    stacked, history = finetune_stack(
        train, fitted_networks(job.start), configs, profile.adversary, profile.siamese, seed=seed, folder=job.folder, progress=False
    )
    for method, nets in zip(made, stacked, strict=True):
        method.networks, method.attribute = nets, train.attribute
        method.history = {**job.start.history, "finetune": history}
        if method.profile.finetune.alpha == 0:
            method.history["siamese"] = siamese_without_task(train, nets, profile.siamese, seed=seed, progress=False)
    return made


def measure_point(shared: Shared, job: Job) -> AuditReport:
    """The audit of one point in both regimes, after its fine-tuning where that is still to be done."""
    point, config = job.point, shared.config
    method = job.trained or job.start
    if point.alpha is not None and job.trained is None:
        method = AIA(config.profile, point.seed, shared.device, alpha=point.alpha, beta=point.beta)
        method.fit(shared.train, start=job.start, folder=job.folder, progress=False)
    released = method if "cnn_reconstruction" in (config.audit.attackers or ATTACKERS) else _WithoutDecoder(method)
    report = audit(released, shared.faces, seeds=[point.seed], config=config.audit, progress=False)
    return dataclasses.replace(report, name=point.setting)


class _WithoutDecoder:
    """A method for attackers that read no reconstructions: to decode every face would take as long as some of them."""

    def __init__(self, method: Original | AIA) -> None:
        self.method, self.map_shape, self.attribute = method, method.map_shape, method.attribute
        self.adversary, self.siamese = method.adversary, method.siamese

    def __call__(self, images: Tensor) -> Tensor:
        return self.method(images)
