"""The command `fgseg bench`, which turns options into a request of `fgseg.evaluation` and prints the figures."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fgseg.commands.arguments import check_resolution, check_writable, load_segmenter, split_words
from fgseg.commands.exit_codes import SOME_FAILED, USAGE
from fgseg.commands.options import (
    Device,
    Dtype,
    Model,
    ModelOptions,
    Offline,
    Quiet,
    Revision,
    Route,
    Templates,
    Verbose,
    named_folder,
)
from fgseg.commands.output import complain, table, to_json
from fgseg.commands.status import STATUS
from fgseg.errors import OptionError

if TYPE_CHECKING:
    from fgseg.evaluation.requests import BenchmarkRequest, EvaluationData
    from fgseg.evaluation.runner import EvaluationTask, Outcome
    from fgseg.evaluation.tasks.sweep import Grid
    from fgseg.segmenter import Segmenter

__all__ = ["bench"]

_MOST_LISTED = 5  # faults or failed images


class TaskKind(StrEnum):
    """What is measured."""

    segmentation = "segmentation"
    boxes = "boxes"
    retrieval = "retrieval"


class PromptedClasses(StrEnum):
    """Which classes compete in an image."""

    all = "all"
    present = "present"


class LabelDecision(StrEnum):
    """How scores become labels."""

    protocol = "protocol"
    presence = "presence"


Data_ = Annotated[
    list[str] | None,
    typer.Option(
        "--data", "-d",
        help="voc21, voc20, context60, context59, coco-object, coco-stuff, cityscapes, ade20k, standard (all eight), "
        "scenes-colors, scenes-materials, scenes-patterns, scenes-shapes, a folder or a JSON file; repeatable. "
        "[default: the four sets of scenes]",
    ),
]  # fmt: skip
Root = Annotated[Path | None, typer.Option(help="Folder of a standard set, or of the images of a JSON file.")]
Preset = Annotated[str | None, typer.Option(help="Published settings: sclip, naclip, clearclip, proxyclip.")]
Classes = Annotated[Path | None, typer.Option("--classes", help="Class file that gives other words, in label order.")]
Words = Annotated[
    str | None,
    typer.Option(help="Words of a class: names or synonyms. [default: names for standard sets, else synonyms]"),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        help="Class to keep; repeatable. 'all' keeps every class and refuses a model that lacks words. "
        "[default: the classes that the model has words for]",
    ),
]
Background = Annotated[list[str] | None, typer.Option("--background", help="Query word of the background; repeatable.")]
_SEVERAL = " With --sweep: one or more, separated by commas."
Threshold = Annotated[str | None, typer.Option(help="Lowest probability or presence, 0 to 1." + _SEVERAL)]
LogitScale = Annotated[
    str | None, typer.Option(help="Factor on scores. [default: that of the preset or model]" + _SEVERAL)
]
Resolution = Annotated[
    str, typer.Option(help="auto, squash, keep or slide, with an optional size: slide:448." + _SEVERAL)
]
Recipe = Annotated[str, typer.Option(help="value, vanilla, sclip, naclip, kk, clearclip." + _SEVERAL)]
Refine = Annotated[str, typer.Option(help="auto (that of the model), none, guided, pamr or superpixel." + _SEVERAL)]


def bench(
    task: Annotated[TaskKind, typer.Option(help="What is measured.")] = TaskKind.segmentation,
    data: Data_ = None,
    root: Root = None,
    preset: Preset = None,
    classes: Classes = None,
    words: Words = None,
    only: Only = None,
    prompts: Annotated[PromptedClasses, typer.Option(help="Classes that compete in an image.")] = PromptedClasses.all,
    decision: Annotated[
        LabelDecision, typer.Option(help="Softmax as in published evaluations, or presence as in `fgseg segment`.")
    ] = LabelDecision.protocol,
    threshold: Threshold = None,
    logit_scale: LogitScale = None,
    background: Background = None,
    templates: Templates = None,
    resolution: Resolution = "auto",
    recipe: Recipe = "value",
    refine: Refine = "auto",
    route: Annotated[Route, typer.Option(help="Text route of retrieval.")] = Route.short,
    sweep: Annotated[bool, typer.Option("--sweep", help="Measure every combination and choose the best mIoU.")] = False,
    scenes: Annotated[int, typer.Option(min=1, help="Number of scenes in each procedural set.")] = 60,
    side: Annotated[int, typer.Option(min=32, help="Side of the procedural scenes in pixels.")] = 224,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Number of images to measure of each set, from its first.")
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Measure the images without faults of a set that has faults.")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Remove the rows of an earlier run first.")] = False,
    pictures: Annotated[
        bool, typer.Option(help="Write the figure and the page with the best and worst images.")
    ] = True,
    model: Model = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    revision: Revision = None,
    offline: Offline = False,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", parser=named_folder, metavar="FOLDER", help="Output folder; one subfolder per data set."
        ),
    ] = Path("fgseg-bench"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON per data set.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure a model on labelled images, or on procedural scenes if no data is given."""
    STATUS.start(quiet=quiet)
    from fgseg.evaluation.requests import BenchmarkRequest, open_data

    given = {
        "preset_name": preset, "templates": templates, "background": background,
        "decision": None if decision is LabelDecision.protocol else decision.value,
        "prompts": None if prompts is PromptedClasses.all else prompts.value,
    }  # fmt: skip
    grid, single = _grid(sweep, threshold, logit_scale, resolution, recipe, refine)
    settings = {name: value for name, value in {**given, **single}.items() if value is not None}
    if classes is not None and words is not None:
        raise OptionError("--classes: a class file has its words; leave --words out")
    options: dict[str, Any] = {} if not data else {"data": tuple(data)}
    if kept := tuple(split_words(only)):
        options["only"] = kept
    request = BenchmarkRequest(
        task=task.value, root=root, words=classes or words, settings=tuple(settings.items()),
        grid=grid, route=route.value, scenes=scenes, side=side, limit=limit, **options,
    )  # fmt: skip
    if task is not TaskKind.segmentation and not data:
        raise OptionError(f"--data: {task.value} needs a JSON file, got none; say --data annotations.json")
    sets = open_data(request)
    _refuse_faults(sets, keep_going=keep_going)
    check_writable(out)
    base = recipe if grid is None else (grid.recipes[0] or "value")
    seg = load_segmenter(ModelOptions(model, device, dtype, base, revision, offline, verbose))
    documents = _measured(seg, sets, request, out, fresh=fresh, pictures=pictures, quiet=quiet)
    STATUS.stop()
    _print(documents, as_json=as_json)
    if any(document["n_failed"] for document in documents):
        raise typer.Exit(SOME_FAILED)


