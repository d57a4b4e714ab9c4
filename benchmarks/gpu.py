"""Correctness and speed on a GPU: `python benchmarks/gpu.py`. Without a GPU the script fails.

The script prints the following figures and writes them to results/gpu.json:

* whether patch_scores and label_map equal those of the CPU, and how far bfloat16 is from float32;
* images per second at batch sizes 1, 8 and 64 for models of the sizes of fg-clip-base and -large, by `Segmenter` from
  the image in memory to the labels, in comparison with the encoder alone and with the rate of a matrix product;
* the time of label maps of 171 and 847 classes at 1080p and 4K, in comparison with the time to write them.
"""

import argparse
import datetime
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from random_model import SIZES, make_model
from scenes import FIRST_SEED
from speed import CLASS_NAMES, KINDS, photo, vision_operations
from timing import machine, spread

import fgseg
from fgseg.scenes.composition import scene
from fgseg.scenes.vocabulary import CLUTTER
from fgseg.similarity import patch_scores
from fgseg.upsample.argmax import compare_blocks
from fgseg.upsample.labels import label_map

BATCHES = (1, 8, 64)
SCREENS = {"1080p": (1080, 1920), "4K": (2160, 3840)}
DTYPES = ("bfloat16", "float32")
TOLERANCE, LABELS_EQUAL = 1e-5, 0.9999  # for float32 on two devices


