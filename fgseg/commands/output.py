"""What the command line prints: results on stdout as a table or lines of JSON, everything else on stderr."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from fgseg.commands.exit_codes import SOME_FAILED
from fgseg.errors import ImageError, OutputError, ShapeError

__all__ = ["Inputs", "complain", "log_to_stderr", "pairs", "row_bar", "run", "table", "to_json"]

Records = list[dict[str, Any]]
Rows = Callable[[dict[str, Any]], Iterable[Sequence[Any]]]


def log_to_stderr(level: int) -> None:
    """Send what the package logs, from this level on, to stderr and nowhere else."""
    log = logging.getLogger("fgseg")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    log.handlers[:] = [handler]
    log.setLevel(level)


@dataclass(frozen=True)
class Inputs:
    """paths: images to do, each once; refused: (what was asked for, why) of what stands for no image."""

    paths: tuple[Path, ...]
    refused: tuple[tuple[str, str], ...]


class _Report:
    """What comes of each input: records on stdout as lines of JSON or one table at the end, failures on stderr."""

    def __init__(self, rows: Rows, *, as_json: bool) -> None:
        """Take `rows`, which makes the table's rows of a record."""
        self.rows, self.as_json, self.failed = rows, as_json, 0
        self.collected: list[Sequence[Any]] = []

    def add(self, records: Records) -> None:
        """Print or keep the records of one image."""
        for record in records:
            if self.as_json:
                typer.echo(to_json(record))
            else:
                self.collected.extend(self.rows(record))

    def fail(self, name: str, why: str) -> None:
        """Count and name an input that could not be done."""
        self.failed += 1
        complain(f"error: {why}")
        if self.as_json:
            typer.echo(to_json({"image": name, "error": why}))

    def close(self, header: Sequence[str], count: int) -> None:
        """Print the table; leaves with SOME_FAILED where an input failed."""
        if self.collected:
            typer.echo(table(header, self.collected))
        if self.failed:
            complain(f"{self.failed} of {count} inputs failed")
            raise typer.Exit(SOME_FAILED)


def run(
    inputs: Inputs,
    one: Callable[[Path], Records],
    rows: Rows,
    header: Sequence[str],
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    """Do every image; one that cannot be done is named on stderr and the others go on.

    Args:
        inputs: the images.
        one: makes the records of an image.
        rows: makes the table's rows of a record.
        header: of the table's columns.
        as_json: print a record a line in place of the table.
        quiet: show no progress.
    """
    from tqdm import tqdm

    report = _Report(rows, as_json=as_json)
    for name, why in inputs.refused:
        report.fail(name, why)
    is_silent = True if quiet or len(inputs.paths) == 1 else None  # None: silent where stderr is no terminal
    with tqdm(inputs.paths, unit="image", file=sys.stderr, disable=is_silent) as bar:
        for path in bar:
            try:
                records = one(path)
            except (ImageError, OutputError, ShapeError) as error:  # of this image: its file, its folder, a box outside
                bar.clear()
                report.fail(str(path), f"{path}: {error}" if isinstance(error, ShapeError) else str(error))
            else:
                bar.clear()
                report.add(records)
    report.close(header, len(inputs.paths) + len(inputs.refused))


@contextmanager
def row_bar(name: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr for the rows of one large image: call it with the rows done and all there are."""
    from tqdm import tqdm

    with tqdm(desc=name, unit="row", file=sys.stderr, disable=True if quiet else None, leave=False) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Columns aligned with spaces.

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
    """A line a key.

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
    """JSON in the letters that stdout can show, or in escapes where it cannot."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, indent=indent)
    return text


def complain(line: str) -> None:
    """One line on stderr, whatever the message holds."""
    typer.echo(f"fgseg: {' '.join(line.split())}", err=True)
