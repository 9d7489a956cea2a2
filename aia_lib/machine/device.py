"""Devices, precision and seeds: where tensors live, in which arithmetic, and from which random numbers."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import platform
import zlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from .files import UserError


def pick_device(name: str | None = None) -> torch.device:
    """CUDA where there is one, else Apple's MPS, else the CPU; or the device called `name`.

    Raises:
        UserError: `name` is not a device of this machine.
    """
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()  # the device "meta" has tensors and no numbers
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"There is no device {name!r} here; leave it out to take the best there is ({pick_device()}).") from error
    return device


def autocast(device: torch.device) -> contextlib.AbstractContextManager:
    """bfloat16 arithmetic where the hardware has it (recent NVIDIA cards, CPUs with AVX512-BF16 or AMX), else float32."""
    if device.type == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported()
    else:
        has_bf16 = device.type == "cpu" and getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()
    return torch.autocast(device.type, torch.bfloat16) if has_bf16 else contextlib.nullcontext()


@functools.cache
def keep_freed_memory() -> None:
    """Tell glibc to keep what is freed for the next allocation instead of giving it back to the system.

    Every step on the CPU frees and takes the same tensors of some megabytes. By default glibc unmaps them, and the system has
    to clear each page again at the next step: a third of the time of training the auto-encoder. Elsewhere this does nothing.
    """
    if platform.libc_ver()[0] == "glibc":
        trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # malloc.h
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_threshold, 32 << 20)  # the most that glibc accepts
        mallopt(trim_threshold, (1 << 31) - 1)
        mallopt(top_pad, 64 << 20)


def to_images(pixels: np.ndarray | Tensor, device: torch.device) -> Tensor:
    """Pixels uint8 (N, 1, H, W) to what networks read: float32 in [0, 1], channels last, on `device`; templates (N, d) as they are."""
    if not isinstance(pixels, Tensor):
        pixels = torch.from_numpy(np.require(pixels, requirements=("C", "W")))  # copies what is read-only
    if pixels.ndim == 2:
        return pixels.to(device)
    return pixels.to(device).to(torch.float32, memory_format=torch.channels_last).div_(255)


def derive_seed(*parts: int | str) -> int:
    """One seed out of several numbers and names, the same on every machine."""
    return zlib.crc32(":".join(map(str, parts)).encode()) + 1


@contextlib.contextmanager
def seeded(*parts: int | str) -> Iterator[None]:
    """Inside, torch's global generator (used to initialise layers) is seeded with `parts`; after, it is as it was before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(*parts))
        yield


def adam(parameters: Iterable, learning_rate: float, device: torch.device) -> torch.optim.Adam:
    """Adam, as one fused kernel where torch has it: on the CPU it takes a fifteenth of the plain one's time."""
    return torch.optim.Adam(parameters, lr=learning_rate, fused=device.type in ("cpu", "cuda") or None)


def build(factory: Callable[[], nn.Module], device: torch.device, *seed: int | str) -> nn.Module:
    """A network with weights initialised from `seed`, on `device`, its convolutions laid out channels last."""
    with seeded(*seed):
        module = factory()
    return module.to(device, memory_format=torch.channels_last) if any(p.ndim == 4 for p in module.parameters()) else module.to(device)


def device_of(module: nn.Module) -> torch.device:
    """Where the module's first parameter lives."""
    return next(module.parameters()).device
