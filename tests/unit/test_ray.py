"""Ray: a sweep with two workers, of which one is killed, ends with the result of one process.

One Ray for all tests here, on this machine. What runs on several machines, or on GPUs, is not tested: there are none.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import shutil
import signal
import socket
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

from aia_lib.config import AdversaryConfig, AuditConfig, AutoencoderConfig, FinetuneConfig, SiameseConfig, get_profile
from aia_lib.machine.files import UserError
from aia_lib.scale import engines, get_engine, ray_engine
from aia_lib.scale.pool import Failure, pack, unpack
from aia_lib.scale.ray_engine import connect
from aia_lib.sweep import LocalEngine, SweepConfig, run_sweep

psutil = pytest.importorskip("psutil")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
PATIENCE = 120
"""Seconds that anything here may take on a busy machine before it counts as hanging."""


@pytest.fixture(scope="module")
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


# --------------------------------------------------------------------------------------------------------- what can go wrong


def test_what_cannot_be_is_said_in_one_sentence(ray_address, toy_faces, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="This process is connected to the Ray at .* already, not to 10.0.0.1:6379"):
        connect("10.0.0.1:6379")
    for workers in (0, 1.5, True):
        with pytest.raises(UserError, match="workers must be a whole number of at least 1"):
            get_engine("ray", workers)
    with pytest.raises(UserError, match="The engine 'local' takes no address"):
        get_engine("local", None, ray_address)
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
