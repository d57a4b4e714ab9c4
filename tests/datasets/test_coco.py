"""COCO's panoptic and instance annotations."""

import json
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from dataset_folders import IMAGE, coco_folder, put_image, put_png
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_rle

from fgseg.datasets.coco import InstanceLabels
from fgseg.datasets.coco_masks import checked_mask, draw_masks
from fgseg.datasets.faults import preflight
from fgseg.datasets.opening import open_dataset
from fgseg.errors import DatasetError


def instance(category, segmentation, **more):
    return {"id": 1, "image_id": 7, "category_id": category, "segmentation": segmentation, **more}


def test_polygons_and_both_kinds_of_run_lengths_are_drawn_with_small_shapes_over_large_ones(tmp_path):
    square = [1, 1, 4, 1, 4, 3, 1, 3]  # columns 1 to 3, rows 1 and 2
    one_pixel = {"size": [4, 5], "counts": [10, 1, 9]}  # column-major: column 2, row 2
    corner = {"size": [4, 5], "counts": "01c0"}  # compressed: the first pixel alone
    rows = [instance(90, one_pixel, iscrowd=1), instance(3, [square]), instance(90, corner)]
    data = open_dataset(coco_folder(tmp_path, rows))
    assert [entry.synonyms for entry in data.classes] == [("background",), ("car",), ("aero plane",)]
    assert (data.ignore, data.has_background, data.name) == (None, True, "annotations")
    assert data.items[0].read_labels().tolist() == [
        [2, 0, 0, 0, 0],
        [0, 1, 1, 1, 0],
        [0, 1, 2, 1, 0],
        [0, 0, 0, 0, 0],
    ]
    assert preflight(data) == ()


def plain_counts(mask):
    """The lengths of the runs of False, True, False and so on, down the columns."""
    pixels = mask.T.ravel()
    ends = [0, *(np.flatnonzero(pixels[1:] != pixels[:-1]) + 1), pixels.size]
    return [0] * bool(pixels[0]) + [int(length) for length in np.diff(ends)]


@given(mask=arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 6))), compressed=st.booleans())
@settings(deadline=None, max_examples=60)
def test_run_lengths_of_pycocotools_are_decoded_to_the_same_mask(mask, compressed):
    runs = coco_rle.encode(np.asfortranarray(mask, np.uint8))
    shape = {"size": list(mask.shape), "counts": runs["counts"].decode() if compressed else plain_counts(mask)}
    assert InstanceLabels(Path("a.json"), mask.shape, [(1, shape)]).read().tolist() == mask.astype(int).tolist()


def test_run_lengths_of_many_characters_are_decoded():
    mask = np.zeros((200, 300), bool)
    mask[3:170, 40:41] = mask[90:, 50:250] = True
    shape = {"counts": coco_rle.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()}
    assert (InstanceLabels(Path("a.json"), mask.shape, [(1, shape)]).read() == mask).all()


def test_an_image_without_instances_is_all_background(tmp_path):
    assert not open_dataset(coco_folder(tmp_path, [])).items[0].read_labels().any()


SQUARE = [1, 1, 4, 1, 4, 3, 1, 3]
"""Columns 1 to 3, rows 1 and 2."""

