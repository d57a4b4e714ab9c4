"""The time of fgseg in comparison with straightforward implementations: `python benchmarks/speed.py`.

Candidates take turns, so that a busy machine affects all of them; a ratio is the median over turns. The model has the
size of fg-clip-base and random weights, and is made in a temporary folder. The baselines are in `plain.py`: the quick
start of the model card (full vision tower, then its last block again, float32, captions padded to 77), one class at a
time over templates, one window at a time, and all maps upsampled before the argmax. Each figure is compared with its
physical limit: operations over the rate of a matrix product, or bytes over that of a copy, measured in the same run.

Rows can be run alone (`--rows label_map,texts`); each row is written to results/speed.json when it is finished.
"""

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import count, product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from plain import QuickStart, upsample_all_then_argmax
from random_model import make_model
from timing import (
    Steps,
    copy_rate,
    in_fresh_process,
    load,
    machine,
    matmul_rate,
    merge,
    peak_bytes,
    ratio,
    reset_peak,
    resident_bytes,
    spread,
    summary,
    take_turns,
)

import fgseg
from fgseg.commands.prefetch import Prefetcher
from fgseg.images.resizing import resize_image
from fgseg.images.writing import write_image
from fgseg.prompts.word_lists import IMAGENET_TEMPLATES
from fgseg.scenes.composition import scene
from fgseg.scoring.resolution import short_side_hw
from fgseg.scoring.windows import crops, window_boxes
from fgseg.similarity import patch_scores
from fgseg.upsample.argmax import compare_blocks, compare_stacks
from fgseg.upsample.labels import label_map

SEED = 731
RESULTS = Path(__file__).parent / "results" / "speed.json"
LVIS_CLASSES = 1203
SAMPLE_OURS, SAMPLE_PLAIN = 12, 1  # classes per turn; the baseline takes a second per class
NOUNS = (
    "chair table lamp door window wall floor carpet shelf desk bed sofa cup plate bowl fork knife spoon bottle glass "
    "tree grass road river hill beach cloud fence bridge house tower boat train truck bicycle horse dog cat bird fish"
).split()
ADJECTIVES = (
    "red green blue yellow black white brown grey old new small large round square wooden metal plastic paper broken "
    "clean dirty wet dry open closed tall short thin thick bright dark"
).split()
CLASS_NAMES = [f"{adjective} {noun}" for adjective, noun in product(ADJECTIVES, NOUNS)][:LVIS_CLASSES]


@dataclass
class Setup:
    """The common input of the rows: a model folder, settings, and the rates of this machine, measured on first use."""

    folder: Path
    repeats: int
    seconds: float

    def segmenter(self, dtype: str) -> fgseg.Segmenter:
        """A new Segmenter with the random model."""
        return fgseg.load(str(self.folder / "base"), device="cpu", dtype=dtype)

    @cached_property
    def dtypes(self) -> tuple[str, ...]:
        """The default dtype and float32."""
        chosen = str(fgseg.load(str(self.folder / "base"), device="cpu").encoder.dtype).removeprefix("torch.")
        return tuple(dict.fromkeys((chosen, "float32")))

    @cached_property
    def plain(self) -> QuickStart:
        """The baseline."""
        return QuickStart(self.folder / "base")

    @cached_property
    def rates(self) -> dict[str, float]:
        """Operations per second in each dtype, and bytes per second of a copy."""
        return {dtype: matmul_rate(dtype) for dtype in ("float32", "bfloat16")} | {"copy": copy_rate()}

    def turns(self, candidates: dict[str, Callable[[], Any]]) -> dict[str, dict[str, list[float]]]:
        """`take_turns` with the settings of this run."""
        return take_turns(candidates, repeats=self.repeats, seconds=self.seconds)


def photo(height: int, width: int, seed: int = SEED) -> np.ndarray:
    """A procedural picture with the grain of a photograph, so that its file is as large as that of a photograph."""
    drawn = scene(seed, (height, width)).image.astype(np.float32)
    grain = np.random.RandomState(seed).normal(0, 4, drawn.shape)
    return np.clip(drawn + grain, 0, 255).astype(np.uint8)


