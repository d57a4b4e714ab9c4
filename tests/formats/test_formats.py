"""Exports: every format read back gives the masks and the table it was made of."""

import base64
import builtins
import csv
import io
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import supervision
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image, ImageDraw
from pycocotools import mask as coco_rle
from pycocotools.coco import COCO
from skimage.draw import polygon2mask

from fgseg.errors import OptionError, ShapeError
from fgseg.formats.coco import coco_annotations
from fgseg.formats.polygons import geojson, labelme, yolo_segments
from fgseg.formats.supervision_detections import detections
from fgseg.formats.tables import regions_csv, regions_json
from fgseg.regions.components import remove_small
from fgseg.regions.table import region_table
from fgseg.types import LazyMaps, Region

# pycocotools 2.0.11 decodes through an array protocol that numpy 2 warns about; encoding does not.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

property_test = settings(max_examples=60, deadline=None)


def mask_of(*rows):
    return np.array([[pixel == "#" for pixel in row] for row in rows])


SHAPES = {
    "holes and an island": mask_of("#####.", "#...##", "#.#.#.", "#...##", "#####."),
    "diagonal": mask_of("#..", ".#.", "..#"),
    "closed at a corner": mask_of("##.", "#.#", "###"),
    "holes that touch": mask_of("####", "#.##", "##.#", "####"),
    "one pixel": mask_of("...", ".#.", "..."),
    "full": np.ones((3, 4), bool),
    "border": mask_of("#.#", "...", "#.#"),
    "single": np.ones((1, 1), bool),
    "checkerboard": mask_of("#.#.", ".#.#", "#.#.", ".#.#"),
    "empty": np.zeros((3, 5), bool),
}


def tabled(masks, seed=3, **options):
    """The masks' region table, with scores drawn at random."""
    state = np.random.RandomState(seed)
    scores = {name: state.uniform(0, 1, mask.shape).astype(np.float32) for name, mask in masks.items()}
    return region_table(masks, scores, **options)


@st.composite
def mask_sets(draw):
    shape = draw(array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6))
    names = draw(st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=3, unique=True))
    return {name: draw(arrays(bool, shape)) for name in names}


def filled(rings, image_hw):
    """Even-odd rule at pixel centres, edge by edge."""
    y, x = np.indices(image_hw) + 0.5
    odd = np.zeros(image_hw, bool)
    for ring in rings:
        for (ax, ay), (bx, by) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            if ay != by:
                odd ^= ((ay > y) != (by > y)) & (x < ax + (y - ay) / (by - ay) * (bx - ax))
    return odd


def wound(ring, image_hw):
    """Non-zero rule at pixel centres."""
    y, x = np.indices(image_hw) + 0.5
    turns = np.zeros(image_hw, int)
    for (ax, ay), (bx, by) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        if ay != by:
            turns += np.sign(by - ay).astype(int) * (
                ((ay > y) != (by > y)) & (x < ax + (y - ay) / (by - ay) * (bx - ax))
            )
    return turns != 0


