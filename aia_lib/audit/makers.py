"""A reader's attackers: resolved by name, object, module or function, and called as the library's are."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from torch import Tensor, nn

from ..attackers import ATTACKERS, LIBRARY, Attacker, AttackSet, SklearnAttacker, TorchAttacker
from ..config import AuditConfig
from ..machine.files import UserError

_TAKES = (
    "a name in attackers.ATTACKERS, a scikit-learn classifier with decision_function or predict_proba, a torch module that gives one "
    "logit an image, an attacker with fit(train, val, seed) and score(data), or a function of an AuditConfig that makes one"
)


class _OneLogit(nn.Module):
    """A module as a network (B, ...) -> (B,), for `TorchAttacker`: (B, 1) is squeezed, of two classes (B, 2) the difference is taken."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, inputs: Tensor) -> Tensor:
        logits = self.module(inputs)
        if logits.ndim == 2 and logits.shape[1] in (1, 2):
            logits = logits[:, -1] - (logits[:, 0] if logits.shape[1] == 2 else 0)
        if logits.shape != (len(inputs),):
            raise ValueError(f"the module must give one logit an image, shape ({len(inputs)},), not {tuple(logits.shape)}")
        return logits


def training(module: nn.Module, reads: str) -> Callable[[AuditConfig], Attacker]:
    """The attacker that trains a copy of `module`, from the weights that it has; it reads this field of `AttackSet`."""
    return lambda config: TorchAttacker(
        lambda train: _OneLogit(copy.deepcopy(module)), reads=reads, epochs=config.epochs, min_steps=config.min_steps
    )


def as_makers(attackers: Any) -> dict[str, Callable[[AuditConfig], Attacker]]:
    """Attackers in any of their forms, mixed, to functions that make one: what `audit(attackers=...)` takes.

    Args:
        attackers: a list, or a mapping from names of your choice, of names in `ATTACKERS`, scikit-learn classifiers or pipelines with
            `decision_function` or `predict_proba`, torch modules (features float32 (B, k) to one logit an image, (B,) or (B, 1), trained
            from the weights that they have), attackers, and functions of an `AuditConfig` that make one. Each seed fits a copy.
            Estimators and modules read the features, or the field of `AttackSet` that their `reads` names.

    Raises:
        UserError: there is none, or an item is none of these.
    """
    if not isinstance(attackers, (Mapping, list, tuple)):
        raise UserError(f"attackers must be a list or a mapping, not {_shown(attackers)}; put it into brackets: [{_shown(attackers)}].")
    if not attackers:
        raise UserError(f"attackers is empty; leave it out to take all of {', '.join(ATTACKERS)}.")
    made: dict[str, Callable[[AuditConfig], Attacker]] = {}
    if isinstance(attackers, Mapping):
        for name, item in attackers.items():
            if not isinstance(name, str) or not name.strip():
                raise UserError(f"An attacker's name must be a text, not {name!r}.")
            made[name] = _maker(item)
        return made
    for item in attackers:
        if isinstance(item, str) and item in made:
            raise UserError(f"The attacker {item!r} is named twice.")
        name = item if isinstance(item, str) else getattr(item, "__name__", "") if inspect.isroutine(item) else type(item).__name__
        number, unique = 2, name
        while unique in made:
            number, unique = number + 1, f"{name} {number}"
        made[unique] = _maker(item)
    return made


def read_images(makers: Mapping[str, Callable[[AuditConfig], Attacker]], config: AuditConfig) -> bool:
    """Whether one of these attackers may read what the anonymizer's decoder makes of g: those of the library say so, a reader's may."""
    return any(make not in LIBRARY or "images" in getattr(make(config), "needs", ()) for make in makers.values())


def _maker(item: Any) -> Callable[[AuditConfig], Attacker]:
    if isinstance(item, str):
        if item not in ATTACKERS:
            raise UserError(f"There is no attacker {item!r}; there are {', '.join(ATTACKERS)}.")
        return ATTACKERS[item]
    if inspect.isclass(item):
        raise UserError(f"{item.__name__} is a class; give an object of it, such as {item.__name__}(). An attacker is {_TAKES}.")
    reads = getattr(item, "reads", "features")
    readable = [field.name for field in fields(AttackSet) if field.name not in ("labels", "map_shape", "repeats")]
    if reads not in readable:
        raise UserError(f"The attacker {type(item).__name__} reads {reads!r}; there are {', '.join(readable)}.")
    if isinstance(item, nn.Module):
        return training(item, reads)
    if hasattr(item, "get_params") and hasattr(item, "fit"):  # scikit-learn's way; its fit and score are not an attacker's
        if not hasattr(item, "decision_function") and not hasattr(item, "predict_proba"):
            needs = "an attacker needs decision_function or predict_proba, since an AUC orders images"
            raise UserError(f"{type(item).__name__} gives no scores: {needs}. Take another, or wrap it in CalibratedClassifierCV.")
        return lambda config: SklearnAttacker(item, reads)
    if callable(getattr(item, "fit", None)) and callable(getattr(item, "score", None)):
        return lambda config: copy.deepcopy(item)
    if callable(item):
        return item
    raise UserError(f"{_shown(item)} is no attacker. An attacker is {_TAKES}.")


def _shown(item: Any) -> str:
    text = repr(item).split("\n")[0]
    return text if len(text) <= 60 else type(item).__name__
