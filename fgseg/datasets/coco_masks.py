"""Masks in COCO's forms: polygons, and run lengths as a list or a string. They are checked, then drawn.

Drawing takes 14 bytes for each pixel of the image and up to 150 MB for a polygon, whatever a file holds.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_rle

from fgseg.datasets.annotations import UnusableError, is_number
from fgseg.errors import OptionError
from fgseg.images.reading import MAX_PIXELS
from fgseg.regions.run_lengths import MOST_FIELDS, run_lengths

__all__ = ["Mask", "checked_mask", "draw_masks"]

Mask = list[list[float]] | Mapping[str, Any]
"""Rings of a polygon as [x, y, x, y, ...] in pixels, or run lengths with `counts`."""

_RING = "rings of [x, y, x, y, ...]"
_NEAR = "corners that are finite numbers, and no farther from the image than its size"
_RUNS = "run lengths that cover the image"
_LONGEST_RING = 1_000_000  # pixels; pycocotools takes up to 150 bytes for each while it draws
_HUGE = 1e300


def checked_mask(segmentation: Any, size_hw: tuple[int, int]) -> Mask | None:
    """The mask of an annotation, without its empty rings.

    Args:
        segmentation: what the annotation holds.
        size_hw: (height, width) of the image in pixels.

    Returns:
        The mask. None if there is none: no value, no ring, or no ring with three corners.

    Raises:
        UnusableError: it has another form, lies elsewhere or has another size.
    """
    if segmentation is None or segmentation == []:
        return None
    if isinstance(segmentation, dict):
        return _checked_runs(segmentation, size_hw)
    if not isinstance(segmentation, list):
        raise UnusableError("a segmentation of rings or run lengths", segmentation)
    rings = [ring for ring in segmentation if _has_area(ring, size_hw)]
    return rings or None


def _has_area(ring: Any, size_hw: tuple[int, int]) -> bool:
    """Whether a ring has three corners. Anything but a ring near the image is refused."""
    if not isinstance(ring, list) or len(ring) % 2 or any(isinstance(value, (list, dict, str)) for value in ring):
        raise UnusableError(_RING, ring)
    height, width = size_hw
    corners = _numbers(ring).reshape(-1, 2)
    far = ~np.isfinite(corners) | (corners < [-width, -height]) | (corners > [2 * width, 2 * height])
    if far.any():
        raise UnusableError(_NEAR, ring[int(far.ravel().argmax())], f"among {len(ring)} values")
    length = np.abs(corners - np.roll(corners, 1, axis=0)).max(axis=1, initial=0).sum()
    if length > _LONGEST_RING:
        raise UnusableError(f"a ring of at most {_LONGEST_RING} pixels", ring, f"{length:.0f} pixels long")
    return len(corners) > 2


def _numbers(values: Sequence[Any]) -> NDArray[np.float64]:
    """The values as numbers; NaN for one that is no number or is out of all range."""
    return np.array([value if is_number(value) and abs(value) < _HUGE else np.nan for value in values], np.float64)


def _checked_runs(segmentation: Mapping[str, Any], size_hw: tuple[int, int]) -> Mask:
    size = segmentation.get("size")
    if not (isinstance(size, list) and all(map(is_number, size)) and size == list(size_hw)):
        raise UnusableError(_RUNS, size, f"its size; the image has {list(size_hw)}")
    counts, pixels = segmentation.get("counts"), size_hw[0] * size_hw[1]
    if isinstance(counts, str) and len(counts) > MOST_FIELDS * (pixels + 1):  # before it takes 40 times its length
        raise UnusableError(_RUNS, counts, f"{len(counts)} characters for {pixels} pixels")
    runs = _runs(counts)
    if not ((runs >= 0) & (runs <= pixels)).all() or runs.sum() != pixels:
        raise UnusableError(_RUNS, counts, f"not {pixels} pixels in all")
    return segmentation


def _runs(counts: Any) -> NDArray[np.int64]:
    """Lengths of the runs of pixels outside, inside, outside and so on, down the columns.

    Raises:
        UnusableError: neither a list of whole numbers nor a string of them.

    >>> _runs("01c0"), _runs([0, 1, 19])
    (array([ 0,  1, 19]), array([ 0,  1, 19]))
    """
    if isinstance(counts, str):
        return _decoded(counts)
    numbers = _numbers(counts) if isinstance(counts, list) else np.full(1, np.nan)
    if not (numbers == np.rint(numbers)).all() or (np.abs(numbers) > MAX_PIXELS).any():  # NaN is refused too
        raise UnusableError(_RUNS, counts)
    return numbers.astype(np.int64)


def _decoded(text: str) -> NDArray[np.int64]:
    try:
        return run_lengths(text.encode(errors="surrogatepass"))
    except OptionError as error:
        raise UnusableError(_RUNS, text, "no string of run lengths") from error


def draw_masks(masks: Iterable[tuple[int, Mask]], size_hw: tuple[int, int]) -> NDArray[np.int32]:
    """Labels from masks; where masks overlap, the smallest is on top, and of equal ones the last.

    Args:
        masks: label and mask of each, from `checked_mask`.
        size_hw: (height, width) in pixels.

    Returns:
        (H, W) int32, 0 where no mask is.
    """
    height, width = size_hw
    labels, areas = np.zeros(height * width, np.int32), np.full(height * width, height * width, np.int32)
    inside = np.zeros(height * width, bool)
    for label, mask in masks:
        part = _draw(mask, size_hw, inside)
        area = np.count_nonzero(inside[part])
        on_top = inside[part] & (areas[part] >= area)
        labels[part][on_top], areas[part][on_top] = label, area
        inside[part] = False
    return np.ascontiguousarray(labels.reshape(width, height).T)


def _draw(mask: Mask, size_hw: tuple[int, int], inside: NDArray[np.bool_]) -> slice:
    """Set the pixels of a mask in `inside`, which holds one column after the other; returns the part that has them."""
    first, end = len(inside), 0
    for runs in _rings(mask, size_hw):
        low, high = int(runs[0]), int(runs[: len(runs) // 2 * 2].sum())  # from the first pixel to after the last
        body = runs[1 : len(runs) // 2 * 2]
        inside[low:high] |= np.repeat(np.arange(len(body)) % 2 == 0, body)
        first, end = min(first, low), max(end, high)
    return slice(first, max(first, end))


def _rings(mask: Mask, size_hw: tuple[int, int]) -> Iterator[NDArray[np.int64]]:
    """The run lengths of a mask, or those of each ring of it, one at a time."""
    if isinstance(mask, Mapping):
        yield _runs(mask["counts"])
        return
    for ring in mask:
        (encoded,) = coco_rle.frPyObjects([ring], *size_hw)
        yield _decoded(encoded["counts"].decode("ascii"))
