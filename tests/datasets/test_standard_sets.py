"""The standard sets, on small copies of their layouts and label encodings."""

import hashlib
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from dataset_folders import (
    BACKGROUND_SETS,
    HW,
    IGNORE,
    LISTS,
    NUM_CLASSES,
    PLACES,
    ZERO_REDUCED,
    put_image,
    put_png,
    small_copy,
    usual,
)

from fgseg.datasets.faults import preflight
from fgseg.datasets.opening import open_dataset
from fgseg.datasets.standard_sets import STANDARD_SETS, standard_classes
from fgseg.errors import DatasetError, ImageError, OptionError, PromptError


def expected(name):
    """The labels of `usual` by the rule of the published code: as stored, or 0 -> 255; minus 1; 254 -> 255."""
    labels = usual(name).astype(int)
    if name in ZERO_REDUCED:
        labels[labels == 0] = 255
        labels = labels - 1
        labels[labels == 254] = 255
    return labels


@pytest.mark.parametrize("name", STANDARD_SETS)
def test_a_standard_set_is_read_from_its_published_layout(tmp_path, name):
    small_copy(tmp_path, name)
    data = open_dataset(name, tmp_path)
    (item,) = data.items
    assert (len(data.classes), data.ignore, data.has_background) == (
        NUM_CLASSES[name],
        IGNORE[name],
        name in BACKGROUND_SETS,
    )
    assert item.read_labels().tolist() == expected(name).tolist()
    assert item.read_labels().dtype == np.int32
    assert item.read_image().shape == (*HW, 3)
    assert preflight(data) == ()


@pytest.mark.parametrize("name", STANDARD_SETS)
def test_every_stored_value_is_a_class_or_ignored_or_refused(tmp_path, name):
    small_copy(tmp_path, name)
    (item,) = open_dataset(name, tmp_path).items
    kept = set()
    for value in range(256):
        with suppress(DatasetError):
            kept.add((value, int(item.source.ids.decode(np.array([[value]]), "a.png")[0, 0])))
    count = NUM_CLASSES[name]
    as_stored = {(value, value) for value in range(count)} | ({(255, 255)} if IGNORE[name] else set())
    reduced = {(value + 1, value) for value in range(count)} | {(0, 255), (255, 255)}
    assert kept == (reduced if name in ZERO_REDUCED else as_stored)


@pytest.mark.parametrize("name", STANDARD_SETS)
def test_a_missing_label_is_a_fault_that_names_it(tmp_path, name):
    _, label = small_copy(tmp_path, name)
    label.unlink()
    (fault,) = preflight(open_dataset(name, tmp_path))
    assert fault.startswith(f"{label}: no such label file, for image")


@pytest.mark.parametrize("name", STANDARD_SETS)
def test_a_missing_image_is_a_fault_that_names_it(tmp_path, name):
    image, _ = small_copy(tmp_path, name)
    image.unlink()
    (fault,) = preflight(open_dataset(name, tmp_path))
    assert fault.startswith(f"{image}: no such image, for label")


@pytest.mark.parametrize("name", STANDARD_SETS)
def test_a_label_of_another_size_than_its_image_is_a_fault(tmp_path, name):
    _, label = small_copy(tmp_path, name, stored=np.ones((3, 4), np.uint8))
    (fault,) = preflight(open_dataset(name, tmp_path))
    assert fault.startswith(f"{label}: its size is 4 x 3, its image's 3 x 2")
    assert "never resized" in fault


@pytest.mark.parametrize("name", STANDARD_SETS)
def test_colors_instead_of_palette_indices_are_explained(tmp_path, name):
    _, label = small_copy(tmp_path, name, stored=np.full((*HW, 3), 128, np.uint8))
    data = open_dataset(name, tmp_path)
    (fault,) = preflight(data)
    assert fault.startswith(f"{label}: expected a label map, a palette or grey PNG, got PNG with pixels of RGB; ")
    assert "write the palette's indices" in fault
    with pytest.raises(ImageError, match="palette's indices"):
        data.items[0].read_labels()


