"""Training: the paper's three stages and its adversarial fine-tuning, each a loop over a `Stage` that can be killed and resumed.

Everything random in step i is drawn from a generator seeded with (seed, stage, i): a resumed run needs no more than the
weights, the optimisers' state and the number of the step to go on exactly where it was.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import json
import platform
import signal
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from tqdm.auto import tqdm

from .config import AdversaryConfig, AutoencoderConfig, FinetuneConfig, SiameseConfig, as_dict
from .faces import Faces
from .files import UserError, atomic_write, write_json
from .losses import adversary_loss, contrastive_loss, privacy_gain, reconstruction_loss, total_loss
from .models import CNNAdversary, Decoder, Encoder, MLPAdversary, SiameseNetwork

Read = Callable[[Tensor], Tensor]
"""What an adversary or a Siamese network reads of a batch of images (N, 1, H, W): g, or the reconstruction of g."""

History = dict[str, list[float]]
"""The mean of every logged value over each epoch."""

SAVE_EVERY = 30.0
"""Seconds between two checkpoints of one stage: what a machine that disappears can cost."""

ON_DEVICE_BYTES = 2 << 30
"""Image sets up to this size live on the accelerator as a whole; larger ones are read batch by batch."""


# --- device and precision ---------------------------------------------------------------------------------------------


def pick_device(name: str | None = None) -> torch.device:
    """CUDA where there is one, else Apple's MPS, else the CPU; or the device called `name`.

    Raises:
        UserError: `name` is not a device of this machine.
    """
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # the device "meta" has tensors and no numbers
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"There is no device {name!r} here; leave it out to take the best there is ({pick_device()}).") from error
    return device


def autocast(device: torch.device, enabled: bool = True) -> contextlib.AbstractContextManager:
    """bfloat16 arithmetic where the hardware has it (recent NVIDIA cards, CPUs with AVX512-BF16 or AMX), else float32."""
    if device.type == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported()
    else:
        has_bf16 = device.type == "cpu" and getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled) if has_bf16 else contextlib.nullcontext()


@functools.cache
def keep_freed_memory() -> None:
    """Tell glibc to keep what is freed for the next allocation instead of giving it back to the system.

    Every step on the CPU frees and takes the same tensors of some megabytes. By default glibc unmaps them, and the system has
    to clear each page again at the next step: a third of the time of training the auto-encoder. Elsewhere this does nothing.
    """
    if platform.libc_ver()[0] == "glibc":
        trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # malloc.h
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_threshold, 32 << 20)  # the most that glibc accepts
        mallopt(trim_threshold, (1 << 31) - 1)
        mallopt(top_pad, 64 << 20)


def to_images(pixels: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """Pixels uint8 (N, 1, H, W) to what networks read: float32 in [0, 1], channels last, on `device`."""
    if not isinstance(pixels, Tensor):
        pixels = torch.from_numpy(np.ascontiguousarray(pixels))
    return pixels.to(device).to(torch.float32, memory_format=torch.channels_last).div_(255)


def derive_seed(*parts: int | str) -> int:
    """One seed out of several numbers and names, the same on every machine."""
    return zlib.crc32(":".join(map(str, parts)).encode()) + 1


@contextlib.contextmanager
def seeded(*parts: int | str) -> Iterator[None]:
    """Inside, torch's global generator (used to initialise layers) is seeded with `parts`; after, it is as it was before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(*parts))
        yield


class FaceBatches:
    """Batches of one set of faces as the networks read them; on the accelerator as a whole where that fits."""

    def __init__(self, faces: Faces, device: torch.device) -> None:
        self.faces, self.device = faces, device
        if device.type == "cpu":
            keep_freed_memory()
        self.pixels = faces.images
        if isinstance(faces.images, np.ndarray) and not isinstance(faces.images, np.memmap):
            self.pixels = torch.from_numpy(faces.images)
        if device.type != "cpu" and len(faces) * faces.images[:1].nbytes <= ON_DEVICE_BYTES:
            self.pixels = torch.from_numpy(np.asarray(faces.images)).to(device)
        self.labels = torch.from_numpy(np.asarray(faces.labels(), dtype=np.float32)).to(device)

    def __len__(self) -> int:
        return len(self.faces)

    def images(self, rows: np.ndarray) -> Tensor:
        """The images in `rows`: float32 in [0, 1], (len(rows), 1, H, W)."""
        return to_images(self.pixels[rows], self.device)


