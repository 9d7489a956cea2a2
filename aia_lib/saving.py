"""The only room that knows all kinds of anonymizers: saving them, and loading what was saved."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .anonymizers import AIA, Networks, Original, RandomMask
from .config import PROFILES, Profile
from .defences.compact import Compact
from .defences.erasers import ERASERS
from .defences.erasure import Erased
from .defences.noise import CertifiedNoise
from .machine.files import UserError, sha256
from .machine.stage import Checkpoint, load_module

if TYPE_CHECKING:
    from .defences import CertifiedNoise, Compact, Erased, HardenedAIA


def restore(
    checkpoint: Checkpoint, tensors: dict[str, Tensor], state: dict, device: torch.device | None, key: bytes | None
) -> Compact | Erased | CertifiedNoise | HardenedAIA:
    """The defence that `load_anonymizer` has found in `checkpoint`, its tensors and state read; what it wraps is loaded here.

    Raises:
        UserError: as `load_anonymizer`; what it wraps is missing, or not what was saved with it.
    """

    folder, base = checkpoint.folder, None
    if "base" in state:
        index = folder / "base" / "anonymizer.json"
        if not index.exists() or sha256(index) != state["base"]:
            raise UserError(f"{index} is missing or not the one that was saved with {checkpoint.index}. Save the anonymizer again.")
        base = load_anonymizer(folder / "base", device, key)
    try:
        kind = state["kind"]
        if kind == "Compact":
            made: Compact | Erased | CertifiedNoise | HardenedAIA = Compact.restore(state, device)
        elif kind == "Erased":
            erasers = [ERASERS[own["kind"]](**{k: v for k, v in own.items() if k != "kind"}) for own in state["erasers"]]
            made = Erased(base, tuple(erasers), state["seed"])
        elif kind == "CertifiedNoise":
            if not state["own_key"] and not state["fresh"] and key is None:
                raise UserError(
                    f"The noise in {folder} was made with a secret key, which is never written: load_anonymizer(folder, key=...)."
                )
            made = CertifiedNoise(base, state["mu"], state["clip"], state["fresh"], None if state["own_key"] else key, state["seed"])
        elif kind == "HardenedAIA":
            made = HardenedAIA.restore(state, base, device)
        else:
            raise KeyError(kind)
    except (KeyError, TypeError) as error:
        raise UserError(f"{checkpoint.index} is not an anonymizer that this version of aia_lib can read ({error!r}).") from error
    if isinstance(made, Erased):
        for i, eraser in enumerate(made.erasers):
            eraser.tensors = {key.removeprefix(f"eraser{i}."): value for key, value in tensors.items() if key.startswith(f"eraser{i}.")}
    elif isinstance(made, CertifiedNoise):
        made.centre = tensors["noise.centre"]
    else:
        for name, module in made.parts().items():
            load_module(module, tensors, name, checkpoint.index)
            module.eval()
    attribute = state["attribute"]
    made.attribute = tuple(attribute) if isinstance(attribute, list) else attribute  # JSON knows no tuples
    if hasattr(made, "history"):
        made.history = state["history"]
    return made


PRETRAINED = ("original", "aia")
"""What `load_pretrained` knows."""


def load_anonymizer(
    folder: str | Path, device: torch.device | None = None, key: bytes | None = None
) -> Original | AIA | RandomMask | Compact | Erased | CertifiedNoise | HardenedAIA:
    """The anonymizer that `save` wrote into `folder`: one of the paper's four, or a defence.

    Args:
        folder: what was passed to `save`.
        device: where its networks live; None takes the best there is.
        key: that of a `CertifiedNoise` which was made with one; keys are never written.

    Raises:
        UserError: there is none, it was made by something else, its files are truncated or changed (SHA-256), or it needs a key.
    """
    checkpoint = Checkpoint(folder, "anonymizer")
    loaded = checkpoint.load()
    if loaded is None:
        raise UserError(f"There is no saved anonymizer in {folder}: {checkpoint.index.name} is missing. Pass a folder that save() wrote.")
    tensors, state = loaded
    kind = state.get("kind")
    if kind not in ("Original", "AIA", "RandomMask"):
        pass  # the defences wrap anonymizers: this module comes before them

        return restore(checkpoint, tensors, state, device, key)
    try:
        arguments, described = state["arguments"], state["networks"]
        nets = Networks(**described, device=device)
        name = arguments["profile"]  # one of ours, or a user's own, of whose settings only the name is kept
        profile = dataclasses.replace(PROFILES.get(name, Profile()), name=name, size=nets.size)
        if kind == "AIA":
            made = AIA(profile, state["seed"], device, **arguments["finetune"])
        else:
            made = Original(profile, state["seed"], device)
    except (KeyError, TypeError) as error:
        raise UserError(f"{checkpoint.index} is not an anonymizer that this version of aia_lib can read ({error!r}).") from error
    for name, module in nets.modules().items():
        load_module(module, tensors, name, checkpoint.index)
        module.eval()
    made.networks, made.attribute, made.history = nets, state["attribute"], state["history"]
    if kind == "RandomMask":
        return RandomMask(made, arguments["per_image"], arguments["share"], state["seed"])
    return made


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
