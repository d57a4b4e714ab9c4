"""How long fgseg takes beside the plain ways, in one run: `python benchmarks/speed.py`.

Candidates take turns, so that a busy machine hurts all alike; a ratio is the median over turns of their quotient. The
model has fg-clip-base's sizes and random weights, made on the spot in a temporary folder. Baselines are in `plain.py`:
the model card's quick start (full vision tower plus a second last block, float32, captions padded to 77), class by
class over templates, window by window, and all maps upsampled before the argmax. Beside each figure stands the
physical limit: operations over the rate of a matrix product measured in the same run, bytes over that of a copy.

Rows can be run alone (`--rows label_map,texts`); each puts its part into results/speed.json when it is done.
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
SAMPLE_OURS, SAMPLE_PLAIN = 12, 1  # classes a turn: theirs takes a second a class
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
class Bench:
    """What the rows share: a model folder, settings, and the rates of this machine, each measured when first asked."""

    folder: Path
    repeats: int
    seconds: float

    def segmenter(self, dtype: str) -> fgseg.Segmenter:
        """A fresh Segmenter of the random model."""
        return fgseg.load(str(self.folder / "base"), device="cpu", dtype=dtype)

    @cached_property
    def dtypes(self) -> tuple[str, ...]:
        """The dtype a user gets by default, and float32."""
        chosen = str(fgseg.load(str(self.folder / "base"), device="cpu").encoder.dtype).removeprefix("torch.")
        return tuple(dict.fromkeys((chosen, "float32")))

    @cached_property
    def plain(self) -> QuickStart:
        """The baseline."""
        return QuickStart(self.folder / "base")

    @cached_property
    def rates(self) -> dict[str, float]:
        """Operations a second in each dtype, and bytes a second."""
        return {dtype: matmul_rate(dtype) for dtype in ("float32", "bfloat16")} | {"copy": copy_rate()}

    def turns(self, candidates: dict[str, Callable[[], Any]]) -> dict[str, dict[str, list[float]]]:
        """`take_turns` with this run's settings."""
        return take_turns(candidates, repeats=self.repeats, seconds=self.seconds)


def photo(height: int, width: int, seed: int = SEED) -> np.ndarray:
    """A procedural picture with the grain of a photograph, so that files are as large as a camera's."""
    drawn = scene(seed, (height, width)).image.astype(np.float32)
    grain = np.random.RandomState(seed).normal(0, 4, drawn.shape)
    return np.clip(drawn + grain, 0, 255).astype(np.uint8)


