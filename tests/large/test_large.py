"""The segmentation of images read by region, in Python and on the command line."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from command_runs import run_of
from large_images import RGB, MeanColors, noise, request_of, tiff

import fgseg
from fgseg.commands import main as cli
from fgseg.errors import ImageError, OptionError, OutputError
from fgseg.images.reading import read_image, rgb_source
from fgseg.large.label_tiff import open_tiled, read_label_tiff
from fgseg.large.plan import WindowPlan
from fgseg.large.result import segment_tiled
from fgseg.scoring.resolution import Resolution

PLAN = WindowPlan((60, 70), 1, 16, 8)
COLORS = request_of(30, [1, 1, 1], rivals=1, threshold=0.5)


def test_the_summary_agrees_with_the_labels(tmp_path):
    path = tiff(tmp_path / "a.tif", RGB, photometric="rgb")
    seen = []
    with open_tiled(path) as source:
        drawn = rgb_source(source.stored(), None)
        result = segment_tiled(
            drawn, tmp_path / "labels.tif", MeanColors(), COLORS, PLAN, {}, lambda *rows: seen.append(rows)
        )
    labels = result.read_labels((0, 0, 70, 60))
    assert result.pixels == tuple(int((labels == index).sum()) for index in range(3))
    assert result.parts == len(result.regions) > 3
    assert sum(region.area for region in result.regions) == sum(result.pixels)
    np.testing.assert_array_equal(result.overview, RGB)
    np.testing.assert_array_equal(result.overview_labels, labels)
    assert seen[-1] == (60, 60)
    assert seen == sorted(set(seen))
    summary = json.loads(json.dumps(result.to_dict()))
    assert (summary["height"], summary["width"], summary["parts"]) == (60, 70, result.parts)
    assert "LargeSegmentation(60 x 70, 3 classes, found: class0" in repr(result)


def test_the_overview_is_the_image_shrunk_and_its_labels_are_those_at_the_middle(tmp_path, monkeypatch):
    monkeypatch.setattr("fgseg.large.result.OVERVIEW_SIDE", 24)  # 70 pixels: every third
    path = tiff(tmp_path / "a.tif", RGB, photometric="rgb")
    with open_tiled(path) as source:
        result = segment_tiled(
            rgb_source(source.stored(), None), tmp_path / "labels.tif", MeanColors(), COLORS, PLAN, {}
        )
    labels = result.read_labels((0, 0, 70, 60))
    assert result.overview.shape == (20, 24, 3)
    np.testing.assert_array_equal(result.overview_labels[:, :23], labels[1::3, 1::3])
    means = RGB[:, :69].reshape(20, 3, 23, 3, 3).astype(float).mean(axis=(1, 3))
    assert np.abs(result.overview[:, :23] - means).max() <= 0.5
    assert result.overlay().shape[0] > 20  # the legend is below or beside


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_run_leaves_no_incomplete_file(stop, tmp_path):
    path, out = tiff(tmp_path / "a.tif", RGB, photometric="rgb"), tmp_path / "out"

    def interrupt(done, total):
        if done > total // 2:
            raise stop

    with open_tiled(path) as source, pytest.raises(stop):
        segment_tiled(rgb_source(source.stored(), None), out / "labels.tif", MeanColors(), COLORS, PLAN, {}, interrupt)
    assert not list(out.iterdir())


def test_a_tile_damaged_midway_is_an_image_error_and_the_old_labels_stay(tmp_path):
    path = tiff(tmp_path / "a.tif", RGB, photometric="rgb", compression="zlib")
    with tifffile.TiffFile(path) as file:
        offset = file.pages[0].dataoffsets[-1]
    data = bytearray(path.read_bytes())
    data[offset : offset + 8] = b"\xff" * 8
    path.write_bytes(bytes(data))
    (tmp_path / "labels.tif").write_bytes(b"of before")
    with open_tiled(path) as source, pytest.raises(ImageError, match="damaged"):
        segment_tiled(rgb_source(source.stored(), None), tmp_path / "labels.tif", MeanColors(), COLORS, PLAN, {})
    assert (tmp_path / "labels.tif").read_bytes() == b"of before"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.tif", "labels.tif"]


def test_a_path_that_cannot_be_written_is_an_output_error(tmp_path):
    path = tiff(tmp_path / "a.tif", RGB, photometric="rgb")
    with open_tiled(path) as source, pytest.raises(OutputError, match=r"labels.tif: cannot be written, a file stands"):
        segment_tiled(rgb_source(source.stored(), None), path / "labels.tif", MeanColors(), COLORS, PLAN, {})


def test_a_segmenter_labels_a_tiled_file_like_the_image_in_memory(tiny_model, tmp_path):
    seg = fgseg.load(tiny_model, dtype="float32")
    image = noise(31, 72, 90, 3)
    path, prompts = tiff(tmp_path / "a.tif", image, photometric="rgb"), ["red", "blue, green", "striped"]
    large = seg.segment_large(path, prompts, tmp_path / "out" / "labels.tif")
    whole = seg.segment(
        image, prompts, resolution=Resolution("slide", 72, 32, 16), refine="none", min_area=0, max_hole=0
    )
    # Windows share batches with others, and products of another batch round differently in the last bit.
    assert (large.read_labels((0, 0, 90, 72)) == whole.labels).mean() >= 0.999
    assert large.classes == whole.classes
    assert large.colors == whole.colors
    files = large.save(tmp_path / "out")
    assert sorted(files) == sorted((tmp_path / "out").iterdir())
    assert sorted(file.name for file in files) == [
        "classes.json", "labels.tif", "overlay.png", "regions.csv", "regions.json", "run.json",
    ]  # fmt: skip
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert (run["image"], run["image_hw"], run["windows"]) == (str(path), [72, 90], 20)
    assert run["seconds"] > 0
    whole.save(tmp_path / "whole")
    assert (tmp_path / "out" / "classes.json").read_text() == (tmp_path / "whole" / "classes.json").read_text()


def test_a_segmenter_refuses_options_that_need_the_whole_image(tiny_model, tmp_path):
    seg = fgseg.load(tiny_model, dtype="float32")
    path, labels = tiff(tmp_path / "a.tif", RGB, photometric="rgb"), tmp_path / "labels.tif"
    with pytest.raises(OptionError, match=r'threshold: expected a number from 0 to 1.*"auto" needs the whole image'):
        seg.segment_large(path, ["red"], labels, threshold="auto")
    with pytest.raises(OptionError, match=r"resolution: .*own scale"):
        seg.segment_large(path, ["red"], labels, resolution="keep")
    before = path.read_bytes()
    with pytest.raises(OutputError, match=r"labels_path: .*a\.tif is the image itself; name another file"):
        seg.segment_large(path, ["red"], tmp_path / "out" / ".." / "a.tif")
    assert path.read_bytes() == before
    result = seg.segment_large(path, ["red"], labels)
    with pytest.raises(OptionError, match=r"formats.*expected one of labels, overlay, regions, got 'coco'"):
        result.save(tmp_path, formats=["coco"])


# --- the command line


@pytest.fixture
def command(capsys, monkeypatch, tmp_path, tiny_model):
    """Runs `fgseg segment` in an empty folder with the tiny model: exit status, stdout, stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        with pytest.raises(SystemExit) as left:
            cli.main(["segment", *map(str, words), "--model", tiny_model, "--dtype", "float32", "-o", "out"])
        done = run_of(left.value.code, capsys.readouterr())
        return done.code, done.out, done.err

    return run