DRAWN = [[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]


def opened_beside(tmp_path, *rows, **change):
    """The data set of a square and other annotations, whose ids count from 2."""
    numbered = [{"id": number, "image_id": 7, "category_id": 3, **row} for number, row in enumerate(rows, start=2)]
    coco_folder(tmp_path, [instance(3, [SQUARE]), *numbered])
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    return open_dataset(tmp_path)


RUNS = "expected run lengths that cover the image, got "
RING = "expected rings of [x, y, x, y, ...], got "
NEAR = "expected corners that are finite numbers, and no farther from the image than its size, got "
LONG = "expected a ring of at most 1000000 pixels"
ZIGZAG = [0, 0, 5, 4] * 200_000


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"size": [9, 9], "counts": [81]}, RUNS + "[9, 9] (its size; the image has [4, 5])"),
        ({"size": [5, 4], "counts": [20]}, RUNS + "[5, 4]"),
        ({"size": [True, 5], "counts": [20]}, RUNS + "[True, 5]"),
        ({"size": "4x5", "counts": [20]}, RUNS + "'4x5'"),
        ({"counts": []}, RUNS + "None"),
        ({"size": [4, 5]}, RUNS + "None"),
        ({"size": [4, 5], "counts": [19]}, RUNS + "[19] (not 20 pixels in all)"),
        ({"size": [4, 5], "counts": []}, RUNS + "[] (not 20 pixels in all)"),
        ({"size": [4, 5], "counts": [30, -10]}, RUNS + "[30, -10]"),
        ({"size": [4, 5], "counts": [10, True, 9]}, RUNS + "[10, True, 9]"),
        ({"size": [4, 5], "counts": [10.5, 9.5]}, RUNS + "[10.5, 9.5]"),
        ({"size": [4, 5], "counts": [2**70, 20 - 2**70]}, RUNS),
        ({"size": [4, 5], "counts": [10**400]}, RUNS),
        ({"size": [4, 5], "counts": [float("nan"), float("inf")]}, RUNS),
        ({"size": [4, 5], "counts": {"0": 20}}, RUNS),
        ({"size": [4, 5], "counts": "zzzzz"}, RUNS + "'zzzzz' (no string of run lengths)"),
        ({"size": [4, 5], "counts": "o" * 1_000_000}, "(1000000 characters for 20 pixels)"),
        ({"size": [4, 5], "counts": "o" * 99}, RUNS),  # each "o" adds five bits to the number
        ({"size": [4, 5], "counts": "oooooo0"}, RUNS),
        ({"size": [4, 5], "counts": "d"}, RUNS),
        ({"size": [4, 5], "counts": ""}, RUNS),
        ({"size": [4, 5], "counts": "é"}, RUNS),
        ({"size": [4, 5], "counts": "\ud83d"}, RUNS),
        ("text", "expected a segmentation of rings or run lengths, got 'text'"),
        (True, "expected a segmentation of rings or run lengths, got True"),
        ([[1, 2, 3]], RING),
        ([1, 1, 4, 1, 4, 3], RING + "1"),
        ([[[1, 1], [4, 1], [4, 3], [1, 3]]], RING),
        ([SQUARE, None], RING + "None"),
        ([SQUARE, [1, 1, "4", 1, 4, 3]], RING),
        ([[1, 1, 4, 1, None, 3]], NEAR + "None (among 6 values)"),
        ([[1, 1, 4, 1, float("nan"), 3]], NEAR + "nan"),
        ([[1, 1, 4, 1, float("inf"), 3]], NEAR + "inf"),
        ([[1, 1, 4, 1, True, 3]], NEAR + "True"),
        ([[1, 1, 4, 1, 1e9, 3]], NEAR + "1000000000.0"),
        ([[1, 1, 4, 1, 10**400, 3]], NEAR),
        ([[-6, 1, 4, 1, 4, 3]], NEAR + "-6"),
        ([[1, 1, 4, 1, 4, 9]], NEAR + "9"),
        ([ZIGZAG], "expected a ring of at most 1000000 pixels, got [0, 0, 5, 4, ...] (2000000 pixels long)"),
    ],
)
def test_an_annotation_that_is_no_mask_of_the_image_costs_nothing_else(tmp_path, shape, message):
    data = opened_beside(tmp_path, {"segmentation": shape})
    (fault,) = preflight(data)
    assert fault.startswith(f"{tmp_path}/annotations.json: annotation 2 of image 'a.jpg': ")
    assert message in fault
    assert fault.endswith("; it is left out")
    assert len(fault) < 400
    assert data.items[0].read_labels().tolist() == DRAWN
    assert data.annotations_left_out == 1


