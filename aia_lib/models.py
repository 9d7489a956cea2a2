"""The networks of the paper: encoder, decoder, two adversaries, Siamese; and those of the defences beyond it.

Shapes are written beside each step: N images, H x W pixels, h x w = H/4 x W/4 the map that g flattens.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LATENT_CHANNELS = 12
"""Channels of the encoder's second block, and so of the map that g flattens (section 5.2)."""


def latent_shape(size: int) -> tuple[int, int, int]:
    """The map (channels, height, width) that g flattens, for images of size x size pixels: (12, size/4, size/4)."""
    return LATENT_CHANNELS, size // 4, size // 4


def _he_init(module: nn.Module) -> None:
    """He's initialisation for layers followed by a ReLU (He et al. 2015), biases at 0.

    The paper names no initialisation. torch's default shrinks the signal in every layer: through six convolutions of the
    adversary nothing but the biases is left, and it takes epochs to find out that there is something to learn.
    """
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _centred(g: Tensor) -> Tensor:
    """[0, 1] to [-1, 1]: layers learn faster from inputs around 0."""
    return 2 * g - 1


class Encoder(nn.Module):
    """Eq. 2 and 3: two blocks convolution, leaky ReLU, average pooling with 8 and 12 channels, then flatten.

    A sigmoid closes the last block: the paper's Random baseline needs g in [0, 1], which leaky ReLU and pooling alone do not give.
    956 parameters, whatever the image's size: 80 + 876.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, LATENT_CHANNELS, 3, padding=1)
        _he_init(self)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, 1, H, W) in [0, 1] to representations g (N, k) in [0, 1], k = 12 H/4 W/4."""
        h = F.avg_pool2d(F.leaky_relu(self.conv1(images)), 2)  # (N, 8, H/2, W/2)
        h = F.avg_pool2d(F.leaky_relu(self.conv2(h)), 2)  # (N, 12, H/4, W/4)
        return torch.sigmoid(h).flatten(1)  # (N, k)


def upsample_conv(h: Tensor, conv: nn.Conv2d) -> Tensor:
    """`conv(nearest x2 upsampling of h)` for a 3 x 3 convolution, as one transposed convolution.

    Doubling every pixel and then sliding a 3 x 3 window is the same linear map as a transposed convolution with stride 2
    whose 4 x 4 kernel is the 3 x 3 kernel smeared over a 2 x 2 box. It needs 4/9 of the multiplications and never builds
    the large map. Equal to the plain form up to rounding (a test holds it to 1e-5).

    Shapes: h (N, C, a, b) to (N, O, 2a, 2b).
    """
    w = conv.weight.transpose(0, 1).flip(2, 3)  # (C, O, 3, 3)
    kernel = F.pad(w, (0, 1, 0, 1)) + F.pad(w, (1, 0, 0, 1)) + F.pad(w, (0, 1, 1, 0)) + F.pad(w, (1, 0, 1, 0))  # (C, O, 4, 4)
    # The bias by itself: inside, its gradient takes the CPU as long as a quarter of all the rest.
    return F.conv_transpose2d(h, kernel, stride=2, padding=1) + conv.bias[:, None, None]


class Decoder(nn.Module):
    """Eq. 4: two blocks convolution, leaky ReLU, nearest x2 with 256 and 128 channels, then a convolution to one channel.

    324,097 parameters, whatever the image's size: 27,904 + 295,040 + 1,153.

    Args:
        shape: the map (12, h, w) that g flattens.
        plain: compute Eq. 4 step by step instead of by `upsample_conv`; same parameters, same result, slower.
    """

    def __init__(self, shape: tuple[int, int, int], plain: bool = False) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.plain = plain
        self.conv1 = nn.Conv2d(shape[0], 256, 3, padding=1)
        self.conv2 = nn.Conv2d(256, 128, 3, padding=1)
        self.conv3 = nn.Conv2d(128, 1, 3, padding=1)
        _he_init(self)

    def forward(self, g: Tensor) -> Tensor:
        """Representations g (N, k) to the logits of the reconstruction (N, 1, H, W); a sigmoid makes the image."""
        h = F.leaky_relu(self.conv1(g.unflatten(1, self.shape)))  # (N, 256, H/4, W/4)
        if self.plain:
            h = F.leaky_relu(self.conv2(F.interpolate(h, scale_factor=2)))  # (N, 128, H/2, W/2)
            return self.conv3(F.interpolate(h, scale_factor=2))  # (N, 1, H, W)
        h = F.leaky_relu(upsample_conv(h, self.conv2))  # (N, 128, H/2, W/2)
        return upsample_conv(h, self.conv3)  # (N, 1, H, W)


