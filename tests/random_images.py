"""Images of random pixels."""

import numpy as np


def random_image(height=40, width=60, seed=5):
    """(H, W, 3) uint8, the same for the same seed."""
    return np.random.RandomState(seed).randint(0, 256, (height, width, 3)).astype(np.uint8)
