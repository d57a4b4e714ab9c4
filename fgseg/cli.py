"""The command line: `fgseg segment | heatmap | boxes | rank | bench | train | serve | models | doctor`.

Data goes to stdout, progress and errors to stderr. Exit 0 done, 1 failed, 2 usage, 3 finished but some images failed,
130 interrupted. Heavy modules load inside the commands, so that `--help` is quick.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
import warnings
from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperGroup

from fgseg._version import __version__
from fgseg.arguments import (
    USAGE,
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
from fgseg.bench_cli import bench
from fgseg.console import Report, complain, pairs, row_bar, run, table, to_json
from fgseg.errors import FgsegError, OptionError
from fgseg.serving import serve
from fgseg.train_command import train

if TYPE_CHECKING:
    from fgseg.large import LargeSegmentation
    from fgseg.segmentation import Segmentation

__all__ = ["app", "main"]

DONE, FAILED, INTERRUPTED = 0, 1, 130


def _click_error() -> type[Exception]:
    """The base of what typer refuses: click's own class, or that of the copy of click which newer typers carry."""
    return cast("type[Exception]", next(k for k in typer.BadParameter.__mro__ if k.__name__ == "ClickException"))


class _Interrupted(Exception):
    """Ctrl-C."""


class _ReaderGone(Exception):
    """Whoever read stdout has left, as in `| head`."""


