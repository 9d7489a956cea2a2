"""The command line `aia`: run the paper, audit an anonymizer, look after data, see what a face gives away.

Whatever the user can mend ends in one line on stderr and exit status 2; Ctrl-C in status 130. Heavy imports wait until a
command needs them, so that help is quick.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import inspect
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from . import __version__
from .config import PROFILES, check_size, get_profile
from .datasets import SOURCES
from .files import UserError, explain_os_errors, write_json

RUN_HELP = """\
Trains Original, Random, AIA\\T and AIA on the people of one split, audits each on people of three others, and writes
report.json, table.md, index.html, figures and all trained models into one folder.

  paper regime      how well the adversary and the Siamese network that were trained with a method do on it
  retrained regime  how well attackers and a verifier do that were trained afresh on its finished representations

The first asks whether a method beats its own opponent, the second whether it hides anything."""

RUN_EXAMPLES = """\
examples:
  aia run --data celeba --root CelebA --profile fast --limit 1500     a first look, about a minute
  aia run --data celeba --root CelebA --seeds 3 --out runs/celeba     the paper's table, with its spread over seeds
  aia run --data celeba --root CelebA --seeds 3 --out runs/celeba --resume      goes on after it was stopped
  aia run --data folder --root my_faces --attribute glasses --alpha 0.5 --beta 1"""

AUDIT_HELP = """\
Freezes an anonymizer, trains fresh attackers and a fresh verifier on what it releases, and prints what they reach on
people whom nobody has trained on.

ANONYMIZER is a folder that save() or `aia run` wrote, or module:object, a Python function of your own:

  images, float32 tensor (N, 1, H, W) in [0, 1]  ->  representations, (N, k), as tensor or numpy array

