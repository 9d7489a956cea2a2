"""Hair: triangles that hang on a head, modelled on the template from one person's traits.

Hair has three layers. A *cap* lies on the scalp between the hairline and the crown, so that no skin shows through. A *curtain* goes on from
it, down to the tips, where hair is long. *Locks*, thin ribbons, grow out of both: each follows the direction in which its style is combed,
falls under gravity, is kept out of the head, and hides the cap's edge. Places on the head are given by phi and t, as in `skull`.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np

from .cut import PARTED, Cut, Rim, cut_of, free_face, thickness
from .head import Head
from .mesh import HAIR, Part, join
from .people import BALD, BUZZ, CROP, CURLY, QUIFF, SIDE, TIED
from .skull import CENTRE, UNIT, Skull, cross, hang, look_up, measure, place, polar, smoothstep


def hair_part(head: Head, traits: Mapping[str, float]) -> Part:
    """The hair of one person.

    Args:
        head: from `reduce.load_head`; its template is measured once.
        traits: of `People.person`: hair_style, hair_length, hair_volume, hair_wave, hairline, baldness, parting, fringe.

    Returns:
        A part of at most about 6,000 triangles, the same for the same traits; empty for a shaved head. u is a lock's number with its
        width as one unit, v runs from 0 at a lock's root to 1 at its tip.
    """
    skull = measure(head)
    used = ("hair_style", "hair_length", "hair_volume", "hair_wave", "hairline", "baldness", "parting", "fringe", "age_years", "skin")
    rng = np.random.default_rng(zlib.crc32(np.array([traits[name] for name in used], np.float32).tobytes()))
    style = int(round(traits["hair_style"]))
    if style == BALD and traits["baldness"] < 0.15:
        return join([])
    cut = cut_of(style, traits, rng)
    rim = Rim(skull, cut, style, traits, rng)
    pieces = [_cap(skull, cut, rim, style, traits, rng), _locks(skull, cut, rim, style, traits, rng)]
    if style == TIED:
        pieces.append(_knot(traits, rng))
    vertices = np.concatenate([piece[0] for piece in pieces])
    starts = np.cumsum([0, *(len(piece[0]) for piece in pieces)])
    faces = np.concatenate([piece[1] + start for piece, start in zip(pieces, starts, strict=False)])
    uv = np.concatenate([piece[2] for piece in pieces])
    drawn = np.zeros(len(vertices), bool)  # where the scalp is bare and before the face, grids have vertices without triangles
    drawn[faces] = True
    vertices, uv, faces = vertices[drawn], uv[drawn], (np.cumsum(drawn) - 1)[faces]
    anchor, weight = hang(skull, vertices)
    return Part(
        vertices.astype(np.float32), faces.astype(np.int32), uv.astype(np.float32), np.full(len(faces), HAIR, np.int8), anchor, weight
    )


def _cap(
    skull: Skull, cut: Cut, rim: Rim, style: int, traits: Mapping[str, float], rng: np.random.Generator
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
    rise = smoothstep(np.minimum(inside, bare), -0.001, 0.010 + 0.6 * cut.top)
    lift = 0.0008 + rise * np.maximum(thickness(cut, t) - 0.001, 0.0015)
    lumps = rng.normal(0, 1, t.shape)
    lumps[:, -1] = lumps[:, 0]
    lift = lift + cut.bumps * rise * lumps
    if rim.baldness < 0.15:
        lift[0] = lift[0].mean()
    vertices = place(spread, t, look_up(skull.inner, spread, t) + lift)
    if style in PARTED and cut.fringe <= 0.3:  # combed to the sides: strands run in planes across the head, from the parting outwards
        across = np.abs(vertices[..., 0] - 0.038 * traits["parting"])
        way = np.where(t > 0.2, across + np.maximum(0.82 - vertices[..., 2], 0), 0.2 + (0.2 - t) * UNIT)
        uv = np.stack([vertices[..., 1] / cut.width, np.clip(0.02 + 1.6 * way, 0, 1)], -1)
        lift_at_parting = 1 - 0.55 * np.exp(-((across / 0.005) ** 2)) * (t > rim.edge(phi) + 0.03)
        vertices = place(spread, t, look_up(skull.inner, spread, t) + 0.0008 + (lift - 0.0008) * lift_at_parting)
    else:
        uv = np.stack([np.broadcast_to(phi * UNIT / cut.width, t.shape), np.broadcast_to(0.05 + 0.35 * share, t.shape)], -1)
    faces = _grid_faces(rows, columns)
    present = np.broadcast_to(grown, t.shape).ravel()
    faces = faces[present[faces].all(1)]
    if style == CURLY:
        uv = uv + rng.normal(0, (0.6, 0.05), uv.shape)
        uv[..., 1] = np.clip(uv[..., 1], 0, 1)
        uv[:, -1] = uv[:, 0]
    if cut.hang > 0.74:
        return vertices.reshape(-1, 3), faces, uv.reshape(-1, 2)

    degrees = np.abs(np.degrees(phi))
    down = 9
    start = vertices[-1]  # (columns, 3) on the hairline
    tip = cut.hang + 0.010 * (np.cos(phi) - 1) + rng.normal(0, 0.008, columns)
    tip[-1] = tip[0]
    tip = np.minimum(tip, start[:, 2] - 0.002)
    points, radius = [start], polar(start)[2]
    # Straight hair falls as a sheet; curls make a ball that closes below.
    body = np.sqrt(1 - 0.97 * (np.arange(down + 1) / down) ** 2) if style == CURLY else np.ones(down + 1)
    for k in range(1, down + 1):
        z = start[:, 2] + (tip - start[:, 2]) * k / down
        free = free_face(cut, z)
        angle = np.sign(phi) * np.radians(np.maximum(degrees, free + 0.12 * (degrees - cut.front)))
        depth = (z - CENTRE[2]) / UNIT
        at = np.where(depth > 0, np.arcsin(np.clip((z - CENTRE[2]) / np.maximum(radius, 0.05), 0, 0.99)), depth)
        outside = look_up(skull.outer, angle, at) + 0.001 + thickness(cut, at) * min(1, k / 2) * body[k]
        inwards = 4.0 if style == CURLY else 0.10 + 0.5 * cut.turn * (k / down) ** 2  # metres for a metre down
        radius = np.maximum(outside, radius - inwards * (start[:, 2] - tip) / down)
        angle = angle + np.sign(phi) * cut.wave * min(1, k / 3) * np.sin(2 * np.pi * z / cut.period + 0.6 * np.sin(5 * phi)) / 0.11
        points.append(place(angle, at, radius))
    curtain = np.stack(points)  # (down + 1, columns, 3)
    hanging = np.broadcast_to(degrees >= cut.front, curtain.shape[:2]).ravel()
    more = _grid_faces(down + 1, columns)
    more = more[hanging[more].all(1)] + vertices.shape[0] * columns
    v = np.linspace(0.4, 1.0, down + 1)[:, None]
    curtain_uv = np.stack([np.broadcast_to(phi * UNIT / cut.width, curtain.shape[:2]), np.broadcast_to(v, curtain.shape[:2])], -1)
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


def _roots(rim: Rim, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
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
    skull: Skull, cut: Cut, rim: Rim, style: int, traits: Mapping[str, float], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ribbons: vertices, faces, uv."""
    at_rim = int(cut.locks * (0.15 + 0.15 * cut.fringe))
    phi, t = _roots(rim, cut.locks - at_rim, rng)
    # A row along the hairline of the face hides the cap's edge.
    rim_phi = np.radians(np.linspace(-78, 78, at_rim) + rng.normal(0, 1.0, at_rim))
    phi = np.concatenate([phi, rim_phi])
    # Long hair without a fringe leaves the hairline backwards: its locks would sag over the bare forehead if they grew at the very edge.
    above = 0.06 * (cut.hang < 0.74 and cut.fringe < 0.3 and style != CURLY)
    t = np.concatenate([t, np.minimum(rim.edge(rim_phi) + above + rng.uniform(-0.02, 0.03, at_rim), rim.top(rim_phi))])
    keep = rim.top(phi) - rim.edge(phi) > 0.03
    fine = np.arange(cut.locks) >= cut.locks - at_rim
    phi, t, fine = phi[keep], t[keep], fine[keep]
    count = len(phi)

    inside = np.maximum(t - rim.edge(phi), 0) * UNIT
    rise = smoothstep(inside, -0.001, 0.010 + 0.6 * cut.top)
    root = place(phi, t, look_up(skull.inner, phi, t) + 0.0005 + 0.75 * rise * thickness(cut, t))
    over = smoothstep(t, 0.35, 0.9)  # 1 on the top of the head, 0 at its sides
    comb, length, free, stand = _comb(cut, style, traits, root, phi, t, over, inside, rng)
    length = length * np.where(free, rng.uniform(0.88, 1.06, count), rng.uniform(0.75, 1.1, count))
    layer = rng.random(count)
    path = _grow(skull, cut, root, comb, length, free, stand, layer, rise, rng)  # (steps + 1, N, 3)

    # Ribbons lie across the way out of the head, turned a little by chance.
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=2, keepdims=True) + 1e-9
    out = path - CENTRE
    out[..., 2] *= (path[..., 2] > CENTRE[2]) * 1.0
    out = out + rng.normal(0, 0.25, (1, count, 3)) * np.linalg.norm(out, axis=2, keepdims=True) * (0.5 + cut.messy)
    across = cross(along, out)
    across /= np.linalg.norm(across, axis=2, keepdims=True) + 1e-9
    v = (np.arange(cut.steps + 1) / cut.steps) ** 1.35
    profile = np.interp(v, (0, 0.25, 0.75, 1), (0.55, 1.0, 0.9, 0.2))
    width = cut.width * rng.uniform(0.6, 1.25, count) * np.minimum(1, 0.35 + length / 0.03) * np.where(free, 0.7, 1)
    width *= np.where(fine & ~free, 0.5, 1)
    half = 0.5 * profile[:, None, None] * width[:, None] * across
    vertices = np.stack([path - half, path + half], 2)  # (steps + 1, N, 2, 3)
    number = rng.integers(0, 997, count)
    u = np.stack([number + 0.5 - 0.5 * profile[:, None] * np.ones(count), number + 0.5 + 0.5 * profile[:, None] * np.ones(count)], -1)
    uv = np.stack([u, np.broadcast_to(v[:, None, None], u.shape)], -1)
    corner = (np.arange(cut.steps)[:, None] * count + np.arange(count)).ravel() * 2
    step = 2 * count
    faces = np.concatenate([np.stack([corner, corner + 1, corner + step + 1], 1), np.stack([corner, corner + step + 1, corner + step], 1)])
    return vertices.reshape(-1, 3), faces, uv.reshape(-1, 2)


