"""What a command line takes and says at the beginning and the end: lists, dry runs, hints, the closing line."""

import io
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import odd_images
import pytest
import tifffile
from command_runs import DONE, SOME_FAILED, assert_refused, run_json

from fgseg.commands import main as cli
from fgseg.images.writing import write_image
from fgseg.segmentation.result import FORMATS


@pytest.fixture
def pictures(tmp_path):
    """Writes pictures of these names."""

    def make(*names):
        for name in names:
            write_image(tmp_path / name, odd_images.PICTURE)

    return make


def give_on_stdin(monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def images(run):
    return [record["image"] for record in run.records]


# --- which images


def test_folders_in_folders_are_read_with_recursive_and_named_by_their_paths(fgseg, pictures):
    pictures("in/a.png", "in/may/b.png", "in/may/deep/c.png", "in/.hidden/d.png")
    run = fgseg("segment", "in", "-p", "red", "--json", "--recursive", "-o", "out")
    assert images(run) == ["in/a.png", "in/may/b.png", "in/may/deep/c.png"]
    assert Path("out/may/deep/c/labels.png").is_file()
    assert images(fgseg("rank", "in", "-p", "red", "--json", "-r")) == images(run)
    assert images(fgseg("rank", "in", "-p", "red", "--json")) == ["in/a.png"]


def test_a_folder_with_signs_of_a_pattern_in_its_name_is_searched(fgseg, pictures):
    pictures("in [x]*/deep/a.png")
    assert images(fgseg("segment", "in [x]*", "-p", "red", "-r", "--json")) == ["in [x]*/deep/a.png"]


def test_the_output_folder_is_left_out_of_a_search(fgseg, pictures):
    pictures("a.png")
    for _ in range(2):
        run = fgseg("segment", ".", "-p", "red", "--json", "-r", "-o", "out")
        assert (run.code, images(run)) == (DONE, ["a.png"])
    run = fgseg("segment", "out", "-p", "red", "-r", "-o", "out")
    assert_refused(run, "out: no picture in this folder besides those of the output folder")


@pytest.mark.parametrize("data", [b"a.png\nin\n\nb c.png\n", b"a.png\r\nin\r\nb c.png", b"a.png\0in\0b c.png\0"])
def test_names_come_from_stdin_one_per_line_or_as_find_prints_them(fgseg, pictures, monkeypatch, data):
    pictures("a.png", "b c.png", "in/d.png", "last.png")
    give_on_stdin(monkeypatch, data)
    run = fgseg("segment", "-", "last.png", "-p", "red", "--json")
    assert images(run) == ["a.png", "in/d.png", "b c.png", "last.png"]


def test_an_empty_list_on_stdin_is_refused(fgseg, monkeypatch):
    give_on_stdin(monkeypatch, b"\n")
    assert_refused(fgseg("segment", "-", "-p", "red"), "-: expected names of images on stdin, one per line")


# --- dry runs


@pytest.mark.parametrize("form", FORMATS)
def test_a_dry_run_lists_the_files_that_a_run_writes_and_writes_none(fgseg, photo, form):
    words = ("segment", photo, "-p", "red", "-p", "blue, dark blue", "-f", form, "--json")
    dry = fgseg(*words, "--dry-run", model="nosuch")  # no model is loaded
    assert (dry.code, dry.err) == (DONE, "fgseg: dry run: nothing was loaded or written; 1 image would be read\n")
    assert not Path("fgseg-out").exists()
    assert dry.records == [
        {"image": str(photo), "folder": "fgseg-out/rgb", "holds": "nothing", "files": fgseg(*words).records[0]["files"]}
    ]


def test_a_dry_run_of_heatmaps_and_of_images_read_by_region_lists_their_files(fgseg, photo):
    tifffile.imwrite("big.tif", np.zeros((64, 64, 3), np.uint8), tile=(32, 32))
    for words in (("heatmap", photo), ("segment", "big.tif", "--by-region"), ("segment", "big.tif")):
        dry, run = (fgseg(*words, "-p", "red", "--json", "-o", "out", *extra) for extra in (["--dry-run"], []))
        assert dry.records[0]["files"] == run.records[0]["files"]


def test_a_dry_run_tells_what_the_folders_hold_and_refuses_what_a_run_refuses(fgseg, pictures):
    pictures("a.png", "b.png", "other/a.png")
    assert fgseg("segment", "a.png", "-p", "red").code == DONE
    run = fgseg("segment", "a.png", "b.png", "missing.png", "-p", "red", "--dry-run")
    assert run.code == SOME_FAILED
    assert run.complaints[0] == "fgseg: error: missing.png: there is no such file"
    assert [re.split(r"  +", line)[:3] for line in run.out.splitlines()] == [
        ["image", "folder", "holds"],
        ["a.png", "fgseg-out/a", "a result"],
        ["b.png", "fgseg-out/b", "nothing"],
    ]
    assert_refused(fgseg("segment", "other/a.png", "-p", "red", "--dry-run"), "holds the result of a.png")


# --- the end of a run


def test_the_last_line_says_how_many_images_how_long_and_where_the_files_are(fgseg, pictures):
    pictures("in/a.png", "in/b.png")
    said = r"fgseg: {} in \d+\.\d s{}\n"
    run = fgseg("segment", "in/a.png", "-p", "red", "-o", "out")
    assert re.fullmatch(said.format("1 image", "; files in out/a"), run.closing)
    run = fgseg("heatmap", "in", "-p", "red", "-o", "heat", "--json")
    assert re.fullmatch(said.format("2 images", "; a folder for each in heat"), run.closing)
    assert re.fullmatch(said.format("2 images", ""), fgseg("rank", "in", "-p", "red").closing)
    assert fgseg("segment", "in", "-p", "red", "-o", "out", "--skip-existing", "missing.png").closing


def test_the_table_ends_with_the_unlabelled_pixels_of_each_image(fgseg, pictures):
    pictures("a.png", "b.png")
    words = ("segment", "a.png", "b.png", "-p", "red", "--threshold", "0.5")
    rows = [line.split() for line in fgseg(*words).out.splitlines()[1:]]
    records = fgseg(*words, "--json").records
    for (red, rest), record in zip((rows[:2], rows[2:]), records, strict=True):
        assert (red[1], rest[1]) == ("red", "unlabelled")
        assert float(red[2]) + float(rest[2]) == pytest.approx(100, abs=0.011)
        assert record["unlabelled_pixels"] + record["classes"][0]["pixels"] == 16 * 24
        assert 0 < record["unlabelled_pixels"] < 16 * 24


@pytest.mark.parametrize("mode", ["exclusive", "independent"])
def test_automatic_thresholds_are_in_the_table_and_in_run_json(fgseg, photo, mode):
    words = ("segment", photo, "-p", "red", "-p", "blue", "--mode", mode, "--threshold")
    header, *rows = fgseg(*words, "auto").out.splitlines()
    chosen = run_json()["chosen_thresholds"]
    assert list(chosen) == ["red", "blue"]
    assert all(0.5 <= limit <= 1 for limit in chosen.values())
    assert header.split()[-1] == "threshold"
    assert [row.split()[-1] for row in rows] == [*(f"{limit:.3f}" for limit in chosen.values()), "-"]
    assert fgseg(*words, "0.5").out.splitlines()[0].split()[-1] == "peak"
    assert "chosen_thresholds" not in run_json()


@pytest.fixture
def opened(monkeypatch):
    """What a viewer was asked to show; its exit status is the last entry of `opened.status`."""
    shown = SimpleNamespace(paths=[], status=0)

    def launch(path):
        shown.paths.append(path)
        return shown.status

    monkeypatch.setattr("typer.launch", launch)
    return shown


def test_open_shows_the_picture_of_one_image_and_the_folder_of_several(fgseg, pictures, opened):
    pictures("a.png", "b.png")
    assert fgseg("segment", "a.png", "-p", "red", "--open").code == DONE
    assert fgseg("segment", "a.png", "-p", "red", "-f", "heatmaps", "--open").code == DONE
    assert fgseg("heatmap", "b.png", "-p", "red", "--open", "-q").code == DONE
    assert fgseg("segment", "a.png", "b.png", "-p", "red", "--open", "-o", "out").code == DONE
    assert fgseg("segment", "a.png", "-p", "red", "--open", "--dry-run").code == DONE
    assert opened.paths == ["fgseg-out/a/overlay.png", "fgseg-out/a/heatmaps.png", "fgseg-out/b/heatmaps.png", "out"]


def test_without_a_viewer_one_line_names_the_picture(fgseg, photo, opened):
    opened.status = 1
    run = fgseg("segment", photo, "-p", "red", "--open")
    assert (run.code, run.complaints) == (
        DONE,
        ["fgseg: --open: no viewer was found; open fgseg-out/rgb/overlay.png yourself"],
    )


def test_open_without_a_picture_among_the_formats_is_refused(fgseg, photo):
    assert_refused(fgseg("segment", photo, "-p", "red", "-f", "coco", "--open"), "--open: expected a picture")


# --- hints, help and completion


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["photo.png"], "expected a command, got photo.png; write fgseg segment photo.png -p red"),
        (["a b.png", "-p", "sky"], "got a b.png; write fgseg segment 'a b.png' -p sky"),
        (["in", "--classes", "c.txt"], "got in; write fgseg segment in --classes c.txt"),
        (["-p", "red", "a.png"], "got -p; write fgseg segment -p red a.png"),
        (["segmnt", "a.png"], "No such command 'segmnt'. Did you mean 'segment'?; see fgseg --help"),
        (["segment", "a.png", "--promt", "red"], "No such option: --promt; did you mean --prompt?; see"),
        (["segment", "a.png", "--treshold", "1"], "No such option: --treshold; did you mean --threshold?; see"),
        (["rank", "a.png", "--qqq"], "No such option: --qqq; see fgseg rank --help"),
    ],
)
def test_a_mistyped_command_ends_in_the_right_one(fgseg, words, hint):
    Path("in").mkdir()
    assert_refused(fgseg(*words, model=None), hint)


