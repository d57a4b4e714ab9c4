"""Images larger than memory: a tiled TIFF is read by region and its labels are written by strips.

The labels are those of "slide" on an image that fits into memory, at the same sizes (`fgseg.large.strips`). Of all
before the strip at work only counts, sums of connected parts and a small picture remain.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_choices
from fgseg._files import write_text
from fgseg.drawing.colors import class_colors
from fgseg.drawing.overlay import overlay_labels
from fgseg.encoders.base import Encoder
from fgseg.formats.tables import regions_csv, regions_json
from fgseg.images.writing import encode_png, write_image
from fgseg.large.bands import Shrinker
from fgseg.large.plan import WindowPlan
from fgseg.large.streamed_regions import StreamedRegions
from fgseg.large.strips import LabelRequest, label_strips
from fgseg.large.tiled_tiff import TiledImage, read_label_tiff, write_label_tiff
from fgseg.prompts.classes import PromptClass
from fgseg.scoring.windows import BoxXyxy
from fgseg.segmentation.summary import (
    class_summaries,
    classes_json,
    found_names,
    json_text,
    with_class_legend,
)
from fgseg.types import UNLABELLED, Region

__all__ = ["LARGE_FORMATS", "MAX_REGIONS", "LargeSegmentation", "check_large_formats", "segment_tiled"]

LARGE_FORMATS = ("labels", "overlay", "regions")
"""What the result of an image read by region can be saved as."""
MAX_REGIONS = 10_000
"""Connected parts that are listed at most, the largest; all are counted."""

OVERVIEW_SIDE = 2048  # pixels, at most, of the longer side of the picture that is kept
_PIXELS_AT_ONCE = 2**20  # whose parts are looked for: the numbers of parts take more memory than labels


@dataclass(frozen=True, eq=False)
class LargeSegmentation:
    """Which class each pixel of an image read by region belongs to; the labels are in a file.

    Attributes:
        labels_path: the label map, a tiled TIFF of the image's size: class index, 255 unlabelled; above 254 classes
            16 bits and 65535.
        image_hw: (height, width) in pixels.
        prompts: the classes with their query words and colours, in label order.
        pixels: number of pixels of each class.
        regions: the connected parts (8-connected) of every class, by class, then by falling area; of more than
            `MAX_REGIONS` the largest.
        parts: how many connected parts there are.
        overview: (h, w, 3) uint8 RGB, the image shrunk by a whole number to at most 2048 pixels a side.
        overview_labels: (h, w) int32, its labels: those at the middle of what each pixel stands for.
        settings: what the result was made with, as it goes into run.json.
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

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order."""
        return tuple(prompt.name for prompt in self.prompts)

    @cached_property
    def colors(self) -> tuple[tuple[int, int, int], ...]:
        """(red, green, blue) of each class: its own, or the palette's."""
        return class_colors(self.prompts)

    def read_labels(self, box_xyxy: BoxXyxy) -> NDArray[np.int32]:
        """The labels of a part of the image, read from the file.

        Args:
            box_xyxy: (left, top, right, bottom) pixels, half open, inside the image.

        Returns:
            (bottom - top, right - left) int32, index into `classes`, UNLABELLED where nothing wins.

        Raises:
            OptionError: a box outside the image.
            ImageError: the file is gone or damaged.
        """
        return read_label_tiff(self.labels_path, box_xyxy)

    def overlay(self) -> NDArray[np.uint8]:
        """The shrunk image with its labels drawn over it and a legend of the classes that are there."""
        drawn = overlay_labels(self.overview, self.overview_labels, self.colors)
        return with_class_legend(drawn, self.classes, self.colors, self.pixels)

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return encode_png(self.overlay())

    def save(self, folder: str | Path, *, formats: Sequence[str] = LARGE_FORMATS) -> list[Path]:
        """Write what is beside the label map.

        Args:
            folder: where to; made if needed, files of the same name are replaced.
            formats: of LARGE_FORMATS: "labels" (classes.json; the map is there), "overlay", "regions"; run.json is
                always written.

        Returns:
            the files, the label map first.

        Raises:
            OptionError: another format.
            OutputError: the folder cannot be written.
        """
        check_large_formats(formats)
        folder = Path(folder)
        texts = {folder / "run.json": json_text(self.settings)}
        written = [self.labels_path]
        if "labels" in formats:
            texts[folder / "classes.json"] = classes_json(self.prompts)
        if "overlay" in formats:
            write_image(folder / "overlay.png", self.overlay())
            written.append(folder / "overlay.png")
        if "regions" in formats:
            texts[folder / "regions.json"] = regions_json(self.regions)
            texts[folder / "regions.csv"] = regions_csv(self.regions)
        for path, text in texts.items():
            write_text(path, text)
        return [*written, *texts]

    def to_dict(self) -> dict[str, Any]:
        """A summary that JSON can hold, with the keys of `Segmentation.to_dict` and `parts`."""
        height, width = self.image_hw
        return {
            "height": height,
            "width": width,
            "mode": "exclusive",
            "classes": class_summaries(self.classes, self.pixels, self.image_hw),
            "regions": json.loads(regions_json(self.regions)),
            "parts": self.parts,
            "settings": dict(self.settings),
        }

    def __repr__(self) -> str:
        height, width = self.image_hw
        found = found_names(self.classes, self.pixels)
        return f"LargeSegmentation({height} x {width}, {len(self.prompts)} classes, found: {found})"


