"""The commands that work on images: `fgseg segment | heatmap | boxes | rank`.

Each command checks its options before it loads a model, and its prompts before it reads an image; then
`fgseg.commands.terminal.output.run` calls it for each image. Heavy modules are imported inside, so that `--help` is
quick.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Option

from fgseg.commands import arguments
from fgseg.commands.options import (
    Base,
    Images,
    MaskOptions,
    ModelOptions,
    PromptOptions,
    ReadOptions,
    ReportOptions,
    Route,
    RunOptions,
    with_option_groups,
)
from fgseg.commands.result_folders import check_free, remaining, request_digest, result_folders
from fgseg.commands.terminal.output import IMAGE_FAULTS, Inputs, blaming_the_image, count_bar, run
from fgseg.errors import OptionError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fgseg.large.result import LargeSegmentation
    from fgseg.prompts.classes import PromptClass
    from fgseg.segmentation.result import Segmentation
    from fgseg.segmenter import Segmenter

__all__ = ["boxes", "heatmap", "rank", "segment"]


@with_option_groups
def segment(
    images: Images,
    *,
    words: PromptOptions,
    masks: MaskOptions,
    by_region: Annotated[
        bool,
        Option("--by-region", help="Read tiled TIFFs by region, at their own scale; automatic above 178 megapixels."),
    ] = False,
    reduction: Annotated[
        int, Option(min=1, help="Shrink images that are read by region by this factor, a whole number.")
    ] = 1,
    reading: ReadOptions,
    options: RunOptions,
    model: ModelOptions,
    formats: Annotated[
        list[str] | None,
        Option(
            "--format",
            "-f",
            help="labels, overlay, regions (the defaults), heatmaps, masks, coco, geojson, yolo, "
            "labelme; repeat for more.",
        ),
    ] = None,
    base: Base = "grey",
    workers: Annotated[int, Option(min=1, help="Processes of one thread each that segment images.")] = 1,
    report: ReportOptions,
) -> None:
    """Segment images by words. Each image gets a label map, an overlay, a region table, or other formats."""
    from fgseg.commands.prefetch import Pooled, Prefetcher
    from fgseg.segmentation.result import check_formats

    if workers > 1 and options.batch > 1:
        raise OptionError("--batch: with --workers, images are encoded one by one; leave one of the two out")
    written_formats = arguments.split_words(formats) or ["labels", "overlay", "regions"]
    check_formats(written_formats)
    settings = arguments.read_mask_options(masks, options)
    prompts, competitors = arguments.read_prompts(words), arguments.read_competitors(words)
    read = arguments.read_reading(reading)
    inputs, folders = _inputs_and_folders(images, options)
    seg = arguments.load_segmenter(model)
    large = arguments.read_by_region(inputs.paths, always=by_region)
    arguments.check_region_options(large, settings, written_formats, native=seg.encoder.side, reduction=reduction)
    seg.prepare(prompts, **competitors)
    request = request_digest(seg, {
        **settings, **read, **_asked(prompts, competitors), "command": "segment", "formats": sorted(written_formats),
        "batch": options.batch, "by_region": by_region, "reduction": reduction, "base": base,
    })  # fmt: skip
    inputs, records = remaining(inputs, folders, request, skip_existing=options.skip_existing)

    job = _SegmentJob(prompts, settings, competitors, tuple(written_formats), base, reduction, read)
    changed: list[tuple[int, int]] = []  # the changed pixels and the pixels of each image that is not read by region

    def work(path: Path) -> list[dict[str, Any]]:
        if pooled is not None:
            done = pooled.take(path)
        elif path in large:
            done = job.segment_large(seg, path, folders[path], records[path], quiet=report.quiet)
        else:
            done = job.segment(seg, encoded.take(path), path, folders[path], records[path])
        if path not in large:
            changed.append(done.changed)
        return [done.record]

    small = [path for path in inputs.paths if path not in large]
    pooled = None
    if workers > 1:
        tasks = {
            path: _SegmentTask(path, folders[path], tuple(records[path].items()), path in large)
            for path in inputs.paths
        }
        pooled = Pooled(partial(_SegmentWorker, arguments.model_arguments(model), job), tasks, workers=workers)
    encoded = Prefetcher(seg, [] if pooled else small, resolution=options.resolution, batch_size=options.batch, **read)
    keeps_some = bool(large) and "auto" in (settings["min_area"], settings["max_hole"])
    notes = partial(_speck_notes, changed, keeps_some=keeps_some)
    with nullcontext() if pooled is None else closing(pooled):
        run(inputs, work, _segment_rows, ("image", "class", "% of pixels", "regions", "peak"), report, notes)


@dataclass(frozen=True)
class _Segmented:
    """What is told of an image, and its changed pixels and all its pixels."""

    record: dict[str, Any]
    changed: tuple[int, int]


@dataclass(frozen=True)
class _SegmentJob:
    """What `fgseg segment` does with each image, in this process or in others."""

    prompts: Sequence[PromptClass]
    settings: dict[str, Any]
    competitors: dict[str, Any]
    formats: tuple[str, ...]
    base: Literal["grey", "photo"]
    reduction: int
    read: dict[str, Any]

    def segment(self, seg: Segmenter, image: Any, path: Path, folder: Path, record: dict[str, Any]) -> _Segmented:
        """Segment an image, and save the result."""
        result = seg.segment(image, self.prompts, **self.settings, **self.competitors)
        changed = result.settings["changed_pixels"], result.labels.size
        return _Segmented(self._saved(result, path, folder, record), changed)

    def segment_large(
        self, seg: Segmenter, path: Path, folder: Path, record: dict[str, Any], *, quiet: bool
    ) -> _Segmented:
        """Segment an image that is read by region, and save the result."""
        from fgseg.segmentation.saving import mark_unfinished

        with count_bar(path.name, unit="row", quiet=quiet) as show, blaming_the_image():

            def progress(done: int, total: int) -> None:
                show(done, total)
                if done == total:  # the label map is about to take the place of an earlier one
                    mark_unfinished(folder, str(path), ["labels.tif"])

            chosen = {name: self.settings[name] for name in ("threshold", "resolution")}
            result = seg.segment_large(
                path, self.prompts, folder / "labels.tif", reduction=self.reduction, progress=progress,
                **chosen, **self.read, **self.competitors,
            )  # fmt: skip
        return _Segmented(self._saved(result, path, folder, record), (0, 0))

    def _saved(
        self, result: Segmentation | LargeSegmentation, path: Path, folder: Path, record: dict[str, Any]
    ) -> dict[str, Any]:
        written = result.save(folder, formats=self.formats, record=record, base=self.base)
        return {"image": str(path), **result.to_dict(), "files": [str(file) for file in written]}


@dataclass(frozen=True)
class _SegmentTask:
    """An image for another process: where its result goes, the entries of its run.json, and how it is read."""

    path: Path
    folder: Path
    record: tuple[tuple[str, Any], ...]
    is_large: bool

    def __hash__(self) -> int:
        return hash(self.path)


class _SegmentWorker:
    """Segments images in a process of its own, with one thread."""

    def __init__(self, model: dict[str, Any], job: _SegmentJob, place: int) -> None:
        from fgseg.segmenter import load
        from fgseg.store.engines.resources import limit_threads

        limit_threads(1)
        self._job, self._seg = job, load(**model)

    def __call__(self, task: _SegmentTask, tell: Any) -> _Segmented | Exception:
        from fgseg.commands.prefetch import read_file

        job, record = self._job, dict(task.record)
        try:
            if task.is_large:
                return job.segment_large(self._seg, task.path, task.folder, record, quiet=True)
            picture = replace(read_file(task.path, **job.read), source=str(task.path))
            image = self._seg.encode(picture, resolution=job.settings["resolution"])
            return job.segment(self._seg, image, task.path, task.folder, record)
        except IMAGE_FAULTS as error:
            return error


def _speck_notes(changed: Sequence[tuple[int, int]], *, keeps_some: bool) -> Iterable[str]:
    """What became of specks, from the changed pixels and the pixels of each image."""
    from fgseg.segmentation.result import speck_line

    pixels, total = (sum(counts) for counts in zip((0, 0), *changed, strict=True))
    if line := speck_line(pixels, total, keep="--min-area 0 --max-hole 0"):
        yield line
    if keeps_some:
        yield "specks are kept in images that are read by region"


def _segment_rows(record: dict[str, Any]) -> Iterable[Sequence[Any]]:
    for entry in record["classes"]:
        peaks = [region["peak_score"] for region in record["regions"] if region["class_index"] == entry["index"]]
        peak = max(peaks, default=0.0)
        yield record["image"], entry["name"], f"{100 * entry['share']:.2f}", len(peaks), f"{peak:.3f}"
    if record["no_data_pixels"]:
        share = record["no_data_pixels"] / (record["height"] * record["width"])  # of all pixels
        yield record["image"], "no data", f"{100 * share:.2f}", "-", "-"


@with_option_groups
def heatmap(
    images: Images,
    *,
    words: PromptOptions,
    reading: ReadOptions,
    options: RunOptions,
    base: Base = "grey",
    model: ModelOptions,
    report: ReportOptions,
) -> None:
    """Show where each class is. Each image gets a picture of the presence of every class, and the values as .npz."""
    from fgseg.commands.prefetch import Prefetcher

    prompts, competitors = arguments.read_prompts(words), arguments.read_competitors(words)
    read = arguments.read_reading(reading)
    arguments.check_resolution(options.resolution)
    inputs, folders = _inputs_and_folders(images, options)
    seg = arguments.load_segmenter(model)
    seg.prepare(prompts, **competitors)
    asked = {"resolution": options.resolution, "refine": options.refine, "batch": options.batch, "base": base}
    request = request_digest(seg, {**asked, **read, **_asked(prompts, competitors), "command": "heatmap"})
    inputs, records = remaining(inputs, folders, request, skip_existing=options.skip_existing)

    def work(path: Path) -> list[dict[str, Any]]:
        image = encoded.take(path)
        maps = seg.heatmaps(image, prompts, resolution=options.resolution, refine=options.refine, **competitors)
        classes: list[dict[str, Any]] = []
        written = maps.save(
            folders[path],
            observe=lambda name, score_map: classes.append(_summary(name, score_map)),
            record=records[path],
            base=base,
        )
        return [{"image": str(path), "classes": classes, "files": [str(file) for file in written]}]

    def rows(record: dict[str, Any]) -> Iterable[Sequence[Any]]:
        for entry in record["classes"]:
            share = f"{100 * entry['share']:.2f}"
            yield record["image"], entry["name"], f"{entry['mean']:.3f}", f"{entry['peak']:.3f}", share

    encoded = Prefetcher(seg, inputs.paths, resolution=options.resolution, batch_size=options.batch, **read)
    run(inputs, work, rows, ("image", "class", "mean", "peak", "% over 0.5"), report)


def _inputs_and_folders(images: Sequence[str], options: RunOptions) -> tuple[Inputs, dict[Path, Path]]:
    """The images, and the folder of each one's result; folders that must not be written are refused."""
    inputs = arguments.find_inputs(images, options.root)
    arguments.check_writable(options.out)
    folders = result_folders(inputs.names, options.out)
    if not options.overwrite:
        check_free(folders)
    return inputs, folders


