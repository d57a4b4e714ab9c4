"""The result type: what it refuses, what it draws, and that every file it saves holds what it says."""

import base64
import csv
import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_rle

import fgseg
from fgseg.drawing.overlay import overlay_labels
from fgseg.errors import OptionError, OutputError, ShapeError
from fgseg.images.label_png import read_label_png
from fgseg.images.reading import read_image
from fgseg.prompts.classes import PromptClass, parse_classes
from fgseg.segmentation.result import FORMATS, Segmentation, check_formats
from fgseg.types import UNLABELLED, LazyMaps
from fgseg.upsample.maps import shrink_map

HEIGHT, WIDTH = 20, 30
IMAGE = np.random.RandomState(5).randint(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
# Class 0: two parts, one with a hole. Class 1: one part. Class 2: nowhere.
LABELS = np.full((HEIGHT, WIDTH), UNLABELLED, np.int32)
LABELS[2:8, 2:9] = 0
LABELS[4:6, 4:6] = UNLABELLED
LABELS[12:15, 3:5] = 0
LABELS[10:18, 20:28] = 1
SETTINGS = {"image": "photos/a.png", "model": "tiny", "threshold": 0.5}


def score_map(index, image_hw=(HEIGHT, WIDTH)):
    """A ramp of presence, another for every class."""
    height, width = image_hw
    return (np.linspace(0, 1, height * width).reshape(height, width) * (0.9 - 0.01 * (index % 50))).astype(np.float32)


def make(labels=LABELS, prompts=("red, crimson", "blue", "green"), *, mode="exclusive", masks=None, **changes):
    """A Segmentation made by hand; masks default to those of the labels."""
    classes = parse_classes(prompts)
    names = [entry.name for entry in classes]
    values = {
        "image": IMAGE,
        "labels": labels,
        "prompts": classes,
        "masks": masks or LazyMaps(names, lambda index: labels == index),
        "scores": LazyMaps(names, score_map),
        "mode": mode,
        "grid_hw": (2, 3),
        "settings": SETTINGS,
    }
    return Segmentation(**values | changes)


def independent():
    """Two overlapping squares; where both are, class 0 has won the label."""
    masks = {"red": np.zeros((HEIGHT, WIDTH), bool), "blue": np.zeros((HEIGHT, WIDTH), bool)}
    masks["red"][2:12, 2:12] = True
    masks["blue"][8:18, 8:18] = True
    labels = np.full((HEIGHT, WIDTH), UNLABELLED, np.int32)
    labels[masks["blue"]], labels[masks["red"]] = 1, 0
    return make(labels, ("red", "blue"), mode="independent", masks=masks)


# --- checks


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"image": IMAGE.astype(np.float32)}, ShapeError, "image: expected an RGB image"),
        ({"labels": LABELS[:, :-1]}, ShapeError, r"labels: expected an array of shape \(20, 30\), got .*\(20, 29\)"),
        ({"labels": LABELS.astype(np.int64)}, ShapeError, "labels: expected int32, got int64"),
        ({"labels": LABELS + 2}, ShapeError, "labels: expected values from -1 to 2, got 1 to 3"),
        ({"labels": LABELS - 1}, ShapeError, "labels: expected values from -1 to 2, got -2 to 0"),
        ({"mode": "overlapping"}, OptionError, "mode: expected one of exclusive, independent, got 'overlapping'"),
        ({"masks": {"red": LABELS == 0}}, ShapeError, r"masks: expected the classes \('red', 'blue', 'green'\), got"),
        ({"scores": LazyMaps(["blue", "red", "green"], score_map)}, ShapeError, "scores: expected the classes"),
    ],
)
def test_a_result_that_contradicts_itself_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        dataclasses.replace(make(), **changes)


def test_a_result_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().labels = LABELS


def test_classes_keep_the_order_of_the_prompts():
    assert make().classes == ("red", "blue", "green")


def test_a_color_of_ones_own_is_kept_and_the_others_are_distinct():
    prompts = (PromptClass("red", ("red",), color=(1, 2, 3)), *parse_classes(["blue", "green"]))
    colors = make().colors
    assert len(set(colors)) == 3
    assert dataclasses.replace(make(), prompts=prompts).colors == ((1, 2, 3), *colors[1:])


