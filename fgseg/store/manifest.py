"""The manifest: which images a store has, in frozen parts that are cut into units."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from operator import attrgetter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fgseg._files.names import reason
from fgseg.errors import FgsegError, StoreError
from fgseg.store.files import USE_THREADS, Files
from fgseg.store.schema import MANIFEST_SCHEMA, VERSION, Item, Unit

__all__ = ["FOLDER", "PART_ROWS", "Appended", "Manifest"]

FOLDER = "manifest"
PART_ROWS = 2**19
"""Images of a part at most. They are in memory while the part is made."""
_BATCH = 2**16  # images that are Python objects at a time
_NEW, _KNOWN, _CHANGED = 0, 1, 2
_ITEM_COLUMNS = ["image_id", "uri", "size", "mtime_ns", "etag"]
_DAMAGE = (pa.ArrowException, OSError, ValueError, KeyError, TypeError)  # what a damaged file raises
_VERSION_COLUMNS = ("size", "mtime_ns", "etag")  # an image has changed if one of them differs


@dataclass(frozen=True)
class Appended:
    """What `Store.append` found.

    Attributes:
        new: images that the manifest did not have.
        changed: images that it had in another version.
        known: images that it had.
    """

    new: int
    changed: int
    known: int

    def __add__(self, other: Appended) -> Appended:
        return Appended(self.new + other.new, self.changed + other.changed, self.known + other.known)


class Manifest:
    """The parts of a store's manifest. A part never changes once it is there; its row groups are the units."""

    def __init__(self, files: Files, unit_size: int) -> None:
        """Take the files of a store, and the number of images per unit of new parts."""
        self._files, self._unit_size = files, unit_size
        self._footer = lru_cache(maxsize=2)(self._read_footer)  # that of a full part has 12,000 entries
        self._bounds = lru_cache(maxsize=None)(self._read_bounds)

    def parts(self) -> list[int]:
        """Numbers of the parts that are there now, in order."""
        stems = (name.removesuffix(".parquet") for name in self._files.names(FOLDER) if name.endswith(".parquet"))
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    def units(self) -> Iterator[Unit]:
        """Every unit of every part, in order."""
        for part in self.parts():
            yield from self.units_of(part)

    def units_of(self, part: int) -> list[Unit]:
        """The units of a part."""
        with self._damage(part):
            metadata = self._footer(part)
            return [Unit(part, group, metadata.row_group(group).num_rows) for group in range(metadata.num_row_groups)]

    def items(self, unit: Unit) -> list[Item]:
        """The images of a unit, in their order."""
        return [Item(**row) for row in self._group(unit, _ITEM_COLUMNS).to_pylist()]

    def ids(self, unit: Unit) -> list[str]:
        """The ids of the images of a unit, in their order."""
        return self._group(unit, ["image_id"])["image_id"].to_pylist()

    def find(self, image_id: str) -> Iterator[Unit]:
        """The units that hold an image, the newest first."""
        for part in reversed(self.parts()):
            for unit in self.units_of(part):
                bounds = self._footer(part).row_group(unit.number).column(0).statistics
                is_possible = bounds is None or not bounds.has_min_max or bounds.min <= image_id <= bounds.max
                if is_possible and image_id in self.ids(unit):
                    yield unit

    def changed(self, part: int) -> dict[str, int]:
        """Ids of the images of a part that were in an earlier one -> number of their unit."""
        with self._damage(part):
            if not json.loads(self._footer(part).metadata[b"fgseg"])["changed"]:
                return {}
        table = self._table(part, ["image_id", "changed"])
        rows = np.flatnonzero(table["changed"].to_numpy())
        numbers = np.concatenate([np.full(unit.rows, unit.number) for unit in self.units_of(part)])
        return dict(zip(table["image_id"].take(pa.array(rows)).to_pylist(), numbers[rows].tolist(), strict=True))

    def fault(self, part: int) -> str | None:
        """What is wrong with a part, after reading all of its pages; None if nothing is."""
        try:
            self._read(part, lambda file: file.read(use_threads=USE_THREADS))
        except FgsegError:
            raise
        except _DAMAGE as error:
            return f"a damaged file ({reason(error)})"
        return None

    def location(self, part: int) -> str:
        """The path or address of a part, for messages."""
        return self._files.location(_name(part))

    def append(self, items: Iterable[Item]) -> Appended:
        """As `Store.append`."""
        counts = Appended(0, 0, 0)
        for table in _tables(items):
            counts += self._append(_unique(table))
        return counts

    def _append(self, table: pa.Table) -> Appended:
        """Write what the manifest lacks of a table as a new part; another process may write parts at the same time."""
        ends = pc.min_max(table["image_id"])
        first, last = ends["min"].as_py(), ends["max"].as_py()
        state = np.zeros(len(table), np.int8)
        compared = 0
        while True:
            parts = self.parts()
            for part in parts[compared:]:
                lowest, highest = self._bounds(part)
                if last < lowest or highest < first:
                    continue  # else the parts of many would be read again for each of their tables
                found, is_changed = self._compare(table, part)
                state[found] = np.where(is_changed, _CHANGED, _KNOWN)
            compared = len(parts)
            added = np.flatnonzero(state != _KNOWN)
            number = parts[-1] + 1 if parts else 0
            if not len(added) or self._files.create(_name(number), self._part(table, added, state)):
                new, known, changed = np.bincount(state, minlength=3).tolist()
                return Appended(new, changed, known)

    def _compare(self, table: pa.Table, part: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Positions of the rows of a table that a part has, and whether each is another version there."""
        old = self._table(part, ["image_id", *_VERSION_COLUMNS])
        places = pc.index_in(table["image_id"], value_set=old["image_id"].combine_chunks())
        found = np.flatnonzero(places.is_valid().to_numpy())
        columns = list(_VERSION_COLUMNS)
        taken, there = table.select(columns).take(pa.array(found)), old.select(columns).take(places.drop_null())
        differs = np.zeros(len(found), bool)
        for name in _VERSION_COLUMNS:  # what is not known on both sides is not compared
            differs |= pc.fill_null(pc.not_equal(taken[name], there[name]), False).to_numpy()
        return found, differs

    def _part(self, table: pa.Table, rows: NDArray[np.int64], state: NDArray[np.int8]) -> bytes:
        is_changed = state[rows] == _CHANGED
        facts = json.dumps({"version": VERSION, "changed": int(is_changed.sum())})
        added = table.take(pa.array(rows)).append_column(MANIFEST_SCHEMA.field("changed"), pa.array(is_changed))
        sink = pa.BufferOutputStream()
        pq.write_table(
            added.replace_schema_metadata({"fgseg": facts}), sink, row_group_size=self._unit_size,
            compression="zstd", write_page_checksum=True, use_dictionary=False,
        )  # fmt: skip
        return sink.getvalue().to_pybytes()

    def _group(self, unit: Unit, columns: list[str]) -> pa.Table:
        with self._damage(unit.part):
            return self._read(
                unit.part, lambda file: file.read_row_group(unit.number, columns=columns, use_threads=USE_THREADS)
            )

    def _table(self, part: int, columns: list[str]) -> pa.Table:
        with self._damage(part):
            return self._read(part, lambda file: file.read(columns=columns, use_threads=USE_THREADS))

    def _read(self, part: int, read: Callable[[pq.ParquetFile], pa.Table]) -> pa.Table:
        with self._files.open(_name(part)) as handle:
            return read(pq.ParquetFile(handle, metadata=self._footer(part), page_checksum_verification=True))

    def _read_footer(self, part: int) -> pq.FileMetaData:
        with self._files.open(_name(part)) as handle:
            return pq.read_metadata(handle)

    def _read_bounds(self, part: int) -> tuple[str, str]:
        """The smallest and the largest id of a part."""
        with self._damage(part):
            metadata = self._footer(part)
            found = [metadata.row_group(group).column(0).statistics for group in range(metadata.num_row_groups)]
            if not all(
                bounds is not None and bounds.has_min_max for bounds in found
            ):  # ids of several thousand letters
                ends = pc.min_max(self._table(part, ["image_id"])["image_id"])
                return ends["min"].as_py(), ends["max"].as_py()
            return min(bounds.min for bounds in found), max(bounds.max for bounds in found)

    @contextmanager
    def _damage(self, part: int) -> Iterator[None]:
        try:
            yield
        except FgsegError:
            raise
        except _DAMAGE as error:
            raise StoreError(
                f"{self.location(part)}: expected a part of the manifest, got a damaged file ({reason(error)}); "
                "restore it from a copy, or begin a new store"
            ) from error


def _name(part: int) -> str:
    return f"{FOLDER}/{part:04d}.parquet"


def _tables(items: Iterable[Item]) -> Iterator[pa.Table]:
    """The images as tables of at most PART_ROWS rows."""
    left = iter(items)
    while batches := [_record_batch(batch) for batch in _batches(left)]:
        yield pa.Table.from_batches(batches)


def _record_batch(items: Sequence[Item]) -> pa.RecordBatch:
    fields = [MANIFEST_SCHEMA.field(name) for name in _ITEM_COLUMNS]
    columns = [list(map(attrgetter(field.name), items)) for field in fields]
    return pa.record_batch(columns, schema=pa.schema(fields))


def _batches(items: Iterator[Item]) -> Iterator[list[Item]]:
    """The next PART_ROWS images, a batch at a time."""
    for _ in range(PART_ROWS // _BATCH):
        if batch := list(islice(items, _BATCH)):
            yield batch


def _unique(table: pa.Table) -> pa.Table:
    """The table with each image once.

    Raises:
        StoreError: an image from two places.
    """
    if pc.count_distinct(table["image_id"]).as_py() == len(table):
        return table
    ids = table["image_id"].combine_chunks()
    first = pc.index_in(ids, value_set=ids).to_numpy()  # the first row of the same id
    uris = table["uri"].combine_chunks()
    for row in np.flatnonzero(first != np.arange(len(first))).tolist():
        if uris[row] != uris[first[row]]:
            raise StoreError(
                f"image_id: expected each once, got {ids[row].as_py()!r} from {uris[first[row]]} and from {uris[row]}; "
                "give them different roots"
            )
    return table.take(pa.array(np.unique(first)))
