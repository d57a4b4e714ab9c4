"""The shards of a run: a Parquet file of the results of one unit, or of several units that were joined.

The footer says which run and which units a shard holds, so a file that is cut short, of another run or of another unit
is found without reading its pages. The pages have checksums, which every read compares.
"""

from __future__ import annotations

import json
import logging
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any, TypeVar
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fgseg._files.names import reason
from fgseg.errors import FgsegError, OptionError, StoreError
from fgseg.store.files import USE_THREADS, Files
from fgseg.store.schema import SCHEMA, VERSION, Unit

__all__ = ["QUARANTINE", "Footer", "Shard", "Shards", "places_of"]

QUARANTINE = "quarantine"
_NAME = re.compile(r"(\d{4,6})-(\d{6,7})(?:-(\d{6,7}))?\.parquet")
_TAIL = 2**16  # bytes; longer than most footers
_MAGIC = b"PAR1"
_LOOKS = 3  # at the names in the folder, when a file is gone because it was joined with others
_WITH_BOUNDS = ["part", "unit", "image_id", "status", "height", "width"]  # label maps would fill the footer
_REPEATED = ["status", "error_type", "writer", "classes.list.element.name"]  # columns that a dictionary makes smaller

T = TypeVar("T")
log = logging.getLogger("fgseg")


class _DamageError(Exception):
    """A file that is not the shard that its name says."""


@dataclass(frozen=True)
class Footer:
    """What a shard says of itself.

    Attributes:
        run: key of its run.
        part: its manifest part.
        units: (number, rows, error rows) of each of its units, in the order of the row groups.
        writers: key -> record of each `Writer` of its rows.
    """

    run: str
    part: int
    units: tuple[tuple[int, int, int], ...]
    writers: Mapping[str, Any]


@dataclass(frozen=True)
class Shard:
    """Where the rows of a unit are.

    Attributes:
        name: of the file in the run's folder.
        group: number of the row group.
        errors: number of error rows.
        writers: as in `Footer`.
    """

    name: str
    group: int
    errors: int
    writers: Mapping[str, Any]


