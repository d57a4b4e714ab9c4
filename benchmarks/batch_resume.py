"""How long a batch run takes to find out what is left of a million images, and how much memory that needs.

    python benchmarks/batch_resume.py --images 1000000 --out benchmarks/results/batch_resume.json

A store is made whose rows are tiny, 256 images a unit, all done. Then a fresh process lists the same images again, as
`fgseg batch` does when it continues, and asks for the units that are left: none. A second one does so for a store that
was compacted. The script writes seconds and the peak of resident memory as JSON. On a machine that has other work, give
it a processor of its own with `chrt -f 10`; the published figures were measured like that.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

IDENTITY = {"mode": "exclusive", "classes": [{"name": "cup", "prompts": ["cup"], "color": None}]}


def items(count: int) -> Iterator[Any]:
    """Images in folders of a thousand."""
    from fgseg.store.schema import Item

    for number in range(count):
        name = f"{number // 1000:04d}/{number:07d}.jpg"
        yield Item(name, f"/data/photographs/{name}", 100_000 + number, 1_700_000_000_000_000_000 + number)


def fill(folder: Path, count: int) -> None:
    """Write the store; each row has one class and no picture."""
    from fgseg.store.identity import RunIdentity, Writer
    from fgseg.store.schema import ClassRow, Row
    from fgseg.store.store import Store

    store = Store.create_or_open(folder, RunIdentity(IDENTITY))
    store.append(items(count))
    writer = Writer({"host": "synthetic"})
    for unit in store.units():
        rows = [
            Row(item.image_id, item.uri, item.size, item.mtime_ns, item.etag, "", "ok", height=480, width=640,
                classes=(ClassRow(0, "cup", 0, 0.0, 0.0, b""),))
            for item in store.items(unit)
        ]  # fmt: skip
        store.commit(unit, rows, writer)


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


def _peak_mb() -> int:
    """The peak of resident memory; `getrusage` would include that of the process before exec, which has torch."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (peak,) = (line.split()[1] for line in lines if line.startswith("VmHWM"))
    return round(int(peak) / 1024)


def in_a_process(task: str, folder: Path, count: int) -> Any:
    """What a task prints that runs in a process of its own, whose memory is its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--task", task, "--folder", str(folder), "--images", str(count)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return json.loads(done.stdout or "null")


def measure(folder: Path, count: int) -> dict[str, Any]:
    """Fill a store, plan, compact it and plan again."""
    if not (folder / "fgseg-store.json").exists():
        in_a_process("fill", folder, count)
    shards = in_a_process("plan", folder, count)
    in_a_process("compact", folder, count)
    joined = in_a_process("plan", folder, count)
    return {"images": count, "shards": shards, "compacted": joined}


def compact(folder: Path) -> None:
    """Join the files of the store."""
    from fgseg.store.maintenance.compacting import compact_store
    from fgseg.store.store import Store

    compact_store(Store.open(folder))


def main() -> None:
    """Measure, or do one task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument(
        "--folder", type=Path, help="a new folder for the store, or one that it is in [default: a temporary one]"
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--task", choices=("fill", "plan", "compact"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.task == "fill":
        fill(options.folder, options.images)
    elif options.task == "plan":
        print(json.dumps(plan(options.folder, options.images)))
    elif options.task == "compact":
        compact(options.folder)
    else:
        from timing import machine  # it loads torch, which the measured processes do without

        with tempfile.TemporaryDirectory() as temporary:
            result = {"machine": machine(), **measure(options.folder or Path(temporary, "store"), options.images)}
        print(json.dumps(result, indent=2))
        if options.out:
            options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
