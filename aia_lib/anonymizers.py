"""The paper's four methods, each an anonymizer: a function from images to a representation g.

Anything with this shape can be audited; nothing needs to inherit from here::

    images, float (N, 1, H, W) in [0, 1]  ->  g, float (N, k)

What else it may offer is declared on the Protocol `Anonymizer`; the four below offer all of it, and add `fit` and `save`.
"""

from __future__ import annotations

import copy
import dataclasses
import zlib
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from .config import Profile, SiameseConfig, as_dict, get_profile, with_settings
from .faces import Faces, with_attribute
from .machine.device import autocast, build, pick_device
from .machine.files import UserError
from .machine.stage import Checkpoint, History, named_tensors
from .models import CNNAdversary, Decoder, Encoder, MLPAdversary, SiameseNetwork, latent_shape
from .training import finetune, train_adversary, train_autoencoder, train_siamese


@runtime_checkable
class Anonymizer(Protocol):
    """What the library calls an anonymizer: a function; a plain one will do. An audit reads further members where they are there:

    * `name`: what reports call it.
    * `map_shape`: the map (channels, height, width) that g flattens.
    * `decode(g)`: the images that can be made of g, (N, 1, H, W) in [0, 1].
    * `adversary(g)`: logits (N,), positive for label 1, of the adversary that was trained with it.
    * `siamese(g)`: embeddings (N, d) of the Siamese network that was trained with it.
    * `attribute`: what its adversary was trained to read; an audit of another attribute does not ask it.
    * `warm_start()`: the network behind `adversary`, a module g (N, k) to logits, for an attacker that goes on training it, or several by
      name; None where there is none that reads g. Where `adversary` is itself a torch module, that is it.
    * `unprotected(images)`: the representation under the protection, made for the same task, such as the encoder that an eraser is laid
      over; an audit verifies with it, too, and says how much of that is kept.
    * `adaptive_attackers()`: the attacks of somebody who knows how it works, a list or a mapping of what `audit(attackers=…)` takes.
    """

    def __call__(self, images: Tensor) -> Tensor:
        """Images float (N, 1, H, W) in [0, 1] to representations g, float (N, k)."""
        ...


def check_images(images: Tensor, size: int) -> None:
    """UserError where `images` are not (N, 1, size, size)."""
    if images.ndim != 4 or tuple(images.shape[1:]) != (1, size, size):
        wanted = f"(N, 1, {size}, {size}), not {tuple(images.shape)}; load the faces with size={size}."
        raise UserError(f"This anonymizer was made for images of shape {wanted}")


class Networks:
    """The four networks of the paper for images of one size, and what they compute without gradients.

    Args:
        size: height and width of the images, in pixels.
        attach: what adversary and Siamese read: "latent" (g) or "image" (the reconstruction of g).
        adversary: "cnn" (section 5.2) or "mlp" (Eq. 6).
        seed: of the initial weights.
        device: where they live; None takes the best there is.
    """

    NAMES = ("encoder", "decoder", "adversary", "siamese")

    def __init__(
        self, size: int, attach: str = "latent", adversary: str = "cnn", seed: int = 0, device: torch.device | None = None
    ) -> None:
        self.size, self.attach, self.adversary_kind = size, attach, adversary
        self.map_shape = latent_shape(size)
        self.device = device or pick_device()
        seen = self.map_shape if attach == "latent" else (1, size, size)
        self.encoder = build(Encoder, self.device, seed, "encoder")
        self.decoder = build(lambda: Decoder(self.map_shape), self.device, seed, "decoder")
        if adversary == "cnn":
            self.adversary = build(lambda: CNNAdversary(seen), self.device, seed, "adversary")
        else:
            self.adversary = build(lambda: MLPAdversary(int(np.prod(seen))), self.device, seed, "adversary")
        self.siamese = build(lambda: SiameseNetwork(seen), self.device, seed, "siamese")

    def modules(self) -> dict[str, nn.Module]:
        """The four networks by name."""
        return {name: getattr(self, name) for name in self.NAMES}

    def encode(self, images: Tensor) -> Tensor:
        """Images (N, 1, size, size) to g (N, k), in float32."""
        check_images(images, self.size)
        with torch.no_grad():
            images = images.to(self.device, torch.float32, memory_format=torch.channels_last)
            return self.encoder.eval()(images)

    def decode(self, g: Tensor) -> Tensor:
        """g (N, k) to reconstructions (N, 1, size, size) in [0, 1], in float32."""
        with torch.no_grad(), autocast(self.device):
            return torch.sigmoid(self.decoder.eval()(g.to(self.device)).float())

    def seen(self, g: Tensor) -> Tensor:
        """What adversary and Siamese read of g: g itself or its reconstruction."""
        return g.to(self.device) if self.attach == "latent" else self.decode(g)

    def read(self, images: Tensor) -> Tensor:
        """What adversary and Siamese read of images (N, 1, size, size)."""
        return self.seen(self.encode(images))

    def infer(self, g: Tensor) -> Tensor:
        """The adversary's logits (N,) for g (N, k)."""
        with torch.no_grad():
            return self.adversary.eval()(self.seen(g))

    def embed(self, g: Tensor) -> Tensor:
        """The Siamese network's embeddings (N, 128) for g (N, k)."""
        with torch.no_grad():
            return self.siamese.eval()(self.seen(g))

    def describe(self) -> dict:
        """The arguments that build networks of these shapes again."""
        return {"size": self.size, "attach": self.attach, "adversary": self.adversary_kind}

    def tensors(self) -> dict[str, Tensor]:
        """All weights and buffers, by network and name."""
        return named_tensors(self.modules())


