"""What of a machine a worker uses: threads, cores and devices."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import cv2
import torch

__all__ = ["cores", "limit_threads", "share_devices"]


def limit_threads(count: int) -> None:
    """Let torch and OpenCV use so many threads in this process."""
    torch.set_num_threads(count)
    cv2.setNumThreads(count)


def cores() -> int:
    """The number of processor cores that this process may use, also within the limit of a container."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        available = min(available, max(1, round(int(quota) / int(period))))  # "max" is no number
    return available


def share_devices(device: torch.device, asked: str) -> tuple[str, ...]:
    """The devices that workers share: every GPU, unless one was named."""
    if device.type != "cuda" or ":" in asked:
        return (str(device),)
    return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))
