"""Shards: what makes one valid, damage, joined files, and readers that look while files change."""

import json
import logging
import zlib
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from stores import WRITER, commit, filled, identity, items, row_of

from fgseg.errors import OptionError, StoreError
from fgseg.store.maintenance.checking import check_store
from fgseg.store.maintenance.compacting import compact_store
from fgseg.store.schema import Unit, table_to_rows
from fgseg.store.shards import Shards, places_of
from fgseg.store.store import Store

FIRST = "0000-000000.parquet"


def path_of(store, name=FIRST):
    return f"{store.shards.folder}/{name}"


def reopened(store):
    return Store(store.files, store.identity, 3)


def shown(store):
    """The ids of the rows that a reader sees, unit by unit."""
    return [
        name
        for unit in store.manifest.units()
        if (table := store.shards.table(unit, ["image_id"])) is not None
        for name in table["image_id"].to_pylist()
    ]


def test_a_shard_is_a_parquet_file_that_others_read(tmp_path):
    store = filled(tmp_path / "store", failing=["a/0001.jpg"])
    table = pq.read_table(tmp_path / "store" / path_of(store))
    assert table["status"].to_pylist() == ["ok", "error", "ok"]
    assert table["classes"].to_pylist()[0][0]["name"] == "cup"


def test_the_footer_says_run_unit_rows_errors_and_writers(tmp_path):
    store = filled(tmp_path / "store", failing=["a/0001.jpg"])
    metadata = pq.read_metadata(tmp_path / "store" / path_of(store)).metadata
    assert int(metadata[b"fgseg_crc32"]) == zlib.crc32(metadata[b"fgseg"])
    assert json.loads(metadata[b"fgseg"]) == {
        "version": 1, "run": store.identity.key, "part": 0, "units": [[0, 3, 1]],
        "writers": {WRITER.key: dict(WRITER.record)},
    }  # fmt: skip


def test_a_footer_stays_small_although_label_maps_are_large(tmp_path):
    store = Store.create_or_open(tmp_path / "store", identity(), unit_size=64)
    store.append(items(64))
    (unit,) = store.units()
    commit(store, unit, labels=b"\x89PNG" + bytes(100_000))
    assert pq.read_metadata(tmp_path / "store" / path_of(store)).serialized_size < 2**14


