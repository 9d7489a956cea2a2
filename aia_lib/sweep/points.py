"""The jobs of a sweep, and how an engine does them: functions of what all jobs share and of one job. They write no results."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from ..anonymizers import AIA, Original, fitted, siamese_without_task
from ..attackers import ATTACKERS
from ..audit import AuditReport, audit
from ..faces import Faces
from .grid import Point, SweepConfig
from .stack import finetune_stack


@dataclass(frozen=True)
class Shared:
    """What all jobs of a sweep share.

    Attributes:
        faces: all of them; jobs train on the split `train` and audit on the others.
        config: the sweep.
        device: where the networks of the method live.
    """

    faces: Faces
    config: SweepConfig
    device: torch.device

    @cached_property
    def train(self) -> Faces:
        """The people that the method may learn from."""
        return self.faces.split().train


@dataclass(frozen=True)
class SharedStages:
    """The job of training what all points of one seed start from: auto-encoder, adversary, Siamese network.

    Attributes:
        seed: of the three stages.
        folder: for the checkpoints of what is not finished; None keeps none.
    """

    seed: int
    folder: Path | None


@dataclass(frozen=True)
class Finetuning:
    """The job of fine-tuning several points of one seed as one program, without their audits.

    Attributes:
        points: of one seed, all with weights.
        start: what `train_shared` gave.
        folder: for checkpoints; None keeps none.
    """

    points: tuple[Point, ...]
    start: Original
    folder: Path | None


@dataclass(frozen=True)
class Measurement:
    """The job of one point: fine-tune it where it is not yet, and audit it.

    Attributes:
        point: which.
        start: what `train_shared` gave; audited itself where the point is Original.
        trained: the point's method, where `train_stack` has trained it.
        folder: for checkpoints; None keeps none.
    """

    point: Point
    start: Original
    trained: AIA | None
    folder: Path | None


def train_shared(shared: Shared, job: SharedStages) -> Original:
    """Stages 1 to 3, once a seed."""
    return Original(shared.config.profile, job.seed, shared.device).fit(shared.train, folder=job.folder, progress=False)


def train_stack(shared: Shared, job: Finetuning) -> list[AIA]:
    """Stage 4 of several points as one program; AIA\\T's Siamese networks afterwards, as `AIA.fit` does."""
    profile, start, train = shared.config.profile, job.start, shared.train
    seed = job.points[0].seed
    made = [AIA(profile, seed, shared.device, alpha=point.alpha, beta=point.beta) for point in job.points]
    configs = [method.profile.finetune for method in made]
    stacked, history = finetune_stack(
        train, fitted(start), configs, profile.adversary, profile.siamese, seed=seed, folder=job.folder, progress=False
    )
    for method, nets in zip(made, stacked, strict=True):
        method.networks, method.attribute = nets, train.attribute
        method.history = {**start.history, "finetune": history}
        if method.profile.finetune.alpha == 0:
            method.history["siamese"] = siamese_without_task(train, nets, profile.siamese, seed=seed, progress=False)
    return made


def measure_point(shared: Shared, job: Measurement) -> AuditReport:
    """The audit of one point in both regimes, after its training where that is still to be done."""
    point, config = job.point, shared.config
    if point.alpha is None:
        method: Original | AIA = job.start
    elif job.trained is not None:
        method = job.trained
    else:
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