def shoelace(ring):
    x, y = np.array(ring).T
    return (x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def image_hw_of(masks):
    return next(iter(masks.values())).shape


def assert_components_make(masks, components):
    """`components`, pairs of class name and mask, do not overlap within a class and together are the masks."""
    union = {name: np.zeros(mask.shape, int) for name, mask in masks.items()}
    for name, component in components:
        union[name] += component
    for name, mask in masks.items():
        np.testing.assert_array_equal(union[name], mask)


def assert_coco_reads_back(masks):
    regions = tabled(masks)
    file = json.loads(json.dumps(coco_annotations(masks, regions, image_hw=image_hw_of(masks), file_name="ü.png")))
    names = {category["id"]: category["name"] for category in file["categories"]}
    components = []
    for annotation, region in zip(file["annotations"], regions, strict=True):
        component = coco_rle.decode(annotation["segmentation"]).astype(bool)
        components.append((names[annotation["category_id"]], component))
        assert annotation["area"] == component.sum() == region.area
        assert annotation["bbox"] == coco_rle.toBbox(annotation["segmentation"]).tolist()
        assert annotation["score"] == region.mean_score
        assert annotation["iscrowd"] == 0
        # the same bytes as pycocotools makes of the whole mask
        encoded = coco_rle.encode(np.asfortranarray(component, np.uint8))["counts"]
        assert annotation["segmentation"]["counts"] == encoded.decode()
    assert_components_make(masks, components)


def assert_geojson_reads_back(masks):
    regions, components = tabled(masks), []
    file = json.loads(json.dumps(geojson(masks, regions)))
    assert file["type"] == "FeatureCollection"
    for feature, region in zip(file["features"], regions, strict=True):
        geometry, properties = feature["geometry"], feature["properties"]
        many = geometry["type"] == "MultiPolygon"
        polygons = geometry["coordinates"] if many else [geometry["coordinates"]]
        assert (len(polygons) > 1) == many
        for exterior, *holes in polygons:
            assert all(ring[0] == ring[-1] for ring in (exterior, *holes))
            assert shoelace(exterior[:-1]) > 0
            assert all(shoelace(hole[:-1]) < 0 for hole in holes)
            for ring in (exterior, *holes):
                assert len({tuple(corner) for corner in ring}) == len(ring) - 1 >= 4
        component = filled([ring[:-1] for polygon in polygons for ring in polygon], image_hw_of(masks))
        components.append((properties["class"], component))
        assert (properties["area"], properties["score"]) == (component.sum(), region.mean_score)
        assert (properties["class_index"], properties["peak_score"]) == (
            region.class_index,
            region.peak_score,
        )
    assert_components_make(masks, components)


def assert_yolo_reads_back(masks):
    height, width = image_hw_of(masks)
    names, components = list(masks), []
    text = yolo_segments(masks, tabled(masks), image_hw=(height, width))
    for line in text.splitlines():
        index, *numbers = line.split(" ")
        ring = np.array(numbers, float).reshape(-1, 2)
        assert ring.min() >= 0
        assert ring.max() <= 1
        ring *= (width, height)
        components.append((names[int(index)], filled([ring], (height, width))))
        np.testing.assert_array_equal(components[-1][1], wound(ring, (height, width)))
    assert len(components) == len(tabled(masks))
    assert_components_make(masks, components)


def assert_labelme_reads_back(masks):
    image_hw, components = image_hw_of(masks), []
    file = labelme(masks, tabled(masks), image_name="bild/ü.png", image_hw=image_hw)
    file = json.loads(json.dumps(file, ensure_ascii=False))
    for shape in file["shapes"]:
        assert (shape["shape_type"], shape["group_id"], shape["flags"]) == ("polygon", None, {})
        components.append((shape["label"], filled([np.array(shape["points"])], image_hw)))
    assert (file["imageHeight"], file["imageWidth"]) == image_hw
    assert_components_make(masks, components)


def assert_detections_read_back(masks):
    regions = tabled(masks)
    found = detections(masks, regions, image_hw=image_hw_of(masks))
    assert found.mask.shape == (len(regions), *image_hw_of(masks))
    assert_components_make(masks, zip(found.data["class_name"].tolist(), found.mask, strict=True))
    for row, region in enumerate(regions):
        assert tuple(found.xyxy[row]) == region.box_xyxy
        assert found.confidence[row] == np.float32(region.mean_score)
        assert list(masks)[found.class_id[row]] == region.class_name


FORMATS = [
    assert_coco_reads_back,
    assert_geojson_reads_back,
    assert_yolo_reads_back,
    assert_labelme_reads_back,
    assert_detections_read_back,
]


@pytest.mark.parametrize("assert_reads_back", FORMATS)
@pytest.mark.parametrize("name", SHAPES)
def test_reading_an_export_back_gives_the_masks_of(name, assert_reads_back):
    mask = SHAPES[name]
    assert_reads_back({"猫, «né»": mask, "rest": ~mask})


@pytest.mark.parametrize("assert_reads_back", FORMATS)
def test_reading_an_export_back_gives_any_small_masks(assert_reads_back):
    @property_test
    @given(mask_sets())
    def every(masks):
        # numpy's own strings drop a NUL at their end, and supervision keeps names in one
        assert_reads_back({name.replace("\0", "0") + str(i): mask for i, (name, mask) in enumerate(masks.items())})

    every()


def test_yolo_and_labelme_polygons_fill_to_the_mask_with_scikit_image_too():
    state = np.random.RandomState(17)
    mask = state.uniform(size=(23, 31)) < 0.6
    masks = {"a": mask}
    regions = tabled(masks)
    shapes = labelme(masks, regions, image_name="a.png", image_hw=mask.shape)["shapes"]
    # polygon2mask takes points (row, column) at pixel centres: half a pixel less
    components = [polygon2mask(mask.shape, np.array(shape["points"])[:, ::-1] - 0.5) for shape in shapes]
    np.testing.assert_array_equal(sum(component.astype(int) for component in components), mask)
    assert sum(region.holes for region in regions) > 10


def by_ultralytics(text, image_hw):
    """The mask that Ultralytics makes of the lines: float32, fractions dropped, OpenCV's fillPoly."""
    mask = np.zeros(image_hw, np.uint8)
    for line in text.splitlines():
        shares = np.array(line.split()[1:], np.float32).reshape(-1, 2)
        cv2.fillPoly(mask, [(shares * np.float32(image_hw[::-1])).astype(np.int32)], 1)
    return mask.astype(bool)


def by_labelme(shapes, image_hw):
    """The mask that LabelMe makes of its polygons with Pillow."""
    mask = Image.new("L", image_hw[::-1])
    for shape in shapes:
        ImageDraw.Draw(mask).polygon([tuple(point) for point in shape["points"]], outline=1, fill=1)
    return np.array(mask).astype(bool)


def assert_readers_give_the_mask(mask):
    masks, image_hw = {"a": mask}, mask.shape
    regions = tabled(masks)
    np.testing.assert_array_equal(by_ultralytics(yolo_segments(masks, regions, image_hw=image_hw), image_hw), mask)
    shapes = labelme(masks, regions, image_name="a.png", image_hw=image_hw)["shapes"]
    assert all(len(shape["points"]) > 2 for shape in shapes)  # LabelMe refuses fewer
    np.testing.assert_array_equal(by_labelme(shapes, image_hw), mask)


THIN = {
    "line of one pixel": (slice(5, 6), slice(2, 30)),
    "upright line": (slice(2, 30), slice(5, 6)),
    "line of two pixels": (slice(5, 7), slice(2, 30)),
    "one pixel in the corner": (slice(39, 40), slice(59, 60)),
    "10 x 10": (slice(5, 15), slice(5, 15)),
}


@pytest.mark.parametrize("name", THIN)
def test_the_readers_of_yolo_and_labelme_give_back_thin_and_small_shapes_exactly(name):
    mask = np.zeros((40, 60), bool)
    mask[THIN[name]] = True
    assert_readers_give_the_mask(mask)


@pytest.mark.parametrize("name", SHAPES)
def test_the_readers_of_yolo_and_labelme_give_back_exactly_the_mask_of(name):
    assert_readers_give_the_mask(SHAPES[name])


@settings(max_examples=200, deadline=None)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)))
def test_the_readers_of_yolo_and_labelme_give_back_any_small_mask_exactly(mask):
    assert_readers_give_the_mask(mask)


