"""Writing files.

A file is written in a temporary folder beside its place and then moved there, so that a reader never sees half of it.
"""

import errno
import os
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import describe
from fgseg._files.output_errors import possible_name, writing
from fgseg._files.temporary import temporary_folder
from fgseg.errors import ShapeError

__all__ = [
    "append_bytes",
    "create_bytes",
    "replacing",
    "replacing_path",
    "write_bytes",
    "write_npz",
    "write_text",
]


def write_text(path: str | Path, text: str) -> None:
    r"""Write text as UTF-8, without changing its line ends.

    Args:
        path: file to write; its folder is made.
        text: the text. Undecodable bytes of a file name (lone surrogates) are written as \udcXX.

    Raises:
        OutputError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_text(folder + "/new/note.txt", "café")
        ...     Path(folder, "new", "note.txt").read_text(encoding="utf-8")
        'café'
    """
    write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def write_bytes(path: str | Path, data: bytes, *, sync: bool = False) -> None:
    """Write bytes.

    Args:
        path: file to write; its folder is made.
        data: the bytes.
        sync: wait until they are on the disk, so that they outlive a power cut.

    Raises:
        OutputError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_bytes(folder + "/a.bin", b"12")
        ...     Path(folder, "a.bin").read_bytes()
        b'12'
    """
    with replacing(Path(path), sync=sync) as file:
        file.write(data)


def create_bytes(path: Path, data: bytes, *, sync: bool = False) -> bool:
    """Write bytes to a new file, unless there is a file of that name; of several processes, one writes it.

    Args:
        path: file to write; its folder is made.
        data: the bytes.
        sync: as in `write_bytes`.

    Returns:
        Whether the file was written.

    Raises:
        OutputError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [create_bytes(Path(folder, "a.bin"), data) for data in (b"1", b"2")]
        [True, False]
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(path.parent) as folder:
            with (folder / "file").open("xb") as file:
                file.write(data)
                _sync(file, sync=sync)
            if not _is_linked(folder / "file", path):
                return False
            _sync_folder(path.parent, sync=sync)
    return True


def write_npz(path: str | Path, /, **arrays: NDArray[Any]) -> None:
    """Write arrays as a compressed npz, readable by `np.load` without pickle.

    `np.savez_compressed` cannot store an array called "file", and names are prompts, which may be anything. The same
    arrays give the same bytes.

    Args:
        path: file to write; its folder is made. It is positional only, so that an array may be called "path".
        arrays: arrays by name, of any shape and any dtype except object.

    Raises:
        ShapeError: an array of objects.
        OutputError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_npz(folder + "/maps.npz", **{"blue circle": np.zeros((2, 3), np.float16)})
        ...     with np.load(folder + "/maps.npz") as maps:
        ...         [(name, maps[name].shape) for name in maps]
        [('blue circle', (2, 3))]
    """
    for name, array in arrays.items():
        if np.asarray(array).dtype.hasobject:
            raise ShapeError(f"{name}: expected an array of numbers, got {describe(array)}; objects need a pickle")
    with replacing(Path(path)) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            # force_zip64, because the size is not known when the entry is opened
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)


@contextmanager
def replacing(path: Path, *, sync: bool = False) -> Iterator[IO[bytes]]:
    """Open a new file that replaces `path` when the block ends, and is deleted if the block raises.

    With `sync` it is on the disk before it replaces `path`, and so is its name when the block ends.

    Raises:
        OutputError: the file cannot be written. An FgsegError of the block is not changed.
    """
    with replacing_path(path, sync=sync) as temporary, temporary.open("xb") as file:
        yield file
        _sync(file, sync=sync)


@contextmanager
def replacing_path(path: Path, *, sync: bool = False) -> Iterator[Path]:
    """As `replacing`, but the block gets the path of a file that it makes itself, alone in a folder.

    With `sync` the name of the file is on the disk when the block ends; the block takes care of its content.
    """
    with writing(path):
        with possible_name(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(path.parent) as folder:
            yield folder / "file"
            with possible_name(path):
                (folder / "file").replace(path)
            _sync_folder(path.parent, sync=sync)


def append_bytes(path: Path, data: bytes, *, sync: bool = False) -> None:
    """Add bytes to the end of a file; if they do not fit, the file keeps the content that it had.

    Args:
        path: the file.
        data: the bytes.
        sync: wait until they are on the disk, so that they outlive a power cut.

    Raises:
        OutputError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     append_bytes(Path(folder, "a.txt"), b"12")
        ...     append_bytes(Path(folder, "a.txt"), b"3")
        ...     Path(folder, "a.txt").read_bytes()
        b'123'
    """
    with writing(path), path.open("ab", buffering=0) as file:  # a buffer would be written again at the end
        length = file.tell()
        try:
            while data:
                data = data[file.write(data) :]
            _sync(file, sync=sync)
        except BaseException:
            file.truncate(length)
            raise


def _sync(file: IO[bytes], *, sync: bool) -> None:
    """Wait until the content of a file is on the disk."""
    if sync:
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path, *, sync: bool) -> None:
    """Wait until the names of a folder's files are on the disk; Windows has no such call."""
    if sync and sys.platform != "win32":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _is_linked(temporary: Path, path: Path) -> bool:
    """Give a finished file its name, unless that is taken; returns whether it was free."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        # A file system without links, such as FAT. The name is taken first, so a crash may leave half of the file.
        try:
            with path.open("xb") as file:
                file.write(temporary.read_bytes())
                _sync(file, sync=True)
        except FileExistsError:
            return False
    return True
