"""What is chosen is the best candidate, and a log says among which it was chosen."""

from __future__ import annotations

import math

import numpy as np
from torch import nn

from aia_lib.machine.choices import best, choosing, logged
from aia_lib.machine.fit_best import fit_best


def test_the_best_candidate_is_chosen_and_logged_with_the_others():
    assert best("k", {1: 0.5, 3: 0.7}) == 3, "without a log, too"
    with logged() as log:
        with choosing("knn"), choosing("pairs"):
            assert best("k", {1: 0.5, 3: np.float32(0.75), 5: 0.75}) == 3, "the first of equals"
        with logged() as inner:
            best("C", {0.1: 0.9})
        best("attacker", {"mlp": 0.6})
    best("k", {1: 0.5})
    assert log == [
        {"choice": "knn: pairs: k", "chosen": "3", "candidates": {"1": 0.5, "3": 0.75, "5": 0.75}},
        {"choice": "attacker", "chosen": "mlp", "candidates": {"mlp": 0.6}},
    ]
    assert [entry["choice"] for entry in inner] == ["C"]


def test_the_epoch_that_is_kept_is_logged():
    scores = [0.2, math.nan, 0.9, 0.5, 0.9]
    with logged() as log:
        fit_best(nn.Linear(1, 1), lambda i: None, iter(scores).__next__, len(scores))
    assert log == [{"choice": "epoch", "chosen": "3", "candidates": {"1": 0.2, "3": 0.9, "4": 0.5, "5": 0.9}}]
