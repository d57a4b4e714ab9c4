"""The time from the command to the first mask of each published model: `python benchmarks/first_mask.py`.

Each model has its published size and random weights, and is made in a temporary folder. `fgseg segment` runs in a fresh
process on a pseudo terminal, with an empty cache of texts (`first`) and once more (`second`). For both,
results/first_mask.json holds the seconds until the process ends, and the longest time during which nothing new appeared
on the terminal. `full_ensemble` is a first run with all 80 templates, on request (`--full`), for models that take one
sentence by default. Downloads are left out: they depend on the line.
"""

import argparse
import datetime
import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from random_model import FG_CLIP_2_TOWERS, SIZES, make_fg_clip_2, make_model
from timing import load, machine

from fgseg.images.writing import write_image
from fgseg.prompts.word_lists import BACKGROUND_WORDS, IMAGENET_TEMPLATES
from fgseg.scenes.composition import scene

RESULTS = Path(__file__).parent / "results" / "first_mask.json"
IMAGE_HW = (480, 640)  # pixels, as most of COCO's pictures
WORDS = re.findall(r"[a-z]+", " ".join([*BACKGROUND_WORDS, *IMAGENET_TEMPLATES, "cat"]).lower())
MODELS: dict[str, Callable[[Path], Path]] = {
    **{f"fg-clip-{size}": partial(make_model, words=WORDS, size=size) for size in SIZES},
    **{f"fg-clip2-{size}": partial(make_fg_clip_2, words=WORDS, size=size) for size in FG_CLIP_2_TOWERS},
}


def on_a_terminal(command: Sequence[str], environment: dict[str, str]) -> dict[str, float]:
    """Seconds until a command ends, and the longest time in which its terminal did not change.

    Raises:
        RuntimeError: the command fails.
    """
    terminal, inside = pty.openpty()
    started = last = time.perf_counter()
    silence, said = 0.0, b""
    with subprocess.Popen(command, stdout=inside, stderr=inside, stdin=inside, env=environment) as process:
        os.close(inside)
        while True:
            ready, _, _ = select.select([terminal], [], [], 0.1)
            try:
                new = os.read(terminal, 4096) if ready else None
            except OSError:  # Linux's end of a terminal that nobody writes to any more
                new = b""
            if new is None and process.poll() is None:
                continue
            silence, last = max(silence, time.perf_counter() - last), time.perf_counter()
            if not new:
                break
            said += new
    os.close(terminal)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)}: {said.decode(errors='replace')[-1000:]}")
    return {"seconds": round(last - started, 1), "longest_silence": round(silence, 1)}


def measure(folder: Path, photo: Path, scratch: Path, *, full: bool) -> dict[str, Any]:
    """The figures of one model."""
    command = [sys.executable, "-m", "fgseg", "segment", str(photo), "-p", "cat", "--model", str(folder)]
    command += ["--out", str(scratch / "out")]
    environment = os.environ | {"FGSEG_CACHE": str(scratch / "cache")}
    result: dict[str, Any] = {}
    for run in ("first", "second"):
        result[run] = on_a_terminal(command, environment)
    (settings,) = (json.loads(path.read_text()) for path in (scratch / "out").rglob("run.json"))
    result["templates"] = len(settings["templates"])
    if full and result["templates"] < len(IMAGENET_TEMPLATES):
        shutil.rmtree(scratch / "cache")
        result["full_ensemble"] = on_a_terminal([*command, "--templates", "imagenet"], environment)
    return result


def main() -> None:
    """Measure the models that are named and write each when it is finished."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="fg-clip-base,fg-clip-large,fg-clip2-base", help=f"of {', '.join(MODELS)}")
    parser.add_argument("--full", action="store_true", help="also time 80 templates where they are not the default")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    known = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {"models": {}}
    for name in options.models.split(","):
        with tempfile.TemporaryDirectory() as temporary:
            scratch = Path(temporary)
            photo = scratch / "photo.png"
            write_image(photo, scene(7, IMAGE_HW).image)
            folder = MODELS[name](scratch / "model")
            figures = {"load": load(), **measure(folder, photo, scratch, full=options.full)}
        known["models"][name] = figures
        known |= {
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": machine(),
        }
        options.out.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
        print(name, json.dumps(figures))


if __name__ == "__main__":
    main()
