"""The kernels: heads turned into place, rays through triangles, and the light that comes back along them."""

# No `from __future__ import annotations`: Warp reads the annotations of kernels.
from .surface import (
    Look,
    backdrop,
    beard_cover,
    brow_cover,
    bump,
    chance,
    mix_bits,
    noise,
    skin_albedo,
    skin_region,
    step,
    wp,
)

PIVOT = (0.0, -0.03, 0.63)
"""About which a head turns: the top of the neck."""

BEARD_COVER = 0.35
"""Skin counts as beard where the beard covers more than this of it."""

wp.set_module_options({"enable_backward": False})


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
        light = wp.float32(0.0)
        region = wp.int32(-1)
        for layer in range(layers):
            hit = wp.mesh_query_ray(look.mesh, origin + direction * reach, direction, 10.0)
            if not hit.result:
                light += backdrop(look, px, py)
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
                            if beard > wp.static(BEARD_COVER):
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
                if kind == 5:
                    here = 8
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
                    albedo *= 1.0 + 0.35 * strand + 0.5 * lock
                    clear = 0.3 + 0.35 * step(0.0, 0.5, uv[1] + 0.1 * lock) + 0.15 * lock
                    gloss = (0.05 + 0.10 * look.hair) * (1.0 + 0.8 * strand + 0.5 * lock)
                if kind == 6:
                    here = 10
                    albedo = wp.lerp(0.35, 0.02, look.glasses_dark)
                    gloss = 8.0
                    power = 60.0
                if kind == 7:
                    here = 10
                    albedo = 0.02
                    gloss = 8.0
                    power = 90.0
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
                if wp.mesh_query_ray_anyhit(look.mesh, place + normal * (0.0012 + 0.002 * hair), toward, 0.4):
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
            light += shaded * look.exposure
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
