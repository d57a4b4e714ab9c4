"""
A figure for a paper
====================

`figure()` is a matplotlib figure 6 inches wide. In PDF and SVG its legend stays text.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from skimage import data

import fgseg

alt = "A cup of coffee with masks of red and white on a grey photograph, and a legend below it."
figure = fgseg.load().segment(data.coffee(), ["red", "white"]).figure()
with TemporaryDirectory() as folder:
    figure.savefig(Path(folder) / "coffee.pdf")
figure
