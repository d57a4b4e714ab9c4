"""The step `files` of gpu.py: image files on disk to label PNGs by the command line, in comparison with the encoder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gpu_encoder import model_folder
from gpu_flow import photo_hw, pictures
from gpu_session import Session
from speed import CLASS_NAMES
from timing import spread

import fgseg
from fgseg.images.writing import write_image

ROOT = Path(__file__).parents[1]
PROMPTS = 5
FILES, FEW = 512, 32  # the time of the few is taken off, so that starting the processes does not count
TINY_FILES = 4, 2
TARGET = 0.7  # of the encoder alone, for the best command
SECONDS = 60.0  # of one command, at most
SHORTEST = 0.3  # seconds that a rate can be told from


def files(session: Session, place: Path) -> None:
    """Time `fgseg segment` by batches and by processes, and `fgseg batch`."""
    many, few = TINY_FILES if session.tiny else (FILES, FEW)
    photographs = pictures(session, many)
    for folder, count in ((place / "many", many), (place / "few", few)):
        folder.mkdir(exist_ok=True)
        for index in range(count):
            write_image(folder / f"{index:04d}.jpg", photographs[index])
    alone = partial(_encoder_alone, session, place)
    session.part("files", "encoder alone, batch 64", alone, seconds=10)
    for name, words in ways(session).items():
        work = partial(_timed, session, place, words, many - few)
        session.part("files", name, work, seconds=50)
    _compare(session)


def ways(session: Session) -> dict[str, list[str]]:
    """The commands without their images, outputs and model."""
    cores = os.cpu_count() or 1
    half = str(max(2, cores // 2))
    segment, batch = ["segment", "-f", "labels"], ["batch"]
    made = {
        "segment --batch 64": [*segment, "--batch", "64"],
        f"segment --workers {half}": [*segment, "--workers", half],
        f"batch --workers {half}": [*batch, "--workers", half, "--gpus-per-worker", str(1 / int(half))],
        "segment --batch 8": [*segment, "--batch", "8"],
        f"segment --workers {cores}": [*segment, "--workers", str(cores)],
        "segment": segment,
    }
    return {name: made[name] for name in list(made)[:3:2]} if session.tiny else made


def _encoder_alone(session: Session, place: Path) -> dict[str, Any]:
    dtype = "float32" if session.tiny else "bfloat16"
    seg = fgseg.load(str(model_folder(place, "base", tiny=session.tiny)), device=session.device, dtype=dtype)
    pixels = torch.randn(64, 3, seg.encoder.side, seg.encoder.side, device=session.device).to(seg.encoder.dtype)
    with torch.inference_mode():
        times = session.turns({"encoder": lambda: seg.encoder.model.dense_features(pixels)}, repeats=20, seconds=3)
    return {"images_a_second": round(64 / spread(times["encoder"])["median"], 1)}


def _timed(session: Session, place: Path, words: list[str], images: int) -> dict[str, Any]:
    few, _ = _run(session, place, words, "few")
    many, said = _run(session, place, words, "many")
    seconds = many - few
    if seconds < SHORTEST and not session.tiny:
        raise RuntimeError(f"{images} images more took {seconds:.2f} s, too little for a rate; take more files")
    return {
        "images_a_second": round(images / max(seconds, SHORTEST), 1),
        "seconds_of_the_start_and_a_few": round(few, 2),
        "size": list(photo_hw(session)),
        "said": said,
    }


def _run(session: Session, place: Path, words: list[str], images: str) -> tuple[float, list[str]]:
    """Seconds of one command, and the last lines that it printed, which say what each stage took."""
    out = place / "out"
    shutil.rmtree(out, ignore_errors=True)
    dtype = "float32" if session.tiny else "bfloat16"
    model = str(model_folder(place, "base", tiny=session.tiny))
    to = ["--store", str(out)] if words[0] == "batch" else ["--out", str(out)]
    prompts = [word for name in CLASS_NAMES[:PROMPTS] for word in ("-p", name)]
    given = ["--model", model, "--device", str(session.device), "--dtype", dtype, "--resolution", "squash"]
    command = [sys.executable, "-m", "fgseg", *words, str(place / images), *prompts, *to, *given, "-v"]
    environment = {**os.environ, "FGSEG_CACHE": str(place / "cache")}
    started = time.perf_counter()
    limit = None if session.tiny else SECONDS
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, timeout=limit, cwd=ROOT
    )
    seconds = time.perf_counter() - started
    last = [line for line in done.stderr.splitlines() if line.strip()][-3:]
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {last}")
    return seconds, [line.replace(str(place), "")[-300:] for line in last]


def _compare(session: Session) -> None:
    """Write the share of the encoder that the best command reaches."""
    rows = session.found["files"]
    rates = {name: row["images_a_second"] for name, row in rows.items() if "images_a_second" in row}
    alone = rates.pop("encoder alone, batch 64", None)
    if alone is None or not rates:
        return
    best = max(rates, key=lambda name: rates[name])
    share = round(rates[best] / alone, 3)
    verdict = "pass" if share >= TARGET else "short"
    shown = {"best": best, "share_of_encoder": share, "target": f">= {TARGET}", "verdict": verdict}
    session.part("files", "in comparison", lambda: shown, seconds=0)
