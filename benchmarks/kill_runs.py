"""Kills, full disks and read-only disks: `python benchmarks/kill_runs.py` (Linux; the disks need root).

Four kinds of run write files: `fgseg segment`, `fgseg bench`, `fgseg train`, and a segmentation that fills the text
cache. A run is a forked process with a process group of its own, so that no time is spent on imports, where nothing is
written. First each kind runs undisturbed. Then the script kills it with SIGKILL after a random share of that time, and
repeats the same command, which resumes what can be resumed. The files must then equal those of the undisturbed run as
bytes, without the times in JSON (TIMES), and no other file may be left. The text cache is compared row by row, since
SQLite counts the changes of a file in its header.

For the disks, a run writes to a small tmpfs of random size, or to a tmpfs that is read-only from the start. It must
print one sentence and exit with 1; the text cache must print one warning, and its run must succeed. Every file that is
left must be whole. After a full tmpfs is made larger, the same command must again give the same bytes.
"""

import argparse
import csv
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from timing import merge

# What the commands import is imported here, so that each fork starts with it. Nothing here may compute with torch,
# since a fork does not inherit torch's threads.
from fgseg.commands.main import main as run_command
from fgseg.encoders import text_features
from fgseg.encoders.text_cache import CACHE_FILE

SEED = 731
ABOUT = (
    "Each kind of run is killed (SIGKILL to its process group) after a random share of the time that it takes "
    "undisturbed, and the same command is repeated. Faults are files that then differ in any byte from those of an "
    "undisturbed run, are missing, or are left over; times in JSON are left out, and the text cache is compared row "
    "by row. On full disks (a small tmpfs) and read-only ones, a fault is also a file that is not whole, more or "
    "less than one sentence on stderr, or an exit status other than 1 (0 for the text cache, whose run goes on "
    "without it). Then a full disk gets room, the command is repeated, and the files are compared in the same way."
)
TIMES = ("seconds", "encoding_seconds", "timing")  # keys of JSON files that hold times
FORMATS = "labels,overlay,regions,heatmaps,masks,coco,geojson,yolo,labelme"
COLORS = ("red", "green", "blue", "yellow", "purple", "orange")
SHAPES = ("circle", "square", "triangle", "star")
NAMES = ("segment", "bench", "train", "cache")
SETTLING = 2.5  # seconds, after which the text cache trusts the times of files
PATIENCE = 300.0  # seconds for one run
ROOM = "64m"  # of a disk that has room again
DONE, FAILED = 0, 1  # exit statuses

