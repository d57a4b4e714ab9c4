"""Labelled data sets on miniature trees of each layout, with every encoding trap."""

import hashlib
import json
import struct
import subprocess
import sys
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as coco_rle

from fgseg.datasets.coco import InstanceLabels
from fgseg.datasets.dataset import Dataset
from fgseg.datasets.labels import IdTable
from fgseg.datasets.opening import open_dataset
from fgseg.datasets.preflight import preflight
from fgseg.datasets.presets import PRESETS, preset
from fgseg.datasets.standard_sets import STANDARD_SETS, standard_classes
from fgseg.errors import DatasetError, ImageError, OptionError, PromptError
from fgseg.images.headers import read_header
from fgseg.images.reading import read_image
from fgseg.prompts.classes import PromptClass, parse_classes
from fgseg.prompts.templates import expand
from fgseg.prompts.word_lists import BACKGROUND_WORDS

HW = (2, 3)
STORED = np.array([[0, 1, 2], [19, 255, 1]], np.uint8)
"""Ids that every standard set but those of few classes knows; 255 is set apart where nothing is ignored."""


def put_png(path, values, palette=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.asarray(values))
    if palette is not None:
        picture.putpalette(palette)
    picture.save(path)
    return path


def put_image(path, hw=HW, orientation=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.full((*hw, 3), 90, np.uint8))
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    picture.save(path, exif=exif) if orientation else picture.save(path)
    return path


# Where image and label of the miniature lie, as the field's loaders expect them.
PLACES = {
    "voc21": ("VOCdevkit/VOC2012/JPEGImages/a.jpg", "VOCdevkit/VOC2012/SegmentationClass/a.png"),
    "context60": ("VOCdevkit/VOC2010/JPEGImages/a.jpg", "VOCdevkit/VOC2010/SegmentationClassContext/a.png"),
    "coco-object": (
        "coco_stuff164k/images/val2017/a.jpg",
        "coco_stuff164k/annotations/val2017/a_instanceTrainIds.png",
    ),
    "coco-stuff": ("coco_stuff164k/images/val2017/a.jpg", "coco_stuff164k/annotations/val2017/a_labelTrainIds.png"),
    "cityscapes": (
        "cityscapes/leftImg8bit/val/ulm/a_leftImg8bit.png",
        "cityscapes/gtFine/val/ulm/a_gtFine_labelTrainIds.png",
    ),
    "ade20k": (
        "ADEChallengeData2016/images/validation/a.jpg",
        "ADEChallengeData2016/annotations/validation/a.png",
    ),
}
PLACES |= {"voc20": PLACES["voc21"], "context59": PLACES["context60"]}
LISTS = {
    "voc21": "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt",
    "context60": "VOCdevkit/VOC2010/ImageSets/SegmentationContext/val.txt",
}
LISTS |= {"voc20": LISTS["voc21"], "context59": LISTS["context60"]}

NUM_CLASSES = dict(zip(STANDARD_SETS, (21, 20, 60, 59, 81, 171, 19, 150), strict=True))
IGNORE = {name: None if name in ("context60", "coco-object") else 255 for name in STANDARD_SETS}
ZERO_REDUCED = ("voc20", "context59", "ade20k")
BACKGROUND_SETS = ("voc21", "context60", "coco-object")


def miniature(root, name, stored=None):
    """One image of the set `name` with labels `stored`, in its usual layout; (image, label) paths."""
    image, label = (root / place for place in PLACES[name])
    put_image(image)
    put_png(label, usual(name) if stored is None else stored)
    if name in LISTS:
        (root / LISTS[name]).parent.mkdir(parents=True)
        (root / LISTS[name]).write_text("a\n")
    return image, label


def usual(name):
    """Stored ids that the set `name` knows, its first and its last among them."""
    last = NUM_CLASSES[name] if name in ZERO_REDUCED else NUM_CLASSES[name] - 1
    return np.array([[0, 1, 2], [last, 0 if IGNORE[name] is None else 255, 1]], np.uint8)


def expected(name):
    """What `usual` means, by PROTOCOL's words: as stored, or 0 -> 255; minus 1; 254 -> 255."""
    labels = usual(name).astype(int)
    if name in ZERO_REDUCED:
        labels[labels == 0] = 255
        labels = labels - 1
        labels[labels == 254] = 255
    return labels


