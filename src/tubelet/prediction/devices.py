"""Choose where a model runs and in which number format."""

import ctypes
import os
from functools import cache

import torch

from tubelet.errors import ConfigError

__all__ = ["choose_device", "choose_precision"]


def choose_device(name: str = "auto", number: int = 0) -> torch.device:
    """Turn `auto`, `cpu`, `cuda`, `cuda:1`, `1` or `mps` into a device that is there; auto takes the fastest.

    `auto` and `cuda` take GPU number `number`, where several processes share a machine. Where it is the CPU, this
    process keeps the memory that it has freed from now on, as PyTorch does on a GPU.

    Raises:
        ConfigError: a device that this machine does not have.
    """
    device = _find_device(name, number)
    if device.type == "cpu":
        _keep_freed_memory()
    return device


def _find_device(name: str, number: int) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", number)
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(f"cuda:{number}" if name == "cuda" else f"cuda:{name}" if name.isdecimal() else name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"cannot use device '{name}' - PyTorch says: {reason} - choose auto or cpu.") from None
    return device


@cache
def _keep_freed_memory() -> None:
    """Have glibc reuse large blocks of memory, not hand them back and be given new ones, page by page, at every step.

    That costs 5 % of a training step of videomae_small and 15 % of its forward passes with 8 clips. Elsewhere than on
    Linux with glibc, and where the environment says how memory is to be managed, nothing changes.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None or any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ):
        return
    for option, limit in ((_TRIM_THRESHOLD, 2**31 - 1), (_MMAP_THRESHOLD, 2**30)):
        mallopt(option, limit)


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Numbers of glibc's options: how much free memory at the end is kept; from which size on a block is mapped alone."""


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """Turn `auto`, `fp32`, `bf16` or `fp16` into a number format of forward passes; auto is bf16 where it is native.

    On a CPU that means units for matrices in bf16 (AMX: Intel Xeon since 2023): every model that was measured with them
    trains faster than in fp32, in 0.42 to 0.9 of the time.
    """
    if name == "auto":
        return torch.bfloat16 if _has_native_bfloat16(device) else torch.float32
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]


def _has_native_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and torch.cpu._is_amx_tile_supported()
