"""Erasers: closed forms that take an attribute out of finished representations. No adversary, no gradient, seconds.

Each is fitted on the train split's g and labels, and is then a function of g (and of the image, where it says so) alone: whoever
releases g does not know the label. Each states which attackers it defeats on the data it was fitted on; on other people it is
what was estimated from a finite sample, and the audit says how far that carries.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..anonymizers import Anonymizer, with_attribute
from ..config import ERASERS as NAMES
from ..faces import Faces
from ..files import UserError
from ..training import seeded, to_images

CPU = torch.device("cpu")

ENOUGH = 20_000
"""Images that the closed forms are fitted on, at most."""


def private(faces: Faces, attribute: str | Sequence[str] | None) -> tuple[Faces, tuple[str, ...]]:
    """The attributes to hide: `faces` with the first of them as its private one, and the names of all.

    Args:
        attribute: a name, several names, or None for the faces' own.

    Raises:
        UserError: there is no such attribute, none is named, or one twice.
    """
    if attribute is None or isinstance(attribute, str):
        faces = with_attribute(faces, attribute)
        return faces, (faces.attribute,)
    names = tuple(attribute)
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise UserError(f"attribute must be a name or several different names, not {attribute!r}.")
    for name in names:
        faces.labels(name)  # says which there are
    return with_attribute(faces, names[0]), names


def as_attribute(names: tuple[str, ...]) -> str | tuple[str, ...]:
    """What an anonymizer's `attribute` says: the name, where it hides one, else all of them."""
    return names[0] if len(names) == 1 else names


def labels_of(faces: Faces, names: tuple[str, ...]) -> np.ndarray:
    """Labels 1, 0 or -1 (unknown): int8 (N,) for one attribute, (N, m) for m of them."""
    return faces.labels(names[0]) if len(names) == 1 else faces.label_table(names)


def unlabelled(faces: Faces, names: tuple[str, ...]) -> dict[str, int]:
    """How many images have no label of each attribute: they take no part in hiding that one."""
    return {name: int((faces.labels(name) < 0).sum()) for name in names}


def fit_wrapped(base: Anonymizer, faces: Faces, names: tuple[str, ...], *, folder: str | Path | None, progress: bool) -> None:
    """Fit what a wrapper wraps, where it can be fitted. A defence of this package hides all of `names`, anything else the first."""
    if not hasattr(base, "fit"):
        return
    if len(names) == 1 or not getattr(base, "several_attributes", False):
        base.fit(faces, folder=folder, progress=progress)
    else:
        base.fit(faces, names, folder=folder, progress=progress)


@dataclass(frozen=True, eq=False)
class Sample:
    """What an eraser is fitted on: the train split, as released so far.

    Attributes:
        g: representations, float64 (N, k).
        labels: 1, 0, or -1 (unknown), int8 (N,); of several attributes, int8 (N, m).
        identity: people's codes, int64 (N,).
        faces: the images themselves.
        seed: of random features.
        attributes: the attributes' names; () for the faces' own.
    """

    g: Tensor
    labels: np.ndarray
    identity: np.ndarray
    faces: Faces
    seed: int = 0
    attributes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The attributes' names, at least one."""
        return self.attributes or (self.faces.attribute,)

    @property
    def columns(self) -> list[np.ndarray]:
        """The labels of each attribute, int8 (N,)."""
        return list(self.labels.reshape(len(self.labels), -1).T)

    @classmethod
    def of(cls, anonymizer: Anonymizer, faces: Faces, seed: int = 0, attributes: tuple[str, ...] = ()) -> Sample:
        """What `anonymizer` makes of `faces`, or of `ENOUGH` of them, drawn at random: more would cost memory and change little."""
        if len(faces) > ENOUGH:
            faces = faces.subset(np.sort(np.random.default_rng(seed).choice(len(faces), ENOUGH, replace=False)))
        labels = labels_of(faces, attributes or (faces.attribute,))
        return cls(release(anonymizer, faces).double(), labels, faces.identity, faces, seed, attributes)


