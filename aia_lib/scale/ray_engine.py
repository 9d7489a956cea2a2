"""The engine `ray`: the jobs of a sweep on the CPUs and GPUs of a Ray cluster, or of a Ray that is started on this machine.

Needs the extra `scale`. Tested on one machine with two workers; neither a cluster of several machines nor a GPU has been at hand.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from ..machine.files import one_line
from .cluster import MAX_LOST, Cluster, connect, pack, unpack
from .engines import Failure, Work, _outcome, _threads

log = logging.getLogger(__name__)


class RayEngine:
    """Jobs as Ray's tasks. One whose worker is killed, or whose node is lost, is done again, up to `MAX_LOST` times.

    With as many threads a worker as `LocalEngine` gives, which is so with the same number of workers on one machine, the results are
    the same. On a cluster of several machines each job begins anew when its worker is lost, for its folder is another machine's.

    Args:
        workers: how many jobs at once; None takes the number of the cluster's CPUs.
        address: of a cluster, see `distributed.connect`; its nodes need aia-book.

    Raises:
        UserError: Ray is not installed or not to be reached, or `workers` is not a whole number of at least 1.
    """

    def __init__(self, workers: int | None = None, address: str | None = None) -> None:
        self.cluster: Cluster = connect(address, workers)
        self.workers = workers or self.cluster.cpus
        self.sees_folders = self.cluster.one_machine

    def run(self, work: Work, shared: Any, jobs: Iterable[Any], at_once: int | None = None) -> Iterator[tuple[Any, Any]]:
        """See `engines.Engine.run`."""
        import ray

        workers = min(self.workers, at_once or self.workers)
        threads = self.cluster.threads(workers)
        setup = ray.put(pack((work, shared), self.sees_folders))
        task = ray.remote(_do).options(
            num_cpus=threads,
            num_gpus=self.cluster.gpu_share(workers),
            max_retries=0,  # Ray would try again for ever what the machine has too little memory for
            name=getattr(work, "__name__", "job"),
        )
        name = uuid.uuid4().hex
        under_way: dict[Any, tuple[Any, int]] = {}

        def start(job: Any, lost: int = 0) -> None:
            under_way[task.remote(name, setup, threads, pack(job, self.sees_folders))] = (job, lost)

        jobs = iter(jobs)
        try:
            for job in itertools.islice(jobs, workers):
                start(job)
            while under_way:
                (done,), _ = ray.wait(list(under_way), num_returns=1)
                job, lost = under_way.pop(done)
                try:
                    outcome = ray.get(done)
                except ray.exceptions.RayTaskError as error:  # its parts or its result could not be sent
                    outcome = Failure(one_line(error.cause or error), str(error))
                except ray.exceptions.RayError as error:
                    why = _why(error)
                    if lost < MAX_LOST:
                        log.warning("a worker was lost (%s); its job is done again", why)
                        start(job, lost + 1)
                        continue
                    outcome = Failure(f"its worker was lost {lost + 1} times ({why}), mostly for want of memory; take fewer workers")
                for following in itertools.islice(jobs, 1):
                    start(following)
                yield job, outcome
        finally:
            for left in under_way:
                with contextlib.suppress(ray.exceptions.RayError):  # it has ended, or Ray has
                    ray.cancel(left, force=True)


def _why(error: Exception) -> str:
    """The first sentence of Ray's report, which fills a page."""
    return one_line(error).split(". ")[0].rstrip(".")


_held: tuple[str, Any] = ("", None)
"""In a worker: the name of the run whose (work, shared) it holds, and these."""


def _do(name: str, setup: tuple, threads: int, job: tuple) -> Any:
    """On a worker: the outcome of a job."""
    global _held
    if _held[0] != name:
        _held = ("", None)  # the old one goes before the new one comes
        _held = (name, unpack(setup))
    work, shared = _held[1]
    with _threads(threads):
        return _outcome(work, shared, unpack(job))
