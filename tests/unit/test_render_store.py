"""Rendered sets: the same faces however they are made, nothing lost when they are stopped, and one line for what cannot be."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.testing import assert_array_equal
from PIL import Image
from rendered import write_set

from aia_lib import cli, load_faces
from aia_lib.datasets import embedded
from aia_lib.machine.files import UserError
from aia_render import shards, store
from aia_render.store import render_set

HAVE_EXTRA = all(importlib.util.find_spec(name) for name in ("torch", "anny", "warp"))
needs_extra = pytest.mark.skipif(not HAVE_EXTRA, reason="the extra `render` is not installed")
posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits, locks and signals")

SET = {"identities": 3, "images": 2, "size": 32, "device": "cpu", "progress": False}
"""Three people, two images each of 32 pixels."""


@pytest.fixture(scope="module")
def _head_of_the_user(cache: Path) -> None:
    """The head is the same for all and takes a minute to build: where the user has one, the tests' cache gets a copy."""
    users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "aia" / "render"
    if users.is_dir() and not (cache / "render").exists():
        shutil.copytree(users, cache / "render", dirs_exist_ok=True)


@pytest.fixture(scope="module")
def undisturbed(_head_of_the_user, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set rendered in one go, a shard a person."""
    folder = tmp_path_factory.mktemp("sets") / "undisturbed"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIA_CACHE", str(cache))
        done = render_set(**SET, out=folder, shard=1, workers=1)
    assert (done.images, done.bytes) == (6, sum(path.stat().st_size for path in folder.iterdir()))
    return folder


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """A finished set with the settings of `SET`, of drawings."""
    return write_set(tmp_path / "drawn", 3, 2, 32, shard=1)


def versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in store.PACKAGES}


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refused(pattern: str, **settings) -> str:
    with pytest.raises(UserError, match=pattern) as error:
        render_set(**SET | settings)
    assert "\n" not in str(error.value)
    return str(error.value)


# ------------------------------------------------------------------------------------------------------------ the faces


@pytest.mark.parametrize("size", [32, 64, 104])
def test_a_strip_decodes_to_what_single_jpegs_decode_to(size):
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 200, size)
    images = np.clip(ramp[:, None] + rng.normal(0, 20, (5, size, size)), 0, 255).astype(np.uint8)
    strip = np.asarray(Image.open(io.BytesIO(shards.encode_strip(images))))
    for i, image in enumerate(images):
        single = io.BytesIO()
        Image.fromarray(image).save(single, "JPEG", quality=shards.QUALITY)
        assert_array_equal(strip[:, i * size : (i + 1) * size], np.asarray(Image.open(single)))


@needs_extra
def test_neither_shards_nor_processes_nor_company_change_a_pixel(undisturbed, tmp_path, capfd):
    done = render_set(**SET, out=tmp_path / "other", shard=2, workers=2)
    assert done.settings.shard == 2 and done.images == 6
    assert embedded.manifest(tmp_path / "other")["sha256"] == embedded.manifest(undisturbed)["sha256"]
    assert "images" not in capfd.readouterr().out, "what the processes say to each other is not for the terminal"
    faces, other = load_faces("embedded", undisturbed, size=32), load_faces("embedded", tmp_path / "other", size=32)
    assert faces.fingerprint == other.fingerprint
    for name in ("images", "regions", "identity"):
        assert_array_equal(getattr(faces, name), getattr(other, name))
    fewer = render_set(**SET | {"identities": 1, "images": 3}, out=tmp_path / "fewer").folder
    first = load_faces("embedded", fewer, size=32)
    assert_array_equal(first.images[:2], faces.images[:2])
    assert_array_equal(first.regions[:2], faces.regions[:2])
    assert load_faces("embedded", render_set(**SET, seed=1, out=tmp_path / "seed").folder, size=32).fingerprint != faces.fingerprint


@needs_extra
def test_the_faces_are_faces(undisturbed):
    faces = load_faces("embedded", undisturbed, size=32)
    assert (len(faces), faces.people, faces.notes) == (6, 3, ())
    assert faces.images.std((1, 2, 3)).min() > 5, "no image is empty"
    inside = faces.regions[:, 8:24, 8:24]
    for region in ("skin", "eyes", "nose", "mouth"):
        assert (inside == store.REGIONS.index(region)).any((1, 2)).mean() > 0.5
    about = embedded.manifest(undisturbed)
    assert (about["generator"], about["device"], about["versions"]) == (store.GENERATOR_VERSION, "cpu", versions())
    assert about["command"] == "aia data render --identities 3 --images 2 --size 32 --seed 0"
    assert about["sha256"]["images"] == hashlib.sha256(faces.images.tobytes()).hexdigest()
    assert about["sha256"]["regions"] == hashlib.sha256(faces.regions.tobytes()).hexdigest()


# ------------------------------------------------------------------------------------------------------------ going on


KILL = """
import os, signal, sys
from aia_render import shards, store
write, count = shards.atomic_write, 0
def fatal(path):
    global count
    count += 1
    if count == 2:  # the second shard is half written when the machine goes down
        kept = write(path)
        file = kept.__enter__()
        file.write(b"half")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    return write(path)
shards.atomic_write = fatal
store.render_set(identities=3, images=2, size=32, device="cpu", progress=False, out=sys.argv[1], shard=1, workers=1)
"""


@posix
@needs_extra
def test_a_killed_set_goes_on_and_ends_as_if_undisturbed(undisturbed, tmp_path):
    out = tmp_path / "out"
    killed = subprocess.run([sys.executable, "-c", KILL, str(out)], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert sorted(name for name in content(out) if not name.startswith(".")) == ["faces-00000.npz", "manifest.json"]
    with pytest.raises(UserError, match="is not finished: it has 1 of its 3 people. Go on with: aia data render --identities 3"):
        load_faces("embedded", out, size=32)
    kept = (out / "faces-00000.npz").stat()
    done = render_set(**SET, out=out)
    assert done.images == 4 and done.settings.shard == 1
    assert (out / "faces-00000.npz").stat().st_mtime_ns == kept.st_mtime_ns
    assert content(out) == content(undisturbed)


@needs_extra
def test_a_finished_set_is_left_alone_and_a_damaged_shard_made_again(undisturbed, tmp_path):
    out = shutil.copytree(undisturbed, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert render_set(**SET, out=out).images == 0
    assert before == {path: path.stat().st_mtime_ns for path in out.iterdir()}
    (out / "faces-00001.npz").write_bytes(b"altered")
    (out / "faces-00002.npz").unlink()
    (out / ".DS_Store").write_bytes(b"hidden files are nobody's business")
    assert render_set(**SET, out=out).images == 4
    (out / ".DS_Store").unlink()
    assert content(out) == content(undisturbed)


@posix
@needs_extra
def test_a_stop_ends_the_processes_and_keeps_the_finished_shards(undisturbed, tmp_path, monkeypatch):
    write, written = store.write_json, []

    def stop_at_the_third(path: Path, value: object) -> None:
        write(path, value)
        written.append(path)
        if len(written) == 3:  # the first is the empty manifest; the first shard is rendered alone
            written.extend(renderers())
            raise KeyboardInterrupt

    monkeypatch.setattr(store, "write_json", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        render_set(**SET, out=tmp_path / "out", shard=1, workers=2)
    assert len(written) > 3, "processes were at work"
    assert psutil.wait_procs(renderers(), timeout=30)[1] == []
    assert len(embedded.manifest(tmp_path / "out")["shards"]) == 2
    monkeypatch.setattr(store, "write_json", write)
    assert render_set(**SET, out=tmp_path / "out", workers=1).images == 2
    assert content(tmp_path / "out") == content(undisturbed)


def renderers() -> list[psutil.Process]:
    """The processes that work for this one."""
    return [child for child in psutil.Process().children(recursive=True) if "popen_loky" in " ".join(child.cmdline())]


@posix
@needs_extra
@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_is_one_line_and_costs_no_finished_shard(_head_of_the_user, tmp_path, workers):
    import resource

    larger = SET | {"images": 6, "size": 64}  # so that a shard has more bytes than the manifest
    whole = render_set(**larger, shard=1, workers=1, out=tmp_path / "whole").folder
    out = shutil.copytree(whole, tmp_path / "out")
    for number in (1, 2):
        (out / f"faces-0000{number}.npz").unlink()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (7500, limits[1]))
    try:
        refused(f"{out}.*no space left on the device", **larger | {"out": out, "workers": workers})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert render_set(**larger, out=out, workers=1).images == 12
    assert content(out) == content(whole)


def killed(shared: object, number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def out_of_space(shared: object, number: int) -> None:
    raise UserError("the disk is full.")


def at_fault(shared: object, number: int) -> None:
    raise ZeroDivisionError("a fault of ours")


@posix
@needs_extra
@pytest.mark.parametrize(
    ("work", "pattern"),
    [
        (killed, r"^faces-00000.npz: its process ended \(.*SIGKILL.*\), mostly for want of memory; take fewer workers\.$"),
        (out_of_space, r"^faces-00000.npz: the disk is full\.$"),
    ],
)
def test_what_happens_to_a_process_is_one_line(tmp_path, monkeypatch, work, pattern):
    monkeypatch.setattr(store, "_render", work)
    refused(pattern, out=tmp_path / "out", shard=1, workers=2)


@needs_extra
def test_a_fault_of_a_process_is_no_users_error(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_render", at_fault)
    with pytest.raises(RuntimeError, match="(?s)Traceback.*ZeroDivisionError: a fault of ours"):
        render_set(**SET, out=tmp_path / "out", shard=1, workers=2)


# ----------------------------------------------------------------------------------------------------- the command line


@needs_extra
def test_the_command_renders_and_says_how_to_load_it(undisturbed, tmp_path, capsys):
    call = ["data", "render", "--identities", "3", "--images", "2", "--size", "32", "--workers", "1", "--out", str(tmp_path / "out")]
    assert cli.main(call) == 0
    said = capsys.readouterr()
    assert "Rendering faces: 100%" in said.err and "6/6" in said.err
    assert "6 images of 3 people (6 now, at " in said.out and f"images/s) are in {tmp_path / 'out'}, 0.0 MB." in said.out
    assert f"""load_faces("embedded", root='{tmp_path / "out"}', size=32), or --data embedded --root {tmp_path / "out"}""" in said.out
    assert content(tmp_path / "out") == content(undisturbed)
    assert cli.main([*call, "--quiet"]) == 0
    said = capsys.readouterr()
    assert "6 images of 3 people (all were there) are in" in said.out and "Rendering" not in said.err


def test_a_stopped_command_says_how_to_go_on(monkeypatch, tmp_path, capsys):
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "render_set", stop)
    assert cli.main(["data", "render", "--identities", "3", "--out", str(tmp_path / "my faces")]) == 130
    expected = f"aia: stopped; finished shards are kept. Go on with: aia data render --identities 3 --out '{tmp_path / 'my faces'}'\n"
    assert capsys.readouterr().err.endswith(expected)


# -------------------------------------------------------------------------------------------------------- what cannot be


@pytest.mark.parametrize(
    ("settings", "pattern"),
    [
        ({"identities": 0}, "identities must be a whole number of at least 1, not 0"),
        ({"identities": 2.0}, "identities must be a whole number of at least 1, not 2.0"),
        ({"identities": True}, "identities must be a whole number"),
        ({"images": 1}, "images must be a whole number of at least 2, not 1"),
        ({"seed": -1}, "seed must be a whole number of at least 0, not -1"),
        ({"shard": 0}, "shard must be a whole number of at least 1, not 0"),
        ({"workers": 0}, "workers must be a whole number of at least 1, not 0"),
        ({"size": 24}, "size must be a multiple of 8 from 32 to 256 pixels, not 24; 64 is usual"),
        ({"size": 36}, "multiple of 8 from 32 to 256 pixels, not 36"),
        ({"size": 264}, "multiple of 8 from 32 to 256 pixels, not 264"),
        ({"size": "64"}, "multiple of 8 from 32 to 256 pixels, not '64'"),
        ({"images": 2047}, "images of a person must not be more than 2046 at 32 pixels, not 2047"),
        ({"device": "tpu"}, "device must be auto, cpu or cuda, not 'tpu'"),
    ],
)
def test_settings_that_cannot_be(tmp_path, settings, pattern):
    if not HAVE_EXTRA and "device" in settings:
        pytest.skip("the extra `render` is not installed")
    refused(pattern, out=tmp_path / "out", **settings)
    assert not (tmp_path / "out").exists(), "nothing is written"


def test_a_missing_extra_says_how_to_install_it(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in ("anny", "warp") else find(name, *rest))
    refused(r'anny and warp-lang, not installed here: pip install "aia-book\[render\]"', out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_other_things(tmp_path, drawn):
    (tmp_path / "file").write_text("x")
    refused("there is a file in the place of a folder", out=tmp_path / "file")
    refused("there is a file in the place of a folder", out=tmp_path / "file" / "deeper")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    refused("full is not empty and holds no rendered set. Choose another --out", out=tmp_path / "full")
    (drawn / "notes.txt").write_text("x")
    (drawn / "faces-00003.npz").write_text("x")
    refused(r"holds files that are not of its set \(faces-00003.npz, notes.txt\). Move them away", out=drawn)
    assert (tmp_path / "full" / "thesis.tex").read_text() == (drawn / "notes.txt").read_text() == "x"


@needs_extra
@pytest.mark.parametrize(
    ("settings", "difference"),
    [
        ({"identities": 4}, "identities was 3, is 4"),
        ({"images": 3}, "images was 2, is 3"),
        ({"size": 64, "seed": 5}, "seed was 0, is 5; size was 32, is 64"),
        ({"shard": 2}, "shard was 1, is 2"),
    ],
)
def test_a_set_of_other_settings_is_refused(drawn, settings, difference):
    before = content(drawn)
    refused(rf"holds another rendered set \({difference}\). Use its settings, or choose another --out", out=drawn, **settings)
    assert content(drawn) == before


@needs_extra
def test_a_set_of_other_versions_is_refused(drawn, monkeypatch):
    other = versions() | {"warp-lang": "0.1"}
    path = drawn / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"versions": other}))
    refused(r"holds another rendered set \(versions.warp-lang was '0.1', is ", out=drawn)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"versions": versions()}))
    monkeypatch.setattr(store, "GENERATOR_VERSION", 99)
    refused(r"\(generator was \d+, is 99\)", out=drawn)


@needs_extra
def test_too_little_space_is_said_before_the_work(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000_000))
    refused("128 MB are needed and 1 MB are free", identities=1000, images=10, size=160, out=tmp_path / "out")


@posix
@needs_extra
def test_two_processes_do_not_write_one_folder(drawn):
    import fcntl

    handle = os.open(drawn, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        refused("Another process is writing its rendered set into", out=drawn)
    finally:
        os.close(handle)


@needs_extra
def test_a_gpu_that_is_not_there(tmp_path):
    import torch

    if torch.cuda.is_available():
        refused("Several workers are for the CPU", out=tmp_path / "out", device="cuda", workers=2)
    else:
        refused("no CUDA GPU that torch can use here. Render on the CPU", out=tmp_path / "out", device="cuda")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    try:
        refused("permission denied. Choose a folder that you can write", out=tmp_path / "out")
    finally:
        tmp_path.chmod(0o700)
