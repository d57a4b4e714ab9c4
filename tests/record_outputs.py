"""Record what the main routes compute as hashes, and compare them with a record made before a change.

    python tests/record_outputs.py before.json                  # on the code as it was
    python tests/record_outputs.py after.json --against before.json

A change that only moves code leaves every hash equal. Times, versions and paths are left out. Hashes differ between
processors and versions of libraries, so both records have to come from one machine. `--data FOLDER` also measures a
labelled folder (a `dataset.json` with images and labels) with `fgseg bench`.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).parent / "data" / "golden"
UNSTABLE = {
    "code_sha256", "content_sha256", "date", "encoding_seconds", "finished", "identity", "milliseconds", "modified",
    "seconds", "threads", "timing", "versions",
}  # fmt: skip
"""Keys of JSON files that hold times, versions or hashes of the code."""
PROMPTS = ["red", "white", "brown, tan"]
FORMATS = ["labels", "overlay", "regions", "heatmaps", "masks", "coco", "geojson", "yolo", "labelme"]


def digest(value: Any) -> str:
    """Sixteen hex digits of an array, bytes, text or anything that JSON can hold."""
    if isinstance(value, np.ndarray):
        value = f"{value.dtype} {value.shape}".encode() + np.ascontiguousarray(value).tobytes()
    elif not isinstance(value, bytes):
        value = json.dumps(stable(value), sort_keys=True).encode()
    return hashlib.sha256(value).hexdigest()[:16]


def stable(value: Any) -> Any:
    """A JSON value without what changes from run to run."""
    if isinstance(value, dict):
        return {key: stable(entry) for key, entry in value.items() if key not in UNSTABLE}
    if isinstance(value, (list, tuple)):
        return [stable(entry) for entry in value]
    return value


def of_file(path: Path) -> str:
    """The digest of a file by what it holds: JSON without its times, npz by its arrays."""
    if path.suffix in {".json", ".geojson"}:
        return digest(json.loads(path.read_text(encoding="utf-8")))
    if path.suffix == ".jsonl":
        return digest([json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()])
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            return digest([[name, digest(arrays[name])] for name in sorted(arrays)])
    if path.suffix == ".html":  # embeds the date and the versions
        return "page"
    return digest(path.read_bytes())


def of_folder(name: str, folder: Path) -> Iterator[tuple[str, str]]:
    """The digest of every file in a folder."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield f"{name}: {path.relative_to(folder)}", of_file(path)


def command(*words: str) -> str:
    """Run `fgseg` in the working folder; what it prints to stdout."""
    done = subprocess.run([sys.executable, "-m", "fgseg", *words], capture_output=True, text=True)
    assert done.returncode == 0, f"fgseg {' '.join(words)}: {done.stderr}"
    return done.stdout


def lines_of(printed: str) -> list[Any]:
    """The JSON lines that a command printed."""
    return [json.loads(line) for line in printed.splitlines()]


def photographs() -> dict[str, np.ndarray]:
    """Photographs that come with scikit-image."""
    from skimage import data

    return {"coffee": data.coffee(), "astronaut": data.astronaut()[:400], "rocket": data.rocket()[::2, ::2]}


def result_digests(name: str, result: Any) -> Iterator[tuple[str, str]]:
    """Labels, masks, scores, regions, pictures and files of a segmentation."""
    yield f"{name}: labels", digest(result.labels)
    yield f"{name}: masks", digest([digest(mask) for mask in result.masks.values()])
    yield f"{name}: scores", digest([digest(scores) for scores in result.scores.values()])
    yield f"{name}: summary", digest(result.to_dict())
    yield f"{name}: overlay", digest(result.overlay(opacity=0.4, outline=False, legend=False))
    with tempfile.TemporaryDirectory(dir=".") as folder:
        result.save(folder, formats=FORMATS)
        yield from of_folder(name, Path(folder))


