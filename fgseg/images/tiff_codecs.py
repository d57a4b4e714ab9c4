"""Compressed strips and tiles of a TIFF that tifffile decodes only with the package imagecodecs, by Pillow instead.

Pillow includes libtiff, which decodes a file but not a part of it. So each strip or tile is laid into a small TIFF in
memory that has one strip. For LZW, whose output is bytes, that file has one grey pixel per byte.
"""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["BYTE_CODECS", "PIXEL_CODECS", "decoded_bytes", "decoded_pixels", "unpacked"]

_LZW, _ZSTD, _JPEG, _WEBP = 5, 50000, 7, 50001
_FAX = (2, 3, 4)
_JPEG_2000 = (33003, 33005, 34712)  # the first two are Aperio's; the first holds YCbCr
_APERIO_YCBCR = 33003

BYTE_CODECS = frozenset({_LZW, _ZSTD})
"""Values of the tag Compression whose output is the bytes of the samples, before a predictor is undone."""
PIXEL_CODECS = frozenset({_JPEG, _WEBP, *_FAX, *_JPEG_2000})
"""Values of the tag Compression whose output is pixels; JPEG's YCbCr becomes RGB."""

# TIFF tags
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_OFFSETS, _SAMPLES, _ROWS, _BYTE_COUNTS = 273, 277, 278, 279
_T4_OPTIONS, _T6_OPTIONS, _JPEG_TABLES, _SUBSAMPLING = 292, 293, 347, 530
_BLACK_IS_ZERO = 1
_LONG, _UNDEFINED = 4, 7  # types of tags


def decoded_bytes(data: bytes, compression: int, *, rows: int, row_bytes: int) -> bytes:
    """Decode a strip or tile of BYTE_CODECS.

    Args:
        data: the compressed bytes.
        compression: value of the tag.
        rows: number of rows in the strip or tile.
        row_bytes: number of bytes in a row of samples.

    Raises:
        OSError: damaged data.
    """
    tags = {_WIDTH: row_bytes, _HEIGHT: rows, _BITS: 8, _COMPRESSION: compression, _PHOTOMETRIC: _BLACK_IS_ZERO}
    return _decoded({**tags, _SAMPLES: 1, _ROWS: rows}, data).tobytes()


def decoded_pixels(data: bytes, page: Any, compression: int, size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Decode a strip or tile of PIXEL_CODECS.

    Args:
        data: the compressed bytes.
        page: tifffile's page, for its tags.
        compression: value of the tag.
        size_hw: (height, width) of the strip or tile in pixels.

    Returns:
        (h, w, S) uint8; 0 and 1 for a fax.

    Raises:
        OSError: damaged data.
    """
    if compression in _JPEG_2000:
        image: Image.Image = Image.open(io.BytesIO(data), formats=("JPEG2000",))
        if compression == _APERIO_YCBCR and image.mode == "RGB":
            image = Image.frombytes("YCbCr", image.size, image.tobytes()).convert("RGB")
        return _with_axis(image)
    if compression == _WEBP:
        return _with_axis(Image.open(io.BytesIO(data), formats=("WEBP",)))
    samples = 1 if page.planarconfig == 2 else page.samplesperpixel
    tags: dict[int, Any] = {
        _WIDTH: size_hw[1], _HEIGHT: size_hw[0], _BITS: (page.bitspersample,) * samples, _COMPRESSION: compression,
        _PHOTOMETRIC: int(page.photometric), _SAMPLES: samples, _ROWS: size_hw[0],
    }  # fmt: skip
    if samples == 1:  # otherwise Pillow would turn white to 0
        tags[_PHOTOMETRIC] = _BLACK_IS_ZERO
    for tag in (_FILL_ORDER, _T4_OPTIONS, _T6_OPTIONS, _JPEG_TABLES, _SUBSAMPLING):
        value = page.tags.valueof(tag)
        if value is not None:
            tags[tag] = value
    return _with_axis(_decoded(tags, data))


def unpacked(data: bytes, dtype: np.dtype[Any], *, bits: int, size_hw: tuple[int, int], samples: int) -> NDArray[Any]:
    r"""Integers that are stored without gaps, as an (h, w, samples) array; each row starts at a byte.

    >>> unpacked(b"\x12\x30", np.dtype(np.uint8), bits=4, size_hw=(1, 3), samples=1)[0, :, 0].tolist()
    [1, 2, 3]
    """
    (height, width), in_a_row = size_hw, size_hw[1] * samples
    row_bytes = -(-in_a_row * bits // 8)
    rows = np.frombuffer(data, np.uint8, height * row_bytes).reshape(height, row_bytes)
    digits = np.unpackbits(rows, axis=1)[:, : in_a_row * bits].reshape(height, in_a_row, bits)
    values = np.zeros((height, in_a_row), np.uint64)
    for digit in range(bits):
        values = (values << np.uint64(1)) | digits[:, :, digit]
    return values.astype(dtype).reshape(height, width, samples)


def _decoded(tags: dict[int, Any], data: bytes) -> Image.Image:
    """The picture of a TIFF that is built from these tags and one strip of data."""
    image = Image.open(io.BytesIO(_tiff(tags, data)), formats=("TIFF",))
    image.load()
    return image


def _tiff(tags: dict[int, Any], data: bytes) -> bytes:
    """A little-endian TIFF with one directory and one strip; TIFF 6.0, section 2.

    Not Pillow's `ImageFileDirectory_v2`, which takes 0.49 ms for each tile where this takes 0.04 ms.
    """
    tags = dict(sorted({**tags, _OFFSETS: 0, _BYTE_COUNTS: len(data)}.items()))
    values_at = 8 + 2 + 12 * len(tags) + 4  # after the header, the number of entries, the entries and the next offset
    size = sum(len(value) for value in map(_packed, tags.values()) if len(value) > 4)
    tags[_OFFSETS] = values_at + size
    entries, values = b"", b""
    for tag, value in tags.items():
        packed = _packed(value)
        kind, count = (_UNDEFINED, len(packed)) if isinstance(value, bytes) else (_LONG, len(packed) // 4)
        where = struct.pack("<I", values_at + len(values)) if len(packed) > 4 else packed.ljust(4, b"\0")
        values += packed if len(packed) > 4 else b""
        entries += struct.pack("<HHI", tag, kind, count) + where
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + values + data


def _packed(value: int | tuple[int, ...] | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    numbers = value if isinstance(value, tuple) else (value,)
    return struct.pack(f"<{len(numbers)}I", *numbers)


def _with_axis(image: Image.Image) -> NDArray[np.uint8]:
    """(h, w, S) uint8 of a picture."""
    if image.mode == "YCbCr":
        image = image.convert("RGB")
    pixels = np.asarray(image, np.uint8)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels
