"""What a store holds and what is left, and whether every byte of it is as it was written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from fgseg.errors import StoreError
from fgseg.store.schema import Unit
from fgseg.store.shards import QUARANTINE, Shard, places_of
from fgseg.store.store import Store

__all__ = ["Problem", "RunStatus", "check_store", "run_status"]

_SET_ASIDE = "`fgseg store check STORE --quarantine` sets it aside, then `fgseg batch` makes its images again"
_MOVED = "it was moved to {}, and `fgseg batch` makes its images again"
_RESTORE = "restore it from a copy, or begin a new store"
_DAMAGED = Shard("", 0, 0, {})


@dataclass(frozen=True)
class Problem:
    """Something in a store that is not as it was written.

    Attributes:
        file: its path or address.
        fault: what is wrong.
        advice: what to do.
    """

    file: str
    fault: str
    advice: str


@dataclass(frozen=True)
class RunStatus:
    """How far a run is.

    Attributes:
        run: its key.
        mode: "exclusive" or "independent".
        classes: number of its classes.
        images: of the manifest, each once.
        units: of the manifest.
        units_done: those with a valid shard.
        rows: in those units, older versions of changed images too.
        errors: rows of images that failed.
        damaged: units whose shard is not valid.
        files: number of the run's files.
        bytes: in those files.
        attempts: units that were begun and not finished.
        quarantined: files of the run in quarantine/.
    """

    run: str
    mode: str
    classes: int
    images: int
    units: int
    units_done: int
    rows: int
    errors: int
    damaged: int
    files: int
    bytes: int
    attempts: int
    quarantined: int


def run_status(store: Store) -> RunStatus:
    """How far the run of a store is. The footers of its shards are read, not their rows.

    Raises:
        StoreError: the store cannot be read.
    """
    units = list(store.manifest.units())
    changed = sum(len(store.manifest.changed(part)) for part in store.manifest.parts())
    done, damaged = [], 0
    for unit in units:
        shard = _shard(store, unit)
        if shard is _DAMAGED:
            damaged += 1
        elif shard is not None:
            done.append((unit.rows, shard.errors))  # not the shard, whose writers take a kilobyte
    sizes, run = store.shards.files(), store.identity.key
    return RunStatus(
        run=run,
        mode=store.identity.settings["mode"],
        classes=len(store.identity.classes),
        images=sum(unit.rows for unit in units) - changed,
        units=len(units),
        units_done=len(done),
        rows=sum(rows for rows, _ in done),
        errors=sum(errors for _, errors in done),
        damaged=damaged,
        files=len(sizes),
        bytes=sum(sizes.values()),
        attempts=store.begun(),
        quarantined=sum(name.startswith(run) for name in store.files.names(QUARANTINE)),
    )


def _shard(store: Store, unit: Unit) -> Shard | None:
    try:
        return store.shards.find(unit)
    except StoreError:
        return _DAMAGED


def check_store(
    store: Store, *, quarantine: bool = False, progress: Callable[[int, int], None] | None = None
) -> Iterator[Problem]:
    """Read every page of the manifest and of the run's shards, and compare its checksum.

    Args:
        store: the store of a run.
        quarantine: move damaged shards to quarantine/, so that `fgseg batch` makes their images again.
        progress: called with the number of files that are read, and of all of them.

    Yields:
        What is wrong, file by file.

    Raises:
        StoreError: a file cannot be reached.
    """
    store.shards.refresh()
    parts, names = store.manifest.parts(), sorted(store.shards.files())
    units: dict[tuple[int, int], Unit] = {}
    for done, part in enumerate(parts):
        _tell(progress, done, len(parts) + len(names))
        if fault := store.manifest.fault(part):
            yield Problem(store.manifest.location(part), fault, _RESTORE)
        else:
            units |= {(unit.part, unit.number): unit for unit in store.manifest.units_of(part)}
    for done, name in enumerate(names, start=len(parts)):
        _tell(progress, done, len(parts) + len(names))
        if fault := _shard_fault(store, name, units):
            location = store.files.location(f"{store.shards.folder}/{name}")
            advice = _MOVED.format(store.shards.quarantine(name)) if quarantine else _SET_ASIDE
            yield Problem(location, fault, advice)
    _tell(progress, len(parts) + len(names), len(parts) + len(names))


def _shard_fault(store: Store, name: str, units: dict[tuple[int, int], Unit]) -> str | None:
    try:
        named = [units[place] for place in places_of(name)]
    except KeyError:
        return "the results of a unit that the manifest does not have"
    return store.shards.fault(name, {unit: store.manifest.ids(unit) for unit in named})


def _tell(progress: Callable[[int, int], None] | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)
