"""The whole paper on one set of faces: train the four methods, audit them in both regimes, write report, table and figures.

Where asked for, the method that this library recommends is a fifth beside them.

Everything lies in one folder and is written as it is finished, so that a run that was killed goes on where it was:

    out/
      run.json                 what the run is: faces and settings; another run is not mixed into it
      seed-0/checkpoints/      the stages (see `training.Checkpoint`)
      seed-0/Original/ …       the trained anonymizers, for `load_anonymizer`
      seed-0/audit-Original.npz …   the finished audits, for `AuditReport.load`
      seed-0/readers/          attribute readers for `aia attributes`, of the first seed only
      report.json table.md index.html figures/
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from .anonymizers import AIA, AIAWithoutTask, Original, RandomMask
from .attributes import AttributeReader, train_reader
from .audit import AuditReport, audit, enough_people
from .config import Profile, as_dict
from .defences import HardenedAIA
from .defences.hardened import FEW_PEOPLE
from .defences.settings import HardenedConfig
from .explain import gradcam
from .faces import Faces, Splits, value_words, with_attribute
from .machine.device import build, pick_device, to_images
from .machine.files import UserError, write_json
from .machine.folder import settings_differences
from .models import CNNAdversary
from .report import face_plots, plots
from .report.ledger import provenance, read
from .report.page import write_report
from .saving import load_anonymizer
from .training import train_adversary

FOLDERS = {"Original": "Original", "Random": "Random", "AIA\\T": "AIA-without-task", "AIA": "AIA"}
"""The paper's methods in its order, and the folder each is saved in."""

HARDENED = HardenedAIA.name
"""The method beyond the paper, and the folder it is saved in. Nothing in it belongs to the paper regime."""

READERS = {"before": "Original", "after": "AIA"}
"""Whose g the attribute readers of `aia attributes` read."""

SHOWN = 6
"""Faces in the figures."""


@dataclass(frozen=True)
class _Trained:
    """The anonymizers of one seed and their audits, by method."""

    methods: dict[str, Original | AIA | RandomMask | HardenedAIA]
    audits: dict[str, AuditReport]


def run_paper(
    faces: Faces,
    profile: Profile,
    out: str | Path,
    *,
    seeds: Sequence[int] = (0, 1, 2),
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
    out = Path(out)
    faces = with_attribute(faces, attribute)
    profile = dataclasses.replace(profile, size=faces.size)  # so that the settings tell the truth
    splits = faces.split()  # before anything slow: this can refuse,
    enough_people(splits)  # and so can the audits, which come after hours of training
    device = device or pick_device()
    clock = _open(out, faces, profile, resume)
    sizes = ", ".join(f"{name} {len(part):,}" for name, part in splits._asdict().items())
    say(f"{faces}; {sizes} images; on {device}")
    if harden is not None and splits.train.people < FEW_PEOPLE:
        say(f"note: {splits.train.people} people to learn from; with fewer than {FEW_PEOPLE} {HARDENED} hides less and verifies worse")

    trained: dict[int, _Trained] = {}
    for seed in seeds:
        trained[seed] = _run_seed(faces, splits.train, profile, harden, out / f"seed-{seed}", seed, device, progress, say, clock)
    merged = {name: AuditReport.merge([trained[seed].audits[name] for seed in seeds]) for name in trained[seeds[0]].audits}

    for which, name in READERS.items():
        folder = out / f"seed-{seeds[0]}" / "readers"
        if not (folder / f"{which}.json").exists():
            say(f"reading every attribute off {name}")
            train_reader(trained[seeds[0]].methods[name], faces, seeds[0]).save(folder, which)
    figures = _figures(splits, profile, out, trained[seeds[0]], merged, seeds[0], device, progress, say)
    clock.stop()

    data = {"source": faces.source, "images": len(faces), "people": faces.people, "size": faces.size}
    data |= {"attribute": faces.attribute, "licence": faces.licence, "fingerprint": faces.fingerprint[:16]}
    report = {
        "provenance": provenance(list(command), list(seeds), data, clock.seconds, device),
        "settings": {"attribute": faces.attribute, **as_dict(profile), **({} if harden is None else {"hardened": as_dict(harden)})},
        "methods": {name: report.to_dict() for name, report in merged.items()},
    }
    figures = {
        "regimes": ("Two regimes", plots.regimes(report), "Circles: the networks trained with the method. Squares: trained afresh."),
        "attackers": ("Every attacker", plots.attackers(report), "A method hides an attribute only as well as its worst attacker says."),
        **figures,
    }
    entries = []  # title, file, caption and alternative text of each, as the page takes them
    for name, (title, picture, caption) in figures.items():
        plots.save(picture, out / "figures" / f"{name}.png")
        entries.append((title, f"{name}.png", caption, plots.alt_text(picture)))
    links = [(f"seed {seed}: trained models and audits", f"seed-{seed}/") for seed in seeds]
    page = write_report(report, out, entries, links=links)
    say(f"{page}")
    return report


# --- the folder -------------------------------------------------------------------------------------------------------


class _Clock:
    """Seconds of work on a run, over all its sessions; noted in run.json each time something is finished."""

    def __init__(self, path: Path, state: dict) -> None:
        self.path, self.state, self._before, self._start = path, state, state.get("seconds", 0.0), time.monotonic()
        self._stopped = False

    @property
    def seconds(self) -> float:
        """Wall time so far."""
        return self._before if self._stopped else self._before + time.monotonic() - self._start

    def note(self) -> None:
        """Write the time down."""
        write_json(self.path, {**self.state, "seconds": self.seconds})

    def stop(self) -> None:
        """Write the time down and stop counting."""
        self._before, self._stopped = self.seconds, True
        self.note()


def check_out(out: str | Path, resume: bool) -> None:
    """Raise a UserError where a run must not be written into `out`: it holds a run and `resume` is off, or it holds something else."""
    out = Path(out)
    if (out / "run.json").exists():
        if not resume:
            raise UserError(f"{out} already holds a run. Add --resume to go on with it, or choose another --out.")
    elif out.is_dir() and any(path.suffix != ".part" for path in out.iterdir()):  # .part: of a run killed while it wrote run.json
        raise UserError(f"{out} is not empty and holds no run. Choose another --out.")


def _open(out: Path, faces: Faces, profile: Profile, resume: bool) -> _Clock:
    """Start a run in `out`, or take up the one it holds."""
    check_out(out, resume)
    path = out / "run.json"
    run = {"faces": faces.fingerprint, "split_seed": faces.split_seed, "attribute": faces.attribute, **as_dict(profile)}
    state = {"run": run}
    if path.exists():
        try:
            state = json.loads(path.read_text(encoding="utf-8"))
            before, state["seconds"] = dict(state["run"]), float(state.get("seconds", 0.0))
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} is damaged ({error}); choose another --out, or remove that folder.") from error
        if before != run:
            differences = "; ".join(settings_differences(before, run))
            raise UserError(f"{out} holds another run ({differences}). Use its settings, or choose another --out.")
    write_json(path, state)
    return _Clock(path, state)


