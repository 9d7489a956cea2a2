"""The ledger: recorded runs as JSON, checked when written and when read, from which every table and plot is drawn.

A report is a plain dict, as `aia run` writes it to report.json::

    {"provenance": {"command", "git", "versions", "device", "seconds", "seeds", "date", "data"},
     "settings": {...},
     "methods": {"Original": {"paper": {...} or None, "retrained": {...}, "controls": {...},
                              "seeds": [{"seed", "paper", "retrained"}, ...]}, ...}}

`PAPER_FIGURES` and `RETRAINED_FIGURES` name what the two regimes must hold; more keys are welcome and kept.
"""

from __future__ import annotations

import datetime
import fnmatch
import importlib.metadata
import json
import math
import numbers
import os
import platform
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import __version__
from ..machine.files import UserError, cores, write_json

PAPER_FIGURES = ("privacy_accuracy", "privacy_auc", "utility_accuracy", "utility_auc")
"""What `paper` holds of the co-trained adversary (privacy) and Siamese network (utility), of one of them at least. All in [0, 1]."""

RETRAINED_FIGURES = (
    "leak_auc",
    "leak_auc_ci",
    "worst_attacker",
    "attackers",
    "leak_balanced_accuracy",
    "utility_auc",
    "utility_auc_same",
    "utility_auc_same_ci",
    "utility_accuracy",
    "eer",
    "tar_at_far_1e-2",
)
"""What `retrained` must hold: fresh attackers and a fresh verifier. Numbers in [0, 1], intervals as [low, high]."""

PROVENANCE = ("command", "git", "versions", "device", "seconds", "seeds", "date", "data")

VERSIONS = ("python", "torch", "torchvision", "numpy", "scikit-learn", "aia-book")

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

DEFAULT_TOLERANCES: dict[str, float | None] = {"*": 0.03, "tar_at_far*": 0.10, "*_ci*": None, "*seconds*": None}
"""How far two runs may differ, by pattern; the longest pattern that fits a figure's name counts. None: not compared."""


# Where results live ---------------------------------------------------------------------------------------------------


def results_root() -> Path:
    """The folder of the recorded runs: `results/` of a checkout, `aia_lib/results/` of an installed package."""
    package = Path(__file__).resolve().parent
    checkout = package.parent
    return checkout / "results" if (checkout / "pyproject.toml").is_file() else package / "results"


def names(root: str | os.PathLike | None = None) -> list[str]:
    """The names of the recorded runs, sorted."""
    return sorted(path.stem for path in _root(root).glob("*.json"))


def record(report: Mapping, name: str, root: str | os.PathLike | None = None) -> Path:
    """Check `report`, reduce absolute paths in its provenance and settings to their last component, and write `<name>.json`.

    Raises:
        UserError: the report is not in the format, or `name` is not letters, digits, dots, dashes and underscores.
    """
    path = _path(name, root)
    report = clean(report)
    check(report)
    write_json(path, report)
    return path


def load(name: str, root: str | os.PathLike | None = None) -> dict:
    """The recorded run `name`, checked.

    Raises:
        UserError: there is no such run (the message lists those that there are), or its file is not a report.
    """
    path = _path(name, root)
    if not path.is_file():
        raise UserError(f"There is no recorded run {name!r} in {_root(root)}; there are: {', '.join(names(root)) or 'none'}.")
    return read(path)


def chapter_record(chapter: str, root: str | os.PathLike | None = None) -> dict | None:
    """What the book's chapter ("05") gave when it was recorded: {"provenance", "profile", "figures"}; None where nothing is.

    Raises:
        UserError: the record is not valid JSON.
    """
    return side_record("chapters", chapter, root)


def side_record(folder: str, name: str, root: str | os.PathLike | None = None) -> dict | None:
    """What is recorded beside the runs, in `folder` ("audits", "benchmarks", "chapters"), as {"provenance", "figures", ...}; None where
    nothing is.

    Raises:
        UserError: the record is not valid JSON.
    """
    path = _root(root) / folder / f"{name}.json"
    return _parse(path) if path.is_file() else None


