"""The command line as a user meets it: what goes to stdout, what to stderr, which files, which exit status."""

import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import odd_images
import pytest

from fgseg._version import __version__
from fgseg.commands import main as cli
from fgseg.images.label_png import read_label_png
from fgseg.images.reading import read_image
from fgseg.images.writing import write_image
from fgseg.segmentation.saving import FORMATS

ROOT = Path(__file__).parents[2]
DONE, FAILED, USAGE, SOME_FAILED, INTERRUPTED = 0, 1, 2, 3, 130
SMALL = ("--resolution", "squash:32")


@dataclass(frozen=True)
class Run:
    """What a command left: its exit status, stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def records(self):
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def complaints(self):
        return self.err.splitlines()


@pytest.fixture
def fgseg(capsys, monkeypatch, tmp_path, tiny_model):
    """Runs a command in an empty folder with the tiny model; `model=None` gives no --model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FGSEG_MODEL", raising=False)

    def run(command, *words, model=tiny_model):
        extra = [] if model is None or command in ("models", "doctor") else ["--model", model]
        if extra and "--dtype" not in words:
            extra += ["--dtype", "float32"]
        with pytest.raises(SystemExit) as left:
            cli.main([command, *map(str, words), *extra])
        captured = capsys.readouterr()
        return Run(left.value.code, captured.out, captured.err)

    return run


@pytest.fixture
def photo(tmp_path):
    return odd_images.rgb_png(tmp_path)


def assert_refused(run, *parts):
    """One line on stderr that holds these parts, nothing on stdout, exit 2."""
    assert (run.code, run.out, len(run.complaints)) == (USAGE, "", 1), run
    assert run.err.startswith("fgseg: error: ")
    for part in parts:
        assert part in run.err


# --- help and usage


@pytest.mark.parametrize("command", ["segment", "heatmap", "boxes", "rank", "models", "doctor"])
def test_every_command_has_help(fgseg, command):
    run = fgseg(command, "--help", model=None)
    assert (run.code, run.err) == (DONE, "")
    assert f"Usage: fgseg {command}" in run.out


def test_without_arguments_the_help_goes_to_stderr_and_it_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main([])
    captured = capsys.readouterr()
    assert (left.value.code, captured.out) == (USAGE, "")
    assert "segment" in captured.err


