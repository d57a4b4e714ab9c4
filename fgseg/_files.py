"""Opening and writing files, with errors of one line.

A file is written under a temporary name and then moved into place, so that a reader never sees half of it.
"""

import io
import unicodedata
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

__all__ = [
    "absolute_path",
    "decoding",
    "one_line",
    "open_image_file",
    "reason",
    "replacing",
    "write_bytes",
    "write_npz",
    "write_text",
]


def absolute_path(path: Path) -> Path:
    """The absolute path of a file, equal for all paths to its folder. A symbolic link counts as a separate file."""
    try:
        return path.parent.resolve() / path.name
    except (OSError, RuntimeError, ValueError):  # links in a circle, a null character: its reader reports them
        return path.absolute()


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


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write bytes.

    Args:
        path: file to write; its folder is made.
        data: the bytes.

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
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file that replaces `path` when the block ends, and is deleted if the block raises.

    Raises:
        OutputError: the file cannot be written. An FgsegError of the block is not changed.
    """
    # Not tempfile, whose files stay readable by their owner only.
    temporary = path.parent / f".{uuid.uuid4().hex}.part"
    try:
        with _possible_name(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            file = temporary.open("xb")
        with file:
            yield file
        with _possible_name(path):
            temporary.replace(path)
    except FgsegError:  # some are OSErrors too, of other files
        raise
    except OSError as error:
        raise OutputError(f"{one_line(path)}: cannot be written, {_output_cause(error)}") from error
    finally:
        with suppress(OSError, ValueError):  # it was moved already, or its folder was not made
            temporary.unlink()


@contextmanager
def _possible_name(path: Path) -> Iterator[None]:
    """Turn the ValueError of a name that no file can have, one with a null character, into an OutputError."""
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
