"""The pictures: every function takes plain data and returns a `Picture`; none touches matplotlib's global state.

Reading them without colour works too: regimes and quantities differ in marker, filling, line style and hatching as well.
The colours are Okabe and Ito's, which people with any common colour vision tell apart.
"""

from __future__ import annotations

import functools
import io
import itertools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import matplotlib.patheffects
import matplotlib.ticker
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from . import ledger
from .files import UserError, atomic_write

if TYPE_CHECKING:
    import pandas as pd
    from pandas.io.formats.style import Styler

BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
SKY, PURPLE, YELLOW, BLACK = "#56B4E9", "#CC79A7", "#F0E442", "#000000"
COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (1, 1)))
HATCHES = ("//", "\\\\", "..", "xx", "--")
GREY = "#555555"

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


def alt_text(figure: Figure) -> str:
    """The alternative text of a picture made here. Raises ValueError for a figure that has none."""
    text = getattr(figure, "alt", "")
    if not text:
        raise ValueError("This figure has no alternative text; make it with aia_lib.plots, or set its `alt`.")
    return text


def save(figure: Figure, path: str | os.PathLike, dpi: int = 200) -> Path:
    """Write `figure` as a PNG, whole or not at all, with its alternative text inside as the PNG's Description.

    The same figure gives the same bytes: neither the date nor matplotlib's version is written.
    """
    path = Path(path)
    with atomic_write(path) as file:
        description = alt_text(figure).encode("latin-1", "replace").decode("latin-1")  # all that a PNG's text may hold
        figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None, "Description": description})
    return path


