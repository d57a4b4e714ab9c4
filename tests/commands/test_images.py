"""The commands segment, heatmap, boxes and rank for a user: what they print, write and refuse."""

import errno
import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import odd_images
import pytest
import tifffile
import torch
from command_runs import DONE, FAILED, SOME_FAILED, USAGE, assert_refused, run_json
from PIL import Image

from fgseg.commands.segmenting.jobs import SegmentWorker
from fgseg.images.label_png import read_label_png
from fgseg.images.reading import read_image
from fgseg.images.writing import write_image
from fgseg.segmentation.result import FORMATS
from fgseg.store.engines.resources import share_devices
from fgseg.types import UNLABELLED

SMALL = ("--resolution", "squash:32")


# --- segment


def test_segment_prints_a_table_and_writes_one_folder_per_image(fgseg, photo, tmp_path):
    run = fgseg("segment", photo, "-p", "red", "-p", "blue circle")
    assert (run.code, run.err) == (DONE, "")
    header, *rows = run.out.splitlines()
    assert header.split() == ["image", "class", "%", "of", "pixels", "regions", "peak"]
    assert [row.split()[1] for row in rows] == ["red", "blue", "unlabelled"]
    folder = tmp_path / "fgseg-out" / "rgb"
    names = {path.name for path in folder.iterdir()}
    assert names == {"labels.png", "classes.json", "overlay.png", "regions.json", "regions.csv", "run.json"}
    assert read_label_png(folder / "labels.png").shape == (16, 24)


def test_the_table_and_json_agree_with_the_label_map(fgseg, photo, tmp_path):
    words = ("segment", photo, "-p", "red", "-p", "blue", "--background", "")
    (record,) = fgseg(*words, "--json").records
    labels = read_label_png(tmp_path / "fgseg-out" / "rgb" / "labels.png")
    assert [entry["pixels"] for entry in record["classes"]] == [int((labels == index).sum()) for index in (0, 1)]
    assert record["image"] == str(photo)
    assert all(Path(file).is_file() for file in record["files"])
    rows = [row.split() for row in fgseg(*words).out.splitlines()[1:]]
    unlabelled = record["unlabelled_pixels"]
    assert rows.pop()[1:] == ["unlabelled", f"{100 * unlabelled / labels.size:.2f}", "-", "-"]
    assert unlabelled == int((labels == UNLABELLED).sum()) == 0
    for row, entry in zip(rows, record["classes"], strict=True):
        regions = [region for region in record["regions"] if region["class_index"] == entry["index"]]
        assert row[1:] == [
            entry["name"],
            f"{100 * entry['share']:.2f}",
            str(len(regions)),
            f"{max((region['peak_score'] for region in regions), default=0):.3f}",
        ]


def test_json_is_one_object_per_line_and_image(fgseg, photo, tmp_path):
    other = odd_images.gray_png(tmp_path)
    run = fgseg("segment", photo, other, "-p", "red", "--json")
    assert run.code == DONE
    assert [record["image"] for record in run.records] == [str(photo), str(other)]


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_can_be_written(fgseg, photo, tmp_path, name):
    (record,) = fgseg("segment", photo, "-p", "red", "-p", "blue", "-f", name, "-o", "out", "--json").records
    assert record["files"][-1] == str(Path("out", "rgb", "run.json"))
    assert len(record["files"]) > 1
    assert sorted(record["files"]) == sorted(
        str(path.relative_to(tmp_path)) for path in (tmp_path / "out" / "rgb").rglob("*") if path.is_file()
    )


def test_formats_may_be_repeated_or_separated_by_commas(fgseg, photo, tmp_path):
    assert fgseg("segment", photo, "-p", "red", "-f", "coco, yolo", "-f", "overlay", "-o", "out").code == DONE
    names = {path.name for path in (tmp_path / "out" / "rgb").iterdir()}
    assert names == {"coco.json", "yolo.txt", "overlay.png", "run.json"}


