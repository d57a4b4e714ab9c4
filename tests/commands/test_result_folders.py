"""The folders of results on the command line: names, whose result they hold, and what is skipped."""

import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import odd_images
import pytest
from command_runs import DONE, SOME_FAILED, assert_refused, run_json
from hypothesis import given, settings, strategies as st

import fgseg as package
from fgseg.commands.result_folders import folder_name
from fgseg.images.writing import write_image

WORDS = ("-p", "red", "-f", "overlay", "-o", "out", "--resolution", "squash:32", "--json")


@pytest.fixture
def pictures(tmp_path):
    def make(*names):
        for name in names:
            write_image(tmp_path / "made.png", odd_images.PICTURE)
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes((tmp_path / "made.png").read_bytes())
        (tmp_path / "made.png").unlink()

    return make


def folders(run):
    assert run.code == DONE, run
    return [Path(record["files"][0]).parent.as_posix() for record in run.records]


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


# --- names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("coffee.png", "coffee"),
        ("coffee.jpg", "coffee.jpg"),
        ("coffee.PNG", "coffee.PNG"),
        ("coffee.jpg.png", "coffee.jpg.png"),
        ("v1.2.png", "v1.2"),
        ("coffee", "coffee"),
        ("...png", "...png"),
        (".png", ".png"),
        ("may/coffee.png", "may/coffee"),
        ("cafe\u0301.png", "caf\u00e9"),
    ],
)
def test_a_folder_is_named_by_the_path_without_the_suffix_png(name, expected):
    assert folder_name(Path("in", name), Path("in")).as_posix() == expected


def test_an_image_outside_the_root_is_named_by_its_file_name_and_never_leaves_the_output_folder():
    assert folder_name(Path("elsewhere/a.png"), Path("in")) == Path("a")
    assert folder_name(Path("in/x/../../../a.png"), Path("in")) == Path("a")


stems = st.text(st.sampled_from("aé\u0301A.-"), min_size=1, max_size=3)
suffixes = st.sampled_from([".png", ".PNG", ".jpg", ".tif", ".jpg.png", ".png.png"])


@settings(max_examples=300, deadline=None)
@given(stems, suffixes, stems, suffixes)
def test_pictures_of_different_names_have_different_folders(one, one_suffix, other, other_suffix):
    names = one + one_suffix, other + other_suffix
    same = unicodedata.normalize("NFC", names[0]) == unicodedata.normalize("NFC", names[1])
    assert (folder_name(Path(names[0]), Path()) == folder_name(Path(names[1]), Path())) == same


def test_a_file_goes_to_its_stem_and_a_folder_and_a_pattern_keep_relative_paths(fgseg, pictures):
    pictures("photos/may/coffee.png", "photos/coffee.png", "photos/coffee.jpg")
    assert folders(fgseg("segment", "photos/may/coffee.png", *WORDS)) == ["out/coffee"]
    assert folders(fgseg("segment", "photos", *WORDS, "--overwrite")) == ["out/coffee.jpg", "out/coffee"]
    several = fgseg("segment", "photos/**", *WORDS)
    assert folders(several) == ["out/coffee.jpg", "out/coffee", "out/may/coffee"]
    assert folders(fgseg("heatmap", "photos/may", "-p", "red", "-o", "heat", "--json")) == ["heat/coffee"]


def test_the_name_of_an_image_does_not_depend_on_the_others(fgseg, pictures):
    pictures("in/cat.jpg", "in/cat.png", "in/cat.png.png", "in/Cat.png", "in/cat.tif")
    together = dict(zip(sorted(Path("in").iterdir()), folders(fgseg("segment", "in", *WORDS)), strict=True))
    assert len(set(together.values())) == 5
    for path, folder in together.items():
        assert folders(fgseg("segment", path, *WORDS)) == [folder]


def test_two_images_for_one_folder_are_refused_before_the_model_is_loaded_and_a_root_keeps_them_apart(fgseg, pictures):
    pictures("a/cat.png", "b/cat.png")
    run = fgseg("segment", "a/cat.png", "b", *WORDS, model="nosuch")
    assert_refused(run, "a/cat.png and b/cat.png would both go to out/cat", "--root FOLDER")
    assert folders(fgseg("segment", "a/cat.png", "b", *WORDS, "--root", ".")) == ["out/a/cat", "out/b/cat"]
    assert folders(fgseg("segment", Path("b/cat.png").absolute(), *WORDS, "--root", ".")) == ["out/b/cat"]
    assert_refused(fgseg("segment", "a/cat.png", *WORDS, "--root", "b"), "--root: a/cat.png is not below b")


# --- whose result a folder holds


def test_running_again_replaces_the_files_and_leaves_those_of_the_user(fgseg, photo):
    assert fgseg("segment", photo, "-p", "red", "-f", "labels,masks,coco", "-o", "out").code == DONE
    Path("out/rgb/notes.txt").write_text("mine")
    assert fgseg("segment", photo, *WORDS).code == DONE
    assert files_in("out/rgb") == ["notes.txt", "overlay.png", "run.json"]
    assert run_json("out/rgb")["files"] == ["overlay.png", "run.json"]


def test_the_result_of_another_image_is_refused_by_name_before_the_model_is_loaded(fgseg, pictures):
    pictures("a/cat.png", "b/cat.png", "b/dog.png")
    assert fgseg("segment", "a/cat.png", *WORDS).code == DONE
    before = Path("out/cat/run.json").read_bytes()
    run = fgseg("segment", "b/dog.png", "b/cat.png", *WORDS, model="nosuch")
    assert_refused(run, "--out: out/cat holds the result of a/cat.png, not of b/cat.png; add --overwrite")
    assert_refused(fgseg("heatmap", "b/cat.png", "-p", "red", "-o", "out", model="nosuch"), "add --overwrite")
    assert Path("out/cat/run.json").read_bytes() == before
    assert not Path("out/dog").exists()
    assert folders(fgseg("segment", "b/cat.png", *WORDS, "--overwrite")) == ["out/cat"]
    assert run_json("out/cat")["image"] == str(Path("b/cat.png"))


