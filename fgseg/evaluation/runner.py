"""Running a task over its images: one row each, whatever becomes of it, and a summary of all rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fgseg._files import one_line
from fgseg.errors import FgsegError
from fgseg.evaluation.provenance import size_and_time
from fgseg.evaluation.rows import RowStore

__all__ = ["ROWS_FILE", "Outcome", "Task", "run_task"]

ROWS_FILE = "rows.jsonl"
Row = dict[str, Any]
Progress = Callable[[Sequence[str]], Iterable[str]]


class Task(Protocol):
    """Something that can be measured image by image."""

    @property
    def kind(self) -> str:
        """What is measured: "segmentation", "boxes", "retrieval" or "sweep"."""

    @property
    def names(self) -> Sequence[str]:
        """The images, in order, each once."""

    def identity(self) -> dict[str, Any]:
        """Model, data and settings in plain values: what rows must share to be added up."""

    def files(self, name: str) -> Sequence[Path]:
        """What an image is measured on: its row is made anew when one of these was written since."""

    def measure(self, name: str) -> Row:
        """Plain values of one image. Raises FgsegError where it cannot be measured."""

    def summary(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Figures of the rows that did not fail; at least one."""


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes:
        kind: the task's.
        identity: model, data and settings.
        summary: figures; empty where every image failed.
        failed: (image, why), in order.
        rows: of the images that did not fail, in order.
        seconds: this run took, without loading the model.
        resumed: images that an earlier run had measured.
    """

    kind: str
    identity: Mapping[str, Any]
    summary: Mapping[str, Any]
    failed: tuple[tuple[str, str], ...]
    rows: tuple[Row, ...]
    seconds: float
    resumed: int

    @property
    def count(self) -> int:
        """Images asked for."""
        return len(self.rows) + len(self.failed)


def run_task(task: Task, folder: Path, *, progress: Progress | None = None) -> Outcome:
    """Measure every image that `folder` has no row of, and sum up.

    Args:
        task: what is measured.
        folder: where rows are kept; an interrupted run goes on there.
        progress: wraps the names that are left, such as a bar of tqdm.

    Raises:
        OutputError: the folder cannot be written, or holds a run of other settings or data.
    """
    started = time.perf_counter()
    identity = task.identity()
    # Names and sizes of all files together: those of each image are looked at one by one.
    data = {name: value for name, value in identity["data"].items() if name != "list_sha256"}
    store = RowStore(folder / ROWS_FILE, {"kind": task.kind, **identity, "data": data})
    written = {name: [size_and_time(path) for path in task.files(name)] for name in task.names}
    store.keep(lambda row: row.get("written") == written.get(row["name"]))
    done = sum(name in store.rows for name in task.names)
    left = [name for name in task.names if name not in store.rows]
    failed: list[tuple[str, str]] = []
    for name in left if progress is None else progress(left):
        try:
            row = {"name": name, "written": written[name], **task.measure(name)}
        except FgsegError as error:
            row = {"name": name, "error": one_line(error)}
            failed.append((name, row["error"]))
        store.append(row)
    rows = tuple(store.rows[name] for name in task.names if name in store.rows)
    summary = task.summary(rows) if rows else {}
    seconds = time.perf_counter() - started
    return Outcome(task.kind, identity, summary, tuple(failed), rows, seconds, done)
