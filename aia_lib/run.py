"""The whole paper on one set of faces: train the four methods, audit them in both regimes, write report, table and figures.

Where asked for, the method that this library recommends is a fifth beside them.

Everything lies in one folder and is written as it is finished, so that a run that was killed goes on where it was:

    out/
      run.json                 what the run is: faces and settings; another run is not mixed into it
      seed-0/checkpoints/      the stages (see `training.Checkpoint`)
      seed-0/Original/ …       the trained anonymizers, for `load_anonymizer`
      seed-0/audit-Original.npz …   the finished audits, for `AuditReport.load`
      seed-0/readers/          attribute readers for `aia attributes`, of the first seed only
      fold-1/seed-0/ …         the same for every further deal of the people, without readers
      report.json table.md index.html figures/
      choices.json             what was chosen on val: attackers, verifiers, their settings
      sealed.json              what the sealed people said each time that `unseal` opened them
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .anonymizers import AIA, AIAWithoutTask, Anonymizer, Original, RandomMask
from .attributes import train_reader
from .audit import AuditReport, audit, enough_people
from .audit.comparison import paired_differences
from .config import AuditConfig, Profile, as_dict
from .defences import HardenedAIA
from .defences.hardened import FEW_PEOPLE
from .defences.settings import HardenedConfig
from .explain import gradcam
from .faces import Faces, Splits, images_only, value_words, with_attribute
from .machine.device import build, pick_device, to_images
from .machine.files import UserError, whole_number, write_json
from .machine.workfolder import WorkFolder, settings_differences
from .models import CNNAdversary
from .report import ledger, plots
from .report.page import write_report
from .saving import load_anonymizer
from .statistics import Scored
from .training import train_adversary

FOLDERS = {"Original": "Original", "Random": "Random", "AIA\\T": "AIA-without-task", "AIA": "AIA"}
"""The paper's methods in its order, and the folder each is saved in."""

HARDENED = HardenedAIA.name
"""The method beyond the paper, and the folder it is saved in. Nothing in it belongs to the paper regime."""

READERS = {"before": "Original", "after": "AIA"}
"""Whose g the attribute readers of `aia attributes` read."""

SHOWN = 6
"""Faces in the figures."""


def run_paper(
    faces: Faces,
    profile: Profile,
    out: str | Path,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    folds: int = 1,
    sealed: float = 0.0,
    attribute: str | None = None,
    resume: bool = False,
    harden: HardenedConfig | None = None,
    device: torch.device | None = None,
    progress: bool = True,
    command: Sequence[str] = ("aia_lib.run.run_paper",),
    say: Callable[[str], None] = print,
) -> dict:
    """Train and audit Original, Random, AIA\\T and AIA on `faces`, once a seed, and write everything into `out`.

    Args:
        faces: all of them; trained on the split train, audited on the others.
        profile: the settings of all stages and of the audit.
        out: the folder; made if needed.
        seeds: a training and an audit each; the split of the people is the same for all.
        folds: how often the people are dealt out, see `Faces.split`; everything is trained and audited anew in each, with every seed, and
            the report is over all of them.
        sealed: share of the people that no fold touches; `unseal` opens them.
        attribute: the private one; None takes the faces' own.
        resume: take up what `out` holds of the same run. More seeds may be asked for than before.
        harden: settings of `defences.HardenedAIA`, which is then trained and audited beside the paper's methods; None leaves it out. A
            finished run takes it up with `resume`.
        device: None takes the best there is.
        progress: show progress bars.
        command: how the run was called, for its provenance.
        say: is given one line for each step.

    Returns:
        The report, as in report.json.

    Raises:
        UserError: `out` holds a run and `resume` is off, or holds another run; the faces are too few; the disk is full.
    """
    images_only(faces, "The paper's method")
    faces = with_attribute(faces, attribute)
    profile = dataclasses.replace(profile, size=faces.size)  # so that the settings tell the truth
    # Before anything slow: this can refuse, and so can the audits, which come after hours of training.
    splits = [faces.split(fold=fold, sealed=sealed) for fold in range(whole_number("The number of folds", folds))]
    for parts in splits:
        enough_people(parts)
    if sealed:
        enough_people(splits[0].opened(), f"sealed share of {sealed:g}")
    device = device or pick_device()
    folder = WorkFolder(out, "run")
    deal = {"folds": folds, "sealed": sealed} if folds > 1 or sealed else {}
    settings = {"faces": faces.fingerprint, "split_seed": faces.split_seed, "attribute": faces.attribute, **as_dict(profile), **deal}
    with folder.writing(settings, resume):
        return _write([_Run(folder, faces, parts, profile, harden, device, progress, say) for parts in splits], seeds, command, deal)