def test_version_is_printed(capsys):
    with pytest.raises(SystemExit) as left:
        cli.main(["--version"])
    assert left.value.code == DONE
    assert capsys.readouterr().out == f"fgseg {__version__}\n"


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["segmnt", "a.png"], ["No such command 'segmnt'", "fgseg --help"]),
        (["segment", "-p", "red"], ["Missing", "fgseg segment --help"]),
        (["segment", "a.png", "--promt", "red"], ["No such option", "--promt"]),
        (["segment", "a.png", "-p", "red", "--mode", "fuzzy"], ["--mode", "'fuzzy'", "'independent'"]),
        (["segment", "a.png", "-p", "red", "--refine", "crf"], ["--refine", "'crf'", "'guided'"]),
        (["segment", "a.png", "-p", "red", "--min-area", "-1"], ["--min-area"]),
        (["segment", "a.png", "-p", "red", "--max-hole", "few"], ["--max-hole"]),
        (["rank", "a.png", "-p", "red", "--route", "wide"], ["--route", "'wide'"]),
    ],
)
def test_a_mistyped_command_is_one_line_and_exit_2(fgseg, words, parts):
    assert_refused(fgseg(*words, model=None), *parts)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--format", "pdf"], ["formats: expected one of labels", "'pdf'"]),
        (["--threshold", "1.5"], ["--threshold: expected a number from 0 to 1 or auto", "'1.5'"]),
        (["--threshold", "nan"], ["--threshold: expected a number from 0 to 1 or auto", "'nan'"]),
        (["--threshold", "half"], ["--threshold", "'half'"]),
        (["--resolution", "huge"], ["resolution: expected", "'huge'"]),
        (["--resolution", "slide:1/2"], ["resolution: expected", "'slide:1/2'"]),
        (["--resolution", "keep:5000"], ["resolution: expected sizes", "'keep:5000'", "at most max_side 2048"]),
        (["--resolution", "slide:64/32/48"], ["resolution: expected sizes", "'slide:64/32/48'", "stride"]),
        (["--device", "cuda:97"], ["device: 'cuda:97' is not on this machine", "use device='auto'"]),
        (["--device", "tpu9"], ["device: expected auto, cpu, cuda", "'tpu9'"]),
        (["--dtype", "int8"], ["dtype: expected one of auto, float32", "'int8'"]),
        (["--recipe", "mystery"], ["recipe: expected one of value", "'mystery'"]),
        (["--templates", "nosuch.txt"], ["nosuch.txt"]),
        (["--classes", "nosuch.txt"], ["nosuch.txt"]),
        (["--max-hole", "5"], ["max_hole", "independent"]),
        (["--background", ""], ["background: one prompt alone has nothing to compete with"]),
        (["-p", ""], ["prompts[1]"]),
        (["-p", "blue,,green"], ["prompts[1]"]),
        (["-p", "Red"], ["'Red'", "drop one"]),
        (["-p", "spaceship"], ["has never seen the word 'spaceship'", "fg-clip-base"]),
        (["--negative", "spaceship"], ["has never seen the word 'spaceship'"]),
        (["-p", "red " * 80], ["expected at most 77 tokens", "got 82"]),
        (["--negative", "red"], ["'red'", "take it out of one of the two"]),
    ],
)
def test_a_wrong_option_is_one_line_and_exit_2(fgseg, photo, words, parts):
    assert_refused(fgseg("segment", photo, "-p", "red", *words), *parts)


def test_no_prompt_is_refused_by_every_command_that_needs_one(fgseg, photo):
    assert_refused(fgseg("segment", photo), "--prompt: expected at least one", "--classes FILE")
    assert_refused(fgseg("heatmap", photo), "--prompt: expected at least one")
    assert_refused(fgseg("rank", photo), "--prompt: expected at least one caption")
    assert_refused(fgseg("boxes", photo, "-b", "0,0,5,5"), "--prompt: expected at least one")


@pytest.mark.parametrize("box", ["1,2,3", "a,b,c,d", "0,0,nan,5", "0,0,inf,5", "9,0,5,5", "0,5,5,5", "-1,0,5,5"])
def test_a_box_that_is_none_is_refused(fgseg, photo, box):
    assert_refused(fgseg("boxes", photo, f"--box={box}", "-p", "red"), "--box: expected", repr(box))


def test_boxes_without_a_box_is_refused(fgseg, photo):
    assert_refused(fgseg("boxes", photo, "-p", "red"), "--box: expected at least one")


def test_boxes_take_no_windows(fgseg, photo):
    run = fgseg("boxes", photo, "-p", "red", "-b", "0,0,5,5", "--resolution", "slide")
    assert_refused(run, "use squash or keep")


def test_an_option_is_refused_before_any_image_is_named_as_failed(fgseg):
    assert_refused(fgseg("segment", "missing.png", "-p", "red", "--resolution", "huge"), "resolution")


# --- segment


def test_segment_prints_a_table_and_writes_a_folder_an_image(fgseg, photo, tmp_path):
    run = fgseg("segment", photo, "-p", "red", "-p", "blue circle")
    assert (run.code, run.err) == (DONE, "")
    header, *rows = run.out.splitlines()
    assert header.split() == ["image", "class", "%", "of", "pixels", "regions", "peak"]
    assert [row.split()[1] for row in rows] == ["red", "blue"]
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
    for row, entry in zip(rows, record["classes"], strict=True):
        regions = [region for region in record["regions"] if region["class_index"] == entry["index"]]
        assert row[1:] == [
            entry["name"],
            f"{100 * entry['share']:.2f}",
            str(len(regions)),
            f"{max((region['peak_score'] for region in regions), default=0):.3f}",
        ]


