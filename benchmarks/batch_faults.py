"""Kills, full disks and damaged files of batch runs: `python benchmarks/batch_faults.py` (Linux; the disks need root).

Each scenario runs `fgseg batch` with the embedded model on small pictures, among them two broken ones and one that
kills its process (a hook of this script alone). Then the store must pass `fgseg store check`, hold one row per image
and no other file. The broken images must have an error row, and every other row must equal that of an undisturbed run,
without seconds and writer. An image whose own process was killed twice from outside may have a row of the kind
ProcessDied.

* kills: SIGKILL at random moments, to a whole run (a third) or to one of its processes; the same command goes on.
* ray: the same under `--engine ray`, with the processes of Ray among those that are killed.
* nodes: a Ray cluster of two nodes of this machine. All processes of the second one are killed at random moments, and
  another node takes its place. The run itself must go on to its end.
* full disk, read-only disk: a small tmpfs. The run must stop with exit status 1 and one sentence, and go on with room.
* two at once: two runs on one store.
* damaged: a shard that is cut, emptied, replaced by another unit's, or has a flipped byte.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from timing import merge

import fgseg
from fgseg.images.writing import write_image
from fgseg.store import batch
from fgseg.store.engines.worker import Job

SEED = 731
WORDS = ("red", "green", "blue", "yellow")
POISON = "poison.png"
BROKEN = ("empty.png", "cut.png")
MARK = "FGSEG_BATCH_FAULTS"  # in the environment of every process of a run, with the number of this process
UNIT = 4
PATIENCE = 600.0  # seconds for one run
GROUP_SHARE = 0.35  # of the kills that hit a whole run
DONE, FAILED, SOME_FAILED = 0, 1, 3
KINDS = {
    "batch_faults.py --run": "driver",
    "resource_tracker": "resource_tracker",
    "raylet/raylet": "raylet",
    "gcs/gcs_server": "gcs_server",
    "ray::MapWorker": "actor",
    "ray::": "other process of Ray",
    "site-packages/ray/": "other process of Ray",
}
"""What is in a command line, the first that fits -> the kind of the process."""


class PoisonJob(Job):
    """A job in which one image kills its process."""

    def segmenter(self) -> Any:
        """The model, with a weakness."""
        return Weak(super().segmenter())


class Weak:
    """A Segmenter that one image kills, and that takes a little longer, so that kills hit images."""

    def __init__(self, seg: fgseg.Segmenter) -> None:
        """Wrap a Segmenter."""
        self._seg, self.encoder, self.defaults = seg, seg.encoder, seg.defaults

    def segment(self, picture: Any, *words: Any, **options: Any) -> fgseg.Segmentation:
        """Segment, or die."""
        if Path(picture.source).name == POISON:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.02)
        return self._seg.segment(picture, *words, **options)


def make_images(folder: Path, count: int) -> None:
    """Small pictures, two broken ones and one that kills its process."""
    random_state = np.random.RandomState(SEED)
    for number in range(count):
        colors = random_state.randint(0, 256, (4, 4, 3), np.uint8)
        write_image(folder / f"{number:03d}.png", colors.repeat(16, axis=0).repeat(16, axis=1))
    write_image(folder / POISON, np.zeros((32, 32, 3), np.uint8))
    (folder / BROKEN[0]).touch()
    (folder / BROKEN[1]).write_bytes((folder / "000.png").read_bytes()[:60])


def environment() -> dict[str, str]:
    """Variables with which a process finds the job of this file."""
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}


def start(images: Path, store: Path, *options: str) -> subprocess.Popen[str]:
    """Start `fgseg batch` with the weak worker, in a process group of its own."""
    command = [sys.executable, __file__, "--run", "batch", str(images), "--store", str(store), "--unit", str(UNIT)]
    for word in WORDS:
        command += ["-p", word]
    said = tempfile.TemporaryFile("w+")  # no pipe: what a killed driver leaves of Ray would hold it open
    run = subprocess.Popen(
        [*command, "--quiet", *options], start_new_session=True, text=True,
        env={**os.environ, **environment(), MARK: str(os.getpid())},
        stdout=subprocess.DEVNULL, stderr=said,
    )  # fmt: skip
    run.stderr = said
    return run


def finish(run: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit status and stderr of a run."""
    code = run.wait(timeout=PATIENCE)
    assert run.stderr is not None
    with run.stderr as said:
        said.seek(0)
        return code, said.read()


