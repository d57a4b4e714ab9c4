"""A training run in a process of its own: `python -m tests.training_process MODEL OUT JSON`.

JSON holds the options and what is to happen: `kill_at`, a step after which the process kills itself.
"""

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch

from fgseg.training import trainer
from fgseg.training.options import TrainingOptions
from fgseg.training.scene_records import SceneRecords

__all__ = ["OPTIONS", "DrawnOnce", "SparseScenes"]

OPTIONS = TrainingOptions(
    batch_size=4, learning_rate=1e-3, warmup=5, dtype="float32", device="cpu", workers=0, gradient_checkpointing=False
)


class DrawnOnce(SceneRecords):
    """Small scenes that are kept: most of a tiny model's step is drawing them."""

    def __init__(self, count):
        super().__init__(count, side=32)
        self.drawn = {}

    def sample(self, index):
        if index not in self.drawn:
            self.drawn[index] = super().sample(index)
        return self.drawn[index]


class SparseScenes(DrawnOnce):
    """One in four has boxes, so that processes have different numbers of them, and none at times."""

    def sample(self, index):
        record, image = super().sample(index)
        return (record if index % 4 == 0 else replace(record, regions=())), image


def main(model, out, wanted):
    torch.set_num_threads(1)
    told = json.loads(wanted)
    kill_at, resume = told.pop("kill_at", None), told.pop("resume", False)
    real = trainer._record

    def record(run, rows):
        real(run, rows)
        if rows[-1]["step"] == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    trainer._record = record
    options = replace(OPTIONS, **told)
    try:
        trainer.train(model, SparseScenes(32), out, options=options, resume=resume, show_progress=False)
    finally:
        if left := [name for name in thread_names() if "gloo" in name]:
            sys.exit(f"threads that outlive the group of processes: {', '.join(left)}")


def thread_names():
    """Of this process; none where there is no /proc."""
    return [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]


if __name__ == "__main__":
    main(*sys.argv[1:])
