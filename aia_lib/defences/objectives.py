"""The losses of the defences beyond the paper."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


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
