"""What `fgseg segment` does with each image, in its own process or in others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fgseg.commands.segmenting.request import Query
from fgseg.commands.terminal.output import IMAGE_FAULTS, blaming_the_image, count_bar
from fgseg.commands.terminal.stopwatch import Stopwatch

if TYPE_CHECKING:
    from fgseg.large.result import LargeSegmentation
    from fgseg.segmentation.encoded_image import EncodedImage
    from fgseg.segmentation.result import Segmentation
    from fgseg.segmenter import Segmenter

__all__ = ["SegmentJob", "SegmentTask", "SegmentWorker", "Segmented"]


@dataclass(frozen=True)
class Segmented:
    """What is told of an image, and its changed pixels and all its pixels."""

    record: dict[str, Any]
    changed: tuple[int, int]


@dataclass(frozen=True)
class SegmentTask:
    """An image, the folder of its result, further entries of its run.json, and whether it is read by region."""

    path: Path
    folder: Path
    record: dict[str, Any] = field(hash=False)
    is_large: bool


@dataclass(frozen=True)
class SegmentJob:
    """What is done with each image.

    Attributes:
        query: what is looked for.
        settings: arguments of `Segmenter.segment` for how masks are made.
        formats: names of the formats of the files.
        base: what pictures lie on.
        reduction: of images that are read by region.
    """

    query: Query
    settings: dict[str, Any]
    formats: Sequence[str]
    base: Literal["grey", "photo"]
    reduction: int

    def segment(self, seg: Segmenter, image: EncodedImage, task: SegmentTask, clock: Stopwatch) -> Segmented:
        """Segment an image, and save the result."""
        with clock.during("masks"):
            region_map = self.query.region_map(task.path)
            result = seg.segment(
                image, self.query.prompts, region_map=region_map, **self.settings, **self.query.competitors
            )
        changed = result.settings["changed_pixels"], result.labels.size
        return Segmented(self._saved(result, task, clock), changed)

    def segment_large(self, seg: Segmenter, task: SegmentTask, clock: Stopwatch, *, quiet: bool) -> Segmented:
        """Segment an image that is read by region, and save the result."""
        from fgseg.segmentation.saving import mark_unfinished

        bar = count_bar(task.path.name, unit="row", quiet=quiet)
        with clock.during("masks"), bar as show, blaming_the_image():

            def progress(done: int, total: int) -> None:
                show(done, total)
                if done == total:  # the label map is about to take the place of an earlier one
                    mark_unfinished(task.folder, str(task.path), ["labels.tif"])

            chosen = {name: self.settings[name] for name in ("threshold", "resolution")}
            result = seg.segment_large(
                task.path, self.query.prompts, task.folder / "labels.tif", reduction=self.reduction,
                progress=progress, **chosen, **self.query.reading, **self.query.competitors,
            )  # fmt: skip
        return Segmented(self._saved(result, task, clock), (0, 0))

    def _saved(self, result: Segmentation | LargeSegmentation, task: SegmentTask, clock: Stopwatch) -> dict[str, Any]:
        with clock.during("files"):
            written = result.save(task.folder, formats=self.formats, record=task.record, base=self.base)
            return {"image": str(task.path), **result.to_dict(), "files": [str(file) for file in written]}


class SegmentWorker:
    """Segments images in a process of its own, with one thread."""

    def __init__(self, model: dict[str, Any], devices: Sequence[str], job: SegmentJob, place: int) -> None:
        """Load the model; more processes than devices take turns.

        Args:
            model: arguments of `fgseg.load`.
            devices: the devices that the processes share.
            job: what is done.
            place: number of the process.
        """
        from fgseg.segmenter import load
        from fgseg.store.engines.resources import limit_threads

        limit_threads(1)
        self._job, self._seg = job, load(**{**model, "device": devices[place % len(devices)]})

    def __call__(self, task: SegmentTask, tell: Any) -> Segmented | Exception:
        """The result of an image, or its error."""
        from fgseg.commands.prefetch import read_file

        job, clock = self._job, Stopwatch()
        try:
            if task.is_large:
                return job.segment_large(self._seg, task, clock, quiet=True)
            picture = replace(read_file(task.path, **job.query.reading), source=str(task.path))
            regions = job.query.region_map(task.path) if self._seg.encoder.recipe == "corr" else None
            image = self._seg.encode(picture, resolution=job.settings["resolution"], region_map=regions)
            return job.segment(self._seg, image, task, clock)
        except IMAGE_FAULTS as error:
            return error