def test_every_option_reaches_the_result(fgseg, photo, tiny_model):
    run = fgseg(
        *("segment", photo, "-p", "red, crimson", "-p", "blue", "--negative", "green", "--negative", "pink"),
        *("--background", "grey", "--background", "white", "--mode", "independent", "--threshold", "0.25"),
        *("--templates", "imagenet", "--resolution", "keep:40", "--refine", "guided", "--min-area", "3"),
        *("--max-hole", "4", "--device", "cpu", "--recipe", "naclip", "--offline"),
    )
    # the templates of ImageNet are sentences whose words the model does not know
    assert_refused(run, "has never seen the word")
    Path("templates.txt").write_text("a {}\nthe {}\n", encoding="utf-8")
    run = fgseg(
        *("segment", photo, "-p", "red, dark red", "-p", "blue", "--negative", "green", "--negative", "pink"),
        *("--background", "grey", "--background", "white", "--mode", "independent", "--threshold", "0.25"),
        *("--templates", "templates.txt", "--resolution", "keep:40", "--refine", "guided", "--min-area", "3"),
        *("--max-hole", "4", "--device", "cpu", "--recipe", "naclip", "--offline"),
    )
    assert (run.code, run.err) == (DONE, "")
    settings = run_json()
    assert settings["classes"] == [
        {"name": "red", "prompts": ["red", "dark red"]},
        {"name": "blue", "prompts": ["blue"]},
    ]
    assert (settings["background"], settings["negatives"]) == (["grey", "white"], ["green", "pink"])
    assert (settings["mode"], settings["threshold"], settings["refine"]) == ("independent", 0.25, "guided")
    assert (settings["min_area"], settings["max_hole"]) == (3, 4)
    assert settings["templates"] == ["a {}", "the {}"]
    assert (settings["resolution"]["mode"], settings["resolution"]["short_side"]) == ("keep", 40)
    assert (settings["device"], settings["dtype"], settings["recipe"]) == ("cpu", "float32", "naclip")
    assert (settings["model"], settings["image"]) == (tiny_model, str(photo))


def test_the_threshold_can_be_automatic(fgseg, photo):
    assert fgseg("segment", photo, "-p", "red", "--threshold", "auto").code == DONE
    assert run_json()["threshold"] == "auto"


def test_without_background_words_every_pixel_goes_to_a_prompt(fgseg, photo):
    (record,) = fgseg("segment", photo, "-p", "red", "-p", "blue", "--background", "", "--json").records
    assert sum(entry["share"] for entry in record["classes"]) == pytest.approx(1, abs=1e-6)  # shares have 6 decimals
    assert run_json()["background"] == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.txt", "# two classes\nred, crimson\nblue circle\n"),
        ("classes.json", '[{"name": "red", "prompts": ["red", "crimson"]}, {"name": "blue circle"}]'),
        ("classes.yaml", "- name: red\n  prompts: [red, crimson]\n- name: blue circle\n"),
    ],
)
def test_classes_come_from_a_file_before_prompts(fgseg, photo, name, text):
    Path(name).write_text(text, encoding="utf-8")
    assert fgseg("segment", photo, "--classes", name, "-p", "green").code == DONE
    assert [entry["name"] for entry in run_json()["classes"]] == ["red", "blue circle", "green"]


def test_the_error_of_a_wrong_class_file_is_one_line_with_its_name(fgseg, photo):
    Path("classes.txt").write_text("red\n\nblue\n", encoding="utf-8")
    assert_refused(fgseg("segment", photo, "--classes", "classes.txt"), "classes.txt")
    Path("classes.json").write_text("{", encoding="utf-8")
    assert_refused(fgseg("segment", photo, "--classes", "classes.json"), "classes.json")


def test_a_color_of_a_class_file_is_the_color_of_the_label_map(fgseg, photo):
    Path("classes.json").write_text('[{"name": "red", "color": [1, 2, 3]}, {"name": "blue"}]', encoding="utf-8")
    assert fgseg("segment", photo, "--classes", "classes.json", "--background", "").code == DONE
    labels = read_label_png("fgseg-out/rgb/labels.png")
    assert (labels == 0).any()
    assert (read_image("fgseg-out/rgb/labels.png")[labels == 0] == (1, 2, 3)).all()


