"""Opening labelled images: the eight standard benchmarks, and custom data in several layouts.

    dataset = open_dataset("voc21", root="data")      # data/VOCdevkit/VOC2012/...
    dataset = open_dataset("my_photos")               # my_photos/{images,labels}, my_photos/classes.txt
    faults = preflight(dataset)                       # before a model is loaded
    for item in dataset.items:
        item.read_image(), item.read_labels()         # (H, W, 3) uint8, (H, W) int32

Layouts of custom data:

* `images/`, `labels/` (PNG with class indices, 255 ignored) and `classes.txt`, `.json` or `.yaml`;
* `images/`, `masks/` (PNG with 0 and 255) and such a class file with one class;
* `images/`, `labels/` and `dataset.json`, whose ids may be sparse;
* COCO's panoptic or instance annotations: the file itself, or a folder with `images/` and the file;
* what `fgseg segment` wrote: its output folder, or labels.png, labels.tif or coco.json of one image.
"""

import os
from dataclasses import replace
from pathlib import Path

from fgseg._files.names import one_line, reason
from fgseg.datasets.coco import open_coco
from fgseg.datasets.dataset import Dataset
from fgseg.datasets.folders import (
    open_json_folder,
    open_label_folder,
    open_mask_folder,
    open_results,
    result_files,
)
from fgseg.datasets.standard_sets import STANDARD_SETS, open_standard_set
from fgseg.errors import DatasetError, OptionError
from fgseg.prompts.files import read_class_file

__all__ = ["open_dataset"]


def open_dataset(
    name_or_folder: str | os.PathLike[str],
    root: str | os.PathLike[str] | None = None,
    *,
    words: str | os.PathLike[str] | None = None,
) -> Dataset:
    r"""Open a data set by name or folder. Its files are listed; only its lists of images and classes are read.

    Args:
        name_or_folder: one of `STANDARD_SETS` (write `./voc21` for a folder of that name), or a folder or file in one
            of the layouts of this module.
        root: for a standard set the folder with `VOCdevkit`, `coco_stuff164k`, `cityscapes` or
            `ADEChallengeData2016`; for a COCO file or results of fgseg the folder of the images; otherwise None.
        words: the query words of the classes. "names": the first of each class; "synonyms": all of the class list;
            or the path of a class file with other words, such as a method's published list, in label order and
            with the background first if there is one. None means "names" for a standard set, because most
            published runs have one word per class, and "synonyms" for custom data.

    Returns:
        The data set. `preflight` finds what is wrong with its files.

    Raises:
        DatasetError: no such folder, an unknown layout, a list that cannot be read, or a class file with
            another number of classes.
        OptionError: `root` is missing, or given for a folder.
        PromptError: the class file cannot be read.

    >>> import tempfile
    >>> from fgseg.datasets import preflight
    >>> from fgseg.images import write_image, write_label_png
    >>> import numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_image(f"{folder}/images/a.png", np.zeros((1, 2, 3), np.uint8))
    ...     write_label_png(f"{folder}/labels/a.png", np.array([[1, -1]]), colors=[(0, 0, 0)] * 2)
    ...     _ = Path(folder, "classes.txt").write_text("cat\ndog, puppy\n")
    ...     pets = open_dataset(folder)
    ...     pets.classes[1].synonyms, pets.items[0].read_labels(), preflight(pets)
    (('dog', 'puppy'), array([[  1, 255]], dtype=int32), ())
    """
    if name_or_folder in STANDARD_SETS:
        name = str(name_or_folder)
        if root is None:
            raise OptionError(
                f"root: expected the folder that holds {name}'s data, got none; give root=FOLDER, or ./{name} for a "
                "folder of this name"
            )
        return _with_words(open_standard_set(name, Path(root)), words or "names")
    path = _path_of(name_or_folder)
    if results := result_files(path):
        return _with_words(open_results(results, None if root is None else Path(root)), words or "synonyms")
    if path.is_file() and path.suffix.lower() == ".json":
        return _with_words(open_coco(path, None if root is None else Path(root)), words or "synonyms")
    if root is not None:
        raise OptionError(f"root: expected None for a folder of custom data, got {os.fspath(root)!r:.80}; leave it out")
    if not path.is_dir():
        raise DatasetError(
            f"{one_line(path)}: expected a folder, a COCO annotation file or one of {', '.join(STANDARD_SETS)}, "
            "got none of them; check the path"
        )
    return _with_words(_open_folder(path), words or "synonyms")


def _path_of(name: str | os.PathLike[str]) -> Path:
    """The path of a data set. No name would be the current folder, and the system refuses some names."""
    if not os.fspath(name):
        raise DatasetError("data: expected a folder, a file or the name of a standard set, got no name; name one")
    try:
        Path(name).exists()
    except OSError as error:
        raise DatasetError(f"{one_line(name):.80}: cannot be opened ({reason(error)}); check the path") from error
    return Path(name)


def _open_folder(folder: Path) -> Dataset:
    if (folder / "dataset.json").is_file():
        return open_json_folder(folder)
    has_labels, has_masks = ((folder / kind).is_dir() for kind in ("labels", "masks"))
    if has_labels and has_masks:
        raise DatasetError(f"{one_line(folder)}: expected labels or masks, got both folders; keep one of them")
    if has_labels:
        return open_label_folder(folder)
    if has_masks:
        return open_mask_folder(folder)
    return open_coco(_annotation_file(folder), None)


def _annotation_file(folder: Path) -> Path:
    listed = (path for path in folder.iterdir() if path.suffix.lower() == ".json")
    found = sorted(path for path in listed if not path.name.lower().startswith((".", "classes")))
    if len(found) == 1:
        return found[0]
    files = ", ".join(path.name for path in found[:5]) or "no annotation file"
    raise DatasetError(
        f"{one_line(folder)}: expected images/ with labels/ or masks/, or with one COCO annotation file, got {files}; "
        "name the annotation file itself, or make one of the layouts of fgseg.datasets.opening"
    )


def _with_words(dataset: Dataset, words: str | os.PathLike[str]) -> Dataset:
    if words == "synonyms":
        return dataset
    if words == "names":
        return dataset.with_classes(tuple(replace(entry, synonyms=entry.synonyms[:1]) for entry in dataset.classes))
    return dataset.with_classes(read_class_file(words, shared_synonyms="allow"))
