"""Jobs of batch runs with slow and poisonous images, and an engine without processes."""

import os
import signal
import time
from pathlib import Path

from fgseg.store.engines.local import Done, Told
from fgseg.store.engines.worker import Job


class SlowJob(Job):
    """A job whose images take more than a second."""

    def segmenter(self):
        """The model, slowed down."""
        return Watched(super().segmenter(), lambda picture: time.sleep(1.5))


class PoisonJob(Job):
    """A job in which an image whose name has "poison" in it kills its process."""

    def segmenter(self):
        """The model, with a weakness."""
        return Watched(super().segmenter(), die_of_poison)


def die_of_poison(picture):
    """Kill this process if the picture is poisonous."""
    if "poison" in Path(picture.source).name:
        os.kill(os.getpid(), signal.SIGKILL)


class Watched:
    """A Segmenter that calls a function before each image."""

    def __init__(self, seg, before):
        """Wrap a Segmenter."""
        self._seg, self._before = seg, before
        self.encoder, self.defaults = seg.encoder, seg.defaults

    def segment(self, picture, *args, **options):
        """Call the function, then segment."""
        self._before(picture)
        return self._seg.segment(picture, *args, **options)


def in_this_process(make_work, tasks, *, workers, tries):
    """`run_tasks` without processes."""
    work = make_work(0) if tasks else None
    for task in tasks:
        told = []
        value = work(task, told.append)
        yield from (Told(task, entry) for entry in told)
        yield Done(task, value)
