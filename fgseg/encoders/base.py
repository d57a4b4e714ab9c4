"""The interface of every encoder, and the checks of its inputs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, cast, get_args, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fgseg._checks import check_image, describe
from fgseg.encoders.networks.clip import Route
from fgseg.encoders.networks.guided import recipe_settings
from fgseg.errors import OptionError, PromptError
from fgseg.prompts.words import check_characters
from fgseg.scoring.resolution import MAX_SIDE
from fgseg.types import DenseFeatures

__all__ = [
    "GUIDE_KINDS",
    "Encoder",
    "Fit",
    "Guide",
    "GuideKind",
    "GuidedEncoder",
    "Image",
    "Progress",
    "check_images",
    "check_texts",
    "guide_kind",
    "guide_settings",
    "guided",
    "in_batches",
    "normalised",
]

Fit = Literal["squash", "keep", "exact"]
Image = NDArray[np.uint8]
PATCHES_PER_BATCH = 8192  # bounds memory for any number of images
GuideKind = Literal["hidden", "query_key", "value"]
GUIDE_KINDS: tuple[str, ...] = get_args(GuideKind)
Progress = Callable[[str, int, int], None]
"""Is told what is being done, how much of it is done, and how much there is in all."""


@runtime_checkable
class Guide(Protocol):
    """A model whose features say which patches belong together.

    Attributes:
        name: the name, folder or hub id that it was loaded by; "self" for the encoder's own middle.
        revision: hub commit of its weights; None for a folder and for "self".
        patch: side of a patch in pixels.
    """

    name: str
    revision: str | None
    patch: int

    def features(
        self, images: Sequence[Image], grids_hw: Sequence[tuple[int, int]], *, kind: GuideKind
    ) -> list[Tensor]:
        """(h, w, C) float32 of unit length for each (H, W, 3) uint8 RGB image, on the grid that is asked for."""

    def settings(self, kind: GuideKind) -> dict[str, Any]:
        """What features of a kind depend on, for run.json."""


def guide_kind(recipe: str | None) -> GuideKind:
    """The features of a guide that a recipe takes, as published; those for propagation where the recipe takes none.

    Examples:
        >>> guide_kind("proxy"), guide_kind("corr"), guide_kind("value")
        ('hidden', 'query_key', 'value')
    """
    kinds: dict[str | None, GuideKind] = {"proxy": "hidden", "corr": "query_key"}
    return kinds.get(recipe, "value")


@runtime_checkable
class Encoder(Protocol):
    """Images and texts to unit-length features, which are compared by their dot product.

    Attributes:
        name: the name, folder or hub id that the model was loaded by.
        revision: hub commit of the weights; None for a folder or the embedded model.
        recipe: dense recipe of the last vision block; None for a model that has no choice.
        model: the network: raw tensors in, un-normalised tensors out.
        device: device of the network.
        dtype: dtype of the computation; features are float32.
        patch: side of a patch in pixels.
        side: native image side in pixels.
        logit_scale: factor on cosines of regions with texts before a softmax or sigmoid.
        global_logit_scale: factor on cosines of whole images with captions.
        global_logit_bias: added to those before a sigmoid; None for a model whose captions compete in a softmax.
        takes_any_aspect: whether the model was trained on images of any aspect ratio; otherwise on squares.
        config: content of config.json.
    """

    name: str
    revision: str | None
    model: Any
    device: torch.device
    dtype: torch.dtype
    patch: int
    side: int
    logit_scale: float
    global_logit_scale: float
    global_logit_bias: float | None
    takes_any_aspect: bool
    config: Mapping[str, Any]

    @property
    def recipe(self) -> str | None:
        """Read-only, since some encoders allow only a few values."""

    def encode_images(
        self, images: Sequence[Image], *, fit: Fit = "squash", side: int | None = None, max_side: int = MAX_SIDE
    ) -> list[DenseFeatures]:
        """Dense features of each (H, W, 3) uint8 RGB image; arguments as in `ClipEncoder.encode_images`."""

    def embed_images(self, images: Sequence[Image]) -> Tensor:
        """(N, D) float32 unit-length whole-image features."""

    def encode_texts(self, texts: Sequence[str], *, route: Route = "region") -> Tensor:
        """(T, D) float32 unit-length text features."""

    def digest(self) -> str:
        """SHA-256 of the weights, in hex."""


@runtime_checkable
class GuidedEncoder(Encoder, Protocol):
    """An encoder that has a guide, or can have one; `fgseg.guides.loading.with_guide` gives it one."""

    guide: Guide | None

    def guide_features(
        self, images: Sequence[Image], *, fit: Fit = "squash", side: int | None = None, max_side: int = MAX_SIDE
    ) -> list[Tensor]:
        """Features of the guide for each image; arguments as in `encode_images`."""

    def encode_images(
        self,
        images: Sequence[Image],
        *,
        fit: Fit = "squash",
        side: int | None = None,
        max_side: int = MAX_SIDE,
        guide: Sequence[Tensor] | None = None,
        regions: Sequence[NDArray[Any]] | None = None,
    ) -> list[DenseFeatures]:
        """As `ClipEncoder.encode_images`."""


def guided(encoder: Encoder) -> GuidedEncoder | None:
    """The encoder if it has a guide; an encoder of the user's own need not know of guides."""
    return cast(GuidedEncoder, encoder) if getattr(encoder, "guide", None) is not None else None


