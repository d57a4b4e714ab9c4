"""TIFFs, in tiles or strips, read from top to bottom; `fgseg.images.samples` turns the samples into RGB.

One reader for whole files and for files read by region, so that both give the same pixels or the same error. Of several
pages the first full picture is read, never a thumbnail or a mask.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import IO, Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from fgseg._files.opening import decoding
from fgseg.errors import ImageError
from fgseg.images.find import HOW_TO_TILE
from fgseg.images.rgb import turn_upright
from fgseg.images.samples import Layout, Stored
from fgseg.images.tiff_codecs import BYTE_CODECS, PIXEL_CODECS, decoded_bytes, decoded_pixels, unpacked

__all__ = ["TIFF_SUFFIXES", "TiffImage", "open_tiff"]

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8", ".svs", ".qptiff", ".scn", ".ndpi", ".bif")
"""Suffixes of files that may be tiled TIFFs."""
_ORIENTATION, _INK_SET, _GDAL_NODATA = 274, 332, 42113  # tags
_GEO_TAGS = (33550, 33922, 34264, 34735)  # scale, tie points, transformation, keys of GeoTIFF
_RAW_TAGS = (50706,)  # the version of DNG
_CMYK_INKS = 1  # value of InkSet; a file without the tag has CMYK inks too
_TRANSPOSED, _FROM_BELOW = (5, 6, 7, 8), (3, 4, 7, 8)  # orientations: the top row is a stored column; it is stored last
_ASSOCIATED, _UNASSOCIATED = 1, 2  # values of ExtraSamples: colours multiplied by alpha, or not
_COLORS = {"MINISBLACK": 1, "MINISWHITE": 1, "RGB": 3, "PALETTE": 1, "SEPARATED": 4, "YCBCR": 3, "CIELAB": 3}
_KINDS = {"PALETTE": "palette", "SEPARATED": "cmyk", "YCBCR": "ycbcr", "CIELAB": "lab"}
_RAW_KINDS = ("CFA", "LINEAR_RAW")
_WHOLE_BYTES = (8, 16, 24, 32, 64)  # bits of samples that tifffile unpacks; 24 are floats
_UNCOMPRESSED, _NO_PREDICTOR, _LOW_BIT_FIRST = 1, 1, 2  # values of Compression, Predictor and FillOrder
_PLANES = 2  # value of PlanarConfiguration
_MAX_PAGES = 64  # that are looked at for the full picture
_THUMBNAIL_SIDE = 512  # pixels; a first page up to this may be a thumbnail that is not marked as one
_MAX_SEGMENT = 2**30  # bytes of one strip or tile

log = logging.getLogger("fgseg")
# This module raises errors about damage; without a handler tifffile's log would add lines to stderr.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class TiffImage:
    """An open TIFF, made by `open_tiff`.

    Attributes:
        name: of the file, for messages.
        page: tifffile's page that is read.
        compression: value of its tag Compression.
    """

    name: str
    page: Any
    compression: int

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

    @property
    def has_place(self) -> bool:
        """Whether the file says where on the map the image lies."""
        return any(tag in self.page.tags for tag in _GEO_TAGS)

    def stored(self) -> Stored:
        """The picture as its samples, upright, one row of tiles or strips at a time."""
        samples = int(self.page.samplesperpixel)
        return Stored(self.name, self.image_hw, np.dtype(self.page.dtype), samples, self.layout, self.bands)

    @cached_property
    def layout(self) -> Layout:
        """What the samples mean."""
        page, name = self.page, _name(self.page.photometric)
        kind, colors = _KINDS.get(name, "bands"), _COLORS[name]
        if kind == "ycbcr" and self.compression in PIXEL_CODECS:
            kind = "bands"  # the decoder returns RGB
        extra = [int(meaning) for meaning in page.extrasamples]
        declared = [index for index, meaning in enumerate(extra) if meaning in (_ASSOCIATED, _UNASSOCIATED)]
        alpha = page.samplesperpixel - len(extra) + declared[0] if declared else None
        if name in ("MINISBLACK", "MINISWHITE") and page.samplesperpixel >= 3 and alpha is None:
            colors = 3  # bands, of which the first three are drawn
        return Layout(
            kind, tuple(range(colors)), int(page.bitspersample), alpha,  # type: ignore[arg-type] # kind is a str
            is_premultiplied=alpha is not None and extra[declared[0]] == _ASSOCIATED,
            white_is_zero=name == "MINISWHITE",
            no_data=_no_data(page), palette=_palette(page) if kind == "palette" else None,
        )  # fmt: skip

    def bands(self) -> Iterator[NDArray[Any]]:
        """The samples of the upright image from top to bottom, one row of tiles or strips at a time.

        Returns:
            An iterator over (h, W, S) arrays. h is the height of a tile; the first or the last band may be lower.

        Raises:
            ImageError: a tile or strip that is damaged.
        """
        (height, width), (tall, wide) = self.stored_hw, _segment_hw(self.page)
        if self.orientation in _TRANSPOSED:
            boxes = [(left, 0, min(left + wide, width), height) for left in range(0, width, wide)]
        else:
            boxes = [(0, top, width, min(top + tall, height)) for top in range(0, height, tall)]
        for box in reversed(boxes) if self.orientation in _FROM_BELOW else boxes:
            yield turn_upright(self.box(box), self.orientation)

    def box(self, box_xyxy: tuple[int, int, int, int]) -> NDArray[Any]:
        """The (h, w, S) samples of a box of the stored image.

        Raises:
            ImageError: as `bands`.
        """
        left, top, right, bottom = box_xyxy
        tall, wide = _segment_hw(self.page)
        band = np.empty((bottom - top, right - left, self.page.samplesperpixel), self.page.dtype)
        for y in range(top // tall * tall, bottom, tall):
            for x in range(left // wide * wide, right, wide):
                segment = self._segment(y // tall, x // wide)
                part = segment[max(top - y, 0) : bottom - y, max(left - x, 0) : right - x]
                down, across = max(y - top, 0), max(x - left, 0)
                band[down : down + part.shape[0], across : across + part.shape[1]] = part
        return band

    def _segment(self, row: int, column: int) -> NDArray[Any]:
        """(h, w, S) samples of a tile or strip; one that was left out has empty pixels."""
        page = self.page
        (height, width), (tall, wide) = self.stored_hw, _segment_hw(self.page)
        planes = page.samplesperpixel if page.planarconfig == _PLANES else 1
        index = row * -(-width // wide) + column
        in_a_plane = -(-width // wide) * -(-height // tall)
        rows = tall if page.is_tiled else min(tall, height - row * tall)
        with decoding(self.name):
            parts = [self._decoded(index + plane * in_a_plane, (rows, wide)) for plane in range(planes)]
            return parts[0] if planes == 1 else np.concatenate(parts, axis=2)

    def _decoded(self, index: int, size_hw: tuple[int, int]) -> NDArray[Any]:
        """(h, w, samples) of one strip or tile."""
        page = self.page
        start, count = page.dataoffsets[index], page.databytecounts[index]
        samples = 1 if page.planarconfig == _PLANES else page.samplesperpixel
        if not count:
            return np.full((*size_hw, samples), page.nodata, page.dtype)
        page.parent.filehandle.seek(start)
        data = page.parent.filehandle.read(count)
        if len(data) < count:
            raise ImageError(f"{self.name}: the file is cut off; copy or download it again")
        if self.compression in PIXEL_CODECS:
            pixels = decoded_pixels(data, page, self.compression, size_hw)[: size_hw[0], : size_hw[1]]
            return pixels.astype(page.dtype, copy=False).reshape(*size_hw, samples)
        row_bytes = -(-size_hw[1] * samples * page.bitspersample // 8)
        if self.compression in BYTE_CODECS:
            data = decoded_bytes(data, self.compression, rows=size_hw[0], row_bytes=row_bytes)
        if page.bitspersample not in _WHOLE_BYTES:
            data = _decompressed(page, data)
            return unpacked(data, np.dtype(page.dtype), bits=page.bitspersample, size_hw=size_hw, samples=samples)
        tile, _, _ = page.decode(data, index)
        decoded: NDArray[Any] = tile[0]
        return decoded


def _segment_hw(page: Any) -> tuple[int, int]:
    """(height, width) of a tile, or of a strip."""
    if page.is_tiled:
        return int(page.tilelength), int(page.tilewidth)
    return min(int(page.rowsperstrip), int(page.imagelength)), int(page.imagewidth)


def _decompressed(page: Any, data: bytes) -> bytes:
    """The bytes of packed samples."""
    if page.fillorder == _LOW_BIT_FIRST:
        data = np.packbits(np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")).tobytes()
    if page.compression == _UNCOMPRESSED:
        return data
    return bytes(tifffile.TIFF.DECOMPRESSORS[page.compression](data))


@contextmanager
def open_tiff(file: IO[bytes], name: str, file_size: int) -> Iterator[TiffImage]:
    """Open a TIFF; only its header is read here.

    Args:
        file: the file, open for reading.
        name: of the file, for messages.
        file_size: in bytes.

    Raises:
        ImageError: not a TIFF, damaged, cut off, pixels of another kind, or compressed in a way that needs another
            package.
    """
    with decoding(name):
        page = _main_page(name, tifffile.TiffFile(file))
        _check_page(name, page, file_size)
        compression = int(page.compression)
        if compression in BYTE_CODECS:
            page.compression = _UNCOMPRESSED  # tifffile gets the bytes that were decoded here
    yield TiffImage(name, page, compression)


def _main_page(name: str, tiff: tifffile.TiffFile) -> Any:
    """The first page that is a full picture: neither marked as a thumbnail or a mask, nor a small copy of another."""
    first: Any = tiff.pages[0]
    is_marked = first.is_reduced or first.is_mask
    if not is_marked and max(first.imagelength, first.imagewidth) > _THUMBNAIL_SIDE:
        return first
    others = [*(first.pages or ()), *islice(tiff.pages, 1, _MAX_PAGES)]
    full: list[Any] = [page.aspage() for page in others if not (page.aspage().is_reduced or page.aspage().is_mask)]
    larger = [page for page in full if is_marked or _is_thumbnail_of(first, page)]
    if larger:
        log.info("%s: its first page is a thumbnail; a later one is read", name)
    return larger[0] if larger else first


def _is_thumbnail_of(small: Any, page: Any) -> bool:
    """Whether a page has the same proportions at twice the size or more."""
    tall, wide = page.imagelength / small.imagelength, page.imagewidth / small.imagewidth
    return bool(min(tall, wide) >= 2 and abs(tall / wide - 1) < 0.02)


def _check_page(name: str, page: Any, file_size: int) -> None:
    """Refuse a page that cannot be read to its end, before hours of work."""
    kind, samples = _name(page.photometric), page.samplesperpixel
    if kind in _RAW_KINDS or any(tag in page.tags for tag in _RAW_TAGS):
        raise ImageError(f"{name}: a raw photograph of a camera; develop it first, and save it as JPEG, PNG or TIFF")
    is_other_ink = kind == "SEPARATED" and page.tags.valueof(_INK_SET, _CMYK_INKS) != _CMYK_INKS
    is_short = samples < _COLORS.get(kind, 1)
    if page.imagedepth != 1 or kind not in _COLORS or is_other_ink or is_short:
        raise ImageError(
            f"{name}: expected grey, bands, RGB, CMYK, LAB, YCbCr or palette colours, got {kind} of {samples} samples "
            "per pixel; convert it to RGB"
        )
    _check_samples(name, page, kind)
    _check_compression(name, page)
    _check_segments(name, page, file_size)


def _check_samples(name: str, page: Any, kind: str) -> None:
    bits = page.bitspersample
    is_number = page.dtype is not None and np.dtype(page.dtype).kind in "buif"
    is_whole = isinstance(bits, int) and (bits in _WHOLE_BYTES or page.predictor == _NO_PREDICTOR)
    is_known = is_number and is_whole and (kind not in _KINDS or _is_kept(kind, page.dtype, bits))
    if not is_known:
        raise ImageError(
            f"{name}: samples of {bits} bits ({page.dtype}) cannot be read as {kind}; convert it to 8 bits per sample"
        )


def _is_kept(kind: str, dtype: Any, bits: int) -> bool:
    """Whether colours of a kind other than bands can have these samples."""
    wide = {"PALETTE": (1, 2, 4, 8, 16), "SEPARATED": (8, 16)}.get(kind, (8,))
    return np.dtype(dtype).kind in "bu" and bits in wide


def _check_segments(name: str, page: Any, file_size: int) -> None:
    if page.is_subsampled and int(page.compression) not in PIXEL_CODECS:
        raise ImageError(f"{name}: YCbCr with reduced colour resolution is read from JPEG only; convert it to RGB")
    planes = page.samplesperpixel if page.planarconfig == _PLANES else 1
    tall, wide = _segment_hw(page)
    if not min(page.imagelength, page.imagewidth, tall, wide) > 0:
        raise ImageError(f"{name}: the image has no pixels ({page.imagewidth} x {page.imagelength}); save it again")
    if tall * wide * page.samplesperpixel * page.bitspersample // 8 > _MAX_SEGMENT:
        raise ImageError(f"{name}: its strips or tiles of {wide} x {tall} pixels are too large; {HOW_TO_TILE}")
    segments = planes * -(-page.imagelength // tall) * -(-page.imagewidth // wide)
    end = max((start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)), default=0)
    if end > file_size or len(page.dataoffsets) < segments:
        raise ImageError(
            f"{name}: the file is cut off, {file_size:,} bytes of at least {end:,}; copy or download it again"
        )


def _check_compression(name: str, page: Any) -> None:
    if int(page.compression) in PIXEL_CODECS:
        if np.dtype(page.dtype).itemsize != 1:
            raise ImageError(f"{name}: {_name(page.compression)} of {page.bitspersample} bits cannot be read; use 8")
        return
    compression = _UNCOMPRESSED if int(page.compression) in BYTE_CODECS else page.compression
    tables = tifffile.TIFF.DECOMPRESSORS, tifffile.TIFF.UNPREDICTORS
    for table, method in zip(tables, (compression, page.predictor), strict=True):
        try:
            table[method]
        except KeyError as error:
            if "imagecodecs" in str(error):
                raise ImageError(
                    f"{name}: it is compressed as {_name(method)}, which needs the package imagecodecs; "
                    "pip install imagecodecs, or save it with deflate compression"
                ) from error
            raise ImageError(f"{name}: compressed as {_name(method)}, which cannot be read; use deflate") from error


def _no_data(page: Any) -> float | None:
    """The value that GDAL declares as no data; None without one, or if a sample cannot hold it."""
    text = page.tags.valueof(_GDAL_NODATA)
    try:
        value = float(str(text).strip("\0 ")) if text is not None else None
    except ValueError:
        return None
    if value is None or np.dtype(page.dtype).kind == "f":
        return value
    return value if float(np.asarray(value).astype(page.dtype)) == value else None


def _palette(page: Any) -> NDArray[np.uint8]:
    """(2^bits, 3) uint8 RGB."""
    colors = np.asarray(page.colormap, np.uint16).reshape(3, -1).T
    return (colors >> 8).astype(np.uint8)


def _name(method: Any) -> str:
    return str(getattr(method, "name", method))
