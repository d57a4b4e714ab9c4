"""Attention by a guide: its features, not CLIP's queries and keys, decide which patches a patch is mixed with.

A guide (a DINO, or a middle block of the encoder) knows better than CLIP's last block which patches belong together.
`proxy` mixes the values of CLIP's last block by the guide's cosines (ProxyCLIP, arXiv:2408.04883). `corr` also keeps
the mixture within given regions, and adds a branch of middle blocks and one of class tokens (CorrCLIP,
arXiv:2411.10086). Cosines are compared with limits here, so they are float32 whatever the dtype of the encoder.
"""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from fgseg.encoders.networks.blocks import Block, Layers, add

__all__ = [
    "CORR_SCALE",
    "GUIDED_RECIPES",
    "PROXY_BETA",
    "PROXY_GAMMA",
    "UNSEGMENTED",
    "GuidedRecipe",
    "RowWeights",
    "corr_branches",
    "corr_weights",
    "guided_block",
    "merged_regions",
    "middle_depth",
    "middle_features",
    "mixed",
    "mixture",
    "nearest",
    "proxy_weights",
    "recipe_settings",
    "resized",
    "without_guide",
]

GuidedRecipe = Literal["proxy", "corr"]
GUIDED_RECIPES: tuple[str, ...] = get_args(GuidedRecipe)
RowWeights = Callable[[slice], Tensor]
"""Rows of an attention matrix: a slice of n of N patches -> (n, N) float32, each row of sum 1."""

PROXY_BETA, PROXY_GAMMA = 1.2, 3.0  # ProxyCLIP's published settings
CORR_SCALE = 4.0  # CorrCLIP's factor on cosines
CORR_DISTANCE = 0.2  # of the means of two regions that are joined
UNSEGMENTED = -1  # in a region map; every negative number is one
_TIE = 1e-6  # above the rounding of cosines, so that patches that are all alike see each other
_WEIGHTS_AT_ONCE = 2**24  # 64 MB


def without_guide(recipe: str) -> str:
    """The message of a guided recipe that has no guide."""
    return (
        f"recipe: {recipe!r} needs a guide, got none; give guide='self', which needs no download, or one that "
        "`fgseg models` lists"
    )


def recipe_settings(recipe: str | None) -> dict[str, float]:
    """The numbers that a guided recipe is published with, for run.json; empty for other recipes."""
    if recipe == "proxy":
        return {"beta": PROXY_BETA, "gamma": PROXY_GAMMA}
    return {"scale": CORR_SCALE, "distance": CORR_DISTANCE} if recipe == "corr" else {}


def proxy_weights(guide: Tensor, *, beta: float = PROXY_BETA, gamma: float = PROXY_GAMMA) -> RowWeights:
    """The attention of `proxy` over the patches of one window.

    A patch sees those whose cosine with it is at least `beta` times the mean cosine of the window, and always itself
    and its likes: the published code gives NaN where that limit is above 1.

    Args:
        guide: (H, W, C) features of any length.
        beta: factor on the mean cosine.
        gamma: factor on cosines before the softmax.
    """
    unit, mean = _unit_rows(guide)
    floor = beta * mean
    limit = floor.clamp(max=1) - _TIE

    def rows(part: slice) -> Tensor:
        cosines = unit[part] @ unit.T
        return _softmax(gamma * (cosines - floor), cosines >= limit, part)

    return rows


def corr_weights(guide: Tensor, regions: Tensor) -> RowWeights:
    """The attention of `corr` over the patches of one window.

    A patch sees those of its region. A patch without a region sees, and is seen by, those whose cosine with it is
    above the mean of the window.

    Args:
        guide: (H, W, C) features of any length.
        regions: (H, W) integers, `merged_regions`; negative where there is no region.
    """
    unit, mean = _unit_rows(guide)
    region, limit = regions.flatten(), mean - _TIE

    def rows(part: slice) -> Tensor:
        cosines, own = unit[part] @ unit.T, region[part, None]
        free = (own < 0) | (region < 0)
        return _softmax(CORR_SCALE * cosines, torch.where(free, cosines >= limit, own == region), part)

    return rows


