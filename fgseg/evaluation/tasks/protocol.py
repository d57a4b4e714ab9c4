"""The last steps of the published evaluation protocol: from scores of query words to class labels."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np
import torch

from fgseg._checks import check_number
from fgseg.errors import OptionError, ShapeError
from fgseg.types import MAX_CLASSES
from fgseg.upsample.maps import upsample_maps

__all__ = ["protocol_label_map", "protocol_label_maps"]


def protocol_label_map(
    scores: torch.Tensor | Iterable[torch.Tensor],
    query_to_class: Sequence[int],
    image_hw: tuple[int, int],
    *,
    logit_scale: float,
    prob_threshold: float = 0.0,
    losers: Collection[int] = (),
) -> tuple[torch.Tensor, torch.Tensor]:
    """Class labels from the scores of query words: as SCLIP, NACLIP and ClearCLIP evaluate.

    Each word's scores are upsampled to the image, times `logit_scale`, softmax over all words, maximum over
    each class's words, argmax over classes; pixels whose probability is below `prob_threshold` become class
    0. Softmax keeps the order of words, so one pass over the words with a running maximum and a running sum
    of exponentials gives the same: five score maps are held beside the words', never (Q, H, W). Where no
    threshold is used, `fgseg.upsample.labels.label_map` gives the same words faster.

    Args:
        scores: (Q, h, w) scores of the query words on patches, on a canvas, or refined on the image's pixels;
            or chunks (q, h, w) of them, in order, such as `fgseg.scoring.windows.stitch_chunks` makes.
        query_to_class: Q class indexes, 0 or more.
        image_hw: (height, width) of the image, in pixels.
        logit_scale: factor on the scores before the softmax, above 0.
        prob_threshold: in [0, 1]; 0 leaves every pixel its class. Use it only where class 0 is a background.
        losers: classes that take part in the softmax and win no pixel, as SCLIP has it for those that cover
            too little; their pixels go to the best of the others.

    Returns:
        `labels` (H, W) int32 class indexes, the lowest on a tie; `probability` (H, W) float32 in (0, 1] of
        the winning class's best word (before the threshold is applied), on the scores' device.

    Raises:
        ShapeError: chunks of other axes, no word, or NaN or infinity.
        OptionError: not one class index a word, no class that may win, or a number out of range.

    Example:
        >>> scores = torch.tensor([[[0.0, 0.1]], [[0.1, 0.0]], [[0.09, 0.09]]])
        >>> protocol_label_map(scores, [2, 1, 0], (1, 2), logit_scale=40, prob_threshold=0.5)
        (tensor([[1, 2]], dtype=torch.int32), tensor([[0.5922, 0.5922]]))
    """
    check_number("prob_threshold", prob_threshold, low=0, high=1)
    ((labels, probability),) = protocol_label_maps(
        scores, query_to_class, image_hw, logit_scales=[logit_scale], losers=losers
    )
    return labels.masked_fill(probability < prob_threshold, 0), probability


def protocol_label_maps(
    scores: torch.Tensor | Iterable[torch.Tensor],
    query_to_class: Sequence[int],
    image_hw: tuple[int, int],
    *,
    logit_scales: Sequence[float],
    losers: Collection[int] = (),
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """`protocol_label_map` without a threshold at several scales, in one pass over the words.

    Args and errors as there; `logit_scales` holds one scale or more.

    Returns:
        (labels, probability) for each scale.

    Example:
        >>> scores = torch.tensor([[[0.0]], [[0.1]]])
        >>> made = protocol_label_maps(scores, [0, 1], (1, 1), logit_scales=[10, 40])
        >>> [round(float(probability), 2) for _, probability in made]
        [0.73, 0.98]
    """
    if not len(logit_scales):
        raise OptionError("logit_scales: expected one scale or more, got none")
    for logit_scale in logit_scales:
        check_number("logit_scale", logit_scale, low=1e-6, high=1e6)
    classes = _classes(query_to_class)
    if set(classes) <= set(losers):
        raise OptionError(f"losers: expected a class that may win, got all of {sorted(set(classes))}")
    running: list[_Running] = []
    count = 0
    for score_map in _upsampled(scores, image_hw):
        if count == len(classes):
            raise OptionError(f"query_to_class: expected one a query word, got only {count}")
        index, count = classes[count], count + 1
        running = running or [_Running(score_map) for _ in logit_scales]
        for state, logit_scale in zip(running, logit_scales, strict=True):
            state.add(score_map * logit_scale, index, may_win=index not in losers)
    _check_count(count, len(classes))
    return [(state.label, state.probability()) for state in running]


def _upsampled(scores: torch.Tensor | Iterable[torch.Tensor], image_hw: tuple[int, int]) -> Iterator[torch.Tensor]:
    for chunk in [scores] if isinstance(scores, torch.Tensor) else scores:
        yield from upsample_maps(chunk, image_hw)


def _check_count(count: int, expected: int) -> None:
    if not count:
        raise ShapeError("scores: expected at least one query word, got none; give a class")
    if count < expected:
        raise OptionError(f"query_to_class: expected one a query word, {count}, got {expected}")


class _Running:
    """Highest logit so far, the winner's, its class, and the sum of exponentials relative to the highest: (H, W)."""

    def __init__(self, like: torch.Tensor) -> None:
        self.highest = torch.full_like(like, -torch.inf)
        self.best = self.highest.clone()
        self.total = torch.zeros_like(like)
        self.label = torch.zeros(like.shape, dtype=torch.int32, device=like.device)

    def add(self, logit: torch.Tensor, index: int, *, may_win: bool) -> None:
        if may_win:
            wins = (logit > self.best) | ((logit == self.best) & (self.label > index))
            self.label.masked_fill_(wins, index)
            self.best = torch.maximum(self.best, logit)
        higher = torch.maximum(self.highest, logit)
        self.total.mul_((self.highest - higher).exp_()).add_((logit - higher).exp_())
        self.highest = higher

    def probability(self) -> torch.Tensor:
        return (self.best - self.highest).exp_() / self.total


def _classes(query_to_class: Sequence[int]) -> list[int]:
    try:
        indexes = np.asarray(query_to_class)
    except ValueError:  # lists of different lengths
        indexes = np.empty(0)
    is_index = indexes.ndim == 1 and indexes.size > 0 and indexes.dtype.kind in "iu"
    if not is_index or indexes.min() < 0 or indexes.max() >= MAX_CLASSES:
        raise OptionError(
            f"query_to_class: expected class indexes from 0 to {MAX_CLASSES - 1}, got {query_to_class!r:.200}"
        )
    classes: list[int] = indexes.tolist()
    return classes
