"""The result of an audit: figures of both regimes over one or more seeds, their intervals, the table, and what is claimed from them."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..biometrics import disclosure_bits, worst_disclosure
from ..machine.files import UserError, atomic_write, explain_os_errors, one_line, with_interval
from ..report.ledger import FMRS, fnmr, percent
from ..statistics import Scored, bootstrap_fnmr, carried, interval, limits, rate_draws
from .claims import Claim, Limits, change, claim_lines, claims
from .comparison import Strongest, auc_difference, compare_audits, kinds_tried, strongest, utility_share
from .deep import combined_answers
from .levels import LEVELS
from .trial import IMPOSTORS, SeedScores, mean_figures

if TYPE_CHECKING:
    import pandas

    from .card import PrivacyCard


@dataclass(frozen=True, eq=False, repr=False)
class AuditReport:
    """The result of an audit, over one or more seeds.

    Attributes:
        name: of the anonymizer.
        attribute: the private attribute.
        paper: figures of the co-trained adversary and Siamese network, or None. `privacy_accuracy` is at the threshold 0.5, as in the
            paper; `privacy_auc` is oriented on val, so that a flipped adversary does not look private.
        retrained: figures of the fresh attackers and the fresh verifier. `leak_auc`: the mean over seeds of the test AUC of each seed's
            worst attacker, chosen on val, as is the orientation: on test noise falls on both sides of 0.5. `strongest_auc`: the test AUC
            of the one attacker that is best on val over all seeds, of all kinds that were tried (those of `deep`, too), and `strongest`
            its name. `fnmr_at_fmr_…`: of the rates that `impostor_pairs` carry. `kept_of_unprotected`: where the anonymizer offers that.
            `disclosure_bits`, `worst_disclosure`: ZEBRA's, see `biometrics`. `_ci` are 95 % intervals by a bootstrap clustered on people.
        controls: what the figures are to be held against.
        seeds: the same per seed: {"seed", "paper", "retrained", "controls"}, and "fold" where the people were dealt out several times.
        data: what was audited: source, images and people of each split.
        notes: what was left out or failed, one sentence each.
        scores: the test scores of each seed; not part of `to_dict()`.
        bootstrap: resamples behind the intervals.
        deep: the answers of `audit(deep=…)` by question (information, curve and code, creep, reconstruction, adaptive, others, levels), or
            None.
    """

    name: str
    attribute: str
    paper: dict[str, Any] | None
    retrained: dict[str, Any]
    controls: dict[str, Any]
    seeds: tuple[dict[str, Any], ...]
    data: dict[str, Any]
    notes: tuple[str, ...]
    scores: tuple[SeedScores, ...]
    bootstrap: int
    deep: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dictionaries: one method's entry of report.json."""
        keys = ["name", "attribute", "paper", "retrained", "controls", "seeds", "data", "notes"]
        keys += ["deep"] if self.deep is not None else []
        return json.loads(json.dumps({key: getattr(self, key) for key in keys}, allow_nan=False))

    def to_frame(self) -> pandas.DataFrame:
        """A row a figure: regime, figure, value (the mean over seeds), low and high (95 % interval), sd (over seeds, NaN for one)."""
        import pandas

        rows = []
        for regime in ("paper", "retrained", "controls"):
            values = getattr(self, regime) or {}
            figures = pandas.json_normalize([values]).select_dtypes("number").iloc[0]
            spread = pandas.json_normalize([entry.get(regime) or {} for entry in self.seeds]).std(numeric_only=True)
            for figure, value in figures.items():
                rows.append((regime, figure, float(value), *values.get(f"{figure}_ci", (np.nan, np.nan)), spread.get(figure, np.nan)))
        return pandas.DataFrame(rows, columns=["regime", "figure", "value", "low", "high", "sd"])

    @classmethod
    def merge(cls, reports: Sequence[AuditReport]) -> AuditReport:
        """One report over all seeds and folds of several, of the same faces and attribute: means, and intervals of these means.

        A person who is among the test people of several folds is drawn as one. `data` keeps the counts of the first report's fold.

        Raises:
            UserError: there are none, or they are of different faces or attributes.
        """
        reports = list(reports)
        if not reports:
            raise UserError("There are no audit reports to merge.")
        first, by_fold = reports[0], {}
        for other in reports:
            same_fold = by_fold.setdefault(_folds(other.seeds), other)
            whole = [{key: report.data.get(key) for key in _WHOLE} for report in (first, other)]
            pairs = (("attribute", first.attribute, other.attribute), ("data", *whole), ("data", same_fold.data, other.data))
            for what, mine, theirs in pairs:
                if mine != theirs:
                    raise UserError(f"Audits of different {what} cannot be merged: {mine!r} and {theirs!r}.")
        if len(reports) == 1:
            return first
        entries = [entry for report in reports for entry in report.seeds]
        scores = [seed for report in reports for seed in report.scores]
        notes = tuple(dict.fromkeys(note for report in reports for note in report.notes))
        if len(folds := _folds(entries)) > 1:
            entries = [{"seed": entry["seed"], "fold": entry.get("fold", 0), **entry} for entry in entries]
            notes += (
                f"The people were dealt out {len(folds)} times; images and people of a split are counted in fold {_folds(first.seeds)[0]}.",
            )
        if len({report.deep is None for report in reports}) > 1:
            notes += ("The answers to further questions were left out: only some of these audits have them.",)
        return combine(first.name, first.attribute, first.data, notes, entries, scores, max(r.bootstrap for r in reports))

    def save(self, path: str | os.PathLike) -> None:
        """Write everything, scores too, into one .npz file, atomically; `load` reads it without pickle."""
        arrays: dict[str, np.ndarray] = {}
        for i, seed in enumerate(self.scores):
            arrays |= {f"{i}/labels": seed.labels, f"{i}/people": seed.people}
            arrays |= {} if seed.adversary is None else {f"{i}/adversary": seed.adversary}
            arrays |= {f"{i}/gate/{kind}/{part}": values for kind, pairs in seed.gate.items() for part, values in vars(pairs).items()}
            for kind, parts in (("attackers", seed.attackers), ("free", vars(seed.free)), ("same", vars(seed.same)), ("more", seed.more)):
                arrays |= {f"{i}/{kind}/{part}": values for part, values in parts.items()}
        more = {"bootstrap": self.bootstrap, "worst": [seed.worst for seed in self.scores]}
        text = json.dumps({**self.to_dict(), **more, "choices": [seed.choices for seed in self.scores]}, allow_nan=False)
        with atomic_write(path) as file:
            np.savez_compressed(file, report=np.frombuffer(text.encode(), dtype=np.uint8), **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike) -> AuditReport:
        """The report that `save` wrote. UserError where the file is missing or is none."""
        try:
            with explain_os_errors(path), np.load(path, allow_pickle=False) as file:
                arrays = {key: file[key] for key in file.files}
            saved = json.loads(arrays.pop("report").tobytes().decode())
            scores = tuple(_scores_from(arrays, i, worst) for i, worst in enumerate(saved.pop("worst")))
            choices = saved.pop("choices", [()] * len(scores))  # reports of older versions have none
            scores = tuple(replace(seed, choices=chosen) for seed, chosen in zip(scores, choices, strict=True))
            return cls(**{**saved, "seeds": tuple(saved["seeds"]), "notes": tuple(saved["notes"])}, scores=scores)
        except FileNotFoundError as error:
            raise UserError(f"{path}: no such file; give one that AuditReport.save wrote.") from error
        except (OSError, ValueError, KeyError, TypeError, EOFError, AttributeError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} is not a saved audit report ({one_line(error)}). Remove it to audit again.") from error

    def choices(self) -> list[dict[str, Any]]:
        """The choices of attackers and verifier on val, in a row: {"method", "seed", "fold", "choice", "chosen", "candidates"}.

        "candidates" are the figures on val by which `machine.choices.best` chose, mostly AUCs. The last has neither seed nor fold: the
        worst attacker over all of them.
        """
        log = [
            {"method": self.name, "seed": entry["seed"], "fold": entry.get("fold", 0), **choice}
            for entry, seed in zip(self.seeds, self.scores, strict=True)
            for choice in seed.choices
        ]
        over_all = {"choice": "attacker", "chosen": self.retrained["worst_attacker"], "candidates": self.retrained["attackers_val"]}
        return [*log, {"method": self.name, **over_all}]

    @property
    def strongest(self) -> Strongest:
        """The attacker that is best on val over all seeds, of all kinds that were tried: its name and its scores."""
        return strongest(self.seeds, self.scores, kinds_tried(self.seeds))

    def compare(self, other: AuditReport) -> dict[str, dict[str, Any]]:
        """How this audit differs from `other`, of the same faces: leak and utility, with paired intervals; see `compare_audits`."""
        return compare_audits(self, other)

    def claims(self, original: AuditReport | None = None, limits: Limits | None = None) -> tuple[Claim, ...]:
        """What may be claimed: each claim is supported, not supported or not tested, with its figures; see `claims.claims`."""
        return claims(self, original, limits)

    def card(self, original: AuditReport | None = None, limits: Limits | None = None, **about: Any) -> PrivacyCard:
        """The privacy card, to hand over with a released representation; `card().save("card.html")` writes it (.md, .html or .json).

        For the arguments see `card.privacy_card`.
        """
        from .card import privacy_card

        return privacy_card(self, original, limits, **about)

    def __str__(self) -> str:
        return _table(self)

    def __repr__(self) -> str:
        return f"AuditReport({self.name!r}, {self.attribute!r}, leak_auc={self.retrained['leak_auc']:.3f}, {len(self.seeds)} seeds)"


