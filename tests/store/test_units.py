"""The rows of a unit: equal to what `Segmenter.segment` gives, error rows for bad images, and faults that are none."""

import errno
import hashlib
import threading
from pathlib import Path

import fsspec
import numpy as np
import odd_images
import pytest
from batch_images import write_video

from fgseg.errors import BatchError, ImageError, OptionError
from fgseg.formats.coco import decode_mask
from fgseg.images.label_png import decode_label_png, write_label_png
from fgseg.images.reading import read_picture
from fgseg.images.video import Video
from fgseg.prompts.classes import parse_classes
from fgseg.segmenter import load
from fgseg.store import contents, units
from fgseg.store.regions import regions_of
from fgseg.store.schema import Item
from fgseg.store.units import UnitOptions, run_unit
from fgseg.upsample.maps import shrink_map

PROMPTS = parse_classes(["red", "blue, green"])
SEGMENT = {"resolution": "squash:32", "threshold": 0.4}


@pytest.fixture(scope="module")
def seg(tiny_model):
    return load(tiny_model, dtype="float32")


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(contents, "_WAITS", (0.0, 0.0))


def item_of(path):
    return Item(path.name, str(path), path.stat().st_size if path.exists() else None)


def rows_of(seg, *paths, **options):
    options = {"segment": SEGMENT, **options}
    return run_unit(seg, [item_of(path) for path in paths], UnitOptions(PROMPTS, **options))


@pytest.mark.parametrize("mode", ["exclusive", "independent"])
def test_a_row_holds_what_segment_gives(seg, tmp_path, mode):
    path = odd_images.exif_rotated_jpeg(tmp_path)
    settings = {**SEGMENT, "mode": mode}
    (row,) = rows_of(seg, path, segment=settings, scores=True)
    result = seg.segment(str(path), PROMPTS, **settings)
    summary = result.to_dict()
    assert (row.image_id, row.uri, row.status, row.error_type, row.error) == ("exif6.jpg", str(path), "ok", "", "")
    assert row.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (row.height, row.width, row.no_data) == (summary["height"], summary["width"], 0)
    assert row.unlabelled == (result.labels == -1).sum()
    np.testing.assert_array_equal(decode_label_png(row.labels, name="row"), result.labels)
    for entry, expected in zip(row.classes, summary["classes"], strict=True):
        assert (entry.index, entry.name, entry.pixels, entry.share) == tuple(expected.values())
        mask = decode_mask(entry.rle, image_hw=(row.height, row.width))
        np.testing.assert_array_equal(mask, result.masks[entry.name])
        peaks = [region.peak_score for region in result.regions if region.class_index == entry.index]
        assert entry.peak == max(peaks, default=0)
    assert len(row.regions) == len(result.regions)
    for region, expected in zip(row.regions, result.regions, strict=True):
        assert (region.x0, region.y0, region.x1, region.y1) == expected.box_xyxy
        assert (region.class_index, region.area, region.holes) == (
            expected.class_index, expected.area, expected.holes,
        )  # fmt: skip
        assert (region.cy, region.cx) == expected.centroid_yx
        assert (region.mean, region.peak) == (expected.mean_score, expected.peak_score)
    grids = [shrink_map(score_map, result.grid_hw) for score_map in result.scores.values()]
    np.testing.assert_array_equal(row.scores, np.stack(grids))
    assert row.seconds > 0


def test_pixels_without_data_are_neither_labelled_nor_unlabelled(seg, tmp_path):
    import tifffile

    values = np.full((16, 24), 0.5, np.float32)
    values[:4] = np.nan
    path = tmp_path / "holes.tif"
    tifffile.imwrite(path, values)
    (row,) = rows_of(seg, path)
    assert row.no_data == 4 * 24
    assert row.unlabelled + sum(entry.pixels for entry in row.classes) == 12 * 24


@pytest.fixture
def halves(tmp_path):
    """A folder of region maps for rgb.png: two regions, the left and the right half of 16 x 24 pixels."""
    folder = tmp_path / "regions"
    folder.mkdir()
    write_label_png(folder / "rgb.png", np.repeat([[0] * 12 + [1] * 12], 16, axis=0), colors=[(9, 9, 9), (99, 0, 0)])
    return folder


