"""Tiled TIFFs, read and written a row of tiles at a time; the one module that knows tifffile.

What a tile can hold becomes (H, W, 3) uint8 RGB by the rules of `fgseg.images.reading`: 16 bits keep the high byte,
alpha is laid on white. The first page counts, as the first frame of an animation does.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from fgseg._checks import check_array, check_whole, describe
from fgseg._files import one_line, open_image_file, reason, replacing
from fgseg.errors import FgsegError, ImageError, OptionError, ShapeError
from fgseg.images.find import HOW_TO_TILE
from fgseg.images.reading import read_image
from fgseg.images.rgb import cmyk_to_rgb, turn_upright
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
LABEL_TILE = 256  # pixels; a multiple of 16, as TIFF 6.0 section 15 demands
_BIGTIFF_FROM = 2**32 - 2**26  # bytes of labels from which 32-bit offsets might not do
_ORIENTATION, _EXTRA_SAMPLES, _COLOR_MAP, _INK_SET = 274, 338, 320, 332  # TIFF tags
_CMYK_INKS = 1  # value of InkSet, and what its absence means
_TRANSPOSED, _FROM_BELOW = (5, 6, 7, 8), (3, 4, 7, 8)  # orientations whose top rows are stored columns, or the last
_ASSOCIATED, _UNASSOCIATED = 1, 2  # values of ExtraSamples: alpha multiplied into the colours, or not
# Samples a pixel that each photometric interpretation may have; alpha is one more.
_SAMPLES = {
    "MINISBLACK": (1, 2), "MINISWHITE": (1, 2), "RGB": (3, 4), "PALETTE": (1,), "YCBCR": (3,), "SEPARATED": (4,),
}  # fmt: skip

# Damage is told by the errors raised here; without a handler tifffile's log would add lines to stderr.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class TiledImage:
    """An open tiled TIFF; `open_tiled` makes it.

    Attributes:
        name: of the file, for messages.
        stored_hw: (height, width) in pixels, as stored.
        tile_hw: (height, width) of a tile in pixels, as stored.
        page: tifffile's first page.
    """

    name: str
    stored_hw: tuple[int, int]
    tile_hw: tuple[int, int]
    page: Any

    @property
    def orientation(self) -> int:
        """How the picture is stored, 1 to 8 as in EXIF; 1 is upright."""
        tag = self.page.tags.get(_ORIENTATION)
        return 1 if tag is None or tag.value not in range(1, 9) else int(tag.value)

    @property
    def image_hw(self) -> tuple[int, int]:
        """(height, width) in pixels of the picture upright."""
        height, width = self.stored_hw
        return (width, height) if self.orientation in _TRANSPOSED else (height, width)

    def bands(self) -> Iterator[NDArray[np.uint8]]:
        """The picture, upright, from top to bottom, a row of tiles at a time.

        Returns:
            An iterator over (h, W, 3) uint8 RGB, h = the height of a tile, in the first or the last maybe less.

        Raises:
            ImageError: a tile that is damaged.
        """
        (height, width), (tall, wide) = self.stored_hw, self.tile_hw
        if self.orientation in _TRANSPOSED:
            parts = [(0, left, height, min(left + wide, width)) for left in range(0, width, wide)]
        else:
            parts = [(top, 0, min(top + tall, height), width) for top in range(0, height, tall)]
        for part in reversed(parts) if self.orientation in _FROM_BELOW else parts:
            yield np.ascontiguousarray(turn_upright(self._stored(*part), self.orientation))

    def _stored(self, top: int, left: int, bottom: int, right: int) -> NDArray[np.uint8]:
        """(bottom - top, right - left, 3) of a row or a column of tiles."""
        part = np.empty((bottom - top, right - left, 3), np.uint8)
        for y in range(top, bottom, self.tile_hw[0]):
            for x in range(left, right, self.tile_hw[1]):
                tile = _read_tile(self, y, x)[: bottom - y, : right - x]
                part[y - top :, x - left :][: tile.shape[0], : tile.shape[1]] = self._rgb(tile)
        return part

    def _rgb(self, tile: NDArray[Any]) -> NDArray[np.uint8]:
        """(h, w, S) samples as RGB."""
        if _kind(self.page) == "PALETTE":
            colors = np.asarray(self.page.tags[_COLOR_MAP].value, np.uint16).reshape(3, -1).T
            return read_image(colors[tile[:, :, 0]])
        if _kind(self.page) == "SEPARATED":
            return cmyk_to_rgb((tile >> 8).astype(np.uint8) if tile.dtype == np.uint16 else tile)
        count = 1 if _kind(self.page).startswith("MIN") else 3
        samples, alpha = np.ascontiguousarray(tile[:, :, :count]), np.ascontiguousarray(tile[:, :, count:])
        if _kind(self.page) == "MINISWHITE":
            samples = np.iinfo(tile.dtype).max - samples
        meaning = _extra_samples(self.page)[:1]
        if meaning == (_UNASSOCIATED,):
            return read_image(np.concatenate([np.broadcast_to(samples, (*tile.shape[:2], 3)), alpha], axis=2))
        levels = read_image(samples)
        return _add_white(levels, read_image(alpha)) if meaning == (_ASSOCIATED,) else levels


def tiled_hw(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """(height, width) of a tiled TIFF from its header; None for any other file, also one that is damaged."""
    if Path(path).suffix.lower() not in TIFF_SUFFIXES:
        return None
    try:
        with tifffile.TiffFile(path) as tiff:
            page: Any = tiff.pages[0]
            stored_hw = int(page.imagelength), int(page.imagewidth)
            return TiledImage("", stored_hw, (1, 1), page).image_hw if page.is_tiled else None
    except Exception:  # as many kinds as there are ways to be damaged; whoever reads the file says which
        return None


@contextmanager
def open_tiled(path: str | os.PathLike[str]) -> Iterator[TiledImage]:
    """Open a tiled TIFF to be read by region; nothing but its header is read yet.

    Args:
        path: a TIFF or BigTIFF whose first page is tiled: grey, RGB, either with alpha, CMYK, or palette, of 8 or 16
            bits, samples interleaved or in planes; stored turned or not.

    Raises:
        ImageError: the file is not there, not a TIFF, stored in strips, cut off, of another kind of pixels, or
            compressed in a way that needs another package.

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
        yield TiledImage(name, (page.imagelength, page.imagewidth), (page.tilelength, page.tilewidth), page)


