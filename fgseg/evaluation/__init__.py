"""Benchmarks on labelled images: tasks, a runner that can resume, and the files of a run.

    seg = fgseg.load("fg-clip-base")
    dataset = fgseg.datasets.open_dataset("voc21", root="data")
    task = SegmentationTask(seg, dataset, settings_for(seg, dataset, preset_name="sclip"))
    outcome = run_task(task, Path("out/voc21"))
    write_run(outcome, Path("out/voc21"))

`fgseg bench` does the same on the command line.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
