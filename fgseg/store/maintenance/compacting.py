"""Joining the small shards of finished parts into few large files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from fgseg.store.schema import Unit
from fgseg.store.store import Store

__all__ = ["JOINED_BYTES", "Compacted", "compact_store"]

JOINED_BYTES = 2**27
"""Bytes of a joined file, about; they are in memory while it is made."""


@dataclass(frozen=True)
class Compacted:
    """What `compact_store` did.

    Attributes:
        before: number of files of the run.
        after: number of files then.
    """

    before: int
    after: int


def compact_store(
    store: Store, *, joined_bytes: int = JOINED_BYTES, progress: Callable[[int, int], None] | None = None
) -> Compacted:
    """Join the shards of each part whose units are all done.

    It may be stopped at any moment and begun again. A reader of fgseg finds each row once all the time; other readers
    take the newest row of each image, as docs/store.md shows, because for a moment a row is in two files.

    Args:
        store: the store of a run.
        joined_bytes: size of a joined file, about.
        progress: called with the number of joined files that are written, and of all of them.

    Raises:
        StoreError: a shard is damaged.
        DiskError: the disk is full or read-only.
    """
    store.shards.refresh()
    sizes = store.shards.files()
    groups = [group for part in store.manifest.parts() for group in _groups(store, part, sizes, joined_bytes)]
    for done, group in enumerate(groups, start=1):
        store.shards.join(group)
        if progress is not None:
            progress(done, len(groups))
    return Compacted(len(sizes), len(store.shards.files()))


def _groups(store: Store, part: int, sizes: dict[str, int], joined_bytes: int) -> Iterator[Sequence[Unit]]:
    """The units of a part that go into one file together; none if a unit is not done."""
    units = store.manifest.units_of(part)
    if not all(store.shards.has(unit) for unit in units):
        return
    for joined, covered in groupby(units, key=store.shards.joined_name):
        listed = list(covered)
        names = [store.shards.own_name(unit) for unit in listed]
        if joined is None:
            own = [sizes.get(name or "", 0) for name in names]
            yield from (listed[start:end] for start, end in _ranges(own, joined_bytes) if end - start > 1)
        elif any(names):  # a unit was done again, or the last compaction was stopped before it removed their files
            yield listed


def _ranges(sizes: Sequence[int], most: int) -> Iterator[tuple[int, int]]:
    """Ranges of files that have at most so many bytes together, or one file.

    >>> list(_ranges([3, 3, 3, 9, 1], 6))
    [(0, 2), (2, 3), (3, 4), (4, 5)]
    """
    start = total = 0
    for index, size in enumerate(sizes):
        if index > start and total + size > most:
            yield start, index
            start, total = index, 0
        total += size
    if sizes:
        yield start, len(sizes)
