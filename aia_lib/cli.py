"""The command line `aia`: run the paper, audit an anonymizer, look after data, see what a face gives away.

Whatever the user can mend ends in one line on stderr and exit status 2; Ctrl-C in status 130. Heavy imports wait until a
command needs them, so that help is quick.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import importlib
import inspect
import io
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import __version__
from .attributes import PICTURED, SHOWN, _chosen, _face, _photograph, _shortened, _words
from .cli_help import (
    ATTRIBUTES_EXAMPLES,
    ATTRIBUTES_HELP,
    AUDIT_EXAMPLES,
    AUDIT_HELP,
    CHECK_EXAMPLES,
    CHECK_HELP,
    DATA_HELP,
    DOWNLOAD_EXAMPLES,
    DOWNLOAD_HELP,
    EXAMPLES,
    HELP,
    PREPARE_EXAMPLES,
    PREPARE_HELP,
    RENDER_EXAMPLES,
    RENDER_HELP,
    RUN_EXAMPLES,
    RUN_HELP,
    SWEEP_EXAMPLES,
    SWEEP_HELP,
)
from .config import PROFILES, Profile, check_size, get_profile
from .datasets import SOURCES
from .machine.files import UserError, explain_os_errors, write_json
from .report import face_plots

MAX_SEEDS = 1000


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = _Parser(prog="aia", description=HELP, epilog=EXAMPLES, formatter_class=_Help)
    top.add_argument("--version", action="version", version=f"aia {__version__}")
    commands = top.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)

    run = _command(commands, "run", "the whole paper on one source of faces", RUN_HELP, RUN_EXAMPLES)
    run.set_defaults(function=_run)
    _add_data(run)
    method = run.add_argument_group("the method (Eq. 8 of the paper)")
    method.add_argument("--alpha", type=float, metavar="A", help="weight of the task (default 0.5)")
    method.add_argument("--beta", type=float, metavar="B", help="weight of the adversary (default 0.5)")
    _add_method(method)
    how = _add_how(run, default="3", seeds=[0, 1, 2])
    how.add_argument("--out", default="runs/aia", metavar="FOLDER", help="where everything is written (default %(default)s)")
    how.add_argument("--resume", action="store_true", help="go on with the run that --out holds")
    how.add_argument("--harden", action="store_true", help="also the method that this library recommends, HardenedAIA")

    sweep = _command(commands, "sweep", "the trade-off: many weights, each audited", SWEEP_HELP, SWEEP_EXAMPLES)
    sweep.set_defaults(function=_sweep)
    _add_data(sweep)
    method = sweep.add_argument_group("the method (Eq. 8 of the paper)")
    method.add_argument("--alpha", default="0:1:0.1", metavar="RANGE", help="weights of the task (default %(default)s)")
    method.add_argument("--beta", default="0:1:0.1", metavar="RANGE", help="weights of the adversary (default %(default)s)")
    method.add_argument(
        "--grid", choices=("cross", "full"), default="cross", metavar="HOW", help="cross, the paper's Fig. 2, or full (default %(default)s)"
    )
    _add_method(method)
    how = _add_how(sweep, default="3", seeds=[0, 1, 2])
    how.add_argument(
        "--engine",
        default="local",
        metavar="NAME",
        help="where the points are done: local, in processes here, or ray (default %(default)s)",
    )
    how.add_argument("--workers", type=int, metavar="N", help="points at once (default: one for each core)")
    how.add_argument(
        "--ray-address",
        metavar="HOST:PORT",
        help="a Ray cluster's head node, or auto for the Ray that runs here (default RAY_ADDRESS, else Ray is started here)",
    )
    how.add_argument("--stack", type=int, metavar="P", help="train P points as one program (default: 1, on a GPU 24)")
    how.add_argument("--max-leak", type=float, metavar="AUC", help="name the setting with the most utility that leaks at most this")
    how.add_argument("--out", default="runs/sweep", metavar="FOLDER", help="where everything is written (default %(default)s)")

    audit = _command(commands, "audit", "what a representation still gives away", AUDIT_HELP, AUDIT_EXAMPLES)
    audit.set_defaults(function=_audit)
    audit.add_argument("anonymizer", metavar="ANONYMIZER", help="a saved anonymizer's folder, or module:object")
    _add_data(audit)
    more = audit.add_argument_group("more questions")
    more.add_argument(
        "--deep",
        action="store_true",
        help="also: bits, more data, other attributes, rebuilt faces, attackers who know the defence; several times as long",
    )
    more.add_argument("--original", metavar="ANONYMIZER", help="audit this one, too, and compare")
    how = _add_how(audit, default="1", seeds=[0])
    how.add_argument("--out", metavar="FILE", help="write the figures as JSON, too")
    how.add_argument("--card", metavar="FILE", help="write a privacy card: which claims hold; .md, .html or .json")

    data = _command(commands, "data", "check, prepare, render or download a data set", DATA_HELP, "`aia data ACTION --help` has examples.")
    actions = data.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    check = _command(actions, "check", "read a data set and say what it holds", CHECK_HELP, CHECK_EXAMPLES)
    check.set_defaults(function=_check)
    _add_data(check)
    prepare = _command(actions, "prepare", "decode a data set into the cache", PREPARE_HELP, PREPARE_EXAMPLES)
    prepare.set_defaults(function=_prepare)
    _add_data(prepare)
    render = _command(actions, "render", "render faces of nobody", RENDER_HELP, RENDER_EXAMPLES)
    render.set_defaults(function=_render)
    render.add_argument("--identities", type=int, required=True, metavar="N", help="how many people")
    render.add_argument("--images", type=int, default=10, metavar="K", help="images of each, at least 2 (default %(default)s)")
    render.add_argument(
        "--size", type=int, default=64, metavar="PIXELS", help="side of the images, a multiple of 8 from 32 to 256 (default %(default)s)"
    )
    render.add_argument("--seed", type=int, default=0, metavar="S", help="seed of everything that is drawn (default %(default)s)")
    render.add_argument("--out", required=True, metavar="FOLDER", help="where to write the set, or to go on with it")
    render.add_argument("--workers", type=int, metavar="N", help="processes on the CPU (default: one for each core)")
    render.add_argument(
        "--device", default="auto", metavar="NAME", help="cuda, cpu or auto, the GPU where there is one (default %(default)s)"
    )
    render.add_argument("--quiet", action="store_true", help="no progress bar")
    download = _command(actions, "download", "download CelebA", DOWNLOAD_HELP, DOWNLOAD_EXAMPLES)
    download.set_defaults(function=_download)
    download.add_argument("data", choices=("celeba",), metavar="SOURCE", help="celeba, the only one that can be downloaded")
    download.add_argument("--root", required=True, metavar="FOLDER", help="where to put it")
    download.add_argument(
        "--mirror",
        choices=("torchvision", "hub"),
        metavar="NAME",
        default="torchvision",
        help="torchvision: its authors' drive; hub: a hub's copy (default %(default)s)",
    )
    download.add_argument("--quiet", action="store_true", help="no progress bars")

    attributes = _command(commands, "attributes", "what attackers read off a face, before and after", ATTRIBUTES_HELP, ATTRIBUTES_EXAMPLES)
    attributes.set_defaults(function=_attributes)
    attributes.add_argument("images", nargs="+", metavar="IMAGE", help="image files, each with one upright face that fills most of it")
    attributes.add_argument("--run", required=True, metavar="FOLDER", help="the folder of a finished `aia run`")
    attributes.add_argument(
        "--only", metavar="NAMES", help=f"these attributes, separated by commas (default: the private one and the {SHOWN - 1} read best)"
    )
    attributes.add_argument("--out", metavar="FILE", default="attributes.png", help="the picture to write (default %(default)s)")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `aia` with `arguments` (default: those of the process); the exit status: 0, 2 for a user's error, 130 for Ctrl-C."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without arrows, or a file name that is no text, costs no run
    options = parser().parse_args(arguments)
    options.argv = ["aia", *(sys.argv[1:] if arguments is None else arguments)]
    try:
        with _stop_on_sigterm(), explain_os_errors("the output"):
            options.function(options)
            sys.stdout.flush()
    except UserError as error:
        return _complain(str(error))
    except KeyboardInterrupt:
        return _complain(f"stopped{_what_is_kept(options)}", status=130)
    except BrokenPipeError:  # the reader of our output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # of the machine: a failing disk, a folder that vanished, too many open files
        return _complain(f"{error.filename or 'a file'}: {error.strerror or error}.")
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "out of memory" not in str(error) and "can't allocate memory" not in str(error):
            raise
        return _complain("out of memory. Take a smaller --size or --limit, or --device cpu where it was a GPU's.")
    return 0


def _complain(message: str, status: int = 2) -> int:
    """One line on stderr, whatever the message holds; below a progress bar where there is one."""
    bar = sys.stderr.isatty() and status == 130  # the terminal has written ^C there
    print("\n" * bar + f"aia: {' '.join(message.split())}", file=sys.stderr)
    return status


def _what_is_kept(options: argparse.Namespace) -> str:
    if getattr(options, "action", None) == "render":
        return f"; finished shards are kept. Go on with: {shlex.join(options.argv)}"
    if options.command == "sweep":
        return f"; finished points are kept. Go on with: {shlex.join(options.argv)}"
    if options.command != "run":
        return "."
    again = options.argv if options.resume else [*options.argv, "--resume"]
    return f"; what was finished is kept. Go on with: {shlex.join(again)}"


# --- the parser's parts -----------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """One line on stderr for a wrong call, without the usage block that pushes it out of sight."""

    def error(self, message: str) -> None:  # type: ignore[override]
        print(f"{self.prog}: {' '.join(message.split())}. See {self.prog} --help", file=sys.stderr)
        sys.exit(2)


class _Help(argparse.RawDescriptionHelpFormatter):
    """Help of at most 90 columns, with the commands listed as plainly as the options."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=24, width=min(shutil.get_terminal_size((90, 24)).columns, 90) - 2)

    def _format_action(self, action: argparse.Action) -> str:
        if isinstance(action, argparse._SubParsersAction):
            return "".join(self._format_action(command) for command in action._get_subactions())
        return super()._format_action(action)


