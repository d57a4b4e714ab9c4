"""Train the embedded model: `python -m recipes.mini --out FOLDER`."""

import argparse
import math
import os
from collections.abc import Sequence
from pathlib import Path

from fgseg.errors import FgsegError
from recipes.mini.batches import Schedule
from recipes.mini.recipe import train

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the embedded model from the command line."""
    parser = argparse.ArgumentParser(prog="python -m recipes.mini", description="Train the embedded model.")
    parser.add_argument("--out", type=Path, required=True, help="output folder; an interrupted run in it is resumed")
    parser.add_argument("--shifts", type=int, default=5000, help="steps with fixed shifts")
    parser.add_argument("--attention", type=int, default=0, help="further steps with the model's own attention")
    parser.add_argument("--batch-size", type=int, default=64, help="scenes per step of small pictures")
    parser.add_argument("--rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that draw scenes")
    parser.add_argument("--views", type=int, default=3, help="number of mirrored and moved views of each scene")
    parser.add_argument("--first-seed", type=int, default=0, help="seed of the first scene")
    parser.add_argument("--initial-model", type=Path, help="folder of a model whose weights the run begins with")
    parser.add_argument("--hours", type=float, default=math.inf, help="time limit of the run")
    options = vars(parser.parse_args(arguments))
    run = {name: options.pop(name) for name in ("out", "initial_model", "hours")}
    try:
        print(train(schedule=Schedule(**options), **run))
    except FgsegError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