def test_the_readers_of_yolo_give_back_the_mask_of_a_wide_image():
    mask = np.zeros((3, 50_001), bool)
    mask[1, 40_001:49_999] = mask[0, 33_333] = True
    assert_readers_give_the_mask(mask)


def test_a_mask_with_a_hundred_thousand_holes_is_exported_exactly():
    mask = np.ones((950, 950), bool)
    mask[1:-1:3, 1:-1:3] = False
    assert (~mask).sum() > 99_000
    text = yolo_segments({"a": mask}, tabled({"a": mask}), image_hw=mask.shape)
    np.testing.assert_array_equal(by_ultralytics(text, mask.shape), mask)


def test_labelme_embeds_an_image_that_is_given():
    assert labelme({}, (), image_name="a.png", image_hw=(1, 1))["imageData"] is None
    file = labelme({}, (), image_name="a.png", image_hw=(1, 1), image_data=b"png")
    assert base64.b64decode(file["imageData"]) == b"png"


def test_a_cut_runs_along_a_grid_line_from_the_hole_to_the_outline():
    mask = mask_of("###", "#.#", "###")
    text = yolo_segments({"a": mask}, tabled({"a": mask}), image_hw=(3, 3))
    corners = np.rint(np.array(text.split()[1:], float).reshape(-1, 2) * 3).astype(int).tolist()
    around = [[1, 1], [1, 2], [2, 2], [2, 1], [1, 1]]
    assert corners == [[0, 0], [3, 0], [3, 3], [0, 3], [0, 1], *around, [0, 1]]


