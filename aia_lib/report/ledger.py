"""The ledger: recorded runs as JSON, from which every table and plot is drawn.

A report is a plain dict, as `aia run` writes it to report.json::

    {"provenance": {"command", "git", "versions", "device", "seconds", "seeds", "date", "data"},
     "settings": {...},
     "methods": {"Original": {"paper": {...} or None, "retrained": {...}, "controls": {...},
                              "seeds": [{"seed", "paper", "retrained"}, ...]}, ...},
     "differences": {"AIA": {"Original": {"leak_auc": {"before", "after", "change", "change_ci", ...}, ...}}}}

`PAPER_FIGURES` and `RETRAINED_FIGURES` name what the two regimes hold; more keys are welcome and kept.
Differences are paired, see `audit.comparison`; earlier runs have none.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import math
import os
import platform
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from .. import __version__
from ..machine.files import UserError, cores, with_interval, write_json

PAPER_FIGURES = ("privacy_accuracy", "privacy_auc", "utility_accuracy", "utility_auc")
"""What `paper` holds of the co-trained adversary (privacy) and Siamese network (utility), of one of them at least. All in [0, 1]."""

_NUMBERS = ("leak_auc", "leak_balanced_accuracy", "utility_auc", "utility_auc_same", "utility_accuracy", "eer")

RETRAINED_FIGURES = (*_NUMBERS, "leak_auc_ci", "utility_auc_same_ci", "worst_attacker", "attackers")
"""What `retrained` must hold: fresh attackers and a fresh verifier. Numbers in [0, 1], intervals as [low, high]."""

FMRS = {"1e-1": "10 %", "1e-2": "1 %", "1e-3": "0.1 %", "1e-4": "0.01 %"}
"""False match rates at which a verifier's false non-match rate is reported: as keys say them, and in words."""

_KINDS = {  # what tables and pages need in a report, by kind: where it stands, * for every entry
    dict: ("", "provenance", "provenance.versions", "methods", "methods.*", "methods.*.seeds.*", "methods.*.seeds.*.retrained")
    + ("methods.*.retrained", "methods.*.retrained.attackers"),
    list: ("provenance.seeds", "methods.*.seeds", "methods.*.retrained.leak_auc_ci", "methods.*.retrained.utility_auc_same_ci"),
    str: ("provenance.command", "provenance.device", "provenance.date", "methods.*.retrained.worst_attacker"),
    Real: ("provenance.seconds", *(f"methods.*.retrained.{name}" for name in _NUMBERS)),
    int: ("methods.*.seeds.*.seed",),
    (str, dict): ("provenance.data",),
    (dict, type(None)): ("provenance.git", "methods.*.paper"),
}

PAPER_SOURCE = (
    "Mosallanezhad, Silva, Mancenido and Liu, “Toward Privacy and Utility Preserving Image Representation”, Table 1 (α = β = 0.5): "
    "accuracy of the private-attribute classifier and of the utility task, one run, no intervals given"
)

PAPER_TABLE1 = {
    "celeba": {
        "Original": {"privacy_accuracy": 0.7801, "utility_accuracy": 0.8887},
        "Random": {"privacy_accuracy": 0.5212, "utility_accuracy": 0.5689},
        "AIA\\T": {"privacy_accuracy": 0.6253, "utility_accuracy": 0.6934},
        "AIA": {"privacy_accuracy": 0.6496, "utility_accuracy": 0.7864},
    },
    "vggface": {
        "Original": {"privacy_accuracy": 0.8121, "utility_accuracy": 0.9131},
        "Random": {"privacy_accuracy": 0.5134, "utility_accuracy": 0.5367},
        "AIA\\T": {"privacy_accuracy": 0.6567, "utility_accuracy": 0.6629},
        "AIA": {"privacy_accuracy": 0.6813, "utility_accuracy": 0.7796},
    },
}
"""The paper's own Table 1, as fractions of 1. Its source: `PAPER_SOURCE`."""


# Where results live ---------------------------------------------------------------------------------------------------


def results_root() -> Path:
    """The folder of the recorded runs: `results/` of a checkout, `aia_lib/results/` of an installed package."""
    package = Path(__file__).resolve().parents[1]
    return (package.parent if (package.parent / "pyproject.toml").is_file() else package) / "results"


def names(root: str | os.PathLike | None = None) -> list[str]:
    """The names of the recorded runs, sorted."""
    return sorted(path.stem for path in Path(root or results_root()).glob("*.json"))


