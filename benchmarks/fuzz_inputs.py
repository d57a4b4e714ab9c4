"""Damaged inputs of every kind: `python benchmarks/fuzz_inputs.py --cases 10000`.

A case is a sound input that is damaged at random: bytes of images (twelve formats), class files, COCO files, training
records, requests to the web endpoint, and prompts. Every case must end in a result or in an error of `fgseg.errors` (a
request in a status below 500) within ten seconds, and in less than 1 GB above the memory of the process with its model.
The seed of a case is its kind and number, so `--kind tiff --first 17 --cases 1` repeats one.

A child process runs the cases, so that a case that kills it or hangs costs no other case. The failed cases, their seeds
and the cases per kind and outcome are written as JSON; the inputs that failed are kept in `--keep`.
"""

import argparse
import io
import json
import multiprocessing
import random
import resource
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

import fgseg
from fgseg.datasets import open_dataset
from fgseg.datasets.faults import preflight
from fgseg.images.reading import open_tiff_file, read_picture, rgb_source
from fgseg.prompts.files import read_class_file
from fgseg.training.records import FileRecords

SECONDS, GIGABYTE = 10, 2**30
IMAGE_FORMATS = ("jpeg", "png", "gif", "bmp", "ppm", "tiff", "webp", "avif", "jpeg2000", "tga", "qoi", "mpo")
DOCUMENTS = ("class file", "coco", "record", "request", "prompt")
KINDS = (*IMAGE_FORMATS, *DOCUMENTS)


@dataclass(frozen=True)
class Outcome:
    """What became of a case: "ok", "refused", or how it failed."""

    kind: str
    number: int
    what: str
    seconds: float = 0.0
    megabytes: float = 0.0
    detail: str = ""

    @property
    def is_failure(self) -> bool:
        """Whether the case broke a rule of this script."""
        return self.what not in ("ok", "refused")


# --- sound inputs


def picture(source: random.Random) -> Image.Image:
    """A small picture of smooth blobs."""
    side = source.choice([(1, 1), (7, 5), (32, 48), (64, 64)])
    noise = np.random.RandomState(source.randrange(2**31)).randint(0, 256, (*side, 3))
    return Image.fromarray(noise.astype(np.uint8))


def image_bytes(kind: str, source: random.Random) -> bytes:
    """The content of a sound file of a format."""
    if kind == "tiff":
        return tiff_bytes(source)
    file, image = io.BytesIO(), picture(source)
    modes = {"gif": "P", "png": source.choice(["RGB", "RGBA", "L", "P", "1", "I;16"]), "tga": "RGB"}
    mode = modes.get(kind, "RGB")
    image = image.convert("L").convert("I").convert("I;16") if mode == "I;16" else image.convert(mode)
    options: dict[str, Any] = {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"} if kind in ("jpeg", "webp") else {}
    if kind == "mpo":
        options = {"save_all": True, "append_images": [image]}
    image.save(file, format=kind.upper(), **options)
    return file.getvalue()


def tiff_bytes(source: random.Random) -> bytes:
    """A TIFF of one of many layouts."""
    file, pixels = io.BytesIO(), np.asarray(picture(source))
    if source.random() < 0.4:
        compression = source.choice([None, "tiff_lzw", "jpeg", "packbits", "tiff_adobe_deflate", "group4"])
        image = Image.fromarray(pixels).convert("1" if compression == "group4" else "RGB")
        image.save(file, "TIFF", compression=compression)
        return file.getvalue()
    dtype = source.choice(["uint8", "uint16", "float32", "int32", "float16"])
    tile = source.choice([None, (16, 16), (16, 32)])
    values = pixels.astype(dtype) if dtype != "float16" else (pixels / 255).astype(dtype)
    gray = source.random() < 0.4
    tifffile.imwrite(
        file, values[:, :, 0] if gray else values, tile=tile, photometric="minisblack" if gray else "rgb",
        compression=source.choice([None, "zlib"]), byteorder=source.choice("<>"), metadata=None,
        bigtiff=source.random() < 0.2,
    )  # fmt: skip
    return file.getvalue()


COCO = {
    "images": [{"id": 1, "file_name": "a.png", "height": 20, "width": 30}],
    "categories": [{"id": 1, "name": "cup"}, {"id": 2, "name": "tree"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 9, 9], "area": 81, "iscrowd": 0,
         "segmentation": [[1, 2, 10, 2, 10, 11, 1, 11]]},
        {"id": 2, "image_id": 1, "category_id": 2, "bbox": [0, 0, 5, 5], "area": 25, "iscrowd": 1,
         "segmentation": {"size": [20, 30], "counts": [100, 50, 450]}},
        {"id": 3, "image_id": 1, "category_id": 2, "iscrowd": 1,
         "segmentation": {"size": [20, 30], "counts": "n0o0k3"}},
    ],
}  # fmt: skip
RECORD = {
    "f_path": "a.png", "caption": "a photo of a cup", "long_caption": "A red cup on a table.",
    "bbox_info": [{"bbox": [0.1, 0.1, 0.9, 0.9, 0.5], "short_expr": "red cup", "long_expr": "a red cup on a table",
                   "flag_short_neg": 1, "short_expr_negs": {"0": "blue cup"}}],
}  # fmt: skip
CLASSES: list[Any] = [
    [{"name": "cup", "prompts": ["cup", "mug"], "color": [1, 2, 3]}, {"name": "tree"}],
    {"names": {"0": "cup", "1": "tree"}},
    {"classes": [{"index": 0, "name": "red", "prompts": ["red"], "color": [255, 0, 0]}], "unlabelled": 255},
    ["cup", "tree"],
]


