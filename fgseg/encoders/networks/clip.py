"""CLIP in transformers' tensor layout, with the dense recipes of the field.

A recipe replaces the attention of the last vision block, which in plain CLIP gathers the whole image into every
patch, by one that keeps patches about what lies under them (MaskCLIP, arXiv:2112.01071; SCLIP,
arXiv:2312.01597; NACLIP, arXiv:2404.08181; ClearCLIP, arXiv:2407.12442).
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fgseg._checks import check_array, check_choice
from fgseg.encoders.networks.blocks import Block, Conv2d, Embedding, Layers, Linear, TowerConfig, add
from fgseg.encoders.networks.config import ClipConfig
from fgseg.encoders.networks.prefix_trees import PrefixTrees
from fgseg.errors import OptionError, ShapeError

__all__ = [
    "RECIPES",
    "ROUTES",
    "ClipModel",
    "Recipe",
    "Route",
    "TextEmbeddings",
    "TextTower",
    "VisionTower",
    "check_route",
    "gaussian_window",
]

Recipe = Literal["value", "vanilla", "sclip", "naclip", "kk", "clearclip"]
Route = Literal["region", "short", "long"]
ROUTES: tuple[str, ...] = get_args(Route)
RECIPES: tuple[str, ...] = get_args(Recipe)
NACLIP_SIGMA = 5.0  # patches; NACLIP's published setting
_WHOLE_BLOCK = frozenset({"value", "vanilla", "sclip"})  # the others drop the residual and the MLP


class VisionEmbeddings(nn.Module):
    """Patches and class token to hidden states, with positions interpolated to any grid."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        width = config.vision.width
        self.side = config.side // config.patch
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.patch_embedding = Conv2d(3, width, config.patch, stride=config.patch, bias=False)
        self.position_embedding = Embedding(1 + self.side**2, width)

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """(B, 3, H, W) -> hidden states (B, 1 + Gh*Gw, width) and (Gh, Gw); a trailing part of a patch is not seen."""
        tokens, grid_hw = self._patches(pixel_values.to(self.patch_embedding.weight.dtype))
        class_token = self.class_embedding.expand(len(tokens), 1, -1)
        return torch.cat([class_token, tokens], 1) + self.positions(grid_hw), grid_hw

    def _patches(self, pixels: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """The convolution as one matrix product: its windows do not overlap; oneDNN's is three times as slow."""
        side = self.patch_embedding.kernel_size[0]
        rows, columns = pixels.shape[-2] // side, pixels.shape[-1] // side
        cut = pixels[..., : rows * side, : columns * side].reshape(*pixels.shape[:2], rows, side, columns, side)
        flat = cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        return F.linear(flat, self.patch_embedding.weight.flatten(1)), (rows, columns)

    def positions(self, grid_hw: tuple[int, int]) -> Tensor:
        """(1 + Gh*Gw, width): the table as it is at the native grid, bicubic elsewhere; the class row is untouched."""
        table = self.position_embedding.weight
        if grid_hw == (self.side, self.side):
            return table
        square = table[1:].float().T.reshape(1, -1, self.side, self.side)
        resized = F.interpolate(square, grid_hw, mode="bicubic", align_corners=False, antialias=False)
        return torch.cat([table[:1], resized.flatten(2)[0].T.to(table.dtype)])


class VisionTower(nn.Module):
    """CLIP's vision transformer up to the post-LayerNorm."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        tower = config.vision
        self.embeddings = VisionEmbeddings(config)
        self.pre_layrnorm = nn.LayerNorm(tower.width, eps=tower.epsilon)  # transformers' spelling
        self.encoder = Layers(tower)
        self.post_layernorm = nn.LayerNorm(tower.width, eps=tower.epsilon)

    def before_last(self, pixel_values: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Hidden states (B, 1 + Gh*Gw, width) that enter the last block, and (Gh, Gw)."""
        x, grid_hw = self.embeddings(pixel_values)
        x = self.pre_layrnorm(x)
        for block in self.encoder.layers[:-1]:
            x = block(x)
        return x, grid_hw

    def global_token(self, before_last: Tensor) -> Tensor:
        """(B, 1 + N, width) -> (B, width): class token through the last block."""
        out: Tensor = self.post_layernorm(self.encoder.layers[-1](before_last)[:, 0])
        return out

    def patch_tokens(self, before_last: Tensor, grid_hw: tuple[int, int], recipe: str) -> Tensor:
        """(B, 1 + Gh*Gw, width) -> (B, Gh*Gw, width): patches through the last block as `recipe` has it."""
        block: Block = self.encoder.layers[-1]  # type: ignore[assignment]
        if recipe == "value":
            before_last = before_last[:, 1:]  # without attention the class token touches no patch
        x = _attended(block, before_last, grid_hw, recipe)
        if recipe in _WHOLE_BLOCK:
            x = block.add_mlp(add(before_last, x))
        patches = x if recipe == "value" else x[:, 1:]
        out: Tensor = self.post_layernorm(patches)
        return out


def _attended(block: Block, x: Tensor, grid_hw: tuple[int, int], recipe: str) -> Tensor:
    """The attention half of the last block, without the residual."""
    attention, x = block.self_attn, block.layer_norm1(x)
    if recipe == "vanilla":
        out: Tensor = attention(x)
        return out
    value = attention.v_proj(x)
    if recipe == "value":
        projected: Tensor = attention.out_proj(value)
        return projected
    q, k, v = (
        attention.split(attention.q_proj(x)),
        attention.split(attention.k_proj(x)),
        attention.split(value),
    )
    if recipe == "sclip":
        return attention.merge(F.scaled_dot_product_attention(q, q, v) + F.scaled_dot_product_attention(k, k, v))
    if recipe == "clearclip":
        return attention.merge(F.scaled_dot_product_attention(q, q, v))
    bias = None
    if recipe == "naclip":
        bias = F.pad(gaussian_window(grid_hw, sigma=NACLIP_SIGMA), (1, 0, 1, 0)).to(x)  # no window for the class token
    return attention.merge(F.scaled_dot_product_attention(k, k, v, attn_mask=bias))


def gaussian_window(grid_hw: tuple[int, int], *, sigma: float) -> Tensor:
    """exp(-distance^2 / (2 sigma^2)) between every two patches.

    Args:
        grid_hw: (Gh, Gw) patches.
        sigma: standard deviation in patches.

    Returns:
        (Gh*Gw, Gh*Gw) float32 in (0, 1], 1 on the diagonal.

    Examples:
        >>> gaussian_window((1, 2), sigma=1.0)[0].tolist()
        [1.0, 0.6065306663513184]
    """
    rows, columns = (torch.arange(size, dtype=torch.float32) for size in grid_hw)
    row_falloff = torch.exp(-((rows[:, None] - rows) ** 2) / (2 * sigma**2))
    column_falloff = torch.exp(-((columns[:, None] - columns) ** 2) / (2 * sigma**2))
    return torch.kron(row_falloff, column_falloff)


class TextEmbeddings(nn.Module):
    """Tokens and positions to hidden states."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.token_embedding = Embedding(config.vocabulary, config.text.width)
        self.position_embedding = Embedding(config.positions, config.text.width)

    def positions(self, route: str) -> Tensor:
        """(limit, width): the position table of a route."""
        check_route(route, ("region", "short"))
        return self.position_embedding.weight


class TextTower(nn.Module):
    """CLIP's causal text transformer; the feature is read at the first end token."""

    def __init__(self, config: ClipConfig, embeddings: TextEmbeddings) -> None:
        super().__init__()
        tower: TowerConfig = config.text
        self.end_token = config.end_token
        self.embeddings = embeddings
        self.encoder = Layers(tower)
        self.final_layer_norm = nn.LayerNorm(tower.width, eps=tower.epsilon)

    def forward(self, input_ids: Tensor, route: str) -> Tensor:
        """(T, L) token ids -> (T, width). What stands after the first end token changes nothing.

        Raises:
            ShapeError: a row without an end token, or more tokens than the route has positions.
        """
        end = self._first_end(input_ids)
        ids = input_ids[:, : int(end.max()) + 1]  # causal: nothing after the last end token is looked at
        self._check_length(ids.shape[1], route)
        positions = self.embeddings.positions(route)
        x = self.embeddings.token_embedding(ids) + positions[: ids.shape[1]]
        x = self.final_layer_norm(self.encoder(x, causal=True))
        features: Tensor = x[torch.arange(len(x), device=x.device), end]
        return features

    def shared(self, trees: PrefixTrees, route: str) -> Tensor:
        """(T, width) of the texts of some trees: what `forward` gives, each distinct beginning computed once.

        Raises:
            ShapeError: more tokens than the route has positions.
        """
        positions = self.embeddings.positions(route)
        self._check_length(int(trees.depths.max()) + 1, route)
        x = self.embeddings.token_embedding(trees.tokens) + positions[trees.depths]
        x = self.encoder(x, mask=trees.seen[:, None])
        features: Tensor = self.final_layer_norm(x[trees.ends[:, 0], trees.ends[:, 1]])
        return features

    def _check_length(self, length: int, route: str) -> None:
        limit = len(self.embeddings.positions(route))
        if length > limit:
            raise ShapeError(f"input_ids: expected at most {limit} tokens on the {route} route, got {length}")

    def _first_end(self, input_ids: Tensor) -> Tensor:
        check_array("input_ids", input_ids, ("T", "L"))
        is_end = input_ids == self.end_token
        if not bool(is_end.any(1).all()):
            row = int((~is_end.any(1)).int().argmax())
            raise ShapeError(f"input_ids: expected the end token {self.end_token} in every row, row {row} has none")
        return is_end.int().argmax(1)


class ClipModel(nn.Module):
    """CLIP on raw tensors, un-normalised; `fgseg.encoders.loading.ClipEncoder` wraps it for images and words."""

    routes: tuple[str, ...] = ("region", "short")

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.config = config
        self.text_model = TextTower(config, self._text_embeddings(config))
        self.vision_model = VisionTower(config)
        self.text_projection = Linear(config.text.width, config.width, bias=False)
        self.visual_projection = Linear(config.vision.width, config.width, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def _text_embeddings(self, config: ClipConfig) -> TextEmbeddings:
        return TextEmbeddings(config)

    def dense_features(self, pixel_values: Tensor, *, recipe: Recipe = "value") -> Tensor:
        """Patch features by a dense recipe.

        Args:
            pixel_values: (B, 3, H, W) normalised pixels, sides at least one patch.
            recipe: how the last block attends; `value` is MaskCLIP's and FG-CLIP's.

        Returns:
            (B, Gh, Gw, D), not normalised.

        Raises:
            ShapeError: not (B, 3, H, W), or smaller than a patch.
            OptionError: an unknown recipe.
        """
        check_choice("recipe", recipe, RECIPES)
        self._check_pixels(pixel_values)
        x, grid_hw = self.vision_model.before_last(pixel_values)
        dense: Tensor = self.visual_projection(self.vision_model.patch_tokens(x, grid_hw, recipe))
        return dense.reshape(len(dense), *grid_hw, -1)

    def image_features(self, pixel_values: Tensor) -> Tensor:
        """Whole-image features: (B, 3, H, W) normalised pixels -> (B, D), not normalised.

        Raises:
            ShapeError: not (B, 3, H, W), or smaller than a patch.
        """
        self._check_pixels(pixel_values)
        x, _ = self.vision_model.before_last(pixel_values)
        out: Tensor = self.visual_projection(self.vision_model.global_token(x))
        return out

    def text_features(self, input_ids: Tensor, *, route: Route = "region") -> Tensor:
        """Text features: (T, L) token ids, padded or not -> (T, D), not normalised.

        Raises:
            OptionError: a route this model does not have.
            ShapeError: a row without an end token, or more tokens than the route takes.
        """
        check_route(route, self.routes)
        out: Tensor = self._projection(route)(self.text_model(input_ids, route))
        return out

    def shared_text_features(self, trees: PrefixTrees, *, route: Route = "region") -> Tensor:
        """Text features of the texts of some trees: (T, D), not normalised, equal to those of `text_features`.

        Raises:
            OptionError: a route this model does not have.
            ShapeError: more tokens than the route takes.
        """
        check_route(route, self.routes)
        out: Tensor = self._projection(route)(self.text_model.shared(trees, route))
        return out

    def limit(self, route: str) -> int:
        """Tokens a route takes, start and end tokens included."""
        check_route(route, self.routes)
        return len(self.text_model.embeddings.positions(route))

    def region_logit_scale(self) -> Tensor:
        """Scalar: what region cosines are multiplied by before a softmax."""
        return self.logit_scale.exp()

    def _projection(self, route: str) -> Linear:
        return self.text_projection

    def _check_pixels(self, pixel_values: Tensor) -> None:
        check_array("pixel_values", pixel_values, ("B", 3, "H", "W"))
        if min(pixel_values.shape[-2:]) < self.config.patch:
            raise ShapeError(
                f"pixel_values: expected sides of at least {self.config.patch}, got {tuple(pixel_values.shape[-2:])}"
            )


def check_route(route: str, routes: tuple[str, ...]) -> None:
    """Refuse a text route that the model does not have.

    Raises:
        OptionError: `route` is unknown, or known but missing here.
    """
    if route not in routes:
        hint = "; plain CLIP has no long route, load an FG-CLIP model for it" if route in ROUTES else ""
        raise OptionError(f"route: expected one of {', '.join(routes)}, got {route!r}{hint}")
