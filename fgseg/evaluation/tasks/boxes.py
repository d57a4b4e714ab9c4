"""Which class or caption fits a true box: top-1 and top-5 among class names, and FG-OVD's accuracy by difficulty."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from fgseg.encoders.text_features import StoredTexts
from fgseg.evaluation.provenance import class_list_hash, file_list_hash, hash_of, model_provenance
from fgseg.evaluation.rows import Row
from fgseg.evaluation.statistics import answer_accuracy, rank_of
from fgseg.evaluation.tasks.box_data import DIFFICULTIES, BoxImage, BoxSet, Phrased
from fgseg.evaluation.tasks.class_texts import class_texts
from fgseg.images.reading import read_image
from fgseg.regions.pooling import box_features
from fgseg.segmenter import Segmenter
from fgseg.similarity import unit

__all__ = ["BoxTask"]


@dataclass(frozen=True, eq=False)
class BoxTask:
    """True boxes against class names or captions.

    Attributes:
        seg: the model.
        boxes: from `open_boxes`.
        templates: sentences around class names; captions are encoded without a template.
        resolution: resolution of the whole image, "squash" or "keep" with an optional size.
    """

    seg: Segmenter
    boxes: BoxSet
    templates: tuple[str, ...]
    resolution: str
    kind: ClassVar[str] = "boxes"

    @cached_property
    def items(self) -> dict[str, BoxImage]:
        """The images by name."""
        return {image.name: image for image in self.boxes.images}

    @cached_property
    def texts(self) -> torch.Tensor:
        """(C, D) unit text of the class names.

        Raises:
            PromptError: the model does not know a word.
        """
        return class_texts(self.seg, self.boxes.classes, self.templates).text

    @cached_property
    def captions(self) -> StoredTexts:
        """The text cache of the captions."""
        return StoredTexts(self.seg.encoder)

    def provenance(self) -> dict[str, Any]:
        """Model, data and settings."""
        boxes = self.boxes
        # The true caption stands first, and published code takes the argmax.
        ties = "lower index first" if boxes.classes else "the true caption first"
        answers = [[image.name, image.boxes_xyxy, [str(answer) for answer in image.answers]] for image in boxes.images]
        return {
            "model": model_provenance(self.seg.encoder),
            "data": {
                "name": boxes.name,
                "images": len(boxes.images),
                "full_size": boxes.full_size,
                "boxes": sum(len(image.answers) for image in boxes.images),
                "list_sha256": file_list_hash([image.path for image in boxes.images], boxes.root),
                "answers_sha256": hash_of(repr(answers)),
                "classes_sha256": class_list_hash(boxes.classes),
            },
            "settings": {"templates": list(self.templates), "resolution": self.resolution, "ties": ties},
        }

    def files(self, name: str) -> list[Path]:
        """The image."""
        return [self.items[name].path]

    def measure(self, name: str) -> Row:
        """For each box its class, or difficulty, the rank of the right answer, and the number of its captions."""
        image = self.items[name]
        pixels = read_image(image.path)
        boxes, kept = _clipped(image.boxes_xyxy, pixels.shape[:2])
        row: Row = {"skipped": len(image.answers) - len(kept), "places": []}
        if kept:
            answers = [image.answers[index] for index in kept]
            pooled = _pooled(self.seg, pixels, boxes, self.resolution)
            row["places"] = [self._ranked(feature, answer) for feature, answer in zip(pooled, answers, strict=True)]
        return row

    def summary(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Accuracies with intervals, and those of guessing."""
        skipped = sum(row["skipped"] for row in rows)
        figures = _by_class(rows, self.boxes) if self.boxes.classes else _by_difficulty(rows)
        return {"n_boxes_skipped": skipped, **figures}

    def _ranked(self, feature: torch.Tensor, answer: int | Phrased) -> list[int | str]:
        """The class of a box and its rank; or the difficulty, the rank of the true caption, and their number."""
        if isinstance(answer, int):
            return [answer, _rank(self.texts, feature, answer)]
        texts = self.captions.encode(answer.texts, route="region")
        return [answer.group, _rank(texts, feature, 0), len(answer.texts)]


def _rank(texts: torch.Tensor, feature: torch.Tensor, index: int) -> int:
    return rank_of((texts @ feature).float().cpu().numpy(), index)


def _pooled(
    seg: Segmenter, pixels: NDArray[np.uint8], boxes_xyxy: NDArray[np.float32], resolution: str
) -> torch.Tensor:
    """(N, D) unit features of boxes, pooled as by `Segmenter.score_boxes`."""
    grid = seg.encode(pixels, resolution=resolution).windows[0].grid
    height, width = pixels.shape[:2]
    scale = torch.tensor([grid.shape[1] / width, grid.shape[0] / height] * 2, device=grid.device)
    return unit(box_features(grid, torch.from_numpy(boxes_xyxy).to(grid.device) * scale))


def _clipped(boxes_xyxy: Sequence[Sequence[float]], image_hw: tuple[int, ...]) -> tuple[NDArray[np.float32], list[int]]:
    """Boxes clipped to the image, without those that have no area left, and the indices of the others."""
    height, width = image_hw
    boxes = np.asarray(boxes_xyxy, np.float32).clip(0, np.array([width, height, width, height], np.float32))
    kept = np.flatnonzero((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
    return boxes[kept], kept.tolist()


def _by_class(rows: Sequence[Row], boxes: BoxSet) -> dict[str, Any]:
    count = len(boxes.classes)
    per_image = [np.asarray(row["places"], np.int64).reshape(-1, 2) for row in rows]
    answers = [len(ranks) for ranks in per_image]
    classes, ranks = np.concatenate(per_image).T
    totals = np.bincount(classes, minlength=count)
    frequent = np.argsort(-totals, kind="stable")[:5]
    right = np.bincount(classes[ranks == 0], minlength=count)

    def top(k: int) -> dict[str, Any]:
        return answer_accuracy([int((one[:, 1] < k).sum()) for one in per_image], answers)

    def always(k: int) -> dict[str, Any]:
        return answer_accuracy([int(np.isin(one[:, 0], frequent[:k]).sum()) for one in per_image], answers)

    per_class = [
        {"index": i, "name": entry.name, "prompts": list(entry.synonyms), "boxes": int(totals[i]),
         "top1": float(right[i] / totals[i]) if totals[i] else float("nan")}
        for i, entry in enumerate(boxes.classes)
    ]  # fmt: skip
    found = right[totals > 0] / totals[totals > 0]
    # Without any box that has an area left there is no class to take the mean over.
    mean, constant = (float(found.mean()), 1 / len(found)) if len(found) else (float("nan"), float("nan"))
    guess = {f"top{k}": _exact(min(1.0, k / count)) for k in (1, 5)}
    return {
        "table": {
            "model": {"top1": top(1), "top5": top(5), "mean of classes": _exact(mean)},
            "most frequent class": {"top1": always(1), "top5": always(5), "mean of classes": _exact(constant)},
            "uniform random": {**guess, "mean of classes": guess["top1"]},
        },
        "classes": per_class,
    }


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