def _write(runs: Sequence[_Run], seeds: Sequence[int], command: Sequence[str], deal: dict) -> dict:
    """Do what is not done yet in each fold, and write the report."""
    run = runs[0]
    faces, splits, profile, harden, say = run.faces, run.splits, run.profile, run.harden, run.say
    sizes = ", ".join(f"{name} {len(part):,}" for name, part in splits._asdict().items())
    sizes += f", sealed {len(splits.sealed):,}" if splits.sealed else ""
    say(f"{faces}; {sizes} images{f', in the first of {len(runs)} folds' if len(runs) > 1 else ''}; on {run.device}")
    if harden is not None and splits.train.people < FEW_PEOPLE:
        say(f"note: {splits.train.people} people to learn from; with fewer than {FEW_PEOPLE} {HARDENED} hides less and verifies worse")

    audits = [of_fold.seed(seed) for of_fold in runs for seed in seeds]
    merged = {name: AuditReport.merge([by_method[name] for by_method in audits]) for name in audits[0]}
    run.readers(seeds[0])
    figures = run.figures(seeds[0], merged)
    run.folder.note()
    report = {
        "provenance": ledger.provenance(list(command), list(seeds), ledger.described(faces), run.folder.seconds, run.device),
        "settings": {"attribute": faces.attribute, **as_dict(profile), **deal, **({"hardened": as_dict(harden)} if harden else {})},
        "methods": {name: report.to_dict() for name, report in merged.items()},
        "differences": paired_differences(merged),
    }
    figures = {
        "regimes": ("Two regimes", plots.regimes(report), "Circles: the networks trained with the method. Squares: trained afresh."),
        "attackers": ("Every attacker", plots.attackers(report), "A method hides an attribute only as well as its worst attacker says."),
        **figures,
    }
    write_json(run.folder.path / "choices.json", {"choices": [choice for pooled in merged.values() for choice in pooled.choices()]})
    links = [("Every choice on val", "choices.json")]
    places = [(of_fold.splits.fold, seed) for of_fold in runs for seed in seeds]
    links += [(f"{_words(*place)}: trained models and audits", f"{_place(*place).as_posix()}/") for place in places]
    say(str(write_report(report, run.folder.path, figures, links)))
    return report


def _words(fold: int, seed: int) -> str:
    return f"fold {fold}, seed {seed}" if fold else f"seed {seed}"


def _place(fold: int, seed: int) -> Path:
    """Where a fold's and seed's models and audits lie in the folder of the run."""
    return Path(*[f"fold-{fold}"] * (fold > 0), f"seed-{seed}")


