"""Grad-CAM: where in a face a classifier finds its evidence, and how much evidence that is. Section 5.5 and Fig. 3.

pytorch-grad-cam stretches every map to [0, 1], so the map of a classifier that knows nothing looks as sure as any other's.
Here the unstretched map comes with it.

Grad-CAM (Selvaraju et al., ICCV 2017) weighs each channel by the mean of its gradient over the map. That is exact where a
classifier averages its last map, and can point beside the evidence where, as in `models.CNNAdversary`, a linear layer
reads each place of the map with weights of its own: they may cancel in the mean. HiResCAM (Draelos and Carin, 2020) takes
activation times gradient place by place, and is exact there: its cells add up to the logit less the last layer's bias.
Where a map's cells lie is not all that they see: each cell of `CNNAdversary`'s last convolution sees most of the image.
With it, `layer=model.convs[2], method="hirescam"` shows best where the evidence is; a test holds all this to a known truth.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from pytorch_grad_cam import GradCAM, HiResCAM
from pytorch_grad_cam.base_cam import BaseCAM
from pytorch_grad_cam.utils.image import scale_cam_image
from pytorch_grad_cam.utils.model_targets import BinaryClassifierOutputTarget
from torch import Tensor, nn

from .machine.files import UserError


@dataclass(frozen=True, eq=False)
class CamResult:
    """Grad-CAM of N images of H x W pixels.

    Attributes:
        raw: evidence for the explained label, float32 (N, H, W), >= 0, in units of the logit: activation times gradient,
            summed over channels, negative sums set to zero, drawn from the layer's map to the image's size. Comparable
            between classifiers whose maps have one size.
        normalised: the same stretched to [0, 1] for each image, float32 (N, H, W). Comparable with nothing but itself.
        logit: what the classifier answered, float32 (N,); positive speaks for label 1.
    """

    raw: np.ndarray
    normalised: np.ndarray
    logit: np.ndarray

    @property
    def probability(self) -> np.ndarray:
        """The classifier's probability of label 1, float32 (N,)."""
        return torch.from_numpy(self.logit).sigmoid().numpy()

    @property
    def raw_max(self) -> np.ndarray:
        """The greatest raw evidence in each image, float32 (N,)."""
        return self.raw.max(axis=(1, 2))


METHODS = {"gradcam": GradCAM, "hirescam": HiResCAM}


def gradcam(
    model: nn.Module,
    images: Tensor | np.ndarray,
    layer: nn.Module | None = None,
    *,
    label: int | None = None,
    method: str = "gradcam",
    batch_size: int = 128,
) -> CamResult:
    """Grad-CAM of a classifier with one logit, by a copy of it: the model itself is not touched.

    A negative activation of `layer` counts as zero, as a ReLU follows every convolution in `models`: it never reaches the logit, yet times
    a negative weight it would show as evidence.

    Args:
        model: images (N, C, H, W) to logits (N,) or (N, 1); positive speaks for label 1. To look through an anonymizer
            at the image that it reads, pass `nn.Sequential(encoder, adversary)`.
        images: float in [0, 1], or uint8, shape (N, C, H, W).
        layer: the layer whose map is shown, a module of `model` that gives (N, channels, h, w); the last convolution
            that `model` has registered, by default.
        label: show the evidence for this label, 1 or 0; None shows each image's evidence for the label the model chose.
        method: "gradcam", as the paper, or "hirescam"; see this module's introduction.
        batch_size: images at a time.

    Raises:
        UserError: the model has no convolution, `layer` is not in it or takes no part in the logit, the images or the
            logits have another shape, `label` is neither 0, 1 nor None, `method` is unknown, or a logit is not finite.
    """
    if label not in (None, 0, 1):
        raise UserError(f"The label to explain must be 0, 1 or None (the one the classifier chose), not {label!r}.")
    if method not in METHODS:
        raise UserError(f"There is no method {method!r} here; choose one of {', '.join(METHODS)}.")
    images = torch.as_tensor(images)
    images = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    if images.ndim != 4 or not len(images):
        raise UserError(f"Grad-CAM needs images of shape (N, C, H, W) with N > 0, not {tuple(images.shape)}.")
    if layer is None:
        layer = next((module for module in reversed(list(model.modules())) if isinstance(module, nn.Conv2d)), None)
    if layer is None:
        raise UserError(f"{type(model).__name__} has no convolution: Grad-CAM needs a map to look at. Name a `layer` that gives one.")
    if not any(module is layer for module in model.modules()):
        raise UserError(f"The layer {type(layer).__name__} is not a module of {type(model).__name__}.")

    # The package sets eval(), hooks the layer and writes gradients; a copy spares the caller all three.
    model, layer = copy.deepcopy((model, layer))
    cam = METHODS[method](model=model, target_layers=[layer])
    # Asking for the input's gradient makes frozen models work.
    with torch.enable_grad():
        parts = [_explain(cam, batch.detach().to(cam.device, copy=True).requires_grad_(), label) for batch in images.split(batch_size)]
    raw, normalised, logit = (np.concatenate(part).astype(np.float32) for part in zip(*parts, strict=True))
    if not np.isfinite(logit).all():
        raise UserError(f"{type(model).__name__} gives logits that are not finite; there is nothing to explain.")
    return CamResult(raw, normalised, logit)


def _explain(cam: BaseCAM, images: Tensor, label: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Raw maps (N, H, W), the same stretched, and logits (N,) of images (N, C, H, W).

    `BinaryClassifierOutputTarget` knows a label's evidence only, so the label that the model chose is looked up first.
    """
    layer, kept = cam.target_layers[0], cam.activations_and_grads
    logit = kept(images).detach()
    if logit.numel() != len(images):
        raise UserError(f"Grad-CAM here explains a classifier with one logit an image; this one gives {logit[0].numel()}.")
    labels = [int(answer > 0) if label is None else label for answer in logit.flatten()]
    no_map = UserError(f"The layer {type(layer).__name__} gives no map (N, channels, h, w) that the logit depends on. Name one that does.")
    if not kept.activations or kept.activations[0].ndim != 4:
        raise no_map
    try:
        cam(images, [BinaryClassifierOutputTarget(category) for category in labels])
    except (AttributeError, TypeError) as error:  # no gradient came back to the layer
        raise no_map from error
    activations, gradients = (part[0].numpy() for part in (kept.activations, kept.gradients))
    maps = np.maximum(cam.get_cam_image(images, layer, labels, np.maximum(activations, 0), gradients, False), 0)  # (N, h, w)
    stretched = cam.aggregate_multi_layers([scale_cam_image(maps, cam.get_target_width_height(images))[:, None]])  # (N, H, W)
    drawn = F.interpolate(torch.from_numpy(maps)[:, None], size=images.shape[2:], mode="bilinear")[:, 0]
    return drawn.numpy(), stretched, logit.float().cpu().flatten().numpy()