Contents = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """One kind of run: its name, the arguments of `fgseg`, and whether it fills the text cache."""

    name: str
    arguments: Sequence[str]
    caches: bool = False

    @property
    def tested_folder(self) -> str:
        """The folder that is put on a full disk: that of the text cache, or of the results."""
        return "cache" if self.caches else "results"

    def work(self, top: Path) -> None:
        """Run the command, which writes to folders in `top`. Only forks call this."""
        torch.set_num_threads(1)
        os.environ["FGSEG_CACHE"] = str(top / "cache") if self.caches else "off"
        if self.caches:  # the tiny model would do without the cache
            text_features.WORTHWHILE_BYTES = 0
            text_features.TEXTS_PER_TRANSACTION = 4
        run_command([*self.arguments, "--out", str(top / "results" / "out")])


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit status (negative for a signal), what it printed on stderr, and its seconds."""

    status: int
    errors: str
    seconds: float


def kinds(inputs: Path) -> list[Kind]:
    """The four kinds; `inputs` holds the model and the pictures."""
    model = ["--model", str(inputs / "model")]
    scored = [*model, "--dtype", "float32", "--quiet"]
    pictures = [str(path) for path in sorted(inputs.glob("*.png"))]
    training = {"steps": 8, "checkpoint-every": 2, "batch-size": 4, "workers": 0, "warmup": 2, "dtype": "float32"}
    phrases = [f"{color} {shape}" for color in COLORS for shape in SHAPES]
    return [
        Kind("segment", ["segment", *pictures, *options({"prompt": COLORS[:3]}), "--format", FORMATS, *scored]),
        Kind("bench", ["bench", "--data", "scenes-colors", "--scenes", "6", "--side", "48", *scored]),
        Kind("train", ["train", *model, "--data", "scenes:16", "--resume", "--quiet", *options(training)]),
        Kind(
            "cache", ["segment", pictures[0], *options({"prompt": phrases}), *scored[:-1]], caches=True
        ),  # not --quiet
    ]


def options(values: Mapping[str, Any]) -> list[str]:
    """Options of the command line; a tuple or list repeats its option."""
    pairs = ((name, one) for name, value in values.items() for one in (value if np.ndim(value) else [value]))
    return [word for name, value in pairs for word in (f"--{name}", str(value))]


def make_inputs(inputs: Path) -> None:
    """Write a tiny random model and three pictures. Only forks call this, since it computes with torch."""
    sys.path.insert(0, str(Path(__file__).parents[1]))  # recipes are not installed
    from recipes.mini.recipe import build_tokenizer, full_config, new_model, save

    tokenizer = build_tokenizer()
    config = full_config(tokenizer)
    tower = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2}
    vision = {**tower, "image_size": 32, "patch_size": 8}
    config |= {"projection_dim": 8, "text_config": config["text_config"] | tower, "vision_config": vision}
    torch.manual_seed(SEED)
    save(new_model(config), tokenizer, config, inputs / "model")
    noise = np.random.RandomState(SEED)
    for number in range(3):
        blocks = noise.randint(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(blocks).resize((128, 96), Image.Resampling.NEAREST).save(inputs / f"{number}.png")


# --- runs


def fork(work: Callable[[], None], log: Path, scratch: Path) -> int:
    """Start work in a process group of its own; returns the process id."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        os.setpgid(0, 0)
        os.environ["TMPDIR"] = tempfile.tempdir = str(scratch)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        work()
        status = DONE
    except SystemExit as left:
        status = int(left.code or DONE)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def run(work: Callable[[], None], scratch: Path, *, kill_after: float = PATIENCE) -> Ended:
    """Run work to its end, or kill its process group after some seconds."""
    log = scratch.parent / "stderr.txt"
    started = time.monotonic()
    pid = fork(work, log, scratch)
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() - started > kill_after:
            kill_group(pid)
            ended = os.waitpid(pid, 0)
            break
        time.sleep(0.002)
    seconds = time.monotonic() - started
    return Ended(os.waitstatus_to_exitcode(ended[1]), log.read_text(encoding="utf-8"), seconds)


def kill_group(pid: int) -> None:
    """Kill a process and its children."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:  # killed before it had a group of its own
        os.kill(pid, signal.SIGKILL)


# --- files


def contents(folder: Path) -> Contents:
    """What every file holds, by its path in the folder: bytes, JSON without times, or the rows of the text cache."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): content(path) for path in files}


def content(path: Path) -> Any:
    """The content of one file; a file that cannot be read raises."""
    if path.suffix in (".json", ".jsonl"):
        lines = path.read_bytes().splitlines() if path.suffix == ".jsonl" else [path.read_bytes()]
        return [without_times(json.loads(line)) for line in lines]
    if path.name == CACHE_FILE:
        with closing(sqlite3.connect(path)) as cache:
            cache.execute("PRAGMA integrity_check")
            tables = list(cache.execute("SELECT name FROM sqlite_master"))
            return sorted(cache.execute("SELECT key, value, crc FROM entries")) if tables else []
    return path.read_bytes()


def without_times(value: Any) -> Any:
    """A JSON value without the entries that hold times."""
    if isinstance(value, dict):
        return {key: without_times(entry) for key, entry in value.items() if key not in TIMES}
    return [without_times(entry) for entry in value] if isinstance(value, list) else value


