"""Reading the results of a run: rows, tables, and the result of an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from fgseg._checks import check_choices
from fgseg.errors import OptionError, StoreError
from fgseg.store.results.stored_result import StoredResult
from fgseg.store.schema import SCHEMA, Row, Unit, table_to_rows
from fgseg.store.store import Store

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = ["StoreReader"]


class StoreReader:
    """The results of a run, as they were when it was opened.

    Iterating gives the rows in the order of the manifest, errors too, and holds one unit at a time. Of an image that
    changed between runs of `fgseg batch`, the newest row counts. Images that are not done yet have no row.

    Attributes:
        store: the store.
    """

    def __init__(self, store: Store) -> None:
        """Take the store of a run; `fgseg.open_store` opens one by its path."""
        self.store = store
        self._units = [unit for unit in store.manifest.units() if store.shards.has(unit)]

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order."""
        return tuple(entry.name for entry in self.store.identity.classes)

    @cached_property
    def _count(self) -> int:
        if not self._newest:
            return sum(unit.rows for unit in self._units)
        return sum(map(len, self.tables(columns=["image_id"])))

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Row]:
        for table in self.tables():
            yield from table_to_rows(table)

    def tables(self, *, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The rows as Arrow tables, one per unit.

        Args:
            columns: names of columns (docs/store.md lists them); None reads all.

        Raises:
            OptionError: an unknown column.
            StoreError: a shard is damaged or cannot be read.
        """
        if columns is not None:
            check_choices("columns", columns, SCHEMA.names)
        return (table for unit in self._units if len(table := self._table(unit, columns)))

    def to_arrow(self, *, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows as one Arrow table, in memory; arguments and errors as in `tables`."""
        names = SCHEMA.names if columns is None else columns
        tables = self.tables(columns=columns)
        return pa.concat_tables([pa.schema([SCHEMA.field(name) for name in names]).empty_table(), *tables])

    def to_pandas(self, *, columns: Sequence[str] | None = None) -> DataFrame:
        """All rows as a pandas DataFrame, in memory; arguments and errors as in `tables`.

        Raises:
            OptionError: also if pandas is not installed.
        """
        if find_spec("pandas") is None:
            raise OptionError("to_pandas: expected the package pandas, got none; pip install pandas")
        return self.to_arrow(columns=columns).to_pandas()

    def errors(self) -> Iterator[Row]:
        """The rows of images that failed. Only units that have some are read."""
        for unit in self._units:
            shard = self.store.shards.find(unit)
            if shard is not None and shard.errors:
                table = self._table(unit, None)
                yield from table_to_rows(table.filter(pc.equal(table["status"], "error")))

    def results(self) -> Iterator[StoredResult]:
        """The results of the images that did not fail."""
        return (StoredResult(row, self.store.identity) for row in self if row.status == "ok")

    def result(self, image_id: str) -> StoredResult:
        """The result of an image.

        Args:
            image_id: its path relative to the root of its source.

        Raises:
            OptionError: the store has no such image, its image is not done yet, or it failed.
        """
        return StoredResult(self.row(image_id), self.store.identity)

    def row(self, image_id: str) -> Row:
        """The row of an image, which may be that of an error.

        Raises:
            OptionError: the store has no such image, or it is not done yet.
        """
        is_known = False
        for unit in self.store.manifest.find(image_id):
            is_known = True
            table = self.store.shards.table(unit)
            if table is not None:
                (row,) = table_to_rows(table.filter(pc.equal(table["image_id"], image_id)))
                return row
        if is_known:
            raise OptionError(f"image_id: {image_id!r} is not done yet; `fgseg batch` continues the run")
        raise OptionError(f"image_id: expected an image of the store, got {image_id!r}; iterating lists them")

    @cached_property
    def _newest(self) -> dict[str, tuple[int, int]]:
        """Id of an image that changed -> part and number of the newest unit that holds a row of it."""
        done = {(unit.part, unit.number) for unit in self._units}
        return {
            image_id: (part, number)
            for part in self.store.manifest.parts()
            for image_id, number in self.store.manifest.changed(part).items()
            if (part, number) in done
        }

    def _table(self, unit: Unit, columns: Sequence[str] | None) -> pa.Table:
        """The rows of a unit that are the newest of their images."""
        place = unit.part, unit.number
        wanted = None if columns is None else list(dict.fromkeys([*columns, "image_id"]))
        table = self.store.shards.table(unit, wanted)
        if table is None:
            raise StoreError(
                f"{self.store.files.location(unit.name)}: expected the rows that were there when the store was opened, "
                "got none; open it again"
            )
        if self._newest:
            ids = table["image_id"].to_pylist()
            table = table.filter(pa.array([self._newest.get(image_id, place) == place for image_id in ids], pa.bool_()))
        return table if columns is None else table.select(list(columns))

    def __repr__(self) -> str:
        location, run = self.store.files.location(""), self.store.identity.key
        return f"StoreReader({location!r}, run {run}, {len(self)} images)"
