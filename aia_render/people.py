"""The people: who is who among the embedded faces.

A person is a row of random numbers that depends on (seed, index of the person) and on nothing else, turned into traits of skin, hair,
brows, lips, beard and glasses and into strengths of Anny's facial shape changes. Nobody is copied from anybody.

**Gender as labelled in the data set** is a fair coin. Everything that goes with it is drawn from two distributions that overlap, one a
label. All of these pairs stand below, in `CUES`, `MAKEUP`, `DYED`, `RECESSION`, `BEARD`, `STYLES` and the third column of `SHAPE`: no
single cue decides, some faces are ambiguous, and `SEPARATION` moves all pairs apart or together. Women with short hair, men with long
hair, women with strong brows and men with full lips are common here as they are outside.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SEPARATION = 1.0
"""Factor on the distance between the two labels' distributions: 0 takes the label out of every trait, 1 is the shipped difficulty."""


@dataclass(frozen=True)
class Cue:
    """A normal distribution a label: means, one standard deviation, and the range to which draws are clipped."""

    female: float
    male: float
    deviation: float
    low: float
    high: float

    def draw(self, label: np.ndarray, normal: np.ndarray) -> np.ndarray:
        """Values for labels (P,) in {0, 1} and standard normal draws (P,)."""
        middle, half = (self.female + self.male) / 2, SEPARATION * (self.male - self.female) / 2
        return np.clip(middle + half * (2 * label - 1) + self.deviation * normal, self.low, self.high)


CUES = {
    # trait: mean for women, mean for men, deviation, lowest, highest
    "gender": Cue(0.31, 0.51, 0.155, 0.0, 1.0),  # MakeHuman's phenotype: the whole skull and face
    "muscle": Cue(0.45, 0.55, 0.12, 0.2, 0.8),
    "weight": Cue(0.50, 0.50, 0.15, 0.15, 0.9),
    "skin_offset": Cue(0.01, -0.01, 0.05, -0.15, 0.15),  # added to the albedo that goes with the ancestry
    "skin_texture": Cue(0.41, 0.49, 0.15, 0.05, 1.0),
    "lips": Cue(0.33, 0.18, 0.07, 0.05, 0.45),
    "brow_thickness": Cue(0.00255, 0.00345, 0.0007, 0.0014, 0.0052),
    "brow_darkness": Cue(0.62, 0.74, 0.14, 0.25, 1.0),
    "brow_height": Cue(0.0007, -0.0007, 0.0021, -0.005, 0.005),
    "brow_arch": Cue(0.57, 0.43, 0.2, 0.0, 1.0),
    "hair_length": Cue(0.54, 0.46, 0.22, 0.0, 1.0),  # place in the range of the style, see `LENGTHS`
    "hair_volume": Cue(0.58, 0.42, 0.22, 0.0, 1.0),
    "hairline": Cue(0.2, 0.3, 0.12, 0.0, 1.0),  # before age: see `RECESSION`
}
"""Traits whose distribution depends on the label."""

MAKEUP = (0.50, 0.02)
"""Share of the women and of the men who wear visible make-up."""

DYED = (0.16, 0.05)
"""Share whose hair has a colour that neither ancestry nor age explains, and that hides grey."""

RECESSION = (0.14, 0.36)
"""How much the hairline moves back between the ages of 25 and 75, on average."""

BEARD = {"full": 0.08, "goatee": 0.04, "moustache": 0.02, "stubble": 0.09}
"""Share of the men with each kind of facial hair. A beard is all but decisive, so few have one: the jaw must not give the label away."""

BALD, BUZZ, CROP, SIDE, QUIFF, CHIN, BOB, STRAIGHT, WAVY, CURLY, TIED = range(11)
STYLES = {
    # share of the women and of the men before age and ancestry have their say, shortest and longest hair along the strand in metres
    "bald": (0.004, 0.045, 0.000, 0.000),
    "buzz": (0.015, 0.13, 0.003, 0.007),
    "crop": (0.075, 0.22, 0.015, 0.045),
    "side part": (0.075, 0.20, 0.035, 0.090),
    "quiff": (0.05, 0.155, 0.040, 0.100),
    "to the chin": (0.14, 0.06, 0.170, 0.240),
    "bob with fringe": (0.11, 0.015, 0.160, 0.230),
    "long straight": (0.20, 0.05, 0.280, 0.420),
    "long wavy": (0.20, 0.045, 0.260, 0.400),
    "curly": (0.055, 0.05, 0.020, 0.260),
    "tied back": (0.076, 0.04, 0.180, 0.420),
}
"""In the order of the names above. The length of curly hair is that of the hair pulled straight."""

