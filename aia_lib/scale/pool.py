"""Jobs in processes of this machine, one of joblib's loky executors for each process, so that a killed one costs its own job only."""

from __future__ import annotations

import contextlib
import functools
import io
import mmap
import os
import pickle
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from itertools import islice
from multiprocessing import resource_tracker
from typing import Any

import numpy as np
from joblib.externals.loky.process_executor import BrokenProcessPool, ProcessPoolExecutor

from ..machine.files import UserError, one_line

Work = Callable[[Any, Any], Any]
"""Of what all jobs share, and of a job, to a result. A function of a module, so that other processes can import it."""


@dataclass(frozen=True)
class Failure:
    """What stands in the place of the result of a job that could not be done: why, in one sentence, and the traceback, or ""."""

    reason: str
    details: str = ""


def outcome(work: Work, shared: Any, job: Any) -> Any:
    """`work(shared, job)`, or a `Failure`."""
    try:
        return work(shared, job)
    except UserError as error:
        return Failure(str(error))
    except MemoryError:
        return Failure("out of memory; take fewer workers")
    except Exception as error:
        return Failure(one_line(error), traceback.format_exc())


@contextlib.contextmanager
def threads_limited(count: int) -> Iterator[None]:
    """Inside, torch and the libraries of numpy and scikit-learn use `count` threads."""
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with threadpool_limits(count):
            yield
    finally:
        torch.set_num_threads(before)


class _Pickler(pickle.Pickler):
    """Sends the name of a memory-mapped file in the place of its content, where the file can be seen at the other end."""

    by_name = True

    def reducer_override(self, value: Any) -> Any:
        if type(value) is np.memmap:
            if self.by_name and isinstance(value.base, mmap.mmap) and value.filename and value.flags.c_contiguous:
                return np.memmap, (os.path.abspath(value.filename), value.dtype, "r", value.offset, value.shape)
            return np.asarray(value).__reduce_ex__(5)
        return NotImplemented


def pack(value: Any, by_name: bool = True) -> tuple[list[str] | None, bytes, list[np.ndarray]]:
    """What `unpack` makes `value` of again, in another process (on this machine: `by_name`): sys.path, a pickle, its arrays beside it."""
    stream, buffers = io.BytesIO(), []
    pickler = _Pickler(stream, protocol=5, buffer_callback=buffers.append)
    pickler.by_name = by_name
    pickler.dump(value)
    return sys.path if by_name else None, stream.getvalue(), [np.frombuffer(buffer.raw(), dtype=np.uint8) for buffer in buffers]


def unpack(packed: tuple[list[str] | None, bytes, list[np.ndarray]]) -> Any:
    """See `pack`."""
    path, content, buffers = packed
    if path is not None:
        sys.path[:] = path
    return pickle.loads(content, buffers=buffers)


def in_processes(work: Work, shared: Any, jobs: Iterable[Any], workers: int, threads: int = 1) -> Iterator[tuple[Any, Any]]:
    """Yield (job, `work(shared, job)`) for each job, in the order of finishing; in the place of a result a `Failure`, and go on.

    Closing the iterator, or an exception in its caller, ends all work that is under way; so does the death of this process. `shared` is
    sent to each of the `workers` processes once, arrays that are memory-mapped files by their names; jobs are drawn no sooner than they
    can be started; each process has `threads`.
    """
    setup, jobs = pack((work, shared)), iter(jobs)
    environment = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads)) | {"PYTHONSAFEPATH": "1"}
    under_way: dict[Future, tuple[Any, ProcessPoolExecutor]] = {}

    def start(job: Any, pool: ProcessPoolExecutor | None) -> None:
        with _quiet_start():
            pool = pool or ProcessPoolExecutor(1, initializer=_prepare, initargs=(os.getpid(), setup), env=environment)
            under_way[pool.submit(_do, job)] = job, pool

    try:
        for job in islice(jobs, workers):
            start(job, None)
        while under_way:
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                job, pool = under_way.pop(future)
                result, lost = _result(future)
                if lost:
                    pool.shutdown(kill_workers=True)
                following = next(jobs, under_way)  # `under_way`: none, for a job may be anything else
                if following is not under_way:
                    start(following, None if lost else pool)
                elif not lost:
                    pool.shutdown(wait=False)
                yield job, result
    finally:
        for _, pool in under_way.values():
            pool.shutdown(kill_workers=True)


def _result(future: Future) -> tuple[Any, bool]:
    """What came of a job, and whether its process was lost over it."""
    try:
        return future.result(), False
    except BrokenProcessPool as error:
        how = re.search(r"exit codes of the workers are \{(.*?)\}", str(error))
        return Failure(f"its process ended ({how[1] if how else one_line(error)}), mostly for want of memory; take fewer workers"), True
    except Exception as error:
        return Failure(f"its result cannot be sent ({one_line(error)})", "".join(traceback.format_exception(error))), False


@contextlib.contextmanager
def _quiet_start() -> Iterator[None]:
    """Processes that start inside leave Ctrl-C to this one, and run no module that happens to lie in the current folder."""
    safe, before = os.environ.get("PYTHONSAFEPATH", ""), None  # "": as if it were not set
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        if hasattr(signal, "pthread_sigmask"):
            resource_tracker.ensure_running()  # starts with the first process, and would unblock SIGINT after that
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited
        yield
    finally:
        os.environ["PYTHONSAFEPATH"] = safe
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


_setup: Any = None
"""In a worker: (work, shared), packed."""


def _prepare(parent: int, setup: Any) -> None:
    """In a new worker, before its first job: keep the setup, and look from now on whether the parent still lives."""
    global _setup

    def end_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(0)

    _setup = setup
    threading.Thread(target=end_with_parent, daemon=True).start()


@functools.cache
def _task() -> Callable[[Any], Any]:
    return functools.partial(*unpack(_setup))


def _do(job: Any) -> Any:
    """In a worker: what comes of a job, or of unpacking what all share."""
    return outcome(lambda task, job: task()(job), _task, job)
