"""How well a model segments procedural scenes that are not used in training: `python benchmarks/scenes.py`.

The prompts of a scene are the full phrases of its things and two phrases that describe nothing in it. The script prints
the following figures and writes them as JSON:

* mIoU over regions, where a region is one phrase of one scene, as in referring-expression segmentation: of all kinds of
  scenes, of each kind, and of scenes whose front thing is a combination that is held out from training;
* the share of pixels that absent phrases win at the default threshold, with other prompts and as the only prompt;
* how often the true one of eleven captions that differ in one attribute fits the box of a shape best;
* retrieval among the captions of the scenes.

The baselines are the largest thing everywhere, and a random phrase.

The default threshold of the model is chosen on other scenes by one rule: the lowest threshold at which an absent phrase
that is the only prompt gets under 1 % of the pixels. The share at that threshold is measured on further scenes, which
were not used for the choice. They are many, because a few scenes in a thousand contribute most of the share.
"""

import argparse
import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

import fgseg
from fgseg.metrics import confusion, iou
from fgseg.scenes.captions import change_phrase, long_caption, random_phrase, short_caption
from fgseg.scenes.composition import KINDS, phrase_truth, scene
from fgseg.scenes.vocabulary import CLUTTER, SHAPES
from fgseg.types import UNLABELLED

RAW = {"min_area": 0, "max_hole": 0}  # every pixel counts
FIRST_SEED = 10_000_000  # training takes seeds from 0 up, below 10,000,000
SWEEP_SEED = 20_000_000  # the threshold is chosen on these
ALONE_SEED = 30_000_000  # nothing is chosen on these
ABSENT = 2
ALONE = 4  # absent phrases of a scene, each of which is the only prompt once
ALONE_SHARE = 0.01  # maximum share of pixels that such a phrase may get
THRESHOLD_RULE = (
    f"the lowest at which an absent phrase that is the only prompt gets under {ALONE_SHARE:.0%} of the pixels"
)
MIN_SHARE = 0.001  # of the picture; smaller things (under 50 pixels at 224) are neither prompted nor counted
FALSE_CAPTIONS = 10  # beside a true one, as in FG-OVD
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.8, 0.9)


def absent_phrases(rng: np.random.Generator, drawn, count: int) -> list[str]:
    """Phrases that are false for everything in the scene."""
    texts: list[str] = []
    while len(texts) < count:
        phrase = random_phrase(rng)
        if not phrase_truth(drawn.things, [phrase]).any() and phrase.text not in texts:
            texts.append(phrase.text)
    return texts


def named_areas(drawn) -> tuple[list[str], np.ndarray]:
    """Distinct full phrases of the visible things, and (H, W) truth as an index into them, -1 elsewhere."""
    names = [thing.phrase.text for thing in drawn.things]
    named = [index for index, thing in enumerate(drawn.things) if thing.shape != CLUTTER]
    shown = [index for index in named if (drawn.labels == index).mean() >= MIN_SHARE]
    texts = list(dict.fromkeys(names[index] for index in shown))
    truth = np.array([texts.index(name) if name in texts else -1 for name in names])[drawn.labels]
    return texts, truth


def region_ious(labels: np.ndarray, truth: np.ndarray, measured: Sequence[int]) -> list[float]:
    """Intersection over union of the measured phrases of one scene; -1 in either map belongs to no phrase."""
    count = int(max(labels.max(), truth.max())) + 2
    per_phrase = iou(confusion(labels + 1, truth + 1, count, ignore=None))[1:]
    return [float(per_phrase[index]) for index in measured]


