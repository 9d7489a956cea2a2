"""The leak in bits: what an attacker's scores say about the information in a representation, and how its data pays.

An attacker's scores become probabilities by Platt's fit on val; their cross entropy on test is at least H(S|Z), so

    I(S;Z) >= H(S) - CE                                                                              (Xu et al. 2020)

in bits an image: a *lower* bound on what the representation Z tells about the attribute S. The online code (Voita and Titov
2020) prices the attacker's data as well: the labels are sent block after block, each block coded by an attacker that was trained on
those before it. A representation from which the labels are learned from few people has a short code. The labels of val are data, too:
they stop the training, choose the attacker and fit its probabilities. So they are sent first, and every point of the curve counts them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression

from ..attackers import AttackSet
from ..machine.files import UserError
from ..statistics import roc_auc
from .trial import Attacks, Makers, Trial

FEWEST = 4  # people of each label that a prefix of the attack people must hold before an attacker is trained on it


def entropy(rate: np.ndarray | float) -> Any:
    """Entropy of a coin that falls on 1 with probability `rate`, in bits; 0 for a coin that always falls on one side."""
    rate = np.clip(np.asarray(rate, dtype=np.float64), 1e-300, 1)
    other = np.clip(1 - rate, 1e-300, 1)
    return -(rate * np.log2(rate) + other * np.log2(other))


def code_lengths(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """-log2 of the probability of what came, in bits, (N,), from probabilities of label 1, in (0, 1), (N,), and labels 0 or 1, (N,)."""
    return -np.log2(np.where(labels == 1, probabilities, 1 - probabilities))


def platt(scores: np.ndarray, labels: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Platt's fit: scores (N,) with labels 0 or 1 give a function from scores to probabilities of label 1.

    His targets, (n1 + 1)/(n1 + 2) and 1/(n0 + 2), keep scores that separate val perfectly from promising certainty.
    """
    centre, scale = scores.mean(), max(scores.std(), 1e-12)
    ones, zeros = int((labels == 1).sum()), int((labels == 0).sum())
    target = np.where(labels == 1, (ones + 1) / (ones + 2), 1 / (zeros + 2))
    inputs = ((scores - centre) / scale)[:, None]
    fit = LogisticRegression(C=1e6, max_iter=200).fit(
        np.concatenate([inputs, inputs]), np.repeat([1, 0], len(labels)), np.concatenate([target, 1 - target])
    )
    slope, offset = float(fit.coef_[0, 0]), float(fit.intercept_[0])

    def probabilities(values: np.ndarray) -> np.ndarray:
        logits = slope * (values - centre) / scale + offset
        return np.clip(1 / (1 + np.exp(-np.clip(logits, -500, 500))), 1e-9, 1 - 1e-9)

    return probabilities


def _cheapest(attacks: Attacks, labels: np.ndarray) -> tuple[str, Callable[[np.ndarray], np.ndarray]]:
    """The attacker whose probabilities have the least cross entropy on val, and its fit."""
    fits = {name: platt(scores, labels) for name, scores in attacks.val_scores.items()}
    costs = {name: float(code_lengths(fit(attacks.val_scores[name]), labels).mean()) for name, fit in fits.items()}
    best = min(costs, key=costs.get)
    return best, fits[best]