def _comb(
    cut: Cut,
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
    back = smoothstep(root[:, 1], -0.06, 0.0)
    low = 1 - over
    x, y, z = side, np.zeros(count), np.zeros(count)
    if style in (BALD, BUZZ, CROP):
        x, y, z = 0.35 * side * (1 - 0.5 * back), -1.0 * over * (1 - back) + 0.25 * back, -low - 0.6 * back
    elif style == SIDE:
        x, y, z = side * (0.3 + 0.7 * over), 0.35 * over + 0.25 * low, -low - 0.6 * back
    elif style == QUIFF:
        beside = smoothstep(np.abs(phi), 0.6, 1.05)  # the front is combed back, the sides back and down
        x, y, z = 0.25 * side * over, 1.0 * over + 0.5 * low, -0.9 * low * beside + 0.2 * (1 - beside)
    elif style == CURLY:
        x, y, z = 0.3 * side, 0.2 * np.ones(count), -0.5 * np.ones(count)
    elif style == TIED:
        knot = _knot_place(traits)
        x, y, z = ((knot - root) / 0.08).T
    else:
        tucked = cut.front > 90  # behind the ears: combed more to the back
        x, y, z = side * (0.35 + 0.65 * (1 - back)), (0.3 + 0.7 * tucked) * (1 - back) + 0.4 * back, -0.25 * np.ones(count)
    comb = np.stack([x, y, z], 1)
    comb = comb / (np.linalg.norm(comb, axis=1, keepdims=True) + 1e-9)
    comb = comb + cut.messy * rng.normal(0, 1, (count, 3))
    length = cut.side_length + (cut.length - cut.side_length) * over
    if cut.hang < 0.74 and style != CURLY:
        # Long locks end together: what is left of the length after the way from the root over the head.
        way = np.maximum(root[:, 2] - 0.745, 0)
        length = np.maximum(way * 1.25 + (0.745 - cut.hang), 0.06)
    ear = (np.abs(np.degrees(phi)) < 100) & (root[:, 2] < 0.752)  # what grows round a bare ear is short
    if style == TIED:
        length = np.linalg.norm(_knot_place(traits) - root, axis=1) * 1.12 / 0.95
    if style == TIED or cut.front > 90:
        length = np.where(ear, 0.012, length)
        comb = np.where(ear[:, None], np.array([0, 0.5, -0.8]), comb)
    elif cut.hang > 0.74:
        length = np.where(over < 0.5, np.minimum(length, np.maximum(inside, 0) + 0.006), length)
        length = np.where((np.abs(phi) < 0.9) & (t < 1.0), np.minimum(length, inside + 0.030), length)  # not into the eyes
    free = np.zeros(count, bool)
    stand = np.full(count, cut.stand)
    if style == QUIFF:
        stand = cut.stand * (0.3 + 1.4 * over * (1 - back))
    if cut.fringe > 0.05:
        width = 22 + 24 * cut.fringe
        chosen = (np.abs(np.degrees(phi)) < width) & (inside < 0.012 + 0.022 * cut.fringe) & (t > 0.3)
        sweep = 0.5 * traits["parting"]
        fall = np.stack([-sweep + 0.9 * root[:, 0] / 0.06, np.full(count, -0.9), np.full(count, -0.8)], 1)
        fall = fall + 0.1 * rng.normal(0, 1, (count, 3))
        comb = np.where(chosen[:, None], fall / np.linalg.norm(fall, axis=1, keepdims=True), comb)
        length = np.where(chosen, inside + 0.012 + 0.040 * cut.fringe, length)
        stand = np.where(chosen, 0.0, stand)
        free |= chosen
    return comb, length, free, stand


def _grow(
    skull: Skull,
    cut: Cut,
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
    ends = (np.arange(cut.steps + 1) / cut.steps) ** 1.35  # short steps first, where the way bends most
    margin = np.radians(rng.uniform(0, 7, count))
    away = np.where(comb[:, 0] < 0, -1.0, 1.0)
    point, path = root, [root]
    phi, t, _ = polar(root)
    frequency = 2 * np.pi / cut.period
    for k in range(1, cut.steps + 1):
        done = ends[k]
        step = length * (ends[k] - ends[k - 1])
        above = np.maximum(t, 0)
        flat = np.cos(above)
        out = np.stack([np.sin(phi) * flat, -np.cos(phi) * flat, np.sin(above)], 1)  # (N, 3), away from the axis
        pull = cut.gravity * (0.15 + 0.85 * done) * (1 - 0.6 * smoothstep(t, 0.5, 1.2))
        way = comb * (1 - 0.8 * min(cut.gravity, 1) * smoothstep(-t, -0.5, 0.3))[:, None] + np.array([0, 0, -2.0]) * pull[:, None]
        way = way - out * (way * out).sum(1, keepdims=True)
        way /= np.linalg.norm(way, axis=1, keepdims=True) + 1e-6
        across = cross(way, out)
        way = way * (1 - stand[:, None]) + out * (stand * (1 - 0.6 * done))[:, None]
        travelled = length * done
        point = point + way * step[:, None]
        if cut.wave:
            swing = cut.wave * min(1, 2.5 * done)
            now, before = phase + frequency * travelled, phase + frequency * (travelled - step)
            point = point + across * (swing * (np.sin(now) - np.sin(before)))[:, None]
            point = point + out * (0.6 * swing * (np.cos(now) - np.cos(before)))[:, None]

        # Keep the face free, and keep out of the head and of the hair below.
        phi, t, radius = polar(point)
        if cut.hang < 0.74:
            limit = np.where(free, 0, np.radians(free_face(cut, point[:, 2])) + margin)
            side = np.where(np.abs(phi) > 0.45, np.sign(phi), away)
            phi = phi + np.where(np.abs(phi) < limit, np.clip(side * limit - phi, -0.5, 0.5), 0)
        thick = thickness(cut, t) * np.where(free, 0.4, np.maximum(rise, min(1, 2 * done)))
        cover = 0.0010 + thick * (0.88 + 0.2 * layer) + 0.012 * np.minimum(travelled, 0.12) + 0.0015 * layer
        surface = look_up(skull.outer, phi, t) + cover
        gap = radius - surface
        hanging = 0.6 if cut.messy >= 1 else 0.93 - 0.25 * cut.turn * done
        loose = np.where(t > 0, np.minimum(0.12 + 3.0 * stand, 0.95), hanging)
        point = place(phi, t, surface + np.clip(gap, 0, None) * loose)
        path.append(point)
    return np.stack(path)


def _knot_place(traits: Mapping[str, float]) -> np.ndarray:
    """Where tied hair is gathered: high behind the crown or low at the nape."""
    high = np.clip(traits["hair_volume"], 0, 1)
    return np.array([0.0, 0.052 - 0.035 * smoothstep(np.array(high), 0.55, 1.0), 0.70 + 0.155 * smoothstep(np.array(high), 0.3, 0.9)])


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
