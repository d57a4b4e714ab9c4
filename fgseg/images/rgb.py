"""Arrays and PIL images to upright (H, W, 3) uint8 RGB, by the rules of `fgseg.images.reading`."""

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fgseg._checks import describe
from fgseg._files import reason
from fgseg.errors import ImageError, ShapeError

__all__ = ["array_to_rgb", "cmyk_to_rgb", "exif_orientation", "image_to_rgb", "turn_upright"]

_ORIENTATION = 0x0112  # the EXIF tag
log = logging.getLogger("fgseg")


def image_to_rgb(image: Image.Image, name: str) -> NDArray[np.uint8]:
    """A PIL image as upright RGB; `name` is its name in messages."""
    rgb = _stored_rgb(image, name)
    # The EXIF is read after decoding: Pillow has rotated a TIFF by then, and a PNG may have its EXIF after the pixels.
    return np.ascontiguousarray(turn_upright(rgb, exif_orientation(image, name)))


def array_to_rgb(array: NDArray[Any]) -> NDArray[np.uint8]:
    """An array as RGB; an (H, W, 3) uint8 array is returned itself."""
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


def cmyk_to_rgb(cmyk: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W, 4) uint8 CMYK, where 255 is full ink, as (H, W, 3) uint8 RGB.

    >>> cmyk_to_rgb(np.uint8([[[0, 0, 0, 0], [0, 255, 255, 0], [0, 0, 0, 255]]])).tolist()
    [[[255, 255, 255], [255, 0, 0], [0, 0, 0]]]
    """
    return np.asarray(Image.fromarray(np.ascontiguousarray(cmyk), "CMYK").convert("RGB"))


def turn_upright(stored: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo an EXIF orientation, 2 to 8, by EXIF 2.32 section 4.6.4; any other value means upright."""
    if orientation in (5, 6, 7, 8):  # stored rows are columns of the picture
        stored = stored.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):  # top and bottom are exchanged
        stored = stored[::-1]
    if orientation in (2, 3, 6, 7):  # left and right are exchanged
        stored = stored[:, ::-1]
    return stored


def exif_orientation(image: Image.Image, name: str) -> int:
    """The EXIF orientation in the part of a file that was read so far; 1, upright, if there is none."""
    try:
        # Not image.getexif(), which decodes the whole picture of a PNG.
        return int(Image.Image.getexif(image).get(_ORIENTATION, 1))
    except Exception as error:  # damaged EXIF raises errors of many kinds
        log.warning("%s: its EXIF cannot be read (%s); taken as upright", name, reason(error))
        return 1


def _stored_rgb(image: Image.Image, name: str) -> NDArray[np.uint8]:
    """RGB, before its orientation is undone."""
    if image.mode.startswith("I;16"):
        return _sixteen_bit_to_rgb(image)
    if image.mode in ("I", "F"):
        return _gray_to_rgb(_thirty_two_bit_to_8_bit(np.array(image), name))
    if image.mode == "La":  # Pillow converts premultiplied grey to LA only
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
    """(H, W) 32-bit integers or floats as uint8, by the smallest of the ranges that contains them."""
    low, high = float(values.min()), float(values.max())
    if 0 <= low and high <= 1 and values.dtype.kind == "f":
        return _rounded(values * 255)
    if 0 <= low and high <= 255:
        return _rounded(values)
    if 0 <= low and high <= 65_535:
        return _high_byte(values.astype(np.uint16))
    raise ImageError(  # also for NaN, which compares false
        f"{name}: 32-bit grey from {low:g} to {high:g} fits none of the ranges [0, 1] (float), [0, 255] and "
        "[0, 65535]; rescale it to one of them"
    )


def _on_white(rgba: Image.Image) -> NDArray[np.uint8]:
    canvas = Image.new("RGB", rgba.size, (255, 255, 255))
    canvas.paste(rgba, mask=rgba.getchannel("A"))
    return np.array(canvas)


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
    """Levels that lie in [0, 255] as uint8."""
    rounded: NDArray[Any] = np.rint(levels)
    return rounded.astype(np.uint8)


def _gray_to_rgb(gray: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(gray[:, :, None], 3, axis=2)