@pytest.mark.parametrize("name", STANDARD_SETS)
def test_an_id_out_of_range_is_a_fault_with_file_id_and_count(tmp_path, name):
    stored = usual(name)
    stored[0, 1:] = 200
    _, label = small_copy(tmp_path, name, stored=stored)
    data = open_dataset(name, tmp_path)
    (fault,) = preflight(data)
    assert fault.startswith(f"{label}: expected ids 0-")
    assert "got 200 at 2 of 6 pixels" in fault
    assert fault.endswith("(1 of 1 label files read)")
    with pytest.raises(DatasetError, match="got 200 at 2 of 6 pixels"):
        data.items[0].read_labels()


def test_palette_pngs_are_read_by_index(tmp_path):
    _, label = small_copy(tmp_path, "voc21")
    put_png(label, usual("voc21"), palette=[7] * 768)
    data = open_dataset("voc21", tmp_path)
    assert data.items[0].read_labels().tolist() == usual("voc21").tolist()
    assert preflight(data) == ()


def test_255_is_not_a_class_in_context60_and_coco_object(tmp_path):
    for name in ("context60", "coco-object"):
        small_copy(tmp_path, name, stored=np.array([[0, 1, 255]] * 2, np.uint8))
        (fault,) = preflight(open_dataset(name, tmp_path))
        assert f"expected ids 0-{NUM_CLASSES[name] - 1}, got 255 at 2 of 6 pixels" in fault


def test_the_root_may_be_any_folder_above_the_images(tmp_path):
    small_copy(tmp_path, "voc21")
    outer = open_dataset("voc21", tmp_path)
    inner = open_dataset("voc21", tmp_path / "VOCdevkit" / "VOC2012")
    middle = open_dataset("voc21", tmp_path / "VOCdevkit")
    assert {(data.root, data.items[0].image_path, data.items[0].label_path) for data in (outer, inner, middle)} == {
        (outer.root, *(tmp_path / place for place in PLACES["voc21"]))
    }


def test_a_set_with_a_list_holds_the_listed_images_in_that_order(tmp_path):
    small_copy(tmp_path, "voc20")
    (tmp_path / LISTS["voc20"]).write_text("b\r\na\r\n")
    put_image(tmp_path / "VOCdevkit/VOC2012/JPEGImages/other.jpg")
    assert [item.name for item in open_dataset("voc20", tmp_path).items] == ["b", "a"]


def test_coco_sets_share_folders_and_use_their_own_labels(tmp_path):
    small_copy(tmp_path, "coco-object")
    small_copy(tmp_path, "coco-stuff")
    for name in ("coco-object", "coco-stuff"):
        data = open_dataset(name, tmp_path)
        assert [item.label_path for item in data.items] == [tmp_path / PLACES[name][1]]


def test_a_cityscapes_label_file_of_raw_ids_does_not_count_and_the_hint_says_how_to_convert_it(tmp_path):
    _, label = small_copy(tmp_path, "cityscapes")
    label.rename(label.with_name("a_gtFine_labelIds.png"))
    (fault,) = preflight(open_dataset("cityscapes", tmp_path))
    assert "createTrainIdLabelImgs" in fault


def test_a_standard_set_without_its_folders_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="ade20k: expected ADEChallengeData2016/images/validation and"):
        open_dataset("ade20k", tmp_path)


def test_a_standard_set_without_its_list_is_refused(tmp_path):
    small_copy(tmp_path, "voc21")
    (tmp_path / LISTS["voc21"]).unlink()
    with pytest.raises(DatasetError, match=r"val\.txt: cannot be read"):
        open_dataset("voc21", tmp_path)


def test_a_standard_set_needs_a_root():
    with pytest.raises(OptionError, match="root: expected the folder that holds voc21's data"):
        open_dataset("voc21")