# --- a stage that can be killed ---------------------------------------------------------------------------------------


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
        digest = _sha256(content)
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
            if _sha256(content) != state["sha256"]:
                raise ValueError(f"the SHA-256 of {path.name} differs from the recorded one")
            tensors = load_tensors(content)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            raise UserError(
                f"The checkpoint {self.index} is damaged ({type(error).__name__}: {error}). "
                "Remove that file to make it again; all else is kept."
            ) from error
        if settings is not None:
            self._same_settings(state.get("settings") or {}, json.loads(json.dumps(settings)))
        return tensors, state

    def _same_settings(self, saved: dict, wanted: dict) -> None:
        if saved != wanted:
            keys = sorted(saved.keys() | wanted.keys())
            other = [f"{key} was {saved.get(key)!r}, is {wanted.get(key)!r}" for key in keys if saved.get(key) != wanted.get(key)]
            raise UserError(
                f"The checkpoint {self.index} is of other settings ({'; '.join(other)}). Use the old settings or another output folder."
            )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def signed(index: dict) -> dict:
    """A checkpoint's index with the SHA-256 of all else in it, which `Checkpoint.load` checks."""
    index = {key: value for key, value in index.items() if key != "index_sha256"}
    return {**index, "index_sha256": _sha256(json.dumps(index, sort_keys=True).encode())}


def weights_digest(modules: dict[str, nn.Module]) -> str:
    """16 hexadecimal digits that name the weights and buffers of `modules`."""
    digest = hashlib.sha256()
    for module in modules.values():
        for value in module.state_dict().values():
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


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
        self.settings = {"stage": name, "seed": seed, "images": images, "start": weights_digest(modules), **settings}
        self.checkpoint = Checkpoint(folder, name) if folder is not None else None
        self.history: History = {}
        self._sums: dict[str, Tensor | float] = {}

    def __iter__(self) -> Iterator[int]:
        start = self._restore()
        total = self.epochs * self.steps_per_epoch
        if start == total:
            return
        last_save = time.monotonic()
        bar = tqdm(total=total, initial=start, desc=self.name, unit="step", disable=not self.progress)
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
        """A generator of its own for `parts` of this stage, whatever was drawn before."""
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
        tensors = {f"{name}.{key}": value for name, module in self.modules.items() for key, value in module.state_dict().items()}
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
            for module in self.modules.values():
                module.eval()
            return state["step"]
        for name, optimizer in self.optimizers.items():
            saved: dict[int, dict[str, Tensor]] = {}
            for key, value in tensors.items():
                if key.startswith(f"optimizer.{name}."):
                    index, field = key.removeprefix(f"optimizer.{name}.").split(".")
                    saved.setdefault(int(index), {})[field] = value
            optimizer.load_state_dict({**optimizer.state_dict(), "state": saved})
            for parameter, own in optimizer.state.items():
                for key, value in own.items():
                    if value.shape == parameter.shape:  # the fused kernel goes through memory: moments must lie there as the weights do
                        own[key] = torch.empty_like(parameter).copy_(value)
        return state["step"]


def load_module(module: nn.Module, tensors: dict[str, Tensor], name: str, source: object) -> None:
    """Fill `module` with the tensors called `<name>.…`.

    Raises:
        UserError: a tensor is missing or has another shape than the module's.
    """
    own = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
    try:
        module.load_state_dict(own)
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


# --- the stages -------------------------------------------------------------------------------------------------------


def adam(parameters: Iterable, learning_rate: float, device: torch.device) -> torch.optim.Adam:
    """Adam, as one fused kernel where torch has it: on the CPU it takes a fifteenth of the plain one's time."""
    return torch.optim.Adam(parameters, lr=learning_rate, fused=device.type in ("cpu", "cuda") or None)


def build(factory: Callable[[], nn.Module], device: torch.device, *seed: int | str) -> nn.Module:
    """A network with weights initialised from `seed`, on `device`, its convolutions laid out channels last."""
    with seeded(*seed):
        module = factory()
    return module.to(device, memory_format=torch.channels_last) if any(p.ndim == 4 for p in module.parameters()) else module.to(device)


def stage_settings(faces: Faces, config: object) -> dict:
    """What a stage's checkpoint must have been made with to be taken up again, for `Stage`: the faces and the stage's settings.

    Args:
        faces: what the stage learns from.
        config: the stage's settings, a dataclass.

    Returns:
        The source ("data"), 16 digits of the faces' fingerprint ("faces"), the images' side in pixels ("size"), and each field of
        `config`. Which attribute is the private one is not told: a stage that learns it adds ``"attribute": faces.attribute``.
    """
    return {"data": faces.source, "faces": faces.fingerprint[:16], "size": faces.size, **as_dict(config)}


