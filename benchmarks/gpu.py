"""Correctness and speed on a GPU: `python benchmarks/gpu.py`, at most ten minutes of a card of Nvidia's Hopper class.

The steps, in order of worth; the file of results is written after each part of a step, so a stop loses one part:

* equal: everything that the device computes, in comparison with the CPU in float32;
* label_maps: label maps of 171 and 847 classes at 1080p and 4K, beside the time to write them;
* memory_to_labels: arrays in memory to label maps on the host, in several ways, beside the encoder alone;
* encoder: the image towers alone, in several ways, beside the measured rate of a matrix product;
* profile: where the time goes, calls of the driver, and how often the host waits;
* files: files on disk to label PNGs by the command line.

A part is skipped when the time that is left (`--minutes`) is too short for it. Models have the sizes of fg-clip-base
and fg-clip-large with random weights; masks are those of the embedded model. `--steps equal,files` runs some steps.
`--no-compile` leaves torch.compile out. Each call writes its file anew, so a second call needs another `--out`.
`--device cpu --tiny` is a dry run with tiny models, in under two minutes.

Nothing is downloaded. `sh benchmarks/gpu_wheels.sh FOLDER` collects, on another machine, the packages that a machine
without network may lack; there, `python -m pip install --no-index --no-deps --target SITE FOLDER/*.whl` and
`PYTHONPATH=SITE:.` make them importable.
"""

from __future__ import annotations

import argparse
import datetime
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gpu_encoder import encoder_alone
from gpu_equal import equality
from gpu_files import files
from gpu_flow import memory_to_labels, profiles
from gpu_maps import label_maps
from gpu_session import Session
from timing import machine

import fgseg
from fgseg.encoders.devices import pick_device

RESULTS = Path(__file__).parent / "results" / "gpu.json"
STEPS: dict[str, Callable[[Session, Path], None]] = {
    "equal": equality,
    "label_maps": lambda session, _: label_maps(session),
    "memory_to_labels": memory_to_labels,
    "encoder": encoder_alone,
    "profile": profiles,
    "files": files,
}


def about(session: Session) -> dict[str, Any]:
    """The machine, the versions, the commit, and the rates that figures are compared with."""
    told: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "tiny": session.tiny,
        "host": machine(),
        "versions": {"fgseg": fgseg.__version__, "torch": torch.__version__, "cuda": torch.version.cuda},
        "device": str(session.device),
        "teraflops_of_matmul": {name: round(rate / 1e12, 2) for name, rate in session.matmul_rates.items()},
        "gigabytes_a_second_of_copy": round(session.copy_rate / 1e9, 1),
    }
    if session.on_gpu:
        properties = torch.cuda.get_device_properties(session.device)
        told |= {"device": properties.name, "memory_gb": round(properties.total_memory / 1e9, 1)}
    return told


def _commit() -> str | None:
    """The commit of the working tree, with "+" if files differ from it; None outside of git."""
    root = Path(__file__).parents[1]
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, text=True, check=True)
        changed = subprocess.run(["git", "status", "--porcelain"], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip() + ("+" if changed.stdout.strip() else "")


def main() -> None:
    """Run the steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", default=",".join(STEPS), help="names, separated by commas; default: %(default)s")
    parser.add_argument(
        "--minutes", type=float, default=9.5, help="when everything has to be over; default: %(default)s"
    )
    parser.add_argument("--device", default="cuda", help="default: %(default)s")
    parser.add_argument("--tiny", action="store_true", help="tiny models and images, for a dry run")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="torch.compile; default: on a GPU")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    names = [name.strip() for name in options.steps.split(",")]
    if unknown := sorted(set(names) - set(STEPS)):
        parser.error(f"--steps: expected some of {', '.join(STEPS)}, got {', '.join(unknown)}")
    ends = time.monotonic() + 60 * options.minutes
    try:
        device = pick_device(options.device)
    except fgseg.DeviceError as error:
        parser.exit(1, f"gpu.py: {error}; benchmarks/speed.py measures the processor\n")
    compiled = device.type == "cuda" if options.compile is None else options.compile
    session = Session(device, options.out, ends, options.tiny, compiled)
    session.part("about", "machine", partial(about, session), seconds=15)
    with tempfile.TemporaryDirectory(prefix="fgseg-gpu-") as place:
        for name in names:
            STEPS[name](session, Path(place))


if __name__ == "__main__":
    main()
