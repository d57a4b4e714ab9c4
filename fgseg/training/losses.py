"""FG-CLIP's losses (arXiv:2505.05071): contrast of images and captions, of boxes and phrases, and hard negatives.

The losses are pure functions of unit-length features. Each takes the features of the global batch and returns the
*share* of some of its rows. The shares of all processes add up to the loss of the batch, so a process computes only its
own rows of the similarity matrix.

The weights are those of the published training. As there, equal captions in a batch are negatives of each other.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from fgseg._checks import check_array
from fgseg.errors import ShapeError

__all__ = ["HARD_WEIGHT", "REGION_WEIGHT", "hard_negative_loss", "pair_loss", "weighted_sum"]

REGION_WEIGHT, HARD_WEIGHT = 0.1, 0.5  # of the published training
_WEIGHTS = {"short": 1.0, "long": 1.0, "region": REGION_WEIGHT, "hard": HARD_WEIGHT}


def pair_loss(
    left: Tensor, right: Tensor, scale: Tensor, *, own: slice | None = None, ignored: Tensor | None = None
) -> Tensor:
    """Symmetric InfoNCE between matching rows, the mean of both directions.

    Args:
        left: (N, D) unit length, of the global batch.
        right: (N, D) unit length; row n matches row n of `left`.
        scale: scalar that multiplies the cosines.
        own: rows whose share to compute; None for all rows, whose share is the loss of the batch.
        ignored: (N, N) bool, pairs of left and right that are not counted as negatives because they match too; the
            diagonal has no effect. None ignores none, as in the published training.

    Returns:
        scalar; 0 if there are no rows.

    Raises:
        ShapeError: `left` and `right` differ in shape.

    Examples:
        >>> pairs = torch.eye(2)
        >>> round(pair_loss(pairs, pairs, torch.tensor(1.0)).item(), 4)  # log(1 + exp(-1))
        0.3133
        >>> round(pair_loss(pairs, pairs, torch.tensor(1.0), own=slice(0, 1)).item(), 4)
        0.1566
    """
    check_array("left", left, ("N", "D"))
    check_array("right", right, tuple(left.shape), hint="row n matches row n of left")
    if not len(left):
        return left.sum() * scale
    rows = own or slice(0, len(left))
    target = torch.arange(len(left), device=left.device)[rows]
    across, down = scale * left[rows] @ right.T, scale * right[rows] @ left.T
    if ignored is not None:
        also_match = ignored & ~torch.eye(len(left), dtype=torch.bool, device=left.device)
        across = across.masked_fill(also_match[rows], -torch.inf)
        down = down.masked_fill(also_match.T[rows], -torch.inf)
    total = F.cross_entropy(across, target, reduction="sum") + F.cross_entropy(down, target, reduction="sum")
    return total / (2 * len(left))


def hard_negative_loss(
    box: Tensor, texts: Tensor, scale: Tensor, *, is_text: Tensor | None = None, total: int | None = None
) -> Tensor:
    """Cross-entropy of each box over its true caption and its false captions.

    Args:
        box: (M, D) unit length.
        texts: (M, K, D) unit length, the true caption first.
        scale: scalar that multiplies the cosines.
        is_text: (M, K) bool, False where a box has fewer than K captions; None if every box has K.
        total: number of boxes in the global batch, whose loss is a mean over all of them; None for M.

    Returns:
        scalar; 0 if there are no boxes.

    Raises:
        ShapeError: the shapes do not fit each other.

    Examples:
        >>> box, texts = torch.tensor([[1.0, 0.0]]), torch.eye(2)[None]
        >>> round(hard_negative_loss(box, texts, torch.tensor(1.0)).item(), 4)  # log(1 + exp(-1))
        0.3133
    """
    check_array("box", box, ("M", "D"))
    if texts.ndim != 3 or (len(texts), texts.shape[2]) != tuple(box.shape):
        raise ShapeError(
            f"texts: expected ({len(box)}, K, {box.shape[1]}), the captions of each box, got {texts.shape}"
        )
    if not len(box):
        return box.sum() * scale + texts.sum()
    logits = scale * (texts @ box[:, :, None])[..., 0]
    if is_text is not None:
        check_array("is_text", is_text, tuple(logits.shape))
        logits = logits.masked_fill(~is_text, -torch.inf)
    target = torch.zeros(len(box), dtype=torch.long, device=box.device)
    return F.cross_entropy(logits, target, reduction="sum") / (len(box) if total is None else total)


def weighted_sum(losses: dict[str, Tensor]) -> Tensor:
    """The training loss: short + long + 0.1 region + 0.5 hard, over the given losses.

    Examples:
        >>> one = torch.tensor(1.0)
        >>> weighted_sum({"short": one, "long": one, "region": one, "hard": one}).item()
        2.5999999046325684
    """
    return torch.stack([_WEIGHTS[name] * loss for name, loss in losses.items()]).sum()
