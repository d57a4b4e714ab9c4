"""The rows of COCO's annotation files, checked once, before anything is computed from them.

A row that cannot be used is left out and becomes a fault, which names the file, the annotation and the image. Ids are
whole numbers or texts; 7, 7.0 and "7" are the same id.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from reprlib import Repr
from typing import Any, NamedTuple, TypeVar

from fgseg._files.names import one_line
from fgseg.datasets.documents import check_file_name, read_document, same_name
from fgseg.errors import DatasetError, PromptError
from fgseg.prompts.classes import PromptClass
from fgseg.prompts.words import strip_word

__all__ = [
    "CocoRow",
    "CocoRows",
    "Fault",
    "UnusableError",
    "fault_lines",
    "is_number",
    "kept_rows",
    "read_coco",
    "short_text",
    "whole_number",
]

T = TypeVar("T")

_LISTS = ("images", "annotations", "categories")
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_LARGEST_ID = 10**300  # above 1e308 a whole number and a float cannot be compared

_short = Repr()
_short.maxstring = _short.maxother = _short.maxlong = 50
_short.maxlist = _short.maxdict = _short.maxlevel = 4


class UnusableError(ValueError):
    """A value of a row that cannot be used; it becomes a `Fault`.

    Attributes:
        expected: what was expected. Faults are counted by this text.
        got: what was there, as a short text.
    """

    def __init__(self, expected: str, got: Any, note: str = "") -> None:
        """Describe `got`; `note` says what is wrong with it."""
        super().__init__(expected)
        self.expected = expected
        self.got = short_text(got) + (f" ({note})" if note else "")


class Fault(NamedTuple):
    """A row that is left out: its place in the file, what was expected and what was there."""

    place: str
    expected: str
    got: str


class CocoRow(NamedTuple):
    """An image or an annotation.

    Attributes:
        place: the row in messages, such as "annotation 2 of image 'a.jpg'".
        key: the id of the image as text; the same for the image and its annotations.
        values: the row itself. An image has a `file_name`.
    """

    place: str
    key: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class CocoRows:
    """The rows of a file that can be used.

    Attributes:
        path: the file.
        classes: one class for each category that can be used, in the order of the ids; "_" in a name is a space in the
            query word.
        index_of: id of a category as text -> its index in `classes`.
        images: the images, each once.
        annotations: id of an image as text -> its annotations, in the order of the file.
        faults: the categories, images and annotations that are left out.
        total: number of annotations in the file.
    """

    path: Path
    classes: tuple[PromptClass, ...]
    index_of: Mapping[str, int]
    images: tuple[CocoRow, ...]
    annotations: Mapping[str, Sequence[CocoRow]]
    faults: tuple[Fault, ...]
    total: int

    def category(self, row: Mapping[str, Any]) -> int:
        """The class index of an annotation or a segment.

        Raises:
            UnusableError: the file has no such category, or it cannot be used.
        """
        value = row.get("category_id")
        if _identity(value) not in self.index_of:
            raise UnusableError("the id of a category that can be used", value)
        return self.index_of[_identity(value)]


def read_coco(path: Path) -> CocoRows:
    """The images, categories and annotations of a file in COCO's layout.

    Raises:
        DatasetError: the file cannot be read, has another layout, or has no category with an id and a name.
    """
    document = read_document(path)
    wrong = [name for name in _LISTS if not isinstance(document.get(name), list)]
    if wrong:
        raise DatasetError(
            f"{one_line(path)}: expected COCO's layout with lists of images, annotations and categories, "
            f"got no list of {' and '.join(wrong)}"
        )
    images, annotations, categories = (document[name] for name in _LISTS)
    classes, index_of, faults_of_categories = _classes(path, categories)
    found, faults = kept_rows(_numbered("image", images), _image)
    first, more = _each_once(found)
    sound, faults_of_annotations = kept_rows(_annotations(annotations, first), _of_known_image)
    by_image: dict[str, list[CocoRow]] = defaultdict(list)
    for row in sound:
        by_image[row.key].append(row)
    unique = tuple({id(row): row for row in first.values()}.values())
    all_faults = (*faults_of_categories, *faults, *more, *faults_of_annotations)
    return CocoRows(path, classes, index_of, unique, by_image, all_faults, len(annotations))


def kept_rows(rows: Iterable[CocoRow], use: Callable[[CocoRow], T]) -> tuple[list[T], list[Fault]]:
    """What `use` makes of each row, and the faults of the rows that it refuses with an UnusableError."""
    kept, faults = [], []
    for row in rows:
        try:
            kept.append(use(row))
        except UnusableError as error:
            faults.append(Fault(row.place, error.expected, error.got))
    return kept, faults


def fault_lines(path: Path, faults: Sequence[Fault]) -> tuple[str, ...]:
    """One line for each fault; before several of them, a line that counts them by what was expected.

    >>> faults = [Fault("annotation 2 of image 'a.jpg'", "an id", "None"), Fault("annotation 5", "an id", "[]")]
    >>> for line in fault_lines(Path("c.json"), faults):
    ...     print(line)
    c.json: 2 rows are left out: 2 where an id was expected
    c.json: annotation 2 of image 'a.jpg': expected an id, got None; it is left out
    c.json: annotation 5: expected an id, got []; it is left out
    """
    name = one_line(path)
    lines = [f"{name}: {place}: expected {expected}, got {got}; it is left out" for place, expected, got in faults]
    if len(lines) < 2:
        return tuple(lines)
    counts = Counter(fault.expected for fault in faults).most_common()
    reasons = ", ".join(f"{count} where {expected} was expected" for expected, count in counts)
    return (f"{name}: {len(lines)} rows are left out: {reasons}", *lines)


def short_text(value: Any) -> str:
    """A JSON value in one short line; `repr` would write all of a list of a million corners, to be cut afterwards.

    >>> short_text([[1, 2], *range(1_000_000)])
    '[[1, 2], 0, 1, 2, ...]'
    """
    return one_line(_short.repr(value))


def is_number(value: Any) -> bool:
    """Whether a JSON value is a number; true and false are not."""
    return type(value) in (int, float)


def whole_number(value: Any, low: int, high: int, expected: str) -> int:
    """The whole number from `low` to `high` that a JSON value is, such as 7 or 7.0.

    Raises:
        UnusableError: it is something else; `expected` says what should be there.
    """
    if not (is_number(value) and low <= value <= high and value == int(value)):
        raise UnusableError(expected, value)
    return int(value)


def _identity(value: Any) -> str:
    if isinstance(value, str) and value.strip():
        return str(int(value)) if _WHOLE.fullmatch(value) else value
    return str(whole_number(value, -_LARGEST_ID, _LARGEST_ID, "an id that is a whole number or a text"))


def _numbered(kind: str, rows: Sequence[Any]) -> Iterable[CocoRow]:
    """Rows that are not checked yet; a row is called by its number until its id is known."""
    for number, row in enumerate(rows, start=1):
        named = isinstance(row, dict) and "id" in row
        yield CocoRow(f"{kind} {short_text(row['id'])}" if named else f"{kind} number {number}", "", row)


def _image(row: CocoRow) -> CocoRow:
    values = _mapping(row.values)
    key = _identity(values.get("id"))
    name = values.get("file_name")
    if name is None and isinstance(values.get("coco_url"), str):  # LVIS has no file names
        name = "/".join(values["coco_url"].split("/")[-2:])
    try:
        name = check_file_name(name)
    except ValueError as error:
        raise UnusableError("a file_name", name, one_line(error)[:60]) from error
    return CocoRow(f"image {short_text(name)}", key, {**values, "file_name": name})


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UnusableError("a JSON object", value)
    return value


def _each_once(images: Sequence[CocoRow]) -> tuple[dict[str, CocoRow], list[Fault]]:
    """The image of each id, and the faults of repeated ones; the ids of one file have the same image, the first."""
    of_key: dict[str, CocoRow] = {}
    of_file: dict[str, CocoRow] = {}
    faults = []
    for row in images:
        if row.key in of_key:
            faults.append(Fault(row.place, "each image id once", f"id {row.key} again"))
            continue
        name = same_name(Path(row.values["file_name"]).as_posix())
        if name in of_file:
            faults.append(Fault(row.place, "each image file once", f"ids {of_file[name].key} and {row.key}"))
        of_key[row.key] = of_file.setdefault(name, row)
    return of_key, faults


def _annotations(rows: Sequence[Any], images: Mapping[str, CocoRow]) -> Iterable[CocoRow]:
    """The annotations with the key of their image, which is empty if the file has no such image."""
    for place, _, values in _numbered("annotation", rows):
        image = None
        if isinstance(values, dict):
            with suppress(UnusableError):
                image = images.get(_identity(values.get("image_id")))
        yield CocoRow(place, "", values) if image is None else CocoRow(f"{place} of {image.place}", image.key, values)


def _of_known_image(row: CocoRow) -> CocoRow:
    if not row.key:
        raise UnusableError("the id of an image that can be used", _mapping(row.values).get("image_id"))
    return row


def _classes(path: Path, categories: Sequence[Any]) -> tuple[tuple[PromptClass, ...], dict[str, int], list[Fault]]:
    """The classes in the order of their ids, the index of each id, and faults; categories of one name are one class.

    Of categories with one id none is used, because nobody knows which an annotation means.
    """
    found, faults = kept_rows(_numbered("category", categories), _category)
    counts = Counter(key for key, _ in found)
    faults += [Fault(f"category {key}", "each category id once", "it again") for key in counts if counts[key] > 1]
    rows = [row for row in found if counts[row[0]] == 1]
    if faults and not rows:
        place, expected, got = faults[0]
        raise DatasetError(f"{one_line(path)}: {place}: expected {expected}, got {got}; correct the list of categories")
    rows.sort(key=lambda row: (0, int(row[0]), "") if _WHOLE.fullmatch(row[0]) else (1, 0, row[0]))
    classes = {entry.name: entry for _, entry in rows}
    number_of = {name: number for number, name in enumerate(classes)}
    return tuple(classes.values()), {key: number_of[entry.name] for key, entry in rows}, faults


def _category(row: CocoRow) -> tuple[str, PromptClass]:
    """The id and the class of a category."""
    values = _mapping(row.values)
    name = values.get("name")
    try:
        stripped = strip_word("name", name)
        words = " ".join(stripped.replace("_", " ").split()) or stripped
        return _identity(values.get("id")), PromptClass(stripped, (words,))
    except PromptError as error:
        raise UnusableError("a name in one line of text", name) from error
