"""Pictures and label maps, in and out; the one module that knows Pillow.

What a file, an array or a PIL image can hold becomes one thing, (H, W, 3) uint8 RGB, by fixed rules:

* EXIF rotation is applied; of an animation the first frame counts; CMYK, YCbCr, LAB, HSV, palette and 1-bit
  pictures are converted as Pillow does it, embedded colour profiles are not used.
* 16 bits become 8 by keeping the high byte: the whole range [0, 65535] is mapped, nothing is stretched.
  (Pillow reads 16-bit colour that way, so grey files and arrays follow.)
* Alpha, and palette entries or colours declared transparent, are laid on white.
* 32-bit grey files, integer or float, hold no statement of their range: the smallest of [0, 1] (float only),
  [0, 255] and [0, 65535] that contains every value is taken to be it; any other is refused.

Only plain raster formats are read. EPS would start another program (Ghostscript), and icon files decode a
picture inside themselves before its size is known; both count as "not an image".

Every writer makes the parent folder, writes a temporary file beside the target and moves it into place: a
reader sees the old file or the new one and never half of it.
"""

import io
import logging
import os
import threading
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, UnidentifiedImageError

from fgseg._checks import check_array, check_image, check_mask, check_number, describe
from fgseg._files import HOW_TO_TILE, IMAGE_SUFFIXES, find_images, one_line, reason, write_bytes, write_npz, write_text
from fgseg.errors import FgsegError, ImageError, OptionError, ShapeError
from fgseg.types import MAX_8_BIT_CLASSES, MAX_CLASSES, UNLABELLED

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "encode_jpeg",
    "encode_png",
    "find_images",
    "inks_to_rgb",
    "read_image",
    "read_label_png",
    "resize_bicubic",
    "resize_bilinear",
    "upright",
    "write_bytes",
    "write_image",
    "write_label_png",
    "write_mask_png",
    "write_npz",
    "write_text",
]

MAX_PIXELS = 178_956_970
"""Largest picture read by default: half a gigabyte of RGB, the size at which Pillow itself refuses."""

# Common formats first: Pillow loads rarer plugins when it gets to them. TGA has no signature and goes last.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP", "AVIF", "JPEG2000", "PSD", "QOI", "TGA")
_ORIENTATION = 0x0112  # the EXIF tag
_JPEG_QUALITY = 95  # with full colour resolution: outlines and the text of legends stay clean
_JPEG_MAX_SIDE = 65_500  # libjpeg's JPEG_MAX_DIMENSION
_BYTES = "image data"  # what messages call a source without a name
log = logging.getLogger("fgseg")


