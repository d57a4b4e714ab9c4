"""The rows of a run in a file, one line of JSON per image, so that an interrupted run continues where it stopped.

The first line says which run the rows belong to. Each row is written at once and synced. A line that a crash cut off is
dropped when the file is opened again. Rows of other settings, another model or another list of images are refused.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fgseg._files.names import one_line, reason
from fgseg._files.writers import append_bytes, write_bytes
from fgseg.errors import OutputError

__all__ = ["Row", "RowStore", "drop_rows"]

Row = dict[str, Any]


def drop_rows(path: Path) -> None:
    """Remove the file of an earlier run, if there is one.

    Raises:
        OutputError: the file cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{one_line(path)}: cannot be removed ({reason(error)}); remove it by hand") from error


class RowStore:
    """The rows of one run in one file.

    Attributes:
        rows: the rows of this file that did not fail, by image name.
    """

    def __init__(self, path: Path, provenance: Mapping[str, Any]) -> None:
        """Open or make the file.

        Args:
            path: the file; its folder is made.
            provenance: what rows must have in common to belong together; plain values.

        Raises:
            OutputError: the file cannot be read or written, is not a file of rows, or belongs to another run.
        """
        self.path = path
        self.rows: dict[str, Row] = {}
        head = {"identity": json.loads(json.dumps(provenance))}
        if path.exists():
            self._open(head["identity"])
        else:
            write_bytes(path, _line(head))

    def keep(self, is_current: Callable[[Row], bool]) -> None:
        """Drop the rows that are out of date; new rows of the same names will be appended."""
        self.rows = {name: row for name, row in self.rows.items() if is_current(row)}

    def append(self, row: Row) -> None:
        """Write a row, which has a `name`; the image of a row with an `error` is measured again by the next run.

        Raises:
            OutputError: the file cannot be written.
        """
        append_bytes(self.path, _line(row), sync=True)
        if "error" not in row:
            self.rows[row["name"]] = row

    def _open(self, provenance: Mapping[str, Any]) -> None:
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise OutputError(f"{one_line(self.path)}: cannot be read ({reason(error)})") from error
        whole = data[: data.rfind(b"\n") + 1]
        try:
            first, *lines = [json.loads(line) for line in whole.splitlines()]
            stored, rows = first["identity"], {row["name"]: row for row in lines}
        except (ValueError, KeyError, TypeError) as error:
            raise OutputError(
                f"{one_line(self.path)}: not the rows of a run ({reason(error)}); "
                "choose another folder, or --fresh to start over"
            ) from error
        if stored != provenance:
            raise OutputError(
                f"{one_line(self.path)}: holds a run with other settings or data: {_differences(stored, provenance)}; "
                "choose another folder, or --fresh to start over"
            )
        self.rows = {name: row for name, row in rows.items() if "error" not in row}
        if whole != data:
            write_bytes(self.path, whole)


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"


def _differences(stored: Any, now: Any, place: str = "") -> str:
    """The first few places where two JSON values differ."""
    if isinstance(stored, dict) and isinstance(now, dict):
        parts = [
            _differences(stored.get(key), now.get(key), f"{place}.{key}" if place else key)
            for key in dict.fromkeys([*stored, *now])
            if stored.get(key) != now.get(key)
        ]
        return ", ".join(parts[:3]) + (", ..." if len(parts) > 3 else "")
    if isinstance(stored, list) and isinstance(now, list):
        if len(stored) != len(now):
            return f"{place} had {len(stored)} entries, has {len(now)}"
        index = next(index for index, (one, other) in enumerate(zip(stored, now, strict=True)) if one != other)
        return _differences(stored[index], now[index], f"{place}[{index}]")
    return f"{place} was {stored!r:.60}, is {now!r:.60}"
