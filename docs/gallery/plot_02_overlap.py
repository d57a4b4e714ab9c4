"""
Masks that may overlap
======================

In independent mode each word has a mask of its own: a circle may be checkered as well.
"""

import fgseg
from fgseg.scenes import scene

alt = "Two circles and an oval on orange. The masks of circle, checkered and dark blue lie over each other."
drawn = scene(1, (256, 256), kind="shapes")
result = fgseg.load().segment(drawn.image, ["circle", "checkered", "dark blue"], mode="independent")
result