def vision_operations(encoder: Any, windows: int) -> float:
    """Operations in the products of the vision tower for windows of the native size with the `value` recipe."""
    config = encoder.model.config
    width, layers, patches = config.vision.width, config.vision.layers, (config.side // config.patch) ** 2
    tokens = patches + 1
    block = 24 * width**2 + 4 * tokens * width
    ends = 2 * 3 * config.patch**2 * width + 2 * width * config.width
    return windows * (tokens * block * (layers - 1) + patches * (20 * width**2 + ends))


def text_operations(encoder: Any, texts: list[str]) -> float:
    """Operations in the products of the text tower for texts of their own length; shared prefixes count once."""
    tower, rows = encoder.model.config.text, encoder.tokenizer.encode(texts)
    prefixes = {tuple(row[: end + 1]) for row in rows for end in range(len(row))}
    depths = np.array([len(prefix) for prefix in prefixes], np.float64)
    return float((24 * tower.width**2 + 4 * depths * tower.width).sum() * tower.layers)


def limit(what: str, seconds: float, measured: float) -> dict[str, Any]:
    """The physical limit of a measured time, and the ratio of the two."""
    return {
        "limit": what,
        "limit_seconds": float(f"{seconds:.4g}"),
        "times_the_limit": float(f"{measured / seconds:.3g}"),
    }


def verdict(value: float, target: float, *, at_most: bool = False) -> str:
    """Whether a figure meets its target."""
    return "pass" if (value <= target if at_most else value >= target) else "short"


def median(times: dict[str, dict[str, list[float]]], name: str) -> float:
    """Median wall seconds of a candidate."""
    return spread(times[name]["wall"])["median"]


# --- rows


def row_photo(setup: Setup) -> dict[str, Any]:
    """One photo of 640x480 in memory to the heatmap of one prompt with squash; the prompt is new each time."""
    image, names = photo(480, 640), iter(f"{name} {number}" for number in count() for name in CLASS_NAMES)
    segs = {dtype: setup.segmenter(dtype) for dtype in setup.dtypes}
    options: dict[str, Any] = {"templates": "none", "resolution": "squash"}

    def ours(dtype: str, prompt: str) -> np.ndarray:
        return segs[dtype].heatmaps(image, [prompt], **options)[prompt]

    candidates: dict[str, Callable[[], Any]] = {"quick_start": lambda: setup.plain.heatmap(image, next(names))}
    for dtype in setup.dtypes:
        candidates[dtype] = lambda dtype=dtype: ours(dtype, next(names))
        candidates[f"{dtype}_known_prompt"] = lambda dtype=dtype: ours(dtype, CLASS_NAMES[0])
    times = setup.turns(candidates)
    features = segs["float32"].encode(image, resolution="squash").windows[0].grid
    difference = float((setup.plain.dense(_pil(image)) - features).abs().max())
    targets = {"bfloat16": 4.0, "float32": 1.2}
    figures = {
        dtype: {
            "times_faster": ratio(times, "quick_start", dtype),
            "with_known_prompt": ratio(times, "quick_start", f"{dtype}_known_prompt"),
            "target": f">= {targets[dtype]}",
            "verdict": verdict(ratio(times, "quick_start", dtype)["median"], targets[dtype]),
            **limit(
                "products of the vision tower",
                vision_operations(segs[dtype].encoder, 1) / setup.rates[dtype],
                median(times, dtype),
            ),
        }
        for dtype in setup.dtypes
    }
    return {"figures": figures, "seconds": summary(times), "largest_difference_of_features_in_float32": difference}


def row_texts(setup: Setup) -> dict[str, Any]:
    """Samples of 1,203 class names x 80 templates and the disk cache, against one class at a time padded to 77."""
    segs = {dtype: setup.segmenter(dtype) for dtype in setup.dtypes}
    templates = [template for template in IMAGENET_TEMPLATES]
    fresh = iter(CLASS_NAMES * 1000)

    def sample() -> list[str]:
        return [template.format(next(fresh)) for _ in range(SAMPLE_OURS) for template in templates]

    candidates: dict[str, Callable[[], Any]] = {
        "class_by_class": lambda: setup.plain.class_by_class([next(fresh) for _ in range(SAMPLE_PLAIN)], templates)
    }
    for dtype in setup.dtypes:
        candidates[dtype] = lambda dtype=dtype: segs[dtype].encoder.encode_texts(sample())
    chosen = setup.dtypes[0]
    known = CLASS_NAMES[: 10 * SAMPLE_OURS]
    first = segs[chosen]
    first.prepare(known, templates="imagenet", background=())
    # A new Segmenter has no texts in memory. The encoder is reused, since loading it is not part of the measured time.
    candidates["disk_cache"] = lambda: fgseg.Segmenter(first.encoder).prepare(
        known, templates="imagenet", background=()
    )
    times = setup.turns(candidates)
    scale = SAMPLE_OURS / SAMPLE_PLAIN
    texts = [template.format(name) for name in CLASS_NAMES[:SAMPLE_OURS] for template in templates]
    figures: dict[str, Any] = {}
    for dtype in setup.dtypes:
        faster = ratio(times, "class_by_class", dtype, scale=scale)
        bound = text_operations(segs[dtype].encoder, texts) / setup.rates[dtype]
        figures[dtype] = {"times_faster": faster, **limit("products of the tower", bound, median(times, dtype))}
    figures[chosen] |= {"target": ">= 8", "verdict": verdict(figures[chosen]["times_faster"]["median"], 8)}
    cached = ratio(times, "class_by_class", "disk_cache", scale=len(known) / SAMPLE_PLAIN)
    stored = len(known) * 4 * first.encoder.model.config.width
    figures["disk_cache"] = {
        "times_faster": cached, "target": ">= 500", "verdict": verdict(cached["median"], 500),
        **limit("copy of the features", 2 * stored / setup.rates["copy"], median(times, "disk_cache")),
    }  # fmt: skip
    return {
        "figures": figures,
        "seconds": summary(times),
        "sample": {
            "classes_ours": SAMPLE_OURS,
            "classes_plain": SAMPLE_PLAIN,
            "classes_cached": len(known),
            "templates": 80,
        },
    }


def piecewise_scores(classes: int, grid_hw: tuple[int, int] = (32, 48), areas: int = 12) -> torch.Tensor:
    """Scores like those of a scene: areas with one winner each, other classes at their own levels, and patch noise."""
    rng = np.random.RandomState(SEED)
    rows, columns = grid_hw
    centres = rng.uniform(0, 1, (areas, 2)) * grid_hw
    where = np.stack(np.mgrid[:rows, :columns], -1).reshape(-1, 1, 2)
    area = np.linalg.norm(where - centres, axis=-1).argmin(1).reshape(grid_hw)
    levels = rng.normal(0.15, 0.03, (areas, classes))
    levels[np.arange(areas), rng.choice(classes, areas, replace=classes < areas)] = 0.3
    return torch.from_numpy(
        (levels[area].transpose(2, 0, 1) + rng.normal(0, 0.01, (classes, *grid_hw))).astype(np.float32)
    )


def noise_scores(classes: int, grid_hw: tuple[int, int] = (32, 48)) -> torch.Tensor:
    """Scores without structure, which are the worst case."""
    return torch.from_numpy(np.random.RandomState(SEED).uniform(-1, 1, (classes, *grid_hw)).astype(np.float32))


KINDS = {"piecewise": piecewise_scores, "noise": noise_scores}


def row_label_map(setup: Setup) -> dict[str, Any]:
    """Label map of 171 classes from a 32x48 grid to 1080x1920, against upsampling all maps before the argmax."""
    size, figures, seconds = (1080, 1920), {}, {}
    for kind, make in KINDS.items():
        scores = make(171)
        times = take_turns(
            {"ours": lambda s=scores: label_map(s, size), "plain": lambda s=scores: upsample_all_then_argmax(s, size)},
            repeats=max(setup.repeats // 2, 2),
            seconds=setup.seconds,
        )
        labels, plain = label_map(scores, size)[0], upsample_all_then_argmax(scores, size)[0]
        held = in_fresh_process(Path(__file__), "memory", kind, "171", "1080", "1920")
        maps = held["extra_bytes"] / (4 * size[0] * size[1])
        moved = 8 * size[0] * size[1] + scores.nbytes
        figures[kind] = {
            "times_faster": ratio(times, "plain", "ours"),
            "extra_memory_in_label_maps": round(maps, 2),
            "labels_equal": float((labels == plain).float().mean()),
            **limit("labels and scores written, grid read", moved / setup.rates["copy"], median(times, "ours")),
        }
        seconds[kind] = summary(times)
    good = figures["piecewise"]
    good |= {
        "target": ">= 30, <= 4 label maps, both of the result counted",
        "verdict": "pass"
        if good["times_faster"]["median"] >= 30 and good["extra_memory_in_label_maps"] <= 4
        else "short",
    }
    return {"figures": figures, "seconds": seconds}


def row_label_map_4k(setup: Setup) -> dict[str, Any]:
    """Label map of 847 classes to 2160x3840: extra memory in a fresh process, and time against 171 classes."""
    size, figures, seconds = (2160, 3840), {}, {}
    for kind, make in KINDS.items():
        few, many = make(171), make(847)
        times = take_turns(
            {"171": lambda s=few: label_map(s, size), "847": lambda s=many: label_map(s, size)},
            repeats=setup.repeats,
            seconds=setup.seconds,
        )
        held = in_fresh_process(Path(__file__), "memory", kind, "847", "2160", "3840")
        moved = 8 * size[0] * size[1] + many.nbytes
        figures[kind] = {
            "times_171_classes": ratio(times, "847", "171"),
            "extra_megabytes": round(held["extra_bytes"] / 1e6, 1),
            **limit("labels and scores written, grid read", moved / setup.rates["copy"], median(times, "847")),
        }
        seconds[kind] = summary(times)
    good = figures["piecewise"]
    good |= {
        "target": "< 400 MB, <= 3 x 171 classes",
        "verdict": "pass" if good["extra_megabytes"] < 400 and good["times_171_classes"]["median"] <= 3 else "short",
    }
    return {"figures": figures, "seconds": seconds}


def row_windows(setup: Setup) -> dict[str, Any]:
    """Sliding windows (336, 224, 112) on a photo of 640x480 with 20 classes, against one window at a time."""
    image, names = photo(480, 640), CLASS_NAMES[:20]
    segs = {dtype: setup.segmenter(dtype) for dtype in setup.dtypes}
    text = setup.plain.texts(names)
    options: dict[str, Any] = {"background": (), "templates": "none", "resolution": "slide:336/224/112"}
    options |= {"min_area": 0, "max_hole": 0}  # the other candidate keeps every pixel

    def plain() -> np.ndarray:
        return setup.plain.window_by_window(image, text, short_side=336, crop=224, stride=112)

    candidates: dict[str, Callable[[], Any]] = {"window_by_window": plain}
    for dtype in setup.dtypes:
        candidates[dtype] = lambda dtype=dtype: segs[dtype].segment(image, names, **options).labels
    times = setup.turns(candidates)
    expected, windows = plain(), len(segs["float32"].encode(image, resolution="slide:336/224/112").windows)
    targets = {"bfloat16": 3.0, "float32": 1.0}
    figures: dict[str, Any] = {}
    for dtype in setup.dtypes:
        faster = ratio(times, "window_by_window", dtype)
        equal = float((segs[dtype].segment(image, names, **options).labels == expected).mean())
        holds = faster["median"] >= targets[dtype] and (dtype != "float32" or equal >= 0.999)
        bound = vision_operations(segs[dtype].encoder, windows) / setup.rates[dtype]
        figures[dtype] = {
            "times_faster": faster, "labels_equal": round(equal, 5),
            "target": f">= {targets[dtype]}" + (", labels equal >= 0.999" if dtype == "float32" else ""),
            "verdict": "pass" if holds else "short",
            **limit("products of the tower", bound, median(times, dtype)),
        }  # fmt: skip
    return {"figures": figures, "seconds": summary(times), "windows": windows}


def row_file(setup: Setup) -> dict[str, Any]:
    """1080p JPEG file to label PNG with 1 to 20 cached prompts and slide at 336, against the encoder alone."""
    seg, path = setup.segmenter(setup.dtypes[0]), setup.folder / "photo.jpg"
    write_image(path, photo(1080, 1920))
    pixels = fgseg.images.reading.read_image(path)
    canvas_hw = short_side_hw((1080, 1920), 336)
    boxes = window_boxes(canvas_hw, crop=224, stride=112)
    windows = crops(resize_image(pixels, canvas_hw, antialias=True), boxes)
    candidates: dict[str, Callable[[], Any]] = {"encoder": lambda: seg.encoder.encode_images(windows, fit="exact")}
    for prompts in (1, 5, 20):
        names = CLASS_NAMES[:prompts]
        seg.prepare(names)

        def whole(names: list[str] = names, **specks: int) -> None:
            found = seg.segment(path, names, resolution="slide:336", **specks)
            found.save(setup.folder / "out", formats=["labels"])

        candidates[f"{prompts}_prompts"] = whole
    candidates[f"{prompts}_prompts_specks_kept"] = lambda: whole(min_area=0, max_hole=0)
    times = setup.turns(candidates)
    figures: dict[str, Any] = {}
    for name in list(candidates)[1:]:
        share = ratio(times, name, "encoder")
        figures[name] = {
            "times_the_encoder": share, "target": "<= 1.15", "verdict": verdict(share["median"], 1.15, at_most=True)
        }  # fmt: skip
    bound = vision_operations(seg.encoder, len(windows)) / setup.rates[setup.dtypes[0]]
    figures["encoder"] = limit("products of the tower", bound, median(times, "encoder"))
    return {"figures": figures, "seconds": summary(times), "windows": len(windows), "dtype": setup.dtypes[0]}


def row_folder(setup: Setup) -> dict[str, Any]:
    """16 JPEGs of 640x480 to label PNGs, 5 prompts, squash: read ahead, and in batches of 8, against one by one."""
    seg, names, how = setup.segmenter(setup.dtypes[0]), CLASS_NAMES[:5], {"resolution": "squash"}
    paths = [setup.folder / f"photo{index}.jpg" for index in range(16)]
    for index, path in enumerate(paths):
        write_image(path, photo(480, 640, SEED + index))
    images = [fgseg.images.reading.read_image(path) for path in paths]
    seg.prepare(names)

    def save(image: Any) -> None:
        seg.segment(image, names, **how).save(setup.folder / "out", formats=["labels"])

    def ahead(batch_size: int) -> None:
        views = Prefetcher(seg, paths, batch_size=batch_size, **how)
        for path in paths:
            save(views.take(path))

    times = setup.turns(
        {
            "encoder": lambda: [seg.encoder.encode_images([image]) for image in images],
            "one_by_one": lambda: [save(path) for path in paths],
            "read_ahead": lambda: ahead(1),
            "batch_of_8": lambda: ahead(8),
        }
    )
    figures: dict[str, Any] = {
        name: {"times_faster": ratio(times, "one_by_one", name), "times_the_encoder": ratio(times, name, "encoder")}
        for name in ("read_ahead", "batch_of_8")
    }
    bound = vision_operations(seg.encoder, len(images)) / setup.rates[setup.dtypes[0]]
    figures["encoder"] = limit("products of the tower", bound, median(times, "encoder"))
    return {"figures": figures, "seconds": summary(times), "images": len(images), "dtype": setup.dtypes[0]}


def row_more_prompts(setup: Setup) -> dict[str, Any]:
    """patch_scores of twenty cached prompts on an encoded image, against encoding the image."""
    seg, image = setup.segmenter(setup.dtypes[0]), photo(480, 640)
    view, text = seg.encode(image), seg.encoder.encode_texts(CLASS_NAMES[:20])
    times = setup.turns(
        {
            "encode": lambda: seg.encode(image),
            "patch_scores": lambda: [patch_scores(window, text) for window in view.windows],
        }
    )
    share = ratio(times, "patch_scores", "encode")
    read = sum(window.grid.nbytes for window in view.windows) + text.nbytes
    figure = {
        "share_of_encoding": share, "target": "<= 0.01", "verdict": verdict(share["median"], 0.01, at_most=True),
        **limit("features read", read / setup.rates["copy"], median(times, "patch_scores")),
    }  # fmt: skip
    return {"figures": {"twenty_prompts": figure}, "seconds": summary(times), "windows": len(view.windows)}


def row_start(setup: Setup) -> dict[str, Any]:
    """Start time: `fgseg --help`, and the first mask of the embedded model, each in a fresh process."""
    path = setup.folder / "small.png"
    write_image(path, photo(480, 640))
    command = [sys.executable, "-m", "fgseg"]
    first = [*command, "segment", str(path), "-p", "red", "-o", str(setup.folder / "first"), "--model", "mini"]
    times = take_turns(
        {
            "python": lambda: subprocess.run([sys.executable, "-c", "pass"], check=True),
            "help": lambda: subprocess.run([*command, "--help"], check=True, capture_output=True),
            "import_torch": lambda: subprocess.run([sys.executable, "-c", "import torch"], check=True),
            "first_mask": lambda: subprocess.run(first, check=True, capture_output=True),
        },
        repeats=max(setup.repeats // 2, 2),
        seconds=setup.seconds,
    )
    figures = {
        name: {
            "target": f"< {target} s", "verdict": verdict(median(times, name), target, at_most=True),
            **limit(what, median(times, floor), median(times, name)),
        }
        for name, target, floor, what in (
            ("help", 0.3, "python", "an empty Python"), ("first_mask", 2.4, "import_torch", "Python that imports torch")
        )
    }  # fmt: skip
    return {"figures": figures, "seconds": summary(times)}


def row_steps(setup: Setup) -> dict[str, Any]:
    """Steps of a GPU for a label map at 1080p, counted on a CPU: whole maps as on a GPU, and blocks as on a CPU."""
    figures: dict[str, Any] = {}
    for classes in (20, 171, 847):
        scores, counted = piecewise_scores(classes), {"maps": Steps(), "blocks": Steps()}
        for compare, steps in zip((compare_stacks, compare_blocks), counted.values(), strict=True):
            with steps:
                compare(scores, (1080, 1920))
        figures[f"{classes}_classes"] = {
            f"{what}_by_{way}": getattr(steps, what) for way, steps in counted.items() for what in ("steps", "waits")
        }
    return {"figures": figures, "seconds": {}}


ROWS: dict[str, Callable[[Setup], dict[str, Any]]] = {
    "photo": row_photo,
    "texts": row_texts,
    "label_map": row_label_map,
    "label_map_4k": row_label_map_4k,
    "windows": row_windows,
    "file": row_file,
    "folder": row_folder,
    "more_prompts": row_more_prompts,
    "start": row_start,
    "steps": row_steps,
}


def child_memory(kind: str, classes: int, height: int, width: int) -> None:
    """Print the peak memory of a label map, including its result, beyond the memory before the call."""
    scores = KINDS[kind](classes)
    label_map(scores[:2, :2, :2].contiguous(), (64, 64))  # so that everything that a first call loads is loaded
    reset_peak()
    before = resident_bytes()
    label_map(scores, (height, width))
    print(json.dumps({"extra_bytes": peak_bytes() - before}))


def table(name: str, row: dict[str, Any]) -> str:
    """The figures of a row as text."""
    lines = [f"{name}: {row['what']} (load {row['load']})"]
    for part, figure in row["figures"].items():
        shown = []
        for key, value in figure.items():
            if isinstance(value, dict):
                value = f"{value['median']} ({value['q1']} to {value['q3']}; processor {value['of_processor_time']})"
            shown.append(f"{key} {value}")
        lines.append(f"  {part}: {', '.join(shown)}")
    for part, times in row["seconds"].items():
        for candidate, value in times.items() if "seconds" not in times else [("", times)]:
            both = value["seconds"]
            lines.append(
                f"    {part} {candidate} {both['median']} s ({both['q1']} to {both['q3']}, {both['turns']} turns)"
            )
    return "\n".join(lines)


def measure(setup: Setup, name: str) -> dict[str, Any]:
    """One row and its settings."""
    made = ROWS[name](setup)
    return {
        "what": str(ROWS[name].__doc__).split("\n")[0],
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "load": load(),
        "rates": {key: float(f"{value:.4g}") for key, value in setup.rates.items()},
        "seed": SEED,
        "repeats": setup.repeats,
        "versions": {
            "fgseg": fgseg.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "opencv": cv2.__version__,
        },
        **made,
    }


def _pil(image: np.ndarray) -> Any:
    from PIL import Image

    return Image.fromarray(image)


def main() -> None:
    """Measure, print and write."""
    if sys.argv[1:3] == ["--child", "memory"]:
        child_memory(sys.argv[3], *map(int, sys.argv[4:7]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default=",".join(ROWS), help="names, separated by commas; default: %(default)s")
    parser.add_argument("--repeats", type=int, default=15, help="number of turns of each candidate")
    parser.add_argument("--seconds", type=float, default=40, help="no new turn of a row starts after this")
    parser.add_argument("--threads", type=int, default=None, help="number of threads of torch; default: its own choice")
    parser.add_argument("--keep", type=Path, help="folder in which the random model is kept for later runs")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    names = [name.strip() for name in options.rows.split(",")]
    if unknown := sorted(set(names) - set(ROWS)):
        parser.error(f"--rows: expected some of {', '.join(ROWS)}, got {', '.join(unknown)}")
    if options.threads:
        torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory(prefix="fgseg-speed-") as temporary:
        folder = options.keep or Path(temporary)
        os.environ["FGSEG_CACHE"] = str(Path(temporary) / "cache")
        if not (folder / "base" / "tokenizer.json").is_file():
            words = {word for text in (*CLASS_NAMES, *IMAGENET_TEMPLATES) for word in text.lower().split()}
            make_model(folder / "base", words, seed=SEED)
        setup = Setup(folder, options.repeats, options.seconds)
        for name in names:
            try:
                row = measure(setup, name)
            except Exception as error:  # a row that fails is reported, and the others are still measured
                row = {"what": name, "error": f"{type(error).__name__}: {error}"}
                print(f"{name}: failed, {row['error']}", flush=True)
            else:
                print(table(name, row), flush=True)
            merge(options.out, {name: row})


if __name__ == "__main__":
    main()
