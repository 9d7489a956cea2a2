"""An anonymizer to audit: replace the two classes by yours.

An anonymizer is a function of images, float32 (N, 1, H, W) in [0, 1], that returns representations, float (N, k). What it learns, it
learns from the people of the split `train` alone: the audit takes the other people, and cannot know what your function has seen.
"""

import torch
from torch.nn import functional as F

from aia_lib import load_faces

FACES = {"source": "embedded", "size": 32, "limit": 2500, "attribute": "gender"}
"""The faces: the same settings for training and for the audit, so that both know the same splits.

Your own: {"source": "folder", "root": "my_faces", "size": 32, "attribute": "gender"}. Leave `limit` out to take all.
"""


class MyMethod:
    """The first principal components of the pixels, but not the directions in which the attribute's two means differ most."""

    name = "my method"

    def __init__(self, components=32, faces=None):
        train = (faces or load_faces(**FACES, progress=False)).split().train
        images = torch.from_numpy(train.images[:]).float().flatten(1) / 255  # (N, H * W)
        self.mean = images.mean(0)
        _, _, basis = torch.linalg.svd(images - self.mean, full_matrices=False)
        self.basis = basis[:components]  # (k, H * W)
        g, labels = (images - self.mean) @ self.basis.T, torch.from_numpy(train.labels())
        gap = g[labels == 1].mean(0) - g[labels == 0].mean(0)  # a missing label is -1
        self.hidden = gap / gap.norm()  # (k,)

    def __call__(self, images):
        g = (images.flatten(1) - self.mean) @ self.basis.T  # (N, k)
        return g - (g @ self.hidden)[:, None] * self.hidden

    def decode(self, g):
        """Optional. With it, attackers look at the reconstructions, too. (Optional as well: `map_shape`, where g flattens a map.)"""
        side = int(self.basis.shape[1] ** 0.5)
        return (g @ self.basis + self.mean).reshape(-1, 1, side, side).clamp(0, 1)


class Original:
    """What `MyMethod` is compared with: the same without protection. Here the images themselves, at half the size."""

    name = "no protection"

    def __call__(self, images):
        return F.avg_pool2d(images, 2).flatten(1)
