"""Rivals that train a network against a reader or a bound: maximum entropy, and the variational privacy funnel.

Both take a template, standardised, to fewer numbers, and learn to tell the people of `train` apart while they hide the label.
Steps, rates and batches are the same for both.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from aia_lib.machine.device import seeded

from .rival import Rival, numbered


def adversary(inputs: int) -> nn.Module:
    """Two hidden layers of 128 and 64, to the logits of the two labels."""
    return nn.Sequential(nn.Linear(inputs, 128), nn.SELU(), nn.Linear(128, 64), nn.SELU(), nn.Linear(64, 2))


class Trained(Rival):
    """A rival with an encoder that `_train` trains on standardised templates x (N, d), labels s (N,) and people y (N,)."""

    BATCH = 256

    def fit(self, vectors: NDArray, labels: NDArray, identity: NDArray, seed: int) -> Trained:
        person, people = numbered(identity)
        self.mean, self.scale = torch.from_numpy(vectors.mean(0)), torch.from_numpy(vectors.std(0)).clamp(min=1e-6)
        data = (self._standard(torch.from_numpy(vectors)), torch.from_numpy(labels).long(), torch.from_numpy(person))
        with seeded(seed, self.name):
            self._train(*data, people)
        return self

    def _train(self, x: Tensor, s: Tensor, y: Tensor, people: int) -> None:
        raise NotImplementedError

    def _standard(self, vectors: Tensor) -> Tensor:
        return (vectors - self.mean) / self.scale

    def _rows(self, n: int) -> Tensor:
        return torch.randint(n, (self.BATCH,))

    @torch.no_grad()
    def __call__(self, vectors: Tensor) -> Tensor:
        return self.encoder(self._standard(vectors))


def optimizer(*parts: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW([weight for part in parts for weight in part.parameters()], lr=1e-3)


def descend(by: torch.optim.Optimizer, loss: Tensor) -> None:
    by.zero_grad()
    loss.backward()
    by.step()


class MaximumEntropy(Trained):
    """Adversarial learning with maximum entropy (Roy & Boddeti 2019): the encoder makes the reader unsure, not wrong.

    The reader learns the label by cross-entropy; encoder and classifier of the people learn CE + weight KL(q(s | z) || even odds), q what
    the reader says. They take turns.

    Args:
        weight: alpha.
        components: numbers in z.
        steps: of the encoder.
        reads: steps of the reader before each of them.
    """

    name = "maximum entropy"

    def __init__(self, weight: float = 50.0, components: int = 64, steps: int = 2000, reads: int = 1) -> None:
        self.weight, self.components, self.steps, self.reads = weight, components, steps, reads

    def _train(self, x: Tensor, s: Tensor, y: Tensor, people: int) -> None:
        self.encoder = nn.Sequential(nn.Linear(x.shape[1], 256), nn.SELU(), nn.Linear(256, self.components))
        classifier, self.reader = nn.Linear(self.components, people), adversary(self.components)
        of_method, of_reader = optimizer(self.encoder, classifier), optimizer(self.reader)
        for _ in range(self.steps):
            for _ in range(self.reads):
                rows = self._rows(len(x))
                descend(of_reader, F.cross_entropy(self.reader(self.encoder(x[rows]).detach()), s[rows]))
            rows = self._rows(len(x))
            z = self.encoder(x[rows])
            says = F.log_softmax(self.reader(z), dim=1)
            sure = (says.exp() * (says + np.log(2))).sum(1).mean()
            descend(of_method, F.cross_entropy(classifier(z), y[rows]) + self.weight * sure)


class PrivacyFunnel(Trained):
    """The variational privacy funnel (Razeghi, Rahimi & Marcel 2024), discriminative: what z tells of the person, less a bound on what it
    tells of the label.

    With z drawn from N(mu(x), diag sigma(x)^2), I(s; z) = I(x; z) - I(x; z | s) is at most
    KL(q(z | x) || N(0, I)) - E log p(x | z, s) - H(x | s), p a Gaussian around a decoder that is told s. Encoder, decoder and the people's
    classifier lower CE + weight (KL - log p). What is released is a draw of z, of which the bound speaks.

    Args:
        weight: alpha.
        components: numbers in z.
        steps: of training.
    """

    name = "privacy funnel"

    def __init__(self, weight: float = 0.1, components: int = 64, steps: int = 2000) -> None:
        self.weight, self.components, self.steps = weight, components, steps

    def fit(self, vectors: NDArray, labels: NDArray, identity: NDArray, seed: int) -> PrivacyFunnel:
        self.generator = torch.Generator().manual_seed(seed)
        return super().fit(vectors, labels, identity, seed)

    def _train(self, x: Tensor, s: Tensor, y: Tensor, people: int) -> None:
        self.parameters = nn.Sequential(nn.Linear(x.shape[1], 256), nn.SELU(), nn.Linear(256, 2 * self.components))
        decoder = nn.Sequential(nn.Linear(self.components + 1, 256), nn.SELU(), nn.Linear(256, x.shape[1]))
        classifier = nn.Linear(self.components, people)
        of_all = optimizer(self.parameters, decoder, classifier)
        for _ in range(self.steps):
            rows = self._rows(len(x))
            z, kl = self._draw(x[rows])
            rebuilt = decoder(torch.cat([z, s[rows, None].float()], dim=1))
            bound = kl.mean() + 0.5 * (rebuilt - x[rows]).square().sum(1).mean()
            descend(of_all, F.cross_entropy(classifier(z), y[rows]) + self.weight * bound)

    def _draw(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        mu, log_variance = self.parameters(x).chunk(2, dim=1)
        z = mu + (log_variance / 2).exp() * torch.randn(mu.shape, generator=generator)
        return z, 0.5 * (mu.square() + log_variance.exp() - 1 - log_variance).sum(1)

    @torch.no_grad()
    def __call__(self, vectors: Tensor) -> Tensor:
        return self._draw(self._standard(vectors), self.generator)[0]
