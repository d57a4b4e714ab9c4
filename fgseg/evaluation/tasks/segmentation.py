"""Segmentation of labelled images: prediction, counts, figures."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgseg.datasets.dataset import Dataset, LabelledImage
from fgseg.errors import DatasetError, PromptError
from fgseg.evaluation.provenance import data_identity, hash_of, model_identity
from fgseg.evaluation.statistics import bootstrap, figures, image_row, tallies, total_confusion
from fgseg.evaluation.tasks.class_texts import ClassWords, class_words, explained
from fgseg.evaluation.tasks.prediction import encode, predict
from fgseg.evaluation.tasks.settings import SegmentationSettings
from fgseg.metrics import boundary_iou
from fgseg.prompts.classes import PromptClass
from fgseg.segmentation.encoded_image import EncodedImage
from fgseg.segmenter import Segmenter

__all__ = ["SegmentationTask", "Words", "prepared_words", "prompted_classes"]

Row = dict[str, Any]
_HASH_LETTERS = 16


@dataclass(frozen=True, eq=False)
class Words:
    """The classes that compete, and in the "presence" decision what they compete with."""

    classes: ClassWords
    rivals: ClassWords | None


@dataclass(frozen=True, eq=False)
class SegmentationTask:
    """How well a model under some settings segments a data set.

    Attributes:
        seg: the model.
        dataset: the labelled images.
        settings: from `settings_for`.
    """

    seg: Segmenter
    dataset: Dataset
    settings: SegmentationSettings

    @property
    def kind(self) -> str:
        """What is measured."""
        return "segmentation"

    @cached_property
    def items(self) -> dict[str, LabelledImage]:
        """The images by name."""
        return {item.name: item for item in self.dataset.items}

    @property
    def names(self) -> Sequence[str]:
        """Names of the images, in order."""
        return list(self.items)

    @cached_property
    def words(self) -> Words:
        """The features of all words.

        Raises:
            PromptError: a word the model does not know.
        """
        return prepared_words(self.seg, self.dataset, self.settings)

    def identity(self) -> dict[str, Any]:
        """Model, data and settings."""
        return {
            "model": model_identity(self.seg.encoder),
            "data": data_identity(self.dataset),
            "settings": self.settings.to_dict(),
        }

    def prediction(self, name: str) -> tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.int32]]:
        """The image, its true labels and the predicted ones, UNLABELLED where nothing wins.

        Raises:
            ImageError, DatasetError: a file that cannot be read.
        """
        item = self.items[name]
        pixels, truth = item.read_image(), item.read_labels()
        if pixels.shape[:2] != truth.shape:
            raise DatasetError(
                f"{item.label_path}: expected labels of the image's size, {pixels.shape[:2]}, got {truth.shape}"
            )
        prompted = prompted_classes(truth, self.dataset, self.settings)
        view = encode(self.seg, pixels, self.settings)
        return pixels, truth, self.labels(view, prompted)

    def labels(self, view: EncodedImage, prompted: Sequence[int]) -> NDArray[np.int32]:
        """(H, W) classes of an encoded image among those prompted."""
        classes = self.words.classes
        if len(prompted) < len(self.dataset.classes):
            classes = classes.of(prompted)
        labels = predict(view, classes, self.settings, self.words.rivals)
        if self.settings.decision == "presence" and self.dataset.has_background:
            return np.where(labels < 0, np.int32(0), labels)
        return labels

    def files(self, name: str) -> list[Path]:
        """Image and labels."""
        return [self.items[name].image_path, self.items[name].label_path]

    def measure(self, name: str) -> Row:
        """Sparse counts of one image."""
        pixels, truth, labels = self.prediction(name)
        prompted = prompted_classes(truth, self.dataset, self.settings)
        counts = image_row(
            labels,
            truth,
            num_classes=len(self.dataset.classes),
            ignore=self.dataset.ignore,
            name=name,
            prompted=prompted,
        )
        return {"hw": list(truth.shape), "content": _content_hash(pixels, truth), **counts}

    def summary(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Figures, intervals, baselines and classes, over the rows."""
        count = len(self.dataset.classes)
        made = tallies(rows, count, prompts=self.settings.prompts, has_background=self.dataset.has_background)
        table = {"model": made.model, **made.baselines}
        sums = made.model.sum(0)
        return {
            "content_sha256": hash_of("".join(row["content"] for row in rows)),
            "table": {name: _figures_of(tally) for name, tally in table.items()},
            "classes": _per_class(sums, self.dataset.classes),
            "confusion": _nonzero(total_confusion(rows, count)),
        }


def prepared_words(seg: Segmenter, dataset: Dataset, settings: SegmentationSettings) -> Words:
    """The features of the words that a run needs.

    Raises:
        PromptError: a word the model does not know; the message says what else it has words for.
    """
    classes = settings.classes(dataset)
    has_rivals = settings.decision == "presence"
    try:
        words = class_words(seg.encoder, classes, settings.templates)
    except PromptError as error:
        raise explained(seg.encoder, dataset, settings.templates, error) from error
    if not has_rivals:
        return Words(words, None)
    looked_for = range(1 if dataset.has_background else 0, len(classes))
    background = (PromptClass("background", settings.background),)
    return Words(words.of(looked_for), class_words(seg.encoder, background, settings.templates))


def prompted_classes(truth: NDArray[np.int32], dataset: Dataset, settings: SegmentationSettings) -> list[int]:
    """The classes that compete in an image: all, or the background and those present in it."""
    count = len(dataset.classes)
    if settings.prompts == "all":
        return list(range(count))
    present = {int(index) for index in np.unique(truth) if 0 <= index < count}
    if dataset.has_background:
        present.add(0)
    return sorted(present) or list(range(count))  # an image without a counted pixel counts nothing


def _nonzero(counts: NDArray[np.int64]) -> list[list[int]]:
    """[true class, given class, pixels] of every pair that occurs; given C is no class."""
    rows, columns = np.nonzero(counts)
    return [[int(row), int(column), int(counts[row, column])] for row, column in zip(rows, columns, strict=True)]


def _content_hash(pixels: NDArray[np.uint8], truth: NDArray[np.int32]) -> str:
    total = hashlib.sha256(np.ascontiguousarray(pixels).data)
    total.update(np.ascontiguousarray(truth, "<i4").data)
    return total.hexdigest()[:_HASH_LETTERS]


def _figures_of(tally: NDArray[np.int64]) -> dict[str, Any]:
    values, intervals = figures(tally.sum(0)), bootstrap(tally)
    return {name: {"value": float(value), "interval": list(intervals[name])} for name, value in values.items()}


def _per_class(sums: NDArray[np.int64], classes: Sequence[PromptClass]) -> list[dict[str, Any]]:
    right, given, true = sums[:3]
    union = given + true - right
    edges = boundary_iou(sums[3:])
    return [
        {
            "index": index,
            "name": entry.name,
            "prompts": list(entry.synonyms),
            "iou": float(right[index] / union[index]) if union[index] else float("nan"),
            "accuracy": float(right[index] / true[index]) if true[index] else float("nan"),
            "boundary_iou": float(edges[index]),
            "right_pixels": int(right[index]),
            "predicted_pixels": int(given[index]),
            "true_pixels": int(true[index]),
        }
        for index, entry in enumerate(classes)
    ]
