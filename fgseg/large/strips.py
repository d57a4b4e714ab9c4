"""Labels of an image that arrives from top to bottom: rows of windows in, strips of labels out.

Windows of the encoder's native side move over the image at its own scale, or over the image shrunk by a whole number
(the canvas), a row of windows at a time. The strip of the canvas between the tops of two rows of windows is finished
once all rows that reach into it are encoded. Their scores are then stitched there by `fgseg.scoring.windows`, some
prompts and some columns at a time, in the order in which a whole canvas would be.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import groupby, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fgseg.encoders.base import Encoder
from fgseg.images.resizing import resize_image
from fgseg.large.plan import Plan
from fgseg.prompts.classes import PromptClass
from fgseg.scoring.presence import presence
from fgseg.scoring.windows import BoxXyxy, crops, stitch_chunks
from fgseg.segmentation.prompt_encoder import PromptTexts
from fgseg.similarity import patch_scores
from fgseg.types import UNLABELLED
from fgseg.upsample.maps import upsample_maps

__all__ = ["Shrinker", "Task", "label_strips"]

_WINDOWS_AT_ONCE = 64  # whose features are held: one to a few batches of an encoder
_BLOCK = 2048  # columns of the image that are stitched at a time
_CHUNK_VALUES = 2**24  # scores of the canvas held at a time, 64 MB


@dataclass(frozen=True, eq=False)
class Task:
    """What is looked for: prompts, their texts, the least presence of a labelled pixel."""

    prompts: tuple[PromptClass, ...]
    texts: PromptTexts
    threshold: float


class Shrinker:
    """Rows come in bands of any height; means of factor x factor pixels go out as soon as they are whole."""

    def __init__(self, factor: int, height: int) -> None:
        self._factor, self._missing = factor, height
        self._rest: NDArray[np.uint8] | None = None

    def add(self, band: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The rows (n, w, 3) that this band completes, if any; the edge is repeated where a pixel is not whole."""
        if self._factor == 1:
            return band
        rows = band if self._rest is None else np.concatenate([self._rest, band])
        self._missing -= len(band)
        whole = len(rows) // self._factor * self._factor if self._missing else len(rows)
        self._rest = rows[whole:]
        height, width = -(-whole // self._factor), -(-band.shape[1] // self._factor)
        if not height:
            return np.empty((0, width, 3), np.uint8)
        short = height * self._factor - whole, width * self._factor - band.shape[1]
        full = np.pad(rows[:whole], ((0, short[0]), (0, short[1]), (0, 0)), mode="edge")
        return resize_image(full, (height, width), antialias=True)


class _RowBuffer:
    """Rows of a picture that arrives in bands, those still needed."""

    def __init__(self, bands: Iterator[NDArray[np.uint8]]) -> None:
        self._bands = bands
        self._held: NDArray[np.uint8] | None = None
        self._top = 0

    def take(self, top: int, bottom: int) -> NDArray[np.uint8]:
        """Rows top..bottom-1; `top` never falls from call to call, and rows above it are forgotten."""
        held = next(self._bands) if self._held is None else self._held
        held, self._top = held[top - self._top :], top
        parts = [held]
        while sum(map(len, parts)) < bottom - top:
            parts.append(next(self._bands))
        self._held = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return self._held[: bottom - top]


@dataclass(frozen=True, eq=False)
class _WindowRow:
    """Scores (Q, Gh, Gw) of each window of a row, left to right."""

    top: int
    bottom: int
    scores: tuple[Tensor, ...]


def label_strips(
    bands: Iterator[NDArray[np.uint8]], encoder: Encoder, task: Task, plan: Plan
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32]]]:
    """The labels of an image whose rows arrive in bands.

    Args:
        bands: (h, W, 3) uint8 RGB each, from the top.
        encoder: of the windows.
        task: what is looked for.
        plan: where the windows are.

    Returns:
        An iterator over (h, W) int32 labels, from the top, with the (h, W) float32 presence of each pixel's best class.
    """
    rows = deque[_WindowRow]()
    arriving = _window_rows(bands, encoder, task.texts.text, plan)
    margin = _margin(plan)
    tops = [top for top, _ in plan.rows]
    started = 0
    for start, stop in pairwise([*tops, plan.canvas_hw[0]]):
        while started < len(tops) and tops[started] < stop + margin:
            rows.append(next(arriving))
            started += 1
        while rows[0].bottom <= start - margin:
            rows.popleft()
        yield _labelled(rows, (start, stop), encoder.logit_scale, task, plan)


def _margin(plan: Plan) -> int:
    """Canvas pixels beyond a strip that its image pixels lie between: bilinear scores need a neighbour."""
    return 0 if plan.reduction == 1 else 1


