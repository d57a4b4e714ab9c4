"""Pictures and label maps, in and out.

What a file, an array or a PIL image can hold becomes one thing, (H, W, 3) uint8 RGB, by fixed rules:

* EXIF rotation is applied; of an animation the first frame counts; CMYK, YCbCr, LAB, HSV, palette and 1-bit
  pictures are converted as Pillow does it, embedded colour profiles are not used.
* 16 bits become 8 by keeping the high byte: the whole range [0, 65535] is mapped, nothing is stretched.
  (Pillow reads 16-bit colour that way, so grey files and arrays follow.)
* Alpha, and palette entries or colours declared transparent, are laid on white.
* 32-bit grey files, integer or float, hold no statement of their range: the smallest of [0, 1] (float only),
  [0, 255] and [0, 65535] that contains every value is taken to be it; any other is refused.

Every writer makes the parent folder, writes a temporary file beside the target and moves it into place: a
reader sees the old file or the new one and never half of it.
"""

import io
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from fgseg._checks import check_array, check_image, check_mask, check_number, describe
from fgseg._files import IMAGE_SUFFIXES, find_images, one_line, write_bytes, write_npz, write_text
from fgseg._opening import MAX_PIXELS, checked, decoding, opened
from fgseg._to_rgb import array_to_rgb, image_to_rgb
from fgseg.errors import ImageError, OptionError, ShapeError
from fgseg.types import MAX_8_BIT_CLASSES, MAX_CLASSES, UNLABELLED

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "encode_jpeg",
    "encode_png",
    "find_images",
    "read_image",
    "read_label_png",
    "resize_bicubic",
    "resize_bilinear",
    "write_bytes",
    "write_image",
    "write_label_png",
    "write_mask_png",
    "write_npz",
    "write_text",
]

_JPEG_QUALITY = 95  # with full colour resolution: outlines and the text of legends stay clean
_JPEG_MAX_SIDE = 65_500  # libjpeg's JPEG_MAX_DIMENSION
_BYTES = "image data"  # what messages call a source without a name


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
        return array_to_rgb(source)
    if isinstance(source, Image.Image):
        name = one_line(getattr(source, "filename", "") or "PIL image")
        with checked(source, name, max_pixels) as image:
            return image_to_rgb(image, name)
    if isinstance(source, (str, os.PathLike)):
        with opened(Path(source), max_pixels) as image:
            return image_to_rgb(image, one_line(source))
    if isinstance(source, bytes):
        with decoding(io.BufferedReader(io.BytesIO(source)), _BYTES, max_pixels) as image:
            return image_to_rgb(image, _BYTES)
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
    with opened(Path(path), max_pixels) as image:
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
