"""The command `fgseg batch`: many images into a store."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Argument, Option

from fgseg.commands import arguments
from fgseg.commands.options import (
    MaskOptions,
    ModelOptions,
    PromptOptions,
    ReadOptions,
    Regions,
    ReportOptions,
    ScoreOptions,
    Vote,
    with_option_groups,
)
from fgseg.commands.terminal.output import SOME_FAILED, complain, pairs, progress_bar, to_json
from fgseg.commands.terminal.status import STATUS
from fgseg.errors import OptionError

if TYPE_CHECKING:
    from fgseg.store.batch import BatchProgress

__all__ = ["batch"]

_PERIOD = 1.0  # seconds between two lines of JSON
_LOG_PERIOD = 60.0  # seconds between two lines in a log file


@dataclass(frozen=True)
class SourceFlags:
    """How sources are read."""

    recursive: Annotated[bool, Option("--recursive", help="Look into subfolders.")] = False
    every: Annotated[int | None, Option(min=1, help="Take every N-th frame of videos, also of those in folders.")] = (
        None
    )
    column: Annotated[
        str | None,
        Option(help="Column of a table with paths. [default: uri, path, image, file_name, filename or file]"),
    ] = None
    id_column: Annotated[str | None, Option(help="Column of a table with the ids of images.")] = None


@dataclass(frozen=True)
class StoreFlags:
    """What is done with the store."""

    unit: Annotated[
        int | None, Option(min=1, help="Images that are written together. [default: the store's, 256 for a new one]")
    ] = None
    retry_errors: Annotated[bool, Option("--retry-errors", help="Do images with an error row again.")] = False
    new_run: Annotated[
        bool, Option("--new-run", help="Accept a store that holds runs with other settings, and add this one.")
    ] = False
    shard: Annotated[
        str, Option(metavar="I/N", help="Do every N-th unit, beginning with number I; for N jobs on one store.")
    ] = "1/1"
    scores: Annotated[bool, Option("--scores", help="Keep the presence of every class on the grid, too.")] = False


@dataclass(frozen=True)
class EngineFlags:
    """Where units are done."""

    engine: Annotated[Literal["local", "ray"], Option(help="local: processes on this machine. ray: a Ray cluster.")] = (
        "local"
    )
    workers: Annotated[str, Option(metavar="N", help="Processes; auto takes one per core or share of a GPU.")] = "auto"
    threads: Annotated[int, Option(min=1, help="Threads of each process.")] = 1
    gpus_per_worker: Annotated[float, Option(min=0.01, max=1, help="Share of a GPU for each process: 0.25.")] = 1.0
    address: Annotated[str, Option(help="Ray cluster: local starts one here, auto finds it, or HOST:PORT.")] = "local"


@with_option_groups
def batch(
    sources: Annotated[
        list[str],
        Argument(
            metavar="SOURCE",
            help="Folders, images, patterns, tables (.csv, .parquet), videos, s3://... addresses, - for a list.",
        ),
    ],
    *,
    words: PromptOptions,
    store: Annotated[str, Option(metavar="STORE", help="Folder of the results, or an address such as s3://...")],
    masks: MaskOptions,
    scoring: ScoreOptions,
    regions: Regions = None,
    vote: Vote = False,
    reading: ReadOptions,
    source_flags: SourceFlags,
    store_flags: StoreFlags,
    engine: EngineFlags,
    model: ModelOptions,
    report: ReportOptions,
) -> None:
    """Segment many images into a store. If it is stopped, by whatever, the same command goes on.

    Exit status: 0 done, 1 stopped and can go on, 2 wrong usage, 3 done but some images have an error row, 130 and 143
    interrupted. See docs/batch.md.
    """
    from fgseg.store.opening import check_packages

    check_packages()
    from fgseg.store.batch import BatchRequest, EngineOptions, plan_batch, run_plan
    from fgseg.store.regions import regions_of
    from fgseg.store.sources import SourceOptions, check_sources
    from fgseg.store.units import UnitOptions

    settings = arguments.read_mask_options(masks, scoring) | {"vote": vote}
    prompts, competitors = arguments.read_prompts(words), arguments.read_competitors(words)
    read = arguments.read_reading(reading)
    arguments.check_regions([] if regions is None else [regions], model.recipe, vote=vote)
    request = BatchRequest(
        check_sources(sources),
        store,
        arguments.model_arguments(model),
        UnitOptions(tuple(prompts), {**settings, **competitors}, read, store_flags.scores, regions_of(regions)),
        SourceOptions(**asdict(source_flags)),
        EngineOptions(**{**asdict(engine), "workers": _read_workers(engine.workers)}),
        store_flags.unit,
        store_flags.retry_errors,
        store_flags.new_run,
        _read_shard(store_flags.shard),
    )
    seg = arguments.load_segmenter(model)
    with STATUS.during("listing images"):
        plan = plan_batch(seg, request)
    del seg  # each worker has its own
    if plan.left_out:
        complain("left out: " + ", ".join(f"{kind} ({count})" for kind, count in sorted(plan.left_out.items())))
    with progress_bar(unit="image", quiet=report.quiet or report.as_json) as bar, STATUS.refreshing(bar):
        try:
            result = run_plan(plan, _watcher(bar, report))
        except (KeyboardInterrupt, SystemExit):
            complain("what is done is kept; give the same command again to go on")
            raise
    typer.echo(to_json(asdict(result)) if report.as_json else pairs({**asdict(result), "left_out": None}))
    if result.failed:
        complain(f"images with an error row: {result.failed}; fgseg store status {store} --errors lists them")
        raise typer.Exit(SOME_FAILED)


def _watcher(bar: Any, report: ReportOptions) -> Callable[[BatchProgress], None]:
    """Shows how far the run is: a bar on a terminal, a line a minute in a log file, or lines of JSON."""
    shown = time.monotonic()
    period = _PERIOD if report.as_json else _LOG_PERIOD

    def watch(progress: BatchProgress) -> None:
        nonlocal shown
        bar.total = progress.total
        if progress.failed:
            bar.set_postfix_str(f"{progress.failed} failed", refresh=False)
        bar.update(progress.done + progress.failed - bar.n)
        is_due = time.monotonic() - shown >= period and not report.quiet
        if is_due and report.as_json:
            typer.echo(to_json(_values(progress)), err=True)
        elif is_due and not sys.stderr.isatty():
            complain(_line(progress))
        if is_due:
            shown = time.monotonic()

    return watch


def _values(progress: BatchProgress) -> dict[str, Any]:
    left = progress.seconds_left
    return {
        "done": progress.done, "failed": progress.failed, "left": progress.left,
        "images_per_second": round(progress.rate, 3), "seconds_left": None if left is None else round(left),
    }  # fmt: skip


def _line(progress: BatchProgress) -> str:
    to_go = "" if progress.seconds_left is None else f", {progress.seconds_left / 60:.0f} min to go"
    return f"{progress.done} done, {progress.failed} failed, {progress.left} left, {progress.rate:.2f} images/s{to_go}"


def _read_workers(text: str) -> int | Literal["auto"]:
    """A number of processes, or "auto".

    >>> _read_workers("4"), _read_workers("auto")
    (4, 'auto')
    """
    if text == "auto":
        return "auto"
    if text.isdecimal() and int(text):
        return int(text)
    raise OptionError(f"--workers: expected a whole number from 1, or auto, got {text!r}")


def _read_shard(text: str) -> tuple[int, int]:
    """Number and count of a shard.

    >>> _read_shard("2/3")
    (2, 3)
    """
    number, slash, count = text.partition("/")
    if slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
        return int(number), int(count)
    raise OptionError(f"--shard: expected I/N with I from 1 to N, got {text!r}; give --shard 1/4")
