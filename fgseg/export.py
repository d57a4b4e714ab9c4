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

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_rle

from fgseg._checks import check_array, check_choice
from fgseg.errors import OptionError
from fgseg.regions.components import boxed_parts
from fgseg.regions.polygons import PixelPolygon, pixel_polygons, single_ring
from fgseg.types import Region

if TYPE_CHECKING:
    from supervision import Detections

__all__ = [
    "coco_annotations",
    "detections",
    "geojson",
    "labelme",
    "regions_csv",
    "regions_json",
    "yolo_segments",
]

Masks = Mapping[str, NDArray[np.bool_]]

_LABELME_VERSION = "5.5.0"  # the layout written here; LabelMe reads it from 4.0 on
_CSV_COLUMNS = (
    "class_name,class_index,left,top,right,bottom,area,centroid_y,centroid_x,mean_score,peak_score,holes"
).split(",")


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
    shapes = _shapes(masks, rows, image_hw)
    found = ((region, _pixel_positions(region, shape, height)) for region, shape in shapes)
    groups = ([pair] for pair in found) if split == "parts" else _by_class(found)
    return {
        "images": [{"id": image_id, "file_name": file_name, "height": height, "width": width}],
        "categories": [{"id": number, "name": name} for number, name in enumerate(masks, start=1)],
        "annotations": [
            {"id": number, "image_id": image_id, **_coco_annotation(group, image_hw)}
            for number, group in enumerate(groups, start=first_annotation_id)
        ],
    }


def geojson(masks: Masks, regions: Sequence[Region]) -> dict[str, Any]:
    """Polygons with holes in GeoJSON's layout (RFC 7946), in pixels, not degrees.

    A feature for each region: a Polygon, or a MultiPolygon where pixels of the region touch at corners only.
    Rings are closed and simple, exteriors counter-clockwise in the numbers (positive shoelace area; y points
    down in an image, so they look clockwise on it), holes clockwise.

    Args:
        masks: class -> (H, W) bool.
        regions: the table `fgseg.regions.table.region_table` made of these masks.

    Returns:
        A FeatureCollection for `json.dump`; properties are class, class_index, area, score (mean presence)
        and peak_score.

    Raises:
        OptionError: a region that is no part of the masks.

    >>> from fgseg.regions import region_table
    >>> masks = {"cat": np.array([[True, False]])}
    >>> regions = region_table(masks, {"cat": np.ones((1, 2), np.float32)})
    >>> geojson(masks, regions)["features"][0]["geometry"]
    {'type': 'Polygon', 'coordinates': [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]}
    """
    features = []
    for region, polygons in _outlines(masks, regions, None, connectivity=4):
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
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    return {"type": "FeatureCollection", "features": features}


def yolo_segments(masks: Masks, regions: Sequence[Region], *, image_hw: tuple[int, int]) -> str:
    """Lines of YOLO's segmentation labels: class index, then x y of each corner divided by width and height.

    A line for each region. The format knows one ring a line, so each hole is joined to the outline by a
    cut of no width (`fgseg.regions.polygons.single_ring`): a rasteriser leaves the hole open. Six decimals: under a
    hundredth of a pixel up to 10,000 pixels.

    Args:
        masks: class -> (H, W) bool.
        regions: the table `fgseg.regions.table.region_table` made of these masks.
        image_hw: (height, width) of the image in pixels.

    Returns:
        The text of the label file, "" without regions.

    Raises:
        OptionError: a region that is no part of the masks.
        ShapeError: masks of another size than `image_hw`.

    >>> from fgseg.regions import region_table
    >>> masks = {"cat": np.array([[True, False]])}
    >>> regions = region_table(masks, {"cat": np.ones((1, 2), np.float32)})
    >>> print(yolo_segments(masks, regions, image_hw=(1, 2)), end="")
    0 0 0 0.5 0 0.5 1 0 1
    """
    height, width = image_hw
    lines = []
    for region, (polygon,) in _outlines(masks, regions, image_hw, connectivity=8):
        numbers = (single_ring(polygon) / (width, height)).ravel().tolist()
        lines.append(" ".join([str(region.class_index), *map(_short_decimal, numbers)]) + "\n")
    return "".join(lines)


