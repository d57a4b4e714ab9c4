"""How well a model tells materials apart on photographs: `python benchmarks/materials.py --data FOLDER`.

FOLDER holds images/, labels/ and dataset.json (see `fgseg.datasets`). The prompts of an image are those of its classes
that have a word in MATERIAL_WORDS. Only pixels of these classes count, and only images with at least two of them. The
script prints pixel accuracy and writes it as JSON, with bootstrap intervals over images and with three baselines: among
the present classes the one that is most frequent in the data set; a uniform guess; and the nearest mean colour in
L*a*b*, fitted on procedural scenes.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from PIL import Image
from skimage.color import rgb2lab

import fgseg
from fgseg.images.reading import read_image
from fgseg.metrics import class_accuracy, class_counts, confusion
from fgseg.scenes.composition import scene
from fgseg.scenes.vocabulary import MATERIAL_WORDS, MATERIALS

MAIN = ("sky", "tree", "grass", "road", "pavement")  # classes with enough pixels in the development set
ALIASES = {"sidewalk": "pavement"}
MIN_PIXELS = 100  # of a class in an image for its prompt to be used
COLOR_SCENES, COLOR_SIDE = 400, 96


def mean_colors() -> dict[str, np.ndarray]:
    """The mean L*a*b* colour of each material over procedural scenes."""
    found: dict[str, list[np.ndarray]] = {}
    for seed in range(COLOR_SCENES):
        drawn = scene(seed, (COLOR_SIDE, COLOR_SIDE), kind="outdoors" if seed % 2 else "collage")
        color = rgb2lab(drawn.image)
        for index, thing in enumerate(drawn.things):
            if thing.shape in MATERIALS and (drawn.labels == index).any():
                found.setdefault(thing.shape, []).append(color[drawn.labels == index].mean(0))
    return {
        word: np.mean([color for name in MATERIALS if word in MATERIALS[name] for color in found[name]], 0)
        for word in MATERIAL_WORDS
    }


def labelled(folder: Path, words: tuple[str, ...]) -> list[tuple[Path, np.ndarray, list[str]]]:
    """Path, (H, W) truth as an index into `words` or -1, and the present words, of each image with at least two."""
    listed = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))["classes"]
    prompts = {entry["id"]: ALIASES.get(entry["prompt"], entry["prompt"]) for entry in listed}
    rows = []
    for path in sorted((folder / "images").iterdir()):
        ids = np.asarray(Image.open(folder / "labels" / f"{path.stem}.png"))
        truth = np.full(ids.shape, -1)
        for number, prompt in prompts.items():
            if prompt in words:
                truth[ids == number] = words.index(prompt)
        counts = np.bincount(truth[truth >= 0], minlength=len(words))
        truth[(truth >= 0) & (counts[truth] < MIN_PIXELS)] = -1
        present = [word for word, count in zip(words, counts, strict=True) if count >= MIN_PIXELS]
        if len(present) > 1:
            rows.append((path, truth, present))
    return rows


def measure(seg: fgseg.Segmenter, folder: Path, words: tuple[str, ...], colors: dict[str, np.ndarray], resolution: str):
    """Accuracy over all counted pixels, of each class, and of the baselines."""
    rows = labelled(folder, words)
    frequency = np.zeros(len(words))
    for _, truth, _ in rows:
        frequency += np.bincount(truth[truth >= 0], minlength=len(words))
    hits = {name: [] for name in ("model", "most_frequent", "uniform", "mean_color")}
    counts = np.zeros((len(words), len(words)), np.int64)
    for path, truth, present in rows:
        image = read_image(path)
        index = np.array([words.index(word) for word in present])
        counted = truth >= 0
        raw = {"background": (), "threshold": 0.0, "min_area": 0, "max_hole": 0}
        labels = index[seg.segment(image, present, resolution=resolution, **raw).labels]
        distance = [np.linalg.norm(rgb2lab(image)[counted] - colors[word], axis=-1) for word in present]
        hits["model"].append((labels == truth)[counted].sum())
        hits["most_frequent"].append((truth[counted] == index[frequency[index].argmax()]).sum())
        hits["uniform"].append(counted.sum() / len(present))
        hits["mean_color"].append((index[np.argmin(distance, 0)] == truth[counted]).sum())
        counts += confusion(labels, truth, len(words), ignore=-1)
    sizes = np.array([(truth >= 0).sum() for _, truth, _ in rows])
    return summary(words, hits, sizes, counts)


def summary(words, hits, sizes, counts):
    """Accuracies, and the gain over each baseline with its 95 % bootstrap interval over images."""
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(sizes), (2000, len(sizes)))
    totals = sizes[draws].sum(1)
    shares = {name: np.array(values)[draws].sum(1) / totals for name, values in hits.items()}
    report = {"images": len(sizes), "pixels": int(sizes.sum())}
    for name, values in hits.items():
        report[name] = float(np.sum(values) / sizes.sum())
        if name != "model":
            low, high = np.quantile(shares["model"] - shares[name], [0.025, 0.975])
            report[f"gain_over_{name}"] = [report["model"] - report[name], float(low), float(high)]
    recall = class_accuracy(class_counts(counts))
    report["per_class"] = {
        word: {"pixels": int(row.sum()), "recall": float(share)}
        for word, row, share in zip(words, counts, recall, strict=True)
        if row.sum()
    }
    return report


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--resolution", default="auto")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    seg, started = fgseg.load(options.model), time.monotonic()
    colors = mean_colors()
    how = {"colors": colors, "resolution": options.resolution}
    report = {
        "settings": {
            "data": options.data.name, "model": options.model, "weights_sha256": seg.encoder.digest(),
            "refine": seg.defaults.refine, "resolution": options.resolution,
            "dtype": str(seg.encoder.dtype).removeprefix("torch."), "least_pixels": MIN_PIXELS,
            "color_scenes": COLOR_SCENES,
        },
        "main_classes": measure(seg, options.data, MAIN, **how),
        "all_classes": measure(seg, options.data, MATERIAL_WORDS, **how),
        "versions": {"fgseg": fgseg.__version__},
        "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip
    text = json.dumps(report, indent=2)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