STYLE_NAMES = tuple(STYLES)

GLASSES_SHARES = (0.030, 0.035, 0.022, 0.022, 0.012)
"""Shares of round, rectangular, half-rim, thick dark frames and sun glasses; doubled from the age of 45 on but for the last."""

NO_GLASSES, ROUND, RECTANGULAR, HALF_RIM, THICK, SUN = range(6)

_DEFAULT = 0.30
SHAPE = {
    # Anny's change (* stands for l and r): standard deviation at both labels, mean for men minus mean for women, change from age 25 to 75
    "*-cheek-trans-up": (_DEFAULT, 0.0, -0.25),
    "*-cheek-volume-incr": (0.35, -0.08, -0.15),
    "*-cheek-inner-incr": (_DEFAULT, 0.0, 0.0),
    "*-cheek-bones-incr": (0.35, -0.05, 0.0),
    "chin-jaw-drop-incr": (_DEFAULT, 0.0, 0.25),
    "chin-height-incr": (0.16, 0.08, 0.0),
    "chin-prominent-incr": (0.25, 0.14, 0.0),
    "chin-bones-incr": (0.25, 0.16, 0.0),
    "chin-width-incr": (0.25, 0.18, 0.0),
    "chin-cleft-incr": (0.35, 0.2, 0.0),
    "chin-prognathism-incr": (0.30, 0.0, 0.0),
    "*-ear-lobe-incr": (0.35, 0.0, 0.35),
    "*-ear-shape-round": (_DEFAULT, 0.0, 0.0),
    "*-ear-trans-forward": (0.12, 0.0, 0.0),
    "*-ear-rot-forward": (0.25, 0.0, 0.0),
    "*-ear-trans-up": (0.10, 0.0, -0.05),
    "*-ear-scale-vert-incr": (0.25, 0.05, 0.15),
    "*-ear-flap-incr": (0.20, 0.0, 0.0),
    "*-ear-shape-triangle": (0.10, 0.0, 0.0),
    "*-ear-scale-incr": (0.25, 0.10, 0.15),
    "*-ear-scale-depth-incr": (0.25, 0.0, 0.0),
    "*-ear-wing-incr": (0.25, 0.05, 0.0),
    "eyebrows-angle-up": (0.35, 0.0, -0.15),
    "eyebrows-trans-up": (0.30, -0.18, -0.10),
    "eyebrows-trans-forward": (0.15, 0.08, 0.0),
    "*-eye-corner1-up": (0.40, 0.0, 0.0),
    "*-eye-height1-incr": (0.30, -0.24, -0.10),
    "*-eye-scale-incr": (0.40, -0.42, -0.10),
    "*-eye-push1-out": (0.30, 0.0, 0.0),
    "*-eye-eyefold-up": (0.35, 0.0, -0.25),
    "*-eye-height3-incr": (0.30, 0.0, -0.10),
    "*-eye-height2-incr": (0.35, -0.34, -0.20),
    "*-eye-bag-incr": (0.30, 0.0, 0.45),
    "*-eye-push2-out": (0.30, 0.0, 0.0),
    "*-eye-trans-up": (0.25, 0.0, 0.0),
    "*-eye-bag-height-incr": (0.25, 0.0, 0.0),
    "*-eye-epicanthus-out": (0.30, 0.0, 0.0),
    "*-eye-eyefold-angle-up": (0.35, 0.0, -0.15),
    "*-eye-bag-out": (0.25, 0.0, 0.0),
    "*-eye-corner2-up": (0.40, 0.0, -0.15),
    "*-eye-trans-out": (0.30, 0.0, 0.0),
    "forehead-temple-incr": (0.35, 0.0, 0.0),
    "forehead-trans-forward": (0.20, 0.0, 0.0),
    "forehead-scale-vert-incr": (0.12, 0.0, 0.0),
    "forehead-nubian-incr": (0.06, 0.0, 0.0),
    "head-scale-vert-incr": (0.16, 0.03, 0.0),
    "head-fat-incr": (0.30, 0.0, 0.0),
    "head-back-scale-depth-incr": (0.20, 0.0, 0.0),
    "head-age-incr": (0.30, 0.0, 0.35),
    "head-scale-depth-incr": (0.25, 0.0, 0.0),
    "head-scale-horiz-incr": (0.22, 0.03, 0.0),
    "mouth-lowerlip-height-incr": (0.30, -0.08, -0.15),
    "mouth-scale-horiz-incr": (0.45, 0.10, 0.0),
    "mouth-cupidsbow-incr": (0.40, -0.2, -0.20),
    "mouth-laugh-lines-out": (0.35, 0.0, 0.30),
    "mouth-scale-depth-incr": (0.35, 0.0, 0.0),
    "mouth-lowerlip-volume-incr": (0.40, -0.24, -0.25),
    "mouth-angles-up": (0.30, 0.0, -0.20),
    "mouth-upperlip-ext-up": (0.30, 0.0, 0.0),
    "mouth-lowerlip-width-incr": (0.30, 0.0, 0.0),
    "mouth-trans-forward": (0.25, 0.0, 0.0),
    "mouth-upperlip-width-incr": (0.30, 0.0, 0.0),
    "mouth-scale-vert-incr": (0.30, -0.18, -0.15),
    "mouth-dimples-out": (0.40, 0.0, 0.0),
    "mouth-upperlip-height-incr": (0.35, -0.26, -0.20),
    "mouth-cupidsbow-width-incr": (0.40, 0.0, 0.0),
    "mouth-upperlip-volume-incr": (0.40, -0.24, -0.25),
    "mouth-lowerlip-ext-up": (0.30, 0.0, 0.0),
    "mouth-upperlip-middle-up": (0.30, 0.0, 0.0),
    "mouth-trans-up": (0.30, 0.0, 0.0),
    "mouth-trans-out": (0.05, 0.0, 0.0),
    "mouth-lowerlip-middle-up": (0.25, 0.0, 0.0),
    "mouth-philtrum-volume-incr": (0.40, 0.0, 0.0),
    "neck-scale-depth-incr": (0.20, 0.05, 0.0),
    "neck-double-incr": (0.15, 0.0, 0.15),
    "neck-back-scale-depth-incr": (0.15, 0.05, 0.0),
    "neck-scale-horiz-incr": (0.25, 0.08, 0.0),
    "nose-nostrils-angle-up": (0.35, 0.0, 0.0),
    "nose-flaring-incr": (0.35, 0.0, 0.0),
    "nose-curve-convex": (0.40, 0.08, 0.0),
    "nose-scale-depth-incr": (0.25, 0.05, 0.10),
    "nose-scale-vert-incr": (0.27, 0.08, 0.15),
    "nose-point-width-incr": (0.45, 0.05, 0.10),
    "nose-scale-horiz-incr": (0.40, 0.32, 0.10),
    "nose-width1-incr": (0.45, 0.0, 0.0),
    "nose-trans-forward": (0.25, 0.0, 0.0),
    "nose-trans-up": (0.28, 0.0, 0.0),
    "nose-hump-incr": (0.40, 0.28, 0.0),
    "nose-nostrils-width-incr": (0.35, 0.05, 0.0),
    "nose-trans-out": (0.08, 0.0, 0.0),
    "nose-greek-incr": (0.40, 0.0, 0.0),
    "nose-point-up": (0.13, -0.05, -0.05),
    "nose-width2-incr": (0.40, 0.2, 0.0),
    "nose-width3-incr": (0.30, 0.16, 0.05),
    "nose-septumangle-incr": (0.25, 0.0, 0.0),
    "nose-base-up": (0.28, 0.0, 0.0),
    "nose-compression-uncompress": (0.25, 0.0, 0.0),
    "nose-volume-incr": (0.28, 0.2, 0.10),
}
"""Anny's changes of the face, ears and skull. Those that move many centimetres at 1 vary less; the rest as far as faces stay human."""

