"""Runs a task over its images: one row per image, also for an image that fails, and a summary of all rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from fgseg._files.names import one_line
from fgseg.errors import FgsegError
from fgseg.evaluation.provenance import size_and_time
from fgseg.evaluation.rows import Row, RowStore

__all__ = ["ROWS_FILE", "EvaluationTask", "Outcome", "run_task"]

ROWS_FILE = "rows.jsonl"
Progress = Callable[[Sequence[str]], Iterable[str]]


class EvaluationTask(Protocol):
    """A measurement that is made image by image.

    Attributes:
        kind: "segmentation", "boxes", "retrieval" or "sweep".
    """

    kind: ClassVar[str]

    @property
    def items(self) -> Mapping[str, Any]:
        """The images by name, in order."""

    def provenance(self) -> dict[str, Any]:
        """Model, data and settings in plain values; only rows of equal provenance are added up."""

    def files(self, name: str) -> Sequence[Path]:
        """The files that an image is measured on; its row is made again if one of them was written since."""

    def measure(self, name: str) -> Row:
        """The row of one image in plain values. Raises FgsegError if the image cannot be measured."""

    def summary(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Figures of the rows that did not fail; at least one."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run.

    Attributes:
        kind: kind of the task.
        provenance: model, data and settings.
        summary: figures; empty if every image failed.
        failed: (image, reason), in order.
        rows: rows of the images that did not fail, in order.
        seconds: time that this run took to measure its images.
        resumed: number of images that an earlier run had measured.
    """

    kind: str
    provenance: Mapping[str, Any]
    summary: Mapping[str, Any]
    failed: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]
    seconds: float
    resumed: int

    @property
    def count(self) -> int:
        """Number of images of the task."""
        return len(self.rows) + len(self.failed)


def run_task(task: EvaluationTask, folder: Path, *, progress: Progress | None = None) -> Outcome:
    """Measure every image that has no row in `folder`, and summarise all rows.

    Args:
        task: the task.
        folder: folder of the rows; an interrupted run continues there.
        progress: wraps the names that are left, as tqdm's bar does.

    Raises:
        OutputError: the folder cannot be written, or holds a run of other settings or data.
    """
    provenance = task.provenance()
    # The hash covers all files together; the files of each image are compared one by one below.
    data = {name: value for name, value in provenance["data"].items() if name != "list_sha256"}
    store = RowStore(folder / ROWS_FILE, {"kind": task.kind, **provenance, "data": data})
    written = {name: [size_and_time(path) for path in task.files(name)] for name in task.items}
    store.keep(lambda row: row.get("written") == written.get(row["name"]))
    left = [name for name in task.items if name not in store.rows]
    failed: list[tuple[str, str]] = []
    started = time.perf_counter()
    for name in left if progress is None else progress(left):
        try:
            row = {"name": name, "written": written[name], **task.measure(name)}
        except FgsegError as error:
            row = {"name": name, "error": one_line(error)}
            failed.append((name, row["error"]))
        store.append(row)
    seconds = time.perf_counter() - started
    rows = tuple(store.rows[name] for name in task.items if name in store.rows)
    summary = task.summary(rows) if rows else {}
    return Outcome(task.kind, provenance, summary, tuple(failed), rows, seconds, len(task.items) - len(left))
