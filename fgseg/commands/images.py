"""The commands that look at images: `fgseg segment | heatmap | boxes | rank`.

Each reads its options, checks what it can of them before a model is loaded and the rest before any image is read, and
hands `fgseg.commands.output.run` what to do with one image. Heavy modules load inside, so that `--help` is quick.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fgseg.commands.arguments import (
    check_region_options,
    check_resolution,
    check_writable,
    find_inputs,
    given_words,
    load_segmenter,
    read_box,
    read_by_region,
    read_prompts,
    read_threshold,
    result_folders,
    split_words,
)
from fgseg.commands.options import (
    AsJson,
    Background,
    Batch,
    Classes,
    Device,
    Dtype,
    Images,
    Mode,
    Model,
    Negative,
    Offline,
    Out,
    Prompts,
    Quiet,
    Recipe,
    Refine,
    Refining,
    Resolution,
    Revision,
    Route,
    Templates,
    Verbose,
)
from fgseg.commands.output import row_bar, run
from fgseg.errors import OptionError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fgseg.large.result import LargeSegmentation
    from fgseg.segmentation.result import Segmentation

__all__ = ["boxes", "heatmap", "rank", "segment"]


def segment(
    images: Images,
    prompt: Prompts = None,
    classes: Classes = None,
    background: Background = None,
    negative: Negative = None,
    mode: Annotated[Mode, typer.Option(help="One class a pixel, or a mask a class.")] = Mode.exclusive,
    threshold: Annotated[
        str | None, typer.Option(help="Least presence, 0 to 1, or auto. [default: the model's, 0.5 for most]")
    ] = None,
    templates: Templates = None,
    resolution: Resolution = "auto",
    refine: Refining = Refine.auto,
    min_area: Annotated[int, typer.Option(min=0, help="Pixels; smaller parts are dropped.")] = 1,
    max_hole: Annotated[int, typer.Option(min=0, help="Pixels; holes up to this are filled (independent).")] = 0,
    by_region: Annotated[
        bool,
        typer.Option("--by-region", help="Read tiled TIFFs by region, at their own scale, also below 178 megapixels."),
    ] = False,
    reduce: Annotated[
        int, typer.Option(min=1, help="Shrink images read by region by this whole number before windows see them.")
    ] = 1,
    model: Model = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    recipe: Recipe = "value",
    revision: Revision = None,
    offline: Offline = False,
    batch: Batch = 1,
    out: Out = Path("fgseg-out"),
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            "-f",
            help="labels, overlay, regions, heatmaps, masks, coco, geojson, yolo, labelme; again for more. "
            "[default: the first three]",
        ),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Masks from words: label map, overlay, region table and more for every image."""
    from fgseg.commands.prefetch import EncodedAhead
    from fgseg.segmentation.result import check_mode
    from fgseg.segmentation.saving import check_formats

    wanted = split_words(formats) or ["labels", "overlay", "regions"]
    check_formats(wanted)
    check_mode(mode.value, max_hole=max_hole)
    prompts, limit = read_prompts(prompt, classes), read_threshold(threshold)
    check_resolution(resolution)
    inputs = find_inputs(images)
    check_writable(out)
    seg = load_segmenter(model, device, dtype, recipe, revision, offline, verbose)
    options: dict[str, Any] = {
        "mode": mode.value, "threshold": limit, "background": given_words(background),
        "negatives": given_words(negative) or (),
        "templates": templates, "resolution": resolution, "refine": refine.value,
        "min_area": min_area, "max_hole": max_hole,
    }  # fmt: skip
    large = read_by_region(inputs.paths, always=by_region)
    check_region_options(large, options, wanted, native=seg.encoder.side, reduction=reduce)
    words = {name: options[name] for name in ("background", "negatives", "templates")}
    seg.prepare(prompts, **words)
    folders = result_folders(inputs.paths, out)

    def one(path: Path) -> list[dict[str, Any]]:
        if path in large:
            with row_bar(path.name, quiet=quiet) as progress:
                result: LargeSegmentation | Segmentation = seg.segment_large(
                    path, prompts, folders[path] / "labels.tif", threshold=limit, resolution=resolution,
                    reduction=reduce, progress=progress, **words,
                )  # fmt: skip
        else:
            result = seg.segment(views.take(path), prompts, **options)
        written = result.save(folders[path], formats=wanted)
        summary = result.to_dict()
        return [{"image": str(path), **summary, "files": [str(file) for file in written]}]

    def rows(record: dict[str, Any]) -> Iterable[Sequence[Any]]:
        for entry in record["classes"]:
            mine = [region for region in record["regions"] if region["class_index"] == entry["index"]]
            peak = max((region["peak_score"] for region in mine), default=0.0)
            yield record["image"], entry["name"], f"{100 * entry['share']:.2f}", len(mine), f"{peak:.3f}"

    small = [path for path in inputs.paths if path not in large]
    views = EncodedAhead(seg, small, resolution=resolution, batch_size=batch)
    run(inputs, one, rows, ("image", "class", "% of pixels", "regions", "peak"), as_json=as_json, quiet=quiet)


