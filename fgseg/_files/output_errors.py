"""What the system raises while files are written, as errors of one line."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fgseg._files.names import one_line, reason
from fgseg.errors import DiskError, FgsegError, OutputError

__all__ = ["is_full_or_read_only", "possible_name", "writing"]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system raises while the block writes to a path into an OutputError."""
    try:
        yield
    except FgsegError:  # some are OSErrors too, of other files
        raise
    except OSError as error:
        kind = DiskError if is_full_or_read_only(error) else OutputError
        raise kind(f"{one_line(path)}: cannot be written, {_cause(error)}") from error


@contextmanager
def possible_name(path: Path) -> Iterator[None]:
    """Turn the ValueError of a name that no file can have, one with a null character, into an OutputError."""
    try:
        yield
    except ValueError as error:
        raise OutputError(f"{one_line(path)}: cannot be written, {_cause(error)}") from error


def is_full_or_read_only(error: OSError) -> bool:
    """Whether the system refused a file because of its disk, so that it would refuse every other file there."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def _cause(error: Exception) -> str:
    if isinstance(error, IsADirectoryError):
        return "it is a folder; give a file name"
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return "a file stands where its folder should be; choose another folder"
    if isinstance(error, PermissionError):
        return "permission denied; choose a folder that you may write to"
    return f"{reason(error)}; choose another place or make room there"
