"""`fgseg.batch`: many images into a store. It plans what is left, gives the units to an engine, and counts."""

from __future__ import annotations

import logging
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

from fgseg._checks import check_choice, check_number, check_whole
from fgseg.errors import BatchError, DiskError, FgsegError, OptionError, OutputError, StoreError
from fgseg.guides.propagation import Propagate
from fgseg.guides.votes import check_vote
from fgseg.images.levels import check_stretch
from fgseg.images.samples import band_numbers
from fgseg.prompts.classes import PromptClass, parse_classes
from fgseg.scoring.resolution import Resolution
from fgseg.segmentation.result import checked_sizes
from fgseg.segmenter import Segmenter, load
from fgseg.store.engines.local import Done, Event, Told, WorkerDied, ended_by, run_tasks
from fgseg.store.engines.resources import cores, share_devices
from fgseg.store.engines.worker import Job, UnitWorker, run_identity
from fgseg.store.manifest import Appended
from fgseg.store.regions import regions_of
from fgseg.store.schema import Unit
from fgseg.store.sources import SourceOptions, check_sources, find_items
from fgseg.store.store import Store
from fgseg.store.units import UnitOptions

__all__ = ["BatchProgress", "BatchReport", "BatchRequest", "Engine", "EngineOptions", "batch", "plan_batch", "run_plan"]

Engine = Literal["local", "ray"]

log = logging.getLogger("fgseg")
_WORTH_A_PROCESS = 8  # images; fewer take less time than the start of a process that shares them
_TRIES = 6  # of a unit in a run; from the third on, its images have a process of their own


@dataclass(frozen=True)
class EngineOptions:
    """Where and how units are done.

    Attributes:
        engine: "local" for processes on this machine, "ray" for a cluster.
        workers: number of processes; "auto" takes one per `threads` cores, or as many as the GPUs hold.
        threads: of torch and OpenCV, in each process.
        gpus_per_worker: share of a GPU for each process, above 0 and up to 1.
        address: of the Ray cluster: "local" starts one on this machine, "auto" finds it, or "HOST:PORT".

    Raises:
        OptionError: a value out of its range.
    """

    engine: Engine = "local"
    workers: int | Literal["auto"] = "auto"
    threads: int = 1
    gpus_per_worker: float = 1.0
    address: str = "local"

    def __post_init__(self) -> None:
        check_choice("engine", self.engine, get_args(Engine))
        if self.workers != "auto":
            check_whole("workers", self.workers, low=1, high=4096, hint="or 'auto'")
        check_whole("threads", self.threads, low=1, high=1024)
        check_number("gpus_per_worker", self.gpus_per_worker, low=0.01, high=1)
        if not self.address:
            raise OptionError("address: expected local, auto or HOST:PORT, got no name")


@dataclass(frozen=True)
class BatchRequest:
    """A batch run, as it was asked for.

    Attributes:
        sources: as in `batch`.
        store: path or address of the store.
        model: arguments of `fgseg.load`.
        options: what is done with each image.
        source_options: how sources are read.
        engine: where units are done.
        unit_size: images per unit; None takes the store's own, or 256 for a new store.
        retry_errors: whether images with an error row are done again.
        new_run: whether the store may hold runs with other settings.
        shard: (number, count), from (1, 1): this run does every count-th unit.

    Raises:
        OptionError: a shard that does not exist.
    """

    sources: Sequence[str | Path]
    store: str
    model: Mapping[str, Any]
    options: UnitOptions
    source_options: SourceOptions = field(default_factory=SourceOptions)
    engine: EngineOptions = field(default_factory=EngineOptions)
    unit_size: int | None = None
    retry_errors: bool = False
    new_run: bool = False
    shard: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        number, count = self.shard
        check_whole("shard", count, low=1, high=10**6)
        check_whole("shard", number, low=1, high=count, hint="shards count from 1")


