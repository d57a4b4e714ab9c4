"""A run's results as files of other tools: label maps, pictures, COCO, YOLO and tables, one image in memory at a time.

The values are those that `fgseg segment` writes for the same image.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from fgseg._checks import check_choice, check_choices
from fgseg._files.names import one_line
from fgseg._files.writers import create_bytes, replacing, write_text
from fgseg.drawing.overlay import Base
from fgseg.errors import ImageError, OptionError, OutputError, ShapeError
from fgseg.formats.coco import coco_annotations
from fgseg.formats.polygons import yolo_segments
from fgseg.formats.tables import REGION_COLUMNS, region_values
from fgseg.images.find import IMAGE_SUFFIXES
from fgseg.images.writing import encode_png
from fgseg.segmentation.summary import classes_json
from fgseg.store.contents import Frames
from fgseg.store.results.originals import Originals
from fgseg.store.results.reading import StoreReader
from fgseg.store.results.stored_result import StoredResult

__all__ = ["EXPORTS", "Exported", "export_store"]

log = logging.getLogger("fgseg")
_CLASS_COLUMNS = ("image", "class_name", "class_index", "pixels", "share", "regions", "peak_score")
_INFO = {"description": "file_name is the path of the image, relative to the root of its source"}


@dataclass(frozen=True)
class Exported:
    """What `export_store` wrote.

    Attributes:
        images: number of images with a result.
        skipped: number of images that failed in the run, which no export has.
        failed: number of images whose file could not be read again, for "overlay" and "yolo".
    """

    images: int
    skipped: int
    failed: int


@dataclass(frozen=True)
class _Target:
    """Where an export goes and what it needs."""

    folder: Path
    reader: StoreReader
    originals: Originals
    base: Base


Add = Callable[[StoredResult], None]


def export_store(
    reader: StoreReader,
    folder: str | Path,
    formats: Sequence[str],
    *,
    root: str | Path | None = None,
    base: Base = "grey",
    progress: Callable[[int, int], None] | None = None,
) -> Exported:
    """Write the results of a run as files of other tools.

    Args:
        reader: the results.
        folder: output folder, created if needed.
        formats: names in `EXPORTS`.
        root: the folder that image ids are relative to, if the images are elsewhere than when they were segmented.
        base: of overlays, as in `Segmentation.overlay`.
        progress: called with the number of images that are done, and of all of them.

    Returns:
        How many images were written. Each image that could not be read again is logged.

    Raises:
        OptionError: an unknown format or base; two images whose files would have one name.
        OutputError: the folder cannot be written, or holds an earlier export.
        StoreError: the store cannot be read.
    """
    check_choices("formats", formats, EXPORTS)
    check_choice("base", base, get_args(Base))
    counts = Counter(images=0, skipped=0, failed=0)
    with ExitStack() as stack:
        frames = stack.enter_context(Frames())
        originals = Originals(reader.store.identity, None if root is None else Path(root), frames)
        target = _Target(Path(folder), reader, originals, base)
        adds = [stack.enter_context(EXPORTS[name](target)) for name in dict.fromkeys(formats)]
        for done, row in enumerate(reader):
            if progress is not None:
                progress(done, len(reader))
            counts["images" if row.status == "ok" else "skipped"] += 1
            if row.status == "ok" and not _added(StoredResult(row, reader.store.identity), adds):
                counts["failed"] += 1
    return Exported(**counts)


def _added(result: StoredResult, adds: Sequence[Add]) -> bool:
    """Give a result to every export; whether its image could be read again where that is needed."""
    is_whole = True
    for add in adds:
        try:
            add(result)
        except (ImageError, ShapeError) as error:
            log.warning("%s: %s", result.row.image_id, error)
            is_whole = False
    return is_whole


@contextmanager
def _labels(target: _Target) -> Iterator[Add]:
    folder = _empty(target.folder / "labels")
    write_text(target.folder / "classes.json", classes_json(target.reader.store.identity.classes))
    yield lambda result: _write_new(folder, f"{_stem(result)}.png", result, result.row.labels)


@contextmanager
def _overlays(target: _Target) -> Iterator[Add]:
    folder = _empty(target.folder / "overlays")

    def add(result: StoredResult) -> None:
        picture = result.overlay(target.originals.read(result.row), base=target.base)
        _write_new(folder, f"{_stem(result)}.png", result, encode_png(picture))

    yield add


@contextmanager
def _coco(target: _Target) -> Iterator[Add]:
    """One file; annotations wait in a temporary one, because images come before them."""
    count = annotations = 0
    categories = [{"id": number, "name": name} for number, name in enumerate(target.reader.classes, start=1)]
    target.folder.mkdir(parents=True, exist_ok=True)
    with replacing(target.folder / "coco.json") as file, tempfile.TemporaryFile(dir=target.folder) as waiting:
        file.write(f'{{"info": {_json(_INFO)},\n"categories": {_json(categories)},\n"images": ['.encode())

        def add(result: StoredResult) -> None:
            nonlocal count, annotations
            count += 1
            document = coco_annotations(
                result.masks, result.regions, image_hw=result.image_hw, file_name=result.row.image_id, image_id=count,
                first_annotation_id=annotations + 1,
            )  # fmt: skip
            file.write((",\n" if count > 1 else "\n").encode() + _json(document["images"][0]).encode())
            for annotation in document["annotations"]:
                annotations += 1
                waiting.write((",\n" if annotations > 1 else "\n").encode() + _json(annotation).encode())

        yield add
        file.write(b'],\n"annotations": [')
        waiting.seek(0)
        shutil.copyfileobj(waiting, file)
        file.write(b"]}\n")


@contextmanager
def _yolo(target: _Target) -> Iterator[Add]:
    """Ultralytics' layout: images/ and labels/ with the same names, the list of the images, and data.yaml."""
    folder = _empty(target.folder / "yolo")
    names = "".join(f"  {index}: {_json(name)}\n" for index, name in enumerate(target.reader.classes))
    with replacing(folder / "train.txt") as listed:

        def add(result: StoredResult) -> None:
            name = target.originals.place(result.row, folder / "images", _stem(result))
            lines = yolo_segments(result.masks, result.regions, image_hw=result.image_hw)
            _write_new(folder / "labels", f"{_stem(result)}.txt", result, lines.encode())
            listed.write(f"./images/{name}\n".encode())

        yield add
    write_text(folder / "data.yaml", f"train: train.txt\nval: train.txt\nnames:\n{names}")