def information(attacks: Attacks, val: AttackSet, test: AttackSet) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The bound I(S;Z) >= H(S) - CE of one seed's attackers; the attacker is chosen on val, by cross entropy.

    Returns:
        figures: attacker; entropy_bits, H(S) of the test labels; cross_entropy_bits; information_bits, their difference.
        arrays: "information/bits", each test image's code length (T,).
    """
    name, fit = _cheapest(attacks, val.labels)
    bits = code_lengths(fit(attacks.test_scores[name]), test.labels)
    prior = float(entropy(test.labels.mean()))
    figures = {"attacker": name, "entropy_bits": prior, "cross_entropy_bits": float(bits.mean())}
    return figures | {"information_bits": prior - float(bits.mean())}, {"information/bits": bits}


def learning_curve(
    known: dict[str, AttackSet], people: dict[str, np.ndarray], makers: Makers, shares: Sequence[float], seed: int, trial: Trial
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Train attackers on growing shares of the attack people: the learning curve and, out of the same fits, the online code.

    Args:
        known: the labelled rows of attack, val and test.
        people: the person of each of these rows, by split.
        makers: the attackers; at each share the one that is best on val counts (by AUC for the curve, by cross entropy for the code).
        shares: of the attack people, rising, the last one 1. Shares with fewer than `FEWEST` people of a label are left out.
        seed: orders the people, so that each share holds the ones before it.

    Returns:
        figures: "curve", a list of {people, images, attack_people, leak_auc, attacker}, where people and images are all whose labels were
            used, those of val among them; and of the code, over all labels of val and attack: images, bits_per_label,
            label_only_bits_per_label (without looking at the representation), saved_bits_per_label, compression (1 over the bits).
            The labels of val and of the smallest share cost a bit each, in either code: nothing is known yet.
        arrays: "curve/<people>", test scores (T,); "code/bits", "code/label_only" and "code/people", of each coded image.
    """
    train, val, test = known["attack"], known["val"], known["test"]
    images = len(train) // train.repeats
    identity, val_people = people["attack"], len(np.unique(people["val"]))
    labels = train.labels[:images]
    codes, person = np.unique(identity[:images], return_inverse=True)
    place = np.random.default_rng(seed).permutation(len(codes))[person]  # (images,) each image's person's place in the order
    usable = []
    for end in dict.fromkeys(max(1, round(share * len(codes))) for share in shares):
        rarer = min(len(np.unique(person[(place < end) & (labels == value)])) for value in (0, 1))  # people of the rarer label
        usable += [end] if rarer >= FEWEST else []
    if len(usable) < 2:
        raise UserError(f"Too few people for a learning curve: {len(codes)} attack people with a label, cut into shares {tuple(shares)}.")
    curve: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    first = place < usable[0]
    bits, label_only = ([np.ones(len(val) + int(first.sum()))] for _ in range(2))
    coded = [people["val"], identity[:images][first]]
    for end, following in zip(usable, [*usable[1:], None], strict=True):
        seen = place < end
        sets = {**known, "attack": train.take(np.flatnonzero(np.tile(seen, train.repeats)))}
        block = None if following is None else ~seen & (place < following)
        # the block's images without their mirror images
        extra = None if block is None else dataclasses.replace(train.take(np.flatnonzero(block)), repeats=1)
        done = trial(sets, makers, f"{end} people, ", extra)
        scores = done.test_scores[done.worst]
        used = {"people": val_people + end, "images": len(val) + int(seen.sum()), "attack_people": end}
        arrays[f"curve/{val_people + end}"] = scores
        curve.append(used | {"leak_auc": roc_auc(scores, test.labels), "attacker": done.worst})
        if extra is not None:
            name, fit = _cheapest(done, val.labels)
            bits.append(code_lengths(fit(done.extra[name]), labels[block]))
            rate = (val.labels.sum() + labels[seen].sum() + 0.5) / (len(val) + seen.sum() + 1)  # Krichevsky and Trofimov
            label_only.append(code_lengths(np.full(int(block.sum()), rate), labels[block]))
            coded.append(identity[:images][block])
    arrays |= {"code/bits": np.concatenate(bits), "code/label_only": np.concatenate(label_only), "code/people": np.concatenate(coded)}
    mean, without = float(arrays["code/bits"].mean()), float(arrays["code/label_only"].mean())
    code = {"images": len(arrays["code/bits"]), "bits_per_label": mean, "label_only_bits_per_label": without}
    code |= {"saved_bits_per_label": without - mean, "compression": 1 / max(mean, 1e-9)}
    return {"curve": curve, "code": code}, arrays


RATES = np.arange(0.2, 1.01, 0.1)
"""The exponents that a learning curve is tried with."""


def extrapolated(people: Sequence[int], curve: np.ndarray, many: int) -> np.ndarray:
    """The AUC that attackers would reach with `many` people, if their learning curve went on as the power law a - b n^-c, b >= 0.

    Of every row of `curve` a and b follow by least squares, and c, one of `RATES`, leaves the least error (Cortes et al. 1994). It is a
    guess about people whom nobody has: it knows of no attacker who starts to learn only there.

    Args:
        people: n of each point, (S,), at least three.
        curve: AUCs, (R, S), such as bootstrap draws.
        many: people to extrapolate to.

    Returns:
        AUCs (R,), at most 1.
    """
    least, result = np.full(len(curve), np.inf), curve[:, -1].copy()
    for rate in RATES:
        x = np.asarray(people, dtype=np.float64) ** -rate  # (S,)
        slope = np.minimum(0.0, (curve - curve.mean(1, keepdims=True)) @ (x - x.mean()) / ((x - x.mean()) ** 2).sum())  # -b, (R,)
        level = curve.mean(1) - slope * x.mean()  # a
        error = ((curve - level[:, None] - slope[:, None] * x) ** 2).sum(1)
        better = error < least
        least[better], result[better] = error[better], (level + slope * float(many) ** -rate)[better]
    return np.minimum(result, 1.0)
