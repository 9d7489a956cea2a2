"""The audit: what fresh attackers read off a representation, and what a fresh verifier still recognises.

    report = audit(anonymizer, faces, attribute="gender", seeds=3)
    print(report)

It knows nothing of how the anonymizer was made. The people of the split `attack` train the attackers and the verifier, those
of `val` make every choice (which attacker is the worst, when training stops, thresholds, the orientation of a score), those
of `test` are read once. Two regimes are reported and never mixed: the *paper regime* (the adversary and the Siamese network
that were trained together with the anonymizer) and the *retrained regime* (all of it trained afresh).
"""

from __future__ import annotations

import collections
import dataclasses
import json
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from .attackers import ATTACKERS, AttackSet
from .config import AuditConfig
from .faces import Faces, Pairs, Splits
from .files import UserError, atomic_write, explain_os_errors
from .models import Encoder, latent_shape
from .training import build, to_images
from .verification import (
    MIN_PEOPLE,
    Scored,
    accuracy,
    best_threshold,
    eer,
    fit_verifier,
    interval,
    one_line,
    pair_distances,
    principal_components,
    roc_auc,
    tar_at_far,
)

if TYPE_CHECKING:
    import pandas

FARS = ("1e-1", "1e-2", "1e-3")
"""The false accept rates at which the true accept rate is reported."""

BATCH = 256
"""Images that an anonymizer is given at a time."""

MIRROR_BELOW = 20_000
"""Up to so many attack images, their mirror images are anonymized too and join the attackers' training set."""

CONTROL_ATTACKERS = ("logistic", "mlp")
"""Who attacks the controls: quick, one linear, one not. Neither reads principal components."""

RECONSTRUCTION_SIZE = 32
"""Larger reconstructions are averaged down to this size for the attack on them; attackers on g itself see the rest of the detail."""


@dataclass(frozen=True, eq=False)
class SeedScores:
    """What one seed's attackers and verifier said about the test people; intervals, ROC curves and histograms come from it.

    Attributes:
        labels: the attribute of the T labelled test images, bool (T,).
        people: their people's identity codes, int (T,).
        attackers: each attacker's scores, oriented on val so that higher speaks for label 1, float (T,).
        worst: the attacker that was best on val.
        free, same: distances of the test pairs with free and with same-attribute impostors.
        adversary: scores of the co-trained adversary, oriented on val, or None.
    """

    labels: np.ndarray
    people: np.ndarray
    attackers: dict[str, np.ndarray]
    worst: str
    free: Scored
    same: Scored
    adversary: np.ndarray | None = None

    @property
    def leak(self) -> Scored:
        """The worst attacker's scores."""
        return Scored(self.attackers[self.worst], self.labels, self.people)