SPECKS_ARE_KEPT = "fgseg: specks are kept in images that are read by region"


def test_with_sizes_of_0_nothing_is_said_of_specks(command, tmp_path):
    tiff(tmp_path / "a.tif", RGB, photometric="rgb")
    code, _, err = command("a.tif", "-p", "red", "--by-region", "--min-area", 0, "--max-hole", 0)
    assert (code, err) == (0, "")


def test_only_a_tiled_tiff_over_the_limit_is_read_by_region(command, tmp_path, monkeypatch):
    monkeypatch.setattr("fgseg.images.reading.MAX_PIXELS", 4000)
    tiff(tmp_path / "big.tif", RGB, photometric="rgb")
    tiff(tmp_path / "small.tif", RGB[:40, :50], photometric="rgb")
    code, out, err = command("big.tif", "small.tif", "-p", "red", "-p", "blue", "--json")
    assert (code, err.splitlines()[-1]) == (0, SPECKS_ARE_KEPT)
    big, small = map(json.loads, out.splitlines())
    assert (big["height"], big["width"], big["settings"]["read_by"]) == (60, 70, "region")
    assert "read_by" not in small["settings"]
    assert (tmp_path / "out" / "big.tif" / "labels.tif").exists()
    assert (tmp_path / "out" / "small.tif" / "labels.png").exists()
    assert [(tmp_path / file).exists() for file in big["files"]] == [True] * 6


