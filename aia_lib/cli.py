"""The command line `aia`: run the paper, audit an anonymizer, look after data, see what a face gives away.

Whatever the user can mend ends in one line on stderr and exit status 2; Ctrl-C in status 130. Heavy imports wait until a
command needs them, so that help is quick.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import io
import os
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from . import __version__
from .cli_help import COMMANDS, EXAMPLES, HELP
from .config import Profile, check_size, get_profile
from .datasets import SOURCES, load_faces, locate
from .machine.files import UserError, explain_os_errors, write_json
from .machine.workfolder import WorkFolder, stop_on_sigterm


def parser() -> argparse.ArgumentParser:
    """The parser of all commands, made from the table `cli_help.COMMANDS`."""
    top = _Parser(prog="aia", description=HELP, epilog=EXAMPLES, formatter_class=_Help)
    top.add_argument("--version", action="version", version=f"aia {__version__}")
    commands = {"": top.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)}
    for name, command in COMMANDS.items():
        room, _, last = name.rpartition(" ")
        text = {"description": command.text, "epilog": command.examples, "help": command.summary}
        made = commands[room].add_parser(last, formatter_class=_Help, **text)
        if name in ("data", "templates"):
            commands[name] = made.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
            continue
        made.set_defaults(function=_FUNCTIONS[name], name=name)
        for title, options in command.groups.items():
            group = made.add_argument_group(title) if title else made
            for option, settings in options.items():
                group.add_argument(option, **settings)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `aia` with `arguments` (default: those of the process); the exit status: 0, 2 for a user's error, 130 for Ctrl-C."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without arrows, or a file name that is no text, costs no run
    options = parser().parse_args(arguments)
    options.argv = ["aia", *(sys.argv[1:] if arguments is None else arguments)]
    try:
        with stop_on_sigterm(), explain_os_errors("the output"):
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
    kept = {"run": "what was finished is", "sweep": "finished points are"}
    kept |= {"data render": "finished shards are", "templates extract": "what was finished is"}
    if options.name not in kept:
        return "."
    again = [*options.argv, "--resume"] if options.name == "run" and not options.resume else options.argv
    return f"; {kept[options.name]} kept. Go on with: {shlex.join(again)}"


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


# --- the commands -----------------------------------------------------------------------------------------------------


def _settings(options: argparse.Namespace, size: int) -> dict:
    """The arguments of `load_faces`; `size` is the images' side where --size says nothing."""
    data, root, sources = options.data, options.root, ", ".join(SOURCES)
    if data not in SOURCES:
        hint = f" Give this folder with --root {data}." if os.path.isdir(data) else ""
        raise UserError(f"There is no source {data!r}; choose one of {sources} for --data.{hint}")
    if data not in ("embedded", "templates") and not root:
        raise UserError(f"--data {data} needs --root FOLDER, the folder that holds its images.")
    if data == "embedded" and root is not None and not os.path.isfile(os.path.join(root, "manifest.json")):
        raise UserError(f"--root {root} holds no rendered faces; say with --data what lies there: {sources.removeprefix('embedded, ')}.")
    locate(data, root)  # a wrong folder is refused at once, too
    return {
        "source": data,
        "root": root,
        "size": check_size(options.size if options.size is not None else size),
        "attribute": options.attribute,
        "limit": options.limit,
        "seed": options.split_seed,
        "progress": not options.quiet,
    }


def _load(options: argparse.Namespace, size: int):
    """The faces; their notes are printed."""
    faces = load_faces(**_settings(options, size))
    for note in faces.notes:
        print(f"note: {note}", flush=True)
    return faces


def _profile(options: argparse.Namespace, *weights: str) -> Profile:
    """The profile with what the command line says of Eq. 8 in its fine-tuning; `weights`: of alpha and beta the single numbers."""
    profile = get_profile(options.profile)
    names = (*weights, "gamma", "adversary", "adversary_loss", "attach")
    values = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return dataclasses.replace(profile, finetune=dataclasses.replace(profile.finetune, **values))


def _surroundings(options: argparse.Namespace) -> dict:
    """What a long run takes of the command line beside its settings: the device, progress bars, the command, and where words go."""
    from .machine.device import pick_device

    say = functools.partial(print, flush=True)
    return {"device": pick_device(options.device), "progress": not options.quiet, "command": options.argv, "say": say}


def _run(options: argparse.Namespace) -> None:
    profile = _profile(options, "alpha", "beta")
    _settings(options, profile.size)  # what cannot be is refused before anything is imported or read
    _check_place(options.out)

    from .defences.settings import HardenedConfig
    from .report.ledger import table
    from .run import run_paper

    WorkFolder(options.out, "run").check(options.resume)
    surroundings = _surroundings(options)
    faces, harden = _load(options, profile.size), HardenedConfig() if options.harden else None
    dealt = {"seeds": options.seeds, "folds": options.folds, "sealed": options.sealed}
    report = run_paper(faces, profile, options.out, **dealt, resume=options.resume, harden=harden, **surroundings)
    print(f"\n{table(report)}")


