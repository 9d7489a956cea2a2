"""Many fine-tunings as one program: P points of a sweep in networks whose weights have one more axis, fed by one stream of batches.

The paper's networks are so small that on a GPU one of them leaves most of the device idle. Here every weight (…) becomes (P, …), every
batch is read once, and `torch.func.vmap` turns P convolutions into one grouped convolution. A point's loss depends on its own slice
alone, so the gradient of the sum of all losses is each point's own gradient, and Adam, which works number by number, takes each
point's own step: the mathematics is that of P separate trainings.
"""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ..anonymizers import Networks
from ..config import AdversaryConfig, FinetuneConfig, SiameseConfig, as_dict
from ..faces import Faces
from ..losses import adversary_loss, contrastive_loss, privacy_gain, reconstruction_loss, total_loss
from ..machine.device import autocast
from ..machine.files import UserError
from ..machine.stage import History, Stage
from ..training import FaceBatches, PairBatches

WEIGHTS = ("alpha", "beta", "gamma")
"""What may differ within a stack."""

WARM_STEPS = 3
"""Steps before a GPU's step is recorded as a graph: kernels are chosen, memory is taken, Adam's moments are made."""

Step = Callable[..., dict[str, Tensor]]


def finetune_stack(
    faces: Faces,
    start: Networks,
    configs: Sequence[FinetuneConfig],
    adversary_config: AdversaryConfig,
    siamese_config: SiameseConfig,
    *,
    seed: int = 0,
    folder: str | Path | None = None,
    progress: bool = True,
) -> tuple[list[Networks], History]:
    """Stage 4 (Eq. 8) for several settings at once, from the same `start`; see `training.finetune`, whose steps these are.

    All points read the batches that `training.finetune` reads with the same seed. (`AIA` names the stage of AIA\\T otherwise, which
    draws other batches; in a stack alpha = 0 reads those of its neighbours.)

    Args:
        faces: to train on (pass the train split).
        start: networks after stages 1 to 3; not changed.
        configs: P settings that differ in alpha, beta and gamma only.
        adversary_config, siamese_config: of their own stages.
        seed: of the batches.
        folder: for a checkpoint of the whole stack, from which a later call goes on.
        progress: show a progress bar.

    Returns:
        The P points' networks, and the history, means over the points.

    Raises:
        UserError: there are no settings, or they differ in something else.
    """
    config = _common(configs)
    device, count = start.device, len(configs)
    alternating, latent = config.adversary == "alternating", config.attach == "latent"
    task = any(own.alpha > 0 for own in configs)
    alpha, beta, gamma = (torch.tensor([getattr(own, name) for own in configs], device=device) for name in WEIGHTS)  # (P,)
    data = FaceBatches(faces, device)

    stacks = {name: _stacked(module, count) for name, module in start.modules().items()}
    for name, module in stacks.items():
        learns = alternating or name in ("encoder", "decoder")
        module.train(learns).requires_grad_(learns)
    encoder, decoder, siamese = (_forward(stacks[name]) for name in ("encoder", "decoder", "siamese"))
    adversary, settled_adversary = _forward(stacks["adversary"]), _forward(stacks["adversary"], settled=True)

    learners = [{"params": [*stacks["encoder"].parameters(), *stacks["decoder"].parameters()], "lr": config.learning_rate}]
    if alternating and task:
        learners.append({"params": [*stacks["siamese"].parameters()], "lr": siamese_config.learning_rate})
    optimizer = _adam(learners, device)
    adversary_optimizer = _adam([{"params": [*stacks["adversary"].parameters()], "lr": adversary_config.learning_rate}], device)
    settings = {"data": faces.source, "faces": faces.fingerprint[:16], "attribute": faces.attribute, "margin": siamese_config.margin}
    settings |= {"stack": [as_dict(own) for own in configs], "rates": [adversary_config.learning_rate, siamese_config.learning_rate]}
    # Named as in AIA.fit: the name seeds the batches.
    stage = Stage(
        "finetune",
        stacks,
        {"adam": optimizer, "adversary": adversary_optimizer},
        images=len(data),
        batch_size=2 * config.batch_size,
        epochs=config.epochs,
        seed=seed,
        settings=settings,
        folder=folder,
        progress=progress,
    )
    draw = PairBatches(faces, stage, stage.batch_size // 2, siamese_config.impostors)

    def step(images: Tensor, labels: Tensor, different: Tensor, *more: Tensor) -> dict[str, Tensor]:
        """One step of all points on one batch; `more` are images and labels of further adversary steps, in turn."""
        with autocast(device):
            g = encoder(images, None)  # (P, 2B, k)
            logits = decoder(g)  # (P, 2B, 1, H, W)
        logits = logits.float()
        seen = g.float() if latent else torch.sigmoid(logits)
        if alternating:
            for extra in range(config.adversary_steps):
                if extra == 0:
                    target, target_labels = seen.detach(), labels
                else:
                    extra_images, target_labels = more[2 * extra - 2], more[2 * extra - 1]
                    with torch.no_grad(), autocast(device):
                        target = encoder(extra_images, None)
                        target = target if latent else torch.sigmoid(decoder(target).float())
                    target = target.float()
                with autocast(device):
                    answer = adversary(target)  # (P, 2B)
                loss = vmap(adversary_loss, (0, None))(answer.float(), target_labels)  # (P,)
                adversary_optimizer.zero_grad()
                loss.sum().backward()
                adversary_optimizer.step()

        reconstruction = vmap(reconstruction_loss, (0, None))(logits, images)  # (P,)
        with autocast(device):
            answer = settled_adversary(seen)  # (P, 2B)
        answer = answer.float()
        gain = vmap(lambda own: privacy_gain(own, labels, config.adversary_loss))(answer)  # (P,)
        match = torch.zeros(count, device=device)
        if task:
            with autocast(device):
                z = siamese(seen)  # (P, 2B, 128)
            z_a, z_b = z.float().chunk(2, dim=1)  # (P, B, 128) each
            match = vmap(lambda a, b: contrastive_loss(a, b, different, siamese_config.margin))(z_a, z_b)  # (P,)
        loss = total_loss(reconstruction, match, gain, alpha, beta, gamma)  # (P,)
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
        with torch.no_grad():
            found = vmap(adversary_loss, (0, None))(answer, labels)
        parts = {"total": loss, "reconstruction": reconstruction, "siamese": match, "adversary": found}
        return {name: value.detach().mean() for name, value in parts.items()}

    run: Step = _Recorded(step) if device.type == "cuda" else step
    for number in stage:
        a, b, different = draw(number)
        rows = np.concatenate([a, b])
        inputs = [data.images(rows), data.labels[rows], torch.from_numpy(different).to(device)]
        for extra in range(1, config.adversary_steps if alternating else 1):
            other = stage.generator("adversary", number, extra).integers(len(data), size=len(rows))
            inputs += [data.images(other), data.labels[other]]
        stage.log(**run(*inputs))
    return [_slice(start, stacks, index) for index in range(count)], stage.history


def _common(configs: Sequence[FinetuneConfig]) -> FinetuneConfig:
    """The settings that all points share; UserError where they differ in more than the weights of Eq. 8."""
    if not configs:
        raise UserError("There is no setting to fine-tune.")
    for own in configs[1:]:
        for field in dataclasses.fields(own):
            first, other = getattr(configs[0], field.name), getattr(own, field.name)
            if field.name not in WEIGHTS and first != other:
                raise UserError(
                    f"Points that are trained together must share {field.name}; it is {first!r} for one and {other!r} for another."
                )
    return configs[0]


def _stacked(module: nn.Module, count: int) -> nn.Module:
    """A copy of `module` in which every weight and buffer (…) has become (count, …)."""
    module = copy.deepcopy(module)
    for part in module.modules():
        for held in (part._parameters, part._buffers):
            for name, value in held.items():
                if value is not None:
                    copies = value.detach().contiguous().expand(count, *value.shape).clone()
                    held[name] = nn.Parameter(copies) if isinstance(value, nn.Parameter) else copies
    return module


def _forward(module: nn.Module, settled: bool = False) -> Callable[..., Tensor]:
    """The stacked module as a function of inputs (P, N, …), or, with `axis` None, of inputs (N, …) that all points read.

    `settled`: no gradients for its weights, which the encoder's step has no use for.
    """

    def forward(inputs: Tensor, axis: int | None = 0) -> Tensor:
        state = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        if settled:
            state = {name: value.detach() for name, value in state.items()}
        return vmap(lambda own, x: functional_call(module, own, (x,)), (0, axis))(state, inputs)

    return forward


def _slice(start: Networks, stacks: dict[str, nn.Module], index: int) -> Networks:
    """The networks of one point."""
    nets = copy.deepcopy(start)
    for name, module in nets.modules().items():
        module.load_state_dict({key: value[index] for key, value in stacks[name].state_dict().items()})
        module.requires_grad_(True).eval()
    return nets


def _adam(groups: list[dict], device: torch.device) -> torch.optim.Adam:
    """Adam as `training.adam` makes it; on CUDA with its count of steps on the device, so that a graph can hold it."""
    cuda = device.type == "cuda"
    return torch.optim.Adam(groups, fused=cuda or device.type == "cpu" or None, capturable=cuda)


class _Recorded:
    """A step as one CUDA graph: after `WARM_STEPS` that run as they are it is recorded, and from then on replayed.

    A step of small networks is hundreds of kernels of microseconds; to launch them one by one takes longer than to run them.
    """

    def __init__(self, step: Step) -> None:
        self.step, self.steps, self.graph, self.possible = step, 0, None, True

    def __call__(self, *inputs: Tensor) -> dict[str, Tensor]:
        self.steps += 1
        if not self.possible:
            return self.step(*inputs)
        if self.steps <= WARM_STEPS:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                outputs = self.step(*inputs)
            torch.cuda.current_stream().wait_stream(side)
            return outputs
        if self.graph is None:
            self.inputs, graph = [given.clone() for given in inputs], torch.cuda.CUDAGraph()
            try:
                with torch.cuda.graph(graph):
                    self.outputs = self.step(*self.inputs)
            except RuntimeError as error:  # recording does nothing, so nothing is lost but speed
                warnings.warn(f"the step cannot be recorded as a CUDA graph and runs kernel by kernel: {error}", stacklevel=2)
                self.possible = False
                return self.step(*inputs)
            self.graph = graph
        for own, given in zip(self.inputs, inputs, strict=True):
            own.copy_(given)
        self.graph.replay()
        return self.outputs
