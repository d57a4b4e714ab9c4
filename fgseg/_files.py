"""Files: which ones a user means, and writing one so that no reader ever sees half of it.

Public through `fgseg.images.reading`; apart from it because nothing here knows what a picture is made of.
"""

import io
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import describe
from fgseg.errors import FgsegError, ImageError, OutputError, ShapeError

__all__ = ["one_line", "open_image_file", "place", "reason", "replacing", "write_bytes", "write_npz", "write_text"]


def place(path: Path) -> Path:
    """Where a file lies, whatever way leads there; a link to a file is a file of its own."""
    try:
        return path.parent.resolve() / path.name
    except (OSError, RuntimeError, ValueError):  # links in a circle, a null character: whoever reads it says so
        return path.absolute()


def write_text(path: str | Path, text: str) -> None:
    r"""Write text as UTF-8, line ends as they are.

    Args:
        path: file to write; its folder is made.
        text: what to write. Undecodable bytes of a file name (lone surrogates) are written as \udcXX.

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


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write bytes.

    Args:
        path: file to write; its folder is made.
        data: what to write.

    Raises:
        OutputError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_bytes(folder + "/a.bin", b"12")
        ...     Path(folder, "a.bin").read_bytes()
        b'12'
    """
    with replacing(Path(path)) as file:
        file.write(data)


def write_npz(path: str | Path, /, **arrays: NDArray[Any]) -> None:
    """Write arrays as a compressed npz, readable by `np.load` without pickle.

    The zip is made here and not by `np.savez_compressed`, which cannot store an array called "file"; names
    are prompts and may be anything. The same arrays give the same bytes.

    Args:
        path: file to write; its folder is made. Positional only, so that an array may be called "path".
        arrays: arrays by name, of any shape and any dtype but object.

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
            # force_zip64: the size is not known when the entry is opened
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)


def open_image_file(path: Path, hint: str) -> io.BufferedReader:
    """Open a file of pixels for reading.

    Args:
        path: the file.
        hint: what to name instead of a folder, for the message, such as "name a picture in it".

    Raises:
        ImageError: the file is missing, a folder, or cannot be opened.
    """
    name = one_line(path)
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise ImageError(f"{name}: there is no such file; check the path") from error
    except IsADirectoryError as error:
        raise ImageError(f"{name}: this is a folder, not a file; {hint}") from error
    except PermissionError as error:
        raise ImageError(f"{name}: no permission to read it; check the rights of the file and its folder") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise ImageError(f"{name}: cannot be opened ({reason(error)}); check the path") from error


def reason(error: Exception) -> str:
    """What the system or another library says went wrong, in one line."""
    return one_line(getattr(error, "strerror", None) or error) or type(error).__name__


def one_line(text: object) -> str:
    """Text with every run of white space, line ends too, as one space: a path may hold anything."""
    return " ".join(str(text).split())


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A new file beside `path` that takes its place when the block ends well, and else vanishes.

    Raises:
        OutputError: the file cannot be written. An FgsegError of the block passes as it is.
    """
    # Not tempfile's: its files are private to the owner and would stay so.
    temporary = path.parent / f".{uuid.uuid4().hex}.part"
    try:
        with _possible_name(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = temporary.open("xb")
        with file:
            yield file
        with _possible_name(path):
            temporary.replace(path)
    except FgsegError:  # some are OSErrors too: what went wrong is not this file
        raise
    except OSError as error:
        raise OutputError(f"{one_line(path)}: cannot be written, {_output_cause(error)}") from error
    finally:
        with suppress(OSError, ValueError):  # it may be in place already, or its folder was never made
            temporary.unlink()


@contextmanager
def _possible_name(path: Path) -> Iterator[None]:
    """What Python says of a name that no file can have, one with a null character, is an OutputError."""
    try:
        yield
    except ValueError as error:
        raise OutputError(f"{one_line(path)}: cannot be written, {_output_cause(error)}") from error


def _output_cause(error: Exception) -> str:
    if isinstance(error, IsADirectoryError):
        return "it is a folder; give a file name"
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return "a file stands where its folder should be; choose another folder"
    if isinstance(error, PermissionError):
        return "permission denied; choose a folder that you may write to"
    return f"{reason(error)}; choose another place or make room there"