def guide_settings(encoder: Encoder) -> dict[str, Any]:
    """What a result depends on in an encoder's guide, for run.json; empty without a guide."""
    with_guide = guided(encoder)
    if with_guide is None or with_guide.guide is None:
        return {}
    settings = with_guide.guide.settings(guide_kind(encoder.recipe))
    return {"guide": {**settings, **recipe_settings(encoder.recipe)}}


def in_batches(
    encode: Callable[..., Sequence[Tensor]], sizes: Sequence[tuple[int, int]], patch: int, *inputs: Sequence[Any]
) -> list[Tensor]:
    """One result per image, in order, from batches of images of one size and of a bounded number of patches.

    Args:
        encode: is called with some entries of each of the inputs, and their size; it returns a tensor for each image.
        sizes: (height, width) in pixels at which each image is encoded.
        patch: side of a patch in pixels.
        inputs: sequences of one entry per image.
    """
    results: dict[int, Tensor] = {}
    for image_hw in dict.fromkeys(sizes):
        members = [index for index, size in enumerate(sizes) if size == image_hw]
        count = max(1, PATCHES_PER_BATCH * patch**2 // (image_hw[0] * image_hw[1]))
        for start in range(0, len(members), count):
            chunk = members[start : start + count]
            parts = ([values[index] for index in chunk] for values in inputs)
            results.update(zip(chunk, encode(*parts, image_hw), strict=True))
    return [results[index] for index in range(len(sizes))]


def normalised(rows: Tensor) -> Tensor:
    """The rows as float32 of unit length along the last axis."""
    return torch.nn.functional.normalize(rows.float(), dim=-1)


def check_texts(texts: Sequence[str], *, name: str = "texts") -> list[str]:
    """Texts as a list.

    Raises:
        PromptError: one string in place of a list, no text, or an element that is empty or not a string.
    """
    if isinstance(texts, str):
        raise PromptError(f"{name}: expected a list of texts, got the text {texts!r:.60}; put it into a list")
    listed = list(texts)
    if not listed:
        raise PromptError(f"{name}: expected at least one text, got none")
    for index, text in enumerate(listed):
        if not isinstance(text, str) or not text.strip():
            raise PromptError(f"{name}[{index}]: expected words, got {text!r:.60}")
        check_characters(f"{name}[{index}]", text)
    return listed


def check_images(images: Sequence[Image]) -> list[Image]:
    """Images as a list.

    Raises:
        ShapeError: an element that is not an (H, W, 3) uint8 array.
        OptionError: no image, or one image in place of a list.
    """
    if hasattr(images, "shape") or not isinstance(images, Iterable):
        raise OptionError(f"images: expected a list of images, got {describe(images)}; put it into a list")
    listed = list(images)
    if not listed:
        raise OptionError("images: expected at least one image, got none")
    for index, image in enumerate(listed):
        check_image(f"images[{index}]", image)
    return listed