# --- one seed ---------------------------------------------------------------------------------------------------------


def _run_seed(
    faces: Faces,
    train: Faces,
    profile: Profile,
    harden: HardenedConfig | None,
    folder: Path,
    seed: int,
    device: torch.device,
    progress: bool,
    say: Callable[[str], None],
    clock: _Clock,
) -> _Trained:
    common = {"folder": folder / "checkpoints", "progress": progress}
    original = Original(profile, seed, device)
    makers = {
        "Original": lambda: original.fit(train, **common),
        "Random": lambda: RandomMask(original, seed=seed),
        "AIA\\T": lambda: AIAWithoutTask(profile, seed, device).fit(train, start=original, **common),
        "AIA": lambda: AIA(profile, seed, device).fit(train, start=original, **common),
    }
    if harden is not None:
        makers[HARDENED] = lambda: HardenedAIA(harden, seed, device).fit(train, **common)
    methods: dict[str, Original | AIA | RandomMask | HardenedAIA] = {}
    audits: dict[str, AuditReport] = {}
    for name, make in makers.items():
        place = folder / FOLDERS.get(name, HARDENED)
        if (place / "anonymizer.json").exists():
            methods[name] = load_anonymizer(place, device)
            if name == "Original":
                original = methods[name]
            if name == HARDENED and (differences := settings_differences(as_dict(methods[name].config), as_dict(harden))):
                raise UserError(
                    f"{place} holds a {HARDENED} with other settings ({'; '.join(differences)}). Use its settings, or choose another --out."
                )
        else:
            say(f"seed {seed}: training {name}")
            methods[name] = make()
            methods[name].save(place)
            clock.note()
        saved = folder / f"audit-{place.name}.npz"
        if saved.exists():
            audits[name] = AuditReport.load(saved)
        else:
            say(f"seed {seed}: auditing {name}")
            audits[name] = audit(methods[name], faces, seeds=[seed], config=profile.audit, progress=progress)
            audits[name].save(saved)
            clock.note()
        retrained, paper = audits[name].retrained, audits[name].paper
        first = "no paper regime"
        if paper is not None:
            first = f"paper regime: privacy {paper['privacy_accuracy']:.1%}, utility {paper['utility_accuracy']:.1%}"
        then = f"retrained: leak AUC {retrained['leak_auc']:.3f}, utility AUC {retrained['utility_auc_same']:.3f}"
        say(f"seed {seed}: {name:<8}  {first}   {then}")
    return _Trained(methods, audits)


# --- the figures ------------------------------------------------------------------------------------------------------


