"""Resizing pictures."""

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fgseg._checks import check_image, check_number, check_size

__all__ = ["resize_bicubic", "resize_bilinear", "resize_image", "shrink"]


def resize_bicubic(image: NDArray[np.uint8], image_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize by Pillow's bicubic filter, antialiased when it shrinks: what the published models were fed.

    Args:
        image: (H, W, 3) uint8 RGB.
        image_hw: (height, width) wanted, in pixels.

    Returns:
        (height, width, 3) uint8 RGB, a new array; the same values where the size is the same.

    Raises:
        ShapeError: `image` is not an RGB image.
        OptionError: `image_hw` is not two whole numbers of at least 1.

    Example:
        >>> resize_bicubic(np.full((4, 6, 3), 9, np.uint8), (2, 3)).shape
        (2, 3, 3)
    """
    return _resize(image, image_hw, Image.Resampling.BICUBIC)


def resize_bilinear(image: NDArray[np.uint8], image_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize by Pillow's bilinear filter, antialiased when it shrinks (OpenCV's is not).

    Args:
        image: (H, W, 3) uint8 RGB.
        image_hw: (height, width) wanted, in pixels.

    Returns:
        (height, width, 3) uint8 RGB, a new array; the same values where the size is the same.

    Raises:
        ShapeError: `image` is not an RGB image.
        OptionError: `image_hw` is not two whole numbers of at least 1.

    Example:
        >>> resize_bilinear(np.array([[[0] * 3, [200] * 3]], np.uint8), (1, 4))[0, :, 0]
        array([  0,  50, 150, 200], dtype=uint8)
    """
    return _resize(image, image_hw, Image.Resampling.BILINEAR)


def _resize(image: NDArray[np.uint8], image_hw: tuple[int, int], how: Image.Resampling) -> NDArray[np.uint8]:
    check_image("image", image)
    height, width = check_size("image_hw", image_hw)
    return np.array(Image.fromarray(image).resize((width, height), how))  # Pillow wants (W, H)


def shrink(image: NDArray[np.uint8], *, max_side: int) -> NDArray[np.uint8]:
    """A picture reduced, by area, so that neither side is longer than `max_side`; a small one is only copied.

    Args:
        image: (H, W, 3) uint8 RGB.
        max_side: in pixels, at least 1.

    Returns:
        (H', W', 3) uint8 RGB, proportions kept to the pixel, no side below 1.

    Raises:
        ShapeError: `image` is not an RGB image.
        OptionError: `max_side` below 1.

    >>> shrink(np.zeros((40, 80, 3), np.uint8), max_side=20).shape
    (10, 20, 3)
    """
    check_image("image", image)
    check_number("max_side", max_side, low=1, high=10**6)
    height, width = image.shape[:2]
    scale = max_side / max(height, width)
    if scale >= 1:
        return image.copy()
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA), np.uint8)


def resize_image(image: NDArray[np.uint8], image_hw: tuple[int, int], *, antialias: bool) -> NDArray[np.uint8]:
    """An image at another size, by OpenCV.

    Args:
        image: (H, W, 3) uint8 RGB.
        image_hw: (height, width) wanted, in pixels.
        antialias: False: bilinear between the four nearest pixels, as published evaluation code does it;
            large photographs alias, since pixels between are skipped. True: an axis that shrinks takes the
            mean of the pixels it covers, an axis that grows stays bilinear.

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
        # OpenCV's area mean turns into nearest-like sampling along an axis that grows: shrink first, then
        # grow.
        smaller_wh = min(width, image.shape[1]), min(height, image.shape[0])
        resized = _cv2_resized(resized, smaller_wh, cv2.INTER_AREA)
    if resized.shape[:2] != (height, width):
        resized = _cv2_resized(resized, (width, height), cv2.INTER_LINEAR)
    return resized.copy() if np.may_share_memory(resized, image) else resized


def _cv2_resized(image: NDArray[np.uint8], size_wh: tuple[int, int], interpolation: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(image, size_wh, interpolation=interpolation), np.uint8)
