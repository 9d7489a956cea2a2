"""What the renderer draws: materials, regions of the face, and triangles that hang on a head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aia_lib.faces import REGIONS

MATERIALS = ("skin", "eye", "teeth", "mouth", "lash", "hair", "frame", "lens")
"""A triangle's material is its place in this tuple. `mouth` is the inner mouth with the tongue; facial hair is drawn on the skin; only sun
glasses have a `lens`. The kernels name materials and regions by number."""

SKIN, EYE, TEETH, MOUTH, LASH, HAIR, GLASSES, LENS = range(len(MATERIALS))

# Values of a region mask. Clothes are background; the neck and the bare shoulders are skin, as are the forehead, the temples and the
# cheeks. Eyes include the lids and lashes, the mouth includes the lips, the jaw is the chin and the jaw line. What is behind clear glasses
# stays itself, dark lenses are glasses. Skin is beard where the beard covers more than `kernels.BEARD_COVER` of it.
BACKGROUND_REGION, SKIN_REGION, BROWS, EYES, NOSE, MOUTH_REGION, JAW, EARS, HAIR_REGION, BEARD_REGION, GLASSES_REGION = range(len(REGIONS))


@dataclass(frozen=True)
class Part:
    """Triangles that hang on a head: hair, glasses, a beard, clothes.

    A vertex moves with the weighted mean displacement of its anchors from the template, so a part that is modelled on the template fits
    every face and follows every expression.

    Attributes:
        vertices: metres in the template's space (x to the person's left, y to the back, z up), float32 (M, 3).
        faces: vertices of each triangle, int32 (K, 3). Both sides are visible.
        uv: float32 (M, 2). Hair: u across the strands, in strand widths or any unit of which 1 holds a lock; v along them, 0 root to 1 tip.
        material: of each triangle, a place in `MATERIALS`, int8 (K,).
        anchor: the head's vertices that each vertex hangs on, int32 (M, A).
        weight: of each anchor, rows sum to 1, float32 (M, A).
    """

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    material: np.ndarray
    anchor: np.ndarray
    weight: np.ndarray

    def attach(self, displacement: np.ndarray) -> np.ndarray:
        """The part's vertices on moved heads.

        Args:
            displacement: of the head's vertices from the template, float32 (N, V, 3).

        Returns:
            float32 (N, M, 3).
        """
        moved = self.vertices[None].repeat(len(displacement), 0)
        for column in range(self.anchor.shape[1]):  # adds (N, M, 3) at a time instead of gathering (N, M, A, 3)
            moved += displacement[:, self.anchor[:, column]] * self.weight[None, :, column, None]
        return moved


def join(parts: list[Part]) -> Part:
    """One part of several, in their order; parts with fewer anchors get anchors of weight 0. An empty list gives an empty part."""
    if not parts:
        empty = np.zeros((0, 1), np.float32)
        return Part(
            np.zeros((0, 3), np.float32),
            np.zeros((0, 3), np.int32),
            empty.repeat(2, 1),
            np.zeros(0, np.int8),
            empty.astype(np.int32),
            empty,
        )
    anchors = max(part.anchor.shape[1] for part in parts)
    starts = np.cumsum([0, *(len(part.vertices) for part in parts)])

    def widen(array: np.ndarray) -> np.ndarray:
        return np.pad(array, ((0, 0), (0, anchors - array.shape[1])))

    return Part(
        vertices=np.concatenate([part.vertices for part in parts]),
        faces=np.concatenate([part.faces + start for part, start in zip(parts, starts, strict=False)]).astype(np.int32),
        uv=np.concatenate([part.uv for part in parts]),
        material=np.concatenate([part.material for part in parts]),
        anchor=np.concatenate([widen(part.anchor) for part in parts]),
        weight=np.concatenate([widen(part.weight) for part in parts]),
    )
