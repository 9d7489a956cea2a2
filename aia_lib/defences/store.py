"""Saving and loading the defences: each writes itself, and what it wraps into the folder `base` inside its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..anonymizers import AIA, Original, RandomMask, load_anonymizer
from ..files import UserError, sha256
from ..training import Checkpoint, load_module
from .compact import Compact
from .erasure import ERASERS, Erased
from .noise import CertifiedNoise

if TYPE_CHECKING:
    from .hardened import HardenedAIA


def save(anonymizer: Compact | Erased | CertifiedNoise | HardenedAIA, folder: str | Path) -> None:
    """Write `anonymizer` into `folder`: first what it wraps, then its own tensors, last the index that names both.

    Raises:
        UserError: it wraps something that cannot be saved, or the folder cannot be written.
    """
    folder, state = Path(folder), {}
    tensors: dict[str, Tensor] = {}
    for name, part in anonymizer.parts().items():
        own = part.state_dict() if isinstance(part, nn.Module) else part
        tensors |= {f"{name}.{key}": value for key, value in own.items()}
    base = getattr(anonymizer, "base", None)
    if base is not None:
        if not hasattr(base, "save"):
            raise UserError(f"{type(base).__name__} has no save(folder), so what wraps it cannot be saved either; save it your own way.")
        base.save(folder / "base")
        state["base"] = sha256(folder / "base" / "anonymizer.json")
    Checkpoint(folder, "anonymizer").save(
        tensors,
        kind=type(anonymizer).__name__,
        attribute=anonymizer.attribute,
        seed=anonymizer.seed,
        history=getattr(anonymizer, "history", {}),
        **anonymizer.describe(),
        **state,
    )


def load_defence(
    folder: str | Path, device: torch.device | None = None, key: bytes | None = None
) -> Compact | Erased | CertifiedNoise | HardenedAIA | Original | AIA | RandomMask:
    """`load_anonymizer` under another name: what `save` wrote into `folder`, a defence or one of the paper's four."""
    return load_anonymizer(folder, device, key)


def restore(
    checkpoint: Checkpoint, tensors: dict[str, Tensor], state: dict, device: torch.device | None, key: bytes | None
) -> Compact | Erased | CertifiedNoise | HardenedAIA:
    """The defence that `load_anonymizer` has found in `checkpoint`, its tensors and state read; what it wraps is loaded here.

    Raises:
        UserError: as `load_anonymizer`; what it wraps is missing, or not what was saved with it.
    """
    from .hardened import HardenedAIA

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
                raise UserError(f"The noise in {folder} was made with a secret key, which is never written: load_defence(folder, key=...).")
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
