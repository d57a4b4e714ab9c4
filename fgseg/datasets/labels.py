"""Label files, and which class each of their stored values is."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fgseg._files.names import one_line
from fgseg.errors import DatasetError
from fgseg.images.label_png import label_png_hw, read_stored_values

__all__ = ["IdTable", "LabelSource", "PngLabels", "SelectedLabels"]

_STORED_VALUES = 65_536  # a PNG holds at most 16 bits
_NOT_A_CLASS = -1


class IdTable:
    """The class index of each stored id.

    >>> IdTable({0: 255, 1: 0, 7: 1}).decode(np.array([[7, 0, 1]]), "a.png")
    array([[  1, 255,   0]], dtype=int32)
    """

    def __init__(self, index_of: Mapping[int, int]) -> None:
        """Take `index_of`: stored id (0 to 65535) -> class index or ignored label."""
        self.index_of = dict(index_of)
        self._index = np.full(_STORED_VALUES, _NOT_A_CLASS, np.int32)
        self._index[list(self.index_of)] = list(self.index_of.values())

    @cached_property
    def text(self) -> str:
        """The table as text, in one line."""
        return str(sorted(self.index_of.items()))

    def decode(self, stored: NDArray[np.integer], name: str) -> NDArray[np.int32]:
        """Class indices of stored ids, both (H, W).

        Raises:
            DatasetError: an id is not in the table; `name` is the file, for the message.
        """
        labels: NDArray[np.int32] = self._index[stored]
        unknown = labels == _NOT_A_CLASS
        if unknown.any():
            raise DatasetError(f"{name}: {self._unknown_ids(stored, stored[unknown])}")
        return labels

    def _unknown_ids(self, stored: NDArray[np.integer], unknown: NDArray[np.integer]) -> str:
        ids, counts = np.unique(unknown, return_counts=True)
        found = f"{_ranges(ids.tolist())} at {counts.sum()} of {stored.size} pixels"
        if ids.tolist() == [255] and not np.any((stored != 0) & (stored != 255)):
            return (
                f"expected ids {_ranges(self.index_of)}, got {found} and 0 elsewhere, as in a 0/255 mask; "
                "for masks, name their folder masks instead of labels"
            )
        return f"expected ids {_ranges(self.index_of)}, got {found}; check the class list and the kind of label file"


class LabelSource(Protocol):
    """The source of the labels of one image."""

    @property
    def path(self) -> Path:
        """The file that must exist."""

    def image_hw(self) -> tuple[int, int]:
        """(height, width) in pixels, from the header. Raises FgsegError if the file is not a label file."""

    def read(self) -> NDArray[np.int32]:
        """(H, W) class indices and ignored labels. Raises FgsegError if they cannot be read."""

    def meaning(self) -> str:
        """What else the labels depend on besides the file, as text: the class of each stored value."""


@dataclass(frozen=True)
class PngLabels:
    """A label map in a PNG: palette indices or grey levels of 1 to 16 bits."""

    path: Path
    ids: IdTable

    def meaning(self) -> str:
        """The class of each stored id, as text."""
        return self.ids.text

    def image_hw(self) -> tuple[int, int]:
        """(height, width) in pixels, from the header. A file that is no label map is refused."""
        return label_png_hw(self.path)

    def read(self) -> NDArray[np.int32]:
        """Read the file and decode its ids."""
        stored, _ = read_stored_values(self.path)
        return self.ids.decode(stored, one_line(self.path))


@dataclass(frozen=True)
class SelectedLabels:
    """The labels of another source with some of its classes; pixels of the others are ignored.

    Attributes:
        source: the source of the labels.
        index_of: (C + 1,) the new label of each class of the source and, last, of its ignored pixels.
    """

    source: LabelSource
    index_of: NDArray[np.int32]

    @property
    def path(self) -> Path:
        """The file of the source."""
        return self.source.path

    def meaning(self) -> str:
        """The text of the source, and the new label of each of its classes."""
        return f"{self.source.meaning()} {self.index_of.tolist()}"

    def image_hw(self) -> tuple[int, int]:
        """(height, width) in pixels, from the source."""
        return self.source.image_hw()

    def read(self) -> NDArray[np.int32]:
        """Read the source and replace its labels."""
        labels = self.source.read()
        return self.index_of[np.minimum(labels, len(self.index_of) - 1)]


def _ranges(values: Mapping[int, int] | list[int]) -> str:
    """Whole numbers as text, with consecutive ones as a range.

    >>> _ranges([255, 0, 1, 2, 7])
    '0-2, 7, 255'
    """
    placed = enumerate(sorted(values))  # consecutive numbers are as far from their places
    runs = [[value for _, value in run] for _, run in groupby(placed, key=lambda pair: pair[1] - pair[0])]
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
