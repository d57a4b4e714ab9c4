"""Files, folders and glob patterns to image files."""

import glob
import logging
import os
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Literal

from PIL import Image

from fgseg._files.names import absolute_path, one_line, reason
from fgseg.errors import ImageError, OptionError
from fgseg.images.foreign import is_url

__all__ = [
    "ADDED_FORMATS",
    "HOW_TO_TILE",
    "IMAGE_SUFFIXES",
    "find_images",
    "has_glob_signs",
    "has_picture_suffix",
    "source_folder",
]

IMAGE_SUFFIXES: tuple[str, ...] = tuple(
    ".jpg .jpeg .jpe .jfif .mpo .png .apng .tif .tiff .webp .avif .gif .bmp "
    ".jp2 .j2k .ppm .pgm .pbm .pnm .pfm .psd .qoi .tga".split()
)
"""File name suffixes of the pictures in a folder, in lower case; upper case counts too."""

ADDED_FORMATS = ("HEIF", "JXL")
"""Formats that other packages register with Pillow; files of these are then read and found too."""

HOW_TO_TILE = "save it as a tiled TIFF (vips tiffsave IN OUT.tif --tile --bigtiff)"
"""Advice for a picture that does not fit in memory, for messages."""

_GLOB_SIGNS = frozenset("*?[")
log = logging.getLogger("fgseg")


def find_images(sources: Sequence[str | Path]) -> list[Path]:
    """List the files that files, folders and glob patterns name.

    A path that exists is never read as a pattern. A path that does not exist and is not a pattern is returned, so
    that its reader can report it and continue with the others. A folder with other files or subfolders logs a
    warning that counts them.

    Args:
        sources: files (any suffix); folders, for the pictures directly inside (`IMAGE_SUFFIXES`), sorted by name,
            without hidden files; glob patterns (`*`, `?`, `[..]`, `**` for any depth), for the pictures that match,
            sorted, or for all files that match if the pattern itself ends in a suffix, such as `*.dat`.

    Returns:
        Files in the order of the sources, each once.

    Raises:
        OptionError: no source, or one string instead of a list.
        ImageError: a folder or pattern without pictures, or a folder that cannot be listed.

    Example:
        >>> find_images(["one.png", "two.png", "one.png"]) == [Path("one.png"), Path("two.png")]
        True
    """
    is_list = isinstance(sources, Collection) and not isinstance(sources, (str, bytes)) and len(sources) > 0
    if not is_list or not all(isinstance(source, (str, os.PathLike)) for source in sources):
        raise OptionError(
            f"sources: expected a list of at least one file, folder or pattern, got {sources!r:.80}; "
            "name a picture or a folder of pictures"
        )
    unique: dict[Path, Path] = {}
    for source in sources:
        for path in _expand(source):
            unique.setdefault(absolute_path(path), path)
    return list(unique.values())


def source_folder(source: str | Path) -> Path:
    """The folder that the images of a source are named from, in the terms of `find_images`.

    Args:
        source: a folder, which is returned; a pattern, of which the part before the first sign of a pattern is
            returned; or a file, whose folder is returned.

    Example:
        >>> source_folder("no/such/photos/**").as_posix(), source_folder("no/such/a.png").as_posix()
        ('no/such/photos', 'no/such')
    """
    path = Path(source)
    kind = _kind(source)
    if kind == "folder":
        return path
    if kind == "file":
        return path.parent
    fixed = takewhile(lambda part: not has_glob_signs(part), path.parts)
    return Path(*fixed)


def _kind(source: str | Path) -> Literal["file", "folder", "pattern"]:
    path = Path(source)
    try:
        is_folder, is_there = path.is_dir(), path.exists()
    except OSError:
        return "file"  # its reader reports what is wrong
    if is_folder:
        return "folder"
    return "file" if is_there or is_url(source) or not has_glob_signs(str(source)) else "pattern"


def _expand(source: str | Path) -> list[Path]:
    path = Path(source)
    kind = _kind(source)
    if kind == "file":
        return [path]
    is_folder = kind == "folder"
    try:
        found = _pictures_in(path) if is_folder else _matches(str(source))
    except OSError as error:
        raise ImageError(f"{one_line(path)}: cannot be listed ({reason(error)}); check its permissions") from error
    if not found:
        other = f", but {_left_out(path)}" if is_folder and _left_out(path) else ""
        raise ImageError(
            f"{one_line(path)}: no picture in this {'folder' if is_folder else 'pattern'}{other}; "
            f"files with these suffixes are read: {' '.join(IMAGE_SUFFIXES)}"
        )
    return sorted(found)


def _pictures_in(folder: Path) -> list[Path]:
    pictures = [path for path in _visible(folder) if _is_picture(path)]
    left_out = _left_out(folder)
    if pictures and left_out:
        log.warning("%s: %s; left out: %s", one_line(folder), _plural(len(pictures), "picture"), left_out)
    return pictures


def _visible(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def _left_out(folder: Path) -> str:
    """How many files and subfolders of a folder are no pictures, in words; empty if there are none."""
    entries = _visible(folder)
    subfolders = sum(path.is_dir() for path in entries)
    others = Counter(path.suffix.lower() or "no ending" for path in entries if path.is_file() and not _is_picture(path))
    counted = []
    if others:
        most = sorted(others.items(), key=lambda kind: (-kind[1], kind[0]))[:5]
        kinds = ", ".join(f"{count} {suffix}" for suffix, count in most)
        counted.append(f"{_plural(others.total(), 'other file')} ({kinds})")
    if subfolders:
        counted.append(_plural(subfolders, "subfolder"))
    return " and ".join(counted)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _matches(pattern: str) -> list[Path]:
    suffix = Path(pattern).suffix
    any_file = bool(suffix) and not has_glob_signs(suffix)
    names = glob.glob(pattern, recursive=True)  # noqa: PTH207 - Path.glob refuses absolute patterns
    return [path for path in map(Path, names) if _is_picture(path) or (any_file and path.is_file())]


def _is_picture(path: Path) -> bool:
    return has_picture_suffix(path) and path.is_file()


def has_picture_suffix(name: str | Path) -> bool:
    """Whether a file of this name counts as a picture in a folder, also by a suffix registered with Pillow.

    >>> has_picture_suffix("a/b.JPG"), has_picture_suffix("notes.txt")
    (True, False)
    """
    suffix = Path(name).suffix.lower()
    return suffix in IMAGE_SUFFIXES or Image.EXTENSION.get(suffix) in ADDED_FORMATS


def has_glob_signs(name: str) -> bool:
    """Whether a name that is no file is read as a pattern.

    >>> has_glob_signs("photos/*.jpg"), has_glob_signs("photos/a.jpg")
    (True, False)
    """
    return not _GLOB_SIGNS.isdisjoint(name)
