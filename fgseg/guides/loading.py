"""Loads guides, and encoders with a guide."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fgseg._checks import describe
from fgseg.encoders.base import Guide, GuideKind, Image, Progress, in_batches, normalised
from fgseg.encoders.checkpoint import Checkpoint, load_tensors, tensor_shapes, verified_checkpoint
from fgseg.encoders.devices import pick_device, pick_dtype
from fgseg.encoders.encoder import ClipEncoder, FgClip2Encoder, normalized_pixels
from fgseg.encoders.hub import MAIN, HubModel, ModelKind
from fgseg.encoders.networks.blocks import pack_weights
from fgseg.encoders.pixels import pixel_batch
from fgseg.errors import ModelNotFoundError, OptionError, WeightsError
from fgseg.guides.dino import DinoConfig, DinoModel, dino_family
from fgseg.guides.self_guide import SelfGuide
from fgseg.upsample.tensors import full_precision

__all__ = ["GUIDES", "GUIDE_MODELS", "DinoGuide", "load_guide", "with_guide"]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and standard deviation

# A commit is pinned where several public sources name it for this repository. Others are the newest on their branch
# when they are first fetched; the commit is written into every result.
GUIDES: Mapping[str, HubModel] = {
    "dino-b8": HubModel("facebook/dino-vitb8", MAIN, "DINO, ViT-B/8; ProxyCLIP's and CorrCLIP's guide", "343 MB"),
    "dino-s8": HubModel("facebook/dino-vits8", MAIN, "DINO, ViT-S/8", "87 MB"),
    "dino-b16": HubModel("facebook/dino-vitb16", "refs/pr/7", "DINO, ViT-B/16; LPOSS's guide", "343 MB"),
    "dinov2-s14": HubModel(
        "facebook/dinov2-small", "ed25f3a31f01632728cabb09d1542f84ab7b0056", "DINOv2, ViT-S/14", "88 MB"
    ),
    "dinov2-b14": HubModel(
        "facebook/dinov2-base", "f9e44c814b77203eaa57a6bdbbd535f21ede1415", "DINOv2, ViT-B/14", "346 MB"
    ),
    "dinov2-l14": HubModel(
        "facebook/dinov2-large", "47b73eefe95e8d44ec3623f8890bd894b6ea2d6c", "DINOv2, ViT-L/14", "1.2 GB"
    ),
    "dinov2-b14-reg": HubModel(
        "facebook/dinov2-with-registers-base",
        "a1d738ccfa7ae170945f210395d99dde8adb1805",
        "DINOv2, ViT-B/14 with registers",
        "346 MB",
    ),
}


def _check_transformer(config: Mapping[str, Any]) -> None:
    """Refuse the config.json of a model that is no guide, before its tensors are fetched."""
    kind = config.get("model_type") or "unknown"
    if kind not in ("vit", "dinov2", "dinov2_with_registers"):
        raise WeightsError(
            f"guide: expected a DINO or DINOv2, got a model of type {kind!r}; `fgseg models` lists guides that fgseg "
            "knows"
        )


GUIDE_MODELS = ModelKind(
    "guide", "DINO", GUIDES, _check_transformer, has_tokenizer=False, naming="as OWNER/NAME@refs/pr/NUMBER"
)


class DinoGuide:
    """A DINO or DINOv2 as guide. Attributes as in `fgseg.encoders.base.Guide`."""

    def __init__(self, checkpoint: Checkpoint, model: DinoModel, *, dtype: torch.dtype, device: torch.device) -> None:
        """Wrap a loaded model."""
        self.name, self.revision = checkpoint.name, checkpoint.revision
        self.checkpoint, self.model, self.dtype, self.device = checkpoint, model, dtype, device
        self.patch = model.config.patch

    @full_precision
    @torch.inference_mode()
    def features(
        self, images: Sequence[Image], grids_hw: Sequence[tuple[int, int]], *, kind: GuideKind
    ) -> list[Tensor]:
        """As `Guide.features`. An image is resized to whole patches (bicubic), so its grid covers it edge to edge."""
        sizes = [(rows * self.patch, columns * self.patch) for rows, columns in grids_hw]

        def encode(images: Sequence[Image], image_hw: tuple[int, int]) -> Sequence[Tensor]:
            return list(normalised(self.model.patch_features(self._pixels(images, image_hw), kind=kind)))

        return in_batches(encode, sizes, self.patch, images)

    def settings(self, kind: GuideKind) -> dict[str, Any]:
        """As `Guide.settings`."""
        digest = self.checkpoint.digest()
        return {"name": self.name, "revision": self.revision, "weights_sha256": digest, "features": kind}

    def _pixels(self, images: Sequence[Image], image_hw: tuple[int, int]) -> Tensor:
        pixels = pixel_batch(images, image_hw, filter="bicubic", device=self.device)
        return normalized_pixels(pixels, IMAGENET).to(self.dtype)


def load_guide(
    name: str | os.PathLike[str],
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    offline: bool | None = None,
    progress: Progress | None = None,
) -> DinoGuide:
    """Load a DINO or DINOv2.

    Args:
        name: one of `GUIDES`, a folder with config.json and safetensors, or a hub id "owner/name" or
            "owner/name@revision".
        device: as in `fgseg.load`.
        dtype: as in `fgseg.load`, of the computation; features are float32.
        offline: True never uses the network; None follows HF_HUB_OFFLINE.
        progress: shows downloads; None shows the bars of the hub's client.

    Raises:
        ModelNotFoundError: there is no such guide, or its weights are pickles only.
        WeightsError: tensors that are not those of a DINO or DINOv2, or a damaged file.
        DeviceError: a device that this machine lacks, or an unknown dtype.
        OptionError: nothing after the "@".
    """
    if not isinstance(name, (str, os.PathLike)):
        raise ModelNotFoundError(f"guide: expected 'self', a name or a folder, got {describe(name)}")
    plain, revision = _split(os.fsdecode(name))
    checkpoint = verified_checkpoint(plain, revision=revision, offline=offline, progress=progress, kind=GUIDE_MODELS)
    with torch.device("meta"):
        model = DinoModel(DinoConfig.from_dict(checkpoint.config, dino_family(tensor_shapes(checkpoint))))
    picked = pick_device(device)
    picked_dtype = pick_dtype(dtype, picked)
    load_tensors(model, checkpoint, dtype=picked_dtype, device=picked)
    if picked.type == "cpu":
        pack_weights(model)
    return DinoGuide(checkpoint, model.eval().requires_grad_(False), dtype=picked_dtype, device=picked)


def with_guide(
    encoder: ClipEncoder | FgClip2Encoder,
    guide: str | os.PathLike[str] | Guide,
    *,
    recipe: str = "value",
    offline: bool | None = None,
    progress: Progress | None = None,
) -> ClipEncoder | FgClip2Encoder:
    """The encoder with a guide, whose features decide how a guided recipe mixes patches.

    Args:
        encoder: a loaded model, whose weights are shared.
        guide: "self", a name as in `load_guide`, or a guide of your own.
        recipe: "proxy", "corr", or one that leaves the guide to the propagation of scores.
        offline: as in `load_guide`.
        progress: as in `load_guide`.

    Raises:
        ModelNotFoundError, WeightsError: as `load_guide`.
        OptionError: a recipe that the model does not have.
    """
    own = None if recipe == "value" and encoder.recipes[0] is None else recipe
    if isinstance(guide, Guide):
        return encoder.with_recipe(own, guide=guide)
    if guide == "self":
        return encoder.with_recipe(own, guide=SelfGuide(encoder))
    loaded = load_guide(guide, device=encoder.device, dtype=encoder.dtype, offline=offline, progress=progress)
    return encoder.with_recipe(own, guide=loaded)


def _split(name: str) -> tuple[str, str | None]:
    """A hub id and its revision, "owner/name@revision"; the revision may have slashes, and a folder has none."""
    plain, at, revision = name.partition("@")
    if not at or Path(name).is_dir():
        return name, None
    if not revision:
        raise OptionError(f"guide: expected owner/name@revision, got {name!r}; name a commit, tag or branch")
    return plain, revision
