"""The eight standard benchmarks: their folders, their label encodings and their classes.

The published evaluation code of SCLIP, NACLIP, ClearCLIP, ProxyCLIP and mmsegmentation agrees on this table. Class
names are those of the data sets' own category lists, which the class files name.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fgseg._files.names import one_line
from fgseg.datasets.dataset import Dataset, LabelledImage
from fgseg.datasets.documents import read_text
from fgseg.datasets.labels import IdTable, PngLabels
from fgseg.errors import DatasetError
from fgseg.prompts.classes import PromptClass
from fgseg.prompts.files import read_class_file

__all__ = ["BACKGROUND", "STANDARD_SETS", "is_background", "open_standard_set", "standard_classes"]

BACKGROUND = PromptClass("background", ("background",))
"""Class 0 of a set with a background. A preset gives it other words."""

_CLASS_FILES = Path(__file__).parents[1] / "assets" / "classes"
_COCO_THINGS = 80  # the first classes of COCO-Stuff are the classes of COCO-Object


@dataclass(frozen=True)
class _Layout:
    """One benchmark.

    Attributes:
        class_file: file of its class names, without the background.
        base: its folder below the root.
        images, labels: folders below `base`.
        suffixes: what follows the image's name in the names of the image file and of the label file.
        size: number of images of the published set.
        listing: file below `base` with one name per line; "" takes all files of the image and label folders.
        hint: how to make the label files, if the data set comes without them.
        ignore: label of the pixels that do not count; None if every pixel counts.
        background: whether class 0 is the background.
        reduce_zero_label: whether stored 0 means 255 and other values mean one less, as in mmsegmentation.
    """

    class_file: str
    base: str
    images: str
    labels: str
    suffixes: tuple[str, str]
    size: int
    listing: str = ""
    hint: str = ""
    ignore: int | None = 255
    background: bool = False
    reduce_zero_label: bool = False


_VOC = "VOCdevkit/VOC2012", "JPEGImages", "SegmentationClass", (".jpg", ".png")
_CONTEXT = "VOCdevkit/VOC2010", "JPEGImages", "SegmentationClassContext", (".jpg", ".png")
_COCO = "coco_stuff164k", "images/val2017", "annotations/val2017"
_VOC_LIST = "ImageSets/Segmentation/val.txt"
_CONTEXT_LIST = "ImageSets/SegmentationContext/val.txt"
_CONTEXT_HINT = "mmsegmentation's tools/dataset_converters/pascal_context.py makes them and the list"
_CITY_SUFFIXES = "_leftImg8bit.png", "_gtFine_labelTrainIds.png"

_LAYOUTS = {
    "voc21": _Layout("voc.txt", *_VOC, 1449, _VOC_LIST, background=True),
    "voc20": _Layout("voc.txt", *_VOC, 1449, _VOC_LIST, reduce_zero_label=True),
    "context60": _Layout("context.txt", *_CONTEXT, 5104, _CONTEXT_LIST, _CONTEXT_HINT, ignore=None, background=True),
    "context59": _Layout("context.txt", *_CONTEXT, 5104, _CONTEXT_LIST, _CONTEXT_HINT, reduce_zero_label=True),
    "coco-object": _Layout(
        *("coco_stuff.txt", *_COCO, (".jpg", "_instanceTrainIds.png"), 5000),
        hint="NACLIP's datasets/cvt_coco_object.py makes them from COCO-Stuff's pixel maps",
        ignore=None,
        background=True,
    ),
    "coco-stuff": _Layout(
        *("coco_stuff.txt", *_COCO, (".jpg", "_labelTrainIds.png"), 5000),
        hint="mmsegmentation's tools/dataset_converters/coco_stuff164k.py makes them from COCO-Stuff's pixel maps",
    ),
    "cityscapes": _Layout(
        *("cityscapes.txt", "cityscapes", "leftImg8bit/val", "gtFine/val", _CITY_SUFFIXES, 500),
        hint="cityscapesscripts' createTrainIdLabelImgs makes them; the plain _labelIds.png are other ids",
    ),
    "ade20k": _Layout(
        *("ade20k.txt", "ADEChallengeData2016", "images/validation", "annotations/validation", (".jpg", ".png"), 2000),
        reduce_zero_label=True,
    ),
}

STANDARD_SETS: tuple[str, ...] = tuple(_LAYOUTS)
"""The names of the standard benchmarks."""


def is_background(entry: PromptClass) -> bool:
    """Whether the name or a query word of a class is "background".

    >>> is_background(PromptClass("null", ("Background",)))
    True
    """
    return "background" in {word.casefold() for word in (entry.name, *entry.synonyms)}


def standard_classes(name: str) -> tuple[PromptClass, ...]:
    """The classes of a standard set in label order. The first query word of a class is its name.

    >>> [len(standard_classes(name)) for name in STANDARD_SETS]
    [21, 20, 60, 59, 81, 171, 19, 150]
    """
    layout = _LAYOUTS[name]
    # "screen" is a query word of three classes in ADE20K's own list
    classes = read_class_file(_CLASS_FILES / layout.class_file, shared_synonyms="allow")
    if name == "coco-object":
        classes = classes[:_COCO_THINGS]
    return (BACKGROUND, *classes) if layout.background else classes


def open_standard_set(name: str, root: Path) -> Dataset:
    """Open a standard set below `root`, which may be any folder down to its own, such as VOC2012 itself.

    Raises:
        DatasetError: its folders do not exist, or its list cannot be read.
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
    first = 1 if layout.reduce_zero_label else 0
    index_of = {index + first: index for index in range(num_classes)}
    if layout.ignore is not None:
        index_of |= dict.fromkeys({255, *range(first)}, layout.ignore)
    return IdTable(index_of)


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
        return read_text(base / layout.listing, hint="; it lists the images, one name per line").split()
    image_suffix, label_suffix = layout.suffixes
    images = set(_found(base / layout.images, image_suffix))
    return sorted(images | set(_found(base / layout.labels, label_suffix)))


def _found(folder: Path, suffix: str) -> Iterator[str]:
    """The names, without the suffix, of the files below a folder, in Cityscapes with their city's folder."""
    for path in folder.rglob("*" + suffix):
        if not path.name.startswith("."):
            yield path.relative_to(folder).as_posix().removesuffix(suffix)
