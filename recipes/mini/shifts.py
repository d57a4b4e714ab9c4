"""Attention fixed to neighbours while the embedded model learns, handed over to attention that looks there.

A small vision transformer learns shapes slowly, since its attention must first find out where a patch's neighbours
are. So its first stage does without queries and keys: each head of each block hands on the value that lies at a fixed
offset (OFFSETS), a convolution's sparse kin. Meanwhile some units of the hidden states carry waves of the position and
nothing else, and `handed_over` writes the queries and keys that find the same neighbours in these waves: from then on
it is a plain FG-CLIP. Attention made like a convolution's at its start is known from "Structured Initialization for
Attention in Vision Transformers" (arXiv:2404.01139).
"""

import copy
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fgseg.encoders.networks.blocks import Block
from fgseg.encoders.networks.fgclip import FgClipModel

__all__ = ["OFFSETS", "RESERVED", "handed_over", "keep_reserved", "prepare", "shifted", "went_through"]

Offset = tuple[int, int] | None
EVERYWHERE: Offset = None
OFFSETS: tuple[tuple[Offset, ...], ...] = (  # (down, right) in patches of each head of each block but the last
    ((0, 1), (0, -1), (1, 0)), ((-1, 0), (1, 1), (-1, -1)), ((1, -1), (-1, 1), EVERYWHERE), ((0, 2), (0, -2), (2, 0)),
    ((-2, 0), (0, 3), (0, -3)), ((3, 0), (-3, 0), EVERYWHERE), ((0, 5), (0, -5), (5, 0)), ((-5, 0), (4, 4), (-4, -4)),
)  # fmt: skip
PERIODS = tuple(2.6 * (44 / 2.6) ** (step / 7) for step in range(8))  # of the waves, in patches
WAVES = 4 * len(PERIODS)  # a cosine and a sine of each period along each axis
ONE = WAVES  # the unit that is 1 for every patch
CLASS = WAVES + 1  # the unit that only the class token has
ZERO = WAVES + 2  # the unit that is 0 for all, and behind a LayerNorm tells what 0 has become
RESERVED = WAVES + 3
_PROOF = "vision_model.encoder.layers.0.mlp.fc2.weight"  # writes nothing to reserved units while shifts are trained
CLASS_SIZE = 4.0
MARGIN = 24.0  # by which the place looked for beats its neighbours, and by half of which it beats the class token


def prepare(model: FgClipModel) -> None:
    """First values for training through shifts: larger than a transformer's, and the waves as the position table."""
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
    keep_reserved(model)


def keep_reserved(model: FgClipModel) -> None:
    """Undo what a step of training wrote to the reserved units: to be called after each."""
    vision = model.vision_model
    with torch.no_grad():
        vision.embeddings.patch_embedding.weight[:RESERVED] = 0
        vision.embeddings.class_embedding[:RESERVED] = 0
        for norm in (vision.pre_layrnorm, *(block.layer_norm1 for block in _blocks(model))):
            norm.weight[:RESERVED], norm.bias[:RESERVED] = 1, 0
        for block in _blocks(model)[:-1]:
            for linear in (block.self_attn.out_proj, block.mlp.fc2):
                linear.weight[:RESERVED], linear.bias[:RESERVED] = 0, 0


def went_through(weights: Mapping[str, Tensor]) -> bool:
    """Whether a model's weights, by name, come from training through shifts and from nothing after it."""
    return not weights[_PROOF][:RESERVED].any()


