"""The template's skull, as hair and glasses need it: distances from an axis, the hairline, and the vertices to hang on.

Places on the head are given by the angle `phi` round the vertical axis (0 at the face, positive to the person's left) and by `t`: the
elevation over the centre of the skull in radians where that is positive, and below it the depth in units of `UNIT`.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from .head import Head
from .mesh import SKIN

CENTRE = np.array([0.0, -0.055, 0.745])
"""The middle of the template's skull, metres."""

UNIT = 0.09
"""Metres of depth below the centre that count as one radian of elevation."""

NECK_SLOPE = 0.2
"""How far the axis moves to the back a metre down: the neck stands behind the head's middle."""

ANCHORS = 6

_PHI = 144
_T = np.linspace(-3.2, np.pi / 2, 128)
DEGREES = np.arange(0, 181, 2.5)

HAIRLINE = (
    (0, 18, 34, 46, 56, 64, 70, 74, 77, 83, 86, 96, 105, 112, 122, 140, 180),
    (0.805, 0.806, 0.809, 0.803, 0.787, 0.772, 0.755, 0.728, 0.712, 0.710, 0.736, 0.744, 0.738, 0.716, 0.692, 0.672, 0.660),
)
"""Degrees from the middle of the forehead, and the height in metres where hair begins there."""

FACE = (
    (0.50, 0.60, 0.65, 0.69, 0.72, 0.75, 0.772, 0.787, 0.80, 0.806, 0.815),
    (62, 66, 67, 66, 65, 64, 62, 56, 46, 20, 0),
)
"""Heights in metres, and the degrees from the middle within which hair that hangs down keeps the face free there."""


class Skull(NamedTuple):
    """What hair needs to know of a template: distances from the axis on a grid of (t, phi), and anchors."""

    outer: np.ndarray  # (T, PHI + 1), with the ears
    inner: np.ndarray  # (T, PHI + 1), without them
    hairline: np.ndarray  # t of the usual hairline at `DEGREES` from the middle
    anchor: np.ndarray  # (T, PHI + 1, ANCHORS) int32
    weight: np.ndarray  # (T, PHI + 1, ANCHORS)


@functools.lru_cache(maxsize=1)
def measure(head: Head) -> Skull:
    """The grids of a head, from points strewn over its skin; the same head is measured once."""
    faces = head.faces[head.material == SKIN]
    faces = faces[(head.masks["inside-mouth"][faces] < 0.5).all(1)]
    corner = head.vertices[faces].astype(float)  # (F, 3, 3)
    steps = np.arange(9) / 8
    a, b = (w.ravel() for w in np.meshgrid(steps, steps))
    inside = a + b <= 1
    share = np.stack([a, b, 1 - a - b], 1)[inside]  # (45, 3)
    points = np.einsum("sk,fkc->fsc", share, corner)
    ear = (head.masks["ears"][faces] > 0.3).any(1)
    outer = _strew(points.reshape(-1, 3))
    inner = _strew(points[~ear].reshape(-1, 3))
    inner = np.minimum(_smooth(inner), outer)
    phi = np.linspace(-np.pi, np.pi, _PHI + 1)
    surface = place(*np.broadcast_arrays(phi[None], _T[:, None]), inner)  # (T, PHI + 1, 3)

    # Hair hangs on the skull, the temples and the nape, never on what a face moves: not on brows, eyes, cheeks, jaw or ears.
    skin = np.unique(faces)
    where = head.vertices[skin].astype(float)
    angle = np.abs(polar(where)[0])
    high = where[:, 2] > np.interp(np.degrees(angle), (0, 50, 75, 100, 125, 180), (0.785, 0.775, 0.735, 0.725, 0.665, 0.655))
    skin = skin[high & (head.masks["ears"][skin] < 0.3)]
    where = head.vertices[skin].astype(float)
    distance = np.linalg.norm(surface.reshape(-1, 1, 3).astype(np.float32) - where[None].astype(np.float32), axis=2)
    nearest = np.argpartition(distance, ANCHORS, 1)[:, :ANCHORS]
    near = np.take_along_axis(distance, nearest, 1)
    weight = 1 / (near + 0.004) ** 2
    weight /= weight.sum(1, keepdims=True)
    shape = (len(_T), _PHI + 1, ANCHORS)
    # t of the hairline's heights: the surface's height grows with t.
    rows = np.stack([look_up(np.ascontiguousarray(surface[..., 2]), np.radians(DEGREES), np.full(len(DEGREES), t)) for t in _T])
    hairline = [np.interp(height, rows[:, i], _T) for i, height in enumerate(np.interp(DEGREES, *HAIRLINE))]
    return Skull(
        outer,
        inner,
        np.array(hairline),
        skin[nearest].astype(np.int32).reshape(shape),
        weight.astype(np.float32).reshape(shape),
    )


