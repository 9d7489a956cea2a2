"""Grad-CAM finds evidence where it is, says how much there is, and leaves the model as it found it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from aia_lib.explain import gradcam
from aia_lib.machine.files import UserError
from aia_lib.models import CNNAdversary, Encoder

SIZE = 32


def blobs(count: int, seed: int, coded_by_place: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise images (N, 1, 32, 32) with a bright blob in the upper left quarter where the label is 1.

    Where it is 0 there is none, or, `coded_by_place`, one in the lower right quarter.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    y, x = np.mgrid[:SIZE, :SIZE]
    images = rng.uniform(0.3, 0.5, (count, 1, SIZE, SIZE))
    for i, label in enumerate(labels):
        if label or coded_by_place:
            centre = (8 if label else 24) + rng.integers(-1, 2, 2)
            images[i, 0] += 0.5 * np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / 12)
    return torch.tensor(images, dtype=torch.float32), torch.tensor(labels, dtype=torch.float32)


class Averaging(nn.Module):
    """A small classifier that averages its last map: what Grad-CAM was made for."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.output = nn.Conv2d(1, 8, 5, padding=2), nn.Conv2d(8, 8, 5, padding=2), nn.Linear(8, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        h = nn.functional.max_pool2d(self.conv1(images - 0.4).relu(), 2)
        return self.output(self.conv2(h).relu().sum((2, 3)))  # (N, 1); a sum is an average with larger weights


