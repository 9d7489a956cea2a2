"""Settings of the defences, with their units and ranges."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ..config import _not_negative, _one_of, _positive, _several_of, _share, _whole
from ..machine.files import UserError
from .erased import ERASERS
from .networks import VectorAdversary


@dataclass(frozen=True)
class CompactConfig:
    """A compact representation z that is trained to verify and not to tell the attribute (`defences.Compact`).

    L = alpha L_verification + beta L_privacy + matching L_gap.

    Attributes:
        k: numbers in z.
        width: channels of the encoder's first block.
        dropout: share of the encoder's last map that is dropped in training.
        augment: training images are mirrored, moved, turned, scaled, lit from a side, made noisy and partly hidden at random.
        impostors: whom the verification loss tells a person from: "free" (everybody), "same" (those with the same label), or "matched"
            (those that look alike as far as the attribute goes: a classifier's score weighs them).
        temperature: of the verification loss.
        alpha: weight of the verification loss.
        privacy: "maxent" (adversaries are to be undecided, Roy & Boddeti 2019) or "none".
        beta: weight of the privacy loss, the mean over the adversaries.
        matching: weight of the maximum mean discrepancy between the labels' z.
        adversaries: kinds of adversary, see `networks.VectorAdversary`; a kind may come more than once.
        adversary_steps: steps of each adversary per encoder step.
        renew_every: after so many steps one adversary, each in its turn, starts again from fresh weights; 0 renews none.
        epochs: passes over the train split.
        min_steps: steps that the epochs must hold at least; with few images there are more epochs.
        decoder_epochs: passes of the decoder over the finished representations; 0 trains none (then there is no `decode`).
        batch_size: images a step; each comes with another image of its person, or with itself moved, where there is no other.
        learning_rate, weight_decay: of AdamW, one cosine cycle.
        adversary_learning_rate: of the adversaries' Adam.
        average: decay of the running mean of the encoder's weights, which is what is kept; 0 keeps the last weights.
    """

    k: int = 32
    width: int = 32
    dropout: float = 0.2
    augment: bool = True
    impostors: str = "matched"
    temperature: float = 0.1
    alpha: float = 1.0
    privacy: str = "maxent"
    beta: float = 3.0
    matching: float = 10.0
    adversaries: tuple[str, ...] = VectorAdversary.KINDS
    adversary_steps: int = 3
    renew_every: int = 60
    epochs: int = 30
    min_steps: int = 600
    decoder_epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    adversary_learning_rate: float = 2e-3
    average: float = 0.99

    REMOVED: ClassVar[dict] = {"gamma": 0.0, "kl": 0.0, "mirror": True, "conditional": True}
    """Settings of older versions, with the values that did nothing."""

    def __post_init__(self) -> None:
        _whole(self, "k", "width", "adversary_steps", "epochs", "min_steps", "batch_size")
        for name in ("renew_every", "decoder_epochs"):
            if getattr(self, name) != 0:
                _whole(self, name)
        _positive(self, "temperature", "learning_rate", "adversary_learning_rate")
        _not_negative(self, "alpha", "beta", "matching", "weight_decay")
        _share(self, "dropout", "average")
        _one_of(self, "impostors", "free", "same", "matched")
        _one_of(self, "privacy", "maxent", "none")
        _several_of(self, "adversaries", VectorAdversary.KINDS)
        if self.privacy != "none" and not self.adversaries:
            raise UserError(f"CompactConfig.adversaries is empty, but privacy={self.privacy!r} needs at least one; or set privacy='none'.")
        if self.batch_size < 4:
            raise UserError(f"CompactConfig.batch_size must be at least 4, not {self.batch_size}: impostors come from the batch.")


@dataclass(frozen=True)
class HardenedConfig:
    """The recommended method (`defences.HardenedAIA`): a compact representation, erasers on it, and noise where a guarantee is asked for.

    Attributes:
        compact: the representation.
        erasers: what is erased from it afterwards, in this order, see `defences.ERASERS`; empty for nothing.
        mu: the certificate of `defences.CertifiedNoise`; 0 adds no noise. The guarantee of 24 is empty (its bound on the AUC is 1); so
            little noise is there to hide fine structure from attackers with few examples, which is what erasure leaves. For a
            guarantee that says something, set 1 or less (`defences.mu_for_auc`), and pay for it.
    """

    compact: CompactConfig = field(default_factory=CompactConfig)
    erasers: tuple[str, ...] = ("discriminants", "score", "leace")
    mu: float = 24.0

    def __post_init__(self) -> None:
        _several_of(self, "erasers", tuple(ERASERS))
        _not_negative(self, "mu")
