"""Pixels without data: unlabelled, outside every mask, share and region, the same whole and by region."""

import json

import numpy as np
import pytest
import tiff_files as tf

import fgseg
from fgseg.images.reading import read_picture
from fgseg.segmentation.result import FORMATS
from fgseg.types import UNLABELLED

RED, WHITE = (200, 30, 40), (235, 235, 235)


@pytest.fixture(scope="module")
def seg():
    return fgseg.load()


def half_missing():
    """(64, 96, 3) red with a white square; the right third is masked."""
    pixels = np.empty((64, 96, 3), np.uint8)
    pixels[:] = RED
    pixels[16:40, 16:40] = WHITE
    mask = np.zeros(pixels.shape, bool)
    mask[:, 64:] = True
    return np.ma.array(pixels, mask=mask)


@pytest.mark.parametrize("mode", ["exclusive", "independent"])
@pytest.mark.parametrize("threshold", [None, 0.0, "auto"])
def test_pixels_without_data_are_in_no_label_mask_region_or_share(seg, mode, threshold):
    options = {"max_hole": 99_999} if mode == "independent" else {}
    result = seg.segment(half_missing(), ["red", "white"], mode=mode, threshold=threshold, **options)
    missing = np.zeros((64, 96), bool)
    missing[:, 64:] = True
    np.testing.assert_array_equal(result.no_data, missing)
    assert (result.labels[missing] == UNLABELLED).all()
    assert not any(mask[missing].any() for mask in result.masks.values())
    assert not any(score_map[missing].any() for score_map in result.scores.values())
    assert all(region.box_xyxy[2] <= 64 for region in result.regions)
    summary = result.to_dict()
    assert summary["no_data_pixels"] == 64 * 32
    for entry in summary["classes"]:
        assert entry["share"] == round(entry["pixels"] / (64 * 64), 6)


def test_an_image_without_any_data_has_no_label(seg, tmp_path):
    result = seg.segment(np.full((32, 48), np.nan), ["red", "white"], threshold="auto")
    assert (result.labels == UNLABELLED).all()
    assert [entry["share"] for entry in result.to_dict()["classes"]] == [0, 0]
    result.save(tmp_path, formats=tuple(FORMATS))
    result.overlay()


def test_a_run_records_how_the_image_was_read_and_saves_pixels_without_data_as_unlabelled(seg, tmp_path):
    picture = read_picture(half_missing(), bands=(1, 2, 3), stretch=(0, 100))
    result = seg.segment(picture, ["red", "white"])
    result.save(tmp_path, formats=["labels", "masks", "overlay", "regions", "coco"])
    run = json.loads((tmp_path / "run.json").read_text())
    assert run["reading"] == {"bands": [1, 2, 3], "stretch": [0, 100], "levels": [30, 235], "no_data_pixels": 64 * 32}
    labels = fgseg.images.read_label_png(tmp_path / "labels.png")
    assert (labels[:, 64:] == UNLABELLED).all()
    assert seg.heatmaps(picture, ["red"])["red"][:, 64:].max() == 0


def test_an_image_read_by_region_has_the_same_pixels_without_data(seg, tmp_path, caplog):
    pixels = np.array(half_missing().data, np.float32) / 255
    pixels[:, 64:] = np.nan
    pixels = np.tile(pixels, (5, 4, 1))  # 320 x 384, several windows
    path = tf.write_tiff(tmp_path / "a.tif", pixels, photometric=tf.RGB, bits=32, sample_format=tf.FLOAT, tile=(64, 64))
    whole = seg.segment(path, ["red", "white"], resolution="slide:320", refine="none", min_area=0, max_hole=0)
    large = seg.segment_large(path, ["red", "white"], tmp_path / "labels.tif")
    np.testing.assert_array_equal(large.read_labels((0, 0, 384, 320)), whole.labels)
    assert caplog.messages == [f"{path}: 40960 of 122880 pixels have no data and stay unlabelled"] * 2
    assert large.no_data_pixels == int(whole.no_data.sum()) == pixels.shape[0] * 128
    assert large.to_dict()["classes"] == whole.to_dict()["classes"]
    assert large.settings["reading"] == whole.settings["reading"]
