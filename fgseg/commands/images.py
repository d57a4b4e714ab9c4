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
    OUTPUT,
    WHAT,
    Base,
    Images,
    MaskOptions,
    ModelOptions,
    PromptOptions,
    ReadOptions,
    Recursive,
    ReportOptions,
    Route,
    RunOptions,
    with_option_groups,
)
from fgseg.commands.result_folders import check_free, plan, remaining, request_digest, result_folders
from fgseg.commands.terminal.output import IMAGE_FAULTS, Ending, Inputs, blaming_the_image, count_bar, run
from fgseg.commands.terminal.stopwatch import Stopwatch
from fgseg.errors import OptionError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fgseg.large.result import LargeSegmentation
    from fgseg.prompts.classes import PromptClass
    from fgseg.segmentation.encoded_image import EncodedImage
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
        int,
        Option(min=1, help="Shrink images that are read by region by this factor, a whole number."),
    ] = 1,
    reading: ReadOptions,
    options: RunOptions,
    model: ModelOptions,
    formats: Annotated[
        list[str] | None,
        Option(
            "--format",
            "-f",
            help="labels, overlay, regions, heatmaps, masks, coco, geojson, yolo or labelme; repeat for more.",
            show_default="labels, overlay and regions",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    base: Base = "grey",
    workers: Annotated[int, Option(min=1, help="Processes of one thread each that segment images.")] = 1,
    report: ReportOptions,
) -> None:
    """Segment images by words. Each image gets a label map, an overlay, a region table, or other formats."""
    clock = Stopwatch()
    with clock.during("imports"):
        from fgseg.commands.prefetch import Pooled, Prefetcher
        from fgseg.segmentation.result import check_formats, written_files

    if workers > 1 and options.batch > 1:
        raise OptionError("--batch: with --workers, images are encoded one by one; leave one of the two out")
    written_formats = arguments.split_words(formats) or ["labels", "overlay", "regions"]
    check_formats(written_formats)
    picture = arguments.picture_to_open(options, written_formats)
    settings = arguments.read_mask_options(masks, options) | {"vote": options.vote}
    prompts, competitors = arguments.read_prompts(words), arguments.read_competitors(words)
    read = arguments.read_reading(reading)
    arguments.check_regions(_given(options.regions), model.recipe, vote=options.vote)
    inputs, folders = _inputs_and_folders(images, options)
    large = arguments.read_by_region(inputs.paths, always=by_region)
    if options.dry_run:
        from fgseg.large.result import written_large_files  # only here, because it imports scipy.sparse

        names = [entry.name for entry in prompts]
        files = [written_large_files(written_formats), written_files(written_formats, names)]
        plan(inputs, folders, lambda path: files[path not in large], report)
        return
    with clock.during("load"):
        seg = arguments.load_segmenter(model)
    arguments.check_region_options(large, settings, written_formats, native=seg.encoder.side, reduction=reduction)
    with clock.during("words"):
        seg.prepare(prompts, **competitors)
    request = request_digest(seg, {
        **settings, **read, **_asked(prompts, competitors), **_regions_asked(options), "command": "segment",
        "formats": sorted(written_formats), "batch": options.batch, "by_region": by_region, "reduction": reduction,
        "base": base,
    })  # fmt: skip
    inputs, records = remaining(inputs, folders, request, options, quiet=report.quiet)

    job = _SegmentJob(prompts, settings, competitors, tuple(written_formats), base, reduction, read, options.regions)
    changed: list[tuple[int, int]] = []  # the changed pixels and the pixels of each image that is not read by region

    def work(path: Path) -> list[dict[str, Any]]:
        if pooled is not None:
            with clock.during("wait for the processes"):
                done = pooled.take(path)
        elif path in large:
            done = job.segment_large(seg, path, folders[path], records[path], clock, quiet=report.quiet)
        else:
            with clock.during("encode"):
                view = encoded.take(path)
            done = job.segment(seg, view, path, folders[path], records[path], clock)
        if path not in large:
            changed.append(done.changed)
        return [done.record]

    small = [path for path in inputs.paths if path not in large]
    tasks = {
        path: _SegmentTask(path, folders[path], tuple(records[path].items()), path in large) for path in inputs.paths
    }
    make = partial(_SegmentWorker, arguments.model_arguments(model), job)
    pooled = Pooled(make, tasks, workers=workers) if workers > 1 else None
    encoded = Prefetcher(
        seg, [] if pooled else small, resolution=options.resolution, batch_size=options.batch,
        region_map=job.region_map, **read,
    )  # fmt: skip
    keeps_some = bool(large) and "auto" in (settings["min_area"], settings["max_hole"])

    def notes() -> Iterable[str]:
        yield from _only_class_notes(words)
        yield from _speck_notes(changed, keeps_some=keeps_some)

    is_auto = settings["threshold"] == "auto"
    header = ("image", "class", "% of pixels", "regions", "peak", *(("threshold",) if is_auto else ()))
    rows = partial(_segment_rows, with_threshold=is_auto)
    with nullcontext() if pooled is None else closing(pooled):
        run(inputs, work, rows, header, report, Ending(clock, notes, options.out, picture))


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
    regions: str | None

    def region_map(self, path: Path) -> str | None:
        """The region map of an image."""
        return _region_map(self.regions, path)

    def segment(
        self, seg: Segmenter, image: EncodedImage, path: Path, folder: Path, record: dict[str, Any], clock: Stopwatch
    ) -> _Segmented:
        """Segment an image, and save the result."""
        with clock.during("masks"):
            result = seg.segment(
                image, self.prompts, region_map=self.region_map(path), **self.settings, **self.competitors
            )
        changed = result.settings["changed_pixels"], result.labels.size
        return _Segmented(self._saved(result, path, folder, record, clock), changed)

    def segment_large(
        self, seg: Segmenter, path: Path, folder: Path, record: dict[str, Any], clock: Stopwatch, *, quiet: bool
    ) -> _Segmented:
        """Segment an image that is read by region, and save the result."""
        from fgseg.segmentation.saving import mark_unfinished

        with clock.during("masks"), count_bar(path.name, unit="row", quiet=quiet) as show, blaming_the_image():

            def progress(done: int, total: int) -> None:
                show(done, total)
                if done == total:  # the label map is about to take the place of an earlier one
                    mark_unfinished(folder, str(path), ["labels.tif"])

            chosen = {name: self.settings[name] for name in ("threshold", "resolution")}
            result = seg.segment_large(
                path, self.prompts, folder / "labels.tif", reduction=self.reduction, progress=progress,
                **chosen, **self.read, **self.competitors,
            )  # fmt: skip
        return _Segmented(self._saved(result, path, folder, record, clock), (0, 0))

    def _saved(
        self, result: Segmentation | LargeSegmentation, path: Path, folder: Path, record: dict[str, Any],
        clock: Stopwatch,
    ) -> dict[str, Any]:  # fmt: skip
        with clock.during("files"):
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

        job, record, clock = self._job, dict(task.record), Stopwatch()
        try:
            if task.is_large:
                return job.segment_large(self._seg, task.path, task.folder, record, clock, quiet=True)
            picture = replace(read_file(task.path, **job.read), source=str(task.path))
            regions = job.region_map(task.path) if self._seg.encoder.recipe == "corr" else None
            image = self._seg.encode(picture, resolution=job.settings["resolution"], region_map=regions)
            return job.segment(self._seg, image, task.path, task.folder, record, clock)
        except IMAGE_FAULTS as error:
            return error


def _only_class_notes(words: PromptOptions) -> list[str]:
    """A hint if the only class was given with a comma, which may have been meant to part classes."""
    prompts = words.prompt or []
    return arguments.comma_notes(prompts) if len(prompts) == 1 and words.classes is None else []


def _speck_notes(changed: Sequence[tuple[int, int]], *, keeps_some: bool) -> Iterable[str]:
    """What became of specks, from the changed pixels and the pixels of each image."""
    from fgseg.segmentation.result import speck_line

    pixels, total = (sum(counts) for counts in zip((0, 0), *changed, strict=True))
    if line := speck_line(pixels, total, keep="--min-area 0 --max-hole 0"):
        yield line
    if keeps_some:
        yield "specks are kept in images that are read by region"


def _segment_rows(record: dict[str, Any], *, with_threshold: bool) -> Iterable[Sequence[Any]]:
    chosen = record["settings"].get("chosen_thresholds", {})
    for entry in record["classes"]:
        peaks = [region["peak_score"] for region in record["regions"] if region["class_index"] == entry["index"]]
        peak = max(peaks, default=0.0)
        limit = (f"{chosen[entry['name']]:.3f}",) if with_threshold else ()
        yield record["image"], entry["name"], f"{100 * entry['share']:.2f}", len(peaks), f"{peak:.3f}", *limit
    no_limit = ("-",) if with_threshold else ()
    pixels, missing = record["height"] * record["width"], record["no_data_pixels"]
    share = record["unlabelled_pixels"] / max(1, pixels - missing)  # of the data, as those of the classes
    yield record["image"], "unlabelled", f"{100 * share:.2f}", "-", "-", *no_limit
    if missing:
        yield record["image"], "no data", f"{100 * missing / pixels:.2f}", "-", "-", *no_limit  # of all pixels


@with_option_groups
def heatmap(
    images: Images,
    *,
    words: PromptOptions,
    reading: ReadOptions,
    options: RunOptions,
    base: Base = "grey",
    full_size: Annotated[
        bool,
        Option(
            "--full-size",
            help="Write the values at the size of the image, not at that of the grid of patches.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    model: ModelOptions,
    report: ReportOptions,
) -> None:
    """Show where each class is. Each image gets a picture of the presence of every class, and the values as .npz."""
    clock = Stopwatch()
    with clock.during("imports"):
        from fgseg.commands.prefetch import Prefetcher
        from fgseg.segmentation.result import written_files

    prompts, competitors = arguments.read_prompts(words), arguments.read_competitors(words)
    read = arguments.read_reading(reading)
    arguments.check_resolution(options.resolution)
    arguments.check_regions(_given(options.regions), model.recipe, vote=options.vote)
    picture = arguments.picture_to_open(options, ["heatmaps"])
    inputs, folders = _inputs_and_folders(images, options)
    if options.dry_run:
        plan(inputs, folders, lambda _: written_files(["heatmaps"], ()), report)
        return
    with clock.during("load"):
        seg = arguments.load_segmenter(model)
    with clock.during("words"):
        seg.prepare(prompts, **competitors)
    how: dict[str, Any] = {
        "resolution": options.resolution, "refine": options.refine, "propagate": options.propagate,
        "vote": options.vote,
    }  # fmt: skip
    asked = {**how, **read, **_asked(prompts, competitors), **_regions_asked(options)}
    asked |= {"full_size": True} if full_size else {}
    request = request_digest(seg, {**asked, "batch": options.batch, "base": base, "command": "heatmap"})
    inputs, records = remaining(inputs, folders, request, options, quiet=report.quiet)

    def work(path: Path) -> list[dict[str, Any]]:
        with clock.during("encode"):
            image = encoded.take(path)
        maps = seg.heatmaps(image, prompts, region_map=_region_map(options.regions, path), **how, **competitors)
        classes: list[dict[str, Any]] = []
        with clock.during("maps and files"):
            written = maps.save(
                folders[path],
                observe=lambda name, score_map: classes.append(_summary(name, score_map)),
                record=records[path],
                base=base,
                size="image" if full_size else "grid",
            )
        return [{"image": str(path), "classes": classes, "files": [str(file) for file in written]}]

    def rows(record: dict[str, Any]) -> Iterable[Sequence[Any]]:
        for entry in record["classes"]:
            share = f"{100 * entry['share']:.2f}"
            yield record["image"], entry["name"], f"{entry['mean']:.3f}", f"{entry['peak']:.3f}", share

    encoded = Prefetcher(
        seg, inputs.paths, resolution=options.resolution, batch_size=options.batch,
        region_map=partial(_region_map, options.regions), **read,
    )  # fmt: skip
    header = ("image", "class", "mean", "peak", "% over 0.5")
    run(inputs, work, rows, header, report, Ending(clock, partial(_only_class_notes, words), options.out, picture))


def _inputs_and_folders(images: Sequence[str], options: RunOptions) -> tuple[Inputs, dict[Path, Path]]:
    """The images, and the folder of each one's result; folders that must not be written are refused."""
    inputs = arguments.find_inputs(images, options.root, recursive=options.recursive, leave_out=options.out)
    if not options.dry_run:
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


def _given(regions: str | None) -> list[str]:
    return [] if regions is None else [regions]


def _regions_asked(options: RunOptions) -> dict[str, Any]:
    return {"regions": options.regions, "region_stamps": arguments.region_stamps(options.regions)}


def _region_map(regions: str | None, path: Path) -> str | None:
    """The region map of an image."""
    from fgseg.guides.region_maps import region_map_for

    return None if regions is None else region_map_for(regions, str(path))


def _summary(name: str, score_map: NDArray[np.float32]) -> dict[str, Any]:
    mean, peak, share = score_map.mean(), score_map.max(), (score_map >= 0.5).mean()
    return {"name": name, "mean": float(mean), "peak": float(peak), "share": float(share)}


@with_option_groups
def boxes(
    images: Images,
    *,
    recursive: Recursive = False,
    box: Annotated[
        list[str] | None,
        Option("--box", "-b", help="LEFT,TOP,RIGHT,BOTTOM in pixels; repeat for more.", rich_help_panel=WHAT),
    ] = None,
    prompt: Annotated[
        list[str] | None, Option("--prompt", "-p", help="A phrase; repeat for more.", rich_help_panel=WHAT)
    ] = None,
    templates: Annotated[
        str, Option(help="Sentences around each phrase: none, imagenet, or a file.", rich_help_panel=WHAT)
    ] = "none",
    resolution: Annotated[str, Option(help="auto, squash or keep, optionally with a size: keep:448.")] = "auto",
    reading: ReadOptions,
    model: ModelOptions,
    report: ReportOptions,
) -> None:
    """Score phrases in boxes: which phrase fits which box."""
    clock = Stopwatch()
    with clock.during("imports"):
        from fgseg.commands.prefetch import read_file

    corners = [arguments.read_box(text) for text in box or ()]
    phrases = prompt or []
    if not corners or not phrases:
        missing = "--prompt" if corners else "--box"
        raise OptionError(f"{missing}: expected at least one, got none; give --box 10,20,200,150 --prompt cup")
    read = arguments.read_reading(reading)
    arguments.check_resolution(resolution)
    inputs = arguments.find_inputs(images, recursive=recursive)
    with clock.during("load"):
        seg = arguments.load_segmenter(model)

    def work(path: Path) -> list[dict[str, Any]]:
        with clock.during("read"):
            image = read_file(path, **read)
        with clock.during("encode and score"):
            scores = seg.score_boxes(image, corners, phrases, templates=templates, resolution=resolution)
        return [
            {"image": str(path), "box_xyxy": box_xyxy, "scores": _scores(phrases, cosine, probability)}
            for box_xyxy, cosine, probability in zip(corners, scores.cosine, scores.probabilities, strict=True)
        ]

    def rows(record: dict[str, Any]) -> Iterable[Sequence[Any]]:
        box_xyxy = ",".join(f"{value:g}" for value in record["box_xyxy"])
        for score in sorted(record["scores"], key=lambda score: -score["cosine"]):
            yield record["image"], box_xyxy, *_cells(score)

    run(inputs, work, rows, ("image", "box", "text", "cosine", "probability"), report, Ending(clock))


@with_option_groups
def rank(
    images: Images,
    *,
    recursive: Recursive = False,
    prompt: Annotated[
        list[str] | None, Option("--prompt", "-p", help="A caption; repeat for more.", rich_help_panel=WHAT)
    ] = None,
    route: Annotated[
        Route,
        Option(help="Text encoding of captions: short (at most 77 tokens) or long (at most 248)."),
    ] = "short",
    reading: ReadOptions,
    model: ModelOptions,
    report: ReportOptions,
) -> None:
    """Rank captions by how well they fit each whole image."""
    clock = Stopwatch()
    with clock.during("imports"):
        from fgseg.commands.prefetch import read_file

    captions = prompt or []
    if not captions:
        raise OptionError(
            "--prompt: expected at least one caption, got none; give --prompt 'a red circle on a white background'"
        )
    read = arguments.read_reading(reading)
    inputs = arguments.find_inputs(images, recursive=recursive)
    with clock.during("load"):
        seg = arguments.load_segmenter(model)

    def work(path: Path) -> list[dict[str, Any]]:
        with clock.during("read"):
            image = read_file(path, **read)
        with clock.during("encode and score"):
            ranking = seg.rank([image], captions, route=route)
        scores = _scores(captions, ranking.cosine[0], ranking.probabilities[0])
        return [{"image": str(path), "scores": [scores[index] for index in ranking.order[0]]}]

    def rows(record: dict[str, Any]) -> Iterable[Sequence[Any]]:
        for place, score in enumerate(record["scores"], start=1):
            yield record["image"], place, *_cells(score)

    run(inputs, work, rows, ("image", "rank", "caption", "cosine", "probability"), report, Ending(clock))


def _scores(
    texts: Sequence[str], cosines: NDArray[np.float32], probabilities: NDArray[np.float32]
) -> list[dict[str, Any]]:
    return [
        {"text": text, "cosine": round(float(cosine), 6), "probability": round(float(probability), 6)}
        for text, cosine, probability in zip(texts, cosines, probabilities, strict=True)
    ]


def _cells(score: dict[str, Any]) -> tuple[str, str, str]:
    return score["text"], f"{score['cosine']:.4f}", f"{score['probability']:.4f}"
