"""The images of a batch run: folders, patterns, lists, tables, videos and object stores, as a stream of items.

Items are made one at a time, so a million images need no list of a million objects. What is left out is counted by its
reason.
"""

from __future__ import annotations

import csv
import glob
import os
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from fgseg._checks import check_whole, describe
from fgseg._files.names import absolute_path, one_line, reason
from fgseg.errors import FgsegError, ImageError, OptionError
from fgseg.images.find import has_glob_signs, has_picture_suffix, source_folder
from fgseg.images.video import VIDEO_SUFFIXES, Video
from fgseg.store.schema import Item

__all__ = ["STDIN", "SourceOptions", "check_sources", "find_items", "is_address", "local_path", "video_frame"]

STDIN = "-"
"""The source that reads a list of images from stdin, one per line."""

_TABLES = (".csv", ".parquet")
_COLUMNS = ("uri", "path", "image", "file_name", "filename", "file")  # where a table's images are looked for
_FRAME = "#frame="  # between the path of a video and the number of a frame, in an item's uri


@dataclass(frozen=True)
class SourceOptions:
    """How sources are read.

    Attributes:
        column: the column of a table that holds paths or addresses; None takes the first of uri, path, image,
            file_name, filename and file.
        id_column: the column of a table that holds the ids of images; None makes them from the paths.
        every: take every n-th frame of a video, beginning with the first; None takes every frame of the videos that
            are sources themselves, and leaves out the videos in folders.
        recursive: whether to look into subfolders.

    Raises:
        OptionError: `every` below 1.
    """

    column: str | None = None
    id_column: str | None = None
    every: int | None = None
    recursive: bool = False

    def __post_init__(self) -> None:
        if self.every is not None:
            check_whole("every", self.every, low=1, high=2**31, hint="1 takes all frames")


def check_sources(sources: Sequence[str | Path]) -> list[str]:
    """The sources as texts. What is not there is refused.

    Raises:
        OptionError: no source, one string instead of a list, or an empty name.
        ImageError: a file or folder that does not exist.
    """
    is_list = isinstance(sources, Sequence) and not isinstance(sources, (str, bytes)) and len(sources) > 0
    if not is_list or not all(isinstance(source, (str, os.PathLike)) for source in sources):
        raise OptionError(
            f"sources: expected a list of at least one folder, file, pattern or address, got {describe(sources)}; "
            'name a folder of pictures, such as ["photos"]'
        )
    named = [os.fspath(source) for source in sources]
    for source in named:
        if not source:
            raise OptionError("sources: expected a folder, file, pattern or address, got no name")
        is_path = source != STDIN and not is_address(source)
        if is_path and not has_glob_signs(source) and not os.path.lexists(source):
            raise ImageError(f"{one_line(source)}: there is no such file or folder; check the path")
    return named


def find_items(sources: Iterable[str], options: SourceOptions, left_out: Counter[str]) -> Iterator[Item]:
    """The images of some sources, each once, in the order of the sources.

    Args:
        sources: folders; picture files; patterns, also with `**`; tables (.csv, .parquet); videos; addresses that
            fsspec opens, such as s3://bucket/photos; `STDIN`.
        options: how they are read.
        left_out: is counted up, by reason: "duplicates", "other files", "subfolders", "hidden".

    Raises:
        ImageError: a source without images, or one that cannot be listed.
        OptionError: two images of one id; a table without the column.
    """
    uris: dict[int, int] = {}  # hash of an id -> hash of its address; the texts would take three times the memory
    for source in sources:
        is_empty = True
        for item in _items_of(source, options, left_out):
            is_empty = False
            image_id, uri = hash(item.image_id), hash(item.uri)
            if image_id not in uris:
                uris[image_id] = uri
                yield item
            elif uris[image_id] == uri:
                left_out["duplicates"] += 1
            else:
                raise OptionError(
                    f"sources: two images have the id {item.image_id}, one is {one_line(item.uri)}; give a folder "
                    "above both and --recursive, or a table with --id-column"
                )
        if is_empty:
            raise ImageError(f"{one_line(source)}: no picture in it; {_advice(options)}")