@pytest.mark.parametrize("shape", [[], None, [[]], [[1, 1, 3, 3]], [[], [2, 2]], "missing"])
def test_a_box_without_a_mask_is_no_mask_and_is_counted(tmp_path, shape):
    row = {"bbox": [0, 0, 2, 2]} if shape == "missing" else {"bbox": [0, 0, 2, 2], "segmentation": shape}
    data = opened_beside(tmp_path, row, row)
    assert preflight(data) == ()
    assert data.notes == (
        f"{tmp_path}/annotations.json: 2 of 3 annotations have no mask, at most a box, and are not drawn: "
        "annotation 2 of image 'a.jpg', annotation 3 of image 'a.jpg'",
    )
    assert data.items[0].read_labels().tolist() == DRAWN
    assert data.annotations_left_out == 2


def test_a_file_of_boxes_alone_is_a_fault(tmp_path):
    data = open_dataset(coco_folder(tmp_path, [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [0, 0, 2, 2]}]))
    (fault,) = preflight(data)
    assert "annotations.json: expected masks, got 1 annotations without one; --task boxes measures boxes" in fault


def test_good_rings_beside_an_empty_one_are_drawn(tmp_path):
    corner = [0, 0, 1, 0, 1, 1, 0, 1]
    data = opened_beside(tmp_path, {"segmentation": [[], corner, [1, 1, 3, 3]], "category_id": 90})
    assert data.items[0].read_labels().tolist() == [[2, *DRAWN[0][1:]], *DRAWN[1:]]
    assert "1 of 2 annotations have a ring of under three corners" in data.notes[0]
    assert (preflight(data), data.annotations_left_out) == ((), 0)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"category_id": 4}, "annotation 2 of image 'a.jpg': expected the id of a category that can be used, got 4"),
        ({"category_id": None}, "annotation 2 of image 'a.jpg': expected an id that is a whole number or a text"),
        ({"category_id": True}, "got True"),
        ({"category_id": 3.5}, "got 3.5"),
        ({"category_id": [3]}, "got [3]"),
        ({"category_id": float("inf")}, "got inf"),
        ({"category_id": 10**400}, "expected an id"),
        ({"image_id": 8}, "annotation 2: expected the id of an image that can be used, got 8"),
        ({"image_id": False}, "annotation 2: expected the id of an image that can be used, got False"),
        ({"image_id": {}}, "annotation 2: expected the id of an image that can be used, got {}"),
    ],
)
def test_an_annotation_of_no_category_or_image_costs_nothing_else(tmp_path, row, message):
    data = opened_beside(tmp_path, {"segmentation": [SQUARE], **row})
    (fault,) = preflight(data)
    assert message in fault
    assert data.items[0].read_labels().tolist() == DRAWN


def test_several_faults_are_counted_before_they_are_listed(tmp_path):
    coco_folder(tmp_path, [instance(3, [SQUARE]), 5, {}, instance(4, [SQUARE]), instance(5, [SQUARE])])
    data = open_dataset(tmp_path)
    counts, *lines = preflight(data)
    assert counts.endswith(
        "4 rows are left out: 2 where the id of a category that can be used was expected, "
        "1 where a JSON object was expected, 1 where the id of an image that can be used was expected"
    )
    assert "annotation number 2: expected a JSON object, got 5; it is left out" in lines[0]
    assert len(lines) == data.annotations_left_out == 4


@pytest.mark.parametrize("key", ["7", "007", 7.0, 7])
def test_ids_are_equal_as_whole_numbers_and_as_texts(tmp_path, key):
    row = {"segmentation": [[0, 0, 1, 0, 1, 1, 0, 1]], "image_id": key, "category_id": "90"}
    data = opened_beside(tmp_path, row)
    assert data.items[0].read_labels()[0, 0] == 2
    assert preflight(data) == ()


