"""The losses of the embedded model per patch and per word, in addition to FG-CLIP's (`fgseg.training.losses`).

The losses are pure functions of cosines and return a scalar.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["one_of", "patch_choice", "patch_presence"]


def patch_presence(cosine: Tensor, rival: Tensor, truth: Tensor, scale: Tensor, *, negative_weight: float) -> Tensor:
    """Binary cross-entropy of presence = sigmoid(scale * (cosine - rival)) for each patch and phrase.

    Presence is the quantity that masks threshold. The means over true and false pairs are computed separately, since
    there are many more false pairs. The mean of no pairs is 0.

    Args:
        cosine: (B, N, P) of N patches with P phrases.
        rival: (B, N) cosine with the rival phrase.
        truth: (B, N, P) 1 true, 0 false, -1 open and not counted.
        scale: scalar that multiplies the cosines.
        negative_weight: weight of the mean over false pairs; that of true pairs has weight 1.

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
    """Cross-entropy of each point over the rival and the phrases of its image; several may be true.

    The rival is the true choice where no phrase is true. A point with an open phrase and no true one is not counted.

    Args:
        cosine: (B, N, P) of N points with P phrases.
        rival: (B, N) cosine with the rival phrase.
        truth: as `patch_presence`.
        scale: scalar that multiplies the cosines.
        weight: (B, N) weight of each point, at least 0.

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
    """Cross-entropy of each row over mutually exclusive words.

    Args:
        cosine: (N, P) of N points or boxes with P words.
        truth: (N, P) 1 true, 0 false, -1 open and not counted.
        scale: scalar that multiplies the cosines.
        weight: (N,) weight of each row, at least 0.

    Returns:
        the weighted mean over the rows with exactly one true word; 0 if there are none.

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