def _asked(prompts: Sequence[PromptClass], competitors: dict[str, Any]) -> dict[str, Any]:
    """The words of a request. A file of templates counts by its content."""
    from fgseg.prompts.templates import templates_named

    templates = competitors["templates"]
    return {
        **competitors,
        "classes": [asdict(entry) for entry in prompts],
        "templates": None if templates is None else templates_named(templates),
    }


def _summary(name: str, score_map: NDArray[np.float32]) -> dict[str, Any]:
    mean, peak, share = score_map.mean(), score_map.max(), (score_map >= 0.5).mean()
    return {"name": name, "mean": float(mean), "peak": float(peak), "share": float(share)}


@with_option_groups
def boxes(
    images: Images,
    *,
    box: Annotated[
        list[str] | None, Option("--box", "-b", help="LEFT,TOP,RIGHT,BOTTOM in pixels; repeat for more.")
    ] = None,
    prompt: Annotated[list[str] | None, Option("--prompt", "-p", help="A phrase; repeat for more.")] = None,
    templates: Annotated[str, Option(help="Sentences around each phrase: none, imagenet, or a file.")] = "none",
    resolution: Annotated[str, Option(help="auto, squash or keep, optionally with a size: keep:448.")] = "auto",
    reading: ReadOptions,
    model: ModelOptions,
    report: ReportOptions,
) -> None:
    """Score phrases in boxes: which phrase fits which box."""
    from fgseg.commands.prefetch import read_file

    corners = [arguments.read_box(text) for text in box or ()]
    phrases = prompt or []
    if not corners or not phrases:
        missing = "--prompt" if corners else "--box"
        raise OptionError(f"{missing}: expected at least one, got none; give --box 10,20,200,150 --prompt cup")
    read = arguments.read_reading(reading)
    arguments.check_resolution(resolution)
    inputs = arguments.find_inputs(images)
    seg = arguments.load_segmenter(model)

    def work(path: Path) -> list[dict[str, Any]]:
        scores = seg.score_boxes(read_file(path, **read), corners, phrases, templates=templates, resolution=resolution)
        return [
            {"image": str(path), "box_xyxy": box_xyxy, "scores": _scores(phrases, cosine, probability)}
            for box_xyxy, cosine, probability in zip(corners, scores.cosine, scores.probabilities, strict=True)
        ]

    def rows(record: dict[str, Any]) -> Iterable[Sequence[Any]]:
        box_xyxy = ",".join(f"{value:g}" for value in record["box_xyxy"])
        for score in sorted(record["scores"], key=lambda score: -score["cosine"]):
            yield record["image"], box_xyxy, *_cells(score)

    run(inputs, work, rows, ("image", "box", "text", "cosine", "probability"), report)