@dataclass(frozen=True, eq=False, repr=False)
class AuditReport:
    """The result of an audit, over one or more seeds.

    Attributes:
        name: of the anonymizer.
        attribute: the private attribute.
        paper: figures of the co-trained adversary and Siamese network; None where none were given. `privacy_accuracy` is at the
            threshold 0.5, as in the paper; `privacy_auc` is oriented on val, so that an adversary whose answers are all turned
            round does not look private.
        retrained: figures of the fresh attackers and the fresh verifier. `leak_auc`: the mean over seeds of the test AUC of each seed's
            worst attacker, chosen on val. It is sign-free: the orientation is chosen on val too, so on test noise falls on
            both sides of 0.5. `_ci` are 95 % intervals by a bootstrap clustered on people.
        controls: what the figures are to be held against.
        seeds: the same per seed: {"seed", "paper", "retrained", "controls"}.
        data: what was audited: source, images and people of each split.
        notes: what was left out or failed, one sentence each.
        scores: the test scores of each seed; not part of `to_dict()`.
        bootstrap: resamples behind the intervals.
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

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, strings, lists and dictionaries: one method's entry of report.json."""
        keys = ("name", "attribute", "paper", "retrained", "controls", "seeds", "data", "notes")
        return json.loads(json.dumps({key: getattr(self, key) for key in keys}, allow_nan=False))

    def to_frame(self) -> pandas.DataFrame:
        """A row a figure: regime, figure, value (the mean over seeds), low and high (95 % interval), sd (over seeds, NaN for one)."""
        import pandas

        rows = []
        for regime in ("paper", "retrained", "controls"):
            values = getattr(self, regime) or {}
            per_seed = [dict(_flat(entry.get(regime) or {})) for entry in self.seeds]
            for figure, value in _flat(values):
                low, high = values.get(f"{figure}_ci", (np.nan, np.nan))
                spread = [own[figure] for own in per_seed if figure in own]
                sd = float(np.std(spread, ddof=1)) if len(spread) > 1 else np.nan
                rows.append((regime, figure, value, low, high, sd))
        return pandas.DataFrame(rows, columns=["regime", "figure", "value", "low", "high", "sd"])

    @classmethod
    def merge(cls, reports: Sequence[AuditReport]) -> AuditReport:
        """One report over all seeds of several, of the same faces and attribute: means, and intervals of these means.

        Raises:
            UserError: there are none, or they are of different faces or attributes.
        """
        reports = list(reports)
        if not reports:
            raise UserError("There are no audit reports to merge.")
        first = reports[0]
        for other in reports[1:]:
            for what, mine, theirs in (("attribute", first.attribute, other.attribute), ("data", first.data, other.data)):
                if mine != theirs:
                    raise UserError(f"Audits of different {what} cannot be merged: {mine!r} and {theirs!r}.")
        if len(reports) == 1:
            return first
        entries = [entry for report in reports for entry in report.seeds]
        scores = [own for report in reports for own in report.scores]
        notes = tuple(dict.fromkeys(note for report in reports for note in report.notes))
        return _combine(first.name, first.attribute, first.data, notes, entries, scores, max(r.bootstrap for r in reports))

    def save(self, path: str | os.PathLike) -> None:
        """Write everything, scores too, into one .npz file, atomically; `load` reads it without pickle."""
        arrays: dict[str, np.ndarray] = {}
        for i, own in enumerate(self.scores):
            arrays |= {f"{i}/labels": own.labels, f"{i}/people": own.people}
            arrays |= {f"{i}/attackers/{name}": values for name, values in own.attackers.items()}
            for kind in ("free", "same"):
                scored = getattr(own, kind)
                arrays |= {f"{i}/{kind}/{part}": getattr(scored, part) for part in ("scores", "positive", "people")}
            if own.adversary is not None:
                arrays[f"{i}/adversary"] = own.adversary
        text = json.dumps({**self.to_dict(), "bootstrap": self.bootstrap, "worst": [own.worst for own in self.scores]}, allow_nan=False)
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
            return cls(**{**saved, "seeds": tuple(saved["seeds"]), "notes": tuple(saved["notes"])}, scores=scores)
        except FileNotFoundError as error:
            raise UserError(f"{path}: no such file; give one that AuditReport.save wrote.") from error
        except (OSError, ValueError, KeyError, TypeError, EOFError, AttributeError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} is not a saved audit report ({one_line(error)}). Remove it to audit again.") from error

    def __repr__(self) -> str:
        return f"AuditReport({self.name!r}, {self.attribute!r}, leak_auc={self.retrained['leak_auc']:.3f}, {len(self.seeds)} seeds)"

    def __str__(self) -> str:
        return _table(self)


def audit(
    anonymizer: Callable[[Tensor], Tensor | np.ndarray],
    faces: Faces,
    attribute: str | None = None,
    seeds: int | Sequence[int] = 3,
    config: AuditConfig | None = None,
    adversary: Callable[[Tensor], Tensor | np.ndarray] | None = None,
    siamese: Callable[[Tensor], Tensor | np.ndarray] | None = None,
    first_seed: int = 0,
    progress: bool = True,
) -> AuditReport:
    """Audit an anonymizer on faces: train fresh attackers and a fresh verifier, and say what they reach on people never seen before.

    Args:
        anonymizer: images, float32 (N, 1, H, W) in [0, 1], to representations, float (N, k), as tensor or numpy array. It may
            have the attributes `map_shape`, the map (channels, height, width) that a representation flattens, `decode`,
            representations to images, and `name`.
        faces: all of them; the audit takes the splits attack, val and test of `faces.split()`, so train the anonymizer on its `train` only.
        attribute: the private one; None takes the faces' own.
        seeds: how many seeds, or which; each trains everything afresh and draws other pairs.
        config: attackers, epochs, pairs, bootstrap, controls; None takes `AuditConfig()`.
        adversary: for the paper regime: representations (N, k) to logits (N,), positive for label 1.
        siamese: for the paper regime: representations (N, k) to embeddings (N, d).
        first_seed: the first one, where `seeds` is a number.
        progress: show progress bars.

    Raises:
        UserError: there are too few people for an interval; the anonymizer fails, or returns something of the wrong shape,
            not finite or the same for all images; all attackers fail.
    """
    config = config or AuditConfig()
    attribute = faces.attribute if attribute is None else attribute
    if attribute != faces.attribute:
        faces.labels(attribute)  # says which there are
        faces = dataclasses.replace(faces, attribute=attribute)
    numbers = _seed_numbers(seeds, first_seed)
    names = _attacker_names(config)
    splits = faces.split()
    enough_people(splits)
    pairs = {seed: _draw_pairs(splits, config.pairs, seed) for seed in numbers}  # before anything slow: this can refuse
    name = _name_of(anonymizer)
    with tqdm(total=1, desc=f"{name}: representations", disable=not progress) as bar:
        released = _Released.of(anonymizer, splits)
        bar.update()
    notes = list(released.notes)
    entries, scores = [], []
    for seed in numbers:
        paper = _paper_regime(adversary, siamese, released, pairs[seed])  # first: it is quick, and a user's network may fail
        entry, own = _audit_seed(released, pairs[seed], names, config, seed, progress)
        entry["paper"] = None if paper is None else paper[0]
        if paper is not None and paper[1] is not None:
            own = dataclasses.replace(own, adversary=paper[1])
        entry["controls"] = _controls(released, splits, pairs[seed], config, seed, progress)
        for what in ("attackers_left_out", "attackers_failed", "verifiers_failed"):
            for part, reason in entry["retrained"].pop(what).items():
                verb = "was left out" if what == "attackers_left_out" else "failed"
                notes.append(f"{part} {verb}: {reason}.")
        entries.append({key: entry[key] for key in ("seed", "paper", "retrained", "controls")})
        scores.append(own)
    data = {"source": faces.source, "images": len(faces), "people": faces.people, "size": faces.size}
    data |= {f"{part}_{what}": value for part in ("attack", "val", "test") for what, value in _counts(getattr(splits, part)).items()}
    return _combine(name, attribute, data, tuple(dict.fromkeys(notes)), entries, scores, config.bootstrap)


