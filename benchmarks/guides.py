"""What guides of scores gain and cost: `python benchmarks/guides.py --data FOLDER --data FOLDER`.

The script labels the procedural scenes of `fgseg bench` and the labelled images of each folder in several ways: plain,
refined by the guided filter, with scores that flow between alike patches, pixels or both, and with superpixels that
vote. Classes that the model has no words for are left out. It writes the mIoU and the boundary IoU of each way, and
their difference from the plain way with its 95 % interval over resampled images, for published decisions (softmax and
argmax) and for those of `fgseg segment` (presence).

A ViT-B/16 with random weights, at 448 pixels in windows of 224 as LPOSS, is timed on pictures of 640x480 and 1920x1080
with ten words, each way in a process of its own. Times and memory are those after the image has been encoded.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from random_model import make_model
from specks import differences
from timing import in_fresh_process, machine, peak_bytes, processor_seconds, reset_peak, resident_bytes

import fgseg
from fgseg.evaluation.provenance import model_provenance
from fgseg.evaluation.requests import BenchmarkRequest, make_task, open_data
from fgseg.evaluation.statistics import figures, image_row, pixel_counts
from fgseg.evaluation.tasks.prediction import encode
from fgseg.evaluation.tasks.segmentation import SegmentationTask
from fgseg.images.resizing import resize_image

RESULTS = Path(__file__).parent / "results" / "guides.json"
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "guided filter": {"refine": "guided"},
    "patches": {"propagate": "patches"},
    "pixels": {"propagate": "pixels"},
    "both": {"propagate": "both"},
    "superpixels vote": {"region_map": "superpixels", "vote": True},
    "guided filter, superpixels vote": {"refine": "guided", "region_map": "superpixels", "vote": True},
    "guided filter, pixels": {"refine": "guided", "propagate": "pixels"},
}
MEASURED = ("miou", "boundary_iou")
WORDS = ("red", "orange", "yellow", "green", "blue", "purple", "brown", "black", "white", "grey")
SIZES = {"640x480": (480, 640), "1920x1080": (1080, 1920)}
RESOLUTION = "slide:448/224/112"


def on_labelled_images(task: SegmentationTask) -> dict[str, Any]:
    """The figures of each way, and their differences from the plain way with intervals."""
    count, dataset = len(task.dataset.classes), task.dataset
    ways = {name: replace(task.settings, **{"refine": "none", **how}) for name, how in WAYS.items()}
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in WAYS}
    for name in task.items:
        image, truth = task.read(name)
        view, prompted = encode(task.seg, image, task.settings), task.prompted(truth)
        for way, settings in ways.items():
            (found,) = task.labels(view, prompted, [settings])
            rows[way].append(
                image_row(found, truth, num_classes=count, ignore=dataset.ignore, name=name, prompted=prompted)
            )
    has_background = dataset.has_background
    counts = {way: pixel_counts(made, count, prompts="all", has_background=has_background)["model"]
              for way, made in rows.items()}  # fmt: skip
    return {
        "images": len(task.items), "classes": count, "decision": task.settings.decision,
        "ways": {way: _compared(counts["plain"], counts[way]) for way in WAYS},
    }  # fmt: skip


def _compared(plain: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """Each figure, and its difference from the plain way: value, low and high end of the 95 % interval."""
    before, after = figures(plain.sum(0)), figures(other.sum(0))
    found: dict[str, Any] = {}
    for figure in MEASURED:
        low, high = np.quantile(differences(plain, other, figure=figure), (0.025, 0.975)).tolist()
        gain = float(after[figure] - before[figure])
        found |= {figure: round(float(after[figure]), 4), f"{figure}_gain": [round(v, 4) for v in (gain, low, high)]}
    return found


def child(folder: str, size: str, way: str) -> dict[str, float]:
    """Seconds and memory of ten words on one encoded image, the first time and with the graph or regions kept."""
    seg = fgseg.load(folder, device="cpu", dtype="float32")
    image = resize_image(skimage.data.astronaut(), SIZES[size], antialias=True)
    options = {"refine": "none", "min_area": 0, "max_hole": 0, "threshold": 0, "background": (), **WAYS[way]}
    seg.prepare(WORDS, background=())
    other = seg.encode(image[:64, :64], resolution="squash")
    seg.segment(other, WORDS, **options)  # imports what is imported late
    view = seg.encode(image, resolution=RESOLUTION)
    reset_peak()
    before, found = resident_bytes(), {}
    for turn in ("first", "again"):
        started, processor = time.perf_counter(), processor_seconds()
        _ = seg.segment(view, WORDS, **options).labels
        found[f"{turn}_seconds"] = round(time.perf_counter() - started, 2)
        found[f"{turn}_processor_seconds"] = round(processor_seconds() - processor, 2)
    return {"encoding_seconds": round(view.seconds, 2), **found, "peak_mb": round((peak_bytes() - before) / 2**20)}


def costs() -> dict[str, Any]:
    """Each size and way, timed in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        model = str(make_model(Path(folder), WORDS))
        script = Path(__file__)
        return {
            size: {way: in_fresh_process(script, model, size, way) for way in WAYS if "," not in way} for size in SIZES
        }


def main() -> None:
    """Measure and write."""
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(child(*sys.argv[2:])))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", default=[], help="folder of labelled images; repeatable")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--scenes", type=int, default=60, help="number of scenes in each set")
    parser.add_argument("--limit", type=int, help="number of images of each folder")
    parser.add_argument("--parts", default="costs,figures")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    seg = fgseg.load(options.model)
    document = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    document |= {"kind": "guides", "model": model_provenance(seg.encoder), "machine": machine()}
    if "figures" in options.parts:
        requests = [BenchmarkRequest(data=(str(folder),), limit=options.limit) for folder in options.data]
        requests.append(BenchmarkRequest(scenes=options.scenes))
        document["figures"] = {}
        for decision in ("protocol", "presence"):
            for request in (replace(one, settings=(("decision", decision),)) for one in requests):
                for data in open_data(request):
                    found = on_labelled_images(make_task(seg, data, request))
                    document["figures"][f"{data.name}, {decision}"] = found
                    print(data.name, json.dumps(found, indent=1), flush=True)
                    options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if "costs" in options.parts:
        document["costs"] = {"resolution": RESOLUTION, "words": len(WORDS), "sizes": costs()}
        print(json.dumps(document["costs"], indent=1))
    options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
