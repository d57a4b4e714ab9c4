"""Figures of a benchmark: how well each class is found, and which classes are taken for which."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from fgseg._checks import check_array
from fgseg.drawing.colors import COLORMAPS
from fgseg.drawing.figures import NotebookFigure, plain_name
from fgseg.errors import ShapeError

__all__ = ["show_benchmark"]

BARS = 40
"""Most classes drawn as bars: the best and the worst of more."""
CONFUSED = 12
"""Most classes in the matrix of confusions."""
_BAR, _CELL = 0.2, 0.42  # inches


def show_benchmark(
    names: Sequence[str], scores: NDArray[np.floating], counts: NDArray[np.integer], *, score_name: str = "IoU"
) -> NotebookFigure:
    """Bars of the classes, best first, and the confusions of the classes that are confused most.

    Args:
        names: C class names.
        scores: (C,) in [0, 1]; NaN for a class that is neither there nor predicted, which is not drawn.
        counts: (C, K) pixels or boxes of each true class (rows) given each class (columns); K is C, or more, where
            columns behind the classes stand for no class. Without rows (0, 0), bars alone.
        score_name: what the bars show.

    Returns:
        A figure. Above 40 classes the best and the worst 20; the matrix has up to 12 classes of the largest mistakes,
        in shares of each class's pixels.

    Raises:
        ShapeError: arrays of other sizes, or no class with a score.

    >>> figure = show_benchmark(["cat", "dog"], np.array([0.5, 0.8]), np.array([[5, 5], [1, 9]]))
    >>> [axes.get_xlabel() for axes in figure.axes]
    ['IoU', 'predicted']
    """
    check_array("scores", scores, (len(names),), hint="one a class")
    order = [index for index in np.argsort(-scores, kind="stable").tolist() if np.isfinite(scores[index])]
    if not order:
        raise ShapeError("scores: expected a class with a score, got NaN for all")
    left_out = max(0, len(order) - BARS)
    shown = order if not left_out else [*order[: BARS // 2], *order[-BARS // 2 :]]
    confused = _most_confused(counts, len(names)) if counts.size else []
    height = max(2.5, _BAR * len(shown) + 1, _CELL * len(confused) + 1.8)
    widths = [5.0, _CELL * len(confused) + 2.5] if confused else [5.0]
    figure = NotebookFigure(figsize=(sum(widths), height), layout="constrained")
    panels = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
    _draw_bars(panels[0], [names[i] for i in shown], scores[shown], score_name, left_out)
    if confused:
        _draw_confusion(panels[1], [names[i] for i in confused], counts[:, : len(names)], confused, counts.sum(1))
    return figure


def _most_confused(counts: NDArray[np.integer], num_classes: int) -> list[int]:
    """The classes of the largest mistakes, in class order; none where there is no mistake."""
    mistakes = np.array(counts[:, :num_classes])
    np.fill_diagonal(mistakes, 0)
    found: list[int] = []
    for place in np.argsort(-mistakes, axis=None, kind="stable"):
        true, given = divmod(int(place), num_classes)
        if not mistakes[true, given] or len(found) >= CONFUSED:
            break
        found += [index for index in (true, given) if index not in found]
    return sorted(found[:CONFUSED])


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
        axes.set_title(f"best and worst; {left_out} between are not drawn", fontsize="small")


def _draw_confusion(
    axes: Axes, names: Sequence[str], counts: NDArray[np.integer], chosen: Sequence[int], totals: NDArray[np.integer]
) -> None:
    shares = counts[np.ix_(chosen, chosen)] / np.maximum(totals[list(chosen)], 1)[:, None]
    axes.imshow(shares, cmap=COLORMAPS[0], vmin=0, vmax=1)
    places = range(len(names))
    axes.set_yticks(places, [plain_name(name) for name in names], parse_math=False)
    axes.set_xticks(places, [plain_name(name) for name in names], rotation=90, parse_math=False)
    axes.set_ylabel("true")
    axes.set_xlabel("predicted")
    axes.set_title("% of a class's pixels, largest mistakes", fontsize="small")
    for (row, column), value in np.ndenumerate(shares):
        if value >= 0.005:
            ink = "white" if value < 0.6 else "black"
            axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", color=ink, fontsize="x-small")
