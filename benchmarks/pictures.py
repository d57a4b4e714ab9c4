"""Draw the pictures of the README and of CONTRIBUTING.md: `python benchmarks/pictures.py`.

Those of the README, docs/*.png, are made by the commands printed beneath them. The commands are read from README.md, so
that a picture and its command cannot differ. docs/bases.jpg shows ten photographs over both bases, with and without
outlines; docs/sharper.jpg shows three photographs with masks that are made sharper in several ways.
"""

import re
import shlex
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import skimage
from guides import GUIDED_WAYS, WAYS
from numpy.typing import NDArray
from PIL import Image
from specks import PHOTOGRAPHS, PROMPTS

import fgseg
from fgseg.commands.result_folders import folder_name
from fgseg.drawing.layout import grid
from fgseg.images.resizing import shrink

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PHOTOS = Path(skimage.__file__).parent / "data"
BASE_SIDE, SHARPER_SIDE = 240, 330  # pixels
SHARPENED = {
    "coffee.png": ["red", "white", "brown"],
    "astronaut.png": ["orange", "blue", "white", "black"],
    "rocket.jpg": ["blue", "white"],
}
GUIDED = "self, proxy"  # the way with a guide that docs/sharper.jpg shows
NAMES = {"segment": ("overlay.png", "{image}_overlay.png"), "heatmap": ("heatmaps.png", "{image}_{prompt}.png")}
"""Command -> the file that it writes for an image, and the name of that file in docs."""


def commands() -> list[list[str]]:
    """The words of every command of the README on a photograph of scikit-image, without "fgseg"."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    lines = re.findall(r"^fgseg (.*\$photos/.*)$", readme, re.MULTILINE)
    return [shlex.split(line.replace("$photos", PHOTOS.as_posix())) for line in lines]


def picture_of(words: list[str]) -> tuple[Path, str]:
    """Where a command writes its picture, and the name of the picture in docs."""
    image, prompt = Path(words[1]), words[words.index("-p") + 1]
    written, kept = NAMES[words[0]]
    return Path("out", folder_name(image, image.parent), written), kept.format(image=image.stem, prompt=prompt)


def bases() -> NDArray[np.uint8]:
    """Ten photographs, one per row, over both bases."""
    seg, panels = fgseg.load("mini"), []
    for name in PHOTOGRAPHS:
        result = seg.segment(shrink(fgseg.images.read_image(PHOTOS / name), max_side=BASE_SIDE), PROMPTS)
        for base, outline in product(("photo", "grey"), (False, True)):
            title = f"{base}, {'two tones' if outline else 'no outline'}"
            panels.append((title, result.overlay(base=base, outline=outline, legend=False)))
    return grid(panels, columns=4)


def sharper() -> NDArray[np.uint8]:
    """Three photographs, one per row, with the masks of each way to make them sharper."""
    ways = {**{title: (None, options) for title, options in WAYS.items()}, GUIDED: GUIDED_WAYS[GUIDED]}
    models = {
        recipe: fgseg.load("mini", recipe=recipe or "value", guide=recipe and "self") for recipe, _ in ways.values()
    }
    panels = []
    for name, words in SHARPENED.items():
        image = shrink(fgseg.images.read_image(PHOTOS / name), max_side=SHARPER_SIDE)
        for title, (recipe, options) in ways.items():
            result = models[recipe].segment(image, words, **{"refine": "none", **options})
            panels.append((title, result.overlay(legend=False)))
    return grid(panels, columns=len(ways))


def main() -> None:
    """Run every command and keep its picture; draw the bases and the ways to sharper masks."""
    Image.fromarray(bases()).save(DOCS / "bases.jpg", quality=80)
    Image.fromarray(sharper()).save(DOCS / "sharper.jpg", quality=85)
    for words in commands():
        with TemporaryDirectory() as folder:
            subprocess.run([sys.executable, "-m", "fgseg", *words], cwd=folder, check=True)
            made, name = picture_of(words)
            shutil.copyfile(folder / made, DOCS / name)


if __name__ == "__main__":
    main()
