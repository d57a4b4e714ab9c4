"""Images to windows, and windows to features."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fgseg._checks import describe
from fgseg.encoders.base import Encoder, Fit
from fgseg.errors import OptionError
from fgseg.images.reading import Picture, read_picture
from fgseg.images.resizing import resize_image
from fgseg.scoring.resolution import Resolution, parse_resolution, short_side_hw
from fgseg.scoring.windows import BoxXyxy, crops, window_boxes
from fgseg.segmentation.encoded_image import EncodedImage, Resize
from fgseg.segmentation.model_defaults import ModelDefaults

__all__ = ["ImageEncoder", "ImageSource", "image_list"]

ImageSource = Any  # a path, an array, a PIL image, or an EncodedImage


class _Cut(NamedTuple):
    """Windows of an image, the box of each on the canvas, and the (height, width) of the canvas."""

    windows: tuple[NDArray[np.uint8], ...]
    boxes: tuple[BoxXyxy, ...]
    canvas_hw: tuple[int, int]


class ImageEncoder:
    """Images to features with one encoder."""

    def __init__(self, encoder: Encoder, defaults: ModelDefaults) -> None:
        """Keep the encoder, and the default resolution."""
        self._encoder, self._defaults = encoder, defaults

    def encode(
        self, images: Sequence[ImageSource], resolution: str | Resolution, *, resize: Resize = "area"
    ) -> list[EncodedImage]:
        """Encode several images together; arguments and errors as in `Segmenter.encode_batch`.

        With `resize="published"` every image is resized to its canvas without antialiasing, as published evaluation
        code does it, and "keep" encodes that canvas as one window.
        """
        named = self.resolution(resolution)
        images = image_list(images)
        pictures = [_own_picture(image) for image in images]
        started = time.perf_counter()
        cuts = [self._cut(picture.rgb, named, resize) for picture in pictures]
        fit: Fit = "exact" if named.mode == "slide" or resize == "published" else named.mode
        side = None if fit == "exact" else named.short_side
        if side is not None and side < self._encoder.patch:
            raise OptionError(
                f"resolution: expected a side of at least one patch, {self._encoder.patch} pixels, got {named}"
            )
        windows = [window for cut in cuts for window in cut.windows]
        features = iter(self._encoder.encode_images(windows, fit=fit, side=side, max_side=named.max_side))
        seconds = (time.perf_counter() - started) / len(pictures)
        return [
            EncodedImage(
                picture.rgb, tuple(islice(features, len(cut.windows))), cut.boxes, cut.canvas_hw, named,
                *self._identity, picture.source, seconds, len(images), picture.no_data, picture.settings,
            )
            for picture, cut in zip(pictures, cuts, strict=True)
        ]  # fmt: skip

    def resolution(self, resolution: str | Resolution) -> Resolution:
        """A named resolution; "auto" is the model's default.

        Raises:
            OptionError: an unknown resolution.
        """
        if isinstance(resolution, Resolution):
            return resolution
        return parse_resolution(self._defaults.resolution if resolution == "auto" else resolution)

    def sizes(self, resolution: Resolution) -> Resolution:
        """The resolution, for windows with the encoder's sizes filled in."""
        return resolution.resolved(self._encoder.side) if resolution.mode == "slide" else resolution

    def check(self, view: EncodedImage, resolution: str | Resolution) -> None:
        """Refuse features that were not made by this encoder, or at another resolution.

        Raises:
            OptionError: one of these.
        """
        if (view.model, view.revision, view.recipe) != self._identity:
            other, own = _described(view.model, view.revision, view.recipe), _described(*self._identity)
            raise OptionError(f"image: encoded with {other}; this is {own}; encode it again")
        if resolution != "auto" and self.resolution(resolution) != view.resolution:
            raise OptionError(
                f"resolution: the image was encoded with {view.resolution}; encode it again, or leave resolution out"
            )

    @property
    def _identity(self) -> tuple[str, str | None, str | None]:
        """Model, revision and recipe, which must be those of the texts that the features are compared with."""
        return self._encoder.name, self._encoder.revision, self._encoder.recipe

    def _cut(self, pixels: NDArray[np.uint8], resolution: Resolution, resize: Resize) -> _Cut:
        """The windows of an image, or the whole image as one window."""
        height, width = pixels.shape[:2]
        if resolution.mode != "slide" and resize == "area":
            return _Cut((pixels,), ((0, 0, width, height),), (height, width))
        sizes = self.sizes(resolution)
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


def _own_picture(image: ImageSource) -> Picture:
    """The image as read. An array of the caller is copied, because results are computed from it later."""
    picture = read_picture(image)
    name = str(image) if isinstance(image, (str, os.PathLike)) else picture.source
    return replace(picture, rgb=picture.rgb.copy() if picture.rgb is image else picture.rgb, source=name)


def _described(model: str, revision: str | None, recipe: str | None) -> str:
    named = {"revision": revision, "recipe": recipe}
    return ", ".join([repr(model), *(f"{name} {value}" for name, value in named.items() if value)])
