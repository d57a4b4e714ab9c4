"""Resizing of images against OpenCV and plain means."""

import cv2
import numpy as np
import pytest

from fgseg.errors import OptionError, ShapeError
from fgseg.images.resizing import resize_image


def noise(seed, height, width):
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)


def test_without_antialiasing_a_resize_is_opencvs_bilinear():
    image = noise(1, 31, 47)
    np.testing.assert_array_equal(resize_image(image, (20, 90), antialias=False), cv2.resize(image, (90, 20)))


def test_antialiasing_takes_the_mean_where_it_shrinks_and_bilinear_where_it_grows():
    image = noise(2, 8, 6)
    tiles = image.reshape(2, 4, 2, 3, 3).astype(float).mean((1, 3))
    assert np.abs(resize_image(image, (2, 2), antialias=True) - tiles).max() <= 0.5  # rounding to whole levels
    mixed = resize_image(image, (4, 12), antialias=True)
    columns = image.reshape(4, 2, 6, 3).astype(float).mean(1).astype(np.float32)
    assert np.abs(mixed - cv2.resize(columns, (12, 4))).max() <= 1  # rounded twice
    np.testing.assert_array_equal(resize_image(image, (16, 12), antialias=True), cv2.resize(image, (12, 16)))


@pytest.mark.parametrize("antialias", [False, True])
def test_a_resize_to_the_same_size_is_a_copy(antialias):
    image = noise(3, 5, 4)
    same = resize_image(image, (5, 4), antialias=antialias)
    np.testing.assert_array_equal(same, image)
    assert not np.shares_memory(same, image)


def test_a_view_of_an_image_is_resized_like_the_image():
    image = noise(4, 20, 20)
    flipped = resize_image(image[:, ::-1], (9, 9), antialias=False)
    np.testing.assert_array_equal(flipped, resize_image(image[:, ::-1].copy(), (9, 9), antialias=False))


def test_only_rgb_images_and_whole_sizes_are_resized():
    with pytest.raises(ShapeError, match="image: expected an RGB image"):
        resize_image(np.zeros((4, 4), np.uint8), (2, 2), antialias=False)
    with pytest.raises(OptionError, match="image_hw"):
        resize_image(noise(5, 4, 4), (2, 0), antialias=False)
