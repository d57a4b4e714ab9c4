"""Summaries of results of every size: classes with their pixels, the legend, classes.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgseg.drawing.colors import Color, class_colors
from fgseg.drawing.legend import with_legend
from fgseg.prompts.classes import PromptClass
from fgseg.types import unlabelled_value

__all__ = ["class_summaries", "classes_json", "found_names", "json_text", "with_class_legend"]


def class_summaries(names: Sequence[str], pixels: Sequence[int], image_hw: tuple[int, int]) -> list[dict[str, Any]]:
    """Index, name, pixels and share of the image of each class.

    >>> class_summaries(["red"], [2], (1, 4))
    [{'index': 0, 'name': 'red', 'pixels': 2, 'share': 0.5}]
    """
    total = image_hw[0] * image_hw[1]
    return [
        {"index": index, "name": name, "pixels": count, "share": round(count / total, 6)}
        for index, (name, count) in enumerate(zip(names, pixels, strict=True))
    ]


def found_names(names: Sequence[str], pixels: Sequence[int]) -> str:
    """The classes that hold a pixel, separated by commas.

    >>> found_names(["red", "blue"], [3, 0]), found_names(["red"], [0])
    ('red', 'none')
    """
    return ", ".join(name for name, count in zip(names, pixels, strict=True) if count) or "none"


def with_class_legend(
    picture: NDArray[np.uint8], names: Sequence[str], colors: Sequence[Color], pixels: Sequence[int]
) -> NDArray[np.uint8]:
    """The picture with a legend of the classes that hold a pixel; the picture itself where none does."""
    present = [index for index, count in enumerate(pixels) if count]
    if not present:
        return picture
    return with_legend(picture, [names[index] for index in present], [colors[index] for index in present])


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
