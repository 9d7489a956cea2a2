"""What attackers read off photographs, before and after anonymization: the example on the paper's poster, `aia attributes`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .attributes import AttributeReader
from .datasets import celeba
from .datasets.cache import SkippedImage, decode
from .datasets.common import WHOLE
from .faces import value_words
from .machine.device import pick_device, to_images
from .machine.files import UserError
from .report import plots
from .run import FOLDERS, READERS, finished_report
from .saving import load_anonymizer

SHOWN = 12
"""Attributes that `aia attributes` shows unless --only names some."""

READABLE = 0.6
"""It shows those alone that the attacker reads off the auto-encoder's g with at least this AUC."""

SURE = 0.6
"""An answer less certain than this counts as none, as does one of an attacker whose AUC is below `READABLE`."""

PICTURED = 8
"""Faces in the picture of `aia attributes`; the text has all."""


def show_attributes(images: Sequence[str], run: str | Path, only: str | None, out: str | Path, say: Callable[[str], None] = print) -> None:
    """Say what attackers read off each photograph, and draw it.

    Args:
        images: image files, each with one upright face that fills most of it.
        run: the folder of a finished `aia run`.
        only: attributes, separated by commas; None takes the private one and those that are read best.
        out: the picture to write, of the first `PICTURED` faces.
        say: is given the text of each face.

    Raises:
        UserError: the folder holds no finished run, an image cannot be read, or an attribute is unknown.
    """
    report = finished_report(run)
    size, source = report["settings"]["size"], report["provenance"]["data"]["source"]
    pixels = np.stack([_photograph(path, size, source, say) for path in images])[:, None]  # (N, 1, size, size)
    faces = to_images(pixels, pick_device())
    probabilities, readers, rebuilt = before_and_after(run, faces)
    names = _chosen(only, readers["before"])
    chosen = {which: probabilities[which][:, [reader.attributes.index(name) for name in names]] for which, reader in readers.items()}
    aucs = [tuple(reader.test_auc[name] for reader in readers.values()) for name in names]  # before, after
    for path, before, after in zip(images, chosen["before"], chosen["after"], strict=True):
        say(f"{path}\n{_face(names, before, after, aucs)}\n")
    known = len(readers["before"].attributes)
    if only is None and len(names) < known:
        say(f"Shown are {len(names)} of {known} attributes, those that can be read best; --only names others.")
    picture = plots.attribute_bars(
        faces[:PICTURED].cpu(),
        rebuilt[:PICTURED].cpu(),
        {which: values[:PICTURED] for which, values in chosen.items()},
        ["male (as labelled)" if name == "gender" else _words(name) for name in names],
        [_shortened(Path(path).name) for path in images[:PICTURED]],
    )
    plots.save_picture(picture, out)
    say(f"picture: {out}{f' (the first {PICTURED} faces)' if len(images) > PICTURED else ''}")


def check_picture(out: str, images: Sequence[str]) -> None:
    """Raise a UserError where an image is missing, or the picture cannot be `out`: no PNG, a folder, or one of the images."""
    if missing := [path for path in images if not os.path.isfile(path)]:
        raise UserError(f"{missing[0]}: there is no such image.")
    if not out.lower().endswith(".png") or os.path.isdir(out):
        raise UserError(f"--out {out}: the picture is a PNG file; choose a name that ends in .png.")
    if os.path.exists(out) and any(os.path.samefile(out, path) for path in images):
        raise UserError(f"--out {out} is one of the photographs and would be overwritten. Choose another name.")


def before_and_after(run: str | Path, images: torch.Tensor) -> tuple[dict[str, np.ndarray], dict[str, AttributeReader], torch.Tensor]:
    """What attackers read off images before and after anonymization, with the models of a finished run.

    Args:
        run: the folder of the run.
        images: float (N, 1, size, size) in [0, 1], of the run's size.

    Returns:
        probabilities: "before" and "after" to float32 (N, attributes); the readers, likewise; AIA's reconstructions (N, 1, size, size).

    Raises:
        UserError: the folder holds no finished run.
    """
    folder = Path(run) / f"seed-{finished_report(run)['provenance']['seeds'][0]}"
    probabilities, readers = {}, {}
    for which, name in READERS.items():
        anonymizer = load_anonymizer(folder / FOLDERS[name])
        readers[which] = AttributeReader.load(folder / "readers", which)
        g = anonymizer(images)
        probabilities[which] = readers[which].probabilities(g.cpu())
    return probabilities, readers, anonymizer.decode(g)


