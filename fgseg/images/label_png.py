"""Label maps as PNG files, in 8 or 16 bits; those that `fgseg segment` writes as TIFF are read too."""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, TiffImagePlugin

from fgseg._checks import check_array, check_color, check_integers, describe
from fgseg._files.names import one_line
from fgseg._files.writers import write_bytes
from fgseg.errors import ImageError, OptionError, ShapeError
from fgseg.images.reading import MAX_PIXELS, open_image
from fgseg.images.writing import encode
from fgseg.types import MAX_8_BIT_CLASSES, MAX_CLASSES, UNLABELLED

__all__ = [
    "decode_label_png",
    "encode_label_png",
    "label_png_hw",
    "read_label_png",
    "read_stored_values",
    "write_label_png",
]

_MODES = ("1", "L", "P", "I;16")  # Pillow's names for grey levels of 1 to 16 bits and palette indices
_PHOTOMETRIC, _BLACK_IS_ZERO, _PALETTE = 262, 1, 3  # TIFF 6.0: in the other kinds values are levels of a picture


def write_label_png(path: str | Path, labels: NDArray[np.integer], *, colors: Sequence[tuple[int, int, int]]) -> None:
    """Write a label map as PNG, an 8-bit palette PNG up to 254 classes, else 16-bit grey.

    Args:
        path: file to write; its folder is made.
        labels: (H, W) integers, class index or -1 (`fgseg.UNLABELLED`).
        colors: (red, green, blue) in 0..255 of every class, in index order; they become the palette. A 16-bit PNG
            has no palette, and only the number of colors counts. Unlabelled is stored as 255, black in the palette,
            or as 65535.

    Raises:
        OptionError: over 65,534 classes, or a color that is not three whole numbers in 0..255.
        ShapeError: `labels` has other axes, no pixel, another dtype, or a value outside -1..len(colors)-1.
        OutputError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_label_png(folder + "/labels.png", np.array([[0, -1]]), colors=[(255, 0, 0)])
        ...     read_label_png(folder + "/labels.png")
        array([[ 0, -1]], dtype=int32)
    """
    write_bytes(path, encode_label_png(labels, colors=colors))


def encode_label_png(labels: NDArray[np.integer], *, colors: Sequence[tuple[int, int, int]]) -> bytes:
    """Encode a label map as PNG; arguments and errors as in `write_label_png`.

    Returns:
        The bytes of the file.

    Example:
        >>> decode_label_png(encode_label_png(np.array([[0, -1]]), colors=[(255, 0, 0)]), name="labels")
        array([[ 0, -1]], dtype=int32)
    """
    palette = _palette(colors)
    _check_labels(labels, len(colors))
    if len(colors) > MAX_8_BIT_CLASSES:
        return encode(Image.fromarray(labels.astype(np.uint16)), "PNG")  # UNLABELLED becomes 65535
    picture = Image.fromarray(labels.astype(np.uint8))  # UNLABELLED, -1, becomes 255
    picture.putpalette(palette.ljust(3 * 256, b"\0"))  # all 256 entries, so that PNG keeps 8 bits
    # A label map consists of runs of one byte.
    return encode(picture, "PNG", compress_level=1, compress_type=zlib.Z_RLE)


def read_label_png(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.int32]:
    """Read a label map: a palette PNG (its indices, not its colours) or a grey PNG of 1 to 16 bits, or such a TIFF.

    Args:
        path: the file.
        max_pixels: a file with more pixels is refused before it is decoded.

    Returns:
        (H, W) int32 class indices, -1 where the file holds 255 (65535 in a 16-bit file). A file of fewer
        than 8 bits has no unlabelled value.

    Raises:
        ImageError: as `read_image`; also a file that is neither PNG nor TIFF, or one with colours or alpha.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Image.fromarray(np.array([[3, 255]], np.uint8)).save(folder + "/grey.png")
        ...     read_label_png(folder + "/grey.png")
        array([[ 3, -1]], dtype=int32)
    """
    return _with_unlabelled(*read_stored_values(path, max_pixels=max_pixels))


