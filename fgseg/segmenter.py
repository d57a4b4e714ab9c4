"""`load` and `Segmenter`: the wiring from an image and words to masks.

An image becomes features (`segmentation.image_encoder`), prompts become texts (`segmentation.prompt_encoder`), and the
scores of the two become labels and maps (`segmentation.score_field`). Arguments are checked here, not again below.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fgseg._checks import check_choice, check_number, describe
from fgseg._files.names import absolute_path
from fgseg.encoders.base import Encoder, Guide, Progress
from fgseg.encoders.loading import load_encoder
from fgseg.encoders.networks.clip import RECIPES, Recipe
from fgseg.encoders.networks.guided import GUIDED_RECIPES, GuidedRecipe, without_guide
from fgseg.errors import ModelNotFoundError, OptionError, OutputError, PromptError
from fgseg.guides.loading import with_guide
from fgseg.guides.propagation import PROPAGATIONS, Propagate
from fgseg.guides.region_maps import RegionMap
from fgseg.guides.votes import check_vote
from fgseg.images.levels import check_stretch
from fgseg.images.reading import read_image, rgb_source
from fgseg.prompts.classes import PromptClass, PromptSet
from fgseg.regions.components import fill_holes, remove_small, remove_small_labels
from fgseg.regions.pooling import checked_boxes, pool_boxes
from fgseg.regions.specks import join_gaps, join_parts, quarter_patch
from fgseg.scoring.presence import TIE
from fgseg.scoring.refine import OFFERED
from fgseg.scoring.resolution import Resolution, whole_image
from fgseg.segmentation.encoded_image import EncodedImage
from fgseg.segmentation.heatmaps import Heatmaps
from fgseg.segmentation.image_encoder import ImageEncoder, ImageSource, image_list
from fgseg.segmentation.kept_masks import KeptMasks
from fgseg.segmentation.model_defaults import ModelDefaults, model_defaults
from fgseg.segmentation.prompt_encoder import PromptEncoder, PromptTexts
from fgseg.segmentation.result import Segmentation, checked_sizes
from fgseg.segmentation.run_record import RunRecord, image_settings, model_settings, prompt_settings
from fgseg.segmentation.score_field import ScoreField, Sharpening, Threshold
from fgseg.similarity import patch_scores, unit
from fgseg.types import BoxScores, LazyMaps, Ranking
from fgseg.upsample.tensors import full_precision

if TYPE_CHECKING:
    from fgseg.large.result import LargeSegmentation

__all__ = ["Segmenter", "load"]

Refinement = Literal["auto", "none", "guided", "pamr"]


def load(
    model: str | os.PathLike[str] | None = None,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    recipe: Recipe | GuidedRecipe = "value",
    guide: str | os.PathLike[str] | Guide | None = None,
    revision: str | None = None,
    offline: bool | None = None,
    progress: Progress | None = None,
) -> Segmenter:
    """Load a model and make a Segmenter of it.

    Args:
        model: "mini" (in the package), "fg-clip-base" and the other names of `fgseg models`, a folder, or a hub id.
            None takes the environment variable FGSEG_MODEL, else "mini".
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        dtype: "auto" (bfloat16 where the processor multiplies it natively), "float32", "bfloat16" or "float16".
        recipe: how the last vision block of CLIP and FG-CLIP 1 attends; "value" is FG-CLIP's. "proxy" and "corr" let a
            guide decide it, also in the dense head of FG-CLIP 2.
        guide: a model whose features say which patches belong together: "self" (the middle of the model itself),
            "dino-b8" and the other names of `fgseg models`, a folder, a hub id "owner/name" or "owner/name@revision",
            or a guide of your own. The recipes "proxy" and "corr" need one.
        revision: hub commit, tag or branch; None takes the pinned one, or the copy in the cache.
        offline: True never uses the network; None follows HF_HUB_OFFLINE.
        progress: called with what is done, how much of it is done and how much there is, while files are fetched and
            texts are encoded. None shows the bars of the hub's client, and nothing for texts.

    Raises:
        ModelNotFoundError: there is no such model or guide.
        WeightsError: its tensors are not those of a known model, a file is damaged, or fgseg cannot use its
            config.json.
        DeviceError: the device or dtype is not available on this machine.
        OptionError: an unknown recipe, or a guided one without a guide.
    """
    check_choice("recipe", recipe, (*RECIPES, *GUIDED_RECIPES))
    is_guided = recipe in GUIDED_RECIPES
    if is_guided and guide is None:
        raise OptionError(without_guide(recipe))
    named = os.environ.get("FGSEG_MODEL") or None
    name = (named or "mini") if model is None else model
    try:
        encoder = load_encoder(
            name, device=device, dtype=dtype, recipe="value" if is_guided else cast(Recipe, recipe), revision=revision,
            offline=offline, progress=progress,
        )  # fmt: skip
    except ModelNotFoundError as error:
        if model is None and named:
            raise ModelNotFoundError(f"FGSEG_MODEL: {error}") from error
        raise
    if guide is not None:
        encoder = with_guide(encoder, guide, recipe=recipe, offline=offline, progress=progress)
    return Segmenter(encoder)


class Segmenter:
    """Masks, heatmaps and scores from words, with one encoder. Its only state is a cache of encoded texts."""

    def __init__(self, encoder: Encoder, defaults: ModelDefaults | None = None) -> None:
        """Wire up an encoder; `load` makes one by name.

        Args:
            encoder: of images and texts.
            defaults: what is used where an argument is left out; None takes what the model recommends.

        Raises:
            WeightsError: fgseg cannot use what the model recommends.
        """
        self.encoder = encoder
        self.defaults = model_defaults(encoder) if defaults is None else defaults
        self._prompt_encoder = PromptEncoder(encoder, self.defaults)
        self._image_encoder = ImageEncoder(encoder, self.defaults)

    def encode(
        self,
        image: ImageSource,
        *,
        resolution: str | Resolution = "auto",
        region_map: RegionMap | None = None,
    ) -> EncodedImage:
        """Encode an image once, to use it many times.

        Args:
            image: a path, an (H, W, 3) uint8 RGB array (copied), a PIL image, or an EncodedImage, which is returned
                unchanged.
            resolution: "squash" (resized to the native square, as in FG-CLIP's model card), "keep" (aspect ratio kept,
                position embeddings interpolated), "slide" (windows of the native side over an image whose shorter side
                is 1.5 times that, as published evaluations do), each with an optional size ("slide:448"), or a
                `Resolution`. "auto" is the model's default: "slide" for CLIP and FG-CLIP 1, "keep" for FG-CLIP 2.
            region_map: regions of the image, within which the recipe "corr" mixes patches; None for none. As in
                `segment`.

        Raises:
            ImageError: a file that cannot be read.
            ShapeError: a region map that is not integers of the image's size.
            OptionError: an unknown resolution, a region map for another recipe, or an EncodedImage of another model,
                revision, recipe, guide, resolution or region map.
        """
        self._check_mixing(region_map)
        if isinstance(image, EncodedImage):
            self._image_encoder.check(image, resolution, region_map)
            return image
        (view,) = self._image_encoder.encode(
            [image], resolution, region_maps=None if region_map is None else [region_map]
        )
        return view

    def encode_batch(
        self,
        images: Sequence[ImageSource],
        *,
        resolution: str | Resolution = "auto",
        region_maps: Sequence[RegionMap] | None = None,
    ) -> list[EncodedImage]:
        """Encode several images together; images of the same encoded size share batches.

        Features differ from those of `encode` by the rounding of larger matrix products, which in bfloat16 changes the
        labels of some pixels near a tie. It is faster where the encoder waits for work: on a GPU, or for small images.

        Args:
            images: paths, arrays and PIL images, as in `encode`, of any sizes; all are in memory at once.
            resolution: as in `encode`.
            region_maps: one for each image, as in `encode`.

        Returns:
            One EncodedImage per image, in order.

        Raises:
            ImageError: a file that cannot be read.
            OptionError: no image, an unknown resolution, or not one region map per image that the recipe uses.
        """
        self._check_mixing(region_maps)
        return self._image_encoder.encode(images, resolution, region_maps=region_maps)

    def segment(
        self,
        image: ImageSource,
        prompts: Sequence[str | PromptClass],
        *,
        mode: Literal["exclusive", "independent"] = "exclusive",
        threshold: Threshold | None = None,
        background: Sequence[str] | None = None,
        negatives: Sequence[str] = (),
        templates: str | Sequence[str] | None = None,
        resolution: str | Resolution = "auto",
        refine: Refinement = "auto",
        propagate: Propagate = "none",
        region_map: RegionMap | None = None,
        vote: bool = False,
        min_area: int | Literal["auto"] = "auto",
        max_hole: int | Literal["auto"] = "auto",
    ) -> Segmentation:
        r"""Segment an image by words.

        A prompt's presence at a pixel is 1 / (1 + exp(-logit_scale * (score - rival))), where rival is the best score
        of the background words and negatives there, or of the other prompts if there are none. With background words
        the presence does not depend on the other prompts, except that a prompt that is a default background word is
        taken out of the background.

        Args:
            image: a path, an (H, W, 3) uint8 RGB array, a PIL image, or an EncodedImage.
            prompts: class names; "cup, mug" are synonyms (a pixel's score is the best of them), `\,` is a comma.
            mode: "exclusive" gives each pixel to its best prompt, if that reaches the threshold; "independent" makes
                one mask per prompt, and masks may overlap.
            threshold: the presence that a pixel of a mask needs, 0 to 1. "auto" chooses one per prompt by Otsu's
                method, never below the model's own (see `fgseg.scoring.automatic_threshold` for its limits), and
                `settings["chosen_thresholds"]` tells which. None
                takes the model's own: 0.5, a tie with the best background word, unless its config.json says otherwise.
            background: words for everything else; None takes the model's own, () takes none.
            negatives: words that compete with the prompts and never label a pixel.
            templates: "none", "imagenet" (80 sentences, averaged), a file, or a list; None takes the model's own.
            resolution: as in `encode`.
            refine: how score maps follow the image's edges: "guided" filter, "pamr" (slow on large images) or "none".
                "auto" takes the model's own: "guided" for the embedded model, which gains from it, else "none".
            propagate: between which alike parts of the image scores flow: "patches" with alike features (LPOSS),
                "pixels" of alike colour, "both" (LPOSS+), or "none". "pixels" and "both" take about a second for ten
                words on two cores.
            region_map: regions of the image: an (H, W) integer array, in which a negative number is no region, a label
                PNG, a JSON file with COCO masks, "superpixels", "eomt" or "eomt:FOLDER" (see
                `fgseg.guides.region_map_of`). None for none.
                The recipe "corr" mixes patches within these regions.
            vote: whether every region takes the most frequent label of its pixels, where no class counts as a label.
                Independent masks and heatmaps take the mean presence of each region.
            min_area: in pixels; smaller connected components are dropped, and 0 keeps all. "auto" is a quarter of a
                patch. In exclusive mode such a part then joins the class around it, or none, as most of the pixels
                around it say (`fgseg.regions.join_parts`).
            max_hole: in pixels; holes of a mask up to this size are filled (independent mode only), and 0 fills none.
                "auto" is just below a quarter of a patch. In exclusive mode an unlabelled gap of that size inside one
                class then joins that class (`fgseg.regions.join_gaps`).

        Raises:
            ImageError: a file that cannot be read.
            PromptError: an empty, duplicate or too long prompt, or a word the model does not know.
            OptionError: an option out of its range, or a lone prompt with nothing to compete with.
        """
        sharpening = self._sharpening(refine, propagate, region_map, vote=vote)
        if threshold not in (None, "auto"):
            threshold = check_number("threshold", threshold, low=0, high=1, hint="a presence, or 'auto'")
        min_area, max_hole = checked_sizes(mode, min_area=min_area, max_hole=max_hole)
        started = time.perf_counter()
        prompt_set = self._prompt_encoder.prompt_set(prompts, background, negatives)
        texts = self._prompt_encoder.texts(prompt_set, templates)
        text_seconds = time.perf_counter() - started
        view = self.encode(image, resolution=resolution, region_map=self._mixing(region_map))
        started = time.perf_counter()
        own_threshold = self._own_threshold(prompt_set)
        threshold = own_threshold if threshold is None else threshold
        field = self._field(view, texts, prompt_set, sharpening, lowest_threshold=own_threshold)
        quarter = quarter_patch(view.image_hw, view.grid_hw)
        smallest = quarter if min_area == "auto" else min_area
        largest_hole = quarter - 1 if max_hole == "auto" else max_hole
        changed = [0] * len(field.names)
        if mode == "exclusive":
            raw = field.exclusive(threshold)
            labels = _clean_labels(raw, smallest, largest_hole, view.no_data, joins=min_area == "auto")
            changed[0] = int(np.count_nonzero(labels != raw))
            masks = LazyMaps(field.names, partial(np.equal, labels))
        else:
            masks = KeptMasks(field.names, partial(_clean_mask, field, threshold, smallest, largest_hole, changed))
            labels = field.winners(masks)
        scoring_seconds = time.perf_counter() - started
        settings = RunRecord(self._view_settings(view) | self._prompt_settings(prompt_set, texts) | {
            "mode": mode, "threshold": threshold, **sharpening.settings(), "min_area": min_area, "max_hole": max_hole,
            "quarter_patch": quarter, "changed_pixels": sum(changed),
            "seconds": round(text_seconds + scoring_seconds, 4),
            **({"chosen_thresholds": field.chosen_thresholds} if threshold == "auto" else {}),
        })  # fmt: skip
        return Segmentation(
            view.image,
            labels,
            prompt_set.classes,
            masks,
            Heatmaps(view.image, field.names, field.presence, grid_hw=view.grid_hw, settings=settings),
            mode,
            view.grid_hw,
            settings,
            max(1, smallest),
            view.no_data,
        )

    def segment_large(
        self,
        image: str | os.PathLike[str],
        prompts: Sequence[str | PromptClass],
        labels_path: str | os.PathLike[str],
        *,
        threshold: float | None = None,
        background: Sequence[str] | None = None,
        negatives: Sequence[str] = (),
        templates: str | Sequence[str] | None = None,
        resolution: str | Resolution = "auto",
        reduction: int = 1,
        bands: Sequence[int] | None = None,
        stretch: Sequence[float] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> LargeSegmentation:
        """Segment a tiled TIFF of any size, read by region; memory grows with its width, not with its height.

        Windows of the native side move over the image, which is not resized. The labels are those of
        `segment` in exclusive mode with "slide" at the same sizes, refine="none", min_area=0 and max_hole=0. So every
        speck is kept.

        Args:
            image: a tiled TIFF or BigTIFF, with any samples that `read_image` reads.
            prompts: as in `segment`.
            labels_path: file for the label map, a tiled TIFF as large as the image. The file appears when it is
                complete; `save` of the result writes the other files.
            threshold: the presence that a labelled pixel needs, 0 to 1; None takes the model's own.
            background: as in `segment`.
            negatives: as in `segment`.
            templates: as in `segment`.
            resolution: "auto", "slide" or "slide:auto/CROP/STRIDE"; windows overlap by half unless a stride is given.
            reduction: whole number by which the image is shrunk before it is cut into windows. The label map keeps its
                size.
            bands: as in `read_image`.
            stretch: as in `read_image`. For this, and for floats and integers of 32 bits, the file is read two or
                three times.
            progress: called with the number of finished rows and the number of all rows.

        Raises:
            ImageError: not a tiled TIFF, or one that cannot be read.
            PromptError: as `segment`.
            OptionError: as `segment`; or a resolution that is not windows at the image's own scale.
            OutputError: the label map cannot be written, or would overwrite the image.
        """
        from fgseg.large.label_tiff import open_tiled  # scipy.sparse below it takes a third of a second
        from fgseg.large.plan import plan_windows
        from fgseg.large.result import segment_tiled
        from fgseg.large.strips import LabelRequest

        started = time.perf_counter()
        for name, path in (("image", image), ("labels_path", labels_path)):
            if not isinstance(path, (str, os.PathLike)):
                raise OptionError(f"{name}: expected the path of a tiled TIFF, got {describe(path)}")
        prompt_set = self._prompt_encoder.prompt_set(prompts, background, negatives)
        minimum = self._own_threshold(prompt_set) if threshold is None else threshold
        minimum = check_number("threshold", minimum, low=0, high=1, hint='a presence; "auto" needs the whole image')
        texts = self._prompt_encoder.texts(prompt_set, templates)
        percentiles = check_stretch(stretch)
        window_resolution = Resolution("slide") if resolution == "auto" else self._image_encoder.resolution(resolution)
        with open_tiled(image) as source:
            if absolute_path(Path(labels_path)) == absolute_path(Path(image)):
                raise OutputError(f"labels_path: {labels_path} is the image itself; name another file")
            plan = plan_windows(source.image_hw, window_resolution, native=self.encoder.side, reduction=reduction)
            settings = {"image": str(image), **asdict(plan), "windows": plan.windows, "read_by": "region"}
            settings |= self._prompt_settings(prompt_set, texts) | {"mode": "exclusive", "threshold": minimum}
            settings |= {"min_area": 0, "max_hole": 0}
            request = LabelRequest(prompt_set.classes, texts, minimum)
            drawn = rgb_source(source.stored().choosing(bands), percentiles)
            result = segment_tiled(drawn, Path(labels_path), self.encoder, request, plan, settings, progress)
        settings = {**result.settings, "seconds": round(time.perf_counter() - started, 4)}
        return replace(result, settings=RunRecord(settings))

    def heatmaps(
        self,
        image: ImageSource,
        prompts: Sequence[str | PromptClass],
        *,
        background: Sequence[str] | None = None,
        negatives: Sequence[str] = (),
        templates: str | Sequence[str] | None = None,
        resolution: str | Resolution = "auto",
        refine: Refinement = "auto",
        propagate: Propagate = "none",
        region_map: RegionMap | None = None,
        vote: bool = False,
    ) -> Heatmaps:
        """The presence of each prompt: class name -> (H, W) float32, computed each time it is read.

        The result is a read-only mapping that draws itself in a notebook. The range is fixed: 0 is absent, 0.5 is as
        likely as the best background word, 1 is certain. Arguments and errors as in `segment`, which thresholds these
        maps. refine="none" shows the scores of the patches without refinement.
        """
        sharpening = self._sharpening(refine, propagate, region_map, vote=vote)
        prompt_set = self._prompt_encoder.prompt_set(prompts, background, negatives)
        texts = self._prompt_encoder.texts(prompt_set, templates)
        view = self.encode(image, resolution=resolution, region_map=self._mixing(region_map))
        field = self._field(view, texts, prompt_set, sharpening)
        settings = self._view_settings(view) | self._prompt_settings(prompt_set, texts) | sharpening.settings()
        return Heatmaps(view.image, field.names, field.presence, grid_hw=view.grid_hw, settings=RunRecord(settings))

    def similarity(
        self,
        image: ImageSource,
        texts: Sequence[str],
        *,
        templates: str | Sequence[str] = "none",
        resolution: str | Resolution = "auto",
    ) -> NDArray[np.float32]:
        """Cosine similarity of every patch with every text, as FG-CLIP's model card displays it.

        Args:
            image: as in `score_boxes`.
            texts: as in `score_boxes`.
            templates: as in `score_boxes`.
            resolution: as in `score_boxes`.

        Returns:
            (T, Gh, Gw) float32 in [-1, 1], one grid per text.

        Raises:
            PromptError: no phrase, or an empty or too long one.
            OptionError: a resolution in windows, or one that differs from that of an EncodedImage.
        """
        (window,) = self._whole_view(image, resolution).windows
        return _numpy(patch_scores(window, self._prompt_encoder.phrases(_listed("texts", texts), templates)))

    def __repr__(self) -> str:
        dtype = str(self.encoder.dtype).removeprefix("torch.")
        return f"Segmenter({self.encoder.name!r}, {self.encoder.device}, {dtype})"

    @full_precision
    def score_boxes(
        self,
        image: ImageSource,
        boxes_xyxy: NDArray[Any] | Sequence[Sequence[float]],
        texts: Sequence[str],
        *,
        templates: str | Sequence[str] = "none",
        resolution: str | Resolution = "auto",
    ) -> BoxScores:
        """Compare boxes of an image with phrases.

        Args:
            image: as in `encode`. Boxes need the whole image at once, so an EncodedImage in windows is encoded again.
            boxes_xyxy: (N, 4) pixels (left, top, right, bottom), within the image.
            texts: phrases, in which commas do not separate synonyms.
            templates: sentences around each phrase, averaged; "none" takes the phrases alone.
            resolution: "auto" is "squash" for CLIP and FG-CLIP 1, "keep" for FG-CLIP 2.

        Raises:
            ShapeError: boxes that are not (N, 4), not finite, empty, or outside the image.
            PromptError: no phrase, or an empty or too long one.
            OptionError: a resolution in windows, or one that differs from that of an EncodedImage.
        """
        view = self._whole_view(image, resolution)
        boxes = checked_boxes(boxes_xyxy, view.image_hw)
        listed = _listed("texts", texts)
        text = self._prompt_encoder.phrases(listed, templates)
        cosine = unit(pool_boxes(view.windows[0].grid, boxes, view.image_hw)) @ text.T
        return BoxScores(_numpy(cosine), _numpy((cosine * self.encoder.logit_scale).softmax(1)), tuple(listed))

    @full_precision
    def rank(
        self,
        images: Sequence[ImageSource],
        captions: Sequence[str],
        *,
        route: Literal["short", "long"] = "short",
    ) -> Ranking:
        """Compare whole images with captions.

        Args:
            images: a list of images, each as in `encode`.
            captions: sentences, in which commas do not separate synonyms.
            route: "short" (77 tokens) or FG-CLIP's "long" (248 tokens, FG-CLIP 2 196).

        Raises:
            PromptError: no caption, or an empty or too long one.
            OptionError: no list of images, or a route the model does not have.
        """
        check_choice("route", route, ("short", "long"))
        listed = _listed("captions", captions)
        text = self._prompt_encoder.captions(listed, route)
        pixels = [item.image if isinstance(item, EncodedImage) else read_image(item) for item in image_list(images)]
        cosine = self.encoder.embed_images(pixels) @ text.T
        logits = cosine * self.encoder.global_logit_scale
        bias = self.encoder.global_logit_bias
        probabilities = logits.softmax(1) if bias is None else (logits + bias).sigmoid()
        return Ranking(_numpy(cosine), _numpy(probabilities), tuple(listed))

    def prepare(
        self,
        prompts: Sequence[str | PromptClass],
        *,
        background: Sequence[str] | None = None,
        negatives: Sequence[str] = (),
        templates: str | Sequence[str] | None = None,
    ) -> None:
        """Check and encode prompts before any image; arguments and errors as in `segment`."""
        self._prompt_encoder.texts(self._prompt_encoder.prompt_set(prompts, background, negatives), templates)

    def _whole_view(self, image: ImageSource, resolution: str | Resolution) -> EncodedImage:
        """The image encoded as one window; an EncodedImage in several windows is encoded again."""
        named = whole_image(self.defaults.resolution) if resolution == "auto" else resolution
        whole = self._image_encoder.resolution(named)
        if whole.mode == "slide":
            raise OptionError("resolution: the whole image is needed at once, got slide; use squash or keep")
        if not isinstance(image, EncodedImage):
            return self.encode(image, resolution=whole)
        if image.resolution.mode == "slide":
            return self.encode(image.image, resolution=whole, region_map=image.region_map)
        return self.encode(image, resolution=resolution)

    def _field(
        self,
        view: EncodedImage,
        texts: PromptTexts,
        prompt_set: PromptSet,
        sharpening: Sharpening,
        lowest_threshold: float = TIE,
    ) -> ScoreField:
        scale = self.encoder.logit_scale
        return ScoreField(
            view, texts, prompt_set, logit_scale=scale, sharpening=sharpening, lowest_threshold=lowest_threshold
        )

    def _own_threshold(self, prompt_set: PromptSet) -> float:
        """The model's own, which is a presence against background words; without any, a tie."""
        return self.defaults.threshold if prompt_set.rivals else TIE

    def _check_mixing(self, region_maps: object) -> None:
        if region_maps is not None and self.encoder.recipe != "corr":
            raise OptionError(
                f"region_map: the recipe {self.encoder.recipe!r} does not use regions; load the model with "
                "recipe='corr' and a guide, or leave the region map out"
            )

    def _mixing(self, region_map: RegionMap | None) -> RegionMap | None:
        """The region map if the recipe mixes patches within regions."""
        return region_map if self.encoder.recipe == "corr" else None

    def _sharpening(
        self, refine: Refinement, propagate: Propagate, region_map: RegionMap | None, *, vote: bool
    ) -> Sharpening:
        """The checked options of sharper masks, with the model's own refinement for "auto"."""
        check_choice("refine", refine, ("auto", *OFFERED))
        check_choice("propagate", propagate, PROPAGATIONS)
        check_vote(has_regions=region_map is not None, vote=vote, recipe=self.encoder.recipe)
        return Sharpening(self.defaults.refine if refine == "auto" else refine, propagate, region_map, vote)

    def _view_settings(self, view: EncodedImage) -> dict[str, Any]:
        return image_settings(view, self._image_encoder.sizes(view.resolution))

    def _prompt_settings(self, prompt_set: PromptSet, texts: PromptTexts) -> dict[str, Any]:
        model = model_settings(self.encoder, lambda: self._prompt_encoder.digest)
        return model | prompt_settings(prompt_set, texts.templates)


def _clean_labels(
    labels: NDArray[np.int32], min_area: int, max_hole: int, no_data: NDArray[np.bool_] | None, *, joins: bool
) -> NDArray[np.int32]:
    """Labels of exclusive mode without small parts, which join what is around them or are dropped, and small gaps."""
    if joins:
        labels = join_parts(labels, min_area=min_area, no_data=no_data)
    else:
        labels = remove_small_labels(labels, min_area=min_area)
    return join_gaps(labels, max_area=max_hole, no_data=no_data)


def _clean_mask(
    field: ScoreField, threshold: Threshold, min_area: int, max_hole: int, changed: list[int], index: int
) -> NDArray[np.bool_]:
    """One mask of independent mode, whose changed pixels are counted; a function here is pickled with the result."""
    raw = field.mask(index, threshold)
    mask = fill_holes(remove_small(raw, min_area=min_area), max_area=max_hole)
    mask = mask if field.view.no_data is None else mask & ~field.view.no_data
    changed[index] = int(np.count_nonzero(mask != raw))
    return mask


def _listed(name: str, texts: Sequence[str]) -> list[str]:
    """The texts with every run of white space as one space and none at the ends, as tokenizers read them."""
    if not isinstance(texts, Iterable):
        raise PromptError(f"{name}: expected a list of texts, got {describe(texts)}; put them into a list")
    listed = [texts] if isinstance(texts, str) else list(texts)
    return [" ".join(text.split()) if isinstance(text, str) else text for text in listed]


def _numpy(values: Tensor) -> NDArray[np.float32]:
    return values.float().cpu().numpy()
