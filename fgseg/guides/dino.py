"""DINO and DINOv2: vision transformers trained without labels, whose patches of one thing look alike.

Modules are named as the tensors in the published files. The families differ in small things, so the tensors decide:
DINOv2 scales the two halves of each block, and some of its models have registers, tokens beside the class token.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fgseg._checks import check_array, check_choice
from fgseg.encoders.base import GUIDE_KINDS, GuideKind
from fgseg.encoders.networks.blocks import Conv2d, Linear, TowerConfig, activation, add, patch_rows
from fgseg.encoders.networks.config import checked_section
from fgseg.errors import ShapeError, WeightsError

__all__ = ["DinoConfig", "DinoModel", "dino_family"]

Family = Literal["DINO", "DINOv2", "DINOv2 with registers"]

# Values that a config.json may leave out: the defaults of transformers' ViTConfig and Dinov2Config.
_VIT = {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    "hidden_act": "gelu", "layer_norm_eps": 1e-12, "image_size": 224, "patch_size": 16,
}  # fmt: skip
_DINOV2 = {**_VIT, "layer_norm_eps": 1e-6, "patch_size": 14, "mlp_ratio": 4, "num_register_tokens": 4}


def dino_family(shapes: Mapping[str, tuple[int, ...]]) -> Family:
    """The family of a checkpoint with these tensors.

    Raises:
        WeightsError: the tensors of none of them.

    Examples:
        >>> names = ("embeddings.cls_token", "encoder.layer.0.attention.attention.query.weight")
        >>> dino_family(dict.fromkeys(names, (1,)))
        'DINO'
    """
    if "embeddings.cls_token" not in shapes or "encoder.layer.0.attention.attention.query.weight" not in shapes:
        names = ", ".join(sorted(shapes)[:3])
        raise WeightsError(
            f"guide: expected the tensors of DINO or DINOv2 in transformers' layout, got {len(shapes)}: {names}"
        )
    if "encoder.layer.0.layer_scale1.lambda1" not in shapes:
        return "DINO"
    return "DINOv2 with registers" if "embeddings.register_tokens" in shapes else "DINOv2"


@dataclass(frozen=True)
class DinoConfig:
    """Sizes of a guide.

    Attributes:
        family: which of the three it is.
        tower: the transformer.
        side: pixels of the square image that its position table is for.
        patch: side of a patch in pixels.
        registers: tokens beside the class token.
    """

    family: Family
    tower: TowerConfig
    side: int
    patch: int
    registers: int

    @classmethod
    def from_dict(cls, config: Mapping[str, Any], family: Family) -> "DinoConfig":
        """Read the sizes from the content of a config.json.

        Raises:
            WeightsError: a field that is not a number, or a patch larger than the image.
        """
        values = checked_section(config, _VIT if family == "DINO" else _DINOV2)
        width, side, patch = int(values["hidden_size"]), int(values["image_size"]), int(values["patch_size"])
        if patch > side:
            raise WeightsError(f"config.json: expected a patch_size from 1 to image_size, {side}, got {patch}")
        tower = TowerConfig(
            width=width,
            heads=int(values["num_attention_heads"]),
            layers=int(values["num_hidden_layers"]),
            mlp_width=int(values["intermediate_size"]) if family == "DINO" else int(width * values["mlp_ratio"]),
            activation=str(values["hidden_act"]),
            epsilon=float(values["layer_norm_eps"]),
        )
        return cls(family, tower, side, patch, int(values["num_register_tokens"]) if "registers" in family else 0)


class _Embeddings(nn.Module):
    """Patches, class token and registers to hidden states, with positions interpolated to any grid."""

    def __init__(self, config: DinoConfig) -> None:
        super().__init__()
        width, self.side = config.tower.width, config.side // config.patch
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        if config.family != "DINO":
            self.mask_token = nn.Parameter(torch.zeros(1, width))  # used in training alone
        if config.registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, config.registers, width))
        self.position_embeddings = nn.Parameter(torch.zeros(1, 1 + self.side**2, width))
        projection = Conv2d(3, width, config.patch, stride=config.patch)
        self.patch_embeddings = nn.ModuleDict({"projection": projection})
        self.antialias = config.registers > 0  # as published

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """(B, 3, H, W) -> (B, tokens, width) with the class token and registers first, and (Gh, Gw)."""
        convolution = cast(Conv2d, self.patch_embeddings["projection"])
        patches, grid_hw = patch_rows(convolution, pixel_values.to(convolution.weight.dtype))
        x = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], 1) + self.positions(grid_hw)
        if hasattr(self, "register_tokens"):  # they have no position
            x = torch.cat([x[:, :1], self.register_tokens.expand(len(x), -1, -1), x[:, 1:]], 1)
        return x, grid_hw

    def positions(self, grid_hw: tuple[int, int]) -> Tensor:
        """(1, 1 + Gh*Gw, width): the table, resized (bicubic) to any other grid."""
        table = self.position_embeddings
        if grid_hw == (self.side, self.side):
            return table
        square = table[:, 1:].float().transpose(1, 2).reshape(1, -1, self.side, self.side)
        resized = F.interpolate(square, grid_hw, mode="bicubic", align_corners=False, antialias=self.antialias)
        return torch.cat([table[:, :1], resized.flatten(2).transpose(1, 2).to(table.dtype)], 1)


class _Attention(nn.Module):
    """Multi-head self-attention under the names of the files."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.heads = config.heads
        names = ("query", "key", "value")
        self.attention = nn.ModuleDict({name: Linear(config.width, config.width) for name in names})
        self.output = nn.ModuleDict({"dense": Linear(config.width, config.width)})

    def project(self, x: Tensor, name: str) -> Tensor:
        """(B, N, width) -> (B, N, width): queries, keys or values, the heads side by side."""
        projected: Tensor = self.attention[name](x)
        return projected

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, width) -> (B, N, width)."""
        q, k, v = (
            self.project(x, name).reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)
            for name in ("query", "key", "value")
        )
        attended: Tensor = self.output["dense"](F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return attended


class _DinoLayer(nn.Module):
    """A block of DINO."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.activation = activation(config.activation)
        self.layernorm_before = nn.LayerNorm(config.width, eps=config.epsilon)
        self.attention = _Attention(config)
        self.layernorm_after = nn.LayerNorm(config.width, eps=config.epsilon)
        self.intermediate = nn.ModuleDict({"dense": Linear(config.width, config.mlp_width)})
        self.output = nn.ModuleDict({"dense": Linear(config.mlp_width, config.width)})

    def before_attention(self, x: Tensor) -> Tensor:
        """(B, N, width) -> (B, N, width): what queries, keys and values are made of."""
        return self.layernorm_before(x)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, width) -> (B, N, width)."""
        x = add(x, self.attention(self.before_attention(x)))
        return add(x, self.output["dense"](self.activation(self.intermediate["dense"](self.layernorm_after(x)))))


class _LayerScale(nn.Module):
    """A factor for every channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.lambda1 = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        return x * self.lambda1