def test_regions_are_the_connected_parts_by_class_then_by_falling_area():
    rows = [(region.class_name, region.area, region.box_xyxy, region.holes) for region in make().regions]
    assert rows == [("red", 38, (2, 2, 9, 8), 1), ("red", 6, (3, 12, 5, 15), 0), ("blue", 64, (20, 10, 28, 18), 0)]


def test_regions_below_the_least_area_are_left_out():
    assert [region.area for region in make(min_area=7).regions] == [38, 64]


def test_asking_whether_a_class_is_there_computes_no_map():
    def refuse(index):
        raise AssertionError("computed")

    result = make(masks=LazyMaps(["red", "blue", "green"], refuse))
    assert "red" in result.masks
    assert "mauve" not in result.masks
    assert list(result.masks) == ["red", "blue", "green"]


def test_masks_and_scores_cannot_be_written_to():
    result = make()
    for mapping in (result.masks, result.scores):
        with pytest.raises(ValueError, match="read-only"):
            mapping["red"][0, 0] = 1
        with pytest.raises(TypeError):
            mapping["red"] = None


# --- pictures


def test_an_overlay_without_a_legend_has_the_size_of_the_image():
    assert make().overlay(legend=False).shape == IMAGE.shape


def test_an_overlay_changes_the_pixels_of_masks_and_leaves_the_others():
    drawn = make().overlay(legend=False, outline=False, base="photo")
    assert (drawn[LABELS == UNLABELLED] == IMAGE[LABELS == UNLABELLED]).all()
    assert (drawn[LABELS == 1] != IMAGE[LABELS == 1]).any(-1).all()


def test_full_opacity_paints_each_class_in_its_color():
    result = make()
    drawn = result.overlay(opacity=1.0, legend=False, outline=False)
    for index in (0, 1):
        assert (drawn[LABELS == index] == result.colors[index]).all()


def test_the_legend_is_added_outside_the_picture():
    result = make()
    drawn = result.overlay()
    assert drawn.shape[0] > HEIGHT or drawn.shape[1] > WIDTH
    assert (drawn[:HEIGHT, :WIDTH] == result.overlay(legend=False)).all()


def test_the_legend_names_the_classes_that_are_there_and_no_others():
    colors = {tuple(color) for color in make().overlay()[HEIGHT:].reshape(-1, 3)}
    first, second, absent = make().colors
    assert {first, second} <= colors
    assert absent not in colors


def test_a_result_with_nothing_found_has_no_legend_and_shows_the_image():
    empty = make(np.full_like(LABELS, UNLABELLED))
    np.testing.assert_array_equal(empty.overlay(base="photo"), IMAGE)
    np.testing.assert_array_equal(empty.overlay(), overlay_labels(IMAGE, empty.labels, []))


def test_a_figure_shows_the_overlay_and_names_the_classes_that_are_there():
    result = make()
    figure = result.figure(base="photo", opacity=0.7)
    drawn = figure.axes[0].get_images()[0].get_array()
    np.testing.assert_array_equal(drawn, result.overlay(base="photo", opacity=0.7, legend=False))
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(result.classes[:2])
    assert result.figure(legend=False).legends == []


@pytest.mark.parametrize("base", ["grey", "photo"])
def test_saved_pictures_have_the_base_that_is_asked_for(base, tmp_path):
    make().save(tmp_path, formats=["overlay", "heatmaps"], base=base)
    np.testing.assert_array_equal(read_image(tmp_path / "overlay.png"), make().overlay(base=base))
    np.testing.assert_array_equal(read_image(tmp_path / "heatmaps.png"), make().heatmap_sheet(base=base))
    with pytest.raises(OptionError, match="base: expected one of grey, photo"):
        make().save(tmp_path, formats=["labels"], base="color")


