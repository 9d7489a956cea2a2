"""Train a network and keep the weights that a judge likes best: early stopping, written once."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn

from .choices import best


def fit_best(
    network: nn.Module, learn: Callable[[int], None], judge: Callable[[], float], rounds: int, patience: int | None = None
) -> float:
    """Train `network` for up to `rounds` rounds; it ends with the weights of the round that was judged best, the first of equals.

    Args:
        network: put into training mode before each round; the judge sets evaluation mode itself, where it needs it.
        learn: trains for round i = 0, 1, …: an epoch, or some steps.
        judge: the score on val after a round; higher is better, and the best is returned.
        rounds: at most so many, at least one.
        patience: stop after more than so many rounds without a better score; None never stops early.

    Raises:
        ValueError: no round had a score above minus infinity: all were NaN.
    """
    figures: dict[int, float] = {}
    state, since = None, 0
    for i in range(rounds):
        network.train()
        learn(i)
        score = judge()
        if score > max(figures.values(), default=-math.inf):
            since = 0
            state = {key: value.detach().clone() for key, value in network.state_dict().items()}
        else:
            since += 1
        if score > -math.inf:
            figures[i + 1] = score
        if patience is not None and since > patience:
            break
    if state is None:
        raise ValueError("no round of training had a score on val that is a number")
    network.load_state_dict(state)
    return figures[best("epoch", figures)]
