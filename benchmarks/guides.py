"""What guides of scores gain and cost: `python benchmarks/guides.py --data FOLDER --data FOLDER`.

The script labels the procedural scenes of `fgseg bench` and the labelled images of each folder in several ways: plain,
refined by the guided filter, with scores that flow between alike patches, pixels or both, and with superpixels that
vote. Rows that begin with "self" have the guide "self": the recipes `proxy` and `corr`, alone and with the guided
filter, `corr` within superpixels, and patches that are compared by the guide. Classes that the model has no words for
are left out. It writes the mIoU and the boundary IoU of each way, and their differences from the plain way and from the
filter with 95 % intervals over resampled images. Labels are decided by presence, as `fgseg segment` decides; on data
without a background class also by the best class alone, as published evaluations do.

Each way without a guide is timed on pictures of 640x480 and 1920x1080 with nine words and one background word, in a
process of its own and without an encoder: the features are random ones of a ViT-B/16 at the sizes of LPOSS, a short
side of 448 pixels in windows of 224. The first time includes the graph or the regions of the image, which are kept for
other words. The part "memory" has the largest memory that the label map of 10 and of 171 words adds, in megabytes, at
1920x1080 and 3840x2160, beside what one score map of each of 171 words would take.
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
import torch
from specks import differences
from timing import in_fresh_process, load, machine, peak_bytes, processor_seconds, reset_peak, resident_bytes

import fgseg
from fgseg.evaluation.provenance import model_provenance
from fgseg.evaluation.requests import BenchmarkRequest, make_task, open_data
from fgseg.evaluation.statistics import figures, image_row, pixel_counts
from fgseg.evaluation.tasks.prediction import encode
from fgseg.evaluation.tasks.segmentation import SegmentationTask
from fgseg.evaluation.tasks.settings import SegmentationSettings
from fgseg.guides.loading import with_guide
from fgseg.images.resizing import resize_image
from fgseg.prompts.classes import make_prompt_set
from fgseg.scoring.presence import TIE
from fgseg.scoring.resolution import Resolution, short_side_hw
from fgseg.scoring.windows import window_boxes
from fgseg.segmentation.encoded_image import EncodedImage
from fgseg.segmentation.prompt_encoder import PromptTexts
from fgseg.segmentation.score_field import ScoreField, Sharpening
from fgseg.similarity import unit
from fgseg.types import DenseFeatures

RESULTS = Path(__file__).parent / "results" / "guides.json"
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "guided filter": {"refine": "guided"},
    "patches": {"propagate": "patches"},
    "pixels": {"propagate": "pixels"},
    "both": {"propagate": "both"},
    "superpixels vote": {"region_map": "superpixels", "vote": True},
}
GUIDED_WAYS: dict[str, tuple[str, dict[str, Any]]] = {  # the recipe with the guide "self", and the settings
    "self, proxy": ("proxy", {}),
    "self, proxy, guided filter": ("proxy", {"refine": "guided"}),
    "self, corr": ("corr", {}),
    "self, corr, guided filter": ("corr", {"refine": "guided"}),
    "self, corr in superpixels": ("corr", {"region_map": "superpixels"}),
    "self, patches": ("value", {"propagate": "patches"}),
}
MEASURED = ("miou", "boundary_iou")
OTHERS = ("plain", "guided filter")  # what each way is compared with: nothing, and the embedded model's default
WORDS = ("red", "orange", "yellow", "green", "blue", "purple", "brown", "black", "white", "grey")
SIZES = {"640x480": (480, 640), "1920x1080": (1080, 1920), "3840x2160": (2160, 3840)}
TIMED, OF_MEMORY = ("640x480", "1920x1080"), ("1920x1080", "3840x2160")
MANY_WORDS = 171  # of COCO-Stuff
WIDTH = 512


def on_labelled_images(task: SegmentationTask) -> dict[str, Any]:
    """The figures of each way, by data set and decision.

    Both decisions come from one pass over the scores: without a threshold the best class wins.
    """
    dataset, own = task.dataset, task.settings.threshold
    decisions = {"presence": own} if dataset.has_background else {"presence": own, "argmax": 0.0}
    ways = _ways(task)
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {(made, way): [] for made in decisions for way in ways}
    for name in task.items:
        image, truth = task.read(name)
        prompted = task.prompted(truth)
        views: dict[tuple[str | None, str | None, str], EncodedImage] = {}
        for way, (seg, settings) in ways.items():
            key = _encoding(seg, settings)
            if key not in views:
                views[key] = encode(seg, image, settings)
            variants = [replace(settings, threshold=threshold) for threshold in decisions.values()]
            for made, labels in zip(decisions, task.labels(views[key], prompted, variants), strict=True):
                rows[made, way].append(_counted(task, name, labels, truth))
    counts = {key: _per_image(task, of_way) for key, of_way in rows.items()}
    return {f"{dataset.name}, {made}": {way: _compared(counts, made, way) for way in ways} for made in decisions}


def _ways(task: SegmentationTask) -> dict[str, tuple[fgseg.Segmenter, SegmentationSettings]]:
    """The model and the settings of each way; all models have the same weights."""
    plain = replace(task.settings, refine="none")
    guided = {
        recipe: fgseg.Segmenter(with_guide(task.seg.encoder, "self", recipe=recipe))
        for recipe in ("value", "proxy", "corr")
    }
    return {
        **{way: (task.seg, replace(plain, **how)) for way, how in WAYS.items()},
        **{way: (guided[recipe], replace(plain, **how)) for way, (recipe, how) in GUIDED_WAYS.items()},
    }


def _encoding(seg: fgseg.Segmenter, settings: SegmentationSettings) -> tuple[str | None, str | None, str]:
    """What the features of an image depend on."""
    encoder = seg.encoder
    guide = None if encoder.guide is None else encoder.guide.name
    return encoder.recipe, guide, settings.region_map if encoder.recipe == "corr" else "none"


def _counted(task: SegmentationTask, name: str, labels: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    count, ignore, prompted = len(task.dataset.classes), task.dataset.ignore, task.prompted(truth)
    return image_row(labels, truth, num_classes=count, ignore=ignore, name=name, prompted=prompted)


def _per_image(task: SegmentationTask, rows: list[dict[str, Any]]) -> np.ndarray:
    count, has_background = len(task.dataset.classes), task.dataset.has_background
    return pixel_counts(rows, count, prompts="all", has_background=has_background)["model"]


def _compared(counts: dict[tuple[str, str], np.ndarray], made: str, way: str) -> dict[str, Any]:
    """Each figure of a way, and its differences from others: value, low and high end of the 95 % interval."""
    found: dict[str, Any] = {}
    for figure in MEASURED:
        value = float(figures(counts[made, way].sum(0))[figure])
        found[figure] = round(value, 4)
        for other in OTHERS:
            gain = value - float(figures(counts[made, other].sum(0))[figure])
            low, high = np.quantile(
                differences(counts[made, other], counts[made, way], figure=figure), (0.025, 0.975)
            ).tolist()
            found[f"{figure} minus {other}"] = [round(number, 4) for number in (gain, low, high)]
    return found


def random_view(image_hw: tuple[int, int]) -> EncodedImage:
    """A photograph of some size, and random features of a ViT-B/16 in windows of 224 at 448 on the short side."""
    canvas_hw = short_side_hw(image_hw, 448)
    boxes = window_boxes(canvas_hw, crop=224, stride=112)
    features = unit(torch.randn(len(boxes), 14, 14, WIDTH, generator=torch.Generator().manual_seed(0)))
    windows = tuple(DenseFeatures(grid, (224, 224)) for grid in features)
    image = resize_image(skimage.data.astronaut(), image_hw, antialias=True)
    return EncodedImage(image, windows, boxes, canvas_hw, Resolution("slide", 448, 224, 112), "random")


def child(size: str, way: str, words: str, *turns: str) -> dict[str, float]:
    """Seconds and memory of the labels of one image, the first time and then "again" with its graph or regions kept."""
    count = int(words)
    texts = PromptTexts(unit(torch.randn(count, WIDTH)), tuple(range(count)), ("{}",))
    names = [f"word {index}" for index in range(count)]
    prompt_set = make_prompt_set(names[:-1], background=names[-1:])
    warm_up, view = random_view((64, 64)), random_view(SIZES[size])

    def labels(of: EncodedImage) -> None:
        ScoreField(of, texts, prompt_set, logit_scale=40.0, sharpening=Sharpening(**WAYS[way])).exclusive(TIE)

    labels(warm_up)  # imports what is imported late
    reset_peak()
    before, found = resident_bytes(), {}
    for turn in turns:
        started, processor = time.perf_counter(), processor_seconds()
        labels(view)
        found[f"{turn}_seconds"] = round(time.perf_counter() - started, 2)
        found[f"{turn}_processor_seconds"] = round(processor_seconds() - processor, 2)
    return {**found, "peak_mb": round((peak_bytes() - before) / 2**20)}


def costs() -> dict[str, Any]:
    """Each size and way, timed in a fresh process."""
    rows = {
        f"costs, {size}": {way: _measured(size, way, len(WORDS), "first", "again") for way in WAYS} for size in TIMED
    }
    return {"load": load(), "threads": torch.get_num_threads(), **rows}


def _measured(size: str, way: str, words: int, *turns: str) -> dict[str, Any]:
    return in_fresh_process(Path(__file__), size, way, str(words), *turns)


def memory() -> dict[str, Any]:
    """The memory of label maps of few and of many words, each measured in a fresh process."""
    rows: dict[str, Any] = {}
    for size in OF_MEMORY:
        height, width = SIZES[size]
        stack = {
            "one score map for each of 171 words": {"peak_mb_171_words": round(MANY_WORDS * height * width / 2**18)}
        }
        rows[f"memory, {size}"] = stack | {way: _peaks(size, way) for way in WAYS}
    return rows


def _peaks(size: str, way: str) -> dict[str, float]:
    counts = (len(WORDS), MANY_WORDS)
    return {f"peak_mb_{count}_words": _measured(size, way, count, "first")["peak_mb"] for count in counts}


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
    parser.add_argument("--parts", default="costs,memory,figures", help="what to measure")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    seg = fgseg.load(options.model)
    document = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    document |= {"kind": "guides", "model": model_provenance(seg.encoder), "machine": machine()}
    if "figures" in options.parts:
        requests = [BenchmarkRequest(data=(str(folder),), limit=options.limit) for folder in options.data]
        requests.append(BenchmarkRequest(scenes=options.scenes))
        document["sets"] = {}
        for request in (replace(one, settings=(("decision", "presence"),)) for one in requests):
            for data in open_data(request):
                task = make_task(seg, data, request)
                document["sets"][data.name] = {
                    "images": len(task.items), "classes": len(task.dataset.classes),
                    "threshold": task.settings.threshold,
                }  # fmt: skip
                document |= on_labelled_images(task)
                print(data.name, "measured", flush=True)
                options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if "costs" in options.parts:
        document |= costs()
    if "memory" in options.parts:
        document |= memory()
    options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
