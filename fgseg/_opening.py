"""Pictures opened safely: a size allowed before anything is decoded, and one clear error whatever is wrong.

Only plain raster formats are read. EPS would start another program (Ghostscript), and icon files decode a picture
inside themselves before its size is known; both count as "not an image".
"""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageFile, UnidentifiedImageError

from fgseg._files import HOW_TO_TILE, one_line, reason
from fgseg.errors import FgsegError, ImageError

__all__ = ["MAX_PIXELS", "checked", "decoding", "opened"]

MAX_PIXELS = 178_956_970
"""Largest picture read by default: half a gigabyte of RGB, the size at which Pillow itself refuses."""

# Common formats first: Pillow loads rarer plugins when it gets to them. TGA has no signature and goes last.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP", "AVIF", "JPEG2000", "PSD", "QOI", "TGA")


class _PillowLimit:
    """Lifts Pillow's own pixel limit while a picture is read, because `max_pixels` was checked instead.

    That limit is one global of Pillow's, which warns from half of `MAX_PIXELS` on, while decoding a TIFF too.
    Several threads may read at once: the first one in takes it away and the last one out puts it back.
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


@contextmanager
def opened(path: Path, max_pixels: int) -> Iterator[ImageFile.ImageFile]:
    """A file's picture, its header read and its size allowed; whatever goes wrong inside is an ImageError."""
    name = one_line(path)
    with _open_file(path, name) as file, decoding(file, name, max_pixels) as image:
        yield image


@contextmanager
def decoding(file: io.BufferedReader, name: str, max_pixels: int) -> Iterator[ImageFile.ImageFile]:
    """The picture in an open file, as `opened` has it."""
    with _explained(name), _pillow_limit:
        if not file.peek(1):
            raise ImageError(f"{name}: the file is empty (0 bytes); copy or download it again")
        with Image.open(file, formats=_FORMATS) as image, checked(image, name, max_pixels):
            yield image


@contextmanager
def checked(image: Image.Image, name: str, max_pixels: int) -> Iterator[Image.Image]:
    """A picture of allowed size, to be decoded inside; whatever goes wrong there is an ImageError."""
    with _explained(name), _pillow_limit:
        width, height = image.size
        if not width * height:
            raise ImageError(f"{name}: the image has no pixels ({width} x {height}); save it again")
        if width * height > max_pixels:
            # Below the usual limit, which only a caller sets, no file is too large for `fgseg segment`.
            other = f", or {HOW_TO_TILE}, which `fgseg segment` and Segmenter.segment_large read by region"
            raise ImageError(
                f"{name}: {width} x {height} are {width * height / 1e6:.4g} megapixels, over the limit of "
                f"{max_pixels / 1e6:.5g}; shrink it{other if max_pixels >= MAX_PIXELS else ''}"
            )
        yield image


def _open_file(path: Path, name: str) -> io.BufferedReader:
    try:
        return path.open("rb")
    except FileNotFoundError as error:
        raise ImageError(f"{name}: there is no such file; check the path") from error
    except IsADirectoryError as error:
        raise ImageError(
            f"{name}: this is a folder, not a file; name a picture in it or list it with find_images"
        ) from error
    except PermissionError as error:
        raise ImageError(f"{name}: no permission to read it; check the rights of the file and its folder") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise ImageError(f"{name}: cannot be opened ({reason(error)}); check the path") from error


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