@dataclass
class _Run:
    """A fold of a run on its way: what it is made from, the run's folder, and its anonymizers by seed and method."""

    folder: WorkFolder
    faces: Faces
    splits: Splits
    profile: Profile
    harden: HardenedConfig | None
    device: torch.device
    progress: bool
    say: Callable[[str], None]
    methods: dict[int, dict[str, Anonymizer]] = field(default_factory=dict)

    def seed(self, seed: int) -> dict[str, AuditReport]:
        """Train and audit every method with `seed`, or load what is finished; the audits by method."""
        folder, train = self.folder.path / _place(self.splits.fold, seed), self.splits.train
        words = _words(self.splits.fold, seed)
        common = {"folder": folder / "checkpoints", "progress": self.progress}
        methods: dict[str, Anonymizer] = {}
        makers = {
            "Original": lambda: Original(self.profile, seed, self.device).fit(train, **common),
            "Random": lambda: RandomMask(methods["Original"], seed=seed),
            "AIA\\T": lambda: AIAWithoutTask(self.profile, seed, self.device).fit(train, start=methods["Original"], **common),
            "AIA": lambda: AIA(self.profile, seed, self.device).fit(train, start=methods["Original"], **common),
        }
        if self.harden is not None:
            makers[HARDENED] = lambda: HardenedAIA(self.harden, seed, self.device).fit(train, **common)
        audits: dict[str, AuditReport] = {}
        for name, make in makers.items():
            place = folder / FOLDERS.get(name, HARDENED)
            if (place / "anonymizer.json").exists():
                methods[name] = load_anonymizer(place, self.device)
                if name == HARDENED and (differences := settings_differences(as_dict(methods[name].config), as_dict(self.harden))):
                    raise UserError(
                        f"{place} holds a {HARDENED} with other settings ({'; '.join(differences)}). Use its settings, or choose "
                        "another --out."
                    )
            else:
                self.say(f"{words}: training {name}")
                methods[name] = make()
                methods[name].save(place)
                self.folder.note()
            saved = folder / f"audit-{place.name}.npz"
            if saved.exists():
                audits[name] = AuditReport.load(saved)
            else:
                self.say(f"{words}: auditing {name}")
                options = {"config": self.profile.audit, "splits": self.splits, "progress": self.progress}
                audits[name] = audit(methods[name], self.faces, seeds=[seed], **options)
                audits[name].save(saved)
                self.folder.note()
            self.say(f"{words}: {name:<8}  {_in_short(audits[name])}")
        self.methods[seed] = methods
        return audits

    def readers(self, seed: int) -> None:
        """Train the readers of `aia attributes`, where they are missing."""
        folder = self.folder.path / f"seed-{seed}" / "readers"
        for which, name in READERS.items():
            if not (folder / f"{which}.json").exists():
                self.say(f"reading every attribute off {name}")
                train_reader(self.methods[seed][name], self.faces, seed, self.splits).save(folder, which)

    def figures(self, seed: int, merged: dict[str, AuditReport]) -> dict[str, tuple[str, plots.Picture, str]]:
        """The figures of one seed: name to title, picture and caption."""
        shown = self.splits.test.subset(_some_of_both(self.splits.test))
        images = to_images(np.asarray(shown.images), self.device)  # (6, 1, H, W)
        rebuilt = {name: method.decode(method(images)) for name, method in self.methods[seed].items()}
        words = value_words(shown.attribute)
        columns = [f"labelled {words[int(label)]}" for label in shown.labels()]

        self.say("training the classifier of images that Grad-CAM explains")
        classifier = build(lambda: CNNAdversary((1, shown.size, shown.size)), self.device, seed, "image-classifier")
        stage = {
            "seed": seed,
            "folder": self.folder.path / f"seed-{seed}" / "checkpoints",
            "name": "image-classifier",
            "progress": self.progress,
        }
        train_adversary(self.splits.train, classifier, lambda x: x, self.profile.adversary, **stage)
        # HiResCAM at the third convolution: exact for this classifier, see `explain`
        maps = {
            label: gradcam(classifier, shots, classifier.convs[2], method="hirescam")
            for label, shots in {"image": images, "AIA's reconstruction": rebuilt["AIA"]}.items()
        }
        scores = {name: report.scores[0] for name, report in merged.items()}
        leak = {name: _roc_points(entry.leak) for name, entry in scores.items()}
        verification = {name: _roc_points(entry.free) for name, entry in scores.items()}
        pairs = scores["AIA"].same
        distances = {"one person": pairs.scores[~pairs.positive], "two people, same label": pairs.scores[pairs.positive]}
        return {
            "faces": (
                "What a decoder makes of g",
                plots.faces_grid({"photograph": images, **rebuilt}, columns),
                "What people see says nothing about what attackers read.",
            ),
            "gradcam": (
                "Where a classifier finds its evidence",
                plots.gradcam_panel(images, rebuilt["AIA"], maps, columns=columns, positive=words[1]),
                "Evidence in units of the logit, on one scale; the classifier was trained on photographs.",
            ),
            "roc-attackers": (
                "The worst fresh attacker",
                plots.roc(leak, title=f"Reading {shown.attribute!r} as labelled"),
                "One seed; the diagonal is a coin.",
            ),
            "roc-verification": ("The fresh verifier", plots.roc(verification, title="Verification, free impostors"), "One seed."),
            "distances": (
                "Distances of AIA's pairs",
                plots.score_histograms(distances),
                "The fresh verifier, impostors with the same label; one seed.",
            ),
            "training": ("Training", plots.training_curves(self.methods[seed]["AIA"].history), "Means per epoch, one seed."),
        }


