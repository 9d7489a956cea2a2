"""What a sweep costs on other machines, from measured speeds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..config import SPLIT_FRACTIONS, Profile
from ..machine.files import UserError, whole_number


@dataclass(frozen=True)
class Speeds:
    """Measured constants of one kind of machine, all at one image size. Nothing here has a default: they must come from measurements.

    Attributes:
        decode: images a second that one CPU decodes into the cache.
        autoencoder, adversary, siamese: images a second (of the Siamese: pairs) that training takes in, stages 1 to 3, on one device.
        finetune: images a second of stage 4 on one device, summed over the points that it trains at once.
        audit: seconds of one audit, of the whole set of faces it was measured on.
        audit_images: how many images that set had.
    """

    decode: float
    autoencoder: float
    adversary: float
    siamese: float
    finetune: float
    audit: float
    audit_images: int

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
                raise UserError(f"Speeds.{name} must be a positive number, not {value!r}.")


@dataclass(frozen=True)
class Cost:
    """What a sweep costs.

    Attributes:
        hours: of the clock, by part: "prepare", "stages 1 to 3", "stage 4", "audits".
        device_hours: of all devices together, what a provider charges for; without "prepare", which needs CPUs only.
        cache_bytes: of the cache's images.
    """

    hours: dict[str, float]
    device_hours: float
    cache_bytes: int

    @property
    def total(self) -> float:
        """Hours of the clock from the first image decoded to the last audit, one part after the other."""
        return sum(self.hours.values())

    def __str__(self) -> str:
        lines = [f"{part:<14}{hours:>10.2f} h" for part, hours in {**self.hours, "in all": self.total}.items()]
        return "\n".join([*lines, f"{self.device_hours:,.2f} device hours, {self.cache_bytes / 1e9:,.1f} GB of cache"])


CELEBA_IMAGES = 202_599

VGGFACE2_IMAGES = 3_310_000
"""Images of the two sets; of VGGFace2 as its authors give them, rounded to ten thousand."""


def sweep_cost(
    images: int, points: int, speeds: Speeds, profile: Profile, *, devices: int = 1, cpus: int = 1, seeds: int = 3, stack: int = 1
) -> Cost:
    """The cost of a sweep from measured speeds: images, points, devices to hours.

    With N images, of which the share s = 0.4 trains (`config.SPLIT_FRACTIONS`), E epochs and v images a second, a training takes
    s N E / v. Stages 1 to 3 come once a seed, stage 4 and an audit once a point and seed, one more audit a seed for Original:

        prepare         N / (decode * cpus)
        stages 1 to 3   ceil(seeds / devices) * s N (E_1/v_1 + E_2/v_2 + E_3/v_3)
        stage 4         ceil(seeds * ceil(points / stack) / devices) * stack * s N E_4 / v_4
        audits          ceil(seeds * (points + 1) / devices) * audit * N / audit_images

    It is a model: that parts do not wait for the disk or the network, that devices are alike, that a job is one device's alone, that
    work grows in proportion to N (early stopping and the audit's steps at least make it grow less: the hours are an upper
    bound there), and that the split is by people of equally many images. It knows nothing of failures, queues or prices.

    Args:
        images: N of the whole data set, as `CELEBA_IMAGES`.
        points: settings (alpha, beta) of the sweep; the paper's Fig. 2 has 21.
        speeds: measured on the machine in question, with the profile's image size.
        profile: gives the epochs and the image size.
        devices: GPUs, or machines where training is the CPUs' work.
        cpus: of all nodes together, for decoding.
        seeds: trainings of each point.
        stack: points trained as one program on one device; `speeds.finetune` must have been measured so.

    Raises:
        UserError: a number is not a whole one of at least 1.
    """
    counts = {"images": images, "points": points, "devices": devices, "cpus": cpus, "seeds": seeds, "stack": stack}
    for name, value in counts.items():
        whole_number(name, value)

    def hours(stage: str) -> float:
        """Of one training."""
        return SPLIT_FRACTIONS[0] * images * getattr(profile, stage).epochs / getattr(speeds, stage) / 3600

    first, finetune = hours("autoencoder") + hours("adversary") + hours("siamese"), hours("finetune")
    audit = speeds.audit * images / speeds.audit_images / 3600
    audits, stacks = seeds * (points + 1), seeds * math.ceil(points / stack)
    return Cost(
        hours={
            "prepare": images / speeds.decode / cpus / 3600,
            "stages 1 to 3": math.ceil(seeds / devices) * first,
            "stage 4": math.ceil(stacks / devices) * min(stack, points) * finetune,
            "audits": math.ceil(audits / devices) * audit,
        },
        device_hours=seeds * first + seeds * points * finetune + audits * audit,
        cache_bytes=images * profile.size**2,
    )
