"""Sixteen simultaneous users of one `fgseg serve` on the loopback interface: `python benchmarks/web_load.py`.

Each user has a picture of its own size and colours. A round consists of what a person does on the page (upload,
segment, segment by other words, click a point, download the label map) and of what a program does (POST to the
endpoint). Every answer is checked to belong to the user's own picture by its size, its words and its label map, which
is compared with that of a Segmenter in this process. The script writes as JSON: rounds, errors, answers for another
user's picture, milliseconds by kind of request, and the server's resident memory over time.
"""

import argparse
import itertools
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
import numpy as np
import torch

import fgseg
from fgseg.drawing.colors import class_colors
from fgseg.images.reading import read_image
from fgseg.images.writing import encode_png
from fgseg.prompts.classes import parse_classes
from fgseg.types import UNLABELLED

COLORS = {
    "red": (200, 30, 30),
    "blue": (30, 60, 200),
    "green": (40, 160, 60),
    "yellow": (240, 220, 50),
    "purple": (130, 40, 160),
    "orange": (250, 140, 20),
}
ANSWER_TIMEOUT = 120.0  # seconds
START_TIMEOUT = 300.0  # seconds
AGREEMENT = 0.999  # of label maps from two processes; the last bit of a score may differ


@dataclass
class Report:
    """The observations of all users, which their threads share."""

    rounds: int = 0
    errors: list[str] = field(default_factory=list)
    mixed_up: list[str] = field(default_factory=list)
    milliseconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def timed(self, kind: str) -> Iterator[None]:
        """Time one request."""
        started = time.perf_counter()
        yield
        with self.lock:
            self.milliseconds[kind].append(1000 * (time.perf_counter() - started))

    def check(self, is_own: bool, what: str) -> None:
        """Record an answer that does not belong to the user's own picture."""
        if not is_own:
            with self.lock:
                self.mixed_up.append(what)


def picture(number: int) -> tuple[np.ndarray, list[str]]:
    """A picture that differs from those of all other users, and the colours on it."""
    pairs = list(itertools.permutations(COLORS, 2))
    ground, front = pairs[number * 7 % len(pairs)]
    height, width = 96 + 4 * number, 160 - 3 * number
    image = np.empty((height, width, 3), np.uint8)
    image[:] = COLORS[ground]
    top, left = 8 + number, 60 - 2 * number
    image[top : top + 40, left : left + 48] = COLORS[front]
    return image, [ground, front]


class User:
    """One user with a picture, its expected labels, and a connection."""

    def __init__(self, number: int, address: str, seg: fgseg.Segmenter, report: Report) -> None:
        """Make the picture, and compute its labels without the server."""
        self.name, self.report = f"user{number}", report
        self.image, self.words = picture(number)
        self.file = encode_png(self.image)
        self.expected = seg.segment(self.image, self.words, threshold=0.5).labels
        self.http = httpx.Client(base_url=address, timeout=ANSWER_TIMEOUT, trust_env=False)
        self.session = f"session{number}"
        config = self.http.get("/config").json()
        self.events = {entry["api_name"]: entry["id"] for entry in config["dependencies"]}

    def round(self) -> Iterator[None]:
        """What a person does, then what a program does; yields between requests, so that a round can be abandoned."""
        with self.report.timed("upload"):
            answer = self.http.post("/session", content=self.file, headers={"X-File-Name": f"{self.name}.png"})
        secret = answer.raise_for_status().json()["secret"]
        yield
        shown = self.event("uploaded", [None, *self.form("")], {"secret": secret})
        self.own_stage(shown[1])
        yield
        shown = self.event("run", [None, *self.form(self.words[0])], None)
        self.own_stage(shown[1])
        yield
        shown = self.event("run", [None, *self.form("\n".join(self.words))], None)
        self.own_stage(shown[1])
        rows = [row["name"] for row in shown[2]["rows"]]
        self.report.check(rows == self.words, f"{self.name}: legend {rows}")
        self.report.check("kept from before" in shown[3], f"{self.name}: encoded again")
        yield
        marked = self.event("mark", [None, *self.form("")], {"box": [0.5, 0.5, 0.5, 0.5]})
        self.report.check([row["name"] for row in marked[2]["rows"]] == self.words, f"{self.name}: scores")
        yield
        self.own_labels(secret)
        yield
        self.own_answer()

    def form(self, prompts: str) -> list[object]:
        """The fields of the page."""
        return [prompts, "", "exclusive", 0.5, 0.5, "auto", "grey", "join"]

    def event(self, name: str, data: list[object], event_data: object) -> list[object]:
        """Send one event of the page as its script does, and wait for the outputs."""
        body = {
            "fn_index": self.events[name],
            "data": data,
            "event_data": event_data,
            "session_hash": self.session,
        }
        with self.report.timed(name):
            self.http.post("/gradio_api/queue/join", json=body).raise_for_status()
            return self.outputs()

    def outputs(self) -> list[object]:
        """The outputs of the pending event."""
        ask = {"params": {"session_hash": self.session}}
        with self.http.stream("GET", "/gradio_api/queue/data", **ask) as stream:
            for line in stream.iter_lines():
                message = json.loads(line.removeprefix("data:")) if line.startswith("data:") else {}
                if message.get("msg") == "process_completed":
                    if not message["success"]:
                        raise RuntimeError(f"{self.name}: {message['output']}")
                    return message["output"]["data"]
        raise RuntimeError(f"{self.name}: the stream ended without an answer")

    def own_stage(self, stage: dict) -> None:
        """Check that the picture on the stage is the user's."""
        height, width = self.image.shape[:2]
        is_own = (stage.get("height"), stage.get("width"), stage.get("name")) == (height, width, f"{self.name}.png")
        self.report.check(is_own, f"{self.name}: stage {stage.get('name')}")

    def own_labels(self, secret: str) -> None:
        """Check that the downloaded label map is that of the user's picture."""
        with self.report.timed("download"):
            answer = self.http.get(f"/session/{secret}/labels.png").raise_for_status()
        colors = read_image(answer.content)
        is_own = colors.shape[:2] == self.expected.shape
        if is_own:
            # The colours of the classes identify the two classes and unlabelled pixels.
            labels = np.full(self.expected.shape, UNLABELLED)
            for label, color in enumerate(class_colors(parse_classes(self.words))):
                labels[(colors == color).all(axis=2)] = label
            is_own = (labels == self.expected).mean() > AGREEMENT
        self.report.check(bool(is_own), f"{self.name}: label map")

    def own_answer(self) -> None:
        """Check that the answer of the endpoint is that of the user's picture."""
        form = {"prompt": self.words, "threshold": "0.5"}
        with self.report.timed("endpoint"):
            answer = self.http.post(
                "/api/segment", files={"image": (f"{self.name}.png", self.file)}, data=form
            ).raise_for_status()
        result = answer.json()
        height, width = self.image.shape[:2]
        counts = [entry["pixels"] for entry in result["classes"]]
        expected = [int((self.expected == label).sum()) for label in (0, 1)]
        is_near = np.abs(np.subtract(counts, expected)).max() <= (1 - AGREEMENT) * height * width
        is_own = (result["image"], result["height"], result["width"]) == (f"{self.name}.png", height, width)
        self.report.check(bool(is_own and is_near), f"{self.name}: endpoint {result['image']} {counts} {expected}")


