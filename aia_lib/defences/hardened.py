"""The recommended method: AIA with each of its parts strengthened, and what each part buys."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor, nn

from ..anonymizers import Anonymizer
from ..config import as_dict
from ..faces import Faces
from .base import Defence, fitted, from_settings, with_settings
from .compact import Compact, Decoding, train_decoder
from .erasure import Erased
from .labels import as_names, release
from .noise import CertifiedNoise
from .settings import CompactConfig, HardenedConfig

FEW_PEOPLE = 300
"""With fewer people to learn from, the recommended method cannot be recommended: `python -m benchmarks ablation`, "fewer_people"."""


class HardenedAIA(Decoding):
    """AIA hardened: its three parts kept, each strengthened, and closed-form erasure of what they leave.

    ====================  ==================================================  ==================================================
    part of AIA           here                                                why
    ====================  ==================================================  ==================================================
    encoder, decoder      k = 32 numbers instead of 0.75 H W; the decoder is  a map of near-pixels can hide nothing
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
        super().__init__(seed)
        config = config or HardenedConfig()
        after = {key: settings.pop(key) for key in ("erasers", "mu") if key in settings}
        self.config = dataclasses.replace(config, compact=with_settings(config.compact, settings), **after)
        self.device = device

    def _fit(self, faces: Faces, names: tuple[str, ...], folder: str | Path | None, progress: bool) -> None:
        config = self.config
        compact = Compact(dataclasses.replace(config.compact, decoder_epochs=0), self.seed, self.device)
        released: Defence = compact.fit(faces, names, folder=folder, progress=progress)
        if config.erasers:
            released = Erased(released, config.erasers, self.seed).fit(faces, names, fit_base=False)
        if config.mu:
            released = CertifiedNoise(released, config.mu, seed=self.seed).fit(faces, names, fit_base=False)
        self.history = dict(compact.history)
        if config.compact.decoder_epochs:
            g = release(released, faces)
            self._build_decoder(config.compact, faces.size, g.shape[1], len(names), compact.encoder.head.weight.device)
            self.history["decoder"] = train_decoder(
                faces, self.decoder, g, config.compact, names, seed=self.seed, folder=folder, progress=progress
            )
        self.base = released

    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, 1, H, W) in [0, 1] to g (N, k)."""
        return fitted(self, self.base)(images)

    @property
    def compact(self) -> Compact:
        """The compact representation below erasers and noise."""
        part = fitted(self, self.base)
        while not isinstance(part, Compact):
            part = part.base
        return part

    def parts(self) -> dict[str, nn.Module]:
        return {} if self.decoder is None else {"decoder": self.decoder}

    def describe(self) -> dict:
        k = self.decoder.expand.in_features - self.decoder.conditions if self.decoder is not None else 0
        return {"config": as_dict(self.config), "size": self.compact.encoder.size, "decoder_k": k}

    @classmethod
    def restore(cls, state: dict, base: Anonymizer | None, device: torch.device | None, key: bytes | None) -> HardenedAIA:
        config = {**state["config"], "compact": from_settings(CompactConfig, state["config"]["compact"])}
        made = cls(HardenedConfig(**config), state["seed"], device)
        made.base = base
        if state["decoder_k"]:
            attributes = max(1, len(as_names(state["attribute"])))
            where = made.compact.encoder.head.weight.device
            made._build_decoder(made.config.compact, state["size"], state["decoder_k"], attributes, where)
        return made