def decode_label_png(data: bytes, *, name: str, max_pixels: int = MAX_PIXELS) -> NDArray[np.int32]:
    """Read the bytes of a label map; as `read_label_png`.

    Args:
        data: the content of the file.
        name: of the file, for messages.
        max_pixels: as in `read_label_png`.

    Returns:
        As `read_label_png`.

    Raises:
        ImageError: as `read_label_png`.
    """
    with _open_label_png(data, name, max_pixels) as image:
        return _with_unlabelled(*_stored_values(image))


def read_stored_values(path: str | Path, *, max_pixels: int = MAX_PIXELS) -> tuple[NDArray[np.int32], int]:
    """The values of a label map as its file stores them, and the value of an unlabelled pixel there.

    Args:
        path: as `read_label_png`.
        max_pixels: as `read_label_png`.

    Returns:
        (H, W) int32 palette indices or grey levels, and 255, or 65535 for a 16-bit file.

    Raises:
        ImageError: as `read_label_png`.
    """
    with _open_label_png(Path(path), one_line(path), max_pixels) as image:
        return _stored_values(image)


def label_png_hw(path: str | Path) -> tuple[int, int]:
    """Height and width of a label map, from its header.

    Raises:
        ImageError: as `read_label_png`, except that damaged pixels are not noticed.
    """
    with _open_label_png(Path(path), one_line(path), MAX_PIXELS) as image:
        return image.height, image.width


@contextmanager
def _open_label_png(source: Path | bytes, name: str, max_pixels: int) -> Iterator[ImageFile.ImageFile]:
    with open_image(source, name, max_pixels) as image:
        if not _holds_labels(image):
            raise ImageError(
                f"{name}: expected a label map, a palette or grey PNG, got {image.format} with pixels of "
                f"{image.mode}; a colour picture or a lossy format does not hold class indices, so write the "
                "palette's indices (mode P or L) to a PNG and not their colours"
            )
        yield image


def _stored_values(image: ImageFile.ImageFile) -> tuple[NDArray[np.int32], int]:
    """The values of the pixels, and that of an unlabelled pixel."""
    scale = _low_depth_scale(image)  # before decoding, after which Pillow does not know it
    unlabelled = 65_535 if image.mode == "I;16" else 255
    return np.array(image).astype(np.int32) // scale, unlabelled


def _with_unlabelled(stored: NDArray[np.int32], unlabelled: int) -> NDArray[np.int32]:
    stored[stored == unlabelled] = UNLABELLED
    return stored


def _holds_labels(image: ImageFile.ImageFile) -> bool:
    if image.mode not in _MODES:
        return False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return image.tag_v2.get(_PHOTOMETRIC) in (_BLACK_IS_ZERO, _PALETTE)
    return image.format == "PNG"


def _low_depth_scale(image: ImageFile.ImageFile) -> int:
    """The factor by which Pillow spreads a grey file of 2 or 4 bits over 8; 1 for any other file."""
    rawmode = image.tile[0].args if image.tile else ""
    return {"L;2": 255 // 3, "L;4": 255 // 15}.get(str(rawmode), 1)


def _check_labels(labels: NDArray[np.integer], num_classes: int) -> None:
    check_array("labels", labels, ("H", "W"))
    check_integers(
        "labels", labels, low=UNLABELLED, high=num_classes - 1, hint="give class indices, and a color for every class"
    )
    if not labels.size:
        raise ShapeError(f"labels: expected at least one pixel, got {describe(labels)}")


def _palette(colors: Sequence[tuple[int, int, int]]) -> bytes:
    if len(colors) > MAX_CLASSES:
        raise OptionError(
            f"colors: a 16-bit PNG holds {MAX_CLASSES} classes, got {len(colors)}; split them or save an npz"
        )
    for color in colors:
        check_color("colors", color)
    return bytes(int(level) for color in colors for level in color)