def busy(user: User, deadline: float) -> None:
    """Repeat rounds until the deadline."""
    try:
        while True:
            for _ in user.round():
                if time.monotonic() > deadline:
                    return
            with user.report.lock:
                user.report.rounds += 1
    except Exception as error:
        with user.report.lock:
            user.report.errors.append(f"{user.name}: {type(error).__name__}: {error}"[:300])


@contextmanager
def server() -> Iterator[tuple[str, int]]:
    """Run a server; yields its address and process id."""
    command = [sys.executable, "-m", "fgseg", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        killer = threading.Timer(START_TIMEOUT, process.kill)
        killer.start()
        try:
            address = process.stdout.readline().strip() if process.stdout else ""
            killer.cancel()
            if not address:
                raise RuntimeError("the server did not start")
            yield address, process.pid
        finally:
            killer.cancel()
            process.terminate()


def resident_mb(pid: int) -> float:
    """Resident memory of a process in megabytes (Linux)."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith("VmRSS"))


def measure(users: int, seconds: float) -> dict[str, object]:
    """Run the users and collect the figures."""
    report, seg = Report(), fgseg.load("mini")
    with server() as (address, pid):
        all_users = [User(number, address, seg, report) for number in range(users)]
        list(all_users[0].round())  # the first requests include loading
        memory = [resident_mb(pid)]
        deadline = time.monotonic() + seconds
        threads = [threading.Thread(target=busy, args=(user, deadline)) for user in all_users]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.5)
            memory.append(resident_mb(pid))
        for thread in threads:
            thread.join()
    late = memory[len(memory) // 2 :]
    return {
        "users": users,
        "seconds": seconds,
        "rounds": report.rounds,
        "requests": sum(map(len, report.milliseconds.values())),
        "errors": report.errors,
        "mixed_up": report.mixed_up,
        "milliseconds": {kind: summary(values) for kind, values in report.milliseconds.items()},
        "resident_mb": {
            "before": round(memory[0]),
            "peak": round(max(memory)),
            "growth_in_the_second_half": round(late[-1] - late[0]),
        },
    }


def summary(values: list[float]) -> dict[str, float]:
    """Median and 95th percentile."""
    return {
        "count": len(values),
        "median": round(float(np.median(values)), 1),
        "p95": round(float(np.quantile(values, 0.95)), 1),
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(
        description="Sixteen simultaneous users of one fgseg serve on the loopback interface."
    )
    parser.add_argument("--users", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "web_load.json")
    options = parser.parse_args()
    report = measure(min(options.users, 26), min(options.seconds, 600))
    report |= {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "versions": {"fgseg": fgseg.__version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": {"processor": platform.machine(), "cores": os.cpu_count()},
    }
    options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({key: report[key] for key in ("rounds", "requests", "errors", "mixed_up", "resident_mb")}))
    sys.exit(bool(report["errors"] or report["mixed_up"]))


if __name__ == "__main__":
    main()
