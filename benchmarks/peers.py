"""fgseg beside what one would otherwise run, and its own settings beside each other: `python benchmarks/peers.py`.

Speed, on the same images, weights and settings, in float32, as medians of interleaved rounds:

* FG-CLIP's quick start as its model card has it: plain transformers modules, texts padded to 77 tokens, the image as a
  square, every text and image encoded anew;
* a sliding loop that encodes one window at a time and stacks all score maps;
* transformers' CLIPSeg with random weights, one copy of the image a prompt: for speed alone.

Quality: the model with each recipe, resolution, refinement and presence threshold, one varied at a time, on procedural
scenes and on `--data`. Defaults are chosen by these rows.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import quantiles

import numpy as np
import torch
from safetensors.torch import load_file
from skimage import data as photographs
from transformers import CLIPConfig, CLIPModel, CLIPSegConfig, CLIPSegForImageSegmentation
from transformers.models.clip import CLIPImageProcessor

import fgseg
from fgseg.benching.identity import model_identity
from fgseg.benching.jobs import Asked, make_task, open_data
from fgseg.benching.report import run_document
from fgseg.benching.runner import run_task
from fgseg.benching.scene_sets import SCENE_SETS
from fgseg.benching.sweeping import Grid
from fgseg.benching.words import known_classes
from fgseg.datasets import open_dataset
from fgseg.encoders import RECIPES
from fgseg.refine import REFINEMENTS
from fgseg.upsample import upsample_map
from fgseg.windows import crops, resize_image, short_side_hw, window_boxes

PROMPTS = ("red", "green", "blue", "white", "black", "brown", "yellow", "orange")
PHOTOGRAPHS = ("coffee", "chelsea", "astronaut", "rocket")
TEXT_TOKENS = 77
CLIPSEG_SIDE = 352
FIRST_STUFF = 92  # of COCO's panoptic category ids
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
BASE_VISION = {
    **{"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "num_hidden_layers": 12},
    **{"image_size": 224, "patch_size": 16},
}


# --- the peers


def transformers_clip(folder: Path) -> CLIPModel:
    """Transformers' CLIP with the weights of a model folder, tensors that plain CLIP has not left out."""
    stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    sizes = {name: stored[name] for name in ("text_config", "vision_config", "projection_dim")}
    model = CLIPModel(CLIPConfig(**sizes))
    wanted = set(model.state_dict())
    tensors = {name: tensor for name, tensor in load_file(folder / "model.safetensors").items() if name in wanted}
    missing = model.load_state_dict(tensors, strict=False).missing_keys
    if any("position_ids" not in name for name in missing):
        raise SystemExit(f"{folder.name}: plain CLIP misses {missing[:3]}")
    return model.eval().float()


def quick_start(model: CLIPModel, encode_words: Callable, side: int) -> Callable:
    """The model card's dense example: labels (H, W) of an image among PROMPTS."""
    processor = CLIPImageProcessor(do_resize=False, do_center_crop=False)

    @torch.inference_mode()
    def run(image: np.ndarray) -> np.ndarray:
        square = fgseg.io.resize_bicubic(image, (side, side))
        pixels = processor(images=square, return_tensors="pt")["pixel_values"]
        grid = dense_features(model, pixels)
        text = text_features(model, encode_words(PROMPTS))
        scores = torch.einsum("hwd,td->thw", unit_rows(grid), unit_rows(text)).numpy()
        return np.stack([upsample_map(score, image.shape[:2]) for score in scores]).argmax(0)

    return run


def dense_features(model: CLIPModel, pixels: torch.Tensor) -> torch.Tensor:
    """(Gh, Gw, D) as FG-CLIP 1 computes it: the last block's values in place of its attention."""
    vision = getattr(model.vision_model, "vision_model", model.vision_model)
    states = vision(pixels, output_hidden_states=True).hidden_states[-2]  # the last block runs too, as published
    block = vision.encoder.layers[-1]
    values = block.self_attn.out_proj(block.self_attn.v_proj(block.layer_norm1(states)))
    states = states + values
    states = states + block.mlp(block.layer_norm2(states))
    patches = model.visual_projection(vision.post_layernorm(states[:, 1:]))[0]
    side = round(len(patches) ** 0.5)
    return patches.reshape(side, side, -1)


def text_features(model: CLIPModel, ids: torch.Tensor) -> torch.Tensor:
    """(T, D) of padded token ids."""
    return model.text_projection(model.text_model(input_ids=ids).pooler_output)


