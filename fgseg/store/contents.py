"""What images are made of: the bytes of files and addresses, and the frames of videos."""

from __future__ import annotations

import errno
import stat
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fgseg._files.names import one_line, reason
from fgseg._files.opening import open_image_file
from fgseg.errors import BatchError, ImageError
from fgseg.images.video import Video
from fgseg.store.sources import local_path

__all__ = ["Frames", "content", "remote_content"]

_WAITS = (1.0, 5.0)  # seconds before a file that the network or the disk did not give is asked for again
_MOST_BYTES = 2**32
"""A larger file is refused, because it would be read whole. Pictures of `MAX_PIXELS` are smaller, unless they have
several bands of floats."""

# Reasons of the system that lie in the file itself, not in its disk or in this process.
_ABOUT_THE_FILE = {
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO,
}  # fmt: skip


class Frames:
    """Frames of videos, in a `with` block; the video of the last frame stays open."""

    def __init__(self) -> None:
        self._last: tuple[Path, Video] | None = None

    def __enter__(self) -> Frames:
        return self

    def __exit__(self, *_: object) -> None:
        if self._last is not None:
            self._last[1].close()
            self._last = None

    def frame(self, path: Path, number: int) -> NDArray[np.uint8]:
        """A frame of a video on this machine; arguments and errors as in `fgseg.images.video.Video`."""
        if self._last is None or self._last[0] != path:
            self.__exit__()
            self._last = path, Video(path)
        return self._last[1].frame(number)


def content(uri: str) -> bytes:
    """The bytes of an image.

    Raises:
        ImageError: there is no such file, or it is not readable by its own fault.
        BatchError: the disk or the network fails, also when asked again.
    """
    for wait in (*_WAITS, None):
        try:
            path = local_path(uri)
            return _file_content(Path(path)) if path is not None else remote_content(uri)
        except ImageError:
            raise
        except Exception as error:  # clients of object stores raise what they like
            if wait is None or isinstance(error, MemoryError):
                raise _fault(uri, error) from error
            time.sleep(wait)
    raise AssertionError("unreachable")


def remote_content(uri: str) -> bytes:
    """The bytes at an address.

    Raises:
        ImageError: there is no such file, or no access to it.
        Exception: what the client of the object store raises when the network fails.
    """
    import fsspec  # takes a tenth of a second, and files on this machine do without

    try:
        system, place = fsspec.url_to_fs(uri)
        return bytes(system.cat_file(place))
    except FileNotFoundError as error:
        raise ImageError(f"{uri}: there is no such file; check the address") from error
    except (PermissionError, IsADirectoryError) as error:
        raise ImageError(f"{uri}: cannot be read ({reason(error)}); check the access to it") from error


def _file_content(path: Path) -> bytes:
    kind = _plain_or(path)
    if kind:
        raise ImageError(f"{one_line(path)}: {kind}")
    try:
        with open_image_file(path, "name the pictures in it") as file:
            return file.read()
    except ImageError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno not in _ABOUT_THE_FILE:
            raise cause from error
        raise


def _plain_or(path: Path) -> str:
    """Why a file is not even opened, "" if nothing is against it. Opening a pipe would wait for its writer."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # opening it says what is wrong
        return ""
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        return "not a plain file but a pipe or a device; name a picture"
    return "the file has over 4 GiB; shrink the picture or cut it" if status.st_size > _MOST_BYTES else ""


def _fault(place: str, error: Exception) -> BatchError:
    """What ends a run: the machine's fault, not that of the image at `place`."""
    return BatchError(
        f"{one_line(place)}: cannot be read now ({type(error).__name__}: {reason(error)}); give the same command again "
        "to go on when the disk, network or memory is well"
    )
