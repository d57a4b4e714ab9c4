"""Benchmarks on labelled images: tasks, the runner that resumes, and what a run writes.

    seg = fgseg.load("fg-clip-base")
    dataset = fgseg.datasets.opening.open_dataset("voc21", root="data")
    task = SegmentationTask(seg, dataset, settings_for(seg, dataset, preset_name="sclip"))
    outcome = run_task(task, Path("out/voc21"))
    write_run(outcome, Path("out/voc21"))

`fgseg bench` is this on the command line.
"""

from fgseg.benching.report import run_document, write_run
from fgseg.benching.runner import Outcome, Task, run_task
from fgseg.benching.segmentation import SegmentationTask
from fgseg.benching.settings import SegmentationSettings, settings_for
from fgseg.datasets.scenes import SCENE_SETS, open_scenes

__all__ = [
    "SCENE_SETS",
    "Outcome",
    "SegmentationSettings",
    "SegmentationTask",
    "Task",
    "open_scenes",
    "run_document",
    "run_task",
    "settings_for",
    "write_run",
]