class Shards:
    """The shards of a run.

    Their names are listed when they are first needed, until `refresh`; what this process writes is added. Who only
    writes needs no names: a worker of a large store would wait for them and keep them in memory.
    """

    def __init__(self, files: Files, run: str) -> None:
        """Take the files of a store and the key of the run."""
        self._files, self._run, self.folder = files, run, f"masks/run={run}"
        self._joined_footer = lru_cache(maxsize=64)(self._footer)

    def refresh(self) -> None:
        """List the names again."""
        vars(self).pop("_names", None)
        self._joined_footer.cache_clear()

    def has(self, unit: Unit) -> bool:
        """Whether a shard of the unit was listed, valid or not."""
        return self._name_of(unit) is not None

    def is_written(self, unit: Unit) -> bool:
        """Whether the unit has a shard of its own now."""
        return self._files.exists(self._path(_own_name(unit)))

    def find(self, unit: Unit) -> Shard | None:
        """The shard of a unit; None if there is none.

        Raises:
            StoreError: the shard is damaged.
        """
        return self._looked_up(unit, self._found)

    def find_or_quarantine(self, unit: Unit) -> Shard | None:
        """The valid shard of a unit; None if there is none. Damaged ones are moved to quarantine/."""
        while True:
            name = self._name_of(unit)
            if name is None:
                return None
            try:
                return self._found(name, unit)
            except FileNotFoundError:
                self.refresh()
            except _DamageError as error:
                to = self.quarantine(name)
                log.warning("%s: %s; it was moved to %s and is made again", self._location(name), error, to)

    def table(self, unit: Unit, columns: Sequence[str] | None = None) -> pa.Table | None:
        """The rows of a unit; None if there is no shard.

        Args:
            unit: the unit.
            columns: names of the columns; None reads all.

        Raises:
            StoreError: the shard is damaged.
        """
        return self._looked_up(unit, lambda name, unit: self._read(name, unit, columns))

    def write(self, unit: Unit, table: pa.Table, writers: Mapping[str, Any]) -> None:
        """Write the rows of a unit.

        Args:
            unit: the unit.
            table: its rows, with the columns of `fgseg.store.schema.SCHEMA`.
            writers: as in `Footer`.

        Raises:
            OutputError: the file cannot be written.
        """
        name = _own_name(unit)
        self._files.write(self._path(name), self._bytes({unit: lambda: table}, writers))
        if "_names" in vars(self):
            self._names[0][unit.part, unit.number] = name

    def join(self, units: Sequence[Unit]) -> None:
        """Write the rows of units that follow each other as one file, and remove their own files.

        At any moment a reader finds the rows of each unit. A file that another process replaced in the meantime stays,
        and goes before the joined one.

        Raises:
            StoreError: a shard is damaged or missing.
            OutputError: the file cannot be written.
        """
        own = filter(None, map(self.own_name, units))
        stamps = {name: self._files.stamp(self._path(name)) for name in own}
        writers = {
            key: record for unit in units for key, record in self._present(self.find(unit), unit).writers.items()
        }
        tables = {unit: partial(self._present_table, unit) for unit in units}
        joined = f"{units[0].name}-{units[-1].number:06d}.parquet"
        self._files.write(self._path(joined), self._bytes(tables, writers))
        self._names[1].update(dict.fromkeys(places_of(joined), joined))
        self._joined_footer.cache_clear()
        for name, stamp in stamps.items():
            if self._files.stamp(self._path(name)) == stamp:
                self._files.remove(self._path(name))
                self._forget(name)

    def joined_name(self, unit: Unit) -> str | None:
        """The joined file that covers a unit; None if there is none."""
        return self._names[1].get((unit.part, unit.number))

    def own_name(self, unit: Unit) -> str | None:
        """The file of a unit alone; None if there is none."""
        return self._names[0].get((unit.part, unit.number))

    def quarantine(self, name: str) -> str:
        """Move a file to quarantine/; returns its new place."""
        to = f"{QUARANTINE}/{self._run}-{name.removesuffix('.parquet')}-{uuid4().hex[:8]}.parquet"
        self._files.move(self._path(name), to)
        self._forget(name)
        return to

    def files(self) -> dict[str, int]:
        """Name -> bytes of each file of the run."""
        return {name: size for name, size in self._files.sizes(self.folder).items() if _NAME.fullmatch(name)}

    def fault(self, name: str, units: Mapping[Unit, Sequence[str]]) -> str | None:
        """What is wrong with a file, after reading all of its pages; None if nothing is, or if it is gone.

        Args:
            name: of the file.
            units: the units that its name says -> the ids of their images.
        """
        try:
            for unit, ids in units.items():
                if self._read(name, unit, None)["image_id"].to_pylist() != list(ids):
                    raise _DamageError(f"unit {unit.number} holds other images than the manifest")
        except FileNotFoundError:
            return None
        except _DamageError as error:
            return str(error)
        return None

    def _looked_up(self, unit: Unit, act: Callable[[str, Unit], T]) -> T | None:
        """What `act` makes of the file of a unit; None if there is no file."""
        for _ in range(_LOOKS):
            name = self._name_of(unit)
            if name is None:
                return None
            try:
                return act(name, unit)
            except FileNotFoundError:
                self.refresh()
            except _DamageError as error:
                raise StoreError(
                    f"{self._location(name)}: expected the results of {unit.rows} images, got {error}; set the file "
                    "aside with `fgseg store check STORE --quarantine`, then run `fgseg batch` again"
                ) from error
        raise StoreError(f"{self._location('')}: the files of unit {unit.name} come and go; try again")

    def _read(self, name: str, unit: Unit, columns: Sequence[str] | None) -> pa.Table:
        with self._files.open(self._path(name)) as handle, _parsing():
            file = pq.ParquetFile(handle, page_checksum_verification=True)
            shard = self._shard(name, unit, _footer_of(file.metadata))
            if file.schema_arrow.remove_metadata() != SCHEMA:
                raise _DamageError("a file of other columns")
            wanted = None if columns is None else list(columns)
            return file.read_row_group(shard.group, columns=wanted, use_threads=USE_THREADS)

    def _found(self, name: str, unit: Unit) -> Shard:
        read_footer = self._joined_footer if name.count("-") == 2 else self._footer
        return self._shard(name, unit, read_footer(name))

    def _shard(self, name: str, unit: Unit, footer: Footer) -> Shard:
        if footer.run != self._run:
            raise _DamageError(f"the shard of run {footer.run}")
        for group, (number, rows, errors) in enumerate(footer.units):
            if (footer.part, number) == (unit.part, unit.number):
                if rows != unit.rows:
                    raise _DamageError(f"a shard of {rows} images for a unit of {unit.rows}")
                return Shard(name, group, errors, footer.writers)
        raise _DamageError("the shard of another unit")

    def _footer(self, name: str) -> Footer:
        path = self._path(name)
        tail = self._files.tail(path, _TAIL)
        size = int.from_bytes(tail[-8:-4], "little") + 8
        if tail[-4:] != _MAGIC:
            raise _DamageError("a file that is cut short or no Parquet file")
        if size > len(tail):
            tail = self._files.tail(path, size)
        with _parsing():
            return _footer_of(pq.read_metadata(pa.BufferReader(_MAGIC + tail[-size:])))

    def _bytes(self, tables: Mapping[Unit, Callable[[], pa.Table]], writers: Mapping[str, Any]) -> bytes:
        """The content of a file; the rows of one unit are in memory at a time, besides the file."""
        units = []
        sink = pa.BufferOutputStream()
        with pq.ParquetWriter(
            sink, SCHEMA, compression="zstd", write_page_checksum=True, write_statistics=_WITH_BOUNDS,
            use_dictionary=_REPEATED,
        ) as writer:  # fmt: skip
            for unit, make in tables.items():
                table = make()
                writer.write_table(table.replace_schema_metadata(), row_group_size=max(1, len(table)))
                units.append((unit.number, len(table), pc.sum(pc.equal(table["status"], "error")).as_py() or 0))
            (part,) = {unit.part for unit in tables}
            facts = {"version": VERSION, "run": self._run, "part": part, "units": units, "writers": dict(writers)}
            told = json.dumps(facts)
            writer.add_key_value_metadata({"fgseg": told, "fgseg_crc32": str(zlib.crc32(told.encode()))})
        return sink.getvalue().to_pybytes()

    def _present_table(self, unit: Unit) -> pa.Table:
        return self._present(self.table(unit), unit)

    def _present(self, value: T | None, unit: Unit) -> T:
        if value is None:
            raise StoreError(f"{self._location(unit.name)}: its rows were there a moment ago, and are gone; try again")
        return value

    def _name_of(self, unit: Unit) -> str | None:
        """The file of a unit. Its own goes before a joined one, which is older where both have other rows."""
        return self.own_name(unit) or self.joined_name(unit)

    @cached_property
    def _names(self) -> tuple[dict[tuple[int, int], str], dict[tuple[int, int], str]]:
        """(part, unit) -> the name of its own shard, and of a joined one."""
        own: dict[tuple[int, int], str] = {}
        joined: dict[tuple[int, int], str] = {}
        for name in self._files.names(self.folder):
            if _NAME.fullmatch(name):
                places = places_of(name)
                (own if len(places) == 1 else joined).update(dict.fromkeys(places, name))
        return own, joined

    def _forget(self, name: str) -> None:
        for names in self._names:
            for place in places_of(name):
                if names.get(place) == name:
                    del names[place]

    def _path(self, name: str) -> str:
        return f"{self.folder}/{name}"

    def _location(self, name: str) -> str:
        return self._files.location(self._path(name))


