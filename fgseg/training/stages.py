"""A step of FG-CLIP's two training stages: features of a batch, losses, and gradients of the weights.

Stage 1 compares whole images with their short and long captions. Stage 2 adds boxes with phrases and hard negatives.
The losses compare everything in the global batch, which is that of all processes and all micro-batches of a step. The
features of all micro-batches are computed first, then the losses and their gradients with respect to the features.
Then each micro-batch is computed again to propagate these gradients through the towers (L. Gao et al., Scaling Deep
Contrastive Learning Batch Size under Memory Limited Setup, arXiv:2101.06983). A single micro-batch is computed once.
"""

from collections.abc import Sequence
from functools import partial
from itertools import accumulate
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
from fgseg.training.distributed import SINGLE, ProcessGroup
from fgseg.training.losses import hard_negative_loss, pair_loss, weighted_sum
from fgseg.training.samples import FALSE_CAPTIONS, Batch

__all__ = ["Features", "batch_features", "checkpoint_blocks", "pool_boxes", "step_gradients"]


class Features(NamedTuple):
    """Unit-length float32 features of a batch; the last three are empty in stage 1.

    Attributes:
        image: (B, D) whole images.
        short: (B, D) short captions.
        long: (B, D) long captions.
        box: (N, D) boxes.
        phrase: (N, D) captions of the boxes.
        hard: (M * 11, D) true and false captions of the boxes that have false captions.
    """

    image: Tensor
    short: Tensor
    long: Tensor
    box: Tensor
    phrase: Tensor
    hard: Tensor


