"""Rendering shards, in this process or in several.

Not multiprocessing: its children import the user's script again, and stay behind when their parent is killed. Here a child reads the
numbers of shards on stdin and answers on stdout; when either is closed, it ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aia_lib.machine.files import UserError

from .shards import Settings, write_shard

_CHILD = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from aia_render.workers import serve; serve()"


def render_here(folder: Path, settings: Settings, pending: list[int], publish: Callable, tell: Callable) -> None:
    import torch
    from threadpoolctl import threadpool_limits

    from .scene import Renderer

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            renderer = Renderer(size=settings.size, device=settings.device)
            for number in pending:
                publish(number, write_shard(folder, settings, renderer, number, tell))
    finally:
        torch.set_num_threads(threads)


class _Worker:
    """A process that renders shards, and a thread that passes on what it says: (worker, line), "" when it has ended."""

    def __init__(self, folder: Path, settings: Settings, messages: queue.SimpleQueue) -> None:
        environment = os.environ | {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env=environment,
            start_new_session=True,  # a terminal's Ctrl-C is the parent's, which ends this process
        )
        self.shard: int | None = None
        self.say(json.dumps({"folder": str(folder.absolute()), "settings": asdict(settings)}))
        threading.Thread(target=self._listen, args=(messages,), daemon=True).start()

    def _listen(self, messages: queue.SimpleQueue) -> None:
        for line in self.process.stdout:
            messages.put((self, line.rstrip("\n")))
        messages.put((self, ""))

    def say(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has ended: `_listen` tells
            print(line, file=self.process.stdin, flush=True)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()


def render_in_processes(
    folder: Path, settings: Settings, pending: list[int], workers: int, publish: Callable[[int, str], None], tell: Callable[[int], Any]
) -> None:
    messages: queue.SimpleQueue[tuple[_Worker, str]] = queue.SimpleQueue()
    waiting, left = list(reversed(pending)), len(pending)
    crew = [_Worker(folder, settings, messages)]
    try:
        while left:
            worker, line = messages.get()
            kind, _, rest = line.partition(" ")
            if kind == "images":
                tell(int(rest))
                continue
            if kind == "error":
                raise UserError(rest)
            if kind not in ("ready", "done"):
                code = worker.process.wait()
                if code < 0:
                    raise UserError(f"A rendering process was killed (signal {-code}), mostly for want of memory. Take fewer workers.")
                raise RuntimeError(f"A rendering process ended with the status {code}: {line or 'see its traceback above'}")
            if kind == "done":
                publish(worker.shard, rest)
                left -= 1
            if len(crew) == 1 and kind == "ready":  # what the first had to build, in the cache of heads and kernels, the others find there
                crew += [_Worker(folder, settings, messages) for _ in range(workers - 1)]
            worker.shard = waiting.pop() if waiting else None
            if worker.shard is not None:
                worker.say(str(worker.shard))
    finally:
        for worker in crew:
            worker.end()


def serve() -> None:
    """The life of a worker: read the job, get ready, render the shards whose numbers come on stdin, say what is done."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer

    def say(line: str) -> None:
        print(line, file=answers, flush=True)

    try:
        job = json.loads(sys.stdin.readline())
        folder, settings = Path(job["folder"]), Settings(**job["settings"])
        import torch

        from .scene import Renderer

        torch.set_num_threads(1)
        renderer = Renderer(size=settings.size, device=settings.device)
        say("ready")
        for line in sys.stdin:
            say(f"done {write_shard(folder, settings, renderer, int(line), lambda images: say(f'images {images}'))}")
    except UserError as error:
        say(f"error {' '.join(str(error).split())}")
    except BrokenPipeError:  # the parent has gone; so that closing does not complain either:
        os._exit(0)
    except MemoryError:
        say("error A rendering process is out of memory. Take fewer workers.")
    except OSError as error:  # of the machine: the cache of kernels on a full disk, too many open files
        say(f"error {error.filename or 'A rendering process'}: {error.strerror or error}.")
