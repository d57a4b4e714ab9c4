"""Which block of an encoder guides it best, and what guides cost: `python benchmarks/self_guide.py --data FOLDER`.

A guide decides how the recipes `proxy` and `corr` mix the patches of the last block. The guide "self" is a middle
block of the encoder itself. SC-CLIP (arXiv:2411.15869) also takes middle blocks. The script labels the procedural
scenes of `fgseg bench`, and the first images of each folder, as `fgseg segment` decides: with the recipe `value` as
baseline, and with features from each block as guide. It writes the mIoU, and its difference from the baseline with the
95 % interval over resampled images. The rows "self" are those of the guide that comes with fgseg. Block N is the N-th
of the tower; "hidden" is its output, and "key", "value" and "query_key" are made from it by the next block.

`cost` has the seconds of processor time and the peak of memory beyond the loaded weights: of an encoder with random
weights of the size of fg-clip-base, of the same encoder guided by its own middle, and of it with guides of the
published sizes, also random, for photographs of two sizes. Each is the run of two that took less processor time.
"""

import argparse
import ctypes
import gc
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from random_model import make_model
from specks import differences
from timing import machine, processor_seconds
from torch import Tensor

import fgseg
from fgseg.encoders.base import GuideKind, Image, in_batches, normalised
from fgseg.encoders.checkpoint import Checkpoint
from fgseg.encoders.encoder import ClipEncoder
from fgseg.evaluation.requests import BenchmarkRequest, make_task, open_data
from fgseg.evaluation.statistics import figures, image_row, pixel_counts
from fgseg.evaluation.tasks.prediction import encode
from fgseg.evaluation.tasks.segmentation import SegmentationTask
from fgseg.guides.dino import DinoConfig, DinoModel
from fgseg.guides.loading import DinoGuide, with_guide
from fgseg.segmenter import Segmenter

RESULTS = Path(__file__).parent / "results" / "self_guide.json"
KINDS = ("hidden", "key", "value", "query_key")
PARTS = {"quality": "quality on ", "cost": "cost at "}
SIZES = {"640x480": (480, 640), "1920x1080": (1080, 1920)}
GUIDES = {  # name -> family, width, layers, heads, patch, side
    "dino-s8": ("DINO", 384, 12, 6, 8, 224),
    "dino-b16": ("DINO", 768, 12, 12, 16, 224),
    "dino-b8": ("DINO", 768, 12, 12, 8, 224),
    "dinov2-s14": ("DINOv2", 384, 12, 6, 14, 518),
    "dinov2-b14": ("DINOv2", 768, 12, 12, 14, 518),
    "dinov2-b14-reg": ("DINOv2 with registers", 768, 12, 12, 14, 518),
    "dinov2-l14": ("DINOv2", 1024, 24, 16, 14, 518),
}


@dataclass
class BlockGuide:
    """Features of one block of a CLIP as its guide."""

    encoder: ClipEncoder
    block: int
    kind: str
    name: str = "block"
    revision: str | None = None

    @property
    def patch(self) -> int:
        """Side of a patch in pixels."""
        return self.encoder.patch

    @torch.inference_mode()
    def features(
        self, images: Sequence[Image], grids_hw: Sequence[tuple[int, int]], *, kind: GuideKind
    ) -> list[Tensor]:
        """As `fgseg.encoders.base.Guide.features`."""
        sizes = [(rows * self.patch, columns * self.patch) for rows, columns in grids_hw]
        return in_batches(self._features, sizes, self.patch, images)

    def settings(self, kind: GuideKind) -> dict[str, Any]:
        """As `fgseg.encoders.base.Guide.settings`."""
        return {"name": self.name, "block": self.block, "features": self.kind}

    def _features(self, images: Sequence[Image], image_hw: tuple[int, int]) -> list[Tensor]:
        tower = self.encoder.model.vision_model
        x, grid_hw = tower.embeddings(self.encoder._pixels(images, image_hw))
        x = tower.pre_layrnorm(x)
        for block in tower.encoder.layers[: self.block]:
            x = block(x)
        if self.kind != "hidden":
            after = tower.encoder.layers[self.block]
            made = after.layer_norm1(x)
            projections = {"key": "k", "value": "v", "query_key": "qk"}[self.kind]
            x = sum(getattr(after.self_attn, f"{letter}_proj")(made) for letter in projections)
        return list(normalised(x[:, 1:]).reshape(len(x), *grid_hw, -1))


