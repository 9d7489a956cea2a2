"""The engine `local`: worker processes of this machine."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import mmap
import os
import pickle
import queue
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ..machine.files import UserError, cores, one_line
from .engines import Failure, Work, _outcome, _threads


class LocalEngine:
    """Worker processes of this machine, each with its share of the cores; with one worker, this process.

    The share does not depend on how many jobs are left: sums over more threads are rounded otherwise, and a resumed sweep shall
    end with the same figures.

    Args:
        workers: how many jobs at once; None takes the number of cores.

    Raises:
        UserError: `workers` is not a whole number of at least 1.
    """

    sees_folders = True

    def __init__(self, workers: int | None = None) -> None:
        if workers is not None and (type(workers) is not int or workers < 1):
            raise UserError(f"The number of workers must be a whole number of at least 1, not {workers!r}.")
        self.workers = workers or cores()

    def run(self, work: Work, shared: Any, jobs: Iterable[Any], at_once: int | None = None) -> Iterator[tuple[Any, Any]]:
        """See `Engine.run`."""
        workers = min(self.workers, at_once or self.workers)
        threads = max(1, cores() // workers)
        if workers == 1:
            with _threads(threads):
                for job in jobs:
                    yield job, _outcome(work, shared, job)
        else:
            yield from _in_processes(work, shared, iter(jobs), workers, threads)


# --- worker processes -------------------------------------------------------------------------------------------------
# Not multiprocessing: its children import the user's script again, and stay behind when their parent is killed. Here a child reads pickles
# on stdin and answers on stdout; as soon as stdin is closed, whatever it is doing, it ends.

_CHILD = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from aia_lib.scale.engines import serve; serve()"


class _Pickler(pickle.Pickler):
    """Sends the name of a memory-mapped file in the place of its content."""

    def reducer_override(self, value: Any) -> Any:
        if type(value) is np.memmap and isinstance(value.base, mmap.mmap) and value.filename and value.flags.c_contiguous:
            return np.memmap, (os.fspath(value.filename), value.dtype, "r", value.offset, value.shape)
        return NotImplemented


def _packed(value: Any) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream, protocol=5).dump(value)
    return stream.getvalue()


class _Worker:
    """A process, the job that it has, and a thread that passes on its answers: (worker, outcome), or (worker, None) when it has ended."""

    def __init__(self, threads: int, setup: tuple[Any, Any], heard: queue.SimpleQueue) -> None:
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        self.process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | dict.fromkeys(names, str(threads)),
            start_new_session=True,  # a terminal's Ctrl-C is the parent's, which ends this process
        )
        self.job: Any = None
        self.trouble = ""
        threading.Thread(target=self._listen, args=(heard,), daemon=True).start()
        self.say((threads, *setup))

    def _listen(self, heard: queue.SimpleQueue) -> None:
        try:
            while True:
                heard.put((self, pickle.load(self.process.stdout)))
        except EOFError:
            pass
        except Exception as error:  # it ended in the middle of an answer, or answered with something that cannot be read here
            self.trouble = one_line(error)
        heard.put((self, None))

    def why_it_ended(self) -> str:
        """In words. To be called when it has ended, or its answer could not be read."""
        try:
            code = self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            return f"its process gave an answer that cannot be read ({self.trouble})"
        if code < 0:
            return f"its process was killed (signal {-code}), mostly for want of memory; take fewer workers"
        return f"its process ended with status {code}"

    def say(self, message: Any) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has ended: `_listen` tells
            self.process.stdin.write(_packed(message))
            self.process.stdin.flush()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()


def _in_processes(work: Work, shared: Any, jobs: Iterator[Any], workers: int, threads: int) -> Iterator[tuple[Any, Any]]:
    heard: queue.SimpleQueue[tuple[_Worker, Any]] = queue.SimpleQueue()
    crew: list[_Worker] = []

    def hire(job: Any) -> None:
        crew.append(_Worker(threads, (work, shared), heard))
        crew[-1].job = job
        crew[-1].say((job,))

    try:
        for job in itertools.islice(jobs, workers):
            hire(job)
        while crew:
            worker, outcome = heard.get()
            if worker not in crew:  # it was sent home; this is its end
                continue
            done = worker.job
            following = next(jobs, heard)  # `heard`: none, for a job may be anything else
            if outcome is None:
                outcome = (Failure(worker.why_it_ended()),)
                crew.remove(worker)
                worker.end()
                if following is not heard:
                    hire(following)
            elif following is not heard:
                worker.job = following
                worker.say((following,))
            else:
                crew.remove(worker)
                worker.end()
            yield done, outcome[0]
    finally:
        for worker in crew:
            worker.end()


def serve() -> None:
    """The life of a worker: read what all jobs share, then do the jobs that come on stdin and answer with what they give."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    inbox: queue.SimpleQueue = queue.SimpleQueue()

    def read() -> None:
        try:
            while True:
                inbox.put(pickle.load(sys.stdin.buffer))
        except EOFError:  # the parent has gone, or needs this process no more
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)

    threading.Thread(target=read, daemon=True).start()
    try:
        threads, work, shared = inbox.get()
        with _threads(threads):
            while True:
                (job,) = inbox.get()
                outcome = _outcome(work, shared, job)
                try:
                    answer = _packed((outcome,))
                except Exception as error:
                    answer = _packed((Failure(f"its result cannot be sent ({one_line(error)})", traceback.format_exc()),))
                answers.write(answer)
                answers.flush()
    except BrokenPipeError:  # the parent has gone
        os._exit(0)
    except BaseException:  # not by the interpreter's own way out, which would wait for the thread that reads
        traceback.print_exc()
        os._exit(1)
