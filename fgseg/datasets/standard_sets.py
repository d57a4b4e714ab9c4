"""The eight standard benchmarks: where their files lie, what their labels mean, and their classes.

The table is that of the field's evaluation code (SCLIP, NACLIP, ClearCLIP, ProxyCLIP and mmsegmentation's
loaders agree on it); class names come from the data sets' own category lists, named in the class files.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fgseg._files import one_line, reason
from fgseg.datasets.dataset import Dataset, LabelledImage
from fgseg.datasets.labels import IdTable, PngLabels
from fgseg.errors import DatasetError
from fgseg.prompts.classes import PromptClass
from fgseg.prompts.files import read_class_file

__all__ = ["BACKGROUND", "STANDARD_SETS", "open_standard_set", "standard_classes"]

BACKGROUND = PromptClass("background", ("background",))
"""Class 0 where a set has one; a preset gives it other words."""

_CLASS_FILES = Path(__file__).parents[1] / "assets" / "classes"
_COCO_THINGS = 80  # the first classes of COCO-Stuff are those of COCO-Object


@dataclass(frozen=True)
class _Layout:
    """One benchmark.

    Attributes:
        class_file: its names, without the background.
        base: its folder below the root.
        images, labels: folders below `base`.
        suffixes: what follows an image's name in the image file's and in the label file's name.
        stored: "as stored", or "zero-reduced": 0 -> 255, the others minus 1, 254 -> 255.
        ignore: label that does not count; None where every pixel counts.
        background: whether class 0 is one.
        size: published number of images.
        listing: file below `base` with a name a line; "" takes the image and label folders' files.
        hint: how the label files are made, where the data set does not come with them.
    """

    class_file: str
    base: str
    images: str
    labels: str
    suffixes: tuple[str, str]
    stored: str
    ignore: int | None
    background: bool
    size: int
    listing: str = ""
    hint: str = ""


_VOC = "VOCdevkit/VOC2012", "JPEGImages", "SegmentationClass", (".jpg", ".png")
_CONTEXT = "VOCdevkit/VOC2010", "JPEGImages", "SegmentationClassContext", (".jpg", ".png")
_COCO = "coco_stuff164k", "images/val2017", "annotations/val2017"
_VOC_LIST = "ImageSets/Segmentation/val.txt"
_CONTEXT_LIST = "ImageSets/SegmentationContext/val.txt"
_CONTEXT_HINT = "mmsegmentation's tools/dataset_converters/pascal_context.py makes them and the list"
_CITY_SUFFIXES = "_leftImg8bit.png", "_gtFine_labelTrainIds.png"

_LAYOUTS = {
    "voc21": _Layout("voc.txt", *_VOC, "as stored", 255, True, 1449, _VOC_LIST),
    "voc20": _Layout("voc.txt", *_VOC, "zero-reduced", 255, False, 1449, _VOC_LIST),
    "context60": _Layout("context.txt", *_CONTEXT, "as stored", None, True, 5104, _CONTEXT_LIST, _CONTEXT_HINT),
    "context59": _Layout("context.txt", *_CONTEXT, "zero-reduced", 255, False, 5104, _CONTEXT_LIST, _CONTEXT_HINT),
    "coco-object": _Layout(
        *("coco_stuff.txt", *_COCO, (".jpg", "_instanceTrainIds.png"), "as stored", None, True, 5000),
        hint="NACLIP's datasets/cvt_coco_object.py makes them from COCO-Stuff's pixel maps",
    ),
    "coco-stuff": _Layout(
        *("coco_stuff.txt", *_COCO, (".jpg", "_labelTrainIds.png"), "as stored", 255, False, 5000),
        hint="mmsegmentation's tools/dataset_converters/coco_stuff164k.py makes them from COCO-Stuff's pixel maps",
    ),
    "cityscapes": _Layout(
        *("cityscapes.txt", "cityscapes", "leftImg8bit/val", "gtFine/val", _CITY_SUFFIXES),
        *("as stored", 255, False, 500),
        hint="cityscapesscripts' createTrainIdLabelImgs makes them; the plain _labelIds.png are other ids",
    ),
    "ade20k": _Layout(
        *("ade20k.txt", "ADEChallengeData2016", "images/validation", "annotations/validation", (".jpg", ".png")),
        *("zero-reduced", 255, False, 2000),
    ),
}

STANDARD_SETS: tuple[str, ...] = tuple(_LAYOUTS)
"""Names of the standard benchmarks."""


def standard_classes(name: str) -> tuple[PromptClass, ...]:
    """The classes of a standard set in label order, the first word of each its own name, synonyms after it.

    >>> [len(standard_classes(name)) for name in STANDARD_SETS]
    [21, 20, 60, 59, 81, 171, 19, 150]
    """
    layout = _LAYOUTS[name]
    # "screen" is a word of three classes of ADE20K's own list
    classes = read_class_file(_CLASS_FILES / layout.class_file, shared_synonyms="allow")
    if name == "coco-object":
        classes = classes[:_COCO_THINGS]
    return (BACKGROUND, *classes) if layout.background else classes


def open_standard_set(name: str, root: Path) -> Dataset:
    """A standard set below `root`; folders between may be left out, so that root may be VOC2012 itself.

    Raises:
        DatasetError: its folders are not there, or its list cannot be read.
    """
    layout, classes = _LAYOUTS[name], standard_classes(name)
    base = _base(name, layout, root)
    ids = _id_table(layout, len(classes))
    image_suffix, label_suffix = layout.suffixes
    items = tuple(
        LabelledImage(
            stem,
            base / layout.images / (stem + image_suffix),
            PngLabels(base / layout.labels / (stem + label_suffix), ids),
        )
        for stem in _stems(layout, base)
    )
    return Dataset(name, base, classes, items, layout.ignore, layout.background, layout.hint, layout.size)


def _id_table(layout: _Layout, num_classes: int) -> IdTable:
    ignored = {} if layout.ignore is None else {255: layout.ignore}
    if layout.stored == "zero-reduced":
        return IdTable({0: 255, **{index + 1: index for index in range(num_classes)}, **ignored})
    return IdTable({**{index: index for index in range(num_classes)}, **ignored})


def _base(name: str, layout: _Layout, root: Path) -> Path:
    parts = Path(layout.base).parts
    candidates = [root.joinpath(*parts[start:]) for start in range(len(parts) + 1)]
    for base in candidates:
        if (base / layout.images).is_dir():
            return base
    wanted = f"{layout.base}/{layout.images} and {layout.base}/{layout.labels}"
    raise DatasetError(f"{name}: expected {wanted} below {one_line(root)}, got no such folder; check root")


def _stems(layout: _Layout, base: Path) -> list[str]:
    if layout.listing:
        return _listed(base / layout.listing)
    image_suffix, label_suffix = layout.suffixes
    images = set(_found(base / layout.images, image_suffix))
    return sorted(images | set(_found(base / layout.labels, label_suffix)))


def _listed(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"{one_line(path)}: cannot be read ({reason(error)}); it lists the images, a name a line"
        ) from error


def _found(folder: Path, suffix: str) -> Iterator[str]:
    """Names of the files below a folder, Cityscapes' with their city, without the suffix."""
    for path in folder.rglob("*" + suffix):
        if not path.name.startswith("."):
            yield path.relative_to(folder).as_posix().removesuffix(suffix)