# --- damage


def damaged_bytes(data: bytes, source: random.Random) -> bytes:
    """The bytes with one to four kinds of damage."""
    out = bytearray(data)
    for _ in range(source.randint(1, 4)):
        if not out:
            break
        at = source.randrange(len(out))
        choice = source.randrange(6)
        if choice == 0:
            out[at] ^= 1 << source.randrange(8)
        elif choice == 1:
            del out[at:]
        elif choice == 2:
            out[at:at] = source.randbytes(source.randint(1, 64))
        elif choice == 3:  # an extreme number where headers keep sizes and offsets
            number = source.choice([0, 1, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, source.randrange(2**32)])
            packed = struct.pack(source.choice(["<I", ">I"]), number)[: source.choice([2, 4])]
            start = source.randrange(min(len(out), 512))
            out[start : start + len(packed)] = packed
        elif choice == 4:
            start = source.randrange(len(out))
            out[at:at] = out[start : start + source.randint(1, 256)]
        else:
            del out[at : at + source.randint(1, 64)]
    return bytes(out)


def any_value(source: random.Random, depth: int = 0) -> Any:
    """A JSON value of any kind."""
    values: list[Callable[[], Any]] = [
        lambda: None,
        lambda: source.choice([True, False]),
        lambda: source.choice([0, -1, 1, 2**31, 2**63, 10**30, -(10**18), 255, 65_536]),
        lambda: source.choice([0.5, -0.5, 1e308, 1e-308, float("nan"), float("inf"), -float("inf")]),
        lambda: source.choice(["", "a", "a" * 5000, "\0", "\ud800", "../../etc", "/tmp", "n0o0k3", "é", "1", "nan"]),
        lambda: source.choice(["background", "cup", "red", "blue, \\,", "N1N1N1" * 40, "🙂", "a\u0301"]),
    ]
    if depth < 3:
        values.append(lambda: [any_value(source, depth + 1) for _ in range(source.randint(0, 5))])
        keys = [str(any_value(source, 3)) for _ in range(source.randint(0, 4))]
        values.append(lambda: {key: any_value(source, depth + 1) for key in keys})
        values.append(lambda: [any_value(source, 3)] * source.choice([100, 3000]))
    return source.choice(values)()


def damaged_document(document: Any, source: random.Random) -> Any:
    """The document with values that are replaced, removed or doubled at random places."""
    out = json.loads(json.dumps(document))
    for _ in range(source.randint(1, 3)):
        places = list(_places(out))
        if not places:
            return any_value(source)
        holder, key = source.choice(places)
        choice = source.randrange(4)
        if choice == 0:
            del holder[key]
        elif choice == 1 and isinstance(holder, list):
            holder.append(holder[key])
        elif choice == 2 and isinstance(holder, dict):
            holder[str(any_value(source, 3))] = holder[key]
        else:
            holder[key] = any_value(source)
    return out


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in list(entries):
        yield value, key
        yield from _places(entry)


