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

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from pytorch_grad_cam import GradCAM, HiResCAM
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


def gradcam(
    model: nn.Module,
    images: Tensor | np.ndarray,
    layer: nn.Module | None = None,
    *,
    label: int | None = None,
    method: str = "gradcam",
    rectify: bool = True,
    batch_size: int = 128,
) -> CamResult:
    """Grad-CAM of a classifier with one logit.

    The model is used in evaluation mode and given back as it was: mode of every module, gradients, hooks.

    Args:
        model: images (N, C, H, W) to logits (N,) or (N, 1); positive speaks for label 1. To look through an anonymizer
            at the image it was given, pass `nn.Sequential(encoder, adversary)`.
        images: float in [0, 1], or uint8, shape (N, C, H, W).
        layer: the layer whose map is shown, a module of `model` that gives (N, channels, h, w); the last convolution
            that `model` has registered, by default.
        label: show the evidence for this label, 1 or 0; None shows each image's evidence for the label the model chose.
        method: "gradcam", as the paper, or "hirescam"; see this module's introduction.
        rectify: count a negative activation of `layer` as zero. Right where a ReLU follows, as it does every convolution
            in `models`: a negative value never reaches the logit, yet times a negative weight it would show as evidence.
        batch_size: images at a time.

    Raises:
        UserError: the model has no convolution, `layer` is not in it or takes no part in the logit, the images or the
            logits have another shape, `label` is neither 0, 1 nor None, `method` is unknown, or a logit is not finite.
    """
    if label not in (None, 0, 1):
        raise UserError(f"The label to explain must be 0, 1 or None (the one the classifier chose), not {label!r}.")
    if method not in _METHODS:
        raise UserError(f"There is no method {method!r} here; choose one of {', '.join(_METHODS)}.")
    images = torch.as_tensor(np.asarray(images) if not isinstance(images, Tensor) else images)
    images = images.float() / 255 if images.dtype == torch.uint8 else images.float()
    if images.ndim != 4 or not len(images):
        raise UserError(f"Grad-CAM needs images of shape (N, C, H, W) with N > 0, not {tuple(images.shape)}.")
    layer = last_convolution(model) if layer is None else layer
    if all(layer is not module for module in model.modules()):
        raise UserError(f"The layer {type(layer).__name__} is not a module of {type(model).__name__}.")

    raw, normalised, logits = [], [], []
    # The library's context manager would swallow an IndexError, so its hooks are released by hand.
    with _untouched(model), torch.enable_grad():
        cam = _METHODS[method](model, layer, rectify)
        try:
            for batch in images.split(batch_size):
                # Asking for the input's gradient makes frozen models work, and a copy spares the caller's tensor.
                batch = batch.detach().clone().requires_grad_()
                normalised.append(cam(batch, [_Evidence(label)] * len(batch)))  # (B, H, W)
                logits.append(cam.outputs.detach().float().cpu().reshape(len(batch)).numpy())
                raw.append(F.interpolate(cam.raw[:, None], size=batch.shape[2:], mode="bilinear")[:, 0].numpy())  # (B, H, W)
        finally:
            cam.activations_and_grads.release()
    logit = np.concatenate(logits)
    if not np.isfinite(logit).all():
        raise UserError(f"{type(model).__name__} gives logits that are not finite; there is nothing to explain.")
    return CamResult(raw=np.concatenate(raw), normalised=np.concatenate(normalised).astype(np.float32), logit=logit)


def last_convolution(model: nn.Module) -> nn.Module:
    """The two-dimensional convolution that `model` registered last. Raises UserError where it has none."""
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    if not convolutions:
        raise UserError(f"{type(model).__name__} has no convolution: Grad-CAM needs a map to look at. Name a `layer` that gives one.")
    return convolutions[-1]


class _Evidence:
    """What a map is the gradient of: the logit, turned round for label 0, or whichever of both the model chose.

    The library's BinaryClassifierOutputTarget knows the first two only.
    """

    def __init__(self, label: int | None) -> None:
        self.label = label

    def __call__(self, output: Tensor) -> Tensor:
        if output.numel() != 1:
            raise UserError(f"Grad-CAM here explains a classifier with one logit an image; this one gives {output.numel()}.")
        logit = output.reshape(())
        positive = logit.detach() > 0 if self.label is None else bool(self.label)
        return logit if positive else -logit


class _Raw:
    """Mixed into one of pytorch-grad-cam's methods: keeps each map as it is before the library stretches it."""

    def __init__(self, model: nn.Module, layer: nn.Module, rectify: bool) -> None:
        super().__init__(model=model, target_layers=[layer])
        self.rectify = rectify
        self.raw = torch.empty(0)

    def get_cam_image(self, input_tensor, target_layer, targets, activations, grads, eigen_smooth=False) -> np.ndarray:
        if activations is None or grads is None or np.ndim(activations) != 4:
            shape = None if activations is None else tuple(np.shape(activations))
            raise UserError(
                f"The layer {type(target_layer).__name__} gives no map that the logit depends on "
                f"(its output: {shape}; Grad-CAM needs (N, channels, h, w) and a gradient)."
            )
        activations = np.maximum(activations, 0) if self.rectify else activations
        cam = super().get_cam_image(input_tensor, target_layer, targets, activations, grads, eigen_smooth)  # (N, h, w)
        self.raw = torch.from_numpy(np.maximum(cam, 0).astype(np.float32))
        return cam


class _RawGradCAM(_Raw, GradCAM):
    pass


class _RawHiResCAM(_Raw, HiResCAM):
    pass


_METHODS = {"gradcam": _RawGradCAM, "hirescam": _RawHiResCAM}


@contextlib.contextmanager
def _untouched(model: nn.Module) -> Iterator[None]:
    """Give `model` back with the modes and the gradients that it came with: the library sets eval() and writes gradients."""
    modes = [(module, module.training) for module in model.modules()]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    for parameter, _ in gradients:
        parameter.grad = None  # else zero_grad(set_to_none=False) of some torch versions would write into the caller's tensor
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, gradient in gradients:
            parameter.grad = gradient
