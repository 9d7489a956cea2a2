"""Run a sweep: train and audit every point, on an engine, into one folder, and go on where a killed sweep was.

    out/
      sweep.json               what the sweep is: faces and settings; another sweep is not mixed into it
      seed-0/Original/ …       what all points of a seed start from: stages 1 to 3
      points/*.npz             the audit of each finished point, one file a point, for `AuditReport.load`
      unfinished/              checkpoints of what is under way; removed as it finishes
      sweep.parquet report.json table.md figures/
      failed.json              the points that failed, where there are any

A point is finished when its file has its name: it is written under another one, flushed and renamed. Nothing else has to agree with
it, so a sweep may be killed at any moment. Tables and figures are made of these files, always anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd
import torch
from tqdm.auto import tqdm

from ..anonymizers import AIA, Original
from ..audit import AuditReport, enough_people
from ..config import as_dict, settings_differences
from ..faces import Faces, with_attribute
from ..machine.device import pick_device
from ..machine.files import UserError, explain_os_errors, locked, write_json
from ..report import ledger
from ..saving import load_anonymizer
from ..scale import get_engine
from ..scale.engines import Engine, Failure
from .grid import Point, SweepConfig
from .points import Finetuning, Measurement, Shared, SharedStages, measure_point, train_shared, train_stack
from .result import FAILED, SweepResult, tidy

STACK = 24
"""Points that a GPU trains as one program, where nobody says: a whole cross of the paper's Fig. 2."""