def test_one_line_says_how_much_specks_changed_and_how_to_keep_them(fgseg, tmp_path):
    write_image(tmp_path / "a.png", np.random.RandomState(731).randint(0, 256, (96, 96, 3)).astype(np.uint8))
    words = ("segment", "a.png", "a.png", "-p", "red", "-p", "blue", "-p", "green", "--json")
    run = fgseg(*words)
    (record,) = run.records
    changed = record["settings"]["changed_pixels"]
    assert run.code == DONE
    assert run.complaints == [
        f"fgseg: specks changed {100 * changed / 96**2:.1f} % of the pixels, --min-area 0 --max-hole 0 keeps them"
    ]
    (kept,) = (run := fgseg(*words, "--min-area", "0", "--max-hole", "0")).records
    assert (run.err, kept["settings"]["changed_pixels"]) == ("", 0)
    assert len(kept["regions"]) > len(record["regions"])


# --- several images


def test_an_image_that_is_named_twice_is_processed_once(fgseg, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    odd_images.rgb_png(folder)
    odd_images.gray_png(folder)
    (folder / "notes.txt").write_text("not a picture")
    run = fgseg(
        "segment", "photos", "photos/*.png", folder / "rgb.png", "-p", "red", "--json", "--min-area", 0, "--max-hole", 0
    )
    assert (run.code, run.complaints) == (DONE, ["fgseg: photos: 2 pictures; left out: 1 other file (1 .txt)"])
    assert [record["image"] for record in run.records] == [str(Path("photos", n)) for n in ("gray.png", "rgb.png")]


def test_a_file_name_of_dots_stays_inside_the_output_folder(fgseg, tmp_path):
    write_image(tmp_path / "in" / "...png", odd_images.PICTURE)
    (record,) = fgseg("segment", "in/...png", "-p", "red", "-f", "overlay", "-o", "out", "--json").records
    assert Path(record["files"][0]).parent == Path("out", "...png")


def test_processes_write_the_folders_of_one_process(fgseg, tmp_path):
    names = [build(tmp_path).name for build in (odd_images.rgb_png, odd_images.empty_file, odd_images.gray_png)]
    words = ("segment", *names, "-p", "red", "-p", "blue", *SMALL, "--json")
    alone, pooled = fgseg(*words, "-o", "one"), fgseg(*words, "-o", "two", "--workers", "2")
    assert (alone.code, pooled.code) == (SOME_FAILED, SOME_FAILED)
    assert pooled.err == alone.err
    plain = {"seconds", "encoding_seconds"}

    def told(run, folder):
        for record in run.records:
            settings = record.get("settings", {})
            kept = {name: value for name, value in settings.items() if name not in plain}
            yield {**record, "settings": kept, "files": [name.replace(folder, "") for name in record.get("files", ())]}

    assert list(told(pooled, "two")) == list(told(alone, "one"))
    for path in Path("one").rglob("*.png"):
        assert path.read_bytes() == Path("two", *path.parts[1:]).read_bytes()


def test_images_read_by_region_go_to_processes_too(fgseg, tmp_path):
    tifffile.imwrite(tmp_path / "tiles.tif", np.full((64, 96, 3), 90, np.uint8), tile=(32, 32))
    words = ("segment", "tiles.tif", "-p", "red", "--by-region")
    assert fgseg(*words, "-o", "one").code == fgseg(*words, "-o", "two", "--workers", "2").code == DONE
    assert Path("one/tiles.tif/labels.tif").read_bytes() == Path("two/tiles.tif/labels.tif").read_bytes()


def test_processes_take_turns_on_the_gpus_unless_one_was_named(monkeypatch):
    loaded = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("fgseg.segmenter.load", lambda **options: loaded.append(options))
    monkeypatch.setattr("fgseg.store.engines.resources.limit_threads", lambda count: None)
    for device, asked in (("cuda:0", "auto"), ("cuda", "cuda"), ("cuda:1", "cuda:1"), ("cpu", "auto")):
        devices = share_devices(torch.device(device), asked)
        for place in range(3):
            SegmentWorker({"model": "mini", "device": asked}, devices, None, place)
    assert [options["device"] for options in loaded] == [
        "cuda:0", "cuda:1", "cuda:0", "cuda:0", "cuda:1", "cuda:0", *["cuda:1"] * 3, *["cpu"] * 3,
    ]  # fmt: skip
    assert all(options["model"] == "mini" for options in loaded)


def test_processes_and_batches_exclude_each_other(fgseg, photo):
    assert_refused(fgseg("segment", photo, "-p", "red", "--workers", "2", "--batch", "2"), "--batch: with --workers")


# --- images of every kind


@pytest.mark.parametrize("name", odd_images.WORKING)
def test_every_kind_of_image_works(fgseg, tmp_path, name):
    path = odd_images.WORKING[name](tmp_path)
    run = fgseg("segment", path, "-p", "red", "-p", "blue", *SMALL, "--json")
    assert (run.code, run.err) == (DONE, "")
    (record,) = run.records
    assert (record["height"], record["width"]) == (16, 24)


@pytest.mark.parametrize("name", odd_images.BROKEN)
@pytest.mark.parametrize("as_json", [True, False], ids=["json", "table"])
def test_a_bad_image_is_reported_in_one_line_and_the_others_are_processed(fgseg, tmp_path, name, as_json):
    good = tmp_path / "good.png"
    write_image(good, odd_images.PICTURE)
    bad = odd_images.BROKEN[name](tmp_path)
    run = fgseg("segment", bad, good, "-p", "red", *SMALL, *(["--json"] if as_json else []))
    assert run.code == SOME_FAILED
    line, summary = run.complaints
    assert line.startswith(f"fgseg: error: {bad}: ")
    assert ";" in line or "," in line  # what is wrong, and then what to do
    assert summary == "fgseg: 1 of 2 inputs failed"
    assert (tmp_path / "fgseg-out" / "good" / "labels.png").is_file()
    assert not (tmp_path / "fgseg-out" / bad.stem).exists()
    if as_json:
        by_image = {record["image"]: record for record in run.records}
        assert by_image[str(bad)]["error"] == line.removeprefix("fgseg: error: ")
        assert by_image[str(good)]["height"] == 16
    else:
        assert "good.png" in run.out
        assert bad.name not in run.out


@pytest.mark.parametrize(
    ("command", "words"),
    [("heatmap", ["-p", "red"]), ("boxes", ["-p", "red", "-b", "0,0,8,8"]), ("rank", ["-p", "red", "-p", "blue"])],
)
def test_every_command_continues_after_a_bad_image(fgseg, photo, command, words):
    run = fgseg(command, "missing.png", photo, *words, "--json")
    assert run.code == SOME_FAILED
    assert run.complaints[0].startswith("fgseg: error: missing.png: there is no such file")
    assert [("error" in record) for record in run.records] == [True, False]


def test_the_exit_status_is_3_even_if_all_images_are_bad(fgseg):
    run = fgseg("segment", "one.png", "two.png", "-p", "red")
    assert (run.code, run.out) == (SOME_FAILED, "")
    assert len(run.complaints) == 3


def test_the_exit_status_is_2_if_the_only_input_is_an_empty_folder(fgseg):
    Path("empty").mkdir()
    assert_refused(fgseg("segment", "empty", "-p", "red"), "empty: no picture in this folder")


def test_the_exit_status_is_2_if_the_only_pattern_matches_nothing(fgseg):
    assert_refused(fgseg("segment", "*.png", "-p", "red"), "*.png: no picture in this pattern")


@pytest.mark.parametrize("source", ["empty", "*.tif", ""])
def test_an_input_without_images_fails_and_the_others_are_processed(fgseg, photo, source):
    Path("empty").mkdir()
    run = fgseg("segment", source, photo, "-p", "red", "--json")
    assert run.code == SOME_FAILED
    assert len(run.complaints) == 2
    assert run.complaints[1] == "fgseg: 1 of 2 inputs failed"
    assert [record["image"] for record in run.records] == [source, str(photo)]


def test_several_inputs_without_images_get_one_line_each(fgseg):
    Path("empty").mkdir()
    run = fgseg("segment", "empty", "*.tif", "", "-p", "red")
    assert (run.code, run.out) == (USAGE, "")
    assert [line.split(": ")[2] for line in run.complaints] == ["empty", "*.tif", "''"]


def test_a_file_where_the_output_folder_should_be_is_refused_before_the_model_is_loaded(fgseg, photo):
    Path("taken").write_text("a file")
    assert_refused(fgseg("segment", photo, "-p", "red", "-o", "taken", model="nosuch"), "--out: a file stands", "taken")
    assert_refused(fgseg("heatmap", photo, "-p", "red", "-o", "taken/deeper", model="nosuch"), "--out: a file stands")


@pytest.mark.parametrize("command", ["segment", "heatmap"])
def test_an_output_folder_without_a_name_is_refused(fgseg, photo, command):
    run = fgseg(command, photo, "-p", "red", "-o", "")
    assert run.code == USAGE
    assert "expected a folder, got no name" in run.err
    assert not Path("photo").exists()


def test_an_output_folder_that_cannot_be_made_is_refused(fgseg, photo):
    assert_refused(fgseg("segment", photo, "-p", "red", "-o", "/proc/nosuch"), "--out: cannot make", "choose another")


def test_an_output_folder_without_permission_is_refused(fgseg, photo, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, how: False)  # tests may run as root, who may write anywhere
    run = fgseg("segment", photo, "-p", "red", "-o", "out")
    assert_refused(run, "--out: no permission to write into out")


def test_an_output_folder_on_a_read_only_disk_is_a_failure(fgseg, photo, monkeypatch):
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_flag=os.ST_RDONLY))
    run = fgseg("segment", photo, "-p", "red", "-o", "out")
    assert (run.code, run.out) == (FAILED, "")
    assert run.complaints == ["fgseg: error: --out: the disk of out is read-only; choose another folder"]


