"""Ray: sweeps, decoding and training with two workers, of which one is killed; each ends with the result of one process.

One Ray for all tests here, on this machine. What runs on several machines, or on GPUs, is not tested: there are none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from aia_lib import distributed, training
from aia_lib.config import AdversaryConfig, AuditConfig, AutoencoderConfig, FinetuneConfig, SiameseConfig, get_profile
from aia_lib.datasets import load_faces
from aia_lib.distributed import Speeds, connect, pack, part_backward, prepare_faces, sweep_cost, train_autoencoder_on_ray, unpack
from aia_lib.files import UserError
from aia_lib.models import Decoder, Encoder
from aia_lib.sweep import Failure, LocalEngine, SweepConfig, engines, get_engine, ray_engine, run_sweep
from aia_lib.training import FaceBatches, build, train_autoencoder

psutil = pytest.importorskip("psutil")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
PATIENCE = 120
"""Seconds that anything here may take on a busy machine before it counts as hanging."""


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """The address of a Ray with two CPUs, to which this process is connected."""
    ray = pytest.importorskip("ray", reason="Ray is not installed (the extra scale)")
    folder = tempfile.mkdtemp(prefix="aia-ray-")  # its sockets need a short path
    before = psutil.Process().children(recursive=True)
    sigterm = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
            patch.delenv("RAY_ADDRESS", raising=False)
            for attempt in range(3):
                try:
                    started = ray.init(
                        "local",
                        num_cpus=2,
                        object_store_memory=100 << 20,
                        include_dashboard=False,
                        log_to_driver=False,
                        logging_level="ERROR",
                        _temp_dir=folder,
                    )
                    break
                except Exception as error:  # on a starved machine Ray gives up after 30 s
                    ray.shutdown()
                    if attempt == 2 or "timed out" not in str(error):
                        raise
            yield started.address_info["address"]
    finally:
        ours = [process for process in psutil.Process().children(recursive=True) if process not in before]
        ray.shutdown()
        signal.signal(signal.SIGTERM, sigterm)
        _, left = psutil.wait_procs(ours, timeout=10)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        shutil.rmtree(folder, ignore_errors=True)


def until(condition: Callable[[], object], every: float = 0.1) -> object:
    """What `condition` gives, as soon as it is something; asked `every` so many seconds."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(every)
    raise AssertionError(f"in {PATIENCE} s there was no {condition}")


