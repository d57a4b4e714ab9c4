"""Reading pictures: files, arrays and PIL images to (H, W, 3) uint8 RGB.

The rules:

* EXIF rotation is applied. The first frame of an animation is read. CMYK, YCbCr, LAB, HSV, palette and 1-bit pictures
  are converted as Pillow converts them; embedded colour profiles are not used.
* Alpha, and palette entries or colours that are declared transparent, are composited on white.
* Of a TIFF, the first full page is read. Samples that are not declared as alpha are bands. The first three bands are
  red, green and blue, unless others are chosen.
* 16 bits become 8 by keeping the high byte: the whole range [0, 65535] is mapped and nothing is stretched. Floats and
  integers of 32 bits do not state their range; `fgseg.images.levels` says how it is chosen.
* NaN, GDAL's no-data value and masked elements of an array are no data. These pixels are white in the RGB.

Only plain raster formats are read. EPS would start another program (Ghostscript), and icon files decode a picture
inside themselves before its size is known. Both are refused as "not an image".
"""

from __future__ import annotations

import io
import logging
import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from fgseg._checks import check_number, describe
from fgseg._files.names import one_line, reason
from fgseg._files.opening import decoding, open_image_file
from fgseg.errors import ImageError, OptionError, ShapeError
from fgseg.images.find import ADDED_FORMATS, HOW_TO_TILE
from fgseg.images.foreign import foreign_advice, is_url
from fgseg.images.levels import check_stretch, value_range
from fgseg.images.rgb import as_array, exif_orientation, stored_array, stored_image
from fgseg.images.samples import ARRAY, RgbSource, Stored, levels_of

if TYPE_CHECKING:
    from fgseg.images.tiff import TiffImage

__all__ = [
    "MAX_PIXELS",
    "Picture",
    "open_image",
    "open_tiff_file",
    "read_image",
    "read_image_hw",
    "read_picture",
    "rgb_source",
]

MAX_PIXELS = 178_956_970
"""Pixels of the largest picture that is read by default: half a gigabyte of RGB, where Pillow's own limit lies."""

# Common formats first, because Pillow loads the plugins of rare ones when it reaches them. TGA has no signature and is
# last.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP", "AVIF", "JPEG2000", "PSD", "QOI", "TGA")

