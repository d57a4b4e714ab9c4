"""The table of a segmentation's regions: box, area, centroid, scores and holes of each component."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_array, check_mask, check_shares, check_whole
from fgseg.errors import OptionError
from fgseg.regions.components import labelled_components
from fgseg.regions.measures import COMPONENT, euler_quarters, measured, regions_of
from fgseg.types import Region

__all__ = ["region_table"]

_PRESENCE = "compute it from a score map with fgseg.scoring.presence.presence"


def region_table(
    masks: Mapping[str, NDArray[np.bool_]],
    scores: Mapping[str, NDArray[np.float32]],
    *,
    min_area: int = 1,
) -> tuple[Region, ...]:
    """The connected components (8-connected) of each class's mask, measured.

    One class is held at a time, and the score map of a class without pixels is never computed.

    Args:
        masks: class -> (H, W) bool.
        scores: class -> (H, W) float32 presence in [0, 1]; has every class of `masks`.
        min_area: the area in pixels that a component needs to be listed.

    Returns:
        Regions in the order of `masks`, within a class by decreasing area, equal areas from the top left.

    Raises:
        ShapeError: not a mask; a score map of another shape or with values outside [0, 1].
        OptionError: a class without scores, or a negative area.

    >>> mask = np.array([[True, True, False, True]])
    >>> table = region_table({"cat": mask}, {"cat": np.float32([[0.5, 1.0, 0.0, 0.75]])})
    >>> [(region.box_xyxy, region.area, region.mean_score) for region in table]
    [((0, 0, 2, 1), 2, 0.75), ((3, 0, 4, 1), 1, 0.75)]
    """
    check_whole("min_area", min_area, low=0, high=np.iinfo(np.int64).max)
    known = set(scores)  # `in` may compute the map of a lazy mapping
    if missing := [name for name in masks if name not in known]:
        raise OptionError(f"scores: expected a map for every class, got none for {missing[0]!r}")
    found = [np.empty(0, COMPONENT)]
    for index, name in enumerate(masks):
        mask = masks[name]
        check_mask(f"masks[{name!r}]", mask)
        if mask.any():
            score_map = scores[name]
            check_array(f"scores[{name!r}]", score_map, mask.shape, hint="a score for each pixel of the mask")
            check_shares(f"scores[{name!r}]", score_map[mask], hint=_PRESENCE)
            found.append(_components(mask, score_map, index))
    rows = np.concatenate(found)
    return regions_of(rows[rows["area"] >= min_area], tuple(masks))


def _components(mask: NDArray[np.bool_], score_map: NDArray[np.float32], class_index: int) -> NDArray[np.void]:
    """`COMPONENT` rows of one class's mask, measured inside the box of the mask."""
    top, bottom = np.flatnonzero(mask.any(axis=1))[[0, -1]].tolist()
    left, right = np.flatnonzero(mask.any(axis=0))[[0, -1]].tolist()
    window = slice(top, bottom + 1), slice(left, right + 1)
    components, count = labelled_components(mask[window], connectivity=8)
    classes = np.full(components.shape, class_index, np.int32)
    rows = measured(components, score_map[window], classes, count, corner_yx=(top, left))
    rows["euler_quarters"] = euler_quarters(np.pad(components, ((1, 1), (0, 0))) - 1, count)
    return rows