@pytest.mark.parametrize("key", ["a7f0", "007", -3, 10**30, 10**30 + 1, "7" * 5000])
def test_ids_of_images_are_any_whole_number_or_text(tmp_path, key):
    image = IMAGE | {"id": key, "height": 4.0}
    data = open_dataset(coco_folder(tmp_path, [instance(3, [SQUARE]) | {"image_id": key}], image=image))
    assert data.items[0].read_labels().tolist() == DRAWN
    assert preflight(data) == ()


def test_classes_are_in_the_order_of_their_ids_with_texts_last(tmp_path):
    categories = [{"id": key, "name": f"n{key}"} for key in ("x", 10, "9", -1, 2.0, "a")]
    data = opened_beside(tmp_path, {"category_id": "x", "segmentation": [SQUARE]}, categories=categories)
    assert [entry.name for entry in data.classes[1:]] == ["n-1", "n2.0", "n9", "n10", "na", "nx"]


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([{"id": 1}], "category 1: expected a name in one line of text, got None; correct the list of categories"),
        ([{"id": 1, "name": 3}], "expected a name in one line of text, got 3"),
        ([{"id": 1, "name": " "}], "expected a name"),
        ([{"id": 1, "name": "a\nb"}], "expected a name"),
        ([{"id": 1, "name": "\ud83d"}], "expected a name"),
        ([{"name": "a"}], "category number 1: expected an id that is a whole number or a text, got None"),
        ([{"id": True, "name": "a"}], "category True: expected an id"),
        ([{"id": 1, "name": "a"}, {"id": 1.0, "name": "b"}], "category 1: expected each category id once"),
        (["cat"], "category number 1: expected a JSON object, got 'cat'"),
        ({"1": "cat"}, "got no list of categories"),
    ],
)
def test_a_list_of_categories_that_gives_no_classes_is_refused(tmp_path, categories, message):
    with pytest.raises(DatasetError, match=re.escape(message)):
        opened_beside(tmp_path, categories=categories)


@pytest.mark.parametrize(
    ("faulty", "message"),
    [
        ([{"id": 8}], "category 8: expected a name in one line of text, got None; it is left out"),
        ([{"name": "cat"}], "category number 2: expected an id that is a whole number or a text, got None; it is left"),
        (
            [{"id": 8, "name": "a"}, {"id": "8", "name": "b"}],
            "category 8: expected each category id once, got it again",
        ),
    ],
)
def test_a_category_that_cannot_be_used_costs_its_annotations_alone(tmp_path, faulty, message):
    rows = [{"segmentation": [SQUARE], "category_id": 8}, {"segmentation": [[0, 0, 1, 0, 1, 1, 0, 1]]}]
    data = opened_beside(tmp_path, *rows, categories=[{"id": 3, "name": "car"}, *faulty])
    assert [entry.name for entry in data.classes] == ["background", "car"]
    assert data.items[0].read_labels().tolist() == [[1, 0, 0, 0, 0], *DRAWN[1:]]
    _, of_category, of_annotation = data.annotation_faults  # the first counts them
    assert message in of_category
    assert "annotation 2 of image 'a.jpg': expected the id of a category that can be used, got 8" in of_annotation
    assert data.annotations_left_out == 1


@pytest.mark.parametrize("name", ["background", "Background", "_background_"])
def test_a_category_called_background_is_the_background_and_that_is_said(tmp_path, name):
    categories = [{"id": 0, "name": name}, {"id": 3, "name": " car "}]
    row = {"category_id": 0, "segmentation": [[2, 1, 3, 1, 3, 2, 2, 2]]}
    data = opened_beside(tmp_path, row, categories=categories)
    assert [entry.name for entry in data.classes] == ["background", "car"]
    assert data.notes == (
        f"{tmp_path}/annotations.json: category {name!r} is the background, class 0, like all pixels without a mask",
    )
    assert data.items[0].read_labels()[1].tolist() == [0, 1, 0, 1, 0]
    assert preflight(data) == ()


