"""Work for processes of `fgseg.store.engines.local`, which find it by importing this module; it imports no torch."""

import logging
import os
import signal
import time
from pathlib import Path

from fgseg.errors import OptionError


class Doubling:
    """Doubles numbers. Some tasks do something else, once or always."""

    def __init__(self, folder, place):
        """Remember where to note what was begun."""
        self.folder, self.place = Path(folder), place

    def __call__(self, task, tell):
        """Do a task, a number or one of the words below."""
        with (self.folder / "begun").open("a") as file:
            file.write(f"{task} {os.getpid()}\n")
        if task == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if task == "dies once" and self._is_first(task):
            tell("half")
            os.kill(os.getpid(), signal.SIGKILL)
        if task == "waits":
            time.sleep(60)
        if task == "refuses":
            raise OptionError("task: expected a number, got a word")
        if task == "breaks":
            raise ZeroDivisionError("by 0")
        if task == "warns":
            logging.getLogger("fgseg").warning("from %s", "a process")
        tell("half")
        return task * 2

    def _is_first(self, task):
        mark = self.folder / task.replace(" ", "_")
        if mark.exists():
            return False
        mark.touch()
        return True


def never_ready(place):
    """Die while getting ready."""
    os.kill(os.getpid(), signal.SIGKILL)


def refuses_to_start(place):
    """Fail while getting ready."""
    raise OptionError("model: there is none")


def wait_for(happens, seconds=60):
    """Wait until something happens."""
    until = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < until
        time.sleep(0.05)


def is_running(pid):
    """Whether there is a process of this number, other than a dead one that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
