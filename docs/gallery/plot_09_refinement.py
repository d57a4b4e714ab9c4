"""
Masks that follow edges
=======================

A patch is eight pixels here. The guided filter lets a mask follow the edges of the photograph.
"""

from PIL import Image
from skimage import data

import fgseg
from fgseg.drawing import grid

alt = "A part of a cup, twice. Without refinement the mask of red has soft borders; with it, the mask follows the cup."
seg = fgseg.load()
view = seg.encode(data.coffee()[60:360, 60:360])
sheet = [(name, seg.segment(view, ["red"], refine=name).overlay(legend=False)) for name in ("none", "guided")]
Image.fromarray(grid(sheet, columns=2))
