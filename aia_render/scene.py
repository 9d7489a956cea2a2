"""From people and views to grey images and region masks: rays through triangles, then light, skin, hair and a camera.

Each image is one triangle mesh (the head and the parts that hang on it), all images of a batch are one kernel launch. Nothing in an image
depends on what else is in the batch: sums run in a fixed order, and what is random comes from the image's own `noise_seed`.
"""

# No `from __future__ import annotations`: Warp reads the annotations of kernels.
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from aia_lib.files import UserError
from .head import need_render

need_render()

import warp as wp  # noqa: E402

from . import mesh as m  # noqa: E402
from .head import Head, load_head  # noqa: E402
from .people import SUN  # noqa: E402

if TYPE_CHECKING:
    from .people import People
    from .views import Views

LANDMARKS = ((0.357, 0.438), (0.643, 0.438), (0.5, 0.745))
"""Where the right eye, the left eye and the middle of the mouth come to lie in an image, in image widths from its left and upper edge, as
far as scale and shift alone can bring them there: aligned photographs of faces (CelebA's) have them here on average."""

ANCHOR = (0.0, -0.142, 0.7284)
"""The point between the eyes of the template, on the surface."""

PIVOT = (0.0, -0.03, 0.63)
"""About which a head turns: the top of the neck."""

BATCH = {"cpu": 32, "cuda": 256}
"""Images a launch: enough to fill the device, few enough to keep their triangles in memory."""

LAYERS = 10
"""Most surfaces that a ray looks through (tips of hair, lenses) before it takes the next one for solid."""

wp.config.quiet = True  # older Warps
wp.config.log_level = 40  # its LOG_ERROR: nothing about compilers and missing GPUs on the user's screen
wp.set_module_options({"enable_backward": False})


@wp.struct
class Look:
    """What one image's shading needs: the person's traits, the view, and where its arrays lie."""

    person_seed: wp.uint32
    seed: wp.uint32
    mesh: wp.uint64
    point_start: wp.int32
    point_count: wp.int32
    face_start: wp.int32
    face_count: wp.int32
    rest_start: wp.int32
    # the person
    skin: wp.float32
    skin_texture: wp.float32
    lips: wp.float32
    makeup: wp.float32
    aged: wp.float32
    brow: wp.float32
    brow_thickness: wp.float32
    brow_darkness: wp.float32
    brow_height: wp.float32
    brow_arch: wp.float32
    eye: wp.float32
    hair: wp.float32
    beard: wp.float32
    beard_cheeks: wp.float32
    moustache: wp.float32
    stubble: wp.float32
    glasses_dark: wp.float32
    sun_glasses: wp.float32
    clear_glasses: wp.int32
    # the expression, where it draws creases
    smile: wp.float32
    parted: wp.float32
    brow_raise: wp.float32
    frown: wp.float32
    # the camera and the pose
    turn: wp.mat33
    turn_neck: wp.mat33
    anchor: wp.vec3
    camera: wp.float32
    width: wp.float32
    shift_x: wp.float32
    shift_y: wp.float32
    gaze: wp.vec3
    left_eye: wp.vec3
    right_eye: wp.vec3
    # the light
    light: wp.vec3
    softness: wp.float32
    key: wp.float32
    ambient: wp.float32
    rim: wp.vec3
    rim_key: wp.float32
    exposure: wp.float32
    # behind and below the face
    background: wp.int32
    background_level: wp.float32
    background_contrast: wp.float32
    background_angle: wp.float32
    cloth: wp.float32
    collar: wp.float32
    open_collar: wp.float32


@wp.func
def mix_bits(x: wp.uint32) -> wp.uint32:
    """A hash of 32 bits whose every output bit depends on every input bit."""
    x = x ^ (x >> wp.uint32(16))
    x = x * wp.uint32(2146121005)
    x = x ^ (x >> wp.uint32(15))
    x = x * wp.uint32(2073254261)
    return x ^ (x >> wp.uint32(16))


@wp.func
def chance(seed: wp.uint32, a: int, b: int) -> float:
    """A number in [0, 1) that depends on the arguments only."""
    x = mix_bits(seed + wp.uint32(a) * wp.uint32(1640531527))
    x = mix_bits(x + wp.uint32(b) * wp.uint32(1028477379))
    return float(x >> wp.uint32(8)) * 5.9604644775390625e-08


@wp.func
def corner(seed: wp.uint32, x: int, y: int, z: int) -> float:
    h = seed + wp.uint32(x) * wp.uint32(1640531527) + wp.uint32(y) * wp.uint32(2048144777) + wp.uint32(z) * wp.uint32(1028477379)
    return float(mix_bits(h) >> wp.uint32(8)) * 1.1920928955078125e-07 - 1.0


@wp.func
def noise(seed: wp.uint32, p: wp.vec3) -> float:
    """Value noise in [-1, 1] with features of size 1."""
    x = wp.floor(p[0])
    y = wp.floor(p[1])
    z = wp.floor(p[2])
    i = int(x)
    j = int(y)
    k = int(z)
    u = p[0] - x
    v = p[1] - y
    w = p[2] - z
    u = u * u * (3.0 - 2.0 * u)
    v = v * v * (3.0 - 2.0 * v)
    w = w * w * (3.0 - 2.0 * w)
    low = wp.lerp(
        wp.lerp(corner(seed, i, j, k), corner(seed, i + 1, j, k), u),
        wp.lerp(corner(seed, i, j + 1, k), corner(seed, i + 1, j + 1, k), u),
        v,
    )
    high = wp.lerp(
        wp.lerp(corner(seed, i, j, k + 1), corner(seed, i + 1, j, k + 1), u),
        wp.lerp(corner(seed, i, j + 1, k + 1), corner(seed, i + 1, j + 1, k + 1), u),
        v,
    )
    return wp.lerp(low, high, w)


