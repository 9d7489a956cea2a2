"""A stage of training that can be killed and resumed, and its checkpoints.

Everything random in step i is drawn from a generator seeded with (seed, stage, i): a resumed run needs no more than the
weights, the optimisers' state and the number of the step to go on exactly where it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from tqdm.auto import tqdm

from .device import derive_seed
from .files import UserError, atomic_write, write_json

History = dict[str, list[float]]
"""The mean of every logged value over each epoch."""

SAVE_EVERY = 30.0
"""Seconds between two checkpoints of one stage: what a machine that disappears can cost."""


class Checkpoint:
    """The state of one stage on the disk: `<name>.json` and the safetensors file that it names, with its SHA-256.

    The tensors are written first, under a new name; renaming the JSON into place is what makes them count. So there is
    at every moment one whole checkpoint, the old one or the new one.
    """

    def __init__(self, folder: str | Path, name: str) -> None:
        self.folder, self.name = Path(folder), name
        self.index = self.folder / f"{name}.json"

    def save(self, tensors: dict[str, Tensor], **state: object) -> None:
        """Write `tensors`, then `state` (plain JSON values) with their file's name and hash.

        Raises:
            UserError: the disk is full or the folder cannot be written; the last checkpoint is still there.
        """
        content = save_tensors({key: value.detach().to("cpu").contiguous() for key, value in tensors.items()})
        digest = hashlib.sha256(content).hexdigest()
        # Two different states have different hashes, so a new file never overwrites the one the index still names.
        path = self.folder / f"{self.name}-{digest[:16]}.safetensors"
        with atomic_write(path) as file:
            file.write(content)
        write_json(self.index, signed({"file": path.name, "sha256": digest, **state}))
        for old in self.folder.glob(f"{self.name}-????????????????.safetensors"):
            if old != path:
                old.unlink(missing_ok=True)
        for part in self.folder.glob(f".{self.name}[-.]*.part"):  # of a save that was killed
            part.unlink(missing_ok=True)

    def load(self, settings: dict | None = None) -> tuple[dict[str, Tensor], dict] | None:
        """The saved tensors and state, or None where nothing was saved. With `settings`, those it must have been made with.

        Raises:
            UserError: the checkpoint is of other settings, or its files are missing, truncated or changed.
        """
        if not self.index.exists():
            return None
        try:
            state = json.loads(self.index.read_text(encoding="utf-8"))
            if state != signed(state):
                raise ValueError("its own SHA-256 differs from the recorded one")
            path = self.folder / state["file"]
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != state["sha256"]:
                raise ValueError(f"the SHA-256 of {path.name} differs from the recorded one")
            tensors = load_tensors(content)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            raise UserError(
                f"The checkpoint {self.index} is damaged ({type(error).__name__}: {error}). "
                "Remove that file to make it again; all else is kept."
            ) from error
        saved, wanted = state.get("settings") or {}, json.loads(json.dumps(settings))
        if wanted is not None and saved != wanted:
            keys = sorted(saved.keys() | wanted.keys())
            other = [f"{key} was {saved.get(key)!r}, is {wanted.get(key)!r}" for key in keys if saved.get(key) != wanted.get(key)]
            raise UserError(
                f"The checkpoint {self.index} is of other settings ({'; '.join(other)}). Use the old settings or another output folder."
            )
        return tensors, state


def signed(index: dict) -> dict:
    """A checkpoint's index with the SHA-256 of all else in it, which `Checkpoint.load` checks."""
    index = {key: value for key, value in index.items() if key != "index_sha256"}
    return {**index, "index_sha256": hashlib.sha256(json.dumps(index, sort_keys=True).encode()).hexdigest()}


def named_tensors(modules: dict[str, nn.Module]) -> dict[str, Tensor]:
    """All weights and buffers of `modules`, as "<module's name>.<key>"."""
    return {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}


