"""What the command line prints: results on stdout as a table or as lines of JSON, everything else on stderr."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import typer

from fgseg.commands.exit_codes import SOME_FAILED
from fgseg.commands.options import ReportOptions
from fgseg.errors import ImageError, OutputError, ShapeError

__all__ = ["Inputs", "complain", "log_to_stderr", "pairs", "progress_bar", "row_bar", "run", "table", "to_json"]

Record = dict[str, Any]


def log_to_stderr(level: int) -> None:
    """Send the package's log lines of this level and above to stderr only."""
    log = logging.getLogger("fgseg")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    log.handlers[:] = [handler]
    log.setLevel(level)


@dataclass(frozen=True)
class Inputs:
    """paths: the images, each once; refused: {"image": source, "error": message} of each source without an image."""

    paths: tuple[Path, ...]
    refused: tuple[Record, ...]


def run(
    inputs: Inputs,
    work: Callable[[Path], list[Record]],
    rows: Callable[[Record], Iterable[Sequence[Any]]],
    header: Sequence[str],
    options: ReportOptions,
    notes: Callable[[], Iterable[str]] = tuple,
) -> None:
    """Process every image; an image that fails is reported on stderr, and the run continues.

    Args:
        inputs: the images.
        work: makes the records of one image.
        rows: makes the table rows of one record.
        header: of the table's columns.
        options: whether records are printed as lines of JSON or as one table, and whether progress is shown.
        notes: lines for stderr, asked for after the last image.
    """
    failed = 0
    printed: list[Sequence[Any]] = []
    with progress_bar(inputs.paths, unit="image", quiet=options.quiet or len(inputs.paths) == 1) as bar:
        for record in chain(inputs.refused, chain.from_iterable(_attempt(work, path) for path in bar)):
            bar.clear()
            if "error" in record:
                failed += 1
                complain(f"error: {record['error']}")
            if options.as_json:
                typer.echo(to_json(record))
            elif "error" not in record:
                printed += rows(record)
    if printed:
        typer.echo(table(header, printed))
    for note in notes():
        complain(note)
    if failed:
        complain(f"{failed} of {len(inputs.paths) + len(inputs.refused)} inputs failed")
        raise typer.Exit(SOME_FAILED)


def _attempt(work: Callable[[Path], list[Record]], path: Path) -> list[Record]:
    """The records of one image, or one with the error if its file, its output folder or a box on it is wrong."""
    try:
        return work(path)
    except (ImageError, OutputError) as error:
        message = str(error)
    except ShapeError as error:
        message = f"{path}: {error}"
    return [{"image": str(path), "error": message}]


def progress_bar(entries: Iterable[Any] | None = None, *, quiet: bool, **look: Any) -> Any:
    """A progress bar of tqdm on stderr; none if `quiet`, or if stderr is not a terminal."""
    from tqdm import tqdm

    return tqdm(entries, file=sys.stderr, disable=True if quiet else None, **look)


@contextmanager
def row_bar(name: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr for one large image; call it with the rows that are done and the number of rows."""
    with progress_bar(desc=name, unit="row", leave=False, quiet=quiet) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table with columns aligned by spaces.

    Examples:
        >>> print(table(("image", "n"), [("a.png", 3)]))
        image  n
        a.png  3
    """
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def pairs(report: dict[str, Any]) -> str:
    """One line per key.

    Examples:
        >>> print(pairs({"device": "cpu", "words": ["red", "blue"]}))
        device  cpu
        words   red, blue
    """
    width = max(map(len, report))
    next_line = "\n" + " " * (width + 2)

    def shown(key: str, value: Any) -> str:
        if isinstance(value, (list, tuple)):
            value = (next_line if key == "problems" else ", ").join(map(str, value))
        return "-" if value in (None, "") else str(value)

    return "\n".join(f"{key.ljust(width)}  {shown(key, value)}" for key, value in report.items())


def to_json(value: Any, *, indent: int | None = None) -> str:
    """JSON; characters that stdout cannot encode are escaped."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text


def complain(line: str) -> None:
    """Print one line on stderr; line breaks in the message become spaces."""
    typer.echo(f"fgseg: {' '.join(line.split())}", err=True)
