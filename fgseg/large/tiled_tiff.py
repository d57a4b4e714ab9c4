"""Tiled TIFFs, read and written one row of tiles at a time; no other module uses tifffile.

The samples of a tile become (H, W, 3) uint8 RGB by the rules of `fgseg.images.reading`: 16 bits keep the high byte, and
alpha is laid on white. Only the first page is read, like the first frame of an animation.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from fgseg._checks import check_whole, describe
from fgseg._files import one_line, open_image_file, reason, replacing
from fgseg.errors import FgsegError, ImageError, OptionError
from fgseg.images.find import HOW_TO_TILE
from fgseg.images.reading import read_image
from fgseg.images.rgb import cmyk_to_rgb, turn_upright
from fgseg.large.bands import RowBuffer
from fgseg.types import MAX_CLASSES, UNLABELLED, unlabelled_value

__all__ = [
    "TIFF_SUFFIXES",
    "TiledImage",
    "open_tiled",
    "read_label_tiff",
    "tiled_hw",
    "write_label_tiff",
]

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8", ".svs", ".qptiff", ".scn", ".ndpi", ".bif")
LABEL_TILE = 256  # pixels; TIFF 6.0 section 15 requires a multiple of 16
_BIGTIFF_FROM = 2**32 - 2**26  # bytes of labels from which 32-bit offsets may be too small
_ORIENTATION, _INK_SET = 274, 332  # TIFF tags
_CMYK_INKS = 1  # value of InkSet; a file without the tag has CMYK inks too
_TRANSPOSED, _FROM_BELOW = (5, 6, 7, 8), (3, 4, 7, 8)  # orientations: the top row is a stored column; it is stored last
_ASSOCIATED, _UNASSOCIATED = 1, 2  # values of ExtraSamples: colours multiplied by alpha, or not
# Samples per pixel that each photometric interpretation may have; alpha is one more.
_SAMPLES = {
    "MINISBLACK": (1, 2), "MINISWHITE": (1, 2), "RGB": (3, 4), "PALETTE": (1,), "YCBCR": (3,), "SEPARATED": (4,),
}  # fmt: skip

# This module raises errors about damage; without a handler tifffile's log would add lines to stderr.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class TiledImage:
    """An open tiled TIFF, made by `open_tiled`.

    Attributes:
        name: of the file, for messages.
        page: tifffile's first page.
    """

    name: str
    page: Any

    @property
    def stored_hw(self) -> tuple[int, int]:
        """(height, width) in pixels, as stored."""
        return int(self.page.imagelength), int(self.page.imagewidth)

    @property
    def orientation(self) -> int:
        """How the image is stored, 1 to 8 as in EXIF; 1 is upright."""
        value = self.page.tags.valueof(_ORIENTATION)
        return int(value) if value in range(1, 9) else 1

    @property
    def image_hw(self) -> tuple[int, int]:
        """(height, width) in pixels of the upright image."""
        height, width = self.stored_hw
        return (width, height) if self.orientation in _TRANSPOSED else (height, width)

    def bands(self) -> Iterator[NDArray[np.uint8]]:
        """The upright image from top to bottom, one row of tiles at a time.

        Returns:
            An iterator over (h, W, 3) uint8 RGB. h is the height of a tile; the first or the last band may be lower.

        Raises:
            ImageError: a tile that is damaged.
        """
        (height, width), tall, wide = self.stored_hw, self.page.tilelength, self.page.tilewidth
        if self.orientation in _TRANSPOSED:
            boxes = [(left, 0, min(left + wide, width), height) for left in range(0, width, wide)]
        else:
            boxes = [(0, top, width, min(top + tall, height)) for top in range(0, height, tall)]
        for left, top, right, bottom in reversed(boxes) if self.orientation in _FROM_BELOW else boxes:
            band = np.empty((bottom - top, right - left, 3), np.uint8)
            for across, down, samples in self.samples((left, top, right, bottom)):
                band[down : down + samples.shape[0], across : across + samples.shape[1]] = self._rgb(samples)
            yield np.ascontiguousarray(turn_upright(band, self.orientation))

    def samples(self, box_xyxy: tuple[int, int, int, int]) -> Iterator[tuple[int, int, NDArray[Any]]]:
        """The tiles of a box of the stored image: x and y in the box, and the (h, w, S) samples there."""
        left, top, right, bottom = box_xyxy
        tall, wide = self.page.tilelength, self.page.tilewidth
        for y in range(top // tall * tall, bottom, tall):
            for x in range(left // wide * wide, right, wide):
                tile = _read_tile(self, y // tall, x // wide)
                yield (
                    max(x - left, 0),
                    max(y - top, 0),
                    tile[max(top - y, 0) : bottom - y, max(left - x, 0) : right - x],
                )

    def _rgb(self, samples: NDArray[Any]) -> NDArray[np.uint8]:
        """(h, w, S) samples as RGB."""
        kind = _name(self.page.photometric)
        if kind == "PALETTE":
            colors = np.asarray(self.page.colormap, np.uint16).reshape(3, -1).T
            return read_image(colors[samples[:, :, 0]])
        if kind == "SEPARATED":
            return cmyk_to_rgb((samples >> 8).astype(np.uint8) if samples.dtype == np.uint16 else samples)
        count = 1 if kind.startswith("MIN") else 3
        levels, alpha = (np.ascontiguousarray(part) for part in np.split(samples, [count], axis=2))
        if kind == "MINISWHITE":
            levels = np.iinfo(samples.dtype).max - levels
        meaning = self.page.extrasamples[:1]
        if meaning == (_UNASSOCIATED,):
            return read_image(np.concatenate([np.broadcast_to(levels, (*samples.shape[:2], 3)), alpha], axis=2))
        rgb = read_image(levels)
        return _add_white(rgb, read_image(alpha)) if meaning == (_ASSOCIATED,) else rgb


def tiled_hw(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """(height, width) of a tiled TIFF from its header; None for any other file, including damaged ones."""
    if Path(path).suffix.lower() not in TIFF_SUFFIXES:
        return None
    try:
        with tifffile.TiffFile(path) as tiff:
            page: Any = tiff.pages[0]
            return TiledImage("", page).image_hw if page.is_tiled else None
    except Exception:  # damage raises many kinds of errors; the error is reported when the file is read
        return None


@contextmanager
def open_tiled(path: str | os.PathLike[str]) -> Iterator[TiledImage]:
    """Open a tiled TIFF to read it by region; only its header is read here.

    Args:
        path: a TIFF or BigTIFF whose first page is tiled: grey, RGB, either with alpha, CMYK, or palette, of 8 or 16
            bits, with samples interleaved or in planes, and in any orientation.

    Raises:
        ImageError: the file does not exist, is not a TIFF, is stored in strips, is cut off, holds another kind of
            pixels, or is compressed in a way that needs another package.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     tifffile.imwrite(folder + "/a.tif", np.zeros((40, 30), np.uint8), tile=(16, 32))
        ...     with open_tiled(folder + "/a.tif") as image:
        ...         [band.shape for band in image.bands()]
        [(16, 30, 3), (16, 30, 3), (8, 30, 3)]
    """
    name = one_line(path)
    with open_image_file(Path(path), "name a tiled TIFF in it") as file:
        with _explained(name):
            page: Any = tifffile.TiffFile(file).pages[0]
            _check_page(name, page, Path(path).stat().st_size)
        yield TiledImage(name, page)


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
        labels = np.empty((bottom - top, right - left), np.int32)
        for across, down, samples in image.samples((left, top, right, bottom)):
            labels[down : down + samples.shape[0], across : across + samples.shape[1]] = samples[:, :, 0]
        labels[labels == np.iinfo(image.page.dtype).max] = UNLABELLED
        return labels


def _corners(box_xyxy: tuple[int, int, int, int]) -> tuple[int, ...]:
    try:
        left, top, right, bottom = box_xyxy
    except (TypeError, ValueError) as error:
        raise OptionError(f"box_xyxy: expected (left, top, right, bottom), got {describe(box_xyxy)}") from error
    return tuple(check_whole("box_xyxy", side, low=-(2**31), high=2**31) for side in (left, top, right, bottom))


def _add_white(levels: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colours that were multiplied by alpha, laid on white."""
    summed: NDArray[np.uint16] = levels.astype(np.uint16) + (255 - alpha)
    return np.minimum(summed, 255).astype(np.uint8)


