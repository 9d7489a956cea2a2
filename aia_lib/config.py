"""Settings: one frozen dataclass a stage, and the three profiles `fast`, `book` and `full`.

Each dataclass checks itself when it is built, so that a contradiction is named before any training starts.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .machine.files import UserError

SPLIT_FRACTIONS = (0.4, 0.3, 0.1, 0.2)
"""Shares of the people in train, attack, val and test."""


def check_size(size: int) -> int:
    """Return `size` if images of size x size pixels fit the encoder's two poolings.

    Raises:
        UserError: `size` is not a positive multiple of 4, or smaller than 16.
    """
    if not isinstance(size, int) or size < 16 or size % 4:
        raise UserError(f"The image size must be a multiple of 4 and at least 16 pixels, not {size!r}; 32 and 64 are usual.")
    return size


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _rule(wanted: str, fits: Callable[[Any], bool]) -> Callable[..., None]:
    """A check `rule(config, *names)` that raises a UserError where one of these fields does not fit."""

    def check(config: object, *names: str) -> None:
        for name in names:
            if not fits(value := getattr(config, name)):
                raise UserError(f"{type(config).__name__}.{name} must be {wanted}, not {value!r}.")

    return check


_positive = _rule("a positive number", lambda value: _number(value) and value > 0)
_whole = _rule("a whole number of at least 1", lambda value: type(value) is int and value >= 1)
_not_negative = _rule("a finite number that is not negative", lambda value: _number(value) and value >= 0)
_share = _rule("at least 0 and less than 1", lambda value: _number(value) and type(value) is not bool and 0 <= value < 1)


def _one_of(config: object, name: str, *choices: str) -> None:
    _rule(f"one of {', '.join(choices)}", lambda value: value in choices)(config, name)


def _several_of(config: object, name: str, choices: tuple[str, ...]) -> None:
    if isinstance(value := getattr(config, name), list):
        object.__setattr__(config, name, tuple(value))  # as JSON gives it back
    wanted = f"a tuple of names out of {', '.join(choices)}"
    _rule(wanted, lambda value: isinstance(value, tuple) and all(item in choices for item in value))(config, name)


@dataclass(frozen=True)
class AutoencoderConfig:
    """Stage 1, Eq. 2-5.

    Attributes:
        epochs: passes over the images of the train split.
        batch_size: images a step.
        learning_rate: of Adam.
    """

    epochs: int = 6
    batch_size: int = 32
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        _whole(self, "epochs", "batch_size")
        _positive(self, "learning_rate")


@dataclass(frozen=True)
class AdversaryConfig:
    """Stage 2, Eq. 6 or the six convolutions of section 5.2.

    Attributes:
        kind: "cnn" (section 5.2) or "mlp" (Eq. 6).
        epochs, batch_size, learning_rate: of Adam on the binary cross entropy.
    """

    kind: str = "cnn"
    epochs: int = 8
    batch_size: int = 64
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        _one_of(self, "kind", "cnn", "mlp")
        _whole(self, "epochs", "batch_size")
        _positive(self, "learning_rate")


@dataclass(frozen=True)
class SiameseConfig:
    """Stage 3, Eq. 7.

    Attributes:
        margin: m of Eq. 7, in embedding units.
        impostors: "free" draws the second person from everybody, "same" from those with the same value of the private attribute.
        epochs: an epoch draws as many pairs as there are images.
        batch_size: pairs a step.
        learning_rate: of Adam.
    """

    margin: float = 2.0
    impostors: str = "free"
    epochs: int = 8
    batch_size: int = 64
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        _one_of(self, "impostors", "free", "same")
        _whole(self, "epochs", "batch_size")
        _positive(self, "margin", "learning_rate")


@dataclass(frozen=True)
class FinetuneConfig:
    """Stage 4, Eq. 8: L_Total = gamma L_AE + alpha L_Siamese - beta L_Adv.

    Attributes:
        alpha: weight of the task. 0 is AIA\\T.
        beta: weight of the adversary.
        gamma: weight of the reconstruction; 1 is the paper.
        adversary: "alternating" (adversary and Siamese keep learning) or "frozen" (the literal reading: only the auto-encoder moves).
        adversary_loss: "literal" (-L_Adv, unbounded below), "capped" (-min(L_Adv, log 2)) or "maxent" (cross entropy to the even coin).
        adversary_steps: adversary steps per encoder step, when alternating.
        attach: what the adversary and the Siamese read: "latent" (g) or "image" (the reconstruction of g).
        epochs: an epoch draws as many images, in pairs, as there are in the train split.
        batch_size: pairs a step; the auto-encoder and the adversary see its 2 x batch_size images.
        learning_rate: of Adam, for the auto-encoder; the adversary's and the Siamese's are those of their own stages.
    """

    alpha: float = 0.5
    beta: float = 0.5
    gamma: float = 1.0
    adversary: str = "alternating"
    adversary_loss: str = "literal"
    adversary_steps: int = 1
    attach: str = "latent"
    epochs: int = 6
    batch_size: int = 32
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        _not_negative(self, "alpha", "beta", "gamma")
        _one_of(self, "adversary", "alternating", "frozen")
        _one_of(self, "adversary_loss", "literal", "capped", "maxent")
        _one_of(self, "attach", "latent", "image")
        _whole(self, "adversary_steps", "epochs", "batch_size")
        _positive(self, "learning_rate")


@dataclass(frozen=True)
class AuditConfig:
    """The audit: fresh attackers, a fresh verifier, intervals.

    Attributes:
        attackers: names in `attackers.ATTACKERS`; empty means all of them.
        epochs: of the attackers and the verifier that are neural networks; early stopping on val keeps the best one.
        min_steps: steps that a network is trained for even where so few images make more epochs of them; convolutional ones take half.
        pairs: verification pairs for testing, at most, half genuine and half impostors; as many on val.
        impostor_pairs: of test, behind FNMR at a fixed FMR, at most; a rate is measured where 30 of them would be accepted at it, so
            30,000 carry 0.1 % and 300,000 carry 0.01 %.
        bootstrap: resamples of the people for the 95 % intervals.
        controls: also audit shuffled labels and an untrained encoder.
    """

    attackers: tuple[str, ...] = ()
    epochs: int = 20
    min_steps: int = 120
    pairs: int = 6000
    impostor_pairs: int = 30_000
    bootstrap: int = 1000
    controls: bool = True

    def __post_init__(self) -> None:
        _whole(self, "epochs", "min_steps", "pairs", "impostor_pairs", "bootstrap")


@dataclass(frozen=True)
class Profile:
    """All settings of a run of the paper."""

    name: str = "book"
    size: int = 64
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    adversary: AdversaryConfig = field(default_factory=AdversaryConfig)
    siamese: SiameseConfig = field(default_factory=SiameseConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    audit: AuditConfig = field(default_factory=AuditConfig)

    def __post_init__(self) -> None:
        check_size(self.size)


PROFILES = {
    "fast": Profile(
        name="fast",
        size=32,
        autoencoder=AutoencoderConfig(epochs=7, batch_size=16, learning_rate=2e-3),
        adversary=AdversaryConfig(epochs=6, batch_size=32),
        siamese=SiameseConfig(epochs=6, batch_size=32),
        finetune=FinetuneConfig(epochs=4, batch_size=16, learning_rate=2e-3),
        audit=AuditConfig(epochs=6, min_steps=70, pairs=2000, bootstrap=200),
    ),
    "book": Profile(),
    "full": Profile(
        name="full",
        autoencoder=AutoencoderConfig(epochs=20, batch_size=128),
        adversary=AdversaryConfig(epochs=20, batch_size=128),
        siamese=SiameseConfig(epochs=30, batch_size=128),
        finetune=FinetuneConfig(epochs=30, batch_size=64),
        audit=AuditConfig(epochs=40, pairs=20000),
    ),
}


def get_profile(name: str | None = None) -> Profile:
    """The profile called `name`; without a name, the one in the environment variable AIA_PROFILE, else "book".

    Raises:
        UserError: there is no such profile.
    """
    name = name or os.environ.get("AIA_PROFILE") or "book"
    if name not in PROFILES:
        raise UserError(f"There is no profile {name!r}; choose one of {', '.join(PROFILES)}.")
    return PROFILES[name]


def with_settings(config: Any, settings: dict, name: str | None = None) -> Any:
    """`config` with `settings` in the place of its fields. UserError, which calls it `name`, where it has none of such a name."""
    try:
        return dataclasses.replace(config, **settings)
    except TypeError as error:
        fields = ", ".join(field.name for field in dataclasses.fields(config))
        raise UserError(f"{name or type(config).__name__} has no setting of that name ({error}); its settings are {fields}.") from error


def as_dict(config: object) -> dict:
    """A settings dataclass as plain nested dictionaries, as JSON gives them back (tuples become lists)."""
    return json.loads(json.dumps(dataclasses.asdict(config)))
