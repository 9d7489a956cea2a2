"""The adaptive attacker: it knows the anonymizer and does what follows from that.

A defence that holds only while nobody knows it does not hold (Kerckhoffs). What the attacker does here, and what it has to have:

repeated releases   several releases of every image, where the anonymizer draws anew at each call: their mean is attacked
near duplicates     releases of images that differ by one grey level, such as frames of a film, where the noise is drawn from
                    the image: their mean is attacked
warm start          the weights of the adversaries that were trained with the anonymizer: training goes on from them
released verifier   the verifier that was trained with it: its metric finds the labelled faces most alike, and these vote
its own             what the anonymizer offers by `adaptive_attackers()`, such as a network that undoes its masking before it reads

`others` asks what attackers learn from other people: those that the anonymizer was trained on as well, and those of another data set.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..attackers import ATTACKERS, AttackSet
from ..faces import Splits
from ..machine.device import to_images
from ..machine.files import UserError, one_line
from ..statistics import roc_auc
from .makers import as_makers, training
from .released import Released, batched_outputs, call_checked, name_of
from .trial import Makers, Trial

REDRAWN = 1e-3
"""From this share of g's variance on that differs between two calls for the same images, an anonymizer counts as randomised."""

SENSITIVE = 0.05
"""The same for images that differ by one grey level: above it, near duplicates are worth averaging."""


class Averaged:
    """The mean of what an anonymizer makes of each image at several calls; itself an anonymizer.

    Args:
        anonymizer: images (N, 1, H, W) to g (N, k).
        queries: how many calls.
        jitter: before each call, change a tenth of the pixels by one grey level, or templates by a thousandth of their spread.
    """

    def __init__(self, anonymizer: Callable, queries: int, jitter: bool = False) -> None:
        self.anonymizer, self.queries, self.jitter = anonymizer, queries, jitter
        self.map_shape = getattr(anonymizer, "map_shape", None)
        self.name = f"{name_of(anonymizer)}, {queries} releases"
        self._rng = np.random.default_rng(0)

    def __call__(self, images: Tensor) -> np.ndarray:
        """Images float (N, 1, H, W) in [0, 1] to the mean g, float32 (N, k)."""
        what = f"The anonymizer {name_of(self.anonymizer)}"
        total = 0.0
        for _ in range(self.queries):
            total = total + call_checked(self.anonymizer, self._changed(images) if self.jitter else images, what).astype(np.float64)
        return (total / self.queries).astype(np.float32)

    def _changed(self, images: Tensor) -> Tensor:
        if images.ndim == 2:
            return images + 1e-3 * images.std() * torch.from_numpy(self._rng.standard_normal(tuple(images.shape), dtype=np.float32))
        step = self._rng.choice(np.float32([-1, 0, 1]), size=tuple(images.shape), p=(0.05, 0.9, 0.05)) / 255
        return (images + torch.from_numpy(step)).clamp(0, 1)


def redrawn_share(anonymizer: Callable, pixels: np.ndarray, jitter: bool) -> float:
    """The share of g's variance over images that changes between two calls, in [0, 1] or a little above: 0 where nothing does.

    Args:
        pixels: uint8 (N, 1, H, W), some tens of images.
        jitter: the second call is for images that differ by one grey level.
    """
    images = to_images(np.asarray(pixels), torch.device("cpu"))
    first, second = (Averaged(anonymizer, 1, again and jitter)(images).astype(np.float64) for again in (False, True))
    spread = ((first - first.mean(0)) ** 2).mean()
    return float(((first - second) ** 2).mean() / 2 / spread) if spread > 0 else 0.0


def views(anonymizer: Callable, splits: Splits, queries: int) -> tuple[dict[str, Released], dict[str, str]]:
    """What becomes of the three splits when every image is released several times, and why it was not tried."""
    some = splits.val.images[: min(len(splits.val), 64)]
    if redrawn_share(anonymizer, some, jitter=False) > REDRAWN:
        why = "the anonymizer draws anew at each call, and repeated releases cover that"
        return {"repeated releases": Released.of(Averaged(anonymizer, queries), splits)}, {"near duplicates": why}
    left_out = {"repeated releases": "the anonymizer gives the same image the same representation"}
    if (share := redrawn_share(anonymizer, some, jitter=True)) > SENSITIVE:
        return {"near duplicates": Released.of(Averaged(anonymizer, queries, jitter=True), splits)}, left_out
    step = "a thousandth of the spread" if splits.val.templates else "one grey level"
    why = f"a change of {step} changes {share:.1%} of the representation's variance, too little to average"
    return {}, left_out | {"near duplicates": why}


