"""The last steps of the published evaluation protocol: from scores of query words to class labels."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import chain

import torch

from fgseg.upsample.maps import upsample_maps

__all__ = ["protocol_label_maps"]


def protocol_label_maps(
    scores: Iterable[torch.Tensor],
    query_to_class: Sequence[int],
    image_hw: tuple[int, int],
    *,
    logit_scales: Sequence[float],
    losers: Collection[int] = (),
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Class labels from the scores of query words at several scales, as SCLIP, NACLIP and ClearCLIP evaluate.

    The scores of each word are upsampled to the image and multiplied by the scale. A softmax over all words, the
    maximum over the words of each class and the argmax over classes follow. Softmax keeps the order of the words, so
    that one pass over them with a running maximum and a running sum of exponentials gives the same: five score maps
    are held for each scale, never (Q, H, W). `fgseg.upsample.labels.label_map` is faster and gives the same labels if
    the probabilities are not needed.

    Args:
        scores: chunks (q, h, w) of the scores of the query words in order, on patches, on a canvas, or refined on the
            image's pixels; `fgseg.scoring.windows.stitch_chunks` makes such chunks.
        query_to_class: Q class indices, 0 or more.
        image_hw: (height, width) of the image in pixels.
        logit_scales: factors on the scores before the softmax, above 0, at least one.
        losers: classes that take part in the softmax and win no pixel, as in SCLIP for classes that cover too little;
            their pixels go to the best of the others. At least one class is not among them.

    Returns:
        `labels` (H, W) int32 class indices, the lowest on a tie, and `probability` (H, W) float32 in (0, 1] of the
        best word of the winning class, for each scale, on the device of the scores.

    Raises:
        ShapeError: a chunk has other axes, or holds NaN or infinity.

    Example:
        >>> scores = torch.tensor([[[0.0, 0.1]], [[0.1, 0.0]], [[0.09, 0.09]]])
        >>> protocol_label_maps([scores], [2, 1, 0], (1, 2), logit_scales=[40])
        [(tensor([[1, 2]], dtype=torch.int32), tensor([[0.5922, 0.5922]]))]
    """
    running: list[_RunningSoftmax] = []
    maps = chain.from_iterable(upsample_maps(chunk, image_hw) for chunk in scores)
    for index, score_map in zip(query_to_class, maps, strict=True):
        running = running or [_RunningSoftmax(score_map) for _ in logit_scales]
        for state, logit_scale in zip(running, logit_scales, strict=True):
            state.add(score_map * logit_scale, index, may_win=index not in losers)
    return [(state.label, state.probability()) for state in running]


class _RunningSoftmax:
    """The softmax over the words so far, (H, W) each.

    Attributes: `highest` logit, `best` logit of a class that may win, its class `label`, and the `total` of the
    exponentials relative to the highest logit.
    """

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
