"""
A word that competes and labels nothing
=======================================

On the right, "brown" and "tan" are negatives: pixels that are closer to them than to "orange" stay unlabelled.
"""

from PIL import Image
from skimage import data

import fgseg
from fgseg.drawing import grid

alt = "A cat, twice. Alone, orange marks the nose and spots of fur; against brown and tan it marks the nose only."
seg = fgseg.load()
view = seg.encode(data.chelsea())
alone = seg.segment(view, ["orange"])
against = seg.segment(view, ["orange"], negatives=["brown", "tan"])
sheet = [(title, result.overlay(legend=False)) for title, result in (("alone", alone), ("against brown, tan", against))]
Image.fromarray(grid(sheet, columns=2))
