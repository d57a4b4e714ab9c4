"""Label files: which stored value is which class."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fgseg._files import one_line
from fgseg.errors import DatasetError
from fgseg.images.label_png import label_png_hw, read_stored_values

__all__ = ["ChosenLabels", "IdTable", "LabelSource", "PngLabels", "ranges"]

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
        """(height, width) from the header; a file that is no label map is refused."""
        return label_png_hw(self.path)

    def read(self) -> NDArray[np.int32]:
        """Read and decode."""
        stored, _ = read_stored_values(self.path)
        return self.ids.decode(stored, one_line(self.path))


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
