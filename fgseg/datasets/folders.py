"""Folders of custom labelled images: images, labels or masks, and a list of classes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fgseg._files import one_line, reason
from fgseg.datasets.dataset import Dataset, LabelledImage
from fgseg.datasets.documents import check_file_name, expect_layout, find_image, read_document, same_name
from fgseg.datasets.labels import IdTable, PngLabels
from fgseg.datasets.standard_sets import BACKGROUND, is_background
from fgseg.errors import DatasetError
from fgseg.images.find import IMAGE_SUFFIXES
from fgseg.prompts.classes import PromptClass
from fgseg.prompts.files import read_class_file
from fgseg.types import unlabelled_value

__all__ = ["open_json_folder", "open_label_folder", "open_mask_folder"]

_CLASS_FILES = ("classes.txt", "classes.json", "classes.yaml", "classes.yml")


def open_label_folder(folder: Path) -> Dataset:
    """A folder with `images/`, `labels/` of class indices and a class file; 255 is ignored (65535 above 254 classes).

    Raises:
        DatasetError: no class file or several, or two files of one stem.
        PromptError: the class file cannot be read.
    """
    classes = _read_classes(folder)
    count, ignore = len(classes), unlabelled_value(len(classes))
    ids = {index: index for index in range(count)}
    ids |= {value: ignore for value in (255, 65_535) if value >= count}
    return Dataset(
        _name(folder), folder, classes, _pairs(folder, "labels", IdTable(ids)), ignore, is_background(classes[0])
    )


def open_mask_folder(folder: Path) -> Dataset:
    """A folder with `images/`, `masks/` of 0 and 255 (or 0 and 1) and a class file of one class, or background and one.

    Raises:
        DatasetError: as `open_label_folder`, or another number of classes.
        PromptError: the class file cannot be read.
    """
    classes = _read_classes(folder)
    if len(classes) == 1:
        classes = (BACKGROUND, *classes)
    if len(classes) != 2 or not is_background(classes[0]):
        raise DatasetError(
            f"{one_line(folder)}: expected one class for its masks, or background and one, got {len(classes)} "
            f"({', '.join(entry.name for entry in classes[:3])}); several classes need labels/ with class indices"
        )
    items = _pairs(folder, "masks", IdTable({0: 0, 1: 1, 255: 1}))
    return Dataset(_name(folder), folder, classes, items, ignore=None, has_background=True)


def open_json_folder(folder: Path) -> Dataset:
    """A folder with `images/ID.*`, `labels/ID.png` and `dataset.json`: classes (id, name, prompt), ignore_index, items.

    Ids may be sparse. They become 0 to C-1 in the order of the ids, without the ignored id.

    Raises:
        DatasetError: dataset.json has another form.
    """
    path = folder / "dataset.json"
    document = read_document(path)
    with expect_layout(path, "classes with id, name and prompt, and items with id"):
        return _json_dataset(folder, document)


def _json_dataset(folder: Path, document: Mapping[str, Any]) -> Dataset:
    ignored = document.get("ignore_index")
    rows = sorted((row for row in document["classes"] if row["id"] != ignored), key=lambda row: int(row["id"]))
    classes = tuple(PromptClass(row["name"], (row.get("prompt", row["name"]),)) for row in rows)
    ignore = None if ignored is None else unlabelled_value(len(classes))
    index_of = {int(row["id"]): index for index, row in enumerate(rows)}
    if len(index_of) < len(rows) or not all(0 <= value <= 65_535 for value in (*index_of, int(ignored or 0))):
        raise ValueError("class ids are not different whole numbers from 0 to 65535")
    if ignored is not None:
        index_of[int(ignored)] = unlabelled_value(len(classes))
    ids, images = IdTable(index_of), _by_stem(folder / "images")
    names = [check_file_name(str(row["id"])) for row in document["items"]]
    labels = [PngLabels(find_image(folder / "labels", f"{name}.png"), ids) for name in names]
    items = tuple(
        LabelledImage(name, _image_path(folder, images, name), source)
        for name, source in zip(names, labels, strict=True)
    )
    name = str(document.get("name") or _name(folder))
    return Dataset(name, folder, classes, items, ignore, bool(classes) and is_background(classes[0]))


def _read_classes(folder: Path) -> tuple[PromptClass, ...]:
    found = [path for path in _files(folder) if path.name.lower() in _CLASS_FILES]
    if len(found) != 1:
        raise DatasetError(
            f"{one_line(folder)}: expected one class file ({', '.join(_CLASS_FILES)}) or a dataset.json, got "
            f"{', '.join(path.name for path in found) or 'none'}; write classes.txt, one class per line in label order"
        )
    return read_class_file(found[0], shared_synonyms="allow")


def _pairs(folder: Path, kind: str, ids: IdTable) -> tuple[LabelledImage, ...]:
    """Images and labels of the same stem. One without the other is kept, so that the preflight reports it."""
    images, labels = _by_stem(folder / "images"), _by_stem(folder / kind)
    return tuple(
        LabelledImage(
            stem,
            _image_path(folder, images, stem),
            PngLabels(labels.get(stem, folder / kind / f"{stem}.png"), ids),
        )
        for stem in sorted(images.keys() | labels.keys())
    )


def _image_path(folder: Path, images: Mapping[str, Path], stem: str) -> Path:
    return images.get(same_name(stem), folder / "images" / f"{stem}.*")


def _by_stem(folder: Path) -> dict[str, Path]:
    """The pictures of a folder by the key of their name without its ending."""
    found: dict[str, Path] = {}
    for path in _files(folder):
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        key = same_name(path.stem)
        if key in found:
            raise DatasetError(
                f"{one_line(folder)}: expected one file per name, got {found[key].name} and {path.name}; "
                "an image and its label are found by the name without its ending"
            )
        found[key] = path
    return found


def _files(folder: Path) -> list[Path]:
    """The files of a folder by name, without hidden ones."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DatasetError(
            f"{one_line(folder)}: expected this folder, got {reason(error)}; check the layout"
        ) from error


def _name(folder: Path) -> str:
    return folder.absolute().name