def text_of(document: Any, source: random.Random) -> bytes:
    """The document as JSON; one in four is damaged as bytes too."""
    data = json.dumps(document, ensure_ascii=source.random() < 0.5).encode("utf-8", "surrogatepass")
    return damaged_bytes(data, source) if source.random() < 0.25 else data


def case_bytes(kind: str, number: int) -> bytes:
    """The input of a case."""
    source = random.Random(f"{kind} {number}")
    if kind in IMAGE_FORMATS:
        return damaged_bytes(image_bytes(kind, source), source)
    if kind == "coco":
        return text_of(damaged_document(COCO, source), source)
    if kind == "record":
        return b"\n".join(text_of(damaged_document(RECORD, source), source) for _ in range(2))
    if kind == "class file":
        if source.random() < 0.3:
            return damaged_bytes(b"cup, mug\n1: tree\n2\tred\n# note\n\n\\,\n", source)
        return text_of(damaged_document(source.choice(CLASSES), source), source)
    if kind == "request":
        data = image_bytes("png", source)
        return damaged_bytes(data, source) if source.random() < 0.5 else data
    prompts = ["red, crimson", "blue", "checkered", "a photo of red, white and blue"]
    return json.dumps(damaged_document(source.sample(prompts, 2), source)).encode("utf-8", "surrogatepass")


# --- what is done with a case


class Targets:
    """The functions that take inputs, with what they need."""

    def __init__(self, folder: Path) -> None:
        """Load the model, and make the files that cases refer to."""
        self._folder = folder
        Image.new("RGB", (30, 20), (200, 30, 30)).save(folder / "a.png")
        self._seg = fgseg.load()
        self._client: Any = None

    def prepare(self, kind: str) -> None:
        """Import what a kind of cases needs, which is not part of a case's time."""
        if kind == "request":
            self._endpoint()

    def run(self, kind: str, number: int, data: bytes) -> None:
        """Give the input of a case to the function that takes such inputs."""
        if kind in IMAGE_FORMATS:
            self._image(kind, data)
        elif kind == "prompt":
            self._seg.prepare(json.loads(data))
        elif kind == "request":
            self._request(data, random.Random(f"request {number}"))
        else:
            self._document(kind, number, data)

    def _image(self, kind: str, data: bytes) -> None:
        path = self._folder / f"case.{kind}"
        path.write_bytes(data)
        read_picture(path)
        read_picture(data, stretch=(2, 98))
        if kind == "tiff":
            with open_tiff_file(path) as tiff:
                for band in rgb_source(tiff.stored(), None).rows():
                    assert band.rgb.shape[2] == 3

    def _document(self, kind: str, number: int, data: bytes) -> None:
        suffix = (".json", ".txt", ".yaml")[number % 3] if kind == "class file" else ".json"
        path = self._folder / f"case{suffix}"
        path.write_bytes(data)
        if kind == "class file":
            read_class_file(path)
        elif kind == "record":
            records = FileRecords([path], self._folder)
            for index in range(len(records)):
                records.sample(index)
        else:
            dataset = open_dataset(path, root=self._folder)
            preflight(dataset)
            for item in dataset.items:
                item.read_labels()

    def _request(self, data: bytes, source: random.Random) -> None:
        fields = {"prompt": "red", "negative": "blue", "mode": "exclusive", "threshold": "0.5", "box": "0,0,5,5"}
        if source.random() < 0.7:
            fields[source.choice(list(fields))] = str(any_value(source, 2))
        form = {name: value.encode("utf-8", "replace").decode() for name, value in fields.items()}
        answer = self._endpoint().post("/api/segment", files={"image": ("a.png", data)}, data=form)
        if answer.status_code >= 500:
            raise AssertionError(f"status {answer.status_code}: {answer.text[:300]}")
        if answer.status_code >= 400:
            raise fgseg.OptionError(answer.json()["error"])

    def _endpoint(self) -> Any:
        if self._client is None:
            from starlette.applications import Starlette
            from starlette.testclient import TestClient

            from fgseg.web.limits import Limits
            from fgseg.web.routes import routes
            from fgseg.web.service import SegmentationService

            service = SegmentationService(self._seg, Limits(), self._folder, {})
            self._client = TestClient(Starlette(routes=routes(service)))
        return self._client


