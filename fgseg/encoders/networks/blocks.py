"""The transformer parts that CLIP, FG-CLIP 1 and FG-CLIP 2 share.

Modules are named as the published tensors. They are plain torch and not transformers' classes, since transformers takes
seconds to import and the dense recipes change the last block. Tests compare every tower with transformers' models.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fgseg.encoders.devices import has_fast_bfloat16, is_x86
from fgseg.errors import WeightsError

__all__ = [
    "QUICK_GELU_SCALE",
    "Attention",
    "Block",
    "Conv2d",
    "Embedding",
    "Layers",
    "Linear",
    "Mlp",
    "TowerConfig",
    "activation",
    "add",
    "pack_weights",
    "patch_rows",
]


@dataclass(frozen=True)
class TowerConfig:
    """Sizes of one transformer tower.

    Attributes:
        width: channels of the hidden states.
        heads: attention heads; `width` is a multiple of it.
        layers: number of blocks.
        mlp_width: hidden channels of each block's MLP.
        activation: name of the MLP's non-linearity in config.json.
        epsilon: added to the variance by every LayerNorm.
    """

    width: int
    heads: int
    layers: int
    mlp_width: int
    activation: str
    epsilon: float

    def __post_init__(self) -> None:
        if min(self.width, self.heads, self.layers, self.mlp_width) < 1 or self.width % self.heads:
            raise WeightsError(
                f"config.json: hidden_size must be a positive multiple of num_attention_heads, got {self}"
            )
        activation(self.activation)


QUICK_GELU_SCALE = 1.702  # of OpenAI CLIP's sigmoid approximation of GELU
_CPU = torch.device("cpu")
_ROWS_EXPECTED = 1024  # a hint for oneDNN's order of weights; 200 to 4000 are equally fast for 6 to 1200 rows


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(QUICK_GELU_SCALE * x)


_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "quick_gelu": _quick_gelu,
    "gelu": F.gelu,
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The non-linearity that a config names.

    Raises:
        WeightsError: a name that none of the three model families uses.
    """
    if name not in _ACTIVATIONS:
        raise WeightsError(f"config.json: hidden_act: expected one of {', '.join(_ACTIVATIONS)}, got {name!r}")
    return _ACTIVATIONS[name]


def add(x: Tensor, update: Tensor) -> Tensor:
    """The sum of x and `update`. Without gradients it overwrites `update`, which no other code may hold."""
    return x + update if torch.is_grad_enabled() else update.add_(x)


class _Uninitialised:
    """Leaves new weights as they are, since a checkpoint or the training recipe fills them.

    torch's random initialisation takes seconds for a large model, and on the meta device it imports sympy.
    """

    def reset_parameters(self) -> None:
        """Leave the values as they are."""


class Embedding(_Uninitialised, nn.Embedding):
    """nn.Embedding without initialisation."""


class Conv2d(_Uninitialised, nn.Conv2d):
    """nn.Conv2d without initialisation."""


