"""COCO's panoptic and instance annotations."""

from pathlib import Path

import numpy as np
import pytest
from dataset_folders import IMAGE, coco_folder, put_png
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_rle

from fgseg.datasets.coco import InstanceLabels
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


@given(mask=arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 6))), compressed=st.booleans())
@settings(deadline=None, max_examples=60)
def test_run_lengths_of_pycocotools_are_decoded_to_the_same_mask(mask, compressed):
    runs = coco_rle.encode(np.asfortranarray(mask, np.uint8))
    shape = {"size": list(mask.shape), "counts": runs["counts"].decode() if compressed else runs["counts"]}
    assert InstanceLabels(Path("a.json"), mask.shape, [(1, shape)]).read().tolist() == mask.astype(int).tolist()


def test_run_lengths_of_many_characters_are_decoded():
    mask = np.zeros((200, 300), bool)
    mask[3:170, 40:41] = mask[90:, 50:250] = True
    shape = coco_rle.encode(np.asfortranarray(mask, np.uint8))
    assert (InstanceLabels(Path("a.json"), mask.shape, [(1, shape)]).read() == mask).all()


def test_an_image_without_instances_is_all_background(tmp_path):
    assert not open_dataset(coco_folder(tmp_path, [])).items[0].read_labels().any()


@pytest.mark.parametrize(
    "shape",
    [
        {"size": [9, 9], "counts": [81]},
        {"size": [5, 4], "counts": [20]},
        {"counts": []},
        "text",
        [[1, 2]],
        [],
        [[]],
        {"size": [4, 5], "counts": "zzzzz"},
        {"size": [4, 5], "counts": [30, -10]},
    ],
)
def test_a_segmentation_that_is_no_shape_of_the_image_is_refused(tmp_path, shape):
    data = open_dataset(coco_folder(tmp_path, [instance(3, shape)]))
    with pytest.raises(DatasetError, match="expected polygons or run lengths of 5 x 4 pixels"):
        data.items[0].read_labels()
    (fault,) = preflight(data)
    assert "annotations.json" in fault


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
        ("{}", "expected COCO's layout .*KeyError: 'annotations'"),
    ],
)
def test_an_annotation_file_of_another_form_is_refused(tmp_path, text, message):
    coco_folder(tmp_path, [])
    (tmp_path / "annotations.json").write_text(text)
    with pytest.raises(DatasetError, match=message):
        open_dataset(tmp_path)


def test_an_annotation_of_no_category_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="KeyError: 4"):
        open_dataset(coco_folder(tmp_path, [instance(4, [])]))
