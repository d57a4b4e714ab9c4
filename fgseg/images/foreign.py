"""Sound files that are not read here: what each is, and what to do with it."""

import os
import re
from pathlib import Path

__all__ = ["foreign_advice", "is_url"]

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:/{1,2}")  # a Path has one slash of two
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_VIDEO = "a video; take its frames out first (ffmpeg -i FILM frames/%05d.png), and give their folder"
_HEIF = (
    "a HEIC photograph; pip install pillow-heif and call pillow_heif.register_heif_opener() before fgseg, "
    "or save it as JPEG"
)
_RAW = "a raw photograph of a camera; develop it first, and save it as JPEG, PNG or TIFF"
_TEXT = "a web page or XML text, often an error page in place of a download; open it and download the picture again"

_MAGICS: tuple[tuple[int, bytes, str], ...] = (
    (128, b"DICM", "a DICOM file; pip install pydicom and give its pixel_array, scaled to 0..255"),
    (0, b"v/1\x01", "an OpenEXR file; tone-map it, and save it as PNG or as a float TIFF"),
    (0, b"\xff\x0a", "a JPEG XL file; save it as PNG or JPEG (djxl IN OUT.png)"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL file; save it as PNG or JPEG (djxl IN OUT.png)"),
    (0, b"FUJIFILMCCD-RAW", _RAW),
    (0, b"IIU\0", _RAW),
    (0, b"IIRO", _RAW),
    (0, b"MMOR", _RAW),
    (0, b"\x1a\x45\xdf\xa3", _VIDEO),
    (8, b"AVI ", _VIDEO),
    (0, b"\0\0\x01\xba", _VIDEO),
    (0, b"FLV\x01", _VIDEO),
    (0, b"%PDF-", "a PDF; draw its pages first (pdftoppm -png IN OUT)"),
    (0, b"%!PS", "a PostScript file; draw it first (gs -sDEVICE=png16m -o OUT.png IN)"),
    (0, b"SIMPLE  =", "a FITS file; read it with astropy, and give the array"),
    (0, b"\x89HDF\r\n", "an HDF5 or NetCDF file; read it with h5py or xarray, and give the array"),
    (0, b"\x93NUMPY", "an array of numpy; np.load reads it, and fgseg takes the array"),
    (0, b"PK\x03\x04", "a zip archive; unpack it, and give the folder"),
    (0, b"\x1f\x8b", "a file compressed by gzip; unpack it first"),
    (344, b"n+1\0", "a NIfTI file; read it with nibabel, and give one slice as an array"),
)


def foreign_advice(head: bytes, path: str) -> str | None:
    """What a file is and what to do with it, for files that are not read here; None for others.

    Args:
        head: the first bytes of the file, 1024 are enough.
        path: its name, of which the suffix counts for raw photographs.

    >>> foreign_advice(b"%PDF-1.7", "a.png")
    'a PDF; draw its pages first (pdftoppm -png IN OUT)'
    >>> foreign_advice(b"GIF89a", "a.gif") is None
    True
    """
    if head[4:8] == b"ftyp":
        if b"avif" in head[8:64] or b"avis" in head[8:64]:
            return None
        return _HEIF if head[8:12] in _HEIF_BRANDS else _VIDEO
    for start, magic, advice in _MAGICS:
        if head[start : start + len(magic)] == magic:
            return advice
    if Path(path).suffix.lower() in (".dng", ".nef", ".cr2", ".cr3", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw"):
        return _RAW
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in text and text.startswith(b"<"):
        return "an SVG drawing; draw it first (rsvg-convert -o OUT.png IN)"
    return _TEXT if text.startswith((b"<!doctype", b"<html", b"<?xml")) else None


def is_url(source: str | os.PathLike[str]) -> bool:
    """Whether a name is a web address, or one that `Path` has shortened.

    >>> is_url("https://example.org/a.jpg"), is_url(Path("s3://bucket/a.jpg")), is_url("C:/a.jpg"), is_url("a:b.jpg")
    (True, True, False, False)
    """
    return _URL.match(str(source)) is not None
