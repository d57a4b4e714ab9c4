"""A plot of a run's losses and learning rate."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

__all__ = ["LOSSES", "plot_losses", "running_mean"]

LOSSES = {
    "loss": ("total", "black"),
    "short": ("short captions", "#1f77b4"),
    "long": ("long captions", "#17becf"),
    "region": ("boxes", "#d62728"),
    "hard": ("hard negatives", "#ff7f0e"),
}
_WINDOWS = 40  # length of the run, in smoothing windows


def plot_losses(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Plot the rows of metrics.jsonl as a PNG.

    A pale line shows each loss, and a strong line its running mean over a fortieth of the run.

    Args:
        rows: at least one row with `step`, `learning_rate` and any of loss, short, long, region, hard.
    """
    figure = Figure(figsize=(9, 6), dpi=100, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    steps = [row["step"] for row in rows]
    for name, (label, color) in LOSSES.items():
        if name in rows[0]:
            values = np.array([row[name] for row in rows], np.float64)
            above.plot(steps, values, color=color, alpha=0.25, linewidth=1)
            above.plot(steps, running_mean(values, window=1 + len(rows) // _WINDOWS), color=color, label=label)
    above.set(ylabel="loss", ylim=(0, None))
    above.grid(alpha=0.3)
    above.legend(loc="upper right")
    below.plot(steps, [row["learning_rate"] for row in rows], color="grey")
    below.set(xlabel="step", ylabel="learning rate")
    below.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    below.xaxis.set_major_locator(MaxNLocator(integer=True))
    below.grid(alpha=0.3)
    picture = BytesIO()
    figure.savefig(picture, format="png")
    return picture.getvalue()


def running_mean(values: NDArray[np.float64], *, window: int) -> NDArray[np.float64]:
    """The mean of each value and up to `window` - 1 values before it.

    Examples:
        >>> running_mean(np.array([4.0, 2.0, 0.0]), window=2).tolist()
        [4.0, 3.0, 1.0]
    """
    counts = np.minimum(np.arange(1, len(values) + 1), window)
    return np.convolve(values, np.ones(window))[: len(values)] / counts
