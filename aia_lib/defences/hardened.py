"""The recommended method: AIA with each of its parts strengthened, and what each part buys."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from ..config import as_dict
from ..faces import Faces
from ..machine.device import build
from ..machine.stage import History, save_parts
from .compact import Compact, decode_with, fitted, how_many, train_decoder, with_settings
from .erasure import Erased
from .labels import as_attribute, private, release, unlabelled
from .networks import ConditionalDecoder
from .noise import CertifiedNoise
from .settings import CompactConfig, HardenedConfig

FEW_PEOPLE = 300
"""With fewer people to learn from, the recommended method cannot be recommended: `python -m benchmarks ablation`, "fewer_people"."""


class HardenedAIA:
    """AIA hardened: its three parts kept, each strengthened, and closed-form erasure of what they leave.

    ====================  ==================================================  ==================================================
    part of AIA           here                                                why
    ====================  ==================================================  ==================================================
    encoder, decoder      k = 32 numbers instead of 0.75 H W; the decoder is  a map of near-pixels can hide nothing; a decoder
                          told the attribute                                  that is told s asks for no s in z
    verification          contrastive over the batch, impostors alike as far  z that tells people apart within a gender as
                          as the attribute goes                               labelled has no use for that gender
    adversary             five kinds, made undecided (not wrong), each        an encoder beats the adversary it meets; so it
                          renewed in turn; and the labels' distributions      meets new ones all the time
                          drawn together (maximum mean discrepancy)
    (none)                Fisher's discriminants between people: 8 of the     what hardly tells people apart may still tell the
                          32 numbers                                          attribute, and 8 x 8 covariances are known better
    (none)                score erasure, then LEACE                           means and covariances of what is left are made equal
                                                                              for every score, on the people of `train`
    (none)                a little noise (certified, where `mu` is small)     the fine structure that erasure leaves on new people
                                                                              is not found with few examples
    ====================  ==================================================  ==================================================

    The cost is one training of a small network (the adversaries read k numbers and cost little beside it), and seconds for the closed
    forms. At release, an image costs two passes of the encoder and one product with random features. Nothing at release needs the label;
    the method estimates it from the image in order to take it out, and lets nothing but g' go.

    What is erased is estimated from the people it is fitted on, so it needs them: below `FEW_PEOPLE` it hides less and verifies worse (the
    benchmark `ablation` shows how much). What is left on your faces, an audit tells.

    Args:
        config: the settings; None takes `HardenedConfig()`.
        seed: of everything random.
        device: a torch device; None takes the best there is.
        **settings: fields of `HardenedConfig` or of its `CompactConfig` that replace those of `config`.
    """

    name = "HardenedAIA"

    def __init__(
        self,
        config: HardenedConfig | None = None,
        seed: int = 0,
        device: torch.device | None = None,
        **settings: float | int | str | bool | tuple[str, ...],
    ) -> None:
        config = config or HardenedConfig()
        own = {key: settings.pop(key) for key in ("erasers", "mu") if key in settings}
        self.config = dataclasses.replace(config, compact=with_settings(config.compact, settings), **own)
        self.seed, self.device = seed, device
        self.base: Compact | Erased | CertifiedNoise | None = None
        self.decoder: ConditionalDecoder | None = None
        self.attribute: str | tuple[str, ...] | None = None
        self.missing: dict[str, int] = {}
        self.history: dict[str, History] = {}

    several_attributes = True

    def fit(
        self,
        faces: Faces,
        attribute: str | Sequence[str] | None = None,
        *,
        folder: str | Path | None = None,
        progress: bool = True,
    ) -> HardenedAIA:
        """Train on all of `faces` (pass the train split), with checkpoints in `folder` that a later call resumes from.

        `attribute` is one name or several; each of the parts says in its own documentation what it does with several.
        """
        faces, names = private(faces, attribute)
        config = self.config
        compact = Compact(dataclasses.replace(config.compact, decoder_epochs=0), self.seed, self.device)
        released: Compact | Erased | CertifiedNoise = compact.fit(faces, names, folder=folder, progress=progress)
        if config.erasers:
            released = Erased(released, config.erasers, self.seed).fit(faces, names, fit_base=False)
        if config.mu:
            released = CertifiedNoise(released, config.mu, seed=self.seed).fit(faces, names, fit_base=False)
        self.history = dict(compact.history)
        if config.compact.decoder_epochs:
            g = release(released, faces)
            self._build(faces.size, g.shape[1], next(compact.encoder.parameters()).device, len(names))
            self.history["decoder"] = train_decoder(
                faces, self.decoder, g, config.compact, names, seed=self.seed, folder=folder, progress=progress
            )
        self.base, self.attribute, self.missing = released, as_attribute(names), unlabelled(faces, names)
        return self

    def _build(self, size: int, k: int, device: torch.device, attributes: int = 1) -> None:
        told = int(self.config.compact.conditional) * attributes
        self.decoder = build(lambda: ConditionalDecoder(size, k, told), device, self.seed, "decoder")

    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, 1, H, W) in [0, 1] to g (N, k)."""
        return fitted(self, self.base)(images)

    @property
    def decode(self):
        """decode(g, condition=None): g (N, k) to images (N, 1, H, W) in [0, 1].

        The condition, (N,) or (N, m) for several attributes, is 1, -1, or 0 for "not told".
        """
        if self.decoder is None:
            raise AttributeError("this anonymizer has no decoder: decoder_epochs is 0, or it has not been trained")
        return lambda g, condition=None: decode_with(self.decoder, g, condition)

    @property
    def compact(self) -> Compact:
        """The compact representation below erasers and noise."""
        part = fitted(self, self.base)
        while not isinstance(part, Compact):
            part = part.base
        return part

    def save(self, folder: str | Path) -> None:
        """Write everything (safetensors) into `folder`, each file atomically."""
        save_parts(self, folder)

    def parts(self) -> dict[str, nn.Module]:
        """What is saved, by name."""
        fitted(self, self.base)
        return {} if self.decoder is None else {"decoder": self.decoder}

    def describe(self) -> dict:
        """The arguments that make it again."""
        k = self.decoder.expand.in_features - self.decoder.conditions if self.decoder is not None else 0
        return {"config": as_dict(self.config), "size": self.compact.encoder.size, "decoder_k": k}

    @classmethod
    def restore(cls, state: dict, base: Compact | Erased | CertifiedNoise, device: torch.device | None) -> HardenedAIA:
        """An anonymizer as `describe` says, with a fresh decoder for `load_anonymizer` to fill."""
        config = {**state["config"], "compact": CompactConfig(**state["config"]["compact"])}
        made = cls(HardenedConfig(**config), state["seed"], device)
        made.base = base
        if state["decoder_k"]:
            made._build(state["size"], state["decoder_k"], next(made.compact.encoder.parameters()).device, how_many(state["attribute"]))
        return made


