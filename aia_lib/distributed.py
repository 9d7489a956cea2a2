"""Past one machine, with Ray: decoding on many nodes, training on several workers, and what a cluster's work costs.

Needs the extra `scale`. Everything here runs on a Ray that is started on this machine, or on a cluster by its address. Written
and tested on one machine with two workers, one of which is killed; neither a cluster of several machines nor a GPU has been at hand.

What a cluster must bring: on every node the same Python, aia-book, Ray and Pillow; one file system for the data set, the cache and the
folders of checkpoints, under the same paths on every node (a network file system, say).
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import mmap
import os
import pickle
import shutil
import signal
import socket
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import PIL
from tqdm.auto import tqdm

from .config import SPLIT_FRACTIONS, AutoencoderConfig, Profile
from .datasets import load_faces
from .datasets.cache import cache_folder, decode_batch, decoding_notes, pillow_warnings, read_entry, refuse_too_many
from .datasets.common import Index, Layout
from .faces import Faces
from .files import UserError, atomic_write, cores, explain_os_errors, locked

if TYPE_CHECKING:  # torch is imported where it is needed: workers that decode start in half the time without it
    from torch import Tensor, nn

    from .models import Decoder, Encoder
    from .training import FaceBatches, History

INSTALL = 'pip install "aia-book[scale]"'

SHARD_IMAGES = 4096
"""Images in a shard: what a worker that is killed loses. 64 x 64 pixels of each are 16 MB."""

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


# --- decoding on many nodes -------------------------------------------------------------------------------------------


def prepare_faces(
    source: str,
    root: str | os.PathLike,
    *,
    address: str | None = None,
    workers: int | None = None,
    shard: int = SHARD_IMAGES,
    cache: str | os.PathLike | None = None,
    **settings: Any,
) -> Faces:
    """Load faces as `load_faces` does, but decode them on a Ray cluster, with Ray Data; the cache's entry is the same, byte for byte.

    Images are decoded in shards of consecutive files. A finished shard is a file beside the entry, `<entry>.shards/`, and is never
    decoded again: neither when a worker is killed, whose shard another one decodes, nor when all is killed and the same call goes on.
    In the end the shards are written one after the other into the entry and removed; until then both need room on the disk.

    The images never are in memory as a whole. The list of files is, in this process (by estimate 0.3 kB an image, 1 GB for VGGFace2), and
    is made anew by each call.

    Args:
        source, root, cache, settings: as for `load_faces`; not "embedded", which has no image files.
        address: of a Ray cluster, see `connect`. Its nodes must see `root` and `cache`.
        workers: shards at once; None takes one a CPU.
        shard: images in a shard.

    Raises:
        UserError: as `load_faces` and `connect`; another process prepares the same faces; a node does not see the folders or has another
            Pillow; workers were killed again and again. Finished shards are kept.
    """
    if source == "embedded":
        raise UserError("The engine ray decodes image files; the rendered faces of 'embedded' have none and are loaded without it.")
    if type(shard) is not int or shard < 1:
        raise UserError(f"A shard must hold a whole number of images, at least 1, not {shard!r}.")
    cluster = connect(address, workers)  # at once: listing millions of files takes minutes

    def decode_all(file: IO[bytes], folder: Path, layout: Layout, index: Index, size: int, progress: bool) -> tuple[np.ndarray, list[str]]:
        shards = _shards_of(folder)
        with explain_os_errors(shards):
            shards.mkdir(parents=True, exist_ok=True)
            with locked(shards, f"Another process is decoding the same faces into {shards}. Wait until it ends, or stop it."):
                work = _Decoding(shards.absolute(), layout, index.paths, size, shard)
                work.decode_missing(cluster, workers, progress)
                return work.put_together(file)

    faces = load_faces(source, root, cache=cache, decode_all=decode_all, **settings)
    for shards in cache_folder(cache).glob(f"{source}-{faces.size}-*.shards"):
        if read_entry(shards.with_suffix("")) is not None:  # they have done their duty, those of a call that was killed just here, too
            shutil.rmtree(shards, ignore_errors=True)
    return faces


def _shards_of(entry: Path) -> Path:
    return entry.with_name(f"{entry.name}.shards")


@dataclass(frozen=True)
class _Decoding:
    """The images at `paths`, in shards of `shard`, each a file in `folder`: see `_write_shard`."""

    folder: Path
    layout: Layout
    paths: list[str]
    size: int
    shard: int

    def _file(self, start: int) -> Path:
        stop = min(start + self.shard, len(self.paths))
        return self.folder / f"rows-{start:09d}-{stop:09d}.npz"

    def decode_missing(self, cluster: Cluster, workers: int | None, progress: bool) -> None:
        """Decode the shards that have no file yet, on Ray."""
        total, skipped, seen = len(self.paths), {}, 0
        missing, with_skipped = [], []

        def note(start: int) -> int:
            shard = _read_shard(self._file(start))
            if shard.skipped:
                with_skipped.append(start)
                self._note(skipped, start, shard)
            return shard.seen

        for start in range(0, total, self.shard):
            if self._file(start).exists():
                seen += note(start)
            else:
                missing.append(start)
        for left in (*self.folder.glob("*.tries"), *self.folder.glob(".*.part")):  # of a call that was killed: we hold the lock
            left.unlink(missing_ok=True)
        free = shutil.disk_usage(self.folder).free
        needed = (min(len(missing) * self.shard, total) + total) * self.size**2
        if free < needed:
            raise UserError(
                f"{self.folder}: {free / 1e9:,.1f} GB are free; the shards still to be written and the entry made of all of them need "
                f"{needed / 1e9:,.1f} GB. Free some, or name another folder with cache= or AIA_CACHE; finished shards are kept."
            )

        def check() -> None:
            try:
                refuse_too_many(skipped, seen, total, self.layout)
            except UserError:
                for start in with_skipped:  # what cannot be read today may be readable tomorrow
                    self._file(start).unlink(missing_ok=True)
                raise

        check()
        if not missing:
            return
        with (
            contextlib.closing(self._on_ray(missing, cluster, workers)) as finished,
            tqdm(total=total, initial=seen, desc=f"Decoding {self.layout.source}", unit="image", disable=not progress) as bar,
        ):
            for start in finished:
                images = note(start)
                seen += images
                bar.update(images)
                check()

    def _note(self, skipped: dict[str, list[str]], start: int, shard: _Shard) -> None:
        for reason, rows in shard.skipped.items():
            skipped.setdefault(reason, []).extend(self.paths[start + row] for row in rows)

    def _on_ray(self, starts: list[int], cluster: Cluster, workers: int | None) -> Iterator[int]:
        """Write the shards that begin at `starts`; yield each as it is finished."""
        import ray.data

        # A name of a file need not be text: names go as bytes
        items = [{"start": start, "paths": os.fsencode("\0".join(self.paths[start : start + self.shard]))} for start in starts]
        job = pack(
            (self.folder, replace(self.layout, base=self.layout.base.absolute()), self.size, PIL.__version__),
            cluster.one_machine,
        )
        shards = ray.data.from_items(items, override_num_blocks=len(items))
        shards.context.enable_progress_bars = False
        shards.context.enable_operator_progress_bars = False
        done = shards.map(
            _write_shard,
            fn_kwargs={"job": job},
            compute=ray.data.TaskPoolStrategy(size=workers and min(workers, len(items))),
            num_cpus=1,
        )
        try:
            with _told_only_errors("ray.data"):
                for row in done.iter_rows():
                    if row["trouble"]:
                        raise UserError(f"{row['trouble']} Finished shards are kept.")
                    yield int(row["start"])
        except ray.exceptions.RayError as error:
            raise UserError(
                f"Ray could not decode all shards ({' '.join(str(error).split())[:300]}). Finished ones are kept; the same command goes on."
            ) from error

    def put_together(self, file: IO[bytes]) -> tuple[np.ndarray, list[str]]:
        """Append the pixels of all shards to `file`; the rows kept, int64, and the notes, as `cache.DecodeAll` wants them."""
        kept, remarks, skipped = [], [], {}
        for start in range(0, len(self.paths), self.shard):
            shard = _read_shard(self._file(start), pixels=True)
            file.write(shard.pixels)
            gone = {row for rows in shard.skipped.values() for row in rows}
            kept += [start + row for row in range(shard.seen) if row not in gone]
            remarks += shard.remarks
            self._note(skipped, start, shard)
        return np.array(kept, dtype=np.int64), decoding_notes(remarks, skipped)


@dataclass(frozen=True)
class _Shard:
    """What a shard's file says: images seen, the rows skipped by reason, counted from the shard's first, all remarks, and the pixels."""

    seen: int
    skipped: dict[str, list[int]]
    remarks: list[str]
    pixels: bytes = field(default=b"", repr=False)


def _read_shard(path: Path, pixels: bool = False) -> _Shard:
    try:
        with np.load(path, allow_pickle=False) as content:  # a ZIP archive: each member has its check sum
            told = json.loads(content["told"].tobytes())
            return _Shard(told["seen"], told["skipped"], told["remarks"], content["pixels"].tobytes() if pixels else b"")
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        if isinstance(error, PermissionError):
            raise UserError(f"{path} cannot be read (permission denied). Make it readable, or name another folder with cache=.") from error
        path.unlink(missing_ok=True)
        raise UserError(
            f"The shard {path} is damaged ({type(error).__name__}) and was removed; the same command decodes it again."
        ) from error


def _write_shard(row: dict[str, Any], job: tuple) -> dict[str, Any]:
    """On a worker: decode the images of a shard and write its file, which has its name only when it is whole.

    The file holds `pixels` uint8 (n, size, size) of the images that can be used, and `told`, JSON in UTF-8 about the others.

    Returns:
        The shard's first row, as `start`, and what hindered its writing, as `trouble`, or "".
    """
    folder, layout, size, pillow = unpack(job)
    start, paths = int(row["start"]), os.fsdecode(row["paths"]).split("\0")
    try:
        for place in (layout.base, folder):
            if not place.is_dir():
                raise UserError(f"{_node()} does not see the folder {place}: data set and cache must lie where all nodes see them.")
        if PIL.__version__ != pillow:
            raise UserError(f"{_node()} has Pillow {PIL.__version__}, not {pillow}, and may decode to other pixels; install the same.")
        _count_try(folder / f"{start:09d}.tries")
        with pillow_warnings():
            results, remarks = decode_batch(layout, paths, size)
        pixels = [result for result in results if not isinstance(result, str)]
        skipped: dict[str, list[int]] = {}
        for number, result in enumerate(results):
            if isinstance(result, str):
                skipped.setdefault(result, []).append(number)
        told = json.dumps({"seen": len(paths), "skipped": skipped, "remarks": remarks}).encode()
        with atomic_write(folder / f"rows-{start:09d}-{start + len(paths):09d}.npz") as file:
            np.savez(
                file,
                pixels=np.stack(pixels) if pixels else np.zeros((0, size, size), np.uint8),
                told=np.frombuffer(told, dtype=np.uint8),
            )
    except UserError as error:
        return {"start": start, "trouble": str(error)}
    return {"start": start, "trouble": ""}


def _node() -> str:
    return f"The node {socket.gethostname()}"


def _count_try(path: Path) -> None:
    """Add one to the tries of a shard, of which the file `path` has one byte each. Ray Data itself would try for ever."""
    with explain_os_errors(path), open(path, "ab") as file:
        if file.tell() > MAX_LOST:
            raise UserError(
                f"{_node()}: {file.tell()} workers were killed while they decoded one shard ({path}), mostly for want of memory."
            )
        file.write(b".")


# --- training on several workers --------------------------------------------------------------------------------------


def train_autoencoder_on_ray(
    faces: Faces,
    encoder: Encoder,
    decoder: Decoder,
    config: AutoencoderConfig,
    *,
    folder: str | os.PathLike,
    workers: int = 2,
    address: str | None = None,
    seed: int = 0,
    bf16: bool = True,
    save_every: float = 30.0,
) -> History:
    """Stage 1, Eq. 5, by several workers: `training.train_autoencoder` with each batch cut into as many parts, by Ray Train.

    Every worker holds the networks, computes the loss of its part of the batch, and all step along the average of their gradients,
    weighted by the images in them (DistributedDataParallel; NCCL between GPUs, where each worker has one, Gloo between CPUs). That
    is the gradient of the whole batch up to the rounding of float32. So are the weights at first, though Adam enlarges roundings from
    step to step: in trials they differed by 1e-6 of their size after 12 steps, by 0.1 % of the way trained after 48.

    The checkpoint in `folder` is that of `train_autoencoder`: one may begin where the other stopped, and `Original.fit` with this
    folder goes on with the finished auto-encoder. When a worker is killed, Ray Train starts all of them again, at most `MAX_LOST`
    times, and they go on from the last checkpoint. Worth its cost only where a step takes long beside the exchange of the
    gradients (1.3 MB of the paper's networks); how long that is on GPUs has not been measured.

    Args:
        faces, config, seed: as for `train_autoencoder`. Each worker reads its own parts of the batches.
        encoder, decoder: what to start from; they hold the trained weights in the end.
        folder: for the checkpoint; on a cluster, where all nodes see it.
        workers: how many, at most the images in a batch. Each gets a GPU where there are as many.
        address: of a Ray cluster, see `connect`.
        bf16: compute in bfloat16 where the hardware has it, as `train_autoencoder` does.
        save_every: seconds between two checkpoints.

    Returns:
        The mean loss of each epoch, over all workers.

    Raises:
        UserError: as `connect` and `train_autoencoder`; fewer images in a batch than workers; workers were killed again and again. The
            checkpoint is kept.
    """
    if type(workers) is not int or not 1 <= workers <= min(config.batch_size, len(faces)):
        raise UserError(
            f"{min(config.batch_size, len(faces))} images a batch can be shared by as many workers at most and by one at least, "
            f"not by {workers!r}."
        )
    cluster = connect(address, workers)
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from .training import train_autoencoder

    folder = Path(folder).absolute()
    gpu = cluster.gpus >= workers
    task = {
        "what": ray.put(pack((faces, encoder, decoder, config), cluster.one_machine)),
        "folder": folder,
        "seed": seed,
        "threads": cluster.threads(workers),
        "bf16": bf16,
        "save_every": save_every,
    }
    with explain_os_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with explain_os_errors(folder), tempfile.TemporaryDirectory(prefix=".ray-", dir=folder) as notes:
        trainer = TorchTrainer(
            _train_part,
            train_loop_config=task,
            torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpu, resources_per_worker={"CPU": task["threads"], "GPU": int(gpu)}),
            run_config=RunConfig(name="autoencoder", storage_path=notes, failure_config=FailureConfig(max_failures=MAX_LOST)),
        )
        try:
            trainer.fit()
        except Exception as error:  # Ray Train's own, with those of the workers inside
            raise UserError(
                f"Training on {workers} workers failed: {_innermost(error)} The last checkpoint in {folder} is kept."
            ) from error
    return train_autoencoder(faces, encoder, decoder, config, seed=seed, folder=folder, progress=False)  # finished: it only loads


def _innermost(error: Exception) -> str:
    """What a worker failed of, in one line; a `UserError` of one of them before all else."""
    failures = list(getattr(error, "worker_failures", {}).values()) or [error]
    causes = [failure for first in failures for failure in _chain(first)]
    for cause in causes:
        if isinstance(cause, UserError):
            return str(cause)
    return " ".join(f"{type(causes[0]).__name__}: {causes[0]}".split())[:300].rstrip(".") + "."


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = getattr(error, "cause", None) or error.__cause__


def _train_part(task: dict[str, Any]) -> None:
    """On a worker: its part of every step of the stage. The worker of rank 0 saves the checkpoints, all of them read the last one."""
    import ray.train
    import torch
    import torch.distributed as dist
    from ray.train.torch import get_device
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel

    from . import training

    context, device = ray.train.get_context(), get_device()
    rank, world = context.get_world_rank(), context.get_world_size()
    torch.set_num_threads(task["threads"])
    training.SAVE_EVERY = task["save_every"]  # this process does nothing else
    faces, encoder, decoder, config = unpack(ray.get(task["what"]))
    model = nn.Sequential(encoder, decoder).to(device, memory_format=torch.channels_last)
    data = training.FaceBatches(faces, device)
    optimizer = training.adam(model.parameters(), config.learning_rate, device)
    stage = training.Stage(
        "autoencoder",
        {"encoder": encoder, "decoder": decoder},
        {"adam": optimizer},
        images=len(data),
        batch_size=config.batch_size,
        epochs=config.epochs,
        seed=task["seed"],
        settings=training.stage_settings(faces, config),
        folder=task["folder"],
        progress=False,
    )
    if rank:
        stage.checkpoint.save = lambda tensors, **state: None
    alike = DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)
    started = False
    for step in stage:
        if not started:  # no worker of an earlier attempt may have saved between two readings
            started, steps = True, torch.tensor([step, -step], device=device)
            dist.all_reduce(steps, dist.ReduceOp.MAX)
            if steps[0] != -steps[1]:
                raise RuntimeError(f"the workers read different checkpoints: of steps {-int(steps[1])} and {int(steps[0])}")
        rows = stage.rows(step)  # (B,)
        loss = part_backward(alike, data, rows, rank, world, task["bf16"])
        optimizer.step()
        dist.all_reduce(loss)
        stage.log(reconstruction=loss)


def part_backward(model: nn.Module, data: FaceBatches, rows: np.ndarray, rank: int, world: int, bf16: bool = True) -> Tensor:
    """One worker's part of the gradient of Eq. 5 on a batch, which DistributedDataParallel then averages over the workers.

    With B images in the batch and b of them here, the loss here is b/B of their mean: these sum to the mean over the batch. The
    average over the workers divides by their number, hence the factor before it. Parts may be of different sizes.

    Args:
        model: images (b, 1, H, W) to logits of the same shape.
        rows: of the batch's images, (B,), the same on all workers; here every `world`-th from `rank` on.

    Returns:
        The loss here, a scalar without a graph; the sum over the workers is the loss of the batch.
    """
    from .losses import reconstruction_loss
    from .training import autocast

    part = rows[rank::world]  # (b,)
    images = data.images(part)  # (b, 1, H, W)
    with autocast(data.device, bf16):
        logits = model(images)  # (b, 1, H, W)
    loss = reconstruction_loss(logits.float(), images) * (len(part) / len(rows))
    model.zero_grad()
    (world * loss).backward()
    return loss.detach()


# --- what it costs ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Speeds:
    """Measured constants of one kind of machine, all at one image size. Nothing here has a default: they must come from measurements.

    Attributes:
        decode: images a second that one CPU decodes into the cache.
        autoencoder, adversary, siamese: images a second (of the Siamese: pairs) that training takes in, stages 1 to 3, on one device.
        finetune: images a second of stage 4 on one device, summed over the points that it trains at once.
        audit: seconds of one audit, of the whole set of faces it was measured on.
        audit_images: how many images that set had.
    """

    decode: float
    autoencoder: float
    adversary: float
    siamese: float
    finetune: float
    audit: float
    audit_images: int

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
                raise UserError(f"Speeds.{name} must be a positive number, not {value!r}.")


@dataclass(frozen=True)
class Cost:
    """What a sweep costs.

    Attributes:
        hours: of the clock, by part: "prepare", "stages 1 to 3", "stage 4", "audits".
        device_hours: of all devices together, what a provider charges for; without "prepare", which needs CPUs only.
        cpu_hours: of "prepare".
        cache_bytes: of the cache's images; while they are being prepared by Ray twice as much.
    """

    hours: dict[str, float]
    device_hours: float
    cpu_hours: float
    cache_bytes: int

    @property
    def total(self) -> float:
        """Hours of the clock from the first image decoded to the last audit, one part after the other."""
        return sum(self.hours.values())

    def __str__(self) -> str:
        lines = [f"{part:<14}{hours:>10.2f} h" for part, hours in {**self.hours, "in all": self.total}.items()]
        return "\n".join([*lines, f"{self.device_hours:,.2f} device hours, {self.cache_bytes / 1e9:,.1f} GB of cache"])


CELEBA_IMAGES = 202_599
VGGFACE2_IMAGES = 3_310_000
"""Images of the two sets; of VGGFace2 as its authors give them, rounded to ten thousand."""


def sweep_cost(
    images: int, points: int, speeds: Speeds, profile: Profile, *, devices: int = 1, cpus: int = 1, seeds: int = 3, stack: int = 1
) -> Cost:
    """The cost of a sweep from measured speeds: images, points, devices to hours.

    With N images, of which the share s = 0.4 trains (`config.SPLIT_FRACTIONS`), E epochs and v images a second, a training takes
    s N E / v. Stages 1 to 3 come once a seed, stage 4 and an audit once a point and seed, one more audit a seed for Original:

        prepare         N / (decode * cpus)
        stages 1 to 3   ceil(seeds / devices) * s N (E_1/v_1 + E_2/v_2 + E_3/v_3)
        stage 4         ceil(seeds * ceil(points / stack) / devices) * stack * s N E_4 / v_4
        audits          ceil(seeds * (points + 1) / devices) * audit * N / audit_images

    It is a model: that parts do not wait for the disk or the network, that devices are alike, that a job is one device's alone, that
    work grows in proportion to N (early stopping and the audit's steps at least make it grow less: the hours are an upper
    bound there), and that the split is by people of equally many images. It knows nothing of failures, queues or prices.

    Args:
        images: N of the whole data set, as `CELEBA_IMAGES`.
        points: settings (alpha, beta) of the sweep; the paper's Fig. 2 has 21.
        speeds: measured on the machine in question, with the profile's image size.
        profile: gives the epochs and the image size.
        devices: GPUs, or machines where training is the CPUs' work.
        cpus: of all nodes together, for decoding.
        seeds: trainings of each point.
        stack: points trained as one program on one device; `speeds.finetune` must have been measured so.

    Raises:
        UserError: a number is not a whole one of at least 1.
    """
    counts = {"images": images, "points": points, "devices": devices, "cpus": cpus, "seeds": seeds, "stack": stack}
    for name, value in counts.items():
        if type(value) is not int or value < 1:
            raise UserError(f"{name} must be a whole number of at least 1, not {value!r}.")
    train = SPLIT_FRACTIONS[0] * images
    first = train * (
        profile.autoencoder.epochs / speeds.autoencoder
        + profile.adversary.epochs / speeds.adversary
        + profile.siamese.epochs / speeds.siamese
    )
    stacks = seeds * math.ceil(points / stack)
    stacked = min(stack, points) * train * profile.finetune.epochs / speeds.finetune
    audit = speeds.audit * images / speeds.audit_images
    audits = seeds * (points + 1)
    decoding = images / speeds.decode
    seconds = {
        "prepare": decoding / cpus,
        "stages 1 to 3": math.ceil(seeds / devices) * first,
        "stage 4": math.ceil(stacks / devices) * stacked,
        "audits": math.ceil(audits / devices) * audit,
    }
    return Cost(
        hours={part: value / 3600 for part, value in seconds.items()},
        device_hours=(seeds * first + seeds * points * train * profile.finetune.epochs / speeds.finetune + audits * audit) / 3600,
        cpu_hours=decoding / 3600,
        cache_bytes=images * profile.size**2,
    )
