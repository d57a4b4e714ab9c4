"""The masks and outlines of regions, which several formats write."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_array
from fgseg.errors import OptionError
from fgseg.regions.components import boxed_components
from fgseg.regions.polygons import PixelPolygon, pixel_polygons
from fgseg.types import Region

__all__ = ["Masks", "region_masks", "region_outlines"]

Masks = Mapping[str, NDArray[np.bool_]]
_WHAT_TO_DO = "pass the table made of these masks"


def region_masks(
    masks: Masks, regions: Sequence[Region], image_hw: tuple[int, int]
) -> Iterator[tuple[Region, NDArray[np.bool_]]]:
    """Each region and its mask inside its box."""
    for _, components, numbered in _classes(masks, regions, image_hw):
        for region, number in numbered:
            left, top, right, bottom = region.box_xyxy
            yield region, components[top:bottom, left:right] == number


def region_outlines(
    masks: Masks, regions: Sequence[Region], image_hw: tuple[int, int] | None, *, connectivity: Literal[4, 8]
) -> Iterator[tuple[Region, list[PixelPolygon]]]:
    """Each region and its polygons; the mask of a class is traced once, whatever the number of its components."""
    for mask, components, numbered in _classes(masks, regions, image_hw):
        polygons: dict[int, list[PixelPolygon]] = {}
        for polygon in pixel_polygons(mask, connectivity=connectivity):
            x, y = polygon.exterior_xy[0]  # the pixel to the right and below is inside the polygon
            polygons.setdefault(int(components[y, x]), []).append(polygon)
        for region, number in numbered:
            yield region, polygons[number]


def _classes(
    masks: Masks, regions: Sequence[Region], image_hw: tuple[int, int] | None
) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.integer], list[tuple[Region, int]]]]:
    """For each class with regions: its mask, the numbered components, and each region with its component's number.

    The mask of each class is computed once and not kept.
    """
    names = list(masks)
    for (index, name), rows in groupby(regions, key=lambda region: (region.class_index, region.class_name)):
        if not 0 <= index < len(names) or names[index] != name:
            raise OptionError(
                f"regions: expected the classes {names!r:.200}, got {name!r} as class {index}; {_WHAT_TO_DO}"
            )
        mask = masks[name]
        if image_hw is not None:
            check_array(f"masks[{name!r}]", mask, image_hw, hint="image_hw is (height, width)")
        components, boxes = boxed_components(mask)
        number_of_box = {tuple(box): number for number, box in enumerate(boxes.tolist(), start=1)}
        numbered = [(region, number_of_box.get(region.box_xyxy, 0)) for region in rows]
        for region, number in numbered:
            if not number:
                raise OptionError(
                    f"regions: expected components of the mask of {name!r}, got box {region.box_xyxy}; {_WHAT_TO_DO}"
                )
        yield mask, components, numbered
