"""From an image to class labels under the settings of a run."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fgseg.evaluation.tasks.protocol import protocol_label_maps
from fgseg.evaluation.tasks.settings import SegmentationSettings
from fgseg.guides.region_maps import region_map_for
from fgseg.guides.votes import vote
from fgseg.images.reading import Picture
from fgseg.regions.specks import join_gaps, join_parts, quarter_patch
from fgseg.scoring.presence import exclusive_labels
from fgseg.scoring.refine import refined
from fgseg.segmentation.encoded_image import EncodedImage
from fgseg.segmentation.image_encoder import ImageEncoder
from fgseg.segmentation.prompt_encoder import PromptTexts
from fgseg.segmenter import Segmenter
from fgseg.types import UNLABELLED
from fgseg.upsample.labels import running_label_map
from fgseg.upsample.maps import upsample_map

__all__ = ["encode", "predict"]

Labels = NDArray[np.int32]


def encode(
    seg: Segmenter, pixels: NDArray[np.uint8], settings: SegmentationSettings, *, source: str | None = None
) -> EncodedImage:
    """The features of an image at the resolution of the settings, resized as they say; `source` is its file."""
    encoder, picture = ImageEncoder(seg.encoder, seg.defaults), Picture(pixels, source=source)
    mixes = seg.encoder.recipe == "corr" and settings.region_map != "none"
    regions = [region_map_for(settings.region_map, source or "")] if mixes else None
    (view,) = encoder.encode([picture], settings.resolution, resize=settings.resize, region_maps=regions)
    return view


def predict(
    view: EncodedImage, texts: PromptTexts, rivals: PromptTexts | None, variants: Sequence[SegmentationSettings]
) -> Iterator[Labels]:
    """The labels of one image under each of several settings, from one pass over the score maps.

    Args:
        view: what `encode` returned for these settings.
        texts: query words of the classes that compete.
        rivals: background words of the "presence" decision; None for the "protocol" decision.
        variants: settings that differ in scale, threshold, votes and specks alone, at least one.

    Returns:
        An iterator over (H, W) int32 class indices, UNLABELLED where the "presence" decision finds no class.
    """
    quarter = quarter_patch(view.image_hw, view.grid_hw)
    for one, labels in zip(variants, _predicted(view, texts, rivals, variants), strict=True):
        if one.vote:
            labels = vote(labels, view.regions(region_map_for(one.region_map, view.source or "")))
        if one.specks == "join":
            yield join_gaps(join_parts(labels, min_area=quarter), max_area=quarter - 1)
        else:
            yield labels


def _predicted(
    view: EncodedImage, texts: PromptTexts, rivals: PromptTexts | None, variants: Sequence[SegmentationSettings]
) -> Iterator[Labels]:
    """`predict` without votes, with every speck kept."""
    first = variants[0]
    if not texts.query_to_class:  # only the background is present, and only present classes are prompted
        labels = np.full(view.image_hw, UNLABELLED, np.int32)
        yield from (labels for _ in variants)
    elif rivals is not None:
        labels, best = _best(view, texts, first)
        _, rival = _best(view, rivals, first)
        for one in variants:
            yield exclusive_labels(labels, best, rival, threshold=one.threshold, logit_scale=one.logit_scale)
    elif any(one.threshold or one.min_foreground_share for one in variants):
        yield from _protocol_labels(view, texts, variants)
    else:
        labels, _ = _best(view, texts, first)
        yield from (labels for _ in variants)


def _best(view: EncodedImage, texts: PromptTexts, settings: SegmentationSettings) -> tuple[Labels, NDArray[np.float32]]:
    """(H, W) each: the class of the best query word, and its score."""
    query, best = running_label_map(_score_chunks(view, texts, settings), view.image_hw)
    labels: Labels = np.asarray(texts.query_to_class, np.int32)[query.cpu().numpy()]
    return labels, best.cpu().numpy()


def _score_chunks(view: EncodedImage, texts: PromptTexts, settings: SegmentationSettings) -> Iterator[torch.Tensor]:
    """Scores of some query words at a time, (q, h, w): on the grid, on the canvas, or refined on the image's pixels."""
    chunks = view.chunks(texts.text, propagate=settings.propagate, resize=settings.resize)
    if settings.refine == "none":
        yield from chunks
        return
    maps = (upsample_map(one, view.image_hw) for chunk in chunks for one in chunk.cpu().numpy())
    for score_map in refined(view.image, maps, method=settings.refine, patch_pixels=view.patch_pixels):
        yield torch.from_numpy(score_map)[None]


def _protocol_labels(
    view: EncodedImage, texts: PromptTexts, variants: Sequence[SegmentationSettings]
) -> Iterator[Labels]:
    first = variants[0]
    scales = list(dict.fromkeys(one.logit_scale for one in variants))

    def label_maps(losers: frozenset[int]) -> dict[float, tuple[torch.Tensor, torch.Tensor]]:
        maps = protocol_label_maps(
            _score_chunks(view, texts, first), texts.query_to_class, view.image_hw, logit_scales=scales, losers=losers
        )
        return dict(zip(scales, maps, strict=True))

    by_scale = label_maps(frozenset())
    if first.min_foreground_share:  # a sweep, which has several variants, refuses it
        labels = by_scale[first.logit_scale][0].cpu().numpy()
        by_scale = label_maps(_small_classes(labels, texts.query_to_class, first.min_foreground_share))
    for one in variants:
        found, probability = by_scale[one.logit_scale]
        below = found.masked_fill(probability < one.threshold, 0)
        yield below.cpu().numpy()


def _small_classes(labels: Labels, classes: tuple[int, ...], share: float) -> frozenset[int]:
    """The classes other than 0 that cover no more than `share` of all pixels that are not of class 0."""
    counts = np.bincount(labels.ravel(), minlength=max(classes) + 1)
    foreground = counts[1:].sum()
    return frozenset(index for index in set(classes) - {0} if counts[index] <= share * foreground)
