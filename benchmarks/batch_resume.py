"""What a store of very many images costs before and after the work on the images: listing, resuming, checking, joining.

    python benchmarks/batch_resume.py --images 1000000 --images 2000000

A store of tiny rows is made, 256 images a unit, all done. Fresh processes then do one thing each:

* shards: list the same images again, as `fgseg batch` does when it continues, and ask for the units that are left.
* status: `fgseg store status`.
* worker: open the store as a worker does, and fetch the images of a hundred units at random places.
* compacted, status_compacted: the first two for the store after `fgseg store compact`.

Besides, once: `folder` lists empty files on the local disk. `photographs` makes a store of photographs by the embedded
model, and reports what it holds and how long it takes to read it all and to export it. `blocks` is what Ray costs by
the number of units, where Ray is installed: the time to take them, and to give them to two actors that do nothing.

Seconds, bytes and the peaks of resident memory are written as JSON. `processor_seconds` are those of the whole process,
where nothing else is said. On a machine that has other work, give the script a processor of its own with `chrt -f 10`,
as for the published figures. `load` is the load average at the end.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

IDENTITY = {"mode": "exclusive", "classes": [{"name": "cup", "prompts": ["cup"], "color": None}]}
SEED = 731
SOME_UNITS = 100
LISTED = 200_000  # files of `folder`
PHOTOGRAPHS = 64
EXPORTS = ("labels", "coco", "yolo", "regions", "classes")
BLOCKS = (1_000, 4_000)


def items(count: int) -> Iterator[Any]:
    """Images in folders of a thousand."""
    from fgseg.store.schema import Item

    for number in range(count):
        name = f"{number // 1000:04d}/{number:07d}.jpg"
        yield Item(name, f"/data/photographs/{name}", 100_000 + number, 1_700_000_000_000_000_000 + number)


def fill(folder: Path, count: int) -> dict[str, Any]:
    """Write the store; each row has one class and no picture."""
    from fgseg.store.identity import RunIdentity, Writer
    from fgseg.store.schema import ClassRow, Row
    from fgseg.store.store import Store

    store = Store.create_or_open(folder, RunIdentity(IDENTITY))
    started = time.perf_counter()
    store.append(items(count))
    seconds = time.perf_counter() - started
    writer = Writer({"host": "synthetic"})
    for unit in store.units():
        rows = [
            Row(item.image_id, item.uri, item.size, item.mtime_ns, item.etag, "", "ok", height=480, width=640,
                classes=(ClassRow(0, "cup", 0, 0.0, 0.0, b""),))
            for item in store.items(unit)
        ]  # fmt: skip
        store.commit(unit, rows, writer)
    manifest = sum(store.files.sizes("manifest").values())
    return {"append_seconds": round(seconds, 2), "manifest_bytes": manifest}


def plan(folder: Path, count: int) -> dict[str, Any]:
    """List the images again and count the units that are left."""
    from fgseg.store.identity import RunIdentity
    from fgseg.store.store import Store

    started, worked = time.perf_counter(), time.process_time()
    store = Store.create_or_open(folder, RunIdentity(IDENTITY))
    appended = store.append(items(count))
    listed = time.perf_counter()
    left = sum(1 for _ in store.units())
    ended = time.perf_counter()
    return {
        "known": appended.known, "units_left": left, "listing_seconds": round(listed - started, 2),
        "units_seconds": round(ended - listed, 2), "seconds": round(ended - started, 2),
        "processor_seconds": round(time.process_time() - worked, 2),
        "peak_mb": _peak_mb(),
    }  # fmt: skip


def status(folder: Path, _: int) -> dict[str, Any]:
    """Count the rows and the errors."""
    from fgseg.store.maintenance.checking import run_status
    from fgseg.store.store import Store

    started = time.perf_counter()
    found = run_status(Store.open(folder))
    seconds = round(time.perf_counter() - started, 2)
    return {"rows": found.rows, "files": found.files, "seconds": seconds, "peak_mb": _peak_mb()}


def worker(folder: Path, _: int) -> dict[str, Any]:
    """Open the store, and fetch the images of units at random places."""
    from fgseg.store.identity import RunIdentity
    from fgseg.store.schema import Unit
    from fgseg.store.store import Store

    started = time.perf_counter()
    store = Store.create_or_open(folder, RunIdentity(IDENTITY), new_run=True)
    store.is_done(Unit(0, 0, 256))
    opened, peak = time.perf_counter(), _peak_mb()
    units = random.Random(SEED).choices(list(store.manifest.units()), k=SOME_UNITS)
    begun = time.perf_counter()
    for unit in units:
        store.items(unit)
    ended = time.perf_counter()
    return {
        "opening_seconds": round(opened - started, 4), "seconds_per_unit": round((ended - begun) / SOME_UNITS, 4),
        "peak_mb": peak,
    }  # fmt: skip


def compact(folder: Path, _: int) -> dict[str, Any]:
    """Join the files of the store."""
    from fgseg.store.maintenance.compacting import compact_store
    from fgseg.store.store import Store

    started = time.perf_counter()
    done = compact_store(Store.open(folder))
    seconds = round(time.perf_counter() - started, 2)
    return {"before": done.before, "after": done.after, "seconds": seconds, "peak_mb": _peak_mb()}


def listing(folder: Path, count: int) -> dict[str, Any]:
    """List empty files in folders of a thousand."""
    from fgseg.store.sources import SourceOptions, find_items

    for number in range(count):
        place = folder / f"{number // 1000:04d}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:07d}.jpg").touch()
    before, started = _peak_mb(), time.perf_counter()
    found = sum(1 for _ in find_items([str(folder)], SourceOptions(recursive=True), Counter()))
    return {
        "images": found, "seconds": round(time.perf_counter() - started, 2),
        "mb_more": _peak_mb() - before,
    }  # fmt: skip


def photographs(folder: Path, count: int) -> dict[str, Any]:
    """A store of photographs: its bytes, and the seconds to read all of it and to export it."""
    from batch_speed import WORDS, make_photographs

    import fgseg
    from fgseg.store import check_store, export_store

    images = folder / "images"
    images.mkdir(parents=True)
    megapixels = make_photographs(images, count)
    fgseg.batch([images], WORDS, folder / "store", workers=1)
    reader = fgseg.open_store(folder / "store")
    seconds = {}
    started = time.perf_counter()
    assert list(check_store(reader.store)) == []
    seconds["check"] = time.perf_counter() - started
    for name in EXPORTS:
        started = time.perf_counter()
        export_store(reader, folder / name, [name])
        seconds[f"export_{name}"] = time.perf_counter() - started
    return {
        "images": count, "mean_megapixels": round(megapixels, 3), "words": len(WORDS),
        "image_bytes": sum(file.stat().st_size for file in images.iterdir()),
        "shard_bytes": sum(reader.store.shards.files().values()),
        "regions": sum(len(row.regions) for row in reader),
        "coco_bytes": (folder / "coco" / "coco.json").stat().st_size,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
    }  # fmt: skip


class Idle:
    """An actor that does nothing."""

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Give the batch back."""
        return batch


