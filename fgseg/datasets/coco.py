"""Labels from COCO's annotation files: panoptic (one PNG of segment ids per image) and instance (polygons, RLE).

The formats are described at cocodataset.org/#format-data.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fgseg._files.names import one_line
from fgseg.datasets.annotations import (
    CocoRow,
    CocoRows,
    Fault,
    UnusableError,
    fault_lines,
    kept_rows,
    read_coco,
    short_text,
    whole_number,
)
from fgseg.datasets.coco_masks import Mask, checked_mask, draw_masks
from fgseg.datasets.dataset import Dataset, LabelledImage
from fgseg.datasets.documents import check_file_name, find_image, is_file
from fgseg.datasets.labels import LabelSource
from fgseg.datasets.standard_sets import BACKGROUND, is_background
from fgseg.errors import DatasetError
from fgseg.images.reading import MAX_PIXELS, open_image, read_image
from fgseg.types import unlabelled_value

__all__ = ["InstanceLabels", "PanopticLabels", "open_coco"]

_MOST_NAMED = 5  # annotations that a message names


@dataclass(frozen=True)
class PanopticLabels:
    """Classes of an RGB PNG whose pixels hold segment ids, R + 256 G + 65536 B.

    Attributes:
        path: the PNG.
        index_of: segment id -> class index or ignored label; 0 means no segment.
    """

    path: Path
    index_of: Mapping[int, int]

    def meaning(self) -> str:
        """The class of each segment, as text."""
        return str(sorted(self.index_of.items()))

    def image_hw(self) -> tuple[int, int]:
        """(height, width) in pixels, from the header."""
        with open_image(self.path, one_line(self.path), MAX_PIXELS) as image:
            if image.format != "PNG" or image.mode not in ("RGB", "RGBA"):
                raise DatasetError(
                    f"{one_line(self.path)}: expected an RGB PNG of segment ids, got {image.format} with pixels of "
                    f"{image.mode}; check the folder beside the annotation file"
                )
            return image.height, image.width

    def read(self) -> NDArray[np.int32]:
        """Read and decode the PNG. An id that is no segment of this image is refused."""
        self.image_hw()
        segments = read_image(self.path).astype(np.int32) @ np.array([1, 256, 65_536], np.int32)
        ids, inverse = np.unique(segments, return_inverse=True)
        unknown = [int(value) for value in ids if int(value) not in self.index_of]
        if unknown:
            raise DatasetError(
                f"{one_line(self.path)}: expected the segment ids that its annotation lists, got {unknown[0]} as well; "
                "take the PNG and the annotation file from one edition"
            )
        labels: NDArray[np.int32] = np.array([self.index_of[int(value)] for value in ids], np.int32)[inverse]
        return labels.reshape(segments.shape)


@dataclass(frozen=True)
class InstanceLabels:
    """Classes of polygons and run lengths. Small masks are drawn over large ones; all other pixels are background, 0.

    Attributes:
        path: the annotation file.
        size_hw: (height, width) of the image, from the annotation file.
        masks: label and mask of each instance, the mask from `checked_mask`.
    """

    path: Path
    size_hw: tuple[int, int]
    masks: Sequence[tuple[int, Mask]]

    def meaning(self) -> str:
        """The masks and their classes, as text."""
        return json.dumps([self.size_hw, list(self.masks)])

    def image_hw(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.size_hw

    def read(self) -> NDArray[np.int32]:
        """Draw the masks."""
        return draw_masks(self.masks, self.size_hw)


class _Instance(NamedTuple):
    """An annotation: its label, its mask if it has one, and whether a ring without an area was left out."""

    row: CocoRow
    label: int
    mask: Mask | None
    has_empty_ring: bool


def open_coco(path: Path, images: Path | None) -> Dataset:
    """The images of an annotation file, panoptic or instance.

    Pixels of no segment are ignored in a panoptic file, and are class 0, background, in an instance file, together with
    those of a category of that name. A crowd counts as its class. The classes are the file's categories in the order of
    their ids; "_" in a name becomes a space in the query word. Rows that cannot be used are left out and become
    `annotation_faults`.

    Args:
        path: the annotation file.
        images: folder of the images. None looks for `images` beside the file and for COCO's own layout
            (`val2017` beside the folder of `instances_val2017.json`), or else takes the paths in the file.

    Raises:
        DatasetError: the file has another form, or its images are not found.
    """
    rows = read_coco(path)
    folder = images or _image_folder(path, rows.images)
    is_panoptic = any("segments_info" in row.values for found in rows.annotations.values() for row in found)
    return (_panoptic if is_panoptic else _instance)(rows, folder)


def _panoptic(rows: CocoRows, folder: Path) -> Dataset:
    ignore = unlabelled_value(len(rows.classes))
    own = rows.path.with_suffix("")
    maps = own if own.is_dir() else rows.path.parent / "panoptic"
    sources, faults, used = [], list(rows.faults), 0
    for image in rows.images:
        annotations, more = kept_rows(rows.annotations.get(image.key, ()), _segment_map)
        segments, unknown = _segments(rows, [segment for _, found in annotations for segment in found], ignore)
        file_name = annotations[0][0] if annotations else Path(image.values["file_name"]).with_suffix(".png").name
        sources.append(PanopticLabels(find_image(maps, file_name), {0: ignore, **segments}))
        faults += [*more, *unknown]
        used += len(annotations)
    items = _items(folder, rows.images, sources)
    return Dataset(
        *(rows.path.stem, folder.parent, rows.classes, items, ignore),
        annotation_faults=fault_lines(rows.path, faults),
        notes=_notes_of_names(rows),
        annotations_left_out=rows.total - used,
    )


def _segment_map(row: CocoRow) -> tuple[str, list[CocoRow]]:
    """The name of the PNG of an annotation, and its segments."""
    segments, file_name = row.values.get("segments_info"), row.values.get("file_name")
    if not (isinstance(segments, list) and all(isinstance(segment, dict) for segment in segments)):
        raise UnusableError("a list of segments", segments)
    try:
        name = check_file_name(file_name)
    except ValueError as error:
        raise UnusableError("the file_name of a PNG", file_name) from error
    place = row.place.partition(" of ")[2]
    return name, [
        CocoRow(f"segment {short_text(segment.get('id'))} of {place}", row.key, segment) for segment in segments
    ]


def _segments(rows: CocoRows, segments: Sequence[CocoRow], ignore: int) -> tuple[dict[int, int], list[Fault]]:
    """The label of each segment id. Pixels of a segment without a category are ignored."""
    ids, faults = kept_rows(segments, lambda row: (_segment_id(row), row))
    labels, more = kept_rows([row for _, row in ids], lambda row: (_segment_id(row), rows.category(row.values)))
    return dict.fromkeys((number for number, _ in ids), ignore) | dict(labels), [*faults, *more]


def _segment_id(row: CocoRow) -> int:
    return whole_number(row.values.get("id"), 0, 2**24 - 1, "a segment id from 0 to 16777215")


def _instance(rows: CocoRows, folder: Path) -> Dataset:
    others = [entry for entry in rows.classes if not is_background(entry)]
    label_of = {entry.name: label for label, entry in enumerate(others, start=1)}  # 0, the background, for the rest
    labels = [label_of.get(entry.name, 0) for entry in rows.classes]
    sized, faults = kept_rows(rows.images, lambda row: (row, _size_hw(row)))
    faults = [*rows.faults, *faults]
    sources, instances = [], []
    for image, size_hw in sized:
        found, more = kept_rows(rows.annotations.get(image.key, ()), partial(_instance_of, rows, labels, size_hw))
        masks = [(one.label, one.mask) for one in found if one.mask is not None]
        sources.append(InstanceLabels(rows.path, size_hw, masks))
        instances += found
        faults += more
    items = _items(folder, [image for image, _ in sized], sources)
    return Dataset(
        *(rows.path.stem, folder.parent, (BACKGROUND, *others), items, None, True),
        full_size=len(rows.images) if len(items) < len(rows.images) else None,
        annotation_faults=(*_no_masks(rows.path, instances), *fault_lines(rows.path, faults)),
        notes=(*_notes_of_names(rows), *_notes_of_instances(rows, instances)),
        annotations_left_out=rows.total - sum(one.mask is not None for one in instances),
    )


def _size_hw(row: CocoRow) -> tuple[int, int]:
    expected = f"a height and a width, of at most {MAX_PIXELS} pixels"
    height, width = (whole_number(row.values.get(side), 1, MAX_PIXELS, expected) for side in ("height", "width"))
    if height * width > MAX_PIXELS:
        raise UnusableError(expected, [height, width])
    return height, width


def _instance_of(rows: CocoRows, labels: Sequence[int], size_hw: tuple[int, int], row: CocoRow) -> _Instance:
    label = labels[rows.category(row.values)]
    segmentation = row.values.get("segmentation")
    mask = checked_mask(segmentation, size_hw)
    is_shorter = isinstance(mask, list) and isinstance(segmentation, list) and len(mask) < len(segmentation)
    return _Instance(row, label, mask, is_shorter)


def _no_masks(path: Path, instances: Sequence[_Instance]) -> tuple[str, ...]:
    """The fault of a file for object detection, in which every pixel would be background."""
    if not instances or any(one.mask is not None for one in instances):
        return ()
    return (
        f"{one_line(path)}: expected masks, got {len(instances)} annotations without one; --task boxes measures boxes",
    )


def _notes_of_names(rows: CocoRows) -> tuple[str, ...]:
    """What becomes of categories of the same name."""
    counts = Counter(rows.index_of.values())
    return tuple(
        f"{one_line(rows.path)}: {count} categories are called {rows.classes[index].name!r:.60}; they are one class"
        for index, count in counts.items()
        if count > 1
    )


def _notes_of_instances(rows: CocoRows, instances: Sequence[_Instance]) -> list[str]:
    """What else becomes of categories and annotations of an instance file."""
    name = one_line(rows.path)
    notes = [
        f"{name}: category {entry.name!r:.60} is the background, class 0, like all pixels without a mask"
        for entry in rows.classes
        if is_background(entry)
    ]
    boxes = [one.row.place for one in instances if one.mask is None]
    rings = [one.row.place for one in instances if one.has_empty_ring]
    if boxes:
        counted = f"{len(boxes)} of {rows.total} annotations"
        notes.append(f"{name}: {counted} have no mask, at most a box, and are not drawn: {_named(boxes)}")
    if rings:
        notes.append(
            f"{name}: {len(rings)} of {rows.total} annotations have a ring of under three corners, which is left out "
            f"beside their other rings: {_named(rings)}"
        )
    return notes


def _named(places: Sequence[str]) -> str:
    return ", ".join(places[:_MOST_NAMED]) + (", ..." if len(places) > _MOST_NAMED else "")


def _items(folder: Path, images: Sequence[CocoRow], sources: Sequence[LabelSource]) -> tuple[LabelledImage, ...]:
    files = [image.values["file_name"] for image in images]
    stems = [Path(name).with_suffix("").as_posix().lstrip("/") for name in files]
    counts = Counter(stems)
    # a.jpg and a.png have one stem, and names are unique
    names = [stem if counts[stem] == 1 else name.lstrip("/") for stem, name in zip(stems, files, strict=True)]
    return tuple(
        LabelledImage(name, find_image(folder, file), source)
        for name, file, source in zip(names, files, sources, strict=True)
    )


def _image_folder(path: Path, images: Sequence[CocoRow]) -> Path:
    split = path.stem.partition("_")[2]
    candidates = [path.parent / "images"]
    if split:
        candidates += [path.parent.parent / split, path.parent.parent / "images" / split]
    for folder in candidates:
        if folder.is_dir():
            return folder
    if any(is_file(find_image(path.parent, image.values["file_name"])) for image in images):
        return path.parent
    tried = ", ".join(one_line(folder) for folder in candidates)
    raise DatasetError(f"{one_line(path)}: expected its images in one of {tried}, got no such folder; give root=FOLDER")