def guided_segmenters(seg: Segmenter, blocks: Sequence[int], kinds: Sequence[str]) -> dict[str, Segmenter]:
    """The segmenter with the guide "self", with the hidden states of each block, and with each kind of one block."""
    encoder = seg.encoder
    found = {f"self, {recipe}": Segmenter(with_guide(encoder, "self", recipe=recipe)) for recipe in ("proxy", "corr")}
    middle = len(encoder.model.vision_model.encoder.layers) // 2 + 1
    for block, kind in ((block, kind) for kind in kinds for block in blocks if kind == "hidden" or block == middle):
        guide = BlockGuide(encoder, block, kind)
        found[f"block {block}, {kind}, proxy"] = Segmenter(encoder.with_recipe("proxy", guide=guide))
    return found


def measured(task: SegmentationTask, segmenters: dict[str, Segmenter]) -> dict[str, NDArray[np.int64]]:
    """The pixel counts of each image of a set, for each segmenter."""
    dataset, count = task.dataset, len(task.dataset.classes)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in segmenters}
    for name in task.items:
        image, truth = task.read(name)
        prompted = task.prompted(truth)
        for way, seg in segmenters.items():
            (labels,) = task.labels(encode(seg, image, task.settings), prompted, [task.settings])
            row = image_row(labels, truth, num_classes=count, ignore=dataset.ignore, name=name, prompted=prompted)
            rows[way].append(row)
    background = dataset.has_background
    return {
        way: pixel_counts(made, count, prompts="all", has_background=background)["model"] for way, made in rows.items()
    }


def compared(counts: dict[str, NDArray[np.int64]], baseline: str) -> dict[str, dict[str, float]]:
    """MIoU of each way, and how much it is above the baseline with the interval."""
    found = {}
    for way, one in counts.items():
        low, high = np.quantile(differences(counts[baseline], one), (0.025, 0.975)).tolist()
        miou, before = (float(figures(each.sum(0))["miou"]) for each in (one, counts[baseline]))
        found[way] = {"miou": miou, "difference": miou - before, "low": low, "high": high}
    return found


def quality(seg: Segmenter, requests: Sequence[BenchmarkRequest], blocks: Sequence[int]) -> dict[str, Any]:
    """Each way on each set, and the means over the sets of scenes."""
    all_ways = {"value": seg, **guided_segmenters(seg, blocks, KINDS)}
    on_folders = {way: one for way, one in all_ways.items() if "block" not in way or "hidden" in way}
    sets: dict[str, Any] = {}
    scenes: list[dict[str, dict[str, float]]] = []
    for number, request in enumerate(requests):
        for data in open_data(request):
            task = make_task(seg, data, request)
            ways = on_folders if number else all_ways
            sets[data.name] = compared(measured(task, ways), "value")
            if not number:
                scenes.append(sets[data.name])
            print(data.name, json.dumps(sets[data.name], indent=1), flush=True)
    means = {
        way: {key: float(np.mean([one[way][key] for one in scenes])) for key in ("miou", "difference")}
        for way in all_ways
    }
    return {"scenes, mean of the four sets": dict(sorted(means.items(), key=lambda item: -item[1]["miou"])), **sets}


# --- cost


