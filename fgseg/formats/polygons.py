"""Regions as polygons: GeoJSON, YOLO segments and LabelMe.

x and y are distances in pixels from the left and top side of the image, and pixel (row, column) covers
column..column+1 and row..row+1. GeoJSON's polygons follow the edges of the pixels. Those of YOLO and LabelMe lie a
thirty-second of a pixel further inside (`fgseg.regions.polygons.inset_ring`), because their readers drop the fraction
of a coordinate and then paint the outline too. Filled as its readers fill it, each format reproduces the mask exactly
at the size of the image, however thin it is. docs/results.md says what other readers make of them.
"""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from fgseg.formats.shapes import Masks, region_outlines
from fgseg.regions.polygons import PixelPolygon, inset_ring
from fgseg.types import Region

__all__ = ["geojson", "labelme", "yolo_segments"]

_LABELME_VERSION = "5.5.0"  # the layout written here; LabelMe reads it from 4.0 on


def geojson(masks: Masks, regions: Sequence[Region]) -> dict[str, Any]:
    """Polygons with holes in GeoJSON's layout (RFC 7946), in pixels, not degrees.

    There is one feature for each region: a Polygon, or a MultiPolygon where pixels of the region touch only at corners.
    Rings are closed and simple. Exteriors are counter-clockwise in the numbers (positive shoelace area); as y points
    down in an image, they look clockwise on it. Holes run the other way.

    Args:
        masks: class -> (H, W) bool.
        regions: the table `fgseg.regions.table.region_table` made of these masks.

    Returns:
        A FeatureCollection for `json.dump`; properties are class, class_index, area, score (mean presence)
        and peak_score.

    Raises:
        OptionError: a region that is not a component of the masks.

    >>> from fgseg.regions import region_table
    >>> masks = {"cat": np.array([[True, False]])}
    >>> regions = region_table(masks, {"cat": np.ones((1, 2), np.float32)})
    >>> geojson(masks, regions)["features"][0]["geometry"]
    {'type': 'Polygon', 'coordinates': [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]}
    """
    outlines = region_outlines(masks, regions, None, connectivity=4)
    return {"type": "FeatureCollection", "features": [_feature(region, polygons) for region, polygons in outlines]}


def yolo_segments(masks: Masks, regions: Sequence[Region], *, image_hw: tuple[int, int]) -> str:
    """Lines of YOLO's segmentation labels: class index, then x y of each corner divided by width and height.

    There is one line for each region. The format allows one ring per line, so each hole is joined to the outline by a
    cut, and a rasteriser leaves the hole open. Ultralytics drops the fractions of the pixel coordinates and fills with
    OpenCV's fillPoly, which paints the outline too; this gives the mask back exactly. Numbers have six decimals.

    Args:
        masks: class -> (H, W) bool.
        regions: the table `fgseg.regions.table.region_table` made of these masks.
        image_hw: (height, width) of the image in pixels.

    Returns:
        The text of the label file, "" without regions.

    Raises:
        OptionError: a region that is not a component of the masks.
        ShapeError: masks of another size than `image_hw`.

    >>> from fgseg.regions import region_table
    >>> masks = {"cat": np.array([[True, False]])}
    >>> regions = region_table(masks, {"cat": np.ones((1, 2), np.float32)})
    >>> print(yolo_segments(masks, regions, image_hw=(1, 2)), end="")
    0 0.015625 0.03125 0.484375 0.03125 0.484375 0.96875 0.015625 0.96875
    """
    height, width = image_hw
    lines = []
    for region, (polygon,) in region_outlines(masks, regions, image_hw, connectivity=8):
        numbers = (inset_ring(polygon) / (width, height)).ravel().tolist()
        lines.append(" ".join([str(region.class_index), *map(_short_decimal, numbers)]) + "\n")
    return "".join(lines)


def labelme(
    masks: Masks,
    regions: Sequence[Region],
    *,
    image_name: str,
    image_hw: tuple[int, int],
    image_data: bytes | None = None,
) -> dict[str, Any]:
    """One image in LabelMe's layout: a polygon for each region.

    LabelMe's polygons have no holes: they are cut open as in `yolo_segments`. LabelMe fills them with Pillow's
    polygon, which gives the mask back exactly. `group_id` is null, which tells LabelMe that each shape is an instance
    of its own.

    Args:
        masks: class -> (H, W) bool.
        regions: the table `fgseg.regions.table.region_table` made of these masks.
        image_name: path of the image, relative to the file.
        image_hw: (height, width) of the image in pixels.
        image_data: the image as the bytes of a PNG or JPEG file, which are embedded; None lets LabelMe read
            `image_name`.

    Returns:
        A dict for `json.dump`; the description of each shape holds the mean presence.

    Raises:
        OptionError: a region that is not a component of the masks.
        ShapeError: masks of another size than `image_hw`.

    >>> from fgseg.regions import region_table
    >>> masks = {"cat": np.array([[True, False]])}
    >>> regions = region_table(masks, {"cat": np.ones((1, 2), np.float32)})
    >>> labelme(masks, regions, image_name="a.png", image_hw=(1, 2))["shapes"][0]["points"]
    [[0.03125, 0.03125], [0.96875, 0.03125], [0.96875, 0.96875], [0.03125, 0.96875]]
    """
    height, width = image_hw
    shapes = [
        {
            "label": region.class_name,
            "points": inset_ring(polygon).tolist(),
            "group_id": None,
            "description": f"score {region.mean_score:.3f}",
            "shape_type": "polygon",
            "flags": {},
            "mask": None,
        }
        for region, (polygon,) in region_outlines(masks, regions, image_hw, connectivity=8)
    ]
    return {
        "version": _LABELME_VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": image_name,
        "imageData": None if image_data is None else base64.b64encode(image_data).decode("ascii"),
        "imageHeight": height,
        "imageWidth": width,
    }


def _feature(region: Region, polygons: Sequence[PixelPolygon]) -> dict[str, Any]:
    coordinates = [_closed_rings(polygon) for polygon in polygons]
    geometry: dict[str, Any] = {"type": "MultiPolygon", "coordinates": coordinates}
    if len(coordinates) == 1:
        geometry = {"type": "Polygon", "coordinates": coordinates[0]}
    properties = {
        "class": region.class_name,
        "class_index": region.class_index,
        "area": region.area,
        "score": region.mean_score,
        "peak_score": region.peak_score,
    }
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def _closed_rings(polygon: PixelPolygon) -> list[list[list[int]]]:
    rings = [polygon.exterior_xy, *polygon.holes_xy]
    return [np.concatenate([ring, ring[:1]]).tolist() for ring in rings]


def _short_decimal(number: float) -> str:
    """Six decimals without trailing zeros; never an exponent, which some readers refuse."""
    return f"{number:.6f}".rstrip("0").rstrip(".")
