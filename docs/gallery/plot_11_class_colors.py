"""
Classes with colours of your own
================================

A class has a name, words and a colour. In a class file they look the same.
"""

from skimage import data

import fgseg
from fgseg import PromptClass

alt = "An astronaut before a flag and a shuttle. The suit is marked in green, everything black in yellow."
classes = [
    PromptClass("suit", ("orange",), color=(0, 158, 115)),
    PromptClass("dark things", ("black", "dark grey"), color=(240, 228, 66)),
]
result = fgseg.load().segment(data.astronaut(), classes)
result
