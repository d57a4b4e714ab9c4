"""Folders of images with labels, masks or a dataset.json."""

import json
import unicodedata

import numpy as np
import pytest
from dataset_folders import HW, STORED, coco_folder, label_folder, put_image, put_png

from fgseg.datasets.faults import preflight
from fgseg.datasets.opening import open_dataset
from fgseg.errors import DatasetError, ImageError, OptionError
from fgseg.images.label_png import write_label_png
from fgseg.prompts.classes import PromptClass
from fgseg.segmentation.summary import classes_json


def test_a_folder_of_images_and_labels_with_a_class_file_is_opened(tmp_path):
    label_folder(tmp_path, np.array([[0, 1, 2], [255, 2, 0]], np.uint8))
    data = open_dataset(tmp_path)
    assert [entry.synonyms for entry in data.classes] == [("background",), ("cat", "kitten"), ("dog",)]
    assert (data.name, data.ignore, data.has_background, data.full_size) == (tmp_path.name, 255, True, None)
    assert data.items[0].read_labels().tolist() == [[0, 1, 2], [255, 2, 0]]
    assert preflight(data) == ()


def test_a_first_class_that_is_not_called_background_is_not_the_background(tmp_path):
    label_folder(tmp_path, np.ones(HW, np.uint8), "cat\ndog\n")
    assert not open_dataset(tmp_path).has_background


def test_json_and_yaml_class_files_are_read(tmp_path):
    label_folder(tmp_path, np.ones(HW, np.uint8))
    for suffix, text in ((".json", '[{"name": "cat"}, {"name": "dog"}]'), (".yaml", "- name: cat\n- name: dog\n")):
        for path in tmp_path.glob("classes.*"):
            path.unlink()
        (tmp_path / f"classes{suffix}").write_text(text)
        assert [entry.name for entry in open_dataset(tmp_path).classes] == ["cat", "dog"]


def test_label_maps_and_the_classes_json_of_a_result_are_a_data_set(tmp_path):
    put_image(tmp_path / "images" / "a.jpg")
    classes = (PromptClass("cat", ("cat", "kitten"), (1, 2, 3)), PromptClass("dog", ("dog",), (4, 5, 6)))
    write_label_png(tmp_path / "labels" / "a.png", np.array([[0, 1, -1]] * 2), colors=[(0, 0, 0)] * 2)
    (tmp_path / "classes.json").write_text(classes_json(classes))
    data = open_dataset(tmp_path)
    assert (data.classes, data.ignore) == (classes, 255)
    assert data.items[0].read_labels().tolist() == [[0, 1, 255]] * 2
    assert preflight(data) == ()


