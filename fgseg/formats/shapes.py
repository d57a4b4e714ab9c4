"""The pixels and outlines of regions, which several formats write."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_array
from fgseg.errors import OptionError
from fgseg.regions.components import boxed_parts
from fgseg.regions.polygons import PixelPolygon, pixel_polygons
from fgseg.types import Region

__all__ = ["Masks", "outlines_of", "shapes_of"]

Masks = Mapping[str, NDArray[np.bool_]]


def _classes(
    masks: Masks, regions: Sequence[Region], image_hw: tuple[int, int] | None
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.int32], list[tuple[Region, int]]]]:
    """Of each class with regions: its mask, the numbered parts, and each region with its part's number.

    Each class's mask is asked for once and then let go.
    """
    names = list(masks)
    for (index, name), rows in groupby(regions, key=lambda region: (region.class_index, region.class_name)):
        if not 0 <= index < len(names) or names[index] != name:
            raise OptionError(
                f"regions: expected the classes {names!r:.200}, got {name!r} as class {index}; "
                "pass the table made of these masks"
            )
        mask = masks[name]
        if image_hw is not None:
            check_array(f"masks[{name!r}]", mask, image_hw, hint="image_hw is (height, width)")
        parts, boxes = boxed_parts(mask)
        part_of_box = {tuple(box): part for part, box in enumerate(boxes.tolist(), start=1)}
        found = [(region, part_of_box.get(region.box_xyxy, 0)) for region in rows]
        if lost := [region for region, part in found if not part]:
            raise OptionError(
                f"regions: expected parts of the mask of {name!r}, got box {lost[0].box_xyxy}; "
                "pass the table made of these masks"
            )
        yield mask, parts, found


def shapes_of(
    masks: Masks, regions: Sequence[Region], image_hw: tuple[int, int]
) -> Iterator[tuple[Region, NDArray[np.bool_]]]:
    """Each region and its mask inside its box."""
    for _, parts, found in _classes(masks, regions, image_hw):
        for region, part in found:
            left, top, right, bottom = region.box_xyxy
            yield region, parts[top:bottom, left:right] == part


def outlines_of(
    masks: Masks, regions: Sequence[Region], image_hw: tuple[int, int] | None, *, connectivity: Literal[4, 8]
) -> Iterator[tuple[Region, list[PixelPolygon]]]:
    """Each region and its polygons; a class's mask is traced once, whatever the number of its parts."""
    for mask, parts, found in _classes(masks, regions, image_hw):
        polygons: dict[int, list[PixelPolygon]] = {}
        for polygon in pixel_polygons(mask, connectivity=connectivity):
            x, y = polygon.exterior_xy[0]  # the pixel right and below it is the polygon's
            polygons.setdefault(int(parts[y, x]), []).append(polygon)
        for region, part in found:
            yield region, polygons[part]
