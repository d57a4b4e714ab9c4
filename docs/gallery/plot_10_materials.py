"""
Materials of an outdoor scene
=============================

The embedded model knows a few materials. This scene is drawn, and so is what it was trained on.
"""

import fgseg
from fgseg.scenes import scene

alt = "A drawn landscape. Sky, a building, a tree, a road and snow are marked in five colours."
drawn = scene(5, (256, 384), kind="outdoors")
result = fgseg.load().segment(drawn.image, ["sky", "building", "tree", "road", "snow"])
result
