"""Reading a store: rows, tables, results of images, and what counts after images changed."""

import numpy as np
import pytest
from stores import CLASSES, LABELS, commit, filled, identity, items, row_of

import fgseg
from fgseg.errors import OptionError, ShapeError, StoreError
from fgseg.store import opening
from fgseg.store.maintenance.compacting import compact_store
from fgseg.store.results.stored_result import StoredResult
from fgseg.store.schema import SCHEMA, Unit
from fgseg.store.store import Store
from fgseg.types import Region

IDS = [item.image_id for item in items(8)]


def test_iterating_gives_each_row_in_the_order_of_the_manifest(place):
    filled(place, failing=[IDS[4]])
    reader = fgseg.open_store(place)
    assert len(reader) == 8
    assert [row.image_id for row in reader] == IDS
    assert [row.status for row in reader] == ["ok"] * 4 + ["error"] + ["ok"] * 3
    assert reader.classes == ("cup", "red")


def test_images_that_are_not_done_have_no_row(place):
    store = Store.create_or_open(place, identity(), unit_size=3)
    store.append(items(8))
    assert len(fgseg.open_store(place)) == 0
    assert list(fgseg.open_store(place)) == []
    assert fgseg.open_store(place).to_arrow().schema == SCHEMA
    commit(store, Unit(0, 1, 3))
    reader = fgseg.open_store(place)
    assert (len(reader), [row.image_id for row in reader]) == (3, IDS[3:6])
    with pytest.raises(OptionError, match=r"image_id: 'a/0000.jpg' is not done yet; `fgseg batch` continues"):
        reader.result(IDS[0])


def test_the_newest_row_of_an_image_that_changed_counts_once_it_is_there(place):
    store = filled(place)
    store.append(items(2, first=3, mtime_ns=9))
    assert [row.mtime_ns for row in fgseg.open_store(place)] == [1] * 8  # the new versions are not done yet
    commit(store, Unit(1, 0, 2), failing=[IDS[4]])
    for _ in range(2):
        reader = fgseg.open_store(place)
        assert [row.image_id for row in reader] == [*IDS[:3], *IDS[5:], *IDS[3:5]]
        assert (len(reader), reader.row(IDS[3]).mtime_ns, reader.row(IDS[2]).mtime_ns) == (8, 9, 1)
        assert [row.image_id for row in reader.errors()] == [IDS[4]]
        compact_store(store)
    store.append(items(1, first=3, mtime_ns=10))
    commit(store, Unit(2, 0, 1))
    assert (len(fgseg.open_store(place)), fgseg.open_store(place).row(IDS[3]).mtime_ns) == (8, 10)


def test_errors_are_the_rows_of_images_that_failed(place):
    filled(place, failing=[IDS[1], IDS[7]])
    assert [(row.image_id, row.error_type) for row in fgseg.open_store(place).errors()] == [
        (IDS[1], "ImageError"), (IDS[7], "ImageError"),
    ]  # fmt: skip


def test_tables_have_the_columns_that_are_asked_for_a_unit_at_a_time(place):
    store = filled(place)
    store.append(items(1, first=3, mtime_ns=9))
    commit(store, Unit(1, 0, 1))
    reader = fgseg.open_store(place)
    tables = list(reader.tables(columns=["height", "status"]))
    assert [table.column_names for table in tables] == [["height", "status"]] * 4
    assert [len(table) for table in tables] == [3, 2, 2, 1]
    assert reader.to_arrow().schema == SCHEMA
    assert reader.to_pandas(columns=["image_id"])["image_id"].tolist() == [*IDS[:3], *IDS[4:], IDS[3]]
    with pytest.raises(OptionError, match="columns: expected one of part, unit, image_id"):
        reader.tables(columns=["hight"])


def test_a_table_without_pandas_says_what_to_install(place, monkeypatch):
    filled(place)
    monkeypatch.setattr("fgseg.store.results.reading.find_spec", lambda name: None)
    with pytest.raises(OptionError, match="pip install pandas"):
        fgseg.open_store(place).to_pandas()


