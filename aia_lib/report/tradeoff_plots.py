"""Plots of a sweep: curves, maps and fronts of leak against utility."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..machine.files import UserError
from .face_plots import _two_lines
from .style import BLACK, BLUE, GREEN, GREY, SKY, VERMILLION, Picture, chance_line, drawn, empty_picture, legend_below

if TYPE_CHECKING:
    import pandas as pd

_SYMBOLS = {"alpha": "α", "beta": "β"}

_LINES = {  # regime, metric -> label, colour, marker, line style, filled
    ("paper", "leak_auc"): ("attribute, co-trained adversary", BLUE, "o", "--", False),
    ("retrained", "leak_auc"): ("attribute, worst fresh attacker", VERMILLION, "s", "-", True),
    ("paper", "utility_auc"): ("verification, co-trained Siamese", SKY, "^", ":", False),
    ("retrained", "utility_auc_same"): ("verification, fresh verifier, same label", GREEN, "D", "-.", True),
}


@drawn
def tradeoff_curve(rows: pd.DataFrame, alpha: float = 0.5, beta: float = 0.5) -> Picture:
    """Fig. 2: AUC of the private attribute and of the task, against beta (a) and against alpha (b), in both regimes.

    What to read off it: whether raising beta lowers the fresh attackers' AUC as it lowers that of the adversary it trains against, and what
    that costs the task. Small dots are seeds; lines join their means; bands are 95 % t intervals of the mean, absent with a single seed.

    Args:
        rows: one row a measurement, with the columns alpha and beta (the weights of Eq. 8), seed, regime ("paper" or "retrained"), metric
            ("leak_auc"; "utility_auc" in the paper regime, "utility_auc_same" in the retrained one) and value, in [0, 1].
        alpha, beta: what is held while the other one varies; the paper holds 0.5.

    Raises:
        UserError: neither weight varies while the other is held.
    """
    panels = []
    for varied, held, at in (("beta", "alpha", alpha), ("alpha", "beta", beta)):
        chosen = rows[np.isclose(rows[held].astype(float), at)]
        if chosen[varied].nunique() > 1:
            panels.append((varied, held, at, chosen))
    if not panels:
        raise UserError(f"Nothing to draw: neither beta varies at alpha = {alpha:g}, nor alpha at beta = {beta:g}.")

    figure = empty_picture(4.9 * len(panels) + 0.4, 4.9)
    all_axes = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
    parts = []
    for axes, letter, (varied, held, at, chosen) in zip(all_axes, "ab", panels, strict=False):
        for (regime, metric), (label, colour, marker, line, filled) in _LINES.items():
            cut = chosen[(chosen["regime"] == regime) & (chosen["metric"] == metric)]
            values = cut.groupby(varied)["value"]
            x, means = values.mean().index.to_numpy(float), values.mean().to_numpy()
            axes.fill_between(x, *np.array([_t_interval(group.to_numpy()) for _, group in values]).T, color=colour, alpha=0.15, linewidth=0)
            face = colour if filled else "white"
            axes.plot(x, means, linestyle=line, marker=marker, color=colour, markerfacecolor=face, markersize=7, linewidth=2, label=label)
            if cut["seed"].nunique() > 1:
                axes.plot(cut[varied], cut["value"], ".", color=colour, markersize=4, alpha=0.7)
            parts.append(f"{label}: {means[0]:.2f} at {varied} {x[0]:g} to {means[-1]:.2f} at {x[-1]:g}")
        axes.axhline(0.5, color=GREY, linestyle=(0, (2, 2)), linewidth=1.2, zorder=0)
        axes.set_xlabel(f"{_SYMBOLS[varied]}, weight of the {'adversary' if varied == 'beta' else 'task'}")
        axes.set_title(f"({letter}) {_SYMBOLS[held]} = {at:g}")
    all_axes[0].set_ylabel("AUC (0.5 is chance)")
    handles, labels = all_axes[0].get_legend_handles_labels()
    legend_below(figure, len(panels), handles=handles, labels=labels)
    figure.alt = f"Line chart of AUC against {' and '.join(panel[0] for panel in panels)}. " + "; ".join(parts) + "."
    return figure


@drawn
def tradeoff_maps(rows: pd.DataFrame) -> Picture:
    """Maps of alpha x beta: the attribute's AUC above, the task's below, the paper regime left, the retrained regime right.

    What to read off it: whether a region that is dark above on the left is dark on the right, too. Both maps of a row share one
    scale; numbers are hundredths of AUC, means over seeds, so that no colour is needed. Cells without a number were not measured.

    Args:
        rows: as for `tradeoff_curve`; two values of alpha and of beta at least.
    """
    alphas, betas = (np.sort(rows[name].dropna().unique().astype(float)) for name in ("alpha", "beta"))
    figure = empty_picture(max(9.0, 2.6 + 0.84 * len(betas)), max(7.0, 2.4 + 0.76 * len(alphas)))
    cells = figure.subplots(2, 2, sharex=True, sharey=True)
    parts = []
    for line, metrics in zip(cells, (("leak_auc", "leak_auc"), ("utility_auc", "utility_auc_same")), strict=True):
        maps, labels = [], []
        for regime, metric in zip(("paper", "retrained"), metrics, strict=True):
            cut = rows[(rows["regime"] == regime) & (rows["metric"] == metric)]
            mean = cut.pivot_table("value", "alpha", "beta").reindex(index=alphas, columns=betas)
            maps.append(mean.to_numpy())  # (A, B)
            labels.append(_LINES[regime, metric][0])
        low, high = np.nanmin(maps), np.nanmax(maps)
        for axes, values, label in zip(line, maps, labels, strict=True):
            shown = axes.imshow(values, origin="lower", cmap="cividis", vmin=low, vmax=high, aspect="auto")
            axes.grid(False)
            for (row, column), value in np.ndenumerate(values):
                if np.isfinite(value):
                    ink = "white" if value < (low + high) / 2 else "black"
                    axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=10, color=ink)
            axes.set_title(_two_lines(label), fontsize=11)
            parts.append(f"{label}: {np.nanmin(values):.2f} to {np.nanmax(values):.2f}")
        figure.colorbar(shown, ax=line, label="AUC (0.5 is chance)", fraction=0.05)
        line[0].set_ylabel("α, weight of the task")
        line[0].set_yticks(range(len(alphas)), [f"{a:g}" for a in alphas])
    for axes in cells[1]:
        axes.set_xlabel("β, weight of the adversary")
        axes.set_xticks(range(len(betas)), [f"{b:g}" for b in betas])
    figure.alt = f"Maps of AUC over {len(alphas)} values of alpha and {len(betas)} of beta. " + "; ".join(parts) + ". Chance is 0.5."
    return figure


@drawn
def tradeoff_front(
    settings: pd.DataFrame, reference: tuple[float, float] = (1.0, 0.5), marked: tuple[float, float] | None = None
) -> Picture:
    """Leak against utility of every setting, in both regimes, with the Pareto front and the area that it dominates.

    What to read off it: how much of the paper regime's shaded area is left in the retrained regime. Up and to the left is better.
    Squares are settings, lighter for larger beta; those on the front are joined, with whiskers in the retrained regime; the star is
    Original.

    Args:
        settings: one row a setting and regime, with the columns regime, alpha, beta (NaN: Original), leak, leak_low, leak_high, utility,
            utility_low, utility_high and front; `SweepResult.settings` with a column regime.
        reference: (leak, utility) of the worst that can be had, where the area ends.
        marked: (alpha, beta) of a setting to ring, such as the recommended one.
    """
    figure = empty_picture(11.0, 5.2)
    all_axes = figure.subplots(1, 2, sharex=True, sharey=True)
    most = settings["beta"].max() or 1.0
    parts = []
    for axes, regime in zip(all_axes, ("paper", "retrained"), strict=True):
        rows = settings[settings["regime"] == regime]
        tried, original = rows[rows["alpha"].notna()], rows[rows["alpha"].isna()]
        front = tried[tried["front"].astype(bool)].sort_values(["leak", "utility"])
        x, y = front["leak"].to_numpy(float), front["utility"].to_numpy(float)
        axes.fill_between(np.append(x, reference[0]), np.append(y, y[-1]), reference[1], step="post", color=SKY, alpha=0.18, linewidth=0)
        axes.step(np.append(x, reference[0]), np.append(y, y[-1]), where="post", color=BLUE, linewidth=1.5, label="Pareto front")
        look = {"c": tried["beta"], "cmap": "cividis", "vmin": 0, "vmax": most, "edgecolors": "#444444", "linewidths": 0.8}
        shown = axes.scatter(tried["leak"], tried["utility"], s=42, marker="s", zorder=3, label="setting", **look)
        if regime == "retrained":
            xerr, yerr = (np.maximum(0, [front[f] - front[f"{f}_low"], front[f"{f}_high"] - front[f]]) for f in ("leak", "utility"))
            axes.errorbar(front["leak"], front["utility"], yerr, xerr, fmt="none", ecolor=GREY, elinewidth=0.9, zorder=2)
        axes.plot(original["leak"], original["utility"], "*", color=VERMILLION, markersize=15, zorder=4, label="Original")
        if marked:
            ring = tried[np.isclose(tried["alpha"], marked[0]) & np.isclose(tried["beta"], marked[1])]
            axes.plot(ring["leak"], ring["utility"], "o", color="none", markeredgecolor=BLACK, markersize=15, zorder=5, label="recommended")
        axes.plot(*reference, "x", color=BLACK, markersize=9, markeredgewidth=2, zorder=4, label="reference")
        chance_line(axes)
        axes.set_title(f"{regime} regime", fontsize=12)
        axes.set_xlabel("leak: AUC of the private attribute")
        parts.append(
            f"{regime} regime: {len(front)} settings on the front, leak {x[0]:.2f} and utility {y[0]:.2f} to {x[-1]:.2f} and {y[-1]:.2f}"
        )
    all_axes[0].set_ylabel("utility: AUC of face verification")
    figure.colorbar(shown, ax=list(all_axes), label="β, weight of the adversary", fraction=0.04)
    handles, labels = all_axes[-1].get_legend_handles_labels()
    legend_below(figure, 5, handles=handles, labels=labels)
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
