"""What a sweep has found: one tidy table, the ledger's report, and what is drawn and computed from the two."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..audit import AuditReport
from ..machine.files import UserError, atomic_write, write_json, write_text
from ..report import ledger, tradeoff_plots
from ..statistics import Scored, interval
from .grid import Point
from .tradeoff import REFERENCE, Recommendation, hypervolume, pareto_front, recommend

if TYPE_CHECKING:
    from ..report.plots import Picture


TABLE, REPORT, FAILED = "sweep.parquet", "report.json", "failed.json"

COLUMNS = ("method", "alpha", "beta", "seed", "regime", "metric", "value", "low", "high")
"""Of the tidy table. alpha and beta are NaN for Original; low and high, a 95 % interval over people, are NaN where there is none."""

UTILITY = {"paper": "utility_auc", "retrained": "utility_auc_same"}
"""What the figures show beside "leak_auc". The paper's impostors are drawn freely; a fresh verifier's carry the person's own label."""

_PAPER_NAMES = {  # the audit's name for a figure of the co-trained adversary -> the table's, the same in both regimes
    "privacy_auc": "leak_auc",
    "privacy_auc_val": "leak_auc_val",
    "privacy_accuracy": "leak_accuracy",
    "privacy_balanced_accuracy": "leak_balanced_accuracy",
}


def tidy(point: Point, audit: AuditReport) -> pd.DataFrame:
    """The rows of one point: a row for each figure of both regimes and of the controls, with its interval where there is one."""
    frame = audit.to_frame().rename(columns={"figure": "metric"})
    paper = frame["regime"] == "paper"
    frame.loc[paper, "metric"] = frame.loc[paper, "metric"].replace(_PAPER_NAMES)
    (scores,) = audit.scores
    if scores.adversary is not None:
        low, high = interval([Scored(scores.adversary, scores.labels, scores.people)], audit.bootstrap)
        frame.loc[paper & (frame["metric"] == "leak_auc"), ["low", "high"]] = low, high
    chosen = [("leak_auc_val", "attackers_val"), ("utility_auc_val", "verifiers_val")]  # what val said of the ones that it chose
    more = [{"regime": "retrained", "metric": name, "value": max(audit.retrained[key].values())} for name, key in chosen]
    frame = pd.concat([frame.drop(columns="sd"), pd.DataFrame(more)], ignore_index=True)
    frame = frame.assign(method=point.method, seed=point.seed, alpha=point.alpha, beta=point.beta)
    return frame.astype({"alpha": float, "beta": float, "seed": "int64", "value": float, "low": float, "high": float})[list(COLUMNS)]


