"""Stored values to levels from 0 to 255: which range a picture uses, and how it is mapped.

* Unsigned integers of 1 to 16 bits state their range: [0, 2^bits - 1]. Above 8 bits the high byte is kept.
* Other integers and floats do not state it. The smallest of [0, 1] (floats only), [0, 255] and [0, 65535] that contains
  the values is taken. Interpolation overshoots, so the values may pass the end of a range by half of it, and 0 by a
  tenth of their maximum; what lies outside is clipped.
* A stretch maps two percentiles of the picture's own values to 0 and 255, all bands together, so that colours stay.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import check_number
from fgseg.errors import OptionError

__all__ = ["Levels", "check_stretch", "fitting_levels", "stated_levels", "stretched_levels", "value_range"]

log = logging.getLogger("fgseg")
Bands = Callable[[], Iterable[NDArray[Any]]]  # the values of a picture, from the top, each time it is called

_RANGES = (1, 255, 65_535)
_OVERSHOOT, _UNDERSHOOT = 0.5, 0.1  # shares of a range's end, and of the values' maximum
_SPARSE = 1 / 16  # of a range: 12 bits that are stored in 16 fill no more
_BINS = 65_536
_TINY, _HUGE = 1e-30, 1e30  # beyond these, float32 loses what is drawn


@dataclass(frozen=True)
class Levels:
    """A linear map of values to 0..255.

    Attributes:
        low: the value that becomes 0; smaller ones are clipped.
        high: the value that becomes 255; larger ones are clipped.
        shift: if not None, the number of low bits that are dropped instead.
    """

    low: float
    high: float
    shift: int | None = None

    def __call__(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """The levels of finite values.

        >>> Levels(0, 65_535, shift=8)(np.uint16([255, 256, 65_535])), Levels(0, 1)(np.array([0.5, 2]))
        (array([  0,   1, 255], dtype=uint8), array([128, 255], dtype=uint8))
        """
        if self.shift == 0 and values.dtype == np.uint8:
            return values
        if self.shift is not None:
            clipped = values if values.dtype.kind == "u" else np.clip(values, 0, int(self.high)).astype(np.uint16)
            return (clipped >> self.shift).astype(np.uint8)
        dtype = np.result_type(values.dtype, np.float32 if self.high - self.low < _HUGE else np.float64)
        # Halves, because the difference of two large values overflows.
        low, span = self.low / 2, self.high / 2 - self.low / 2
        with np.errstate(under="ignore", over="ignore"):  # what is out of the range is clipped
            scaled = (values.astype(dtype) / 2 - dtype.type(low)) * dtype.type(255 / span)
            levels: NDArray[np.uint8] = np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
        return levels

    def warn_if_dark(self, name: str, brightest: float) -> None:
        """Warn about a picture that fills a small part of its range, which looks black."""
        if 0 < brightest - self.low <= _SPARSE * (self.high - self.low):
            log.warning(
                "%s: its values reach %g, but %g is taken for white, so the picture is nearly black; "
                "--stretch 0,100 (in Python read_picture(..., stretch=(0, 100))) uses the range that it fills",
                name, brightest, self.high,
            )  # fmt: skip


def stated_levels(dtype: np.dtype[Any], bits: int) -> Levels | None:
    """The levels of unsigned integers of 1 to 16 bits and of bool; None for a dtype that does not state its range."""
    if dtype.kind not in "ub" or bits > 16:
        return None
    return Levels(0, 2**bits - 1, shift=bits - 8 if bits >= 8 else None)


def value_range(bands: Iterable[NDArray[Any]]) -> tuple[float, float] | None:
    """Smallest and largest finite value; None if there is none."""
    ends = [(values.min(), values.max()) for values in map(_finite, bands) if values.size]
    return (float(min(low for low, _ in ends)), float(max(high for _, high in ends))) if ends else None


def fitting_levels(dtype: np.dtype[Any], low: float, high: float) -> Levels | None:
    """The smallest range that contains values from `low` to `high`, by the rules of this module; None if none does.

    >>> fitting_levels(np.dtype(np.float32), 0.1, 1.0000001)
    Levels(low=0, high=1, shift=None)
    >>> fitting_levels(np.dtype(np.float32), -1, 1) is None
    True
    """
    if low < -_UNDERSHOOT * max(high, 0):
        return None
    for end in _RANGES[0 if dtype.kind == "f" else 1 :]:
        if high <= end * (1 + _OVERSHOOT * (dtype.kind == "f")):
            # Whole numbers keep their high byte, floats too, as files of 16 bits do.
            return Levels(0, end, shift=8 if end == _RANGES[-1] else None)
    return None


def stretched_levels(bands: Bands, stretch: tuple[float, float]) -> Levels:
    """The levels that map two percentiles of the values to 0 and 255.

    Args:
        bands: gives the values of the picture. It is called twice: for the range, and for the counts.
        stretch: (low, high) percentiles, 0 to 100. They are exact for integers that span less than 65,536 values, and
            within 1/65,536 of the range otherwise. Two that are one value give the whole range.
    """
    ends = value_range(bands())
    if ends is None or ends[1] / 2 - ends[0] / 2 < _TINY:  # one value, as far as it can be drawn
        low = ends[0] if ends else 0.0
        return Levels(low, low + max(1.0, abs(low)))
    counts, edges = _histogram(bands(), *ends)
    below = np.cumsum(counts)
    first, last = (int(np.searchsorted(below, max(1, share / 100 * below[-1]))) for share in stretch)
    low, high = float(edges[first]), float(edges[last if edges.size == counts.size else last + 1])
    return Levels(low, high) if high > low else Levels(*ends)


@np.errstate(under="ignore")
def _histogram(bands: Iterable[NDArray[Any]], low: float, high: float) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Counts of the finite values, and the value of each bin, or the edges of the bins if they hold several values."""
    finite: Iterator[NDArray[Any]] = map(_finite, bands)
    counts = np.zeros(_BINS, np.int64)
    first = next(finite)
    if first.dtype.kind in "iub" and high - low < _BINS:
        for values in (first, *finite):
            counts += np.bincount(values.astype(np.int64) - int(low), minlength=_BINS)
        return counts, np.arange(_BINS) + int(low)
    span = high / 2 - low / 2
    for values in (first, *finite):
        place = (values.astype(np.float64) / 2 - low / 2) * (_BINS / span)
        counts += np.bincount(np.minimum(place.astype(np.int64), _BINS - 1), minlength=_BINS)
    return counts, (low / 2 + np.arange(_BINS + 1) / _BINS * span) * 2


def _finite(values: NDArray[Any]) -> NDArray[Any]:
    """The finite values, as one axis."""
    return values[np.isfinite(values)] if values.dtype.kind == "f" else values.reshape(-1)


def check_stretch(stretch: Any) -> tuple[float, float] | None:
    """The percentiles as floats.

    Raises:
        OptionError: not two numbers from 0 to 100, the first below the second.
    """
    if stretch is None:
        return None
    if not isinstance(stretch, (tuple, list)) or len(stretch) != 2:
        raise OptionError(f"stretch: expected (LOW, HIGH) percentiles, got {stretch!r:.80}; say (2, 98) or (0, 100)")
    low, high = (check_number("stretch", share, low=0, high=100, hint="a percentile") for share in stretch)
    if low >= high:
        raise OptionError(f"stretch: expected LOW below HIGH, got {low:g} and {high:g}; say (2, 98) or (0, 100)")
    return low, high
