"""The weights that are kept are those of the best round, and training stops when nothing gets better."""

import math

import pytest
import torch
from torch import nn

from aia_lib.machine.fit_best import fit_best


@pytest.mark.parametrize(
    ("scores", "patience", "kept", "rounds"),
    [
        ([0.2, 0.9, 0.5, 0.9], None, 1, 4),  # the first of two equals
        ([0.5, 0.4, 0.4, 0.4, 0.9], 2, 0, 4),  # stopped before the best could come
        ([0.5, 0.4, 0.4, 0.9, 0.4], 2, 3, 5),  # the count starts again
        ([math.nan, -3.0, math.nan], None, 1, 3),
    ],
)
def test_the_best_round_is_kept(scores, patience, kept, rounds):
    network, seen = nn.Linear(1, 1).eval(), []

    def learn(i: int) -> None:
        assert network.training
        seen.append(i)
        nn.init.constant_(network.weight, float(i))

    def judge() -> float:
        network.eval()
        return scores[seen[-1]]

    assert fit_best(network, learn, judge, len(scores), patience) == scores[kept]
    assert torch.equal(network.weight, torch.full((1, 1), float(kept))) and len(seen) == rounds


def test_scores_that_are_no_numbers_keep_nothing():
    with pytest.raises(ValueError, match="no round of training"):
        fit_best(nn.Linear(1, 1), lambda i: None, lambda: math.nan, 3)
