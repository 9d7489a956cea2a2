"""Run a sweep: train and audit every point, on an engine, into one folder, and go on where a killed sweep was.

    out/
      sweep.json               what the sweep is: faces and settings; another sweep is not mixed into it
      seed-0/Original/ …       what all points of a seed start from: stages 1 to 3
      points/*.npz             the audit of each finished point, one file a point, for `AuditReport.load`
      unfinished/              checkpoints of what is under way; removed as it finishes
      sweep.parquet report.json table.md figures/
      failed.json              the points that failed, where there are any

A point is finished when its file has its name (see `machine.workfolder`), so a sweep may be killed at any moment. Tables and figures are
made of these files, always anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd
import torch
from tqdm.auto import tqdm

from ..anonymizers import Original
from ..audit import AuditReport, enough_people
from ..config import as_dict
from ..faces import Faces, images_only
from ..machine.device import pick_device
from ..machine.files import UserError, whole_number, with_interval, write_json
from ..machine.workfolder import WorkFolder
from ..report import ledger
from ..saving import load_anonymizer
from ..scale import get_engine
from ..scale.engines import Engine
from ..scale.pool import Failure
from .grid import Point, SweepConfig
from .points import Job, Shared, measure_point, train_shared, train_stack
from .result import FAILED, SweepResult, tidy


def run_sweep(
    faces: Faces,
    config: SweepConfig | None = None,
    out: str | Path = "runs/sweep",
    *,
    engine: str | Engine = "local",
    stack: int | None = None,
    device: torch.device | None = None,
    progress: bool = True,
    command: Sequence[str] = ("aia_lib.sweep.run_sweep",),
    say: Callable[[str], None] = print,
) -> SweepResult:
    """Train AIA at every point of a grid, audit each in both regimes, and write table, report and figures into `out`.

    A sweep that was stopped goes on: the same call again does what is missing. More weights and more seeds may be asked for
    than before; every other setting must be the same.

    Args:
        faces: all of them; trained on the split train, audited on the others.
        config: what to try; None takes `SweepConfig()`.
        out: the folder; made if needed.
        engine: "local" or "ray", or an engine.
        stack: fine-tune so many points as one program; 1 trains each by itself. None takes 24 on a GPU, a whole cross of the paper's
            Fig. 2, and 1 on a CPU, where a stack is slower than processes side by side (`python -m benchmarks sweep`).
        device: of the networks of the method; None takes the best there is.
        progress: show a progress bar.
        command: how the sweep was called, for its provenance.
        say: is given the lines of the live table.

    Returns:
        The result, with the points that failed in `failed`; the same call tries them again.

    Raises:
        UserError: `out` holds something else, another sweep, or is being written by another process; the faces are too few; no point
            could be finished; the disk is full. What was finished is kept.
    """
    images_only(faces, "The paper's method")
    config = config or SweepConfig()
    engine = get_engine(engine) if isinstance(engine, str) else engine
    if stack is not None:
        whole_number("stack", stack)
    config = dataclasses.replace(config, profile=dataclasses.replace(config.profile, size=faces.size))
    enough_people(faces.split())
    device = device or pick_device()
    folder = WorkFolder(out, "sweep")
    settings = {"faces": faces.fingerprint, "split_seed": faces.split_seed, "attribute": faces.attribute, **as_dict(config.profile)}
    with folder.writing(settings):
        session = _Session(Shared(faces, config, device), folder, engine, say)
        session.work(stack or (24 if device.type == "cuda" else 1), progress)
        return session.result(command)


class _Session:
    """One session of a sweep, from what its folder holds to the result."""

    def __init__(self, shared: Shared, folder: WorkFolder, engine: Engine, say: Callable[[str], None]) -> None:
        self.shared, self.folder, self.engine, self.line = shared, folder, engine, say
        self.out, self.points = folder.path, shared.config.points()
        self.failed: dict[Point, Failure] = {}

    def work(self, stack: int, progress: bool) -> None:
        """Do what is missing."""
        pending = [point for point in self.points if not self._file(point).exists()]
        done = len(self.points) - len(pending)
        self._say(f"{self.shared.faces}; on {self.shared.device}")
        self._say(f"{len(self.points)} points" + (f", {done} of them finished before" if done else ""))
        if not pending:
            return
        starts = self._train_starts(sorted({point.seed for point in pending}))
        pending = [point for point in pending if point.seed in starts]
        if stack > 1:
            self._train_stacks([point for point in pending if point.alpha is not None], starts, stack)
        with tqdm(total=len(self.points), initial=done, desc="points", unit="point", disable=not progress) as bar:
            self._measure(pending, starts, bar)

    def _say(self, line: str) -> None:
        with tqdm.external_write_mode():
            self.line(line)

    def _file(self, point: Point) -> Path:
        return self.out / "points" / f"{point.name}.npz"

    def _trained(self, point: Point) -> Path:
        """What a stack has trained is kept here until its audit is done."""
        return self.out / "unfinished" / point.name / "trained" / "anonymizer.json"

    def _checkpoints(self, name: str) -> Path | None:
        return self.out / "unfinished" / name if self.engine.sees_folders else None

    def _results(self, work: Callable, jobs: Iterable[Job], at_once: int | None = None) -> contextlib.closing:
        """The engine's results. Leaving the loop over them ends what is under way."""
        return contextlib.closing(self.engine.run(work, self.shared, jobs, at_once))

    def _finished(self, name: str) -> None:
        shutil.rmtree(self.out / "unfinished" / name, ignore_errors=True)
        self.folder.note()

    def _train_starts(self, seeds: Sequence[int]) -> dict[int, Original]:
        """Seed -> the fitted Original, for those seeds where it could be trained."""
        places = {seed: self.out / f"seed-{seed}" / "Original" for seed in seeds}
        missing = [seed for seed, place in places.items() if not (place / "anonymizer.json").exists()]
        jobs = [Job((Point(seed),), self._checkpoints(f"seed-{seed}")) for seed in missing]
        if jobs:
            self._say(f"training what all points start from: seed {', '.join(map(str, missing))}")
        with self._results(train_shared, jobs, len(self.shared.config.seeds)) as results:
            for job, result in results:
                seed = job.point.seed
                if isinstance(result, Failure):
                    self._say(f"seed {seed}: FAILED: {result.reason}")
                    del places[seed]
                    self.failed |= {point: result for point in self.points if point.seed == seed and not self._file(point).exists()}
                else:
                    result.save(places[seed])
                    self._finished(f"seed-{seed}")
        return {seed: load_anonymizer(place, self.shared.device) for seed, place in places.items()}

    def _train_stacks(self, points: Sequence[Point], starts: dict[int, Original], stack: int) -> None:
        """Fine-tune the points that are not yet, many as one program."""
        jobs = []
        for seed, start in starts.items():
            missing = [point for point in points if point.seed == seed and not self._trained(point).exists()]
            chunks = [tuple(missing[first : first + stack]) for first in range(0, len(missing), stack)]
            jobs += [Job(chunk, self._checkpoints(f"stack-{chunk[0].name}"), start) for chunk in chunks]
        with self._results(train_stack, jobs, 1) as results:
            for job, result in results:
                if isinstance(result, Failure):
                    self._say(f"{len(job.points)} points could not be trained as one program ({result.reason}); each is trained by itself")
                    continue
                for point, method in zip(job.points, result, strict=True):
                    method.save(self._trained(point).parent)
                self._finished(f"stack-{job.point.name}")
                self._say(f"seed {job.point.seed}: {len(job.points)} points trained as one program")

    def _measure(self, points: Sequence[Point], starts: dict[int, Original], bar: tqdm) -> None:
        """Train what is not trained, audit, and keep each audit as it comes."""

        def jobs() -> Iterator[Job]:
            for point in points:
                trained = self._trained(point)
                method = load_anonymizer(trained.parent, self.shared.device) if trained.exists() else None
                yield Job((point,), self._checkpoints(point.name), starts[point.seed], method)

        self._say(f"{'seed':>4}  {'setting':<24}  {'paper: leak  utility':<20}  {'retrained: leak':<15} {'':<14}  utility")
        with self._results(measure_point, jobs()) as results:
            for job, result in results:
                if isinstance(result, Failure):
                    self.failed[job.point] = result
                    self._say(f"{job.point.seed:>4}  {job.point.setting:<24}  FAILED: {result.reason}")
                else:
                    result.save(self._file(job.point))
                    self._finished(job.point.name)
                    paper, retrained = result.paper, result.retrained
                    figures = f"{paper['privacy_auc']:>11.3f}  {paper['utility_auc']:>7.3f}  "
                    figures += (
                        f"{with_interval(retrained['leak_auc'], retrained['leak_auc_ci']):>30}  {retrained['utility_auc_same']:>7.3f}"
                    )
                    self._say(f"{job.point.seed:>4}  {job.point.setting:<24}  {figures}")
                bar.update()

    def result(self, command: Sequence[str]) -> SweepResult:
        """Table, report and figures of all finished points, written into the folder."""
        audits = {point: AuditReport.load(self._file(point)) for point in self.points if self._file(point).exists()}
        (self.out / FAILED).unlink(missing_ok=True)
        if self.failed:
            write_json(self.out / FAILED, {str(point): dataclasses.asdict(failure) for point, failure in self.failed.items()})
        if not any(point.alpha is not None for point in audits):
            reason = next(iter(self.failed.values())).reason
            raise UserError(f"No point of the sweep could be finished. The first reason: {reason}")
        table = pd.concat([tidy(point, audit) for point, audit in audits.items()], ignore_index=True)
        methods = {}
        for setting, point in {point.setting: point for point in audits}.items():
            its = [audit for other, audit in audits.items() if other.setting == setting]
            methods[setting] = {**AuditReport.merge(its).to_dict(), "alpha": point.alpha, "beta": point.beta}
        faces, config = self.shared.faces, self.shared.config
        grid = {"alpha": list(config.alpha), "beta": list(config.beta), "grid": config.grid}
        settings = {"attribute": faces.attribute, **grid, **as_dict(config.profile)}
        origin = ledger.provenance(command, config.seeds, ledger.described(faces), self.folder.seconds, self.shared.device)
        report = ledger.validated({"provenance": origin, "settings": settings, "methods": methods})
        result = SweepResult(self.out, table, report, {str(point): failure.reason for point, failure in self.failed.items()})
        result.save()
        with contextlib.suppress(OSError):  # not empty: of points that failed
            (self.out / "unfinished").rmdir()
        self.folder.note()
        return result