def warm_networks(anonymizer: Callable, attribute: str) -> dict[str, nn.Module]:
    """The networks that learned to read `attribute` with the anonymizer, modules g (N, k) to logits (N,), by name; see `Anonymizer`."""
    hidden = getattr(anonymizer, "attribute", None) or attribute
    if attribute != (hidden if isinstance(hidden, str) else hidden[0]):
        return {}
    adversary = getattr(anonymizer, "adversary", None)
    networks = adversary if isinstance(adversary, nn.Module) else getattr(anonymizer, "warm_start", lambda: None)()
    named = (
        {f"warm start, {name}": network for name, network in networks.items()}
        if isinstance(networks, Mapping)
        else {"warm start": networks}
    )
    return {name: network for name, network in named.items() if isinstance(network, nn.Module)}


def adaptive(
    anonymizer: Callable,
    attribute: str,
    averaged: Mapping[str, Released],
    left_out: Mapping[str, str],
    known: dict[str, AttackSet],
    makers: Makers,
    adversary: Callable | None,
    siamese: Callable | None,
    trial: Trial,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """One seed's adaptive attacks.

    `averaged` and `left_out` are what `views` gave, `known` the labelled rows of attack, val and test; `makers` attack the averaged
    releases, and `trial` trains attackers on such sets and scores them.

    Returns:
        figures: attackers, attackers_val (AUC on test and val); worst_attacker, best on val; leak_auc, its AUC on test; left_out, why
            others were not tried. Only left_out where nothing applies.
        arrays: "adaptive/scores/<attacker>", test scores (T,).
    """
    val, scores, left_out = {}, {}, dict(left_out)

    def run(sets: dict[str, AttackSet], whose: Makers, name: str = "{}") -> None:
        try:
            done = trial(sets, whose)
        except UserError as error:
            left_out[name.format(", ".join(whose))] = str(error)
            return
        for attacker in done.val:
            val[name.format(attacker)], scores[name.format(attacker)] = done.val[attacker], done.test_scores[attacker]
        left_out.update({name.format(attacker): reason for attacker, reason in (done.failed | done.left_out).items()})

    for view, releases in averaged.items():
        run(releases.labelled(), makers, f"{view}, {{}}")
    networks = warm_networks(anonymizer, attribute)
    for name, network in networks.items():
        run(known, {name: training(copy.deepcopy(network).requires_grad_(True), "g")})
    if not networks:
        without = (
            "gives no network of its adversary that reads g: warm_start() would"
            if callable(adversary)
            else "has no adversary that was trained to read this attribute"
        )
        left_out["warm start"] = f"the anonymizer {without}"
    if siamese is None:
        left_out["released verifier"] = "the anonymizer has no co-trained verifier"
    else:
        embeddings = {part: batched_outputs(siamese, data.g, "The co-trained Siamese network") for part, data in known.items()}
        sets = {part: dataclasses.replace(data, embeddings=embeddings[part].astype(np.float32)) for part, data in known.items()}
        run(sets, {"released verifier": ATTACKERS["gallery_knn"]})
    if callable(offered := getattr(anonymizer, "adaptive_attackers", None)):
        try:
            attackers = as_makers(offered())
        except Exception as error:  # the reader's, as all that an anonymizer does
            left_out["its own attackers"] = one_line(error)
        else:
            run(known, attackers, "its own: {}")
    if not val:
        return {"left_out": left_out}, {}
    return _answer("adaptive", val, scores, known["test"].labels, left_out)


def others(releases: Mapping[str, Released], makers: Makers, trial: Trial) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """One seed's attackers who learn from other people: figures and arrays as of `adaptive`.

    `releases` holds, by the name of who they learn from, attack people of that kind and the audit's own val and test.
    """
    val, scores = {}, {}
    for name, released in releases.items():
        done = trial(released.labelled(), makers, f"{name}, ")
        val |= {f"{name}, {attacker}": auc for attacker, auc in done.val.items()}
        scores |= {f"{name}, {attacker}": values for attacker, values in done.test_scores.items()}
    return _answer("others", val, scores, released.labelled()["test"].labels, {})


def _answer(
    part: str, val: Mapping[str, float], scores: Mapping[str, np.ndarray], labels: np.ndarray, left_out: Mapping[str, str]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Figures and arrays of attackers with these AUCs on val and these scores on test."""
    worst, test = max(val, key=val.get), {name: roc_auc(values, labels) for name, values in scores.items()}
    figures = {"attackers": test, "attackers_val": dict(val), "worst_attacker": worst, "leak_auc": test[worst], "left_out": dict(left_out)}
    return figures, {f"{part}/scores/{name}": values for name, values in scores.items()}
