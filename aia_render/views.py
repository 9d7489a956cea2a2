"""What changes between two photographs of one person: pose, expression, gaze, light, background, camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

STREAM = 2
"""Keeps the random numbers of the views apart from those of the people, which start from the same seed."""

BACKGROUNDS = ("flat", "gradient", "blobs", "clutter")
"""`background` is a place in this tuple."""

SEEDS = 1 << 24
"""`noise_seed` is a whole number below this; a float32 holds all of them exactly."""


@dataclass(frozen=True)
class Views:
    """The nuisance parameters of N images: those of the first person, then of the second, …

    Attributes:
        values: name → float32 (N,).
            `yaw`, `pitch`, `roll`: of the head in radians; positive turns to the person's left, looks up, tilts to their left
            shoulder.
            `scale`: of the face, 1 on average. `shift_x`, `shift_y`: of the face, to the right and down, in image widths.
            `distance`: of the camera in metres. `neck`: the share of the head's turn that the shoulders take part in.
            `smile`, `lip_part` (lips apart, teeth seen), `jaw_open`, `brow_raise`, `frown`, `squint`, `blink`: in [0, 1].
            `gaze_x`, `gaze_y`: of the eyes relative to the head in radians, to the person's left and up.
            `light_azimuth`, `light_elevation`: whence the key light comes, radians from the camera's axis, to the image's right and up.
            `light_softness` in [0, 1]: a bare bulb to an overcast sky. `ambient` in [0, 1]: share of the light from everywhere.
            `rim`: a weaker light from behind, signed: from the image's right (+) or left (−).
            `exposure`, `contrast`: factors. `blur`: standard deviation in pixels of an image 64 wide. `noise`: standard deviation in grey
            levels of [0, 1]. `vignette`: loss at the corners.
            `background`: a place in `BACKGROUNDS`. `background_level`: grey level in [0, 1]. `background_contrast`, `background_angle`.
            `cloth`: albedo of the clothes. `collar`: height of their neckline in the template's space, metres; `open_collar`: how far it
            opens to a V, 0 to 1.
            `noise_seed`: of everything else that is random in the image.
        images: of each person.
    """

    values: dict[str, np.ndarray]
    images: int

    def __len__(self) -> int:
        return len(self.values["yaw"])


def sample_views(people: range, images: int, seed: int) -> Views:
    """Draw the views of `images` images of each of `people`.

    Those of image k of person p depend on (seed, p, k) only: any other range, or number of images, that has them gives the same.
    """
    uniform = np.empty((len(people) * images, 64))
    normal = np.empty((len(people) * images, 24))
    row = 0
    for person in people:
        for image in range(images):
            # The last word is never 0: SeedSequence takes trailing zeros for nothing.
            generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, STREAM, person, image, 1])))
            generator.random(out=uniform[row])
            generator.standard_normal(out=normal[row])
            row += 1
    u, z = iter(uniform.T), iter(normal.T)

    def between(low: float, high: float) -> np.ndarray:
        return low + (high - low) * next(u)

    def chance(share: float) -> np.ndarray:
        return next(u) < share

    values: dict[str, np.ndarray] = {}
    turned = chance(0.3)
    values["yaw"] = np.clip(next(z) * np.where(turned, 0.48, 0.2), -0.95, 0.95)
    values["pitch"] = np.clip(next(z) * 0.11 - 0.01, -0.32, 0.32)
    values["roll"] = np.clip(next(z) * 0.07, -0.2, 0.2)
    values["scale"] = np.exp(np.clip(next(z), -2.5, 2.5) * 0.055)
    values["shift_x"] = np.clip(next(z), -2.5, 2.5) * 0.009
    values["shift_y"] = np.clip(next(z), -2.5, 2.5) * 0.009
    values["distance"] = 0.7 * np.exp(1.3 * next(u))
    values["neck"] = between(0.15, 0.75)

    smiles, toothy, talks = chance(0.62), chance(0.78), chance(0.1)
    values["smile"] = np.where(smiles, between(0.35, 0.95), between(0.03, 0.25))
    parted = np.where(smiles & toothy, 0.35 + values["smile"] * between(0.3, 0.85), np.where(chance(0.15), between(0.1, 0.4), 0))
    values["lip_part"] = np.clip(parted, 0, 1)
    laughs = chance(0.18) & smiles & toothy
    values["jaw_open"] = np.where(laughs, between(0.1, 0.4), np.where(talks, between(0.08, 0.5), 0.05 * values["lip_part"]))
    values["brow_raise"] = np.where(chance(0.25), between(0.2, 0.9), between(0, 0.15))
    values["frown"] = np.where(chance(0.15) & ~smiles, between(0.1, 0.6), 0)
    sunny = chance(0.12)
    values["squint"] = np.clip(values["smile"] * between(0, 0.7) + np.where(sunny, between(0.2, 0.6), 0), 0, 1)
    values["blink"] = np.where(chance(0.03), between(0.75, 1.0), between(0, 0.12))
    at_camera = chance(0.7)
    values["gaze_x"] = np.clip(np.where(at_camera, -0.85 * values["yaw"], 0) + next(z) * np.where(at_camera, 0.05, 0.2), -0.55, 0.55)
    values["gaze_y"] = np.clip(np.where(at_camera, -0.85 * values["pitch"], 0) + next(z) * np.where(at_camera, 0.03, 0.1), -0.3, 0.3)

    harsh = chance(0.2)
    values["light_azimuth"] = np.clip(next(z) * np.where(harsh, 0.95, 0.6), -1.9, 1.9)
    values["light_elevation"] = np.clip(0.5 + 0.35 * next(z), -0.35, 1.25)
    values["light_softness"] = np.where(harsh, between(0, 0.2), between(0.25, 1.0))
    values["ambient"] = np.where(harsh, between(0.1, 0.3), between(0.25, 0.6))
    values["rim"] = np.where(chance(0.3), between(-0.8, 0.8), 0)

    values["exposure"] = 0.8 * np.exp(np.clip(next(z), -2, 2) * 0.18)
    values["contrast"] = 1.2 * np.exp(np.clip(next(z), -2, 2) * 0.13)
    sharp = next(u)
    values["blur"] = 0.4 + 0.35 * sharp**3
    values["noise"] = 0.002 + 0.011 * next(u) ** 2
    values["vignette"] = np.where(chance(0.3), between(0, 0.25), 0)
    values["background"] = np.searchsorted(np.cumsum([0.12, 0.33, 0.3]), next(u), side="right").astype(np.float64)
    level = next(u)
    dark, white = chance(0.3), chance(0.15)
    values["background_level"] = np.where(dark, 0.02 + 0.16 * level, np.where(white, 0.88 + 0.12 * level, 0.1 + 0.75 * level))
    values["background_contrast"] = between(0.04, 0.45)
    values["background_angle"] = between(-np.pi, np.pi)
    values["cloth"] = np.where(chance(0.45), between(0.015, 0.1), between(0.05, 0.8))
    values["collar"] = between(0.55, 0.605)
    values["open_collar"] = np.where(chance(0.5), between(0.2, 1.0), 0)
    values["noise_seed"] = np.floor(next(u) * SEEDS)
    return Views({name: np.asarray(value, np.float32) for name, value in values.items()}, images)
