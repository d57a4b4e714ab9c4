"""Processes on this machine: what they do, what becomes of tasks whose process dies, and that none is left."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from functools import partial
from pathlib import Path

import batch_workers
import pytest
from batch_workers import is_running, wait_for

from fgseg.errors import BatchError, OptionError
from fgseg.store.engines import local
from fgseg.store.engines.local import Done, Retried, Told, WorkerDied, run_tasks


def events_of(folder, tasks, *, workers=1, tries=2):
    return list(run_tasks(partial(batch_workers.Doubling, folder), tasks, workers=workers, tries=tries))


@pytest.fixture(autouse=True)
def _no_process_is_left():
    yield
    assert multiprocessing.active_children() == []


def test_tasks_are_done_in_processes_that_come_back_after_a_death(tmp_path, caplog):
    tasks = [1, "dies once", 2, "dies", "warns", 3]
    events = events_of(tmp_path, tasks, workers=2)
    results = {event.task: event.value for event in events if isinstance(event, Done)}
    assert results == {1: 2, 2: 4, 3: 6, "dies once": "dies once" * 2, "warns": "warnswarns"}
    assert [event for event in events if isinstance(event, WorkerDied)] == [WorkerDied("dies", -signal.SIGKILL)]
    assert Counter(event.task for event in events if isinstance(event, Retried)) == {"dies once": 1, "dies": 1}
    told = Counter(event.task for event in events if isinstance(event, Told))
    assert told == {1: 1, 2: 1, 3: 1, "dies once": 2, "warns": 1}
    begun = Counter(line.rpartition(" ")[0] for line in (tmp_path / "begun").read_text().splitlines())
    assert begun == {"1": 1, "2": 1, "3": 1, "dies once": 2, "dies": 2, "warns": 1}
    assert "from a process" in caplog.messages
    pids = {line.rpartition(" ")[2] for line in (tmp_path / "begun").read_text().splitlines()}
    assert str(os.getpid()) not in pids


def test_no_task_starts_no_process(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "_Worker", None)
    assert events_of(tmp_path, []) == []


@pytest.mark.parametrize(
    ("task", "error", "message"),
    [
        ("refuses", OptionError, "task: expected a number, got a word"),
        ("breaks", BatchError, "a worker failed: ZeroDivisionError: by 0"),
    ],
)
def test_an_error_in_a_process_ends_all_with_its_words_and_its_traceback(tmp_path, task, error, message):
    with pytest.raises(error) as raised:
        events_of(tmp_path, [task, "waits"], workers=2)
    assert str(raised.value) == message
    assert "batch_workers.py" in raised.value.__notes__[0]


def test_an_iterator_that_is_closed_ends_its_processes(tmp_path):
    with closing(run_tasks(partial(batch_workers.Doubling, tmp_path), [1, "waits"], workers=2, tries=1)) as events:
        assert isinstance(next(events), Told)
        started = time.monotonic()
    assert time.monotonic() - started < 30  # "waits" takes a minute


def test_processes_that_never_get_ready_end_the_run(monkeypatch):
    monkeypatch.setattr(local, "_MOST_FAILED_STARTS", 2)
    with pytest.raises(BatchError, match=r"workers: a process ended before it was ready \(killed by SIGKILL\)"):
        list(run_tasks(batch_workers.never_ready, [1], workers=1, tries=1))


def test_a_process_that_fails_to_start_says_why():
    with pytest.raises(OptionError, match="model: there is none"):
        list(run_tasks(batch_workers.refuses_to_start, [1], workers=1, tries=1))


def test_a_process_ends_when_its_parent_is_killed(tmp_path):
    script = (
        "from functools import partial\nimport batch_workers\nfrom fgseg.store.engines.local import run_tasks\n"
        "if __name__ == '__main__':\n"
        f"    list(run_tasks(partial(batch_workers.Doubling, {str(tmp_path)!r}), ['waits'], workers=1, tries=1))\n"
    )
    main = tmp_path / "main.py"
    main.write_text(script)
    tests = str(Path(__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([tests, str(Path(tests).parent)])}
    begun = tmp_path / "begun"
    with subprocess.Popen([sys.executable, str(main)], env=env) as parent:
        wait_for(begun.exists)
        wait_for(begun.read_text)
        parent.kill()
    pid = int(begun.read_text().split()[1])
    wait_for(lambda: not is_running(pid))


def test_how_a_process_ended_is_said_in_words():
    assert local.ended_by(-signal.SIGTERM) == "killed by SIGTERM"
    assert local.ended_by(-4000) == "exit status -4000"