@wp.func
def step(low: float, high: float, x: float) -> float:
    """0 at `low`, 1 at `high`, smooth between; `low` may be the larger."""
    t = wp.clamp((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


@wp.func
def bump(x: float, width: float) -> float:
    return wp.exp(-(x * x) / (width * width))


@wp.func
def segment(x: float, z: float, ax: float, az: float, bx: float, bz: float) -> float:
    """Distance of (x, z) from a segment."""
    dx = bx - ax
    dz = bz - az
    t = wp.clamp(((x - ax) * dx + (z - az) * dz) / (dx * dx + dz * dz), 0.0, 1.0)
    return wp.length(wp.vec2(x - ax - t * dx, z - az - t * dz))


@wp.func
def brow_cover(look: Look, p: wp.vec3) -> float:
    """How much of the skin at template place `p` the brow's hair hides, in [0, 1]."""
    x = wp.abs(p[0])
    t = (x - 0.012) / 0.045
    if t < -0.15 or t > 1.15 or p[1] > -0.07 or p[2] < 0.73 or p[2] > 0.775:
        return 0.0
    s = t - 0.62
    rise = 0.0015 + 0.0055 * look.brow_arch
    middle = 0.7482 + look.brow_height + rise * (1.0 - s * s / 0.38)
    if s > 0.0:
        middle -= 0.035 * s * s
    half = 1.35 * look.brow_thickness * (1.0 - 0.68 * step(0.45, 1.08, t)) * (0.72 + 0.28 * step(-0.05, 0.2, t))
    # Hairs stand up at the inner end and lie along the brow at the outer one.
    lean = 1.1 - 1.2 * wp.clamp(t, 0.0, 1.0)
    across = -x * wp.sin(lean) + p[2] * wp.cos(lean)
    along = x * wp.cos(lean) + p[2] * wp.sin(lean)
    side = 0.0
    if p[0] > 0.0:
        side = 7.0
    strokes = noise(look.person_seed + wp.uint32(11), wp.vec3(across * 1300.0, along * 180.0, side))
    ragged = half * (1.0 + 0.3 * noise(look.person_seed + wp.uint32(12), wp.vec3(across * 700.0, along * 150.0, side)))
    edge = step(1.25, 0.45, wp.abs(p[2] - middle) / ragged) * step(-0.1, 0.08, t) * step(1.1, 0.85, t)
    return wp.clamp(edge * look.brow_darkness * (0.92 + 0.35 * strokes), 0.0, 1.0)


@wp.func
def beard_cover(look: Look, p: wp.vec3, lips: float) -> float:
    """How much of the skin at template place `p` facial hair hides, in [0, 1]."""
    x = wp.abs(p[0])
    if p[2] > 0.735 or p[1] > -0.02 or p[2] < 0.585:
        return 0.0
    ragged = 0.004 * noise(look.person_seed + wp.uint32(21), p * 260.0)
    line = 0.664 + wp.max(x - 0.03, 0.0) * 1.15 + ragged
    below = step(line + 0.003, line - 0.006, p[2]) * step(-0.035, -0.05, p[1]) * step(0.592, 0.606, p[2] + 0.2 * wp.max(-0.1 - p[1], 0.0))
    chin = step(0.036, 0.026, x) * step(0.652, 0.646, p[2] + ragged)
    cheeks = below * step(0.024, 0.036, x)
    lip = step(0.034, 0.028, x) * step(0.686, 0.680, p[2] + 0.5 * ragged + 0.25 * x) * step(0.66, 0.665, p[2])
    corners = step(0.039, 0.034, x) * step(0.021, 0.026, x) * step(0.682, 0.674, p[2]) * step(0.64, 0.646, p[2])
    cover = wp.max(look.beard * chin * below, look.beard_cheeks * cheeks)
    cover = wp.max(cover, look.moustache * lip)
    cover = wp.max(cover, wp.min(look.beard, look.moustache) * corners)
    shade = 0.5 * look.stubble * wp.max(wp.max(chin * below, cheeks), wp.max(lip, corners))
    strokes = noise(look.person_seed + wp.uint32(22), wp.vec3(p[0] * 900.0, p[1] * 500.0, p[2] * 350.0))
    cover = wp.max(cover * (0.95 + 0.3 * strokes), shade * (1.0 + 0.3 * strokes))
    return wp.clamp(cover * (1.0 - lips), 0.0, 0.97)


@wp.func
def skin_region(p: wp.vec3, lips: float, lids: float, ears: float, inside: float) -> int:
    x = wp.abs(p[0])
    region = wp.int32(1)
    if lips > 0.4 or (inside > 0.5 and p[2] < 0.668):
        region = 5
    elif lids > 0.4:
        region = 3
    elif ears > 0.5:
        region = 7
    elif p[2] > 0.679 and p[2] < 0.733 and p[1] < -0.12 and x < 0.0205 - 0.012 * step(0.69, 0.733, p[2]):
        region = 4
    elif p[2] < 0.648 + 0.9 * wp.clamp(x - 0.035, 0.0, 0.03) and p[1] < -0.045 and p[2] > 0.606 + 1.3 * wp.max(p[1] + 0.075, 0.0):
        region = 6
    return region


@wp.func
def skin_albedo(look: Look, p: wp.vec3, lips: float, lids: float, inside: float, lashes: float):
    """Albedo and specular strength of the skin at template place `p`."""
    x = wp.abs(p[0])
    s = look.person_seed
    texture = look.skin_texture
    blotch = noise(s, p * 45.0) + 0.6 * noise(s + wp.uint32(1), p * 110.0)
    fine = noise(s + wp.uint32(2), p * 330.0)
    spots = step(0.45, 0.95, noise(s + wp.uint32(3), p * 330.0))
    face = step(-0.03, -0.07, p[1]) * step(0.60, 0.625, p[2])
    albedo = look.skin * (1.0 + (0.03 + 0.06 * texture) * blotch + 0.035 * texture * fine - 0.22 * texture * texture * spots)
    # Blood near the surface: cheeks and the nose's tip are darker in grey, more so in light skin.
    red = bump(x - 0.042, 0.018) * bump(p[2] - 0.688, 0.016) + 0.8 * bump(x, 0.014) * bump(p[2] - 0.692, 0.012)
    albedo *= 1.0 - (0.05 + 0.07 * look.makeup) * red * face
    # Under the eyes, in the socket's inner corner, beside the mouth.
    under = bump(x - 0.03, 0.014) * bump(p[2] - (0.7145 - 0.10 * wp.abs(x - 0.03)), 0.0045)
    albedo *= 1.0 - (0.09 + 0.12 * texture + 0.14 * look.aged) * (1.0 - 0.6 * look.makeup) * under * face
    albedo *= 1.0 - 0.16 * bump(x - 0.0155, 0.006) * bump(p[2] - 0.733, 0.009) * face
    # The socket round the eye, the flanks of the nose, below the lower lip, the rim of the face.
    socket = bump(x - 0.031, 0.021) * bump(p[2] - 0.731, 0.013)
    flank = bump(x - 0.0125, 0.0045) * step(0.684, 0.70, p[2]) * step(0.735, 0.72, p[2])
    shade = 0.08 * socket + 0.10 * flank + 0.12 * bump(x, 0.016) * bump(p[2] - 0.6445, 0.0045)
    albedo *= 1.0 - (shade + 0.16 * step(-0.085, -0.03, p[1])) * face
    fold = segment(x, p[2], 0.019, 0.692, 0.033, 0.657)
    depth = 0.05 + 0.14 * look.aged + 0.22 * look.smile
    albedo *= 1.0 - depth * bump(fold, 0.0022 + 0.0012 * look.aged) * face
    if look.aged > 0.15:
        jowl = segment(x, p[2], 0.0305, 0.652, 0.034, 0.632)
        albedo *= 1.0 - 0.16 * look.aged * bump(jowl, 0.0025) * face
        feet = noise(s + wp.uint32(4), wp.vec3(x * 120.0, 0.0, (p[2] - 0.728) / wp.max(x - 0.03, 0.012) * 6.0))
        albedo *= 1.0 - look.aged * (0.14 + 0.2 * look.smile) * wp.max(feet, 0.0) * bump(x - 0.059, 0.008) * bump(p[2] - 0.725, 0.013)
    lines = look.aged * 0.5 + look.brow_raise * (0.25 + 0.75 * look.aged)
    if lines > 0.1 and p[2] > 0.762:
        wave = wp.sin((p[2] + 0.0016 * noise(s + wp.uint32(5), p * 60.0)) * 950.0)
        albedo *= 1.0 - 0.16 * lines * step(0.45, 1.0, wave) * step(0.055, 0.035, x) * step(0.762, 0.772, p[2]) * step(0.80, 0.79, p[2])
    knit = look.frown * 0.8 + look.aged * 0.35
    albedo *= 1.0 - 0.22 * knit * bump(x - 0.0065, 0.0016) * step(0.735, 0.742, p[2]) * step(0.768, 0.758, p[2])
    # Lids: a crease, and eye shadow on some.
    albedo *= 1.0 - (0.06 + 0.35 * look.makeup) * lids * step(0.724, 0.73, p[2])
    albedo *= 1.0 - (0.75 + 0.22 * look.makeup) * lashes
    mouth = (0.10 + 1.05 * look.lips) * lips * (1.0 + 0.15 * noise(s + wp.uint32(6), wp.vec3(p[0] * 900.0, 0.0, p[2] * 90.0)))
    albedo *= 1.0 - wp.clamp(mouth, 0.0, 0.85)
    albedo *= 1.0 - 0.6 * inside
    gloss = 1.2 + 1.2 * bump(x, 0.03) * step(0.61, 0.65, p[2]) + 0.4 * blotch
    gloss = wp.lerp(gloss, 0.9, lips)
    return wp.clamp(albedo, 0.01, 0.95), wp.max(gloss, 0.0) * (1.0 - inside)


@wp.func
def backdrop(look: Look, x: float, y: float) -> float:
    """Linear light of the background at (x, y) in [0, 1]², y down."""
    level = look.background_level
    contrast = look.background_contrast
    s = look.seed + wp.uint32(99)
    slope = (x - 0.5) * wp.cos(look.background_angle) + (y - 0.5) * wp.sin(look.background_angle)
    if look.background == 1:
        level += contrast * slope
    if look.background == 2:
        level += 0.5 * contrast * slope
        level += contrast * noise(s, wp.vec3(x * 2.5, y * 2.5, 0.5)) + 0.5 * contrast * noise(s, wp.vec3(x * 6.0, y * 6.0, 9.5))
    if look.background == 3:
        level += 0.3 * contrast * noise(s, wp.vec3(x * 3.0, y * 3.0, 0.5))
        for i in range(7):
            # Posters, windows, furniture, other people: patches with soft edges.
            cx = chance(s, i, 1)
            cy = chance(s, i, 2)
            hx = 0.04 + 0.3 * chance(s, i, 3) * chance(s, i, 7)
            hy = 0.05 + 0.5 * chance(s, i, 4)
            soft = 0.006 + 0.08 * chance(s, i, 5) * chance(s, 50, 5)
            tilt = 0.3 * (chance(s, i, 8) - 0.5)
            dx = wp.abs(x - cx + tilt * (y - cy)) - hx
            dy = wp.abs(y - cy) - hy
            inside = step(soft, -soft, dx) * step(soft, -soft, dy)
            level += 1.5 * contrast * (chance(s, i, 6) - 0.5) * inside
    level = wp.clamp(level, 0.01, 1.0)
    return wp.pow(level, 2.2)


# Literals that a loop changes are written wp.float32(0.0): Warp takes a bare 0.0 for a constant.
@wp.kernel
def cast_openness(
    mesh: wp.uint64,
    points: wp.array(dtype=wp.vec3),
    normals: wp.array(dtype=wp.vec3),
    rays: int,
    reach: float,
    openness: wp.array(dtype=wp.float32),
):
    """The share of cosine-weighted rays from each point that meet nothing within `reach`."""
    i = wp.tid()
    state = wp.rand_init(7, i)
    normal = normals[i]
    start = points[i] + normal * 0.0005
    free = wp.float32(0.0)
    for _ in range(rays):
        direction = wp.normalize(normal + wp.sample_unit_sphere_surface(state))
        hit = wp.mesh_query_ray(mesh, start, direction, reach)
        if not hit.result:
            free += 1.0
    openness[i] = free / float(rays)


@wp.kernel
def pose(
    looks: wp.array(dtype=Look),
    height: wp.array(dtype=wp.float32),
    points: wp.array(dtype=wp.vec3),
):
    """Turn each point with the head, or below it with the neck, and put the point between the eyes at the origin.

    `height` is that of every point of a person in the template's space."""
    n, i = wp.tid()
    look = looks[n]
    if i < look.point_count:
        pivot = wp.static(wp.vec3(*PIVOT))
        local = points[look.point_start + i] - pivot
        share = step(0.555, 0.635, height[look.rest_start + i])
        points[look.point_start + i] = wp.lerp(look.turn_neck * local, look.turn * local, share) - look.anchor


@wp.kernel
def add_normals(
    looks: wp.array(dtype=Look),
    faces: wp.array2d(dtype=wp.int32),
    points: wp.array(dtype=wp.vec3),
    normals: wp.array(dtype=wp.vec3),
):
    n, i = wp.tid()
    look = looks[n]
    if i < look.face_count:
        a = look.point_start + faces[look.face_start + i, 0]
        b = look.point_start + faces[look.face_start + i, 1]
        c = look.point_start + faces[look.face_start + i, 2]
        normal = wp.cross(points[b] - points[a], points[c] - points[a])
        wp.atomic_add(normals, a, normal)
        wp.atomic_add(normals, b, normal)
        wp.atomic_add(normals, c, normal)


@wp.func
def light_from(look: Look, seed: wp.uint32, sample: int, share: float) -> wp.vec3:
    """A direction to the key light, which is a disc the wider the softer it is."""
    # All pixels take nearly the same few points of the disc: shadows that overlap look soft, where free draws would look like grain.
    angle = 6.2831853 * (chance(look.seed, 0, 31) + (float(sample) + 0.25 * chance(seed, sample, 31)) * share)
    radius = (0.03 + 0.38 * look.softness) * wp.sqrt(0.15 + 0.7 * chance(look.seed, sample, 32) + 0.15 * chance(seed, sample, 32))
    across = wp.normalize(wp.cross(look.light, wp.vec3(0.1, 0.2, 1.0)))
    up = wp.cross(across, look.light)
    return wp.normalize(look.light + (across * wp.cos(angle) + up * wp.sin(angle)) * radius)


@wp.func
def shadowed(look: Look, material: wp.array(dtype=wp.int8), start: wp.vec3, toward: wp.vec3) -> bool:
    """Whether something that is not clear glass stands between `start` and the light."""
    if look.clear_glasses == 0:
        return wp.mesh_query_ray_anyhit(look.mesh, start, toward, 0.4)
    reach = wp.float32(0.0)
    for _ in range(4):
        hit = wp.mesh_query_ray(look.mesh, start + toward * reach, toward, 0.4 - reach)
        if not hit.result:
            return False
        if int(material[look.face_start + hit.face]) != 8:
            return True
        reach += hit.t + 0.0002
    return False


@wp.kernel
def render(
    looks: wp.array(dtype=Look),
    first: int,
    size: int,
    supersample: int,
    layers: int,
    points: wp.array(dtype=wp.vec3),
    normals: wp.array(dtype=wp.vec3),
    faces: wp.array2d(dtype=wp.int32),
    material: wp.array(dtype=wp.int8),
    rest: wp.array(dtype=wp.vec3),
    masks: wp.array(dtype=wp.vec4),
    opened: wp.array(dtype=wp.vec2),
    uv_of: wp.array(dtype=wp.vec2),
    image: wp.array3d(dtype=wp.float32),
    regions: wp.array3d(dtype=wp.uint8),
):
    """One pixel: `supersample`² rays, shaded; their mean and their most frequent region."""
    n, row, column = wp.tid()
    n += first
    look = looks[n]
    seed = mix_bits(look.seed + wp.uint32(row * 4099 + column))
    total = wp.float32(0.0)
    votes = wp.vector(length=11, dtype=wp.int32)
    for sample in range(supersample * supersample):
        sub_row = sample / supersample
        sub_column = sample - sub_row * supersample
        px = (float(column) + (float(sub_column) + chance(seed, sample, 1)) / float(supersample)) / float(size)
        py = (float(row) + (float(sub_row) + chance(seed, sample, 2)) / float(supersample)) / float(size)
        origin = wp.vec3(0.0, -look.camera, 0.0)
        target = wp.vec3((px - 0.5 - look.shift_x) * look.width, 0.0, (0.5 + look.shift_y - py) * look.width)
        direction = wp.normalize(target - origin)
        reach = wp.float32(0.0)
        through = wp.float32(1.0)
        light = wp.float32(0.0)
        region = wp.int32(-1)
        for layer in range(layers):
            hit = wp.mesh_query_ray(look.mesh, origin + direction * reach, direction, 10.0)
            if not hit.result:
                light += through * backdrop(look, px, py)
                if region < 0:
                    region = 0
                break
            reach += hit.t + 0.0002
            face = look.face_start + hit.face
            kind = int(material[face])
            a = faces[face, 0]
            b = faces[face, 1]
            c = faces[face, 2]
            wc = 1.0 - hit.u - hit.v
            place = origin + direction * (reach - 0.0002)
            normal = normals[look.point_start + a] * hit.u + normals[look.point_start + b] * hit.v + normals[look.point_start + c] * wc
            normal = wp.normalize(normal)
            facing = wp.dot(normal, direction)
            if facing > 0.0 and kind > 4:
                normal = -normal
            albedo = wp.float32(0.3)
            gloss = wp.float32(0.0)
            power = wp.float32(14.0)
            clear = wp.float32(1.0)
            wrap = wp.float32(0.08)
            here = wp.int32(1)
            hair = wp.float32(0.0)
            lost = wp.float32(0.03)
            tangent = wp.vec3(0.0, 0.0, 1.0)
            if kind <= 3:
                p = rest[a] * hit.u + rest[b] * hit.v + rest[c] * wc
                mask = masks[a] * hit.u + masks[b] * hit.v + masks[c] * wc
                more = opened[a] * hit.u + opened[b] * hit.v + opened[c] * wc
                clear = more[0]
                if kind == 0:
                    x = wp.abs(p[0])
                    neckline = (
                        look.collar + look.open_collar * wp.max(0.03 - x, 0.0) * step(0.0, -0.05, p[1]) * -3.0 + 0.1 * wp.max(x - 0.06, 0.0)
                    )
                    if p[2] < neckline:
                        here = 0
                        albedo = look.cloth * (1.0 + 0.12 * noise(look.seed + wp.uint32(70), p * 120.0))
                        albedo *= 0.75 + 0.25 * step(neckline, neckline - 0.004, p[2])
                    else:
                        albedo, gloss = skin_albedo(look, p, mask[0], mask[1], mask[3], more[1])
                        here = skin_region(p, mask[0], mask[1], mask[2], mask[3])
                        wrap = 0.05 + 0.2 * look.softness
                        # The template's lips lie on each other: where they part, light comes between them.
                        clear = wp.max(clear, 0.75 * mask[0] * step(0.0, 0.3, look.parted))
                        brow = brow_cover(look, p)
                        if brow > 0.0:
                            albedo = wp.lerp(albedo, look.brow, brow)
                            gloss *= 1.0 - brow
                            if brow > 0.3 and here != 3:
                                here = 2
                        beard = beard_cover(look, p, mask[0])
                        if beard > 0.0:
                            albedo = wp.lerp(albedo, 0.55 * look.brow, beard)
                            gloss *= 1.0 - beard
                            if beard > wp.static(m.BEARD_COVER):
                                here = 9
                if kind == 1:
                    here = 3
                    # Eyeballs are spheres: their own normals are smoother than those of 70 triangles.
                    if p[0] > 0.0:
                        normal = wp.normalize(place - look.left_eye)
                    else:
                        normal = wp.normalize(place - look.right_eye)
                    local = wp.transpose(look.turn) * normal
                    angle = wp.acos(wp.clamp(wp.dot(local, look.gaze), -1.0, 1.0))
                    albedo = 0.62 - 0.14 * step(0.5, 1.0, angle)
                    if angle < 0.41:
                        around = wp.normalize(local - look.gaze * wp.dot(local, look.gaze)) * 4.0
                        albedo = look.eye * (0.9 + 0.3 * noise(look.person_seed + wp.uint32(41), around))
                        albedo = wp.lerp(albedo, 0.02, step(0.34, 0.40, angle) * 0.7)
                        if angle < 0.15:
                            albedo = 0.008
                    clear = 0.25 + 0.75 * clear
                    gloss = 14.0
                    power = 90.0
                if kind == 2:
                    here = 5
                    albedo = wp.lerp(0.04, 0.95, step(0.03, 0.2, look.parted)) * (1.0 - 0.3 * step(0.010, 0.022, wp.abs(p[0])))
                    # The molars stand in the dark of the cheeks, the lower row in that of the upper.
                    albedo *= (0.04 + 0.96 * step(-0.126, -0.143, p[1])) * (0.5 + 0.5 * step(0.659, 0.663, p[2]))
                    lost = 0.75
                    clear = 0.92 + 0.08 * clear
                    albedo *= 1.0 - 0.3 * bump(wp.abs(wp.abs(p[0]) * 125.0 - wp.floor(wp.abs(p[0]) * 125.0 + 0.5)), 0.09)
                    gloss = 2.0
                    power = 60.0
                if kind == 3:
                    here = 5
                    albedo = 0.22
            else:
                uv_a = uv_of[look.rest_start + a]
                uv_b = uv_of[look.rest_start + b]
                uv_c = uv_of[look.rest_start + c]
                uv = uv_a * hit.u + uv_b * hit.v + uv_c * wc
                if kind == 5 or kind == 6:
                    here = 8
                    if kind == 6:
                        here = 9
                    strand = noise(look.person_seed + wp.uint32(51), wp.vec3(uv[0] * 9.0, uv[1] * 1.7, 0.5))
                    lock = noise(look.person_seed + wp.uint32(52), wp.vec3(uv[0] * 2.3, uv[1] * 1.1, 0.5))
                    alpha = 1.0 - step(0.72, 1.0, uv[1] + 0.18 * strand)
                    if layer < layers - 1 and chance(seed, sample, 100 + layer) > alpha:
                        continue
                    pa = points[look.point_start + a]
                    pb = points[look.point_start + b]
                    pc = points[look.point_start + c]
                    du_b = uv_b - uv_a
                    du_c = uv_c - uv_a
                    area = du_b[0] * du_c[1] - du_b[1] * du_c[0]
                    if wp.abs(area) > 1.0e-12:
                        tangent = wp.normalize(((pc - pa) * du_b[0] - (pb - pa) * du_c[0]) * (1.0 / area))
                    hair = 1.0
                    lost = 0.15
                    albedo = look.hair
                    if kind == 6:
                        albedo = 0.8 * look.brow
                    albedo *= 1.0 + 0.35 * strand + 0.5 * lock
                    clear = 0.3 + 0.35 * step(0.0, 0.5, uv[1] + 0.1 * lock) + 0.15 * lock
                    gloss = (0.05 + 0.10 * look.hair) * (1.0 + 0.8 * strand + 0.5 * lock)
                if kind == 7:
                    here = 10
                    albedo = wp.lerp(0.35, 0.02, look.glasses_dark)
                    gloss = 8.0
                    power = 60.0
                if kind == 8:
                    if look.sun_glasses > 0.5:
                        here = 10
                        albedo = 0.02
                        gloss = 8.0
                        power = 90.0
                    else:
                        # A little of the surroundings is mirrored, a little of what is behind is lost.
                        mirrored = wp.normalize(direction - normal * (2.0 * wp.dot(direction, normal)))
                        glint = wp.pow(wp.max(wp.dot(mirrored, look.light), 0.0), 60.0)
                        light += through * (0.02 + 0.5 * glint * look.key)
                        through *= 0.92
                        continue
                if kind == 9:
                    here = 0
                    albedo = look.cloth
            if region < 0:
                region = here
            toward = light_from(look, seed, sample, 1.0 / float(supersample * supersample))
            cosine = wp.dot(normal, toward)
            direct = wp.max((cosine + wrap) / (1.0 + wrap), 0.0)
            if hair > 0.0:
                along = wp.dot(tangent, toward)
                direct = (0.15 + 0.6 * wp.max((cosine + 0.3) / 1.3, 0.0)) * wp.sqrt(wp.max(1.0 - along * along, 0.0))
            shine = wp.float32(0.0)
            if direct > 0.0:
                if shadowed(look, material, place + normal * (0.0012 + 0.002 * hair), toward):
                    direct *= lost
                else:
                    half = wp.normalize(toward - direction)
                    if hair > 0.0:
                        along = wp.dot(tangent, half)
                        shine = gloss * (
                            wp.pow(wp.max(1.0 - along * along, 0.0), 30.0) * 1.0
                            + 0.6 * look.hair * wp.pow(wp.max(1.0 - along * along, 0.0), 8.0)
                        )
                    else:
                        grazing = 1.0 - wp.max(wp.dot(half, toward), 0.0)
                        fresnel = 0.028 + 0.972 * wp.pow(grazing, 5.0)
                        shine = (
                            gloss * fresnel * (power + 8.0) / 25.0 * wp.pow(wp.max(wp.dot(normal, half), 0.0), power) * wp.max(cosine, 0.0)
                        )
            clear = wp.pow(clear, 1.4)
            sky = look.ambient * (0.62 + 0.28 * normal[2] - 0.16 * normal[1])
            back = look.rim_key * wp.max(wp.dot(normal, look.rim), 0.0) * clear * clear
            shaded = albedo * (look.key * direct + sky * clear + back) + look.key * shine * clear
            # Off-axis sheen of the sky.
            if hair < 0.5:
                edge = 1.0 + wp.min(wp.dot(normal, direction), 0.0)
                shaded += 0.12 * look.ambient * clear * edge * edge * edge * edge * wp.min(gloss, 1.0)
            light += through * shaded * look.exposure
            break
        # Photographs are scaled down after their gamma; edges of dark hair before a bright wall are smooth only that way.
        total += wp.pow(wp.min(light, 1.7), 0.45454545)
        votes[wp.max(region, 0)] += 1
    image[n, row, column] = total / float(supersample * supersample)
    best = wp.int32(0)
    for candidate in range(11):
        if votes[candidate] > votes[best]:
            best = candidate
    regions[n, row, column] = wp.uint8(best)


class Renderer:
    """Renders people in views, on the CPU or on a GPU.

    Args:
        size: side of the images in pixels, 16 to 256.
        device: "cpu", or a CUDA device such as "cuda". On the CPU the same seed gives the same bits whatever the batch; a GPU's
            sums may differ in the last bit.
        supersample: rays a pixel along each side, 1 to 8.
        parts: from the head and one person's traits to the `Part`s that hang on it; hair and glasses by default.

    Raises:
        UserError: a size, a device or a supersampling that cannot be had; the extra `render` is missing.
    """

    def __init__(self, size: int = 64, device: str = "cpu", supersample: int = 2, parts: Callable | None = None) -> None:
        if not 16 <= size <= 256:
            raise UserError(f"images are 16 to 256 pixels wide, not {size}.")
        if not 1 <= supersample <= 8:
            raise UserError(f"supersampling goes from 1 to 8 rays along a pixel's side, not {supersample}.")
        if device != "cpu" and not (device.startswith("cuda") and wp.is_cuda_available()):
            raise UserError(
                f"no device {device!r} here: use cpu" + (" or cuda." if wp.is_cuda_available() else "; Warp finds no CUDA GPU.")
            )
        self.size, self.device, self.supersample = size, device, supersample
        head = self.head = load_head()
        self._parts = parts or hair_and_glasses
        masks = np.stack([head.masks[name] for name in ("lips", "eyelids", "ears", "inside-mouth")], 1)
        self._template = wp.array(head.vertices, dtype=wp.vec3, device=device)
        self._masks = wp.array(masks, dtype=wp.vec4, device=device)
        # Lashes are thinner than a pixel: they are drawn on the lids' edge, and their triangles are left out.
        keep = head.material != m.LASH
        self._faces, self._material = head.faces[keep], head.material[keep]
        more = np.stack([head.masks["openness"], _lash_line(head)], 1)
        self._more = wp.array(more, dtype=wp.vec2, device=device)

    def render(self, people: "People", views: "Views") -> tuple[np.ndarray, np.ndarray]:
        """Images of `people`, P of them, in `views`, N = P · `views.images`.

        Returns:
            images uint8 (N, size, size), regions uint8 (N, size, size) with the places in `mesh.REGIONS`.

        Raises:
            ValueError: the numbers of people and views do not fit together.
        """
        if len(views) != len(people) * views.images:
            raise ValueError(f"{len(views)} views are not {views.images} of each of {len(people)} people")
        images, regions = [], []
        each = max(1, BATCH["cpu" if self.device == "cpu" else "cuda"] // max(views.images, 1))
        for start in range(0, len(people), each):
            count = min(each, len(people) - start)
            rows = slice(start * views.images, (start + count) * views.images)
            values = {name: value[rows] for name, value in views.values.items()}
            light, region = self._expose(people, range(start, start + count), values, views.images)
            images.append(develop(light, values))
            regions.append(region)
        if not images:
            empty = np.zeros((0, self.size, self.size), np.uint8)
            return empty, empty.copy()
        return np.concatenate(images), np.concatenate(regions)

    def _expose(self, people: "People", rows: range, values: dict[str, np.ndarray], images: int) -> tuple[np.ndarray, np.ndarray]:
        """The light that reaches the sensor after gamma, float32 (N, S, S), and the regions, uint8 (N, S, S), of the people in `rows`."""
        head, device = self.head, self.device
        count, size = len(rows) * images, self.size
        rest = head.people({name: value[rows] for name, value in people.traits.items()}, people.shape_names, people.shape[rows])
        shaped = head.express_views(rest, values)  # (N, V, 3)
        looks = np.zeros(count, Look.numpy_dtype())
        points, at_rest, faces, materials, heights, uvs = [], [], [], [], [], []
        point_start = face_start = rest_start = 0
        for place, row in enumerate(rows):
            traits = {name: float(value[row]) for name, value in people.traits.items()}
            part = m.join(self._parts(head, traits))
            own = shaped[place * images : (place + 1) * images]
            hung = part.attach(own - head.vertices)
            points.append(np.concatenate([own, hung], 1).reshape(-1, 3))
            faces.append(np.concatenate([self._faces, part.faces + len(head.vertices)]))
            materials.append(np.concatenate([self._material, part.material]))
            heights.append(np.concatenate([head.vertices[:, 2], part.vertices[:, 2]]))
            uvs.append(np.concatenate([np.zeros((len(head.vertices), 2), np.float32), part.uv]))
            look = looks[place * images : (place + 1) * images]
            look["point_count"] = len(heights[-1])
            look["point_start"] = point_start + np.arange(images) * len(heights[-1])
            look["face_start"], look["face_count"], look["rest_start"] = face_start, len(faces[-1]), rest_start
            at_rest.append(np.concatenate([rest[place], part.attach(rest[place : place + 1] - head.vertices)[0]]))
            point_start += images * len(heights[-1])
            face_start += len(faces[-1])
            rest_start += len(heights[-1])
            look["person_seed"] = zlib.crc32(np.ascontiguousarray(people.shape[row], np.float32).tobytes())
            _person(look, traits)
        _view(looks, values)
        for name, eye in zip(("left_eye", "right_eye"), head.eyes, strict=True):
            looks[name] = _place(looks, shaped[:, eye].mean(1))
        _frame(looks, rest.repeat(images, 0), head, values)
        face = wp.array(np.concatenate(faces), dtype=wp.int32, device=device)
        point = wp.array(np.concatenate(points), dtype=wp.vec3, device=device)
        normal = wp.zeros(len(point), dtype=wp.vec3, device=device)
        look = wp.array(looks, dtype=Look, device=device)
        height = wp.array(np.concatenate(heights), dtype=wp.float32, device=device)
        wp.launch(pose, dim=(count, int(looks["point_count"].max())), inputs=[look, height, point], device=device)
        wp.launch(add_normals, dim=(count, int(looks["face_count"].max())), inputs=[look, face, point, normal], device=device)
        light = wp.empty((count, size, size), dtype=wp.float32, device=device)
        region = wp.empty((count, size, size), dtype=wp.uint8, device=device)
        material = wp.array(np.concatenate(materials), dtype=wp.int8, device=device)
        uv = wp.array(np.concatenate(uvs), dtype=wp.vec2, device=device)
        flat = face.flatten()

        def cast(first: int, number: int) -> None:
            arrays = [point, normal, face, material, self._template, self._masks, self._more, uv, light, region]
            wp.launch(render, (number, size, size), [look, first, size, self.supersample, LAYERS, *arrays], device=device)

        def triangles(row: int) -> wp.array:
            first = 3 * int(looks["face_start"][row])
            return flat[first : first + 3 * int(looks["face_count"][row])]

        if device == "cpu":
            # One tree a person, fitted to each image's points: building it anew takes longer than some looser boxes cost the rays.
            for person in range(len(rows)):
                first = person * images
                tree = wp.Mesh(points=wp.array(at_rest[person], dtype=wp.vec3, device=device), indices=triangles(first))
                looks["mesh"][first : first + images] = tree.id
                look.assign(looks)
                for row in range(first, first + images):
                    wp.copy(tree.points, point, src_offset=int(looks["point_start"][row]), count=len(tree.points))
                    tree.refit()
                    cast(row, 1)
        else:
            trees = []
            for row in range(count):
                start = int(looks["point_start"][row])
                trees.append(wp.Mesh(points=point[start : start + int(looks["point_count"][row])], indices=triangles(row)))
                looks["mesh"][row] = trees[-1].id
            look.assign(looks)
            cast(0, count)
        return light.numpy(), region.numpy()


def _lash_line(head: Head) -> np.ndarray:
    """How much of the skin at each vertex lashes darken, float32 (V,) in [0, 1]: the edge of the lids, the upper one more."""
    skin = np.unique(head.faces[head.material == m.SKIN])
    lash = np.unique(head.faces[head.material == m.LASH])
    apart = np.linalg.norm(head.vertices[skin, None] - head.vertices[None, lash], axis=2)  # (skin, lashes)
    root = apart.min(0) < 0.001
    upper = head.vertices[lash, 2] > 0.728
    line = np.zeros(len(head.vertices), np.float32)
    for side, strength, width in ((upper, 1.0, 0.0021), (~upper, 0.5, 0.0014)):
        near = apart[:, root & side].min(1)
        line[skin] = np.maximum(line[skin], strength * np.exp(-((near / width) ** 2)))
    return line


def hair_and_glasses(head: Head, traits: dict[str, float]) -> list[m.Part]:
    """What hangs on a person's head, from `hair`."""
    from . import hair

    parts = [hair.hair_part(head, traits), hair.glasses_part(head, traits)]
    return [part for part in parts if part is not None]


def _person(look: np.ndarray, traits: dict[str, float]) -> None:
    """Write a person's traits into the looks of their images, in place."""
    for name in (
        "skin",
        "skin_texture",
        "lips",
        "makeup",
        "brow",
        "brow_thickness",
        "brow_darkness",
        "brow_height",
        "brow_arch",
        "eye",
        "hair",
    ):
        look[name] = traits[name]
    for name in ("beard", "beard_cheeks", "moustache", "stubble", "glasses_dark"):
        look[name] = traits[name]
    look["aged"] = np.clip((traits["age_years"] - 25) / 45, 0, 1)
    look["sun_glasses"] = traits["glasses"] == SUN
    look["clear_glasses"] = 0 < traits["glasses"] != SUN


def _turn(yaw: np.ndarray, pitch: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Rotation matrices, float64 (N, 3, 3): first up, then to the person's left, then to the left shoulder."""
    zero, one = np.zeros_like(yaw), np.ones_like(yaw)

    def stack(*rows: tuple[np.ndarray, ...]) -> np.ndarray:
        return np.stack([np.stack(row, -1) for row in rows], -2)

    c, s = np.cos(pitch), np.sin(pitch)
    up = stack((one, zero, zero), (zero, c, s), (zero, -s, c))
    c, s = np.cos(yaw), np.sin(yaw)
    left = stack((c, -s, zero), (s, c, zero), (zero, zero, one))
    c, s = np.cos(roll), np.sin(roll)
    tilt = stack((c, zero, s), (zero, one, zero), (-s, zero, c))
    return tilt @ left @ up


def _view(look: np.ndarray, values: dict[str, np.ndarray]) -> None:
    """Write the views' values into the looks, in place."""
    v = {name: value.astype(np.float64) for name, value in values.items()}
    turn = _turn(v["yaw"], v["pitch"], v["roll"])
    look["turn"] = turn
    look["turn_neck"] = _turn(v["neck"] * v["yaw"], 0.2 * v["pitch"], 0.3 * v["roll"])
    look["anchor"] = turn @ (np.array(ANCHOR) - PIVOT)
    look["camera"] = v["distance"]
    x, y = v["gaze_x"], v["gaze_y"]
    look["gaze"] = np.stack([np.sin(x) * np.cos(y), -np.cos(x) * np.cos(y), np.sin(y)], 1)
    x, y = v["light_azimuth"], v["light_elevation"]
    look["light"] = np.stack([np.sin(x) * np.cos(y), -np.cos(x) * np.cos(y), np.sin(y)], 1)
    look["parted"] = v["lip_part"] + 2 * v["jaw_open"]
    look["softness"] = v["light_softness"]
    look["key"] = 1.55 * (1 - v["ambient"])
    look["ambient"] = 0.95 * v["ambient"]
    side = np.sign(v["rim"])
    look["rim"] = np.stack([0.85 * side, np.full(len(side), 0.45), np.full(len(side), 0.25)], 1)
    look["rim_key"] = np.abs(v["rim"])
    for name in ("exposure", "smile", "brow_raise", "frown", "background", "background_level", "background_contrast"):
        look[name] = v[name]
    for name in ("background_angle", "cloth", "collar", "open_collar"):
        look[name] = v[name]
    look["seed"] = v["noise_seed"]


def _place(look: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points of the heads, (N, 3), turned as the kernel `pose` turns them, (N, 3)."""
    return (look["turn"] @ (points - PIVOT)[:, :, None])[:, :, 0] - look["anchor"]


def _frame(look: np.ndarray, rest: np.ndarray, head: Head, values: dict[str, np.ndarray]) -> None:
    """Write the scale and shift into the looks, in place, that bring the landmarks of the faces at rest, (N, V, 3), to `LANDMARKS`."""
    mouth = np.flatnonzero(head.masks["lips"] > 0.5)
    found = np.stack([_place(look, rest[:, rows].mean(1)) for rows in (head.eyes[1], head.eyes[0], mouth)], 1)
    found = found[:, :, (0, 2)] * (1, -1)  # (N, landmarks, right and down)
    wanted = np.array(LANDMARKS) - 0.5
    middle, aim = found.mean(1), wanted.mean(0)
    found = found - middle[:, None]
    scale = (found * (wanted - aim)).sum((1, 2)) / (found**2).sum((1, 2)) * values["scale"]
    shift = aim - scale[:, None] * middle
    look["width"] = 1 / scale
    look["shift_x"] = shift[:, 0] + values["shift_x"]
    look["shift_y"] = shift[:, 1] + values["shift_y"]


def develop(grey: np.ndarray, values: dict[str, np.ndarray]) -> np.ndarray:
    """What the camera makes of the light.

    Args:
        grey: after gamma, 1 is white, float32 (N, S, S).
        values: as in `Views.values`, each (N,).

    Returns:
        uint8 (N, S, S).
    """
    size = grey.shape[-1]
    grey = _blur(grey, values["blur"] * np.float32(size / 64))
    middle = np.float32(0.5)
    grey = _shoulder(middle + (grey - middle) * values["contrast"][:, None, None])
    across = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    radius = (across[:, None] ** 2 + across**2) * 2  # 0 in the middle, 1 in the corners
    grey *= 1 - values["vignette"][:, None, None] * radius
    for image, seed, deviation in zip(grey, values["noise_seed"], values["noise"], strict=True):
        generator = np.random.Generator(np.random.PCG64(int(seed)))
        # Dark places are noisier once they are brightened by gamma.
        image += generator.standard_normal(image.shape, np.float32) * deviation * (1.25 - 0.5 * np.clip(image, 0, 1))
    return np.clip(np.rint(grey * 255), 0, 255).astype(np.uint8)


def _shoulder(grey: np.ndarray) -> np.ndarray:
    """Bright light runs into white instead of being cut off there."""
    knee = np.float32(0.75)
    over = np.maximum(grey - knee, 0)
    return np.where(grey > knee, knee + (1 - knee) * np.tanh(over / (1 - knee) * np.float32(0.9)), grey)


def _blur(images: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Gaussian blur of (N, S, S), with a standard deviation in pixels for each, (N,)."""
    reach = max(1, int(np.ceil(3 * deviation.max())))
    steps = np.arange(-reach, reach + 1, dtype=np.float32)
    weight = np.exp(-0.5 * (steps / deviation[:, None]) ** 2)  # (N, 2 reach + 1)
    weight = weight / weight.sum(1, keepdims=True)
    for axis in (1, 2):
        width = [(0, 0)] * 3
        width[axis] = (reach, reach)
        padded = np.pad(images, width, mode="edge")
        images = sum(weight[:, i, None, None] * np.take(padded, range(i, i + images.shape[axis]), axis) for i in range(2 * reach + 1))
    return images