# --- the standard sets


@pytest.mark.parametrize("name", STANDARD_SETS)
def test_a_standard_set_is_read_from_its_usual_layout(tmp_path, name):
    miniature(tmp_path, name)
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
    miniature(tmp_path, name)
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
    _, label = miniature(tmp_path, name)
    label.unlink()
    (fault,) = preflight(open_dataset(name, tmp_path))
    assert fault.startswith(f"{label}: no such label file, for image")


@pytest.mark.parametrize("name", STANDARD_SETS)
def test_a_missing_image_is_a_fault_that_names_it(tmp_path, name):
    image, _ = miniature(tmp_path, name)
    image.unlink()
    (fault,) = preflight(open_dataset(name, tmp_path))
    assert fault.startswith(f"{image}: no such image, for label")


@pytest.mark.parametrize("name", STANDARD_SETS)
def test_a_label_of_another_size_than_its_image_is_a_fault(tmp_path, name):
    _, label = miniature(tmp_path, name, stored=np.ones((3, 4), np.uint8))
    (fault,) = preflight(open_dataset(name, tmp_path))
    assert fault.startswith(f"{label}: its size is 4 x 3, its image's 3 x 2")
    assert "never resized" in fault


@pytest.mark.parametrize("name", STANDARD_SETS)
def test_colors_instead_of_palette_indices_are_explained(tmp_path, name):
    _, label = miniature(tmp_path, name, stored=np.full((*HW, 3), 128, np.uint8))
    data = open_dataset(name, tmp_path)
    (fault,) = preflight(data)
    assert fault.startswith(f"{label}: this PNG holds colours (RGB), not class ids")
    assert "write the palette's indices" in fault
    with pytest.raises(DatasetError, match="palette's indices"):
        data.items[0].read_labels()


@pytest.mark.parametrize("name", STANDARD_SETS)
def test_an_id_out_of_range_is_a_fault_with_file_id_and_count(tmp_path, name):
    stored = usual(name)
    stored[0, 1:] = 200
    _, label = miniature(tmp_path, name, stored=stored)
    data = open_dataset(name, tmp_path)
    (fault,) = preflight(data)
    assert fault.startswith(f"{label}: expected ids 0-")
    assert "got 200 at 2 of 6 pixels" in fault
    assert fault.endswith("(1 of 1 label files read)")
    with pytest.raises(DatasetError, match="got 200 at 2 of 6 pixels"):
        data.items[0].read_labels()


def test_palette_pngs_are_read_by_index(tmp_path):
    _, label = miniature(tmp_path, "voc21")
    put_png(label, usual("voc21"), palette=[7] * 768)
    data = open_dataset("voc21", tmp_path)
    assert data.items[0].read_labels().tolist() == usual("voc21").tolist()
    assert preflight(data) == ()


def test_255_is_no_class_of_context60_and_coco_object(tmp_path):
    for name in ("context60", "coco-object"):
        miniature(tmp_path, name, stored=np.array([[0, 1, 255]] * 2, np.uint8))
        (fault,) = preflight(open_dataset(name, tmp_path))
        assert f"expected ids 0-{NUM_CLASSES[name] - 1}, got 255 at 2 of 6 pixels" in fault


def test_the_root_may_be_the_inner_folder_and_the_hash_is_the_same(tmp_path):
    miniature(tmp_path, "voc21")
    outer = open_dataset("voc21", tmp_path)
    inner = open_dataset("voc21", tmp_path / "VOCdevkit" / "VOC2012")
    middle = open_dataset("voc21", tmp_path / "VOCdevkit")
    assert outer.source_hash == inner.source_hash == middle.source_hash
    assert outer.source_hash == hashlib.sha256(b"JPEGImages/a.jpg\nSegmentationClass/a.png").hexdigest()


def test_a_listed_set_holds_what_is_listed_in_that_order(tmp_path):
    miniature(tmp_path, "voc20")
    (tmp_path / LISTS["voc20"]).write_text("b\r\na\r\n")
    put_image(tmp_path / "VOCdevkit/VOC2012/JPEGImages/other.jpg")
    assert [item.name for item in open_dataset("voc20", tmp_path).items] == ["b", "a"]


