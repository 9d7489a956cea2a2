"""Plots that show faces: grids, Grad-CAM panels and bars of attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.colors
import matplotlib.patheffects
import numpy as np
from matplotlib.axes import Axes

from ..machine.files import UserError
from .style import BLUE, GREY, HATCHES, VERMILLION, Picture, drawn, empty_picture, legend_below


def _grey_images(images: Any, what: str) -> np.ndarray:
    """uint8 or float [0, 1] images (N, 1, H, W) or (N, H, W), array or tensor, as float (N, H, W) in [0, 1]."""
    images = np.asarray(images.detach().cpu() if hasattr(images, "detach") else images)
    images = images / 255 if images.dtype == np.uint8 else images.astype(float)
    images = images[:, 0] if images.ndim == 4 and images.shape[1] == 1 else images
    if images.ndim != 3 or not len(images):
        raise UserError(f"{what}: images must be (N, 1, H, W) or (N, H, W) with N > 0, not {images.shape}.")
    return images.clip(0, 1)


@drawn
def faces_grid(rows: Mapping[str, Any], columns: Sequence[str] | None = None) -> Picture:
    """Faces side by side: one row a label, such as the photograph and what each method lets a decoder rebuild of it.

    What to read off it: what a person would still recognise in each row. Never a measure of privacy: a picture in which
    people see nothing can give everything to a trained attacker.

    Args:
        rows: label to images, uint8 or float in [0, 1], shape (N, 1, H, W) or (N, H, W); the same N in all rows.
        columns: a heading for each of the N columns.

    Raises:
        UserError: no rows, rows of different lengths, or as many headings as there are not columns.
    """
    grid = {label: _grey_images(images, label) for label, images in rows.items()}
    counts = {label: len(images) for label, images in grid.items()}
    if not grid or len(set(counts.values())) > 1:
        raise UserError(f"A grid of faces needs rows of one length; these have {counts or 'no rows'}.")
    count = next(iter(counts.values()))
    if columns is not None and len(columns) != count:
        raise UserError(f"{len(columns)} headings for {count} columns of faces.")
    figure = empty_picture(1.25 * count + 1.4, 1.25 * len(grid) + (0.35 if columns else 0) + 0.1, "compressed")
    axes = figure.subplots(len(grid), count, squeeze=False)
    for row, (label, images) in zip(axes, grid.items(), strict=True):
        for cell, image in zip(row, images, strict=True):
            _show(cell, image)
        _row_label(row[0], label)
    _headings(axes[0], columns)
    figure.alt = f"A grid of {count} face{'s' * (count != 1)} a row; the rows are {', '.join(grid)}."
    figure.alt += f" Columns: {', '.join(columns)}." if columns else ""
    return figure


def _show(axes: Axes, image: np.ndarray) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _row_label(axes: Axes, label: str) -> None:
    axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=11, labelpad=8)


def _headings(cells: Sequence[Axes], headings: Sequence[str] | None) -> None:
    for cell, heading in zip(cells, headings or (), strict=False):
        cell.set_title(heading, fontsize=11, fontweight="normal", loc="center")


@drawn
def gradcam_panel(
    images: Any,
    reconstructions: Any | None,
    maps: Mapping[str, Any],
    scale: float | None = None,
    columns: Sequence[str] | None = None,
    positive: str = "1",
) -> Picture:
    """Fig. 3: each face, its reconstruction, and where a classifier finds its evidence, on the evidence's true scale.

    What to read off it: brightness is evidence in units of the logit, on one scale for all maps, and the number under each
    map is its greatest value. A classifier that has nothing to go by stays dark, where the usual picture, which
    stretches each map to full brightness, would show it as sure as any other. Under each map also the classifier's
    probability for label 1.

    Args:
        images: the faces, uint8 or float in [0, 1], (N, 1, H, W) or (N, H, W).
        reconstructions: the same for their reconstructions, or None.
        maps: label to `explain.CamResult`; one whose label contains "reconstruction" is drawn over the reconstructions, every other
            over the faces.
        scale: the raw evidence shown at full brightness; the greatest of all maps by default. Give the working
            classifier's `raw_max.max()` to show a useless one alone.
        columns: a heading for each face.
        positive: what label 1 means, for the numbers under the maps, e.g. "male".

    Raises:
        UserError: faces, reconstructions and maps differ in number or size.
    """
    faces = _grey_images(images, "images")
    rebuilt = None if reconstructions is None else _grey_images(reconstructions, "reconstructions")
    for label, result in maps.items():
        if result.raw.shape != faces.shape or (rebuilt is not None and rebuilt.shape != faces.shape):
            raise UserError(f"{label}: maps of shape {result.raw.shape} do not fit images of shape {faces.shape}.")
    top = float(scale if scale is not None else max(result.raw.max() for result in maps.values())) or 1.0
    pictures: list[tuple[str, np.ndarray, Any]] = [("image", faces, None)]
    pictures += [("reconstruction", rebuilt, None)] if rebuilt is not None else []
    pictures += [(label, rebuilt if rebuilt is not None and "reconstruction" in label else faces, cam) for label, cam in maps.items()]
    count = len(faces)
    height = sum(1.6 if result is None else 2.1 for _, _, result in pictures) + 0.3 * bool(columns)
    figure = empty_picture(1.55 * count + 3.0, height, "compressed")
    axes = figure.subplots(len(pictures), count, squeeze=False)
    for row, (label, below, result) in zip(axes, pictures, strict=True):
        for index, cell in enumerate(row):
            _show(cell, below[index])
            if result is not None:
                raw = result.raw[index]
                # One opacity everywhere: the face shows through, and without evidence it is merely dark.
                mappable = cell.imshow(raw, cmap="inferno", vmin=0, vmax=top, alpha=0.7, interpolation="bilinear")
                cell.set_xlabel(f"max {_digits(raw.max())}\nP({positive}) = {result.probability[index]:.2f}", fontsize=10)
        _row_label(row[0], _two_lines(label))
    bar = figure.colorbar(mappable, ax=axes, label="evidence (units of the logit)", fraction=0.05, aspect=22, shrink=0.8)
    bar.solids.set_alpha(1)
    _headings(axes[0], columns)
    words = "{}: greatest evidence {}, mean P({}) {:.2f}"
    parts = [words.format(label, _digits(cam.raw.max()), positive, cam.probability.mean()) for label, cam in maps.items()]
    figure.alt = f"Grad-CAM of {count} face{'s' * (count != 1)} on one scale from 0 to {_digits(top)}. {'; '.join(parts)}."
    return figure


@drawn
def attribute_bars(images: Any, rebuilt: Any, probabilities: Mapping[str, Any], names: Sequence[str], titles: Sequence[str]) -> Picture:
    """The poster's example: each face, what AIA's decoder rebuilds of it, and how sure an attacker is of each attribute.

    What to read off it: the two bars of an attribute, before and after. Where both end at the same side of the dashed line, the
    attacker answers as before; that the rebuilt face looks blurred changes nothing. How often the attacker is right
    is not in the picture.

    Args:
        images, rebuilt: the faces and their reconstructions, uint8 or float in [0, 1], (N, 1, H, W) or (N, H, W).
        probabilities: "before" (from the auto-encoder's g) and "after" (from AIA's g) to probabilities in [0, 1], (N, A).
        names: what the A probabilities are the probability of.
        titles: a heading for each face.

    Raises:
        UserError: faces, reconstructions, probabilities, names and titles differ in number.
    """
    faces, blurred = _grey_images(images, "images"), _grey_images(rebuilt, "reconstructions")
    values = {which: np.asarray(probabilities[which], dtype=float) for which in ("before", "after")}
    shapes = {which: array.shape for which, array in values.items()}
    if set(shapes.values()) != {(len(faces), len(names))} or not len(names):
        raise UserError(f"{len(faces)} faces and {len(names)} attributes need probabilities of that shape, not {shapes}.")
    if not len(blurred) == len(titles) == len(faces):
        raise UserError(f"{len(faces)} faces need as many reconstructions and titles, not {len(blurred)} and {len(titles)}.")
    height = max(2.0, 0.42 * len(names) + 0.5)  # of a face's row, in inches
    figure = empty_picture(9.4, height * len(faces) + 1.0)
    axes = figure.subplots(len(faces), 3, squeeze=False, width_ratios=(1, 1, 2.6))
    figure.get_layout_engine().set(hspace=0.04, wspace=0.04)
    places = np.arange(len(names))
    halo = matplotlib.patheffects.withStroke(linewidth=3, foreground="white")  # numbers may come to lie on the dashed line
    looks = {"before": (BLUE, HATCHES[0], -0.2), "after": (VERMILLION, HATCHES[2], 0.2)}
    labels = {"before": "before: from the auto-encoder's g", "after": "after: from AIA's g"}
    parts = []
    for index, (photograph, picture, bars) in enumerate(axes):
        _show(photograph, faces[index])
        _show(picture, blurred[index])
        photograph.set_xlabel("photograph", fontsize=11)
        picture.set_xlabel("rebuilt from AIA's g", fontsize=11)
        for which, (colour, hatch, shift) in looks.items():
            percent = 100 * values[which][index]
            look = {"facecolor": matplotlib.colors.to_rgba(colour, 0.25), "edgecolor": colour, "hatch": hatch, "linewidth": 1.2}
            drawn = bars.barh(places + shift, percent, height=0.36, label=labels[which] if index == 0 else None, **look)
            bars.bar_label(drawn, [f"{value:.0f} %" for value in percent], padding=3, fontsize=10, path_effects=[halo])
        bars.axvline(50, color=GREY, linestyle="--", linewidth=1.2, zorder=0)
        bars.set(xlim=(0, 114), ylim=(len(names) - 0.45, -0.55), xticks=range(0, 101, 25))
        bars.set_yticks(places, names, parse_math=False)
        bars.grid(axis="y", visible=False)
        photograph.set_title(titles[index], fontsize=11, fontweight="normal", parse_math=False)
        read = zip(names, values["before"][index], values["after"][index], strict=True)
        words = ", ".join(f"{name} {100 * before:.0f} % to {100 * after:.0f} %" for name, before, after in read)
        parts.append(f"{titles[index]}: {words}")
    axes[-1, 2].set_xlabel("probability that the attacker gives, %")
    legend_below(figure, 2)
    shown = f"{len(faces)} face{'s' * (len(faces) != 1)}"
    figure.alt = f"{shown}, with bars of what an attacker reads off each, before to after. {'; '.join(parts)}."
    return figure


def _digits(value: float) -> str:
    return f"{value:.2g}" if abs(value) < 100 else f"{value:.0f}"


def _two_lines(label: str) -> str:
    """Break a label after the blank nearest its middle, where it is long."""
    blanks = [i for i, c in enumerate(label) if c == " "]
    if len(label) <= 14 or not blanks:
        return label
    cut = min(blanks, key=lambda i: abs(i - len(label) / 2))
    return f"{label[:cut]}\n{label[cut + 1 :]}"
