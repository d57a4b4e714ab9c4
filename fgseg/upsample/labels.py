"""Label maps: which prompt wins each pixel, from scores on patches, without the score maps of all prompts.

The patch grid is sampled where torch's ``interpolate(align_corners=False)`` samples it: pixel y of H lies at
``(y + 0.5) * Gh / H - 0.5``, clamped to the outermost patch centres.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from itertools import chain

import torch

from fgseg.errors import ShapeError
from fgseg.upsample.argmax import compare_blocks, compare_maps, compare_stacks, joined
from fgseg.upsample.maps import checked_scores
from fgseg.upsample.tensors import Values, like

__all__ = ["label_map", "running_argmax", "running_label_map"]

# The assumed cost of dropping prompts, in pixels of a compared map: as much as five maps on every pixel, and two pixels
# per patch for each prompt. These numbers only choose between two methods with the same labels;
# benchmarks/speed.py times the method that was chosen.
_DROPPING_A_PIXEL, _DROPPING_A_PATCH = 5, 2


def label_map(scores: Values, image_hw: tuple[int, int]) -> tuple[Values, Values]:
    """The prompt that wins each pixel and its score there: the argmax of all bilinear score maps.

    Each score map is bilinear between four neighbouring patch centres. Inside any block of such a cell, a
    prompt that another prompt beats at all four corners cannot win. Prompts are dropped cell by cell and again in
    smaller blocks, and the rest are compared pixel by pixel. Prompts within float32 rounding of each other
    are kept, so the result is that of comparing whole maps. Cells are processed in groups. Memory besides
    the result is a copy of one map and the candidates of one group: 13 MB (16 on noise) for 171 prompts from 32x48
    patches to 1080x1920, 17 MB (34 on noise) for 847 to 2160x3840. On a GPU whole maps are compared, as many at a time
    as 64 MB hold, in about three copies, because a few large steps are faster there than many small ones.

    Args:
        scores: (T, h, w) scores on patches (or on a canvas of stitched windows), any real dtype; compared in
            float32 on the tensor's device.
        image_hw: (height, width) of the image that the grid covers edge to edge, in pixels; may be smaller
            than the grid.

    Returns:
        `labels` (H, W) int32, index of the winning prompt, the lowest on a tie; `best` (H, W) float32, its
        score. Tensors for a tensor, numpy arrays for an array.

    Raises:
        ShapeError: other axes, no prompt or patch, NaN or infinity.
        OptionError: `image_hw` is not two whole numbers of at least 1.

    Example:
        >>> import numpy as np
        >>> labels, best = label_map(np.array([[[0.0, 1.0]], [[0.5, 0.5]]]), (1, 4))
        >>> labels, best
        (array([[1, 1, 0, 0]], dtype=int32), array([[0.5 , 0.5 , 0.75, 1.  ]], dtype=float32))
    """
    return running_label_map([scores], image_hw)


def running_label_map(chunks: Iterable[Values], image_hw: tuple[int, int]) -> tuple[Values, Values]:
    """`label_map` of scores that arrive some prompts at a time, such as the canvases of stitched windows.

    Holds two label maps and two score maps besides the chunk, whatever the number of chunks.

    Args:
        chunks: (t, h, w) scores each, in prompt order; t may vary.
        image_hw: as in `label_map`.

    Returns:
        `labels` and `best` as `label_map` of the chunks one after another.

    Raises:
        ShapeError: no chunk; or as `label_map`.
        OptionError: as `label_map`.

    Example:
        >>> import numpy as np
        >>> chunks = [np.array([[[0.0, 1.0]]]), np.array([[[0.5, 0.5]]])]
        >>> running_label_map(chunks, (1, 4))[0]
        array([[1, 1, 0, 0]], dtype=int32)
    """
    remaining = iter(chunks)
    first = next(remaining, None)
    if first is None:
        raise ShapeError("chunks: expected at least one chunk of scores (t, h, w), got none; give a prompt")
    grids = (checked_scores(chunk, image_hw)[0] for chunk in chain([first], remaining))
    labels, best = running_argmax(grids, image_hw)
    return like(labels, first), like(best, first)


def running_argmax(chunks: Iterable[torch.Tensor], image_hw: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """`running_label_map` without its checks, for at least one chunk of finite float32 tensors."""
    return joined((*_fastest(grids, image_hw)(grids, image_hw), len(grids)) for grids in chunks)


def _fastest(grids: torch.Tensor, image_hw: tuple[int, int]) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """The comparison that suits the device and the sizes; all of them give the same labels."""
    if grids.device.type != "cpu":
        return compare_stacks
    pixels, patches = math.prod(image_hw), math.prod(grids.shape[1:])
    saved = len(grids) * (pixels - _DROPPING_A_PATCH * patches)
    return compare_blocks if saved > _DROPPING_A_PIXEL * pixels else compare_maps
