"""What this machine's processor is, by which dtypes and products are chosen."""

import os
import platform
from pathlib import Path

__all__ = ["has_fast_bfloat16", "is_x86"]

# oneDNN's names of instruction sets that cannot multiply bfloat16
_ISA_WITHOUT_BFLOAT16 = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"}


def has_fast_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices natively (AVX512-BF16 or AMX); else bf16 is slower than float32."""
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in _ISA_WITHOUT_BFLOAT16:
        return False
    flags = Path("/proc/cpuinfo")
    if not flags.is_file():
        return False
    words = set(flags.read_text(encoding="utf-8", errors="replace").split())
    return not words.isdisjoint({"avx512_bf16", "amx_bf16"})


def is_x86() -> bool:
    """Whether this is a processor of the x86 family."""
    return platform.machine().lower() in {"x86_64", "amd64"}
