"""Which class or caption fits a true box: top-1 and top-5 among class names, and FG-OVD's accuracy by difficulty."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from fgseg.evaluation.provenance import class_list_hash, hash_of
from fgseg.evaluation.rows import Row
from fgseg.evaluation.statistics import answer_accuracy, rank_of
from fgseg.evaluation.tasks.box_data import DIFFICULTIES, BoxSet, Phrased
from fgseg.evaluation.tasks.class_texts import class_texts
from fgseg.evaluation.tasks.image_list import ImageListTask
from fgseg.images.reading import read_image
from fgseg.metrics import class_accuracy, mean_of_classes
from fgseg.prompts.classes import PromptClass
from fgseg.regions.pooling import pool_boxes
from fgseg.similarity import unit

__all__ = ["BoxTask"]

_MEAN = "mean of classes"


@dataclass(frozen=True, eq=False)
class BoxTask(ImageListTask):
    """True boxes against class names or captions.

    Attributes:
        seg: the model.
        data: from `open_boxes`.
        templates: sentences around class names; captions are encoded without a template.
        resolution: resolution of the whole image, "squash" or "keep" with an optional size.
    """

    data: BoxSet
    templates: tuple[str, ...]
    resolution: str
    kind: ClassVar[str] = "boxes"

    @cached_property
    def texts(self) -> torch.Tensor:
        """(C, D) unit text of the class names.

        Raises:
            PromptError: the model does not know a word.
        """
        return class_texts(self.seg, self.data.classes, self.templates).text

    def provenance(self) -> dict[str, Any]:
        """Model, data and settings."""
        images, classes = self.data.images, self.data.classes
        # The true caption stands first, and published code takes the argmax.
        ties = "lower index first" if classes else "the true caption first"
        answers = [[image.name, image.boxes_xyxy, [str(answer) for answer in image.answers]] for image in images]
        return self.list_provenance(
            {"templates": list(self.templates), "resolution": self.resolution, "ties": ties},
            sum(len(image.answers) for image in images),
            answers_sha256=hash_of(repr(answers)),
            classes_sha256=class_list_hash(classes),
        )

    def measure(self, name: str) -> Row:
        """For each box its class, or difficulty, the rank of the right answer, and the number of its captions."""
        image = self.items[name]
        pixels = read_image(image.path)
        boxes, kept = _clipped(image.boxes_xyxy, pixels.shape[:2])
        row: Row = {"skipped": len(image.answers) - len(kept), "places": []}
        if kept:
            answers = [image.answers[index] for index in kept]
            (window,) = self.seg.encode(pixels, resolution=self.resolution).windows
            pooled = unit(pool_boxes(window.grid, boxes, (pixels.shape[0], pixels.shape[1])))
            row["places"] = [self._ranked(feature, answer) for feature, answer in zip(pooled, answers, strict=True)]
        return row

    def summary(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Accuracies with intervals, and those of guessing."""
        outside = sum(row["skipped"] for row in rows)
        figures = _by_class(rows, self.data.classes) if self.data.classes else _by_difficulty(rows)
        reasons = {**self.data.skipped, "no area in the image": outside}
        return {"n_boxes_skipped": outside, "boxes_skipped": reasons, **figures}

    def _ranked(self, feature: torch.Tensor, answer: int | Phrased) -> list[int | str]:
        """The class of a box and its rank; or the difficulty, the rank of the true caption, and their number."""
        if isinstance(answer, int):
            return [answer, _rank(self.texts, feature, answer)]
        texts = self.captions.encode(answer.texts, route="region")
        return [answer.group, _rank(texts, feature, 0), len(answer.texts)]


def _rank(texts: torch.Tensor, feature: torch.Tensor, index: int) -> int:
    return rank_of((texts @ feature).float().cpu().numpy(), index)


def _clipped(boxes_xyxy: Sequence[Sequence[float]], image_hw: tuple[int, ...]) -> tuple[NDArray[np.float32], list[int]]:
    """Boxes clipped to the image, without those that have no area left, and the indices of the others."""
    height, width = image_hw
    boxes = np.asarray(boxes_xyxy, np.float32).clip(0, np.array([width, height, width, height], np.float32))
    kept = np.flatnonzero((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
    return boxes[kept], kept.tolist()


def _by_class(rows: Sequence[Row], names: Sequence[PromptClass]) -> dict[str, Any]:
    count = len(names)
    per_image = [np.asarray(row["places"], np.int64).reshape(-1, 2) for row in rows]
    answers = [len(ranks) for ranks in per_image]
    classes, ranks = np.concatenate(per_image).T
    totals = np.bincount(classes, minlength=count)
    frequent = np.argsort(-totals, kind="stable")[:5]
    right = np.bincount(classes[ranks == 0], minlength=count)
    constant = np.where(np.arange(count) == frequent[0], totals, 0)
    recall, constant_recall = (class_accuracy(np.stack([hits, hits, totals])) for hits in (right, constant))

    def top(k: int) -> dict[str, Any]:
        return answer_accuracy([int((one[:, 1] < k).sum()) for one in per_image], answers)

    def always(k: int) -> dict[str, Any]:
        return answer_accuracy([int(np.isin(one[:, 0], frequent[:k]).sum()) for one in per_image], answers)

    guess = {f"top{k}": _exact(min(1.0, k / count)) for k in (1, 5)}
    return {
        "table": {
            "model": {"top1": top(1), "top5": top(5), _MEAN: _exact(float(mean_of_classes(recall)))},
            "most frequent class": {
                "top1": always(1), "top5": always(5), _MEAN: _exact(float(mean_of_classes(constant_recall))),
            },
            "uniform random": {**guess, _MEAN: guess["top1"]},
        },
        "classes": [
            {
                "index": i, "name": entry.name, "prompts": list(entry.synonyms),
                "boxes": int(totals[i]), "top1": float(recall[i]),
            }
            for i, entry in enumerate(names)
        ],
    }  # fmt: skip


def _exact(value: float) -> dict[str, Any]:
    """A figure without an interval."""
    return {"value": value, "interval": None}


def _by_difficulty(rows: Sequence[Row]) -> dict[str, Any]:
    found = {group for row in rows for group, _, _ in row["places"]}
    groups = [*(group for group in DIFFICULTIES if group in found), *sorted(found - set(DIFFICULTIES))]
    model, guess = {}, {}
    for group in groups:
        per_image = [[(rank, count) for other, rank, count in row["places"] if other == group] for row in rows]
        right = [sum(rank == 0 for rank, _ in ranks) for ranks in per_image]
        model[group] = answer_accuracy(right, [len(ranks) for ranks in per_image])
        guess[group] = _exact(float(np.mean([1 / count for ranks in per_image for _, count in ranks])))
    return {"table": {"model": model, "uniform random": guess}}
