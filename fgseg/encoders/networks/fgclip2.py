"""FG-CLIP 2: SigLIP 2 NaFlex towers with a dense head and three text heads (arXiv:2510.10921).

Images of any aspect ratio are lists of patches. The text tower is not causal and its feature is read at the last
position, so padding is part of the input.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fgseg._checks import check_array, check_choice
from fgseg.encoders.networks.blocks import Embedding, Layers, Linear, Mlp, TowerConfig
from fgseg.encoders.networks.clip import Route, TextEmbeddings, check_route
from fgseg.encoders.networks.config import FgClip2Config
from fgseg.encoders.networks.guided import (
    GUIDED_RECIPES,
    UNSEGMENTED,
    GuidedRecipe,
    RowWeights,
    middle_features,
    mixed,
    mixture,
    resized,
)
from fgseg.errors import OptionError, ShapeError

__all__ = ["FgClip2Model", "Patches", "fit_to_patches", "patch_budget", "patchify"]


class Patches(NamedTuple):
    """NaFlex input of a batch.

    Attributes:
        pixel_values: (B, N, 3 * P * P) float32 patches, row-major, each in (row, column, channel) order.
        spatial_shapes: (B, 2) int64, (Gh, Gw) of each image.
        pixel_attention_mask: (B, N) bool, false at padding.
    """

    pixel_values: Tensor
    spatial_shapes: Tensor
    pixel_attention_mask: Tensor

    def grids_hw(self) -> list[tuple[int, int]]:
        """(Gh, Gw) of each image."""
        return [(int(height), int(width)) for height, width in self.spatial_shapes.tolist()]


def patch_budget(image_hw: tuple[int, int], *, patch: int = 16) -> int:
    """The published choice of `max_num_patches` for an image.

    Examples:
        >>> patch_budget((300, 451)), patch_budget((64, 64)), patch_budget((1080, 1920))
        (576, 128, 1024)
    """
    count = (image_hw[0] // patch) * (image_hw[1] // patch)
    for above, budget in ((784, 1024), (576, 784), (256, 576), (128, 256)):
        if count > above:
            return budget
    return 128


def fit_to_patches(image_hw: tuple[int, int], *, patch: int, max_patches: int) -> tuple[int, int]:
    """The NaFlex size of an image: about the same aspect ratio, sides that are multiples of the patch.

    This is the largest scale at which the sides, rounded up to the patch, give at most `max_patches`. It is found by
    bisection to 1e-5, as in the published processor.

    Args:
        image_hw: (height, width) in pixels.
        patch: patch side in pixels.
        max_patches: maximum number of patches of the resized image.

    Returns:
        (height, width) in pixels.

    Examples:
        >>> fit_to_patches((300, 451), patch=16, max_patches=256)
        (208, 304)
    """
    if max_patches < 1:
        raise OptionError(f"max_patches: expected at least 1, got {max_patches}")
    low, high = 1e-5 / 10, 100.0
    while high - low >= 1e-5:
        middle = (low + high) / 2
        height, width = _rounded(image_hw, middle, patch)
        if (height // patch) * (width // patch) <= max_patches:
            low = middle
        else:
            high = middle
    return _rounded(image_hw, low, patch)


def _rounded(image_hw: tuple[int, int], scale: float, patch: int) -> tuple[int, int]:
    height, width = (max(patch, math.ceil(side * scale / patch) * patch) for side in image_hw)
    return height, width


def patchify(pixels: Tensor, *, patch: int) -> Tensor:
    """(B, Gh*P, Gw*P, 3) -> (B, Gh*Gw, P*P*3): row-major patches, each in (row, column, channel) order.

    Examples:
        >>> patchify(torch.arange(12).reshape(1, 1, 4, 3), patch=1).shape
        torch.Size([1, 4, 3])
    """
    count, height, width, channels = pixels.shape
    blocks = pixels.reshape(count, height // patch, patch, width // patch, patch, channels)
    return blocks.transpose(2, 3).reshape(count, -1, patch * patch * channels)


class VisionEmbeddings(nn.Module):
    """Patches to hidden states; the square position table is resized to the grid of each image."""

    def __init__(self, config: FgClip2Config) -> None:
        super().__init__()
        width = config.vision.width
        self.side = math.isqrt(config.patches)
        self.patch_embedding = Linear(3 * config.patch**2, width)
        self.position_embedding = Embedding(self.side**2, width)

    def forward(self, pixel_values: Tensor, shapes: list[tuple[int, int]]) -> Tensor:
        """(B, N, 3*P*P) and B grids (Gh, Gw) -> (B, N, width)."""
        x: Tensor = self.patch_embedding(pixel_values.to(self.patch_embedding.weight.dtype))
        rows = [F.pad(self.positions(grid_hw), (0, 0, 0, x.shape[1] - grid_hw[0] * grid_hw[1])) for grid_hw in shapes]
        return x + torch.stack(rows)

    def positions(self, grid_hw: tuple[int, int]) -> Tensor:
        """(Gh*Gw, width): the table, resized (bilinear with antialiasing)."""
        table = self.position_embedding.weight
        square = table.float().T.reshape(1, -1, self.side, self.side)
        resized = F.interpolate(square, grid_hw, mode="bilinear", align_corners=False, antialias=True)
        return resized.flatten(2)[0].T.to(table.dtype)


class PoolingHead(nn.Module):
    """Attention pooling. The query is a learnt probe for the image feature, or every patch for the dense features."""

    def __init__(self, tower: TowerConfig) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.zeros(1, 1, tower.width))
        self.attention = nn.MultiheadAttention(tower.width, tower.heads, batch_first=True)
        self.layernorm = nn.LayerNorm(tower.width, eps=tower.epsilon)
        self.mlp = Mlp(tower)

    def forward(self, query: Tensor, patches: Tensor, mask: Tensor | None) -> Tensor:
        """(B, Q, width), (B, N, width), mask (B, 1, 1, N) bool or None -> (B, Q, width); the query has no residual."""
        # nn.MultiheadAttention needs the mask repeated for every head and query: 13 GB at 16,384 patches.
        width, heads = patches.shape[-1], self.attention.num_heads
        weight, bias = self.attention.in_proj_weight, self.attention.in_proj_bias
        q = F.linear(query, weight[:width], bias[:width]).reshape(*query.shape[:2], heads, -1).transpose(1, 2)
        kv = F.linear(patches, weight[width:], bias[width:]).reshape(*patches.shape[:2], 2, heads, -1)
        k, v = kv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self._after(attended.transpose(1, 2).flatten(-2))

    def guided(self, patches: Tensor, weights: RowWeights, grid_hw: tuple[int, int]) -> Tensor:
        """(h, w, width) patches of one image and the attention of a guide on a grid (H, W) -> (H, W, width)."""
        start = 2 * patches.shape[-1]  # of the value projection, after those of queries and keys
        values = F.linear(patches, self.attention.in_proj_weight[start:], self.attention.in_proj_bias[start:])
        flat = resized(values[None], grid_hw)[0].flatten(0, 1)
        return self._after(mixed(flat, weights)).reshape(*grid_hw, -1)

    def _after(self, attended: Tensor) -> Tensor:
        x = self.attention.out_proj(attended)
        return x + self.mlp(self.layernorm(x))


class VisionTower(nn.Module):
    """SigLIP 2's vision transformer up to the post-LayerNorm, and its pooling head."""

    def __init__(self, config: FgClip2Config) -> None:
        super().__init__()
        self.embeddings = VisionEmbeddings(config)
        self.encoder = Layers(config.vision)
        self.post_layernorm = nn.LayerNorm(config.vision.width, eps=config.vision.epsilon)
        self.head = PoolingHead(config.vision)

    def forward(self, patches: Patches) -> tuple[Tensor, Tensor | None]:
        """(B, N, width) post-normalised patches, and the attention mask (None without padding)."""
        x, mask = self._embedded(patches)
        return self.post_layernorm(self.encoder(x, mask=mask)), mask

    def middle_patches(self, patches: Patches) -> Tensor:
        """(B, N, width): `middle_features` of the patches."""
        x, mask = self._embedded(patches)
        return middle_features(self.encoder, x, mask=mask)

    def _embedded(self, patches: Patches) -> tuple[Tensor, Tensor | None]:
        mask = None
        if not bool(patches.pixel_attention_mask.all()):
            mask = patches.pixel_attention_mask.bool()[:, None, None].to(patches.pixel_values.device)
        return self.embeddings(patches.pixel_values, patches.grids_hw()), mask


