"""Many settings on the same images, each image encoded once a recipe and resolution; the best is chosen by mIoU."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fgseg.datasets.dataset import Dataset, LabelledImage
from fgseg.encoders.encoder import ClipEncoder
from fgseg.encoders.networks.clip import RECIPES, Recipe
from fgseg.errors import OptionError
from fgseg.evaluation.provenance import data_identity, model_identity
from fgseg.evaluation.statistics import bootstrap, figures
from fgseg.evaluation.tasks.class_texts import ClassWords
from fgseg.evaluation.tasks.prediction import contest, encode, owners, score_chunks
from fgseg.evaluation.tasks.protocol import protocol_label_maps
from fgseg.evaluation.tasks.segmentation import Words, prepared_words, prompted_classes
from fgseg.evaluation.tasks.settings import SegmentationSettings, deviations_of
from fgseg.metrics import confusion
from fgseg.scoring.resolution import Resolution, parse_resolution
from fgseg.segmentation.encoded_image import EncodedImage
from fgseg.segmenter import Segmenter
from fgseg.types import UNLABELLED
from fgseg.upsample.labels import running_label_map

__all__ = ["Grid", "SweepTask", "with_recipe"]

Row = dict[str, Any]
Labels = NDArray[np.int32]
Group = tuple[str | None, str, str | None]  # recipe, resolution, refinement


@dataclass(frozen=True)
class Grid:
    """The values to try of each setting, at least one each; every combination is measured.

    Attributes:
        recipes: dense recipes; None keeps the model's own.
        resolutions: as `Segmenter.encode` takes them, "auto" the settings' own.
        refinements: of `fgseg.scoring.refine.REFINEMENTS`; None keeps the settings' own.
        logit_scales: factors on scores.
        thresholds: least probability or presence.
    """

    recipes: tuple[str | None, ...] = (None,)
    resolutions: tuple[str, ...] = ("auto",)
    refinements: tuple[str | None, ...] = (None,)
    logit_scales: tuple[float | None, ...] = (None,)
    thresholds: tuple[float | None, ...] = (None,)

    def __post_init__(self) -> None:
        for field in fields(self):
            values = getattr(self, field.name)
            if not values or len(set(values)) < len(values):
                raise OptionError(f"{field.name}: expected one value or more, each once, got {values!r:.200}")


@dataclass(frozen=True, eq=False)
class SweepTask:
    """Every combination of a grid on one data set.

    Attributes:
        seg: the model.
        dataset: the labelled images to choose on; report figures of others.
        settings: what the grid does not vary.
        grid: what it does.
    """

    seg: Segmenter
    dataset: Dataset
    settings: SegmentationSettings
    grid: Grid

    def __post_init__(self) -> None:
        is_argmax = self.settings.decision == "protocol" and not self.dataset.has_background
        varied = {"threshold": any(self.grid.thresholds), "scale": len(self.grid.logit_scales) > 1}
        for name, is_varied in varied.items():
            if is_argmax and is_varied:
                raise OptionError(
                    f"{name}: {self.dataset.name} has no background class, so it changes no label; leave it out, or "
                    "decide by presence (--decision presence)"
                )
        if self.settings.min_foreground_share:
            raise OptionError("preset: a sweep does not drop small classes as this preset does; take another preset")
        _ = self.segmenters  # made, and so checked, before anything is encoded
        for group in self.groups:
            for one in self._variants(group):
                one.to_dict()

    @property
    def kind(self) -> str:
        """What is measured."""
        return "sweep"

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
        """The features of all words; they depend on no setting of the grid.

        Raises:
            PromptError: a word the model does not know.
        """
        return prepared_words(self.seg, self.dataset, self.settings)

    @cached_property
    def segmenters(self) -> dict[str | None, Segmenter]:
        """The model with each recipe; its weights are held once."""
        return {recipe: with_recipe(self.seg, recipe) for recipe in self.grid.recipes}

    @property
    def groups(self) -> list[Group]:
        """Recipe, resolution and refinement: what scales and thresholds are tried on."""
        grid = self.grid
        return list(itertools.product(grid.recipes, grid.resolutions, grid.refinements))

    def identity(self) -> dict[str, Any]:
        """Model, data, settings and grid."""
        return {
            "model": model_identity(self.seg.encoder),
            "data": data_identity(self.dataset),
            "settings": self.settings.to_dict(),
            "grid": [self._described(group, one) for group in self.groups for one in self._variants(group)],
        }

    def files(self, name: str) -> list[Path]:
        """Image and labels."""
        return [self.items[name].image_path, self.items[name].label_path]

    def measure(self, name: str) -> Row:
        """Per combination, in the grid's order, the pixels right and predicted of each class, sparse."""
        item = self.items[name]
        pixels, truth = item.read_image(), item.read_labels()
        prompted = prompted_classes(truth, self.dataset, self.settings)
        made: list[list[list[int]]] = []
        views: dict[tuple[str | None, str], EncodedImage] = {}
        for group in self.groups:
            recipe, resolution, _ = group
            if (recipe, resolution) not in views:
                views = {(recipe, resolution): encode(self.segmenters[recipe], pixels, self._variants(group)[0])}
            made += [self._counts(labels, truth) for labels in self._labels(views[recipe, resolution], group, prompted)]
        counted = truth != self.dataset.ignore
        true = np.bincount(truth[counted], minlength=len(self.dataset.classes))
        return {"hw": list(truth.shape), "true": true.tolist(), "counts": made}

    def summary(self, rows: Sequence[Row]) -> dict[str, Any]:
        """A row a combination, and the best of them with what it was chosen on."""
        described = self.identity()["grid"]
        table = [{**one, **_figures(rows, index)} for index, one in enumerate(described)]
        best = max(range(len(table)), key=lambda index: table[index]["miou"])
        data = self.identity()["data"]
        chosen_on = {key: data[key] for key in ("name", "list_sha256", "classes_sha256")}
        return {"sweep": table, "chosen": {**table[best], "by": "miou", "on": {**chosen_on, "images": len(rows)}}}

    def _variants(self, group: Group) -> list[SegmentationSettings]:
        """The settings of a group, thresholds within scales."""
        _, resolution, refine = group
        base = replace(self.settings, refine=refine or self.settings.refine, **self._sizes(resolution))
        base = replace(base, deviations=deviations_of(base, self._recipe(group)))
        return [
            replace(
                base,
                logit_scale=base.logit_scale if scale is None else scale,
                threshold=base.threshold if threshold is None else threshold,
            )
            for scale in self.grid.logit_scales
            for threshold in self.grid.thresholds
        ]

    def _sizes(self, resolution: str) -> dict[str, Any]:
        if resolution == "auto":
            return {}
        chosen: Resolution = parse_resolution(resolution)
        side = self.seg.encoder.side
        resize = "published" if self.settings.preset and chosen.mode == "slide" else "area"
        return {"resolution": chosen.resolved(side) if chosen.mode == "slide" else chosen, "resize": resize}

    def _recipe(self, group: Group) -> str | None:
        return group[0] or self.seg.encoder.recipe

    def _described(self, group: Group, one: SegmentationSettings) -> dict[str, Any]:
        return {
            "recipe": self._recipe(group), "resolution": str(one.resolution), "resize": one.resize,
            "refine": one.refine, "logit_scale": one.logit_scale, "threshold": one.threshold,
            "deviations": list(one.deviations),
        }  # fmt: skip

    def _labels(self, view: EncodedImage, group: Group, prompted: Sequence[int]) -> Iterator[Labels]:
        """Labels of each variant of a group, from one pass over the score maps."""
        variants = self._variants(group)
        classes = self.words.classes
        if len(prompted) < len(self.dataset.classes):
            classes = classes.of(prompted)
        if not classes.query_to_class:  # the background alone is there, and nothing else was prompted
            yield from (np.zeros(view.image_hw, np.int32) for _ in variants)
        elif self.settings.decision == "presence":
            yield from self._present(view, classes, variants)
        elif self.dataset.has_background:
            yield from _thresholded(view, classes, variants)
        else:
            winner, _ = running_label_map(score_chunks(view, classes, variants[0]), view.image_hw)
            yield from (owners(classes, winner) for _ in variants)

    def _present(
        self, view: EncodedImage, classes: ClassWords, variants: Sequence[SegmentationSettings]
    ) -> Iterator[Labels]:
        assert self.words.rivals is not None  # prepared_words made them
        found = contest(view, classes, self.words.rivals, variants[0])
        for one in variants:
            labels = found.labels(one.threshold, one.logit_scale)
            yield np.where(labels < 0, np.int32(0), labels) if self.dataset.has_background else labels

    def _counts(self, labels: Labels, truth: Labels) -> list[list[int]]:
        count = len(self.dataset.classes)
        given = np.where(labels == UNLABELLED, count, labels)
        counts = confusion(given, truth, count + 1, self.dataset.ignore)
        right, predicted = np.diag(counts)[:count], counts.sum(0)[:count]
        return [[int(index), int(right[index]), int(predicted[index])] for index in np.flatnonzero(predicted)]


