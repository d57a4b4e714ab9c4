"""The result of one image, rebuilt from its row: labels, masks, regions and pictures, computed when asked for."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgseg.drawing.overlay import Base
from fgseg.errors import OptionError
from fgseg.formats.coco import decode_mask
from fgseg.images.label_png import decode_label_png
from fgseg.prompts.classes import PromptClass
from fgseg.segmentation.result import Mode, Segmentation
from fgseg.segmentation.summary import ClassResult
from fgseg.store.identity import RunIdentity
from fgseg.store.schema import Row
from fgseg.types import UNLABELLED, LazyMaps, Region

__all__ = ["StoredResult"]


@dataclass(frozen=True, eq=False)
class StoredResult(ClassResult):
    """The result of an image of a store. Its values equal those of the `Segmentation` that it was made from.

    Attributes:
        row: what the store holds of the image, whose status is "ok".
        identity: the settings of the run.

    Raises:
        OptionError: the row of an image that failed.
    """

    row: Row
    identity: RunIdentity

    def __post_init__(self) -> None:
        if self.row.status != "ok":
            raise OptionError(f"row: expected a result, got the error of {self.row.image_id}: {self.row.error}")

    @property
    def prompts(self) -> tuple[PromptClass, ...]:  # type: ignore[override]
        """The classes with their query words and colours, in label order."""
        return self.identity.classes

    @property
    def settings(self) -> dict[str, Any]:  # type: ignore[override]
        """The settings of the run."""
        return dict(self.identity.settings)

    @property
    def mode(self) -> Mode:
        """As in `Segmentation`."""
        mode: Mode = self.identity.settings["mode"]
        return mode

    @property
    def image_hw(self) -> tuple[int, int]:
        """(height, width) of the image in pixels."""
        return self.row.height, self.row.width

    @property
    def labels(self) -> NDArray[np.int32]:
        """(H, W) int32, index into `classes`; UNLABELLED (-1) where no class wins."""
        return decode_label_png(self.row.labels, name=self.row.image_id, max_pixels=self.row.height * self.row.width)

    @property
    def masks(self) -> LazyMaps[np.bool_]:
        """Class name -> (H, W) bool, decoded when read."""
        return LazyMaps(self.classes, lambda index: decode_mask(self.row.classes[index].rle, image_hw=self.image_hw))

    @property
    def regions(self) -> tuple[Region, ...]:
        """Connected components of every class, by class, then by decreasing area."""
        return tuple(
            Region(
                self.classes[row.class_index], row.class_index, (row.x0, row.y0, row.x1, row.y1), row.area,
                (row.cy, row.cx), row.mean, row.peak, row.holes,
            )
            for row in self.row.regions
        )  # fmt: skip

    def overlay(
        self,
        image: NDArray[np.uint8],
        *,
        opacity: float = 0.5,
        outline: bool = True,
        legend: bool = True,
        base: Base = "grey",
    ) -> NDArray[np.uint8]:
        """The image with its masks drawn over it.

        Args:
            image: (H, W, 3) uint8 RGB, which the store does not hold.
            opacity: as in `Segmentation.overlay`.
            outline: as in `Segmentation.overlay`.
            legend: as in `Segmentation.overlay`.
            base: as in `Segmentation.overlay`.

        Returns:
            As `Segmentation.overlay`.

        Raises:
            ShapeError: an image of another size.
        """
        scores: LazyMaps[np.float32] = LazyMaps(self.classes, partial(_no_scores, self.row.image_id))
        result = Segmentation(
            image, self.labels, self.prompts, self.masks, scores, self.mode, self.image_hw, self.settings
        )
        return result.overlay(opacity=opacity, outline=outline, legend=legend, base=base)

    def to_dict(self) -> dict[str, Any]:
        """A summary for JSON, as `Segmentation.to_dict`; the settings are those of the run."""
        pixels = [entry.pixels for entry in self.row.classes]
        unlabelled = int(np.count_nonzero(self.labels == UNLABELLED)) - self.row.no_data
        return self._summary(
            self.image_hw, self.mode, pixels, self.regions, unlabelled_pixels=unlabelled,
            no_data_pixels=self.row.no_data,
        )  # fmt: skip

    def __repr__(self) -> str:
        found = self._found([entry.pixels for entry in self.row.classes])
        return f"StoredResult({self.row.image_id!r}, {self.row.height} x {self.row.width}, {self.mode}, found: {found})"


def _no_scores(image_id: str, _: int) -> NDArray[np.float32]:
    raise OptionError(f"scores: the store holds no score maps of {image_id}; segment the image again")