def vision_operations(encoder: Any, windows: int) -> float:
    """Operations of the vision tower's products for some windows of the native size, by the `value` recipe."""
    config = encoder.model.config
    width, layers, patches = config.vision.width, config.vision.layers, (config.side // config.patch) ** 2
    tokens = patches + 1
    block = 24 * width**2 + 4 * tokens * width
    ends = 2 * 3 * config.patch**2 * width + 2 * width * config.width
    return windows * (tokens * block * (layers - 1) + patches * (20 * width**2 + ends))


def text_operations(encoder: Any, texts: list[str]) -> float:
    """Operations of the text tower's products, each text at its own length, each distinct beginning once."""
    tower, rows = encoder.model.config.text, encoder.tokenizer.encode(texts)
    beginnings = {tuple(row[: end + 1]) for row in rows for end in range(len(row))}
    depths = np.array([len(beginning) for beginning in beginnings], np.float64)
    return float((24 * tower.width**2 + 4 * depths * tower.width).sum() * tower.layers)


def limit(what: str, seconds: float, measured: float) -> dict[str, Any]:
    """The physical limit beside a measured time."""
    return {
        "limit": what,
        "limit_seconds": float(f"{seconds:.4g}"),
        "times_the_limit": float(f"{measured / seconds:.3g}"),
    }


def verdict(value: float, target: float, *, at_most: bool = False) -> str:
    """Whether a figure holds."""
    return "pass" if (value <= target if at_most else value >= target) else "short"


def median(times: dict[str, dict[str, list[float]]], name: str) -> float:
    """Median wall seconds of a candidate."""
    return spread(times[name]["wall"])["median"]


# --- rows


def row_photo(bench: Bench) -> dict[str, Any]:
    """One photo 640x480, one prompt, squash: photo in memory to heatmap; a prompt that is new each time."""
    image, names = photo(480, 640), iter(f"{name} {number}" for number in count() for name in CLASS_NAMES)
    segs = {dtype: bench.segmenter(dtype) for dtype in bench.dtypes}
    options: dict[str, Any] = {"templates": "none", "resolution": "squash"}

    def ours(dtype: str, prompt: str) -> np.ndarray:
        return segs[dtype].heatmaps(image, [prompt], **options)[prompt]

    candidates: dict[str, Callable[[], Any]] = {"quick_start": lambda: bench.plain.heatmap(image, next(names))}
    for dtype in bench.dtypes:
        candidates[dtype] = lambda dtype=dtype: ours(dtype, next(names))
        candidates[f"{dtype}_known_prompt"] = lambda dtype=dtype: ours(dtype, CLASS_NAMES[0])
    times = bench.turns(candidates)
    features = segs["float32"].encode(image, resolution="squash").windows[0].grid
    difference = float((bench.plain.dense(_pil(image)) - features).abs().max())
    targets = {"bfloat16": 4.0, "float32": 1.2}
    figures = {
        dtype: {
            "times_faster": ratio(times, "quick_start", dtype),
            "with_known_prompt": ratio(times, "quick_start", f"{dtype}_known_prompt"),
            "target": f">= {targets[dtype]}",
            "verdict": verdict(ratio(times, "quick_start", dtype)["median"], targets[dtype]),
            **limit(
                "products of the vision tower",
                vision_operations(segs[dtype].encoder, 1) / bench.rates[dtype],
                median(times, dtype),
            ),
        }
        for dtype in bench.dtypes
    }
    return {"figures": figures, "seconds": summary(times), "largest_difference_of_features_in_float32": difference}


def row_texts(bench: Bench) -> dict[str, Any]:
    """1,203 class names x 80 templates, by samples, against class by class padded to 77; and from the disk cache."""
    segs = {dtype: bench.segmenter(dtype) for dtype in bench.dtypes}
    templates = [template for template in IMAGENET_TEMPLATES]
    fresh = iter(CLASS_NAMES * 1000)

    def sample() -> list[str]:
        return [template.format(next(fresh)) for _ in range(SAMPLE_OURS) for template in templates]

    candidates: dict[str, Callable[[], Any]] = {
        "class_by_class": lambda: bench.plain.class_by_class([next(fresh) for _ in range(SAMPLE_PLAIN)], templates)
    }
    for dtype in bench.dtypes:
        candidates[dtype] = lambda dtype=dtype: segs[dtype].encoder.encode_texts(sample())
    chosen = bench.dtypes[0]
    known = CLASS_NAMES[: 10 * SAMPLE_OURS]
    first = segs[chosen]
    first.prepare(known, templates="imagenet", background=())
    # A new Segmenter has nothing in memory; the encoder is the same one, since loading it is not the texts' time.
    candidates["disk_cache"] = lambda: fgseg.Segmenter(first.encoder).prepare(
        known, templates="imagenet", background=()
    )
    times = bench.turns(candidates)
    scale = SAMPLE_OURS / SAMPLE_PLAIN
    texts = [template.format(name) for name in CLASS_NAMES[:SAMPLE_OURS] for template in templates]
    figures: dict[str, Any] = {}
    for dtype in bench.dtypes:
        faster = ratio(times, "class_by_class", dtype, scale=scale)
        bound = text_operations(segs[dtype].encoder, texts) / bench.rates[dtype]
        figures[dtype] = {"times_faster": faster, **limit("products of the tower", bound, median(times, dtype))}
    figures[chosen] |= {"target": ">= 8", "verdict": verdict(figures[chosen]["times_faster"]["median"], 8)}
    cached = ratio(times, "class_by_class", "disk_cache", scale=len(known) / SAMPLE_PLAIN)
    stored = len(known) * 4 * first.encoder.model.config.width
    figures["disk_cache"] = {
        "times_faster": cached, "target": ">= 500", "verdict": verdict(cached["median"], 500),
        **limit("copy of the features", 2 * stored / bench.rates["copy"], median(times, "disk_cache")),
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
    """Scores like those of a scene: areas with a winner each, other classes at levels of their own, patch noise."""
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
    """Scores without any structure: the worst case."""
    return torch.from_numpy(np.random.RandomState(SEED).uniform(-1, 1, (classes, *grid_hw)).astype(np.float32))


KINDS = {"piecewise": piecewise_scores, "noise": noise_scores}


def row_label_map(bench: Bench) -> dict[str, Any]:
    """Label map, 171 classes, 32x48 grid to 1080x1920, against all maps interpolated before the argmax."""
    size, figures, seconds = (1080, 1920), {}, {}
    for kind, make in KINDS.items():
        scores = make(171)
        times = take_turns(
            {"ours": lambda s=scores: label_map(s, size), "plain": lambda s=scores: upsample_all_then_argmax(s, size)},
            repeats=max(bench.repeats // 2, 2),
            seconds=bench.seconds,
        )
        labels, plain = label_map(scores, size)[0], upsample_all_then_argmax(scores, size)[0]
        held = in_fresh_process(Path(__file__), "memory", kind, "171", "1080", "1920")
        maps = held["extra_bytes"] / (4 * size[0] * size[1])
        moved = 8 * size[0] * size[1] + scores.nbytes
        figures[kind] = {
            "times_faster": ratio(times, "plain", "ours"),
            "extra_memory_in_label_maps": round(maps, 2),
            "labels_equal": float((labels == plain).float().mean()),
            **limit("labels and scores written, grid read", moved / bench.rates["copy"], median(times, "ours")),
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


def row_label_map_4k(bench: Bench) -> dict[str, Any]:
    """Label map, 847 classes to 2160x3840: extra memory in a fresh process, and time against 171 classes."""
    size, figures, seconds = (2160, 3840), {}, {}
    for kind, make in KINDS.items():
        few, many = make(171), make(847)
        times = take_turns(
            {"171": lambda s=few: label_map(s, size), "847": lambda s=many: label_map(s, size)},
            repeats=bench.repeats,
            seconds=bench.seconds,
        )
        held = in_fresh_process(Path(__file__), "memory", kind, "847", "2160", "3840")
        moved = 8 * size[0] * size[1] + many.nbytes
        figures[kind] = {
            "times_171_classes": ratio(times, "847", "171"),
            "extra_megabytes": round(held["extra_bytes"] / 1e6, 1),
            **limit("labels and scores written, grid read", moved / bench.rates["copy"], median(times, "847")),
        }
        seconds[kind] = summary(times)
    good = figures["piecewise"]
    good |= {
        "target": "< 400 MB, <= 3 x 171 classes",
        "verdict": "pass" if good["extra_megabytes"] < 400 and good["times_171_classes"]["median"] <= 3 else "short",
    }
    return {"figures": figures, "seconds": seconds}


def row_windows(bench: Bench) -> dict[str, Any]:
    """Sliding windows, short side 336, crop 224, stride 112, photo 640x480, 20 classes, against one at a time."""
    image, names = photo(480, 640), CLASS_NAMES[:20]
    segs = {dtype: bench.segmenter(dtype) for dtype in bench.dtypes}
    text = bench.plain.texts(names)
    options: dict[str, Any] = {"background": (), "templates": "none", "resolution": "slide:336/224/112"}

    def plain() -> np.ndarray:
        return bench.plain.window_by_window(image, text, short_side=336, crop=224, stride=112)

    candidates: dict[str, Callable[[], Any]] = {"window_by_window": plain}
    for dtype in bench.dtypes:
        candidates[dtype] = lambda dtype=dtype: segs[dtype].segment(image, names, **options).labels
    times = bench.turns(candidates)
    expected, windows = plain(), len(segs["float32"].encode(image, resolution="slide:336/224/112").windows)
    targets = {"bfloat16": 3.0, "float32": 1.0}
    figures: dict[str, Any] = {}
    for dtype in bench.dtypes:
        faster = ratio(times, "window_by_window", dtype)
        equal = float((segs[dtype].segment(image, names, **options).labels == expected).mean())
        holds = faster["median"] >= targets[dtype] and (dtype != "float32" or equal >= 0.999)
        bound = vision_operations(segs[dtype].encoder, windows) / bench.rates[dtype]
        figures[dtype] = {
            "times_faster": faster, "labels_equal": round(equal, 5),
            "target": f">= {targets[dtype]}" + (", labels equal >= 0.999" if dtype == "float32" else ""),
            "verdict": "pass" if holds else "short",
            **limit("products of the tower", bound, median(times, dtype)),
        }  # fmt: skip
    return {"figures": figures, "seconds": summary(times), "windows": windows}


def row_file(bench: Bench) -> dict[str, Any]:
    """1 to 20 prompts with cached texts, 1080p JPEG, slide at 336, file to label PNG, against the encoder alone."""
    seg, path = bench.segmenter(bench.dtypes[0]), bench.folder / "photo.jpg"
    write_image(path, photo(1080, 1920))
    pixels = fgseg.images.reading.read_image(path)
    canvas_hw = short_side_hw((1080, 1920), 336)
    boxes = window_boxes(canvas_hw, crop=224, stride=112)
    windows = crops(resize_image(pixels, canvas_hw, antialias=True), boxes)
    candidates: dict[str, Callable[[], Any]] = {"encoder": lambda: seg.encoder.encode_images(windows, fit="exact")}
    for prompts in (1, 5, 20):
        names = CLASS_NAMES[:prompts]
        seg.prepare(names)

        def whole(names: list[str] = names) -> None:
            seg.segment(path, names, resolution="slide:336").save(bench.folder / "out", formats=["labels"])

        candidates[f"{prompts}_prompts"] = whole
    times = bench.turns(candidates)
    figures: dict[str, Any] = {}
    for name in list(candidates)[1:]:
        share = ratio(times, name, "encoder")
        figures[name] = {
            "times_the_encoder": share, "target": "<= 1.15", "verdict": verdict(share["median"], 1.15, at_most=True)
        }  # fmt: skip
    bound = vision_operations(seg.encoder, len(windows)) / bench.rates[bench.dtypes[0]]
    figures["encoder"] = limit("products of the tower", bound, median(times, "encoder"))
    return {"figures": figures, "seconds": summary(times), "windows": len(windows), "dtype": bench.dtypes[0]}


def row_folder(bench: Bench) -> dict[str, Any]:
    """16 JPEGs of 640x480, 5 prompts, squash, to label PNGs: read ahead, and 8 encoded together, against one by one."""
    seg, names, how = bench.segmenter(bench.dtypes[0]), CLASS_NAMES[:5], {"resolution": "squash"}
    paths = [bench.folder / f"photo{index}.jpg" for index in range(16)]
    for index, path in enumerate(paths):
        write_image(path, photo(480, 640, SEED + index))
    images = [fgseg.images.reading.read_image(path) for path in paths]
    seg.prepare(names)

    def save(image: Any) -> None:
        seg.segment(image, names, **how).save(bench.folder / "out", formats=["labels"])

    def ahead(batch_size: int) -> None:
        views = Prefetcher(seg, paths, batch_size=batch_size, **how)
        for path in paths:
            save(views.take(path))

    times = bench.turns(
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
    bound = vision_operations(seg.encoder, len(images)) / bench.rates[bench.dtypes[0]]
    figures["encoder"] = limit("products of the tower", bound, median(times, "encoder"))
    return {"figures": figures, "seconds": summary(times), "images": len(images), "dtype": bench.dtypes[0]}


def row_more_prompts(bench: Bench) -> dict[str, Any]:
    """patch_scores of twenty more prompts with cached texts on an encoded image, against encoding it."""
    seg, image = bench.segmenter(bench.dtypes[0]), photo(480, 640)
    view, text = seg.encode(image), seg.encoder.encode_texts(CLASS_NAMES[:20])
    times = bench.turns(
        {
            "encode": lambda: seg.encode(image),
            "patch_scores": lambda: [patch_scores(window, text) for window in view.windows],
        }
    )
    share = ratio(times, "patch_scores", "encode")
    read = sum(window.grid.nbytes for window in view.windows) + text.nbytes
    figure = {
        "share_of_encoding": share, "target": "<= 0.01", "verdict": verdict(share["median"], 0.01, at_most=True),
        **limit("features read", read / bench.rates["copy"], median(times, "patch_scores")),
    }  # fmt: skip
    return {"figures": {"twenty_prompts": figure}, "seconds": summary(times), "windows": len(view.windows)}


def row_start(bench: Bench) -> dict[str, Any]:
    """Start: `fgseg --help`, and the first mask of the embedded model, each in a fresh process."""
    path = bench.folder / "small.png"
    write_image(path, photo(480, 640))
    command = [sys.executable, "-c", "from fgseg.commands.main import main; main()"]
    first = [*command, "segment", str(path), "-p", "red", "-o", str(bench.folder / "first"), "--model", "mini"]
    times = take_turns(
        {
            "python": lambda: subprocess.run([sys.executable, "-c", "pass"], check=True),
            "help": lambda: subprocess.run([*command, "--help"], check=True, capture_output=True),
            "import_torch": lambda: subprocess.run([sys.executable, "-c", "import torch"], check=True),
            "first_mask": lambda: subprocess.run(first, check=True, capture_output=True),
        },
        repeats=max(bench.repeats // 2, 2),
        seconds=bench.seconds,
    )
    figures = {
        name: {
            "target": f"< {target} s", "verdict": verdict(median(times, name), target, at_most=True),
            **limit(what, median(times, floor), median(times, name)),
        }
        for name, target, floor, what in (
            ("help", 0.3, "python", "an empty Python"), ("first_mask", 4.0, "import_torch", "Python that imports torch")
        )
    }  # fmt: skip
    return {"figures": figures, "seconds": summary(times)}


def row_steps(bench: Bench) -> dict[str, Any]:
    """What a GPU is given for a label map at 1080p, counted on a CPU: whole maps, as there, and blocks, as on a CPU."""
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


ROWS: dict[str, Callable[[Bench], dict[str, Any]]] = {
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
    """Most memory that a label map takes beyond what was there before, its result included."""
    scores = KINDS[kind](classes)
    label_map(scores[:2, :2, :2].contiguous(), (64, 64))  # loads what the first call loads
    reset_peak()
    before = resident_bytes()
    label_map(scores, (height, width))
    print(json.dumps({"extra_bytes": peak_bytes() - before}))


def table(name: str, row: dict[str, Any]) -> str:
    """The figures of a row for people."""
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


def measure(bench: Bench, name: str) -> dict[str, Any]:
    """One row with the settings it was made with."""
    made = ROWS[name](bench)
    return {
        "what": str(ROWS[name].__doc__).split("\n")[0],
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "load": load(),
        "rates": {key: float(f"{value:.4g}") for key, value in bench.rates.items()},
        "seed": SEED,
        "repeats": bench.repeats,
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
    parser.add_argument("--rows", default=",".join(ROWS), help="names, by commas; %(default)s")
    parser.add_argument("--repeats", type=int, default=15, help="turns of each candidate")
    parser.add_argument("--seconds", type=float, default=40, help="no new turn of a row starts after this")
    parser.add_argument("--threads", type=int, default=None, help="torch's; its own choice if left out")
    parser.add_argument("--keep", type=Path, help="folder for the random model, to use it again")
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
        bench = Bench(folder, options.repeats, options.seconds)
        for name in names:
            try:
                row = measure(bench, name)
            except Exception as error:  # a row that fails is reported, and the others go on
                row = {"what": name, "error": f"{type(error).__name__}: {error}"}
                print(f"{name}: failed, {row['error']}", flush=True)
            else:
                print(table(name, row), flush=True)
            merge(options.out, {name: row})


if __name__ == "__main__":
    main()
