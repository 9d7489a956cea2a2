"""The paper's losses, each one function with its equation's number, and those of the defences beyond it. All are means: weights compare."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

LOG2 = math.log(2.0)
"""Binary cross entropy of a coin: what an adversary that knows nothing pays, in nats."""


def reconstruction_loss(logits: Tensor, images: Tensor) -> Tensor:
    """L_AE, Eq. 5: binary cross entropy between image and reconstruction, in nats a pixel.

    The equation is printed without its minus and with x and x' exchanged; this is the usual cross entropy with target x.

    Args:
        logits: the decoder's output before the sigmoid, shape (B, 1, H, W).
        images: x, values in [0, 1], same shape.
    """
    return F.binary_cross_entropy_with_logits(logits, images)


def reconstruction_floor(images: Tensor) -> Tensor:
    """The least value Eq. 5 can take on these images: the entropy of x, in nats a pixel.

    A grey pixel costs up to log 2 even when it is reproduced exactly. Reconstruction loss minus this floor is what the
    auto-encoder can still learn.
    """
    return F.binary_cross_entropy(images, images)


def adversary_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """L_Adv: binary cross entropy of the adversary, in nats an image.

    Args:
        logits: one logit an image, positive speaks for label 1, shape (B,).
        labels: 1, 0, or -1 where the data set has no label; those do not count. Shape (B,).
    """
    return _mean_over_known(_cross_entropy(logits, labels), labels)


def privacy_gain(logits: Tensor, labels: Tensor, kind: str = "literal") -> Tensor:
    """What the encoder maximises in Eq. 8 in the place of L_Adv.

    "literal" is L_Adv as the paper prints it. It has no upper bound: an encoder gains most from an adversary that is *sure
    of the wrong answer*, and labels that are flipped are still there to be read. "capped" stops every image's gain at log 2,
    where the adversary tosses a coin. "maxent" aims at that coin directly: minus the cross entropy of the adversary's
    answer to an even coin (Roy & Boddeti 2019), at most -log 2.

    Args:
        logits: shape (B,).
        labels: 1, 0 or -1 (unknown), shape (B,).
        kind: "literal", "capped" or "maxent".
    """
    if kind == "literal":
        return adversary_loss(logits, labels)
    if kind == "capped":
        return _mean_over_known(_cross_entropy(logits, labels).clamp(max=LOG2), labels)
    if kind == "maxent":
        return -_mean_over_known(0.5 * (F.softplus(logits) + F.softplus(-logits)), labels)
    raise ValueError(f"kind must be literal, capped or maxent, not {kind!r}")


def contrastive_loss(z_a: Tensor, z_b: Tensor, different: Tensor, margin: float = 2.0) -> Tensor:
    """L_Siamese, Eq. 7: the contrastive loss of a Siamese pair.

    Args:
        z_a, z_b: embeddings of the two images, shape (B, d).
        different: 1 where the images show two people, 0 where one, shape (B,).
        margin: distance, in embedding units, beyond which two people cost nothing.
    """
    distance = F.pairwise_distance(z_a, z_b)  # (B,)
    same_cost = (1 - different) * distance.square()
    different_cost = different * F.relu(margin - distance).square()
    return 0.5 * (same_cost + different_cost).mean()


def total_loss(
    reconstruction: Tensor, siamese: Tensor | float, adversary: Tensor | float, alpha: float, beta: float, gamma: float = 1.0
) -> Tensor:
    """L_Total, Eq. 8: gamma L_AE + alpha L_Siamese - beta L_Adv. The paper has gamma = 1."""
    return gamma * reconstruction + alpha * siamese - beta * adversary


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, labels.clamp(min=0).to(logits.dtype), reduction="none")  # (B,)


def _mean_over_known(values: Tensor, labels: Tensor) -> Tensor:
    known = (labels >= 0).to(values.dtype)  # (B,)
    return (values * known).sum() / torch.clamp(known.sum(), min=1)
