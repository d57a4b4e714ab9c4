"""
Which caption fits which picture
================================

Whole images are compared with whole captions. The pictures are drawn scenes, and so are their captions.
"""

from PIL import Image

import fgseg
from fgseg.drawing import grid
from fgseg.scenes import scene

alt = "Four drawn pictures. Above each one is the caption of the four that fits it best, with its probability."
pictures = [scene(seed, (256, 256), kind="shapes").image for seed in (3, 8, 9, 10)]
captions = [
    "an azure checkered diamond and a yellow triangle",
    "an orange heart on a grey checkered background",
    "a red circle and a black square on a grey background",
    "a green triangle and a yellow heart",
]
order = fgseg.load().rank(pictures, captions)
best = order.probabilities.argmax(1)
titles = [f"{captions[index]} ({order.probabilities[row, index]:.2f})" for row, index in enumerate(best)]
Image.fromarray(grid(list(zip(titles, pictures, strict=True)), columns=4))