def processes() -> list[int]:
    """The processes of all runs."""
    found = []
    mark = f"{MARK}={os.getpid()}".encode()
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def rows_of(store: Path) -> dict[str, dict[str, Any]]:
    """The rows of a store, without what depends on when and by whom they were made; an id twice is a fault."""
    rows = list(fgseg.open_store(store))
    twice = [name for name, times in Counter(row.image_id for row in rows).items() if times > 1]
    assert not twice, f"rows twice: {twice}"
    own = ("seconds", "writer")
    return {row.image_id: {name: value for name, value in asdict(row).items() if name not in own} for row in rows}


def faults_of(store: Path, expected: dict[str, dict[str, Any]], *, deaths_allowed: bool) -> list[str]:
    """What is wrong with a store that should be complete."""
    checked = subprocess.run(
        [sys.executable, "-m", "fgseg", "store", "check", str(store)], capture_output=True, text=True, check=False
    )
    faults = [] if checked.returncode == DONE else [f"check: {checked.stdout}{checked.stderr}"]
    rows = rows_of(store)
    faults += [f"missing: {name}" for name in expected.keys() - rows.keys()]
    for name, row in rows.items():
        died = row["error_type"] == "ProcessDied" and deaths_allowed
        if row != expected.get(name) and not died:
            faults.append(f"differs: {name}: {row['error'] or row['status']}")
    known = {"manifest", "masks", "runs", "quarantine", "fgseg-store.json"}
    files = (file.relative_to(store) for file in store.rglob("*") if file.is_file() or file.name.endswith(".part"))
    faults += [f"left over: {file}" for file in files if file.parts[0] not in known or ".part" in str(file)]
    return faults


def kill(run: subprocess.Popen[str], choose: random.Random) -> str:
    """Kill a whole run, or one of its processes."""
    if choose.random() < GROUP_SHARE:
        end_all()
        run.wait()
        return "run"
    living: dict[str, list[int]] = {}
    for process in processes():
        with suppress(OSError):
            living.setdefault(kind_of(process), []).append(process)
    if not living:
        return "none"
    kind = choose.choice(sorted(living))  # first the kind: most processes of Ray are none that matter
    with suppress(OSError):
        os.kill(choose.choice(living[kind]), signal.SIGKILL)
        return kind
    return "none"


def kind_of(process: int) -> str:
    """What a process of a run is, by its command line."""
    name = Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return next((kind for sign, kind in KINDS.items() if sign in name), "worker")


def wait_before_kill(run: subprocess.Popen[str], store: Path, choose: random.Random) -> None:
    """Wait until a random moment: often just after a unit is written, else at any time from the start."""
    until = time.monotonic() + choose.uniform(0.1, 6)
    if choose.random() < 0.6:
        before = len(list(store.glob("masks/*/*")))
        until = time.monotonic() + 60
        while run.poll() is None and time.monotonic() < until and len(list(store.glob("masks/*/*"))) == before:
            time.sleep(0.01)
        until = time.monotonic() + choose.uniform(0, 1)
    while run.poll() is None and time.monotonic() < until:
        time.sleep(0.01)


Strike = Callable[[subprocess.Popen[str], random.Random], str]
"""Kills something of a run, and says what; "none" if nothing was there."""


def with_kills(
    images: Path,
    place: Path,
    expected: Any,
    kills: int,
    *options: str,
    tell: Callable[[dict[str, Any]], None],
    strike: Strike = kill,
) -> dict[str, Any]:
    """Runs that are hit, on one store after another, until there were so many kills; told after each store."""
    choose = random.Random(SEED)
    hit: Counter[str] = Counter()
    faults: list[str] = []
    stores = runs = died = 0
    told: dict[str, Any] = {}

    def begin() -> subprocess.Popen[str]:
        nonlocal runs
        runs += 1
        return start(images, store, *options)

    while hit.total() < kills:
        store = place / f"store{stores}"
        stores += 1
        code, said = finish(kill_until_done(begin, store, hit, kills, choose, strike))
        end_all()  # what Ray leaves for a minute
        if code != SOME_FAILED:  # the last kill may have ended it
            code, said = finish(begin())
        faults += [] if code in (DONE, SOME_FAILED) else [f"exit status {code}: {said[-300:]}"]
        faults += faults_of(store, expected, deaths_allowed=True)
        rows = rows_of(store).values()
        died += sum(row["error_type"] == "ProcessDied" and not row["uri"].endswith(POISON) for row in rows)
        told = {
            "kills": hit.total(),
            "stores": stores,
            "runs": runs,
            "hit": dict(sorted(hit.items())),
            "faults": faults,
        }
        told |= {"other_images_that_died": died}
        tell(told)
    return told