def test_json_is_one_object_a_line_and_image(fgseg, photo, tmp_path):
    other = odd_images.gray_png(tmp_path)
    run = fgseg("segment", photo, other, "-p", "red", "--json")
    assert run.code == DONE
    assert [record["image"] for record in run.records] == [str(photo), str(other)]


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_written_when_asked_for(fgseg, photo, tmp_path, name):
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


def run_json(folder="fgseg-out/rgb"):
    return json.loads(Path(folder, "run.json").read_text(encoding="utf-8"))


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


def test_an_automatic_threshold_is_taken(fgseg, photo):
    assert fgseg("segment", photo, "-p", "red", "--threshold", "auto").code == DONE
    assert run_json()["threshold"] == "auto"


def test_an_empty_background_leaves_the_prompts_alone_to_share_every_pixel(fgseg, photo):
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


def test_a_wrong_class_file_is_one_line_with_its_place(fgseg, photo):
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


# --- several images


def test_folders_globs_and_files_are_each_done_once(fgseg, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    odd_images.rgb_png(folder)
    odd_images.gray_png(folder)
    (folder / "notes.txt").write_text("not a picture")
    run = fgseg("segment", "photos", "photos/*.png", folder / "rgb.png", "-p", "red", "--json")
    assert (run.code, run.err) == (DONE, "")
    assert [record["image"] for record in run.records] == [str(Path("photos", n)) for n in ("gray.png", "rgb.png")]


def test_images_of_one_name_get_folders_of_their_own(fgseg, tmp_path):
    paths = [
        tmp_path / name for name in ("a/cat.png", "b/cat.png", "b/cat.jpg", "c/Cat.png", "c/cat.png.png", "c/dog.png")
    ]
    for path in paths:
        write_image(path, odd_images.PICTURE)
    run = fgseg("segment", *paths, "-p", "red", "-f", "overlay", "--json")
    folders = [Path(record["files"][0]).parent.name for record in run.records]
    assert folders == ["cat.png", "cat.png-2", "cat.jpg", "Cat.png-3", "cat.png-4", "dog"]
    assert len({folder.casefold() for folder in folders}) == 6


def test_a_file_name_of_dots_stays_inside_the_output_folder(fgseg, tmp_path):
    write_image(tmp_path / "in" / "...png", odd_images.PICTURE)
    (record,) = fgseg("segment", "in/...png", "-p", "red", "-f", "overlay", "-o", "out", "--json").records
    assert Path(record["files"][0]).parent == Path("out", "...png")


# --- images of every kind


@pytest.mark.parametrize("name", odd_images.WORKING)
def test_every_kind_of_image_simply_works(fgseg, tmp_path, name):
    path = odd_images.WORKING[name](tmp_path)
    run = fgseg("segment", path, "-p", "red", "-p", "blue", *SMALL, "--json")
    assert (run.code, run.err) == (DONE, "")
    (record,) = run.records
    assert (record["height"], record["width"]) == (16, 24)


@pytest.mark.parametrize("name", odd_images.BROKEN)
@pytest.mark.parametrize("as_json", [True, False], ids=["json", "table"])
def test_a_bad_input_is_named_in_one_line_and_the_others_are_done(fgseg, tmp_path, name, as_json):
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
def test_every_command_goes_on_after_a_bad_image(fgseg, photo, command, words):
    run = fgseg(command, "missing.png", photo, *words, "--json")
    assert run.code == SOME_FAILED
    assert run.complaints[0].startswith("fgseg: error: missing.png: there is no such file")
    assert [("error" in record) for record in run.records] == [True, False]


def test_all_images_bad_is_still_exit_3(fgseg):
    run = fgseg("segment", "one.png", "two.png", "-p", "red")
    assert (run.code, run.out) == (SOME_FAILED, "")
    assert len(run.complaints) == 3


def test_a_folder_without_images_alone_is_exit_2(fgseg):
    Path("empty").mkdir()
    assert_refused(fgseg("segment", "empty", "-p", "red"), "empty: no picture in this folder")


def test_a_pattern_without_images_alone_is_exit_2(fgseg):
    assert_refused(fgseg("segment", "*.png", "-p", "red"), "*.png: no picture in this pattern")


@pytest.mark.parametrize("source", ["empty", "*.tif", ""])
def test_a_source_without_images_fails_and_the_others_are_done(fgseg, photo, source):
    Path("empty").mkdir()
    run = fgseg("segment", source, photo, "-p", "red", "--json")
    assert run.code == SOME_FAILED
    assert len(run.complaints) == 2
    assert run.complaints[1] == "fgseg: 1 of 2 inputs failed"
    assert [record["image"] for record in run.records] == [source, str(photo)]


def test_several_sources_without_images_are_a_line_each(fgseg):
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


def test_a_file_in_place_of_one_images_folder_fails_that_image_alone(fgseg, photo, tmp_path):
    write_image(tmp_path / "other.png", odd_images.PICTURE)
    Path("out").mkdir()
    Path("out/rgb").write_text("a file")
    run = fgseg("segment", photo, "other.png", "-p", "red", "-o", "out", "--json")
    assert run.code == SOME_FAILED
    assert "a file stands where its folder should be" in run.complaints[0]
    assert run.records[1]["image"] == "other.png"


def test_a_box_outside_one_image_fails_that_image_alone(fgseg, photo, tmp_path):
    write_image(tmp_path / "large.png", np.zeros((40, 40, 3), np.uint8))
    run = fgseg("boxes", photo, "large.png", "-p", "red", "-b", "0,0,30,30", "--json")
    assert run.code == SOME_FAILED
    assert run.complaints[0].startswith(f"fgseg: error: {photo}: boxes_xyxy: expected row 0 within the image")
    assert run.records[1]["box_xyxy"] == [0, 0, 30, 30]


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
    only_of_segment = {"mode", "threshold", "min_area", "max_hole", "seconds"}
    assert set(expected) - set(settings) == only_of_segment
    for name in set(settings) - {"encoding_seconds"}:
        assert settings[name] == expected[name], name


def test_heatmap_numbers_are_those_of_the_saved_file(fgseg, tmp_path):
    # one patch row and column a pixel block: the mean of the map is the mean of its area means
    write_image(tmp_path / "a.png", np.repeat(odd_images.PICTURE, 2, 0).repeat(2, 1)[:32, :32])
    (record,) = fgseg("heatmap", "a.png", "-p", "red", "--resolution", "squash:32", "--json").records
    with np.load("fgseg-out/a/heatmaps.npz") as saved:
        assert saved["presence"].shape == (1, 4, 4)
        assert saved["presence"].astype(float).mean() == pytest.approx(
            record["classes"][0]["mean"], abs=1e-3
        )  # float16


def test_boxes_score_every_phrase_for_every_box(fgseg, photo):
    words = ("boxes", photo, "-b", "0,0,8,8", "-b", "8,8,24,16", "-p", "red", "-p", "blue, green")
    run = fgseg(*words, "--json")
    assert [record["box_xyxy"] for record in run.records] == [[0, 0, 8, 8], [8, 8, 24, 16]]
    for record in run.records:
        assert [score["text"] for score in record["scores"]] == ["red", "blue, green"]  # a comma means nothing here
        assert sum(score["probability"] for score in record["scores"]) == pytest.approx(1, abs=1e-5)  # 6 decimals
    assert len(fgseg(*words).out.splitlines()) == 5


def test_the_table_of_boxes_has_the_best_phrase_first_however_they_are_given(fgseg, photo):
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


def test_a_caption_too_long_for_the_short_route_is_told_of_the_long_one(fgseg, photo):
    caption = "red " * 100
    assert_refused(fgseg("rank", photo, "-p", caption), "expected at most 77 tokens on the short route", "route='long'")
    assert fgseg("rank", photo, "-p", caption, "--route", "long").code == DONE


# --- models


def test_a_model_comes_from_the_environment_unless_one_is_given(fgseg, photo, tiny_model, monkeypatch):
    monkeypatch.setenv("FGSEG_MODEL", tiny_model)
    assert fgseg("segment", photo, "-p", "red", model=None).code == DONE
    assert run_json()["model"] == tiny_model
    monkeypatch.setenv("FGSEG_MODEL", "nosuch")
    assert fgseg("segment", photo, "-p", "red").code == DONE
    assert_refused(fgseg("segment", photo, "-p", "red", model=None), "model 'nosuch'")


def test_an_unknown_model_is_one_line_with_the_known_ones(fgseg, photo):
    assert_refused(fgseg("segment", photo, "-p", "red", model="nosuch"), "'nosuch'", "mini, fg-clip-base", "hub id")


def test_a_model_folder_without_weights_is_one_line(fgseg, photo, tiny_model):
    Path("empty").mkdir()
    assert_refused(
        fgseg("segment", photo, "-p", "red", model="empty"), "empty: expected a model folder with config.json"
    )
    Path("half").mkdir()
    Path("half/config.json").write_text("{}")
    assert_refused(fgseg("segment", photo, "-p", "red", model="half"), "half: expected weights in model.safetensors")
    Path("half/pytorch_model.bin").write_bytes(b"")
    assert_refused(fgseg("segment", photo, "-p", "red", model="half"), "pytorch_model.bin is a pickle")
    Path("half/model.safetensors").write_bytes(b"nothing")
    assert_refused(
        fgseg("segment", photo, "-p", "red", model="half"), "expected a safetensors file", "download it again"
    )


def test_a_hub_model_that_is_not_here_is_one_line_when_offline(fgseg, photo, empty_cache):
    run = fgseg("segment", photo, "-p", "red", "--offline", model="fg-clip-base")
    assert_refused(run, "model qihoo360/fg-clip-base", "not in the cache, and offline was asked for", "'mini'")


def test_a_hub_out_of_reach_is_one_line(fgseg, photo, empty_cache, monkeypatch):
    def unreachable(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    run = fgseg("segment", photo, "-p", "red", model="fg-clip-base")
    assert_refused(run, "the hub is out of reach", "no route to host", "give a folder")


def test_models_lists_every_name(fgseg):
    run = fgseg("models")
    assert run.code == DONE
    header, *rows = run.out.splitlines()
    assert header.split() == ["model", "weights", "about"]
    names = [row.split()[0] for row in rows]
    assert names == ["mini", "fg-clip-base", "fg-clip-large", "fg-clip2-base", "fg-clip2-large", "fg-clip2-so400m"]
    listed = json.loads(fgseg("models", "--json").out)
    assert [entry["name"] for entry in listed] == names
    assert listed[0]["weights"] == "in the package"


def test_models_with_a_name_shows_its_card(fgseg, tiny_model):
    run = fgseg("models", "mini")
    assert run.code == DONE
    assert "FG-CLIP 1" in run.out
    card = json.loads(fgseg("models", tiny_model, "--json").out)
    assert card["family"] == "FG-CLIP 1"
    assert {"red", "circle"} <= set(card["words"])
    assert len(card["sha256"]) == 64


def test_the_card_of_an_unknown_model_is_one_line_and_exit_2(fgseg):
    assert_refused(fgseg("models", "nosuch"), "model 'nosuch'")


def test_doctor_reports_as_text_and_json(fgseg, tiny_model):
    run = fgseg("doctor", "--device", "cpu", "--dtype", "float32", "--model", tiny_model)
    assert (run.code, run.err) == (DONE, "")
    pairs = dict(line.split("  ", 1) for line in run.out.splitlines())
    assert pairs["fgseg"].strip() == __version__
    assert pairs["dtype"].strip() == "float32"
    assert pairs["problems"].strip() == "-"
    report = json.loads(fgseg("doctor", "--device", "cpu", "--model", tiny_model, "--json").out)
    assert report["device"].startswith("cpu")
    assert report["problems"] == []


def test_doctor_lists_problems_a_line_each_and_exits_1(fgseg):
    run = fgseg("doctor", "--device", "cuda:97", "--model", "nosuch")
    assert (run.code, run.err) == (FAILED, "")
    first, second = run.out.splitlines()[-2:]
    assert first.startswith("problems")
    assert "device: 'cuda:97' is not on this machine" in first
    assert second.strip().startswith("model 'nosuch'")
    assert len(json.loads(fgseg("doctor", "--device", "cuda:97", "--model", "nosuch", "--json").out)["problems"]) == 2


# --- stdout, stderr, -q and -v


@pytest.fixture
def terminal(monkeypatch):
    """Makes stderr pass for a terminal, where a progress bar is shown."""
    return lambda: monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)


def test_progress_goes_to_stderr_and_data_to_stdout(fgseg, photo, tmp_path, terminal):
    other = odd_images.gray_png(tmp_path)
    terminal()
    run = fgseg("segment", photo, other, "-p", "red", "--json")
    assert "2/2" in run.err
    assert len(run.records) == 2


@pytest.mark.parametrize("flag", ["-q", "--quiet"])
def test_quiet_shows_no_progress(fgseg, photo, tmp_path, terminal, flag):
    other = odd_images.gray_png(tmp_path)
    terminal()
    run = fgseg("segment", photo, other, "-p", "red", flag)
    assert (run.code, run.err) == (DONE, "")


def test_quiet_still_names_what_failed(fgseg, photo, terminal):
    terminal()
    run = fgseg("segment", photo, "missing.png", "-p", "red", "-q")
    assert (run.code, len(run.complaints)) == (SOME_FAILED, 2)


def test_one_image_and_no_terminal_show_no_progress(fgseg, photo, tmp_path, terminal):
    other = odd_images.gray_png(tmp_path)
    assert fgseg("segment", photo, other, "-p", "red").err == ""
    terminal()
    assert fgseg("segment", photo, "-p", "red").err == ""


def test_verbose_logs_the_model_and_device_to_stderr_each_time(fgseg, photo, tiny_model):
    for _ in range(2):
        run = fgseg("segment", photo, "-p", "red", "-v", "--json", "--device", "cpu")
        assert run.complaints == [f"fgseg: model {tiny_model} on cpu in torch.float32"]
        assert len(run.records) == 1
    assert fgseg("segment", photo, "-p", "red").err == ""


def explode(*_, **__):
    raise RuntimeError("a\nbroken part")


def test_an_unexpected_error_is_one_line_and_exit_1(fgseg, photo, monkeypatch):
    monkeypatch.setattr("fgseg.segmenter.load", explode)
    run = fgseg("segment", photo, "-p", "red")
    assert (run.code, run.out) == (FAILED, "")
    assert run.err == "fgseg: failed: RuntimeError: a broken part (run it again with -v for the traceback)\n"


def test_verbose_shows_where_an_unexpected_error_came_from(fgseg, photo, monkeypatch):
    monkeypatch.setattr("fgseg.segmenter.load", explode)
    run = fgseg("segment", photo, "-p", "red", "-v")
    assert run.code == FAILED
    assert "Traceback" in run.err
    assert run.complaints[-1] == "fgseg: failed: RuntimeError: a broken part"


def test_ctrl_c_in_a_command_is_one_line_and_exit_130(fgseg, photo, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("fgseg.segmenter.Segmenter.segment", interrupt)
    run = fgseg("segment", photo, "-p", "red")
    assert run == Run(INTERRUPTED, "", "fgseg: interrupted\n")


@pytest.mark.parametrize(("extra", "wanted"), [([], "\\xe9.png"), (["--json"], '"\\u00e9.png"')])
def test_letters_that_the_terminal_cannot_show_are_escaped(fgseg, tmp_path, monkeypatch, extra, wanted):
    write_image(tmp_path / "a.png", odd_images.PICTURE)
    (tmp_path / "a.png").rename(tmp_path / "é.png")
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="cp1251"))
    run = fgseg("rank", "é.png", "-p", "red", *extra)
    assert (run.code, run.err) == (DONE, "")
    assert wanted in written.getvalue().decode("cp1251")


