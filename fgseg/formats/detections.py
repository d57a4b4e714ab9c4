"""Regions as `supervision.Detections`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_choice
from fgseg.errors import OptionError
from fgseg.formats.coco import pixel_positions, run_lengths
from fgseg.formats.shapes import Masks, shapes_of
from fgseg.types import Region

if TYPE_CHECKING:
    from supervision import Detections

__all__ = ["detections"]


def detections(
    masks: Masks,
    regions: Sequence[Region],
    *,
    image_hw: tuple[int, int],
    storage: Literal["dense", "compact"] = "dense",
) -> "Detections":
    """The regions as `supervision.Detections`: xyxy, mask, confidence, class_id and data["class_name"].

    Args:
        masks: class -> (H, W) bool.
        regions: the table `fgseg.regions.table.region_table` made of these masks.
        image_hw: (height, width) of the image in pixels.
        storage: "dense": masks as an (N, H, W) bool array, which for many regions of a large image fits
            nowhere; "compact": supervision's CompactMask, run lengths (supervision 0.30 and later).

    Returns:
        One row for each region; boxes are half open, confidence is the mean presence. The same arrays with
        no row when there is no region.

    Raises:
        OptionError: supervision is not installed or too old for "compact"; a region that is no part of the
            masks; another `storage`.
        ShapeError: masks of another size than `image_hw`.

    >>> from fgseg.regions import region_table
    >>> masks = {"cat": np.array([[True, False]])}
    >>> regions = region_table(masks, {"cat": np.ones((1, 2), np.float32)})
    >>> detections(masks, regions, image_hw=(1, 2)).xyxy
    array([[0., 0., 1., 1.]], dtype=float32)
    """
    check_choice("storage", storage, ("dense", "compact"))
    supervision = _supervision()
    boxes_xyxy = np.array([region.box_xyxy for region in regions], np.float32).reshape(-1, 4)
    pack = _dense_masks if storage == "dense" else _compact_masks
    found: Detections = supervision.Detections(
        xyxy=boxes_xyxy,
        mask=pack(list(shapes_of(masks, regions, image_hw)), boxes_xyxy, image_hw),
        confidence=np.array([region.mean_score for region in regions], np.float32),
        class_id=np.array([region.class_index for region in regions], np.int64),
        data={"class_name": np.array([region.class_name for region in regions], np.str_)},
    )
    return found


def _supervision() -> Any:
    try:
        import supervision
    except ImportError as error:
        raise OptionError(
            "detections: expected the package supervision, got none; pip install fgseg[detections]"
        ) from error
    return supervision


def _dense_masks(
    shapes: list[tuple[Region, NDArray[np.bool_]]], _: NDArray[np.float32], image_hw: tuple[int, int]
) -> NDArray[np.bool_]:
    stack = np.zeros((len(shapes), *image_hw), bool)
    for full, (region, shape) in zip(stack, shapes, strict=True):
        left, top, right, bottom = region.box_xyxy
        full[top:bottom, left:right] = shape
    return stack


def _compact_masks(
    shapes: list[tuple[Region, NDArray[np.bool_]]],
    boxes_xyxy: NDArray[np.float32],
    image_hw: tuple[int, int],
) -> Any:
    try:
        from supervision.detection.compact_mask import CompactMask

        from_coco_rle = CompactMask.from_coco_rle
    except (ImportError, AttributeError) as error:
        raise OptionError(
            'storage: expected "dense" with this version of supervision, got "compact"; pip install -U supervision'
        ) from error
    height, width = image_hw
    runs = [run_lengths(pixel_positions(*pair, height), height * width) for pair in shapes]
    rows = [{"size": [height, width], "counts": counts} for counts in runs]
    return from_coco_rle(rows, boxes_xyxy - (0, 0, 1, 1), (height, width))  # its boxes are closed