class PaperMethod:
    """What the paper's methods share: the networks that `fit`, or loading, gives them, what these compute, and saving."""

    def __init__(self, profile: Profile | None, seed: int, device: torch.device | None) -> None:
        self.profile, self.seed, self.device = profile or get_profile(), seed, device
        self.networks: Networks | None = None
        self.attribute: str | None = None
        self.history: dict[str, History] = {}

    @property
    def map_shape(self) -> tuple[int, int, int]:
        """The map (12, H/4, W/4) that g flattens."""
        return fitted_networks(self).map_shape

    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, 1, H, W) in [0, 1] to g (N, k) in [0, 1]."""
        return fitted_networks(self).encode(images)

    def decode(self, g: Tensor) -> Tensor:
        """g (N, k) to reconstructions (N, 1, H, W) in [0, 1]."""
        return fitted_networks(self).decode(g)

    def adversary(self, g: Tensor) -> Tensor:
        """Logits (N,) of the adversary trained with this anonymizer."""
        return fitted_networks(self).infer(g)

    def siamese(self, g: Tensor) -> Tensor:
        """Embeddings (N, 128) of the Siamese network trained with this anonymizer."""
        return fitted_networks(self).embed(g)

    def warm_start(self) -> nn.Module | None:
        """The adversary's network, to be trained on; None where it reads reconstructions, not g."""
        nets = fitted_networks(self)
        return nets.adversary if nets.attach == "latent" else None

    def arguments(self) -> dict:
        """What, beside the networks' shapes and the seed, makes this anonymizer again, as JSON."""
        return {"profile": self.profile.name}

    def save(self, folder: str | Path, half: bool = False) -> None:
        """Write `anonymizer.json` and the weights (safetensors) into `folder`, atomically; `half` stores them as float16."""
        nets = fitted_networks(self)
        tensors = nets.tensors()
        if half:
            tensors = {key: value.half() if value.dtype == torch.float32 else value for key, value in tensors.items()}
        Checkpoint(folder, "anonymizer").save(
            tensors,
            kind=type(self).__name__,
            networks=nets.describe(),
            attribute=self.attribute,
            seed=self.seed,
            arguments=self.arguments(),
            history=self.history,
        )


def fitted_networks(method: PaperMethod) -> Networks:
    """The networks of one of the paper's methods. UserError where it was neither fitted nor loaded."""
    if method.networks is None:
        raise UserError(f"This {type(method).__name__} has not been trained: call fit(faces) first, or load_anonymizer(folder).")
    return method.networks


