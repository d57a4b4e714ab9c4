"""Images that arrive in bands, from top to bottom, with any number of rows in a band."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgseg.images.resizing import resize_image

__all__ = ["RowBuffer", "Shrinker"]


class Shrinker:
    """Shrinks an image that arrives in bands: each pixel of the result is the mean of factor x factor pixels."""

    def __init__(self, factor: int, height: int) -> None:
        """Take the whole number to shrink by and the height of the image in pixels."""
        self._factor, self._missing = factor, height
        self._rest: NDArray[np.uint8] | None = None

    def add(self, band: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The rows (n, w, 3) of the result that this band completes; the last pixels are repeated at the border."""
        if self._factor == 1:
            return band
        rows = band if self._rest is None else np.concatenate([self._rest, band])
        self._missing -= len(band)
        used = len(rows) // self._factor * self._factor if self._missing else len(rows)
        self._rest = rows[used:]
        height, width = -(-used // self._factor), -(-band.shape[1] // self._factor)
        if not height:
            return np.empty((0, width, 3), np.uint8)
        missing = [(0, -used % self._factor), (0, -band.shape[1] % self._factor), (0, 0)]
        return resize_image(np.pad(rows[:used], missing, mode="edge"), (height, width), antialias=True)


class RowBuffer:
    """The rows of an array that arrives in bands, as long as they are needed."""

    def __init__(self, bands: Iterator[NDArray[Any]]) -> None:
        """Take the bands, (h, W, ...) each, at least one."""
        self._bands = bands
        self._held: NDArray[Any] | None = None
        self._top = 0

    def take(self, top: int, bottom: int) -> NDArray[Any]:
        """Rows top..bottom-1; `top` never decreases from call to call, and the rows above it are dropped."""
        held = next(self._bands) if self._held is None else self._held
        parts, self._top = [held[top - self._top :]], top
        while sum(map(len, parts)) < bottom - top:
            parts.append(next(self._bands))
        self._held = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return self._held[: bottom - top]