def patch_rows(convolution: Conv2d, pixels: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """A convolution of patches that do not overlap, as one matrix product; oneDNN's takes 3 times as long.

    (B, 3, H, W) -> (B, Gh*Gw, width) and (Gh, Gw); an incomplete last patch is cut off.
    """
    side = convolution.kernel_size[0]
    rows, columns = pixels.shape[-2] // side, pixels.shape[-1] // side
    cut = pixels[..., : rows * side, : columns * side].reshape(*pixels.shape[:2], rows, side, columns, side)
    flat = cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
    return F.linear(flat, convolution.weight.flatten(1), convolution.bias), (rows, columns)


class Linear(_Uninitialised, nn.Linear):
    """nn.Linear without initialisation, and on a CPU with weights in oneDNN's order.

    `F.linear` reorders the weights at every call, and in float32 it uses MKL, which is slow on processors that are not
    Intel's. `torch.ops.mkldnn._linear_pointwise` is private, but with weights that are reordered once it computes the
    products of a ViT-B block 1.11 to 1.21 times as fast (`weights` in benchmarks/results/choices.json).

    Attributes:
        packed_dtypes: dtypes in which a reordered copy of the weights is kept and used; set by `pack_weights`.
    """

    packed_dtypes: frozenset[torch.dtype] = frozenset()
    _packed: "_Packed | None" = None

    def __getstate__(self) -> dict[str, object]:
        """The state without the reordered weights, which can neither be copied nor pickled."""
        return {name: value for name, value in self.__dict__.items() if name != "_packed"}

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        return self.packed(input) if self.takes_packed(input) else super().forward(input)

    def takes_packed(self, x: Tensor) -> bool:
        """Whether reordered weights multiply this input: in inference, on the CPU, in the dtype of the weights."""
        if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
            return False
        return x.device == self.weight.device == _CPU and x.dtype == self.weight.dtype and x.dtype in self.packed_dtypes

    def packed(self, x: Tensor, *, before: float = 1.0, after: float = 1.0) -> Tensor:
        """`after` times what `forward` gives for `before` times x, with weights that are reordered at the first use."""
        made_of = before, after, *_state(self.weight), *_state(self.bias)
        if self._packed is None or self._packed.made_of != made_of:
            weight, bias = self.weight.detach(), None if self.bias is None else self.bias.detach()
            ordered = torch.ops.mkldnn._reorder_linear_weight(before * after * weight, _ROWS_EXPECTED)
            self._packed = _Packed(made_of, (weight, bias), ordered, None if bias is None else after * bias)
        return torch.ops.mkldnn._linear_pointwise(x, self._packed.ordered, self._packed.bias, "none", [], "")


class _Packed(NamedTuple):
    """Weights in oneDNN's order, and what they were made of; `source` keeps its memory from being used again."""

    made_of: tuple[float, ...]
    source: tuple[Tensor, Tensor | None]
    ordered: Tensor
    bias: Tensor | None


def _state(tensor: Tensor | None) -> tuple[int, int]:
    """Address and version: an optimiser, an adapter or a cast changes one of them."""
    if tensor is None:
        return 0, 0
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


def pack_weights(model: nn.Module) -> None:
    """Let every `Linear` of a model use weights in oneDNN's order, in the dtypes that oneDNN serves on this processor.

    FG-CLIP 2's pooling head is left out, since nn.MultiheadAttention computes its products.
    """
    is_served = {torch.float32: is_x86(), torch.bfloat16: has_fast_bfloat16()}
    # torch's own compiler calls these private operators; a later version may rename them
    is_there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # type: ignore[no-untyped-call]
    dtypes = frozenset(dtype for dtype, served in is_served.items() if is_there and served)
    for module in model.modules():
        if isinstance(module, Linear):
            module.packed_dtypes = dtypes


class Attention(nn.Module):
    """Multi-head self-attention with separate projections."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.q_proj = Linear(config.width, config.width)
        self.k_proj = Linear(config.width, config.width)
        self.v_proj = Linear(config.width, config.width)
        self.out_proj = Linear(config.width, config.width)

    def split(self, x: Tensor) -> Tensor:
        """(B, N, width) -> (B, heads, N, width / heads)."""
        return x.reshape(*x.shape[:-1], self.heads, -1).transpose(1, 2)

    def merge(self, x: Tensor) -> Tensor:
        """(B, heads, N, width / heads) -> (B, N, width), through the output projection."""
        return self.out_proj(x.transpose(1, 2).flatten(-2))

    def forward(self, x: Tensor, *, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """(B, N, width) -> (B, N, width). mask: bool, broadcasts to (B, heads, N, N), true where a token attends."""
        q, k, v = (self.split(project(x)) for project in (self.q_proj, self.k_proj, self.v_proj))
        return self.merge(F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal))


class Mlp(nn.Module):
    """Two linear layers around the tower's non-linearity."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.activation = activation(config.activation)
        self.fc1 = Linear(config.width, config.mlp_width)
        self.fc2 = Linear(config.mlp_width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width)."""
        if self.activation is _quick_gelu and not torch.is_grad_enabled():
            return self._quick(x)
        return self.fc2(self.activation(self.fc1(x)))

    def _quick(self, x: Tensor) -> Tensor:
        """quick_gelu(h) = silu(c h) / c: the products take the factors, and one pass over h replaces three.

        It takes 0.91 to 0.97 of the time on a processor without AMX (`gelu` in benchmarks/results/choices.json).
        """
        c = QUICK_GELU_SCALE
        if self.fc1.takes_packed(x):
            return self.fc2.packed(F.silu(self.fc1.packed(x, after=c), inplace=True), before=1 / c)
        hidden = torch.addmm(self.fc1.bias, x.flatten(0, -2), self.fc1.weight.T, beta=c, alpha=c)
        out = torch.addmm(self.fc2.bias, F.silu(hidden, inplace=True), self.fc2.weight.T, alpha=1 / c)
        return out.view(*x.shape[:-1], -1)


class Block(nn.Module):
    """Pre-normalised transformer block."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.width, eps=config.epsilon)
        self.self_attn = Attention(config)
        self.layer_norm2 = nn.LayerNorm(config.width, eps=config.epsilon)
        self.mlp = Mlp(config)

    def forward(self, x: Tensor, *, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """(B, N, width) -> (B, N, width)."""
        return self.add_mlp(add(x, self.self_attn(self.layer_norm1(x), mask=mask, causal=causal)))

    def add_mlp(self, x: Tensor) -> Tensor:
        """The second half of the block: x plus its MLP."""
        return add(x, self.mlp(self.layer_norm2(x)))


class Layers(nn.Module):
    """A stack of blocks (`encoder.layers.N` in the published names)."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block(config) for _ in range(config.layers))

    def forward(self, x: Tensor, *, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """(B, N, width) -> (B, N, width), through every block."""
        for block in self.layers:
            x = block(x, mask=mask, causal=causal)
        return x