def test_coco_sets_share_folders_and_take_their_own_labels(tmp_path):
    miniature(tmp_path, "coco-object")
    miniature(tmp_path, "coco-stuff")
    for name in ("coco-object", "coco-stuff"):
        data = open_dataset(name, tmp_path)
        assert [item.label_path for item in data.items] == [tmp_path / PLACES[name][1]]


def test_a_cityscapes_label_of_raw_ids_alone_is_missing_and_the_hint_says_how_to_make_it(tmp_path):
    _, label = miniature(tmp_path, "cityscapes")
    label.rename(label.with_name("a_gtFine_labelIds.png"))
    (fault,) = preflight(open_dataset("cityscapes", tmp_path))
    assert "createTrainIdLabelImgs" in fault


def test_a_standard_set_without_its_folders_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="ade20k: expected ADEChallengeData2016/images/validation and"):
        open_dataset("ade20k", tmp_path)


def test_a_standard_set_without_its_list_is_refused(tmp_path):
    miniature(tmp_path, "voc21")
    (tmp_path / LISTS["voc21"]).unlink()
    with pytest.raises(DatasetError, match=r"val\.txt: cannot be read"):
        open_dataset("voc21", tmp_path)


def test_a_standard_set_needs_a_root():
    with pytest.raises(OptionError, match="root: expected the folder that holds voc21's data"):
        open_dataset("voc21")


def test_a_standard_set_without_files_says_so(tmp_path):
    (tmp_path / "ADEChallengeData2016/images/validation").mkdir(parents=True)
    (fault,) = preflight(open_dataset("ade20k", tmp_path))
    assert fault.startswith("ade20k: expected images, got none in")


def test_macos_shadow_files_are_no_images(tmp_path):
    image, _ = miniature(tmp_path, "ade20k")
    image.with_name("._a.jpg").write_bytes(b"")
    assert len(open_dataset("ade20k", tmp_path).items) == 1


# --- their classes


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


def test_sets_with_a_background_are_the_others_behind_it():
    for small, large in (("voc20", "voc21"), ("context59", "context60")):
        assert standard_classes(large)[1:] == standard_classes(small)
    assert standard_classes("coco-object")[1:] == standard_classes("coco-stuff")[:80]


def test_a_standard_set_has_one_word_a_class_unless_synonyms_are_asked_for(tmp_path):
    miniature(tmp_path, "ade20k")
    words = [entry.synonyms for entry in open_dataset("ade20k", tmp_path).classes]
    assert {len(prompts) for prompts in words} == {1}
    synonyms = open_dataset("ade20k", tmp_path, words="synonyms").classes
    assert synonyms[1].synonyms == ("building", "edifice")


def test_a_published_class_file_replaces_the_words(tmp_path):
    miniature(tmp_path, "voc20")
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


def test_some_of_the_classes_leave_the_other_pixels_ignored(tmp_path):
    miniature(tmp_path, "voc21")
    data = open_dataset("voc21", tmp_path)
    some = data.only(["bicycle", "Background"])
    assert [entry.name for entry in some.classes] == ["background", "bicycle"]
    assert (some.has_background, some.ignore) == (True, 255)
    assert some.items[0].read_labels().tolist() == [[0, 255, 1], [255, 255, 255]]
    assert preflight(some) == ()
    others = data.only(["aeroplane"])
    assert (others.has_background, others.items[0].read_labels().tolist()) == (False, [[255, 0, 255], [255, 255, 0]])


def test_classes_that_are_none_are_refused(tmp_path):
    miniature(tmp_path, "voc21")
    data = open_dataset("voc21", tmp_path)
    with pytest.raises(DatasetError, match="voc21: expected names of its classes, got zebra; it has background, aero"):
        data.only(["zebra", "cat"])
    with pytest.raises(DatasetError, match="got none"):
        data.only([])


# --- presets

