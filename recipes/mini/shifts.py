"""Fixed shifts in place of attention while the embedded model is trained, and their conversion to attention.

A small vision transformer learns shapes slowly, since its attention must first learn where the neighbours of a patch
are. In the first stage there are therefore no queries and keys: each head of each block passes on the value at a fixed
offset (OFFSETS), like a sparse convolution. Some units of the hidden states are reserved for waves of the position.
`to_attention` writes queries and keys that find the same offsets from these waves; the result is a plain FG-CLIP.
"Structured Initialization for Attention in Vision Transformers" (arXiv:2404.01139) initialises attention as a
convolution in a similar way.
"""

import copy
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fgseg.encoders.networks.blocks import Block
from fgseg.encoders.networks.fgclip import FgClipModel

__all__ = ["OFFSETS", "RESERVED", "are_shift_weights", "initialise", "reset_reserved", "run_blocks", "to_attention"]

Offset = tuple[int, int] | None
EVERYWHERE: Offset = None
OFFSETS: tuple[tuple[Offset, ...], ...] = (  # (down, right) in patches of each head of each block but the last
    ((0, 1), (0, -1), (1, 0)), ((-1, 0), (1, 1), (-1, -1)), ((1, -1), (-1, 1), EVERYWHERE), ((0, 2), (0, -2), (2, 0)),
    ((-2, 0), (0, 3), (0, -3)), ((3, 0), (-3, 0), EVERYWHERE), ((0, 5), (0, -5), (5, 0)), ((-5, 0), (4, 4), (-4, -4)),
)  # fmt: skip
PERIODS = tuple(2.6 * (44 / 2.6) ** (step / 7) for step in range(8))  # of the waves, in patches
WAVES = 4 * len(PERIODS)  # units: a cosine and a sine of each period along each axis
ONE = WAVES  # index of the unit that is 1 for every patch
CLASS = WAVES + 1  # index of the unit that only the class token has
ZERO = WAVES + 2  # index of the unit that is 0 for all tokens; after a LayerNorm it holds the value that 0 has become
RESERVED = WAVES + 3  # number of reserved units
_PROBE = "vision_model.encoder.layers.0.mlp.fc2.weight"  # does not write to reserved units in training with shifts
CLASS_SIZE = 4.0
MARGIN = 24.0  # of the logit at the offset over those at its neighbours; over that of the class token it is half


def initialise(model: FgClipModel) -> None:
    """Initialise for training with shifts: larger weights than a transformer's, and waves in the position table."""
    vision = model.vision_model
    width = vision.pre_layrnorm.normalized_shape[0]
    with torch.no_grad():
        for block in _blocks(model):
            attention, mlp = block.self_attn, block.mlp
            for linear, gain in ((attention.v_proj, 1.0), (attention.out_proj, 0.5), (mlp.fc1, 1.0), (mlp.fc2, 0.5)):
                nn.init.normal_(linear.weight, std=gain * linear.in_features**-0.5)
        table = vision.embeddings.position_embedding.weight
        table.copy_(_positions(vision.embeddings.side, width))
        table.requires_grad_(False)
    reset_reserved(model)


def reset_reserved(model: FgClipModel) -> None:
    """Remove what a training step wrote to the reserved units. Call it after every step."""
    vision = model.vision_model
    with torch.no_grad():
        vision.embeddings.patch_embedding.weight[:RESERVED] = 0
        vision.embeddings.class_embedding[:RESERVED] = 0
        for norm in (vision.pre_layrnorm, *(block.layer_norm1 for block in _blocks(model))):
            norm.weight[:RESERVED], norm.bias[:RESERVED] = 1, 0
        for block in _blocks(model)[:-1]:
            for linear in (block.self_attn.out_proj, block.mlp.fc2):
                linear.weight[:RESERVED], linear.bias[:RESERVED] = 0, 0


def are_shift_weights(weights: Mapping[str, Tensor]) -> bool:
    """Whether weights, by name, were trained with shifts and not with attention afterwards."""
    return not weights[_PROBE][:RESERVED].any()


