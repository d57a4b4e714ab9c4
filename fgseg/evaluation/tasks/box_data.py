"""Boxes with their classes or captions: the instance files of COCO and LVIS, and the files of FG-OVD.

FG-OVD (Bianchi et al., "The devil is in the fine-grained details", CVPR 2024) gives each box one true caption and ten
captions with wrong attributes. Its four files, as FG-CLIP's repository has them, hold one JSON object per line with
`img_path`, `bbox` (x, y, width, height), `pos_expression` and `neg_expression`.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar

from fgseg._files.names import one_line
from fgseg.datasets.annotations import (
    CocoRow,
    CocoRows,
    UnusableError,
    fault_lines,
    is_number,
    kept_rows,
    read_coco,
)
from fgseg.datasets.documents import check_file_name, expect_layout, find_image, read_document, read_text
from fgseg.errors import DatasetError
from fgseg.evaluation.tasks.image_list import ImageList, ListedImage, images_folder
from fgseg.images.reading import MAX_PIXELS
from fgseg.prompts.classes import PromptClass

__all__ = ["DIFFICULTIES", "BoxImage", "BoxSet", "Phrased", "open_boxes"]

BoxXyxy = tuple[float, float, float, float]
DIFFICULTIES = ("hard", "medium", "easy", "trivial")
_DIFFICULTY_OF_FILE = {"1_attributes": "hard", "2_attributes": "medium", "3_attributes": "easy", "shuffle": "trivial"}


@dataclass(frozen=True)
class Phrased:
    """The captions of a box, the true one first; `group` is the difficulty. Hashes of data contain its repr."""

    group: str
    texts: tuple[str, ...]


CaptionedBox = tuple[str, BoxXyxy, Phrased]  # name of the image, box and captions


@dataclass(frozen=True)
class BoxImage(ListedImage):
    """An image and its boxes.

    Attributes:
        name: name of the image, unique in its set.
        path: the image file.
        boxes_xyxy: (left, top, right, bottom) in pixels, not yet clipped to the image.
        answers: for each box the index of its class, or its captions.
    """

    boxes_xyxy: tuple[BoxXyxy, ...]
    answers: tuple[int | Phrased, ...]


@dataclass(frozen=True)
class BoxSet(ImageList):
    """Images with boxes; attributes as `ImageList`.

    Attributes:
        classes: the classes; empty if every box has captions.
        annotation_faults: one line per row of the file that cannot be used and is left out.
        skipped: number of annotations that are left out, by the reason.
    """

    annotations: ClassVar[str] = "boxes"

    images: tuple[BoxImage, ...]
    classes: tuple[PromptClass, ...] = ()
    annotation_faults: tuple[str, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)

    def faults(self) -> tuple[str, ...]:
        """The faults of the file and of the image files, one line per fault."""
        return (*self.annotation_faults, *super().faults())


def open_boxes(path: Path, root: Path | None) -> BoxSet:
    """Boxes from an instance file of COCO or LVIS, a file of FG-OVD, or a folder of FG-OVD files.

    Args:
        path: `.json` (instances, or FG-OVD rows with `difficulty`), `.jsonl`, or a folder with such files.
        root: folder of the images; None takes `images` beside the file if it exists, or else the folder of the file.

    Raises:
        DatasetError: a file cannot be read or has another format.
    """
    if path.is_dir():
        visible = sorted(file for file in path.iterdir() if not file.name.startswith("."))
        by_suffix = {kind: [file for file in visible if file.suffix.lower() == kind] for kind in (".jsonl", ".json")}
        files = by_suffix[".jsonl"] or by_suffix[".json"]
        if not files or (not by_suffix[".jsonl"] and len(files) > 1):
            raise DatasetError(
                f"{one_line(path)}: expected FG-OVD's .jsonl files or one .json, got {len(files)} .json files; name one"
            )
        images = images_folder(root, path)
    else:
        files, images = [path], images_folder(root, path.parent)
    with expect_layout(path, "COCO's instances or FG-OVD's rows"):
        if files[0].suffix.lower() == ".jsonl":
            return _with_captions(path.stem, images, chain.from_iterable(map(_lines, files)))
        document = read_document(files[0])
        if "rows" not in document:
            return _with_classes(files[0], images)
        keys = ("id", "bbox_xywh", "difficulty", "positive", "negatives")
        boxes = [_captioned_box(*(row[key] for key in keys)) for row in document["rows"]]
        return _with_captions(files[0].stem, images, boxes)


def _with_classes(path: Path, folder: Path) -> BoxSet:
    rows = read_coco(path)
    images, faults, crowds = [], list(rows.faults), 0
    for row in rows.images:
        found, more = kept_rows(rows.annotations.get(row.key, ()), lambda one: _class_box(rows, one))
        boxes = [box for box in found if box is not None]
        crowds += len(found) - len(boxes)
        faults += more
        if boxes:
            corners, answers = zip(*boxes, strict=True)
            images.append(BoxImage(row.key, find_image(folder, row.values["file_name"]), corners, answers))
    skipped = {"crowds": crowds, "faults": len(faults)}
    lines = fault_lines(path, faults)
    return BoxSet(path.stem, folder, tuple(images), classes=rows.classes, annotation_faults=lines, skipped=skipped)


def _class_box(rows: CocoRows, row: CocoRow) -> tuple[BoxXyxy, int] | None:
    """The box and the class index of an annotation; None for a crowd, which is several objects."""
    is_crowd, box, index = row.values.get("iscrowd"), row.values.get("bbox"), rows.category(row.values)
    if is_crowd not in (None, 0, 1):
        raise UnusableError("an iscrowd of 0 or 1", is_crowd)
    if is_crowd:
        return None
    # no side of an image is longer than MAX_PIXELS
    if not (isinstance(box, list) and len(box) == 4 and all(is_number(x) and abs(x) <= MAX_PIXELS for x in box)):
        raise UnusableError("a bbox of four numbers, x, y, width and height", box)
    return _xyxy(box), index


def _lines(path: Path) -> Iterator[CaptionedBox]:
    group = next((group for word, group in _DIFFICULTY_OF_FILE.items() if word in path.stem), path.stem)
    # splitlines would also split at U+2028 and U+0085, which JSON allows inside a string. CRLF was read as LF.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            with expect_layout(f"{path}, line {number}", "img_path, bbox, pos_expression and neg_expression"):
                row = json.loads(line)
                captions = row["pos_expression"], row["neg_expression"]
                yield _captioned_box(row["img_path"], row["bbox"], group, *captions)


def _captioned_box(image: Any, box_xywh: Any, group: Any, true: Any, false: Any) -> CaptionedBox:
    """A box with its first true caption and its false ones."""
    texts = [*_listed(true)[:1], *_listed(false)]
    if not _listed(true) or len(texts) < 2 or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(
            f"a box needs a true caption and at least one false caption, got {true!r:.80} and {false!r:.80}"
        )
    return check_file_name(str(image)), _xyxy(box_xywh), Phrased(str(group), tuple(texts))


def _with_captions(name: str, folder: Path, boxes: Iterable[CaptionedBox]) -> BoxSet:
    grouped: dict[str, list[tuple[BoxXyxy, Phrased]]] = defaultdict(list)
    for image, box, captions in boxes:
        grouped[image].append((box, captions))
    images = [
        BoxImage(image, find_image(folder, image), tuple(box for box, _ in group), tuple(own for _, own in group))
        for image, group in grouped.items()
    ]
    return BoxSet(name, folder, tuple(images))


def _listed(value: Any) -> list[Any]:
    return [value] if isinstance(value, str) else list(value)


def _xyxy(box_xywh: Sequence[float]) -> BoxXyxy:
    left, top, width, height = (float(value) for value in box_xywh)
    if not all(map(isfinite, (left, top, width, height))):
        raise ValueError(f"a box of four numbers, got {box_xywh!r:.60}")
    return left, top, left + width, top + height
