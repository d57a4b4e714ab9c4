"""From an image to class labels under the settings of a run."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from fgseg.evaluation.tasks.class_texts import ClassWords
from fgseg.evaluation.tasks.protocol import protocol_label_map
from fgseg.evaluation.tasks.settings import SegmentationSettings
from fgseg.images.resizing import resize_image
from fgseg.scoring.presence import exclusive_labels
from fgseg.scoring.refine import refined
from fgseg.scoring.resolution import Resolution, short_side_hw
from fgseg.scoring.windows import crops, stitch_chunks, window_boxes
from fgseg.segmentation.encoded_image import EncodedImage
from fgseg.segmenter import Segmenter
from fgseg.similarity import patch_scores
from fgseg.types import UNLABELLED
from fgseg.upsample.labels import running_label_map
from fgseg.upsample.maps import upsample_map

__all__ = ["Contest", "contest", "encode", "owners", "predict", "score_chunks"]


def encode(seg: Segmenter, pixels: NDArray[np.uint8], settings: SegmentationSettings) -> EncodedImage:
    """An image's features: as the field's code resizes and cuts it, or as `Segmenter.encode` does."""
    if settings.resize == "area":
        return seg.encode(pixels, resolution=settings.resolution)
    sizes = settings.resolution
    height, width = canvas_hw = short_side_hw(pixels.shape[:2], _side(sizes), sizes.max_side)
    boxes: tuple[tuple[int, int, int, int], ...] = ((0, 0, width, height),)
    if sizes.crop is not None and sizes.stride is not None:
        boxes = window_boxes(canvas_hw, crop=sizes.crop, stride=sizes.stride)
    canvas = resize_image(pixels, canvas_hw, antialias=False)
    windows = seg.encoder.encode_images(crops(canvas, boxes), fit="exact")
    identity = (seg.encoder.name, seg.encoder.revision, seg.encoder.recipe)
    return EncodedImage(pixels, tuple(windows), boxes, canvas_hw, sizes, *identity)


def predict(
    view: EncodedImage, words: ClassWords, settings: SegmentationSettings, rivals: ClassWords | None = None
) -> NDArray[np.int32]:
    """(H, W) int32 class of each pixel, UNLABELLED where the "presence" decision finds none.

    Args:
        view: what `encode` made.
        words: the classes that compete.
        settings: the run's.
        rivals: the background words of the "presence" decision.
    """
    if not words.query_to_class:  # the background alone is there, and nothing else was prompted
        return np.full(view.image_hw, UNLABELLED, np.int32)
    if settings.decision == "presence":
        assert rivals is not None
        return contest(view, words, rivals, settings).labels(settings.threshold, settings.logit_scale)
    if not (settings.threshold or settings.min_foreground_share):
        winner, _ = running_label_map(score_chunks(view, words, settings), view.image_hw)
        return owners(words, winner)
    return _protocol_labels(view, words, settings)


def owners(words: ClassWords, winner: torch.Tensor) -> NDArray[np.int32]:
    """(H, W) int32 class of the winning query word of each pixel."""
    classes: NDArray[np.int32] = np.asarray(words.query_to_class, np.int32)[winner.cpu().numpy()]
    return classes


class Contest:
    """Who wins each pixel among the classes, its score, and the best rival's: all that a presence needs.

    Attributes: `winner` (H, W) int32 class, `best` and `rival` (H, W) float32 cosines.
    """

    def __init__(self, winner: NDArray[np.int32], best: NDArray[np.float32], rival: NDArray[np.float32]) -> None:
        self.winner, self.best, self.rival = winner, best, rival

    def labels(self, threshold: float, logit_scale: float) -> NDArray[np.int32]:
        """(H, W) int32 classes, UNLABELLED where the winner is not present enough."""
        return exclusive_labels(self.winner, self.best, self.rival, threshold=threshold, logit_scale=logit_scale)


def contest(view: EncodedImage, words: ClassWords, rivals: ClassWords, settings: SegmentationSettings) -> Contest:
    """Compare classes with each other and with the rivals, once for every threshold and scale."""
    winner, best = running_label_map(score_chunks(view, words, settings), view.image_hw)
    _, rival = running_label_map(score_chunks(view, rivals, settings), view.image_hw)
    return Contest(owners(words, winner), best.cpu().numpy(), rival.cpu().numpy())


def score_chunks(view: EncodedImage, words: ClassWords, settings: SegmentationSettings) -> Iterator[torch.Tensor]:
    """Scores of the query words in runs (q, h, w): on the grid, on the canvas, or refined on the image's pixels."""
    chunks: Iterable[torch.Tensor] = view.chunks(words.text)
    if settings.resize == "published":  # upsampled to the window and again to the image, even where there is one window
        scores = [patch_scores(window, words.text) for window in view.windows]
        chunks = stitch_chunks(scores, view.boxes_xyxy, view.canvas_hw)
    if settings.refine == "none":
        yield from chunks
        return
    maps = (upsample_map(one, view.image_hw) for chunk in chunks for one in chunk.cpu().numpy())
    patch_pixels = max(view.image_hw) / max(view.grid_hw)
    for score_map in refined(view.image, maps, method=settings.refine, patch_pixels=patch_pixels):
        yield torch.from_numpy(score_map)[None]


def _protocol_labels(view: EncodedImage, words: ClassWords, settings: SegmentationSettings) -> NDArray[np.int32]:
    def labels(losers: frozenset[int], threshold: float) -> NDArray[np.int32]:
        found, _ = protocol_label_map(
            score_chunks(view, words, settings),
            words.query_to_class,
            view.image_hw,
            logit_scale=settings.logit_scale,
            prob_threshold=threshold,
            losers=losers,
        )
        array: NDArray[np.int32] = found.cpu().numpy()
        return array

    losers: frozenset[int] = frozenset()
    if settings.min_foreground_share:
        losers = _small_classes(labels(losers, 0.0), words.query_to_class, settings.min_foreground_share)
    return labels(losers, settings.threshold)


def _small_classes(labels: NDArray[np.int32], classes: tuple[int, ...], share: float) -> frozenset[int]:
    """The classes other than 0 that cover no more than `share` of all pixels that 0 does not have."""
    counts = np.bincount(labels[labels != UNLABELLED], minlength=max(classes) + 1)
    foreground = counts[1:].sum()
    return frozenset(index for index in set(classes) - {0} if counts[index] <= share * foreground)


def _side(sizes: Resolution) -> int:
    assert sizes.short_side is not None  # a preset gives it
    return sizes.short_side