def batch_features(model: FgClipModel, batch: Batch, *, stage: int, dtype: torch.dtype = torch.float32) -> Features:
    """Compute the features of a batch.

    Args:
        model: float32 weights, on any device.
        batch: on any device.
        stage: 1 or 2.
        dtype: precision of the towers under autocast, float32 or bfloat16.
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
        box = pool_boxes(patches.unflatten(1, grid_hw), batch.boxes.to(device), batch.image_index.to(device))
        phrase = _text_features(model, batch.box_ids, "region")
        hard = _text_features(model, batch.hard_ids, "region")
    return Features(*map(_unit, (image, short, long, box, phrase, hard)))


def _unit(rows: Tensor) -> Tensor:
    # bfloat16 has 8 significant bits, too few for a cosine that is multiplied by a temperature of 100
    return F.normalize(rows.float(), dim=-1)


def _text_features(model: FgClipModel, ids: Tensor, route: Route) -> Tensor:
    if not len(ids):
        return torch.zeros(0, model.config.width, device=model.logit_scale.device)
    return model.text_features(ids.to(model.logit_scale.device), route=route)


def pool_boxes(grids: Tensor, boxes: Tensor, image_index: Tensor) -> Tensor:
    """Mean feature of each box, as `fgseg.regions.pooling.box_features`, for a batch of grids.

    Args:
        grids: (B, Gh, Gw, D).
        boxes: (N, 4) float32 left, top, right, bottom, as fractions of the sides.
        image_index: (N,) int64, the grid of each box, in ascending order.

    Returns:
        (N, D) float32, not normalised; differentiable with respect to the grids.
    """
    count, height, width, depth = grids.shape
    if not len(boxes):
        return grids.new_zeros(0, depth, dtype=torch.float32)
    with torch.autocast(grids.device.type, enabled=False):
        weights = box_weights(boxes * boxes.new_tensor([width, height, width, height]), (height, width)).flatten(1)
        first = torch.searchsorted(image_index, image_index)  # the first box of the same grid
        number = torch.arange(len(boxes), device=boxes.device) - first
        grid_weights = weights.new_zeros(count, int(number.max()) + 1, height * width)
        grid_weights[image_index, number] = weights
        return (grid_weights @ grids.flatten(1, 2).float())[image_index, number]


def step_gradients(
    model: FgClipModel,
    batches: Sequence[Batch],
    *,
    stage: int,
    dtype: torch.dtype = torch.float32,
    processes: ProcessGroup = SINGLE,
) -> dict[str, float]:
    """Set the `grad` of the weights to the gradient of the global batch's loss.

    Args:
        model: each `grad` is None.
        batches: micro-batches of this process.
        stage: 1 or 2.
        dtype: as `batch_features`.
        processes: the processes whose batches make up the global batch; all of them must call this.

    Returns:
        the losses of the global batch by name (short, long, region, hard), and their weighted sum as `loss`.
    """
    recompute = len(batches) > 1
    with torch.set_grad_enabled(not recompute):
        computed = [batch_features(model, batch, stage=stage, dtype=dtype) for batch in batches]
    losses, gradients = _loss_gradients(model, computed, batches, stage=stage, processes=processes)
    for number, batch in enumerate(batches):
        features = batch_features(model, batch, stage=stage, dtype=dtype) if recompute else computed[number]
        own = [(f, g[number]) for f, g in zip(features, gradients, strict=True) if f.requires_grad]
        if own:
            torch.autograd.backward([feature for feature, _ in own], [gradient for _, gradient in own])
    _add_gradients(model, processes)
    return losses


def _loss_gradients(
    model: FgClipModel,
    computed: Sequence[Features],
    batches: Sequence[Batch],
    *,
    stage: int,
    processes: ProcessGroup,
) -> tuple[dict[str, float], list[tuple[Tensor, ...]]]:
    """The losses, and the gradient of each kind of feature per micro-batch. Also sets those of the temperatures."""
    local = [torch.cat(same).detach() for same in zip(*computed, strict=True)]
    # All but the hard captions, which are compared with their own box only.
    compared, spans = zip(*(processes.gather(rows) for rows in local[:-1]), strict=True)
    leaves = [rows.clone().requires_grad_() for rows in (*compared, local[-1])]
    image, short, long, box, phrase, hard = leaves
    scale = model.logit_scale.exp()
    shares = {name: pair_loss(image, text, scale, own=spans[0]) for name, text in (("short", short), ("long", long))}
    if stage == 2:
        shares["region"] = pair_loss(box, phrase, model.logit_scale_finegraind.exp(), own=spans[3])
        rows, is_text = _hard_boxes(batches)
        total = int(processes.add(torch.tensor(len(rows), device=scale.device)))
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
    own = [processes.add(gradient)[span] for gradient, span in zip(gradients[:-1], spans, strict=True)] + gradients[-1:]
    sizes = [[len(rows) for rows in same] for same in zip(*computed, strict=True)]
    values = processes.add(torch.stack([*shares.values(), loss]).detach()).tolist()
    split = [torch.split(gradient, size) for gradient, size in zip(own, sizes, strict=True)]
    return dict(zip([*shares, "loss"], values, strict=True)), split


def _hard_boxes(batches: Sequence[Batch]) -> tuple[Tensor, Tensor]:
    """(M,) rows among the boxes of all micro-batches, and (M, 11) bool, which of their captions exist."""
    first = accumulate((len(batch.boxes) for batch in batches), initial=0)
    rows = [batch.hard_rows + start for batch, start in zip(batches, first, strict=False)]
    return torch.cat(rows), torch.cat([batch.is_text for batch in batches])


def _zeros_if_none(tensor: Tensor) -> Tensor:
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad


def _add_gradients(model: nn.Module, processes: ProcessGroup) -> None:
    """Sum the gradients of all processes. A weight that no loss depends on gets the gradient 0."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = [_zeros_if_none(parameter) for parameter in trained]
    if processes.world_size > 1:
        flat = processes.add(torch.cat([gradient.flatten() for gradient in gradients]))
        gradients = list(torch.split(flat, [gradient.numel() for gradient in gradients]))
    for parameter, gradient in zip(trained, gradients, strict=True):
        parameter.grad = gradient.view_as(parameter)


def checkpoint_blocks(model: nn.Module) -> None:
    """Make every transformer block discard its activations and compute them again in the backward pass.

    This takes a third more computing time and keeps the activations of one block instead of all. The results are the
    same, since the blocks use no random numbers.
    """
    for block in model.modules():
        if isinstance(block, Block):
            again = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
            block.forward = again  # type: ignore[method-assign]