def test_a_full_disk_stops_the_run_after_the_table_of_the_images_before(fgseg, photo, tmp_path, monkeypatch):
    for name in ("second.png", "third.png"):
        write_image(tmp_path / name, odd_images.PICTURE)
    replace = Path.replace

    def fail(path, target):
        if "second" in str(target):
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", fail)
    run = fgseg("segment", photo, "second.png", "third.png", "-p", "red", "-o", "out")
    assert run.code == FAILED
    (complaint,) = run.complaints
    assert complaint.startswith("fgseg: error: out/second/run.json: cannot be written, No space left on device;")
    assert "rgb.png" in run.out
    assert [path for path in Path("out").rglob("*") if path.is_file() and path.parent.name != "rgb"] == []


def test_a_file_in_place_of_an_output_folder_fails_only_its_image(fgseg, photo, tmp_path):
    write_image(tmp_path / "other.png", odd_images.PICTURE)
    Path("out").mkdir()
    Path("out/rgb").write_text("a file")
    run = fgseg("segment", photo, "other.png", "-p", "red", "-o", "out", "--json")
    assert run.code == SOME_FAILED
    assert "a file stands where its folder should be" in run.complaints[0]
    assert run.records[1]["image"] == "other.png"


def test_a_box_outside_an_image_fails_only_that_image(fgseg, photo, tmp_path):
    write_image(tmp_path / "large.png", np.zeros((40, 40, 3), np.uint8))
    run = fgseg("boxes", photo, "large.png", "-p", "red", "-b", "0,0,30,30", "--json")
    assert run.code == SOME_FAILED
    assert run.complaints[0].startswith(f"fgseg: error: {photo}: --box: expected a box within the image")
    assert run.records[1]["box_xyxy"] == [0, 0, 30, 30]