def write_label_tiff(
    path: str | Path,
    strips: Iterator[NDArray[np.int32]],
    *,
    image_hw: tuple[int, int],
    colors: Sequence[tuple[int, int, int]],
) -> None:
    """Write a label map that is made from top to bottom as a tiled TIFF (deflate), atomically.

    Args:
        path: file to write; its folder is made.
        strips: (h, W) int32 each, class index or UNLABELLED, h together H. Held: a row of tiles and a strip.
        image_hw: (H, W).
        colors: (red, green, blue) of every class; the palette of an 8-bit file. Above 254 classes the file is 16-bit
            grey. Unlabelled is 255 or 65535.

    Raises:
        OptionError: over 65,534 classes.
        ShapeError: strips that do not make the image, or a label that is no class.
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
    tiles = _tiles(_tile_rows(strips, image_hw, len(colors)), dtype, unlabelled)
    with replacing(Path(path)) as file, tifffile.TiffWriter(file, bigtiff=is_big) as tiff:
        tiff.write(
            tiles, shape=image_hw, dtype=dtype, tile=(LABEL_TILE, LABEL_TILE), compression="zlib", software="fgseg",
            metadata=None, maxworkers=1, **layout,
        )  # fmt: skip


def _corners(box_xyxy: tuple[int, int, int, int]) -> tuple[int, ...]:
    try:
        is_box = np.shape(box_xyxy) == (4,)
    except ValueError:  # lists of different lengths
        is_box = False
    if not is_box:
        raise OptionError(f"box_xyxy: expected (left, top, right, bottom), got {describe(box_xyxy)}")
    return tuple(check_whole("box_xyxy", side, low=-(2**31), high=2**31) for side in box_xyxy)


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
        ImageError: as `open_tiled`; or a file of several samples a pixel.
        OptionError: a box without pixels or outside the image.
    """
    with open_tiled(path) as image:
        height, width = image.stored_hw
        left, top, right, bottom = (0, 0, width, height) if box_xyxy is None else _corners(box_xyxy)
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise OptionError(f"box_xyxy: expected a box inside {width} x {height} pixels, got {box_xyxy}")
        if image.page.samplesperpixel != 1:
            raise ImageError(
                f"{image.name}: expected a label map, one sample a pixel, got {image.page.samplesperpixel}"
            )
        labels = np.empty((bottom - top, right - left), np.int32)
        tall, wide = image.tile_hw
        for y in range(top // tall * tall, bottom, tall):
            for x in range(left // wide * wide, right, wide):
                tile = _read_tile(image, y, x)[max(top - y, 0) : bottom - y, max(left - x, 0) : right - x, 0]
                down, across = max(y - top, 0), max(x - left, 0)
                labels[down : down + len(tile), across : across + tile.shape[1]] = tile
        labels[labels == np.iinfo(image.page.dtype).max] = UNLABELLED
        return labels


# --- reading


def _add_white(levels: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colours that alpha is multiplied into, laid on white."""
    summed: NDArray[np.uint16] = levels.astype(np.uint16) + (255 - alpha)
    return np.minimum(summed, 255).astype(np.uint8)


def _read_tile(image: TiledImage, top: int, left: int) -> NDArray[Any]:
    """(tile height, tile width, S) samples of the tile with this corner; a tile that was left out is empty pixels."""
    page, (tall, wide) = image.page, image.tile_hw
    across, down = -(-image.stored_hw[1] // wide), -(-image.stored_hw[0] // tall)
    index = top // tall * across + left // wide
    planes = range(page.samplesperpixel) if page.planarconfig == 2 else range(1)
    parts = [_decoded(image, index + plane * across * down) for plane in planes]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)


def _decoded(image: TiledImage, index: int) -> NDArray[Any]:
    page, (tall, wide) = image.page, image.tile_hw
    count, data = page.databytecounts[index], None
    with _explained(image.name):
        if count:
            page.parent.filehandle.seek(page.dataoffsets[index])
            data = page.parent.filehandle.read(count)
        try:
            tile, _, _ = page.decode(data, index, jpegtables=page.jpegtables)
        except ImportError as error:  # zstd, which newer Pythons have
            raise _without_package(image.name, page.compression) from error
    samples = 1 if page.planarconfig == 2 else page.samplesperpixel
    full = np.full((tall, wide, samples), page.nodata, page.dtype)
    if tile is not None:  # a tile at the border may come without what lies outside
        full[: tile.shape[1], : tile.shape[2]] = tile[0]
    return full


def _kind(page: Any) -> str:
    return _label(page.photometric)


def _extra_samples(page: Any) -> tuple[int, ...]:
    tag = page.tags.get(_EXTRA_SAMPLES)
    if tag is None:
        return ()
    return tuple(int(value) for value in (tag.value if isinstance(tag.value, tuple) else (tag.value,)))


def _check_page(name: str, page: Any, file_size: int) -> None:
    """Refuse, before hours of work, what cannot be read to its end."""
    if not page.is_tiled:
        raise ImageError(f"{name}: this TIFF is stored in strips, which cannot be read by region; {HOW_TO_TILE}")
    kind, samples = _kind(page), page.samplesperpixel
    inks = page.tags.get(_INK_SET)
    is_other_ink = kind == "SEPARATED" and inks is not None and inks.value != _CMYK_INKS
    if page.imagedepth != 1 or samples not in _SAMPLES.get(kind, ()) or is_other_ink:
        raise ImageError(
            f"{name}: expected grey, RGB, either with alpha, CMYK, or palette colours, got {kind} of {samples} samples "
            "a pixel; convert it to RGB"
        )
    if page.dtype not in (np.uint8, np.uint16) or page.bitspersample not in (8, 16):
        raise ImageError(
            f"{name}: expected 8 or 16 bits a sample, whole numbers, got {page.bitspersample} bits "
            f"({page.dtype}); convert it to 8 bits"
        )
    _check_compression(name, page)
    end = max((start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)), default=0)
    tiles = -(-page.imagelength // page.tilelength) * -(-page.imagewidth // page.tilewidth)
    if end > file_size or len(page.dataoffsets) < tiles * (samples if page.planarconfig == 2 else 1):
        raise ImageError(
            f"{name}: the file is cut off, {file_size:,} bytes of at least {end:,}; copy or download it again"
        )


def _check_compression(name: str, page: Any) -> None:
    for table, method in (
        (tifffile.TIFF.DECOMPRESSORS, page.compression),
        (tifffile.TIFF.UNPREDICTORS, page.predictor),
    ):
        try:
            table[method]
        except KeyError as error:
            if "imagecodecs" in str(error):
                raise _without_package(name, method) from error
            raise ImageError(f"{name}: tiles compressed as {_label(method)} cannot be read; use deflate") from error


def _without_package(name: str, method: Any) -> ImageError:
    return ImageError(
        f"{name}: its tiles are compressed as {_label(method)}, which needs the package imagecodecs; "
        "pip install imagecodecs, or save it with deflate compression"
    )


def _label(method: Any) -> str:
    return str(getattr(method, "name", method))


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn what the system or tifffile raises into an ImageError of one line."""
    try:
        yield
    except FgsegError:
        raise
    except tifffile.TiffFileError as error:
        raise ImageError(f"{name}: not a TIFF, or a damaged one ({reason(error)}); {HOW_TO_TILE}") from error
    # Decoders raise zlib.error, struct.error, ValueError, IndexError and others.
    except Exception as error:
        raise ImageError(f"{name}: the TIFF is damaged ({reason(error)}); copy it or save it again") from error


# --- writing


def _tile_rows(
    strips: Iterator[NDArray[np.int32]], image_hw: tuple[int, int], num_classes: int
) -> Iterator[NDArray[np.int32]]:
    """The rows of strips of any height, as many at a time as a tile is high."""
    height, width = image_hw
    waiting, rows = np.empty((0, width), np.int32), 0
    for strip in strips:
        check_array("strips", strip, ("h", width), hint="as wide as the image")
        if strip.size and not (UNLABELLED <= strip.min() and strip.max() < num_classes):
            raise ShapeError(f"strips: expected labels from {UNLABELLED} to {num_classes - 1}, got others")
        rows += len(strip)
        waiting = np.concatenate([waiting, strip])
        while len(waiting) >= LABEL_TILE:
            yield waiting[:LABEL_TILE]
            waiting = waiting[LABEL_TILE:]
    if rows != height:
        raise ShapeError(f"strips: expected {height} rows together, got {rows}")
    if len(waiting):
        yield waiting


def _tiles(rows: Iterator[NDArray[np.int32]], dtype: np.dtype[Any], unlabelled: int) -> Iterator[NDArray[Any]]:
    for labels in rows:
        stored = np.where(labels == UNLABELLED, unlabelled, labels).astype(dtype)
        for left in range(0, stored.shape[1], LABEL_TILE):
            part = stored[:, left : left + LABEL_TILE]
            missing = LABEL_TILE - part.shape[0], LABEL_TILE - part.shape[1]
            yield np.pad(part, ((0, missing[0]), (0, missing[1])), constant_values=unlabelled)
