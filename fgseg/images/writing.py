"""Writing pictures as PNG and JPEG.

Every writer makes the parent folder, writes a temporary file beside the target and moves it into place, so that a
reader never sees half a file.
"""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fgseg._checks import check_array, check_image, check_mask, describe
from fgseg._files.writers import write_bytes
from fgseg.errors import OptionError, ShapeError

__all__ = ["encode", "encode_cutout", "encode_jpeg", "encode_png", "write_image", "write_mask_png"]

_JPEG_QUALITY = 95  # with full colour resolution, so that outlines and the text of legends stay sharp
_JPEG_MAX_SIDE = 65_500  # libjpeg's JPEG_MAX_DIMENSION


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
    return encode(Image.fromarray(image), "PNG")


def encode_jpeg(image: NDArray[np.uint8]) -> bytes:
    r"""Encode a picture as JPEG (quality 95, full colour resolution), for a web page; a fifth of the PNG's size.

    Args:
        image: (H, W, 3) uint8 RGB, at most 65,500 pixels per side.

    Returns:
        The bytes of a JPEG file.

    Raises:
        ShapeError: `image` is not an RGB image.
        OptionError: `image` is too large for JPEG.

    Example:
        >>> encode_jpeg(np.zeros((1, 1, 3), np.uint8))[:3]
        b'\xff\xd8\xff'
    """
    check_image("image", image)
    height, width, _ = image.shape
    if max(height, width) > _JPEG_MAX_SIDE:
        raise OptionError(f"image: JPEG holds {_JPEG_MAX_SIDE} pixels per side, got {width} x {height}; use PNG")
    return encode(Image.fromarray(image), "JPEG", quality=_JPEG_QUALITY, subsampling=0)


def encode_cutout(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> bytes:
    r"""Encode the part of a picture inside a mask as PNG; the rest is transparent and black.

    Args:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) bool.

    Returns:
        The bytes of a PNG file with alpha, as large as the image.

    Raises:
        ShapeError: `image` is not an RGB image, or `mask` is not a mask of its size.

    Example:
        >>> encode_cutout(np.zeros((1, 1, 3), np.uint8), np.ones((1, 1), bool))[:8]
        b'\x89PNG\r\n\x1a\n'
    """
    check_image("image", image)
    check_array("mask", mask, image.shape[:2], hint="a mask has the height and width of the image")
    check_mask("mask", mask)
    return encode(Image.fromarray(np.dstack([image * mask[..., None], mask * np.uint8(255)])), "PNG")


def write_image(path: str | Path, image: NDArray[np.uint8]) -> None:
    """Write a picture as PNG or JPEG (quality 95, full colour resolution), depending on the suffix.

    Args:
        path: a name that ends in .png, .jpg or .jpeg; its folder is made.
        image: (H, W, 3) uint8 RGB.

    Raises:
        OptionError: another suffix, or a JPEG of over 65,500 pixels per side.
        ShapeError: `image` is not an RGB image.
        OutputError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> from fgseg.images import read_image
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_image(folder + "/dot.png", np.full((1, 1, 3), 7, np.uint8))
        ...     read_image(folder + "/dot.png")
        array([[[7, 7, 7]]], dtype=uint8)
    """
    suffix = Path(path).suffix.lower()
    if suffix not in (".png", ".jpg", ".jpeg"):
        raise OptionError(f"path: expected a name that ends in .png, .jpg or .jpeg, got {str(path)!r}")
    write_bytes(path, encode_png(image) if suffix == ".png" else encode_jpeg(image))


def write_mask_png(path: str | Path, mask: NDArray[np.bool_]) -> None:
    """Write a mask as a 1-bit PNG, white where it is True.

    Args:
        path: file to write; its folder is made.
        mask: (H, W) bool.

    Raises:
        ShapeError: `mask` is not a mask, or has no pixels.
        OutputError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> from fgseg.images import read_label_png
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_mask_png(folder + "/mask.png", np.array([[True, False]]))
        ...     read_label_png(folder + "/mask.png")
        array([[1, 0]], dtype=int32)
    """
    check_mask("mask", mask)
    if not mask.size:
        raise ShapeError(f"mask: expected at least one pixel, got {describe(mask)}")
    write_bytes(path, encode(Image.fromarray(mask), "PNG"))


def encode(picture: Image.Image, file_format: str, **options: int) -> bytes:
    """The bytes of an image file that holds the picture."""
    buffer = io.BytesIO()
    picture.save(buffer, format=file_format, **options)
    return buffer.getvalue()
