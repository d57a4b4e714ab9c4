"""What a Segmenter is shown: images become windows, and windows become features, each encoded once."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import describe
from fgseg.encoders.base import Encoder, Fit
from fgseg.errors import OptionError
from fgseg.images.reading import read_image
from fgseg.images.resizing import resize_image
from fgseg.scoring.resolution import Resolution, parse_resolution, short_side_hw
from fgseg.scoring.windows import BoxXyxy, crops, window_boxes
from fgseg.segmentation.encoded_image import EncodedImage
from fgseg.segmentation.model_defaults import ModelDefaults

__all__ = ["ImageEncoder", "ImageSource", "Resize", "image_list"]

Resize = Literal["area", "published"]
ImageSource = Any  # a path, an array, a PIL image, or an EncodedImage


class _Cut(NamedTuple):
    """Parts of an image, where each lies on the canvas, and the canvas's (height, width)."""

    parts: tuple[NDArray[np.uint8], ...]
    boxes: tuple[BoxXyxy, ...]
    canvas_hw: tuple[int, int]


class ImageEncoder:
    """Images as one encoder sees them."""

    def __init__(self, encoder: Encoder, defaults: ModelDefaults) -> None:
        """Take the encoder, and what stands for a resolution that is not given."""
        self._encoder, self._defaults = encoder, defaults

    def encode(
        self, images: Sequence[ImageSource], resolution: str | Resolution, *, resize: Resize = "area"
    ) -> list[EncodedImage]:
        """Several images together; arguments and errors as in `Segmenter.encode_batch`.

        With `resize="published"` every image is resized to its canvas without antialiasing, as published evaluation
        code does it, and "keep" encodes that canvas as one window.
        """
        chosen = self.resolution(resolution)
        images = image_list(images)
        pixels = [_own_pixels(image) for image in images]
        started = time.perf_counter()
        cuts = [self._cut(one, chosen, resize) for one in pixels]
        fit: Fit = "exact" if chosen.mode == "slide" or resize == "published" else chosen.mode
        side = None if fit == "exact" else chosen.short_side
        if side is not None and side < self._encoder.patch:
            raise OptionError(
                f"resolution: expected a side of at least one patch, {self._encoder.patch} pixels, got {chosen}"
            )
        parts = [part for cut in cuts for part in cut.parts]
        features = iter(self._encoder.encode_images(parts, fit=fit, side=side, max_side=chosen.max_side))
        seconds = (time.perf_counter() - started) / len(pixels)
        return [
            EncodedImage(
                one, tuple(islice(features, len(cut.parts))), cut.boxes, cut.canvas_hw, chosen, *self._identity,
                str(image) if isinstance(image, (str, os.PathLike)) else None, seconds, len(images),
            )
            for image, one, cut in zip(images, pixels, cuts, strict=True)
        ]  # fmt: skip

    def resolution(self, resolution: str | Resolution) -> Resolution:
        """What is named, as a Resolution; "auto" is the encoder's own.

        Raises:
            OptionError: an unknown one.
        """
        if isinstance(resolution, Resolution):
            return resolution
        if not isinstance(resolution, str):
            raise OptionError(
                f"resolution: expected text such as 'keep:448' or a Resolution, got {describe(resolution)}"
            )
        return parse_resolution(self._defaults.resolution if resolution == "auto" else resolution)

    def sizes(self, chosen: Resolution) -> Resolution:
        """The resolution with the encoder's own sizes filled in, where windows need them."""
        return chosen.resolved(self._encoder.side) if chosen.mode == "slide" else chosen

    def check(self, view: EncodedImage, resolution: str | Resolution) -> None:
        """Refuse features that were not made by this encoder, or at another resolution.

        Raises:
            OptionError: one of these.
        """
        if (view.model, view.revision, view.recipe) != self._identity:
            other, own = _said(view.model, view.revision, view.recipe), _said(*self._identity)
            raise OptionError(f"image: encoded with {other}; this is {own}; encode it again")
        if resolution != "auto" and self.resolution(resolution) != view.resolution:
            raise OptionError(
                f"resolution: the image was encoded with {view.resolution}; encode it again, or leave resolution out"
            )

    @property
    def _identity(self) -> tuple[str, str | None, str | None]:
        """What features must have in common with the texts they meet."""
        return self._encoder.name, self._encoder.revision, self._encoder.recipe

    def _cut(self, pixels: NDArray[np.uint8], chosen: Resolution, resize: Resize) -> _Cut:
        """The parts of an image that the encoder sees: windows, or the whole image."""
        height, width = pixels.shape[:2]
        if chosen.mode != "slide" and resize == "area":
            return _Cut((pixels,), ((0, 0, width, height),), (height, width))
        sizes = self.sizes(chosen)
        assert sizes.short_side is not None  # `resolved` fills it in, and published settings give it
        canvas_hw = short_side_hw((height, width), sizes.short_side, sizes.max_side)
        boxes: tuple[BoxXyxy, ...] = ((0, 0, canvas_hw[1], canvas_hw[0]),)
        if sizes.crop is not None and sizes.stride is not None:
            boxes = window_boxes(canvas_hw, crop=sizes.crop, stride=sizes.stride)
        canvas = resize_image(pixels, canvas_hw, antialias=resize == "area")
        return _Cut(crops(canvas, boxes), boxes, canvas_hw)


def image_list(images: Sequence[ImageSource]) -> list[ImageSource]:
    """The images as a list; a single image and an empty list are refused.

    Raises:
        OptionError: one of these.
    """
    is_single = isinstance(images, (str, bytes, os.PathLike, EncodedImage)) or hasattr(images, "shape")
    if is_single or not isinstance(images, Iterable):
        raise OptionError(f"images: expected a list of images, got {describe(images)}; put it into a list")
    listed = list(images)
    if not listed:
        raise OptionError("images: expected at least one, got none")
    return listed


def _own_pixels(image: ImageSource) -> NDArray[np.uint8]:
    """An image's pixels; a caller's own array is copied, for results are computed from them as long as they live."""
    pixels = read_image(image)
    return pixels.copy() if pixels is image else pixels


def _said(model: str, revision: str | None, recipe: str | None) -> str:
    named = {"revision": revision, "recipe": recipe}
    return ", ".join([repr(model), *(f"{name} {value}" for name, value in named.items() if value)])