@dataclass(frozen=True, eq=False, repr=False)
class SweepResult:
    """A sweep's figures.

    Attributes:
        folder: where they lie.
        table: the tidy table, `COLUMNS`; a row per method, alpha, beta, seed, regime and metric.
        report: the same in the ledger's format: one entry a setting, merged over its seeds, with intervals of the means. Each entry has
            its `alpha` and `beta` besides.
        failed: points that could not be finished, and why.
    """

    folder: Path
    table: pd.DataFrame
    report: dict
    failed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: str | Path) -> SweepResult:
        """The result that `run_sweep` wrote into `folder`. UserError where there is none, or a file is damaged."""
        folder = Path(folder)
        if not (folder / TABLE).exists():
            raise UserError(f"{folder} holds no finished sweep ({TABLE} is missing); make one with: aia sweep --out {folder}")
        try:
            table = pd.read_parquet(folder / TABLE)
        except (OSError, ValueError) as error:
            raise UserError(f"{folder / TABLE} is damaged ({str(error).splitlines()[0]}); the same `aia sweep` writes it anew.") from error
        failed = json.loads((folder / FAILED).read_text(encoding="utf-8")) if (folder / FAILED).exists() else {}
        return cls(folder, table, ledger.read(folder / REPORT), {name: entry["reason"] for name, entry in failed.items()})

    def save(self) -> None:
        """Write table, report, summary and figures into `folder`, each whole or not at all."""
        from ..report import plots

        with atomic_write(self.folder / TABLE) as file:
            self.table.to_parquet(file, engine="pyarrow", index=False)
        write_json(self.folder / REPORT, self.report)
        write_text(self.folder / "table.md", self.markdown())
        for name, picture in self.figures().items():
            plots.save_picture(picture, self.folder / "figures" / f"{name}.png")

    @property
    def held(self) -> tuple[float, float]:
        """(alpha, beta) that the cross holds."""
        finetune = self.report["settings"]["finetune"]
        return finetune["alpha"], finetune["beta"]

    def chart(self) -> pd.DataFrame:
        """The rows of the table that the figures show, without Original's."""
        metric, utility = self.table["metric"], self.table["regime"].map(UTILITY)
        return self.table[utility.notna() & ((metric == utility) | (metric == "leak_auc")) & self.table["alpha"].notna()]

    def settings(self, regime: str = "retrained", original: bool = False) -> pd.DataFrame:
        """One row a setting: means over seeds on test, their 95 % intervals over people, what val said, and whether it is on the front.

        Args:
            regime: "retrained" (worst fresh attacker, fresh verifier with same-label impostors) or "paper" (the co-trained networks,
                impostors drawn freely; no intervals and no utility on val).
            original: with Original, which is never on the front.
        """
        if regime not in UTILITY:
            raise UserError(f"There is no regime {regime!r}; there are {', '.join(UTILITY)}.")
        names = {"leak": "leak_auc", "utility": UTILITY[regime], "leak_val": "leak_auc_val", "utility_val": "utility_auc_val"}
        figures, rows = self.table[self.table["regime"] == regime], []
        for setting, entry in self.report["methods"].items():
            alpha, beta = entry["alpha"], entry["beta"]
            of_it = figures["alpha"].isna() if alpha is None else (figures["alpha"] == alpha) & (figures["beta"] == beta)
            means = figures[of_it].groupby("metric")["value"].mean()
            row = {"setting": setting, "method": setting.split()[0], "alpha": alpha, "beta": beta}
            row |= {name: means.get(metric, np.nan) for name, metric in names.items()}
            for name, key in (("leak", "leak_auc_ci"), ("utility", "utility_auc_same_ci")):
                row[f"{name}_low"], row[f"{name}_high"] = entry["retrained"][key] if regime == "retrained" else (np.nan, np.nan)
            rows.append(row)
        frame = pd.DataFrame(rows).astype({"alpha": float, "beta": float})
        frame = frame.sort_values(["alpha", "beta"], na_position="first", ignore_index=True)
        tried = frame["alpha"].notna()
        frame["front"] = False
        frame.loc[tried, "front"] = pareto_front(frame.loc[tried, "leak"], frame.loc[tried, "utility"])
        return frame if original else frame[tried].reset_index(drop=True)

    def hypervolume(self, regime: str = "retrained") -> float:
        """The hypervolume of the settings' means over seeds; see `tradeoff.hypervolume`."""
        frame = self.settings(regime)
        return hypervolume(frame["leak"], frame["utility"])

    def hypervolumes(self, regime: str = "retrained") -> dict[int, float]:
        """The hypervolume of each seed by itself, which says how far chance moves it.

        It is mostly larger than that of the means, without merit: the front of one seed picks that seed's lucky points.
        """
        cut = self.table[(self.table["regime"] == regime) & self.table["alpha"].notna()]
        wide = cut.pivot(index=["seed", "alpha", "beta"], columns="metric", values="value")
        return {int(seed): hypervolume(rows["leak_auc"], rows[UTILITY[regime]]) for seed, rows in wide.groupby("seed")}

    def recommend(self, max_leak: float = 0.6) -> Recommendation:
        """The setting with the most utility that leaks at most `max_leak`; see `tradeoff.recommend`."""
        return recommend(self.settings(), max_leak)

    def figures(self, max_leak: float | None = None) -> dict[str, Picture]:
        """File name -> picture: Fig. 2 where a weight varies while the other is held, the maps of a full grid, the front.

        Args:
            max_leak: mark in the front the setting that is recommended for it.
        """
        pictures, chart = {}, self.chart()
        with contextlib.suppress(UserError):  # neither weight varies while the other is held
            pictures["figure-2"] = tradeoff_plots.tradeoff_curve(chart, *self.held)
        if min(chart["alpha"].nunique(), chart["beta"].nunique()) > 1 and self.report["settings"]["grid"] == "full":
            pictures["maps"] = tradeoff_plots.tradeoff_maps(chart)
        both = pd.concat([self.settings(regime, original=True).assign(regime=regime) for regime in UTILITY], ignore_index=True)
        choice = None if max_leak is None else self.recommend(max_leak)
        marked = (choice.alpha, choice.beta) if choice and choice.met else None
        pictures["front"] = tradeoff_plots.tradeoff_front(both, REFERENCE, marked)
        return pictures

    def markdown(self) -> str:
        """The settings and what they are worth, as Markdown: the content of table.md."""
        head = ["Setting", "Paper regime: leak ↓", "Paper regime: utility ↑", "Retrained: leak ↓", "Retrained: utility ↑", "On the front"]
        rows = []
        for paper, row in zip(*(self.settings(regime, original=True).to_dict("records") for regime in UTILITY), strict=True):
            fresh = [ledger.with_interval(row[name], (row[f"{name}_low"], row[f"{name}_high"])) for name in ("leak", "utility")]
            rows.append([row["setting"], f"{paper['leak']:.3f}", f"{paper['utility']:.3f}", *fresh, "yes" if row["front"] else ""])
        seeds = ", ".join(map(str, self.report["provenance"]["seeds"]))
        note = (
            "AUC, means over seeds; 0.5 is chance. Paper regime: the co-trained adversary and Siamese network, impostors drawn freely. "
            "Retrained regime: the worst fresh attacker, and a fresh verifier whose impostors carry the same label; brackets hold 95 % "
            f"intervals, resampled by person. {self.summary()} Seeds: {seeds}."
        )
        return f"{ledger.markdown_table(head, rows, (0, 5))}\n{note}\n"

    def summary(self) -> str:
        """The hypervolume in both regimes, one sentence."""
        shown = ", ".join(f"{regime} regime {self.hypervolume(regime):.4f}" for regime in UTILITY)
        return f"Hypervolume over the reference leak {REFERENCE[0]:g}, utility {REFERENCE[1]:g} (0.25 is perfect): {shown}."


def recorded() -> dict[str, SweepResult]:
    """The recorded sweeps by name: the folders in `ledger.results_root()`/sweeps, each with the table and the report of a `run_sweep`.

    Raises:
        UserError: a file of one of them is damaged or missing.
    """
    places = sorted((ledger.results_root() / "sweeps").glob(f"*/{TABLE}"))
    return {path.parent.name: SweepResult.load(path.parent) for path in places}
