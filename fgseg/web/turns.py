"""Turns: how many requests are worked on, and how many may wait."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from fgseg.web.limits import BusyError

__all__ = ["Turns"]


class Turns:
    """One request is worked on at a time, a bounded number waits, more are refused at once.

    One at a time because torch uses every core for one image already: side by side they would take as long and hold
    the memory of all.
    """

    def __init__(self, in_flight: int) -> None:
        """Take `in_flight`, requests at a time including the one worked on."""
        self._room = threading.BoundedSemaphore(in_flight)
        self._work = threading.Lock()
        self._in_flight = in_flight

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for this request's turn and hold it.

        Raises:
            BusyError: too many wait already.
        """
        if not self._room.acquire(blocking=False):
            raise BusyError(f"the server is busy with {self._in_flight} requests; try again in a moment")
        try:
            with self._work:
                yield
        finally:
            self._room.release()