def _face(names: Sequence[str], before: Sequence[float], after: Sequence[float], aucs: Sequence[tuple[float, float]]) -> str:
    """What is read off one face: in the poster's words, and attribute by attribute."""
    lines = [
        f"  before  {_poster(names, before, [auc for auc, _ in aucs])}",
        f"  after   {_poster(names, after, [auc for _, auc in aucs])}",
    ]
    labels = ["gender as labelled" if name == "gender" else _words(name) for name in names]
    width = max(len("attribute"), *map(len, labels))
    lines += ["", f"  {'attribute':<{width}}   {'before':<15}{'after':<15}attacker's AUC before, after"]
    for name, label, *values, (auc_before, auc_after) in zip(names, labels, before, after, aucs, strict=True):
        answers = "".join(f"{f'{word} {100 * share:.0f} %':<15}" for word, share in (_answer(name, value) for value in values))
        lines.append(f"  {label:<{width}}   {answers}{auc_before:.2f}, {auc_after:.2f}")
    return "\n".join(lines)


def _poster(names: Sequence[str], values: Sequence[float], aucs: Sequence[float]) -> str:
    """The poster's line: "gender as labelled: male; has Smiling, Young; lacks Eyeglasses; not sure: Bald"."""
    words: dict[str, list[str]] = {"gender as labelled:": [], "has": [], "lacks": [], "not sure:": []}
    for name, value, auc in zip(names, values, aucs, strict=True):
        word, share = _answer(name, value)
        if share < SURE or auc < READABLE:
            words["not sure:"].append(_words(name))
        elif name == "gender":
            words["gender as labelled:"].append(word)
        else:
            words["has" if word == "yes" else "lacks"].append(_words(name))
    return "; ".join(f"{key} {', '.join(group)}" for key, group in words.items() if group)


def _answer(name: str, probability: float) -> tuple[str, float]:
    """The attacker's answer as a word, and how sure it is of it, in [0.5, 1]."""
    no, yes = value_words(name)
    return (yes, float(probability)) if probability >= 0.5 else (no, 1 - float(probability))


def _words(name: str) -> str:
    return name.replace("_", " ")


def _shortened(name: str, most: int = 36) -> str:
    return name if len(name) <= most else f"{name[: most // 2]}…{name[1 - most // 2 :]}"


def _photograph(path: str, size: int, source: str, say: Callable[[str], None]) -> np.ndarray:
    """The grey square that the run's networks read, uint8 (size, size); of an image like those of the run's `source`, the same part."""
    crop = WHOLE
    try:
        if source == "celeba":
            with contextlib.suppress(Exception), Image.open(path) as image:  # what is wrong with it, decode says
                crop = celeba.CROP if abs(image.width / image.height - 178 / 218) < 0.005 else WHOLE
        pixels, remarks = decode(path, size, crop)
    except SkippedImage as error:
        raise UserError(f"{path} cannot be used: {str(error).replace('not images', 'not an image')}.") from error
    for remark in remarks:
        say(f"note: images that {remark}: {path}")
    return pixels


def _chosen(only: str | None, reader: AttributeReader) -> list[str]:
    """The attributes to show: those asked for, or the private one and those that the attacker reads best."""
    if only is None:
        private, *others = reader.attributes
        same = {"gender", "Male"} if private in ("gender", "Male") else set()  # in CelebA two names of nearly the same labels
        others = [name for name in others if reader.test_auc[name] >= READABLE and name not in same]
        return [private, *sorted(others, key=lambda name: -reader.test_auc[name])[: SHOWN - 1]]
    known = {_words(name).casefold(): name for name in reader.attributes}
    names = [_words(part).strip() for part in only.split(",") if part.strip()]
    if unknown := [name for name in names if name.casefold() not in known] or ([only] if not names else []):
        raise UserError(f"There is no attribute {unknown[0]!r}; the run's attackers know {', '.join(reader.attributes)}.")
    return list(dict.fromkeys(known[name.casefold()] for name in names))
