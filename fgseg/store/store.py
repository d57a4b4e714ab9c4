"""The store of a batch run: which images it has, which units are left, and writing the rows of a unit."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pyarrow.compute as pc

from fgseg._checks import check_side
from fgseg.errors import OptionError, StoreError
from fgseg.store.files import Files, json_bytes, open_files, read_json
from fgseg.store.identity import RunIdentity, Writer
from fgseg.store.manifest import FOLDER, Appended, Manifest
from fgseg.store.schema import VERSION, Item, Row, Unit, rows_to_table, table_to_rows
from fgseg.store.shards import QUARANTINE, Shards

__all__ = ["Store", "open_runs", "stored_runs"]

UNIT_SIZE = 256
"""Images per unit of a new store: minutes of work, and a shard of a few megabytes."""
_ABOUT, _RUNS, _ATTEMPTS = "fgseg-store.json", "runs", "attempts"
_FORMAT = "fgseg-store"


class Store:
    """A store, opened for one run. `create_or_open` and `open` make it.

    Several processes may work on one run at the same time, each with a Store of its own: every file appears complete,
    and two processes that do the same unit write the same rows. A Store does not travel between processes; its path and
    `identity.key` do.

    Attributes:
        identity: the settings of the run.
        manifest: the images.
        shards: the results of the run.
        files: the files of the store.
    """

    def __init__(self, files: Files, identity: RunIdentity, unit_size: int) -> None:
        """Put a store together from its files, a run and the number of images per unit."""
        self.files, self.identity = files, identity
        self.manifest, self.shards = Manifest(files, unit_size), Shards(files, identity.key)

    @classmethod
    def create_or_open(
        cls,
        path: str | os.PathLike[str],
        identity: RunIdentity,
        *,
        unit_size: int | None = None,
        new_run: bool = False,
    ) -> Store:
        """Open a store to write the results of a run; a new one is created.

        Args:
            path: folder of the store, or an address that fsspec opens.
            identity: the settings of the run.
            unit_size: images per unit; None takes the store's own, or 256 for a new one.
            new_run: accept a store with other runs, and add this one.

        Raises:
            StoreError: the store holds another run (the message names the settings that differ), another unit size, or
                other files; or it cannot be read.
            DiskError: the disk is full or read-only.
        """
        if unit_size is not None:
            check_side("unit_size", unit_size)
        files = open_files(path)
        if not files.exists(_ABOUT):
            _create(files, unit_size or UNIT_SIZE)
        stored_size = _unit_size(files)
        if unit_size not in (None, stored_size):
            where = files.location("")
            raise StoreError(f"unit_size: expected {stored_size} as in {where}, got {unit_size}; leave it out")
        runs = stored_runs(files)
        if identity.key not in runs:
            if runs and not new_run:
                raise StoreError(_other_run(files, identity, runs.values()))
            files.create(f"{_RUNS}/{identity.key}.json", json_bytes(identity.settings))
        return cls(files, identity, stored_size)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, run: str | None = None) -> Store:
        """Open a store that is there, to read it or to go on with a run.

        Args:
            path: as in `create_or_open`.
            run: key of the run; None takes the only one.

        Raises:
            StoreError: there is no store, it cannot be read, or it has no such run, or several and `run` is None.
        """
        files = _opened(path)
        runs = stored_runs(files)
        key = next(iter(runs)) if run is None and len(runs) == 1 else run
        if key not in runs:
            listed = ", ".join(runs) or "none"
            raise StoreError(f"run: expected one of the runs of {files.location('')} ({listed}), got {run}; name it")
        return cls(files, runs[key], _unit_size(files))

    def append(self, items: Iterable[Item]) -> Appended:
        """Add the images that the manifest does not have, or has in another version, as new parts.

        An image is the same version if its size, time and tag are the same, as far as both are known.

        Args:
            items: the images; they are read once, and half a million are in memory at a time.

        Raises:
            StoreError: one id with two addresses.
            DiskError: as `create_or_open`.
        """
        return self.manifest.append(items)

    def units(self, *, shard: tuple[int, int] = (0, 1), retry_errors: bool = False) -> Iterator[Unit]:
        """The units of this run without a valid shard, looked for as they are asked for.

        Damaged shards are moved to quarantine/, with a warning.

        Args:
            shard: (index, count): only every count-th unit, beginning with number index.
            retry_errors: also units with error rows.

        Raises:
            OptionError: a shard that is not two numbers with 0 <= index < count.
            StoreError: the store cannot be read.
        """
        index, count = shard
        if not 0 <= index < count:
            raise OptionError(f"shard: expected (index, count) with 0 <= index < count, got {shard}; begin with 0")
        self.shards.refresh()
        for position, unit in enumerate(self.manifest.units()):
            if position % count == index and self._is_left(unit, retry_errors=retry_errors):
                yield unit

    def items(self, unit: Unit) -> list[Item]:
        """The images of a unit, in their order."""
        return self.manifest.items(unit)

    def is_done(self, unit: Unit) -> bool:
        """Whether a unit that was left when the run was planned has a file now; another process may have written it.

        After `fgseg store compact` it has none of its own. Then it is done again, which gives the same rows.
        """
        return self.shards.is_written(unit)

    def kept_rows(self, unit: Unit) -> list[Row]:
        """The rows of a unit that need not be made again: those of its shard without an error; none without a shard."""
        table = self.shards.table(unit)
        return [] if table is None else table_to_rows(table.filter(pc.equal(table["status"], "ok")))

    def commit(self, unit: Unit, rows: Sequence[Row], writer: Writer) -> None:
        """Forget the attempts of a unit, and write its rows, all at once.

        Args:
            unit: the unit.
            rows: one for each of its images, in any order.
            writer: who made the rows that name no writer. Other rows are those of `kept_rows`.

        Raises:
            OptionError: rows of other images than the unit's.
            DiskError: as `create_or_open`; nothing is written.
        """
        by_id = {row.image_id: row if row.writer else replace(row, writer=writer.key) for row in rows}
        ids = self.manifest.ids(unit)
        if len(rows) != len(ids) or by_id.keys() != set(ids):
            other = sorted(by_id.keys() ^ set(ids))[:3]
            raise OptionError(
                f"rows: expected one for each of the {len(ids)} images of unit {unit.name}, got {len(rows)} "
                f"(differing: {', '.join(other) or 'repeats'}); give the rows of `items`"
            )
        writers = {writer.key: writer.record} | self._earlier_writers(
            unit, {row.writer for row in by_id.values()} - {writer.key}
        )
        for name in self._attempt_names(unit):  # first: afterwards, a kill in between would leave them for ever
            self.files.remove(f"{_ATTEMPTS}/{name}")
        self.shards.write(unit, rows_to_table([by_id[image_id] for image_id in ids], unit), writers)

    def record_attempt(self, unit: Unit) -> int:
        """Note that a process begins a unit.

        Returns:
            How often that was noted since the unit's last commit, 1 at first.

        Raises:
            DiskError: as `create_or_open`.
        """
        self.files.create(f"{_ATTEMPTS}/{self.identity.key}-{unit.name}-{uuid4().hex}", b"")
        return self.attempts(unit)

    def attempts(self, unit: Unit) -> int:
        """How often a unit was begun since its last commit."""
        return len(self._attempt_names(unit))

    def begun(self) -> int:
        """Number of units of the run that were begun and not committed since."""
        names = self.files.names(_ATTEMPTS)
        return len({name.rpartition("-")[0] for name in names if name.startswith(f"{self.identity.key}-")})

    def sweep(self) -> None:
        """Remove what writers that have died left half written."""
        for folder in ("", FOLDER, _RUNS, _ATTEMPTS, self.shards.folder):
            self.files.sweep(folder)

    def _is_left(self, unit: Unit, *, retry_errors: bool) -> bool:
        shard = self.shards.find_or_quarantine(unit)
        if shard is None:
            return not self.shards.is_written(unit)  # another process may have written it since the names were listed
        return retry_errors and shard.errors > 0

    def _earlier_writers(self, unit: Unit, keys: set[str]) -> dict[str, Any]:
        """The records of the writers of rows that are kept."""
        if not keys:
            return {}
        shard = self.shards.find(unit)
        return {key: record for key, record in (shard.writers if shard else {}).items() if key in keys}

    def _attempt_names(self, unit: Unit) -> list[str]:
        prefix = f"{self.identity.key}-{unit.name}-"
        return [name for name in self.files.names(_ATTEMPTS) if name.startswith(prefix)]


def open_runs(path: str | os.PathLike[str]) -> list[Store]:
    """Every run of a store; arguments and errors as in `Store.open`."""
    files = _opened(path)
    return [Store(files, identity, _unit_size(files)) for identity in stored_runs(files).values()]


def stored_runs(files: Files) -> dict[str, RunIdentity]:
    """Key -> settings of each run of a store, in the order of the keys.

    Raises:
        StoreError: a damaged file.
    """
    runs = {}
    for name in sorted(files.names(_RUNS)):
        if name.endswith(".json"):
            path = f"{_RUNS}/{name}"
            settings = read_json(files, path)
            with suppress(OptionError):
                identity = RunIdentity(settings)
                if f"{identity.key}.json" == name:
                    runs[identity.key] = identity
                    continue
            raise StoreError(f"{files.location(path)}: expected the settings of a run, got others; restore the file")
    return runs


def _opened(path: str | os.PathLike[str]) -> Files:
    files = open_files(path)
    if not files.exists(_ABOUT):
        raise StoreError(f"{files.location('')}: expected a store, got no {_ABOUT} in it; `fgseg batch` makes one")
    return files


def _create(files: Files, unit_size: int) -> None:
    """Make an empty folder a store; another process may do so at the same time."""
    ours = {_ABOUT, _RUNS, _ATTEMPTS, FOLDER, QUARANTINE, "masks"}
    entries = {*files.names(""), *files.folders("")}
    if others := sorted(name for name in entries - ours if not name.startswith(".")):
        raise StoreError(
            f"{files.location('')}: expected an empty folder or a store, got {', '.join(others[:3])} in it; "
            "name a new folder"
        )
    files.create(_ABOUT, json_bytes({"format": _FORMAT, "version": VERSION, "unit_size": unit_size}))


def _unit_size(files: Files) -> int:
    about = read_json(files, _ABOUT)
    if (about.get("format"), about.get("version")) != (_FORMAT, VERSION):
        raise StoreError(
            f"{files.location(_ABOUT)}: expected version {VERSION} of {_FORMAT}, got {about.get('version')!r} of "
            f"{about.get('format')!r}; read it with the version of fgseg that made it"
        )
    return int(about["unit_size"])


def _other_run(files: Files, identity: RunIdentity, runs: Iterable[RunIdentity]) -> str:
    """The message that names what differs from the stored run that is most alike."""
    differences = min((identity.differences(stored) for stored in runs), key=len)
    return (
        f"{files.location('')}: the store holds another run ({'; '.join(differences)}); "
        "name another store, or keep both runs in this one with --new-run (new_run=True)"
    )