def _unseal(options: argparse.Namespace) -> None:
    from .report.ledger import table
    from .run import finished_report, unseal

    faces = _load(options, finished_report(options.run)["settings"]["size"])
    print(f"\n{table(unseal(options.run, faces, **_surroundings(options)))}")


def _sweep(options: argparse.Namespace) -> None:
    profile = _profile(options)
    _settings(options, profile.size)
    _check_place(options.out)

    from .report.plots import save_picture
    from .scale import get_engine
    from .sweep import SweepConfig, parse_range, run_sweep
    from .sweep.tradeoff import check_max_leak

    config = SweepConfig(parse_range(options.alpha), parse_range(options.beta), options.grid, tuple(options.seeds), profile)
    engine = get_engine(options.engine, options.workers, options.ray_address)
    if options.max_leak is not None:
        check_max_leak(options.max_leak)
    WorkFolder(options.out, "sweep").check()
    surroundings = _surroundings(options)
    result = run_sweep(_load(options, profile.size), config, options.out, engine=engine, stack=options.stack, **surroundings)
    print(f"\n{result.summary()}")
    if options.max_leak is not None:
        print(result.recommend(options.max_leak))
        save_picture(result.figures(options.max_leak)["front"], result.folder / "figures" / "front.png")
    print(f"table: {result.folder / 'sweep.parquet'}   figures: {result.folder / 'figures'}", flush=True)
    if result.failed:
        point, reason = next(iter(result.failed.items()))
        raise UserError(
            f"{len(result.failed)} of {len(config.points())} points failed, the first of them {point}: {reason.rstrip('.')}. All others "
            "are finished and kept; the same command tries the failed ones again."
        )


def _trained_size(method: object) -> int | None:
    """The side of the images that a saved anonymizer, or the one that it wraps, was trained on; None where it takes any."""
    while method is not None:
        for part in ("networks", "encoder"):
            if size := getattr(getattr(method, part, None), "size", None):
                return size
        method = getattr(method, "base", None)
    return None


def _audit(options: argparse.Namespace) -> None:
    profile = get_profile(options.profile)
    _settings(options, profile.size)
    for name, path in (("out", options.out), ("card", options.card)):
        if path and os.path.isdir(path):
            raise UserError(f"--{name} {path} is a folder; name a file in it.")
        if path:
            _check_place(os.path.dirname(path) or ".", name)

    from .audit import DeepConfig, audit
    from .audit.card import check_name, privacy_card
    from .audit.claims import claim_lines
    from .audit.comparison import KINDS
    from .machine.device import pick_device
    from .report.ledger import described, provenance
    from .saving import find_anonymizer

    if options.card:
        check_name(options.card)
    for name in filter(None, (options.anonymizer, options.original)):
        _check_deal(options, name)
    start, device = time.monotonic(), pick_device(options.device)
    anonymizer = find_anonymizer(options.anonymizer, device)
    original = None if options.original is None else find_anonymizer(options.original, device)
    faces = _load(options, _trained_size(anonymizer) or profile.size)

    splits = faces.split(fold=options.fold, sealed=options.sealed)
    common = {"seeds": options.seeds, "config": profile.audit, "splits": splits, "progress": not options.quiet}
    deep, elsewhere = DeepConfig() if options.deep else None, None
    if options.elsewhere:
        deep, (source, _, root) = deep or DeepConfig(("others",)), options.elsewhere.partition(":")
        elsewhere = load_faces(source, root or None, size=faces.size, attribute=faces.attribute, progress=not options.quiet)
    report = audit(anonymizer, faces, deep=deep, original=original, elsewhere=elsewhere, **common)
    kinds = deep and DeepConfig(tuple(part for part in KINDS if part in deep.parts))  # the same on both, or a comparison means little
    before = None if original is None else audit(original, faces, deep=kinds, elsewhere=elsewhere, **common)
    print(report, flush=True)
    if before is not None or (options.card and not options.deep):
        print("\nCLAIMS" + (f", compared with {before.name}" if before is not None else ""))
        print(*claim_lines(report.claims(before)), sep="\n")
    if options.out:
        write_json(options.out, report.to_dict())
    if options.card:
        origin = provenance(options.argv, options.seeds, described(faces), time.monotonic() - start, device)
        print(f"card: {privacy_card(report, before, provenance=origin).save(options.card)}")


