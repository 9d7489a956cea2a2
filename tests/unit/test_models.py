"""The networks: shapes and parameter counts as their docstrings state them, and their equations written out."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch import nn

from aia_lib.models import CNNAdversary, Decoder, Encoder, MLPAdversary, SiameseNetwork, count_parameters, latent_shape, upsample_conv

SIZES = (16, 20, 32, 64)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def stated_counts(kind: type) -> list[int]:
    """The numbers of parameters that a class's docstring states, in its order."""
    return [int(number.replace(",", "")) for number in re.findall(r"\b(?:\d{1,3}(?:,\d{3})+|\d{3})\b", kind.__doc__)]


def layers(module: nn.Module, kind: type) -> list[nn.Module]:
    return [layer for layer in module.modules() if isinstance(layer, kind)]


# ------------------------------------------------------------------------------------------------------------------ shapes


@pytest.mark.parametrize("size", SIZES)
def test_the_shapes_of_equations_2_to_4(size):
    images = torch.rand(3, 1, size, size)
    encoder, shape = Encoder(), latent_shape(size)
    g = encoder(images)
    k = 12 * (size // 4) ** 2
    assert shape == (12, size // 4, size // 4) and g.shape == (3, k)
    assert k == 0.75 * size * size, "g hardly compresses"
    assert Decoder(shape)(g).shape == images.shape
    for reader in (MLPAdversary(k), CNNAdversary(shape)):
        assert reader(g).shape == (3,)
    assert SiameseNetwork(shape)(g).shape == (3, 128)
    assert CNNAdversary((1, size, size))(images).shape == (3,), "the same networks read reconstructions"
    assert SiameseNetwork((1, size, size))(images).shape == (3, 128)


def test_an_image_that_is_wide_or_high_fits_too():
    g = Encoder()(torch.rand(2, 1, 32, 16))
    assert g.shape == (2, 12 * 8 * 4)
    assert Decoder((12, 8, 4))(g).shape == (2, 1, 32, 16)
    assert CNNAdversary((12, 8, 4))(g).shape == (2,)


def test_g_lies_between_0_and_1_whatever_the_image():
    encoder = Encoder()
    with torch.no_grad():
        for parameter in encoder.parameters():  # as far from its initialisation as training may take it
            parameter.mul_(30)
    images = torch.cat([torch.zeros(1, 1, 16, 16), torch.ones(1, 1, 16, 16), torch.rand(6, 1, 16, 16)])
    g = encoder(images)
    assert g.min() >= 0 and g.max() <= 1
    assert g.std() > 0.1, "and uses the range"


def test_g_flattens_the_map_row_by_row():
    """(N, 12, h, w) to (N, k) and back is what the decoder and the adversaries assume."""
    encoder, images = Encoder(), torch.rand(2, 1, 16, 16)
    expected = torch.sigmoid(_pool(_leaky(encoder.conv2(_pool(_leaky(encoder.conv1(images)))))))  # (2, 12, 4, 4)
    torch.testing.assert_close(encoder(images).reshape(2, 12, 4, 4), expected)
    channels_last = encoder.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(channels_last.reshape(2, 12, 4, 4), expected, msg="however the weights lie in memory")


def _leaky(h: torch.Tensor) -> torch.Tensor:
    return torch.where(h > 0, h, 0.01 * h)


def _pool(h: torch.Tensor) -> torch.Tensor:
    return (h[:, :, 0::2, 0::2] + h[:, :, 1::2, 0::2] + h[:, :, 0::2, 1::2] + h[:, :, 1::2, 1::2]) / 4


# ------------------------------------------------------------------------------------------------------------ parameter counts


def test_the_parameter_counts_are_those_that_the_docstrings_state():
    shape = latent_shape(64)

    def per_layer(module: nn.Module) -> list[int]:
        return [layer.weight.numel() + layer.bias.numel() for layer in layers(module, (nn.Conv2d, nn.Linear))]

    def linear(inputs: int, outputs: int) -> int:
        return (inputs + 1) * outputs

    def conv(inputs: int, outputs: int) -> int:
        return (9 * inputs + 1) * outputs

    encoder, decoder = Encoder(), Decoder(shape)
    assert per_layer(encoder) == [conv(1, 8), conv(8, 12)]
    assert stated_counts(Encoder) == [count_parameters(encoder), *[n for n in per_layer(encoder) if n > 99]] == [956, 876]
    assert "80 + 876" in Encoder.__doc__ and per_layer(encoder)[0] == 80

    assert per_layer(decoder) == [conv(12, 256), conv(256, 128), conv(128, 1)] == [27_904, 295_040, 1_153]
    assert [n for n in stated_counts(Decoder) if n not in (256, 128)] == [count_parameters(decoder), *per_layer(decoder)]

    mlp = MLPAdversary(math.prod(shape))
    assert per_layer(mlp) == [linear(3072, 256), linear(256, 1)]
    assert stated_counts(MLPAdversary) == [count_parameters(mlp)] == [3072 * 256 + 2 * 256 + 1]

    cnn = CNNAdversary(shape)
    counts = per_layer(cnn)
    stated = [n for n in stated_counts(CNNAdversary) if n > 256]
    assert stated == [count_parameters(cnn), sum(counts[:6]), counts[6]] == [579_617, 575_520, 4_097]

    siamese = SiameseNetwork(shape)
    batch_norms = 2 * (4 + 8 + 8)
    expected = conv(12, 4) + conv(4, 8) + conv(8, 8) + batch_norms + linear(8 * 16 * 16, 500) + linear(500, 500) + linear(500, 128)
    assert count_parameters(siamese) == expected == 1_340_484
    assert stated_counts(SiameseNetwork)[-1] == expected


def test_encoder_and_decoder_do_not_grow_with_the_image():
    assert count_parameters(Encoder()) == 956
    assert {count_parameters(Decoder(latent_shape(size))) for size in SIZES} == {324_097}


def test_frozen_weights_are_not_counted():
    encoder = Encoder()
    encoder.conv1.requires_grad_(False)
    assert count_parameters(encoder) == 876


# --------------------------------------------------------------------------------------------------------------- the decoder


@pytest.mark.parametrize("size", SIZES)
def test_the_fast_decoder_is_equation_4(size):
    """The same weights give the same picture and the same gradients, to 1e-5, as Eq. 4 computed step by step."""
    shape = latent_shape(size)
    fast, plain = Decoder(shape), Decoder(shape, plain=True)
    plain.load_state_dict(fast.state_dict())
    g = torch.rand(2, math.prod(shape))
    outputs, gradients = [], []
    for decoder in (fast, plain):
        own = g.clone().requires_grad_()
        logits = decoder(own)
        (logits * torch.linspace(-1, 1, logits.numel()).reshape(logits.shape)).mean().backward()
        outputs.append(logits.detach())
        gradients.append([own.grad, *(parameter.grad for parameter in decoder.parameters())])
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-5)
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


def test_equation_4_written_out():
    decoder, g = Decoder((12, 4, 4)).double(), torch.rand(2, 192, dtype=torch.float64)
    h = g.reshape(2, 12, 4, 4)
    for conv, is_last in ((decoder.conv1, False), (decoder.conv2, False), (decoder.conv3, True)):
        h = nn.functional.conv2d(h, conv.weight, conv.bias, padding=1)
        if not is_last:
            h = _leaky(h).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)  # nearest x2
    torch.testing.assert_close(decoder(g), h)
    assert [conv.out_channels for conv in layers(decoder, nn.Conv2d)] == [256, 128, 1]


