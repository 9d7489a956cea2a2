"""What `audit(deep=…)` asks beyond the leak: seven further questions, each of which can be left out, and the intervals of their answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from ..attackers import AttackSet
from ..config import AuditConfig, _whole
from ..faces import Faces, Pairs, Splits, with_attribute
from ..machine.choices import choosing
from ..machine.files import UserError
from ..statistics import Scored, interval, limits, mean_limits, paired_draws, rate_draws, roc_auc
from .adaptive import adaptive, others, views
from .creep import pixels, read_all, readable, stored
from .information import entropy, extrapolated, information, learning_curve
from .levels import combined_levels, levels
from .makers import as_makers, read_images
from .reconstruction import reconstruction
from .released import Released, name_of
from .trial import Attacks, Makers, SeedScores, attack, mean_figures

Answer = tuple[dict[str, Any], dict[str, np.ndarray]]
"""One seed's figures, and the arrays that their intervals need, by name."""

PARTS = ("information", "curve", "creep", "reconstruction", "adaptive", "others", "levels")
"""The questions, see `audit`."""


@dataclass(frozen=True)
class DeepConfig:
    """Settings of `audit(deep=…)`.

    Attributes:
        parts: which of `PARTS` to answer.
        attackers: names in `attackers.ATTACKERS` who attack the growing sets of the curve, averaged releases and learn from other people.
        shares: of the attack people, rising to 1: the points of the learning curve and the blocks of the online code.
        decoder_steps: of the convolutional decoder, 64 images each.
        queries: releases of an image that the adaptive attacker averages.
    """

    parts: tuple[str, ...] = PARTS
    attackers: tuple[str, ...] = ("logistic", "mlp")
    shares: tuple[float, ...] = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
    decoder_steps: int = 300
    queries: int = 16

    def __post_init__(self) -> None:
        for part in self.parts:
            if part not in PARTS:
                raise UserError(f"DeepConfig.parts has no {part!r}; there are {', '.join(PARTS)}.")
        if not self.parts:
            raise UserError(f"DeepConfig.parts is empty; name some of {', '.join(PARTS)}, or leave deep out.")
        as_makers(self.attackers)
        shares = list(self.shares)
        if len(shares) < 2 or shares != sorted(set(shares)) or not 0 < shares[0] or shares[-1] != 1:
            raise UserError(f"DeepConfig.shares must rise from above 0 to 1, not {self.shares!r}.")
        _whole(self, "decoder_steps", "queries")
        if "adaptive" in self.parts and self.queries < 2:
            raise UserError("DeepConfig.queries must be at least 2: one release is what every attacker has.")


