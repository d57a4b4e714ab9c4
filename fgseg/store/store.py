"""The store of a batch run: which images it has, and committing the results of a unit at a time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from fgseg.store.identity import RunIdentity, Writer
from fgseg.store.schema import Item, Row, Unit

__all__ = ["Appended", "Store"]


@dataclass(frozen=True)
class Appended:
    """What `Store.append` found.

    Attributes:
        new: images that the manifest did not have.
        changed: images that it has in another version.
        known: images that it has.
    """

    new: int
    changed: int
    known: int


class Store:
    """A store, opened for one run. `create_or_open` and `open` make it."""

    identity: RunIdentity

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
            StoreError: the store holds another run; the message names the differing settings. Another unit size; a
                folder with other files; a store that cannot be read.
            DiskError: the disk is full or read-only.
        """
        raise NotImplementedError

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, run: str | None = None) -> Store:
        """Open a store as it is; as `open_store`."""
        raise NotImplementedError

    def append(self, items: Iterable[Item]) -> Appended:
        """Add the images that the manifest does not have, or has in another version, as new parts.

        Args:
            items: the images; they are read once, a million at a time.

        Raises:
            StoreError: one id with two addresses.
            DiskError: as `create_or_open`.
        """
        raise NotImplementedError

    def units(self, *, shard: tuple[int, int] = (0, 1), retry_errors: bool = False) -> Iterator[Unit]:
        """The units of this run without a valid shard. Damaged shards are moved to quarantine/.

        Args:
            shard: (index, count): only every count-th unit, beginning with number index.
            retry_errors: also units with error rows.

        Raises:
            StoreError: the store cannot be read.
        """
        raise NotImplementedError

    def items(self, unit: Unit) -> list[Item]:
        """The images of a unit, in their order."""
        raise NotImplementedError

    def is_done(self, unit: Unit) -> bool:
        """Whether the run has a shard of the unit at this moment; another process may have written it."""
        raise NotImplementedError

    def kept_rows(self, unit: Unit) -> list[Row]:
        """The rows of a unit that need not be made again: those of its shard without an error; none without a shard."""
        raise NotImplementedError

    def commit(self, unit: Unit, rows: Sequence[Row], writer: Writer) -> None:
        """Write the rows of a unit, all at once, and forget its attempts.

        Args:
            unit: the unit.
            rows: one for each of its images, in any order.
            writer: who made the rows that name no writer.

        Raises:
            OptionError: rows of other images than the unit's.
            DiskError: as `create_or_open`; nothing is written.
        """
        raise NotImplementedError

    def record_attempt(self, unit: Unit) -> int:
        """Note that a process begins a unit; returns how often this was noted since its last commit, 1 at first."""
        raise NotImplementedError

    def attempts(self, unit: Unit) -> int:
        """How often a unit was begun since its last commit."""
        raise NotImplementedError

    def sweep(self) -> None:
        """Remove what writers that have died left behind: temporary folders, and attempts at units that are done."""
        raise NotImplementedError
