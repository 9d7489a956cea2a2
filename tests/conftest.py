"""Faces for tests: drawn ones, a CelebA folder made of them, and the real CelebA where there is one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aia_lib.faces import Faces

CELEBA_NAMES = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair Blurry Brown_Hair "
    "Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male Mouth_Slightly_Open Mustache "
    "Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair Wavy_Hair "
    "Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace Wearing_Necktie Young"
).split()
"""The 40 attributes of CelebA, in the order of its label file."""


SLOW = (
    "attackers audit audit_validation benchmarks chapters classroom cli commands datasets defences fairness notebooks plots privacy_card "
    "project ray recogniser render_people render_scene render_store results run shipped site sweep template training"
).split()
"""Modules of tests that take more than some seconds: `make check` leaves them out."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow, and begin with the notebooks: the many short modules then fill both cores to the end."""
    items.sort(key=lambda item: item.path.name != "test_notebooks.py")
    for item in items:
        if item.path.stem.removeprefix("test_") in SLOW:
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """With several workers one of them runs all tests of a module, for they share fixtures; each notebook goes by itself."""
    from xdist.scheduler import LoadScopeScheduling

    class Modules(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            module, _, test = nodeid.partition("::")
            return test.partition("[")[2] if module.endswith("test_notebooks.py") else module

    return Modules(config, log)


@pytest.fixture(scope="session")
def celeba_root() -> Path:
    """The folder of CelebA in AIA_CELEBA_ROOT; the test is skipped where there is none."""
    root = os.environ.get("AIA_CELEBA_ROOT")
    if not root:
        pytest.skip("AIA_CELEBA_ROOT is not set")
    return Path(root)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """torch computes on one thread while a module's tests run: networks this small gain nothing from more, and sums keep their order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of decoded images of this test session, which its workers share."""
    session = tmp_path_factory.getbasetemp()
    return (session.parent if "PYTEST_XDIST_WORKER" in os.environ else session) / "aia-cache"


@pytest.fixture(autouse=True)
def _cache_in_tmp(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the user's cache."""
    monkeypatch.setenv("AIA_CACHE", str(cache))


def draw_faces(people: int, images: int, size: int, seed: int) -> Faces:
    """Drawn faces with identity (proportions, tones), gender (hair, brows, jaw, lips) and nuisance (pose, light, noise).

    Half of the people are labelled gender = 1; their cues overlap, so that no attacker is perfect. Glasses are worn per image.
    """
    rng = np.random.default_rng(seed)
    n = people * images
    identity = np.repeat(np.arange(people), images)
    gender = rng.permutation(np.arange(people) % 2)
    sign = (2.0 * gender - 1)[identity]

    def person(mean: float, spread: float) -> np.ndarray:
        return rng.normal(mean, spread, people)[identity]

    def cue(mean: float, shift: float, spread: float, wobble: float = 0.0) -> np.ndarray:
        return person(mean, spread) + shift * sign + rng.normal(0, wobble, n)

    # Lengths in half image widths; x to the right, y down, the face around the origin.
    wide, tall = person(0.56, 0.06), person(0.76, 0.05)
    jaw = cue(0.80, 0.08, 0.06)
    skin, ground = person(0.68, 0.09), rng.uniform(0.2, 0.8, n)
    eye_gap, eye_y, eye_size = person(0.25, 0.035), person(-0.10, 0.04), person(0.085, 0.015)
    brow_dark, brow_y = cue(0.45, 0.25, 0.08, 0.04), person(0.17, 0.025)
    nose_long, nose_wide = person(0.24, 0.06), person(0.07, 0.02)
    mouth_y, mouth_wide = person(0.42, 0.04), person(0.20, 0.04) + rng.normal(0, 0.02, n)
    lips_dark = cue(0.32, -0.18, 0.06, 0.04)
    hair_tone, hair_line = person(0.32, 0.16), person(-0.46, 0.08)
    hair_long = cue(0.10, -0.45, 0.14, 0.06)
    glasses_rate = rng.choice([0.1, 0.8], people, p=[0.6, 0.4])[identity]
    glasses = (rng.random(n) < glasses_rate).astype(np.int8)

    axis = (np.arange(size) + 0.5) / size * 2 - 1
    shift_x, shift_y = rng.normal(0, 0.035, (2, n, 1, 1))
    turn = rng.normal(0, 0.05, (n, 1, 1))
    x0, y0 = axis[None, None, :] - shift_x, axis[None, :, None] - shift_y
    x, y = x0 + turn * y0, y0 - turn * x0  # (n, size, size)

    def at(values: np.ndarray) -> np.ndarray:
        return values[:, None, None]

    def soft(inside: np.ndarray, edge: float = 0.05) -> np.ndarray:
        return 1 / (1 + np.exp(-np.clip(inside / edge, -30, 30)))

    def ellipse(cx: np.ndarray | float, cy: np.ndarray | float, a: np.ndarray | float, b: np.ndarray | float) -> np.ndarray:
        return soft(1 - np.sqrt(((x - cx) / a) ** 2 + ((y - cy) / b) ** 2), 0.12)

    def paint(picture: np.ndarray, mask: np.ndarray, tone: np.ndarray | float) -> np.ndarray:
        return picture + mask * (tone - picture)

    picture = np.broadcast_to(at(ground), x.shape).copy()
    behind = ellipse(0, -0.12, at(wide) + 0.17, at(tall) + 0.10) * soft(at(hair_long) - y, 0.06)
    picture = paint(picture, behind, at(hair_tone))
    narrowing = at(wide) * (1 - (1 - at(jaw)) * np.clip(y + 0.1, 0, None) * 1.6)
    picture = paint(picture, ellipse(0, 0.04, np.maximum(narrowing, 0.2), at(tall)), at(skin))
    picture = paint(picture, ellipse(0, -0.12, at(wide) + 0.1, at(tall)) * soft(at(hair_line) - y + 0.12 * x**2, 0.04), at(hair_tone))
    for side in (-1, 1):
        cx = side * at(eye_gap)
        picture = paint(picture, ellipse(cx, at(eye_y), at(eye_size) * 1.5, at(eye_size)), 0.92)
        picture = paint(picture, ellipse(cx, at(eye_y), at(eye_size) * 0.7, at(eye_size) * 0.8), 0.12)
        picture = paint(picture, at(brow_dark).clip(0, 0.8) * ellipse(cx, at(eye_y - brow_y), 0.16, 0.055), 0.08)
        ring = ellipse(cx, at(eye_y), 0.21, 0.18) - ellipse(cx, at(eye_y), 0.16, 0.13)
        picture = paint(picture, at(glasses) * ring.clip(0, 1), 0.05)
    nose = ellipse(0, at(eye_y + nose_long), at(nose_wide).clip(0.02), at(nose_long).clip(0.08) * 0.7)
    picture = paint(picture, 0.35 * nose, 0.25)
    picture = paint(picture, at(lips_dark).clip(0, 1) * 2 * ellipse(0, at(mouth_y), at(mouth_wide).clip(0.08), 0.075).clip(0, 0.5), 0.1)

    slope_x, slope_y = rng.normal(0, 0.06, (2, n, 1, 1))
    picture = picture * (1 + slope_x * x0 + slope_y * y0) * rng.normal(1, 0.06, (n, 1, 1)) + rng.normal(0, 0.03, picture.shape)
    return Faces(
        images=(picture.clip(0, 1) * 255).round().astype(np.uint8)[:, None],
        identity=identity,
        attributes={"gender": gender.astype(np.int8)[identity], "glasses": glasses},
        attribute="gender",
        source="drawn faces",
        licence="CC0",
        names=tuple(f"person {i:04d}" for i in range(people)),
    )


@pytest.fixture(scope="session")
def toy_faces() -> Callable[..., Faces]:
    """toy_faces(people=60, images=6, size=32, seed=0) draws faces in memory, see `draw_faces`. The same arguments give the same faces."""

    def make(people: int = 60, images: int = 6, size: int = 32, seed: int = 0) -> Faces:
        return draw_faces(people, images, size, seed)

    return make


def write_celeba(root: Path, faces: Faces) -> Path:
    """Write faces in CelebA's original layout under `root`/celeba: images 178 x 218, 40 attributes (Male and Eyeglasses are real ones)."""
    base = root / "celeba"
    (base / "img_align_celeba").mkdir(parents=True)
    attributes = [f"{len(faces)}", " ".join(CELEBA_NAMES)]
    identities, parts = [], []
    order = np.random.default_rng(len(faces)).permutation(len(faces))  # in CelebA a person's images are not neighbours
    for number, row in enumerate(order, start=1):
        name = f"{number:06d}.jpg"
        # the drawn square goes where the loader crops: 148 of 178 pixels wide, centred at (89, 121)
        picture = Image.new("L", (178, 218), 128)
        picture.paste(Image.fromarray(np.asarray(faces.images[row, 0])).resize((148, 148), Image.Resampling.BICUBIC), (15, 47))
        picture.convert("RGB").save(base / "img_align_celeba" / name, quality=92)
        values = {"Male": faces.attributes["gender"][row], "Eyeglasses": faces.attributes["glasses"][row]}
        signs = [2 * int(values.get(attribute, (row + i) % 2)) - 1 for i, attribute in enumerate(CELEBA_NAMES)]
        attributes.append(name + "".join(f" {sign:2d}" for sign in signs))
        identities.append(f"{name} {faces.identity[row] + 1}")
        parts.append(f"{name} 0")
    (base / "list_attr_celeba.txt").write_text("\n".join(attributes) + "\n")
    (base / "identity_CelebA.txt").write_text("\n".join(identities) + "\n")
    (base / "list_eval_partition.txt").write_text("\n".join(parts) + "\n")
    return root


@pytest.fixture
def celeba_like(tmp_path: Path, toy_faces: Callable[..., Faces]) -> Callable[..., Path]:
    """celeba_like(people=40, images=4, seed=0) writes drawn faces in CelebA's layout and returns the root (its parent folder)."""

    def make(people: int = 40, images: int = 4, seed: int = 0) -> Path:
        return write_celeba(tmp_path / "celeba-like", toy_faces(people, images, 64, seed))

    return make
