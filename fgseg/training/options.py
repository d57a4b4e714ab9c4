"""The options of a training run. The defaults are those of the published training."""

import math
from dataclasses import asdict, dataclass
from typing import Any, get_args

from fgseg._checks import check_choice, check_number
from fgseg.errors import OptionError
from fgseg.training.initialise import Temperatures

__all__ = ["DEFAULTS", "TrainingOptions", "learning_rate", "total_steps"]

DTYPES = ("auto", "float32", "bfloat16")
# Options that do not change the result, except for rounding. A resumed run may change them.
_FREE = {
    "batch_size", "accumulate", "epochs", "device", "gradient_checkpointing", "checkpoint_every", "max_bad_share",
    "workers",
}  # fmt: skip


def _check_whole(name: str, value: int | None, *, low: int) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < low):
        raise OptionError(f"{name}: expected a whole number from {low}, got {value!r}")


@dataclass(frozen=True)
class TrainingOptions:
    """The options of a run. The defaults are the published ones (scripts/train.sh of 360CVGroup/FG-CLIP).

    Attributes:
        stage: 1 compares whole images with captions; 2 also compares boxes with phrases.
        batch_size: images per forward pass and process.
        accumulate: batches accumulated per optimiser step. The losses compare the images of all of them, which takes a
            second forward pass.
        epochs: passes over all records; not used if `steps` is given.
        steps: optimiser steps; None for those of `epochs`.
        learning_rate: peak learning rate of AdamW (betas 0.9 and 0.999).
        warmup: steps of linear warm-up; a cosine decay to 0 follows.
        weight_decay: applied to all weights but biases, LayerNorms and temperatures.
        max_norm: maximum norm of the gradient; larger gradients are scaled down. 0 disables clipping.
        dtype: precision of the forward pass: "auto", "float32" or "bfloat16"; "auto" is bfloat16 where that is fast.
            Weights stay float32.
        device: as `fgseg.load`.
        seed: of the order of records, the choice among captions, and random weights.
        from_scratch: keep only the sizes and the tokenizer of the model, and train from random weights.
        temperatures: of an FG-CLIP's boxes and hard negatives, as `fgseg.training.initialise.initial_model`.
        gradient_checkpointing: use a fraction of the memory for a third more computing time.
        checkpoint_every: steps between checkpoints.
        max_bad_share: maximum share of bad records, 0 to 1; a larger share stops the run.
        workers: processes that prepare records; 0 prepares them in the training process.

    Raises:
        OptionError: a value out of range.
    """

    stage: int = 2
    batch_size: int = 512
    accumulate: int = 1
    epochs: int = 1
    steps: int | None = None
    learning_rate: float = 1e-6
    warmup: int = 200
    weight_decay: float = 1e-3
    max_norm: float = 1.0
    dtype: str = "auto"
    device: str = "auto"
    seed: int = 0
    from_scratch: bool = False
    temperatures: Temperatures = "copy"
    gradient_checkpointing: bool = True
    checkpoint_every: int = 1000
    max_bad_share: float = 0.05
    workers: int = 2

    def __post_init__(self) -> None:
        if self.stage not in (1, 2):
            raise OptionError(f"stage: expected 1 or 2, got {self.stage!r}")
        for name in ("batch_size", "accumulate", "epochs", "checkpoint_every", "steps"):
            _check_whole(name, getattr(self, name), low=1)
        for name in ("warmup", "workers", "seed"):
            _check_whole(name, getattr(self, name), low=0)
        for name in ("learning_rate", "weight_decay", "max_norm"):
            check_number(name, getattr(self, name), low=0, high=float("inf"))
        check_number("max_bad_share", self.max_bad_share, low=0, high=1)
        check_choice("temperatures", self.temperatures, get_args(Temperatures))
        if self.dtype == "float16":
            raise OptionError("dtype: float16 overflows in contrastive training; use bfloat16 or float32")
        check_choice("dtype", self.dtype, DTYPES)

    def binding(self) -> dict[str, Any]:
        """The options that a resumed run must share with the run that it resumes."""
        return {name: value for name, value in asdict(self).items() if name not in _FREE}


DEFAULTS = TrainingOptions()


def total_steps(options: TrainingOptions, *, records: int, world_size: int) -> int:
    """Number of optimiser steps of a run.

    Args:
        options: of the run.
        records: number of good records.
        world_size: number of processes.

    Raises:
        OptionError: fewer records than one step needs.

    Examples:
        >>> total_steps(TrainingOptions(batch_size=8, epochs=2), records=20, world_size=1)
        4
    """
    batch = options.batch_size * options.accumulate * world_size
    if records < batch:
        raise OptionError(
            f"batch_size: a step needs {batch} records ({options.batch_size} x {options.accumulate} accumulated x "
            f"{world_size} processes), but there are {records}; use a smaller batch_size"
        )
    return options.steps or options.epochs * (records // batch)


def learning_rate(step: int, *, steps: int, options: TrainingOptions) -> float:
    """The learning rate of a step: linear warm-up, then a cosine decay to 0.

    Args:
        step: the step, from 0.
        steps: number of steps of the run.
        options: give the peak and the warm-up.

    Examples:
        >>> options = TrainingOptions(learning_rate=1.0, warmup=2)
        >>> [round(learning_rate(step, steps=6, options=options), 3) for step in range(6)]
        [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
    """
    if step < options.warmup:
        return options.learning_rate * (step + 1) / options.warmup
    done = (step - options.warmup) / max(1, steps - options.warmup)
    return options.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