def _thresholded(view: EncodedImage, classes: ClassWords, variants: Sequence[SegmentationSettings]) -> Iterator[Labels]:
    scales = list(dict.fromkeys(one.logit_scale for one in variants))
    chunks = score_chunks(view, classes, variants[0])
    maps = protocol_label_maps(chunks, classes.query_to_class, view.image_hw, logit_scales=scales)
    by_scale = dict(zip(scales, maps, strict=True))
    for one in variants:
        labels, probability = by_scale[one.logit_scale]
        yield cast(Labels, labels.masked_fill(probability < one.threshold, 0).cpu().numpy())


def with_recipe(seg: Segmenter, recipe: str | None) -> Segmenter:
    """The same weights under another dense recipe; None, or its own, gives the model itself.

    Raises:
        OptionError: an unknown recipe, or a model that takes none.
    """
    encoder = seg.encoder
    if recipe is None or recipe == encoder.recipe:
        return seg
    if not isinstance(encoder, ClipEncoder) or recipe not in RECIPES:
        raise OptionError(f"recipe: expected one of {', '.join(RECIPES)} and a CLIP or FG-CLIP 1, got {recipe!r:.40}")
    other = ClipEncoder(
        encoder.checkpoint, encoder.model, recipe=cast(Recipe, recipe), dtype=encoder.dtype, device=encoder.device
    )
    return Segmenter(other)


def _figures(rows: Sequence[Row], index: int) -> dict[str, Any]:
    tally = np.zeros((len(rows), 6, len(rows[0]["true"])), np.int64)
    for counts, row in zip(tally, rows, strict=True):
        counts[2] = row["true"]
        for where, right, given in row["counts"][index]:
            counts[0, where], counts[1, where] = right, given
    values, intervals = figures(tally.sum(0)), bootstrap(tally)
    return {"miou": float(values["miou"]), "interval": list(intervals["miou"]), "aacc": float(values["aacc"])}