# --- how files are read


@pytest.fixture
def banded():
    """A tiled TIFF of four bands with 8 rows of NaN."""
    samples = np.random.RandomState(5).uniform(0, 900, (64, 64, 4)).astype(np.float32)
    samples[:8] = np.nan
    tifffile.imwrite("banded.tif", samples, tile=(32, 32), photometric="minisblack", planarconfig="contig")
    return "banded.tif"


@pytest.mark.parametrize("route", [(), ("--by-region",)], ids=["whole", "by region"])
def test_bands_and_a_stretch_reach_the_reader_on_both_routes(fgseg, banded, route):
    (record,) = fgseg("segment", banded, "-p", "red", "--bands", "4,3,2", "--stretch", "2,98", "--json", *route).records
    reading = run_json("fgseg-out/banded.tif")["reading"]
    assert (reading["bands"], reading["stretch"], reading["no_data_pixels"]) == ([4, 3, 2], [2, 98], 8 * 64)
    assert reading["levels"] == pytest.approx([18, 882], abs=5)  # of values spread evenly over 0 to 900
    assert record["no_data_pixels"] == 8 * 64
    assert record["unlabelled_pixels"] + record["classes"][0]["pixels"] == 56 * 64


def test_pixels_without_data_have_a_row_of_their_own(fgseg, banded, photo):
    run = fgseg("segment", banded, photo, "-p", "red", "-p", "blue", "--bands", "1", "--stretch", "0,100")
    assert [line.split()[1:] for line in run.out.splitlines() if "no data" in line] == [
        ["no", "data", "12.50", "-", "-"]
    ]


