"""Draw the figures of the explanations: `python docs/figures.py` writes docs/figures/*.svg and absent.png.

The diagrams are vectors with text, so that they can be searched and enlarged. Draw them again after a change of what
they show.
"""

from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

__all__ = ["DRAWINGS", "main"]

FOLDER = Path(__file__).parent / "figures"
INK, BLUE, ORANGE, GREEN = "#222222", "#0072b2", "#d55e00", "#007a5a"  # told apart by all kinds of colour vision
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "fgseg", "font.family": "sans-serif", "font.size": 10}


def presence() -> Figure:
    """The curve of presence over the difference of the two scores."""
    figure, axes = _plot((6, 3))
    scale, difference = 54.52, np.linspace(-0.1, 0.1, 201)  # the temperature of the embedded model
    axes.plot(difference, 1 / (1 + np.exp(-scale * difference)), color=BLUE, linewidth=2)
    axes.axhline(0.5, color=INK, linewidth=0.8, linestyle=":")
    axes.annotate("a tie with the best rival", (0, 0.5), (0.02, 0.3), arrowprops={"arrowstyle": "->"})
    axes.set(xlabel="score of the word - best score of a rival", ylabel="presence", ylim=(0, 1), xlim=(-0.1, 0.1))
    return figure


def label_map() -> Figure:
    """Scores of three words along a line of patches, and the winner at each place."""
    figure, axes = _plot((6, 3))
    centres = np.arange(5)
    rows = {
        "red": [0.30, 0.32, 0.18, 0.12, 0.10],
        "white": [0.12, 0.2, 0.33, 0.30, 0.2],
        "blue": [0.05, 0.1, 0.12, 0.2, 0.31],
    }
    places = np.linspace(0, 4, 401)
    lines = np.stack([np.interp(places, centres, row) for row in rows.values()])
    for (name, row), color, line in zip(rows.items(), (ORANGE, INK, BLUE), lines, strict=True):
        axes.plot(centres, row, "o-", color=color, label=name)
        won = lines.argmax(0) == list(rows).index(name)
        axes.fill_between(places, 0, 0.03, where=won.tolist(), color=color, linewidth=0)
        del line
    axes.set(
        xlabel="patch centres; below: the word that wins each place", ylabel="score", ylim=(0, 0.4), xticks=centres
    )
    axes.legend(frameon=False, ncols=3, loc="upper center")
    return figure


def recipes() -> Figure:
    """How much one patch in the middle of a 7 x 7 grid takes from each of the others, for six recipes."""
    figure = Figure((6, 4.3), layout="constrained")
    rng = np.random.RandomState(731)
    distance = np.hypot(*(np.mgrid[:7, :7] - 3))
    alike = np.where(np.add.outer(np.arange(7), np.arange(7)) < 7, 1.0, 0.15)  # one of two things in the picture
    noise = rng.uniform(0.7, 1.3, (7, 7))
    shown = {
        "value": (distance == 0).astype(float),
        "vanilla": rng.uniform(0.2, 1, (7, 7)),
        "sclip": alike * noise,
        "naclip": alike * noise * np.exp(-(distance**2) / 8),
        "kk": alike * rng.uniform(0.7, 1.3, (7, 7)),
        "clearclip": alike * rng.uniform(0.7, 1.3, (7, 7)),
    }
    for axes, (name, weights) in zip(figure.subplots(2, 3).flat, shown.items(), strict=True):
        axes.imshow(weights, cmap="Blues", vmin=0)
        axes.plot(3, 3, "+", color=ORANGE, markersize=12)
        axes.set(title=name, xticks=[], yticks=[])
    figure.suptitle("where a patch (+) takes its features from (a sketch)", fontsize=10)
    return figure


def routes() -> Figure:
    """The three routes of texts."""
    figure, axes = _diagram((6.4, 3))
    for y, text, route, goal, color in (
        (2.4, "a word or phrase", "region", "patches and boxes", BLUE),
        (1.4, "a short caption", "short", "whole image", GREEN),
        (0.4, "a long caption", "long", "whole image", ORANGE),
    ):
        _box(axes, (0.0, y), text, INK, 1.7)
        _arrow(axes, (1.75, y), (2.2, 1.4))
        _arrow(axes, (3.45, 1.4), (3.9, y))
        _box(axes, (3.95, y), route, color, 0.9)
        _arrow(axes, (4.9, y), (5.3, y))
        _box(axes, (5.35, y), goal, INK, 1.75)
    _box(axes, (2.25, 1.4), "text tower", INK, 1.15)
    axes.set(xlim=(-0.1, 7.2), ylim=(0, 2.8))
    return figure