# What goes in ---------------------------------------------------------------------------------------------------------


def _seed_numbers(seeds: int | Sequence[int], first_seed: int) -> list[int]:
    if isinstance(seeds, (int, np.integer)) and not isinstance(seeds, bool):
        numbers = list(range(first_seed, first_seed + int(seeds)))
    else:
        try:
            numbers = [int(seed) for seed in seeds]
        except (TypeError, ValueError):
            numbers = []
    if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers):
        raise UserError(f"seeds must be a positive number or different whole numbers that are not negative, not {seeds!r}.")
    return numbers


def _attacker_names(config: AuditConfig) -> tuple[str, ...]:
    names = tuple(config.attackers) or tuple(ATTACKERS)
    if unknown := [name for name in names if name not in ATTACKERS]:
        raise UserError(f"There is no attacker {unknown[0]!r}; there are {', '.join(ATTACKERS)}.")
    return names


def enough_people(splits: Splits) -> None:
    """Raise a UserError where the intervals on test would rest on too few people; to be called before anything is trained."""
    test = splits.test
    labels = test.labels()
    people = {f"people with {test.attribute!r} = {value}": len(np.unique(test.identity[labels == value])) for value in (0, 1)}
    people["people with two images or more"] = int((np.unique(test.identity, return_counts=True)[1] > 1).sum())
    fewest = min(people, key=people.get)
    if people[fewest] < MIN_PEOPLE:
        raise UserError(
            f"Too few people for an audit: the test split has {people[fewest]} {fewest}, and an interval needs at least {MIN_PEOPLE}. "
            f"Load more people (about {5 * MIN_PEOPLE} of each kind in all), or raise the limit."
        )


def _draw_pairs(splits: Splits, count: int, seed: int) -> dict[str, dict[str, Pairs]]:
    if count < 2 * MIN_PEOPLE:
        raise UserError(f"AuditConfig.pairs is {count}, and an interval needs at least {2 * MIN_PEOPLE}: half of them genuine.")
    return {part: {kind: getattr(splits, part).pairs(count, kind, seed=seed) for kind in ("free", "same")} for part in ("val", "test")}


def _counts(faces: Faces) -> dict[str, int]:
    return {"images": len(faces), "people": faces.people}


def _name_of(anonymizer: object) -> str:
    for candidate in (getattr(anonymizer, "name", None), getattr(anonymizer, "__name__", None)):
        if isinstance(candidate, str) and candidate:
            return candidate
    return type(anonymizer).__name__


def _device_of(function: object) -> torch.device:
    """Where a module's weights are; the CPU for anything else."""
    first = next(function.parameters(), None) if isinstance(function, nn.Module) else None
    return first.device if first is not None else torch.device("cpu")


def _call(function: Callable, inputs: Tensor, what: str) -> np.ndarray:
    """Run a user's function without gradients on a batch; a float array of as many rows, not yet looked at otherwise."""
    shape = tuple(inputs.shape)
    modules = [part for part in (function, getattr(function, "__self__", None)) if isinstance(part, nn.Module)]
    was_training = [module for module in modules if module.training]
    for module in was_training:
        module.eval()
    try:
        with torch.no_grad():
            result = function(inputs.to(_device_of(modules[0] if modules else function)))
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{what} failed on a batch of shape {shape}: {one_line(error)}") from error
    finally:
        for module in was_training:
            module.train()
    if isinstance(result, Tensor):
        result = result.detach().cpu()
        result = result.float().numpy() if result.is_floating_point() else result.numpy()
    if not isinstance(result, np.ndarray) or result.dtype.kind != "f":
        came = f"{result.dtype} array" if isinstance(result, np.ndarray) else type(result).__name__
        raise UserError(f"{what} must return a float tensor or numpy array, not a {came} (batch of shape {shape}).")
    if result.ndim < 1 or len(result) != len(inputs):
        raise UserError(f"{what} must return one row for each of the {len(inputs)} rows it is given, not an array of shape {result.shape}.")
    return result