def blocks(folder: Path, count: int) -> dict[str, Any]:
    """The seconds until Ray has taken units as the Ray engine gives them out, and until idle actors have done them."""
    import ray

    ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="error")
    ray.data.DataContext.get_current().enable_progress_bars = False
    started = time.perf_counter()
    taken = ray.data.from_items([{"number": number} for number in range(count)], override_num_blocks=count)
    seconds = time.perf_counter() - started
    pool = ray.data.ActorPoolStrategy(min_size=1, initial_size=2, max_size=2, max_tasks_in_flight_per_actor=1)
    done = sum(1 for _ in taken.map_batches(Idle, batch_size=1, compute=pool, num_cpus=1).iter_rows())
    total = time.perf_counter() - started
    ray.shutdown()
    return {
        "units": done, "seconds_to_take": round(seconds, 2), "seconds_to_do": round(total - seconds, 2),
        "peak_mb": _peak_mb(),
    }  # fmt: skip


def _peak_mb() -> int:
    """The peak of resident memory; `getrusage` would include that of the process before exec, which has torch."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
    return round(int(peak) / 1024)


TASKS = {
    "fill": fill, "plan": plan, "status": status, "worker": worker, "compact": compact, "listing": listing,
    "photographs": photographs, "blocks": blocks,
}  # fmt: skip


def in_a_process(task: str, folder: Path, count: int) -> Any:
    """What a task returns that runs in a process of its own, whose memory is its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--task", task, "--folder", str(folder), "--images", str(count)],
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def measure(folder: Path, count: int) -> dict[str, Any]:
    """Fill a store, plan, compact it and plan again."""
    found = {"images": count}
    steps = (
        ("fill", "fill"), ("shards", "plan"), ("status", "status"), ("worker", "worker"), ("compact", "compact"),
        ("compacted", "plan"), ("status_compacted", "status"),
    )  # fmt: skip
    for name, task in steps:
        found[name] = in_a_process(task, folder, count)
    return found


def main() -> None:
    """Measure, or do one task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, action="append", help="rows of the store; repeat for more")
    parser.add_argument("--rows", action=argparse.BooleanOptionalAction, default=True, help="the stores of tiny rows")
    parser.add_argument(
        "--once", action=argparse.BooleanOptionalAction, default=True, help="folder, photographs, blocks"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "batch_resume.json")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--task", choices=TASKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    counts = options.images or [1_000_000, 2_000_000]
    if options.task:
        found = TASKS[options.task](options.folder, counts[0])
        print(json.dumps({"processor_seconds": round(time.process_time(), 2), **found}))
        return
    from timing import load, machine, merge  # it loads torch, which the measured processes do without

    merge(options.out, {"kind": "batch_resume", "machine": machine()})
    for count in counts if options.rows else ():
        with tempfile.TemporaryDirectory() as folder:
            merge(options.out, {f"{count} rows": {**measure(Path(folder, "store"), count), "load": load()}})
    if options.once:
        with tempfile.TemporaryDirectory() as folder:
            merge(options.out, {"folder": in_a_process("listing", Path(folder), LISTED)})
        with tempfile.TemporaryDirectory() as folder:
            merge(options.out, {"photographs": in_a_process("photographs", Path(folder), PHOTOGRAPHS)})
        if find_spec("ray") is not None:
            merge(options.out, {"blocks": [in_a_process("blocks", Path(), count) for count in BLOCKS]})


if __name__ == "__main__":
    main()
