"""One run on a device: its limit of time, its file of results, and its timer."""

from __future__ import annotations

import contextlib
import json
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from timing import Steps, spread

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
Times = Mapping[str, list[float]]


@dataclass
class Session:
    """A run on a device.

    Attributes:
        device: of the models and the scores.
        out: the JSON file, which is written after each part.
        ends: the moment of `time.monotonic` at which everything has to be over.
        tiny: tiny models and images, for a dry run.
        compiled: whether torch.compile is among the candidates.
        found: step -> part -> figures.
    """

    device: torch.device
    out: Path
    ends: float
    tiny: bool
    compiled: bool
    found: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a CUDA card."""
        return self.device.type == "cuda"

    def part(self, step: str, name: str, work: Callable[[], Mapping[str, Any]], *, seconds: float = 10) -> None:
        """Do one part and write what it found; a part that fails, or that the time is too short for, is written too.

        Args:
            step: the step it belongs to.
            name: its name in the file.
            work: returns the figures.
            seconds: that it is expected to take on a card.
        """
        started = time.monotonic()
        if started + (0 if self.tiny else seconds) > self.ends:
            row: dict[str, Any] = {"skipped": f"{self.ends - started:.0f} s were left"}
        else:
            try:
                row = dict(work())
            except Exception as error:  # the other parts are still measured
                row = {"error": f"{type(error).__name__}: {error}"[:500]}
            row["took_seconds"] = round(time.monotonic() - started, 2)
        self.found.setdefault(step, {})[name] = row
        self.write()
        print(f"{step}, {name}: {json.dumps(row)[:600]}", flush=True)

    def write(self) -> None:
        """Write all that was found; the file is replaced in one step."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.out.with_suffix(".part")
        temporary.write_text(json.dumps(self.found, indent=2) + "\n", encoding="utf-8")
        temporary.replace(self.out)

    def wait(self) -> None:
        """Wait until the device has done everything."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def turns(self, candidates: Mapping[str, Callable[[], Any]], *, repeats: int = 20, seconds: float = 4) -> Times:
        """Seconds of candidates that take turns, the wait for the device included; one that fails is left out.

        Args:
            candidates: name -> function; each runs twice to warm up.
            repeats: number of turns.
            seconds: no new turn starts after this time, except for the first two.
        """
        able = {name: run for name, run in candidates.items() if self._warm(name, run)}
        times: dict[str, list[float]] = {name: [] for name in able}
        started = time.monotonic()
        for turn in range(2 if self.tiny else repeats):
            if turn >= 2 and time.monotonic() - started > seconds:
                break
            for name, run in able.items():
                self.wait()
                before = time.perf_counter()
                run()
                self.wait()
                times[name].append(time.perf_counter() - before)
        return times

    def _warm(self, name: str, run: Callable[[], Any]) -> bool:
        try:
            run()
            if not self.tiny:
                run()
            self.wait()
        except Exception as error:
            print(f"  {name}: {type(error).__name__}: {error}"[:300], flush=True)
            return False
        return True

    @cached_property
    def matmul_rates(self) -> dict[str, float]:
        """Operations per second of a large product of random matrices in each dtype."""
        side, rates = (256 if self.tiny else 8192), {}
        for name, dtype in DTYPES.items():
            a, b = (torch.randn(side, side, device=self.device).to(dtype) for _ in range(2))
            times = self.turns({"product": lambda a=a, b=b: a @ b}, repeats=10, seconds=2)
            rates[name] = 2 * side**3 / spread(times["product"])["median"]
        return rates

    @cached_property
    def copy_rate(self) -> float:
        """Bytes per second of a copy within the device's memory; reads and writes both count."""
        source = torch.ones(2**16 if self.tiny else 2**29, device=self.device)
        target = torch.empty_like(source)
        times = self.turns({"copy": lambda: target.copy_(source)}, repeats=10, seconds=2)
        return 2 * source.nbytes / spread(times["copy"])["median"]

    def waits(self, run: Callable[[], Any]) -> int:
        """How often the host waits for the device: torch's own count on a card, values that are read on a CPU.

        An explicit wait for a stream, such as the one of `fgseg.upsample.tensors.to_host`, is not in torch's count.
        """
        if not self.on_gpu:
            with Steps() as counted:
                run()
            return counted.waits
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return sum("synchroniz" in str(one.message) for one in caught)


def ratio(times: Times, numerator: str, denominator: str, *, scale: float = 1.0) -> float:
    """The median over turns of the ratio of two candidates' times."""
    pairs = zip(times[numerator], times[denominator], strict=True)
    return spread([scale * above / below for above, below in pairs])["median"]


@contextlib.contextmanager
def setting(owner: Any, name: str, value: Any) -> Iterator[None]:
    """An attribute with another value for a while."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
