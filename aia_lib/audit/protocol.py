"""`audit`: the seeds' loop, the paper regime and the controls."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.special import logit
from torch import Tensor

from ..attackers import ATTACKERS, AttackSet
from ..config import AuditConfig
from ..faces import Faces, Pairs, Splits
from ..machine.choices import best, choosing, logged
from ..machine.device import build
from ..machine.files import UserError
from ..models import Encoder, latent_shape
from ..statistics import MIN_PEOPLE, accuracy, best_threshold, roc_auc
from ..verification import pair_distances
from .audit_report import AuditReport, combine
from .deep import Deep, DeepConfig
from .information import platt
from .makers import as_makers, read_images
from .released import Released, batched_outputs, name_of
from .trial import Attacks, Makers, SeedScores, at_the_gate, attack, draw_pairs, utility

CONTROL_ATTACKERS = ("logistic", "mlp")
"""Who attacks the controls: quick, one linear, one not. Neither reads principal components."""


def audit(
    anonymizer: Callable[[Tensor], Tensor | np.ndarray],
    faces: Faces,
    attribute: str | None = None,
    *,
    seeds: int | Sequence[int] = 3,
    config: AuditConfig | None = None,
    deep: DeepConfig | bool | None = None,
    original: Callable[[Tensor], Tensor | np.ndarray] | None = None,
    elsewhere: Faces | None = None,
    attackers: Sequence[Any] | Mapping[str, Any] | None = None,
    splits: Splits | None = None,
    progress: bool = True,
) -> AuditReport:
    """Audit an anonymizer on faces: train fresh attackers and a fresh verifier, and say what they reach on people never seen before.

    With `deep` it asks further questions, in several times as long; `report.deep` holds the answers:

    * *information* and *code*: at least how many bits leak, I(S;Z) >= H(S) - CE, and the online code length of the labels;
    * *curve*: what the attackers reach with more and more people to learn from;
    * *creep*: every other attribute of the faces, before (`original`) and after, with the interval of the change;
    * *reconstruction*: a fresh decoder rebuilds the faces from g: PSNR, SSIM, and whether the rebuilt ones are recognised;
    * *adaptive*: an attacker that knows the defence, see `adaptive`;
    * *others*: attackers who also learn from the people of `train`, and from another data set (`elsewhere`);
    * *levels*: what one image, two images of a person and all images of a person tell, see `levels`.

    Args:
        anonymizer: images, float32 (N, 1, H, W) in [0, 1], or templates, float32 (N, d), to representations, float (N, k), as tensor or
            numpy array. What else it may offer is declared on `anonymizers.Anonymizer`; where it has an `adversary` or a `siamese`, the
            paper regime is measured, and where it has `unprotected`, how much of that one's utility is kept.
        faces: all of them; the audit takes the splits attack, val and test of `faces.split()`, so train the anonymizer on its `train` only.
        attribute: the one to read; None takes the faces' own. The people are split by the faces' own all the same.
        seeds: how many seeds, or which; each trains everything afresh and draws other pairs.
        config: attackers, epochs, pairs, bootstrap, controls; None takes `AuditConfig()`.
        deep: which further questions, and their settings; True takes `DeepConfig()`. One that cannot be answered is noted.
        original: the anonymizer before protection, images to representations, for creep; None compares with the images themselves.
        elsewhere: faces of another data set, of the same size and with the same attribute, for attackers who have no others to learn from.
        attackers: names, scikit-learn classifiers, torch modules and attackers, mixed, see `makers.as_makers`; None: those of `config`.
            A reader's attacker that fails is noted; one of the library that fails, fails the audit.
        splits: the parts of `faces` to use, None takes `faces.split()`. In each of several folds, an anonymizer of its own is trained on
            the `train` of `faces.split(fold=k)` and audited with these splits; `AuditReport.merge` pools the reports. Sealed people are
            not touched.
        progress: show progress bars.

    Raises:
        UserError: there are too few people for an interval; the anonymizer fails, or returns something of the wrong shape,
            not finite or the same for all images; an item of `attackers` is none; all attackers fail.
    """
    config = config or AuditConfig()
    attribute = faces.attribute if attribute is None else attribute
    faces.labels(attribute)  # says which there are
    deep = DeepConfig() if deep is True else deep
    if elsewhere is not None:
        _fits(elsewhere, faces, attribute, deep)
    try:
        numbers = list(range(seeds)) if isinstance(seeds, (int, np.integer)) else [int(seed) for seed in seeds]
    except (TypeError, ValueError):
        numbers = []
    if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers) or isinstance(seeds, bool):
        raise UserError(f"seeds must be a positive number or different whole numbers that are not negative, not {seeds!r}.")
    makers = as_makers(list(config.attackers) or list(ATTACKERS)) if attackers is None else as_makers(attackers)
    # By the faces' own attribute, whichever is read: split by another one, people of `train` would turn up among those tested on.
    dealt = splits or faces.split()
    splits = Splits(*(dataclasses.replace(part, attribute=attribute) for part in dealt))
    enough_people(splits)
    pairs = {seed: draw_pairs(splits, config, seed) for seed in numbers}  # before anything slow: this can refuse
    decoded = read_images(makers, config)
    if deep:
        decoded |= read_images(as_makers(deep.attackers), config) or hasattr(anonymizer, "adaptive_attackers")
    released = Released.of(anonymizer, splits, progress=progress, decoded=decoded)
    adversary, siamese = (getattr(anonymizer, member, None) for member in ("adversary", "siamese"))
    if not callable(adversary) or getattr(anonymizer, "attribute", attribute) != attribute:
        adversary = None  # what was trained to read another attribute is not asked for this one
    siamese = siamese if callable(siamese) else None
    bare = getattr(anonymizer, "unprotected", None)
    unprotected = Released.of(bare, splits, control=True, progress=progress) if callable(bare) else None
    further = None
    if deep:
        further = Deep(anonymizer, faces, splits, released, original, elsewhere, adversary, siamese, config, deep, progress)
    notes, entries, scores = list(released.notes), [], []
    for seed in numbers:
        paper, logits = _paper_regime(adversary, siamese, released, pairs[seed])  # first: it is quick, and a reader's network may fail
        with logged() as choices:
            retrained, known, attacks, seed_scores = _retrained_regime(released, unprotected, pairs[seed], makers, config, seed, progress)
            controls = _controls(released, splits, pairs[seed], config, seed, progress)
            fold = {"fold": dealt.fold} if dealt.fold else {}
            entries.append({"seed": seed, **fold, "paper": paper, "retrained": retrained, "controls": controls})
            notes += [f"{part} was left out: {reason}." for part, reason in attacks.left_out.items()]
            notes += [f"{part} failed: {reason}." for part, reason in attacks.failed.items()]
            more: dict[str, np.ndarray] = {}
            if further is not None:
                entries[-1]["deep"], more = further.ask(seed, known, attacks, pairs[seed])
        scores.append(dataclasses.replace(seed_scores, adversary=logits, more={**seed_scores.more, **more}, choices=choices))
    if further is not None:
        notes += further.all_notes()
    data = {"source": faces.source, "images": len(faces), "people": faces.people, "size": faces.size, "kind": faces.kind}
    data |= {"sealed_people": dealt.sealed.people} if dealt.sealed else {}
    for part, some in (("attack", splits.attack), ("val", splits.val), ("test", splits.test)):
        data |= {f"{part}_images": len(some), f"{part}_people": some.people}
    return combine(name_of(anonymizer), attribute, data, tuple(dict.fromkeys(notes)), entries, scores, config.bootstrap)


def _fits(elsewhere: Faces, faces: Faces, attribute: str, deep: DeepConfig | None) -> None:
    """Raise a UserError where attackers of `faces` cannot learn from `elsewhere`."""
    if not deep or "others" not in deep.parts:
        raise UserError("elsewhere is for the question 'others': ask with deep=True, or with it among DeepConfig.parts.")
    if elsewhere.source == faces.source:
        raise UserError(
            f"elsewhere holds faces of {faces.source}, as faces do: people who are tested may be among them. Take another data set."
        )
    if elsewhere.kind != faces.kind:
        raise UserError(f"elsewhere has {elsewhere.kind}, faces has {faces.kind}; load both alike.")
    if not {0, 1} <= set(elsewhere.labels(attribute).tolist()):
        raise UserError(f"elsewhere has one label of {attribute!r} only: nothing can be learned from it. Load more people.")


def enough_people(splits: Splits, tested: str = "test split") -> None:
    """Raise a UserError where the intervals on test would rest on too few people; to be called before anything is trained.

    `tested` is what the message calls the people of test.
    """
    test = splits.test
    labels = test.labels()
    people = {f"people with {test.attribute!r} = {value}": len(np.unique(test.identity[labels == value])) for value in (0, 1)}
    people["people with two images or more"] = int((np.unique(test.identity, return_counts=True)[1] > 1).sum())
    fewest = min(people, key=people.get)
    if people[fewest] < MIN_PEOPLE:
        raise UserError(
            f"Too few people for an audit: the {tested} has {people[fewest]} {fewest}, and an interval needs at least {MIN_PEOPLE}. "
            f"Load more people (about {5 * MIN_PEOPLE} of each kind in all), or raise the limit."
        )
    for name in ("attack", "val"):
        if not {0, 1} <= set(getattr(splits, name).labels().tolist()):
            raise UserError(f"Too few people for an audit: the {name} split has one label of {test.attribute!r} only. Load more people.")


def _retrained_regime(
    released: Released,
    unprotected: Released | None,
    pairs: dict[str, dict[str, Pairs]],
    makers: Makers,
    config: AuditConfig,
    seed: int,
    progress: bool,
) -> tuple[dict[str, Any], dict[str, AttackSet], Attacks, SeedScores]:
    """One seed's figures, the labelled rows that were attacked, the attacks themselves, and the scores on test."""
    val_pairs = list(pairs["val"].values())
    verifier = released.verifier(val_pairs, config, seed, progress)
    embeddings = {part: verifier.embed(data.features) for part, data in released.sets.items()}
    verified, scored = utility(embeddings, released.identity["test"], pairs)
    refused, gate = at_the_gate(embeddings, released.identity["test"], pairs)
    known = released.labelled(embeddings)
    attacks = attack(known, makers, config, seed, released.missing, f"  seed {seed}: ", progress)
    worst, labels = best("attacker", attacks.val), known["test"].labels == 1
    threshold = best_threshold(attacks.val_scores[worst], known["val"].labels, balanced=True)
    test = {name: roc_auc(values, labels) for name, values in attacks.test_scores.items()}
    figures = {
        "leak_auc": test[worst],
        "worst_attacker": worst,
        "leak_balanced_accuracy": accuracy(attacks.test_scores[worst], labels, threshold, balanced=True),
        "attackers": test,
        "attackers_val": attacks.val,
        **verified,
        **refused,
        "verifier": verifier.name,
        "verifiers_val": verifier.candidates,
    }
    people = released.identity["test"][released.sets["test"].labels >= 0]
    chances = platt(attacks.val_scores[worst], known["val"].labels)(attacks.test_scores[worst])
    more = {"leak/llr": logit(chances) - logit(known["val"].labels.mean())}  # log likelihood ratios, as val calibrates them
    if unprotected is not None:
        bare = unprotected.verifier(val_pairs, config, seed, progress).embed(unprotected.sets["test"].features)
        more |= {f"unprotected/{kind}": pair_distances(bare, drawn) for kind, drawn in pairs["test"].items()}
    scores = SeedScores(labels, people, attacks.test_scores, worst, scored["free"], scored["same"], gate=gate, more=more)
    return figures, known, attacks, scores