@contextmanager
def _regions(target: _Target) -> Iterator[Add]:
    with _csv(target.folder / "regions.csv", ("image", *REGION_COLUMNS)) as write:
        yield lambda result: write([[result.row.image_id, *region_values(region)] for region in result.regions])


@contextmanager
def _classes(target: _Target) -> Iterator[Add]:
    with _csv(target.folder / "classes.csv", _CLASS_COLUMNS) as write:
        yield lambda result: write(list(_class_values(result)))


def _class_values(result: StoredResult) -> Iterator[list[Any]]:
    for entry in result.row.classes:
        count = sum(region.class_index == entry.index for region in result.row.regions)
        yield [result.row.image_id, entry.name, entry.index, entry.pixels, entry.share, count, entry.peak]


EXPORTS: Mapping[str, Callable[[_Target], Any]] = {
    "labels": _labels,
    "overlay": _overlays,
    "coco": _coco,
    "yolo": _yolo,
    "regions": _regions,
    "classes": _classes,
}
"""What a run can be exported as: name -> what writes it."""


@contextmanager
def _csv(path: Path, header: Sequence[str]) -> Iterator[Callable[[list[list[Any]]], None]]:
    with replacing(path) as file:

        def write(rows: list[list[Any]]) -> None:
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows(rows)
            file.write(text.getvalue().encode())

        write([list(header)])
        yield write


def _stem(result: StoredResult) -> str:
    """The name of an image's files: its id without the suffix of a picture."""
    path = PurePosixPath(result.row.image_id)
    return str(path.with_suffix("")) if path.suffix.lower() in IMAGE_SUFFIXES else str(path)


def _empty(folder: Path) -> Path:
    """A folder without files, so that nothing of an earlier export stays in it."""
    if folder.is_dir() and any(folder.iterdir()):
        raise OutputError(f"{one_line(folder)}: expected no folder or an empty one; remove it, or name another folder")
    return folder


def _write_new(folder: Path, name: str, result: StoredResult, data: bytes) -> None:
    if not create_bytes(folder / name, data):
        raise OptionError(
            f"image_id: {result.row.image_id} and another image differ in their suffix alone, and both would be "
            f"{name}; rename one, or export other formats"
        )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