def train_autoencoder(
    faces: Faces,
    encoder: Encoder,
    decoder: Decoder,
    config: AutoencoderConfig,
    *,
    seed: int = 0,
    folder: str | Path | None = None,
    progress: bool = True,
) -> History:
    """Stage 1, Eq. 5: encoder and decoder learn to reproduce the images. No label is used."""
    device = _device_of(encoder)
    data = FaceBatches(faces, device)
    optimizer = adam([*encoder.parameters(), *decoder.parameters()], config.learning_rate, device)
    stage = Stage(
        "autoencoder",
        {"encoder": encoder, "decoder": decoder},
        {"adam": optimizer},
        images=len(data),
        batch_size=config.batch_size,
        epochs=config.epochs,
        seed=seed,
        settings=stage_settings(faces, config),
        folder=folder,
        progress=progress,
    )
    for step in stage:
        images = data.images(stage.rows(step))  # (B, 1, H, W)
        with autocast(device):
            logits = decoder(encoder(images))  # (B, 1, H, W)
        loss = reconstruction_loss(logits.float(), images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        stage.log(reconstruction=loss)
    return stage.history


def train_adversary(
    faces: Faces,
    adversary: CNNAdversary | MLPAdversary,
    read: Read,
    config: AdversaryConfig,
    *,
    seed: int = 0,
    folder: str | Path | None = None,
    name: str = "adversary",
    progress: bool = True,
) -> History:
    """Stage 2, Eq. 6: the adversary learns the private attribute from what it reads. What it reads does not move."""
    device = _device_of(adversary)
    adversary.requires_grad_(True)  # a fine-tuning that was interrupted leaves it frozen
    data = FaceBatches(faces, device)
    optimizer = adam(adversary.parameters(), config.learning_rate, device)
    stage = Stage(
        name,
        {"adversary": adversary},
        {"adam": optimizer},
        images=len(data),
        batch_size=config.batch_size,
        epochs=config.epochs,
        seed=seed,
        settings={**stage_settings(faces, config), "attribute": faces.attribute},
        folder=folder,
        progress=progress,
    )
    for step in stage:
        rows = stage.rows(step)
        labels = data.labels[rows]  # (B,)
        with torch.no_grad():
            g = read(data.images(rows))  # (B, k)
        with autocast(device):
            logits = adversary(g)  # (B,)
        loss = adversary_loss(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        stage.log(adversary=loss, accuracy=_accuracy(logits, labels))
    return stage.history


def train_siamese(
    faces: Faces,
    siamese: SiameseNetwork,
    read: Read,
    config: SiameseConfig,
    *,
    seed: int = 0,
    folder: str | Path | None = None,
    name: str = "siamese",
    progress: bool = True,
) -> History:
    """Stage 3, Eq. 7: the Siamese network learns from pairs whether two images show one person."""
    device = _device_of(siamese)
    siamese.requires_grad_(True)
    data = FaceBatches(faces, device)
    optimizer = adam(siamese.parameters(), config.learning_rate, device)
    stage = Stage(
        name,
        {"siamese": siamese},
        {"adam": optimizer},
        images=len(data),
        batch_size=config.batch_size,
        epochs=config.epochs,
        seed=seed,
        settings=stage_settings(faces, config),
        folder=folder,
        progress=progress,
    )
    draw = PairBatches(faces, stage, stage.batch_size, config.impostors)
    siamese.train()
    for step in stage:
        a, b, different = draw(step)
        with torch.no_grad():
            g = read(data.images(np.concatenate([a, b])))  # (2B, k)
        with autocast(device):
            z = siamese(g)  # (2B, 128)
        z_a, z_b = z.float().chunk(2)  # (B, 128) each
        loss = contrastive_loss(z_a, z_b, torch.from_numpy(different).to(z_a), config.margin)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        stage.log(siamese=loss)
    return stage.history


def finetune(
    faces: Faces,
    encoder: Encoder,
    decoder: Decoder,
    adversary: nn.Module,
    siamese: SiameseNetwork,
    config: FinetuneConfig,
    adversary_config: AdversaryConfig,
    siamese_config: SiameseConfig,
    *,
    seed: int = 0,
    folder: str | Path | None = None,
    name: str = "finetune",
    progress: bool = True,
) -> History:
    """Stage 4, Eq. 8: min over encoder, decoder (and Siamese), max over the adversary, of gamma L_AE + alpha L_Siamese - beta L_Adv.

    "alternating": each step the adversary first takes `adversary_steps` steps on g as it is now, then encoder, decoder and
    Siamese take one step down L_Total. "frozen": adversary and Siamese stay as stages 2 and 3 left them.
    With alpha = 0 the Siamese takes no part: AIA\\T.
    """
    device = _device_of(encoder)
    data = FaceBatches(faces, device)
    alternating, latent, task = config.adversary == "alternating", config.attach == "latent", config.alpha > 0

    learners = [{"params": [*encoder.parameters(), *decoder.parameters()], "lr": config.learning_rate}]
    if alternating and task:
        learners.append({"params": siamese.parameters(), "lr": siamese_config.learning_rate})
    optimizer = adam(learners, config.learning_rate, device)
    adversary_optimizer = adam(adversary.parameters(), adversary_config.learning_rate, device)
    stage = Stage(
        name,
        {"encoder": encoder, "decoder": decoder, "adversary": adversary, "siamese": siamese},
        {"adam": optimizer, "adversary": adversary_optimizer},
        images=len(data),
        batch_size=2 * config.batch_size,
        epochs=config.epochs,
        seed=seed,
        settings={**stage_settings(faces, config), "attribute": faces.attribute, "margin": siamese_config.margin},
        folder=folder,
        progress=progress,
    )
    draw = PairBatches(faces, stage, stage.batch_size // 2, siamese_config.impostors)
    for module in (encoder, decoder):
        module.train()
    for module in (adversary, siamese):
        module.train(alternating).requires_grad_(alternating)

    for step in stage:
        a, b, different = draw(step)
        rows = np.concatenate([a, b])
        images, labels = data.images(rows), data.labels[rows]  # (2B, 1, H, W), (2B,)
        with autocast(device):
            g = encoder(images)  # (2B, k)
            logits = decoder(g)  # (2B, 1, H, W)
        logits = logits.float()
        seen = g.float() if latent else torch.sigmoid(logits)  # what adversary and Siamese read

        if alternating:
            adversary.requires_grad_(True)
            for extra in range(config.adversary_steps):
                if extra == 0:
                    target, target_labels = seen.detach(), labels
                else:
                    more = stage.generator("adversary", step, extra).integers(len(data), size=len(rows))
                    with torch.no_grad(), autocast(device):
                        target = encoder(data.images(more))
                        target = target if latent else torch.sigmoid(decoder(target).float())
                    target, target_labels = target.float(), data.labels[more]
                with autocast(device):
                    answer = adversary(target)  # (2B,)
                adversary_optimizer.zero_grad()
                adversary_loss(answer.float(), target_labels).backward()
                adversary_optimizer.step()
            adversary.requires_grad_(False)  # below, the gradient only passes through it on its way to the encoder

        reconstruction = reconstruction_loss(logits, images)
        with autocast(device):
            answer = adversary(seen)  # (2B,)
        answer = answer.float()
        gain = privacy_gain(answer, labels, config.adversary_loss)
        match = torch.zeros((), device=device)
        if task:
            with autocast(device):
                z = siamese(seen)  # (2B, 128)
            z_a, z_b = z.float().chunk(2)  # (B, 128) each
            match = contrastive_loss(z_a, z_b, torch.from_numpy(different).to(z_a), siamese_config.margin)
        loss = total_loss(reconstruction, match, gain, config.alpha, config.beta, config.gamma)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()  # the adversary's weights are not among its parameters: they only move in the loop above
        stage.log(
            total=loss,
            reconstruction=reconstruction,
            siamese=match,
            adversary=adversary_loss(answer.detach(), labels),
            accuracy=_accuracy(answer, labels),
        )
    for module in (adversary, siamese):
        module.requires_grad_(True)
    return stage.history


class PairBatches:
    """The training pairs of a stage, `per_step` a step, half of an epoch's genuine, drawn anew each epoch."""

    def __init__(self, faces: Faces, stage: Stage, per_step: int, impostors: str) -> None:
        self.faces, self.stage, self.per_step, self.impostors, self.epoch = faces, stage, per_step, impostors, -1

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows a (B,) and b (B,), and `different` float32 (B,): 1 for two people."""
        epoch, position = divmod(step, self.stage.steps_per_epoch)
        if epoch != self.epoch:
            count = self.stage.steps_per_epoch * self.per_step
            self.epoch, self.pairs = epoch, _draw_pairs(self.faces, count, self.impostors, self.stage.generator("pairs", epoch))
        cut = slice(position * self.per_step, (position + 1) * self.per_step)
        a, b, different = self.pairs
        return a[cut], b[cut], different[cut]


def _draw_pairs(faces: Faces, count: int, impostors: str, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exactly `count` pairs in random order: where fewer genuine pairs exist than half of that, they come round again."""
    pairs = faces.pairs(count + count % 2, impostors=impostors, seed=int(generator.integers(2**31)))
    halves = [np.flatnonzero(pairs.different == value) for value in (0, 1)]
    rows = np.concatenate([np.resize(generator.permutation(half), (count + 1) // 2) for half in halves])
    rows = generator.permutation(rows)[:count]
    return pairs.a[rows], pairs.b[rows], pairs.different[rows].astype(np.float32)


def _device_of(module: nn.Module) -> torch.device:
    return next(module.parameters()).device


def _accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    known = labels >= 0
    right = ((logits.detach() > 0) == (labels > 0.5)) & known
    return right.sum() / known.sum().clamp(min=1)
