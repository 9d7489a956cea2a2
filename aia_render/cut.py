"""How a person's hair is cut and combed, and where on the scalp it grows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from .people import BALD, BOB, BUZZ, CHIN, CROP, CURLY, QUIFF, SIDE, STRAIGHT, TIED, WAVY
from .skull import DEGREES, FACE, Skull, smoothstep

PARTED = (SIDE, CHIN, BOB, STRAIGHT, WAVY)


class Cut(NamedTuple):
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


def free_face(cut: Cut, z: np.ndarray) -> np.ndarray:
    """Degrees from the middle of the face that hanging hair keeps free at heights z: up to the temples, or to behind the ears."""
    free = np.interp(z, *FACE)
    if cut.front > 90:
        free = np.maximum(free, np.interp(z, (0.745, 0.758, 0.770, 0.785), (cut.front, 88, 74, 0)))
    return free


def cut_of(style: int, traits: Mapping[str, float], rng: np.random.Generator) -> Cut:
    """The cut of a style with the person's own measures."""
    length, volume, wave, fringe = (float(traits[name]) for name in ("hair_length", "hair_volume", "hair_wave", "fringe"))
    loose = 0.2 + volume
    amplitude, period = 0.0, 0.08
    if wave > 0.25 and style not in (BALD, BUZZ):
        amplitude = 0.010 * (wave - 0.2)
        period = 0.085 - 0.055 * wave
    if style == WAVY:
        amplitude, period = 0.006 + 0.006 * wave, 0.095 - 0.045 * wave
    front = float(rng.uniform(46, 58)) if rng.random() < 0.62 else float(rng.uniform(98, 112))
    plain = {
        "hang": 0.79,
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
        return Cut(
            thick, thick, 0.006, 0.005, locks=260, steps=2, width=0.004, stand=0.3, gravity=0.0, **plain | {"messy": 0.5, "fringe": 0}
        )
    if style == CROP:
        top = 0.004 + 0.30 * length * loose
        return Cut(
            top, 0.003 + 0.05 * length, length, 0.6 * length, locks=520, steps=3, width=0.009, stand=0.20 * volume, gravity=0.1,
            **plain | {"messy": 0.45},
        )  # fmt: skip
    if style == SIDE:
        return Cut(
            0.006 + 0.16 * length * loose, 0.004 + 0.03 * length, length, 0.45 * length + 0.01, locks=400, steps=4, width=0.010,
            stand=0.10 * volume, gravity=0.25, **plain,
        )  # fmt: skip
    if style == QUIFF:
        return Cut(
            0.008 + 0.26 * length * loose, 0.003 + 0.02 * length, length, 0.025 + 0.1 * length, locks=400, steps=4, width=0.010,
            stand=0.22 * volume, gravity=0.0, **plain | {"fringe": 0},
        )  # fmt: skip
    if style == TIED:
        return Cut(
            0.004 + 0.006 * volume, 0.004 + 0.003 * volume, 0.18, 0.15, locks=300, steps=6, width=0.011, stand=0.0, gravity=0.0,
            **plain | {"wave": 0.4 * amplitude, "messy": 0.06, "fringe": max(fringe - 0.4, 0)},
        )  # fmt: skip
    if style == CURLY:
        shrunk = length * (0.75 - 0.35 * wave)
        ball = 0.010 + min(0.35 * shrunk, 0.042) * loose
        return Cut(
            ball, 0.8 * ball, 0.026 + 0.1 * shrunk, 0.024 + 0.1 * shrunk, locks=400, steps=5, width=0.007, stand=0.25, gravity=0.15,
            **plain | {"hang": 0.76 - max(shrunk - 0.05, 0) * 1.1, "wave": 0.004, "period": 0.024 + 0.02 * (1 - wave), "bumps": 0.0025,
                       "messy": 1.0, "front": 62.0},
        )  # fmt: skip
    drop = length * (1 - 0.15 * wave)
    hang = 0.745 - max(drop - 0.13, 0.02)
    turn = float(rng.uniform(0, 0.5)) if style in (BOB, CHIN) else 0.0
    return Cut(
        0.011 + 0.028 * volume, 0.008 + 0.021 * volume, length, length, locks=215, steps=9, width=0.013, stand=0.0, gravity=1.0,
        **plain | {"hang": hang, "turn": turn, "messy": 0.12, "front": front if style != BOB else float(rng.uniform(46, 58))},
    )  # fmt: skip


class Rim:
    """The scalp between the hairline and, where the crown is bare, its edge."""

    def __init__(self, skull: Skull, cut: Cut, style: int, traits: Mapping[str, float], rng: np.random.Generator):
        receding, baldness = float(traits["hairline"]), float(traits["baldness"])
        degrees = DEGREES
        edge = skull.hairline + (receding - 0.25) * np.interp(degrees, (0, 12, 34, 54, 68), (0.22, 0.28, 0.55, 0.30, 0.0))
        edge -= rng.uniform(-0.03, 0.07) * np.exp(-((degrees / 9) ** 2))  # a widow's peak
        cover = edge.copy()
        if style in (CHIN, BOB, STRAIGHT, WAVY) and cut.front < 90:  # combed to the sides, long hair covers the corners of the forehead
            cover -= rng.uniform(0.2, 1.0) * np.interp(degrees, (0, 8, 26, 46, 60, 72), (0, 0.01, 0.10, 0.26, 0.16, 0))
        if cut.fringe > 0.3 and cut.hang < 0.74 and style != CURLY:
            ends = np.interp(degrees, (0, 40), (0.64 - 0.50 * cut.fringe, 0.68 - 0.47 * cut.fringe))
            cover = np.where(degrees < 54, np.minimum(cover, ends + (cover - ends) * smoothstep(degrees, 30 + 12 * cut.fringe, 58)), cover)
        self._degrees, self._edge, self._cover, self.baldness = degrees, edge, cover, baldness
        # A fringe that is not full is swept to the side away from the parting: longer there, shorter at the parting.
        swept = cut.fringe > 0.3 and style not in (CROP, CURLY)
        self._tilt = swept * 0.30 * float(traits["parting"]) * (1 - 0.7 * smoothstep(np.array(cut.fringe), 0.5, 1.0))
        knots = rng.normal(0, 1, (2, 25))
        self._ragged = lambda phi: 0.012 * np.interp(phi % (2 * np.pi), np.linspace(0, 2 * np.pi, 25), knots[0])

    def edge(self, phi: np.ndarray) -> np.ndarray:
        """t of the hairline."""
        return np.interp(np.abs(np.degrees(phi)), self._degrees, self._edge) + self._ragged(phi)

    def cover(self, phi: np.ndarray) -> np.ndarray:
        """t down to which hair lies on the head: the hairline, or lower where a fringe or long hair falls over it."""
        tilt = self._tilt * np.sin(2 * np.clip(phi, -np.pi / 4, np.pi / 4)) * (1 - smoothstep(np.abs(phi), 0.6, 1.0))
        low = np.interp(np.abs(np.degrees(phi)), self._degrees, self._cover)
        return np.minimum(low + tilt, self.edge(phi)) + self._ragged(phi)

    def top(self, phi: np.ndarray) -> np.ndarray:
        """t above which the head is bare; the pole where it is not."""
        if self.baldness < 0.15:
            return np.full_like(phi, np.pi / 2)
        back = 0.5 - 0.5 * np.cos(phi)  # 0 at the forehead, 1 at the back
        bare = 0.35 + self.baldness * (0.60 + 0.25 * back + 0.45 * (1 - smoothstep(np.abs(phi), 0.9, 1.8)))
        edge = self.edge(phi)
        top = np.pi / 2 - bare
        return np.where((top - edge < 0.35) & (np.abs(phi) < 1.0), edge, np.maximum(top, edge))  # no island over the forehead


def thickness(cut: Cut, t: np.ndarray) -> np.ndarray:
    """Metres of hair over the scalp, away from its rim."""
    return cut.sides * (1 - 0.35 * smoothstep(-t, -0.1, 0.8)) + (cut.top - cut.sides) * smoothstep(t, 0.35, 1.0)
