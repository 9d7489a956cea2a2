"""The recommended method: AIA with each of its parts strengthened, and what each part buys."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..anonymizers import Anonymizer
from ..config import as_dict, with_settings
from ..faces import Faces
from .base import Defence, as_names, fitted, from_record, release
from .compact import Compact, Decoding
from .erased import Erased
from .noise import CertifiedNoise
from .settings import CompactConfig, HardenedConfig

FEW_PEOPLE = 300
"""With fewer people to learn from, the recommended method cannot be recommended: `python -m benchmarks ablation`, "fewer_people"."""


class HardenedAIA(Decoding):
    """AIA hardened: its three parts kept, each strengthened, and closed-form erasure of what they leave.

    * Encoder and decoder: k = 32 numbers instead of 0.75 H W, for a map of near-pixels can hide nothing; the decoder is told the label.
    * Verification: contrastive over the batch, impostors alike as far as the attribute goes. z that tells people apart within a gender as
      labelled has no use for that gender.
    * Adversaries: five kinds, made undecided (not wrong), each renewed in turn: an encoder beats the adversary it meets, so it meets new
      ones all the time. Beside them the labels' distributions are drawn together (maximum mean discrepancy).
    * Fisher's discriminants between people, 8 of the 32 numbers: what hardly tells people apart may still tell the attribute, and 8 x 8
      covariances are known better.
    * Score erasure, then LEACE: means and covariances of what is left are made equal for every score, on the people of `train`.
    * A little noise (certified, where `mu` is small): the fine structure that erasure leaves on new people is not found with few examples.

    At release, an image costs two passes of the encoder and one product with random features. Nothing at release needs the label; the
    method estimates it from the image in order to take it out, and lets nothing but g' go.

    What is erased is estimated from the people it is fitted on, so it needs them: below `FEW_PEOPLE` it hides less and verifies worse (the
    benchmark `ablation` shows how much). What is left on your faces, an audit tells.

    Args:
        config: the settings; None takes `HardenedConfig()`.
        seed: of everything random.
        device: a torch device; None takes the best there is.
        **settings: fields of `HardenedConfig` or of its `CompactConfig` that replace those of `config`.
    """

    name = "HardenedAIA"

    def __init__(self, config: HardenedConfig | None = None, seed: int = 0, device: torch.device | None = None, **settings: Any) -> None:
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
            self._build_decoder(faces.size, g.shape[1], len(names))
            self._fit_decoder(faces, names, g, config.compact, folder, progress)
        self.base = released

    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, 1, H, W) in [0, 1] to g (N, k)."""
        return fitted(self, self.base)(images)

    def parts(self) -> dict[str, nn.Module]:
        return {} if self.decoder is None else {"decoder": self.decoder}

    def describe(self) -> dict:
        k = self.decoder.expand.in_features - self.decoder.conditions if self.decoder else 0
        return {"config": as_dict(self.config), "size": self.decoder.size if self.decoder else 0, "decoder_k": k}

    @classmethod
    def restore(cls, state: dict, base: Anonymizer | None, device: torch.device | None) -> HardenedAIA:
        config = {**state["config"], "compact": from_record(CompactConfig, state["config"]["compact"])}
        made = cls(HardenedConfig(**config), state["seed"], device)
        made.base = base
        if state["decoder_k"]:
            made._build_decoder(state["size"], state["decoder_k"], len(as_names(state["attribute"])))
        return made