def _read_tile(image: TiledImage, row: int, column: int) -> NDArray[Any]:
    """(h, w, S) samples of a tile inside the image; a tile that was left out has empty pixels."""
    page = image.page
    planes = page.samplesperpixel if page.planarconfig == 2 else 1
    tiles_per_plane = prod(page.chunked) // planes
    index = row * -(-page.imagewidth // page.tilewidth) + column
    return np.concatenate([_decoded(image, index + plane * tiles_per_plane) for plane in range(planes)], axis=2)


def _decoded(image: TiledImage, index: int) -> NDArray[Any]:
    page = image.page
    count, data = page.databytecounts[index], None
    with _explained(image.name):
        if count:
            page.parent.filehandle.seek(page.dataoffsets[index])
            data = page.parent.filehandle.read(count)
        try:
            tile, _, shape = page.decode(data, index, jpegtables=page.jpegtables)
        except ImportError as error:  # zstd, which newer Python versions include
            raise _without_package(image.name, page.compression) from error
    decoded = np.full(shape, page.nodata, page.dtype) if tile is None else tile
    samples: NDArray[Any] = decoded[0]
    return samples


def _check_page(name: str, page: Any, file_size: int) -> None:
    """Refuse a page that cannot be read to its end, before hours of work."""
    if not page.is_tiled:
        raise ImageError(f"{name}: this TIFF is stored in strips, which cannot be read by region; {HOW_TO_TILE}")
    kind, samples = _name(page.photometric), page.samplesperpixel
    is_other_ink = kind == "SEPARATED" and page.tags.valueof(_INK_SET, _CMYK_INKS) != _CMYK_INKS
    if page.imagedepth != 1 or samples not in _SAMPLES.get(kind, ()) or is_other_ink:
        raise ImageError(
            f"{name}: expected grey, RGB, either with alpha, CMYK, or palette colours, got {kind} of {samples} samples "
            "per pixel; convert it to RGB"
        )
    if page.dtype not in (np.uint8, np.uint16) or page.bitspersample not in (8, 16):
        raise ImageError(
            f"{name}: expected whole numbers of 8 or 16 bits per sample, got {page.bitspersample} bits "
            f"({page.dtype}); convert it to 8 bits"
        )
    _check_compression(name, page)
    end = max((start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)), default=0)
    if end > file_size or len(page.dataoffsets) < prod(page.chunked):
        raise ImageError(
            f"{name}: the file is cut off, {file_size:,} bytes of at least {end:,}; copy or download it again"
        )