def measure(
    seg: fgseg.Segmenter, *, count: int, side: int, resolution: str, kind: str | None = None, held_out: bool = False
) -> dict[str, float]:
    """The figures of `count` scenes, of one kind or of all kinds in the proportions of training."""
    rng = np.random.default_rng(0)
    ious, largest, chance, won, absent_pixels = [], [], [], 0, 0
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        drawn = scene(seed, (side, side), kind=kind, held_out=held_out)
        texts, truth = named_areas(drawn)
        absent = absent_phrases(rng, drawn, ABSENT)
        labels = seg.segment(drawn.image, [*texts, *absent], resolution=resolution, **RAW).labels
        front = drawn.things[-1].phrase.text  # only this thing is certain to be a held-out combination
        measured = [k for k, text in enumerate(texts) if text == front or not held_out]
        ious += region_ious(labels, truth, measured)
        largest += region_ious(np.full_like(labels, np.bincount(truth[truth >= 0]).argmax()), truth, measured)
        chance += region_ious(rng.integers(0, len(texts), labels.shape), truth, measured)
        won += int((labels >= len(texts)).sum())
        absent_pixels += labels.size * ABSENT
    return {
        "scenes": count,
        "miou": float(np.mean(ious)),
        "miou_low": float(np.quantile(_bootstrap(ious), 0.025)),
        "miou_high": float(np.quantile(_bootstrap(ious), 0.975)),
        "baseline_largest": float(np.mean(largest)),
        "baseline_random": float(np.mean(chance)),
        "absent_share": won / absent_pixels,
    }


def absent_alone(seg: fgseg.Segmenter, *, count: int, side: int, resolution: str) -> dict[str, float]:
    """Share of the pixels that an absent phrase gets when it is the only prompt, on separate scenes."""
    rng = np.random.default_rng(1)
    shares = []
    for seed in range(ALONE_SEED, ALONE_SEED + count):
        drawn = scene(seed, (side, side))
        view = seg.encode(drawn.image, resolution=resolution)
        for text in absent_phrases(rng, drawn, ALONE):
            shares.append(float((seg.segment(view, [text], **RAW).labels != UNLABELLED).mean()))
    means = _bootstrap(np.reshape(shares, (count, ALONE)).mean(1))
    return {
        "scenes": count,
        "phrases_of_each": ALONE,
        "absent_alone_mean": float(np.mean(shares)),
        "absent_alone_low": float(np.quantile(means, 0.025)),
        "absent_alone_high": float(np.quantile(means, 0.975)),
        "absent_alone_worst": float(np.max(shares)),
    }


def sweep(seg: fgseg.Segmenter, *, count: int, side: int, resolution: str) -> list[dict[str, float]]:
    """The mIoU and the absent share of other scenes at each threshold, for the choice of the default."""
    rng = np.random.default_rng(3)
    rows = {threshold: ([], [], []) for threshold in THRESHOLDS}
    for seed in range(SWEEP_SEED, SWEEP_SEED + count):
        drawn = scene(seed, (side, side))
        texts, truth = named_areas(drawn)
        view = seg.encode(drawn.image, resolution=resolution)
        absent = absent_phrases(rng, drawn, ALONE)
        prompts, lone = [*texts, *absent[:ABSENT]], [seg.segment(view, [text]).scores[text] for text in absent]
        for threshold, (ious, shares, alone) in rows.items():
            labels = seg.segment(view, prompts, threshold=threshold, **RAW).labels
            ious += region_ious(labels, truth, range(len(texts)))
            shares.append((labels >= len(texts)).mean() / ABSENT)
            alone.append(np.mean([score >= threshold for score in lone]))
    return [
        {
            "threshold": threshold,
            "miou": float(np.mean(ious)),
            "absent_share": float(np.mean(shares)),
            "absent_alone_mean": float(np.mean(alone)),
        }
        for threshold, (ious, shares, alone) in rows.items()
    ]


def chosen_threshold(rows: list[dict[str, float]]) -> float:
    """The lowest threshold of a sweep at which the share of an absent phrase as the only prompt is small enough."""
    return min(row["threshold"] for row in rows if row["absent_alone_mean"] < ALONE_SHARE)


