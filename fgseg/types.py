"""Frozen values that pass between the stages. Each checks itself when it is made."""

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
    "check_unit",
    "has_unit_length",
    "unlabelled_value",
    "watched",
]

UNLABELLED = -1
"""Label of a pixel of no class, the only sentinel of the package (255 in an 8-bit PNG, 65535 in a 16-bit PNG)."""
MAX_8_BIT_CLASSES = 254
"""Largest number of classes in an 8-bit file, 0 to 253. 255 is unlabelled, and 254 becomes 255 in data sets
with mmsegmentation's reduce_zero_label."""
MAX_CLASSES = 65_534
"""Largest number of classes in a 16-bit file."""


def unlabelled_value(num_classes: int) -> int:
    """The value of an unlabelled pixel in a file of this many classes: 255 in 8 bits, 65535 in 16.

    >>> unlabelled_value(254), unlabelled_value(255)
    (255, 65535)
    """
    return 255 if num_classes <= MAX_8_BIT_CLASSES else 65_535


@dataclass(frozen=True)
class DenseFeatures:
    """Patch features of an image.

    Attributes:
        grid: (Gh, Gw, D) float32 tensor, unit length along D, row-major from the top left.
        image_hw: (height, width) in pixels of the image, which the grid covers from edge to edge.

    Raises:
        ShapeError: `grid` has other axes, no patch, or features that are not of unit length. On a GPU the lengths are
            checked when scores are computed or read, because the host waits for every value that it looks at.
    """

    grid: torch.Tensor
    image_hw: tuple[int, int]

    def __post_init__(self) -> None:
        check_array("grid", self.grid, ("Gh", "Gw", "D"))
        check_unit(self.grid.numel() > 0)
        if self.grid.device.type == "cpu":
            check_unit(bool(has_unit_length(self.grid)))


def has_unit_length(grid: torch.Tensor) -> torch.Tensor:
    """Whether all features (..., D) are of unit length: a bool on their device, for which the host need not wait."""
    # NaN compares false and is refused too. Products in bf16 leave an error of 1e-2 at most.
    return ((grid.square().sum(-1) - 1).abs() < 2e-2).all()


def check_unit(is_unit: bool) -> None:
    """Refuse features of another length.

    Raises:
        ShapeError: they are not of unit length.
    """
    if not is_unit:
        raise ShapeError("grid: expected unit length along D at every patch and no NaN; normalise the features")


@dataclass(frozen=True)
class Region:
    """A connected component of the mask of a class.

    Attributes:
        class_name: the class.
        class_index: index of the class in `Segmentation.classes`.
        box_xyxy: (left, top, right, bottom) pixels, half open: the component covers columns left..right-1.
        area: number of pixels, without holes.
        centroid_yx: mean (row, column) of its pixels.
        mean_score: mean of the class's score map over the component, in [0, 1].
        peak_score: maximum of that map over the component, in [0, 1].
        holes: number of holes.
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
    """Scores of boxes with phrases.

    Attributes:
        cosine: (N, T) float32 in [-1, 1], one row per box and one column per phrase.
        probabilities: (N, T) float32, softmax over the phrases at the model's region temperature.
        texts: the phrases.

    Raises:
        ShapeError: scores of other shapes.
    """

    cosine: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    texts: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_scores(self.cosine, self.probabilities, len(self.texts))


@dataclass(frozen=True, eq=False)
class Ranking:
    """Scores of images with captions.

    Attributes:
        cosine: (N, T) float32 in [-1, 1], one row per image and one column per caption.
        probabilities: (N, T) float32, softmax over the captions, or for FG-CLIP 2 the sigmoid of each pair.
        captions: the captions.

    Raises:
        ShapeError: scores of other shapes.
    """

    cosine: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    captions: tuple[str, ...]

    def __post_init__(self) -> None:
        _check_scores(self.cosine, self.probabilities, len(self.captions))

    @property
    def order(self) -> NDArray[np.int64]:
        """(N, T) caption indices of each image, the best first."""
        return np.argsort(-self.cosine, axis=1, kind="stable")


def _check_scores(cosine: NDArray[np.float32], probabilities: NDArray[np.float32], count: int) -> None:
    check_array("cosine", cosine, ("N", count), hint="one column per text")
    check_array("probabilities", probabilities, cosine.shape, hint="one for each cosine")


class LazyMaps(Mapping[str, NDArray[ScalarT]]):
    """A read-only mapping from names to (H, W) arrays, each of which is computed at every access.

    Memory is O(H x W) for any number of names. Iteration keeps the order of `names`.
    """

    def __init__(self, names: Sequence[str], compute: Callable[[int], NDArray[ScalarT]]) -> None:
        """Take unique `names`, and `compute`, which returns the array of the name with a given index."""
        self._index = {name: index for index, name in enumerate(names)}
        self._compute = compute
        if len(self._index) != len(names):
            raise OptionError(f"names: expected unique names, got {list(names)!r:.200}")

    def __getitem__(self, name: str) -> NDArray[ScalarT]:
        array = self._compute(self._index[name]).view()  # a view, because the array may belong to `compute`
        array.setflags(write=False)
        return array

    def __contains__(self, name: object) -> bool:
        return name in self._index  # the method of Mapping would compute the array

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self._index)!r:.200})"


def watched(maps: Mapping[str, NDArray[ScalarT]], see: Callable[[str, NDArray[ScalarT]], None]) -> LazyMaps[ScalarT]:
    """The same maps, with a call of `see` for each map that is computed, so that several readers share one computation.

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
