import numpy as np

from fgseg.scenes import appearance


def test_a_cast_shadow_is_near_its_thing():
    coverage = np.zeros((20, 32), np.float32)
    coverage[8:12, :4] = 1
    darkened = []
    for seed in range(8):  # to each side
        picture = np.ones((20, 32, 3))
        appearance.cast_shadow(np.random.default_rng(seed), picture, coverage)
        assert picture[:, 16:].min() == 1
        darkened.append(np.count_nonzero(picture[..., 0] < 0.9))
    assert max(darkened) > 20


def test_a_form_shadow_has_no_sharp_edge():
    coverage = np.zeros((40, 60), np.float32)
    coverage[5:35, 10:50] = 1
    lights = [appearance.form_shadow(np.random.default_rng(seed), coverage) for seed in range(100)]
    shadowed = [light[coverage > 0] for light in lights if (light < 1).any()]
    assert 10 < len(shadowed) < 45
    assert min(light.min() for light in shadowed) > 0.2
    assert all(np.ptp(light) > 0.1 for light in shadowed)
    assert max(np.abs(np.diff(light, axis=1)).max() for light in lights) < 0.15  # no edge that a pattern might have
    assert (appearance.form_shadow(np.random.default_rng(0), np.zeros((4, 4), np.float32)) == 1).all()


def test_compression_changes_a_picture_little_and_keeps_the_order_of_channels():
    image = np.full((32, 48, 3), (200, 30, 60), np.uint8)
    image[8:24, 8:40] = (30, 60, 200)
    stored = appearance._compressed(image, 40)
    assert stored.shape == image.shape
    assert (stored != image).any()
    assert np.abs(stored[12:20, 16:32].mean((0, 1)) - (30, 60, 200)).max() < 8
