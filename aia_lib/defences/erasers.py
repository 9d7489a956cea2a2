"""Closed forms that take an attribute out of finished representations. No gradient, seconds.

Each is fitted on the train split's g and labels, and is then a function of g (and of the image, where it says so) alone: whoever
releases g does not know the label. Each states which attackers it defeats on the data it was fitted on; on other people it is
what was estimated from a finite sample, and the audit says how far that carries.
"""

from __future__ import annotations

import functools
import itertools
import warnings
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..anonymizers import Anonymizer
from ..faces import Faces, with_attribute
from ..machine.files import UserError, whole_number
from . import base
from .score import AttributeScore


@dataclass(frozen=True, eq=False)
class Sample:
    """What an eraser is fitted on: the train split, as released so far.

    Attributes:
        g: representations, float64 (N, k).
        labels: of m attributes, 1, 0, or -1 (unknown), int8 (N, m).
        identity: people's codes, int64 (N,).
        faces: the images themselves.
        seed: of random features.
        attributes: the attributes' names; () for the private one of `faces`.
    """

    g: Tensor
    labels: np.ndarray
    identity: np.ndarray
    faces: Faces
    seed: int = 0
    attributes: tuple[str, ...] = ()

    @classmethod
    def of(cls, anonymizer: Anonymizer, faces: Faces, seed: int = 0, attributes: tuple[str, ...] = ()) -> Sample:
        """What `anonymizer` makes of `faces`, or of `base.ENOUGH` of them, drawn at random: more would cost memory and change little."""
        if len(faces) > base.ENOUGH:
            faces = faces.subset(np.sort(np.random.default_rng(seed).choice(len(faces), base.ENOUGH, replace=False)))
        table = faces.label_table(attributes or (faces.attribute,))
        return cls(base.release(anonymizer, faces).double(), table, faces.identity, faces, seed, attributes)


class Eraser:
    """What takes something out of representations: a kind (the key of `ERASERS`), settings, and after `fit` the tensors that it applies.

    `moves_axes` says that g' lies on other axes than g, so that what reads or decodes g cannot take g'.
    """

    kind: ClassVar[str]
    moves_axes: ClassVar[bool] = False

    def __init__(self) -> None:
        self.settings: dict[str, int | float] = {}
        self.tensors: dict[str, Tensor] = {}

    def fit(self, sample: Sample) -> Eraser:
        """Learn what to take out of representations like those of `sample`."""
        raise NotImplementedError

    def __call__(self, g: Tensor, images: Tensor) -> Tensor:
        """Representations (N, k) of `images` (N, 1, H, W) without it: (N, k'), float32."""
        raise NotImplementedError


class Leace(Eraser):
    """Least-squares concept erasure (Belrose et al. 2023): the smallest affine change of g after which the classes' means are equal.

    With W = Cov(g)^-1/2 and the direction ``u = W Cov(g, s) / |W Cov(g, s)|`` it is g - W^-1 u u^T W (g - mean). On the people it was
    fitted on no line then has a lower convex loss than a constant; a line may still rank skewed classes, and what is not linear is not its
    business.

    Of several attributes it erases the span of all their directions and of the products of two of them, so that a line for one
    gains nothing from knowing another either. An image without a label of an attribute counts as that attribute's mean.
    """

    kind = "leace"

    def fit(self, sample: Sample) -> Leace:
        with warnings.catch_warnings():  # the package compiles a function in a way that recent torch calls old
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            from concept_erasure import LeaceFitter
        concepts = [np.where(column >= 0, column, np.nan) for column in sample.labels.T]
        concepts += [a * b for a, b in itertools.combinations(concepts, 2) if np.isfinite(a * b).any()]
        table = np.stack(concepts, axis=1)  # (N, m + m (m - 1) / 2)
        known = np.isfinite(table).any(1)
        table = table[known]
        table = np.where(np.isfinite(table), table, np.nanmean(table, axis=0))  # the mean has no covariance with anything
        g, s = sample.g[known], torch.from_numpy(table)
        # The package's bound on the trace mixes in a projection that does not erase; its threshold would leave weak correlations.
        fitter = LeaceFitter(g.shape[1], s.shape[1], dtype=torch.float64, constrain_cov_trace=False, svd_tol=1e-9)
        eraser = fitter.update(g, s).eraser
        self.tensors = {"left": eraser.proj_left.float(), "right": eraser.proj_right.float(), "bias": eraser.bias.float()}
        return self

    def __call__(self, g: Tensor, images: Tensor) -> Tensor:
        left, right, bias = (self.tensors[name].to(g.device) for name in ("left", "right", "bias"))
        return g - (g - bias) @ right.T @ left.T


ENOUGH_A_CELL = 8
"""People, in units of the representation's length k, that an estimate of a mean and a covariance near one place should rest on."""


