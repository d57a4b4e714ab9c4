"""Overlapping windows over an image, and their scores stitched to one canvas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fgseg._checks import check_array, check_boxes, check_image, check_side, check_size, describe
from fgseg.errors import OptionError, ShapeError
from fgseg.scoring.resolution import check_stride
from fgseg.upsample.tensors import full_precision, to_device

__all__ = ["BoxXyxy", "crops", "spans", "stitch_chunks", "window_boxes"]

BoxXyxy = tuple[int, int, int, int]
"""(left, top, right, bottom) pixels, half open."""

_CHUNK_BYTES = 2**26  # of a canvas; more chunks take longer, as each is compared on every pixel of the image


def window_boxes(image_hw: tuple[int, int], *, crop: int, stride: int) -> tuple[BoxXyxy, ...]:
    """Overlapping square windows that cover an image, row by row.

    Per axis ``max(size - crop + stride - 1, 0) // stride + 1`` windows; the last is moved back inside. An
    axis shorter than the crop has one window of its own length.

    Args:
        image_hw: (height, width) in pixels.
        crop: side of a window in pixels.
        stride: pixels from one window to the next, at most `crop`.

    Returns:
        Boxes (left, top, right, bottom) in pixels, half open; every pixel is in at least one.

    Raises:
        OptionError: a size that is not a whole number of at least 1, or a stride that leaves gaps.

    Example:
        >>> window_boxes((4, 7), crop=4, stride=2)
        ((0, 0, 4, 4), (2, 0, 6, 4), (3, 0, 7, 4))
    """
    height, width = check_size("image_hw", image_hw)
    check_side("crop", crop)
    check_stride(stride, crop)
    rows, columns = spans(height, crop, stride), spans(width, crop, stride)
    return tuple((left, top, right, bottom) for top, bottom in rows for left, right in columns)


def crops(image: NDArray[np.uint8], boxes: Sequence[BoxXyxy]) -> tuple[NDArray[np.uint8], ...]:
    """Cut windows out of an image.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes: (left, top, right, bottom) pixels, half open, inside the image.

    Returns:
        One (bottom - top, right - left, 3) uint8 view of the image per box; nothing is copied.

    Raises:
        ShapeError: not an RGB image, or a box outside it or without pixels.

    Example:
        >>> [window.shape for window in crops(np.zeros((4, 7, 3), np.uint8), [(0, 0, 4, 4), (3, 0, 7, 4)])]
        [(4, 4, 3), (4, 4, 3)]
    """
    check_image("image", image)
    check_boxes("boxes", np.reshape(boxes, (-1, 4)), image_hw=(image.shape[0], image.shape[1]))
    return tuple(image[top:bottom, left:right] for left, top, right, bottom in boxes)


def stitch_chunks(
    window_scores: Sequence[torch.Tensor],
    boxes: Sequence[BoxXyxy],
    canvas_hw: tuple[int, int],
    chunk: int | None = None,
) -> Iterator[torch.Tensor]:
    """Stitch the scores of overlapping windows to one canvas, some prompts at a time.

    The scores of each window are upsampled to its box (bilinear, pixel centres at half integers), added, and
    divided by the number of windows over each pixel. Holds (chunk, h, w) a few times, whatever T is.

    Args:
        window_scores: (T, Gh, Gw) scores per window, on one device; T is the same for all, the grids may differ.
        boxes: the box of each window on the canvas, from `window_boxes`.
        canvas_hw: (height, width) of the canvas, in pixels.
        chunk: number of prompts at a time, at least 1; None takes as many as 64 MB hold.

    Returns:
        An iterator over (t, h, w) float32 on the windows' device, t = `chunk` except in the last, in prompt order.

    Raises:
        ShapeError: no window, scores of other axes or another T, or a box outside the canvas; before the first chunk.
        OptionError: not one box per window, a pixel without a window, or `chunk` below 1.

    Example:
        >>> left, right = torch.zeros(1, 1, 1), torch.ones(1, 1, 1)
        >>> list(stitch_chunks([left, right], [(0, 0, 2, 1), (1, 0, 3, 1)], (1, 3)))
        [tensor([[[0.0000, 0.5000, 1.0000]]])]
    """
    if chunk is not None:
        check_side("chunk", chunk)
    _check_windows(window_scores, boxes, canvas_hw)
    coverage = to_device(_coverage(boxes, canvas_hw), window_scores[0].device)
    step = chunk or max(_CHUNK_BYTES // (4 * coverage.numel()), 1)
    starts = range(0, len(window_scores[0]), step)
    return (_stitched([scores[s : s + step] for scores in window_scores], boxes, coverage) for s in starts)


def _coverage(boxes: Sequence[BoxXyxy], canvas_hw: tuple[int, int]) -> torch.Tensor:
    """(h, w) float32 number of windows over each pixel of the canvas, at least 1; on the CPU, so that no GPU waits."""
    coverage = torch.zeros(canvas_hw, dtype=torch.float32, device="cpu")
    for left, top, right, bottom in boxes:
        coverage[top:bottom, left:right] += 1
    if not bool(coverage.all()):
        row, column = (coverage == 0).nonzero()[0].tolist()
        raise OptionError(f"boxes: expected every pixel covered, got no window over row {row}, column {column}")
    return coverage


@full_precision
def _stitched(window_scores: Sequence[torch.Tensor], boxes: Sequence[BoxXyxy], coverage: torch.Tensor) -> torch.Tensor:
    """The sum of the maps of all windows, divided by the coverage.

    A bilinear map is the product of the grid and two matrices. The windows of one row share the matrix of the vertical
    axis, so they are added before it is applied.
    """
    rows: dict[tuple[int, int, int], torch.Tensor] = {}
    for scores, (left, top, right, bottom) in zip(window_scores, boxes, strict=True):
        key = (top, bottom, scores.shape[1])
        if key not in rows:
            rows[key] = coverage.new_zeros(len(scores), scores.shape[1], coverage.shape[1])
        across = to_device(_bilinear(scores.shape[2], right - left), coverage.device)
        rows[key][:, :, left:right].baddbmm_(scores.detach().float(), across.T.expand(len(scores), -1, -1))
    canvas = coverage.new_zeros(len(window_scores[0]), *coverage.shape)
    for (top, bottom, patches), row in rows.items():
        down = to_device(_bilinear(patches, bottom - top), coverage.device)
        canvas[:, top:bottom].baddbmm_(down.expand(len(row), -1, -1), row)
    return canvas.div_(coverage)


def _bilinear(patches: int, pixels: int) -> torch.Tensor:
    """(pixels, patches) float32 weights of the patches of one axis at each of its pixels."""
    eye = torch.eye(patches, dtype=torch.float32, device="cpu")
    weights = torch.nn.functional.interpolate(eye[None], pixels, mode="linear", align_corners=False)
    return weights[0].T


def _check_windows(window_scores: Sequence[torch.Tensor], boxes: Sequence[BoxXyxy], canvas_hw: tuple[int, int]) -> None:
    size = check_size("canvas_hw", canvas_hw)
    if not len(window_scores):
        raise ShapeError("window_scores: expected the scores of at least one window, got none")
    if len(window_scores) != len(boxes):
        raise OptionError(f"boxes: expected one per window, {len(window_scores)}, got {len(boxes)}")
    for scores in window_scores:
        check_array("window_scores", scores, (len(window_scores[0]), "Gh", "Gw"), hint="the same prompts everywhere")
        if not scores.numel():
            raise ShapeError(f"window_scores: expected at least one prompt and patch, got {describe(scores)}")
    check_boxes("boxes", np.reshape(boxes, (-1, 4)), image_hw=size)


def spans(size: int, crop: int, stride: int) -> tuple[tuple[int, int], ...]:
    """The (start, stop) pixels of windows along one axis; as `window_boxes`, without its checks."""
    count = max(size - crop + stride - 1, 0) // stride + 1
    stops = [min(index * stride + crop, size) for index in range(count)]
    return tuple((max(stop - crop, 0), stop) for stop in stops)
