"""Files: the old content or the new one, never half of it, whatever goes wrong."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from aia_lib.machine.files import UserError, atomic_write, explain_os_errors, locked, sha256, write_json, write_text


def only(folder: Path, *names: str) -> bool:
    """Nothing but `names` is in `folder`: no temporary file was left."""
    return sorted(path.name for path in folder.iterdir()) == sorted(names)


def test_a_write_that_succeeds_replaces_the_file(tmp_path):
    path = tmp_path / "new" / "folder" / "a.bin"
    for content in (b"old", b"new"):
        with atomic_write(path) as file:
            file.write(content)
    assert path.read_bytes() == b"new" and only(path.parent, "a.bin")
    write_text(path, "ä\n")
    assert path.read_bytes() == "ä\n".encode()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_write_that_fails_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(error), atomic_write(path, "w") as file:
        file.write("half of the n")
        raise error
    assert path.read_text() == "old" and only(tmp_path, "a.txt")
    with pytest.raises(error), atomic_write(tmp_path / "never there") as file:
        raise error
    assert only(tmp_path, "a.txt")


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with open(path) as reader:
        with atomic_write(path, "w") as file:
            file.write("new")
            file.flush()
            assert path.read_text() == "old"
        assert path.read_text() == "new"
        assert reader.read() == "old", "who had opened it before goes on with the old one: it was replaced, not overwritten"


def test_results_can_be_read_by_others_as_the_umask_allows(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "x")
        assert os.umask(0o027) == 0o027, "the umask itself is as it was"
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


FULL_DISK = """
import resource, sys
from aia_lib.machine.files import UserError, write_text
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
write_text(sys.argv[1] + "/small", "fits")
try:
    write_text(sys.argv[1] + "/a.txt", "x" * 10_000)
except UserError as error:
    print(error)
"""


def test_a_full_disk_is_one_clear_line_and_loses_nothing(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith(f"{tmp_path}/a.txt: no space left on the device") and done.stdout.count("\n") == 1
    assert (tmp_path / "a.txt").read_text() == "old"
    assert only(tmp_path, "a.txt", "small"), "and no part of the new file is left"


KILLED = """
import os, signal, sys
from aia_lib.machine.files import atomic_write
with atomic_write(sys.argv[1] + "/a.txt", "w") as file:
    file.write("half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_killed_in_the_middle_leaves_the_old_file(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "a.txt").read_text() == "old"
    assert all(path.suffix == ".part" for path in tmp_path.iterdir() if path.name != "a.txt")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (errno.ENOSPC, "no space left"),
        (errno.EDQUOT, "no space left"),
        (errno.EFBIG, "no space left"),
        (errno.EACCES, "permission denied. Choose a folder that you can write"),
        (errno.EROFS, "permission denied"),
    ],
)
def test_errors_that_the_user_can_mend(code, message):
    with pytest.raises(UserError, match=f"^there: {message}"), explain_os_errors("there"):
        raise OSError(code, os.strerror(code))


def test_other_errors_pass():
    with pytest.raises(FileNotFoundError), explain_os_errors("there"):
        raise FileNotFoundError(errno.ENOENT, "gone")
    with pytest.raises(ValueError), explain_os_errors("there"):
        raise ValueError


def test_a_file_in_the_place_of_a_folder_and_the_other_way_round(tmp_path):
    write_text(tmp_path / "file", "precious")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "file" / "a", tmp_path / "file" / "b" / "c", tmp_path / "folder"):
        with pytest.raises(UserError, match="there is a file in the place of a folder, or the other way round"):
            write_text(path, "x")
    assert (tmp_path / "file").read_text() == "precious" and only(tmp_path, "file", "folder") and only(tmp_path / "folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(UserError, match="permission denied"):
        write_text(tmp_path / "locked" / "a", "x")


HOLDER = """
import sys
from aia_lib.machine.files import locked
with locked(sys.argv[1], "held already"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such locks")
def test_a_lock_keeps_every_other_process_out_until_it_ends(tmp_path):
    held, other = tmp_path / "held", tmp_path / "other"
    held.mkdir()
    other.mkdir()
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(held)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="^Wait for the other[.]$"), locked(held, "Wait for the other."):
            pytest.fail("two processes hold one lock")
        with locked(other, "not this one"):
            assert only(other) and only(held), "a lock leaves no file"
    finally:
        holder.kill()
        holder.wait()
        holder.stdin.close()
        holder.stdout.close()
    with locked(held, "the killed process still holds it"):
        pass
    with pytest.raises(ZeroDivisionError), locked(held, "the last one still holds it"):
        raise ZeroDivisionError
    with locked(held, "the failed one still holds it"):
        pass


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"a": [1.0, float("-inf")]}])
def test_json_refuses_what_is_not_json(tmp_path, value):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, value)
    assert json.loads(path.read_text()) == {"a": 1} and only(tmp_path, "a.json")


def test_json_is_read_as_it_was_written(tmp_path):
    value = {"name": "AIA\\T ≥ 1", "figures": [0.1, 1e-300, 3], "none": None}
    write_json(tmp_path / "a.json", value)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == value
    assert (tmp_path / "a.json").read_text().endswith("}\n")


@pytest.mark.parametrize("length", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_sha256_of_any_length(tmp_path, length):
    content = bytes(length)
    (tmp_path / "a").write_bytes(content)
    assert sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()