def test_two_class_files_or_none_are_refused(tmp_path):
    label_folder(tmp_path)
    (tmp_path / "classes.json").write_text("[]")
    with pytest.raises(DatasetError, match=r"expected one class file .* got classes.json, classes.txt"):
        open_dataset(tmp_path)
    for path in tmp_path.glob("classes.*"):
        path.unlink()
    with pytest.raises(DatasetError, match=r"got none; write classes.txt"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(("count", "ignore"), [(254, 255), (255, 65_535), (300, 65_535)])
def test_above_254_classes_the_ignored_label_is_above_the_classes(tmp_path, count, ignore):
    label_folder(tmp_path, classes="\n".join(f"thing {index}" for index in range(count)))
    put_png(tmp_path / "labels" / "a.png", np.array([[0, 1, 253], [count - 1, 65_535, 65_535]], np.uint16))
    data = open_dataset(tmp_path)
    assert data.ignore == ignore
    assert data.items[0].read_labels().tolist() == [[0, 1, 253], [count - 1, ignore, ignore]]
    assert preflight(data) == ()


@pytest.mark.parametrize(("count", "label"), [(255, 65_535), (256, 255), (300, 255)])
def test_255_in_an_8_bit_label_map_is_a_class_if_there_are_256_classes_and_ignored_otherwise(tmp_path, count, label):
    label_folder(tmp_path, np.full(HW, 255, np.uint8), "\n".join(f"thing {index}" for index in range(count)))
    assert open_dataset(tmp_path).items[0].read_labels().tolist() == [[label] * 3] * 2


def test_masks_of_0_and_255_are_background_and_the_only_class(tmp_path):
    label_folder(tmp_path, np.array([[0, 255, 255], [0, 0, 255]], np.uint8), "road\n", kind="masks")
    data = open_dataset(tmp_path)
    assert [entry.name for entry in data.classes] == ["background", "road"]
    assert (data.ignore, data.has_background) == (None, True)
    assert data.items[0].read_labels().tolist() == [[0, 1, 1], [0, 0, 1]]
    put_png(tmp_path / "masks" / "a.png", np.array([[False, True, True]] * 2))
    assert data.items[0].read_labels().tolist() == [[0, 1, 1]] * 2
    assert preflight(data) == ()


def test_a_mask_with_another_value_is_a_fault(tmp_path):
    label_folder(tmp_path, np.array([[0, 128, 255]] * 2, np.uint8), "background\nroad\n", kind="masks")
    (fault,) = preflight(open_dataset(tmp_path))
    assert "expected ids 0-1, 255, got 128 at 2 of 6 pixels" in fault


def test_masks_of_several_classes_are_refused(tmp_path):
    label_folder(tmp_path, kind="masks")
    with pytest.raises(DatasetError, match="expected one class for its masks, or background and one, got 3"):
        open_dataset(tmp_path)


def test_a_folder_with_labels_and_masks_is_refused(tmp_path):
    label_folder(tmp_path)
    (tmp_path / "masks").mkdir()
    with pytest.raises(DatasetError, match="expected labels or masks, got both"):
        open_dataset(tmp_path)


def test_two_files_of_one_stem_are_refused(tmp_path):
    label_folder(tmp_path)
    put_image(tmp_path / "images" / "a.png")
    with pytest.raises(DatasetError, match=r"expected one file per name, got a.jpg and a.png"):
        open_dataset(tmp_path)


NFC, NFD = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(("image", "label"), [(NFC, NFD), (NFD, NFC)])
@pytest.mark.parametrize("layout", ["classes.txt", "dataset.json"])
def test_an_image_and_a_label_are_a_pair_however_an_accent_is_written(tmp_path, layout, image, label):
    put_image(tmp_path / "images" / f"{image}.JPG")
    put_png(tmp_path / "labels" / f"{label}.png", np.array([[0, 1, 1]] * 2, np.uint8))
    classes = [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]
    text = "cat\ndog\n" if layout == "classes.txt" else json.dumps({"classes": classes, "items": [{"id": label}]})
    (tmp_path / layout).write_text(text)
    data = open_dataset(tmp_path)
    assert len(data.items) == 1
    assert preflight(data) == ()


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_two_files_of_one_name_with_an_accent_are_refused(tmp_path, kind):
    label_folder(tmp_path)
    for name in (NFC, NFD):
        put_png(tmp_path / kind / f"{name}.png", STORED)
    with pytest.raises(DatasetError, match=f"{kind}: expected one file per name"):
        open_dataset(tmp_path)


def test_the_case_of_endings_and_hidden_files_do_not_matter(tmp_path):
    put_image(tmp_path / "images" / "a.JPG")
    put_png(tmp_path / "labels" / "a.PNG", np.array([[0, 1, 2]] * 2, np.uint8))
    (tmp_path / "Classes.TXT").write_text("background\ncat\ndog\n")
    for name in ("images/._a.JPG", "images/.DS_Store", "labels/._a.PNG", "._Classes.TXT", ".classes.txt"):
        (tmp_path / name).write_bytes(b"\0")
    (tmp_path / "images" / "Thumbs.db").write_bytes(b"\0")
    data = open_dataset(tmp_path)
    assert [item.name for item in data.items] == ["a"]
    assert preflight(data) == ()


def test_hidden_annotation_files_are_not_read(tmp_path):
    coco_folder(tmp_path, [], "Annotations.JSON")
    (tmp_path / "._Annotations.JSON").write_bytes(b"\0")
    assert preflight(open_dataset(tmp_path)) == ()


def test_labels_without_a_folder_of_images_are_refused(tmp_path):
    put_png(tmp_path / "labels" / "a.png", STORED)
    (tmp_path / "classes.txt").write_text("cat\n")
    with pytest.raises(DatasetError, match="images: expected this folder, got No such file"):
        open_dataset(tmp_path)


def shared_folder(root, document, stored=STORED):
    put_image(root / "images" / "a.jpg")
    put_png(root / "labels" / "a.png", stored)
    (root / "dataset.json").write_text(json.dumps(document))
    return root


SPARSE = {
    "name": "mini-dev",
    "ignore_index": 0,
    "classes": [
        {"id": 0, "name": "unlabeled", "prompt": "unlabeled"},
        {"id": 19, "name": "floor-wood", "prompt": "wood floor"},
        {"id": 2, "name": "cat", "prompt": "cat"},
        {"id": 1, "name": "person", "prompt": "person"},
    ],
    "items": [{"id": "a"}],
}


def test_sparse_ids_become_indices_without_the_ignored_one(tmp_path):
    data = open_dataset(shared_folder(tmp_path, SPARSE, np.array([[0, 1, 2], [19, 0, 1]], np.uint8)))
    assert [(entry.name, entry.synonyms) for entry in data.classes] == [
        ("person", ("person",)),
        ("cat", ("cat",)),
        ("floor-wood", ("wood floor",)),
    ]
    assert (data.name, data.ignore, data.has_background) == ("mini-dev", 255, False)
    assert data.items[0].read_labels().tolist() == [[255, 0, 1], [2, 255, 0]]
    assert preflight(data) == ()


def test_labels_of_the_first_class_and_ignored_pixels_are_not_taken_for_a_mask(tmp_path):
    data = open_dataset(shared_folder(tmp_path, SPARSE, np.array([[0, 1, 1]] * 2, np.uint8)))
    assert data.items[0].read_labels().tolist() == [[255, 0, 0]] * 2
    assert preflight(data) == ()


def test_an_ignored_id_above_the_classes_is_ignored_as_well(tmp_path):
    document = {**SPARSE, "ignore_index": 19}
    data = open_dataset(shared_folder(tmp_path, document, np.array([[0, 1, 2], [19, 0, 1]], np.uint8)))
    assert data.items[0].read_labels().tolist() == [[0, 1, 2], [255, 0, 1]]


def test_without_an_ignored_id_every_pixel_counts_and_a_class_with_the_word_background_is_the_background(tmp_path):
    classes = [{"id": 0, "name": "null", "prompt": "background"}, {"id": 1, "name": "hat"}]
    document = {"classes": classes, "ignore_index": None, "items": [{"id": "a"}]}
    data = open_dataset(shared_folder(tmp_path, document, np.array([[0, 1, 0]] * 2, np.uint8)))
    assert (data.ignore, data.has_background, data.name) == (None, True, tmp_path.name)
    assert [entry.synonyms for entry in data.classes] == [("background",), ("hat",)]


def test_an_id_that_dataset_json_does_not_list_is_a_fault(tmp_path):
    (fault,) = preflight(open_dataset(shared_folder(tmp_path, SPARSE)))
    assert "expected ids 0-2, 19, got 255 at 1 of 6 pixels" in fault


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": None}, "expected classes with id, name and prompt"),
        ({"items": [{}]}, r"KeyError: 'id'"),
        ({"items": [{"id": "a\0"}]}, "no name of a file"),
        ({"items": [{"id": "a" * 300}]}, "longer than the name of a file can be"),
        ({"ignore_index": 70_000}, "class ids are not different whole numbers from 0 to 65535"),
        ({"classes": [{"id": float("inf"), "name": "a"}]}, "OverflowError"),
        ({"classes": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "class ids are not different"),
        ({"classes": [{"id": 70_000, "name": "a"}]}, "class ids are not different whole numbers from 0 to 65535"),
        ({"classes": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}, "expected each class once, got 'a' 2 times"),
        ({"items": [{"id": "a"}, {"id": "a"}]}, "expected each image once, got 'a' 2 times"),
        ({"classes": []}, "expected at least one class"),
    ],
)
def test_a_dataset_json_of_another_form_is_refused(tmp_path, change, message):
    with pytest.raises(DatasetError, match=message):
        open_dataset(shared_folder(tmp_path, SPARSE | change))