def places_of(name: str) -> list[tuple[int, int]]:
    """(part, unit) of each unit that the name of a shard says.

    >>> places_of("0000-000012.parquet"), places_of("0000-000000-000001.parquet")
    ([(0, 12)], [(0, 0), (0, 1)])
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise OptionError(f"name: expected one such as 0000-000012.parquet, got {name!r}; name a shard")
    first = int(match[2])
    return [(int(match[1]), number) for number in range(first, int(match[3] or first) + 1)]


def _own_name(unit: Unit) -> str:
    return f"{unit.name}.parquet"


def _footer_of(metadata: pq.FileMetaData) -> Footer:
    """The facts in a footer.

    Raises:
        ValueError, KeyError, TypeError: it holds none, or not those of its row groups.
    """
    told = metadata.metadata[b"fgseg"]
    if zlib.crc32(told) != int(metadata.metadata[b"fgseg_crc32"]):  # Parquet's own checksums do not guard the footer
        raise ValueError("its footer fails its checksum")
    facts = json.loads(told)
    units = tuple((number, rows, errors) for number, rows, errors in facts["units"])
    rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    if facts["version"] != VERSION or rows != [unit[1] for unit in units]:
        raise ValueError(f"version {facts['version']}, rows {rows}")
    return Footer(facts["run"], facts["part"], units, facts["writers"])


@contextmanager
def _parsing() -> Iterator[None]:
    """Turn what pyarrow and a footer without our facts raise into a _DamageError."""
    try:
        yield
    except (FgsegError, _DamageError, FileNotFoundError):
        raise
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise _DamageError(f"a damaged file ({reason(error)})") from error