@dataclass
class Deep:
    """The further questions about one anonymizer: what all seeds share is prepared once.

    What a reader's function refuses (the anonymizer, `original`, `decode`) is noted; an error of the library is raised.
    Creep compares with `original`, or with the images where that is None. `adversary` and `siamese` are co-trained, or None.
    """

    anonymizer: Callable
    faces: Faces
    splits: Splits
    released: Released
    original: Callable | None
    elsewhere: Faces | None
    adversary: Callable | None
    siamese: Callable | None
    config: AuditConfig
    deep: DeepConfig
    progress: bool
    notes: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.makers = as_makers(self.deep.attackers)
        self.original = self.original or (stored if self.faces.templates else pixels)
        if "creep" in self.deep.parts:
            faces = self.splits.test
            self.names, self.left_out = readable(self.splits, [*dict.fromkeys([faces.attribute, *sorted(faces.attributes)])])

    @cached_property
    def before(self) -> Released:
        return Released.of(self.original, self.splits, control=self.original in (pixels, stored), decoded=False)

    @cached_property
    def views(self) -> tuple[dict[str, Released], dict[str, str]]:
        return views(self.anonymizer, self.splits, self.deep.queries)

    @cached_property
    def others(self) -> dict[str, Released]:
        """What attackers learn from who meet the people of train too, or those of another data set."""
        splits, attack = self.splits, {}
        both = np.isin(self.faces.identity, np.concatenate([splits.train.identity, splits.attack.identity]))
        attack["people of train too"] = with_attribute(self.faces.subset(both), splits.attack.attribute)
        if self.elsewhere is not None:
            attack[f"people of {self.elsewhere.source}"] = with_attribute(self.elsewhere, splits.attack.attribute)
        decoded = read_images(self.makers, self.config)
        return {name: Released.of(self.anonymizer, splits._replace(attack=faces), decoded=decoded) for name, faces in attack.items()}

    def ask(self, seed: int, known: dict[str, AttackSet], attacks: Attacks, pairs: dict[str, dict[str, Pairs]]) -> Answer:
        """One seed's answers by part; `known` are the labelled rows of attack, val and test, `attacks` those of the fresh attackers."""
        released, prefix = self.released, f"  seed {seed}: "

        def trial(sets: Mapping[str, AttackSet], makers: Makers, what: str = "", extra: AttackSet | None = None) -> Attacks:
            with choosing(what.strip(" ,")):
                return attack(sets, makers, self.config, seed, {}, prefix + what, self.progress, extra)

        people = {part: released.identity[part][data.labels >= 0] for part, data in released.sets.items()}
        questions: dict[str, Callable[[], Answer]] = {
            "information": lambda: information(attacks, known["val"], known["test"]),
            "curve": lambda: learning_curve(known, people, self.makers, self.deep.shares, seed, trial),
            "creep": lambda: self._creep(seed),
            "reconstruction": lambda: self._rebuild(pairs, seed),
            "adaptive": lambda: adaptive(
                self.anonymizer, self.splits.test.attribute, *self.views, known, self.makers, self.adversary, self.siamese, trial
            ),
            "others": lambda: others(self.others, self.makers, trial),
            "levels": lambda: levels(known, people, attacks, seed, trial),
        }
        figures: dict[str, Any] = {}
        arrays: dict[str, np.ndarray] = {"test/people": released.identity["test"]}
        for part in PARTS:
            if part not in self.deep.parts or part in self.failed:
                continue
            with choosing(part), tqdm(total=1, desc=f"{prefix}{part}", disable=not self.progress) as bar:
                try:
                    figures[part], more = questions[part]()
                    arrays |= more
                except UserError as error:  # what a reader's function refuses; the rest goes on
                    self.failed[part] = str(error)
                bar.update()
        return figures, arrays

    def _creep(self, seed: int) -> Answer:
        read = {
            when: read_all(released, self.splits, self.names, self.config, seed)
            for when, released in (("before", self.before), ("after", self.released))
        }
        labels = self.splits.test.label_table(self.names)
        attributes: dict[str, Any] = {}
        for i, name in enumerate(self.names):
            known = labels[:, i] >= 0
            attributes[name] = {"images": int(known.sum()), "missing": int((~known).sum())}
            for when, (scores, readers) in read.items():
                attributes[name] |= {when: roc_auc(scores[known, i], labels[known, i] == 1), f"{when}_reader": readers[i]}
        arrays = {f"creep/{when}": scores for when, (scores, _) in read.items()} | {"creep/labels": labels}
        figures = {"original": name_of(self.original), "private": self.names[0], "attributes": attributes, "left_out": self.left_out}
        return figures, arrays

    def _rebuild(self, pairs: dict[str, dict[str, Pairs]], seed: int) -> Answer:
        decode, epochs = getattr(self.anonymizer, "decode", None), self.config.epochs
        figures, arrays, refused = reconstruction(self.released, self.splits, pairs, decode, epochs, self.deep.decoder_steps, seed)
        self.notes += [f"its own decoder failed: {refused}."] if refused else []
        return figures, arrays

    def all_notes(self) -> list[str]:
        """What broke down, one sentence each."""
        return [*self.notes, *(f"{part} was not answered: {reason}" for part, reason in self.failed.items())]


def combined_answers(entries: Sequence[Mapping[str, Any]], scores: Sequence[SeedScores], resamples: int) -> dict[str, Any] | None:
    """The answers of several seeds: means, and 95 % intervals of them by a bootstrap over people; of the parts that all seeds answered."""
    if not all("deep" in entry for entry in entries):
        return None
    result: dict[str, Any] = {}
    for part, combiner in zip(
        PARTS, (_information, _curve, _creep, _reconstruction, _informed("adaptive"), _informed("others"), combined_levels), strict=True
    ):
        answers = [entry["deep"][part] for entry in entries if part in entry["deep"]]
        if len(answers) == len(entries):
            result |= combiner(answers, scores, resamples)
    return result


def _information(answers: Sequence[Mapping], scores: Sequence[SeedScores], resamples: int) -> dict[str, Any]:
    total, everybody = np.zeros(resamples), np.concatenate([seed.people for seed in scores])
    for seed in scores:
        ones, bits = (rate_draws(values, seed.people, everybody, resamples) for values in (seed.labels, seed.more["information/bits"]))
        total += entropy(ones) - bits
    return {"information": mean_figures(answers) | {"information_bits_ci": list(limits(total / len(answers)))}}