def differences(expected: Contents, found: Contents) -> list[str]:
    """The files that differ from those of the undisturbed run, are missing, or are left over."""
    return sorted(name for name in expected.keys() | found.keys() if expected.get(name, 0) != found.get(name, 1))


def halves(folder: Path) -> list[str]:
    """The files that are not whole."""
    return [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file() and not whole(path)]


def whole(path: Path) -> bool:
    """Whether a file can be read to its end as what its name says, and is no temporary file."""
    readers: dict[str, Callable[[], Any]] = {
        ".safetensors": lambda: safe_open(path, framework="np").keys(),
        ".png": lambda: Image.open(path).load(),
        ".npz": lambda: dict(np.load(path)),
        ".csv": lambda: list(csv.reader(path.read_text(encoding="utf-8").splitlines(), strict=True)),
    }
    try:
        readers.get(path.suffix, lambda: content(path))()
    except Exception:  # whatever its reader raises
        return False
    ends = path.suffix != ".jsonl" or path.read_bytes()[-1:] in (b"", b"\n")
    return ends and not is_temporary(str(path))


# --- kills


def killed(kind: Kind, count: int, place: Path) -> dict[str, Any]:
    """Kill a kind of run at random moments, and repeat the command each time."""
    place.mkdir()
    scratch = place / "scratch"
    scratch.mkdir()
    times = deque([undisturbed(kind, place, scratch).seconds], maxlen=5)  # of runs that were not killed
    expected, usual = contents(place / "whole"), set(names_in(scratch))  # torch makes an empty folder there
    rng = random.Random(f"{SEED} {kind.name}")
    counts, bad = Counter[str](), list[str]()
    top = place / "top"
    work = partial(kind.work, top)
    while counts["kills"] < count:
        first = run(work, scratch, kill_after=rng.random() * max(times))
        if first.status > DONE:
            raise RuntimeError(f"{kind.name}: {first.errors}")
        if first.status == DONE:  # before the kill, since the machine was faster than before
            times.append(first.seconds)
        left = names_in(top)
        counts["kills"] += first.status < 0
        counts["killed_with_files"] += first.status < 0 and bool(left)
        counts["killed_with_temporary_files"] += any(map(is_temporary, left))
        again = run(work, scratch)
        times.append(again.seconds)
        bad += [f"{counts['kills']}: {one}" for one in wrong(again, expected, top)]
        counts["temporary_files_left"] += sum(map(is_temporary, names_in(top)))
        counts["temporary_files_left"] += len(set(names_in(scratch)) - usual)
        shutil.rmtree(top, ignore_errors=True)
    return {"seconds": round(max(times), 2), "files": len(expected), "faults": bad, **counts}


def names_in(folder: Path) -> list[str]:
    """The paths of all files and folders in a folder, which need not exist."""
    return [str(path.relative_to(folder)) for path in folder.rglob("*")]


def is_temporary(name: str) -> bool:
    """Whether a path is that of a temporary file or folder of fgseg or SQLite."""
    return ".part" in name or name.endswith("-journal")


def wrong(again: Ended, expected: Contents, top: Path) -> list[str]:
    """What is wrong after a command that was repeated."""
    return differences(expected, contents(top)) if again.status == DONE else [f"{again.status}: {again.errors!r}"]


def undisturbed(kind: Kind, place: Path, scratch: Path) -> Ended:
    """Run a kind twice, the second time into `place`/whole; raises if the two differ or fail."""
    for name in ("first", "whole"):
        ended = run(lambda name=name: kind.work(place / name), scratch)
        if ended.status != DONE:
            raise RuntimeError(f"{kind.name}: {ended.errors}")
    different = differences(contents(place / "first"), contents(place / "whole"))
    if different:
        raise RuntimeError(f"{kind.name}: two undisturbed runs differ in {', '.join(different)}")
    return ended


# --- disks


