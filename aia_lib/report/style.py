"""What all pictures have in common: colours, markers, the style, a figure that knows its words, and how it is saved.

Reading them without colour works too: regimes and quantities differ in marker, filling, line style and hatching as well.
The colours are Okabe and Ito's, which people with any common colour vision tell apart.
"""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..machine.files import atomic_write

BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"

SKY, PURPLE, YELLOW, BLACK, GREY = "#56B4E9", "#CC79A7", "#F0E442", "#000000", "#555555"

COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

LINES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 1)))

HATCHES = ("//", "\\\\", "..", "xx", "--")

STYLE = {
    **sns.axes_style("whitegrid"),
    "font.size": 12.0,
    "axes.titlesize": 13.0,
    "axes.labelsize": 12.0,
    "xtick.labelsize": 11.0,
    "ytick.labelsize": 11.0,
    "legend.fontsize": 11.0,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.edgecolor": "#888888",
    "grid.color": "#DDDDDD",
    "hatch.linewidth": 0.8,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
"""Applied while a picture is drawn, and only then."""


class Picture(Figure):
    """A matplotlib figure that knows its alternative text, shows itself in a notebook, and belongs to no global list:
    there is nothing to close.

    Attributes:
        alt: what the picture shows, in words and with its main numbers, for those who cannot see it.
    """

    alt: str = ""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", metadata={"Software": None})
        return buffer.getvalue()


def save_picture(picture: Picture, path: str | os.PathLike, dpi: int = 200) -> Path:
    """Write `picture` as a PNG, whole or not at all, with its alternative text inside as the PNG's Description.

    The same picture gives the same bytes: neither the date nor matplotlib's version is written.
    """
    path = Path(path)
    with atomic_write(path) as file:
        description = picture.alt.encode("latin-1", "replace").decode("latin-1")  # all that a PNG's text may hold
        picture.savefig(file, format="png", dpi=dpi, metadata={"Software": None, "Description": description})
    return path


def drawn(function: Callable[..., Picture]) -> Callable[..., Picture]:
    """Run a drawing function under STYLE, leaving the caller's settings alone."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Picture:
        with matplotlib.rc_context(STYLE):
            return function(*args, **kwargs)

    return wrapped


def empty_picture(width: float, height: float, layout: str = "constrained") -> Picture:
    """An empty picture of width x height inches; layout "compressed" is for grids of images, whose shape is fixed."""
    return Picture(figsize=(width, height), dpi=100, layout=layout)


def legend_below(picture: Picture, columns: int = 1, **more: Any) -> None:
    """The legend under all axes."""
    picture.legend(loc="outside lower center", ncols=columns, frameon=False, **more)


def chance_line(axes: Axes, width: float = 1.2, order: int = 0) -> None:
    """A dashed line at an AUC of 0.5."""
    axes.axvline(0.5, color=GREY, linestyle="--", linewidth=width, zorder=order)
