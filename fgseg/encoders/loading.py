"""Encoders: a checkpoint's tensors decide which of the three model families it is."""

import os
from collections.abc import Mapping

import torch

from fgseg._checks import check_choice
from fgseg.encoders.base import Encoder
from fgseg.encoders.checkpoint import MODELS, Checkpoint, check_tensors, find_checkpoint, load_tensors, tensor_shapes
from fgseg.encoders.devices import pick_device, pick_dtype
from fgseg.encoders.encoder import ClipEncoder, FgClip2Encoder
from fgseg.encoders.networks.blocks import pack
from fgseg.encoders.networks.clip import RECIPES, ClipModel, Recipe, Route
from fgseg.encoders.networks.config import ClipConfig, FgClip2Config
from fgseg.encoders.networks.fgclip import FgClipModel
from fgseg.encoders.networks.fgclip2 import FgClip2Model
from fgseg.encoders.tokenizer import Tokenizer
from fgseg.errors import OptionError, WeightsError

__all__ = [
    "MODELS",
    "RECIPES",
    "ClipEncoder",
    "Encoder",
    "FgClip2Encoder",
    "Recipe",
    "Route",
    "check_checkpoint",
    "family_of",
    "load_encoder",
]

# In this order: a later family has every tensor of an earlier one's kind.
_SIGNATURES = (
    ("FG-CLIP 2", ("dense_feature_head.probe", "boxtext_head.weight")),
    ("FG-CLIP 1", ("text_filip_projection.weight", "visual_projection.weight")),
    ("CLIP", ("text_projection.weight", "visual_projection.weight")),
)


def family_of(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Which family a checkpoint's tensors belong to: "CLIP", "FG-CLIP 1" or "FG-CLIP 2".

    Raises:
        WeightsError: none of them.

    Examples:
        >>> family_of({"text_projection.weight": (512, 512), "visual_projection.weight": (512, 768)})
        'CLIP'
    """
    for family, signature in _SIGNATURES:
        if all(name in shapes for name in signature):
            return family
    names = ", ".join(sorted(shapes)[:3])
    raise WeightsError(
        f"weights: expected the tensors of CLIP or FG-CLIP in transformers' layout, got {len(shapes)}: {names}"
    )


def load_encoder(
    name: str | os.PathLike[str],
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    recipe: Recipe = "value",
    revision: str | None = None,
    offline: bool | None = None,
) -> ClipEncoder | FgClip2Encoder:
    """Load a model by name, folder or hub id.

    Args:
        name: one of MODELS, a folder with config.json and safetensors, or a hub id.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        dtype: "auto" (bfloat16 where the processor multiplies it natively), "float32", "bfloat16" or "float16".
        recipe: dense recipe of CLIP and FG-CLIP 1; FG-CLIP 2 has a head of its own and takes "value" alone.
        revision: hub commit, tag or branch; None takes the pinned one.
        offline: True never asks the network; None does what HF_HUB_OFFLINE says.

    Raises:
        ModelNotFoundError: the model is not there.
        WeightsError: its tensors are not those of a known model.
        DeviceError: device or dtype not on this machine.
        OptionError: an unknown recipe, or one the model does not have.
    """
    check_choice("recipe", recipe, RECIPES)
    picked = pick_device(device)
    number = pick_dtype(dtype, picked)
    checkpoint = find_checkpoint(name, revision=revision, offline=offline)
    model = _sized(checkpoint)
    if isinstance(model, FgClip2Model) and recipe != "value":
        raise OptionError(
            f"recipe: FG-CLIP 2 has a trained dense head and takes no recipe, got {recipe!r}; leave it out"
        )
    load_tensors(model, checkpoint, dtype=number, device=picked)
    if picked.type == "cpu":
        pack(model)
    model.eval().requires_grad_(False)
    if isinstance(model, FgClip2Model):
        return FgClip2Encoder(checkpoint, model, dtype=number, device=picked)
    return ClipEncoder(checkpoint, model, recipe=recipe, dtype=number, device=picked)


def check_checkpoint(checkpoint: Checkpoint) -> None:
    """Refuse what loading a model would refuse, without reading its weights.

    Raises:
        ModelNotFoundError: the folder has no tokenizer.
        WeightsError: its tensors or its config are not those of a known model.
    """
    check_tensors(_sized(checkpoint), checkpoint)
    Tokenizer(checkpoint.folder).encode(["a"])


def _sized(checkpoint: Checkpoint) -> ClipModel | FgClip2Model:
    """The model on the meta device: sizes only, no time is spent on numbers that are overwritten."""
    family = family_of(tensor_shapes(checkpoint))
    with torch.device("meta"):
        if family == "FG-CLIP 2":
            return FgClip2Model(FgClip2Config.from_dict(checkpoint.config))
        kind = FgClipModel if family == "FG-CLIP 1" else ClipModel
        return kind(ClipConfig.from_dict(checkpoint.config))
