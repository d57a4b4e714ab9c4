"""Exports of a store: the files that `fgseg segment` writes for the same images, for a whole run."""

import csv
import hashlib
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from batch_images import write_video
from skimage import data
from stores import filled, identity, row_of

import fgseg
from fgseg.errors import DiskError, OptionError, OutputError
from fgseg.formats.tables import regions_csv
from fgseg.images.reading import read_image
from fgseg.images.writing import write_image
from fgseg.prompts.classes import parse_classes
from fgseg.store.engines.worker import run_identity
from fgseg.store.identity import Writer
from fgseg.store.results.export import EXPORTS, Exported, export_store
from fgseg.store.schema import Item, Unit
from fgseg.store.sources import SourceOptions, find_items
from fgseg.store.store import Store
from fgseg.store.units import UnitOptions, run_unit

WORDS = ["red", "brown"]
PHOTOS = {"coffee.png": data.coffee()[::3, ::3], "a/rocket.jpg": data.rocket()[::3, ::3]}
STEMS = {"a/rocket.jpg": "a/rocket", "coffee.png": "coffee"}


@pytest.fixture(scope="module", params=["exclusive", "independent"])
def run(request, tmp_path_factory):
    """A store of two photographs, their results, and the folder of the photographs."""
    folder = tmp_path_factory.mktemp(request.param)
    for name, photo in PHOTOS.items():
        write_image(folder / "photos" / name, photo)
    seg, prompts = fgseg.load(dtype="float32"), parse_classes(WORDS)
    options = UnitOptions(prompts, {"mode": request.param})
    store = Store.create_or_open(folder / "store", run_identity(seg, options))
    store.append(find_items([str(folder / "photos")], SourceOptions(recursive=True), Counter()))
    (unit,) = store.units()
    store.commit(unit, run_unit(seg, store.items(unit), options), Writer({}))
    results = {item.image_id: seg.segment(item.uri, prompts, mode=request.param) for item in store.items(unit)}
    return folder, results


@pytest.fixture(scope="module")
def exported(run):
    folder, results = run
    done = export_store(fgseg.open_store(folder / "store"), folder / "out", list(EXPORTS))
    assert done == Exported(images=2, skipped=0, failed=0)
    return folder / "out", results


@pytest.mark.parametrize("name", PHOTOS)
def test_label_maps_overlays_and_outlines_are_those_of_a_saved_result(exported, name, tmp_path):
    out, results = exported
    results[name].save(tmp_path, formats=["labels", "overlay", "yolo"])
    for ours, saved in (
        (f"labels/{STEMS[name]}.png", "labels.png"), (f"overlays/{STEMS[name]}.png", "overlay.png"),
        (f"yolo/labels/{STEMS[name]}.txt", "yolo.txt"), ("classes.json", "classes.json"),
    ):  # fmt: skip
        assert (out / ours).read_bytes() == (tmp_path / saved).read_bytes()


def test_one_coco_file_holds_the_annotations_of_every_image_under_numbers_of_their_own(exported, tmp_path):
    out, results = exported
    document = json.loads((out / "coco.json").read_text(encoding="utf-8"))
    assert [image["file_name"] for image in document["images"]] == list(PHOTOS)
    assert [image["id"] for image in document["images"]] == [1, 2]
    assert document["categories"] == [{"id": 1, "name": "red"}, {"id": 2, "name": "brown"}]
    annotations = document["annotations"]
    assert [annotation["id"] for annotation in annotations] == list(range(1, len(annotations) + 1))
    for number, (name, result) in enumerate(results.items(), start=1):
        result.save(tmp_path / name, formats=["coco"])
        saved = json.loads((tmp_path / name / "coco.json").read_text(encoding="utf-8"))["annotations"]
        ours = [annotation for annotation in annotations if annotation["image_id"] == number]
        assert [{**a, "id": 0, "image_id": 0} for a in ours] == [{**a, "id": 0, "image_id": 0} for a in saved]


def test_the_coco_file_is_read_by_the_coco_tools(exported, capsys):
    from pycocotools.coco import COCO

    out, results = exported
    coco = COCO(str(out / "coco.json"))
    capsys.readouterr()
    assert len(coco.getAnnIds(imgIds=[1])) == len(results["coffee.png"].regions)


