"""What `fgseg segment` writes is the truth of `fgseg bench`, and a class file."""

import json
from pathlib import Path

import pytest
from command_runs import DONE, USAGE
from evaluation_data import color_folder
from large_images import noise, tiff

WORDS = ("-p", "red, dark red", "-p", "green", "-p", "blue", "--background", "grey")
SAME = ("--decision", "presence", "--background", "grey", "--threshold", 0.4)


@pytest.fixture
def photos(tmp_path):
    color_folder(tmp_path, count=2)
    return tmp_path / "images"


def measured(fgseg, data, *options):
    run = fgseg("bench", "--data", data, *SAME, *options, "--no-pictures", "--json", "--quiet", "-o", f"bench-{data}")
    assert run.code == DONE, run.err
    (document,) = run.records
    assert document["n_failed"] == 0
    return document


def segmented(fgseg, photos, *options):
    run = fgseg("segment", photos, *WORDS, "--threshold", 0.4, *options, "--quiet")
    assert run.code == DONE, run.err


@pytest.mark.parametrize("kept", ["labels.png", "coco.json"])
def test_the_same_settings_agree_with_their_own_result_at_every_pixel(fgseg, photos, kept):
    segmented(fgseg, photos, "--resolution", "squash:32", "-f", "labels,coco", "-o", "out")
    for name in {"labels.png", "coco.json"} - {kept}:
        for path in Path("out").rglob(name):
            path.unlink()
    document = measured(fgseg, "out", "--resolution", "squash:32")
    assert document["table"]["model"]["miou"]["value"] == 1
    assert (document["n_images"], document["data"]["name"]) == (2, "out")
    classes = [["red", "red", "dark red"], ["green", "green"], ["blue", "blue"]]
    assert document["data"]["classes"][-3:] == classes
    single = measured(fgseg, f"out/1/{kept}", "--resolution", "squash:32")
    assert single["table"]["model"]["miou"]["value"] == 1
    assert (single["n_images"], single["data"]["name"]) == (1, "1")


def test_labels_of_an_image_read_by_region_are_truth_too(fgseg, tmp_path):
    tiff(tmp_path / "big.tif", noise(20, 60, 70, 3))
    segmented(fgseg, "big.tif", "--by-region", "--resolution", "slide:auto/32/16", "-o", "out")
    assert Path("out/big.tif/labels.tif").is_file()
    document = measured(fgseg, "out", "--resolution", "slide:60/32/16", "--refine", "none")
    assert document["table"]["model"]["miou"]["value"] == 1


def test_the_classes_json_of_a_result_is_a_class_file(fgseg, photos):
    segmented(fgseg, photos, "--resolution", "squash:32", "-o", "out")
    run = fgseg("segment", photos, "--classes", "out/0/classes.json", "--background", "grey", "--threshold", 0.4,
                "--resolution", "squash:32", "-o", "again", "--quiet")  # fmt: skip
    assert run.code == DONE, run.err
    for name in ("0/labels.png", "1/labels.png", "0/classes.json"):
        assert Path("again", name).read_bytes() == Path("out", name).read_bytes()


def test_a_result_whose_image_has_moved_needs_the_folder_of_the_images(fgseg, photos, tmp_path):
    segmented(fgseg, photos, "--resolution", "squash:32", "-f", "coco", "-o", "out")
    photos.rename(tmp_path / "elsewhere")
    run = fgseg("bench", "--data", "out", *SAME, "-o", "bench")
    assert (run.code, "0.png: no such image" in run.err) == (USAGE, True)
    document = measured(fgseg, "out", "--root", "elsewhere", "--resolution", "squash:32")
    assert document["table"]["model"]["miou"]["value"] == 1


def test_an_annotation_with_a_fault_stops_a_run_and_costs_nothing_else_with_keep_going(fgseg, photos):
    segmented(fgseg, photos, "--resolution", "squash:32", "-f", "coco", "-o", "out")
    path = Path("out/0/coco.json")
    document = json.loads(path.read_text())
    rows = [
        {"segmentation": [[1, 1, None, 2, 2, 2]]},
        {"segmentation": [[1, 1, float("inf"), 2, 2, 2]]},
        {"bbox": [1, 1, 2, 2]},
    ]
    number = len(document["annotations"])
    document["annotations"] += [
        {"id": number + index, "image_id": 1, "category_id": 1, **row} for index, row in enumerate(rows, start=1)
    ]
    path.write_text(json.dumps(document))
    run = fgseg("bench", "--data", "out", *SAME, "-o", "bench")
    assert run.code == USAGE
    note, counts, first, second, last = run.complaints
    assert f"warning: out/0/coco.json: 1 of {number + 3} annotations have no mask, at most a box" in note
    assert "error: out/0/coco.json: 2 rows are left out: 2 where corners that are finite numbers" in counts
    assert f"annotation {number + 1} of image " in first
    assert f"annotation {number + 2} of image " in second
    assert "--keep-going leaves faulty annotations out" in last
    measured_anyway = measured(fgseg, "out", "--resolution", "squash:32", "--keep-going")
    assert measured_anyway["table"]["model"]["miou"]["value"] == 1
    assert measured_anyway["data"]["annotations_left_out"] == 3