@pytest.mark.parametrize(
    ("command", "words"),
    [("heatmap", []), ("boxes", ["-b", "0,0,8,8"]), ("rank", [])],
)
def test_bands_and_a_stretch_change_what_every_command_sees(fgseg, photo, command, words):
    plain, swapped, stretched = (
        fgseg(command, photo, "-p", "red", "-p", "blue", *words, "--json", *reading).records
        for reading in ((), ("--bands", "3,2,1"), ("--stretch", "30,60"))
    )
    assert plain != swapped
    assert plain != stretched


@pytest.mark.parametrize("command", ["segment", "heatmap", "boxes", "rank"])
@pytest.mark.parametrize(
    ("option", "values"),
    [
        ("--bands", ["0", "1,2", "red", "", "1.5", "-1,2,3"]),
        ("--stretch", ["98,2", "2", "a,b", "", "2,101", "nan,98", "1,2,3"]),
    ],
)
def test_wrong_bands_and_stretches_are_refused_before_the_model_is_loaded(fgseg, photo, command, option, values):
    words = ["-b", "0,0,8,8"] if command == "boxes" else []
    for value in values:
        run = fgseg(command, photo, "-p", "red", *words, f"{option}={value}", model="nosuch")
        assert_refused(run, f"{option}: expected", repr(value), f"give {option}")


@pytest.mark.parametrize("route", [(), ("--by-region",)], ids=["whole", "by region"])
def test_an_image_without_the_bands_fails_alone(fgseg, banded, route):
    tifffile.imwrite("one.tif", np.zeros((64, 64), np.uint8), tile=(32, 32))
    words = ("-p", "red", "--bands", "4,3,2", "--stretch", "2,98", "--json")
    run = fgseg("segment", "one.tif", banded, *words, *route)
    assert run.code == SOME_FAILED
    assert "fgseg: error: --bands: expected numbers from 1 to 1 for one.tif, got [4, 3, 2]" in run.complaints
    assert "of which the first" not in run.err  # others were chosen
    assert ["error" in record for record in run.records] == [True, False]


def test_boxes_that_look_normalised_are_questioned_once(fgseg, photo, tmp_path):
    other = tmp_path / "other.png"
    other.write_bytes(photo.read_bytes())
    run = fgseg("boxes", photo, other, "-p", "red", "-b", "0.1,0.2,0.5,0.9", "-b", "0,0,1,1")
    assert run.code == DONE
    (line,) = run.complaints
    assert line.startswith("fgseg: --box: every corner lies between 0 and 1")
    assert line.endswith("multiply x by 24 and y by 16")
    assert fgseg("boxes", photo, "-p", "red", "-b", "0,0,1,1", "-b", "0,0,8,8").err == ""


# --- the other commands


def test_heatmap_writes_a_picture_and_numbers_and_prints_them(fgseg, photo):
    run = fgseg("heatmap", photo, "-p", "red", "-p", "blue", "--json")
    (record,) = run.records
    assert [Path(file).name for file in record["files"]] == ["heatmaps.png", "heatmaps.npz", "run.json"]
    for entry in record["classes"]:
        assert 0 <= entry["mean"] <= entry["peak"] <= 1
        assert 0 <= entry["share"] <= 1
    table = fgseg("heatmap", photo, "-p", "red", "-p", "blue").out.splitlines()
    assert table[0].split() == ["image", "class", "mean", "peak", "%", "over", "0.5"]
    assert len(table) == 3


