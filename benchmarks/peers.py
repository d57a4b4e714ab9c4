"""fgseg in comparison with alternatives, and its settings in comparison with each other: `python benchmarks/peers.py`.

Speed is measured on the same images, weights and settings in float32, as medians of interleaved rounds, against:

* the quick start of FG-CLIP's model card: plain transformers modules, texts padded to 77 tokens, a square image, and
  every text and image encoded again each time;
* a sliding loop that encodes one window at a time and stacks all score maps;
* transformers' CLIPSeg with random weights and one copy of the image per prompt, for speed alone.

Quality is that of the model with each recipe, resolution, refinement and presence threshold, one of which varies at a
time, on procedural scenes and on `--data`. The defaults are chosen by these figures.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import quantiles

import numpy as np
import torch
from plain import QuickStart
from random_model import make_model
from skimage import data as photographs
from transformers import CLIPSegConfig, CLIPSegForImageSegmentation

import fgseg
from fgseg.datasets.opening import open_dataset
from fgseg.datasets.scenes import SCENE_SETS
from fgseg.encoders.networks.clip import RECIPES
from fgseg.evaluation.provenance import model_provenance
from fgseg.evaluation.report import run_document
from fgseg.evaluation.requests import BenchmarkRequest, make_task, open_data
from fgseg.evaluation.runner import run_task
from fgseg.evaluation.tasks.class_texts import known_classes
from fgseg.evaluation.tasks.sweep import Grid
from fgseg.scoring.refine import REFINEMENTS
from fgseg.scoring.resolution import parse_resolution

PROMPTS = ("red", "green", "blue", "white", "black", "brown", "yellow", "orange")
PHOTOGRAPHS = ("coffee", "chelsea", "astronaut", "rocket")
CLIPSEG_SIDE = 352
FIRST_STUFF = 92  # lowest panoptic category id of stuff in COCO
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


# --- the peers


def window_by_window(theirs: QuickStart) -> Callable:
    """The sliding loop of research code with the window sizes of fgseg: labels (H, W) of an image among PROMPTS."""
    sizes = fgseg.Resolution("slide").resolved(theirs.side)
    how = {"short_side": sizes.short_side, "crop": sizes.crop, "stride": sizes.stride}
    return lambda image: theirs.window_by_window(image, theirs.texts(PROMPTS), **how)


def clipseg() -> Callable:
    """CLIPSeg of transformers at its own size; its weights are random, so that its labels are meaningless."""
    torch.manual_seed(0)
    model = CLIPSegForImageSegmentation(CLIPSegConfig()).eval()
    ids = torch.randint(0, 40_000, (len(PROMPTS), 8))

    @torch.inference_mode()
    def run(image: np.ndarray) -> np.ndarray:
        square = fgseg.images.resizing.resize_bicubic(image, (CLIPSEG_SIDE, CLIPSEG_SIDE))
        pixels = torch.from_numpy(square).permute(2, 0, 1).float()[None] / 255
        logits = model(input_ids=ids, pixel_values=pixels.expand(len(PROMPTS), -1, -1, -1)).logits
        return torch.nn.functional.interpolate(logits[None], image.shape[:2], mode="bilinear")[0].argmax(0).numpy()

    return run


RAW = {"min_area": 0, "max_hole": 0}  # the peers keep every pixel


def with_fgseg(seg: fgseg.Segmenter, resolution: str, *, texts: str) -> Callable:
    """The same task with fgseg: no background, template, refinement or joined specks, and no pixel without a prompt."""
    options = {"background": (), "templates": "none", "threshold": 0, "resolution": resolution, "refine": "none"}
    options |= RAW

    def run(image: np.ndarray) -> np.ndarray:
        own = fgseg.Segmenter(seg.encoder) if texts == "anew" else seg
        return own.segment(image, PROMPTS, **options).labels

    return run


# --- speed


def speed_rows(model: str, rounds: int) -> list[dict]:
    """Seconds per image of every candidate, and the share of its labels that equal those of fgseg."""
    images = [getattr(photographs, name)() for name in PHOTOGRAPHS]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for title, name in ((f"{model}", model), ("ViT-B/16, random weights", str(make_model(Path(folder), PROMPTS)))):
            seg = fgseg.load(name, device="cpu", dtype="float32")
            theirs = QuickStart(seg.encoder.checkpoint.folder)
            runs = {
                "fgseg, squash": with_fgseg(seg, "squash", texts="kept"),
                "fgseg, squash, texts re-encoded": with_fgseg(seg, "squash", texts="anew"),
                "quick start of the model card": lambda image, theirs=theirs: theirs.label_map(image, PROMPTS),
                "fgseg, slide": with_fgseg(seg, "slide", texts="kept"),
                "one window at a time": window_by_window(theirs),
            }
            if name != model:
                runs["CLIPSeg, random weights"] = clipseg()
            rows += [{"weights": title, **row} for row in timed(runs, images, rounds)]
    return rows


def timed(runs: dict[str, Callable], images: list[np.ndarray], rounds: int) -> list[dict]:
    """Median and quartiles of the seconds per image, after one turn each to warm up.

    Turns are interleaved in a random order for each image, because a candidate that follows one which returns much
    memory to the system has to allocate it again.
    """
    rng = np.random.default_rng(0)
    labels = {name: [run(image) for image in images] for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for image in images:
            for name in rng.permutation(list(runs)).tolist():
                started = time.perf_counter()
                runs[name](image)
                seconds[name].append(time.perf_counter() - started)
    rows = []
    for name, taken in seconds.items():
        low, middle, high = quantiles(taken, n=4, method="inclusive")
        like = "fgseg, squash" if name in ("quick start of the model card", "fgseg, squash, texts re-encoded") else None
        like = "fgseg, slide" if name == "one window at a time" else like
        same = (
            None
            if like is None
            else float(np.mean([(a == b).mean() for a, b in zip(labels[name], labels[like], strict=True)]))
        )
        rows.append({
            "who": name, "seconds": round(middle, 4), "quartiles": [round(low, 4), round(high, 4)],
            "times_fgseg": None if like is None else round(middle / float(np.median(seconds[like])), 2),
            "same_labels": None if same is None else round(same, 4),
        })  # fmt: skip
    return rows


# --- quality


def quality_rows(seg: fgseg.Segmenter, options: argparse.Namespace) -> Iterator[dict]:
    """One sweep for each factor and data set; the other settings are the model's defaults."""
    side = seg.encoder.side
    default = seg.defaults.threshold
    own = seg.defaults.resolution
    resolutions = ("squash", "keep", f"keep:{2 * side}", f"slide:{side}", f"slide:{2 * side}")

    def sizes_of(resolution: str) -> fgseg.Resolution:
        return parse_resolution(resolution).resolved(side)

    grids = {
        "recipe": Grid(recipes=RECIPES),
        "resolution": Grid(resolutions=("auto", *(r for r in resolutions if sizes_of(r) != sizes_of(own)))),
        "refine": Grid(refinements=REFINEMENTS),
        "threshold": Grid(thresholds=tuple(sorted({*THRESHOLDS, default}))),
    }
    for name, only in [(name, ("all",)) for name in SCENE_SETS] + [
        (folder, stuff(seg, folder) if options.only == ["stuff"] else tuple(options.only)) for folder in options.data
    ]:
        for factor, grid in grids.items():
            how = (("decision", "presence"),) if factor == "threshold" else ()
            request = BenchmarkRequest(
                data=(name,), only=only, settings=how, grid=grid, scenes=options.scenes, limit=options.limit
            )
            (data,) = open_data(request)
            if factor == "threshold" and not data.has_background:
                continue
            started = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                document = run_document(run_task(make_task(seg, data, request), Path(folder)))
            rows = [
                {"value": row[factor], **{key: row[key] for key in ("miou", "interval", "aacc")}}
                for row in document["sweep"]
            ]
            chosen = document["chosen"]
            found = {
                "data": document["data"]["name"], "images": document["n_images"], "failed": document["n_failed"],
                **{key: document["data"][key] for key in ("list_sha256", "labels_sha256", "classes_sha256")},
                "classes": len(document["data"]["classes"]), "names": [c[0] for c in document["data"]["classes"]],
                "settings": document["settings"], "factor": factor, "rows": rows, "chosen": chosen[factor],
                "default": default if factor == "threshold" else rows[own_row(seg, grid, factor)]["value"],
            }  # fmt: skip
            print(f"{found['data']}, {factor}: {chosen[factor]} ({time.perf_counter() - started:.0f} s)", flush=True)
            for row in rows:
                print(f"  {row['value']!s:20} mIoU {100 * row['miou']:5.1f}  aAcc {100 * row['aacc']:5.1f}", flush=True)
            yield found


