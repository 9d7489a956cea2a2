"""Hair and glasses: triangles that hang on a head, modelled on the template from one person's traits.

Hair has three layers. A *cap* lies on the scalp between the hairline and the crown, so that no skin shows through. A *curtain* goes on from
it, down to the tips, where hair is long. *Locks*, thin ribbons, grow out of both: each follows the direction in which its style is combed,
falls under gravity, is kept out of the head, and hides the cap's edge. Places on the head are given by the angle `phi` round the vertical
axis (0 at the face, positive to the person's left) and by `t`: the elevation over the centre of the skull in radians where that is
positive, and below it the depth in units of `UNIT`.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from .head import Head
from .mesh import GLASSES, HAIR, LENS, SKIN, Part, join
from .people import (
    BALD,
    BOB,
    BUZZ,
    CHIN,
    CROP,
    CURLY,
    HALF_RIM,
    NO_GLASSES,
    QUIFF,
    RECTANGULAR,
    ROUND,
    SIDE,
    STRAIGHT,
    SUN,
    THICK,
    TIED,
    WAVY,
)

CENTRE = np.array([0.0, -0.055, 0.745])
"""The middle of the template's skull, metres."""

UNIT = 0.09
"""Metres of depth below the centre that count as one radian of elevation."""

NECK_SLOPE = 0.2
"""How far the axis moves to the back a metre down: the neck stands behind the head's middle."""

ANCHORS = 6

_PHI = 144
_T = np.linspace(-3.2, np.pi / 2, 128)
_DEGREES = np.arange(0, 181, 2.5)

HAIRLINE = np.array(
    [
        # degrees from the middle of the forehead, height in metres where hair begins
        (0, 0.805),
        (18, 0.806),
        (34, 0.809),
        (46, 0.803),
        (56, 0.787),
        (64, 0.772),
        (70, 0.755),
        (74, 0.728),
        (77, 0.712),
        (83, 0.710),
        (86, 0.736),
        (96, 0.744),
        (105, 0.738),
        (112, 0.716),
        (122, 0.692),
        (140, 0.672),
        (180, 0.660),
    ]
)

FACE = np.array(
    [
        # height in metres, degrees from the middle within which hair that hangs down keeps the face free
        (0.50, 62),
        (0.60, 66),
        (0.65, 67),
        (0.69, 66),
        (0.72, 65),
        (0.75, 64),
        (0.772, 62),
        (0.787, 56),
        (0.80, 46),
        (0.806, 20),
        (0.815, 0),
    ]
)


class _Skull(NamedTuple):
    """What hair needs to know of a template: distances from the axis on a grid of (t, phi), and anchors."""

    outer: np.ndarray  # (T, PHI + 1), with the ears
    inner: np.ndarray  # (T, PHI + 1), without them
    hairline: np.ndarray  # t of the usual hairline at `_DEGREES` from the middle
    anchor: np.ndarray  # (T, PHI + 1, ANCHORS) int32
    weight: np.ndarray  # (T, PHI + 1, ANCHORS)
    seats: np.ndarray  # (20,) int32, four vertices for each place on which glasses rest


_skulls: dict[int, tuple[Head, _Skull]] = {}


def _skull(head: Head) -> _Skull:
    found = _skulls.get(id(head))
    if found is None or found[0] is not head:
        _skulls.clear()
        found = _skulls[id(head)] = (head, _measure(head))
    return found[1]


def _measure(head: Head) -> _Skull:
    """The grids of a head, from points strewn over its skin."""
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
    surface = _place(*np.broadcast_arrays(phi[None], _T[:, None]), inner)  # (T, PHI + 1, 3)

    # Hair hangs on the skull, the temples and the nape, never on what a face moves: not on brows, eyes, cheeks, jaw or ears.
    skin = np.unique(faces)
    where = head.vertices[skin].astype(float)
    angle = np.abs(_polar(where)[0])
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
    rows = np.stack([_look_up(np.ascontiguousarray(surface[..., 2]), np.radians(_DEGREES), np.full(len(_DEGREES), t)) for t in _T])
    hairline = [np.interp(height, rows[:, i], _T) for i, height in enumerate(np.interp(_DEGREES, *HAIRLINE.T))]
    return _Skull(
        outer,
        inner,
        np.array(hairline),
        skin[nearest].astype(np.int32).reshape(shape),
        weight.astype(np.float32).reshape(shape),
        _seats(head),
    )


def _strew(points: np.ndarray) -> np.ndarray:
    """The largest distance from the axis of the points (N, 3) in each cell of the grid, (T, PHI + 1); empty cells are interpolated."""
    phi, t, radius = _polar(points)
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


