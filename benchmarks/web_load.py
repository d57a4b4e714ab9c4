"""Sixteen clients of one `fgseg serve`, all users or some hostile: `python benchmarks/web_load.py`.

Each user has a picture of its own size and colours. A round consists of what a person does on the page (upload,
segment, segment by other words, click a point, download the label map) and of what a program does (POST to the
endpoint). Every answer is checked to belong to the user's own picture by its size, its words and its label map, which
is compared with that of a Segmenter in this process.

First all sixteen are users. Then, for the same time, five of them are hostile. These send headers and images a few
bytes at a time over many connections, send headers of a megabyte, break off uploads, ask for other hosts and from
other origins, and ask for images with secrets that are old or guessed. Each refusal must have its status. The script
writes as JSON for both halves: rounds, errors, answers for another user's picture, milliseconds by kind of request,
and the server's resident memory; also the ratios of the medians, the answers to the hostile clients, and the number of
lines that the server logged, which should be none.
"""

import argparse
import itertools
import json
import os
import platform
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import torch

import fgseg
from fgseg.drawing.colors import class_colors
from fgseg.images.reading import read_image
from fgseg.images.writing import encode_png
from fgseg.prompts.classes import parse_classes
from fgseg.types import UNLABELLED
from fgseg.web.events import Form

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
ABOUT = (
    "As many clients for the same time, first all users, then users and five hostile clients: slow senders over "
    "many connections, headers of a megabyte, uploads that are broken off, other hosts and origins, and secrets of "
    "images that are guessed or have no result. All clients share the processors with the server. Answers to "
    "hostile clients are counted by their status; wrong_answers and logged_lines should be none."
)
SLOW_CONNECTIONS = 32
MOST_CLIENTS = 26  # pairs of colours, and sizes of pictures, are different up to here
PAUSE = 0.05  # seconds between the requests of a hostile client, and between the bytes of a slow one
MEGABYTE = 1_000_000
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
        self.own_masks(shown[7])
        yield
        shown = self.event("run", [None, *self.form("\n".join(self.words))], None)
        self.own_masks(shown[7])
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
        """The fields of the page, in their order there."""
        return list(asdict(Form(prompts, "", "exclusive", 0.5, 0.0, "auto")).values())

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

    def own_masks(self, masks: dict) -> None:
        """Check that the masks have the size of the user's picture, which no other user has."""
        is_own = (masks.get("imageHeight"), masks.get("imageWidth")) == self.image.shape[:2]
        self.report.check(is_own, f"{self.name}: masks {masks.get('imageHeight')} x {masks.get('imageWidth')}")

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


# --- hostile clients


class Hostile:
    """A client that misuses the server in one way, over and over.

    Attributes:
        answers: how often the server answered what; "closed" if it closed the connection.
    """

    def __init__(self, misuse: Callable[["Hostile"], Iterator[str]], address: str, user: User) -> None:
        """Take the misuse, and a user whose picture is sent."""
        parts = urlsplit(address)
        self.misuse, self.server = misuse, (parts.hostname, parts.port)
        self.host, self.file = parts.netloc, user.file
        self.answers: Counter[str] = Counter()

    def run(self, deadline: float) -> None:
        """Repeat until the deadline."""
        while time.monotonic() < deadline:
            for answer in self.misuse(self):
                self.answers[answer] += 1
                time.sleep(PAUSE)
                if time.monotonic() > deadline:
                    break

    def connect(self) -> socket.socket:
        """A new connection."""
        return socket.create_connection(self.server, timeout=ANSWER_TIMEOUT)

    def ask(self, head: str, body: bytes = b"") -> str:
        """Send one request on a new connection; returns the status of the answer."""
        with self.connect() as connection:
            try:
                connection.sendall(f"{head}\r\nConnection: close\r\n\r\n".encode() + body)
                return status(connection.recv(4096))
            except OSError:
                return "closed"

    def upload(self, length: int) -> str:
        """The head of an upload."""
        return f"POST /session HTTP/1.1\r\nHost: {self.host}\r\nContent-Length: {length}"


