"""The only room that knows all kinds of anonymizers: saving them, and loading what was saved."""

from __future__ import annotations

import dataclasses
import inspect
import os
import pkgutil
import sys
from pathlib import Path

import torch
from torch import Tensor

from .anonymizers import AIA, Anonymizer, Networks, Original, RandomMask
from .config import PROFILES, Profile
from .defences import CertifiedNoise, Compact, Erased, HardenedAIA
from .defences.base import Defence
from .machine.files import UserError, sha256
from .machine.stage import Checkpoint, load_module

DEFENCES: dict[str, type[Defence]] = {kind.__name__: kind for kind in (Compact, Erased, CertifiedNoise, HardenedAIA)}

PRETRAINED = ("original", "aia")
"""What `load_pretrained` knows."""


def load_anonymizer(folder: str | Path, device: torch.device | None = None) -> Original | AIA | RandomMask | Defence:
    """The anonymizer that `save` wrote into `folder`: one of the paper's four, or a defence.

    Args:
        folder: what was passed to `save`.
        device: where its networks live; None takes the best there is.

    Raises:
        UserError: there is none, it was made by something else, its files are truncated or changed (SHA-256).
    """
    checkpoint = Checkpoint(folder, "anonymizer")
    loaded = checkpoint.load()
    if loaded is None:
        raise UserError(f"There is no saved anonymizer in {folder}: {checkpoint.index.name} is missing. Pass a folder that save() wrote.")
    tensors, state = loaded
    try:
        return (_defence if state["kind"] in DEFENCES else _papers)(checkpoint, tensors, state, device)
    except (KeyError, TypeError) as error:
        raise UserError(f"{checkpoint.index} is not an anonymizer that this version of aia_lib can read ({error!r}).") from error


def _defence(checkpoint: Checkpoint, tensors: dict[str, Tensor], state: dict, device: torch.device | None) -> Defence:
    folder, base = checkpoint.folder, None
    if "base" in state:
        index = folder / "base" / "anonymizer.json"
        if not index.exists() or sha256(index) != state["base"]:
            raise UserError(f"{index} is missing or not the one that was saved with {checkpoint.index}. Save the anonymizer again.")
        base = load_anonymizer(folder / "base", device)
    made = DEFENCES[state["kind"]].restore(state, base, device)
    for name, part in made.parts().items():
        if isinstance(part, dict):
            part |= {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
        else:
            load_module(part, tensors, name, checkpoint.index)
            part.eval()
    attribute = state["attribute"]
    made.attribute = tuple(attribute) if isinstance(attribute, list) else attribute  # JSON knows no tuples
    made.history = state["history"]
    return made


def _papers(checkpoint: Checkpoint, tensors: dict[str, Tensor], state: dict, device: torch.device | None) -> Original | AIA | RandomMask:
    kind = {"Original": Original, "AIA": AIA, "RandomMask": RandomMask}[state["kind"]]
    arguments, nets = state["arguments"], Networks(**state["networks"], device=device)
    name = arguments["profile"]  # one of ours, or a user's, of whose settings only the name is kept
    profile = dataclasses.replace(PROFILES.get(name, Profile()), name=name, size=nets.size)
    made = AIA(profile, state["seed"], device, **arguments["finetune"]) if kind is AIA else Original(profile, state["seed"], device)
    for name, module in nets.modules().items():
        load_module(module, tensors, name, checkpoint.index)
        module.eval()
    made.networks, made.attribute, made.history = nets, state["attribute"], state["history"]
    return RandomMask(made, arguments["per_image"], arguments["share"], state["seed"]) if kind is RandomMask else made


def load_pretrained(name: str, device: torch.device | None = None) -> Original | AIA:
    """A method that ships with the package, trained on the embedded faces at 64 px: "original" (stages 1 to 3) or "aia" (Eq. 8 too).

    Their people are those of the split `train` of `load_faces("embedded")`; aia_lib/checkpoints/manifest.json says how they were made.

    Raises:
        UserError: there is none of that name, or its files are missing or changed.
    """
    root = Path(__file__).parent / "checkpoints"
    if name not in PRETRAINED:
        raise UserError(f"There is no pretrained method {name!r}; there are {', '.join(PRETRAINED)}.")
    return load_anonymizer(root / name, device)


def find_anonymizer(name: str, device: torch.device | None = None) -> Anonymizer:
    """The anonymizer that a name stands for: a folder that `save` wrote, or module:object, looked for in the current folder first.

    Raises:
        UserError: it is neither, or the module fails.
    """
    if os.path.isdir(name):
        saved = sorted(str(path.parent) for path in Path(name).glob("seed-*/*/anonymizer.json"))
        if saved and not os.path.exists(os.path.join(name, "anonymizer.json")):
            raise UserError(f"{name} is the folder of a whole run; choose one of its anonymizers: {', '.join(saved[:8])}.")
        return load_anonymizer(name, device)
    module, _, path = name.partition(":")
    module = module.removesuffix(".py").replace("/", ".")  # my_method.py:pixelate is plain enough
    if not module or not path:
        raise UserError(
            f"{name!r} is neither a folder that `aia run` or save() wrote nor module:object, such as my_method:pixelate for the function "
            "pixelate in my_method.py."
        )
    sys.path.insert(0, os.getcwd())
    try:
        method = pkgutil.resolve_name(f"{module}:{path}")
        method = method() if inspect.isclass(method) else method
    except ModuleNotFoundError as error:
        raise UserError(f"{name}: {error}. Install it, or run aia in the folder that holds {error.name}.py.") from error
    except (Exception, SystemExit) as error:  # whatever the user's module raises is theirs to mend
        words = f"{type(error).__name__}: {error}"
        raise UserError(f"{name} cannot be had: {words}. Name a function of {module}.py, or a class that takes no arguments.") from error
    if not callable(method):
        raise UserError(f"{name} is no function of images but of type {type(method).__name__}. Name the function itself.")
    return method
