"""Time and memory of images larger than memory: `python benchmarks/large.py`.

The script writes tiled TIFFs of growing size, which consist of procedural scenes, into a temporary folder. The embedded
model segments each by region in a fresh process, with three prompts and windows of the native side at the image's own
scale (`--reduction` shrinks it), which overlap by a quarter, so that 16,384 x 16,384 pixels take minutes on two idle
cores. Peak memory is that of the process minus its memory after the model was loaded. The verdict on linear time uses
processor time, on which other work on the machine has less influence; both times are written.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import tifffile
import torch
from timing import peak_bytes, resident_bytes

import fgseg
from fgseg.scenes.composition import scene

TILE = 512
SCENES = 24
PROMPTS = ("red", "blue", "striped")
RESOLUTION = "slide:auto/224/168"
MEMORY_LIMIT = 1.5  # GB above the model
LINEAR_WITHIN = 1.25  # highest over lowest cost of a further pixel among the steps from size to size


def write_mosaic(path: Path, side: int, tiles: Sequence[bytes]) -> None:
    """Write a square picture of the given side as a tiled TIFF of randomly chosen compressed tiles."""
    rng = np.random.RandomState(side)
    chosen = (tiles[rng.randint(len(tiles))] for _ in range((side // TILE) ** 2))
    tifffile.imwrite(
        path, chosen, shape=(side, side, 3), dtype=np.uint8, tile=(TILE, TILE), photometric="rgb",
        compression="zlib", metadata=None,
    )  # fmt: skip


def measure(path: Path, *, dtype: str, reduction: int) -> dict[str, float]:
    """Seconds and peak memory of one image in this process, which did nothing else before."""
    seg = fgseg.load("mini", dtype=dtype)
    seg.prepare(PROMPTS)
    loaded = resident_bytes()
    started, processor_started = time.perf_counter(), time.process_time()
    labels = path.with_suffix(".labels.tif")
    result = seg.segment_large(path, PROMPTS, labels, resolution=RESOLUTION, reduction=reduction)
    result.save(path.with_suffix(".out"))
    seconds, processor_seconds = time.perf_counter() - started, time.process_time() - processor_started
    peak = peak_bytes()  # ru_maxrss would include the peak of the parent process
    return {
        "seconds": seconds,
        "processor_seconds": processor_seconds,
        "loaded_gb": loaded / 1e9,
        "peak_above_model_gb": (peak - loaded) / 1e9,
        "windows": result.settings["windows"],
        "parts": result.parts,
        "label_file_mb": result.labels_path.stat().st_size / 1e6,
        "threads": torch.get_num_threads(),
        "dtype": result.settings["dtype"],
    }


def in_a_fresh_process(path: Path, *, dtype: str, reduction: int) -> dict[str, float]:
    """`measure` in a fresh Python process."""
    options = ["--dtype", dtype, "--reduction", str(reduction)]
    command = [sys.executable, str(Path(__file__).resolve()), "--one", str(path), *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def row(side: int, runs: list[dict[str, float]]) -> dict[str, object]:
    """The medians of one size, and every time."""
    seconds = statistics.median(run["seconds"] for run in runs)
    return {
        "side": side,
        "megapixels": side * side / 1e6,
        "windows": runs[0]["windows"],
        "seconds": seconds,
        "seconds_all": [run["seconds"] for run in runs],
        "processor_seconds": statistics.median(run["processor_seconds"] for run in runs),
        "megapixels_per_second": side * side / 1e6 / seconds,
        "peak_above_model_gb": max(run["peak_above_model_gb"] for run in runs),
        "loaded_gb": runs[0]["loaded_gb"],
        "parts": runs[0]["parts"],
        "label_file_mb": runs[0]["label_file_mb"],
    }


def linearity(rows: list[dict[str, object]]) -> dict[str, object]:
    """Processor seconds of each further megapixel from size to size, which exclude the cost of starting."""
    steps = [
        (large["processor_seconds"] - small["processor_seconds"]) / (large["megapixels"] - small["megapixels"])
        for small, large in pairwise(rows)
    ]
    ratio = max(steps) / min(steps) if steps else 1.0
    return {
        "processor_seconds_a_further_megapixel": steps,
        "dearest_over_cheapest": ratio,
        "is_linear": ratio <= LINEAR_WITHIN,
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="+", default=[4096, 8192, 16_384], help=f"multiples of {TILE}")
    parser.add_argument("--repeats", type=int, default=3, help="number of runs of each size; the sizes take turns")
    parser.add_argument(
        "--reduction", type=int, default=1, help="factor by which the image is shrunk before it is cut into windows"
    )
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "large.json")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    how = {"dtype": options.dtype, "reduction": options.reduction}
    if options.one:
        print(json.dumps(measure(options.one, **how)))
        return
    runs: dict[int, list[dict[str, float]]] = {side: [] for side in options.sides}
    with tempfile.TemporaryDirectory() as folder:
        tiles = [zlib.compress(scene(seed, (TILE, TILE)).image.tobytes()) for seed in range(SCENES)]
        for side in options.sides:
            write_mosaic(Path(folder) / f"{side}.tif", side, tiles)
        for _ in range(options.repeats):
            for side in options.sides:
                run = in_a_fresh_process(Path(folder) / f"{side}.tif", **how)
                runs[side].append(run)
                rate = side * side / 1e6 / run["seconds"]
                print(
                    f"{side:6} x {side:<6} {run['seconds']:8.1f} s ({run['processor_seconds']:.1f} s of processor) "
                    f"{rate:6.2f} megapixels/s "
                    f"{run['peak_above_model_gb']:6.3f} GB above the model",
                    flush=True,
                )
    rows = [row(side, done) for side, done in runs.items()]
    first = runs[options.sides[0]][0]
    report = {
        "settings": {
            "model": "mini", "prompts": PROMPTS, "resolution": RESOLUTION, "reduction": options.reduction, "tile": TILE,
            "scenes": SCENES, "repeats": options.repeats, "dtype": first["dtype"],
        },
        "sizes": rows,
        **linearity(rows),
        "is_within_memory": max(entry["peak_above_model_gb"] for entry in rows) < MEMORY_LIMIT,
        "limits": {"peak_above_model_gb": MEMORY_LIMIT, "linear_within": LINEAR_WITHIN},
        "versions": {
            "fgseg": fgseg.__version__, "torch": torch.__version__, "numpy": np.__version__,
            "tifffile": tifffile.__version__, "python": platform.python_version(),
        },
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "threads": first["threads"]},
    }  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({key: report[key] for key in list(report)[2:6]}, indent=2))


if __name__ == "__main__":
    main()
