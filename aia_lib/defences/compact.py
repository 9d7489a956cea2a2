"""A compact representation: k numbers that verify a face and are trained not to tell the attribute.

AIA's three parts are here, each in another form: a decoder (which is told the attribute, and learns afterwards), adversaries (several
kinds, renewed in turn), and verification (a contrastive loss over the whole batch, whose impostors look alike as far as the attribute
goes).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..anonymizers import Anonymizer, check_images
from ..config import as_dict, with_settings
from ..faces import Faces, with_attribute
from ..losses import adversary_loss, privacy_gain, reconstruction_loss
from ..machine.device import adam, autocast, build, device_of, pick_device, seeded
from ..machine.stage import History
from ..training import FaceBatches, descend, stage_of
from .base import Defence, as_attribute, as_names, both_labels, fitted, from_record, release
from .networks import CompactEncoder, ConditionalDecoder, Memory, Partners, VectorAdversary, augment
from .score import AttributeScore
from .settings import CompactConfig

MEMORY = 4
"""How many of the latest batches the adversaries learn from: with older ones they would chase an encoder that has moved on."""

ADVERSARY_BATCH = 256
"""Representations in one step of an adversary."""

RENEWAL_STEPS = 30
"""Steps that an adversary takes on the memory when it starts again, before the encoder listens to it."""

MATCH_WIDTH = 0.15
"""How near two attribute scores, as quantiles in [0, 1], make two people alike: the standard deviation of a Gaussian weight."""


class Decoding(Defence):
    """A defence with a decoder that learns from its finished representations, and is told the attributes (`ConditionalDecoder`)."""

    decoder: ConditionalDecoder | None = None
    device: torch.device | None

    def _build_decoder(self, size: int, k: int, attributes: int) -> None:
        self.decoder = build(lambda: ConditionalDecoder(size, k, attributes), self.device or pick_device(), self.seed, "decoder")

    def _fit_decoder(
        self, faces: Faces, names: tuple[str, ...], g: Tensor, config: CompactConfig, folder: str | Path | None, progress: bool
    ) -> None:
        """The decoder learns from finished representations g (N, k) of `faces`, which do not move, and is told the labels of `names`."""
        decoder, device = self.decoder, device_of(self.decoder)
        data = FaceBatches(faces, device)
        labels, g = labels_on(faces, names, device), g.to(device)
        conditions = torch.where(labels < 0, 0.0, 2 * labels - 1)  # 1 and -1, and 0 for unknown
        optimizer = adam(decoder.parameters(), 2e-3, device)
        settings = {"attribute": as_attribute(names), "g": f"{float(g.double().abs().sum()):.6g}"}
        modules, epochs = {"decoder": decoder}, config.decoder_epochs
        stage = stage_of("decoder", modules, {"adam": optimizer}, data, config, self.seed, folder, progress, epochs=epochs, **settings)
        decoder.train()
        for step in stage:
            rows = stage.rows(step)
            images = data.images(rows)
            with autocast(device):
                logits = decoder(g[rows], conditions[rows])
            loss = reconstruction_loss(logits.float(), images)
            descend(loss, optimizer)
            stage.log(reconstruction=loss)
        self.history["decoder"] = stage.history

    @property
    def decode(self):
        """decode(g): g (N, k) to images (N, 1, H, W) in [0, 1], of people whose attributes are unknown."""
        if self.decoder is None:
            raise AttributeError("this anonymizer has no decoder: decoder_epochs is 0, or it has not been fitted")
        return self._decode

    @torch.no_grad()
    def _decode(self, g: Tensor) -> Tensor:
        return torch.sigmoid(self.decoder.eval()(g.to(device_of(self.decoder))))


class Compact(Decoding):
    """A compact representation, k numbers an image, trained to verify and not to tell the attribute.

    By its settings it has maximum-entropy adversaries (Roy & Boddeti 2019) in an ensemble that is renewed, or no privacy at all
    (`privacy="none", matching=0, impostors="free"`).

    `fit` takes one attribute or several. Each of several has its adversaries, and the losses add up: the total is
    ``alpha L_verification + sum_j (beta L_privacy,j + matching L_gap,j)``; impostors count by the product of the closeness along each;
    the decoder is told each. An image without a label of an attribute takes no part in hiding that one.

    Args:
        config: the settings; None takes `CompactConfig()`.
        seed: of all weights and batches.
        device: a torch device; None takes the best there is.
        **settings: fields of `CompactConfig` that replace those of `config`.
    """

    name = "Compact"

    def __init__(
        self, config: CompactConfig | None = None, seed: int = 0, device: torch.device | None = None, **settings: float | int | str | bool
    ) -> None:
        super().__init__(seed)
        self.config, self.device = with_settings(config or CompactConfig(), settings), device
        self.encoder: CompactEncoder | None = None
        self.adversaries = nn.ModuleList()

    def _fit(self, faces: Faces, names: tuple[str, ...], folder: str | Path | None, progress: bool) -> None:
        both_labels(faces, names, 1, "there is nothing to hide")
        self._build(faces.size, len(names))
        self.history["compact"] = self._train(faces, names, folder, progress)
        if self.decoder is not None:
            self._fit_decoder(faces, names, release(self, faces), self.config, folder, progress)

    def _build(self, size: int, attributes: int = 1) -> None:
        config, device = self.config, self.device or pick_device()
        self.encoder = build(lambda: CompactEncoder(size, config.k, config.width, config.dropout), device, self.seed, "encoder")
        if config.decoder_epochs:
            self._build_decoder(size, config.k, attributes)
        kinds = config.adversaries if config.privacy != "none" else ()
        self.adversaries = nn.ModuleList(
            build(lambda kind=kind: VectorAdversary(config.k, kind), device, self.seed, "adversary", i)
            for i, kind in enumerate(kinds * attributes)  # all of the first attribute, then all of the second
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, 1, H, W) in [0, 1] to z (N, k)."""
        encoder = fitted(self, self.encoder).eval()
        check_images(images, encoder.size)
        with torch.no_grad():
            where, layout = device_of(encoder), torch.channels_last
            return torch.cat([encoder(part.to(where, torch.float32, memory_format=layout)) for part in images.split(512)])

    def warm_start(self) -> dict[str, nn.Module]:
        """The adversaries of the first attribute, each g (N, k) to logits (N,), by number and kind."""
        return {f"{i + 1} {kind}": net for i, (kind, net) in enumerate(zip(self.config.adversaries, self.adversaries, strict=False))}

    def parts(self) -> dict[str, nn.Module]:
        parts = {"encoder": self.encoder, "adversaries": self.adversaries}
        return parts if self.decoder is None else {**parts, "decoder": self.decoder}

    def describe(self) -> dict:
        return {"config": as_dict(self.config), "size": self.encoder.size}

    @classmethod
    def restore(cls, state: dict, base: Anonymizer | None, device: torch.device | None) -> Compact:
        made = cls(from_record(CompactConfig, state["config"]), state["seed"], device)
        made._build(state["size"], max(1, len(as_names(state["attribute"]))))
        return made

    def _train(self, faces: Faces, names: tuple[str, ...], folder: str | Path | None, progress: bool) -> History:
        """The stage "compact": see `CompactConfig` for the loss. At the end the encoder holds the running mean of its weights."""
        encoder, adversaries, config, seed = self.encoder, self.adversaries, self.config, self.seed
        device = device_of(encoder)
        data, table = FaceBatches(faces, device), labels_on(faces, names, device)
        batch = min(config.batch_size, len(data))
        fused = device.type in ("cpu", "cuda") or None
        optimizer = torch.optim.AdamW(encoder.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=fused)
        optimizers = {"adamw": optimizer}
        optimizers |= {f"adversary{i}": adam(a.parameters(), config.adversary_learning_rate, device) for i, a in enumerate(adversaries)}
        average, memory = copy.deepcopy(encoder), Memory(MEMORY * 2 * batch, config.k, len(names)).to(device)
        modules = {"encoder": encoder, "average": average, "adversaries": adversaries, "memory": memory}
        epochs = max(config.epochs, -(-config.min_steps // max(1, len(data) // batch)))
        attribute = as_attribute(names)
        stage = stage_of("compact", modules, optimizers, data, config, seed, folder, progress, epochs=epochs, attribute=attribute)
        total = stage.epochs * stage.steps_per_epoch
        partners, identity = Partners(faces.identity), torch.from_numpy(faces.identity).to(device)
        quantile = torch.zeros_like(table)
        if config.impostors == "matched":
            scores = [AttributeScore().fit(with_attribute(faces, name), seed).train_quantiles for name in names]
            quantile = torch.from_numpy(np.stack(scores, axis=1).astype(np.float32)).to(device)
        each = len(adversaries) // len(names)  # adversaries of one attribute

        for step in stage:
            encoder.train()
            rng = stage.generator("batch", step)
            rows = stage.rows(step)
            rows = np.concatenate([rows, partners(rows, rng)])  # (2B,)
            images, labels = data.images(rows), table[rows]
            if config.augment:
                images = augment(images, rng)
            optimizer.param_groups[0]["lr"] = config.learning_rate * one_cycle(step / total)
            with seeded(seed, "compact", step), autocast(device):  # dropout
                z = encoder(images)  # (2B, k)

            task = privacy = answer = gap = torch.zeros((), device=device)
            if config.alpha:
                alike = closeness(config.impostors, labels, quantile[rows])
                task = verification_loss(z, identity[rows], alike, config.temperature)
            if len(adversaries):
                memory.add(z, labels)
                if config.renew_every and step and step % config.renew_every == 0:
                    for first in range(0, len(adversaries), each):  # one of each attribute's
                        number = first + (step // config.renew_every - 1) % each
                        _renew(adversaries[number], optimizers[f"adversary{number}"], memory, rng, first // each, seed, number, step)
                for _ in range(config.adversary_steps):
                    for number, adversary in enumerate(adversaries):
                        _teach(adversary, optimizers[f"adversary{number}"], memory, rng, number // each)
                answers = [adversary(z) for adversary in adversaries]
                privacy = -_per_attribute(lambda answer, label: privacy_gain(answer, label, "maxent"), answers, labels)
                answer = _per_attribute(lambda answer, label: adversary_loss(answer.detach(), label), answers, labels) / len(names)
            if config.matching:
                gap = sum(distribution_gap(z, label) for label in labels.unbind(1))
            loss = config.alpha * task + config.beta * privacy + config.matching * gap
            descend(loss, optimizer)
            _follow(average, encoder, min(config.average, (1 + step) / (10 + step)))
            stage.log(total=loss, verification=task, adversary=answer, gap=gap)
        encoder.load_state_dict(average.state_dict())
        return stage.history


def _per_attribute(loss: Callable[[Tensor, Tensor], Tensor], answers: list[Tensor], labels: Tensor) -> Tensor:
    """The sum over attributes, the columns of labels (B, m), of the mean loss of each one's adversaries, which answer in that order."""
    each = len(answers) // labels.shape[1]
    parts = [answers[i : i + each] for i in range(0, len(answers), each)]
    return sum(torch.stack([loss(answer, label) for answer in part]).mean() for part, label in zip(parts, labels.unbind(1), strict=True))


def labels_on(faces: Faces, names: tuple[str, ...], device: torch.device) -> Tensor:
    """Labels 1, 0 and -1 (unknown) of m attributes as float32 (N, m) on `device`."""
    return torch.from_numpy(faces.label_table(names).astype(np.float32)).to(device)


def closeness(impostors: str, labels: Tensor, quantile: Tensor) -> Tensor | None:
    """How much each pair of a batch counts as impostors, (B, B): all, those with the same label, or those with a near attribute score.

    Labels and quantiles are (B, m): of several attributes all labels have to be the same (unknown is one more label), and the closeness
    is the product of those along each.
    """
    if impostors == "free":
        return None
    if impostors == "same":
        return (labels[:, None] == labels[None, :]).all(2).float()
    squares = sum((place[:, None] - place[None, :]).square() for place in quantile.unbind(1))
    return torch.exp(-squares / (2 * MATCH_WIDTH**2))


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


def distribution_gap(z: Tensor, labels: Tensor) -> Tensor:
    """Squared maximum mean discrepancy between the z of the two labels (Gretton et al. 2012), unbiased: 0 on average where they agree.

    The kernel is the mean of Gaussians 1/2, 1 and 2 times as wide as the batch's median distance. No adversary needs to find the
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
    kernel = sum(torch.exp(-squares / (2 * width**2 * median)) for width in (0.5, 1.0, 2.0)) / 3
    n = len(ones)
    within = [(part.sum() - part.diagonal().sum()) / (len(part) * (len(part) - 1)) for part in (kernel[:n, :n], kernel[n:, n:])]
    return within[0] + within[1] - 2 * kernel[:n, n:].mean()


def one_cycle(share: float) -> float:
    """The learning rate's factor after a share of the steps: up over the first tenth, then down to 0 along a cosine."""
    return min(1.0, share / 0.1 + 0.02) * 0.5 * (1 + np.cos(np.pi * share))


def _teach(adversary: nn.Module, optimizer: torch.optim.Optimizer, memory: Memory, rng: np.random.Generator, attribute: int) -> None:
    z, labels = memory.draw(ADVERSARY_BATCH, rng, attribute)
    descend(adversary_loss(adversary(z), labels), optimizer)


def _renew(
    adversary: VectorAdversary, optimizer: torch.optim.Optimizer, memory: Memory, rng: np.random.Generator, attribute: int, *seed: int
) -> None:
    """Fresh weights and a fresh optimiser for one adversary; then it learns what it can from the memory."""
    k = memory.z.shape[1]
    fresh = build(lambda: VectorAdversary(k, adversary.kind), memory.z.device, seed[0], "adversary", *seed[1:])
    adversary.load_state_dict(fresh.state_dict())
    optimizer.state.clear()
    for _ in range(RENEWAL_STEPS):
        _teach(adversary, optimizer, memory, rng, attribute)


@torch.no_grad()
def _follow(average: nn.Module, module: nn.Module, decay: float) -> None:
    """average <- decay average + (1 - decay) module, weights and batch norm's means and variances alike."""
    for mean, latest in zip(average.state_dict().values(), module.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(latest, 1 - decay)
        else:
            mean.copy_(latest)