def run_sweep(
    faces: Faces,
    config: SweepConfig | None = None,
    out: str | Path = "runs/sweep",
    *,
    engine: str | Engine = "local",
    stack: int | None = None,
    attribute: str | None = None,
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
        engine: a name of `ENGINES`, or an engine.
        stack: fine-tune so many points as one program; 1 trains each by itself. None takes `STACK` on a GPU, and 1 on a
            CPU, where a stack is slower than processes side by side (`python -m benchmarks sweep`).
        attribute: the private one; None takes the faces' own.
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
    out, config = Path(out), config or SweepConfig()
    engine = get_engine(engine) if isinstance(engine, str) else engine
    if stack is not None and (type(stack) is not int or stack < 1):
        raise UserError(f"stack must be a whole number of at least 1, not {stack!r}.")
    faces = with_attribute(faces, attribute)
    config = dataclasses.replace(config, profile=dataclasses.replace(config.profile, size=faces.size))
    enough_people(faces.split())
    device = device or pick_device()
    stack = stack or (STACK if device.type == "cuda" else 1)
    check_out(out)
    with explain_os_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        with locked(out, f"Another sweep is writing into {out}. Wait until it ends, stop it, or choose another --out."):
            return _Run(faces, config, out, engine, stack, device, progress, command, say)()


def check_out(out: str | Path) -> None:
    """Raise a UserError where `out` holds something that is no sweep."""
    out = Path(out)
    if not (out / "sweep.json").exists() and out.is_dir() and any(path.suffix != ".part" for path in out.iterdir()):
        raise UserError(f"{out} is not empty and holds no sweep. Choose another --out.")


class _Run:
    """One session of a sweep, from what its folder holds to the result."""

    def __init__(
        self,
        faces: Faces,
        config: SweepConfig,
        out: Path,
        engine: Engine,
        stack: int,
        device: torch.device,
        progress: bool,
        command: Sequence[str],
        say: Callable[[str], None],
    ) -> None:
        self.shared = Shared(faces, config, device)
        self.faces, self.config, self.out, self.engine, self.stack = faces, config, out, engine, stack
        self.device, self.progress, self.command, self.tell = device, progress, command, say
        self.started, self.failed = time.monotonic(), {}
        self.points = config.points()

    def __call__(self) -> SweepResult:
        self._open()
        done = [point for point in self.points if self._file(point).exists()]
        pending = [point for point in self.points if point not in set(done)]
        self._say(f"{self.faces}; on {self.device}")
        self._say(f"{len(self.points)} points" + (f", {len(done)} of them finished before" if done else ""))
        if pending:
            starts = self._train_starts(sorted({point.seed for point in pending}))
            pending = [point for point in pending if point.seed in starts]
            if self.stack > 1:
                self._train_stacks([point for point in pending if point.alpha is not None], starts)
            self._measure(pending, starts, len(done))
        return self._finish()

    # What the folder holds --------------------------------------------------------------------------------------------

    def _open(self) -> None:
        """Begin a sweep in the folder, or take up the one it holds."""
        for part in self.out.rglob(".*.part"):  # of a killed process: we hold the lock
            part.unlink(missing_ok=True)
        sweep = {"faces": self.faces.fingerprint, "split_seed": self.faces.split_seed, "attribute": self.faces.attribute}
        sweep |= as_dict(self.config.profile)
        self.path, self.before = self.out / "sweep.json", 0.0
        if self.path.exists():
            try:
                state = json.loads(self.path.read_text(encoding="utf-8"))
                held, self.before = dict(state["sweep"]), float(state.get("seconds", 0.0))
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{self.path} is damaged ({error}); choose another --out, or remove that folder.") from error
            if held != sweep:
                differences = "; ".join(settings_differences(held, sweep))
                raise UserError(f"{self.out} holds another sweep ({differences}). Use its settings, or choose another --out.")
        self.state = {"sweep": sweep}
        self._note()

    def _note(self) -> None:
        write_json(self.path, {**self.state, "seconds": round(self.seconds, 1)})

    @property
    def seconds(self) -> float:
        """Seconds of work, over all sessions."""
        return self.before + time.monotonic() - self.started

    def _file(self, point: Point) -> Path:
        return self.out / "points" / f"{point.name}.npz"

    def _unfinished(self, name: str) -> Path:
        return self.out / "unfinished" / name

    def _say(self, line: str) -> None:
        with tqdm.external_write_mode():
            self.tell(line)

    def _work(self, work: Callable, jobs: Iterable, at_once: int | None = None) -> contextlib.closing:
        """The engine's results. Leaving the loop over them ends what is under way."""
        return contextlib.closing(self.engine.run(work, self.shared, jobs, at_once))

    # The three kinds of jobs ------------------------------------------------------------------------------------------

    def _train_starts(self, seeds: Sequence[int]) -> dict[int, Original]:
        """Seed -> the fitted Original, for those seeds where it could be trained."""
        starts, jobs = {}, []
        for seed in seeds:
            place = self.out / f"seed-{seed}" / "Original"
            if (place / "anonymizer.json").exists():
                starts[seed] = load_anonymizer(place, self.device)
            else:
                jobs.append(SharedStages(seed, self._unfinished(f"seed-{seed}") if self.engine.sees_folders else None))
        if jobs:
            self._say(f"training what all points start from: seed {', '.join(str(job.seed) for job in jobs)}")
        with self._work(train_shared, jobs, len(self.config.seeds)) as results:
            for job, outcome in results:
                if isinstance(outcome, Failure):
                    self._say(f"seed {job.seed}: FAILED: {outcome.reason}")
                    self.failed |= {point: outcome for point in self.points if point.seed == job.seed and not self._file(point).exists()}
                    continue
                place = self.out / f"seed-{job.seed}" / "Original"
                outcome.save(place)
                starts[job.seed] = load_anonymizer(place, self.device)  # as it is in a sweep that goes on
                shutil.rmtree(self._unfinished(f"seed-{job.seed}"), ignore_errors=True)
                self._note()
        return starts

    def _train_stacks(self, points: Sequence[Point], starts: dict[int, Original]) -> None:
        """Fine-tune the points that are not yet, many as one program; they are kept until their audits are done."""
        jobs = []
        for seed, start in starts.items():
            own = [point for point in points if point.seed == seed and not self._trained(point).exists()]
            for first in range(0, len(own), self.stack):
                chunk = tuple(own[first : first + self.stack])
                jobs.append(Finetuning(chunk, start, self._unfinished(f"stack-{chunk[0].name}") if self.engine.sees_folders else None))
        with self._work(train_stack, jobs, 1) as results:
            for job, outcome in results:
                if isinstance(outcome, Failure):
                    self._say(f"{len(job.points)} points could not be trained as one program ({outcome.reason}); each is trained by itself")
                    continue
                for point, method in zip(job.points, outcome, strict=True):
                    method.save(self._trained(point).parent)
                shutil.rmtree(self._unfinished(f"stack-{job.points[0].name}"), ignore_errors=True)
                self._say(f"seed {job.points[0].seed}: {len(job.points)} points trained as one program")
                self._note()

    def _trained(self, point: Point) -> Path:
        return self._unfinished(point.name) / "trained" / "anonymizer.json"

    def _measure(self, points: Sequence[Point], starts: dict[int, Original], done: int) -> None:
        """Train what is not trained, audit, and keep each audit as it comes."""

        def jobs() -> Iterator[Measurement]:
            for point in points:
                trained = self._trained(point)
                method: AIA | None = load_anonymizer(trained.parent, self.device) if trained.exists() else None
                yield Measurement(point, starts[point.seed], method, self._unfinished(point.name) if self.engine.sees_folders else None)

        self._say(f"{'seed':>4}  {'setting':<24}  {'paper: leak  utility':<20}  {'retrained: leak':<15} {'':<14}  utility")
        bar = tqdm(total=len(self.points), initial=done, desc="points", unit="point", disable=not self.progress)
        with self._work(measure_point, jobs()) as results, bar:
            for job, outcome in results:
                if isinstance(outcome, Failure):
                    self.failed[job.point] = outcome
                    self._say(f"{job.point.seed:>4}  {job.point.setting:<24}  FAILED: {outcome.reason}")
                else:
                    outcome.save(self._file(job.point))
                    shutil.rmtree(self._unfinished(job.point.name), ignore_errors=True)
                    self._note()
                    self._say(_row(job.point, outcome))
                bar.update()

    # The result -------------------------------------------------------------------------------------------------------

    def _finish(self) -> SweepResult:
        audits = {point: AuditReport.load(self._file(point)) for point in self.points if self._file(point).exists()}
        if self.failed:
            write_json(self.out / FAILED, {str(point): dataclasses.asdict(failure) for point, failure in self.failed.items()})
        else:
            (self.out / FAILED).unlink(missing_ok=True)
        if not any(point.alpha is not None for point in audits):
            reason = next(iter(self.failed.values())).reason
            raise UserError(f"No point of the sweep could be finished. The first reason: {reason}")
        table = pd.concat([tidy(point, audit) for point, audit in audits.items()], ignore_index=True)
        methods = {}
        for setting in dict.fromkeys(point.setting for point in audits):
            own = {point: audit for point, audit in audits.items() if point.setting == setting}
            first = next(iter(own))
            methods[setting] = {**AuditReport.merge(list(own.values())).to_dict(), "alpha": first.alpha, "beta": first.beta}
        faces, config = self.faces, self.config
        grid = {"alpha": list(config.alpha), "beta": list(config.beta), "grid": config.grid}
        origin = ledger.provenance(list(self.command), list(config.seeds), ledger.described(faces), self.seconds, self.device)
        report = {
            "provenance": origin,
            "settings": {"attribute": faces.attribute, **grid, **as_dict(config.profile)},
            "methods": methods,
        }
        result = SweepResult(
            self.out, table, ledger.validated(report), {str(point): failure.reason for point, failure in self.failed.items()}
        )
        result.save()
        with contextlib.suppress(OSError):  # not empty: of points that failed
            (self.out / "unfinished").rmdir()
        self._note()
        return result


def _row(point: Point, audit: AuditReport) -> str:
    """The line of a point in the live table."""
    paper, retrained = audit.paper, audit.retrained
    low, high = retrained["leak_auc_ci"]
    return (
        f"{point.seed:>4}  {point.setting:<24}  {paper['privacy_auc']:>11.3f}  {paper['utility_auc']:>7.3f}  "
        f"{retrained['leak_auc']:>15.3f} [{low:.3f}, {high:.3f}]  {retrained['utility_auc_same']:>7.3f}"
    )
