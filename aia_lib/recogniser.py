"""The recogniser: a pretrained network from a picture of a face to a template, the 128 numbers that a real system would store.

It is Davis King's ResNet of 29 convolutions, trained on about three million faces, which dlib and the package face_recognition use; he
gave its weights to the public domain (CC0). They ship in float16. dlib takes pictures whose templates are less than 0.6 apart for one
person. Its training set may hold people of CelebA: splits make people new to whatever is trained here, not to this network.

    recogniser = load_recogniser(CROPS["embedded"])
    templates = recogniser(images)  # (N, 1, 64, 64) in [0, 1] -> (N, 128)
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from .datasets.common import WHOLE, Crop
from .machine.device import pick_device
from .machine.files import UserError, sha256

SHIPPED = Path(__file__).parent / "templates"
"""The folder of the weights, of the embedded faces' templates, and of the manifest of both."""

WEIGHTS = SHIPPED / "dlib-resnet-v1.safetensors"

SIDE = 150
"""Height and width of what the network reads, in pixels."""

WIDTH = 128
"""How many numbers a template has."""

BLOCKS = (
    *[(32, 32)] * 3,
    *[(32, 64), (64, 64), (64, 64), (64, 64)],
    *[(64, 128), (128, 128), (128, 128)],
    *[(128, 256), (256, 256), (256, 256), (256, 256)],
)
"""Channels that each residual block reads and gives; the first of each line after the first, and the last of all, halve the map."""

HALVING = (3, 7, 10, 13)

CROPS = {
    "embedded": Crop(side=50 / 64, x=0.5, y=37 / 64),
    "celeba": Crop(side=111.3 / 178, x=89.7 / 178, y=132.4 / 218),
    "lfw": Crop(side=0.51, x=0.5, y=0.54),
}
"""Where the network wants the face in the pictures of sources that are aligned: eyes 53 of 150 pixels apart, at 47 from the top.

From dlib's mean shape of five landmarks, and where the eyes are: in the embedded faces' masks, 17 of 64 pixels apart at y = 28; in CelebA's
aligned images, 39 of 178 at y = 112 of 218; in LFW, whose pictures are 2.2 times a detector's square, some 45 of 250 at y = 111."""


class Block(nn.Module):
    """relu(two convolutions of x + shortcut). When the map is halved, the shortcut is a mean over 2 x 2, and zeros fill up the smaller."""

    def __init__(self, wide: int, channels: int, halving: bool) -> None:
        super().__init__()
        self.halving = halving
        self.first = nn.Conv2d(wide, channels, 3, stride=1 + halving, padding=1 - halving)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(F.relu(self.first(x), inplace=True))
        if self.halving:
            x = F.avg_pool2d(x, 2)
            side, channels = max(x.shape[-1], y.shape[-1]), y.shape[1]
            x, y = (F.pad(z, (0, side - z.shape[-1], 0, side - z.shape[-1], 0, channels - z.shape[1])) for z in (x, y))
        return F.relu(y + x, inplace=True)


class Recogniser(nn.Module):
    """dlib's network; the scale and shift that follow each convolution there, and those of the input, are part of the convolutions here.

    Args:
        crop: what is cut out of each image, to whole pixels, before it is resized to 150 x 150.
    """

    def __init__(self, crop: Crop = WHOLE) -> None:
        super().__init__()
        self.crop = crop
        self.stem = nn.Conv2d(3, 32, 7, stride=2)
        self.blocks = nn.Sequential(*(Block(*channels, i in HALVING) for i, channels in enumerate(BLOCKS)))
        self.head = nn.Linear(256, WIDTH, bias=False)

    def chips(self, images: Tensor) -> Tensor:
        """What the network reads: images (N, C, H, W) cropped and resized to (N, C, 150, 150), bicubic with antialiasing."""
        left, top, right, bottom = (round(edge) for edge in self.crop.box(images.shape[-1], images.shape[-2]))
        cut = images[:, :, top:bottom, left:right]
        if cut.shape[-2:] == (SIDE, SIDE):
            return cut
        return F.interpolate(cut, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Templates (N, 128), of length 1.3 or so, of images (N, 3 or 1, H, W) in [0, 1]: red, green, blue, or grey."""
        x, weight = self.chips(images), self.stem.weight
        weight = weight.sum(1, keepdim=True) if x.shape[1] == 1 else weight  # grey is three equal channels
        x = F.relu(F.conv2d(x, weight, self.stem.bias, stride=2), inplace=True)  # (N, 32, 72, 72)
        x = self.blocks(F.max_pool2d(x, 3, stride=2))  # (N, 32, 35, 35) -> (N, 256, 2, 2)
        return self.head(x.mean((2, 3)))


def load_recogniser(crop: Crop = WHOLE, device: torch.device | str | None = None) -> Recogniser:
    """The recogniser with the weights that ship, ready to use: frozen, channels last.

    Args:
        crop: see `Recogniser`; `CROPS` has those of aligned sources.
        device: None takes the best there is.

    Raises:
        UserError: the weights are missing, or not those of the manifest.
    """
    recogniser = Recogniser(crop)
    try:
        about = json.loads((SHIPPED / "manifest.json").read_text(encoding="utf-8"))["recogniser"]
        if sha256(WEIGHTS) != about["sha256"]:
            raise ValueError(f"the SHA-256 of {WEIGHTS.name} is not the manifest's")
        recogniser.load_state_dict({name: values.float() for name, values in load_file(WEIGHTS).items()})
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(f"The recogniser's weights in {SHIPPED} cannot be read ({error}). Install aia-book again.") from error
    return recogniser.eval().requires_grad_(False).to(pick_device(device), memory_format=torch.channels_last)
