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


# --- beyond the paper -------------------------------------------------------------------------------------------------


def verification_loss(z: Tensor, identity: Tensor, closeness: Tensor | None = None, temperature: float = 0.1) -> Tensor:
    """Supervised contrastive loss (Khosla et al. 2020): each image has to find the other images of its person among the batch.

    Args:
        z: embeddings, shape (B, d); cosines are compared.
        identity: the people's codes, shape (B,). Images whose person comes once take part as impostors only.
        closeness: how much an impostor pair counts, in [0, 1], shape (B, B); None counts all fully. With 1 for people who share the
            private attribute and 0 for others, z has nothing to gain from telling the attribute: it would separate nobody.
        temperature: of the softmax over cosines; small ones weigh the hardest impostors most.
    """
    z = F.normalize(z.float())
    similarity = z @ z.T / temperature  # (B, B)
    same = identity[:, None] == identity[None, :]  # (B, B)
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    weighted = similarity if closeness is None else similarity + closeness.clamp(min=1e-12).log()
    impostors = weighted.masked_fill(same, -math.inf).logsumexp(1, keepdim=True)  # (B, 1); -inf where everybody is one person
    cost = torch.logaddexp(similarity, impostors) - similarity  # (B, B): one genuine image against all impostors
    genuine = (same & ~itself).to(cost.dtype)
    per_image = (cost * genuine).sum(1) / genuine.sum(1).clamp(min=1)
    return per_image.sum() / (genuine.sum(1) > 0).sum().clamp(min=1)


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.weight * gradient, None


def gradient_reversal(x: Tensor, weight: float = 1.0) -> Tensor:
    """x on the way forward, -weight times its gradient on the way back (Ganin & Lempitsky 2015).

    Put between encoder and adversary, one minimisation of the adversary's loss trains both: the adversary down, the encoder up.
    """
    return _Reversal.apply(x, float(weight))


def distribution_gap(z: Tensor, labels: Tensor, widths: tuple[float, ...] = (0.5, 1.0, 2.0)) -> Tensor:
    """Squared maximum mean discrepancy between the z of the two labels (Gretton et al. 2012), unbiased: 0 on average where they agree.

    The kernel is a mean of Gaussians whose widths are `widths` times the batch's median distance. No adversary needs to find the
    difference: a batch shows it; but a batch shows only gross ones.

    Args:
        z: representations, shape (B, k).
        labels: 1, 0, or -1 (unknown, does not count), shape (B,).
    """
    ones, zeros = z[labels == 1].float(), z[labels == 0].float()
    if min(len(ones), len(zeros)) < 2:
        return z.float().sum() * 0.0
    both = torch.cat([ones, zeros])
    squares = torch.cdist(both, both).square()  # (n, n)
    median = squares.detach()[~torch.eye(len(both), dtype=torch.bool, device=z.device)].median().clamp(min=1e-12)
    kernel = sum(torch.exp(-squares / (2 * width**2 * median)) for width in widths) / len(widths)
    n = len(ones)
    within = [(part.sum() - part.diagonal().sum()) / (len(part) * (len(part) - 1)) for part in (kernel[:n, :n], kernel[n:, n:])]
    return within[0] + within[1] - 2 * kernel[:n, n:].mean()


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, labels.clamp(min=0).to(logits.dtype), reduction="none")  # (B,)


def _mean_over_known(values: Tensor, labels: Tensor) -> Tensor:
    known = (labels >= 0).to(values.dtype)  # (B,)
    return (values * known).sum() / torch.clamp(known.sum(), min=1)