def _unit_rows(guide: Tensor) -> tuple[Tensor, Tensor]:
    """(N, C) float32 rows of unit length, and the mean of all N * N cosines, a scalar."""
    unit = F.normalize(guide.float().flatten(0, 1), dim=-1)
    return unit, unit.mean(0).square().sum()


def _softmax(logits: Tensor, seen: Tensor, part: slice) -> Tensor:
    """(n, N) softmax over the keys that are seen; a patch always sees itself, so that no row is empty."""
    first = part.start or 0
    itself = torch.arange(len(seen), device=seen.device)
    seen[itself, itself + first] = True
    return logits.masked_fill_(~seen, -torch.inf).softmax(-1)


def merged_regions(guide: Tensor, regions: Tensor) -> Tensor:
    """Region map of one window, in which regions that look alike to the guide are joined.

    Args:
        guide: (H, W, C) features of any length.
        regions: (H, W) integers; negative where there is no region.

    Returns:
        (H, W) int64 numbers from 0, or UNSEGMENTED.
    """
    ids, index = regions.clamp(min=UNSEGMENTED).unique(return_inverse=True)  # type: ignore[no-untyped-call]
    index = index - int(ids[0] == UNSEGMENTED)
    count = int(index.max()) + 1
    if count == 0:
        return index
    unit, _ = _unit_rows(guide)
    member = F.one_hot(index.flatten() + 1, count + 1)[:, 1:].to(unit)
    means = F.normalize(member.T @ unit / member.sum(0)[:, None], dim=-1)
    cosines = means @ means.T
    joined = cosines.max() - cosines <= CORR_DISTANCE
    while not torch.equal(wider := joined.float() @ joined.float() > 0, joined):
        joined = wider
    first = F.pad(joined.int().argmax(1), (1, 0), value=UNSEGMENTED)  # index -1 becomes 0, which is no region
    return first[index + 1]


def _numbered(regions: Tensor) -> Tensor:
    """Regions numbered from 0 without gaps, of the same shape."""
    numbers: Tensor = regions.unique(return_inverse=True)[1]  # type: ignore[no-untyped-call]
    return numbers


def mixture(recipe: str, guide: Tensor, regions: Tensor) -> RowWeights:
    """The attention of a recipe over one window of a (H, W, C) guide; regions as in `merged_regions`."""
    return proxy_weights(guide) if recipe == "proxy" else corr_weights(guide, merged_regions(guide, regions))