def test_by_region_applies_to_every_tiled_tiff_and_names_each_other_file(command, tmp_path):
    tiff(tmp_path / "tiles.tif", RGB, photometric="rgb")
    tiff(tmp_path / "strips.tif", RGB, tile=None, photometric="rgb")
    code, out, err = command("strips.tif", "tiles.tif", "-p", "red", "--by-region", "--reduction", 2)
    assert code == 3
    assert err.splitlines() == [
        "fgseg: error: strips.tif: this TIFF is stored in strips, which cannot be read by region; "
        "save it as a tiled TIFF (vips tiffsave IN OUT.tif --tile --bigtiff)",
        SPECKS_ARE_KEPT,
        "fgseg: 1 of 2 inputs failed",
    ]
    assert "tiles.tif" in out
    run = json.loads((tmp_path / "out" / "tiles.tif" / "run.json").read_text())
    assert (run["reduction"], run["min_area"], run["max_hole"]) == (2, 0, 0)
    assert read_label_tiff(tmp_path / "out" / "tiles.tif" / "labels.tif").shape == (60, 70)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mode", "independent"], "--mode: a.tif is read by region, which excludes independent"),
        (["--refine", "guided"], "--refine: a.tif is read by region, which excludes guided"),
        (["--min-area", "50"], "--min-area: a.tif is read by region, which excludes 50"),
        (
            ["--threshold", "auto"],
            "--threshold: a.tif is read by region, which excludes auto; give a number",
        ),
        (["--format", "coco"], "--format (of an image read by region): expected one of labels, overlay, regions"),
        (
            ["--resolution", "keep"],
            "resolution: an image read by region is cut into windows at its own scale, got keep",
        ),
        (["--resolution", "slide:448"], "use auto, slide or slide:auto/CROP/STRIDE, and a reduction (--reduction)"),
    ],
)
def test_options_that_need_the_whole_image_are_refused_before_any_work(command, tmp_path, words, message):
    tiff(tmp_path / "a.tif", RGB, photometric="rgb")
    code, out, err = command("a.tif", "-p", "red", "--by-region", *words)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith(f"fgseg: error: {message}") or message in err
    assert not list((tmp_path / "out").iterdir())


def test_a_reduction_without_an_image_read_by_region_is_refused(command, tmp_path):
    tiff(tmp_path / "a.tif", RGB, photometric="rgb")
    code, _, err = command("a.tif", "-p", "red", "--reduction", 2)
    assert (code, err) == (
        2, "fgseg: error: --reduction: only images read by region are reduced; add --by-region or use --resolution\n",
    )  # fmt: skip


def test_ctrl_c_on_the_command_line_leaves_nothing_under_the_final_name(command, tmp_path, monkeypatch):
    tiff(tmp_path / "a.tif", RGB, photometric="rgb")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("fgseg.large.strips.patch_scores", interrupted)
    code, out, err = command("a.tif", "-p", "red", "--by-region")
    assert (code, out, err) == (130, "", "fgseg: interrupted\n")
    assert not [file for file in (tmp_path / "out").rglob("*") if file.is_file()]


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_sigterm_ends_the_process_and_leaves_no_half_written_file(tmp_path, tiny_model):
    tiff(tmp_path / "a.tif", RGB, photometric="rgb")
    script = (
        "import os, signal\nfrom fgseg import __main__\nfrom fgseg.large import strips\n"
        "strips.patch_scores = lambda *_: os.kill(os.getpid(), signal.SIGTERM)\n__main__.main()"
    )
    words = ["segment", "a.tif", "-p", "red", "--by-region", "--model", str(tiny_model), "-o", "out", "-q"]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.SIGTERM, b"", b"")
    assert not [file for file in (tmp_path / "out").rglob("*") if file.is_file()]


def test_an_image_over_the_limit_says_how_to_make_a_tiled_tiff_of_it(tmp_path, monkeypatch):
    path = tiff(tmp_path / "a.tif", RGB, tile=None, photometric="rgb")
    monkeypatch.setattr("fgseg.images.reading.MAX_PIXELS", 1000)
    message = (
        r"over the limit of 0\.001; shrink it, or save it as a tiled TIFF "
        r"\(vips tiffsave IN OUT\.tif --tile --bigtiff\), "
        r"which `fgseg segment` and Segmenter\.segment_large read by region"
    )
    with pytest.raises(ImageError, match=message):
        read_image(path, max_pixels=1000)
