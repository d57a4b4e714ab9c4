"""Temporary folders that outlive no process.

The process that makes one holds a lock on it. The system frees the lock when the process ends, even by kill -9 or a
crash, so a later process can tell the folders of the dead from those of the living, and removes them.
"""

import os
import re
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

if sys.platform != "win32":  # where no folder can be locked, so none is removed for another process
    import fcntl

__all__ = ["private_folder", "remove_abandoned", "temporary_folder"]

_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.part")


@contextmanager
def private_folder(prefix: str) -> Iterator[Path]:
    """A folder in the system's place for temporary files that only this user can read; removed when the block ends.

    The folders with this prefix of processes that were killed are removed first.
    """
    _remove_abandoned_once(Path(tempfile.gettempdir()), re.compile(re.escape(prefix) + r"\w+"))
    with _locked_folder(lambda: Path(tempfile.mkdtemp(prefix=prefix))) as folder:
        yield folder


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """A locked folder that is removed when the block ends."""

    def make() -> Path:
        folder = parent / f".{uuid.uuid4().hex}.part"
        folder.mkdir()  # not by tempfile, whose folders stay readable by their owner only
        return folder

    _remove_abandoned_once(parent.absolute())
    with _locked_folder(make) as folder:
        yield folder


@contextmanager
def _locked_folder(make: Callable[[], Path]) -> Iterator[Path]:
    folder, lock = _made_and_locked(make)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _unlock(lock)


def _made_and_locked(make: Callable[[], Path]) -> tuple[Path, int | None]:
    while True:
        folder = make()
        # Another process may remove the folder before it is locked; then the next one is tried.
        with suppress(BlockingIOError, FileNotFoundError):
            return folder, _lock(folder)


def remove_abandoned(parent: Path, names: re.Pattern[str] = _TEMPORARY) -> None:
    """Remove the temporary folders of processes that have ended."""
    with suppress(OSError):
        for folder in parent.iterdir():
            if names.fullmatch(folder.name) and folder.is_dir() and not folder.is_symlink():
                with suppress(BlockingIOError, FileNotFoundError, PermissionError):  # the last for other users' folders
                    lock = _lock(folder)
                    if lock is not None:
                        shutil.rmtree(folder, ignore_errors=True)
                    _unlock(lock)


# Once per process and folder, since listing a folder takes longer the more files it holds.
_remove_abandoned_once = lru_cache(maxsize=4096)(remove_abandoned)


def _lock(folder: Path) -> int | None:
    """Lock a folder until `_unlock` or the end of the process; None where folders cannot be locked.

    Raises:
        BlockingIOError: it is locked.
        FileNotFoundError: it was removed.
    """
    if sys.platform == "win32":
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        folder.stat()  # it may have been removed after it was opened
    except (BlockingIOError, FileNotFoundError):
        os.close(descriptor)
        raise
    except OSError:  # some network file systems
        os.close(descriptor)
        return None
    return descriptor


def _unlock(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)
