"""What an anonymizer releases of the splits attack, val and test: asked for in batches, checked, and prepared for the attackers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from ..attackers import AttackSet
from ..config import AuditConfig
from ..faces import Pairs, Splits
from ..machine.device import to_images
from ..machine.files import UserError, one_line
from ..verification import Verifier, fit_verifier, principal_components

BATCH = 256  # images that an anonymizer is given at a time

MIRROR_BELOW = 20_000
"""Up to so many attack images, their mirror images are anonymized too and join the attackers' training set."""

RECONSTRUCTION_SIZE = 32
"""Larger reconstructions are averaged down to this size for the attack on them; attackers on g itself see the rest of the detail."""


def name_of(anonymizer: object) -> str:
    """What a report calls an anonymizer: its `name`, else its function's name, else its type's."""
    names = [getattr(anonymizer, member, None) for member in ("name", "__name__")]
    return next((name for name in names if isinstance(name, str) and name), type(anonymizer).__name__)


def call_checked(function: Callable, inputs: Tensor, what: str) -> np.ndarray:
    """Run a reader's function without gradients on a batch; a float array of as many rows, not yet looked at otherwise."""
    shape = tuple(inputs.shape)
    modules = [part for part in (function, getattr(function, "__self__", None)) if isinstance(part, nn.Module)]
    was_training = [module for module in modules if module.training]
    weights = next(modules[0].parameters(), inputs) if modules else inputs
    for module in was_training:
        module.eval()
    try:
        with torch.no_grad():
            result = function(inputs.to(weights.device))
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
        kind = f"{result.dtype} array" if isinstance(result, np.ndarray) else type(result).__name__
        raise UserError(f"{what} must return a float tensor or numpy array, not a {kind} (batch of shape {shape}).")
    if result.ndim < 1 or len(result) != len(inputs):
        raise UserError(f"{what} must return one row for each of the {len(inputs)} rows it is given, not an array of shape {result.shape}.")
    return result


def batched_outputs(function: Callable, g: np.ndarray, what: str) -> np.ndarray:
    """What a network makes of representations (N, k), in batches: a float array of N rows. UserError where it is not finite."""
    values = np.concatenate([call_checked(function, torch.from_numpy(g[start : start + BATCH]), what) for start in range(0, len(g), BATCH)])
    with np.errstate(over="ignore"):
        if not np.isfinite(values.astype(np.float32)).all():
            raise UserError(f"{what} returned NaN or infinite values.")
    return values


def represent(anonymizer: Callable[[Tensor], Tensor | np.ndarray], images: Any, mirror: bool = False) -> np.ndarray:
    """What an anonymizer makes of images, uint8 (N, 1, H, W), or templates, float32 (N, d), in batches, without gradients: float32 (N, k).

    Args:
        mirror: give it the images reversed left to right; not of templates.

    Raises:
        UserError: it fails, or returns something that is not a float array of shape (N, k), finite, and not the same for all images.
    """
    what = f"The anonymizer {name_of(anonymizer)}"
    g: np.ndarray | None = None
    for start in range(0, len(images), BATCH):
        batch = to_images(np.asarray(images[start : start + BATCH]), torch.device("cpu"))
        part = call_checked(anonymizer, batch.flip(3) if mirror else batch, what)
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
    offered = getattr(anonymizer, "map_shape", None)
    if offered is None:
        return None
    try:
        shape = tuple(int(side) for side in offered)
    except TypeError:
        shape = ()
    if len(shape) != 3 or min(shape) < 1 or np.prod(shape) != k:
        what = f"The anonymizer {name_of(anonymizer)} has map_shape {offered!r}"
        raise UserError(f"{what}, which is not a (channels, height, width) of {k} numbers.")
    return shape


def reconstruct(decode: Callable, g: np.ndarray, most: int = RECONSTRUCTION_SIZE) -> np.ndarray:
    """What `decode` makes of g, float32 (N, 1, h, w), averaged down where a side is longer than `most` pixels."""
    parts = []
    for start in range(0, len(g), BATCH):
        images = torch.from_numpy(batched_outputs(decode, g[start : start + BATCH], "decode"))
        if images.ndim != 4 or images.shape[1] != 1:
            raise UserError(f"decode must return images of shape (N, 1, H, W), not {tuple(images.shape)}.")
        if max(images.shape[2:]) > most:
            images = F.adaptive_avg_pool2d(images, [min(side, most) for side in images.shape[2:]])
        parts.append(images.float().numpy())
    return np.concatenate(parts)


