"""Connected parts of a label map that arrives in strips, measured without ever holding it.

A strip's own parts are found as in any picture; those that touch the row above are joined with what touches them there,
and a part that the next strip does not touch is finished. Held: a row, a strip, and sums of the parts still open.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.measure import label

from fgseg._checks import check_array
from fgseg.errors import ShapeError
from fgseg.types import UNLABELLED, Region

__all__ = ["RunningParts"]


@dataclass(frozen=True)
class _Sums:
    """A row a part.

    added: (P, 5) float64, its area, sums of score, row and column, and quarters of its Euler number; lowest, highest:
    (P, 2) int64 corners (row, column) of its box; peak: (P,) float32; owner: (P,) int64, its class.
    """

    added: NDArray[np.float64]
    lowest: NDArray[np.int64]
    highest: NDArray[np.int64]
    peak: NDArray[np.float32]
    owner: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.owner)

    def __getitem__(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> _Sums:
        return _Sums(self.added[rows], self.lowest[rows], self.highest[rows], self.peak[rows], self.owner[rows])

    def then(self, other: _Sums) -> _Sums:
        """These parts and others behind them."""
        pairs = ((getattr(self, name), getattr(other, name)) for name in self.__dataclass_fields__)
        return _Sums(*(np.concatenate(pair) for pair in pairs))

    def joined(self, group: NDArray[np.integer], count: int) -> _Sums:
        """Rows of the same group as one."""
        made = _no_parts(count)
        np.add.at(made.added, group, self.added)
        np.minimum.at(made.lowest, group, self.lowest)
        np.maximum.at(made.highest, group, self.highest)
        np.maximum.at(made.peak, group, self.peak)
        made.owner[group] = self.owner
        return made


class RunningParts:
    """The 8-connected parts of each class of a label map, strip by strip from the top."""

    def __init__(self, width: int, *, keep: int) -> None:
        """Take the width of the map in pixels and how many parts, the largest, are to be listed."""
        self.width, self.keep = width, keep
        self.count = 0  # parts finished
        self._top = 0  # rows seen
        self._open, self._finished = _no_parts(0), _no_parts(0)
        self._above = np.full(width, -1, np.int32)  # row of _open that each pixel of the last row belongs to

    def add(self, labels: NDArray[np.int32], presence: NDArray[np.float32]) -> None:
        """Take the next rows.

        Args:
            labels: (h, W) int32, class index or UNLABELLED.
            presence: (h, W) float32 in [0, 1], of each pixel's class.

        Raises:
            ShapeError: another width, or two shapes.
        """
        check_array("labels", labels, ("h", self.width), hint="every strip as wide as the map")
        check_array("presence", presence, labels.shape, hint="a score for each label")
        if not len(labels):
            raise ShapeError("labels: expected at least one row, got none")
        numbers, found = label(labels, background=UNLABELLED, connectivity=2, return_num=True)  # type: ignore[no-untyped-call]
        sums = self._open.then(_measured(numbers, presence, labels, found, self._top))
        # One numbering for both: -1 nothing, then the open parts, then the strip's.
        before = len(self._open)
        below = np.where(numbers > 0, numbers - 1 + before, -1).astype(np.int32, copy=False)
        rows = np.concatenate([self._above[None], below])
        group, count = _groups(rows[:2], sums.owner, len(sums))
        rows = np.append(group, np.int32(-1))[rows]
        sums = sums.joined(group, count)
        sums.added[:, 4] += _euler_quarters(rows, count)
        self._close(sums, rows[-1])
        self._top += len(labels)

    def table(self, names: Sequence[str]) -> tuple[Region, ...]:
        """The largest parts as `fgseg.regions.table.region_table` would list them, once every row was added.

        Args:
            names: of the classes, in label order.
        """
        below = np.stack([self._above, np.full(self.width, -1, np.int32)])
        last = self._open[np.arange(len(self._open))]
        last.added[:, 4] += _euler_quarters(below, len(last))
        everything = self._finished.then(last)
        largest = everything[np.argsort(-everything.added[:, 0], kind="stable")[: self.keep]]
        order = np.lexsort((largest.lowest[:, 1], largest.lowest[:, 0], -largest.added[:, 0], largest.owner))
        return tuple(_region(largest, index, names) for index in order)

    @property
    def total(self) -> int:
        """Parts so far, finished or not."""
        return self.count + len(self._open)

    def _close(self, sums: _Sums, last_row: NDArray[np.int32]) -> None:
        """Keep open what reaches the last row; of the others, the largest."""
        reaches = np.zeros(len(sums) + 1, bool)  # the last is that of -1, nothing
        reaches[last_row] = True
        reaches = reaches[:-1]
        self._open = sums[reaches]
        renamed = np.where(reaches, np.cumsum(reaches) - 1, -1)
        self._above = np.append(renamed, -1).astype(np.int32)[last_row]
        done = self._finished.then(sums[~reaches])
        self.count += int((~reaches).sum())
        if len(done) > 2 * self.keep:
            done = done[np.sort(np.argsort(-done.added[:, 0], kind="stable")[: self.keep])]
        self._finished = done


def _no_parts(count: int) -> _Sums:
    """Sums that nothing was added to."""
    return _Sums(
        np.zeros((count, 5)),
        np.full((count, 2), np.iinfo(np.int64).max),
        np.zeros((count, 2), np.int64),
        np.zeros(count, np.float32),
        np.zeros(count, np.int64),
    )


def _measured(
    numbers: NDArray[np.integer], presence: NDArray[np.float32], labels: NDArray[np.int32], count: int, top: int
) -> _Sums:
    """The sums of a strip's parts, gathered from horizontal runs: far fewer than pixels."""
    width = numbers.shape[1]
    ends = np.ones(numbers.shape, bool)
    ends[:, 1:] = numbers[:, 1:] != numbers[:, :-1]
    starts = np.flatnonzero(ends)
    length = np.diff(starts, append=numbers.size)
    part = numbers.ravel()[starts].astype(np.int64) - 1
    inside = part >= 0
    y, left = np.divmod(starts, width)
    y += top
    columns = length * (left + (length - 1) / 2)
    score = np.add.reduceat(presence.ravel(), starts, dtype=np.float64)
    peak = np.maximum.reduceat(presence.ravel(), starts)
    runs = _Sums(
        np.stack([length, score, y * length, columns, np.zeros(len(starts))], axis=1),
        np.stack([y, left], axis=1),
        np.stack([y + 1, left + length], axis=1),
        peak,
        labels.ravel()[starts].astype(np.int64),
    )
    return runs[inside].joined(part[inside], count)


