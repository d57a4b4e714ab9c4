"""JSON files that describe a data set."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fgseg._files import one_line, reason
from fgseg.errors import DatasetError

__all__ = ["expect_layout", "read_document"]


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
def expect_layout(path: Path, layout: str) -> Iterator[None]:
    """Read values of a document inside this block. A missing key or a wrong type becomes a DatasetError.

    Args:
        path: the document's file, for the message.
        layout: what was expected, for the message.

    Raises:
        DatasetError: the block raised KeyError, TypeError, ValueError or AttributeError.
    """
    try:
        yield
    except DatasetError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(
            f"{one_line(path)}: expected {layout}, got something else ({type(error).__name__}: {one_line(error)})"
        ) from error
