"""Rivals that work among the functions of a kernel: the closed-form trade-off, and Obliviator."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from torch import Tensor, nn

from aia_lib.machine.device import seeded

from .rival import Rival, numbered


class Cosines:
    """Random cosines of a Gaussian kernel (Rahimi & Recht 2007), as wide as the median distance of two rows: x (N, d) -> (N, features)."""

    def __init__(self, x: Tensor, features: int) -> None:
        width = torch.pdist(x[torch.randperm(len(x))[:1000]]).median().clamp(min=1e-6)
        self.frequencies = torch.randn(x.shape[1], features) / width
        self.phases = 2 * math.pi * torch.rand(features)

    def __call__(self, x: Tensor) -> Tensor:
        return torch.cos(x @ self.frequencies + self.phases) * (2 / len(self.phases)) ** 0.5


class KernelTradeOff(Rival):
    """The closed-form trade-off in a kernel's functions, "K-T-Opt" (Sadeghi, Dehdashtian & Boddeti 2022; with random features
    as in Dehdashtian, Sadeghi & Boddeti 2024).

    Functions f = phi(x) u with the greatest dependence on the target, here the person, and the least on the label,
    (1 - tau) sum Cov(f, y)^2 - tau sum Cov(f, s)^2, each in units of its greatest, under Cov(f, f) + gamma |u|^2 = 1: the
    eigenvectors of a generalised eigenvalue problem with the greatest eigenvalues, those above 0. As tau goes to 1, Cov(f, s) goes to 0.

    Args:
        tau: the weight of the label, below 1.
        components: functions at most.
        features: random cosines.
        gamma: in units of the mean variance of a cosine.
    """

    name = "kernel closed form"

    def __init__(self, tau: float = 0.9999, components: int = 64, features: int = 1024, gamma: float = 1e-2) -> None:
        self.tau, self.components, self.features, self.gamma = tau, components, features, gamma

    def fit(self, vectors: NDArray, labels: NDArray, identity: NDArray, seed: int) -> KernelTradeOff:
        x = torch.from_numpy(vectors)
        with seeded(seed, self.name):
            self.cosines = Cosines(x, self.features)
        phi = self.cosines(x).double().numpy()
        self.mean = phi.mean(0)
        phi -= self.mean
        person, people = numbered(identity)
        sums = np.zeros((people, phi.shape[1]))  # phi^T Y with a column of Y for each person
        np.add.at(sums, person, phi)
        with_label = phi.T @ (labels - labels.mean())
        target, hidden = sums.T @ sums, np.outer(with_label, with_label)
        ratio = self.tau / (1 - self.tau)
        gain = target / np.linalg.norm(target, 2) - ratio * hidden / np.linalg.norm(hidden, 2)
        covariance = phi.T @ phi / len(phi)
        size = covariance + self.gamma * covariance.trace() / len(covariance) * np.eye(len(covariance))
        values, functions = eigh(gain, size, subset_by_index=(len(size) - self.components, len(size) - 1))
        self.functions = functions[:, values > 0][:, ::-1].copy()
        return self

    def __call__(self, vectors: Tensor) -> Tensor:
        return ((self.cosines(vectors).double() - torch.from_numpy(self.mean)) @ torch.from_numpy(self.functions)).float()


def dependence(a: Tensor, b: Tensor) -> Tensor:
    """The root mean square of the cross-covariance of two tables of features, (N, p) and (N, q): of cosines, HSIC but for the scale."""
    return ((a - a.mean(0)).T @ (b - b.mean(0)) / len(a)).square().mean().sqrt()


class Obliviator(Rival):
    """Erasure in small steps, each among a kernel's functions (Akbari, Afshari & Boddeti 2025), unsupervised.

    A step trains an encoder w(z) so that HSIC(w, s) falls and HSIC(w, z) + HSIC(w, x) rise. Then, in closed form, it takes of the functions
    of w those that have no covariance with s, along the directions that vary most with z and x, and these, normalised, are the next z.

    Args:
        rounds: such steps.
        epochs: of the encoder in each, in batches of 512.
        features: random cosines of a kernel.
        components: directions at most.
        keep: the weight of z and of x.
    """

    name = "Obliviator"

    def __init__(self, rounds: int = 8, epochs: int = 15, features: int = 512, components: int = 128, keep: float = 0.2) -> None:
        self.rounds, self.epochs, self.features, self.components, self.keep = rounds, epochs, features, components, keep
        self.steps: list[tuple[nn.Module, Cosines, Tensor, Tensor]] = []

    def fit(self, vectors: NDArray, labels: NDArray, identity: NDArray, seed: int) -> Obliviator:
        x = torch.nn.functional.normalize(torch.from_numpy(vectors))
        s = torch.from_numpy(labels).float()[:, None]
        with seeded(seed, self.name):
            self.original = Cosines(x, self.features)
            anchor, z, self.steps = self.original(x), x, []
            for _ in range(self.rounds):
                aligned = [anchor, Cosines(z, self.features)(z)]
                encoder = self._encoder(z, s, aligned)
                with torch.no_grad():
                    w = encoder(z)
                    cosines = Cosines(w, self.features)
                    phi = cosines(w).double()
                    mean, functions = phi.mean(0), self._functions(phi, s.double(), aligned)
                self.steps.append((encoder, cosines, mean.float(), functions.float()))
                z = self._step(z, *self.steps[-1])
        return self

    def _encoder(self, z: Tensor, s: Tensor, aligned: list[Tensor]) -> nn.Module:
        encoder = nn.Sequential(nn.Linear(z.shape[1], 256), nn.SiLU(), nn.Linear(256, 128), Unit())
        optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-3)
        for _ in range(self.epochs):
            for rows in torch.randperm(len(z)).split(512):
                if len(rows) < 64:
                    continue  # a covariance of few rows is noise
                w = encoder(z[rows])
                phi = Cosines(w.detach(), self.features)(w)
                loss = dependence(phi, s[rows]) - self.keep * sum(dependence(phi, part[rows]) for part in aligned)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return encoder.eval()

    def _functions(self, phi: Tensor, s: Tensor, aligned: list[Tensor]) -> Tensor:
        phi = phi - phi.mean(0)
        with_label = torch.linalg.qr(phi.T @ (s - s.mean(0)), mode="complete").Q
        free = with_label[:, s.shape[1] :]  # an orthonormal basis of the functions without covariance with s
        gain = torch.zeros(free.shape[1], free.shape[1], dtype=torch.float64)
        for part in aligned:
            shared = (part.double() - part.double().mean(0)).T @ phi @ free
            gain += shared.T @ shared / torch.linalg.matrix_norm(shared, 2) ** 2
        values, directions = torch.linalg.eigh(gain)
        kept = torch.arange(len(values)) >= len(values) - self.components
        return free @ directions[:, kept & (values > 1e-6 * values[-1])]

    def _step(self, z: Tensor, encoder: nn.Module, cosines: Cosines, mean: Tensor, functions: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.nn.functional.normalize((cosines(encoder(z)) - mean) @ functions)

    def __call__(self, vectors: Tensor) -> Tensor:
        z = torch.nn.functional.normalize(vectors)
        for step in self.steps:
            z = self._step(z, *step)
        return z


class Unit(nn.Module):
    """Rows of length 1."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.normalize(x)
