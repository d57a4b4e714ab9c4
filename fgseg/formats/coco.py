"""What other tools read: COCO, GeoJSON, YOLO-seg, LabelMe, tables, supervision's Detections.

Every export has one entry for each region of the table it is given, in the table's order, so that files
made of one result agree; a part the table left out (`min_area`) is left out of them all. The masks give the
shapes, one class at a time, and only of classes that have a region. Functions return values; whoever calls
them writes the files.

Polygons follow the edges of the pixels: x and y are distances from the left and top side of the image, and
pixel (row, column) covers column..column+1 and row..row+1. A rasteriser that takes the pixels whose centres
lie inside gives the mask back exactly; one that also paints the outline (OpenCV's fillPoly, PIL's polygon)
is up to half a pixel wider.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_rle

from fgseg._checks import check_choice
from fgseg.formats.shapes import Masks, shapes_of
from fgseg.types import Region

__all__ = ["coco_annotations", "pixel_positions", "run_lengths"]


def coco_annotations(
    masks: Masks,
    regions: Sequence[Region],
    *,
    image_hw: tuple[int, int],
    file_name: str,
    image_id: int = 1,
    split: Literal["parts", "classes"] = "parts",
    first_annotation_id: int = 1,
) -> dict[str, Any]:
    """One image in COCO's layout: images, categories, annotations with compressed RLE.

    `iscrowd` is 0 (COCO's evaluation ignores crowds), bbox is [left, top, width, height] in pixels, area the
    pixels of the mask, score the mean presence. Files of many images: give each its `image_id` and
    `first_annotation_id` and join the lists.

    Args:
        masks: class -> (H, W) bool.
        regions: the table `fgseg.regions.table.region_table` made of these masks.
        image_hw: (height, width) of the image in pixels.
        file_name: the image's name in the file.
        image_id: its number in the file.
        split: "parts": an annotation for each region; "classes": one for each class that has a region, its
            score the mean over its pixels.
        first_annotation_id: annotations are numbered from here.

    Returns:
        A dict for `json.dump`. Category ids count from 1 in the order of `masks`.

    Raises:
        OptionError: a region that is no part of the masks, or another `split`.
        ShapeError: masks of another size than `image_hw`.

    >>> from fgseg.regions import region_table
    >>> masks = {"cat": np.array([[True, True], [False, False]])}
    >>> regions = region_table(masks, {"cat": np.full((2, 2), 0.75, np.float32)})
    >>> file = coco_annotations(masks, regions, image_hw=(2, 2), file_name="a.png")
    >>> file["annotations"][0]["segmentation"], file["annotations"][0]["bbox"], file["categories"]
    ({'size': [2, 2], 'counts': '01100'}, [0, 0, 2, 1], [{'id': 1, 'name': 'cat'}])
    """
    check_choice("split", split, ("parts", "classes"))
    height, width = image_hw
    rows = sorted(regions, key=lambda region: region.class_index) if split == "classes" else regions
    shapes = shapes_of(masks, rows, image_hw)
    found = ((region, pixel_positions(region, shape, height)) for region, shape in shapes)
    groups = ([pair] for pair in found) if split == "parts" else _by_class(found)
    return {
        "images": [{"id": image_id, "file_name": file_name, "height": height, "width": width}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(masks, start=1)],
        "annotations": [
            {"id": number, "image_id": image_id, **_coco_annotation(group, image_hw)}
            for number, group in enumerate(groups, start=first_annotation_id)
        ],
    }


def _by_class(
    found: Iterator[tuple[Region, NDArray[np.int64]]],
) -> Iterator[list[tuple[Region, NDArray[np.int64]]]]:
    for _, group in groupby(found, key=lambda pair: pair[0].class_index):
        yield list(group)


def pixel_positions(region: Region, shape: NDArray[np.bool_], height: int) -> NDArray[np.int64]:
    """Positions of a region's pixels down the columns of the image, as COCO counts them, rising."""
    left, top, _, _ = region.box_xyxy
    column, row = np.nonzero(shape.T)
    return (column + left) * height + (row + top)


def run_lengths(positions: NDArray[np.int64], size: int) -> list[int]:
    """Rising positions of set pixels -> lengths of alternating runs of 0 and 1, beginning with 0."""
    gap = np.flatnonzero(np.diff(positions) > 1)
    starts = positions[np.concatenate([[0], gap + 1])]
    ends = positions[np.concatenate([gap, [-1]])] + 1
    edges = np.stack([starts, ends], axis=1).ravel()
    lengths: list[int] = np.diff(edges, prepend=0).tolist()
    return lengths if edges[-1] == size else [*lengths, size - int(edges[-1])]


def _coco_annotation(group: list[tuple[Region, NDArray[np.int64]]], image_hw: tuple[int, int]) -> dict[str, Any]:
    height, width = image_hw
    boxes = np.array([region.box_xyxy for region, _ in group])
    areas = np.array([region.area for region, _ in group])
    left, top = boxes[:, :2].min(axis=0).tolist()
    right, bottom = boxes[:, 2:].max(axis=0).tolist()
    positions = np.sort(np.concatenate([positions for _, positions in group]))
    counts = run_lengths(positions, height * width)
    rle = coco_rle.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return {
        "category_id": group[0][0].class_index + 1,
        "segmentation": {"size": [height, width], "counts": rle["counts"].decode("ascii")},
        "area": int(areas.sum()),
        "bbox": [left, top, right - left, bottom - top],
        "iscrowd": 0,
        "score": float(np.average([region.mean_score for region, _ in group], weights=areas)),
    }
