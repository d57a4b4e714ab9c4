"""What the embedded model is trained for, on batches of scenes.

FG-CLIP's global contrast (short and long captions) and region contrast; per place the choice among the image's own
phrases and the presence of right and wrong ones; per place and box which shape's, pattern's and colour's word is true.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from fgseg.encoders.encoder import normalized_pixels
from fgseg.encoders.networks.fgclip import FgClipModel
from fgseg.training.losses import pair_loss
from recipes.mini.batches import PATCH, SAMPLE, WORDS, Batch, Tokenized
from recipes.mini.patch_losses import one_of, patch_choice, patch_presence
from recipes.mini.towers import Seeing

__all__ = ["losses"]

NEGATIVE_WEIGHT = 2.0
BOX_WEIGHT = 3.0
GLOBAL_WEIGHT = 2.0  # with 1.0, after 5,010 steps, 85 of 100 short captions found their image
WORD_WEIGHTS = {"shape": 1.0, "pattern": 0.5, "color": 1.0}  # patterns are the easiest


def losses(model: FgClipModel, tokenized: Tokenized, see: Seeing) -> dict[str, Tensor]:
    """The losses of a batch, by name."""
    batch, phrases, captions = tokenized
    device = model.logit_scale.device
    dense, image = see(model, normalized_pixels(batch.pixels.to(device)))
    phrase = F.normalize(model.text_features(phrases.to(device), route="region").float(), dim=-1)
    parts = {}
    # bf16 keeps 8 bits of a cosine, too few for differences that a scale of 50 multiplies: float32 for losses.
    if batch.captions:
        caption = F.normalize(model.text_features(captions.to(device), route=batch.route).float(), dim=-1)
        with torch.autocast(device.type, enabled=False):
            parts["global"] = GLOBAL_WEIGHT * pair_loss(image, caption, model.logit_scale.exp())
    with torch.autocast(device.type, enabled=False):
        scale = model.logit_scale_finegraind.exp()
        return parts | _compared(batch, dense, phrase, scale) | _word_losses(batch, dense, phrase, scale)


def _compared(batch: Batch, dense: Tensor, phrase: Tensor, region_scale: Tensor) -> dict[str, Tensor]:
    """The losses of whole phrases, per box and per place."""
    owner, own, truth = (part.to(dense.device) for part in (batch.owner, batch.own, batch.truth))
    height, width = batch.pixels.shape[1:3]
    asked = torch.cat([phrase[:1].expand(len(own), 1, -1), phrase[own]], 1)
    cosine = _upsampled(dense, asked, (height, width))
    rival, cosine = cosine[:, 0].flatten(1), cosine[:, 1:].flatten(2).transpose(1, 2)
    place_truth = truth[owner[:, :, None], own[:, None, :]]
    return {
        "region": BOX_WEIGHT * _region_loss(batch, dense, phrase, region_scale),
        "choice": patch_choice(cosine, rival, place_truth, region_scale, weight=_small_things_count(owner)),
        "presence": patch_presence(cosine, rival, place_truth, region_scale, negative_weight=NEGATIVE_WEIGHT),
    }


def _upsampled(dense: Tensor, texts: Tensor, image_hw: tuple[int, int]) -> Tensor:
    """(B, P, H/SAMPLE, W/SAMPLE) cosines of the places that the losses look at with (B, P, D) or (P, D) texts."""
    grid = (texts @ dense.transpose(1, 2)).reshape(len(dense), -1, image_hw[0] // PATCH, image_hw[1] // PATCH)
    return F.interpolate(grid, scale_factor=PATCH / SAMPLE, mode="bilinear", align_corners=False)


def _word_losses(batch: Batch, dense: Tensor, phrase: Tensor, scale: Tensor) -> dict[str, Tensor]:
    """Which shape's, pattern's and colour's word is true of every place and of every box."""
    owner, truth = batch.owner.to(dense.device), batch.truth.to(dense.device)
    height, width = batch.pixels.shape[1:3]
    index, pooled = _boxes(batch, dense)
    weight, even = _small_things_count(owner).flatten(), torch.ones(len(index), device=dense.device)
    parts, start = {}, 1  # after the rival
    for kind, asked in WORDS.items():
        columns = slice(start, start := start + len(asked))
        place = _upsampled(dense, phrase[columns], (height, width)).flatten(2).transpose(1, 2).flatten(0, 1)
        placed = one_of(place, truth[owner.flatten(), columns], scale, weight=weight)
        boxed = one_of(pooled @ phrase[columns].T, truth[index, columns], scale, weight=even)
        parts[kind] = WORD_WEIGHTS[kind] * (placed + boxed)
    return parts


def _boxes(batch: Batch, dense: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) index into the things, and (N, D) unit feature of the box, of every thing that is to be seen."""
    pooling, things = batch.pooling.to(dense.device), batch.things.to(dense.device)
    counted = (pooling.sum(-1) > 0.5) & (things >= 0)  # a thing that is hidden has no feature
    return things[counted], F.normalize((pooling @ dense)[counted], dim=-1)


def _region_loss(batch: Batch, dense: Tensor, phrase: Tensor, scale: Tensor) -> Tensor:
    """Three contrasts, by 1/2, 1/4 and 1/4.

    Every box against all phrases of the batch, hard negatives among them; every box against the names of all boxes;
    and every name against all boxes.
    """
    full, truth = batch.full.to(dense.device), batch.truth.to(dense.device)
    index, pooled = _boxes(batch, dense)
    target = full[index]
    logits = scale * pooled @ phrase[1:].T
    own = F.one_hot(target - 1, logits.shape[1]).bool()
    logits = logits.masked_fill((truth[index][:, 1:] != 0) & ~own, -torch.inf)
    named = truth[index, target] == 1  # clutter is called nothing
    among_all = F.cross_entropy(logits[named], target[named] - 1)
    also_true = truth[index[named]][:, target[named]] != 0
    among_names = pair_loss(pooled[named], phrase[target[named]], scale, ignored=also_true)
    return (among_all + among_names) / 2


def _small_things_count(owner: Tensor) -> Tensor:
    """(B, N) weights: each thing counts as the root of its area, between a pixel each and a thing each."""
    area = torch.zeros(int(owner.max()) + 1, device=owner.device)
    area.index_add_(0, owner.flatten(), torch.ones(owner.numel(), device=owner.device))
    return area[owner].rsqrt()