class Stage:
    """The steps of one training stage: `for step in stage:` with a progress bar, a log, checkpoints and resumption.

    Args:
        name: of the stage and of its checkpoint's files.
        modules: what is trained, by name; saved with their buffers.
        optimizers: their optimisers, by name; saved until the stage has ended.
        images: how many images an epoch draws; with `batch_size` it gives the steps an epoch.
        batch_size: images a step.
        epochs: how many epochs.
        seed: of everything random in the stage.
        settings: what a checkpoint must have been made with to be taken up again.
        folder: where checkpoints go; None keeps nothing.
        progress: show a progress bar.
    """

    def __init__(
        self,
        name: str,
        modules: dict[str, nn.Module],
        optimizers: dict[str, torch.optim.Optimizer],
        *,
        images: int,
        batch_size: int,
        epochs: int,
        seed: int,
        settings: dict,
        folder: str | Path | None = None,
        progress: bool = True,
    ) -> None:
        self.name, self.modules, self.optimizers, self.seed = name, modules, optimizers, seed
        self.images, self.batch_size = images, min(batch_size, images)
        self.steps_per_epoch = max(1, images // self.batch_size)
        self.epochs, self.progress = epochs, progress
        start = hashlib.sha256()
        for value in named_tensors(modules).values():
            start.update(value.detach().cpu().contiguous().numpy().tobytes())
        self.settings = {"stage": name, "seed": seed, "images": images, "start": start.hexdigest()[:16], **settings}
        self.checkpoint = Checkpoint(folder, name) if folder is not None else None
        self.history: History = {}
        self._sums: dict[str, Tensor | float] = {}

    def __iter__(self) -> Iterator[int]:
        start, total = self._restore(), self.epochs * self.steps_per_epoch
        last_save = time.monotonic()
        bar = tqdm(total=total, initial=start, desc=self.name, unit="step", disable=not self.progress or start == total)
        with _deferred_interrupt() as interrupted, bar:
            for step in range(start, total):
                yield step
                done = step + 1
                if done % self.steps_per_epoch == 0:
                    self._end_epoch(bar)
                bar.update()
                if self.checkpoint and (done == total or interrupted() or time.monotonic() - last_save >= SAVE_EVERY):
                    self._save(done, finished=done == total)
                    last_save = time.monotonic()
                if interrupted():
                    raise KeyboardInterrupt
        for module in self.modules.values():
            module.eval()

    def rows(self, step: int) -> np.ndarray:
        """The rows of the images of this step: each epoch is one random order of all images, cut into batches."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if getattr(self, "_epoch", None) != epoch:
            self._epoch, self._order = epoch, self.generator("order", epoch).permutation(self.images)
        return self._order[position * self.batch_size : (position + 1) * self.batch_size]

    def generator(self, *parts: int | str) -> np.random.Generator:
        """A generator for `parts` of this stage alone, whatever was drawn before."""
        return np.random.default_rng(derive_seed(self.seed, self.name, *parts))

    def log(self, **values: Tensor | float) -> None:
        """Add this step's values; their means over the epoch become `history`. Waits for no accelerator."""
        for key, value in values.items():
            self._sums[key] = self._sums.get(key, 0.0) + (value.detach() if isinstance(value, Tensor) else value)

    def _end_epoch(self, bar: tqdm) -> None:
        for key, total in self._sums.items():
            self.history.setdefault(key, []).append(float(total) / self.steps_per_epoch)
        self._sums = {}
        bar.set_postfix({key: f"{values[-1]:.4f}" for key, values in self.history.items()})

    def _save(self, done: int, finished: bool) -> None:
        tensors = named_tensors(self.modules)
        if not finished:  # the optimisers' state is three quarters of the bytes and of no use once the stage has ended
            for name, optimizer in self.optimizers.items():
                for index, state in optimizer.state_dict()["state"].items():
                    for key, value in state.items():
                        tensors[f"optimizer.{name}.{index}.{key}"] = torch.as_tensor(value)
        sums = {key: float(value) for key, value in self._sums.items()}
        self.checkpoint.save(tensors, settings=self.settings, step=done, history=self.history, sums=sums)

    def _restore(self) -> int:
        loaded = self.checkpoint.load(self.settings) if self.checkpoint else None
        if loaded is None:
            return 0
        tensors, state = loaded
        for name, module in self.modules.items():
            load_module(module, tensors, name, self.checkpoint.index)
        self.history, self._sums = state["history"], dict(state["sums"])
        if state["step"] == self.epochs * self.steps_per_epoch:
            return state["step"]
        for name, optimizer in self.optimizers.items():
            saved: dict[int, dict[str, Tensor]] = {}
            for key, value in tensors.items():
                if key.startswith(f"optimizer.{name}."):
                    index, field = key.removeprefix(f"optimizer.{name}.").split(".")
                    saved.setdefault(int(index), {})[field] = value
            optimizer.load_state_dict({**optimizer.state_dict(), "state": saved})
            for parameter, moments in optimizer.state.items():
                for key, value in moments.items():
                    if value.shape == parameter.shape:  # the fused kernel goes through memory: moments must lie there as the weights do
                        moments[key] = torch.empty_like(parameter).copy_(value)
        return state["step"]


def load_module(module: nn.Module, tensors: dict[str, Tensor], name: str, source: object) -> None:
    """Fill `module` with the tensors called `<name>.…`.

    Raises:
        UserError: a tensor is missing or has another shape than the module's.
    """
    weights = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"{source} does not fit the {name}: {str(error).splitlines()[-1].strip()}") from error


@contextlib.contextmanager
def _deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Let a first Ctrl-C wait for the end of the step, so that the state that is saved is a whole one; a second one acts at once."""
    seen = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield seen.is_set
        return

    def note(number: int, frame: object) -> None:
        if seen.is_set():
            raise KeyboardInterrupt
        seen.set()

    before = signal.signal(signal.SIGINT, note)
    try:
        yield seen.is_set
    finally:
        signal.signal(signal.SIGINT, before)