class ScoreErasure(Eraser):
    """Transport to a common distribution along the attribute's score: an eraser that knows what the image looks like.

    Let b(x) = P(s = 1 | x) be the attribute's *balancing score* (Rosenbaum & Rubin 1983). Given b, the label is independent of the image;
    so a representation that is independent of b is independent of s, whatever the attacker. And b, unlike s, is known at the moment of
    release. With an estimate of it, `AttributeScore`, g is moved to the same mean and covariance at every score t:

        g' = m + A(t) (g - m(t)),      A(t) the optimal transport from N(0, C(t)) to N(0, C)

    with m(t), C(t) the mean and covariance of g near t, and m, C those of all. What is left to an attacker: what the score does not know
    of s, differences beyond the second moment, and the error of m(t), C(t), which falls with the number of people and rises with k.

    Of several attributes g would have to be independent of all scores together. One transport after another leaves the first undone where
    the scores are correlated, and one over all of them jointly has too few people near each combination. So: two rounds along one score
    after another, which settles means and covariances along each, and then, where `ENOUGH_A_CELL` k people lie near each of the 2^m
    combinations of low and high scores, one transport along all scores jointly, which takes out what is left of their interaction.

    m and C are estimated at 2 to 6 places, evenly spread over the scores' quantiles: as many as leave each at least 8 k people. In
    between they are interpolated.

    After `fit`, `scores` are the attributes' scores and `left` is g' of the sample, both by models that do not know the person.
    """

    kind = "score"
    REMOVED = {"anchors": 0, "covariance": True}  # settings of older versions, with the values that did nothing

    def fit(self, sample: Sample) -> ScoreErasure:
        names = sample.attributes or (sample.faces.attribute,)
        several = len(names) > 1
        self.scores = scores = [AttributeScore().fit(with_attribute(sample.faces, name), sample.seed) for name in names]
        places = [torch.from_numpy(score.train_quantiles) for score in scores]
        g = sample.g
        n, k = g.shape
        people = len(np.unique(sample.identity))  # images of one person are alike: not they count, but people do
        count = int(np.clip(people // (ENOUGH_A_CELL * k), 2, 6))
        self.tensors = {}
        for j, score in enumerate(scores):
            self.tensors |= {f"score{j if several else ''}.{name}": value for name, value in score.tensors.items()}
        rounds = [[j] for _ in range(2 if several else 1) for j in range(len(names))]
        if several and people >= ENOUGH_A_CELL * k * 2 ** len(names):
            rounds.append(list(range(len(names))))
        for step, axes in enumerate(rounds):
            cells = count if len(axes) == 1 else 2
            anchors = (torch.arange(cells, dtype=torch.float64) + 0.5) / cells
            near = _near([places[j] for j in axes], anchors)  # (N, J), J = anchors ^ axes
            sums = near.sum(0).clamp(min=1e-9)
            means = (near.T @ g) / sums[:, None]  # (J, k)
            centred = g - near @ means
            pooled = centred.T @ centred / n
            maps = torch.empty(len(sums), k, k, dtype=torch.float64)
            for j in range(len(sums)):
                here = (centred * near[:, j : j + 1]).T @ centred / sums[j]
                count_here = float(sums[j]) * people / n
                share = count_here / (count_here + k)  # few people for so many numbers: lean on all of them
                maps[j] = _transport(share * here + (1 - share) * pooled, pooled)
            start = f"step{step}." if several else ""
            made = {"anchors": anchors, "means": means, "maps": maps, "mean": g.mean(0)}
            self.tensors |= {start + name: value.float() for name, value in made.items()}
            if several:
                self.tensors[f"{start}axes"] = torch.tensor(axes)
            g = g.mean(0) + torch.einsum("nj,nl,jkl->nk", near, centred, maps)
        self.left = g
        return self

    def scored(self, images: Tensor) -> list[tuple[AttributeScore, Tensor]]:
        """Each attribute's score, and what it says of `images`, (N,)."""
        scores = []
        for start in _starts(self.tensors, "beta"):
            score = AttributeScore(_under(self.tensors, start))
            scores.append((score, score(images)))
        return scores

    def __call__(self, g: Tensor, images: Tensor) -> Tensor:
        tensors = {name: value.to(g.device) for name, value in self.tensors.items()}
        places = [score.quantile(values) for score, values in self.scored(images.to(g.device))]  # (N,) each
        for start in _starts(tensors, "anchors"):
            anchors, means, maps, mean = (tensors[start + name] for name in ("anchors", "means", "maps", "mean"))
            axes = tensors[f"{start}axes"].tolist() if start else [0]
            near = _near([places[j] for j in axes], anchors)  # (N, J)
            centred = g - near @ means
            g = mean + torch.einsum("nj,nl,jkl->nk", near, centred, maps)
        return g


class Discriminants(Eraser):
    """Fisher's discriminants between people: the few directions of g in which people differ most, next to what one person's images do.

    Directions u with the greatest ``u^T T u`` under ``u^T W u = 1``, T the covariance of g and W the part of it within people (where
    nobody has two images: the identity, which makes them principal components). It erases nothing by itself. It comes before erasers:
    what hardly tells people apart may still tell the attribute, and the fewer numbers are left, the better a covariance is known from the
    same people. An encoder that is trained with few numbers from the start is not the same: it verifies worse.

    Args:
        components: numbers in g', at most, where one attribute is hidden. Of m attributes m (m + 1) / 2 - 1 more: so many more directions
            `Leace` takes out, and as much is left to tell people by.
        ridge: added to W, in units of its mean variance: directions that hardly vary within people do not count as certain. Templates,
            whose W rests on two images of a person, want much of it.
        within_labels: T is the covariance about the mean of those with the same labels, so that no direction is kept because it tells the
            attribute.
    """

    kind = "discriminants"
    moves_axes = True

    def __init__(self, components: int = 8, ridge: float = 1e-3, within_labels: bool = False) -> None:
        super().__init__()
        if isinstance(ridge, bool) or not isinstance(ridge, (int, float)) or not 0 < ridge < float("inf"):
            raise UserError(f"Discriminants.ridge must be a positive number, not {ridge!r}.")
        self.settings = {"components": whole_number("Discriminants.components", components), "ridge": float(ridge)}
        self.settings["within_labels"] = bool(within_labels)

    def fit(self, sample: Sample) -> Discriminants:
        centred = sample.g - sample.g.mean(0)
        k = centred.shape[1]
        within = _within(centred, sample.identity)
        white = _root(within + self.settings["ridge"] * within.trace() / k * torch.eye(k, dtype=torch.float64), -0.5)
        if self.settings["within_labels"]:
            _, group = np.unique(sample.labels, axis=0, return_inverse=True)
            for one in np.unique(group):
                centred[group.ravel() == one] -= centred[group.ravel() == one].mean(0)
        _, directions = torch.linalg.eigh(white @ (centred.T @ centred / len(centred)) @ white)
        m = sample.labels.shape[1]
        kept = directions.flip(1)[:, : self.settings["components"] + m * (m + 1) // 2 - 1]
        self.tensors = {"mean": sample.g.mean(0).float(), "projection": (white @ kept).float()}
        return self

    def __call__(self, g: Tensor, images: Tensor) -> Tensor:
        mean, projection = (self.tensors[name].to(g.device) for name in ("mean", "projection"))
        return (g - mean) @ projection


def _near(places: list[Tensor], anchors: Tensor) -> Tensor:
    """Weights (N, J ^ m) of the combinations of evenly spaced `anchors` (J,) for places (N,) along each of m axes; rows sum to 1.

    Along an axis it is linear interpolation, outside the nearest alone.
    """
    spacing = anchors[1] - anchors[0]
    hats = [(1 - (place.clamp(anchors[0], anchors[-1])[:, None] - anchors).abs() / spacing).clamp(min=0) for place in places]
    return functools.reduce(lambda near, other: (near[:, :, None] * other[:, None, :]).flatten(1), hats)


def _starts(tensors: dict[str, Tensor], end: str) -> list[str]:
    """What the names of tensors that end so start with, by number: "step0.", "step1." …; one without a number, where there is one."""
    return sorted((name.removesuffix(end) for name in tensors if name.endswith(end)), key=lambda start: (len(start), start))


def _under(tensors: dict[str, Tensor], start: str) -> dict[str, Tensor]:
    """The tensors whose names start so, by what follows."""
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


def _root(matrix: Tensor, power: float) -> Tensor:
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    values = values.clamp(min=1e-8 * float(values[-1].clamp(min=1e-12)))
    return (vectors * values**power) @ vectors.T


def _transport(source: Tensor, target: Tensor) -> Tensor:
    """The optimal transport map from N(0, source) to N(0, target): S^-1/2 (S^1/2 T S^1/2)^1/2 S^-1/2, symmetric (k, k)."""
    root, inverse = _root(source, 0.5), _root(source, -0.5)
    return inverse @ _root(root @ target @ root, 0.5) @ inverse


def _within(g: Tensor, identity: np.ndarray) -> Tensor:
    """The covariance of g (N, k) within people, (k, k), unbiased; the identity where nobody has two images."""
    _, person, count = np.unique(identity, return_inverse=True, return_counts=True)
    person, count = torch.from_numpy(person), torch.from_numpy(count)
    several = (count > 1)[person]
    if not several.any():
        return torch.eye(g.shape[1], dtype=g.dtype)
    means = torch.zeros(len(count), g.shape[1], dtype=g.dtype).index_add_(0, person, g) / count[:, None]
    residual = (g - means[person])[several]
    return residual.T @ residual / (several.sum() - (count > 1).sum())