DAMAGE = {
    "cut short": lambda store, data: data[:-10],
    "cut in the middle": lambda store, data: data[: len(data) // 2],
    "empty": lambda store, data: b"",
    "no parquet": lambda store, data: b"<html>busy</html>",
    "of another unit": lambda store, data: store.files.read(path_of(store, "0000-000001.parquet")),
    "of fewer rows": lambda store, data: of_two_rows(),
    "a footer of zeros": lambda store, data: data[:-1000] + bytes(992) + data[-8:],
    "a count in the footer": lambda store, data: data.replace(b"[[0, 3, 0]]", b"[[0, 3, 1]]"),
    "without our facts": lambda store, data: without_facts(data),
}


def of_two_rows():
    """The first shard of a store of the same settings with two images per unit."""
    place = f"memory://two-rows-{uuid4().hex}/store"
    store = filled(place, unit_size=2)
    return store.files.read(path_of(store))


def without_facts(data):
    sink = pa.BufferOutputStream()
    pq.write_table(pq.read_table(pa.BufferReader(data)).replace_schema_metadata(), sink)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_shard_that_is_not_what_its_name_says_is_set_aside_and_made_again(place, damage, caplog):
    store = filled(place)
    store.files.write(path_of(store), damage(store, store.files.read(path_of(store))))
    again = reopened(store)
    with pytest.raises(StoreError, match="`fgseg store check STORE --quarantine`"):
        again.shards.table(Unit(0, 0, 3))
    with caplog.at_level(logging.WARNING, "fgseg"):
        assert list(again.units()) == [Unit(0, 0, 3)]
    assert "it was moved to quarantine/" in caplog.text
    (name,) = store.files.names("quarantine")
    assert name.startswith(f"{store.identity.key}-0000-000000-")
    commit(again, Unit(0, 0, 3))
    assert list(reopened(store).units()) == []


def test_the_shard_of_another_run_is_no_shard(place):
    store, other = filled(place), filled(place + "2", threshold=0.1)
    store.files.write(path_of(store), other.files.read(path_of(other)))
    assert list(reopened(store).units()) == [Unit(0, 0, 3)]


def test_a_file_that_cannot_be_reached_is_not_taken_for_damaged(place, monkeypatch):
    store = reopened(filled(place))

    def tail(name, size):
        raise StoreError(f"{name}: cannot be reached (timed out); check the network")

    monkeypatch.setattr(store.files, "tail", tail)
    with pytest.raises(StoreError, match="timed out"):
        list(store.units())
    assert store.files.names("quarantine") == []


@pytest.fixture(scope="module")
def bytes_of_a_store(tmp_path_factory):
    store = filled(tmp_path_factory.mktemp("flip") / "store", failing=["a/0001.jpg"])
    return store, store.files.read(path_of(store))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_a_byte_that_flips_anywhere_is_found_or_changes_no_row(bytes_of_a_store, place_of_byte, flip):
    store, data = bytes_of_a_store
    index = int(place_of_byte * len(data))
    store.files.write(path_of(store), data[:index] + bytes([data[index] ^ flip]) + data[index + 1 :])
    again = reopened(store)
    problems = list(check_store(again))
    if not problems:
        rows = table_to_rows(again.shards.table(Unit(0, 0, 3)))
        store.files.write(path_of(store), data)
        for row, right in zip(rows, table_to_rows(store.shards.table(Unit(0, 0, 3))), strict=True):
            assert vars(row) == vars(right)


def test_every_byte_of_a_label_map_is_guarded(tmp_path):
    store = filled(tmp_path / "store", count=1)
    commit(store, Unit(0, 0, 1), labels=b"\x89PNG" + b"0123456789abcdef" * 4)
    data = store.files.read(path_of(store))
    index = data.index(b"456789abcdef")
    store.files.write(path_of(store), data[:index] + b"#" + data[index + 1 :])
    assert reopened(store).shards.find(Unit(0, 0, 1)) is not None  # the footer alone does not tell
    (problem,) = check_store(reopened(store))
    assert "damaged" in problem.fault


def test_joined_units_are_read_as_before_from_fewer_files(place):
    store = filled(place, failing=["a/0004.jpg"])
    before = [store.shards.table(unit) for unit in store.manifest.units()]
    done = compact_store(store)
    assert (done.before, done.after) == (3, 1)
    again = reopened(store)
    assert list(again.shards.files()) == ["0000-000000-000002.parquet"]
    assert [again.shards.table(unit) for unit in again.manifest.units()] == before
    assert list(again.units()) == []
    assert list(again.units(retry_errors=True)) == [Unit(0, 1, 3)]
    assert again.shards.find(Unit(0, 1, 3)).writers == {WRITER.key: dict(WRITER.record)}


def test_a_unit_that_is_done_again_goes_before_the_joined_file_and_is_joined_again(place):
    store = filled(place, failing=["a/0004.jpg"])
    compact_store(store)
    commit(store, Unit(0, 1, 3))
    assert list(reopened(store).units(retry_errors=True)) == []
    again = reopened(store)
    compact_store(again)
    assert list(again.shards.files()) == ["0000-000000-000002.parquet"]
    assert list(reopened(store).units(retry_errors=True)) == []


def test_parts_that_are_not_done_stay_as_they_are(place):
    store = filled(place)
    store.append(items(3, first=8))
    compact_store(store)
    commit(store, Unit(1, 0, 3))
    store.append(items(6, first=11))
    commit(store, Unit(2, 0, 3))
    compact_store(store)
    assert sorted(store.shards.files()) == [
        "0000-000000-000002.parquet", "0001-000000.parquet", "0002-000000.parquet",
    ]  # fmt: skip


def test_files_are_joined_up_to_a_size(place):
    store = filled(place, count=18)
    size = max(store.shards.files().values())
    compact_store(store, joined_bytes=3 * size)
    assert sorted(store.shards.files()) == ["0000-000000-000002.parquet", "0000-000003-000005.parquet"]
    assert shown(reopened(store)) == [item.image_id for item in items(18)]


class Stopped(BaseException):
    """A kill."""


@pytest.mark.parametrize("steps", range(5))
def test_readers_see_each_row_once_wherever_compacting_is_stopped(place, steps, monkeypatch):
    store = filled(place)
    expected = [item.image_id for item in items(8)]
    reader = reopened(store)
    assert reader.shards.has(Unit(0, 0, 3))  # it has listed the files
    calls = iter(range(steps + 1))
    for name in ("write", "remove"):
        act = getattr(store.files, name)

        def step(*arguments, act=act):
            assert shown(reopened(store)) == expected
            if next(calls, None) == steps:
                raise Stopped
            act(*arguments)

        monkeypatch.setattr(store.files, name, step)
    if steps < 4:  # a write and three removals
        with pytest.raises(Stopped):
            compact_store(store)
    else:
        compact_store(store)
    monkeypatch.undo()
    assert shown(reader) == shown(reopened(store)) == expected
    compact_store(reopened(store))
    assert list(reopened(store).shards.files()) == ["0000-000000-000002.parquet"]
    assert shown(reader) == expected


def test_a_shard_that_another_process_writes_while_files_are_joined_is_kept(place, monkeypatch):
    store = filled(place, failing=["a/0004.jpg"])
    write = store.files.write

    def write_then_retry(name, data):
        write(name, data)
        monkeypatch.undo()
        commit(reopened(store), Unit(0, 1, 3))

    monkeypatch.setattr(store.files, "write", write_then_retry)
    compact_store(store)
    assert sorted(store.shards.files()) == ["0000-000000-000002.parquet", "0000-000001.parquet"]
    assert list(reopened(store).units(retry_errors=True)) == []


def test_a_damaged_joined_file_is_set_aside_and_all_its_units_are_made_again(place):
    store = filled(place)
    compact_store(store)
    joined = path_of(store, "0000-000000-000002.parquet")
    store.files.write(joined, store.files.read(joined)[:-10])
    assert list(reopened(store).units()) == list(store.manifest.units())


def test_other_names_in_the_folder_are_left_alone(place):
    store = filled(place)
    store.files.write(f"{store.shards.folder}/notes.txt", b"mine")
    compact_store(store)
    assert "notes.txt" in store.files.names(store.shards.folder)
    with pytest.raises(OptionError, match=r"such as 0000-000012.parquet, got 'notes.txt'"):
        places_of("notes.txt")


def test_files_that_come_and_go_are_looked_for_a_few_times(place, monkeypatch):
    store = reopened(filled(place))

    def gone(name):
        raise FileNotFoundError(name)

    monkeypatch.setattr(store.files, "open", gone)
    with pytest.raises(StoreError, match="come and go; try again"):
        store.shards.table(Unit(0, 0, 3))


def test_a_unit_without_a_shard_has_no_rows(place):
    shards = Shards(filled(place).files, "another")
    assert shards.table(Unit(0, 0, 3)) is None
    assert shards.find(Unit(0, 0, 3)) is None


def test_rows_keep_their_order_whatever_the_order_of_the_commit(place):
    store = Store.create_or_open(place, identity(), unit_size=4)
    store.append(items(4))
    (unit,) = store.units()
    store.commit(unit, [row_of(item) for item in reversed(store.items(unit))], WRITER)
    assert shown(store) == [item.image_id for item in items(4)]
