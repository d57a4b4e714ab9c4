"""What `check_store` finds and says, and how far a run is."""

from dataclasses import asdict

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stores import commit, filled, identity, items

from fgseg.errors import StoreError
from fgseg.store.maintenance.checking import check_store, run_status
from fgseg.store.schema import Unit
from fgseg.store.store import Store


def flip(files, name):
    """Change a bit of the ids, in their last page."""
    data = bytearray(files.read(name))
    group = pq.read_metadata(pa.BufferReader(bytes(data))).row_group(0)
    chunk = next(c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == "image_id")
    data[chunk.data_page_offset + chunk.total_compressed_size - 1] ^= 1
    files.write(name, bytes(data))


def test_a_store_as_it_was_written_has_no_problem(place):
    store = filled(place)
    seen = []
    assert list(check_store(store, progress=lambda done, total: seen.append((done, total)))) == []
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_status_counts_units_rows_errors_and_damage(place):
    store = filled(place, failing=["a/0000.jpg", "a/0004.jpg"])
    name = f"{store.shards.folder}/0000-000000.parquet"
    store.files.write(name, store.files.read(name)[:-9])
    found = run_status(Store.open(place))
    assert (found.images, found.units, found.units_done, found.damaged) == (8, 3, 2, 1)
    assert (found.rows, found.errors, found.files) == (5, 1, 3)


def test_a_flipped_byte_is_found_with_what_to_type_and_set_aside(place):
    store = filled(place)
    name = f"{store.shards.folder}/0000-000001.parquet"
    flip(store.files, name)
    assert list(Store.open(place).units()) == []  # its footer is right
    (problem,) = check_store(Store.open(place))
    assert problem.file == store.files.location(name)
    assert problem.fault.startswith("a damaged file (")
    assert "`fgseg store check STORE --quarantine`" in problem.advice
    (problem,) = check_store(Store.open(place), quarantine=True)
    assert "it was moved to quarantine/" in problem.advice
    assert list(Store.open(place).units()) == [Unit(0, 1, 3)]
    assert list(check_store(Store.open(place))) == []


def test_a_flipped_byte_of_the_manifest_is_found(place):
    store = filled(place)
    flip(store.files, "manifest/0000.parquet")
    problem = next(check_store(Store.open(place)))
    assert problem.file == store.files.location("manifest/0000.parquet")
    assert "CRC" in problem.fault
    assert problem.advice == "restore it from a copy, or begin a new store"


def test_a_shard_with_other_images_than_the_manifest_is_found(place):
    store = filled(place)
    other = filled(f"{place}-2", count=11)  # another order of the same settings
    other_name = f"{other.shards.folder}/0000-000001.parquet"
    moved = Store.create_or_open(f"{place}-3", identity(), unit_size=3)
    moved.append(items(11, first=100))
    moved.files.write(other_name, other.files.read(other_name))
    (problem,) = check_store(moved)
    assert problem.fault == "unit 1 holds other images than the manifest"
    assert list(check_store(store)) == []


def test_the_results_of_a_unit_that_the_manifest_lacks_are_found(place):
    store = filled(place)
    name = f"{store.shards.folder}/0000-000001.parquet"
    store.files.write(f"{store.shards.folder}/0007-000001.parquet", store.files.read(name))
    (problem,) = check_store(Store.open(place))
    assert problem.fault == "the results of a unit that the manifest does not have"


def test_units_that_are_not_done_are_no_problem(place):
    store = Store.create_or_open(place, identity(), unit_size=3)
    store.append(items(8))
    assert list(check_store(store)) == []


def test_a_file_that_cannot_be_reached_ends_the_check(place, monkeypatch):
    store = filled(place)

    def unreachable(name):
        raise StoreError(f"{name}: cannot be reached")

    monkeypatch.setattr(store.files, "open", unreachable)
    with pytest.raises(StoreError, match="cannot be reached"):
        list(check_store(store))


def test_the_status_counts_images_units_errors_and_files(place):
    store = Store.create_or_open(place, identity(), unit_size=3)
    store.append(items(8))
    commit(store, Unit(0, 0, 3), failing=["a/0001.jpg"])
    commit(store, Unit(0, 1, 3))
    store.append(items(1, mtime_ns=4))
    store.append(items(1, mtime_ns=5))
    store.record_attempt(Unit(1, 0, 1))
    status = asdict(run_status(Store.open(place)))
    assert status.pop("bytes") == sum(store.shards.files().values())
    assert status == {
        "run": store.identity.key, "mode": "exclusive", "classes": 2, "images": 8, "units": 5, "units_done": 2,
        "rows": 6, "errors": 1, "damaged": 0, "files": 2, "attempts": 1, "quarantined": 0,
    }  # fmt: skip


def test_the_status_counts_what_is_damaged_and_what_was_set_aside(place):
    store = filled(place)
    name = f"{store.shards.folder}/0000-000001.parquet"
    store.files.write(name, b"")
    status = run_status(Store.open(place))
    assert (status.units_done, status.damaged, status.quarantined) == (2, 1, 0)
    list(Store.open(place).units())
    status = run_status(Store.open(place))
    assert (status.units_done, status.damaged, status.quarantined) == (2, 0, 1)