def is_address(name: str) -> bool:
    """Whether a name is an address that fsspec opens, not a path.

    >>> is_address("s3://bucket/a.jpg"), is_address("photos/a.jpg")
    (True, False)
    """
    return "://" in name


def local_path(uri: str) -> str | None:
    """The path of a file on this machine; None for an address elsewhere.

    A path whose bytes are not Unicode is stored as an address of the kind file://, with those bytes as %XX.
    """
    if uri.startswith("file://"):
        return os.fsdecode(unquote_to_bytes(uri.removeprefix("file://")))
    return None if is_address(uri) else uri


def video_frame(uri: str) -> tuple[str, int] | None:
    """The address of the video and the number of the frame, for an item that is a frame; None for others.

    >>> video_frame("/films/clip.mp4#frame=120"), video_frame("/films/a.png")
    (('/films/clip.mp4', 120), None)
    """
    video, sign, number = uri.rpartition(_FRAME)
    is_frame = bool(sign) and number.isdecimal() and _is_video(video)
    return (video, int(number)) if is_frame else None


def _items_of(source: str, options: SourceOptions, left_out: Counter[str]) -> Iterator[Item]:
    if source == STDIN:
        return _listed(((line.rstrip("\r\n"), None) for line in sys.stdin), Path.cwd(), options)
    if is_address(source):
        return _remote_items(source, options, left_out)
    path = Path(source)
    if path.is_dir():
        return _folder_items(path, options, left_out)
    if path.suffix.lower() in _TABLES and path.exists():
        rows = _parquet_rows if path.suffix.lower() == ".parquet" else _csv_rows
        return _listed(rows(path, options), absolute_path(path).parent, options)
    if has_glob_signs(source) and not path.exists():
        return _matching_items(source, options, left_out)
    return _file_items(_resolved(path), path.name, options)


def _advice(options: SourceOptions) -> str:
    missing = [] if options.recursive else ["add --recursive to look into its subfolders"]
    missing += [] if options.every else ["--every N to take the frames of its videos"]
    return ", or ".join(missing) or "name a folder with pictures"


def _folder_items(folder: Path, options: SourceOptions, left_out: Counter[str]) -> Iterator[Item]:
    root = _resolved(folder)
    for names, below in _walk(root, options, left_out):
        for name in names:
            path = os.path.join(root, below, name)  # noqa: PTH118 - ten times as fast as Path for a million names
            yield from _file_items(path, f"{below}/{name}" if below else name, options)


def _walk(root: str, options: SourceOptions, left_out: Counter[str]) -> Iterator[tuple[list[str], str]]:
    """The names of the pictures in each folder and the folder below `root`, in alphabetical order."""
    folders = [""]
    while folders:
        below = folders.pop()
        names: list[str] = []
        inner: list[str] = []
        with _reading(Path(root, below), "cannot be listed", "check its permissions"):
            entries = list(os.scandir(os.path.join(root, below)))  # noqa: PTH118
        for entry in entries:
            kind = _kind(entry, options)
            if kind == "picture":
                names.append(entry.name)
            elif kind == "folder" and options.recursive:
                inner.append(f"{below}/{entry.name}" if below else entry.name)
            else:
                left_out["subfolders" if kind == "folder" else kind] += 1
        yield sorted(names), below
        folders += sorted(inner, reverse=True)


def _kind(entry: os.DirEntry[str], options: SourceOptions) -> str:
    """What an entry of a folder is: "picture", "folder", or the reason why it is left out."""
    if entry.name.startswith("."):
        return "hidden"
    if entry.is_dir():
        return "linked folders" if options.recursive and entry.is_symlink() else "folder"  # links may go in circles
    return "picture" if _is_wanted(entry.name, options) and entry.is_file() else "other files"