def _paper_regime(
    adversary: Callable | None, siamese: Callable | None, released: Released, pairs: dict[str, dict[str, Pairs]]
) -> tuple[dict[str, float] | None, np.ndarray | None]:
    """Figures of the co-trained adversary and Siamese network, and the adversary's oriented scores on the labelled test images."""
    figures: dict[str, float] = {}
    scores = None
    if adversary is not None:
        known = released.labelled()
        logits = {part: batched_outputs(adversary, known[part].g, "The co-trained adversary") for part in ("val", "test")}
        for part, values in logits.items():
            if values.ndim == 2 and values.shape[1] == 1:
                logits[part] = values[:, 0]
            elif values.ndim != 1:
                raise UserError(f"The co-trained adversary must return one logit an image, shape (N,), not {values.shape}.")
        val_auc, labels = roc_auc(logits["val"], known["val"].labels), known["test"].labels
        scores = logits["test"].astype(np.float64) * (1 if val_auc >= 0.5 else -1)
        figures["privacy_accuracy"] = accuracy(logits["test"], labels, 0.0)
        figures["privacy_balanced_accuracy"] = accuracy(logits["test"], labels, 0.0, balanced=True)
        figures["privacy_auc"] = roc_auc(scores, labels)
        figures["privacy_auc_val"] = max(val_auc, 1 - val_auc)
    if siamese is not None:
        embeddings = {part: batched_outputs(siamese, released.sets[part].g, "The co-trained Siamese network") for part in ("val", "test")}
        if embeddings["val"].ndim != 2:
            raise UserError(f"The co-trained Siamese network must return embeddings of shape (N, d), not {embeddings['val'].shape}.")
        verified, _ = utility(embeddings, released.identity["test"], pairs)
        figures |= {key: verified[key] for key in ("utility_accuracy", "utility_auc", "utility_accuracy_same", "utility_auc_same")}
    return figures or None, scores


