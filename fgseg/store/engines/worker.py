"""A worker of a batch run: it takes units, segments their images, and commits the rows. Every engine runs the same."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from inspect import Parameter, signature
from typing import Any

from fgseg.errors import StoreError
from fgseg.prompts.templates import templates_named
from fgseg.scoring.resolution import Resolution
from fgseg.segmentation.run_record import RunRecord, model_settings
from fgseg.segmenter import Segmenter, load
from fgseg.store.engines.local import Done, Tell, Work, WorkerDied, ended_by, run_tasks
from fgseg.store.engines.resources import limit_threads
from fgseg.store.identity import RunIdentity, Writer
from fgseg.store.schema import Item, Row, Unit
from fgseg.store.store import Store
from fgseg.store.units import UnitOptions, error_row, run_unit

__all__ = ["Job", "UnitCounts", "UnitWorker", "run_identity"]

_DEFAULTS = {
    name: argument.default for name, argument in signature(Segmenter.segment).parameters.items()
    if argument.kind is Parameter.KEYWORD_ONLY
}  # fmt: skip
_TRIES = 2  # of a unit by a worker that does all its images itself, and of an image in a process of its own


@dataclass(frozen=True)
class Job:
    """What a worker must know. It is pickled, so it holds plain values.

    Attributes:
        store: path or address of the store.
        identity: the settings of the run; a worker whose own differ refuses to work.
        model: arguments of `fgseg.load`.
        options: what is done with each image.
        threads: of torch and OpenCV, in each worker.
        devices: the device of each worker, by its place; more workers than devices take turns.
        retry_errors: whether units are done again of which only error rows are missing.
    """

    store: str
    identity: RunIdentity
    model: Mapping[str, Any]
    options: UnitOptions
    threads: int
    devices: tuple[str, ...]
    retry_errors: bool = False

    def at(self, place: int) -> Job:
        """The job of the worker at a place, which has one device."""
        return replace(self, devices=(self.devices[place % len(self.devices)],))

    def segmenter(self) -> Segmenter:
        """Load the model in this process, on the first device, and limit its threads.

        Raises:
            StoreError: the model or the device is another here than where the run was planned.
        """
        limit_threads(self.threads)
        segmenter = load(**{**self.model, "device": self.devices[0]})
        differences = run_identity(segmenter, self.options).differences(self.identity)
        if differences:
            raise StoreError(f"worker on {platform.node()}: another run than was planned ({'; '.join(differences)})")
        return segmenter


@dataclass(frozen=True)
class UnitCounts:
    """What became of a unit: the number of images with a result, and of those with an error."""

    done: int
    failed: int


class UnitWorker:
    """Does units, one after the other, in this process."""

    def __init__(self, job: Job, place: int) -> None:
        """Load the model and open the store."""
        self._job = job.at(place)
        self._segmenter = self._job.segmenter()
        self._store = Store.create_or_open(job.store, job.identity, new_run=True)

    def __call__(self, unit: Unit, tell: Tell) -> UnitCounts | None:
        """Do a unit and commit its rows.

        Args:
            unit: the unit.
            tell: called with True for each image with a result, and with False for each with an error.

        Returns:
            The counts; None if another process has done the unit.

        Raises:
            FgsegError: as `run_unit` and `Store.commit`.
        """
        if not self._job.retry_errors and self._store.is_done(unit):
            return None
        is_careful = self._store.record_attempt(unit) > _TRIES
        kept = self._store.kept_rows(unit) if self._job.retry_errors else []
        known = {row.image_id for row in kept}
        items = [item for item in self._store.items(unit) if item.image_id not in known]

        def seen(row: Row) -> None:
            tell(row.status == "ok")

        if is_careful:
            made = _run_carefully(self._job, items, seen)
        else:
            made = run_unit(self._segmenter, items, self._job.options, seen=seen)
        self._store.commit(unit, [*kept, *made], self._writer)
        failed = sum(row.status == "error" for row in made)
        return UnitCounts(len(made) - failed, failed)

    @cached_property
    def _writer(self) -> Writer:
        made_by = RunRecord(model_settings(self._segmenter.encoder, str))
        names = ("model", "revision", "device", "logit_scale", "versions")  # the others are settings of the run
        record = {name: made_by[name] for name in names}
        return Writer({**record, "host": platform.node(), "threads": self._job.threads})


def run_identity(segmenter: Segmenter, options: UnitOptions) -> RunIdentity:
    """The settings that decide the results of a run: every argument of `segment`, with the model's own defaults."""
    settings = {**_DEFAULTS, **options.segment}
    for name, own in asdict(segmenter.defaults).items():
        if settings[name] is None or (settings[name] == "auto" and name != "threshold"):
            settings[name] = own
    model = RunRecord(model_settings(segmenter.encoder, segmenter.encoder.digest))
    settings |= {name: model.get(name) for name in ("weights_sha256", "recipe", "guide", "dtype")}
    settings |= {"device": segmenter.encoder.device.type, "scores": options.scores}
    settings |= {name: options.reading.get(name) for name in ("bands", "stretch")}
    settings["classes"] = [
        {"name": entry.name, "prompts": list(entry.synonyms), "color": entry.color} for entry in options.prompts
    ]
    settings["templates"] = templates_named(settings["templates"])
    if isinstance(settings["resolution"], Resolution):
        settings["resolution"] = asdict(settings["resolution"])
    if options.regions is None:  # as in the runs of stores from before there were regions
        del settings["region_map"], settings["vote"]
    else:
        settings["region_map"] = options.regions.name
    return RunIdentity(settings)


def _run_carefully(job: Job, items: Sequence[Item], seen: Callable[[Row], None]) -> list[Row]:
    """The rows of a unit whose processes have died: a process does one image after the other.

    An image that kills it twice gets an error row. What is left of the unit goes to the next process.
    """
    rows: dict[Item, Row] = {}
    events = run_tasks(partial(_image_work, job), items, workers=1, tries=_TRIES)
    with closing(events):
        for event in events:
            if isinstance(event, Done):
                rows[event.task] = event.value
            elif isinstance(event, WorkerDied):
                ended = f"its process died {_TRIES} times ({ended_by(event.exit_code)})"
                message = f"{event.task.uri}: {ended}; look at it, then --retry-errors"
                rows[event.task] = error_row(event.task, "ProcessDied", message)
            else:
                continue
            seen(rows[event.task])
    return [rows[item] for item in items]


def _image_work(job: Job, place: int) -> Work:
    """Does images, one after the other, in a process of their own."""
    segmenter = job.segmenter()
    return lambda item, tell: run_unit(segmenter, [item], job.options)[0]
