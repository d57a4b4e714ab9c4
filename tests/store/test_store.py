"""The store: runs, units that are left, commits, attempts, and processes that work at once or are killed."""

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from stores import WRITER, all_ids, commit, filled, identity, items, row_of

from fgseg.errors import DiskError, OptionError, OutputError, StoreError
from fgseg.store.identity import Writer
from fgseg.store.manifest import Appended
from fgseg.store.schema import Unit
from fgseg.store.store import Store, open_runs, stored_runs


def opened(place, **settings):
    return Store.create_or_open(place, identity(**settings), unit_size=3)


def files_of(folder):
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def test_units_are_left_until_they_are_committed(place):
    store = opened(place)
    assert list(store.units()) == []
    store.append(items(8))
    assert list(store.units()) == [Unit(0, 0, 3), Unit(0, 1, 3), Unit(0, 2, 2)]
    commit(store, Unit(0, 1, 3))
    assert [store.is_done(unit) for unit in store.manifest.units()] == [False, True, False]
    assert list(opened(place).units()) == [Unit(0, 0, 3), Unit(0, 2, 2)]
    for unit in store.units():
        commit(store, unit)
    assert list(opened(place).units()) == []


def test_new_and_changed_images_are_units_of_their_own(place):
    store = filled(place)
    assert store.append([*items(1, mtime_ns=1), *items(2, first=8)]) == Appended(new=2, changed=0, known=1)
    assert list(store.units()) == [Unit(1, 0, 2)]


def test_a_store_has_these_files(tmp_path):
    store = filled(tmp_path / "store", count=4)
    key = store.identity.key
    assert files_of(tmp_path / "store") == [
        "fgseg-store.json", "manifest/0000.parquet", f"masks/run={key}/0000-000000.parquet",
        f"masks/run={key}/0000-000001.parquet", f"runs/{key}.json",
    ]  # fmt: skip
    about = json.loads((tmp_path / "store" / "fgseg-store.json").read_text(encoding="utf-8"))
    assert about == {"format": "fgseg-store", "version": 1, "unit_size": 3}


def test_another_run_is_refused_with_the_settings_that_differ(place):
    filled(place)
    with pytest.raises(StoreError) as caught:
        opened(place, threshold=0.4, refine="pamr")
    message = str(caught.value)
    assert '(threshold: stored 0.5, now 0.4; refine: stored null, now "pamr")' in message
    assert "--new-run" in message
    assert "\n" not in message


def test_a_new_run_has_results_of_its_own_over_the_same_images(place):
    first = filled(place)
    second = Store.create_or_open(place, identity(threshold=0.4), new_run=True)
    assert list(second.units()) == list(second.manifest.units())
    assert list(opened(place).units()) == []
    assert stored_runs(second.files) == {run.key: run for run in (first.identity, second.identity)}
    assert {store.identity.key for store in open_runs(place)} == {first.identity.key, second.identity.key}


def test_a_store_of_several_runs_is_opened_by_the_key_of_one(place):
    first = filled(place)
    assert Store.open(place).identity == first.identity
    Store.create_or_open(place, identity(threshold=0.4), new_run=True)
    assert Store.open(place, run=first.identity.key).identity == first.identity
    for run in (None, "0123"):
        with pytest.raises(StoreError, match=rf"run: expected one of .*{first.identity.key}.*, got {run}; name it"):
            Store.open(place, run=run)


def test_the_settings_that_differ_are_those_of_the_run_that_is_most_alike(place):
    opened(place, threshold=0.4, refine="pamr")
    Store.create_or_open(place, identity(threshold=0.3), new_run=True)
    with pytest.raises(StoreError, match=r"\(threshold: stored 0.3, now 0.5\)"):
        opened(place)


def test_the_number_of_images_per_unit_is_that_of_the_store(place):
    opened(place)
    store = Store.create_or_open(place, identity())
    store.append(items(4))
    assert [unit.rows for unit in store.manifest.units()] == [3, 1]
    with pytest.raises(StoreError, match=r"unit_size: expected 3 as in .*, got 4; leave it out"):
        Store.create_or_open(place, identity(), unit_size=4)
    with pytest.raises(OptionError, match="unit_size"):
        Store.create_or_open(place, identity(), unit_size=0)


def test_256_images_are_a_unit_of_a_new_store(place):
    store = Store.create_or_open(place, identity())
    store.append(items(257))
    assert [unit.rows for unit in store.manifest.units()] == [256, 1]


