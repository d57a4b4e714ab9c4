"""Labelled images and the data sets that they make."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fgseg.datasets.labels import LabelSource, SelectedLabels
from fgseg.errors import DatasetError
from fgseg.images.reading import read_image
from fgseg.prompts.classes import PromptClass
from fgseg.prompts.words import same_key
from fgseg.types import unlabelled_value

__all__ = ["Dataset", "LabelledImage", "check_each_once"]


def check_each_once(expected: str, names: Sequence[str], advice: str = "rename one") -> None:
    """Refuse a name that occurs again; the message says what was expected and what to do."""
    for name, count in Counter(names).most_common(1):
        if count > 1:
            raise DatasetError(f"{expected}, got {name!r} {count} times; {advice}")


@dataclass(frozen=True)
class LabelledImage:
    """An image and its labels, which are read on demand.

    Attributes:
        name: its name, unique in its data set.
        image_path: the image file.
        source: the source of its labels.
    """

    name: str
    image_path: Path
    source: LabelSource

    @property
    def label_path(self) -> Path:
        """The file that holds the labels."""
        return self.source.path

    def read_image(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB, upright.

        Raises:
            ImageError: the file cannot be read.
        """
        return read_image(self.image_path)

    def read_labels(self) -> NDArray[np.int32]:
        """(H, W) int32: class indices 0 to C-1, and the data set's `ignore` at pixels that do not count.

        Raises:
            ImageError: the file cannot be read, or is no label map.
            DatasetError: it holds an id that is no class.
        """
        return self.source.read()


@dataclass(frozen=True)
class Dataset:
    """Images with one class per pixel.

    Attributes:
        name: its name in results.
        root: the folder of its files.
        classes: in label order.
        items: the images, in a fixed order. An empty folder has none, which `preflight` reports.
        ignore: label of the pixels that do not count; None if every pixel counts.
        has_background: whether class 0 means "none of the others".
        label_hint: how to make missing label files, for messages.
        full_size: number of images of the published set. For custom data the number before some were selected, or None.
        left_out: names of the classes that `select_classes` left out; their pixels do not count.
        annotation_faults: one line per row of an annotation file that cannot be used and is left out.
        notes: what else was made of an annotation file, one line each, such as boxes without a mask.
        annotations_left_out: number of annotations that label no pixel, for any of these reasons.

    Raises:
        DatasetError: no class, two classes or two images of one name, or an `ignore` that is a class.

    >>> data = Dataset("pets", Path("pets"), (PromptClass("cat", ("cat",)), PromptClass("dog", ("dog",))), ())
    >>> data.ignore, data.has_background
    (255, False)
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
    annotation_faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    annotations_left_out: int = 0

    def __post_init__(self) -> None:
        if not self.classes:
            raise DatasetError(f"{self.name}: expected at least one class, got none; add it to the class list")
        check_each_once(f"{self.name}: expected each class once", [entry.name for entry in self.classes])
        check_each_once(f"{self.name}: expected each image once", [item.name for item in self.items])
        if self.ignore is not None and 0 <= self.ignore < len(self.classes):
            raise DatasetError(
                f"{self.name}: expected an ignored label outside the classes 0 to {len(self.classes) - 1}, "
                f"got {self.ignore}"
            )

    def with_classes(self, classes: tuple[PromptClass, ...]) -> "Dataset":
        """The same images with other classes in the same order, for example with the words of a published list.

        Raises:
            DatasetError: the number of classes is another one.
        """
        if len(classes) != len(self.classes):
            background = ", the background first" if self.has_background else ""
            raise DatasetError(
                f"{self.name}: expected {len(self.classes)} classes in label order{background}, got {len(classes)}"
            )
        return replace(self, classes=classes)

    def select_classes(self, names: Sequence[str]) -> "Dataset":
        """The same images with some of the classes; pixels of the others are ignored.

        Args:
            names: class names or their query words, in any order; case does not matter. A query word that
                several classes share, and that is not a class name, stands for the first of them.

        Raises:
            DatasetError: no name, or a name of no class.

        >>> data = Dataset("pets", Path("pets"), (PromptClass("cat", ("cat",)), PromptClass("dog", ("dog",))), ())
        >>> [entry.name for entry in data.select_classes(["Dog"]).classes], data.select_classes(["Dog"]).left_out
        (['dog'], ('cat',))
        """
        classes = list(enumerate(self.classes))
        index_of = {same_key(word): i for i, entry in reversed(classes) for word in entry.synonyms}
        index_of |= {same_key(entry.name): i for i, entry in classes}  # a name goes before query words of other classes
        unknown = [name for name in names if same_key(name) not in index_of]
        if unknown or not names:
            known = ", ".join(entry.name for entry in self.classes)
            given = ", ".join(unknown) or "none"
            raise DatasetError(f"{self.name}: expected names of its classes, got {given}; it has {known:.400}")
        kept = sorted({index_of[same_key(name)] for name in names})
        ignore = unlabelled_value(len(kept))
        table = np.full(len(self.classes) + 1, ignore, np.int32)
        table[kept] = np.arange(len(kept))
        items = tuple(replace(item, source=SelectedLabels(item.source, table)) for item in self.items)
        return replace(
            self,
            classes=tuple(self.classes[index] for index in kept),
            items=items,
            ignore=ignore,
            has_background=self.has_background and kept[0] == 0,
            left_out=(*self.left_out, *(entry.name for index, entry in classes if index not in kept)),
        )
