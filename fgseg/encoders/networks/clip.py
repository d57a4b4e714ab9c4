"""CLIP in transformers' tensor layout, with published dense recipes.

In plain CLIP, the attention of the last vision block mixes the whole image into every patch. A recipe replaces it with
one that keeps the features of a patch local (MaskCLIP, arXiv:2112.01071; SCLIP, arXiv:2312.01597; NACLIP,
arXiv:2404.08181; ClearCLIP, arXiv:2407.12442).
"""

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fgseg._checks import check_array, check_choice
from fgseg.encoders.networks.blocks import Block, Conv2d, Embedding, Layers, Linear, add, patch_rows
from fgseg.encoders.networks.config import ClipConfig, FgClip2Config
from fgseg.encoders.networks.guided import (
    GUIDED_RECIPES,
    UNSEGMENTED,
    GuidedRecipe,
    corr_branches,
    guided_block,
    middle_features,
    proxy_weights,
)
from fgseg.encoders.networks.prefix_trees import PrefixTrees
from fgseg.errors import OptionError, ShapeError
from fgseg.upsample.tensors import to_device

__all__ = [
    "KEPT_POSITIONS",
    "RECIPES",
    "ClipModel",
    "Recipe",
    "Route",
    "TextEmbeddings",
    "check_route",
    "gaussian_window",
]