def read_image(
    source: str | os.PathLike[str] | bytes | NDArray[Any] | Image.Image, *, max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """Make (H, W, 3) uint8 RGB of a file, an array or a PIL image; the module says by which rules.

    Args:
        source: a path; what an image file holds, as bytes; a PIL image (its current frame, turned by an EXIF
            rotation it still holds); or an array: (H, W, 3) uint8 is returned itself, and (H, W) or (H, W, 1)
            grey, (H, W, 3) RGB and (H, W, 4) RGBA may be uint8, uint16 (high byte) or float in [0, 1] (times
            255, rounded).
        max_pixels: a file, bytes or PIL image with more is refused before it is decoded. Arrays are not limited.

    Returns:
        (H, W, 3) uint8 RGB, upright. `source` is never changed.

    Raises:
        ImageError: the file is missing, a folder, unreadable, empty, not an image, damaged, too large,
            without pixels, or 32-bit grey of an unknown range.
        ShapeError: an array of another shape, dtype or range, or something that is no picture.
        OptionError: `max_pixels` below 1.

    Example:
        >>> read_image(np.array([[0.0, 1.0]]))
        array([[[  0,   0,   0],
                [255, 255, 255]]], dtype=uint8)
    """
    check_number("max_pixels", max_pixels, low=1, high=float("inf"))
    if isinstance(source, np.ndarray):
        return _array_to_rgb(source)
    if isinstance(source, Image.Image):
        name = one_line(getattr(source, "filename", "") or "PIL image")
        with _checked(source, name, max_pixels) as image:
            return _upright_rgb(image, name)
    if isinstance(source, (str, os.PathLike)):
        with _opened(Path(source), max_pixels) as image:
            return _upright_rgb(image, one_line(source))
    if isinstance(source, bytes):
        with _decoding(io.BufferedReader(io.BytesIO(source)), _BYTES, max_pixels) as image:
            return _upright_rgb(image, _BYTES)
    raise ShapeError(f"source: expected a path, bytes, a numpy array or a PIL image, got {describe(source)}")


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


def encode_png(image: NDArray[np.uint8]) -> bytes:
    r"""Encode a picture as PNG, for a notebook or a web page.

    Args:
        image: (H, W, 3) uint8 RGB.

    Returns:
        The bytes of a PNG file.

    Raises:
        ShapeError: `image` is not an RGB image.

    Example:
        >>> encode_png(np.zeros((1, 1, 3), np.uint8))[:8]
        b'\x89PNG\r\n\x1a\n'
    """
    check_image("image", image)
    return _encoded(Image.fromarray(image), "PNG")


def encode_jpeg(image: NDArray[np.uint8]) -> bytes:
    r"""Encode a picture as JPEG (quality 95, full colour resolution), for a web page: a fifth of the PNG.

    Args:
        image: (H, W, 3) uint8 RGB, at most 65,500 pixels a side.

    Returns:
        The bytes of a JPEG file.

    Raises:
        ShapeError: `image` is not an RGB image.
        OptionError: it is longer than JPEG holds.

    Example:
        >>> encode_jpeg(np.zeros((1, 1, 3), np.uint8))[:3]
        b'\xff\xd8\xff'
    """
    check_image("image", image)
    height, width, _ = image.shape
    if max(height, width) > _JPEG_MAX_SIDE:
        raise OptionError(f"image: JPEG holds {_JPEG_MAX_SIDE} pixels a side, got {width} x {height}; use PNG")
    return _encoded(Image.fromarray(image), "JPEG", quality=_JPEG_QUALITY, subsampling=0)


def write_image(path: str | Path, image: NDArray[np.uint8]) -> None:
    """Write a picture as PNG or JPEG (quality 95, full colour resolution), as the suffix says.

    Args:
        path: ends in .png, .jpg or .jpeg; its folder is made.
        image: (H, W, 3) uint8 RGB.

    Raises:
        OptionError: another suffix, or a JPEG over 65,500 pixels a side.
        ShapeError: `image` is not an RGB image.
        OutputError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_image(folder + "/dot.png", np.full((1, 1, 3), 7, np.uint8))
        ...     read_image(folder + "/dot.png")
        array([[[7, 7, 7]]], dtype=uint8)
    """
    suffix = Path(path).suffix.lower()
    check_image("image", image)
    if suffix not in (".png", ".jpg", ".jpeg"):
        raise OptionError(f"path: expected a name that ends in .png, .jpg or .jpeg, got {str(path)!r}")
    write_bytes(path, encode_png(image) if suffix == ".png" else encode_jpeg(image))


def write_label_png(path: str | Path, labels: NDArray[np.integer], *, colors: Sequence[tuple[int, int, int]]) -> None:
    """Write a label map as PNG: 8-bit palette up to 254 classes, else 16-bit grey.

    Args:
        path: file to write; its folder is made.
        labels: (H, W) whole numbers, class index or -1 (`fgseg.types.UNLABELLED`).
        colors: (red, green, blue) in 0..255 of every class, in index order; they become the palette (a 16-bit
            PNG has none, and only their number counts). Unlabelled is stored as 255, black in the palette, or
            as 65535.

    Raises:
        OptionError: over 65,534 classes, or a colour that is not three whole numbers in 0..255.
        ShapeError: `labels` has other axes, no pixel, no whole numbers, or a value outside -1..len(colors)-1.
        OutputError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_label_png(folder + "/labels.png", np.array([[0, -1]]), colors=[(255, 0, 0)])
        ...     read_label_png(folder + "/labels.png")
        array([[ 0, -1]], dtype=int32)
    """
    palette = _palette(colors)
    _check_labels(labels, len(colors))
    if len(colors) <= MAX_8_BIT_CLASSES:
        picture = Image.fromarray(labels.astype(np.uint8))  # UNLABELLED, -1, becomes 255
        picture.putpalette(palette.ljust(3 * 256, b"\0"))  # whole: 255 has an entry and PNG keeps 8 bits
        # Runs of one byte are what a label map is made of.
        data = _encoded(picture, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    else:
        data = _encoded(Image.fromarray(labels.astype(np.uint16)), "PNG")  # and 65535 here
    write_bytes(path, data)


def write_mask_png(path: str | Path, mask: NDArray[np.bool_]) -> None:
    """Write a mask as a 1-bit PNG: white where it holds.

    Args:
        path: file to write; its folder is made.
        mask: (H, W) bool.

    Raises:
        ShapeError: `mask` is not a mask, or without pixels.
        OutputError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_mask_png(folder + "/mask.png", np.array([[True, False]]))
        ...     read_label_png(folder + "/mask.png")
        array([[1, 0]], dtype=int32)
    """
    check_mask("mask", mask)
    if not mask.size:
        raise ShapeError(f"mask: expected at least one pixel, got {describe(mask)}")
    write_bytes(path, _encoded(Image.fromarray(mask), "PNG"))


def read_label_png(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.int32]:
    """Read a label map: a palette PNG (the indices count, not the colours) or a grey PNG of 1 to 16 bits.

    Args:
        path: the file.
        max_pixels: a file with more is refused before it is decoded.

    Returns:
        (H, W) int32 class indices, -1 where the file holds 255 (65535 in a 16-bit file). Fewer than 8 bits
        have no unlabelled value.

    Raises:
        ImageError: as `read_image`; and a file that is not PNG, or a PNG with colours or alpha.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.fromarray(np.array([[3, 255]], np.uint8)).save(folder + "/grey.png")
        ...     read_label_png(folder + "/grey.png")
        array([[ 3, -1]], dtype=int32)
    """
    name = one_line(path)
    with _opened(Path(path), max_pixels) as image:
        if image.format != "PNG" or image.mode not in ("P", "L", "1", "I;16"):
            raise ImageError(
                f"{name}: expected a label map, a palette or grey PNG, got {image.format} with pixels of "
                f"{image.mode}; a colour picture or a lossy format does not hold class indices"
            )
        scale = _low_depth_scale(image)  # before decoding, which forgets it
        unlabelled = 65_535 if image.mode == "I;16" else 255
        stored = np.array(image).astype(np.int32)
    if scale == 1:
        stored[stored == unlabelled] = UNLABELLED
    return stored // scale


# --- reading


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
def _opened(path: Path, max_pixels: int) -> Iterator[ImageFile.ImageFile]:
    """A file's picture, its header read and its size allowed; whatever goes wrong inside is an ImageError."""
    name = one_line(path)
    with _open_file(path, name) as file, _decoding(file, name, max_pixels) as image:
        yield image


@contextmanager
def _decoding(file: io.BufferedReader, name: str, max_pixels: int) -> Iterator[ImageFile.ImageFile]:
    """The picture in an open file, as `_opened` has it."""
    with _explained(name), _pillow_limit:
        if not file.peek(1):
            raise ImageError(f"{name}: the file is empty (0 bytes); copy or download it again")
        with Image.open(file, formats=_FORMATS) as image, _checked(image, name, max_pixels):
            yield image


@contextmanager
def _checked(image: Image.Image, name: str, max_pixels: int) -> Iterator[Image.Image]:
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


def _upright_rgb(image: Image.Image, name: str) -> NDArray[np.uint8]:
    rgb = _image_to_rgb(image, name)
    # Decoded first: a TIFF turns itself then, and a PNG may have its EXIF behind the pixels.
    return np.ascontiguousarray(upright(rgb, _turned_by_exif(image, name)))


def _turned_by_exif(image: Image.Image, name: str) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception as error:  # as many kinds as there are ways to be damaged; the pixels were read
        log.warning("%s: its EXIF cannot be read (%s); taken as upright", name, reason(error))
        return 1


def inks_to_rgb(cmyk: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 4) uint8 cyan, magenta, yellow and black, 255 full ink, as (H, W, 3) uint8 RGB.

    >>> inks_to_rgb(np.uint8([[[0, 0, 0, 0], [0, 255, 255, 0], [0, 0, 0, 255]]])).tolist()
    [[[255, 255, 255], [255, 0, 0], [0, 0, 0]]]
    """
    return np.asarray(Image.fromarray(np.ascontiguousarray(cmyk), "CMYK").convert("RGB"))


def upright(stored: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo an EXIF orientation (2 to 8; anything else means upright), EXIF 2.32 section 4.6.4."""
    if orientation in (5, 6, 7, 8):  # stored rows are columns of the scene
        stored = stored.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):  # top and bottom exchanged
        stored = stored[::-1]
    if orientation in (2, 3, 6, 7):  # left and right exchanged
        stored = stored[:, ::-1]
    return stored


def _image_to_rgb(image: Image.Image, name: str) -> NDArray[np.uint8]:
    if image.mode.startswith("I;16"):
        return _sixteen_bit_to_rgb(image)
    if image.mode in ("I", "F"):
        return _gray_to_rgb(_thirty_two_bit_to_8_bit(np.array(image), name))
    if image.mode == "La":  # Pillow converts premultiplied grey to nothing else
        image = image.convert("LA")
    if image.has_transparency_data:
        return _on_white(image.convert("RGBA"))
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _sixteen_bit_to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    values = np.array(image)
    gray = _high_byte(values)
    if "transparency" in image.info:
        gray[values == image.info["transparency"]] = 255
    return _gray_to_rgb(gray)


def _thirty_two_bit_to_8_bit(values: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """(H, W) uint8 of 32-bit integers or floats, by the smallest usual range that contains them."""
    low, high = float(values.min()), float(values.max())
    if 0 <= low and high <= 1 and values.dtype.kind == "f":
        return _rounded(values * 255)
    if 0 <= low and high <= 255:
        return _rounded(values)
    if 0 <= low and high <= 65_535:
        return _high_byte(values.astype(np.uint16))
    raise ImageError(  # NaN ends here too: it compares false
        f"{name}: 32-bit grey from {low:g} to {high:g} fits none of the ranges [0, 1] (float), [0, 255] and "
        "[0, 65535]; rescale it to one of them"
    )


def _on_white(rgba: Image.Image) -> NDArray[np.uint8]:
    canvas = Image.new("RGB", rgba.size, (255, 255, 255))
    canvas.paste(rgba, mask=rgba.getchannel("A"))
    return np.array(canvas)


def _array_to_rgb(array: NDArray[Any]) -> NDArray[np.uint8]:
    channels = 1 if array.ndim == 2 else array.shape[2] if array.ndim == 3 else 0
    if channels not in (1, 3, 4) or not array.size:
        raise ShapeError(
            f"source: expected (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) with at least one pixel, "
            f"got {describe(array)}; put the colour axis last and give one picture at a time"
        )
    levels = _array_to_8_bit(array)
    if channels == 3:
        return levels
    if channels == 4:
        return _on_white(Image.fromarray(levels))
    return _gray_to_rgb(levels.reshape(array.shape[:2]))


def _array_to_8_bit(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:  # either byte order
        return _high_byte(array)
    if array.dtype.kind == "f":
        low, high = float(array.min()), float(array.max())
        if 0 <= low and high <= 1:
            return _rounded(array.astype(np.result_type(array, np.float32)) * 255)
        raise ShapeError(
            f"source: expected floats in [0, 1], got {describe(array)} from {low:g} to {high:g}; "
            "divide by the largest possible value, or cast 0..255 to uint8"
        )
    raise ShapeError(f"source: expected uint8, uint16 or float in [0, 1], got {describe(array)}; cast it to one")


def _high_byte(values: NDArray[Any]) -> NDArray[np.uint8]:
    return (values >> 8).astype(np.uint8)


def _rounded(levels: NDArray[Any]) -> NDArray[np.uint8]:
    """Levels known to lie in [0, 255] as uint8."""
    rounded: NDArray[Any] = np.rint(levels)
    return rounded.astype(np.uint8)


def _gray_to_rgb(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(gray[:, :, None], 3, axis=2)


def _low_depth_scale(image: ImageFile.ImageFile) -> int:
    """The factor by which Pillow spreads a grey PNG of 2 or 4 bits over 8; 1 for any other PNG."""
    rawmode = image.tile[0].args if image.tile else ""
    return {"L;2": 255 // 3, "L;4": 255 // 15}.get(str(rawmode), 1)


# --- writing


def _encoded(picture: Image.Image, file_format: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=file_format, **options)
    return buffer.getvalue()


def _check_labels(labels: Any, num_classes: int) -> None:
    check_array("labels", labels, ("H", "W"))
    if not isinstance(labels, np.ndarray) or labels.dtype.kind not in "iu" or not labels.size:
        raise ShapeError(
            "labels: expected a numpy array of whole numbers with at least one pixel, got "
            f"{describe(labels)}; cast class indices to int32"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < UNLABELLED or high >= num_classes:
        raise ShapeError(
            f"labels: expected values from {UNLABELLED} to {num_classes - 1}, got {low} to {high}; "
            "give a color for every class"
        )


def _palette(colors: Sequence[tuple[int, int, int]]) -> bytes:
    if len(colors) > MAX_CLASSES:
        raise OptionError(
            f"colors: a 16-bit PNG holds {MAX_CLASSES} classes, got {len(colors)}; split them or save an npz"
        )
    for color in colors:
        if len(color) != 3 or not all(isinstance(v, (int, np.integer)) and 0 <= v <= 255 for v in color):
            raise OptionError(f"colors: expected (red, green, blue), whole numbers from 0 to 255, got {color!r}")
    return bytes(int(level) for color in colors for level in color)


def _resize(image: NDArray[np.uint8], image_hw: tuple[int, int], how: Image.Resampling) -> NDArray[np.uint8]:
    check_image("image", image)
    if len(image_hw) != 2 or not all(isinstance(side, (int, np.integer)) and side >= 1 for side in image_hw):
        raise OptionError(
            f"image_hw: expected (height, width), whole numbers from 1 on, got {image_hw!r}; round them first"
        )
    height, width = (int(side) for side in image_hw)
    return np.array(Image.fromarray(image).resize((width, height), how))  # Pillow wants (W, H)
