import numpy as np

from fgseg.field import _podium


def test_podium_names_winner_score_and_runner_up_with_ties_to_the_lowest_index():
    maps = [np.array([[0.5, 0.1, 0.2]], np.float32), np.array([[0.5, 0.3, 0.1]], np.float32),
            np.array([[0.2, 0.2, 0.4]], np.float32)]  # fmt: skip
    winner, best, second = _podium(iter(maps))
    assert winner.tolist() == [[0, 1, 2]]
    np.testing.assert_array_equal(best, np.array([[0.5, 0.3, 0.4]], np.float32))
    np.testing.assert_array_equal(second, np.array([[0.5, 0.2, 0.2]], np.float32))


def test_podium_leaves_its_maps_as_they_were():
    first = np.array([[0.1]], np.float32)
    _podium(iter([first, np.array([[0.9]], np.float32)]))
    assert first[0, 0] == np.float32(0.1)