class _Commands(TyperGroup):
    """Hands on what typer would turn into exit codes of its own."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise _Interrupted from error
        except BrokenPipeError as error:
            raise _ReaderGone from error


app = typer.Typer(
    name="fgseg",
    cls=_Commands,
    help="Words to masks: open-vocabulary segmentation with FG-CLIP.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class Mode(StrEnum):
    """How masks share pixels."""

    exclusive = "exclusive"
    independent = "independent"


class Refine(StrEnum):
    """Edge-aware refinement."""

    auto = "auto"
    none = "none"
    guided = "guided"
    pamr = "pamr"


class Route(StrEnum):
    """Text route of whole images."""

    short = "short"
    long = "long"


Refining = Annotated[Refine, typer.Option(help="Follow the image's edges; auto: as suits the model.")]
Images = Annotated[
    list[str], typer.Argument(metavar="IMAGE", help="Files, folders and patterns such as 'photos/*.jpg'.")
]
Prompts = Annotated[
    list[str] | None,
    typer.Option("--prompt", "-p", help="A class; again for more. 'cup, mug' are synonyms, '\\,' is a comma."),
]
Classes = Annotated[Path | None, typer.Option("--classes", help="Class file: .txt (a class a line), .json or .yaml.")]
Background = Annotated[
    list[str] | None,
    typer.Option(
        "--background",
        help="Word for anything else, in place of the model's own; again for more; '' for none.",
    ),
]
Negative = Annotated[
    list[str] | None,
    typer.Option("--negative", help="'Not this': competes and never wins a pixel; again for more."),
]
Templates = Annotated[
    str | None,
    typer.Option(help="Sentences around class names: none, imagenet, or a file. [default: the model's]"),
]
Model = Annotated[
    str | None,
    typer.Option("--model", help="Name (see `fgseg models`), folder or hub id. [default: FGSEG_MODEL, else mini]"),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
Recipe = Annotated[
    str,
    typer.Option(help="Dense recipe of CLIP and FG-CLIP 1: value, vanilla, sclip, naclip, kk, clearclip."),
]
Revision = Annotated[str | None, typer.Option(help="Hub commit, tag or branch. [default: the pinned one]")]
Offline = Annotated[bool, typer.Option("--offline", help="Never ask the network.")]
Resolution = Annotated[
    str, typer.Option(help="auto, squash, keep or slide, with a size: slide:448, slide:448/224/112.")
]
Out = Annotated[
    Path, typer.Option("--out", "-o", help="Folder for results; each image gets a folder of its own in it.")
]
Batch = Annotated[
    int,
    typer.Option(
        min=1,
        help="Images encoded together, for GPUs; with more than 1, pixels near a tie depend on the others.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object an image and line, instead of a table.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Log what is done; show where an unexpected error came from.")
]


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"fgseg {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(USAGE)


@app.command()
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
    from fgseg.ahead import EncodedAhead
    from fgseg.segmentation import check_formats

    wanted = split_words(formats) or ["labels", "overlay", "regions"]
    check_formats(wanted)
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
    run(
        inputs.paths,
        inputs.refused,
        one,
        Report(rows, as_json=as_json),
        ("image", "class", "% of pixels", "regions", "peak"),
        quiet=quiet,
    )


@app.command()
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
    from fgseg.ahead import EncodedAhead

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
        written = result.save(folders[path], formats=["heatmaps"])
        maps = [
            {
                "name": name,
                "mean": float(score_map.mean()),
                "peak": float(score_map.max()),
                "share": float((score_map >= 0.5).mean()),
            }
            for name, score_map in result.scores.items()
        ]
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
    run(
        inputs.paths,
        inputs.refused,
        one,
        Report(rows, as_json=as_json),
        ("image", "class", "mean", "peak", "% over 0.5"),
        quiet=quiet,
    )


@app.command()
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

    run(
        inputs.paths,
        inputs.refused,
        one,
        Report(rows, as_json=as_json),
        ("image", "box", "text", "cosine", "probability"),
        quiet=quiet,
    )


@app.command()
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
        ranking = seg.rank(path, captions, route=route.value)
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

    run(
        inputs.paths,
        inputs.refused,
        one,
        Report(rows, as_json=as_json),
        ("image", "rank", "caption", "cosine", "probability"),
        quiet=quiet,
    )


app.command()(bench)
app.command()(train)
app.command()(serve)


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(help="A model, to see its words, sizes and defaults.")] = None,
    as_json: AsJson = False,
) -> None:
    """The models that have a name here, and whether their weights are on this machine."""
    from fgseg.diagnosis import model_card, model_list

    if name is not None:
        card = model_card(name)
        typer.echo(to_json(card, indent=2) if as_json else pairs(card))
        return
    listed = model_list()
    if as_json:
        typer.echo(to_json(listed, indent=2))
    else:
        typer.echo(table(("model", "weights", "about"), [(m["name"], m["weights"], m["about"]) for m in listed]))


@app.command()
def doctor(device: Device = "auto", dtype: Dtype = "auto", model: Model = None, as_json: AsJson = False) -> None:
    """What is installed, which device and dtype would be used, and whether the weights are there."""
    from fgseg.diagnosis import diagnose

    report = diagnose(model, device=device, dtype=dtype)
    typer.echo(to_json(report, indent=2) if as_json else pairs(report))
    if report["problems"]:
        raise typer.Exit(FAILED)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: runs the command and turns every outcome into an exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(_exit_status(words))


def _exit_status(words: list[str]) -> int:
    verbose = bool({"-v", "--verbose"} & set(words))
    warnings.filterwarnings("ignore", category=UserWarning, module="PIL")  # of a file that is read, or refused, anyway
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # a file name or prompt that the terminal cannot show
        code = app(args=words, prog_name="fgseg", standalone_mode=False)
        sys.stdout.flush()
    except _click_error() as error:
        complain(_usage(error))
        return USAGE
    except (_Interrupted, KeyboardInterrupt, typer.Abort):
        complain("interrupted")
        return INTERRUPTED
    except (_ReaderGone, BrokenPipeError):
        # Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return DONE
    except FgsegError as error:
        complain(f"error: {error}")
        return USAGE
    except Exception as error:  # the last door: one line, and the trace for those who ask
        if verbose:
            traceback.print_exc()
        complain(f"failed: {type(error).__name__}: {error}" + ("" if verbose else " (again with -v to see where)"))
        return FAILED
    return code if isinstance(code, int) else DONE


def _usage(error: Any) -> str:
    """One line for an argument that typer refused."""
    command = error.ctx.command_path if getattr(error, "ctx", None) else "fgseg"
    message = error.format_message().replace("Value error, ", "").rstrip(".")  # pydantic's, which typer asks
    return f"error: {message}; see {command} --help"