# PROTOCOL's table: (S, crop, stride, scale, threshold, number of background words) per set, in its order.
TABLE = {
    "sclip": {
        "voc21": (336, 224, 112, 65, 0.1, 26),
        "voc20": (336, 224, 112, 40, 0, 0),
        "context60": (336, 224, 112, 50, 0.1, 1),
        "context59": (336, 224, 112, 40, 0, 0),
        "coco-object": (336, 224, 112, 50, 0.1, 26),
        "coco-stuff": (448, 224, 112, 40, 0, 0),
        "cityscapes": (560, 224, 112, 40, 0, 0),
        "ade20k": (336, 224, 112, 40, 0, 0),
    },
    "naclip": {
        "voc21": (336, None, None, 40, 0.1, 26),
        "voc20": (336, None, None, 40, 0, 0),
        "context60": (336, 224, 112, 40, 0.1, 1),
        "context59": (336, 224, 112, 40, 0, 0),
        "coco-object": (336, 224, 112, 40, 0.1, 26),
        "coco-stuff": (336, 224, 112, 40, 0, 0),
        "cityscapes": (560, 224, 112, 40, 0, 0),
        "ade20k": (336, 224, 112, 40, 0, 0),
    },
    "clearclip": {
        "voc21": (448, 448, 224, 50, 0.5, 1),
        "voc20": (448, 448, 224, 50, 0, 0),
        "context60": (448, 448, 224, 50, 0.15, 1),
        "context59": (448, 448, 224, 50, 0, 0),
        "coco-object": (448, 448, 224, 50, 0.4, 1),
        "coco-stuff": (448, 448, 224, 50, 0, 0),
        "cityscapes": (448, 224, 224, 50, 0, 0),
        "ade20k": (448, 448, 224, 50, 0, 0),
    },
    "proxyclip": {
        "voc21": (336, 336, 112, 40, 0.2, 26),
        "voc20": (336, 336, 112, 40, 0, 0),
        "context60": (336, 336, 112, 40, 0.15, 26),
        "context59": (336, 336, 112, 40, 0, 0),
        "coco-object": (336, 336, 112, 40, 0.25, 17),
        "coco-stuff": (336, 336, 112, 40, 0, 0),
        "cityscapes": (448, 224, 112, 40, 0, 0),
        "ade20k": (448, 336, 112, 40, 0, 0),
    },
}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_hold_the_published_settings(name):
    for dataset in STANDARD_SETS:
        found = preset(name, dataset)
        assert (found.name, found.dataset, found.max_side) == (name, dataset, 2048)
        assert (
            found.short_side,
            found.crop,
            found.stride,
            found.logit_scale,
            found.prob_threshold,
            len(found.background),
        ) == TABLE[name][dataset], dataset


def test_only_sclip_on_voc21_drops_small_classes():
    dropping = [(n, d) for n in PRESETS for d in STANDARD_SETS if preset(n, d).min_foreground_share]
    assert dropping == [("sclip", "voc21")]


def test_sclips_coco_object_has_bed_as_background_word_and_as_class(tmp_path):
    miniature(tmp_path, "coco-object")
    classes = preset("sclip", "coco-object").classes(open_dataset("coco-object", tmp_path))
    assert classes[0].synonyms == BACKGROUND_WORDS
    assert "bed" in classes[0].synonyms
    assert [entry.name for entry in classes[1:] if "bed" in entry.synonyms] == ["bed"]
    assert parse_classes(classes, shared_prompts="allow") == classes
    assert max(expand(classes, ("{}",)).query_to_class) == 80


def test_a_preset_leaves_the_words_of_a_set_without_background(tmp_path):
    miniature(tmp_path, "voc20")
    data = open_dataset("voc20", tmp_path)
    assert preset("sclip", "voc20").classes(data) == data.classes


def test_presets_say_what_they_do_not_reproduce():
    assert "position table" in preset("sclip", "voc20").deviations[0]
    assert "DINO" in preset("proxyclip", "voc20").deviations[0]


def test_unknown_presets_and_sets_are_refused():
    with pytest.raises(OptionError, match="preset: expected one of sclip, naclip, clearclip, proxyclip, got 'x'"):
        preset("x", "voc21")
    with pytest.raises(OptionError, match="dataset: expected one of voc21"):
        preset("sclip", "voc12")


# --- one's own folders


def own_folder(root, stored=STORED, classes="background\ncat, kitten\ndog\n", kind="labels"):
    put_image(root / "images" / "a.jpg")
    put_png(root / kind / "a.png", stored)
    (root / "classes.txt").write_text(classes)
    return root


