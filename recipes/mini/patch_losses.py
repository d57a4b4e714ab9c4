"""Losses of the embedded model beside FG-CLIP's own (`fgseg.training.losses`): per patch, and per word.

Every function takes unit-length features and returns a scalar; none keeps state.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["one_of", "patch_choice", "patch_presence"]


def patch_presence(cosine: Tensor, rival: Tensor, truth: Tensor, scale: Tensor, *, negative_weight: float) -> Tensor:
    """How far presence = sigmoid(scale * (cosine - rival)) is from the truth, patch by patch.

    Trains exactly the quantity that masks threshold. True and false pairs are averaged apart, since false ones are
    many times more; the mean of no pairs is 0.

    Args:
        cosine: (B, N, P) of N patches with P phrases.
        rival: (B, N) cosine with the rival word.
        truth: (B, N, P) 1 true, 0 false, -1 not counted.
        scale: scalar that multiplies the cosines.
        negative_weight: weight of the false pairs' mean beside the true pairs' mean.

    Examples:
        >>> zero = torch.zeros(1, 1, 2)
        >>> loss = patch_presence(zero, zero[..., 0], torch.tensor([[[1, 0]]]), torch.tensor(1.0), negative_weight=2.0)
        >>> round(loss.item(), 4)  # log(2) + 2 log(2)
        2.0794
    """
    margin = scale * (cosine - rival[..., None])
    missed = F.softplus(-margin)[truth == 1]
    raised = F.softplus(margin)[truth == 0]
    return missed.sum() / max(len(missed), 1) + negative_weight * raised.sum() / max(len(raised), 1)


def patch_choice(cosine: Tensor, rival: Tensor, truth: Tensor, scale: Tensor, *, weight: Tensor) -> Tensor:
    """Cross-entropy of every place over the rival and the phrases of its own image; several may be right.

    The rival is right where no phrase is true, and a place where none is true but one is left open is not counted.

    Args:
        cosine: (B, N, P) of N places with P phrases.
        rival: (B, N) cosine with the rival word.
        truth: (B, N, P) 1 true, 0 false, -1 not counted.
        scale: scalar that multiplies the cosines.
        weight: (B, N) of each place, at least 0.

    Examples:
        >>> zero = torch.zeros(1, 1, 1)
        >>> truth, weight = torch.tensor([[[1]]]), torch.ones(1, 1)
        >>> round(patch_choice(zero, zero[..., 0], truth, torch.tensor(1.0), weight=weight).item(), 4)  # log(2)
        0.6931
    """
    known = (truth == 1).any(-1)
    counted = known | (truth == 0).all(-1)
    unclear = torch.cat([torch.zeros_like(known)[..., None], truth < 0], -1)
    logits = (scale * torch.cat([rival[..., None], cosine], -1)).masked_fill(unclear, -torch.inf)
    right = torch.cat([~known[..., None], truth == 1], -1)
    missed = logits.logsumexp(-1) - logits.masked_fill(~right, -torch.inf).logsumexp(-1)
    weight = weight * counted
    return (missed * weight).sum() / weight.sum().clamp(min=1e-6)


def one_of(cosine: Tensor, truth: Tensor, scale: Tensor, *, weight: Tensor) -> Tensor:
    """Cross-entropy of every row over words that exclude each other, where exactly one of them is true.

    Args:
        cosine: (N, P) of N places or boxes with P words.
        truth: (N, P) 1 true, 0 false, -1 not counted.
        scale: scalar that multiplies the cosines.
        weight: (N,) of each row, at least 0.

    Returns:
        the weighted mean over the rows with one true word; 0 without any.

    Examples:
        >>> cosine, truth = torch.zeros(2, 4), torch.tensor([[1, 0, 0, -1], [1, 1, 0, 0]])
        >>> round(one_of(cosine, truth, torch.tensor(1.0), weight=torch.ones(2)).item(), 4)  # log(3)
        1.0986
    """
    counted = (truth == 1).sum(-1) == 1
    logits = (scale * cosine)[counted].masked_fill(truth[counted] == -1, -torch.inf)
    missed = F.cross_entropy(logits, (truth[counted] == 1).int().argmax(-1), reduction="none")
    weight = weight[counted]
    return (missed * weight).sum() / weight.sum().clamp(min=1e-6)
