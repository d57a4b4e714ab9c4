"""A training run in a separate process: `python -m tests.training_process MODEL OUT JSON`.

JSON holds training options, `resume`, and `kill_at`, a step after which the process kills itself.
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
    """Small scenes in memory, since drawing them takes most of the time of a tiny model's step."""

    def __init__(self, count):
        super().__init__(count, side=32)
        self.drawn = {}

    def sample(self, index):
        if index not in self.drawn:
            self.drawn[index] = super().sample(index)
        return self.drawn[index]


class SparseScenes(DrawnOnce):
    """Scenes, one in four with boxes, so that the numbers of boxes differ between processes and may be 0."""

    def sample(self, index):
        record, image = super().sample(index)
        return (record if index % 4 == 0 else replace(record, regions=())), image


def main(model, out, arguments):
    torch.set_num_threads(1)
    changes = json.loads(arguments)
    kill_at, resume = changes.pop("kill_at", None), changes.pop("resume", False)
    real = trainer._record

    def record(run, rows):
        real(run, rows)
        if rows[-1]["step"] == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    trainer._record = record
    options = replace(OPTIONS, **changes)
    try:
        trainer.train(model, SparseScenes(32), out, options=options, resume=resume, show_progress=False)
    finally:
        if left := [name for name in thread_names() if "gloo" in name]:
            sys.exit(f"threads that outlive the group of processes: {', '.join(left)}")


def thread_names():
    """Names of the threads of this process; none without /proc."""
    return [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]


if __name__ == "__main__":
    main(*sys.argv[1:])