def test_a_folder_with_the_run_json_of_something_else_is_refused_too(fgseg, photo):
    Path("out/rgb").mkdir(parents=True)
    Path("out/rgb/run.json").write_text('{"figures": []}')
    assert_refused(fgseg("segment", photo, *WORDS, model="nosuch"), "holds the result of something else")
    package.load(dtype="float32").segment(odd_images.PICTURE, ["red"]).save("out/rgb")
    assert_refused(fgseg("segment", photo, *WORDS, model="nosuch"), "out/rgb holds the result of")


def test_both_spellings_of_a_name_are_one_image(fgseg, pictures):
    pictures("cafe\u0301.png")
    for name in ("cafe\u0301.png", "caf\u00e9.png"):
        assert folders(fgseg("segment", name, *WORDS)) == ["out/caf\u00e9"]


def test_an_image_that_fails_leaves_its_earlier_result(fgseg, photo):
    assert fgseg("segment", photo, *WORDS).code == DONE
    before = Path("out/rgb/run.json").read_bytes()
    photo.write_bytes(b"broken")
    assert fgseg("segment", photo, *WORDS).code == SOME_FAILED
    assert Path("out/rgb/run.json").read_bytes() == before


# --- --skip-existing


def skipped(run):
    (line,) = [line for line in run.complaints if "skipped" in line]
    return line


def test_finished_images_of_the_same_settings_are_left_alone_and_counted(fgseg, pictures):
    pictures("in/a.png", "in/b.png")
    assert fgseg("segment", "in/a.png", *WORDS).code == DONE
    before = Path("out/a/run.json").stat().st_mtime_ns
    run = fgseg("segment", "in", *WORDS, "--skip-existing")
    assert skipped(run) == "fgseg: 1 of 2 images skipped: their results are finished and of the same settings"
    assert folders(run) == ["out/b"]
    assert Path("out/a/run.json").stat().st_mtime_ns == before
    run = fgseg("segment", "in", *WORDS, "--skip-existing")
    assert (run.code, run.out) == (DONE, "")
    assert skipped(run).startswith("fgseg: 2 of 2 images")


@pytest.mark.parametrize(
    "change",
    [
        ("-p", "blue"),
        ("--threshold", "0.3"),
        ("--background", "grey"),
        ("--negative", "blue"),
        ("--mode", "independent"),
        ("--refine", "guided"),
        ("--min-area", "2"),
        ("-f", "labels"),
        ("--bands", "3,2,1"),
        ("--stretch", "2,98"),
        ("--recipe", "kk"),
    ],
    ids=lambda words: words[0],
)
def test_any_other_setting_is_not_skipped(fgseg, photo, change):
    assert fgseg("segment", photo, *WORDS).code == DONE
    run = fgseg("segment", photo, *WORDS, *change, "--skip-existing")
    assert skipped(run).startswith("fgseg: 0 of 1 images")
    assert folders(run) == ["out/rgb"]


def test_a_file_of_templates_or_classes_counts_by_its_content(fgseg, photo):
    Path("templates.txt").write_text("a {}\n")
    words = ("segment", photo, *WORDS, "--templates", "templates.txt", "--skip-existing")
    assert folders(fgseg(*words)) == ["out/rgb"]
    assert fgseg(*words).records == []
    Path("templates.txt").write_text("the {}\n")
    assert folders(fgseg(*words)) == ["out/rgb"]


def test_a_changed_image_a_missing_file_and_an_unfinished_result_are_not_skipped(fgseg, photo):
    words = ("segment", photo, *WORDS, "--skip-existing")
    assert folders(fgseg(*words)) == ["out/rgb"]
    os.utime(photo, ns=(1, 1))
    assert folders(fgseg(*words)) == ["out/rgb"]
    Path("out/rgb/overlay.png").unlink()
    assert folders(fgseg(*words)) == ["out/rgb"]
    run = run_json("out/rgb")
    Path("out/rgb/run.json").write_text(json.dumps({**run, "unfinished": True}))
    assert folders(fgseg(*words)) == ["out/rgb"]
    assert fgseg(*words).records == []


def test_heatmaps_are_skipped_too_and_are_not_taken_for_a_segmentation(fgseg, photo):
    words = ("heatmap", photo, "-p", "red", "-o", "out", "--json", "--skip-existing")
    assert folders(fgseg(*words)) == ["out/rgb"]
    assert fgseg(*words).records == []
    assert folders(fgseg("segment", photo, *WORDS, "--skip-existing")) == ["out/rgb"]


def test_a_stopped_run_by_region_leaves_no_label_map_beside_an_old_run_json(fgseg, tmp_path, monkeypatch):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "big.tif", np.zeros((64, 64, 3), np.uint8), tile=(32, 32), photometric="rgb")
    words = ("segment", "big.tif", "-p", "red", "-o", "out", "--by-region")
    assert fgseg(*words, "--skip-existing").code == DONE
    assert files_in("out/big.tif") == sorted(run_json("out/big.tif")["files"])
    assert "labels.tif" in run_json("out/big.tif")["files"]
    run = fgseg(*words, "--skip-existing", "--json")
    assert run.records == []
    assert skipped(run).startswith("fgseg: 1 of 1 images")

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("fgseg.large.result.LargeSegmentation.save", stop)
    assert fgseg(*words, "--threshold", "0.9").code == 130
    assert run_json("out/big.tif")["unfinished"] is True