Recipe = Literal["value", "vanilla", "sclip", "naclip", "kk", "clearclip"]
Route = Literal["region", "short", "long"]
ROUTES: tuple[str, ...] = get_args(Route)
RECIPES: tuple[str, ...] = get_args(Recipe)
KEPT_POSITIONS = 20  # rows of the long position table that keep the short one's meaning (Long-CLIP, arXiv:2403.15378)
NACLIP_SIGMA = 5.0  # patches; NACLIP's published setting
CORR_SEMANTIC = 0.5  # weight of CorrCLIP's branch of class tokens
_WHOLE_BLOCK = frozenset({"value", "vanilla", "sclip"})  # the other recipes drop the residual and the MLP


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
        """(B, 3, H, W) -> hidden states (B, 1 + Gh*Gw, width) and (Gh, Gw); an incomplete last patch is cut off."""
        tokens, grid_hw = patch_rows(self.patch_embedding, pixel_values.to(self.patch_embedding.weight.dtype))
        class_token = self.class_embedding.expand(len(tokens), 1, -1)
        return torch.cat([class_token, tokens], 1) + self.positions(grid_hw), grid_hw

    def positions(self, grid_hw: tuple[int, int]) -> Tensor:
        """(1 + Gh*Gw, width): the table, resized (bicubic) to any other grid; row 0 belongs to the class token."""
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
        """Hidden states (B, 1 + Gh*Gw, width) before the last block, and (Gh, Gw)."""
        x, grid_hw = self.embeddings(pixel_values)
        x = self.pre_layrnorm(x)
        for block in self.encoder.layers[:-1]:
            x = block(x)
        return x, grid_hw

    def middle_patches(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, Gh, Gw, width): `middle_features` of the patches."""
        x, grid_hw = self.embeddings(pixel_values)
        return middle_features(self.encoder, self.pre_layrnorm(x))[:, 1:].reshape(len(x), *grid_hw, -1)

    def global_token(self, before_last: Tensor) -> Tensor:
        """(B, 1 + N, width) -> (B, width): the class token after the last block."""
        return self.post_layernorm(self.encoder.layers[-1](before_last)[:, 0])

    def patch_tokens(self, before_last: Tensor, grid_hw: tuple[int, int], recipe: str) -> Tensor:
        """(B, 1 + Gh*Gw, width) -> (B, Gh*Gw, width): the patches after the last block, by `recipe`."""
        block: Block = self.encoder.layers[-1]  # type: ignore[assignment]
        if recipe == "value":
            before_last = before_last[:, 1:]  # without attention no patch depends on the class token
        x = _attended(block, before_last, grid_hw, recipe)
        if recipe in _WHOLE_BLOCK:
            x = block.add_mlp(add(before_last, x))
        return self.post_layernorm(x if recipe == "value" else x[:, 1:])

    def guided_tokens(
        self, pixel_values: Tensor, recipe: GuidedRecipe, guide: Tensor, regions: Tensor, *, whole: bool
    ) -> Tensor:
        """(B, 3, H, W) -> (B, Hg*Wg, width): the patches after the last block, which a (B, Hg, Wg, C) guide mixes."""
        if recipe == "corr":
            x, grid_hw = self.embeddings(pixel_values)
            branches = corr_branches(self.encoder, self.pre_layrnorm(x), grid_hw, guide, regions, whole=whole)
            main, middle, semantic = map(self.post_layernorm, branches)
            return main + middle + CORR_SEMANTIC * semantic
        x, grid_hw = self.before_last(pixel_values)
        patches, guide_hw = x[:, 1:].reshape(len(x), *grid_hw, -1), (guide.shape[1], guide.shape[2])
        block: Block = self.encoder.layers[-1]  # type: ignore[assignment]
        weights = [proxy_weights(window) for window in guide]
        return self.post_layernorm(guided_block(block, patches, weights, guide_hw, whole=whole))


def _attended(block: Block, x: Tensor, grid_hw: tuple[int, int], recipe: str) -> Tensor:
    """The attention half of the last block, without the residual."""
    attention, x = block.self_attn, block.layer_norm1(x)
    if recipe == "vanilla":
        return attention(x)
    if recipe == "value":
        return attention.out_proj(attention.v_proj(x))
    q, k, v = (attention.split(project(x)) for project in (attention.q_proj, attention.k_proj, attention.v_proj))
    if recipe == "sclip":
        return attention.merge(F.scaled_dot_product_attention(q, q, v) + F.scaled_dot_product_attention(k, k, v))
    if recipe == "clearclip":
        return attention.merge(F.scaled_dot_product_attention(q, q, v))
    bias = None
    if recipe == "naclip":
        bias = F.pad(gaussian_window(grid_hw, sigma=NACLIP_SIGMA), (1, 0, 1, 0)).to(x.dtype)  # 0 for the class token
        bias = to_device(bias, x.device)
    return attention.merge(F.scaled_dot_product_attention(k, k, v, attn_mask=bias))


def gaussian_window(grid_hw: tuple[int, int], *, sigma: float) -> Tensor:
    """exp(-distance^2 / (2 sigma^2)) of every pair of patches.

    Args:
        grid_hw: (Gh, Gw) patches.
        sigma: standard deviation in patches.

    Returns:
        (Gh*Gw, Gh*Gw) float32 in (0, 1], 1 on the diagonal.

    Examples:
        >>> gaussian_window((1, 2), sigma=1.0)[0].tolist()
        [1.0, 0.6065306663513184]
    """
    rows, columns = (torch.arange(size, dtype=torch.float32, device="cpu") for size in grid_hw)
    row_falloff = torch.exp(-((rows[:, None] - rows) ** 2) / (2 * sigma**2))
    column_falloff = torch.exp(-((columns[:, None] - columns) ** 2) / (2 * sigma**2))
    return torch.kron(row_falloff, column_falloff)


class TextEmbeddings(nn.Module):
    """Tables of tokens and positions. A model with a long route has two more tables, each used in part."""

    def __init__(self, config: ClipConfig | FgClip2Config, long_positions: int) -> None:
        """Take the sizes; `long_positions` is 0 for a model without a long route."""
        super().__init__()
        width = config.text.width
        self.token_embedding = Embedding(config.vocabulary, width)
        self.position_embedding = Embedding(config.positions, width)
        if long_positions:
            self.position_embedding_res = Embedding(long_positions, width)
            self.position_embedding_ori = Embedding(long_positions, width)

    def positions(self, route: str) -> Tensor:
        """(limit, width): the position table of a route that the model has."""
        if route != "long":
            return self.position_embedding.weight
        kept = self.position_embedding_ori.weight[:KEPT_POSITIONS]
        return torch.cat([kept, self.position_embedding_res.weight[KEPT_POSITIONS:]])


class TextTower(nn.Module):
    """CLIP's causal text transformer; the feature is read at the first end token."""

    def __init__(self, config: ClipConfig, long_positions: int) -> None:
        super().__init__()
        self.end_token = config.end_token
        self.embeddings = TextEmbeddings(config, long_positions)
        self.encoder = Layers(config.text)
        self.final_layer_norm = nn.LayerNorm(config.text.width, eps=config.text.epsilon)

    def forward(self, input_ids: Tensor, route: str) -> Tensor:
        """(T, L) token ids -> (T, width). Tokens after the first end token have no effect.

        Raises:
            ShapeError: a row without an end token, or more tokens than the route has positions.
        """
        end = self._first_end(input_ids)
        length, positions = int(end.max()) + 1, self.embeddings.positions(route)
        if length > len(positions):
            raise ShapeError(f"input_ids: expected at most {len(positions)} tokens on the {route} route, got {length}")
        x = self.embeddings.token_embedding(input_ids[:, :length]) + positions[:length]
        x = self.final_layer_norm(self.encoder(x, causal=True))
        return x[torch.arange(len(x), device=x.device), end]

    def shared(self, trees: PrefixTrees, route: str) -> Tensor:
        """(T, width) of the texts of some trees: as `forward`, with each distinct prefix computed once."""
        x = self.embeddings.token_embedding(trees.tokens) + self.embeddings.positions(route)[trees.depths]
        x = self.encoder(x, mask=trees.mask[:, None])
        return self.final_layer_norm(x[trees.ends[:, 0], trees.ends[:, 1]])

    def _first_end(self, input_ids: Tensor) -> Tensor:
        check_array("input_ids", input_ids, ("T", "L"))
        is_end = input_ids == self.end_token
        has_end = is_end.any(1)
        if not bool(has_end.all()):
            row = int((~has_end).int().argmax())
            raise ShapeError(f"input_ids: expected the end token {self.end_token} in every row, row {row} has none")
        return is_end.int().argmax(1)


