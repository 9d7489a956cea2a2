"""The engine `ray`: the jobs of a sweep on the CPUs and GPUs of a Ray cluster, or of a Ray that is started on this machine.

Needs the extra `scale`. Tested on one machine with two workers, one of which is killed; neither a cluster of several machines nor a GPU
has been at hand. Every node needs the same Python, aia-book and Ray.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
import signal
import socket
import threading
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from ..machine.files import UserError, cores, one_line, whole_number
from .pool import Failure, Work, outcome, pack, threads_limited, unpack

log = logging.getLogger(__name__)

MAX_LOST = 3
"""So often one job may lose its worker before it counts as failed: the job itself may be what kills them."""


def connect(address: str | None = None, workers: int | None = None) -> list[dict]:
    """Connect this process to Ray, see `RayEngine`, or leave it connected as it is; the nodes, as `ray.nodes()` describes them."""
    try:
        import ray
    except ImportError as error:
        raise UserError(f'The engine ray needs Ray, which is not installed here ({error}): pip install "aia-book[scale]"') from error
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if not ray.is_initialized():
        _start(ray, address, workers)
    elif address not in ("local", "auto", ray.get_runtime_context().gcs_address):
        raise UserError(f"This process is connected to the Ray at {ray.get_runtime_context().gcs_address} already, not to {address}.")
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if not any(node["Resources"].get("CPU") for node in nodes):
        raise UserError(f"The Ray at {address} has no CPUs to work with; add nodes to it.")
    return nodes


def _start(ray: Any, address: str, workers: int | None) -> None:
    """Connect to the cluster at `address`, or start one here where that is "local"."""
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        options |= {"num_cpus": max(workers or 1, cores()), "include_dashboard": False}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing here reports to anybody
    elif address != "auto":
        host, colon, port = address.rpartition(":")
        if not colon or not host or "/" in host or not port.isdecimal():
            raise UserError(f"{address!r} is no address of a Ray cluster: give host:port of its head node, as 10.0.0.1:6379, or auto.")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5.0).close()
        except (OSError, OverflowError) as error:  # Ray itself would try for a minute
            raise UserError(f"No Ray cluster answers at {address} ({error}). Is it running, and is that its head node?") from error
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, **options)
    except Exception as error:  # of any kind: a node that does not start in time is a bare Exception
        ray.shutdown()  # of what has started
        what = "No Ray could be started here" if address == "local" else f"There is no Ray cluster that can be used at {address}"
        raise UserError(f"{what}: {' '.join(str(error).split())[:300]}") from error
    finally:
        if threading.current_thread() is threading.main_thread():  # Ray takes SIGTERM for itself; ours ends in a checkpoint
            signal.signal(signal.SIGTERM, before)


class RayEngine:
    """Jobs as Ray's tasks. One whose worker is killed, or whose node is lost, is done again, up to `MAX_LOST` times.

    With as many threads a worker as `LocalEngine` gives, which is so with the same number of workers on one machine, the results are
    the same. On a cluster of several machines each job begins anew when its worker is lost, for its folder is another machine's.

    Args:
        workers: how many jobs at once; None takes the number of the cluster's CPUs. A Ray that is started here has so many, at least.
        address: host:port of a cluster's head node, or "auto" for the one that runs on this machine; None takes RAY_ADDRESS, and
            where that is not set, starts a Ray here.

    Raises:
        UserError: Ray is not installed, the address is none or nothing answers there, or `workers` is not a whole number of at least 1.
    """

    def __init__(self, workers: int | None = None, address: str | None = None) -> None:
        if workers is not None:
            whole_number("The number of workers", workers)
        nodes = connect(address, workers)
        cpus = [int(node["Resources"].get("CPU", 0)) for node in nodes]
        self.cpus, self.node_cpus = sum(cpus), max(cpus)
        self.gpus = int(sum(node["Resources"].get("GPU", 0) for node in nodes))
        self.workers = workers or self.cpus
        import ray

        self.sees_folders = all(node["NodeID"] == ray.get_runtime_context().get_node_id() for node in nodes)

    def run(self, work: Work, shared: Any, jobs: Iterable[Any], at_once: int | None = None) -> Iterator[tuple[Any, Any]]:
        """See `engines.Engine.run`."""
        import ray

        workers = min(self.workers, at_once or self.workers)
        threads = max(1, min(self.cpus // workers, self.node_cpus))  # a worker's share, at most a node's
        setup = ray.put(pack((work, shared), self.sees_folders))
        task = ray.remote(_do).options(
            num_cpus=threads,
            num_gpus=1 / math.ceil(workers / self.gpus) if self.gpus else 0,  # whole workers on each
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
                    result = ray.get(done)
                except ray.exceptions.RayTaskError as error:  # its parts or its result could not be sent
                    result = Failure(one_line(error.cause or error), str(error))
                except ray.exceptions.RayError as error:
                    why = one_line(error).split(". ")[0].rstrip(".")  # Ray's report fills a page
                    if lost < MAX_LOST:
                        log.warning("a worker was lost (%s); its job is done again", why)
                        start(job, lost + 1)
                        continue
                    result = Failure(f"its worker was lost {lost + 1} times ({why}), mostly for want of memory; take fewer workers")
                for following in itertools.islice(jobs, 1):
                    start(following)
                yield job, result
        finally:
            for left in under_way:
                with contextlib.suppress(ray.exceptions.RayError):  # it has ended, or Ray has
                    ray.cancel(left, force=True)


_held: tuple[str, Any] = ("", None)
"""In a worker: the name of the run whose (work, shared) it holds, and these."""


def _do(name: str, setup: tuple, threads: int, job: tuple) -> Any:
    """On a worker: what comes of a job."""
    global _held
    if _held[0] != name:
        _held = ("", None)  # the old one goes before the new one comes
        _held = (name, unpack(setup))
    with threads_limited(threads):
        return outcome(*_held[1], unpack(job))