def _figures(
    splits: Splits,
    profile: Profile,
    out: Path,
    first: _Trained,
    merged: dict[str, AuditReport],
    seed: int,
    device: torch.device,
    progress: bool,
    say: Callable[[str], None],
) -> dict[str, tuple[str, plots.Picture, str]]:
    """The figures of one seed: name to title, picture and caption."""
    shown = splits.test.subset(_some_of_both(splits.test))
    images = to_images(np.asarray(shown.images), device)  # (6, 1, H, W)
    rebuilt = {name: method.decode(method(images)) for name, method in first.methods.items()}
    words = value_words(shown.attribute)
    columns = [f"labelled {words[int(label)]}" for label in shown.labels()]

    say("training the classifier of images that Grad-CAM explains")
    classifier = build(lambda: CNNAdversary((1, shown.size, shown.size)), device, seed, "image-classifier")
    folder = out / f"seed-{seed}" / "checkpoints"
    train_adversary(
        splits.train, classifier, lambda x: x, profile.adversary, seed=seed, folder=folder, name="image-classifier", progress=progress
    )
    # HiResCAM at the third convolution: exact for this classifier, see `explain`
    maps = {
        label: gradcam(classifier, shots, classifier.convs[2], method="hirescam")
        for label, shots in {"image": images, "AIA's reconstruction": rebuilt["AIA"]}.items()
    }
    scores = {name: report.scores for name, report in merged.items()}
    roc = {name: _roc_points(own[0].free.scores, own[0].free.positive) for name, own in scores.items()}
    leak = {name: _roc_points(own[0].leak.scores, own[0].leak.positive) for name, own in scores.items()}
    aia = scores["AIA"][0].same
    return {
        "faces": (
            "What a decoder makes of g",
            face_plots.faces_grid({"photograph": images, **rebuilt}, columns),
            "What people see says nothing about what attackers read.",
        ),
        "gradcam": (
            "Where a classifier finds its evidence",
            face_plots.gradcam_panel(images, rebuilt["AIA"], maps, columns=columns, positive=words[1]),
            "Evidence in units of the logit, on one scale; the classifier was trained on photographs.",
        ),
        "roc-attackers": (
            "The worst fresh attacker",
            plots.roc(leak, title=f"Reading {shown.attribute!r} as labelled"),
            "One seed; the diagonal is a coin.",
        ),
        "roc-verification": ("The fresh verifier", plots.roc(roc, title="Verification, free impostors"), "One seed."),
        "distances": (
            "Distances of AIA's pairs",
            plots.score_histograms({"one person": aia.scores[~aia.positive], "two people, same label": aia.scores[aia.positive]}),
            "The fresh verifier, impostors with the same label; one seed.",
        ),
        "training": ("Training", plots.training_curves(first.methods["AIA"].history), "Means per epoch, one seed."),
    }


def _some_of_both(faces: Faces) -> np.ndarray:
    """Rows of SHOWN images, half of each label, of different people."""
    _, first = np.unique(faces.identity, return_index=True)
    labels = faces.labels()[first]
    return np.concatenate([first[labels == value][: SHOWN // 2] for value in (0, 1)])


def _roc_points(scores: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.metrics import roc_curve

    false, true, _ = roc_curve(positive, scores)
    return false, true


def run_size(out: str | Path) -> int:
    """The images' side in pixels of the finished run in `out`. UserError where it holds none."""
    return _finished(out)["settings"]["size"]


def run_source(out: str | Path) -> str:
    """The source of the faces of the finished run in `out`. UserError where it holds none."""
    return _finished(out)["provenance"]["data"]["source"]


def _finished(out: str | Path) -> dict:
    path = Path(out) / "report.json"
    if not path.exists():
        if (path.parent / "run.json").exists():
            raise UserError(f"The run in {out} is not finished (no report.json); go on with it: the same `aia run` with --resume.")
        raise UserError(f"{out} holds no finished run (no report.json); make one with: aia run --out {out}")
    report = read(path)
    if "size" not in report.get("settings", {}) or not isinstance(report["provenance"]["data"], dict):
        raise UserError(f"{path} is not the report of an `aia run`; give the folder of one.")
    return report


def read_attributes(out: str | Path, images: torch.Tensor) -> tuple[dict[str, np.ndarray], dict[str, AttributeReader], torch.Tensor]:
    """What attackers read off images before and after anonymization, with the models of a finished run.

    Args:
        out: the folder of the run.
        images: float (N, 1, size, size) in [0, 1], of the run's size.

    Returns:
        probabilities: "before" and "after" to float32 (N, attributes); the readers, likewise; AIA's reconstructions (N, 1, size, size).

    Raises:
        UserError: the folder holds no finished run.
    """
    out = Path(out)
    folder = out / f"seed-{_finished(out)['provenance']['seeds'][0]}"
    probabilities, readers = {}, {}
    for which, name in READERS.items():
        anonymizer = load_anonymizer(folder / FOLDERS[name])
        readers[which] = AttributeReader.load(folder / "readers", which)
        g = anonymizer(images)
        probabilities[which] = readers[which].probabilities(g.cpu())
    return probabilities, readers, anonymizer.decode(g)
