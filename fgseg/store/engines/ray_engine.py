"""Units on a Ray cluster: the worker of the local engine as an actor of a Ray Data pool.

Ray only hands out units and keeps actors alive. What is done, and that it is done once, is decided by the store. Ray's
own writing and its checkpoints are not used, because they lose or repeat rows when processes die.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, replace
from typing import Any

from fgseg import errors
from fgseg.errors import BatchError, FgsegError, OptionError
from fgseg.store.engines.local import Done, Event, portable
from fgseg.store.engines.worker import Job, UnitCounts, UnitWorker
from fgseg.store.schema import Unit

__all__ = ["run_on_ray"]

_OBJECT_STORE_BYTES = 200 * 2**20  # of a cluster on this machine; only names and counts of units pass through it
_PATIENCE = 10.0  # seconds that the host of a cluster may take to answer


def run_on_ray(
    job: Job, units: Sequence[Unit], *, workers: int | None, address: str, gpus_per_worker: float
) -> Generator[Event[Unit], None, None]:
    """Do units in actors, and yield each unit that is done.

    An actor that dies is replaced, and its unit is tried again. There is no limit, because the worker finds the image
    that kills it.

    Args:
        job: what workers must know. Its store must be reached from every node.
        units: the units.
        workers: the largest number of actors; None takes as many as the cluster holds.
        address: "local" starts a cluster on this machine, "auto" finds the one that runs, or "HOST:PORT".
        gpus_per_worker: share of a GPU for each actor, used only where the job computes on GPUs.

    Raises:
        OptionError: Ray is not installed, or there is no cluster at the address.
        BatchError: Ray gave up.
        FgsegError: as the worker raised it.
    """
    if not units:
        return
    gpus = gpus_per_worker if job.devices[0].startswith("cuda") else 0.0
    if gpus:
        job = replace(job, devices=("cuda:0",))  # the first of those that Ray lets an actor see
    with _stdout_to_stderr(), _cluster(job, address, workers) as ray:
        by_tuple = {astuple(unit): unit for unit in units}
        try:
            places = _places(ray, job.threads, gpus)
            most = min(places if workers is None else workers, len(units))
            for row in _pool(ray, job, units, (min(places, most), most), gpus).iter_rows():
                unit = by_tuple[row["part"], row["number"], row["rows"]]
                yield Done(unit, _counts(row))
        except FgsegError:
            raise
        except Exception as error:  # Ray raises what it likes
            raise _gave_up(error) from error


class _Actor:
    """A worker as Ray Data calls it: a batch of one unit in, its counts or its error out."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._worker: UnitWorker | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        unit = Unit(*(int(batch[name][0]) for name in ("part", "number", "rows")))
        result: dict[str, Any] = {"done": -1, "failed": 0, "kind": "", "message": ""}
        try:
            # an error here is returned: Ray would start an actor whose constructor fails again and again
            self._worker = self._worker or UnitWorker(self._job, 0)
            counts = self._worker(unit, lambda _: None)
            if counts is not None:
                result |= {"done": counts.done, "failed": counts.failed}
        except Exception as error:
            known = portable(error)
            result |= {"kind": type(known).__name__, "message": str(known)}
        return {name: [value] for name, value in {**vars(unit), **result}.items()}


def _counts(row: dict[str, Any]) -> UnitCounts | None:
    if row["kind"]:
        raise getattr(errors, row["kind"])(row["message"])
    return UnitCounts(int(row["done"]), int(row["failed"])) if row["done"] >= 0 else None


def _pool(ray: Any, job: Job, units: Sequence[Unit], sizes: tuple[int, int], gpus: float) -> Any:
    """The units as a Ray dataset, a block each, and the pool of actors that maps them.

    The smaller size is what the cluster holds: Ray starts that many at once, and does not stop any of them.
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    entries = [{"part": unit.part, "number": unit.number, "rows": unit.rows} for unit in units]
    return ray.data.from_items(entries, override_num_blocks=len(entries)).map_batches(
        _Actor,
        batch_size=1,
        fn_constructor_args=(job,),
        # One unit at a time for each actor: a second would wait there while another actor has nothing to do.
        compute=ray.data.ActorPoolStrategy(min_size=sizes[0], max_size=sizes[1], max_tasks_in_flight_per_actor=1),
        num_cpus=job.threads,
        num_gpus=gpus or None,
    )


def _places(ray: Any, threads: int, gpus: float) -> int:
    """How many actors the cluster holds."""
    resources = ray.cluster_resources()
    places = resources.get("GPU", 0) / gpus if gpus else resources.get("CPU", 0) / threads
    return max(1, int(places + 1e-9))


@contextmanager
def _cluster(job: Job, address: str, workers: int | None) -> Iterator[Any]:
    """Ray, connected to a cluster. A connection that the caller has is used and kept."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what its core prints on a terminal is about its own parts
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise OptionError('engine: expected the package ray, got none; pip install "fgseg[ray]"') from error
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    was_connected = ray.is_initialized()
    if not was_connected:
        _connect(ray, job, address, workers)
    try:
        yield ray
    finally:
        if not was_connected:
            ray.shutdown()


def _connect(ray: Any, job: Job, address: str, workers: int | None) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "include_dashboard": False}
    if address == "local":
        # a core more than the actors take: with none left, Ray's own tasks would wait for ever
        cores = None if workers is None else workers * job.threads + 1
        options |= {"num_cpus": cores, "object_store_memory": _OBJECT_STORE_BYTES}
    else:
        del options["include_dashboard"]  # of the one who started the cluster
    advice = "start one by `ray start --head`, or leave --address out"
    try:
        if _answers(address):
            # Ray never sends its token to an address that was named, unless it is told to
            advice = "if the cluster asks for a token, set RAY_AUTH_MODE=token; its version of Ray must be that of here"
        ray.init(address=address, **options)
    except Exception as error:  # Ray raises what it likes
        if address == "local":  # a machine that is very busy
            raise _gave_up(error) from error
        reason = " ".join(str(error).split())[:200]
        raise OptionError(f"address: no Ray cluster at {address!r} ({reason}); {advice}") from error


def _gave_up(error: Exception) -> BatchError:
    reason = " ".join(str(error).split())
    return BatchError(f"ray: {type(error).__name__}: {reason}; give the same command again to go on")


def _answers(address: str) -> bool:
    """Whether somebody listens at a host and port; False for the other kinds of addresses.

    Raises:
        OSError, ValueError: nobody does. Ray itself would try for minutes, and then end the process.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host:
        socket.create_connection((host, int(port)), timeout=_PATIENCE).close()
    return bool(host)


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Send what Ray's processes print to stderr; it would come between the lines of --json."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
