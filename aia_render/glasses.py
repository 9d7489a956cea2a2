"""Glasses: bars and lenses that hang on the nose and the ears, modelled on the template."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .head import Head
from .mesh import GLASSES, LENS, SKIN, Part
from .people import HALF_RIM, NO_GLASSES, RECTANGULAR, ROUND, SUN, THICK

_FRAMES = {
    # style: half width and half height of a lens, power of its outline (2 an ellipse, higher squarer), width of the rim, metres
    ROUND: (0.0225, 0.0215, 2.0, 0.0016),
    RECTANGULAR: (0.0255, 0.0165, 4.0, 0.0018),
    HALF_RIM: (0.0260, 0.0165, 3.0, 0.0020),
    THICK: (0.0260, 0.0200, 3.2, 0.0040),
    SUN: (0.0280, 0.0225, 2.6, 0.0026),
}
_EYE = np.array([0.0312, 0.7270])  # x and z of a pupil of the template
_LENS_Y = -0.1560  # the plane of the lenses, in front of the lashes
_HINGE = 0.070
_EAR = np.array([0.0790, -0.052, 0.7330])  # where a temple lies on the ear


def glasses_part(head: Head, traits: Mapping[str, float]) -> Part | None:
    """The glasses of one person.

    Args:
        head: from `reduce.load_head`.
        traits: of `People.person`: glasses, glasses_size, glasses_dark.

    Returns:
        Rims, bridge and temples as closed bars, of sun glasses also the lenses; None without glasses. They hang on the bridge of the nose,
        on the temples and on the tops of the ears, so that they sit there on every head. uv is (glasses_dark, 0) everywhere.
    """
    style = int(round(traits["glasses"]))
    if style == NO_GLASSES:
        return None
    half_width, half_height, power, rim = _FRAMES[style]
    size = float(traits["glasses_size"])
    half_width, half_height = half_width * size, half_height * size
    depth = 0.0012 + 0.4 * rim
    angle = np.linspace(0, 2 * np.pi, 29)[:-1]
    outline = np.stack([np.cos(angle), np.sin(angle)], 1)
    outline = np.sign(outline) * np.abs(outline) ** (2 / power)
    outline *= (half_width, half_height)
    outline[:, 1] *= 1 - 0.12 * (outline[:, 1] < 0) * (outline[:, 0] / half_width)  # narrower below on the outside
    pieces, lenses = [], []
    for side in (1, -1):
        ring = _on_face(_EYE[0] * 1.03 + outline[:, 0], _EYE[1] - 0.002 + outline[:, 1], side)
        upper = outline[:, 1] > -0.25 * half_height
        if style == HALF_RIM:  # starts and ends where the rim does: the ring is turned so that its gap is at the seam
            order = np.roll(np.arange(len(ring)), -int(np.flatnonzero(upper & ~np.roll(upper, 1))[0]))
            ring = ring[order[: int(upper.sum())]]
        pieces.append(_bar(ring, rim, depth, closed=style != HALF_RIM))
        if style == SUN:
            lenses.append(_disc(ring))
        outer = _EYE[0] * 1.03 + half_width
        hinge_z = _EYE[1] + 0.45 * half_height
        reach = outer + 0.0045
        arm = np.array(
            [
                *_on_face(np.array([outer - 0.001, reach]), np.full(2, hinge_z), side),
                [side * max(reach + 0.0035, 0.068), _LENS_Y + 0.030, hinge_z + 0.001],
                [side * max(reach + 0.005, 0.0765), _EAR[1] - 0.035, _EAR[2] + 0.003],
                [side * _EAR[0], _EAR[1], _EAR[2]],
                [side * (_EAR[0] - 0.002), _EAR[1] + 0.018, _EAR[2] - 0.008],
            ]
        )
        pieces.append(_bar(arm, 0.7 * rim + 0.0012, 0.0014 + 0.3 * rim, closed=False))
    inner = _EYE[0] * 1.03 - half_width
    x = np.linspace(-1, 1, 7) * (inner + 0.0005)
    arch = _on_face(np.abs(x), _EYE[1] + 0.25 * half_height + 0.0035 * (1 - (x / x[-1]) ** 2), 1)
    arch[:, 0], arch[:, 1] = x, arch[:, 1] - 0.002 * (1 - (x / x[-1]) ** 2)
    pieces.append(_bar(arch, 0.9 * rim + 0.0006, depth, closed=False))
    groups = [(pieces, GLASSES), (lenses, LENS)]
    parts = [(vertices, faces, code) for bars, code in groups for vertices, faces in bars]
    starts = np.cumsum([0, *(len(vertices) for vertices, _, _ in parts)])
    vertices = np.concatenate([vertices for vertices, _, _ in parts])
    anchor, weight = _seat(head, vertices)
    return Part(
        vertices.astype(np.float32),
        np.concatenate([faces + start for (_, faces, _), start in zip(parts, starts, strict=False)]).astype(np.int32),
        np.tile(np.array([[traits["glasses_dark"], 0]], np.float32), (len(vertices), 1)),
        np.concatenate([np.full(len(faces), code, np.int8) for _, faces, code in parts]),
        anchor,
        weight,
    )


def _on_face(x: np.ndarray, z: np.ndarray, side: int) -> np.ndarray:
    """Points (N, 3) of the frame's front, which is bent round the face a little."""
    return np.stack([side * x, _LENS_Y + 1.6 * np.maximum(x - 0.02, 0) ** 2 + 0.10 * (z - _EYE[1]) * -1, z], 1)