def test_an_independent_overlay_mixes_both_colors_where_masks_overlap():
    result = independent()
    drawn = result.overlay(opacity=0.5, outline=False, legend=False).astype(int)
    both, red = (result.masks["red"] & result.masks["blue"]), (result.masks["red"] & ~result.masks["blue"])
    alone = make(result.labels, ("red", "blue")).overlay(opacity=0.5, outline=False, legend=False).astype(int)
    np.testing.assert_array_equal(drawn[red], alone[red])
    assert (drawn[both] != alone[both]).any(-1).all()


def test_heatmaps_of_one_class_stand_beside_the_image():
    result = make(np.full_like(LABELS, 0), ("red",), scores=LazyMaps(["red"], score_map))
    sheet = result.heatmap_sheet()
    assert sheet.dtype == np.uint8
    assert sheet.shape[1] > 2 * WIDTH
    assert contains(sheet, IMAGE)


def contains(sheet, picture):
    """Whether a picture is part of a sheet, pixel for pixel."""
    windows = np.lib.stride_tricks.sliding_window_view(sheet, picture.shape)[:, :, 0]
    corners = np.argwhere((windows[..., 0, 0, :] == picture[0, 0]).all(-1))
    return any((windows[row, column] == picture).all() for row, column in corners)


def test_heatmaps_of_several_classes_show_the_image_once_and_every_class():
    from fgseg.drawing.overlay import overlay_heatmap

    result = make()
    sheet = result.heatmap_sheet()
    assert contains(sheet, IMAGE)
    for name in result.classes:
        assert contains(sheet, overlay_heatmap(IMAGE, result.scores[name], opacity=0.8))


def test_a_sheet_of_many_heatmaps_stays_of_bounded_size():
    names, side = [f"class {index}" for index in range(24)], 1024
    labels, blank = np.zeros((side, side), np.int32), np.zeros((side, side), np.float32)
    scores = LazyMaps(names, lambda index: blank)
    sheet = make(labels, names, image=np.zeros((side, side, 3), np.uint8), scores=scores).heatmap_sheet()
    assert max(sheet.shape) < 4800  # 5 x 5 panels, at most 4096 together; titles, gaps and the bar come on top


def test_a_result_draws_itself_in_a_notebook_no_larger_than_1024_pixels(tmp_path):
    long = np.zeros((2, 3000, 3), np.uint8)
    labels = np.zeros((2, 3000), np.int32)
    result = make(labels, ("red",), image=long, scores=LazyMaps(["red"], lambda i: np.zeros((2, 3000), np.float32)))
    (tmp_path / "cell.png").write_bytes(result._repr_png_())
    assert max(read_image(tmp_path / "cell.png").shape) == 1024


def test_a_small_result_draws_itself_as_its_overlay(tmp_path):
    (tmp_path / "cell.png").write_bytes(make()._repr_png_())
    np.testing.assert_array_equal(read_image(tmp_path / "cell.png"), make().overlay())


def test_repr_says_size_mode_and_what_was_found():
    assert repr(make()) == "Segmentation(20 x 30, exclusive, 3 classes, found: red, blue)"
    assert repr(make(np.full_like(LABELS, -1))) == "Segmentation(20 x 30, exclusive, 3 classes, found: none)"
    assert repr(independent()) == "Segmentation(20 x 30, independent, 2 classes, found: red, blue)"


# --- files

FILES = {
    "labels": {"labels.png", "classes.json"},
    "overlay": {"overlay.png"},
    "regions": {"regions.json", "regions.csv"},
    "heatmaps": {"heatmaps.png", "heatmaps.npz"},
    "masks": {"masks/000_red.png", "masks/001_blue.png", "masks/002_green.png"},
    "coco": {"coco.json"},
    "geojson": {"masks.geojson"},
    "yolo": {"yolo.txt"},
    "labelme": {"labelme.json"},
}


def files_in(folder):
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}


def test_every_format_has_a_test_of_its_files():
    assert set(FILES) == set(FORMATS)


@pytest.mark.parametrize("name", FILES)
def test_a_format_writes_its_files_and_run_json_and_returns_them(name, tmp_path):
    written = make().save(tmp_path, formats=[name])
    assert files_in(tmp_path) == FILES[name] | {"run.json"}
    assert {path.relative_to(tmp_path).as_posix() for path in written} == files_in(tmp_path)


