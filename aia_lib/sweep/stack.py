"""Many fine-tunings as one program: P points of a sweep in networks whose weights have one more axis, fed by one stream of batches.

The paper's networks are so small that on a GPU one of them leaves most of the device idle. Here every weight (…) becomes (P, …), every
batch is read once, and `torch.func.vmap` turns P convolutions into one grouped convolution. A point's loss depends on its own slice
alone, so the gradient of the sum of all losses is each point's own gradient, and Adam, which works number by number, takes each
point's own step: the mathematics is that of P separate trainings.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ..anonymizers import Networks
from ..config import AdversaryConfig, FinetuneConfig, SiameseConfig, as_dict
from ..faces import Faces
from ..machine.files import UserError
from ..machine.stage import History
from ..training import FinetuneStep, finetune

WEIGHTS = ("alpha", "beta", "gamma")
"""What may differ within a stack."""


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
    """Stage 4 (Eq. 8) for several settings at once, from the same `start`, by the loop and the step of `training.finetune`.

    All points read the batches that `training.finetune` reads with the same seed. (`AIA` names the stage of AIA\\T otherwise, which
    draws other batches; in a stack alpha = 0 reads those of its neighbours.)

    Args:
        faces: to train on (pass the train split).
        start: networks after stages 1 to 3; not changed.
        configs: P settings that differ in alpha, beta and gamma only.
        adversary_config, siamese_config: of their stages.
        seed: of the batches.
        folder: for a checkpoint of the whole stack, from which a later call goes on.
        progress: show a progress bar.

    Returns:
        The P points' networks, and the history, means over the points.

    Raises:
        UserError: there are no settings, or they differ in something else.
    """
    if not configs:
        raise UserError("There is no setting to fine-tune.")
    for field in dataclasses.fields(FinetuneConfig):
        first, *others = dict.fromkeys(getattr(config, field.name) for config in configs)
        if others and field.name not in WEIGHTS:
            raise UserError(
                f"Points that are trained together must share {field.name}; it is {first!r} for one and {others[0]!r} for another."
            )
    stacks = {name: Stacked(module, len(configs), per_point=name != "encoder") for name, module in start.modules().items()}
    take = StackedStep(stacks.values(), configs, adversary_config, siamese_config)
    settings = configs[0], adversary_config, siamese_config
    history = finetune(faces, *stacks.values(), *settings, seed=seed, folder=folder, progress=progress, take=take)
    points = [copy.deepcopy(start) for _ in configs]
    for index, networks in enumerate(points):
        for name, module in networks.modules().items():
            module.load_state_dict({key: value[index] for key, value in stacks[name].module.state_dict().items()})
            module.requires_grad_(True).eval()
    return points, history


class Stacked(nn.Module):
    """P copies of a module as one: every weight and buffer (…) is (P, …).

    Args:
        module: what is copied.
        count: P.
        per_point: each copy reads inputs of its own, (P, N, …); else all read the same ones (N, …).
    """

    def __init__(self, module: nn.Module, count: int, per_point: bool) -> None:
        super().__init__()
        self.module, self.per_point = copy.deepcopy(module), per_point
        for part in self.module.modules():
            for tensors in (part._parameters, part._buffers):
                for name, value in tensors.items():
                    if value is not None:
                        copies = value.detach().contiguous().expand(count, *value.shape).clone()
                        tensors[name] = nn.Parameter(copies) if isinstance(value, nn.Parameter) else copies

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (N, …), or (P, N, …), to outputs (P, N, …)."""
        state = {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}
        return vmap(lambda weights, x: functional_call(self.module, weights, (x,)), (0, 0 if self.per_point else None))(state, inputs)


class StackedStep(FinetuneStep):
    """`training.FinetuneStep` of P settings that differ in the weights of Eq. 8, on networks that are `Stacked`."""

    def __init__(
        self,
        networks: Iterable[Stacked],
        configs: Sequence[FinetuneConfig],
        adversary_config: AdversaryConfig,
        siamese_config: SiameseConfig,
    ) -> None:
        most = max(configs, key=lambda config: config.alpha)  # the Siamese takes part where it does for one point
        super().__init__(*networks, most, adversary_config, siamese_config)
        self.weights = tuple(torch.tensor([getattr(config, name) for config in configs], device=self.device) for name in WEIGHTS)  # (P,)
        rates = [adversary_config.learning_rate, siamese_config.learning_rate]
        self.settings |= {"stack": [as_dict(config) for config in configs], "rates": rates}

    def __call__(self, *inputs: Tensor) -> dict[str, Tensor]:
        """The step of all points on one batch; returns means over the points."""
        return {name: value.detach().mean() for name, value in super().__call__(*inputs).items()}

    def each(self, loss: Callable[..., Tensor], *values: Tensor) -> Tensor:
        """The loss of each point, (P,)."""
        return vmap(loss)(*values)