def ablation(config: HardenedConfig | None = None, seed: int = 0, device: torch.device | None = None) -> dict[str, HardenedAIA]:
    """The recommended method and, for each of its parts, the method without it: untrained anonymizers by name, to fit and audit.

    "no privacy" has none of them but the bottleneck: what the compact representation alone keeps and leaks.
    """
    config = config or HardenedConfig()
    compact = config.compact

    def variant(erasers: tuple[str, ...] = config.erasers, mu: float = config.mu, **settings: float | str | bool | tuple) -> HardenedAIA:
        changed = dataclasses.replace(config, compact=dataclasses.replace(compact, **settings), erasers=erasers, mu=mu)
        return HardenedAIA(changed, seed=seed, device=device)

    def spared(*kinds: str) -> tuple[str, ...]:
        return tuple(name for name in config.erasers if name not in kinds)

    made = {
        "all parts": variant(),
        "without noise": variant(mu=0.0),
        "without discriminants": variant(spared("discriminants")),
        "without score erasure": variant(spared("score")),
        "without LEACE": variant(spared("leace")),
        "without erasure": variant(spared("score", "leace")),
        "the training alone": variant((), 0.0),
        "without adversaries": variant(privacy="none"),
        "one adversary, never renewed": variant(adversaries=compact.adversaries[:1], renew_every=0),
        "without matching": variant(matching=0.0),
        "without matched impostors": variant(impostors="free"),
        "without augmentation": variant(augment=False),
        "no privacy": variant((), 0.0, privacy="none", matching=0.0, impostors="free"),
    }
    for name, method in made.items():
        method.name = f"HardenedAIA, {name}"
    return made
