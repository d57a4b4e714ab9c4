"""Devices and number formats, and which of them this machine computes fast."""

import os
import platform
from pathlib import Path

import torch

from fgseg.errors import DeviceError

__all__ = ["has_fast_bfloat16", "is_x86", "pick_device", "pick_dtype"]

# oneDNN's names of instruction sets without bfloat16 products
_ISA_WITHOUT_BFLOAT16 = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"}


def has_fast_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices natively (AVX512-BF16 or AMX); if not, float32 is faster."""
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in _ISA_WITHOUT_BFLOAT16:
        return False
    flags = Path("/proc/cpuinfo")
    if not flags.is_file():
        return False
    names = set(flags.read_text(encoding="utf-8", errors="replace").split())
    return not names.isdisjoint({"avx512_bf16", "amx_bf16"})


def is_x86() -> bool:
    """Whether the processor belongs to the x86 family."""
    return platform.machine().lower() in {"x86_64", "amd64"}


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_device(device: str | torch.device) -> torch.device:
    """The torch device of a name; `auto` takes CUDA, then Apple's MPS, then the CPU.

    Raises:
        DeviceError: an unknown device, or one that this machine lacks.
    """
    if device == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        picked = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise DeviceError(f"device: expected auto, cpu, cuda, cuda:N or mps, got {device!r}") from error
    counts = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if (picked.index or 0) >= counts.get(picked.type, 0):
        have = ", ".join(f"{name} ({count})" for name, count in counts.items() if count)
        raise DeviceError(f"device: {device!r} is not on this machine, which has {have}; use device='auto'")
    return picked


def pick_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """The torch dtype of a name; `auto` takes bfloat16 where the device multiplies it natively, else float32.

    Raises:
        DeviceError: a name that is not in DTYPES.
    """
    if isinstance(dtype, torch.dtype):
        dtype = str(dtype).removeprefix("torch.")
    if dtype == "auto":
        # torch also counts cards that only emulate bfloat16, on which float32 is faster
        is_fast = {"cuda": lambda: torch.cuda.is_bf16_supported(including_emulation=False), "cpu": has_fast_bfloat16}
        return torch.bfloat16 if is_fast.get(device.type, bool)() else torch.float32
    if dtype not in DTYPES:
        raise DeviceError(f"dtype: expected one of auto, {', '.join(DTYPES)}, got {dtype!r:.60}")
    return DTYPES[dtype]