def _polar(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(phi, t, distance) of points (…, 3)."""
    x, y, z = np.moveaxis(points - CENTRE, -1, 0)
    y = y - NECK_SLOPE * np.clip(-z, 0, 0.15)
    flat = np.hypot(x, y)
    above = np.maximum(z, 0)
    return np.arctan2(x, -y), np.where(z > 0, np.arctan2(above, flat), z / UNIT), np.hypot(flat, above)


def _place(phi: np.ndarray, t: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Points (…, 3) of phi, t and distance."""
    above = np.maximum(t, 0)
    flat = radius * np.cos(above)
    z = np.where(t > 0, radius * np.sin(above), t * UNIT)
    y = -flat * np.cos(phi) + NECK_SLOPE * np.clip(-z, 0, 0.15)
    return np.stack([flat * np.sin(phi), y, z], -1) + CENTRE


def _look_up(grid: np.ndarray, phi: np.ndarray, t: np.ndarray) -> np.ndarray:
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


def _free(look: _Look, z: np.ndarray) -> np.ndarray:
    """Degrees from the middle of the face that hanging hair keeps free at heights z: up to the temples, or to behind the ears."""
    free = np.interp(z, *FACE.T)
    if look.front > 90:
        free = np.maximum(free, np.interp(z, (0.745, 0.758, 0.770, 0.785), (look.front, 88, 74, 0)))
    return free


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross products of (…, 3), several times faster than numpy's for short arrays."""
    (x, y, z), (u, v, w) = np.moveaxis(a, -1, 0), np.moveaxis(b, -1, 0)
    return np.stack([y * w - z * v, z * u - x * w, x * v - y * u], -1)


def _smoothstep(x: np.ndarray, low: float, high: float) -> np.ndarray:
    s = np.clip((x - low) / (high - low), 0, 1)
    return s * s * (3 - 2 * s)


_PARTED = (SIDE, CHIN, BOB, STRAIGHT, WAVY)


class _Look(NamedTuple):
    """How a person's hair is cut and combed; lengths in metres."""

    top: float  # thickness of the hair on the top of the head
    sides: float  # and at the sides and the back
    length: float  # of the locks of the top
    side_length: float
    hang: float  # height z of the tips where hair hangs down past the hairline; above 0.745 where it does not
    front: float  # degrees from the middle behind which hanging hair begins
    locks: int
    steps: int
    width: float  # of a lock
    stand: float  # 0 lies on the head … 1 stands on end
    gravity: float
    wave: float  # amplitude of the waves, metres
    period: float  # of the waves
    bumps: float  # roughness of the cap, metres
    fringe: float
    turn: float  # pull of the tips to the neck
    messy: float  # spread of the directions of the locks


def hair_part(head: Head, traits: Mapping[str, float]) -> Part:
    """The hair of one person.

    Args:
        head: from `load_head`; its template is measured once.
        traits: of `People.person`: hair_style, hair_length, hair_volume, hair_wave, hairline, baldness, parting, fringe.

    Returns:
        A part of at most about 6,000 triangles, the same for the same traits; empty for a shaved head. u is a lock's number with its
        width as one unit, v runs from 0 at a lock's root to 1 at its tip.
    """
    skull = _skull(head)
    used = ("hair_style", "hair_length", "hair_volume", "hair_wave", "hairline", "baldness", "parting", "fringe", "age_years", "skin")
    rng = np.random.default_rng(zlib.crc32(np.array([traits[name] for name in used], np.float32).tobytes()))
    style = int(round(traits["hair_style"]))
    if style == BALD and traits["baldness"] < 0.15:
        return join([])
    look = _look(style, traits, rng)
    rim = _Rim(skull, look, style, traits, rng)
    pieces = [_cap(skull, look, rim, style, traits, rng)]
    if look.locks:
        pieces.append(_locks(skull, look, rim, style, traits, rng))
    if style == TIED:
        pieces.append(_knot(traits, rng))
    vertices = np.concatenate([piece[0] for piece in pieces])
    starts = np.cumsum([0, *(len(piece[0]) for piece in pieces)])
    faces = np.concatenate([piece[1] + start for piece, start in zip(pieces, starts, strict=False)])
    uv = np.concatenate([piece[2] for piece in pieces])
    drawn = np.zeros(len(vertices), bool)  # where the scalp is bare and before the face, grids have vertices without triangles
    drawn[faces] = True
    vertices, uv, faces = vertices[drawn], uv[drawn], (np.cumsum(drawn) - 1)[faces]
    anchor, weight = _hang(skull, vertices)
    return Part(
        vertices.astype(np.float32), faces.astype(np.int32), uv.astype(np.float32), np.full(len(faces), HAIR, np.int8), anchor, weight
    )


def _hang(skull: _Skull, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Anchors and weights of points (M, 3)."""
    phi, t, _ = _polar(points)
    column = np.rint((phi + np.pi) / (2 * np.pi) * _PHI).astype(int)
    row = np.rint((t - _T[0]) / (_T[1] - _T[0])).astype(int).clip(0, len(_T) - 1)
    return skull.anchor[row, column], skull.weight[row, column]


def _look(style: int, traits: Mapping[str, float], rng: np.random.Generator) -> _Look:
    """The cut of a style with the person's own measures."""
    length, volume, wave, fringe = (float(traits[name]) for name in ("hair_length", "hair_volume", "hair_wave", "fringe"))
    loose = 0.2 + volume
    amplitude, period = 0.0, 0.08
    if wave > 0.25 and style not in (BALD, BUZZ):
        amplitude = 0.010 * (wave - 0.2)
        period = 0.085 - 0.055 * wave
    if style == WAVY:
        amplitude, period = 0.006 + 0.006 * wave, 0.095 - 0.045 * wave
    hang = 0.79
    front = float(rng.uniform(46, 58)) if rng.random() < 0.62 else float(rng.uniform(98, 112))
    plain = {
        "hang": hang,
        "front": front,
        "wave": amplitude,
        "period": period,
        "bumps": 0.0005,
        "fringe": fringe,
        "turn": 0.0,
        "messy": 0.25,
    }
    if style in (BALD, BUZZ):
        thick = 0.0012 + 0.5 * min(length, 0.006)
        return _Look(
            thick, thick, 0.006, 0.005, locks=260, steps=2, width=0.004, stand=0.3, gravity=0.0, **plain | {"messy": 0.5, "fringe": 0}
        )
    if style == CROP:
        top = 0.004 + 0.30 * length * loose
        return _Look(
            top, 0.003 + 0.05 * length, length, 0.6 * length, locks=520, steps=3, width=0.009, stand=0.20 * volume, gravity=0.1,
            **plain | {"messy": 0.45},
        )  # fmt: skip
    if style == SIDE:
        return _Look(
            0.006 + 0.16 * length * loose, 0.004 + 0.03 * length, length, 0.45 * length + 0.01, locks=400, steps=4, width=0.010,
            stand=0.10 * volume, gravity=0.25, **plain,
        )  # fmt: skip
    if style == QUIFF:
        return _Look(
            0.008 + 0.26 * length * loose, 0.003 + 0.02 * length, length, 0.025 + 0.1 * length, locks=400, steps=4, width=0.010,
            stand=0.22 * volume, gravity=0.0, **plain | {"fringe": 0},
        )  # fmt: skip
    if style == TIED:
        return _Look(
            0.004 + 0.006 * volume, 0.004 + 0.003 * volume, 0.18, 0.15, locks=300, steps=6, width=0.011, stand=0.0, gravity=0.0,
            **plain | {"wave": 0.4 * amplitude, "messy": 0.06, "fringe": max(fringe - 0.4, 0)},
        )  # fmt: skip
    if style == CURLY:
        shrunk = length * (0.75 - 0.35 * wave)
        ball = 0.010 + min(0.35 * shrunk, 0.042) * loose
        return _Look(
            ball, 0.8 * ball, 0.026 + 0.1 * shrunk, 0.024 + 0.1 * shrunk, locks=400, steps=5, width=0.007, stand=0.25, gravity=0.15,
            **plain | {"hang": 0.76 - max(shrunk - 0.05, 0) * 1.1, "wave": 0.004, "period": 0.024 + 0.02 * (1 - wave), "bumps": 0.0025,
                       "messy": 1.0, "front": 62.0},
        )  # fmt: skip
    drop = length * (1 - 0.15 * wave)
    hang = 0.745 - max(drop - 0.13, 0.02)
    turn = float(rng.uniform(0, 0.5)) if style in (BOB, CHIN) else 0.0
    return _Look(
        0.011 + 0.028 * volume, 0.008 + 0.021 * volume, length, length, locks=215, steps=9, width=0.013, stand=0.0, gravity=1.0,
        **plain | {"hang": hang, "turn": turn, "messy": 0.12, "front": front if style != BOB else float(rng.uniform(46, 58))},
    )  # fmt: skip


class _Rim:
    """The scalp between the hairline and, where the crown is bare, its edge."""

    def __init__(self, skull: _Skull, look: _Look, style: int, traits: Mapping[str, float], rng: np.random.Generator):
        receding, baldness = float(traits["hairline"]), float(traits["baldness"])
        degrees = _DEGREES
        edge = skull.hairline + (receding - 0.25) * np.interp(degrees, (0, 12, 34, 54, 68), (0.22, 0.28, 0.55, 0.30, 0.0))
        edge -= rng.uniform(-0.03, 0.07) * np.exp(-((degrees / 9) ** 2))  # a widow's peak
        cover = edge.copy()
        if style in (CHIN, BOB, STRAIGHT, WAVY) and look.front < 90:  # combed to the sides, long hair covers the corners of the forehead
            cover -= rng.uniform(0.2, 1.0) * np.interp(degrees, (0, 8, 26, 46, 60, 72), (0, 0.01, 0.10, 0.26, 0.16, 0))
        if look.fringe > 0.3 and look.hang < 0.74 and style != CURLY:
            ends = np.interp(degrees, (0, 40), (0.64 - 0.50 * look.fringe, 0.68 - 0.47 * look.fringe))
            cover = np.where(
                degrees < 54, np.minimum(cover, ends + (cover - ends) * _smoothstep(degrees, 30 + 12 * look.fringe, 58)), cover
            )
        self._degrees, self._edge, self._cover, self.baldness = degrees, edge, cover, baldness
        # A fringe that is not full is swept to the side away from the parting: longer there, shorter at the parting.
        swept = look.fringe > 0.3 and style not in (CROP, CURLY)
        self._tilt = swept * 0.30 * float(traits["parting"]) * (1 - 0.7 * _smoothstep(np.array(look.fringe), 0.5, 1.0))
        knots = rng.normal(0, 1, (2, 25))
        self._ragged = lambda phi: 0.012 * np.interp(phi % (2 * np.pi), np.linspace(0, 2 * np.pi, 25), knots[0])

    def edge(self, phi: np.ndarray) -> np.ndarray:
        """t of the hairline."""
        return np.interp(np.abs(np.degrees(phi)), self._degrees, self._edge) + self._ragged(phi)

    def cover(self, phi: np.ndarray) -> np.ndarray:
        """t down to which hair lies on the head: the hairline, or lower where a fringe or long hair falls over it."""
        tilt = self._tilt * np.sin(2 * np.clip(phi, -np.pi / 4, np.pi / 4)) * (1 - _smoothstep(np.abs(phi), 0.6, 1.0))
        low = np.interp(np.abs(np.degrees(phi)), self._degrees, self._cover)
        return np.minimum(low + tilt, self.edge(phi)) + self._ragged(phi)

    def top(self, phi: np.ndarray) -> np.ndarray:
        """t above which the head is bare; the pole where it is not."""
        if self.baldness < 0.15:
            return np.full_like(phi, np.pi / 2)
        back = 0.5 - 0.5 * np.cos(phi)  # 0 at the forehead, 1 at the back
        bare = 0.35 + self.baldness * (0.60 + 0.25 * back + 0.45 * (1 - _smoothstep(np.abs(phi), 0.9, 1.8)))
        edge = self.edge(phi)
        top = np.pi / 2 - bare
        return np.where((top - edge < 0.35) & (np.abs(phi) < 1.0), edge, np.maximum(top, edge))  # no island over the forehead


def _thickness(look: _Look, t: np.ndarray) -> np.ndarray:
    """Metres of hair over the scalp, away from its rim."""
    return look.sides * (1 - 0.35 * _smoothstep(-t, -0.1, 0.8)) + (look.top - look.sides) * _smoothstep(t, 0.35, 1.0)


def _cap(
    skull: _Skull, look: _Look, rim: _Rim, style: int, traits: Mapping[str, float], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The layer on the scalp and, for long hair, the curtain under it: vertices, faces, uv."""
    columns, rows = 81, 9
    even = np.linspace(-1, 1, columns)
    phi = np.pi * (0.62 * even + 0.38 * even**3 * np.abs(even))  # denser at the face
    edge = rim.cover(phi) + rng.normal(0, 0.016, columns) * np.where(rim.cover(phi) < rim.edge(phi) - 0.05, 2.2, 1)
    edge[-1] = edge[0]
    top = rim.top(phi)
    grown = top - edge > 0.04
    if rim.baldness >= 0.15:
        top = top + rng.normal(0, 0.03, columns)
        top[-1] = top[0]
    share = np.linspace(0, 1, rows)[:, None] ** 0.9
    t = top + (np.minimum(edge, top) - top) * share  # (rows, columns)
    spread = np.broadcast_to(phi, t.shape)
    inside = (t - edge) * UNIT  # metres from the hairline
    bare = (top - t) * UNIT if rim.baldness >= 0.15 else np.ones_like(t)
    rise = _smoothstep(np.minimum(inside, bare), -0.001, 0.010 + 0.6 * look.top)
    lift = 0.0008 + rise * np.maximum(_thickness(look, t) - 0.001, 0.0015)
    lumps = rng.normal(0, 1, t.shape)
    lumps[:, -1] = lumps[:, 0]
    lift = lift + look.bumps * rise * lumps
    if rim.baldness < 0.15:
        lift[0] = lift[0].mean()
    vertices = _place(spread, t, _look_up(skull.inner, spread, t) + lift)
    if style in _PARTED and look.fringe <= 0.3:  # combed to the sides: strands run in planes across the head, from the parting outwards
        across = np.abs(vertices[..., 0] - 0.038 * traits["parting"])
        way = np.where(t > 0.2, across + np.maximum(0.82 - vertices[..., 2], 0), 0.2 + (0.2 - t) * UNIT)
        uv = np.stack([vertices[..., 1] / look.width, np.clip(0.02 + 1.6 * way, 0, 1)], -1)
        lift_at_parting = 1 - 0.55 * np.exp(-((across / 0.005) ** 2)) * (t > rim.edge(phi) + 0.03)
        vertices = _place(spread, t, _look_up(skull.inner, spread, t) + 0.0008 + (lift - 0.0008) * lift_at_parting)
    else:
        uv = np.stack([np.broadcast_to(phi * UNIT / look.width, t.shape), np.broadcast_to(0.05 + 0.35 * share, t.shape)], -1)
    faces = _grid_faces(rows, columns)
    present = np.broadcast_to(grown, t.shape).ravel()
    faces = faces[present[faces].all(1)]
    if style == CURLY:
        uv = uv + rng.normal(0, (0.6, 0.05), uv.shape)
        uv[..., 1] = np.clip(uv[..., 1], 0, 1)
        uv[:, -1] = uv[:, 0]
    if look.hang > 0.74:
        return vertices.reshape(-1, 3), faces, uv.reshape(-1, 2)

    degrees = np.abs(np.degrees(phi))
    down = 9
    start = vertices[-1]  # (columns, 3) on the hairline
    tip = look.hang + 0.010 * (np.cos(phi) - 1) + rng.normal(0, 0.008, columns)
    tip[-1] = tip[0]
    tip = np.minimum(tip, start[:, 2] - 0.002)
    points, radius = [start], _polar(start)[2]
    # Straight hair falls as a sheet; curls make a ball that closes below.
    body = np.sqrt(1 - 0.97 * (np.arange(down + 1) / down) ** 2) if style == CURLY else np.ones(down + 1)
    for k in range(1, down + 1):
        z = start[:, 2] + (tip - start[:, 2]) * k / down
        free = _free(look, z)
        angle = np.sign(phi) * np.radians(np.maximum(degrees, free + 0.12 * (degrees - look.front)))
        depth = (z - CENTRE[2]) / UNIT
        at = np.where(depth > 0, np.arcsin(np.clip((z - CENTRE[2]) / np.maximum(radius, 0.05), 0, 0.99)), depth)
        outside = _look_up(skull.outer, angle, at) + 0.001 + _thickness(look, at) * min(1, k / 2) * body[k]
        inwards = 4.0 if style == CURLY else 0.10 + 0.5 * look.turn * (k / down) ** 2  # metres for a metre down
        radius = np.maximum(outside, radius - inwards * (start[:, 2] - tip) / down)
        angle = angle + np.sign(phi) * look.wave * min(1, k / 3) * np.sin(2 * np.pi * z / look.period + 0.6 * np.sin(5 * phi)) / 0.11
        points.append(_place(angle, at, radius))
    curtain = np.stack(points)  # (down + 1, columns, 3)
    hanging = np.broadcast_to(degrees >= look.front, curtain.shape[:2]).ravel()
    more = _grid_faces(down + 1, columns)
    more = more[hanging[more].all(1)] + vertices.shape[0] * columns
    v = np.linspace(0.4, 1.0, down + 1)[:, None]
    curtain_uv = np.stack([np.broadcast_to(phi * UNIT / look.width, curtain.shape[:2]), np.broadcast_to(v, curtain.shape[:2])], -1)
    return (
        np.concatenate([vertices.reshape(-1, 3), curtain.reshape(-1, 3)]),
        np.concatenate([faces, more]),
        np.concatenate([uv.reshape(-1, 2), curtain_uv.reshape(-1, 2)]),
    )


def _grid_faces(rows: int, columns: int) -> np.ndarray:
    """Triangles of a (rows, columns) grid of vertices, (·, 3)."""
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    square = np.stack([corner, corner + 1, corner + columns + 1, corner + columns], 1)
    return np.concatenate([square[:, (0, 1, 2)], square[:, (0, 2, 3)]])


def _roots(rim: _Rim, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """phi and t of roots spread evenly over the scalp."""
    angle = np.linspace(-np.pi, np.pi, 181)

    def area(t: np.ndarray) -> np.ndarray:
        return np.where(t > 0, np.sin(np.maximum(t, 0)), t)

    low, high = area(rim.edge(angle)), area(rim.top(angle))
    total = np.concatenate([[0], np.cumsum(np.maximum(high - low, 0)[1:] + 1e-6)])
    # A lattice, jittered: even cover without rows.
    first = (np.arange(count) + rng.random(count)) / count
    second = (np.arange(count) * 0.6180339887 + 0.15 * rng.random(count)) % 1
    phi = np.interp(first * total[-1], total, angle)
    share = np.interp(phi, angle, low) * (1 - second) + np.interp(phi, angle, high) * second
    return phi, np.where(share > 0, np.arcsin(np.clip(share, 0, 1)), share)


def _locks(
    skull: _Skull, look: _Look, rim: _Rim, style: int, traits: Mapping[str, float], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ribbons: vertices, faces, uv."""
    at_rim = int(look.locks * (0.15 + 0.15 * look.fringe))
    phi, t = _roots(rim, look.locks - at_rim, rng)
    # A row along the hairline of the face hides the cap's edge.
    rim_phi = np.radians(np.linspace(-78, 78, at_rim) + rng.normal(0, 1.0, at_rim))
    phi = np.concatenate([phi, rim_phi])
    # Long hair without a fringe leaves the hairline backwards: its locks would sag over the bare forehead if they grew at the very edge.
    above = 0.06 * (look.hang < 0.74 and look.fringe < 0.3 and style != CURLY)
    t = np.concatenate([t, np.minimum(rim.edge(rim_phi) + above + rng.uniform(-0.02, 0.03, at_rim), rim.top(rim_phi))])
    keep = rim.top(phi) - rim.edge(phi) > 0.03
    fine = np.arange(look.locks) >= look.locks - at_rim
    phi, t, fine = phi[keep], t[keep], fine[keep]
    count = len(phi)

    inside = np.maximum(t - rim.edge(phi), 0) * UNIT
    rise = _smoothstep(inside, -0.001, 0.010 + 0.6 * look.top)
    root = _place(phi, t, _look_up(skull.inner, phi, t) + 0.0005 + 0.75 * rise * _thickness(look, t))
    over = _smoothstep(t, 0.35, 0.9)  # 1 on the top of the head, 0 at its sides
    comb, length, free, stand = _comb(look, style, traits, root, phi, t, over, inside, rng)
    length = length * np.where(free, rng.uniform(0.88, 1.06, count), rng.uniform(0.75, 1.1, count))
    layer = rng.random(count)
    path = _grow(skull, look, root, comb, length, free, stand, layer, rise, rng)  # (steps + 1, N, 3)

    # Ribbons lie across the way out of the head, turned a little by chance.
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=2, keepdims=True) + 1e-9
    out = path - CENTRE
    out[..., 2] *= (path[..., 2] > CENTRE[2]) * 1.0
    out = out + rng.normal(0, 0.25, (1, count, 3)) * np.linalg.norm(out, axis=2, keepdims=True) * (0.5 + look.messy)
    across = _cross(along, out)
    across /= np.linalg.norm(across, axis=2, keepdims=True) + 1e-9
    v = (np.arange(look.steps + 1) / look.steps) ** 1.35
    profile = np.interp(v, (0, 0.25, 0.75, 1), (0.55, 1.0, 0.9, 0.2))
    width = look.width * rng.uniform(0.6, 1.25, count) * np.minimum(1, 0.35 + length / 0.03) * np.where(free, 0.7, 1)
    width *= np.where(fine & ~free, 0.5, 1)
    half = 0.5 * profile[:, None, None] * width[:, None] * across
    vertices = np.stack([path - half, path + half], 2)  # (steps + 1, N, 2, 3)
    number = rng.integers(0, 997, count)
    u = np.stack([number + 0.5 - 0.5 * profile[:, None] * np.ones(count), number + 0.5 + 0.5 * profile[:, None] * np.ones(count)], -1)
    uv = np.stack([u, np.broadcast_to(v[:, None, None], u.shape)], -1)
    corner = (np.arange(look.steps)[:, None] * count + np.arange(count)).ravel() * 2
    step = 2 * count
    faces = np.concatenate([np.stack([corner, corner + 1, corner + step + 1], 1), np.stack([corner, corner + step + 1, corner + step], 1)])
    return vertices.reshape(-1, 3), faces, uv.reshape(-1, 2)


def _comb(
    look: _Look,
    style: int,
    traits: Mapping[str, float],
    root: np.ndarray,
    phi: np.ndarray,
    t: np.ndarray,
    over: np.ndarray,
    inside: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Directions (N, 3) in which the locks are combed; their lengths, whether they may cross the face, how far they stand up: (N,)."""
    count = len(phi)
    side = np.sign(root[:, 0] - 0.038 * traits["parting"] + 1e-6)
    side = np.where(side == 0, 1, side)
    back = _smoothstep(root[:, 1], -0.06, 0.0)
    low = 1 - over
    x, y, z = side, np.zeros(count), np.zeros(count)
    if style in (BALD, BUZZ, CROP):
        x, y, z = 0.35 * side * (1 - 0.5 * back), -1.0 * over * (1 - back) + 0.25 * back, -low - 0.6 * back
    elif style == SIDE:
        x, y, z = side * (0.3 + 0.7 * over), 0.35 * over + 0.25 * low, -low - 0.6 * back
    elif style == QUIFF:
        beside = _smoothstep(np.abs(phi), 0.6, 1.05)  # the front is combed back, the sides back and down
        x, y, z = 0.25 * side * over, 1.0 * over + 0.5 * low, -0.9 * low * beside + 0.2 * (1 - beside)
    elif style == CURLY:
        x, y, z = 0.3 * side, 0.2 * np.ones(count), -0.5 * np.ones(count)
    elif style == TIED:
        knot = _knot_place(traits)
        x, y, z = ((knot - root) / 0.08).T
    else:
        tucked = look.front > 90  # behind the ears: combed more to the back
        x, y, z = side * (0.35 + 0.65 * (1 - back)), (0.3 + 0.7 * tucked) * (1 - back) + 0.4 * back, -0.25 * np.ones(count)
    comb = np.stack([x, y, z], 1)
    comb = comb / (np.linalg.norm(comb, axis=1, keepdims=True) + 1e-9)
    comb = comb + look.messy * rng.normal(0, 1, (count, 3))
    length = look.side_length + (look.length - look.side_length) * over
    if look.hang < 0.74 and style != CURLY:
        # Long locks end together: what is left of the length after the way from the root over the head.
        way = np.maximum(root[:, 2] - 0.745, 0)
        length = np.maximum(way * 1.25 + (0.745 - look.hang), 0.06)
    ear = (np.abs(np.degrees(phi)) < 100) & (root[:, 2] < 0.752)  # what grows round a bare ear is short
    if style == TIED:
        length = np.linalg.norm(_knot_place(traits) - root, axis=1) * 1.12 / 0.95
    if style == TIED or look.front > 90:
        length = np.where(ear, 0.012, length)
        comb = np.where(ear[:, None], np.array([0, 0.5, -0.8]), comb)
    elif look.hang > 0.74:
        length = np.where(over < 0.5, np.minimum(length, np.maximum(inside, 0) + 0.006), length)
        length = np.where((np.abs(phi) < 0.9) & (t < 1.0), np.minimum(length, inside + 0.030), length)  # not into the eyes
    free = np.zeros(count, bool)
    stand = np.full(count, look.stand)
    if style == QUIFF:
        stand = look.stand * (0.3 + 1.4 * over * (1 - back))
    if look.fringe > 0.05:
        width = 22 + 24 * look.fringe
        chosen = (np.abs(np.degrees(phi)) < width) & (inside < 0.012 + 0.022 * look.fringe) & (t > 0.3)
        sweep = 0.5 * traits["parting"]
        fall = np.stack([-sweep + 0.9 * root[:, 0] / 0.06, np.full(count, -0.9), np.full(count, -0.8)], 1) + 0.1 * rng.normal(
            0, 1, (count, 3)
        )
        comb = np.where(chosen[:, None], fall / np.linalg.norm(fall, axis=1, keepdims=True), comb)
        length = np.where(chosen, inside + 0.012 + 0.040 * look.fringe, length)
        stand = np.where(chosen, 0.0, stand)
        free |= chosen
    return comb, length, free, stand


def _grow(
    skull: _Skull,
    look: _Look,
    root: np.ndarray,
    comb: np.ndarray,
    length: np.ndarray,
    free: np.ndarray,
    stand: np.ndarray,
    layer: np.ndarray,
    rise: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """The middle lines of locks, (steps + 1, N, 3)."""
    count = len(root)
    phase = 2 * np.pi * (layer * 0.35 + 3.0 * root[:, 0] / 0.1)
    ends = (np.arange(look.steps + 1) / look.steps) ** 1.35  # short steps first, where the way bends most
    margin = np.radians(rng.uniform(0, 7, count))
    away = np.where(comb[:, 0] < 0, -1.0, 1.0)
    point, path = root, [root]
    phi, t, _ = _polar(root)
    frequency = 2 * np.pi / look.period
    for k in range(1, look.steps + 1):
        done = ends[k]
        step = length * (ends[k] - ends[k - 1])
        above = np.maximum(t, 0)
        flat = np.cos(above)
        out = np.stack([np.sin(phi) * flat, -np.cos(phi) * flat, np.sin(above)], 1)  # (N, 3), away from the axis
        pull = look.gravity * (0.15 + 0.85 * done) * (1 - 0.6 * _smoothstep(t, 0.5, 1.2))
        way = comb * (1 - 0.8 * min(look.gravity, 1) * _smoothstep(-t, -0.5, 0.3))[:, None] + np.array([0, 0, -2.0]) * pull[:, None]
        way = way - out * (way * out).sum(1, keepdims=True)
        way /= np.linalg.norm(way, axis=1, keepdims=True) + 1e-6
        across = _cross(way, out)
        way = way * (1 - stand[:, None]) + out * (stand * (1 - 0.6 * done))[:, None]
        travelled = length * done
        point = point + way * step[:, None]
        if look.wave:
            swing = look.wave * min(1, 2.5 * done)
            now, before = phase + frequency * travelled, phase + frequency * (travelled - step)
            point = point + across * (swing * (np.sin(now) - np.sin(before)))[:, None]
            point = point + out * (0.6 * swing * (np.cos(now) - np.cos(before)))[:, None]

        # Keep the face free, and keep out of the head and of the hair below.
        phi, t, radius = _polar(point)
        if look.hang < 0.74:
            limit = np.where(free, 0, np.radians(_free(look, point[:, 2])) + margin)
            side = np.where(np.abs(phi) > 0.45, np.sign(phi), away)
            phi = phi + np.where(np.abs(phi) < limit, np.clip(side * limit - phi, -0.5, 0.5), 0)
        thick = _thickness(look, t) * np.where(free, 0.4, np.maximum(rise, min(1, 2 * done)))
        cover = 0.0010 + thick * (0.88 + 0.2 * layer) + 0.012 * np.minimum(travelled, 0.12) + 0.0015 * layer
        surface = _look_up(skull.outer, phi, t) + cover
        gap = radius - surface
        hanging = 0.6 if look.messy >= 1 else 0.93 - 0.25 * look.turn * done
        loose = np.where(t > 0, np.minimum(0.12 + 3.0 * stand, 0.95), hanging)
        point = _place(phi, t, surface + np.clip(gap, 0, None) * loose)
        path.append(point)
    return np.stack(path)


def _knot_place(traits: Mapping[str, float]) -> np.ndarray:
    """Where tied hair is gathered: high behind the crown or low at the nape."""
    high = np.clip(traits["hair_volume"], 0, 1)
    return np.array([0.0, 0.052 - 0.035 * _smoothstep(np.array(high), 0.55, 1.0), 0.70 + 0.155 * _smoothstep(np.array(high), 0.3, 0.9)])


def _knot(traits: Mapping[str, float], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A bun."""
    rows, columns = 7, 15
    size = 0.020 + 0.035 * min(traits["hair_length"], 0.4)
    a, b = np.meshgrid(np.linspace(0, np.pi, rows), np.linspace(0, 2 * np.pi, columns), indexing="ij")
    bump = rng.normal(1, 0.05, (rows, columns))
    bump[:, -1] = bump[:, 0]
    bump[0], bump[-1] = 1, 1
    ball = np.stack([np.sin(a) * np.cos(b), np.sin(a) * np.sin(b), np.cos(a)], -1) * bump[..., None]
    place = _knot_place(traits)
    out = place - CENTRE
    out /= np.linalg.norm(out)
    vertices = place + out * 0.4 * size + ball * size * np.array([1.15, 1.0, 0.95])
    uv = np.stack([a / np.pi * 6, b / (2 * np.pi)], -1)
    return vertices.reshape(-1, 3), _grid_faces(rows, columns), uv.reshape(-1, 2)


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
        head: from `load_head`.
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
    anchor, weight = _seat(_skull(head), vertices)
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


def _seat(skull: _Skull, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Anchors of glasses (M, 3): the nose's bridge in the middle, the temples at the hinges, the tops of the ears behind."""
    back = np.clip((points[:, 1] - (_LENS_Y + 0.012)) / (_EAR[1] - 0.02 - _LENS_Y - 0.012), 0, 1)
    out = np.clip(np.abs(points[:, 0]) / _HINGE, 0, 1) * (1 - back)
    middle = 1 - back - out
    left = points[:, 0] >= 0
    share = np.stack([middle, out * left, back * left, out * ~left, back * ~left], 1)  # (M, 5)
    anchor = np.broadcast_to(skull.seats, (len(points), 20))
    return np.ascontiguousarray(anchor, np.int32), np.repeat(share / 4, 4, 1).astype(np.float32)