def shifted(model: FgClipModel, x: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """Hidden states (B, 1 + Gh*Gw, width) through all blocks but the last, with shifts instead of attention.

    A patch beyond the edge has the class token's value. The class token itself gets the mean of all values.
    """
    for block, offsets in _with_offsets(model):
        x = _through(block, x, offsets, grid_hw)
    return x


def _blocks(model: FgClipModel) -> list[Block]:
    return [block for block in model.vision_model.encoder.layers if isinstance(block, Block)]


def _with_offsets(model: FgClipModel) -> list[tuple[Block, tuple[Offset, ...]]]:
    """Every block but the last with its heads' offsets; a deeper tower than OFFSETS describes is a ValueError."""
    blocks = _blocks(model)[:-1]
    return list(zip(blocks, OFFSETS[: len(blocks)], strict=True))


def _through(block: Block, x: Tensor, offsets: tuple[Offset, ...], grid_hw: tuple[int, int]) -> Tensor:
    value = block.self_attn.v_proj(block.layer_norm1(x))
    mean = value.mean(1, keepdim=True)
    heads = zip(offsets, value.chunk(len(offsets), -1), mean.chunk(len(offsets), -1), strict=True)
    found = [
        everywhere.expand(-1, x.shape[1] - 1, -1) if offset is None else _at(part, offset, grid_hw)
        for offset, part, everywhere in heads
    ]
    return block.add_mlp(x + block.self_attn.out_proj(torch.cat([mean, torch.cat(found, -1)], 1)))


def _at(value: Tensor, offset: tuple[int, int], grid_hw: tuple[int, int]) -> Tensor:
    """(B, Gh*Gw, C): of every patch the value at an offset from it."""
    beyond, grid = value[:, :1, None], value[:, 1:].reshape(len(value), *grid_hw, -1)
    for axis, step in enumerate(offset, start=1):
        grid = _moved(grid, step, axis, beyond)
    return grid.flatten(1, 2)


def _moved(grid: Tensor, step: int, axis: int, beyond: Tensor) -> Tensor:
    """What lies `step` further along an axis, `beyond` past the edge."""
    size = grid.shape[axis]
    past = min(abs(step), size)
    fill = beyond.expand_as(grid).narrow(axis, 0, past)
    if step < 0:
        return torch.cat([fill, grid.narrow(axis, 0, size - past)], axis)
    return torch.cat([grid.narrow(axis, past, size - past), fill], axis)


def handed_over(model: FgClipModel, pixel_values: Tensor) -> FgClipModel:
    """A copy of a model trained through shifts whose attention looks where the shifts do, at the native side.

    A query is the waves at the offset less all their power, a key the waves of its place: their product is 0 at the
    place looked for and less elsewhere, however much the LayerNorms scale either. The class token's key lies halfway
    to the nearest neighbour's, so that it is what a place beyond the edge finds.

    Args:
        model: float32.
        pixel_values: (B, 3, side, side) normalised pictures, to see how much the LayerNorms scale.
    """
    own = copy.deepcopy(model)
    vision = own.vision_model
    with torch.no_grad():
        x, grid_hw = vision.embeddings(pixel_values)
        x = vision.pre_layrnorm(x)
        for block, offsets in _with_offsets(own):
            _look(block, offsets, block.layer_norm1(x))
            x = _through(block, x, offsets, grid_hw)
    vision.embeddings.position_embedding.weight.requires_grad_(True)
    return own


def _look(block: Block, offsets: tuple[Offset, ...], normed: Tensor) -> None:
    """Write the queries and keys of a block; heads that look everywhere get none, so all places draw."""
    attention, head_width = block.self_attn, normed.shape[-1] // len(offsets)
    one = normed[:, 1:, ONE] - normed[:, 1:, ZERO]  # what is left of 1
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
        queries[:WAVES, :WAVES] = _turned(offset)
        queries[ONE, ONE] = query_one
        rows = slice(head * head_width, head * head_width + ONE + 1)
        for linear, reads in ((attention.q_proj, queries), (attention.k_proj, keys)):
            reads = reads - reads.sum(1, keepdim=True) * torch.eye(RESERVED)[ZERO]  # differences to what 0 has become
            linear.weight[rows, :RESERVED] = (size * reads).to(linear.weight)


def _turned(offset: tuple[int, int]) -> Tensor:
    """(WAVES, WAVES): from the waves of a place to those at an offset from it."""
    turned = torch.zeros(WAVES, WAVES)
    for index, (step, period) in enumerate((step, period) for step in offset for period in PERIODS):
        angle, pair = 2 * math.pi * step / period, slice(2 * index, 2 * index + 2)
        cosine, sine = math.cos(angle), math.sin(angle)
        turned[pair, pair] = torch.tensor([[cosine, -sine], [sine, cosine]])
    return turned


def _positions(side: int, width: int) -> Tensor:
    """(1 + side**2, width): the reserved units of the class token and of every patch."""
    axis = torch.arange(side, dtype=torch.float32)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    waves = [
        wave(2 * math.pi * place / period) for place in (y, x) for period in PERIODS for wave in (torch.cos, torch.sin)
    ]
    table = torch.zeros(1 + side**2, width)
    table[1:, :WAVES] = torch.stack(waves, -1).flatten(0, 1)
    table[1:, ONE] = 1
    table[0, CLASS] = CLASS_SIZE
    return table