def test_a_folder_of_images_and_labels_with_a_class_file_just_works(tmp_path):
    own_folder(tmp_path, np.array([[0, 1, 2], [255, 2, 0]], np.uint8))
    data = open_dataset(tmp_path)
    assert [entry.synonyms for entry in data.classes] == [("background",), ("cat", "kitten"), ("dog",)]
    assert (data.name, data.ignore, data.has_background, data.full_size) == (tmp_path.name, 255, True, None)
    assert data.items[0].read_labels().tolist() == [[0, 1, 2], [255, 2, 0]]
    assert preflight(data) == ()


def test_a_first_class_of_another_name_is_no_background(tmp_path):
    own_folder(tmp_path, np.ones(HW, np.uint8), "cat\ndog\n")
    assert not open_dataset(tmp_path).has_background


def test_json_and_yaml_class_files_are_read(tmp_path):
    own_folder(tmp_path, np.ones(HW, np.uint8))
    for suffix, text in ((".json", '[{"name": "cat"}, {"name": "dog"}]'), (".yaml", "- name: cat\n- name: dog\n")):
        for path in tmp_path.glob("classes.*"):
            path.unlink()
        (tmp_path / f"classes{suffix}").write_text(text)
        assert [entry.name for entry in open_dataset(tmp_path).classes] == ["cat", "dog"]