_NOT_A_FOLDER = "name a picture in it or list it with find_images"
_BYTES = "image data"  # the name of bytes in messages
_TIFF_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # and BigTIFF, in either byte order
_HEAD = 1024  # bytes that tell what a file is
log = logging.getLogger("fgseg")


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture as it was read. Pass it in place of an image.

    Attributes:
        rgb: (H, W, 3) uint8 RGB, upright; white where there is no data.
        no_data: (H, W) bool, true where there is no data; None if every pixel has data.
        source: file name, None for an array.
        settings: how it was read, for run.json: the bands and percentiles that were chosen, the stored values that
            became 0 and 255 ("levels"), and the number of pixels without data.
    """

    rgb: NDArray[np.uint8]
    no_data: NDArray[np.bool_] | None = None
    source: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        height, width, _ = self.rgb.shape
        name = "" if self.source is None else f", {self.source!r}"
        missing = "" if self.no_data is None else f", {int(self.no_data.sum())} pixels without data"
        return f"Picture({height} x {width}{name}{missing})"


def read_image(
    source: Any,
    *,
    bands: Sequence[int] | None = None,
    stretch: Sequence[float] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> NDArray[np.uint8]:
    """Read a file, an array or a PIL image as (H, W, 3) uint8 RGB, by the rules of this module.

    Args:
        source: a path; the content of an image file, as bytes or an open file; a PIL image (its current frame, with
            an EXIF rotation applied); a Picture; or an array, or what numpy reads as one. An (H, W, 3) uint8 array is
            returned itself. (H, W) or (H, W, 1) is grey, (H, W, 3) RGB and (H, W, 4) RGBA, in any real dtype.
        bands: one or three numbers of the bands to draw as grey, or as red, green and blue, counted from 1; arrays
            may then have any number of bands.
        stretch: (LOW, HIGH) percentiles of the values, which become 0 and 255.
        max_pixels: a file, bytes or PIL image with more pixels is refused before it is decoded. Arrays are not
            limited.

    Returns:
        (H, W, 3) uint8 RGB, upright. `source` is never changed.

    Raises:
        ImageError: the file is missing, a folder, unreadable, empty, not an image, damaged, too large, without
            pixels, or holds values of an unknown range.
        ShapeError: an array of another shape, dtype or range, or a source of another type.
        OptionError: `max_pixels` below 1; bands that the picture does not have; a stretch that is not two percentiles.

    Example:
        >>> read_image(np.array([[0.0, 1.0]]))
        array([[[  0,   0,   0],
                [255, 255, 255]]], dtype=uint8)
    """
    return read_picture(source, bands=bands, stretch=stretch, max_pixels=max_pixels).rgb


def read_picture(
    source: Any,
    *,
    bands: Sequence[int] | None = None,
    stretch: Sequence[float] | None = None,
    max_pixels: int = MAX_PIXELS,
    name: str | None = None,
) -> Picture:
    """Read an image with its pixels without data; arguments and errors as in `read_image`.

    Args:
        source: as in `read_image`.
        bands: as in `read_image`.
        stretch: as in `read_image`.
        max_pixels: as in `read_image`.
        name: the file that bytes come from, for messages and `Picture.source`. Its suffix tells raw photographs.

    Example:
        >>> picture = read_picture(np.array([[0.0, np.nan, 2.0]]), stretch=(0, 100))
        >>> picture.rgb[0, :, 0].tolist(), picture.no_data.tolist(), picture.settings["levels"]
        ([0, 255, 255], [[False, True, False]], [0.0, 2.0])
    """
    check_number("max_pixels", max_pixels, low=1, high=float("inf"))
    percentiles = check_stretch(stretch)
    is_plain = bands is None and percentiles is None
    if isinstance(source, Picture):
        if not is_plain:
            raise OptionError("source: a Picture has been read already; give bands and stretch when it is read")
        return source
    if type(source) is np.ndarray and is_plain and _is_rgb(source):
        return Picture(source)
    with _stored(source, bands, max_pixels, name or _BYTES) as stored:
        return _picture(rgb_source(stored, percentiles))


def read_image_hw(path: Path) -> tuple[int, int]:
    """Height and width of an image file, as `read_image` would return it.

    Only the header of a JPEG, PNG or TIFF is read, so a rotation that a PNG declares after its pixels is not seen.
    Other formats are decoded. A JPEG of 640 x 480 pixels with EXIF takes 0.08 ms; a header parser of our own took
    0.01 ms.

    Raises:
        ImageError: as `read_image`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (9, 5)).save(folder + "/a.jpg")
        ...     read_image_hw(Path(folder, "a.jpg"))
        (5, 9)
    """
    with _open_file(path) as file:
        name = one_line(path)
        if _is_tiff(file):
            with _open_tiff(file, name) as tiff:
                return tiff.image_hw
        with _open_stream(file, name, MAX_PIXELS) as image:
            if image.format not in ("JPEG", "MPO", "PNG"):
                return stored_image(image, name).image_hw
            is_sideways = exif_orientation(image, name) in (5, 6, 7, 8)
            return image.size if is_sideways else (image.height, image.width)


@contextmanager
def open_image(source: Path | bytes, name: str, max_pixels: int) -> Iterator[ImageFile.ImageFile]:
    """Open an image file with Pillow and read only its header.

    Args:
        source: the file, or its content.
        name: of the file, for messages.
        max_pixels: as in `read_image`.

    Raises:
        ImageError: as `read_image`, also for anything that goes wrong inside the block, such as decoding.
    """
    with (
        _open_file(source) if isinstance(source, Path) else _in_memory(source) as file,
        _open_stream(file, name, max_pixels) as image,
    ):
        yield image


@contextmanager
def open_tiff_file(path: str | os.PathLike[str], *, quiet: bool = False) -> Iterator[TiffImage]:
    """Open a TIFF to read it from top to bottom; only its header is read here.

    Args:
        path: the file.
        quiet: do not log that its place on the map is lost.

    Raises:
        ImageError: as `read_image`, or a file that is no TIFF.
    """
    name = one_line(path)
    with _open_file(Path(path)) as file:
        if not _is_tiff(file):
            raise ImageError(f"{name}: not a TIFF, and other formats cannot be read by region; {HOW_TO_TILE}")
        with _open_tiff(file, name) as tiff:
            if not quiet:
                _tell_place(tiff)
            yield tiff


def rgb_source(stored: Stored, stretch: tuple[float, float] | None) -> RgbSource:
    """A stored picture with the levels of its values.

    Raises:
        ImageError: values of a file that fit no known range.
        ShapeError: values of an array that fit none.
    """
    levels = levels_of(stored, stretch)
    if levels is not None:
        return RgbSource(stored, levels, stretch)
    low, high = value_range(stored.colors()) or (0.0, 0.0)
    message = (
        f"{stored.name}: values from {low:g} to {high:g} fit none of the ranges [0, 1] (floats), [0, 255] and "
        "[0, 65535]; rescale them, or map what is there by --stretch 2,98 (in Python stretch=(2, 98))"
    )
    raise ShapeError(message) if stored.name == ARRAY else ImageError(message)


def _picture(source: RgbSource) -> Picture:
    rgb, no_data = (
        parts[0] if len(parts) == 1 else np.concatenate(parts) for parts in zip(*source.rows(), strict=True)
    )
    name, missing = source.stored.name, int(no_data.sum())
    file_name = None if name in (ARRAY, _BYTES) else name
    return Picture(np.ascontiguousarray(rgb), no_data if missing else None, file_name, source.settings(missing))


@contextmanager
def _stored(source: Any, bands: Sequence[int] | None, max_pixels: int, name_of_bytes: str) -> Iterator[Stored]:
    """A source as stored samples, with the bands that were chosen."""
    if isinstance(source, Image.Image):
        name = one_line(getattr(source, "filename", "") or "PIL image")
        with _checked(source, name, max_pixels):
            yield stored_image(source, name).choosing(bands)
    elif isinstance(source, (str, os.PathLike)):
        with (
            _open_file(Path(source), source) as file,
            _stored_file(file, one_line(source), bands, max_pixels) as stored,
        ):
            yield stored
    elif (data := _content(source)) is not None:
        with _stored_file(_in_memory(data), one_line(name_of_bytes), bands, max_pixels) as stored:
            yield stored
    elif source is None or isinstance(source, (int, float, dict, set)):
        raise ShapeError(f"source: expected a path, bytes, an array or a PIL image, got {describe(source)}")
    else:
        yield stored_array(as_array(source), bands)


@contextmanager
def _stored_file(file: io.BufferedReader, name: str, bands: Sequence[int] | None, max_pixels: int) -> Iterator[Stored]:
    if _is_tiff(file):
        advice = foreign_advice(b"", name)  # raw photographs of cameras are TIFFs by their first bytes
        if advice is not None:
            raise ImageError(f"{name}: {advice}")
        with _open_tiff(file, name) as tiff:
            _check_size(tiff.image_hw, name, max_pixels)
            _tell_place(tiff)
            with _pillow_limit:
                yield tiff.stored().choosing(bands)
        return
    with _open_stream(file, name, max_pixels) as image:
        yield stored_image(image, name).choosing(bands)


def _open_tiff(file: io.BufferedReader, name: str) -> AbstractContextManager[TiffImage]:
    from fgseg.images.tiff import open_tiff  # tifffile is needed for TIFFs only

    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return open_tiff(file, name, size)


def _in_memory(data: bytes) -> io.BufferedReader:
    return io.BufferedReader(io.BytesIO(data))


def _content(source: Any) -> bytes | None:
    """Bytes, or what an open file holds from where it stands; None for anything else."""
    if isinstance(source, (bytes, bytearray)) or (isinstance(source, memoryview) and source.ndim == 1):
        return bytes(source)
    if not callable(getattr(source, "read", None)):
        return None
    try:
        data = source.read()
    except Exception as error:  # objects with a `read` of their own raise what they like
        raise ImageError(f"{_BYTES}: the open file cannot be read ({reason(error)}); give its path") from error
    if not isinstance(data, bytes):
        raise ShapeError(f"source: expected a file opened for bytes, got {describe(data)} from it; open it with 'rb'")
    return data


def _tell_place(tiff: TiffImage) -> None:
    if tiff.has_place:
        log.warning("%s: the image has a place on the map (GeoTIFF), which the results do not keep", tiff.name)


def _is_rgb(array: NDArray[Any]) -> bool:
    return array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3 and array.size > 0


def _is_tiff(file: io.BufferedReader) -> bool:
    return file.peek(4)[:4] in _TIFF_MAGICS


def _open_file(path: Path, source: Any = None) -> io.BufferedReader:
    if is_url(path if source is None else source):
        address = re.sub(r":/(?!/)", "://", str(source or path), count=1)  # a Path has one slash of two
        raise ImageError(f"{address}: web addresses are not read; download the file first (curl -LO URL)")
    return open_image_file(path, _NOT_A_FOLDER)


@contextmanager
def _open_stream(file: io.BufferedReader, name: str, max_pixels: int) -> Iterator[ImageFile.ImageFile]:
    advice = foreign_advice(file.peek(_HEAD)[:_HEAD], name)
    formats = _FORMATS if advice is None else tuple(kind for kind in ADDED_FORMATS if kind in Image.OPEN)
    with _explained(name, advice), _pillow_limit:
        if not file.peek(1):
            raise ImageError(f"{name}: the file is empty (0 bytes); copy or download it again")
        if not formats:
            raise ImageError(f"{name}: {advice}")
        with Image.open(file, formats=formats) as image, _checked(image, name, max_pixels):
            yield image


@contextmanager
def _checked(image: Image.Image, name: str, max_pixels: int) -> Iterator[None]:
    """Refuse a picture that is empty or too large; errors of decoding it inside the block become an ImageError."""
    with _explained(name), _pillow_limit:
        _check_size((image.height, image.width), name, max_pixels)
        yield


def _check_size(image_hw: tuple[int, int], name: str, max_pixels: int) -> None:
    height, width = image_hw
    if not width * height:
        raise ImageError(f"{name}: the image has no pixels ({width} x {height}); save it again")
    if width * height > max_pixels:
        # `fgseg segment` reads any size by region. A lower limit is set only by the caller.
        other = f", or {HOW_TO_TILE}, which `fgseg segment` and Segmenter.segment_large read by region"
        raise ImageError(
            f"{name}: {width} x {height} are {width * height / 1e6:.4g} megapixels, over the limit of "
            f"{max_pixels / 1e6:.5g}; shrink it{other if max_pixels >= MAX_PIXELS else ''}"
        )


@contextmanager
def _explained(name: str, advice: str | None = None) -> Iterator[None]:
    """Turn what Pillow raises into an ImageError of one line; `advice` says what a foreign file is."""
    with decoding(name):
        try:
            yield
        except UnidentifiedImageError as error:
            unknown = (
                "not an image that can be read, or one without pixels or damaged at its start; "
                f"save it as an ordinary JPEG, PNG or TIFF ({', '.join(_FORMATS)} are read)"
            )
            raise ImageError(f"{name}: {advice or unknown}") from error


class _PillowLimit:
    """Removes Pillow's own pixel limit while a picture is read, because `max_pixels` is checked instead.

    That limit is a global variable of Pillow, which warns from half of `MAX_PIXELS` on, also while decoding a TIFF.
    When several threads read at once, the first to enter removes the limit and the last to leave restores it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._readers = 0
        self._limit: int | None = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._readers:
                self._limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._readers += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._readers -= 1
            if not self._readers:
                Image.MAX_IMAGE_PIXELS = self._limit


_pillow_limit = _PillowLimit()