ASYMMETRY = 0.07
"""Standard deviation of each side about the mean of left and right, in strengths of a shape change."""

SHAPE_NAMES = tuple(side + name[1:] if name[0] == "*" else name for name in SHAPE for side in (("l", "r") if name[0] == "*" else ("",)))

_UNIFORMS = "label age style glasses glasses_shape makeup dyed dyed_albedo beard parting_side bald fringe tone".split()
_NORMALS = (
    *CUES,
    *"age_shape hair eye grey_onset wave parting makeup recession beard_density beard_length beard_cheeks".split(),
    *"moustache glasses_size glasses_dark brow_match".split(),
)
# A spawn key keeps the stream apart from those that other modules draw from (seed, person, …): a seed sequence pads with zeros.
_STREAM = 0x70656F70


@dataclass(frozen=True)
class People:
    """P people.

    Attributes:
        first: index of the first of them; they are first … first + P − 1.
        traits: name → float32 (P,):
            label: 1 male, 0 female, as labelled in the data set; gender: MakeHuman's phenotype, 0 the female and 1 the male end;
            age_years: 20 to 75; age: Anny's scale, 2/3 about 25 years, 1 about 90;
            african, asian, caucasian: weights of Anny's ancestries, sum 1; weight, muscle: 0 to 1, 0.5 the average;
            skin: albedo 0.07 to 0.80; skin_texture: 0 to 1; lips: share by which the lips are darker than the skin; makeup: 0 none to 1;
            brow_thickness: half the height of the brow, metres; brow_darkness: opacity 0 to 1; brow_height: metres above the usual place;
            brow_arch: 0 straight to 1 arched; brow: albedo of the brows; eye: albedo of the iris;
            hair: albedo with the grey mixed in; grey: share of grey hair 0 to 1;
            hair_style: place in `STYLE_NAMES`; hair_length: metres along the strand; hair_volume, hair_wave (0 straight, 0.5 wavy, 1 tight
            curls): 0 to 1; hairline: 0 low to 1 far back at the temples; baldness: 0 to 1, bare crown; parting: −1 right to 1 left of
            the middle; fringe: 0 none to 1 down to the brows;
            beard: density 0 to 1 on the chin and round the mouth; beard_cheeks: the same on cheeks and jaw line; moustache: density;
            beard_length: metres; stubble: 0 to 1, short hair where the beard grows;
            glasses: 0 none, 1 round, 2 rectangular, 3 half-rim, 4 thick dark frame, 5 sun glasses; glasses_size: factor about 1;
            glasses_dark: 0 light metal to 1 black.
        shape: strengths of Anny's changes, in [−1, 1], float32 (P, L).
        shape_names: their names (L).
    """

    first: int
    traits: dict[str, np.ndarray]
    shape: np.ndarray
    shape_names: tuple[str, ...] = SHAPE_NAMES

    def __len__(self) -> int:
        return len(self.shape)

    def attributes(self) -> dict[str, np.ndarray]:
        """Binary attributes, name → int8 (P,): gender (1 male, as labelled), young (under 40), eyeglasses, beard (from a moustache or
        dense stubble on) and long_hair (falls below the jaw)."""
        t = self.traits
        falling = np.isin(t["hair_style"], (CHIN, BOB, STRAIGHT, WAVY)) & (t["hair_length"] >= 0.21)
        values = {
            "gender": t["label"] > 0.5,
            "young": t["age_years"] < 40,
            "eyeglasses": t["glasses"] > 0,
            "beard": np.maximum.reduce([t["beard"], t["moustache"], t["stubble"]]) > 0.3,
            "long_hair": falling,
        }
        return {name: value.astype(np.int8) for name, value in values.items()}

    def person(self, index: int) -> dict[str, float]:
        """The traits of one person, 0 ≤ index < P."""
        return {name: float(value[index]) for name, value in self.traits.items()}