@pytest.mark.parametrize("shape", [(1, 2, 1, 1), (2, 3, 1, 4), (3, 5, 7, 2)])
def test_upsample_conv_is_a_convolution_of_the_doubled_map(shape):
    """At the borders too, where a smeared kernel could be wrong; the control drops one tap of the kernel."""
    h = torch.randn(shape, dtype=torch.float64)
    conv = nn.Conv2d(shape[1], 4, 3, padding=1).double()
    expected = conv(h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3))
    torch.testing.assert_close(upsample_conv(h, conv), expected)
    with torch.no_grad():
        conv.weight[:, :, 0, 0] = 0
    assert not torch.allclose(upsample_conv(h, conv), expected)


# ------------------------------------------------------------------------------------------------- adversaries and the Siamese


def test_equation_6_written_out():
    adversary = MLPAdversary(features=6, hidden=4)
    g = torch.rand(3, 6)
    w1, b1, w2, b2 = (parameter.detach().numpy() for parameter in adversary.parameters())
    for row, logit in zip(g.numpy(), adversary(g).detach().numpy(), strict=True):
        centred = 2 * row - 1
        hidden = [math.tanh(sum(w * x for w, x in zip(weights, centred, strict=True)) + b) for weights, b in zip(w1, b1, strict=True)]
        o = sum(w * h for w, h in zip(w2[0], hidden, strict=True)) + b2[0]
        assert logit == pytest.approx(o, abs=1e-5)
    assert MLPAdversary(6)(g.reshape(3, 1, 2, 3)).shape == (3,), "anything that flattens to it"


