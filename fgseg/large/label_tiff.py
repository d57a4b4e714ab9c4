"""Label maps as tiled TIFFs, written and read one row of tiles at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from fgseg._checks import check_whole, describe
from fgseg._files.names import one_line
from fgseg._files.writers import replacing
from fgseg.errors import FgsegError, ImageError, OptionError
from fgseg.images.find import HOW_TO_TILE
from fgseg.images.reading import open_tiff_file
from fgseg.images.tiff import TIFF_SUFFIXES, TiffImage
from fgseg.large.bands import RowBuffer
from fgseg.types import MAX_CLASSES, UNLABELLED, unlabelled_value

__all__ = ["open_tiled", "read_label_tiff", "tiled_hw", "write_label_tiff"]

LABEL_TILE = 256  # pixels; TIFF 6.0 section 15 requires a multiple of 16
_BIGTIFF_FROM = 2**32 - 2**26  # bytes of labels from which 32-bit offsets may be too small


def tiled_hw(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """(height, width) of a tiled TIFF from its header; None for any other file, including damaged ones."""
    if Path(path).suffix.lower() not in TIFF_SUFFIXES:
        return None
    try:
        with open_tiff_file(path, quiet=True) as image:
            return image.image_hw if image.page.is_tiled else None
    except FgsegError:  # the error is reported when the file is read
        return None


@contextmanager
def open_tiled(path: str | os.PathLike[str]) -> Iterator[TiffImage]:
    """Open a tiled TIFF to read it by region; only its header is read here.

    Raises:
        ImageError: as `read_image`; or a file that is no TIFF, or is stored in strips.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     tifffile.imwrite(folder + "/a.tif", np.zeros((40, 30), np.uint8), tile=(16, 32))
        ...     with open_tiled(folder + "/a.tif") as image:
        ...         [band.shape for band in image.bands()]
        [(16, 30, 1), (16, 30, 1), (8, 30, 1)]
    """
    with open_tiff_file(path) as image:
        if not image.page.is_tiled:
            raise ImageError(
                f"{one_line(path)}: this TIFF is stored in strips, which cannot be read by region; {HOW_TO_TILE}"
            )
        yield image


def write_label_tiff(
    path: str | Path,
    strips: Iterator[NDArray[np.int32]],
    *,
    image_hw: tuple[int, int],
    colors: Sequence[tuple[int, int, int]],
) -> None:
    """Write a label map that arrives from top to bottom as a tiled TIFF (deflate), atomically.

    Args:
        path: file to write; its folder is made.
        strips: (h, W) int32 each, class index or UNLABELLED; together they have H rows. One row of tiles and one strip
            are held.
        image_hw: (H, W).
        colors: (red, green, blue) of every class, the palette of an 8-bit file. Above 254 classes the file is 16-bit
            grey. Unlabelled pixels are 255 or 65535.

    Raises:
        OptionError: over 65,534 classes.
        OutputError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     strips = iter([np.int32([[0, -1]]), np.int32([[1, 1]])])
        ...     write_label_tiff(folder + "/a.tif", strips, image_hw=(2, 2), colors=[(9, 9, 9), (5, 0, 0)])
        ...     read_label_tiff(folder + "/a.tif")
        array([[ 0, -1],
               [ 1,  1]], dtype=int32)
    """
    if len(colors) > MAX_CLASSES:
        raise OptionError(f"colors: a 16-bit label map holds {MAX_CLASSES} classes, got {len(colors)}; split them")
    unlabelled = unlabelled_value(len(colors))
    dtype = np.dtype(np.uint8 if unlabelled == 255 else np.uint16)
    layout: dict[str, Any] = {"photometric": "minisblack"}
    if unlabelled == 255:
        palette = np.zeros((3, 256), np.uint16)
        palette[:, : len(colors)] = 257 * np.array(colors, np.uint16).T  # 255 becomes 65535
        layout = {"photometric": "palette", "colormap": palette}
    is_big = image_hw[0] * image_hw[1] * dtype.itemsize >= _BIGTIFF_FROM
    with replacing(Path(path)) as file, tifffile.TiffWriter(file, bigtiff=is_big) as tiff:
        tiff.write(
            _tiles(strips, image_hw, dtype, unlabelled), shape=image_hw, dtype=dtype, tile=(LABEL_TILE, LABEL_TILE),
            compression="zlib", software="fgseg", metadata=None, maxworkers=1, **layout,
        )  # fmt: skip


def _tiles(
    strips: Iterator[NDArray[np.int32]], image_hw: tuple[int, int], dtype: np.dtype[Any], unlabelled: int
) -> Iterator[NDArray[Any]]:
    """The tiles of a label map, row by row, padded with unlabelled pixels at the right and the bottom."""
    rows = RowBuffer(strips)
    for top in range(0, image_hw[0], LABEL_TILE):
        labels = rows.take(top, min(top + LABEL_TILE, image_hw[0]))
        stored = np.where(labels == UNLABELLED, unlabelled, labels).astype(dtype)
        missing = [(0, -side % LABEL_TILE) for side in stored.shape]
        full = np.pad(stored, missing, constant_values=unlabelled)
        yield from np.split(full, full.shape[1] // LABEL_TILE, axis=1)


def read_label_tiff(
    path: str | os.PathLike[str], box_xyxy: tuple[int, int, int, int] | None = None
) -> NDArray[np.int32]:
    """Read a label map that `write_label_tiff` wrote, or a part of it.

    Args:
        path: the file.
        box_xyxy: (left, top, right, bottom) pixels, half open, inside the image; None reads all of it.

    Returns:
        (bottom - top, right - left) int32 class indices, UNLABELLED where the file holds 255, or 65535 in 16 bits.

    Raises:
        ImageError: as `open_tiled`, or a file with several samples per pixel.
        OptionError: a box without pixels or outside the image.
    """
    with open_tiled(path) as image:
        height, width = image.stored_hw
        left, top, right, bottom = _corners((0, 0, width, height) if box_xyxy is None else box_xyxy)
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise OptionError(f"box_xyxy: expected a box inside {width} x {height} pixels, got {box_xyxy}")
        if image.page.samplesperpixel != 1:
            raise ImageError(
                f"{image.name}: expected a label map, one sample per pixel, got {image.page.samplesperpixel}"
            )
        labels: NDArray[np.int32] = image.box((left, top, right, bottom))[:, :, 0].astype(np.int32)
        labels[labels == np.iinfo(image.page.dtype).max] = UNLABELLED
        return labels


def _corners(box_xyxy: tuple[int, int, int, int]) -> tuple[int, ...]:
    try:
        left, top, right, bottom = box_xyxy
    except (TypeError, ValueError) as error:
        raise OptionError(f"box_xyxy: expected (left, top, right, bottom), got {describe(box_xyxy)}") from error
    return tuple(check_whole("box_xyxy", side, low=-(2**31), high=2**31) for side in (left, top, right, bottom))
