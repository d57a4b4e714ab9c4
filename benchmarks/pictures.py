"""The README's pictures: `python benchmarks/pictures.py` draws docs/*.png with the embedded model."""

from pathlib import Path

from skimage import data

import fgseg
from fgseg.io import write_image
from fgseg.render import heatmap_beside

DOCS = Path(__file__).parents[1] / "docs"


def main() -> None:
    """Draw and write every picture."""
    seg = fgseg.load("mini")
    coffee = seg.encode(data.coffee())
    write_image(DOCS / "coffee_overlay.png", seg.segment(coffee, ["red", "white", "brown"]).overlay())
    write_image(DOCS / "coffee_red.png", heatmap_beside(coffee.image, seg.heatmaps(coffee, ["red"])["red"], "red"))


if __name__ == "__main__":
    main()