def kill_until_done(
    begin: Callable[[], subprocess.Popen[str]],
    store: Path,
    hit: Counter[str],
    kills: int,
    choose: random.Random,
    strike: Strike,
) -> subprocess.Popen[str]:
    """Hit a run again and again, and begin it again when it ends early; returns the run that is left."""
    run = begin()
    while hit.total() < kills:
        wait_before_kill(run, store, choose)
        if run.poll() is None:
            hit[strike(run, choose)] += 1
            del hit["none"]
            time.sleep(0.05)
        if run.poll() in (DONE, SOME_FAILED):
            break
        if run.poll() is not None:
            finish(run)
            run = begin()
    return run


def end_all() -> None:
    """End the processes of all runs."""
    for process in processes():
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def with_node_kills(
    images: Path, place: Path, expected: Any, kills: int, tell: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Runs on a cluster that loses a node again and again. No run may end by that."""
    with cluster() as nodes:

        def strike(run: subprocess.Popen[str], _: random.Random) -> str:
            """Kill the second node as a power cut would, and add another."""
            node = nodes.worker_nodes.pop()
            for process in descendants([entry.process.pid for kind in node.all_processes.values() for entry in kind]):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            nodes.worker_nodes.add(node)
            nodes.remove_node(node, allow_graceful=False)
            nodes.add_node(num_cpus=1)
            return "node" if run.poll() is None else "none"

        ray = ("--engine", "ray", "--address", nodes.address)
        told = with_kills(images, place, expected, kills, *ray, tell=tell, strike=strike)
    ended = [] if told["runs"] == told["stores"] else [f"{told['runs']} runs for {told['stores']} stores"]
    return {**told, "faults": told["faults"] + ended}


@contextmanager
def cluster() -> Iterator[Any]:
    """A Ray cluster of two nodes with a core each, whose processes find the job of this file."""
    os.environ |= {**environment(), "RAY_USAGE_STATS_ENABLED": "0"}
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        nodes.add_node(num_cpus=1)
        yield nodes
    finally:
        nodes.shutdown()


def descendants(roots: list[int]) -> set[int]:
    """Some processes, their children, the children of these, and so on."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit():
                # after the name, which is in brackets: the state, then the parent
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = set(roots)
    while more := {process for process, parent in parents.items() if parent in found} - found:
        found |= more
    return found


@contextmanager
def disk(place: Path, size: str) -> Iterator[Path]:
    """A tmpfs of a size."""
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)
    try:
        yield place / "store"
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def on_disk(images: Path, place: Path, expected: Any, *, options: str, size: str, room: str) -> dict[str, Any]:
    """A run on a disk that is full or read-only, and the same command after that is mended."""
    with disk(place, size) as store:
        if options == "ro":
            subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        code, said = finish(start(images, store))
        faults = [] if code == FAILED else [f"exit status {code}"]
        faults += [] if len(said.splitlines()) == 1 else [f"said {said}"]
        written = len(list(store.glob("masks/*/*.parquet")))
        subprocess.run(["mount", "-o", f"remount,rw,size={room}", str(place)], check=True)
        code, _ = finish(start(images, store))
        faults += [] if code == SOME_FAILED else [f"exit status {code} with room"]
        faults += faults_of(store, expected, deaths_allowed=False)
    return {"said": said.strip().replace(str(place), "STORE"), "shards_before": written, "faults": faults}


def two_at_once(images: Path, place: Path, expected: Any) -> dict[str, Any]:
    """Two runs on one store."""
    runs = [start(images, place / "store", "--workers", "1") for _ in range(2)]
    codes = [finish(run)[0] for run in runs]
    faults = faults_of(place / "store", expected, deaths_allowed=False)
    return {"exit_statuses": codes, "faults": faults}