def sample_people(count: int, seed: int, first: int = 0) -> People:
    """Draw people `first` … `first + count − 1` of the seed.

    Args:
        count: P, at least 0.
        seed, first: at least 0. Person p is the same in every call with this seed, whatever `first` and `count` are.

    Raises:
        ValueError: a negative number.
    """
    for name, value in {"count": count, "seed": seed, "first": first}.items():
        if value < 0:
            raise ValueError(f"{name} must not be negative: {value}")
    uniform = np.empty((count, len(_UNIFORMS)))
    normal = np.empty((count, len(_NORMALS)))
    ancestry = np.empty((count, 3))
    common = np.empty((count, len(SHAPE)))
    sides = np.empty((count, len(SHAPE_NAMES)))
    for row in range(count):
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, first + row], spawn_key=(_STREAM,))))
        uniform[row] = rng.random(len(_UNIFORMS))
        normal[row] = rng.standard_normal(len(_NORMALS))
        ancestry[row] = rng.dirichlet((0.5, 0.5, 0.5))
        common[row] = rng.standard_normal(len(SHAPE))
        sides[row] = rng.standard_normal(len(SHAPE_NAMES))
    u = dict(zip(_UNIFORMS, uniform.T, strict=True))
    n = dict(zip(_NORMALS, normal.T, strict=True))
    traits = _traits(u, n, ancestry)
    shape = _shape(traits, common, sides)
    return People(first, {name: np.ascontiguousarray(value, np.float32) for name, value in traits.items()}, shape.astype(np.float32))