def test_heatmap_does_not_segment_and_writes_the_files_that_segment_writes(fgseg, photo, monkeypatch):
    words = (photo, "-p", "red", "-p", "blue", "--refine", "guided")
    assert fgseg("segment", *words, "-f", "heatmaps", "-o", "segmented").code == DONE
    monkeypatch.delattr("fgseg.segmenter.Segmenter.segment")
    assert fgseg("heatmap", *words, "-o", "heat").code == DONE
    for name in ("heatmaps.png", "heatmaps.npz"):
        assert Path("heat/rgb", name).read_bytes() == Path("segmented/rgb", name).read_bytes(), name
    expected, settings = run_json("segmented/rgb"), run_json("heat/rgb")
    only_of_segment = {"mode", "threshold", "min_area", "max_hole", "quarter_patch", "changed_pixels", "seconds"}
    assert set(expected) - set(settings) == only_of_segment
    for name in set(settings) - {"encoding_seconds", "request"}:
        assert settings[name] == expected[name], name


def test_the_printed_numbers_of_heatmap_agree_with_the_saved_file(fgseg, tmp_path):
    # one patch row and column a pixel block: the mean of the map is the mean of its area means
    write_image(tmp_path / "a.png", np.repeat(odd_images.PICTURE, 2, 0).repeat(2, 1)[:32, :32])
    (record,) = fgseg("heatmap", "a.png", "-p", "red", "--resolution", "squash:32", "--json").records
    with np.load("fgseg-out/a/heatmaps.npz") as saved:
        assert saved["presence"].shape == (1, 4, 4)
        assert saved["presence"].astype(float).mean() == pytest.approx(
            record["classes"][0]["mean"], abs=1e-3
        )  # float16


def test_boxes_scores_every_phrase_for_every_box(fgseg, photo):
    words = ("boxes", photo, "-b", "0,0,8,8", "-b", "8,8,24,16", "-p", "red", "-p", "blue, green")
    run = fgseg(*words, "--json")
    assert [record["box_xyxy"] for record in run.records] == [[0, 0, 8, 8], [8, 8, 24, 16]]
    for record in run.records:
        assert [score["text"] for score in record["scores"]] == ["red", "blue, green"]  # a comma means nothing here
        assert sum(score["probability"] for score in record["scores"]) == pytest.approx(1, abs=1e-5)  # 6 decimals
    assert len(fgseg(*words).out.splitlines()) == 5


def test_the_table_of_boxes_has_the_best_phrase_first(fgseg, photo):
    tables = [
        fgseg("boxes", photo, "-b", "0,0,8,8", "-p", first, "-p", second).out
        for first, second in (("red", "blue"), ("blue", "red"))
    ]
    assert tables[0] == tables[1]
    best, second = (float(row.split()[-2]) for row in tables[0].splitlines()[1:])
    assert best > second


@pytest.mark.parametrize("route", ["short", "long"])
def test_rank_orders_captions_by_cosine(fgseg, photo, route):
    words = (
        "rank",
        photo,
        "-p",
        "a red circle",
        "-p",
        "a blue square, and a green star",
        "-p",
        "grey",
        "--route",
        route,
    )
    (record,) = fgseg(*words, "--json").records
    cosines = [score["cosine"] for score in record["scores"]]
    assert cosines == sorted(cosines, reverse=True)
    assert sum(score["probability"] for score in record["scores"]) == pytest.approx(1, abs=1e-5)  # 6 decimals
    rows = [line.split() for line in fgseg(*words).out.splitlines()]
    assert [row[1] for row in rows] == ["rank", "1", "2", "3"]


def test_the_error_of_a_long_caption_names_the_long_route(fgseg, photo):
    caption = "red " * 100
    assert_refused(fgseg("rank", photo, "-p", caption), "expected at most 77 tokens on the short route", "--route long")
    assert fgseg("rank", photo, "-p", caption, "--route", "long").code == DONE


# --- several images together


