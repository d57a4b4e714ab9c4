import numpy as np
import pytest

from fgseg.scenes.materials import PAINTERS, facing, ground
from fgseg.scenes.vocabulary import (
    MATERIALS,
)


@pytest.mark.parametrize("material", MATERIALS)
def test_every_material_has_finite_colours_that_vary(material):
    for seed, surface in enumerate(
        (facing(np.random.default_rng(1), (40, 60)), ground(np.random.default_rng(2), (40, 60), 0.3))
    ):
        color = PAINTERS[material](np.random.default_rng(seed), surface)
        assert color.shape == (40, 60, 3)
        assert np.isfinite(color).all()
        assert color.std((0, 1)).max() > 1e-3