def _curve(answers: Sequence[Mapping], scores: Sequence[SeedScores], resamples: int) -> dict[str, Any]:
    curves = [{point["people"]: point for point in answer["curve"]} for answer in answers]
    sizes = [size for size in curves[0] if all(size in curve for curve in curves)]
    if len(sizes) < 2:
        return {}  # folds whose attack splits differ in size have no curve in common
    measured = [[Scored(seed.more[f"curve/{size}"], seed.labels, seed.people) for seed in scores] for size in sizes]
    draws = dict(zip(sizes, paired_draws(*measured, resamples=resamples), strict=True))
    points = []
    for size in sizes:
        point = mean_figures([curve[size] for curve in curves])
        counts = {key: round(point[key]) for key in ("people", "images", "attack_people")}
        points.append(point | counts | {"leak_auc_ci": list(limits(draws[size]))})
    codes = mean_figures([answer["code"] for answer in answers])
    codes["compression"] = 1 / max(codes["bits_per_label"], 1e-9)
    saved = [seed.more["code/label_only"] - seed.more["code/bits"] for seed in scores]
    codes["saved_bits_per_label_ci"] = mean_limits(saved, [seed.more["code/people"] for seed in scores], resamples)
    curve = {
        "points": points,
        "gain": points[-1]["leak_auc"] - points[-2]["leak_auc"],
        "gain_ci": list(limits(draws[sizes[-1]] - draws[sizes[-2]])),
    }
    if len(sizes) > 2:
        many = 10 * sizes[-1]
        reached = extrapolated(sizes, np.array([[point["leak_auc"] for point in points]]), many)
        ahead = {
            "people": many,
            "leak_auc": float(reached[0]),
            "leak_auc_ci": list(limits(extrapolated(sizes, np.stack([*draws.values()], axis=1), many))),
        }
        curve["extrapolated"] = ahead
    return {"curve": curve | {"from_people": points[-2]["people"], "to_people": points[-1]["people"]}, "code": codes}


def _creep(answers: Sequence[Mapping], scores: Sequence[SeedScores], resamples: int) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    for name, first in answers[0]["attributes"].items():
        if not all(name in answer["attributes"] for answer in answers):
            continue  # another fold has too few people of it
        entries = [answer["attributes"][name] for answer in answers]
        figures: dict[str, Any] = {}
        measured: dict[str, list[Scored]] = {"before": [], "after": []}
        for answer, seed in zip(answers, scores, strict=True):
            i = list(answer["attributes"]).index(name)
            labels = seed.more["creep/labels"][:, i]
            known = labels >= 0
            for when, group in measured.items():
                group.append(Scored(seed.more[f"creep/{when}"][known, i], labels[known] == 1, seed.more["test/people"][known]))
        draws = dict(zip(measured, paired_draws(*measured.values(), resamples=resamples), strict=True))
        for when, drawn in draws.items():
            figures |= {when: float(np.mean([entry[when] for entry in entries])), f"{when}_ci": list(limits(drawn))}
        change = draws["after"] - draws["before"]
        figures["change"] = float(np.mean([entry["after"] - entry["before"] for entry in entries]))
        figures |= {"change_ci": list(limits(change)), "change_sd": float(np.nanstd(change))}
        attributes[name] = figures | {"missing": first["missing"]}
    left_out = {name: reason for answer in answers for name, reason in answer["left_out"].items()}
    return {"creep": {**{key: answers[0][key] for key in ("original", "private")}, "left_out": left_out, "attributes": attributes}}


def _reconstruction(answers: Sequence[Mapping], scores: Sequence[SeedScores], resamples: int) -> dict[str, Any]:
    figures = mean_figures([{key: answer[key] for key in answer if key not in ("val_error", "verifier")} for answer in answers])
    figures["size"] = answers[0]["size"]
    people = [seed.more["test/people"] for seed in scores]
    for key in ("psnr", "ssim"):
        figures[f"{key}_ci"] = mean_limits([seed.more[f"rebuilt/{key}"] for seed in scores], people, resamples)
    for kind, suffix in (("free", ""), ("same", "_same")):
        pairs = [getattr(seed, kind) for seed in scores]
        matched = [Scored(seed.more[f"rebuilt/{kind}"], pair.positive, pair.people) for seed, pair in zip(scores, pairs, strict=True)]
        figures[f"match_auc{suffix}_ci"] = list(interval(matched, resamples))
    return {"reconstruction": figures}


def _informed(part: str) -> Callable[[Sequence[Mapping], Sequence[SeedScores], int], dict[str, Any]]:
    """What combines the answers "adaptive" and "others": attackers who know or have more than those of the protocol."""

    def combine_them(answers: Sequence[Mapping], scores: Sequence[SeedScores], resamples: int) -> dict[str, Any]:
        left_out = {name: reason for answer in answers for name, reason in answer["left_out"].items()}
        if not all("leak_auc" in answer for answer in answers):
            return {part: {"left_out": left_out}}
        names = [name for name in answers[0]["attackers"] if all(name in answer["attackers"] for answer in answers)]
        worst = [seed.scored(part, answer["worst_attacker"]) for seed, answer in zip(scores, answers, strict=True)]
        fresh = [seed.leak for seed in scores]
        figures = mean_figures(answers)
        for key in ("attackers", "attackers_val"):
            figures[key] = {name: figures[key][name] for name in names}
        figures |= {"leak_auc_ci": list(interval(worst, resamples)), "left_out": left_out}
        figures["gain"] = figures["leak_auc"] - float(np.mean([scored.auc for scored in fresh]))
        figures["gain_ci"] = list(limits(np.subtract(*paired_draws(worst, fresh, resamples=resamples))))
        return {part: figures}

    return combine_them