def status(answer: bytes) -> str:
    """The status in the first line of an answer."""
    return answer.split(b" ", 2)[1].decode() if answer.startswith(b"HTTP/") else "closed"


def slow_senders(client: Hostile) -> Iterator[str]:
    """Many connections that send a byte at a time: half of them headers, half of them an image."""
    head = f"{client.upload(MEGABYTE)}\r\nX-File-Name: {'a' * 10_000}"
    connections = [client.connect() for _ in range(SLOW_CONNECTIONS)]
    try:
        for connection in connections[::2]:
            connection.sendall(f"{client.upload(MEGABYTE)}\r\n\r\n".encode())
        for letter in head:
            for connection in connections:
                connection.sendall(letter.encode())
            yield "sent a byte"
    finally:
        for connection in connections:
            connection.close()


def huge_headers(client: Hostile) -> Iterator[str]:
    """A header of a megabyte."""
    yield client.ask(f"GET / HTTP/1.1\r\nHost: {client.host}\r\nX-Long: {'a' * MEGABYTE}")


def aborted_uploads(client: Hostile) -> Iterator[str]:
    """An upload that is broken off in the middle, with a reset."""
    with client.connect() as connection:
        connection.sendall(f"{client.upload(20 * MEGABYTE)}\r\n\r\n".encode() + bytes(MEGABYTE))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    yield "aborted"


def wrong_hosts(client: Hostile) -> Iterator[str]:
    """Requests under the name of another host, and from a page of another origin."""
    for host in ("example.org", f"127.0.0.1.example.org:{client.server[1]}", "[::1", ""):
        yield client.ask(f"GET /config HTTP/1.1\r\nHost: {host}")
    length = f"Content-Length: {len(client.file)}"
    foreign = f"POST /session HTTP/1.1\r\nHost: {client.host}\r\nOrigin: http://example.org\r\n{length}"
    yield client.ask(foreign, client.file)


def replayed_sessions(client: Hostile) -> Iterator[str]:
    """Secrets that are guessed, or whose image has no result."""
    with httpx.Client(base_url=f"http://{client.host}", timeout=ANSWER_TIMEOUT, trust_env=False) as http:
        secret = http.post("/session", content=client.file).raise_for_status().json()["secret"]
        for guess in (secret, secret[::-1], secret[:-1], secret.upper(), "..", "%2e%2e"):
            yield str(http.get(f"/session/{guess}/labels.png").status_code)


MISUSES: dict[Callable[[Hostile], Iterator[str]], tuple[str, ...]] = {
    slow_senders: ("sent a byte",),
    huge_headers: ("400", "431", "closed"),
    aborted_uploads: ("aborted",),
    wrong_hosts: ("403",),
    replayed_sessions: ("404",),
}
"""The misuses, and the answers that are right."""


# --- the server


@contextmanager
def server(log: Path) -> Iterator[tuple[str, int]]:
    """Run a server that logs to a file; yields its address and process id."""
    command = [sys.executable, "-m", "fgseg", "serve", "--port", "0"]
    with log.open("w") as lines, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=lines, text=True) as process:
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


def measure(clients: int, seconds: float) -> dict[str, object]:
    """Run users alone, then as many clients of which some are hostile, and collect the figures."""
    seg = fgseg.load("mini")
    with tempfile.TemporaryDirectory() as folder, server(Path(folder, "log")) as (address, pid):
        reports = [Report(), Report()]
        all_users = [User(number, address, seg, reports[0]) for number in range(clients)]
        list(all_users[0].round())  # the first requests include loading
        reports[0].milliseconds.clear()
        hostile = [Hostile(misuse, address, all_users[0]) for misuse in MISUSES]
        alone = together(pid, [partial(busy, user) for user in all_users], seconds)
        others = all_users[: clients - len(hostile)]
        for user in others:
            user.report = reports[1]
        beside = together(pid, [partial(busy, user) for user in others] + [one.run for one in hostile], seconds)
        logged = Path(folder, "log").read_text(encoding="utf-8").splitlines()[1:]  # the first line is the address
    halves = [figures(report, *taken) for report, taken in zip(reports, (alone, beside), strict=True)]
    return {
        "clients": clients,
        "hostile": len(hostile),
        "seconds": seconds,
        "alone": halves[0],
        "beside_hostile_clients": halves[1],
        "ratios_of_medians": ratios(*halves),
        "hostile_answers": {one.misuse.__name__: dict(one.answers) for one in hostile},
        "wrong_answers": wrong_answers(hostile),
        "logged_lines": logged[:20],
    }