_WHOLE = ("source", "images", "people", "size", "sealed_people")
"""What `AuditReport.data` says of all faces: the same in every fold."""


def _folds(entries: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    return tuple(sorted({entry.get("fold", 0) for entry in entries}))


def combine(
    name: str,
    attribute: str,
    data: dict[str, Any],
    notes: tuple[str, ...],
    entries: Sequence[dict[str, Any]],
    scores: Sequence[SeedScores],
    bootstrap: int,
) -> AuditReport:
    """One report of several seeds: means, and clustered intervals of the mean AUCs."""
    retrained = mean_figures([entry["retrained"] for entry in entries])
    retrained["worst_attacker"] = max(retrained["attackers_val"], key=retrained["attackers_val"].get)
    for key, kind in (("leak_auc", "leak"), ("utility_auc", "free"), ("utility_auc_same", "same")):
        retrained[f"{key}_ci"] = list(interval([getattr(seed, kind) for seed in scores], bootstrap))
    top = strongest(entries, scores, kinds_tried(entries))
    retrained |= {"strongest": top.attacker, "strongest_auc": top.auc, "strongest_auc_ci": list(interval(top.scored, bootstrap))}
    for kind, suffix in IMPOSTORS.items():
        if all(kind in seed.gate for seed in scores):
            retrained |= _gate_intervals(retrained, [seed.gate[kind] for seed in scores], suffix, bootstrap)
        if all(f"unprotected/{kind}" in seed.more for seed in scores):
            retrained |= _kept(scores, kind, suffix, bootstrap)
    if all("leak/llr" in seed.more for seed in scores):
        retrained |= _disclosure(scores, bootstrap)
    papers = [entry["paper"] for entry in entries if entry["paper"] is not None]
    paper, controls = mean_figures(papers) or None, mean_figures([entry["controls"] for entry in entries])
    answers = combined_answers(entries, scores, bootstrap)
    return AuditReport(name, attribute, paper, retrained, controls, tuple(entries), data, notes, tuple(scores), bootstrap, answers)


def _gate_intervals(retrained: dict[str, Any], gates: Sequence[Scored], suffix: str, bootstrap: int) -> dict[str, Any]:
    """Intervals of FNMR at the rates that every seed's impostor pairs carry; the others are taken out of `retrained`."""
    fewest = min(int(gate.positive.sum()) for gate in gates)
    keys = {fmr: f"fnmr_at_fmr_{fmr}{suffix}" for fmr in FMRS}
    for fmr in [fmr for fmr in FMRS if not carried(float(fmr), fewest)]:
        retrained.pop(keys.pop(fmr), None)
    draws = bootstrap_fnmr(gates, [float(fmr) for fmr in keys], bootstrap) if keys else np.empty((0, 0))
    ranges = {f"{key}_ci": list(limits(column)) for key, column in zip(keys.values(), draws.T, strict=True)}
    return {f"impostor_pairs{suffix}": fewest} | ranges


def _kept(scores: Sequence[SeedScores], kind: str, suffix: str, bootstrap: int) -> dict[str, Any]:
    """The share of the unprotected representation's utility that is kept, chance counting as zero, with its paired interval."""
    after = [getattr(seed, kind) for seed in scores]
    before = [replace(pairs, scores=seed.more[f"unprotected/{kind}"]) for seed, pairs in zip(scores, after, strict=True)]
    paired, key = auc_difference(after, before, bootstrap, utility_share), f"unprotected_utility_auc{suffix}"
    figures: dict[str, Any] = {key: paired["before"], f"{key}_ci": list(interval(before, bootstrap))}
    if paired["share"] is not None:
        figures |= {f"kept_of_unprotected{suffix}": paired["share"], f"kept_of_unprotected{suffix}_ci": paired["share_ci"]}
    return figures


def _disclosure(scores: Sequence[SeedScores], bootstrap: int) -> dict[str, Any]:
    """ZEBRA's expected disclosure with its interval, and the worst of all people and seeds, as log10 of its likelihood ratio."""
    value, draws, everybody = 0.0, np.zeros(bootstrap), np.concatenate([seed.people for seed in scores])
    for seed in scores:
        bits = disclosure_bits(seed.more["leak/llr"], seed.labels)
        for chosen in (seed.labels, ~seed.labels):
            value += float(bits[chosen].mean()) / len(scores)
            draws += rate_draws(bits[chosen], seed.people[chosen], everybody, bootstrap) / len(scores)
    worst, category = max(worst_disclosure(seed.more["leak/llr"]) for seed in scores)
    figures = {"disclosure_bits": value, "disclosure_bits_ci": list(limits(draws))}
    return figures | {"worst_disclosure": worst, "worst_disclosure_category": category}


def _scores_from(arrays: Mapping[str, np.ndarray], i: int, worst: str) -> SeedScores:
    def under(folder: str) -> dict[str, np.ndarray]:
        return {key.removeprefix(f"{i}/{folder}/"): values for key, values in arrays.items() if key.startswith(f"{i}/{folder}/")}

    def pairs(folder: str) -> Scored:
        return Scored(*(arrays[f"{i}/{folder}/{part}"] for part in ("scores", "positive", "people")))

    gate = {kind: pairs(f"gate/{kind}") for kind in IMPOSTORS if f"{i}/gate/{kind}/scores" in arrays}
    labels, people, adversary = arrays[f"{i}/labels"], arrays[f"{i}/people"], arrays.get(f"{i}/adversary")
    more = under("more")
    if "adaptive/scores" in more or ("code/bits" in more and len(more["code/bits"]) != len(more.get("code/people", ()))):
        raise ValueError("an earlier version saved its answers to further questions")
    return SeedScores(labels, people, under("attackers"), worst, pairs("free"), pairs("same"), adversary, gate, more)


def _table(report: AuditReport) -> str:
    r, data = report.retrained, report.data
    seeds, folds = list(dict.fromkeys(entry["seed"] for entry in report.seeds)), _folds(report.seeds)
    title = f"Audit of {report.name}: {report.attribute!r} as labelled in {data['source']}"
    parts = ("attack", "val", "test")
    splits = ", ".join(f"{part} {data[f'{part}_images']:,} images of {data[f'{part}_people']:,} people" for part in parts)
    over = f"{'seed' if len(report.seeds) == 1 else 'means over seeds'} {', '.join(map(str, seeds))}"
    over += f" of folds {', '.join(map(str, folds))}" if folds != (0,) else ""
    lines = [title, "=" * len(title), splits, over, ""]

    lines += ["PAPER REGIME: the adversary and the Siamese network that were trained with the anonymizer"]
    kinds = (("people verified, free impostors", ""), ("people verified, same label", "_same"))
    p = report.paper or {}
    if not p:
        lines += ["  not measured: no co-trained networks were given"]
    if "privacy_auc" in p:
        words = f"accuracy {p['privacy_accuracy']:.1%}, balanced {p['privacy_balanced_accuracy']:.1%}"
        lines += [_row("attribute read", f"AUC {p['privacy_auc']:.3f}", words)]
    if "utility_auc" in p:
        for label, s in kinds:
            lines += [_row(label, f"AUC {p[f'utility_auc{s}']:.3f}", f"accuracy {p[f'utility_accuracy{s}']:.1%}")]

    lines += ["", f"RETRAINED REGIME: fresh attackers, fresh verifier ({r['verifier']}); 95 % intervals over people"]
    lines += [_row("attribute read, worst attacker", _auc(r, "leak_auc"), f"balanced accuracy {r['leak_balanced_accuracy']:.1%}")]
    if r.get("strongest_auc", r["leak_auc"]) != r["leak_auc"]:
        lines += [_row("  strongest of all, over all seeds", _auc(r, "strongest_auc"), r["strongest"])]
    for label, s in kinds:
        lines += [_row(label, _auc(r, f"utility_auc{s}"), f"accuracy {r[f'utility_accuracy{s}']:.1%}, EER {r[f'eer{s}']:.1%}")]
    for fmr, words in FMRS.items():
        free, same = (fnmr(r, fmr, s) for s in IMPOSTORS.values())
        refused = free.startswith("not") and same.startswith("not")  # once is enough: there are no more impostors with the same label
        lines += [_row(f"genuine refused at FMR {words}", free, *([] if refused else [f"{same}, same label"]))]
    for label, s in kinds:
        if f"kept_of_unprotected{s}" in r:
            low, high = r[f"kept_of_unprotected{s}_ci"]
            share = f"{percent(r[f'kept_of_unprotected{s}'])} [{percent(low)}, {percent(high)}] of"
            lines += [_row(label.replace("people verified", "kept"), share, f"{_auc(r, f'unprotected_utility_auc{s}')} unprotected")]

    lines += ["", f"  {'attacker':<32}{'val AUC':>8}{'test AUC':>10}"]
    for name in sorted(r["attackers"], key=r["attackers_val"].get, reverse=True):
        mark = "  <- worst on val" if name == r["worst_attacker"] else ""
        lines += [f"  {name:<32}{r['attackers_val'][name]:>8.3f}{r['attackers'][name]:>10.3f}{mark}"]
    if "privacy_auc" in p:
        lines += [f"  {'(co-trained adversary)':<32}{p['privacy_auc_val']:>8.3f}{p['privacy_auc']:>10.3f}  paper regime, for comparison"]

    c = report.controls
    words = {
        "majority_accuracy": ("always the more frequent label", "accuracy {:.1%}"),
        "shuffled_labels_auc": ("labels shuffled between people", "AUC {:.3f}"),
        "untrained_encoder_auc": ("untrained encoder", "AUC {:.3f}"),
        "gender_only_verification_accuracy": ("same label means same person", "accuracy {:.1%} of the free-impostor pairs"),
    }
    lines += ["", "CONTROLS", *(_row(words[key][0], words[key][1].format(c[key])) for key in words if key in c)]
    if report.deep is not None:
        lines += ["", *_deep_lines(report.deep), "", "CLAIMS", *claim_lines(report.claims())]
    if report.notes:
        lines += ["", "NOTES", *(f"  {note}" for note in report.notes)]
    return "\n".join(lines)


def _row(label: str, *cells: str) -> str:
    return f"  {label:<34}" + "   ".join(cells)


def _auc(values: Mapping[str, Any], key: str) -> str:
    return f"AUC {with_interval(values[key], values[f'{key}_ci'])}"


def _deep_lines(deep: Mapping[str, Any]) -> list[str]:
    lines = ["BEYOND THE WORST ATTACKER"]
    if bits := deep.get("information"):
        words = f"{with_interval(bits['information_bits'], bits['information_bits_ci'])} of {bits['entropy_bits']:.3f} bits"
        lines += [_row("information on it, at least", words, bits["attacker"])]
    if code := deep.get("code"):
        words = f"{code['bits_per_label']:.3f} bits a label", f"{code['label_only_bits_per_label']:.3f} without looking"
        lines += [_row("online code of the labels", *words)]
    if curve := deep.get("curve"):
        points = [f"{point['leak_auc']:.3f} ({point['people']:,})" for point in curve["points"]]
        lines += [_row("AUC by labelled people", "  ".join(points[-5:]))]
        if ahead := curve.get("extrapolated"):
            lines += [_row(f"  if it went on, with {ahead['people']:,}", _auc(ahead, "leak_auc"))]
    if creep := deep.get("creep"):
        others = {name: figures for name, figures in creep["attributes"].items() if name != creep["private"]}
        lines += [_row(f"{len(others)} other attributes", f"AUC before, in {creep['original']}, and after")]
        for name, figures in sorted(others.items(), key=lambda item: -item[1]["change"])[:5]:
            words = f"{figures['before']:.3f} -> {figures['after']:.3f}", change(figures["change"], figures["change_ci"])
            lines += [_row(f"  {name}"[:33], *words)]
    if rebuilt := deep.get("reconstruction"):
        words = f"PSNR {rebuilt['psnr']:.1f} dB, SSIM {rebuilt['ssim']:.2f}", f"the mean face {rebuilt['mean_face_psnr']:.1f} dB"
        lines += [_row("faces rebuilt from it", *words, rebuilt["attacker"])]
        words = _auc(rebuilt, "match_auc_same"), f"real against real {rebuilt['real_auc_same']:.3f}"
        lines += [_row("rebuilt recognised, same label", *words)]
    levels = deep.get("levels", {})
    for level, words in LEVELS.items():
        if level in levels:
            lines += [_row(f"read from {words}", _auc(levels[level], "leak_auc"), levels[level]["strongest"])]
        elif level in levels.get("left_out", {}):
            lines += [_row(f"read from {words}", "not measured", levels["left_out"][level])]
    for part, label in (("adaptive", "attacker who knows the defence"), ("others", "attacker with other people")):
        if "leak_auc" in (knows := deep.get(part, {})):
            words = _auc(knows, "leak_auc"), f"gain {change(knows['gain'], knows['gain_ci'])}", knows["worst_attacker"]
            lines += [_row(label, *words)]
    return lines
