"""The speed of batch runs: `python benchmarks/batch_speed.py`, with Ray where `fgseg[ray]` is installed.

Photographs of scikit-image, cropped and scaled to mixed sizes, are segmented by the candidates in turns. Each candidate
is a command of its own, so that its start counts. `plain` is a loop in one process of one thread that makes and writes
the same rows. `local_N` is `fgseg batch` with N processes. `segment` is `fgseg segment` with its own threads, and
`segment_workers_2` with two processes. `ray_2` is `fgseg batch --engine ray`. Ratios are medians over turns. `inside`
tells the start (until the first unit was written), the seconds per unit from the second to the last but one, and the
memory that the machine had less of. `memory in MB` is the peak of one worker's process by the size of its image. `load`
is the load average at the start and at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from statistics import median
from threading import Event, Thread
from typing import Any

import numpy as np
import skimage.data
from random_model import make_model
from timing import in_fresh_process, load, machine, merge, peak_bytes, ratio, summary, take_turns

from fgseg.images.resizing import resize_image
from fgseg.images.writing import write_image
from fgseg.prompts.classes import parse_classes
from fgseg.segmenter import load as load_segmenter
from fgseg.store.batch import BatchRequest, plan_batch
from fgseg.store.engines.worker import UnitWorker
from fgseg.store.units import UnitOptions

SEED = 731
WORDS = ("red", "green", "blue", "yellow", "white", "black", "brown", "orange")
PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
SMALLEST, LARGEST = 0.05e6, 0.6e6  # pixels of a picture
UNIT = 16  # images per unit, so that no worker waits long for the last unit of another
PLAIN = "--plain"
MEGAPIXELS = (0.3, 2, 12, 24, 48)  # of the images whose memory is measured
MODELS = ("mini", "random_fg_clip_base")


def make_photographs(folder: Path, count: int) -> float:
    """Write pictures of mixed sizes; returns their mean number of pixels in millions."""
    choose = np.random.RandomState(SEED)
    originals = [getattr(skimage.data, name)()[:, :, :3] for name in PHOTOGRAPHS]
    pixels = 0
    for number in range(count):
        image = originals[number % len(originals)]
        height, width = (int(side * choose.uniform(0.5, 1)) for side in image.shape[:2])
        top, left = (
            choose.randint(0, whole - part + 1) for whole, part in zip(image.shape, (height, width), strict=False)
        )
        scale = (choose.uniform(SMALLEST, LARGEST) / (height * width)) ** 0.5
        size = max(1, round(height * scale)), max(1, round(width * scale))
        write_image(
            folder / f"{number:04d}.jpg",
            resize_image(image[top : top + height, left : left + width], size, antialias=True),
        )
        pixels += size[0] * size[1]
    return pixels / count / 1e6


def plain_loop(images: str, store: str, model: str) -> None:
    """Do the units of a store one after the other in this process."""
    arguments = {"model": model, "device": "auto", "dtype": "auto"}
    options = UnitOptions(parse_classes(WORDS), {"mode": "exclusive"})
    plan = plan_batch(load_segmenter(**arguments), BatchRequest([images], store, arguments, options, unit_size=UNIT))
    worker = UnitWorker(plan.job, 0)
    for unit in plan.units:
        worker(unit, lambda _: None)


def worker_memory(place: Path, model: str) -> dict[str, int]:
    """Peak memory in MB of a process that segments one image, by the image's size."""
    original, peaks = skimage.data.coffee(), {}
    for megapixels in MEGAPIXELS:
        images, store = place / f"megapixels-{megapixels}", place / "memory-store"
        images.mkdir(parents=True)
        scale = (megapixels * 1e6 / (original.shape[0] * original.shape[1])) ** 0.5
        size = round(original.shape[0] * scale), round(original.shape[1] * scale)
        write_image(images / "coffee.jpg", resize_image(original, size, antialias=False))
        peaks[f"{megapixels} megapixels"] = in_fresh_process(Path(__file__), str(images), str(store), model)["peak_mb"]
        shutil.rmtree(store)
    return peaks


def child(images: str, store: str, model: str) -> None:
    """Do the units of a store, and print the memory that this process had at most."""
    plain_loop(images, store, model)
    print(json.dumps({"peak_mb": round(peak_bytes() / 2**20)}))