def test_yolo_numbers_have_no_exponent_and_stay_exact_on_a_wide_image():
    mask = np.zeros((2, 9999), bool)
    mask[1, [0, 5000, 9998]] = True
    text = yolo_segments({"a": mask}, tabled({"a": mask}), image_hw=mask.shape)
    assert "e" not in text
    assert text.splitlines()[0] == ("0 0.000003 0.515625 0.000097 0.515625 0.000097 0.984375 0.000003 0.984375")
    assert_yolo_reads_back({"a": mask})


def test_without_regions_every_format_is_an_empty_collection_of_the_same_type():
    masks = {"a": np.zeros((4, 6), bool)}
    for these in (masks, {}):
        file = coco_annotations(these, (), image_hw=(4, 6), file_name="a.png")
        assert file["annotations"] == []
        assert file["images"] == [{"id": 1, "file_name": "a.png", "height": 4, "width": 6}]
        assert len(file["categories"]) == len(these)
        assert geojson(these, ()) == {"type": "FeatureCollection", "features": []}
        assert yolo_segments(these, (), image_hw=(4, 6)) == ""
        assert labelme(these, (), image_name="a.png", image_hw=(4, 6))["shapes"] == []
        found = detections(these, (), image_hw=(4, 6))
        assert len(found) == 0
        assert found.mask.shape == (0, 4, 6)
        assert found.confidence.shape == found.class_id.shape == found.data["class_name"].shape == (0,)
    assert json.loads(regions_json(())) == []
    assert list(csv.reader(io.StringIO(regions_csv(())))) == [regions_csv(()).strip().split(",")]


def test_exports_hold_the_regions_of_the_table_and_no_other_component():
    mask = mask_of("##.#", "....", "####")
    masks, large = {"a": mask}, {"a": remove_small(mask, min_area=2)}
    table = tabled(masks, min_area=2)
    file = coco_annotations(masks, table, image_hw=mask.shape, file_name="")
    components = [("a", coco_rle.decode(row["segmentation"])) for row in file["annotations"]]
    assert_components_make(large, components)
    rings = [feature["geometry"]["coordinates"] for feature in geojson(masks, table)["features"]]
    assert_components_make(large, [("a", filled([np.array(ring[:-1])], mask.shape)) for (ring,) in rings])
    assert len(yolo_segments(masks, table, image_hw=mask.shape).splitlines()) == 2
    assert len(detections(masks, table, image_hw=mask.shape)) == 2


