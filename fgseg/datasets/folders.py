"""Folders of custom labelled images: images, labels or masks, and a list of classes; and the results of fgseg."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fgseg._files.names import one_line, reason
from fgseg.datasets.coco import open_coco
from fgseg.datasets.dataset import Dataset, LabelledImage
from fgseg.datasets.documents import check_file_name, expect_layout, find_image, is_file, read_document, same_name
from fgseg.datasets.labels import IdTable, PngLabels
from fgseg.datasets.standard_sets import BACKGROUND, is_background
from fgseg.errors import DatasetError
from fgseg.images.find import IMAGE_SUFFIXES
from fgseg.prompts.classes import PromptClass
from fgseg.prompts.files import read_class_file
from fgseg.types import unlabelled_value

__all__ = ["open_json_folder", "open_label_folder", "open_mask_folder", "open_results", "result_files"]

_CLASS_FILES = ("classes.txt", "classes.json", "classes.yaml", "classes.yml")
_RESULT_FILES = ("labels.png", "labels.tif", "coco.json")  # what `fgseg segment` writes; the first that exists is read


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


def result_files(path: Path) -> tuple[Path, ...]:
    """The label maps or coco.json that `fgseg segment` wrote: this file, or one of each result in this folder."""
    if is_file(path):
        return (path,) if path.name in _RESULT_FILES and is_file(path.parent / "run.json") else ()
    if not path.is_dir():
        return ()
    own = _result_file(path)
    below = [_result_file(folder) for folder in _files(path) if folder.is_dir()]
    return (own,) if own else tuple(file for file in below if file)


def _result_file(folder: Path) -> Path | None:
    if not is_file(folder / "run.json"):
        return None
    return next((folder / name for name in _RESULT_FILES if is_file(folder / name)), None)


def open_results(files: Sequence[Path], root: Path | None) -> Dataset:
    """Results of `fgseg segment` as the truth: label maps with the pixels of no class ignored, or coco.json.

    Args:
        files: from `result_files`, at least one.
        root: folder of the images; None takes the paths that were given to `fgseg segment`.

    Raises:
        DatasetError: a file of a result cannot be read, or two results have other classes.
        PromptError: as `read_class_file`.
    """
    parts = [_open_result(file, root) for file in files]
    first = parts[0]
    for file, part in zip(files, parts, strict=True):
        if (part.classes, part.has_background) != (first.classes, first.has_background):
            names = ", ".join(entry.name for entry in part.classes)
            raise DatasetError(
                f"{one_line(file)}: expected the classes of {one_line(files[0])}, got {names:.80}; "
                "measure results of other classes one by one"
            )
    folder = files[0].absolute().parent
    return replace(
        first,
        name=folder.name if len(files) == 1 else folder.parent.name,
        items=tuple(item for part in parts for item in part.items),
        annotation_faults=tuple(fault for part in parts for fault in part.annotation_faults),
        notes=tuple(note for part in parts for note in part.notes),
        annotations_left_out=sum(part.annotations_left_out for part in parts),
    )


def _open_result(file: Path, root: Path | None) -> Dataset:
    """The data set of the one image of a result. The files beside it say its classes and the path of its image."""
    folder = file.parent
    settings = read_document(folder / "run.json")
    with expect_layout(folder / "run.json", "the settings of a result of `fgseg segment`"):
        classes = tuple(PromptClass(row["name"], tuple(row["prompts"])) for row in settings["classes"])
        image = _segmented_image(folder, check_file_name(settings["image"]), root)
    name = folder.absolute().name
    if file.name == "coco.json":
        data = open_coco(file, image.parent)
        named = data.with_classes((BACKGROUND, *(entry for entry in classes if not is_background(entry))))
        return replace(named, items=tuple(replace(item, name=name, image_path=image) for item in data.items))
    ignore = unlabelled_value(len(classes))
    stored = _unlabelled(folder / "classes.json", classes) if (folder / "classes.json").is_file() else ignore
    ids = IdTable({**{index: index for index in range(len(classes))}, stored: ignore})
    return Dataset(name, folder, classes, (LabelledImage(name, image, PngLabels(file, ids)),), ignore)


def _segmented_image(folder: Path, name: str, root: Path | None) -> Path:
    """The image of a result: below `root`, or else where it was when it was segmented, seen from the current folder."""
    if root is not None:
        return find_image(root, name)
    return Path(name) if is_file(Path(name)) else find_image(folder.parent, name)


def _unlabelled(path: Path, classes: Sequence[PromptClass]) -> int:
    """The stored value of a pixel of no class, from a classes.json, whose names are those of run.json."""
    with expect_layout(path, "the classes of run.json, and unlabelled, a value from 0 to 65535 that is no class"):
        document = read_document(path)
        if [row["name"] for row in document["classes"]] != [entry.name for entry in classes]:
            raise ValueError("other names")
        value = document["unlabelled"]
        if type(value) is not int or not len(classes) <= value <= 65_535:
            raise ValueError(f"unlabelled {value!r:.40}")
        return value


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