def release(anonymizer: Anonymizer, faces: Faces) -> Tensor:
    """What `anonymizer` makes of all `faces`, in batches, float32 (N, k) on the CPU."""
    return torch.cat([anonymizer(images).detach().cpu().float() for images in _batches(faces)])


class Eraser(Protocol):
    """An eraser: its kind (the key of `ERASERS`), its settings, and after `fit` the tensors that it applies.

    `moves_axes` says that g' lies on other axes than g, so that what reads or decodes g cannot take g'; where it is missing, it is False.
    """

    kind: ClassVar[str]
    moves_axes: ClassVar[bool] = False
    settings: dict
    tensors: dict[str, Tensor]

    def fit(self, sample: Sample) -> Eraser:
        """Learn what to take out of representations like those of `sample`."""
        ...

    def __call__(self, g: Tensor, images: Tensor) -> Tensor:
        """Representations (N, k) of `images` (N, 1, H, W) without it: (N, k'), float32."""
        ...


class Leace:
    """Least-squares concept erasure (Belrose et al. 2023): the smallest affine change of g after which no linear attacker beats chance.

    With W = Cov(g)^-1/2 and the direction ``u = W Cov(g, s) / |W Cov(g, s)|`` it is g - W^-1 u u^T W (g - mean): the classes' means become
    equal, and with them every linear attacker's mean score, on the people it was fitted on. Nonlinear attackers are not its business.

    Of several attributes it erases the span of all their directions and of the products of two of them, so that a linear attacker of one
    gains nothing from knowing another either. An image without a label of an attribute counts as that attribute's mean.
    """

    kind: ClassVar[str] = "leace"

    def __init__(self) -> None:
        self.settings: dict = {}
        self.tensors: dict[str, Tensor] = {}

    def fit(self, sample: Sample) -> Leace:
        with warnings.catch_warnings():  # the package compiles a function in a way that recent torch calls old
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            from concept_erasure import LeaceFitter
        concepts = [np.where(column >= 0, column, np.nan) for column in sample.columns]
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