def _measured(
    seg: Segmenter,
    sets: Sequence[EvaluationData],
    request: BenchmarkRequest,
    out: Path,
    *,
    fresh: bool,
    pictures: bool,
    quiet: bool,
) -> list[dict[str, Any]]:
    """Run every data set; all tasks are made first, so that an unknown word is refused before any is measured."""
    from fgseg.evaluation.report import run_document, write_run
    from fgseg.evaluation.requests import folder_names, make_task
    from fgseg.evaluation.rows import drop_rows
    from fgseg.evaluation.runner import ROWS_FILE, run_task

    documents = []
    tasks = [make_task(seg, data, request) for data in sets]
    for data, task in zip(sets, tasks, strict=True):
        _warn_of_unknown_classes(seg.encoder.name, data, task)
    for task, name in zip(tasks, folder_names(sets), strict=True):
        folder = out / name
        if fresh:
            drop_rows(folder / ROWS_FILE)
        outcome = run_task(task, folder, progress=_progress_bar(name, quiet))
        written = write_run(outcome, folder)
        if pictures and outcome.rows:
            from fgseg.evaluation.html_report import write_pictures

            written += write_pictures(task, outcome, folder)
        documents.append(run_document(outcome))
        _log_outcome(name, outcome, written)
    return documents


def _warn_of_unknown_classes(model: str, data: EvaluationData, task: EvaluationTask) -> None:
    """Warn if a model with a closed vocabulary is measured on some of the classes alone."""
    from fgseg.datasets.dataset import Dataset
    from fgseg.evaluation.tasks.segmentation import LabelledImagesTask

    if not (isinstance(data, Dataset) and isinstance(task, LabelledImagesTask)):
        return
    count, known = len(data.classes), len(task.dataset.classes)
    if known < count:
        complain(
            f"warning: {data.name}: {model} has words for {known} of {count} classes; measured on those alone, "
            "pixels of the others are not counted; --only all refuses this, --model takes another"
        )


