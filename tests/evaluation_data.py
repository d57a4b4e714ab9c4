"""Small labelled data and tasks for the tests of benchmarks."""

import json
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from fgseg.evaluation.tasks.segmentation import SegmentationTask
from fgseg.evaluation.tasks.settings import settings_for
from fgseg.types import UNLABELLED

COLORS = {"red": (220, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 220)}


def color_folder(root, *, count=3, hw=(24, 32), classes=("red", "green", "blue")):
    """A folder with pictures of coloured rectangles, their labels and a class file."""
    rng = np.random.RandomState(5)
    for kind in ("images", "labels"):
        (root / kind).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        labels = np.zeros(hw, np.uint8)
        for name in (1, 2):
            top, left = rng.randint(0, hw[0] - 8), rng.randint(0, hw[1] - 8)
            labels[top : top + 10, left : left + 12] = name
        labels[0, :2] = 255
        table = np.array([COLORS["red"], COLORS["green"], COLORS["blue"]], np.uint8)
        pixels = table[np.minimum(labels, 2)]
        Image.fromarray(pixels).save(root / "images" / f"{index}.png")
        Image.fromarray(labels).save(root / "labels" / f"{index}.png")
    (root / "classes.txt").write_text("\n".join(classes) + "\n")
    return root


def picture(path, hw=(24, 32), seed=0):
    """Write a picture of noise; returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.RandomState(seed).randint(0, 256, (*hw, 3)).astype(np.uint8)).save(path)
    return path


def write_json(path, value):
    """Write a JSON file; returns its path."""
    Path(path).write_text(json.dumps(value), encoding="utf-8")
    return path


def segmentation_task(seg, dataset, **given):
    """A segmentation at a small size."""
    return SegmentationTask(seg, dataset, settings_for(seg, dataset, resolution="squash:32", **given))


def without_timing(document):
    """The document of a run without its times."""
    return {key: value for key, value in document.items() if key != "timing"}


@st.composite
def labelled_maps(draw):
    """A prediction and its truth, of up to 6 x 6 pixels and three classes."""
    rng = np.random.RandomState(draw(st.integers(0, 2**31 - 1)))
    size = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    truth = rng.choice([0, 1, 2, 255], size).astype(np.int32)
    return rng.choice([0, 1, 2, UNLABELLED], size).astype(np.int32), truth