def _bar(line: np.ndarray, width: float, depth: float, closed: bool) -> tuple[np.ndarray, np.ndarray]:
    """A bar of rectangular section round a line (N, 3): `width` across it, `depth` in the direction in which it is looked at."""
    along = np.roll(line, -1, 0) - np.roll(line, 1, 0) if closed else np.gradient(line, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-12
    # The section's sides: for the front across the view, for the temples upright.
    front = np.where(np.abs(along[:, 1:2]) < 0.8, np.array([0.0, 1.0, 0.0]), np.array([1.0, 0.0, 0.0]))
    across = np.cross(along, front)
    across /= np.linalg.norm(across, axis=1, keepdims=True) + 1e-12
    front = np.cross(across, along)
    corner = [(1, 1), (-1, 1), (-1, -1), (1, -1)]
    ring = np.stack([line + a * width / 2 * across + b * depth / 2 * front for a, b in corner], 1)  # (N, 4, 3)
    count = len(line)
    i = np.arange(count if closed else count - 1)[:, None]
    j, k = np.arange(4)[None], (np.arange(4)[None] + 1) % 4
    n = (i + 1) % count
    a, b, c, d = (v.ravel() for v in np.broadcast_arrays(4 * i + j, 4 * i + k, 4 * n + k, 4 * n + j))
    faces = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    if not closed:
        e = 4 * (count - 1)
        faces = np.concatenate([faces, [[0, 2, 1], [0, 3, 2], [e, e + 1, e + 2], [e, e + 2, e + 3]]])
    return ring.reshape(-1, 3), faces


def _disc(ring: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A lens in a closed outline."""
    count = len(ring)
    i = np.arange(count)
    return np.concatenate([ring, ring.mean(0, keepdims=True) - (0, 0.002, 0)]), np.stack([i, (i + 1) % count, np.full(count, count)], 1)


def _seats(head: Head) -> np.ndarray:
    """Four vertices each of the bridge of the nose, the left temple, the left ear's top, the right temple and ear, (20,)."""
    places = [np.array([0.0, -0.151, 0.7290])]
    for sign in (1, -1):
        places += [np.array([sign * 0.0655, -0.098, 0.735]), np.array([sign * _EAR[0], _EAR[1], _EAR[2]])]
    skin = np.unique(head.faces[head.material == SKIN])
    nearest = [skin[np.argsort(np.linalg.norm(head.vertices[skin] - place, axis=1), kind="stable")[:4]] for place in places]
    return np.concatenate(nearest).astype(np.int32)


def _seat(head: Head, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Anchors of glasses (M, 3): the nose's bridge in the middle, the temples at the hinges, the tops of the ears behind."""
    back = np.clip((points[:, 1] - (_LENS_Y + 0.012)) / (_EAR[1] - 0.02 - _LENS_Y - 0.012), 0, 1)
    out = np.clip(np.abs(points[:, 0]) / _HINGE, 0, 1) * (1 - back)
    middle = 1 - back - out
    left = points[:, 0] >= 0
    share = np.stack([middle, out * left, back * left, out * ~left, back * ~left], 1)  # (M, 5)
    anchor = np.broadcast_to(_seats(head), (len(points), 20))
    return np.ascontiguousarray(anchor, np.int32), np.repeat(share / 4, 4, 1).astype(np.float32)