def damaged(place: Path, images: Path, expected: Any, undisturbed: Path) -> dict[str, Any]:
    """Shards with four kinds of damage, which `check` must find and the next run must make again."""
    store = place / "store"
    shutil.copytree(undisturbed, store)
    shards = sorted(store.glob("masks/*/*.parquet"))
    cut, empty, foreign, flipped = shards[:4]
    cut.write_bytes(cut.read_bytes()[:-100])
    empty.write_bytes(b"")
    foreign.write_bytes(shards[5].read_bytes())
    data = bytearray(flipped.read_bytes())
    data[len(data) // 3] ^= 1
    flipped.write_bytes(data)
    command = [sys.executable, "-m", "fgseg", "store", "check", str(store)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    faults = [] if found.returncode == FAILED and len(found.stdout.splitlines()) == 4 else [f"found {found.stdout}"]
    subprocess.run([*command, "--quarantine"], capture_output=True, check=False)
    code, said = finish(start(images, store))
    faults += [] if code in (DONE, SOME_FAILED) else [f"exit status {code}: {said}"]
    faults += faults_of(store, expected, deaths_allowed=False)
    return {"damaged": 4, "found": len(found.stdout.splitlines()), "faults": faults}


def told_now(out: Path, name: str, told: dict[str, Any]) -> None:
    """Write what a scenario has found so far."""
    merge(out, {name: told})
    print(name, json.dumps(told), file=sys.stderr, flush=True)


def main() -> None:
    """Run the scenarios and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--ray-kills", type=int, default=40, help="0 where Ray is not installed")
    parser.add_argument("--node-kills", type=int, default=10, help="0 where Ray is not installed")
    parser.add_argument("--images", type=int, default=120)
    parser.add_argument("--files", action=argparse.BooleanOptionalAction, default=True, help="damage, two at once")
    parser.add_argument("--disks", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "batch_faults.json")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        place = Path(folder)
        images = place / "images"
        images.mkdir()
        make_images(images, given.images)
        code, said = finish(start(images, place / "undisturbed"))
        assert code == SOME_FAILED, said
        expected = rows_of(place / "undisturbed")
        errors = {name: row["error_type"] for name, row in expected.items() if row["status"] == "error"}
        assert errors == {POISON: "ProcessDied", BROKEN[0]: "ImageError", BROKEN[1]: "ImageError"}, errors
        scenarios: dict[str, Callable[[Path], dict[str, Any]]] = {
            "two at once": lambda at: two_at_once(images, at, expected),
            "damaged": lambda at: damaged(at, images, expected, place / "undisturbed"),
        }
        if not given.files:
            scenarios.clear()
        if given.disks:
            room = {"room": "64m"}
            scenarios |= {
                "full disk": lambda at: on_disk(images, at, expected, options="rw", size="128k", **room),
                "read-only disk": lambda at: on_disk(images, at, expected, options="ro", size="64m", **room),
            }
        if given.kills:
            tell = partial(told_now, given.out, "kills")
            scenarios["kills"] = lambda at: with_kills(images, at, expected, given.kills, "--workers", "2", tell=tell)
        if given.ray_kills:
            ray = ("--workers", "2", "--engine", "ray")
            tell_of_ray = partial(told_now, given.out, "ray")
            scenarios["ray"] = lambda at: with_kills(images, at, expected, given.ray_kills, *ray, tell=tell_of_ray)
        if given.node_kills:
            tell_of_nodes = partial(told_now, given.out, "nodes")
            scenarios["nodes"] = lambda at: with_node_kills(images, at, expected, given.node_kills, tell_of_nodes)
        merge(given.out, {"kind": "batch_faults"})
        for name, scenario in scenarios.items():
            started = time.monotonic()
            told = scenario(place / name.replace(" ", "_"))
            seconds = round(time.monotonic() - started, 1)
            merge(given.out, {name: {**told, "images": len(expected), "unit": UNIT, "seconds": seconds}})
            print(name, json.dumps(told), flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--run"]:
        from fgseg.__main__ import main as run_fgseg

        # from this file under its own name, by which other processes find the job
        batch.Job = import_module("batch_faults").PoisonJob
        del sys.argv[1]
        run_fgseg()
    else:
        main()
