"""Masks that are computed once: a saved result reads each of them several times."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fgseg.types import LazyMaps

__all__ = ["KEPT_BYTES", "KeptMasks"]

KEPT_BYTES = 2**26
"""Bytes of masks that a result keeps, one bit per pixel: 27 masks of an image of 20 megapixels."""


class KeptMasks(LazyMaps[np.bool_]):
    """Class name -> (H, W) bool; a mask is kept as bits after it is first computed, up to `KEPT_BYTES` in all.

    >>> calls = []
    >>> masks = KeptMasks(["red"], lambda index: calls.append(index) or np.array([[True, False]]))
    >>> masks["red"], masks["red"], calls
    (array([[ True, False]]), array([[ True, False]]), [0])
    """

    def __init__(self, names: Sequence[str], compute: Callable[[int], NDArray[np.bool_]]) -> None:
        """Keep `names` (unique) and `compute`, which makes the mask of the name with a given index."""
        self._bits: dict[int, tuple[NDArray[np.uint8], tuple[int, ...]]] = {}
        self._kept_bytes = 0
        self._make = compute
        super().__init__(names, self._mask)

    def _mask(self, index: int) -> NDArray[np.bool_]:
        if index in self._bits:
            bits, shape = self._bits[index]
            return np.unpackbits(bits, count=shape[0] * shape[1]).view(np.bool_).reshape(shape)
        mask = self._make(index)
        bits = np.packbits(mask)
        if self._kept_bytes + bits.nbytes <= KEPT_BYTES:
            self._bits[index] = bits, mask.shape
            self._kept_bytes += bits.nbytes
        return mask
