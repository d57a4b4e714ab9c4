"""COCO's compressed run-length code of masks, which formats write and data sets read."""

import numpy as np
from numpy.typing import NDArray

from fgseg.errors import OptionError

__all__ = ["MOST_FIELDS", "run_lengths"]

MOST_FIELDS = 7
"""Characters of a number at most; six hold all pixels of an image."""


def run_lengths(counts: bytes) -> NDArray[np.int64]:
    """Lengths of the runs of pixels outside, inside, outside and so on, down the columns of a mask.

    A character holds five bits, and from the fourth run on numbers are differences to the last run but one.
    pycocotools' decoder (2.0.11) is not used, because numpy 2 warns of it. The format is that of rleFrString in
    cocoapi's maskApi.c.

    Args:
        counts: the code.

    Returns:
        The lengths, as they are written; they may be negative or too many.

    Raises:
        OptionError: bytes that are no such code.

    >>> run_lengths(b"01c0")
    array([ 0,  1, 19])
    """
    bits = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    last = np.flatnonzero(bits & 0x20 == 0)  # the last character of each number
    first = np.concatenate([[0], last[:-1] + 1])
    ends_well = len(last) and last[-1] == len(bits) - 1 and (last - first < MOST_FIELDS).all()
    if not ends_well or ((bits < 0) | (bits > 63)).any():
        raise OptionError(f"counts: expected COCO's string of run lengths, got {counts!r:.60}; encode the mask again")
    shifts = 5 * (np.arange(len(bits)) - np.repeat(first, last - first + 1))
    runs: NDArray[np.int64] = np.add.reduceat((bits & 0x1F) << shifts, first)
    runs -= np.where(bits[last] & 0x10, np.int64(1) << (shifts[last] + 5), 0)  # negative: only a difference can be
    for start in (1, 2):
        runs[start::2] = np.cumsum(runs[start::2])
    return runs
