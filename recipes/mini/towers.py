"""The vision tower of the embedded model in training: unit-length features of patches and images."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from fgseg.encoders.networks.blocks import Block
from fgseg.encoders.networks.fgclip import FgClipModel
from recipes.mini import shifts

__all__ = ["VisionTower", "attention_features", "shift_features"]

VisionTower = Callable[[FgClipModel, Tensor], tuple[Tensor, Tensor]]


def _softmax_block(block: nn.Module, x: Tensor, tokens: slice = slice(None)) -> Tensor:
    """Run a block with plain softmax attention.

    torch.compile fuses it. On a CPU its gradient takes a third of the time of torch's fused attention.

    Args:
        block: the block.
        x: (B, N, width) hidden states.
        tokens: the tokens to compute; the others are only attended to.
    """
    assert isinstance(block, Block)
    attention, normed = block.self_attn, block.layer_norm1(x)
    q = attention.split(attention.q_proj(normed[:, tokens]))
    k, v = (attention.split(project(normed)) for project in (attention.k_proj, attention.v_proj))
    weights: Tensor = (q * q.shape[-1] ** -0.5 @ k.transpose(-1, -2)).softmax(-1)
    return block.add_mlp(x[:, tokens] + attention.merge(weights.to(v.dtype) @ v))


def attention_features(
    model: FgClipModel, pixel_values: Tensor, run_block: Callable[[nn.Module, Tensor], Tensor] = _softmax_block
) -> tuple[Tensor, Tensor]:
    """Compute the features as the encoder does.

    Args:
        model: the model.
        pixel_values: (B, 3, H, W) normalised pictures.
        run_block: runs a transformer block on hidden states.

    Returns:
        (B, Gh*Gw, D) float32 features of patches and (B, D) float32 features of images, unit length.
    """
    x, grid_hw = model.vision_model.embeddings(pixel_values)
    x = model.vision_model.pre_layrnorm(x)
    for block in model.vision_model.encoder.layers[:-1]:
        x = run_block(block, x)
    return _project(model, x, grid_hw)


def shift_features(model: FgClipModel, pixel_values: Tensor) -> tuple[Tensor, Tensor]:
    """As `attention_features`, with shifts instead of attention in all blocks but the last."""
    x, grid_hw = model.vision_model.embeddings(pixel_values)
    return _project(model, shifts.run_blocks(model, model.vision_model.pre_layrnorm(x), grid_hw), grid_hw)


def _project(model: FgClipModel, x: Tensor, grid_hw: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Run the last block and the projections."""
    vision = model.vision_model
    dense = model.visual_projection(vision.patch_tokens(x, grid_hw, "value"))
    class_token = _softmax_block(vision.encoder.layers[-1], x, slice(0, 1))[:, 0]
    image = model.visual_projection(vision.post_layernorm(class_token))
    return F.normalize(dense.float(), dim=-1), F.normalize(image.float(), dim=-1)
