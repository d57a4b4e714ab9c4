"""A writer of TIFFs with any combination of tags, by TIFF 6.0, for tests of reading."""

import struct
import zlib

import numpy as np

MINISWHITE, MINISBLACK, RGB, PALETTE, SEPARATED, YCBCR, CIELAB = 0, 1, 2, 3, 5, 6, 8
NONE, LZW, DEFLATE, PACKBITS = 1, 5, 8, 32773
UNSPECIFIED, ASSOCIATED, UNASSOCIATED = 0, 1, 2
UINT, INT, FLOAT = 1, 2, 3
_SHORT, _LONG, _ASCII, _DOUBLE = 3, 4, 2, 12
_FORMATS = {_SHORT: "H", _LONG: "I", _DOUBLE: "d"}


def write_tiff(path, samples, *, big_endian=False, **options):
    """Write (H, W, S) samples as a file of one page; the options are those of `page`."""
    return write_pages(path, [page(samples, order=order(big_endian), **options)], big_endian=big_endian)


def order(big_endian):
    return ">" if big_endian else "<"


def page(  # noqa: PLR0913
    samples, *, photometric, bits, sample_format=UINT, extra=(), planes=False, compression=NONE, tile=None,
    rows_per_strip=None, colormap=None, tags=(), order="<",
):  # fmt: skip
    """The tags and the encoded segments of one page; `tags` are (tag, type, values) that are added."""
    height, width, count = samples.shape
    parts = [samples[:, :, k : k + 1] for k in range(count)] if planes else [samples]
    size = tile or (rows_per_strip or height, width)
    segments = [_encoded(cut, bits, compression, order) for part in parts for cut in _cut(part, size, pad=bool(tile))]
    entries = [
        (256, _LONG, [width]), (257, _LONG, [height]), (258, _SHORT, [bits] * count), (259, _SHORT, [compression]),
        (262, _SHORT, [photometric]), (277, _SHORT, [count]), (284, _SHORT, [2 if planes else 1]),
        (339, _SHORT, [sample_format] * count),
        *([(322, _LONG, [size[1]]), (323, _LONG, [size[0]])] if tile else [(278, _LONG, [size[0]])]),
        *([(338, _SHORT, list(extra))] if extra else []),
        *([(320, _SHORT, list(colormap))] if colormap is not None else []),
        *tags,
    ]  # fmt: skip
    return entries, segments, (324, 325) if tile else (273, 279)


def write_pages(path, pages, *, big_endian=False):
    """Write a file of several pages."""
    mark = order(big_endian)
    data = bytearray(struct.pack(mark + "2sHI", b"MM" if big_endian else b"II", 42, 0))
    link = 4
    for entries, segments, (offsets_tag, counts_tag) in pages:
        offsets = []
        for segment in segments:
            offsets.append(len(data))
            data += segment + bytes(len(segment) % 2)
        listed = [*entries, (offsets_tag, _LONG, offsets), (counts_tag, _LONG, [len(s) for s in segments])]
        packed = [(tag, kind, *_values(kind, values, mark)) for tag, kind, values in sorted(listed)]
        where = []
        for _, _, _, value in packed:
            where.append(len(data))
            data += value if len(value) > 4 else b""
            data += bytes(len(data) % 2)
        struct.pack_into(mark + "I", data, link, len(data))
        data += struct.pack(mark + "H", len(packed))
        for (tag, kind, count, value), start in zip(packed, where, strict=True):
            data += struct.pack(mark + "HHI", tag, kind, count)
            data += struct.pack(mark + "I", start) if len(value) > 4 else value.ljust(4, b"\0")
        link = len(data)
        data += bytes(4)
    path.write_bytes(bytes(data))
    return path


def _values(kind, values, mark):
    """Number and bytes of the values of a tag."""
    if kind == _ASCII:
        text = values.encode() + b"\0"
        return len(text), text
    return len(values), struct.pack(f"{mark}{len(values)}{_FORMATS[kind]}", *values)


def _cut(part, size, *, pad):
    for top in range(0, part.shape[0], size[0]):
        for left in range(0, part.shape[1], size[1]):
            cut = part[top : top + size[0], left : left + size[1]]
            missing = [(0, size[0] - cut.shape[0]), (0, size[1] - cut.shape[1]), (0, 0)]
            yield np.pad(cut, missing) if pad else cut


def _encoded(samples, bits, compression, mark):
    data = _packed(samples, bits, mark)
    if compression == DEFLATE:
        return zlib.compress(data)
    if compression == PACKBITS:
        row = len(data) // len(samples)
        return b"".join(
            bytes([len(run) - 1]) + run
            for start in range(0, len(data), row)
            for run in _runs(data[start : start + row], 128)
        )
    return _lzw(data) if compression == LZW else data


def _packed(samples, bits, mark):
    """The samples without gaps; each row starts at a byte."""
    if bits in (8, 16, 32, 64):
        return samples.astype(samples.dtype.newbyteorder(mark)).tobytes()
    digits = (samples.reshape(len(samples), -1, 1).astype(np.uint32) >> np.arange(bits)[::-1]) & 1
    return np.packbits(digits.reshape(len(samples), -1).astype(np.uint8), axis=1).tobytes()


def _lzw(data):
    """Valid LZW that never needs a code of more than nine bits: the table is cleared in time."""
    codes = [code for run in _runs(data, 250) for code in (256, *run)] + [257]
    digits = (np.array(codes)[:, None] >> np.arange(9)[::-1]) & 1
    return np.packbits(digits.astype(np.uint8)).tobytes()


def _runs(data, size):
    return [data[start : start + size] for start in range(0, len(data), size)]