def _drawn(function: Callable[..., Picture]) -> Callable[..., Picture]:
    """Run a drawing function under STYLE, leaving the caller's settings alone."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Picture:
        with matplotlib.rc_context(STYLE):
            return function(*args, **kwargs)

    return wrapped


def _picture(width: float, height: float, layout: str = "constrained") -> Picture:
    """An empty picture of width x height inches; layout "compressed" is for grids of images, whose shape is fixed."""
    return Picture(figsize=(width, height), dpi=100, layout=layout)


# Table 1 --------------------------------------------------------------------------------------------------------------

_COLUMNS = (  # regime of the report, its key there, the group and the name in the table, better when lower
    ("paper", "privacy_accuracy", "Paper regime", "Privacy ↓", True),
    ("paper", "utility_accuracy", "Paper regime", "Utility ↑", False),
    ("retrained", "leak_auc", "Retrained regime", "Leak AUC ↓", True),
    ("retrained", "utility_auc_same", "Retrained regime", "Utility AUC ↑", False),
)


def table1(report: Mapping, paper: str | None = None) -> Styler:
    """Table 1 in both regimes, as a styled pandas table of numbers; `ledger.table` is its Markdown.

    What to read off it: whether the order of the methods under the adversary they were trained against (left) survives
    attackers trained afresh (right). In each column the best value is bold with ★, the worst underlined with ▽, so
    that no colour is needed. Original and Random are the two ends that a method has to lie between.

    Args:
        report: as `ledger.check` takes it.
        paper: "celeba" or "vggface" adds the paper's own columns.
    """
    import pandas as pd

    methods = report["methods"]
    values: dict[tuple[str, str], list[float]] = {}
    text: dict[tuple[str, str], list[str]] = {}
    lower: dict[tuple[str, str], bool] = {}
    for regime, key, group, column, better_low in _COLUMNS:
        cells = [(method[regime] or {}) for method in methods.values()]
        values[group, column] = [cell.get(key, math.nan) for cell in cells]
        if key.endswith("accuracy"):
            text[group, column] = [ledger.percent(cell.get(key), 1) for cell in cells]
        else:
            text[group, column] = [ledger.with_interval(cell[key], cell.get(f"{key}_ci")) for cell in cells]
        lower[group, column] = better_low
    if paper:
        theirs = ledger.published(paper)
        for key, column, better_low in (("privacy_accuracy", "Privacy ↓", True), ("utility_accuracy", "Utility ↑", False)):
            label = ("The paper’s Table 1", column)
            values[label] = [theirs.get(name, {}).get(key, math.nan) for name in methods]
            text[label] = [ledger.percent(value, 1) for value in values[label]]
            lower[label] = better_low

    frame = pd.DataFrame(values, index=pd.Index(methods, name="Method"))
    frame.columns = pd.MultiIndex.from_tuples(values)
    styler = frame.style.set_uuid("table1")
    for column, better_low in lower.items():
        known = frame[column].dropna()
        best, worst = (known.min(), known.max()) if better_low else (known.max(), known.min())
        for name, shown in zip(frame.index, text[column], strict=True):
            value, cell = frame.at[name, column], pd.IndexSlice[[name], [column]]
            mark, css = "", ""
            if len(known) > 1 and best != worst:
                if value == best:
                    mark, css = " ★", "font-weight: bold"
                elif value == worst:
                    mark, css = " ▽", "text-decoration: underline"
            styler = styler.format(lambda _, shown=shown, mark=mark: shown + mark, subset=cell)
            if css:
                styler = styler.set_properties(subset=cell, **dict([css.split(": ")]))
    caption = "★ best, ▽ worst of the column. Privacy: what the attacker gets right, lower is better. Brackets: 95 % intervals by person."
    return styler.set_caption(caption).set_table_styles(
        [
            {"selector": "caption", "props": "caption-side: bottom; text-align: left; padding-top: .5em"},
            {"selector": "th.col_heading", "props": "text-align: center"},
            {"selector": "th.row_heading", "props": "text-align: left"},
            {"selector": "td", "props": "text-align: right; padding: .15em .6em; font-variant-numeric: tabular-nums; white-space: nowrap"},
        ]
    )


# Pictures of a report -------------------------------------------------------------------------------------------------


@_drawn
def regimes(report: Mapping) -> Picture:
    """Per method, what its own adversary reads against what the worst fresh attacker reads, beside what is left of the task.

    What to read off it: the length of each line on the left. At its open circle the attribute looks hidden; at its
    filled square somebody who trained a new attacker reads it. On the right, the same for the task: the co-trained Siamese
    network with impostors drawn freely, and a fresh verifier whose impostors carry the person's own label, so that
    the attribute itself is no help. Whiskers: 95 % intervals, resampled by person. Dashed line: chance.
    """
    methods = report["methods"]
    figure = _picture(9.6, 1.9 + 0.62 * len(methods))
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.15, 1))
    figure.get_layout_engine().set(wspace=0.05)
    _dumbbells(left, methods, "privacy_auc", "leak_auc", VERMILLION)
    _dumbbells(right, methods, "utility_auc", "utility_auc_same", GREEN)
    left.set_title("What an attacker reads (lower is better)", fontsize=12)
    right.set_title("What the task keeps (higher is better)", fontsize=12)
    left.set_xlabel("AUC of the private attribute")
    right.set_xlabel("AUC of face verification")
    left.set_yticks(range(len(methods)), list(methods))
    left.set_ylim(len(methods) - 0.5, -0.5)
    handles = [
        Line2D([], [], marker="o", color=BLUE, markerfacecolor="white", markeredgewidth=2, markersize=8, linestyle=""),
        Line2D([], [], marker="s", color=VERMILLION, markersize=8, linestyle="-", linewidth=1.5),
        Line2D([], [], marker="s", color=GREEN, markersize=8, linestyle="-", linewidth=1.5),
        Line2D([], [], color=GREY, linestyle="--"),
    ]
    labels = ["co-trained (paper regime)", "worst fresh attacker, 95 %", "fresh verifier, same-label impostors, 95 %", "chance"]
    if not any(method["paper"] for method in methods.values()):
        handles, labels = handles[1:], labels[1:]
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    parts = []
    for name, method in methods.items():
        r, paper = method["retrained"], method["paper"] or {}
        own = f"AUC {paper['privacy_auc']:.2f} for its own adversary, " if "privacy_auc" in paper else ""
        worst = f"{r['leak_auc']:.2f} for the worst fresh attacker ({r['worst_attacker']})"
        parts.append(f"{name}: {own}{worst}, utility {r['utility_auc_same']:.2f}")
    figure.alt = "Two dot charts, one row a method. " + "; ".join(parts) + ". Chance is 0.5."
    return figure


def _dumbbells(axes: Axes, methods: Mapping, paper_key: str, key: str, colour: str) -> None:
    """One row a method: an open circle for the paper regime, a filled square with its interval for the retrained one."""
    co_trained = {name: m["paper"][paper_key] for name, m in methods.items() if paper_key in (m["paper"] or ())}
    bounds = [0.5, *co_trained.values()]
    bounds += [bound for m in methods.values() for bound in m["retrained"][f"{key}_ci"]]
    margin = 0.06 * (max(bounds) - min(bounds)) + 0.01
    axes.set_xlim(min(bounds) - margin, max(bounds) + margin)
    close = 0.13 * (max(bounds) - min(bounds))  # about the width of a number: two of them side by side would touch
    for row, (name, method) in enumerate(methods.items()):
        value, interval = method["retrained"][key], method["retrained"][f"{key}_ci"]
        if name in co_trained:
            own = co_trained[name]
            axes.plot([own, value], [row, row], color="#BBBBBB", linewidth=3, solid_capstyle="butt", zorder=1)
            axes.plot(own, row, "o", color=BLUE, markerfacecolor="white", markeredgewidth=2, markersize=8, zorder=4)
            _number(axes, own, row, BLUE, below=abs(own - value) < close)
        axes.plot(interval, [row, row], color=colour, linewidth=1.5, zorder=2)
        axes.plot(interval, [row, row], "|", color=colour, markersize=9, markeredgewidth=1.5, zorder=2)
        axes.plot(value, row, "s", color=colour, markersize=8, zorder=3)
        _number(axes, value, row, "#222222")
    axes.axvline(0.5, color=GREY, linestyle="--", linewidth=1.3, zorder=0)
    axes.xaxis.set_major_locator(matplotlib.ticker.MultipleLocator(0.1))
    axes.grid(axis="y", visible=False)


def _number(axes: Axes, x: float, y: float, colour: str, below: bool = False) -> None:
    place = {"xytext": (0, -8), "va": "top"} if below else {"xytext": (0, 8), "va": "bottom"}
    axes.annotate(f"{x:.2f}", (x, y), textcoords="offset points", ha="center", fontsize=10.5, color=colour, **place)


@_drawn
def attackers(report: Mapping) -> Picture:
    """The AUC that each family of fresh attackers reaches on each method.

    What to read off it: a method hides an attribute only as well as its strongest attacker says. The filled dot is the one
    that val called the worst, seldom another than the right-most on test. A method whose dots lie far apart was spared by
    some attackers, not safe from all.
    """
    methods = report["methods"]
    families = list(dict.fromkeys(name for method in methods.values() for name in method["retrained"]["attackers"]))
    strongest = {family: max(m["retrained"]["attackers"].get(family, 0) for m in methods.values()) for family in families}
    families.sort(key=strongest.__getitem__, reverse=True)
    figure = _picture(8.4, 1.7 + 0.42 * len(families))
    axes = figure.subplots()
    step = min(0.16, 0.7 / max(1, len(methods)))
    handles = []
    for index, (name, method) in enumerate(methods.items()):
        colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
        scores = method["retrained"]["attackers"]
        for family, score in scores.items():
            worst = family == method["retrained"]["worst_attacker"]
            y = families.index(family) + (index - (len(methods) - 1) / 2) * step
            face, size = (colour, 9) if worst else ("white", 7.5)
            axes.plot(score, y, marker=marker, color=colour, markerfacecolor=face, markersize=size, markeredgewidth=1.7, zorder=3)
        handles.append(Line2D([], [], marker=marker, color=colour, markersize=8, linestyle="", label=name))
    for row in range(0, len(families), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#F2F2F2", zorder=0)
    axes.grid(axis="y", visible=False)
    axes.axvline(0.5, color=GREY, linestyle="--", linewidth=1.3, zorder=1)
    axes.set_yticks(range(len(families)), [family.replace("_", " ") for family in families])
    axes.set_ylim(len(families) - 0.5, -0.5)
    axes.set_xlabel("AUC of the private attribute (0.5 is chance)")
    axes.set_title("Fresh attackers, by family; filled: the worst for its method", fontsize=12)
    figure.legend(handles=handles, loc="outside lower center", ncols=min(5, len(handles)), frameon=False)
    retrained = {name: method["retrained"] for name, method in methods.items()}
    worst = "; ".join(f"{name}: {r['worst_attacker']} at {r['attackers'][r['worst_attacker']]:.2f}" for name, r in retrained.items())
    figure.alt = f"Dot chart of the AUC of {len(families)} kinds of fresh attackers on {len(methods)} methods. The worst of each: {worst}."
    return figure


# The trade-off --------------------------------------------------------------------------------------------------------

_LINES = {  # regime, metric -> label, colour, marker, line style, filled
    ("paper", "leak_auc"): ("attribute, co-trained adversary", BLUE, "o", "--", False),
    ("retrained", "leak_auc"): ("attribute, worst fresh attacker", VERMILLION, "s", "-", True),
    ("paper", "utility_auc"): ("verification, co-trained Siamese", SKY, "^", ":", False),
    ("retrained", "utility_auc"): ("verification, fresh verifier", GREEN, "D", "-.", True),
    ("retrained", "utility_auc_same"): ("verification, fresh verifier, same label", GREEN, "D", "-.", True),
}


@_drawn
def tradeoff_curve(rows: pd.DataFrame, alpha: float = 0.5, beta: float = 0.5) -> Picture:
    """Fig. 2: AUC of the private attribute and of the task, against beta (a) and against alpha (b), in both regimes.

    What to read off it: whether raising beta lowers the fresh attackers' AUC as it lowers that of the adversary it
    trains against, and what that costs the task. Small dots are seeds; lines join their means; bands are 95 % t
    intervals of the mean over seeds, absent with a single seed.

    Args:
        rows: one row a measurement, with the columns
            alpha, beta: the weights of Eq. 8;
            seed: whole number;
            regime: "paper" or "retrained";
            metric: "leak_auc" or "utility_auc"; retrained also "utility_auc_same", with same-label impostors;
            value: in [0, 1].
        alpha, beta: what is held while the other one varies; the paper holds 0.5.

    Raises:
        UserError: a column is missing, a regime or metric is unknown, or neither weight varies while the other is held.
    """
    _check_tradeoff(rows)
    panels = []
    for varied, held, at in (("beta", "alpha", alpha), ("alpha", "beta", beta)):
        chosen = rows[np.isclose(rows[held].astype(float), at)]
        if chosen[varied].nunique() > 1:
            panels.append((varied, held, at, chosen))
    if not panels:
        raise UserError(f"Nothing to draw: neither beta varies at alpha = {alpha:g}, nor alpha at beta = {beta:g}.")

    figure = _picture(4.9 * len(panels) + 0.4, 4.9)
    all_axes = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    parts = []
    for axes, letter, (varied, held, at, chosen) in zip(all_axes, "ab", panels, strict=False):
        for (regime, metric), (label, colour, marker, line, filled) in _LINES.items():
            cut = chosen[(chosen["regime"] == regime) & (chosen["metric"] == metric)]
            if cut.empty:
                continue
            groups = [(x, group["value"].to_numpy(float)) for x, group in cut.groupby(varied)]
            x, means = np.array([g[0] for g in groups], float), np.array([g[1].mean() for g in groups])
            low, high = np.array([_t_interval(g[1]) for g in groups]).T
            axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
            face = colour if filled else "white"
            axes.plot(x, means, linestyle=line, marker=marker, color=colour, markerfacecolor=face, markersize=7, linewidth=2, label=label)
            if cut["seed"].nunique() > 1:
                axes.plot(cut[varied], cut["value"], ".", color=colour, markersize=4, alpha=0.7)
            parts.append(f"{label}: {means[0]:.2f} at {varied} {x[0]:g} to {means[-1]:.2f} at {x[-1]:g}")
        symbol = {"alpha": "α", "beta": "β"}
        axes.axhline(0.5, color=GREY, linestyle=(0, (2, 2)), linewidth=1.2, zorder=0)
        axes.set_xlabel(f"{symbol[varied]}, weight of the {'adversary' if varied == 'beta' else 'task'}")
        axes.set_title(f"({letter}) {symbol[held]} = {at:g}")
    all_axes[0].set_ylabel("AUC (0.5 is chance)")
    handles, labels = all_axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2 if len(panels) > 1 else 1, frameon=False)
    figure.alt = f"Line chart of AUC against {' and '.join(panel[0] for panel in panels)}. " + "; ".join(parts) + "."
    return figure


def _check_tradeoff(rows: pd.DataFrame) -> None:
    needed = ("alpha", "beta", "seed", "regime", "metric", "value")
    if missing := [column for column in needed if column not in rows.columns]:
        raise UserError(f"The sweep's table lacks the columns {', '.join(missing)}; it needs {', '.join(needed)}.")
    unknown = set(zip(rows["regime"], rows["metric"], strict=True)) - set(_LINES)
    if unknown:
        raise UserError(f"The sweep's table holds {sorted(unknown)[0]}; known are {', '.join('/'.join(pair) for pair in _LINES)}.")


@_drawn
def tradeoff_maps(rows: pd.DataFrame) -> Picture:
    """Maps of alpha x beta: the attribute's AUC above, the task's below, the paper regime left, the retrained regime right.

    What to read off it: whether a region that is dark above on the left is dark on the right, too. Both maps of a row share one
    scale; numbers are hundredths of AUC, means over seeds, so that no colour is needed. Cells without a number were not measured.

    Args:
        rows: as for `tradeoff_curve`.

    Raises:
        UserError: as there; or alpha or beta has a single value, or there are no rows.
    """
    _check_tradeoff(rows)
    alphas, betas = (np.sort(rows[name].dropna().unique().astype(float)) for name in ("alpha", "beta"))
    if min(len(alphas), len(betas)) < 2:
        raise UserError(f"A map needs two values of alpha and of beta at least, not {len(alphas)} and {len(betas)}.")
    figure = _picture(max(9.0, 2.6 + 0.84 * len(betas)), max(7.0, 2.4 + 0.76 * len(alphas)))
    cells = figure.subplots(2, 2, sharex=True, sharey=True)
    parts = []
    for line, (name, metrics) in zip(cells, (("attribute", ("leak_auc",)), ("task", ("utility_auc_same", "utility_auc"))), strict=True):
        maps, labels = [], []
        for regime in ("paper", "retrained"):
            cut = rows[(rows["regime"] == regime) & rows["metric"].isin(metrics)]
            preferred = next((metric for metric in metrics if (cut["metric"] == metric).any()), metrics[0])
            mean = cut[cut["metric"] == preferred].groupby(["alpha", "beta"])["value"].mean()
            index = {weights: float(value) for weights, value in mean.items()}
            maps.append(np.array([[index.get((a, b), math.nan) for b in betas] for a in alphas]))  # (A, B)
            labels.append(_LINES[regime, preferred][0])
        if not any(np.isfinite(values).any() for values in maps):
            raise UserError(f"The sweep's table has no figures of the {name}.")
        low, high = (
            function([function(values[np.isfinite(values)]) for values in maps if np.isfinite(values).any()]) for function in (min, max)
        )
        for axes, values, label in zip(line, maps, labels, strict=True):
            shown = axes.imshow(values, origin="lower", cmap="cividis", vmin=low, vmax=high, aspect="auto")
            axes.grid(False)
            for (row, column), value in np.ndenumerate(values):
                if np.isfinite(value):
                    ink = "white" if value < (low + high) / 2 else "black"
                    axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=10, color=ink)
            axes.set_title(_two_lines(label), fontsize=11)
            found = values[np.isfinite(values)]
            parts.append(f"{label}: {found.min():.2f} to {found.max():.2f}" if len(found) else f"{label}: not measured")
        figure.colorbar(shown, ax=line, label="AUC (0.5 is chance)", fraction=0.05)
        line[0].set_ylabel("α, weight of the task")
        line[0].set_yticks(range(len(alphas)), [f"{a:g}" for a in alphas])
    for axes in cells[1]:
        axes.set_xlabel("β, weight of the adversary")
        axes.set_xticks(range(len(betas)), [f"{b:g}" for b in betas])
    figure.alt = f"Maps of AUC over {len(alphas)} values of alpha and {len(betas)} of beta. " + "; ".join(parts) + ". Chance is 0.5."
    return figure


@_drawn
def tradeoff_front(
    settings: pd.DataFrame, reference: tuple[float, float] = (1.0, 0.5), marked: tuple[float, float] | None = None
) -> Picture:
    """Leak against utility of every setting, in both regimes, with the Pareto front and the area that it dominates.

    What to read off it: how much of the paper regime's shaded area is left in the retrained regime. Up and to the left is better.
    Squares are settings, lighter for larger beta; those on the front are joined, and have whiskers where there are intervals; the
    star is Original.

    Args:
        settings: one row a setting and regime, with the columns regime, alpha, beta (NaN: Original), leak, leak_low, leak_high, utility,
            utility_low, utility_high and front; `SweepResult.settings` with a column regime.
        reference: (leak, utility) of the worst that can be had, where the area ends.
        marked: (alpha, beta) of a setting to ring, such as the recommended one.

    Raises:
        UserError: a column is missing, or there is no setting.
    """
    needed = ("regime", "alpha", "beta", "leak", "leak_low", "leak_high", "utility", "utility_low", "utility_high", "front")
    if missing := [column for column in needed if column not in settings.columns]:
        raise UserError(f"The settings lack the columns {', '.join(missing)}; they need {', '.join(needed)}.")
    regimes = [regime for regime in ("paper", "retrained") if (settings.loc[settings["alpha"].notna(), "regime"] == regime).any()]
    if not regimes:
        raise UserError("There is no setting to draw.")
    figure = _picture(4.9 * len(regimes) + 1.2, 5.2)
    all_axes = np.atleast_1d(figure.subplots(1, len(regimes), sharex=True, sharey=True))
    most = settings["beta"].max() or 1.0
    parts, shown = [], None
    for axes, regime in zip(all_axes, regimes, strict=True):
        own = settings[settings["regime"] == regime]
        tried, original = own[own["alpha"].notna()], own[own["alpha"].isna()]
        front = tried[tried["front"].astype(bool)].sort_values(["leak", "utility"])
        x, y = front["leak"].to_numpy(float), front["utility"].to_numpy(float)
        axes.fill_between(np.append(x, reference[0]), np.append(y, y[-1]), reference[1], step="post", color=SKY, alpha=0.18, linewidth=0)
        axes.step(np.append(x, reference[0]), np.append(y, y[-1]), where="post", color=BLUE, linewidth=1.5, label="Pareto front")
        look = {"c": tried["beta"], "cmap": "cividis", "vmin": 0, "vmax": most, "edgecolors": "#444444", "linewidths": 0.8}
        shown = axes.scatter(tried["leak"], tried["utility"], s=42, marker="s", zorder=3, label="setting", **look)
        whiskers = front.dropna(subset=["leak_low", "utility_low"])
        if not whiskers.empty:
            reach = {}
            for name in ("leak", "utility"):
                below, above = whiskers[name] - whiskers[f"{name}_low"], whiskers[f"{name}_high"] - whiskers[name]
                reach[name] = [below.clip(lower=0), above.clip(lower=0)]
            look = {"fmt": "none", "ecolor": GREY, "elinewidth": 0.9, "zorder": 2}
            axes.errorbar(whiskers["leak"], whiskers["utility"], yerr=reach["utility"], xerr=reach["leak"], **look)
        if not original.empty:
            axes.plot(original["leak"], original["utility"], "*", color=VERMILLION, markersize=15, zorder=4, label="Original")
        ring = tried[np.isclose(tried["alpha"], marked[0]) & np.isclose(tried["beta"], marked[1])] if marked else tried[:0]
        if not ring.empty:
            axes.plot(ring["leak"], ring["utility"], "o", color="none", markeredgecolor=BLACK, markersize=15, zorder=5, label="recommended")
        axes.plot(*reference, "x", color=BLACK, markersize=9, markeredgewidth=2, zorder=4, label="reference")
        axes.axvline(0.5, color=GREY, linestyle="--", linewidth=1.2, zorder=0)
        axes.set_title(f"{regime} regime", fontsize=12)
        axes.set_xlabel("leak: AUC of the private attribute")
        parts.append(
            f"{regime} regime: {len(front)} settings on the front, leak {x[0]:.2f} and utility {y[0]:.2f} to {x[-1]:.2f} and {y[-1]:.2f}"
        )
    all_axes[0].set_ylabel("utility: AUC of face verification")
    figure.colorbar(shown, ax=list(all_axes), label="β, weight of the adversary", fraction=0.04)
    handles, labels = all_axes[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    figure.alt = f"Scatter chart of leak against utility of {settings[['alpha', 'beta']].dropna().drop_duplicates().shape[0]} settings. "
    figure.alt += "; ".join(parts) + f". The reference is leak {reference[0]:g}, utility {reference[1]:g}."
    return figure


def _t_interval(values: np.ndarray) -> tuple[float, float]:
    """95 % t interval of the mean, within [0, 1]; NaN for a single value."""
    from scipy.stats import t

    if len(values) < 2:
        return math.nan, math.nan
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return max(0.0, values.mean() - half), min(1.0, values.mean() + half)


# Faces ----------------------------------------------------------------------------------------------------------------


def _grey_images(images: Any, what: str) -> np.ndarray:
    """uint8 or float [0, 1] images (N, 1, H, W) or (N, H, W), array or tensor, as float (N, H, W) in [0, 1]."""
    images = np.asarray(images.detach().cpu() if hasattr(images, "detach") else images)
    images = images / 255 if images.dtype == np.uint8 else images.astype(float)
    images = images[:, 0] if images.ndim == 4 and images.shape[1] == 1 else images
    if images.ndim != 3 or not len(images):
        raise UserError(f"{what}: images must be (N, 1, H, W) or (N, H, W) with N > 0, not {images.shape}.")
    return images.clip(0, 1)


@_drawn
def faces_grid(rows: Mapping[str, Any], columns: Sequence[str] | None = None, title: str | None = None) -> Picture:
    """Faces side by side: one row a label, such as the photograph and what each method lets a decoder rebuild of it.

    What to read off it: what a person would still recognise in each row. Never a measure of privacy: a picture in which
    people see nothing can give everything to a trained attacker.

    Args:
        rows: label to images, uint8 or float in [0, 1], shape (N, 1, H, W) or (N, H, W); the same N in all rows.
        columns: a heading for each of the N columns.
        title: a heading for the whole.

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
    figure = _picture(1.25 * count + 1.4, 1.25 * len(grid) + (0.35 if columns else 0) + (0.4 if title else 0.1), "compressed")
    axes = figure.subplots(len(grid), count, squeeze=False)
    for row, (label, images) in zip(axes, grid.items(), strict=True):
        for cell, image in zip(row, images, strict=True):
            _show(cell, image)
        _row_label(row[0], label)
    for cell, heading in zip(axes[0], columns or (), strict=False):
        cell.set_title(heading, fontsize=11, fontweight="normal", loc="center")
    if title:
        figure.suptitle(title, fontweight="bold")
    figure.alt = f"{title + '. ' if title else ''}A grid of {count} face{'s' * (count > 1)} a row; the rows are {', '.join(grid)}."
    if columns:
        figure.alt += f" Columns: {', '.join(columns)}."
    return figure


