"""Jobs for the workers of `test_sweep`, in a module of their own: a worker imports no more than what they need."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

from aia_lib.machine.files import UserError


def halve(shared: dict, job: int) -> float:
    """Half of even numbers."""
    if job == shared["kills"]:
        os.kill(os.getpid(), signal.SIGKILL)
    if job == shared["unpicklable"]:
        return threading.Lock()
    if job % 2:
        raise UserError(f"{job} is odd")
    return shared["images"][0].sum() + job / 2


def placed(shared: Path, job: int) -> tuple[int, int, bool]:
    """Where and how a job is done; job 1 never ends."""
    (shared / str(os.getpid())).touch()
    if job == 1:
        time.sleep(600)
    import torch

    return os.getpid(), torch.get_num_threads(), signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