@with_option_groups
def rank(
    images: Images,
    *,
    prompt: Annotated[list[str] | None, Option("--prompt", "-p", help="A caption; repeat for more.")] = None,
    route: Annotated[
        Route, Option(help="Text encoding of captions: short (at most 77 tokens) or long (at most 248).")
    ] = "short",
    reading: ReadOptions,
    model: ModelOptions,
    report: ReportOptions,
) -> None:
    """Rank captions by how well they fit each whole image."""
    from fgseg.commands.prefetch import read_file

    captions = prompt or []
    if not captions:
        raise OptionError(
            "--prompt: expected at least one caption, got none; give --prompt 'a red circle on a white background'"
        )
    read = arguments.read_reading(reading)
    inputs = arguments.find_inputs(images)
    seg = arguments.load_segmenter(model)

    def work(path: Path) -> list[dict[str, Any]]:
        ranking = seg.rank([read_file(path, **read)], captions, route=route)
        scores = _scores(captions, ranking.cosine[0], ranking.probabilities[0])
        return [{"image": str(path), "scores": [scores[index] for index in ranking.order[0]]}]

    def rows(record: dict[str, Any]) -> Iterable[Sequence[Any]]:
        for place, score in enumerate(record["scores"], start=1):
            yield record["image"], place, *_cells(score)

    run(inputs, work, rows, ("image", "rank", "caption", "cosine", "probability"), report)


def _scores(
    texts: Sequence[str], cosines: NDArray[np.float32], probabilities: NDArray[np.float32]
) -> list[dict[str, Any]]:
    return [
        {"text": text, "cosine": round(float(cosine), 6), "probability": round(float(probability), 6)}
        for text, cosine, probability in zip(texts, cosines, probabilities, strict=True)
    ]


def _cells(score: dict[str, Any]) -> tuple[str, str, str]:
    return score["text"], f"{score['cosine']:.4f}", f"{score['probability']:.4f}"
