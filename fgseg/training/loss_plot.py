"""The picture of a run: its losses and its learning rate, step by step."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from fgseg.errors import OptionError

__all__ = ["loss_curve", "smoothed"]

_LOSSES = {
    "loss": ("total", "black"),
    "short": ("short captions", "#1f77b4"),
    "long": ("long captions", "#17becf"),
    "region": ("boxes", "#d62728"),
    "hard": ("hard negatives", "#ff7f0e"),
}
_WINDOWS = 40  # smoothing windows across the picture


def loss_curve(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw metrics.jsonl as a PNG.

    Every loss is drawn twice: pale as it was, and strong as a running mean over a fortieth of the run.

    Args:
        rows: of metrics.jsonl, at least one: `step`, `learning_rate` and any of loss, short, long, region, hard.

    Raises:
        OptionError: no rows.
    """
    if not rows:
        raise OptionError("rows: expected at least one step, got none; train first")
    figure = Figure(figsize=(9, 6), dpi=100, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    steps = [row["step"] for row in rows]
    for name, (label, color) in _LOSSES.items():
        if name in rows[0]:
            values = np.array([row[name] for row in rows], np.float64)
            above.plot(steps, values, color=color, alpha=0.25, linewidth=1)
            above.plot(steps, smoothed(values, window=1 + len(rows) // _WINDOWS), color=color, label=label)
    above.set_ylabel("loss")
    above.set_ylim(bottom=0)
    above.grid(alpha=0.3)
    above.legend(loc="upper right")
    below.plot(steps, [row["learning_rate"] for row in rows], color="grey")
    below.set_ylabel("learning rate")
    below.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    below.set_xlabel("step")
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    below.grid(alpha=0.3)
    picture = BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def smoothed(values: NDArray[np.float64], *, window: int) -> NDArray[np.float64]:
    """Running mean over the last `window` values, over fewer at the start.

    Examples:
        >>> smoothed(np.array([4.0, 2.0, 0.0]), window=2).tolist()
        [4.0, 3.0, 1.0]
    """
    total = np.concatenate([[0.0], np.cumsum(values)])
    end = np.arange(1, len(values) + 1)
    start = np.maximum(end - window, 0)
    mean: NDArray[np.float64] = (total[end] - total[start]) / (end - start)
    return mean
