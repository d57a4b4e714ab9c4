"""Work in own processes on this machine; a process that dies is replaced, and its task is tried again.

Processes are spawned, not forked, because torch's threads do not survive a fork. A process ends by itself as soon as
its parent has died. Only the parent prints: log lines of a process are sent to it.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import traceback
import warnings
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection, get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, TypeVar

from fgseg.errors import BatchError, FgsegError

__all__ = [
    "Done",
    "Event",
    "Retried",
    "Tell",
    "Told",
    "Work",
    "WorkerDied",
    "ended_by",
    "portable",
    "run_tasks",
]

T = TypeVar("T")

Tell = Callable[[Any], None]
"""Sends a value to the parent before a task is done."""
Work = Callable[[Any, Tell], Any]
"""Does a task and returns its result. Both are pickled, so they should be small."""

_MOST_FAILED_STARTS = 10  # in a row; more mean that no process gets ready here, for instance for want of memory
_GRACE = 5.0  # seconds that a process may take to end

log = logging.getLogger("fgseg")


@dataclass(frozen=True)
class Told(Generic[T]):
    """A value that a process sent before its task was done."""

    task: T
    value: Any


@dataclass(frozen=True)
class Done(Generic[T]):
    """A task with its result."""

    task: T
    value: Any


@dataclass(frozen=True)
class Retried(Generic[T]):
    """A task whose process died and which will be tried again; what was told of it does not count.

    Attributes:
        exit_code: of the process; -9 is a kill by signal 9.
    """

    task: T
    exit_code: int | None


@dataclass(frozen=True)
class WorkerDied(Generic[T]):
    """A task whose process died in every try."""

    task: T
    exit_code: int | None


Event = Told[T] | Done[T] | Retried[T] | WorkerDied[T]


def run_tasks(
    make_work: Callable[[int], Work], tasks: Sequence[T], *, workers: int, tries: int
) -> Generator[Event[T], None, None]:
    """Do tasks in processes, and yield what happens.

    Closing the iterator, or an exception at its place, ends the processes.

    Args:
        make_work: called in each process with the number of its place, 0 to workers - 1; picklable.
        tasks: picklable and hashable.
        workers: the number of processes; no more than tasks are started.
        tries: a task whose process dies so often is given up.

    Raises:
        BatchError: processes end before they are ready, or raise what is no FgsegError.
        FgsegError: as the process raised it.
    """
    pool = _Pool(make_work, deque(tasks), tries)
    try:
        pool.start(min(workers, len(tasks)))
        while pool.is_busy:
            yield from pool.events()
    finally:
        pool.stop()


class _Worker(Generic[T]):
    """A process, the end of its pipe, and the task that it has."""

    def __init__(self, place: int, make_work: Callable[[int], Work]) -> None:
        context = get_context("spawn")
        self.place, self.is_ready = place, False
        self.task: T | None = None
        self.pipe, far_end = context.Pipe()
        self.process: SpawnProcess = context.Process(
            target=_serve,
            args=(place, make_work, far_end, log.getEffectiveLevel()),
            name=f"fgseg-{place}",
            daemon=False,
        )
        with _ignoring_ctrl_c():
            self.process.start()
        far_end.close()  # so that the pipe ends with the process

    def give(self, task: T) -> None:
        self.task = task
        with suppress(OSError):  # it has just died, and reading will tell
            self.pipe.send(task)


class _Pool(Generic[T]):
    """The state of `run_tasks`."""

    def __init__(self, make_work: Callable[[int], Work], waiting: deque[T], tries: int) -> None:
        self._make_work, self._waiting, self._tries = make_work, waiting, tries
        self._workers: dict[Connection, _Worker[T]] = {}
        self._deaths: Counter[T] = Counter()
        self._failed_starts = 0

    @property
    def is_busy(self) -> bool:
        """Whether a task waits or is being done."""
        return bool(self._waiting) or any(worker.task is not None for worker in self._workers.values())

    def start(self, count: int) -> None:
        for place in range(count):
            self._add(place)

    def events(self) -> Iterator[Event[T]]:
        """Wait until something happens, and handle it."""
        for pipe in connection.wait(list(self._workers)):
            assert isinstance(pipe, Connection)
            worker = self._workers[pipe]
            try:
                kind, value = pipe.recv()
            except (EOFError, OSError):  # OSError: it was killed while it sent
                yield from self._replace(worker)
            else:
                yield from self._handle(worker, kind, value)

    def stop(self) -> None:
        """End the processes at once; those without a task end by themselves."""
        workers = list(self._workers.values())
        for worker in workers:
            worker.pipe.close()
            if worker.task is not None or not worker.is_ready:
                worker.process.terminate()
        for worker in workers:
            worker.process.join(_GRACE)
            worker.process.kill()
            worker.process.join()
        self._workers.clear()

    def _add(self, place: int) -> None:
        worker: _Worker[T] = _Worker(place, self._make_work)
        self._workers[worker.pipe] = worker

    def _handle(self, worker: _Worker[T], kind: str, value: Any) -> Iterator[Event[T]]:
        if kind == "log":
            log.log(*value)
        elif kind == "failed":
            raise value
        elif kind == "ready":
            worker.is_ready = True
            self._failed_starts = 0
            self._give_next(worker)
        elif worker.task is not None:
            task = worker.task
            if kind == "told":
                yield Told(task, value)
            else:
                self._give_next(worker)
                yield Done(task, value)

    def _give_next(self, worker: _Worker[T]) -> None:
        worker.task = None
        if self._waiting:
            worker.give(self._waiting.popleft())

    def _replace(self, worker: _Worker[T]) -> Iterator[Event[T]]:
        """Start another process in place of one that has died; its task comes next."""
        del self._workers[worker.pipe]
        worker.pipe.close()
        worker.process.join()
        code, task = worker.process.exitcode, worker.task
        if not worker.is_ready:
            self._check_start(code)
        if task is not None:
            self._deaths[task] += 1
            if self._deaths[task] < self._tries:
                self._waiting.appendleft(task)
                yield Retried(task, code)
            else:
                yield WorkerDied(task, code)
        if self._waiting:
            self._add(worker.place)

    def _check_start(self, code: int | None) -> None:
        self._failed_starts += 1
        if self._failed_starts >= _MOST_FAILED_STARTS or (code or 0) > 0:
            raise BatchError(
                f"workers: a process ended before it was ready ({ended_by(code)}); use fewer workers if memory is "
                "short, and call fgseg.batch below `if __name__ == '__main__':` in a script"
            )


def ended_by(code: int | None) -> str:
    """How a process ended, in words.

    >>> ended_by(-9), ended_by(3)
    ('killed by SIGKILL', 'exit status 3')
    """
    if code is not None and code < 0:
        with suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit status {code}"


@contextmanager
def _ignoring_ctrl_c() -> Iterator[None]:
    """Start processes that never see Ctrl-C, which reaches all processes of a terminal; the parent ends them.

    A blocked signal stays blocked in a new process. The parent gets what came meanwhile at the end of the block.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(place: int, make_work: Callable[[int], Work], pipe: Connection, level: int) -> None:
    """What a process does: get ready, then one task after another until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    warnings.filterwarnings("ignore", category=UserWarning, module="PIL")  # an unreadable file raises an error as well
    far_end = _FarEnd(pipe)
    log.handlers[:] = [_Sender(far_end)]
    log.setLevel(level)
    try:
        work = make_work(place)
        far_end.send("ready", None)
        for task in far_end.tasks():
            far_end.send("done", work(task, partial(far_end.send, "told")))
    except Exception as error:
        far_end.send("failed", portable(error))


class _FarEnd:
    """The end of the pipe in a process. Where the parent has closed it, the process ends."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()  # log lines come from several threads

    def tasks(self) -> Iterator[Any]:
        while True:
            try:
                yield self._pipe.recv()
            except (EOFError, OSError):
                return

    def send(self, kind: str, value: Any) -> None:
        try:
            with self._lock:
                self._pipe.send((kind, value))
        except OSError:
            os._exit(1)


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def portable(error: Exception) -> FgsegError:
    """The error as one that can be sent; its traceback is a note, which -v shows.

    >>> portable(ZeroDivisionError("by 0"))
    BatchError('a worker failed: ZeroDivisionError: by 0')
    """
    known = error if isinstance(error, FgsegError) else BatchError(f"a worker failed: {type(error).__name__}: {error}")
    known.add_note(traceback.format_exc())
    return known


class _Sender(logging.Handler):
    """Sends log lines to the parent."""

    def __init__(self, far_end: _FarEnd) -> None:
        super().__init__()
        self._far_end = far_end

    def emit(self, record: logging.LogRecord) -> None:
        self._far_end.send("log", (record.levelno, "%s", record.getMessage()))
