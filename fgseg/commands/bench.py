"""The command `fgseg bench`, which turns options into a request of `fgseg.evaluation` and prints the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import typer
from typer import Option

from fgseg.commands.arguments import check_regions, check_resolution, check_writable, load_segmenter, split_words
from fgseg.commands.options import (
    OUTPUT,
    WHAT,
    ModelOptions,
    ReportOptions,
    Route,
    Templates,
    Vote,
    named_folder,
    with_option_groups,
)
from fgseg.commands.terminal.output import SOME_FAILED, USAGE, complain, progress_bar, table, to_json
from fgseg.commands.terminal.status import STATUS
from fgseg.errors import OptionError

if TYPE_CHECKING:
    from fgseg.evaluation.requests import BenchmarkRequest, EvaluationData
    from fgseg.evaluation.runner import EvaluationTask, Outcome
    from fgseg.segmenter import Segmenter

__all__ = ["bench"]

_MOST_LISTED = 5  # faults or failed images


@dataclass(frozen=True)
class DataOptions:
    """What is measured, and on which images."""

    panel: ClassVar[str] = WHAT

    task: Annotated[Literal["segmentation", "boxes", "retrieval"], Option(help="What is measured.")] = "segmentation"
    data: Annotated[
        list[str] | None,
        Option(
            "--data",
            "-d",
            help="voc21, voc20, context60, context59, coco-object, coco-stuff, cityscapes, ade20k, standard (all "
            "eight), scenes-colors, scenes-materials, scenes-patterns, scenes-shapes, a folder, a JSON file, or "
            "the output folder of fgseg segment; repeat for more.",
            show_default="the four sets of scenes",
        ),
    ] = None
    root: Annotated[
        Path | None, Option(help="Folder of a standard set, or of the images of a JSON file or of results.")
    ] = None
    classes: Annotated[Path | None, Option(help="Class file with other words, in label order.")] = None
    words: Annotated[
        str | None,
        Option(
            help="names: first word of each class; synonyms: all.",
            show_default="names for standard sets, else synonyms",
        ),
    ] = None
    only: Annotated[
        list[str] | None,
        Option(
            help="Class to keep; repeatable. 'all' keeps every class and refuses a model that lacks words.",
            show_default="the classes that the model has words for",
        ),
    ] = None
    route: Annotated[Route, Option(help="Text encoding of captions: short or long.")] = "short"
    scenes: Annotated[int, Option(min=1, help="Number of scenes in each procedural set.")] = 60
    side: Annotated[int, Option(min=32, help="Side of the procedural scenes in pixels.")] = 224
    limit: Annotated[
        int | None, Option(min=1, help="Number of images to measure in each set, counted from the first.")
    ] = None


@dataclass(frozen=True)
class SettingOptions:
    """How images become labels; --recipe and --guide are options of the model."""

    preset: Annotated[
        str | None,
        Option(help="Published settings: sclip, naclip, clearclip, proxyclip, corrclip, lposs."),
    ] = None
    prompts: Annotated[Literal["all", "present"], Option(help="Classes that compete in an image.")] = "all"
    decision: Annotated[
        Literal["protocol", "presence"],
        Option(help="Softmax as in published evaluations, or presence as in fgseg segment."),
    ] = "protocol"
    threshold: Annotated[
        str | None, Option(help="Minimum probability or presence, 0 to 1.", show_default="that of the preset or model")
    ] = None
    logit_scale: Annotated[
        str | None, Option(help="Factor on scores, above 0.", show_default="that of the preset or model")
    ] = None
    background: Annotated[list[str] | None, Option(help="Word for the background; repeatable.")] = None
    templates: Templates = None
    resolution: Annotated[str, Option(help="auto, squash, keep or slide, with an optional size: slide:448.")] = "auto"
    refine: Annotated[str, Option(help="auto (that of the model), none, guided, pamr or superpixel.")] = "auto"
    propagate: Annotated[
        str | None, Option(help="none, patches, pixels or both.", show_default="that of the preset, else none")
    ] = None
    regions: Annotated[
        str | None,
        Option(
            metavar="FOLDER|superpixels|eomt",
            help="Regions of the images: superpixels, eomt, or a folder with a map for each image.",
        ),
    ] = None
    vote: Vote = False
    specks: Annotated[
        Literal["keep", "join"],
        Option(help="Keep small parts and gaps, or join them to what is around them as fgseg segment does."),
    ] = "keep"
    sweep: Annotated[
        bool,
        Option(
            "--sweep",
            help="Measure every combination of --recipe, --resolution, --refine, --logit-scale, --threshold, "
            "--propagate and --regions, each with one or more values separated by commas, and choose the best mIoU.",
        ),
    ] = False


@dataclass(frozen=True)
class OutputOptions:
    """What is measured again, and what is written where."""

    panel: ClassVar[str] = OUTPUT

    keep_going: Annotated[
        bool, Option("--keep-going", help="If images or annotations of a set have faults, measure the others.")
    ] = False
    fresh: Annotated[bool, Option("--fresh", help="Remove the rows of an earlier run first.")] = False
    pictures: Annotated[bool, Option(help="Write the figure and the page with the best and worst images.")] = True
    out: Annotated[
        Path,
        Option("--out", "-o", parser=named_folder, metavar="FOLDER", help="Output folder; one subfolder per data set."),
    ] = Path("fgseg-bench")


@with_option_groups
def bench(
    *, what: DataOptions, how: SettingOptions, model: ModelOptions, output: OutputOptions, report: ReportOptions
) -> None:
    """Measure a model on labelled images. Without --data, it is measured on procedural scenes."""
    from fgseg.evaluation.requests import open_data

    values = _values(how, model.recipe)
    request = _request(what, how, values)
    sets = open_data(request)
    _refuse_faults(sets, keep_going=output.keep_going, quiet=report.quiet)
    check_writable(output.out)
    seg = load_segmenter(replace(model, recipe=values["recipe"][0]))
    documents = _measured(seg, sets, request, output, quiet=report.quiet)
    STATUS.stop()
    if report.as_json:
        for document in documents:
            typer.echo(to_json({key: value for key, value in document.items() if key != "confusion"}))
    elif not report.quiet:
        _print_tables(documents)
    if any(document["n_failed"] for document in documents):
        raise typer.Exit(SOME_FAILED)


def _request(what: DataOptions, how: SettingOptions, values: Mapping[str, tuple[Any, ...]]) -> BenchmarkRequest:
    from fgseg.datasets.scenes import SCENE_SETS
    from fgseg.evaluation.requests import BenchmarkRequest
    from fgseg.evaluation.tasks.sweep import Grid

    if what.classes is not None and what.words is not None:
        raise OptionError("--classes: a class file has its words; leave --words out")
    if what.task != "segmentation" and not what.data:
        raise OptionError(f"--data: the task {what.task} needs a JSON file, got none; give --data annotations.json")
    settings = {
        "preset_name": how.preset, "templates": how.templates, "background": how.background,
        "decision": None if how.decision == "protocol" else how.decision,
        "prompts": None if how.prompts == "all" else how.prompts,
        "specks": None if how.specks == "keep" else how.specks,
        "vote": None if how.sweep else how.vote or None,
    }  # fmt: skip
    if not how.sweep:
        settings |= {name: value for name, (value,) in values.items() if name != "recipe" and value != "auto"}
    return BenchmarkRequest(
        task=what.task, data=tuple(what.data or SCENE_SETS), root=what.root, words=what.classes or what.words,
        only=tuple(split_words(what.only)) or ("known",), route=what.route,
        settings=tuple((name, value) for name, value in settings.items() if value is not None),
        grid=Grid(*values.values()) if how.sweep else None,
        scenes=what.scenes, side=what.side, limit=what.limit,
    )  # fmt: skip


def _measured(
    seg: Segmenter, sets: Sequence[EvaluationData], request: BenchmarkRequest, output: OutputOptions, *, quiet: bool
) -> list[dict[str, Any]]:
    """Run every data set; all tasks are made first, so that an unknown word is refused before any set is measured."""
    from fgseg.evaluation.report import run_document, write_run
    from fgseg.evaluation.requests import folder_names, make_task
    from fgseg.evaluation.rows import drop_rows
    from fgseg.evaluation.runner import ROWS_FILE, run_task

    documents = []
    tasks = [make_task(seg, data, request) for data in sets]
    for data, task in () if quiet else zip(sets, tasks, strict=True):
        _warn_of_unknown_classes(seg.encoder.name, data, task)
    for task, name in zip(tasks, folder_names(sets), strict=True):
        folder = output.out / name
        if output.fresh:
            drop_rows(folder / ROWS_FILE)
        outcome = run_task(task, folder, progress=partial(progress_bar, desc=name, unit="image", quiet=quiet))
        written = write_run(outcome, folder)
        if output.pictures and outcome.rows:
            from fgseg.evaluation.html_report import write_pictures

            written += write_pictures(task, outcome, folder)
        documents.append(run_document(outcome))
        _log_outcome(name, outcome, written, quiet=quiet)
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
            "pixels of the others are not counted; --only all refuses this, --model chooses another model"
        )


def _log_outcome(name: str, outcome: Outcome, written: Sequence[Path], *, quiet: bool) -> None:
    from fgseg.evaluation.report import parts_of

    for image, reason in outcome.failed[:_MOST_LISTED]:
        complain(f"error: {name}, {image}: {reason}")
    if quiet:
        return
    skipped = {reason: count for reason, count in outcome.summary.get("boxes_skipped", {}).items() if count}
    if skipped:
        reasons = ", ".join(f"{reason} {count}" for reason, count in skipped.items())
        complain(f"{name}: {sum(skipped.values())} boxes skipped ({reasons})")
    resumed = f", {outcome.resumed} measured before" if outcome.resumed else ""
    failed = f", {len(outcome.failed)} failed" if outcome.failed else ""
    files = ", ".join(path.name for path in written)
    parts = parts_of(outcome.provenance)
    counts = f"{outcome.count} images{resumed}{failed}, {parts}{', ' if parts else ''}{outcome.seconds:.1f} s"
    complain(f"{name}: {counts}; {written[0].parent}: {files}")


def _refuse_faults(sets: Sequence[EvaluationData], *, keep_going: bool, quiet: bool) -> None:
    from fgseg.datasets.dataset import Dataset
    from fgseg.evaluation.requests import faults

    for note in (note for data in sets if isinstance(data, Dataset) and not quiet for note in data.notes):
        complain(f"warning: {note}")
    found = [fault for data in sets for fault in faults(data)]
    if not found or (keep_going and quiet):
        return
    for fault in found[:_MOST_LISTED]:
        complain(f"{'warning' if keep_going else 'error'}: {fault}")
    if len(found) > _MOST_LISTED:
        complain(f"and {len(found) - _MOST_LISTED} more")
    if not keep_going:
        complain(
            "nothing was measured; correct these, or --keep-going leaves faulty annotations out, counts faulty images "
            "as failed and measures the rest"
        )
        raise typer.Exit(USAGE)


def _values(how: SettingOptions, recipe: str) -> dict[str, tuple[Any, ...]]:
    """The values of each setting that a sweep may vary, in the order of `Grid`; None takes the default."""
    for one in split_words([how.resolution]):
        check_resolution(one)
    values = {
        "recipe": _split("recipe", recipe, str),
        "resolution": _split("resolution", how.resolution, str),
        "refine": tuple(None if one == "auto" else one for one in _split("refine", how.refine, str)),
        "logit_scale": _split("logit-scale", how.logit_scale, float),
        "threshold": _split("threshold", how.threshold, float),
        "propagate": _split("propagate", how.propagate, str),
        "region_map": _split("regions", how.regions, str),
    }
    check_regions(split_words([how.regions] if how.regions else None), recipe, vote=how.vote)
    for name, several in values.items():
        if len(several) > 1 and not how.sweep:
            flag = "regions" if name == "region_map" else name.replace("_", "-")
            raise OptionError(f"--{flag}: expected one value, got {len(several)}; several need --sweep")
    return values


def _split(name: str, text: str | None, kind: type[str] | type[float]) -> tuple[Any, ...]:
    """The values between the commas; None alone if the option is not given."""
    if text is None:
        return (None,)
    try:
        values = tuple(kind(part) for part in split_words([text]))
    except ValueError as error:
        raise OptionError(f"--{name}: expected numbers separated by commas, got {text!r}") from error
    if not values:
        raise OptionError(f"--{name}: expected {'a name' if kind is str else 'a number'}, got none; leave it out")
    return values


def _print_tables(documents: Sequence[Mapping[str, Any]]) -> None:
    from fgseg.evaluation.report import SWEPT, table_rows

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
            values = ", ".join(f"{key} {chosen[key]}" for key in SWEPT)
            typer.echo(f"chosen on {chosen['on']['images']} images of {chosen['on']['name']}: {values}")
