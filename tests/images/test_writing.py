"""Pictures to PNG and JPEG files."""

import io

import numpy as np
import pytest
from odd_images import PICTURE
from PIL import Image

from fgseg.errors import OptionError
from fgseg.images.reading import read_image
from fgseg.images.writing import encode_png, write_image


def test_an_encoded_png_has_the_bytes_of_the_written_file(tmp_path):
    write_image(tmp_path / "x.png", PICTURE)
    assert encode_png(PICTURE) == (tmp_path / "x.png").read_bytes()
    with Image.open(io.BytesIO(encode_png(PICTURE))) as decoded:
        np.testing.assert_array_equal(read_image(decoded), PICTURE)


def test_a_png_stores_the_picture_exactly_and_a_jpeg_nearly(tmp_path):
    write_image(tmp_path / "x.PNG", PICTURE)
    np.testing.assert_array_equal(read_image(tmp_path / "x.PNG"), PICTURE)
    for name in ("x.jpg", "x.jpeg"):
        write_image(tmp_path / name, PICTURE)
        with Image.open(tmp_path / name) as written:
            assert written.format == "JPEG"
        # flat blocks at quality 95 in full colour resolution
        np.testing.assert_allclose(read_image(tmp_path / name).astype(int), PICTURE, atol=4)


def test_a_jpeg_keeps_full_colour_resolution(tmp_path):
    stripes = np.zeros((16, 16, 3), np.uint8)
    stripes[:, ::2] = (255, 0, 0)
    stripes[:, 1::2] = (0, 0, 255)
    write_image(tmp_path / "x.jpg", stripes)
    # halved colour resolution would mix them: errors of over 100
    np.testing.assert_allclose(read_image(tmp_path / "x.jpg").astype(int), stripes, atol=20)


def test_another_suffix_than_png_and_jpeg_is_refused(tmp_path):
    for name in ("x.bmp", "x"):
        with pytest.raises(OptionError, match=r"path: expected a name that ends in .png, .jpg or .jpeg, got"):
            write_image(tmp_path / name, PICTURE)


def test_a_picture_too_large_for_jpeg_is_refused_and_can_be_written_as_png(tmp_path):
    long = np.zeros((1, 65_501, 3), np.uint8)
    with pytest.raises(OptionError, match=r"JPEG holds 65500 pixels per side, got 65501 x 1; use PNG"):
        write_image(tmp_path / "long.jpg", long)
    write_image(tmp_path / "long.png", long)
    assert read_image(tmp_path / "long.png").shape == long.shape