def represent(anonymizer: Callable[[Tensor], Tensor | np.ndarray], images: Any, mirror: bool = False) -> np.ndarray:
    """What an anonymizer makes of uint8 images (N, 1, H, W), in batches and without gradients: float32 (N, k).

    Args:
        mirror: give it the images reversed left to right.

    Raises:
        UserError: it fails, or returns something that is not a float array of shape (N, k), finite, and not the same for all images.
    """
    what = f"The anonymizer {_name_of(anonymizer)}"
    g: np.ndarray | None = None
    for start in range(0, len(images), BATCH):
        batch = to_images(np.asarray(images[start : start + BATCH]), torch.device("cpu"))
        part = _call(anonymizer, batch.flip(3) if mirror else batch, what)
        if part.ndim != 2 or not part.shape[1] or (g is not None and part.shape[1] != g.shape[1]):
            before = "" if g is None else f" after (N, {g.shape[1]}) for the batches before"
            raise UserError(f"{what} must return representations of shape (N, k), not {part.shape} for {len(batch)} images{before}.")
        if g is None:
            g = np.empty((len(images), part.shape[1]), dtype=np.float32)
        with np.errstate(over="ignore"):  # what does not fit into float32 becomes infinite, and is named next
            g[start : start + len(part)] = part
        bad = ~np.isfinite(g[start : start + len(part)])
        if bad.any():
            raise UserError(
                f"{what} returned NaN or infinite values: {bad.sum()} in images {start} to {start + len(part) - 1}. "
                "Look for a division by zero or the log of 0."
            )
    if len(g) > 1 and (g == g[0]).all():
        raise UserError(f"{what} returned the same representation for all {len(g)} images: there is nothing to audit.")
    return g


def _map_shape(anonymizer: object, k: int) -> tuple[int, int, int] | None:
    shape = getattr(anonymizer, "map_shape", None)
    if shape is None:
        return None
    try:
        shape = tuple(int(side) for side in shape)
    except TypeError:
        shape = ()
    if len(shape) != 3 or min(shape) < 1 or np.prod(shape) != k:
        found = getattr(anonymizer, "map_shape", None)
        raise UserError(
            f"The anonymizer {_name_of(anonymizer)} has map_shape {found!r}, which is not a (channels, height, width) of {k} numbers."
        )
    return shape


def _reconstruct(decode: Callable, g: np.ndarray) -> np.ndarray:
    """What `decode` makes of g, float32 (N, 1, h, w), no larger than `RECONSTRUCTION_SIZE`."""
    parts = []
    for start in range(0, len(g), BATCH):
        images = torch.from_numpy(_call(decode, torch.from_numpy(g[start : start + BATCH]), "decode"))
        if images.ndim != 4 or images.shape[1] != 1:
            raise UserError(f"decode must return images of shape (N, 1, H, W), not {tuple(images.shape)}.")
        if max(images.shape[2:]) > RECONSTRUCTION_SIZE:
            images = F.adaptive_avg_pool2d(images, [min(side, RECONSTRUCTION_SIZE) for side in images.shape[2:]])
        parts.append(images.float().numpy())
    images = np.concatenate(parts)
    if not np.isfinite(images).all():
        raise UserError("decode returned NaN or infinite values.")
    return images


