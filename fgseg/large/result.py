"""Segmentation of images larger than memory: a tiled TIFF is read by region and its labels are written in strips.

The labels are those of "slide" on an image that fits into memory, at the same sizes (`fgseg.large.strips`). Of the rows
above the current strip, only counts, measures of components and an overview are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_choice, check_choices
from fgseg._files.names import absolute_path
from fgseg._files.writers import write_text
from fgseg.drawing.colors import class_colors
from fgseg.drawing.overlay import Base, overlay_labels
from fgseg.encoders.base import Encoder
from fgseg.formats.tables import regions_csv, regions_frame, regions_json
from fgseg.images.samples import RgbBand, RgbSource
from fgseg.images.writing import encode_png, write_image
from fgseg.large.bands import RowBuffer, Shrinker
from fgseg.large.label_tiff import read_label_tiff, write_label_tiff
from fgseg.large.plan import WindowPlan
from fgseg.large.streamed_regions import StreamedRegions
from fgseg.large.strips import LabelRequest, label_strips
from fgseg.prompts.classes import PromptClass
from fgseg.scoring.windows import BoxXyxy
from fgseg.segmentation.result import written_files
from fgseg.segmentation.saving import Part, save_parts
from fgseg.segmentation.summary import ClassResult, classes_json
from fgseg.types import UNLABELLED, Region

if TYPE_CHECKING:
    from pandas import DataFrame

__all__ = [
    "LARGE_FORMATS",
    "MAX_REGIONS",
    "LargeSegmentation",
    "check_large_formats",
    "segment_tiled",
    "written_large_files",
]

LARGE_FORMATS = ("labels", "overlay", "regions")
"""Formats that the result of an image read by region can be saved in."""
MAX_REGIONS = 10_000
"""The largest number of connected components that are listed; all of them are counted."""

OVERVIEW_SIDE = 2048  # pixels, at most, of the longer side of the overview
_PIXELS_AT_ONCE = 2**20  # in which components are found: their numbers take more memory than labels


@dataclass(frozen=True, eq=False)
class LargeSegmentation(ClassResult):
    """The segmentation of an image read by region; its labels are in a file.

    Attributes:
        labels_path: the label map, a tiled TIFF of the image's size: class index, 255 unlabelled; above 254 classes
            it has 16 bits and 65535 is unlabelled.
        image_hw: (height, width) in pixels.
        prompts: the classes with their query words and colours, in label order.
        pixels: number of pixels of each class.
        regions: the connected components (8-connected) of every class, by class, then by decreasing area; at most
            `MAX_REGIONS`, the largest.
        parts: number of connected components.
        overview: (h, w, 3) uint8 RGB, the image shrunk by a whole number to at most 2048 pixels per side.
        overview_labels: (h, w) int32, the label at the middle of the area that each pixel covers.
        settings: the settings of the run, as in run.json.
        no_data_pixels: number of pixels without data, which are unlabelled; shares do not count them.
    """

    labels_path: Path
    image_hw: tuple[int, int]
    prompts: tuple[PromptClass, ...]
    pixels: tuple[int, ...]
    regions: tuple[Region, ...]
    parts: int
    overview: NDArray[np.uint8]
    overview_labels: NDArray[np.int32]
    settings: Mapping[str, Any]
    no_data_pixels: int = 0

    def read_labels(self, box_xyxy: BoxXyxy) -> NDArray[np.int32]:
        """The labels of a part of the image, read from the file.

        Args:
            box_xyxy: (left, top, right, bottom) pixels, half open, inside the image.

        Returns:
            (bottom - top, right - left) int32, index into `classes`, UNLABELLED where no class wins.

        Raises:
            OptionError: a box outside the image.
            ImageError: the file does not exist or is damaged.
        """
        return read_label_tiff(self.labels_path, box_xyxy)

    def overlay(self, *, base: Base = "grey") -> NDArray[np.uint8]:
        """The overview with its labels drawn over it and a legend of the classes found.

        Args:
            base: "grey" draws over the image without its colours, "photo" over the image as it is.
        """
        drawn = overlay_labels(self.overview, self.overview_labels, self.colors, base=base)
        return self._with_legend(drawn, self.pixels)

    def _repr_png_(self) -> bytes:
        """The overlay, which a notebook shows."""
        return encode_png(self.overlay())

    def save(
        self,
        folder: str | Path,
        *,
        formats: Sequence[str] = LARGE_FORMATS,
        record: Mapping[str, Any] | None = None,
        base: Base = "grey",
    ) -> list[Path]:
        """Write the files that go with the label map, in place of those of the result that the folder holds.

        Args:
            folder: output folder, as in `Segmentation.save`.
            formats: some of LARGE_FORMATS: "labels" (classes.json; the label map exists already), "overlay", "regions".
                run.json is always written.
            record: further entries of run.json.
            base: of the overlay, as in `overlay`.

        Returns:
            The paths of the files, the label map first and run.json last.

        Raises:
            OptionError: another format or base.
            OutputError: the folder cannot be written.
        """
        check_large_formats(formats)
        check_choice("base", base, get_args(Base))
        written = save_parts(Path(folder), list(self._parts(Path(folder), formats, base)), self.settings, record)
        labels_path = absolute_path(self.labels_path)
        return [self.labels_path, *(path for path in written if absolute_path(path) != labels_path)]

    def _parts(self, folder: Path, formats: Sequence[str], base: Base) -> Iterator[Part]:
        if absolute_path(self.labels_path).parent == folder.resolve():  # it belongs to the result
            yield Part((self.labels_path.name,), lambda _: None)
        if "labels" in formats:
            yield Part(("classes.json",), lambda to: write_text(to / "classes.json", classes_json(self.prompts)))
        if "overlay" in formats:
            yield Part(("overlay.png",), lambda to: write_image(to / "overlay.png", self.overlay(base=base)))
        if "regions" in formats:
            yield Part(("regions.json",), lambda to: write_text(to / "regions.json", regions_json(self.regions)))
            yield Part(("regions.csv",), lambda to: write_text(to / "regions.csv", regions_csv(self.regions)))

    def to_dataframe(self) -> DataFrame:
        """As `Segmentation.to_dataframe`."""
        return regions_frame(self.regions)

    def to_dict(self) -> dict[str, Any]:
        """A summary for JSON, with the keys of `Segmentation.to_dict` and `parts`."""
        height, width = self.image_hw
        missing = self.no_data_pixels
        return self._summary(
            self.image_hw, "exclusive", self.pixels, self.regions,
            unlabelled_pixels=height * width - missing - sum(self.pixels), no_data_pixels=missing, parts=self.parts,
        )  # fmt: skip

    def __repr__(self) -> str:
        height, width = self.image_hw
        found = self._found(self.pixels)
        return f"LargeSegmentation({height} x {width}, {len(self.prompts)} classes, found: {found})"


def written_large_files(formats: Sequence[str]) -> list[str]:
    """As `fgseg.segmentation.result.written_files`, for an image read by region, whose labels are always written."""
    return ["labels.tif", *(name for name in written_files(formats, ()) if name != "labels.png")]


def check_large_formats(formats: Sequence[str]) -> None:
    """Refuse formats that the result of an image read by region cannot be saved in.

    Raises:
        OptionError: a format that is not in LARGE_FORMATS.
    """
    check_choices("formats (of an image read by region)", formats, LARGE_FORMATS)


def segment_tiled(
    source: RgbSource,
    labels_path: Path,
    encoder: Encoder,
    request: LabelRequest,
    plan: WindowPlan,
    settings: Mapping[str, Any],
    progress: Callable[[int, int], None] | None = None,
) -> LargeSegmentation:
    """Label an open tiled TIFF, from top to bottom.

    Args:
        source: the image.
        labels_path: the tiled TIFF to write; it appears under this name when it is complete.
        encoder: encodes the windows.
        request: the classes and the threshold.
        plan: the windows.
        settings: settings of the result.
        progress: called after every strip with the number of rows labelled so far and of all rows.

    Raises:
        ImageError: a tile that is damaged.
        OutputError: the labels cannot be written.
    """
    image_hw = source.stored.image_hw
    summary = _Summary(image_hw, len(request.prompts))
    bands = summary.watched(source.rows())
    no_data = RowBuffer(summary.no_data())

    def strips() -> Iterator[NDArray[np.int32]]:
        for labels, present in label_strips(bands, encoder, request, plan):
            labels[no_data.take(summary.rows, summary.rows + len(labels))] = UNLABELLED
            summary.add(labels, present)
            if progress is not None:
                progress(summary.rows, image_hw[0])
            yield labels

    colors = class_colors(request.prompts)
    write_label_tiff(labels_path, strips(), image_hw=image_hw, colors=colors)
    next(bands, None)  # the warnings about the whole image follow its last band
    return LargeSegmentation(
        labels_path,
        image_hw,
        request.prompts,
        tuple(summary.pixels.tolist()),
        summary.components.table([prompt.name for prompt in request.prompts]),
        summary.components.total,
        np.concatenate(summary.overview),
        np.concatenate(summary.overview_labels),
        {**settings, "reading": source.settings(summary.no_data_pixels)},
        summary.no_data_pixels,
    )


class _Summary:
    """Counts, components and an overview of an image whose rows are not kept."""

    def __init__(self, image_hw: tuple[int, int], num_classes: int) -> None:
        factor = -(-max(image_hw) // OVERVIEW_SIDE)
        self.no_data_pixels = 0
        self._waiting = deque[NDArray[np.bool_]]()  # bands that passed before their labels
        self.rows = 0  # of the labels added so far
        self.pixels = np.zeros(num_classes, np.int64)
        self.components = StreamedRegions(image_hw[1], keep=MAX_REGIONS)
        self.overview: list[NDArray[np.uint8]] = []  # bands
        self.overview_labels: list[NDArray[np.int32]] = []  # strips
        # The overview holds the labels of these rows and columns, the middle of the area of each of its pixels.
        self._rows, self._columns = (
            np.minimum(np.arange(0, side, factor) + factor // 2, side - 1) for side in image_hw
        )
        self._shrink = Shrinker(factor, image_hw[0])

    def watched(self, bands: Iterator[RgbBand]) -> Iterator[NDArray[np.uint8]]:
        """The RGB of the bands; the overview is drawn and `no_data` is filled as they pass."""
        for band in bands:
            self.overview.append(self._shrink.add(band.rgb))
            self.no_data_pixels += int(band.no_data.sum())
            self._waiting.append(band.no_data)
            yield band.rgb

    def no_data(self) -> Iterator[NDArray[np.bool_]]:
        """Where the bands that have passed have no data, (h, W) bool each; every band once."""
        while True:
            yield self._waiting.popleft()

    def add(self, labels: NDArray[np.int32], present: NDArray[np.float32]) -> None:
        """Take the next rows of labels with their presence, (h, W) each."""
        self.pixels += np.bincount(labels.ravel() + 1, minlength=len(self.pixels) + 1)[1:]
        step = max(1, _PIXELS_AT_ONCE // labels.shape[1])
        for top in range(0, len(labels), step):
            self.components.add(labels[top : top + step], present[top : top + step])
        first, last = np.searchsorted(self._rows, (self.rows, self.rows + len(labels)))
        self.overview_labels.append(labels[self._rows[first:last] - self.rows][:, self._columns])
        self.rows += len(labels)
