"""The result of a segmentation: labels, masks, scores, regions, pictures and files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_array, check_choice, check_image, check_integers, check_labels
from fgseg.drawing.colors import class_colors
from fgseg.drawing.overlay import overlay_labels, overlay_masks
from fgseg.drawing.sheet import heatmap_sheet
from fgseg.errors import OptionError, ShapeError
from fgseg.formats.supervision_detections import detections
from fgseg.formats.tables import regions_json
from fgseg.images.resizing import shrink
from fgseg.images.writing import encode_png
from fgseg.prompts.classes import PromptClass
from fgseg.regions.table import region_table
from fgseg.segmentation.saving import save
from fgseg.segmentation.summary import class_summaries, found_names, with_class_legend
from fgseg.types import UNLABELLED, Region

if TYPE_CHECKING:
    from supervision import Detections

__all__ = ["Segmentation", "check_mode"]

Mode = Literal["exclusive", "independent"]
Masks = Mapping[str, NDArray[np.bool_]]
ScoreMaps = Mapping[str, NDArray[np.float32]]
NOTEBOOK_SIDE = 1024  # pixels; a result that draws itself in a notebook is shrunk to this


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Which class each pixel of an image belongs to, and how surely.

    The same type when nothing is found: `labels` is then UNLABELLED everywhere and `regions` is empty.

    Attributes:
        image: (H, W, 3) uint8 RGB, the image that was segmented.
        labels: (H, W) int32, index into `classes`; UNLABELLED (-1) where nothing wins. In independent mode the
            winner among the masks that hold the pixel.
        prompts: the classes with their query words and colours, in label order.
        masks: class name -> (H, W) bool, computed when read. They may overlap in independent mode.
        scores: class name -> (H, W) float32 presence in [0, 1], computed when read; 0.5 is as likely as the best of
            the words it competes with.
        mode: "exclusive" or "independent".
        grid_hw: (height, width) in patches of the scores, which is the size of saved heatmaps.
        settings: what the result was made with; `save` writes them to run.json.
        min_area: in pixels; smaller regions are not listed.

    Raises:
        ShapeError: image and labels of different sizes, labels outside the classes, or not one mask and one score map
            per class, in their order.
        OptionError: an unknown mode.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.int32]
    prompts: tuple[PromptClass, ...]
    masks: Masks
    scores: ScoreMaps
    mode: Mode
    grid_hw: tuple[int, int]
    settings: Mapping[str, Any]
    min_area: int = 1

    def __post_init__(self) -> None:
        check_image("image", self.image)
        check_array("labels", self.labels, self.image.shape[:2], hint="one label per pixel of the image")
        check_choice("mode", self.mode, get_args(Mode))
        check_labels(self.labels)
        check_integers("labels", self.labels, low=UNLABELLED, high=len(self.prompts) - 1)
        for kind, maps in (("masks", self.masks), ("scores", self.scores)):
            if tuple(maps) != self.classes:
                raise ShapeError(f"{kind}: expected the classes {self.classes!r:.200}, got {tuple(maps)!r:.200}")

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order."""
        return tuple(prompt.name for prompt in self.prompts)

    @cached_property
    def colors(self) -> tuple[tuple[int, int, int], ...]:
        """(red, green, blue) of each class: its own, or the palette's."""
        return class_colors(self.prompts)

    @cached_property
    def regions(self) -> tuple[Region, ...]:
        """Connected components of every class, by class, then by decreasing area."""
        return region_table(self.masks, self.scores, min_area=self.min_area)

    def overlay(self, *, opacity: float = 0.5, outline: bool = True, legend: bool = True) -> NDArray[np.uint8]:
        """The image with its masks drawn over it.

        Args:
            opacity: of the tint, 0 to 1.
            outline: whether to draw the border of every mask.
            legend: whether to name the classes that were found, beside or below the image.

        Returns:
            (H', W', 3) uint8 RGB, as large as the image. A legend enlarges it to the right or below.
        """
        if self.mode == "exclusive":
            drawn = overlay_labels(self.image, self.labels, self.colors, opacity=opacity, outline=outline)
        else:
            drawn = overlay_masks(self.image, self.masks.values(), self.colors, opacity=opacity, outline=outline)
        return with_class_legend(drawn, self.classes, self.colors, self._pixel_counts) if legend else drawn

    def heatmap_sheet(self) -> NDArray[np.uint8]:
        """The presence of every class over the image, with a colour bar.

        Returns:
            (H', W', 3) uint8 RGB. One class is shown beside the image; several are shown in a grid after the image.
            No picture is longer than 1024 pixels, and the sheet is at most about 4096 pixels long.
        """
        return heatmap_sheet(self.image, self.scores)

    def save(self, folder: str | Path, *, formats: Sequence[str] = ("labels", "overlay", "regions")) -> list[Path]:
        """Write the result's files.

        Args:
            folder: output folder, created if needed. Files of the same name are replaced.
            formats: names in FORMATS. run.json is always written.

        Returns:
            The files written.

        Raises:
            OptionError: an unknown format.
            OutputError: the folder cannot be written.
        """
        return save(self, Path(folder), formats)

    def to_dict(self) -> dict[str, Any]:
        """A summary for JSON: size, mode, classes with the pixels of their masks, regions, settings.

        In independent mode masks may overlap, so shares may add up to more than 1.
        """
        height, width = self._image_hw()
        return {
            "height": height,
            "width": width,
            "mode": self.mode,
            "classes": class_summaries(self.classes, self._pixel_counts, (height, width)),
            "regions": json.loads(regions_json(self.regions)),
            "settings": dict(self.settings),
        }

    def to_detections(self) -> Detections:
        """`supervision.Detections` with one row per region.

        Raises:
            OptionError: the package supervision is not installed.
        """
        return detections(self.masks, self.regions, image_hw=self._image_hw())

    @cached_property
    def _pixel_counts(self) -> tuple[int, ...]:
        """Number of pixels of each class's mask."""
        if self.mode == "independent":
            return tuple(int(mask.sum()) for mask in self.masks.values())
        return tuple(np.bincount(self.labels.ravel() + 1, minlength=len(self.prompts) + 1)[1:].tolist())

    def _image_hw(self) -> tuple[int, int]:
        return self.labels.shape[0], self.labels.shape[1]

    def _repr_png_(self) -> bytes:
        """The picture that a notebook shows."""
        return encode_png(shrink(self.overlay(), max_side=NOTEBOOK_SIDE))

    def __repr__(self) -> str:
        height, width = self.labels.shape
        found = found_names(self.classes, self._pixel_counts)
        return f"Segmentation({height} x {width}, {self.mode}, {len(self.prompts)} classes, found: {found})"


def check_mode(mode: str, *, max_hole: int) -> None:
    """Refuse an unknown mode, and `max_hole` in exclusive mode.

    Raises:
        OptionError: one of these.
    """
    check_choice("mode", mode, get_args(Mode))
    if max_hole and mode == "exclusive":
        raise OptionError('max_hole: filling a hole would take pixels from other classes; use mode "independent", or 0')
