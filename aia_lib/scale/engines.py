"""An engine takes a function, something that all jobs share, and jobs; it calls `work(shared, job)` for each of them, wherever it likes,
and yields each job with its result, or with a `Failure`, as it finishes. It knows nothing of sweeps, and writes no files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from ..machine.files import cores, whole_number
from .pool import Work, in_processes, outcome, threads_limited


class Engine(Protocol):
    """Does jobs.

    Attributes:
        sees_folders: the folders of this machine can be read and written where the jobs are done. Where they cannot, jobs keep no
            checkpoints: one that is interrupted starts again.
    """

    sees_folders: bool

    def run(self, work: Work, shared: Any, jobs: Iterable[Any], at_once: int | None = None) -> Iterator[tuple[Any, Any]]:
        """As `pool.in_processes` does; `at_once`: so many jobs at once at most, each with more threads."""
        ...


class LocalEngine:
    """Worker processes of this machine, each with its share of the cores; with one worker, this process.

    The share does not depend on how many jobs are left: sums over more threads are rounded otherwise, and a resumed sweep shall
    end with the same figures. `workers` is how many jobs are done at once; None takes the number of cores. UserError where it is no
    whole number of at least 1.
    """

    sees_folders = True

    def __init__(self, workers: int | None = None) -> None:
        self.workers = cores() if workers is None else whole_number("The number of workers", workers)

    def run(self, work: Work, shared: Any, jobs: Iterable[Any], at_once: int | None = None) -> Iterator[tuple[Any, Any]]:
        """See `Engine.run`."""
        workers = min(self.workers, at_once or self.workers)
        threads = max(1, cores() // workers)
        if workers > 1:
            yield from in_processes(work, shared, jobs, workers, threads)
            return
        with threads_limited(threads):
            for job in jobs:
                yield job, outcome(work, shared, job)
