"""Labelled images: what a data set is, and how the ids stored in its label files become class indices."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fgseg._files import one_line
from fgseg.errors import DatasetError
from fgseg.images.headers import Header, read_header
from fgseg.images.label_png import read_label_png
from fgseg.images.reading import read_image
from fgseg.prompts.classes import PromptClass
from fgseg.prompts.words import same_key
from fgseg.types import UNLABELLED, unlabelled_value

__all__ = [
    "ChosenLabels",
    "Dataset",
    "IdTable",
    "LabelSource",
    "LabelledImage",
    "PngLabels",
    "image_hw_of",
    "ranges",
]

_STORED_VALUES = 65_536  # a PNG holds 16 bits at most
_NOT_A_CLASS = -1


class IdTable:
    """Which class index each stored id stands for.

    >>> IdTable({0: 255, 1: 0, 7: 1}).decode(np.array([[7, 0, 1]]), "a.png")
    array([[  1, 255,   0]], dtype=int32)
    """

    def __init__(self, index_of: Mapping[int, int]) -> None:
        """Keep `index_of`: stored id (0 to 65535) -> class index or ignored label."""
        self.index_of = dict(index_of)
        self._index = np.full(_STORED_VALUES, _NOT_A_CLASS, np.int32)
        self._index[list(self.index_of)] = list(self.index_of.values())

    @cached_property
    def text(self) -> str:
        """The table in one line."""
        return str(sorted(self.index_of.items()))

    def decode(self, stored: NDArray[np.integer], name: str) -> NDArray[np.int32]:
        """Class indices of stored ids, both (H, W).

        Raises:
            DatasetError: an id that is not in the table; `name` is the file, for the message.
        """
        labels: NDArray[np.int32] = self._index[stored]
        unknown = labels == _NOT_A_CLASS
        if unknown.any():
            raise DatasetError(f"{name}: {self._complaint(stored, stored[unknown])}")
        return labels

    def _complaint(self, stored: NDArray[np.integer], unknown: NDArray[np.integer]) -> str:
        ids, counts = np.unique(unknown, return_counts=True)
        found = f"{ranges(ids.tolist())} at {counts.sum()} of {stored.size} pixels"
        if ids.tolist() == [255] and not np.any((stored != 0) & (stored != 255)):
            return (
                f"expected ids {ranges(self.index_of)}, got {found} and 0 elsewhere, as a 0/255 mask has it; "
                "for masks, name their folder masks instead of labels"
            )
        return f"expected ids {ranges(self.index_of)}, got {found}; check the class list and the kind of label file"


class LabelSource(Protocol):
    """Where the labels of one image come from."""

    @property
    def path(self) -> Path:
        """The file that must be there."""

    def image_hw(self) -> tuple[int, int]:
        """(height, width) without reading the pixels. Raises FgsegError where it is not a label file."""

    def read(self) -> NDArray[np.int32]:
        """(H, W) class indices and ignored labels. Raises FgsegError where that cannot be had."""

    def meaning(self) -> str:
        """What, beside the file, decides the labels: another text where the same file would give other ones."""


@dataclass(frozen=True)
class PngLabels:
    """A label map in a PNG: palette indices or grey levels, 1 to 16 bits."""

    path: Path
    ids: IdTable

    def meaning(self) -> str:
        """Which class each stored id is."""
        return self.ids.text

    def image_hw(self) -> tuple[int, int]:
        """(height, width) from the header; a file with colours is refused."""
        return self._header().image_hw

    def read(self) -> NDArray[np.int32]:
        """Read and decode."""
        # read_label_png turns the highest value into UNLABELLED; here the table decides what it means.
        highest = 65_535 if self._header().bit_depth == 16 else 255
        stored = read_label_png(self.path)
        return self.ids.decode(np.where(stored == UNLABELLED, highest, stored), one_line(self.path))

    def _header(self) -> Header:
        if not self.path.is_file():
            raise DatasetError(f"{one_line(self.path)}: there is no such label file")
        header = read_header(self.path)
        if header is None or header.kind != "PNG":
            raise DatasetError(f"{one_line(self.path)}: {_not_a_png(header is not None)}")
        if header.color == "color":
            raise DatasetError(
                f"{one_line(self.path)}: this PNG holds colours (RGB), not class ids, as a palette PNG does after it "
                "was converted; write the palette's indices (one channel, mode P or L), not its colours"
            )
        return header


@dataclass(frozen=True)
class ChosenLabels:
    """The labels of another source with only some of its classes, the others set apart.

    Attributes:
        source: where the labels come from.
        index_of: (C + 1,) new label of each class of the source, and last that of its ignored pixels.
    """

    source: LabelSource
    index_of: NDArray[np.int32]

    @property
    def path(self) -> Path:
        """The source's file."""
        return self.source.path

    def meaning(self) -> str:
        """The source's, and which of its classes are kept."""
        return f"{self.source.meaning()} {self.index_of.tolist()}"

    def image_hw(self) -> tuple[int, int]:
        """(height, width) without reading the pixels."""
        return self.source.image_hw()

    def read(self) -> NDArray[np.int32]:
        """Read and choose."""
        labels = self.source.read()
        return self.index_of[np.minimum(labels, len(self.index_of) - 1)]