class MLPAdversary(nn.Module):
    """Eq. 6: o = sigmoid(W2 tanh(W1 g + b1) + b2), here without the sigmoid: it returns the logit.

    features x hidden + 2 hidden + 1 parameters: 786,945 on g at 64 pixels.
    """

    def __init__(self, features: int, hidden: int = 256) -> None:
        super().__init__()
        self.hidden = nn.Linear(features, hidden)
        self.output = nn.Linear(hidden, 1)

    def forward(self, g: Tensor) -> Tensor:
        """g (N, k), or anything that flattens to it, to one logit an image (N,); positive speaks for label 1."""
        return self.output(torch.tanh(self.hidden(_centred(g).flatten(1)))).squeeze(1)  # (N,)


class CNNAdversary(nn.Module):
    """Section 5.2: six convolutions with 32, 64, 64, 128, 128 and 256 channels, then one linear layer.

    Reads g as the map that it flattens, or an image. The paper does not say where it pools: here the first layers do,
    until the map is less than 8 pixels high or wide. On g at 64 pixels: 579,617 parameters, 575,520 in the convolutions
    and 4,097 in the linear layer.

    Args:
        shape: (channels, height, width) of the map that each row of the input flattens.
    """

    CHANNELS = (32, 64, 64, 128, 128, 256)

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = tuple(shape)
        channels, height, width = shape
        self.convs = nn.ModuleList()
        self.pools: list[bool] = []
        for out in self.CHANNELS:
            self.convs.append(nn.Conv2d(channels, out, 3, padding=1))
            pool = min(height, width) >= 8
            if pool:
                height, width = height // 2, width // 2
            self.pools.append(pool)
            channels = out
        self.output = nn.Linear(channels * height * width, 1)
        _he_init(self)

    def forward(self, g: Tensor) -> Tensor:
        """g (N, k) or a map (N, channels, height, width) to one logit an image (N,); positive speaks for label 1."""
        h = _centred(g).reshape(len(g), *self.shape)
        for conv, pool in zip(self.convs, self.pools, strict=True):
            h = F.relu(conv(h))
            if pool:
                h = F.max_pool2d(h, 2)
        return self.output(h.flatten(1)).squeeze(1)  # (N,)


class SiameseNetwork(nn.Module):
    """The task T: three convolutions with 4, 8 and 8 channels, then 500, 500 and 128 units; one branch of the pair.

    The same network embeds both images; their Euclidean distance is D of Eq. 7. A representation without a map
    (`shape` of one number) skips the convolutions. On g at 64 pixels: 1,340,484 parameters.

    Args:
        shape: (channels, height, width) of the map that each row of the input flattens, or (k,).
        embedding: units of the output.
    """

    def __init__(self, shape: tuple[int, ...], embedding: int = 128) -> None:
        super().__init__()
        self.shape = tuple(shape)
        layers: list[nn.Module] = []
        features = shape[0]
        if len(shape) == 3:
            channels = shape[0]
            for out in (4, 8, 8):
                layers += [nn.Conv2d(channels, out, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(out)]
                channels = out
            features = channels * shape[1] * shape[2]
        self.convs = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(features, 500),
            nn.ReLU(),
            nn.Linear(500, 500),
            nn.ReLU(),
            nn.Linear(500, embedding),
        )

    def forward(self, g: Tensor) -> Tensor:
        """g (N, k) or a map (N, channels, height, width) to embeddings (N, 128)."""
        return self.head(self.convs(_centred(g).reshape(len(g), *self.shape)))


def count_parameters(module: nn.Module) -> int:
    """How many numbers of `module` are learned."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