def test_a_comma_in_the_only_prompt_is_questioned(fgseg, photo):
    hint = "fgseg: 'red, blue' is one class with synonyms; for a class each: -p red -p blue"
    for command in ("segment", "heatmap"):
        assert fgseg(command, photo, "-p", "red, blue").complaints == [hint]
        assert fgseg(command, photo, "-p", "red, blue", "-q").complaints == []
    assert fgseg("segment", photo, "-p", "red, blue", "-p", "white").complaints == []


COMMANDS = ["segment", "heatmap", "boxes", "rank", "bench", "train", "serve", "models", "doctor"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_short_help_that_cuts_no_option(fgseg, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    run = fgseg(command, "-h", model=None)
    assert (run.code, run.err) == (DONE, "")
    assert "…" not in run.out
    assert run.out == fgseg(command, "--help", model=None).out


def test_the_help_has_panels_in_one_order_and_names_defaults_and_ranges(fgseg, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    for command in ("segment", "heatmap", "boxes", "rank", "bench"):
        text = fgseg(command, "-h", model=None).out
        panels = [name for name in re.findall(r"╭─ (\w+) ", text) if name not in ("Arguments", "Options")]
        assert panels == ["What", "How", "Model", "Output"], command
    text = fgseg("segment", "-h", model=None).out
    for part in ("[default: (the model's, 0.5 for most)]", "[x>=1]", "[default: fgseg-out]", "[default: auto]"):
        assert part in text


def test_brackets_of_help_texts_are_no_markup(fgseg, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert "[default: as many as --epochs needs]" in fgseg("train", "-h", model=None).out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_get_completions_of_commands_and_options(monkeypatch, capsys, shell):
    monkeypatch.setenv("_FGSEG_COMPLETE", f"complete_{shell}")
    for name in ("COMP_WORDS", "_TYPER_COMPLETE_ARGS"):
        monkeypatch.setenv(name, "fgseg segment --thr")
    monkeypatch.setenv("COMP_CWORD", "2")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    with pytest.raises(SystemExit):
        cli.main([])
    assert "--threshold" in capsys.readouterr().out


def test_the_help_says_how_completion_is_installed(fgseg):
    assert "--install-completion" in fgseg("--help", model=None).out


# --- heatmaps.npz


@pytest.mark.parametrize(("extra", "size"), [([], "grid"), (["--full-size"], "image")])
def test_heatmaps_say_in_themselves_what_they_are(fgseg, photo, extra, size):
    assert fgseg("heatmap", photo, "-p", "red", "-p", "blue", "--resolution", "squash:32", *extra).code == DONE
    with np.load("fgseg-out/rgb/heatmaps.npz") as saved:
        about = json.loads(str(saved["about"]))
        assert set(saved) == {"presence", "classes", "image_hw", "about"}
        assert saved["presence"].shape == ((2, 4, 4) if size == "grid" else (2, 16, 24))
        assert saved["presence"].dtype == np.float16
        assert saved["classes"].tolist() == ["red", "blue"]
    assert set(about) == {"presence", "classes", "image_hw", "size", "rows and columns", "range"}
    assert (about["size"], about["range"]) == (size, [0, 1])