def test_two_class_files_or_none_are_refused(tmp_path):
    own_folder(tmp_path)
    (tmp_path / "classes.json").write_text("[]")
    with pytest.raises(DatasetError, match=r"expected one class file .* got classes.txt, classes.json"):
        open_dataset(tmp_path)
    for path in tmp_path.glob("classes.*"):
        path.unlink()
    with pytest.raises(DatasetError, match=r"got none; write classes.txt"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(("count", "ignore"), [(254, 255), (255, 65_535), (300, 65_535)])
def test_above_254_classes_the_ignored_label_is_above_the_classes(tmp_path, count, ignore):
    own_folder(tmp_path, classes="\n".join(f"thing {index}" for index in range(count)))
    put_png(tmp_path / "labels" / "a.png", np.array([[0, 1, 253], [count - 1, 65_535, 65_535]], np.uint16))
    data = open_dataset(tmp_path)
    assert data.ignore == ignore
    assert data.items[0].read_labels().tolist() == [[0, 1, 253], [count - 1, ignore, ignore]]
    assert preflight(data) == ()


@pytest.mark.parametrize(("count", "label"), [(255, 65_535), (256, 255), (300, 255)])
def test_255_of_an_8_bit_label_is_a_class_where_there_are_256_and_else_ignored(tmp_path, count, label):
    own_folder(tmp_path, np.full(HW, 255, np.uint8), "\n".join(f"thing {index}" for index in range(count)))
    assert open_dataset(tmp_path).items[0].read_labels().tolist() == [[label] * 3] * 2


def test_masks_of_0_and_255_are_background_and_the_one_class(tmp_path):
    own_folder(tmp_path, np.array([[0, 255, 255], [0, 0, 255]], np.uint8), "road\n", kind="masks")
    data = open_dataset(tmp_path)
    assert [entry.name for entry in data.classes] == ["background", "road"]
    assert (data.ignore, data.has_background) == (None, True)
    assert data.items[0].read_labels().tolist() == [[0, 1, 1], [0, 0, 1]]
    put_png(tmp_path / "masks" / "a.png", np.array([[False, True, True]] * 2))
    assert data.items[0].read_labels().tolist() == [[0, 1, 1]] * 2
    assert preflight(data) == ()


def test_a_mask_with_another_value_is_a_fault(tmp_path):
    own_folder(tmp_path, np.array([[0, 128, 255]] * 2, np.uint8), "background\nroad\n", kind="masks")
    (fault,) = preflight(open_dataset(tmp_path))
    assert "expected ids 0-1, 255, got 128 at 2 of 6 pixels" in fault


def test_masks_of_several_classes_are_refused(tmp_path):
    own_folder(tmp_path, kind="masks")
    with pytest.raises(DatasetError, match="expected one class for its masks, or background and one, got 3"):
        open_dataset(tmp_path)


def test_masks_beside_labels_are_refused(tmp_path):
    own_folder(tmp_path)
    (tmp_path / "masks").mkdir()
    with pytest.raises(DatasetError, match="expected labels or masks, got both"):
        open_dataset(tmp_path)


def test_0_and_255_in_labels_are_told_from_ignored_pixels(tmp_path):
    own_folder(tmp_path, np.array([[0, 255, 255]] * 2, np.uint8))
    (fault,) = preflight(open_dataset(tmp_path))
    assert "expected labels 0 to 2, got only 0 and 255, as 0/255 masks" in fault
    put_image(tmp_path / "images" / "b.jpg")
    put_png(tmp_path / "labels" / "b.png", np.array([[0, 1, 255]] * 2, np.uint8))
    assert preflight(open_dataset(tmp_path)) == ()


def test_0_and_255_where_nothing_is_ignored_are_explained_too():
    with pytest.raises(DatasetError, match="as a 0/255 mask has it; for masks, name their folder masks"):
        IdTable({0: 0, 1: 1}).decode(np.array([[0, 255]]), "a.png")


def test_labels_that_are_all_ignored_are_a_fault(tmp_path):
    own_folder(tmp_path, np.full(HW, 255, np.uint8))
    (fault,) = preflight(open_dataset(tmp_path))
    assert "expected labelled pixels, got only ignored ones" in fault


def test_a_label_without_an_image_is_a_fault(tmp_path):
    own_folder(tmp_path, np.ones(HW, np.uint8))
    put_png(tmp_path / "labels" / "b.png", np.ones(HW, np.uint8))
    (fault,) = preflight(open_dataset(tmp_path))
    assert fault.startswith(f"{tmp_path / 'images' / 'b.*'}: no such image, for label")


def test_two_files_of_one_stem_are_refused(tmp_path):
    own_folder(tmp_path)
    put_image(tmp_path / "images" / "a.png")
    with pytest.raises(DatasetError, match=r"expected one file a name, got a.jpg and a.png"):
        open_dataset(tmp_path)


def test_labels_without_the_images_folder_are_refused(tmp_path):
    put_png(tmp_path / "labels" / "a.png", STORED)
    (tmp_path / "classes.txt").write_text("cat\n")
    with pytest.raises(DatasetError, match="images: expected this folder, got No such file"):
        open_dataset(tmp_path)


def test_unreadable_files_are_faults_and_the_others_are_still_looked_at(tmp_path):
    own_folder(tmp_path, np.ones(HW, np.uint8))
    for stem in "bcde":
        put_image(tmp_path / "images" / f"{stem}.jpg")
        put_png(tmp_path / "labels" / f"{stem}.png", np.ones(HW, np.uint8))
    (tmp_path / "images" / "b.jpg").write_bytes(b"")
    (tmp_path / "labels" / "c.png").write_text("no picture")
    (tmp_path / "labels" / "d.png").unlink()
    put_image(tmp_path / "labels" / "d.jpg")
    cut = (tmp_path / "labels" / "e.png").read_bytes()
    (tmp_path / "labels" / "e.png").write_bytes(cut[: len(cut) - 12 - 14])
    empty, damaged, lossy, truncated = preflight(open_dataset(tmp_path))
    assert "b.jpg: the file is empty" in empty
    assert "c.png: not a PNG that can be read" in damaged
    assert "d.jpg: expected a PNG, got a JPEG, whose lossy pixels" in lossy
    assert "e.png: the image data is truncated or damaged" in truncated


def test_a_rotated_photo_is_compared_upright(tmp_path):
    own_folder(tmp_path, np.ones((3, 2), np.uint8))
    put_image(tmp_path / "images" / "a.jpg", orientation=6)
    assert preflight(open_dataset(tmp_path)) == ()
    put_png(tmp_path / "labels" / "a.png", np.ones(HW, np.uint8))
    (fault,) = preflight(open_dataset(tmp_path))
    assert "its size is 3 x 2, its image's 2 x 3 (upright)" in fault


def test_the_sample_is_spread_and_said_and_the_rest_is_not_read(tmp_path):
    own_folder(tmp_path, np.ones(HW, np.uint8))
    for index in range(9):
        put_image(tmp_path / "images" / f"{index}.jpg")
        put_png(tmp_path / "labels" / f"{index}.png", np.full(HW, 100, np.uint8))
    data = open_dataset(tmp_path)
    faults = preflight(data, sample=4)
    assert [fault.split(": ")[0][-5:] for fault in faults] == ["0.png", "3.png", "6.png"]  # the fourth is a.png
    assert all(fault.endswith("(4 of 10 label files read)") for fault in faults)
    assert preflight(data, sample=4) == faults
    assert len(preflight(data, sample=1)) == 1
    assert len(preflight(data)) == 9
    with pytest.raises(OptionError, match="sample: expected a number from 1"):
        preflight(data, sample=0)


# --- the shared format


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


def test_the_first_class_beside_ignored_pixels_is_no_mask(tmp_path):
    data = open_dataset(shared_folder(tmp_path, SPARSE, np.array([[0, 1, 1]] * 2, np.uint8)))
    assert data.items[0].read_labels().tolist() == [[255, 0, 0]] * 2
    assert preflight(data) == ()


def test_an_ignored_id_above_the_classes_is_ignored_as_well(tmp_path):
    document = {**SPARSE, "ignore_index": 19}
    data = open_dataset(shared_folder(tmp_path, document, np.array([[0, 1, 2], [19, 0, 1]], np.uint8)))
    assert data.items[0].read_labels().tolist() == [[0, 1, 2], [255, 0, 1]]


def test_without_an_ignored_id_every_pixel_counts_and_null_is_the_background(tmp_path):
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


# --- COCO

CATEGORIES = [{"id": 90, "name": "aero_plane"}, {"id": 3, "name": "car"}]
IMAGE = {"id": 7, "file_name": "a.jpg", "height": 4, "width": 5}


def coco_folder(root, annotations, name="annotations.json", image=IMAGE):
    put_image(root / "images" / "a.jpg", (4, 5))
    document = {"images": [image], "annotations": annotations, "categories": CATEGORIES}
    (root / name).write_text(json.dumps(document))
    return root


def instance(category, segmentation, **more):
    return {"id": 1, "image_id": 7, "category_id": category, "segmentation": segmentation, **more}


def test_polygons_and_both_kinds_of_run_lengths_are_drawn_small_on_large(tmp_path):
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
def test_run_lengths_that_pycocotools_wrote_give_the_mask_back(mask, compressed):
    runs = coco_rle.encode(np.asfortranarray(mask, np.uint8))
    shape = {"size": list(mask.shape), "counts": runs["counts"].decode() if compressed else runs["counts"]}
    assert InstanceLabels(Path("a.json"), mask.shape, [(1, shape)]).read().tolist() == mask.astype(int).tolist()


def test_long_run_lengths_are_read_too():
    mask = np.zeros((200, 300), bool)
    mask[3:170, 40:41] = mask[90:, 50:250] = True
    shape = coco_rle.encode(np.asfortranarray(mask, np.uint8))
    assert (InstanceLabels(Path("a.json"), mask.shape, [(1, shape)]).read() == mask).all()


def test_an_image_without_instances_is_background(tmp_path):
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
    assert len({data.source_hash, open_dataset(tmp_path / "annotations/panoptic_val2017.json").source_hash}) == 1
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
        ("{}", "not COCO's layout .*KeyError: 'annotations'"),
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


# --- what is no data set


def test_a_path_that_is_nothing_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="expected a folder, a COCO annotation file or one of voc21"):
        open_dataset(tmp_path / "nothing")