def test_a_folder_with_other_files_does_not_become_a_store(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    (tmp_path / ".hidden").write_text("", encoding="utf-8")
    with pytest.raises(StoreError, match=r"expected an empty folder or a store, got thesis.txt in it"):
        opened(tmp_path)
    assert files_of(tmp_path) == [".hidden", "thesis.txt"]
    (tmp_path / "thesis.txt").unlink()
    opened(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("fgseg-store.json", b'{"format": "fgseg-store", "version": 2}', "expected version 1 of fgseg-store, got 2"),
        ("fgseg-store.json", b'{"format"', "expected a JSON object, got a damaged file"),
        ("runs/0123.json", b'{"mode": "exclusive"}', "expected the settings of a run, got others"),
        ("runs/0123.json", b"[]", "expected a JSON object"),
    ],
)
def test_a_damaged_store_is_named_in_a_sentence(place, name, content, message):
    filled(place).files.write(name, content)
    for open_it in (Store.open, opened):
        with pytest.raises(StoreError, match=message):
            open_it(place)


@pytest.mark.parametrize("nowhere", ["nowhere", "memory://nowhere", ""])
def test_a_store_that_is_not_there_is_named(nowhere, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match=r"expected a store, got no fgseg-store\.json|got no name"):
        Store.open(nowhere)


@pytest.mark.parametrize("address", ["gopher://host/store", "memory:///"])
def test_an_address_that_does_not_work_is_a_sentence(address):
    with pytest.raises(StoreError):
        Store.open(address)


def test_an_address_of_this_machine_is_a_folder(tmp_path):
    filled((tmp_path / "store").as_uri())
    assert list(opened(tmp_path / "store").units()) == []
    assert opened((tmp_path / "store").as_uri()).files.location("") == str(tmp_path / "store")


def test_a_file_in_place_of_the_folder_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises((StoreError, OutputError), match="file"):
        opened(tmp_path / "file")


def test_rows_of_other_images_are_refused(place):
    store = opened(place)
    store.append(items(3))
    (unit,) = store.units()
    right = [row_of(item) for item in store.items(unit)]
    wrong = row_of(items(1, first=7)[0])
    for rows in (right[:2], [*right, wrong], [*right[:2], wrong], [*right, right[0]]):
        with pytest.raises(OptionError, match="rows: expected one for each of the 3 images of unit 0000-000000"):
            store.commit(unit, rows, WRITER)
    assert list(store.units()) == [unit]


def test_shards_of_units_are_apart_and_leave_none_out(place):
    store = opened(place)
    store.append(items(14))
    shares = [list(store.units(shard=(index, 3))) for index in range(3)]
    assert sorted(unit for share in shares for unit in share) == list(store.units())
    assert [len(share) for share in shares] == [2, 2, 1]
    for shard in ((3, 3), (-1, 2), (0, 0)):
        with pytest.raises(OptionError, match="shard: expected"):
            list(store.units(shard=shard))


def test_errors_are_left_only_if_they_are_to_be_retried_and_the_other_rows_are_kept(place):
    store = filled(place, failing=["a/0001.jpg", "a/0004.jpg"])
    store = opened(place)
    assert list(store.units()) == []
    first, second = store.units(retry_errors=True)
    kept = store.kept_rows(first)
    assert [row.image_id for row in kept] == ["a/0000.jpg", "a/0002.jpg"]
    other = Writer({"host": "there"})
    redone = [row_of(item) for item in store.items(first) if item.image_id == "a/0001.jpg"]
    store.commit(first, [*kept, *redone], other)
    assert list(opened(place).units(retry_errors=True)) == [second]
    assert store.shards.find(first).writers == {writer.key: dict(writer.record) for writer in (WRITER, other)}
    assert [row.writer for row in store.kept_rows(first)] == [WRITER.key, other.key, WRITER.key]


def test_a_unit_without_results_keeps_no_row(place):
    store = opened(place)
    store.append(items(3))
    assert store.kept_rows(Unit(0, 0, 3)) == []


def test_attempts_are_counted_until_the_commit(place):
    store = opened(place)
    store.append(items(6))
    first, second = store.units()
    assert store.attempts(first) == 0
    assert [store.record_attempt(first), opened(place).record_attempt(first)] == [1, 2]
    assert [store.record_attempt(second), store.begun()] == [1, 2]
    assert opened(place).attempts(first) == 2
    commit(store, first)
    assert [store.attempts(first), store.attempts(second), store.begun()] == [0, 1, 1]


def test_a_commit_that_ends_as_soon_as_its_shard_is_written_leaves_no_attempt(place, monkeypatch):
    store = opened(place)
    store.append(items(3))
    (unit,) = store.units()
    store.record_attempt(unit)
    write = store.files.write

    def write_and_end(name, data):
        write(name, data)
        raise KeyboardInterrupt

    monkeypatch.setattr(store.files, "write", write_and_end)
    with pytest.raises(KeyboardInterrupt):
        commit(store, unit)
    assert (list(opened(place).units()), store.attempts(unit)) == ([], 0)


def test_attempts_of_another_run_do_not_count(place):
    store = opened(place)
    store.append(items(3))
    (unit,) = store.units()
    store.record_attempt(unit)
    assert Store.create_or_open(place, identity(threshold=0.4), new_run=True).attempts(unit) == 0