def labelme(masks: Masks, regions: Sequence[Region], *, image_name: str, image_hw: tuple[int, int]) -> dict[str, Any]:
    """One image in LabelMe's layout: a polygon for each region.

    LabelMe's polygons know no holes: they are cut open as in `yolo_segments`. `group_id` is null, which is
    how LabelMe says that each shape is an instance of its own. The image is named, not embedded.

    Args:
        masks: class -> (H, W) bool.
        regions: the table `fgseg.regions.table.region_table` made of these masks.
        image_name: path of the image as seen from the file.
        image_hw: (height, width) of the image in pixels.

    Returns:
        A dict for `json.dump`; the mean presence stands in each shape's description.

    Raises:
        OptionError: a region that is no part of the masks.
        ShapeError: masks of another size than `image_hw`.

    >>> from fgseg.regions import region_table
    >>> masks = {"cat": np.array([[True, False]])}
    >>> regions = region_table(masks, {"cat": np.ones((1, 2), np.float32)})
    >>> labelme(masks, regions, image_name="a.png", image_hw=(1, 2))["shapes"][0]["points"]
    [[0, 0], [1, 0], [1, 1], [0, 1]]
    """
    height, width = image_hw
    shapes = [
        {
            "label": region.class_name,
            "points": single_ring(polygon).tolist(),
            "group_id": None,
            "description": f"score {region.mean_score:.3f}",
            "shape_type": "polygon",
            "flags": {},
            "mask": None,
        }
        for region, (polygon,) in _outlines(masks, regions, image_hw, connectivity=8)
    ]
    return {
        "version": _LABELME_VERSION,
        "flags": {},
        "shapes": shapes,
        "imagePath": image_name,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


def regions_json(regions: Sequence[Region]) -> str:
    """The region table as JSON: a list of objects with the fields of `Region`; "[]" without regions.

    Args:
        regions: the table.

    Returns:
        The text of the file; numbers are written so that reading them gives the same floats.

    >>> region = Region("cat", 0, (0, 0, 2, 1), 2, (0.0, 0.5), 0.75, 1.0, 0)
    >>> json.loads(regions_json([region]))[0]["box_xyxy"]
    [0, 0, 2, 1]
    """
    return json.dumps([asdict(region) for region in regions], ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def regions_csv(regions: Sequence[Region]) -> str:
    """The region table as CSV with a header, a row for each region.

    Args:
        regions: the table.

    Returns:
        The text of the file: comma, quotes where needed, a line feed at line ends.

    >>> region = Region("cat", 0, (0, 0, 2, 1), 2, (0.0, 0.5), 0.75, 1.0, 0)
    >>> print(regions_csv([region]).splitlines()[1])
    cat,0,0,0,2,1,2,0.0,0.5,0.75,1.0,0
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    for region in regions:
        scores = (region.mean_score, region.peak_score)
        name = (region.class_name, region.class_index)
        writer.writerow([*name, *region.box_xyxy, region.area, *region.centroid_yx, *scores, region.holes])
    return text.getvalue()


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
        mask=pack(list(_shapes(masks, regions, image_hw)), boxes_xyxy, image_hw),
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
    runs = [_run_lengths(_pixel_positions(*pair, height), height * width) for pair in shapes]
    rows = [{"size": [height, width], "counts": counts} for counts in runs]
    return from_coco_rle(rows, boxes_xyxy - (0, 0, 1, 1), (height, width))  # its boxes are closed


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


def _shapes(
    masks: Masks, regions: Sequence[Region], image_hw: tuple[int, int]
) -> Iterator[tuple[Region, NDArray[np.bool_]]]:
    """Each region and its mask inside its box."""
    for _, parts, found in _classes(masks, regions, image_hw):
        for region, part in found:
            left, top, right, bottom = region.box_xyxy
            yield region, parts[top:bottom, left:right] == part


def _outlines(
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


def _by_class(
    found: Iterator[tuple[Region, NDArray[np.int64]]],
) -> Iterator[list[tuple[Region, NDArray[np.int64]]]]:
    for _, group in groupby(found, key=lambda pair: pair[0].class_index):
        yield list(group)


def _pixel_positions(region: Region, shape: NDArray[np.bool_], height: int) -> NDArray[np.int64]:
    """Positions of a region's pixels down the columns of the image, as COCO counts them, rising."""
    left, top, _, _ = region.box_xyxy
    column, row = np.nonzero(shape.T)
    return (column + left) * height + (row + top)


def _run_lengths(positions: NDArray[np.int64], size: int) -> list[int]:
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
    counts = _run_lengths(positions, height * width)
    rle = coco_rle.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return {
        "category_id": group[0][0].class_index + 1,
        "segmentation": {"size": [height, width], "counts": rle["counts"].decode("ascii")},
        "area": int(areas.sum()),
        "bbox": [left, top, right - left, bottom - top],
        "iscrowd": 0,
        "score": float(np.average([region.mean_score for region, _ in group], weights=areas)),
    }


def _closed_rings(polygon: PixelPolygon) -> list[list[list[int]]]:
    rings = [polygon.exterior_xy, *polygon.holes_xy]
    return [np.concatenate([ring, ring[:1]]).tolist() for ring in rings]


def _short_decimal(number: float) -> str:
    """Six decimals without the zeros at the end; never an exponent, which some readers refuse."""
    return f"{number:.6f}".rstrip("0").rstrip(".")