class _Dinov2Layer(nn.Module):
    """A block of DINOv2."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.activation = activation(config.activation)
        self.norm1 = nn.LayerNorm(config.width, eps=config.epsilon)
        self.attention = _Attention(config)
        self.layer_scale1 = _LayerScale(config.width)
        self.norm2 = nn.LayerNorm(config.width, eps=config.epsilon)
        sizes = {"fc1": (config.width, config.mlp_width), "fc2": (config.mlp_width, config.width)}
        self.mlp = nn.ModuleDict({name: Linear(*size) for name, size in sizes.items()})
        self.layer_scale2 = _LayerScale(config.width)

    def before_attention(self, x: Tensor) -> Tensor:
        """As `_DinoLayer.before_attention`."""
        return self.norm1(x)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, width) -> (B, N, width)."""
        x = add(x, self.layer_scale1(self.attention(self.before_attention(x))))
        return add(x, self.layer_scale2(self.mlp["fc2"](self.activation(self.mlp["fc1"](self.norm2(x))))))


class DinoModel(nn.Module):
    """DINO, DINOv2 or DINOv2 with registers on raw tensors."""

    def __init__(self, config: DinoConfig) -> None:
        super().__init__()
        self.config = config
        tower, layer = config.tower, _DinoLayer if config.family == "DINO" else _Dinov2Layer
        self.embeddings = _Embeddings(config)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layer(tower) for _ in range(tower.layers))})
        self.layernorm = nn.LayerNorm(tower.width, eps=tower.epsilon)

    def patch_features(self, pixel_values: Tensor, *, kind: GuideKind) -> Tensor:
        """Features of the patches.

        Args:
            pixel_values: (B, 3, H, W) normalised pixels, sides at least one patch; an incomplete last patch is cut off.
            kind: "hidden" is the last hidden state after the final LayerNorm (ProxyCLIP's choice), "query_key" the sum
                of the queries and keys of the last block (CorrCLIP's), "value" its values (LPOSS's).

        Returns:
            (B, Gh, Gw, C), not normalised.

        Raises:
            ShapeError: not (B, 3, H, W), or smaller than a patch.
            OptionError: an unknown kind.
        """
        check_choice("kind", kind, GUIDE_KINDS)
        check_array("pixel_values", pixel_values, ("B", 3, "H", "W"))
        if min(pixel_values.shape[-2:]) < self.config.patch:
            got = tuple(pixel_values.shape[-2:])
            raise ShapeError(f"pixel_values: expected sides of at least {self.config.patch}, got {got}")
        x, grid_hw = self.embeddings(pixel_values)
        *layers, last = cast(nn.ModuleList, self.encoder["layer"])
        for layer in layers:
            x = layer(x)
        return self._features(last, x, kind)[:, 1 + self.config.registers :].reshape(len(x), *grid_hw, -1)

    def _features(self, last: nn.Module, x: Tensor, kind: str) -> Tensor:
        if kind == "hidden":
            return self.layernorm(last(x))
        block = cast(_DinoLayer, last)
        x = block.before_attention(x)
        if kind == "value":
            return block.attention.project(x, "value")
        return block.attention.project(x, "query") + block.attention.project(x, "key")
