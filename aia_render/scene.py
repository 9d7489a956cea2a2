"""From people and views to grey images and region masks: rays through triangles, then light, skin, hair and a camera.

Each image is one triangle mesh (the head and the parts that hang on it), all images of a batch are one kernel launch. Nothing in an image
depends on what else is in the batch: sums run in a fixed order, and what is random comes from the image's own `noise_seed`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from aia_lib.machine.files import UserError

from . import mesh as m
from .glasses import glasses_part
from .hair import hair_part
from .head import Head
from .kernels import PIVOT, add_normals, pose, render
from .reduce import load_head
from .surface import Look, wp

if TYPE_CHECKING:
    from .people import People
    from .views import Views

LANDMARKS = ((0.357, 0.438), (0.643, 0.438), (0.5, 0.745))
"""Where the right eye, the left eye and the middle of the mouth come to lie in an image, in image widths from its left and upper edge, as
far as scale and shift alone can bring them there: aligned photographs of faces (CelebA's) have them here on average."""

ANCHOR = (0.0, -0.142, 0.7284)
"""The point between the eyes of the template, on the surface."""

BATCH = {"cpu": 32, "cuda": 256}
"""Images a launch: enough to fill the device, few enough to keep their triangles in memory."""

LAYERS = 10
"""Most surfaces that a ray looks through (tips of hair, lenses) before it takes the next one for solid."""


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

    def render(self, people: People, views: Views) -> tuple[np.ndarray, np.ndarray]:
        """Images of `people`, P of them, in `views`, N = P · `views.images`.

        Returns:
            images uint8 (N, size, size), regions uint8 (N, size, size) with the places in `aia_lib.faces.REGIONS`.

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

    def _expose(self, people: People, rows: range, values: dict[str, np.ndarray], images: int) -> tuple[np.ndarray, np.ndarray]:
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
            skin = shaped[place * images : (place + 1) * images]
            hung = part.attach(skin - head.vertices)
            points.append(np.concatenate([skin, hung], 1).reshape(-1, 3))
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
    """What hangs on a person's head, from `hair` and `glasses`."""
    parts = [hair_part(head, traits), glasses_part(head, traits)]
    return [part for part in parts if part is not None]


def _person(look: np.ndarray, traits: dict[str, float]) -> None:
    """Write a person's traits into the looks of their images, in place."""
    drawn = "skin skin_texture lips makeup brow brow_thickness brow_darkness brow_height brow_arch eye hair"
    for name in (*drawn.split(), "beard", "beard_cheeks", "moustache", "stubble", "glasses_dark"):
        look[name] = traits[name]
    look["aged"] = np.clip((traits["age_years"] - 25) / 45, 0, 1)


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
    landmarks = np.stack([_place(look, rest[:, rows].mean(1)) for rows in (head.eyes[1], head.eyes[0], mouth)], 1)
    landmarks = landmarks[:, :, (0, 2)] * (1, -1)  # (N, landmarks, right and down)
    wanted = np.array(LANDMARKS) - 0.5
    middle, aim = landmarks.mean(1), wanted.mean(0)
    landmarks = landmarks - middle[:, None]
    scale = (landmarks * (wanted - aim)).sum((1, 2)) / (landmarks**2).sum((1, 2)) * values["scale"]
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
