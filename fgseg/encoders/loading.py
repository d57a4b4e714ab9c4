"""Loads encoders. The tensors of a checkpoint decide to which of the three model families it belongs."""

import os
from collections.abc import Mapping

import torch

from fgseg._checks import check_choice
from fgseg.encoders.base import Progress
from fgseg.encoders.checkpoint import Checkpoint, check_tensors, load_tensors, tensor_shapes, verified_checkpoint
from fgseg.encoders.devices import pick_device, pick_dtype
from fgseg.encoders.encoder import ClipEncoder, FgClip2Encoder
from fgseg.encoders.networks.blocks import pack_weights
from fgseg.encoders.networks.clip import RECIPES, ClipModel, Recipe
from fgseg.encoders.networks.config import ClipConfig, FgClip2Config
from fgseg.encoders.networks.fgclip import FgClipModel
from fgseg.encoders.networks.fgclip2 import FgClip2Model
from fgseg.encoders.tokenizer import Tokenizer
from fgseg.errors import OptionError, WeightsError

__all__ = ["check_checkpoint", "family_of", "load_encoder"]

# The order matters: a checkpoint of FG-CLIP 1 has the tensors of CLIP too.
_SIGNATURES = (
    ("FG-CLIP 2", ("dense_feature_head.probe", "boxtext_head.weight")),
    ("FG-CLIP 1", ("text_filip_projection.weight", "visual_projection.weight")),
    ("CLIP", ("text_projection.weight", "visual_projection.weight")),
)


def family_of(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The family of a checkpoint with these tensors: "CLIP", "FG-CLIP 1" or "FG-CLIP 2".

    Raises:
        WeightsError: the tensors of none of them.

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
    progress: Progress | None = None,
) -> ClipEncoder | FgClip2Encoder:
    """Load a model by name, folder or hub id.

    Args:
        name: one of `MODELS`, a folder with config.json and safetensors, or a hub id.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        dtype: "auto" (bfloat16 where the processor multiplies it natively), "float32", "bfloat16" or "float16".
        recipe: dense recipe of CLIP and FG-CLIP 1. FG-CLIP 2 has a dense head and takes only "value".
        revision: hub commit, tag or branch; None takes the pinned commit, or the copy in the cache.
        offline: True never uses the network; None follows HF_HUB_OFFLINE.
        progress: called with what is done, how much of it is done and how much there is, while files are fetched and
            texts are encoded. None shows the bars of the hub's client, and nothing for texts.

    Raises:
        ModelNotFoundError: there is no such model.
        WeightsError: the tensors are not those of a known model, or a file is damaged.
        DeviceError: a device that this machine lacks, or an unknown dtype.
        OptionError: an unknown recipe, or a recipe that the model does not have.
    """
    check_choice("recipe", recipe, RECIPES)
    picked = pick_device(device)
    picked_dtype = pick_dtype(dtype, picked)
    checkpoint = verified_checkpoint(name, revision=revision, offline=offline, progress=progress)
    model = _sized(checkpoint)
    if isinstance(model, FgClip2Model) and recipe != "value":
        raise OptionError(
            f"recipe: FG-CLIP 2 has a trained dense head and takes no recipe, got {recipe!r}; leave it out"
        )
    load_tensors(model, checkpoint, dtype=picked_dtype, device=picked)
    if picked.type == "cpu":
        pack_weights(model)
    model.eval().requires_grad_(False)
    if isinstance(model, FgClip2Model):
        return FgClip2Encoder(checkpoint, model, dtype=picked_dtype, device=picked, progress=progress)
    return ClipEncoder(checkpoint, model, recipe=recipe, dtype=picked_dtype, device=picked, progress=progress)


def check_checkpoint(checkpoint: Checkpoint) -> None:
    """Check a checkpoint as `load_encoder` does, without reading its weights.

    Raises:
        ModelNotFoundError: the folder has no tokenizer.
        WeightsError: tensors or a config that no known model has.
    """
    check_tensors(_sized(checkpoint), checkpoint)
    Tokenizer(checkpoint.folder).encode(["a"])


def _sized(checkpoint: Checkpoint) -> ClipModel | FgClip2Model:
    """The model on the meta device, which has sizes and no values."""
    family = family_of(tensor_shapes(checkpoint))
    with torch.device("meta"):
        if family == "FG-CLIP 2":
            return FgClip2Model(FgClip2Config.from_dict(checkpoint.config))
        model_class = FgClipModel if family == "FG-CLIP 1" else ClipModel
        return model_class(ClipConfig.from_dict(checkpoint.config))
