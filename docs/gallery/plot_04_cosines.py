"""
Cosines of patches
==================

The raw cosines of patches and words, as FG-CLIP's model card draws them. They have no common scale; presence does.
"""

from skimage import data

import fgseg
from fgseg.drawing import NotebookFigure

alt = "Two grids of squares in colours from dark to bright: the cosines of red and of white for each patch of a cup."
cosines = fgseg.load().similarity(data.coffee(), ["red", "white"], resolution="keep")
figure = NotebookFigure(figsize=(8, 3), layout="constrained")
for axes, grid, word in zip(figure.subplots(1, 2), cosines, ["red", "white"], strict=True):
    shown = axes.imshow(grid)
    axes.set(title=word, xticks=[], yticks=[])
    figure.colorbar(shown, ax=axes)
figure
