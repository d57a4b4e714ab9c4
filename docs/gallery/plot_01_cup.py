"""
One class for each pixel
========================

Three words share the pixels of a photograph. "brown, tan" are two words for one class.
"""

from skimage import data

import fgseg

alt = "A cup of coffee. The cup and the saucer are marked as red, the table as brown, and the spoon as white."
result = fgseg.load().segment(data.coffee(), ["red", "white", "brown, tan"])
result
