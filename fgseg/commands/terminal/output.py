"""What the command line prints: results on stdout as a table or as lines of JSON, everything else on stderr."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from shutil import get_terminal_size
from typing import Any

import typer

from fgseg.commands.options import ReportOptions
from fgseg.commands.terminal.status import STATUS
from fgseg.commands.terminal.stopwatch import Stopwatch, duration
from fgseg.commands.terminal.wording import in_options
from fgseg.errors import DiskError, ImageError, OptionError, OutputError, ShapeError

__all__ = [
    "DONE",
    "FAILED",
    "IMAGE_FAULTS",
    "INTERRUPTED",
    "SOME_FAILED",
    "USAGE",
    "Ending",
    "Inputs",
    "blaming_the_image",
    "complain",
    "count_bar",
    "images_in_words",
    "log_to_stderr",
    "pairs",
    "progress_bar",
    "run",
    "table",
    "to_json",
]

Record = dict[str, Any]
log = logging.getLogger("fgseg")

IMAGE_FAULTS = (ImageError, OutputError, ShapeError)
"""Errors of one image, after which the others go on, unless it is a DiskError."""

# Exit statuses.
DONE, FAILED = 0, 1
USAGE = 2  # wrong arguments, or a model or file that they name is wrong
SOME_FAILED = 3  # finished, but some images failed
INTERRUPTED = 130  # 128 plus the number of SIGINT


def log_to_stderr(level: int) -> None:
    """Send the package's log lines of this level and above to stderr only, and each warning once."""
    handler = _StderrLines()
    handler.setLevel(level)
    log.handlers[:] = [handler]
    log.setLevel(min(level, logging.WARNING))  # other handlers get warnings as well


class _StderrLines(logging.Handler):
    """Prints log records as `complain` prints errors, and no warning twice."""

    def __init__(self) -> None:
        super().__init__()
        self._warned: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if record.levelno == logging.WARNING:
            if message in self._warned:
                return
            self._warned.add(message)
        with _bars_hidden():
            complain(in_options(message))
            if record.exc_info:
                typer.echo(logging.Formatter().formatException(record.exc_info), err=True)


@contextmanager
def _bars_hidden() -> Iterator[None]:
    """Take progress bars away while a line is printed; without one, tqdm need not be imported."""
    if "tqdm" not in sys.modules:
        yield
        return
    from tqdm import tqdm

    with tqdm.external_write_mode(file=sys.stderr):
        yield


@dataclass(frozen=True)
class Inputs:
    """The images that a command works on.

    Attributes:
        paths: of the images, each once.
        refused: {"image": source, "error": message} of each source without an image.
        names: image -> the folder of its result, relative to the output folder.
    """

    paths: tuple[Path, ...]
    refused: tuple[Record, ...]
    names: Mapping[Path, Path]


@contextmanager
def blaming_the_image() -> Iterator[None]:
    """Turn an OptionError into an ImageError: an option fits other images but not this one, which it names."""
    try:
        yield
    except OptionError as error:
        raise ImageError(str(error)) from error


@dataclass(frozen=True)
class Ending:
    """What is said and shown after the last image.

    Attributes:
        clock: has run since the command began; its stages are logged.
        notes: makes lines for stderr.
        out: the folder of all results; None if no files are written.
        picture: name of the picture of a result that the viewer of this system shows; None for none.
    """

    clock: Stopwatch
    notes: Callable[[], Iterable[str]] = tuple
    out: Path | None = None
    picture: str | None = None


