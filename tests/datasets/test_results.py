"""Results of `fgseg segment` as data sets: the files beside a label map say what it means."""

import json

import numpy as np
import pytest
from dataset_folders import put_image, put_png

from fgseg.datasets.faults import preflight
from fgseg.datasets.opening import open_dataset
from fgseg.errors import DatasetError
from fgseg.large.label_tiff import write_label_tiff

CAT_DOG = [{"name": "cat", "prompts": ["cat", "kitten"]}, {"name": "dog", "prompts": ["dog"]}]


def result(root, name="a", image=None, classes=CAT_DOG, unlabelled=255):
    """A result of one image with the label map 0, 1, unlabelled."""
    folder = root / "out" / name
    put_png(folder / "labels.png", np.array([[0, 1, 255]] * 2, np.uint8))
    image = put_image(root / "photos" / f"{name}.jpg") if image is None else image
    (folder / "run.json").write_text(json.dumps({"image": str(image), "classes": classes}))
    listed = [{"index": index, **row, "color": [1, 2, 3]} for index, row in enumerate(classes)]
    (folder / "classes.json").write_text(json.dumps({"unlabelled": unlabelled, "classes": listed}))
    return folder


def test_a_folder_of_results_has_the_classes_and_images_of_their_run_json(tmp_path):
    for name in ("b", "a"):
        result(tmp_path, name)
    (tmp_path / "out" / "notes").mkdir()
    data = open_dataset(tmp_path / "out")
    assert [entry.synonyms for entry in data.classes] == [("cat", "kitten"), ("dog",)]
    assert (data.name, data.ignore, data.has_background) == ("out", 255, False)
    assert [(item.name, item.image_path) for item in data.items] == [
        ("a", tmp_path / "photos" / "a.jpg"),
        ("b", tmp_path / "photos" / "b.jpg"),
    ]
    assert data.items[0].read_labels().tolist() == [[0, 1, 255]] * 2
    assert preflight(data) == ()


@pytest.mark.parametrize("place", ["", "labels.png"])
def test_one_result_is_a_data_set_too_even_beside_a_folder_of_masks(tmp_path, place):
    folder = result(tmp_path)
    (folder / "masks").mkdir()
    data = open_dataset(folder / place)
    assert (data.name, [item.name for item in data.items]) == ("a", ["a"])


def test_the_value_of_unlabelled_pixels_comes_from_classes_json(tmp_path):
    folder = result(tmp_path, unlabelled=7)
    put_png(folder / "labels.png", np.array([[0, 1, 7]] * 2, np.uint8))
    assert open_dataset(folder).items[0].read_labels().tolist() == [[0, 1, 255]] * 2
    (folder / "classes.json").unlink()
    (fault,) = preflight(open_dataset(folder))
    assert "expected ids 0-1, 255, got 7" in fault


def test_a_label_map_of_many_classes_read_by_region_has_16_bits(tmp_path):
    classes = [{"name": f"thing {index}", "prompts": [f"thing {index}"]} for index in range(300)]
    folder = result(tmp_path, classes=classes, unlabelled=65_535)
    (folder / "labels.png").unlink()
    labels = np.array([[0, 299, -1]] * 2, np.int32)
    write_label_tiff(folder / "labels.tif", iter([labels]), image_hw=(2, 3), colors=[(0, 0, 0)] * 300)
    data = open_dataset(folder)
    assert data.items[0].read_labels().tolist() == [[0, 299, 65_535]] * 2
    assert preflight(data) == ()


def test_an_image_is_looked_for_from_the_current_folder_then_below_the_root(tmp_path, monkeypatch):
    folder = result(tmp_path, image="photos/a.jpg")
    (moved,) = preflight(open_dataset(folder))
    assert "no such image" in moved
    picture = put_image(tmp_path / "photos" / "a.jpg")
    assert open_dataset(folder, tmp_path / "photos").items[0].image_path == picture
    monkeypatch.chdir(tmp_path)
    assert preflight(open_dataset(folder)) == ()


def test_results_of_other_classes_are_not_one_data_set(tmp_path):
    result(tmp_path, "a")
    result(tmp_path, "b", classes=CAT_DOG[::-1])
    with pytest.raises(
        DatasetError, match=r"b/labels.png: expected the classes of .*a/labels.png, got dog, cat; measure"
    ):
        open_dataset(tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "run.json",
            {"image": None},
            "run.json: expected the settings of a result of `fgseg segment`, got something else",
        ),
        ("run.json", {"classes": [{"name": "cat"}]}, "KeyError: 'prompts'"),
        ("run.json", {"classes": 3}, "TypeError"),
        ("classes.json", {"unlabelled": 1}, "a value from 0 to 65535 that is no class, got .*unlabelled 1"),
        ("classes.json", {"unlabelled": 10**9}, "unlabelled 1000000000"),
        ("classes.json", {"unlabelled": None}, "unlabelled None"),
        ("classes.json", {"classes": []}, "expected the classes of run.json, .* other names"),
    ],
)
def test_a_result_with_other_settings_is_refused(tmp_path, name, change, message):
    folder = result(tmp_path)
    document = json.loads((folder / name).read_text()) | change
    (folder / name).write_text(json.dumps(document))
    with pytest.raises(DatasetError, match=message):
        open_dataset(folder)
