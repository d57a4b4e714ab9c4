"""Which class or phrase fits a true box: top-1 and top-5 among class names, FG-OVD's accuracy by difficulty."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fgseg.encoders.text_features import StoredTexts
from fgseg.evaluation.provenance import class_list_hash, file_faults, file_list_hash, hash_of, model_identity
from fgseg.evaluation.statistics import place_of, share
from fgseg.evaluation.tasks.box_data import DIFFICULTIES, BoxImage, BoxSet, Phrased
from fgseg.evaluation.tasks.class_texts import ClassWords, class_words
from fgseg.images.reading import read_image
from fgseg.regions.pooling import box_features
from fgseg.segmenter import Segmenter
from fgseg.similarity import unit

__all__ = ["BoxTask", "box_faults"]

Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class BoxTask:
    """True boxes against class names or captions.

    Attributes:
        seg: the model.
        boxes: from `open_boxes`.
        templates: sentences around class names; captions are taken as they are.
        resolution: of the whole image, "squash" or "keep" with an optional size.
    """

    seg: Segmenter
    boxes: BoxSet
    templates: tuple[str, ...]
    resolution: str

    @property
    def kind(self) -> str:
        """What is measured."""
        return "boxes"

    @cached_property
    def images(self) -> dict[str, BoxImage]:
        """The images by name."""
        return {image.name: image for image in self.boxes.images}

    @property
    def names(self) -> Sequence[str]:
        """Names of the images, in order."""
        return list(self.images)

    @cached_property
    def words(self) -> ClassWords:
        """The features of the class names.

        Raises:
            PromptError: a word the model does not know.
        """
        return class_words(self.seg.encoder, self.boxes.classes, self.templates)

    @cached_property
    def texts(self) -> StoredTexts:
        """Captions through the cache; one for the task, since it checks the weights it belongs to."""
        return StoredTexts(self.seg.encoder)

    def identity(self) -> dict[str, Any]:
        """Model, data and settings."""
        boxes = self.boxes
        # The true caption stands first, as where the field takes the argmax.
        ties = "lower index first" if boxes.classes else "the true caption first"
        answers = [[image.name, image.boxes_xyxy, [str(answer) for answer in image.answers]] for image in boxes.images]
        return {
            "model": model_identity(self.seg.encoder),
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
        return [self.images[name].path]

    def measure(self, name: str) -> Row:
        """Per box its class or difficulty, how many answers came before the right one, and of captions their number."""
        image = self.images[name]
        pixels = read_image(image.path)
        boxes, kept = _within(image.boxes_xyxy, pixels.shape[:2])
        answers = [image.answers[index] for index in kept]
        row: Row = {"skipped": len(image.answers) - len(kept), "places": []}
        if kept:
            pooled = _pooled(self.seg, pixels, boxes, self.resolution)
            row["places"] = [self._placed(feature, answer) for feature, answer in zip(pooled, answers, strict=True)]
        return row

    def summary(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Shares with intervals, and what guessing gives."""
        skipped = sum(row["skipped"] for row in rows)
        made = _by_class(rows, self.boxes) if self.boxes.classes else _by_difficulty(rows)
        return {"n_boxes_skipped": skipped, **made}

    def _placed(self, feature: torch.Tensor, answer: int | Phrased) -> list[int | str]:
        """The class of a box and how many came before it; or its difficulty, the same, and how many captions it has."""
        if isinstance(answer, Phrased):
            text = self.texts.encode(answer.texts, route="region")
            place = place_of((text @ feature).float().cpu().numpy(), 0)
            return [answer.group, place, len(answer.texts)]
        return [answer, place_of((self.words.text @ feature).float().cpu().numpy(), answer)]


def box_faults(boxes: BoxSet) -> tuple[str, ...]:
    """What is wrong with the image files, found by their headers; a line a fault."""
    if not boxes.images:
        return (f"{boxes.name}: expected images with boxes, got none; check the file",)
    return file_faults([image.path for image in boxes.images])


def _pooled(
    seg: Segmenter, pixels: NDArray[np.uint8], boxes_xyxy: NDArray[np.float32], resolution: str
) -> torch.Tensor:
    """(N, D) unit features of boxes, as `Segmenter.score_boxes` pools them."""
    grid = seg.encode(pixels, resolution=resolution).windows[0].grid
    height, width = pixels.shape[:2]
    scale = torch.tensor([grid.shape[1] / width, grid.shape[0] / height] * 2, device=grid.device)
    return unit(box_features(grid, torch.from_numpy(boxes_xyxy).to(grid.device) * scale))


def _within(boxes_xyxy: Sequence[Sequence[float]], image_hw: tuple[int, ...]) -> tuple[NDArray[np.float32], list[int]]:
    """Boxes cut at the image's border, and which of them have an area left."""
    height, width = image_hw
    boxes = np.asarray(boxes_xyxy, np.float32).clip(0, np.array([width, height, width, height], np.float32))
    kept = np.flatnonzero((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))
    return boxes[kept], kept.tolist()


def _by_class(rows: Sequence[Row], boxes: BoxSet) -> dict[str, Any]:
    count = len(boxes.classes)
    places = [np.asarray(row["places"], np.int64).reshape(-1, 2) for row in rows]
    asked = [len(mine) for mine in places]
    every = np.concatenate(places)
    totals = np.bincount(every[:, 0], minlength=count)
    frequent = np.argsort(-totals, kind="stable")[:5]

    def top(k: int) -> dict[str, Any]:
        return share([int((mine[:, 1] < k).sum()) for mine in places], asked)

    def always(k: int) -> dict[str, Any]:
        return share([int(np.isin(mine[:, 0], frequent[:k]).sum()) for mine in places], asked)

    right = np.bincount(every[every[:, 1] == 0, 0], minlength=count)
    per_class = [
        {"index": i, "name": entry.name, "prompts": list(entry.synonyms), "boxes": int(totals[i]),
         "top1": float(right[i] / totals[i]) if totals[i] else float("nan")}
        for i, entry in enumerate(boxes.classes)
    ]  # fmt: skip
    found = right[totals > 0] / totals[totals > 0]
    # Without a box that has an area left there is no class to take the mean over.
    mean, constant = (float(found.mean()), 1 / len(found)) if len(found) else (float("nan"), float("nan"))
    guess = {f"top{k}": {"value": min(1.0, k / count), "interval": None} for k in (1, 5)}
    return {
        "table": {
            "model": {"top1": top(1), "top5": top(5), "mean of classes": {"value": mean, "interval": None}},
            "most frequent class": {
                "top1": always(1), "top5": always(5),
                "mean of classes": {"value": constant, "interval": None},
            },
            "uniform random": {**guess, "mean of classes": guess["top1"]},
        },
        "classes": per_class,
    }  # fmt: skip


def _by_difficulty(rows: Sequence[Row]) -> dict[str, Any]:
    found = {group for row in rows for group, _, _ in row["places"]}
    groups = [*(group for group in DIFFICULTIES if group in found), *sorted(found - set(DIFFICULTIES))]
    model, guess = {}, {}
    for group in groups:
        mine = [[(place, count) for where, place, count in row["places"] if where == group] for row in rows]
        model[group] = share([sum(place == 0 for place, _ in one) for one in mine], [len(one) for one in mine])
        chances = [1 / count for one in mine for _, count in one]
        guess[group] = {"value": float(np.mean(chances)), "interval": None}
    return {"table": {"model": model, "uniform random": guess}}