class Original(PaperMethod):
    """No anonymization: g is what the auto-encoder learned. Also trains the paper's adversary and Siamese on it (stages 1 to 3).

    Args:
        profile: the settings; None takes the profile that AIA_PROFILE names, else "book".
        seed: of all weights and batches.
        device: a torch device; None takes the best there is.
    """

    name = "Original"

    def __init__(self, profile: Profile | None = None, seed: int = 0, device: torch.device | None = None) -> None:
        super().__init__(profile, seed, device)

    def fit(
        self,
        faces: Faces,
        attribute: str | None = None,
        *,
        start: Original | None = None,
        folder: str | Path | None = None,
        progress: bool = True,
    ) -> Original:
        """Train on all of `faces` (pass the train split).

        Args:
            faces, attribute: the images, and the attribute that the adversary reads (None: the one the faces were loaded with).
            start: a fitted `Original` whose auto-encoder is taken over, without stage 1: its convolutions fit images of every size.
            folder: where checkpoints go; a later call resumes from them.
            progress: show progress bars.
        """
        faces = with_attribute(faces, attribute)
        profile = self.profile
        nets = Networks(faces.size, profile.finetune.attach, profile.adversary.kind, self.seed, self.device)
        common = {"seed": self.seed, "folder": folder, "progress": progress}
        if start is None:
            self.history["autoencoder"] = train_autoencoder(faces, nets.encoder, nets.decoder, profile.autoencoder, **common)
        else:
            learned = fitted_networks(start)
            nets.encoder.load_state_dict(learned.encoder.state_dict())
            nets.decoder.load_state_dict(learned.decoder.state_dict())
        self.history["adversary"] = train_adversary(faces, nets.adversary, nets.read, profile.adversary, **common)
        self.history["siamese"] = train_siamese(faces, nets.siamese, nets.read, profile.siamese, **common)
        self.networks, self.attribute = nets, faces.attribute
        return self


class AIA(PaperMethod):
    """The Adversarial Image Anonymizer: stages 1 to 3, then the adversarial fine-tuning of Eq. 8.

    With alpha = 0 it is the paper's AIA\\T, for whose utility a Siamese network is trained afterwards on its finished g.

    Args:
        profile, seed, device: as for `Original`.
        **settings: fields of `FinetuneConfig` that replace the profile's, as in `AIA(alpha=0.5, beta=0.2)`.
    """

    def __init__(
        self, profile: Profile | None = None, seed: int = 0, device: torch.device | None = None, **settings: float | int | str
    ) -> None:
        profile = profile or get_profile()
        config = with_settings(profile.finetune, settings, "AIA")
        super().__init__(dataclasses.replace(profile, finetune=config), seed, device)

    @property
    def name(self) -> str:
        """ "AIA", or "AIA\\T" where the task has no weight."""
        return "AIA" if self.profile.finetune.alpha > 0 else "AIA\\T"

    def fit(
        self,
        faces: Faces,
        attribute: str | None = None,
        *,
        start: Original | None = None,
        folder: str | Path | None = None,
        progress: bool = True,
    ) -> AIA:
        """Train on all of `faces` (pass the train split).

        Args:
            faces, attribute: the images, and the attribute to hide (None: the one the faces were loaded with).
            start: an `Original` that was fitted on the same faces, to start from; None fits one first.
            folder: where checkpoints go; a later call resumes from them.
            progress: show progress bars.
        """
        faces = with_attribute(faces, attribute)
        profile = self.profile
        if start is None:
            start = Original(profile, self.seed, self.device).fit(faces, folder=folder, progress=progress)
        nets = copy.deepcopy(fitted_networks(start))
        if nets.size != faces.size:
            raise UserError(f"start was trained on images of {nets.size} x {nets.size} pixels, these have {faces.size} x {faces.size}.")
        if nets.attach != profile.finetune.attach:
            raise UserError(f"start was trained with attach={nets.attach!r}, this AIA has {profile.finetune.attach!r}; use the same.")
        common = {"seed": self.seed, "folder": folder, "progress": progress}
        self.history = dict(start.history)
        stage = "finetune" if profile.finetune.alpha > 0 else "finetune-without-task"
        self.history["finetune"] = finetune(
            faces, *nets.modules().values(), profile.finetune, profile.adversary, profile.siamese, name=stage, **common
        )
        if profile.finetune.alpha == 0:
            self.history["siamese"] = siamese_without_task(faces, nets, profile.siamese, **common)
        self.networks, self.attribute = nets, faces.attribute
        return self

    def arguments(self) -> dict:
        """The profile's name, and all settings of the fine-tuning."""
        return {**super().arguments(), "finetune": as_dict(self.profile.finetune)}