def test_categories_of_one_name_are_one_class_and_that_is_said(tmp_path):
    categories = [{"id": 0, "name": "cup"}, {"id": 3, "name": "cup"}, {"id": 4, "name": "mug"}]
    row = {"category_id": 0, "segmentation": [[0, 0, 1, 0, 1, 1, 0, 1]]}
    data = opened_beside(tmp_path, row, categories=categories)
    assert [entry.name for entry in data.classes] == ["background", "cup", "mug"]
    assert data.notes == (f"{tmp_path}/annotations.json: 2 categories are called 'cup'; they are one class",)
    assert data.items[0].read_labels().tolist() == [[1, *DRAWN[0][1:]], *DRAWN[1:]]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (9, "image number 2: expected a JSON object, got 9"),
        ({"file_name": "b.jpg"}, "image number 2: expected an id that is a whole number or a text, got None"),
        ({"id": True, "file_name": "b.jpg"}, "image True: expected an id"),
        ({"id": 8}, "image 8: expected a file_name, got None"),
        ({"id": 8, "file_name": 5}, "image 8: expected a file_name, got 5"),
        ({"id": 8, "file_name": ""}, "image 8: expected a file_name, got ''"),
        ({"id": 8, "file_name": "a\0.jpg"}, "image 8: expected a file_name, got 'a\\x00.jpg'"),
        ({"id": 8, "file_name": "a\ud83d.jpg"}, "image 8: expected a file_name"),
        ({"id": 8, "file_name": "a" * 300}, "image 8: expected a file_name"),
        ({"id": 8, "file_name": "a/" * 3000}, "image 8: expected a file_name"),
        ({"id": 8, "file_name": "b.jpg"}, "image 'b.jpg': expected a height and a width, of at most"),
        ({"id": 8, "file_name": "b.jpg", "height": "4", "width": 5}, "got '4'"),
        ({"id": 8, "file_name": "b.jpg", "height": 4, "width": 0}, "got 0"),
        ({"id": 8, "file_name": "b.jpg", "height": 1e9, "width": 1e9}, "got 1000000000.0"),
        ({"id": 8, "file_name": "b.jpg", "height": 10**5, "width": 10**5}, "got [100000, 100000]"),
        (IMAGE, "image 'a.jpg': expected each image id once, got id 7 again"),
    ],
)
def test_an_image_that_cannot_be_used_costs_nothing_else(tmp_path, image, message):
    data = opened_beside(tmp_path, images=[IMAGE, image])
    assert [item.name for item in data.items] == ["a"]
    assert data.items[0].read_labels().tolist() == DRAWN
    (fault,) = preflight(data)
    assert message in fault


def test_the_annotations_of_one_image_under_two_ids_are_joined(tmp_path):
    row = {"image_id": 8, "segmentation": [[0, 0, 1, 0, 1, 1, 0, 1]], "category_id": 90}
    data = opened_beside(tmp_path, row, images=[IMAGE, IMAGE | {"id": 8, "file_name": "./a.jpg"}])
    (fault,) = preflight(data)
    assert "image './a.jpg': expected each image file once, got ids 7 and 8" in fault
    assert data.items[0].read_labels().tolist() == [[2, *DRAWN[0][1:]], *DRAWN[1:]]


def test_an_image_of_another_claimed_size_is_refused_before_its_labels_are_drawn(tmp_path):
    data = opened_beside(tmp_path, images=[IMAGE | {"height": 13_000, "width": 13_000}])
    (fault,) = preflight(data)
    assert "its size is 13000 x 13000, its image's 5 x 4" in fault


