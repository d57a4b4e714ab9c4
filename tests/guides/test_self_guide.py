"""The guide "self": the middle of the encoder itself."""

import numpy as np
import pytest
import torch
from tiny_models import CLIP, FG_CLIP, FG_CLIP_2, golden_encoder

from fgseg.encoders.base import Guide
from fgseg.guides.loading import with_guide
from fgseg.guides.self_guide import SelfGuide

IMAGE = np.random.RandomState(9).randint(0, 256, (48, 80, 3), dtype=np.uint8)
NAMES = (CLIP, FG_CLIP, FG_CLIP_2)


@pytest.mark.parametrize("name", NAMES)
def test_its_features_are_the_hidden_states_in_the_middle_of_the_tower(name):
    encoder = golden_encoder(name)
    guide = SelfGuide(encoder)
    assert isinstance(guide, Guide)
    (found,) = guide.features([IMAGE], [(3, 5)], kind="hidden")
    states, layers = [], encoder.model.vision_model.encoder.layers
    handles = [layer.register_forward_hook(lambda _module, _given, out: states.append(out)) for layer in layers]
    encoder.encode_images([IMAGE], fit="exact")
    for handle in handles:
        handle.remove()
    middle = states[(len(layers) + 1) // 2 - 1][0]
    middle = middle[-15:]  # without the class token
    expected = torch.nn.functional.normalize(middle, dim=-1).reshape(3, 5, -1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fit", ["squash", "keep", "exact"])
def test_it_has_the_grid_of_the_encoder_so_that_nothing_is_resampled(name, fit):
    encoder = with_guide(golden_encoder(name), "self", recipe="proxy")
    (plain,) = golden_encoder(name).encode_images([IMAGE], fit=fit)
    (guided,) = encoder.encode_images([IMAGE], fit=fit)
    (hint,) = encoder.guide_features([IMAGE], fit=fit)
    assert plain.grid.shape == guided.grid.shape
    assert hint.shape[:2] == plain.grid.shape[:2]
    assert encoder.guide.settings("hidden")["name"] == "self"
