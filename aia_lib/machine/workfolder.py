"""A folder that long work writes into, stopped and gone on with at will: what it may hold, who may write, how long the work took.

A piece of the work is finished when its file has its name: it is written under another one, flushed and renamed. Nothing else has to agree
with it, so the work may be killed at any moment.
"""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .files import UserError, explain_os_errors, locked, write_json


class WorkFolder:
    """The folder of one piece of work of a kind ("run", "sweep").

    `writing` keeps its settings and the seconds of work so far in KIND.json: {KIND: settings, "seconds": …}. Work that has a file of its
    own for them uses `check`, `alone` and `compare`.

    Args:
        path: of the folder; made when it is written.
        kind: what it holds, one word.
        file: the name of the file by which it is known; None takes KIND.json.
    """

    def __init__(self, path: str | Path, kind: str, file: str | None = None) -> None:
        self.path, self.kind, self.file = Path(path), kind, Path(path) / (file or f"{kind}.json")
        self._settings: Any = None
        self._before, self._started = 0.0, time.monotonic()

    def check(self, resume: bool = True) -> None:
        """Raise a UserError where the folder holds anything else, or, without `resume`, work of this kind."""
        if self.file.exists():
            if not resume:
                raise UserError(f"{self.path} already holds a {self.kind}. Add --resume to go on with it, or choose another --out.")
        elif self.path.is_dir() and any(path.suffix != ".part" for path in self.path.iterdir()):  # .part: killed while it wrote KIND.json
            raise UserError(f"{self.path} is not empty and holds no {self.kind}. Choose another --out.")

    @contextlib.contextmanager
    def writing(self, settings: dict[str, Any], resume: bool = True) -> Iterator[None]:
        """Inside, no other process writes into the folder, and it holds work with these settings: begun here, or before.

        Args:
            settings: nested dictionaries of what JSON knows.
            resume: go on with work that the folder holds.

        Raises:
            UserError: see `check`; another process writes into the folder; it holds work with other settings; KIND.json is damaged; the
                disk is full.
        """
        self.check(resume)
        with self.alone():
            if self.file.exists():
                before, self._before = self.read()
                self.compare(before, settings)
            for part in self.path.rglob(".*.part"):  # of a killed process
                part.unlink(missing_ok=True)
            self._settings, self._started = settings, time.monotonic()
            self.note()
            yield

    def read(self) -> tuple[dict[str, Any], float]:
        """The settings of the work that the folder holds, and its seconds so far. UserError where KIND.json is damaged."""
        try:
            state = json.loads(self.file.read_text(encoding="utf-8"))
            return dict(state[self.kind]), float(state.get("seconds", 0.0))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{self.file} is damaged ({error}); choose another --out, or remove that folder.") from error

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Inside, the folder is there, and no other process writes into it; see `writing` for the errors."""
        taken = f"Another process is writing its {self.kind} into {self.path}. Wait until it ends, stop it, or choose another --out."
        with explain_os_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            with locked(self.path, taken):
                yield

    def compare(self, before: dict[str, Any], settings: dict[str, Any]) -> None:
        """Raise a UserError that names the differences where the work in the folder has other settings."""
        if differences := settings_differences(before, settings):
            raise UserError(f"{self.path} holds another {self.kind} ({'; '.join(differences)}). Use its settings, or choose another --out.")

    @property
    def seconds(self) -> float:
        """Seconds of work, over all sessions."""
        return self._before + time.monotonic() - self._started

    def note(self) -> None:
        """Write the seconds down; to be called whenever something is finished."""
        write_json(self.file, {self.kind: self._settings, "seconds": round(self.seconds, 1)})


def settings_differences(before: object, now: object, name: str = "") -> list[str]:
    """How the settings that a folder was written with differ from those of now, one phrase each; empty where they are equal.

    Args:
        before, now: nested dictionaries as `as_dict` gives them, of a run or a sweep: its profile, its "attribute", "split_seed" and
            the fingerprint of its "faces".
        name: of the setting that both are, in dots; the whole has none.
    """
    if isinstance(before, dict) and isinstance(now, dict):
        keys = sorted(before.keys() | now.keys())
        return [text for key in keys for text in settings_differences(before.get(key), now.get(key), f"{name}.{key}".lstrip("."))]
    if before == now:
        return []
    if name == "faces":  # their fingerprints would tell nobody anything
        return ["other faces: another data set, --limit or --size, or images or labels have changed"]
    return [f"{name} was {before!r}, is {now!r}"]


@contextlib.contextmanager
def stop_on_sigterm() -> Iterator[None]:
    """Inside, a polite kill is treated like Ctrl-C, so that a scheduler's stop ends in a checkpoint, too."""

    def stop(number: int, frame: object) -> None:
        if signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None):  # a background job of a script: Ctrl-C is not for it, this is
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
