"""Regions as COCO annotations."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_rle

from fgseg.errors import ShapeError
from fgseg.formats.shapes import Masks, region_masks
from fgseg.regions.run_lengths import run_lengths
from fgseg.types import Region

__all__ = ["coco_annotations", "decode_mask", "encode_mask"]


def coco_annotations(
    masks: Masks,
    regions: Sequence[Region],
    *,
    image_hw: tuple[int, int],
    file_name: str,
    image_id: int = 1,
    first_annotation_id: int = 1,
) -> dict[str, Any]:
    """One image in COCO's layout: images, categories, annotations with compressed RLE.

    `iscrowd` is 0 (COCO's evaluation ignores crowds), bbox is [left, top, width, height] in pixels, area is the number
    of pixels of the mask, and score is the mean presence. To describe many images in one file, give each its `image_id`
    and `first_annotation_id` and join the lists.

    Args:
        masks: class -> (H, W) bool.
        regions: the table `fgseg.regions.table.region_table` made of these masks.
        image_hw: (height, width) of the image in pixels.
        file_name: name of the image in the file.
        image_id: number of the image in the file.
        first_annotation_id: number of the first annotation; the others follow.

    Returns:
        A dict for `json.dump`. Category ids count from 1 in the order of `masks`.

    Raises:
        OptionError: a region that is not a component of the masks.
        ShapeError: masks of another size than `image_hw`.

    >>> from fgseg.regions import region_table
    >>> masks = {"cat": np.array([[True, True], [False, False]])}
    >>> regions = region_table(masks, {"cat": np.full((2, 2), 0.75, np.float32)})
    >>> file = coco_annotations(masks, regions, image_hw=(2, 2), file_name="a.png")
    >>> file["annotations"][0]["segmentation"], file["annotations"][0]["bbox"], file["categories"]
    ({'size': [2, 2], 'counts': '01100'}, [0, 0, 2, 1], [{'id': 1, 'name': 'cat'}])
    """
    height, width = image_hw
    return {
        "images": [{"id": image_id, "file_name": file_name, "height": height, "width": width}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(masks, start=1)],
        "annotations": [
            {"id": number, "image_id": image_id, **_coco_annotation(region, mask, image_hw)}
            for number, (region, mask) in enumerate(region_masks(masks, regions, image_hw), start=first_annotation_id)
        ],
    }


def encode_mask(mask: NDArray[np.bool_]) -> bytes:
    """The counts of a mask in COCO's compressed run-length code.

    Args:
        mask: (H, W) bool.

    Returns:
        The value of "counts", to which the size of the mask belongs.

    >>> decode_mask(encode_mask(np.array([[True, False, False]])), image_hw=(1, 3))
    array([[ True, False, False]])
    """
    return coco_rle.encode(np.asfortranarray(mask, np.uint8))["counts"]


def decode_mask(counts: bytes, *, image_hw: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask of counts that `encode_mask` made.

    Args:
        counts: of the mask.
        image_hw: (height, width) of the mask in pixels.

    Returns:
        (H, W) bool.

    Raises:
        OptionError: bytes that are no such counts.
        ShapeError: counts of a mask of another size.
    """
    height, width = image_hw
    runs = run_lengths(counts)
    if (runs < 0).any() or runs.sum() != height * width:
        raise ShapeError(f"counts: expected runs of {height * width} pixels, got {runs.sum()}; image_hw is another's")
    columns = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.ascontiguousarray(columns.reshape(width, height).T)


def _coco_annotation(region: Region, mask: NDArray[np.bool_], image_hw: tuple[int, int]) -> dict[str, Any]:
    left, top, right, bottom = region.box_xyxy
    counts = _run_lengths(region, mask, image_hw)
    rle = coco_rle.frPyObjects({"size": list(image_hw), "counts": counts}, *image_hw)
    return {
        "category_id": region.class_index + 1,
        "segmentation": {"size": list(image_hw), "counts": rle["counts"].decode("ascii")},
        "area": region.area,
        "bbox": [left, top, right - left, bottom - top],
        "iscrowd": 0,
        "score": region.mean_score,
    }


def _run_lengths(region: Region, mask: NDArray[np.bool_], image_hw: tuple[int, int]) -> list[int]:
    """Lengths of alternating runs of pixels outside and inside a region, down the columns of the image."""
    left, top, _, _ = region.box_xyxy
    height, width = image_hw
    column, row = np.nonzero(mask.T)
    positions = (column + left) * height + (row + top)
    gap = np.flatnonzero(np.diff(positions) > 1)
    starts = positions[np.concatenate([[0], gap + 1])]
    ends = positions[np.concatenate([gap, [-1]])] + 1
    edges = np.stack([starts, ends], axis=1).ravel()
    lengths: list[int] = np.diff(edges, prepend=0).tolist()
    return lengths if edges[-1] == height * width else [*lengths, height * width - int(edges[-1])]
