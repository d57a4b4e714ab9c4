"""
Heatmaps of three words
=======================

The presence of each word, before any threshold. 0 is absent, 0.5 is a tie with the background, and 1 is certain.
"""

from skimage import data

import fgseg

alt = "An astronaut, and three heatmaps. Orange is bright on her suit, blue on the flag, black on the helmet."
seg = fgseg.load()
maps = seg.heatmaps(data.astronaut(), ["orange", "blue", "black"])
maps