def test_tables_name_the_image_in_front_of_the_columns_of_one_image(exported):
    out, results = exported
    lines = (out / "regions.csv").read_text(encoding="utf-8").splitlines()
    header, *_ = regions_csv([]).splitlines()
    expected = [f"{name},{line}" for name, r in results.items() for line in regions_csv(r.regions).splitlines()[1:]]
    assert lines == [f"image,{header}", *expected]
    with (out / "classes.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["class_name"]) for row in rows] == [(name, word) for name in PHOTOS for word in WORDS]
    first = results["coffee.png"].to_dict()
    assert [int(row["pixels"]) for row in rows[:2]] == [entry["pixels"] for entry in first["classes"]]
    assert int(rows[0]["regions"]) == sum(region["class_index"] == 0 for region in first["regions"])


def test_yolo_has_the_images_beside_the_labels_and_lists_them(exported):
    out, _ = exported
    assert (out / "yolo" / "train.txt").read_text(encoding="utf-8") == "./images/coffee.png\n./images/a/rocket.jpg\n"
    assert (out / "yolo" / "data.yaml").read_text(encoding="utf-8") == (
        'train: train.txt\nval: train.txt\nnames:\n  0: "red"\n  1: "brown"\n'
    )
    assert (read_image(out / "yolo" / "images" / "coffee.png") == PHOTOS["coffee.png"]).all()


def test_images_that_were_moved_are_found_below_their_root(run, tmp_path):
    folder, results = run
    (folder / "photos").rename(tmp_path / "moved")
    try:
        reader = fgseg.open_store(folder / "store")
        assert export_store(reader, tmp_path / "lost", ["overlay", "classes"]) == Exported(2, 0, failed=2)
        assert (tmp_path / "lost" / "classes.csv").is_file()
        done = export_store(reader, tmp_path / "found", ["overlay", "yolo"], root=tmp_path / "moved")
        assert done == Exported(2, 0, 0)
        overlay = read_image(tmp_path / "found" / "overlays" / "coffee.png")
        assert (overlay == results["coffee.png"].overlay()).all()
    finally:
        (tmp_path / "moved").rename(folder / "photos")


def test_an_image_that_changed_since_is_told_and_left_out(run, tmp_path, caplog):
    folder, _ = run
    for name, photo in PHOTOS.items():
        write_image(tmp_path / "photos" / name, photo if name == "coffee.png" else 255 - photo)
    done = export_store(fgseg.open_store(folder / "store"), tmp_path, ["overlay"], root=tmp_path / "photos")
    assert done == Exported(2, 0, failed=1)
    assert "rocket.jpg: the file has changed since it was segmented" in caplog.text
    assert [path.name for path in (tmp_path / "overlays").rglob("*.png")] == ["coffee.png"]


def test_images_that_failed_are_counted_and_in_no_file(tmp_path):
    filled(tmp_path / "store", failing=["a/0001.jpg", "a/0004.jpg"])
    reader = fgseg.open_store(tmp_path / "store")
    assert export_store(reader, tmp_path / "out", ["labels", "coco"]) == Exported(6, 2, 0)
    assert len(list((tmp_path / "out" / "labels" / "a").iterdir())) == 6
    assert len(json.loads((tmp_path / "out" / "coco.json").read_text(encoding="utf-8"))["images"]) == 6


def test_a_store_without_results_makes_files_without_rows(tmp_path):
    filled(tmp_path / "store", count=0)
    reader = fgseg.open_store(tmp_path / "store")
    assert export_store(reader, tmp_path / "out", ["coco", "regions", "yolo"]) == Exported(0, 0, 0)
    document = json.loads((tmp_path / "out" / "coco.json").read_text(encoding="utf-8"))
    assert (document["images"], document["annotations"]) == ([], [])
    assert (tmp_path / "out" / "yolo" / "train.txt").read_text(encoding="utf-8") == ""


def test_images_elsewhere_are_copied_and_frames_keep_their_names(tmp_path):
    import fsspec

    store = Store.create_or_open(tmp_path / "store", identity())
    address = f"memory://{tmp_path.name}/17.jpg"
    picture = fgseg.images.encode_png(np.zeros((2, 3, 3), np.uint8))
    with fsspec.open(address, "wb") as file:
        file.write(picture)
    store.append([Item("17", address), Item("clip.mp4#000120", "memory://nowhere/clip.png")])
    (unit,) = store.units()
    rows = [replace(row_of(item), sha256=hashlib.sha256(picture).hexdigest()) for item in store.items(unit)]
    store.commit(unit, rows, Writer({}))
    done = export_store(fgseg.open_store(tmp_path / "store"), tmp_path / "out", ["yolo", "overlay", "labels"])
    assert done == Exported(2, 0, failed=1)
    assert (tmp_path / "out" / "yolo" / "images" / "17.jpg").read_bytes() == picture
    assert (tmp_path / "out" / "labels" / "clip.mp4#000120.png").is_file()
    assert (tmp_path / "out" / "overlays" / "17.png").is_file()


def test_two_images_of_one_name_are_refused_where_the_suffix_is_dropped(tmp_path):
    store = filled(tmp_path / "store", count=1)
    store.append([Item("a/0000.png", "/photos/a/0000.png")])
    store.commit(Unit(1, 0, 1), [row_of(store.items(Unit(1, 0, 1))[0])], Writer({}))
    reader = fgseg.open_store(tmp_path / "store")
    with pytest.raises(OptionError, match=r"a/0000.png and another image differ in their suffix alone"):
        export_store(reader, tmp_path / "out", ["labels"])
    assert export_store(reader, tmp_path / "out", ["coco"]).images == 2


def test_an_earlier_export_is_not_mixed_with_a_new_one(tmp_path):
    filled(tmp_path / "store")
    reader = fgseg.open_store(tmp_path / "store")
    export_store(reader, tmp_path / "out", ["labels", "coco"])
    with pytest.raises(OutputError, match=r"labels: expected no folder or an empty one; remove it"):
        export_store(reader, tmp_path / "out", ["labels"])
    export_store(reader, tmp_path / "out", ["coco", "regions"])  # single files are replaced


def test_an_export_that_is_stopped_leaves_no_half_file(tmp_path):
    filled(tmp_path / "store")

    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_store(
            fgseg.open_store(tmp_path / "store"), tmp_path / "out", ["coco", "regions", "classes"], progress=stop
        )
    assert list((tmp_path / "out").iterdir()) == []


def test_a_full_disk_ends_an_export(tmp_path, monkeypatch):
    filled(tmp_path / "store")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.link", full)
    with pytest.raises(DiskError, match="No space left on device"):
        export_store(fgseg.open_store(tmp_path / "store"), tmp_path / "out", ["labels"])


def test_unknown_formats_and_bases_are_refused(tmp_path):
    filled(tmp_path / "store", count=1)
    reader = fgseg.open_store(tmp_path / "store")
    with pytest.raises(OptionError, match="formats: expected one of labels, overlay, coco, yolo, regions, classes"):
        export_store(reader, tmp_path / "out", ["voc"])
    with pytest.raises(OptionError, match="base"):
        export_store(reader, tmp_path / "out", ["overlay"], base="white")


def test_frames_of_a_video_are_read_again_and_are_pictures_for_yolo(tmp_path):
    (tmp_path / "films").mkdir()
    write_video(tmp_path / "films" / "clip.mp4")
    seg, options = fgseg.load(dtype="float32"), UnitOptions(parse_classes(WORDS))
    store = Store.create_or_open(tmp_path / "store", run_identity(seg, options))
    store.append(find_items([str(tmp_path / "films")], SourceOptions(every=4), Counter()))
    (unit,) = store.units()
    store.commit(unit, run_unit(seg, store.items(unit), options), Writer({}))
    (tmp_path / "films").rename(tmp_path / "moved")
    reader = fgseg.open_store(tmp_path / "store")
    done = export_store(reader, tmp_path / "out", ["overlay", "yolo"], root=tmp_path / "moved")
    assert done == Exported(2, 0, 0)
    for name in ("clip.mp4#000000", "clip.mp4#000004"):
        picture = read_image(tmp_path / "out" / "yolo" / "images" / f"{name}.png")
        assert (read_image(tmp_path / "out" / "overlays" / f"{name}.png") == reader.result(name).overlay(picture)).all()
    assert export_store(reader, tmp_path / "lost", ["overlay"]) == Exported(2, 0, failed=2)