def test_the_result_of_an_image_gives_what_was_stored(place):
    filled(place, scores=True)
    result = fgseg.open_store(place).result(IDS[2])
    assert (result.classes, result.mode, result.image_hw) == (("cup", "red"), "exclusive", (2, 3))
    assert result.labels.tolist() == LABELS.tolist()
    assert {name: mask.tolist() for name, mask in result.masks.items()} == {
        "cup": (LABELS == 0).tolist(), "red": (LABELS == 1).tolist(),
    }  # fmt: skip
    assert result.regions == (
        Region("cup", 0, (0, 0, 2, 1), 2, (0.0, 0.5), 0.7, 0.75, 0),
        Region("red", 1, (0, 1, 1, 2), 1, (1.0, 0.0), 0.6, 0.75, 0),
    )
    summary = result.to_dict()
    assert summary["classes"][0] == {"index": 0, "name": "cup", "pixels": 2, "share": 0.333333}
    assert summary["settings"]["scores"] is True
    assert repr(result) == "StoredResult('a/0002.jpg', 2 x 3, exclusive, found: cup, red)"


def test_an_overlay_needs_the_image_of_the_same_size(place):
    filled(place)
    result = fgseg.open_store(place).result(IDS[0])
    assert result.overlay(np.zeros((2, 3, 3), np.uint8), legend=False).shape == (2, 3, 3)
    with pytest.raises(ShapeError, match="labels"):
        result.overlay(np.zeros((3, 3, 3), np.uint8))


def test_scores_on_the_grid_are_kept_if_the_run_keeps_them(place):
    store = Store.create_or_open(place, identity(scores=True), unit_size=3)
    store.append(items(3))
    commit(store, Unit(0, 0, 3), scores=np.arange(12, dtype=np.float32).reshape(2, 2, 3))
    assert fgseg.open_store(place).row(IDS[0]).scores.tolist() == np.arange(12.0).reshape(2, 2, 3).tolist()


def test_an_image_that_failed_or_is_unknown_has_no_result(place):
    filled(place, failing=[IDS[4]])
    reader = fgseg.open_store(place)
    with pytest.raises(OptionError, match=r"got the error of a/0004.jpg: /photos/a/0004.jpg: not an image"):
        reader.result(IDS[4])
    with pytest.raises(OptionError, match=r"image_id: expected an image of the store, got 'b.jpg'"):
        reader.result("b.jpg")
    assert len(list(reader.results())) == 7


def test_a_run_is_read_by_its_key(place):
    first = filled(place)
    second = Store.create_or_open(place, identity(threshold=0.4), new_run=True)
    commit(second, Unit(0, 0, 3))
    assert len(fgseg.open_store(place, run=first.identity.key)) == 8
    assert len(fgseg.open_store(place, run=second.identity.key)) == 3
    with pytest.raises(StoreError, match="run: expected one of"):
        fgseg.open_store(place)


def test_a_damaged_shard_is_not_passed_over(place):
    store = filled(place)
    name = f"{store.shards.folder}/0000-000001.parquet"
    store.files.write(name, store.files.read(name)[:-10])
    with pytest.raises(StoreError, match=r"0000-000001.parquet: expected the results of 3 images, got a damaged"):
        list(fgseg.open_store(place))


def test_the_reader_says_what_it_reads(place):
    store = filled(place)
    reader = fgseg.open_store(place)
    assert repr(reader) == f"StoreReader({store.files.location('')!r}, run {store.identity.key}, 8 images)"


@pytest.mark.parametrize("package", ["pyarrow", "fsspec"])
def test_a_missing_package_is_named_with_the_extra(package, monkeypatch):
    monkeypatch.setattr(opening, "find_spec", lambda name: None if name == package else True)
    with pytest.raises(OptionError, match=rf"expected the package {package}, got none; pip install \"fgseg\[store\]\""):
        fgseg.open_store("store")


def test_classes_without_a_color_take_one_of_the_palette():
    (item,) = items(1)
    result = StoredResult(row_of(item), identity())
    assert result.prompts[0].name == CLASSES[0]["name"]
    assert result.colors[0] == (255, 0, 0)
    assert len(result.colors) == 2
