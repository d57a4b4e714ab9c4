"""The training objective of the embedded model.

It consists of FG-CLIP's global contrast (short and long captions) and region contrast; for each sampled point, the
choice among the phrases of its image and the presence of true and false phrases; and for each point and box, the choice
of the true word for shape, pattern and colour.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from fgseg.encoders.encoder import normalized_pixels
from fgseg.encoders.networks.fgclip import FgClipModel
from fgseg.training.losses import pair_loss
from recipes.mini.batches import ATTRIBUTE_PHRASES, PATCH, STRIDE, Batch, Tokenized
from recipes.mini.patch_losses import one_of, patch_choice, patch_presence
from recipes.mini.towers import VisionTower

__all__ = ["losses"]

NEGATIVE_WEIGHT = 2.0
BOX_WEIGHT = 3.0
GLOBAL_WEIGHT = 2.0  # with 1.0, 85 of 100 short captions found their image after 5,010 steps
WORD_WEIGHTS = {"shape": 1.0, "pattern": 0.5, "color": 1.0}  # patterns are the easiest to learn


def losses(model: FgClipModel, tokenized: Tokenized, tower: VisionTower) -> dict[str, Tensor]:
    """Compute the losses of a batch by name."""
    batch, phrases, captions = tokenized
    device = model.logit_scale.device
    dense, image = tower(model, normalized_pixels(batch.pixels.to(device)))
    phrase = F.normalize(model.text_features(phrases.to(device), route="region").float(), dim=-1)
    values = {}
    # In float32: bf16 has 8 significant bits, too few for differences of cosines that a scale of 50 multiplies.
    if batch.captions:
        caption = F.normalize(model.text_features(captions.to(device), route=batch.route).float(), dim=-1)
        with torch.autocast(device.type, enabled=False):
            values["global"] = GLOBAL_WEIGHT * pair_loss(image, caption, model.logit_scale.exp())
    with torch.autocast(device.type, enabled=False):
        scale = model.logit_scale_finegraind.exp()
        return values | _phrase_losses(batch, dense, phrase, scale) | _word_losses(batch, dense, phrase, scale)


def _phrase_losses(batch: Batch, dense: Tensor, phrase: Tensor, scale: Tensor) -> dict[str, Tensor]:
    """The losses of whole phrases, per box and per point."""
    labels, rows, truth = (tensor.to(dense.device) for tensor in (batch.labels, batch.phrase_rows, batch.truth))
    height, width = batch.pixels.shape[1:3]
    compared = torch.cat([phrase[:1].expand(len(rows), 1, -1), phrase[rows]], 1)
    cosine = _upsampled(dense, compared, (height, width))
    rival, cosine = cosine[:, 0].flatten(1), cosine[:, 1:].flatten(2).transpose(1, 2)
    point_truth = truth[labels[:, :, None], rows[:, None, :]]
    return {
        "region": BOX_WEIGHT * _region_loss(batch, dense, phrase, scale),
        "choice": patch_choice(cosine, rival, point_truth, scale, weight=_point_weights(labels)),
        "presence": patch_presence(cosine, rival, point_truth, scale, negative_weight=NEGATIVE_WEIGHT),
    }


def _upsampled(dense: Tensor, texts: Tensor, image_hw: tuple[int, int]) -> Tensor:
    """(B, P, H/STRIDE, W/STRIDE) cosines of the sampled points with (B, P, D) or (P, D) texts."""
    grid = (texts @ dense.transpose(1, 2)).reshape(len(dense), -1, image_hw[0] // PATCH, image_hw[1] // PATCH)
    return F.interpolate(grid, scale_factor=PATCH / STRIDE, mode="bilinear", align_corners=False)


def _word_losses(batch: Batch, dense: Tensor, phrase: Tensor, scale: Tensor) -> dict[str, Tensor]:
    """The losses of the words for shape, pattern and colour, per point and per box."""
    labels, truth = batch.labels.to(dense.device), batch.truth.to(dense.device)
    height, width = batch.pixels.shape[1:3]
    index, pooled = _boxes(batch, dense)
    weight, even = _point_weights(labels).flatten(), torch.ones(len(index), device=dense.device)
    values, first = {}, 1  # row 0 is the rival
    for kind, words in ATTRIBUTE_PHRASES.items():
        columns = slice(first, first := first + len(words))
        cosine = _upsampled(dense, phrase[columns], (height, width)).flatten(2).transpose(1, 2).flatten(0, 1)
        point_loss = one_of(cosine, truth[labels.flatten(), columns], scale, weight=weight)
        box_loss = one_of(pooled @ phrase[columns].T, truth[index, columns], scale, weight=even)
        values[kind] = WORD_WEIGHTS[kind] * (point_loss + box_loss)
    return values


def _boxes(batch: Batch, dense: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) index and (N, D) unit-length box feature of every visible thing."""
    pooling, things = batch.pooling.to(dense.device), batch.things.to(dense.device)
    visible = (pooling.sum(-1) > 0.5) & (things >= 0)
    return things[visible], F.normalize((pooling @ dense)[visible], dim=-1)


def _region_loss(batch: Batch, dense: Tensor, phrase: Tensor, scale: Tensor) -> Tensor:
    """The sum of three contrasts with the weights 1/2, 1/4 and 1/4.

    They compare each box with all phrases of the batch, including hard negatives; each box with the names of all boxes;
    and each name with all boxes.
    """
    name_rows, truth = batch.name_rows.to(dense.device), batch.truth.to(dense.device)
    index, pooled = _boxes(batch, dense)
    target = name_rows[index]
    logits = scale * pooled @ phrase[1:].T
    own = F.one_hot(target - 1, logits.shape[1]).bool()
    logits = logits.masked_fill((truth[index][:, 1:] != 0) & ~own, -torch.inf)
    named = truth[index, target] == 1  # clutter has no name
    among_all = F.cross_entropy(logits[named], target[named] - 1)
    also_true = truth[index[named]][:, target[named]] != 0
    among_names = pair_loss(pooled[named], phrase[target[named]], scale, ignored=also_true)
    return (among_all + among_names) / 2


def _point_weights(labels: Tensor) -> Tensor:
    """(B, N) weights of the points, such that each thing has the square root of its area as weight."""
    area = torch.zeros(int(labels.max()) + 1, device=labels.device)
    area.index_add_(0, labels.flatten(), torch.ones(labels.numel(), device=labels.device))
    return area[labels].rsqrt()
