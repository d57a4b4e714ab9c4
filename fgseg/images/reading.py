"""Reading pictures: files, arrays and PIL images to (H, W, 3) uint8 RGB.

The rules:

* EXIF rotation is applied. The first frame of an animation is read. CMYK, YCbCr, LAB, HSV, palette and 1-bit pictures
  are converted as Pillow converts them; embedded colour profiles are not used.
* 16 bits become 8 by keeping the high byte: the whole range [0, 65535] is mapped and nothing is stretched.
  (Pillow reads 16-bit colour that way, so grey files and arrays follow.)
* Alpha, and palette entries or colours that are declared transparent, are composited on white.
* 32-bit grey files, integer or float, do not state their range. The smallest of [0, 1] (float only), [0, 255] and
  [0, 65535] that contains every value is taken; other values are refused.

Only plain raster formats are read. EPS would start another program (Ghostscript), and icon files decode a picture
inside themselves before its size is known. Both are refused as "not an image".
"""

import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from fgseg._checks import check_number, describe
from fgseg._files import one_line, open_image_file, reason
from fgseg.errors import FgsegError, ImageError, ShapeError
from fgseg.images.find import HOW_TO_TILE
from fgseg.images.rgb import array_to_rgb, exif_orientation, image_to_rgb

__all__ = ["MAX_PIXELS", "open_image", "read_image", "read_image_hw"]

MAX_PIXELS = 178_956_970
"""Pixels of the largest picture that is read by default: half a gigabyte of RGB, where Pillow's own limit lies."""

# Common formats first, because Pillow loads the plugins of rare ones when it reaches them. TGA has no signature and is
# last.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP", "AVIF", "JPEG2000", "PSD", "QOI", "TGA")
_NOT_A_FOLDER = "name a picture in it or list it with find_images"
_BYTES = "image data"  # the name of bytes in messages


def read_image(
    source: str | os.PathLike[str] | bytes | NDArray[Any] | Image.Image, *, max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """Read a file, an array or a PIL image as (H, W, 3) uint8 RGB, by the rules of this module.

    Args:
        source: a path; the content of an image file, as bytes; a PIL image (its current frame, with an EXIF
            rotation applied); or an array. An (H, W, 3) uint8 array is returned itself. (H, W) or (H, W, 1) grey,
            (H, W, 3) RGB and (H, W, 4) RGBA may be uint8, uint16 (high byte) or float in [0, 1] (times 255,
            rounded).
        max_pixels: a file, bytes or PIL image with more pixels is refused before it is decoded. Arrays are not
            limited.

    Returns:
        (H, W, 3) uint8 RGB, upright. `source` is never changed.

    Raises:
        ImageError: the file is missing, a folder, unreadable, empty, not an image, damaged, too large,
            without pixels, or 32-bit grey of an unknown range.
        ShapeError: an array of another shape, dtype or range, or a source of another type.
        OptionError: `max_pixels` below 1.

    Example:
        >>> read_image(np.array([[0.0, 1.0]]))
        array([[[  0,   0,   0],
                [255, 255, 255]]], dtype=uint8)
    """
    check_number("max_pixels", max_pixels, low=1, high=float("inf"))
    if isinstance(source, np.ndarray):
        return array_to_rgb(source)
    if isinstance(source, Image.Image):
        name = one_line(getattr(source, "filename", "") or "PIL image")
        with _checked(source, name, max_pixels):
            return image_to_rgb(source, name)
    if isinstance(source, (str, os.PathLike)):
        with open_image(Path(source), max_pixels) as image:
            return image_to_rgb(image, one_line(source))
    if isinstance(source, bytes):
        with _open_stream(io.BufferedReader(io.BytesIO(source)), _BYTES, max_pixels) as image:
            return image_to_rgb(image, _BYTES)
    raise ShapeError(f"source: expected a path, bytes, a numpy array or a PIL image, got {describe(source)}")


def read_image_hw(path: Path) -> tuple[int, int]:
    """Height and width of an image file, as `read_image` would return it.

    Only the header of a JPEG or PNG is read, so a rotation that a PNG declares after its pixels is not seen. Other
    formats are decoded. A JPEG of 640 x 480 pixels with EXIF takes 0.08 ms; a header parser of our own took 0.01 ms.

    Raises:
        ImageError: as `read_image`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.new("RGB", (9, 5)).save(folder + "/a.jpg")
        ...     read_image_hw(Path(folder, "a.jpg"))
        (5, 9)
    """
    with open_image(path, MAX_PIXELS) as image:
        name = one_line(path)
        if image.format not in ("JPEG", "MPO", "PNG"):
            height, width, _ = image_to_rgb(image, name).shape
            return height, width
        is_sideways = exif_orientation(image, name) in (5, 6, 7, 8)
        return image.size if is_sideways else (image.height, image.width)


@contextmanager
def open_image(path: Path, max_pixels: int) -> Iterator[ImageFile.ImageFile]:
    """Open an image file and read only its header.

    Raises:
        ImageError: as `read_image`, also for anything that goes wrong inside the block, such as decoding.
    """
    with open_image_file(path, _NOT_A_FOLDER) as file, _open_stream(file, one_line(path), max_pixels) as image:
        yield image


@contextmanager
def _open_stream(file: io.BufferedReader, name: str, max_pixels: int) -> Iterator[ImageFile.ImageFile]:
    with _explained(name), _pillow_limit:
        if not file.peek(1):
            raise ImageError(f"{name}: the file is empty (0 bytes); copy or download it again")
        with Image.open(file, formats=_FORMATS) as image, _checked(image, name, max_pixels):
            yield image


@contextmanager
def _checked(image: Image.Image, name: str, max_pixels: int) -> Iterator[None]:
    """Refuse a picture that is empty or too large; errors of decoding it inside the block become an ImageError."""
    with _explained(name), _pillow_limit:
        width, height = image.size
        if not width * height:
            raise ImageError(f"{name}: the image has no pixels ({width} x {height}); save it again")
        if width * height > max_pixels:
            # `fgseg segment` reads any size by region. A lower limit is set only by the caller.
            other = f", or {HOW_TO_TILE}, which `fgseg segment` and Segmenter.segment_large read by region"
            raise ImageError(
                f"{name}: {width} x {height} are {width * height / 1e6:.4g} megapixels, over the limit of "
                f"{max_pixels / 1e6:.5g}; shrink it{other if max_pixels >= MAX_PIXELS else ''}"
            )
        yield


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn what Pillow raises into an ImageError of one line."""
    try:
        yield
    except FgsegError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{name}: not an image that can be read, or one without pixels or damaged at its start; "
            f"save it as an ordinary JPEG, PNG or TIFF ({', '.join(_FORMATS)} are read)"
        ) from error
    except MemoryError as error:
        raise ImageError(f"{name}: too large for the memory of this machine; shrink it or cut it") from error
    # Plugins raise OSError, SyntaxError, ValueError, struct.error, EOFError, zlib.error, KeyError and others.
    except Exception as error:
        raise ImageError(
            f"{name}: the image data is truncated or damaged ({reason(error)}); copy it or save it again"
        ) from error


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