def record(report: Mapping, name: str, root: str | os.PathLike | None = None) -> Path:
    """Write `report` as the recorded run `name`, and return its file. UserError where the report or the name is not in the format."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise UserError(f"A recorded run is named by letters, digits, dots, dashes and underscores, not {name!r}.")
    path = Path(root or results_root()) / f"{name}.json"
    write_json(path, validated(report))
    return path


def load(name: str, root: str | os.PathLike | None = None) -> dict:
    """The recorded run `name`. UserError where there is none (the message lists those that there are), or its file is not a report."""
    if name not in names(root):
        raise UserError(f"There is no recorded run {name!r} in {root or results_root()}; there are: {', '.join(names(root)) or 'none'}.")
    return read(Path(root or results_root()) / f"{name}.json")


def side_record(folder: str, name: str, root: str | os.PathLike | None = None) -> dict | None:
    """What is recorded beside the runs, in `folder` ("audits", "benchmarks", "chapters"): {"provenance", "figures", ...}, or None."""
    path = Path(root or results_root()) / folder / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def read(path: str | os.PathLike) -> dict:
    """The report in the file `path`. Raises UserError, naming the file, where it is missing or not a report."""
    try:
        return validated(json.loads(Path(path).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give a report.json that `aia run` wrote.") from None
    except ValueError as error:  # no JSON, or no UTF-8
        raise UserError(f"{path}: not valid JSON ({error}).") from error
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def validated(report: Any) -> dict:
    """`report`, if tables and pages can show it: all of its parts are there, and its figures are fractions of 1.

    Raises:
        UserError: naming the first entry that is missing, of the wrong kind or out of range.
    """
    for kind, places in _KINDS.items():
        for where, value in (entry for place in places for entry in _entries(report, place)):
            if value is None and not isinstance(value, kind):
                raise UserError(f"{where or 'the report'} is missing.")
            if not isinstance(value, kind) or isinstance(value, bool) or value in ({}, []):
                raise UserError(f"{where or 'the report'} cannot be {str(value)[:60]!r} in the ledger's format.")
    for place in ("methods.*.paper", "methods.*.retrained", "methods.*.seeds.*.paper", "methods.*.seeds.*.retrained"):
        for where, regime in _entries(report, place):
            figures = {key: value for key, value in (regime or {}).items() if key in PAPER_FIGURES or key in RETRAINED_FIGURES}
            if wrong := [f"{key} is {value}" for key, value in _numbers(figures) if not 0 <= value <= 1]:
                raise UserError(f"{where}: {wrong[0]}; it must be a number between 0 and 1.")
    for name, method in report["methods"].items():
        if method["retrained"]["worst_attacker"] not in method["retrained"]["attackers"]:
            raise UserError(f"methods.{name}.retrained.worst_attacker: {method['retrained']['worst_attacker']!r} is none of its attackers.")
    return report


def _entries(value: Any, place: str, where: str = "") -> Iterator[tuple[str, Any]]:
    """Path and value of every entry of a report that `place` leads to; None where there is none."""
    if not place:
        yield where, value
        return
    key, _, rest = place.partition(".")
    entries = value if isinstance(value, Mapping) else dict(enumerate(value if isinstance(value, list) else ()))
    for name, entry in entries.items() if key == "*" else [(key, entries.get(key))]:
        yield from _entries(entry, rest, f"{where}.{name}".lstrip("."))


# Where a result comes from --------------------------------------------------------------------------------------------


def provenance(
    command: str | Sequence[str | os.PathLike],
    seeds: Sequence[int],
    data: str | Mapping[str, Any],
    seconds: float,
    device: Any = "cpu",
) -> dict:
    """Where a result comes from: command, git ({"commit", "dirty"}, or None outside a checkout), versions, device, seconds, seeds, date
    (UTC, ISO 8601), data. Nothing in it tells a folder of the machine.

    Args:
        command: what was run, as a line or as `sys.argv`; absolute paths in it are reduced to their last component.
        seeds: those of the run.
        data: the source's name, or what describes it, see `described`.
        seconds: wall time.
        device: a torch.device or its name, or any description, which is kept.
    """
    words = shlex.split(command) if isinstance(command, str) else command
    versions = {name: importlib.metadata.version(name) for name in ("torch", "torchvision", "numpy", "scikit-learn")}
    return {
        "command": shlex.join(_without_folder(os.fspath(word)) for word in words),
        "git": _git(),
        "versions": {"python": platform.python_version(), **versions, "aia-book": __version__},
        "device": _device_name(str(device)),
        "seconds": round(float(seconds), 1),
        "seeds": [int(seed) for seed in seeds],
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "data": data if isinstance(data, str) else dict(data),
    }


def described(faces: Any) -> dict[str, Any]:
    """What a report says of its data, a `Faces`."""
    data = {"source": faces.source, "images": len(faces), "people": faces.people, "size": faces.size}
    return data | {"attribute": faces.attribute, "licence": faces.licence, "fingerprint": faces.fingerprint[:16]}


def _without_folder(word: str) -> str:
    """An argument, such as --root=/home/x/celeba, with the path in it by its last component, where it is absolute."""
    option, equals, path = word.rpartition("=") if word.startswith("-") else ("", "", word)
    if not Path(path).is_absolute() and str(Path.home()) not in path:
        return word
    return f"{option}{equals}{'~' if Path(path) == Path.home() else Path(path).name}"


def _git() -> dict | None:
    """The commit that this package was run from; None where the package is not in a checkout of its own or git is missing."""
    checkout = Path(__file__).resolve().parents[2]

    def git(*words: str) -> str:
        done = subprocess.run(["git", "--no-optional-locks", *words], cwd=checkout, capture_output=True, text=True, timeout=20, check=True)
        return done.stdout.strip()

    try:
        # An installed package may lie inside somebody else's repository: its commit would say nothing.
        if Path(git("rev-parse", "--show-toplevel")).resolve() != checkout:
            return None
        return {"commit": git("rev-parse", "--verify", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _device_name(device: str) -> str:
    if re.fullmatch(r"cuda(:\d+)?", device):
        import torch

        return f"{device} ({torch.cuda.get_device_name(device)})"
    return {"cpu": f"cpu ({platform.machine()}, {cores()} cores)", "mps": f"mps ({platform.machine()})"}.get(device, device)


# Figures that compare methods -----------------------------------------------------------------------------------------


def leak_removed(report: Mapping, method: str) -> float:
    """Share of Original's leak that `method` removes: (leak_o - leak_x) / (leak_o - 0.5), by AUC of the worst fresh attacker.

    1 leaves an attacker at chance (noise can carry it past 1), 0 changes nothing, below 0 leaks more. NaN where Original
    itself leaks nothing.
    """
    leak_o, leak_x = (_retrained(report, name)["leak_auc"] for name in ("Original", method))
    return (leak_o - leak_x) / (leak_o - 0.5) if leak_o > 0.5 else math.nan


def utility_kept(report: Mapping, method: str) -> float:
    """Share of Original's utility that `method` keeps: (util_x - 0.5) / (util_o - 0.5), by AUC, same-attribute impostors.

    1 verifies as well as Original, 0 is chance. NaN where Original itself does not verify.
    """
    util_o, util_x = (_retrained(report, name)["utility_auc_same"] for name in ("Original", method))
    return (util_x - 0.5) / (util_o - 0.5) if util_o > 0.5 else math.nan


def with_fnmr(figures: Mapping[str, Any]) -> dict[str, Any]:
    """A regime's figures, with FNMR at FMR = 1 - TAR at FAR in the place of the true accept rates that older records hold."""
    return {
        key.replace("tar_at_far", "fnmr_at_fmr"): 1 - value if key.startswith("tar_at_far") else value for key, value in figures.items()
    }


