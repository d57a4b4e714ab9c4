"""Summaries of results of every size: classes with their pixels, the legend, classes.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgseg.drawing.colors import Color, class_colors
from fgseg.drawing.legend import with_legend
from fgseg.formats.tables import regions_json
from fgseg.prompts.classes import PromptClass
from fgseg.types import Region, unlabelled_value

__all__ = ["ClassResult", "classes_json", "json_text"]


class ClassResult:
    """What results of every size tell of their classes; the base of `Segmentation` and `LargeSegmentation`."""

    prompts: tuple[PromptClass, ...]
    settings: Mapping[str, Any]

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order."""
        return tuple(prompt.name for prompt in self.prompts)

    @cached_property
    def colors(self) -> tuple[Color, ...]:
        """(red, green, blue) of each class: its own, or the palette's."""
        return class_colors(self.prompts)

    def _found(self, pixels: Sequence[int]) -> str:
        """The classes that hold a pixel, separated by commas."""
        return ", ".join(name for name, count in zip(self.classes, pixels, strict=True) if count) or "none"

    def _with_legend(self, picture: NDArray[np.uint8], pixels: Sequence[int]) -> NDArray[np.uint8]:
        """The picture with a legend of the classes that hold a pixel; the picture itself where none does."""
        present = [index for index, count in enumerate(pixels) if count]
        if not present:
            return picture
        names = [self.classes[index] for index in present]
        return with_legend(picture, names, [self.colors[index] for index in present])

    def _summary(
        self, image_hw: tuple[int, int], mode: str, pixels: Sequence[int], regions: Sequence[Region], *,
        unlabelled_pixels: int, no_data_pixels: int, **more: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """A summary for JSON: size, mode, classes with their pixels and share of the data, regions, settings."""
        height, width = image_hw
        with_data = max(1, height * width - no_data_pixels)
        classes = [
            {"index": index, "name": name, "pixels": count, "share": round(count / with_data, 6)}
            for index, (name, count) in enumerate(zip(self.classes, pixels, strict=True))
        ]
        tables = {"classes": classes, "regions": json.loads(regions_json(regions))}
        sizes = {
            "height": height, "width": width, "unlabelled_pixels": unlabelled_pixels, "no_data_pixels": no_data_pixels
        }  # fmt: skip
        return {**sizes, "mode": mode, **tables, **more, "settings": dict(self.settings)}


def classes_json(prompts: Sequence[PromptClass]) -> str:
    """What the values of a label map stand for, as the text of classes.json."""
    classes = [
        {"index": index, "name": prompt.name, "prompts": list(prompt.synonyms), "color": list(color)}
        for index, (prompt, color) in enumerate(zip(prompts, class_colors(prompts), strict=True))
    ]
    return json_text({"unlabelled": unlabelled_value(len(prompts)), "classes": classes})


def json_text(value: Any) -> str:
    """JSON as it is written to files: indented, in Unicode, with a line end."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