def _progress_bar(name: str, quiet: bool) -> Any:
    def wrapped(names: Sequence[str]) -> Iterable[str]:
        from tqdm import tqdm

        # None: no bar if stderr is not a terminal
        return tqdm(names, desc=name, unit="image", file=sys.stderr, disable=True if quiet else None)

    return wrapped


def _log_outcome(name: str, outcome: Outcome, written: Sequence[Path]) -> None:
    from fgseg.evaluation.report import parts_of

    for image, reason in outcome.failed[:_MOST_LISTED]:
        complain(f"error: {name}, {image}: {reason}")
    resumed = f", {outcome.resumed} measured before" if outcome.resumed else ""
    failed = f", {len(outcome.failed)} failed" if outcome.failed else ""
    files = ", ".join(path.name for path in written)
    parts = parts_of(outcome.provenance)
    counts = f"{outcome.count} images{resumed}{failed}, {parts}{', ' if parts else ''}{outcome.seconds:.1f} s"
    complain(f"{name}: {counts}; {written[0].parent}: {files}")


def _refuse_faults(sets: Sequence[EvaluationData], *, keep_going: bool) -> None:
    from fgseg.evaluation.requests import faults

    found = [fault for data in sets for fault in faults(data)]
    if not found:
        return
    for fault in found[:_MOST_LISTED]:
        complain(f"{'warning' if keep_going else 'error'}: {fault}")
    if len(found) > _MOST_LISTED:
        complain(f"and {len(found) - _MOST_LISTED} more")
    if not keep_going:
        complain("nothing was measured; correct these, or --keep-going measures the others and counts these as failed")
        raise typer.Exit(USAGE)


def _grid(
    sweep: bool, threshold: str | None, logit_scale: str | None, resolution: str, recipe: str, refine: str
) -> tuple[Grid | None, dict[str, Any]]:
    """The values of a sweep, or the single values of a run."""
    numbers = {
        "threshold": _numbers("--threshold", threshold),
        "logit-scale": _numbers("--logit-scale", logit_scale),
    }
    texts = {"resolution": split_words([resolution]), "recipe": split_words([recipe]), "refine": split_words([refine])}
    for name, given in texts.items():
        if not given:
            raise OptionError(f"--{name}: expected a name, got none; leave it out")
    for one in texts["resolution"]:
        check_resolution(one)
    if sweep:
        from fgseg.evaluation.tasks.sweep import Grid

        recipes = tuple(texts["recipe"])
        refinements = tuple(None if one == "auto" else one for one in texts["refine"])
        none: tuple[float | None, ...] = (None,)
        return Grid(
            recipes, tuple(texts["resolution"]), refinements,
            numbers["logit-scale"] or none, numbers["threshold"] or none,
        ), {}  # fmt: skip
    for name, values in {**numbers, **texts}.items():
        if len(values) > 1:
            raise OptionError(f"--{name}: expected one value, got {len(values)}; several are for --sweep")
    single = {
        "threshold": next(iter(numbers["threshold"]), None), "logit_scale": next(iter(numbers["logit-scale"]), None),
        "resolution": None if resolution == "auto" else resolution, "refine": None if refine == "auto" else refine,
    }  # fmt: skip
    return None, single


def _numbers(name: str, text: str | None) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in split_words(None if text is None else [text]))
    except ValueError as error:
        raise OptionError(f"{name}: expected numbers between commas, got {text!r}") from error
    if text is not None and not numbers:
        raise OptionError(f"{name}: expected a number, got none; leave it out")
    return numbers


def _print(documents: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    from fgseg.evaluation.report import table_rows

    if as_json:
        for document in documents:
            typer.echo(to_json({key: value for key, value in document.items() if key != "confusion"}))
        return
    groups: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
    for document in documents:
        header, rows = table_rows(document)
        groups.setdefault(header, []).extend((document["data"]["name"], *row) for row in rows)
    for header, rows in groups.items():
        if rows:  # there are none if every image failed
            typer.echo(table(("data", *header), rows))
    for document in documents:
        if "chosen" in document:
            chosen = document["chosen"]
            values = ", ".join(f"{key} {chosen[key]}" for key in _SWEPT)
            typer.echo(f"chosen on {chosen['on']['images']} images of {chosen['on']['name']}: {values}")


_SWEPT = ("recipe", "resolution", "refine", "logit_scale", "threshold")