def fnmr(retrained: Mapping[str, Any], fmr: str, kind: str = "") -> str:
    """The false non-match rate at a false match rate as tables show it: with its interval, or why it was not measured.

    Args:
        retrained: figures of a method, of an older record too.
        fmr: one of `FMRS`.
        kind: "" for impostors drawn freely, "_same" for those with the same label.
    """
    figures, key = with_fnmr(retrained), f"fnmr_at_fmr_{fmr}{kind}"
    pairs = figures.get(f"impostor_pairs{kind}")
    if pairs is not None and key not in figures:
        count = int(round(float(fmr) * pairs, 6))
        return f"not measured: only {count} impostor {'pair carries' if count == 1 else 'pairs carry'} it"
    low, high = figures.get(f"{key}_ci", (None, None))
    return percent(figures.get(key), 1) + ("" if low is None else f" [{percent(low, 1)}, {percent(high, 1)}]")


def _retrained(report: Mapping, method: str) -> Mapping:
    if method not in report["methods"]:
        raise UserError(f"The report has no method {method!r}; it has {', '.join(report['methods'])}.")
    return report["methods"][method]["retrained"]


def shares(report: Mapping, method: str) -> list[str]:
    """Leak removed and utility kept as a table shows them; dashes for Original itself."""
    return ["–", "–"] if method == "Original" else [percent(leak_removed(report, method)), percent(utility_kept(report, method))]


_LATER = "strongest|disclosure|unprotected|kept_of|fnmr_at_fmr"
"""How figures begin that reports recorded with earlier versions do not have."""