def test_images_are_found_by_absolute_and_foreign_paths_and_by_either_form_of_an_accent(tmp_path):
    names = {
        str(tmp_path / "images" / "a.jpg"): "a.jpg",
        "/elsewhere/photos/b.jpg": "b.jpg",
        "C:\\photos\\c.jpg": "c.jpg",
        "sub/d.jpg": "sub/d.jpg",
        unicodedata.normalize("NFC", "é.jpg"): unicodedata.normalize("NFD", "é.jpg"),
        unicodedata.normalize("NFD", "è.jpg"): unicodedata.normalize("NFC", "è.jpg"),
        "a.png": "a.png",
    }
    images = [IMAGE | {"id": number, "file_name": name} for number, name in enumerate(names)]
    for file in names.values():
        put_image(tmp_path / "images" / file, (4, 5))
    data = opened_beside(tmp_path, {"image_id": 0}, images=images)
    assert [item.image_path for item in data.items] == [tmp_path / "images" / file for file in names.values()]
    assert len({item.name for item in data.items}) == len(names)
    assert not any(item.name.startswith("/") for item in data.items)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # of pycocotools, under numpy 2
def test_polygons_are_the_unions_of_the_rings_that_pycocotools_draws():
    random = np.random.RandomState(731)
    for _ in range(60):
        rings = [random.uniform(-20, 60, 2 * count).round(1).tolist() for count in random.randint(3, 9, 3)]
        size_hw = 30, 40
        expected = coco_rle.decode(coco_rle.merge(coco_rle.frPyObjects(rings, *size_hw)))
        drawn = draw_masks([(1, checked_mask(rings, size_hw))], size_hw)
        assert (drawn == expected).all()


@given(data=st.data())
@settings(deadline=None, max_examples=80)
def test_the_smallest_mask_is_on_top_and_of_equal_ones_the_last(data):
    size_hw = data.draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    masks = data.draw(st.lists(arrays(bool, size_hw), max_size=5))
    expected = np.zeros(size_hw, np.int32)
    for index in sorted(range(len(masks)), key=lambda index: -masks[index].sum()):  # stable
        expected[masks[index]] = index + 1
    coded = [(index, {"size": size_hw, "counts": plain_counts(mask)}) for index, mask in enumerate(masks, start=1)]
    assert draw_masks(coded, size_hw).tolist() == expected.tolist()


def test_an_instance_file_of_another_image_size_is_a_fault(tmp_path):
    data = open_dataset(coco_folder(tmp_path, [], image={**IMAGE, "width": 6}))
    (fault,) = preflight(data)
    assert "its size is 6 x 4, its image's 5 x 4" in fault


def panoptic_folder(root, ids, segments, name="panoptic.json"):
    coco_folder(root, [{"image_id": 7, "file_name": "a.png", "segments_info": segments}], name)
    ids = np.asarray(ids)
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65_536], axis=-1).astype(np.uint8)
    put_png(root / Path(name).stem / "a.png", rgb)
    return root


SEGMENTS = [{"id": 70_000, "category_id": 3}, {"id": 300, "category_id": 90}]

IDS = np.array([[0, 300, 300, 70_000, 70_000]] * 4)


def test_panoptic_ids_are_red_plus_256_green_plus_65536_blue(tmp_path):
    data = open_dataset(panoptic_folder(tmp_path, IDS, SEGMENTS))
    assert [entry.name for entry in data.classes] == ["car", "aero_plane"]
    assert (data.ignore, data.has_background) == (255, False)
    assert data.items[0].read_labels().tolist() == [[255, 1, 1, 0, 0]] * 4
    assert preflight(data) == ()


