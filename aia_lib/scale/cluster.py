"""Reaching a Ray cluster, or starting a Ray on this machine, and what is sent to its workers.

Needs the extra `scale`. Tested on one machine with two workers, one of which is killed; neither a cluster of several machines nor a GPU
has been at hand. Every node needs the same Python, aia-book and Ray.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import mmap
import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..machine.files import UserError, cores

INSTALL = 'pip install "aia-book[scale]"'

MAX_LOST = 3
"""So often one piece of work may lose its worker before it counts as failed: the piece itself may be what kills them."""

REACHED_WITHIN = 5.0
"""Seconds that a cluster has to answer."""


# --- Ray itself -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cluster:
    """The Ray that this process is connected to.

    Attributes:
        cpus, gpus: of all nodes.
        node_cpus: of the largest node.
        one_machine: whether all nodes are this machine, so that its folders are theirs.
    """

    cpus: int
    gpus: int
    node_cpus: int
    one_machine: bool

    def threads(self, workers: int) -> int:
        """The CPUs of one of `workers` workers: its share, at most a node's."""
        return max(1, min(self.cpus // workers, self.node_cpus))

    def gpu_share(self, workers: int) -> float:
        """The GPUs of one of `workers` workers: one, or such a part of one that whole workers fit on each. 0 where there are none."""
        return 1 / math.ceil(workers / self.gpus) if self.gpus else 0


def connect(address: str | None = None, workers: int | None = None) -> Cluster:
    """Connect this process to Ray: to the one it is connected to already, to a cluster, or to one that is started here for it.

    A Ray that is started here ends with this process, and its workers at once even when that is killed (SIGKILL), though two idle agents
    of Ray then stay for a while.

    Args:
        address: host:port of a cluster's head node, or "auto" for the one that runs on this machine; None takes RAY_ADDRESS, and
            where that is not set, starts a Ray.
        workers: a Ray that is started here has at least so many CPUs.

    Raises:
        UserError: Ray is not installed, the address is none, or nothing that answers is there.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError(f"The engine ray needs Ray, which is not installed here ({error}): {INSTALL}") from error
    if workers is not None and (type(workers) is not int or workers < 1):
        raise UserError(f"The number of workers must be a whole number of at least 1, not {workers!r}.")
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if not ray.is_initialized():
        _start(ray, address, workers)
    elif address not in ("local", "auto", ray.get_runtime_context().gcs_address):
        raise UserError(f"This process is connected to the Ray at {ray.get_runtime_context().gcs_address} already, not to {address}.")
    nodes = [node for node in ray.nodes() if node["Alive"]]
    resources = [node["Resources"] for node in nodes]
    cpus = [int(resource.get("CPU", 0)) for resource in resources]
    if not sum(cpus):
        raise UserError(f"The Ray at {address} has no CPUs to work with; add nodes to it.")
    here = ray.util.get_node_ip_address()
    return Cluster(
        cpus=sum(cpus),
        gpus=int(sum(resource.get("GPU", 0) for resource in resources)),
        node_cpus=max(cpus),
        one_machine=all(node["NodeManagerAddress"] == here for node in nodes),
    )


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
            socket.create_connection((host.strip("[]"), int(port)), timeout=REACHED_WITHIN).close()
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


@contextlib.contextmanager
def _told_only_errors(name: str) -> Iterator[None]:
    """Inside, the logger `name` is silent about what is no error: Ray's libraries tell every step that they take."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


class _Pickler(pickle.Pickler):
    """Arrays go out of band, so that Ray's workers share them; of a memory-mapped file the name goes, where the workers see the file."""

    by_name = False

    def reducer_override(self, value: Any) -> Any:
        if type(value) is np.memmap:
            if self.by_name and isinstance(value.base, mmap.mmap) and value.filename and value.flags.c_contiguous:
                return np.memmap, (os.path.abspath(value.filename), value.dtype, "r", value.offset, value.shape)
            return np.asarray(value).__reduce_ex__(5)
        return NotImplemented


def pack(value: Any, by_name: bool) -> tuple[list[str] | None, bytes, list[np.ndarray]]:
    """What `unpack` makes `value` of again, in another process. `by_name`: that process is on this machine."""
    stream, buffers = io.BytesIO(), []
    pickler = _Pickler(stream, protocol=5, buffer_callback=buffers.append)
    pickler.by_name = by_name
    pickler.dump(value)
    return sys.path if by_name else None, stream.getvalue(), [np.frombuffer(buffer.raw(), dtype=np.uint8) for buffer in buffers]


def unpack(packed: tuple[list[str] | None, bytes, list[np.ndarray]]) -> Any:
    """See `pack`. Arrays are read-only where Ray shares them."""
    path, content, buffers = packed
    if path is not None:
        sys.path[:] = path
    return pickle.loads(content, buffers=buffers)
