import numpy as np

from fgseg.scenes.trees import bare_tree, crown


def test_a_bare_tree_stands_on_its_foot_and_its_crown_has_openings():
    coverage = bare_tree(np.random.default_rng(4), (120, 160), (110.0, 80.0), 90.0)
    extent = crown(coverage, 90.0)
    assert coverage.min() == 0
    assert coverage.max() == 1
    assert not coverage[115:].any()  # the end of the trunk is round
    assert coverage[100, 70:90].max() == 1  # the trunk
    assert 30 < 110 - np.nonzero(coverage.any(1))[0][0] < 130  # about as tall as requested
    assert set(np.unique(extent)) == {0, 1}
    assert (extent[coverage > 0.1] == 1).all()
    assert (coverage > 0.1).sum() < 0.85 * extent.sum()


def test_a_crown_does_not_grow_at_the_edge_of_the_picture():
    coverage = np.zeros((20, 20), np.float32)
    coverage[:4, 9] = 1
    np.testing.assert_array_equal(crown(coverage, 40.0), coverage)