def _traits(u: dict[str, np.ndarray], n: dict[str, np.ndarray], ancestry: np.ndarray) -> dict[str, np.ndarray]:
    """Traits of uniform draws u, normal draws n, each (P,), and ancestries (P, 3)."""
    label = (u["label"] < 0.5).astype(float)
    t = {"label": label}
    t |= {name: cue.draw(label, n[name]) for name, cue in CUES.items()}
    t["african"], t["asian"], t["caucasian"] = ancestry.T
    african, asian, caucasian = ancestry.T
    years = 20 + 55 * u["age"] ** 1.7
    late = (years - 25) / 50  # 0 at 25, 1 at 75
    t["age_years"] = years
    t["age"] = np.clip(2 / 3 + (years - 25) / 65 / 3 + 0.015 * n["age_shape"], 0.63, 0.95)

    t["skin"] = np.clip(0.68 - 0.46 * african - 0.10 * asian + t.pop("skin_offset") - 0.16 * (u["tone"] - 0.5) * caucasian, 0.07, 0.80)
    t["skin_texture"] = np.clip(t["skin_texture"] + 0.25 * late, 0.05, 1)
    made_up = u["makeup"] < _share(MAKEUP, label)
    t["makeup"] = np.where(made_up, np.clip(0.55 + 0.22 * n["makeup"], 0.1, 1), 0)
    t["lips"] = np.clip(t["lips"] + 0.13 * t["makeup"], 0.05, 0.6)

    # Hair: the darkest where the ancestry is not European; grey with age; some dye.
    natural = 0.035 + 0.025 * _logistic(n["hair"]) + 0.42 * caucasian**1.5 * _logistic(1.5 * n["hair"] - 1.2) ** 1.3
    dyed = u["dyed"] < _share(DYED, label)
    natural = np.where(dyed, 0.04 + 0.38 * (0.35 + 0.65 * caucasian) * u["dyed_albedo"] ** 1.5, natural)
    t["grey"] = _logistic((years - 55 - 9 * n["grey_onset"]) / 4.5) * np.where(dyed, 0.1, 1.0)
    t["hair"] = natural + (0.46 - natural) * t["grey"] ** 1.2
    t["brow"] = np.clip(0.04 + 0.65 * (natural + (0.45 - natural) * t["grey"] ** 2.5 - 0.04) + 0.02 * n["brow_match"], 0.03, 0.5)
    t["eye"] = np.clip(0.035 + 0.30 * caucasian**1.5 * _logistic(1.8 * n["eye"] - 0.3), 0.03, 0.35)
    t["hair_wave"] = np.clip(0.90 * african + 0.22 * asian + 0.35 * caucasian + 0.20 * n["wave"], 0, 1)

    recession = RECESSION[0] + SEPARATION * 0.5 * (RECESSION[1] - RECESSION[0]) * (2 * label - 1) + (RECESSION[1] - RECESSION[0]) / 2
    t["hairline"] = np.clip(t["hairline"] + np.clip(late, 0, 1) * np.clip(recession + 0.18 * n["recession"], 0, 1), 0, 1)
    t["hair_style"] = _styles(u["style"], label, african, t["hair_wave"], t["hairline"])
    bare = np.clip(1.6 * (t["hairline"] - 0.55) + 0.4 * u["bald"], 0, 1) * (t["hairline"] > 0.55)
    t["baldness"] = np.where(np.isin(t["hair_style"], (BALD, BUZZ, CROP)), bare, 0)
    low, high = np.array(list(STYLES.values()))[t["hair_style"].astype(int), 2:].T
    t["hair_length"] = low + (high - low) * t["hair_length"]
    t["parting"] = np.where(u["parting_side"] < 0.62, 1, -1) * np.clip(0.55 + 0.3 * n["parting"], 0, 1) * (u["parting_side"] > 0.12)
    bob = t["hair_style"] == BOB
    t["fringe"] = np.where(bob, 0.4 + 0.6 * u["fringe"], np.clip(3.0 * (u["fringe"] - 0.70), 0, 1))

    t |= _beards(u["beard"], label, n)
    share = np.asarray(GLASSES_SHARES)
    shares = np.where((years >= 45)[:, None], share * (2, 2, 2, 2, 1), share)
    chosen = (u["glasses"][:, None] > np.cumsum(shares, 1)).sum(1)
    t["glasses"] = np.where(chosen < len(share), chosen + 1.0, 0.0)
    t["glasses_size"] = np.clip(1 + 0.06 * n["glasses_size"], 0.87, 1.15)
    t["glasses_dark"] = np.where(
        t["glasses"] >= THICK, np.clip(0.9 + 0.07 * n["glasses_dark"], 0, 1), np.clip(0.6 + 0.25 * n["glasses_dark"], 0, 1)
    )
    return t


