"""Resizing by Pillow."""

import numpy as np
import pytest
from odd_images import GRAY, PICTURE

from fgseg.errors import OptionError, ShapeError
from fgseg.images.resizing import resize_bicubic, resize_bilinear
from fgseg.images.writing import encode_png, write_image


@pytest.mark.parametrize("resize", [resize_bicubic, resize_bilinear])
@pytest.mark.parametrize("image_hw", [(5, 9), (1, 1), (40, 3), (16, 24)])
def test_resizing_gives_the_requested_height_and_width(resize, image_hw):
    image = resize(PICTURE, image_hw)
    assert image.shape == (*image_hw, 3)
    assert image.dtype == np.uint8


@pytest.mark.parametrize("resize", [resize_bicubic, resize_bilinear])
def test_resizing_to_the_same_size_copies(resize):
    image = resize(PICTURE, PICTURE.shape[:2])
    np.testing.assert_array_equal(image, PICTURE)
    assert not np.shares_memory(image, PICTURE)


def test_shrinking_averages_all_pixels():
    stripes = np.zeros((1, 16, 3), np.uint8)
    stripes[:, ::4] = 200  # sampling two points of it would give 0 or 200
    for resize in (resize_bicubic, resize_bilinear):
        np.testing.assert_allclose(resize(stripes, (1, 2)).astype(int), 50, atol=8)


def bicubic_by_definition(row, size):
    """One row resized by Keys' kernel (a = -0.5) widened by the scale: Pillow's rule, in floats."""

    def kernel(x):
        x = abs(x)
        if x < 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x < 2 else 0.0

    scale = len(row) / size
    stretch = max(scale, 1.0)
    out = []
    for place in range(size):
        center = (place + 0.5) * scale
        weights = np.array([kernel((at + 0.5 - center) / stretch) for at in range(len(row))])
        out.append(float((weights * row).sum() / weights.sum()))
    return np.array(out)


@pytest.mark.parametrize("width", [3, 7, 20, 31])
def test_bicubic_is_keys_kernel_widened_when_it_shrinks(width):
    row = np.random.RandomState(411).randint(60, 200, 12)  # away from 0 and 255: nothing is clipped
    image = resize_bicubic(np.dstack([row[None].astype(np.uint8)] * 3), (1, width))
    # Pillow's weights have 22 bits: half a level of rounding and a little
    np.testing.assert_allclose(image[0, :, 0], bicubic_by_definition(row, width), atol=0.51)


def test_resizing_accepts_views_of_any_stride():
    np.testing.assert_array_equal(resize_bicubic(PICTURE[::-1, ::2], (16, 12)), PICTURE[::-1, ::2])


@pytest.mark.parametrize("resize", [resize_bicubic, resize_bilinear])
@pytest.mark.parametrize("image_hw", [(0, 4), (4,), (4, 4, 3), (4.0, 4), (-1, 4)])
def test_a_size_that_is_not_two_whole_numbers_is_refused(resize, image_hw):
    with pytest.raises(OptionError, match=r"image_hw: expected \(height, width\), whole numbers of at least 1"):
        resize(PICTURE, image_hw)


def test_resizing_and_writing_refuse_an_array_that_is_no_rgb_image(tmp_path):
    for call in (
        lambda image: resize_bicubic(image, (2, 2)),
        lambda image: resize_bilinear(image, (2, 2)),
        lambda image: write_image(tmp_path / "x.png", image),
        encode_png,
    ):
        with pytest.raises(ShapeError, match="image: expected an RGB image"):
            call(GRAY)