@dataclass(frozen=True)
class BatchProgress:
    """How far a run is.

    Attributes:
        total: images that this run has to do.
        done: images with a result.
        failed: images with an error.
        seconds: since the first unit was given out.
    """

    total: int
    done: int
    failed: int
    seconds: float

    @property
    def left(self) -> int:
        """Images that are left."""
        return max(0, self.total - self.done - self.failed)

    @property
    def rate(self) -> float:
        """Images per second; 0 at the beginning."""
        return (self.done + self.failed) / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Seconds that are left at this rate; None at the beginning."""
        return self.left / self.rate if self.rate else None


@dataclass(frozen=True)
class BatchReport:
    """What a run did.

    Attributes:
        store: path or address of the store.
        run: key of the run in the store.
        listed: images that the sources have.
        new: those of them that the store did not know.
        changed: those of them that the store knew in another version.
        done: images to which this run gave a result.
        failed: images to which it gave an error row.
        skipped: listed images that had a row before, that another process did, or that belong to another shard.
        left_out: what the sources have besides, by reason: duplicates, other files, subfolders, hidden files.
        seconds: of segmenting, without loading and listing.
    """

    store: str
    run: str
    listed: int
    new: int
    changed: int
    done: int
    failed: int
    skipped: int
    left_out: Mapping[str, int]
    seconds: float


@dataclass(frozen=True)
class Plan:
    """What is left to do.

    Attributes:
        request: as it was asked for.
        job: what workers must know.
        store: the store, opened.
        units: those of this shard that are left, in a random order.
        found: the images that the sources have.
        left_out: as in `BatchReport`.
        workers: number of processes; None takes as many as a Ray cluster holds.
    """

    request: BatchRequest
    job: Job
    store: Store
    units: tuple[Unit, ...]
    found: Appended
    left_out: Mapping[str, int]
    workers: int | None


def batch(
    sources: Sequence[str | Path],
    prompts: Sequence[str | PromptClass],
    store: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str] | None = None,
    device: str = "auto",
    dtype: str = "auto",
    recipe: str = "value",
    guide: str | os.PathLike[str] | None = None,
    revision: str | None = None,
    offline: bool | None = None,
    mode: Literal["exclusive", "independent"] = "exclusive",
    threshold: float | Literal["auto"] | None = None,
    background: Sequence[str] | None = None,
    negatives: Sequence[str] = (),
    templates: str | Sequence[str] | None = None,
    resolution: str | Resolution = "auto",
    refine: Literal["auto", "none", "guided", "pamr"] = "auto",
    propagate: Propagate = "none",
    region_map: str | os.PathLike[str] | None = None,
    vote: bool = False,
    min_area: int | Literal["auto"] = "auto",
    max_hole: int | Literal["auto"] = "auto",
    bands: Sequence[int] | None = None,
    stretch: Sequence[float] | None = None,
    scores: bool = False,
    engine: Engine = "local",
    workers: int | Literal["auto"] = "auto",
    threads: int = 1,
    gpus_per_worker: float = 1.0,
    address: str = "local",
    unit_size: int | None = None,
    column: str | None = None,
    id_column: str | None = None,
    every: int | None = None,
    recursive: bool = False,
    retry_errors: bool = False,
    new_run: bool = False,
    shard: tuple[int, int] = (1, 1),
    progress: Callable[[BatchProgress], None] | None = None,
) -> BatchReport:
    """Segment many images into a store. A run that was stopped, by whatever, goes on with the same call.

    Processes are spawned, so a script calls this below `if __name__ == "__main__":`. An image that cannot be read gets
    an error row. `fgseg.open_store` reads the results.

    Args:
        sources: folders, picture files, patterns, tables (.csv, .parquet), videos, addresses such as
            s3://bucket/photos, and "-" for a list on stdin.
        prompts: as in `Segmenter.segment`.
        store: folder of the store, or an address that fsspec opens.
        model: as in `fgseg.load`.
        device: as in `fgseg.load`; "cuda" takes all GPUs.
        dtype: as in `fgseg.load`.
        recipe: as in `fgseg.load`.
        guide: as in `fgseg.load`, by name, folder or hub id.
        revision: as in `fgseg.load`.
        offline: as in `fgseg.load`.
        mode: as in `Segmenter.segment`.
        threshold: as in `Segmenter.segment`.
        background: as in `Segmenter.segment`.
        negatives: as in `Segmenter.segment`.
        templates: as in `Segmenter.segment`.
        resolution: as in `Segmenter.segment`.
        refine: as in `Segmenter.segment`.
        propagate: as in `Segmenter.segment`.
        region_map: "superpixels", "eomt", a file as in `Segmenter.segment` for all images, or a folder with a file for
            each image, such as a.png for a.jpg; the files of subfolders may lie in subfolders of the same names. Files
            belong to the settings of a run by their content.
        vote: as in `Segmenter.segment`.
        min_area: as in `Segmenter.segment`.
        max_hole: as in `Segmenter.segment`.
        bands: as in `fgseg.images.read_image`.
        stretch: as in `fgseg.images.read_image`.
        scores: keep the presence of every class on the grid of patches, too.
        engine: "local" for processes on this machine, "ray" for a Ray cluster.
        workers: number of processes; "auto" takes one per core, or one per GPU share.
        threads: of each process.
        gpus_per_worker: share of a GPU for each process, such as 0.25 for four on a GPU.
        address: of the Ray cluster: "local" starts one, "auto" finds it, or "HOST:PORT".
        unit_size: images per unit, which are written together; None takes the store's own, or 256 for a new store.
        column: column of a table with paths or addresses; None takes uri, path, image, file_name, filename or file.
        id_column: column of a table with the ids of images.
        every: take every n-th frame of videos, also of those in folders.
        recursive: look into subfolders.
        retry_errors: do images with an error row again.
        new_run: accept a store that holds runs with other settings.
        shard: (number, count): do every count-th unit, as one of several calls on one store.
        progress: called after each image.

    Returns:
        What was done.

    Raises:
        OptionError: an argument with a value that it cannot take.
        ImageError: a source that is not there, or without images; regions that cannot be read.
        PromptError: as `Segmenter.segment`.
        StoreError: a store of another run, without `new_run`.
        DiskError: the disk of the store is full or read-only. What is done is kept.
        BatchError: the machine failed in another way. What is done is kept.
    """
    smallest, largest_hole = checked_sizes(mode, min_area=min_area, max_hole=max_hole)
    request = BatchRequest(
        sources,
        os.fspath(store),
        {
            "model": model, "device": device, "dtype": dtype, "recipe": recipe, "guide": guide, "revision": revision,
            "offline": offline,
        },
        UnitOptions(
            parse_classes(prompts),
            {
                "mode": mode, "threshold": threshold, "background": background, "negatives": tuple(negatives),
                "templates": templates, "resolution": resolution, "refine": refine, "propagate": propagate,
                "vote": vote, "min_area": smallest, "max_hole": largest_hole,
            },
            {"bands": None if bands is None else band_numbers(bands), "stretch": check_stretch(stretch)},
            scores,
            regions_of(region_map),
        ),
        SourceOptions(column, id_column, every, recursive),
        EngineOptions(engine, workers, threads, gpus_per_worker, address),
        unit_size,
        retry_errors,
        new_run,
        shard,
    )  # fmt: skip
    check_sources(sources)
    plan = plan_batch(load(**request.model), request)
    return run_plan(plan, progress)


def plan_batch(segmenter: Segmenter, request: BatchRequest) -> Plan:
    """List the images, add new ones to the store, and find the units that are left.

    Args:
        segmenter: the model of the request, from which the settings of the run are taken. Workers load their own.
        request: what was asked for.

    Raises:
        FgsegError: as `batch`.
    """
    sources = check_sources(request.sources)
    options = request.options
    vote = options.segment.get("vote", False)
    check_vote(has_regions=options.regions is not None, vote=vote, recipe=segmenter.encoder.recipe)
    words = ("background", "negatives", "templates")
    segmenter.prepare(options.prompts, **{name: options.segment[name] for name in words if name in options.segment})
    identity = run_identity(segmenter, options)
    store = Store.create_or_open(request.store, identity, unit_size=request.unit_size, new_run=request.new_run)
    store.sweep()
    left_out: Counter[str] = Counter()
    found = store.append(find_items(sources, request.source_options, left_out))
    number, count = request.shard
    units = list(store.units(shard=(number - 1, count), retry_errors=request.retry_errors))
    random.Random().shuffle(units)  # so that two runs at once on one store seldom do the same unit
    devices = share_devices(segmenter.encoder.device, str(request.model["device"]))
    model = {**request.model, "dtype": str(segmenter.encoder.dtype).removeprefix("torch.")}
    job = Job(request.store, identity, model, options, request.engine.threads, devices, request.retry_errors)
    workers = _worker_count(request.engine, devices)
    if units and workers is not None:
        _warn_of_idle(store, workers * count)
    return Plan(request, job, store, tuple(units), found, left_out, workers)


def run_plan(plan: Plan, progress: Callable[[BatchProgress], None] | None = None) -> BatchReport:
    """Do what is left; arguments and errors as in `batch`."""
    tally = _Tally(sum(unit.rows for unit in plan.units))
    try:
        with closing(_events(plan)) as events:
            for event in events:
                tally.see(event)
                if progress is not None:
                    progress(tally.progress())
    except DiskError:
        raise
    except (OutputError, StoreError) as error:  # when the run was planned, the store was well
        raise BatchError(f"{error}; when that is mended, give the same command again to go on") from error
    finally:  # an error on the way out would hide the first one
        with suppress(FgsegError):
            plan.store.sweep()
    last = tally.progress()
    listed = plan.found.new + plan.found.changed + plan.found.known
    return BatchReport(
        plan.request.store, plan.job.identity.key, listed, plan.found.new, plan.found.changed, last.done, last.failed,
        max(0, listed - last.done - last.failed), dict(plan.left_out), round(last.seconds, 3),
    )  # fmt: skip


def _events(plan: Plan) -> Generator[Event[Unit], None, None]:
    engine = plan.request.engine
    if engine.engine == "ray":
        from fgseg.store.engines.ray_engine import run_on_ray  # only the extra `fgseg[ray]` installs Ray

        return run_on_ray(
            plan.job, plan.units, workers=plan.workers, address=engine.address, gpus_per_worker=engine.gpus_per_worker
        )
    return run_tasks(partial(UnitWorker, plan.job), plan.units, workers=plan.workers or 1, tries=_TRIES)


class _Tally:
    """Counts the images of a run. Those of a unit whose worker dies are counted again."""

    def __init__(self, total: int) -> None:
        self._total, self._started = total, time.perf_counter()
        self._done = self._failed = 0
        self._open: dict[Unit, list[bool]] = {}

    def see(self, event: Event[Unit]) -> None:
        if isinstance(event, Told):
            self._open.setdefault(event.task, []).append(event.value)
            return
        self._open.pop(event.task, None)
        if isinstance(event, Done) and event.value is None:
            self._total -= event.task.rows  # another process has done it
        elif isinstance(event, Done):
            self._done += event.value.done
            self._failed += event.value.failed
            self._total -= event.task.rows - event.value.done - event.value.failed  # rows that were kept
        elif isinstance(event, WorkerDied):
            raise BatchError(
                f"unit {event.task.name}: its worker died {_TRIES} times ({ended_by(event.exit_code)}); use fewer "
                "workers if memory is short, and give the same command again to go on"
            )

    def progress(self) -> BatchProgress:
        told = [ok for values in self._open.values() for ok in values]
        done, failed = self._done + sum(told), self._failed + len(told) - sum(told)
        return BatchProgress(self._total, done, failed, time.perf_counter() - self._started)


def _warn_of_idle(store: Store, processes: int) -> None:
    """Say it if there are fewer units than processes, and smaller units would keep more of them busy."""
    rows = [unit.rows for unit in islice(store.manifest.units(), processes)]
    images, units = sum(rows), f"{len(rows)} unit{'' if len(rows) == 1 else 's'}"
    useful = min(processes, images // _WORTH_A_PROCESS)
    if len(rows) < useful:
        size = images // useful
        advice = f"a new store with --unit {size} (unit_size={size}) shares the work"
        log.warning("the %d images are in %s, too few for %d processes; %s", images, units, processes, advice)


def _worker_count(engine: EngineOptions, devices: Sequence[str]) -> int | None:
    if engine.workers != "auto":
        return engine.workers
    if engine.engine == "ray" and engine.address != "local":
        return None
    if devices[0].startswith("cuda"):
        return max(1, int(len(devices) / engine.gpus_per_worker + 1e-9))
    return 1 if devices[0].startswith("mps") else max(1, cores() // engine.threads)