def test_the_default_formats_are_labels_overlay_and_regions(tmp_path):
    make().save(str(tmp_path / "new" / "folder"))
    wanted = FILES["labels"] | FILES["overlay"] | FILES["regions"] | {"run.json"}
    assert files_in(tmp_path / "new" / "folder") == wanted


def test_a_format_named_twice_is_written_once(tmp_path):
    assert len(make().save(tmp_path, formats=["overlay", "overlay"])) == 2


def test_saved_labels_are_the_labels_and_classes_json_explains_them(tmp_path):
    result = make()
    result.save(tmp_path, formats=["labels"])
    np.testing.assert_array_equal(read_label_png(tmp_path / "labels.png"), LABELS)
    assert json.loads((tmp_path / "classes.json").read_text()) == {
        "unlabelled": 255,
        "classes": [
            {"index": 0, "name": "red", "prompts": ["red", "crimson"], "color": list(result.colors[0])},
            {"index": 1, "name": "blue", "prompts": ["blue"], "color": list(result.colors[1])},
            {"index": 2, "name": "green", "prompts": ["green"], "color": list(result.colors[2])},
        ],
    }


def test_the_palette_of_the_label_map_holds_the_classes_colors(tmp_path):
    result = make()
    result.save(tmp_path, formats=["labels"])
    shown = read_image(tmp_path / "labels.png")
    assert (shown[LABELS == 1] == result.colors[1]).all()
    assert (shown[LABELS == UNLABELLED] == 0).all()


@pytest.mark.parametrize(("count", "unlabelled"), [(254, 255), (255, 65535), (300, 65535)])
def test_more_than_254_classes_make_a_sixteen_bit_label_map(count, unlabelled, tmp_path):
    labels = np.arange(-1, HEIGHT * WIDTH - 1, dtype=np.int32).reshape(HEIGHT, WIDTH) % count
    labels[0, 0] = UNLABELLED
    names = [f"class {index}" for index in range(count)]
    result = make(labels, names, scores=LazyMaps(names, score_map))
    result.save(tmp_path, formats=["labels"])
    np.testing.assert_array_equal(read_label_png(tmp_path / "labels.png"), labels)
    assert json.loads((tmp_path / "classes.json").read_text())["unlabelled"] == unlabelled
    depth = (tmp_path / "labels.png").read_bytes()[24]  # the bit depth in a PNG's header
    assert depth == (8 if unlabelled == 255 else 16)


def test_the_saved_overlay_is_the_overlay(tmp_path):
    make().save(tmp_path, formats=["overlay"])
    np.testing.assert_array_equal(read_image(tmp_path / "overlay.png"), make().overlay())


def test_saved_heatmaps_are_float16_presence_of_the_grids_size(tmp_path):
    make().save(tmp_path, formats=["heatmaps"])
    with np.load(tmp_path / "heatmaps.npz") as saved:
        assert saved["presence"].dtype == np.float16
        assert saved["presence"].shape == (3, 2, 3)
        assert saved["classes"].tolist() == ["red", "blue", "green"]
        assert saved["image_hw"].tolist() == [HEIGHT, WIDTH]
        wanted = np.stack([shrink_map(score_map(index), (2, 3)) for index in range(3)])
        # float16 below 1 is exact to 2^-11
        np.testing.assert_allclose(saved["presence"], wanted, atol=2**-11)


def test_saved_regions_are_the_regions_in_json_and_csv(tmp_path):
    result = make()
    result.save(tmp_path, formats=["regions"])
    rows = json.loads((tmp_path / "regions.json").read_text())
    assert rows == json.loads(json.dumps([dataclasses.asdict(region) for region in result.regions]))
    with (tmp_path / "regions.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["class_name"], int(row["area"]), int(row["left"])) for row in table] == [
        (region.class_name, region.area, region.box_xyxy[0]) for region in result.regions
    ]