def run(
    inputs: Inputs,
    work: Callable[[Path], list[Record]],
    rows: Callable[[Record], Iterable[Sequence[Any]]],
    header: Sequence[str],
    options: ReportOptions,
    ending: Ending,
) -> None:
    """Process every image; an image that fails is reported on stderr, and the run continues.

    Args:
        inputs: the images.
        work: makes the records of one image.
        rows: makes the table rows of one record.
        header: of the table's columns.
        options: whether records are printed as lines of JSON or as one table, or only errors are.
        ending: what follows the last image.

    Raises:
        DiskError: the output folder's disk is full or read-only. The table of the images before it is printed.
    """
    failed = 0
    done: dict[str, Sequence[str]] = {}  # image -> its files
    printed: list[Sequence[Any]] = []
    is_quiet = options.quiet or len(inputs.paths) == 1
    try:
        with progress_bar(inputs.paths, unit="image", quiet=is_quiet) as bar, _shown(bar, inputs.paths):
            for record in chain(inputs.refused, chain.from_iterable(_attempt(work, path) for path in bar)):
                bar.clear()
                if "error" in record:
                    failed += 1
                    complain(f"error: {record['error']}")
                else:
                    done[record["image"]] = record.get("files", ())
                    printed += rows(record)
                if options.as_json:
                    typer.echo(to_json(record))
    finally:  # a run that stops early prints the table of the images that are done
        if printed and not (options.as_json or options.quiet):
            typer.echo(table(header, printed))
    if done:
        _end(done, ending, quiet=options.quiet)
    if failed:
        complain(f"{failed} of {len(inputs.paths) + len(inputs.refused)} inputs failed")
        raise typer.Exit(SOME_FAILED)


def _end(done: Mapping[str, Sequence[str]], ending: Ending, *, quiet: bool) -> None:
    """Say how many images are done, how long it took and where the files are, and show the picture."""
    files = next(iter(done.values()))
    place, where = ending.out, f"; a folder for each in {ending.out}"
    if files and len(done) == 1:
        place = Path(files[-1]).parent
        where = f"; files in {place}"
    counted = f"{images_in_words(len(done))} in {duration(ending.clock.seconds)}"
    for line in () if quiet else (*ending.notes(), counted + (where if place else "")):
        complain(line)
    log.info("seconds: %s", ending.clock)
    if ending.picture and place:
        _show(place / ending.picture if len(done) == 1 else place)


def images_in_words(count: int) -> str:
    """A number of images.

    Examples:
        >>> images_in_words(1), images_in_words(2)
        ('1 image', '2 images')
    """
    return f"{count} image{'' if count == 1 else 's'}"


def _show(path: Path) -> None:
    """Open a picture or a folder with the program that this system has for it."""
    if typer.launch(str(path)):
        complain(f"--open: no viewer was found; open {path} yourself")


def _shown(bar: Any, paths: Sequence[Path]) -> AbstractContextManager[None]:
    """Keeps the line of the terminal moving: the bar of several images, or the name of the only one."""
    return STATUS.during(paths[0].name) if len(paths) == 1 else STATUS.refreshing(bar)


def _attempt(work: Callable[[Path], list[Record]], path: Path) -> list[Record]:
    """The records of one image, or one with the error if its file, its output folder or a box on it is wrong."""
    try:
        return work(path)
    except DiskError:  # the other images would fail in the same way
        raise
    except IMAGE_FAULTS as error:
        message = in_options(str(error))
        if isinstance(error, ShapeError):
            message = f"{path}: {message}"
    return [{"image": str(path), "error": message}]


def progress_bar(entries: Iterable[Any] | None = None, *, quiet: bool, **look: Any) -> Any:
    """A progress bar of tqdm on stderr; none if `quiet`, or if stderr is not a terminal."""
    from tqdm import tqdm

    columns, lines = get_terminal_size()  # tqdm draws nothing on a terminal that does not know its size
    silent = True if quiet else None  # None: silent unless stderr is a terminal
    return tqdm(entries, file=sys.stderr, disable=silent, ncols=columns, nrows=lines, **look)


@contextmanager
def count_bar(name: str, *, unit: str, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr; call it with the number of units that are done and of all of them."""
    with progress_bar(desc=name, unit=unit, leave=False, quiet=quiet) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        with STATUS.refreshing(bar):
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
    STATUS.clear()
    typer.echo(f"fgseg: {' '.join(line.split())}", err=True)
