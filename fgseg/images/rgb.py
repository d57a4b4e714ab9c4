"""Arrays and PIL images as stored samples, and the orientation of pictures."""

import logging
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fgseg._checks import describe
from fgseg._files.names import reason
from fgseg.errors import ShapeError
from fgseg.images.samples import ARRAY, Layout, Stored, on_white

__all__ = ["as_array", "exif_orientation", "stored_array", "stored_image", "turn_upright"]

_ORIENTATION = 0x0112  # the EXIF tag
_OPAQUE = 65_535
log = logging.getLogger("fgseg")


def as_array(source: Any) -> NDArray[Any]:
    """Anything that numpy can read as an array: a matrix, a tensor on any device, a table, nested lists.

    A masked array keeps its mask.

    Raises:
        ShapeError: numpy cannot read it.
    """
    if isinstance(source, np.ma.MaskedArray):
        return source
    try:
        # Tensors that need gradients or lie on a GPU do not convert themselves.
        return np.asarray(source.detach().cpu() if hasattr(source, "detach") else source)
    except Exception as error:  # libraries raise many kinds of errors
        raise ShapeError(f"source: {describe(source)} is no array of numbers ({reason(error)}); convert it") from error


def stored_array(array: NDArray[Any], bands: Sequence[int] | None) -> Stored:
    """An array as stored samples: (H, W) or (H, W, 1) grey, (H, W, 3) RGB, (H, W, 4) RGBA; with `bands` (H, W, S).

    Raises:
        ShapeError: another shape, or an array of something else than numbers.
        OptionError: band numbers that the array does not have.
    """
    samples = array[:, :, None] if array.ndim == 2 else array
    if samples.ndim != 3 or not array.size or (bands is None and samples.shape[2] not in (1, 3, 4)):
        raise ShapeError(
            f"source: expected (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) with at least one pixel, "
            f"got {describe(array)}; put the colour axis last, give one picture at a time, and choose among more "
            "bands by read_picture(..., bands=(3, 2, 1))"
        )
    if array.dtype.kind not in "buif":
        raise ShapeError(f"source: expected whole numbers, floats or bool, got {describe(array)}; convert it")
    return _stored(ARRAY, samples, has_alpha=bands is None and samples.shape[2] == 4).choosing(bands)


def stored_image(image: Image.Image, name: str) -> Stored:
    """A PIL image as upright samples; `name` is its name in messages.

    Grey of 16 and 32 bits keeps its values, and so does colour of 16 bits in a PNG file. Everything else is RGB of
    8 bits, by Pillow's conversions, laid on white.
    """
    samples = _samples(image)
    # The EXIF is read after decoding: a PNG may have its EXIF after the pixels.
    upright = np.ascontiguousarray(turn_upright(samples, exif_orientation(image, name)))
    return _stored(name, upright, has_alpha=upright.shape[2] in (2, 4))


def _stored(name: str, samples: NDArray[Any], *, has_alpha: bool) -> Stored:
    """An (H, W, S) array; its last samples are opacity if it has alpha."""
    height, width, count = samples.shape
    bits = 1 if samples.dtype.kind == "b" else 8 * samples.dtype.itemsize
    layout = Layout("bands", tuple(range(count - has_alpha)), bits, alpha=count - 1 if has_alpha else None)
    return Stored(name, (height, width), samples.dtype, count, layout, lambda: iter((samples,)))


def turn_upright(stored: NDArray[Any], orientation: int) -> NDArray[Any]:
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


def _samples(image: Image.Image) -> NDArray[Any]:
    """(H, W, S) samples of a picture, before its orientation is undone."""
    if image.mode.startswith("I;16"):
        return _sixteen_bit_gray(image)
    if image.mode in ("I", "F"):
        return np.array(image)[:, :, None]
    if _is_wide_png(image):
        return _sixteen_bit_colors(image)
    if image.mode == "La":  # Pillow converts premultiplied grey to LA only
        image = image.convert("LA")
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        return on_white(np.ascontiguousarray(rgba[:, :, :3]), np.ascontiguousarray(rgba[:, :, 3]))
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _sixteen_bit_gray(image: Image.Image) -> NDArray[np.uint16]:
    values = np.array(image).astype(np.uint16)[:, :, None]
    if "transparency" not in image.info:
        return values
    alpha = np.where(values == image.info["transparency"], 0, _OPAQUE).astype(np.uint16)
    return np.concatenate([values, alpha], axis=2)


def _is_wide_png(image: Image.Image) -> bool:
    """Whether Pillow would drop the low bytes of a PNG's colours."""
    tiles: list[Any] = getattr(image, "tile", [])
    is_wide = image.format == "PNG" and bool(tiles) and tiles[0].args in ("RGB;16B", "RGBA;16B")
    return is_wide and "transparency" not in image.info and getattr(image, "fp", None) is not None


def _sixteen_bit_colors(image: Image.Image) -> NDArray[np.uint16]:
    """(H, W, 3 or 4) uint16 of a PNG file, which OpenCV reads."""
    file: Any = image.fp  # type: ignore[attr-defined]
    start = file.tell()
    file.seek(0)
    data = np.frombuffer(file.read(), np.uint8)
    file.seek(start)
    image.load()  # reports damage, which OpenCV would only log
    stored = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    assert stored is not None
    order = [2, 1, 0, 3] if stored.shape[2] == 4 else [2, 1, 0]
    return np.ascontiguousarray(stored[:, :, order])
