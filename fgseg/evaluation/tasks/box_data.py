"""Boxes with their classes or phrases: COCO's and LVIS's instance files, and FG-OVD's.

FG-OVD (Bianchi et al., "The devil is in the fine-grained details", CVPR 2024): a box, one true caption and ten whose
attributes are wrong. Its four files, as FG-CLIP's repository has them, hold a JSON object a line with `img_path`,
`bbox` (x, y, width, height), `pos_expression` and `neg_expression`.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fgseg._files import one_line, reason
from fgseg.datasets.documents import read_document
from fgseg.errors import DatasetError
from fgseg.images.find import IMAGE_SUFFIXES
from fgseg.prompts.classes import PromptClass

__all__ = ["DIFFICULTIES", "BoxImage", "BoxSet", "Phrased", "check_distinct", "open_boxes"]

Row = Mapping[str, Any]
DIFFICULTIES = ("hard", "medium", "easy", "trivial")
_FILE_WORDS = {"1_attributes": "hard", "2_attributes": "medium", "3_attributes": "easy", "shuffle": "trivial"}


@dataclass(frozen=True)
class Phrased:
    """A box's captions: the true one first; `group` is the difficulty."""

    group: str
    texts: tuple[str, ...]


@dataclass(frozen=True)
class BoxImage:
    """An image and its boxes.

    Attributes:
        name: unique in its set.
        path: the image file.
        boxes_xyxy: (left, top, right, bottom) in pixels, not yet cut at the image's border.
        answers: per box the index of its class, or its captions.
    """

    name: str
    path: Path
    boxes_xyxy: tuple[tuple[float, float, float, float], ...]
    answers: tuple[int | Phrased, ...]


@dataclass(frozen=True)
class BoxSet:
    """Images with boxes.

    Attributes:
        name: of the set.
        root: folder of the images.
        classes: empty where every box has captions of its own.
        images: those to measure.
        full_size: how many there were before some were taken; None for all.
    """

    name: str
    root: Path
    classes: tuple[PromptClass, ...]
    images: tuple[BoxImage, ...]
    full_size: int | None = None

    def __post_init__(self) -> None:
        check_distinct(self.name, [image.name for image in self.images])


def check_distinct(where: str, names: Sequence[str]) -> None:
    """Refuse two images of one name, which would become one row.

    Raises:
        DatasetError: a name twice.
    """
    name, count = Counter(names).most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise DatasetError(f"{where}: expected each image once, got {name!r} {count} times; give them ids of their own")


def open_boxes(path: Path, root: Path | None) -> BoxSet:
    """Boxes from a COCO or LVIS instance file, an FG-OVD file, or a folder of FG-OVD files.

    Args:
        path: `.json` (instances, or FG-OVD rows with `difficulty`), `.jsonl`, or a folder with such.
        root: folder of the images; None looks for `images` beside the file, else its own folder.

    Raises:
        DatasetError: a file that cannot be read or has another form.
    """
    if path.is_dir():
        files = sorted(path.glob("*.jsonl")) or sorted(path.glob("*.json"))
        if not files or (files[0].suffix == ".json" and len(files) > 1):
            raise DatasetError(
                f"{one_line(path)}: expected FG-OVD's .jsonl files or one .json, got {len(files)} .json files; name one"
            )
        folder = path
    else:
        files, folder = [path], path.parent
    images = root or (folder / "images" if (folder / "images").is_dir() else folder)
    try:
        if files[0].suffix == ".jsonl":
            return _phrased(path.stem, images, [row for file in files for row in _lines(file)])
        document = read_document(files[0])
        if "rows" in document:
            return _phrased(files[0].stem, images, [_plain(row) for row in document["rows"]])
        return _classed(files[0].stem, images, document)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(
            f"{one_line(path)}: neither COCO's instances nor FG-OVD's rows ({type(error).__name__}: {one_line(error)})"
        ) from error


def _classed(name: str, folder: Path, document: Row) -> BoxSet:
    categories = sorted(document["categories"], key=lambda row: int(row["id"]))
    index_of = {int(row["id"]): index for index, row in enumerate(categories)}
    boxes: dict[Any, list[tuple[list[float], int]]] = defaultdict(list)
    for row in document["annotations"]:
        if not row.get("iscrowd", 0):
            boxes[row["image_id"]].append((row["bbox"], index_of[int(row["category_id"])]))
    images = [
        BoxImage(
            str(row["id"]),
            _found(folder, str(row.get("file_name") or "/".join(row["coco_url"].split("/")[-2:]))),
            tuple(_xyxy(box) for box, _ in boxes[row["id"]]),
            tuple(index for _, index in boxes[row["id"]]),
        )
        for row in document["images"]
        if boxes[row["id"]]
    ]
    classes = tuple(PromptClass(row["name"], (" ".join(row["name"].replace("_", " ").split()),)) for row in categories)
    return BoxSet(name, folder, classes, tuple(images))


def _lines(path: Path) -> Iterable[Row]:
    group = next((word for part, word in _FILE_WORDS.items() if part in path.stem), path.stem)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DatasetError(f"{one_line(path)}: cannot be read ({reason(error)})") from error
    # Not splitlines: it also cuts at U+2028 and U+0085, which JSON allows inside a string. CRLF was read as LF.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                row = json.loads(line)
                texts = _captions(row["pos_expression"], row["neg_expression"])
                yield {"group": group, "image": row["img_path"], "box": row["bbox"], "texts": texts}
            except (ValueError, KeyError, TypeError) as error:
                raise DatasetError(
                    f"{one_line(path)}, line {number}: expected img_path, bbox, pos_expression and neg_expression "
                    f"({type(error).__name__}: {one_line(error)})"
                ) from error


def _plain(row: Row) -> Row:
    texts = _captions(row["positive"], row["negatives"])
    return {"group": row["difficulty"], "image": str(row["id"]), "box": row["bbox_xywh"], "texts": texts}


def _phrased(name: str, folder: Path, rows: Sequence[Row]) -> BoxSet:
    grouped: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        grouped[str(row["image"])].append(row)
    images = [
        BoxImage(
            image,
            _found(folder, image),
            tuple(_xyxy(row["box"]) for row in mine),
            tuple(Phrased(str(row["group"]), tuple(row["texts"])) for row in mine),
        )
        for image, mine in grouped.items()
    ]
    return BoxSet(name, folder, (), tuple(images))


def _captions(true: Any, false: Any) -> list[str]:
    """The first true one, then the false ones."""
    texts = [*_listed(true)[:1], *_listed(false)]
    if not _listed(true) or len(texts) < 2 or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(f"a box needs a true caption and a false one at least, got {true!r:.80} and {false!r:.80}")
    return texts


def _listed(value: Any) -> list[Any]:
    return [value] if isinstance(value, str) else list(value)


def _xyxy(box_xywh: Sequence[float]) -> tuple[float, float, float, float]:
    left, top, width, height = (float(value) for value in box_xywh)
    return left, top, left + width, top + height


def _found(folder: Path, name: str) -> Path:
    """Where the image lies: as named, without the folders of its name, or with an ending where it has none."""
    candidates = [folder / name, folder / Path(name).name]
    if Path(name).suffix.lower() not in IMAGE_SUFFIXES:
        candidates += [folder / (name + suffix) for suffix in (".jpg", ".png")]
    return next((path for path in candidates if path.is_file()), candidates[0])
