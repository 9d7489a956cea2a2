"""Faces: images or templates with identities and attributes, split by identity, and the pairs that verification is measured on.

numpy only: nothing here needs torch, so a data set can be looked at without loading it.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from .config import SPLIT_FRACTIONS
from .machine.files import UserError, whole_number
from .machine.rows import rows_of
from .splits import SPLIT_NAMES, Splits, deal

REGIONS = ("background", "skin", "brows", "eyes", "nose", "mouth", "jaw", "ears", "hair", "beard", "glasses")
"""What the codes 0 … 10 of a region mask mean. Neck and shoulders are skin, clothes are background; lids belong to the eyes and
lips to the mouth; jaw is the chin and the jaw line; skin that a beard covers is beard; clear lenses show what is behind them."""


def value_words(attribute: str) -> tuple[str, str]:
    """What the labels 0 and 1 of an attribute are called."""
    return ("female", "male") if attribute == "gender" else ("no", "yes")


class Pairs(NamedTuple):
    """M verification pairs: rows `a` and `b`, int64 (M,), and `different`, int8 (M,): y of Eq. 7, 0 genuine (one person) or 1 impostor."""

    a: np.ndarray
    b: np.ndarray
    different: np.ndarray


class _People(NamedTuple):
    """Rows grouped by person: person i owns rows[starts[i]:starts[i] + counts[i]]; codes[i] is that person's identity code."""

    rows: np.ndarray
    starts: np.ndarray
    counts: np.ndarray
    codes: np.ndarray

    @property
    def impostor_pairs(self) -> int:
        """How many unordered pairs of images show two people."""
        return (len(self.rows) ** 2 - int((self.counts**2).sum())) // 2


def _by_person(identity: np.ndarray, rows: np.ndarray) -> _People:
    rows = rows[np.argsort(identity[rows], kind="stable")]
    codes, starts, counts = np.unique(identity[rows], return_index=True, return_counts=True)
    return _People(rows, starts, counts, codes)