def test_a_dataset_json_that_is_no_json_is_refused(tmp_path):
    shared_folder(tmp_path, SPARSE)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(DatasetError, match=r"dataset.json: cannot be read as JSON"):
        open_dataset(tmp_path)


def test_a_path_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="expected a folder, a COCO annotation file or one of voc21"):
        open_dataset(tmp_path / "nothing")


def test_an_empty_folder_is_refused_with_a_list_of_the_layouts(tmp_path):
    with pytest.raises(DatasetError, match=r"expected images/ with labels/ or masks/.* got no annotation file"):
        open_dataset(tmp_path)


def test_a_root_is_refused_for_a_folder(tmp_path):
    with pytest.raises(OptionError, match="root: expected None for a folder of custom data"):
        open_dataset(label_folder(tmp_path), tmp_path)


def test_reading_an_image_that_was_deleted_is_an_image_error(tmp_path):
    label_folder(tmp_path)
    (item,) = open_dataset(tmp_path).items
    item.image_path.unlink()
    with pytest.raises(ImageError, match="there is no such file"):
        item.read_image()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "data: expected a folder, a file or the name of a standard set, got no name"),
        ("a" * 5000, "cannot be opened"),
    ],
)
def test_a_name_that_no_data_set_can_have_is_a_dataset_error(name, message):
    with pytest.raises(DatasetError, match=message) as caught:
        open_dataset(name)
    assert len(str(caught.value)) < 200