def _strew(points: np.ndarray) -> np.ndarray:
    """The largest distance from the axis of the points (N, 3) in each cell of the grid, (T, PHI + 1); empty cells are interpolated."""
    phi, t, radius = polar(points)
    keep = (t > _T[0]) & (radius < np.where(t < -1.3, 0.105, 1.0))
    column = np.rint((phi[keep] + np.pi) / (2 * np.pi) * _PHI).astype(int) % _PHI
    row = np.rint((t[keep] - _T[0]) / (_T[1] - _T[0])).astype(int).clip(0, len(_T) - 1)
    grid = np.zeros((len(_T), _PHI))
    np.maximum.at(grid, (row, column), radius[keep])
    columns = np.arange(_PHI)
    for i, line in enumerate(grid):
        full = np.flatnonzero(line)
        if len(full):
            grid[i] = np.interp(columns, full, line[full], period=_PHI)
    for i in np.flatnonzero((grid == 0).all(1)):
        grid[i] = grid[i - 1] if i else 0.07
    grid[-3:] = grid[-3:].mean()  # the pole is one point
    return np.concatenate([grid, grid[:, :1]], 1)


def _smooth(grid: np.ndarray) -> np.ndarray:
    """A mean over three cells each way; periodic in phi."""
    grid = grid[:, :-1]
    grid = (np.roll(grid, 1, 1) + 2 * grid + np.roll(grid, -1, 1)) / 4
    padded = np.pad(grid, ((1, 1), (0, 0)), "edge")
    grid = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    return np.concatenate([grid, grid[:, :1]], 1)


def polar(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(phi, t, distance) of points (…, 3)."""
    x, y, z = np.moveaxis(points - CENTRE, -1, 0)
    y = y - NECK_SLOPE * np.clip(-z, 0, 0.15)
    flat = np.hypot(x, y)
    above = np.maximum(z, 0)
    return np.arctan2(x, -y), np.where(z > 0, np.arctan2(above, flat), z / UNIT), np.hypot(flat, above)


def place(phi: np.ndarray, t: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Points (…, 3) of phi, t and distance."""
    above = np.maximum(t, 0)
    flat = radius * np.cos(above)
    z = np.where(t > 0, radius * np.sin(above), t * UNIT)
    y = -flat * np.cos(phi) + NECK_SLOPE * np.clip(-z, 0, 0.15)
    return np.stack([flat * np.sin(phi), y, z], -1) + CENTRE


def look_up(grid: np.ndarray, phi: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Bilinear values of a (T, PHI + 1) grid."""
    column = (phi + np.pi) / (2 * np.pi) * _PHI
    column -= np.floor(column / _PHI) * _PHI
    row = np.clip((t - _T[0]) / (_T[1] - _T[0]), 0, len(_T) - 1.001)
    i, j = row.astype(int), np.minimum(column.astype(int), _PHI - 1)
    a, b = row - i, column - j
    flat = grid.ravel()
    k = i * (_PHI + 1) + j
    top = flat[k] * (1 - b) + flat[k + 1] * b
    return top * (1 - a) + (flat[k + _PHI + 1] * (1 - b) + flat[k + _PHI + 2] * b) * a


def hang(skull: Skull, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Anchors and weights of points (M, 3)."""
    phi, t, _ = polar(points)
    column = np.rint((phi + np.pi) / (2 * np.pi) * _PHI).astype(int)
    row = np.rint((t - _T[0]) / (_T[1] - _T[0])).astype(int).clip(0, len(_T) - 1)
    return skull.anchor[row, column], skull.weight[row, column]


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross products of (…, 3), several times faster than numpy's for short arrays."""
    (x, y, z), (u, v, w) = np.moveaxis(a, -1, 0), np.moveaxis(b, -1, 0)
    return np.stack([y * w - z * v, z * u - x * w, x * v - y * u], -1)


def smoothstep(x: np.ndarray, low: float, high: float) -> np.ndarray:
    s = np.clip((x - low) / (high - low), 0, 1)
    return s * s * (3 - 2 * s)
