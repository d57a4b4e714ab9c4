"""The argmax of bilinear score maps on every pixel, without computing all the maps; used by `upsample.label_map`.

Score maps are sampled where torch's ``interpolate(align_corners=False)`` samples them: pixel y of H lies on the
grid at ``(y + 0.5) * Gh / H - 0.5``, clamped to the outermost patch centres. Everything runs in torch, on any
device.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from fgseg.upsample.tensors import Values, stream_of, to_device

__all__ = ["Axis", "axes", "compare_blocks", "compare_maps", "compare_stacks", "joined", "sample", "top_two"]

# A prompt may be dropped only where another is above it by more than the rounding error of float32. A bilinear value of
# four numbers of size m takes six roundings of m * 2^-24; two values at pixels and two at corners are compared.
_MARGIN = 2.0**-18
# Sides, in pixels, of the blocks that prompts are dropped in: first coarse blocks, then fine blocks within them.
# Fastest of 64..256 and 8..32 on 32x48 grids at 1080x1920 and 2160x3840.
_COARSE, _FINE = 128, 16
# Pixels, and pairs of prompt and block, processed at a time: bounds memory at any number of prompts.
_PIXELS, _PAIRS = 3 * 2**16, 2**18
_STACKED = 2**24  # scores on pixels that a GPU holds at a time, or those of one map if that is more


@dataclass(frozen=True)
class Axis:
    """The place of the pixels of one image axis between patches: ``value = low + weight * (high - low)``.

    low, high: (N,) int64 indexes of neighbouring patches, equal beyond the outermost centres; weight: (N,)
    float32 in [0, 1).
    """

    low: torch.Tensor
    high: torch.Tensor
    weight: torch.Tensor

    def at(self, pixels: torch.Tensor) -> Axis:
        """The axis at some of the pixels, in the shape of `pixels`."""
        return Axis(self.low[pixels], self.high[pixels], self.weight[pixels])


@lru_cache(maxsize=32)  # images of one size share it, so that they send nothing to a GPU
def _axis(patches: int, pixels: int, device: torch.device, stream: int) -> Axis:
    # In whole numbers, because a float32 position on a wide canvas, and so the value there, is off by 1e-5.
    position = (2 * np.arange(pixels) + 1) * patches - pixels
    below, weight = np.divmod(position, 2 * pixels)
    low, high = np.clip(below, 0, None), np.clip(below + 1, None, patches - 1)
    tensors = (low, high, (weight / (2 * pixels)).astype(np.float32))
    return Axis(*(to_device(torch.from_numpy(tensor), device) for tensor in tensors))


def axes(grids: torch.Tensor, image_hw: tuple[int, int]) -> tuple[Axis, Axis]:
    """Rows and columns of an image under (..., h, w) grids."""
    rows, columns = grids.shape[-2:]
    place = grids.device, stream_of(grids.device)
    return _axis(rows, image_hw[0], *place), _axis(columns, image_hw[1], *place)


def sample(grids: torch.Tensor, rows: Axis, columns: Axis) -> torch.Tensor:
    """Grids (..., h, w) at the crossings of some pixel rows and columns: (..., R, C)."""
    left, right = grids.index_select(-1, columns.low), grids.index_select(-1, columns.high)
    wide = left.lerp_(right, columns.weight)
    above, below = wide.index_select(-2, rows.low), wide.index_select(-2, rows.high)
    return above.lerp_(below, rows.weight[:, None])


def compare_maps(grids: torch.Tensor, image_hw: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels and best scores by a running maximum over whole score maps, one at a time."""
    rows, columns = axes(grids, image_hw)
    best = sample(grids[0], rows, columns)
    labels = torch.zeros(image_hw, dtype=torch.int32, device=grids.device)
    for index in range(1, len(grids)):
        score_map = sample(grids[index], rows, columns)
        labels.masked_fill_(score_map > best, index)  # strict: an equal score leaves the pixel to the lower index
        torch.maximum(best, score_map, out=best)
    return labels, best


def top_two(maps: Iterable[Values]) -> tuple[Any, Values, Values]:
    """The largest and the second largest of score maps that arrive one after another.

    Args:
        maps: (H, W) float32, at least one, all tensors or all arrays.

    Returns:
        (H, W) each, of the kind of the maps: int32 index of the largest map, ties to the lowest; its value; and that of
        the second largest, minus infinity where there is one map.
    """
    remaining = iter(maps)
    best = next(remaining)
    lib: Any = torch if isinstance(best, torch.Tensor) else np
    winner, second = lib.zeros_like(best, dtype=lib.int32), lib.full_like(best, -lib.inf)
    for index, score_map in enumerate(remaining, start=1):
        winner[score_map > best] = index  # strict: an equal score leaves the pixel to the lower index
        second = lib.maximum(second, lib.minimum(score_map, best))
        best = lib.maximum(best, score_map)
    return winner, best, second


