"""What a surface looks like to a kernel: one image's traits, noise, and the albedo of skin, brows, beard and background."""

# No `from __future__ import annotations`: Warp reads the annotations of kernels.
from . import require_extra

require_extra()

import warp as wp  # noqa: E402

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
