"""Many settings on the same images: an image is encoded once per recipe and resolution, and mIoU selects the best."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fgseg.encoders.encoder import ClipEncoder, FgClip2Encoder
from fgseg.errors import OptionError
from fgseg.evaluation.provenance import data_provenance
from fgseg.evaluation.rows import Row
from fgseg.evaluation.statistics import bootstrap, figures
from fgseg.evaluation.tasks.prediction import encode
from fgseg.evaluation.tasks.segmentation import LabelledImagesTask
from fgseg.evaluation.tasks.settings import SegmentationSettings, deviations_of, resolution_settings
from fgseg.guides.propagation import Propagate
from fgseg.metrics import class_counts, confusion
from fgseg.segmentation.encoded_image import EncodedImage
from fgseg.segmenter import Segmenter
from fgseg.types import UNLABELLED

__all__ = ["Grid", "SweepTask", "with_recipe"]

Group = tuple[str | None, str, str | None, Propagate | None, str | None]
"""Recipe, resolution, refinement, propagation and region map."""


@dataclass(frozen=True)
class Grid:
    """The values to try of each setting, at least one each; every combination is measured.

    Attributes:
        recipes: dense recipes; None keeps the model's own.
        resolutions: as `Segmenter.encode` takes them; "auto" keeps that of the settings.
        refinements: of `fgseg.scoring.refine.REFINEMENTS`; None keeps that of the settings.
        logit_scales: factors on scores; None keeps that of the settings.
        thresholds: lowest probability or presence; None keeps that of the settings.
        propagations: of `fgseg.guides.propagation.PROPAGATIONS`; None keeps that of the settings.
        region_maps: as in `SegmentationSettings`; all but "none" vote. None keeps that of the settings.
    """

    recipes: tuple[str | None, ...] = (None,)
    resolutions: tuple[str, ...] = ("auto",)
    refinements: tuple[str | None, ...] = (None,)
    logit_scales: tuple[float | None, ...] = (None,)
    thresholds: tuple[float | None, ...] = (None,)
    propagations: tuple[Propagate | None, ...] = (None,)
    region_maps: tuple[str | None, ...] = (None,)

    def __post_init__(self) -> None:
        for field in fields(self):
            values = getattr(self, field.name)
            if not values or len(set(values)) < len(values):
                raise OptionError(f"{field.name}: expected one value or more, each once, got {values!r:.200}")


@dataclass(frozen=True, eq=False)
class SweepTask(LabelledImagesTask):
    """Every combination of a grid on one data set.

    Attributes:
        grid: the settings that vary.
        dataset: the labelled images to choose on; report figures of other images.
        seg, settings: as `LabelledImagesTask`.
    """

    grid: Grid
    kind: ClassVar[str] = "sweep"

    def __post_init__(self) -> None:
        is_argmax = self.settings.decision == "protocol" and not self.dataset.has_background
        varied = {"threshold": any(self.grid.thresholds), "logit_scale": len(self.grid.logit_scales) > 1}
        for name, is_varied in varied.items():
            if is_argmax and is_varied:
                raise OptionError(
                    f"{name}: {self.dataset.name} has no background class, so it changes no label; leave it out, or "
                    "decide by presence (--decision presence)"
                )
        if self.settings.min_foreground_share:
            raise OptionError("preset: a sweep does not drop small classes as this preset does; take another preset")
        _ = self.segmenters, self.described  # made here so that wrong values are refused before anything is encoded

    @cached_property
    def segmenters(self) -> dict[str | None, Segmenter]:
        """The model with each recipe; all share the same weights."""
        return {recipe: with_recipe(self.seg, recipe) for recipe in self.grid.recipes}

    @property
    def groups(self) -> list[Group]:
        """Each combination of what scores are computed with; scales and thresholds vary within a group."""
        grid = self.grid
        return list(
            itertools.product(grid.recipes, grid.resolutions, grid.refinements, grid.propagations, grid.region_maps)
        )

    @property
    def described(self) -> list[dict[str, Any]]:
        """Each combination in plain values, in the order of the grid."""
        return [
            {
                "recipe": self._recipe(group), "resolution": str(one.resolution), "resize": one.resize,
                "refine": one.refine, "propagate": one.propagate, "region_map": one.region_map, "vote": one.vote,
                "logit_scale": one.logit_scale, "threshold": one.threshold,
                "deviations": list(one.deviations),
            }
            for group in self.groups
            for one in self._variants(group)
        ]  # fmt: skip

    def provenance(self) -> dict[str, Any]:
        """Model, data, settings and grid."""
        return {**super().provenance(), "grid": self.described}

    def measure(self, name: str) -> Row:
        """The pixels right and predicted of each class, sparse, for each combination in the order of the grid."""
        pixels, truth = self.read(name)
        prompted = self.prompted(truth)
        counts: list[list[list[int]]] = []
        views: dict[tuple[str | None, ...], EncodedImage] = {}
        for group in self.groups:
            variants = self._variants(group)
            recipe, resolution, *_ = group
            key = recipe, resolution, variants[0].region_map if self._recipe(group) == "corr" else None
            if key not in views:
                source = str(self.items[name].image_path)
                views = {key: encode(self.segmenters[recipe], pixels, variants[0], source=source)}
            labels = self.labels(views[key], prompted, variants)
            counts += [self._counts(one, truth) for one in labels]
        counted = truth != self.dataset.ignore
        true = np.bincount(truth[counted], minlength=len(self.dataset.classes))
        return {"hw": list(truth.shape), "true": true.tolist(), "counts": counts}

    def summary(self, rows: Sequence[Row]) -> dict[str, Any]:
        """One row per combination, and the best combination with the data it was chosen on."""
        table = [{**one, **_figures(rows, index)} for index, one in enumerate(self.described)]
        best = max(table, key=lambda row: row["miou"])
        data = data_provenance(self.dataset)
        chosen_on = {key: data[key] for key in ("name", "list_sha256", "classes_sha256")}
        return {"sweep": table, "chosen": {**best, "by": "miou", "on": {**chosen_on, "images": len(rows)}}}

    def _variants(self, group: Group) -> list[SegmentationSettings]:
        """The settings of a group: every threshold for the first scale, then for the next."""
        _, resolution, refine, propagate, region_map = group
        own = self.settings
        base = replace(own, refine=refine or own.refine, propagate=propagate or own.propagate)
        if region_map is not None:
            base = replace(base, region_map=region_map, vote=region_map != "none")
        if resolution != "auto":
            base = replace(base, **resolution_settings(self.seg.encoder, resolution, is_published=bool(base.preset)))
        base = replace(base, deviations=deviations_of(base, self.dataset, self.seg.encoder, group[0]))
        return [
            replace(
                base,
                logit_scale=base.logit_scale if scale is None else scale,
                threshold=base.threshold if threshold is None else threshold,
            )
            for scale in self.grid.logit_scales
            for threshold in self.grid.thresholds
        ]

    def _recipe(self, group: Group) -> str | None:
        return group[0] or self.seg.encoder.recipe

    def _counts(self, labels: NDArray[np.int32], truth: NDArray[np.int32]) -> list[list[int]]:
        count = len(self.dataset.classes)
        given = np.where(labels == UNLABELLED, count, labels)
        right, predicted, _ = class_counts(confusion(given, truth, count + 1, self.dataset.ignore))[:, :count]
        return [[int(index), int(right[index]), int(predicted[index])] for index in np.flatnonzero(predicted)]


def with_recipe(seg: Segmenter, recipe: str | None) -> Segmenter:
    """The same weights with another dense recipe; None or the model's own recipe returns `seg`.

    Raises:
        OptionError: the recipe is unknown, or the model takes none.
    """
    encoder = seg.encoder
    if recipe is None or recipe == encoder.recipe:
        return seg
    if isinstance(encoder, ClipEncoder | FgClip2Encoder):
        return Segmenter(encoder.with_recipe(recipe, guide=encoder.guide))
    raise OptionError(f"recipe: expected a CLIP or FG-CLIP for the recipe {recipe!r:.40}; leave it out")


def _figures(rows: Sequence[Row], combination: int) -> dict[str, Any]:
    per_image = np.zeros((len(rows), 6, len(rows[0]["true"])), np.int64)
    for counts, row in zip(per_image, rows, strict=True):
        counts[2] = row["true"]
        for index, right, predicted in row["counts"][combination]:
            counts[0, index], counts[1, index] = right, predicted
    values, intervals = figures(per_image.sum(0)), bootstrap(per_image)
    return {"miou": float(values["miou"]), "interval": list(intervals["miou"]), "aacc": float(values["aacc"])}
