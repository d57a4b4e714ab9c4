"""Builders of small labelled data sets, one image each, in every layout."""

import json

import numpy as np
from PIL import Image

from fgseg.datasets.standard_sets import STANDARD_SETS

HW = (2, 3)

STORED = np.array([[0, 1, 2], [19, 255, 1]], np.uint8)
"""Ids of most standard sets."""


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


# Paths of the image and of its label, as published loaders expect them.
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


def small_copy(root, name, stored=None):
    """Write one image of the set `name`, with stored labels, in its published layout; returns (image, label) paths."""
    image, label = (root / place for place in PLACES[name])
    put_image(image)
    put_png(label, usual(name) if stored is None else stored)
    if name in LISTS:
        (root / LISTS[name]).parent.mkdir(parents=True)
        (root / LISTS[name]).write_text("a\n")
    return image, label


def usual(name):
    """Stored ids of the set `name`, with its first and its last."""
    last = NUM_CLASSES[name] if name in ZERO_REDUCED else NUM_CLASSES[name] - 1
    return np.array([[0, 1, 2], [last, 0 if IGNORE[name] is None else 255, 1]], np.uint8)


def label_folder(root, stored=STORED, classes="background\ncat, kitten\ndog\n", kind="labels"):
    put_image(root / "images" / "a.jpg")
    put_png(root / kind / "a.png", stored)
    (root / "classes.txt").write_text(classes)
    return root


CATEGORIES = [{"id": 90, "name": "aero_plane"}, {"id": 3, "name": "car"}]

IMAGE = {"id": 7, "file_name": "a.jpg", "height": 4, "width": 5}


def coco_folder(root, annotations, name="annotations.json", image=IMAGE):
    put_image(root / "images" / "a.jpg", (4, 5))
    document = {"images": [image], "annotations": annotations, "categories": CATEGORIES}
    (root / name).write_text(json.dumps(document))
    return root
