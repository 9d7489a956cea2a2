"""The machine: its cores, files that are never left half written, and the one exception that means "the user can mend this"."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any


class UserError(Exception):
    """Something the user can mend. Its one-line message names the value and the way out.

    The command line prints it on stderr without a traceback and exits with status 2.
    """


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def explain_os_errors(path: str | os.PathLike) -> Iterator[None]:
    """Turn a full disk, a missing permission and a file in a folder's place at `path` into a `UserError`; let every other error through."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):  # a full disk, a quota, RLIMIT_FSIZE: one problem to the user
            raise UserError(
                f"{path}: no space left on the device ({os.strerror(error.errno)}). "
                "Free some, or choose another folder; what was finished before is kept."
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise UserError(f"{error.filename or path}: permission denied. Choose a folder that you can write.") from error
        if error.errno in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
            raise UserError(f"{path}: there is a file in the place of a folder, or the other way round. Choose another place.") from error
        raise


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside `path`; on success flush it to the disk and rename it to `path`.

    A reader sees the old content or the new one, whole, even if the process is killed at any moment.

    Raises:
        UserError: the disk is full or the folder cannot be written. `path` is then as it was.
    """
    path = Path(path)
    with explain_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        try:
            with os.fdopen(descriptor, mode, encoding=None if "b" in mode else "utf-8") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            mask = os.umask(0)
            os.umask(mask)
            os.chmod(temporary, 0o666 & ~mask)  # mkstemp makes files private; results are meant to be read
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise


@contextlib.contextmanager
def locked(folder: str | os.PathLike, message: str) -> Iterator[None]:
    """Keep every other process out of `folder`. The lock leaves no file and ends with the process, however it ends.

    Where there are no such locks (Windows, some network file systems), nobody is kept out.

    Args:
        folder: an existing one.
        message: what a second process is told.

    Raises:
        UserError: another process holds the lock; its text is `message`.
    """
    try:
        import fcntl
    except ImportError:  # Windows: two processes at once are the user's to avoid
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems have no locks
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UserError(message) from error
        yield
    finally:
        os.close(handle)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_write(path, "w") as file:
        file.write(text)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write `value` as indented JSON, atomically. NaN and infinity are refused: they are not JSON."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def sha256(path: str | os.PathLike) -> str:
    """The SHA-256 of a file's content, as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def one_line(error: BaseException) -> str:
    """An exception as one line: its type and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__


def whole_number(name: str, value: Any, least: int = 1) -> int:
    """`value`, where it is a whole number of at least `least`; else a UserError that calls it `name`."""
    if type(value) is not int or value < least:
        raise UserError(f"{name} must be a whole number of at least {least}, not {value!r}.")
    return value


def with_interval(value: float, interval: Sequence[float] | None = None) -> str:
    """0.862 and (0.851, 0.873) as "0.862 [0.851, 0.873]"."""
    return f"{value:.3f}" if interval is None else f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"