def test_a_segment_that_the_annotation_does_not_list_is_refused(tmp_path):
    data = open_dataset(panoptic_folder(tmp_path, IDS, SEGMENTS[:1]))
    with pytest.raises(DatasetError, match="expected the segment ids that its annotation lists, got 300 as well"):
        data.items[0].read_labels()


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        (
            {"id": 300, "category_id": 4},
            "segment 300 of image 'a.jpg': expected the id of a category that can be used, got 4",
        ),
        ({"id": 300.0}, "segment 300.0 of image 'a.jpg': expected an id that is a whole number or a text, got None"),
    ],
)
def test_the_pixels_of_a_segment_without_a_category_are_ignored(tmp_path, segment, message):
    data = open_dataset(panoptic_folder(tmp_path, IDS, [SEGMENTS[0], segment]))
    (fault,) = preflight(data)
    assert message in fault
    assert data.items[0].read_labels().tolist() == [[255, 255, 255, 0, 0]] * 4


@pytest.mark.parametrize(
    ("change", "message", "left_out"),
    [
        ({"segments_info": 5}, "annotation number 2 of image 'b.jpg': expected a list of segments, got 5", 1),
        ({"segments_info": [7]}, "expected a list of segments, got [7]", 1),
        ({"segments_info": [], "file_name": None}, "expected the file_name of a PNG, got None", 1),
        ({"segments_info": [{"id": -1, "category_id": 3}]}, "expected a segment id from 0 to 16777215, got -1", 0),
        ({"segments_info": [{"id": 2**24, "category_id": 3}]}, "got 16777216", 0),
        ({"segments_info": [{"id": "300", "category_id": 3}]}, "got '300'", 0),
    ],
)
def test_a_faulty_panoptic_annotation_costs_its_own_image_alone(tmp_path, change, message, left_out):
    panoptic_folder(tmp_path, IDS, SEGMENTS)
    path = tmp_path / "panoptic.json"
    document = json.loads(path.read_text())
    document["images"].append(IMAGE | {"id": 8, "file_name": "b.jpg"})
    document["annotations"].append({"image_id": 8, "file_name": "b.png", **change})
    path.write_text(json.dumps(document))
    put_image(tmp_path / "images" / "b.jpg", (4, 5))
    put_png(tmp_path / "panoptic" / "b.png", np.zeros((4, 5, 3), np.uint8))
    data = open_dataset(tmp_path)
    (fault,) = preflight(data)
    assert message in fault
    assert data.annotations_left_out == left_out
    assert data.items[0].read_labels().tolist() == [[255, 1, 1, 0, 0]] * 4
    assert data.items[1].read_labels().tolist() == [[255] * 5] * 4


def test_a_grey_panoptic_png_is_a_fault(tmp_path):
    panoptic_folder(tmp_path, IDS, SEGMENTS)
    put_png(tmp_path / "panoptic" / "a.png", np.zeros((4, 5), np.uint8))
    (fault,) = preflight(open_dataset(tmp_path))
    assert "expected an RGB PNG of segment ids" in fault


def test_coco_annotation_files_find_the_images_of_their_split(tmp_path):
    (tmp_path / "annotations").mkdir()
    panoptic_folder(tmp_path / "annotations", IDS, SEGMENTS, "panoptic_val2017.json")
    (tmp_path / "annotations" / "images").rename(tmp_path / "val2017")
    data = open_dataset(tmp_path / "annotations" / "panoptic_val2017.json")
    assert data.items[0].image_path == tmp_path / "val2017" / "a.jpg"
    assert preflight(data) == ()
    (tmp_path / "val2017").rename(tmp_path / "elsewhere")
    with pytest.raises(DatasetError, match=r"expected its images in one of .*; give root"):
        open_dataset(tmp_path / "annotations" / "panoptic_val2017.json")
    elsewhere = open_dataset(tmp_path / "annotations" / "panoptic_val2017.json", tmp_path / "elsewhere")
    assert preflight(elsewhere) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "expected a JSON object, got list"),
        ("{}", "expected COCO's layout with lists of .* got no list of images and annotations and categories"),
    ],
)
def test_an_annotation_file_of_another_form_is_refused(tmp_path, text, message):
    coco_folder(tmp_path, [])
    (tmp_path / "annotations.json").write_text(text)
    with pytest.raises(DatasetError, match=message):
        open_dataset(tmp_path)