def _is_wanted(name: str, options: SourceOptions) -> bool:
    return has_picture_suffix(name) or (options.every is not None and _is_video(name))


def _is_video(name: str) -> bool:
    return name.lower().endswith(VIDEO_SUFFIXES)


def _matching_items(pattern: str, options: SourceOptions, left_out: Counter[str]) -> Iterator[Item]:
    """The pictures that match a pattern; every file that matches, if the pattern itself ends in a suffix."""
    suffix = Path(pattern).suffix
    takes_any = bool(suffix) and not has_glob_signs(suffix)
    root = source_folder(pattern)
    for name in sorted(glob.iglob(pattern, recursive=True)):  # noqa: PTH207 - Path.glob refuses absolute patterns
        path = Path(name)
        if path.is_dir():
            left_out["subfolders"] += 1
        elif path.is_file() and (takes_any or _is_wanted(name, options)):
            yield from _file_items(_resolved(path), path.relative_to(root).as_posix(), options)
        else:
            left_out["other files"] += 1


def _file_items(path: str, name: str, options: SourceOptions) -> Iterator[Item]:
    """The item of a file, or those of the frames of a video; `name` is its path below the root of its source."""
    size = mtime_ns = None
    with suppress(OSError, ValueError):  # ValueError: a null character in the name
        status = os.stat(path)  # noqa: PTH116
        size, mtime_ns = status.st_size, status.st_mtime_ns
    image_id, uri = _text(name), path
    if not _is_unicode(path):
        uri = Path(path).as_uri()
    if not _is_video(path):
        yield Item(image_id, uri, size, mtime_ns)
        return
    with Video(path) as video:
        frame_count = video.frame_count
    for number in range(0, frame_count, options.every or 1):
        yield Item(f"{image_id}#{number:06d}", f"{uri}{_FRAME}{number}", size, mtime_ns)


def _listed(names: Iterable[tuple[str, str | None]], root: Path, options: SourceOptions) -> Iterator[Item]:
    """The items of paths, relative to `root`, and of addresses; an id of None is made from the name."""
    for name, image_id in names:
        if name:
            yield from _named(name, root, options, image_id)


def _named(name: str, root: Path, options: SourceOptions, image_id: str | None) -> Iterator[Item]:
    if is_address(name) and local_path(name) is None:
        yield Item(_text(image_id or name.split("://", 1)[1].lstrip("/")), name)
        return
    path = os.path.normpath(os.path.join(root, local_path(name) or name))  # noqa: PTH118 - Path takes thrice the time
    inside = os.path.join(root, "")  # noqa: PTH118
    own_id = path.removeprefix(inside).lstrip(os.sep)  # outside of the root, the whole path
    yield from _file_items(path, image_id or own_id.replace(os.sep, "/"), options)


def _csv_rows(table: Path, options: SourceOptions) -> Iterator[tuple[str, str | None]]:
    with _reading_table(table), table.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        column = _column(table, reader.fieldnames or (), options)
        for row in reader:
            yield row[column] or "", row[options.id_column] if options.id_column else None


def _parquet_rows(table: Path, options: SourceOptions) -> Iterator[tuple[str, str | None]]:
    with _reading_table(table), pq.ParquetFile(table) as file:
        column = _column(table, file.schema_arrow.names, options)
        columns = [column, *([options.id_column] if options.id_column else [])]
        for batch in file.iter_batches(columns=columns):
            values = [[None if value is None else str(value) for value in batch[c].to_pylist()] for c in columns]
            ids = values[1] if options.id_column else [None] * len(values[0])
            yield from zip((value or "" for value in values[0]), ids, strict=True)


def _reading_table(table: Path) -> AbstractContextManager[None]:
    return _reading(table, "not a table that can be read", "check it")