def stages() -> Figure:
    """What the two stages of training compare."""
    figure, axes = _diagram((6.4, 3.2))
    axes.text(0, 3.2, "stage 1", color=BLUE, weight="bold")
    axes.text(0, 1.55, "stage 2 adds", color=ORANGE, weight="bold")
    for y, left, right, color in (
        (2.75, "whole image", "short captions of the batch", BLUE),
        (2.1, "whole image", "long captions of the batch", BLUE),
        (1.1, "box, dense features", "phrases of all boxes (weight 0.1)", ORANGE),
        (0.4, "box, dense features", "1 true and 10 false phrases (weight 0.5)", ORANGE),
    ):
        _box(axes, (0, y), left, color, 2.1)
        axes.annotate("", (2.9, y), (2.15, y), arrowprops={"arrowstyle": "<->", "color": INK})
        _box(axes, (2.95, y), right, color, 4.1)
    axes.set(xlim=(-0.1, 7.2), ylim=(0, 3.5))
    return figure


def gpus() -> Figure:
    """The workers of a batch run."""
    figure, axes = _diagram((6.4, 2.6))
    _box(axes, (0, 1.2), "images", INK, 1.1)
    for y, device in ((2.2, "cuda:0"), (1.2, "cuda:1"), (0.2, "cuda:2")):
        _arrow(axes, (1.2, 1.2), (1.9, y))
        _box(axes, (1.95, y), f"worker with the model on {device}", BLUE, 3.0)
        _arrow(axes, (5.05, y), (5.7, 1.2))
    _box(axes, (5.75, 1.2), "one store", GREEN, 1.2)
    axes.set(xlim=(-0.1, 7.2), ylim=(-0.2, 2.6))
    return figure


def models() -> Figure:
    """Where the files of a model come from."""
    figure, axes = _diagram((6.4, 2.2))
    for x, text, width, color in (
        (0, "a folder?", 1.3, BLUE),
        (2.0, "in the cache?", 1.5, BLUE),
        (4.2, "the hub, unless offline", 2.4, ORANGE),
    ):
        _box(axes, (x, 1.6), text, color, width)
        _arrow(axes, (x + width / 2, 1.35), (x + width / 2, 0.7))
    _arrow(axes, (1.4, 1.6), (1.9, 1.6))
    _arrow(axes, (3.6, 1.6), (4.1, 1.6))
    _box(axes, (0, 0.4), "safetensors, compared with their SHA-256", GREEN, 6.6)
    axes.set(xlim=(-0.1, 7.2), ylim=(0, 2.1))
    return figure


def absent() -> Figure:
    """Cosines, stretched as they often are, and presences, of a colour that is there and a shape that is not."""
    from skimage import data

    import fgseg

    seg, photograph = fgseg.load("mini", dtype="float32"), data.coffee()
    words = ["red", "star"]
    cosines = seg.similarity(photograph, words, resolution="keep")
    maps = seg.heatmaps(photograph, words)
    figure = Figure((8, 4.1), layout="constrained")
    for row, word in zip(figure.subplots(2, 3), words, strict=True):
        for axes, picture, title in zip(
            row,
            (photograph, cosines[words.index(word)], maps[word]),
            (f'"{word}"', "cosine, stretched to its own range", "presence, 0 to 1"),
            strict=True,
        ):
            whole = {"vmin": 0, "vmax": 1} if title.startswith("presence") else {}
            axes.imshow(picture, cmap="viridis", **whole)
            axes.set(title=title, xticks=[], yticks=[])
    return figure


DRAWINGS: dict[str, Callable[[], Figure]] = {
    "presence.svg": presence,
    "label_map.svg": label_map,
    "recipes.svg": recipes,
    "routes.svg": routes,
    "stages.svg": stages,
    "gpus.svg": gpus,
    "models.svg": models,
    "absent.png": absent,
}
"""File -> the function that draws it."""


def _plot(inches: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(inches, layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _diagram(inches: tuple[float, float]) -> tuple[Figure, Axes]:
    figure, axes = _plot(inches)
    axes.set_axis_off()
    return figure, axes


def _box(axes: Axes, left_middle: tuple[float, float], text: str, color: str, width: float) -> None:
    left, middle = left_middle
    shape = FancyBboxPatch(
        (left, middle - 0.2), width, 0.4, boxstyle="round,pad=0.04", edgecolor=color, facecolor="white"
    )
    axes.add_patch(shape)
    axes.text(left + width / 2, middle, text, ha="center", va="center", color=color, fontsize=9)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": INK})


def main() -> None:
    """Draw all figures."""
    FOLDER.mkdir(exist_ok=True)
    for name, draw in DRAWINGS.items():
        with mpl.rc_context(STYLE):
            metadata = {"Date": None} if name.endswith(".svg") else None
            draw().savefig(FOLDER / name, dpi=110, facecolor="white", metadata=metadata)
        print(name)


if __name__ == "__main__":
    main()
