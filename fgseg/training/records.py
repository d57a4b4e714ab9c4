"""Records of FineHARD's format: captioned images with boxes, phrases and hard negatives, from JSON files.

A record is an object with `caption` (long), `short_caption`, `f_path` (the image, relative to the image folder) and
`bbox_info`, a list of `{"bbox": [x1, y1, x2, y2, score], "short_expr", "long_expr", "flag_short_neg",
"short_expr_negs": {name: text}}` with corners as fractions of the image's sides. A file holds a list of records, or
one record per line. All records are checked when the files are read; bad ones are skipped and reported.

The files stay on disk. Memory is about twenty bytes per record, so the twelve million records of FineHARD fit.
"""

import hashlib
import json
import os
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fgseg._files.names import one_line
from fgseg.errors import DatasetError
from fgseg.images.reading import read_image

__all__ = ["BadRecord", "FileRecords", "Record", "RegionText", "Source", "bad_lines", "check_bad_share", "parse_record"]

PUBLISHED_PREFIX = "grit-20m/data-12m/"  # begins FineHARD's paths, but is not part of its image folder
ROUNDING = 1e-4  # fraction of a side; corners at most this far outside are moved to the border
_SPACE = re.compile(r"[ \t\n\r]*")  # the white space of JSON


@dataclass(frozen=True, slots=True)
class RegionText:
    """The phrases of one box.

    Attributes:
        box_xyxy: (left, top, right, bottom) as fractions of the image's sides.
        short: a short true phrase.
        long: a longer true phrase.
        negatives: false phrases; empty if the record has none to train on.
    """

    box_xyxy: tuple[float, float, float, float]
    short: str
    long: str
    negatives: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """The captions and boxes of one image.

    Attributes:
        image: path relative to the image folder.
        caption: the long caption.
        short_caption: the short caption, without "a photo of".
        regions: the boxes.
    """

    image: str
    caption: str
    short_caption: str
    regions: tuple[RegionText, ...]


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that is left out.

    Attributes:
        where: file and line, or file and index in its list.
        reason: the kind of error, a colon, and the details.
    """

    where: str
    reason: str

    @property
    def kind(self) -> str:
        """The reason without its details."""
        return self.reason.split(":")[0]


class Source(Protocol):
    """The records of a training run. An index always gives the same record and image.

    Attributes:
        identity: differs between different records; a run can be resumed only with the same records.
        bad: the records that are left out.
        found: number of records, including bad ones.
    """

    identity: str
    bad: tuple[BadRecord, ...]
    found: int

    def __len__(self) -> int:
        """Number of good records."""

    def name(self, index: int) -> str:
        """The location of a record, for the log."""

    def sample(self, index: int) -> tuple[Record, NDArray[np.uint8]]:
        """A record and its (H, W, 3) uint8 RGB image."""


def parse_record(entry: Any) -> Record:
    """Read and check one record of FineHARD's format.

    Raises:
        DatasetError: the record is bad; the kind of error stands before the first colon.

    Examples:
        >>> box = {"bbox": [0.1, 0.2, 0.5, 0.6, 0.9], "short_expr": "a cup", "long_expr": "a red cup on a table"}
        >>> parse_record({"caption": "A red cup.", "short_caption": "a cup", "f_path": "1.jpg", "bbox_info": [box]})
        ... # doctest: +ELLIPSIS
        Record(image='1.jpg', caption='A red cup.', short_caption='a cup', regions=(RegionText(...),))
    """
    if not isinstance(entry, dict):
        raise DatasetError(f"not a record: expected an object, got {type(entry).__name__}")
    regions = entry.get("bbox_info") or []
    if not isinstance(regions, list):
        raise DatasetError(f"not a record: bbox_info: expected a list, got {regions!r:.60}")
    return Record(
        image=_text(entry, "f_path", "missing file").removeprefix(PUBLISHED_PREFIX),
        caption=_text(entry, "caption"),
        short_caption=_text(entry, "short_caption"),
        regions=tuple(_region(region, f"bbox_info[{number}]") for number, region in enumerate(regions)),
    )


def _text(entry: dict[str, Any], key: str, kind: str = "empty caption") -> str:
    text = entry.get(key)
    if not isinstance(text, str) or not text.strip():
        raise DatasetError(f"{kind}: {key}: expected words, got {text!r:.60}")
    try:
        text.encode()
    except UnicodeEncodeError as error:  # a lone surrogate
        raise DatasetError(f"broken caption: {key}: expected valid Unicode, got {text!a:.60}") from error
    return text


def _region(region: Any, key: str) -> RegionText:
    if not isinstance(region, dict):
        raise DatasetError(f"not a record: {key}: expected an object, got {region!r:.60}")
    try:
        return RegionText(
            _box(region.get("bbox")), _text(region, "short_expr"), _text(region, "long_expr"), _negatives(region)
        )
    except DatasetError as error:
        kind, _, details = str(error).partition(": ")
        raise DatasetError(f"{kind}: {key}: {details}") from error


def _box(bbox: Any) -> tuple[float, float, float, float]:
    try:
        left, top, right, bottom = (float(corner) for corner in bbox[:4])
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise DatasetError(f"not a record: bbox: expected [x1, y1, x2, y2, score], got {bbox!r:.60}") from error
    if not all(-ROUNDING <= corner <= 1 + ROUNDING for corner in (left, top, right, bottom)):  # false for NaN too
        raise DatasetError(f"box outside the image: bbox: expected fractions of the sides, 0 to 1, got {bbox!r:.80}")
    box = max(left, 0.0), max(top, 0.0), min(right, 1.0), min(bottom, 1.0)
    if not (box[0] < box[2] and box[1] < box[3]):
        raise DatasetError(f"box without area: bbox: expected x1 < x2 and y1 < y2, got {bbox!r:.80}")
    return box


def _negatives(region: dict[str, Any]) -> tuple[str, ...]:
    if region.get("flag_short_neg", 0) != 1:
        return ()
    texts = region.get("short_expr_negs")
    if not isinstance(texts, dict) or not texts:
        raise DatasetError(f"empty caption: short_expr_negs: flag_short_neg is 1, expected texts, got {texts!r:.60}")
    return tuple(_text(texts, name) for name in texts)


class FileRecords:
    """The checked records of JSON files, with images in a folder. A `Source`."""

    def __init__(
        self,
        places: Sequence[str | Path],
        images: str | Path,
        *,
        watch: Callable[[Iterator[Any]], Iterator[Any]] = iter,
    ) -> None:
        """Read and check the files.

        Args:
            places: .json or .jsonl files, or folders of them. A file that begins with "[" is read as a list.
            images: the folder that the paths in `f_path` are relative to.
            watch: wraps the iterator over records, for a progress bar.

        Raises:
            DatasetError: a file is missing, a list is not JSON, or the files have no record.
        """
        self.images = Path(images)
        self.files = _files(places)
        if not self.images.is_dir():
            raise DatasetError(
                f"images: expected a folder, got {one_line(images)}; give the folder that f_path is relative to"
            )
        digest, bad = hashlib.sha256(), []
        spans = array("q")
        for number, path in enumerate(self.files):
            for where, offset, length, entry in watch(_spans(path, digest)):
                if problem := self._problem(entry):
                    bad.append(BadRecord(where, problem))
                else:
                    spans.extend((number, offset, length))
        self._spans = np.array(spans, np.int64).reshape(-1, 3)
        digest.update(self._spans.tobytes())  # an image that was added or removed changes the indices of records
        self.bad, self.found = tuple(bad), len(bad) + len(self._spans)
        self.identity = digest.hexdigest()
        if not self.found:
            raise DatasetError(f"data: no record in {', '.join(map(str, self.files))}")

    def _problem(self, entry: Any) -> str | None:
        if isinstance(entry, DatasetError):
            return str(entry)
        try:
            record = parse_record(entry)
        except DatasetError as error:
            return one_line(error)
        path = self.images / record.image
        is_file = os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises for names that are too long
        return None if is_file else f"missing file: {one_line(path)}"

    def __len__(self) -> int:
        """Number of good records."""
        return len(self._spans)

    def name(self, index: int) -> str:
        """File and byte offset of a record."""
        number, offset, _ = self._spans[index]
        return f"{self.files[number]}, byte {offset}"

    def sample(self, index: int) -> tuple[Record, NDArray[np.uint8]]:
        """A record and its image.

        Raises:
            ImageError: the image cannot be read.
        """
        number, offset, length = (int(value) for value in self._spans[index])
        with self.files[number].open("rb") as stream:
            stream.seek(offset)
            record = parse_record(json.loads(stream.read(length)))
        return record, read_image(self.images / record.image)


_Span = tuple[str, int, int, Any]  # location, first byte, number of bytes, and the entry or a DatasetError


def _files(places: Sequence[str | Path]) -> list[Path]:
    files: list[Path] = []
    for place in map(Path, places):
        found = sorted([*place.glob("*.json"), *place.glob("*.jsonl")]) if place.is_dir() else [place]
        if not found or not all(path.is_file() for path in found):
            raise DatasetError(
                f"data: expected a .json or .jsonl file or a folder of them, found none at {one_line(place)}"
            )
        files += found
    return files


def _spans(path: Path, digest: Any) -> Iterator[_Span]:
    """Every record of a file with its byte range. Updates the digest with the bytes of the file."""
    with path.open("rb") as stream:
        start = stream.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
    yield from _list_spans(path, digest) if start.startswith(b"[") else _line_spans(path, digest)


def _line_spans(path: Path, digest: Any) -> Iterator[_Span]:
    offset = 0
    with path.open("rb") as stream:
        for number, line in enumerate(stream, start=1):
            digest.update(line)
            if line.strip():
                yield f"{path}, line {number}", offset, len(line), _parsed(line)
            offset += len(line)


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested too deeply
        return DatasetError(f"not a record: {one_line(error)}")


def _list_spans(path: Path, digest: Any) -> Iterator[_Span]:
    data = path.read_bytes()
    digest.update(data)
    try:
        yield from _elements(path, data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DatasetError(
            f"{path}: expected a JSON list of records, got {one_line(error)}; correct the file"
        ) from error


def _elements(path: Path, text: str) -> Iterator[_Span]:
    decoder = json.JSONDecoder()
    at = _after_space(text, text.index("[") + 1)
    offset, counted = 0, 0  # `offset` bytes precede character `counted`
    number = 0
    while not text.startswith("]", at):
        entry, end = decoder.raw_decode(text, at)
        offset += len(text[counted:at].encode())
        length = len(text[at:end].encode())
        yield f"{path}, record {number}", offset, length, entry
        offset, counted, number = offset + length, end, number + 1
        at = _after_space(text, end)
        if text.startswith(",", at):
            at = _after_space(text, at + 1)
        elif not text.startswith("]", at):
            raise ValueError(f"no comma or ] after record {number - 1} (character {at})")


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None  # the pattern also matches an empty string
    return match.end()


def check_bad_share(bad: Sequence[BadRecord], found: int, *, limit: float) -> str:
    """Count the bad records by kind, and refuse too many of them.

    Args:
        bad: the records that are left out.
        found: number of all records.
        limit: maximum share of bad records, 0 to 1.

    Returns:
        one line with the number of bad records, and of each kind.

    Raises:
        DatasetError: the share is larger, or all records are bad.

    Examples:
        >>> check_bad_share([BadRecord("a.jsonl, line 3", "missing file: 7.jpg")], 40, limit=0.05)
        '1 of 40 records are left out (2.5 %): missing file (1)'
    """
    kinds = ", ".join(f"{kind} ({count})" for kind, count in Counter(one.kind for one in bad).most_common())
    line = f"{len(bad)} of {found} records are left out ({100 * len(bad) / found:.3g} %){kinds and f': {kinds}'}"
    if len(bad) > limit * found or len(bad) == found:
        raise DatasetError(
            f"data: {line}, more than the {100 * limit:g} % allowed; the first is {bad[0].where}: {bad[0].reason}; "
            "correct them, or raise max_bad_share"
        )
    return line


def bad_lines(bad: Sequence[BadRecord]) -> str:
    """The log of bad records, one JSON object per line."""
    return "".join(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in bad)
