"""What joining specks costs and gains: `python benchmarks/specks.py --data FOLDER --data FOLDER`.

The script labels the procedural scenes of `fgseg bench` and the labelled images of each folder twice, as
`fgseg segment` decides: with every speck kept, and with specks joined. It writes the mIoU of both, and their difference
with its 95 % interval over resampled images. Both label maps come from the same scores. Classes that the model has no
words for are left out. On ten photographs of scikit-image it counts regions, unlabelled gaps and changed pixels;
page.png and hubble_deep_field.jpg have a row each, because their letters and galaxies are as small as specks.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
from numpy.typing import NDArray
from scipy.ndimage import label

import fgseg
from fgseg.evaluation.requests import BenchmarkRequest, make_task, open_data
from fgseg.evaluation.statistics import RESAMPLES, SEED, figures, image_row, pixel_counts
from fgseg.evaluation.tasks.prediction import encode
from fgseg.evaluation.tasks.segmentation import SegmentationTask
from fgseg.regions.specks import join_gaps, join_parts
from fgseg.types import UNLABELLED

RESULTS = Path(__file__).parent / "results" / "specks.json"
PHOTOGRAPHS = (
    "astronaut.png", "camera.png", "chelsea.png", "coffee.png", "hubble_deep_field.jpg", "ihc.png",
    "motorcycle_left.png", "page.png", "retina.jpg", "rocket.jpg",
)  # fmt: skip
PROMPTS = ("red", "orange", "yellow", "green", "blue", "purple", "brown", "black", "white")
SMALL_THINGS = {"page.png": ["black"], "hubble_deep_field.jpg": ["white", "orange", "blue"]}


def on_labelled_images(task: SegmentationTask) -> dict[str, Any]:
    """The mIoU with specks kept and joined, and the difference with its interval."""
    ways = [replace(task.settings, specks=specks) for specks in ("keep", "join")]
    count, dataset = len(task.dataset.classes), task.dataset
    rows: list[list[dict[str, Any]]] = [[], []]
    changed = pixels = 0
    for name in task.items:
        image, truth = task.read(name)
        prompted = task.prompted(truth)
        labels = list(task.labels(encode(task.seg, image, task.settings), prompted, ways))
        changed, pixels = changed + int((labels[0] != labels[1]).sum()), pixels + truth.size
        for made, found in zip(rows, labels, strict=True):
            row = image_row(found, truth, num_classes=count, ignore=dataset.ignore, name=name, prompted=prompted)
            made.append(row)
    background = dataset.has_background
    counts = [pixel_counts(made, count, prompts="all", has_background=background)["model"] for made in rows]
    kept, joined = (float(figures(each.sum(0))["miou"]) for each in counts)
    low, high = np.quantile(differences(*counts), (0.025, 0.975)).tolist()
    return {
        "images": len(task.items), "classes": count, "miou_kept": kept, "miou_joined": joined,
        "difference": joined - kept, "low": low, "high": high, "changed_share": changed / pixels,
    }  # fmt: skip


def differences(kept: NDArray[np.int64], joined: NDArray[np.int64], *, figure: str = "miou") -> NDArray[np.float64]:
    """A figure joined minus that kept over resampled images, the same images for both."""
    count = len(kept)
    draws = np.random.default_rng(SEED).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    sums = (np.tensordot(draws, counts, axes=1) for counts in (kept, joined))
    before, after = (figures(total)[figure] for total in sums)
    return np.asarray(after - before)


def on_photograph(seg: fgseg.Segmenter, name: str, prompts: Sequence[str]) -> dict[str, Any]:
    """Regions and gaps with specks kept and joined, and what joining takes."""
    view = seg.encode(Path(skimage.data.__file__).with_name(name))
    kept = seg.segment(view, prompts, min_area=0, max_hole=0)
    joined = seg.segment(view, prompts)
    quarter = joined.settings["quarter_patch"]
    started = time.perf_counter()
    join_gaps(join_parts(kept.labels, min_area=quarter), max_area=quarter - 1)
    seconds = time.perf_counter() - started
    return {
        "regions_kept": len(kept.regions), "regions_joined": len(joined.regions),
        "gaps_kept": gaps(kept.labels), "gaps_joined": gaps(joined.labels),
        "changed_pixels": joined.settings["changed_pixels"], "pixels": kept.labels.size,
        "changed_share": joined.settings["changed_pixels"] / kept.labels.size,
        "quarter_patch": quarter, "milliseconds": round(1000 * seconds, 1),
        "share_of_time": round(seconds / (kept.settings["encoding_seconds"] + joined.settings["seconds"]), 3),
    }  # fmt: skip


def gaps(labels: NDArray[np.int32]) -> int:
    """The number of 4-connected sets of unlabelled pixels."""
    return int(label(labels == UNLABELLED)[1])


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", default=[], help="folder of labelled images; repeatable")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    seg = fgseg.load(options.model)
    requests = [BenchmarkRequest(), *(BenchmarkRequest(data=(str(folder),)) for folder in options.data)]
    sets = {}
    for request in (replace(one, settings=(("decision", "presence"),)) for one in requests):
        for data in open_data(request):
            sets[data.name] = on_labelled_images(make_task(seg, data, request))
            print(data.name, sets[data.name], flush=True)
    photographs = {name: on_photograph(seg, name, PROMPTS) for name in PHOTOGRAPHS}
    totals = {key: sum(row[key] for row in photographs.values()) for key in (
        "regions_kept", "regions_joined", "gaps_kept", "gaps_joined", "changed_pixels", "pixels"
    )}  # fmt: skip
    document = {
        "model": options.model, "weights_sha256": seg.encoder.digest(), "labelled_images": sets,
        "photographs": photographs,
        "photographs_together": totals | {"changed_share": totals["changed_pixels"] / totals["pixels"]},
        "small_things": {name: on_photograph(seg, name, words) for name, words in SMALL_THINGS.items()},
        "prompts": list(PROMPTS), "versions": {"fgseg": fgseg.__version__},
    }  # fmt: skip
    options.out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(document["photographs_together"]), json.dumps(document["small_things"], indent=1))


if __name__ == "__main__":
    main()