class ClipModel(nn.Module):
    """CLIP on raw tensors, un-normalised; `fgseg.encoders.ClipEncoder` wraps it for images and texts."""

    routes: tuple[str, ...] = ("region", "short")
    long_positions = 0
    whole_when_guided = False
    """Whether guided recipes keep the residual and the MLP of the last block, which ProxyCLIP drops."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        self.config = config
        self.text_model = TextTower(config, self.long_positions)
        self.vision_model = VisionTower(config)
        self.text_projection = Linear(config.text.width, config.width, bias=False)
        self.visual_projection = Linear(config.vision.width, config.width, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def dense_features(self, pixel_values: Tensor, *, recipe: Recipe = "value") -> Tensor:
        """Patch features by a dense recipe.

        Args:
            pixel_values: (B, 3, H, W) normalised pixels, sides at least one patch.
            recipe: attention of the last block; `value` is that of MaskCLIP and FG-CLIP.

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

    def guided_features(
        self, pixel_values: Tensor, *, recipe: GuidedRecipe, guide: Tensor, regions: Tensor | None = None
    ) -> Tensor:
        """Patch features on the grid of a guide, which decides how patches are mixed.

        Args:
            pixel_values: (B, 3, H, W) normalised pixels, sides at least one patch.
            recipe: "proxy" (ProxyCLIP) or "corr" (CorrCLIP).
            guide: (B, Hg, Wg, C) features of the same pixels.
            regions: (B, Hg, Wg) integers for "corr", negative where there is no region; None for no region at all.

        Returns:
            (B, Hg, Wg, D), not normalised.

        Raises:
            ShapeError: shapes that do not fit each other, or pixels smaller than a patch.
            OptionError: an unknown recipe.
        """
        check_choice("recipe", recipe, GUIDED_RECIPES)
        self._check_pixels(pixel_values)
        check_array("guide", guide, (len(pixel_values), "Hg", "Wg", "C"))
        if regions is None:
            regions = guide.new_full(guide.shape[:3], UNSEGMENTED, dtype=torch.int64)
        check_array("regions", regions, tuple(guide.shape[:3]))
        tokens = self.vision_model.guided_tokens(pixel_values, recipe, guide, regions, whole=self.whole_when_guided)
        return self.visual_projection(tokens).reshape(*guide.shape[:3], -1)

    def own_features(self, pixel_values: Tensor) -> Tensor:
        """Features of a middle block, by which the model can guide itself: (B, 3, H, W) pixels -> (B, Gh, Gw, C).

        Raises:
            ShapeError: not (B, 3, H, W), or smaller than a patch.
        """
        self._check_pixels(pixel_values)
        return self.vision_model.middle_patches(pixel_values)

    def image_features(self, pixel_values: Tensor) -> Tensor:
        """Whole-image features: (B, 3, H, W) normalised pixels -> (B, D), not normalised.

        Raises:
            ShapeError: not (B, 3, H, W), or smaller than a patch.
        """
        self._check_pixels(pixel_values)
        x, _ = self.vision_model.before_last(pixel_values)
        return self.visual_projection(self.vision_model.global_token(x))

    def text_features(self, input_ids: Tensor, *, route: Route = "region") -> Tensor:
        """Text features: (T, L) token ids, padded or not -> (T, D), not normalised.

        Raises:
            OptionError: a route that the model does not have.
            ShapeError: a row without an end token, or more tokens than the route takes.
        """
        check_route(route, self.routes)
        return self._projection(route)(self.text_model(input_ids, route))

    def shared_text_features(self, trees: PrefixTrees, *, route: Route = "region") -> Tensor:
        """(T, D) features of the texts of some trees, as `text_features`; each text fits the `limit` of the route."""
        return self._projection(route)(self.text_model.shared(trees, route))

    def limit(self, route: str) -> int:
        """Maximum number of tokens on a route, start and end tokens included."""
        check_route(route, self.routes)
        return len(self.text_model.embeddings.positions(route))

    def region_logit_scale(self) -> Tensor:
        """Scalar factor on region cosines before a softmax."""
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
