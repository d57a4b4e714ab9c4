"""Turns: how many requests are worked on, and how many may wait."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from fgseg.web.limits import BusyError

__all__ = ["Turns"]

T = TypeVar("T")


class Turns:
    """One request is worked on at a time, a bounded number waits, more are refused at once.

    One at a time because torch uses every core for one picture already: side by side they would take as long and hold
    the memory of all. Always by the same thread, since each thread that torch meets gets threads and memory of its own:
    sixteen users on sixteen threads held 400 MB more.
    """

    def __init__(self, in_flight: int) -> None:
        """Take `in_flight`, requests at a time including the one worked on."""
        self._room = threading.BoundedSemaphore(in_flight)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="fgseg-web")
        self._in_flight = in_flight

    def take(self, work: Callable[[], T]) -> T:
        """Wait for this request's turn, and do its work.

        Raises:
            BusyError: too many wait already. Also what `work` raises.
        """
        if not self._room.acquire(blocking=False):
            raise BusyError(f"the server is busy with {self._in_flight} requests; try again in a moment")
        try:
            return self._worker.submit(work).result()
        finally:
            self._room.release()

    def close(self) -> None:
        """Take no further work."""
        self._worker.shutdown(wait=False, cancel_futures=True)
