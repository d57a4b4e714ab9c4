"""Connected components of a label map that arrives in strips, measured without holding the whole map.

The components of a strip are found as in any image. Those that touch the row above are merged with what they touch
there, and a component that the next strip does not touch is finished. Only a row, a strip, and the measures of
components are held.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fgseg.regions.components import labelled_components
from fgseg.regions.measures import COMPONENT, euler_quarters, measured, merged, regions_of
from fgseg.types import Region

__all__ = ["StreamedRegions"]


class StreamedRegions:
    """The 8-connected components of each class of a label map, added strip by strip from the top."""

    def __init__(self, width: int, *, keep: int) -> None:
        """Take the width of the map in pixels and how many components, the largest, are listed."""
        self.width, self.keep = width, keep
        self._finished_count = 0
        self._top = 0  # rows seen
        self._open, self._finished = np.empty(0, COMPONENT), np.empty(0, COMPONENT)
        self._above = np.full(width, -1, np.int32)  # row of _open that each pixel of the last row belongs to

    def add(self, labels: NDArray[np.int32], presence: NDArray[np.float32]) -> None:
        """Take the next rows.

        Args:
            labels: (h, W) int32, class index or UNLABELLED; h is at least 1.
            presence: (h, W) float32 in [0, 1], of each pixel's class.
        """
        components, found = labelled_components(labels, connectivity=8)
        new = measured(components, presence, labels, found, corner_yx=(self._top, 0))
        rows = np.concatenate([self._open, new])
        # One numbering for both: -1 for no component, then the open components, then the strip's.
        below = np.where(components > 0, components - 1 + len(self._open), -1).astype(np.int32, copy=False)
        pixels = np.concatenate([self._above[None], below])
        group, count = _groups(pixels[:2], rows["class_index"], len(rows))
        pixels = np.append(group, np.int32(-1))[pixels]
        rows = merged(rows, group, count)
        rows["euler_quarters"] += euler_quarters(pixels, count)
        self._close(rows, pixels[-1])
        self._top += len(labels)

    def table(self, names: Sequence[str]) -> tuple[Region, ...]:
        """The largest components as `fgseg.regions.table.region_table` would list them, once every row was added.

        Args:
            names: of the classes, in label order.
        """
        below = np.stack([self._above, np.full(self.width, -1, np.int32)])
        last = self._open.copy()
        last["euler_quarters"] += euler_quarters(below, len(last))
        return regions_of(_largest(np.concatenate([self._finished, last]), self.keep), names)

    @property
    def total(self) -> int:
        """The number of components so far, finished or not."""
        return self._finished_count + len(self._open)

    def _close(self, rows: NDArray[np.void], last_row: NDArray[np.int32]) -> None:
        """Keep open the components that reach the last row; of the others, keep the largest."""
        is_open = np.zeros(len(rows) + 1, bool)  # the last entry is that of -1, no component
        is_open[last_row] = True
        is_open = is_open[:-1]
        self._open = rows[is_open]
        renumbered = np.where(is_open, np.cumsum(is_open) - 1, -1)
        self._above = np.append(renumbered, -1).astype(np.int32)[last_row]
        self._finished_count += int((~is_open).sum())
        self._finished = np.concatenate([self._finished, rows[~is_open]])
        if len(self._finished) > 2 * self.keep:
            self._finished = _largest(self._finished, self.keep)


def _largest(rows: NDArray[np.void], count: int) -> NDArray[np.void]:
    """The rows of the largest components, in their order; of equal areas the first."""
    return rows[np.sort(np.argsort(-rows["area"], kind="stable")[:count])]


def _groups(two_rows: NDArray[np.int32], classes: NDArray[np.int64], count: int) -> tuple[NDArray[np.int32], int]:
    """The components that are one because they touch between two rows: (count,) group of each, number of groups."""
    above, below = two_rows
    pairs = np.concatenate(
        [np.stack([above, below]), np.stack([above[1:], below[:-1]]), np.stack([above[:-1], below[1:]])], axis=1
    )
    pairs = pairs[:, (pairs >= 0).all(axis=0)]
    pairs = pairs[:, classes[pairs[0]] == classes[pairs[1]]]
    graph = coo_array((np.ones(pairs.shape[1]), (pairs[0], pairs[1])), shape=(count, count))
    groups, group = connected_components(graph, directed=False)
    return group, int(groups)