def majority_labels(person: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The label that most of each person's images have, int8 (people,): a tie goes to the first labelled image, -1 where none is labelled.

    `person` is the number of the person on each image, int64 (N,), from 0; `labels` are 1, 0 or -1 (missing), int8 (N,).
    """
    people = int(person.max(initial=-1)) + 1
    ones, zeros = (np.bincount(person[labels == value], minlength=people) for value in (1, 0))
    first = np.full(people, -1, dtype=np.int8)
    known = np.flatnonzero(labels >= 0)[::-1]  # backwards, so that the first image is written last
    first[person[known]] = labels[known]
    return np.where(ones > zeros, 1, np.where(zeros > ones, 0, first)).astype(np.int8)


@dataclass(frozen=True, eq=False, repr=False)
class Faces:
    """Grey images of faces, or the templates of a recogniser, who they show, and what is labelled about them.

    Attributes:
        images: uint8 (N, 1, H, W), H = W: an array, a read-only memory map or a `RowView`. In the place of images, templates: float32
            (N, d).
        identity: int64 (N,), the person's code: 0 .. P-1 as loaded; a subset keeps the codes.
        attributes: name -> int8 (N,): 1, 0, or -1 where the label is missing. "gender" is 1 for male and 0 for female *as labelled in the
            data set*.
        attribute: the private one, a key of `attributes`.
        source, licence: where the images come from and on what terms, in words.
        split_seed: seeds `split`.
        notes: what the loader skipped or decided, one sentence each.
        names: the people's names by identity code, or ().
        cache_key: names the content as it was loaded; empty for faces made in memory.
        regions: what each pixel shows, uint8 (N, H, W), codes of `REGIONS`: an array, a memory map or a `RowView`; None where nobody knows.
        nuisance: name -> float32 (N,), what differs from image to image (pose, light, expression …); known of rendered faces only.
        traits: name -> float32 by identity code, what a person looks like (shape, skin, hair …); known of rendered faces only. A subset
            keeps them all, as it keeps the codes.

    Raises:
        UserError: shapes, types or values do not fit together.
    """

    images: Any
    identity: np.ndarray
    attributes: Mapping[str, np.ndarray]
    attribute: str
    source: str
    licence: str
    split_seed: int = 0
    notes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    cache_key: str = ""
    regions: Any = None
    nuisance: Mapping[str, np.ndarray] = field(default_factory=dict)
    traits: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape, dtype = np.shape(self.images), getattr(self.images, "dtype", None)
        square = len(shape) == 4 and shape[1] == 1 and shape[2] == shape[3] and dtype == np.uint8
        if not square and not (len(shape) == 2 and dtype == np.float32):
            raise UserError(f"Faces.images must be uint8 (N, 1, H, H), or templates float32 (N, d), not {dtype} of shape {shape}.")
        identity = np.asarray(self.identity)
        if identity.shape != shape[:1] or identity.dtype.kind not in "iu" or identity.min(initial=0) < 0:
            raise UserError(
                f"Faces.identity must hold {shape[0]} integers, none negative; it is {identity.dtype} of shape {identity.shape}."
            )
        identity = identity.astype(np.int64, copy=False)
        last = identity.max(initial=-1)
        if self.names and last >= len(self.names):
            raise UserError(f"Faces.names has {len(self.names)} names, but the identity codes go up to {last}.")
        attributes = {name: np.asarray(values) for name, values in self.attributes.items()}
        nuisance, traits = ({name: np.asarray(of[name], dtype=np.float32) for name in of} for of in (self.nuisance, self.traits))
        for what, columns in (("attributes", attributes), ("nuisance", nuisance)):
            for name, values in columns.items():
                if values.shape != identity.shape:
                    raise UserError(f"Faces.{what}[{name!r}] must have shape {identity.shape}, not {values.shape}.")
        for name, values in attributes.items():
            if len(values) and not (values.dtype.kind in "iub" and values.max() <= 1 and np.min(values) >= -1):
                raise UserError(f"Faces.attributes[{name!r}] must hold 1, 0 and -1 (missing) only.")
            attributes[name] = values.astype(np.int8, copy=False)
        for name, values in traits.items():
            if values.ndim != 1 or last >= len(values):
                raise UserError(
                    f"Faces.traits[{name!r}] must hold one number a person, up to the identity code {last}; its shape is {values.shape}."
                )
        wanted, kind = (shape[0], *shape[2:]), getattr(self.regions, "dtype", None)
        if self.regions is not None and (np.shape(self.regions) != wanted or kind != np.uint8):
            raise UserError(f"Faces.regions must be uint8 of shape {wanted}, not {kind} of shape {np.shape(self.regions)}.")
        for name, values in {"identity": identity, "attributes": attributes, "nuisance": nuisance, "traits": traits}.items():
            object.__setattr__(self, name, values)
        self._check_attribute(self.attribute)

    def __len__(self) -> int:
        return len(self.identity)

    def __repr__(self) -> str:
        what, _, size = self.kind.partition(", ")
        return f"Faces({len(self):,} {what} of {self.people:,} people, {size}, {self.attribute!r}, from {self.source})"

    @property
    def size(self) -> int:
        """Height and width of an image, in pixels; how many numbers a template has."""
        return self.images.shape[-1]

    @property
    def templates(self) -> bool:
        """Whether `images` holds templates."""
        return len(self.images.shape) == 2

    @property
    def kind(self) -> str:
        """In words: "images, 64 x 64" or "templates, 128 numbers"."""
        return f"templates, {self.size} numbers" if self.templates else f"images, {self.size} x {self.size}"

    @cached_property
    def _people(self) -> _People:
        return _by_person(self.identity, np.arange(len(self)))

    @property
    def people(self) -> int:
        """How many people there are."""
        return len(self._people.codes)

    @cached_property
    def fingerprint(self) -> str:
        """64 hexadecimal digits that name these very faces: from `cache_key` if they were loaded, else the SHA-256 of all they hold."""
        if self.cache_key:
            return self.cache_key
        digest = hashlib.sha256(repr((self.images.shape, sorted(self.attributes))).encode())
        for values in (self.images, self.identity, *(self.attributes[name] for name in sorted(self.attributes)), self.regions):
            for start in range(0, 0 if values is None else len(self), 4096):
                digest.update(np.ascontiguousarray(values[start : start + 4096]).data)
        for values in (self.nuisance, self.traits):
            for name in sorted(values):
                digest.update(name.encode() + np.ascontiguousarray(values[name]).tobytes())
        return digest.hexdigest()

    def _check_attribute(self, name: str | None) -> str:
        name = self.attribute if name is None else name
        if name not in self.attributes:
            raise UserError(f"There is no attribute {name!r} in {self.source}; there are: {', '.join(sorted(self.attributes)) or 'none'}.")
        return name

    def labels(self, attribute: str | None = None) -> np.ndarray:
        """The labels of `attribute` (default: the private one), int8 (N,): 1, 0 or -1 for missing.

        Raises:
            UserError: there is no such attribute; the message lists those that exist.
        """
        return self.attributes[self._check_attribute(attribute)]

    def label_table(self, names: Sequence[str]) -> np.ndarray:
        """The labels of several attributes side by side, int8 (N, m): 1, 0 or -1 for missing."""
        return np.stack([self.labels(name) for name in names], axis=1)

    def person_labels(self, attribute: str | None = None) -> np.ndarray:
        """Each person's label, int8 (people,), in the order of their identity codes: see `majority_labels`."""
        return majority_labels(np.searchsorted(self._people.codes, self.identity), self.labels(attribute))

    def subset(self, rows: np.ndarray | Sequence[int] | slice) -> Faces:
        """The faces in `rows` (integers, a boolean mask or a slice), in that order; identity codes are kept.

        Images and regions in memory are copied; of a memory map only the row numbers are kept, see `RowView`.
        """
        if not isinstance(rows, slice):
            rows = np.asarray(rows)
            rows = rows.astype(np.int64) if not rows.size else rows  # an empty list is float to numpy
        rows = np.arange(len(self))[rows]
        key = hashlib.sha256(self.cache_key.encode() + rows.tobytes()).hexdigest() if self.cache_key else ""
        return replace(
            self,
            images=rows_of(self.images, rows),
            identity=self.identity[rows],
            attributes={name: values[rows] for name, values in self.attributes.items()},
            cache_key=key,
            regions=None if self.regions is None else rows_of(self.regions, rows),
            nuisance={name: values[rows] for name, values in self.nuisance.items()},
        )

    def split(
        self, fractions: Sequence[float] = SPLIT_FRACTIONS, attribute: str | None = None, *, fold: int = 0, sealed: float = 0.0
    ) -> Splits:
        """Split by identity into train, attack, val and test: no person is in two of them.

        People are dealt out in a random order (from `split_seed`), separately for each label of `attribute` (the person's majority; people
        without a label are a group of their own) and for people with one image and with more, so that the shares hold in each of these
        groups up to about one person.

        Args:
            fractions: shares of the *people*, four positive numbers that sum to 1.
            attribute: what to stratify by; default the private one.
            fold: another number deals the people out anew. An anonymizer is trained on the `train` of the fold that it is audited in.
            sealed: share of the people, in [0, 1), that is put aside before the others are dealt out: the same people in every fold.

        Raises:
            UserError: a part would lack a label of `attribute`, two people with the same label, or a person with two images; an argument
                is out of its range.
        """
        attribute = self._check_attribute(attribute)
        shares = np.asarray(fractions, dtype=np.float64)
        if shares.shape != (4,) or not (shares > 0).all() or abs(shares.sum() - 1) > 1e-6:
            raise UserError(f"The split needs four positive shares that sum to 1 (train, attack, val, test), not {tuple(fractions)!r}.")
        whole_number("The fold", fold, 0)
        if isinstance(sealed, bool) or not isinstance(sealed, (int, float)) or not 0 <= sealed < 1:
            raise UserError(f"The share of the people that is sealed must be at least 0 and less than 1, not {sealed!r}.")
        people, label = self._people, self.person_labels(attribute)
        for value in (0, 1):
            if not (label == value).any():
                raise UserError(
                    f"Nobody of the {self.people} people in {self.source} has {attribute!r} = {value}: "
                    "an attribute with one class cannot be attacked. Choose another attribute, or load more people."
                )
        if people.counts.max() < 2:
            raise UserError(
                f"All {self.people} people in {self.source} have a single image: verification needs two of a person. "
                "Load more images a person, or raise the limit."
            )
        group = 2 * label.astype(np.int64) + (people.counts > 1)
        aside = np.zeros(self.people, dtype=bool)
        if sealed:
            aside = deal(group, np.array([1 - sealed, sealed]), np.random.default_rng([self.split_seed, 0, 1])) == 1
        part = np.full(self.people, 4)
        part[~aside] = deal(group[~aside], shares, np.random.default_rng([self.split_seed, fold]))
        part_of_row = part[np.searchsorted(people.codes, self.identity)]
        names, share = ((*SPLIT_NAMES, "sealed"), f", a share of {sealed:g} sealed") if sealed else (SPLIT_NAMES, "")
        for i, name in enumerate(names):
            zeros, ones = ((label[part == i] == value).sum() for value in (0, 1))
            lacks = {
                f"people with both labels of {attribute!r}": min(zeros, ones) < 1,
                f"two people with the same label of {attribute!r}": max(zeros, ones) < 2,
                "a person with two images": people.counts[part == i].max(initial=0) < 2,
            }
            if what := next((what for what, missing in lacks.items() if missing), None):
                raise UserError(
                    f"Too few people to split: {self.people} people in {self.source} ({(label == 1).sum()} with {attribute!r} = 1, "
                    f"{(label == 0).sum()} with 0, {(people.counts > 1).sum()} with two images or more{share}) leave {name!r} "
                    f"without {what}. Load more people, or raise the limit."
                )
        parts = [self.subset(np.flatnonzero(part_of_row == i)) for i in range(len(names))]
        return Splits(*parts[:4], sealed=parts[4] if sealed else None, fold=fold)

    def pairs(
        self, count: int, impostors: str = "free", attribute: str | None = None, seed: int = 0, impostor_pairs: int | None = None
    ) -> Pairs:
        """Draw verification pairs, half genuine and half impostors, in random order and none twice.

        Genuine pairs are spread over the people as evenly as their numbers of images allow: a person with 500 images would otherwise
        own nearly all of them. Impostor pairs are drawn uniformly from all pairs of images that show two people.

        Args:
            count: how many pairs; an odd one is rounded down. Where fewer exist, fewer are returned, still half and half.
            impostors: "free", or "same": both images carry the same label of `attribute`, and the labels are as frequent as among the
                genuine pairs, so that the attribute alone tells the two kinds apart no better than chance. Images without a label are then
                in genuine pairs only.
            attribute: for "same"; default the private one.
            seed: the same seed draws the same pairs.
            impostor_pairs: how many impostor pairs, at most; None: as many as genuine ones. The genuine ones do not depend on it.

        Raises:
            UserError: no person has two images, there are no such impostors, or an argument is out of range.

        Time and memory grow with the images and with `count`, never with the number of possible pairs.
        """
        if impostors not in ("free", "same"):
            raise UserError(f"Impostors are 'free' or 'same', not {impostors!r}.")
        whole_number("The number of pairs", count, 2)
        people = self._people
        groups = [people]
        if impostors == "same":
            labels = self.labels(attribute)
            groups = [_by_person(self.identity, np.flatnonzero(labels == value)) for value in (0, 1)]
        genuine = int((people.counts * (people.counts - 1) // 2).sum())
        possible = [group.impostor_pairs for group in groups]
        if not genuine:
            raise UserError(
                f"No genuine pair: none of the {self.people} people has two images. Load more images a person, or raise the limit."
            )
        if not sum(possible):
            same = f" with the same label of {self._check_attribute(attribute)!r}" if impostors == "same" else ""
            raise UserError(
                f"No impostor pair: there are no two people{same} among the {self.people}. Load more people, or raise the limit."
            )
        half = min(count // 2, genuine, sum(possible))
        rng = np.random.default_rng(seed)
        chosen = _draw_genuine(people, half, rng)
        number = half if impostor_pairs is None else min(impostor_pairs, sum(possible))
        wanted = [number]
        if impostors == "same":
            of_genuine = labels[chosen[0]]
            labelled = int((of_genuine >= 0).sum())
            ones = round(number * int((of_genuine == 1).sum()) / labelled) if labelled else number // 2
            ones = min(max(ones, number - possible[0]), possible[1])
            wanted = [number - ones, ones]
        drawn = [_draw_impostors(group, many, rng) for group, many in zip(groups, wanted, strict=True)]
        a, b = np.concatenate([chosen, *drawn], axis=1)
        different = np.repeat(np.array([0, 1], dtype=np.int8), [half, number])
        order = rng.permutation(half + number)
        return Pairs(a[order], b[order], different[order])


def _even_quota(available: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Share `count` out over people who can take `available` each, as evenly as possible; who gets one more is drawn. Shape (P,)."""
    # the largest level that, given to everybody who can take it, does not exceed count
    level = bisect.bisect_right(range(available.max() + 1), count, key=lambda level: np.minimum(available, level).sum()) - 1
    quota = np.minimum(available, level)
    if left := count - int(quota.sum()):
        quota[rng.choice(np.flatnonzero(available > level), left, replace=False)] += 1
    return quota


def _draw_genuine(people: _People, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """`count` different pairs of images of one person, rows (count,) and (count,).

    The m = n(n-1)/2 pairs of a person with n images are numbered 0 .. m-1. To take k of them, the numbers are cut into k runs, one is drawn
    from each run, and all are rotated by a random offset: they cannot collide, and each pair is as likely as any other (k/m).
    """
    available = people.counts * (people.counts - 1) // 2
    quota = _even_quota(available, count, rng)
    offset = rng.integers(0, np.maximum(available, 1))
    person = np.repeat(np.arange(len(quota)), quota)  # (count,)
    rank = np.arange(count) - np.repeat(np.cumsum(quota) - quota, quota)  # 0 .. k-1 within the person
    m, k = available[person], quota[person]
    start, end = rank * m // k, (rank + 1) * m // k
    number = (rng.integers(start, end) + offset[person]) % m
    triangle = np.arange(people.counts.max()) * np.arange(1, people.counts.max() + 1) // 2  # number = later (later - 1) / 2 + earlier
    later = np.searchsorted(triangle, number, side="right")
    earlier = number - triangle[later - 1]
    first = people.starts[person]
    return people.rows[first + earlier], people.rows[first + later]


def _draw_impostors(people: _People, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """`count` different pairs of images of two people, uniformly from all of them, rows (count,) and (count,).

    Numbered by their first image in the order of people; its partners are all the images of later people.
    """
    next_person = np.repeat(people.starts + people.counts, people.counts)  # (N,)
    before = np.cumsum(len(people.rows) - next_person)  # (N,) pairs up to and with this first image
    number = rng.choice(people.impostor_pairs, count, replace=False, shuffle=False)
    first = np.searchsorted(before, number, side="right")
    second = len(people.rows) - (before[first] - number)
    a, b = people.rows[first], people.rows[second]
    swap = rng.random(count) < 0.5  # `a` is not always the person with the lower code
    return np.where(swap, b, a), np.where(swap, a, b)


def images_only(faces: Faces, what: str) -> None:
    """Raise a UserError where `faces` are templates, which `what` cannot do with."""
    if faces.templates:
        raise UserError(f"{what} needs images, and {faces.source} hold templates: load the images, or protect the templates.")


def with_attribute(faces: Faces, attribute: str | None) -> Faces:
    """`faces` with `attribute` as its private attribute; None keeps the one it has. UserError where there is no such attribute."""
    return faces if attribute in (None, faces.attribute) else replace(faces, attribute=attribute)