def run_blocks(model: FgClipModel, x: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """Run all blocks but the last, with shifts instead of attention.

    An offset beyond the edge gives the value of the class token. The class token gets the mean of all values.

    Args:
        model: the model.
        x: (B, 1 + Gh*Gw, width) hidden states.
        grid_hw: (Gh, Gw).

    Raises:
        ValueError: the model has more blocks than OFFSETS describes.
    """
    for block, offsets in _with_offsets(model):
        x = _run_block(block, x, offsets, grid_hw)
    return x


def _blocks(model: FgClipModel) -> list[Block]:
    return [block for block in model.vision_model.encoder.layers if isinstance(block, Block)]


def _with_offsets(model: FgClipModel) -> list[tuple[Block, tuple[Offset, ...]]]:
    """All blocks but the last, with the offsets of their heads."""
    blocks = _blocks(model)[:-1]
    return list(zip(blocks, OFFSETS[: len(blocks)], strict=True))


def _run_block(block: Block, x: Tensor, offsets: tuple[Offset, ...], grid_hw: tuple[int, int]) -> Tensor:
    value = block.self_attn.v_proj(block.layer_norm1(x))
    mean = value.mean(1, keepdim=True)
    heads = zip(offsets, value.chunk(len(offsets), -1), mean.chunk(len(offsets), -1), strict=True)
    shifted = [
        head_mean.expand(-1, x.shape[1] - 1, -1) if offset is None else _value_at(head_value, offset, grid_hw)
        for offset, head_value, head_mean in heads
    ]
    return block.add_mlp(x + block.self_attn.out_proj(torch.cat([mean, torch.cat(shifted, -1)], 1)))


def _value_at(value: Tensor, offset: tuple[int, int], grid_hw: tuple[int, int]) -> Tensor:
    """(B, Gh*Gw, C): for every patch the value at an offset from it."""
    beyond, grid = value[:, :1, None], value[:, 1:].reshape(len(value), *grid_hw, -1)
    for axis, step in enumerate(offset, start=1):
        grid = _shift(grid, step, axis, beyond)
    return grid.flatten(1, 2)


def _shift(grid: Tensor, step: int, axis: int, beyond: Tensor) -> Tensor:
    """The values `step` further along an axis, and `beyond` outside the grid."""
    size = grid.shape[axis]
    past = min(abs(step), size)
    fill = beyond.expand_as(grid).narrow(axis, 0, past)
    if step < 0:
        return torch.cat([fill, grid.narrow(axis, 0, size - past)], axis)
    return torch.cat([grid.narrow(axis, past, size - past), fill], axis)


def to_attention(model: FgClipModel, pixel_values: Tensor) -> FgClipModel:
    """A copy of a model trained with shifts, whose attention attends to the same offsets at the native side.

    A query holds the waves at the offset and minus their total power, and a key holds the waves of its position. Their
    product is 0 at the offset and negative elsewhere, however the LayerNorms scale them. The product with the class
    token's key is half of that with the nearest neighbour's, so that an offset beyond the edge finds the class token.

    Args:
        model: float32.
        pixel_values: (B, 3, side, side) normalised pictures, to measure the scale of the LayerNorms.
    """
    own = copy.deepcopy(model)
    vision = own.vision_model
    with torch.no_grad():
        x, grid_hw = vision.embeddings(pixel_values)
        x = vision.pre_layrnorm(x)
        for block, offsets in _with_offsets(own):
            _write_attention(block, offsets, block.layer_norm1(x))
            x = _run_block(block, x, offsets, grid_hw)
    vision.embeddings.position_embedding.weight.requires_grad_(True)
    return own


def _write_attention(block: Block, offsets: tuple[Offset, ...], normed: Tensor) -> None:
    """Write the queries and keys of a block; those of heads that take the mean are 0."""
    attention, head_width = block.self_attn, normed.shape[-1] // len(offsets)
    one = normed[:, 1:, ONE] - normed[:, 1:, ZERO]  # the scale of the LayerNorm
    low = one.float().quantile(0.1).item()
    on_class = (normed[:, 0, CLASS] - normed[:, 0, ZERO]).mean().item()
    gap = sum(1 - math.cos(2 * math.pi / period) for period in PERIODS)  # between neighbours
    size = math.sqrt(MARGIN * head_width**0.5 / gap) / low
    query_one = -2.0 * len(PERIODS)
    keys = torch.eye(RESERVED)[: ONE + 1]
    keys[ONE, CLASS] = gap / 2 * low / (-query_one * on_class)
    for linear in (attention.q_proj, attention.k_proj):
        linear.weight.zero_()
        linear.bias.zero_()
    for head, offset in enumerate(offsets):
        if offset is None:
            continue
        queries = torch.eye(RESERVED)[: ONE + 1]
        queries[:WAVES, :WAVES] = _rotation(offset)
        queries[ONE, ONE] = query_one
        rows = slice(head * head_width, head * head_width + ONE + 1)
        for linear, weight in ((attention.q_proj, queries), (attention.k_proj, keys)):
            weight = weight - weight.sum(1, keepdim=True) * torch.eye(RESERVED)[ZERO]  # relative to the ZERO unit
            linear.weight[rows, :RESERVED] = (size * weight).to(linear.weight)


def _rotation(offset: tuple[int, int]) -> Tensor:
    """(WAVES, WAVES): maps the waves of a position to those at an offset from it."""
    rotation = torch.zeros(WAVES, WAVES)
    for index, (step, period) in enumerate((step, period) for step in offset for period in PERIODS):
        angle, pair = 2 * math.pi * step / period, slice(2 * index, 2 * index + 2)
        cosine, sine = math.cos(angle), math.sin(angle)
        rotation[pair, pair] = torch.tensor([[cosine, -sine], [sine, cosine]])
    return rotation


def _positions(side: int, width: int) -> Tensor:
    """(1 + side**2, width): the position table, with the reserved units of the class token and every patch."""
    axis = torch.arange(side, dtype=torch.float32)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    angles = [2 * math.pi * position / period for position in (y, x) for period in PERIODS]
    waves = [wave(angle) for angle in angles for wave in (torch.cos, torch.sin)]
    table = torch.zeros(1 + side**2, width)
    table[1:, :WAVES] = torch.stack(waves, -1).flatten(0, 1)
    table[1:, ONE] = 1
    table[0, CLASS] = CLASS_SIZE
    return table