def test_a_unit_that_another_process_commits_after_the_names_were_listed_is_not_left(place):
    ours = opened(place)
    ours.append(items(9))
    left = ours.units()
    assert next(left) == Unit(0, 0, 3)
    commit(opened(place), Unit(0, 1, 3))
    assert list(left) == [Unit(0, 2, 3)]
    assert ours.is_done(Unit(0, 1, 3))


def test_a_worker_does_a_unit_without_listing_the_files_of_the_run(place, monkeypatch):
    planner = opened(place)
    planner.append(items(6))
    store, listed = opened(place), []
    names = store.files.names
    monkeypatch.setattr(store.files, "names", lambda folder: listed.append(folder) or names(folder))
    for unit in planner.units():
        assert not store.is_done(unit)
        commit(store, unit)
        assert store.is_done(unit)
    assert not [folder for folder in listed if folder.startswith("masks")]


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_is_full_or_read_only_is_a_sentence_and_leaves_nothing_half_written(tmp_path, monkeypatch, reason):
    store = opened(tmp_path / "store")
    store.append(items(6))
    commit(store, Unit(0, 0, 3))
    before = files_of(tmp_path)

    def full(*_):
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr("os.fsync", full)
    for act in (
        lambda: commit(store, Unit(0, 1, 3)),
        lambda: store.append(items(9)),
        lambda: store.record_attempt(Unit(0, 1, 3)),
        lambda: Store.create_or_open(tmp_path / "store", identity(threshold=0.4), new_run=True),
        lambda: opened(tmp_path / "new"),
    ):
        with pytest.raises(DiskError, match=f"cannot be written, {os.strerror(reason)}; choose another place"):
            act()
    assert files_of(tmp_path) == before
    monkeypatch.undo()
    assert list(opened(tmp_path / "store").units()) == [Unit(0, 1, 3)]


def test_a_finished_store_on_a_read_only_disk_is_opened_and_has_nothing_left(tmp_path, monkeypatch):
    filled(tmp_path / "store")

    def read_only(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("os.mkdir", read_only)
    store = opened(tmp_path / "store")
    assert store.append(items(8)).known == 8
    assert list(store.units()) == []


def test_what_a_killed_writer_left_is_swept_and_what_a_living_one_writes_is_not(tmp_path):
    store = filled(tmp_path / "store")
    folder = tmp_path / "store" / store.shards.folder
    dead, mine = folder / f".{'0' * 32}.part", folder / "notes.part"
    for path in (dead, mine):
        path.mkdir()
        (path / "file").write_bytes(b"half")
    store.sweep()
    assert not dead.exists()
    assert mine.exists()
    Store.create_or_open("memory://swept/store", identity()).sweep()  # an object store has nothing of the kind


WORK = """
import sys, time
from stores import commit, identity
from fgseg.store.store import Store
path, pause = sys.argv[1], float(sys.argv[2])
store = Store.create_or_open(path, identity())
print("ready", flush=True)
for unit in store.units():
    store.record_attempt(unit)
    time.sleep(pause)
    commit(store, unit)
"""


def worker(place, pause):
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent)])}
    return subprocess.Popen(
        [sys.executable, "-c", WORK, str(place), str(pause)], env=environment, stdout=subprocess.PIPE, text=True
    )


def ids_in_shards(store):
    """The ids in all files of the run, as another reader finds them."""
    folder = Path(store.files.location(store.shards.folder))
    tables = [pq.read_table(path, columns=["image_id"]) for path in folder.glob("*.parquet")]
    return [name for table in tables for name in table["image_id"].to_pylist()]


def test_two_processes_at_once_leave_each_row_once(tmp_path):
    store = opened(tmp_path)
    store.append(items(30))
    workers = [worker(tmp_path, 0.01) for _ in range(2)]
    assert [process.communicate()[0] and process.returncode for process in workers] == [0, 0]
    assert list(opened(tmp_path).units()) == []
    assert sorted(ids_in_shards(store)) == all_ids(store)


def test_a_process_that_is_killed_again_and_again_loses_no_row(tmp_path):
    store = opened(tmp_path)
    store.append(items(90))
    pauses = random.Random(7)
    for _ in range(4):
        process = worker(tmp_path, 0.002)
        process.stdout.readline()
        time.sleep(pauses.uniform(0, 0.25))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        again = opened(tmp_path)
        left = {name for unit in again.units() for name in again.manifest.ids(unit)}
        assert sorted([*left, *ids_in_shards(again)]) == all_ids(again)
    again = opened(tmp_path)
    again.sweep()
    for unit in again.units():
        commit(again, unit)
    assert sorted(ids_in_shards(again)) == all_ids(again)
    assert not [path for path in tmp_path.rglob("*.part")]
    assert again.files.names("quarantine") == []
