"""Builders of unusual image files. Each writes one kind of file into a folder and returns its path.

All files except the broken ones contain `PICTURE`, or one channel of it (`GRAY`), so that a test knows the expected
pixels. The picture consists of flat 8 x 8 blocks, which JPEG keeps almost exactly in every orientation. Nothing is
random.
"""

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

BLOCK_COLORS = [
    [(200, 40, 60), (40, 160, 80), (50, 70, 190)],
    [(220, 200, 90), (240, 240, 240), (30, 30, 30)],
]
PICTURE = np.repeat(np.repeat(np.array(BLOCK_COLORS, np.uint8), 8, axis=0), 8, axis=1)
"""(16, 24, 3) uint8: red, green, blue over yellow, white, black."""
GRAY = PICTURE[:, :, 1].copy()
"""(16, 24) uint8: six levels from 30 to 240."""
INDICES = np.repeat(np.repeat(np.arange(6, dtype=np.uint8).reshape(2, 3), 8, axis=0), 8, axis=1)
"""(16, 24) uint8: the number of the block, which is its index in the palette."""
ALPHA = np.repeat(np.array([[255, 128, 0]], np.uint8), 8, axis=1).repeat(16, axis=0)
"""(16, 24) uint8: left third opaque, middle half, right third clear."""
_PALETTE = [level for row in BLOCK_COLORS for color in row for level in color]


# --- files that must be read


def rgb_png(folder: Path) -> Path:
    return _saved(Image.fromarray(PICTURE), folder / "rgb.png")


def png_named_jpg(folder: Path) -> Path:
    return _saved(Image.fromarray(PICTURE), folder / "png_named.jpg", format="PNG")


def rgb_file_of_kind(folder: Path, suffix: str, **options) -> Path:
    """Plain RGB in the format of `suffix`."""
    return _saved(Image.fromarray(PICTURE), folder / f"rgb{suffix}", **options)


def cmyk_jpeg(folder: Path) -> Path:
    picture = Image.fromarray(PICTURE).convert("CMYK")
    return _saved(picture, folder / "cmyk.jpg", quality=100, subsampling=0)


def cmyk_tiff(folder: Path) -> Path:
    return _saved(Image.fromarray(PICTURE).convert("CMYK"), folder / "cmyk.tif")


def lab_tiff(folder: Path) -> Path:
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    picture = ImageCms.profileToProfile(Image.fromarray(PICTURE), srgb, lab, outputMode="LAB")
    del picture.info["icc_profile"]  # it holds the time at which it was made
    return _saved(picture, folder / "lab.tif")


def gray_png(folder: Path) -> Path:
    return _saved(Image.fromarray(GRAY), folder / "gray.png")


def sixteen_bit_png(folder: Path) -> Path:
    """Grey. The high byte is `GRAY` and the low byte its complement, so that rounding or clipping would be noticed."""
    return _saved(Image.fromarray(_wide(GRAY)), folder / "gray16.png")


def sixteen_bit_png_with_transparent_level(folder: Path) -> Path:
    """As `sixteen_bit_png`. The level of the first block is declared transparent."""
    level = int(_wide(GRAY)[0, 0])
    data = _png(_wide(GRAY).astype(">u2"), color_type=0, chunks=[(b"tRNS", struct.pack(">H", level))])
    return _put(folder / "gray16_clear.png", data)


def sixteen_bit_tiff(folder: Path) -> Path:
    """Grey, big-endian."""
    return _saved(Image.fromarray(_wide(GRAY).astype(">u2")), folder / "gray16.tif")


def sixteen_bit_pgm(folder: Path) -> Path:
    return _put(folder / "gray16.pgm", b"P5 24 16 65535\n" + _wide(GRAY).astype(">u2").tobytes())


def sixteen_bit_rgb_png(folder: Path) -> Path:
    return _put(folder / "rgb16.png", _png(_wide(PICTURE).astype(">u2"), color_type=2))