def siamese_without_task(
    faces: Faces, nets: Networks, config: SiameseConfig, *, seed: int = 0, folder: str | Path | None = None, progress: bool = True
) -> History:
    """Give AIA\\T the Siamese network that its fine-tuning left out: a fresh one in `nets`, trained on the finished g (stage 3, Eq. 7)."""
    nets.siamese = build(lambda: SiameseNetwork(nets.siamese.shape), nets.device, seed, "siamese")
    return train_siamese(faces, nets.siamese, nets.read, config, seed=seed, folder=folder, name="siamese-without-task", progress=progress)


def AIAWithoutTask(profile: Profile | None = None, seed: int = 0, device: torch.device | None = None, **settings: float) -> AIA:
    """The paper's AIA\\T: AIA with alpha = 0."""
    return AIA(profile, seed, device, **{**settings, "alpha": 0.0})


class RandomMask(PaperMethod):
    """The paper's Random: half of the values of Original's g, chosen at random, become numbers drawn from U[0, 1].

    The draw depends on the seed and on the image's pixels alone: an image always gets the same mask, in whatever batch it comes.
    (Fresh noise at every call would average out over calls.)

    Args:
        base: the fitted `Original` whose g is masked; None makes `fit` fit one.
        per_image: True draws the replaced places for each image, False replaces the same places in all.
        share: how much of g is replaced.
        seed: of places and values.
        profile, device: as for `Original`, where `base` is None.
    """

    name = "Random"

    def __init__(
        self,
        base: Original | None = None,
        per_image: bool = True,
        share: float = 0.5,
        seed: int = 0,
        profile: Profile | None = None,
        device: torch.device | None = None,
    ) -> None:
        if not 0 <= share <= 1:
            raise UserError(f"share must be between 0 and 1, not {share!r}.")
        self.base = base or Original(profile, seed, device)  # its networks, attribute and history are this one's
        self.per_image, self.share, self.seed = per_image, share, seed

    def fit(self, faces: Faces, attribute: str | None = None, *, folder: str | Path | None = None, progress: bool = True) -> RandomMask:
        """Fit `base` on all of `faces` (pass the train split) where it is not fitted yet. The mask itself learns nothing."""
        if self.base.networks is None:
            self.base.fit(faces, attribute, folder=folder, progress=progress)
        return self

    @property
    def networks(self) -> Networks | None:
        """The networks of `base`."""
        return self.base.networks

    @property
    def attribute(self) -> str | None:
        """The attribute that the adversary of `base` was trained for."""
        return self.base.attribute

    @property
    def history(self) -> dict[str, History]:
        """The training history of `base`."""
        return self.base.history

    def __call__(self, images: Tensor) -> Tensor:
        """Images (N, 1, H, W) in [0, 1] to g (N, k) in [0, 1], a `share` of each row replaced."""
        g = fitted_networks(self).encode(images)  # (N, k)
        k = g.shape[1]
        count = round(self.share * k)
        fixed = np.random.default_rng(self.seed).permutation(k)[:count]
        pixels = (images.detach().cpu() * 255).round().to(torch.uint8).contiguous().numpy()  # (N, 1, H, W)
        for row, image in zip(g, pixels, strict=True):
            generator = np.random.default_rng((self.seed, zlib.crc32(image.tobytes())))
            places = generator.permutation(k)[:count] if self.per_image else fixed
            row[torch.from_numpy(places).to(g.device)] = torch.from_numpy(generator.random(count, dtype=np.float32)).to(g.device)
        return g

    def arguments(self) -> dict:
        """The profile's name, and the mask's settings."""
        return {"profile": self.base.profile.name, "per_image": self.per_image, "share": self.share}