def _standardiser(g: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Each feature to mean 0 and deviation 1 on g, clipped to [-10, 10]; features that do not vary become 0."""
    mean = g.mean(0, dtype=np.float64)
    deviation = g.std(0, dtype=np.float64)
    varies = deviation > 1e-7 * max(deviation.max(), np.abs(mean).max())
    scale = np.where(varies, 1 / np.where(varies, deviation, 1), 0).astype(np.float32)
    mean = mean.astype(np.float32)

    def standardise(rows: np.ndarray) -> np.ndarray:
        result = (rows - mean) * scale
        return np.clip(result, -10, 10, out=result)

    return standardise


@dataclass(frozen=True, eq=False)
class _Released:
    """What an anonymizer released of the splits attack, val and test, and all that the seeds share.

    Attributes:
        sets: attack (with mirror images, where it is small), val, test; labels are -1 where they are missing.
        identity: people's codes of the same rows.
        principal: mean and basis of the attack features' principal components.
        missing: why a field of the sets is None.
    """

    sets: dict[str, AttackSet]
    identity: dict[str, np.ndarray]
    principal: tuple[np.ndarray, np.ndarray]
    missing: dict[str, str]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, anonymizer: Callable, splits: Splits, control: bool = False) -> _Released:
        """Run the anonymizer on the three splits. As a `control`, without what `CONTROL_ATTACKERS` do not read."""
        parts = {"attack": splits.attack, "val": splits.val, "test": splits.test}
        g = {part: represent(anonymizer, faces.images) for part, faces in parts.items()}
        shape = _map_shape(anonymizer, g["attack"].shape[1])
        missing = {} if shape else {"map_shape": "the representation is not a map (the anonymizer has no map_shape)"}
        decode = None if control else getattr(anonymizer, "decode", None)
        images: dict[str, np.ndarray | None] = dict.fromkeys(parts)
        if not callable(decode):
            missing["images"] = "the anonymizer has no decode"
        else:
            try:
                images = {part: _reconstruct(decode, values) for part, values in g.items()}
            except UserError as error:
                missing["images"] = f"no reconstructions ({error})"
        repeats = 2 if len(splits.attack) <= MIRROR_BELOW else 1
        if repeats == 2:
            g["attack"] = np.concatenate([g["attack"], represent(anonymizer, splits.attack.images, mirror=True)])
            if images["attack"] is not None:
                images["attack"] = np.concatenate([images["attack"], images["attack"][..., ::-1]])
        standardise = _standardiser(g["attack"])
        features = {part: standardise(values) for part, values in g.items()}
        principal = principal_components(features["attack"][:: -(-len(features["attack"]) // MIRROR_BELOW)], count=1 if control else 256)
        mean, basis = principal
        sets, notes = {}, []
        for part, faces in parts.items():
            times = repeats if part == "attack" else 1
            sets[part] = AttackSet(
                g=g[part],
                features=features[part],
                components=(features[part] - mean) @ basis.T,
                labels=np.tile(faces.labels(), times),
                map_shape=shape,
                images=images[part],
                repeats=times,
            )
            if unlabelled := int((faces.labels() < 0).sum()):
                notes.append(f"{unlabelled} images of {part} without a label of {faces.attribute!r} were left out of the attack")
        identity = {part: np.tile(faces.identity, sets[part].repeats) for part, faces in parts.items()}
        return cls(sets, identity, principal, missing, tuple(f"{note}." for note in notes))

    def labelled(self, embeddings: Mapping[str, np.ndarray] | None = None) -> dict[str, AttackSet]:
        """The rows with a label, for the attackers."""
        result = {}
        for part, data in self.sets.items():
            if embeddings is not None:
                data = dataclasses.replace(data, embeddings=embeddings[part])
            result[part] = data if (data.labels >= 0).all() else data.take(np.flatnonzero(data.labels >= 0))
        return result


# One seed -------------------------------------------------------------------------------------------------------------


def _audit_seed(
    released: _Released,
    pairs: dict[str, dict[str, Pairs]],
    names: Sequence[str],
    config: AuditConfig,
    seed: int,
    progress: bool,
) -> tuple[dict[str, Any], SeedScores]:
    sets = released.sets
    with tqdm(total=1, desc=f"  seed {seed}: verifier", disable=not progress) as bar:
        verifier = fit_verifier(
            sets["attack"].features,
            released.identity["attack"],
            sets["val"].features,
            list(pairs["val"].values()),
            map_shape=sets["attack"].map_shape,
            repeats=sets["attack"].repeats,
            epochs=config.epochs,
            seed=seed,
            principal=released.principal,
        )
        bar.set_postfix_str(f"{verifier.name}, val AUC {verifier.val_auc:.3f}")
        bar.update()
    embeddings = {part: verifier.embed(data.features) for part, data in sets.items()}
    utility, scored = _utility(embeddings, released.identity["test"], pairs)
    known = released.labelled(embeddings)
    attacks = _attack(known, names, config, seed, released.missing, f"  seed {seed}: ", progress)
    worst = max(attacks.val, key=attacks.val.get)
    threshold = best_threshold(attacks.val_scores[worst], known["val"].labels, balanced=True)
    own = SeedScores(
        labels=known["test"].labels == 1,
        people=released.identity["test"][sets["test"].labels >= 0],
        attackers=attacks.test_scores,
        worst=worst,
        free=scored["free"],
        same=scored["same"],
    )
    test = {name: roc_auc(values, own.labels) for name, values in attacks.test_scores.items()}
    retrained = {
        "leak_auc": test[worst],
        "worst_attacker": worst,
        "leak_balanced_accuracy": accuracy(attacks.test_scores[worst], own.labels, threshold, balanced=True),
        "attackers": test,
        "attackers_val": attacks.val,
        **utility,
        "verifier": verifier.name,
        "verifiers_val": verifier.candidates,
        "attackers_left_out": attacks.left_out,
        "attackers_failed": attacks.failed,
        "verifiers_failed": verifier.failed,
    }
    return {"seed": seed, "retrained": retrained}, own


def _utility(
    embeddings: Mapping[str, np.ndarray], identity: np.ndarray, pairs: dict[str, dict[str, Pairs]]
) -> tuple[dict[str, float], dict[str, Scored]]:
    """Verification figures on test pairs, with thresholds from val pairs, for free and same-attribute impostors."""
    figures, scored = {}, {}
    for kind, suffix in (("free", ""), ("same", "_same")):
        val, test = pairs["val"][kind], pairs["test"][kind]
        threshold = best_threshold(pair_distances(embeddings["val"], val), val.different)
        distances = pair_distances(embeddings["test"], test)
        scored[kind] = Scored(distances, test.different == 1, np.stack([identity[test.a], identity[test.b]], axis=1))
        figures[f"utility_auc{suffix}"] = scored[kind].auc
        figures[f"utility_accuracy{suffix}"] = accuracy(distances, test.different, threshold)
        figures[f"eer{suffix}"] = eer(distances, test.different)
        for far in FARS:
            figures[f"tar_at_far_{far}{suffix}"] = tar_at_far(distances, test.different, float(far))
    return figures, scored


@dataclass
class _Attacks:
    """Oriented scores on val and test and the AUC on val of each attacker that ran, and why the others did not."""

    val: dict[str, float] = dataclasses.field(default_factory=dict)
    val_scores: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    test_scores: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)


def _attack(
    sets: Mapping[str, AttackSet],
    names: Sequence[str],
    config: AuditConfig,
    seed: int,
    missing: Mapping[str, str],
    prefix: str,
    progress: bool,
) -> _Attacks:
    """Train the attackers called `names`. One that breaks down is noted, and the others go on."""
    done = _Attacks()
    for name in names:
        with tqdm(total=1, desc=f"{prefix}{name}", disable=not progress) as bar:
            try:
                attacker = ATTACKERS[name](config)
                lacks = [need for need in getattr(attacker, "needs", ()) if getattr(sets["attack"], need) is None]
                if lacks:
                    done.left_out[name] = missing.get(lacks[0], f"there are no {lacks[0]}")
                    bar.set_postfix_str("does not apply")
                    continue
                attacker.fit(sets["attack"], sets["val"], seed)
                val_scores = _score(attacker.score, sets["val"])
                auc = roc_auc(val_scores, sets["val"].labels)
                sign = 1.0 if auc >= 0.5 else -1.0
                test_scores = sign * _score(attacker.score, sets["test"])
            except Exception as error:
                done.failed[name] = one_line(error)
                bar.set_postfix_str(done.failed[name])
                continue
            done.val[name], done.val_scores[name], done.test_scores[name] = max(auc, 1 - auc), sign * val_scores, test_scores
            bar.set_postfix_str(f"val AUC {done.val[name]:.3f}")
            bar.update()
    if not done.val:
        why = "; ".join(f"{name}: {reason}" for name, reason in (done.failed | done.left_out).items())
        raise UserError(f"No attacker could be trained, so nothing can be said about the leak. {why}")
    return done


def _score(score: Callable[[AttackSet], Any], data: AttackSet) -> np.ndarray:
    scores = np.asarray(score(data), dtype=np.float64)
    if scores.shape != (len(data),) or not np.isfinite(scores).all():
        raise ValueError(f"an attacker's scores must be {len(data)} finite numbers, not of shape {scores.shape} or not finite")
    return scores


# The paper regime -----------------------------------------------------------------------------------------------------


def _paper_regime(
    adversary: Callable | None, siamese: Callable | None, released: _Released, pairs: dict[str, dict[str, Pairs]]
) -> tuple[dict[str, float], np.ndarray | None] | None:
    """Figures of the co-trained adversary and Siamese network, and the adversary's oriented scores on the labelled test images."""
    if adversary is None and siamese is None:
        return None
    figures: dict[str, float] = {}
    scores = None
    if adversary is not None:
        known = released.labelled()
        logits = {part: _outputs(adversary, known[part].g, "The co-trained adversary") for part in ("val", "test")}
        for part, values in logits.items():
            if values.ndim == 2 and values.shape[1] == 1:
                logits[part] = values[:, 0]
            elif values.ndim != 1:
                raise UserError(f"The co-trained adversary must return one logit an image, shape (N,), not {values.shape}.")
        labels = {part: known[part].labels for part in logits}
        val_auc = roc_auc(logits["val"], labels["val"])
        scores = logits["test"].astype(np.float64) * (1 if val_auc >= 0.5 else -1)
        figures["privacy_accuracy"] = accuracy(logits["test"], labels["test"], 0.0)
        figures["privacy_balanced_accuracy"] = accuracy(logits["test"], labels["test"], 0.0, balanced=True)
        figures["privacy_auc"] = roc_auc(scores, labels["test"])
        figures["privacy_auc_val"] = max(val_auc, 1 - val_auc)
    if siamese is not None:
        embeddings = {part: _outputs(siamese, released.sets[part].g, "The co-trained Siamese network") for part in ("val", "test")}
        if embeddings["val"].ndim != 2:
            raise UserError(f"The co-trained Siamese network must return embeddings of shape (N, d), not {embeddings['val'].shape}.")
        utility, _ = _utility(embeddings, released.identity["test"], pairs)
        figures |= {key: utility[key] for key in ("utility_accuracy", "utility_auc", "utility_accuracy_same", "utility_auc_same")}
    return figures, scores


def _outputs(function: Callable, g: np.ndarray, what: str) -> np.ndarray:
    values = np.concatenate([_call(function, torch.from_numpy(g[start : start + BATCH]), what) for start in range(0, len(g), BATCH)])
    if not np.isfinite(values).all():
        raise UserError(f"{what} returned NaN or infinite values.")
    return values


# Controls -------------------------------------------------------------------------------------------------------------


def _controls(
    released: _Released,
    splits: Splits,
    pairs: dict[str, dict[str, Pairs]],
    config: AuditConfig,
    seed: int,
    progress: bool,
) -> dict[str, float]:
    """What the figures are to be held against.

    majority_accuracy: always guessing the attack split's more frequent label. gender_only_verification_accuracy: calling two
    faces one person if their true labels agree. With `config.controls` also shuffled_labels_auc: the audit of labels dealt out to other
    people, where there is nothing to find; untrained_encoder_auc: what is read off the paper's encoder with random weights.
    """
    known = released.labelled()
    labels = {part: data.labels for part, data in known.items()}
    free, truth = pairs["test"]["free"], splits.test.labels()
    both = (truth[free.a] >= 0) & (truth[free.b] >= 0)
    says_different = truth[free.a] != truth[free.b]
    controls = {
        "majority_accuracy": float((labels["test"] == int(labels["attack"].mean() >= 0.5)).mean()),
        "gender_only_verification_accuracy": float((says_different == free.different)[both].mean()),
    }
    if not config.controls:
        return controls
    rng = np.random.default_rng(seed)
    shuffled = {}
    for part, data in known.items():
        identity = released.identity[part][released.sets[part].labels >= 0]
        half = len(data) // data.repeats
        dealt = _shuffle_between_people(data.labels[:half], identity[:half], rng)
        shuffled[part] = dataclasses.replace(data, labels=np.tile(dealt, data.repeats))
    controls["shuffled_labels_auc"] = _worst_auc(shuffled, CONTROL_ATTACKERS, config, seed, f"  seed {seed}: shuffled labels, ", progress)
    encoder = build(Encoder, torch.device("cpu"), seed, "untrained")
    encoder.map_shape = latent_shape(splits.test.size)
    untrained = _Released.of(encoder, splits, control=True).labelled()
    prefix = f"  seed {seed}: untrained encoder, "
    controls["untrained_encoder_auc"] = _worst_auc(untrained, CONTROL_ATTACKERS, config, seed, prefix, progress)
    return controls


def _worst_auc(sets: Mapping[str, AttackSet], names: Sequence[str], config: AuditConfig, seed: int, prefix: str, progress: bool) -> float:
    attacks = _attack(sets, names, config, seed, {}, prefix, progress)
    return roc_auc(attacks.test_scores[max(attacks.val, key=attacks.val.get)], sets["test"].labels)


def _shuffle_between_people(labels: np.ndarray, identity: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Deal each person's labels out to another person, so that labels stay together as they do within a person."""
    order = np.argsort(identity, kind="stable")
    _, start, count = np.unique(identity[order], return_index=True, return_counts=True)
    donor = rng.permutation(len(count))
    person = np.repeat(np.arange(len(count)), count)
    position = np.arange(len(labels)) - start[person]
    dealt = np.empty_like(labels)
    dealt[order] = labels[order[start[donor[person]] + position % count[donor[person]]]]
    return dealt


# Many seeds -----------------------------------------------------------------------------------------------------------


def _combine(
    name: str,
    attribute: str,
    data: dict[str, Any],
    notes: tuple[str, ...],
    entries: Sequence[dict[str, Any]],
    scores: Sequence[SeedScores],
    bootstrap: int,
) -> AuditReport:
    """One report of several seeds: means, and clustered intervals of the mean AUCs."""
    retrained = _mean([entry["retrained"] for entry in entries])
    retrained["worst_attacker"] = max(retrained["attackers_val"], key=retrained["attackers_val"].get)
    for key, kind in (("leak_auc", "leak"), ("utility_auc", "free"), ("utility_auc_same", "same")):
        retrained[f"{key}_ci"] = list(interval([getattr(own, kind) for own in scores], bootstrap))
    papers = [entry["paper"] for entry in entries if entry["paper"] is not None]
    controls = _mean([entry["controls"] for entry in entries])
    return AuditReport(
        name, attribute, _mean(papers) if papers else None, retrained, controls, tuple(entries), data, notes, tuple(scores), bootstrap
    )


def _mean(dicts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Key by key: the mean of numbers, over those that have the key; the most frequent text; the same inside dictionaries."""
    result: dict[str, Any] = {}
    for key in dict.fromkeys(key for values in dicts for key in values):
        found = [values[key] for values in dicts if key in values]
        if isinstance(found[0], Mapping):
            result[key] = _mean(found)
        elif isinstance(found[0], str):
            result[key] = collections.Counter(found).most_common(1)[0][0]
        else:
            result[key] = float(np.mean(found))
    return result


def _flat(values: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The numbers in nested dictionaries, with dotted names; intervals and texts are left out."""
    rows = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows += [(f"{key}.{name}", number) for name, number in _flat(value)]
        elif isinstance(value, (int, float)):
            rows.append((key, float(value)))
    return rows


def _scores_from(arrays: Mapping[str, np.ndarray], i: int, worst: str) -> SeedScores:
    start = f"{i}/attackers/"
    return SeedScores(
        labels=arrays[f"{i}/labels"],
        people=arrays[f"{i}/people"],
        attackers={key.removeprefix(start): values for key, values in arrays.items() if key.startswith(start)},
        worst=worst,
        free=Scored(*(arrays[f"{i}/free/{part}"] for part in ("scores", "positive", "people"))),
        same=Scored(*(arrays[f"{i}/same/{part}"] for part in ("scores", "positive", "people"))),
        adversary=arrays.get(f"{i}/adversary"),
    )


# The table ------------------------------------------------------------------------------------------------------------


def _table(report: AuditReport) -> str:
    r, data = report.retrained, report.data
    seeds = [entry["seed"] for entry in report.seeds]
    title = f"Audit of {report.name}: {report.attribute!r} as labelled in {data['source']}"
    splits = ", ".join(
        f"{part} {data[f'{part}_images']:,} images of {data[f'{part}_people']:,} people" for part in ("attack", "val", "test")
    )
    lines = [title, "=" * len(title), splits, f"{'seed' if len(seeds) == 1 else 'means over seeds'} {', '.join(map(str, seeds))}", ""]

    lines += ["PAPER REGIME: the adversary and the Siamese network that were trained with the anonymizer"]
    p = report.paper
    if p is None:
        lines += ["  not measured: no co-trained networks were given"]
    if p is not None and "privacy_auc" in p:
        lines += [_row("attribute read", f"AUC {p['privacy_auc']:.3f}", f"accuracy {p['privacy_accuracy']:.1%}")]
        lines[-1] += f", balanced {p['privacy_balanced_accuracy']:.1%}"
    if p is not None and "utility_auc" in p:
        lines += [_row("people verified, free impostors", f"AUC {p['utility_auc']:.3f}", f"accuracy {p['utility_accuracy']:.1%}")]
        lines += [_row("people verified, same label", f"AUC {p['utility_auc_same']:.3f}", f"accuracy {p['utility_accuracy_same']:.1%}")]

    lines += ["", f"RETRAINED REGIME: fresh attackers, fresh verifier ({r['verifier']}); 95 % intervals over people"]
    lines += [_row("attribute read, worst attacker", _auc(r, "leak_auc"), f"balanced accuracy {r['leak_balanced_accuracy']:.1%}")]
    for label, suffix in (("people verified, free impostors", ""), ("people verified, same label", "_same")):
        lines += [
            _row(label, _auc(r, f"utility_auc{suffix}"), f"accuracy {r[f'utility_accuracy{suffix}']:.1%}, EER {r[f'eer{suffix}']:.1%}")
        ]
    for label, suffix in (("TAR at FAR 10 %, 1 %, 0.1 %", ""), ("  the same, same label", "_same")):
        lines += [_row(label, "  ".join(f"{r[f'tar_at_far_{far}{suffix}']:.1%}" for far in FARS))]

    lines += ["", f"  {'attacker':<32}{'val AUC':>8}{'test AUC':>10}"]
    for name in sorted(r["attackers"], key=r["attackers_val"].get, reverse=True):
        mark = "  <- worst on val" if name == r["worst_attacker"] else ""
        lines += [f"  {name:<32}{r['attackers_val'][name]:>8.3f}{r['attackers'][name]:>10.3f}{mark}"]
    if p is not None and "privacy_auc" in p:
        lines += [f"  {'(co-trained adversary)':<32}{p['privacy_auc_val']:>8.3f}{p['privacy_auc']:>10.3f}  paper regime, for comparison"]

    c = report.controls
    words = {
        "majority_accuracy": ("always the more frequent label", "accuracy {:.1%}"),
        "shuffled_labels_auc": ("labels shuffled between people", "AUC {:.3f}"),
        "untrained_encoder_auc": ("untrained encoder", "AUC {:.3f}"),
        "gender_only_verification_accuracy": ("same label means same person", "accuracy {:.1%} of the free-impostor pairs"),
    }
    lines += ["", "CONTROLS", *(_row(words[key][0], words[key][1].format(c[key])) for key in words if key in c)]
    if report.notes:
        lines += ["", "NOTES", *(f"  {note}" for note in report.notes)]
    return "\n".join(lines)


def _row(label: str, *cells: str) -> str:
    return f"  {label:<34}" + "   ".join(cells)


def _auc(values: Mapping[str, Any], key: str) -> str:
    low, high = values[f"{key}_ci"]
    return f"AUC {values[key]:.3f} [{low:.3f}, {high:.3f}]"
