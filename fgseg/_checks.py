"""Argument checks. The message of each error names the argument, what was expected, what was given and what to do."""

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgseg.errors import OptionError, ShapeError

__all__ = [
    "check_array",
    "check_boxes",
    "check_choice",
    "check_choices",
    "check_color",
    "check_image",
    "check_integers",
    "check_labels",
    "check_mask",
    "check_number",
    "check_shares",
    "check_side",
    "check_size",
    "check_whole",
    "describe",
]


def describe(value: Any) -> str:
    """A short description of a value for an error message: its type, with shape and dtype or else its repr."""
    shape = getattr(value, "shape", None)
    if shape is None:
        return f"{type(value).__name__} {' '.join(repr(value).split()):.60}"
    return f"{type(value).__name__} of shape {tuple(shape)} and dtype {getattr(value, 'dtype', 'unknown')}"


def check_array(name: str, value: Any, axes: Sequence[str | int], *, hint: str = "") -> None:
    """Refuse anything but an array (numpy or torch) with these axes.

    Args:
        name: the argument's name, for the message.
        value: the argument.
        axes: one entry per axis. A letter stands for any size, and the same letter for the same size; a number
            stands for exactly that size.
        hint: what the caller can do, added to the message.

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
        raise ShapeError(f"{name}: expected an array of shape {expected}, got {describe(value)}{_tail(hint)}")


def check_image(name: str, value: Any) -> None:
    """Refuse anything but an (H, W, 3) uint8 numpy array with at least one pixel."""
    is_image = isinstance(value, np.ndarray) and value.ndim == 3 and value.shape[2] == 3
    if not (is_image and value.dtype == np.uint8 and value.size):
        raise ShapeError(
            f"{name}: expected an RGB image, (H, W, 3) uint8 with at least one pixel, got {describe(value)}; "
            "fgseg.images.read_image converts a file, a PIL image or a grey, 16-bit or float array"
        )


def check_mask(name: str, value: Any) -> None:
    """Refuse anything but an (H, W) bool numpy array."""
    if not (isinstance(value, np.ndarray) and value.ndim == 2 and value.dtype == np.bool_):
        raise ShapeError(f"{name}: expected a mask, (H, W) bool, got {describe(value)}; compare with a threshold")


def check_labels(labels: NDArray[np.int32]) -> None:
    """Refuse anything but an (H, W) int32 label map."""
    check_array("labels", labels, ("H", "W"))
    if labels.dtype != np.int32:
        raise ShapeError(f"labels: expected int32, got {labels.dtype}; convert them with astype(np.int32)")


def check_integers(name: str, values: Any, *, low: int, high: int, hint: str = "") -> None:
    """Refuse anything but a numpy array of integers, of any shape, from `low` to `high`.

    Raises:
        ShapeError: not a numpy array, another dtype, or a value out of range. An empty array passes.
    """
    if not (isinstance(values, np.ndarray) and np.issubdtype(values.dtype, np.integer)):
        raise ShapeError(f"{name}: expected a numpy array of integers, got {describe(values)}{_tail(hint)}")
    if values.size and not (low <= values.min() and values.max() <= high):
        raise ShapeError(
            f"{name}: expected values from {low} to {high}, got {values.min()} to {values.max()}{_tail(hint)}"
        )


def check_shares(name: str, values: NDArray[np.floating], *, slack: float = 0, hint: str = "") -> None:
    """Refuse an array with NaN or a value outside [0, 1] by more than `slack`. An empty array passes."""
    if values.size and not (values.min() >= -slack and values.max() <= 1 + slack):  # NaN compares false
        raise ShapeError(f"{name}: expected values in [0, 1], got {values.min():g} to {values.max():g}{_tail(hint)}")


def check_boxes(name: str, boxes_xyxy: Any, *, image_hw: tuple[int, int] | None = None) -> None:
    """Refuse anything but an (N, 4) array, numpy or torch, of boxes (left, top, right, bottom).

    Args:
        name: the argument's name, for the message.
        boxes_xyxy: the argument; each row needs left < right and top < bottom, all finite.
        image_hw: (height, width) that the boxes must lie in; None accepts boxes that reach outside.

    Raises:
        ShapeError: other axes, or a row that is not such a box.
    """
    check_array(name, boxes_xyxy, ("N", 4), hint="one row (left, top, right, bottom) for each box")
    left, top, right, bottom = boxes_xyxy.T
    # NaN compares false.
    fits = (left < right) & (right - left < math.inf) & (top < bottom) & (bottom - top < math.inf)
    where = "finite numbers"
    if image_hw is not None:
        height, width = image_hw
        fits = fits & (left >= 0) & (top >= 0) & (right <= width) & (bottom <= height)
        where = f"a box within the image, {width} pixels wide and {height} high"
    if not bool(fits.all()):
        row = fits.tolist().index(False)
        raise ShapeError(
            f"{name}: expected {where} in row {row}, with left < right and top < bottom, "
            f"got {boxes_xyxy[row].tolist()}; give (left, top, right, bottom), not (x, y, width, height)"
        )


def check_color(name: str, color: Any) -> None:
    """Refuse anything but (red, green, blue), whole numbers from 0 to 255."""
    is_rgb = len(color) == 3 and all(isinstance(level, (int, np.integer)) and 0 <= level <= 255 for level in color)
    if not is_rgb:
        raise OptionError(f"{name}: expected (red, green, blue), whole numbers from 0 to 255, got {color!r}")


def check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """Refuse anything but one of the choices."""
    if not isinstance(value, str) or value not in choices:
        raise OptionError(f"{name}: expected one of {', '.join(choices)}, got {value!r:.200}")


def check_choices(name: str, values: Any, choices: Collection[str]) -> None:
    """Refuse anything but a list whose entries are all among the choices."""
    if isinstance(values, str) or not isinstance(values, Collection):
        raise OptionError(f"{name}: expected a list of some of {', '.join(choices)}, got {describe(values)}")
    for value in values:
        check_choice(name, value, choices)


def check_number(name: str, value: Any, *, low: float, high: float, hint: str = "") -> float:
    """The value as Python's float. Anything but a finite number in [low, high] is refused."""
    if not (_is_number(value) and low <= value <= high and math.isfinite(value)):
        raise OptionError(_out_of_range(name, "a number", value, low, high, hint))
    return float(value)


def check_whole(name: str, value: Any, *, low: int, high: int, hint: str = "") -> int:
    """The value as Python's int. Anything but a whole number in [low, high] is refused."""
    if not (_is_number(value) and low <= value <= high and value == int(value)):
        raise OptionError(_out_of_range(name, "a whole number", value, low, high, hint))
    return int(value)


def check_side(name: str, side: int) -> None:
    """Refuse anything but an integer of at least 1."""
    if not _is_side(side):
        raise OptionError(f"{name}: expected a whole number of at least 1, got {side!r}")


def check_size(name: str, size_hw: tuple[int, int]) -> tuple[int, int]:
    """The size as Python's ints. Anything but (height, width) in integers of at least 1 is refused."""
    is_pair = isinstance(size_hw, Sequence) and len(size_hw) == 2
    if not (is_pair and all(map(_is_side, size_hw))):
        raise OptionError(f"{name}: expected (height, width), whole numbers of at least 1, got {size_hw!r:.100}")
    return int(size_hw[0]), int(size_hw[1])


def _is_side(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value >= 1)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _out_of_range(name: str, what: str, value: Any, low: float, high: float, hint: str) -> str:
    return f"{name}: expected {what} from {low:g} to {high:g}, got {value!r}{_tail(hint)}"


def _tail(hint: str) -> str:
    return f"; {hint}" if hint else ""