def _check_compression(name: str, page: Any) -> None:
    tables = tifffile.TIFF.DECOMPRESSORS, tifffile.TIFF.UNPREDICTORS
    for table, method in zip(tables, (page.compression, page.predictor), strict=True):
        try:
            table[method]
        except KeyError as error:
            if "imagecodecs" in str(error):
                raise _without_package(name, method) from error
            raise ImageError(f"{name}: tiles compressed as {_name(method)} cannot be read; use deflate") from error


def _without_package(name: str, method: Any) -> ImageError:
    return ImageError(
        f"{name}: its tiles are compressed as {_name(method)}, which needs the package imagecodecs; "
        "pip install imagecodecs, or save it with deflate compression"
    )


def _name(method: Any) -> str:
    return str(getattr(method, "name", method))


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn an error of the system or of tifffile into an ImageError of one line."""
    try:
        yield
    except FgsegError:
        raise
    except tifffile.TiffFileError as error:
        raise ImageError(f"{name}: not a TIFF, or a damaged one ({reason(error)}); {HOW_TO_TILE}") from error
    # Decoders raise zlib.error, struct.error, ValueError, IndexError and others.
    except Exception as error:
        raise ImageError(f"{name}: the TIFF is damaged ({reason(error)}); copy it or save it again") from error