def compare_stacks(grids: torch.Tensor, image_hw: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels and best scores by a running maximum over stacks of whole score maps, as many as _STACKED allows.

    For GPUs, on which a few large steps are faster than many small ones. Grids (T, B, h, w) of B images give labels and
    scores (B, H, W).
    """
    rows, columns = axes(grids, image_hw)
    at_once = max(1, _STACKED // (math.prod(grids.shape[1:-2]) * image_hw[0] * image_hw[1]))
    stacks = (sample(some, rows, columns) for some in torch.split(grids, at_once))
    # `max` may return the index of any map that ties.
    return joined((maps.argmax(0).int(), maps.amax(0), len(maps)) for maps in stacks)


def joined(found: Iterable[tuple[torch.Tensor, torch.Tensor, int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels and best scores of all prompts, from those of consecutive prompts and how many these are."""
    remaining = iter(found)
    labels, best, seen = next(remaining)
    for later_labels, later_best, count in remaining:
        labels = torch.where(later_best > best, later_labels + seen, labels)  # strict, as above
        best = torch.maximum(best, later_best)
        seen += count
    return labels, best


@dataclass(frozen=True)
class _Blocks:
    """Consecutive pixel intervals of one axis, each between the same two patches.

    edges: (B + 1,) int64, the first pixel of each block and, last, the end.
    """

    axis: Axis
    edges: torch.Tensor

    def __len__(self) -> int:
        return len(self.edges) - 1

    def split(self, size: int) -> _Blocks:
        """Each block cut into the same number of parts, at most `size` pixels long if no part becomes empty.

        Shorter blocks have shorter parts.
        """
        lengths = self.edges.diff()
        parts = min(math.ceil(int(lengths.max()) / size), int(lengths.min()))
        steps = torch.arange(parts, device=lengths.device)
        inner = self.edges[:-1, None] + lengths[:, None] * steps // parts
        return _Blocks(self.axis, torch.cat([inner.flatten(), self.edges[-1:]]))

    def ends(self) -> torch.Tensor:
        """The first and the last pixel of each block: (2, B)."""
        return torch.stack([self.edges[:-1], self.edges[1:] - 1])

    def pixels(self) -> torch.Tensor:
        """The pixels of each block, the last one repeated up to the longest block: (B, longest)."""
        longest = int(self.edges.diff().max())
        inside = self.edges[:-1, None] + torch.arange(longest, device=self.edges.device)
        return torch.minimum(inside, self.edges[1:, None] - 1)


def _blocks(axis: Axis) -> _Blocks:
    """The cells between patch centres that hold pixels, cut to the coarse size."""
    cell = (axis.low + axis.high).cpu().numpy()
    starts = np.flatnonzero(np.diff(cell, prepend=-1))
    edges = [
        first + (stop - first) * part // parts
        for first, stop in pairwise([*starts.tolist(), len(cell)])
        for parts in [math.ceil((stop - first) / _COARSE)]
        for part in range(parts)
    ]
    return _Blocks(axis, torch.tensor([*edges, len(cell)], device=axis.low.device))


def compare_blocks(grids: torch.Tensor, image_hw: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels and best scores by dropping, block by block, the prompts that cannot win.

    A prompt that is above all others at the four patches around a block wins the whole block, and its label and score
    are read from the grid. On a canvas stitched from windows this is so nearly everywhere. In the other blocks only the
    prompts that can win are compared.
    """
    grids = grids.contiguous()
    rows, columns = (_blocks(axis) for axis in axes(grids, image_hw))
    margin = _MARGIN * max(abs(float(end)) for end in grids.aminmax())  # `abs` would hold a copy
    winner, highest = _clear_winners(grids, margin)
    best = sample(highest, rows.axis, columns.axis)
    labels = winner.index_select(1, columns.axis.low).index_select(0, rows.axis.low)
    undecided = (~_has_one_winner(winner, rows, columns)).flatten().nonzero()[:, 0]
    at_a_time = max(1, min(_PAIRS // len(grids), _PIXELS * len(rows) * len(columns) // labels.numel()))
    for start in range(0, len(undecided), at_a_time):
        candidates = _split(_candidates(grids, rows, columns, undecided[start : start + at_a_time], margin), margin)
        _write_winners(candidates, labels, best)
    return labels, best


def _has_one_winner(winner: torch.Tensor, rows: _Blocks, columns: _Blocks) -> torch.Tensor:
    """(blocks down, blocks across) bool: the four patches around a block have the same winner."""
    row, column = rows.axis.at(rows.edges[:-1]), columns.axis.at(columns.edges[:-1])
    above, below = winner.index_select(0, row.low), winner.index_select(0, row.high)
    above = torch.where(above == below, above, -1)
    left, right = above.index_select(1, column.low), above.index_select(1, column.high)
    return (left == right) & (left >= 0)


@dataclass(frozen=True)
class _Candidates:
    """Pairs of a block and a prompt that may win a pixel of it.

    The pairs of one block follow each other, lowest prompt first; block b is in row b // len(columns) of `rows`.
    prompt, block: (P,) int64; patches: (2, 2, P) scores of the prompt on the patches above and below, left and
    right of the block.
    """

    rows: _Blocks
    columns: _Blocks
    block: torch.Tensor
    prompt: torch.Tensor
    patches: torch.Tensor


def _candidates(
    grids: torch.Tensor, rows: _Blocks, columns: _Blocks, blocks: torch.Tensor, margin: float
) -> _Candidates:
    """The prompts that can win in each of some blocks (B,)."""
    down, across = blocks // len(columns), blocks % len(columns)
    above, left = rows.axis.at(rows.edges[:-1][down]), columns.axis.at(columns.edges[:-1][across])
    row, column = torch.stack([above.low, above.high])[:, None], torch.stack([left.low, left.high])[None]
    place = (row * grids.shape[2] + column).flatten()
    patches = grids.flatten(1).index_select(1, place).view(-1, 2, 2, len(blocks)).movedim(0, 3)
    weight_down = rows.axis.weight[rows.ends()][:, None, down, None]
    weight_across = columns.axis.weight[columns.ends()][None, :, across, None]
    sides = torch.lerp(patches[:, :1], patches[:, 1:], weight_across)
    corners = torch.lerp(sides[:1], sides[1:], weight_down).reshape(4, -1, len(grids))
    # The first step of `_contenders`, for blocks that have every prompt: drop those below the highest at the centre.
    rival = corners.gather(2, corners.sum(0).argmax(1).expand(4, -1)[..., None])
    index, prompt = ((corners - rival).amax(0) >= -margin).nonzero().unbind(1)
    corners = corners[:, index, prompt]
    pair = _near(corners, index, corners, len(blocks), margin)
    index, prompt = index[pair], prompt[pair]
    return _Candidates(rows, columns, blocks[index], prompt, patches[:, :, index, prompt])


def _clear_winners(grids: torch.Tensor, margin: float) -> tuple[torch.Tensor, torch.Tensor]:
    """At each patch (h, w) the prompt that is above all others by the margin, -1 where none is, and the best score."""
    # Not `top_two`: comparing with a bound that is known takes half the time (benchmarks/speed.py, row label_map).
    best = grids.amax(0)
    bound = best - margin
    winner = torch.full(best.shape, -1, dtype=torch.int32, device=best.device)
    is_near = torch.zeros(best.shape, dtype=torch.bool, device=best.device)
    has_rival = is_near.clone()
    for index, grid in enumerate(grids):
        reaches = grid >= bound
        has_rival |= is_near & reaches
        is_near |= reaches
        winner.masked_fill_(reaches, index)
    return winner.masked_fill_(has_rival, -1), best


def _split(coarse: _Candidates, margin: float) -> _Candidates:
    """The prompts that can win in each fine block, among those that can win in its coarse block."""
    rows, columns = coarse.rows.split(_FINE), coarse.columns.split(_FINE)
    down, across = len(rows) // len(coarse.rows), len(columns) // len(coarse.columns)
    if down == across == 1:
        return coarse
    parts = torch.arange(max(down, across), device=coarse.block.device)[:, None]
    row = coarse.block // len(coarse.columns) * down + parts[:down]  # (down, P)
    column = coarse.block % len(coarse.columns) * across + parts[:across]  # (across, P)
    # Axes below: left and right patch, end of the fine block down and across, part down and across, pair.
    weight_down = rows.axis.weight[rows.ends()][:, row]
    weight_across = columns.axis.weight[columns.ends()][:, column]
    above, below = coarse.patches[:, :, None, None]
    left, right = torch.lerp(above, below, weight_down[None])
    corners = torch.lerp(left[:, None, :, None], right[:, None, :, None], weight_across[None, :, None])
    block = (row[:, None] * len(columns) + column).flatten()
    kept = _contenders(corners.reshape(4, -1), block, len(rows) * len(columns), margin)
    pair = kept % len(coarse.block)
    return _Candidates(rows, columns, block[kept], coarse.prompt[pair], coarse.patches[:, :, pair])


def _contenders(corners: torch.Tensor, block: torch.Tensor, num_blocks: int, margin: float) -> torch.Tensor:
    """Indexes of the pairs that may win a pixel: (K,) int64, rising.

    Each prompt is compared with two rivals per block: the prompt that is highest at the centre, then the mean of the
    prompts that are highest at the corners. If this mean is above a prompt at every corner, it is above it at every
    pixel, and so is one of the prompts in the mean. Along the border of two regions the mean drops nearly all
    prompts, which the prompt of neither region can do alone. The highest prompt of a pixel is never dropped.

    Args:
        corners: (4, P) scores of each pair at the corners of its block.
        block: (P,) the block of each pair.
        num_blocks: number of blocks.
        margin: difference from which a prompt counts as below a rival.
    """
    kept = _near(corners, block, corners.sum(0, keepdim=True), num_blocks, margin)
    corners, block = corners[:, kept], block[kept]
    return kept[_near(corners, block, corners, num_blocks, margin)]


def _near(
    corners: torch.Tensor, block: torch.Tensor, points: torch.Tensor, num_blocks: int, margin: float
) -> torch.Tensor:
    """Indexes of the pairs that are not below, at all corners, the mean of the highest pairs at points (k, P)."""
    highest = torch.stack([_highest(scores, block, num_blocks) for scores in points])
    rival = corners[:, highest].mean(1)
    lead = corners - rival.index_select(1, block)
    return (lead.amax(0) >= -margin).nonzero()[:, 0]


def _highest(values: torch.Tensor, block: torch.Tensor, num_blocks: int) -> torch.Tensor:
    """Index of the highest value in each block: (num_blocks,) int64."""
    bits = values.view(torch.int32)
    # Floats are ordered like their bits once those of negative numbers are inverted. With the index in the
    # lower half, one maximum of whole numbers also finds the index; torch has no grouped argmax.
    sortable = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()
    key = (sortable << 32) | torch.arange(len(values), device=values.device)
    lowest = torch.full((num_blocks,), torch.iinfo(torch.int64).min, device=values.device)
    return lowest.scatter_reduce_(0, block, key, "amax") & 0xFFFFFFFF


def _write_winners(candidates: _Candidates, labels: torch.Tensor, best: torch.Tensor) -> None:
    """Compare the candidates of some blocks, and write winners and scores to their pixels of (H, W) labels and best."""
    block, counts = torch.unique_consecutive(candidates.block, return_counts=True)
    down = candidates.rows.pixels()[block // len(candidates.columns)]
    across = candidates.columns.pixels()[block % len(candidates.columns)]
    place = (down[:, :, None] * labels.shape[1] + across[:, None]).flatten()
    weight_down = candidates.rows.axis.weight[down][:, :, None]
    weight_across = candidates.columns.axis.weight[across][:, None]
    winner, score = _compare_runs(candidates, counts, weight_down, weight_across)
    # A block shorter than the longest writes its last pixels again, with the same values.
    labels.view(-1).index_copy_(0, place, winner.flatten())
    best.view(-1).index_copy_(0, place, score.flatten())


def _compare_runs(
    candidates: _Candidates, counts: torch.Tensor, down: torch.Tensor, across: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Winners and scores (B, longest, longest) of blocks, by a running maximum over their candidates.

    counts: (B,) candidates of each block; down, across: (B, longest, 1) and (B, 1, longest) weights of its pixels.
    """
    first = counts.cumsum(0) - counts
    best = down.new_full((len(counts), down.shape[1], across.shape[2]), -torch.inf)
    winner = torch.zeros(best.shape, dtype=torch.int32, device=down.device)
    here = torch.arange(len(counts), device=down.device)
    for rank in range(int(counts.max())):
        here = here[counts[here] > rank]
        pair = first[here] + rank
        sides = candidates.patches[:, :, pair, None, None]
        above, below = torch.lerp(sides[:, 0], sides[:, 1], across[here])
        score = torch.lerp(above, below, down[here])
        before = best.index_select(0, here)
        prompt = candidates.prompt[pair].int()[:, None, None]
        # Strict: an equal score leaves the pixel to the lower index.
        winner.index_copy_(0, here, torch.where(score > before, prompt, winner.index_select(0, here)))
        best.index_copy_(0, here, torch.maximum(score, before))
    return winner, best
