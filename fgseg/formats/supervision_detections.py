"""Regions as `supervision.Detections`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fgseg.errors import OptionError
from fgseg.formats.shapes import Masks, region_masks
from fgseg.types import Region

if TYPE_CHECKING:
    from supervision import Detections

__all__ = ["detections"]


def detections(masks: Masks, regions: Sequence[Region], *, image_hw: tuple[int, int]) -> "Detections":
    """The regions as `supervision.Detections`: xyxy, mask, confidence, class_id and data["class_name"].

    Args:
        masks: class -> (H, W) bool.
        regions: the table `fgseg.regions.table.region_table` made of these masks.
        image_hw: (height, width) of the image in pixels.

    Returns:
        One row for each region; boxes are half open, masks are (N, H, W) bool, confidence is the mean presence. The
        same arrays without rows when there is no region.

    Raises:
        OptionError: supervision is not installed; or a region that is not a component of the masks.
        ShapeError: masks of another size than `image_hw`.

    >>> from fgseg.regions import region_table
    >>> masks = {"cat": np.array([[True, False]])}
    >>> regions = region_table(masks, {"cat": np.ones((1, 2), np.float32)})
    >>> detections(masks, regions, image_hw=(1, 2)).xyxy
    array([[0., 0., 1., 1.]], dtype=float32)
    """
    try:
        import supervision
    except ImportError as error:
        raise OptionError(
            'detections: expected the package supervision, got none; pip install "fgseg[detections]"'
        ) from error
    stack = np.zeros((len(regions), *image_hw), bool)
    for full, (region, mask) in zip(stack, region_masks(masks, regions, image_hw), strict=True):
        left, top, right, bottom = region.box_xyxy
        full[top:bottom, left:right] = mask
    return supervision.Detections(
        xyxy=np.array([region.box_xyxy for region in regions], np.float32).reshape(-1, 4),
        mask=stack,
        confidence=np.array([region.mean_score for region in regions], np.float32),
        class_id=np.array([region.class_index for region in regions], np.int64),
        data={"class_name": np.array([region.class_name for region in regions], np.str_)},
    )