class AttributeScore:
    """How an image looks to a classifier of the attribute: ridge regression on its pixels and random cosines of them, in closed form.

    The image is brought to at most 32 pixels, standardised, and averaged with its mirror image. Five models are fitted, each without a
    fifth of the people, and the training images are scored by the one that does not know them; other images by the mean of all five.
    """

    FOLDS = 5
    FEATURES = 1024
    SIDE = 32
    PENALTIES = (1e-3, 1e-2, 1e-1)

    def __init__(self, tensors: dict[str, Tensor] | None = None) -> None:
        self.tensors = tensors or {}
        self.train_scores: np.ndarray | None = None

    def fit(self, faces: Faces, seed: int = 0) -> AttributeScore:
        """Learn from `faces` (the train split), from at most `ENOUGH` images of it. Sets `train_scores`, float64 (N,)."""
        if len(faces) > ENOUGH:
            people, count = np.unique(faces.identity, return_counts=True)
            order = np.random.default_rng(seed).permutation(len(people))
            rows = np.isin(faces.identity, people[order[np.cumsum(count[order]) <= ENOUGH]])
            own = self.fit(faces.subset(rows), seed).train_scores
            self.train_scores = torch.cat([self(images) for images in _batches(faces)]).double().numpy()
            self.train_scores[rows] = own
            return self
        pixels = torch.cat([self._pixels(images) for images in _batches(faces)]).double()  # (N, p)
        labels = np.asarray(faces.labels())
        mean, scale = pixels.mean(0), pixels.std(0).clamp(min=1e-6)
        standard = (pixels - mean) / scale
        with seeded(seed, "attribute score"):
            some = standard[torch.randperm(len(standard))[:1000]]
            width = torch.pdist(some).median().clamp(min=1e-6) if len(some) > 1 else torch.tensor(1.0)
            features = min(self.FEATURES, len(standard))
            frequencies = torch.randn(pixels.shape[1], features, dtype=torch.float64) / width
            phases = 2 * math.pi * torch.rand(features, dtype=torch.float64)
        self.tensors = {"mean": mean.float(), "scale": scale.float(), "frequencies": frequencies.float(), "phases": phases.float()}
        phi = torch.cat([self._features(standard.float()).double(), torch.ones(len(standard), 1, dtype=torch.float64)], dim=1)  # (N, D)
        target, weight = _balanced(labels)
        fold = _folds(faces.identity, self.FOLDS, seed)
        folds = range(int(fold.max()) + 1)
        grams = [(phi[fold == f] * weight[fold == f, None]).T @ phi[fold == f] for f in folds]
        rights = [phi[fold == f].T @ (weight * target)[fold == f] for f in folds]
        gram, right = sum(grams), sum(rights)
        ridge = float(gram.diagonal().mean())
        best = None
        for penalty in self.PENALTIES:
            extra = penalty * ridge * torch.eye(len(gram), dtype=torch.float64)
            betas = [torch.linalg.solve(gram - grams[f] + extra, right - rights[f]) for f in folds]
            scores = torch.empty(len(phi), dtype=torch.float64)
            for f in folds:
                scores[fold == f] = phi[fold == f] @ betas[f]
            error = float((weight * (scores - target).square()).sum() / weight.sum())
            if best is None or error < best[0]:
                best = (error, scores, torch.stack(betas).mean(0))
        _, scores, beta = best
        self.tensors |= {"beta": beta[:-1].float(), "offset": beta[-1:].float()}
        self.train_scores = scores.numpy()
        self.tensors["quantiles"] = torch.quantile(scores, torch.linspace(0, 1, 201, dtype=torch.float64)).float()
        return self

    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, 1, H, W) to scores (N,), higher for label 1."""
        t = {name: value.to(images.device) for name, value in self.tensors.items()}
        phi = self._features((self._pixels(images) - t["mean"]) / t["scale"])
        return phi @ t["beta"] + t["offset"]

    def quantile(self, scores: Tensor) -> Tensor:
        """Scores (N,) as their place in [0, 1] among the training images' scores."""
        return _place(scores, self.tensors["quantiles"].to(scores.device))

    @property
    def train_quantiles(self) -> np.ndarray:
        """The training images' places among themselves, float64 (N,), in [0, 1]."""
        return self.quantile(torch.from_numpy(self.train_scores).float()).double().numpy()

    def _pixels(self, images: Tensor) -> Tensor:
        side = min(self.SIDE, images.shape[2])
        x = F.adaptive_avg_pool2d(images.float(), side)
        x = (x + x.flip(3))[..., : (side + 1) // 2].flatten(1)  # the left half says all: (N, side * side / 2)
        return (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1e-3)

    def _features(self, standard: Tensor) -> Tensor:
        frequencies, phases = (self.tensors[name].to(standard.device) for name in ("frequencies", "phases"))
        cosines = torch.cos(standard @ frequencies + phases) * (2 / len(phases)) ** 0.5
        return torch.cat([standard / standard.shape[1] ** 0.5, cosines], dim=1)


ENOUGH_A_CELL = 8
"""People, in units of the representation's length k, that an estimate of a mean and a covariance near one place should rest on."""


class ScoreErasure:
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
    combinations of low and high scores, one transport along all scores jointly, which takes out what is left of their interaction. (On
    made-up data with scores correlated by 0.5, k = 16 and a thousand images a cell, the worst of a linear and a Gaussian-kernel attacker
    reads the first of two attributes with AUC 0.86 before, 0.69 after one round, 0.55 after this; whether the labels agree with 0.69 before
    and 0.53 after.)

    Args:
        anchors: places, evenly spread over the scores' quantiles, at which m and C are estimated; in between they are interpolated. 0: as
            many as leave each at least 8 k people, 2 to 6.
        covariance: match covariances too, not only means.
    """

    kind: ClassVar[str] = "score"

    def __init__(self, anchors: int = 0, covariance: bool = True) -> None:
        if anchors and anchors < 2:
            raise UserError(f"ScoreErasure needs at least 2 anchors, not {anchors!r}, or 0 to choose by the number of people.")
        self.settings = {"anchors": anchors, "covariance": covariance}
        self.tensors: dict[str, Tensor] = {}

    def fit(self, sample: Sample) -> ScoreErasure:
        several = len(sample.names) > 1
        scores = [AttributeScore().fit(with_attribute(sample.faces, name), sample.seed) for name in sample.names]
        places = [torch.from_numpy(score.train_quantiles) for score in scores]
        g = sample.g
        n, k = g.shape
        people = len(np.unique(sample.identity))  # images of one person are alike: not they count, but people do
        count = self.settings["anchors"] or int(np.clip(people // (ENOUGH_A_CELL * k), 2, 6))
        self.tensors = {}
        for j, score in enumerate(scores):
            self.tensors |= {f"score{j if several else ''}.{name}": value for name, value in score.tensors.items()}
        for step, axes in enumerate(_rounds(len(scores), people >= ENOUGH_A_CELL * k * 2 ** len(scores))):
            anchors = _anchors(count if len(axes) == 1 else 2)
            near = _product([_hats(places[j], anchors) for j in axes])  # (N, J), J = anchors ^ axes
            sums = near.sum(0).clamp(min=1e-9)
            means = (near.T @ g) / sums[:, None]  # (J, k)
            centred = g - near @ means
            pooled = centred.T @ centred / n
            maps = torch.eye(k, dtype=torch.float64).repeat(len(sums), 1, 1)
            if self.settings["covariance"]:
                for j in range(len(sums)):
                    own = (centred * near[:, j : j + 1]).T @ centred / sums[j]
                    here = float(sums[j]) * people / n
                    share = here / (here + k)  # few people for so many numbers: lean on all of them
                    maps[j] = _transport(share * own + (1 - share) * pooled, pooled)
            made = {"anchors": anchors.float(), "means": means.float(), "maps": maps.float(), "mean": g.mean(0).float()}
            if not several:
                self.tensors |= made
                break
            self.tensors |= {f"step{step}.{name}": value for name, value in made.items()} | {f"step{step}.axes": torch.tensor(axes)}
            g = g.mean(0) + torch.einsum("nj,nl,jkl->nk", near, centred, maps)
        return self

    def __call__(self, g: Tensor, images: Tensor) -> Tensor:
        own = {name: value.to(g.device) for name, value in self.tensors.items()}
        places = []
        for start in _numbered(own, "score", "beta") or ["score."]:
            score = AttributeScore({name.removeprefix(start): value for name, value in own.items() if name.startswith(start)})
            places.append(score.quantile(score(images.to(g.device))))  # (N,)
        for start in _numbered(own, "step", "anchors") or [""]:
            anchors, means, maps, mean = (own[start + name] for name in ("anchors", "means", "maps", "mean"))
            axes = own[f"{start}axes"].tolist() if start else [0]
            near = _product([_hats(places[j], anchors) for j in axes])  # (N, J)
            centred = g - near @ means
            g = mean + torch.einsum("nj,nl,jkl->nk", near, centred, maps)
        return g


class Discriminants:
    """Fisher's discriminants between people: the few directions of g in which people differ most, next to what one person's images do.

    Directions u with the greatest ``u^T T u`` under ``u^T W u = 1``, T the covariance of g and W the part of it within people (where
    nobody has two images: the identity, which makes them principal components). It erases nothing by itself. It comes before erasers:
    what hardly tells people apart may still tell the attribute, and the fewer numbers are left, the better a covariance is known from the
    same people. An encoder that is trained with few numbers from the start is not the same: it verifies worse.

    Args:
        components: numbers in g', at most, where one attribute is hidden. Of m attributes m (m + 1) / 2 - 1 more: so many more directions
            `Leace` takes out, and as much is left to tell people by.
    """

    kind: ClassVar[str] = "discriminants"
    moves_axes: ClassVar[bool] = True
    RIDGE = 1e-3  # in units of the mean variance within people: directions that hardly vary do not count as certain

    def __init__(self, components: int = 8) -> None:
        if type(components) is not int or components < 1:
            raise UserError(f"Discriminants needs a whole number of components, at least 1, not {components!r}.")
        self.settings = {"components": components}
        self.tensors: dict[str, Tensor] = {}

    def fit(self, sample: Sample) -> Discriminants:
        centred = sample.g - sample.g.mean(0)
        k = centred.shape[1]
        own = _within(centred, sample.identity)
        own = torch.eye(k, dtype=torch.float64) if own is None else own
        white = _root(own + self.RIDGE * own.trace() / k * torch.eye(k, dtype=torch.float64), -0.5)
        _, directions = torch.linalg.eigh(white @ (centred.T @ centred / len(centred)) @ white)
        several = len(sample.columns)
        kept = directions.flip(1)[:, : self.settings["components"] + several * (several + 1) // 2 - 1]
        self.tensors = {"mean": sample.g.mean(0).float(), "projection": (white @ kept).float()}
        return self

    def __call__(self, g: Tensor, images: Tensor) -> Tensor:
        mean, projection = (self.tensors[name].to(g.device) for name in ("mean", "projection"))
        return (g - mean) @ projection


class KernelErasure:
    """A kernel closed form in the manner of K-T-Opt (Dehdashtian et al. 2024): functions of g that tell people apart, not the attribute.

    phi(g) are random Fourier features of a Gaussian kernel whose width is the median distance (Rahimi & Recht 2007). With C the
    covariance of phi within the labels, T the part of it that is between people (where nobody has two images: that g explains
    linearly), m the difference of the labels' means and D the difference of their covariances, directions u solve::

        max  u^T T u - strength u^T |D| u    subject to    u^T C u = 1,  u^T m = 0

    a generalised eigenproblem. K-T-Opt weighs m against T; here m is excluded, and the labels' *covariances* are weighed as well: without
    that, XOR of two kept coordinates stays readable. What shuffled labels differ by is taken off ``|D|``. g' are the eigenvectors with
    positive gain, scaled by the root of it. The width of the kernel decides what is seen of either: audit the result. Of several attributes
    every m is excluded, C is the mean of their covariances within labels, and the ``|D|`` add up.

    Args:
        components: numbers in g', at most; 0: as many as in g.
        strength: weight of the covariances' difference.
        features: random Fourier features.
    """

    kind: ClassVar[str] = "kernel"
    moves_axes: ClassVar[bool] = True
    RIDGE = 1.0  # in units of the mean variance of phi's coordinates: directions of less variance do not count as much

    def __init__(self, components: int = 0, strength: float = 1.0, features: int = 512) -> None:
        if components < 0 or features < 1 or not strength >= 0:
            raise UserError(
                f"KernelErasure needs components >= 0, strength >= 0 and features >= 1, not {components!r}, {strength!r}, {features!r}."
            )
        self.settings = {"components": components, "strength": strength, "features": features}
        self.tensors: dict[str, Tensor] = {}

    def fit(self, sample: Sample) -> KernelErasure:
        g = sample.g
        n, k = g.shape
        features = self.settings["features"]
        mean, scale = g.mean(0), g.std(0).clamp(min=1e-6)
        standard = (g - mean) / scale
        with seeded(sample.seed, "kernel erasure"):
            width = torch.pdist(standard[torch.randperm(n)[:1000]]).median().clamp(min=1e-6)
            frequencies = torch.randn(k, features, dtype=torch.float64) / width
            phases = 2 * math.pi * torch.rand(features, dtype=torch.float64)
        self.tensors = {"mean": mean.float(), "scale": scale.float(), "frequencies": frequencies.float(), "phases": phases.float()}
        phi = self._features(g.float()).double()  # (N, D)

        differences, covariances = [], []
        for labels in sample.columns:
            ones, zeros = (phi[torch.from_numpy(labels == value)] for value in (1, 0))
            differences.append(ones.mean(0) - zeros.mean(0))
            covariances += [torch.cov(part.T, correction=0) for part in (ones, zeros)]
        total = sum(covariances) / len(covariances)
        ridge = self.RIDGE * total.trace() / len(total)
        values, vectors = torch.linalg.eigh(total + ridge * torch.eye(len(total), dtype=torch.float64))
        lead = min(len(total), max(8, n // 20))  # as many principal directions as the images can say something about
        white = (vectors / values.sqrt())[:, -lead:]  # columns; white^T C white = I
        target = white.T @ _signal(phi, standard, sample.identity, total) @ white
        rng = np.random.default_rng(sample.seed)
        gap, basis = 0, []
        for labels, difference in zip(sample.columns, differences, strict=True):
            gap_values, gap_vectors = _covariance_gap(phi @ white, labels)
            by_chance, _ = _covariance_gap(phi @ white, rng.permutation(labels))
            gap = (
                gap + (gap_vectors * (gap_values.abs() - by_chance.abs().mean())) @ gap_vectors.T
            )  # |D|, less what any two halves differ by
            m = white.T @ difference
            for known in basis:
                m = m - known * (known @ m)
            basis.append(F.normalize(m, dim=0))
        free = torch.eye(lead, dtype=torch.float64) - sum(torch.outer(m, m) for m in basis)
        gains, directions = torch.linalg.eigh(free @ (target - self.settings["strength"] * gap) @ free)
        count = min(self.settings["components"] or k, lead - len(basis), max(1, int((gains > 1e-9).sum())))
        gains, directions = gains.flip(0)[:count].clamp(min=1e-9), directions.flip(1)[:, :count]
        projection = white @ directions * gains.sqrt()  # (D, r)
        self.tensors |= {"projection": projection.float(), "offset": (phi.mean(0) @ projection).float()}
        return self

    def __call__(self, g: Tensor, images: Tensor) -> Tensor:
        projection, offset = (self.tensors[name].to(g.device) for name in ("projection", "offset"))
        return self._features(g) @ projection - offset

    def _features(self, g: Tensor) -> Tensor:
        mean, scale, frequencies, phases = (self.tensors[name].to(g.device) for name in ("mean", "scale", "frequencies", "phases"))
        return torch.cos(((g - mean) / scale) @ frequencies + phases) * (2 / frequencies.shape[1]) ** 0.5


ERASERS: dict[str, type] = {eraser.kind: eraser for eraser in (ScoreErasure, Leace, KernelErasure, Discriminants)}
"""Kind -> eraser."""

assert tuple(ERASERS) == NAMES  # the settings name them without importing this


class Erased:
    """Any anonymizer, and what an eraser leaves of its g. Several erasers work one after another, each fitted on what the last one left.

    `fit` takes one attribute or several. A base that hides one attribute only (the paper's AIA) is fitted to hide the first.

    Args:
        base: an anonymizer with `fit`, or a fitted one, or any function of images.
        erasers: erasers, or names in `ERASERS`.
        seed: of the erasers' random features.
    """

    def __init__(self, base: Anonymizer, erasers: tuple[Eraser | str, ...] = ("leace",), seed: int = 0) -> None:
        if unknown := [name for name in erasers if isinstance(name, str) and name not in ERASERS]:
            raise UserError(f"There is no eraser {unknown[0]!r}; there are {', '.join(ERASERS)}.")
        self.base, self.seed = base, seed
        self.erasers: tuple[Eraser, ...] = tuple(ERASERS[e]() if isinstance(e, str) else e for e in erasers)
        self.attribute: str | tuple[str, ...] | None = None
        self.missing: dict[str, int] = {}

    several_attributes = True

    @property
    def name(self) -> str:
        """The base's name and the erasers'."""
        return " + ".join([getattr(self.base, "name", type(self.base).__name__), *(eraser.kind for eraser in self.erasers)])

    def fit(
        self,
        faces: Faces,
        attribute: str | Sequence[str] | None = None,
        *,
        fit_base: bool = True,
        folder: str | Path | None = None,
        progress: bool = True,
    ) -> Erased:
        """Fit the base where it has a `fit` (unless `fit_base` is False), then the erasers, all on `faces` (pass the train split)."""
        faces, names = private(faces, attribute)
        if fit_base:
            fit_wrapped(self.base, faces, names, folder=folder, progress=progress)
        sample = Sample.of(self.base, faces, self.seed, names)
        for name, labels in zip(names, sample.columns, strict=True):
            if min((labels == 0).sum(), (labels == 1).sum()) < 2:
                raise UserError(f"An eraser needs at least two images of each label of {name!r}; {faces.source} has fewer.")
        for eraser in self.erasers:
            eraser.fit(sample)
            g = [eraser(part.float(), images).double() for part, images in zip(sample.g.split(512), _batches(sample.faces), strict=True)]
            sample = dataclasses.replace(sample, g=torch.cat(g))
        self.attribute, self.missing = as_attribute(names), unlabelled(faces, names)
        return self

    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, 1, H, W) in [0, 1] to what is left of g, (N, k')."""
        g = self.base(images)
        for eraser in self.erasers:
            if not eraser.tensors:
                raise UserError("This eraser has not been fitted: call fit(faces) first, or load_defence(folder).")
            g = eraser(g, images)
        return g

    @property
    def decode(self):
        """The base's decoder, where there is one and the erasers left g its shape."""
        if moved := moving(self.erasers):
            raise AttributeError(f"this anonymizer has no decoder: the eraser {moved[0]!r} gave g other axes")
        return self.base.decode

    def save(self, folder: str | Path) -> None:
        """Write base and erasers (safetensors) into `folder`, each file atomically."""
        from .store import save

        save(self, folder)

    def parts(self) -> dict[str, dict[str, Tensor]]:
        """What is saved, by name."""
        return {f"eraser{i}": eraser.tensors for i, eraser in enumerate(self.erasers)}

    def describe(self) -> dict:
        """The arguments that make the erasers again."""
        return {"erasers": [{"kind": eraser.kind, **eraser.settings} for eraser in self.erasers]}


def moving(erasers: Sequence[Eraser | type[Eraser]]) -> list[str]:
    """The kinds of those erasers after which g lies on other axes."""
    return [eraser.kind for eraser in erasers if getattr(eraser, "moves_axes", False)]


# --------------------------------------------------------------------------------------------------------------------------


def _batches(faces: Faces, size: int = 512):
    """All images as float (512, 1, H, W) in [0, 1], on the CPU."""
    for start in range(0, len(faces), size):
        yield to_images(np.asarray(faces.images[start : start + size]), CPU)


def _balanced(labels: np.ndarray) -> tuple[Tensor, Tensor]:
    """Targets 1, -1 (N,) and weights (N,) under which both labels count alike; weight 0 where the label is unknown."""
    weight = np.zeros(len(labels))
    for value in (0, 1):
        mine = labels == value
        weight[mine] = 0.5 * len(labels) / max(1, mine.sum())
    return torch.from_numpy(np.where(labels == 1, 1.0, -1.0)), torch.from_numpy(weight)


def _folds(identity: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Which fold each row is in, int (N,): all of a person's rows in one, as many people in each."""
    people, person = np.unique(identity, return_inverse=True)
    folds = min(folds, len(people))
    return (np.random.default_rng(seed).permutation(len(people)) % folds)[person]


def _place(values: Tensor, quantiles: Tensor) -> Tensor:
    """Where `values` (N,) lie among sorted `quantiles` (Q,), in [0, 1], linear in between."""
    right = torch.searchsorted(quantiles, values.contiguous()).clamp(1, len(quantiles) - 1)
    low, high = quantiles[right - 1], quantiles[right]
    share = ((values - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    return (right - 1 + share) / (len(quantiles) - 1)


def _hats(places: Tensor, anchors: Tensor) -> Tensor:
    """Weights (N, J) of evenly spaced `anchors` (J,) for `places` (N,): linear interpolation, outside the nearest alone; rows sum to 1."""
    spacing = anchors[1] - anchors[0]
    inside = places.clamp(anchors[0], anchors[-1])
    return (1 - (inside[:, None] - anchors).abs() / spacing).clamp(min=0)


def _anchors(count: int) -> Tensor:
    """`count` places (count,), evenly spread over [0, 1]."""
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


def _product(weights: list[Tensor]) -> Tensor:
    """Weights (N, J) along each of several axes to those of their combinations, (N, J ^ axes); rows still sum to 1."""
    near = weights[0]
    for other in weights[1:]:
        near = (near[:, :, None] * other[:, None, :]).flatten(1)
    return near


def _rounds(attributes: int, enough: bool) -> list[list[int]]:
    """Along which scores the transports of `ScoreErasure` go, in their order."""
    if attributes == 1:
        return [[0]]
    return [[j] for _ in range(2) for j in range(attributes)] + ([list(range(attributes))] if enough else [])


def _numbered(tensors: dict[str, Tensor], kind: str, one: str) -> list[str]:
    """ "kind0.", "kind1." … as far as there are tensors of that name; each has one that is called `one`."""
    found = itertools.takewhile(lambda start: start + one in tensors, (f"{kind}{i}." for i in itertools.count()))
    return list(found)


def _root(matrix: Tensor, power: float) -> Tensor:
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    values = values.clamp(min=1e-8 * float(values[-1].clamp(min=1e-12)))
    return (vectors * values**power) @ vectors.T


def _transport(source: Tensor, target: Tensor) -> Tensor:
    """The optimal transport map from N(0, source) to N(0, target): S^-1/2 (S^1/2 T S^1/2)^1/2 S^-1/2, symmetric (k, k)."""
    root, inverse = _root(source, 0.5), _root(source, -0.5)
    return inverse @ _root(root @ target @ root, 0.5) @ inverse


def _covariance_gap(phi: Tensor, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of the difference of the two labels' covariances of phi (N, D)."""
    one, zero = (torch.cov(phi[torch.from_numpy(labels == value)].T, correction=0) for value in (1, 0))
    return torch.linalg.eigh(one - zero)


def _signal(phi: Tensor, standard: Tensor, identity: np.ndarray, total: Tensor) -> Tensor:
    """What is worth keeping of phi (N, D), (D, D): its covariance less that within people; where nobody has two images, what g explains."""
    own = _within(phi, identity)
    if own is None:
        centred = standard - standard.mean(0)
        cross = (phi - phi.mean(0)).T @ centred / len(phi)  # (D, k)
        return cross @ torch.linalg.pinv(centred.T @ centred / len(phi), hermitian=True) @ cross.T
    return total - own


def _within(g: Tensor, identity: np.ndarray) -> Tensor | None:
    """The covariance of g (N, k) within people, (k, k), unbiased; None where nobody has two images."""
    _, person, count = np.unique(identity, return_inverse=True, return_counts=True)
    person, count = torch.from_numpy(person), torch.from_numpy(count)
    several = (count > 1)[person]
    if not several.any():
        return None
    means = torch.zeros(len(count), g.shape[1], dtype=g.dtype).index_add_(0, person, g) / count[:, None]
    residual = (g - means[person])[several]
    return residual.T @ residual / (several.sum() - (count > 1).sum())
