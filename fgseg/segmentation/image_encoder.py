"""Images to windows, and windows to features."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Literal, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fgseg._checks import check_array, describe
from fgseg.encoders.base import Encoder, Fit, Guide, guided
from fgseg.errors import OptionError, ShapeError
from fgseg.images.reading import Picture, read_picture
from fgseg.images.resizing import resize_image
from fgseg.scoring.resolution import Resolution, parse_resolution, short_side_hw
from fgseg.scoring.windows import BoxXyxy, crops, window_boxes
from fgseg.segmentation.encoded_image import EncodedImage
from fgseg.segmentation.model_defaults import ModelDefaults
from fgseg.types import DenseFeatures

__all__ = ["ImageEncoder", "ImageSource", "Resize", "image_list"]

Resize = Literal["area", "published"]
RegionMap = NDArray[Any]  # (H, W) integers
ImageSource = Any  # a path, an array, a PIL image, or an EncodedImage


class _Sizes(TypedDict):
    """The sizes of `Encoder.encode_images`."""

    fit: Fit
    side: int | None
    max_side: int


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
        self,
        images: Sequence[ImageSource],
        resolution: str | Resolution,
        *,
        resize: Resize = "area",
        region_maps: Sequence[RegionMap] | None = None,
    ) -> list[EncodedImage]:
        """Encode several images together; arguments and errors as in `Segmenter.encode_batch`.

        With `resize="published"` every image is resized to its canvas without antialiasing, as published evaluation
        code does it, and "keep" encodes that canvas as one window.
        """
        named = self.resolution(resolution)
        images = image_list(images)
        pictures = [_own_picture(image) for image in images]
        maps = _checked_maps(region_maps, pictures)
        started = time.perf_counter()
        cuts = [self._cut(picture.rgb, named, resize) for picture in pictures]
        fit: Fit = "exact" if named.mode == "slide" or resize == "published" else named.mode
        side = None if fit == "exact" else named.short_side
        if side is not None and side < self._encoder.patch:
            raise OptionError(
                f"resolution: expected a side of at least one patch, {self._encoder.patch} pixels, got {named}"
            )
        windows = [window for cut in cuts for window in cut.windows]
        regions = [region for cut, one in zip(cuts, maps, strict=True) for region in _cut_map(one, cut)]
        sizes: _Sizes = {"fit": fit, "side": side, "max_side": named.max_side}
        found, hints = self._features(windows, sizes, None if region_maps is None else regions)
        seconds = (time.perf_counter() - started) / len(pictures)
        features, guide = iter(found), iter(hints or ())
        model, revision, recipe, guided_by = self._identity
        return [
            EncodedImage(
                picture.rgb, tuple(islice(features, len(cut.windows))), cut.boxes, cut.canvas_hw, named,
                model, revision, recipe, picture.source, seconds, len(images), picture.no_data, picture.settings,
                guide=None if hints is None else tuple(islice(guide, len(cut.windows))), guided_by=guided_by,
                region_map=region_map,
            )
            for picture, cut, region_map in zip(pictures, cuts, maps, strict=True)
        ]  # fmt: skip

    def _features(
        self, windows: Sequence[NDArray[np.uint8]], sizes: _Sizes, regions: Sequence[RegionMap] | None
    ) -> tuple[list[DenseFeatures], list[Tensor] | None]:
        """Features of windows, and those of the guide, which sees each window once."""
        encoder = guided(self._encoder)
        if encoder is None:
            return self._encoder.encode_images(windows, **sizes), None
        guide = encoder.guide_features(windows, **sizes)
        return encoder.encode_images(windows, **sizes, guide=guide, regions=regions), guide

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

    def check(self, view: EncodedImage, resolution: str | Resolution, region_map: RegionMap | None = None) -> None:
        """Refuse features that were not made by this encoder, at another resolution, or within other regions.

        Raises:
            OptionError: one of these.
        """
        theirs = view.model, view.revision, view.recipe, view.guided_by
        if theirs != self._identity:
            other, own = _described(*theirs), _described(*self._identity)
            raise OptionError(f"image: encoded with {other}; this is {own}; encode it again")
        is_other = region_map is not None and not np.array_equal(region_map, view.region_map)  # type: ignore[arg-type]
        if view.recipe == "corr" and is_other:
            raise OptionError("region_map: the image was encoded with another or none; encode it again with this one")
        if resolution != "auto" and self.resolution(resolution) != view.resolution:
            raise OptionError(
                f"resolution: the image was encoded with {view.resolution}; encode it again, or leave resolution out"
            )

    @property
    def _identity(self) -> tuple[str, str | None, str | None, str | None]:
        """Model, revision, recipe and guide; the texts that the features are compared with must be of the model."""
        encoder = guided(self._encoder)
        label = None if encoder is None or encoder.guide is None else _label(encoder.guide)
        return self._encoder.name, self._encoder.revision, self._encoder.recipe, label

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


def _checked_maps(
    region_maps: Sequence[RegionMap] | None, pictures: Sequence[Picture]
) -> Sequence[RegionMap] | Sequence[None]:
    """One region map per image, or None for each.

    Raises:
        OptionError: not one per image.
        ShapeError: not integers of the image's size.
    """
    if region_maps is None:
        return [None] * len(pictures)
    if len(region_maps) != len(pictures):
        raise OptionError(f"region_maps: expected one per image, {len(pictures)}, got {len(region_maps)}")
    for region_map, picture in zip(region_maps, pictures, strict=True):
        check_array("region_map", region_map, picture.rgb.shape[:2], hint="one number per pixel of the image")
        if not np.issubdtype(region_map.dtype, np.integer):
            raise ShapeError(f"region_map: expected integers, got {region_map.dtype}; number the regions from 0")
    return region_maps


def _cut_map(region_map: RegionMap | None, cut: _Cut) -> list[RegionMap]:
    """The part of a region map in each window, each pixel of the canvas from the image's pixel below it."""
    if region_map is None:
        return []
    rows, columns = (np.arange(new) * old // new for new, old in zip(cut.canvas_hw, region_map.shape, strict=True))
    canvas = region_map[rows[:, None], columns]
    return [canvas[top:bottom, left:right] for left, top, right, bottom in cut.boxes]


def _label(guide: Guide) -> str:
    return guide.name if guide.revision is None else f"{guide.name} at {guide.revision}"


def _described(model: str, revision: str | None, recipe: str | None, guide: str | None) -> str:
    named = {"revision": revision, "recipe": recipe, "guide": guide}
    return ", ".join([repr(model), *(f"{name} {value}" for name, value in named.items() if value)])
