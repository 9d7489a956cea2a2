"""The leak at three levels: one image, two images of a person, all images of a person.

Each image may look alike for both labels while two of them do not: with g_i = (1 - w)^1/2 u + w^1/2 e_i, u drawn for a person, e_i for an
image and w set by the label, every g_i is normal with covariance I, yet the distance of two images of a person gives the label away.
Whoever keeps several images of a person has them all, so the leak of a method is the strongest of

image    the protocol's attackers, a quadratic one, an exact support vector machine, and all of them stacked
pair     attackers that read distance, difference, product and sum of two images of a person
person   the mean of each image attacker's scores, and attackers that read the mean and spread of a person's images, or the set itself
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from ..attackers import ATTACKERS, AttackSet, ExactSVM, Quadratic, TorchAttacker, mlp
from ..machine.files import UserError
from ..statistics import MIN_PEOPLE, interval, roc_auc
from .released import standardiser
from .trial import Attacks, Makers, SeedScores, Trial, mean_figures

LEVELS = {"image": "one image", "pair": "two images of a person", "person": "all images of a person"}
"""The levels, and what the attacker has."""

COMPONENTS = 64
"""Principal components of an image that attackers of several images read."""

PAIRS = 10
"""Pairs of a person's images at most: else the people with many images would be all that counts."""

SET = 8
"""Images of a person that the set attacker reads; of fewer some count twice."""

EXACT = 10_000
"""Up to so many rows a support vector machine is fitted exactly."""


class SetNetwork(nn.Module):
    """Sets of `images` rows, (B, images * d), to one logit a set (B,): the order of the rows does not matter (Zaheer et al. 2017)."""

    def __init__(self, images: int, components: int) -> None:
        super().__init__()
        self.images = images
        self.each = nn.Sequential(nn.Linear(components, 128), nn.ReLU())
        self.head = mlp(128, (128,), 0.5)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.each(inputs.reshape(len(inputs), self.images, -1)).mean(1))