# --- signals and pipes, in processes of their own


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": "1"}


def process_of(*words, stdout=subprocess.PIPE, **options):
    """`fgseg` in a process of its own."""
    command = [sys.executable, "-m", "fgseg", *map(str, words)]
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, **options)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a named pipe")
def test_ctrl_c_while_images_are_done_is_one_line_and_exit_130(photo, tmp_path, tiny_model):
    os.mkfifo(tmp_path / "never.png")  # reading it blocks: the command is surely running when the signal comes
    words = ("segment", photo, tmp_path / "never.png", "-p", "red", "--json", "--model", tiny_model)
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell lets its background jobs ignore it
    with process_of(*words, "-o", tmp_path / "out", preexec_fn=heard) as process:
        first = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=60)
    assert json.loads(first)["image"] == str(photo)
    assert (process.returncode, rest, err) == (INTERRUPTED, "", "fgseg: interrupted\n")


def test_ctrl_c_while_the_command_is_being_imported_is_one_line_too():
    script = (
        "import runpy, sys\nclass Hit:\n    def find_spec(name, *_):\n"
        "        if name == 'fgseg.commands.main':\n            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Hit)\nrunpy.run_module('fgseg', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (INTERRUPTED, "", "fgseg: interrupted\n")


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_a_reader_that_leaves_early_is_no_error(photo):
    reading, writing = os.pipe()
    os.close(reading)
    with process_of("--version", stdout=writing) as process:
        os.close(writing)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (DONE, "")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take UTF-8 names alone")
def test_a_file_name_that_is_no_text_is_done_and_its_json_parses(tmp_path, tiny_model):
    odd = os.fsdecode(b"caf\xe9.png")
    Path(tmp_path, odd).write_bytes(odd_images.rgb_png(tmp_path).read_bytes())
    with process_of("segment", odd, "-p", "red", "--json", "--model", tiny_model, cwd=tmp_path) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (DONE, "")
    assert json.loads(out)["image"] == odd
    run = json.loads(Path(tmp_path, "fgseg-out", odd.removesuffix(".png"), "run.json").read_text(encoding="utf-8"))
    assert run["image"] == odd


def test_help_imports_no_heavy_package():
    script = (
        "import sys\nfrom fgseg.commands.main import main\n"
        "try:\n    main(['segment', '--help'])\nexcept SystemExit:\n    pass\n"
        "print(*sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "Usage: fgseg segment" in done.stdout
    assert not set(done.stderr.split()) & {"torch", "numpy", "cv2", "PIL", "matplotlib", "transformers", "tqdm"}


# --- several images together


def test_a_batch_gives_what_one_by_one_gives_and_names_the_file_that_it_cannot_read(fgseg, tmp_path):
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


def test_a_batch_of_none_is_refused(fgseg, photo):
    assert_refused(fgseg("segment", photo, "-p", "red", "--batch", "0"), "--batch", "1")


def test_heatmaps_take_a_batch(fgseg, photo, tmp_path):
    other = odd_images.gray_png(tmp_path)
    assert fgseg("heatmap", photo, other, "-p", "red", "--batch", "2").code == DONE
    assert (tmp_path / "fgseg-out" / other.stem / "heatmaps.npz").exists()