def unit_rows(rows: torch.Tensor) -> torch.Tensor:
    """Unit length along the last axis."""
    return torch.nn.functional.normalize(rows, dim=-1)


def padded_words(seg: fgseg.Segmenter) -> Callable:
    """Token ids padded to the full length with the end token, as the model card's tokenizer call gives them."""

    def encode(words):
        rows = seg.encoder.tokenizer.encode(list(words))
        end = seg.encoder.model.config.end_token
        return torch.tensor([row + [end] * (TEXT_TOKENS - len(row)) for row in rows])

    return encode


def one_window_at_a_time(seg: fgseg.Segmenter) -> Callable:
    """The sliding loop of research code: a window, its maps, the next; all maps held at once."""

    @torch.inference_mode()
    def run(image: np.ndarray) -> np.ndarray:
        sizes = fgseg.Resolution("slide").resolved(seg.encoder.side)
        canvas_hw = short_side_hw(image.shape[:2], sizes.short_side)
        canvas = resize_image(image, canvas_hw, antialias=True)
        text = seg.encoder.encode_texts(PROMPTS)
        total, cover = torch.zeros(len(PROMPTS), *canvas_hw), torch.zeros(canvas_hw)
        for box in window_boxes(canvas_hw, crop=sizes.crop, stride=sizes.stride):
            left, top, right, bottom = box
            (features,) = seg.encoder.encode_images(crops(canvas, [box]), fit="exact")
            scores = torch.einsum("hwd,td->thw", features.grid, text)[None]
            size = (bottom - top, right - left)
            total[:, top:bottom, left:right] += torch.nn.functional.interpolate(scores, size, mode="bilinear")[0]
            cover[top:bottom, left:right] += 1
        whole = torch.nn.functional.interpolate((total / cover)[None], image.shape[:2], mode="bilinear")[0]
        return whole.argmax(0).numpy()

    return run


def clipseg() -> Callable:
    """Transformers' CLIPSeg at its own size, random weights: the labels mean nothing."""
    torch.manual_seed(0)
    model = CLIPSegForImageSegmentation(CLIPSegConfig()).eval()
    ids = torch.randint(0, 40_000, (len(PROMPTS), 8))

    @torch.inference_mode()
    def run(image: np.ndarray) -> np.ndarray:
        square = fgseg.io.resize_bicubic(image, (CLIPSEG_SIDE, CLIPSEG_SIDE))
        pixels = torch.from_numpy(square).permute(2, 0, 1).float()[None] / 255
        logits = model(input_ids=ids, pixel_values=pixels.expand(len(PROMPTS), -1, -1, -1)).logits
        return torch.nn.functional.interpolate(logits[None], image.shape[:2], mode="bilinear")[0].argmax(0).numpy()

    return run


def with_fgseg(seg: fgseg.Segmenter, resolution: str, *, texts: str) -> Callable:
    """Fgseg on the same question: no background, no template, every pixel to its best prompt, nothing refined."""
    asked = {"background": (), "templates": "none", "threshold": 0, "resolution": resolution, "refine": "none"}

    def run(image: np.ndarray) -> np.ndarray:
        own = fgseg.Segmenter(seg.encoder) if texts == "anew" else seg
        return own.segment(image, PROMPTS, **asked).labels

    return run


def random_base(folder: Path) -> Path:
    """A ViT-B/16 CLIP of random weights that knows the embedded model's words."""
    mini = fgseg.load("mini", dtype="float32").encoder.checkpoint.folder
    text = json.loads((mini / "config.json").read_text(encoding="utf-8"))["text_config"]
    words = {name: text[name] for name in ("vocab_size", "eos_token_id") if name in text}
    size = {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8, "num_hidden_layers": 12}
    config = CLIPConfig(text_config={**size, **words}, vision_config=BASE_VISION, projection_dim=512)
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    shutil.copy(mini / "tokenizer.json", folder)
    return folder


# --- speed