def segmentations() -> Iterator[tuple[str, str]]:
    """The embedded model in Python, with every option that changes a result."""
    import fgseg

    seg = fgseg.load(device="cpu")
    options: dict[str, dict[str, Any]] = {
        "default": {},
        "no background": {"background": []},
        "negatives": {"negatives": ["blue"], "threshold": 0.4, "min_area": 300},
        "auto threshold": {"threshold": "auto", "refine": "none"},
        "pamr": {"refine": "pamr", "resolution": "squash:112"},
        "independent": {"mode": "independent", "min_area": 50, "max_hole": 50},
        "independent auto": {"mode": "independent", "threshold": "auto", "resolution": "keep", "background": []},
    }
    for image_name, image in photographs().items():
        for option_name, chosen in options.items():
            result = seg.segment(image, PROMPTS, **chosen)
            yield from result_digests(f"segment, {image_name}, {option_name}", result)
    image = photographs()["coffee"]
    maps = seg.heatmaps(image, PROMPTS)
    yield "heatmaps", digest([digest(scores) for scores in maps.values()])
    yield "heatmaps: notebook", digest(maps._repr_png_())
    boxes = seg.score_boxes(image, [[80, 70, 480, 390], [0, 0, 33, 21]], ["red circle", "blue square"])
    yield "boxes", digest([digest(boxes.cosine), digest(boxes.probabilities)])
    for route in ("short", "long"):
        ranking = seg.rank([image, photographs()["rocket"]], ["a red circle", "a blue square on green"], route=route)
        yield f"rank, {route}", digest([digest(ranking.cosine), digest(ranking.probabilities)])


def golden_models() -> Iterator[tuple[str, str]]:
    """Every family of encoders on random weights: the raw outputs and what the wiring makes of them."""
    import torch

    from fgseg.encoders.loading import load_encoder

    image = photographs()["coffee"][:120, :200]
    for folder in sorted(GOLDEN.iterdir()):
        for recipe in ("value", "sclip", "naclip", "kk", "clearclip", "vanilla"):
            try:
                encoder = load_encoder(str(folder), device="cpu", dtype="float32", recipe=recipe)
            except ValueError:  # FG-CLIP 2 has one recipe
                continue
            (whole,) = encoder.encode_images([image], fit="keep")
            yield f"encoder, {folder.name}, {recipe}, dense", digest(whole.grid.numpy())
        yield f"encoder, {folder.name}, image", digest(encoder.embed_images([image]).numpy())
        if "fgclip2" not in folder.name:  # whose texts have no end token
            end = encoder.model.text_model.end_token
            ids = torch.tensor([[1, 5, 3, end], [1, 3, end, end]])
            features = encoder.model.text_features(ids, route="short")
            yield f"encoder, {folder.name}, text", digest(features.detach().numpy())


def large_image() -> Iterator[tuple[str, str]]:
    """A tiled TIFF, read by region."""
    import tifffile

    import fgseg

    image = np.tile(photographs()["coffee"], (3, 2, 1))
    tifffile.imwrite("large.tif", image, tile=(256, 256), compression="zlib")
    seg = fgseg.load(device="cpu")
    result = seg.segment_large("large.tif", PROMPTS, "large/labels.tif", reduction=2)
    written = result.save("large", formats=["labels", "overlay", "regions"])
    yield "large: files", digest(sorted(path.name for path in written))
    yield "large: labels", digest(tifffile.imread("large/labels.tif"))
    yield "large: summary", digest(result.to_dict())
    yield from ((key, value) for key, value in of_folder("large", Path("large")) if not key.endswith(".tif"))


def commands() -> Iterator[tuple[str, str]]:
    """The commands that look at images."""
    from fgseg.images import write_image

    for name, image in photographs().items():
        write_image(Path(f"photos/{name}.png"), image)
    words = [word for prompt in PROMPTS for word in ("-p", prompt)]
    printed = command("segment", "photos", *words, "-o", "segmented", "--json", "-q")
    yield "fgseg segment", digest(lines_of(printed))
    yield from of_folder("fgseg segment", Path("segmented"))
    yield "fgseg segment: table", digest(command("segment", "photos", *words, "-o", "again").encode())
    printed = command("heatmap", "photos", *words, "-o", "heat", "--json", "-q")
    yield "fgseg heatmap", digest(lines_of(printed))
    yield from ((key, value) for key, value in of_folder("fgseg heatmap", Path("heat")) if "run.json" not in key)
    printed = command("boxes", "photos/coffee.png", "-b", "80,70,480,390", "-p", "red circle", "-p", "blue", "--json")
    yield "fgseg boxes", digest(lines_of(printed))
    printed = command("rank", "photos", "-p", "a red circle", "-p", "a blue square", "--json", "-q")
    yield "fgseg rank", digest(lines_of(printed))


