"""Device and type of tensors, chosen automatically or by name."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's names for what `mallopt` sets


def choose_device(device: str) -> torch.device:
    """Return the named device; for ``auto`` the first GPU, or the CPU without one.

    ValueError, whose message names this machine's devices, is raised if it has no such device.

    Examples:
        >>> choose_device("cpu")
        device(type='cpu')
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    available = ["cpu"]
    if torch.accelerator.is_available() and (accelerator := torch.accelerator.current_accelerator()) is not None:
        numbers = range(torch.accelerator.device_count())
        available += [accelerator.type, *(f"{accelerator.type}:{number}" for number in numbers)]
    if device not in available:
        raise ValueError(
            f"device is {device!r}, but this machine has {', '.join(available)}: set lens.device, retriever.device "
            "or `device` of the catalog entry to auto or to one of these."
        )
    return torch.device(device)


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """Return the named torch type; for ``auto`` bfloat16 where the device multiplies it fast, else float32.

    Examples:
        >>> choose_dtype("float32", torch.device("cpu"))
        torch.float32
        >>> choose_dtype("float31", torch.device("cpu"))
        Traceback (most recent call last):
        ...
        ValueError: dtype is 'float31'; expected auto, bfloat16, float16 or float32.
    """
    if dtype == "auto":
        if device.type == "cuda":
            fast = torch.cuda.get_device_capability(device) >= (8, 0)
        else:
            fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return torch.bfloat16 if fast else torch.float32
    named = getattr(torch, dtype, None)
    if dtype not in ("bfloat16", "float16", "float32") or not isinstance(named, torch.dtype):
        raise ValueError(f"dtype is {dtype!r}; expected auto, bfloat16, float16 or float32.")
    return named


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the random numbers of the CPU and a device inside the context, and restore their states afterwards.

    Examples:
        >>> before = torch.get_rng_state()
        >>> with seeded(0, torch.device("cpu")):
        ...     drawn = torch.rand(2)
        >>> drawn.equal(torch.rand(2, generator=torch.Generator().manual_seed(0)))
        True
        >>> torch.get_rng_state().equal(before)
        True
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if device.type == "cpu":  # for GPUs to come, torch.manual_seed would note down the stack of each call
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)
        yield


def keep_freed_memory() -> None:
    """Keep the memory of freed tensors in this process instead of returning it to the system.

    Activations of a few MiB come and go with every layer. By default, glibc returns such pages to the system, which
    clears them before it hands them out again: a fifth of a forward pass on a CPU. From now on, freed blocks of up to
    32 MiB, the maximum of every glibc, stay with the process. Without glibc, nothing changes.
    """
    if psutil.LINUX and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(M_TRIM_THRESHOLD, -1)  # never
        mallopt(M_MMAP_THRESHOLD, 2**25)
