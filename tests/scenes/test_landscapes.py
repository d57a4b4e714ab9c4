import numpy as np

from fgseg.scenes import landscapes
from fgseg.scenes.materials import ground


def test_the_extent_of_a_bare_wood_includes_the_sky_between_its_twigs(monkeypatch):
    monkeypatch.setattr(landscapes, "WINTER", 1.0)
    layers = [layer for seed in range(40) for layer in landscapes.outdoors(np.random.default_rng(seed), (48, 48))]
    bare = [layer for layer in layers if layer.material == "tree"]
    assert len(bare) > 10
    assert all(layer.extent is not None for layer in bare)
    covered, labelled = (sum((map_ > 0.5).sum() for map_ in maps) for maps in zip(
        *((layer.coverage, layer.extent) for layer in bare), strict=True
    ))  # fmt: skip
    assert covered < 0.9 * labelled


def test_shadows_darken_grounds_and_mist_makes_the_skyline_pale():
    green = np.full((30, 30, 3), (0.2, 0.5, 0.1), np.float32)
    layer = landscapes.Layer("grass", green, np.ones((30, 30), np.float32))
    surface = ground(np.random.default_rng(0), (30, 30), 0.0)
    (shaded,) = landscapes._shaded(np.random.default_rng(1), surface, [layer])
    assert (shaded.color <= green + 1e-6).all()
    assert (shaded.color[..., 1] < 0.4).any()
    (pale,) = landscapes._misty(np.random.default_rng(1), [layer])
    assert (np.ptp(pale.color, axis=-1) < np.ptp(green, axis=-1)).all()
    assert pale.color.mean() > green.mean()