def _window_rows(
    bands: Iterator[NDArray[np.uint8]], encoder: Encoder, text: Tensor, plan: Plan
) -> Iterator[_WindowRow]:
    shrink = Shrinker(plan.reduction, plan.image_hw[0])
    buffer = _RowBuffer(filter(len, map(shrink.add, bands)))
    for top, bottom in plan.rows:
        pixels = buffer.take(top, bottom)
        boxes = [(left, 0, right, bottom - top) for left, right in plan.columns]
        scores: list[Tensor] = []
        for first in range(0, len(boxes), _WINDOWS_AT_ONCE):
            features = encoder.encode_images(crops(pixels, boxes[first : first + _WINDOWS_AT_ONCE]), fit="exact")
            scores += [patch_scores(window, text) for window in features]
        yield _WindowRow(top, bottom, tuple(scores))


def _labelled(
    rows: Sequence[_WindowRow], strip: tuple[int, int], logit_scale: float, task: Task, plan: Plan
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Labels and presence of the image pixels of a strip of the canvas, block by block."""
    top, bottom = strip[0] * plan.reduction, min(strip[1] * plan.reduction, plan.image_hw[0])
    labels = np.empty((bottom - top, plan.image_hw[1]), np.int32)
    present = np.empty(labels.shape, np.float32)
    wide = max(1, _BLOCK // plan.reduction)
    for left in range(0, plan.canvas_hw[1], wide):
        box = left, strip[0], min(left + wide, plan.canvas_hw[1]), strip[1]
        winner, best, rival = _podium(_score_maps(rows, box, plan), task.texts.query_to_class, len(task.prompts))
        across = slice(left * plan.reduction, left * plan.reduction + winner.shape[1])
        present[:, across] = presence(_array(best), _array(rival), logit_scale=logit_scale)
        labels[:, across] = np.where(present[:, across] < task.threshold, np.int32(UNLABELLED), _array(winner))
    return labels, present


def _score_maps(rows: Sequence[_WindowRow], box: BoxXyxy, plan: Plan) -> Iterator[Tensor]:
    """Each query word's score map (h, w) on the image pixels of a box of the canvas."""
    left, top, right, bottom = box
    margin, factor = _margin(plan), plan.reduction
    wide = (
        max(left - margin, 0), max(top - margin, 0),
        min(right + margin, plan.canvas_hw[1]), min(bottom + margin, plan.canvas_hw[0]),
    )  # fmt: skip
    image_h = min(bottom * factor, plan.image_hw[0]) - top * factor
    image_w = min(right * factor, plan.image_hw[1]) - left * factor
    down, across = (top - wide[1]) * factor, (left - wide[0]) * factor
    for chunk in _canvas_chunks(rows, wide, plan):
        drawn = chunk if factor == 1 else upsample_maps(chunk, (chunk.shape[1] * factor, chunk.shape[2] * factor))
        for score_map in drawn:
            yield score_map[down : down + image_h, across : across + image_w]


def _canvas_chunks(rows: Sequence[_WindowRow], box: BoxXyxy, plan: Plan) -> Iterator[Tensor]:
    """Stitched scores (t, h, w) of a box of the canvas, some prompts at a time: of the windows that reach into it."""
    left, top, right, bottom = box
    columns = [index for index, (start, stop) in enumerate(plan.columns) if start < right and stop > left]
    reaching = [row for row in rows if row.top < bottom and row.bottom > top]
    x, y = plan.columns[columns[0]][0], reaching[0].top
    boxes = [
        (plan.columns[index][0] - x, row.top - y, plan.columns[index][1] - x, row.bottom - y)
        for row in reaching
        for index in columns
    ]
    scores = [row.scores[index] for row in reaching for index in columns]
    canvas_hw = max(box[3] for box in boxes), max(box[2] for box in boxes)
    at_once = max(1, _CHUNK_VALUES // (canvas_hw[0] * canvas_hw[1]))
    for chunk in stitch_chunks(scores, boxes, canvas_hw, chunk=at_once):
        yield chunk[:, top - y : bottom - y, left - x : right - x]


def _podium(
    score_maps: Iterator[Tensor], query_to_class: Sequence[int], num_classes: int
) -> tuple[Tensor, Tensor, Tensor]:
    """(h, w) each: the winning class, ties to the lowest, its score, and its rival's.

    The rival is the best word of class `num_classes`, or where there is none the best of the other classes.
    """
    owned = groupby(zip(query_to_class, score_maps, strict=True), key=lambda pair: pair[0])
    best = winner = second = rival = None
    for owner, pairs in owned:
        class_map = reduce(torch.maximum, (score_map for _, score_map in pairs))
        if owner == num_classes:
            rival = class_map
        elif best is None or winner is None or second is None:
            best, second = class_map.clone(), torch.full_like(class_map, -torch.inf)
            winner = torch.zeros_like(class_map, dtype=torch.int32)
        else:
            better = class_map > best  # strict: an equal score leaves the pixel to the lower index
            winner.masked_fill_(better, owner)
            second = torch.maximum(second, torch.minimum(class_map, best))
            torch.maximum(best, class_map, out=best)
    assert winner is not None
    assert best is not None
    assert second is not None
    return winner, best, second if rival is None else rival


def _array(values: Tensor) -> NDArray[Any]:
    array: NDArray[Any] = values.cpu().numpy()
    return array
