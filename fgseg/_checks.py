"""Argument checks: refuse at the door, saying argument, expected, got and what to do."""

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgseg.errors import OptionError, ShapeError

__all__ = [
    "check_array",
    "check_choice",
    "check_choices",
    "check_image",
    "check_labels",
    "check_mask",
    "check_number",
    "check_side",
    "check_size",
    "check_whole",
    "describe",
]


def describe(value: Any) -> str:
    """A short account of a value for an error message: type, shape and dtype where it has them."""
    shape = getattr(value, "shape", None)
    if shape is None:
        return f"{type(value).__name__} {' '.join(repr(value).split()):.60}"
    return f"{type(value).__name__} of shape {tuple(shape)} and dtype {value.dtype}"


def check_array(name: str, value: Any, axes: Sequence[str | int], *, hint: str = "") -> None:
    """Refuse anything but an array (numpy or torch) with these axes.

    Args:
        name: the argument's name, for the message.
        value: what the caller gave.
        axes: one entry an axis: a letter for any size (the same letter, the same size), a number for
            exactly that size.
        hint: what to do about it, added to the message.

    Raises:
        ShapeError: not an array, another number of axes, or an axis of another size.
    """
    expected = "(" + ", ".join(str(axis) for axis in axes) + ")"
    sizes: dict[str, int] = {}
    shape = getattr(value, "shape", None)
    fits = shape is not None and len(shape) == len(axes)
    for axis, size in zip(axes, shape or (), strict=False):
        wanted = axis if isinstance(axis, int) else sizes.setdefault(axis, size)
        fits = fits and size == wanted
    if not fits:
        tail = f"; {hint}" if hint else ""
        raise ShapeError(f"{name}: expected an array of shape {expected}, got {describe(value)}{tail}")


def check_image(name: str, value: Any) -> None:
    """Refuse anything but an (H, W, 3) uint8 numpy array with at least one pixel."""
    is_image = isinstance(value, np.ndarray) and value.ndim == 3 and value.shape[2] == 3
    if not (is_image and value.dtype == np.uint8 and value.size):
        raise ShapeError(
            f"{name}: expected an RGB image, (H, W, 3) uint8 with at least one pixel, got {describe(value)}; "
            "fgseg.images.reading.read_image makes one of a file, a PIL image or a grey, 16-bit or float array"
        )


def check_mask(name: str, value: Any) -> None:
    """Refuse anything but an (H, W) bool numpy array."""
    if not (isinstance(value, np.ndarray) and value.ndim == 2 and value.dtype == np.bool_):
        raise ShapeError(f"{name}: expected a mask, (H, W) bool, got {describe(value)}; compare with a threshold")


def check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """Refuse a word that is not one of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise OptionError(f"{name}: expected one of {', '.join(choices)}, got {value!r:.200}")


def check_choices(name: str, values: Any, choices: Collection[str]) -> None:
    """Refuse anything but a list of words that are among the choices."""
    if isinstance(values, str) or not isinstance(values, Collection):
        raise OptionError(f"{name}: expected a list of some of {', '.join(choices)}, got {describe(values)}")
    for value in values:
        check_choice(name, value, choices)


def check_number(name: str, value: Any, *, low: float, high: float, hint: str = "") -> float:
    """The value as Python's float; anything but a finite number in [low, high] is refused."""
    if not (_is_number(value) and low <= value <= high and math.isfinite(value)):
        raise OptionError(_expected(name, "a number", value, low, high, hint))
    return float(value)


def check_whole(name: str, value: Any, *, low: int, high: int, hint: str = "") -> int:
    """The value as Python's int; anything but a whole number in [low, high] is refused."""
    if not (_is_number(value) and low <= value <= high and value == int(value)):
        raise OptionError(_expected(name, "a whole number", value, low, high, hint))
    return int(value)


def _is_side(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value >= 1)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _expected(name: str, what: str, value: Any, low: float, high: float, hint: str) -> str:
    return f"{name}: expected {what} from {low:g} to {high:g}, got {value!r}{f'; {hint}' if hint else ''}"


def check_side(name: str, side: int) -> None:
    """Refuse anything but a whole number of at least 1."""
    if not _is_side(side):
        raise OptionError(f"{name}: expected a whole number of at least 1, got {side!r}")


def check_size(name: str, size_hw: tuple[int, int]) -> tuple[int, int]:
    """The size as Python's ints; anything but (height, width) in whole numbers of at least 1 is refused."""
    is_pair = isinstance(size_hw, Sequence) and len(size_hw) == 2
    if not (is_pair and all(map(_is_side, size_hw))):
        raise OptionError(f"{name}: expected (height, width), whole numbers of at least 1, got {size_hw!r:.100}")
    return int(size_hw[0]), int(size_hw[1])


def check_labels(labels: NDArray[np.int32]) -> None:
    """Refuse anything but an (H, W) int32 label map."""
    check_array("labels", labels, ("H", "W"))
    if labels.dtype != np.int32:
        raise ShapeError(f"labels: expected int32, got {labels.dtype}; convert them with astype(np.int32)")