@pytest.mark.parametrize("name", ["superpixels", "regions", "regions/rgb.png"])
def test_regions_vote_as_in_segment(seg, tmp_path, halves, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = odd_images.rgb_png(tmp_path)
    settings = {**SEGMENT, "background": [], "vote": True}
    (row,) = rows_of(seg, path, segment=settings, regions=regions_of(name))
    region_map = "superpixels" if name == "superpixels" else halves / "rgb.png"
    result = seg.segment(str(path), PROMPTS, region_map=region_map, **settings)
    labels = decode_label_png(row.labels, name="row")
    np.testing.assert_array_equal(labels, result.labels)
    if name != "superpixels":
        assert len(np.unique(labels[:, :12])) == len(np.unique(labels[:, 12:])) == 1


def test_an_image_whose_regions_are_wrong_has_an_error_row_and_the_others_are_done(seg, tmp_path, halves):
    rgb, gray = odd_images.rgb_png(tmp_path), odd_images.gray_png(tmp_path)
    options = {"segment": {**SEGMENT, "vote": True}, "regions": regions_of(halves)}
    good, missing = rows_of(seg, rgb, gray, **options)
    assert (good.status, missing.error_type) == ("ok", "ImageError")
    assert missing.error.startswith("region_map: expected gray.png or gray.json or gray.tif in ")
    (halves / "gray.json").write_text('{"annotations": 1}')
    write_label_png(halves / "rgb.png", np.zeros((2, 2), int), colors=[(9, 9, 9)])
    assert [row.error_type for row in rows_of(seg, rgb, gray, **options)] == ["ShapeError", "DatasetError"]


def test_scores_are_kept_on_request_only(seg, tmp_path):
    assert rows_of(seg, odd_images.rgb_png(tmp_path))[0].scores is None


@pytest.mark.parametrize("builder", odd_images.BROKEN.values(), ids=odd_images.BROKEN)
def test_a_broken_image_is_an_error_row_with_the_words_of_segment(seg, tmp_path, builder):
    good, bad = odd_images.rgb_png(tmp_path), builder(tmp_path)
    before, row, after = rows_of(seg, good, bad, good)
    assert before.status == after.status == "ok"
    with pytest.raises(ImageError) as raised:
        read_picture(bad)
    assert (row.status, row.error_type) == ("error", "ImageError")
    assert row.error == str(raised.value).replace(
        "name a picture in it or list it with find_images", "name the pictures in it"
    )
    assert (row.height, row.width, row.classes, row.regions, row.labels) == (0, 0, (), (), b"")
    expected = hashlib.sha256(bad.read_bytes()).hexdigest() if bad.is_file() else ""
    assert row.sha256 == expected


def test_a_pipe_is_an_error_row_and_does_not_block(seg, tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.png")
    (row,) = rows_of(seg, tmp_path / "pipe.png")
    assert "not a plain file but a pipe or a device" in row.error


def test_bands_that_an_image_lacks_are_an_error_row(seg, tmp_path):
    gray, rgb = rows_of(
        seg,
        odd_images.sixteen_bit_tiff(tmp_path),
        odd_images.sixteen_bit_rgb_tiff(tmp_path),
        reading={"bands": (3, 2, 1)},
    )
    assert (gray.status, rgb.status) == ("error", "ok")
    assert gray.error.startswith(str(tmp_path / "gray16.tif"))


def test_frames_of_a_video_are_rows(seg, tmp_path):
    clip = write_video(tmp_path / "clip.mp4", frames=4)
    items = [Item(f"clip.mp4#{number}", f"{clip}#frame={number}") for number in (0, 3, 4)]
    first, last, missing = run_unit(seg, items, UnitOptions(PROMPTS, SEGMENT))
    with Video(clip) as video:
        assert last.sha256 == hashlib.sha256(video.frame(3).tobytes()).hexdigest()
    assert (first.status, last.status, missing.status) == ("ok", "ok", "error")
    assert "frame 4 cannot be read" in missing.error


def test_images_of_an_object_store_are_read(seg, tmp_path):
    path = odd_images.rgb_png(tmp_path)
    system = fsspec.filesystem("memory")
    system.pipe_file("/images/rgb.png", path.read_bytes())
    items = [Item("a", "memory://images/rgb.png"), Item("b", "memory://images/none.png")]
    there, missing = run_unit(seg, items, UnitOptions(PROMPTS, SEGMENT))
    assert there.labels == rows_of(seg, path)[0].labels
    assert missing.error == "memory://images/none.png: there is no such file; check the address"


def test_rows_are_seen_one_by_one_in_order(seg, tmp_path):
    paths = [odd_images.rgb_png(tmp_path), odd_images.empty_file(tmp_path), odd_images.gray_png(tmp_path)]
    seen = []
    rows = run_unit(seg, [item_of(path) for path in paths], UnitOptions(PROMPTS, SEGMENT), seen=seen.append)
    assert seen == rows
    assert [row.image_id for row in rows] == ["rgb.png", "empty.jpg", "gray.png"]


def test_the_next_image_is_read_while_one_is_segmented(seg, tmp_path, monkeypatch):
    paths = [odd_images.rgb_png(tmp_path), odd_images.gray_png(tmp_path)]
    second_is_read = threading.Event()
    read = contents._file_content

    def watched(path):
        data = read(path)
        if path.name == "gray.png":
            second_is_read.set()
        return data

    class Waiting:
        encoder = seg.encoder

        def segment(self, picture, *args, **options):
            assert second_is_read.wait(30)
            return seg.segment(picture, *args, **options)

    monkeypatch.setattr(contents, "_file_content", watched)
    rows = run_unit(Waiting(), [item_of(path) for path in paths], UnitOptions(PROMPTS, SEGMENT))
    assert [row.status for row in rows] == ["ok", "ok"]


# --- faults of the machine


def failing(times, error):
    """A function that raises some times, and then reads the file."""
    left = [times]

    def read(path):
        if left[0]:
            left[0] -= 1
            raise error
        return Path(path).read_bytes()

    return read


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), ConnectionResetError("reset")])
def test_a_fault_of_disk_or_network_is_tried_again_and_then_ends_the_run(seg, tmp_path, monkeypatch, error):
    path = odd_images.rgb_png(tmp_path)
    monkeypatch.setattr(contents, "_file_content", failing(2, error))
    assert rows_of(seg, path)[0].status == "ok"
    monkeypatch.setattr(contents, "_file_content", failing(3, error))
    with pytest.raises(BatchError, match=r"rgb\.png: cannot be read now .*; give the same command again to go on"):
        rows_of(seg, path)