def read(path: str | os.PathLike) -> dict:
    """The report in the file `path`, checked. Raises UserError, naming the file, where it is missing or not a report."""
    try:
        report = _parse(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give a report.json that `aia run` wrote.") from None
    try:
        return check(report)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def _parse(path: str | os.PathLike) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid JSON ({error}).") from error


def _root(root: str | os.PathLike | None) -> Path:
    return Path(root) if root is not None else results_root()


def _path(name: str, root: str | os.PathLike | None) -> Path:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise UserError(f"A recorded run is named by letters, digits, dots, dashes and underscores, not {name!r}.")
    return _root(root) / f"{name}.json"


# Where a result comes from --------------------------------------------------------------------------------------------


def provenance(
    command: str | Sequence[str | os.PathLike],
    seeds: Sequence[int],
    data: str | Mapping[str, Any],
    seconds: float,
    device: Any = "cpu",
) -> dict:
    """Where a result comes from, without a trace of the machine's folders.

    Args:
        command: what was run, as a line or as `sys.argv`; absolute paths in it are reduced to their last component.
        seeds: those of the run.
        data: the source's name, or what describes it (source, images, people, size, attribute, licence ...).
        seconds: wall time.
        device: "cpu", "cuda", "cuda:1", "mps", a torch.device, or any description, which is kept.

    Returns:
        command; git: {"commit", "dirty"}, or None outside a checkout; versions (None: not installed); device; seconds;
        seeds; date: UTC, ISO 8601; data.
    """
    line = command if isinstance(command, str) else shlex.join(_strip_word(os.fspath(word)) for word in command)
    return {
        "command": strip_paths(line),
        "git": _git(),
        "versions": {name: platform.python_version() if name == "python" else _version(name) for name in VERSIONS},
        "device": _device_name(str(device)),
        "seconds": round(float(seconds), 1),
        "seeds": [int(seed) for seed in seeds],
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "data": clean_paths(dict(data) if isinstance(data, Mapping) else data),
    }


# An absolute path starts at the beginning or after something that is no part of a path: a blank, a quote, "=", ":", ",", "(".
# "and/or", "../data", "AIA\T" and "https://host/page" are left alone.
_ABSOLUTE = r"(?<![\w.\-~/\\])(?:file://)?(?!(?<=:)//)(?:~[\w.-]*(?=[/\\])|[A-Za-z]:(?=[/\\])|(?=/|\\\\))"

_QUOTED_PATH = re.compile(r"""(['"])(?P<path>""" + _ABSOLUTE + r"""[/\\][^'"]*)\1""")

_BARE_PATH = re.compile(r"(?P<path>" + _ABSOLUTE + r"""(?:[/\\]+[^\s'"/\\,:;()]+)+[/\\]*)""")

_OPTION = re.compile(r"(?P<name>-{1,2}[\w-]+=)?(?=" + _ABSOLUTE + r"[/\\])")

_HOME = re.compile(r"(?:(?:[A-Za-z]:)?[/\\](?:home|Users)[/\\][^/\\]+|[/\\]root|~[\w.-]*)[/\\]*")


def strip_paths(text: str) -> str:
    """`text` with every absolute path reduced to its last component: "--root /home/x/celeba" becomes "--root celeba".

    Relative paths stay as the user gave them. A home directory itself becomes "~"; its name would tell the user's.
    """
    text = _QUOTED_PATH.sub(lambda match: f"{match[1]}{_last_component(match['path'])}{match[1]}", text)
    return _BARE_PATH.sub(lambda match: _last_component(match["path"]), text)


def clean_paths(value: Any) -> Any:
    """`value`, a tree of dicts, lists, strings and numbers, with every absolute path in it reduced by `strip_paths`."""
    if isinstance(value, Mapping):
        return {key: clean_paths(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean_paths(item) for item in value]
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
        return _last_component(value) if os.path.isabs(value) else value
    return _strip_word(value) if isinstance(value, str) else value


def _strip_word(word: str) -> str:
    """`strip_paths` for text known to be one word or one value: where it is a single path, blanks in that path belong to it."""
    option = _OPTION.match(word)
    if option and len(_BARE_PATH.findall(word)) == 1:
        return (option["name"] or "") + _last_component(word[option.end() :])
    return strip_paths(word)


def clean(report: Mapping) -> dict:
    """`report` with the absolute paths in its provenance and settings reduced to their last component."""
    return {key: clean_paths(value) if key in ("provenance", "settings") else value for key, value in report.items()}


def _last_component(path: str) -> str:
    path = path.removeprefix("file://")
    if _HOME.fullmatch(path):
        return "~"
    return re.split(r"[/\\]+", path.rstrip("/\\"))[-1] or "/"


def _version(distribution: str) -> str | None:
    if distribution == "aia-book":
        return __version__  # also where the package runs from a checkout that was never installed
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git() -> dict | None:
    """The commit that this package was run from; None where the package is not in a checkout of its own or git is missing."""
    checkout = Path(__file__).resolve().parent.parent

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
    if device == "cpu":
        return f"cpu ({platform.machine()}, {cores()} cores)"
    if re.fullmatch(r"cuda(:\d+)?", device):
        import torch

        return f"{device} ({torch.cuda.get_device_name(device)})" if torch.cuda.is_available() else device
    return f"mps ({platform.machine()})" if device == "mps" else device


# The format -----------------------------------------------------------------------------------------------------------


def check(report: Any) -> dict:
    """Return `report` if it is in the format that this module's docstring describes.

    Raises:
        UserError: naming the first key that is missing, of the wrong kind or out of range.
    """
    _mapping(report, "the report")
    _keys(report, ("provenance", "methods"), "")
    _mapping(report.get("settings", {}), "settings")
    seeds = _check_provenance(report["provenance"])
    _mapping(report["methods"], "methods")
    if not report["methods"]:
        raise UserError("methods is empty: a report holds one method at least.")
    for name, method in report["methods"].items():
        where = f"methods.{name}"
        _mapping(method, where)
        _keys(method, ("paper", "retrained", "seeds"), where)
        if method["paper"] is not None:
            _mapping(method["paper"], f"{where}.paper")
            sides = [side for side in ("privacy", "utility") if any(key.startswith(side) for key in method["paper"])] or ["privacy"]
            _check_regime(method["paper"], f"{where}.paper", [key for key in PAPER_FIGURES if key.split("_")[0] in sides])
        _check_regime(method["retrained"], f"{where}.retrained", RETRAINED_FIGURES)
        if not isinstance(method["seeds"], list) or not method["seeds"]:
            raise UserError(f"{where}.seeds must be a list with one entry a seed, not {_short(method['seeds'])}.")
        for index, entry in enumerate(method["seeds"]):
            here = f"{where}.seeds[{index}]"
            _mapping(entry, here)
            _keys(entry, ("seed", "retrained"), here)
            if entry["seed"] not in seeds:
                raise UserError(f"{here}.seed is {_short(entry['seed'])}, which is none of provenance.seeds {seeds}.")
            for regime in ("paper", "retrained"):
                if entry.get(regime) is not None:  # what a single seed holds may be less than the whole, but must be sound
                    _check_regime(entry[regime], f"{here}.{regime}", ())
    return report


def _check_provenance(value: Any) -> list[int]:
    where = "provenance"
    _mapping(value, where)
    _keys(value, PROVENANCE, where)
    for key in ("command", "device"):
        if not isinstance(value[key], str) or not value[key].strip():
            raise UserError(f"{where}.{key} must be a text, not {_short(value[key])}.")
    git = value["git"]
    if git is not None:
        _mapping(git, f"{where}.git")
        _keys(git, ("commit", "dirty"), f"{where}.git")
        if not isinstance(git["commit"], str) or not re.fullmatch(r"[0-9a-f]{7,64}", git["commit"]):
            raise UserError(f"{where}.git.commit must be a commit's hexadecimal name, not {_short(git['commit'])}.")
        if not isinstance(git["dirty"], bool):
            raise UserError(f"{where}.git.dirty must be true or false, not {_short(git['dirty'])}.")
    _mapping(value["versions"], f"{where}.versions")
    _keys(value["versions"], VERSIONS, f"{where}.versions")
    for key, version in value["versions"].items():
        if version is not None and not isinstance(version, str):
            raise UserError(f"{where}.versions.{key} must be a text, or null where it is not installed, not {_short(version)}.")
    if not _is_number(value["seconds"]) or value["seconds"] < 0:
        raise UserError(f"{where}.seconds must be a number that is not negative, not {_short(value['seconds'])}.")
    seeds = value["seeds"]
    if not isinstance(seeds, list) or not seeds or not all(isinstance(seed, int) and not isinstance(seed, bool) for seed in seeds):
        raise UserError(f"{where}.seeds must be a list of whole numbers, not {_short(seeds)}.")
    try:
        date = datetime.datetime.fromisoformat(str(value["date"]).replace("Z", "+00:00"))
    except ValueError:
        date = None
    if date is None or date.tzinfo is None:
        example = "2030-01-31T12:00:00+00:00"
        raise UserError(f"{where}.date must be an ISO 8601 time with its zone, such as {example}, not {_short(value['date'])}.")
    if not isinstance(value["data"], (str, Mapping)) or not value["data"]:
        raise UserError(f"{where}.data must be a text or an object that describes the data, not {_short(value['data'])}.")
    for path, text in _texts(value, where):
        if strip_paths(text) != text:
            raise UserError(f"{path} holds an absolute path of one machine, {_short(text)}; ledger.clean reduces it.")
    return seeds


def _check_regime(value: Any, where: str, required: Sequence[str]) -> None:
    """Every key of `required` is there, and every figure of the format, required or not, is of its kind and in its range."""
    _mapping(value, where)
    _keys(value, required, where)
    for key, item in value.items():
        here = f"{where}.{key}"
        if key == "attackers":
            _mapping(item, here)
            for name, auc in item.items():
                _unit(auc, f"{here}.{name}")
        elif key.endswith("_ci"):
            if not isinstance(item, (list, tuple)) or len(item) != 2:
                raise UserError(f"{here} must be an interval [low, high], not {_short(item)}.")
            for bound in item:
                _unit(bound, here)
            if item[0] > item[1]:
                raise UserError(f"{here} must be an interval [low, high], but {item[0]} is above {item[1]}.")
        elif key in PAPER_FIGURES or (key in RETRAINED_FIGURES and key != "worst_attacker"):
            _unit(item, here)
    if "worst_attacker" in value and "attackers" in value and value["worst_attacker"] not in value["attackers"]:
        known = ", ".join(value["attackers"])
        raise UserError(f"{where}.worst_attacker is {_short(value['worst_attacker'])}, which is none of its attackers: {known}.")


def _mapping(value: Any, where: str) -> None:
    if not isinstance(value, Mapping):
        raise UserError(f"{where} must be an object with named entries, not {_short(value)}.")


def _keys(value: Mapping, keys: Sequence[str], where: str) -> None:
    for key in keys:
        if key not in value:
            raise UserError(f"{where + '.' if where else ''}{key} is missing.")


def _unit(value: Any, where: str) -> None:
    if not _is_number(value) or not 0 <= value <= 1:
        raise UserError(f"{where} must be a number between 0 and 1, not {_short(value)}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _texts(value: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, f"{where}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _texts(item, f"{where}[{index}]")


# Figures that compare methods -----------------------------------------------------------------------------------------


def leak_removed(report: Mapping, method: str, original: str = "Original") -> float:
    """Share of Original's leak that `method` removes: (leak_o - leak_x) / (leak_o - 0.5), by AUC of the worst fresh attacker.

    1 leaves an attacker at chance (noise can carry it past 1), 0 changes nothing, below 0 leaks more. NaN where Original
    itself leaks nothing.
    """
    leak_o, leak_x = _retrained(report, original)["leak_auc"], _retrained(report, method)["leak_auc"]
    return (leak_o - leak_x) / (leak_o - 0.5) if leak_o > 0.5 else math.nan


def utility_kept(report: Mapping, method: str, original: str = "Original") -> float:
    """Share of Original's utility that `method` keeps: (util_x - 0.5) / (util_o - 0.5), by AUC, same-attribute impostors.

    1 verifies as well as Original, 0 is chance. NaN where Original itself does not verify.
    """
    util_o, util_x = _retrained(report, original)["utility_auc_same"], _retrained(report, method)["utility_auc_same"]
    return (util_x - 0.5) / (util_o - 0.5) if util_o > 0.5 else math.nan


def _retrained(report: Mapping, method: str) -> Mapping:
    if method not in report["methods"]:
        raise UserError(f"The report has no method {method!r}; it has {', '.join(report['methods'])}.")
    return report["methods"][method]["retrained"]


def compare(a: Mapping, b: Mapping, tolerances: Mapping[str, float | None] | float | None = None) -> list[str]:
    """What differs between two reports, one sentence each; an empty list where they agree.

    Compared are the methods, their regimes and every number in these; not the per-seed values, nor the provenance.

    Args:
        tolerances: greatest allowed absolute difference by figure: patterns over names such as "retrained.leak_auc",
            "leak_auc" or "attackers.*"; the longest pattern that fits counts, None means not compared. They are added to
            `DEFAULT_TOLERANCES`. One number replaces the "*" of these.
    """
    given = tolerances if isinstance(tolerances, Mapping) else {} if tolerances is None else {"*": float(tolerances)}
    rules = {**DEFAULT_TOLERANCES, **given}
    found = []
    for name in [*a["methods"], *(name for name in b["methods"] if name not in a["methods"])]:
        if name not in a["methods"] or name not in b["methods"]:
            found.append(f"{name}: only the {'first' if name in a['methods'] else 'second'} report has this method.")
            continue
        for regime in ("paper", "retrained"):
            first, second = a["methods"][name].get(regime), b["methods"][name].get(regime)
            if first is None and second is None:
                continue
            if first is None or second is None:
                found.append(f"{name}: only the {'second' if first is None else 'first'} report has the {regime} regime.")
                continue
            first, second = dict(_numbers(first)), dict(_numbers(second))
            for figure in [*first, *(figure for figure in second if figure not in first)]:
                tolerance = _tolerance(rules, f"{regime}.{figure}", figure)
                if tolerance is None:
                    continue
                if figure not in first or figure not in second:
                    found.append(f"{name}: only the {'first' if figure in first else 'second'} report has {regime}.{figure}.")
                    continue
                gap = abs(first[figure] - second[figure])
                if not gap <= tolerance + 1e-12:  # also true for NaN
                    found.append(
                        f"{name}: {regime}.{figure} is {first[figure]:.4f} in the first report and {second[figure]:.4f} in the second; "
                        f"they differ by {gap:.4f}, and {tolerance:g} is allowed."
                    )
    return found


def _numbers(value: Mapping, prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _numbers(item, f"{prefix}{key}.")
        elif isinstance(item, (list, tuple)):
            yield from _numbers(dict(enumerate(item)), f"{prefix}{key}.")
        elif isinstance(item, numbers.Real) and not isinstance(item, bool):
            yield f"{prefix}{key}", float(item)


def _tolerance(rules: Mapping[str, float | None], *spellings: str) -> float | None:
    fitting = [pattern for pattern in rules if any(fnmatch.fnmatchcase(name, pattern) for name in spellings)]
    return rules[max(fitting, key=len)] if fitting else None


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


def with_interval(value: float, interval: Sequence[float] | None = None) -> str:
    """0.862 and (0.851, 0.873) as "0.862 [0.851, 0.873]"."""
    return f"{value:.3f}" if interval is None else f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def published(which: str) -> dict[str, dict[str, float]]:
    """The paper's own Table 1 for "celeba" or "vggface", as fractions of 1. Raises UserError for another name."""
    if which not in PAPER_TABLE1:
        raise UserError(f"The paper has no Table 1 for {which!r}; it has {', '.join(PAPER_TABLE1)}.")
    return PAPER_TABLE1[which]


def table(report: Mapping, paper: str | None = None, derived: bool = True) -> str:
    """Table 1 in both regimes as a Markdown table, for README, book and table.md. `TABLE_NOTE` explains its columns.

    Args:
        paper: "celeba" or "vggface" sets the paper's own accuracies beside ours, in parentheses.
        derived: with the columns leak removed and utility kept, where the report holds Original.
    """
    theirs = published(paper) if paper else {}
    derived = derived and "Original" in report["methods"]
    beside = " (the paper’s)" if paper else ""
    head = ["Method", f"Paper regime: privacy ↓{beside}", f"Paper regime: utility ↑{beside}", "Retrained: leak AUC ↓", "Worst attacker"]
    head += ["Retrained: utility AUC ↑"] + (["Leak removed ↑", "Utility kept ↑"] if derived else [])
    rows = []
    for name, method in report["methods"].items():
        retrained = method["retrained"]
        row = [name]
        for key in ("privacy_accuracy", "utility_accuracy"):
            own = (method["paper"] or {}).get(key)
            row.append(percent(own, 1) + (f" ({percent(theirs.get(name, {}).get(key), 1)})" if paper else ""))
        row.append(with_interval(retrained["leak_auc"], retrained["leak_auc_ci"]))
        row.append(retrained["worst_attacker"])
        row.append(with_interval(retrained["utility_auc_same"], retrained["utility_auc_same_ci"]))
        if derived:
            original = name == "Original"
            row += ["–", "–"] if original else [percent(leak_removed(report, name)), percent(utility_kept(report, name))]
        rows.append(row)
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    lines[1][4] = "---"  # the attacker's name is text
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
