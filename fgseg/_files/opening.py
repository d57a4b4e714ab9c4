"""Opening and decoding image files and label files."""

import io
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fgseg._files.names import one_line, reason
from fgseg.errors import FgsegError, ImageError

__all__ = ["decoding", "open_image_file"]


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
