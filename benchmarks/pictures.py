"""Draw the pictures of the README, docs/*.png, with the embedded model: `python benchmarks/pictures.py`."""

from pathlib import Path

from skimage import data

import fgseg
from fgseg.drawing.sheet import heatmap_sheet
from fgseg.images.resizing import shrink
from fgseg.images.writing import write_image

DOCS = Path(__file__).parents[1] / "docs"
GALLERY_SIDE = 480  # pixels
GALLERY = {
    "astronaut": ("orange", "blue", "white", "black"),
    "coffee": ("red", "white", "brown"),
    "chelsea": ("orange, brown", "green", "white"),
    "rocket": ("blue", "white", "orange"),
}


def main() -> None:
    """Draw and write every picture."""
    seg = fgseg.load("mini")
    for name, prompts in GALLERY.items():
        overlay = seg.segment(shrink(getattr(data, name)(), max_side=GALLERY_SIDE), prompts).overlay()
        write_image(DOCS / f"{name}_overlay.png", overlay)
    coffee = seg.encode(data.coffee())
    write_image(DOCS / "coffee_red.png", heatmap_sheet(coffee.image, seg.heatmaps(coffee, ["red"])))


if __name__ == "__main__":
    main()
