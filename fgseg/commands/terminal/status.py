"""The last line of the terminal: what is being done, and for how long.

It is drawn on stderr, only on a terminal, after half a second, and again twice a second, so that a long step never
looks like one that hangs. There is one such line in a process, as there is one terminal.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from shutil import get_terminal_size
from typing import Any, Protocol

__all__ = ["CLEAR_LINE", "STATUS", "StatusLine"]

CLEAR_LINE = "\r\x1b[K"
_PERIOD = 0.5  # seconds between two drawings
_QUICK = 0.5  # seconds; steps that take less are not shown


class Bar(Protocol):
    """A progress bar that can be drawn again."""

    def refresh(self) -> Any:
        """Draw the bar with the time that has passed."""


class StatusLine:
    """A line that says what is being done; call it with the step, how much is done and how much there is in all."""

    def __init__(self) -> None:
        """Draw nothing until `start`."""
        self._lock = threading.Lock()
        self._is_on = self._is_drawn = False
        self._whole = self._step = self._counts = ""
        self._since = 0.0
        self._bar: Bar | None = None

    def start(self, *, quiet: bool) -> None:
        """Show steps from now on, if stderr is a terminal and `quiet` is false."""
        is_running, self._is_on = self._is_on, not quiet and sys.stderr.isatty()
        if self._is_on and not is_running:
            self("starting", 0, 0)
            threading.Thread(target=self._draw_often, name="status", daemon=True).start()

    def stop(self) -> None:
        """Clear the line and show no more steps."""
        self._is_on = False
        self.clear()

    def __call__(self, step: str, done: int, total: int) -> None:
        """Show a step; one of which all is done gives way to the step that it is a part of."""
        with self._lock:
            step = self._whole if total and done >= total else step
            if step != self._step:
                self._step, self._since = step, time.monotonic()
            self._counts = f" {done}/{total}" if step != self._whole and total > 1 else ""
            if not step:
                self._erase()

    def clear(self) -> None:
        """Leave the line to something else."""
        with self._lock:
            self._whole = self._step = ""
            self._erase()

    @contextmanager
    def during(self, step: str) -> Iterator[None]:
        """Show a step until the block ends; steps inside are parts of it."""
        self._whole = step
        self(step, 0, 0)
        try:
            yield
        finally:
            self.clear()

    @contextmanager
    def refreshing(self, bar: Bar) -> Iterator[None]:
        """Draw a progress bar instead, again and again until the block ends, so that its time goes on."""
        outer, self._bar = self._bar, bar
        try:
            yield
        finally:
            self._bar = outer

    def _draw_often(self) -> None:
        while self._is_on:
            time.sleep(_PERIOD)
            with self._lock:
                if self._is_on:
                    self._draw()

    def _draw(self) -> None:
        seconds = time.monotonic() - self._since
        if self._bar is not None:
            self._bar.refresh()
        elif self._step and (self._is_drawn or seconds >= _QUICK):
            time_passed = f"{self._counts}, {seconds:.0f} s"
            room = get_terminal_size().columns - len(time_passed) - 1  # a line that wraps could not be cleared
            self._write(f"{CLEAR_LINE}{f'fgseg: {self._step}':.{max(room, 8)}}{time_passed}")
            self._is_drawn = True

    def _erase(self) -> None:
        if self._is_drawn:
            self._write(CLEAR_LINE)
            self._is_drawn = False

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


STATUS = StatusLine()
