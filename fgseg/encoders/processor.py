"""What this machine's processor multiplies, by which dtype and the ways through a model are chosen."""

import os
import platform
from pathlib import Path

__all__ = ["has_fast_bfloat16", "has_matrix_unit", "is_x86"]

# oneDNN's names of instruction sets that cannot multiply bfloat16
_ISA_WITHOUT_BFLOAT16 = {"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"}


def has_fast_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices natively (AVX512-BF16 or AMX); else bf16 is slower than float32."""
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in _ISA_WITHOUT_BFLOAT16:
        return False
    return not _flags().isdisjoint({"avx512_bf16", "amx_bf16"})


def has_matrix_unit() -> bool:
    """Whether this CPU has a unit for products of bfloat16 matrices (AMX)."""
    return "amx_bf16" in _flags()


def is_x86() -> bool:
    """Whether this is a processor of the x86 family."""
    return platform.machine().lower() in {"x86_64", "amd64"}


def _flags() -> set[str]:
    """Words that Linux says of the processor; none elsewhere."""
    file = Path("/proc/cpuinfo")
    return set(file.read_text(encoding="utf-8", errors="replace").split()) if file.is_file() else set()
