"""Opening and writing files, with errors of one line.

A file is written in a temporary folder beside its place and then moved there, so that a reader never sees half of it.
The writer holds a lock on the folder. The system frees the lock when the writer ends, even by kill -9 or a crash, so a
later process can tell the folders of the dead from those of the living, and removes them.
"""

import errno
import io
import os
import re
import shutil
import sys
import tempfile
import unicodedata
import uuid
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import describe
from fgseg.errors import DiskError, FgsegError, ImageError, OutputError, ShapeError

if sys.platform != "win32":  # where no folder can be locked, so none is removed for another process
    import fcntl

__all__ = [
    "absolute_path",
    "append_bytes",
    "create_bytes",
    "decoding",
    "html_template",
    "is_full_or_read_only",
    "one_line",
    "open_image_file",
    "private_folder",
    "reason",
    "remove_abandoned",
    "replacing",
    "replacing_path",
    "write_bytes",
    "write_npz",
    "write_text",
    "writing",
]

_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.part")


def absolute_path(path: Path) -> Path:
    """The absolute path of a file, equal for all paths to its folder. A symbolic link counts as a separate file."""
    try:
        return path.parent.resolve() / path.name
    except (OSError, RuntimeError, ValueError):  # links in a circle, a null character: its reader reports them
        return path.absolute()


def html_template(path: Path) -> Any:
    """A Jinja template, which escapes every value and refuses to leave one out."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    loader = FileSystemLoader(path.parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(path.name)


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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary_folder(path.parent) as folder:
            with (folder / "file").open("xb") as file:
                file.write(data)
                _sync(file, sync=sync)
            if not _is_linked(folder / "file", path):
                return False
            _sync_folder(path.parent, sync=sync)
    except OSError as error:
        raise _output_error(path, error) from error
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


def open_image_file(path: Path, hint: str) -> io.BufferedReader:
    """Open an image file or a label file for reading.

    Args:
        path: the file.
        hint: what to do if the path is a folder, for the message, such as "name a picture in it".

    Raises:
        ImageError: the file is missing, a folder, or cannot be opened.
    """
    name = one_line(path)
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        twin = _other_spelling(path)
        if twin is not None:
            return open_image_file(twin, hint)
        raise ImageError(f"{name}: there is no such file; check the path") from error
    except IsADirectoryError as error:
        raise ImageError(f"{name}: this is a folder, not a file; {hint}") from error
    except PermissionError as error:
        raise ImageError(f"{name}: no permission to read it; check its permissions and its folder's") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise ImageError(f"{name}: cannot be opened ({reason(error)}); check the path") from error


def _other_spelling(path: Path) -> Path | None:
    """A file whose name is the same in another Unicode form: é is one character, or e and an accent."""
    forms = (Path(unicodedata.normalize(form, str(path))) for form in ("NFC", "NFD"))
    return next((form for form in forms if form != path and form.is_file()), None)


@contextmanager
def decoding(name: str) -> Iterator[None]:
    """Turn what a decoder raises into an ImageError of one line; `name` is the file's.

    Raises:
        ImageError: for anything but an FgsegError.
    """
    try:
        yield
    except FgsegError:
        raise
    except ImportError as error:  # tifffile names the package
        raise ImageError(f"{name}: its compression needs a package ({reason(error)}); install it") from error
    except MemoryError as error:
        raise ImageError(f"{name}: too large for the memory of this machine; shrink it or cut it") from error
    # Decoders raise OSError, SyntaxError, ValueError, struct.error, EOFError, zlib.error, KeyError and others.
    except Exception as error:
        raise ImageError(
            f"{name}: the image data is truncated or damaged ({reason(error)}); copy it or save it again"
        ) from error


def reason(error: Exception) -> str:
    """What the system or another library reports, in one line."""
    return one_line(getattr(error, "strerror", None) or error) or type(error).__name__


def one_line(text: object) -> str:
    """The text with every run of white space as one space; a path may contain line ends."""
    return " ".join(str(text).split())


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
    try:
        with _possible_name(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        with _temporary_folder(path.parent) as folder:
            yield folder / "file"
            with _possible_name(path):
                (folder / "file").replace(path)
            _sync_folder(path.parent, sync=sync)
    except FgsegError:  # some are OSErrors too, of other files
        raise
    except OSError as error:
        raise _output_error(path, error) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the system raises while the block writes to a path into an OutputError."""
    try:
        yield
    except OSError as error:
        raise _output_error(path, error) from error


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
    try:
        with path.open("ab", buffering=0) as file:  # a buffer would be written again when the file is closed
            length = file.tell()
            try:
                while data:
                    data = data[file.write(data) :]
                if sync:
                    os.fsync(file.fileno())
            except BaseException:
                file.truncate(length)
                raise
    except OSError as error:
        raise _output_error(path, error) from error


def is_full_or_read_only(error: OSError) -> bool:
    """Whether the system refused a file because of its disk, so that it would refuse every other file there."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


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


@contextmanager
def private_folder(prefix: str) -> Iterator[Path]:
    """A folder in the system's place for temporary files that only this user can read; removed when the block ends.

    The folders with this prefix of processes that were killed are removed first.
    """
    _remove_abandoned_once(Path(tempfile.gettempdir()), re.compile(re.escape(prefix) + r"\w+"))
    with _locked_folder(lambda: Path(tempfile.mkdtemp(prefix=prefix))) as folder:
        yield folder


@contextmanager
def _temporary_folder(parent: Path) -> Iterator[Path]:
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


@contextmanager
def _possible_name(path: Path) -> Iterator[None]:
    """Turn the ValueError of a name that no file can have, one with a null character, into an OutputError."""
    try:
        yield
    except ValueError as error:
        raise OutputError(f"{one_line(path)}: cannot be written, {_output_cause(error)}") from error


def _output_error(path: Path, error: OSError) -> OutputError:
    kind = DiskError if is_full_or_read_only(error) else OutputError
    return kind(f"{one_line(path)}: cannot be written, {_output_cause(error)}")


def _output_cause(error: Exception) -> str:
    if isinstance(error, IsADirectoryError):
        return "it is a folder; give a file name"
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return "a file stands where its folder should be; choose another folder"
    if isinstance(error, PermissionError):
        return "permission denied; choose a folder that you may write to"
    return f"{reason(error)}; choose another place or make room there"
