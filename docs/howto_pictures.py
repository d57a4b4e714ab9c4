"""Draw the pictures of the how-to pages: `python docs/howto_pictures.py [NAME ...]`, all unless some are named.

Draw them again after a change of what they show.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from skimage import data

import fgseg
from fgseg.drawing import grid
from fgseg.images import read_image, read_picture, shrink

__all__ = ["DRAWINGS", "main"]

FOLDER = Path(__file__).parent / "pictures"
WIDTH = 1200
"""Pixels; a page shows about 800, and screens of phones have more pixels than they say."""

Sheet = NDArray[np.uint8]


def folder() -> Sheet:
    """Four photographs with their masks."""
    seg = fgseg.load()
    photographs = {
        "coffee.png": (data.coffee(), ["red", "white", "brown"]),
        "astronaut.png": (data.astronaut(), ["orange", "blue", "white", "black"]),
        "chelsea.png": (data.chelsea(), ["orange, brown", "white"]),
        "rocket.jpg": (data.rocket(), ["blue", "white", "orange"]),
    }
    panels = [(name, seg.segment(image, words).overlay(legend=False)) for name, (image, words) in photographs.items()]
    return grid([(name, shrink(picture, max_side=600)) for name, picture in panels], columns=2)


def thresholds() -> Sheet:
    """One word and three thresholds."""
    seg = fgseg.load()
    view = seg.encode(data.rocket())
    return grid(
        [
            (f"blue, from {value}", seg.segment(view, ["blue"], threshold=value).overlay(legend=False))
            for value in (0.3, 0.6, 0.9)
        ],
        columns=3,
    )


def specks() -> Sheet:
    """Letters, which are smaller than a quarter of a patch."""
    seg = fgseg.load()
    view = seg.encode(np.dstack([data.page()] * 3))
    sizes: tuple[tuple[str, dict[str, Any]], ...] = (
        ("--min-area 0 --max-hole 0", {"min_area": 0, "max_hole": 0}),
        ("by default", {}),
    )
    masks = [(name, seg.segment(view, ["black"], **size).masks["black"]) for name, size in sizes]
    return grid([(name, np.dstack([np.where(mask, 0, 255).astype(np.uint8)] * 3)) for name, mask in masks], columns=2)


def bands() -> Sheet:
    """A photograph of 12 bits in 16, stretched, and with a corner that has no data."""
    stored = data.coffee().astype(np.uint16) * 12
    cut = stored.astype(np.float32)
    cut[:150, :200] = np.nan
    stretched = read_picture(cut, stretch=(2, 98))
    result = fgseg.load().segment(stretched, ["red", "white", "brown"])
    return grid([
        ("as it is stored", read_image(stored)),
        ("--stretch 2,98", read_picture(stored, stretch=(2, 98)).rgb),
        ("masks; the corner has no data", result.overlay(legend=False)),
    ], columns=3)  # fmt: skip


def large() -> Sheet:
    """A wide picture that is read window by window."""
    import tifffile

    seg = fgseg.load()
    picture = np.hstack([photograph[:400] for photograph in (data.coffee(), data.rocket(), data.astronaut())])
    words = ["red", "blue", "orange", "brown", "white"]
    with TemporaryDirectory() as folder_name:
        path = Path(folder_name) / "big.tif"
        tifffile.imwrite(path, picture, tile=(256, 256), photometric="rgb")
        result = seg.segment_large(path, words, path.with_name("labels.tif"))
        masks = result.overlay()
    drawn = Image.fromarray(picture)
    pen, side = ImageDraw.Draw(drawn), 224
    downs, acrosses = ([*range(0, size - side, side // 2), size - side] for size in picture.shape[:2])
    for top in downs:
        for left in acrosses:
            pen.rectangle((left, top, left + side, top + side), outline=(255, 255, 255))
    return grid([("windows", np.asarray(drawn)), ("masks", masks)], columns=1)


def exports() -> Figure:
    """What three formats hold of one result."""
    result = fgseg.load().segment(data.coffee(), ["red", "white", "brown"])
    figure = Figure((9, 2.4), layout="constrained")
    panels: dict[str, Any] = {
        "labels": result.overlay(legend=False),
        "masks": result.masks["red"],
        "geojson": np.full_like(data.coffee(), 255),
    }
    for axes, (name, picture) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        axes.imshow(picture, cmap="gray")
        axes.set(title=name, xticks=[], yticks=[])
        if name == "geojson":
            for mask, color in zip(result.masks.values(), ("#c00000", "#888888", "#7a4a1e"), strict=True):
                axes.contour(mask, [0.5], colors=[color], linewidths=1)
    return figure


def benchmark() -> Sheet:
    """The figure of a benchmark of the embedded model on procedural scenes."""
    return _of_command(
        ["bench", "--data", "scenes-materials", "--scenes", "12", "--out", "out"], "out/scenes-materials/figure.png"
    )


def _of_command(words: list[str], name: str) -> Sheet:
    """A picture that a command of fgseg writes."""
    import contextlib

    from fgseg.commands.main import main as run

    with TemporaryDirectory() as folder_name, contextlib.chdir(folder_name):
        with contextlib.suppress(SystemExit):
            run(words)
        return read_image(name)


DRAWINGS: dict[str, Callable[[], Sheet | Figure]] = {
    "folder.jpg": folder,
    "thresholds.jpg": thresholds,
    "specks.jpg": specks,
    "bands.jpg": bands,
    "large.jpg": large,
    "exports.png": exports,
    "benchmark.png": benchmark,
}
"""File -> the function that draws it."""


def main() -> None:
    """Draw the pictures that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(DRAWINGS))
    FOLDER.mkdir(exist_ok=True)
    for name in parser.parse_args().names or DRAWINGS:
        drawn = DRAWINGS[name]()
        if isinstance(drawn, Figure):
            drawn.savefig(FOLDER / name, dpi=110, facecolor="white")
        else:
            Image.fromarray(shrink(drawn, max_side=WIDTH)).save(FOLDER / name, quality=88)
        print(name)


if __name__ == "__main__":
    main()