The module is looked for in the current folder first. Train yours on the people of the split `train` only:
aia_lib.load_faces(...).split().train, with the same --data, --root, --size, --attribute, --limit and --split-seed."""

AUDIT_EXAMPLES = """\
examples:
  aia audit runs/celeba/seed-0/AIA --data celeba --root CelebA
  aia audit my_method:pixelate --data folder --root my_faces --seeds 3 --out audit.json"""

ATTRIBUTES_HELP = """\
The example on the paper's poster: an attacker trained on other people's representations says which attributes a face has,
first from the auto-encoder's representation (before), then from AIA's (after). Needs the folder of a finished `aia run`.
Behind each attribute stands how well that attacker does on the test people (AUC; 0.5 is a coin)."""


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = _Parser(
        prog="aia",
        description="Hide an attribute in face representations, then measure what still leaks.",
        epilog="`aia COMMAND --help` explains a command, with examples.",
    )
    top.add_argument("--version", action="version", version=f"aia {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    run = _command(commands, "run", "the whole paper on one source of faces", RUN_HELP, RUN_EXAMPLES)
    run.set_defaults(function=_run)
    _add_data(run)
    run.add_argument("--alpha", type=float, metavar="A", help="weight of the task in Eq. 8 (default 0.5)")
    run.add_argument("--beta", type=float, metavar="B", help="weight of the adversary in Eq. 8 (default 0.5)")
    run.add_argument("--gamma", type=float, metavar="G", help="weight of the reconstruction (default 1, as the paper)")
    run.add_argument("--adversary", choices=("alternating", "frozen"), help="does the adversary go on learning? (default alternating)")
    run.add_argument(
        "--adversary-loss", choices=("literal", "capped", "maxent"), help="what the encoder maximises (default literal, as the paper)"
    )
    run.add_argument("--attach", choices=("latent", "image"), help="adversary and Siamese read g or its reconstruction (default latent)")
    _add_profile(run)
    run.add_argument("--seeds", type=_seeds, default=[0, 1, 2], metavar="N", help="how many seeds, or which: 3, or 0,1,2 (default 3)")
    run.add_argument("--out", default="runs/aia", metavar="FOLDER", help="where everything is written (default %(default)s)")
    run.add_argument("--resume", action="store_true", help="go on with the run that --out holds")

    audit = _command(commands, "audit", "what a representation still gives away", AUDIT_HELP, AUDIT_EXAMPLES)
    audit.set_defaults(function=_audit)
    audit.add_argument("anonymizer", metavar="ANONYMIZER", help="a saved anonymizer's folder, or module:object")
    _add_data(audit)
    _add_profile(audit)
    audit.add_argument("--seeds", type=_seeds, default=[0], metavar="N", help="how many seeds, or which: 3, or 0,1,2 (default 1)")
    audit.add_argument("--out", metavar="FILE", help="write the figures as JSON, too")

    data = _command(commands, "data", "check, prepare or download a data set", "Looks after data sets.", "")
    actions = data.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = _command(actions, "check", "read a data set and say what it holds", "Reads a data set and says what it holds.", "")
    check.set_defaults(function=_check)
    _add_data(check)
    prepare = _command(actions, "prepare", "decode a data set into the cache", "Decodes a data set into the cache, once.", "")
    prepare.set_defaults(function=_prepare)
    _add_data(prepare)
    download = _command(
        actions,
        "download",
        "download CelebA",
        "Downloads CelebA (1.4 GB), for non-commercial research under its authors' terms. Nothing else here uses the network.",
        "",
    )
    download.set_defaults(function=_download)
    download.add_argument("data", choices=("celeba",), help="the data set")
    download.add_argument("--root", required=True, metavar="FOLDER", help="where to put it")
    download.add_argument(
        "--mirror", choices=("torchvision", "hub"), default="torchvision", help="the authors' drive or a hub's copy (default %(default)s)"
    )
    download.add_argument("--quiet", action="store_true", help="no progress bars")

    attributes = _command(commands, "attributes", "what attackers read off a face, before and after", ATTRIBUTES_HELP, "")
    attributes.set_defaults(function=_attributes)
    attributes.add_argument("images", nargs="+", metavar="IMAGE", help="image files, each with one upright face that fills most of it")
    attributes.add_argument("--run", required=True, metavar="FOLDER", help="the folder of a finished `aia run`")
    attributes.add_argument("--only", metavar="NAMES", help="these attributes, separated by commas (default: the best read)")
    attributes.add_argument("--out", metavar="FILE", default="attributes.png", help="the picture to write (default %(default)s)")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `aia` with `arguments` (default: those of the process); the exit status: 0, 2 for a user's error, 130 for Ctrl-C."""
    _stop_on_sigterm()
    options = parser().parse_args(arguments)
    options.argv = ["aia", *(sys.argv[1:] if arguments is None else arguments)]
    try:
        with explain_os_errors("the output"):
            options.function(options)
            sys.stdout.flush()
    except UserError as error:
        print(f"aia: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        again = f" Go on with: {shlex.join([*options.argv, '--resume'])}" if options.command == "run" and not options.resume else ""
        print(f"\naia: stopped; what was finished is kept.{again}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


# --- the parser's parts -----------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """One line on stderr for a wrong call, without the usage block that pushes it out of sight."""

    def error(self, message: str) -> None:  # type: ignore[override]
        print(f"{self.prog}: {message}. See {self.prog} --help", file=sys.stderr)
        sys.exit(2)


def _command(commands: argparse._SubParsersAction, name: str, summary: str, text: str, examples: str) -> argparse.ArgumentParser:
    return commands.add_parser(name, help=summary, description=text, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter)


def _add_data(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data", default="embedded", metavar="SOURCE", help=f"{', '.join(SOURCES)} (default %(default)s)")
    command.add_argument("--root", metavar="FOLDER", help="where the data set lies")
    command.add_argument("--attribute", default="gender", metavar="NAME", help="the private attribute (default gender, as labelled)")
    command.add_argument("--size", type=int, metavar="PIXELS", help="side of the images, a multiple of 4 (default: the profile's)")
    command.add_argument("--limit", type=int, metavar="N", help="use at most N images: whole people, chosen at random")
    command.add_argument("--split-seed", type=int, default=0, metavar="S", help="of the split by identity and of --limit (default 0)")
    command.add_argument("--quiet", action="store_true", help="no progress bars")


def _add_profile(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--profile",
        choices=tuple(PROFILES),
        help="fast: 32 pixels, a minute, for tests; book: the default; full: for a GPU. AIA_PROFILE sets another default",
    )
    command.add_argument("--device", metavar="NAME", help="cuda, mps or cpu (default: the best there is)")


def _seeds(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 1 and "," not in text and numbers[0] > 0:
        return list(range(numbers[0]))
    if len(numbers) < 2 or min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a positive number of seeds nor a list such as 0,1,2")
    return numbers


# --- the commands -----------------------------------------------------------------------------------------------------


def _load(options: argparse.Namespace, size: int | None = None):
    from .datasets import load_faces

    size = check_size(options.size or size or get_profile(getattr(options, "profile", None)).size)
    return load_faces(
        options.data,
        options.root,
        size=size,
        attribute=options.attribute,
        limit=options.limit,
        seed=options.split_seed,
        progress=not options.quiet,
    )


def _run(options: argparse.Namespace) -> None:
    profile = get_profile(options.profile)
    names = ("alpha", "beta", "gamma", "adversary", "adversary_loss", "attach")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    profile = dataclasses.replace(  # refuses what cannot be before anything is loaded
        profile, size=options.size if options.size is not None else profile.size, finetune=dataclasses.replace(profile.finetune, **given)
    )
    faces = _load(options, profile.size)
    for note in faces.notes:
        print(f"note: {note}")
    from .ledger import table
    from .run import run_paper
    from .training import pick_device

    report = run_paper(
        faces,
        profile,
        options.out,
        seeds=options.seeds,
        resume=options.resume,
        device=pick_device(options.device),
        progress=not options.quiet,
        command=options.argv,
    )
    print(f"\n{table(report)}")


def _audit(options: argparse.Namespace) -> None:
    from .audit import audit
    from .training import pick_device

    profile = get_profile(options.profile)
    anonymizer = _find_anonymizer(options.anonymizer, pick_device(options.device))
    networks = getattr(anonymizer, "networks", None)
    faces = _load(options, getattr(networks, "size", None))
    report = audit(
        anonymizer,
        faces,
        seeds=options.seeds,
        config=profile.audit,
        adversary=anonymizer.infer if networks is not None and anonymizer.attribute == faces.attribute else None,
        siamese=anonymizer.embed if networks is not None else None,
        progress=not options.quiet,
    )
    if options.out:
        write_json(options.out, report.to_dict())
    print(report)


def _find_anonymizer(name: str, device):
    """The anonymizer that `aia audit` was given: a saved one's folder, or module:object."""
    module_name, colon, path = name.partition(":")
    if not colon or os.path.isdir(name):
        from .anonymizers import load_anonymizer

        return load_anonymizer(name, device)
    sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(module_name)
        for part in path.split("."):
            found = getattr(found, part)
        if inspect.isclass(found):
            found = found()
    except ModuleNotFoundError as error:
        raise UserError(
            f"{name}: cannot import {error.name!r}. Run aia in the folder that holds {module_name.split('.')[0]}.py, or install it."
        ) from error
    except AttributeError as error:
        raise UserError(f"{name}: {error}.") from error
    except Exception as error:  # whatever the user's module raises is theirs to mend
        raise UserError(f"{name}: importing it failed with {type(error).__name__}: {error}.") from error
    if not callable(found):
        raise UserError(f"{name} is a {type(found).__name__}, not a function of images; name the function itself.")
    return found


def _check(options: argparse.Namespace) -> None:
    from .datasets import check

    print(
        check(
            options.data,
            options.root,
            size=check_size(options.size or get_profile().size),
            attribute=options.attribute,
            limit=options.limit,
            seed=options.split_seed,
            progress=not options.quiet,
        )
    )


def _prepare(options: argparse.Namespace) -> None:
    faces = _load(options)
    for note in faces.notes:
        print(f"note: {note}")
    print(f"ready: {faces}")


def _download(options: argparse.Namespace) -> None:
    from .datasets import download_celeba

    print(f"CelebA is in {download_celeba(options.root, options.mirror, progress=not options.quiet)}")


def _attributes(options: argparse.Namespace) -> None:
    import numpy as np

    from . import plots
    from .run import read_attributes, run_size
    from .training import pick_device, to_images

    size = run_size(options.run)
    pixels = np.stack([_photograph(path, size) for path in options.images])[:, None]  # (N, 1, size, size)
    images = to_images(pixels, pick_device())
    probabilities, readers, rebuilt = read_attributes(options.run, images)
    names = _chosen(options.only, readers["before"])
    columns = {which: [reader.attributes.index(name) for name in names] for which, reader in readers.items()}
    aucs = [(readers["before"].test_auc[name], readers["after"].test_auc[name]) for name in names]
    width = max(len("attribute"), *(len(name) for name in names))
    for i, path in enumerate(options.images):
        print(f"{path}\n  {'attribute':<{width}}   before    after   attacker's AUC before, after")
        for row, name in enumerate(names):
            before, after = (probabilities[which][i, columns[which][row]] for which in ("before", "after"))
            print(f"  {name:<{width}}  {before:>6.0%}   {after:>6.0%}   {aucs[row][0]:.2f}, {aucs[row][1]:.2f}")
    picture = plots.attribute_bars(
        images.cpu(),
        rebuilt.cpu(),
        {which: probabilities[which][:, columns[which]] for which in ("before", "after")},
        names,
        [Path(path).name for path in options.images],
    )
    plots.save(picture, options.out)
    print(f"picture: {options.out}")


def _photograph(path: str, size: int):
    from .datasets.cache import SkippedImage, decode

    if not os.path.isfile(path):
        raise UserError(f"{path}: no such image.")
    try:
        return decode(path, size)[0]
    except SkippedImage as error:
        raise UserError(f"{path} cannot be read as an image: {error}.") from error


def _chosen(only: str | None, reader) -> list[str]:
    """The attributes to show: those asked for, or the dozen that the attacker reads best, the private one first."""
    if only is None:
        private, *others = reader.attributes
        return [private, *sorted(others, key=lambda name: -reader.test_auc[name])[:11]]
    names = [name.strip() for name in only.split(",") if name.strip()]
    for name in names:
        if name not in reader.attributes:
            raise UserError(f"There is no attribute {name!r}; the run's readers know {', '.join(reader.attributes)}.")
    if not names:
        raise UserError(f"--only {only!r} names no attribute.")
    return names


def _stop_on_sigterm() -> None:
    """Treat a polite kill like Ctrl-C, so that a scheduler's stop ends in a checkpoint, too."""
    with contextlib.suppress(ValueError):  # not the main thread: leave signals alone
        signal.signal(signal.SIGTERM, lambda number, frame: signal.raise_signal(signal.SIGINT))


if __name__ == "__main__":
    sys.exit(main())
