"""Write aia_lib/templates, the recogniser and the embedded faces' templates, and the vectors by dlib that its test compares with.

python tools/recogniser_files.py weights DAT       from dlib's dlib_face_recognition_resnet_model_v1.dat
python tools/recogniser_files.py embedded          the templates of the embedded faces, by these weights
python tools/recogniser_files.py reference DAT     what dlib itself makes of twenty embedded faces; needs the package dlib

The file is in the package face-recognition-models 0.3.0 (`pip download --no-deps face-recognition-models==0.3.0`).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save

from aia_lib import load_faces
from aia_lib.extraction import extract, write_templates
from aia_lib.machine.files import UserError, atomic_write, sha256, write_json
from aia_lib.recogniser import BLOCKS, CROPS, SHIPPED, WEIGHTS, WIDTH, Recogniser

EMBEDDED = SHIPPED / "embedded.npz"
REFERENCE = Path(__file__).resolve().parents[1] / "tests" / "unit" / "recogniser_reference.npz"
ROWS = range(0, 10_000, 500)
"""The embedded faces of the reference: the first image of every fiftieth person."""

ORIGIN = {
    "licence": "CC0 1.0",
    "origin": "dlib_face_recognition_resnet_model_v1.dat by Davis E. King (dlib), from the package face-recognition-models 0.3.0",
    "origin_sha256": "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    "command": "python tools/recogniser_files.py weights DAT",
}

MEAN = (122.782, 117.001, 104.298)
"""Red, green and blue that dlib takes off the pixels, in 0 … 255, before it divides them by 256."""


def _packed(number: int) -> bytes:
    """A positive number as dlib writes it: how many bytes, and these bytes, the lowest first."""
    size = (number.bit_length() + 7) // 8
    return bytes([size]) + number.to_bytes(size, "little")


def read_network(path: Path) -> dict[str, torch.Tensor]:
    """The weights of dlib's network as a state of `Recogniser`, float64.

    A tensor in the file is a 2, its four dimensions, and its numbers as float32. They stand in the order in which the network computes:
    weights and bias of a convolution, then scale and shift of its channels, both (n, 1, 1, 1); at the end the matrix, (256, 128, 1, 1).

    Raises:
        UserError: it is another file.
    """
    if sha256(path) != ORIGIN["origin_sha256"]:
        raise UserError(f"{path} is not the file that this was written for: its SHA-256 is not {ORIGIN['origin_sha256'][:12]}….")
    content, position = path.read_bytes(), 0

    def tensor(count: int, columns: int = 1) -> torch.Tensor:
        nonlocal position
        header = b"".join(map(_packed, (2, count, columns, 1, 1)))
        start = content.index(header, position) + len(header)
        position = start + 4 * count * columns
        return torch.from_numpy(np.frombuffer(content, "<f4", count * columns, start).astype(np.float64))

    state = {}
    for name, parameter in Recogniser().state_dict().items():
        if name.endswith("weight") and name != "head.weight":
            both, affine = tensor(parameter.numel() + len(parameter)), tensor(2 * len(parameter))
            weight, bias = both[: parameter.numel()].reshape(parameter.shape), both[parameter.numel() :]
            if name == "stem.weight":  # (255 x - mean) / 256 for x in [0, 1]
                bias = bias - (weight.sum((2, 3)) @ torch.tensor(MEAN, dtype=torch.float64)) / 256
                weight = weight * 255 / 256
            scale, shift = affine.chunk(2)
            state[name] = weight * scale[:, None, None, None]
            state[name.replace("weight", "bias")] = bias * scale + shift
    state["head.weight"] = tensor(BLOCKS[-1][1], WIDTH).reshape(-1, WIDTH).T
    return state


def _note(part: str, path: Path, **about: object) -> None:
    """Write what is said of a file into the manifest."""
    manifest = SHIPPED / "manifest.json"
    before = json.loads(manifest.read_text(encoding="utf-8")) if manifest.exists() else {}
    write_json(manifest, {**before, part: {"file": path.name, "sha256": sha256(path), **about}})


def ship_weights(path: Path) -> None:
    """Write the weights as float16."""
    state = {name: values.half().contiguous() for name, values in read_network(path).items()}
    with atomic_write(WEIGHTS) as file:
        file.write(save(state))
    _note("recogniser", WEIGHTS, **ORIGIN)


def ship_embedded() -> None:
    """Extract the templates of the embedded faces and write them as float16."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "embedded.npz"
        extract("embedded", None, out)
        with np.load(out, allow_pickle=False) as file:
            arrays = dict(file)
    write_templates(EMBEDDED, {**arrays, "vectors": arrays["vectors"].astype(np.float16)})
    about = {"licence": "CC BY 4.0", "recogniser": sha256(WEIGHTS), "command": "python tools/recogniser_files.py embedded"}
    _note("embedded", EMBEDDED, **about)


def write_reference(path: Path) -> None:
    """Write dlib's own vectors of twenty chips, float32 (20, 128); what is grey is given to dlib as three equal channels."""
    import dlib

    network = dlib.face_recognition_model_v1(str(path))
    vectors = [network.compute_face_descriptor(np.repeat(chip[:, :, None], 3, axis=2)) for chip in reference_chips()]
    np.savez(REFERENCE, vectors=np.array(vectors, dtype=np.float32))


def reference_chips() -> np.ndarray:
    """The chips that the reference vectors are of, uint8 (20, 150, 150)."""
    images = torch.from_numpy(load_faces("embedded", progress=False).images[list(ROWS)]).float() / 255
    return (Recogniser(CROPS["embedded"]).chips(images) * 255).round().byte()[:, 0].numpy()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="recogniser_files.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("weights", "embedded", "reference"))
    parser.add_argument("dat", type=Path, nargs="?", metavar="DAT", help="dlib_face_recognition_resnet_model_v1.dat")
    options = parser.parse_args(arguments)
    if options.what == "embedded":
        ship_embedded()
        return 0
    if options.dat is None:
        parser.error(f"{options.what} needs DAT, dlib's file")
    {"weights": ship_weights, "reference": write_reference}[options.what](options.dat)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"recogniser_files: {error}")