def heatmap(
    images: Images,
    prompt: Prompts = None,
    classes: Classes = None,
    background: Background = None,
    negative: Negative = None,
    templates: Templates = None,
    resolution: Resolution = "auto",
    refine: Refining = Refine.auto,
    model: Model = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    recipe: Recipe = "value",
    revision: Revision = None,
    offline: Offline = False,
    batch: Batch = 1,
    out: Out = Path("fgseg-out"),
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Where each prompt is: a picture of every prompt's presence, and its numbers as npz."""
    from fgseg.commands.prefetch import EncodedAhead
    from fgseg.types import watched

    prompts = read_prompts(prompt, classes)
    check_resolution(resolution)
    inputs = find_inputs(images)
    check_writable(out)
    seg = load_segmenter(model, device, dtype, recipe, revision, offline, verbose)
    words: dict[str, Any] = {
        "background": given_words(background),
        "negatives": given_words(negative) or (),
        "templates": templates,
    }
    seg.prepare(prompts, **words)
    folders = result_folders(inputs.paths, out)

    def one(path: Path) -> list[dict[str, Any]]:
        result = seg.segment(views.take(path), prompts, resolution=resolution, refine=refine.value, **words)
        maps: list[dict[str, Any]] = []
        scores = watched(result.scores, lambda name, score_map: maps.append(_about(name, score_map)))
        written = replace(result, scores=scores).save(folders[path], formats=["heatmaps"])
        return [{"image": str(path), "classes": maps, "files": [str(file) for file in written]}]

    def rows(record: dict[str, Any]) -> Iterable[Sequence[Any]]:
        for entry in record["classes"]:
            yield (
                record["image"],
                entry["name"],
                f"{entry['mean']:.3f}",
                f"{entry['peak']:.3f}",
                f"{100 * entry['share']:.2f}",
            )

    views = EncodedAhead(seg, inputs.paths, resolution=resolution, batch_size=batch)
    run(inputs, one, rows, ("image", "class", "mean", "peak", "% over 0.5"), as_json=as_json, quiet=quiet)


def _about(name: str, score_map: NDArray[np.float32]) -> dict[str, Any]:
    return {
        "name": name,
        "mean": float(score_map.mean()),
        "peak": float(score_map.max()),
        "share": float((score_map >= 0.5).mean()),
    }


def boxes(
    images: Images,
    box: Annotated[
        list[str] | None, typer.Option("--box", "-b", help="LEFT,TOP,RIGHT,BOTTOM in pixels; again for more.")
    ] = None,
    prompt: Annotated[list[str] | None, typer.Option("--prompt", "-p", help="A phrase; again for more.")] = None,
    templates: Annotated[str, typer.Option(help="Sentences around phrases: none, imagenet, or a file.")] = "none",
    resolution: Annotated[str, typer.Option(help="auto, squash or keep, with a size: keep:448.")] = "auto",
    model: Model = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    recipe: Recipe = "value",
    revision: Revision = None,
    offline: Offline = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Which phrase fits which box."""
    given = [read_box(text) for text in box or ()]
    phrases = prompt or []
    if not given or not phrases:
        missing = "--prompt" if given else "--box"
        raise OptionError(f"{missing}: expected at least one, got none; say --box 10,20,200,150 --prompt cup")
    check_resolution(resolution)
    inputs = find_inputs(images)
    seg = load_segmenter(model, device, dtype, recipe, revision, offline, verbose)

    def one(path: Path) -> list[dict[str, Any]]:
        scores = seg.score_boxes(path, given, phrases, templates=templates, resolution=resolution)
        return [
            {
                "image": str(path),
                "box_xyxy": row,
                "scores": [
                    {"text": text, "cosine": round(float(c), 6), "probability": round(float(p), 6)}
                    for text, c, p in zip(phrases, cosine, probability, strict=True)
                ],
            }
            for row, cosine, probability in zip(given, scores.cosine, scores.probabilities, strict=True)
        ]

    def rows(record: dict[str, Any]) -> Iterable[Sequence[Any]]:
        corners = ",".join(f"{value:g}" for value in record["box_xyxy"])
        for score in sorted(record["scores"], key=lambda score: -score["cosine"]):
            yield (
                record["image"],
                corners,
                score["text"],
                f"{score['cosine']:.4f}",
                f"{score['probability']:.4f}",
            )

    run(inputs, one, rows, ("image", "box", "text", "cosine", "probability"), as_json=as_json, quiet=quiet)


def rank(
    images: Images,
    prompt: Annotated[list[str] | None, typer.Option("--prompt", "-p", help="A caption; again for more.")] = None,
    route: Annotated[Route, typer.Option(help="short (77 tokens) or long (248).")] = Route.short,
    model: Model = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    recipe: Recipe = "value",
    revision: Revision = None,
    offline: Offline = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Which caption fits each whole image."""
    captions = prompt or []
    if not captions:
        raise OptionError(
            "--prompt: expected at least one caption, got none; say --prompt 'a red circle on a white background'"
        )
    inputs = find_inputs(images)
    seg = load_segmenter(model, device, dtype, recipe, revision, offline, verbose)

    def one(path: Path) -> list[dict[str, Any]]:
        ranking = seg.rank([path], captions, route=route.value)
        order = ranking.order[0]
        scores = [
            {
                "text": captions[i],
                "cosine": round(float(ranking.cosine[0, i]), 6),
                "probability": round(float(ranking.probabilities[0, i]), 6),
            }
            for i in order
        ]
        return [{"image": str(path), "scores": scores}]

    def rows(record: dict[str, Any]) -> Iterable[Sequence[Any]]:
        for place, score in enumerate(record["scores"], start=1):
            yield (
                record["image"],
                place,
                score["text"],
                f"{score['cosine']:.4f}",
                f"{score['probability']:.4f}",
            )

    run(inputs, one, rows, ("image", "rank", "caption", "cosine", "probability"), as_json=as_json, quiet=quiet)
