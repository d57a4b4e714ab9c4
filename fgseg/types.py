"""Frozen values that pass between the stages; each checks itself when made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_array
from fgseg.errors import OptionError, ShapeError

if TYPE_CHECKING:
    import torch

ScalarT = TypeVar("ScalarT", bound=np.generic)

__all__ = [
    "MAX_8_BIT_CLASSES",
    "MAX_CLASSES",
    "UNLABELLED",
    "BoxScores",
    "DenseFeatures",
    "LazyMaps",
    "Ranking",
    "Region",
    "unlabelled_value",
    "watched",
]

UNLABELLED = -1
"""Value of `labels` where no class wins: the one sentinel of the package (255 in an 8-bit PNG, 65535 in 16-bit)."""
MAX_8_BIT_CLASSES = 254
"""Most classes of an 8-bit file, 0 to 253: 255 is unlabelled, and 254 becomes that in zero-reduced data sets."""
MAX_CLASSES = 65_534
"""Most classes of a 16-bit file."""


def unlabelled_value(num_classes: int) -> int:
    """What an unlabelled pixel is in a file of this many classes: 255 in 8 bits, 65535 in 16.

    >>> unlabelled_value(254), unlabelled_value(255)
    (255, 65535)
    """
    return 255 if num_classes <= MAX_8_BIT_CLASSES else 65_535


@dataclass(frozen=True)
class DenseFeatures:
    """Patch features of one picture.

    Attributes:
        grid: (Gh, Gw, D) float32 tensor, unit length along D, row-major from the top left.
        image_hw: (height, width) of the picture that the grid covers edge to edge, in pixels.

    Raises:
        ShapeError: `grid` has other axes, no patch, or rows that are not unit length.
    """

    grid: torch.Tensor
    image_hw: tuple[int, int]

    def __post_init__(self) -> None:
        check_array("grid", self.grid, ("Gh", "Gw", "D"))
        lengths = self.grid.square().sum(-1)
        # NaN compares false, so this refuses NaN as well; bf16 products leave 1e-2 at most.
        if not (self.grid.numel() and bool(((lengths - 1).abs() < 2e-2).all())):
            raise ShapeError("grid: expected unit length along D at every patch and no NaN; normalise the features")


@dataclass(frozen=True)
class Region:
    """One connected part of a class's mask.

    Attributes:
        class_name: the class it belongs to.
        class_index: its index in `Segmentation.classes`.
        box_xyxy: (left, top, right, bottom) pixels, half open: the part covers columns left..right-1.
        area: pixels of the part, without its holes.
        centroid_yx: mean (row, column) of its pixels.
        mean_score: mean over the part of the class's score map, in [0, 1].
        peak_score: largest value there, in [0, 1].
        holes: number of holes in the part.
    """

    class_name: str
    class_index: int
    box_xyxy: tuple[int, int, int, int]
    area: int
    centroid_yx: tuple[float, float]
    mean_score: float
    peak_score: float
    holes: int

    def __post_init__(self) -> None:
        left, top, right, bottom = self.box_xyxy
        if not (left < right and top < bottom and 0 < self.area <= (right - left) * (bottom - top)):
            raise OptionError(f"box_xyxy: expected a box that holds {self.area} pixels, got {self.box_xyxy}")


@dataclass(frozen=True, eq=False)
class BoxScores:
    """Boxes against phrases.

    Attributes:
        cosine: (N, T) float32 in [-1, 1], boxes by phrases.
        probabilities: (N, T) float32, softmax over the phrases at the model's region temperature.
        texts: the phrases.

    Raises:
        ShapeError: scores of other sizes.
    """

    cosine: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    texts: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_scores(self.cosine, self.probabilities, len(self.texts))


@dataclass(frozen=True, eq=False)
class Ranking:
    """Images against captions.

    Attributes:
        cosine: (N, T) float32 in [-1, 1], images by captions.
        probabilities: (N, T) float32; softmax over the captions, or for FG-CLIP 2 a sigmoid of each pair alone.
        captions: the captions.

    Raises:
        ShapeError: scores of other sizes.
    """

    cosine: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    captions: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_scores(self.cosine, self.probabilities, len(self.captions))

    @property
    def order(self) -> NDArray[np.int64]:
        """(N, T) caption indices of each image, best first."""
        return np.argsort(-self.cosine, axis=1, kind="stable")


def _check_scores(cosine: NDArray[np.float32], probabilities: NDArray[np.float32], count: int) -> None:
    check_array("cosine", cosine, ("N", count), hint="one column a text")
    check_array("probabilities", probabilities, cosine.shape, hint="one a cosine")


class LazyMaps(Mapping[str, NDArray[ScalarT]]):
    """A read-only mapping from a name to an (H, W) array that is computed each time it is asked for.

    Memory stays O(H x W) whatever the number of names. Iteration keeps the order of `names`.
    """

    def __init__(self, names: Sequence[str], compute: Callable[[int], NDArray[ScalarT]]) -> None:
        """Keep `names` (unique) and `compute`, which makes the array of the name with a given index."""
        self._index = {name: index for index, name in enumerate(names)}
        self._compute = compute
        if len(self._index) != len(names):
            raise OptionError(f"names: expected unique names, got {list(names)!r:.200}")

    def __getitem__(self, name: str) -> NDArray[ScalarT]:
        array = self._compute(self._index[name]).view()  # the array itself may be the caller's
        array.setflags(write=False)
        return array

    def __contains__(self, name: object) -> bool:
        return name in self._index  # Mapping's own would compute the array

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self._index)!r:.200})"


def watched(maps: Mapping[str, NDArray[ScalarT]], see: Callable[[str, NDArray[ScalarT]], None]) -> LazyMaps[ScalarT]:
    """The same maps, each shown to `see` when it is asked for: what several want of a map, it is computed for once.

    >>> peaks = {}
    >>> maps = watched({"red": np.float32([[0.5, 1.0]])}, lambda name, array: peaks.update({name: array.max()}))
    >>> maps["red"].shape, float(peaks["red"])
    ((1, 2), 1.0)
    """
    names = tuple(maps)

    def compute(index: int) -> NDArray[ScalarT]:
        array = maps[names[index]]
        see(names[index], array)
        return array

    return LazyMaps(names, compute)