def test_a_standard_set_without_files_is_a_fault(tmp_path):
    (tmp_path / "ADEChallengeData2016/images/validation").mkdir(parents=True)
    (fault,) = preflight(open_dataset("ade20k", tmp_path))
    assert fault.startswith("ade20k: expected images, got none in")


def test_shadow_files_of_macos_are_not_images(tmp_path):
    image, _ = small_copy(tmp_path, "ade20k")
    image.with_name("._a.jpg").write_bytes(b"")
    assert len(open_dataset("ade20k", tmp_path).items) == 1


@pytest.mark.parametrize(
    ("name", "digest"),
    [
        # Names in label order, compared with a second source each: SCLIP's class lists (voc, context, cityscapes,
        # ade20k without spaces) and mmsegmentation's (context, ade20k), cocostuff's labels.txt without its 11 unused.
        ("voc20", "7d877f185c807bc5"),
        ("context59", "cd808465f06a1616"),
        ("coco-stuff", "8ea44449837dceb3"),
        ("cityscapes", "5995d02d6c574d51"),
        ("ade20k", "f9dbd8a75a0722c9"),
    ],
)
def test_class_names_are_those_of_the_data_set_in_label_order(name, digest):
    names = "\n".join(entry.name for entry in standard_classes(name))
    assert hashlib.sha256(names.encode()).hexdigest()[:16] == digest


@pytest.mark.parametrize(
    ("name", "index", "class_name"),
    [
        ("voc21", 0, "background"),
        ("voc21", 20, "tvmonitor"),
        ("voc20", 14, "person"),
        ("context60", 59, "wood"),
        ("context59", 36, "person"),
        ("coco-object", 1, "person"),
        ("coco-object", 80, "toothbrush"),
        ("coco-stuff", 79, "toothbrush"),
        ("coco-stuff", 80, "banner"),
        ("coco-stuff", 170, "wood"),
        ("cityscapes", 13, "car"),
        ("ade20k", 12, "person"),
        ("ade20k", 149, "flag"),
    ],
)
def test_known_labels_have_their_class(name, index, class_name):
    assert standard_classes(name)[index].name == class_name


def test_sets_with_a_background_have_the_classes_of_the_sets_without_one_after_it():
    for small, large in (("voc20", "voc21"), ("context59", "context60")):
        assert standard_classes(large)[1:] == standard_classes(small)
    assert standard_classes("coco-object")[1:] == standard_classes("coco-stuff")[:80]


def test_a_standard_set_has_one_query_word_per_class_unless_synonyms_are_requested(tmp_path):
    small_copy(tmp_path, "ade20k")
    words = [entry.synonyms for entry in open_dataset("ade20k", tmp_path).classes]
    assert {len(prompts) for prompts in words} == {1}
    synonyms = open_dataset("ade20k", tmp_path, words="synonyms").classes
    assert synonyms[1].synonyms == ("building", "edifice")


def test_a_class_file_replaces_the_query_words(tmp_path):
    small_copy(tmp_path, "voc20")
    published = tmp_path / "cls_voc20.txt"
    published.write_text("\n".join(f"word {index}, other {index}" for index in range(20)))
    data = open_dataset("voc20", tmp_path, words=published)
    assert data.classes[3].synonyms == ("word 3", "other 3")
    published.write_text("one\ntwo\n")
    with pytest.raises(DatasetError, match="voc20: expected 20 classes in label order, got 2"):
        open_dataset("voc20", tmp_path, words=published)
    with pytest.raises(PromptError, match="cannot be read"):
        open_dataset("voc20", tmp_path, words=tmp_path / "none.txt")


def test_class_files_are_in_the_package():
    script = "from importlib.resources import files; print(len(list((files('fgseg') / 'assets/classes').iterdir())))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "5"
    assert "assets/classes/*" in (Path(__file__).parents[2] / "setup.cfg").read_text()