def busy(name: str) -> list[int]:
    """The processes of Ray that do what is called `name` at this moment."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error, IndexError):
            if process.cmdline()[0].startswith(f"ray::{name}"):
                found.append(process.pid)
    return found


@contextlib.contextmanager
def meanwhile(action: Callable[[], None]) -> Iterator[None]:
    """Inside, `action` runs in another thread; its failure is that of the test."""
    failures: list[BaseException] = []

    def act() -> None:
        try:
            action()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    yield
    thread.join(PATIENCE)
    assert not thread.is_alive() and not failures, failures


# ---------------------------------------------------------------------------------------------------------------- the engine


def do(shared: dict, job: int) -> tuple[int, int, int]:
    """Job 1 waits to be killed the first time, 3 and 4 fail, 5 kills its worker each time, 7 never ends."""
    note = Path(shared["folder"]) / str(job)
    if job == 3:
        raise UserError("three cannot be done")
    if job == 4:
        raise ValueError("four is odd")
    if job == 5:
        with open(note, "a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)
    if job == 7 or (job == 1 and not note.exists()):
        note.write_text(str(os.getpid()))
        time.sleep(PATIENCE)
    return job, int(shared["numbers"].sum()) + int(shared["mapped"][job]), torch.get_num_threads()


def test_a_killed_workers_job_is_done_again_and_failures_are_reported(ray_address, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(ray_engine, "MAX_LOST", 1)
    np.save(tmp_path / "mapped.npy", np.arange(9))
    shared = {"folder": str(tmp_path), "numbers": np.arange(10), "mapped": np.load(tmp_path / "mapped.npy", mmap_mode="r")}

    def kill() -> None:
        os.kill(int(until(lambda: (tmp_path / "1").exists() and (tmp_path / "1").read_text())), signal.SIGKILL)

    engine = get_engine("ray", 2, ray_address)
    assert engine.workers == 2 and engine.sees_folders
    with caplog.at_level(logging.WARNING), meanwhile(kill):
        outcomes = dict(engine.run(do, shared, iter(range(7))))
    assert [outcomes[job] for job in (0, 1, 2, 6)] == [(job, 45 + job, 1) for job in (0, 1, 2, 6)]
    assert outcomes[3] == Failure("three cannot be done")
    assert outcomes[4].reason == "ValueError: four is odd" and "in do" in outcomes[4].details
    assert "its worker was lost 2 times (WorkerCrashedError" in outcomes[5].reason and (tmp_path / "5").read_text() == "xx"
    assert caplog.text.count("a worker was lost (WorkerCrashedError") == 2 and "its job is done again" in caplog.text

    with contextlib.closing(engine.run(do, shared, iter([7, 8]))) as results:
        assert next(results) == (8, (8, 53, 1))
        until(lambda: (tmp_path / "7").exists())
        assert busy("do")
    until(lambda: not busy("do"))  # closing ends what is under way


def tiny_sweep() -> SweepConfig:
    profile = dataclasses.replace(
        get_profile("fast"),
        size=16,
        autoencoder=AutoencoderConfig(epochs=1),
        adversary=AdversaryConfig(epochs=1),
        siamese=SiameseConfig(epochs=1),
        finetune=FinetuneConfig(epochs=2),
    )
    audit = AuditConfig(attackers=("logistic",), epochs=1, min_steps=5, pairs=200, bootstrap=20, controls=False)
    return SweepConfig(alpha=(0.5,), beta=(0.5,), seeds=(0,), profile=profile, audit=audit)


def test_a_sweep_whose_worker_is_killed_gives_the_table_of_the_local_engine(ray_address, toy_faces, tmp_path, caplog, monkeypatch):
    faces, config, cpu = toy_faces(110, 3, 16), tiny_sweep(), torch.device("cpu")
    settings = {"device": cpu, "progress": False, "say": lambda line: None}

    def kill() -> None:
        until(lambda: (tmp_path / "ray" / "seed-0" / "Original" / "anonymizer.json").exists())
        os.kill(until(lambda: busy("measure_point"))[0], signal.SIGKILL)

    with caplog.at_level(logging.WARNING), meanwhile(kill):
        ours = run_sweep(faces, config, tmp_path / "ray", engine=get_engine("ray", 2), **settings)
    assert "its job is done again" in caplog.text and not ours.failed
    monkeypatch.setattr(engines, "cores", lambda: 2)  # those of this Ray: one thread more rounds sums otherwise
    local = run_sweep(faces, config, tmp_path / "local", engine=LocalEngine(2), **settings)
    assert len(ours.table) > 10
    pd.testing.assert_frame_equal(ours.table, local.table, check_exact=True)
    assert not list((tmp_path / "ray").glob("**/*.part")) and not (tmp_path / "ray" / "unfinished").exists()

    def refuse(*arguments: object) -> None:
        raise AssertionError("a finished point was done again")

    again = run_sweep(faces, config, tmp_path / "ray", engine=type("Idle", (), {"sees_folders": True, "run": refuse})(), **settings)
    pd.testing.assert_frame_equal(again.table, ours.table, check_exact=True)


# ------------------------------------------------------------------------------------------------------------------ decoding


SHARD = 24


@pytest.fixture
def source(celeba_like, tmp_path) -> tuple[Path, Path, Path]:
    """A CelebA of 120 drawn images, of which the last but one is a pipe that lets its reader wait, and the real image in its place."""
    root = celeba_like(30, 4)
    pipe = root / "celeba" / "img_align_celeba" / "000119.jpg"
    real = tmp_path / "000119.jpg"
    pipe.rename(real)
    os.mkfifo(pipe)
    (pipe.parent / "000003.jpg").write_bytes(b"no image")  # of 120, one may be skipped
    return root, pipe, real


def content(folder: Path) -> dict[str, bytes]:
    """The one entry of a cache, file by file."""
    (entry,) = folder.iterdir()
    return {path.name: path.read_bytes() for path in entry.iterdir()}


def shards(cache: Path) -> list[Path]:
    return sorted(cache.glob("*.shards/rows-*.npz"))


def test_decoding_survives_a_killed_worker_and_gives_the_same_bytes(ray_address, source, tmp_path):
    root, pipe, real = source

    def kill() -> None:
        until(lambda: len(shards(tmp_path / "ray")) == 4)  # the others; the fifth waits at the pipe
        (worker,) = until(lambda: busy("Map"))
        os.rename(real, pipe)
        os.kill(worker, signal.SIGKILL)

    with meanwhile(kill):
        ours = prepare_faces("celeba", root, size=32, cache=tmp_path / "ray", workers=2, shard=SHARD, progress=False)
    local = load_faces("celeba", root, size=32, cache=tmp_path / "local", progress=False)
    assert len(ours) == 119 and ours.notes == local.notes and any("not images: 1" in note for note in ours.notes)
    assert content(tmp_path / "ray") == content(tmp_path / "local")  # no shards are left, either
    np.testing.assert_array_equal(ours.images, local.images)


def test_decoding_goes_on_where_the_whole_was_killed_and_decodes_no_finished_shard_again(ray_address, source, tmp_path):
    root, pipe, real = source
    cache = tmp_path / "ray"
    code = (
        "import sys; from aia_lib.distributed import prepare_faces; root, cache, address, shard = sys.argv[1:]\n"
        "prepare_faces('celeba', root, size=32, cache=cache, address=address, shard=int(shard), progress=False)"
    )
    first = subprocess.Popen([sys.executable, "-c", code, str(root), str(cache), ray_address, str(SHARD)])
    try:
        until(lambda: len(shards(cache)) == 4 or first.poll() is not None)
        assert first.poll() is None
        with pytest.raises(UserError, match="Another process is decoding the same faces"):
            prepare_faces("celeba", root, size=32, cache=cache, shard=SHARD, progress=False)
    finally:
        first.kill()
        first.wait()
    until(lambda: not busy("Map"))  # Ray ends what a dead driver has begun
    finished = {path: path.read_bytes() for path in shards(cache)}
    assert len(finished) == 4
    folder = shards(cache)[0].parent
    # Images of a finished shard change, but not their sizes and times: only one who decodes them again can tell
    for path in sorted(pipe.parent.iterdir())[:SHARD]:
        status = path.stat()
        path.write_bytes(bytes(status.st_size))
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    feeder = threading.Thread(target=lambda: pipe.write_bytes(real.read_bytes()), daemon=True)  # waits for the reader
    feeder.start()
    faces = prepare_faces("celeba", root, size=32, cache=cache, workers=2, shard=SHARD, progress=False)
    feeder.join(PATIENCE)
    with np.load(io.BytesIO(min(finished.items())[1])) as shard:
        np.testing.assert_array_equal(faces.images[: SHARD - 1, 0], shard["pixels"])
    assert len(faces) == 119 and faces.images[0].any() and not folder.exists()


def test_a_damaged_shard_is_decoded_again_and_too_many_bad_images_are_refused(ray_address, celeba_like, tmp_path):
    root = celeba_like(30, 4)
    images = sorted((root / "celeba" / "img_align_celeba").iterdir())
    good = {path: path.read_bytes() for path in images[:10]}
    for path in good:
        path.write_bytes(b"no image")
    with pytest.raises(UserError, match="cannot be used, more than 5%: .* not images"):
        prepare_faces("celeba", root, size=32, cache=tmp_path / "ray", shard=60, progress=False)
    for path, pixels in good.items():
        path.write_bytes(pixels)
    # Where half of an entry is there already
    listing = {}

    def first_only(file, folder, layout, index, size, progress):
        listing.update(folder=folder, layout=layout, index=index)
        raise UserError("stop here")

    with pytest.raises(UserError, match="stop here"):
        load_faces("celeba", root, size=32, cache=tmp_path / "ray", decode_all=first_only, progress=False)
    half = distributed._shards_of(listing["folder"])
    half.mkdir()
    (half / "rows-000000000-000000060.npz").write_bytes(b"PK half")
    with pytest.raises(UserError, match="is damaged .* was removed; the same command decodes it again"):
        prepare_faces("celeba", root, size=32, cache=tmp_path / "ray", shard=60, progress=False)
    faces = prepare_faces("celeba", root, size=32, cache=tmp_path / "ray", shard=60, progress=False)
    np.testing.assert_array_equal(faces.images, load_faces("celeba", root, size=32, cache=tmp_path / "local", progress=False).images)


# ------------------------------------------------------------------------------------------------------------------ training


def networks(size: int) -> tuple[Encoder, Decoder]:
    cpu = torch.device("cpu")
    return build(Encoder, cpu, 0, "encoder"), build(lambda: Decoder((12, size // 4, size // 4)), cpu, 0, "decoder")


def test_parts_of_a_batch_give_the_gradient_of_the_whole(toy_faces):
    faces = toy_faces(10, 3, 16)
    data, rows = FaceBatches(faces, torch.device("cpu")), np.arange(25)  # parts of 13 and 12 images
    gradients, losses = [], []
    for rank, world in ((0, 1), (0, 2), (1, 2)):
        model = nn.Sequential(*networks(16))
        losses.append(part_backward(model, data, rows, rank, world, bf16=False))
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    whole, first, second = gradients
    torch.testing.assert_close((first + second) / 2, whole, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(losses[1] + losses[2], losses[0])
    assert (first - whole).norm() > 0.01 * whole.norm()  # one part by itself is another gradient


def test_two_workers_of_which_one_is_killed_train_what_one_process_trains(ray_address, toy_faces, tmp_path, monkeypatch):
    faces, config = toy_faces(60, 5, 32), AutoencoderConfig(epochs=3, batch_size=25)
    index, seen = tmp_path / "two" / "autoencoder.json", []

    def kill() -> None:
        worker = until(lambda: busy("RayTrainWorker"))[-1]
        seen.append(until(lambda: index.exists() and json.loads(index.read_text())["step"], every=0.005))
        os.kill(worker, signal.SIGKILL)

    ours = networks(32)
    with meanwhile(kill):
        history = train_autoencoder_on_ray(faces, *ours, config, folder=tmp_path / "two", workers=2, bf16=False, save_every=0)
    assert 1 <= seen[0] < 3 * 12 and not list((tmp_path / "two").glob(".ray-*"))
    monkeypatch.setattr(training, "autocast", lambda *arguments: contextlib.nullcontext())
    alone = networks(32)
    expected = train_autoencoder(faces, *alone, config, progress=False)
    np.testing.assert_allclose(history["reconstruction"], expected["reconstruction"], rtol=1e-5)
    for network, other, start in zip(ours, alone, networks(32), strict=True):
        for value, wanted, first in zip(network.parameters(), other.parameters(), start.parameters(), strict=True):
            assert (value - wanted).norm() < 0.01 * (wanted - first).norm()  # Adam makes more of a rounding with every step
    # The checkpoint is that of one process: another call only loads it
    monkeypatch.setattr(training, "reconstruction_loss", lambda *arguments: pytest.fail("trained again"))
    loaded = networks(32)
    assert train_autoencoder(faces, *loaded, config, folder=tmp_path / "two", progress=False) == history
    assert all(torch.equal(a, b) for a, b in zip(loaded[1].parameters(), ours[1].parameters(), strict=True))


# --------------------------------------------------------------------------------------------------------- what can go wrong


def test_what_cannot_be_is_said_in_one_sentence(ray_address, toy_faces, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="This process is connected to the Ray at .* already, not to 10.0.0.1:6379"):
        connect("10.0.0.1:6379")
    for workers in (0, 1.5, True):
        with pytest.raises(UserError, match="workers must be a whole number of at least 1"):
            get_engine("ray", workers)
    with pytest.raises(UserError, match="The engine 'local' takes no address"):
        get_engine("local", None, ray_address)
    with pytest.raises(UserError, match="the rendered faces of 'embedded' have none"):
        prepare_faces("embedded", None)
    with pytest.raises(UserError, match="at least 1, not 0"):
        prepare_faces("folder", tmp_path, shard=0)
    faces = toy_faces(10, 2, 16)
    for workers in (0, 21):
        with pytest.raises(UserError, match=f"20 images a batch can be shared .* not by {workers}"):
            train_autoencoder_on_ray(faces, *networks(16), AutoencoderConfig(batch_size=32), folder=tmp_path, workers=workers)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"needs Ray, which is not installed .*pip install \"aia-book\[scale\]\""):
        get_engine("ray")


def test_an_address_where_no_ray_is(monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is not installed (the extra scale)")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(UserError, match=f"No Ray cluster answers at {nobody}"):
        connect(nobody)
    monkeypatch.setenv("RAY_ADDRESS", nobody)
    with pytest.raises(UserError, match=f"No Ray cluster answers at {nobody}"):
        connect()
    for wrong in ("here", "ray://127.0.0.1:10001", ":6379", "host:port"):
        with pytest.raises(UserError, match="is no address of a Ray cluster: give host:port"):
            connect(wrong)


def test_the_command_line_says_so_too(tmp_path, celeba_like, capsys):
    from aia_lib.cli import main

    root = celeba_like(12, 2)
    assert main(["data", "prepare", "--data", "celeba", "--root", str(root), "--ray-address", "10.0.0.1:6379"]) == 2
    assert "are for --engine ray" in capsys.readouterr().err


def test_packed_faces_travel_by_name_or_by_content(toy_faces, tmp_path):
    faces = toy_faces(10, 2, 16)
    np.save(tmp_path / "images.npy", faces.images)
    mapped = dataclasses.replace(faces, images=np.load(tmp_path / "images.npy", mmap_mode="r")).subset(np.arange(5, 15))
    for by_name in (True, False):
        path, content, buffers = pack(mapped, by_name)
        copy = unpack((path, content, buffers))
        np.testing.assert_array_equal(copy.images, faces.images[5:15])
        held = len(content) + sum(buffer.nbytes for buffer in buffers)
        assert (held < faces.images.nbytes) == by_name


# ---------------------------------------------------------------------------------------------------------------- what it costs


def test_the_cost_is_what_the_formula_says():
    speeds = Speeds(decode=1000, autoencoder=500, adversary=2000, siamese=1000, finetune=400, audit=60, audit_images=10_000)
    profile = dataclasses.replace(
        get_profile("full"),
        size=64,
        autoencoder=AutoencoderConfig(epochs=10),
        adversary=AdversaryConfig(epochs=20),
        siamese=SiameseConfig(epochs=5),
        finetune=FinetuneConfig(epochs=4),
    )
    cost = sweep_cost(100_000, 21, speeds, profile, seeds=3)
    train = 40_000
    assert cost.hours["prepare"] == pytest.approx(100_000 / 1000 / 3600)
    assert cost.hours["stages 1 to 3"] == pytest.approx(3 * train * (10 / 500 + 20 / 2000 + 5 / 1000) / 3600)
    assert cost.hours["stage 4"] == pytest.approx(63 * train * 4 / 400 / 3600)
    assert cost.hours["audits"] == pytest.approx(66 * 600 / 3600)
    assert cost.device_hours == pytest.approx(cost.total - cost.hours["prepare"]) and cost.cache_bytes == 100_000 * 4096
    assert str(cost).count(" h\n") == 5 and "0.4 GB of cache" in str(cost)
    # Four devices: 63 trainings are 16 rounds, 66 audits 17; what is paid for is the same
    four = sweep_cost(100_000, 21, speeds, profile, seeds=3, devices=4, cpus=50)
    assert four.hours["stage 4"] == pytest.approx(cost.hours["stage 4"] * 16 / 63)
    assert four.hours["audits"] == pytest.approx(cost.hours["audits"] * 17 / 66)
    assert four.hours["prepare"] == pytest.approx(cost.hours["prepare"] / 50) and four.device_hours == pytest.approx(cost.device_hours)
    stacked = sweep_cost(100_000, 21, speeds, profile, seeds=3, stack=24)
    assert stacked.hours["stage 4"] == pytest.approx(cost.hours["stage 4"])  # on one device only the speed decides
    vggface2, celeba = (sweep_cost(n, 21, speeds, profile) for n in (distributed.VGGFACE2_IMAGES, distributed.CELEBA_IMAGES))
    assert vggface2.total / celeba.total == pytest.approx(distributed.VGGFACE2_IMAGES / distributed.CELEBA_IMAGES)
    with pytest.raises(UserError, match="Speeds.audit must be a positive number, not 0"):
        dataclasses.replace(speeds, audit=0)
    with pytest.raises(UserError, match="devices must be a whole number"):
        sweep_cost(1000, 1, speeds, profile, devices=0)