@dataclass(frozen=True)
class LabelledImage:
    """One image and its labels, read when asked.

    Attributes:
        name: unique in its data set.
        image_path: the image file.
        source: where its labels come from.
    """

    name: str
    image_path: Path
    source: LabelSource

    @property
    def label_path(self) -> Path:
        """The file that holds the labels."""
        return self.source.path

    def image(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB, upright.

        Raises:
            ImageError: the file cannot be read.
        """
        return read_image(self.image_path)

    def labels(self) -> NDArray[np.int32]:
        """(H, W) int32: class indices 0 to C-1, and the data set's `ignore` where a pixel does not count.

        Raises:
            ImageError: the file cannot be read.
            DatasetError: it holds colours, or an id that is no class.
        """
        return self.source.read()


@dataclass(frozen=True)
class Dataset:
    """Images with one class a pixel.

    Attributes:
        name: what results call it.
        root: the folder its files are in.
        classes: in label order; `prompts` of each are its query words.
        items: the images, in a fixed order; none where the folder is empty (`preflight` says so).
        ignore: label of pixels that do not count; None where every pixel counts.
        has_background: whether class 0 is "none of the others".
        label_hint: how missing label files are made, for messages.
        full_size: number of images of the published set; of one's own, None or how many it had before some were taken.
        left_out: names of classes whose pixels do not count, where `only` left some out.

    Raises:
        DatasetError: no class, two classes or images of one name, or an `ignore` that is a class.

    >>> data = Dataset("pets", Path("pets"), (PromptClass("cat", ("cat",)), PromptClass("dog", ("dog",))), ())
    >>> data.ignore, data.source_hash[:8]
    (255, 'e3b0c442')
    """

    name: str
    root: Path
    classes: tuple[PromptClass, ...]
    items: tuple[LabelledImage, ...]
    ignore: int | None = 255
    has_background: bool = False
    label_hint: str = ""
    full_size: int | None = None
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.classes:
            raise DatasetError(f"{self.name}: expected at least one class, got none; add it to the class list")
        for kind, names in (
            ("class", [entry.name for entry in self.classes]),
            ("image", [item.name for item in self.items]),
        ):
            name, count = Counter(names).most_common(1)[0] if names else ("", 0)
            if count > 1:
                raise DatasetError(f"{self.name}: expected each {kind} once, got {name!r} {count} times; rename one")
        if self.ignore is not None and 0 <= self.ignore < len(self.classes):
            raise DatasetError(
                f"{self.name}: expected an ignored label outside the classes 0 to {len(self.classes) - 1}, "
                f"got {self.ignore}"
            )

    @property
    def source_hash(self) -> str:
        """SHA-256 over the sorted relative paths of all images and label files: which files, not what is in them."""
        files = {path for item in self.items for path in (item.image_path, item.label_path)}
        names = sorted(_relative(path, self.root) for path in files)
        return hashlib.sha256("\n".join(names).encode("utf-8", errors="surrogateescape")).hexdigest()

    def with_prompts(self, classes: tuple[PromptClass, ...]) -> "Dataset":
        """The same images with other classes in the same order, such as a published list's words.

        Raises:
            DatasetError: another number of classes.
        """
        if len(classes) != len(self.classes):
            background = ", the background first" if self.has_background else ""
            raise DatasetError(
                f"{self.name}: expected {len(self.classes)} classes in label order{background}, got {len(classes)}"
            )
        return replace(self, classes=classes)

    def only(self, names: Sequence[str]) -> "Dataset":
        """The same images with some of the classes; pixels of the others are ignored.

        Args:
            names: class names, or query words of theirs, in any order; case does not matter. A word that is no
                class's name and of several is the first one's.

        Raises:
            DatasetError: no name, or one that is no class's.

        >>> data = Dataset("pets", Path("pets"), (PromptClass("cat", ("cat",)), PromptClass("dog", ("dog",))), ())
        >>> [entry.name for entry in data.only(["Dog"]).classes], data.only(["Dog"]).left_out
        (['dog'], ('cat',))
        """
        classes = list(enumerate(self.classes))
        index_of = {same_key(word): i for i, entry in reversed(classes) for word in entry.prompts}
        index_of |= {same_key(entry.name): i for i, entry in classes}  # a name is its own class's, whoever's word it is
        unknown = [name for name in names if same_key(name) not in index_of]
        if unknown or not names:
            known = ", ".join(entry.name for entry in self.classes)
            asked = ", ".join(unknown) or "none"
            raise DatasetError(f"{self.name}: expected names of its classes, got {asked}; it has {known:.400}")
        kept = sorted({index_of[same_key(name)] for name in names})
        ignore = unlabelled_value(len(kept))
        table = np.full(len(self.classes) + 1, ignore, np.int32)
        table[kept] = np.arange(len(kept))
        items = tuple(replace(item, source=ChosenLabels(item.source, table)) for item in self.items)
        chosen = tuple(self.classes[index] for index in kept)
        has_background = self.has_background and kept[0] == 0
        left_out = tuple(entry.name for index, entry in classes if index not in kept)
        return replace(
            self, classes=chosen, items=items, ignore=ignore, has_background=has_background,
            left_out=(*self.left_out, *left_out),
        )  # fmt: skip


def image_hw_of(path: Path) -> tuple[int, int]:
    """(height, width) of an image, upright: from its header where that can be had quickly.

    Raises:
        ImageError: the file cannot be read.
    """
    header = read_header(path)
    if header is not None:
        return header.image_hw
    height, width, _ = read_image(path).shape
    return height, width


def ranges(values: Mapping[int, int] | list[int]) -> str:
    """Whole numbers, consecutive ones as a range.

    >>> ranges([255, 0, 1, 2, 7])
    '0-2, 7, 255'
    """
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][-1] + 1:
            runs[-1][1:] = [value]
        else:
            runs.append([value])
    return ", ".join("-".join(str(end) for end in run) for run in runs)


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def _not_a_png(is_picture: bool) -> str:
    if is_picture:
        return "expected a PNG, got a JPEG, whose lossy pixels do not hold class ids; make the labels again as PNG"
    return "not a PNG that can be read; it is damaged or another kind of file, copy or make it again"