def _column(table: Path, names: Sequence[str], options: SourceOptions) -> str:
    """The column of the images; the column of the ids is checked too."""
    for flag, name in (("column", options.column), ("id_column", options.id_column)):
        if name is not None and name not in names:
            raise OptionError(f"{flag}: expected a column of {one_line(table)}, {', '.join(names)}, got {name!r}")
    if options.column is not None:
        return options.column
    found = next((name for name in _COLUMNS if name in names), None)
    if found is None:
        raise OptionError(
            f"column: {one_line(table)} has none of the columns {', '.join(_COLUMNS)}; name one of its columns, "
            f"{', '.join(names)}, by --column"
        )
    return found


def _remote_items(source: str, options: SourceOptions, left_out: Counter[str]) -> Iterator[Item]:
    """The items of a file, a folder or a pattern in an object store, by its own listing."""
    path = local_path(source)
    if path is not None:
        yield from _items_of(path, options, left_out)
        return
    scheme = source.split("://", 1)[0]
    with _reading(source, "cannot be listed", "check the address and access to it"):
        root, found = _remote_entries(source, options)
        for info in found:
            name = info["name"]
            if info["type"] == "directory" or not has_picture_suffix(name):
                left_out["subfolders" if info["type"] == "directory" else "other files"] += 1
            else:
                yield _remote_item(info, f"{scheme}://{name.lstrip('/')}", name[len(root) :].lstrip("/"))


@contextmanager
def _reading(source: str | Path, fault: str, advice: str) -> Iterator[None]:
    """Turn what the system, a table or fsspec raises while a source is read into an ImageError of one line."""
    try:
        yield
    except FgsegError:
        raise
    except FileNotFoundError as error:
        raise ImageError(f"{one_line(source)}: there is nothing at this address; check it") from error
    # ImportError: fsspec names the package of the protocol
    except (OSError, ValueError, ImportError, csv.Error, pa.ArrowException) as error:
        raise ImageError(f"{one_line(source)}: {fault} ({reason(error)}); {advice}") from error


def _remote_entries(source: str, options: SourceOptions) -> tuple[str, Iterable[dict[str, Any]]]:
    """The place that ids are relative to, and the entries below it."""
    system, place = fsspec.core.url_to_fs(source)
    if has_glob_signs(place):
        fixed = takewhile(lambda part: not has_glob_signs(part), place.split("/"))
        return "/".join(fixed), system.glob(place, detail=True).values()
    if system.isdir(place):
        return place, _remote_walk(system, place, options)
    return place.rpartition("/")[0], [system.info(place)]


def _remote_walk(system: Any, place: str, options: SourceOptions) -> Iterator[dict[str, Any]]:
    """What a folder of an object store holds, a folder at a time."""
    for _, folders, files in system.walk(place, maxdepth=None if options.recursive else 1, detail=True):
        yield from (files[name] for name in sorted(files))
        if not options.recursive:
            yield from folders.values()


def _remote_item(info: Mapping[str, Any], uri: str, name: str) -> Item:
    changed = next((info[key] for key in ("LastModified", "mtime", "updated", "created") if info.get(key)), None)
    etag = next((str(info[key]) for key in ("ETag", "etag", "md5Hash") if info.get(key)), None)
    return Item(_text(name), uri, info.get("size"), _nanoseconds(changed), etag)


def _nanoseconds(time: object) -> int | None:
    """A time as stores state it, a datetime or seconds, in nanoseconds since 1970; None for other kinds."""
    if isinstance(time, datetime):
        aware = time if time.tzinfo else time.replace(tzinfo=UTC)
        return round(aware.timestamp() * 1_000_000) * 1_000
    return round(time * 1_000_000_000) if isinstance(time, (int, float)) else None


def _resolved(path: Path) -> str:
    return str(absolute_path(path)) if not path.is_dir() else str(path.resolve())


def _is_unicode(name: str) -> bool:
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def _text(name: str) -> str:
    r"""A name in Unicode form NFC; bytes that are not Unicode become \xNN."""
    known = name if _is_unicode(name) else os.fsencode(name).decode("utf-8", errors="backslashreplace")
    return unicodedata.normalize("NFC", known)
