"""The line on a terminal that says what is being done."""

import io
import os
import re
import subprocess
import sys
import time

import pytest

from fgseg.commands.terminal import status as status_module
from fgseg.commands.terminal.status import CLEAR_LINE, StatusLine


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self):
        return True


class Bar:
    """A progress bar that counts how often it is drawn."""

    drawn = 0

    def refresh(self):
        self.drawn += 1


@pytest.fixture
def status(monkeypatch):
    """A line that is drawn often and at once."""
    monkeypatch.setattr(status_module, "_PERIOD", 0.01)
    monkeypatch.setattr(status_module, "_QUICK", 0.0)
    line = StatusLine()
    yield line
    line.stop()


def as_terminal(monkeypatch):
    """Put a terminal in the place of stderr; not in a fixture, since pytest sets stderr again after them."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    return sys.stderr


def wait_for(happened):
    for _ in range(500):
        if happened():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen within five seconds")


def test_the_step_its_counts_and_its_time_are_drawn_and_cleared(status, monkeypatch):
    terminal = as_terminal(monkeypatch)
    status.start(quiet=False)
    wait_for(lambda: f"{CLEAR_LINE}fgseg: starting, 0 s" in terminal.getvalue())
    status("encoding texts", 3, 80)
    wait_for(lambda: f"{CLEAR_LINE}fgseg: encoding texts 3/80, 0 s" in terminal.getvalue())
    status.clear()
    assert terminal.getvalue().endswith(CLEAR_LINE)
    length = len(terminal.getvalue())
    time.sleep(0.05)
    assert len(terminal.getvalue()) == length


def test_a_step_that_is_done_gives_way_to_the_one_that_it_is_a_part_of(status, monkeypatch):
    terminal = as_terminal(monkeypatch)
    status.start(quiet=False)
    with status.during("loading x"):
        status("downloading y (MB)", 1, 48)
        wait_for(lambda: "downloading y (MB) 1/48" in terminal.getvalue())
        status("downloading y (MB)", 48, 48)
        wait_for(lambda: terminal.getvalue().rpartition(CLEAR_LINE)[2].startswith("fgseg: loading x, "))
    assert terminal.getvalue().endswith(CLEAR_LINE)
    status("encoding texts", 5, 10)
    wait_for(lambda: "encoding texts 5/10" in terminal.getvalue())
    status("encoding texts", 10, 10)
    assert terminal.getvalue().endswith(CLEAR_LINE)


def test_a_long_step_is_cut_to_the_width_of_the_terminal(status, monkeypatch):
    terminal = as_terminal(monkeypatch)
    monkeypatch.setenv("COLUMNS", "40")
    status.start(quiet=False)
    status("loading /" + 100 * "x", 3, 80)
    wait_for(lambda: "3/80, 0 s" in terminal.getvalue())
    status.clear()
    lines = terminal.getvalue().split(CLEAR_LINE)
    assert max(map(len, lines)) == 39


def test_quick_steps_are_not_drawn(status, monkeypatch):
    terminal = as_terminal(monkeypatch)
    monkeypatch.setattr(status_module, "_QUICK", 60.0)
    status.start(quiet=False)
    time.sleep(0.05)
    status.stop()
    assert terminal.getvalue() == ""


@pytest.mark.parametrize(("quiet", "stream"), [(True, Terminal), (False, io.StringIO)])
def test_nothing_is_drawn_with_quiet_or_into_a_file(status, monkeypatch, quiet, stream):
    monkeypatch.setattr(sys, "stderr", stream())
    status.start(quiet=quiet)
    with status.during("loading x"):
        time.sleep(0.05)
    assert sys.stderr.getvalue() == ""


def test_a_bar_is_drawn_again_in_place_of_the_line(status, monkeypatch):
    terminal = as_terminal(monkeypatch)
    status.start(quiet=False)
    outer, inner = Bar(), Bar()
    with status.refreshing(outer):
        with status.refreshing(inner):
            wait_for(lambda: inner.drawn > 2)
        assert outer.drawn <= 1
        before = len(terminal.getvalue())
        wait_for(lambda: outer.drawn > 2)
        assert len(terminal.getvalue()) == before


@pytest.mark.skipif(sys.platform == "win32", reason="a pseudo terminal")
def test_a_command_on_a_terminal_is_never_silent_and_leaves_only_its_table(tiny_model, photo, tmp_path):
    import pty

    terminal, inside = pty.openpty()
    code = (
        "import fgseg.commands.main as cli; from fgseg.commands.terminal import status; status._QUICK = 0; cli.main()"
    )
    command = [sys.executable, "-c", code, "segment", str(photo), "-p", "red", "--model", tiny_model]
    said = b""
    with subprocess.Popen([*command, "-o", str(tmp_path / "out")], stdout=inside, stderr=inside) as process:
        os.close(inside)
        while True:
            try:
                new = os.read(terminal, 4096)
            except OSError:  # Linux's end of a terminal
                break
            if not new:
                break
            said += new
    os.close(terminal)
    assert process.returncode == 0
    assert b"fgseg: starting, " in said
    shown = re.sub(rb"\r\x1b\[K(fgseg: [^\r]*)?", b"", said).decode().split("\r\n")
    assert shown[0].startswith("image ")
    assert len(shown) == 3