def _groups(two_rows: NDArray[np.int32], owner: NDArray[np.int64], count: int) -> tuple[NDArray[np.int32], int]:
    """Which parts are one, since they touch between two rows and are of one class: (count,) group, their number."""
    above, below = two_rows
    pairs = np.concatenate(
        [np.stack([above, below]), np.stack([above[1:], below[:-1]]), np.stack([above[:-1], below[1:]])], axis=1
    )
    pairs = pairs[:, (pairs >= 0).all(axis=0)]
    pairs = pairs[:, owner[pairs[0]] == owner[pairs[1]]]
    graph = coo_array((np.ones(pairs.shape[1]), (pairs[0], pairs[1])), shape=(count, count))
    groups, group = connected_components(graph, directed=False)
    return group, int(groups)


def _euler_quarters(rows: NDArray[np.int32], count: int) -> NDArray[np.float64]:
    """Four times what the 2x2 windows between these rows add to the Euler number of each part: (count,).

    As in `fgseg.regions.table`, but windows may hold several parts here: each counts for itself, its pixels sharing the
    window's share between them.
    """
    padded = np.pad(rows, ((0, 0), (1, 1)), constant_values=-1)
    beside, under = padded[:, 1:] != padded[:, :-1], padded[1:] != padded[:-1]
    y, x = np.nonzero(beside[:-1] | beside[1:] | under[:, :-1])  # any other window holds one part or none
    corners = np.stack([padded[y, x], padded[y, x + 1], padded[y + 1, x + 1], padded[y + 1, x]])  # going round
    same = corners[:, None] == corners[None]
    alike = same.sum(axis=1)
    is_diagonal = (alike == 2) & np.stack([same[index, (index + 2) % 4] for index in range(4)])
    share = np.where(alike == 1, 1.0, np.where(alike == 3, -1 / 3, np.where(is_diagonal, -1.0, 0.0)))
    counted = corners >= 0
    return np.bincount(corners[counted], weights=share[counted], minlength=count).astype(np.float64, copy=False)


def _region(sums: _Sums, index: np.intp, names: Sequence[str]) -> Region:
    area, score, y, x, quarters = sums.added[index].tolist()
    (top, left), (bottom, right) = sums.lowest[index].tolist(), sums.highest[index].tolist()
    owner = int(sums.owner[index])
    return Region(
        class_name=names[owner],
        class_index=owner,
        box_xyxy=(left, top, right, bottom),
        area=int(area),
        centroid_yx=(y / area, x / area),
        mean_score=score / area,
        peak_score=float(sums.peak[index]),
        holes=1 - round(quarters / 4),
    )
