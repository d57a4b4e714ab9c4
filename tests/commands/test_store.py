"""`fgseg store status | check | compact | export`."""

import json

import pytest
from command_runs import DONE, FAILED, SOME_FAILED, USAGE, assert_refused
from stores import commit, filled, identity, items

from fgseg.store.schema import Unit
from fgseg.store.store import Store


@pytest.fixture
def store(fgseg):
    """Runs a command on the store "store" of the current folder."""
    return lambda command, *words: fgseg("store", command, "store", *words, model=None)


def test_the_status_shows_each_run_and_how_to_go_on(store):
    first = filled("store", failing=["a/0001.jpg"])
    second = Store.create_or_open("store", identity(threshold=0.4), new_run=True)
    shown = store("status")
    assert shown.code == DONE
    for key in (first.identity.key, second.identity.key):
        assert f"run          {key}" in shown.out
    assert "errors       1\n" in shown.out
    assert shown.complaints == ["fgseg: the same `fgseg batch` command continues the run"]
    (record,) = store("status", "--run", first.identity.key, "--json").records
    assert (record["images"], record["units"], record["units_done"], record["errors"]) == (8, 3, 3, 1)


def test_the_images_that_failed_are_listed(store):
    filled("store", failing=["a/0001.jpg"])
    assert store("status", "--errors").out.split("\n")[1].split("  ") == [
        "a/0001.jpg", "ImageError", "/photos/a/0001.jpg: not an image",
    ]  # fmt: skip
    (record,) = store("status", "--errors", "--json").records
    assert record == {
        "image": "a/0001.jpg", "uri": "/photos/a/0001.jpg", "error_type": "ImageError",
        "error": "/photos/a/0001.jpg: not an image",
    }  # fmt: skip


def test_a_store_without_damage_passes_the_check(store):
    filled("store")
    checked = store("check")
    assert (checked.code, checked.out) == (DONE, "")
    assert checked.complaints == ["fgseg: store: every byte is as it was written"]


def test_damage_is_told_with_what_to_type_and_typing_it_helps(store, tmp_path):
    made = filled("store")
    shard = tmp_path / "store" / made.shards.folder / "0000-000001.parquet"
    shard.write_bytes(shard.read_bytes()[:-30])
    checked = store("check")
    assert checked.code == FAILED
    assert "0000-000001.parquet: a damaged file" in checked.out or "cut short" in checked.out
    assert "`fgseg store check STORE --quarantine`" in checked.out
    assert checked.complaints == ["fgseg: 1 damaged file"]
    assert store("status", "--json").records[0]["damaged"] == 1
    (problem,) = store("check", "--quarantine", "--json").records
    assert "`fgseg batch` makes its images again" in problem["advice"]
    assert store("check").code == DONE
    assert list(Store.open("store").units()) == [Unit(0, 1, 3)]


def test_compacting_says_how_many_files_there_were_and_are(store):
    filled("store")
    assert store("compact").out == "files before  3\nafter         1\n"
    assert store("compact", "--json").records == [{"before": 1, "after": 1}]
    assert store("check").code == DONE


def test_results_are_exported(store, tmp_path):
    filled("store", failing=["a/0001.jpg"])
    exported = store("export", "-f", "coco,classes", "--format", "labels", "-o", "out", "--json")
    assert exported.complaints == ["fgseg: images without a result: 1; fgseg store status store --errors lists them"]
    (record,) = exported.records
    assert record == {"images": 7, "skipped": 1, "failed": 0, "folder": "out"}
    document = json.loads((tmp_path / "out" / "coco.json").read_text(encoding="utf-8"))
    assert len(document["images"]) == 7
    assert (tmp_path / "out" / "labels" / "a" / "0000.png").is_file()


def test_images_that_are_gone_make_the_export_end_with_some_failed(store):
    filled("store")
    exported = store("export", "-f", "overlay", "-o", "out")
    assert exported.code == SOME_FAILED
    assert exported.complaints[-1] == "fgseg: images that could not be read again: 8 of 8"
    assert "0000.jpg: there is no such file; name the folder of the images by root (--root)" in exported.complaints[0]


def test_a_run_of_several_is_chosen_by_its_key(store):
    filled("store")
    other = Store.create_or_open("store", identity(threshold=0.4), new_run=True)
    commit(other, Unit(0, 0, 3))
    assert_refused(store("export", "-f", "coco"), "run: expected one of the runs of store", "name it")
    (record,) = store("export", "-f", "coco", "-o", "out", "--run", other.identity.key, "--json").records
    assert record["images"] == 3


@pytest.mark.parametrize("command", ["status", "check", "compact", "export"])
def test_a_folder_without_a_store_is_named(store, command):
    words = ["-f", "coco"] if command == "export" else []
    assert_refused(store(command, *words), "store: expected a store, got no fgseg-store.json in it")


def test_wrong_formats_are_refused_with_those_there_are(store):
    filled("store")
    assert_refused(store("export"), "--format: expected at least one of labels, overlay, coco, yolo, regions, classes")
    assert_refused(store("export", "-f", "voc"), "formats: expected one of labels", "'voc'")


def test_the_command_alone_shows_its_commands(fgseg):
    shown = fgseg("store", model=None)
    assert shown.code == USAGE
    for name in ("status", "check", "compact", "export"):
        assert f"  {name} " in shown.err


def test_without_the_extra_it_says_what_to_install(store, monkeypatch):
    filled("store")
    monkeypatch.setattr("fgseg.store.opening.find_spec", lambda name: None)
    assert_refused(store("status"), 'pip install "fgseg[store]"')


def test_a_store_of_ids_in_unicode_is_listed_and_exported(store, tmp_path):
    made = Store.create_or_open("store", identity())
    made.append([type(items(1)[0])("straße/é.jpg", "/photos/é.jpg")])
    commit(made, Unit(0, 0, 1))
    assert store("export", "-f", "labels", "-f", "classes", "-o", "out").code == DONE
    assert (tmp_path / "out" / "labels" / "straße" / "é.png").is_file()
    assert "straße/é.jpg,cup" in (tmp_path / "out" / "classes.csv").read_text(encoding="utf-8")
