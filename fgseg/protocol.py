"""The last steps of the published evaluation protocol: from scores of query words to class labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from fgseg._checks import check_number
from fgseg.errors import OptionError, ShapeError
from fgseg.upsample import upsample_maps

__all__ = ["protocol_label_map"]


def protocol_label_map(
    scores: torch.Tensor | Iterable[torch.Tensor],
    query_to_class: Sequence[int],
    image_hw: tuple[int, int],
    *,
    logit_scale: float,
    prob_threshold: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Class labels from the scores of query words: as SCLIP, NACLIP and ClearCLIP evaluate.

    Each word's scores are upsampled to the image, times `logit_scale`, softmax over all words, maximum over
    each class's words, argmax over classes; pixels whose probability is below `prob_threshold` become class
    0. Softmax keeps the order of words, so one pass over the words with a running maximum and a running sum
    of exponentials gives the same: five score maps are held beside the words', never (Q, H, W). Where no
    threshold is used, `fgseg.upsample.label_map` gives the same words faster.

    Args:
        scores: (Q, h, w) scores of the query words on patches, on a canvas, or refined on the image's pixels;
            or chunks (q, h, w) of them, in order, such as `fgseg.windows.stitch_chunks` makes.
        query_to_class: Q class indexes, 0 or more.
        image_hw: (height, width) of the image, in pixels.
        logit_scale: factor on the scores before the softmax, above 0.
        prob_threshold: in [0, 1]; 0 leaves every pixel its class. Use it only where class 0 is a background.

    Returns:
        `labels` (H, W) int32 class indexes, the lowest on a tie; `probability` (H, W) float32 in (0, 1] of
        the winning class's best word (before the threshold is applied), on the scores' device.

    Raises:
        ShapeError: chunks of other axes, no word, or NaN or infinity.
        OptionError: not one class index a word, or a number out of range.

    Example:
        >>> scores = torch.tensor([[[0.0, 0.1]], [[0.1, 0.0]], [[0.09, 0.09]]])
        >>> protocol_label_map(scores, [2, 1, 0], (1, 2), logit_scale=40, prob_threshold=0.5)
        (tensor([[1, 2]], dtype=torch.int32), tensor([[0.5922, 0.5922]]))
    """
    check_number("logit_scale", logit_scale, low=1e-6, high=1e6)
    check_number("prob_threshold", prob_threshold, low=0, high=1)
    chunks = [scores] if isinstance(scores, torch.Tensor) else scores
    classes = iter(_classes(query_to_class))
    running: _Running | None = None
    for chunk in chunks:
        for score_map in upsample_maps(chunk, image_hw):
            index = next(classes, None)
            if index is None:
                raise OptionError(f"query_to_class: expected one a query word, got only {len(query_to_class)}")
            running = running or _Running(score_map)
            running.add(score_map * logit_scale, index)
    if running is None:
        raise ShapeError("scores: expected at least one query word, got none; give a class")
    if (left := len(list(classes))) > 0:
        words = len(query_to_class) - left
        raise OptionError(f"query_to_class: expected one a query word, {words}, got {len(query_to_class)}")
    probability = 1 / running.total
    return running.label.masked_fill(probability < prob_threshold, 0), probability


class _Running:
    """Highest logit so far, its class, and the sum of exponentials relative to it: (H, W) each."""

    def __init__(self, like: torch.Tensor) -> None:
        self.highest = torch.full_like(like, -torch.inf)
        self.total = torch.zeros_like(like)
        self.label = torch.zeros(like.shape, dtype=torch.int32, device=like.device)

    def add(self, logit: torch.Tensor, index: int) -> None:
        wins = (logit > self.highest) | ((logit == self.highest) & (self.label > index))
        self.label.masked_fill_(wins, index)
        higher = torch.maximum(self.highest, logit)
        self.total.mul_((self.highest - higher).exp_()).add_((logit - higher).exp_())
        self.highest = higher


def _classes(query_to_class: Sequence[int]) -> list[int]:
    indexes = np.asarray(query_to_class)
    if indexes.ndim != 1 or not indexes.size or indexes.dtype.kind not in "iu" or indexes.min() < 0:
        raise OptionError(f"query_to_class: expected class indexes of 0 or more, got {query_to_class!r:.200}")
    classes: list[int] = indexes.tolist()
    return classes
