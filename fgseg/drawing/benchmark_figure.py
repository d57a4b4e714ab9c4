"""The figure of a benchmark: the score of each class, and the confusions between classes."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from fgseg._checks import check_array
from fgseg.drawing.figures import NotebookFigure, draw_matrix, matrix_size, plain_name
from fgseg.errors import ShapeError

__all__ = ["show_benchmark"]

BARS = 40
"""The largest number of bars; of more classes the best and the worst are drawn."""
CONFUSED = 12
"""The largest number of classes in the matrix of confusions."""
BAR = 0.2
"""Height of a bar in inches."""


def show_benchmark(
    names: Sequence[str], scores: NDArray[np.floating], counts: NDArray[np.integer], *, score_name: str = "IoU"
) -> NotebookFigure:
    """Draw the scores of the classes as bars, best first, and a matrix of the largest confusions.

    Args:
        names: C class names.
        scores: (C,) in [0, 1]; NaN for a class that is neither present nor predicted, which is not drawn.
        counts: (C, K) pixels or boxes of each true class (rows) by predicted class (columns). K is at least C; columns
            after the C classes stand for no class. An array of shape (0, 0) draws bars only.
        score_name: label of the bars' axis.

    Returns:
        A figure. Of more than 40 classes it shows the best 20 and the worst 20. The matrix holds up to 12 classes with
        the largest confusions, as shares of the pixels of each true class.

    Raises:
        ShapeError: an array of another shape, or no class with a score.

    >>> figure = show_benchmark(["cat", "dog"], np.array([0.5, 0.8]), np.array([[5, 5], [1, 9]]))
    >>> [axes.get_xlabel() for axes in figure.axes]
    ['IoU', 'predicted']
    """
    check_array("scores", scores, (len(names),), hint="one score per class")
    order = [index for index in np.argsort(-scores, kind="stable").tolist() if np.isfinite(scores[index])]
    if not order:
        raise ShapeError("scores: expected a class with a score, got NaN for all")
    left_out = max(0, len(order) - BARS)
    shown = order if not left_out else [*order[: BARS // 2], *order[-BARS // 2 :]]
    confused = _most_confused(counts, len(names)) if counts.size else []
    sizes = [(5.0, max(2.5, BAR * len(shown) + 1))]
    confused_names = [names[index] for index in confused]
    if confused:
        sizes.append(matrix_size(confused_names, confused_names))
    widths, heights = zip(*sizes, strict=True)
    figure = NotebookFigure(figsize=(sum(widths), max(heights)), layout="constrained")
    panels = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
    _draw_bars(panels[0], [names[index] for index in shown], scores[shown], score_name, left_out)
    if confused:
        shares = counts[np.ix_(confused, confused)] / np.maximum(counts[confused].sum(1), 1)[:, None]
        draw_matrix(panels[1], confused_names, confused_names, shares)
        panels[1].set(xlabel="predicted", ylabel="true")
        panels[1].set_title("largest confusions, shares of pixels", fontsize="small")
    return figure


def _most_confused(counts: NDArray[np.integer], num_classes: int) -> list[int]:
    """Indices of the classes with the largest confusions, ascending; empty where nothing is confused."""
    mistakes = np.array(counts[:, :num_classes])
    np.fill_diagonal(mistakes, 0)
    order = np.argsort(-mistakes, axis=None, kind="stable")[: np.count_nonzero(mistakes)]
    pairs = np.stack(np.divmod(order, num_classes), axis=1)
    return sorted(list(dict.fromkeys(pairs.ravel().tolist()))[:CONFUSED])


def _draw_bars(axes: Axes, names: Sequence[str], scores: NDArray[np.floating], label: str, left_out: int) -> None:
    places = range(len(names))
    axes.barh(places, scores, color="#4477aa", height=0.75)
    axes.set_yticks(places, [plain_name(name) for name in names], parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, 1)
    axes.set_xlabel(label)
    axes.grid(axis="x", alpha=0.3)
    for place, score in zip(places, scores, strict=True):
        axes.text(min(float(score) + 0.01, 0.93), place, f"{100 * score:.0f}", va="center", fontsize="x-small")
    if left_out:
        axes.set_title(f"best and worst; {left_out} in between are not drawn", fontsize="small")
