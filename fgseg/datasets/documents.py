"""JSON files that describe a data set, and the image files that they name."""

import json
import os
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PureWindowsPath
from typing import Any

from fgseg._files.names import one_line, reason
from fgseg.errors import DatasetError
from fgseg.images.find import IMAGE_SUFFIXES

__all__ = ["check_file_name", "expect_layout", "find_image", "is_file", "read_document", "read_text", "same_name"]

_LONGEST_PART, _LONGEST_NAME = 240, 1024  # bytes; systems take 255 with the suffix, and 4096 with the folder


def read_text(path: Path, *, hint: str = "") -> str:
    """The text of a UTF-8 file; the message ends in `hint`.

    Raises:
        DatasetError: the file cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DatasetError(f"{one_line(path)}: cannot be read ({reason(error)}){hint}") from error


def read_document(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        DatasetError: the file cannot be read, or holds something else.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{one_line(path)}: cannot be read as JSON ({reason(error)})") from error
    if not isinstance(document, dict):
        raise DatasetError(f"{one_line(path)}: expected a JSON object, got {type(document).__name__}")
    return document


@contextmanager
def expect_layout(place: str | Path, layout: str) -> Iterator[None]:
    """Read values of a document inside this block. A missing key or a wrong type becomes a DatasetError.

    Args:
        place: the document's file, or a line of it, for the message.
        layout: what was expected, for the message.

    Raises:
        DatasetError: the block raised one of the errors of reading a value of another kind.
    """
    try:
        yield
    except DatasetError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise DatasetError(
            f"{one_line(place)}: expected {layout}, got something else ({type(error).__name__}: {one_line(error)})"
        ) from error


def check_file_name(value: Any) -> str:
    """The value itself. Anything but a text that a file can have as its name is refused.

    Raises:
        ValueError: this is no name of a file.
    """
    if not isinstance(value, str) or "\0" in value or not Path(value).name:
        raise ValueError("no name of a file")
    data = value.encode()  # a lone surrogate raises UnicodeEncodeError, a ValueError
    if len(data) > _LONGEST_NAME or any(len(part) > _LONGEST_PART for part in data.split(b"/")):
        raise ValueError("longer than the name of a file can be")
    return value


def find_image(folder: Path, name: str) -> Path:
    """The image file that a document names; a name that no file has becomes a path in `folder`.

    Names are written in many ways: with folders of another machine or of Windows, without a suffix, or with accents
    that the file system stores in another form. The first of these that exists is taken.

    Args:
        folder: the folder of the images.
        name: what the document says, from `check_file_name`.
    """
    last = PureWindowsPath(name).name  # splits at both slashes
    candidates = [folder / name, folder / last]
    if Path(name).suffix.lower() not in IMAGE_SUFFIXES:
        candidates += [folder / (name + suffix) for suffix in (".jpg", ".png")]
    forms = (Path(unicodedata.normalize(form, str(path))) for form in ("NFC", "NFD") for path in candidates)
    return next((path for path in (*candidates, *forms) if is_file(path)), candidates[0])


def is_file(path: Path) -> bool:
    """Whether the file exists; Path.is_file raises an error for a long name and in a folder that may not be read."""
    return os.path.isfile(path)  # noqa: PTH113


def same_name(text: str) -> str:
    """A key that is equal for both ways to write an accent: macOS stores names in another form than Linux."""
    return unicodedata.normalize("NFC", text)
