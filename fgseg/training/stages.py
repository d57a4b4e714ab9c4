"""A step of FG-CLIP's two training stages: features of a batch, their losses, and the gradients of the weights.

Stage 1 compares whole images with their short and their long captions; stage 2 adds boxes with phrases and hard
negatives. The losses compare everything in the global batch, that of all processes and of all the micro-batches of a
step, whatever fits into memory at once: features of every micro-batch are computed first, the losses and the
gradients of the features from all of them, and then each micro-batch is computed again to send those gradients back
through the towers (L. Gao et al., Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup,
arXiv:2101.06983). A step of one micro-batch is computed once.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from fgseg.encoders.encoder import normalized_pixels
from fgseg.encoders.networks.blocks import Block
from fgseg.encoders.networks.clip import Route
from fgseg.encoders.networks.fgclip import FgClipModel
from fgseg.regions.pooling import box_weights
from fgseg.training.distributed import ALONE, Ranks
from fgseg.training.losses import hard_negative_loss, pair_loss, weighted_sum
from fgseg.training.samples import FALSE_CAPTIONS, Batch

__all__ = ["Features", "batch_features", "checkpoint_blocks", "pooled_boxes", "step_gradients"]


class Features(NamedTuple):
    """Unit-length float32 features of a batch; the last three are empty in stage 1.

    Attributes:
        image: (B, D) whole images.
        short: (B, D) short captions.
        long: (B, D) long captions.
        box: (N, D) boxes.
        phrase: (N, D) what is said of the boxes.
        hard: (M * 11, D) true and false captions of the boxes that have false ones.
    """

    image: Tensor
    short: Tensor
    long: Tensor
    box: Tensor
    phrase: Tensor
    hard: Tensor


def batch_features(model: FgClipModel, batch: Batch, *, stage: int, dtype: torch.dtype = torch.float32) -> Features:
    """Features of a batch.

    Args:
        model: float32 weights, on any device.
        batch: on any device.
        stage: 1 or 2.
        dtype: what the towers compute in, by autocast; float32 or bfloat16.
    """
    device = model.logit_scale.device
    empty = torch.zeros(0, model.config.width, device=device)
    if not len(batch.pixels):
        return Features(empty, empty, empty, empty, empty, empty)
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
        hidden, grid_hw = model.vision_model.before_last(normalized_pixels(batch.pixels.to(device)))
        image = model.visual_projection(model.vision_model.global_token(hidden))
        short = _text_features(model, batch.short_ids, "short")
        long = _text_features(model, batch.long_ids, "long")
        if stage == 1:
            return Features(_unit(image), _unit(short), _unit(long), empty, empty, empty)
        patches = model.visual_projection(model.vision_model.patch_tokens(hidden, grid_hw, "value"))
        box = pooled_boxes(patches.unflatten(1, grid_hw), batch.boxes.to(device), batch.owner.to(device))
        phrase = _text_features(model, batch.box_ids, "region")
        hard = _text_features(model, batch.hard_ids, "region")
    return Features(*map(_unit, (image, short, long, box, phrase, hard)))


def _unit(rows: Tensor) -> Tensor:
    # bfloat16 keeps 8 bits of a cosine, too few once a temperature of 100 has multiplied it
    return F.normalize(rows.float(), dim=-1)


def _text_features(model: FgClipModel, ids: Tensor, route: Route) -> Tensor:
    if not len(ids):
        return torch.zeros(0, model.config.width, device=model.logit_scale.device)
    return model.text_features(ids.to(model.logit_scale.device), route=route)


def pooled_boxes(grids: Tensor, boxes: Tensor, owner: Tensor) -> Tensor:
    """Mean feature of each box, as `fgseg.regions.pooling.box_features` has it, over a batch of grids.

    Args:
        grids: (B, Gh, Gw, D).
        boxes: (N, 4) float32 left, top, right, bottom, as fractions of the sides.
        owner: (N,) int64, the grid of each box, in rising order.

    Returns:
        (N, D) float32, not normalised. Gradients flow to the grids.
    """
    count, height, width, depth = grids.shape
    if not len(boxes):
        return grids.new_zeros(0, depth, dtype=torch.float32)
    with torch.autocast(grids.device.type, enabled=False):
        weights = box_weights(boxes * boxes.new_tensor([width, height, width, height]), (height, width)).flatten(1)
        first = torch.searchsorted(owner, owner)  # of the boxes of the same grid
        place = torch.arange(len(owner), device=owner.device) - first
        of_grids = weights.new_zeros(count, int(place.max()) + 1, height * width)
        of_grids[owner, place] = weights
        return (of_grids @ grids.flatten(1, 2).float())[owner, place]


def step_gradients(
    model: FgClipModel,
    batches: Sequence[Batch],
    *,
    stage: int,
    dtype: torch.dtype = torch.float32,
    ranks: Ranks = ALONE,
) -> dict[str, float]:
    """Make the weights' `grad` that of the global batch's loss.

    Args:
        model: its `grad` are None.
        batches: micro-batches of this process.
        stage: 1 or 2.
        dtype: as in `batch_features`.
        ranks: the processes whose batches make up the global batch; all of them call this together.

    Returns:
        the global batch's losses by name (short, long, region, hard), and their weighted sum as `loss`.
    """
    is_twice = len(batches) > 1
    with torch.set_grad_enabled(not is_twice):
        parts = [batch_features(model, batch, stage=stage, dtype=dtype) for batch in batches]
    losses, gradients = _loss_gradients(model, parts, batches, stage=stage, ranks=ranks)
    for number, batch in enumerate(batches):
        features = batch_features(model, batch, stage=stage, dtype=dtype) if is_twice else parts[number]
        own = [(f, g[number]) for f, g in zip(features, gradients, strict=True) if f.requires_grad]
        if own:
            torch.autograd.backward([feature for feature, _ in own], [gradient for _, gradient in own])
    _add_over_ranks(model, ranks)
    return losses


def _loss_gradients(
    model: FgClipModel, parts: Sequence[Features], batches: Sequence[Batch], *, stage: int, ranks: Ranks
) -> tuple[dict[str, float], list[tuple[Tensor, ...]]]:
    """Losses, and the gradient of each kind of feature, split by micro-batch; adds those of the temperatures."""
    local = [torch.cat(same).detach() for same in zip(*parts, strict=True)]
    compared, spans = zip(*(ranks.gather(rows) for rows in local[:-1]), strict=True)  # hard texts meet their box alone
    leaves = [rows.clone().requires_grad_() for rows in (*compared, local[-1])]
    image, short, long, box, phrase, hard = leaves
    scale = model.logit_scale.exp()
    shares = {name: pair_loss(image, text, scale, own=spans[0]) for name, text in (("short", short), ("long", long))}
    if stage == 2:
        shares["region"] = pair_loss(box, phrase, model.logit_scale_finegraind.exp(), own=spans[3])
        rows, is_text = _hard_boxes(parts, batches)
        total = int(ranks.add(torch.tensor(len(rows), device=scale.device)))
        shares["hard"] = hard_negative_loss(
            box[spans[3]][rows.to(scale.device)],
            hard.unflatten(0, (-1, 1 + FALSE_CAPTIONS)),
            model.logit_scale_hardneg.exp(),
            is_text=is_text.to(scale.device),
            total=max(total, 1),
        )
    loss = weighted_sum(shares)
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [_zeros_if_none(leaf) for leaf in leaves]
    mine = [ranks.add(gradient)[span] for gradient, span in zip(gradients[:-1], spans, strict=True)] + gradients[-1:]
    sizes = [[len(rows) for rows in same] for same in zip(*parts, strict=True)]
    values = ranks.add(torch.stack([*shares.values(), loss]).detach()).tolist()
    split = [torch.split(gradient, size) for gradient, size in zip(mine, sizes, strict=True)]
    return dict(zip([*shares, "loss"], values, strict=True)), split


def _hard_boxes(parts: Sequence[Features], batches: Sequence[Batch]) -> tuple[Tensor, Tensor]:
    """(M,) rows among the boxes of all micro-batches, and (M, 11) which of their texts are there."""
    first, rows = 0, []
    for part, batch in zip(parts, batches, strict=True):
        rows.append(batch.hard_rows + first)
        first += len(part.box)
    return torch.cat(rows), torch.cat([batch.is_text for batch in batches])


def _zeros_if_none(tensor: Tensor) -> Tensor:
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad


def _add_over_ranks(model: nn.Module, ranks: Ranks) -> None:
    """Sum the gradients of all processes; a weight that no loss of the step touched has gradient 0 on every one."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = [_zeros_if_none(parameter) for parameter in trained]
    if ranks.world > 1:
        flat = ranks.add(torch.cat([gradient.flatten() for gradient in gradients]))
        gradients = list(torch.split(flat, [gradient.numel() for gradient in gradients]))
    for parameter, gradient in zip(trained, gradients, strict=True):
        parameter.grad = gradient.view_as(parameter)


def checkpoint_blocks(model: nn.Module) -> None:
    """Let every transformer block forget what it computed and compute it again for the gradient.

    Memory for time: a third more work, and activations of one block instead of all. Results are the same, since the
    blocks draw nothing at random.
    """
    for block in model.modules():
        if isinstance(block, Block):
            again = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
            block.forward = again  # type: ignore[method-assign]