def check_large_formats(formats: Sequence[str]) -> None:
    """Refuse a format that an image read by region cannot be saved as.

    Raises:
        OptionError: one of these.
    """
    check_choices("formats (of an image read by region)", formats, LARGE_FORMATS)


def segment_tiled(
    source: TiledImage,
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
        labels_path: the tiled TIFF to write; until all is done it has another name.
        encoder: of the windows.
        request: the prompts and the threshold.
        plan: where the windows are.
        settings: for the result.
        progress: called after every strip with the rows of the image that are done and that there are.

    Raises:
        ImageError: a tile that is damaged.
        OutputError: the labels cannot be written.
    """
    height, width = source.image_hw
    summary = _Summary(source.image_hw, len(request.prompts))
    bands = summary.watched(source.bands())

    def strips() -> Iterator[NDArray[np.int32]]:
        for labels, present in label_strips(bands, encoder, request, plan):
            summary.add(labels, present)
            if progress is not None:
                progress(summary.rows, height)
            yield labels

    colors = class_colors(request.prompts)
    write_label_tiff(labels_path, strips(), image_hw=(height, width), colors=colors)
    return LargeSegmentation(
        labels_path,
        source.image_hw,
        request.prompts,
        tuple(summary.pixels.tolist()),
        summary.parts.table([prompt.name for prompt in request.prompts]),
        summary.parts.total,
        summary.overview,
        summary.overview_labels,
        settings,
    )


# --- what is kept of an image that has gone by


class _Summary:
    """Counts, connected parts and a small picture of an image whose rows come and go."""

    def __init__(self, image_hw: tuple[int, int], num_classes: int) -> None:
        self._factor = factor = -(-max(image_hw) // OVERVIEW_SIDE)
        small_hw = -(-image_hw[0] // factor), -(-image_hw[1] // factor)
        self.rows, self._drawn = 0, 0
        self.pixels = np.zeros(num_classes, np.int64)
        self.parts = StreamedRegions(image_hw[1], keep=MAX_REGIONS)
        self.overview = np.zeros((*small_hw, 3), np.uint8)
        self.overview_labels = np.full(small_hw, UNLABELLED, np.int32)
        self._rows, self._columns = (
            np.minimum(np.arange(small) * factor + factor // 2, side - 1)
            for small, side in zip(small_hw, image_hw, strict=True)
        )
        self._shrink = Shrinker(factor, image_hw[0])

    def watched(self, bands: Iterator[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
        """The same bands, drawn small on the way."""
        for band in bands:
            small = self._shrink.add(band)
            self.overview[self._drawn : self._drawn + len(small)] = small
            self._drawn += len(small)
            yield band

    def add(self, labels: NDArray[np.int32], present: NDArray[np.float32]) -> None:
        """Take the next rows of labels with their presence, (h, W) each."""
        counts = np.bincount(labels.ravel() + 1, minlength=len(self.pixels) + 1)
        self.pixels += counts[1:]
        step = max(1, _PIXELS_AT_ONCE // labels.shape[1])
        for top in range(0, len(labels), step):
            self.parts.add(labels[top : top + step], present[top : top + step])
        first, last = np.searchsorted(self._rows, (self.rows, self.rows + len(labels)))
        self.overview_labels[first:last] = labels[self._rows[first:last] - self.rows][:, self._columns]
        self.rows += len(labels)