def speed_rows(model: str, rounds: int) -> list[dict]:
    """Seconds an image of everyone, and how far their labels are those of fgseg."""
    images = [getattr(photographs, name)() for name in PHOTOGRAPHS]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for title, name in ((f"{model}", model), ("ViT-B/16, random weights", str(random_base(Path(folder))))):
            seg = fgseg.load(name, device="cpu", dtype="float32")
            theirs = transformers_clip(seg.encoder.checkpoint.folder)
            runs = {
                "fgseg, squash": with_fgseg(seg, "squash", texts="kept"),
                "fgseg, squash, texts anew": with_fgseg(seg, "squash", texts="anew"),
                "quick start of the model card": quick_start(theirs, padded_words(seg), seg.encoder.side),
                "fgseg, slide": with_fgseg(seg, "slide", texts="kept"),
                "one window at a time": one_window_at_a_time(seg),
            }
            if name != model:
                runs["CLIPSeg, random weights"] = clipseg()
            rows += [{"weights": title, **row} for row in timed(runs, images, rounds)]
    return rows


def timed(runs: dict[str, Callable], images: list[np.ndarray], rounds: int) -> list[dict]:
    """Median and quartiles of seconds an image, everyone's turns interleaved, after one turn each to warm up."""
    labels = {name: [run(image) for image in images] for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for image in images:
            for name, run in runs.items():
                started = time.perf_counter()
                run(image)
                seconds[name].append(time.perf_counter() - started)
    rows = []
    for name, taken in seconds.items():
        low, middle, high = quantiles(taken, n=4, method="inclusive")
        like = "fgseg, squash" if name in ("quick start of the model card", "fgseg, squash, texts anew") else None
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
    """One sweep a factor and data set, everything else at the model's defaults."""
    side = seg.encoder.side
    default = seg.encoder.default_threshold
    resolutions = ("auto", "squash", "keep", f"keep:{2 * side}", f"slide:{side}", f"slide:{2 * side}")
    grids = {
        "recipe": Grid(recipes=RECIPES),
        "resolution": Grid(resolutions=tuple(r for r in resolutions if r != seg.encoder.default_resolution)),
        "refine": Grid(refinements=REFINEMENTS),
        "threshold": Grid(thresholds=tuple(sorted({*THRESHOLDS, default}))),
    }
    for name, only in [(name, ("all",)) for name in SCENE_SETS] + [
        (folder, stuff(seg, folder) if options.only == ["stuff"] else tuple(options.only)) for folder in options.data
    ]:
        for factor, grid in grids.items():
            how = (("decision", "presence"),) if factor == "threshold" else ()
            asked = Asked(data=(name,), only=only, settings=how, grid=grid, scenes=options.scenes, limit=options.limit)
            (data,) = open_data(asked)
            if factor == "threshold" and not data.has_background:
                continue
            started = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                document = run_document(run_task(make_task(seg, data, asked), Path(folder)))
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
    """Which row of a sweep over one factor has the model's own value."""
    values, own = {
        "recipe": (grid.recipes, seg.encoder.recipe),
        "resolution": (grid.resolutions, "auto"),
        "refine": (grid.refinements, seg.encoder.default_refine),
    }[factor]
    return values.index(own)


def stuff(seg: fgseg.Segmenter, folder: str) -> tuple[str, ...]:
    """The stuff classes of a folder with COCO's panoptic ids that the model has words for."""
    listed = json.loads((Path(folder) / "dataset.json").read_text(encoding="utf-8"))["classes"]
    names = {entry["name"] for entry in listed if entry["id"] >= FIRST_STUFF}
    data = known_classes(seg.encoder, open_dataset(folder), seg.encoder.default_templates)
    return tuple(entry.name for entry in data.classes if entry.name in names)


def write(report: dict, path: Path) -> None:
    """The rows so far."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--rounds", type=int, default=5, help="of timings")
    parser.add_argument("--scenes", type=int, default=60, help="scenes a set")
    parser.add_argument("--data", action="append", default=[], help="a labelled folder; again for more")
    parser.add_argument("--only", action="append", help="its classes to keep, or stuff; known ones if left out")
    parser.add_argument("--limit", type=int, help="most images of a folder")
    parser.add_argument("--parts", default="speed,quality")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "peers.json")
    options = parser.parse_args()
    options.only = options.only or ["known"]
    started = time.perf_counter()
    seg = fgseg.load(options.model)
    report = {"kind": "peers", "model": model_identity(seg.encoder), "prompts": list(PROMPTS)}
    if options.out.exists():  # the other part of an earlier run stays, if it was of this model
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
            write(report, options.out)  # minutes a row: what is done stays done
    report["timing"] = {"seconds": round(time.perf_counter() - started, 1), "threads": torch.get_num_threads()}
    write(report, options.out)
    print(f"wrote {options.out} in {report['timing']['seconds']} s")


if __name__ == "__main__":
    main()
