"""What a training run is asked to do: the published recipe unless told otherwise."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from fgseg._checks import check_choice, check_number
from fgseg.errors import OptionError
from fgseg.training.initialise import TEMPERATURES, Temperatures

__all__ = ["DEFAULTS", "TrainingOptions", "learning_rate", "total_steps"]

DTYPES = ("auto", "float32", "bfloat16")
# What changes how a run is done and not what comes of it, up to rounding; a resumed run may have others.
_FREE = {
    "batch_size", "accumulate", "epochs", "device", "gradient_checkpointing", "checkpoint_every", "max_bad_share",
    "workers",
}  # fmt: skip


def _check_whole(name: str, value: int | None, *, low: int) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < low):
        raise OptionError(f"{name}: expected a whole number from {low}, got {value!r}")


@dataclass(frozen=True)
class TrainingOptions:
    """The options of a run; the defaults are the published recipe's (scripts/train.sh of 360CVGroup/FG-CLIP).

    Attributes:
        stage: 1 compares whole images with captions, 2 boxes with phrases as well.
        batch_size: images that a process computes at once.
        accumulate: such batches a step; the losses compare the images of all of them, at the cost of computing
            everything once more.
        epochs: times that every record is seen, where `steps` is None.
        steps: of the optimizer; None for as many as `epochs` take.
        learning_rate: peak rate of AdamW (betas 0.9 and 0.999).
        warmup: steps over which the rate rises to its peak; a cosine takes it to 0 from there.
        weight_decay: of everything but biases, LayerNorms and temperatures.
        max_norm: gradients of a larger norm are scaled down to it.
        dtype: what the towers compute in; weights stay float32. "auto" takes bfloat16 where it is fast.
        device: as `fgseg.load` takes it.
        seed: of the records' order, of the choice among captions, and of first values.
        from_scratch: take only the sizes and the tokenizer of the model, and draw first values.
        temperatures: of an FG-CLIP's regions, see `fgseg.training.initialise.start_model`.
        gradient_checkpointing: a third more work for a fraction of the memory.
        checkpoint_every: steps.
        max_bad_share: of the records; more of them stop the run.
        workers: processes that prepare records; 0 prepares them in between.

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
        check_choice("temperatures", self.temperatures, TEMPERATURES)
        if self.dtype == "float16":
            raise OptionError("dtype: float16 overflows in contrastive training; use bfloat16 or float32")
        check_choice("dtype", self.dtype, DTYPES)

    def binding(self) -> dict[str, Any]:
        """What a resumed run must have in common with the one it resumes."""
        return {name: value for name, value in asdict(self).items() if name not in _FREE}


DEFAULTS = TrainingOptions()


def total_steps(options: TrainingOptions, *, records: int, world: int) -> int:
    """Steps of a run.

    Args:
        options: of the run.
        records: good ones.
        world: processes.

    Raises:
        OptionError: fewer records than a step takes.

    Examples:
        >>> total_steps(TrainingOptions(batch_size=8, epochs=2), records=20, world=1)
        4
    """
    batch = options.batch_size * options.accumulate * world
    if records < batch:
        raise OptionError(
            f"batch_size: a step takes {batch} records ({options.batch_size} x {options.accumulate} accumulated x "
            f"{world} processes), and there are {records}; take a smaller batch_size"
        )
    return options.steps or options.epochs * (records // batch)


def learning_rate(step: int, *, steps: int, options: TrainingOptions) -> float:
    """The rate of a step: a linear rise over `warmup` steps, then a cosine down to 0.

    Args:
        step: from 0.
        steps: of the whole run.
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