def train(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, rate: float = 1e-3) -> nn.Module:
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for _ in range(150):
        loss = nn.functional.binary_cross_entropy_with_logits(model(images).flatten(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.03:  # sure enough; training on would only blow up the logits
            return model
    raise AssertionError(f"the toy classifier did not learn: loss {loss:.3f}")


@pytest.fixture(scope="module")
def trained() -> CNNAdversary:
    torch.manual_seed(0)
    return train(CNNAdversary((1, SIZE, SIZE)), *blobs(64, seed=0))


def evidence_share(maps: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The share of the evidence in each map (N, H, W) that lies where mask (H, W) is true, (N,)."""
    return (maps * mask).sum((1, 2)) / maps.sum((1, 2))


UPPER_LEFT = np.zeros((SIZE, SIZE), bool)
UPPER_LEFT[: SIZE // 2, : SIZE // 2] = True


def test_gradcam_finds_the_evidence_of_an_averaging_classifier() -> None:
    torch.manual_seed(0)
    model = train(Averaging(), *blobs(64, seed=0), rate=3e-3)
    images, labels = blobs(16, seed=1)
    result = gradcam(model, images)  # the label that the model chose
    assert ((result.logit > 0) == (labels.numpy() == 1)).all()
    share = evidence_share(result.raw[labels == 1], UPPER_LEFT)
    assert share.mean() > 0.6, share  # it has a quarter of the area


@pytest.mark.parametrize("coded_by_place", [False, True])
def test_hirescam_finds_the_evidence_of_the_adversary(coded_by_place: bool) -> None:
    """The truth: the blob in one quarter is all that speaks for label 1. The usual map, Grad-CAM of the last layer, shows it badly."""
    torch.manual_seed(0)
    model = train(CNNAdversary((1, SIZE, SIZE)), *blobs(64, seed=0, coded_by_place=coded_by_place))
    images, labels = blobs(16, seed=1, coded_by_place=coded_by_place)
    images = images[labels == 1]
    covered = images.clone()
    covered[:, 0, UPPER_LEFT] = 0.4
    sharp, usual = gradcam(model, images, layer=model.convs[2], method="hirescam"), gradcam(model, images)
    assert sharp.logit.mean() > 3 and gradcam(model, covered).logit.mean() < 0.3 * sharp.logit.mean()
    share, usual_share = (evidence_share(result.raw, UPPER_LEFT).mean() for result in (sharp, usual))
    assert share > 0.6 and usual_share < share - 0.2, (share, usual_share)


def test_cells_of_hirescam_add_up_to_the_logit(trained: CNNAdversary) -> None:
    images, _ = blobs(6, seed=1)
    one, zero = (gradcam(trained, images, label=label, method="hirescam") for label in (1, 0))
    maps = []
    handle = trained.convs[-1].register_forward_hook(lambda module, inputs, output: maps.append(output.relu()))
    with torch.no_grad():
        logit = trained(images)
    handle.remove()
    cells = (maps[0] * trained.output.weight.unflatten(1, maps[0].shape[1:])).sum(1).detach()  # (6, 4, 4)
    torch.testing.assert_close(cells.sum((1, 2)) + trained.output.bias.detach(), logit, rtol=1e-4, atol=1e-4)
    for sign, result in ((1, one), (-1, zero)):
        drawn = nn.functional.interpolate((sign * cells).clamp(min=0)[:, None], size=SIZE, mode="bilinear")[:, 0]
        np.testing.assert_allclose(result.raw, drawn, rtol=1e-4, atol=1e-4)


def test_untrained_classifier_looks_useless_only_on_the_raw_scale(trained: CNNAdversary) -> None:
    images, _ = blobs(16, seed=2)
    torch.manual_seed(1)
    untrained = CNNAdversary((1, SIZE, SIZE))
    know, guess = (gradcam(model, images, layer=model.convs[2], method="hirescam") for model in (trained, untrained))
    assert 0 < guess.raw_max.mean() < 0.3 * know.raw_max.mean()
    assert know.normalised.max() <= 1 and know.normalised.min() >= 0
    assert guess.normalised.max(axis=(1, 2)).mean() > 0.99  # stretched, it looks as sure as the other


def test_shapes_types_and_probabilities(trained: CNNAdversary) -> None:
    images, _ = blobs(5, seed=3)
    result = gradcam(trained, images, batch_size=2)
    assert result.raw.shape == result.normalised.shape == (5, SIZE, SIZE)
    assert result.raw.dtype == result.normalised.dtype == result.logit.dtype == np.float32
    assert result.raw.min() >= 0
    with torch.no_grad():
        np.testing.assert_allclose(result.logit, trained(images).numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(result.probability, 1 / (1 + np.exp(-result.logit)), atol=1e-6)
    np.testing.assert_allclose(gradcam(trained, images).raw, result.raw, atol=1e-5)  # batches do not matter
    as_bytes = (images * 255).round().to(torch.uint8)
    np.testing.assert_allclose(gradcam(trained, as_bytes.numpy()).logit, result.logit, atol=0.2)


def test_raw_map_against_the_formula() -> None:
    """With average pooling and one linear layer, the map is the rectified activations weighted by the layer's weights."""
    torch.manual_seed(0)
    conv, line = nn.Conv2d(1, 6, 3, padding=1), nn.Linear(6, 1)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu, self.line = conv, nn.ReLU(), line

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.line(self.relu(self.conv(x)).mean((2, 3)))  # (N, 1)

    images = torch.rand(3, 1, 8, 8)
    net = Net()
    result = gradcam(net, images, layer=net.relu, label=1)
    with torch.no_grad():
        activation = conv(images).relu()  # (3, 6, 8, 8)
        expected = torch.einsum("nchw,c->nhw", activation, line.weight[0] / 64)
    np.testing.assert_allclose(result.raw, expected.clamp(min=0).numpy(), atol=1e-6)
    negative = gradcam(net, images, layer=net.relu, label=0)
    np.testing.assert_allclose(negative.raw, (-expected).clamp(min=0).numpy(), atol=1e-6)
    chosen = gradcam(net, images, layer=net.relu)
    np.testing.assert_allclose(chosen.raw, np.where(result.logit[:, None, None] > 0, result.raw, negative.raw), atol=1e-6)
    # Before the ReLU, what it cuts off counts as nothing.
    np.testing.assert_allclose(gradcam(net, images, layer=net.conv, label=1).raw, _before_the_relu(net, images), atol=1e-6)


def _before_the_relu(net: nn.Module, images: torch.Tensor) -> np.ndarray:
    """The map of `net.conv`, channels weighted by the mean of the gradient that passes the ReLU, from its positive values only."""
    with torch.no_grad():
        activation = net.conv(images)
        weights = (activation > 0).float().mean((2, 3)) * net.line.weight[0] / 64  # (N, channels)
        return torch.einsum("nchw,nc->nhw", activation.relu(), weights).clamp(min=0).numpy()


def test_model_is_given_back_as_it_was(trained: CNNAdversary) -> None:
    model = nn.Sequential(copy.deepcopy(trained), nn.Dropout(0.5))
    model.train()
    model[1].eval()
    parameter = next(model.parameters())
    parameter.grad = torch.full_like(parameter, 7.0)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    images, _ = blobs(4, seed=4)
    with torch.no_grad():  # also where the caller has switched gradients off
        gradcam(model, images)
    assert model.training and model[0].training and not model[1].training
    assert parameter.grad is not None and (parameter.grad == 7).all()
    assert all(p.grad is None for p in list(model.parameters())[1:])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert not images.requires_grad


def test_frozen_model_and_model_behind_an_encoder(trained: CNNAdversary) -> None:
    frozen = copy.deepcopy(trained).requires_grad_(False)
    images, _ = blobs(4, seed=5)
    np.testing.assert_allclose(gradcam(frozen, images).raw, gradcam(trained, images).raw, atol=1e-6)
    behind = nn.Sequential(Encoder(), CNNAdversary((12, SIZE // 4, SIZE // 4)))
    assert gradcam(behind, images).raw.shape == (4, SIZE, SIZE)
    assert gradcam(behind, images, layer=behind[0].conv1).raw.shape == (4, SIZE, SIZE)


def test_an_index_error_of_the_model_is_not_swallowed() -> None:
    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return [self.conv(x)][1]

    model = Broken().train()
    with pytest.raises(IndexError):
        gradcam(model, torch.rand(2, 1, 8, 8))
    assert model.training and not model.conv._forward_hooks


class TwoLogits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.unused = nn.Conv2d(1, 2, 3), nn.Conv2d(1, 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x).mean((2, 3))


def test_bad_input_is_named(trained: CNNAdversary) -> None:
    images = torch.rand(2, 1, SIZE, SIZE)
    two = TwoLogits()
    one = nn.Sequential(two, nn.Linear(2, 1))
    cases = [
        (lambda: gradcam(nn.Sequential(nn.Flatten(), nn.Linear(SIZE * SIZE, 1)), images), "no convolution"),
        (lambda: gradcam(trained, images[0]), "shape"),
        (lambda: gradcam(trained, images[:0]), "N > 0"),
        (lambda: gradcam(trained, images, label=2), "not 2"),
        (lambda: gradcam(trained, images, method="cam"), "'cam'"),
        (lambda: gradcam(trained, images, layer=nn.Conv2d(1, 1, 1)), "not a module"),
        (lambda: gradcam(two, images, layer=two.conv), "one logit"),
        (lambda: gradcam(one, images, layer=two.unused), "no map"),
        (lambda: gradcam(one, images, layer=one[1]), "no map"),
        (lambda: gradcam(trained, images * float("nan")), "not finite"),
    ]
    for call, words in cases:
        with pytest.raises(UserError, match=words):
            call()
    last = gradcam(trained, images, layer=trained.convs[-1])
    assert np.array_equal(gradcam(trained, images).raw, last.raw), "the last convolution, where none is named"