def _check_deal(options: argparse.Namespace, name: str) -> None:
    """Raise a UserError where a method out of a run is to be audited on another deal of the people than it was trained in."""
    place = Path(name).absolute()
    runs = [folder for folder in place.parents if (folder / "run.json").is_file()] if place.is_dir() else []
    for folder in runs[:1]:
        fold = next((int(part[5:]) for part in place.relative_to(folder).parts if part.startswith("fold-")), 0)
        sealed = WorkFolder(folder, "run").read()[0].get("sealed", 0.0)
        if (fold, sealed) != (options.fold, options.sealed):
            was = f"{name} was trained in fold {fold} with a share of {sealed:g} of the people sealed"
            raise UserError(f"{was}, and other people may be tested there only: give --fold {fold} --sealed {sealed:g}.")


def _check_place(folder: str, option: str = "out") -> None:
    """Raise a UserError where `folder`, given with --`option`, is no folder and cannot become one: now, not after hours of work."""
    place = next(path for path in (Path(folder).absolute(), *Path(folder).absolute().parents) if path.exists())
    if not place.is_dir():
        raise UserError(f"--{option} {folder}: {place} is a file, not a folder. Choose another place.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"--{option} {folder}: {place} cannot be written (permission denied). Choose another place.")


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

    settings = {name: getattr(options, name) for name in ("identities", "images", "size", "seed", "out", "workers", "device")}
    done = render_set(**settings, progress=not options.quiet)
    count = done.settings.identities * done.settings.images
    speed = f" ({done.images:,} now, at {done.images / done.seconds:,.0f} images/s)" if done.images else " (all were there)"
    size = f", size={done.settings.size}" if done.settings.size != 64 else ""
    print(f"{count:,} images of {done.settings.identities:,} people{speed} are in {options.out}, {done.bytes / 1e6:,.1f} MB.")
    print(f'Load them with load_faces("embedded", root={options.out!r}{size}), or --data embedded --root {shlex.quote(options.out)}')


def _download(options: argparse.Namespace) -> None:
    from .datasets import download_celeba

    print(f"CelebA is in {download_celeba(options.root, options.mirror, progress=not options.quiet)}")


def _extract(options: argparse.Namespace) -> None:
    _check_place(os.path.dirname(options.out) or ".")

    from .extraction import extract, parse_crop

    crop = None if options.crop is None else parse_crop(options.crop)
    how = {"limit": options.limit, "seed": options.split_seed, "align": options.align, "device": options.device}
    done = extract(options.data, options.root, options.out, crop=crop, progress=not options.quiet, **how)
    for note in done.notes:
        print(f"note: {note}")
    print(f"{done.templates:,} templates of {done.people:,} people are in {options.out}")


def _harden(options: argparse.Namespace) -> None:
    _check_place(os.path.dirname(options.out) or ".")
    _check_place(options.model, "model")

    from .datasets.templates import check_target
    from .protection import harden, protect

    check_target(options.out)
    first, *others = options.attribute.split(",")
    where = {"limit": options.limit, "seed": options.split_seed}
    faces = load_faces("templates", options.root, attribute=first, **where)
    for note in faces.notes:
        print(f"note: {note}", flush=True)
    how = {"components": options.components, "amount": options.amount, "seed": options.seed, "everybody": options.everybody}
    method = harden(faces, (first, *others), options.model, **how)
    count = protect(method, locate("templates", options.root), options.out)
    print(f"{count:,} protected templates are in {options.out}, and what protects others in {options.model}.")
    if not options.everybody:
        root, limit = (["--root", options.root] if options.root else []), (["--limit", str(options.limit)] if options.limit else [])
        words = ["aia", "audit", options.model, "--data", "templates", *root, *limit, "--attribute", first, "--deep"]
        print(f"Now audit it: {shlex.join(words)}")


def _protect(options: argparse.Namespace) -> None:
    _check_place(os.path.dirname(options.out) or ".")

    from .protection import protect
    from .saving import load_anonymizer

    method = load_anonymizer(options.model)
    print(f"{protect(method, locate('templates', options.root), options.out):,} protected templates are in {options.out}")


def _attributes(options: argparse.Namespace) -> None:
    _check_place(os.path.dirname(options.out) or ".")

    from .poster import check_picture, show_attributes

    check_picture(options.out, options.images)
    show_attributes(options.images, options.run, options.only, options.out)


_FUNCTIONS = {
    "run": _run,
    "unseal": _unseal,
    "sweep": _sweep,
    "audit": _audit,
    "data check": _check,
    "data prepare": _prepare,
    "data render": _render,
    "data download": _download,
    "templates extract": _extract,
    "harden": _harden,
    "protect": _protect,
    "attributes": _attributes,
}


if __name__ == "__main__":
    sys.exit(main())
