"""Label maps as tiled TIFFs, written from strips and read in boxes; the bands of tiled TIFFs."""

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings, strategies as st
from large_images import RGB, bands_of, noise, tiff

from fgseg.errors import ImageError, OptionError
from fgseg.images.reading import read_image
from fgseg.large.label_tiff import open_tiled, read_label_tiff, tiled_hw, write_label_tiff
from fgseg.types import UNLABELLED

SEEDS = st.integers(0, 2**32 - 1)


@given(
    seed=SEEDS,
    hw=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    tile=st.sampled_from([(16, 16), (16, 48), (64, 32)]),
)
@settings(deadline=None, max_examples=40)
def test_the_bands_together_are_the_image_whatever_its_size_and_tiles(seed, hw, tile, tmp_path_factory):
    image = noise(seed, *hw, 3)
    path = tiff(tmp_path_factory.getbasetemp() / "bands.tif", image, tile=tile, photometric="rgb", compression="zlib")
    with open_tiled(path) as source:
        assert source.image_hw == hw
        bands = list(source.bands())
    np.testing.assert_array_equal(np.concatenate(bands), image)
    assert {len(band) for band in bands[:-1]} <= {tile[0]}


def test_a_missing_tile_is_empty_and_only_the_first_page_is_read(tmp_path):
    full = np.full((16, 16, 3), 200, np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        options = {"dtype": np.uint8, "tile": (16, 16), "photometric": "rgb", "metadata": None}
        writer.write(iter([full, None]), shape=(16, 32, 3), **options)
        writer.write(iter([full, full]), shape=(16, 32, 3), **options)
    with open_tiled(tmp_path / "a.tif") as source:
        (band,) = source.bands()
    assert (band[:, :16] == 200).all()
    assert not band[:, 16:].any()


def test_other_files_than_tiled_tiffs_have_no_tiled_size(tmp_path):
    assert tiled_hw(tiff(tmp_path / "strips.tif", RGB, tile=None, photometric="rgb")) is None
    assert tiled_hw(tmp_path / "missing.tif") is None
    (tmp_path / "text.tif").write_text("hello")
    assert tiled_hw(tmp_path / "text.tif") is None
    assert tiled_hw(tmp_path / "photo.png") is None


@given(seed=SEEDS, hw=st.tuples(st.integers(1, 300), st.integers(1, 300)), classes=st.sampled_from([1, 254, 255, 400]))
@settings(deadline=None, max_examples=20)
def test_labels_written_in_strips_are_read_back(seed, hw, classes, tmp_path_factory):
    rng = np.random.RandomState(seed)
    labels = rng.randint(-1, classes, hw).astype(np.int32)
    path = tmp_path_factory.getbasetemp() / "labels.tif"
    colors = [(index % 256, 7, 9) for index in range(classes)]
    write_label_tiff(path, bands_of(labels, rng.randint(1, 290, 2)), image_hw=hw, colors=colors)
    np.testing.assert_array_equal(read_label_tiff(path), labels)
    top, left = rng.randint(hw[0]), rng.randint(hw[1])
    bottom, right = rng.randint(top, hw[0]) + 1, rng.randint(left, hw[1]) + 1
    np.testing.assert_array_equal(read_label_tiff(path, (left, top, right, bottom)), labels[top:bottom, left:right])
    with tifffile.TiffFile(path) as file:
        assert file.pages[0].is_tiled
    stored, unlabelled = tifffile.imread(path), 255 if classes <= 254 else 65535
    assert stored.dtype == (np.uint8 if classes <= 254 else np.uint16)
    assert (stored[labels == UNLABELLED] == unlabelled).all()


def test_an_8_bit_label_map_opens_in_the_colours_of_its_classes(tmp_path):
    labels = np.array([[0, 1, -1]], np.int32)
    write_label_tiff(tmp_path / "a.tif", iter([labels]), image_hw=(1, 3), colors=[(255, 0, 0), (0, 128, 255)])
    assert read_image(tmp_path / "a.tif").tolist() == [[[255, 0, 0], [0, 128, 255], [0, 0, 0]]]


def test_more_classes_than_16_bits_hold_are_refused_and_leave_no_file(tmp_path):
    with pytest.raises(OptionError, match="a 16-bit label map holds 65534 classes, got 65535"):
        write_label_tiff(tmp_path / "a.tif", iter([]), image_hw=(4, 3), colors=[(1, 2, 3)] * 65_535)
    assert not list(tmp_path.iterdir())


def test_a_box_outside_the_label_map_is_refused(tmp_path):
    write_label_tiff(tmp_path / "a.tif", iter([np.zeros((4, 3), np.int32)]), image_hw=(4, 3), colors=[(1, 2, 3)])
    for box in ((0, 0, 4, 4), (0, -1, 2, 2), (1, 1, 1, 3)):
        with pytest.raises(OptionError, match="box_xyxy: expected a box inside 3 x 4 pixels"):
            read_label_tiff(tmp_path / "a.tif", box)
    rgb = tiff(tmp_path / "rgb.tif", RGB, photometric="rgb")
    with pytest.raises(ImageError, match="expected a label map, one sample per pixel, got 3"):
        read_label_tiff(rgb)


@pytest.mark.parametrize("box", [(1, 2), (0.5, 0, 4, 4), np.zeros((2, 2)), "1234", [[1], [1, 2]]])
def test_a_box_of_labels_is_four_whole_numbers(box, tmp_path):
    strips = iter([np.zeros((8, 8), np.int32)])
    write_label_tiff(tmp_path / "a.tif", strips, image_hw=(8, 8), colors=[(0, 0, 0)])
    with pytest.raises(OptionError, match="box_xyxy: expected"):
        read_label_tiff(tmp_path / "a.tif", box)


def test_a_box_of_labels_may_be_an_array(tmp_path):
    strips = iter([np.zeros((8, 8), np.int32)])
    write_label_tiff(tmp_path / "a.tif", strips, image_hw=(8, 8), colors=[(0, 0, 0)])
    assert read_label_tiff(tmp_path / "a.tif", np.array([0, 0, 5, 3])).shape == (3, 5)
