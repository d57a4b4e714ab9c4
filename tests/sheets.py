"""Pictures on a sheet: how tests make them and find them again."""

import numpy as np

LONG = "a very long prompt that describes a wooden table with a red saucer and a spoon on it"


def find(sheet, picture):
    """Every (row, column) at which the sheet holds the picture."""
    height, width = picture.shape[:2]
    corners = sheet[: sheet.shape[0] - height + 1, : sheet.shape[1] - width + 1] == picture[0, 0]
    return [
        (int(top), int(left))
        for top, left in np.argwhere(corners.all(axis=2))
        if (sheet[top : top + height, left : left + width] == picture).all()
    ]


def assert_white_border(sheet):
    for edge in (sheet[0], sheet[-1], sheet[:, 0], sheet[:, -1]):
        assert (edge == 255).all()


def noise(height, width, seed):
    return np.random.RandomState(seed).randint(0, 200, (height, width, 3)).astype(np.uint8)