def fine_grained(seg: fgseg.Segmenter, *, count: int, side: int) -> dict[str, float]:
    """How often the true phrase of a shape fits its box best among phrases that differ in one attribute."""
    rng, right = np.random.default_rng(4), []
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        drawn = scene(seed, (side, side), kind="shapes")
        view = seg.encode(drawn.image, resolution="keep")
        for index, thing in enumerate(drawn.things):
            rows, columns = np.nonzero(drawn.labels == index)
            if thing.shape not in SHAPES or len(rows) < MIN_SHARE * drawn.labels.size:
                continue
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            texts = [thing.phrase.text, *false_captions(rng, thing)]
            right.append(int(seg.score_boxes(view, [box], texts, resolution="keep").cosine[0].argmax() == 0))
    chance = 1 / (1 + FALSE_CAPTIONS)
    return {"boxes": len(right), "captions": 1 + FALSE_CAPTIONS, "top1": float(np.mean(right)), "chance": chance}


def false_captions(rng: np.random.Generator, thing) -> list[str]:
    """Distinct phrases in which one attribute of the thing is changed, and which are false for it."""
    texts: list[str] = []
    while len(texts) < FALSE_CAPTIONS:
        phrase = change_phrase(rng, thing.phrase)
        if phrase_truth([thing], [phrase])[0, 0] == 0 and phrase.text not in texts:
            texts.append(phrase.text)
    return texts


def retrieval(seg: fgseg.Segmenter, *, count: int, side: int) -> dict[str, float]:
    """Recall at 1 in both directions among scenes of shapes and their captions; two landscapes may share a caption."""
    drawn = [scene(seed, (side, side), kind="shapes") for seed in range(FIRST_SEED, FIRST_SEED + count)]
    figures = {}
    for route, caption in (("short", short_caption), ("long", long_caption)):
        cosine = seg.rank([one.image for one in drawn], [caption(one) for one in drawn], route=route).cosine
        right = np.arange(count)
        figures[f"recall_image_to_{route}"] = float((cosine.argmax(1) == right).mean())
        figures[f"recall_{route}_to_image"] = float((cosine.argmax(0) == right).mean())
    return figures


def _bootstrap(values: list[float] | np.ndarray, repeats: int = 1000) -> np.ndarray:
    """Means of resamples, for a 95 % interval; the draws are those of the published intervals."""
    rng = np.random.default_rng(2)
    array = np.array(values)
    return np.array([array[rng.integers(0, len(array), len(array))].mean() for _ in range(repeats)])


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument(
        "--sweep", type=int, default=600, help="number of other scenes, on which the threshold is chosen"
    )
    parser.add_argument(
        "--alone", type=int, default=1000, help="number of scenes for absent phrases as the only prompt"
    )
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--resolution", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "scenes.json")
    options = parser.parse_args()
    seg = fgseg.load(options.model, dtype=options.dtype)
    started = time.monotonic()
    how = {"count": options.scenes, "side": options.side, "resolution": options.resolution}
    swept = sweep(seg, **how | {"count": options.sweep})
    report = {
        "settings": {
            **how, "first_seed": FIRST_SEED, "absent_phrases": ABSENT, "threshold": seg.defaults.threshold,
            "model": options.model, "weights_sha256": seg.encoder.digest(), "refine": seg.defaults.refine,
            "sweep_seed": SWEEP_SEED, "sweep_scenes": options.sweep, "alone_seed": ALONE_SEED,
            "dtype": str(seg.encoder.dtype).removeprefix("torch."), "background": list(seg.defaults.background),
        },
        "seen": measure(seg, **how),
        "by_kind": {
            kind: measure(seg, kind=kind, **how | {"count": options.scenes // 2})
            for kind, share in KINDS.items()
            if share
        },
        "held_out": measure(seg, held_out=True, **how),
        "fine_grained": fine_grained(seg, count=options.scenes, side=options.side),
        "alone": absent_alone(seg, **how | {"count": options.alone}),
        "threshold_sweep": swept,
        "chosen_threshold": chosen_threshold(swept),
        "threshold_rule": THRESHOLD_RULE,
        "retrieval": retrieval(seg, count=100, side=options.side),
        "versions": {"fgseg": fgseg.__version__, "torch": torch.__version__, "numpy": np.__version__},
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads()},
        "seconds": round(time.monotonic() - started, 1),
    }  # fmt: skip
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({key: value for key, value in report.items() if key != "settings"}, indent=2))


if __name__ == "__main__":
    main()
