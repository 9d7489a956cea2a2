"""Engines: where the jobs of a sweep are done.

An engine knows nothing of sweeps. It is given a function, something that all jobs share, and jobs; it calls `work(shared, job)` for
each of them, wherever it likes, and yields each job with its result, or with a `Failure`, as it finishes. What the results are
worth keeping, and where, is its caller's business: an engine writes no files.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from ..machine.files import UserError, one_line


@dataclass(frozen=True)
class Failure:
    """What an engine yields in the place of a result.

    Attributes:
        reason: in one sentence.
        details: the traceback, or "".
    """

    reason: str
    details: str = ""


Work = Callable[[Any, Any], Any]
"""Of what all jobs share, and of a job, to a result. A function of a module, so that other processes can import it."""


class Engine(Protocol):
    """Does jobs.

    Attributes:
        sees_folders: the folders of this machine can be read and written where the jobs are done. Where they cannot, jobs keep no
            checkpoints: one that is interrupted starts again.
    """

    sees_folders: bool

    def run(self, work: Work, shared: Any, jobs: Iterable[Any], at_once: int | None = None) -> Iterator[tuple[Any, Any]]:
        """Yield (job, `work(shared, job)`) for each job, in the order of finishing; in the place of a result a `Failure`, and go on.

        Args:
            work: what to do.
            shared: sent to each worker once.
            jobs: drawn from no sooner than they can be started: each may hold some megabytes.
            at_once: do so many at once at most, each with more threads.

        Closing the iterator, or an exception in its caller, ends all work that is under way.
        """
        ...


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
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


def _outcome(work: Work, shared: Any, job: Any) -> Any:
    try:
        return work(shared, job)
    except UserError as error:
        return Failure(str(error))
    except MemoryError:
        return Failure("out of memory; take fewer workers")
    except Exception as error:
        return Failure(one_line(error), traceback.format_exc())