@contextmanager
def disk(place: Path, size: str) -> Iterator[Path]:
    """A tmpfs of a size, with a folder for temporary files outside it."""
    place.mkdir(parents=True)
    mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place))
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def mount(*words: str) -> None:
    """Run mount."""
    subprocess.run(["mount", *words], check=True)


def on_disks(kind: Kind, count: int, place: Path) -> dict[str, Any]:
    """Runs of a kind on full disks and on read-only ones, and the same command after there is room."""
    scratch, complete = place / "scratch", place / "whole"
    expected = contents(complete)
    used = sum(path.stat().st_size for path in (complete / kind.tested_folder).rglob("*") if path.is_file())
    rng = random.Random(f"{SEED} {kind.name} disks")
    bad, sentences = list[str](), set[str]()
    for number in range(2 * count):
        is_full, top = number < count, place / "top"
        size = int(rng.uniform(0.1, 0.8) * used) if is_full else 2 * used + 2**20
        what, work = f"{'full' if is_full else 'read-only'} {number}", partial(kind.work, top)
        with disk(top / kind.tested_folder, str(size)) as root:
            if not is_full:
                mount("-o", "remount,ro", str(root))
            ended = run(work, scratch)
            bad += [f"{what}: {fault}" for fault in faults(kind, ended, top)]
            sentences.add(sentence(ended, root))
            if is_full:
                mount("-o", f"remount,size={ROOM}", str(root))
                bad += [f"{what}, with room again: {one}" for one in wrong(run(work, scratch), expected, top)]
        shutil.rmtree(top)
    return {"full": count, "read_only": count, "faults": bad, "sentences": sorted(sentences)}


def faults(kind: Kind, ended: Ended, top: Path) -> list[str]:
    """What is wrong with a run that could not write."""
    status, beginning = (DONE, "fgseg: text cache ") if kind.caches else (FAILED, "fgseg: error: ")
    found = [f"half a file: {name}" for name in halves(top)]
    lines = [line for line in ended.errors.splitlines() if line.startswith(beginning) or not kind.caches]
    if len(lines) != 1 or not lines[0].startswith(beginning):
        found.append(f"stderr: {ended.errors!r}")
    if ended.status != status:
        found.append(f"exit status {ended.status}")
    return found


def sentence(ended: Ended, root: Path) -> str:
    """The sentence that was printed, without the random path."""
    lines = [
        line for line in ended.errors.splitlines() if line.startswith(("fgseg: text cache ", "fgseg: error: "))
    ] or [""]
    return lines[-1].replace(str(root), "DISK")


# --- the report


def measure(kind: Kind, kills: int, disks: int, place: Path) -> dict[str, Any]:
    """The figures of one kind of run."""
    load = os.getloadavg()[0]
    row: dict[str, Any] = {"killed": killed(kind, kills, place)}
    if disks:
        row["full_or_read_only"] = on_disks(kind, disks, place)
    return row | {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
    }


def main() -> None:
    """Measure, and write after each kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=25, help="kills of each of the four kinds")
    parser.add_argument("--disks", type=int, default=5, help="full disks, and read-only ones, of each kind; 0: none")
    parser.add_argument("--kinds", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "kill_runs.json")
    given = parser.parse_args()
    found: list[str] = []
    with tempfile.TemporaryDirectory(prefix="fgseg-kills-") as folder:
        place = Path(folder)
        for name in ("inputs", "scratch"):
            (place / name).mkdir()
        made = run(lambda: make_inputs(place / "inputs"), place / "scratch")
        if made.status != DONE:
            raise RuntimeError(made.errors)
        time.sleep(SETTLING)
        for kind in kinds(place / "inputs"):
            if kind.name in given.kinds:
                row = measure(kind, given.kills, given.disks, place / kind.name)
                print(kind.name, json.dumps(row), flush=True)
                merge(given.out, {"about": ABOUT, "seed": SEED, "times_left_out": list(TIMES), kind.name: row})
                found += [fault for part in row.values() if isinstance(part, dict) for fault in part["faults"]]
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
