"""The pictures: every function takes plain data and returns a `Picture`; none touches matplotlib's global state.

Here are those of reports, trainings and scores, and the names of all that chapters draw with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib.colors
import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from scipy.stats import norm

from ..machine.files import UserError
from ..statistics import Scored, det_points
from .face_plots import attribute_bars, faces_grid, gradcam_panel  # noqa: F401
from .style import (  # noqa: F401
    BLACK,
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    HATCHES,
    LINES,
    MARKERS,
    ORANGE,
    SKY,
    STYLE,
    VERMILLION,
    YELLOW,
    Picture,
    chance_line,
    drawn,
    empty_picture,
    legend_below,
    save_picture,
)


@drawn
def regimes(report: Mapping) -> Picture:
    """Per method, what its own adversary reads against what the worst fresh attacker reads, beside what is left of the task.

    What to read off it: the length of each line on the left. At its open circle the attribute looks hidden; at its filled square somebody
    who trained a new attacker reads it. On the right, the same for the task: the co-trained Siamese network with impostors drawn freely,
    and a fresh verifier whose impostors carry the person's own label. Whiskers: 95 % intervals, resampled by person. Dashed line: chance.
    """
    methods = report["methods"]
    figure = empty_picture(9.6, 1.9 + 0.62 * len(methods))
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
        *(Line2D([], [], marker="s", color=colour, markersize=8, linestyle="-", linewidth=1.5) for colour in (VERMILLION, GREEN)),
        Line2D([], [], color=GREY, linestyle="--"),
    ]
    labels = ["co-trained (paper regime)", "worst fresh attacker, 95 %", "fresh verifier, same-label impostors, 95 %", "chance"]
    if not any(method["paper"] for method in methods.values()):
        handles, labels = handles[1:], labels[1:]
    legend_below(figure, 2, handles=handles, labels=labels)
    parts = []
    for name, method in methods.items():
        r, paper = method["retrained"], method["paper"] or {}
        first = f"AUC {paper['privacy_auc']:.2f} for its own adversary, " if "privacy_auc" in paper else ""
        worst = f"{r['leak_auc']:.2f} for the worst fresh attacker ({r['worst_attacker']})"
        parts.append(f"{name}: {first}{worst}, utility {r['utility_auc_same']:.2f}")
    figure.alt = f"Two dot charts, one row a method. {'; '.join(parts)}. Chance is 0.5."
    return figure


def _dumbbells(axes: Axes, methods: Mapping, paper_key: str, key: str, colour: str) -> None:
    """One row a method: an open circle for the paper regime, a filled square with its interval for the retrained one."""
    co_trained = {name: m["paper"][paper_key] for name, m in methods.items() if paper_key in (m["paper"] or ())}
    bounds = [0.5, *co_trained.values(), *(bound for m in methods.values() for bound in m["retrained"][f"{key}_ci"])]
    margin = 0.06 * (max(bounds) - min(bounds)) + 0.01
    axes.set_xlim(min(bounds) - margin, max(bounds) + margin)
    close = 0.13 * (max(bounds) - min(bounds))  # about the width of a number: two of them side by side would touch
    for row, (name, method) in enumerate(methods.items()):
        value, interval = method["retrained"][key], method["retrained"][f"{key}_ci"]
        if name in co_trained:
            first = co_trained[name]
            axes.plot([first, value], [row, row], color="#BBBBBB", linewidth=3, solid_capstyle="butt", zorder=1)
            axes.plot(first, row, "o", color=BLUE, markerfacecolor="white", markeredgewidth=2, markersize=8, zorder=4)
            _number(axes, first, row, BLUE, below=abs(first - value) < close)
        axes.plot(interval, [row, row], color=colour, linewidth=1.5, zorder=2)
        axes.plot(interval, [row, row], "|", color=colour, markersize=9, markeredgewidth=1.5, zorder=2)
        axes.plot(value, row, "s", color=colour, markersize=8, zorder=3)
        _number(axes, value, row, "#222222")
    chance_line(axes, 1.3)
    axes.xaxis.set_major_locator(matplotlib.ticker.MultipleLocator(0.1))
    axes.grid(axis="y", visible=False)


def _number(axes: Axes, x: float, y: float, colour: str, below: bool = False) -> None:
    place = {"xytext": (0, -8), "va": "top"} if below else {"xytext": (0, 8), "va": "bottom"}
    axes.annotate(f"{x:.2f}", (x, y), textcoords="offset points", ha="center", fontsize=10.5, color=colour, **place)


@drawn
def attackers(report: Mapping) -> Picture:
    """The AUC that each family of fresh attackers reaches on each method.

    What to read off it: a method hides an attribute only as well as its strongest attacker says. The filled dot is the one that val
    called the worst, seldom another than the right-most on test. A method whose dots lie far apart was spared by some, not safe from all.
    """
    methods = report["methods"]
    families = list(dict.fromkeys(name for method in methods.values() for name in method["retrained"]["attackers"]))
    strongest = {family: max(m["retrained"]["attackers"].get(family, 0) for m in methods.values()) for family in families}
    families.sort(key=strongest.__getitem__, reverse=True)
    figure = empty_picture(8.4, 1.7 + 0.42 * len(families))
    axes = figure.subplots()
    step = min(0.16, 0.7 / max(1, len(methods)))
    handles = []
    for index, ((name, method), colour, marker) in enumerate(zip(methods.items(), cycle(COLOURS), cycle(MARKERS), strict=False)):
        for family, score in method["retrained"]["attackers"].items():
            worst = family == method["retrained"]["worst_attacker"]
            y = families.index(family) + (index - (len(methods) - 1) / 2) * step
            face, size = (colour, 9) if worst else ("white", 7.5)
            axes.plot(score, y, marker=marker, color=colour, markerfacecolor=face, markersize=size, markeredgewidth=1.7, zorder=3)
        handles.append(Line2D([], [], marker=marker, color=colour, markersize=8, linestyle="", label=name))
    for row in range(0, len(families), 2):
        axes.axhspan(row - 0.5, row + 0.5, color="#F2F2F2", zorder=0)
    axes.grid(axis="y", visible=False)
    chance_line(axes, 1.3, 1)
    axes.set_yticks(range(len(families)), [family.replace("_", " ") for family in families])
    axes.set_ylim(len(families) - 0.5, -0.5)
    axes.set_xlabel("AUC of the private attribute (0.5 is chance)")
    axes.set_title("Fresh attackers, by family; filled: the worst for its method", fontsize=12)
    legend_below(figure, min(5, len(handles)), handles=handles)
    retrained = {name: method["retrained"] for name, method in methods.items()}
    worst = "; ".join(f"{name}: {r['worst_attacker']} at {r['attackers'][r['worst_attacker']]:.2f}" for name, r in retrained.items())
    figure.alt = f"Dot chart of the AUC of {len(families)} kinds of fresh attackers on {len(methods)} methods. The worst of each: {worst}."
    return figure


@drawn
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
    figure = empty_picture(max(5.0, (4.4 if columns == 2 else 3.9) * columns), 4.1 * rows)
    cells = figure.subplots(rows, columns, squeeze=False).ravel()
    parts = []
    for axes, (stage, history) in zip(cells, histories.items(), strict=False):
        if not history or not all(len(values) for values in history.values()):
            raise UserError(f"The stage {stage!r} has no values to draw.")
        for (name, values), line, marker, colour in zip(history.items(), cycle(LINES), cycle(MARKERS), cycle(COLOURS), strict=False):
            look = {"linestyle": line, "marker": marker, "color": colour, "markersize": 5, "markevery": max(1, len(values) // 8)}
            axes.plot(np.arange(1, len(values) + 1), values, **look, label=name)
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


@drawn
def score_histograms(
    scores: Mapping[str, Any],
    threshold: float | None = None,
    xlabel: str = "distance of the two embeddings",
    title: str = "",
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
    figure = empty_picture(6.6, 4.0)
    axes = figure.subplots()
    edges = np.histogram_bin_edges(np.concatenate(list(groups.values())), bins)
    for (name, values), colour, line, hatch in zip(groups.items(), cycle(COLOURS), cycle(LINES), cycle(HATCHES), strict=False):
        fill = {"histtype": "stepfilled", "facecolor": matplotlib.colors.to_rgba(colour, 0.18), "edgecolor": colour, "hatch": hatch}
        axes.hist(values, edges, density=True, **fill, linestyle=line, linewidth=1.8, label=f"{name} ({len(values):,})")
    if threshold is not None:
        axes.axvline(threshold, color=BLACK, linestyle="--", linewidth=1.5, label=f"threshold {threshold:.3g}")
    axes.set(xlabel=xlabel, ylabel="density", title=title)
    axes.margins(x=0.01)
    legend_below(figure, 3)
    parts = ", ".join(f"{name} with median {np.median(values):.3g}" for name, values in groups.items())
    at = "" if threshold is None else f"; threshold {threshold:.3g}"
    figure.alt = f"{title + '. ' if title else ''}Histograms of {xlabel}: {parts}{at}."
    return figure


@drawn
def det(curves: Mapping[str, Sequence[Scored]], title: str = "") -> Picture:
    """Detection error tradeoffs on probit axes: genuine pairs rejected against impostor pairs accepted.

    What to read off it: lower is better, and distances that are Gaussian in both kinds of pairs give a straight line. A curve ends on the
    left where fewer than 30 impostor pairs would be accepted (ISO/IEC 19795-1's rule of 30).

    Args:
        curves: name to the distances of its pairs, impostors positive, one `Scored` a seed; their mean is drawn.
        title: words above.

    Raises:
        UserError: there are too few impostor pairs for a curve.
    """
    figure = empty_picture(5.4, 5.4 + 0.28 * len(curves))
    axes = figure.subplots()
    parts, ticks = [], np.array([0.0001, 0.001, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999])
    for (name, measured), line, colour in zip(curves.items(), cycle(LINES), cycle(COLOURS), strict=False):
        fmr, fnmr = det_points(measured)
        axes.plot(norm.ppf(fmr), norm.ppf(fnmr.clip(1e-4, 1 - 1e-4)), linestyle=line, color=colour, linewidth=2, label=name)
        parts.append(f"{name}: {np.interp(0.1, fmr, fnmr):.2f}")
    axes.set(title=title, xlabel="FMR: impostor pairs accepted", ylabel="FNMR: genuine pairs rejected")
    for axis in (axes.xaxis, axes.yaxis):
        low, high = norm.cdf(axis.get_view_interval())
        shown = ticks[(ticks >= low) & (ticks <= high)]
        axis.set_ticks(norm.ppf(shown), [f"{100 * tick:g} %" for tick in shown])
    legend_below(figure, handlelength=3)
    figure.alt = f"{title + '. ' if title else ''}DET curves on probit axes. FNMR at an FMR of 0.1: {'; '.join(parts)}."
    return figure


@drawn
def roc(
    curves: Mapping[str, Sequence[Any]], title: str = "", xlabel: str = "false-positive rate", ylabel: str = "true-positive rate"
) -> Picture:
    """Receiver operating characteristics.

    What to read off it: on the diagonal a score knows nothing; the area below a curve is the chance that it ranks a
    positive above a negative.

    Args:
        curves: name to (false-positive rates, true-positive rates, ...), as sklearn.metrics.roc_curve returns them.
        title, xlabel, ylabel: words.
    """
    from sklearn.metrics import auc

    figure = empty_picture(5.4, 5.4 + 0.28 * len(curves))
    axes = figure.subplots()
    areas = {}
    for (name, (fpr, tpr, *_)), line, colour in zip(curves.items(), cycle(LINES), cycle(COLOURS), strict=False):
        areas[name] = auc(fpr, tpr)
        axes.plot(fpr, tpr, linestyle=line, color=colour, linewidth=2, label=f"{name}: AUC {areas[name]:.3f}")
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (2, 2)), zorder=0)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=xlabel, ylabel=ylabel, title=title, aspect="equal")
    legend_below(figure, handlelength=3)
    figure.alt = f"{title + '. ' if title else ''}ROC curves. " + "; ".join(f"{name}: AUC {area:.3f}" for name, area in areas.items()) + "."
    return figure