class TextTower(nn.Module):
    """SigLIP 2's text transformer; the feature is read at the last position."""

    def __init__(self, config: FgClip2Config) -> None:
        super().__init__()
        self.embeddings = TextEmbeddings(config, config.long_positions)
        self.encoder = Layers(config.text)
        self.final_layer_norm = nn.LayerNorm(config.text.width, eps=config.text.epsilon)
        self.head = Linear(config.text.width, config.text.width)

    def forward(self, input_ids: Tensor, route: str) -> Tensor:
        """(T, L) token ids padded to the route's length -> (T, width).

        Raises:
            ShapeError: L is not the route's length.
        """
        positions = self.embeddings.positions(route)
        check_array("input_ids", input_ids, ("T", "L"))
        if input_ids.shape[1] != len(positions):
            raise ShapeError(
                f"input_ids: expected {len(positions)} tokens on the {route} route, got {input_ids.shape[1]}; "
                "FG-CLIP 2 reads a text at its last position, so pad it to the full length"
            )
        x = self.embeddings.token_embedding(input_ids) + positions
        return self.final_layer_norm(self.encoder(x))[:, -1]


class FgClip2Model(nn.Module):
    """FG-CLIP 2 on raw tensors, un-normalised. `region` texts take the box head, as in its region training."""

    routes = ("region", "short", "long")

    def __init__(self, config: FgClip2Config) -> None:
        super().__init__()
        self.config = config
        self.text_model = TextTower(config)
        self.vision_model = VisionTower(config)
        self.dense_feature_head = PoolingHead(config.vision)
        self.longtext_head = Linear(config.text.width, config.text.width)
        self.boxtext_head = Linear(config.text.width, config.text.width)
        self.logit_scale = nn.Parameter(torch.zeros(1))
        self.logit_bias = nn.Parameter(torch.zeros(1))

    def dense_features(
        self, pixel_values: Tensor, *, spatial_shapes: Tensor, pixel_attention_mask: Tensor
    ) -> list[Tensor]:
        """Patch features.

        Args:
            pixel_values: (B, N, 3 * P * P) patches.
            spatial_shapes: (B, 2) int, (Gh, Gw) of each image.
            pixel_attention_mask: (B, N), 0 at padding.

        Returns:
            B tensors (Gh, Gw, D), not normalised, without padding.

        Raises:
            ShapeError: arguments that do not fit each other.
        """
        patches = _checked(pixel_values, spatial_shapes, pixel_attention_mask)
        x, mask = self.vision_model(patches)
        return _grids(self.dense_feature_head(x, x, mask), patches)

    def guided_features(
        self,
        pixel_values: Tensor,
        *,
        spatial_shapes: Tensor,
        pixel_attention_mask: Tensor,
        recipe: GuidedRecipe,
        guide: Sequence[Tensor],
        regions: Sequence[Tensor] | None = None,
    ) -> list[Tensor]:
        """Patch features, with the attention of a guide in place of the dense head's own.

        Args:
            pixel_values: as in `dense_features`.
            spatial_shapes: as in `dense_features`.
            pixel_attention_mask: as in `dense_features`.
            recipe: "proxy" or "corr", of which the dense head takes the attention alone.
            guide: B tensors (Hg, Wg, C), features of the same images.
            regions: B tensors (Hg, Wg) of integers for "corr", negative where there is no region; None for no region.

        Returns:
            B tensors (Hg, Wg, D), not normalised.

        Raises:
            ShapeError: arguments that do not fit each other.
            OptionError: an unknown recipe.
        """
        check_choice("recipe", recipe, GUIDED_RECIPES)
        patches = _checked(pixel_values, spatial_shapes, pixel_attention_mask)
        if regions is None:
            regions = [window.new_full(window.shape[:2], UNSEGMENTED, dtype=torch.int64) for window in guide]
        x, _ = self.vision_model(patches)
        dense = []
        for grid, window, region in zip(_grids(x, patches), guide, regions, strict=True):
            guide_hw = (window.shape[0], window.shape[1])
            dense.append(self.dense_feature_head.guided(grid, mixture(recipe, window, region), guide_hw))
        return dense

    def own_features(
        self, pixel_values: Tensor, *, spatial_shapes: Tensor, pixel_attention_mask: Tensor
    ) -> list[Tensor]:
        """Features of a middle block: B tensors (Gh, Gw, C); arguments as in `dense_features`.

        Raises:
            ShapeError: arguments that do not fit each other.
        """
        patches = _checked(pixel_values, spatial_shapes, pixel_attention_mask)
        return _grids(self.vision_model.middle_patches(patches), patches)

    def image_features(self, pixel_values: Tensor, *, spatial_shapes: Tensor, pixel_attention_mask: Tensor) -> Tensor:
        """Whole-image features (B, D), not normalised; arguments as in `dense_features`.

        Raises:
            ShapeError: arguments that do not fit each other.
        """
        x, mask = self.vision_model(_checked(pixel_values, spatial_shapes, pixel_attention_mask))
        head: PoolingHead = self.vision_model.head
        return head(head.probe.expand(len(x), -1, -1), x, mask)[:, 0]

    def text_features(self, input_ids: Tensor, *, route: Route = "region") -> Tensor:
        """Text features: (T, L) token ids padded to the route's length -> (T, D), not normalised.

        Raises:
            OptionError: an unknown route.
            ShapeError: L is not the route's length.
        """
        check_route(route, self.routes)
        heads = {"region": self.boxtext_head, "short": self.text_model.head, "long": self.longtext_head}
        return heads[route](self.text_model(input_ids, route))

    def limit(self, route: str) -> int:
        """Number of tokens on a route; texts are padded to it."""
        check_route(route, self.routes)
        return len(self.text_model.embeddings.positions(route))

    def region_logit_scale(self) -> Tensor:
        """Scalar factor on cosines; FG-CLIP 2 publishes no separate temperature for regions."""
        return self.logit_scale.exp().reshape(())


def _grids(rows: Tensor, patches: Patches) -> list[Tensor]:
    """(B, N, C) -> the grid (Gh, Gw, C) of each image, without padding."""
    return [row[: h * w].reshape(h, w, -1) for row, (h, w) in zip(rows, patches.grids_hw(), strict=True)]


def _checked(pixel_values: Tensor, spatial_shapes: Tensor, pixel_attention_mask: Tensor) -> Patches:
    check_array("pixel_values", pixel_values, ("B", "N", "P*P*3"))
    check_array("spatial_shapes", spatial_shapes, (len(pixel_values), 2))
    check_array("pixel_attention_mask", pixel_attention_mask, tuple(pixel_values.shape[:2]))
    if int(spatial_shapes.prod(1).max()) > pixel_values.shape[1]:
        raise ShapeError(
            f"spatial_shapes: expected at most {pixel_values.shape[1]} patches per image, got {spatial_shapes.tolist()}"
        )
    return Patches(pixel_values, spatial_shapes, pixel_attention_mask)