def _controls(
    released: Released, splits: Splits, pairs: dict[str, dict[str, Pairs]], config: AuditConfig, seed: int, progress: bool
) -> dict[str, float]:
    """What the figures are to be held against.

    majority_accuracy: always guessing the attack split's more frequent label. gender_only_verification_accuracy: calling two faces one
    person if their labels agree. With `config.controls` also shuffled_labels_auc, the audit of labels dealt out to other people, where
    there is nothing to find, and, of images, untrained_encoder_auc, what is read off the paper's encoder with random weights.
    """
    known = released.labelled()
    free, truth = pairs["test"]["free"], splits.test.labels()
    both = (truth[free.a] >= 0) & (truth[free.b] >= 0)
    says_different = truth[free.a] != truth[free.b]
    controls = {
        "majority_accuracy": float((known["test"].labels == int(known["attack"].labels.mean() >= 0.5)).mean()),
        "gender_only_verification_accuracy": float((says_different == free.different)[both].mean()),
    }
    if not config.controls:
        return controls

    def worst_auc(sets: Mapping[str, AttackSet], what: str) -> float:
        with choosing(what):
            attacks = attack(sets, as_makers(CONTROL_ATTACKERS), config, seed, {}, f"  seed {seed}: {what}, ", progress)
        return roc_auc(attacks.test_scores[attacks.worst], sets["test"].labels)

    rng = np.random.default_rng(seed)
    shuffled = {}
    for part, data in known.items():
        identity = released.identity[part][released.sets[part].labels >= 0]
        half = len(data) // data.repeats
        dealt = _shuffle_between_people(data.labels[:half], identity[:half], rng)
        shuffled[part] = dataclasses.replace(data, labels=np.tile(dealt, data.repeats))
    controls["shuffled_labels_auc"] = worst_auc(shuffled, "shuffled labels")
    if splits.test.templates:
        return controls
    encoder = build(Encoder, torch.device("cpu"), seed, "untrained")
    encoder.map_shape = latent_shape(splits.test.size)
    controls["untrained_encoder_auc"] = worst_auc(Released.of(encoder, splits, control=True).labelled(), "untrained encoder")
    return controls


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