def test_a_file_that_the_system_refuses_for_its_own_reasons_is_no_error_row(seg, tmp_path, monkeypatch):
    path = odd_images.rgb_png(tmp_path)

    def too_many(*_, **__):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Path, "open", too_many)
    with pytest.raises(BatchError, match="Too many open files"):
        rows_of(seg, path)


def test_a_file_without_permission_is_an_error_row(seg, tmp_path, monkeypatch):
    path = odd_images.rgb_png(tmp_path)

    def denied(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    assert "no permission to read it" in rows_of(seg, path)[0].error


def test_memory_that_is_short_while_an_image_is_decoded_is_no_error_row(seg, tmp_path, monkeypatch):
    path = odd_images.rgb_png(tmp_path)

    def short(*_, **__):
        raise ImageError("too large for the memory of this machine") from MemoryError()

    monkeypatch.setattr(units, "read_picture", short)
    with pytest.raises(BatchError, match="out of memory"):
        rows_of(seg, path)


class Broken:
    """A segmenter that raises some times."""

    def __init__(self, seg, times, error):
        self._seg, self._times, self._error = seg, times, error
        self.encoder = seg.encoder

    def segment(self, *args, **options):
        self._times -= 1
        if self._times >= 0:
            raise self._error
        return self._seg.segment(*args, **options)


def test_memory_that_is_full_once_is_tried_again(seg, tmp_path):
    import torch

    path = odd_images.rgb_png(tmp_path)
    for error in (MemoryError(), torch.OutOfMemoryError("CUDA out of memory")):
        assert rows_of(Broken(seg, 1, error), path)[0].status == "ok"
        with pytest.raises(BatchError, match="out of memory on cpu; use fewer --workers"):
            rows_of(Broken(seg, 2, error), path)


@pytest.mark.parametrize("error", [RuntimeError("CUDA error"), OptionError("resolution: wrong"), OSError(28, "full")])
def test_faults_of_the_device_and_wrong_options_end_the_run(seg, tmp_path, error):
    with pytest.raises(type(error), match=str(error.args[-1])):
        rows_of(Broken(seg, 1, error), odd_images.rgb_png(tmp_path))


def test_an_unexpected_error_of_an_image_is_an_error_row_that_says_so(seg, tmp_path):
    path = odd_images.rgb_png(tmp_path)
    bad, good = rows_of(Broken(seg, 1, ZeroDivisionError("by 0")), path, path)
    assert (bad.error_type, bad.error) == ("ZeroDivisionError", f"{path}: unexpected error: by 0")
    assert good.status == "ok"