def _styles(u: np.ndarray, label: np.ndarray, african: np.ndarray, wave: np.ndarray, hairline: np.ndarray) -> np.ndarray:
    """Hair styles (P,) of uniform draws: the label's shares, weighted by what such hair can do."""
    shares = np.array(list(STYLES.values()))[:, :2].T
    middle, half = shares.mean(0), SEPARATION * (shares[1] - shares[0]) / 2
    weight = np.maximum(middle + half * (2 * label[:, None] - 1), 0)  # (P, styles)
    weight[:, CURLY] *= 0.1 + 4 * wave**2
    weight[:, STRAIGHT] *= np.clip(1.8 - 2.2 * wave, 0.02, None)
    weight[:, WAVY] *= 0.3 + 1.5 * wave * (1 - wave) * 2
    for style in (BOB, CHIN, SIDE, QUIFF):
        weight[:, style] *= np.clip(1.5 - 1.2 * wave, 0.1, None)
    weight[:, BUZZ] *= 0.7 + african
    far_back = hairline > 0.55
    weight[:, BALD] *= np.where(far_back, 3, 1)
    weight[:, (CHIN, STRAIGHT, WAVY, QUIFF, CURLY)] *= np.where(far_back, 0.5, 1)[:, None]
    bounds = np.cumsum(weight, 1) / weight.sum(1, keepdims=True)
    return np.minimum((u[:, None] > bounds).sum(1), len(STYLE_NAMES) - 1).astype(float)


def _beards(u: np.ndarray, label: np.ndarray, n: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Facial hair of uniform draws (P,): the label's share of each kind."""
    half = SEPARATION / 2
    share = np.array([v * (0.5 + half * (2 * label - 1)) for v in BEARD.values()])  # (kinds, P)
    kind = (u[None] > np.cumsum(share, 0)).sum(0)
    full, goatee, moustache, stubble = (kind == i for i in range(4))
    dense = np.clip(0.75 + 0.15 * n["beard_density"], 0.4, 1)
    beard = np.where(full | goatee, dense, 0)
    return {
        "beard": beard,
        "beard_cheeks": np.where(full, dense * np.clip(0.85 + 0.15 * n["beard_cheeks"], 0.4, 1), 0),
        "moustache": np.where(full | moustache, dense, np.where(goatee, dense * np.clip(0.6 + 0.5 * n["moustache"], 0, 1), 0)),
        "beard_length": np.where(full | goatee, np.clip(0.008 + 0.005 * n["beard_length"], 0.003, 0.025), np.where(moustache, 0.005, 0)),
        "stubble": np.where(stubble, np.clip(0.5 + 0.2 * n["beard_density"], 0.2, 0.9), np.where(full | goatee, 0.3, 0)),
    }


def _shape(traits: dict[str, np.ndarray], common: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Strengths (P, L) of Anny's changes from normal draws a change (P, changes) and a side (P, L)."""
    deviation, gap, ageing = np.array(list(SHAPE.values())).T
    late = np.clip((traits["age_years"] - 25) / 50, 0, 1)[:, None]
    mean = common * deviation + SEPARATION * gap / 2 * (2 * traits["label"][:, None] - 1) + ageing * late
    paired = np.array([1 + (name[0] == "*") for name in SHAPE])
    # An average of the two sides' draws would make them all but equal: what is added to a side is its own draw less the mean.
    both = np.repeat(mean, paired, 1)
    return np.clip(both + ASYMMETRY * sides * np.repeat(paired == 2, paired), -1, 1)


def _share(pair: tuple[float, float], label: np.ndarray) -> np.ndarray:
    """The label's share of (women, men), moved together by `SEPARATION`."""
    return (pair[0] + pair[1]) / 2 + SEPARATION * (pair[1] - pair[0]) / 2 * (2 * label - 1)


def _logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
