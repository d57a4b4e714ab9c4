"""The two encoders: one for CLIP and FG-CLIP 1, on pixels; one for FG-CLIP 2, on NaFlex patches."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, Self, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fgseg._checks import check_array, check_choice
from fgseg.encoders.base import (
    Fit,
    Guide,
    Image,
    Progress,
    check_images,
    check_texts,
    guide_kind,
    in_batches,
    normalised,
)
from fgseg.encoders.checkpoint import Checkpoint
from fgseg.encoders.networks.clip import RECIPES, ClipModel, Recipe, Route
from fgseg.encoders.networks.fgclip2 import FgClip2Model, Patches, fit_to_patches, patch_budget, patchify
from fgseg.encoders.networks.guided import GUIDED_RECIPES, UNSEGMENTED, GuidedRecipe, nearest, without_guide
from fgseg.encoders.networks.prefix_trees import build_trees, group_texts
from fgseg.encoders.pixels import Resizing, pixel_batch
from fgseg.encoders.tokenizer import Tokenizer, check_length
from fgseg.errors import OptionError, ShapeError, WeightsError
from fgseg.scoring.resolution import MAX_SIDE
from fgseg.types import DenseFeatures
from fgseg.upsample.tensors import full_precision, to_device

__all__ = ["ClipEncoder", "FgClip2Encoder", "normalized_pixels"]

PixelStatistics = tuple[tuple[float, float, float], tuple[float, float, float]]
PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)  # OpenAI CLIP's preprocessing
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)
TOKENS_PER_BATCH = 16384
TREES_PER_BATCH = 16

RegionMap = NDArray[Any]  # (H, W) integers
ModelT = TypeVar("ModelT", ClipModel, FgClip2Model)


def normalized_pixels(pixels: Tensor, mean_and_std: PixelStatistics = (PIXEL_MEAN, PIXEL_STD)) -> Tensor:
    """(B, H, W, 3) uint8 RGB -> (B, 3, H, W) float32, normalised with OpenAI CLIP's mean and standard deviation."""
    statistics = to_device(torch.tensor(mean_and_std, dtype=torch.float32, device="cpu"), pixels.device)
    mean, std = statistics[0, :, None, None], statistics[1, :, None, None]
    return (pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std


class _ImageTextEncoder(ABC, Generic[ModelT]):
    """The parts that do not depend on the architecture: checks, order, batches and unit length.

    Attributes:
        resizing: where images are resized, as in `fgseg.encoders.pixels.pixel_batch`; it may be set.
    """

    resizing: Resizing = "pillow"
    takes_any_aspect: bool
    recipes: ClassVar[tuple[str | None, ...]]
    lowercases_texts = False
    global_logit_bias: float | None = None
    side: int

    def __init__(
        self,
        checkpoint: Checkpoint,
        model: ModelT,
        *,
        recipe: str | None,
        guide: Guide | None,
        dtype: torch.dtype,
        device: torch.device,
        progress: Progress | None,
    ) -> None:
        if recipe is not None and recipe in GUIDED_RECIPES and guide is None:
            raise OptionError(without_guide(recipe))
        self._recipe, self.guide = recipe, guide
        self.name, self.revision = checkpoint.name, checkpoint.revision
        self.checkpoint, self.device, self.dtype = checkpoint, device, dtype
        self.config: Mapping[str, Any] = checkpoint.config
        self.model: ModelT = model
        self._progress = progress
        self.patch = model.config.patch
        self.tokenizer = Tokenizer(checkpoint.folder)
        self.logit_scale = float(model.region_logit_scale().detach())
        self.global_logit_scale = float(model.logit_scale.detach().exp())

    @property
    def recipe(self) -> str | None:
        """Dense recipe of the last vision block; None for a model that has no choice and no guide for its attention."""
        return self._recipe

    def with_recipe(self, recipe: str | None, *, guide: Guide | None = None) -> Self:
        """The same weights with another recipe and guide.

        Raises:
            OptionError: an unknown recipe, one that this model does not have, or a guided one without a guide.
        """
        if recipe not in self.recipes:
            choices = ", ".join(name or "value" for name in self.recipes)
            raise OptionError(f"recipe: expected one of {choices} for this model, got {recipe!r:.40}")
        other = type(self)(
            self.checkpoint, self.model, recipe=recipe, guide=guide, dtype=self.dtype, device=self.device,
            progress=self._progress,
        )  # fmt: skip
        other.resizing = self.resizing
        return other

    def digest(self) -> str:
        """Identity of the weights: SHA-256 in hex."""
        return self.checkpoint.digest()

    @full_precision
    @torch.inference_mode()
    def encode_images(
        self,
        images: Sequence[Image],
        *,
        fit: Fit = "squash",
        side: int | None = None,
        max_side: int = MAX_SIDE,
        guide: Sequence[Tensor] | None = None,
        regions: Sequence[RegionMap] | None = None,
    ) -> list[DenseFeatures]:
        """Dense features of each image.

        Args:
            images: (H, W, 3) uint8 RGB, of any sizes.
            fit: `squash` resizes to (side, side), as FG-CLIP 1's model card does. `keep` keeps the aspect ratio
                to within a patch: the shorter side has `side` pixels, or FG-CLIP 2 takes as many patches as a
                square of that side has. `exact` rounds both sides to whole patches.
            side: pixels; None takes the native side, and for FG-CLIP 2's `keep` the published choice for the image.
            max_side: maximum pixels of the longer side with `keep`. FG-CLIP 2 bounds the number of patches instead.
            guide: what `guide_features` returned for the same arguments; None computes it where the recipe needs it.
            regions: (H, W) integers of each image for the recipe "corr", negative where there is no region; None for
                no region at all.

        Returns:
            One DenseFeatures per image, in order. Images of the same fitted size share batches. A guided recipe gives
            the grid of the guide.

        Raises:
            ShapeError: an element that is not an RGB image, a region map of another size, or a guide that is not one
                grid per image, of the same shape for images of one fitted size.
            OptionError: not a list of images, an unknown `fit`, or a side shorter than a patch.
        """
        images, sizes = self._sized(images, fit, side, max_side)
        if self.recipe not in GUIDED_RECIPES:
            grids = in_batches(lambda *some: _unit_grids(self._dense(*some)), sizes, self.patch, images)
        else:
            hints = self._guide_features(images, sizes) if guide is None else _checked_guide(guide, sizes)
            maps = _on_grids(regions, images, hints)
            grids = in_batches(lambda *some: _unit_grids(self._guided(*some)), sizes, self.patch, images, hints, maps)
        return [DenseFeatures(grid, _hw(image)) for grid, image in zip(grids, images, strict=True)]

    @full_precision
    @torch.inference_mode()
    def guide_features(
        self, images: Sequence[Image], *, fit: Fit = "squash", side: int | None = None, max_side: int = MAX_SIDE
    ) -> list[Tensor]:
        """(h, w, C) float32 unit-length features of the guide for each image; arguments and errors as `encode_images`.

        Raises:
            OptionError: the encoder has no guide.
        """
        return self._guide_features(*self._sized(images, fit, side, max_side))

    @full_precision
    @torch.inference_mode()
    def own_features(self, images: Sequence[Image], grids_hw: Sequence[tuple[int, int]]) -> list[Tensor]:
        """(Gh, Gw, C) float32 unit-length features of a middle block for each image, on the grids asked for."""
        sizes = [(rows * self.patch, columns * self.patch) for rows, columns in grids_hw]
        grids = in_batches(self._own, sizes, self.patch, images)
        return [normalised(grid) for grid in grids]

    def _guide_features(self, images: Sequence[Image], sizes: Sequence[tuple[int, int]]) -> list[Tensor]:
        if self.guide is None:
            raise OptionError("guide: the encoder was loaded without one; give fgseg.load a guide")
        grids = [self._guide_grid(size, self.guide.patch) for size in sizes]
        return self.guide.features(images, grids, kind=guide_kind(self.recipe))

    def _sized(
        self, images: Sequence[Image], fit: Fit, side: int | None, max_side: int
    ) -> tuple[list[Image], list[tuple[int, int]]]:
        """The images, checked, and the size at which each is encoded."""
        listed = check_images(images)
        check_choice("fit", fit, ("squash", "keep", "exact"))
        if side is not None and side < self.patch:
            raise OptionError(f"side: expected at least one patch, {self.patch} pixels, got {side}")
        return listed, [self._fitted(_hw(image), fit, side, max_side) for image in listed]

    @full_precision
    @torch.inference_mode()
    def embed_images(self, images: Sequence[Image]) -> Tensor:
        """(N, D) float32 unit-length whole-image features, at the size that the model card uses.

        Raises:
            ShapeError, OptionError: as `encode_images`.
        """
        images = check_images(images)
        sizes = [self._card_size(_hw(image)) for image in images]
        rows = in_batches(self._whole, sizes, self.patch, images)
        return normalised(torch.stack(rows))

    @full_precision
    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str], *, route: Route = "region") -> Tensor:
        """(T, D) float32 unit-length text features.

        Raises:
            PromptError: no text, an empty text, or a text of more tokens than the route takes.
            OptionError: a route that the model does not have.
            ModelNotFoundError: the folder has no tokenizer.
            WeightsError: the tokenizer belongs to another model.
        """
        listed, limit = check_texts(texts), self.model.limit(route)
        long_limit = self.model.limit("long") if "long" in self.model.routes else None
        ids = self.tokenizer.encode([text.lower() for text in listed] if self.lowercases_texts else listed)
        for text, row in zip(listed, ids, strict=True):
            check_length(len(row), limit, text, route, long_limit)
        if (highest := max(max(row, default=0) for row in ids)) >= self.model.config.vocabulary:
            raise WeightsError(
                f"{self.checkpoint.folder}: the tokenizer gives token {highest}, and the weights have "
                f"{self.model.config.vocabulary} tokens; put the tokenizer beside the weights it was published with"
            )
        return self._texts(ids, route)

    def _report(self, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress("encoding texts", done, total)

    @abstractmethod
    def _fitted(self, image_hw: tuple[int, int], fit: Fit, side: int | None, max_side: int) -> tuple[int, int]:
        """The (height, width) in pixels, whole patches, at which an image is encoded."""

    @abstractmethod
    def _card_size(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """The size at which the model card embeds a whole image."""

    @abstractmethod
    def _dense(self, images: Sequence[Image], image_hw: tuple[int, int]) -> Tensor | Sequence[Tensor]:
        """Raw grid (Gh, Gw, D) of each image, all resized to one size, or one tensor of all grids."""

    @abstractmethod
    def _guided(
        self,
        images: Sequence[Image],
        guide: Sequence[Tensor],
        regions: Sequence[Tensor],
        image_hw: tuple[int, int],
    ) -> Tensor | Sequence[Tensor]:
        """As `_dense`, by a guided recipe, on the grids of the guide; regions as in `mixture`."""

    @abstractmethod
    def _own(self, images: Sequence[Image], image_hw: tuple[int, int]) -> Sequence[Tensor]:
        """Features (Gh, Gw, C) of a middle block for each image, all resized to one size."""

    @abstractmethod
    def _guide_grid(self, image_hw: tuple[int, int], patch: int) -> tuple[int, int]:
        """The grid of a guide with this patch for an image that is encoded at this size."""

    @abstractmethod
    def _whole(self, images: Sequence[Image], image_hw: tuple[int, int]) -> Sequence[Tensor]:
        """Raw whole-image feature (D,) of each image, all resized to one size."""

    @abstractmethod
    def _texts(self, ids: list[list[int]], route: Route) -> Tensor:
        """Unit text features of token ids that fit the route."""


def _unit_grids(raw: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """The grid of each image with unit length along D. A batch is scaled at once, in as few steps as one image."""
    if isinstance(raw, Tensor):
        return [grid.clone() for grid in normalised(raw)]  # a view would keep the whole batch in memory
    return [normalised(grid) for grid in raw]


def _hw(image: Image) -> tuple[int, int]:
    return image.shape[0], image.shape[1]


def _checked_guide(guide: Sequence[Tensor], sizes: Sequence[tuple[int, int]]) -> Sequence[Tensor]:
    """The features of a guide, one grid per image; images that share a batch need grids of one shape."""
    if len(guide) != len(sizes):
        raise ShapeError(f"guide: expected one grid per image, {len(sizes)}, got {len(guide)}")
    shapes: dict[tuple[int, int], tuple[Any, ...]] = {}
    for index, (window, size) in enumerate(zip(guide, sizes, strict=True)):
        check_array(f"guide[{index}]", window, shapes.get(size, ("Hg", "Wg", "C")))
        shapes[size] = tuple(window.shape)
    return guide


def _on_grids(regions: Sequence[RegionMap] | None, images: Sequence[Image], guide: Sequence[Tensor]) -> list[Tensor]:
    """The region map of each image on the grid of its guide; no region where none is given."""
    if regions is None:
        return [window.new_full(window.shape[:2], UNSEGMENTED, dtype=torch.int64) for window in guide]
    maps = []
    for index, (region, image, window) in enumerate(zip(regions, images, guide, strict=True)):
        check_array(f"regions[{index}]", region, _hw(image))
        grid_hw = (window.shape[0], window.shape[1])
        maps.append(to_device(nearest(torch.from_numpy(np.asarray(region, np.int64)), grid_hw), window.device))
    return maps


class ClipEncoder(_ImageTextEncoder[ClipModel]):
    """CLIP or FG-CLIP 1 for images and texts. Attributes as in `fgseg.encoders.Encoder`."""

    takes_any_aspect = False
    recipes = (*RECIPES, *GUIDED_RECIPES)

    def __init__(
        self,
        checkpoint: Checkpoint,
        model: ClipModel,
        *,
        recipe: str,
        guide: Guide | None = None,
        dtype: torch.dtype,
        device: torch.device,
        progress: Progress | None = None,
    ) -> None:
        """Wrap a loaded model; `recipe` is the dense recipe of its last vision block.

        Raises:
            OptionError: a guided recipe without a guide.
        """
        super().__init__(checkpoint, model, recipe=recipe, guide=guide, dtype=dtype, device=device, progress=progress)
        self.side = model.config.side

    def _fitted(self, image_hw: tuple[int, int], fit: Fit, side: int | None, max_side: int) -> tuple[int, int]:
        side = side or self.side
        if fit == "squash":
            return _nearest(side, self.patch), _nearest(side, self.patch)
        scale = min(side / min(image_hw), max_side / max(image_hw)) if fit == "keep" else 1.0
        return _nearest(image_hw[0] * scale, self.patch), _nearest(image_hw[1] * scale, self.patch)

    def _card_size(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        return self.side, self.side

    def _dense(self, images: Sequence[Image], image_hw: tuple[int, int]) -> Tensor:
        recipe = cast(Recipe, self.recipe)
        return self.model.dense_features(self._pixels(images, image_hw), recipe=recipe)

    def _guided(
        self,
        images: Sequence[Image],
        guide: Sequence[Tensor],
        regions: Sequence[Tensor],
        image_hw: tuple[int, int],
    ) -> Tensor:
        recipe, pixels = cast(GuidedRecipe, self.recipe), self._pixels(images, image_hw)
        stacked = torch.stack(list(guide)), torch.stack(list(regions))
        return self.model.guided_features(pixels, recipe=recipe, guide=stacked[0], regions=stacked[1])

    def _own(self, images: Sequence[Image], image_hw: tuple[int, int]) -> Sequence[Tensor]:
        return list(self.model.own_features(self._pixels(images, image_hw)))

    def _guide_grid(self, image_hw: tuple[int, int], patch: int) -> tuple[int, int]:
        return _nearest(image_hw[0], patch) // patch, _nearest(image_hw[1], patch) // patch

    def _whole(self, images: Sequence[Image], image_hw: tuple[int, int]) -> Sequence[Tensor]:
        return list(self.model.image_features(self._pixels(images, image_hw)))

    def _texts(self, ids: list[list[int]], route: Route) -> Tensor:
        ids = [self._to_end(row) for row in ids]
        groups = list(group_texts(ids))
        features: list[Tensor] = []
        for start in range(0, len(groups), TREES_PER_BATCH):
            self._report(sum(map(len, features)), len(ids))
            trees = build_trees([[ids[index] for index in group] for group in groups[start : start + TREES_PER_BATCH]])
            features.append(normalised(self.model.shared_text_features(trees.to(self.device), route=route)))
        self._report(len(ids), len(ids))
        order = torch.tensor([index for group in groups for index in group], device="cpu")
        return torch.cat(features)[order.argsort().to(self.device)]

    def _to_end(self, row: list[int]) -> list[int]:
        """The tokens up to the first end token, at which the text's feature is read."""
        end = self.model.config.end_token
        if end not in row:
            raise WeightsError(
                f"{self.checkpoint.folder}: the tokenizer ends no text with token {end}, which config.json names as "
                "eos_token_id; put the tokenizer beside the weights it was published with"
            )
        return row[: row.index(end) + 1]

    def _pixels(self, images: Sequence[Image], image_hw: tuple[int, int]) -> Tensor:
        """(B, 3, H, W) normalised pixels in the model's dtype."""
        pixels = pixel_batch(images, image_hw, filter="bicubic", resizing=self.resizing, device=self.device)
        return normalized_pixels(pixels).to(self.dtype)


class FgClip2Encoder(_ImageTextEncoder[FgClip2Model]):
    """FG-CLIP 2 for images and texts. Attributes as in `fgseg.encoders.Encoder`."""

    takes_any_aspect = True
    lowercases_texts = True  # as in training
    recipes = (None, *GUIDED_RECIPES)

    def __init__(
        self,
        checkpoint: Checkpoint,
        model: FgClip2Model,
        *,
        recipe: str | None = None,
        guide: Guide | None = None,
        dtype: torch.dtype,
        device: torch.device,
        progress: Progress | None = None,
    ) -> None:
        """Wrap a loaded model; a guided recipe replaces the attention of its dense head.

        Raises:
            OptionError: a guided recipe without a guide.
        """
        super().__init__(checkpoint, model, recipe=recipe, guide=guide, dtype=dtype, device=device, progress=progress)
        self.global_logit_bias = float(model.logit_bias.detach())
        self.side = model.vision_model.embeddings.side * self.patch

    def _fitted(self, image_hw: tuple[int, int], fit: Fit, side: int | None, max_side: int) -> tuple[int, int]:
        if fit == "squash":
            whole = _nearest(side or self.side, self.patch)
            return whole, whole
        if fit == "exact":
            return _nearest(image_hw[0], self.patch), _nearest(image_hw[1], self.patch)
        budget = (side // self.patch) ** 2 if side else patch_budget(image_hw, patch=self.patch)
        return fit_to_patches(image_hw, patch=self.patch, max_patches=budget)

    def _card_size(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        return self._fitted(image_hw, "keep", None, MAX_SIDE)

    def _dense(self, images: Sequence[Image], image_hw: tuple[int, int]) -> Sequence[Tensor]:
        return self.model.dense_features(**self._patches(images, image_hw)._asdict())

    def _guided(
        self,
        images: Sequence[Image],
        guide: Sequence[Tensor],
        regions: Sequence[Tensor],
        image_hw: tuple[int, int],
    ) -> Sequence[Tensor]:
        recipe, patches = cast(GuidedRecipe, self.recipe), self._patches(images, image_hw)
        return self.model.guided_features(**patches._asdict(), recipe=recipe, guide=guide, regions=regions)

    def _own(self, images: Sequence[Image], image_hw: tuple[int, int]) -> Sequence[Tensor]:
        return self.model.own_features(**self._patches(images, image_hw)._asdict())

    def _guide_grid(self, image_hw: tuple[int, int], patch: int) -> tuple[int, int]:
        return image_hw[0] // self.patch, image_hw[1] // self.patch  # its own grid, so that nothing is resampled

    def _whole(self, images: Sequence[Image], image_hw: tuple[int, int]) -> Sequence[Tensor]:
        return list(self.model.image_features(**self._patches(images, image_hw)._asdict()))

    def _texts(self, ids: list[list[int]], route: Route) -> Tensor:
        pad, limit = self.tokenizer.pad_token, self.model.limit(route)
        padded = torch.tensor([row + [pad] * (limit - len(row)) for row in ids], device=self.device)
        features: list[Tensor] = []
        for rows in torch.split(padded, max(1, TOKENS_PER_BATCH // limit)):
            self._report(sum(map(len, features)), len(ids))
            features.append(normalised(self.model.text_features(rows, route=route)))
        self._report(len(ids), len(ids))
        return torch.cat(features)

    def _patches(self, images: Sequence[Image], image_hw: tuple[int, int]) -> Patches:
        """NaFlex input of images of one size: resized by Pillow's bilinear filter, mean and deviation 0.5, unpadded."""
        pixels = pixel_batch(images, image_hw, filter="bilinear", resizing=self.resizing, device=self.device)
        values = patchify((pixels.float() / 255 - 0.5) / 0.5, patch=self.patch).to(self.dtype)
        # The model looks at sizes and mask on the host, so they stay there and nobody waits for them.
        shapes = torch.tensor([[side // self.patch for side in image_hw]] * len(images), device="cpu")
        return Patches(values, shapes, torch.ones(values.shape[:2], dtype=torch.bool, device="cpu"))


def _nearest(pixels: float, patch: int) -> int:
    """The nearest whole number of patches, at least one, in pixels."""
    return max(1, round(pixels / patch)) * patch