def test_an_empty_folder_is_refused_with_the_layouts(tmp_path):
    with pytest.raises(DatasetError, match=r"expected images/ with labels/ or masks/.* got no annotation file"):
        open_dataset(tmp_path)


def test_empty_images_and_labels_folders_are_a_fault(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    (tmp_path / "classes.txt").write_text("cat\n")
    (fault,) = preflight(open_dataset(tmp_path))
    assert "expected images, got none" in fault


def test_a_root_for_a_folder_is_refused(tmp_path):
    with pytest.raises(OptionError, match="root: expected None for a folder of one's own"):
        open_dataset(own_folder(tmp_path), tmp_path)


def test_an_ignored_label_that_is_a_class_is_refused():
    with pytest.raises(DatasetError, match="expected an ignored label outside the classes 0 to 0, got 0"):
        Dataset("x", Path("x"), (PromptClass("cat", ("cat",)),), (), ignore=0)


def test_the_hash_depends_on_the_files_and_not_on_where_they_lie(tmp_path):
    first, second = (open_dataset(own_folder(tmp_path / name)) for name in ("one", "two"))
    assert first.source_hash == second.source_hash
    put_image(tmp_path / "two" / "images" / "b.jpg")
    assert open_dataset(tmp_path / "two").source_hash != first.source_hash


# --- headers, held to Pillow


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("orientation", [None, 1, 2, 3, 4, 5, 6, 7, 8])
def test_the_header_has_the_size_that_the_upright_picture_has(tmp_path, suffix, orientation):
    path = put_image(tmp_path / f"a{suffix}", (5, 9), orientation)
    assert read_header(path).image_hw == read_image(path).shape[:2]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_the_header_of_a_png_says_its_depth_and_whether_it_has_colors(tmp_path, mode):
    path = tmp_path / "a.png"
    Image.new(mode, (9, 5)).save(path)
    found = read_header(path)
    depth = {"1": 1, "P": 1, "I;16": 16}.get(mode, 8)  # Pillow packs a palette of one color in one bit
    color = {"P": "palette", "RGB": "color", "RGBA": "color", "LA": "color"}.get(mode, "grey")
    assert (found.kind, found.image_hw, found.color) == ("PNG", (5, 9), color)
    assert found.bit_depth == depth or mode == "P"


@pytest.mark.parametrize("options", [{"progressive": True}, {"comment": b"x" * 999}, {"quality": 5}])
def test_jpegs_of_other_kinds_have_a_header_too(tmp_path, options):
    path = tmp_path / "a.jpg"
    Image.new("L" if "quality" in options else "CMYK", (9, 5)).save(path, **options)
    assert read_header(path).image_hw == (5, 9)
    assert read_header(path).color == ("grey" if "quality" in options else "color")


def test_a_table_before_the_frame_of_a_jpeg_is_not_its_size(tmp_path):
    path = put_image(tmp_path / "a.jpg", (5, 9))
    huffman = b"\xff\xc4\x00\x0a" + bytes([8, 0, 7, 0, 7, 3, 0, 0])
    path.write_bytes(path.read_bytes()[:2] + b"\xff" + huffman + path.read_bytes()[2:])  # a fill byte as well
    assert read_header(path).image_hw == (5, 9)


def test_what_is_no_whole_png_or_jpeg_has_no_header(tmp_path):
    path = tmp_path / "a"
    png = put_image(tmp_path / "a.png").read_bytes()
    jpeg = put_image(tmp_path / "a.jpg").read_bytes()
    for data in (b"", b"\xff", png[:20], jpeg[:30], jpeg[:2] + b"\xff", b"GIF89a", png[:16] + bytes(8) + png[24:]):
        path.write_bytes(data)
        assert read_header(path) is None
    assert read_header(tmp_path / "none") is None


def test_a_gif_is_measured_by_pillow_and_a_rotation_behind_the_pixels_is_seen(tmp_path):
    own_folder(tmp_path, np.ones(HW, np.uint8))
    (tmp_path / "images" / "a.jpg").unlink()
    put_image(tmp_path / "images" / "a.gif")
    assert preflight(open_dataset(tmp_path)) == ()
    (tmp_path / "images" / "a.gif").unlink()
    put_png(tmp_path / "labels" / "a.png", np.ones((3, 2), np.uint8))
    path = put_image(tmp_path / "images" / "a.png")
    exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif + struct.pack(">I", zlib.crc32(b"eXIf" + exif))
    path.write_bytes(path.read_bytes()[:-12] + chunk + path.read_bytes()[-12:])
    assert read_header(path).image_hw == HW
    assert preflight(open_dataset(tmp_path)) == ()


def test_reading_an_image_that_is_gone_is_an_image_error(tmp_path):
    own_folder(tmp_path)
    (item,) = open_dataset(tmp_path).items
    item.image_path.unlink()
    with pytest.raises(ImageError, match="there is no such file"):
        item.read_image()


def test_a_class_is_chosen_by_its_own_name_though_it_is_a_word_of_another():
    classes = (PromptClass("counter", ("counter",)), PromptClass("buffet", ("buffet", "counter")))
    for order in (classes, classes[::-1]):
        data = Dataset("ade", Path("ade"), order, ())
        assert [entry.name for entry in data.only(["counter"]).classes] == ["counter"]
    classes = (PromptClass("a", ("shared",)), PromptClass("b", ("shared",)))
    assert [entry.name for entry in Dataset("x", Path("x"), classes, ()).only(["shared"]).classes] == ["a"]
