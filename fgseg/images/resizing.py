"""Resizing pictures."""

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fgseg._checks import check_image, check_number, check_size

__all__ = ["resize_bicubic", "resize_bilinear", "resize_image", "shrink"]


def resize_bicubic(image: NDArray[np.uint8], image_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize by Pillow's bicubic filter, which antialiases when it shrinks, as for the published models.

    Args:
        image: (H, W, 3) uint8 RGB.
        image_hw: the new (height, width), in pixels.

    Returns:
        (height, width, 3) uint8 RGB, a new array; the same values if the size is the same.

    Raises:
        ShapeError: `image` is not an RGB image.
        OptionError: `image_hw` is not two whole numbers of at least 1.

    Example:
        >>> resize_bicubic(np.full((4, 6, 3), 9, np.uint8), (2, 3)).shape
        (2, 3, 3)
    """
    return _resize(image, image_hw, Image.Resampling.BICUBIC)


def resize_bilinear(image: NDArray[np.uint8], image_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize by Pillow's bilinear filter, which antialiases when it shrinks (OpenCV's does not).

    Arguments, result and errors are those of `resize_bicubic`.

    Example:
        >>> resize_bilinear(np.array([[[0] * 3, [200] * 3]], np.uint8), (1, 4))[0, :, 0]
        array([  0,  50, 150, 200], dtype=uint8)
    """
    return _resize(image, image_hw, Image.Resampling.BILINEAR)


def _resize(image: NDArray[np.uint8], image_hw: tuple[int, int], resample: Image.Resampling) -> NDArray[np.uint8]:
    check_image("image", image)
    height, width = check_size("image_hw", image_hw)
    return np.array(Image.fromarray(image).resize((width, height), resample))  # Pillow wants (W, H)


def shrink(image: NDArray[np.uint8], *, max_side: int) -> NDArray[np.uint8]:
    """Shrink a picture, by the mean of areas, until no side is longer than `max_side`; a small one is copied.

    Args:
        image: (H, W, 3) uint8 RGB.
        max_side: in pixels, at least 1.

    Returns:
        (H', W', 3) uint8 RGB. The proportions are kept, rounded to whole pixels; no side is below 1.

    Raises:
        ShapeError: `image` is not an RGB image.
        OptionError: `max_side` below 1.

    Example:
        >>> shrink(np.zeros((40, 80, 3), np.uint8), max_side=20).shape
        (10, 20, 3)
    """
    check_image("image", image)
    check_number("max_side", max_side, low=1, high=10**6)
    height, width = image.shape[:2]
    scale = min(1, max_side / max(height, width))
    return resize_image(image, (max(1, round(height * scale)), max(1, round(width * scale))), antialias=True)


def resize_image(image: NDArray[np.uint8], image_hw: tuple[int, int], *, antialias: bool) -> NDArray[np.uint8]:
    """Resize by OpenCV.

    Args:
        image: (H, W, 3) uint8 RGB.
        image_hw: the new (height, width), in pixels.
        antialias: False: bilinear between the four nearest pixels, as published evaluation code does it; large
            photographs alias, because the pixels between are skipped. True: an axis that shrinks takes the mean of the
            pixels that it covers, and an axis that grows stays bilinear.

    Returns:
        (height, width, 3) uint8 RGB, a new array.

    Raises:
        ShapeError: not an RGB image.
        OptionError: `image_hw` is not two whole numbers of at least 1.

    Example:
        >>> stripes = np.zeros((1, 8, 3), np.uint8)
        >>> stripes[:, ::4] = 200
        >>> resize_image(stripes, (1, 2), antialias=False)[..., 0]
        array([[0, 0]], dtype=uint8)
        >>> resize_image(stripes, (1, 2), antialias=True)[..., 0]
        array([[50, 50]], dtype=uint8)
    """
    check_image("image", image)
    height, width = check_size("image_hw", image_hw)
    resized = np.ascontiguousarray(image)
    if antialias:
        # OpenCV's area mean becomes nearest-like sampling along an axis that grows: shrink first, then grow.
        smaller_wh = min(width, image.shape[1]), min(height, image.shape[0])
        resized = _cv2_resized(resized, smaller_wh, cv2.INTER_AREA)
    if resized.shape[:2] != (height, width):
        resized = _cv2_resized(resized, (width, height), cv2.INTER_LINEAR)
    return resized.copy() if np.may_share_memory(resized, image) else resized


def _cv2_resized(image: NDArray[np.uint8], size_wh: tuple[int, int], interpolation: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(image, size_wh, interpolation=interpolation), np.uint8)
