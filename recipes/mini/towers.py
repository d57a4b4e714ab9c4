"""What the embedded model sees while it trains: unit features of patches and images, as the encoder computes them."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from fgseg.encoders.networks.blocks import Block
from fgseg.encoders.networks.fgclip import FgClipModel
from recipes.mini import shifts

__all__ = ["Seeing", "seen", "seen_through_shifts"]

Seeing = Callable[[FgClipModel, Tensor], tuple[Tensor, Tensor]]


def _through(block: nn.Module, x: Tensor) -> Tensor:
    """A block with plain softmax attention.

    The compiler fuses it, and its gradient takes a third of the time of torch's fused attention on a CPU.
    """
    assert isinstance(block, Block)
    attention, normed = block.self_attn, block.layer_norm1(x)
    q, k, v = (attention.split(project(normed)) for project in (attention.q_proj, attention.k_proj, attention.v_proj))
    return block.add_mlp(x + attention.merge(_attended(q, k, v)))


def _attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights: Tensor = (q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)).softmax(-1)
    return weights.to(v.dtype) @ v


def seen(
    model: FgClipModel, pixel_values: Tensor, through: Callable[[nn.Module, Tensor], Tensor] = _through
) -> tuple[Tensor, Tensor]:
    """Unit patch features (B, Gh*Gw, D) and unit image features (B, D), float32.

    Tests hold both to the model's own methods.
    """
    x, grid_hw = model.vision_model.embeddings(pixel_values)
    x = model.vision_model.pre_layrnorm(x)
    for block in model.vision_model.encoder.layers[:-1]:
        x = through(block, x)
    return _features(model, x, grid_hw)


def seen_through_shifts(model: FgClipModel, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
    """`seen` with shifts instead of attention in all blocks but the last."""
    x, grid_hw = model.vision_model.embeddings(pixel_values)
    x = shifts.shifted(model, model.vision_model.pre_layrnorm(x), grid_hw)
    return _features(model, x, grid_hw)


def _features(model: FgClipModel, x: Tensor, grid_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The last block and the projections."""
    vision = model.vision_model
    dense = model.visual_projection(vision.patch_tokens(x, grid_hw, "value"))
    image = model.visual_projection(vision.post_layernorm(_class_token(vision.encoder.layers[-1], x)))
    return F.normalize(dense.float(), dim=-1), F.normalize(image.float(), dim=-1)


def _class_token(block: nn.Module, x: Tensor) -> Tensor:
    """(B, width): what a block makes of the class token, whose query is the only one it is asked for."""
    assert isinstance(block, Block)
    attention, normed = block.self_attn, block.layer_norm1(x)
    q = attention.split(attention.q_proj(normed[:, :1]))
    k, v = (attention.split(project(normed)) for project in (attention.k_proj, attention.v_proj))
    return block.add_mlp(x[:, :1] + attention.merge(_attended(q, k, v)))[:, 0]