def timed(run: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Seconds of a call including the wait for the device: median and quartiles after a warm-up."""
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return spread(times)


def matmul_rate(dtype: torch.dtype) -> float:
    """Operations per second of a large matrix product."""
    side = 8192
    a, b = (torch.randn(side, side, device="cuda", dtype=dtype) for _ in range(2))
    return 2 * side**3 / timed(lambda: a @ b, 10)["median"]


def copy_rate() -> float:
    """Bytes per second of a copy within the memory of the device; reads and writes both count."""
    source = torch.ones(2**28, device="cuda")
    target = torch.empty_like(source)
    return 2 * source.nbytes / timed(lambda: target.copy_(source), 10)["median"]


def equality() -> dict[str, Any]:
    """Largest differences from the results of the CPU."""
    generator = torch.Generator().manual_seed(0)
    grid = torch.nn.functional.normalize(torch.randn(32, 48, 512, generator=generator), dim=-1)
    text = torch.nn.functional.normalize(torch.randn(171, 512, generator=generator), dim=-1)
    scores, on_device = patch_scores(grid, text), patch_scores(grid.cuda(), text.cuda()).cpu()
    result: dict[str, Any] = {"patch_scores": float((scores - on_device).abs().max())}
    for kind, make in KINDS.items():
        made = make(171)
        (labels, best), (labels_there, best_there) = label_map(made, (1080, 1920)), label_map(made.cuda(), (1080, 1920))
        result[f"label_map_{kind}"] = {
            "best": float((best - best_there.cpu()).abs().max()),
            "labels_equal": float((labels == labels_there.cpu()).float().mean()),
        }
    maps = [value for name, value in result.items() if name.startswith("label_map")]
    largest = max([result["patch_scores"], *(value["best"] for value in maps)])
    holds = largest <= TOLERANCE and min(value["labels_equal"] for value in maps) >= LABELS_EQUAL
    return {**result, "target": f"<= {TOLERANCE}, >= {LABELS_EQUAL} of labels", "verdict": "pass" if holds else "short"}


def masks(count: int) -> dict[str, Any]:
    """Share of equal pixels between labels on the device and on the CPU, by the embedded model on scenes."""
    segmenters = {device: fgseg.load("mini", device=device, dtype="float32") for device in ("cpu", "cuda")}
    segmenters["cuda_bfloat16"] = fgseg.load("mini", device="cuda", dtype="bfloat16")
    equal: dict[str, list[float]] = {"cuda": [], "cuda_bfloat16": []}
    for seed in range(count):
        drawn = scene(FIRST_SEED + seed, (224, 224))
        prompts = [thing.phrase.text for thing in drawn.things if thing.shape != CLUTTER]
        labels = {
            name: seg.segment(drawn.image, prompts, min_area=0, max_hole=0).labels for name, seg in segmenters.items()
        }
        for name, shares in equal.items():
            shares.append(float((labels[name] == labels["cpu"]).mean()))
    digest = segmenters["cpu"].encoder.digest()
    return {
        "weights_sha256": digest,
        "scenes": count,
        **{f"labels_equal_{name}": float(np.mean(shares)) for name, shares in equal.items()},
    }


def throughput(folder: Path, size: str, repeats: int) -> list[dict[str, Any]]:
    """Images per second of one model with squash and 20 prompts, from image to labels, and of the encoder alone."""
    side = SIZES[size].side
    pictures = [photo(side, side, seed) for seed in range(8)]
    rows = []
    for dtype in DTYPES:
        seg = fgseg.load(str(folder), device="cuda", dtype=dtype)
        text, rate = seg.encoder.encode_texts(CLASS_NAMES[:20]), matmul_rate(seg.encoder.dtype)
        for batch in BATCHES:
            images = [pictures[index % len(pictures)] for index in range(batch)]
            pixels = torch.randn(batch, 3, side, side, device="cuda", dtype=seg.encoder.dtype)

            def whole(seg: fgseg.Segmenter = seg, images: list[np.ndarray] = images, text: torch.Tensor = text) -> None:
                for features in seg.encoder.encode_images(images):
                    labels, _ = label_map(patch_scores(features, text), (side, side))
                    labels.to(torch.uint8).cpu()

            def alone(seg: fgseg.Segmenter = seg, pixels: torch.Tensor = pixels) -> None:
                with torch.inference_mode():
                    seg.encoder.model.dense_features(pixels)

            def features_alone(seg: fgseg.Segmenter = seg, images: list[np.ndarray] = images) -> None:
                seg.encoder.encode_images(images)

            total, encoder = timed(whole, repeats), timed(alone, repeats)
            to_features = timed(features_alone, repeats)
            bound = vision_operations(seg.encoder, batch) / rate
            rows.append({
                "model": size, "dtype": dtype, "batch": batch,
                "images_a_second": round(batch / total["median"], 1),
                "encoder_images_a_second": round(batch / encoder["median"], 1),
                "times_the_encoder": round(total["median"] / encoder["median"], 3),
                "to_features_times_the_encoder": round(to_features["median"] / encoder["median"], 3),
                "encoder_times_the_limit": round(encoder["median"] / bound, 2),
                "quartiles": [total["q1"], total["q3"]],
            })  # fmt: skip
    return rows


def bfloat16_distance(folder: Path, size: str) -> float:
    """The largest cosine distance between bfloat16 and float32 features of a photograph."""
    picture = photo(SIZES[size].side, SIZES[size].side, 0)
    grids = [
        fgseg.load(str(folder), device="cuda", dtype=dtype).encoder.encode_images([picture])[0].grid for dtype in DTYPES
    ]
    return float((1 - (grids[0] * grids[1]).sum(-1)).max())


def label_maps(repeats: int) -> list[dict[str, Any]]:
    """Seconds of label maps on the device, by `label_map` and by blocks as on a CPU, and the limit of writing them."""
    rate, rows = copy_rate(), []
    for screen, size in SCREENS.items():
        for classes in (171, 847):
            for kind, make in KINDS.items():
                scores = make(classes).cuda()
                seconds = timed(lambda scores=scores, size=size: label_map(scores, size), repeats)
                blocks = timed(lambda scores=scores, size=size: compare_blocks(scores, size), repeats)
                bound = (8 * size[0] * size[1] + scores.nbytes) / rate
                rows.append({
                    "screen": screen, "classes": classes, "scores": kind, "seconds": seconds["median"],
                    "quartiles": [seconds["q1"], seconds["q3"]], "times_the_limit": round(seconds["median"] / bound, 1),
                    "by_blocks_seconds": blocks["median"],
                })  # fmt: skip
    return rows


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "gpu.json")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.exit(1, "gpu.py: expected a CUDA device, found none; benchmarks/speed.py measures the processor\n")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name(),
        "memory_gb": round(torch.cuda.get_device_properties(0).total_memory / 1e9, 1),
        "host": machine(),
        "versions": {"fgseg": fgseg.__version__, "torch": torch.__version__, "cuda": torch.version.cuda},
        "equality": equality(),
        "masks": masks(20),
        "label_map": label_maps(options.repeats),
        "throughput": [],
        "bfloat16_largest_cosine_distance": {},
    }
    with tempfile.TemporaryDirectory(prefix="fgseg-gpu-") as temporary:
        for size in SIZES:
            words = {word for name in CLASS_NAMES for word in name.split()}
            folder = make_model(Path(temporary) / size, words, size=size)
            report["throughput"] += throughput(folder, size, options.repeats)
            report["bfloat16_largest_cosine_distance"][size] = bfloat16_distance(folder, size)
            options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