def mixed(values: Tensor, weights: RowWeights) -> Tensor:
    """(N, C) values mixed by attention -> (N, C); a part of the N * N weights is held at a time."""
    step = max(1, _WEIGHTS_AT_ONCE // len(values))
    parts = (slice(start, min(start + step, len(values))) for start in range(0, len(values), step))
    return torch.cat([weights(part).to(values.dtype) @ values for part in parts])


def resized(grid: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """(B, h, w, C) -> (B, H, W, C), bilinear, pixel centres at half integers, without antialiasing."""
    if tuple(grid.shape[1:3]) == grid_hw:
        return grid
    return F.interpolate(grid.permute(0, 3, 1, 2), grid_hw, mode="bilinear", align_corners=False).permute(0, 2, 3, 1)


def nearest(regions: Tensor, grid_hw: tuple[int, int]) -> Tensor:
    """(..., h, w) integers -> (..., H, W), each taken from the pixel that holds the upper left corner of a patch."""
    rows, columns = (
        torch.arange(new, device=regions.device) * old // new
        for new, old in zip(grid_hw, regions.shape[-2:], strict=True)
    )
    return regions[..., rows[:, None], columns]


def guided_block(
    block: Block, x: Tensor, weights: Sequence[RowWeights], grid_hw: tuple[int, int], *, whole: bool
) -> Tensor:
    """CLIP's last block on the guide's grid.

    Args:
        block: the last block.
        x: (B, h, w, width) hidden states of the patches before it.
        weights: attention of each window over the guide's patches.
        grid_hw: (H, W) patches of the guide.
        whole: keep the residual and the MLP. ProxyCLIP drops them; FG-CLIP's region training used them.

    Returns:
        (B, H * W, width).
    """
    attention = block.self_attn
    values = resized(attention.v_proj(block.layer_norm1(x)), grid_hw).flatten(1, 2)
    y = attention.out_proj(torch.stack([mixed(*pair) for pair in zip(values, weights, strict=True)]))
    return block.add_mlp(add(resized(x, grid_hw).flatten(1, 2), y)) if whole else y


def corr_branches(
    layers: Layers, x: Tensor, grid_hw: tuple[int, int], guide: Tensor, regions: Tensor, *, whole: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The three branches of `corr`, before the post-LayerNorm.

    Args:
        layers: the blocks of a CLIP.
        x: (B, 1 + h * w, width) hidden states before the first block, the class token first.
        grid_hw: (h, w) patches of CLIP.
        guide: (B, H, W, C) features of any length.
        regions: (B, H, W) integers; negative where there is no region.
        whole: as in `guided_block`.

    Returns:
        (B, H * W, width) each: of the last block, of the middle blocks through the last one, and of a class token for
        every region.
    """
    tokens, guide_hw = x.shape[1], (guide.shape[1], guide.shape[2])
    merged = [merged_regions(*window) for window in zip(guide, regions, strict=True)]
    weights = [corr_weights(*window) for window in zip(guide, merged, strict=True)]
    owners = [_numbered(nearest(region, grid_hw)) for region in merged]
    mask = _mask_of_copies(owners)
    states = [torch.cat([x, x[:, :1].expand(-1, mask.shape[-1] - tokens, -1)], 1)]
    for block in layers.layers[:-1]:
        states.append(block(states[-1], mask=mask))
    last: Block = layers.layers[-1]  # type: ignore[assignment]

    def branch(state: Tensor) -> Tensor:
        return guided_block(last, state[:, 1:tokens].reshape(len(x), *grid_hw, -1), weights, guide_hw, whole=whole)

    copies = last(states[-1], mask=mask)[:, tokens:]
    of_region = [copy[nearest(owner, guide_hw).flatten()] for copy, owner in zip(copies, owners, strict=True)]
    return branch(states[-1]), branch(torch.stack(_middle(states)).mean(0)), torch.stack(of_region)


def _middle(states: list[Tensor]) -> list[Tensor]:
    """The states before the blocks that CorrCLIP's spatial branch averages; the list has those before every block."""
    last = len(states) - 1
    count = {12: 5, 24: 12, 32: 28}.get(len(states), max(len(states) - 4, 1))
    return states[max(last - count, 0) : max(last, 1)]


def _mask_of_copies(owners: Sequence[Tensor]) -> Tensor:
    """(B, 1, T, T) bool, true where a token attends: the class token, the patches, then a class token per region.

    The copies see the class token and the patches of their region, and nobody sees them.

    Args:
        owners: B grids (h, w) of the number of each patch's region, from 0.
    """
    index = torch.stack([owner.flatten() for owner in owners])
    count, tokens = int(index.max()) + 1, 1 + index.shape[1]
    mask = torch.zeros(len(index), tokens + count, tokens + count, dtype=torch.bool, device=index.device)
    mask[:, :, 0] = True
    mask[:, :tokens, 1:tokens] = True
    mask[:, tokens:, 1:tokens] = index[:, None] == torch.arange(count, device=index.device)[:, None]
    return mask[:, None]


def middle_depth(layers: int) -> int:
    """How many of the blocks come before the middle: half of them, rounded up.

    In the embedded model, the outputs of blocks 5 to 8 of 9 guide it equally well, and earlier ones less well
    (benchmarks/self_guide.py). The earliest of these takes the least time.

    Examples:
        >>> middle_depth(9), middle_depth(12)
        (5, 6)
    """
    return -(-layers // 2)


def middle_features(layers: Layers, x: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """(B, N, width) hidden states in the middle of a tower, where patches of one thing look alike.

    Args:
        layers: the blocks.
        x: (B, N, width) hidden states before the first block.
        mask: as in `Block.forward`.
    """
    for block in layers.layers[: middle_depth(len(layers.layers))]:
        x = block(x, mask=mask)
    return x