def run_case(targets: Targets, kind: str, number: int) -> Outcome:
    """Run a case in this process."""
    targets.prepare(kind)
    data, before, started = case_bytes(kind, number), peak_memory(), time.perf_counter()
    what, detail = "ok", ""
    try:
        targets.run(kind, number, data)
    except fgseg.FgsegError as error:
        what = "refused"
        if "\n" in str(error):
            what, detail = "an error of several lines", str(error)
    except Exception:
        what, detail = "a foreign exception", traceback.format_exc(limit=-4)
    seconds, megabytes = time.perf_counter() - started, (peak_memory() - before) / 2**20
    if seconds > SECONDS:
        what = "slow"
    if megabytes > 1024:
        what = "too much memory"
    return Outcome(kind, number, what, seconds, megabytes, detail)


def peak_memory() -> int:
    """The largest resident memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# --- a child process for the cases


def _child(cases: list[tuple[str, int]], channel: Any) -> None:
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        targets = Targets(Path(folder))
        channel.send("ready")
        for kind, number in cases:
            channel.send((kind, number))
            channel.send(run_case(targets, kind, number))


def run_all(cases: list[tuple[str, int]]) -> Iterator[Outcome]:
    """The outcome of every case. A case that kills or stops its process is an outcome, and the next ones go on."""
    context = multiprocessing.get_context("spawn")
    remaining = cases
    while remaining:
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_child, args=(remaining, theirs), daemon=True)
        child.start()
        theirs.close()
        done = 0
        for outcome in _outcomes(ours, child):
            done += 1
            yield outcome
        child.kill()
        child.join()
        remaining = remaining[done:]


def _outcomes(channel: Any, child: Any) -> Iterator[Outcome]:
    """Outcomes of one child, up to the case that ends it."""
    case: tuple[str, int] | None = None
    while True:
        try:
            if not channel.poll(300 if case is None else 3 * SECONDS):
                yield Outcome(*(case or ("start", 0)), "hung", 3.0 * SECONDS)
                return
            message = channel.recv()
        except EOFError:
            child.join()
            if case is not None:
                yield Outcome(*case, "the process died", detail=f"exit status {child.exitcode}")
            return
        if isinstance(message, Outcome):
            yield message
            case = None
        elif message != "ready":
            case = message


def cases_of(kinds: tuple[str, ...], first: int, count: int) -> list[tuple[str, int]]:
    """`count` cases in all, in turn over the kinds."""
    return [(kinds[index % len(kinds)], first + index // len(kinds)) for index in range(count)]


def main() -> None:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first case of each kind")
    parser.add_argument("--kind", choices=KINDS, action="append")
    parser.add_argument("--keep", type=Path, help="folder for the inputs that failed")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "fuzz_inputs.json")
    given = parser.parse_args()
    kinds = tuple(given.kind or KINDS)
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    failures: list[Outcome] = []
    slowest = largest = 0.0
    for outcome in run_all(cases_of(kinds, given.first, given.cases)):
        counts.setdefault(outcome.kind, Counter())[outcome.what] += 1
        slowest, largest = max(slowest, outcome.seconds), max(largest, outcome.megabytes)
        if outcome.is_failure:
            failures.append(outcome)
            print(f"{outcome.kind} {outcome.number}: {outcome.what}\n{outcome.detail}", file=sys.stderr, flush=True)
            if given.keep:
                given.keep.mkdir(parents=True, exist_ok=True)
                name = f"{outcome.kind}-{outcome.number}".replace(" ", "_")
                (given.keep / name).write_bytes(case_bytes(outcome.kind, outcome.number))
    document = {
        "what": "damaged inputs: foreign exceptions, hangs over 10 s and memory over 1 GB are failures",
        "fgseg": fgseg.__version__,
        "cases": given.cases,
        "first": given.first,
        "failures": len(failures),
        "failed_cases": [f"{failure.kind} {failure.number}: {failure.what}" for failure in failures],
        "slowest_seconds": round(slowest, 2),
        "most_memory_mb": round(largest),
        "outcomes": {kind: dict(sorted(counter.items())) for kind, counter in counts.items()},
    }
    given.out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(document, indent=2))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