# pycocotools 2.0.11 decodes through an array protocol that numpy 2 warns about.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
@pytest.mark.parametrize("result", [make(), independent()], ids=["exclusive", "independent"])
def test_saved_coco_decodes_to_the_masks(result, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result.save("out/a", formats=["coco"])
    document = json.loads(Path("out/a/coco.json").read_text())
    assert document["images"] == [{"id": 1, "file_name": "../../photos/a.png", "height": HEIGHT, "width": WIDTH}]
    assert document["info"]["description"].endswith("relative to the folder of this file")
    for category in document["categories"]:
        rows = [row for row in document["annotations"] if row["category_id"] == category["id"]]
        decoded = [coco_rle.decode(row["segmentation"]).astype(bool) for row in rows]
        union = np.logical_or.reduce([np.zeros((HEIGHT, WIDTH), bool), *decoded])
        np.testing.assert_array_equal(union, result.masks[category["name"]])
        assert all(row["iscrowd"] == 0 for row in rows)


@pytest.mark.parametrize("result", [make(), independent()], ids=["exclusive", "independent"])
def test_saved_masks_are_black_and_white_pictures_of_the_masks(result, tmp_path):
    result.save(tmp_path, formats=["masks"])
    for index, (name, mask) in enumerate(result.masks.items()):
        path = tmp_path / "masks" / f"{index:03d}_{name}.png"
        np.testing.assert_array_equal(read_image(path), np.where(mask, 255, 0)[:, :, None].repeat(3, 2))
        np.testing.assert_array_equal(read_label_png(path), mask)


def test_saved_heatmaps_need_each_map_once(tmp_path):
    asked = []
    result = make(scores=LazyMaps(["red", "blue", "green"], lambda index: asked.append(index) or score_map(index)))
    result.save(tmp_path, formats=["heatmaps"])
    assert asked == [0, 1, 2]


def test_settings_that_json_cannot_hold_stop_before_the_first_file(tmp_path):
    with pytest.raises(TypeError, match="not JSON serializable"):
        make(settings={"threshold": np.float32(0.5)}).save(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_names_that_no_file_can_have_still_save_their_masks(tmp_path):
    names = ["a/b", "a b", "..", "x" * 300, "été"]
    result = make(np.zeros_like(LABELS), names, scores=LazyMaps(names, score_map))
    written = result.save(tmp_path, formats=["masks"])
    assert len(set(written)) == 6
    assert {path.parent for path in written[:-1]} == {tmp_path / "masks"}
    assert all(path.is_file() for path in written)


def test_saved_geojson_yolo_and_labelme_hold_a_shape_for_every_region(tmp_path):
    result = make()
    result.save(tmp_path, formats=["geojson", "yolo", "labelme"])
    features = json.loads((tmp_path / "masks.geojson").read_text())["features"]
    lines = (tmp_path / "yolo.txt").read_text().splitlines()
    shapes = json.loads((tmp_path / "labelme.json").read_text())["shapes"]
    assert [feature["properties"]["class"] for feature in features] == ["red", "red", "blue"]
    assert [len(feature["geometry"]["coordinates"]) for feature in features] == [2, 1, 1]  # an outline and a hole
    assert [int(line.split()[0]) for line in lines] == [0, 0, 1]
    assert [shape["label"] for shape in shapes] == ["red", "red", "blue"]


def test_labelme_names_the_image_as_seen_from_its_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make().save("out/a", formats=["labelme"])
    document = json.loads(Path("out/a/labelme.json").read_text())
    assert document["imagePath"] == str(Path("..", "..", "photos", "a.png"))
    assert (document["imageHeight"], document["imageWidth"]) == (HEIGHT, WIDTH)


def test_labelme_and_coco_files_of_an_array_do_without_its_file(tmp_path):
    make(settings={"image": None}).save(tmp_path, formats=["labelme", "coco"])
    document = json.loads((tmp_path / "labelme.json").read_text())
    np.testing.assert_array_equal(read_image(base64.b64decode(document["imageData"])), IMAGE)
    coco = json.loads((tmp_path / "coco.json").read_text())
    assert coco["info"]["description"] == "the image was not read from a file"
    make().save(tmp_path, formats=["labelme"])
    assert json.loads((tmp_path / "labelme.json").read_text())["imageData"] is None


def test_a_name_that_is_no_file_here_stays_a_name_and_shows_no_path_of_this_machine(tmp_path):
    make(settings={"image": "sent.png"}).save(tmp_path, formats=["labelme", "coco"])
    document = json.loads((tmp_path / "labelme.json").read_text())
    assert document["imagePath"] == "sent.png"
    assert document["imageData"] is not None
    assert json.loads((tmp_path / "coco.json").read_text())["images"][0]["file_name"] == "sent.png"


def test_run_json_holds_the_settings_the_files_and_what_is_added(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make().save("out", formats=["overlay"], record={"note": "mine"})
    files = {"image_path": "../photos/a.png", "files": ["overlay.png", "run.json"]}
    assert json.loads(Path("out/run.json").read_text()) == {**SETTINGS, "note": "mine", **files}


def test_saving_another_result_leaves_no_file_of_the_first(tmp_path):
    make().save(tmp_path, formats=list(FORMATS))
    written = make(settings={**SETTINGS, "note": 1}).save(tmp_path, formats=["overlay"])
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(written)


def test_an_empty_result_is_the_same_type_and_saves_every_format(tmp_path):
    empty = make(np.full_like(LABELS, UNLABELLED))
    assert isinstance(empty, Segmentation)
    assert empty.regions == ()
    empty.save(tmp_path, formats=list(FORMATS))
    assert (read_label_png(tmp_path / "labels.png") == UNLABELLED).all()
    assert json.loads((tmp_path / "coco.json").read_text())["annotations"] == []
    assert (tmp_path / "yolo.txt").read_text() == ""
    assert len((tmp_path / "regions.csv").read_text().splitlines()) == 1
    assert len(empty.to_detections()) == 0


def test_saving_again_replaces_the_files(tmp_path):
    make().save(tmp_path)
    make(np.full_like(LABELS, 2)).save(tmp_path)
    assert (read_label_png(tmp_path / "labels.png") == 2).all()


def test_an_unknown_format_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(OptionError, match=r"formats: expected one of labels, overlay, .*labelme, got 'pdf'"):
        make().save(tmp_path / "out", formats=["labels", "pdf"])
    assert not (tmp_path / "out").exists()


def test_a_file_where_the_folder_should_be_is_an_output_error(tmp_path):
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(OutputError, match="a file stands where its folder should be; choose another folder"):
        make().save(tmp_path / "out")


def test_check_formats_refuses_none_and_an_unknown_one():
    with pytest.raises(OptionError, match="formats: expected at least one of labels"):
        check_formats([])
    with pytest.raises(OptionError, match=r"formats: expected one of .*, got 'tiff'"):
        check_formats(["coco", "tiff"])
    check_formats(list(FORMATS))


# --- summaries


def test_to_dict_goes_through_json_and_counts_pixels():
    summary = make().to_dict()
    assert json.loads(json.dumps(summary)) == summary
    assert (summary["height"], summary["width"], summary["mode"]) == (HEIGHT, WIDTH, "exclusive")
    assert [(entry["name"], entry["pixels"]) for entry in summary["classes"]] == [
        ("red", 44),
        ("blue", 64),
        ("green", 0),
    ]
    assert summary["classes"][0]["share"] == round(44 / 600, 6)
    assert [row["area"] for row in summary["regions"]] == [38, 6, 64]
    assert summary["settings"] == SETTINGS


def test_to_dict_counts_overlapping_masks_whole():
    assert [entry["pixels"] for entry in independent().to_dict()["classes"]] == [100, 100]


def test_to_detections_has_a_row_for_each_region():
    pytest.importorskip("supervision")
    found = make().to_detections()
    assert found.class_id.tolist() == [0, 0, 1]
    assert found.data["class_name"].tolist() == ["red", "red", "blue"]
    assert found.xyxy[2].tolist() == [20, 10, 28, 18]
    np.testing.assert_array_equal(found.mask[2], LABELS == 1)


# --- what a segmenter makes


@pytest.fixture(scope="module")
def segmenter(tiny_model):
    return fgseg.load(tiny_model, device="cpu", dtype="float32")


def test_a_run_says_what_it_was_made_with(segmenter, tiny_model, tmp_path):
    from fgseg.encoders.checkpoint import find_checkpoint
    from fgseg.images.writing import write_image

    write_image(tmp_path / "a.png", IMAGE)
    result = segmenter.segment(tmp_path / "a.png", ["red, crimson", "blue"], negatives=["green"])
    result.save(tmp_path / "out", formats=["heatmaps"])
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["image"] == str(tmp_path / "a.png")
    assert run["image_hw"] == [HEIGHT, WIDTH]
    assert run["model"] == tiny_model
    assert run["revision"] is None
    assert run["weights_sha256"] == find_checkpoint(tiny_model).digest()
    assert run["classes"] == [{"name": "red", "prompts": ["red", "crimson"]}, {"name": "blue", "prompts": ["blue"]}]
    assert run["background"] == ["anything else"]
    assert run["negatives"] == ["green"]
    assert run["templates"] == ["{}"]
    assert run["seconds"] > 0
    assert run["versions"]["fgseg"] == fgseg.__version__
    assert {"torch", "numpy"} <= set(run["versions"])
    assert run["threshold"] == segmenter.defaults.threshold
    assert (run["mode"], run["device"], run["dtype"]) == ("exclusive", "cpu", "float32")
    with np.load(tmp_path / "out" / "heatmaps.npz") as saved:
        assert saved["presence"].shape == (2, *run["grid_hw"])


def test_exclusive_masks_share_no_pixel_and_make_up_the_labels(segmenter):
    result = segmenter.segment(IMAGE, ["red", "blue", "green"], background=[])
    masks = np.stack(list(result.masks.values()))
    assert (masks.sum(0) == 1).all()
    np.testing.assert_array_equal(masks.argmax(0), result.labels)


def test_independent_masks_may_overlap_and_a_label_lies_in_its_mask(segmenter):
    result = segmenter.segment(IMAGE, ["red", "blue", "green"], mode="independent", threshold=0.01)
    masks = np.stack(list(result.masks.values()))
    assert (masks.sum(0) > 1).any()
    for index, mask in enumerate(masks):
        assert mask[result.labels == index].all()
    np.testing.assert_array_equal(result.labels == UNLABELLED, ~masks.any(0))


def test_labelme_finds_the_image_from_a_folder_that_a_link_leads_to(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep" / "down").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "down")
    make().save("link", formats=["labelme"])
    named = json.loads(Path("link/labelme.json").read_text())["imagePath"]
    assert named.startswith("../../")  # from deep/down, where a reader comes to be


def test_labelme_keeps_the_name_of_an_image_that_is_a_link(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "store").mkdir()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").symlink_to(tmp_path / "store" / "ab12cd.png")
    make().save("out", formats=["labelme"])
    assert json.loads(Path("out/labelme.json").read_text())["imagePath"] == str(Path("..", "photos", "a.png"))


@pytest.mark.parametrize("formats", [None, "labels", [["labels"]], 3])
def test_formats_that_are_no_list_of_names_are_refused(tmp_path, formats):
    with pytest.raises(OptionError, match=r"formats: expected (a list of|one of)"):
        make().save(tmp_path, formats=formats)


def test_the_regions_as_a_data_frame_are_those_of_the_csv(tmp_path):
    result = make()
    frame = result.to_dataframe()
    result.save(tmp_path, formats=["regions"])
    assert frame.to_csv(index=False, lineterminator="\n") == (tmp_path / "regions.csv").read_text(encoding="utf-8")
    assert frame["area"].sum() == sum(region.area for region in result.regions)
    empty = make(np.full_like(LABELS, -1)).to_dataframe()
    assert (len(empty), list(empty.columns)) == (0, list(frame.columns))


def test_a_data_frame_without_pandas_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(OptionError, match="to_dataframe: expected the package pandas, got none; pip install pandas"):
        make().to_dataframe()
