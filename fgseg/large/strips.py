"""Labels of an image that arrives from top to bottom, strip by strip.

Windows of the encoder's native side cover the image at its own scale, or the image shrunk by a whole number (the
canvas). They are encoded one row at a time. The strip of the canvas between the tops of two rows of windows is finished
once all rows that reach into it are encoded. `fgseg.scoring.windows` then stitches their scores there, some prompts and
some columns at a time, in the same order as on a whole canvas.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fgseg.encoders.base import Encoder
from fgseg.large.bands import RowBuffer, Shrinker
from fgseg.large.plan import WindowPlan
from fgseg.prompts.classes import PromptClass
from fgseg.scoring.presence import presence_of
from fgseg.scoring.top_two import class_top_two
from fgseg.scoring.windows import BoxXyxy, crops, stitch_chunks
from fgseg.segmentation.prompt_encoder import PromptTexts
from fgseg.similarity import patch_scores
from fgseg.types import UNLABELLED
from fgseg.upsample.maps import upsample_maps

__all__ = ["LabelRequest", "label_strips"]

_WINDOWS_AT_ONCE = 64  # windows whose features are held: one to a few batches of an encoder
_BLOCK = 2048  # columns of the image that are stitched at a time
_CHUNK_VALUES = 2**24  # scores of the canvas held at a time, 64 MB


@dataclass(frozen=True, eq=False)
class LabelRequest:
    """The classes to find, the text features of their prompts, and the minimum presence of a labelled pixel."""

    prompts: tuple[PromptClass, ...]
    texts: PromptTexts
    threshold: float


@dataclass(frozen=True, eq=False)
class _WindowRow:
    """One row of windows: top and bottom on the canvas, and (Q, Gh, Gw) scores of each window from left to right."""

    top: int
    bottom: int
    scores: tuple[Tensor, ...]


def label_strips(
    bands: Iterator[NDArray[np.uint8]], encoder: Encoder, request: LabelRequest, plan: WindowPlan
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32]]]:
    """The labels of an image whose rows arrive in bands.

    Args:
        bands: (h, W, 3) uint8 RGB each, from the top.
        encoder: encodes the windows.
        request: the classes and the threshold.
        plan: the windows.

    Returns:
        An iterator over (h, W) int32 labels, from the top, with the (h, W) float32 presence of each pixel's best class.
    """
    rows = deque[_WindowRow]()
    arriving = _window_rows(bands, encoder, request.texts.text, plan)
    margin = _margin(plan)
    tops = [top for top, _ in plan.rows]
    started = 0
    for start, stop in pairwise([*tops, plan.canvas_hw[0]]):
        while started < len(tops) and tops[started] < stop + margin:
            rows.append(next(arriving))
            started += 1
        while rows[0].bottom <= start - margin:
            rows.popleft()
        yield _labelled(rows, (start, stop), encoder.logit_scale, request, plan)


def _margin(plan: WindowPlan) -> int:
    """Canvas pixels beyond a strip that its image pixels are interpolated from."""
    return 0 if plan.reduction == 1 else 1


def _window_rows(
    bands: Iterator[NDArray[np.uint8]], encoder: Encoder, text: Tensor, plan: WindowPlan
) -> Iterator[_WindowRow]:
    shrink = Shrinker(plan.reduction, plan.image_hw[0])
    buffer = RowBuffer(filter(len, map(shrink.add, bands)))
    for top, bottom in plan.rows:
        pixels = buffer.take(top, bottom)
        boxes = [(left, 0, right, bottom - top) for left, right in plan.columns]
        scores: list[Tensor] = []
        for first in range(0, len(boxes), _WINDOWS_AT_ONCE):
            features = encoder.encode_images(crops(pixels, boxes[first : first + _WINDOWS_AT_ONCE]), fit="exact")
            scores += [patch_scores(window, text) for window in features]
        yield _WindowRow(top, bottom, tuple(scores))


def _labelled(
    rows: Sequence[_WindowRow], strip: tuple[int, int], logit_scale: float, request: LabelRequest, plan: WindowPlan
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Labels and presence of the image pixels of a strip of the canvas, block by block."""
    top, bottom = strip[0] * plan.reduction, min(strip[1] * plan.reduction, plan.image_hw[0])
    labels = np.empty((bottom - top, plan.image_hw[1]), np.int32)
    present = np.empty(labels.shape, np.float32)
    block_width = max(1, _BLOCK // plan.reduction)
    for left in range(0, plan.canvas_hw[1], block_width):
        box = left, strip[0], min(left + block_width, plan.canvas_hw[1]), strip[1]
        maps = _score_maps(rows, box, plan)
        winner, best, rival = class_top_two(maps, request.texts.query_to_class, len(request.prompts))
        across = slice(left * plan.reduction, left * plan.reduction + winner.shape[1])
        present[:, across] = presence_of(best.cpu().numpy(), rival.cpu().numpy(), logit_scale)
        labels[:, across] = np.where(present[:, across] < request.threshold, np.int32(UNLABELLED), winner.cpu().numpy())
    return labels, present


def _score_maps(rows: Sequence[_WindowRow], box: BoxXyxy, plan: WindowPlan) -> Iterator[Tensor]:
    """The score map (h, w) of each query word on the image pixels of a box of the canvas."""
    left, top, right, bottom = box
    margin, factor = _margin(plan), plan.reduction
    padded = (
        max(left - margin, 0), max(top - margin, 0),
        min(right + margin, plan.canvas_hw[1]), min(bottom + margin, plan.canvas_hw[0]),
    )  # fmt: skip
    image_h = min(bottom * factor, plan.image_hw[0]) - top * factor
    image_w = min(right * factor, plan.image_hw[1]) - left * factor
    down, across = (top - padded[1]) * factor, (left - padded[0]) * factor
    for chunk in _canvas_chunks(rows, padded, plan):
        drawn = chunk if factor == 1 else upsample_maps(chunk, (chunk.shape[1] * factor, chunk.shape[2] * factor))
        for score_map in drawn:
            yield score_map[down : down + image_h, across : across + image_w]


def _canvas_chunks(rows: Sequence[_WindowRow], box: BoxXyxy, plan: WindowPlan) -> Iterator[Tensor]:
    """Scores (t, h, w) of a box of the canvas, some prompts at a time, stitched from the windows that reach into it."""
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