def processor_seconds(pid: int) -> float:
    """Processor time that a process has taken (Linux)."""
    numbers = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")


def together(pid: int, clients: list[Callable[[float], None]], seconds: float) -> tuple[list[float], float]:
    """Run clients at the same time; returns the server's resident memory over time, and its processor seconds."""
    memory, before = [resident_mb(pid)], processor_seconds(pid)
    deadline = time.monotonic() + seconds
    threads = [threading.Thread(target=client, args=(deadline,)) for client in clients]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        time.sleep(0.5)
        memory.append(resident_mb(pid))
    for thread in threads:
        thread.join()
    return memory, processor_seconds(pid) - before


def figures(report: Report, memory: list[float], processor: float) -> dict[str, Any]:
    """What the users saw, and what the server took for it."""
    late = memory[len(memory) // 2 :]
    requests = sum(map(len, report.milliseconds.values()))
    return {
        "rounds": report.rounds,
        "requests": requests,
        "processor_seconds_per_request": round(processor / requests, 3),
        "errors": report.errors,
        "mixed_up": report.mixed_up,
        "milliseconds": {kind: summary(values) for kind, values in report.milliseconds.items()},
        "resident_mb": {
            "before": round(memory[0]),
            "peak": round(max(memory)),
            "growth_in_the_second_half": round(late[-1] - late[0]),
        },
    }


def ratios(alone: dict[str, Any], beside: dict[str, Any]) -> dict[str, float]:
    """How many times longer each kind of request took beside hostile clients, by its median."""
    both = alone["milliseconds"], beside["milliseconds"]
    return {kind: round(both[1][kind]["median"] / both[0][kind]["median"], 2) for kind in both[0].keys() & both[1]}


def wrong_answers(hostile: list[Hostile]) -> list[str]:
    """The answers that a misuse should not get."""
    return [
        f"{one.misuse.__name__}: {answer}"
        for one in hostile
        for answer in one.answers
        if answer not in MISUSES[one.misuse]
    ]


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
        description="Sixteen clients of one fgseg serve on the loopback interface, all users, then some hostile."
    )
    parser.add_argument("--clients", type=int, default=16, help="more than the five hostile ones, at most 26")
    parser.add_argument("--seconds", type=float, default=60, help="of each half")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "web_load.json")
    options = parser.parse_args()
    if not len(MISUSES) < options.clients <= MOST_CLIENTS:
        parser.error(f"--clients: expected {len(MISUSES) + 1} to {MOST_CLIENTS}, got {options.clients}")
    report = measure(options.clients, options.seconds)
    report = (
        {"about": ABOUT}
        | report
        | {
            "load": round(os.getloadavg()[0], 1),
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "versions": {"fgseg": fgseg.__version__, "torch": torch.__version__, "python": platform.python_version()},
            "machine": {"processor": platform.machine(), "cores": os.cpu_count()},
        }
    )
    options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    halves = [report["alone"], report["beside_hostile_clients"]]
    print(json.dumps([{key: half[key] for key in ("rounds", "errors", "mixed_up", "resident_mb")} for half in halves]))
    faults = [fault for half in halves for fault in (*half["errors"], *half["mixed_up"])]
    sys.exit(bool(faults or report["wrong_answers"] or report["logged_lines"]))


if __name__ == "__main__":
    main()