def sixteen_bit_rgb_tiff(folder: Path) -> Path:
    """Uncompressed little-endian TIFF of one strip, written here because Pillow does not write 16-bit colour."""
    height, width, _ = PICTURE.shape
    pixels = _wide(PICTURE).astype("<u2").tobytes()
    bits_at = 8 + len(pixels)
    # (tag, type 3 short or 4 long, count, value or offset), in the order of the tags
    entries = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, bits_at), (259, 3, 1, 1), (262, 3, 1, 2)]
    entries += [(273, 4, 1, 8), (277, 3, 1, 3), (278, 3, 1, height), (279, 4, 1, len(pixels)), (284, 3, 1, 1)]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    bits = struct.pack("<4H", 16, 16, 16, 0)
    header = struct.pack("<2sHI", b"II", 42, bits_at + len(bits))
    return _put(folder / "rgb16.tif", header + pixels + bits + directory + struct.pack("<I", 0))


def float_tiff(folder: Path, top: float = 1.0) -> Path:
    """32-bit float grey: `GRAY` scaled so that white is `top`."""
    return _saved(Image.fromarray(GRAY.astype(np.float32) * np.float32(top / 255)), folder / "float.tif")


def int32_tiff(folder: Path, factor: int = 1) -> Path:
    return _saved(Image.fromarray(GRAY.astype(np.int32) * factor), folder / "int32.tif")


def palette_png(folder: Path) -> Path:
    return _saved(_paletted(), folder / "palette.png")


def palette_png_with_transparent_color(folder: Path) -> Path:
    """The palette entry of the first block is transparent, that of the second half transparent."""
    return _saved(_paletted(), folder / "palette_clear.png", transparency=bytes([0, 128, 255]))


def rgb_png_with_transparent_color(folder: Path) -> Path:
    """The first block's colour is declared transparent."""
    return _saved(Image.fromarray(PICTURE), folder / "rgb_clear.png", transparency=BLOCK_COLORS[0][0])


def alpha_png(folder: Path) -> Path:
    return _saved(Image.fromarray(np.dstack([PICTURE, ALPHA])), folder / "alpha.png")


def gray_alpha_png(folder: Path) -> Path:
    return _saved(Image.fromarray(np.dstack([GRAY, ALPHA])), folder / "gray_alpha.png")


def one_bit_png(folder: Path) -> Path:
    """White where `GRAY` is over 100, else black."""
    return _saved(Image.fromarray(GRAY > 100), folder / "one_bit.png")


def animated_gif(folder: Path) -> Path:
    """The first frame is the picture, the second is black."""
    black = Image.new("P", (24, 16), 5)
    black.putpalette(_PALETTE)
    return _saved(_paletted(), folder / "animated.gif", save_all=True, append_images=[black])


def animated_webp(folder: Path) -> Path:
    """The first frame is the picture, the second is black."""
    black = Image.new("RGB", (24, 16))
    picture = Image.fromarray(PICTURE)
    return _saved(picture, folder / "animated.webp", save_all=True, append_images=[black], lossless=True)


def exif_rotated_jpeg(folder: Path, orientation: int = 6) -> Path:
    return _turned_away(folder / f"exif{orientation}.jpg", orientation, quality=100, subsampling=0)


def exif_rotated_png(folder: Path, orientation: int = 6) -> Path:
    return _turned_away(folder / f"exif{orientation}.png", orientation)


def exif_rotated_tiff(folder: Path, orientation: int = 6) -> Path:
    return _turned_away(folder / f"exif{orientation}.tif", orientation)


def stored_by_exif(upright: np.ndarray, orientation: int) -> np.ndarray:
    """The array that a camera stores, pixel by pixel by the EXIF standard's definition of tag 274.

    The definition says which side of the picture the first stored row and the first stored column are.
    """
    row_is, column_is = {
        1: ("top", "left"),
        2: ("top", "right"),
        3: ("bottom", "right"),
        4: ("bottom", "left"),
        5: ("left", "top"),
        6: ("right", "top"),
        7: ("right", "bottom"),
        8: ("left", "bottom"),
    }[orientation]
    height, width, channels = upright.shape
    stored = np.empty((height, width, channels) if orientation < 5 else (width, height, channels), upright.dtype)
    for row, column in np.ndindex(stored.shape[:2]):
        at = {}
        for side, step in ((row_is, row), (column_is, column)):
            at["y" if side in ("top", "bottom") else "x"] = {
                "top": step,
                "left": step,
                "bottom": height - 1 - step,
                "right": width - 1 - step,
            }[side]
        stored[row, column] = upright[at["y"], at["x"]]
    return stored


