import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from fgseg.drawing.benchmark_figure import BARS, CONFUSED, show_benchmark
from fgseg.errors import ShapeError


def labels_of(axes):
    return [text.get_text() for text in axes.get_yticklabels()]


def test_bars_are_sorted_and_classes_without_a_score_are_left_out():
    figure = show_benchmark(["a", "b", "$c$"], np.array([0.2, np.nan, 0.7]), np.zeros((0, 0), int))
    (bars,) = figure.axes
    assert labels_of(bars) == ["$c$", "a"]
    assert [bar.get_width() for bar in bars.patches] == [0.7, 0.2]
    FigureCanvasAgg(figure).draw()


def test_of_more_than_forty_classes_the_best_and_the_worst_are_drawn_and_the_title_says_so():
    names = [f"class {index}" for index in range(60)]
    figure = show_benchmark(names, np.linspace(1, 0, 60), np.zeros((0, 0), int))
    assert len(labels_of(figure.axes[0])) == BARS
    assert figure.axes[0].get_title() == "best and worst; 20 in between are not drawn"


def test_the_matrix_holds_the_classes_with_the_largest_confusions_as_shares_of_their_pixels():
    counts = np.diag([100] * 20)
    counts[3, 7], counts[5, 3] = 300, 50
    figure = show_benchmark([f"class {i}" for i in range(20)], np.full(20, 0.5), counts)
    matrix = figure.axes[1]
    assert labels_of(matrix) == ["class 3", "class 5", "class 7"]
    shares = matrix.get_images()[0].get_array()
    np.testing.assert_allclose(shares, [[0.25, 0, 0.75], [1 / 3, 2 / 3, 0], [0, 0, 1]])


def test_the_matrix_holds_a_limited_number_of_classes():
    counts = np.ones((40, 41), int)
    figure = show_benchmark([f"class {i}" for i in range(40)], np.full(40, 0.5), counts)
    assert len(labels_of(figure.axes[1])) == CONFUSED


def test_without_a_confusion_there_is_no_matrix():
    assert len(show_benchmark(["a", "b"], np.ones(2), np.diag([3, 4])).axes) == 1


def test_scores_of_another_shape_and_scores_that_are_all_nan_are_refused():
    with pytest.raises(ShapeError, match=r"scores: expected an array of shape \(2\), got"):
        show_benchmark(["a", "b"], np.ones(3), np.zeros((0, 0), int))
    with pytest.raises(ShapeError, match="scores: expected a class with a score"):
        show_benchmark(["a"], np.array([np.nan]), np.zeros((0, 0), int))