def finished_report(run: str | Path) -> dict:
    """The report of the finished run in the folder `run`. UserError where it holds none."""
    path = Path(run) / "report.json"
    if not path.exists():
        if (path.parent / "run.json").exists():
            raise UserError(f"The run in {run} is not finished (no report.json); go on with it: the same `aia run` with --resume.")
        raise UserError(f"{run} holds no finished run (no report.json); make one with: aia run --out {run}")
    report = ledger.read(path)
    if "size" not in report.get("settings", {}) or not isinstance(report["provenance"]["data"], dict):
        raise UserError(f"{path} is not the report of an `aia run`; give the folder of one.")
    return report


def unseal(
    run: str | Path,
    faces: Faces,
    *,
    device: torch.device | None = None,
    progress: bool = True,
    command: Sequence[str] = ("aia_lib.run.unseal",),
    say: Callable[[str], None] = print,
) -> dict:
    """Open the sealed people of a finished run: audit its saved methods on them, and add the figures to its sealed.json.

    The same attackers are trained on attack and chosen on val as in the run, in each fold and with each seed; the sealed people stand in
    the place of test. An opening is written down before anything is read, so that one which is stopped counts, too.

    Args:
        run: the folder of a finished run with a share of `sealed`.
        faces: those of the run.
        device, progress, command, say: as for `run_paper`.

    Returns:
        The opening, as in sealed.json: {"opened_before", "provenance", "methods"}, the methods as in report.json.

    Raises:
        UserError: `run` holds no finished run, nothing is sealed in it, or it is of other faces; sealed.json is damaged.
    """
    folder, report, device = WorkFolder(run, "run"), finished_report(run), device or pick_device()
    settings = report["settings"]
    if not settings.get("sealed"):
        raise UserError(f"Nobody is sealed in the run in {run}; seal a share of the people when a run begins: aia run --sealed 0.1")
    config, path = AuditConfig(**{**settings["audit"], "attackers": tuple(settings["audit"]["attackers"])}), folder.path / "sealed.json"
    with folder.alone():
        (before, _), now = folder.read(), {"faces": faces.fingerprint, "split_seed": faces.split_seed, "attribute": faces.attribute}
        folder.compare({key: before.get(key) for key in now}, now)
        try:
            openings = json.loads(path.read_text(encoding="utf-8"))["openings"] if path.exists() else []
            opening = {"opened_before": len(openings)}
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged ({error}); it says how often the sealed people were opened. Restore it.") from error

        def write(**more: Any) -> None:
            seconds = time.monotonic() - started
            origin = ledger.provenance(list(command), report["provenance"]["seeds"], ledger.described(faces), seconds, device)
            opening.update(provenance=origin, **more)
            write_json(path, {"openings": [*openings, opening]})

        started = time.monotonic()
        write(methods=None)
        splits = [faces.split(fold=fold, sealed=settings["sealed"]).opened() for fold in range(settings["folds"])]
        merged = {}
        for name, method in report["methods"].items():
            audits = []
            for fold, seed in ((entry.get("fold", 0), entry["seed"]) for entry in method["seeds"]):
                say(f"{_words(fold, seed)}: auditing {name} on the sealed people")
                anonymizer = load_anonymizer(folder.path / _place(fold, seed) / FOLDERS.get(name, HARDENED), device)
                audits.append(audit(anonymizer, faces, seeds=[seed], config=config, splits=splits[fold], progress=progress))
            merged[name] = AuditReport.merge(audits).to_dict()
        write(methods=merged)
    times = f"{len(openings) + 1} times so far" if openings else "for the first time"
    say(f"THE SEAL IS BROKEN: these {splits[0].test.people:,} people were opened {times}. What is chosen from now on needs other people.")
    return opening


def _in_short(report: AuditReport) -> str:
    paper, retrained = report.paper, report.retrained
    first = "no paper regime"
    if paper is not None:
        first = f"paper regime: privacy {paper['privacy_accuracy']:.1%}, utility {paper['utility_accuracy']:.1%}"
    return f"{first}   retrained: leak AUC {retrained['leak_auc']:.3f}, utility AUC {retrained['utility_auc_same']:.3f}"


def _some_of_both(faces: Faces) -> np.ndarray:
    """Rows of SHOWN images, half of each label, of different people."""
    _, first = np.unique(faces.identity, return_index=True)
    labels = faces.labels()[first]
    return np.concatenate([first[labels == value][: SHOWN // 2] for value in (0, 1)])


def _roc_points(entry: Scored) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(entry.positive, entry.scores)
    return false, true
