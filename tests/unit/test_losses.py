"""The losses, each against its equation written out with loops over numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from aia_lib.losses import LOG2, adversary_loss, contrastive_loss, privacy_gain, reconstruction_floor, reconstruction_loss, total_loss

KINDS = ("literal", "capped", "maxent")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def sigmoid(t: float) -> float:
    return 1 / (1 + math.exp(-t))


def cross_entropy(target: float, answer: float) -> float:
    """H(target, answer) of one yes-or-no question, in nats."""
    return -(target * math.log(answer) + (1 - target) * math.log(1 - answer))


# --------------------------------------------------------------------------------------------------- Eq. 5: reconstruction


def test_equation_5_pixel_by_pixel():
    images, logits = rng().random((3, 1, 4, 5)), rng(1).normal(0, 2, (3, 1, 4, 5))
    costs = [cross_entropy(x, sigmoid(t)) for x, t in zip(images.ravel(), logits.ravel(), strict=True)]
    assert reconstruction_loss(torch.tensor(logits), torch.tensor(images)).item() == pytest.approx(sum(costs) / len(costs), rel=1e-12)


def test_the_target_of_equation_5_is_the_image_not_its_reconstruction():
    image, logits = torch.full((1, 1, 2, 2), 0.2, dtype=torch.float64), torch.full((1, 1, 2, 2), 1.5, dtype=torch.float64)
    assert reconstruction_loss(logits, image).item() == pytest.approx(cross_entropy(0.2, sigmoid(1.5)))
    assert reconstruction_loss(logits, image).item() != pytest.approx(cross_entropy(sigmoid(1.5), 0.2)), "x and x' exchanged, as printed"


def test_the_floor_is_the_least_that_any_reconstruction_costs():
    images = torch.tensor(rng().random((2, 1, 3, 3)))
    floor = reconstruction_floor(images)
    perfect = torch.logit(images)
    assert reconstruction_loss(perfect, images).item() == pytest.approx(floor.item(), rel=1e-12)
    for seed in range(20):  # any other prediction costs more
        other = perfect + torch.tensor(rng(seed).normal(0, 0.1, images.shape))
        assert reconstruction_loss(other, images) > floor
    black_and_white = torch.tensor([[[[0.0, 1.0]]]])
    assert reconstruction_floor(black_and_white) == 0
    assert reconstruction_floor(torch.full((1, 1, 2, 2), 0.5)).item() == pytest.approx(LOG2), "grey costs a coin, even when it is exact"


# -------------------------------------------------------------------------------------------------- Eq. 6: the adversary


def test_the_adversarys_loss_image_by_image():
    logits, labels = rng().normal(0, 3, 9), rng(1).integers(0, 2, 9)
    costs = [cross_entropy(y, sigmoid(t)) for y, t in zip(labels, logits, strict=True)]
    assert adversary_loss(torch.tensor(logits), torch.tensor(labels)).item() == pytest.approx(np.mean(costs), rel=1e-12)
    assert adversary_loss(torch.zeros(9), torch.tensor(labels)).item() == pytest.approx(LOG2), "a coin pays log 2"


@pytest.mark.parametrize("loss", [adversary_loss, *(lambda o, y, kind=kind: privacy_gain(o, y, kind) for kind in KINDS)])
def test_missing_labels_do_not_count(loss):
    logits = torch.tensor([2.0, -1.0, -0.5, 30.0, -30.0])
    labels = torch.tensor([1, 0, 0, -1, -1])
    assert loss(logits, labels).item() == pytest.approx(loss(logits[:3], labels[:3]).item(), rel=1e-6)
    moving = logits.clone().requires_grad_()
    loss(moving, labels).backward()
    assert (moving.grad[3:] == 0).all() and (moving.grad[:3] != 0).all()
    nobody = loss(logits, torch.full((5,), -1))
    assert nobody == 0, "and where nothing is known, nothing is paid"


# ----------------------------------------------------------------------------------------------- Eq. 7: the Siamese network


def test_equation_7_pair_by_pair():
    z_a, z_b, different = rng().normal(0, 0.7, (12, 5)), rng(1).normal(0, 0.7, (12, 5)), rng(2).integers(0, 2, 12)
    margin, costs = 2.5, []
    for a, b, y in zip(z_a, z_b, different, strict=True):
        d = math.sqrt(sum((p - q) ** 2 for p, q in zip(a, b, strict=True)))
        costs.append((1 - y) * 0.5 * d**2 + y * 0.5 * max(0.0, margin - d) ** 2)
    loss = contrastive_loss(torch.tensor(z_a), torch.tensor(z_b), torch.tensor(different), margin)
    assert loss.item() == pytest.approx(np.mean(costs), rel=1e-5)


def test_0_is_one_person_and_1_is_two_people():
    here, near, far = torch.zeros(1, 4), torch.full((1, 4), 0.1), torch.full((1, 4), 5.0)
    same, different = torch.zeros(1), torch.ones(1)
    assert contrastive_loss(here, near, same) < contrastive_loss(here, far, same), "one person should be near"
    assert contrastive_loss(here, near, different) > contrastive_loss(here, far, different), "two people should be far"


def test_two_people_beyond_the_margin_cost_nothing():
    here, there = torch.zeros(1, 4, requires_grad=True), torch.tensor([[3.0, 0, 0, 0]])
    beyond = contrastive_loss(here, there, torch.ones(1), margin=2.0)
    beyond.backward()
    assert beyond == 0 and (here.grad == 0).all()
    within = contrastive_loss(here, there, torch.ones(1), margin=4.0)
    assert within.item() == pytest.approx(0.5 * (4 - 3) ** 2, rel=1e-5), "the control: the margin decides"
    assert contrastive_loss(here, there, torch.zeros(1)).item() == pytest.approx(0.5 * 9, rel=1e-5), "one person always pays"


# ---------------------------------------------------------------------------------------------- Eq. 8 and what it maximises


def test_equation_8():
    terms = torch.tensor(0.7), torch.tensor(3.0), torch.tensor(0.4)
    assert total_loss(*terms, alpha=0.5, beta=0.25).item() == pytest.approx(0.7 + 0.5 * 3.0 - 0.25 * 0.4)
    assert total_loss(*terms, alpha=0.5, beta=0.25, gamma=2.0).item() == pytest.approx(2 * 0.7 + 0.5 * 3.0 - 0.25 * 0.4)
    assert total_loss(*terms, alpha=0.0, beta=0.0).item() == pytest.approx(0.7)


def push(kind: str, logit: float, label: int) -> float:
    """Where gradient ascent on the gain moves an answer; positive: towards label 1."""
    moving = torch.tensor([logit], requires_grad=True)
    privacy_gain(moving, torch.tensor([label]), kind).backward()
    return moving.grad.item()


def test_the_literal_gain_rewards_a_flipped_adversary_the_others_do_not():
    wrong_and_sure = torch.tensor([5.0, 6.0, -7.0]), torch.tensor([0, 0, 1])
    assert privacy_gain(*wrong_and_sure, "literal") > 4 > LOG2, "labels that are flipped pay more than a coin, without bound"
    assert privacy_gain(*wrong_and_sure, "capped").item() == pytest.approx(LOG2)
    assert privacy_gain(*wrong_and_sure, "maxent") < -LOG2
    for label, wrong in ((0, 1), (1, -1)):
        beyond_the_coin = 2.0 * wrong
        assert push("literal", beyond_the_coin, label) * wrong > 0, "literal: further into the wrong answer"
        assert push("capped", beyond_the_coin, label) == 0, "capped: stay"
        assert push("maxent", beyond_the_coin, label) * wrong < 0, "maxent: back to the coin"
        for kind in KINDS:
            assert push(kind, -2.0 * wrong, label) * wrong > 0, "the control: from a right answer, all move towards the coin"


def test_the_gains_write_out_their_definitions():
    logits, labels = rng().normal(0, 2, 8), rng(1).integers(0, 2, 8)
    o, y = torch.tensor(logits), torch.tensor(labels)
    costs = [cross_entropy(label, sigmoid(t)) for label, t in zip(labels, logits, strict=True)]
    coins = [cross_entropy(0.5, sigmoid(t)) for t in logits]
    assert privacy_gain(o, y, "literal").item() == pytest.approx(np.mean(costs))
    assert privacy_gain(o, y, "capped").item() == pytest.approx(np.mean([min(cost, math.log(2)) for cost in costs]))
    assert privacy_gain(o, y, "maxent").item() == pytest.approx(-np.mean(coins))
    with pytest.raises(ValueError, match="literal, capped or maxent, not 'sure'"):
        privacy_gain(o, y, "sure")


def test_the_maximum_entropy_gain_is_largest_at_the_coin():
    labels = torch.tensor([0.0, 1.0])
    gains = {t: privacy_gain(torch.full((2,), t), labels, "maxent").item() for t in np.linspace(-4, 4, 33).tolist()}
    assert max(gains, key=gains.get) == 0 and gains[0.0] == pytest.approx(-LOG2)
    literal = {t: privacy_gain(torch.tensor([t, -t]), labels, "literal").item() for t in gains}
    assert max(literal, key=literal.get) == 4.0, "the control: the literal gain is largest where the answers are surest and wrong"