def run(words: list[str], out: Path) -> None:
    """Run a command of this interpreter that writes into a new folder."""
    shutil.rmtree(out, ignore_errors=True)
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Watched:
    """Runs commands that write a store, and keeps what each took: to the first unit, per unit after it, and memory."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._seen: dict[str, list[dict[str, float]]] = defaultdict(list)

    def run(self, name: str, words: list[str]) -> None:
        """Run a command. Ray's processes are no children of it, so memory is what the machine had less of."""
        started, before, least = time.time(), available_bytes(), Least()
        with least:
            run(words, self._store)
        moments = sorted(shard.stat().st_mtime for shard in self._store.glob("masks/*/*.parquet"))
        self._seen[name].append({
            "seconds_to_first_unit": moments[0] - started,
            "seconds_per_unit": (moments[-2] - moments[1]) / (len(moments) - 3),  # while both workers have work
            "memory_mb": (before - least.bytes) / 2**20,
        })  # fmt: skip

    def medians(self) -> dict[str, dict[str, float]]:
        """Medians of each command over its runs."""
        return {
            name: {what: round(median(row[what] for row in rows), 3) for what in rows[0]}
            for name, rows in self._seen.items()
        }


class Least:
    """The least memory that the machine had available inside the block."""

    def __enter__(self) -> None:
        self.bytes, self._ended = available_bytes(), Event()
        self._thread = Thread(target=self._look)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.2):
            self.bytes = min(self.bytes, available_bytes())


def available_bytes() -> int:
    """The memory that the machine has left, by /proc/meminfo (Linux)."""
    rows = dict(line.split(":") for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    return int(rows["MemAvailable"].split()[0]) * 1024


def candidates(images: Path, place: Path, model: str, watched: Watched) -> dict[str, Callable[[], Any]]:
    """The commands by name."""
    prompts = [word for name in WORDS for word in ("-p", name)]
    store, out = str(place / "store"), place / "out"
    batch = [
        *("-m", "fgseg", "batch", str(images), *prompts, "--store", store, "--unit", str(UNIT), "--model", model),
        "--quiet",
    ]
    segment = ["-m", "fgseg", "segment", str(images), *prompts, "--out", str(out), "--model", model, "--quiet"]
    stored = {
        "plain": [__file__, PLAIN, str(images), store, model],
        "local_1": [*batch, "--workers", "1"],
        "local_2": [*batch, "--workers", "2"],
    }
    if find_spec("ray") is not None:
        stored["ray_2"] = [*batch, "--workers", "2", "--engine", "ray"]
    return {
        **{name: partial(watched.run, name, words) for name, words in stored.items()},
        "segment": partial(run, segment, out),
        "segment_workers_2": partial(run, [*segment, "--workers", "2"], out),
    }


def measure(made: dict[str, Callable[[], Any]], watched: Watched, turns: int) -> dict[str, Any]:
    """Times of the candidates, their ratios to others, and what those that write a store took inside."""
    before = load()
    times = take_turns(made, repeats=turns, seconds=float("inf"), warm_up=False)
    inside = watched.medians()
    return {
        "times": summary(times),
        **{
            f"{name}_over_{other}": ratio(times, name, other)
            for other, name in combinations(times, 2)
            if other in ("plain", "local_1")
        },
        "inside": inside,
        **(
            {"ray_over_local_once_running": round(_per_unit(inside, "ray_2") / _per_unit(inside, "local_2"), 3)}
            if {"ray_2", "local_2"} <= inside.keys()
            else {}
        ),
        "load": [before, load()],
    }


def _per_unit(inside: dict[str, dict[str, float]], name: str) -> float:
    return inside[name]["seconds_per_unit"]


def main() -> None:
    """Time the candidates and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--only", nargs="+", help="names of candidates; default: all")
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True, help="of a worker, too")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "batch_speed.json")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        images = place / "images"
        images.mkdir()
        megapixels = make_photographs(images, given.images)
        merge(given.out, {"kind": "batch_speed", "machine": machine(), "words": len(WORDS), "images_per_unit": UNIT})
        for name in given.models:
            model = "mini" if name == "mini" else str(make_model(place / "base", WORDS))
            watched = Watched(place / "store")
            made = candidates(images, place, model, watched)
            chosen = {one: made[one] for one in given.only or made}
            row = {"mean_megapixels": round(megapixels, 3), **measure(chosen, watched, given.turns)}
            merge(given.out, {", ".join([name, f"{given.images} images", *(given.only or ())]): row})
            if given.memory:
                merge(given.out, {f"{name}, memory in MB": worker_memory(place / "memory", model)})


if __name__ == "__main__":
    os.environ.setdefault("FGSEG_CACHE", "off")
    if sys.argv[1:2] == [PLAIN]:
        plain_loop(*sys.argv[2:])
    elif sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        main()