def random_guide(name: str, dtype: torch.dtype) -> DinoGuide:
    """A guide of a published size with random weights."""
    family, width, layers, heads, patch, side = GUIDES[name]
    config = {
        "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads, "patch_size": patch,
        "image_size": side, "intermediate_size": 4 * width,
    }  # fmt: skip
    model = DinoModel(DinoConfig.from_dict(config, family))
    for weight in model.parameters():
        weight.data.normal_(0, 0.02)
    checkpoint = Checkpoint(name, Path(), (), None)
    return DinoGuide(checkpoint, model.to(dtype).eval(), dtype=dtype, device=torch.device("cpu"))


def peak_of(run: Callable[[], Any]) -> dict[str, float]:
    """Seconds of processor time and the peak of resident memory beyond what was held before."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # memory that is kept for later would hide what a run takes
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew
    before, started = resident("VmRSS"), processor_seconds()
    run()
    return {"processor_seconds": processor_seconds() - started, "peak_megabytes": resident("VmHWM") - before}


def resident(name: str) -> float:
    """A line of /proc/self/status in megabytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1000
    raise ValueError(f"no line {name}; this needs Linux")


def cost(image_hw: tuple[int, int]) -> dict[str, dict[str, float]]:
    """What encoding one photograph takes, without a guide, by the encoder's own middle, and what guides add."""
    image = np.random.default_rng(0).integers(0, 256, (*image_hw, 3), dtype=np.uint8)
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        seg = fgseg.load(make_model(Path(folder) / "base", ["red"]))
        encoder = seg.encoder
        for name, one in (
            ("fg-clip-base", seg),
            ("guided by itself", Segmenter(with_guide(encoder, "self", recipe="proxy"))),
        ):
            rows[name] = smaller(lambda one=one: one.encode(image))
        for name in GUIDES:
            guide = random_guide(name, encoder.dtype)
            guided = Segmenter(encoder.with_recipe("proxy", guide=guide))
            made = smaller(lambda guided=guided: guided.encode(image))
            weights = sum(weight.nbytes for weight in guide.model.parameters()) / 1e6
            rows[f"guided by {name}"] = {**made, "weights_megabytes": weights}
            print(name, made, flush=True)
    alone = rows["fg-clip-base"]["processor_seconds"]
    return {name: {**row, "times_the_encoder": row["processor_seconds"] / alone} for name, row in rows.items()}


def smaller(run: Callable[[], Any]) -> dict[str, float]:
    """The run of two that took less processor time."""
    return min((peak_of(run) for _ in range(2)), key=lambda row: row["processor_seconds"])


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, action="append", default=[], help="folder of labelled images; repeatable")
    parser.add_argument("--limit", type=int, default=40, help="images of each folder")
    parser.add_argument("--scenes", type=int, default=12, help="scenes of each set")
    parser.add_argument("--blocks", type=int, nargs="+", default=[2, 4, 5, 6, 7, 8], help="of the model's nine")
    parser.add_argument("--skip", choices=["cost", "quality"], help="keep this part of the file as it is")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    kept = json.loads(options.out.read_text(encoding="utf-8")) if options.skip else {}
    tables = {name: table for name, table in kept.items() if name.startswith(PARTS[options.skip])} if kept else {}
    seg = fgseg.load("mini")
    requests = [
        replace(BenchmarkRequest(), scenes=options.scenes),
        *(replace(BenchmarkRequest(data=(str(folder),)), limit=options.limit) for folder in options.data),
    ]
    requests = [replace(one, settings=(("decision", "presence"),)) for one in requests]
    if options.skip != "quality":
        found = quality(seg, requests, options.blocks)
        tables |= {f"{PARTS['quality']}{name}": table for name, table in found.items()}
    if options.skip != "cost":
        tables |= {f"{PARTS['cost']}{name}": cost(image_hw) for name, image_hw in SIZES.items()}
    document = {
        "model": "mini", "weights_sha256": seg.encoder.digest(), "scenes_of_each_set": options.scenes,
        "images_of_each_folder": options.limit, **tables,
        "machine": machine(), "versions": {"fgseg": fgseg.__version__, "torch": torch.__version__},
    }  # fmt: skip
    options.out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
