"""
What a threshold does
=====================

One map and three thresholds. The image is encoded once.
"""

from PIL import Image
from skimage import data

import fgseg
from fgseg.drawing import grid

alt = "A rocket at dusk, three times. The mask of blue sky shrinks as the threshold rises from 0.3 to 0.9."
seg = fgseg.load()
view = seg.encode(data.rocket())
sheet = []
for threshold in (0.3, 0.6, 0.9):
    result = seg.segment(view, ["blue"], threshold=threshold)
    sheet.append((f"blue, from {threshold}", result.overlay(legend=False)))
Image.fromarray(grid(sheet, columns=3))