def test_a_batch_gives_the_same_results_and_reports_an_unreadable_file(fgseg, tmp_path):
    good = [odd_images.rgb_png(tmp_path), odd_images.gray_png(tmp_path), odd_images.palette_png(tmp_path)]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    for count in ("1", "2", "9"):
        run = fgseg("segment", good[0], broken, *good[1:], "-p", "red", "--batch", count, "-o", f"by{count}", "--json")
        assert run.code == SOME_FAILED
        assert "broken.png" in run.complaints[0]
        assert [json.loads(line)["image"] for line in run.out.splitlines()] == [*map(str, (good[0], broken, *good[1:]))]
    for path in good:
        one, two, nine = (
            (tmp_path / f"by{count}" / path.stem / "labels.png").read_bytes() for count in ("1", "2", "9")
        )
        assert one == two == nine
    assert json.loads((tmp_path / "by2" / good[0].stem / "run.json").read_text())["encoding_seconds"] > 0


def test_a_batch_of_zero_is_refused(fgseg, photo):
    assert_refused(fgseg("segment", photo, "-p", "red", "--batch", "0"), "--batch", "1")


def test_heatmap_accepts_a_batch(fgseg, photo, tmp_path):
    other = odd_images.gray_png(tmp_path)
    assert fgseg("heatmap", photo, other, "-p", "red", "--batch", "2").code == DONE
    assert (tmp_path / "fgseg-out" / other.stem / "heatmaps.npz").exists()


# --- sharper masks


def test_scores_flow_where_it_is_asked_and_run_json_says_so(fgseg, photo, tmp_path):
    plain, flowing = (
        fgseg("heatmap", photo, "-p", "red", "-p", "blue", "--background", "", "--propagate", how, *SMALL, "--json")
        for how in ("none", "both")
    )
    assert (plain.code, flowing.code) == (DONE, DONE)
    assert plain.records[0]["classes"] != flowing.records[0]["classes"]
    assert run_json(tmp_path / "fgseg-out" / "rgb")["propagate"] == "both"


@pytest.mark.parametrize("is_folder", [True, False])
def test_regions_of_a_file_or_of_a_folder_vote(fgseg, photo, tmp_path, is_folder):
    regions = tmp_path / "regions"
    regions.mkdir()
    Image.fromarray(np.zeros((16, 24), np.uint8)).save(regions / "rgb.png")
    given = regions if is_folder else regions / "rgb.png"
    run = fgseg("segment", photo, "-p", "red", "-p", "blue", "--background", "", "--regions", given, "--vote", *SMALL)
    assert (run.code, run.err) == (DONE, "")
    assert len(np.unique(read_label_png(tmp_path / "fgseg-out" / "rgb" / "labels.png"))) == 1
    saved = run_json(tmp_path / "fgseg-out" / "rgb")
    assert (saved["region_map"], saved["vote"]) == (str(regions / "rgb.png"), True)


def test_a_changed_region_map_is_not_skipped(fgseg, photo, tmp_path):
    words = ("segment", photo, "-p", "red", "-p", "blue", "--background", "", "--vote", "--skip-existing", *SMALL)
    for count, skipped in ((1, 0), (1, 1), (2, 0)):
        Image.fromarray(np.zeros((16, 24), np.uint8) + count).save(tmp_path / "regions.png")
        os.utime(tmp_path / "regions.png", (count, count))
        assert f"{skipped} of 1 images skipped" in fgseg(*words, "--regions", tmp_path / "regions.png").err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--vote",), "--vote: expected --regions and --vote together, got no --regions; give both or none"),
        (("--regions", "superpixels"), "--regions: expected --regions and --vote together, got no --vote; give both"),
        (
            ("--regions", "slic", "--vote"),
            "--regions: expected superpixels, eomt, a label PNG, a JSON file or a folder",
        ),
    ],
)
def test_regions_and_a_vote_are_given_together(fgseg, photo, words, message):
    assert_refused(fgseg("segment", photo, "-p", "red", *words), message)


def test_an_image_of_another_size_than_its_regions_fails_alone(fgseg, photo, tmp_path):
    other = tmp_path / "other.png"
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(other)
    Image.fromarray(np.zeros((16, 24), np.uint8)).save(tmp_path / "regions.png")
    run = fgseg("segment", other, photo, "-p", "red", "--regions", tmp_path / "regions.png", "--vote", *SMALL)
    assert run.code == SOME_FAILED
    assert "regions.png: expected an array of shape (9, 9), got" in run.err
    assert "a region map is as large as the image" in run.err
