"""Labelled images: what a data set is, and how the ids stored in its label files become class indices."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fgseg.datasets.labels import ChosenLabels, LabelSource
from fgseg.errors import DatasetError
from fgseg.images.reading import read_image
from fgseg.prompts.classes import PromptClass
from fgseg.prompts.words import same_key
from fgseg.types import unlabelled_value

__all__ = ["Dataset", "LabelledImage"]


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

    def read_image(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB, upright.

        Raises:
            ImageError: the file cannot be read.
        """
        return read_image(self.image_path)

    def read_labels(self) -> NDArray[np.int32]:
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

    def with_classes(self, classes: tuple[PromptClass, ...]) -> "Dataset":
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
        index_of = {same_key(word): i for i, entry in reversed(classes) for word in entry.synonyms}
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
