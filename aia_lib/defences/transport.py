"""Optimal transport of the groups that a score predicts to their barycentre: the protection of finished templates, in closed form."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..machine.device import seeded
from ..machine.files import UserError, whole_number
from .erasers import Eraser, Sample, ScoreErasure, _transport, _under
from .score import located


class Transport(Eraser):
    """Moves the groups that the attribute's score predicts onto one another, so that an image's group can no longer be read.

    It is the barycentre repair of the fairness literature (Gordaliza et al. 2019) with an *estimated* label: the label is not known at
    release, and the group is the sign of `AttributeScore`. Of m attributes there are 2^m groups. Three steps, each fitted on what the one
    before left of the people of `train`, who are scored by models that do not know them:

    1. `ScoreErasure`: equal means and covariances all along the score.
    2. Each group's Gaussian to the groups' mean Gaussian, the affine optimal transport. A group of n people leans on all as k to n.
    3. `rounds` of sliced transport (Rabin et al. 2011): in a random orthogonal basis, the quantiles of each group go half the way to the
       mean of the groups' quantiles, axis by axis.

    On the people it was fitted on little is left. What attackers find on new people is what a finite number of people could not tell.

    Args:
        amount: how far to move, in [0, 1]: 0 leaves g as it is, 1 arrives; in between lies the geodesic of the transport (McCann 1997).
        rounds: of sliced transport.
    """

    kind = "transport"

    def __init__(self, amount: float = 1.0, rounds: int = 30) -> None:
        super().__init__()
        if isinstance(amount, bool) or not isinstance(amount, (int, float)) or not 0 <= amount <= 1:
            raise UserError(f"Transport.amount must lie between 0 (leave g as it is) and 1 (arrive), not at {amount!r}.")
        self.settings = {"amount": float(amount), "rounds": whole_number("Transport.rounds", rounds, 0)}

    def fit(self, sample: Sample) -> Transport:
        along = ScoreErasure().fit(sample)
        g, group = along.left, _groups([torch.from_numpy(score.train_scores) for score in along.scores])
        k, groups = g.shape[1], range(2 ** len(along.scores))
        members = [group == j for j in groups]
        smallest = min(int(rows.sum()) for rows in members)
        if smallest < 2:
            raise UserError("Too few people to transport: the score predicts fewer than two images of a group. Load more people.")
        means = torch.stack([g[rows].mean(0) for rows in members])
        pooled = (g - means[group]).T @ (g - means[group]) / len(g)
        covariances = []
        for rows in members:
            people = len(np.unique(sample.identity[rows.numpy()]))  # images of one person are alike: not they count, but people do
            covariances.append(people / (people + k) * torch.cov(g[rows].T) + k / (people + k) * pooled)
        target = torch.stack(covariances).mean(0)
        made = {"means": means, "maps": torch.stack([_transport(covariance, target) for covariance in covariances])}
        g = _affine(g, group, **made)
        grid = torch.linspace(0, 1, int(np.clip(smallest // 20, 2, 50)) + 2, dtype=torch.float64)[1:-1]
        with seeded(sample.seed, "transport"):
            bases = [torch.linalg.qr(torch.randn(k, k, dtype=torch.float64)).Q for _ in range(self.settings["rounds"])]
        steps = []
        for basis in bases:
            quantiles = torch.stack([torch.quantile(g[rows] @ basis, grid, dim=0).T for rows in members])  # (groups, k, q)
            steps.append((quantiles, 0.5 * (quantiles.mean(0) - quantiles)))
            g = _slide(g, group, basis, *steps[-1])
        if steps:
            made |= {"bases": torch.stack(bases)}
            made |= dict(zip(("quantiles", "shifts"), map(torch.stack, zip(*steps, strict=True)), strict=True))
        self.tensors = {f"along.{name}": value for name, value in along.tensors.items()}
        self.tensors |= {name: value.float() for name, value in made.items()}
        return self

    def __call__(self, g: Tensor, images: Tensor) -> Tensor:
        tensors = {name: value.to(g.device) for name, value in self.tensors.items()}
        along = ScoreErasure()
        along.tensors = _under(tensors, "along.")
        group = _groups([values for _, values in along.scored(images.to(g.device))])
        moved = _affine(along(g, images), group, tensors["means"], tensors["maps"])
        for step in range(self.settings["rounds"]):
            moved = _slide(moved, group, *(tensors[name][step] for name in ("bases", "quantiles", "shifts")))
        return g + self.settings["amount"] * (moved - g)


def _groups(scores: list[Tensor]) -> Tensor:
    """The group that m scores (N,) predict, int64 (N,), from 0 to 2^m - 1."""
    return sum((score > 0).long() * 2**j for j, score in enumerate(scores))


def _affine(g: Tensor, group: Tensor, means: Tensor, maps: Tensor) -> Tensor:
    """g (N, k) moved by its group's affine map, means (groups, k) and maps (groups, k, k), to the groups' mean."""
    moved = torch.empty_like(g)
    for j in range(len(means)):
        moved[group == j] = (g[group == j] - means[j]) @ maps[j]
    return moved + means.mean(0)


def _slide(g: Tensor, group: Tensor, basis: Tensor, quantiles: Tensor, shifts: Tensor) -> Tensor:
    """g (N, k), each axis of `basis` (k, k) shifted as `shifts` say at `quantiles` (groups, k, q), in between by interpolation."""
    axes = (g @ basis).T.contiguous()  # (k, N)
    for j in range(len(quantiles)):
        values = axes[:, group == j]
        left, share = located(values, quantiles[j])
        axes[:, group == j] = values + torch.lerp(shifts[j].gather(1, left), shifts[j].gather(1, left + 1), share)
    return axes.T @ basis.T
