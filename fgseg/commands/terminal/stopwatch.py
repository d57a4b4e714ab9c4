"""How long a command takes, in all and for each of its stages."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Stopwatch", "duration"]


class Stopwatch:
    """Seconds since it was made, and seconds of each stage.

    Attributes:
        stages: seconds by stage, in the order in which they first began.
    """

    def __init__(self) -> None:
        """Start."""
        self._started = time.perf_counter()
        self.stages: dict[str, float] = {}

    @contextmanager
    def during(self, stage: str) -> Iterator[None]:
        """Add the time of the block to a stage."""
        started = time.perf_counter()
        self.stages.setdefault(stage, 0.0)
        try:
            yield
        finally:
            self.stages[stage] += time.perf_counter() - started

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return time.perf_counter() - self._started

    def __str__(self) -> str:
        """The seconds of each stage and of the rest, in one line."""
        rest = max(0.0, self.seconds - sum(self.stages.values()))
        return ", ".join(f"{stage} {spent:.2f} s" for stage, spent in {**self.stages, "other": rest}.items())


def duration(seconds: float) -> str:
    """A time in words.

    Examples:
        >>> duration(0.84), duration(75), duration(8000)
        ('0.8 s', '1 min 15 s', '2 h 13 min')
    """
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