def differences(a: Mapping, b: Mapping) -> list[str]:
    """What differs between two reports, one sentence each; an empty list where they agree.

    Compared are the methods, their regimes and every number in these, which may differ by 0.03, rates at a fixed FMR by 0.10; not the
    intervals, the seconds, the counts, the per-seed values and the provenance; nor figures of `_LATER`, where one report lacks them, and
    the worst disclosure, a maximum over people.
    """
    sentences = []
    for name in dict.fromkeys([*a["methods"], *b["methods"]]):
        for regime in ("paper", "retrained"):
            first, second = (dict(_numbers(with_fnmr(report["methods"].get(name, {}).get(regime) or {}))) for report in (a, b))
            if bool(first) != bool(second):
                sentences.append(f"{name}: only the {'first' if first else 'second'} report has the {regime} regime.")
                continue
            for figure in dict.fromkeys(
                figure for figure in [*first, *second] if not re.search("_ci|seconds|impostor_pairs|^worst_disclosure", figure)
            ):
                tolerance = 0.10 if figure.startswith("fnmr_at_fmr") else 0.03
                if figure not in first or figure not in second:
                    if not re.match(_LATER, figure):
                        sentences.append(f"{name}: only the {'first' if figure in first else 'second'} report has {regime}.{figure}.")
                elif not (gap := abs(first[figure] - second[figure])) <= tolerance + 1e-12:  # true for NaN, too
                    sentences.append(
                        f"{name}: {regime}.{figure} is {first[figure]:.4f} in the first report and {second[figure]:.4f} in the second; "
                        f"they differ by {gap:.4f}, and {tolerance:g} is allowed."
                    )
    return sentences


def _numbers(value: Mapping, prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, item in value.items():
        if isinstance(item, (Mapping, list, tuple)):
            yield from _numbers(item if isinstance(item, Mapping) else dict(enumerate(item)), f"{prefix}{key}.")
        elif isinstance(item, Real) and not isinstance(item, bool):
            yield f"{prefix}{key}", float(item)


# Tables ---------------------------------------------------------------------------------------------------------------

TABLE_NOTE = (
    "Paper regime: accuracy of the adversary and the verifier that were trained together with the method (the verifier's "
    "impostors drawn freely). Retrained regime: AUC of the worst of several attackers trained afresh on other people, and of a "
    "fresh verifier whose impostors carry the same label as the person; 0.5 is chance; brackets hold 95 % intervals, "
    "resampled by person. Leak removed and utility kept compare both with Original, chance counting as zero."
)
"""What the columns of `table` mean, one paragraph."""


def percent(value: float | None, digits: int = 0) -> str:
    """0.4663 as "47 %"; "–" for None and NaN."""
    return "–" if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f} %"


def published(which: str) -> dict[str, dict[str, float]]:
    """The paper's own Table 1 for "celeba" or "vggface", as fractions of 1. Raises UserError for another name."""
    if which not in PAPER_TABLE1:
        raise UserError(f"The paper has no Table 1 for {which!r}; it has {', '.join(PAPER_TABLE1)}.")
    return PAPER_TABLE1[which]


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], text_columns: Sequence[int] = (0,)) -> str:
    """A Markdown table; all columns but `text_columns` are set flush right."""
    rule = ["---" if index in text_columns else "---:" for index in range(len(head))]
    return "".join("| " + " | ".join(re.sub(r"(?<!\\)\|", r"\\|", cell) for cell in line) + " |\n" for line in (head, rule, *rows))


def table(report: Mapping, paper: str | None = None) -> str:
    """Table 1 in both regimes as a Markdown table, for README, book and table.md. `TABLE_NOTE` explains its columns.

    Leak removed and utility kept are there where the report holds Original. `paper`, "celeba" or "vggface", sets the paper's
    accuracies beside ours, in parentheses.
    """
    theirs = published(paper) if paper else {}
    derived = "Original" in report["methods"]
    beside = " (the paper’s)" if paper else ""
    head = ["Method", f"Paper regime: privacy ↓{beside}", f"Paper regime: utility ↑{beside}", "Retrained: leak AUC ↓", "Worst attacker"]
    head += ["Retrained: utility AUC ↑"] + (["Leak removed ↑", "Utility kept ↑"] if derived else [])
    rows = []
    for name, method in report["methods"].items():
        retrained, row = method["retrained"], [name]
        for key in ("privacy_accuracy", "utility_accuracy"):
            ours = percent((method["paper"] or {}).get(key), 1)
            row.append(ours + (f" ({percent(theirs.get(name, {}).get(key), 1)})" if paper else ""))
        row += [with_interval(retrained["leak_auc"], retrained["leak_auc_ci"]), retrained["worst_attacker"]]
        row.append(with_interval(retrained["utility_auc_same"], retrained["utility_auc_same_ci"]))
        rows.append(row + (shares(report, name) if derived else []))
    return markdown_table(head, rows, text_columns=(0, 4))