def _show(axes: Axes, image: np.ndarray) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _row_label(axes: Axes, label: str) -> None:
    axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=11, labelpad=8)


@_drawn
def gradcam_panel(
    images: Any,
    reconstructions: Any | None,
    maps: Mapping[str, Any] | Sequence[Any],
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
        maps: each an `explain.CamResult`, label to result; or a sequence of one or two, for image and reconstruction. A label that
            contains "reconstruction" is drawn over the reconstructions, every other over the faces.
        scale: the raw evidence shown at full brightness; the greatest of all maps by default. Give the working
            classifier's `raw_max.max()` to show a useless one alone.
        columns: a heading for each face.
        positive: what label 1 means, for the numbers under the maps, e.g. "male".

    Raises:
        UserError: faces, reconstructions and maps differ in number or size.
    """
    faces = _grey_images(images, "images")
    rebuilt = None if reconstructions is None else _grey_images(reconstructions, "reconstructions")
    if not isinstance(maps, Mapping):
        maps = dict(zip(("evidence in the image", "evidence in the reconstruction"), maps, strict=False))
    for label, result in maps.items():
        if result.raw.shape != faces.shape or (rebuilt is not None and rebuilt.shape != faces.shape):
            raise UserError(f"{label}: maps of shape {result.raw.shape} do not fit images of shape {faces.shape}.")
    top = float(scale if scale is not None else max((result.raw.max() for result in maps.values()), default=0.0))
    top = top if top > 0 else 1.0

    pictures: list[tuple[str, np.ndarray, Any]] = [("image", faces, None)]
    if rebuilt is not None:
        pictures.append(("reconstruction", rebuilt, None))
    for label, result in maps.items():
        over = rebuilt if rebuilt is not None and "reconstruction" in label else faces
        pictures.append((label, over, result))
    count = len(faces)
    height = sum(1.6 if result is None else 2.1 for _, _, result in pictures) + 0.3 * bool(columns)
    figure = _picture(1.55 * count + 3.0, height, "compressed")
    axes = figure.subplots(len(pictures), count, squeeze=False)
    mappable = None
    for row, (label, below, result) in zip(axes, pictures, strict=True):
        for index, cell in enumerate(row):
            _show(cell, below[index])
            if result is not None:
                raw = result.raw[index]
                # One opacity everywhere: the face shows through, and without evidence it is merely dark.
                mappable = cell.imshow(raw, cmap="inferno", vmin=0, vmax=top, alpha=0.7, interpolation="bilinear")
                share = f"P({positive}) = {result.probability[index]:.2f}"
                cell.set_xlabel(f"max {_digits(raw.max())}\n{share}", fontsize=10)
        _row_label(row[0], _two_lines(label))
    if mappable is not None:
        bar = figure.colorbar(mappable, ax=axes, label="evidence (units of the logit)", fraction=0.05, aspect=22, shrink=0.8)
        bar.solids.set_alpha(1)
    for cell, heading in zip(axes[0], columns or (), strict=False):
        cell.set_title(heading, fontsize=11, fontweight="normal", loc="center")
    parts = []
    for label, result in maps.items():
        parts.append(f"{label}: greatest evidence {_digits(result.raw.max())}, mean P({positive}) {result.probability.mean():.2f}")
    figure.alt = f"Grad-CAM of {count} face{'s' * (count > 1)} on one scale from 0 to {_digits(top)}. " + "; ".join(parts) + "."
    return figure


@_drawn
def attribute_bars(
    images: Any, rebuilt: Any, probabilities: Mapping[str, Any], names: Sequence[str], titles: Sequence[str] | None = None
) -> Picture:
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
    shapes = {which: given.shape for which, given in values.items()}
    if set(shapes.values()) != {(len(faces), len(names))} or not len(names):
        raise UserError(f"{len(faces)} faces and {len(names)} attributes need probabilities of that shape, not {shapes}.")
    if len(blurred) != len(faces) or (titles is not None and len(titles) != len(faces)):
        raise UserError(f"{len(faces)} faces need as many reconstructions and titles, not {len(blurred)} and {len(titles or ())}.")
    height = max(2.0, 0.42 * len(names) + 0.5)  # of a face's row, in inches
    figure = _picture(9.4, height * len(faces) + 1.0)
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
            look = {"facecolor": (*matplotlib.colors.to_rgb(colour), 0.25), "edgecolor": colour, "hatch": hatch, "linewidth": 1.2}
            drawn = bars.barh(places + shift, percent, height=0.36, label=labels[which] if index == 0 else None, **look)
            bars.bar_label(drawn, [f"{value:.0f} %" for value in percent], padding=3, fontsize=10, path_effects=[halo])
        bars.axvline(50, color=GREY, linestyle="--", linewidth=1.2, zorder=0)
        bars.set(xlim=(0, 114), ylim=(len(names) - 0.45, -0.55), xticks=range(0, 101, 25))
        bars.set_yticks(places, names, parse_math=False)
        bars.grid(axis="y", visible=False)
        if titles is not None:
            photograph.set_title(titles[index], fontsize=11, fontweight="normal", parse_math=False)
        said = ", ".join(
            f"{name} {100 * b:.0f} % to {100 * a:.0f} %" for name, b, a in zip(names, *(values[w][index] for w in looks), strict=True)
        )
        parts.append(f"{titles[index] if titles is not None else f'Face {index + 1}'}: {said}")
    axes[-1, 2].set_xlabel("probability that the attacker gives, %")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    figure.alt = (
        f"{len(faces)} face{'s' * (len(faces) > 1)}, with bars of what an attacker reads off each, before to after. "
        + "; ".join(parts)
        + "."
    )
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


# Training and scores --------------------------------------------------------------------------------------------------


@_drawn
def training_curves(histories: Mapping[str, Mapping[str, Sequence[float]]]) -> Picture:
    """Each stage's means per epoch, one panel a stage.

    What to read off it: a loss that still falls at its end wanted more epochs; in the fine-tuning the adversary's loss
    rising to log 2 = 0.69 (dotted) means that this adversary knows no more than an even coin, and no more than that.

    Args:
        histories: stage to what `training` returns for it: name of a quantity to its values by epoch.

    Raises:
        UserError: there is no stage, or a stage without values.
    """
    if not histories:
        raise UserError("There is no training history to draw.")
    columns = 2 if len(histories) in (2, 4) else min(3, len(histories))
    rows = math.ceil(len(histories) / columns)
    figure = _picture(max(5.0, (4.4 if columns == 2 else 3.9) * columns), 4.1 * rows)
    cells = figure.subplots(rows, columns, squeeze=False).ravel()
    parts = []
    for axes, (stage, history) in zip(cells, histories.items(), strict=False):
        if not history or not all(len(values) for values in history.values()):
            raise UserError(f"The stage {stage!r} has no values to draw.")
        for index, (name, values) in enumerate(history.items()):
            epochs = np.arange(1, len(values) + 1)
            style, marker = LINES[index % len(LINES)], MARKERS[index % len(MARKERS)]
            look = {"linestyle": style, "marker": marker, "color": COLOURS[index % len(COLOURS)]}
            axes.plot(epochs, values, **look, markevery=max(1, len(values) // 8), markersize=5, label=name)
            parts.append(f"{stage}, {name}: {values[0]:.3g} to {values[-1]:.3g}")
        if "adversary" in history:
            axes.axhline(math.log(2), color=GREY, linestyle=(0, (1, 1)), linewidth=1.2, zorder=0, label="log 2, an even coin")
        axes.set_title(stage, fontsize=12)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.margins(y=0.12)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2, frameon=False, fontsize=10, handlelength=3)
    for axes in cells[len(histories) :]:
        axes.remove()
    figure.alt = "Line charts of the means per epoch, first to last. " + "; ".join(parts) + "."
    return figure


@_drawn
def score_histograms(
    scores: Mapping[str, Any],
    threshold: float | None = None,
    xlabel: str = "distance of the two embeddings",
    title: str | None = None,
    bins: int = 40,
) -> Picture:
    """Histograms of scores by group: genuine against impostor pairs, or an attacker's scores by label.

    What to read off it: where the groups overlap, no threshold tells them apart; the one drawn was chosen on val.

    Args:
        scores: group to finite scores (n,); each group's histogram has area 1.
        threshold: drawn as a dashed line where given.
        xlabel, title: words for the axis and above.
        bins: shared by all groups.

    Raises:
        UserError: no groups, an empty one, or a score that is not finite.
    """
    groups = {name: np.asarray(values, dtype=float).ravel() for name, values in scores.items()}
    if not groups or not all(len(values) and np.isfinite(values).all() for values in groups.values()):
        counts = {name: f"{int(np.isfinite(values).sum())} finite of {len(values)}" for name, values in groups.items()}
        raise UserError(f"Histograms need groups of finite scores; these have {counts or 'no groups'}.")
    figure = _picture(6.6, 4.0)
    axes = figure.subplots()
    edges = np.histogram_bin_edges(np.concatenate(list(groups.values())), bins)
    for index, (name, values) in enumerate(groups.items()):
        colour = COLOURS[index % len(COLOURS)]
        label = f"{name} ({len(values):,})"
        axes.hist(
            values,
            edges,
            density=True,
            histtype="stepfilled",
            facecolor=(*matplotlib.colors.to_rgb(colour), 0.18),
            edgecolor=colour,
            linestyle=LINES[index % len(LINES)],
            linewidth=1.8,
            hatch=HATCHES[index % len(HATCHES)],
            label=label,
        )
    if threshold is not None:
        axes.axvline(threshold, color=BLACK, linestyle="--", linewidth=1.5, label=f"threshold {threshold:.3g}")
    axes.set(xlabel=xlabel, ylabel="density")
    if title:
        axes.set_title(title)
    axes.margins(x=0.01)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    parts = ", ".join(f"{name} with median {np.median(values):.3g}" for name, values in groups.items())
    at = "" if threshold is None else f"; threshold {threshold:.3g}"
    figure.alt = f"{title + '. ' if title else ''}Histograms of {xlabel}: {parts}{at}."
    return figure


@_drawn
def roc(
    curves: Mapping[str, Sequence[Any]],
    title: str | None = None,
    xlabel: str = "false-positive rate",
    ylabel: str = "true-positive rate",
) -> Picture:
    """Receiver operating characteristics.

    What to read off it: on the diagonal a score knows nothing; the area below a curve is the chance that it ranks a
    positive above a negative.

    Args:
        curves: name to (false-positive rates, true-positive rates), both rising from 0 to 1; more entries are ignored,
            so what sklearn.metrics.roc_curve returns fits.
        title, xlabel, ylabel: words.
    """
    figure = _picture(5.4, 5.4 + 0.28 * len(curves))
    axes = figure.subplots()
    areas = {}
    for (name, (fpr, tpr, *_)), line, colour in zip(curves.items(), itertools.cycle(LINES), itertools.cycle(COLOURS), strict=False):
        fpr, tpr = np.asarray(fpr, float), np.asarray(tpr, float)
        areas[name] = float(np.trapezoid(tpr, fpr)) if hasattr(np, "trapezoid") else float(np.trapz(tpr, fpr))
        axes.plot(fpr, tpr, linestyle=line, color=colour, linewidth=2, label=f"{name}: AUC {areas[name]:.3f}")
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (2, 2)), zorder=0)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=xlabel, ylabel=ylabel, aspect="equal")
    if title:
        axes.set_title(title)
    figure.legend(loc="outside lower center", frameon=False, handlelength=3)
    figure.alt = f"{title + '. ' if title else ''}ROC curves. " + "; ".join(f"{name}: AUC {area:.3f}" for name, area in areas.items()) + "."
    return figure
