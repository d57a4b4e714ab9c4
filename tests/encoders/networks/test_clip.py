"""The window of NACLIP, the long position table, and the inputs that CLIP refuses."""

import numpy as np
import pytest
import torch
from tiny_models import CLIP, golden_encoder

from fgseg.encoders.networks.clip import gaussian_window
from fgseg.encoders.networks.fgclip import stretch_positions
from fgseg.errors import OptionError, ShapeError


def test_the_neighbourhood_window_falls_off_with_the_distance_on_a_grid_that_is_not_square():
    window = gaussian_window((2, 3), sigma=2.0)
    for first in range(6):
        for second in range(6):
            squared = (first // 3 - second // 3) ** 2 + (first % 3 - second % 3) ** 2
            assert window[first, second] == pytest.approx(np.exp(-squared / 8), abs=1e-6)


def test_the_long_positions_start_from_the_short_ones_by_the_published_formula():
    table = torch.from_numpy(np.random.RandomState(2).normal(size=(77, 3)).astype(np.float32))
    long = stretch_positions(table)
    assert long.shape == (248, 3)
    assert torch.equal(long[:20], table[:20])
    for i in range(57):
        for j in range(4):
            step = table[21 + i] - table[20 + i] if i < 56 else table[76] - table[75]
            np.testing.assert_allclose(long[20 + 4 * i + j], table[20 + i] + j / 4 * step, atol=1e-6)


def test_clip_refuses_pixels_and_ids_it_cannot_take():
    model = golden_encoder(CLIP).model
    with pytest.raises(ShapeError, match=r"pixel_values: expected an array of shape \(B, 3, H, W\)"):
        model.dense_features(torch.zeros(3, 96, 96))
    with pytest.raises(ShapeError, match=r"pixel_values: expected sides of at least 16, got \(96, 15\)"):
        model.image_features(torch.zeros(1, 3, 96, 15))
    with pytest.raises(OptionError, match="recipe: expected one of value"):
        model.dense_features(torch.zeros(1, 3, 96, 96), recipe="proxy")
    with pytest.raises(ShapeError, match="expected the end token 599 in every row, row 1 has none"):
        model.text_features(torch.tensor([[598, 599], [598, 7]]))
    with pytest.raises(ShapeError, match="input_ids: expected at most 77 tokens on the region route, got 78"):
        model.text_features(torch.tensor([[598, *[7] * 76, 599]]))
    with pytest.raises(ShapeError, match=r"input_ids: expected an array of shape \(T, L\)"):
        model.text_features(torch.tensor([598, 599]))
    with pytest.raises(OptionError, match="route: expected one of region, short, got 'long'"):
        model.limit("long")
