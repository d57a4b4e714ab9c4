"""Labels from COCO's annotation files: panoptic (one PNG of segment ids per image) and instance (polygons, RLE).

The formats are described at cocodataset.org/#format-data.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_rle

from fgseg._files import one_line
from fgseg.datasets.dataset import Dataset, LabelledImage
from fgseg.datasets.documents import expect_layout, read_document
from fgseg.datasets.standard_sets import BACKGROUND
from fgseg.errors import DatasetError
from fgseg.images.reading import MAX_PIXELS, open_image, read_image
from fgseg.prompts.classes import PromptClass
from fgseg.types import unlabelled_value

__all__ = ["InstanceLabels", "PanopticLabels", "open_coco"]

Row = Mapping[str, Any]


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
        with open_image(self.path, MAX_PIXELS) as image:
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
    """Classes of polygons and run lengths. Small shapes are drawn over large ones; all other pixels are background, 0.

    Attributes:
        path: the annotation file.
        size_hw: (height, width) of the image, from the annotation file.
        shapes: per instance its class index and COCO's `segmentation`, which is polygons or RLE of either form.
    """

    path: Path
    size_hw: tuple[int, int]
    shapes: Sequence[tuple[int, Any]]

    def meaning(self) -> str:
        """The shapes and their classes, as text."""
        return json.dumps([self.size_hw, list(self.shapes)])

    def image_hw(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.size_hw

    def read(self) -> NDArray[np.int32]:
        """Draw the shapes. A shape that does not fit the image is refused."""
        height, width = self.size_hw
        labels = np.zeros((width, height), np.int32)  # run lengths go along the columns
        drawn = [(index, self._runs(shape)) for index, shape in self.shapes]
        for index, runs in sorted(drawn, key=lambda pair: -sum(pair[1][1::2])):
            inside = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
            labels[inside.reshape(width, height)] = index
        return np.ascontiguousarray(labels.T)

    def _runs(self, shape: Any) -> list[int]:
        """Lengths of the runs of pixels outside, inside, outside and so on, of a shape in any of COCO's forms."""
        height, width = self.size_hw
        try:
            runs = _polygon_runs(shape, height, width) if isinstance(shape, list) else _stored_runs(shape["counts"])
            if not isinstance(shape, list) and tuple(shape["size"]) != self.size_hw:
                raise ValueError("another size")
            if min(runs) < 0 or sum(runs) != height * width:
                raise ValueError(f"{sum(runs)} pixels")
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DatasetError(
                f"{one_line(self.path)}: expected polygons or run lengths of {width} x {height} pixels, "
                f"got {shape!r:.60} ({one_line(error)})"
            ) from error
        return runs


def _polygon_runs(polygons: list[Any], height: int, width: int) -> list[int]:
    if not polygons or any(len(polygon) < 6 or len(polygon) % 2 for polygon in polygons):
        raise ValueError("a polygon has at least three corners, with x and y of each")
    return _stored_runs(coco_rle.merge(coco_rle.frPyObjects(polygons, height, width))["counts"])


def _stored_runs(counts: Any) -> list[int]:
    """Run lengths from a list, or from COCO's string: five bits per character, from the fourth run on as differences.

    pycocotools' decoder (2.0.11) is not used, because numpy 2 warns of it. The format is that of rleFrString in
    cocoapi's maskApi.c.

    >>> _stored_runs("01c0")
    [0, 1, 19]
    """
    if isinstance(counts, list):
        return [int(run) for run in counts]
    runs: list[int] = []
    value = bits = 0
    for character in counts.encode("ascii") if isinstance(counts, str) else counts:
        value |= ((character - 48) & 0x1F) << bits
        bits += 5
        if not (character - 48) & 0x20:  # the last character of this run
            if (character - 48) & 0x10:  # negative: only a difference can be
                value -= 1 << bits
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = bits = 0
    return runs


def open_coco(path: Path, images: Path | None) -> Dataset:
    """The images of an annotation file, panoptic or instance.

    Pixels of no segment are ignored in a panoptic file, and are class 0, background, in an instance file. A crowd
    counts as its class. The classes are the file's categories in the order of their ids; "_" in a name becomes a
    space in the query word.

    Args:
        path: the annotation file.
        images: folder of the images. None looks for `images` beside the file and for COCO's own layout
            (`val2017` beside the folder of `instances_val2017.json`).

    Raises:
        DatasetError: the file has another form, or there is no folder of images.
    """
    document = read_document(path)
    with expect_layout(path, "COCO's layout with images, annotations and categories"):
        rows = defaultdict(list)
        for annotation in document["annotations"]:
            rows[annotation["image_id"]].append(annotation)
        categories = sorted(document["categories"], key=lambda row: int(row["id"]))
        folder = images or _image_folder(path)
        build = _panoptic if any("segments_info" in row for row in document["annotations"]) else _instance
        return build(path, folder, categories, [(row, rows[row["id"]]) for row in document["images"]])


def _panoptic(path: Path, folder: Path, categories: Sequence[Row], images: Sequence[tuple[Row, list[Row]]]) -> Dataset:
    index_of = {int(row["id"]): index for index, row in enumerate(categories)}
    ignore = unlabelled_value(len(categories))
    maps = path.with_suffix("") if path.with_suffix("").is_dir() else path.parent / "panoptic"
    items = []
    for image, rows in images:
        file_name = rows[0]["file_name"] if rows else Path(image["file_name"]).with_suffix(".png").name
        segments = {int(s["id"]): index_of[s["category_id"]] for row in rows for s in row["segments_info"]}
        items.append(_item(folder, image, PanopticLabels(maps / file_name, {0: ignore, **segments})))
    return Dataset(path.stem, folder.parent, _classes(categories), tuple(items), ignore)


def _instance(path: Path, folder: Path, categories: Sequence[Row], images: Sequence[tuple[Row, list[Row]]]) -> Dataset:
    index_of = {int(row["id"]): index for index, row in enumerate(categories, start=1)}
    items = []
    for image, rows in images:
        shapes = [(index_of[row["category_id"]], row["segmentation"]) for row in rows]
        size_hw = int(image["height"]), int(image["width"])
        items.append(_item(folder, image, InstanceLabels(path, size_hw, shapes)))
    classes = (BACKGROUND, *_classes(categories))
    return Dataset(path.stem, folder.parent, classes, tuple(items), ignore=None, has_background=True)


def _item(folder: Path, image: Row, labels: PanopticLabels | InstanceLabels) -> LabelledImage:
    file_name = str(image["file_name"])
    return LabelledImage(Path(file_name).with_suffix("").as_posix(), folder / file_name, labels)


def _classes(categories: Sequence[Row]) -> tuple[PromptClass, ...]:
    return tuple(PromptClass(row["name"], (" ".join(row["name"].replace("_", " ").split()),)) for row in categories)


def _image_folder(path: Path) -> Path:
    split = path.stem.partition("_")[2]
    candidates = [path.parent / "images"]
    if split:
        candidates += [path.parent.parent / split, path.parent.parent / "images" / split]
    for folder in candidates:
        if folder.is_dir():
            return folder
    tried = ", ".join(one_line(folder) for folder in candidates)
    raise DatasetError(f"{one_line(path)}: expected its images in one of {tried}, got no such folder; give root")
