"""`load` and `Segmenter`: the wiring from an image and words to masks.

Nothing is computed here that a lower module could compute: an image becomes features (`views`), words become texts
(`queries`), and the scores of the two become labels and maps that are made one at a time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fgseg._checks import check_array, check_choice, check_number, check_whole, describe
from fgseg._files import place
from fgseg._version import __version__, version_of
from fgseg.encoders.base import Encoder
from fgseg.encoders.loading import load_encoder
from fgseg.encoders.networks.clip import Recipe
from fgseg.errors import ModelNotFoundError, OptionError, OutputError, PromptError, ShapeError
from fgseg.images.reading import read_image
from fgseg.large.plan import plan_windows
from fgseg.large.result import LargeSegmentation, segment_tiled
from fgseg.large.strips import Task
from fgseg.large.tiled_tiff import open_tiled
from fgseg.prompts.classes import PromptClass, PromptSet
from fgseg.regions.components import fill_holes, remove_small, remove_small_labels
from fgseg.regions.pooling import box_features
from fgseg.scoring.presence import TIE
from fgseg.scoring.refine import OFFERED
from fgseg.scoring.resolution import Resolution, whole_image
from fgseg.segmentation.encoded_image import EncodedImage
from fgseg.segmentation.heatmaps import Heatmaps
from fgseg.segmentation.image_encoder import ImageEncoder, ImageSource
from fgseg.segmentation.model_defaults import ModelDefaults, model_defaults
from fgseg.segmentation.prompt_encoder import PromptEncoder, PromptTexts
from fgseg.segmentation.result import Segmentation, check_mode
from fgseg.segmentation.score_field import ScoreField, Threshold
from fgseg.similarity import unit
from fgseg.types import BoxScores, LazyMaps, Ranking

__all__ = ["Segmenter", "load"]

# Packages whose version can change a result: they go into run.json.
_RECORDED = ("torch", "tokenizers", "transformers", "numpy", "opencv-python", "pillow")


def load(
    model: str | os.PathLike[str] | None = None,
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype = "auto",
    recipe: Recipe = "value",
    revision: str | None = None,
    offline: bool | None = None,
) -> Segmenter:
    """Load a model and make a Segmenter of it.

    Args:
        model: "mini" (in the package), "fg-clip-base" and the other names of `fgseg models`, a folder, or a hub id.
            None takes the environment variable FGSEG_MODEL, else "mini".
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        dtype: "auto" (bfloat16 where the processor multiplies it natively), "float32", "bfloat16" or "float16".
        recipe: how the last vision block of CLIP and FG-CLIP 1 attends; "value" is FG-CLIP's.
        revision: hub commit, tag or branch; None takes the pinned one.
        offline: True never asks the network; None does what HF_HUB_OFFLINE says.

    Raises:
        ModelNotFoundError: the model is not there.
        WeightsError: its tensors are not those of a known model.
        DeviceError: device or dtype not on this machine.
        OptionError: an unknown recipe.
    """
    named = os.environ.get("FGSEG_MODEL") or None
    name = (named or "mini") if model is None else model
    try:
        encoder = load_encoder(name, device=device, dtype=dtype, recipe=recipe, revision=revision, offline=offline)
    except ModelNotFoundError as error:
        if model is None and named:
            raise ModelNotFoundError(f"FGSEG_MODEL: {error}") from error
        raise
    return Segmenter(encoder)


class Segmenter:
    """Masks, heatmaps and scores from words, with one encoder. Holds no state but texts it has encoded."""

    def __init__(self, encoder: Encoder, defaults: ModelDefaults | None = None) -> None:
        """Wire up an encoder; `load` makes one by name.

        Args:
            encoder: of images and texts.
            defaults: what is used where an argument is left out; None takes what the model recommends.

        Raises:
            WeightsError: the model recommends something that fgseg cannot follow.
        """
        self.encoder = encoder
        self.defaults = model_defaults(encoder) if defaults is None else defaults
        self._prompt_encoder = PromptEncoder(encoder, self.defaults)
        self._image_encoder = ImageEncoder(encoder, self.defaults)

    def encode(self, image: ImageSource, *, resolution: str | Resolution = "auto") -> EncodedImage:
        """Encode an image once, to use it many times.

        Args:
            image: a path, an (H, W, 3) uint8 RGB array (copied), a PIL image, or an EncodedImage, which is returned as
                it is.
            resolution: "squash" (resized to the native square, as the model card does), "keep" (aspect kept, position
                table interpolated), "slide" (windows of the native side over an image whose shorter side is 1.5 times
                that, as the field measures), each with an optional size ("slide:448"), or a `Resolution`. "auto" is
                the encoder's default: "slide" for CLIP and FG-CLIP 1, "keep" for FG-CLIP 2.

        Raises:
            ImageError: a file that cannot be read.
            OptionError: an unknown resolution, or an EncodedImage of another model, revision, recipe or resolution.
        """
        if isinstance(image, EncodedImage):
            self._image_encoder.check(image, resolution)
            return image
        (view,) = self.encode_batch([image], resolution=resolution)
        return view

    def encode_batch(
        self, images: Sequence[ImageSource], *, resolution: str | Resolution = "auto"
    ) -> list[EncodedImage]:
        """Encode several images together: what comes to the same size goes through the encoder at once.

        Features differ from those of `encode` by the rounding of a larger product, which in bfloat16 moves labels of
        some pixels near a tie. It pays where the encoder waits for work: on a GPU, or for small images.

        Args:
            images: paths, arrays and PIL images, as in `encode`, of any sizes; all are in memory at once.
            resolution: as in `encode`.

        Returns:
            one an image, in order.

        Raises:
            ImageError: a file that cannot be read.
            OptionError: no image, or an unknown resolution.
        """
        return self._image_encoder.encode(images, resolution)

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
        refine: Literal["auto", "none", "guided", "pamr"] = "auto",
        min_area: int = 1,
        max_hole: int = 0,
    ) -> Segmentation:
        r"""Segment an image by words.

        A prompt's presence at a pixel is 1 / (1 + exp(-logit_scale * (score - rival))), where rival is the best score
        of the background words and negatives there; without any, of the other prompts. It does not depend on which
        other prompts are asked for as long as there are background words (a default one that is itself asked for is no
        longer among them).

        Args:
            image: a path, an (H, W, 3) uint8 RGB array, a PIL image, or an EncodedImage.
            prompts: class names; "cup, mug" are synonyms (a pixel's score is the best of them), `\,` is a comma.
            mode: "exclusive": each pixel goes to its best prompt, if present enough; "independent": a mask a prompt,
                which may overlap.
            threshold: least presence of a mask's pixels, 0 to 1; "auto" chooses one a prompt by Otsu's method, never
                below the model's own (see `fgseg.scoring.automatic_threshold` for its limits). None takes the model's
                own: 0.5, a tie with the best background word, unless its card says otherwise.
            background: words for anything else; None takes the model's own, () none.
            negatives: "not this": words that compete and never win a pixel.
            templates: "none", "imagenet" (80 sentences, averaged), a file, or one's own; None takes the model's own.
            resolution: as in `encode`.
            refine: follow edges of the image: "guided" filter, "pamr" (slow on large images) or "none"; "auto" takes
                the model's own: none, but guided for the embedded model, which gains from it.
            min_area: pixels; smaller connected parts are dropped.
            max_hole: pixels; holes up to this are filled (independent mode).

        Raises:
            ImageError: a file that cannot be read.
            PromptError: an empty, duplicate or too long prompt, or a word the model does not know.
            OptionError: an option out of its range, or a lone prompt with nothing to compete with.
        """
        chosen_refine = self._refinement(refine)
        threshold = None if threshold is None else _checked_threshold(threshold)
        min_area = check_whole("min_area", min_area, low=0, high=2**62)
        max_hole = check_whole("max_hole", max_hole, low=0, high=2**62)
        check_mode(mode, max_hole=max_hole)
        started = time.perf_counter()
        asked = self._prompt_encoder.prompt_set(prompts, background, negatives)
        own = self._own_threshold(asked)
        threshold = own if threshold is None else threshold
        texts = self._prompt_encoder.texts(asked, templates)
        started -= time.perf_counter()  # encoding has a figure of its own
        view = self.encode(image, resolution=resolution)
        started += time.perf_counter()
        field = ScoreField(view, texts, asked, self.encoder.logit_scale, chosen_refine, least=own)
        if mode == "exclusive":
            labels = remove_small_labels(field.exclusive(threshold), min_area=min_area)
            masks = LazyMaps(field.names, partial(np.equal, labels))
        else:
            masks = LazyMaps(field.names, partial(_clean_mask, field, threshold, min_area, max_hole))
            labels = field.winners(masks)
        settings = self._view_settings(view) | self._settings(asked, texts) | {
            "mode": mode, "threshold": threshold, "refine": chosen_refine, "min_area": min_area, "max_hole": max_hole,
            "seconds": round(time.perf_counter() - started, 4),
        }  # fmt: skip
        return Segmentation(
            view.image,
            labels,
            asked.classes,
            masks,
            Heatmaps(view.image, field.names, field.presence),
            mode,
            view.grid_hw,
            settings,
            max(1, min_area),
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
        progress: Callable[[int, int], None] | None = None,
    ) -> LargeSegmentation:
        """Segment a tiled TIFF of any size, read by region; memory grows with its width, not with its height.

        Windows of the native side move over the image at its own scale: a pixel stays a pixel, however large the image.
        The labels are those of `segment` in exclusive mode with "slide" at the same sizes and refine="none".

        Args:
            image: a tiled TIFF or BigTIFF: grey, RGB, either with alpha, CMYK, or palette, of 8 or 16 bits.
            prompts: as in `segment`.
            labels_path: the label map to write, a tiled TIFF of the image's size; it appears when all of it is done.
                `save` of the result writes the other files.
            threshold: least presence of a labelled pixel, 0 to 1; None takes the model's own.
            background: as in `segment`.
            negatives: as in `segment`.
            templates: as in `segment`.
            resolution: "auto", "slide" or "slide:auto/CROP/STRIDE"; half overlap unless a stride is given.
            reduction: shrink the image by this whole number before windows see it; labels keep the image's size.
            progress: called with the rows of the image that are done and that there are.

        Raises:
            ImageError: not a tiled TIFF, or one that cannot be read.
            PromptError: as `segment`.
            OptionError: as `segment`; or a resolution other than windows at the image's own scale.
            OutputError: the label map cannot be written, or would be written over the image.
        """
        started = time.perf_counter()
        for name, path in (("image", image), ("labels_path", labels_path)):
            if not isinstance(path, (str, os.PathLike)):
                raise OptionError(f"{name}: expected the path of a tiled TIFF, got {describe(path)}")
        asked = self._prompt_encoder.prompt_set(prompts, background, negatives)
        least = self._own_threshold(asked) if threshold is None else threshold
        least = check_number("threshold", least, low=0, high=1, hint='a presence; "auto" needs the whole image at once')
        texts = self._prompt_encoder.texts(asked, templates)
        chosen = Resolution("slide") if resolution == "auto" else self._image_encoder.resolution(resolution)
        with open_tiled(image) as source:
            if place(Path(labels_path)) == place(Path(image)):
                raise OutputError(f"labels_path: {labels_path} is the image itself; name another file")
            plan = plan_windows(source.image_hw, chosen, native=self.encoder.side, reduction=reduction)
            settings = {"image": str(image), **asdict(plan), "windows": plan.windows, "read_by": "region"}
            settings |= self._settings(asked, texts) | {"mode": "exclusive", "threshold": least}
            task = Task(asked.classes, texts, least)
            result = segment_tiled(source, Path(labels_path), self.encoder, task, plan, settings, progress)
        return replace(result, settings=settings | {"seconds": round(time.perf_counter() - started, 4)})

    def heatmaps(
        self,
        image: ImageSource,
        prompts: Sequence[str | PromptClass],
        *,
        background: Sequence[str] | None = None,
        negatives: Sequence[str] = (),
        templates: str | Sequence[str] | None = None,
        resolution: str | Resolution = "auto",
        refine: Literal["auto", "none", "guided", "pamr"] = "auto",
    ) -> Heatmaps:
        """Where each prompt is: class name -> (H, W) float32 presence, computed each time it is asked for.

        A read-only mapping that draws itself in a notebook. The range is fixed: 0 absent, 0.5 as likely as the best
        background word, 1 certain. An absent thing does not look hot. Arguments as in `segment`, whose masks are cut
        from these maps; refine="none" shows what the patches say.
        """
        asked = self._prompt_encoder.prompt_set(prompts, background, negatives)
        texts = self._prompt_encoder.texts(asked, templates)
        view = self.encode(image, resolution=resolution)
        field = ScoreField(view, texts, asked, self.encoder.logit_scale, self._refinement(refine))
        return Heatmaps(view.image, field.names, field.presence)

    def score_boxes(
        self,
        image: ImageSource,
        boxes_xyxy: NDArray[Any] | Sequence[Sequence[float]],
        texts: Sequence[str],
        *,
        templates: str | Sequence[str] = "none",
        resolution: str | Resolution = "auto",
    ) -> BoxScores:
        """Which phrase fits which box.

        Args:
            image: as in `encode`; an EncodedImage in windows is encoded again as a whole, which boxes need.
            boxes_xyxy: (N, 4) pixels (left, top, right, bottom), within the image.
            texts: phrases; commas mean nothing here.
            templates: sentences around each phrase, averaged; "none" takes the phrases as they are.
            resolution: "auto" takes the whole image at once: "squash" for CLIP and FG-CLIP 1, "keep" for FG-CLIP 2.

        Raises:
            ShapeError: not (N, 4), not finite, empty boxes, or outside the image.
            PromptError: no phrase, or an empty or too long one.
            OptionError: a resolution in windows, or another than an EncodedImage's.
        """
        chosen = self._image_encoder.resolution(
            whole_image(self.defaults.resolution) if resolution == "auto" else resolution
        )
        if chosen.mode == "slide":
            raise OptionError(
                "resolution: boxes are pooled from the whole image's features, got slide; use squash or keep"
            )
        if isinstance(image, EncodedImage) and image.resolution.mode != "slide":
            view = self.encode(image, resolution=resolution)
        else:
            view = self.encode(image.image if isinstance(image, EncodedImage) else image, resolution=chosen)
        boxes = _checked_boxes(boxes_xyxy, view.image_hw)
        grid = view.windows[0].grid
        (height, width), (rows, columns) = view.image_hw, grid.shape[:2]
        scale = torch.tensor([columns / width, rows / height] * 2, device=grid.device)
        pooled = unit(box_features(grid, torch.from_numpy(boxes).to(grid.device) * scale))
        listed = _listed("texts", texts)
        words = self._prompt_encoder.phrases(listed, templates)
        cosine = pooled @ words.T
        return BoxScores(_numpy(cosine), _numpy((cosine * self.encoder.logit_scale).softmax(1)), tuple(listed))

    def rank(
        self,
        images: ImageSource | Sequence[ImageSource],
        captions: Sequence[str],
        *,
        route: Literal["short", "long"] = "short",
    ) -> Ranking:
        """Which caption fits which whole image.

        Args:
            images: one image or several, each as in `encode`.
            captions: sentences; commas mean nothing here.
            route: "short" (77 tokens) or FG-CLIP's "long" (248 tokens, FG-CLIP 2 196).

        Raises:
            PromptError: no caption, or an empty or too long one.
            OptionError: a route the model does not have.
        """
        check_choice("route", route, ("short", "long"))
        several: list[Any] = list(images) if isinstance(images, (list, tuple)) else [images]
        if not several:
            raise OptionError("images: expected at least one, got none")
        listed = _listed("captions", captions)
        text = self._prompt_encoder.captions(listed, route)
        pixels = [item.image if isinstance(item, EncodedImage) else read_image(item) for item in several]
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

    def _own_threshold(self, asked: PromptSet) -> float:
        """The model's, which is one of presence before its background words; without any, a tie."""
        return self.defaults.threshold if asked.rivals else TIE

    def _refinement(self, refine: str) -> str:
        check_choice("refine", refine, ("auto", *OFFERED))
        return self.defaults.refine if refine == "auto" else refine

    # --- what is recorded

    def heatmap_settings(
        self,
        image: EncodedImage,
        prompts: Sequence[str | PromptClass],
        *,
        background: Sequence[str] | None = None,
        negatives: Sequence[str] = (),
        templates: str | Sequence[str] | None = None,
        refine: Literal["auto", "none", "guided", "pamr"] = "auto",
    ) -> dict[str, Any]:
        """What `heatmaps` of an encoded image is made with, for run.json; arguments and errors as `heatmaps`."""
        prompt_set = self._prompt_encoder.prompt_set(prompts, background, negatives)
        texts = self._prompt_encoder.texts(prompt_set, templates)
        return self._view_settings(image) | self._settings(prompt_set, texts) | {"refine": self._refinement(refine)}

    def _view_settings(self, view: EncodedImage) -> dict[str, Any]:
        return {
            "image": view.source,
            "image_hw": list(view.image_hw),
            "resolution": asdict(self._image_encoder.sizes(view.resolution)),
            "windows": len(view.windows),
            "grid_hw": list(view.grid_hw),
            "encoding_seconds": round(view.seconds, 4),
            "encoded_together": view.together,
        }

    def _settings(self, asked: PromptSet, texts: PromptTexts) -> dict[str, Any]:
        encoder = self.encoder
        return {
            "model": encoder.name,
            "revision": encoder.revision,
            "weights_sha256": self._prompt_encoder.digest,
            "recipe": encoder.recipe,
            "device": str(encoder.device),
            "dtype": str(encoder.dtype).removeprefix("torch."),
            "logit_scale": encoder.logit_scale,
            "classes": [{"name": entry.name, "prompts": list(entry.synonyms)} for entry in asked.classes],
            "background": list(asked.background),
            "negatives": list(asked.negatives),
            "templates": list(texts.templates),
            "versions": dict(self._versions),
        }

    @cached_property
    def _versions(self) -> dict[str, str | None]:
        """Read once: reading the packages' records takes 12 ms."""
        return {"fgseg": __version__, **{name: version_of(name) for name in _RECORDED}}


def _clean_mask(field: ScoreField, threshold: Threshold, min_area: int, max_hole: int, index: int) -> NDArray[np.bool_]:
    """A module's function, which can be pickled."""
    return fill_holes(remove_small(field.mask(index, threshold), min_area=min_area), max_area=max_hole)


def _checked_threshold(threshold: Threshold) -> Threshold:
    if threshold == "auto":
        return "auto"
    return check_number("threshold", threshold, low=0, high=1, hint="a presence, or 'auto'")


def _listed(name: str, texts: Sequence[str]) -> list[str]:
    """White space, line ends too, as one space and none at the ends: it means nothing to a tokenizer."""
    if not isinstance(texts, Iterable):
        raise PromptError(f"{name}: expected a list of texts, got {describe(texts)}; put them into a list")
    listed = [texts] if isinstance(texts, str) else list(texts)
    return [" ".join(text.split()) if isinstance(text, str) else text for text in listed]


def _checked_boxes(
    boxes_xyxy: NDArray[Any] | Sequence[Sequence[float]], image_hw: tuple[int, int]
) -> NDArray[np.float32]:
    try:
        boxes = np.array(boxes_xyxy, np.float32)  # a copy, which torch can take whatever its strides and flags are
    except (TypeError, ValueError) as error:
        raise ShapeError(
            f"boxes_xyxy: expected (left, top, right, bottom) numbers a row, got {describe(boxes_xyxy)}"
        ) from error
    boxes = boxes if boxes.size else boxes.reshape(-1, 4)
    check_array("boxes_xyxy", boxes, ("N", 4), hint="one (left, top, right, bottom) a row")
    height, width = image_hw
    left, top, right, bottom = boxes.T
    fits = (left >= 0) & (left < right) & (right <= width) & (top >= 0) & (top < bottom) & (bottom <= height)
    if not fits.all():  # NaN fits nowhere
        row = int(np.argmin(fits))
        raise ShapeError(
            f"boxes_xyxy: expected row {row} within the image, {width} pixels wide and {height} high, with "
            f"left < right and top < bottom, got {boxes[row].tolist()}"
        )
    return boxes


def _numpy(values: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = values.float().cpu().numpy()
    return array
