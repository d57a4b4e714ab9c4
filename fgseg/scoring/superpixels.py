"""Superpixels of an image, and the mean of a score map over regions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_array, check_image, check_number

__all__ = ["region_means", "superpixels"]

# Superpixels per patch: small enough to follow edges, large enough to average. scikit-image's compactness.
_PER_PATCH, _COMPACTNESS = 2.0, 10.0


def superpixels(image: NDArray[np.uint8], *, patch_pixels: float) -> NDArray[np.intp]:
    """Parts of an image with one colour each, about two per patch of the model: SLIC (Achanta et al., TPAMI 2012).

    Args:
        image: (H, W, 3) uint8 RGB.
        patch_pixels: side of a patch in image pixels.

    Returns:
        (H, W) the number of each pixel's superpixel, from 0.

    Raises:
        ShapeError: not an RGB image.
        OptionError: `patch_pixels` is not a number above 0.

    >>> image = np.zeros((8, 8, 3), np.uint8)
    >>> image[:, 4:] = 255
    >>> numbers = superpixels(image, patch_pixels=4)
    >>> set(numbers[:, :4].flat) & set(numbers[:, 4:].flat)
    set()
    """
    from skimage.segmentation import slic  # takes half a second, so it is imported only when it is used

    check_image("image", image)
    check_number("patch_pixels", patch_pixels, low=1e-6, high=1e9)
    count = _PER_PATCH * image.shape[0] * image.shape[1] / max(patch_pixels, 1.0) ** 2
    return np.asarray(slic(image, n_segments=max(2, round(count)), compactness=_COMPACTNESS, start_label=0), np.intp)


def region_means(score_map: NDArray[np.floating[Any]], regions: NDArray[np.integer]) -> NDArray[np.float32]:
    """The mean of a score map over the region of each pixel.

    Args:
        score_map: (H, W) scores of any float dtype; the means are computed in float64.
        regions: (H, W) the number of each pixel's region, from 0. A negative number is no region, and such a pixel
            keeps its score.

    Returns:
        (H, W) float32.

    Raises:
        ShapeError: regions of another size.

    >>> region_means(np.float32([[0.2, 0.4, 0.9]]), np.array([[0, 0, -1]]))
    array([[0.3, 0.3, 0.9]], dtype=float32)
    """
    check_array("regions", regions, score_map.shape, hint="one number for each pixel of the map")
    index = np.maximum(regions.ravel(), -1) + 1
    sums = np.bincount(index, np.asarray(score_map, np.float64).ravel())
    means = (sums / np.maximum(np.bincount(index), 1)).astype(np.float32)[index].reshape(score_map.shape)
    return np.where(regions < 0, np.asarray(score_map, np.float32), means)
