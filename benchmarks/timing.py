"""Timing on a machine that may be busy: candidates take turns; medians and quartiles of wall and processor time."""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from fgseg.encoders.networks.blocks import Linear, pack_weights

PROCESSOR_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def take_turns(
    candidates: Mapping[str, Callable[[], Any]], *, repeats: int, seconds: float = 60.0, warm_up: bool = True
) -> dict[str, dict[str, list[float]]]:
    """Wall and processor seconds of each candidate: one run each to warm up, then one run each per turn.

    Args:
        candidates: name -> function to time; each result is dropped at once.
        repeats: number of turns, at least one.
        seconds: no new turn starts after this time, except for the first two.
        warm_up: whether each has a first run that does not count; commands of their own need none.

    Returns:
        name -> {"wall": [...], "processor": [...]}, one number per turn, in order.
    """
    for run in candidates.values() if warm_up else ():
        run()
    times: dict[str, dict[str, list[float]]] = {name: {"wall": [], "processor": []} for name in candidates}
    started = time.perf_counter()
    for turn in range(repeats):
        if turn >= 2 and time.perf_counter() - started > seconds:
            break
        for name, run in candidates.items():
            wall, processor = time.perf_counter(), processor_seconds()
            run()
            times[name]["wall"].append(time.perf_counter() - wall)
            times[name]["processor"].append(processor_seconds() - processor)
    return times


def processor_seconds() -> float:
    """Processor time of this process and of the child processes that it waited for."""
    children = os.times()  # process_time does not include them
    return time.process_time() + children.children_user + children.children_system


def spread(values: list[float]) -> dict[str, float]:
    """Median, quartiles and number of values."""
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return {"median": _rounded(middle), "q1": _rounded(low), "q3": _rounded(high), "turns": len(values)}


def summary(times: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """Seconds of each candidate for JSON."""
    return {
        name: {"seconds": spread(both["wall"]), "processor_seconds": _rounded(statistics.median(both["processor"]))}
        for name, both in times.items()
    }


def ratio(times: dict[str, dict[str, list[float]]], slow: str, fast: str, *, scale: float = 1.0) -> dict[str, float]:
    """Ratio of the times of `slow` and `fast`: the median over turns, so that noise affects both.

    Args:
        times: what `take_turns` returned.
        slow: name of the numerator.
        fast: name of the denominator.
        scale: factor on the numerator, if the two did different amounts of the same work.
    """
    turns = [scale * a / b for a, b in zip(times[slow]["wall"], times[fast]["wall"], strict=True)]
    work = [scale * a / max(b, 1e-9) for a, b in zip(times[slow]["processor"], times[fast]["processor"], strict=True)]
    return {**spread(turns), "of_processor_time": _rounded(statistics.median(work))}


def _rounded(value: float) -> float:
    return float(f"{float(value):.4g}")


# --- the machine


def matmul_rate(dtype: str, *, rows: int = 2048) -> float:
    """Floating point operations per second of a product of ViT-B's sizes, the best of several.

    The product is torch's own or that on weights in oneDNN's memory order, whichever is faster. In float32 torch's own
    is MKL's, which is slow on processors that are not Intel's.
    """
    x = torch.randn(rows, 768).to(DTYPES[dtype])
    linear = Linear(768, 3072, bias=False).requires_grad_(False)
    linear.weight.normal_()
    linear.to(DTYPES[dtype])
    pack_weights(linear)
    with torch.inference_mode():
        return 2 * rows * 768 * 3072 / min(_best(lambda: linear(x)), _best(lambda: F.linear(x, linear.weight)))


def copy_rate() -> float:
    """Bytes per second of a copy that is larger than the cache (256 MB); reads and writes both count."""
    source = torch.ones(2**26)
    target = torch.empty_like(source)
    return 2 * source.nbytes / _best(lambda: target.copy_(source))


def _best(run: Callable[[], Any], repeats: int = 15) -> float:
    times = []
    for _ in range(repeats + 2):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times[2:])


def machine() -> dict[str, Any]:
    """The properties of the machine that a reader needs to judge the figures."""
    info = Path("/proc/cpuinfo")
    words = set(info.read_text(encoding="utf-8").split()) if info.is_file() else set()
    return {
        "processor": _processor_name(info),
        "flags": [flag for flag in PROCESSOR_FLAGS if flag in words],
        "cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "platform": platform.platform(terse=True),
    }


def _processor_name(info: Path) -> str:
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def load() -> float:
    """Load average of the last minute; times are inflated if it is above the number of cores."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else float("nan")


class Steps(TorchDispatchMode):
    """Counts, while it is active, the steps that a device would compute and how often the host waits for a value."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = self.waits = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.steps += not func.is_view
        self.waits += func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default)
        return func(*args, **(kwargs or {}))


# --- memory, in a fresh process


def resident_bytes() -> int:
    """Resident memory of this process in bytes."""
    return _status("VmRSS")


def reset_peak() -> None:
    """Reset `peak_bytes`."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_bytes() -> int:
    """Highest resident memory of this process in bytes since `reset_peak`, or since its start."""
    return _status("VmHWM")


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status: expected a line {name}, found none; memory can only be measured on Linux")


def in_fresh_process(script: Path, *arguments: str) -> dict[str, Any]:
    """The JSON that `script --child ...` prints in its last line."""
    done = subprocess.run(
        [sys.executable, str(script), "--child", *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{script.name} --child {' '.join(arguments)}: {done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


# --- results


def merge(path: Path, rows: Mapping[str, Any]) -> None:
    """Put rows into a JSON file in place of rows of the same name; the file is replaced in one step."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_text(json.dumps({**known, **rows}, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)
