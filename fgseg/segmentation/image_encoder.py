"""Images to windows, and windows to features."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fgseg._checks import describe
from fgseg.encoders.base import Encoder, Fit, Guide, guided
from fgseg.errors import OptionError
from fgseg.guides.region_maps import RegionMap, named_region_map, region_map_of
from fgseg.images.reading import Picture, read_picture
from fgseg.images.resizing import resize_image
from fgseg.scoring.resolution import Resolution, parse_resolution, short_side_hw
from fgseg.scoring.windows import BoxXyxy, crops, window_boxes
from fgseg.segmentation.encoded_image import EncodedImage, Resize
from fgseg.segmentation.model_defaults import ModelDefaults
from fgseg.types import DenseFeatures

__all__ = ["ImageEncoder", "ImageSource", "image_list"]

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
        wanted = _one_each(region_maps, len(pictures))
        started = time.perf_counter()
        cuts = [self._cut(picture.rgb, named, resize) for picture in pictures]
        maps = [self._regions(one, cut, picture.rgb) for one, cut, picture in zip(wanted, cuts, pictures, strict=True)]
        fit: Fit = "exact" if named.mode == "slide" or resize == "published" else named.mode
        side = None if fit == "exact" else named.short_side
        if side is not None and side < self._encoder.patch:
            raise OptionError(
                f"resolution: expected a side of at least one patch, {self._encoder.patch} pixels, got {named}"
            )
        windows = [window for cut in cuts for window in cut.windows]
        parts = [part for cut, one in zip(cuts, maps, strict=True) for part in _cut_map(one, cut)]
        sizes: _Sizes = {"fit": fit, "side": side, "max_side": named.max_side}
        found, hints = self._features(windows, sizes, None if region_maps is None else parts)
        seconds = (time.perf_counter() - started) / len(pictures)
        features, guide = iter(found), iter(hints or ())
        model, revision, recipe, guided_by = self._identity
        return [
            EncodedImage(
                picture.rgb, tuple(islice(features, len(cut.windows))), cut.boxes, cut.canvas_hw, named,
                model, revision, recipe, picture.source, seconds, len(images), picture.no_data, picture.settings,
                guide=None if hints is None else tuple(islice(guide, len(cut.windows))), guided_by=guided_by,
                region_map=regions, regions_from=None if one is None else named_region_map(one),
            )
            for picture, cut, regions, one in zip(pictures, cuts, maps, wanted, strict=True)
        ]  # fmt: skip

    def _regions(self, region_map: RegionMap | None, cut: _Cut, pixels: NDArray[np.uint8]) -> NDArray[np.int32] | None:
        """The region of each pixel, if any are wanted."""
        if region_map is None:
            return None
        whole = len(cut.boxes) == 1 and cut.canvas_hw == pixels.shape[:2]
        side = self._encoder.side if whole else max(cut.canvas_hw)
        patch_pixels = self._encoder.patch * max(pixels.shape[:2]) / side
        return region_map_of(region_map, pixels, patch_pixels=patch_pixels, device=self._encoder.device)

    def _features(
        self, windows: Sequence[NDArray[np.uint8]], sizes: _Sizes, regions: Sequence[NDArray[np.int32]] | None
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
        if view.recipe == "corr" and region_map is not None and _is_other(region_map, view):
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


def _one_each(region_maps: Sequence[RegionMap] | None, count: int) -> Sequence[RegionMap | None]:
    """One region map per image, or None for each.

    Raises:
        OptionError: another number of region maps.
    """
    if region_maps is None:
        return [None] * count
    if len(region_maps) != count:
        raise OptionError(f"region_maps: expected one per image, {count}, got {len(region_maps)}")
    return region_maps


def _is_other(region_map: RegionMap, view: EncodedImage) -> bool:
    """Whether an image was encoded within other regions."""
    if view.regions_from != named_region_map(region_map) or view.region_map is None:
        return True
    if not isinstance(region_map, np.ndarray):
        return False
    regions = region_map_of(region_map, view.image, patch_pixels=view.patch_pixels)
    return not np.array_equal(regions, view.region_map)


def _cut_map(region_map: NDArray[np.int32] | None, cut: _Cut) -> list[NDArray[np.int32]]:
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
