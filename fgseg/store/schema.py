"""What a store holds, as values and as Parquet columns. docs/store.md describes every column."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fgseg._checks import check_choice
from fgseg.errors import OptionError

__all__ = [
    "MANIFEST_SCHEMA",
    "SCHEMA",
    "VERSION",
    "ClassRow",
    "Item",
    "RegionRow",
    "Row",
    "Status",
    "Unit",
    "rows_to_table",
    "table_to_rows",
]

VERSION = 1
"""Of the layout; a store of another version is refused."""

Status = Literal["ok", "error"]


@dataclass(frozen=True, slots=True)
class Item:
    """An image of the manifest.

    Attributes:
        image_id: its path relative to the root of its source, with slashes, in Unicode form NFC; unique in a store.
        uri: where it is read from.
        size: in bytes; None if it is not known.
        mtime_ns: time of its last change in nanoseconds; None if it is not known.
        etag: the tag of its content in an object store; None if there is none.

    Raises:
        OptionError: an id that is no relative path or not NFC, or a name with undecodable bytes.
    """

    image_id: str
    uri: str
    size: int | None = None
    mtime_ns: int | None = None
    etag: str | None = None

    def __post_init__(self) -> None:
        _check_names(self.image_id, self.uri)


@dataclass(frozen=True)
class ClassRow:
    """A class in an image.

    Attributes:
        index: of the class in the run's classes.
        name: of the class.
        pixels: of its mask.
        share: of the pixels with data, 0 to 1, as in `Segmentation.to_dict`.
        peak: the largest peak score of its regions, 0 to 1; 0 without regions.
        rle: counts of its mask in COCO's compressed run-length code, for (height, width) of the row.
    """

    index: int
    name: str
    pixels: int
    share: float
    peak: float
    rle: bytes


@dataclass(frozen=True)
class RegionRow:
    """A region, as `fgseg.Region`: the same numbers, with a column for each.

    Attributes:
        class_index: index of its class.
        x0: left side of the box in pixels, half open.
        y0: top.
        x1: right.
        y1: bottom.
        area: in pixels.
        cy: mean row of its pixels.
        cx: mean column.
        mean: mean score, 0 to 1.
        peak: peak score, 0 to 1.
        holes: number of holes.
    """

    class_index: int
    x0: int
    y0: int
    x1: int
    y1: int
    area: int
    cy: float
    cx: float
    mean: float
    peak: float
    holes: int


@dataclass(frozen=True, eq=False)
class Row:
    """The result of an image.

    Attributes:
        image_id: as in `Item`.
        uri: as in `Item`.
        size: as in `Item`.
        mtime_ns: as in `Item`.
        etag: as in `Item`.
        sha256: of the bytes of the image in hexadecimal; "" if they could not be read.
        status: "ok" or "error".
        error_type: name of the error's class; "" without an error.
        error: its message; "" without an error.
        height: in pixels; 0 with an error.
        width: in pixels; 0 with an error.
        unlabelled: pixels with data that no class holds.
        no_data: pixels without data.
        classes: every class of the run, in label order; empty with an error.
        regions: by class, then by decreasing area.
        labels: the label map as PNG, as `fgseg.images.write_label_png` writes it; b"" with an error.
        scores: (T, Gh, Gw) float32 scores on the grid; None unless the run keeps them.
        seconds: that the image took.
        writer: key of the `Writer`; "" is filled in by `Store.commit`.
    """

    image_id: str
    uri: str
    size: int | None
    mtime_ns: int | None
    etag: str | None
    sha256: str
    status: Status
    error_type: str = ""
    error: str = ""
    height: int = 0
    width: int = 0
    unlabelled: int = 0
    no_data: int = 0
    classes: tuple[ClassRow, ...] = ()
    regions: tuple[RegionRow, ...] = ()
    labels: bytes = b""
    scores: NDArray[np.float32] | None = None
    seconds: float = 0.0
    writer: str = ""

    def __post_init__(self) -> None:
        _check_names(self.image_id, self.uri)
        check_choice("status", self.status, get_args(Status))


@dataclass(frozen=True, order=True)
class Unit:
    """A unit of the manifest, which one process does at a time.

    Attributes:
        part: number of its manifest part.
        number: of its row group in the part.
        rows: number of its images.
    """

    part: int
    number: int
    rows: int

    @property
    def name(self) -> str:
        """The name of its files, such as "0000-000012"."""
        return f"{self.part:04d}-{self.number:06d}"


def _check_names(image_id: str, uri: str) -> None:
    """Refuse ids that could lie outside of a folder, and names that Parquet does not hold; a million take a second."""
    is_ascii = image_id.isascii()
    if not (is_ascii or unicodedata.is_normalized("NFC", image_id)):
        raise OptionError(f"image_id: expected Unicode form NFC, got {image_id!r:.200}; normalise it")
    goes_up = ".." in image_id and ".." in image_id.split("/")
    if not image_id or "\0" in image_id or image_id[0] == "/" or goes_up:
        raise OptionError(f"image_id: expected a relative path without '..', got {image_id!r:.200}; give it a root")
    if not (is_ascii and uri.isascii()) and any("\ud800" <= letter <= "\udfff" for letter in image_id + uri):
        raise OptionError(f"image_id: the name {uri!r:.200} is not Unicode; rename the file")


_CLASS = pa.struct([
    ("index", pa.int32()), ("name", pa.string()), ("pixels", pa.int64()), ("share", pa.float64()),
    ("peak", pa.float64()), ("rle", pa.binary()),
])  # fmt: skip
_REGION = pa.struct([
    ("class_index", pa.int32()), *((name, pa.int32()) for name in ("x0", "y0", "x1", "y1")), ("area", pa.int64()),
    *((name, pa.float64()) for name in ("cy", "cx", "mean", "peak")), ("holes", pa.int32()),
])  # fmt: skip
_ITEM = (
    ("image_id", pa.string()), ("uri", pa.string()), ("size", pa.int64()), ("mtime_ns", pa.int64()),
    ("etag", pa.string()),
)  # fmt: skip
MANIFEST_SCHEMA = pa.schema([*_ITEM, ("changed", pa.bool_())])
"""Columns of the manifest. `changed` marks an image that an earlier part has in another version."""
SCHEMA = pa.schema([
    ("part", pa.int32()), ("unit", pa.int32()), *_ITEM, ("sha256", pa.string()), ("status", pa.string()),
    ("error_type", pa.string()), ("error", pa.string()), ("height", pa.int32()), ("width", pa.int32()),
    ("unlabelled", pa.int64()), ("no_data", pa.int64()), ("classes", pa.list_(_CLASS)),
    ("regions", pa.list_(_REGION)), ("labels", pa.binary()), ("scores", pa.list_(pa.float32())),
    ("scores_shape", pa.list_(pa.int32())), ("seconds", pa.float64()), ("writer", pa.string()),
])  # fmt: skip
"""Columns of a shard. `scores` is (T, Gh, Gw) in row-major order, and `scores_shape` holds the three sizes."""


def rows_to_table(rows: Sequence[Row], unit: Unit) -> pa.Table:
    """The rows of a unit as a table with the columns of `SCHEMA`."""
    records = [{"part": unit.part, "unit": unit.number, **_record(row)} for row in rows]
    return pa.Table.from_pylist(records, schema=SCHEMA)


def table_to_rows(table: pa.Table) -> list[Row]:
    """The rows of a table that has the columns of `SCHEMA`."""
    return [_row(record) for record in table.to_pylist()]


def _record(row: Row) -> dict[str, Any]:
    scores = row.scores
    return {
        **vars(row),
        "error": row.error.encode(errors="backslashreplace").decode(),  # it may name a file whose name is not Unicode
        "classes": [vars(entry) for entry in row.classes],
        "regions": [vars(region) for region in row.regions],
        "scores": None if scores is None else scores.astype(np.float32).ravel(),
        "scores_shape": None if scores is None else scores.shape,
    }


def _row(record: Mapping[str, Any]) -> Row:
    values = {name: value for name, value in record.items() if name not in ("part", "unit", "scores_shape")}
    scores = values.pop("scores", None)
    if scores is not None:
        scores = np.array(scores, np.float32).reshape(record["scores_shape"])
    classes = tuple(ClassRow(**entry) for entry in values.pop("classes"))
    regions = tuple(RegionRow(**region) for region in values.pop("regions"))
    return Row(**values, classes=classes, regions=regions, scores=scores)
