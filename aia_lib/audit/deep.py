"""What `deep_audit` asks beyond `audit`: five further questions, each of which can be left out, and the intervals of their answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from ..attackers import AttackSet
from ..config import AuditConfig
from ..faces import Pairs, Splits
from ..machine.files import UserError, one_line
from ..statistics import Scored, _per_person, bootstrap_auc, interval, limits, mean_limits, person_draws, roc_auc
from .adaptive import adaptive, views
from .creep import pixels, read_all, readable
from .information import entropy, information, learning_curve
from .makers import resolve
from .reconstruction import reconstruction
from .released import Released, name_of
from .trial import Attacks

if TYPE_CHECKING:
    from .trial import SeedScores


PARTS = ("information", "curve", "creep", "reconstruction", "adaptive")
"""The questions: how many bits leak; what more data would give the attacker (learning curve and online code); what else is told;
whether faces can be rebuilt; whether knowing the defence helps."""


@dataclass(frozen=True)
class DeepConfig:
    """Settings of `deep_audit`.

    Attributes:
        parts: which of `PARTS` to answer.
        attackers: names in `attackers.ATTACKERS` who attack the growing sets of the curve and the averaged releases.
        shares: of the attack people, rising to 1: the points of the learning curve and the blocks of the online code.
        attributes: what creep reads; empty means every attribute of the faces.
        decoder_steps: of the convolutional decoder, 64 images each.
        queries: releases of an image that the adaptive attacker averages.
    """

    parts: tuple[str, ...] = PARTS
    attackers: tuple[str, ...] = ("logistic", "mlp")
    shares: tuple[float, ...] = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
    attributes: tuple[str, ...] = ()
    decoder_steps: int = 300
    queries: int = 16

    def __post_init__(self) -> None:
        for part in self.parts:
            if part not in PARTS:
                raise UserError(f"DeepConfig.parts has no {part!r}; there are {', '.join(PARTS)}.")
        if not self.parts:
            raise UserError(f"DeepConfig.parts is empty; name some of {', '.join(PARTS)}, or call audit.")
        resolve(list(self.attackers))
        shares = list(self.shares)
        if len(shares) < 2 or shares != sorted(set(shares)) or not 0 < shares[0] or shares[-1] != 1:
            raise UserError(f"DeepConfig.shares must rise from above 0 to 1, not {self.shares!r}.")
        for name in ("decoder_steps", "queries"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(f"DeepConfig.{name} must be a whole number of at least 1, not {value!r}.")
        if "adaptive" in self.parts and self.queries < 2:
            raise UserError("DeepConfig.queries must be at least 2: one release is what every attacker has.")


class Deep:
    """The further questions about one anonymizer: what all seeds share is prepared once.

    Args:
        anonymizer, splits, released: what is audited, on whom, and what it released of them.
        original: the anonymizer to compare with in creep; None compares with the images.
        adversary, siamese: co-trained, or None.
        config, deep: settings of the audit and of this.
    """

    def __init__(
        self,
        anonymizer: Callable,
        splits: Splits,
        released: Released,
        original: Callable | None,
        adversary: Callable | None,
        siamese: Callable | None,
        config: AuditConfig,
        deep: DeepConfig,
        progress: bool,
    ) -> None:
        self.anonymizer, self.splits, self.released = anonymizer, splits, released
        self.adversary, self.siamese, self.config, self.deep, self.progress = adversary, siamese, config, deep, progress
        self.makers = resolve(list(deep.attackers))
        self.notes: list[str] = []
        self.failed: dict[str, str] = {}
        if "creep" in deep.parts:
            self.names, self.left_out = readable(splits, self._attributes())
            self.original = original or pixels
            self._try("creep", lambda: setattr(self, "before", Released.of(self.original, splits, control=self.original is pixels)))
        if "adaptive" in deep.parts:
            self._try("adaptive", lambda: setattr(self, "views", views(anonymizer, splits, deep.queries)))

    def _attributes(self) -> list[str]:
        faces = self.splits.test
        for name in self.deep.attributes:
            faces.labels(name)  # says which there are
        chosen = self.deep.attributes or sorted(faces.attributes)
        return [faces.attribute, *(name for name in dict.fromkeys(chosen) if name != faces.attribute)]

    def _try(self, part: str, answer: Callable[[], Any]) -> Any:
        """The answer; where it breaks down, a note, and the rest goes on."""
        if part in self.failed:
            return None
        try:
            return answer()
        except Exception as error:
            self.failed[part] = str(error) if isinstance(error, UserError) else one_line(error)
            return None

    def ask(
        self, seed: int, known: dict[str, AttackSet], attacks: Attacks, pairs: dict[str, dict[str, Pairs]]
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """One seed's answers: figures by part, and the arrays that their intervals need.

        Args:
            known: the labelled rows of attack, val and test.
            attacks: of the seed's fresh attackers.
            pairs: of val and test.
        """
        released, config, deep, prefix = self.released, self.config, self.deep, f"  seed {seed}: "
        identity = released.identity["attack"][released.sets["attack"].labels >= 0]
        decode = getattr(self.anonymizer, "decode", None)
        questions: dict[str, Callable[[], tuple[dict[str, Any], dict[str, np.ndarray]]]] = {
            "information": lambda: information(attacks, known["val"], known["test"]),
            "curve": lambda: learning_curve(known, identity, self.makers, deep.shares, config, seed, prefix, self.progress),
            "creep": lambda: self._creep(seed),
            "reconstruction": lambda: self._rebuild(pairs, decode, seed),
            "adaptive": lambda: adaptive(
                self.anonymizer,
                self.views[0],
                self.views[1],
                known,
                self.makers,
                self.adversary,
                self.siamese,
                config,
                seed,
                prefix,
                self.progress,
            ),
        }
        figures: dict[str, Any] = {}
        arrays: dict[str, np.ndarray] = {"test/people": released.identity["test"]}
        for part in PARTS:
            if part not in deep.parts:
                continue
            with tqdm(total=1, desc=f"{prefix}{part}", disable=not self.progress) as bar:
                answer = self._try(part, questions[part])
                bar.update()
            if answer is not None:
                figures[part] = answer[0]
                arrays |= answer[1]
        return figures, arrays

    def _creep(self, seed: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        read = {
            "before": read_all(self.before, self.splits, self.names, self.config, seed),
            "after": read_all(self.released, self.splits, self.names, self.config, seed),
        }
        labels = self.splits.test.label_table(self.names)
        attributes: dict[str, Any] = {}
        for i, name in enumerate(self.names):
            known = labels[:, i] >= 0
            attributes[name] = {"images": int(known.sum()), "missing": int((~known).sum())}
            for when, own in read.items():
                attributes[name][when] = roc_auc(own["scores"][known, i], labels[known, i] == 1)
                attributes[name][f"{when}_reader"] = own["readers"][i]
        arrays = {f"creep/{when}": own["scores"] for when, own in read.items()} | {"creep/labels": labels}
        figures = {"original": name_of(self.original), "private": self.names[0], "attributes": attributes, "left_out": self.left_out}
        return figures, arrays

    def _rebuild(
        self, pairs: dict[str, dict[str, Pairs]], decode: Callable | None, seed: int
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        figures, arrays, failed = reconstruction(self.released, self.splits, pairs, decode, self.config, self.deep.decoder_steps, seed)
        self.notes += [f"{name} failed: {reason}." for name, reason in failed.items()]
        return figures, arrays

    def all_notes(self) -> list[str]:
        """What broke down, one sentence each."""
        return [*self.notes, *(f"{part} was not answered: {reason}" for part, reason in self.failed.items())]


# Many seeds -----------------------------------------------------------------------------------------------------------


def combine(entries: Sequence[Mapping[str, Any]], scores: Sequence[SeedScores], bootstrap: int) -> dict[str, Any] | None:
    """The answers of several seeds: means, and 95 % intervals of them by a bootstrap over people; of the parts that all seeds answered."""
    if not all("deep" in entry for entry in entries):
        return None
    answers = [entry["deep"] for entry in entries]
    combiners = {
        "information": _information,
        "curve": _curve,
        "creep": _creep,
        "reconstruction": _reconstruction,
        "adaptive": _adaptive,
    }
    result: dict[str, Any] = {}
    for part, combiner in combiners.items():
        own = [answer[part] for answer in answers if part in answer]
        if len(own) == len(answers):
            found = combiner(own, scores, bootstrap)
            result |= found
    return result


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _most_frequent(values: Sequence[str]) -> str:
    return max(dict.fromkeys(values), key=list(values).count)


def _information(own: Sequence[Mapping], scores: Sequence[SeedScores], resamples: int) -> dict[str, Any]:
    total = np.zeros(resamples)
    for seed in scores:
        bits, ones, counts = _per_person(seed.people, seed.more["information/bits"], seed.labels.astype(np.float64))
        draws = person_draws(len(counts), resamples)
        images = draws @ counts
        total += entropy((draws @ ones) / images) - (draws @ bits) / images
    figures = {key: _mean([entry[key] for entry in own]) for key in ("entropy_bits", "cross_entropy_bits", "information_bits")}
    return {
        "information": {
            **figures,
            "information_bits_ci": list(limits(total / len(own))),
            "attacker": _most_frequent([entry["attacker"] for entry in own]),
        }
    }


def _curve(own: Sequence[Mapping], scores: Sequence[SeedScores], resamples: int) -> dict[str, Any]:
    sizes = [point["people"] for point in own[0]["curve"]]
    sizes = [size for size in sizes if all(size in [point["people"] for point in entry["curve"]] for entry in own)]
    measured = [[Scored(seed.more[f"curve/{size}"], seed.labels, seed.people) for seed in scores] for size in sizes]
    points = []
    for size, measurements in zip(sizes, measured, strict=True):
        entries = [point for entry in own for point in entry["curve"] if point["people"] == size]
        points.append(
            {
                "people": size,
                "images": round(_mean([entry["images"] for entry in entries])),
                "leak_auc": _mean([entry["leak_auc"] for entry in entries]),
                "leak_auc_ci": list(interval(measurements, resamples)),
                "attacker": _most_frequent([entry["attacker"] for entry in entries]),
            }
        )
    last, before = (bootstrap_auc(measured[i], resamples) for i in (-1, -2))
    codes = {key: _mean([entry["code"][key] for entry in own]) for key in own[0]["code"]}
    codes["compression"] = 1 / max(codes["bits_per_label"], 1e-9)
    saved = [seed.more["code/label_only"] - seed.more["code/bits"] for seed in scores]
    codes["saved_bits_per_label_ci"] = mean_limits(saved, [seed.more["code/people"] for seed in scores], resamples)
    return {
        "curve": {
            "points": points,
            "gain": points[-1]["leak_auc"] - points[-2]["leak_auc"],
            "gain_ci": list(limits(last - before)),
            "from_people": points[-2]["people"],
            "to_people": points[-1]["people"],
        },
        "code": codes,
    }


def _creep(own: Sequence[Mapping], scores: Sequence[SeedScores], resamples: int) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    for i, (name, first) in enumerate(own[0]["attributes"].items()):
        entries = [entry["attributes"][name] for entry in own]
        draws = {}
        for when in ("before", "after"):
            measurements = []
            for seed in scores:
                labels = seed.more["creep/labels"][:, i]
                known = labels >= 0
                measurements.append(Scored(seed.more[f"creep/{when}"][known, i], labels[known] == 1, seed.more["test/people"][known]))
            draws[when] = bootstrap_auc(measurements, resamples)
        change = draws["after"] - draws["before"]
        attributes[name] = {
            "before": _mean([entry["before"] for entry in entries]),
            "before_ci": list(limits(draws["before"])),
            "after": _mean([entry["after"] for entry in entries]),
            "after_ci": list(limits(draws["after"])),
            "change": _mean([entry["after"] - entry["before"] for entry in entries]),
            "change_ci": list(limits(change)),
            "change_sd": float(np.nanstd(change)),
            "missing": first["missing"],
        }
    return {"creep": {**{key: own[0][key] for key in ("original", "private", "left_out")}, "attributes": attributes}}


def _reconstruction(own: Sequence[Mapping], scores: Sequence[SeedScores], resamples: int) -> dict[str, Any]:
    figures: dict[str, Any] = {key: _mean([entry[key] for entry in own]) for key in own[0] if isinstance(own[0][key], float)}
    figures |= {"size": own[0]["size"], "attacker": _most_frequent([entry["attacker"] for entry in own])}
    people = [seed.more["test/people"] for seed in scores]
    for key in ("psnr", "ssim"):
        figures[f"{key}_ci"] = mean_limits([seed.more[f"rebuilt/{key}"] for seed in scores], people, resamples)
    for kind, suffix in (("free", ""), ("same", "_same")):
        pairs = [getattr(seed, kind) for seed in scores]
        matched = [Scored(seed.more[f"rebuilt/{kind}"], pair.positive, pair.people) for seed, pair in zip(scores, pairs, strict=True)]
        figures[f"match_auc{suffix}_ci"] = list(interval(matched, resamples))
    return {"reconstruction": figures}


def _adaptive(own: Sequence[Mapping], scores: Sequence[SeedScores], resamples: int) -> dict[str, Any]:
    left_out = {name: reason for entry in own for name, reason in entry["left_out"].items()}
    if not all("leak_auc" in entry for entry in own):
        return {"adaptive": {"left_out": left_out}}
    names = [name for name in own[0]["attackers"] if all(name in entry["attackers"] for entry in own)]
    measured = [Scored(seed.more["adaptive/scores"], seed.labels, seed.people) for seed in scores]
    plain = [seed.leak for seed in scores]
    leak = _mean([entry["leak_auc"] for entry in own])
    return {
        "adaptive": {
            "attackers": {name: _mean([entry["attackers"][name] for entry in own]) for name in names},
            "attackers_val": {name: _mean([entry["attackers_val"][name] for entry in own]) for name in names},
            "worst_attacker": _most_frequent([entry["worst_attacker"] for entry in own]),
            "leak_auc": leak,
            "leak_auc_ci": list(interval(measured, resamples)),
            "gain": leak - _mean([seed.auc for seed in plain]),
            "gain_ci": list(limits(bootstrap_auc(measured, resamples) - bootstrap_auc(plain, resamples))),
            "left_out": left_out,
        }
    }
