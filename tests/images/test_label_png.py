"""Label maps as PNG files."""

import struct

import numpy as np
import odd_images
import pytest
import tifffile
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp
from odd_images import GRAY, INDICES
from PIL import Image

from fgseg._files.writers import write_bytes
from fgseg.errors import ImageError, OptionError, ShapeError
from fgseg.images.label_png import (
    decode_label_png,
    encode_label_png,
    label_png_hw,
    read_label_png,
    read_stored_values,
    write_label_png,
)
from fgseg.images.reading import read_image
from fgseg.images.writing import encode_png
from fgseg.large.label_tiff import write_label_tiff
from fgseg.types import UNLABELLED

COLORS = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]

SMALL = settings(deadline=None, max_examples=60)


def spectrum(count):
    return [(index % 256, index // 256, 7) for index in range(count)]


def png_header(path):
    """(bit depth, colour type) of a PNG: type 3 is palette, type 0 is grey."""
    data = path.read_bytes()
    assert data[12:16] == b"IHDR"
    return data[24], data[25]


@pytest.mark.parametrize(
    ("count", "labels", "header"),
    [
        (1, [[0, -1]], (8, 3)),
        (3, [[0, 1, 2, -1]], (8, 3)),
        (254, [[0, 253, -1]], (8, 3)),
        (255, [[0, 253, 254, -1]], (16, 0)),
        (256, [[254, 255, -1, 0]], (16, 0)),
        (300, [[0, 255, 256, 299, -1]], (16, 0)),
        (65534, [[65533, 0, -1]], (16, 0)),
        (0, [[-1, -1]], (8, 3)),
    ],
)
def test_labels_are_read_back_at_every_limit_of_the_two_depths(count, labels, header, tmp_path):
    path = tmp_path / "labels.png"
    write_label_png(path, np.array(labels, np.int32), colors=spectrum(count))
    back = read_label_png(path)
    assert back.dtype == np.int32
    assert back.tolist() == labels
    assert png_header(path) == header


@pytest.mark.parametrize("count", [254, 300])
def test_every_class_index_is_read_back(count, tmp_path):
    labels = np.arange(-1, count, dtype=np.int32)[None]
    write_label_png(tmp_path / "labels.png", labels, colors=spectrum(count))
    np.testing.assert_array_equal(read_label_png(tmp_path / "labels.png"), labels)


@SMALL
@given(
    labels=hnp.arrays(
        st.sampled_from([np.int8, np.int32, np.int64]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
        elements={"min_value": -1, "max_value": 2},
    ),
    count=st.sampled_from([3, 254, 255, 1000]),
)
def test_any_label_map_of_any_integer_dtype_is_read_back(labels, count, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.png"
    write_label_png(path, labels, colors=spectrum(count))
    np.testing.assert_array_equal(read_label_png(path), labels)


def test_the_palette_shows_every_class_in_its_color_and_unlabelled_in_black(tmp_path):
    write_label_png(tmp_path / "labels.png", np.array([[0, 1, 2, -1]]), colors=COLORS)
    assert read_image(tmp_path / "labels.png").tolist() == [[*map(list, COLORS), [0, 0, 0]]]
    with Image.open(tmp_path / "labels.png") as stored:
        assert np.array(stored).tolist() == [[0, 1, 2, 255]]


def test_unsigned_labels_are_written(tmp_path):
    write_label_png(tmp_path / "labels.png", np.array([[0, 2]], np.uint8), colors=COLORS)
    assert read_label_png(tmp_path / "labels.png").tolist() == [[0, 2]]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((2, 2, 1), np.int32), r"labels: expected an array of shape \(H, W\)"),
        (np.zeros((2, 2)), "labels: expected a numpy array of integers.*float64; give class indices"),
        (np.zeros((2, 2), bool), "labels: expected a numpy array of integers.*bool"),
        (np.zeros((0, 2), np.int32), "at least one pixel"),
        (
            np.array([[3]]),
            "labels: expected values from -1 to 2, got 3 to 3; give class indices, and a color",
        ),
        (np.array([[-2, 0]]), "labels: expected values from -1 to 2, got -2 to 0"),
    ],
)
def test_labels_that_are_no_label_map_are_refused(labels, message, tmp_path):
    with pytest.raises(ShapeError, match=message):
        write_label_png(tmp_path / "labels.png", labels, colors=COLORS)
    assert not (tmp_path / "labels.png").exists()


@pytest.mark.parametrize("color", [(1, 2), (1, 2, 256), (0, 0, -1), (0.5, 0, 0)])
def test_a_color_out_of_range_is_refused(color, tmp_path):
    with pytest.raises(OptionError, match=r"colors: expected \(red, green, blue\), whole numbers from 0 to 255, got"):
        write_label_png(tmp_path / "labels.png", np.array([[0]]), colors=[color])


def test_more_classes_than_a_png_can_hold_are_refused(tmp_path):
    with pytest.raises(OptionError, match="colors: a 16-bit PNG holds 65534 classes, got 65535; split them"):
        write_label_png(tmp_path / "labels.png", np.array([[0]]), colors=[(0, 0, 0)] * 65_535)


@pytest.mark.parametrize(
    ("builder", "mode"),
    [(odd_images.rgb_png, "RGB"), (odd_images.alpha_png, "RGBA"), (odd_images.gray_alpha_png, "LA")],
)
def test_a_colour_picture_is_not_a_label_map(builder, mode, tmp_path):
    message = f"expected a label map, a palette or grey PNG, got PNG with pixels of {mode}; a colour picture"
    with pytest.raises(ImageError, match=message):
        read_label_png(builder(tmp_path))


def test_a_truncated_label_map_is_refused(tmp_path):
    path = odd_images.sixteen_bit_png(tmp_path)
    write_bytes(path, path.read_bytes()[:60])
    with pytest.raises(ImageError, match=r"gray16\.png: the image data is truncated or damaged"):
        read_label_png(path)


def test_a_lossy_file_is_not_a_label_map(tmp_path):
    Image.fromarray(GRAY).save(tmp_path / "labels.jpg")
    with pytest.raises(ImageError, match="got JPEG with pixels of L; a colour picture or a lossy format"):
        read_label_png(tmp_path / "labels.jpg")


def test_label_files_of_other_tools_are_read(tmp_path):
    np.testing.assert_array_equal(read_label_png(odd_images.palette_png(tmp_path)), INDICES)
    np.testing.assert_array_equal(read_label_png(odd_images.gray_png(tmp_path)), GRAY)
    np.testing.assert_array_equal(read_label_png(odd_images.one_bit_png(tmp_path)), GRAY > 100)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_indices_of_fewer_than_eight_bits_are_not_scaled(depth, tmp_path):
    indices = np.arange(2**depth)
    bits = "".join(f"{index:0{depth}b}" for index in indices).ljust(8, "0")
    row = int(bits, 2).to_bytes(len(bits) // 8, "big")
    header = struct.pack(">IIBBBBB", len(indices), 1, depth, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", odd_images.zlib.compress(b"\0" + row)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(odd_images._chunk(*part) for part in parts)
    write_bytes(tmp_path / "few.png", data)
    assert read_label_png(tmp_path / "few.png").tolist() == [indices.tolist()]


def test_stored_values_are_returned_unchanged_with_the_unlabelled_value_of_the_file(tmp_path):
    for count, unlabelled in ((3, 255), (300, 65_535)):
        write_label_png(tmp_path / "labels.png", np.array([[0, 2, -1]]), colors=spectrum(count))
        values, value = read_stored_values(tmp_path / "labels.png")
        assert (values.tolist(), value) == ([[0, 2, unlabelled]], unlabelled)


def test_the_size_of_a_label_map_is_read_from_its_header_and_other_pictures_are_refused(tmp_path):
    write_label_png(tmp_path / "labels.png", np.zeros((2, 3), np.int32), colors=COLORS)
    assert label_png_hw(tmp_path / "labels.png") == (2, 3)
    for builder in (odd_images.rgb_png, odd_images.gray_alpha_png, odd_images.exif_rotated_jpeg):
        with pytest.raises(ImageError, match="expected a label map, a palette or grey PNG, got"):
            label_png_hw(builder(tmp_path))


@pytest.mark.parametrize("classes", [3, 300])
def test_the_label_map_of_an_image_read_by_region_is_read(tmp_path, classes):
    labels = np.array([[0, 1, classes - 1], [-1, 2, -1]], np.int32)
    write_label_tiff(tmp_path / "labels.tif", iter([labels]), image_hw=(2, 3), colors=spectrum(classes))
    assert read_label_png(tmp_path / "labels.tif").tolist() == labels.tolist()
    assert label_png_hw(tmp_path / "labels.tif") == (2, 3)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((4, 5), {"photometric": "miniswhite"}),
        ((4, 5, 3), {"photometric": "rgb"}),
        ((4, 5, 2), {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unassalpha"]}),
    ],
)
def test_a_tiff_of_levels_is_no_label_map(tmp_path, shape, options):
    tifffile.imwrite(tmp_path / "a.tif", np.ones(shape, np.uint8), **options)
    with pytest.raises(ImageError, match="expected a label map, a palette or grey PNG, got TIFF"):
        read_label_png(tmp_path / "a.tif")


@pytest.mark.parametrize("num_classes", [2, 300])
def test_a_label_map_in_memory_is_the_file(tmp_path, num_classes):
    labels = np.array([[0, UNLABELLED, num_classes - 1]])
    colors = [(1, 2, 3)] * num_classes
    write_label_png(tmp_path / "labels.png", labels, colors=colors)
    data = encode_label_png(labels, colors=colors)
    assert data == (tmp_path / "labels.png").read_bytes()
    assert decode_label_png(data, name="labels").tolist() == labels.tolist()


@pytest.mark.parametrize(
    ("data", "max_pixels", "message"),
    [
        (b"", 9, "a.png: the file is empty"),
        (encode_png(np.zeros((1, 1, 3), np.uint8)), 9, "a.png: expected a label map, a palette or grey PNG, got PNG"),
        (encode_label_png(np.zeros((2, 5), int), colors=[(0, 0, 0)]), 9, "over the limit"),
    ],
)
def test_bytes_that_are_no_label_map_are_named(data, max_pixels, message):
    with pytest.raises(ImageError, match=message):
        decode_label_png(data, name="a.png", max_pixels=max_pixels)
