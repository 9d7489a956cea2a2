"""A compact representation: k numbers that verify a face and are trained not to tell the attribute.

AIA's three parts are here, each in another form: a decoder (which may be told the attribute), adversaries (several kinds, renewed in
turn), and verification (a contrastive loss over the whole batch, whose impostors look alike as far as the attribute goes).
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import as_dict
from ..faces import Faces, with_attribute
from ..losses import adversary_loss, privacy_gain, reconstruction_loss
from ..machine.device import adam, autocast, build, pick_device, seeded
from ..machine.files import UserError
from ..machine.stage import History, Stage, save_parts
from ..training import FaceBatches, stage_settings
from .labels import as_attribute, labels_of, private, release, unlabelled
from .networks import CompactEncoder, ConditionalDecoder, VectorAdversary
from .objectives import distribution_gap, gradient_reversal, verification_loss
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


def augment(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Images (N, 1, H, W) in [0, 1], each mirrored (every second), moved, turned, scaled, lit from a side, noisy, a patch of it hidden.

    What stays is what two photographs of one person share. Sizes are relative to the image: 3 % moves, 5 degrees, 5 % scale.
    """
    n, _, height, width = images.shape

    def draw(scale: float, *shape: int) -> Tensor:
        return torch.from_numpy(rng.normal(0, scale, (n, *shape)).astype(np.float32)).to(images.device)

    angle, scale = draw(np.radians(5)), draw(0.05).exp()
    flip = torch.from_numpy(np.where(rng.random(n) < 0.5, -1.0, 1.0).astype(np.float32)).to(images.device)
    move = draw(0.06, 2)
    rows = [
        torch.stack([flip * scale * angle.cos(), -scale * angle.sin(), move[:, 0]], dim=1),
        torch.stack([flip * scale * angle.sin(), scale * angle.cos(), move[:, 1]], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), [n, 1, height, width], align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    slope = draw(0.12, 2)[:, :, None, None]
    light = 1 + slope[:, :1] * x.to(images.device) + slope[:, 1:] * y.to(images.device)  # (N, 1, H, W)
    noisy = moved * light + draw(1.0, 1, height, width) * torch.from_numpy(rng.uniform(0, 0.04, (n, 1, 1, 1)).astype(np.float32)).to(
        images.device
    )
    centre = torch.from_numpy(rng.uniform(-1, 1, (n, 2, 1, 1)).astype(np.float32)).to(images.device)
    half = torch.from_numpy(np.where(rng.random(n) < 0.5, rng.uniform(0.1, 0.3, n), 0.0).astype(np.float32)).to(images.device)[
        :, None, None
    ]
    hidden = ((x.to(images.device) - centre[:, 0]).abs() < half) & ((y.to(images.device) - centre[:, 1]).abs() < half)  # (N, H, W)
    noisy = torch.where(hidden[:, None], moved.mean((2, 3), keepdim=True), noisy)
    return noisy.clamp(0, 1).contiguous(memory_format=torch.channels_last)


class Partners:
    """For each image another one of the same person, or itself where there is no other."""

    def __init__(self, identity: np.ndarray) -> None:
        self.order = np.argsort(identity, kind="stable")
        _, start, count = np.unique(identity[self.order], return_index=True, return_counts=True)
        person = np.empty(len(identity), dtype=np.int64)
        person[self.order] = np.repeat(np.arange(len(count)), count)
        self.start, self.count = start[person], count[person]  # of each row's person
        self.place = np.empty(len(identity), dtype=np.int64)
        self.place[self.order] = np.arange(len(identity))

    def __call__(self, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        start, count = self.start[rows], self.count[rows]
        step = 1 + (rng.random(len(rows)) * (count - 1)).astype(np.int64)  # 1 .. count - 1; 1 where there is one image
        return self.order[start + (self.place[rows] - start + step) % count]


class Memory(nn.Module):
    """The latest representations and their labels, so that adversaries learn from more than the batch without another pass of the encoder.

    Buffers, so that a checkpoint holds them.
    """

    def __init__(self, rows: int, k: int, attributes: int = 1) -> None:
        super().__init__()
        self.register_buffer("z", torch.zeros(rows, k))
        self.register_buffer("labels", torch.full((rows,) if attributes == 1 else (rows, attributes), -1.0))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def add(self, z: Tensor, labels: Tensor) -> None:
        """Put z (B, k) with labels (B,), or (B, m) of several attributes, in the place of the oldest."""
        rows = (int(self.seen) + torch.arange(len(z), device=z.device)) % len(self.z)
        self.z[rows], self.labels[rows] = z.detach().float(), labels
        self.seen += len(z)

    def draw(self, count: int, rng: np.random.Generator, attribute: int = 0) -> tuple[Tensor, Tensor]:
        """`count` remembered rows, as many of one label as of the other (so that an adversary gains nothing from the frequencies).

        With the labels (count,) of the attribute of that number; rows without one do not come.
        """
        own = columns(self.labels)[attribute]
        labels = own.cpu().numpy()
        known = [np.flatnonzero(labels == value) for value in (0, 1)]
        halves = [rng.choice(rows, count // 2) for rows in known if len(rows)]
        rows = torch.from_numpy(np.concatenate(halves) if halves else np.zeros(0, dtype=np.int64)).to(self.z.device)
        return self.z[rows], own[rows]


class Compact:
    """A compact representation, k numbers an image, trained to verify and not to tell the attribute.

    By its settings it is several of the field's methods: maximum-entropy adversaries (Roy & Boddeti 2019) in an ensemble that is
    renewed, gradient reversal (Ganin & Lempitsky 2015: `privacy="reversal"`), a conditional decoder without any adversary (Moyer et al.
    2018: `privacy="none", matching=0, gamma=1, kl=0.1`), or no privacy at all (`privacy="none", matching=0, impostors="free"`).

    `fit` takes one attribute or several. Of several, each has adversaries of its own, and the losses add up: the total is
    ``alpha L_verification + sum_j (beta L_privacy,j + matching L_gap,j) + gamma L_AE``; impostors count by the product of the closeness
    along each; the decoder is told each. An image without a label of an attribute takes no part in hiding that one; `missing` says how
    many there were.

    Args:
        config: the settings; None takes `CompactConfig()`.
        seed: of all weights and batches.
        device: a torch device; None takes the best there is.
        **settings: fields of `CompactConfig` that replace those of `config`.
    """

    def __init__(
        self, config: CompactConfig | None = None, seed: int = 0, device: torch.device | None = None, **settings: float | int | str | bool
    ) -> None:
        self.config, self.seed, self.device = with_settings(config or CompactConfig(), settings), seed, device
        self.encoder: CompactEncoder | None = None
        self.decoder: ConditionalDecoder | None = None
        self.adversaries = nn.ModuleList()
        self.attribute: str | tuple[str, ...] | None = None
        self.missing: dict[str, int] = {}
        self.history: dict[str, History] = {}

    name = "Compact"
    several_attributes = True

    def fit(
        self,
        faces: Faces,
        attribute: str | Sequence[str] | None = None,
        *,
        folder: str | Path | None = None,
        progress: bool = True,
    ) -> Compact:
        """Train on all of `faces` (pass the train split), with checkpoints in `folder` that a later call resumes from."""
        faces, names = private(faces, attribute)
        for name in names:
            two_labels(with_attribute(faces, name))
        self._build(faces.size, len(names))
        self.history["compact"] = _train(
            faces, names, self.encoder, self.decoder, self.adversaries, self.config, self.seed, folder, progress
        )
        self.attribute, self.missing = as_attribute(names), unlabelled(faces, names)
        if self.config.decoder_epochs:
            self.history["decoder"] = train_decoder(
                faces, self.decoder, release(self, faces), self.config, names, seed=self.seed, folder=folder, progress=progress
            )
        return self

    def _build(self, size: int, attributes: int = 1) -> None:
        config, device = self.config, self.device or pick_device()
        self.encoder = build(
            lambda: CompactEncoder(size, config.k, config.width, config.dropout, config.mirror, config.kl == 0),
            device,
            self.seed,
            "encoder",
        )
        if config.decoder_epochs or config.gamma:
            self.decoder = build(
                lambda: ConditionalDecoder(size, config.k, int(config.conditional) * attributes), device, self.seed, "decoder"
            )
        kinds = config.adversaries if config.privacy != "none" else ()
        self.adversaries = nn.ModuleList(
            build(lambda kind=kind: VectorAdversary(config.k, kind), device, self.seed, "adversary", i)
            for i, kind in enumerate(kinds * attributes)  # all of the first attribute, then all of the second
        )

    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, 1, H, W) in [0, 1] to z (N, k)."""
        encoder = fitted(self, self.encoder)
        if images.ndim != 4 or tuple(images.shape[1:]) != (1, encoder.size, encoder.size):
            raise UserError(
                f"This anonymizer was made for images of shape (N, 1, {encoder.size}, {encoder.size}), not {tuple(images.shape)}; "
                f"load the faces with size={encoder.size}."
            )
        encoder.eval()
        with torch.no_grad():
            where = encoder.head.weight.device
            return torch.cat([encoder(part.to(where, torch.float32, memory_format=torch.channels_last)) for part in images.split(512)])

    @property
    def decode(self):
        """decode(z, condition=None): z (N, k) to images (N, 1, H, W) in [0, 1].

        The condition, (N,) or (N, m) for several attributes, is 1, -1, or 0 for "not told".
        """
        if self.decoder is None or not self.config.decoder_epochs:
            raise AttributeError("this anonymizer has no decoder: decoder_epochs is 0")
        return lambda z, condition=None: decode_with(self.decoder, z, condition)

    def save(self, folder: str | Path) -> None:
        """Write `anonymizer.json` and the weights (safetensors) into `folder`, atomically."""
        save_parts(self, folder)

    def parts(self) -> dict[str, nn.Module]:
        """What is saved, by name."""
        fitted(self, self.encoder)
        parts = {"encoder": self.encoder, "adversaries": self.adversaries}
        return parts if self.decoder is None else {**parts, "decoder": self.decoder}

    def describe(self) -> dict:
        """The arguments that make an anonymizer with parts of these shapes again."""
        return {"config": as_dict(self.config), "size": fitted(self, self.encoder).size}

    @classmethod
    def restore(cls, state: dict, device: torch.device | None) -> Compact:
        """An anonymizer as `describe` says, with fresh weights for `store.load_anonymizer` to fill."""
        made = cls(CompactConfig(**state["config"]), state["seed"], device)
        made._build(state["size"], how_many(state["attribute"]))
        return made


def _train(
    faces: Faces,
    names: tuple[str, ...],
    encoder: CompactEncoder,
    decoder: ConditionalDecoder | None,
    adversaries: nn.ModuleList,
    config: CompactConfig,
    seed: int,
    folder: str | Path | None,
    progress: bool,
) -> History:
    """The stage "compact": see `CompactConfig` for the loss. At the end the encoder holds the running mean of its weights."""
    device = encoder.head.weight.device
    data = FaceBatches(faces, device)
    table = _labels(faces, names, device)  # (N,), or (N, m)
    batch = min(config.batch_size, len(data))
    steps_per_epoch = max(1, len(data) // batch)
    epochs = max(config.epochs, -(-config.min_steps // steps_per_epoch))
    learns_decoder, reversal, maxent = config.gamma > 0, config.privacy == "reversal", config.privacy == "maxent"

    learners = [*encoder.parameters(), *(decoder.parameters() if learns_decoder else ())]
    optimizer = torch.optim.AdamW(
        learners, config.learning_rate, weight_decay=config.weight_decay, fused=device.type in ("cpu", "cuda") or None
    )
    optimizers = {"adamw": optimizer}
    optimizers |= {f"adversary{i}": adam(a.parameters(), config.adversary_learning_rate, device) for i, a in enumerate(adversaries)}
    average, memory = copy.deepcopy(encoder), Memory(MEMORY * 2 * batch, config.k, len(names)).to(device)
    modules = {"encoder": encoder, "average": average, "adversaries": adversaries, "memory": memory}
    stage = Stage(
        "compact",
        {**modules, "decoder": decoder} if learns_decoder else modules,
        optimizers,
        images=len(data),
        batch_size=batch,
        epochs=epochs,
        seed=seed,
        settings={**stage_settings(faces, config), "attribute": as_attribute(names)},
        folder=folder,
        progress=progress,
    )
    total = stage.epochs * stage.steps_per_epoch
    partners = Partners(faces.identity)
    identity = torch.from_numpy(faces.identity).to(device)
    quantile = torch.zeros_like(table)
    if config.impostors == "matched":
        scores = [AttributeScore().fit(with_attribute(faces, name), seed).train_quantiles for name in names]
        quantile = torch.from_numpy(np.stack(scores, axis=1).astype(np.float32)).to(device).reshape(table.shape)
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
        with seeded(seed, "compact", step):  # dropout
            with autocast(device):
                z = encoder(images)  # (2B, k)
        clean = z
        if config.kl:
            z = z + torch.from_numpy(rng.standard_normal(z.shape, dtype=np.float32)).to(device)

        if maxent:
            memory.add(z, labels)
            if config.renew_every and step and step % config.renew_every == 0:
                for attribute in range(len(names)):  # one of each attribute's
                    number = attribute * each + (step // config.renew_every - 1) % each
                    _renew(adversaries[number], optimizers[f"adversary{number}"], memory, rng, seed, number, step, attribute)
            for _ in range(config.adversary_steps):
                for number, adversary in enumerate(adversaries):
                    _adversary_step(adversary, optimizers[f"adversary{number}"], *memory.draw(ADVERSARY_BATCH, rng, number // each))

        zero = torch.zeros((), device=device)
        task = (
            verification_loss(z, identity[rows], closeness(config.impostors, labels, quantile[rows]), config.temperature)
            if config.alpha
            else zero
        )
        privacy = answer = zero
        if maxent:
            answers = [adversary(z) for adversary in adversaries]
            privacy = -_per_attribute(lambda a, own: privacy_gain(a, own, "maxent"), answers, labels)
        elif reversal:  # its own minus lets the adversaries fall while the encoder climbs; beta is the weight of the climb
            answers = [adversary(gradient_reversal(z, config.beta)) for adversary in adversaries]
            privacy = _per_attribute(adversary_loss, answers, labels)
        if maxent or reversal:
            answer = _per_attribute(lambda a, own: adversary_loss(a.detach(), own), answers, labels) / len(names)
        gap = sum(distribution_gap(z, own) for own in columns(labels)) if config.matching else zero
        rebuilt = zero
        if learns_decoder:
            with autocast(device):
                logits = decoder(z, conditions(labels))
            rebuilt = reconstruction_loss(logits.float(), images)
        spread = 0.5 * clean.square().sum(1).mean() if config.kl else zero
        weight = 1.0 if reversal else config.beta
        loss = config.alpha * task + weight * privacy + config.matching * gap + config.gamma * rebuilt + config.kl * spread
        for own in optimizers.values():
            own.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if reversal:
            for number in range(len(adversaries)):
                optimizers[f"adversary{number}"].step()
        _follow(average, encoder, min(config.average, (1 + step) / (10 + step)) if config.average else 0.0)
        stage.log(total=loss, verification=task, adversary=answer, gap=gap, reconstruction=rebuilt)
    encoder.load_state_dict(average.state_dict())
    encoder.eval()
    return stage.history


def _per_attribute(loss: Callable[[Tensor, Tensor], Tensor], answers: list[Tensor], labels: Tensor) -> Tensor:
    """The sum over attributes of the mean loss of the attribute's own adversaries, whose answers come one attribute after another."""
    own = columns(labels)
    each = len(answers) // len(own)
    return sum(torch.stack([loss(a, column) for a in answers[i * each : (i + 1) * each]]).mean() for i, column in enumerate(own))


def columns(table: Tensor) -> list[Tensor]:
    """What is known of each attribute, (N,), of a table (N,) for one attribute or (N, m) for several."""
    return [table] if table.ndim == 1 else list(table.unbind(1))


def how_many(attribute: str | Sequence[str] | None) -> int:
    """Attributes that a saved anonymizer hides."""
    return 1 if attribute is None or isinstance(attribute, str) else len(attribute)


def _labels(faces: Faces, names: tuple[str, ...], device: torch.device) -> Tensor:
    """Labels 1, 0 and -1 (unknown) as float32 (N,), or (N, m) for several attributes."""
    return torch.from_numpy(labels_of(faces, names).astype(np.float32)).to(device)


def closeness(impostors: str, labels: Tensor, quantile: Tensor) -> Tensor | None:
    """How much each pair of a batch counts as impostors, (B, B): all, those with the same label, or those with a near attribute score.

    Of several attributes, labels and quantiles are (B, m): all labels have to be the same (unknown is a label of its own), and the
    closeness is the product of those along each attribute.
    """
    if impostors == "free":
        return None
    if impostors == "same":
        return torch.stack([own[:, None] == own[None, :] for own in columns(labels)]).all(0).float()
    squares = sum((own[:, None] - own[None, :]).square() for own in columns(quantile))
    return torch.exp(-squares / (2 * MATCH_WIDTH**2))


def conditions(labels: Tensor) -> Tensor:
    """Labels 1, 0 and -1 (unknown) as the decoder is told them: 1, -1 and 0."""
    return torch.where(labels < 0, 0.0, 2 * labels - 1)


def one_cycle(share: float) -> float:
    """The learning rate's factor after a share of the steps: up over the first tenth, then down to 0 along a cosine."""
    return min(1.0, share / 0.1 + 0.02) * 0.5 * (1 + np.cos(np.pi * share))


def _adversary_step(adversary: nn.Module, optimizer: torch.optim.Optimizer, z: Tensor, labels: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    adversary_loss(adversary(z), labels).backward()
    optimizer.step()


def _renew(
    adversary: VectorAdversary,
    optimizer: torch.optim.Optimizer,
    memory: Memory,
    rng: np.random.Generator,
    seed: int,
    number: int,
    step: int,
    attribute: int = 0,
) -> None:
    """Fresh weights and a fresh optimiser for one adversary; then it learns what it can from the memory."""
    k = memory.z.shape[1]
    fresh = build(lambda: VectorAdversary(k, adversary.kind), memory.z.device, seed, "adversary", number, step)
    adversary.load_state_dict(fresh.state_dict())
    optimizer.state.clear()
    for _ in range(RENEWAL_STEPS):
        _adversary_step(adversary, optimizer, *memory.draw(ADVERSARY_BATCH, rng, attribute))


@torch.no_grad()
def _follow(average: nn.Module, module: nn.Module, decay: float) -> None:
    """average <- decay average + (1 - decay) module, weights and batch norm's means and variances alike."""
    for mine, theirs in zip(average.state_dict().values(), module.state_dict().values(), strict=True):
        if mine.is_floating_point():
            mine.lerp_(theirs, 1 - decay)
        else:
            mine.copy_(theirs)


def train_decoder(
    faces: Faces,
    decoder: ConditionalDecoder,
    g: Tensor,
    config: CompactConfig,
    attributes: tuple[str, ...] = (),
    *,
    seed: int = 0,
    folder: str | Path | None = None,
    name: str = "decoder",
    progress: bool = True,
) -> History:
    """The decoder learns from finished representations g (N, k) of `faces`; these do not move. It is told `attributes`, or their own."""
    device = next(decoder.parameters()).device
    data = FaceBatches(faces, device)
    names = attributes or (faces.attribute,)
    table = _labels(faces, names, device)
    g = g.to(device)
    optimizer = adam(decoder.parameters(), 2e-3, device)
    stage = Stage(
        name,
        {"decoder": decoder},
        {"adam": optimizer},
        images=len(data),
        batch_size=config.batch_size,
        epochs=config.decoder_epochs,
        seed=seed,
        settings={**stage_settings(faces, config), "attribute": as_attribute(names), "g": f"{float(g.double().abs().sum()):.6g}"},
        folder=folder,
        progress=progress,
    )
    decoder.train()
    for step in stage:
        rows = stage.rows(step)
        images = data.images(rows)
        with autocast(device):
            logits = decoder(g[rows], conditions(table[rows]))
        loss = reconstruction_loss(logits.float(), images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        stage.log(reconstruction=loss)
    return stage.history


def decode_with(decoder: ConditionalDecoder, g: Tensor, condition: Tensor | None = None) -> Tensor:
    """g (N, k) to images (N, 1, H, W) in [0, 1], without gradients and in float32."""
    device = next(decoder.parameters()).device
    decoder.eval()
    with torch.no_grad():
        return torch.sigmoid(decoder(g.to(device), None if condition is None else condition.to(device)))


def fitted(anonymizer: object, part: object) -> object:
    """`part`, which fit or load made. UserError where neither has happened."""
    if part is None:
        raise UserError(f"This {type(anonymizer).__name__} has not been trained: call fit(faces) first, or load_anonymizer(folder).")
    return part


def two_labels(faces: Faces) -> None:
    """UserError where the private attribute does not take both its values."""
    labels = faces.labels()
    for value in (0, 1):
        if not (labels == value).any():
            raise UserError(
                f"No image of {faces.source} has {faces.attribute!r} = {value}: there is nothing to hide. "
                "Choose another attribute, or load more people."
            )


def with_settings(config: CompactConfig, settings: dict) -> CompactConfig:
    """`config` with `settings` in the place of its own. UserError where one has no such name."""
    try:
        return dataclasses.replace(config, **settings)
    except TypeError as error:
        fields = ", ".join(field.name for field in dataclasses.fields(config))
        raise UserError(f"{type(config).__name__} has no setting of that name ({error}); its settings are {fields}.") from error