def standardiser(g: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Each feature to mean 0 and deviation 1 on g, clipped to [-10, 10]; features that do not vary become 0."""
    mean, deviation = g.mean(0, dtype=np.float64), g.std(0, dtype=np.float64)
    varies = deviation > 1e-7 * max(deviation.max(), np.abs(mean).max())
    scale = np.where(varies, 1 / np.where(varies, deviation, 1), 0).astype(np.float32)
    mean = mean.astype(np.float32)

    def standardise(rows: np.ndarray) -> np.ndarray:
        result = (rows - mean) * scale
        return np.clip(result, -10, 10, out=result)

    return standardise


@dataclass(frozen=True, eq=False)
class Released:
    """What an anonymizer released of the splits attack, val and test, and all that the seeds share.

    Attributes:
        sets: attack (with mirror images, where it is small), val, test; labels are -1 where they are missing.
        identity: people's codes of the same rows.
        principal: mean and basis of the attack features' principal components; None for a control.
        missing: why a field of the sets is None.
    """

    sets: dict[str, AttackSet]
    identity: dict[str, np.ndarray]
    principal: tuple[np.ndarray, np.ndarray] | None
    missing: dict[str, str]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, anonymizer: Callable, splits: Splits, control: bool = False, progress: bool = False, decoded: bool = True) -> Released:
        """Run the anonymizer on the three splits. As a `control`, without what `CONTROL_ATTACKERS` do not read.

        Unless they are to be `decoded`, without the decoder's images, which take longer than all the rest; see `makers.read_images`.
        """
        parts = {"attack": splits.attack, "val": splits.val, "test": splits.test}
        with tqdm(total=1, desc=f"{name_of(anonymizer)}: representations", disable=not progress) as bar:
            g = {part: represent(anonymizer, faces.images) for part, faces in parts.items()}
            bar.update()
        shape = _map_shape(anonymizer, g["attack"].shape[1])
        missing = {} if shape else {"map_shape": "the representation is not a map (the anonymizer has no map_shape)"}
        decode = None if control else getattr(anonymizer, "decode", None)
        images: dict[str, np.ndarray | None] = dict.fromkeys(parts)
        try:
            if not decoded:
                missing["images"] = "no attacker reads reconstructions"
            elif callable(decode):
                images = {part: reconstruct(decode, values) for part, values in g.items()}
            else:
                missing["images"] = "the anonymizer has no decode"
        except UserError as error:
            missing["images"] = f"no reconstructions ({error})"
        repeats = 2 if len(splits.attack) <= MIRROR_BELOW and not splits.attack.templates else 1
        if repeats == 2:
            g["attack"] = np.concatenate([g["attack"], represent(anonymizer, splits.attack.images, mirror=True)])
            if images["attack"] is not None:
                images["attack"] = np.concatenate([images["attack"], images["attack"][..., ::-1]])
        standardise = standardiser(g["attack"])
        features = {part: standardise(values) for part, values in g.items()}
        some = features["attack"][:: -(-len(features["attack"]) // MIRROR_BELOW)]
        mean, basis = principal_components(some, count=1 if control else 256)
        if not len(basis):
            raise UserError(f"The anonymizer {name_of(anonymizer)} returned one representation for all images, but for rounding.")
        sets, identity, notes = {}, {}, []
        for part, faces in parts.items():
            times = repeats if part == "attack" else 1
            components, labels = (features[part] - mean) @ basis.T, np.tile(faces.labels(), times)
            sets[part] = AttackSet(g[part], features[part], components, labels, shape, images[part], repeats=times)
            identity[part] = np.tile(faces.identity, times)
            if unlabelled := int((faces.labels() < 0).sum()):
                notes.append(f"{unlabelled} images of {part} without a label of {faces.attribute!r} were left out of the attack.")
        return cls(sets, identity, None if control else (mean, basis), missing, tuple(notes))

    def verifier(self, val_pairs: Sequence[Pairs], config: AuditConfig, seed: int, progress: bool) -> Verifier:
        """A fresh verifier: trained on the people of attack, chosen on these sets of pairs of val."""
        attack, val = self.sets["attack"], self.sets["val"]
        options = {"map_shape": attack.map_shape, "repeats": attack.repeats, "principal": self.principal, "seed": seed}
        options |= {"epochs": config.epochs, "min_steps": min(100, config.min_steps)}
        with tqdm(total=1, desc=f"  seed {seed}: verifier", disable=not progress) as bar:
            fitted = fit_verifier(attack.features, self.identity["attack"], val.features, val_pairs, **options)
            bar.set_postfix_str(f"{fitted.name}, val AUC {fitted.val_auc:.3f}")
            bar.update()
        return fitted

    def labelled(self, embeddings: Mapping[str, np.ndarray] | None = None) -> dict[str, AttackSet]:
        """The rows with a label, for the attackers."""
        sets = self.sets
        if embeddings is not None:
            sets = {part: dataclasses.replace(data, embeddings=embeddings[part]) for part, data in sets.items()}
        return {part: data if (data.labels >= 0).all() else data.take(np.flatnonzero(data.labels >= 0)) for part, data in sets.items()}