# --- files that must be refused


def missing_file(folder: Path) -> Path:
    return folder / "missing.jpg"


def folder_named_jpg(folder: Path) -> Path:
    path = folder / "folder.jpg"
    path.mkdir()
    return path


def empty_file(folder: Path) -> Path:
    return _put(folder / "empty.jpg", b"")


def text_file_named_jpg(folder: Path) -> Path:
    return _put(folder / "text.jpg", b"this is a note and not a picture\n" * 20)


def postscript_file(folder: Path) -> Path:
    return _put(
        folder / "drawing.eps",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 24 16\n%%EndComments\nshowpage\n",
    )


def truncated_jpeg(folder: Path) -> Path:
    whole = exif_rotated_jpeg(folder, 1)
    return _put(folder / "truncated.jpg", whole.read_bytes()[:-40])


def truncated_png(folder: Path) -> Path:
    return _put(folder / "truncated.png", rgb_png(folder).read_bytes()[:70])


def huge_png_header(folder: Path, side: int = 20_000) -> Path:
    """Declares side x side pixels and contains none."""
    chunks = [_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)), _chunk(b"IDAT", b"")]
    return _put(folder / "huge.png", b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def zero_size_gif(folder: Path) -> Path:
    """A GIF of 5 columns and no rows."""
    frame = b"\x2c" + struct.pack("<4HB", 0, 0, 5, 0, 0) + b"\x02\x01\x44\x00\x3b"
    return _put(folder / "zero.gif", b"GIF89a" + struct.pack("<HHBBB", 5, 0, 0, 0, 0) + frame)


def jpeg_with_broken_exif(folder: Path) -> Path:
    """Its pixels are valid. Its EXIF block declares entries that are missing."""
    exif = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 40)
    picture = Image.fromarray(PICTURE)
    return _saved(picture, folder / "broken_exif.jpg", quality=100, subsampling=0, exif=exif)


WORKING: dict[str, Callable[[Path], Path]] = {
    builder.__name__: builder
    for builder in (
        *(
            rgb_png,
            png_named_jpg,
            cmyk_jpeg,
            cmyk_tiff,
            lab_tiff,
            gray_png,
            sixteen_bit_png,
            sixteen_bit_tiff,
        ),
        *(sixteen_bit_pgm, sixteen_bit_rgb_png, sixteen_bit_rgb_tiff, float_tiff, int32_tiff, palette_png),
        *(palette_png_with_transparent_color, rgb_png_with_transparent_color, alpha_png, gray_alpha_png),
        *(one_bit_png, animated_gif, animated_webp, exif_rotated_jpeg, exif_rotated_png, exif_rotated_tiff),
        sixteen_bit_png_with_transparent_level,
    )
}
"""Builders of files that must be read, by name."""

BROKEN: dict[str, Callable[[Path], Path]] = {
    builder.__name__: builder
    for builder in (
        *(missing_file, folder_named_jpg, empty_file, text_file_named_jpg, postscript_file, truncated_jpeg),
        *(truncated_png, huge_png_header, zero_size_gif),
    )
}
"""Builders of files that must be refused with an error of one line, by name."""


def _saved(picture: Image.Image, path: Path, **options) -> Path:
    picture.save(path, **options)
    return path


def _put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _wide(levels: np.ndarray) -> np.ndarray:
    """16-bit levels whose high byte is `levels` and whose low byte is the complement."""
    return levels.astype(np.uint16) * 256 + (255 - levels)


def _paletted() -> Image.Image:
    picture = Image.fromarray(INDICES)
    picture.putpalette(_PALETTE)
    return picture


def _turned_away(path: Path, orientation: int, **options) -> Path:
    exif = Image.Exif()
    exif[274] = orientation
    return _saved(Image.fromarray(stored_by_exif(PICTURE, orientation)), path, exif=exif, **options)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png(samples: np.ndarray, *, color_type: int, chunks: list[tuple[bytes, bytes]] | None = None) -> bytes:
    """A PNG of big-endian 16-bit samples, every row unfiltered."""
    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in samples)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)), *(chunks or [])]
    parts += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)