def _command(commands: argparse._SubParsersAction, name: str, summary: str, text: str, examples: str) -> argparse.ArgumentParser:
    return commands.add_parser(name, help=summary, description=text, epilog=examples, formatter_class=_Help)


def _add_data(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("the faces")
    group.add_argument("--data", default="embedded", metavar="SOURCE", help=f"one of {', '.join(SOURCES)} (default %(default)s)")
    group.add_argument("--root", metavar="FOLDER", help="where the data set lies; every source but embedded needs it")
    group.add_argument(
        "--attribute", default="gender", metavar="NAME", help="the private attribute (default gender, as labelled in the data set)"
    )
    group.add_argument(
        "--size", type=int, metavar="PIXELS", help="side of the images, a multiple of 4 (default 64; 32 in the profile fast)"
    )
    group.add_argument("--limit", type=int, metavar="N", help="use at most N images, of whole people chosen at random (default all)")
    group.add_argument("--split-seed", type=int, default=0, metavar="S", help="seed of the split by identity and of --limit (default 0)")
    group.add_argument("--quiet", action="store_true", help="no progress bars")


def _add_method(group: argparse._ArgumentGroup) -> None:
    """What of Eq. 8 a run and a sweep have in common."""
    group.add_argument("--gamma", type=float, metavar="G", help="weight of the reconstruction (default 1, the paper's)")
    group.add_argument(
        "--adversary",
        choices=("alternating", "frozen"),
        metavar="HOW",
        help="alternating: the adversary goes on learning; frozen: only the auto-encoder moves (default alternating)",
    )
    group.add_argument(
        "--adversary-loss",
        choices=("literal", "capped", "maxent"),
        metavar="LOSS",
        help="what the encoder maximises: literal, as in the paper; capped at an even coin's loss; maxent (default literal)",
    )
    group.add_argument(
        "--attach",
        choices=("latent", "image"),
        metavar="WHERE",
        help="adversary and Siamese network read g (latent) or its reconstruction (image) (default latent)",
    )


def _add_how(command: argparse.ArgumentParser, default: str, seeds: list[int]) -> argparse._ArgumentGroup:
    group = command.add_argument_group("how long, and where to")
    group.add_argument(
        "--profile",
        choices=tuple(PROFILES),
        metavar="NAME",
        help="fast: 32 pixels, a minute, for tests; book: 64 pixels, for a CPU; full: for a GPU (default AIA_PROFILE, else book)",
    )
    group.add_argument("--device", metavar="NAME", help="cuda, mps or cpu (default: the best there is)")
    group.add_argument(
        "--seeds", type=_seeds, default=seeds, metavar="N", help=f"how many seeds, as 3, or which, as 0,1,2 (default {default})"
    )
    return group


def _seeds(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) == 1 and "," not in text and 0 < numbers[0] <= MAX_SEEDS:
        return list(range(numbers[0]))
    if len(numbers) < 2 or min(numbers) < 0 or max(numbers) >= 2**31 or len(set(numbers)) < len(numbers):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of seeds, 1 to {MAX_SEEDS}, nor a list such as 0,1,2")
    return numbers


# --- the commands -----------------------------------------------------------------------------------------------------


def _settings(options: argparse.Namespace, size: int) -> dict:
    """The arguments of `load_faces`; `size` is the images' side where --size says nothing."""
    sources = ", ".join(SOURCES)
    if options.data not in SOURCES:
        hint = f" Give this folder with --root {options.data}." if os.path.isdir(options.data) else ""
        raise UserError(f"There is no source {options.data!r}; choose one of {sources} for --data.{hint}")
    if options.data != "embedded" and not options.root:
        raise UserError(f"--data {options.data} needs --root FOLDER, the folder that holds its images.")
    if options.data == "embedded" and options.root is not None and not os.path.isfile(os.path.join(options.root, "manifest.json")):
        raise UserError(
            f"--root {options.root} holds no rendered faces, so it needs --data, which says what lies there: one of "
            f"{sources.removeprefix('embedded, ')}."
        )
    SOURCES[options.data].locate(options.root)  # a wrong folder is refused at once, too
    return {
        "source": options.data,
        "root": options.root,
        "size": check_size(options.size if options.size is not None else size),
        "attribute": options.attribute,
        "limit": options.limit,
        "seed": options.split_seed,
        "progress": not options.quiet,
    }


def _load(options: argparse.Namespace, size: int):
    """The faces; their notes are printed."""
    from .datasets import load_faces

    faces = load_faces(**_settings(options, size))
    for note in faces.notes:
        print(f"note: {note}", flush=True)
    return faces


def _profile(options: argparse.Namespace, *weights: str) -> Profile:
    """The profile with what was given of Eq. 8 in its fine-tuning; `weights`: of alpha and beta those that are single numbers."""
    profile = get_profile(options.profile)
    names = (*weights, "gamma", "adversary", "adversary_loss", "attach")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return dataclasses.replace(profile, finetune=dataclasses.replace(profile.finetune, **given))


def _run(options: argparse.Namespace) -> None:
    profile = _profile(options, "alpha", "beta")
    _settings(options, profile.size)  # what cannot be is refused before anything is imported or read
    _check_place(options.out)

    from .defences.settings import HardenedConfig
    from .machine.device import pick_device
    from .report.ledger import table
    from .run import check_out, run_paper

    check_out(options.out, options.resume)
    device = pick_device(options.device)
    faces = _load(options, profile.size)
    report = run_paper(
        faces,
        dataclasses.replace(profile, size=faces.size),
        options.out,
        seeds=options.seeds,
        resume=options.resume,
        harden=HardenedConfig() if options.harden else None,
        device=device,
        progress=not options.quiet,
        command=options.argv,
        say=functools.partial(print, flush=True),
    )
    print(f"\n{table(report)}")


def _sweep(options: argparse.Namespace) -> None:
    profile = _profile(options)
    _settings(options, profile.size)
    _check_place(options.out)

    from .machine.device import pick_device
    from .machine.folder import WorkFolder
    from .report.plots import save
    from .sweep import SweepConfig, get_engine, parse_range, run_sweep
    from .sweep.tradeoff import check_max_leak

    config = SweepConfig(parse_range(options.alpha), parse_range(options.beta), options.grid, tuple(options.seeds), profile)
    engine = get_engine(options.engine, options.workers, options.ray_address)
    if options.max_leak is not None:
        check_max_leak(options.max_leak)
    WorkFolder(options.out, "sweep").check()
    device = pick_device(options.device)
    result = run_sweep(
        _load(options, profile.size),
        config,
        options.out,
        engine=engine,
        stack=options.stack,
        device=device,
        progress=not options.quiet,
        command=options.argv,
        say=functools.partial(print, flush=True),
    )
    print(f"\n{result.summary()}")
    if options.max_leak is not None:
        print(result.recommend(options.max_leak))
        save(result.figures(options.max_leak)["front"], result.folder / "figures" / "front.png")
    print(f"table: {result.folder / 'sweep.parquet'}   figures: {result.folder / 'figures'}", flush=True)
    if result.failed:
        point, reason = next(iter(result.failed.items()))
        raise UserError(
            f"{len(result.failed)} of {len(config.points())} points failed, the first of them {point}: {reason.rstrip('.')}. All others "
            "are finished and kept; the same command tries the failed ones again."
        )


def _own_size(method: object) -> int | None:
    """The side of the images that a saved anonymizer was trained on, or the one that it wraps; None where it takes any."""
    while method is not None:
        for part in ("networks", "encoder"):
            if size := getattr(getattr(method, part, None), "size", None):
                return size
        method = getattr(method, "base", None)
    return None


def _audit(options: argparse.Namespace) -> None:
    profile = get_profile(options.profile)
    _settings(options, profile.size)
    for name, example in (("out", "audit.json"), ("card", "card.html")):
        if path := getattr(options, name):
            if os.path.isdir(path):
                raise UserError(f"--{name} {path} is a folder; name a file, such as {os.path.join(path, example)}.")
            _check_place(os.path.dirname(path) or ".", name)

    from .audit import audit
    from .audit.card import check_name, privacy_card
    from .audit.claims import claim_lines
    from .machine.device import pick_device
    from .report.ledger import provenance

    if options.card:
        check_name(options.card)
    start, device = time.monotonic(), pick_device(options.device)
    anonymizer = _find_anonymizer(options.anonymizer, device)
    original = None if options.original is None else _find_anonymizer(options.original, device)
    faces = _load(options, _own_size(anonymizer) or profile.size)

    common = {"seeds": options.seeds, "config": profile.audit, "progress": not options.quiet}
    report = audit(anonymizer, faces, deep=options.deep, original=original, **common)
    before = None if original is None else audit(original, faces, **common)
    print(report, flush=True)
    claims = report.claims(before)
    if before is not None or (options.card and not options.deep):
        print("\nCLAIMS" + (f", compared with {before.name}" if before is not None else ""))
        print(*claim_lines(claims), sep="\n")
    if options.out:
        write_json(options.out, report.to_dict())
    if options.card:
        data = {"source": faces.source, "images": len(faces), "people": faces.people, "size": faces.size, "attribute": faces.attribute}
        origin = provenance(options.argv, options.seeds, data, time.monotonic() - start, device)
        print(f"card: {privacy_card(report, before, provenance=origin).save(options.card)}")


def _check_place(folder: str, option: str = "out") -> None:
    """Raise a UserError where `folder`, given with --`option`, is no folder and cannot become one: now, not after hours of work."""
    place = next(path for path in (Path(folder).absolute(), *Path(folder).absolute().parents) if path.exists())
    if not place.is_dir():
        raise UserError(f"--{option} {folder}: {place} is a file, not a folder. Choose another place.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"--{option} {folder}: {place} cannot be written (permission denied). Choose another place.")


def _find_anonymizer(name: str, device):
    """The anonymizer that `aia audit` was given: a saved one's folder, or module:object."""
    module_name, colon, path = name.partition(":")
    if os.path.isdir(name):
        from .saving import load_anonymizer

        if not os.path.exists(os.path.join(name, "anonymizer.json")) and (
            saved := sorted(str(found.parent) for found in Path(name).glob("seed-*/*/anonymizer.json"))
        ):
            raise UserError(f"{name} is the folder of a whole run; choose one of its anonymizers: {', '.join(saved[:8])}.")
        return load_anonymizer(name, device)
    module_name = module_name.removesuffix(".py").replace("/", ".")  # my_method.py:pixelate is plain enough
    if not colon or not module_name or not path:
        raise UserError(
            f"{name!r} is neither a folder that `aia run` or save() wrote nor module:object, such as my_method:pixelate for the function "
            "pixelate in my_method.py."
        )
    sys.path.insert(0, os.getcwd())
    try:
        found = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if module_name == error.name or module_name.startswith(f"{error.name}."):
            file = f"{error.name.replace('.', os.sep)}.py"
            raise UserError(
                f"{name}: there is no module {error.name!r}. Run aia in the folder that holds {file}, or install it."
            ) from error
        raise UserError(f"{name}: {module_name} needs the module {error.name!r}, which is not installed. Install it.") from error
    except (Exception, SystemExit) as error:  # whatever the user's module raises is theirs to mend
        raise UserError(f"{name}: importing {module_name} failed with {type(error).__name__}: {error}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise UserError(f"{name}: {module_name} has no {path!r}. Name a function that {getattr(found, '__file__', found)} defines.")
        found = getattr(found, part)
    if inspect.isclass(found):
        try:
            found = found()
        except Exception as error:
            raise UserError(
                f"{name}: making a {path} without arguments failed with {type(error).__name__}: {error}. Name one made in the module."
            ) from error
    if not callable(found):
        raise UserError(f"{name} is no function of images but of type {type(found).__name__}. Name the function itself.")
    return found


def _check(options: argparse.Namespace) -> None:
    from .datasets import summarise

    summary = summarise(**_settings(options, get_profile().size))
    print(summary, flush=True)
    if summary.problem:
        raise UserError(summary.problem)


def _prepare(options: argparse.Namespace) -> None:
    print(f"ready: {_load(options, get_profile().size)}")


def _render(options: argparse.Namespace) -> None:
    from aia_render.store import render_set

    done = render_set(
        options.identities,
        options.images,
        options.size,
        options.seed,
        out=options.out,
        workers=options.workers,
        device=options.device,
        progress=not options.quiet,
    )
    count = done.settings.identities * done.settings.images
    speed = f" ({done.images:,} now, at {done.images / done.seconds:,.0f} images/s)" if done.images else " (all were there)"
    size = f", size={done.settings.size}" if done.settings.size != 64 else ""
    print(f"{count:,} images of {done.settings.identities:,} people{speed} are in {options.out}, {done.bytes / 1e6:,.1f} MB.")
    print(f'Load them with load_faces("embedded", root={options.out!r}{size}), or --data embedded --root {shlex.quote(options.out)}')


def _download(options: argparse.Namespace) -> None:
    from .datasets import download_celeba

    print(f"CelebA is in {download_celeba(options.root, options.mirror, progress=not options.quiet)}")


# --- aia attributes ---------------------------------------------------------------------------------------------------


def _attributes(options: argparse.Namespace) -> None:
    _check_picture(options.out, options.images)
    for path in options.images:
        if not os.path.isfile(path):
            raise UserError(f"{path}: there is no such image.")

    import numpy as np

    from .machine.device import pick_device, to_images
    from .report import plots
    from .run import read_attributes, run_size, run_source

    size, source = run_size(options.run), run_source(options.run)
    pixels = np.stack([_photograph(path, size, source) for path in options.images])[:, None]  # (N, 1, size, size)
    images = to_images(pixels, pick_device())
    probabilities, readers, rebuilt = read_attributes(options.run, images)
    names = _chosen(options.only, readers["before"])
    chosen = {which: probabilities[which][:, [reader.attributes.index(name) for name in names]] for which, reader in readers.items()}
    aucs = [tuple(reader.test_auc[name] for reader in readers.values()) for name in names]  # before, after

    for i, path in enumerate(options.images):
        print(f"{path}\n{_face(names, chosen['before'][i], chosen['after'][i], aucs)}\n")
    if options.only is None and len(names) < len(readers["before"].attributes):
        print(
            f"Shown are {len(names)} of {len(readers['before'].attributes)} attributes, those that can be read best; --only names others."
        )
    picture = face_plots.attribute_bars(
        images[:PICTURED].cpu(),
        rebuilt[:PICTURED].cpu(),
        {which: values[:PICTURED] for which, values in chosen.items()},
        ["male (as labelled)" if name == "gender" else _words(name) for name in names],
        [_shortened(Path(path).name) for path in options.images[:PICTURED]],
    )
    plots.save(picture, options.out)
    more = f" (the first {PICTURED} faces)" if len(options.images) > PICTURED else ""
    print(f"picture: {options.out}{more}")


def _check_picture(out: str, images: Sequence[str]) -> None:
    """Raise a UserError where the picture cannot be `out`: not a PNG, a folder, or one of the photographs themselves."""
    if not out.lower().endswith(".png") or os.path.isdir(out):
        raise UserError(f"--out {out}: the picture is a PNG file; choose a name that ends in .png.")
    if os.path.exists(out) and any(os.path.exists(path) and os.path.samefile(out, path) for path in images):
        raise UserError(f"--out {out} is one of the photographs and would be overwritten. Choose another name.")
    _check_place(os.path.dirname(out) or ".")


# --- signals ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _stop_on_sigterm() -> Iterator[None]:
    """Inside, a polite kill is treated like Ctrl-C, so that a scheduler's stop ends in a checkpoint, too."""

    def stop(number: int, frame: object) -> None:
        if signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, None):  # a background job of a script: Ctrl-C is not for it, this is
            raise KeyboardInterrupt
        signal.raise_signal(signal.SIGINT)

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread: leave signals alone
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
