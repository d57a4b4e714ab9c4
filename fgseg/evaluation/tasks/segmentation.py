"""Segmentation of labelled images: predictions, pixel counts and figures."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fgseg.datasets.dataset import Dataset, LabelledImage
from fgseg.errors import DatasetError, PromptError
from fgseg.evaluation.provenance import data_provenance, hash_of, model_provenance
from fgseg.evaluation.rows import Row
from fgseg.evaluation.statistics import bootstrap, figures, image_row, pixel_counts, total_confusion
from fgseg.evaluation.tasks.class_texts import class_texts, explained
from fgseg.evaluation.tasks.prediction import encode, predict
from fgseg.evaluation.tasks.settings import SegmentationSettings
from fgseg.guides.region_maps import is_computed, region_map_for
from fgseg.metrics import class_accuracy, class_iou
from fgseg.prompts.classes import PromptClass
from fgseg.segmentation.encoded_image import EncodedImage
from fgseg.segmentation.prompt_encoder import PromptTexts
from fgseg.segmenter import Segmenter

__all__ = ["LabelledImagesTask", "SegmentationTask"]

_HASH_LETTERS = 16


@dataclass(frozen=True, eq=False)
class LabelledImagesTask:
    """The common part of tasks on labelled images.

    Attributes:
        seg: the model.
        dataset: the labelled images.
        settings: from `settings_for`.
    """

    seg: Segmenter
    dataset: Dataset
    settings: SegmentationSettings

    @cached_property
    def items(self) -> dict[str, LabelledImage]:
        """The images by name."""
        return {item.name: item for item in self.dataset.items}

    @cached_property
    def texts(self) -> PromptTexts:
        """Unit text of the query words of the classes that may win a pixel.

        Raises:
            PromptError: the model does not know a word; the message says what else it has words for.
        """
        classes, templates = self.settings.classes(self.dataset), self.settings.templates
        try:
            texts = class_texts(self.seg, classes, templates)
        except PromptError as error:
            raise explained(self.seg, self.dataset, templates, error) from error
        return texts.select(range(1, len(classes))) if self._background_is_what_is_left else texts

    @cached_property
    def rivals(self) -> PromptTexts | None:
        """Unit text of the background words of the "presence" decision; None for the "protocol" decision.

        Raises:
            PromptError: the model does not know a word.
        """
        if self.settings.decision != "presence":
            return None
        background = (PromptClass("background", self.settings.background),)
        return class_texts(self.seg, background, self.settings.templates)

    @property
    def _background_is_what_is_left(self) -> bool:
        """Whether the pixels without a present class become class 0."""
        return self.settings.decision == "presence" and self.dataset.has_background

    def provenance(self) -> dict[str, Any]:
        """Model, data and settings."""
        return {
            "model": model_provenance(self.seg.encoder),
            "data": data_provenance(self.dataset),
            "settings": self.settings.to_dict(),
        }

    def files(self, name: str) -> list[Path]:
        """The image, its labels, and the map of its regions if it has a file."""
        item, region_map = self.items[name], self.settings.region_map
        is_folder = region_map != "none" and not is_computed(region_map)
        regions = [Path(region_map_for(region_map, str(item.image_path)))] if is_folder else []
        return [item.image_path, item.label_path, *regions]

    def read(self, name: str) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """The image and its true labels.

        Raises:
            ImageError, DatasetError: a file cannot be read, or the two differ in size.
        """
        item = self.items[name]
        pixels, label_hw = item.read_image(), item.source.image_hw()
        if pixels.shape[:2] != label_hw:  # before labels of a size that a file only claims are made
            raise DatasetError(
                f"{item.label_path}: expected labels of the image's size, {pixels.shape[:2]}, got {label_hw}"
            )
        return pixels, item.read_labels()

    def prompted(self, truth: NDArray[np.int32]) -> list[int]:
        """The classes that compete in an image: all, or the background and those present in it."""
        count = len(self.dataset.classes)
        if self.settings.prompts == "all":
            return list(range(count))
        present = {int(index) for index in np.unique(truth) if 0 <= index < count}
        if self.dataset.has_background:
            present.add(0)
        return sorted(present) or list(range(count))  # no pixel of such an image counts

    def labels(
        self, view: EncodedImage, prompted: Sequence[int], variants: Sequence[SegmentationSettings]
    ) -> Iterator[NDArray[np.int32]]:
        """(H, W) class indices of an encoded image among the prompted classes, under each of several settings."""
        for labels in predict(view, self.texts.select(prompted), self.rivals, variants):
            yield np.where(labels < 0, np.int32(0), labels) if self._background_is_what_is_left else labels


@dataclass(frozen=True, eq=False)
class SegmentationTask(LabelledImagesTask):
    """How well a model segments a data set under some settings; attributes as `LabelledImagesTask`."""

    kind: ClassVar[str] = "segmentation"

    def prediction(self, name: str) -> tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.int32]]:
        """The image, its true labels and the predicted ones, UNLABELLED where no class is found.

        Raises:
            ImageError, DatasetError: as `read`.
        """
        pixels, truth = self.read(name)
        view = encode(self.seg, pixels, self.settings, source=str(self.items[name].image_path))
        (labels,) = self.labels(view, self.prompted(truth), [self.settings])
        return pixels, truth, labels

    def measure(self, name: str) -> Row:
        """Sparse counts of one image."""
        pixels, truth, labels = self.prediction(name)
        counts = image_row(
            labels,
            truth,
            num_classes=len(self.dataset.classes),
            ignore=self.dataset.ignore,
            name=name,
            prompted=self.prompted(truth),
        )
        return {"hw": list(truth.shape), "content": _content_hash(pixels, truth), **counts}

    def summary(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Figures, intervals, baselines and classes over the rows."""
        count = len(self.dataset.classes)
        table = pixel_counts(rows, count, prompts=self.settings.prompts, has_background=self.dataset.has_background)
        confusion = total_confusion(rows, count)
        pairs = np.argwhere(confusion).tolist()
        return {
            "content_sha256": hash_of("".join(row["content"] for row in rows)),
            "table": {name: _table_row(per_image) for name, per_image in table.items()},
            "classes": _per_class(table["model"].sum(0), self.dataset.classes),
            # [true class, given class, pixels]; the given class C is no class
            "confusion": [[true, given, int(confusion[true, given])] for true, given in pairs],
        }


def _content_hash(pixels: NDArray[np.uint8], truth: NDArray[np.int32]) -> str:
    total = hashlib.sha256(np.ascontiguousarray(pixels).data)
    total.update(np.ascontiguousarray(truth, "<i4").data)
    return total.hexdigest()[:_HASH_LETTERS]


def _table_row(per_image: NDArray[np.int64]) -> dict[str, Any]:
    values, intervals = figures(per_image.sum(0)), bootstrap(per_image)
    return {name: {"value": float(value), "interval": list(intervals[name])} for name, value in values.items()}


def _per_class(sums: NDArray[np.int64], classes: Sequence[PromptClass]) -> list[dict[str, Any]]:
    right, predicted, true = sums[:3].tolist()
    iou, accuracy, boundary_iou = (
        values.tolist() for values in (class_iou(sums[:3]), class_accuracy(sums[:3]), class_iou(sums[3:]))
    )
    return [
        {
            "index": index,
            "name": entry.name,
            "prompts": list(entry.synonyms),
            "iou": iou[index],
            "accuracy": accuracy[index],
            "boundary_iou": boundary_iou[index],
            "right_pixels": right[index],
            "predicted_pixels": predicted[index],
            "true_pixels": true[index],
        }
        for index, entry in enumerate(classes)
    ]