def own_row(seg: fgseg.Segmenter, grid: Grid, factor: str) -> int:
    """Index of the row with the model's own value in a sweep over one factor."""
    values, own = {
        "recipe": (grid.recipes, seg.encoder.recipe),
        "resolution": (grid.resolutions, "auto"),
        "refine": (grid.refinements, seg.defaults.refine),
    }[factor]
    return values.index(own)


def stuff(seg: fgseg.Segmenter, folder: str) -> tuple[str, ...]:
    """The stuff classes that the model has words for, in a folder with COCO's panoptic ids."""
    listed = json.loads((Path(folder) / "dataset.json").read_text(encoding="utf-8"))["classes"]
    names = {entry["name"] for entry in listed if entry["id"] >= FIRST_STUFF}
    data = known_classes(seg, open_dataset(folder), seg.defaults.templates)
    return tuple(entry.name for entry in data.classes if entry.name in names)


def write(report: dict, path: Path) -> None:
    """Write the rows that are finished."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--rounds", type=int, default=5, help="number of rounds of timing")
    parser.add_argument("--scenes", type=int, default=60, help="number of scenes in each set")
    parser.add_argument("--data", action="append", default=[], help="a labelled folder; repeatable")
    parser.add_argument(
        "--only", action="append", help="a class to keep, or stuff; repeatable; default: the known classes"
    )
    parser.add_argument("--limit", type=int, help="number of images to measure of each folder")
    parser.add_argument("--parts", default="speed,quality")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "peers.json")
    options = parser.parse_args()
    options.only = options.only or ["known"]
    started = time.perf_counter()
    seg = fgseg.load(options.model)
    report = {"kind": "peers", "model": model_provenance(seg.encoder), "prompts": list(PROMPTS)}
    if options.out.exists():  # the other part of an earlier run is kept if it used this model
        earlier = json.loads(options.out.read_text(encoding="utf-8"))
        report = (earlier if earlier["model"] == report["model"] else {}) | report
    if "speed" in options.parts:
        report["speed"] = speed_rows(options.model, options.rounds)
        for row in report["speed"]:
            ratio = (
                ""
                if row["times_fgseg"] is None
                else f"{row['times_fgseg']:5.2f} x, same labels {row['same_labels']:.4f}"
            )
            print(f"{row['weights']:26} {row['who']:32} {row['seconds']:.4f} s  {ratio}", flush=True)
    if "quality" in options.parts:
        report["quality"] = []
        for row in quality_rows(seg, options):
            report["quality"].append(row)
            write(report, options.out)  # a row takes minutes
    report["timing"] = {"seconds": round(time.perf_counter() - started, 1), "threads": torch.get_num_threads()}
    write(report, options.out)
    print(f"wrote {options.out} in {report['timing']['seconds']} s")


if __name__ == "__main__":
    main()