def measured(data: str | None) -> Iterator[tuple[str, str]]:
    """`fgseg bench` on procedural scenes, on a sweep and, where one is given, on a labelled folder."""
    runs: dict[str, tuple[str, ...]] = {
        "scenes": ("--scenes", "5"),
        "presence": ("--scenes", "3", "--decision", "presence", "--data", "scenes-colors"),
        "sweep": ("--sweep", "--scenes", "3", "--data", "scenes-shapes", "--threshold", "0.3,0.5",
                  "--refine", "none,guided", "--decision", "presence"),
    }  # fmt: skip
    if data:
        Path("labelled").symlink_to(Path(data).resolve())
        runs["labelled"] = ("--data", "labelled", "--limit", "12")
    for name, words in runs.items():
        printed = command("bench", *words, "-o", f"bench-{name}", "--json", "-q", "--device", "cpu")
        yield f"bench, {name}", digest(lines_of(printed))
        yield from of_folder(f"bench, {name}", Path(f"bench-{name}"))


def trained() -> Iterator[tuple[str, str]]:
    """Twenty training steps from random weights of the embedded model's sizes, and their losses."""
    from fgseg import load

    source = str(Path(sys.modules["fgseg"].__file__).parent / "assets" / "mini")
    words = ("--data", "scenes:24", "--steps", "20", "--batch-size", "4", "--warmup", "2", "--workers", "0")
    report = json.loads(command("train", "--model", source, *words, "--out", "tuned", "--dtype", "float32",
                                "--device", "cpu", "--learning-rate", "1e-4", "--json", "-q"))  # fmt: skip
    yield "train: report", digest({key: value for key, value in report.items() if key != "model"})
    yield "train: weights", digest(Path("tuned/model.safetensors").read_bytes())
    yield "train: labels", digest(load("tuned", dtype="float32").segment(photographs()["coffee"], PROMPTS).labels)


def served() -> Iterator[tuple[str, str]]:
    """What the endpoint answers."""
    import httpx

    server = subprocess.Popen(
        [sys.executable, "-m", "fgseg", "serve", "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert server.stdout is not None
        address = server.stdout.readline().decode().strip()
        fields = {"prompt": ["red", "brown, tan"], "box": ["80,70,480,390"], "mode": "independent", "negative": "blue"}
        files = {"image": ("coffee.png", Path("photos/coffee.png").read_bytes())}
        answer = httpx.post(f"{address}/api/segment", files=files, data=fields, timeout=60)
        yield "endpoint", digest(answer.json())
    finally:
        server.terminate()
        server.wait()


ROUTES: dict[str, Any] = {
    "segmentations": segmentations, "golden_models": golden_models, "large_image": large_image, "commands": commands,
    "measured": measured, "trained": trained, "served": served,
}  # fmt: skip
"""What is recorded, by name; `served` sends a picture that `commands` writes."""


def main() -> None:
    """Record, and compare where a record is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="JSON file to write")
    parser.add_argument("--against", type=Path, help="JSON file of an earlier record")
    parser.add_argument("--data", help="a labelled folder to measure as well")
    parser.add_argument("--only", nargs="+", metavar="ROUTE", help="some of: %(choices)s", choices=ROUTES)
    asked = parser.parse_args()
    record_path, earlier = asked.record.resolve(), asked.against and json.loads(asked.against.read_text())
    data = asked.data and str(Path(asked.data).resolve())
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FGSEG_CACHE"] = str(Path(folder) / "cache")
        os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
        os.chdir(folder)
        recorded: dict[str, str] = {}
        for name in asked.only or ROUTES:
            recorded.update(ROUTES[name](data) if name == "measured" else ROUTES[name]())
        os.chdir("/")
    record_path.write_text(json.dumps(recorded, indent=1) + "\n")
    print(f"{len(recorded)} outputs recorded")
    if earlier is not None:
        keys = recorded.keys() if asked.only else earlier.keys() | recorded.keys()
        different = [key for key in keys if earlier.get(key) != recorded.get(key)]
        print("\n".join(sorted(different)) or "all equal")
        sys.exit(bool(different))


if __name__ == "__main__":
    main()
