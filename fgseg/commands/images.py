"""The commands that work on images: `fgseg segment | heatmap | boxes | rank`.

Each command checks its options before it loads a model, and its prompts before it reads an image; then
`fgseg.commands.terminal.output.run` calls it for each image. Heavy modules are imported inside, so that `--help` is
quick.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from fgseg.commands.result_folders import plan
from fgseg.commands.segmenting.jobs import SegmentJob, SegmentTask, SegmentWorker
from fgseg.commands.segmenting.request import only_class_notes, read_request
from fgseg.commands.terminal.output import Ending, run
from fgseg.commands.terminal.stopwatch import Stopwatch
from fgseg.errors import OptionError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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
    workers: Annotated[
        int, Option(min=1, help="Processes of one thread each that segment images; they share all GPUs.")
    ] = 1,
    report: ReportOptions,
) -> None:
    """Segment images by words. Each image gets a label map, an overlay, a region table, or other formats."""
    clock = Stopwatch()
    with clock.during("imports"):
        from fgseg.commands.prefetch import Pooled
        from fgseg.segmentation.result import check_formats, written_files
        from fgseg.store.engines.resources import share_devices

    if workers > 1 and options.batch > 1:
        raise OptionError("--batch: with --workers, images are encoded one by one; leave one of the two out")
    written_formats = arguments.split_words(formats) or ["labels", "overlay", "regions"]
    check_formats(written_formats)
    settings = arguments.read_mask_options(masks, options) | {"vote": options.vote}
    request = read_request(images, words, reading, options, model.recipe, written_formats)
    large = arguments.read_by_region(request.inputs.paths, always=by_region)
    if options.dry_run:
        from fgseg.large.result import written_large_files  # only here, because it imports scipy.sparse

        names = [entry.name for entry in request.query.prompts]
        files = [written_large_files(written_formats), written_files(written_formats, names)]
        plan(request.inputs, request.folders, lambda path: files[path not in large], report)
        return
    with clock.during("load"):
        seg = arguments.load_segmenter(model)
    arguments.check_region_options(large, settings, written_formats, native=seg.encoder.side, reduction=reduction)
    with clock.during("words"):
        seg.prepare(request.query.prompts, **request.query.competitors)
    inputs, records = request.remaining(seg, {
        **settings, "command": "segment", "formats": sorted(written_formats), "by_region": by_region,
        "reduction": reduction, "base": base,
    }, quiet=report.quiet)  # fmt: skip

    job = SegmentJob(request.query, settings, written_formats, base, reduction)
    tasks = {path: SegmentTask(path, request.folders[path], records[path], path in large) for path in inputs.paths}
    changed: list[tuple[int, int]] = []  # the changed pixels and the pixels of each image that is not read by region

    def work(path: Path) -> list[dict[str, Any]]:
        if pooled is not None:
            with clock.during("wait for the processes"):
                done = pooled.take(path)
        elif path in large:
            done = job.segment_large(seg, tasks[path], clock, quiet=report.quiet)
        else:
            with clock.during("encode"):
                view = encoded.take(path)
            done = job.segment(seg, view, tasks[path], clock)
        if path not in large:
            changed.append(done.changed)
        return [done.record]

    devices = share_devices(seg.encoder.device, model.device)
    make = partial(SegmentWorker, arguments.model_arguments(model), devices, job)
    pooled = Pooled(make, tasks, workers=workers) if workers > 1 else None
    encoded = request.prefetcher(seg, [] if pooled else [path for path in inputs.paths if path not in large])
    keeps_some = bool(large) and "auto" in (settings["min_area"], settings["max_hole"])

    def notes() -> Iterable[str]:
        yield from only_class_notes(words)
        yield from _speck_notes(changed, keeps_some=keeps_some)

    is_auto = settings["threshold"] == "auto"
    header = ("image", "class", "% of pixels", "regions", "peak", *(("threshold",) if is_auto else ()))
    rows = partial(_segment_rows, with_threshold=is_auto)
    with nullcontext() if pooled is None else closing(pooled):
        run(inputs, work, rows, header, report, Ending(clock, notes, options.out, request.picture))


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
        from fgseg.segmentation.result import written_files

    request = read_request(images, words, reading, options, model.recipe, ["heatmaps"])
    query = request.query
    if options.dry_run:
        plan(request.inputs, request.folders, lambda _: written_files(["heatmaps"], ()), report)
        return
    with clock.during("load"):
        seg = arguments.load_segmenter(model)
    with clock.during("words"):
        seg.prepare(query.prompts, **query.competitors)
    names = ("resolution", "refine", "propagate", "vote")
    how: dict[str, Any] = {name: getattr(options, name) for name in names}
    asked = {**how, "base": base, "command": "heatmap", **({"full_size": True} if full_size else {})}
    inputs, records = request.remaining(seg, asked, quiet=report.quiet)

    def work(path: Path) -> list[dict[str, Any]]:
        with clock.during("encode"):
            image = encoded.take(path)
        maps = seg.heatmaps(image, query.prompts, region_map=query.region_map(path), **how, **query.competitors)
        classes: list[dict[str, Any]] = []
        with clock.during("maps and files"):
            written = maps.save(
                request.folders[path],
                observe=lambda name, score_map: classes.append(_summary(name, score_map)),
                record=records[path],
                base=base,
                size="image" if full_size else "grid",
            )
        return [{"image": str(path), "classes": classes, "files": [str(file) for file in written]}]

    encoded = request.prefetcher(seg, inputs.paths)
    header = ("image", "class", "mean", "peak", "% over 0.5")
    ending = Ending(clock, partial(only_class_notes, words), options.out, request.picture)
    run(inputs, work, _heatmap_rows, header, report, ending)


def _heatmap_rows(record: dict[str, Any]) -> Iterable[Sequence[Any]]:
    for entry in record["classes"]:
        share = f"{100 * entry['share']:.2f}"
        yield record["image"], entry["name"], f"{entry['mean']:.3f}", f"{entry['peak']:.3f}", share


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