def test_the_cnn_adversary_is_that_of_section_5_2():
    adversary = CNNAdversary(latent_shape(64))
    convs, linears = layers(adversary, nn.Conv2d), layers(adversary, nn.Linear)
    assert [conv.out_channels for conv in convs] == [32, 64, 64, 128, 128, 256]
    assert [conv.in_channels for conv in convs] == [12, 32, 64, 64, 128, 128]
    assert all(conv.kernel_size == (3, 3) for conv in convs)
    assert len(linears) == 1 and linears[0].out_features == 1
    assert adversary.pools == [True, True, False, False, False, False], "16 to 8 to 4 pixels, then no further"
    g = torch.rand(2, 3072)
    torch.testing.assert_close(adversary(g), adversary(g.reshape(2, 12, 16, 16)), msg="g or the map that it flattens")


def test_the_siamese_network_is_that_of_the_paper():
    siamese = SiameseNetwork(latent_shape(64))
    assert [conv.out_channels for conv in layers(siamese, nn.Conv2d)] == [4, 8, 8]
    assert [linear.out_features for linear in layers(siamese, nn.Linear)] == [500, 500, 128]
    assert len(layers(siamese, nn.BatchNorm2d)) == 3
    g = torch.rand(4, 3072)
    siamese.eval()
    torch.testing.assert_close(siamese(g)[:2], siamese(g[:2]), msg="one branch: an embedding does not depend on the other images")


def test_the_siamese_network_takes_a_representation_without_a_map():
    siamese = SiameseNetwork((37,))
    assert siamese(torch.rand(5, 37)).shape == (5, 128)
    assert not layers(siamese, nn.Conv2d)
    assert count_parameters(siamese) == 38 * 500 + 501 * 500 + 501 * 128
    assert SiameseNetwork((37,), embedding=9)(torch.rand(5, 37)).shape == (5, 9)


@pytest.mark.parametrize("size", [16, 64])
def test_a_signal_reaches_the_end_of_the_adversary_before_it_is_trained(size):
    """Why its weights are initialised after He: through six layers torch's default leaves hardly any trace of the input (the control)."""
    shape = latent_shape(size)
    he, default = CNNAdversary(shape), CNNAdversary(shape)
    for layer in layers(default, (nn.Conv2d, nn.Linear)):
        layer.reset_parameters()
    g = torch.rand(32, math.prod(shape))
    with torch.no_grad():
        spread, control = he(g).std().item(), default(g).std().item()
    assert spread > 0.03 and spread > 30 * control
    for layer in layers(he, nn.Conv2d):
        assert (layer.bias == 0).all()
        assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / layer.weight[0].numel()), rel=0.1)