OF_PAIRS: Makers = {name: ATTACKERS[name] for name in ("logistic", "mlp", "boosting")}
OF_PEOPLE: Makers = OF_PAIRS | {
    "set": lambda config: TorchAttacker(
        lambda train: SetNetwork(SET, train.g.shape[1] // SET), "g", epochs=config.epochs, min_steps=config.min_steps
    )
}


def levels(
    known: Mapping[str, AttackSet],
    people: Mapping[str, np.ndarray],
    attacks: Attacks,
    seed: int,
    trial: Trial,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """One seed's leak at each level. All choices are made on val.

    Args:
        known: the labelled rows of attack, val and test, with the fresh verifier's embeddings.
        people: the person of each of these rows, by split.
        attacks: of the seed's fresh attackers on single images.
        seed: draws pairs and sets.
        trial: trains attackers on such sets and scores them; the text is for a progress bar.

    Returns:
        figures: by level {attackers, attackers_val (AUC on test and val), rows, people}; "left_out" says why one could not be measured.
        arrays: "levels/<level>/labels", "…/people" and "…/scores/<attacker>" of the test rows.
    """
    exact = {"svm_exact": lambda config: ExactSVM()} if len(known["attack"]) <= EXACT else {}
    single = trial(known, {"quadratic": lambda config: Quadratic()} | exact, "")
    scores = {part: getattr(attacks, part) | getattr(single, part) for part in ("val_scores", "test_scores")}
    image = Attacks(attacks.val | single.val, **scores)
    _stack(image, known["val"].labels, people["val"])
    figures: dict[str, Any] = {"left_out": {}}
    arrays: dict[str, np.ndarray] = {}

    def keep(level: str, done: Attacks, labels: np.ndarray, persons: np.ndarray) -> None:
        test = {name: roc_auc(values, labels) for name, values in done.test_scores.items()}
        figures[level] = {"attackers": test, "attackers_val": done.val, "rows": len(labels), "people": len(np.unique(persons))}
        arrays.update({f"levels/{level}/labels": labels == 1, f"levels/{level}/people": persons})
        arrays.update({f"levels/{level}/scores/{name}": values for name, values in done.test_scores.items()})

    keep("image", image, known["test"].labels, people["test"])
    views: dict[str, Callable] = {"pair": _pairs, "person": _people}
    for (level, view), makers in zip(views.items(), (OF_PAIRS, OF_PEOPLE), strict=True):
        rng = np.random.default_rng([seed, list(LEVELS).index(level)])
        try:
            sets, persons = view(known, people, rng)
            for part in sets:
                if (fewest := _fewest(sets[part].labels, persons[part])) < MIN_PEOPLE:
                    has = f"the {part} split has {fewest} people of a label for the level {level!r}"
                    raise UserError(f"{has}, and {MIN_PEOPLE} are needed")
        except UserError as error:
            figures["left_out"][level] = str(error)
            continue
        done = trial(sets, makers, f"{level}s, ")
        if level == "person":
            _pool(done, image, sets, persons, people)
        keep(level, done, sets["test"].labels, persons["test"])
    return figures, arrays


def _fewest(labels: np.ndarray, people: np.ndarray) -> int:
    """How many people have the rarer label."""
    return min(len(np.unique(people[labels == value])) for value in (0, 1))


def _stack(done: Attacks, labels: np.ndarray, people: np.ndarray) -> None:
    """Add "stack", a logistic regression on all attackers' scores: cross-fitted over val's people there, fitted on all of val for test.

    With fewer than `MIN_PEOPLE` of a label there may be a fold without anybody of it, and no stack is made.
    """
    if _fewest(labels, people) < MIN_PEOPLE:
        return
    inputs, tests = (np.stack(list(scores.values()), axis=1) for scores in (done.val_scores, done.test_scores))
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
    folds = GroupKFold(min(5, len(np.unique(people))))
    done.val_scores["stack"] = cross_val_predict(model, inputs, labels, groups=people, cv=folds, method="decision_function")
    done.test_scores["stack"] = model.fit(inputs, labels).decision_function(tests)
    done.val["stack"] = roc_auc(done.val_scores["stack"], labels)


def _constant(part: str, data: AttackSet, people: np.ndarray) -> dict[int, np.ndarray]:
    """The rows of each person whose images all carry one label, mirror images left out, by the person's code."""
    labels, people = (values[: len(data) // data.repeats] for values in (data.labels, people))
    order = np.argsort(people, kind="stable")
    codes, start = np.unique(people[order], return_index=True)
    rows = dict(zip(codes.tolist(), np.split(order, start[1:]), strict=True))
    constant = {code: mine for code, mine in rows.items() if (labels[mine] == labels[mine[0]]).all()}
    if not constant:
        raise UserError(f"nobody in the {part} split has the same label in all images")
    return constant


View = tuple[dict[str, AttackSet], dict[str, np.ndarray]]
"""What the attackers of several images read, by split, and whose each row is."""


def _view(parts: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]], sets: Mapping[str, np.ndarray] | None = None) -> View:
    """Numbers (N, d), labels (N,) and people (N,) of each split, standardised by attack's numbers; `sets` are read instead of g."""
    standardise = standardiser(parts["attack"][0])
    result = {}
    for part, (raw, labels, _) in parts.items():
        features = standardise(raw.astype(np.float32))
        result[part] = AttackSet(raw if sets is None else sets[part], features, features, labels)
    return result, {part: persons for part, (_, _, persons) in parts.items()}


def _pairs(known: Mapping[str, AttackSet], people: Mapping[str, np.ndarray], rng: np.random.Generator) -> View:
    """Pairs of images of one person: distance in all components, in the verifier's embedding, |x - y|, x y and x + y, by component."""
    parts = {}
    for part, data in known.items():
        half = len(data) // data.repeats
        a, b = [], []
        for rows in _constant(part, data, people[part]).values():
            i, j = np.triu_indices(len(rows), 1)
            some = rng.permutation(len(i))[:PAIRS]
            a.append(rows[i[some]])
            b.append(rows[j[some]])
        a, b = (np.concatenate([np.concatenate(rows) + half * copy for copy in range(data.repeats)]) for rows in (a, b))
        if not len(a):
            raise UserError(f"nobody in the {part} split has two images")
        x, y = data.components[a], data.components[b]
        distances = [np.linalg.norm(x - y, axis=1)]
        if data.embeddings is not None:
            distances.append(np.linalg.norm(data.embeddings[a] - data.embeddings[b], axis=1))
        x, y = x[:, :COMPONENTS], y[:, :COMPONENTS]
        raw = np.concatenate([np.stack(distances, axis=1), np.abs(x - y), x * y, x + y], axis=1)
        parts[part] = (raw, data.labels[a], people[part][a])
    return _view(parts)


def _people(known: Mapping[str, AttackSet], people: Mapping[str, np.ndarray], rng: np.random.Generator) -> View:
    """People: the mean distance of a person's images to their mean, mean and spread by component, and the set of `SET` images.

    Attack's people come in several samples of their images, mirrored ones too, so that there are more rows to learn from.
    """
    parts, sets = {}, {}
    for part, data in known.items():
        half = len(data) // data.repeats
        raw, images, labels, persons = [], [], [], []
        for code, rows in _constant(part, data, people[part]).items():
            for copy in range(2 * data.repeats if part == "attack" else 1):
                mine = rng.permutation(rows)[: len(rows) if copy % 2 == 0 else max(1, (len(rows) + 1) // 2)] + half * (copy // 2)
                x = data.components[mine]
                spread = np.linalg.norm(x - x.mean(0), axis=1).mean() * np.sqrt(len(x) / max(1, len(x) - 1))
                x = x[:, :COMPONENTS]
                raw.append(np.concatenate([[spread], x.mean(0), x.std(0)]))
                images.append(x[np.arange(SET) % len(x)].ravel())
                labels.append(data.labels[mine[0]])
                persons.append(code)
        parts[part] = (np.stack(raw), np.array(labels), np.array(persons))
        sets[part] = np.stack(images).astype(np.float32)
    return _view(parts, sets)


def _pool(
    done: Attacks, image: Attacks, sets: Mapping[str, AttackSet], persons: Mapping[str, np.ndarray], people: Mapping[str, np.ndarray]
) -> None:
    """Add "mean of <attacker>": the mean over a person's images of each image attacker's scores."""
    for part, scores, pooled in (("val", image.val_scores, done.val_scores), ("test", image.test_scores, done.test_scores)):
        codes, inverse, count = np.unique(people[part], return_inverse=True, return_counts=True)
        rows = np.searchsorted(codes, persons[part])
        pooled.update({f"mean of {name}": (np.bincount(inverse, values) / count)[rows] for name, values in scores.items()})
    for name in image.val:
        done.val[f"mean of {name}"] = roc_auc(done.val_scores[f"mean of {name}"], sets["val"].labels)


def combined_levels(answers: Sequence[Mapping[str, Any]], scores: Sequence[SeedScores], resamples: int) -> dict[str, Any]:
    """The levels over all seeds: the strongest attacker is the one that is best on val over all seeds together.

    Returns:
        by level, where all seeds measured it, {strongest, leak_auc, leak_auc_ci, attackers, attackers_val, rows, people, regret}. `regret`
        is by how much the leak would be understated, at most, had one family of attackers been left out, and `without` that family.
        "leak_auc", "leak_auc_ci" and "level" are those of the level whose strongest attacker is best on val; "left_out" says why one was
        not measured.
    """
    result: dict[str, Any] = {"left_out": {level: why for answer in answers for level, why in answer["left_out"].items()}}
    for level in LEVELS:
        if not all(level in answer for answer in answers):
            continue
        names = [name for name in answers[0][level]["attackers"] if all(name in answer[level]["attackers"] for answer in answers)]
        means = mean_figures([answer[level] for answer in answers])
        test, val = ({name: means[key][name] for name in names} for key in ("attackers", "attackers_val"))
        strongest = max(names, key=val.get)
        others = {name: test[max((other for other in names if other != name), key=val.get)] for name in names if len(names) > 1}
        without = min(others, key=others.get, default=None)
        result[level] = {
            "strongest": strongest,
            "leak_auc": test[strongest],
            "leak_auc_ci": list(interval([seed.scored(level, strongest) for seed in scores], resamples)),
            "attackers": test,
            "attackers_val": val,
            "rows": answers[0][level]["rows"],
            "people": answers[0][level]["people"],
            "regret": max(0.0, test[strongest] - others[without]) if others else 0.0,
            "without": without,
        }
    level = max((level for level in LEVELS if level in result), key=lambda level: max(result[level]["attackers_val"].values()))
    return {"levels": result | {"level": level} | {key: result[level][key] for key in ("leak_auc", "leak_auc_ci")}}