def test_masks_are_computed_once_and_only_for_classes_with_regions():
    table = tabled({"a": np.zeros((3, 3), bool), "b": mask_of("#.#", "...", "#.#")})
    for export in (
        geojson,
        lambda *pair: yolo_segments(*pair, image_hw=(3, 3)),
        lambda *pair: coco_annotations(*pair, image_hw=(3, 3), file_name=""),
    ):
        computed = []
        export(
            LazyMaps(["a", "b"], lambda i, computed=computed: computed.append(i) or mask_of("#.#", "...", "#.#")),
            table,
        )
        assert computed == [1]


def test_overlapping_masks_each_keep_all_their_pixels():
    assert_coco_reads_back({"a": mask_of("##."), "b": mask_of(".##")})


def test_coco_files_load_in_pycocotools_and_annotation_ids_can_go_on_from_another_image(tmp_path, capsys):
    masks = {"猫": SHAPES["border"]}
    file = coco_annotations(
        masks, tabled(masks), image_hw=(3, 3), file_name="a.png", image_id=4, first_annotation_id=10
    )
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(file))
    loaded = COCO(str(path))
    capsys.readouterr()
    assert loaded.getAnnIds(imgIds=[4], iscrowd=False) == [10, 11, 12, 13]
    assert loaded.loadCats([1])[0]["name"] == "猫"
    np.testing.assert_array_equal(sum(loaded.annToMask(row) for row in loaded.anns.values()), masks["猫"])


def test_the_region_table_survives_json_and_csv_exactly():
    masks = {'a "b", c\nd': SHAPES["holes and an island"], "猫": SHAPES["holes and an island"][::-1]}
    regions = tabled(masks)
    back = [
        Region(**{**row, "box_xyxy": tuple(row["box_xyxy"]), "centroid_yx": tuple(row["centroid_yx"])})
        for row in json.loads(regions_json(regions))
    ]
    assert tuple(back) == regions
    rows = list(csv.DictReader(io.StringIO(regions_csv(regions), newline="")))
    for row, region in zip(rows, regions, strict=True):
        box = tuple(int(row[side]) for side in ("left", "top", "right", "bottom"))
        centroid = float(row["centroid_y"]), float(row["centroid_x"])
        scores = float(row["mean_score"]), float(row["peak_score"])
        name = row["class_name"], int(row["class_index"])
        assert Region(*name, box, int(row["area"]), centroid, *scores, int(row["holes"])) == region
    assert "猫" in regions_json(regions)


def test_a_table_of_other_masks_is_refused():
    masks = {"a": mask_of("##."), "b": mask_of("..#")}
    regions = tabled(masks)
    with pytest.raises(OptionError, match=r"regions: expected components of the mask of 'a', got box \(0, 0, 2, 1\)"):
        geojson({"a": mask_of("#.."), "b": mask_of("..#")}, regions)
    with pytest.raises(OptionError, match=r"regions: expected the classes .*, got 'b' as class 1"):
        geojson({"a": mask_of("##.")}, regions)
    with pytest.raises(OptionError, match="got 'a' as class 0"):
        geojson(dict(reversed(masks.items())), regions)
    with pytest.raises(OptionError, match="got 'a' as class -1"):
        geojson({"a": masks["a"]}, [replace(regions[0], class_index=-1)])
    for export in (
        lambda: coco_annotations(masks, regions, image_hw=(3, 1), file_name=""),
        lambda: yolo_segments(masks, regions, image_hw=(3, 1)),
        lambda: labelme(masks, regions, image_name="", image_hw=(3, 1)),
        lambda: detections(masks, regions, image_hw=(3, 1)),
    ):
        with pytest.raises(ShapeError, match=r"masks\['a'\]: expected an array of shape \(3, 1\)"):
            export()


def test_detections_are_of_supervision_and_its_absence_says_what_to_install(monkeypatch):
    assert isinstance(detections({}, (), image_hw=(1, 1)), supervision.Detections)
    real = builtins.__import__

    def without(name, *rest, **options):
        if name == "supervision":
            raise ImportError(name)
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(OptionError, match=r'pip install "fgseg\[detections\]"'):
        detections({}, (), image_hw=(1, 1))
